//! Owns the rules of joining, beating, leaving and being fenced, each by itself.

use super::*;

fn error_of(w: &mut World, beat: &Beat) -> (ErrorCode, String) {
    let beaten = w.beat(beat);
    assert_eq!((beaten.member, beaten.epoch, beaten.assignment), (None, 0, None));
    (beaten.error, beaten.message.unwrap_or_default())
}

#[test]
fn a_first_member_gets_everything_at_once() {
    let mut w = world();
    let beaten = w.beat(&Beat::join("a", &["t", "u"]));
    assert_eq!(beaten.error, ErrorCode::NONE);
    assert_eq!((beaten.member.as_deref(), beaten.epoch, beaten.interval_ms), (Some("a"), 2, 5000));
    let all: Vec<i32> = (0..8).collect();
    assert_eq!(beaten.assignment, Some(parts(&[("t", &all), ("u", &all)])));
    let again = w.stay("a", 2);
    assert_eq!((again.epoch, again.assignment), (2, None), "nothing new is not told");
}

#[test]
fn a_whole_request_is_answered_with_the_whole_assignment() {
    let mut w = world();
    let (epoch, all) = w.joined_consumer("a", &["t"]);
    let whole = Beat { epoch, ..Beat::join("a", &["t"]).owning(&all) };
    assert_eq!(w.beat(&whole).assignment, Some(all.clone()));
    assert_eq!(w.beat(&Beat { rebalance_ms: -1, ..whole.clone() }).assignment, None);
    assert_eq!(w.beat(&Beat { topics: None, ..whole.clone() }).assignment, None);
    assert_eq!(w.beat(&Beat { owned: None, ..whole }).assignment, None);
}

#[test]
fn members_share_what_there_is_and_never_own_a_partition_together() {
    let mut w = world();
    let [a, b] = w.pair();
    let mut all: Vec<i32> = a["t"].iter().chain(&b["t"]).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..8).collect::<Vec<i32>>());
    let described = w.describe_consumer(G);
    assert_eq!((described.state.as_str(), described.epoch, described.assignment_epoch), ("Stable", 3, 3));
}

#[test]
fn a_member_that_leaves_makes_room_at_once() {
    let mut w = world();
    w.pair();
    w.leave_consumer("a");
    let told = w.stay("b", 3);
    assert_eq!((told.epoch, count(&told.assignment.unwrap())), (4, 8));
    w.leave_consumer("b");
    let described = w.describe_consumer(G);
    assert_eq!((described.state.as_str(), described.epoch, described.assignment_epoch), ("Empty", 5, 4));
    assert_eq!(w.stay("b", 4).error, ErrorCode::UNKNOWN_MEMBER_ID);
    let (epoch, all) = w.joined_consumer("c", &["t"]);
    assert_eq!((epoch, count(&all)), (6, 8), "the epoch goes on");
}

