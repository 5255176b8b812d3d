//! Owns the tests of what a broker gives up when a client has closed its side: whatever waits for it, and nothing else.

use chronik::broker::ConnId;
use chronik::wire::msg::*;
use chronik::wire::ErrorCode;

use crate::bounds::with_topic;
use crate::harness::Harness;
use crate::share::{World, WANT};

const PRODUCE: i16 = 0;

/// The client has left. Nothing is carried out for it any more, and what it sent behind that can be.
fn is_given_up(h: &mut Harness, conn: ConnId) {
    assert!(h.broker.owes(conn) && !h.broker.ready_for(conn, PRODUCE), "it waits");
    h.broker.abandon(h.now, conn);
    assert!(!h.broker.owes(conn) && h.broker.ready_for(conn, PRODUCE));
    h.call_on(conn, 0, &ApiVersionsRequest::default());
    h.pass_ms(600_000);
    h.settle();
    assert!(h.take_answers().iter().all(|answer| answer.conn != conn), "it is answered");
}

#[test]
fn a_fetch_that_waits_is_given_up_when_its_client_leaves() {
    let mut h = with_topic();
    let timed = h.broker.deadline_us();
    let conn = h.connect();
    let partitions = vec![FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }];
    let topics = vec![FetchTopic { topic: "t", partitions, ..Default::default() }];
    let (max_wait_ms, min_bytes, max_bytes) = (500, 1, 1 << 20);
    let request = FetchRequest { max_wait_ms, min_bytes, max_bytes, session_epoch: -1, topics, ..Default::default() };
    h.send(conn, 4, &request);
    assert_ne!(h.broker.deadline_us(), timed);
    h.broker.abandon(h.now, conn);
    assert_eq!(h.broker.deadline_us(), timed, "its timer goes with it");
    h.send(conn, 4, &request);
    is_given_up(&mut h, conn);
}

#[test]
fn a_share_fetch_that_waits_is_given_up_when_its_client_leaves() {
    let (mut w, mut member) = World::with_member();
    w.send_fetch(&mut member, WANT);
    is_given_up(&mut w.h, member.conn);
}

#[test]
fn a_join_that_waits_is_given_up_when_its_client_leaves_and_its_member_goes_in_time() {
    let mut h = with_topic();
    let join = |h: &mut Harness| {
        let conn = h.connect();
        let protocols = vec![JoinGroupRequestProtocol { name: "range", metadata: b"" }];
        let request = JoinGroupRequest {
            group_id: "g",
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 1_800_000,
            protocol_type: "consumer",
            protocols,
            ..Default::default()
        };
        h.send(conn, 2, &request);
        conn
    };
    let state = |h: &mut Harness| {
        let answer = h.call(0, &DescribeGroupsRequest { groups: vec!["g"], ..Default::default() });
        let told: DescribeGroupsResponse<'_> = answer.decode();
        (told.groups[0].error_code, told.groups[0].members.len())
    };
    let conns = [join(&mut h), join(&mut h)];
    assert_eq!(state(&mut h), (ErrorCode::NONE, 2));
    is_given_up(&mut h, conns[0]);
    h.broker.disconnected(h.now, conns[0]);
    h.broker.disconnected(h.now, conns[1]);
    h.pass_ms(600_000);
    h.settle();
    assert_eq!(state(&mut h).1, 0);
}

#[test]
fn what_waits_for_the_disk_is_not_given_up() {
    let mut h = with_topic();
    let conn = h.connect();
    let topic = CreatableTopic { name: "u", num_partitions: 1, replication_factor: 1, ..Default::default() };
    h.send(conn, 4, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    assert!(h.broker.owes(conn));
    h.broker.abandon(h.now, conn);
    assert!(h.broker.owes(conn));
    h.settle();
    assert!(!h.broker.owes(conn));
    assert_eq!(h.take_answers().len(), 1);
}
