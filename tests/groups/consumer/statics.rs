//! Owns static members of consumer groups: they may go for a while, and nobody else takes their place meanwhile.

use super::*;

fn join(member: &str, instance: &str) -> Beat {
    Beat::join(member, &["t"]).with_instance(instance)
}

#[test]
fn a_static_member_that_comes_back_finds_its_partitions() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.beat(&join("s", "i"));
    let kept = w.stay("a", 2).assignment.unwrap();
    w.beat(&Beat::stay("a", 2).owning(&kept));
    let mine = w.beat(&Beat::stay("s", 3).with_instance("i")).assignment.unwrap();
    let left = w.beat(&Beat::stay("s", -2).with_instance("i"));
    assert_eq!((left.error, left.member.as_deref(), left.epoch), (ErrorCode::NONE, Some("s"), -2));
    w.pass_ms(10_000);
    assert_eq!(w.stay("a", 3).assignment, None, "nobody else gets them");
    let back = w.beat(&join("s2", "i"));
    assert_eq!((back.epoch, back.assignment), (3, Some(mine)), "and no rebalance");
    assert_eq!(w.describe_consumer(G).epoch, 3);
    let old = w.beat(&Beat::stay("s", 3).with_instance("i"));
    assert_eq!(old.error, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(old.message.unwrap(), "Static member s with instance id i was fenced by member s2.");
}

#[test]
fn an_instance_that_has_not_left_is_not_replaced() {
    let mut w = world();
    w.beat(&join("s", "i"));
    for id in ["s2", "s"] {
        let refused = w.beat(&join(id, "i"));
        assert_eq!(refused.error, ErrorCode::UNRELEASED_INSTANCE_ID);
        assert_eq!(
            refused.message.unwrap(),
            format!(
                "Static member {id} with instance id i cannot join the group because the instance id is owned by s \
                 member."
            )
        );
    }
    assert_eq!(w.beat(&Beat::stay("s", 2).with_instance("i")).error, ErrorCode::NONE);
}

#[test]
fn instances_that_are_not_there_are_unknown() {
    let mut w = world();
    w.beat(&join("s", "i"));
    for epoch in [2, -1, -2] {
        let unknown = w.beat(&Beat::stay("s", epoch).with_instance("j"));
        assert_eq!(unknown.error, ErrorCode::UNKNOWN_MEMBER_ID);
        assert_eq!(unknown.message.unwrap(), "Instance id j is unknown.");
        let fenced = w.beat(&Beat::stay("z", epoch).with_instance("i"));
        assert_eq!(fenced.error, ErrorCode::FENCED_INSTANCE_ID);
    }
}

#[test]
fn a_static_member_that_stays_away_is_gone_with_its_session() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.beat(&join("s", "i"));
    let kept = w.stay("a", 2).assignment.unwrap();
    w.beat(&Beat::stay("a", 2).owning(&kept));
    w.beat(&Beat::stay("s", 3).with_instance("i"));
    w.beat(&Beat::stay("s", -2).with_instance("i"));
    for _ in 0..9 {
        w.pass_ms(BEAT_MS);
        w.stay("a", 3);
    }
    assert_eq!(
        count(&w.stay("a", 4).assignment.unwrap_or_else(|| w.describe_consumer(G).members[0].assigned.clone())),
        8
    );
    let new = w.beat(&join("s2", "i"));
    assert_eq!((new.error, count(&new.assignment.unwrap())), (ErrorCode::NONE, 0), "it begins anew");
}

#[test]
fn a_static_member_that_leaves_for_good_makes_room() {
    let mut w = world();
    w.beat(&join("s", "i"));
    assert_eq!(w.beat(&Beat::stay("s", -1).with_instance("i")).epoch, -1);
    let (_, all) = w.joined_consumer("a", &["t"]);
    assert_eq!(count(&all), 8);
}

#[test]
fn a_static_member_may_leave_while_it_gives_partitions_up() {
    let mut w = world();
    w.beat(&join("s", "i"));
    w.joined_consumer("b", &["t"]);
    let kept = w.beat(&Beat::stay("s", 2).with_instance("i")).assignment.unwrap();
    assert_eq!(count(&kept), 4);
    w.beat(&Beat::stay("s", -2).with_instance("i"));
    // Its process is gone, so what it was to give up is free.
    assert_eq!(count(&w.stay("b", 3).assignment.unwrap()), 4);
    let back = w.beat(&join("s2", "i"));
    assert_eq!((back.epoch, back.assignment), (3, Some(kept)));
    assert_eq!(w.describe_consumer(G).state, "Stable");
}

/// An administrator removes members by LeaveGroup: static ones by their instance alone, others by their id.
#[test]
fn an_administrator_removes_members_of_the_new_protocol() {
    let mut w = world();
    w.beat(&join("s", "i"));
    w.joined_consumer("a", &["t"]);
    assert_eq!(w.leave(&[("", Some("nobody")), ("nobody", None)]), [ErrorCode::UNKNOWN_MEMBER_ID; 2]);
    assert_eq!(w.leave(&[("x", Some("i"))]), [ErrorCode::FENCED_INSTANCE_ID]);
    assert_eq!(w.leave(&[("", Some("i"))]), [ErrorCode::NONE]);
    assert_eq!(w.beat(&Beat::stay("s", 2).with_instance("i")).error, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.leave(&[("a", None)]), [ErrorCode::NONE]);
    assert_eq!(w.stay("a", 3).error, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.describe_consumer(G).members.len(), 0);
    let (_, all) = w.joined_consumer("b", &["t"]);
    assert_eq!(count(&all), 8, "what they had is free");
}
