//! Owns clients that commit offsets by hand and look them up again.

use std::collections::BTreeSet;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};

use super::super::model::commit_text;
use super::super::proto::{text, topic_name, Answer, Ask};
use super::{Actor, Turn};

/// A client that keeps offsets for a group without members.
#[derive(Debug)]
pub struct Offsets {
    group: String,
    asked: BTreeSet<i32>,
}

impl Offsets {
    pub fn new(group: String) -> Offsets {
        Offsets { group, asked: BTreeSet::new() }
    }

    fn commit(&mut self, turn: &mut Turn<'_>) {
        let topics = turn.topics(true);
        let Some((topic, partitions)) = turn.rng.pick(&topics).cloned() else { return };
        let request = commit(turn, &self.group, &topic, partitions);
        let version = turn.rng.range(2, 9) as i16;
        self.asked.insert(turn.send(version, Ask::OffsetCommit(request)));
    }

    fn look_up(&mut self, turn: &mut Turn<'_>) {
        let version = turn.rng.range(1, 9) as i16;
        let request = look_up(turn, version, &self.group);
        self.asked.insert(turn.send(version, Ask::OffsetFetch(request)));
    }
}

/// A commit for some partitions of a topic by nobody in particular.
pub fn commit(turn: &mut Turn<'_>, group: &str, topic: &str, partitions: i32) -> OffsetCommitRequest {
    let mut parts = Vec::new();
    for partition in 0..partitions {
        if partition == 0 || turn.rng.chance(50) {
            let metadata = commit_text(turn.ids.commit());
            let part = OffsetCommitRequestPartition::default()
                .with_partition_index(partition)
                .with_committed_offset(turn.rng.below(1000) as i64)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(text(&metadata)));
            parts.push(part);
        }
    }
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(parts);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(vec![topic])
}

/// A question for all partitions of all steady topics.
pub fn look_up(turn: &mut Turn<'_>, version: i16, group: &str) -> OffsetFetchRequest {
    let all = turn.topics(true).into_iter().map(|(topic, partitions)| (topic_name(&topic), (0..partitions).collect()));
    if version >= 8 {
        let topics = all
            .map(|(name, indexes)| OffsetFetchRequestTopics::default().with_name(name).with_partition_indexes(indexes));
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_member_epoch(-1)
            .with_topics(Some(topics.collect()));
        return OffsetFetchRequest::default().with_groups(vec![group]);
    }
    let topics =
        all.map(|(name, indexes)| OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(indexes));
    OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(Some(topics.collect()))
}

impl Actor for Offsets {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(1000, 40_000);
        while !turn.closing && self.asked.len() < 3 && turn.rng.chance(60) {
            let before = self.asked.len();
            if turn.rng.chance(60) {
                self.commit(turn);
            } else {
                self.look_up(turn);
            }
            if self.asked.len() == before {
                break;
            }
        }
    }

    fn answered(&mut self, _turn: &mut Turn<'_>, correlation: i32, _answer: &Answer) -> Result<(), String> {
        if self.asked.remove(&correlation) {
            return Ok(());
        }
        Err(format!("answer {correlation} to nothing"))
    }

    fn disconnected(&mut self) {
        self.asked.clear();
    }

    fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }
}
