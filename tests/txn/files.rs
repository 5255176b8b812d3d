//! Owns the tests of `--file-metadata`: a crash between the files and the log leaves the end of a transaction half done,
//! and the next start finishes it as it was decided.

use super::*;

use chronik::broker::metalog;
use chronik::wal::MetaEntry;

/// A transaction with records in two partitions and an offset, whose end is half done: of its metadata only what `kept`
/// picks was written, and none of its markers.
fn half_ended(protocol: Protocol, commit: bool, kept: impl Fn(&MetaEntry) -> bool) -> (Harness, Producer) {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 2);
    let mut producer = Producer::init(&mut h, "x", protocol);
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    producer.send(&mut h, "t", 1, &["b"]).unwrap();
    producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    assert_eq!(end(&mut h, protocol.end, &producer, commit).0, ErrorCode::NONE);
    h.restart_half_way(kept);
    h.settle();
    (h, producer)
}

fn is_outcome(entry: &MetaEntry) -> bool {
    entry.table == metalog::TXN
}

fn is_set(entry: &MetaEntry) -> bool {
    entry.value.is_some()
}

#[test]
fn what_was_decided_is_carried_out() {
    for protocol in [CLASSIC, NEW] {
        for commit in [true, false] {
            for kept in [is_outcome as fn(&MetaEntry) -> bool, is_set] {
                let (mut h, mut producer) = half_ended(protocol, commit, kept);
                for _ in 0..2 {
                    let values = if commit { vec!["a", "b"] } else { vec![] };
                    let seen = [committed(&mut h, "t", 0), committed(&mut h, "t", 1)].concat();
                    assert_eq!(seen, values);
                    assert_eq!((ends(&mut h, "t", 0), ends(&mut h, "t", 1)), ((2, 2), (2, 2)));
                    let offset = if commit { 5 } else { -1 };
                    assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, offset));
                    h.restart();
                    h.settle();
                }
                // The producer did not hear of it, and asks again.
                assert_eq!(producer.end(&mut h, commit), ErrorCode::NONE);
                producer.send(&mut h, "t", 0, &["next"]).unwrap();
                assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
            }
        }
    }
}

#[test]
fn what_was_not_decided_is_still_under_way() {
    for protocol in [CLASSIC, NEW] {
        let (mut h, mut producer) = half_ended(protocol, true, |_| false);
        assert_eq!(ends(&mut h, "t", 0), (0, 1));
        assert_eq!(committed_offset(&mut h, "g", "t", 0, true).0, ErrorCode::UNSTABLE_OFFSET_COMMIT);
        assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
        assert_eq!(committed(&mut h, "t", 0), ["a"]);
        assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, 5));
    }
}

#[test]
fn what_no_transactional_id_knows_of_is_aborted() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let mut producer = Producer::init(&mut h, "x", NEW);
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    for group in h.log.groups.values_mut() {
        group.meta.retain(|entry| entry.table != metalog::TXN);
    }
    h.restart();
    h.settle();
    assert_eq!(ends(&mut h, "t", 0), (2, 2));
    assert_eq!(committed(&mut h, "t", 0), [] as [&str; 0]);
    assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, -1));
}

#[test]
fn what_is_left_to_end_waits_for_room_on_the_disk() {
    let (mut h, _) = {
        let mut h = Harness::new();
        create_topic(&mut h, "t", 1);
        let mut producer = Producer::init(&mut h, "x", NEW);
        producer.send(&mut h, "t", 0, &["a"]).unwrap();
        assert_eq!(end(&mut h, 5, &producer, true).0, ErrorCode::NONE);
        h.log.space_bytes = 0;
        h.restart_half_way(is_outcome);
        h.settle();
        (h, producer)
    };
    assert_eq!(ends(&mut h, "t", 0), (0, 1));
    h.log.space_bytes = 1 << 30;
    for _ in 0..3 {
        h.pass_ms(1_000);
        h.settle();
    }
    assert_eq!(committed(&mut h, "t", 0), ["a"]);
}

/// The reservation of producer ids is in another file than the transactional id that has one of them.
#[test]
fn a_producer_id_whose_reservation_a_crash_took_is_not_given_out_again() {
    let mut h = Harness::new();
    let producer = Producer::init(&mut h, "x", NEW);
    for group in h.log.groups.values_mut() {
        group.meta.retain(|entry| entry.table != metalog::PRODUCER_IDS);
    }
    h.restart();
    h.settle();
    let other = Producer::init(&mut h, "y", NEW);
    assert_ne!(other.id, producer.id);
}
