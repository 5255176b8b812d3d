//! Owns the tests that drive a broker to the bounds on what clients may make, one request after the other.

use chronik::broker::groups::MatchDone;
use chronik::broker::work::{WorkDone, WorkJob};
use chronik::limits;
use chronik::wire::batch::BatchBuilder;
use chronik::wire::msg::*;
use chronik::wire::{ErrorCode, Message, RecordSet, Request};

use crate::fuzz::memory::peak_of;
use crate::harness::{Answer, Harness};

/// A member that joins a group with so many bytes of metadata: the error and its id.
fn join(h: &mut Harness, version: i16, group: &str, member_id: &str, bytes: usize) -> (ErrorCode, String) {
    let metadata = vec![0; bytes];
    let protocols = vec![JoinGroupRequestProtocol { name: "range", metadata: &metadata }];
    let request = JoinGroupRequest {
        group_id: group,
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: 1_800_000,
        member_id,
        protocol_type: "consumer",
        protocols,
        ..Default::default()
    };
    let conn = h.connect();
    h.send(conn, version, &request);
    h.settle();
    // The first member of a group waits for others to come.
    h.pass_ms(3000);
    h.settle();
    let mut answers = h.take_answers();
    let answer = answers.pop().expect("an answer");
    let told: JoinGroupResponse<'_> = answer.decode();
    let told = (told.error_code, told.member_id.to_owned());
    h.broker.disconnected(h.now, conn);
    told
}

