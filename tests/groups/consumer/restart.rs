//! Owns what a restart leaves of consumer groups: everything but the time of sessions.

use super::*;

#[test]
fn members_go_on_where_they_were() {
    let mut w = world();
    w.pair();
    w.pass_ms(40_000);
    let before = w.describe_consumer(G);
    w.restart();
    assert_eq!(w.describe_consumer(G), before);
    w.pass_ms(44_999);
    assert_eq!(
        (w.stay("a", 3).error, w.stay("b", 3).error),
        (ErrorCode::NONE, ErrorCode::NONE),
        "a whole session each"
    );
}

#[test]
fn a_rebalance_goes_on_in_the_middle() {
    for step in 0..4 {
        let mut w = world();
        w.joined_consumer("a", &["t"]);
        w.joined_consumer("b", &["t"]);
        let mut kept = parts(&[("t", &[0, 1, 2, 3, 4, 5, 6, 7])]);
        if step > 0 {
            kept = w.stay("a", 2).assignment.unwrap();
        }
        if step > 1 {
            w.beat(&Beat::stay("a", 2).owning(&kept));
        }
        if step > 2 {
            w.stay("b", 3);
        }
        let before = w.describe_consumer(G);
        w.restart();
        assert_eq!(w.describe_consumer(G), before, "step {step}");
        for _ in 0..3 {
            let epoch = w.describe_consumer(G).members[0].epoch;
            if let Some(told) = w.beat(&Beat::stay("a", epoch).owning(&kept)).assignment {
                kept = told;
            }
            w.stay("b", 3);
        }
        assert_eq!(w.describe_consumer(G).state, "Stable", "step {step}");
        assert!(w.describe_consumer(G).members.iter().all(|m| count(&m.assigned) == 4));
    }
}

#[test]
fn the_time_to_give_partitions_up_begins_anew() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.joined_consumer("b", &["t"]);
    w.stay("a", 2);
    w.pass_ms(20_000);
    w.restart();
    w.pass_ms(29_999);
    assert_eq!(w.stay("a", 2).error, ErrorCode::NONE);
    w.pass_ms(1);
    assert_eq!(w.stay("a", 2).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn static_members_that_are_away_keep_their_place() {
    let mut w = world();
    let mine = w.beat(&Beat::join("s", &["t"]).with_instance("i")).assignment;
    w.beat(&Beat::stay("s", -2).with_instance("i"));
    w.restart();
    let back = w.beat(&Beat::join("s2", &["t"]).with_instance("i"));
    assert_eq!((back.epoch, back.assignment), (2, mine));
    w.restart();
    assert_eq!(w.beat(&Beat::stay("s2", 2).with_instance("i")).error, ErrorCode::NONE);
    assert_eq!(w.describe_consumer(G).members.len(), 1);
}

#[test]
fn an_empty_group_ends_when_it_would_have() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.leave_consumer("a");
    w.pass_ms(500_000);
    w.restart();
    assert_eq!(w.describe_consumer(G).state, "Empty");
    w.pass_ms(100_000);
    assert_eq!(w.describe_consumer(G).error, ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn a_clock_that_jumps_ends_no_session() {
    let mut w = world();
    w.pair();
    for jump_ms in [3_600_000, -7_200_000] {
        w.wall_ms += jump_ms;
        w.pass_ms(BEAT_MS);
        assert_eq!((w.stay("a", 3).error, w.stay("b", 3).error), (ErrorCode::NONE, ErrorCode::NONE));
    }
}
