//! Owns the client that uses everything badly: it names groups, topics and members that are not there, comes back with ids
//! of topics that were deleted, and vanishes in the middle of a rebalance. Every request has to be answered, as Kafka would.

use std::collections::BTreeSet;

use chronik::wire::Uuid;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, ConsumerGroupHeartbeatRequest, FetchRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    ListOffsetsRequest, ProduceRequest, ShareAcknowledgeRequest, ShareGroupHeartbeatRequest, SyncGroupRequest,
};

use super::super::batch;
use super::super::model::consumers::{GROUP_ID_NOT_FOUND, ILLEGAL_GENERATION, MEMBER_ID_REQUIRED, UNKNOWN_MEMBER_ID};
use super::super::model::shares::SHARE_SESSION_NOT_FOUND;
use super::super::model::{NONE, NOT_COORDINATOR, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION};
use super::super::proto::{foreign_id, text, topic_name, Answer, Ask};
use super::offsets::commit;
use super::{Actor, Turn};

/// A topic that nobody creates.
pub const NOWHERE: &str = "nowhere";

/// A client without manners.
#[derive(Debug)]
pub struct Stray {
    /// A group that it joins to vanish from.
    group: String,
    member: String,
    /// Ids of topics that it has seen.
    ids: BTreeSet<Uuid>,
    /// What is in flight, and the errors that may answer it.
    asked: Option<(i32, Vec<i16>)>,
}

impl Stray {
    pub fn new(group: String) -> Stray {
        Stray { group, member: String::new(), ids: BTreeSet::new(), asked: None }
    }

    fn ask(&mut self, turn: &mut Turn<'_>, version: i16, ask: Ask, expected: &[i16]) {
        self.asked = Some((turn.send(version, ask), expected.to_vec()));
    }

    fn commit_to_unknown_group(&mut self, turn: &mut Turn<'_>) {
        let topics = turn.topics(true);
        let Some((topic, partitions)) = turn.rng.pick(&topics).cloned() else { return };
        let mut request = commit(turn, "next-nobody", &topic, partitions);
        (request.member_id, request.generation_id_or_member_epoch) = (text("ghost"), 5);
        let version = turn.rng.range(2, 9) as i16;
        let expected = if version >= 9 { GROUP_ID_NOT_FOUND } else { ILLEGAL_GENERATION };
        self.ask(turn, version, Ask::OffsetCommit(request), &[expected]);
    }

    fn commit_to_unknown_topic(&mut self, turn: &mut Turn<'_>) {
        let request = commit(turn, "offsets-0", NOWHERE, 2);
        let version = turn.rng.range(2, 9) as i16;
        self.ask(turn, version, Ask::OffsetCommit(request), &[UNKNOWN_TOPIC_OR_PARTITION]);
    }

    /// Of a topic that was deleted; another of the same name may be there by now.
    fn dead_id(&self, turn: &mut Turn<'_>) -> Option<Uuid> {
        let dead: Vec<Uuid> = self.ids.iter().filter(|id| turn.model.is_dead(**id)).copied().collect();
        turn.rng.pick(&dead).copied()
    }

    fn fetch(&mut self, turn: &mut Turn<'_>, topic: FetchTopic, version: i16, expected: &[i16]) {
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        self.ask(turn, version, Ask::Fetch(request), expected);
    }

    fn fetch_dead(&mut self, turn: &mut Turn<'_>, id: Uuid) {
        let topic = FetchTopic::default().with_topic_id(foreign_id(id)).with_partitions(vec![part(0, 0)]);
        let version = turn.rng.range(13, 16) as i16;
        self.fetch(turn, topic, version, &[UNKNOWN_TOPIC_ID]);
    }

