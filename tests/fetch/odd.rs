//! Requests that make little sense, and clients that are not what they say.

use super::*;

const MUCH: i32 = 1000;

/// Partition 0 has three batches, partition 1 none.
fn topic(h: &mut Harness) -> Uuid {
    let id = create(h, "t", 2);
    (0..3).for_each(|_| produce(h, "t", 0));
    id
}

/// The one partition of an answer without its name.
fn one(told: &Told) -> String {
    assert_eq!((told.head.as_str(), told.parts.len()), ("NONE", 1), "{:?}", told.parts);
    told.parts[0].split_once(' ').unwrap().1.to_owned()
}

#[test]
fn offsets_and_epochs_out_of_range_get_kafkas_errors() {
    let mut h = Harness::new();
    let id = topic(&mut h);
    const OUT: &str = "OFFSET_OUT_OF_RANGE -1/-1/-1";
    const ALL: &str = "3/3/0 3 batches";
    const NEWER: &str = "UNKNOWN_LEADER_EPOCH -1/-1/-1";
    const ABSENT: &str = "UNKNOWN_TOPIC_OR_PARTITION -1/-1/-1 aborted=[]";
    let last = |epoch, offset| FetchPartition { last_fetched_epoch: epoch, ..part(0, offset, MUCH) };
    let current = |epoch| FetchPartition { current_leader_epoch: epoch, ..part(0, 0, MUCH) };
    for version in [12, 13, 17, 18] {
        for (wanted, expected) in [
            (part(0, -1, MUCH), OUT),
            (part(0, i64::MIN, MUCH), OUT),
            (part(0, 4, MUCH), OUT),
            (part(0, i64::MAX, MUCH), OUT),
            (current(0), ALL),
            (current(9), NEWER),
            (current(-2), ALL),
            (last(0, 0), ALL),
            (last(0, 5), "3/3/0 diverging=0@3"),
            (last(0, -1), OUT),
            (last(3, 0), OUT),
            (last(3, 10), OUT),
            (last(-2, 0), ALL),
            (FetchPartition { current_leader_epoch: 9, ..last(0, 0) }, NEWER),
            (part(7, 0, MUCH), ABSENT),
            (part(-1, 0, MUCH), ABSENT),
            (FetchPartition { log_start_offset: 100, ..part(0, 0, MUCH) }, ALL),
            (FetchPartition { high_watermark: 0, ..part(0, 0, MUCH) }, ALL),
        ] {
            let told = fetch(version).topic("t", id, vec![wanted.clone()]).wait(1500, 1).go(&mut h);
            assert_eq!(one(&told), expected, "version {version}, {wanted:?}");
        }
    }
}

#[test]
fn the_offset_of_a_record_that_is_not_durable_yet_is_waited_for() {
    let mut h = Harness::new();
    create(&mut h, "t", 1);
    let producer = h.connect();
    let mut batch = BatchBuilder::new();
    batch.push(h.now.wall_ms, None, Some(b"v"), &[]);
    let bytes = batch.build().unwrap();
    let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(&bytes) };
    let topic_data = vec![TopicProduceData { name: "t", partition_data: vec![data], ..Default::default() }];
    h.send(producer, 9, &ProduceRequest { acks: -1, topic_data, ..Default::default() });
    let (conn, wanted) = (h.connect(), fetch(12).topic("t", ZERO, vec![part(0, 1, MUCH)]).wait(1500, 1));
    h.send(conn, 12, &wanted.request);
    assert!(wanted.answered(&mut h, conn).is_none(), "Kafka too takes any offset up to the end of its log");
    h.settle();
    produce(&mut h, "t", 0);
    wanted.answered(&mut h, conn).unwrap().is("NONE", &["t-0 2/2/0 1 batches"]);
}

