//! Owns the tests of what tools ask about the cluster: nodes, log directories, partitions, elections, reassignments.

use super::*;

#[test]
fn describe_cluster_tells_cluster_id_and_the_address_that_was_reached() {
    let mut h = Harness::new();
    for version in versions(DescribeClusterRequest::API) {
        let answer = h.call(
            version,
            &DescribeClusterRequest { include_cluster_authorized_operations: true, ..Default::default() },
        );
        let response: DescribeClusterResponse<'_> = answer.decode();
        assert_eq!(response.error_code, ErrorCode::NONE);
        assert_eq!((response.cluster_id, response.controller_id), ("harness-cluster", 1));
        let broker = &response.brokers[0];
        assert_eq!((broker.broker_id, broker.host, broker.port), (1, "127.0.0.1", 9092));
        assert_eq!(response.cluster_authorized_operations, 8096);
    }
    for (endpoint_type, error) in [(2, ErrorCode::MISMATCHED_ENDPOINT_TYPE), (3, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE)]
    {
        let answer = h.call(1, &DescribeClusterRequest { endpoint_type, ..Default::default() });
        assert_eq!(answer.decode::<DescribeClusterResponse<'_>>().error_code, error);
    }
}

#[test]
fn metadata_tells_cluster_id_and_operations() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let answer = h.call(
        8,
        &MetadataRequest {
            topics: None,
            include_cluster_authorized_operations: true,
            include_topic_authorized_operations: true,
            ..Default::default()
        },
    );
    let response: MetadataResponse<'_> = answer.decode();
    assert_eq!(response.cluster_id, Some("harness-cluster"));
    assert_eq!(response.cluster_authorized_operations, 8096);
    assert_eq!(response.topics[0].topic_authorized_operations, 3576);
}

#[test]
fn describe_log_dirs_tells_sizes() {
    let mut h = Harness::new();
    must_create(&mut h, CreatableTopic { num_partitions: 2, ..topic("t") });
    must_create(&mut h, topic("u"));
    assert_eq!(produce(&mut h, "t", 1, &[0; 1000]), ErrorCode::NONE);
    for version in versions(DescribeLogDirsRequest::API) {
        let answer = h.call(version, &DescribeLogDirsRequest { topics: None });
        let response: DescribeLogDirsResponse<'_> = answer.decode();
        let dir = &response.results[0];
        assert_eq!((response.results.len(), dir.error_code, dir.log_dir), (1, ErrorCode::NONE, "./data"));
        assert_eq!((dir.topics.len(), dir.topics[0].name), (2, "t"));
        assert_eq!(dir.topics[0].partitions[0].partition_size, 0);
        assert!(dir.topics[0].partitions[1].partition_size > 1000);
        assert_eq!((dir.total_bytes, dir.usable_bytes), (-1, -1));
    }
    let wanted = |topic, partitions: &[i32]| DescribableLogDirTopic { topic, partitions: partitions.to_vec() };
    let topics = Some(vec![wanted("t", &[1, 1, 7, -1]), wanted("none", &[0]), wanted("t", &[1])]);
    let answer = h.call(4, &DescribeLogDirsRequest { topics });
    let response: DescribeLogDirsResponse<'_> = answer.decode();
    let told = &response.results[0].topics;
    assert_eq!((told.len(), told[0].partitions.len()), (1, 1));
    assert_eq!(told[0].partitions[0].partition_index, 1);
}

#[test]
fn a_replica_can_be_moved_to_where_it_is() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let topics = |name, partitions: &[i32]| vec![AlterReplicaLogDirTopic { name, partitions: partitions.to_vec() }];
    let dirs = vec![
        AlterReplicaLogDir { path: "./data", topics: topics("t", &[0, 1]) },
        AlterReplicaLogDir { path: "./data", topics: topics("none", &[0]) },
        AlterReplicaLogDir { path: "/elsewhere", topics: topics("u", &[0]) },
    ];
    let answer = h.call(2, &AlterReplicaLogDirsRequest { dirs });
    let response: AlterReplicaLogDirsResponse<'_> = answer.decode();
    let told: Vec<_> = response.results.iter().map(|r| (r.topic_name, r.partitions.iter())).collect();
    let told = told.into_iter().map(|(name, each)| (name, each.map(|p| p.error_code).collect::<Vec<_>>()));
    let expected = [
        ("none", vec![ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]),
        ("t", vec![ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]),
        ("u", vec![ErrorCode::LOG_DIR_NOT_FOUND]),
    ];
    assert!(told.eq(expected));
}

