//! Owns the tests that drive share groups to their bounds.

use chronik::limits;

use super::states::{initialize, read, write};
use super::*;

/// So many batches of one record each, in few groups of the log.
fn produce_one_by_one(w: &mut World, count: usize) {
    let mut batch = BatchBuilder::new();
    batch.push(w.h.now.wall_ms, None, Some(b"value"), &[]);
    let bytes = batch.build().unwrap();
    let data = || PartitionProduceData { index: 0, records: RecordSet::Bytes(&bytes) };
    let topic = || TopicProduceData { name: "t", partition_data: vec![data()], ..Default::default() };
    let conn = w.h.connect();
    for sent in 1..=count {
        let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic()], ..Default::default() };
        w.h.send(conn, 9, &request);
        if sent % limits::PIPELINE_REQUESTS_MAX == 0 {
            w.h.settle();
        }
    }
    w.h.settle();
    assert_eq!(w.h.take_answers().len(), count);
}

/// A state that may become so many runs: four records that are available, and behind them others of which every second one was
/// accepted and every other archived.
fn written(runs: usize) -> Vec<(i64, i64, i8, i16)> {
    let done = (4..runs as i64).map(|at| (at, at, if at % 2 == 0 { 2 } else { 4 }, 1));
    std::iter::once((0, 3, 0, 1)).chain(done).collect()
}

/// A state that was written at its bound grew while members worked with it: each record that is handed out and given back becomes a
/// run of its own. What was in the log then was more than a start reads, and the server did not come up again.
#[test]
fn a_share_state_does_not_grow_beyond_what_a_start_reads() {
    let most = limits::SHARE_PARTITION_RUNS_MAX;
    let mut w = World::new();
    w.topic("t", 1);
    w.produce("t", 4);
    // Where there is much, one may name much.
    for name in ["many", "more", "most"] {
        w.topic(name, 9000);
    }
    assert_eq!(initialize(&mut w, 0, 0, 0), ErrorCode::NONE);
    let before = read(&mut w, 0);
    assert_eq!(write(&mut w, 1, 0, &written(most + 1)), ErrorCode::INVALID_REQUEST);
    assert_eq!(read(&mut w, 0), before, "what is refused changes nothing");
    assert_eq!(write(&mut w, 1, 0, &written(most)), ErrorCode::NONE);
    // Each of the four records comes to be delivered at another number of times than its neighbours.
    let mut a = w.join("a", &["t"]);
    let want = Want { records: 1, mode: 1, ..WANT };
    for at in 0..4 {
        assert_eq!(w.fetch(&mut a, want).acquired(), [(at, at, 2)]);
        if at % 2 == 1 {
            assert_eq!(w.ack(&mut a, &[(at, at, &[RELEASE])]), ErrorCode::NONE);
            assert_eq!(w.fetch(&mut a, want).acquired(), [(at, at, 3)]);
        }
    }
    w.close_session(&mut a);
    let kept = read(&mut w, 0);
    assert_eq!(kept.3.len(), most);
    w.restart();
    assert_eq!(read(&mut w, 0), kept);
}

#[test]
fn a_share_state_that_is_written_spans_only_so_many_records() {
    let mut w = World::new();
    w.topic("t", 1);
    assert_eq!(initialize(&mut w, 0, 0, 3), ErrorCode::NONE);
    let end = 3 + limits::SHARE_STATE_RECORDS_MAX;
    assert_eq!(write(&mut w, 1, 3, &[(4, end, 2, 1)]), ErrorCode::INVALID_REQUEST);
    assert_eq!(write(&mut w, 1, 3, &[(4, end - 1, 2, 1)]), ErrorCode::NONE);
    let kept = read(&mut w, 0);
    assert_eq!(kept.3, [(3, 3, 0, 0), (4, end - 1, 2, 1)]);
    w.restart();
    assert_eq!(read(&mut w, 0), kept);
}

#[test]
fn of_a_huge_batch_only_so_many_records_are_handed_out_at_once() {
    let (mut w, mut a) = World::with_member();
    let most = limits::SHARE_ACQUIRE_RECORDS_MAX;
    let mut batch = BatchBuilder::new();
    (0..most + 1000).for_each(|_| batch.push(w.h.now.wall_ms, None, None, &[]));
    w.produce_bytes("t", 0, &batch.build().unwrap());
    let want = Want { max_bytes: 64 << 20, ..WANT };
    assert_eq!(w.fetch(&mut a, want).acquired(), [(0, most - 1, 1)]);
    assert_eq!(w.fetch(&mut a, want).acquired(), [], "so many are out");
    assert_eq!(w.ack(&mut a, &[(0, most - 1, &[ACCEPT])]), ErrorCode::NONE);
    assert_eq!(w.fetch(&mut a, want).acquired(), [(most, most + 999, 1)]);
}

#[test]
fn one_look_into_the_log_finds_only_so_many_batches_for_a_share_group() {
    let mut config = Config::default();
    config.share.partition_max_record_locks = limits::SHARE_PARTITION_LOCKS_MAX;
    config.share.max_partition_max_record_locks = limits::SHARE_PARTITION_LOCKS_MAX;
    let mut w = World::with(config);
    w.topic("t", 1);
    w.begin_at_the_start(G);
    let most = limits::SHARE_FETCH_BATCHES_MAX as i64;
    w.h.log.segment_bytes = 64 << 20;
    produce_one_by_one(&mut w, most as usize + 50);
    w.restart();
    let mut a = w.join("a", &["t"]);
    let want = Want { max_bytes: 64 << 20, records: 10_000, batch_size: 10_000, ..WANT };
    assert_eq!(w.fetch(&mut a, want).acquired(), [(0, most - 1, 1)]);
    assert_eq!(w.fetch(&mut a, want).acquired(), [(most, most + 49, 1)], "the others come with the next one");
}

#[test]
fn what_a_member_of_a_share_group_names_is_bounded() {
    let mut w = World::new();
    w.topic("t", 1);
    let names: Vec<String> = (0..9).map(|number| format!("{number}{:0>31999}", "")).collect();
    let named = |count: usize| names[..count].iter().map(String::as_str).collect::<Vec<&str>>();
    const { assert!(8 * 32_000 < limits::SHARE_MEMBER_BYTES_MAX && 9 * 32_000 > limits::SHARE_MEMBER_BYTES_MAX) };
    assert_eq!(w.beat(G, "m", 0, Some(&named(9))).0, ErrorCode::INVALID_REQUEST);
    assert_eq!(w.described(G).0, ErrorCode::GROUP_ID_NOT_FOUND, "nothing is left of it");
    assert_eq!(w.beat(G, "m", 0, Some(&named(8))).0, ErrorCode::NONE);
    let longest = "m".repeat(limits::SHARE_MEMBER_ID_BYTES_MAX);
    assert_eq!(w.beat(G, &longest, 0, Some(&["t"])).0, ErrorCode::NONE);
    assert_eq!(w.beat(G, &(longest + "m"), 0, Some(&["t"])).0, ErrorCode::INVALID_REQUEST);
    assert_eq!(w.described(G).3.len(), 2);
}
