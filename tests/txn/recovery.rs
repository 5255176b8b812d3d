//! Owns the tests of restarts: at every point of a workload, from the log and from a checkpoint, everything is as it was.

use super::*;

/// One step of the workload.
type Step = fn(&mut Harness, &mut [Producer; 3]);

const STEPS: [Step; 16] = [
    |h, p| _ = p[0].send(h, "t", 0, &["a1"]).unwrap(),
    |h, p| _ = p[1].send(h, "t", 0, &["b1"]).unwrap(),
    |h, p| p[0].commit_offset(h, "g", "t", 0, 5).unwrap(),
    |h, p| _ = p[0].send(h, "t", 1, &["a2"]).unwrap(),
    |h, p| p[1].commit_offset(h, "g", "t", 0, 9).unwrap(),
    |h, p| assert_eq!(p[0].end(h, true), ErrorCode::NONE),
    |h, p| _ = p[2].send(h, "t", 0, &["c1"]).unwrap(),
    |h, p| assert_eq!(p[1].end(h, false), ErrorCode::NONE),
    |h, p| _ = p[0].send(h, "t", 0, &["a3", "a4"]).unwrap(),
    |h, p| assert_eq!(p[2].end(h, true), ErrorCode::NONE),
    |h, p| _ = p[2].send(h, "t", 1, &["c2"]).unwrap(),
    |h, p| p[2].commit_offset(h, "k", "t", 1, 2).unwrap(),
    |h, p| assert_eq!(p[0].end(h, false), ErrorCode::NONE),
    |h, p| _ = p[1].send(h, "t", 1, &["b2"]).unwrap(),
    |h, p| assert_eq!(p[2].end(h, true), ErrorCode::NONE),
    |h, p| assert_eq!(p[1].end(h, true), ErrorCode::NONE),
];

fn begin() -> (Harness, [Producer; 3]) {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 2);
    let producers = [("a", NEW), ("b", CLASSIC), ("c", NEW)].map(|(id, protocol)| Producer::init(&mut h, id, protocol));
    (h, producers)
}

/// All that anybody can see.
fn picture(h: &mut Harness) -> String {
    let mut lines = Vec::new();
    for partition in [0, 1] {
        let (stable, end) = ends(h, "t", partition);
        lines.push(format!("stable {stable}, end {end}, markers {:?}", markers(h, "t", partition)));
        lines.push(format!("{:?}", committed(h, "t", partition)));
        for (group, stable) in [("g", false), ("g", true), ("k", true)] {
            lines.push(format!("{:?}", committed_offset(h, group, "t", partition, stable)));
        }
    }
    for id in ["a", "b", "c"] {
        lines.push(format!("{:?}", described(h, id)));
    }
    let topic = DescribeProducersTopicRequest { name: "t", partition_indexes: vec![0, 1] };
    let answer = h.call(0, &DescribeProducersRequest { topics: vec![topic] });
    for partition in &answer.decode::<DescribeProducersResponse<'_>>().topics[0].partitions {
        lines.push(format!("{:?}", partition.active_producers));
    }
    lines.join("\n")
}

/// How a restart is done.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Restart {
    Never,
    FromLog,
    FromCheckpoint,
    /// The next step is on its way to the disk and is lost.
    InFlight,
}

fn run(restart: Restart, at: usize) -> String {
    let (mut h, mut producers) = begin();
    for (n, step) in STEPS.iter().enumerate() {
        if n == at {
            let before = picture(&mut h);
            match restart {
                Restart::Never => {}
                Restart::FromLog => h.restart(),
                Restart::FromCheckpoint => h.checkpoint(),
                Restart::InFlight => {
                    for producer in &producers {
                        let conn = h.connect();
                        h.send(conn, producer.protocol.end, &end_request(producer, true));
                    }
                    h.restart();
                }
            }
            assert_eq!(picture(&mut h), before, "{restart:?} before step {n}");
        }
        step(&mut h, &mut producers);
    }
    picture(&mut h)
}

