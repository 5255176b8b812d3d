//! Owns the tests of DescribeConfigs, AlterConfigs and IncrementalAlterConfigs.

use chronik::config::Config;

use super::*;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Operation, key and value.
pub(super) type Alteration<'a> = (i8, &'a str, Option<&'a str>);

pub(super) fn alter<'a>(
    h: &mut Harness,
    resource_type: i8,
    resource_name: &'a str,
    changes: &[Alteration<'a>],
) -> (ErrorCode, String) {
    alter_or_check(h, resource_type, resource_name, changes, false)
}

pub(super) fn alter_or_check<'a>(
    h: &mut Harness,
    resource_type: i8,
    resource_name: &'a str,
    changes: &[Alteration<'a>],
    validate_only: bool,
) -> (ErrorCode, String) {
    let configs = changes.iter().map(|(config_operation, name, value)| IncrementalAlterConfigsAlterableConfig {
        name,
        config_operation: *config_operation,
        value: *value,
    });
    let resources = vec![IncrementalAlterConfigsResource { resource_type, resource_name, configs: configs.collect() }];
    let answer = h.call(1, &IncrementalAlterConfigsRequest { resources, validate_only });
    let response: IncrementalAlterConfigsResponse<'_> = answer.decode();
    let told = &response.responses[0];
    assert_eq!((told.resource_type, told.resource_name), (resource_type, resource_name));
    (told.error_code, told.error_message.unwrap_or("").to_owned())
}

fn entries(h: &mut Harness, version: i16, wanted: DescribeConfigsResource<'_>) -> usize {
    let answer = h.call(version, &DescribeConfigsRequest { resources: vec![wanted], ..Default::default() });
    answer.decode::<DescribeConfigsResponse<'_>>().results[0].configs.len()
}

#[test]
fn describe_configs_is_not_empty_in_any_version() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    for version in versions(DescribeConfigsRequest::API) {
        assert_eq!(entries(&mut h, version, resource(TOPIC, "t")), 33, "version {version}");
        assert!(entries(&mut h, version, resource(BROKER, "1")) > 50, "version {version}");
        let keys = Some(vec!["retention.ms", "no.such.config"]);
        let some = DescribeConfigsResource { configuration_keys: keys, ..resource(TOPIC, "t") };
        assert_eq!(entries(&mut h, version, some), 1, "version {version}");
    }
}

#[test]
fn describe_configs_tells_source_type_synonyms_and_documentation() {
    let mut h = Harness::with(Config { log_retention_ms: 5000, ..Config::default() });
    must_create(&mut h, CreatableTopic { configs: vec![config("retention.ms", "77")], ..topic("t") });
    let answer = h.call(
        4,
        &DescribeConfigsRequest {
            resources: vec![resource(TOPIC, "t"), resource(BROKER, "1"), resource(BROKER, "")],
            include_synonyms: true,
            include_documentation: true,
        },
    );
    let response: DescribeConfigsResponse<'_> = answer.decode();
    let of = |result: usize, name: &str| {
        let mut found = response.results[result].configs.iter().filter(|entry| entry.name == name);
        found.next().cloned().unwrap()
    };
    let own = of(0, "retention.ms");
    assert_eq!((own.value, own.config_source, own.config_type, own.read_only), (Some("77"), 1, 5, false));
    assert!(own.documentation.is_some_and(|text| !text.is_empty()));
    let told: Vec<_> = own.synonyms.iter().map(|s| (s.name, s.value.unwrap(), s.source)).collect();
    // Kafka has no default for log.retention.ms.
    let hours = ("log.retention.hours", "168", 5);
    assert_eq!(told, [("retention.ms", "77", 1), ("log.retention.ms", "5000", 4), hours]);
    let size = of(0, "max.message.bytes");
    let told: Vec<_> = size.synonyms.iter().map(|s| (s.name, s.value.unwrap(), s.source)).collect();
    assert_eq!((size.config_source, told), (5, vec![("message.max.bytes", "1048588", 5)]));
    assert_eq!(of(1, "log.roll.ms").value, None);
    assert_eq!(of(0, "segment.ms").value, Some("604800000"));
    let broker = of(1, "log.retention.ms");
    assert_eq!((broker.value, broker.config_source, broker.read_only), (Some("5000"), 4, false));
    assert!(of(1, "node.id").read_only);
    assert!(response.results[2].configs.is_empty());
    assert!(response.results[0]
        .configs
        .iter()
        .all(|entry| entry.config_source == 5 || ["retention.ms"].contains(&entry.name)));
}

