//! Owns the tests that drive a broker to the bounds on what clients may make, one request after the other.

use chronik::broker::groups::MatchDone;
use chronik::broker::work::{WorkDone, WorkJob};
use chronik::limits;
use chronik::wire::msg::*;
use chronik::wire::{ErrorCode, Request};

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

#[test]
fn patterns_are_bounded_in_memory_also_before_it_is_known_what_they_stand_for() {
    const TOPICS: usize = 8000;
    let mut h = Harness::new();
    let names: Vec<String> = (0..TOPICS).map(|number| format!("topic{number}")).collect();
    let topics = names.iter().map(|name| CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    });
    h.call(4, &CreateTopicsRequest { topics: topics.collect(), ..Default::default() });
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
