//! Owns the tests of CreateTopics, DeleteTopics and CreatePartitions.

use chronik::config::Config;
use chronik::limits;
use chronik::wire::frame;

use super::*;

#[test]
fn create_topics_works_in_every_version_with_the_right_header() {
    // A response header of the wrong kind, as version 4 had elsewhere, leaves the client's future waiting for ever.
    let mut h = Harness::new();
    for version in versions(CreateTopicsRequest::API) {
        let name = format!("v{version}");
        let wanted = CreatableTopic { num_partitions: 3, replication_factor: 1, ..topic(&name) };
        let answer = create(&mut h, version, vec![wanted]);
        let response: CreateTopicsResponse<'_> = answer.decode();
        let told = &response.topics[0];
        assert_eq!((told.name, told.error_code), (&*name, ErrorCode::NONE));
        assert_eq!(told.topic_id.is_zero(), version < 7);
        if version >= 5 {
            assert_eq!((told.num_partitions, told.replication_factor), (3, 1));
            assert!(told.configs.as_ref().unwrap().iter().any(|c| c.name == "retention.ms" && c.config_source == 5));
        }
    }
    assert!(listed(&mut h).iter().all(|(_, partitions)| *partitions == 3));
}

#[test]
fn null_arrays_in_create_topics_are_empty_ones() {
    let mut h = Harness::new();
    let conn = h.connect();
    for version in [0i16, 4, 5, 7] {
        let name = format!("null-{version}");
        let flexible = version >= 5;
        let encoded = frame::request(version, 900 + i32::from(version), None, &CreateTopicsRequest::default());
        // Header as any client writes it, then one topic whose assignments and configs are null.
        let body = encoded.bytes.len() - wire_len(version);
        let mut bytes = encoded.bytes[4..body].to_vec();
        let null: &[u8] = if flexible { &[0] } else { &[0xff; 4] };
        if flexible {
            bytes.extend([2, name.len() as u8 + 1]);
        } else {
            bytes.extend([0, 0, 0, 1, 0, name.len() as u8]);
        }
        bytes.extend(name.as_bytes());
        bytes.extend(2i32.to_be_bytes());
        bytes.extend(1i16.to_be_bytes());
        bytes.extend([null, null].concat());
        if flexible {
            bytes.push(0);
        }
        bytes.extend(1000i32.to_be_bytes());
        if version >= 1 {
            bytes.push(0);
        }
        if flexible {
            bytes.push(0);
        }
        h.expect(conn, 900 + i32::from(version), CreateTopicsRequest::API, version);
        h.send_frame(conn, bytes.into());
        h.settle();
        assert_eq!(created(&h.take_answers()[0])[0].1, ErrorCode::NONE, "version {version}");
    }
    assert!(listed(&mut h).iter().all(|(_, partitions)| *partitions == 2));
}

/// Length of the body of an empty CreateTopics request.
fn wire_len(version: i16) -> usize {
    chronik::wire::encode(&CreateTopicsRequest::default(), version).bytes.len()
}

