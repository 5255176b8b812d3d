//! Owns the tests of ShareFetch: what is acquired, how much, by whom, and how long a fetch waits.

use super::*;

#[test]
fn records_are_acquired_by_one_member_only() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 3);
    let got = w.fetch(&mut a, WANT);
    assert_eq!(got.acquired(), [(0, 2, 1)]);
    assert_eq!(got.lock_ms, LOCK_MS as i32);
    let mut b = w.join("b", &["t"]);
    assert_eq!(w.fetch(&mut b, WANT).acquired(), []);
    w.produce("t", 2);
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(3, 4, 1)]);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), []);
}

#[test]
fn whole_batches_are_acquired_up_to_the_number_wanted() {
    let (mut w, mut a) = World::with_member();
    for _ in 0..4 {
        w.produce("t", 5);
    }
    let got = w.fetch(&mut a, Want { records: 6, ..WANT });
    assert_eq!(got.acquired(), [(0, 9, 1)], "the second batch holds the sixth record");
    assert_eq!(got.parts[&(w.id("t"), 0)].batches, [(0, 4), (5, 9)]);
    assert_eq!(w.fetch(&mut a, Want { batch_size: 1, ..WANT }).acquired(), [(10, 14, 1), (15, 19, 1)]);
}

#[test]
fn in_record_limit_mode_there_is_not_one_record_more() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 10);
    let want = Want { records: 3, batch_size: 1, mode: 1, ..WANT };
    assert_eq!(w.fetch(&mut a, want).acquired(), [(0, 2, 1)]);
    assert_eq!(w.fetch(&mut a, Want { records: 2, ..want }).acquired(), [(3, 4, 1)]);
    let mut b = w.join("b", &["t"]);
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(5, 9, 1)]);
}

#[test]
fn a_fetch_waits_for_new_records() {
    let (mut w, mut a) = World::with_member();
    let id = w.send_fetch(&mut a, Want { wait_ms: 5000, ..WANT });
    w.h.settle();
    assert!(w.answered(a.conn, id).is_none());
    w.produce("t", 1);
    let answer = w.answered(a.conn, id).expect("woken by the record");
    assert_eq!(fetched(&answer).acquired(), [(0, 0, 1)]);
}

#[test]
fn a_fetch_waits_for_records_that_are_given_back_and_for_locks_that_end() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 4);
    w.fetch(&mut a, WANT);
    let mut b = w.join("b", &["t"]);
    let id = w.send_fetch(&mut b, Want { wait_ms: 60_000, ..WANT });
    w.h.settle();
    assert!(w.answered(b.conn, id).is_none());
    assert_eq!(w.ack(&mut a, &[(1, 1, &[RELEASE])]), ErrorCode::NONE);
    let answer = w.answered(b.conn, id).expect("woken by the release");
    assert_eq!(fetched(&answer).acquired(), [(1, 1, 2)]);
    let id = w.send_fetch(&mut b, Want { wait_ms: 60_000, ..WANT });
    w.h.pass_ms(LOCK_MS - 1);
    w.h.settle();
    assert!(w.answered(b.conn, id).is_none());
    w.h.pass_ms(1);
    w.h.settle();
    let answer = w.answered(b.conn, id).expect("woken by the end of the locks");
    assert_eq!(fetched(&answer).acquired(), [(0, 0, 2), (1, 1, 3), (2, 3, 2)]);
}

#[test]
fn a_fetch_waits_for_enough_bytes_or_until_its_time_is_up() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 1);
    let id = w.send_fetch(&mut a, Want { min_bytes: 250, wait_ms: 400, ..WANT });
    w.h.settle();
    assert!(w.answered(a.conn, id).is_none());
    let got = w.answer_of(&a, id, 400);
    assert_eq!(got.acquired(), [(0, 0, 1)]);
    let id = w.send_fetch(&mut a, Want { min_bytes: 150, ..WANT });
    w.produce("t", 1);
    assert!(w.answered(a.conn, id).is_none());
    w.produce("t", 1);
    let answer = w.answered(a.conn, id).expect("enough bytes");
    assert_eq!(fetched(&answer).acquired(), [(1, 2, 1)]);
}

#[test]
fn bytes_are_limited_but_the_first_batch_comes_whole() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 50);
    w.produce("t", 1);
    assert_eq!(w.fetch(&mut a, Want { max_bytes: 10, ..WANT }).acquired(), [(0, 49, 1)]);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(50, 50, 1)]);
}

#[test]
fn nothing_is_fetched_when_no_records_are_wanted() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 1);
    let id = w.send_fetch(&mut a, Want { records: 0, ..WANT });
    let answer = w.answered(a.conn, id).expect("at once");
    assert!(fetched(&answer).parts.is_empty());
    let id = w.send_fetch(&mut a, Want { max_bytes: 0, ..WANT });
    assert!(w.answered(a.conn, id).is_some());
}

#[test]
fn a_group_that_starts_at_the_end_gets_what_comes_later() {
    let mut w = World::new();
    w.topic("t", 1);
    w.produce("t", 3);
    let mut a = w.join("a", &["t"]);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), []);
    w.produce("t", 2);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(3, 4, 1)]);
}

#[test]
fn a_group_may_start_at_a_time() {
    let mut w = World::new();
    w.topic("t", 1);
    w.produce("t", 3);
    w.h.pass_ms(3_600_000);
    w.produce("t", 2);
    w.h.pass_ms(60_000);
    w.configure(G, "share.auto.offset.reset", "by_duration:PT10M");
    let mut a = w.join("a", &["t"]);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(3, 4, 1)]);
}

