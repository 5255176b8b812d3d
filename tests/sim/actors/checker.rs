//! Owns the checker: after a restart it reads everything there is, before anybody else may speak.

use std::collections::VecDeque;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest, MetadataRequest};

use super::super::batch;
use super::super::model::NONE;
use super::super::proto::{topic_name, Answer, Ask};
use super::offsets::look_up;
use super::share_watch::share_state;
use super::{Actor, Turn};

/// What is left to read.
#[derive(Debug)]
enum Task {
    Metadata,
    Offsets(String),
    Start {
        topic: String,
        partition: i32,
    },
    Partition {
        topic: String,
        partition: i32,
        offset: i64,
        committed: bool,
    },
    /// What a share group is done with.
    Shares(String),
}

/// Reads everything once.
#[derive(Debug, Default)]
pub struct Checker {
    tasks: VecDeque<Task>,
    asked: Option<i32>,
    groups: Vec<String>,
    share_group: Option<String>,
    /// How often records may be late that only the object store has, and how often they were.
    patience: u32,
    late: u32,
}

impl Checker {
    pub fn new(groups: Vec<String>, share_group: Option<String>, patience: u32) -> Checker {
        Checker { groups, share_group, patience, ..Checker::default() }
    }

    fn ask(&mut self, turn: &mut Turn<'_>) {
        let (version, ask) = match self.tasks.front() {
            None => return,
            Some(Task::Metadata) => {
                let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
                (12, Ask::Metadata(request))
            }
            Some(Task::Offsets(group)) => (7, Ask::OffsetFetch(look_up(turn, 7, group))),
            Some(Task::Shares(group)) => (0, share_state(turn, group)),
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
            Some(Task::Partition { topic, partition, offset, committed }) => {
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
                    .with_isolation_level(i8::from(*committed))
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
                    // Some are read by a reader of committed records, who is told what was aborted.
                    let committed = turn.rng.one_in(3);
                    self.tasks.push_front(Task::Partition { topic, partition, offset, committed });
                }
            }
            (Some(Task::Partition { topic, partition, offset, committed }), Answer::Fetch(response)) => {
                let part = response.responses.first().and_then(|topic| topic.partitions.first());
                let part = part.ok_or("a fetch without its partition")?;
                let end = if committed { part.last_stable_offset } else { part.high_watermark };
                let batches = batch::parse(&part.records.clone().unwrap_or_default())?;
                let next = match (part.error_code, batches.last()) {
                    (NONE, Some(last)) => last.last_offset + 1,
                    (NONE, None) if offset < end && self.late < self.patience => {
                        self.late += 1;
                        offset
                    }
                    (NONE, None) if offset < end => {
                        return Err(format!("{topic}/{partition}: nothing at {offset} below {end}"));
                    }
                    _ => -1,
                };
                if next >= 0 && next < end {
                    self.tasks.push_front(Task::Partition { topic, partition, offset: next, committed });
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
        self.tasks.extend(self.share_group.iter().cloned().map(Task::Shares));
        self.asked = None;
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none() && self.tasks.is_empty()
    }
}