#[test]
fn what_is_not_there_is_told_last_and_is_no_reason_to_answer() {
    let mut h = Harness::new();
    let id = topic(&mut h);
    let name = format!("{:02x}", id.0[0]);
    for (version, topic, error) in [(12, "t", "UNKNOWN_TOPIC_OR_PARTITION"), (17, &*name, "UNKNOWN_TOPIC_ID")] {
        let elsewhere = if version < 13 { "nothere" } else { "07" };
        let gone = format!("{elsewhere}-0 {error} -1/-1/-1 aborted=[]");
        let alone = fetch(version).topic("nothere", UNKNOWN, vec![part(0, 0, MUCH)]).wait(1500, 1);
        alone.go(&mut h).is("NONE", &[&gone]);
        let idle = alone.clone().topic("t", id, vec![part(0, 3, MUCH), part(9, 0, MUCH), part(1, 0, MUCH)]);
        let absent = format!("{topic}-9 UNKNOWN_TOPIC_OR_PARTITION -1/-1/-1 aborted=[]");
        let (full, empty) = (format!("{topic}-0 3/3/0"), format!("{topic}-1 0/0/0"));
        idle.go(&mut h).is("NONE late", &[&full, &empty, &gone, &absent]);
        let out = format!("{topic}-0 OFFSET_OUT_OF_RANGE -1/-1/-1");
        let wrong = alone.topic("t", id, vec![part(0, 9, MUCH), part(1, 0, MUCH)]);
        wrong.go(&mut h).is("NONE", &[&out, &empty, &gone]);
    }
    fetch(17)
        .topic("", ZERO, vec![part(0, 0, MUCH)])
        .go(&mut h)
        .is("NONE", &["00-0 UNKNOWN_TOPIC_ID -1/-1/-1 aborted=[]"]);
}

#[test]
fn whoever_claims_to_be_a_replica_is_told_that_it_is_none() {
    let mut h = Harness::new();
    let id = topic(&mut h);
    for version in [4, 9, 12, 13, 15, 16, 17] {
        let leader = if version < 16 { "" } else { " leader=1@0" };
        for replica in [0, 1, 5] {
            let follower = fetch(version).replica(replica).wait(1500, 1);
            let told = follower.clone().topic("t", id, vec![part(0, 0, MUCH)]).go(&mut h);
            assert_eq!(one(&told), format!("NOT_LEADER_OR_FOLLOWER -1/-1/-1{leader}"), "version {version}");
            if version >= 9 {
                let knows = FetchPartition { current_leader_epoch: 0, ..part(0, 0, MUCH) };
                let told = follower.topic("t", id, vec![knows]).go(&mut h);
                assert_eq!(one(&told), "UNKNOWN_LEADER_EPOCH -1/-1/-1", "version {version}");
            }
        }
        for replica in [-2, -3, -7] {
            let told = fetch(version).replica(replica).topic("t", id, vec![part(0, 0, MUCH)]).go(&mut h);
            assert!(one(&told).ends_with("3 batches"), "version {version}");
        }
    }
}

#[test]
fn isolation_levels_that_there_are_not_are_refused_as_a_whole() {
    let mut h = Harness::new();
    let id = topic(&mut h);
    let wanted = |version, level| {
        let wanted = fetch(version).topic("t", id, vec![part(0, 0, MUCH)]);
        wanted.with(|request| request.isolation_level = level)
    };
    for level in [7, -1, 2] {
        let each = ["t-0 UNKNOWN_SERVER_ERROR -1/-1/-1 aborted=[]"];
        wanted(4, level).go(&mut h).is("NONE", &each);
        wanted(12, level).go(&mut h).is("UNKNOWN_SERVER_ERROR", &each);
        wanted(17, level).go(&mut h).is("UNKNOWN_SERVER_ERROR", &[]);
    }
    wanted(12, 1).go(&mut h).is("NONE", &["t-0 3/3/0 aborted=[] 3 batches"]);
    let out = wanted(12, 1).with(|request| request.topics[0].partitions[0].fetch_offset = 9);
    out.go(&mut h).is("NONE", &["t-0 OFFSET_OUT_OF_RANGE -1/-1/-1"]);
}

#[test]
fn racks_and_cluster_ids_change_nothing() {
    let mut h = Harness::new();
    let id = topic(&mut h);
    for version in [12, 17, 18] {
        let wanted = fetch(version).topic("t", id, vec![part(0, 0, MUCH)]);
        let told = wanted.clone().with(|request| request.rack_id = "r1").go(&mut h);
        assert_eq!(one(&told), "3/3/0 3 batches");
        let told = wanted.with(|request| request.cluster_id = Some("nonsense")).go(&mut h);
        assert_eq!(one(&told), "3/3/0 3 batches");
    }
}

