//! Owns retention and compaction as the broker decides them: logical segments, policies that change while it runs, what a
//! restart finds.

use chronik::broker::tiering::{StoredObject, UploadDone};
use chronik::config::Config;
use chronik::limits;
use chronik::wal::tidy::{TidyDone, TidyError, TidyJob};
use chronik::wal::SegmentId;
use chronik::wire::batch::{batches, records, BatchBuilder};
use chronik::wire::msg::*;
use chronik::wire::{ErrorCode, RecordSet};

use crate::harness::Harness;

const TOPIC: &str = "t";
const SEGMENT_MS: i64 = 60_000;

fn create(h: &mut Harness, configs: &[(&str, &str)]) {
    create_named(h, TOPIC, configs);
}

fn create_named(h: &mut Harness, name: &str, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) });
    let configs = configs.chain([CreatableTopicConfig { name: "segment.ms", value: Some("60000") }]).collect();
    let topic = CreatableTopic { name, num_partitions: 1, replication_factor: 1, configs, ..Default::default() };
    let answer = h.call(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    assert_eq!(answer.decode::<CreateTopicsResponse<'_>>().topics[0].error_code, ErrorCode::NONE);
}

fn configure(h: &mut Harness, name: &str, value: &str) {
    h.configure(2, TOPIC, &[(name, value)]);
}

/// One record with this key; a value of so many bytes, or none.
fn produce(h: &mut Harness, key: &str, bytes: Option<usize>) {
    produce_to(h, TOPIC, key, bytes);
}

fn produce_to(h: &mut Harness, name: &str, key: &str, bytes: Option<usize>) {
    let mut batch = BatchBuilder::new();
    let value = bytes.map(|bytes| vec![7; bytes]);
    batch.push(h.now.wall_ms, Some(key.as_bytes()), value.as_deref(), &[]);
    let batch = batch.build().unwrap();
    let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(&batch) };
    let topic_data = vec![TopicProduceData { name, partition_data: vec![data], ..Default::default() }];
    let answer = h.call(9, &ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() });
    let response: ProduceResponse<'_> = answer.decode();
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

/// Lets a logical segment end: what is produced next begins another one.
fn roll(h: &mut Harness) {
    h.pass_ms(SEGMENT_MS as u64 + 1);
    h.settle();
}

/// Offset and key of every record from the log's start on.
fn read(h: &mut Harness) -> Vec<(i64, String)> {
    let (mut found, mut offset) = (Vec::new(), log_start(h));
    loop {
        let partition =
            FetchPartition { partition: 0, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
        let topics = vec![FetchTopic { topic: TOPIC, partitions: vec![partition], ..Default::default() }];
        let request = FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics, ..Default::default() };
        let answer = h.call(11, &request);
        let response: FetchResponse<'_> = answer.decode();
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NONE);
        let RecordSet::Bytes(bytes) = data.records else { panic!("no bytes") };
        let mut next = offset;
        for batch in batches(bytes).map(Result::unwrap) {
            let mut scratch = Vec::new();
            for record in records(&batch, &mut scratch, 1 << 20).unwrap().map(Result::unwrap) {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                found.push((record.offset(&batch.header), key));
            }
            next = batch.header.last_offset() + 1;
        }
        if next == offset {
            return found;
        }
        offset = next;
    }
}

fn log_start(h: &mut Harness) -> i64 {
    list_offset(h, -2)
}

fn list_offset(h: &mut Harness, timestamp: i64) -> i64 {
    let partitions = vec![ListOffsetsPartition { partition_index: 0, timestamp, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: TOPIC, partitions }];
    let answer = h.call(2, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() });
    let response: ListOffsetsResponse<'_> = answer.decode();
    response.topics[0].partitions[0].offset
}

/// Lets so much time pass that whatever is due is done.
fn rest(h: &mut Harness) {
    for _ in 0..6 {
        h.pass_ms(16_000);
        h.settle();
    }
}

fn offsets(found: &[(i64, String)]) -> Vec<i64> {
    found.iter().map(|(offset, _)| *offset).collect()
}

