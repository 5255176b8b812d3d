//! Owns the tests of backups with real processes: under load, scheduled, and killed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use chronik::backup::{
    create, find, list, restore, upload, verify, Kind, Known, Origin, Selection, Sent, State, Target,
};
use chronik::backup::{Unwatched, Wanted};
use chronik::options::exit;
use chronik::store::{LocalStore, ObjectStore};
use chronik::sys::clock::Clock;
use chronik::wal::settings::Entropy;
use chronik::wal::{frozen, marker};
use chronik::wire::batch::{batches, records, BatchBuilder};
use chronik::wire::msg::*;
use chronik::wire::{self, frame, ErrorCode, RecordSet, Request};

use crate::net::process::{Server, TempDir};

/// A connection that waits for each answer.
struct Client {
    stream: TcpStream,
    next: i32,
}

impl Client {
    fn of(server: &Server) -> Client {
        Client { stream: server.connect(), next: 0 }
    }

    fn call<'a, M: Request<'a>>(&mut self, version: i16, message: &M) -> std::io::Result<Bytes> {
        self.next += 1;
        let encoded = frame::request(version, self.next, Some("test"), message);
        self.stream.write_all(&encoded.bytes)?;
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let mut body = vec![0; u32::from_be_bytes(len) as usize];
        self.stream.read_exact(&mut body)?;
        let whole = Bytes::from(body);
        let (_, body) = frame::parse_response(M::API, version, &whole).expect("a response");
        Ok(whole.slice_ref(body))
    }

    fn make_topic(&mut self, name: &str) {
        let topic = CreatableTopic { name, num_partitions: 1, replication_factor: 1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5000, ..Default::default() };
        let body = self.call(5, &request).unwrap();
        let response: CreateTopicsResponse<'_> = wire::decode(&body, 5).unwrap();
        assert_eq!(response.topics[0].error_code, ErrorCode::NONE);
    }

    /// Values that readers of committed records see.
    fn read(&mut self, topic: &str) -> Vec<i64> {
        let (mut values, mut offset) = (Vec::new(), 0);
        loop {
            let partitions = vec![FetchPartition {
                partition: 0,
                fetch_offset: offset,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }];
            let topics = vec![FetchTopic { topic, partitions, ..Default::default() }];
            let request = FetchRequest { max_bytes: 1 << 20, isolation_level: 1, topics, ..Default::default() };
            let body = self.call(11, &request).unwrap();
            let response: FetchResponse<'_> = wire::decode(&body, 11).unwrap();
            let answer = &response.responses[0].partitions[0];
            assert_eq!(answer.error_code, ErrorCode::NONE);
            let aborted: Vec<(i64, i64)> =
                answer.aborted_transactions.iter().flatten().map(|a| (a.producer_id, a.first_offset)).collect();
            assert!(aborted.is_empty(), "nothing was aborted");
            let RecordSet::Bytes(bytes) = answer.records else { return values };
            let before = offset;
            for batch in batches(bytes) {
                let batch = batch.unwrap();
                offset = batch.header.last_offset() + 1;
                if batch.header.is_control() {
                    continue;
                }
                let mut scratch = Vec::new();
                for record in records(&batch, &mut scratch, 1 << 20).unwrap() {
                    let value: [u8; 8] = record.unwrap().value.unwrap().try_into().unwrap();
                    values.push(i64::from_be_bytes(value));
                }
            }
            if offset == before {
                return values;
            }
        }
    }

    fn committed(&mut self, group: &str, topic: &str) -> i64 {
        let topics = vec![OffsetFetchRequestTopic { name: topic, partition_indexes: vec![0] }];
        let request = OffsetFetchRequest { group_id: group, topics: Some(topics), ..Default::default() };
        let body = self.call(7, &request).unwrap();
        let response: OffsetFetchResponse<'_> = wire::decode(&body, 7).unwrap();
        response.topics[0].partitions[0].committed_offset
    }
}

/// One transaction after the other, each with a record of the same number in two topics and a group's offset of that number.
struct Load {
    client: Client,
    producer_id: i64,
    epoch: i16,
    sequence: i32,
}

