//! Owns a test for each failure of other implementations' codecs that is known to have cut clients off.

use bytes::BytesMut;
use chronik::wire::msg::*;
use chronik::wire::{decode, encode, frame, Api, ApiKey, ErrorCode, HeaderError, Message, RecordSet, RequestHeader};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Encodable, StrBytes};

/// The bytes of a response header: without tagged fields it is the correlation id alone.
fn response_header_len(api: &Api, version: i16) -> usize {
    match api.response_header(version) {
        0 => 4,
        _ => 5,
    }
}

#[test]
fn api_versions_is_always_answered_with_the_oldest_response_header() {
    for version in ApiVersionsResponse::VERSIONS {
        let message = ApiVersionsResponse::default();
        let encoded = frame::response(version, 0x0102_0304, &message).bytes;
        let body = encode(&message, version).bytes;
        assert_eq!(encoded[4..8], [1, 2, 3, 4]);
        assert_eq!(encoded[8..], body, "v{version} has no tagged fields between correlation id and body");
        assert_eq!(encoded[..4], (4 + body.len() as u32).to_be_bytes());
    }
}

#[test]
fn api_versions_leaves_out_tagged_fields_at_their_defaults_for_librdkafka_2_0_2() {
    let message = ApiVersionsResponse {
        api_keys: vec![ApiVersion { api_key: 18, min_version: 0, max_version: 4 }],
        ..Default::default()
    };
    // Error code, one key with its empty tagged fields, throttle time, and no tagged field at all.
    let expected = [0, 0, 2, 0, 18, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0];
    for version in 3..=5 {
        assert_eq!(encode(&message, version).bytes, expected, "v{version}");
    }
}

#[test]
fn a_request_for_api_versions_from_the_future_has_a_readable_header() {
    let mut bytes = frame::request(4, 7, Some("x"), &ApiVersionsRequest::default()).bytes;
    bytes[6..8].copy_from_slice(&999i16.to_be_bytes());
    let (header, _) = RequestHeader::parse(&bytes[4..]).unwrap();
    assert_eq!((header.api.key, header.version, header.correlation_id), (ApiKey::API_VERSIONS, 999, 7));
    assert!(!header.api.describes(header.version));
}

