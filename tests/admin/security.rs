//! Owns the tests of SCRAM credentials, and of what is answered where there is no authorizer, no SASL, one voter and no
//! telemetry.

use super::*;

const SHA_256: i8 = 1;
const SHA_512: i8 = 2;
const SALTED: &[u8] = b"a salted password that nobody may see";

fn upsertion(name: &str, mechanism: i8, iterations: i32) -> ScramCredentialUpsertion<'_> {
    ScramCredentialUpsertion { name, mechanism, iterations, salt: b"salt", salted_password: SALTED }
}

fn deletion(name: &str, mechanism: i8) -> ScramCredentialDeletion<'_> {
    ScramCredentialDeletion { name, mechanism }
}

/// Each user with error and message.
fn alter(
    h: &mut Harness,
    deletions: Vec<ScramCredentialDeletion<'_>>,
    upsertions: Vec<ScramCredentialUpsertion<'_>>,
) -> Vec<(String, ErrorCode, String)> {
    let answer = h.call(0, &AlterUserScramCredentialsRequest { deletions, upsertions });
    let response: AlterUserScramCredentialsResponse<'_> = answer.decode();
    let told = response.results.iter();
    told.map(|r| (r.user.to_owned(), r.error_code, r.error_message.unwrap_or("").to_owned())).collect()
}

/// A user with error, mechanisms and iterations.
type User = (String, ErrorCode, Vec<(i8, i32)>);

fn users(h: &mut Harness, users: Option<&[&str]>) -> Vec<User> {
    let users = users.map(|users| users.iter().map(|name| UserName { name }).collect());
    let answer = h.call(0, &DescribeUserScramCredentialsRequest { users });
    let response: DescribeUserScramCredentialsResponse<'_> = answer.decode();
    assert_eq!(response.error_code, ErrorCode::NONE);
    let infos = |r: &DescribeUserScramCredentialsResult<'_>| {
        r.credential_infos.iter().map(|info| (info.mechanism, info.iterations)).collect()
    };
    response.results.iter().map(|r| (r.user.to_owned(), r.error_code, infos(r))).collect()
}

fn one(user: &str, infos: &[(i8, i32)]) -> (String, ErrorCode, Vec<(i8, i32)>) {
    (user.to_owned(), ErrorCode::NONE, infos.to_vec())
}

#[test]
fn scram_credentials_are_told_without_their_keys_and_are_there_after_a_restart() {
    let mut h = Harness::new();
    let done = |user: &str| vec![(user.to_owned(), ErrorCode::NONE, String::new())];
    assert_eq!(alter(&mut h, vec![], vec![upsertion("a", SHA_256, 4096)]), done("a"));
    assert_eq!(alter(&mut h, vec![], vec![upsertion("a", SHA_512, 16384)]), done("a"));
    assert_eq!(alter(&mut h, vec![], vec![upsertion("b", SHA_256, 5000)]), done("b"));
    for _ in 0..2 {
        let all = [one("a", &[(SHA_256, 4096), (SHA_512, 16384)]), one("b", &[(SHA_256, 5000)])];
        assert_eq!(users(&mut h, None), all);
        assert_eq!(users(&mut h, Some(&[])), all);
        assert_eq!(users(&mut h, Some(&["b"])), all[1..]);
        h.restart();
        h.checkpoint();
    }
    assert_eq!(alter(&mut h, vec![deletion("a", SHA_256)], vec![upsertion("b", SHA_256, 6000)]).len(), 2);
    assert_eq!(alter(&mut h, vec![deletion("a", SHA_512)], vec![]), done("a"));
    h.restart();
    assert_eq!(users(&mut h, None), [one("b", &[(SHA_256, 6000)])]);
}

#[test]
fn the_salted_password_is_not_in_the_log() {
    let mut h = Harness::new();
    alter(&mut h, vec![], vec![upsertion("a", SHA_256, 4096)]);
    let values: Vec<_> = h.log.groups.values().flat_map(|group| &group.meta).filter_map(|e| e.value.as_ref()).collect();
    assert!(!values.is_empty());
    assert!(values.iter().all(|value| !value.windows(SALTED.len()).any(|part| part == SALTED)));
}