impl Load {
    fn new(server: &Server) -> Load {
        let mut client = Client::of(server);
        client.make_topic("left");
        client.make_topic("right");
        let request = InitProducerIdRequest {
            transactional_id: Some("pairs"),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let body = client.call(4, &request).unwrap();
        let response: InitProducerIdResponse = wire::decode(&body, 4).unwrap();
        assert_eq!(response.error_code, ErrorCode::NONE);
        Load { client, producer_id: response.producer_id, epoch: response.producer_epoch, sequence: 0 }
    }

    /// An error when the server is gone.
    fn transaction(&mut self, number: i64) -> std::io::Result<()> {
        let topics = ["left", "right"].map(|name| AddPartitionsToTxnTopic { name, partitions: vec![0] }).to_vec();
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "pairs",
            v3_and_below_producer_id: self.producer_id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        self.client.call(3, &request)?;
        for topic in ["left", "right"] {
            let mut builder = BatchBuilder::new().producer(self.producer_id, self.epoch, self.sequence).transactional();
            builder.push(1_700_000_000_000, None, Some(&number.to_be_bytes()), &[]);
            let batch = builder.build().unwrap();
            let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(&batch) };
            let request = ProduceRequest {
                transactional_id: Some("pairs"),
                acks: -1,
                timeout_ms: 5000,
                topic_data: vec![TopicProduceData { name: topic, partition_data: vec![data], ..Default::default() }],
            };
            let body = self.client.call(9, &request)?;
            let response: ProduceResponse<'_> = wire::decode(&body, 9).unwrap();
            assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
        }
        self.sequence += 1;
        self.commit_offset(number)?;
        let request = EndTxnRequest {
            transactional_id: "pairs",
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed: true,
        };
        let body = self.client.call(3, &request)?;
        let response: EndTxnResponse = wire::decode(&body, 3).unwrap();
        assert_eq!(response.error_code, ErrorCode::NONE);
        Ok(())
    }

    fn commit_offset(&mut self, number: i64) -> std::io::Result<()> {
        let request = AddOffsetsToTxnRequest {
            transactional_id: "pairs",
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            group_id: "readers",
        };
        self.client.call(3, &request)?;
        let partitions = vec![TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: number,
            committed_leader_epoch: -1,
            committed_metadata: Some(""),
        }];
        let request = TxnOffsetCommitRequest {
            transactional_id: "pairs",
            group_id: "readers",
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            generation_id_or_member_epoch: -1,
            topics: vec![TxnOffsetCommitRequestTopic { name: "left", partitions, ..Default::default() }],
            ..Default::default()
        };
        self.client.call(3, &request).map(drop)
    }
}

fn local(root: &Path) -> Arc<dyn ObjectStore> {
    Arc::new(LocalStore::open(root))
}

fn restored(store: &Arc<dyn ObjectStore>, wanted: &Wanted, into: &Path) {
    let manifest = find(&**store, wanted).unwrap();
    let target = Target::open(into).unwrap();
    restore(&target, store, &manifest, &Selection::default(), Clock::start().wall_ms(), &Unwatched).unwrap();
}

#[test]
fn a_backup_under_load_holds_whole_transactions_and_everything_acknowledged() {
    let (dir, away) = (TempDir::new("backup-load"), TempDir::new("backup-load-store"));
    let server = Server::start(&dir.0, &[]);
    let mut load = Load::new(&server);
    let acknowledged = Arc::new(AtomicI64::new(-1));
    let (told, is_over) = (Arc::clone(&acknowledged), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&is_over);
    let thread = std::thread::spawn(move || {
        for number in 0.. {
            if over.load(Ordering::Relaxed) || load.transaction(number).is_err() {
                return;
            }
            told.store(number, Ordering::SeqCst);
        }
    });
    let store = local(&away.0);
    let mut made = Vec::new();
    for _ in 0..4 {
        let before = acknowledged.load(Ordering::SeqCst);
        // Something happens in every backup's time.
        while acknowledged.load(Ordering::SeqCst) < before + 20 {
            std::thread::yield_now();
        }
        let before = acknowledged.load(Ordering::SeqCst);
        let origin = Origin::open(&dir.0).unwrap();
        let now_ms = Clock::start().wall_ms();
        let created = create(&origin, &*store, now_ms, &mut Entropy::System, &Unwatched).unwrap();
        made.push((before, created.manifest.backup));
    }
    drop(server);
    is_over.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    for (before, backup) in made {
        let wanted = Wanted { backup: Some(backup.clone()), ..Wanted::default() };
        let manifest = find(&*store, &wanted).unwrap();
        assert!(verify(&store, &manifest, Clock::start().wall_ms(), &Unwatched).unwrap().is_sound());
        let copy = TempDir::new("backup-load-copy");
        restored(&store, &wanted, &copy.0);
        let server = Server::start(&copy.0, &[]);
        let mut client = Client::of(&server);
        let (left, right) = (client.read("left"), client.read("right"));
        let expected: Vec<i64> = (0..left.len() as i64).collect();
        assert_eq!((&left, &right), (&expected, &expected), "{backup}");
        assert_eq!(client.committed("readers", "left"), left.len() as i64 - 1, "{backup}");
        assert!(left.len() as i64 > before, "{backup}: {before} was acknowledged, and {} are there", left.len());
        let (status, _) = server.stop();
        assert!(status.success());
    }
}

