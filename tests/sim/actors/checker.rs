//! Owns the checker: after a restart it reads everything there is, before anybody else may speak.

use std::collections::VecDeque;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest, MetadataRequest};

use super::super::batch;
use super::super::model::NONE;
use super::super::proto::{topic_name, Answer, Ask};
use super::offsets::look_up;
use super::{Actor, Turn};

/// What is left to read.
#[derive(Debug)]
enum Task {
    Metadata,
    Offsets(String),
    Start { topic: String, partition: i32 },
    Partition { topic: String, partition: i32, offset: i64 },
}

/// Reads everything once.
#[derive(Debug, Default)]
pub struct Checker {
    tasks: VecDeque<Task>,
    asked: Option<i32>,
    groups: Vec<String>,
    /// How often records may be late that only the object store has, and how often they were.
    patience: u32,
    late: u32,
}

impl Checker {
    pub fn new(groups: Vec<String>, patience: u32) -> Checker {
        Checker { groups, patience, ..Checker::default() }
    }

    fn ask(&mut self, turn: &mut Turn<'_>) {
        let (version, ask) = match self.tasks.front() {
            None => return,
            Some(Task::Metadata) => {
                let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
                (12, Ask::Metadata(request))
            }
            Some(Task::Offsets(group)) => (7, Ask::OffsetFetch(look_up(turn, 7, group))),
            Some(Task::Start { topic, partition }) => {
                let part = ListOffsetsPartition::default()
                    .with_partition_index(*partition)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(-2);
                let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![part]);
                (
                    5,
                    Ask::ListOffsets(
                        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]),
                    ),
                )
            }
            Some(Task::Partition { topic, partition, offset }) => {
                let part = FetchPartition::default()
                    .with_partition(*partition)
                    .with_current_leader_epoch(-1)
                    .with_last_fetched_epoch(-1)
                    .with_fetch_offset(*offset)
                    .with_log_start_offset(-1)
                    .with_partition_max_bytes(1 << 20);
                let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![part]);
                let request = FetchRequest::default()
                    .with_replica_id(BrokerId(-1))
                    .with_max_bytes(1 << 20)
                    .with_session_epoch(-1)
                    .with_topics(vec![topic]);
                (12, Ask::Fetch(request))
            }
        };
        self.asked = Some(turn.send(version, ask));
    }
}

impl Actor for Checker {
    fn act(&mut self, turn: &mut Turn<'_>) {
        if self.asked.is_none() {
            self.ask(turn);
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if self.asked.take_if(|asked| *asked == correlation).is_none() {
            return Err(format!("answer {correlation} to nothing"));
        }
        let done = self.tasks.pop_front();
        match (done, answer) {
            (_, Answer::Metadata(response)) => {
                for topic in response.topics.iter().filter(|topic| topic.error_code == NONE) {
                    let name = topic.name.as_ref().map_or(String::new(), |name| name.to_string());
                    self.tasks.extend(
                        topic
                            .partitions
                            .iter()
                            .map(|part| Task::Start { topic: name.clone(), partition: part.partition_index }),
                    );
                }
            }
            (Some(Task::Start { topic, partition }), Answer::ListOffsets(response)) => {
                let part = response.topics.first().and_then(|topic| topic.partitions.first());
                let offset = part.ok_or("offsets without their partition")?.offset;
                if offset >= 0 {
                    self.tasks.push_front(Task::Partition { topic, partition, offset });
                }
            }
            (Some(Task::Partition { topic, partition, offset }), Answer::Fetch(response)) => {
                let part = response.responses.first().and_then(|topic| topic.partitions.first());
                let part = part.ok_or("a fetch without its partition")?;
                let batches = batch::parse(&part.records.clone().unwrap_or_default())?;
                let next = match (part.error_code, batches.last()) {
                    (NONE, Some(last)) => last.last_offset + 1,
                    (NONE, None) if offset < part.high_watermark && self.late < self.patience => {
                        self.late += 1;
                        offset
                    }
                    (NONE, None) if offset < part.high_watermark => {
                        return Err(format!("{topic}/{partition}: nothing at {offset} below {}", part.high_watermark));
                    }
                    _ => -1,
                };
                if next >= 0 && next < part.high_watermark {
                    self.tasks.push_front(Task::Partition { topic, partition, offset: next });
                }
            }
            _ => {}
        }
        self.ask(turn);
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked = None;
    }

    /// Begins anew.
    fn start(&mut self) {
        self.late = 0;
        self.tasks = VecDeque::from([Task::Metadata]);
        self.tasks.extend(self.groups.iter().cloned().map(Task::Offsets));
        self.asked = None;
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none() && self.tasks.is_empty()
    }
}
