//! Owns members of groups of the consumer protocol (KIP-848): they join, reconcile, commit, vanish, sleep for too long,
//! come back under their instance id, and now and then speak the classic protocol for a while.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, BytesMut};
use chronik::wire::Uuid;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerProtocolAssignment,
    ConsumerProtocolSubscription, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::super::model::consumers::*;
use super::super::model::{COORDINATOR_NOT_AVAILABLE, NONE, NOT_COORDINATOR};
use super::super::proto::{foreign_id, text, topic_name, Answer, Ask};
use super::offsets::commit;
use super::{Actor, Turn};

/// Expressions that members use; what each stands for is `matches` to say.
pub const PATTERNS: [&str; 5] = ["steady-.*", "steady-[01]", ".*-1", "(passing|steady)-2", NO_PATTERN];

/// Whether a topic is one of those that an expression stands for, said without expressions.
pub fn matches(pattern: &str, topic: &str) -> bool {
    match pattern {
        "steady-.*" => topic.starts_with("steady-"),
        "steady-[01]" => ["steady-0", "steady-1"].contains(&topic),
        ".*-1" => topic.ends_with("-1"),
        "(passing|steady)-2" => ["steady-2", "passing-2"].contains(&topic),
        _ => false,
    }
}

type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Outside,
    Inside,
    /// Of the classic protocol: joined, and without its assignment.
    Joined,
}

/// What members of a group may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// They speak the classic protocol at times.
    pub migrate: bool,
    pub patterns: bool,
    /// They vanish without a word, and sleep for longer than their session.
    pub vanish: bool,
}

/// A member.
#[derive(Debug)]
pub struct GroupMember {
    group: String,
    number: u64,
    instance: Option<String>,
    manners: Manners,
    /// Names that it has had.
    names: u64,
    id: String,
    /// Epoch or generation.
    epoch: i32,
    phase: Phase,
    classic: bool,
    topics: Vec<String>,
    pattern: Option<&'static str>,
    patient: bool,
    /// What it works on, and what it was told to work on.
    owned: Partitions,
    told: Option<Partitions>,
    /// The next heartbeat says everything: the last one got no answer, or something is new.
    says_all: bool,
    followers: Vec<JoinGroupResponseMember>,
    /// Who it was before it vanished.
    ghost: Option<(String, i32)>,
    asked: Option<i32>,
}

impl GroupMember {
    pub fn new(group: String, number: u64, is_static: bool, manners: Manners) -> GroupMember {
        GroupMember {
            group,
            number,
            instance: is_static.then(|| format!("instance-{number}")),
            manners,
            names: 0,
            id: String::new(),
            epoch: 0,
            phase: Phase::Outside,
            classic: false,
            topics: Vec::new(),
            pattern: None,
            patient: true,
            owned: Partitions::new(),
            told: None,
            says_all: false,
            followers: Vec::new(),
            ghost: None,
            asked: None,
        }
    }

    fn subscribe(&mut self, turn: &mut Turn<'_>) {
        let all = ["steady-0", "steady-1", "steady-2", "steady-3", "passing-0", "passing-2"];
        let some = all.iter().filter(|_| turn.rng.chance(40)).map(|name| name.to_string());
        self.topics = some.collect();
        if self.topics.is_empty() {
            self.topics.push("steady-0".to_string());
        }
        self.pattern =
            if self.manners.patterns && turn.rng.chance(40) { turn.rng.pick(&PATTERNS).copied() } else { None };
    }

    fn ask(&mut self, turn: &mut Turn<'_>, version: i16, ask: Ask) {
        self.asked = Some(turn.send(version, ask));
    }

    fn join(&mut self, turn: &mut Turn<'_>) {
        let (classic, patient) = (self.manners.migrate && turn.rng.chance(35), turn.rng.chance(75));
        if classic != self.classic {
            self.id.clear();
        }
        (self.classic, self.patient) = (classic, patient);
        (self.owned, self.told, self.epoch) = (Partitions::new(), None, 0);
        self.subscribe(turn);
        if classic {
            return self.join_classic(turn);
        }
        let version = if self.pattern.is_some() { 1 } else { turn.rng.range(0, 1) as i16 };
        if self.id.is_empty() && version == 1 {
            self.names += 1;
            self.id = format!("member-{}-{}", self.number, self.names);
        }
        let request = self.heartbeat(turn, true);
        self.send(turn, version, request);
    }

    /// `all`: with everything that there is to say.
    fn heartbeat(&self, turn: &mut Turn<'_>, all: bool) -> ConsumerGroupHeartbeatRequest {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance.as_deref().map(text))
            .with_rebalance_timeout_ms(-1)
            .with_subscribed_topic_names(None)
            .with_topic_partitions(None);
        if !all {
            return request;
        }
        let assignor = *turn.rng.pick(&[None, Some("uniform"), Some("range")]).unwrap_or(&None);
        request
            .with_rebalance_timeout_ms(if self.patient { PATIENT_MS } else { 400 })
            .with_subscribed_topic_names(Some(self.topics.iter().map(|topic| topic_name(topic)).collect()))
            .with_subscribed_topic_regex(Some(text(self.pattern.unwrap_or_default())))
            .with_server_assignor(assignor.map(text))
            .with_topic_partitions(Some(said(&self.owned)))
    }

