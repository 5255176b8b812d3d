//! Fetch sessions (KIP-227).

use chronik::config::Config;

use super::*;

const MUCH: i32 = 1000;

/// Four partitions, of which the first has a batch; its id, and the name that answers have for it in this version.
fn topic(h: &mut Harness, version: i16) -> (Uuid, String) {
    let id = create(h, "t", 4);
    produce(h, "t", 0);
    (id, if version < 13 { "t".to_owned() } else { format!("{:02x}", id.0[0]) })
}

/// Both ways of naming topics, and the first version with sessions.
const VERSIONS: [i16; 3] = [7, 12, 17];

#[test]
fn sessions_begin_with_epoch_0_and_end_with_minus_1() {
    for version in VERSIONS {
        let h = &mut Harness::new();
        let (id, t) = topic(h, version);
        let all = || fetch(version).topic("t", id, vec![part(0, 0, MUCH), part(1, 0, MUCH)]);
        let both = [format!("{t}-0 1/1/0 1 batches"), format!("{t}-1 0/0/0")];
        let both = [both[0].as_str(), both[1].as_str()];
        all().session(5, -1).go(h).is("NONE", &both);
        for (session, epoch) in [(0, 1), (5, 1), (5, -2)] {
            all().session(session, epoch).go(h).is("FETCH_SESSION_ID_NOT_FOUND", &[]);
        }
        all().session(5, 0).go(h).is("NONE S", &both);
        let s = all().session(0, 0).go(h).is("NONE S", &both);
        assert!(s > 0);
        fetch(version).session(s, 1).go(h).is("NONE S", &both[..1]);
        for epoch in [1, 3, -2] {
            fetch(version).session(s, epoch).go(h).is("INVALID_FETCH_SESSION_EPOCH", &[]);
        }
        let other = if version < 13 { 17 } else { 12 };
        fetch(other).session(s, 2).go(h).is("FETCH_SESSION_TOPIC_ID_ERROR", &[]);
        fetch(version).session(s, 2).go(h).is("NONE S", &both[..1]);
        all().session(s, -1).go(h).is("NONE", &both);
        fetch(version).session(s, 3).go(h).is("FETCH_SESSION_ID_NOT_FOUND", &[]);
    }
}

#[test]
fn an_empty_session_can_begin_and_does_not_last() {
    let h = &mut Harness::new();
    let s = fetch(17).session(0, 0).go(h).is("NONE S", &[]);
    fetch(17).session(s, 1).go(h).is("NONE", &[]);
    fetch(17).session(s, 2).go(h).is("FETCH_SESSION_ID_NOT_FOUND", &[]);
}

#[test]
fn only_news_is_told() {
    for version in VERSIONS {
        let h = &mut Harness::new();
        let (id, t) = topic(h, version);
        let told = |text: &str| format!("{t}-{text}");
        let all = vec![part(0, 0, MUCH), part(1, 0, MUCH), part(2, 0, MUCH)];
        let s = fetch(version).session(0, 0).topic("t", id, all).go(h).session_id;
        let next = |epoch| fetch(version).session(s, epoch).wait(900, 1);
        let with = |epoch, part| next(epoch).topic("t", id, vec![part]);
        with(1, part(0, 1, MUCH)).go(h).is("NONE S late", &[]);
        next(2).go(h).is("NONE S late", &[]);
        let out = told("1 OFFSET_OUT_OF_RANGE -1/-1/-1");
        with(3, part(1, 5, MUCH)).go(h).is("NONE S", &[&out]);
        next(4).go(h).is("NONE S", &[&out]);
        with(5, part(1, 0, MUCH)).go(h).is("NONE S late", &[&told("1 0/0/0")]);
        next(6).go(h).is("NONE S late", &[]);
        let absent = told("9 UNKNOWN_TOPIC_OR_PARTITION -1/-1/-1 aborted=[]");
        with(7, part(9, 0, MUCH)).go(h).is("NONE S late", &[&absent]);
        next(8).go(h).is("NONE S late", &[&absent]);
        next(9).forget("t", id, vec![9, 8]).go(h).is("NONE S late", &[]);
        with(10, part(3, 0, MUCH)).forget("t", id, vec![3]).go(h).is("NONE S late", &[]);
        // The log start is news too, and so is what a moved high watermark leaves behind the limits.
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 1 }];
        let topics = vec![DeleteRecordsTopic { name: "t", partitions }];
        h.call(2, &DeleteRecordsRequest { topics, ..Default::default() });
        next(11).wait(0, 1).go(h).is("NONE S", &[&told("0 1/1/1")]);
        next(12).go(h).is("NONE S late", &[]);
    }
}

