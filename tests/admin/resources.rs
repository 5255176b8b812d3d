//! Owns the tests of the configurations of groups, client metrics and the logger, and of broker-wide defaults of topics.

use chronik::broker::apis;
use chronik::broker::configs::group_table::ShareOffsetReset;

use super::configs::{alter, alter_or_check};
use super::*;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

/// What ListConfigResources tells.
fn resources(h: &mut Harness, version: i16, resource_types: Vec<i8>) -> Vec<(i8, String)> {
    let answer = h.call(version, &ListConfigResourcesRequest { resource_types });
    let response: ListConfigResourcesResponse<'_> = answer.decode();
    response.config_resources.iter().map(|r| (r.resource_type, r.resource_name.to_owned())).collect()
}

fn has_share_groups() -> bool {
    apis::is_served(ApiKey::SHARE_GROUP_HEARTBEAT, 1)
}

#[test]
fn client_metrics_are_kept_told_listed_and_forgotten() {
    let mut h = Harness::new();
    let set =
        [(SET, "interval.ms", Some("1000")), (SET, "metrics", Some("a, b")), (SET, "match", Some("client_id=x.*"))];
    assert_eq!(alter_or_check(&mut h, CLIENT_METRICS, "m", &set, true), (ErrorCode::NONE, String::new()));
    assert_eq!(described(&mut h, CLIENT_METRICS, "m", "interval.ms"), ("300000".to_owned(), 5));
    assert_eq!(alter(&mut h, CLIENT_METRICS, "m", &set).0, ErrorCode::NONE);
    for _ in 0..2 {
        assert_eq!(described(&mut h, CLIENT_METRICS, "m", "interval.ms"), ("1000".to_owned(), 7));
        assert_eq!(described(&mut h, CLIENT_METRICS, "m", "metrics"), ("a,b".to_owned(), 7));
        assert_eq!(resources(&mut h, 0, Vec::new()), [(CLIENT_METRICS, "m".to_owned())]);
        assert_eq!(resources(&mut h, 1, vec![CLIENT_METRICS]), [(CLIENT_METRICS, "m".to_owned())]);
        h.restart();
        h.checkpoint();
    }
    let delete = [(DELETE, "interval.ms", None), (DELETE, "metrics", None), (DELETE, "match", None)];
    assert_eq!(alter(&mut h, CLIENT_METRICS, "m", &delete).0, ErrorCode::NONE);
    h.restart();
    assert_eq!(resources(&mut h, 1, vec![CLIENT_METRICS]), []);
}

#[test]
fn client_metrics_are_checked_with_kafkas_words() {
    let mut h = Harness::new();
    let cases = [
        ("m", (SET, "interval.ms", Some("99")), ErrorCode::INVALID_REQUEST, "interval must be between 100 and 3600000"),
        ("m", (SET, "interval.ms", Some("x")), ErrorCode::INVALID_CONFIG, "Not a number of type INT"),
        ("m", (SET, "match", Some("nope=1")), ErrorCode::INVALID_CONFIG, "Illegal client matching pattern: nope=1"),
        ("m", (SET, "metrics", Some("a,,b")), ErrorCode::INVALID_CONFIG, "'metrics' values must not be empty."),
        ("m", (APPEND, "metrics", Some("a")), ErrorCode::INVALID_CONFIG, "Can't APPEND to key metrics"),
        ("m", (SET, "x", Some("1")), ErrorCode::INVALID_REQUEST, "Unknown client metrics configuration: x"),
        ("m", (SET, "metrics", None), ErrorCode::INVALID_REQUEST, "Null value not supported for : metrics"),
        ("", (SET, "metrics", Some("a")), ErrorCode::INVALID_REQUEST, "Subscription name can't be empty"),
    ];
    for (name, change, error, part) in cases {
        let (told, why) = alter(&mut h, CLIENT_METRICS, name, &[change]);
        assert!(told == error && why.contains(part), "{change:?}: {told} {why}");
    }
    assert_eq!(resources(&mut h, 0, Vec::new()), []);
}