/// What is the same for all is found out once: 4,000 topics took 200 ms, in which everybody else waited.
#[test]
fn topics_and_groups_that_are_described_together_are_told_what_each_is_told_alone() {
    let mut h = Harness::new();
    for (name, configs) in [("a", vec![]), ("b", vec![config("retention.ms", "77")]), ("c", vec![])] {
        must_create(&mut h, CreatableTopic { configs, ..topic(name) });
    }
    let changed = alter(&mut h, GROUP, "g", &[(SET, "consumer.session.timeout.ms", Some("50000"))]);
    assert_eq!(changed.0, ErrorCode::NONE, "{}", changed.1);
    let names = [
        (TOPIC, "a"),
        (TOPIC, "b"),
        (TOPIC, "none"),
        (TOPIC, "c"),
        (GROUP, "g"),
        (GROUP, "h"),
        (BROKER, "1"),
        (BROKER, ""),
    ];
    for version in versions(DescribeConfigsRequest::API) {
        let describe = |h: &mut Harness, names: &[(i8, &'static str)]| {
            let resources = names.iter().map(|(kind, name)| resource(*kind, name)).collect();
            let request = DescribeConfigsRequest {
                resources,
                include_synonyms: version >= 1,
                include_documentation: version >= 3,
            };
            h.call(version, &request)
        };
        let together = describe(&mut h, &names);
        let together: DescribeConfigsResponse<'_> = together.decode();
        assert_eq!(together.results.len(), names.len());
        for (name, told) in names.iter().zip(&together.results) {
            let alone = describe(&mut h, &[*name]);
            assert_eq!(told, &alone.decode::<DescribeConfigsResponse<'_>>().results[0], "version {version}");
        }
        let own = |result: usize| together.results[result].configs.iter().find(|entry| entry.name == "retention.ms");
        assert_eq!((own(0).unwrap().value, own(1).unwrap().value), (Some("604800000"), Some("77")));
    }
}

#[test]
fn what_says_the_same_in_another_unit_is_a_synonym_of_what_was_set() {
    let mut h = Harness::new();
    let synonyms = |h: &mut Harness, key: &str| {
        let wanted = DescribeConfigsResource { configuration_keys: Some(vec![key]), ..resource(BROKER, "1") };
        let request = DescribeConfigsRequest { resources: vec![wanted], include_synonyms: true, ..Default::default() };
        let answer = h.call(4, &request);
        let response: DescribeConfigsResponse<'_> = answer.decode();
        let told = response.results[0].configs[0].synonyms.iter();
        told.map(|s| (s.name.to_owned(), s.value.unwrap_or("").to_owned(), s.source)).collect::<Vec<_>>()
    };
    let told = |name: &str, value: &str, source: i8| (name.to_owned(), value.to_owned(), source);
    assert_eq!(synonyms(&mut h, "log.retention.ms"), []);
    assert_eq!(synonyms(&mut h, "log.retention.hours"), [told("log.retention.hours", "168", 5)]);
    assert_eq!(alter(&mut h, BROKER, "1", &[(SET, "log.retention.ms", Some("86400000"))]).0, ErrorCode::NONE);
    let wanted = [told("log.retention.ms", "86400000", 2), told("log.retention.hours", "168", 5)];
    assert_eq!(synonyms(&mut h, "log.retention.ms"), wanted);
    // Every broker has an id that it was given.
    assert_eq!(synonyms(&mut h, "node.id"), [told("node.id", "1", 4)]);
    assert_eq!(synonyms(&mut h, "broker.id"), [told("broker.id", "1", 4), told("broker.id", "-1", 5)]);
}

#[test]
fn a_wrong_value_is_told_before_the_topic_is_missed() {
    let mut h = Harness::new();
    for (name, value) in [("retention.ms", "soon"), ("no.such", "1")] {
        assert_eq!(alter(&mut h, TOPIC, "t", &[(SET, name, Some(value))]).0, ErrorCode::INVALID_CONFIG);
    }
    let missed = alter(&mut h, TOPIC, "t", &[(SET, "retention.ms", Some("1"))]);
    assert_eq!(missed.0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn what_is_default_is_told_so_to_the_oldest_clients_too() {
    let mut h = Harness::new();
    must_create(&mut h, CreatableTopic { configs: vec![config("retention.ms", "77")], ..topic("t") });
    let answer = h.call(0, &DescribeConfigsRequest { resources: vec![resource(TOPIC, "t")], ..Default::default() });
    let response: DescribeConfigsResponse<'_> = answer.decode();
    for entry in &response.results[0].configs {
        assert_eq!(entry.is_default, entry.name != "retention.ms", "{}", entry.name);
    }
}

#[test]
fn unknown_resources_are_refused_each_by_itself() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let resources = vec![
        resource(TOPIC, "none"),
        resource(TOPIC, "a/b"),
        resource(BROKER, "2"),
        resource(BROKER, "one"),
        resource(8, "2"),
        resource(8, ""),
        resource(16, ""),
        resource(32, ""),
        resource(77, "x"),
        resource(TOPIC, "t"),
    ];
    let answer = h.call(4, &DescribeConfigsRequest { resources, ..Default::default() });
    let response: DescribeConfigsResponse<'_> = answer.decode();
    let errors: Vec<_> = response.results.iter().map(|result| result.error_code).collect();
    assert_eq!(
        errors,
        [
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            ErrorCode::INVALID_REQUEST,
            ErrorCode::INVALID_REQUEST,
            ErrorCode::INVALID_REQUEST,
            ErrorCode::INVALID_REQUEST,
            ErrorCode::INVALID_REQUEST,
            ErrorCode::INVALID_REQUEST,
            ErrorCode::INVALID_REQUEST,
            ErrorCode::NONE,
        ]
    );
}

#[test]
fn single_keys_are_set_deleted_appended_and_subtracted() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let policy = "cleanup.policy";
    assert_eq!(alter(&mut h, TOPIC, "t", &[(APPEND, policy, Some("compact"))]).0, ErrorCode::NONE);
    assert_eq!(described(&mut h, TOPIC, "t", policy), ("delete,compact".to_owned(), 1));
    assert_eq!(alter(&mut h, TOPIC, "t", &[(SUBTRACT, policy, Some("delete"))]).0, ErrorCode::NONE);
    assert_eq!(described(&mut h, TOPIC, "t", policy), ("compact".to_owned(), 1));
    let both = [(DELETE, policy, None), (SET, "retention.ms", Some(" 9 "))];
    assert_eq!(alter(&mut h, TOPIC, "t", &both).0, ErrorCode::NONE);
    h.restart();
    assert_eq!(described(&mut h, TOPIC, "t", policy), ("delete".to_owned(), 5));
    assert_eq!(described(&mut h, TOPIC, "t", "retention.ms"), ("9".to_owned(), 1));
}

#[test]
fn a_change_is_made_whole_or_not_at_all() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let cases: &[(&[Alteration<'_>], ErrorCode)] = &[
        (&[(SET, "retention.ms", Some("1")), (SET, "retention.bytes", Some("x"))], ErrorCode::INVALID_CONFIG),
        (&[(SET, "retention.ms", Some("1")), (SET, "nonsense", Some("x"))], ErrorCode::INVALID_CONFIG),
        (&[(APPEND, "retention.ms", Some("1"))], ErrorCode::INVALID_CONFIG),
        (&[(SET, "retention.ms", Some("1")), (SET, "retention.ms", Some("2"))], ErrorCode::INVALID_REQUEST),
        (&[(SET, "retention.ms", None)], ErrorCode::INVALID_REQUEST),
        (&[(9, "retention.ms", Some("1"))], ErrorCode::INVALID_REQUEST),
        (
            &[(SET, "min.compaction.lag.ms", Some("9")), (SET, "max.compaction.lag.ms", Some("8"))],
            ErrorCode::INVALID_CONFIG,
        ),
    ];
    for (changes, error) in cases {
        assert_eq!(alter(&mut h, TOPIC, "t", changes).0, *error, "{changes:?}");
    }
    let checked = alter_or_check(&mut h, TOPIC, "t", &[(SET, "retention.ms", Some("1"))], true);
    assert_eq!(checked.0, ErrorCode::NONE);
    assert_eq!(described(&mut h, TOPIC, "t", "retention.ms").1, 5);
    assert_eq!(alter(&mut h, TOPIC, "none", &[]).0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(alter(&mut h, 77, "x", &[]).0, ErrorCode::INVALID_REQUEST);
}

#[test]
fn a_list_never_grows_beyond_what_one_entry_may_hold() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let many: Vec<String> = (0..10_000).map(|partition| format!("{partition}:1")).collect();
    let many = many.join(",");
    let told = alter(&mut h, TOPIC, "t", &[(SET, "leader.replication.throttled.replicas", Some(&many))]);
    assert_eq!(told.0, ErrorCode::INVALID_CONFIG);
}

#[test]
fn settings_that_are_not_enforced_are_not_accepted() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let (name, value) = ("remote.storage.enable", "true");
    let (error, why) = alter(&mut h, TOPIC, "t", &[(SET, name, Some(value))]);
    assert_eq!(error, ErrorCode::INVALID_CONFIG);
    assert_eq!(
        why,
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
    );
    let wanted = CreatableTopic { configs: vec![config(name, value)], ..topic("u") };
    assert_eq!(created(&create(&mut h, 7, vec![wanted]))[0].1, ErrorCode::INVALID_CONFIG);
    let default = described(&mut h, TOPIC, "t", name).0;
    assert_eq!(alter(&mut h, TOPIC, "t", &[(SET, name, Some(&default))]).0, ErrorCode::NONE);
}

#[test]
fn what_is_set_is_enforced_at_once_and_after_a_restart() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    assert_eq!(produce(&mut h, "t", 0, &[1; 500]), ErrorCode::NONE);
    assert_eq!(alter(&mut h, TOPIC, "t", &[(SET, "max.message.bytes", Some("400"))]).0, ErrorCode::NONE);
    assert_eq!(produce(&mut h, "t", 0, &[1; 500]), ErrorCode::MESSAGE_TOO_LARGE);
    h.restart();
    assert_eq!(produce(&mut h, "t", 0, &[1; 500]), ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(alter(&mut h, TOPIC, "t", &[(DELETE, "max.message.bytes", None)]).0, ErrorCode::NONE);
    assert_eq!(produce(&mut h, "t", 0, &[1; 500]), ErrorCode::NONE);
}

#[test]
fn retention_that_is_set_later_is_applied() {
    let mut h = Harness::new();
    h.log.segment_bytes = 32 << 10;
    must_create(&mut h, topic("t"));
    for _ in 0..10 {
        assert_eq!(produce(&mut h, "t", 0, &[7; 8000]), ErrorCode::NONE);
    }
    h.pass_ms(3_600_000);
    assert_eq!(earliest(&mut h), 0);
    assert_eq!(alter(&mut h, TOPIC, "t", &[(SET, "retention.ms", Some("1000"))]).0, ErrorCode::NONE);
    h.pass_ms(60_000);
    h.settle();
    assert!(earliest(&mut h) > 0);
}

fn earliest(h: &mut Harness) -> i64 {
    let partitions = vec![ListOffsetsPartition { partition_index: 0, timestamp: -2, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: "t", partitions }];
    let answer = h.call(5, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() });
    let response: ListOffsetsResponse<'_> = answer.decode();
    response.topics[0].partitions[0].offset
}

#[test]
fn alter_configs_forgets_what_it_does_not_name() {
    let mut h = Harness::new();
    let configs = vec![config("retention.ms", "1"), config("retention.bytes", "2")];
    must_create(&mut h, CreatableTopic { configs, ..topic("t") });
    let replace = |configs: &[(&'static str, Option<&'static str>)]| AlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "t",
            configs: configs.iter().map(|(name, value)| AlterConfigsAlterableConfig { name, value: *value }).collect(),
        }],
        ..Default::default()
    };
    let answer = h.call(2, &replace(&[("retention.ms", None)]));
    assert_eq!(answer.decode::<AlterConfigsResponse<'_>>().responses[0].error_code, ErrorCode::INVALID_REQUEST);
    let answer = h.call(0, &replace(&[("retention.ms", Some("3"))]));
    assert_eq!(answer.decode::<AlterConfigsResponse<'_>>().responses[0].error_code, ErrorCode::NONE);
    assert_eq!(described(&mut h, TOPIC, "t", "retention.ms"), ("3".to_owned(), 1));
    assert_eq!(described(&mut h, TOPIC, "t", "retention.bytes"), ("-1".to_owned(), 5));
}

#[test]
fn one_resource_may_be_named_once() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let one = IncrementalAlterConfigsResource { resource_type: TOPIC, resource_name: "t", configs: Vec::new() };
    let answer = h.call(1, &IncrementalAlterConfigsRequest { resources: vec![one.clone(), one], ..Default::default() });
    let response: IncrementalAlterConfigsResponse<'_> = answer.decode();
    assert!(response.responses.iter().all(|told| told.error_code == ErrorCode::INVALID_REQUEST));
}

