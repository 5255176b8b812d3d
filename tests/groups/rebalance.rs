//! Owns the tests of joining, syncing, beating and leaving of dynamic members.

use super::*;

fn delayed(ms: i64) -> World {
    World::with(GroupSettings { group_initial_rebalance_delay_ms: ms, ..Default::default() })
}

#[test]
fn a_first_member_leads_alone() {
    let mut w = World::new();
    let id = w.new_id(&Join::default());
    assert!(id.starts_with("client-") && id.len() == "client-".len() + 36, "{id}");
    let joined = w.join_now(&Join::default().with_id(&id));
    assert_eq!((joined.error, joined.generation, joined.leads()), (ErrorCode::NONE, 1, true));
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.members, [(id.clone(), None, subscription(&["t"]))]);
    assert_eq!(w.state(), Some(GroupState::CompletingRebalance));
    let members = w.sync_all(&[joined]);
    assert_eq!(w.heartbeat(&id, members[0].generation), ErrorCode::NONE);
}

#[test]
fn joining_an_unknown_group_begins_it() {
    // A known failure of others: "unknown group" on JoinGroup.
    let mut w = World::new();
    for version in 0..4 {
        let join = Join { group: format!("g{version}"), ..Join::default().with_version(version) };
        let joined = w.join_now(&join);
        assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 1), "version {version}");
    }
    // Who claims to be a member of a group that isn't there is not.
    let stranger = w.join_now(&Join::default().with_id("stranger"));
    assert_eq!((stranger.error, stranger.member_id.as_str()), (ErrorCode::UNKNOWN_MEMBER_ID, "stranger"));
    assert_eq!(stranger.generation, -1);
    assert_eq!(w.state(), None);
}

