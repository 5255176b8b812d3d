//! Owns the topics and their partitions, and how they are written to ChronikMetaLog.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;

use super::configs::TopicSettings;
use super::log::PartitionLog;
use super::logical::{self, Roll};
use super::metalog;
use super::producers::census::{Census, Duty};
use crate::wal::{MetaEntry, PartitionId};
use crate::wire::macros::message;
use crate::wire::Uuid;

/// A map whose order is the same in every run, so that the simulation replays exactly. For keys that clients don't choose.
pub type StableMap<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// A topic.
#[derive(Debug)]
pub struct Topic {
    pub id: Uuid,
    pub name: Arc<str>,
    /// Settings given for this topic, by Kafka's names; everything else is the broker's default.
    pub configs: BTreeMap<String, String>,
    /// What `configs` and the defaults come to.
    pub settings: TopicSettings,
    pub partitions: Vec<Partition>,
}

/// A partition with those who wait for it.
#[derive(Debug)]
pub struct Partition {
    pub log: PartitionLog,
    /// The group of the last append; what repeats it is answered after it.
    pub last_seq: crate::wal::GroupSeq,
    /// Parked fetches that look at this partition.
    pub fetches: Vec<u64>,
    /// Fetch sessions that watch this partition, and which of theirs it is.
    pub sessions: Vec<(i32, u32)>,
}

/// All topics, by name and by id.
#[derive(Debug, Default)]
pub struct Topics {
    by_id: StableMap<Uuid, Topic>,
    by_name: BTreeMap<Arc<str>, Uuid>,
    /// Topics that have '.' or '_' in their names, by the name with '_' for both (see `colliding`).
    by_metric_name: BTreeMap<String, BTreeSet<Arc<str>>>,
    partitions: usize,
    changes: u64,
    producers: Census,
}

impl Topics {
    pub fn by_name(&self, name: &str) -> Option<&Topic> {
        self.by_id.get(self.by_name.get(name)?)
    }

    pub fn by_id(&self, id: Uuid) -> Option<&Topic> {
        self.by_id.get(&id)
    }

    pub fn by_id_mut(&mut self, id: Uuid) -> Option<&mut Topic> {
        self.by_id.get_mut(&id)
    }