    fn beat(&mut self, turn: &mut Turn<'_>) {
        let old = std::mem::take(&mut self.says_all);
        let mut request = self.heartbeat(turn, old);
        if let Some(told) = self.told.take_if(|_| turn.rng.chance(80)) {
            self.owned = told;
            request.topic_partitions = Some(said(&self.owned));
        } else if turn.rng.one_in(10) {
            request.topic_partitions = Some(said(&self.owned));
        }
        let version = if self.pattern.is_some() { 1 } else { turn.rng.range(0, 1) as i16 };
        self.send(turn, version, request);
    }

    fn send(&mut self, turn: &mut Turn<'_>, version: i16, mut request: ConsumerGroupHeartbeatRequest) {
        if version == 0 {
            // It has no expressions.
            request.subscribed_topic_regex = None;
        }
        self.ask(turn, version, Ask::ConsumerGroupHeartbeat(request));
    }

    fn leave(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Outside;
        if self.classic {
            let member = MemberIdentity::default()
                .with_member_id(text(&self.id))
                .with_group_instance_id(self.instance.as_deref().map(text));
            let request =
                LeaveGroupRequest::default().with_group_id(GroupId(text(&self.group))).with_members(vec![member]);
            return self.ask(turn, 4, Ask::LeaveGroup(request));
        }
        let mut request = self.heartbeat(turn, false);
        request.member_epoch = if self.instance.is_some() && turn.rng.chance(70) { -2 } else { -1 };
        if request.member_epoch == -2 {
            self.id.clear();
        }
        self.ask(turn, 1, Ask::ConsumerGroupHeartbeat(request));
    }

    /// Commits as a member, or as the one that it was.
    fn commit(&mut self, turn: &mut Turn<'_>, id: &str, epoch: i32) {
        let topics = turn.topics(true);
        let Some((topic, partitions)) = turn.rng.pick(&topics).cloned() else { return };
        let mut request = commit(turn, &self.group, &topic, partitions);
        request.member_id = text(id);
        request.generation_id_or_member_epoch = epoch;
        self.ask(turn, 9, Ask::OffsetCommit(request));
    }

    fn join_classic(&mut self, turn: &mut Turn<'_>) {
        let topics = self.topics.iter().map(|topic| text(topic)).collect();
        let subscription = ConsumerProtocolSubscription::default().with_topics(topics);
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(embedded(&subscription, turn.rng.range(0, 3) as i16));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_session_timeout_ms(CLASSIC_SESSION_MS)
            .with_rebalance_timeout_ms(PATIENT_MS)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let version = turn.rng.range(5, 9) as i16;
        self.ask(turn, version, Ask::JoinGroup(request));
    }

    fn sync(&mut self, turn: &mut Turn<'_>) {
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.epoch)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_assignments(assignments(turn, &self.followers));
        let version = turn.rng.range(3, 4) as i16;
        self.ask(turn, version, Ask::SyncGroup(request));
    }

    fn beat_classic(&mut self, turn: &mut Turn<'_>) {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.epoch)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        self.ask(turn, 4, Ask::Heartbeat(request));
    }

    /// What it does beside beating; whether it did anything.
    fn strays(&mut self, turn: &mut Turn<'_>) -> bool {
        let vanishes = self.manners.vanish;
        match turn.rng.below(120) {
            0..=2 if vanishes => {
                self.ghost = Some((std::mem::take(&mut self.id), self.epoch));
                self.phase = Phase::Outside;
                turn.again_us = Some(turn.rng.range(1000, 4_000_000));
            }
            3..=4 if vanishes => turn.again_us = Some(turn.rng.range(500_000, 8_000_000)),
            5..=7 => self.leave(turn),
            8..=9 if !self.classic => {
                self.subscribe(turn);
                self.says_all = true;
                return false;
            }
            10..=13 => match self.ghost.clone() {
                Some((id, epoch)) => self.commit(turn, &id, epoch),
                None => return false,
            },
            14..=40 => {
                let (id, epoch) = (self.id.clone(), self.epoch);
                self.commit(turn, &id, epoch);
            }
            _ => return false,
        }
        true
    }

    fn beaten(&mut self, response: &ConsumerGroupHeartbeatResponse) {
        match response.error_code {
            NONE if response.member_epoch <= 0 => {}
            NONE => {
                if let Some(id) = &response.member_id {
                    self.id = id.to_string();
                }
                (self.epoch, self.phase) = (response.member_epoch, Phase::Inside);
                if let Some(assignment) = &response.assignment {
                    let topics = assignment.topic_partitions.iter();
                    let parts = topics.map(|t| (Uuid(*t.topic_id.as_bytes()), t.partitions.iter().copied().collect()));
                    self.told = Some(parts.collect());
                }
            }
            COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR => self.says_all = true,
            INVALID_REGULAR_EXPRESSION => (self.pattern, self.says_all) = (None, true),
            code => {
                self.phase = Phase::Outside;
                if code == FENCED_INSTANCE_ID {
                    self.id.clear();
                }
            }
        }
    }

    fn failed(&mut self, code: i16) {
        if code == REBALANCE_IN_PROGRESS {
            self.phase = Phase::Outside;
        } else if code != NONE {
            self.phase = Phase::Outside;
            self.id.clear();
        }
    }
}