#[test]
fn a_server_backs_itself_up_and_keeps_as_many_as_it_should() {
    let (dir, away, copy) =
        (TempDir::new("backup-own"), TempDir::new("backup-own-store"), TempDir::new("backup-own-copy"));
    let url = format!("file://{}", away.0.display());
    let args = ["--enable-backup", "--backup-url", &url, "--backup-interval", "1s", "--backup-keep", "1"];
    let server = Server::start(&dir.0, &args);
    assert!(server.line("backups go to").contains(&url));
    let first = server.line(" made in ");
    assert!(first.contains("backup 20") && first.contains("bytes"), "{first}");
    Client::of(&server).make_topic("orders");
    server.line("1 old backups deleted");
    let metrics = scrape(&server);
    for name in ["chronik_backups_total", "chronik_backup_last_success_timestamp_seconds", "chronik_backup_last_bytes"]
    {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        assert!(value.is_some_and(|value| value != "0"), "{name}: {value:?}");
    }
    server.line("1 topics");
    let (status, lines) = server.stop();
    assert!(status.success(), "{lines:#?}");
    let store = local(&away.0);
    let all = list(&*store).unwrap();
    assert!(all.iter().any(|found| found.state == State::Complete), "{all:?}");
    assert!(all.len() <= 2, "{all:?}");
    restored(&store, &Wanted::default(), &copy.0);
    let server = Server::start(&copy.0, &[]);
    assert!(Client::of(&server).read("orders").is_empty());
}

fn scrape(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.address("metrics on")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_store_that_is_not_there_costs_lines_and_nothing_else() {
    let (dir, away) = (TempDir::new("backup-nowhere"), TempDir::new("backup-nowhere-store"));
    // A file where the store's folder should be.
    fs::write(&away.0, b"in the way").unwrap();
    let url = format!("file://{}/store", away.0.display());
    let server = Server::start(&dir.0, &["--enable-backup", "--backup-url", &url]);
    let line = server.line("no backup was made");
    assert!(line.contains("The next try is in 60 s"), "{line}");
    Client::of(&server).make_topic("orders");
    let (status, _) = server.stop();
    assert!(status.success());
    fs::remove_file(&away.0).unwrap();
}

#[test]
fn a_half_restored_directory_does_not_start_and_what_a_kill_left_is_cleared() {
    let dir = TempDir::new("backup-half");
    let server = Server::start(&dir.0, &[]);
    Client::of(&server).make_topic("orders");
    assert!(server.stop().0.success());
    let leftover = dir.0.join(frozen::DIR).join("wal-00000000000000000001.log");
    fs::create_dir_all(leftover.parent().unwrap()).unwrap();
    fs::write(&leftover, b"left").unwrap();
    fs::write(dir.0.join(marker::RESTORING), b"backup x\n").unwrap();
    let mut server = Server::spawn(&dir.0, &[]);
    let lines = server.lines_to_the_end();
    assert_eq!(server.child.wait().unwrap().code(), Some(i32::from(exit::DATA)));
    assert!(lines.iter().any(|line| line.contains("a restore into it was interrupted")), "{lines:#?}");
    fs::remove_file(dir.0.join(marker::RESTORING)).unwrap();
    let server = Server::start(&dir.0, &[]);
    assert!(!leftover.exists());
    assert!(server.stop().0.success());
}

#[test]
fn a_folder_with_something_in_it_is_refused_and_left_alone() {
    let (dir, away, target) =
        (TempDir::new("backup-full"), TempDir::new("backup-full-store"), TempDir::new("backup-full-to"));
    assert!(Server::start(&dir.0, &[]).stop().0.success());
    let store = local(&away.0);
    let origin = Origin::open(&dir.0).unwrap();
    create(&origin, &*store, Clock::start().wall_ms(), &mut Entropy::System, &Unwatched).unwrap();
    // While it is held nobody else copies the directory.
    assert_eq!(Origin::open(&dir.0).unwrap_err().kind, Kind::Busy);
    drop(origin);
    fs::create_dir_all(&target.0).unwrap();
    let precious: PathBuf = target.0.join("precious");
    fs::write(&precious, b"mine").unwrap();
    let error = Target::open(&target.0).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.sentence.contains("precious"), "{error}");
    assert_eq!(fs::read(&precious).unwrap(), b"mine");
    assert_eq!(Origin::open(&target.0).unwrap_err().kind, Kind::Refused);
}

