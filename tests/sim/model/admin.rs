//! Owns what the model expects of topics: that they exist, with which id, partitions and settings, and where logs start.

use std::collections::{BTreeMap, BTreeSet};

use chronik::wal::PartitionId;
use chronik::wire::Uuid;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, MetadataRequest, MetadataResponse,
};

use super::super::proto::{Answer, Ask};
use super::compacted::Tombstones;
use super::register::Register;
use super::{
    hold, Call, Model, Verdict, KAFKA_STORAGE_ERROR, NONE, OFFSET_OUT_OF_RANGE, TOPIC_ALREADY_EXISTS,
    UNKNOWN_TOPIC_OR_PARTITION,
};

/// Kafka's `delete.retention.ms` where nothing else is said.
const DAY_MS: i64 = 86_400_000;

/// What is known of a topic's name. One client owns the name, so that its changes come one after the other.
#[derive(Clone, Debug, Default)]
pub struct TopicState {
    pub may_exist: bool,
    pub may_be_absent: bool,
    pub id: Option<Uuid>,
    /// Created for certain and never asked to be deleted.
    pub steady: bool,
    /// It once had a retention that is short.
    expires: bool,
    /// It may have been compacted; then the least time that tombstones had, ms.
    tombstones_ms: Option<i64>,
    pub partitions_min: i32,
    pub partitions_max: i32,
    /// Whether it might have existed when the last creation was handed in.
    existed_before: bool,
    /// Whether it might have been absent, and was to stay, when the last deletion was handed in.
    absent_before: bool,
    steady_before: bool,
    /// Order of the last request that changes it.
    changed: u64,
    configs: BTreeMap<String, Register<Option<String>>>,
}

impl TopicState {
    /// Somebody wants a setting of the topic to have this value.
    fn configured(&mut self, name: &str, value: Option<&str>) {
        let ms = value.and_then(|value| value.parse().ok()).unwrap_or(DAY_MS);
        match name {
            "retention.ms" => self.expires = true,
            "cleanup.policy" => self.tombstones_ms = Some(self.tombstones_ms.unwrap_or(DAY_MS)),
            "delete.retention.ms" => self.tombstones_ms = self.tombstones_ms.map(|before| before.min(ms)).or(Some(ms)),
            _ => {}
        }
    }
}

impl Model {
    /// When tombstones of a topic may be gone, if it may have been compacted.
    pub(super) fn compacted(&self, topic: &str) -> Option<Tombstones> {
        let retention_ms = self.topics.get(topic)?.tombstones_ms?;
        Some(Tombstones { wall_ms: (!self.clock_jumps).then_some(self.wall_ms), retention_ms })
    }

    /// Whether an answer may say that there is no such partition.
    pub(super) fn may_be_unknown(&self, call: &Call, topic: &str, partition: i32) -> bool {
        let settled = |t: &TopicState| t.steady && !t.may_be_absent && call.order > t.changed;
        self.topics.get(topic).is_none_or(|t| !settled(t) || partition >= t.partitions_min)
    }