#[test]
fn requests_that_make_no_sense_are_refused_in_kafkas_words() {
    let mut w = world();
    let good = Beat::join("a", &["t"]);
    let invalid = |w: &mut World, beat: Beat, words: &str| {
        assert_eq!(error_of(w, &beat), (ErrorCode::INVALID_REQUEST, words.to_string()));
    };
    invalid(&mut w, Beat { member: "".into(), ..good.clone() }, "MemberId can't be empty.");
    invalid(&mut w, Beat { member: "".into(), version: 0, ..Beat::stay("", 3) }, "MemberId can't be empty.");
    invalid(&mut w, Beat { group: " ".into(), ..good.clone() }, "GroupId can't be empty.");
    invalid(&mut w, good.clone().with_instance(" "), "InstanceId can't be empty.");
    invalid(&mut w, Beat { rack: Some("".into()), ..good.clone() }, "RackId can't be empty.");
    let timeout = "RebalanceTimeoutMs must be provided in first request.";
    invalid(&mut w, Beat { rebalance_ms: -1, ..good.clone() }, timeout);
    let empty = "TopicPartitions must be empty when (re-)joining.";
    invalid(&mut w, Beat { owned: None, ..good.clone() }, empty);
    invalid(&mut w, good.clone().owning(&parts(&[("t", &[1])])), empty);
    let either = "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.";
    invalid(&mut w, Beat { topics: None, ..good.clone() }, either);
    invalid(&mut w, Beat::stay("a", -2), "InstanceId can't be null.");
    invalid(&mut w, Beat::stay("a", -3), "MemberEpoch is invalid.");
    assert_eq!(
        error_of(&mut w, &good.clone().with_assignor("mine")),
        (
            ErrorCode::UNSUPPORTED_ASSIGNOR,
            "ServerAssignor mine is not supported. Supported assignors: uniform, range.".into()
        )
    );
    assert_eq!(error_of(&mut w, &Beat { group: "g".repeat(5000), ..good.clone() }).0, ErrorCode::INVALID_GROUP_ID);
    assert_eq!(error_of(&mut w, &Beat { member: "m".repeat(5000), ..good }).0, ErrorCode::INVALID_REQUEST);
    assert_eq!((w.groups.bytes(), w.groups.timers()), (0, 0), "nothing is left of all that");
}

#[test]
fn who_is_not_there_is_told_so() {
    let mut w = world();
    let (code, words) = error_of(&mut w, &Beat::stay("a", 1));
    assert_eq!((code, words.as_str()), (ErrorCode::GROUP_ID_NOT_FOUND, "Consumer group g not found."));
    let (code, words) = error_of(&mut w, &Beat::stay("a", -1));
    assert_eq!((code, words.as_str()), (ErrorCode::GROUP_ID_NOT_FOUND, "Group g not found."));
    w.joined_consumer("a", &["t"]);
    for epoch in [1, -1] {
        let (code, words) = error_of(&mut w, &Beat::stay("z", epoch));
        assert_eq!((code, words.as_str()), (ErrorCode::UNKNOWN_MEMBER_ID, "Member z is not a member of group g."));
    }
}

#[test]
fn an_epoch_that_is_not_the_members_is_fenced() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    let (code, words) = error_of(&mut w, &Beat::stay("a", 3));
    assert_eq!(code, ErrorCode::FENCED_MEMBER_EPOCH);
    assert!(words.contains("greater member epoch (3)") && words.contains("(2)"), "{words}");
    let (code, words) = error_of(&mut w, &Beat::stay("a", 1));
    assert_eq!(code, ErrorCode::FENCED_MEMBER_EPOCH);
    assert!(words.contains("smaller member epoch (1)"), "{words}");
    let (epoch, all) = w.joined_consumer("a", &["t"]);
    assert_eq!((epoch, count(&all)), (2, 8), "a fenced member joins again with its id");
}

#[test]
fn the_epoch_before_is_good_while_the_answer_may_have_been_lost() {
    let mut w = world();
    let [a, b] = w.pair();
    // The answer that told epoch 3 did not arrive.
    let told = w.beat(&Beat::stay("a", 2).owning(&a));
    assert_eq!((told.error, told.epoch), (ErrorCode::NONE, 3));
    let (code, _) = error_of(&mut w, &Beat::stay("a", 2));
    assert_eq!(code, ErrorCode::FENCED_MEMBER_EPOCH, "it has to say that it owns nothing that is not its own");
    let (code, _) = error_of(&mut w, &Beat::stay("a", 2).owning(&b));
    assert_eq!(code, ErrorCode::FENCED_MEMBER_EPOCH);
}

#[test]
fn a_first_join_that_is_repeated_makes_no_second_member() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    let (epoch, all) = w.joined_consumer("a", &["t"]);
    assert_eq!((epoch, count(&all)), (2, 8));
    assert_eq!(w.describe_consumer(G).members.len(), 1);
}