#[test]
fn response_headers_of_create_topics_v4_and_describe_configs_v1_are_not_flexible() {
    for (key, last_plain) in [(ApiKey::CREATE_TOPICS, 4), (ApiKey::DESCRIBE_CONFIGS, 3)] {
        let api = key.api().unwrap();
        for version in api.versions() {
            let expected = if version <= last_plain { 4 } else { 5 };
            assert_eq!(response_header_len(api, version), expected, "{} v{version}", api.name);
        }
    }
    let encoded = frame::response(4, 9, &CreateTopicsResponse::default()).bytes;
    assert_eq!(encoded, [0, 0, 0, 12, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn flexible_forms_begin_where_kafkas_do() {
    let first = |key: ApiKey| key.api().unwrap().flexible;
    assert_eq!(first(ApiKey::INIT_PRODUCER_ID), Some(2));
    assert_eq!(first(ApiKey::ADD_PARTITIONS_TO_TXN), Some(3));
    assert_eq!(first(ApiKey::TXN_OFFSET_COMMIT), Some(3));
    assert_eq!(first(ApiKey::SASL_HANDSHAKE), None);
    assert_eq!(first(ApiKey::OFFSET_DELETE), None);
}

#[test]
fn flexible_init_producer_id_v4_is_read() {
    // "tx" compact, timeout 60000, id 5, epoch 1, no tagged fields.
    let body = [3, b't', b'x', 0, 0, 0xea, 0x60, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 0];
    let request: InitProducerIdRequest = decode(&body, 4).unwrap();
    assert_eq!(request.transactional_id, Some("tx"));
    assert_eq!((request.transaction_timeout_ms, request.producer_id, request.producer_epoch), (60000, 5, 1));
}

#[test]
fn flexible_add_partitions_to_txn_v3_is_read() {
    let body = [3, b't', b'x', 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 2, 2, b'a', 2, 0, 0, 0, 7, 0, 0];
    let request: AddPartitionsToTxnRequest = decode(&body, 3).unwrap();
    assert_eq!(request.v3_and_below_transactional_id, "tx");
    let topics = [AddPartitionsToTxnTopic { name: "a", partitions: vec![7] }];
    assert_eq!(request.v3_and_below_topics, topics);
}

#[test]
fn flexible_txn_offset_commit_v3_is_read() {
    let mut body = vec![2, b't', 2, b'g', 0, 0, 0, 0, 0, 0, 0, 5, 0, 1];
    body.extend([0, 0, 0, 3, 2, b'm', 0]); // generation, member, no instance
    body.extend([2, 2, b'a', 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 1, 0, 0, 0, 0]);
    let request: TxnOffsetCommitRequest = decode(&body, 3).unwrap();
    assert_eq!((request.generation_id_or_member_epoch, request.member_id), (3, "m"));
    let partition = &request.topics[0].partitions[0];
    assert_eq!((partition.partition_index, partition.committed_offset), (7, 42));
    assert_eq!((partition.committed_leader_epoch, partition.committed_metadata), (1, None));
}

#[test]
fn null_arrays_in_create_topics_are_read_as_empty() {
    for version in CreateTopicsRequest::VERSIONS {
        let flexible = CreateTopicsRequest::API.is_flexible(version);
        let mut body = if flexible { vec![2, 2, b't'] } else { vec![0, 0, 0, 1, 0, 1, b't'] };
        body.extend([0, 0, 0, 3, 0, 1]);
        body.extend(if flexible { vec![0, 0, 0] } else { vec![0xff; 8] });
        body.extend([0, 0, 0, 10]);
        body.extend(vec![0; usize::from(version >= 1) + usize::from(flexible)]);
        let request: CreateTopicsRequest = decode(&body, version).unwrap();
        let topic = CreatableTopic { name: "t", num_partitions: 3, replication_factor: 1, ..Default::default() };
        assert_eq!(request.topics, [topic], "v{version}");
    }
}

#[test]
fn join_group_v7_is_read_and_answered() {
    let body = [
        2, b'g', 0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10, 1, 0, 9, b'c', b'o', b'n', b's', b'u', b'm', b'e', b'r', 2, 6,
        b'r', b'a', b'n', b'g', b'e', 3, 0, 1, 0, 0,
    ];
    let request: JoinGroupRequest = decode(&body, 7).unwrap();
    assert_eq!((request.group_id, request.member_id, request.group_instance_id), ("g", "", None));
    assert_eq!(request.protocols, [JoinGroupRequestProtocol { name: "range", metadata: &[0, 1] }]);

    let refused = JoinGroupResponse { error_code: ErrorCode::MEMBER_ID_REQUIRED, member_id: "m", ..Default::default() };
    let v7 = encode(&refused, 7).bytes;
    // Throttle time, error, generation -1, null protocol type and name, no leader, member, no members, no tags.
    assert_eq!(v7, [0, 0, 0, 0, 0, 79, 255, 255, 255, 255, 0, 0, 1, 2, b'm', 1, 0]);
    // Version 6 allows no null name, so that the empty one stands for it.
    let v6 = encode(&refused, 6).bytes;
    assert_eq!(v6, [0, 0, 0, 0, 0, 79, 255, 255, 255, 255, 1, 1, 2, b'm', 1, 0]);
}

#[test]
fn sasl_handshake_v1_is_read_and_answered_in_the_classic_form() {
    let request: SaslHandshakeRequest = decode(&[0, 5, b'P', b'L', b'A', b'I', b'N'], 1).unwrap();
    assert_eq!(request.mechanism, "PLAIN");
    let response = SaslHandshakeResponse { mechanisms: vec!["PLAIN"], ..Default::default() };
    let encoded = frame::response(1, 3, &response).bytes;
    assert_eq!(encoded, [0, 0, 0, 17, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 5, b'P', b'L', b'A', b'I', b'N']);
}

#[test]
fn produce_v9_has_a_client_id_with_a_classic_length() {
    let mut bytes = BytesMut::new();
    let header = theirs::RequestHeader::default()
        .with_request_api_key(0)
        .with_request_api_version(9)
        .with_correlation_id(77)
        .with_client_id(Some(StrBytes::from_static_str("rdkafka")));
    header.encode(&mut bytes, 2).unwrap();
    let request = theirs::ProduceRequest::default().with_acks(-1).with_timeout_ms(30000);
    request.encode(&mut bytes, 9).unwrap();

    let (header, body) = RequestHeader::parse(&bytes).unwrap();
    assert_eq!((header.api.key, header.version, header.correlation_id), (ApiKey::PRODUCE, 9, 77));
    assert_eq!(header.client_id, Some("rdkafka"));
    let ours: ProduceRequest = decode(body, 9).unwrap();
    assert_eq!((ours.acks, ours.timeout_ms, ours.transactional_id), (-1, 30000, None));
    assert_eq!(frame::request(9, 77, Some("rdkafka"), &ours).bytes[4..], bytes[..]);
}

#[test]
fn a_client_without_a_name_or_with_a_strange_one_is_let_in() {
    let mut bytes = frame::request(0, 1, None, &HeartbeatRequest::default()).bytes;
    assert_eq!(RequestHeader::parse(&bytes[4..]).unwrap().0.client_id, None);
    bytes = frame::request(0, 1, Some("ab?d"), &HeartbeatRequest::default()).bytes;
    bytes[16] = 0xe9;
    assert_eq!(RequestHeader::parse(&bytes[4..]).unwrap().0.client_id, Some("ab"));
}

#[test]
fn an_unknown_api_is_told_with_its_key_version_and_number() {
    let bytes = [0, 99, 0, 3, 0, 0, 0, 8, 0, 1, b'x'];
    let error = HeaderError::UnknownApi { key: ApiKey(99), version: 3, correlation_id: 8 };
    assert_eq!(RequestHeader::parse(&bytes), Err(error));
    assert_eq!(error.to_string(), "unknown API key 99 (version 3)");
}

#[test]
fn an_old_produce_request_without_transactional_id_is_read() {
    for version in 0..=2 {
        let mut body = vec![0xff, 0xff, 0, 0, 0x75, 0x30, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 4];
        body.extend([0, 0, 0, 3, 1, 2, 3]);
        let request: ProduceRequest = decode(&body, version).unwrap();
        assert_eq!((request.transactional_id, request.acks, request.timeout_ms), (None, -1, 30000));
        let partition = &request.topic_data[0].partition_data[0];
        assert_eq!((partition.index, partition.records), (4, RecordSet::Bytes(&[1, 2, 3])));
    }
}
