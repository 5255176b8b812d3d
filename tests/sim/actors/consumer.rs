//! Owns consumers: they follow partitions, start over anywhere, wait at the tail, and ask where offsets are.

use std::collections::BTreeMap;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest};

use super::super::batch;
use super::super::model::NONE;
use super::super::proto::{foreign_id, topic_name, Answer, Ask};
use super::{Actor, Turn};

/// A consumer without a group.
#[derive(Debug, Default)]
pub struct Consumer {
    positions: BTreeMap<(String, i32), i64>,
    /// What is in flight: its correlation and, for a fetch with topic ids, their names.
    asked: Option<(i32, Vec<(chronik::wire::Uuid, String)>)>,
}

impl Consumer {
    fn fetch(&mut self, turn: &mut Turn<'_>) {
        let topics = turn.readable(false);
        let by_id = turn.rng.chance(30);
        let mut asked: Vec<FetchTopic> = Vec::new();
        let mut names = Vec::new();
        for _ in 0..turn.rng.range(1, 4) {
            let Some((topic, partitions)) = turn.rng.pick(&topics).cloned() else { break };
            let id = turn.model.topics.get(&topic).and_then(|t| t.id);
            if by_id && id.is_none() {
                continue;
            }
            let partition = turn.rng.below(partitions.max(1) as u64) as i32;
            let position = self.positions.entry((topic.clone(), partition)).or_default();
            match turn.rng.below(20) {
                0 => *position = 0,
                1 => *position = turn.rng.below(*position as u64 + 1) as i64,
                2 => *position += 1_000_000,
                _ => {}
            }
            let part = FetchPartition::default()
                .with_partition(partition)
                .with_current_leader_epoch(-1)
                .with_last_fetched_epoch(-1)
                .with_fetch_offset(*position)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(*turn.rng.pick(&[1, 500, 5000, 1 << 20]).unwrap_or(&1));
            match asked.iter_mut().find(|t| *t.topic.0 == *topic) {
                Some(t) if t.partitions.iter().any(|p| p.partition == partition) => {}
                Some(t) => t.partitions.push(part),
                None => {
                    let mut wanted = FetchTopic::default().with_topic(topic_name(&topic)).with_partitions(vec![part]);
                    if let Some(id) = id.filter(|_| by_id) {
                        wanted.topic_id = foreign_id(id);
                        names.push((id, topic.clone()));
                    }
                    asked.push(wanted);
                }
            }
        }
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(*turn.rng.pick(&[0, 10, 100, 500]).unwrap_or(&0))
            .with_min_bytes(*turn.rng.pick(&[0, 1, 1, 3000]).unwrap_or(&1))
            .with_max_bytes(*turn.rng.pick(&[1, 2000, 20_000, 1 << 20]).unwrap_or(&1))
            .with_session_epoch(-1)
            .with_topics(asked);
        let version = if by_id { turn.rng.range(13, 16) } else { turn.rng.range(turn.fetch_version_min(), 12) } as i16;
        self.asked = Some((turn.send(version, Ask::Fetch(request)), names));
    }

    fn list_offsets(&mut self, turn: &mut Turn<'_>) {
        let topics = turn.readable(false);
        let Some((topic, partitions)) = turn.rng.pick(&topics).cloned() else { return };
        let version = turn.rng.range(1, 8) as i16;
        let part = |partition: i32, turn: &mut Turn<'_>| {
            let around = turn.now.wall_ms - turn.rng.below(5000) as i64;
            let kinds = if version >= 7 { &[-1, -2, -3, around, around][..] } else { &[-1, -2, around][..] };
            ListOffsetsPartition::default()
                .with_partition_index(partition)
                .with_current_leader_epoch(-1)
                .with_timestamp(*turn.rng.pick(kinds).unwrap_or(&-1))
        };
        let parts = (0..partitions).map(|partition| part(partition, turn)).collect();
        let asked = ListOffsetsTopic::default().with_name(topic_name(&topic)).with_partitions(parts);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        self.asked = Some((turn.send(version, Ask::ListOffsets(request)), Vec::new()));
    }
}

impl Actor for Consumer {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(1000, 50_000);
        if self.asked.is_some() || turn.closing {
            return;
        }
        if turn.rng.chance(80) {
            self.fetch(turn);
        } else {
            self.list_offsets(turn);
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        let Some((_, names)) = self.asked.take_if(|(asked, _)| *asked == correlation) else {
            return Err(format!("answer {correlation} to nothing"));
        };
        turn.again(0, 5000);
        let Answer::Fetch(response) = answer else { return Ok(()) };
        for topic in &response.responses {
            let id = topic.topic_id.as_bytes();
            let named = names.iter().find(|(known, _)| known.0 == *id).map(|(_, name)| name.clone());
            let name = named.unwrap_or_else(|| topic.topic.to_string());
            for part in &topic.partitions {
                let Some(position) = self.positions.get_mut(&(name.clone(), part.partition_index)) else { continue };
                if part.error_code != NONE {
                    *position = part.log_start_offset.max(0);
                } else if let Some(last) = batch::parse(&part.records.clone().unwrap_or_default())?.last() {
                    *position = last.last_offset + 1;
                }
            }
        }
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked = None;
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none()
    }
}