#[test]
fn partitions_that_gave_records_go_to_the_end_so_that_none_starves() {
    for version in VERSIONS {
        let h = &mut Harness::new();
        let (id, t) = topic(h, version);
        let all = vec![part(0, 1, MUCH), part(1, 0, MUCH), part(2, 0, MUCH)];
        let s = fetch(version).session(0, 0).topic("t", id, all).go(h).session_id;
        (0..3).for_each(|partition| produce(h, "t", partition));
        let next = |h: &mut Harness, epoch| fetch(version).session(s, epoch).max(0).go(h);
        let told = |text: &str| format!("{t}-{text}");
        let first = [told("0 2/2/0 1 batches"), told("1 1/1/0"), told("2 1/1/0")];
        next(h, 1).is("NONE S", &first.each_ref().map(String::as_str));
        next(h, 2).is("NONE S", &[&told("1 1/1/0 1 batches")]);
        next(h, 3).is("NONE S", &[&told("2 1/1/0 1 batches")]);
        let all = [told("0 2/2/0 1 batches"), told("1 1/1/0 1 batches"), told("2 1/1/0 1 batches")];
        let all = all.each_ref().map(String::as_str);
        fetch(version).session(s, 4).go(h).is("NONE S", &all);
        let conn = h.connect();
        fetch(version).session(s, 5).go_on(h, conn).is("NONE S", &all);
        let out = fetch(version).session(s, 6).topic("t", id, vec![part(0, 100, MUCH)]);
        out.go(h).is("NONE S", &[&told("0 OFFSET_OUT_OF_RANGE -1/-1/-1"), all[1], all[2]]);
    }
}

#[test]
fn a_session_outlives_its_connection_and_serves_one_request_at_a_time() {
    for version in VERSIONS {
        let h = &mut Harness::new();
        let (id, t) = topic(h, version);
        let (a, b) = (h.connect(), h.connect());
        let full = fetch(version).session(0, 0).topic("t", id, vec![part(3, 0, MUCH), part(2, 100, MUCH)]);
        let (idle, out) = (format!("{t}-3 0/0/0"), format!("{t}-2 OFFSET_OUT_OF_RANGE -1/-1/-1"));
        let s = full.go_on(h, a).is("NONE S", &[&idle, &out]);
        fetch(version).session(s, 1).forget("t", id, vec![2]).go_on(h, a).is("NONE S", &[]);
        let parked = fetch(version).session(s, 2).wait(1500, 1);
        parked.send(h, a);
        assert!(parked.answered(h, a).is_none());
        // Kafka tells it when its time is up; nothing can come of it any more, so here it is told at once.
        h.send(b, version, &fetch(version).session(s, 3).request);
        let answers: Vec<String> = h.take_answers().iter().map(|answer| Told::of(answer).head).collect();
        assert_eq!(answers, ["INVALID_FETCH_SESSION_EPOCH S", "NONE S"]);
        // The end of a session under a request that waits.
        parked.clone().session(s, 4).send(h, a);
        h.send(b, version, &fetch(version).session(s, -1).topic("t", id, vec![part(3, 0, MUCH)]).request);
        let answers: Vec<String> = h.take_answers().iter().map(|answer| Told::of(answer).head).collect();
        assert_eq!(answers, ["NONE S", "NONE"]);
        fetch(version).session(s, 5).go_on(h, a).is("FETCH_SESSION_ID_NOT_FOUND", &[]);
        // The end of a connection under a request that waits: the session has moved on.
        let s = fetch(version).session(0, 0).topic("t", id, vec![part(3, 0, MUCH)]).go_on(h, a).session_id;
        parked.clone().session(s, 1).send(h, a);
        h.broker.disconnected(h.now, a);
        fetch(version).session(s, 1).go_on(h, b).is("INVALID_FETCH_SESSION_EPOCH", &[]);
        fetch(version).session(s, 2).go_on(h, b).is("NONE S", &[]);
        produce(h, "t", 3);
        fetch(version).session(s, 3).go_on(h, b).is("NONE S", &[&format!("{t}-3 1/1/0 1 batches")]);
    }
}

