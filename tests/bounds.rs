//! Owns the tests that drive a broker to the bounds on what clients may make, one request after the other.

use chronik::limits;
use chronik::wire::msg::*;
use chronik::wire::ErrorCode;

use crate::harness::Harness;

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

fn with_topic() -> Harness {
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
    let refused: Vec<ErrorCode> = told.results.iter().map(|r| r.error_code).filter(|e| *e != ErrorCode::NONE).collect();
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

#[test]
fn one_request_names_no_more_things_than_it_may() {
    let mut h = with_topic();
    let name = vec!["t"; limits::REQUEST_ITEMS_MAX + 1];
    let answer = h.call(1, &DeleteTopicsRequest { topic_names: name, ..Default::default() });
    let told: DeleteTopicsResponse<'_> = answer.decode();
    assert!(told.responses.iter().all(|topic| topic.error_code != ErrorCode::NONE), "{:?}", told.responses.first());
    let answer = h.call(1, &MetadataRequest::default());
    assert_eq!(answer.decode::<MetadataResponse<'_>>().topics.len(), 1, "nothing of it is done");
}
