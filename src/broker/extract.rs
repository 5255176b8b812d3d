//! Owns what is taken out of a broker that does not serve: what it holds, and the state of some of its topics alone.
//!
//! For backups. A state with some topics only knows nothing of groups' members, of transactions, users and
//! configurations of brokers and groups: those belong to the cluster that the topics came from. What is left open in a
//! partition by a transaction that nobody knows is aborted at the next start.

use std::collections::{BTreeMap, BTreeSet};

use super::checkpoint;
use super::groups::offset_of;
use super::metalog;
use super::topics::{log_start_entry, topic_entry};
use super::Broker;
use crate::wal::SegmentId;
use crate::wire::Uuid;

/// What is kept of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicContent {
    pub name: String,
    pub id: Uuid,
    /// Start and end of each partition.
    pub offsets: Vec<(i64, i64)>,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Where its batches lie.
    pub segments: BTreeSet<SegmentId>,
}

impl Broker {
    /// Every topic, in the order of the names.
    pub fn contents(&self) -> Vec<TopicContent> {
        let content = |topic: &super::topics::Topic| {
            let logs = || topic.partitions.iter().map(|partition| &partition.log);
            TopicContent {
                name: topic.name.to_string(),
                id: topic.id,
                offsets: logs().map(|log| (log.start_offset, log.next_offset)).collect(),
                bytes: logs().map(|log| log.bytes()).sum(),
                segments: logs().flat_map(|log| log.ranges().map(|range| range.segment)).collect(),
            }
        };
        self.topics.iter().map(content).collect()
    }

    /// The bytes of a checkpoint that holds only the topics whose names are keys of `names`, under the names that stand
    /// there, with their records, configurations and the offsets that groups have committed.
    pub fn snapshot_of_topics(&self, names: &BTreeMap<String, String>) -> Vec<u8> {
        let mut entries = vec![self.producer_ids.entry(), metalog::lossy_entry(self.lossy)];
        entries.extend(self.features.entries());
        let chosen: Vec<_> = self.topics.iter().filter_map(|topic| Some((topic, names.get(&*topic.name)?))).collect();
        for (topic, name) in &chosen {
            entries.push(topic_entry(topic.id, name, topic.partitions.len(), &topic.configs));
            let moved = topic.partitions.iter().map(|partition| &partition.log).filter(|log| log.start_offset > 0);
            entries.extend(moved.map(|log| log_start_entry(log.id, Some(log.start_offset))));
        }
        let mut groups = Vec::new();
        self.groups.snapshot(&mut groups);
        entries
            .extend(groups.iter().filter_map(|entry| offset_of(entry, |topic| names.get(topic).map(String::as_str))));
        let logs = || chosen.iter().flat_map(|(topic, _)| &topic.partitions).map(|partition| &partition.log);
        let used: BTreeSet<SegmentId> = logs().flat_map(|log| log.ranges().map(|range| range.segment)).collect();
        entries.extend(self.tidying.entries_of(|number| used.contains(&SegmentId::Pack(number))));
        let segments = self.segments.runs().filter(|(id, _)| used.contains(id));
        checkpoint::freeze(&entries, logs(), self.tidying.last_switched(), segments).into_bytes()
    }
}
