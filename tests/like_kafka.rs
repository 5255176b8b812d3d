//! Owns what the differential test has found in metadata, offsets and classic groups: how Kafka answers what no well-behaved
//! client asks.

use chronik::wire::batch::BatchBuilder;
use chronik::wire::msg::*;
use chronik::wire::{ErrorCode, RecordSet, Uuid};

use crate::harness::Harness;

fn create(h: &mut Harness, name: &str) -> Uuid {
    let topic = CreatableTopic { name, num_partitions: 2, replication_factor: 1, ..Default::default() };
    let answer = h.call(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    let response: CreateTopicsResponse<'_> = answer.decode();
    assert_eq!(response.topics[0].error_code, ErrorCode::NONE);
    response.topics[0].topic_id
}

fn produce(h: &mut Harness, name: &str, values: usize) {
    let mut batch = BatchBuilder::new();
    (0..values).for_each(|_| batch.push(1_700_000_000_000, None, Some(b"v"), &[]));
    let bytes = batch.build().unwrap();
    let partition_data = vec![PartitionProduceData { index: 0, records: RecordSet::Bytes(&bytes) }];
    let topic_data = vec![TopicProduceData { name, partition_data, ..Default::default() }];
    let answer = h.call(9, &ProduceRequest { acks: -1, topic_data, ..Default::default() });
    let response: ProduceResponse<'_> = answer.decode();
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

fn named(name: &str) -> MetadataRequestTopic<'_> {
    MetadataRequestTopic { name: Some(name), ..Default::default() }
}

fn by_id(topic_id: Uuid) -> MetadataRequestTopic<'static> {
    MetadataRequestTopic { topic_id, name: None }
}

/// The answer's topics: their names and errors.
fn metadata(h: &mut Harness, version: i16, topics: Vec<MetadataRequestTopic<'_>>) -> Vec<(String, ErrorCode)> {
    let request = MetadataRequest { topics: Some(topics), allow_auto_topic_creation: false, ..Default::default() };
    let answer = h.call(version, &request);
    let response: MetadataResponse<'_> = answer.decode();
    response.topics.iter().map(|topic| (topic.name.unwrap_or("").to_owned(), topic.error_code)).collect()
}

#[test]
fn a_topic_that_is_asked_for_twice_is_answered_once() {
    let mut h = Harness::new();
    create(&mut h, "t");
    for version in 4..=13 {
        let topics = metadata(&mut h, version, vec![named("t"), named("u"), named("t")]);
        let wanted = [("t".to_owned(), ErrorCode::NONE), ("u".to_owned(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)];
        assert_eq!(topics, wanted, "version {version}");
    }
}

#[test]
fn topics_are_asked_for_by_id_from_version_12_on() {
    let mut h = Harness::new();
    let id = create(&mut h, "t");
    create(&mut h, "u");
    for version in [10, 11] {
        let topics = metadata(&mut h, version, vec![by_id(id)]);
        assert_eq!(topics, [(String::new(), ErrorCode::INVALID_REQUEST)]);
    }
    assert_eq!(metadata(&mut h, 12, vec![by_id(id)]), [("t".to_owned(), ErrorCode::NONE)]);
    // Where a request has ids, its names do not count.
    assert_eq!(metadata(&mut h, 13, vec![named("u"), by_id(id)]), [("t".to_owned(), ErrorCode::NONE)]);
}

fn list_offset(partition_index: i32, timestamp: i64, current_leader_epoch: i32) -> ListOffsetsPartition {
    ListOffsetsPartition { partition_index, timestamp, current_leader_epoch, ..Default::default() }
}

fn list_offsets(h: &mut Harness, partitions: Vec<ListOffsetsPartition>) -> Vec<(i32, ErrorCode, i64)> {
    let topics = vec![ListOffsetsTopic { name: "t", partitions }, ListOffsetsTopic { name: "u", partitions: vec![] }];
    let answer = h.call(9, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() });
    let response: ListOffsetsResponse<'_> = answer.decode();
    assert!(response.topics.iter().all(|topic| topic.name == "t"), "a topic without partitions is left out");
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|p| (p.partition_index, p.error_code, p.offset)).collect()
}

#[test]
fn a_partition_with_two_questions_gets_no_answer() {
    let mut h = Harness::new();
    create(&mut h, "t");
    let asked = vec![list_offset(0, -1, -1), list_offset(1, -1, -1), list_offset(0, -2, -1)];
    assert_eq!(list_offsets(&mut h, asked), [(0, ErrorCode::INVALID_REQUEST, -1), (1, ErrorCode::NONE, 0)]);
    assert_eq!(list_offsets(&mut h, vec![]), []);
}

