//! Owns readers of committed records: they follow every steady partition, and are not content at the end of the run
//! before all transactions in them have ended. Damage to a file excuses them for as long as it is there, and no longer.

use std::collections::BTreeMap;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest};

use super::super::batch;
use super::super::model::{CORRUPT_MESSAGE, NONE};
use super::super::proto::{topic_name, Answer, Ask};
use super::{Actor, Turn};

/// Where a reader is in one partition.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    next: i64,
    /// The highest last stable offset that it was told.
    stable: i64,
    /// It has read everything there is.
    done: bool,
    /// What it asks for is not there (any more).
    lost: bool,
    /// What it asks for is in a damaged file. That is mended at a start, which this connection does not outlive.
    damaged: bool,
}

impl Position {
    /// There is nothing more to be had by this connection.
    fn ends(&self) -> bool {
        self.done || self.damaged
    }
}

/// A reader of committed records.
#[derive(Debug, Default)]
pub struct TxnReader {
    positions: BTreeMap<(String, i32), Position>,
    asked: Option<i32>,
    /// The partition whose beginning is asked for.
    earliest: Option<(String, i32)>,
    closing: bool,
    /// Partitions that are there; at the end each has to be read.
    known: usize,
}

impl TxnReader {
    fn fetch(&mut self, turn: &mut Turn<'_>, topic: &str, partition: i32) {
        let position = self.positions.entry((topic.to_string(), partition)).or_default();
        if turn.rng.one_in(30) && !turn.closing {
            position.next = turn.rng.below(position.next as u64 + 1) as i64;
        }
        let bytes_max = if turn.closing { 1 << 20 } else { *turn.rng.pick(&[1, 500, 5000, 1 << 20]).unwrap_or(&1) };
        let part = FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_fetch_offset(position.next)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(bytes_max);
        let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![part]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(*turn.rng.pick(&[0, 10, 100, 500]).unwrap_or(&0))
            .with_min_bytes(*turn.rng.pick(&[0, 1, 1, 3000]).unwrap_or(&1))
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let version = turn.rng.range(turn.fetch_version_min(), 12) as i16;
        self.asked = Some(turn.send(version, Ask::Fetch(request)));
    }

    fn list_offsets(&mut self, turn: &mut Turn<'_>, topic: &str, partition: i32) {
        let around = turn.now.wall_ms - turn.rng.below(5000) as i64;
        let key = (topic.to_string(), partition);
        let lost = self.positions.get(&key).is_some_and(|position| position.lost);
        let timestamp = if lost { -2 } else { *turn.rng.pick(&[-1, -1, -2, around]).unwrap_or(&-1) };
        self.earliest = (timestamp == -2).then_some(key);
        let part = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let asked = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![part]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(1)
            .with_topics(vec![asked]);
        let version = turn.rng.range(2, 8) as i16;
        self.asked = Some(turn.send(version, Ask::ListOffsets(request)));
    }
}

impl Actor for TxnReader {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(1000, 20_000);
        if turn.closing != self.closing {
            self.closing = turn.closing;
            self.positions.values_mut().for_each(|position| (position.done, position.damaged) = (false, false));
        }
        if self.asked.is_some() {
            return;
        }
        let topics = turn.readable(true);
        let all: Vec<(String, i32)> =
            topics.iter().flat_map(|(topic, count)| (0..*count).map(move |p| (topic.clone(), p))).collect();
        self.known = all.len();
        let left = |key: &&(String, i32)| !self.closing || !self.positions.get(*key).is_some_and(Position::ends);
        let left: Vec<&(String, i32)> = all.iter().filter(left).collect();
        let Some((topic, partition)) = turn.rng.pick(&left).map(|key| (*key).clone()) else { return };
        let lost = self.positions.get(&(topic.clone(), partition)).is_some_and(|position| position.lost);
        if !lost && (turn.closing || turn.rng.chance(90)) {
            self.fetch(turn, &topic, partition);
        } else {
            self.list_offsets(turn, &topic, partition);
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if self.asked.take_if(|asked| *asked == correlation).is_none() {
            return Err(format!("answer {correlation} to nothing"));
        }
        turn.again(0, 5000);
        if let (Answer::ListOffsets(response), Some(key)) = (answer, self.earliest.take()) {
            let part = response.topics.first().and_then(|topic| topic.partitions.first());
            if let (Some(part), Some(position)) = (part, self.positions.get_mut(&key)) {
                (position.next, position.lost) = (part.offset.max(0), false);
            }
        }
        let Answer::Fetch(response) = answer else { return Ok(()) };
        for topic in &response.responses {
            for part in &topic.partitions {
                let key = (topic.topic.to_string(), part.partition_index);
                let Some(position) = self.positions.get_mut(&key) else { continue };
                if part.error_code != NONE {
                    position.lost = true;
                    position.damaged = part.error_code == CORRUPT_MESSAGE && turn.model.excuses.damaged;
                    continue;
                }
                let (stable, before) = (part.last_stable_offset, position.stable);
                if stable < before {
                    return Err(format!("{key:?}: the last stable offset went back from {before} to {stable}"));
                }
                position.stable = stable;
                if let Some(last) = batch::parse(&part.records.clone().unwrap_or_default())?.last() {
                    position.next = last.last_offset + 1;
                }
                position.done = position.next >= part.high_watermark && stable == part.high_watermark;
            }
        }
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked = None;
        self.earliest = None;
        self.positions.values_mut().for_each(|position| position.damaged = false);
    }

    /// At the end it has to have read everything: nothing may hide behind a transaction for ever.
    fn is_idle(&self) -> bool {
        let done = self.positions.values().filter(|position| position.ends()).count();
        self.asked.is_none() && (!self.closing || done >= self.known)
    }
}
