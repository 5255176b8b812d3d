//! Owns the tests of share sessions.

use super::*;

#[test]
fn requests_of_a_session_come_one_after_the_other() {
    let (mut w, mut a) = World::with_member();
    let mut unknown = Member { epoch: 3, ..a.clone() };
    assert_eq!(w.fetch_of(&mut unknown, WANT, &[]).error, ErrorCode::SHARE_SESSION_NOT_FOUND);
    unknown.epoch = 3;
    assert_eq!(w.ack_of(&mut unknown, &[]).0, ErrorCode::SHARE_SESSION_NOT_FOUND);
    unknown.epoch = 0;
    assert_eq!(w.ack_of(&mut unknown, &[]).0, ErrorCode::INVALID_SHARE_SESSION_EPOCH, "only a fetch opens one");
    unknown.epoch = -1;
    assert_eq!(w.ack_of(&mut unknown, &[]).0, ErrorCode::SHARE_SESSION_NOT_FOUND);
    w.fetch(&mut a, WANT);
    for epoch in [2, 3, 100] {
        let mut wrong = Member { epoch, ..a.clone() };
        assert_eq!(w.fetch_of(&mut wrong, WANT, &[]).error, ErrorCode::INVALID_SHARE_SESSION_EPOCH);
    }
    assert_eq!(w.fetch(&mut a, WANT).error, ErrorCode::NONE);
    assert_eq!(w.ack_of(&mut a, &[]).0, ErrorCode::NONE, "acknowledgements count in the same row");
    assert_eq!(w.fetch(&mut a, WANT).error, ErrorCode::NONE);
}

#[test]
fn a_session_needs_names_and_begins_without_acknowledgements() {
    let (mut w, a) = World::with_member();
    let request = ShareFetchRequest { group_id: None, member_id: Some("m"), ..Default::default() };
    assert_eq!(fetched(&w.h.call(2, &request)).error, ErrorCode::INVALID_REQUEST);
    let request = ShareFetchRequest { group_id: Some(G), member_id: None, ..Default::default() };
    assert_eq!(fetched(&w.h.call(2, &request)).error, ErrorCode::INVALID_REQUEST);
    let request = ShareFetchRequest { group_id: Some(G), member_id: Some(""), ..Default::default() };
    assert_eq!(fetched(&w.h.call(2, &request)).error, ErrorCode::INVALID_REQUEST);
    let request =
        ShareFetchRequest { group_id: Some(G), member_id: Some("m"), share_acquire_mode: 7, ..Default::default() };
    assert_eq!(fetched(&w.h.call(2, &request)).error, ErrorCode::INVALID_REQUEST);
    let mut opens = Member { epoch: 0, ..a };
    let got = w.fetch_of(&mut opens, WANT, &[(w.id("t"), vec![(0, batches(&[(0, 0, &[ACCEPT])]))])]);
    assert_eq!(got.error, ErrorCode::INVALID_REQUEST);
}

#[test]
fn partitions_are_remembered_added_and_forgotten() {
    let mut w = World::new();
    let t = w.topic("t", 2);
    w.begin_at_the_start(G);
    let mut a = w.join("a", &["t"]);
    w.produce_to("t", 0, 1);
    w.produce_to("t", 1, 1);
    let got = w.fetch_of(&mut a, WANT, &[(t, vec![(0, vec![])])]);
    assert_eq!(got.parts.keys().collect::<Vec<_>>(), [&(t, 0)]);
    let got = w.fetch_of(&mut a, WANT, &[(t, vec![(1, vec![])])]);
    assert_eq!(got.parts.keys().collect::<Vec<_>>(), [&(t, 1)]);
    let request = ShareFetchRequest {
        group_id: Some(G),
        member_id: Some("a"),
        share_session_epoch: a.epoch,
        max_bytes: 1000,
        max_records: 10,
        forgotten_topics_data: vec![ShareFetchForgottenTopic { topic_id: t, partitions: vec![0] }],
        ..Default::default()
    };
    w.h.call_on(a.conn, 2, &request);
    a.epoch += 1;
    w.produce_to("t", 0, 1);
    w.produce_to("t", 1, 1);
    let got = w.fetch(&mut a, WANT);
    assert_eq!(got.parts.keys().collect::<Vec<_>>(), [&(t, 1)]);
}