#[test]
fn what_kafka_does_not_take_of_a_credential_is_refused_with_its_words() {
    let mut h = Harness::new();
    let unacceptable = ErrorCode::UNACCEPTABLE_CREDENTIAL;
    let mechanism = ErrorCode::UNSUPPORTED_SASL_MECHANISM;
    let empty = ScramCredentialUpsertion { salted_password: b"", ..upsertion("u", SHA_256, 4096) };
    let cases = [
        (upsertion("u", SHA_256, 4095), unacceptable, "Too few iterations"),
        (upsertion("u", SHA_256, 16385), unacceptable, "Too many iterations"),
        (upsertion("u", 0, 4096), mechanism, "Unknown SCRAM mechanism"),
        (upsertion("u", 3, 4096), mechanism, "Unknown SCRAM mechanism"),
        (upsertion("", SHA_256, 4096), unacceptable, "Username must not be empty"),
        (empty, unacceptable, "The salted password is empty"),
    ];
    for (wanted, error, why) in cases {
        let name = wanted.name.to_owned();
        assert_eq!(alter(&mut h, vec![], vec![wanted]), [(name, error, why.to_owned())]);
    }
    let cases = [
        (
            deletion("u", SHA_256),
            ErrorCode::RESOURCE_NOT_FOUND,
            "Attempt to delete a user credential that does not exist",
        ),
        (deletion("u", 9), mechanism, "Unknown SCRAM mechanism"),
        (deletion("", SHA_256), unacceptable, "Username must not be empty"),
    ];
    for (wanted, error, why) in cases {
        let name = wanted.name.to_owned();
        assert_eq!(alter(&mut h, vec![wanted], vec![]), [(name, error, why.to_owned())]);
    }
    assert_eq!(users(&mut h, None), []);
}

#[test]
fn a_user_that_is_named_twice_is_refused_and_others_are_not() {
    let mut h = Harness::new();
    alter(&mut h, vec![], vec![upsertion("d", SHA_256, 4096)]);
    let twice = "A user credential cannot be altered twice in the same request";
    let told = alter(
        &mut h,
        vec![deletion("d", SHA_256), deletion("x", SHA_256)],
        vec![
            upsertion("a", SHA_256, 4096),
            upsertion("a", SHA_512, 4096),
            upsertion("b", SHA_256, 4096),
            upsertion("d", SHA_512, 4096),
            upsertion("x", SHA_256, 4096),
        ],
    );
    let duplicate = |user: &str| (user.to_owned(), ErrorCode::DUPLICATE_RESOURCE, twice.to_owned());
    assert_eq!(told[0], duplicate("a"));
    assert_eq!(told[1], ("b".to_owned(), ErrorCode::NONE, String::new()));
    assert_eq!(told[2], duplicate("d"));
    assert_eq!(told[3].1, ErrorCode::RESOURCE_NOT_FOUND);
    assert_eq!(users(&mut h, None), [one("b", &[(SHA_256, 4096)]), one("d", &[(SHA_256, 4096)])]);
    let error = |user: &str, error| (user.to_owned(), error, Vec::new());
    let told = users(&mut h, Some(&["b", "b", "nope", "d"]));
    let expected = [
        error("b", ErrorCode::DUPLICATE_RESOURCE),
        one("d", &[(SHA_256, 4096)]),
        error("nope", ErrorCode::RESOURCE_NOT_FOUND),
    ];
    assert_eq!(told, expected);
}

