//! Owns the administrator of compacted topics: creates them, and changes how they are compacted while that is going on.

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{CreateTopicsRequest, IncrementalAlterConfigsRequest, MetadataRequest};

use super::super::model::NONE;
use super::super::proto::{text, topic_name, Answer, Ask};
use super::super::rng::Rng;
use super::{Actor, Turn};

/// What is changed, and to which values.
const SETTINGS: [(&str, &[&str]); 6] = [
    ("cleanup.policy", &["compact", "compact", "compact,delete", "delete"]),
    ("delete.retention.ms", &["0", "50", "2000"]),
    ("min.cleanable.dirty.ratio", &["0", "0.1", "0.5"]),
    ("segment.ms", &["5", "50", "500"]),
    ("min.compaction.lag.ms", &["0", "0", "100"]),
    ("max.compaction.lag.ms", &["100", "9223372036854775807"]),
];

/// Turns in which topics that are compacted late are left as they are.
const LATE_TURNS: u32 = 20;

/// The administrator of some compacted topics.
#[derive(Debug)]
pub struct Compactor {
    names: Vec<String>,
    /// So many turns more nothing is compacted yet, so that an object store has some of the records alone.
    waits: u32,
    /// What is in flight, and the name that it creates.
    asked: Option<(i32, Option<String>)>,
    /// A name whose creation got no answer.
    unclear: Option<String>,
}

fn draw(rng: &mut Rng, values: &[&'static str]) -> &'static str {
    rng.pick(values).copied().unwrap_or_default()
}

impl Compactor {
    /// If it is `late`, topics are compacted only after a while.
    pub fn new(names: Vec<String>, late: bool) -> Compactor {
        Compactor { names, waits: if late { LATE_TURNS } else { 0 }, asked: None, unclear: None }
    }

    fn create(&mut self, turn: &mut Turn<'_>, name: String) {
        let partitions = turn.rng.range(1, 2) as i32;
        let mut topic = CreatableTopic::default()
            .with_name(topic_name(&name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let mut configs: Vec<(&str, &str)> =
            SETTINGS.iter().map(|(name, values)| (*name, draw(turn.rng, values))).collect();
        if self.waits > 0 {
            configs[0].1 = "delete";
        }
        if turn.rng.chance(30) {
            configs.push(("retention.ms", "2000"));
        }
        if turn.rng.chance(20) {
            configs.push(("message.timestamp.type", "LogAppendTime"));
        }
        for (name, value) in configs {
            topic.configs.push(CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
        }
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        self.asked = Some((turn.send(7, Ask::CreateTopics(request)), Some(name)));
    }

    fn configure(&mut self, turn: &mut Turn<'_>) {
        let Some(name) = turn.rng.pick(&self.names).cloned() else { return };
        let Some((setting, values)) = turn.rng.pick(&SETTINGS).copied() else { return };
        let (setting, value) = match std::mem::take(&mut self.waits) {
            0 => (setting, draw(turn.rng, values)),
            _ => ("cleanup.policy", "compact"),
        };
        let config = AlterableConfig::default().with_name(text(setting)).with_value(Some(text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(&name))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        self.asked = Some((turn.send(1, Ask::IncrementalAlterConfigs(request)), None));
    }

    fn look(&mut self, turn: &mut Turn<'_>, name: &str) {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
        self.asked = Some((turn.send(12, Ask::Metadata(request)), None));
    }
}

impl Actor for Compactor {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(5000, 200_000);
        if self.asked.is_some() || turn.closing {
            return;
        }
        if let Some(name) = self.unclear.clone() {
            return self.look(turn, &name);
        }
        let known = |name: &str| turn.model.topics.get(name).is_some_and(|topic| topic.may_exist && topic.steady);
        match self.names.iter().find(|name| !known(name)).cloned() {
            Some(name) => self.create(turn, name),
            None if self.waits > 1 => self.waits -= 1,
            None => self.configure(turn),
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
            if exists {
                turn.model.is_certain(name);
            }
            self.unclear = None;
        }
        turn.again(100, 50_000);
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