    /// Whether retention moves the log start of a topic by itself.
    pub(super) fn expires(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|topic| topic.expires)
    }

    /// The id that a name stands for, if nobody has been changing that since the request.
    pub(super) fn settled_id(&self, topic: &str, call: &Call) -> Option<Uuid> {
        let topic = self.topics.get(topic).filter(|t| !t.may_be_absent && t.may_exist)?;
        topic.id.filter(|_| call.order > topic.changed)
    }

    pub(super) fn admin_handed_in(&mut self, call: &Call) {
        match &call.ask {
            Ask::CreateTopics(request) => {
                for topic in &request.topics {
                    let known = self
                        .topics
                        .entry(topic.name.to_string())
                        .or_insert_with(|| TopicState { may_be_absent: true, ..TopicState::default() });
                    known.existed_before = known.may_exist;
                    known.may_exist = true;
                    known.changed = call.order;
                    for config in &topic.configs {
                        known.configured(&config.name, config.value.as_deref());
                    }
                    if !known.existed_before {
                        (known.partitions_min, known.partitions_max) = (topic.num_partitions, topic.num_partitions);
                        known.configs = initial_configs(topic);
                    }
                }
            }
            Ask::DeleteTopics(request) => {
                for name in &request.topic_names {
                    let Some(topic) = self.topics.get_mut(name.as_str()) else { continue };
                    (topic.absent_before, topic.steady_before) = (topic.may_be_absent, topic.steady);
                    (topic.may_be_absent, topic.steady, topic.changed) = (true, false, call.order);
                }
            }
            Ask::CreatePartitions(request) => {
                for asked in &request.topics {
                    if let Some(topic) = self.topics.get_mut(asked.name.as_str()) {
                        topic.partitions_max = topic.partitions_max.max(asked.count);
                        topic.changed = call.order;
                    }
                }
            }
            Ask::IncrementalAlterConfigs(request) => {
                for resource in &request.resources {
                    let Some(topic) = self.topics.get_mut(resource.resource_name.as_str()) else { continue };
                    for config in &resource.configs {
                        topic.configured(&config.name, config.value.as_deref());
                        let value = config.value.as_ref().map(|v| v.to_string());
                        let register = topic.configs.entry(config.name.to_string());
                        register.or_insert_with(|| Register::new(None)).set(call, value);
                    }
                }
            }
            Ask::DeleteRecords(request) => self.delete_records_handed_in(request),
            Ask::SyncGroup(request) => self.groups.sync_handed_in(request),
            _ => {}
        }
    }

    fn delete_records_handed_in(&mut self, request: &DeleteRecordsRequest) {
        for topic in &request.topics {
            for part in &topic.partitions {
                let names = &self.names;
                let of_name = |id: &PartitionId| {
                    id.partition == part.partition_index
                        && names.get(&id.topic).is_none_or(|n| n == topic.name.as_str())
                };
                for (_, log) in self.logs.iter_mut().filter(|(id, _)| of_name(id)) {
                    let offset = if part.offset < 0 { log.end() } else { part.offset.min(log.end()) };
                    log.deleted_max = log.deleted_max.max(offset);
                }
            }
        }
    }

    pub(super) fn check_admin(&mut self, call: &Call, answer: &Answer) -> Verdict {
        match (&call.ask, answer) {
            (Ask::CreateTopics(request), Answer::CreateTopics(response)) => self.check_create(request, response),
            (Ask::DeleteTopics(request), Answer::DeleteTopics(response)) => {
                for (name, told) in request.topic_names.iter().zip(&response.responses) {
                    let topic = self.topics.get_mut(name.as_str()).ok_or("an unknown topic was deleted")?;
                    if told.error_code == KAFKA_STORAGE_ERROR && self.excuses.disk_full {
                        (topic.may_be_absent, topic.steady) = (topic.absent_before, topic.steady_before);
                        continue;
                    }
                    let gone = told.error_code == UNKNOWN_TOPIC_OR_PARTITION && topic.may_be_absent;
                    hold!(told.error_code == NONE || gone, "{}: delete: {}", name.as_str(), told.error_code);
                    self.dead.extend(topic.id.map(|id| (id, self.orders)));
                    (topic.may_exist, topic.id) = (false, None);
                }
                Ok(())
            }
            (Ask::CreatePartitions(request), Answer::CreatePartitions(response)) => {
                for (asked, told) in request.topics.iter().zip(&response.results) {
                    let full = told.error_code == KAFKA_STORAGE_ERROR && self.excuses.disk_full;
                    hold!(told.error_code == NONE || full, "{}: {}", asked.name.as_str(), told.error_code);
                    let topic = self.topics.get_mut(asked.name.as_str()).filter(|_| told.error_code == NONE);
                    if let Some(topic) = topic {
                        topic.partitions_min = topic.partitions_min.max(asked.count);
                    }
                }
                Ok(())
            }
            (Ask::DeleteRecords(request), Answer::DeleteRecords(response)) => {
                self.check_delete_records(call, request, response)
            }
            (Ask::Metadata(request), Answer::Metadata(response)) => self.check_metadata(call, request, response),
            (Ask::DescribeConfigs(request), Answer::DescribeConfigs(response)) => {
                self.check_configs(call, request, response)
            }
            (Ask::IncrementalAlterConfigs(request), Answer::IncrementalAlterConfigs(response)) => {
                for (resource, told) in request.resources.iter().zip(&response.responses) {
                    let full = told.error_code == KAFKA_STORAGE_ERROR && self.excuses.disk_full;
                    hold!(told.error_code == NONE || full, "alter configs refused with {}", told.error_code);
                    let topic = self.topics.get_mut(resource.resource_name.as_str()).ok_or("an unknown topic")?;
                    for register in topic.configs.values_mut() {
                        if full {
                            register.refused(call);
                        } else {
                            register.acked(call, self.orders);
                        }
                    }
                }
                Ok(())
            }
            (Ask::ApiVersions(_), Answer::ApiVersions(response)) => {
                hold!(response.error_code == NONE, "ApiVersions refused with {}", response.error_code);
                Ok(())
            }
            (ask, answer) => Err(format!("{answer:?} answers {ask:?}")),
        }
    }

    fn check_create(&mut self, request: &CreateTopicsRequest, response: &CreateTopicsResponse) -> Verdict {
        for told in &response.topics {
            let name = told.name.to_string();
            let steady = request.topics.iter().any(|t| t.name == told.name) && !name.starts_with("passing");
            let topic = self.topics.get_mut(&name).ok_or("a topic was created that nobody asked for")?;
            match told.error_code {
                NONE => {
                    (topic.may_exist, topic.may_be_absent, topic.steady) = (true, false, steady);
                    let id = Uuid(*told.topic_id.as_bytes());
                    if id != Uuid::default() {
                        self.learn(&name, id)?;
                    }
                }
                TOPIC_ALREADY_EXISTS if topic.existed_before => {}
                KAFKA_STORAGE_ERROR if self.excuses.disk_full => topic.may_exist = topic.existed_before,
                code => return Err(format!("creating {name}: error {code}")),
            }
        }
        Ok(())
    }

    fn check_metadata(&mut self, call: &Call, request: &MetadataRequest, response: &MetadataResponse) -> Verdict {
        let asked: Option<BTreeSet<String>> = request
            .topics
            .as_ref()
            .map(|topics| topics.iter().filter_map(|t| t.name.as_ref()).map(|name| name.to_string()).collect());
        let mut present = BTreeSet::new();
        for told in response.topics.iter().filter(|t| t.error_code == NONE) {
            let name = told.name.as_ref().ok_or("a topic without a name")?.to_string();
            let topic = self.topics.get(&name).ok_or_else(|| format!("nobody created {name}"))?;
            let (settled, count) = (call.order > topic.changed, told.partitions.len() as i32);
            hold!(topic.may_exist || !settled, "{name} was deleted and is back");
            let enough = count >= topic.partitions_min || !settled;
            hold!(enough && count <= topic.partitions_max, "{name} has {count} partitions: {topic:?}");
            let numbers: BTreeSet<i32> = told.partitions.iter().map(|p| p.partition_index).collect();
            hold!(numbers == (0..count).collect(), "{name} has partitions {numbers:?}");
            let led = told.partitions.iter().all(|p| p.error_code == NONE && p.leader_id.0 >= 0);
            hold!(led, "{name} has a partition without a leader");
            if settled && call.version >= 10 {
                self.learn(&name, Uuid(*told.topic_id.as_bytes()))?;
            }
            present.insert(name);
        }
        for (name, topic) in &self.topics {
            let wanted = asked.as_ref().is_none_or(|asked| asked.contains(name));
            let must = wanted && !topic.may_be_absent && call.order > topic.changed;
            hold!(!must || present.contains(name), "{name} is lost");
        }
        Ok(())
    }

    /// A client that owns the name found out whether the topic exists.
    pub fn resolve(&mut self, name: &str, exists: bool) {
        if let Some(topic) = self.topics.get_mut(name) {
            (topic.may_exist, topic.may_be_absent) = (exists, !exists);
            if !exists {
                topic.id = None;
            }
        }
    }

    /// The topic is there, and its administrator will not delete it.
    pub fn is_certain(&mut self, name: &str) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.steady = true;
        }
    }

    /// A name and an id belong together.
    fn learn(&mut self, name: &str, id: Uuid) -> Verdict {
        let known = self.names.insert(id, name.to_string());
        hold!(known.as_ref().is_none_or(|known| known == name), "{id:?} is {name} and was {known:?}");
        let Some(topic) = self.topics.get_mut(name) else { return Ok(()) };
        let same = topic.id.is_none_or(|before| before == id) || topic.may_be_absent;
        hold!(same, "{name} has another id than before");
        topic.id = Some(id);
        let range = PartitionId { topic: id, partition: 0 }..=PartitionId { topic: id, partition: i32::MAX };
        for (_, log) in self.logs.range(range) {
            for placed in log.up_to(u64::MAX).iter().filter(|placed| placed.batch.marker.is_none()) {
                let meant = self.sent.get(&placed.batch.tag).map(|sent| sent.topic.as_str());
                hold!(meant == Some(name), "batch {} stands in {name}, meant for {meant:?}", placed.batch.tag);
            }
        }
        Ok(())
    }

    fn check_delete_records(
        &mut self,
        call: &Call,
        request: &DeleteRecordsRequest,
        response: &DeleteRecordsResponse,
    ) -> Verdict {
        let (durable, orders) = (self.durable, self.orders);
        for topic in &request.topics {
            let told = response.topics.iter().find(|t| t.name == topic.name).ok_or("a topic without an answer")?;
            let Some(id) = self.topics.get(topic.name.as_str()).and_then(|t| t.id) else { continue };
            for asked in &topic.partitions {
                let index = asked.partition_index;
                let part = told.partitions.iter().find(|p| p.partition_index == index).ok_or("no answer")?;
                let unknown =
                    part.error_code == UNKNOWN_TOPIC_OR_PARTITION && self.may_be_unknown(call, &topic.name, index);
                let expires = self.expires(topic.name.as_str());
                let log = self.logs.entry(PartitionId { topic: id, partition: index }).or_default();
                let start_max = log.start_max(expires);
                let at = format!("delete records of {}/{index} to {}", topic.name.as_str(), asked.offset);
                let end = log.end_at(call.durable);
                let beyond = part.error_code == OFFSET_OUT_OF_RANGE && (asked.offset > end || asked.offset < start_max);
                let full = part.error_code == KAFKA_STORAGE_ERROR && self.excuses.disk_full;
                hold!(part.error_code == NONE || unknown || beyond || full, "{at}: error {}", part.error_code);
                if part.error_code == NONE {
                    let (low, high) = (part.low_watermark, log.end_at(durable));
                    hold!(low >= asked.offset && low <= high, "{at}: low watermark {low}, end {high}");
                    log.start_acked.push((orders, low));
                }
            }
        }
        Ok(())
    }

    fn check_configs(
        &mut self,
        call: &Call,
        request: &DescribeConfigsRequest,
        response: &DescribeConfigsResponse,
    ) -> Verdict {
        for asked in &request.resources {
            let name = asked.resource_name.as_str();
            let told = response.results.iter().find(|r| *r.resource_name == *name).ok_or("no answer")?;
            let unknown = told.error_code == UNKNOWN_TOPIC_OR_PARTITION && self.may_be_unknown(call, name, 0);
            hold!(told.error_code == NONE || unknown, "configs of {name}: error {}", told.error_code);
            let Some(topic) = self.topics.get_mut(name).filter(|_| told.error_code == NONE) else { continue };
            for (key, register) in &mut topic.configs {
                let config = told.configs.iter().find(|c| *c.name == **key);
                // Source 1 is what was set for the topic itself.
                let set = config.filter(|c| c.config_source == 1).and_then(|c| c.value.as_ref());
                let value = set.map(|v| v.to_string());
                register.seen(call, self.orders, &value).map_err(|e| format!("{name}: {key} is {e}"))?;
            }
        }
        Ok(())
    }
}

fn initial_configs(
    topic: &kafka_protocol::messages::create_topics_request::CreatableTopic,
) -> BTreeMap<String, Register<Option<String>>> {
    let configs = topic.configs.iter();
    configs.map(|c| (c.name.to_string(), Register::new(c.value.as_ref().map(|v| v.to_string())))).collect()
}