/// Backups of several directories in the place of one server's segments kept a restore from going on, and there was no way to
/// say which one is meant.
#[test]
fn where_several_directories_lie_the_one_that_is_named_is_restored() {
    let (one, two) = (TempDir::new("restore-one"), TempDir::new("restore-two"));
    let (away, target) = (TempDir::new("restore-several"), TempDir::new("restore-to"));
    let (tier, backups) = (local(&away.0.join("tier")), local(&away.0));
    let mut directories = Vec::new();
    for (dir, topic) in [(&one, "of-one"), (&two, "of-two")] {
        let server = Server::start(&dir.0, &[]);
        Client::of(&server).make_topic(topic);
        assert!(server.stop().0.success());
        let origin = Origin::open(&dir.0).unwrap();
        let now_ms = Clock::start().wall_ms();
        let created = create(&origin, &*backups, now_ms, &mut Entropy::System, &Unwatched).unwrap();
        directories.push(created.manifest.directory());
    }
    let send = |dir: &TempDir| {
        let (origin, now_ms) = (Origin::open(&dir.0).unwrap(), Clock::start().wall_ms());
        fs::create_dir_all(away.0.join("tier")).unwrap();
        let known = Known { previous: None, sent: &mut Sent::default(), guard: &mut || Ok(()) };
        upload(&origin, &*tier, now_ms, &mut Entropy::System, &Unwatched, known).unwrap();
    };
    let url = format!("file://{}", away.0.display());
    let args = |directory: &str| {
        let mut args = vec!["--local-storage-path".to_owned(), away.0.display().to_string()];
        args.extend(["--restore-from".to_owned(), url.clone()]);
        if !directory.is_empty() {
            args.extend(["--restore-directory".to_owned(), directory.to_owned()]);
        }
        args
    };
    let start = |directory: &str| {
        let _ = fs::remove_dir_all(&target.0);
        let args = args(directory);
        Server::spawn(&target.0, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let refused = |directory: &str| {
        let mut server = start(directory);
        let lines = server.lines_to_the_end();
        assert_eq!(server.child.wait().unwrap().code(), Some(i32::from(exit::DATA)), "{lines:#?}");
        lines.into_iter().find(|line| line.contains("cannot restore")).expect("a reason")
    };
    // Only backups: nobody knows which.
    let why = refused("");
    assert!(why.contains(&directories[0]) && why.contains(&directories[1]), "{why}");
    assert!(why.contains("--restore-directory"), "{why}");
    // One server's segments: it is that one.
    send(&one);
    let server = start("");
    let said = server.line("the log is restored up to");
    assert!(said.contains("the time of the last upload") && said.contains("without --upload-interval"), "{said}");
    server.line("ready after");
    assert!(Client::of(&server).read("of-one").is_empty());
    drop(server);
    send(&two);
    let why = refused("");
    assert!(why.contains(&directories[0]) && why.contains(&directories[1]), "{why}");
    let server = start(&directories[1][..8]);
    server.line("ready after");
    assert!(Client::of(&server).read("of-two").is_empty());
    drop(server);
    let why = refused("0000000");
    assert!(why.contains("0000000") && why.contains(&directories[0]), "{why}");
}

#[test]
fn the_cache_of_objects_goes_when_there_is_no_store_any_more() {
    let (dir, away) = (TempDir::new("cache-left"), TempDir::new("cache-left-store"));
    let cache = dir.0.join("cache");
    let server = Server::start(&dir.0, &["--local-storage-path", &away.0.display().to_string()]);
    assert!(server.stop().0.success());
    assert!(cache.is_dir());
    fs::write(cache.join("0000000000000001.slab"), b"left").unwrap();
    assert!(Server::start(&dir.0, &[]).stop().0.success());
    assert!(!cache.exists());
}
