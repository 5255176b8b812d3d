//! Owns the tests of what a restart keeps.

use super::*;

#[test]
fn after_a_restart_members_go_on_in_the_same_generation() {
    let mut w = World::new();
    let a = Join::default().with_protocols(&["range", "sticky"]);
    let b = Join::default().with_instance("b").with_protocols(&["range", "sticky"]);
    let members = w.stable(&[a.clone(), b.clone()]);
    w.commit(&members[0].id, 2, "t", 0, 42);
    w.restart();
    assert_eq!(w.state(), Some(GroupState::Stable));
    for m in &members {
        assert_eq!(w.heartbeat(&m.id, 2), ErrorCode::NONE);
        let ticket = w.sync(&m.id, 2, &[]);
        assert_eq!(w.synced(ticket), (ErrorCode::NONE, m.assignment.clone()));
    }
    assert_eq!(w.commit(&members[1].id, 2, "t", 1, 43), ErrorCode::NONE);
    assert_eq!(w.fetch_all(G), [("t".into(), 0, 42), ("t".into(), 1, 43)]);
    // A follower that joins again unchanged is still unchanged, with all its protocols.
    let follower = if members[0].id.starts_with('b') { a.with_id(&members[1].id) } else { b.with_id(&members[1].id) };
    assert_eq!(w.join_now(&follower).generation, 2);
    assert_eq!(w.state(), Some(GroupState::Stable));
}

#[test]
fn after_a_restart_sessions_run_in_full() {
    let mut w = World::new();
    let members = w.stable(&[Join::default()]);
    w.pass_ms(9_999);
    w.restart();
    w.pass_ms(9_999);
    assert_eq!(w.heartbeat(&members[0].id, 1), ErrorCode::NONE);
    w.pass_ms(10_000);
    assert_eq!(w.state(), Some(GroupState::Empty));
    w.restart();
    assert_eq!((w.state(), w.groups.timers()), (Some(GroupState::Empty), 1));
}

#[test]
fn a_member_that_does_not_come_back_after_a_restart_is_removed() {
    let mut w = World::new();
    w.stable(&[Join::default()]);
    w.restart();
    w.pass_ms(9_999);
    assert_eq!(w.state(), Some(GroupState::Stable));
    w.pass_ms(1);
    assert_eq!(w.state(), Some(GroupState::Empty));
}

#[test]
fn a_rebalance_that_a_crash_cut_short_falls_back_to_the_last_generation() {
    let mut w = World::new();
    let members = w.stable(&[Join::default()]);
    let id = w.new_id(&Join::default());
    w.join(&Join::default().with_id(&id));
    let leader = w.join_now(&Join::default().with_id(&members[0].id));
    assert_eq!(leader.generation, 2);
    w.restart();
    assert_eq!(w.heartbeat(&members[0].id, 2), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(w.heartbeat(&members[0].id, 1), ErrorCode::NONE);
    let ticket = w.sync(&id, 2, &[]);
    assert_eq!(w.synced(ticket).0, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_replaced_static_member_is_kept() {
    let mut w = World::new();
    let join = Join::default().with_instance("a");
    let members = w.stable(std::slice::from_ref(&join));
    let back = w.join_now(&join);
    w.restart();
    assert_eq!(w.heartbeat_as(&members[0].id, Some("a"), 1), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(w.heartbeat_as(&back.member_id, Some("a"), 1), ErrorCode::NONE);
}

#[test]
fn an_ended_group_does_not_come_back() {
    let mut w = World::new();
    let members = w.stable(&[Join::default()]);
    w.commit(&members[0].id, 1, "t", 0, 1);
    w.leave(&[(&members[0].id, None)]);
    let request = DeleteGroupsRequest { groups_names: vec![G] };
    w.ask(2, &request, |b, v| {
        assert!(decode::<DeleteGroupsResponse<'_>>(b, v).unwrap().results[0].error_code.is_none())
    });
    w.restart();
    assert_eq!((w.state(), w.groups.timers(), w.groups.bytes()), (None, 0, 0));
    assert_eq!(w.fetch(G, "t", 0), -1);
}

#[test]
fn a_group_larger_than_allowed_now_rebalances_after_a_restart() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    w.settings.group_max_size = 1;
    w.restart();
    assert_eq!(w.heartbeat(&members[0].id, 2), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn entries_of_other_versions_and_broken_ones_are_errors() {
    let mut w = World::new();
    let members = w.stable(&[Join::default()]);
    w.commit(&members[0].id, 1, "t", 0, 1);
    for entry in w.given.log.clone() {
        let value = entry.value.clone().unwrap();
        let mut broken: Vec<Vec<u8>> = (0..value.len()).map(|len| value[..len].to_vec()).collect();
        broken.push([&value[..], b"x"].concat());
        let mut newer = value.to_vec();
        newer[0] = 2;
        broken.push(newer);
        for value in broken {
            let mut groups = Groups::new(GroupSettings::default());
            let entry = MetaEntry { value: Some(value.into()), ..entry.clone() };
            let error = groups.apply(&entry).unwrap_err();
            assert!(error.contains(r#"group "g": "#), "{error}");
        }
    }
    let mut groups = Groups::new(GroupSettings::default());
    let entry = MetaEntry { table: 1, scope: "g".into(), key: Default::default(), value: None };
    assert!(groups.apply(&entry).unwrap_err().contains("table 1"));
}