#[test]
fn a_compacted_topic_keeps_the_last_record_of_every_key_and_its_active_segment() {
    let mut h = Harness::new();
    create(&mut h, &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")]);
    for key in ["a", "b", "a", "c", "b"] {
        produce(&mut h, key, Some(100));
    }
    rest(&mut h);
    assert_eq!(read(&mut h).len(), 5, "the active segment is not compacted");
    roll(&mut h);
    produce(&mut h, "a", Some(100));
    rest(&mut h);
    // The record of a at offset 2 is the last that is not in the active segment. The last batch stays, if need be empty.
    assert_eq!(offsets(&read(&mut h)), [2, 3, 4, 5]);
    assert_eq!((log_start(&mut h), list_offset(&mut h, -1)), (0, 6));
    h.restart();
    assert_eq!(offsets(&read(&mut h)), [2, 3, 4, 5]);
    roll(&mut h);
    produce(&mut h, "c", Some(100));
    rest(&mut h);
    assert_eq!(offsets(&read(&mut h)), [3, 4, 5, 6]);
    h.checkpoint();
    h.restart();
    assert_eq!(offsets(&read(&mut h)), [3, 4, 5, 6]);
}

#[test]
fn tombstones_stay_for_their_time() {
    let mut h = Harness::new();
    let configs =
        [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0"), ("delete.retention.ms", "600000")];
    create(&mut h, &configs);
    for key in ["a", "b"] {
        produce(&mut h, key, Some(10));
    }
    produce(&mut h, "a", None);
    produce(&mut h, "x", Some(10));
    for n in 0..3 {
        roll(&mut h);
        produce(&mut h, &format!("later {n}"), Some(10));
        rest(&mut h);
        assert!(offsets(&read(&mut h)).starts_with(&[1, 2, 3]), "after cleaning {n}");
    }
    h.pass_ms(600_000);
    h.settle();
    assert!(offsets(&read(&mut h)).starts_with(&[1, 2, 3]), "nothing is dirty, so nothing is cleaned");
    roll(&mut h);
    produce(&mut h, "later", Some(10));
    rest(&mut h);
    assert!(offsets(&read(&mut h)).starts_with(&[1, 3]));
}

#[test]
fn the_policy_can_change_while_the_broker_runs() {
    let mut h = Harness::new();
    create(&mut h, &[("cleanup.policy", "delete"), ("min.cleanable.dirty.ratio", "0"), ("retention.ms", "-1")]);
    for key in ["a", "a", "b"] {
        produce(&mut h, key, Some(10));
    }
    roll(&mut h);
    produce(&mut h, "b", Some(10));
    rest(&mut h);
    assert_eq!(offsets(&read(&mut h)), [0, 1, 2, 3]);
    configure(&mut h, "cleanup.policy", "compact");
    rest(&mut h);
    assert_eq!(offsets(&read(&mut h)), [1, 2, 3]);
    configure(&mut h, "cleanup.policy", "");
    configure(&mut h, "retention.ms", "1000");
    roll(&mut h);
    produce(&mut h, "b", Some(10));
    rest(&mut h);
    assert_eq!(offsets(&read(&mut h)), [1, 2, 3, 4], "without a policy everything stays");
    configure(&mut h, "cleanup.policy", "compact,delete");
    rest(&mut h);
    assert!(read(&mut h).is_empty());
    assert_eq!((log_start(&mut h), list_offset(&mut h, -1)), (5, 5));
}

#[test]
fn retention_by_time_goes_segment_by_segment() {
    let mut h = Harness::new();
    create(&mut h, &[("retention.ms", "200000")]);
    for _ in 0..3 {
        produce(&mut h, "k", Some(10));
        produce(&mut h, "k", Some(10));
        roll(&mut h);
    }
    produce(&mut h, "k", Some(10));
    assert_eq!(log_start(&mut h), 0);
    // The first segment expires, with both of its records; the second one a minute later.
    h.pass_ms(30_000);
    h.settle();
    assert_eq!(log_start(&mut h), 2);
    h.restart();
    assert_eq!(log_start(&mut h), 2);
    h.pass_ms(60_000);
    h.settle();
    assert_eq!(log_start(&mut h), 4);
}

#[test]
fn retention_by_size_leaves_what_is_asked_for() {
    let mut h = Harness::new();
    create(&mut h, &[("retention.bytes", "2500")]);
    for _ in 0..4 {
        produce(&mut h, "k", Some(1000));
        roll(&mut h);
    }
    produce(&mut h, "k", Some(1000));
    rest(&mut h);
    assert_eq!(log_start(&mut h), 2);
    configure(&mut h, "retention.bytes", "0");
    rest(&mut h);
    assert_eq!(log_start(&mut h), 5);
}

#[test]
fn young_records_are_not_compacted_and_old_ones_are_whatever_the_ratio() {
    let mut h = Harness::new();
    let configs =
        [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0"), ("min.compaction.lag.ms", "900000")];
    create(&mut h, &configs);
    for key in ["a", "a", "b"] {
        produce(&mut h, key, Some(10));
    }
    roll(&mut h);
    produce(&mut h, "b", Some(10));
    rest(&mut h);
    assert_eq!(offsets(&read(&mut h)), [0, 1, 2, 3]);
    h.pass_ms(900_000);
    h.settle();
    rest(&mut h);
    assert_eq!(offsets(&read(&mut h)), [1, 2, 3]);
    configure(&mut h, "min.compaction.lag.ms", "0");
    configure(&mut h, "min.cleanable.dirty.ratio", "1");
    roll(&mut h);
    produce(&mut h, "a", Some(10));
    roll(&mut h);
    produce(&mut h, "c", Some(10));
    rest(&mut h);
    assert_eq!(offsets(&read(&mut h)), [1, 2, 3, 4, 5], "not all is dirty");
    configure(&mut h, "max.compaction.lag.ms", "60000");
    rest(&mut h);
    assert_eq!(offsets(&read(&mut h)), [3, 4, 5]);
}

#[test]
fn nothing_is_timed_when_nothing_can_become_due() {
    let mut h = Harness::new();
    create(&mut h, &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")]);
    for key in ["a", "a", "b"] {
        produce(&mut h, key, Some(10));
    }
    roll(&mut h);
    produce(&mut h, "b", Some(10));
    rest(&mut h);
    h.pass_ms(3_600_000);
    h.settle();
    let before = h.broker.deadline_us();
    h.pass_ms(3_600_000);
    h.settle();
    assert_eq!(h.broker.deadline_us(), before, "nothing wakes up for compaction");
}

/// A topic of which the store alone has what can be compacted, and that is about to be read from there; and a compacted one that is
/// still empty.
fn compacted_over_the_store() -> Harness {
    let mut config = Config::default();
    config.storage.local_path = Some("a store".into());
    config.storage.local_free_bytes = u64::MAX;
    let mut h = Harness::with(config);
    create(&mut h, &[]);
    create_named(&mut h, "local", &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")]);
    for _ in 0..4 {
        produce(&mut h, "key", Some(10_000));
        roll(&mut h);
    }
    h.checkpoint();
    let stored = vec![(SegmentId::FIRST, StoredObject { incarnation: 1, bytes: 1 << 20, crc: 1 })];
    for _ in 0..10 {
        // The store is asked now and then, because something is to go that it holds.
        let done =
            UploadDone { result: Ok(stored.clone()), free_bytes: Some(0), has_looked: true, has_superfluous: false };
        h.broker.uploaded(h.now, done);
        h.settle();
        h.pass_ms(6000);
    }
    assert_eq!(h.evicted, [SegmentId::FIRST]);
    h.holds_tidying = true;
    configure(&mut h, "cleanup.policy", "compact");
    configure(&mut h, "min.cleanable.dirty.ratio", "0");
    h.pass_ms(SEGMENT_MS as u64);
    h
}

fn stopped(job: &TidyJob) -> TidyDone {
    TidyDone { pack: job.pack, result: Err(TidyError::Stopped) }
}

/// There is one tidier: a store that gives a byte a second kept all space on the disk from coming back.
#[test]
fn a_compaction_over_a_slow_store_makes_room_for_others_and_gets_more_time_each_time() {
    const PATIENCE_MS: u64 = limits::STORE_CLEAN_PATIENCE_US / 1000;
    let mut h = compacted_over_the_store();
    let over_the_store = h.tidying.pop().expect("a compaction");
    h.pass_ms(3 * PATIENCE_MS);
    assert_eq!(h.tidying_stops, 0, "nobody else waits");
    for _ in 0..3 {
        produce_to(&mut h, "local", "key", Some(10_000));
        roll(&mut h);
    }
    h.pass_ms(SEGMENT_MS as u64 + PATIENCE_MS);
    assert_eq!(h.tidying_stops, 1);
    h.tidy_done(stopped(&over_the_store));
    h.settle();
    let local = h.tidying.pop().expect("the other compaction");
    assert_ne!(local.parts[0].id, over_the_store.parts[0].id);
    let done = h.log.tidy(&local);
    h.tidy_done(done);
    h.settle();
    h.pass_ms(PATIENCE_MS);
    let again = h.tidying.pop().expect("the one over the store again");
    assert_eq!(again.parts[0].id, over_the_store.parts[0].id);
    produce_to(&mut h, "local", "key", Some(10_000));
    h.pass_ms(PATIENCE_MS + 1000);
    assert_eq!(h.tidying_stops, 1, "it has twice the time");
    for _ in 0..3 {
        roll(&mut h);
        produce_to(&mut h, "local", "key", Some(10_000));
    }
    assert_eq!(h.tidying_stops, 2);
}
