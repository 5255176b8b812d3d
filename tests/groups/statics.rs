//! Owns the tests of static members (KIP-345).

use super::*;

fn member(instance: &str) -> Join {
    Join { session_ms: 60_000, ..Join::default().with_instance(instance) }
}

#[test]
fn static_members_need_no_second_join() {
    let mut w = World::new();
    let joined = w.join_now(&member("a"));
    assert_eq!(joined.error, ErrorCode::NONE);
    assert!(joined.member_id.starts_with("a-"), "{}", joined.member_id);
    assert_eq!(joined.members[0].1.as_deref(), Some("a"));
}

#[test]
fn a_static_follower_that_restarts_causes_no_rebalance() {
    let mut w = World::new();
    let members = w.stable(&[member("a"), member("b")]);
    let back = w.join_now(&member("b"));
    assert_eq!((back.error, back.generation, back.skip), (ErrorCode::NONE, 2, false));
    assert_ne!(back.member_id, members[1].id);
    assert_eq!((w.state(), back.leader.as_str()), (Some(GroupState::Stable), members[0].id.as_str()));
    let ticket = w.sync(&back.member_id, 2, &[]);
    assert_eq!(w.synced(ticket).1, members[1].assignment, "it has what it had");
    // The former one is fenced.
    assert_eq!(w.heartbeat_as(&members[1].id, Some("b"), 2), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(w.heartbeat(&members[1].id, 2), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.heartbeat_as(&back.member_id, Some("b"), 2), ErrorCode::NONE);
    let old = w.join_now(&member("b").with_id(&members[1].id));
    assert_eq!(old.error, ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn a_static_leader_that_restarts_need_not_assign() {
    let mut w = World::new();
    let members = w.stable(&[member("a"), member("b")]);
    let back = w.join_now(&member("a"));
    assert!(back.leads() && back.skip && back.members.len() == 2);
    let again = w.join_now(&member("a").with_version(8));
    // Before version 9 it must not take itself for the leader.
    assert!(!again.leads() && !again.skip && again.members.is_empty());
    assert_eq!(again.leader, back.member_id);
    assert_eq!(w.state(), Some(GroupState::Stable));
    let ticket = w.sync(&again.member_id, 2, &[]);
    assert_eq!(w.synced(ticket).1, members[0].assignment);
    // It leads nevertheless: its next join with its id is a rebalance.
    w.join(&member("a").with_id(&again.member_id));
    assert_eq!(w.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn a_static_member_that_comes_back_changed_causes_a_rebalance() {
    for changed in
        [member("b").with_protocols(&["other", "range"]).with_topics(&["u"]), member("b").with_topics(&["u"])]
    {
        let mut w = World::new();
        w.stable(&[member("a"), member("b")]);
        w.join(&changed);
        assert_eq!(w.state(), Some(GroupState::PreparingRebalance));
    }
    // What only says what the member once owned is no change.
    let mut w = World::new();
    w.stable(&[member("a"), member("b")]);
    let mut owned = subscription(&["t"]);
    owned.truncate(owned.len() - 4);
    owned.extend_from_slice(&[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5]);
    let back = w.join_now(&Join { protocols: vec![("range".into(), owned)], ..member("b") });
    assert_eq!((back.generation, w.state()), (2, Some(GroupState::Stable)));
}

#[test]
fn a_twin_that_waits_is_fenced_at_once() {
    let mut w = World::new();
    let members = w.stable(&[member("a"), member("b")]);
    let twin = w.join(&member("b").with_topics(&["u"]).with_id(&members[1].id));
    let back = w.join(&member("b"));
    assert_eq!(w.joined(twin).error, ErrorCode::FENCED_INSTANCE_ID);
    let leader = w.join_now(&member("a").with_id(&members[0].id));
    let back = w.joined(back);
    // The same for one that waits for its assignment; the leader has been told the old id, so all begin anew.
    let sync = w.sync(&back.member_id, leader.generation, &[]);
    w.join(&member("b"));
    assert_eq!(w.synced(sync).0, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(w.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn absent_static_members_keep_their_place_until_the_assignment_is_due() {
    let mut w = World::new();
    let members = w.stable(&[member("a"), member("b")]);
    let id = w.new_id(&Join::default());
    let new = w.join(&Join::default().with_id(&id));
    w.pass_ms(REBALANCE_MS as u64);
    let new = w.joined(new);
    assert!(new.leads());
    assert_eq!(new.members.len(), 3, "static members that are away keep their place");
    w.heartbeat(&id, new.generation);
    assert_eq!(w.heartbeat_as(&members[0].id, Some("a"), 2), ErrorCode::ILLEGAL_GENERATION);
    let ticket = w.sync(&id, new.generation, &[]);
    assert_eq!(w.synced(ticket).0, ErrorCode::NONE);
    for _ in 0..6 {
        w.pass_ms(5_000);
        w.heartbeat(&id, new.generation);
    }
    assert_eq!(w.size(), 1);
}

#[test]
fn a_rebalance_that_only_absent_static_members_could_join_ends_with_their_sessions() {
    let mut w = World::new();
    let members = w.stable(&[member("a"), member("b")]);
    w.leave(&[(&members[0].id, Some("a"))]);
    assert_eq!(w.state(), Some(GroupState::PreparingRebalance));
    w.pass_ms(59_999);
    assert_eq!((w.state(), w.size()), (Some(GroupState::PreparingRebalance), 1));
    w.pass_ms(1);
    assert_eq!((w.state(), w.size()), (Some(GroupState::Empty), 0));
}

#[test]
fn administrators_remove_static_members_by_instance_id() {
    let mut w = World::new();
    let members = w.stable(&[member("a"), member("b")]);
    let results = w.leave(&[("", Some("a")), ("", Some("x")), ("", None), (&members[0].id, Some("b"))]);
    let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
    assert_eq!(results, [ErrorCode::NONE, unknown, unknown, ErrorCode::FENCED_INSTANCE_ID]);
    assert_eq!(w.size(), 1);
}

#[test]
fn an_id_handed_out_is_not_for_a_static_member() {
    let mut w = World::new();
    let id = w.new_id(&Join::default());
    assert_eq!(w.join_now(&member("a").with_id(&id)).error, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.join_now(&Join::default().with_id(&id)).error, ErrorCode::NONE);
}