#[test]
fn broker_settings_change_live_reach_topics_and_survive_a_restart() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    let name = "message.max.bytes";
    assert_eq!(alter(&mut h, BROKER, "", &[(SET, name, Some("400"))]).0, ErrorCode::NONE);
    for round in 0..3 {
        assert_eq!(described(&mut h, BROKER, "1", name), ("400".to_owned(), 3), "{round}");
        assert_eq!(described(&mut h, BROKER, "", name), ("400".to_owned(), 3), "{round}");
        assert_eq!(described(&mut h, TOPIC, "t", "max.message.bytes"), ("400".to_owned(), 3), "{round}");
        assert_eq!(produce(&mut h, "t", 0, &[1; 500]), ErrorCode::MESSAGE_TOO_LARGE);
        // The first restart replays the log, the second starts from a checkpoint.
        h.restart();
        h.checkpoint();
    }
    assert_eq!(alter(&mut h, BROKER, "1", &[(SET, name, Some("900"))]).0, ErrorCode::NONE);
    assert_eq!(described(&mut h, TOPIC, "t", "max.message.bytes"), ("900".to_owned(), 2));
    assert_eq!(produce(&mut h, "t", 0, &[1; 500]), ErrorCode::NONE);
    assert_eq!(alter(&mut h, BROKER, "1", &[(DELETE, name, None)]).0, ErrorCode::NONE);
    assert_eq!(alter(&mut h, BROKER, "", &[(DELETE, name, None)]).0, ErrorCode::NONE);
    assert_eq!(described(&mut h, BROKER, "1", name), ("1048588".to_owned(), 5));
}

