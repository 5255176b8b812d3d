//! Owns the administrator: topics come, change and go. Each name has one administrator, who knows what it has become of.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
};

use super::super::model::NONE;
use super::super::proto::{text, topic_name, Answer, Ask};
use super::{Actor, Turn};

/// A setting that the simulation changes back and forth without an effect on what it does.
const HARMLESS: &str = "max.message.bytes";

/// The administrator of some names.
#[derive(Debug)]
pub struct Admin {
    steady: Vec<String>,
    passing: Vec<String>,
    /// What is in flight, and the name that it creates or deletes.
    asked: Option<(i32, Option<String>)>,
    /// A name whose creation or deletion got no answer.
    unclear: Option<String>,
    delete_records: bool,
}

impl Admin {
    pub fn new(steady: Vec<String>, passing: Vec<String>, delete_records: bool) -> Admin {
        Admin { steady, passing, asked: None, unclear: None, delete_records }
    }

    fn exists(turn: &Turn<'_>, name: &str) -> bool {
        turn.model.topics.get(name).is_some_and(|topic| topic.may_exist && !topic.may_be_absent)
    }

    fn ask(&mut self, turn: &mut Turn<'_>, version: i16, ask: Ask, changes: Option<String>) {
        self.asked = Some((turn.send(version, ask), changes));
    }

    fn create(&mut self, turn: &mut Turn<'_>, name: String) {
        let partitions = turn.rng.range(1, 3) as i32;
        let mut topic = CreatableTopic::default()
            .with_name(topic_name(&name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        for (name, value, percent) in
            [(HARMLESS, "500000", 30), ("message.timestamp.type", "LogAppendTime", 25), ("retention.ms", "300", 20)]
        {
            if turn.rng.chance(percent) {
                let config = CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)));
                topic.configs.push(config);
            }
        }
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let version = turn.rng.range(2, 7) as i16;
        self.ask(turn, version, Ask::CreateTopics(request), Some(name));
    }

    fn delete(&mut self, turn: &mut Turn<'_>, name: String) {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(&name)]).with_timeout_ms(30_000);
        let version = turn.rng.range(1, 5) as i16;
        self.ask(turn, version, Ask::DeleteTopics(request), Some(name));
    }

    fn look(&mut self, turn: &mut Turn<'_>, name: Option<&str>) {
        let wanted = |name: &str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(name.map(|name| vec![wanted(name)]))
            .with_allow_auto_topic_creation(false);
        let version = turn.rng.range(10, 12) as i16;
        self.ask(turn, version, Ask::Metadata(request), None);
    }

    fn grow(&mut self, turn: &mut Turn<'_>, name: &str) {
        let now = turn.model.topics.get(name).map_or(1, |topic| topic.partitions_max);
        if now < 5 {
            let topic =
                CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(now + 1).with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
            let version = turn.rng.range(0, 3) as i16;
            self.ask(turn, version, Ask::CreatePartitions(request), None);
        }
    }

    fn delete_records(&mut self, turn: &mut Turn<'_>, name: &str) {
        let Some(topic) = turn.model.topics.get(name) else { return };
        let (id, partitions) = (topic.id, topic.partitions_min);
        let partition = turn.rng.below(partitions.max(1) as u64) as i32;
        let key = id.map(|topic| chronik::wal::PartitionId { topic, partition });
        let log = key.and_then(|key| turn.model.logs.get(&key));
        let end = log.map_or(0, |log| log.end_at(turn.model.durable()));
        let offset = if turn.rng.chance(10) { -1 } else { turn.rng.below(end as u64 + 1) as i64 };
        let part = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let asked = DeleteRecordsTopic::default().with_name(topic_name(name)).with_partitions(vec![part]);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        let version = turn.rng.range(0, 2) as i16;
        self.ask(turn, version, Ask::DeleteRecords(request), None);
    }

    fn configure(&mut self, turn: &mut Turn<'_>, name: &str) {
        let value = turn.rng.range(450_000, 520_000).to_string();
        let remove = turn.rng.chance(20);
        let config = AlterableConfig::default()
            .with_name(text(HARMLESS))
            .with_config_operation(i8::from(remove))
            .with_value((!remove).then(|| text(&value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(name))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let version = turn.rng.range(0, 1) as i16;
        self.ask(turn, version, Ask::IncrementalAlterConfigs(request), None);
    }

    fn describe(&mut self, turn: &mut Turn<'_>, name: &str) {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let version = turn.rng.range(1, 4) as i16;
        self.ask(turn, version, Ask::DescribeConfigs(request), None);
    }
}

impl Actor for Admin {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(2000, 60_000);
        if self.asked.is_some() || turn.closing {
            return;
        }
        if let Some(name) = self.unclear.clone() {
            return self.look(turn, Some(&name));
        }
        let missing = self.steady.iter().find(|name| !Admin::exists(turn, name)).cloned();
        if let Some(name) = missing {
            return self.create(turn, name);
        }
        let steady = turn.rng.pick(&self.steady).cloned().unwrap_or_default();
        let passing = turn.rng.pick(&self.passing).cloned();
        match turn.rng.below(12) {
            0..=3 => match passing {
                Some(name) if Admin::exists(turn, &name) => self.delete(turn, name),
                Some(name) => self.create(turn, name),
                None => self.look(turn, None),
            },
            4 => self.grow(turn, &steady),
            5 | 6 if self.delete_records => self.delete_records(turn, &steady),
            7 => self.configure(turn, &steady),
            8 => self.describe(turn, &steady),
            9 => {
                let request = ApiVersionsRequest::default()
                    .with_client_software_name(text("sim"))
                    .with_client_software_version(text("1.0"));
                let version = turn.rng.range(0, 3) as i16;
                self.ask(turn, version, Ask::ApiVersions(request), None);
            }
            _ => self.look(turn, None),
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if self.asked.take_if(|(asked, _)| *asked == correlation).is_none() {
            return Err(format!("answer {correlation} to nothing"));
        }
        if let (Some(name), Answer::Metadata(response)) = (&self.unclear, answer) {
            let told = response.topics.iter().filter(|topic| topic.error_code == NONE);
            let exists = told.filter_map(|topic| topic.name.as_ref()).any(|told| *told.0 == **name);
            turn.model.resolve(name, exists);
            if exists && self.steady.contains(name) {
                turn.model.is_certain(name);
            }
            self.unclear = None;
        }
        turn.again(100, 10_000);
        Ok(())
    }

    fn disconnected(&mut self) {
        if let Some((_, Some(name))) = self.asked.take() {
            self.unclear = Some(name);
        }
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none()
    }
}
