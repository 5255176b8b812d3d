//! Owns the measurement of a start over much that is sealed: until every ListOffsets is right and an old fetch is served.
//!
//! The log is real, written by the log's own writer, with footers and a checkpoint; only the values of its records are zeros, which
//! take no room on the disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use chronik::broker::recovery::Recovering;
use chronik::broker::Now;
use chronik::cli::client::Conn;
use chronik::sys::disk::Disk;
use chronik::wal::recovery::{recover, Recovered};
use chronik::wal::settings::{FsyncMode, LogOptions};
use chronik::wal::{checkpoint, Group, MetaEntry, PartitionId, PlannedBatch, PlannedRun};
use chronik::wire::batch::{self, BatchBuilder};
use chronik::wire::msg::*;
use chronik::wire::RecordSet;

use crate::sparse::SparseDisk;
use crate::{number, settings, Server, TOPIC};

const NAME: &str = "old";
/// Runs in one group.
const GROUP_RUNS: usize = 4;
/// Partitions in one ListOffsets request.
const ASKED_AT_ONCE: usize = 1000;

fn now_ms() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_millis() as i64
}

fn one_record(time: i64, value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new().leader_epoch(0);
    builder.push(time, None, Some(value), &[]);
    builder.build().expect("a batch")
}

/// Bytes of which none is zero.
fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251) as u8 + 1).collect()
}

/// A log that is written run by run, each a batch of one record, the partitions in turn.
struct Filling {
    log: Recovered,
    recovering: Recovering,
    batch: Vec<u8>,
    /// The next offset of each partition.
    next: Vec<i64>,
    turn: usize,
    seq: u64,
    time: i64,
}

impl Filling {
    fn begin(disk: &Arc<dyn Disk>, partitions: usize, value_bytes: usize) -> Filling {
        let options = LogOptions { fsync: FsyncMode::Never, ..LogOptions::default() };
        let log = recover(disk.clone(), options, &mut Recovering::new(settings())).expect("a new log");
        let topic = chronik::broker::topics::topic_entry(TOPIC, NAME, partitions, &Default::default());
        let time = now_ms();
        let batch = one_record(time, &vec![0; value_bytes]);
        let next = vec![0; partitions];
        let mut filling = Filling { log, recovering: Recovering::new(settings()), batch, next, turn: 0, seq: 0, time };
        filling.write(vec![topic], Vec::new());
        filling
    }

    /// The next group; whether a segment was sealed with it.
    fn write(&mut self, meta: Vec<MetaEntry>, runs: Vec<PlannedRun>) -> bool {
        self.seq += 1;
        for entry in &meta {
            self.recovering.meta(entry).expect("an entry that fits");
        }
        let group = Group { seq: self.seq, meta, runs, seal_after: false };
        let written = self.log.writer.step(group).expect("a written group");
        for run in &written.runs {
            self.batch[..8].copy_from_slice(&run.base_offset.to_be_bytes());
            self.recovering.run(*run, &self.batch).expect("a run that fits");
        }
        self.log.writer.tend();
        self.log.position = written.next;
        if let Some((id, bytes)) = written.sealed {
            self.recovering.segment(id, bytes);
        }
        self.log.writer.recycle(written.buf);
        written.sealed.is_some()
    }

    fn fill(&mut self) -> bool {
        let content = Bytes::from(self.batch.clone());
        let runs = (0..GROUP_RUNS).map(|_| {
            let partition = self.turn % self.next.len();
            self.turn += 1;
            let base_offset = self.next[partition];
            self.next[partition] += 1;
            let batches = vec![PlannedBatch { bytes: content.clone(), base_offset, leader_epoch: 0 }];
            let id = PartitionId { topic: TOPIC, partition: partition as i32 };
            PlannedRun { id, base_offset, last_offset: base_offset, max_timestamp: self.time, batches }
        });
        // A group has its runs in the order of their partitions.
        let mut runs: Vec<PlannedRun> = runs.collect();
        runs.sort_by_key(|run| run.id.partition);
        self.write(Vec::new(), runs)
    }

    /// A checkpoint of the state as it is, which what follows is not added to; its bytes.
    fn checkpoint(&mut self, disk: &dyn Disk) -> usize {
        let mut recovering = std::mem::replace(&mut self.recovering, Recovering::new(settings()));
        recovering.segment(self.log.position.segment, self.log.position.position);
        let now = Now { mono_us: 0, wall_ms: self.time };
        let bytes = recovering.at_rest(now, false).expect("a state that fits").snapshot(true);
        checkpoint::write(disk, self.log.directory_id, self.seq, self.log.position, &bytes).expect("a checkpoint");
        bytes.len()
    }
}