#[test]
fn what_is_not_there_is_told_each_time_and_ends_waiting_when_there_is_nothing_else() {
    for version in VERSIONS {
        let h = &mut Harness::new();
        let (id, t) = topic(h, version);
        let wanted = fetch(version).session(0, 0).wait(900, 1).topic("t", id, vec![part(3, 0, MUCH)]);
        let absent = match version {
            17 => "00-0 UNKNOWN_TOPIC_ID -1/-1/-1 aborted=[]",
            _ => "nothere-0 UNKNOWN_TOPIC_OR_PARTITION -1/-1/-1 aborted=[]",
        };
        let told = wanted.topic("nothere", ZERO, vec![part(0, 0, MUCH)]).go(h);
        let s = told.is("NONE S late", &[&format!("{t}-3 0/0/0"), absent]);
        let next = |epoch| fetch(version).session(s, epoch).wait(900, 1);
        next(1).go(h).is("NONE S late", &[absent]);
        next(2).forget("t", id, vec![3]).go(h).is("NONE S", &[absent]);
        next(3).forget("nothere", ZERO, vec![0]).go(h).is("NONE", &[]);
        next(4).go(h).is("FETCH_SESSION_ID_NOT_FOUND", &[]);
    }
}

#[test]
fn another_reader_in_the_same_session_gets_its_own_answers() {
    for version in [12, 17] {
        let h = &mut Harness::new();
        let (id, t) = topic(h, version);
        let leader = if version < 16 { "" } else { " leader=1@0" };
        let refused = format!("{t}-3 NOT_LEADER_OR_FOLLOWER -1/-1/-1{leader}");
        let full = fetch(version).session(0, 0).topic("t", id, vec![part(3, 0, MUCH)]);
        let s = full.replica(1).go(h).is("NONE S", &[&refused]);
        fetch(version).session(s, 1).replica(1).go(h).is("NONE S", &[&refused]);
        fetch(version).session(s, 2).go(h).is("NONE S", &[&format!("{t}-3 0/0/0")]);
        fetch(version).session(s, 3).replica(1).go(h).is("NONE S", &[&refused]);
    }
}

#[test]
fn a_full_cache_grants_no_session_until_one_may_go() {
    let h = &mut Harness::with(Config { max_incremental_fetch_session_cache_slots: 2, ..Config::default() });
    let (id, _) = topic(h, 17);
    let wanted = |count: i32| {
        let parts = (0..count).map(|partition| part(partition, i64::from(partition == 0), MUCH));
        fetch(17).session(0, 0).topic("t", id, parts.collect())
    };
    let small = wanted(2).go(h).session_id;
    let large = wanted(3).go(h).session_id;
    assert!(small > 0 && large > 0 && small != large);
    assert_eq!(wanted(4).go(h).head, "NONE");
    // A follower's session comes before consumers', the least of them goes.
    let follower = wanted(1).replica(1).go(h).session_id;
    assert!(follower > 0);
    fetch(17).session(small, 1).go(h).is("FETCH_SESSION_ID_NOT_FOUND", &[]);
    assert_eq!(fetch(17).session(large, 1).go(h).head, "NONE S");
    // Of some age, a session makes room for one that is larger or as large, while it is in use.
    h.pass_ms(120_001);
    assert_eq!(fetch(17).session(large, 2).go(h).head, "NONE S");
    fetch(17).session(follower, 1).replica(1).go(h);
    assert_eq!(wanted(2).go(h).head, "NONE");
    h.pass_ms(1);
    let larger = wanted(4).go(h).session_id;
    assert!(larger > 0);
    fetch(17).session(large, 3).go(h).is("FETCH_SESSION_ID_NOT_FOUND", &[]);
    // Unused for as long, any goes.
    h.pass_ms(120_001);
    assert_eq!(wanted(1).go(h).head, "NONE S");
    fetch(17).session(follower, 2).replica(1).go(h).is("FETCH_SESSION_ID_NOT_FOUND", &[]);
}