#[test]
fn closing_a_session_gives_back_what_was_acquired_in_it() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 4);
    w.fetch(&mut a, WANT);
    a.epoch = -1;
    let (error, parts) = w.ack_of(&mut a, &[(w.id("t"), 0, &[(0, 1, &[ACCEPT])])]);
    assert_eq!((error, parts), (ErrorCode::NONE, vec![ErrorCode::NONE]));
    let mut b = w.join("b", &["t"]);
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(2, 3, 2)]);
    // The same with the last fetch.
    b.epoch = -1;
    let got = w.fetch_of(&mut b, WANT, &[(w.id("t"), vec![(0, batches(&[(2, 2, &[ACCEPT])]))])]);
    assert_eq!((got.error, got.parts[&(w.id("t"), 0)].acquired.len()), (ErrorCode::NONE, 0));
    a.epoch = 0;
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(3, 3, 3)]);
    assert_eq!(w.close_session(&mut a), ErrorCode::NONE);
    assert_eq!(w.close_session(&mut a), ErrorCode::SHARE_SESSION_NOT_FOUND);
}

#[test]
fn a_connection_that_breaks_ends_its_sessions() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 4);
    w.fetch(&mut a, WANT);
    let mut b = w.join("b", &["t"]);
    let id = w.send_fetch(&mut b, Want { wait_ms: 5000, ..WANT });
    w.h.settle();
    w.h.broker.disconnected(w.h.now, a.conn);
    w.h.settle();
    let answer = w.answered(b.conn, id).expect("woken");
    assert_eq!(fetched(&answer).acquired(), [(0, 3, 2)]);
    a.conn = w.h.connect();
    assert_eq!(w.fetch_of(&mut a, WANT, &[]).error, ErrorCode::SHARE_SESSION_NOT_FOUND);
}

#[test]
fn opening_a_session_again_keeps_what_was_acquired() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 4);
    w.fetch(&mut a, WANT);
    a.epoch = 0;
    assert_eq!(w.fetch(&mut a, Want { wait_ms: 0, ..WANT }).acquired(), []);
    assert_eq!(w.ack(&mut a, &[(0, 3, &[ACCEPT])]), ErrorCode::NONE);
}

#[test]
fn a_fetch_whose_connection_breaks_takes_nothing() {
    let (mut w, mut a) = World::with_member();
    w.send_fetch(&mut a, Want { wait_ms: 5000, ..WANT });
    w.h.broker.disconnected(w.h.now, a.conn);
    w.produce("t", 2);
    let mut b = w.join("b", &["t"]);
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(0, 1, 1)]);
}

#[test]
fn there_are_only_so_many_sessions() {
    let mut config = Config::default();
    config.share.max_share_sessions = 1;
    let mut w = World::with(config);
    w.topic("t", 1);
    w.begin_at_the_start(G);
    let mut a = w.join("a", &["t"]);
    let mut b = w.join("b", &["t"]);
    w.fetch(&mut a, WANT);
    let id = w.send_fetch(&mut b, WANT);
    w.h.settle();
    assert!(w.answered(b.conn, id).is_none(), "told when the client's time is up, so that it does not ask at once");
    assert_eq!(w.answer_of(&b, id, 500).error, ErrorCode::SHARE_SESSION_LIMIT_REACHED);
    w.close_session(&mut a);
    b.epoch = 0;
    assert_eq!(w.fetch(&mut b, WANT).error, ErrorCode::NONE);
}

#[test]
fn a_server_that_stops_answers_who_waits() {
    let (mut w, mut a) = World::with_member();
    let id = w.send_fetch(&mut a, Want { wait_ms: 60_000, ..WANT });
    w.h.broker.stop(w.h.now);
    w.h.settle();
    let answer = w.answered(a.conn, id).expect("answered");
    assert_eq!(fetched(&answer).acquired(), []);
    assert!(w.h.broker.is_drained());
}
