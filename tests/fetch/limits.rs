//! How much one answer holds, and how long it is waited for.

use super::*;

/// Partition 0 has three batches, 1 has one, 2 has none.
fn topic(h: &mut Harness) -> Uuid {
    let id = create(h, "t", 3);
    for partition in [0, 0, 0, 1] {
        produce(h, "t", partition);
    }
    id
}

/// Batches of partitions 0 and 1 in one answer, with these limits for each and for all; -1 for an error.
fn batches_of(h: &mut Harness, version: i16, id: Uuid, limits: (i32, i32, i32)) -> [String; 2] {
    let (limit_0, limit_1, max) = limits;
    let told = fetch(version).topic("t", id, vec![part(2, 0, 100), part(0, 0, limit_0), part(1, 0, limit_1)]).max(max);
    let told = told.go(h);
    assert_eq!((told.head.as_str(), told.parts.len()), ("NONE", 3));
    let gives = |text: &String| match text.split_once("batches") {
        _ if text.contains("UNKNOWN_SERVER_ERROR -1/-1/-1") => "error".to_owned(),
        Some((before, _)) => before.trim_end().rsplit(' ').next().unwrap().to_owned(),
        None => "0".to_owned(),
    };
    [gives(&told.parts[1]), gives(&told.parts[2])]
}

const MUCH: i32 = 1 << 20;

#[test]
fn the_first_batch_is_always_whole_and_others_come_only_where_they_fit() {
    let mut h = Harness::new();
    let id = topic(&mut h);
    for version in [4, 12, 17] {
        for (limits, expected) in [
            ((0, 0, 0), ["1", "0"]),
            ((0, 0, MUCH), ["1", "0"]),
            ((1, 1, MUCH), ["1", "0"]),
            ((BATCH, BATCH, MUCH), ["1", "1"]),
            ((BATCH + 1, BATCH + 1, MUCH), ["1", "1"]),
            ((BATCH - 1, BATCH - 1, MUCH), ["1", "0"]),
            ((2 * BATCH + 3, MUCH, MUCH), ["2", "1"]),
            ((MUCH, MUCH, 0), ["1", "0"]),
            ((MUCH, MUCH, 1), ["1", "0"]),
            ((MUCH, MUCH, BATCH), ["1", "0"]),
            ((MUCH, MUCH, 2 * BATCH), ["2", "0"]),
            ((MUCH, MUCH, 2 * BATCH + 10), ["2", "0"]),
            ((MUCH, MUCH, 3 * BATCH), ["3", "0"]),
            ((MUCH, MUCH, 4 * BATCH - 1), ["3", "0"]),
            ((MUCH, MUCH, 4 * BATCH), ["3", "1"]),
            ((-1, MUCH, MUCH), ["error", "1"]),
            ((MUCH, -1, MUCH), ["3", "error"]),
            ((MUCH, MUCH, -1), ["1", "0"]),
        ] {
            assert_eq!(batches_of(&mut h, version, id, limits), expected, "version {version}, {limits:?}");
        }
    }
}

#[test]
fn a_batch_that_is_cut_off_counts_for_what_is_waited_for_and_against_what_others_get() {
    let mut h = Harness::new();
    topic(&mut h);
    let from_0 = |limit| fetch(12).topic("t", ZERO, vec![part(0, 0, limit)]);
    from_0(BATCH + 10).wait(1500, BATCH + 10).go(&mut h).is("NONE", &["t-0 3/3/0 1 batches"]);
    from_0(BATCH + 10).wait(1500, BATCH + 11).go(&mut h).is("NONE late", &["t-0 3/3/0 1 batches"]);
    from_0(MUCH).wait(1500, MUCH).max(2 * BATCH).go(&mut h).is("NONE", &["t-0 3/3/0 2 batches"]);
    // What is left beside one and a half batches would be room for the other partition's batch, were they counted as one.
    let told = fetch(12).topic("t", ZERO, vec![part(0, 0, BATCH + 100), part(1, 0, MUCH)]).max(2 * BATCH + 50);
    told.go(&mut h).is("NONE", &["t-0 3/3/0 1 batches", "t-1 1/1/0"]);
}