    pub fn id_of(&self, name: &str) -> Option<Uuid> {
        self.by_name.get(name).copied()
    }

    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.by_id.get(&id.topic)?.partitions.get(usize::try_from(id.partition).ok()?)
    }

    pub fn partition_mut(&mut self, id: PartitionId) -> Option<&mut Partition> {
        self.by_id.get_mut(&id.topic)?.partitions.get_mut(usize::try_from(id.partition).ok()?)
    }

    /// A partition and the settings of its topic.
    pub fn partition_and_settings_mut(&mut self, id: PartitionId) -> Option<(&mut Partition, &TopicSettings)> {
        let topic = self.by_id.get_mut(&id.topic)?;
        Some((topic.partitions.get_mut(usize::try_from(id.partition).ok()?)?, &topic.settings))
    }

    /// A partition that something is appended to, and when it begins another logical segment.
    pub fn appending(&mut self, id: PartitionId) -> Option<(&mut Partition, Roll)> {
        let segments_max = logical::segments_max(self.partitions);
        let topic = self.by_id.get_mut(&id.topic)?;
        let settings = &topic.settings;
        let roll = Roll {
            bytes: settings.segment_bytes,
            ms: settings.segment_ms,
            jitter_ms: settings.segment_jitter_ms,
            segments_max,
        };
        Some((topic.partitions.get_mut(usize::try_from(id.partition).ok()?)?, roll))
    }

    /// A partition has come to know another producer. When all remember too many, those with most of them forget some.
    pub fn producer_added(&mut self) {
        match self.producers.added() {
            Duty::Nothing => {}
            Duty::Count => {
                let logs = self.by_id.values().flat_map(|topic| &topic.partitions).map(|partition| &partition.log);
                let counts = logs.map(|log| (log.producers.len(), log.id)).filter(|(producers, _)| *producers > 0);
                self.producers.counted(counts.collect());
            }
            Duty::Trim(id, at_most) => {
                if let Some(partition) = self.partition_mut(id) {
                    partition.log.producers.keep_latest(at_most);
                }
            }
        }
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values().filter_map(|id| self.by_id.get(id))
    }

    /// Topics whose names come after `name`, in order.
    pub fn iter_from<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Topic> {
        use std::ops::Bound::{Included, Unbounded};
        self.by_name.range::<str, _>((Included(name), Unbounded)).filter_map(|(_, id)| self.by_id.get(id))
    }

    /// The ids of all partitions, in the order of their topics' names.
    pub fn partition_ids(&self) -> Vec<PartitionId> {
        self.iter().flat_map(|topic| topic.partitions.iter().map(|partition| partition.log.id)).collect()
    }

    /// Visits every partition's log.
    pub fn each_log_mut(&mut self, visit: impl FnMut(&mut PartitionLog)) {
        let partitions = self.by_id.values_mut().flat_map(|topic| &mut topic.partitions);
        partitions.map(|partition| &mut partition.log).for_each(visit);
    }

    /// Number of topics.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Rises with each topic that is put in or taken out: whoever looked at topics before knows whether to look again.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// Another topic whose name differs from this one in '.' and '_' only. Kafka refuses that, as both would have the same
    /// name in its metrics.
    pub fn colliding(&self, name: &str) -> Option<&str> {
        let names = self.by_metric_name.get(&metric_name(name)?)?;
        names.iter().map(|other| &**other).find(|other| *other != name)
    }

    /// Puts a topic in, in place of what had its id; new partitions get empty logs, existing ones stay.
    pub fn put(
        &mut self,
        id: Uuid,
        name: &str,
        partitions: usize,
        configs: BTreeMap<String, String>,
        settings: TopicSettings,
    ) {
        let name: Arc<str> = Arc::from(name);
        let topic = self.by_id.entry(id).or_insert_with(|| Topic {
            id,
            name: name.clone(),
            configs: BTreeMap::new(),
            settings: settings.clone(),
            partitions: Vec::new(),
        });
        topic.configs = configs;
        topic.settings = settings;
        let before = topic.partitions.len();
        for partition in before..partitions {
            let log = PartitionLog::new(PartitionId { topic: id, partition: partition as i32 });
            topic.partitions.push(Partition { log, last_seq: 0, fetches: Vec::new(), sessions: Vec::new() });
        }
        self.partitions += topic.partitions.len() - before;
        self.changes += 1;
        if let Some(metric_name) = metric_name(&name) {
            self.by_metric_name.entry(metric_name).or_default().insert(name.clone());
        }
        self.by_name.insert(name, id);
    }

    /// Takes a topic out.
    pub fn remove(&mut self, id: Uuid) -> Option<Topic> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&topic.name);
        if let Some(metric_name) = metric_name(&topic.name) {
            if let Some(names) = self.by_metric_name.get_mut(&metric_name) {
                names.remove(&topic.name);
                if names.is_empty() {
                    self.by_metric_name.remove(&metric_name);
                }
            }
        }
        self.partitions -= topic.partitions.len();
        self.changes += 1;
        Some(topic)
    }
}

/// The name with '_' for each '.', if it has either.
fn metric_name(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

message! {
    /// Value of `metalog::TOPIC`.
    struct TopicValue<'a> {
        name: &'a str [0..],
        partitions: i32 [0..],
        configs: Vec<TopicConfigValue<'a>> [0..],
    }
    /// One setting of a topic.
    struct TopicConfigValue<'a> {
        name: &'a str [0..],
        value: &'a str [0..],
    }
    /// Key of `metalog::LOG_START`.
    struct LogStartKey {
        partition: i32 [0..],
    }
    /// Value of `metalog::LOG_START`.
    struct LogStartValue {
        offset: i64 [0..],
    }
}

/// The entry that makes or changes a topic.
pub fn topic_entry(id: Uuid, name: &str, partitions: usize, configs: &BTreeMap<String, String>) -> MetaEntry {
    let configs = configs.iter().map(|(name, value)| TopicConfigValue { name, value }).collect();
    let value = TopicValue { name, partitions: partitions as i32, configs };
    MetaEntry { value: Some(metalog::encode(0, &value)), ..removed_topic_entry(id) }
}