#[test]
fn create_topics_refuses_what_kafka_refuses() {
    let mut h = Harness::new();
    must_create(&mut h, topic("there.already"));
    let assigned = |indexes: &[i32], brokers: &[i32]| CreatableTopic {
        assignments: indexes
            .iter()
            .map(|index| CreatableReplicaAssignment { partition_index: *index, broker_ids: brokers.to_vec() })
            .collect(),
        ..topic("assigned")
    };
    let configured =
        |name, value| CreatableTopic { configs: vec![CreatableTopicConfig { name, value }], ..topic("configured") };
    let cases = vec![
        (topic("there.already"), ErrorCode::TOPIC_ALREADY_EXISTS),
        (topic("there_already"), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic(""), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("a/b"), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("__cluster_metadata"), ErrorCode::INVALID_REQUEST),
        (CreatableTopic { num_partitions: 0, ..topic("t") }, ErrorCode::INVALID_PARTITIONS),
        (CreatableTopic { num_partitions: -2, ..topic("t") }, ErrorCode::INVALID_PARTITIONS),
        (CreatableTopic { num_partitions: i32::MAX, ..topic("t") }, ErrorCode::POLICY_VIOLATION),
        (
            CreatableTopic { num_partitions: limits::CREATED_PARTITIONS_MAX as i32 + 1, ..topic("t") },
            ErrorCode::POLICY_VIOLATION,
        ),
        (CreatableTopic { replication_factor: 0, ..topic("t") }, ErrorCode::INVALID_REPLICATION_FACTOR),
        (CreatableTopic { replication_factor: 3, ..topic("t") }, ErrorCode::INVALID_REPLICATION_FACTOR),
        (assigned(&[0, 2], &[1]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[0, 0], &[1]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[0], &[2]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[0], &[1, 1]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[0], &[]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (CreatableTopic { num_partitions: 1, ..assigned(&[0], &[1]) }, ErrorCode::INVALID_REQUEST),
        (configured("retention.ms", Some("soon")), ErrorCode::INVALID_CONFIG),
        (configured("retention.ms", Some("-2")), ErrorCode::INVALID_CONFIG),
        (configured("retention.ms", None), ErrorCode::INVALID_CONFIG),
        (configured("no.such.config", Some("1")), ErrorCode::INVALID_CONFIG),
        (configured("max.message.bytes", Some("2000000000")), ErrorCode::INVALID_CONFIG),
    ];
    for (wanted, error) in cases {
        let shown = format!("{wanted:?}");
        let answer = create(&mut h, 7, vec![wanted]);
        let told = created(&answer).remove(0);
        assert_eq!(told.1, error, "{shown}");
        assert!(!told.2.is_empty(), "{shown}");
    }
    assert_eq!(listed(&mut h).len(), 1);
}

#[test]
fn a_name_that_is_given_twice_is_answered_once_and_not_created() {
    let mut h = Harness::new();
    let answer = create(&mut h, 7, vec![topic("twice"), topic("once"), topic("twice")]);
    let told = created(&answer);
    assert_eq!(told.len(), 2);
    assert_eq!((&*told[0].0, told[0].1), ("twice", ErrorCode::INVALID_REQUEST));
    assert_eq!((&*told[1].0, told[1].1), ("once", ErrorCode::NONE));
    assert_eq!(listed(&mut h), [("once".to_owned(), 1)]);
}

#[test]
fn validate_only_tells_and_does_nothing() {
    let mut h = Harness::new();
    let request = CreateTopicsRequest { topics: vec![topic("t")], validate_only: true, ..Default::default() };
    let answer = h.call(7, &request);
    assert_eq!(created(&answer)[0].1, ErrorCode::NONE);
    assert_eq!(answer.decode::<CreateTopicsResponse<'_>>().topics[0].num_partitions, 1);
    assert_eq!(listed(&mut h), []);
}

#[test]
fn assignments_and_the_default_number_of_partitions_count() {
    let mut h = Harness::with(Config { num_partitions: 6, ..Config::default() });
    must_create(&mut h, topic("default"));
    let place = |partition_index| CreatableReplicaAssignment { partition_index, broker_ids: vec![1] };
    must_create(&mut h, CreatableTopic { assignments: vec![place(1), place(0)], ..topic("placed") });
    assert_eq!(listed(&mut h), [("default".to_owned(), 6), ("placed".to_owned(), 2)]);
}

#[test]
fn topics_and_their_configurations_survive_a_restart() {
    let mut h = Harness::new();
    let id = must_create(
        &mut h,
        CreatableTopic {
            num_partitions: 4,
            configs: vec![config("retention.ms", "1234"), config("cleanup.policy", "compact")],
            ..topic("kept")
        },
    );
    must_create(&mut h, topic("gone"));
    assert_eq!(delete(&mut h, "gone"), ErrorCode::NONE);
    for _ in 0..2 {
        h.restart();
        assert_eq!(listed(&mut h), [("kept".to_owned(), 4)]);
        assert_eq!(described(&mut h, 2, "kept", "retention.ms"), ("1234".to_owned(), 1));
        assert_eq!(described(&mut h, 2, "kept", "cleanup.policy"), ("compact".to_owned(), 1));
        let answer = h.call(12, &MetadataRequest { topics: None, ..Default::default() });
        assert_eq!(answer.decode::<MetadataResponse<'_>>().topics[0].topic_id, id);
        // The second round starts from a checkpoint.
        h.checkpoint();
    }
}

fn delete(h: &mut Harness, name: &str) -> ErrorCode {
    let topics = vec![DeleteTopicState { name: Some(name), ..Default::default() }];
    let answer = h.call(6, &DeleteTopicsRequest { topics, ..Default::default() });
    answer.decode::<DeleteTopicsResponse<'_>>().responses[0].error_code
}

#[test]
fn delete_topics_deletes_in_every_version() {
    let mut h = Harness::new();
    for version in versions(DeleteTopicsRequest::API) {
        let id = must_create(&mut h, topic("t"));
        assert_eq!(produce(&mut h, "t", 0, b"x"), ErrorCode::NONE);
        let by_name = vec![DeleteTopicState { name: Some("t"), ..Default::default() }];
        let answer =
            h.call(version, &DeleteTopicsRequest { topics: by_name, topic_names: vec!["t"], ..Default::default() });
        let response: DeleteTopicsResponse<'_> = answer.decode();
        assert_eq!((response.responses[0].name, response.responses[0].error_code), (Some("t"), ErrorCode::NONE));
        assert_eq!(response.responses[0].topic_id, if version >= 6 { id } else { Uuid::ZERO });
        assert_eq!(listed(&mut h), []);
        assert_eq!(produce(&mut h, "t", 0, b"x"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    h.restart();
    assert_eq!(listed(&mut h), []);
}

#[test]
fn delete_topics_by_id_and_what_it_refuses() {
    let mut h = Harness::new();
    let id = must_create(&mut h, topic("t"));
    let by = |name, topic_id| DeleteTopicState { name, topic_id };
    let other = Uuid([9; 16]);
    let topics = vec![
        by(None, Uuid::ZERO),
        by(Some("t"), id),
        by(None, other),
        by(Some("none"), Uuid::ZERO),
        by(Some("twice"), Uuid::ZERO),
        by(Some("twice"), Uuid::ZERO),
    ];
    let answer = h.call(6, &DeleteTopicsRequest { topics, ..Default::default() });
    let response: DeleteTopicsResponse<'_> = answer.decode();
    let told: Vec<_> = response.responses.iter().map(|r| (r.name, r.error_code)).collect();
    assert_eq!(
        told,
        [
            (None, ErrorCode::INVALID_REQUEST),
            (Some("t"), ErrorCode::INVALID_REQUEST),
            (None, ErrorCode::UNKNOWN_TOPIC_ID),
            (Some("none"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (Some("twice"), ErrorCode::INVALID_REQUEST),
        ]
    );
    let answer = h.call(6, &DeleteTopicsRequest { topics: vec![by(None, id)], ..Default::default() });
    let told = &answer.decode::<DeleteTopicsResponse<'_>>().responses[0];
    assert_eq!((told.name, told.topic_id, told.error_code), (Some("t"), id, ErrorCode::NONE));
    assert_eq!(listed(&mut h), []);
}

#[test]
fn asking_for_a_topic_makes_it_only_where_that_is_switched_on_and_the_client_wants_it() {
    let asked = || vec![MetadataRequestTopic { name: Some("t"), ..Default::default() }];
    for (enabled, wanted, error, made) in [
        (true, true, ErrorCode::NONE, 1),
        (true, false, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0),
        (false, true, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0),
    ] {
        // Before version 4 a client could not say whether it wants it.
        for version in if wanted { 0..=13 } else { 4..=13 } {
            let mut h = Harness::with(Config { auto_create_topics_enable: enabled, ..Config::default() });
            let request =
                MetadataRequest { topics: Some(asked()), allow_auto_topic_creation: wanted, ..Default::default() };
            let answer = h.call(version, &request);
            let told = answer.decode::<MetadataResponse<'_>>().topics[0].error_code;
            assert_eq!((told, listed(&mut h).len()), (error, made), "version {version}, {enabled}, {wanted}");
        }
    }
}

#[test]
fn deletion_can_be_switched_off() {
    let mut h = Harness::with(Config { delete_topic_enable: false, ..Config::default() });
    must_create(&mut h, topic("t"));
    assert_eq!(delete(&mut h, "t"), ErrorCode::TOPIC_DELETION_DISABLED);
    let answer = h.call(2, &DeleteTopicsRequest { topic_names: vec!["t"], ..Default::default() });
    assert_eq!(answer.decode::<DeleteTopicsResponse<'_>>().responses[0].error_code, ErrorCode::INVALID_REQUEST);
    assert_eq!(listed(&mut h).len(), 1);
}

#[test]
fn a_wrong_number_of_partitions_is_told_before_there_are_too_few_brokers() {
    let mut h = Harness::new();
    for (num_partitions, replication_factor, error) in [
        (0, 9, ErrorCode::INVALID_PARTITIONS),
        (0, 0, ErrorCode::INVALID_REPLICATION_FACTOR),
        (1, 9, ErrorCode::INVALID_REPLICATION_FACTOR),
    ] {
        let wrong = CreatableTopic { num_partitions, replication_factor, ..topic("t") };
        assert_eq!(created(&create(&mut h, 7, vec![wrong]))[0].1, error, "{num_partitions} {replication_factor}");
    }
}

#[test]
fn a_topic_that_is_named_and_given_by_its_id_is_told_with_both_and_stays() {
    let mut h = Harness::new();
    let id = must_create(&mut h, topic("t"));
    let by_id = DeleteTopicState { name: None, topic_id: id };
    let by_name = DeleteTopicState { name: Some("t"), ..Default::default() };
    let answer = h.call(6, &DeleteTopicsRequest { topics: vec![by_id, by_name], ..Default::default() });
    let response: DeleteTopicsResponse<'_> = answer.decode();
    let told: Vec<_> = response.responses.iter().map(|t| (t.name, t.topic_id, t.error_code)).collect();
    assert_eq!(told, [(Some("t"), id, ErrorCode::INVALID_REQUEST)]);
    assert_eq!(listed(&mut h).len(), 1);
}

#[test]
fn the_data_of_a_deleted_topic_is_freed() {
    let mut h = Harness::new();
    // Small segments would be merged before the topic is deleted.
    h.holds_tidying = true;
    h.log.segment_bytes = 64 << 10;
    must_create(&mut h, topic("t"));
    for _ in 0..40 {
        assert_eq!(produce(&mut h, "t", 0, &[7; 8000]), ErrorCode::NONE);
    }
    let segments = h.log.groups.values().flat_map(|group| &group.runs).map(|run| run.segment).max().unwrap();
    assert!(segments.number() > 3);
    assert_eq!(delete(&mut h, "t"), ErrorCode::NONE);
    // What a job reads stays until it has ended.
    while let Some(job) = h.tidying.pop() {
        let done = h.log.tidy(&job);
        h.tidy_done(done);
    }
    h.checkpoint();
    assert!(h.removed.len() as u64 >= segments.number() - 1, "{:?} of {segments}", h.removed);
    h.restart();
    assert_eq!(listed(&mut h), []);
}

#[test]
fn deleting_a_topic_forgets_its_log_starts() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    assert_eq!(produce(&mut h, "t", 0, b"x"), ErrorCode::NONE);
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
    let topics = vec![DeleteRecordsTopic { name: "t", partitions }];
    h.call(2, &DeleteRecordsRequest { topics, ..Default::default() });
    let before = h.broker.meta_snapshot().len();
    assert_eq!(delete(&mut h, "t"), ErrorCode::NONE);
    assert_eq!(h.broker.meta_snapshot().len(), before - 2);
    // In files, what no entry takes back would stay: every key that was set has been removed.
    let mut living = std::collections::BTreeMap::new();
    for entry in h.log.groups.values().flat_map(|group| &group.meta) {
        living.insert((entry.table, entry.scope.clone(), entry.key.clone()), entry.value.clone());
    }
    let left: Vec<_> = living.iter().filter(|(_, value)| value.is_some()).map(|((table, ..), _)| *table).collect();
    assert!(left.iter().all(|table| ![1, 2].contains(table)), "{left:?}");
}

#[test]
fn whoever_waits_at_a_deleted_topic_is_told() {
    for version in [12, 13] {
        let mut h = Harness::new();
        let id = must_create(&mut h, topic("t"));
        let conn = h.connect();
        let partitions = vec![FetchPartition { partition: 0, partition_max_bytes: 1000, ..Default::default() }];
        h.send(
            conn,
            version,
            &FetchRequest {
                max_wait_ms: 60_000,
                min_bytes: 1,
                max_bytes: 1000,
                topics: vec![FetchTopic { topic: "t", topic_id: id, partitions }],
                ..Default::default()
            },
        );
        h.settle();
        assert!(h.take_answers().is_empty());
        assert_eq!(delete(&mut h, "t"), ErrorCode::NONE);
        let answers = h.take_answers();
        let response: FetchResponse<'_> = answers[0].decode();
        assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
}

#[test]
fn a_topic_made_again_is_another_one() {
    let mut h = Harness::new();
    let first = must_create(&mut h, topic("t"));
    assert_eq!(produce(&mut h, "t", 0, b"old"), ErrorCode::NONE);
    assert_eq!(delete(&mut h, "t"), ErrorCode::NONE);
    let second = must_create(&mut h, topic("t"));
    assert_ne!(first, second);
    h.restart();
    let partitions = vec![ListOffsetsPartition { partition_index: 0, timestamp: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: "t", partitions }];
    let answer = h.call(5, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() });
    assert_eq!(answer.decode::<ListOffsetsResponse<'_>>().topics[0].partitions[0].offset, 0);
}

fn grow(h: &mut Harness, wanted: CreatePartitionsTopic<'_>, validate_only: bool) -> ErrorCode {
    let request = CreatePartitionsRequest { topics: vec![wanted], validate_only, ..Default::default() };
    let answer = h.call(3, &request);
    answer.decode::<CreatePartitionsResponse<'_>>().results[0].error_code
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let mut h = Harness::new();
    must_create(&mut h, CreatableTopic { configs: vec![config("retention.ms", "5")], ..topic("t") });
    assert_eq!(produce(&mut h, "t", 0, b"x"), ErrorCode::NONE);
    let count = |name, count| CreatePartitionsTopic { name, count, ..Default::default() };
    assert_eq!(grow(&mut h, count("t", 3), true), ErrorCode::NONE);
    assert_eq!(listed(&mut h), [("t".to_owned(), 1)]);
    assert_eq!(grow(&mut h, count("t", 3), false), ErrorCode::NONE);
    for bad in [3, 2, 0, -1, i32::MAX] {
        assert_eq!(grow(&mut h, count("t", bad), false), ErrorCode::INVALID_PARTITIONS, "{bad}");
    }
    assert_eq!(grow(&mut h, count("t", limits::PARTITIONS_MAX as i32), false), ErrorCode::NONE);
    assert_eq!(grow(&mut h, count("none", 3), false), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    h.restart();
    assert_eq!(listed(&mut h), [("t".to_owned(), limits::PARTITIONS_MAX)]);
    assert_eq!(described(&mut h, 2, "t", "retention.ms").0, "5");
    assert_eq!(produce(&mut h, "t", 2, b"x"), ErrorCode::NONE);
}

#[test]
fn added_partitions_can_be_placed_on_this_node_only() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let placed = |brokers: &[i32]| CreatePartitionsTopic {
        name: "t",
        count: 2,
        assignments: Some(vec![CreatePartitionsAssignment { broker_ids: brokers.to_vec() }]),
    };
    assert_eq!(grow(&mut h, placed(&[2]), false), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    let too_few = CreatePartitionsTopic { count: 3, ..placed(&[1]) };
    assert_eq!(grow(&mut h, too_few, false), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(grow(&mut h, placed(&[1]), false), ErrorCode::NONE);
    assert_eq!(listed(&mut h), [("t".to_owned(), 2)]);
}

#[test]
fn a_full_disk_refuses_changes_and_says_so() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    h.log.space_bytes = 1000;
    must_create(&mut h, topic("last"));
    assert_eq!(created(&create(&mut h, 7, vec![topic("u")]))[0].1, ErrorCode::KAFKA_STORAGE_ERROR);
    let count = CreatePartitionsTopic { name: "t", count: 2, ..Default::default() };
    assert_eq!(grow(&mut h, count, false), ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(delete(&mut h, "t"), ErrorCode::KAFKA_STORAGE_ERROR);
    // The reserve that Produce leaves is enough for all of them.
    h.log.space_bytes = limits::META_RESERVE_BYTES as u64;
    h.pass_ms(limits::SPACE_PROBE_US / 1000);
    h.settle();
    assert_eq!(delete(&mut h, "t"), ErrorCode::NONE);
    assert_eq!(listed(&mut h), [("last".to_owned(), 1)]);
}

#[test]
fn one_request_brings_no_more_topics_into_being_than_it_may() {
    let mut h = Harness::new();
    let names: Vec<String> =
        (0..=limits::ASKED_FOR_PARTITIONS_MAX).map(|number| format!("asked-for-{number}")).collect();
    let topics = names.iter().map(|name| MetadataRequestTopic { name: Some(name), ..Default::default() });
    let request =
        MetadataRequest { topics: Some(topics.collect()), allow_auto_topic_creation: true, ..Default::default() };
    for missing in [1, 0] {
        let answer = h.call(9, &request);
        let told: MetadataResponse<'_> = answer.decode();
        let refused = told.topics.iter().filter(|topic| topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!((told.topics.len(), refused.count()), (limits::ASKED_FOR_PARTITIONS_MAX + 1, missing));
    }
}
