//! Topics that come, go and come back while they are fetched from.

use super::*;

const MUCH: i32 = 1000;

fn add_partitions(h: &mut Harness, name: &str, count: i32) {
    let topics = vec![CreatePartitionsTopic { name, count, assignments: None }];
    let answer = h.call(3, &CreatePartitionsRequest { topics, ..Default::default() });
    assert_eq!(answer.decode::<CreatePartitionsResponse<'_>>().results[0].error_code, ErrorCode::NONE);
}

#[test]
fn a_topic_that_is_deleted_answers_those_who_wait_for_it() {
    for version in [4, 12, 17] {
        let h = &mut Harness::new();
        let id = create(h, "t", 2);
        produce(h, "t", 0);
        let t = if version < 13 { "t".to_owned() } else { format!("{:02x}", id.0[0]) };
        let start = if version < 5 { -1 } else { 0 };
        let conn = h.connect();
        let wanted = fetch(version).topic("t", id, vec![part(0, 1, MUCH)]).wait(3000, 1);
        wanted.send(h, conn);
        let by_session = if version < 7 { fetch(version).wait(3000, 1) } else { fetch(version).session(0, 0) };
        let by_session = by_session.topic("t", id, vec![part(0, 1, MUCH), part(1, 0, MUCH)]);
        let (idle, empty) = (format!("{t}-0 1/1/{start}"), format!("{t}-1 0/0/{start}"));
        let other = h.connect();
        let s = match version {
            4 => 0,
            _ => by_session.go_on(h, other).is("NONE S", &[&idle, &empty]),
        };
        let parked = if version < 7 { by_session } else { fetch(version).session(s, 1).wait(3000, 1) };
        parked.send(h, other);
        let deleting = h.connect();
        let topics = vec![DeleteTopicState { name: Some("t"), ..Default::default() }];
        h.send(deleting, 6, &DeleteTopicsRequest { topics, ..Default::default() });
        h.settle();
        let mut answers = h.take_answers();
        answers.retain(|answer| answer.conn != deleting);
        let told: Vec<Told> = answers.iter().map(Told::of).collect();
        assert_eq!(told.len(), 2, "version {version}");
        for told in told {
            let errors = told.parts.iter().filter(|part| part.contains("UNKNOWN_TOPIC_OR_PARTITION -1/-1/-1"));
            assert_eq!((errors.count(), told.head.starts_with("NONE")), (told.parts.len(), true));
        }
        if version >= 7 {
            let gone = |partition| format!("{t}-{partition} UNKNOWN_TOPIC_OR_PARTITION -1/-1/-1 aborted=[]");
            fetch(version).session(s, 2).wait(900, 1).go(h).is("NONE S", &[&gone(0), &gone(1)]);
        }
    }
}

#[test]
fn a_topic_that_comes_back_is_found_by_name_and_is_another_by_id() {
    let h = &mut Harness::new();
    for version in [12, 17] {
        let id = create(h, "t", 2);
        produce(h, "t", 0);
        let full = fetch(version).session(0, 0).topic("t", id, vec![part(0, 1, MUCH), part(1, 0, MUCH)]);
        let s = full.go(h).session_id;
        delete(h, "t");
        let new_id = create(h, "t", 2);
        let next = |epoch| fetch(version).session(s, epoch).wait(900, 1);
        let from_0 = |epoch| next(epoch).topic("t", id, vec![part(0, 0, MUCH)]);
        let alone = fetch(version).topic("t", id, vec![part(0, 0, MUCH)]).wait(900, 1).go(h);
        if version == 12 {
            next(1).go(h).is("NONE S", &["t-0 OFFSET_OUT_OF_RANGE -1/-1/-1"]);
            from_0(2).go(h).is("NONE S late", &["t-0 0/0/0"]);
            produce(h, "t", 0);
            next(3).go(h).is("NONE S", &["t-0 1/1/0 1 batches"]);
            // What is named and forgotten at once is forgotten, and what is named is served all the same.
            let last = from_0(4).forget("t", id, vec![0, 1]).go(h);
            last.is("NONE", &["t-0 1/1/0 1 batches"]);
            alone.is("NONE late", &["t-0 0/0/0"]);
        } else {
            let (old, new) = (format!("{:02x}", id.0[0]), format!("{:02x}", new_id.0[0]));
            let other = |partition| format!("{old}-{partition} INCONSISTENT_TOPIC_ID -1/-1/-1");
            next(1).go(h).is("NONE S", &[&other(0), &other(1)]);
            from_0(2).go(h).is("NONE S", &[&other(0), &other(1)]);
            let moved = next(3).topic("t", new_id, vec![part(0, 0, MUCH)]).forget("t", id, vec![0, 1]);
            moved.go(h).is("NONE S late", &[&format!("{new}-0 0/0/0")]);
            next(4).go(h).is("NONE S late", &[]);
            alone.is("NONE", &[&format!("{old}-0 UNKNOWN_TOPIC_ID -1/-1/-1 aborted=[]")]);
        }
        delete(h, "t");
    }
}

#[test]
fn partitions_that_are_to_come_are_served_when_they_have_come() {
    for version in [12, 17] {
        let h = &mut Harness::new();
        let id = create(h, "t", 1);
        let t = if version < 13 { "t".to_owned() } else { format!("{:02x}", id.0[0]) };
        let full = fetch(version).session(0, 0).topic("t", id, vec![part(0, 0, MUCH), part(2, 0, MUCH)]);
        let absent = format!("{t}-2 UNKNOWN_TOPIC_OR_PARTITION -1/-1/-1 aborted=[]");
        let s = full.go(h).is("NONE S", &[&format!("{t}-0 0/0/0"), &absent]);
        add_partitions(h, "t", 3);
        let next = |epoch| fetch(version).session(s, epoch).wait(900, 1);
        next(1).go(h).is("NONE S late", &[&format!("{t}-2 0/0/0")]);
        let conn = h.connect();
        next(2).send(h, conn);
        produce(h, "t", 2);
        next(2).answered(h, conn).unwrap().is("NONE S", &[&format!("{t}-2 1/1/0 1 batches")]);
    }
}

#[test]
fn a_topic_by_name_that_is_to_come_is_served_when_it_has_come() {
    let h = &mut Harness::new();
    let full = fetch(12).session(0, 0).topic("later", ZERO, vec![part(0, 0, MUCH)]);
    let s = full.go(h).is("NONE S", &["later-0 UNKNOWN_TOPIC_OR_PARTITION -1/-1/-1 aborted=[]"]);
    create(h, "later", 1);
    produce(h, "later", 0);
    fetch(12).session(s, 1).go(h).is("NONE S", &["later-0 1/1/0 1 batches"]);
}