#[test]
fn without_slots_every_fetch_stands_alone() {
    let h = &mut Harness::with(Config { max_incremental_fetch_session_cache_slots: 0, ..Config::default() });
    let (id, _) = topic(h, 17);
    assert_eq!(fetch(17).session(0, 0).topic("t", id, vec![part(0, 0, MUCH)]).go(h).head, "NONE");
}

#[test]
fn an_idle_session_of_many_partitions_waits_on_one_timer_and_wakes_for_the_partition_that_changes() {
    let h = &mut Harness::new();
    let id = create(h, "t", 1000);
    let all = (0..1000).map(|partition| part(partition, 0, MUCH)).collect();
    let s = fetch(17).session(0, 0).topic("t", id, all).go(h).session_id;
    let conn = h.connect();
    let mut parked = fetch(17).session(s, 1).wait(500, 1);
    for epoch in 1..5 {
        let asked_us = h.now.mono_us;
        parked.send(h, conn);
        assert_eq!(h.broker.deadline_us(), Some(asked_us + 500_000));
        h.pass_ms(499);
        assert!(parked.answered(h, conn).is_none());
        let partition = 7 * epoch;
        produce(h, "t", partition);
        let told = parked.answered(h, conn).unwrap();
        told.is("NONE S", &[&format!("{:02x}-{partition} 1/1/0 1 batches", id.0[0])]);
        assert_ne!(h.broker.deadline_us(), Some(asked_us + 500_000));
        let caught_up = vec![part(partition, 1, MUCH)];
        parked = fetch(17).session(s, epoch + 1).wait(500, 1).topic("t", id, caught_up);
    }
}

#[test]
fn partitions_of_all_sessions_are_bounded_together() {
    const EACH: i32 = 20_000;
    let mut h = Harness::new();
    // Where there is much, one may name much.
    for number in 0..2 {
        create(&mut h, &format!("many{number}"), 10_000);
    }
    let (id, _) = topic(&mut h, 17);
    let wanted = |count: i32| {
        let parts = (1..=count).map(|partition| part(partition, 0, MUCH));
        fetch(17).session(0, 0).topic("t", id, parts.collect())
    };
    let most = chronik::limits::FETCH_SESSION_PARTITIONS_MAX;
    let large = wanted(EACH);
    let conn = h.connect();
    let grant = |h: &mut Harness| h.call_on(conn, 17, &large.request).decode::<FetchResponse<'_>>().session_id;
    let granted: Vec<i32> = (0..most / EACH as usize).map(|_| grant(&mut h)).collect();
    assert!(granted.iter().all(|session| *session > 0));
    // A session that would go beyond is not granted, and one that would grow beyond ends: the client goes on without.
    assert_eq!(wanted(1).go(&mut h).session_id, 0);
    let grows = fetch(17).session(granted[0], 1).topic("t", id, vec![part(EACH + 1, 0, MUCH)]);
    grows.go(&mut h).is("FETCH_SESSION_ID_NOT_FOUND", &[]);
    assert!(grant(&mut h) > 0, "there is room again");
    assert_eq!(wanted(1).go(&mut h).session_id, 0);
    assert_eq!(fetch(17).session(granted[1], 1).go(&mut h).head, "NONE S", "those that are there go on");
}