/// The entry that deletes a topic.
pub fn removed_topic_entry(id: Uuid) -> MetaEntry {
    MetaEntry { table: metalog::TOPIC, scope: Bytes::copy_from_slice(&id.0), key: Bytes::new(), value: None }
}

/// The entry that moves a partition's log start offset; `None` forgets it (the topic is gone).
pub fn log_start_entry(id: PartitionId, offset: Option<i64>) -> MetaEntry {
    MetaEntry {
        table: metalog::LOG_START,
        scope: Bytes::copy_from_slice(&id.topic.0),
        key: metalog::encode(0, &LogStartKey { partition: id.partition }),
        value: offset.map(|offset| metalog::encode(0, &LogStartValue { offset })),
    }
}

/// A `metalog::TOPIC` or `metalog::LOG_START` entry, read back.
#[derive(Debug, PartialEq)]
pub enum TopicChange {
    Put { id: Uuid, name: String, partitions: usize, configs: BTreeMap<String, String> },
    Remove { id: Uuid },
    LogStart { id: PartitionId, offset: i64 },
    None,
}

/// Reads an entry of one of this file's tables.
pub fn read_entry(entry: &MetaEntry) -> Result<TopicChange, String> {
    let id = <[u8; 16]>::try_from(&entry.scope[..]).map(Uuid).map_err(|_| "a topic id is not 16 bytes".to_owned())?;
    match (entry.table, &entry.value) {
        (metalog::TOPIC, None) => Ok(TopicChange::Remove { id }),
        (metalog::TOPIC, Some(value)) => {
            let value: TopicValue<'_> = metalog::decode(0, value)?;
            let partitions = usize::try_from(value.partitions).map_err(|_| "a negative number of partitions")?;
            let configs = value.configs.iter().map(|c| (c.name.to_owned(), c.value.to_owned())).collect();
            Ok(TopicChange::Put { id, name: value.name.to_owned(), partitions, configs })
        }
        (_, None) => Ok(TopicChange::None),
        (_, Some(value)) => {
            let key: LogStartKey = metalog::decode(0, &entry.key)?;
            let value: LogStartValue = metalog::decode(0, value)?;
            let id = PartitionId { topic: id, partition: key.partition };
            Ok(TopicChange::LogStart { id, offset: value.offset })
        }
    }
}

/// Whether Kafka calls a topic of this name internal.
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

/// Why a topic's name is not allowed, as a sentence; the rules are Kafka's.
pub fn name_fault(name: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Some("the empty string is not allowed".to_owned())
    } else if name == "." || name == ".." {
        Some(format!("'{name}' is not allowed"))
    } else if name.len() > crate::limits::TOPIC_NAME_BYTES_MAX {
        Some(format!("the length of '{name}' is longer than the max allowed length 249"))
    } else if !name.chars().all(legal) {
        Some(format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_back_as_written() {
        let id = Uuid([3; 16]);
        let configs = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
        let change = read_entry(&topic_entry(id, "orders", 3, &configs)).unwrap();
        assert_eq!(change, TopicChange::Put { id, name: "orders".into(), partitions: 3, configs });
        assert_eq!(read_entry(&removed_topic_entry(id)).unwrap(), TopicChange::Remove { id });
        let id = PartitionId { topic: id, partition: 2 };
        assert_eq!(read_entry(&log_start_entry(id, Some(9))).unwrap(), TopicChange::LogStart { id, offset: 9 });
    }

    #[test]
    fn names_that_differ_in_dot_and_underscore_collide() {
        let mut topics = Topics::default();
        let settings = TopicSettings::resolve(&crate::config::Config::default(), &BTreeMap::new());
        topics.put(Uuid([1; 16]), "a.b_c", 1, BTreeMap::new(), settings);
        assert_eq!(topics.colliding("a_b.c"), Some("a.b_c"));
        assert_eq!(topics.colliding("a.b_c"), None);
        assert_eq!(topics.colliding("abc"), None);
        topics.remove(Uuid([1; 16]));
        assert_eq!(topics.colliding("a_b.c"), None);
    }

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert_eq!(name_fault(good), None);
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(name_fault(bad).is_some(), "{bad}");
        }
    }
}
