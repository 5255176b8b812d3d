//! Owns the tests of what time does to transactions: dead producers, idle ids, clocks that jump, full disks.

use super::*;

const DAY_MS: u64 = 24 * 3_600_000;

/// A producer whose transactions may take ten seconds, with one open.
fn dead_producer(h: &mut Harness, protocol: Protocol) -> Producer {
    create_topic(h, "t", 1);
    let (error, id, epoch) = init_with_timeout(h, 5, "x", None, 10_000);
    assert_eq!(error, ErrorCode::NONE);
    let mut producer = Producer { transactional_id: "x".into(), protocol, id, epoch, sequences: BTreeMap::new() };
    producer.send(h, "t", 0, &["a"]).unwrap();
    producer.commit_offset(h, "g", "t", 0, 5).unwrap();
    producer
}

fn pass(h: &mut Harness, ms: u64) {
    h.pass_ms(ms);
    h.settle();
}

#[test]
fn a_dead_producer_holds_readers_no_longer_than_its_timeout() {
    for protocol in [CLASSIC, NEW] {
        let mut h = Harness::new();
        let mut producer = dead_producer(&mut h, protocol);
        pass(&mut h, 9_999);
        assert_eq!(ends(&mut h, "t", 0), (0, 1));
        assert_eq!(h.broker.deadline_us(), Some(h.now.mono_us + 1000));
        pass(&mut h, 1);
        assert_eq!(ends(&mut h, "t", 0), (2, 2));
        assert_eq!(markers(&mut h, "t", 0), [(1, false)]);
        assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, -1));
        assert_eq!(described(&mut h, "x"), (ErrorCode::NONE, "CompleteAbort".into(), producer.id, producer.epoch + 1));
        // The producer was only slow: it is fenced.
        assert_eq!(producer.send_only(&mut h, "t", 0, &["b"]), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
        assert_eq!(
            producer.end(&mut h, true),
            if protocol.end < 5 { ErrorCode::PRODUCER_FENCED } else { ErrorCode::INVALID_TXN_STATE }
        );
        assert_eq!(committed(&mut h, "t", 0), [] as [&str; 0]);
    }
}

#[test]
fn adding_to_a_transaction_does_not_prolong_it() {
    let mut h = Harness::new();
    let mut producer = dead_producer(&mut h, NEW);
    create_topic(&mut h, "u", 1);
    pass(&mut h, 6_000);
    producer.send(&mut h, "u", 0, &["b"]).unwrap();
    pass(&mut h, 4_000);
    assert_eq!(ends(&mut h, "t", 0), (2, 2));
    assert_eq!(ends(&mut h, "u", 0), (2, 2));
}

#[test]
fn each_transaction_has_its_whole_time() {
    let mut h = Harness::new();
    let mut producer = dead_producer(&mut h, NEW);
    pass(&mut h, 6_000);
    producer.end(&mut h, true);
    producer.send(&mut h, "t", 0, &["b"]).unwrap();
    pass(&mut h, 6_000);
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(committed(&mut h, "t", 0), ["a", "b"]);
}

#[test]
fn a_restart_neither_forgets_nor_prolongs_a_timeout_by_more_than_itself() {
    let mut h = Harness::new();
    dead_producer(&mut h, NEW);
    pass(&mut h, 6_000);
    h.restart();
    pass(&mut h, 3_999);
    assert_eq!(ends(&mut h, "t", 0), (0, 1));
    pass(&mut h, 1);
    assert_eq!(ends(&mut h, "t", 0), (2, 2));
}

#[test]
fn a_clock_that_jumps_does_not_decide_about_transactions() {
    // While running, only time that has really passed counts.
    for jump_ms in [-(365 * DAY_MS as i64), 365 * DAY_MS as i64] {
        let mut h = Harness::new();
        dead_producer(&mut h, NEW);
        h.now.wall_ms += jump_ms;
        pass(&mut h, 9_999);
        assert_eq!(ends(&mut h, "t", 0), (0, 1));
        pass(&mut h, 1);
        assert_eq!(ends(&mut h, "t", 0), (2, 2));
    }
    // A clock that was set back during a restart gives the whole timeout again, and no more.
    let mut h = Harness::new();
    dead_producer(&mut h, NEW);
    h.now.wall_ms -= 365 * DAY_MS as i64;
    h.restart();
    pass(&mut h, 10_000);
    assert_eq!(ends(&mut h, "t", 0), (2, 2));
    // One that was set forward ends it at once.
    let mut h = Harness::new();
    dead_producer(&mut h, NEW);
    h.now.wall_ms += 365 * DAY_MS as i64;
    h.restart();
    pass(&mut h, 0);
    assert_eq!(ends(&mut h, "t", 0), (2, 2));
}

#[test]
fn an_idle_transactional_id_is_forgotten_and_one_in_use_is_not() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let config = chronik::config::Config { transactional_id_expiration_ms: 60_000, ..Default::default() };
    h.restart_with(config);
    let mut producer = Producer::init(&mut h, "x", NEW);
    Producer::init(&mut h, "idle", NEW);
    pass(&mut h, 40_000);
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    pass(&mut h, 20_000);
    assert_eq!(described(&mut h, "idle").0, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
    assert_eq!(described(&mut h, "x").1, "Ongoing");
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    pass(&mut h, 59_999);
    assert_eq!(described(&mut h, "x").1, "CompleteCommit");
    pass(&mut h, 1);
    assert_eq!(described(&mut h, "x").0, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
    h.restart();
    assert_eq!(described(&mut h, "x").0, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
    assert_eq!(end(&mut h, 5, &producer, false).0, ErrorCode::INVALID_PRODUCER_ID_MAPPING);
}

#[test]
fn an_idle_id_keeps_its_rest_of_time_over_a_restart() {
    let mut h = Harness::new();
    Producer::init(&mut h, "x", NEW);
    pass(&mut h, 6 * DAY_MS);
    h.checkpoint();
    assert_eq!(h.broker.deadline_us(), Some(h.now.mono_us + DAY_MS * 1000));
}

#[test]
fn a_producer_with_an_open_transaction_never_expires_in_a_partition() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let config = chronik::config::Config { producer_id_expiration_ms: 1000, ..Default::default() };
    h.restart_with(config);
    let mut producer = Producer::init(&mut h, "x", NEW);
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    pass(&mut h, 5_000);
    h.checkpoint();
    producer.send(&mut h, "t", 0, &["b"]).unwrap();
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(committed(&mut h, "t", 0), ["a", "b"]);
}

#[test]
fn on_a_full_disk_nothing_begins_and_what_is_open_ends_from_the_reserve_or_later() {
    let mut h = Harness::new();
    let mut producer = dead_producer(&mut h, NEW);
    h.log.space_bytes = 1000;
    pass(&mut h, 1);
    // The broker learns of the space with a group.
    let plain = batch(None, false, &["plain"]);
    let _ = produce(&mut h, 9, None, "t", 0, &plain);
    assert_eq!(init(&mut h, 5, "y", None).0, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(end(&mut h, 5, &producer, true).0, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let (_, end_before) = ends(&mut h, "t", 0);
    pass(&mut h, 10_000);
    assert_eq!(ends(&mut h, "t", 0), (0, end_before));
    h.log.space_bytes = 1 << 30;
    for _ in 0..3 {
        pass(&mut h, 1_000);
    }
    let (stable, end) = ends(&mut h, "t", 0);
    assert_eq!(stable, end);
    assert_eq!(producer.end(&mut h, true), ErrorCode::INVALID_TXN_STATE);
}