#[test]
fn groups_are_configured_before_they_exist_and_keep_it_over_a_restart() {
    let mut h = Harness::new();
    assert_eq!(described(&mut h, GROUP, "g", "consumer.session.timeout.ms"), ("45000".to_owned(), 5));
    let mut set = vec![
        (SET, "consumer.session.timeout.ms", Some("50000")),
        (SET, "consumer.heartbeat.interval.ms", Some("7000")),
    ];
    if has_share_groups() {
        set.push((SET, "share.auto.offset.reset", Some("by_duration:PT1H")));
        set.push((SET, "share.isolation.level", Some("read_committed")));
    }
    assert_eq!(alter(&mut h, GROUP, "g", &set).0, ErrorCode::NONE);
    for _ in 0..2 {
        assert_eq!(described(&mut h, GROUP, "g", "consumer.session.timeout.ms"), ("50000".to_owned(), 8));
        assert_eq!(described(&mut h, GROUP, "other", "consumer.session.timeout.ms"), ("45000".to_owned(), 5));
        assert_eq!(resources(&mut h, 1, vec![GROUP]), [(GROUP, "g".to_owned())]);
        let configs = h.broker.group_configs("g");
        assert_eq!(configs.consumer_session_timeout_ms, 50_000);
        if has_share_groups() {
            assert!(configs.share_read_committed);
            assert_eq!(configs.share_auto_offset_reset, ShareOffsetReset::ByDurationMs(3_600_000));
        }
        assert_eq!((heartbeat_interval_ms(&mut h, "g"), heartbeat_interval_ms(&mut h, "other")), (7000, 5000));
        h.restart();
        h.checkpoint();
    }
    assert_eq!(alter(&mut h, GROUP, "g", &[(DELETE, "consumer.session.timeout.ms", None)]).0, ErrorCode::NONE);
    assert_eq!(h.broker.group_configs("g").consumer_session_timeout_ms, 45_000);
    assert_eq!(alter(&mut h, GROUP, "g", &[(DELETE, "consumer.heartbeat.interval.ms", None)]).0, ErrorCode::NONE);
    assert_eq!(heartbeat_interval_ms(&mut h, "g"), 5000);
}

