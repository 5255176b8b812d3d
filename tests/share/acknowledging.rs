//! Owns the tests of acknowledgements, alone and along with a fetch.

use super::*;

const OK: ErrorCode = ErrorCode::NONE;
const STATE: ErrorCode = ErrorCode::INVALID_RECORD_STATE;
const REQUEST: ErrorCode = ErrorCode::INVALID_REQUEST;

#[test]
fn each_record_may_be_answered_differently() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 5);
    w.produce("t", 5);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(0, 9, 1)]);
    assert_eq!(w.start_and_lag("t", 0), (-1, -1), "Kafka tells a start from the first acknowledgement on");
    assert_eq!(w.ack(&mut a, &[(0, 4, &[ACCEPT, ACCEPT, REJECT, RELEASE, GAP])]), OK);
    assert_eq!(w.start_and_lag("t", 0), (3, 6), "3 and 5 to 9 are open, 4 is done with");
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(3, 3, 2)]);
    assert_eq!(w.ack(&mut a, &[(3, 3, &[ACCEPT]), (5, 9, &[ACCEPT])]), OK);
    assert_eq!(w.start_and_lag("t", 0), (10, 0));
    assert_eq!(w.fetch(&mut a, WANT).acquired(), []);
}

#[test]
fn only_who_has_a_record_may_answer_for_it() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 10);
    w.fetch(&mut a, WANT);
    let mut b = w.join("b", &["t"]);
    w.fetch(&mut b, WANT);
    assert_eq!(w.ack(&mut b, &[(0, 1, &[ACCEPT])]), STATE, "another member's");
    assert_eq!(w.ack(&mut a, &[(2, 3, &[RELEASE])]), OK);
    assert_eq!(w.ack(&mut a, &[(2, 2, &[ACCEPT])]), STATE, "given back");
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(2, 3, 2)]);
    assert_eq!(w.ack(&mut a, &[(2, 3, &[ACCEPT])]), STATE);
    assert_eq!(w.ack(&mut b, &[(2, 4, &[ACCEPT])]), STATE, "one of them is another member's, so none is accepted");
    assert_eq!(w.ack(&mut b, &[(2, 3, &[ACCEPT])]), OK);
    assert_eq!(w.ack(&mut b, &[(2, 3, &[ACCEPT])]), STATE, "accepted already");
    assert_eq!(w.ack(&mut a, &[(0, 1, &[ACCEPT])]), OK);
    assert_eq!(w.ack(&mut a, &[(0, 1, &[ACCEPT])]), OK, "done with, nothing is left to be said");
    assert_eq!(w.ack(&mut a, &[(5, 12, &[ACCEPT])]), REQUEST, "records that nobody was given");
    assert_eq!(w.ack(&mut a, &[(20, 21, &[ACCEPT])]), REQUEST);
}

#[test]
fn acknowledgements_that_contradict_themselves_are_refused() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 10);
    w.fetch(&mut a, WANT);
    let bad: [Acks<'_>; 8] = [
        &[(3, 2, &[ACCEPT])],
        &[(3, 3, &[])],
        &[(3, 5, &[ACCEPT, ACCEPT])],
        &[(3, 3, &[5])],
        &[(3, 3, &[-1])],
        &[(5, 7, &[ACCEPT]), (3, 4, &[ACCEPT])],
        &[(3, 4, &[ACCEPT]), (4, 5, &[ACCEPT])],
        &[(i64::MIN, i64::MAX, &[ACCEPT])],
    ];
    for acks in bad {
        assert_eq!(w.ack(&mut a, acks), REQUEST, "{acks:?}");
    }
    assert_eq!(w.ack(&mut a, &[(0, 9, &[ACCEPT])]), OK);
}

#[test]
fn one_that_is_refused_takes_its_partition_along() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 10);
    w.fetch(&mut a, WANT);
    assert_eq!(w.ack(&mut a, &[(0, 4, &[ACCEPT]), (5, 12, &[ACCEPT])]), REQUEST);
    assert_eq!(w.start_and_lag("t", 0), (-1, -1));
    assert_eq!(w.ack(&mut a, &[(0, 4, &[ACCEPT]), (5, 9, &[REJECT])]), OK);
    assert_eq!(w.start_and_lag("t", 0), (10, 0));
}

#[test]
fn a_lock_ends_exactly_in_time_and_can_be_renewed() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 2);
    w.fetch(&mut a, WANT);
    w.h.pass_ms(LOCK_MS - 1000);
    assert_eq!(w.ack(&mut a, &[(1, 1, &[RENEW])]), OK);
    w.h.pass_ms(999);
    let mut b = w.join("b", &["t"]);
    assert_eq!(w.fetch(&mut b, Want { wait_ms: 0, ..WANT }).acquired(), []);
    w.h.pass_ms(1);
    assert_eq!(w.ack(&mut a, &[(0, 0, &[ACCEPT])]), STATE, "too late");
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(0, 0, 2)]);
    w.h.pass_ms(LOCK_MS - 1000 - 1);
    assert_eq!(w.ack(&mut a, &[(1, 1, &[ACCEPT])]), OK, "renewed");
    assert_eq!(w.ack(&mut b, &[(0, 0, &[ACCEPT])]), OK);
    assert_eq!(w.start_and_lag("t", 0), (2, 0));
}

