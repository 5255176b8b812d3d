//! Owns the one who watches a share group: it reads the state that brokers keep of it, and at the end of a run is not
//! content before everything was handed out and is done with.

use std::collections::BTreeMap;

use chronik::wal::PartitionId;
use kafka_protocol::messages::read_share_group_state_request::{PartitionData, ReadStateData};
use kafka_protocol::messages::ReadShareGroupStateRequest;

use super::super::model::NONE;
use super::super::proto::{foreign_id, text, Answer, Ask};
use super::{Actor, Turn};

/// The watcher of one group.
#[derive(Debug)]
pub struct ShareWatch {
    group: String,
    asked: Option<i32>,
    closing: bool,
    content: bool,
    /// Partitions that are not done with: start and end.
    left: BTreeMap<PartitionId, (i64, i64)>,
}

impl ShareWatch {
    pub fn new(group: String) -> ShareWatch {
        ShareWatch { group, asked: None, closing: false, content: false, left: BTreeMap::new() }
    }
}

/// Asks for a group's state in all topics that are there to stay.
pub fn share_state(turn: &Turn<'_>, group: &str) -> Ask {
    let topics = turn.readable(true).into_iter().filter_map(|(name, partitions)| {
        let id = turn.model.topics.get(&name)?.id?;
        let parts = (0..partitions).map(|p| PartitionData::default().with_partition(p).with_leader_epoch(-1)).collect();
        Some(ReadStateData::default().with_topic_id(foreign_id(id)).with_partitions(parts))
    });
    let request = ReadShareGroupStateRequest::default().with_group_id(text(group)).with_topics(topics.collect());
    Ask::ReadShareGroupState(request)
}

impl Actor for ShareWatch {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(50_000, 400_000);
        if turn.closing != self.closing {
            (self.closing, self.content) = (turn.closing, false);
        }
        if self.asked.is_some() || self.closing && self.content {
            return;
        }
        let ask = share_state(turn, &self.group);
        self.asked = Some(turn.send(0, ask));
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if self.asked.take_if(|asked| *asked == correlation).is_none() {
            return Err(format!("answer {correlation} to nothing"));
        }
        let Answer::ReadShareGroupState(response) = answer else { return Ok(()) };
        self.left.clear();
        for topic in &response.results {
            let id = chronik::wire::Uuid(*topic.topic_id.as_bytes());
            for part in topic.partitions.iter().filter(|part| part.error_code == NONE && part.start_offset >= 0) {
                let id = PartitionId { topic: id, partition: part.partition };
                let end = turn.model.logs.get(&id).map_or(0, |log| log.end_at(turn.model.durable()));
                if part.start_offset < end {
                    self.left.insert(id, (part.start_offset, end));
                }
            }
        }
        self.content = self.left.is_empty();
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked = None;
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none() && (!self.closing || self.content)
    }
}