#[test]
fn a_fetch_waits_for_its_bytes_or_its_time() {
    let mut h = Harness::new();
    topic(&mut h);
    let at_end = || fetch(12).topic("t", ZERO, vec![part(0, 3, MUCH)]);
    for immediate in [
        at_end().wait(1500, 0),
        at_end().wait(1500, -1),
        at_end().wait(-1, 1),
        at_end().wait(1500, 1).max(0),
        at_end().wait(1500, 100).max(-5),
    ] {
        immediate.go(&mut h).is("NONE", &["t-0 3/3/0"]);
    }
    at_end().wait(1500, 1).go(&mut h).is("NONE late", &["t-0 3/3/0"]);
    for nothing in [fetch(12), fetch(12).wait(1500, 1), fetch(12).topic("t", ZERO, vec![]).wait(1500, 1)] {
        nothing.go(&mut h).is("NONE", &[]);
    }

    let conn = h.connect();
    let two = at_end().wait(1500, 2 * BATCH);
    two.send(&mut h, conn);
    produce(&mut h, "t", 0);
    assert!(two.answered(&mut h, conn).is_none());
    produce(&mut h, "t", 1);
    assert!(two.answered(&mut h, conn).is_none(), "another partition's records do not count");
    produce(&mut h, "t", 0);
    two.answered(&mut h, conn).unwrap().is("NONE", &["t-0 5/5/0 2 batches"]);
}

#[test]
fn a_partition_that_is_named_twice_counts_once_with_what_was_said_last() {
    let mut h = Harness::new();
    let id = topic(&mut h);
    let told = fetch(12).topic("t", ZERO, vec![part(0, 0, MUCH), part(0, 2, MUCH), part(1, 0, 50)]).go(&mut h);
    told.is("NONE", &["t-0 3/3/0 1 batches", "t-1 1/1/0"]);
    let told = fetch(12).topic("t", ZERO, vec![part(1, 0, MUCH)]).topic("t", ZERO, vec![part(0, 2, MUCH)]).topic(
        "t",
        ZERO,
        vec![part(1, 1, MUCH)],
    );
    told.go(&mut h).is("NONE", &["t-1 1/1/0", "t-0 3/3/0 1 batches"]);
    let told = fetch(17).topic("", id, vec![part(1, 0, MUCH), part(0, 0, MUCH), part(1, 1, MUCH)]).go(&mut h);
    assert_eq!(told.parts.len(), 2);
}

#[test]
fn the_brokers_own_limit_holds_also_where_the_client_allows_more() {
    let config = chronik::config::Config { fetch_max_bytes: 2 * BATCH as usize, ..Default::default() };
    let mut h = Harness::with(config);
    topic(&mut h);
    let told = fetch(12).topic("t", ZERO, vec![part(0, 0, MUCH), part(1, 0, MUCH)]).go(&mut h);
    told.is("NONE", &["t-0 3/3/0 2 batches", "t-1 1/1/0"]);
}

#[test]
fn old_versions_get_their_message_sets_within_the_same_limits() {
    let mut h = Harness::new();
    topic(&mut h);
    for version in 0..4 {
        let conn = h.connect();
        let wanted = fetch(version).topic("t", ZERO, vec![part(2, 0, 100), part(0, 0, 1), part(1, 0, 1)]);
        let answer = h.call_on(conn, version, &wanted.request);
        let response: FetchResponse<'_> = answer.decode();
        let lengths: Vec<usize> = response.responses[0].partitions.iter().map(|p| p.records.bytes().len()).collect();
        assert_eq!((lengths[0], lengths[2]), (0, 0), "version {version}");
        assert!(lengths[1] > 100, "version {version}");
    }
}

/// Fetches of what is not in memory any more, on a connection each.
fn cold_ones(h: &mut Harness, count: usize) -> Vec<(ConnId, Fetch<'static>)> {
    topic(h);
    h.checkpoint();
    h.holds_reads = true;
    let wanted = fetch(12).topic("t", ZERO, vec![part(0, 0, 600)]).wait(1500, 1);
    let sent = (0..count).map(|_| {
        let conn = h.connect();
        wanted.send(h, conn);
        (conn, wanted.clone())
    });
    sent.collect()
}

fn answer_oldest(h: &mut Harness) {
    let job = h.reads.remove(0);
    h.answer_read(job);
    h.settle();
}

