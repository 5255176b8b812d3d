//! Owns the tests of the administrative APIs: what a client sees, and what is still there after a restart.

mod configs;
mod describe;
mod features;
mod resources;
mod security;
mod topics;

use chronik::wire::batch::BatchBuilder;
use chronik::wire::msg::*;
use chronik::wire::{Api, ApiKey, ErrorCode, Message, RecordSet, Uuid};

use crate::harness::{Answer, Harness};

/// Every version of an API that is served.
fn versions(api: &Api) -> std::ops::RangeInclusive<i16> {
    api.min..=api.stable
}

fn topic(name: &str) -> CreatableTopic<'_> {
    CreatableTopic { name, num_partitions: -1, replication_factor: -1, ..Default::default() }
}

fn create(h: &mut Harness, version: i16, topics: Vec<CreatableTopic<'_>>) -> Answer {
    h.call(version, &CreateTopicsRequest { topics, ..Default::default() })
}

/// Creates a topic that has to be created; its id.
fn must_create(h: &mut Harness, wanted: CreatableTopic<'_>) -> Uuid {
    let answer = create(h, 7, vec![wanted]);
    let created = answer.decode::<CreateTopicsResponse<'_>>().topics.remove(0);
    assert_eq!(created.error_code, ErrorCode::NONE, "{:?}", created.error_message);
    created.topic_id
}

fn config<'a>(name: &'a str, value: &'a str) -> CreatableTopicConfig<'a> {
    CreatableTopicConfig { name, value: Some(value) }
}

/// Error and message of every topic of a CreateTopics answer.
fn created(answer: &Answer) -> Vec<(String, ErrorCode, String)> {
    let response: CreateTopicsResponse<'_> = answer.decode();
    let each = response.topics.iter();
    each.map(|t| (t.name.to_owned(), t.error_code, t.error_message.unwrap_or("").to_owned())).collect()
}

/// Names of all topics with their numbers of partitions.
fn listed(h: &mut Harness) -> Vec<(String, usize)> {
    let answer = h.call(12, &MetadataRequest { topics: None, ..Default::default() });
    let response: MetadataResponse<'_> = answer.decode();
    response.topics.iter().map(|t| (t.name.unwrap_or("").to_owned(), t.partitions.len())).collect()
}

fn produce(h: &mut Harness, name: &str, partition: i32, value: &[u8]) -> ErrorCode {
    let mut batch = BatchBuilder::new();
    batch.push(h.now.wall_ms, Some(b"key"), Some(value), &[]);
    let bytes = batch.build().unwrap();
    let data = PartitionProduceData { index: partition, records: RecordSet::Bytes(&bytes) };
    let topic_data = vec![TopicProduceData { name, partition_data: vec![data], ..Default::default() }];
    let answer = h.call(9, &ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() });
    let response: ProduceResponse<'_> = answer.decode();
    response.responses[0].partition_responses[0].error_code
}

/// The value of a configuration and where it comes from.
fn described(h: &mut Harness, resource_type: i8, resource_name: &str, key: &str) -> (String, i8) {
    let resource = DescribeConfigsResource { resource_type, resource_name, configuration_keys: Some(vec![key]) };
    let answer = h.call(4, &DescribeConfigsRequest { resources: vec![resource], ..Default::default() });
    let response: DescribeConfigsResponse<'_> = answer.decode();
    assert_eq!(response.results[0].error_code, ErrorCode::NONE, "{:?}", response.results[0].error_message);
    let entry = &response.results[0].configs[0];
    (entry.value.unwrap_or("").to_owned(), entry.config_source)
}