fn page(h: &mut Harness, topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> Answer {
    h.call(
        0,
        &DescribeTopicPartitionsRequest {
            topics: topics.iter().map(|name| DescribeTopicPartitionsTopicRequest { name }).collect(),
            response_partition_limit: limit,
            cursor: cursor.map(|(topic_name, partition_index)| Cursor { topic_name, partition_index }),
        },
    )
}

#[test]
fn partitions_come_in_pages_and_each_comes_once() {
    let mut h = Harness::new();
    for (name, num_partitions) in [("a", 5), ("b", 1), ("c", 4)] {
        must_create(&mut h, CreatableTopic { num_partitions, ..topic(name) });
    }
    for asked in [&[][..], &["c", "a", "b"]] {
        for limit in 1..12 {
            let (mut seen, mut cursor) = (Vec::new(), None::<(String, i32)>);
            loop {
                let from = cursor.as_ref().map(|(name, partition)| (name.as_str(), *partition));
                let answer = page(&mut h, asked, limit, from);
                let response: DescribeTopicPartitionsResponse<'_> = answer.decode();
                for topic in &response.topics {
                    assert_eq!(topic.error_code, ErrorCode::NONE);
                    let name = topic.name.unwrap().to_owned();
                    seen.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition_index)));
                }
                let told: usize = response.topics.iter().map(|topic| topic.partitions.len()).sum();
                assert!(told <= limit as usize);
                cursor = response.next_cursor.as_ref().map(|c| (c.topic_name.to_owned(), c.partition_index));
                if cursor.is_none() {
                    break;
                }
            }
            let all = [("a", 5), ("b", 1), ("c", 4)];
            let all: Vec<_> = all.iter().flat_map(|(n, count)| (0..*count).map(|p| (n.to_string(), p))).collect();
            assert_eq!(seen, all, "limit {limit}");
        }
    }
}

#[test]
fn pages_tell_unknown_topics_and_refuse_cursors_that_make_no_sense() {
    let mut h = Harness::new();
    must_create(&mut h, topic("a"));
    let errors = |answer: &Answer| {
        let response: DescribeTopicPartitionsResponse<'_> = answer.decode();
        response.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>()
    };
    let answer = page(&mut h, &["a", "a/b", "z"], 100, None);
    let expected = [ErrorCode::NONE, ErrorCode::INVALID_TOPIC_EXCEPTION, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
    assert_eq!(errors(&answer), expected);
    let answer = page(&mut h, &["a"], 100, Some(("b", 0)));
    assert_eq!(errors(&answer), [ErrorCode::INVALID_REQUEST]);
    let answer = page(&mut h, &["a"], 100, Some(("a", -1)));
    assert_eq!(errors(&answer), [ErrorCode::INVALID_REQUEST]);
}

#[test]
fn config_resources_are_listed() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let names = |answer: &Answer| {
        let response: ListConfigResourcesResponse<'_> = answer.decode();
        let each = response.config_resources.iter();
        (response.error_code, each.map(|r| (r.resource_type, r.resource_name.to_owned())).collect::<Vec<_>>())
    };
    let all = h.call(1, &ListConfigResourcesRequest { resource_types: Vec::new() });
    assert_eq!(names(&all), (ErrorCode::NONE, vec![(8, "1".to_owned()), (4, "1".to_owned()), (2, "t".to_owned())]));
    let topics = h.call(1, &ListConfigResourcesRequest { resource_types: vec![2] });
    assert_eq!(names(&topics).1, [(2, "t".to_owned())]);
    let unknown = h.call(1, &ListConfigResourcesRequest { resource_types: vec![3] });
    assert_eq!(names(&unknown), (ErrorCode::UNSUPPORTED_VERSION, vec![]));
    let metrics = h.call(0, &ListConfigResourcesRequest { resource_types: Vec::new() });
    assert_eq!(names(&metrics), (ErrorCode::NONE, vec![]));
}

#[test]
fn one_node_elects_and_moves_nothing() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    for (election_type, wanted, error) in [
        (9, Some(Vec::new()), ErrorCode::NONE),
        (9, None, ErrorCode::INVALID_REQUEST),
        (1, Some(Vec::new()), ErrorCode::NONE),
    ] {
        let answer = h.call(2, &ElectLeadersRequest { election_type, topic_partitions: wanted, ..Default::default() });
        assert_eq!(answer.decode::<ElectLeadersResponse<'_>>().error_code, error, "{election_type}");
    }
    let wanted = vec![ElectLeadersTopicPartitions { topic: "t", partitions: vec![0, 1] }];
    let answer = h.call(2, &ElectLeadersRequest { topic_partitions: Some(wanted), ..Default::default() });
    let response: ElectLeadersResponse<'_> = answer.decode();
    let told = &response.replica_election_results[0].partition_result;
    let errors: Vec<_> = told.iter().map(|partition| partition.error_code).collect();
    assert_eq!(errors, [ErrorCode::ELECTION_NOT_NEEDED, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);

    let moves = [(0, Some(vec![1])), (0, Some(vec![2])), (0, Some(vec![])), (0, None), (1, Some(vec![1]))];
    let partitions = moves
        .into_iter()
        .map(|(partition_index, replicas)| ReassignablePartition { partition_index, replicas })
        .collect();
    let topics = vec![ReassignableTopic { name: "t", partitions }];
    let answer = h.call(1, &AlterPartitionReassignmentsRequest { topics, ..Default::default() });
    let response: AlterPartitionReassignmentsResponse<'_> = answer.decode();
    let errors: Vec<_> = response.responses[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(
        errors,
        [
            ErrorCode::NONE,
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ]
    );
    let answer = h.call(0, &ListPartitionReassignmentsRequest::default());
    assert!(answer.decode::<ListPartitionReassignmentsResponse<'_>>().topics.is_empty());
}