/// The answer to one question of OffsetForLeaderEpoch: error, epoch, end.
fn epoch_end(h: &mut Harness, current_leader_epoch: i32, leader_epoch: i32) -> (ErrorCode, i32, i64) {
    let partitions = vec![OffsetForLeaderPartition { leader_epoch, current_leader_epoch, partition: 0 }];
    let topics = vec![OffsetForLeaderTopic { topic: "t", partitions }];
    let answer = h.call(4, &OffsetForLeaderEpochRequest { topics, ..Default::default() });
    let response: OffsetForLeaderEpochResponse<'_> = answer.decode();
    let end = &response.topics[0].partitions[0];
    (end.error_code, end.leader_epoch, end.end_offset)
}

#[test]
fn only_the_epoch_minus_one_is_none() {
    let mut h = Harness::new();
    create(&mut h, "t");
    // An epoch from before all that are known ended where they began, which it did already.
    assert_eq!(epoch_end(&mut h, -1, -2), (ErrorCode::NONE, -2, 0));
    produce(&mut h, "t", 2);
    assert_eq!(list_offsets(&mut h, vec![list_offset(0, -1, -1)]), [(0, ErrorCode::NONE, 2)]);
    assert_eq!(list_offsets(&mut h, vec![list_offset(0, -1, -2)]), [(0, ErrorCode::FENCED_LEADER_EPOCH, -1)]);
    assert_eq!(list_offsets(&mut h, vec![list_offset(0, -1, 1)]), [(0, ErrorCode::UNKNOWN_LEADER_EPOCH, -1)]);
    let ends = [-2, -1, 0, 1].map(|epoch| epoch_end(&mut h, -1, epoch));
    let none = ErrorCode::NONE;
    assert_eq!(ends, [(none, -2, 0), (none, -1, -1), (none, 0, 2), (none, -1, -1)]);
    assert_eq!(epoch_end(&mut h, -2, 0).0, ErrorCode::FENCED_LEADER_EPOCH);
}

#[test]
fn a_batch_that_is_cut_off_is_no_record_and_topics_without_partitions_are_not_answered() {
    let mut h = Harness::new();
    create(&mut h, "t");
    let mut batch = BatchBuilder::new();
    batch.push(1_700_000_000_000, None, Some(b"v"), &[]);
    let bytes = batch.build().unwrap();
    for cut in [1, 11, 17, bytes.len() - 1] {
        let partition_data = vec![PartitionProduceData { index: 0, records: RecordSet::Bytes(&bytes[..cut]) }];
        let empty = TopicProduceData { name: "u", ..Default::default() };
        let topic_data = vec![empty, TopicProduceData { name: "t", partition_data, ..Default::default() }];
        let answer = h.call(9, &ProduceRequest { acks: -1, topic_data, ..Default::default() });
        let response: ProduceResponse<'_> = answer.decode();
        let told = response.responses.iter().map(|topic| (topic.name, topic.partition_responses[0].error_code));
        // INVALID_RECORD is not tried again.
        assert_eq!(told.collect::<Vec<_>>(), [("t", ErrorCode::INVALID_RECORD)], "{cut} bytes");
    }
}

#[test]
fn an_idempotent_producer_may_say_what_it_likes_of_itself_but_not_half_of_it() {
    let mut h = Harness::new();
    for (producer_id, producer_epoch, error_code) in [
        (-1, -1, ErrorCode::NONE),
        (-2, 0, ErrorCode::NONE),
        (7, -2, ErrorCode::NONE),
        (-1, 0, ErrorCode::INVALID_REQUEST),
        (7, -1, ErrorCode::INVALID_REQUEST),
    ] {
        let request = InitProducerIdRequest { producer_id, producer_epoch, ..Default::default() };
        let answer = h.call(5, &request);
        let response: InitProducerIdResponse = answer.decode();
        assert_eq!(response.error_code, error_code, "{producer_id} {producer_epoch}");
    }
}

#[test]
fn producers_of_a_topic_that_cannot_be_are_an_invalid_topic() {
    let mut h = Harness::new();
    create(&mut h, "t");
    let wanted = ["t", "u", ""].map(|name| DescribeProducersTopicRequest { name, partition_indexes: vec![7] });
    let answer = h.call(0, &DescribeProducersRequest { topics: wanted.to_vec() });
    let response: DescribeProducersResponse<'_> = answer.decode();
    let told = response.topics.iter().map(|topic| topic.partitions[0].error_code).collect::<Vec<_>>();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(told, [unknown, unknown, ErrorCode::INVALID_TOPIC_EXCEPTION]);
}