    fn produce_dead(&mut self, turn: &mut Turn<'_>, id: Uuid) {
        let tag = turn.ids.tag();
        let bytes = batch::build(tag, None, &[turn.now.wall_ms], 10);
        let part = PartitionProduceData::default().with_index(0).with_records(Some(bytes));
        let topic = TopicProduceData::default().with_topic_id(foreign_id(id)).with_partition_data(vec![part]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        self.ask(turn, 13, Ask::Produce(request), &[UNKNOWN_TOPIC_ID]);
    }

    fn fetch_out_of_range(&mut self, turn: &mut Turn<'_>) {
        let topics = turn.topics(true);
        let Some((name, partitions)) = turn.rng.pick(&topics).cloned() else { return };
        let offset = *turn.rng.pick(&[-5, i64::MAX, 1 << 40]).unwrap_or(&-5);
        let partition = turn.rng.below(partitions.max(1) as u64) as i32;
        let topic = FetchTopic::default().with_topic(topic_name(&name)).with_partitions(vec![part(partition, offset)]);
        let version = turn.rng.range(4, 12) as i16;
        // It may be deleted and made anew meanwhile.
        self.fetch(turn, topic, version, &[OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION]);
    }

    fn list_unknown(&mut self, turn: &mut Turn<'_>) {
        let part = ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(topic_name(NOWHERE)).with_partitions(vec![part]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let version = turn.rng.range(1, 8) as i16;
        self.ask(turn, version, Ask::ListOffsets(request), &[UNKNOWN_TOPIC_OR_PARTITION]);
    }

    /// Speaks as a member that is none.
    fn speak_as_a_ghost(&mut self, turn: &mut Turn<'_>) {
        let group = GroupId(text(&self.group));
        let ghost = text("ghost");
        match turn.rng.below(4) {
            0 => {
                let request =
                    HeartbeatRequest::default().with_group_id(group).with_generation_id(3).with_member_id(ghost);
                self.ask(turn, 4, Ask::Heartbeat(request), &[UNKNOWN_MEMBER_ID]);
            }
            1 => {
                let request =
                    SyncGroupRequest::default().with_group_id(group).with_generation_id(3).with_member_id(ghost);
                self.ask(turn, 4, Ask::SyncGroup(request), &[UNKNOWN_MEMBER_ID]);
            }
            2 => {
                let request = ConsumerGroupHeartbeatRequest::default()
                    .with_group_id(GroupId(text("next-nobody")))
                    .with_member_id(ghost)
                    .with_member_epoch(7)
                    .with_rebalance_timeout_ms(-1)
                    .with_subscribed_topic_names(None)
                    .with_topic_partitions(None);
                self.ask(turn, 1, Ask::ConsumerGroupHeartbeat(request), &[GROUP_ID_NOT_FOUND]);
            }
            _ => {
                let request = ShareGroupHeartbeatRequest::default()
                    .with_group_id(GroupId(text("share-nobody")))
                    .with_member_id(ghost)
                    .with_member_epoch(7)
                    .with_subscribed_topic_names(None);
                self.ask(turn, 1, Ask::ShareGroupHeartbeat(request), &[GROUP_ID_NOT_FOUND]);
            }
        }
    }

    fn acknowledge_without_session(&mut self, turn: &mut Turn<'_>) {
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text("share-0"))))
            .with_member_id(Some(text("ghost")))
            .with_share_session_epoch(4);
        self.ask(turn, 1, Ask::ShareAcknowledge(request), &[SHARE_SESSION_NOT_FOUND]);
    }

    /// Joins a group that others are in, and is never heard of again: the others must not wait for longer than its session.
    fn join_and_vanish(&mut self, turn: &mut Turn<'_>) {
        turn.model.groups.is_restless(&self.group);
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(vec![1, 2, 3].into());
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_session_timeout_ms(6000)
            .with_rebalance_timeout_ms(3000)
            .with_member_id(text(&std::mem::take(&mut self.member)))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let version = turn.rng.range(1, 9) as i16;
        self.ask(turn, version, Ask::JoinGroup(request), &[NONE, MEMBER_ID_REQUIRED, UNKNOWN_MEMBER_ID]);
    }
}

fn part(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_fetch_offset(offset)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(1 << 20)
}

/// Every error in an answer.
fn errors(answer: &Answer) -> Vec<i16> {
    match answer {
        Answer::OffsetCommit(response) => {
            response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        Answer::Fetch(response) => {
            response.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        Answer::Produce(response) => {
            response.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code).collect()
        }
        Answer::ListOffsets(response) => {
            response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        Answer::Heartbeat(response) => vec![response.error_code],
        Answer::SyncGroup(response) => vec![response.error_code],
        Answer::JoinGroup(response) => vec![response.error_code],
        Answer::ConsumerGroupHeartbeat(response) => vec![response.error_code],
        Answer::ShareGroupHeartbeat(response) => vec![response.error_code],
        Answer::ShareAcknowledge(response) => vec![response.error_code],
        _ => Vec::new(),
    }
}

impl Actor for Stray {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(5000, 100_000);
        if self.asked.is_some() || turn.closing {
            return;
        }
        self.ids.extend(turn.model.topics.values().filter_map(|topic| topic.id));
        match (turn.rng.below(12), self.dead_id(turn)) {
            (0 | 1, Some(id)) => self.fetch_dead(turn, id),
            (2, Some(id)) => self.produce_dead(turn, id),
            (3, _) => self.commit_to_unknown_group(turn),
            (4, _) => self.commit_to_unknown_topic(turn),
            (5 | 6, _) => self.fetch_out_of_range(turn),
            (7, _) => self.list_unknown(turn),
            (8, _) => self.acknowledge_without_session(turn),
            (9, _) if turn.rng.one_in(3) => self.join_and_vanish(turn),
            _ => self.speak_as_a_ghost(turn),
        }
    }

    fn answered(&mut self, _turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        let Some((_, expected)) = self.asked.take_if(|(asked, _)| *asked == correlation) else {
            return Err(format!("answer {correlation} to nothing"));
        };
        if let Answer::JoinGroup(response) = answer {
            if response.error_code == MEMBER_ID_REQUIRED {
                self.member = response.member_id.to_string();
            }
        }
        let wrong = errors(answer).into_iter().find(|code| !expected.contains(code) && *code != NOT_COORDINATOR);
        match wrong {
            Some(code) => Err(format!("error {code} where {expected:?} was expected: {answer:?}")),
            None => Ok(()),
        }
    }

    fn disconnected(&mut self) {
        self.asked = None;
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none()
    }
}