#[test]
fn access_rules_need_an_authorizer() {
    let mut h = Harness::new();
    for version in versions(DescribeAclsRequest::API) {
        let filter = DescribeAclsRequest {
            resource_type_filter: 1,
            pattern_type_filter: 1,
            operation: 1,
            permission_type: 1,
            ..Default::default()
        };
        let answer = h.call(version, &filter);
        let response: DescribeAclsResponse<'_> = answer.decode();
        assert_eq!(response.error_code, ErrorCode::SECURITY_DISABLED);
        assert_eq!(response.error_message, Some("No Authorizer is configured on the broker"));
        let creation = AclCreation {
            resource_type: 2,
            resource_name: "t",
            resource_pattern_type: 3,
            principal: "User:a",
            host: "*",
            operation: 3,
            permission_type: 3,
        };
        let answer = h.call(version, &CreateAclsRequest { creations: vec![creation.clone(), creation] });
        let results = answer.decode::<CreateAclsResponse<'_>>().results.len();
        let answer_error = answer.decode::<CreateAclsResponse<'_>>().results[0].error_code;
        assert_eq!((results, answer_error), (2, ErrorCode::SECURITY_DISABLED));
        let filter = DeleteAclsFilter {
            resource_type_filter: 1,
            pattern_type_filter: 1,
            operation: 1,
            permission_type: 1,
            ..Default::default()
        };
        let answer = h.call(version, &DeleteAclsRequest { filters: vec![filter] });
        let response: DeleteAclsResponse<'_> = answer.decode();
        assert_eq!(response.filter_results[0].error_code, ErrorCode::SECURITY_DISABLED);
    }
    assert!(h.closed.is_empty());
}

#[test]
fn a_rule_of_unknown_elements_closes_the_connection() {
    let mut h = Harness::new();
    let conn = h.connect();
    h.send(conn, 3, &DescribeAclsRequest::default());
    assert_eq!((h.closed.len(), h.take_answers().len()), (1, 0));
}

