//! Owns subscriptions by regular expression.

use super::*;

fn join(member: &str, pattern: &str) -> Beat {
    Beat::join(member, &[]).with_pattern(pattern)
}

#[test]
fn whoever_joins_with_a_pattern_waits_for_a_worker_and_gets_its_topics() {
    let mut w = world();
    let ticket = w.send_beat(&join("a", "t|u"));
    assert_eq!((w.handled, w.given.jobs.len(), w.groups.parked()), (Handled::Parked, 1, 1));
    assert!(!w.is_answered(ticket));
    w.work();
    let beaten = w.beaten(ticket);
    assert_eq!((beaten.error, beaten.epoch, count(&beaten.assignment.unwrap())), (ErrorCode::NONE, 2, 16));
    assert_eq!(w.describe_consumer(G).members[0].pattern, "t|u");
    // The next one need not wait.
    let ticket = w.send_beat(&join("b", "t|u"));
    assert!(w.is_answered(ticket) && w.given.jobs.is_empty());
    let other = w.send_beat(&Beat { group: "h".into(), ..join("a", "t|u") });
    assert_eq!(count(&w.beaten(other).assignment.unwrap()), 16, "nor one in another group");
}

#[test]
fn a_pattern_that_is_none_is_refused_and_nothing_is_left_of_it() {
    let mut w = world();
    for bad in ["[", "(", "*", "a{2,1}", "\\", r"(a)\1", r"(a)\7b", r"[\1]"] {
        let refused = w.beat(&join("a", bad));
        assert_eq!(refused.error, ErrorCode::INVALID_REGULAR_EXPRESSION);
        let words = format!("SubscribedTopicRegex `{bad}` is not a valid regular expression: ");
        assert!(refused.message.unwrap().starts_with(&words));
    }
    let long = w.beat(&join("a", &"a".repeat(5000)));
    assert_eq!(long.error, ErrorCode::INVALID_REGULAR_EXPRESSION);
    assert_eq!((w.groups.bytes(), w.groups.parked(), w.given.log.len()), (0, 0, 0));
    let (epoch, _) = w.joined_consumer("a", &["t"]);
    let refused = w.beat(&Beat { epoch, ..Beat::stay("a", epoch).with_pattern("[") });
    assert_eq!(refused.error, ErrorCode::INVALID_REGULAR_EXPRESSION);
    assert_eq!(w.stay("a", epoch).epoch, epoch, "the member stays what it was");
}

#[test]
fn new_topics_that_match_are_found() {
    let mut w = world();
    let beaten = w.beat(&join("a", "t.*"));
    assert_eq!(count(&beaten.assignment.unwrap()), 8);
    w.change_topic("t2", 7, Some(2));
    w.change_topic("x2", 8, Some(2));
    assert_eq!(w.stay("a", 2).epoch, 2, "a worker looks, nobody waits for it");
    let told = w.stay("a", 2);
    assert_eq!((told.epoch, count(&told.assignment.unwrap())), (3, 10));
    w.change_topic("t", 1, None);
    assert_eq!(count(&w.stay("a", 3).assignment.unwrap()), 2, "what is gone is seen at once");
}

#[test]
fn a_worker_has_one_look_at_a_pattern_at_a_time() {
    let mut w = world();
    w.beat(&join("a", "t.*"));
    for n in 0..10 {
        w.change_topic("t2", 7, Some(n + 1));
        let ticket = w.send_beat(&Beat::stay("a", 2));
        w.beaten(ticket);
        assert_eq!(w.given.jobs.len(), 1);
    }
    w.work();
    assert_eq!(w.stay("a", 2).epoch, 3, "what it found");
    assert_eq!(count(&w.stay("a", 3).assignment.unwrap_or_default()), 0);
    assert_eq!(count(&w.describe_consumer(G).members[0].assigned), 18);
}

#[test]
fn names_and_patterns_go_together() {
    let mut w = world();
    let both = Beat { topics: Some(vec!["u".into()]), pattern: Some("t".into()), ..Beat::join("a", &[]) };
    assert_eq!(count(&w.beat(&both).assignment.unwrap()), 16);
    let only = Beat { pattern: Some("".into()), ..Beat::stay("a", 2) };
    let told = w.beat(&only);
    assert_eq!(told.assignment.unwrap().keys().cloned().collect::<Vec<_>>(), ["u"]);
    assert_eq!(w.describe_consumer(G).members[0].pattern, "");
}

#[test]
fn a_client_that_goes_while_it_waits_is_not_missed() {
    let mut w = world();
    let ticket = w.send_beat(&join("a", "t"));
    w.groups.disconnected(ticket.0);
    w.work();
    assert!(!w.is_answered(ticket));
    assert_eq!((w.groups.parked(), w.groups.bytes()), (0, 0));
}

#[test]
fn after_a_restart_patterns_are_looked_up_before_anything_changes() {
    let mut w = world();
    w.beat(&join("a", "t|u"));
    w.beat(&join("b", "t|u"));
    w.restart();
    let ticket = w.send_beat(&Beat::stay("a", 2));
    assert!(!w.is_answered(ticket), "its topics are not known yet");
    w.work();
    assert_eq!(count(&w.beaten(ticket).assignment.unwrap()), 8);
    assert_eq!(w.describe_consumer(G).epoch, 3);
}

/// Found by seed 30100000783 of the crashing kind: a heartbeat that had come in time was answered with UNKNOWN_MEMBER_ID.
#[test]
fn whose_heartbeat_waits_for_a_pattern_is_not_taken_for_silent() {
    let mut w = world();
    w.beat(&join("a", "t|u"));
    w.beat(&join("b", "t|u"));
    w.restart();
    let ticket = w.send_beat(&Beat::stay("a", 2));
    w.pass_ms(60_000);
    assert!(!w.is_answered(ticket));
    w.work();
    let beaten = w.beaten(ticket);
    assert_eq!((beaten.error, beaten.epoch), (ErrorCode::NONE, 4));
    assert_eq!(w.describe_consumer(G).members.len(), 1, "nothing was heard of the other one");
}

#[test]
fn offsets_of_topics_that_match_are_kept() {
    let mut w = world();
    w.beat(&join("a", "t"));
    assert_eq!(w.commit_epoch("a", 2, "t", 0, 5), ErrorCode::NONE);
    assert_eq!(w.commit_epoch("a", 2, "u", 0, 5), ErrorCode::NONE);
    for _ in 0..8 * 24 * 120 {
        w.pass_ms(30_000);
        w.stay("a", 2);
    }
    assert_eq!((w.fetch(G, "t", 0), w.fetch(G, "u", 0)), (5, -1));
}