/// What was made: the end of each partition, and the bytes of the checkpoint.
struct Made {
    ends: Vec<i64>,
    checkpoint: usize,
}

/// `bytes` of sealed segments that a checkpoint covers, and behind it a segment that is nearly full and not sealed, if wanted.
fn make(root: &Path, bytes: u64, unsealed: bool) -> Made {
    let _ = fs::remove_dir_all(root);
    let disk: Arc<dyn Disk> = Arc::new(SparseDisk::open(root).expect("a data directory"));
    let (partitions, value_bytes) = (number("PARTITIONS", 1000) as usize, (number("RUN_KIB", 1024) as usize) << 10);
    let mut filling = Filling::begin(&disk, partitions, value_bytes);
    let group_bytes = (GROUP_RUNS * value_bytes) as u64;
    let mut left = bytes;
    while !filling.fill() || left > 0 {
        left = left.saturating_sub(group_bytes);
    }
    let checkpoint = filling.checkpoint(&*disk);
    if unsealed {
        // It is read again at the start, so it is no holes.
        filling.batch = one_record(filling.time, &noise(value_bytes));
        let room = LogOptions::default().segment_bytes - 2 * group_bytes - filling.log.position.position;
        (0..room / group_bytes).for_each(|_| {
            filling.fill();
        });
        filling.log.writer.sync().expect("a synced log");
    } else {
        filling.log.writer.close().expect("a closed log");
    }
    Made { ends: filling.next, checkpoint }
}

/// Whether each partition ends where it should, and its first record is there.
fn is_right(conn: &mut Conn, ends: &[i64]) {
    for (nth, some) in ends.chunks(ASKED_AT_ONCE).enumerate() {
        let first = nth * ASKED_AT_ONCE;
        let asked = |index: usize| ListOffsetsPartition {
            partition_index: (first + index) as i32,
            timestamp: -1,
            ..Default::default()
        };
        let topic = ListOffsetsTopic { name: NAME, partitions: (0..some.len()).map(asked).collect() };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let reply = conn.call(&request).expect("an answer");
        let answer: ListOffsetsResponse<'_> = reply.decode().expect("an answer");
        for partition in &answer.topics[0].partitions {
            assert!(!partition.error_code.is_error(), "{partition:?}");
            assert_eq!(partition.offset, ends[partition.partition_index as usize], "{partition:?}");
        }
    }
}

fn fetch_old(conn: &mut Conn) {
    let partition = FetchPartition { partition: 7, fetch_offset: 0, partition_max_bytes: 1, ..Default::default() };
    let topic = FetchTopic { topic: NAME, topic_id: TOPIC, partitions: vec![partition] };
    let request = FetchRequest { max_wait_ms: 500, min_bytes: 1, topics: vec![topic], ..Default::default() };
    let reply = conn.call(&request).expect("an answer");
    let answer: FetchResponse<'_> = reply.decode().expect("an answer");
    let RecordSet::Bytes(bytes) = answer.responses[0].partitions[0].records else { panic!("no records") };
    assert!(batch::verify_crc(bytes), "the first record is not what was written");
}

/// One start: ready as the log says, every ListOffsets right, the old fetch served, since the process was made; then kill -9.
fn start(root: &Path, ends: &[i64]) -> ([Duration; 3], u64) {
    let server = Server::start(root, None);
    let ready = server.begun.elapsed();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut conn = Conn::open("127.0.0.1", server.port, deadline).expect("a connection");
    is_right(&mut conn, ends);
    let listed = server.begun.elapsed();
    fetch_old(&mut conn);
    let fetched = server.begun.elapsed();
    ([ready, listed, fetched], server.end())
}

pub fn measure(root: &Path, gigabytes: u64, runs: u64) {
    for (what, unsealed) in [("sealed, closed in order", false), ("and a full unsealed segment, after kill -9", true)] {
        for _ in 0..runs {
            let made = make(root, gigabytes * 1_000_000_000, unsealed);
            let ([ready, listed, fetched], memory) = start(root, &made.ends);
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "{gigabytes} GB {what}: ready {:.0} ms, all offsets {:.0} ms, old fetch {:.0} ms, {:.1} MiB; checkpoint {} bytes",
                ms(ready),
                ms(listed),
                ms(fetched),
                memory as f64 / f64::from(1 << 20),
                made.checkpoint
            );
            let ([ready, listed, fetched], _) = start(root, &made.ends);
            println!("  once more, after kill -9: {:.0}, {:.0}, {:.0} ms", ms(ready), ms(listed), ms(fetched));
        }
    }
}
