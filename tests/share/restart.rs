//! Owns the tests of what survives a crash.

use super::*;

#[test]
fn what_was_acknowledged_stays_so_and_the_rest_is_handed_out_again() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 10);
    w.fetch(&mut a, WANT);
    w.ack(&mut a, &[(2, 3, &[ACCEPT]), (5, 5, &[REJECT]), (8, 9, &[RELEASE])]);
    w.restart();
    let mut b = w.join("b", &["t"]);
    let got = w.fetch(&mut b, WANT).acquired();
    assert_eq!(got, [(0, 1, 1), (4, 4, 1), (6, 7, 1), (8, 9, 2)], "deliveries that ended count");
    w.ack(&mut b, &[(0, 1, &[ACCEPT]), (4, 4, &[ACCEPT]), (6, 9, &[ACCEPT])]);
    assert_eq!(w.start_and_lag("t", 0), (10, 0));
    w.restart();
    assert_eq!(w.start_and_lag("t", 0), (10, 0));
    w.produce("t", 1);
    let mut c = w.join("c", &["t"]);
    assert_eq!(w.fetch(&mut c, WANT).acquired(), [(10, 10, 1)]);
}

#[test]
fn a_checkpoint_holds_the_same() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 10);
    w.fetch(&mut a, WANT);
    w.ack(&mut a, &[(2, 3, &[ACCEPT]), (8, 9, &[RELEASE])]);
    w.h.checkpoint();
    assert_eq!(w.described(G).3, ["m"]);
    assert_eq!(w.start_and_lag("t", 0), (0, 8));
    let mut b = w.join("b", &["t"]);
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(0, 1, 1), (4, 7, 1), (8, 9, 2)]);
}

#[test]
fn a_group_that_started_at_the_end_does_not_move_with_a_crash() {
    let mut w = World::new();
    w.topic("t", 1);
    w.produce("t", 3);
    let mut a = w.join("a", &["t"]);
    w.fetch(&mut a, WANT);
    w.produce("t", 2);
    w.restart();
    let mut b = w.join("b", &["t"]);
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(3, 4, 1)], "Kafka would start at the end again and lose these");
}

#[test]
fn members_go_on_and_have_their_whole_session_again() {
    let mut w = World::new();
    let t = w.topic("t", 2);
    w.beat(G, "a", 0, Some(&["t"]));
    w.beat(G, "b", 0, Some(&["t"]));
    w.h.pass_ms(44_000);
    w.restart();
    w.h.pass_ms(44_000);
    let (error, epoch, assignment) = w.beat(G, "b", 3, None);
    assert_eq!((error, epoch), (ErrorCode::NONE, 3));
    assert_eq!(assignment.map(|assignment| assignment[&t].len()), Some(1), "told again");
    assert_eq!(w.beat(G, "b", 3, None).2, None);
    w.h.pass_ms(1000);
    assert_eq!(w.described(G).3, ["b"]);
}

#[test]
fn topics_that_changed_just_before_are_followed() {
    let mut w = World::new();
    w.topic("t", 1);
    w.beat(G, "a", 0, Some(&["t", "new"]));
    let new = w.topic("new", 1);
    w.restart();
    let (error, _, assignment) = w.beat(G, "a", 2, None);
    assert_eq!(error, ErrorCode::NONE);
    assert_eq!(assignment.unwrap().get(&new), Some(&vec![0]));
    w.restart();
    let topics = vec![DeleteTopicState { name: Some("new"), ..Default::default() }];
    w.h.call(6, &DeleteTopicsRequest { topics, timeout_ms: 1000, ..Default::default() });
    w.restart();
    let (error, _, assignment) = w.beat(G, "a", 0, Some(&["t", "new"]));
    assert_eq!(error, ErrorCode::NONE);
    assert!(!assignment.unwrap().contains_key(&new));
}

#[test]
fn sessions_end_with_the_broker() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 1);
    w.fetch(&mut a, WANT);
    w.restart();
    a.conn = w.h.connect();
    assert_eq!(w.fetch_of(&mut a, WANT, &[]).error, ErrorCode::SHARE_SESSION_NOT_FOUND);
    a.epoch = 0;
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(0, 0, 1)]);
}

#[test]
fn deleted_records_stay_deleted() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 5);
    w.fetch(&mut a, WANT);
    w.ack(&mut a, &[(4, 4, &[RELEASE])]);
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 3 }];
    let topics = vec![DeleteRecordsTopic { name: "t", partitions }];
    w.h.call(2, &DeleteRecordsRequest { topics, timeout_ms: 1000 });
    w.restart();
    let mut b = w.join("b", &["t"]);
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(3, 3, 1), (4, 4, 2)]);
}

#[test]
fn cold_records_of_many_batches_are_found_by_a_reader() {
    let (mut w, mut a) = World::with_member();
    w.fetch(&mut a, Want { wait_ms: 0, ..WANT });
    for _ in 0..30 {
        w.produce("t", 3);
    }
    w.restart();
    let mut b = w.join("b", &["t"]);
    let mut seen = 0;
    while seen < 90 {
        for (first, last, count) in w.fetch(&mut b, Want { records: 20, ..WANT }).acquired() {
            assert_eq!((first, count), (seen, 1));
            seen = last + 1;
        }
    }
    assert_eq!(w.ack(&mut b, &[(0, 89, &[ACCEPT])]), ErrorCode::NONE);
    assert_eq!(w.start_and_lag("t", 0), (90, 0));
}