#[test]
fn sasl_and_delegation_tokens_are_refused_without_a_sasl_listener() {
    let mut h = Harness::new();
    let answer = h.call(1, &SaslHandshakeRequest { mechanism: "PLAIN" });
    let response: SaslHandshakeResponse<'_> = answer.decode();
    assert_eq!((response.error_code, response.mechanisms.len()), (ErrorCode::ILLEGAL_SASL_STATE, 0));
    let answer = h.call(2, &SaslAuthenticateRequest { auth_bytes: b"x" });
    assert_eq!(answer.decode::<SaslAuthenticateResponse<'_>>().error_code, ErrorCode::ILLEGAL_SASL_STATE);
    let not_allowed = ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED;
    let answer = h.call(3, &CreateDelegationTokenRequest::default());
    let response: CreateDelegationTokenResponse<'_> = answer.decode();
    assert_eq!(
        (response.error_code, response.principal_type, response.principal_name),
        (not_allowed, "User", "ANONYMOUS")
    );
    let answer = h.call(2, &RenewDelegationTokenRequest::default());
    assert_eq!(answer.decode::<RenewDelegationTokenResponse>().error_code, not_allowed);
    let answer = h.call(2, &ExpireDelegationTokenRequest::default());
    assert_eq!(answer.decode::<ExpireDelegationTokenResponse>().error_code, not_allowed);
    let answer = h.call(3, &DescribeDelegationTokenRequest::default());
    assert_eq!(answer.decode::<DescribeDelegationTokenResponse<'_>>().error_code, not_allowed);
}

#[test]
fn the_quorum_is_this_node() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let asked = |topic_name, partitions: &[i32]| {
        let partitions = partitions.iter().map(|index| DescribeQuorumPartitionData { partition_index: *index });
        DescribeQuorumRequest { topics: vec![DescribeQuorumTopicData { topic_name, partitions: partitions.collect() }] }
    };
    for version in versions(DescribeQuorumRequest::API) {
        let answer = h.call(version, &asked("__cluster_metadata", &[0]));
        let response: DescribeQuorumResponse<'_> = answer.decode();
        let told = &response.topics[0].partitions[0];
        assert_eq!((told.error_code, told.leader_id, told.current_voters.len()), (ErrorCode::NONE, 1, 1));
        assert!(told.high_watermark > 0 && told.current_voters[0].log_end_offset == told.high_watermark);
        assert_eq!(response.nodes.len(), usize::from(version >= 2));
    }
    for wanted in [asked("t", &[0]), asked("__cluster_metadata", &[1]), asked("__cluster_metadata", &[0, 1])] {
        let answer = h.call(2, &wanted);
        let response: DescribeQuorumResponse<'_> = answer.decode();
        assert!(response.topics[0].partitions.iter().all(|p| p.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    }
}

#[test]
fn no_voter_and_no_broker_comes_or_goes() {
    let mut h = Harness::new();
    let listeners = vec![Listener { name: "CONTROLLER", host: "localhost", port: 1 }];
    let add = AddRaftVoterRequest { voter_id: 2, voter_directory_id: Uuid([1; 16]), listeners, ..Default::default() };
    let error = |h: &mut Harness, request: &AddRaftVoterRequest<'_>| {
        h.call(1, request).decode::<AddRaftVoterResponse<'_>>().error_code
    };
    assert_eq!(error(&mut h, &add), ErrorCode::UNSUPPORTED_VERSION);
    let elsewhere = AddRaftVoterRequest { cluster_id: Some("elsewhere"), ..add.clone() };
    assert_eq!(error(&mut h, &elsewhere), ErrorCode::INCONSISTENT_CLUSTER_ID);
    assert_eq!(error(&mut h, &AddRaftVoterRequest { voter_id: -1, ..add }), ErrorCode::INVALID_REQUEST);
    let remove = RemoveRaftVoterRequest { voter_id: 1, voter_directory_id: Uuid([1; 16]), ..Default::default() };
    let answer = h.call(0, &remove);
    assert_eq!(answer.decode::<RemoveRaftVoterResponse<'_>>().error_code, ErrorCode::UNSUPPORTED_VERSION);
    for (broker_id, error) in [(2, ErrorCode::BROKER_ID_NOT_REGISTERED), (1, ErrorCode::INVALID_REQUEST)] {
        let answer = h.call(0, &UnregisterBrokerRequest { broker_id });
        assert_eq!(answer.decode::<UnregisterBrokerResponse<'_>>().error_code, error);
    }
}

#[test]
fn telemetry_is_answered_and_not_advertised() {
    let mut h = Harness::new();
    let answer = h.call(0, &ApiVersionsRequest::default());
    let response: ApiVersionsResponse<'_> = answer.decode();
    assert!(response.api_keys.iter().all(|api| ![71, 72].contains(&api.api_key)));
    let answer = h.call(0, &GetTelemetrySubscriptionsRequest::default());
    let response: GetTelemetrySubscriptionsResponse<'_> = answer.decode();
    assert_eq!((response.error_code, response.requested_metrics.len()), (ErrorCode::NONE, 0));
    assert!(!response.client_instance_id.is_zero());
    let push = PushTelemetryRequest {
        client_instance_id: response.client_instance_id,
        subscription_id: response.subscription_id,
        metrics: b"x",
        ..Default::default()
    };
    let large = vec![0; (1 << 20) + 1];
    let cases = [
        (push.clone(), ErrorCode::NONE),
        (PushTelemetryRequest { client_instance_id: Uuid::ZERO, ..push.clone() }, ErrorCode::INVALID_REQUEST),
        (
            PushTelemetryRequest { subscription_id: !push.subscription_id, ..push.clone() },
            ErrorCode::UNKNOWN_SUBSCRIPTION_ID,
        ),
        (PushTelemetryRequest { compression_type: 9, ..push.clone() }, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        (PushTelemetryRequest { metrics: &large, ..push }, ErrorCode::TELEMETRY_TOO_LARGE),
    ];
    for (push, error) in cases {
        let answer = h.call(0, &push);
        assert_eq!(answer.decode::<PushTelemetryResponse>().error_code, error);
    }
}