fn end_offset(h: &mut Harness, version: i16, current_leader_epoch: i32, leader_epoch: i32) -> (ErrorCode, i32, i64) {
    let wanted = OffsetForLeaderPartition { partition: 0, current_leader_epoch, leader_epoch };
    let topics = vec![OffsetForLeaderTopic { topic: "t", partitions: vec![wanted] }];
    let answer = h.call(version, &OffsetForLeaderEpochRequest { topics, ..Default::default() });
    let response: OffsetForLeaderEpochResponse<'_> = answer.decode();
    let end = &response.topics[0].partitions[0];
    (end.error_code, end.leader_epoch, end.end_offset)
}

#[test]
fn ends_of_epochs_are_kafkas_also_for_those_that_never_were() {
    let mut h = Harness::new();
    topic(&mut h);
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 1 }];
    let topics = vec![DeleteRecordsTopic { name: "t", partitions }];
    h.call(2, &DeleteRecordsRequest { topics, ..Default::default() });
    for version in [2, 4] {
        for (current, epoch, expected) in [
            (-1, 0, (ErrorCode::NONE, 0, 3)),
            (-1, 1, (ErrorCode::NONE, -1, -1)),
            (-1, -1, (ErrorCode::NONE, -1, -1)),
            (-1, -2, (ErrorCode::NONE, -2, 1)),
            (0, 0, (ErrorCode::NONE, 0, 3)),
            (3, 0, (ErrorCode::UNKNOWN_LEADER_EPOCH, -1, -1)),
            (-2, 0, (ErrorCode::FENCED_LEADER_EPOCH, -1, -1)),
        ] {
            assert_eq!(end_offset(&mut h, version, current, epoch), expected, "version {version}: {current} {epoch}");
        }
    }
}

/// Error and offset for a special timestamp.
fn listed(h: &mut Harness, version: i16, partition_index: i32, timestamp: i64) -> (ErrorCode, i64) {
    let wanted = ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: "t", partitions: vec![wanted] }];
    let answer = h.call(version, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() });
    let response: ListOffsetsResponse<'_> = answer.decode();
    let listed = &response.topics[0].partitions[0];
    assert_eq!(listed.timestamp, -1);
    (listed.error_code, listed.offset)
}

#[test]
fn special_timestamps_are_known_from_their_versions_on() {
    let mut h = Harness::new();
    topic(&mut h);
    for version in 1..=11 {
        for (timestamp, first, offset) in [(-1, 1, 3), (-2, 1, 0), (-4, 8, 0), (-5, 9, -1), (-6, 11, -1), (-7, 99, -1)]
        {
            let known = (ErrorCode::NONE, offset);
            let expected = if version < first { (ErrorCode::UNSUPPORTED_VERSION, -1) } else { known };
            assert_eq!(listed(&mut h, version, 0, timestamp), expected, "version {version}, {timestamp}");
        }
        // An unknown time is told before an unknown partition.
        assert_eq!(listed(&mut h, version, 9, -7), (ErrorCode::UNSUPPORTED_VERSION, -1));
        assert_eq!(listed(&mut h, version, 9, -1), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1));
        assert_eq!(listed(&mut h, version, 1, 5), (ErrorCode::NONE, -1));
    }
}

#[test]
fn a_partition_whose_offset_is_asked_for_twice_is_refused_once() {
    let mut h = Harness::new();
    topic(&mut h);
    let of = |partition_index, timestamp| ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: "t", partitions: vec![of(0, -1), of(0, -2), of(1, -2)] }];
    let answer = h.call(9, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() });
    let response: ListOffsetsResponse<'_> = answer.decode();
    let listed = response.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code, p.offset));
    assert_eq!(listed.collect::<Vec<_>>(), [(0, ErrorCode::INVALID_REQUEST, -1), (1, ErrorCode::NONE, 0)]);
}