/// What a transactional producer of version 11 or 12 is told of a batch: the error, and where the partition begins.
fn produce_as(h: &mut Harness, version: i16, id: i64, sequence: i32, transactional: bool) -> (ErrorCode, i64) {
    let mut batch = BatchBuilder::new().producer(id, 0, sequence);
    if transactional {
        batch = batch.transactional();
    }
    batch.push(1_700_000_000_000, None, Some(b"v"), &[]);
    let bytes = batch.build().unwrap();
    let partition_data = vec![PartitionProduceData { index: 0, records: RecordSet::Bytes(&bytes) }];
    let topic_data = vec![TopicProduceData { name: "t", partition_data, ..Default::default() }];
    let request = ProduceRequest { transactional_id: Some("x"), acks: -1, topic_data, ..Default::default() };
    let answer = h.call(version, &request);
    let response: ProduceResponse<'_> = answer.decode();
    let told = &response.responses[0].partition_responses[0];
    (told.error_code, told.log_start_offset)
}

#[test]
fn what_is_refused_where_it_would_be_appended_is_told_with_the_start_of_the_log() {
    let mut h = Harness::new();
    create(&mut h, "t");
    let request =
        InitProducerIdRequest { transactional_id: Some("x"), transaction_timeout_ms: 60_000, ..Default::default() };
    let answer = h.call(4, &request);
    let id = answer.decode::<InitProducerIdResponse>().producer_id;
    assert_eq!(produce_as(&mut h, 12, id, 3, true), (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, 0));
    assert_eq!(produce_as(&mut h, 12, id, 0, true), (ErrorCode::NONE, 0));
    assert_eq!(produce_as(&mut h, 11, id, 1, false), (ErrorCode::INVALID_TXN_STATE, 0));
}

#[test]
fn coordinators_of_what_does_not_exist_are_an_invalid_request() {
    let mut h = Harness::new();
    for key_type in [-1, 3, 127] {
        let request = FindCoordinatorRequest { key: "k", key_type, coordinator_keys: vec!["k"] };
        let answer = h.call(3, &request);
        assert_eq!(answer.decode::<FindCoordinatorResponse<'_>>().error_code, ErrorCode::INVALID_REQUEST);
        let answer = h.call(6, &request);
        let response: FindCoordinatorResponse<'_> = answer.decode();
        assert_eq!(response.coordinators[0].error_code, ErrorCode::INVALID_REQUEST);
    }
    // A version that has no share groups yet is told why.
    let answer = h.call(3, &FindCoordinatorRequest { key: "k", key_type: 2, ..Default::default() });
    let response: FindCoordinatorResponse<'_> = answer.decode();
    assert!(response.error_code == ErrorCode::INVALID_REQUEST && response.error_message.is_some_and(|m| !m.is_empty()));
}

#[test]
fn a_commit_for_no_partition_of_a_topic_is_left_out_of_the_answer() {
    let mut h = Harness::new();
    create(&mut h, "t");
    let topics = vec![OffsetCommitRequestTopic { name: "t", ..Default::default() }];
    let answer = h.call(8, &OffsetCommitRequest { group_id: "g", topics, ..Default::default() });
    assert!(answer.decode::<OffsetCommitResponse<'_>>().topics.is_empty());
}

/// Whoever writes to a topic that Kafka keeps its own state in is mistaken: that state is not kept there.
#[test]
fn clients_do_not_write_to_topics_that_kafka_calls_internal() {
    let mut h = Harness::new();
    for name in ["__consumer_offsets", "__transaction_state", "__share_group_state"] {
        create(&mut h, name);
        let mut batch = BatchBuilder::new();
        batch.push(1_700_000_000_000, None, Some(b"v"), &[]);
        let bytes = batch.build().unwrap();
        let partition_data = vec![PartitionProduceData { index: 0, records: RecordSet::Bytes(&bytes) }];
        let topic_data = vec![TopicProduceData { name, partition_data, ..Default::default() }];
        let answer = h.call(9, &ProduceRequest { acks: -1, topic_data, ..Default::default() });
        let response: ProduceResponse<'_> = answer.decode();
        let error = response.responses[0].partition_responses[0].error_code;
        assert_eq!(error, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name}");
    }
}