#[test]
fn every_version_that_is_served_is_answered() {
    let mut h = Harness::new();
    must_create(&mut h, topic("t"));
    fn each<'a, M: chronik::wire::Request<'a>>(h: &mut Harness, message: &M) {
        for version in versions(M::API) {
            let answer = h.call(version, message);
            // Decoding checks that the body is the one of this version and nothing is left over.
            answer.decode::<M::Response<'_>>();
        }
        assert!(h.closed.is_empty(), "{:?}", h.closed);
    }
    each(&mut h, &CreateTopicsRequest { topics: vec![topic("u")], ..Default::default() });
    each(&mut h, &DescribeConfigsRequest { resources: vec![resource(2, "t"), resource(4, "1")], ..Default::default() });
    each(&mut h, &AlterConfigsRequest { resources: vec![Default::default()], ..Default::default() });
    each(&mut h, &IncrementalAlterConfigsRequest { resources: vec![Default::default()], ..Default::default() });
    each(&mut h, &DescribeLogDirsRequest::default());
    each(&mut h, &CreatePartitionsRequest { topics: vec![Default::default()], ..Default::default() });
    each(&mut h, &ElectLeadersRequest::default());
    each(&mut h, &AlterPartitionReassignmentsRequest { topics: vec![Default::default()], ..Default::default() });
    each(&mut h, &ListPartitionReassignmentsRequest::default());
    each(&mut h, &UpdateFeaturesRequest::default());
    each(&mut h, &AlterReplicaLogDirsRequest::default());
    each(&mut h, &DescribeQuorumRequest::default());
    each(&mut h, &UnregisterBrokerRequest::default());
    each(&mut h, &AddRaftVoterRequest::default());
    each(&mut h, &RemoveRaftVoterRequest::default());
    each(&mut h, &DescribeUserScramCredentialsRequest::default());
    each(&mut h, &AlterUserScramCredentialsRequest::default());
    each(&mut h, &CreateDelegationTokenRequest::default());
    each(&mut h, &RenewDelegationTokenRequest::default());
    each(&mut h, &ExpireDelegationTokenRequest::default());
    each(&mut h, &DescribeDelegationTokenRequest::default());
    each(&mut h, &SaslHandshakeRequest::default());
    each(&mut h, &SaslAuthenticateRequest::default());
    each(&mut h, &GetTelemetrySubscriptionsRequest::default());
    each(&mut h, &PushTelemetryRequest::default());
    each(&mut h, &DescribeClusterRequest::default());
    each(&mut h, &ListConfigResourcesRequest::default());
    each(&mut h, &DescribeTopicPartitionsRequest { response_partition_limit: 1, ..Default::default() });
    each(&mut h, &DeleteTopicsRequest { topic_names: vec!["u"], ..Default::default() });
}

fn resource(resource_type: i8, resource_name: &str) -> DescribeConfigsResource<'_> {
    DescribeConfigsResource { resource_type, resource_name, configuration_keys: None }
}

/// An answer to a client must not tell of a change that a crash could take back.
#[test]
fn nothing_is_answered_before_it_is_durable() {
    let mut h = Harness::new();
    let (admin, other) = (h.connect(), h.connect());
    h.send(admin, 7, &CreateTopicsRequest { topics: vec![topic("t")], ..Default::default() });
    h.send(other, 0, &DescribeClusterRequest { endpoint_type: 1, ..Default::default() });
    assert!(h.take_answers().is_empty());
    h.settle();
    assert_eq!(h.take_answers().len(), 2);
}

/// What stands between two markers of docs/compatibility.md is made from the tables; `UPDATE=1` writes it anew.
#[test]
fn the_document_tells_every_api_and_every_configuration() {
    use chronik::broker::apis;
    use chronik::broker::configs::topic_table::{Support, TOPIC_CONFIGS};
    let mut table = String::from("| Key | API | Versions | |\n|---:|---|---|---|\n");
    for api in chronik::wire::api::TABLE {
        let (key, name) = (api.key.0, api.name);
        let remark = apis::REMARKS.iter().find(|(key, _)| *key == api.key).map(|(_, remark)| *remark);
        let (versions, remark) = match apis::is_served(api.key, api.stable) {
            true => (format!("{} to {}", api.min, api.stable), remark.unwrap_or("")),
            false => ("none".to_owned(), remark.unwrap_or(apis::NOT_SERVED)),
        };
        table.push_str(&format!("| {key} | {name} | {versions} | {remark} |\n"));
    }
    let mut configs = String::from("| Configuration | Here | |\n|---|---|---|\n");
    for row in TOPIC_CONFIGS {
        let support = match row.support {
            Support::Enforced => "acted on",
            Support::NoEffect => "kept, no effect",
            Support::NeedsStore => "with object storage, else default only",
            Support::NeedsFsyncAlways => "kept, or default only",
        };
        configs.push_str(&format!("| `{}` | {support} | {} |\n", row.name, row.documentation));
    }
    let mut brokers = String::from("| Configuration | Changed | |\n|---|---|---|\n");
    for row in chronik::broker::configs::broker_table::BROKER_CONFIGS {
        let changed = if row.is_dynamic() { "live" } else { "at start" };
        brokers.push_str(&format!("| `{}` | {changed} | {} |\n", row.name, row.documentation()));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");
    let before = std::fs::read_to_string(path).unwrap();
    let mut text = before.clone();
    for (marker, made) in [("apis", table), ("topic configs", configs), ("broker configs", brokers)] {
        let (begin, end) = (format!("<!-- {marker} -->\n"), format!("<!-- /{marker} -->"));
        let (from, to) = (text.find(&begin).unwrap() + begin.len(), text.find(&end).unwrap());
        text.replace_range(from..to, &made);
    }
    if text != before {
        assert!(std::env::var_os("UPDATE").is_some(), "docs/compatibility.md is out of date; UPDATE=1 writes it anew");
        std::fs::write(path, text).unwrap();
    }
}
