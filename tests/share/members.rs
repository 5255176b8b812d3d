//! Owns the tests of ShareGroupHeartbeat and ShareGroupDescribe.

use super::*;

#[test]
fn a_member_joins_is_assigned_and_leaves() {
    let mut w = World::new();
    let t = w.topic("t", 2);
    let (error, epoch, assignment) = w.beat(G, "m", 0, Some(&["t", "nope"]));
    assert_eq!((error, epoch), (ErrorCode::NONE, 2));
    assert_eq!(assignment, Some(BTreeMap::from([(t, vec![0, 1])])));
    assert_eq!(w.beat(G, "m", 2, None), (ErrorCode::NONE, 2, None));
    assert_eq!(w.described(G), (ErrorCode::NONE, "Stable".into(), 2, vec!["m".into()]));
    assert_eq!(w.beat(G, "m", -1, None), (ErrorCode::NONE, -1, None));
    assert_eq!(w.beat(G, "m", -1, None).0, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.described(G), (ErrorCode::NONE, "Empty".into(), 3, vec![]));
}

#[test]
fn members_share_partitions_and_follow_each_other() {
    let mut w = World::new();
    let t = w.topic("t", 2);
    w.beat(G, "a", 0, Some(&["t"]));
    let (_, epoch, assignment) = w.beat(G, "b", 0, Some(&["t"]));
    let b = assignment.unwrap();
    assert_eq!((epoch, b[&t].len()), (3, 1));
    let (_, epoch, assignment) = w.beat(G, "a", 2, None);
    let a = assignment.unwrap();
    assert_eq!((epoch, a[&t].len()), (3, 1));
    assert_ne!(a, b);
    w.beat(G, "b", -1, None);
    assert_eq!(w.beat(G, "a", 3, None), (ErrorCode::NONE, 4, Some(BTreeMap::from([(t, vec![0, 1])]))));
    assert_eq!(w.beat(G, "a", 4, None), (ErrorCode::NONE, 4, None));
}