#[test]
fn a_second_consumer_gets_its_share() {
    let mut w = World::new();
    let first = w.stable(&[Join::default()]).remove(0);
    let id = w.new_id(&Join::default());
    let second = w.join(&Join::default().with_id(&id));
    assert_eq!(w.handled, Handled::Parked);
    assert_eq!(w.heartbeat(&first.id, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let again = w.join_now(&Join::default().with_id(&first.id));
    let second = w.joined(second);
    assert_eq!((again.generation, second.generation), (2, 2));
    assert_eq!(again.members.len(), 2);
    assert!(again.leads() && second.members.is_empty() && second.leader == first.id);
    let members = w.sync_all(&[again, second]);
    assert!(members.iter().all(|m| m.assignment == m.id.as_bytes()));
}

#[test]
fn the_initial_delay_gathers_members_and_each_new_one_stretches_it() {
    let mut w = delayed(3000);
    let ids: Vec<String> = (0..3).map(|_| w.new_id(&Join::default())).collect();
    let a = w.join(&Join::default().with_id(&ids[0]));
    w.pass_ms(2500);
    let b = w.join(&Join::default().with_id(&ids[1]));
    w.pass_ms(2500);
    assert!(!w.is_answered(a), "the second member stretched the delay");
    let c = w.join(&Join::default().with_id(&ids[2]));
    w.pass_ms(1001);
    assert!(!w.is_answered(c), "the third one did too");
    w.pass_ms(3000);
    let joined: Vec<Joined> = [a, b, c].into_iter().map(|t| w.joined(t)).collect();
    assert!(joined.iter().all(|j| j.generation == 1));
    w.sync_all(&joined);
}

#[test]
fn the_initial_delay_is_bounded_by_the_rebalance_timeout() {
    let mut w = delayed(3000);
    let join = Join { rebalance_ms: 7000, ..Default::default() };
    let id = w.new_id(&join);
    let first = w.join(&join.with_id(&id));
    let mut waited = 0;
    while !w.is_answered(first) {
        let id = w.new_id(&join);
        w.join(&join.with_id(&id));
        w.pass_ms(500);
        waited += 500;
    }
    assert!((7000..=7500).contains(&waited), "{waited}");
}

#[test]
fn a_member_that_does_not_join_again_is_removed_after_the_rebalance_timeout() {
    let mut w = World::new();
    let long = Join { session_ms: 60_000, ..Default::default() };
    let members = w.stable(&[long.clone(), long.clone()]);
    let again = w.join(&long.with_id(&members[0].id));
    w.pass_ms(REBALANCE_MS as u64 - 1);
    assert!(!w.is_answered(again));
    w.pass_ms(1);
    let joined = w.joined(again);
    assert_eq!((joined.generation, joined.members.len()), (3, 1));
    assert_eq!(w.heartbeat(&members[1].id, 2), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_longest_rebalance_timeout_counts() {
    let mut w = World::new();
    let slow = Join { rebalance_ms: 50_000, session_ms: 60_000, ..Default::default() };
    let quick = Join { rebalance_ms: 1_000, session_ms: 60_000, ..Default::default() };
    let members = w.stable(&[quick.clone(), slow]);
    let again = w.join(&quick.with_id(&members[0].id));
    w.pass_ms(49_999);
    assert!(!w.is_answered(again));
    w.pass_ms(1);
    assert!(w.is_answered(again));
}

#[test]
fn in_version_0_the_session_timeout_is_the_rebalance_timeout() {
    let mut w = World::new();
    let old = Join { version: 0, session_ms: 20_000, rebalance_ms: 1, ..Default::default() };
    let a = w.join_now(&old);
    let b = w.join(&old);
    w.heartbeat(&a.member_id, 1);
    w.pass_ms(19_999);
    assert!(!w.is_answered(b));
    w.pass_ms(1);
    assert_eq!(w.joined(b).error, ErrorCode::NONE);
}

#[test]
fn a_leader_that_falls_silent_is_replaced() {
    let mut w = World::new();
    let long = Join { session_ms: 60_000, ..Default::default() };
    let members = w.stable(&[long.clone(), long.clone()]);
    let again = w.join(&long.with_topics(&["u"]).with_id(&members[1].id));
    w.pass_ms(REBALANCE_MS as u64);
    let joined = w.joined(again);
    assert!(joined.leads());
}

#[test]
fn a_session_that_ends_removes_the_member() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    w.pass_ms(9_000);
    assert_eq!(w.heartbeat(&members[0].id, 2), ErrorCode::NONE);
    w.pass_ms(1_000);
    assert_eq!(w.size(), 1);
    assert_eq!(w.heartbeat(&members[0].id, 2), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(w.heartbeat(&members[1].id, 2), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.join_now(&Join::default().with_id(&members[0].id)).generation, 3);
}

#[test]
fn the_last_session_that_ends_empties_the_group() {
    let mut w = World::new();
    w.stable(&[Join::default()]);
    w.pass_ms(SESSION_MS as u64);
    assert_eq!((w.state(), w.size()), (Some(GroupState::Empty), 0));
    // The generation goes on where it was.
    assert_eq!(w.stable(&[Join::default()])[0].generation, 3);
}

#[test]
fn a_waiting_member_does_not_lose_its_session() {
    let mut w = World::new();
    let short = Join { session_ms: 6_000, ..Default::default() };
    let long = Join { session_ms: 60_000, ..Default::default() };
    let members = w.stable(&[short.clone(), long]);
    let again = w.join(&short.with_id(&members[0].id));
    w.pass_ms(REBALANCE_MS as u64);
    let joined = w.joined(again);
    assert_eq!(joined.error, ErrorCode::NONE);
    // From the answer on it counts again.
    w.pass_ms(6_000);
    assert_eq!(w.heartbeat(&joined.member_id, joined.generation), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_new_member_waits_five_minutes_at_most() {
    let mut w = World::new();
    let slow = Join { rebalance_ms: 3_600_000, session_ms: 1_800_000, ..Default::default() };
    w.stable(std::slice::from_ref(&slow));
    let id = w.new_id(&slow);
    let new = w.join(&slow.with_id(&id));
    w.pass_ms(299_999);
    assert!(!w.is_answered(new));
    w.pass_ms(1);
    let joined = w.joined(new);
    assert_eq!((joined.error, joined.member_id.as_str()), (ErrorCode::UNKNOWN_MEMBER_ID, ""));
    assert_eq!(w.size(), 1);
}

#[test]
fn ids_handed_out_and_not_used_expire() {
    let mut w = World::new();
    let id = w.new_id(&Join::default());
    w.pass_ms(SESSION_MS as u64 - 1);
    assert_eq!(w.groups.timers(), 1);
    w.pass_ms(1);
    assert_eq!((w.groups.timers(), w.state()), (0, None), "nothing is left of the group");
    assert_eq!(w.join_now(&Join::default().with_id(&id)).error, ErrorCode::UNKNOWN_MEMBER_ID);
    assert!(w.given.log.is_empty());
}

#[test]
fn a_rebalance_waits_for_ids_handed_out() {
    let mut w = World::new();
    let first = w.stable(&[Join::default()]).remove(0);
    let pending = w.new_id(&Join::default());
    let again = w.join(&Join::default().with_id(&first.id));
    assert_eq!(w.handled, Handled::Parked, "another member is about to come");
    assert_eq!(w.leave(&[(&pending, None)]), [ErrorCode::NONE]);
    assert_eq!(w.joined(again).members.len(), 1);
}

#[test]
fn whoever_was_handed_an_id_joins_also_in_the_turn_in_which_the_last_member_goes() {
    for leaves in [true, false] {
        let mut w = World::new();
        let first = w.stable(&[Join::default()]).remove(0);
        w.pass_ms(SESSION_MS as u64 - 1);
        let other = Join::default().with_id(&w.new_id(&Join::default()));
        w.in_one_turn = true;
        if leaves {
            assert_eq!(w.leave(&[(&first.id, None)]), [ErrorCode::NONE]);
        } else {
            w.move_to(w.mono_us + 1000);
            w.with_ctx(|groups, ctx| groups.expire(ctx));
        }
        assert_eq!((w.size(), w.state()), (0, Some(GroupState::PreparingRebalance)));
        let ticket = w.join(&other);
        w.in_one_turn = false;
        w.expire();
        let joined = w.joined(ticket);
        assert_eq!((joined.error, joined.members.len()), (ErrorCode::NONE, 1), "leaves: {leaves}");
    }
}

#[test]
fn the_protocol_with_most_votes_wins_among_those_that_all_support() {
    let mut w = delayed(1000);
    let joins = [["a", "b", "c"], ["b", "a", "x"], ["b", "y", "a"]].map(|p| Join::default().with_protocols(&p));
    let tickets: Vec<Ticket> = joins
        .iter()
        .map(|join| {
            let id = w.new_id(join);
            w.join(&join.with_id(&id))
        })
        .collect();
    w.pass_ms(2000);
    for ticket in tickets {
        assert_eq!(w.joined(ticket).protocol.as_deref(), Some("b"));
    }
}

#[test]
fn a_member_without_a_common_protocol_is_refused() {
    let mut w = World::new();
    w.stable(&[Join::default()]);
    let inconsistent = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
    assert_eq!(w.join_now(&Join::default().with_protocols(&["other"])).error, inconsistent);
    let connect = Join { protocol_type: "connect".into(), ..Default::default() };
    assert_eq!(w.join_now(&connect).error, inconsistent);
    let mut w = World::new();
    assert_eq!(w.join_now(&Join { protocol_type: String::new(), ..Default::default() }).error, inconsistent);
    assert_eq!(w.join_now(&Join::default().with_protocols(&[])).error, inconsistent);
    assert_eq!((w.state(), w.groups.bytes()), (None, 0), "a refused member leaves no group behind");
}

#[test]
fn sessions_outside_the_bounds_are_refused() {
    let mut w = World::new();
    for session_ms in [i32::MIN, -1, 0, 5_999, 1_800_001, i32::MAX] {
        let joined = w.join_now(&Join { session_ms, ..Default::default() });
        assert_eq!(joined.error, ErrorCode::INVALID_SESSION_TIMEOUT);
    }
}

#[test]
fn an_empty_group_id_is_refused_where_members_are_needed() {
    let mut w = World::new();
    let invalid = ErrorCode::INVALID_GROUP_ID;
    assert_eq!(w.join_now(&Join { group: String::new(), ..Default::default() }).error, invalid);
    assert_eq!(w.join_now(&Join { group: "x".repeat(5000), ..Default::default() }).error, invalid);
    let sync = SyncGroupRequest::default();
    assert_eq!(w.ask(4, &sync, |b, v| error_of(b, v, |r: &SyncGroupResponse<'_>| r.error_code)), invalid);
    let beat = HeartbeatRequest::default();
    assert_eq!(w.ask(4, &beat, |b, v| error_of(b, v, |r: &HeartbeatResponse| r.error_code)), invalid);
    let leave = LeaveGroupRequest::default();
    assert_eq!(w.ask(2, &leave, |b, v| error_of(b, v, |r: &LeaveGroupResponse<'_>| r.error_code)), invalid);
}

#[test]
fn a_full_group_refuses_more_members() {
    let settings = GroupSettings { group_max_size: 2, group_initial_rebalance_delay_ms: 0, ..Default::default() };
    let mut w = World::with(settings);
    let members = w.stable(&[Join::default(), Join::default()]);
    assert_eq!(w.join_now(&Join::default()).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    // While all join again, those who come first have the places; a member that finds none is out.
    let id = w.join(&Join::default().with_version(3).with_id(&members[0].id));
    assert!(!w.is_answered(id));
    let third = w.join(&Join::default().with_version(3));
    let late = w.join_now(&Join::default().with_id(&members[1].id));
    assert_eq!(late.error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!((w.joined(id).members.len(), w.joined(third).error), (2, ErrorCode::NONE));
}

#[test]
fn a_follower_that_joins_again_unchanged_causes_no_rebalance() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    let again = w.join_now(&Join::default().with_id(&members[1].id));
    assert_eq!((again.error, again.generation, again.leads()), (ErrorCode::NONE, 2, false));
    assert_eq!(w.state(), Some(GroupState::Stable));
    let ticket = w.sync(&members[1].id, 2, &[]);
    assert_eq!(w.synced(ticket), (ErrorCode::NONE, members[1].assignment.clone()));
    // Changed metadata does, and so does the leader in any case.
    w.join(&Join::default().with_topics(&["t", "u"]).with_id(&members[1].id));
    assert_eq!(w.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn a_leader_that_joins_again_gets_its_rebalance() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    w.join(&Join::default().with_id(&members[0].id));
    assert_eq!(w.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn a_lost_answer_to_join_is_given_again() {
    let mut w = World::new();
    let first = w.stable(&[Join::default()]).remove(0);
    let id = w.new_id(&Join::default());
    let lost = w.join(&Join::default().with_id(&id));
    let leader = w.join_now(&Join::default().with_id(&first.id));
    w.joined(lost);
    let again = w.join_now(&Join::default().with_id(&id));
    assert_eq!((again.generation, again.members.len()), (leader.generation, 0));
    let leader_again = w.join_now(&Join::default().with_id(&first.id));
    assert_eq!(leader_again, leader);
    assert_eq!(w.state(), Some(GroupState::CompletingRebalance));
}

#[test]
fn syncs_wait_for_the_leader_and_those_it_forgot_get_nothing() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    let b = w.join(&Join::default().with_topics(&["u"]).with_id(&members[1].id));
    let a = w.join_now(&Join::default().with_id(&members[0].id));
    let b = w.joined(b);
    let early = w.sync(&b.member_id, b.generation, &[]);
    assert_eq!(w.handled, Handled::Parked);
    let leader = w.sync(&a.member_id, a.generation, &[(&a.member_id, b"all"), ("stranger", b"?")]);
    assert_eq!(w.synced(leader), (ErrorCode::NONE, b"all".to_vec()));
    assert_eq!(w.synced(early), (ErrorCode::NONE, Vec::new()), "not what it had in the last generation");
}

#[test]
fn a_sync_is_checked() {
    let mut w = World::new();
    let member = w.stable(&[Join::default()]).remove(0);
    let error = |w: &mut World, id: &str, generation| {
        let ticket = w.sync(id, generation, &[]);
        w.synced(ticket).0
    };
    assert_eq!(error(&mut w, "stranger", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(error(&mut w, &member.id, 0), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(error(&mut w, &member.id, 2), ErrorCode::ILLEGAL_GENERATION);
    for (kind, name, expected) in [
        (Some("consumer"), Some("range"), ErrorCode::NONE),
        (Some("connect"), Some("range"), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        (Some("consumer"), Some("other"), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        (None, Some("range"), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        (Some("consumer"), None, ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
    ] {
        let request = SyncGroupRequest {
            group_id: G,
            generation_id: 1,
            member_id: &member.id,
            protocol_type: kind,
            protocol_name: name,
            ..Default::default()
        };
        let error = w.ask(5, &request, |b, v| error_of(b, v, |r: &SyncGroupResponse<'_>| r.error_code));
        assert_eq!(error, expected, "{kind:?} {name:?}");
    }
    let unknown_group = SyncGroupRequest { group_id: "other", ..Default::default() };
    let error = w.ask(4, &unknown_group, |b, v| error_of(b, v, |r: &SyncGroupResponse<'_>| r.error_code));
    assert_eq!(error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_member_that_never_syncs_is_removed() {
    let mut w = World::new();
    let long = Join { session_ms: 60_000, ..Default::default() };
    let members = w.stable(&[long.clone(), long.clone()]);
    let b = w.join(&long.with_topics(&["u"]).with_id(&members[1].id));
    let a = w.join_now(&long.with_id(&members[0].id));
    let b = w.joined(b);
    // The leader never says what it assigned: the follower waits no longer than the rebalance timeout.
    let waiting = w.sync(&b.member_id, b.generation, &[]);
    w.pass_ms(REBALANCE_MS as u64);
    assert_eq!(w.synced(waiting).0, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(w.heartbeat(&a.member_id, a.generation), ErrorCode::UNKNOWN_MEMBER_ID);
    let alone = w.join_now(&long.with_id(&b.member_id));
    assert!(alone.leads() && alone.members.len() == 1);
}

#[test]
fn a_follower_that_never_syncs_is_removed_from_a_stable_group() {
    let mut w = World::new();
    let long = Join { session_ms: 60_000, ..Default::default() };
    let members = w.stable(&[long.clone(), long.clone()]);
    let b = w.join(&long.with_topics(&["u"]).with_id(&members[1].id));
    let a = w.join_now(&long.with_id(&members[0].id));
    w.joined(b);
    let leader = w.sync(&a.member_id, a.generation, &[]);
    assert_eq!(w.synced(leader).0, ErrorCode::NONE);
    w.pass_ms(REBALANCE_MS as u64);
    assert_eq!((w.state(), w.size()), (Some(GroupState::PreparingRebalance), 1));
}

#[test]
fn a_rebalance_answers_those_who_wait_for_their_assignment() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    let b = w.join(&Join::default().with_topics(&["u"]).with_id(&members[1].id));
    let a = w.join_now(&Join::default().with_id(&members[0].id));
    let b = w.joined(b);
    let waiting = w.sync(&b.member_id, b.generation, &[]);
    let id = w.new_id(&Join::default());
    w.join(&Join::default().with_id(&id));
    assert_eq!(w.synced(waiting).0, ErrorCode::REBALANCE_IN_PROGRESS);
    let late = w.sync(&a.member_id, a.generation, &[]);
    assert_eq!(w.synced(late).0, ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn heartbeats_are_checked() {
    let mut w = World::new();
    let member = w.stable(&[Join::default()]).remove(0);
    assert_eq!(w.heartbeat("stranger", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.heartbeat(&member.id, 0), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(w.heartbeat(&member.id, 1), ErrorCode::NONE);
    let other = HeartbeatRequest { group_id: "other", ..Default::default() };
    let error = w.ask(4, &other, |b, v| error_of(b, v, |r: &HeartbeatResponse| r.error_code));
    assert_eq!(error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn leaving_rebalances_and_the_last_one_empties_the_group() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    assert_eq!(w.leave(&[(&members[1].id, None), ("stranger", None)]), [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(w.heartbeat(&members[0].id, 2), ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = w.join_now(&Join::default().with_id(&members[0].id));
    w.sync_all(&[joined]);
    let old = LeaveGroupRequest { group_id: G, member_id: &members[0].id, ..Default::default() };
    let error = |w: &mut World| w.ask(2, &old, |b, v| error_of(b, v, |r: &LeaveGroupResponse<'_>| r.error_code));
    assert_eq!(error(&mut w), ErrorCode::NONE);
    assert_eq!(w.state(), Some(GroupState::Empty));
    assert_eq!(error(&mut w), ErrorCode::UNKNOWN_MEMBER_ID, "old versions have the error at the top");
}

#[test]
fn a_member_removed_while_it_waits_is_told() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    let waiting = w.join(&Join::default().with_topics(&["u"]).with_id(&members[1].id));
    w.leave(&[(&members[1].id, None)]);
    assert_eq!(w.joined(waiting).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_lost_connection_keeps_the_member_until_its_session_ends() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    let gone = w.join(&Join::default().with_topics(&["u"]).with_id(&members[1].id));
    assert_eq!(w.groups.parked(), 1);
    w.groups.disconnected(gone.0);
    assert_eq!((w.groups.parked(), w.size()), (0, 2));
    // The member counts as joined, as in Kafka, and is removed when it does not beat.
    let leader = w.join_now(&Join::default().with_id(&members[0].id));
    assert_eq!(leader.members.len(), 2);
    assert!(!w.is_answered(gone));
    w.sync_all_but(&leader);
    w.pass_ms(9_000);
    assert_eq!(w.heartbeat(&leader.member_id, leader.generation), ErrorCode::NONE);
    w.pass_ms(1_000);
    assert_eq!(w.size(), 1);
}

#[test]
fn a_request_on_a_new_connection_takes_the_place_of_the_parked_one() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    let join = Join::default().with_topics(&["u"]).with_id(&members[1].id);
    let first = w.join(&join);
    let second = w.join(&join);
    assert_eq!(w.joined(first).error, ErrorCode::REBALANCE_IN_PROGRESS);
    let leader = w.join_now(&Join::default().with_id(&members[0].id));
    assert_eq!(w.joined(second).generation, leader.generation);
    let first = w.sync(&members[1].id, leader.generation, &[]);
    let second = w.sync(&members[1].id, leader.generation, &[]);
    assert_eq!(w.synced(first).0, ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(!w.is_answered(second));
}

#[test]
fn a_group_that_is_too_large_to_keep_is_refused() {
    let mut w = World::new();
    let huge = Join { protocols: vec![("range".into(), vec![0; 2 << 20])], ..Default::default() };
    let id = w.new_id(&huge);
    assert_eq!(w.join_now(&huge.with_id(&id)).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!((w.state(), w.groups.timers()), (None, 0));
    let id = w.new_id(&Join::default());
    let joined = w.join_now(&Join::default().with_id(&id));
    let assignment = vec![0; 2 << 20];
    let ticket = w.sync(&id, joined.generation, &[(&id, &assignment)]);
    assert_eq!(w.synced(ticket).0, ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_eq!(w.state(), Some(GroupState::PreparingRebalance));
    assert!(w.given.log.is_empty());
}

#[test]
fn stopping_answers_all_who_wait() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    let join = w.join(&Join::default().with_topics(&["u"]).with_id(&members[1].id));
    w.with_ctx(|groups, ctx| groups.stop(ctx));
    assert_eq!(w.joined(join).error, ErrorCode::NOT_COORDINATOR);
    assert_eq!((w.groups.parked(), w.groups.timers()), (0, 0));
    assert_eq!(w.join_now(&Join::default()).error, ErrorCode::NOT_COORDINATOR);
}

#[test]
fn garbage_is_malformed_and_changes_nothing() {
    let mut w = World::new();
    w.stable(&[Join::default()]);
    let written = w.given.log.len();
    for key in chronik::broker::groups::GROUP_APIS {
        let api = key.api().unwrap();
        for version in api.versions() {
            for body in [&[0xff; 40][..], &[0x7f; 5], &[]] {
                let ticket = w.send_bytes(key.0, version, body);
                if let Handled::Malformed(_) = w.handled {
                    assert!(!w.is_answered(ticket));
                }
            }
        }
    }
    assert_eq!(w.given.log.len(), written);
    w.send_bytes(0, 0, &[]);
    assert_eq!(w.handled, Handled::NotOurs);
}

impl World {
    /// The leader assigns nothing to anybody.
    fn sync_all_but(&mut self, leader: &Joined) {
        let ticket = self.sync(&leader.member_id, leader.generation, &[]);
        assert_eq!(self.synced(ticket).0, ErrorCode::NONE);
    }
}