#[test]
fn version_0_is_given_its_member_id() {
    let mut w = world();
    let beaten = w.beat(&Beat { version: 0, ..Beat::join("", &["t"]) });
    let id = beaten.member.unwrap();
    assert!(Uuid::parse(&id).is_some(), "{id}");
    assert_eq!(w.stay(&id, beaten.epoch).error, ErrorCode::NONE);
}

#[test]
fn a_silent_member_goes_when_its_session_ends() {
    let mut w = world();
    w.pair();
    w.pass_ms(30_000);
    assert_eq!(w.stay("b", 3).error, ErrorCode::NONE);
    w.pass_ms(15_000);
    assert_eq!(w.describe_consumer(G).members.len(), 1);
    assert_eq!(count(&w.stay("b", 3).assignment.unwrap()), 8);
    assert_eq!(w.stay("a", 3).error, ErrorCode::UNKNOWN_MEMBER_ID);
    w.pass_ms(45_000);
    assert_eq!(w.describe_consumer(G).state, "Empty");
    assert_eq!(w.groups.timers(), 1, "the empty group's own end");
    w.pass_ms(600_000);
    assert_eq!((w.groups.timers(), w.groups.bytes()), (0, 0));
    w.restart();
    assert_eq!(w.describe_consumer(G).error, ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn a_member_that_does_not_give_partitions_up_in_time_is_fenced() {
    let mut w = world();
    let (_, all) = w.joined_consumer("a", &["t"]);
    w.joined_consumer("b", &["t"]);
    assert_eq!(count(&w.stay("a", 2).assignment.unwrap()), 4);
    for _ in 0..5 {
        w.pass_ms(BEAT_MS);
        assert_eq!(w.beat(&Beat::stay("a", 2).owning(&all)).error, ErrorCode::NONE, "it beats, and holds on");
        assert_eq!(w.stay("b", 3).assignment, None);
    }
    w.pass_ms(BEAT_MS);
    assert_eq!(w.stay("a", 2).error, ErrorCode::UNKNOWN_MEMBER_ID, "thirty seconds were its own timeout");
    let told = w.stay("b", 3);
    assert_eq!((told.epoch, count(&told.assignment.unwrap())), (4, 8));
}

#[test]
fn a_member_that_vanishes_while_others_wait_for_it_gives_way() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.joined_consumer("b", &["t"]);
    w.stay("a", 2);
    for _ in 0..8 {
        w.pass_ms(BEAT_MS);
        w.stay("b", 3);
    }
    let all = w.describe_consumer(G).members;
    assert_eq!(all.len(), 1);
    assert_eq!(count(&all[0].assigned), 8);
}

#[test]
fn a_full_group_takes_no_more() {
    let settings = GroupSettings { consumer_max_size: 2, consumer_assignment_interval_ms: 0, ..Default::default() };
    let mut w = World::with(settings);
    w.joined_consumer("a", &["t"]);
    w.joined_consumer("b", &["t"]);
    let (code, words) = error_of(&mut w, &Beat::join("c", &["t"]));
    assert_eq!(code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(words, "The consumer group has reached its maximum capacity of 2 members.");
    w.joined_consumer("b", &["t", "u"]);
    w.leave_consumer("a");
    w.joined_consumer("c", &["t"]);
}

#[test]
fn a_subscription_that_changes_is_followed() {
    let mut w = world();
    let (epoch, _) = w.joined_consumer("a", &["t"]);
    let change = Beat { topics: Some(vec!["u".into()]), ..Beat::stay("a", epoch) };
    let told = w.beat(&change);
    assert_eq!((told.epoch, told.assignment), (2, Some(parts(&[]))), "first the old topic is given up");
    let told = w.beat(&Beat::stay("a", 2).owning(&parts(&[])));
    assert_eq!((told.epoch, told.assignment.unwrap().keys().cloned().collect::<Vec<_>>()), (3, vec!["u".to_string()]));
}

#[test]
fn an_empty_subscription_is_a_member_without_partitions() {
    let mut w = world();
    let (epoch, none) = w.joined_consumer("a", &[]);
    assert_eq!((epoch, count(&none)), (1, 0));
    assert_eq!(w.describe_consumer(G).state, "Stable");
    let (_, none) = w.joined_consumer("b", &["nowhere"]);
    assert_eq!(count(&none), 0);
}

#[test]
fn the_assignor_that_most_ask_for_is_used() {
    let mut w = world();
    w.beat(&Beat::join("a", &["t"]).with_assignor("range"));
    assert_eq!(w.describe_consumer(G).assignor, "range");
    w.beat(&Beat::join("b", &["t"]).with_assignor("uniform"));
    w.beat(&Beat::join("c", &["t"]).with_assignor("uniform"));
    assert_eq!(w.describe_consumer(G).assignor, "uniform");
    w.leave_consumer("b");
    w.beat(&Beat::join("d", &["t"]).with_assignor("range"));
    assert_eq!(w.describe_consumer(G).assignor, "range");
}

#[test]
fn assignments_are_made_no_more_often_than_the_interval_allows() {
    let mut w = World::new();
    w.joined_consumer("a", &["t"]);
    let (epoch, none) = w.joined_consumer("b", &["t"]);
    assert_eq!((epoch, count(&none)), (2, 0), "it is a member of the target that there is");
    let described = w.describe_consumer(G);
    assert_eq!((described.state.as_str(), described.epoch, described.assignment_epoch), ("Assigning", 3, 2));
    w.pass_ms(999);
    assert_eq!(w.stay("b", 2).epoch, 2);
    w.pass_ms(1);
    assert_eq!(w.stay("b", 2).epoch, 3);
    assert_eq!(count(&w.stay("a", 2).assignment.unwrap()), 4);
}

#[test]
fn a_group_has_its_own_timing() {
    let mut w = world();
    let overrides = chronik::broker::groups::Overrides {
        session_timeout_ms: Some(50_000),
        heartbeat_interval_ms: Some(7_000),
        ..Default::default()
    };
    w.groups.set_overrides(G, overrides);
    assert_eq!(w.beat(&Beat::join("a", &["t"])).interval_ms, 7_000);
    w.pass_ms(49_999);
    assert_eq!(w.stay("a", 2).error, ErrorCode::NONE);
    w.groups.set_overrides(G, Default::default());
    assert_eq!(w.stay("a", 2).interval_ms, 5_000);
    w.pass_ms(45_000);
    assert_eq!(w.stay("a", 2).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_group_of_another_kind_is_not_joined() {
    let mut w = world();
    w.with_ctx(|groups, ctx| groups.claim(ctx, G, chronik::broker::groups::GroupKind::Share).unwrap());
    let (code, words) = error_of(&mut w, &Beat::join("a", &["t"]));
    assert_eq!((code, words.as_str()), (ErrorCode::GROUP_ID_NOT_FOUND, "Group g is not a consumer group."));
    w.groups.release(G);
    w.joined_consumer("a", &["t"]);
    let refused = w.with_ctx(|groups, ctx| groups.claim(ctx, G, chronik::broker::groups::GroupKind::Share));
    assert_eq!(refused, Err(chronik::broker::groups::GroupKind::Consumer));
}

#[test]
fn a_server_that_stops_sends_members_away() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    let waits = w.send_beat(&Beat::join("b", &[]).with_pattern("t.*"));
    assert_eq!(w.groups.parked(), 1);
    w.with_ctx(|groups, ctx| groups.stop(ctx));
    assert_eq!(w.beaten(waits).error, ErrorCode::NOT_COORDINATOR);
    assert_eq!(w.stay("a", 2).error, ErrorCode::NOT_COORDINATOR);
    assert_eq!((w.groups.timers(), w.groups.parked()), (0, 0));
}