#[test]
fn epochs_fence_members_but_forgive_a_lost_answer() {
    let mut w = World::new();
    w.topic("t", 1);
    w.beat(G, "a", 0, Some(&["t"]));
    w.beat(G, "b", 0, Some(&["t"]));
    assert_eq!(w.beat(G, "a", 2, None).1, 3);
    assert_eq!(w.beat(G, "a", 2, None).0, ErrorCode::NONE, "the epoch before");
    assert_eq!(w.beat(G, "a", 1, None).0, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(w.beat(G, "a", 4, None).0, ErrorCode::FENCED_MEMBER_EPOCH);
    let (error, epoch, assignment) = w.beat(G, "a", 0, Some(&["t"]));
    assert_eq!((error, epoch), (ErrorCode::NONE, 3));
    assert!(assignment.is_some(), "whoever joins again is told its assignment");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut w = World::new();
    w.topic("t", 1);
    w.beat(G, "a", 0, Some(&["t"]));
    let long = "m".repeat(37);
    for (group, member, epoch, topics, error) in [
        ("", "m", 0, Some(&["t"][..]), ErrorCode::INVALID_REQUEST),
        (G, "", 0, Some(&["t"]), ErrorCode::INVALID_REQUEST),
        (G, &long, 0, Some(&["t"]), ErrorCode::INVALID_REQUEST),
        (G, "m", 0, None, ErrorCode::INVALID_REQUEST),
        (G, "m", 0, Some(&[]), ErrorCode::INVALID_REQUEST),
        (G, "m", -2, Some(&["t"]), ErrorCode::INVALID_REQUEST),
        (G, "m", 5, Some(&["t"]), ErrorCode::UNKNOWN_MEMBER_ID),
        (G, "m", -1, None, ErrorCode::UNKNOWN_MEMBER_ID),
        ("other", "m", 5, None, ErrorCode::GROUP_ID_NOT_FOUND),
        ("other", "m", -1, None, ErrorCode::GROUP_ID_NOT_FOUND),
    ] {
        assert_eq!(w.beat(group, member, epoch, topics).0, error, "{group:?} {member:?} {epoch}");
    }
    assert_eq!(w.described("other").0, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(w.described("").0, ErrorCode::INVALID_GROUP_ID);
}

#[test]
fn topics_that_come_grow_and_go_begin_a_new_epoch() {
    let mut w = World::new();
    w.topic("t", 1);
    assert_eq!(w.beat(G, "m", 0, Some(&["t", "later"])).1, 2);
    w.topic("unrelated", 1);
    assert_eq!(w.beat(G, "m", 2, None), (ErrorCode::NONE, 2, None));
    let later = w.topic("later", 1);
    let (_, epoch, assignment) = w.beat(G, "m", 2, None);
    assert_eq!((epoch, assignment.unwrap().get(&later)), (3, Some(&vec![0])));
    let topics = vec![CreatePartitionsTopic { name: "later", count: 3, ..Default::default() }];
    w.h.call(2, &CreatePartitionsRequest { topics, timeout_ms: 1000, ..Default::default() });
    let (_, epoch, assignment) = w.beat(G, "m", 3, None);
    assert_eq!((epoch, assignment.unwrap().get(&later)), (4, Some(&vec![0, 1, 2])));
    let topics = vec![DeleteTopicState { name: Some("later"), ..Default::default() }];
    w.h.call(6, &DeleteTopicsRequest { topics, timeout_ms: 1000, ..Default::default() });
    let (_, epoch, assignment) = w.beat(G, "m", 4, None);
    assert_eq!((epoch, assignment.unwrap().contains_key(&later)), (5, false));
    assert_eq!(w.beat(G, "m", 5, Some(&["later"])).1, 6);
}

#[test]
fn a_member_that_is_silent_is_removed() {
    let mut w = World::new();
    let t = w.topic("t", 1);
    w.beat(G, "a", 0, Some(&["t"]));
    w.beat(G, "b", 0, Some(&["t"]));
    w.h.pass_ms(30_000);
    w.beat(G, "b", 3, None);
    w.h.pass_ms(14_999);
    assert_eq!(w.described(G).3, ["a", "b"]);
    w.h.pass_ms(1);
    assert_eq!(w.described(G).3, ["b"]);
    assert_eq!(w.beat(G, "a", 2, None).0, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.beat(G, "b", 3, None), (ErrorCode::NONE, 4, None), "it had the partition before");
    assert_eq!(w.beat(G, "b", 0, Some(&["t"])).2, Some(BTreeMap::from([(t, vec![0])])));
}

#[test]
fn a_group_takes_only_so_many_members() {
    let mut config = Config::default();
    config.share.max_size = 2;
    let mut w = World::with(config);
    w.topic("t", 1);
    w.beat(G, "a", 0, Some(&["t"]));
    w.beat(G, "b", 0, Some(&["t"]));
    assert_eq!(w.beat(G, "c", 0, Some(&["t"])).0, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(w.beat(G, "b", 0, Some(&["t"])).0, ErrorCode::NONE);
}

/// Type, state of each listed group.
fn listed(w: &mut World, types: &[&str]) -> Vec<(String, String, String)> {
    let answer = w.h.call(5, &ListGroupsRequest { types_filter: types.to_vec(), ..Default::default() });
    let response: ListGroupsResponse<'_> = answer.decode();
    let told = |g: &ListedGroup<'_>| (g.group_id.to_owned(), g.group_type.to_owned(), g.group_state.to_owned());
    response.groups.iter().map(told).collect()
}

fn delete(w: &mut World, group: &str) -> ErrorCode {
    let answer = w.h.call(2, &DeleteGroupsRequest { groups_names: vec![group] });
    let response: DeleteGroupsResponse<'_> = answer.decode();
    response.results[0].error_code
}

#[test]
fn groups_of_all_kinds_share_one_namespace() {
    let mut w = World::new();
    w.topic("t", 1);
    w.beat(G, "m", 0, Some(&["t"]));
    assert_eq!(listed(&mut w, &[]), [(G.into(), "share".into(), "Stable".into())]);
    assert_eq!(listed(&mut w, &["classic"]), []);
    assert_eq!(delete(&mut w, G), ErrorCode::NON_EMPTY_GROUP);
    w.restart();
    assert_eq!(listed(&mut w, &["share"]), [(G.into(), "share".into(), "Stable".into())]);
    w.beat(G, "m", -1, None);
    assert_eq!(listed(&mut w, &["share"]), [(G.into(), "share".into(), "Empty".into())]);
    assert_eq!(delete(&mut w, G), ErrorCode::NONE);
    assert_eq!(delete(&mut w, G), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(listed(&mut w, &[]), []);
    w.restart();
    assert_eq!(listed(&mut w, &[]), []);
    // A classic group has its id for itself.
    let topics = vec![OffsetCommitRequestTopic {
        name: "t",
        partitions: vec![OffsetCommitRequestPartition { committed_offset: 0, ..Default::default() }],
        ..Default::default()
    }];
    let commit = OffsetCommitRequest { group_id: G, topics, generation_id_or_member_epoch: -1, ..Default::default() };
    w.h.call(8, &commit);
    assert_eq!(w.beat(G, "m", 0, Some(&["t"])).0, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(w.alter("t", 0), ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn the_coordinator_of_a_share_partition_is_this_broker() {
    let mut w = World::new();
    let good = format!("g:a:{}:0", w.topic("t", 1));
    let coordinator_keys = vec![&*good, "g", "g:0"];
    let answer = w.h.call(6, &FindCoordinatorRequest { key_type: 2, coordinator_keys, ..Default::default() });
    let response: FindCoordinatorResponse<'_> = answer.decode();
    let told: Vec<_> = response.coordinators.iter().map(|c| (c.error_code, c.node_id)).collect();
    let invalid = (ErrorCode::INVALID_REQUEST, -1);
    assert_eq!(told, [(ErrorCode::NONE, 1), invalid, invalid]);
}