/// Partitions as a heartbeat says them.
fn said(owned: &Partitions) -> Vec<TopicPartitions> {
    let topics = owned.iter().map(|(id, partitions)| {
        let partitions = partitions.iter().copied().collect();
        TopicPartitions::default().with_topic_id(foreign_id(*id)).with_partitions(partitions)
    });
    topics.collect()
}

/// The version, and what consumers tell each other in it.
fn embedded(what: &impl Encodable, version: i16) -> bytes::Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    what.encode(&mut bytes, version).expect("what consumers tell each other");
    bytes.freeze()
}

/// Gives each partition to one of the members that subscribe to its topic.
fn assignments(turn: &Turn<'_>, followers: &[JoinGroupResponseMember]) -> Vec<SyncGroupRequestAssignment> {
    let subscriptions = followers.iter().map(|member| {
        let mut metadata = member.metadata.slice(2.min(member.metadata.len())..);
        let version = member.metadata.get(..2).map_or(0, |bytes| i16::from_be_bytes([bytes[0], bytes[1]]));
        ConsumerProtocolSubscription::decode(&mut metadata, version).map(|said| said.topics).unwrap_or_default()
    });
    let subscriptions: Vec<_> = subscriptions.collect();
    let mut given: Vec<Vec<TopicPartition>> = vec![Vec::new(); followers.len()];
    for (topic, partitions) in turn.topics(false) {
        let takers: Vec<usize> =
            (0..followers.len()).filter(|n| subscriptions[*n].iter().any(|said| **said == *topic)).collect();
        for (n, taker) in takers.iter().enumerate() {
            let own = (0..partitions).filter(|p| *p as usize % takers.len() == n).collect();
            given[*taker].push(TopicPartition::default().with_topic(topic_name(&topic)).with_partitions(own));
        }
    }
    let told = followers.iter().zip(given).map(|(member, given)| {
        let assignment = ConsumerProtocolAssignment::default().with_assigned_partitions(given);
        SyncGroupRequestAssignment::default()
            .with_member_id(member.member_id.clone())
            .with_assignment(embedded(&assignment, 1))
    });
    told.collect()
}

impl Actor for GroupMember {
    fn act(&mut self, turn: &mut Turn<'_>) {
        let closing = turn.closing;
        let strays = self.asked.is_none() && self.phase == Phase::Inside && !closing && self.strays(turn);
        if self.asked.is_none() && !strays {
            match self.phase {
                Phase::Outside if closing && (!self.classic || self.id.is_empty()) => {}
                Phase::Outside if self.classic && !self.id.is_empty() => self.join_classic(turn),
                Phase::Outside => self.join(turn),
                Phase::Joined => self.sync(turn),
                Phase::Inside if self.classic => self.beat_classic(turn),
                Phase::Inside => self.beat(turn),
            }
        }
        if turn.again_us.is_none() {
            turn.again(20_000, 200_000);
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if self.asked.take_if(|asked| *asked == correlation).is_none() {
            return Err(format!("answer {correlation} to nothing"));
        }
        match answer {
            Answer::ConsumerGroupHeartbeat(response) => self.beaten(response),
            Answer::JoinGroup(response) if response.error_code == NONE => {
                (self.id, self.epoch) = (response.member_id.to_string(), response.generation_id);
                (self.followers, self.phase) = (response.members.clone(), Phase::Joined);
            }
            Answer::JoinGroup(response) => {
                self.failed(response.error_code);
                if response.error_code == MEMBER_ID_REQUIRED {
                    self.id = response.member_id.to_string();
                }
            }
            Answer::SyncGroup(response) if response.error_code == NONE => self.phase = Phase::Inside,
            Answer::SyncGroup(response) => self.failed(response.error_code),
            Answer::Heartbeat(response) => self.failed(response.error_code),
            _ => {}
        }
        let busy = self.phase == Phase::Joined || self.told.is_some();
        if busy && turn.rng.chance(60) {
            turn.again(0, 10_000);
        }
        Ok(())
    }

    fn disconnected(&mut self) {
        if self.asked.take().is_some() {
            self.says_all = true;
            if self.phase == Phase::Joined {
                self.phase = Phase::Outside;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none()
    }
}