/// What a new member of a group is told.
fn heartbeat_interval_ms(h: &mut Harness, group_id: &str) -> i32 {
    let member_id = format!("member-{}", h.now.mono_us);
    h.pass_ms(1);
    let request = ConsumerGroupHeartbeatRequest {
        group_id,
        member_id: &member_id,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t"]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let answer = h.call(1, &request);
    let response: ConsumerGroupHeartbeatResponse<'_> = answer.decode();
    assert_eq!(response.error_code, ErrorCode::NONE, "{:?}", response.error_message);
    response.heartbeat_interval_ms
}

#[test]
fn configurations_of_groups_are_checked_with_kafkas_words() {
    let mut h = Harness::new();
    let session = "consumer.session.timeout.ms";
    let config = ErrorCode::INVALID_CONFIG;
    let share = [
        (
            "g",
            (SET, "share.auto.offset.reset", Some("none")),
            config,
            "must be either 'earliest', 'latest' or of the format",
        ),
        ("g", (SET, "share.record.lock.duration.ms", Some("1")), config, "Value must be at least 1000"),
    ];
    let cases = [
        ("g", (SET, session, Some("0")), config, "Value must be at least 1"),
        ("g", (SET, session, Some("1")), config, "greater than or equal to group.consumer.min.session.timeout.ms"),
        ("g", (SET, session, Some("999999")), config, "less than or equal to group.consumer.max.session.timeout.ms"),
        ("g", (SET, "nope", Some("1")), config, "Unknown group config name: nope"),
        ("g", (APPEND, session, Some("1")), config, "because its type is not LIST."),
        ("", (SET, session, Some("1")), ErrorCode::INVALID_REQUEST, "Default group resources are not allowed."),
    ];
    for (name, change, error, part) in cases.into_iter().chain(share.into_iter().filter(|_| has_share_groups())) {
        let (told, why) = alter(&mut h, GROUP, name, &[change]);
        assert!(told == error && why.contains(part), "{change:?}: {told} {why}");
    }
}

#[test]
fn the_log_level_is_told_and_changed_until_the_next_start() {
    let mut h = Harness::new();
    assert_eq!(described(&mut h, LOGGER, "1", "root"), ("INFO".to_owned(), 6));
    assert_eq!(alter_or_check(&mut h, LOGGER, "1", &[(SET, "root", Some("DEBUG"))], true).0, ErrorCode::NONE);
    assert_eq!(described(&mut h, LOGGER, "1", "root").0, "INFO");
    assert_eq!(alter(&mut h, LOGGER, "1", &[(SET, "root", Some("DEBUG"))]).0, ErrorCode::NONE);
    assert_eq!(described(&mut h, LOGGER, "1", "root").0, "DEBUG");
    assert_eq!(alter(&mut h, BROKER, "", &[(SET, "log.retention.ms", Some("5"))]).0, ErrorCode::NONE);
    assert_eq!(described(&mut h, LOGGER, "1", "root").0, "DEBUG");
    h.restart();
    assert_eq!(described(&mut h, LOGGER, "1", "root").0, "INFO");
}

#[test]
fn the_logger_is_refused_what_kafka_refuses() {
    let mut h = Harness::new();
    let (config, request) = (ErrorCode::INVALID_CONFIG, ErrorCode::INVALID_REQUEST);
    let cases = [
        ("1", (SET, "root", Some("info")), config, "Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"),
        ("1", (SET, "kafka", Some("INFO")), config, "Logger kafka does not exist!"),
        ("1", (DELETE, "root", None), request, "Removing the log level of the root logger is not allowed"),
        (
            "1",
            (APPEND, "root", Some("INFO")),
            request,
            "APPEND operation is not allowed for the BROKER_LOGGER resource",
        ),
        ("2", (SET, "root", Some("INFO")), request, "Unexpected node id. Expected 1, but received 2"),
        ("", (SET, "root", Some("INFO")), request, "Node id must be an integer, but it is: "),
    ];
    for (name, change, error, why) in cases {
        let told = alter(&mut h, LOGGER, name, &[change]);
        assert!(told.0 == error && told.1.ends_with(why), "{change:?}: {told:?}");
    }
    let configs = vec![AlterConfigsAlterableConfig { name: "root", value: Some("INFO") }];
    let resources = vec![AlterConfigsResource { resource_type: LOGGER, resource_name: "1", configs }];
    let answer = h.call(2, &AlterConfigsRequest { resources, ..Default::default() });
    assert_eq!(answer.decode::<AlterConfigsResponse<'_>>().responses[0].error_code, request);
}

#[test]
fn defaults_of_topics_are_changed_for_all_and_reach_those_without_a_value() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    must_create(&mut h, CreatableTopic { configs: vec![config("cleanup.policy", "delete")], ..topic("own") });
    let changes = [(APPEND, "log.cleanup.policy", Some("compact")), (SET, "min.insync.replicas", Some("2"))];
    assert_eq!(alter(&mut h, BROKER, "", &changes), (ErrorCode::NONE, String::new()));
    for _ in 0..2 {
        assert_eq!(described(&mut h, TOPIC, "t", "cleanup.policy"), ("delete,compact".to_owned(), 3));
        assert_eq!(described(&mut h, TOPIC, "own", "cleanup.policy"), ("delete".to_owned(), 1));
        assert_eq!(described(&mut h, TOPIC, "t", "min.insync.replicas"), ("2".to_owned(), 3));
        assert_eq!(described(&mut h, BROKER, "1", "log.cleanup.policy"), ("delete,compact".to_owned(), 3));
        // A compacted topic takes no record without a key.
        assert_eq!(produce_without_key(&mut h, "t"), ErrorCode::INVALID_RECORD);
        assert_eq!(produce_without_key(&mut h, "own"), ErrorCode::NONE);
        h.restart();
        h.checkpoint();
    }
    let (error, why) = alter(&mut h, BROKER, "", &[(APPEND, "log.retention.ms", Some("1"))]);
    assert_eq!(error, ErrorCode::INVALID_CONFIG);
    assert_eq!(why, "Config value append is not allowed for config key: log.retention.ms");
    assert_eq!(alter(&mut h, BROKER, "", &[(DELETE, "log.cleanup.policy", None)]).0, ErrorCode::NONE);
    assert_eq!(produce_without_key(&mut h, "t"), ErrorCode::NONE);
}

fn produce_without_key(h: &mut Harness, name: &str) -> ErrorCode {
    let mut batch = BatchBuilder::new();
    batch.push(h.now.wall_ms, None, Some(b"value"), &[]);
    let bytes = batch.build().unwrap();
    let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(&bytes) };
    let topic_data = vec![TopicProduceData { name, partition_data: vec![data], ..Default::default() }];
    let answer = h.call(9, &ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() });
    let response: ProduceResponse<'_> = answer.decode();
    response.responses[0].partition_responses[0].error_code
}

#[test]
fn throttles_of_moving_replicas_are_taken_and_told_only_once_set() {
    let mut h = Harness::new();
    let name = "leader.replication.throttled.rate";
    let told = |h: &mut Harness| {
        let keys = Some(vec![name]);
        let wanted = DescribeConfigsResource { configuration_keys: keys, ..resource(BROKER, "1") };
        let answer = h.call(4, &DescribeConfigsRequest { resources: vec![wanted], ..Default::default() });
        let response: DescribeConfigsResponse<'_> = answer.decode();
        response.results[0].configs.iter().map(|c| c.value.unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut h), Vec::<String>::new());
    assert_eq!(alter(&mut h, BROKER, "1", &[(SET, name, Some("1000"))]).0, ErrorCode::NONE);
    assert_eq!(told(&mut h), ["1000"]);
    assert_eq!(alter(&mut h, BROKER, "1", &[(DELETE, name, None)]).0, ErrorCode::NONE);
    assert_eq!(told(&mut h), Vec::<String>::new());
}
