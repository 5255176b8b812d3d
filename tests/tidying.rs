//! Owns tidying as the broker decides it: what is rewritten, what a pack takes the place of, what happens meanwhile.

use std::collections::BTreeSet;

use chronik::limits;
use chronik::wal::tidy::{TidyDone, TidyError};
use chronik::wal::SegmentId;
use chronik::wire::batch::{batches, BatchBuilder};
use chronik::wire::msg::*;
use chronik::wire::{ErrorCode, RecordSet};

use crate::harness::Harness;

fn create(h: &mut Harness, name: &str, num_partitions: i32) {
    let topic = CreatableTopic { name, num_partitions, replication_factor: 1, ..Default::default() };
    let answer = h.call(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    assert_eq!(answer.decode::<CreateTopicsResponse<'_>>().topics[0].error_code, ErrorCode::NONE);
}

fn delete(h: &mut Harness, name: &str) {
    let topic = DeleteTopicState { name: Some(name), ..Default::default() };
    let answer = h.call(6, &DeleteTopicsRequest { topics: vec![topic], ..Default::default() });
    assert_eq!(answer.decode::<DeleteTopicsResponse<'_>>().responses[0].error_code, ErrorCode::NONE);
}

fn delete_records(h: &mut Harness, name: &str, offset: i64) {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name, partitions }];
    let answer = h.call(2, &DeleteRecordsRequest { topics, ..Default::default() });
    assert_eq!(answer.decode::<DeleteRecordsResponse<'_>>().topics[0].partitions[0].error_code, ErrorCode::NONE);
}

/// One record of so many bytes, whose key is its number.
fn produce(h: &mut Harness, name: &str, number: usize, bytes: usize) {
    let mut batch = BatchBuilder::new();
    batch.push(h.now.wall_ms, Some(&number.to_be_bytes()), Some(&vec![7; bytes]), &[]);
    produce_batch(h, name, &batch.build().unwrap());
}

fn produce_batch(h: &mut Harness, name: &str, batch: &[u8]) {
    let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(batch) };
    let topic_data = vec![TopicProduceData { name, partition_data: vec![data], ..Default::default() }];
    let answer = h.call(9, &ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() });
    let response: ProduceResponse<'_> = answer.decode();
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

/// All offsets of a topic's partition 0 that a consumer meets from `offset` on.
fn read(h: &mut Harness, name: &str, mut offset: i64) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let partition =
            FetchPartition { partition: 0, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
        let topics = vec![FetchTopic { topic: name, partitions: vec![partition], ..Default::default() }];
        let request = FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics, ..Default::default() };
        let answer = h.call(11, &request);
        let response: FetchResponse<'_> = answer.decode();
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NONE);
        let RecordSet::Bytes(records) = data.records else { panic!("no bytes") };
        let headers: Vec<_> = batches(records).map(|batch| batch.unwrap().header).collect();
        let Some(last) = headers.last() else { break };
        found.extend(headers.iter().map(|header| header.base_offset).filter(|base| *base >= offset));
        offset = last.last_offset() + 1;
    }
    found
}

/// A topic that lives and one that goes, record by record in the same sealed segments of a mebibyte.
fn shared(h: &mut Harness) {
    create(h, "lives", 1);
    create(h, "goes", 1);
    for number in 0..200 {
        produce(h, "lives", number, 10_000);
        produce(h, "goes", number, 30_000);
    }
}

/// Lets so much time pass that every timer of tidying has fired, and checkpoints are written.
fn settle(h: &mut Harness) {
    for _ in 0..8 {
        h.pass_ms(limits::TIDY_RETRY_US / 1000);
        h.settle();
    }
}