#[test]
fn renewing_has_to_be_announced_and_can_be_forbidden() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 2);
    w.fetch(&mut a, WANT);
    let acknowledge = |w: &mut World, version: i16, is_renew_ack: bool, a: &mut Member| {
        let acknowledgement_batches = batches(&[(0, 0, &[RENEW])]);
        let partitions = vec![AcknowledgePartition { partition_index: 0, acknowledgement_batches }];
        let request = ShareAcknowledgeRequest {
            group_id: Some(G),
            member_id: Some(&a.id),
            share_session_epoch: a.epoch,
            is_renew_ack,
            topics: vec![AcknowledgeTopic { topic_id: w.id("t"), partitions }],
        };
        let answer = w.h.call_on(a.conn, version, &request);
        a.epoch += 1;
        let response: ShareAcknowledgeResponse<'_> = answer.decode();
        response.responses[0].partitions[0].error_code
    };
    assert_eq!(acknowledge(&mut w, 1, false, &mut a), REQUEST);
    assert_eq!(acknowledge(&mut w, 2, false, &mut a), REQUEST);
    assert_eq!(acknowledge(&mut w, 2, true, &mut a), OK);
    w.configure(G, "share.renew.acknowledge.enable", "false");
    assert_eq!(acknowledge(&mut w, 2, true, &mut a), REQUEST);
}

#[test]
fn what_was_delivered_too_often_is_archived() {
    let (mut w, mut a) = World::with_member();
    w.configure(G, "share.delivery.count.limit", "2");
    w.produce("t", 3);
    w.fetch(&mut a, WANT);
    w.h.pass_ms(LOCK_MS);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(0, 2, 2)]);
    w.ack(&mut a, &[(0, 0, &[RELEASE])]);
    assert_eq!(w.start_and_lag("t", 0), (1, 2), "released for the last time");
    w.h.pass_ms(LOCK_MS);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), []);
    assert_eq!(w.start_and_lag("t", 0), (3, 0));
}

#[test]
fn acknowledgements_may_come_along_with_a_fetch() {
    let (mut w, mut a) = World::with_member();
    let t = w.id("t");
    w.produce("t", 5);
    w.produce("t", 5);
    w.fetch(&mut a, Want { records: 1, ..WANT });
    let acks = batches(&[(0, 3, &[ACCEPT]), (4, 4, &[RELEASE])]);
    let got = w.fetch_of(&mut a, WANT, &[(t, vec![(0, acks)])]);
    let part = &got.parts[&(t, 0)];
    assert_eq!((part.ack_error, &part.acquired[..]), (OK, &[(4, 4, 2), (5, 9, 1)][..]));
    // What is refused is told, and records come nevertheless.
    w.produce("t", 1);
    let got = w.fetch_of(&mut a, WANT, &[(t, vec![(0, batches(&[(20, 20, &[ACCEPT])]))])]);
    let part = &got.parts[&(t, 0)];
    assert_eq!((part.ack_error, part.error, &part.acquired[..]), (REQUEST, OK, &[(10, 10, 1)][..]));
    let got = w.fetch_of(&mut a, WANT, &[(t, vec![(0, batches(&[(4, 9, &[ACCEPT])]))])]);
    assert_eq!(got.parts[&(t, 0)].ack_error, OK, "told although there are no records");
}

#[test]
fn a_fetch_that_renews_fetches_nothing() {
    let (mut w, mut a) = World::with_member();
    let t = w.id("t");
    w.produce("t", 2);
    w.fetch(&mut a, WANT);
    w.produce("t", 2);
    let renew = |a: &Member, max_records: i32| ShareFetchRequest {
        group_id: Some(G),
        share_session_epoch: a.epoch,
        max_bytes: 0,
        max_records,
        is_renew_ack: true,
        topics: vec![ShareFetchTopic {
            topic_id: t,
            partitions: vec![ShareFetchPartition {
                acknowledgement_batches: batches(&[(0, 1, &[RENEW, ACCEPT])]),
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let id = a.id.clone();
    let answer = w.h.call_on(a.conn, 2, &ShareFetchRequest { member_id: Some(&id), ..renew(&a, 5) });
    assert_eq!(fetched(&answer).error, REQUEST, "either renew or fetch");
    let answer = w.h.call_on(a.conn, 2, &ShareFetchRequest { member_id: Some(&id), ..renew(&a, 0) });
    let part = &fetched(&answer).parts[&(t, 0)];
    assert_eq!((part.ack_error, part.acquired.len()), (OK, 0));
    assert_eq!(w.start_and_lag("t", 0), (0, 3));
}

#[test]
fn an_acknowledgement_is_answered_once_it_is_durable() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 1);
    w.fetch(&mut a, WANT);
    let partitions =
        vec![AcknowledgePartition { partition_index: 0, acknowledgement_batches: batches(&[(0, 0, &[ACCEPT])]) }];
    let request = ShareAcknowledgeRequest {
        group_id: Some(G),
        member_id: Some("m"),
        share_session_epoch: a.epoch,
        topics: vec![AcknowledgeTopic { topic_id: w.id("t"), partitions }],
        ..Default::default()
    };
    let id = w.h.send(a.conn, 2, &request);
    assert!(w.answered(a.conn, id).is_none());
    assert!(w.h.write_one_group());
    assert!(w.answered(a.conn, id).is_some());
}