#[test]
fn a_restart_at_any_point_changes_nothing() {
    let expected = run(Restart::Never, 0);
    assert!(expected.contains("[\"a1\", \"c1\"]") && expected.contains("[\"a2\", \"c2\", \"b2\"]"), "{expected}");
    for at in 0..STEPS.len() {
        for restart in [Restart::FromLog, Restart::FromCheckpoint, Restart::InFlight] {
            assert_eq!(run(restart, at), expected, "{restart:?} before step {at}");
        }
    }
}

#[test]
fn restarts_at_every_point_one_after_the_other_change_nothing() {
    let expected = run(Restart::Never, 0);
    for checkpoints in [false, true] {
        let (mut h, mut producers) = begin();
        for (n, step) in STEPS.iter().enumerate() {
            step(&mut h, &mut producers);
            match checkpoints && n % 3 == 0 {
                true => h.checkpoint(),
                false => h.restart(),
            }
        }
        assert_eq!(picture(&mut h), expected);
    }
}

#[test]
fn the_end_of_a_transaction_is_answered_only_when_it_is_durable() {
    let (mut h, mut producers) = begin();
    producers[0].send(&mut h, "t", 0, &["a"]).unwrap();
    let conn = h.connect();
    h.send(conn, 5, &end_request(&producers[0], true));
    assert!(h.take_answers().is_empty());
    h.restart();
    assert_eq!(described(&mut h, "a").1, "Ongoing");
    assert_eq!(committed(&mut h, "t", 0), [] as [&str; 0]);
    assert_eq!(producers[0].end(&mut h, false), ErrorCode::NONE);
    assert_eq!(committed(&mut h, "t", 0), [] as [&str; 0]);
}

#[test]
fn an_idempotent_producer_goes_on_over_a_restart() {
    for checkpoint in [false, true] {
        let mut h = Harness::new();
        create_topic(&mut h, "t", 1);
        let request = InitProducerIdRequest::default();
        let answer = h.call(4, &request);
        let id = answer.decode::<InitProducerIdResponse>().producer_id;
        let first = batch(Some((id, 0, 0)), false, &["a"]);
        let second = batch(Some((id, 0, 1)), false, &["b"]);
        let third = batch(Some((id, 0, 2)), false, &["c"]);
        produce(&mut h, 9, None, "t", 0, &first).unwrap();
        produce(&mut h, 9, None, "t", 0, &second).unwrap();
        match checkpoint {
            true => h.checkpoint(),
            false => h.restart(),
        }
        // The answer may have been lost: the same batch is stored once.
        assert_eq!(produce(&mut h, 9, None, "t", 0, &second), Ok(1));
        let gap = batch(Some((id, 0, 3)), false, &["d"]);
        assert_eq!(produce(&mut h, 9, None, "t", 0, &gap), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(produce(&mut h, 9, None, "t", 0, &third), Ok(2));
        // Nobody is given the same id again.
        let answer = h.call(4, &request);
        assert!(answer.decode::<InitProducerIdResponse>().producer_id > id);
    }
}

#[test]
fn a_transaction_of_which_records_were_deleted_is_recovered() {
    let (mut h, mut producers) = begin();
    h.log.segment_bytes = 1;
    producers[0].send(&mut h, "t", 0, &["a"]).unwrap();
    producers[0].send(&mut h, "t", 0, &["b"]).unwrap();
    let topics = vec![DeleteRecordsTopic {
        name: "t",
        partitions: vec![DeleteRecordsPartition { partition_index: 0, offset: 2 }],
    }];
    h.call(2, &DeleteRecordsRequest { topics, timeout_ms: 1000 });
    h.checkpoint();
    assert_eq!(producers[0].end(&mut h, true), ErrorCode::NONE);
    let (seen, _) = fetch(&mut h, "t", 0, 2, 1);
    assert_eq!((seen.stable, seen.high_watermark, seen.markers), (3, 3, vec![(2, true)]));
}