#[test]
fn locks_are_limited_by_partition() {
    let mut config = Config::default();
    config.share.partition_max_record_locks = 100;
    let mut w = World::with(config);
    w.topic("t", 1);
    w.begin_at_the_start(G);
    let mut a = w.join("a", &["t"]);
    for _ in 0..6 {
        w.produce("t", 40);
    }
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(0, 119, 1)], "the third batch holds the hundredth record");
    assert_eq!(w.fetch(&mut a, WANT).acquired(), []);
    w.ack(&mut a, &[(40, 79, &[ACCEPT])]);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [], "the start has not moved");
    w.ack(&mut a, &[(10, 10, &[RELEASE])]);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(10, 10, 2)], "what was handed out before may be handed out again");
    w.ack(&mut a, &[(0, 39, &[ACCEPT])]);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(120, 199, 1)]);
}

#[test]
fn what_is_handed_out_often_is_handed_out_in_smaller_pieces() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 10);
    for count in 1..=3 {
        assert_eq!(w.fetch(&mut a, WANT).acquired(), [(0, 9, count)]);
        w.ack(&mut a, &[(0, 9, &[RELEASE])]);
    }
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(0, 4, 4)], "half of them");
    w.ack(&mut a, &[(0, 4, &[RELEASE])]);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(0, 0, 5)], "one by one");
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(1, 1, 5)]);
    w.ack(&mut a, &[(0, 1, &[RELEASE])]);
    assert_eq!(w.start_and_lag("t", 0), (2, 8), "delivered too often");
}

#[test]
fn deleted_records_are_not_handed_out() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 5);
    w.produce("t", 5);
    assert_eq!(w.fetch(&mut a, Want { records: 1, ..WANT }).acquired(), [(0, 4, 1)]);
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 7 }];
    let topics = vec![DeleteRecordsTopic { name: "t", partitions }];
    w.h.call(2, &DeleteRecordsRequest { topics, timeout_ms: 1000 });
    assert_eq!(w.ack(&mut a, &[(0, 4, &[ACCEPT])]), ErrorCode::NONE, "nothing is left to be said");
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(7, 9, 1)]);
    w.ack(&mut a, &[(7, 9, &[ACCEPT])]);
    assert_eq!(w.start_and_lag("t", 0), (10, 0));
}

#[test]
fn a_deleted_topic_is_told_and_a_new_one_of_its_name_is_another() {
    let (mut w, mut a) = World::with_member();
    let old = w.id("t");
    w.produce("t", 5);
    w.fetch(&mut a, WANT);
    let id = w.send_fetch(&mut a, Want { wait_ms: 60_000, ..WANT });
    let topics = vec![DeleteTopicState { name: Some("t"), ..Default::default() }];
    w.h.call(6, &DeleteTopicsRequest { topics, timeout_ms: 1000, ..Default::default() });
    let answer = w.answered(a.conn, id).expect("told at once");
    assert_eq!(fetched(&answer).parts[&(old, 0)].error, ErrorCode::UNKNOWN_TOPIC_ID);
    let (_, parts) = w.ack_of(&mut a, &[(old, 0, &[(0, 4, &[ACCEPT])])]);
    assert_eq!(parts, [ErrorCode::UNKNOWN_TOPIC_ID]);
    let new = w.topic("t", 1);
    w.beat(G, &a.id, 2, None);
    w.produce("t", 1);
    let got = w.fetch_of(&mut a, WANT, &[(new, vec![(0, vec![])])]);
    assert_eq!(got.parts[&(new, 0)].acquired, [(0, 0, 1)]);
}

#[test]
fn a_fetch_from_what_is_not_there_is_an_error_of_the_partition() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 1);
    let (t, nobody) = (w.id("t"), Uuid([9; 16]));
    let topics = [(t, vec![(0, vec![]), (7, vec![])]), (nobody, vec![(0, vec![])])];
    let got = w.fetch_of(&mut a, WANT, &topics);
    assert_eq!(got.parts[&(t, 0)].acquired, [(0, 0, 1)]);
    assert_eq!(got.parts[&(t, 7)].error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(got.parts[&(nobody, 0)].error, ErrorCode::UNKNOWN_TOPIC_ID);
    // A group shares what its members subscribe to.
    let other = w.topic("other", 1);
    a.epoch = 0;
    let got = w.fetch_of(&mut a, WANT, &[(other, vec![(0, vec![])])]);
    assert_eq!(got.parts[&(other, 0)].error, ErrorCode::UNKNOWN_SERVER_ERROR);
}

#[test]
fn all_partitions_of_a_session_have_their_turn() {
    let mut w = World::new();
    let t = w.topic("t", 3);
    w.begin_at_the_start(G);
    let mut a = w.join("a", &["t"]);
    for partition in 0..3 {
        w.produce_to("t", partition, 4);
    }
    let topics = [(t, vec![(0, vec![]), (1, vec![]), (2, vec![])])];
    let want = Want { records: 1, ..WANT };
    let mut seen = Vec::new();
    for turn in 0..3 {
        let got = if turn == 0 { w.fetch_of(&mut a, want, &topics) } else { w.fetch(&mut a, want) };
        seen.extend(got.parts.iter().filter(|(_, part)| !part.acquired.is_empty()).map(|((_, index), _)| *index));
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
}