#[test]
fn the_space_of_a_deleted_topic_comes_back_although_it_shares_segments_with_a_living_one() {
    let mut h = Harness::new();
    shared(&mut h);
    let before = h.log.held_bytes(&h.removed);
    delete(&mut h, "goes");
    settle(&mut h);
    let after = h.log.held_bytes(&h.removed);
    assert!(after < before / 2, "{before} bytes before, {after} after");
    assert!(h.removed.iter().any(|id| !id.is_pack()));
    assert_eq!(read(&mut h, "lives", 0), (0..200).collect::<Vec<i64>>());
    h.restart();
    assert_eq!(read(&mut h, "lives", 0), (0..200).collect::<Vec<i64>>());
    assert_eq!(read(&mut h, "lives", 73), (73..200).collect::<Vec<i64>>());
}

#[test]
fn a_restart_right_after_a_pack_took_over_finds_it_by_its_entry() {
    let mut h = Harness::new();
    shared(&mut h);
    delete(&mut h, "goes");
    assert!(h.log.holds_packs());
    assert!(h.removed.is_empty(), "no checkpoint knows of the pack");
    h.restart();
    assert_eq!(read(&mut h, "lives", 0), (0..200).collect::<Vec<i64>>());
    settle(&mut h);
    assert!(!h.removed.is_empty());
    assert_eq!(read(&mut h, "lives", 0), (0..200).collect::<Vec<i64>>());
}

#[test]
fn what_is_deleted_while_a_pack_is_made_stays_deleted() {
    for restart in [false, true] {
        let mut h = Harness::new();
        shared(&mut h);
        create(&mut h, "other", 1);
        h.holds_tidying = true;
        delete(&mut h, "goes");
        let job = h.tidying.pop().expect("there is something to tidy");
        let covered = job.parts[0].sources.iter().map(|source| source.last_offset).max().unwrap();
        delete_records(&mut h, "lives", covered - 1);
        let done = h.log.tidy(&job);
        h.tidy_done(done);
        let expected: Vec<i64> = (covered - 1..200).collect();
        assert_eq!(read(&mut h, "lives", covered - 1), expected);
        if restart {
            h.restart();
            assert_eq!(read(&mut h, "lives", covered - 1), expected);
        }
        let job = h.tidying.pop();
        delete(&mut h, "lives");
        if let Some(job) = job {
            let done = h.log.tidy(&job);
            h.tidy_done(done);
        }
        h.holds_tidying = false;
        h.tidying.clear();
        settle(&mut h);
        create(&mut h, "lives", 1);
        produce(&mut h, "lives", 0, 10);
        assert_eq!(read(&mut h, "lives", 0), [0]);
    }
}

#[test]
fn what_a_job_reads_stays_until_it_has_ended() {
    let mut h = Harness::new();
    shared(&mut h);
    h.holds_tidying = true;
    delete(&mut h, "goes");
    let job = h.tidying.pop().expect("there is something to tidy");
    let sources: BTreeSet<SegmentId> =
        job.parts.iter().flat_map(|part| &part.sources).map(|source| source.segment).collect();
    delete(&mut h, "lives");
    settle(&mut h);
    assert!(h.removed.iter().all(|id| !sources.contains(id)), "{:?} are read, {:?} went", sources, h.removed);
    let done = h.log.tidy(&job);
    assert!(done.result.is_ok(), "{:?}", done.result);
    h.tidy_done(done);
    settle(&mut h);
    assert!(sources.iter().all(|id| h.removed.contains(id)), "{:?} were read, {:?} went", sources, h.removed);
}

#[test]
fn one_job_at_a_time_and_none_while_there_is_nothing_to_gain() {
    let mut h = Harness::new();
    h.holds_tidying = true;
    shared(&mut h);
    assert!(h.tidying.is_empty(), "long runs that live are left alone: {:?}", h.tidying);
    delete(&mut h, "goes");
    settle(&mut h);
    assert_eq!(h.tidying.len(), 1);
}