#[test]
fn broker_settings_that_cannot_change_live_are_refused() {
    let mut h = Harness::new();
    for (name, value) in [
        ("log.dirs", "/elsewhere"),
        ("num.partitions", "9"),
        ("max.connections", "9"),
        ("log.segment.bytes", "16777216"),
        ("no.such.config", "1"),
        ("message.max.bytes", "2147483647"),
        ("log.retention.ms", "soon"),
    ] {
        let (error, why) = alter(&mut h, BROKER, "1", &[(SET, name, Some(value))]);
        assert_eq!(error, ErrorCode::INVALID_REQUEST, "{name}");
        assert!(why.contains(name), "{why}");
    }
    assert_eq!(alter(&mut h, BROKER, "2", &[(SET, "log.retention.ms", Some("1"))]).0, ErrorCode::INVALID_REQUEST);
    let checked = alter_or_check(&mut h, BROKER, "1", &[(SET, "log.retention.ms", Some("1"))], true);
    assert_eq!(checked.0, ErrorCode::NONE);
    assert_eq!(described(&mut h, BROKER, "1", "log.retention.ms").1, 5);
}

/// kafka-reassign-partitions takes the rates away that it may have set before, on every broker, without looking.
#[test]
fn what_a_broker_never_had_can_be_taken_away() {
    let mut h = Harness::new();
    let rate = "leader.replication.throttled.rate";
    assert_eq!(alter(&mut h, BROKER, "1", &[(DELETE, rate, None)]).0, ErrorCode::NONE);
    let both = [(DELETE, rate, None), (SET, "message.max.bytes", Some("400"))];
    assert_eq!(alter(&mut h, BROKER, "1", &both).0, ErrorCode::NONE);
    assert_eq!(described(&mut h, BROKER, "1", "message.max.bytes").0, "400");
    let set = alter(&mut h, BROKER, "1", &[(SET, rate, Some("1000"))]);
    assert_eq!(set.0, ErrorCode::INVALID_REQUEST, "what has no effect is not accepted");
}

/// Tools read values by the type that they are told to have.
#[test]
fn broker_settings_have_the_types_that_they_have_in_kafka() {
    let mut h = Harness::new();
    let resources = vec![resource(BROKER, "1")];
    let answer = h.call(4, &DescribeConfigsRequest { resources, ..Default::default() });
    let response: DescribeConfigsResponse<'_> = answer.decode();
    let (short, int, list) = (4, 3, 7);
    for (name, wanted) in [
        ("log.dir", list),
        ("log.dirs", list),
        ("group.share.assignors", list),
        ("offsets.topic.replication.factor", short),
        ("producer.id.expiration.ms", int),
    ] {
        let found = response.results[0].configs.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(found.config_type, wanted, "{name}");
    }
}