#[test]
fn fetches_from_the_disk_stand_in_line_for_memory_and_hot_ones_do_not() {
    let mut h = Harness::with(chronik::config::Config { response_bytes_max: 2000, ..Default::default() });
    let cold = cold_ones(&mut h, 5);
    assert_eq!(h.reads.len(), 2, "two may bring 1200 bytes, and half of 2000 is for such");
    // Time that passes changes nothing, as for whoever waits for the disk.
    h.pass_ms(2000);
    assert_eq!(h.reads.len(), 2);
    produce(&mut h, "t", 1);
    fetch(12).topic("t", ZERO, vec![part(1, 1, MUCH)]).go(&mut h).is("NONE", &["t-1 2/2/0 1 batches"]);
    answer_oldest(&mut h);
    assert!(cold[0].1.answered(&mut h, cold[0].0).is_some());
    h.unsent(1000);
    assert_eq!(h.reads.len(), 1, "clients have as much to read as there may be");
    h.unsent(0);
    assert_eq!(h.reads.len(), 2, "the third has come forward");
    h.broker.disconnected(h.now, cold[3].0);
    for _ in 0..3 {
        answer_oldest(&mut h);
        h.unsent(0);
    }
    assert!(h.reads.is_empty());
    let answered: Vec<ConnId> = h.take_answers().iter().map(|answer| answer.conn).collect();
    assert_eq!(answered, [cold[1].0, cold[2].0, cold[4].0], "in the order in which they came");
}

#[test]
fn a_stop_waits_for_no_memory() {
    let mut h = Harness::with(chronik::config::Config { response_bytes_max: 1000, ..Default::default() });
    let cold = cold_ones(&mut h, 3);
    h.holds_reads = false;
    h.broker.stop(h.now);
    h.settle();
    while !h.reads.is_empty() {
        answer_oldest(&mut h);
    }
    assert_eq!(h.take_answers().len(), cold.len());
    assert!(h.broker.is_drained());
}

#[test]
fn fetches_that_name_most_do_not_wait_when_too_much_is_named() {
    const LARGE: usize = 16;
    let mut h = Harness::new();
    topic(&mut h);
    // Where there is much, one may name much.
    create(&mut h, "many", 10_000);
    let most = chronik::limits::FETCH_WAITING_PARTITIONS_MAX as i32;
    let named = |count: i32| {
        let parts = (0..count).map(|partition| part(partition, if partition == 0 { 3 } else { 0 }, MUCH));
        fetch(12).topic("t", ZERO, parts.filter(|part| part.partition != 1).collect()).wait(1500, MUCH)
    };
    let large = named(most / LARGE as i32);
    let conns: Vec<ConnId> = (0..LARGE + 2).map(|_| h.connect()).collect();
    conns[..LARGE].iter().for_each(|conn| large.send(&mut h, *conn));
    assert!(h.take_answers().is_empty());
    let answered = |h: &mut Harness| -> Vec<ConnId> { h.take_answers().iter().map(|answer| answer.conn).collect() };
    // Each that comes pushes one out that names as much or more; one that names more than all others goes itself.
    named(60).send(&mut h, conns[LARGE]);
    assert_eq!(answered(&mut h), [conns[LARGE - 1]]);
    large.send(&mut h, conns[LARGE + 1]);
    assert_eq!(answered(&mut h), [conns[LARGE - 2]]);
    let largest = named(most / LARGE as i32 + 1000);
    largest.send(&mut h, conns[LARGE - 1]);
    assert_eq!(answered(&mut h), [conns[LARGE - 1]]);
    // When others have gone there is room again.
    h.broker.disconnected(h.now, conns[LARGE + 1]);
    largest.send(&mut h, conns[LARGE - 1]);
    assert!(h.take_answers().is_empty());
}

#[test]
fn one_fetch_reads_only_so_many_partitions_from_the_disk_at_a_time() {
    let most = chronik::limits::FETCH_READS_MAX;
    let mut h = Harness::new();
    let count = most as i32 + 6;
    create(&mut h, "t", count);
    (0..count).for_each(|partition| produce(&mut h, "t", partition));
    h.checkpoint();
    h.holds_reads = true;
    let wanted = fetch(12).topic("t", ZERO, (0..count).map(|partition| part(partition, 0, 600)).collect());
    let conn = h.connect();
    wanted.send(&mut h, conn);
    for expected in [most, 6] {
        assert_eq!(h.reads.len(), expected, "the others when these have come");
        (0..expected).for_each(|_| answer_oldest(&mut h));
    }
    let told = wanted.answered(&mut h, conn).expect("an answer");
    assert_eq!(told.parts.iter().filter(|part| part.contains("1 batches")).count(), count as usize);
}