#[test]
fn a_damaged_segment_is_left_alone_and_the_others_are_tidied() {
    let mut h = Harness::new();
    shared(&mut h);
    h.holds_tidying = true;
    delete(&mut h, "goes");
    let job = h.tidying.pop().unwrap();
    let damaged = job.parts[0].sources[0].segment;
    let failed = Err(TidyError::Damaged(damaged, "a checksum is wrong".to_owned()));
    h.tidy_done(TidyDone { pack: job.pack, result: failed });
    while let Some(job) = h.tidying.pop() {
        assert!(job.parts.iter().flat_map(|part| &part.sources).all(|source| source.segment != damaged));
        let done = h.log.tidy(&job);
        h.tidy_done(done);
    }
    settle(&mut h);
    assert!(h.log.holds_packs() && !h.removed.contains(&damaged));
    assert_eq!(read(&mut h, "lives", 0), (0..200).collect::<Vec<i64>>());
}

/// A client can send what it wants in a batch, as long as the checksum is right. The segment was taken for a damaged one, and all that
/// was deleted in it stayed on the disk.
#[test]
fn records_that_nobody_can_read_keep_only_their_partition_from_compaction() {
    let mut h = Harness::new();
    create(&mut h, "odd", 1);
    let mut batch = BatchBuilder::new();
    batch.push(h.now.wall_ms, Some(b"key"), Some(b"value"), &[]);
    let mut batch = batch.build().unwrap();
    // The header says that there are three records, and there is one.
    batch[23..27].copy_from_slice(&2i32.to_be_bytes());
    batch[57..61].copy_from_slice(&3i32.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    produce_batch(&mut h, "odd", &batch);
    shared(&mut h);
    let compacted = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0"), ("segment.ms", "60000")];
    h.configure(2, "odd", &compacted);
    h.pass_ms(120_000);
    produce(&mut h, "odd", 1, 10);
    h.pass_ms(120_000);
    produce(&mut h, "odd", 2, 10);
    settle(&mut h);
    assert!(h.settings.metrics.tidy_failures.get() > 0, "nobody has looked at its records");
    let before = h.log.held_bytes(&h.removed);
    delete(&mut h, "goes");
    settle(&mut h);
    let after = h.log.held_bytes(&h.removed);
    assert!(after < before / 2, "{before} bytes before, {after} after");
    assert_eq!(read(&mut h, "lives", 0), (0..200).collect::<Vec<i64>>());
}

#[test]
fn tidying_comes_to_an_end_where_something_stays_between_what_one_job_would_merge() {
    let mut h = Harness::new();
    let topics = [("lives", 5_000), ("goes", 20_000), ("goes-too", 15_000)];
    topics.iter().for_each(|(name, _)| create(&mut h, name, 1));
    for number in 0..400 {
        topics.iter().for_each(|(name, bytes)| produce(&mut h, name, number, *bytes));
    }
    h.holds_tidying = true;
    let mut damaged = None;
    for goes in ["goes", "goes-too"] {
        delete(&mut h, goes);
        let mut jobs = 0;
        while let Some(job) = h.tidying.pop() {
            jobs += 1;
            assert!(jobs < 40, "{:?} are rewritten without end", job.parts);
            // One in the middle stays, with a part of the topic that lives on either side.
            let sources: Vec<SegmentId> =
                job.parts.iter().flat_map(|part| &part.sources).map(|source| source.segment).collect();
            let middle = *damaged.get_or_insert(sources[sources.len() / 2]);
            match sources.contains(&middle) {
                true => {
                    let failed = Err(TidyError::Damaged(middle, "a checksum is wrong".to_owned()));
                    h.tidy_done(TidyDone { pack: job.pack, result: failed });
                }
                false => {
                    let done = h.log.tidy(&job);
                    h.tidy_done(done);
                }
            }
        }
    }
    assert!(damaged.is_some(), "a segment is damaged");
    assert_eq!(read(&mut h, "lives", 0), (0..400).collect::<Vec<i64>>());
}

#[test]
fn a_pack_that_is_longer_than_expected_is_not_rewritten_without_end() {
    let mut h = Harness::new();
    shared(&mut h);
    h.holds_tidying = true;
    delete(&mut h, "goes");
    let mut jobs = 0;
    while let Some(job) = h.tidying.pop() {
        jobs += 1;
        assert!(jobs < 20, "{:?} are rewritten without end", job.parts);
        let mut done = h.log.tidy(&job);
        done.result.as_mut().unwrap().file_bytes += 100 << 20;
        h.tidy_done(done);
    }
    assert!(jobs > 0);
}

#[test]
fn a_full_disk_ends_a_job_which_comes_again_later_with_another_number() {
    let mut h = Harness::new();
    shared(&mut h);
    h.holds_tidying = true;
    delete(&mut h, "goes");
    let first = h.tidying.pop().unwrap();
    h.tidy_done(TidyDone { pack: first.pack, result: Err(TidyError::Full("no space".to_owned())) });
    h.settle();
    assert!(h.tidying.is_empty());
    h.pass_ms(limits::TIDY_RETRY_US / 1000);
    let second = h.tidying.pop().expect("it is tried again");
    assert_eq!((second.pack, &second.parts), (first.pack + 1, &first.parts));
}

#[test]
fn nothing_is_timed_when_there_is_nothing_to_do() {
    let mut h = Harness::new();
    shared(&mut h);
    delete(&mut h, "goes");
    settle(&mut h);
    settle(&mut h);
    let retention_only = h.broker.deadline_us().is_none_or(|at| at > h.now.mono_us + 100 * limits::TIDY_RETRY_US);
    assert!(retention_only, "{:?} at {}", h.broker.deadline_us(), h.now.mono_us);
}

#[test]
fn an_unsealed_segment_is_sealed_when_much_of_it_was_deleted() {
    let mut h = Harness::new();
    h.log.segment_bytes = 1 << 30;
    shared(&mut h);
    let before = h.log.held_bytes(&h.removed);
    delete(&mut h, "goes");
    settle(&mut h);
    assert!(h.removed.contains(&SegmentId::FIRST));
    assert!(h.log.held_bytes(&h.removed) < before / 2);
    assert_eq!(read(&mut h, "lives", 0), (0..200).collect::<Vec<i64>>());
}

/// Seconds until less than half of so many bytes is held.
fn seconds_until_half(h: &mut Harness, before: usize) -> u64 {
    for second in 0..600 {
        h.settle();
        if h.log.held_bytes(&h.removed) < before / 2 {
            return second;
        }
        h.pass_ms(1000);
    }
    panic!("the space of {before} bytes did not come back in ten minutes");
}

/// A way in which most of what `shared` has written comes to be deleted. When it returns that is due.
type Deletion = fn(&mut Harness);

fn by_time(h: &mut Harness) {
    h.configure(2, "goes", &[("segment.ms", "60000"), ("retention.ms", "300000")]);
    // What is produced now begins another logical segment, so that the older one is not the newest.
    h.pass_ms(100_000);
    produce(h, "goes", 200, 10);
    h.settle();
    h.pass_ms(200_000);
}

#[test]
fn space_comes_back_within_a_minute_of_being_due_at_default_settings() {
    let delete_topic: Deletion = |h| delete(h, "goes");
    let delete_all_records: Deletion = |h| delete_records(h, "goes", 200);
    // Of what a partition has in one segment of the log, all must be deleted: so `by_time` comes with small segments only.
    let ways = [
        ("DeleteTopics", delete_topic, 1 << 20),
        ("DeleteRecords", delete_all_records, 1 << 20),
        ("retention.ms", by_time, 1 << 20),
        ("DeleteTopics", delete_topic, 1 << 30),
        ("DeleteRecords", delete_all_records, 1 << 30),
    ];
    for (what, deletion, segment_bytes) in ways {
        let mut h = Harness::new();
        h.log.segment_bytes = segment_bytes;
        shared(&mut h);
        let before = h.log.held_bytes(&h.removed);
        deletion(&mut h);
        let seconds = seconds_until_half(&mut h, before);
        assert!(seconds <= 60, "{what} with segments of {segment_bytes}: {seconds} s");
    }
}