pub fn with_topic() -> Harness {
    let mut h = Harness::new();
    let topic = CreatableTopic { name: "t", num_partitions: 1, replication_factor: 1, ..Default::default() };
    h.call(4, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    h
}

#[test]
fn consumer_groups_are_bounded_in_memory_also_by_members_that_come_back_with_more() {
    const MEMBER: usize = 1000 << 10;
    let mut h = with_topic();
    // Of these groups a member has been given its id, and no more.
    let (error, promised) = join(&mut h, 4, "promised", "", 10);
    assert_eq!(error, ErrorCode::MEMBER_ID_REQUIRED);
    let (error, small) = join(&mut h, 2, "small", "", 10);
    assert_eq!(error, ErrorCode::NONE);
    let mut groups = 0;
    let error = loop {
        match join(&mut h, 2, &format!("g{groups}"), "", MEMBER).0 {
            ErrorCode::NONE => groups += 1,
            error => break error,
        }
    };
    assert_eq!(error, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let most = limits::CONSUMER_GROUPS_BYTES_MAX / MEMBER + 1;
    assert!((most - 20..=most).contains(&groups), "{groups} groups");
    assert_eq!(join(&mut h, 4, "promised", &promised, MEMBER).0, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(join(&mut h, 2, "small", &small, MEMBER).0, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(join(&mut h, 2, "small", &small, 10).0, ErrorCode::NONE, "who wants no more goes on");
}

#[test]
fn users_are_bounded_in_number() {
    let mut h = Harness::new();
    let names: Vec<String> = (0..=limits::SCRAM_USERS_MAX).map(|number| format!("u{number}")).collect();
    let mut refused: Vec<ErrorCode> = Vec::new();
    for names in names.chunks(10_000) {
        let upsertions = names.iter().map(|name| ScramCredentialUpsertion {
            name,
            mechanism: 1,
            iterations: 4096,
            salt: b"salt",
            salted_password: &[1; 32],
        });
        let request = AlterUserScramCredentialsRequest { deletions: Vec::new(), upsertions: upsertions.collect() };
        let answer = h.call(0, &request);
        let told: AlterUserScramCredentialsResponse<'_> = answer.decode();
        refused.extend(told.results.iter().map(|r| r.error_code).filter(|e| *e != ErrorCode::NONE));
    }
    assert_eq!(refused, [ErrorCode::UNACCEPTABLE_CREDENTIAL]);
}

#[test]
fn share_groups_are_bounded_in_number() {
    let mut h = with_topic();
    let beat = |h: &mut Harness, group: &str| {
        let request = ShareGroupHeartbeatRequest {
            group_id: group,
            member_id: "m",
            subscribed_topic_names: Some(vec!["t"]),
            ..Default::default()
        };
        h.call(1, &request).decode::<ShareGroupHeartbeatResponse<'_>>().error_code
    };
    for number in 0..limits::SHARE_GROUPS_MAX {
        assert_eq!(beat(&mut h, &format!("s{number}")), ErrorCode::NONE);
    }
    assert_eq!(beat(&mut h, "one too many"), ErrorCode::COORDINATOR_NOT_AVAILABLE);
}

#[test]
fn groups_with_configurations_are_bounded_in_number() {
    let mut h = Harness::new();
    let names: Vec<String> = (0..=limits::CONFIG_RESOURCES_MAX).map(|number| format!("g{number}")).collect();
    let resources = names.iter().map(|resource_name| IncrementalAlterConfigsResource {
        resource_type: 32,
        resource_name,
        configs: vec![IncrementalAlterConfigsAlterableConfig {
            name: "consumer.session.timeout.ms",
            config_operation: 0,
            value: Some("50000"),
        }],
    });
    let request = IncrementalAlterConfigsRequest { resources: resources.collect(), ..Default::default() };
    let answer = h.call(1, &request);
    let told: IncrementalAlterConfigsResponse<'_> = answer.decode();
    let refused = told.responses.iter().map(|r| r.error_code).filter(|e| *e != ErrorCode::NONE);
    assert_eq!(refused.collect::<Vec<_>>(), [ErrorCode::POLICY_VIOLATION]);
}

/// While it was carried out everybody else waited, for up to seconds.
#[test]
fn one_request_names_no_more_things_than_could_be_there() {
    let mut h = with_topic();
    let is_taken = |h: &mut Harness, count: usize| {
        let partitions = (0..count as i32).map(|partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: -1,
            ..Default::default()
        });
        let topics = vec![ListOffsetsTopic { name: "t", partitions: partitions.collect() }];
        let conn = h.connect();
        h.send(conn, 1, &ListOffsetsRequest { topics, ..Default::default() });
        h.settle();
        let is_closed = h.closed.drain(..).count() > 0;
        assert_eq!(h.take_answers().len(), usize::from(!is_closed));
        !is_closed
    };
    let least = limits::REQUEST_ARRAYS_BYTES_LEAST / limits::REQUEST_ELEMENT_BYTES_MIN;
    assert!(is_taken(&mut h, least - 10) && !is_taken(&mut h, least + 10));
    // With every partition that there is, more can be named.
    let more = CreatableTopic { name: "many", num_partitions: 5000, replication_factor: 1, ..Default::default() };
    h.call(4, &CreateTopicsRequest { topics: vec![more], ..Default::default() });
    assert!(is_taken(&mut h, least + 2 * 5000) && !is_taken(&mut h, least + 10 * 5000));
    let topic = MetadataRequestTopic { name: Some("t"), ..Default::default() };
    let topics = Some(vec![topic; limits::REQUEST_ITEMS_MAX + 1]);
    let conn = h.connect();
    h.send(conn, 1, &MetadataRequest { topics, ..Default::default() });
    assert_eq!(h.closed.len(), 1);
}

/// Sends a request many times over few connections, and tells how many were not refused. All that are refused come last, with `error`.
fn until_refused<'a, M: Request<'a>>(
    h: &mut Harness,
    requests: impl IntoIterator<Item = (i16, M)>,
    code: impl Fn(&Answer) -> ErrorCode,
    (accepted, refused): (ErrorCode, ErrorCode),
) -> usize {
    let mut codes = Vec::new();
    let mut conn = h.connect();
    let mut sent = 0;
    for (version, request) in requests {
        h.send(conn, version, &request);
        sent += 1;
        if sent % limits::PIPELINE_REQUESTS_MAX == 0 {
            h.settle();
            codes.extend(h.take_answers().iter().map(&code));
            conn = h.connect();
        }
    }
    h.settle();
    codes.extend(h.take_answers().iter().map(&code));
    assert_eq!(codes.len(), sent);
    let taken = codes.iter().take_while(|code| **code == accepted).count();
    assert!(codes[taken..].iter().all(|code| *code == refused), "{:?}", codes[taken..].first());
    taken
}

#[test]
fn consumer_groups_are_bounded_in_number() {
    let mut h = with_topic();
    let names: Vec<String> = (0..limits::CONSUMER_GROUPS_MAX + 3).map(|number| format!("g{number}")).collect();
    let protocols = vec![JoinGroupRequestProtocol { name: "range", metadata: &[] }];
    // Each group has one member, which has been given its id.
    let request = |group_id| JoinGroupRequest {
        group_id,
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: 1_800_000,
        protocol_type: "consumer",
        protocols: protocols.clone(),
        ..Default::default()
    };
    let code = |answer: &Answer| answer.decode::<JoinGroupResponse<'_>>().error_code;
    let codes = (ErrorCode::MEMBER_ID_REQUIRED, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let taken = until_refused(&mut h, names.iter().map(|name| (4, request(name))), code, codes);
    assert_eq!(taken, limits::CONSUMER_GROUPS_MAX);
    // Whoever does not come back with its id makes room.
    h.pass_ms(1_800_000);
    let taken = until_refused(&mut h, [(4, request("late"))], code, codes);
    assert_eq!(taken, 1);
}

#[test]
fn transactional_ids_are_bounded_in_number() {
    let mut h = with_topic();
    let names: Vec<String> = (0..limits::TRANSACTIONAL_IDS_MAX + 3).map(|number| format!("t{number}")).collect();
    let request = |name| InitProducerIdRequest {
        transactional_id: Some(name),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let code = |answer: &Answer| answer.decode::<InitProducerIdResponse>().error_code;
    let codes = (ErrorCode::NONE, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let taken = until_refused(&mut h, names.iter().map(|name| (4, request(name.as_str()))), code, codes);
    assert_eq!(taken, limits::TRANSACTIONAL_IDS_MAX);
    let taken = until_refused(&mut h, [(4, request("t0"))], code, codes);
    assert_eq!(taken, 1, "whoever has one goes on");
}

/// Heartbeats with a regular expression each, over a connection each, until one is refused; their number.
fn patterns_until_refused(h: &mut Harness, prefix: &str) -> usize {
    h.holds_work = true;
    for number in 0.. {
        let pattern = format!("{prefix}{number}");
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g",
            member_id: "m",
            rebalance_timeout_ms: 60_000,
            subscribed_topic_regex: Some(&pattern),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let conn = h.connect();
        h.send(conn, 1, &request);
        if let Some(answer) = h.take_answers().pop() {
            let told: ConsumerGroupHeartbeatResponse<'_> = answer.decode();
            assert_eq!(told.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE, "{:?}", told.error_message);
            return number;
        }
        h.broker.disconnected(h.now, conn);
    }
    unreachable!("there is no end of numbers")
}

/// All that a worker had been asked is told.
fn answer_patterns(h: &mut Harness) {
    h.holds_work = false;
    for job in std::mem::take(&mut h.work) {
        let WorkJob::Match(job) = job else { continue };
        let topics = job.topics.to_vec();
        h.work_done(WorkDone::Match(MatchDone { pattern: job.pattern, version: job.version, result: Ok(topics) }));
    }
}

#[test]
fn patterns_are_bounded_in_number_and_make_room_when_nobody_uses_them() {
    let mut h = with_topic();
    assert_eq!(patterns_until_refused(&mut h, "p"), limits::PATTERNS_MAX);
    answer_patterns(&mut h);
    assert_eq!(patterns_until_refused(&mut h, "q"), limits::PATTERNS_MAX);
}

/// Makes so many topics with one request; their names.
fn make_topics(h: &mut Harness, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|number| format!("topic{number}")).collect();
    let topics = names.iter().map(|name| CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    });
    h.call(4, &CreateTopicsRequest { topics: topics.collect(), ..Default::default() });
    names
}

#[test]
fn patterns_are_bounded_in_memory_also_before_it_is_known_what_they_stand_for() {
    const TOPICS: usize = 8000;
    let mut h = Harness::new();
    make_topics(&mut h, TOPICS);
    let most = limits::PATTERNS_BYTES_MAX / (TOPICS * size_of::<std::sync::Arc<str>>()) + 1;
    let taken = patterns_until_refused(&mut h, "p");
    assert!((most - 5..=most).contains(&taken), "{taken} patterns");
    answer_patterns(&mut h);
    assert_eq!(patterns_until_refused(&mut h, "q"), taken);
}

#[test]
fn heartbeats_that_wait_for_patterns_are_bounded_in_memory() {
    let mut h = with_topic();
    h.holds_work = true;
    let topic = "t".repeat(200);
    let mut bytes = 0;
    let refused = (0..1000).find_map(|number| {
        let group = format!("g{number}");
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &group,
            member_id: "m",
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![&topic; 1000]),
            subscribed_topic_regex: Some("p"),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let conn = h.connect();
        h.send(conn, 1, &request);
        bytes += 200 << 10;
        h.take_answers().pop()
    });
    let answer = refused.expect("one is refused");
    let told: ConsumerGroupHeartbeatResponse<'_> = answer.decode();
    assert_eq!(told.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert!((limits::PATTERN_WAITING_BYTES_MAX / 2..2 * limits::PATTERN_WAITING_BYTES_MAX).contains(&bytes), "{bytes}");
}

#[test]
fn share_groups_are_bounded_in_memory() {
    let mut h = with_topic();
    // Few long names: what counts is their bytes, and many short ones only take time.
    let names: Vec<String> = (0..8).map(|number| format!("{number}{:0>31999}", "")).collect();
    let beat = |h: &mut Harness, number: usize, member_epoch: i32| {
        let request = ShareGroupHeartbeatRequest {
            group_id: &format!("s{number}"),
            member_id: &format!("m{number}"),
            member_epoch,
            subscribed_topic_names: Some(names.iter().map(String::as_str).collect()),
            ..Default::default()
        };
        h.call(1, &request).decode::<ShareGroupHeartbeatResponse<'_>>().error_code
    };
    let each = 8 * 32_000;
    let most = limits::SHARE_BYTES_MAX / each;
    let taken = (0..=most).take_while(|number| beat(&mut h, *number, 0) == ErrorCode::NONE).count();
    assert!((most / 2..most).contains(&taken), "{taken} members");
    assert_eq!(beat(&mut h, taken, 0), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(beat(&mut h, taken - 1, -1), ErrorCode::NONE, "one leaves");
    assert_eq!(beat(&mut h, taken, 0), ErrorCode::NONE);
}

#[test]
fn configurations_that_are_described_are_bounded_in_memory() {
    let mut h = with_topic();
    let resource = DescribeConfigsResource { resource_type: 2, resource_name: "t", configuration_keys: None };
    let resources = vec![resource; 4000];
    let request = DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: true };
    let mut answer = None;
    let peak = peak_of(|| answer = Some(h.call(4, &request)));
    let answer = answer.unwrap();
    let told: DescribeConfigsResponse<'_> = answer.decode();
    let codes: Vec<ErrorCode> = told.results.iter().map(|result| result.error_code).collect();
    let taken = codes.iter().take_while(|code| **code == ErrorCode::NONE).count();
    assert!(taken > 3 && codes[taken..].iter().all(|code| *code == ErrorCode::POLICY_VIOLATION), "{taken} of them");
    let most = limits::DESCRIBED_BYTES_LEAST + limits::DESCRIBED_BYTES_EACH + 100 * 4000;
    assert!(answer.body.len() <= most, "{} bytes", answer.body.len());
    // The harness has the answer twice.
    assert!(peak < 6 * most, "{} KiB", peak >> 10);
}

#[test]
fn produce_waits_while_much_is_gathered_for_the_log_and_nothing_else_does() {
    let mut h = with_topic();
    let batch = batch_of(1, |builder| builder, 900 << 10);
    let (conn, other) = (h.connect(), h.connect());
    let mut sent = 0;
    while h.broker.ready_for(conn, ProduceRequest::KEY.0) {
        h.send(conn, 9, &produce_of(&batch));
        sent += 1;
    }
    let most = limits::GATHER_BYTES_MAX.div_ceil(batch.len());
    assert!((most - 1..=most).contains(&sent), "{sent} batches");
    assert!(!h.broker.ready_for(other, ProduceRequest::KEY.0), "nor does another's");
    assert!(h.broker.ready_for(other, FetchRequest::KEY.0) && h.broker.ready_for(conn, MetadataRequest::KEY.0));
    h.settle();
    assert_eq!(h.take_answers().len(), sent);
    assert!(h.broker.ready_for(conn, ProduceRequest::KEY.0));
}

/// A batch of so many records, the first with a value of so many bytes.
fn batch_of(records: usize, how: impl Fn(BatchBuilder) -> BatchBuilder, bytes: usize) -> Vec<u8> {
    let mut builder = how(BatchBuilder::new());
    (0..records)
        .for_each(|at| builder.push(1_700_000_000_000, None, Some(&vec![b'x'; bytes * usize::from(at == 0)]), &[]));
    builder.build().unwrap()
}

fn produce_of(batch: &[u8]) -> ProduceRequest<'_> {
    let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(batch) };
    let topic_data = vec![TopicProduceData { name: "t", partition_data: vec![data], ..Default::default() }];
    ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() }
}

/// Sends one batch of each of these producers, and tells the offsets that they got.
fn produce_as(h: &mut Harness, producers: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut offsets = Vec::new();
    let mut batch = batch_of(1, |builder| builder.producer(0, 0, 0), 5);
    let mut conn = h.connect();
    let mut waiting = 0;
    let mut take = |h: &mut Harness| {
        h.settle();
        for answer in h.take_answers() {
            let told: ProduceResponse<'_> = answer.decode();
            let told = &told.responses[0].partition_responses[0];
            assert_eq!(told.error_code, ErrorCode::NONE);
            offsets.push(told.base_offset);
        }
    };
    for producer in producers {
        batch[43..51].copy_from_slice(&producer.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        h.send(conn, 9, &produce_of(&batch));
        waiting += 1;
        if waiting % limits::PIPELINE_REQUESTS_MAX == 0 {
            take(h);
            conn = h.connect();
        }
    }
    take(h);
    offsets
}

/// Producers that a partition remembers.
fn remembered(h: &mut Harness) -> usize {
    let topics = vec![DescribeProducersTopicRequest { name: "t", partition_indexes: vec![0] }];
    let answer = h.call(0, &DescribeProducersRequest { topics });
    answer.decode::<DescribeProducersResponse<'_>>().topics[0].partitions[0].active_producers.len()
}

#[test]
fn producers_of_a_partition_are_bounded_and_the_longest_silent_ones_make_room() {
    let most = limits::PRODUCERS_PER_PARTITION_MAX as i64;
    let mut h = with_topic();
    h.log.segment_bytes = 1 << 30;
    assert_eq!(produce_as(&mut h, 0..most / 2).len() as i64, most / 2);
    h.pass_ms(1000);
    produce_as(&mut h, most / 2..most);
    assert_eq!(remembered(&mut h) as i64, most);
    assert_eq!(produce_as(&mut h, [0, most - 1].into_iter()), [0, most - 1], "both repeat what is there");
    h.pass_ms(1000);
    assert_eq!(produce_as(&mut h, [most].into_iter()), [most]);
    let left = remembered(&mut h) as i64;
    assert!((most / 4..most).contains(&left), "{left}");
    assert_eq!(produce_as(&mut h, [most - 1, most].into_iter()), [most - 1, most], "who wrote last is known");
    assert_eq!(
        produce_as(&mut h, [1].into_iter()),
        [most + 1],
        "who was silent for longest is a stranger, and goes on"
    );
}

#[test]
fn names_of_topics_are_bounded() {
    let mut h = Harness::new();
    let longest = "n".repeat(limits::TOPIC_NAME_BYTES_MAX);
    let long = longest.clone() + "n";
    let topic = |name| CreatableTopic { name, num_partitions: 1, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic(&long), topic(&longest)], ..Default::default() };
    let answer = h.call(4, &request);
    let told: CreateTopicsResponse<'_> = answer.decode();
    let codes = |name: &str| told.topics.iter().find(|topic| topic.name == name).unwrap().error_code;
    assert_eq!((codes(&long), codes(&longest)), (ErrorCode::INVALID_TOPIC_EXCEPTION, ErrorCode::NONE));
}

/// The largest number of partitions that there may be, reached by topics of all sizes.
#[test]
fn partitions_are_bounded_in_number_and_make_room_again() {
    let mut h = Harness::new();
    let create = |h: &mut Harness, name: &str, num_partitions: i32| {
        let topic = CreatableTopic { name, num_partitions, replication_factor: 1, ..Default::default() };
        let answer = h.call(4, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
        answer.decode::<CreateTopicsResponse<'_>>().topics[0].error_code
    };
    let each = limits::CREATED_PARTITIONS_MAX as i32;
    for number in 0..limits::PARTITIONS_MAX as i32 / each {
        assert_eq!(create(&mut h, &format!("t{number}"), each), ErrorCode::NONE);
    }
    assert_eq!(create(&mut h, "late", 1), ErrorCode::POLICY_VIOLATION);
    let grown = CreatePartitionsTopic { name: "t0", count: each + 1, ..Default::default() };
    let answer = h.call(2, &CreatePartitionsRequest { topics: vec![grown], ..Default::default() });
    let told: CreatePartitionsResponse<'_> = answer.decode();
    assert_eq!(told.results[0].error_code, ErrorCode::POLICY_VIOLATION);
    let wanted = vec![MetadataRequestTopic { name: Some("asked-for"), ..Default::default() }];
    let request = MetadataRequest { topics: Some(wanted), allow_auto_topic_creation: true, ..Default::default() };
    let answer = h.call(9, &request);
    assert_ne!(answer.decode::<MetadataResponse<'_>>().topics[0].error_code, ErrorCode::NONE);
    let gone = DeleteTopicState { name: Some("t0"), ..Default::default() };
    h.call(6, &DeleteTopicsRequest { topics: vec![gone], ..Default::default() });
    assert_eq!(create(&mut h, "late", each), ErrorCode::NONE);
}

#[test]
fn names_of_groups_are_bounded_whoever_names_them() {
    let mut h = with_topic();
    let longest = "g".repeat(limits::CONSUMER_GROUP_ID_BYTES_MAX);
    for (group, is_fine) in [(longest.clone() + "g", false), (longest, true)] {
        let group = group.as_str();
        let (error, _) = join(&mut h, 4, group, "", 10);
        assert_eq!(error, if is_fine { ErrorCode::MEMBER_ID_REQUIRED } else { ErrorCode::INVALID_GROUP_ID });
        let committed = vec![OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() }];
        let topics = vec![OffsetCommitRequestTopic { name: "t", partitions: committed, ..Default::default() }];
        let commit =
            OffsetCommitRequest { group_id: group, generation_id_or_member_epoch: -1, topics, ..Default::default() };
        let error = h.call(8, &commit).decode::<OffsetCommitResponse<'_>>().topics[0].partitions[0].error_code;
        assert_eq!(error, if is_fine { ErrorCode::NONE } else { ErrorCode::INVALID_GROUP_ID });
        let beat = ConsumerGroupHeartbeatRequest {
            group_id: group,
            member_id: "m",
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec!["t"]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let error = h.call(1, &beat).decode::<ConsumerGroupHeartbeatResponse<'_>>().error_code;
        assert_eq!(error == ErrorCode::INVALID_GROUP_ID, !is_fine, "{error}");
        let beat = ShareGroupHeartbeatRequest {
            group_id: group,
            member_id: "m",
            subscribed_topic_names: Some(vec!["t"]),
            ..Default::default()
        };
        let error = h.call(1, &beat).decode::<ShareGroupHeartbeatResponse<'_>>().error_code;
        assert_ne!(error, ErrorCode::NONE, "too long, or of another kind");
    }
    let request = ListGroupsRequest::default();
    assert_eq!(h.call(4, &request).decode::<ListGroupsResponse<'_>>().groups.len(), 1);
}

#[test]
fn configurations_of_one_topic_or_subscription_are_bounded_in_bytes() {
    let mut h = with_topic();
    let mut set = |resource_type, resource_name: &str, bytes: usize| {
        let elements = (10_000..10_000 + bytes / 8)
            .map(|number| format!("{number}{}", [":1", ".a"][usize::from(resource_type != 2)]));
        let value = elements.collect::<Vec<String>>().join(",");
        let name = if resource_type == 2 { "leader.replication.throttled.replicas" } else { "metrics" };
        let value = Some(value.as_str());
        let configs = vec![IncrementalAlterConfigsAlterableConfig { name, config_operation: 0, value }];
        let resources = vec![IncrementalAlterConfigsResource { resource_type, resource_name, configs }];
        let answer = h.call(1, &IncrementalAlterConfigsRequest { resources, ..Default::default() });
        answer.decode::<IncrementalAlterConfigsResponse<'_>>().responses[0].error_code
    };
    assert_eq!(set(2, "t", limits::TOPIC_CONFIGS_BYTES_MAX), ErrorCode::INVALID_CONFIG);
    assert_eq!(set(2, "t", limits::TOPIC_CONFIGS_BYTES_MAX - 50), ErrorCode::NONE);
    assert_eq!(set(16, "m", limits::RESOURCE_CONFIGS_BYTES_MAX), ErrorCode::POLICY_VIOLATION);
    assert_eq!(set(16, "m", limits::RESOURCE_CONFIGS_BYTES_MAX - 50), ErrorCode::NONE);
    let longest = "m".repeat(limits::CONSUMER_GROUP_ID_BYTES_MAX);
    assert_eq!(set(16, &(longest.clone() + "m"), 20), ErrorCode::POLICY_VIOLATION);
    assert_eq!(set(16, &longest, 20), ErrorCode::NONE);
}

#[test]
fn names_and_salts_of_users_are_bounded_in_bytes() {
    let mut h = Harness::new();
    let longest = "u".repeat(limits::SCRAM_BYTES_MAX);
    let salt = longest.as_bytes();
    for (name, salt, error) in [
        (longest.clone() + "u", salt, ErrorCode::UNACCEPTABLE_CREDENTIAL),
        ("a".to_owned(), &[salt, b"u"].concat()[..], ErrorCode::UNACCEPTABLE_CREDENTIAL),
        (longest.clone(), salt, ErrorCode::NONE),
    ] {
        let upsertion =
            ScramCredentialUpsertion { name: &name, mechanism: 1, iterations: 4096, salt, salted_password: &[1; 32] };
        let request = AlterUserScramCredentialsRequest { deletions: Vec::new(), upsertions: vec![upsertion] };
        let answer = h.call(0, &request);
        assert_eq!(answer.decode::<AlterUserScramCredentialsResponse<'_>>().results[0].error_code, error);
    }
}

#[test]
fn partitions_of_one_page_are_bounded_whatever_is_asked_for() {
    let most = limits::DESCRIBED_PARTITIONS_MAX;
    let mut h = Harness::new();
    let topic =
        CreatableTopic { name: "t", num_partitions: most as i32 + 7, replication_factor: 1, ..Default::default() };
    h.call(4, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    let mut page = |first: i32| {
        let cursor = (first > 0).then_some(Cursor { topic_name: "t", partition_index: first });
        let topics = vec![DescribeTopicPartitionsTopicRequest { name: "t" }];
        let request = DescribeTopicPartitionsRequest { topics, response_partition_limit: i32::MAX, cursor };
        let answer = h.call(0, &request);
        let told: DescribeTopicPartitionsResponse<'_> = answer.decode();
        (told.topics[0].partitions.len(), told.next_cursor.map(|cursor| cursor.partition_index))
    };
    assert_eq!(page(0), (most, Some(most as i32)));
    assert_eq!(page(most as i32), (7, None));
}

/// Who makes something may name more on a server on which there is nothing.
#[test]
fn one_request_makes_no_more_things_than_it_may() {
    let mut h = Harness::new();
    let mut is_taken = |count: usize| {
        let deletions = (0..count).map(|_| ScramCredentialDeletion { name: "u", mechanism: 1 });
        let request = AlterUserScramCredentialsRequest { deletions: deletions.collect(), upsertions: Vec::new() };
        let conn = h.connect();
        h.send(conn, 0, &request);
        h.settle();
        h.take_answers();
        h.closed.drain(..).count() == 0
    };
    let most = limits::REQUEST_ARRAYS_BYTES_NEW / limits::REQUEST_ELEMENT_BYTES_MIN;
    assert!(is_taken(most - 10) && !is_taken(most + 10));
}

#[test]
fn configurations_that_are_described_are_bounded_on_a_large_server_too() {
    const TOPICS: usize = 4200;
    const { assert!(TOPICS * limits::DESCRIBED_BYTES_EACH > limits::DESCRIBED_BYTES_MAX) };
    let mut h = Harness::new();
    let names = make_topics(&mut h, TOPICS);
    let resource = |name| DescribeConfigsResource { resource_type: 2, resource_name: name, configuration_keys: None };
    let resources = names.iter().cycle().take(4 * TOPICS).map(|name| resource(name.as_str())).collect();
    let request = DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: true };
    let answer = h.call(4, &request);
    let told: DescribeConfigsResponse<'_> = answer.decode();
    let refused = told.results.iter().filter(|result| result.error_code == ErrorCode::POLICY_VIOLATION).count();
    assert!(refused > 0 && refused < 3 * TOPICS, "{refused} of {} bytes", answer.body.len());
    let most = limits::DESCRIBED_BYTES_MAX;
    assert!((most - (1 << 20)..most + 200 * 4 * TOPICS).contains(&answer.body.len()), "{} bytes", answer.body.len());
}
