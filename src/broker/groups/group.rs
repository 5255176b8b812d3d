//! Owns a group's data: members, protocols, leader, generation, and the questions that need nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::super::reply::ReplyTo;
use super::consumer::patterns::Patterns;
use super::consumer::ConsumerGroup;
use super::kinds::GroupKind;
use super::offsets::Offsets;
use super::txn_offsets::TxnOffsets;
use crate::wire::msg::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, JoinGroupRequestProtocol};
use crate::wire::{ErrorCode, Reader, Wire};

/// A group id, member id, instance id, protocol or topic.
pub(super) type Name = Arc<str>;

/// The protocol type of consumers, the only one whose metadata the broker looks into.
pub(super) const CONSUMER: &str = "consumer";

/// Newest version of the consumers' subscription that is described.
const SUBSCRIPTION_VERSION_MAX: i16 = 3;

/// Kafka's states of a classic group. A dead group is one that is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// No members; perhaps offsets.
    Empty,
    /// Members are to join.
    PreparingRebalance,
    /// The generation has begun; the leader's assignment is awaited.
    CompletingRebalance,
    Stable,
}

impl GroupState {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

/// One way in which a member can work, and what it says to the leader about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    pub name: Name,
    pub metadata: Bytes,
}

/// A request that is parked. `None` once its connection is gone: the member still counts as waiting, as in Kafka.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub to: Option<ReplyTo>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub id: Name,
    /// Set for static members.
    pub instance: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// Waits for the answer to its first join, so it can't heartbeat yet.
    pub is_new: bool,
    pub join: Option<Waiting>,
    pub sync: Option<Waiting>,
    /// Deadline of the session timer.
    pub session_us: Option<u64>,
}

impl Member {
    /// Bytes that the member takes, roughly, in memory and in the group's log entry.
    pub fn bytes(&self) -> usize {
        let protocols: usize = self.protocols.iter().map(|p| p.name.len() + p.metadata.len() + 32).sum();
        let names = self.id.len() + self.client_id.len() + self.client_host.len();
        160 + names + self.instance.as_ref().map_or(0, |i| i.len()) + protocols + self.assignment.len()
    }

    /// Whether the member says exactly what it said before.
    pub fn matches(&self, protocols: &[Protocol]) -> bool {
        self.protocols == protocols
    }

    pub fn metadata(&self, protocol: Option<&str>) -> &[u8] {
        let found = self.protocols.iter().find(|p| Some(&*p.name) == protocol);
        found.map_or(&[], |p| &p.metadata)
    }

    /// Whether the session timer must not remove the member: it waits for an answer, so it cannot be heard of.
    pub fn is_waiting(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }
}

/// The join timer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JoinTimer {
    pub deadline_us: Option<u64>,
    /// Set while an empty group gathers its first members: how much longer (µs) the delay may be stretched.
    pub initial_remaining_us: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Group {
    pub id: Name,
    pub state: GroupState,
    /// Rises with each rebalance; 0 for a group that never had one.
    pub generation: i32,
    /// `None` for a group that only keeps offsets (a simple consumer's).
    pub protocol_type: Option<Name>,
    /// The protocol that the members of this generation use.
    pub protocol_name: Option<Name>,
    pub leader: Option<Name>,
    pub members: BTreeMap<Name, Member>,
    /// Instance id to member id.
    pub statics: BTreeMap<Name, Name>,
    /// Member ids handed out and not joined with yet, with their timers.
    pub pending: BTreeMap<Name, Option<u64>>,
    /// Bytes that these take, roughly.
    pub pending_bytes: usize,
    /// Members of this generation that have not asked for their assignment yet.
    pub pending_sync: BTreeSet<Name>,
    pub sync_us: Option<u64>,
    pub join_timer: JoinTimer,
    /// A member came while the first generation was gathering.
    pub new_member_added: bool,
    /// Topics that the consumers of this generation subscribe to; `None` when that isn't known, which counts as all.
    pub subscribed: Option<BTreeSet<Name>>,
    /// Wall clock (ms) at which the group became empty or stable; -1 before.
    pub state_ms: i64,
    pub offsets: Offsets,
    /// Set when this is a consumer group; then nothing of the above but `state_ms` and the offsets is used.
    pub consumer: Option<Box<ConsumerGroup>>,
    /// Offsets that become the group's when a transaction ends.
    pub pending_txn: TxnOffsets,
    pub offsets_us: Option<u64>,
    /// The group's value in the log, as last appended.
    pub persisted: Option<Bytes>,
    /// Bytes counted for this group in the sum of all groups.
    pub counted_bytes: usize,
    awaiting_join: usize,
    members_bytes: usize,
    /// For each protocol, how many members support it.
    supported: BTreeMap<Name, usize>,
}

impl Group {
    pub fn new(id: Name) -> Self {
        Group {
            id,
            state: GroupState::Empty,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_bytes: 0,
            pending_sync: BTreeSet::new(),
            sync_us: None,
            join_timer: JoinTimer::default(),
            new_member_added: false,
            subscribed: None,
            state_ms: -1,
            offsets: Offsets::default(),
            consumer: None,
            pending_txn: TxnOffsets::default(),
            offsets_us: None,
            persisted: None,
            counted_bytes: 0,
            awaiting_join: 0,
            members_bytes: 0,
            supported: BTreeMap::new(),
        }
    }

    /// The same group as if it had never had members; its offsets stay. No timer of it may be set.
    pub fn reset(&mut self) {
        let (id, counted_bytes, offsets) = (self.id.clone(), self.counted_bytes, std::mem::take(&mut self.offsets));
        let pending_txn = std::mem::take(&mut self.pending_txn);
        *self = Group { counted_bytes, offsets, pending_txn, ..Group::new(id) };
    }

    /// Bytes that the group takes, roughly.
    pub fn bytes(&self) -> usize {
        let persisted = self.persisted.as_ref().map_or(0, |p| p.len());
        let consumer = self.consumer.as_ref().map_or(0, |consumer| consumer.bytes());
        let offsets = self.offsets.bytes() + self.pending_txn.bytes();
        512 + self.id.len() + self.members_bytes + self.pending_bytes + persisted + offsets + consumer
    }

    /// Bytes of what a member has said it can do; none for who is no member.
    pub fn protocols_bytes(&self, member_id: &str) -> usize {
        let protocols = self.members.get(member_id).map_or(&[][..], |member| &member.protocols);
        protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
    }

    pub fn members_bytes(&self) -> usize {
        self.members_bytes
    }

    /// Nothing would be lost if the group were forgotten, and nobody was told a generation.
    pub fn is_nothing(&self) -> bool {
        let kept = self.persisted.is_some() || self.consumer.is_some();
        self.is_bare() && self.pending.is_empty() && !kept && self.generation == 0
    }

    /// Empty and without offsets, also such as are pending.
    pub fn is_bare(&self) -> bool {
        let offsets = !self.offsets.is_empty() || !self.pending_txn.is_empty();
        self.state == GroupState::Empty && !self.has_members() && !offsets
    }

    /// Of which kind it is; shared groups are kept elsewhere.
    pub fn kind(&self) -> GroupKind {
        match self.consumer {
            Some(_) => GroupKind::Consumer,
            None => GroupKind::Classic,
        }
    }

    /// Whether anybody is in the group, whatever its kind.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty() || self.consumer.as_ref().is_some_and(|consumer| !consumer.is_empty())
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub fn has_all_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending.is_empty()
    }

    /// How long the slowest member may take to join again.
    pub fn rebalance_timeout_us(&self) -> u64 {
        let longest = self.members.values().map(|m| m.rebalance_timeout_ms).max();
        longest.unwrap_or(0).max(0) as u64 * 1000
    }

    /// Whether one more request to join fits. While members gather, those that wait count; else all members.
    pub fn accepts(&self, member_id: &str, size_max: usize) -> bool {
        match self.state {
            GroupState::Empty => true,
            GroupState::PreparingRebalance => {
                self.awaiting_join < size_max || self.members.get(member_id).is_some_and(|m| m.join.is_some())
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.len() < size_max || self.members.contains_key(member_id)
            }
        }
    }

    /// Whether a member with these protocols can work with those that are there.
    pub fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        // When the last member has just gone, and somebody who was handed an id comes, any protocol will do.
        let all = self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| self.supported.get(&p.name).copied().unwrap_or(0) == all)
    }

    /// Whether the request's identity is that of a member: the rules of KIP-345.
    pub fn check_member(&self, member_id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if **current != *member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    /// Adds a member. The first one leads.
    pub fn add(&mut self, member: Member) {
        debug_assert!(!self.members.contains_key(&member.id), "a member comes twice");
        self.leader.get_or_insert_with(|| member.id.clone());
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        self.count(&member);
        self.awaiting_join += usize::from(member.join.is_some());
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out; the first of the others leads if it did. Its timer and parked requests are the caller's.
    pub fn take(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.uncount(&member);
        self.awaiting_join -= usize::from(member.join.is_some());
        if let Some(instance) = &member.instance {
            if self.statics.get(instance) == Some(&member.id) {
                self.statics.remove(instance);
            }
        }
        self.pending_sync.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Puts a static member's successor in its place, leadership included.
    pub fn succeed(&mut self, old_id: &str, successor: Member) {
        let led = self.is_leader(old_id);
        let syncing = self.pending_sync.contains(old_id);
        self.take(old_id);
        if led {
            self.leader = Some(successor.id.clone());
        }
        if syncing {
            self.pending_sync.insert(successor.id.clone());
        }
        self.add(successor);
    }

    /// Takes over what a member says when it joins again.
    pub fn update(&mut self, member_id: &str, protocols: Vec<Protocol>, session_ms: i32, rebalance_ms: i32) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        self.uncount(&member);
        member.protocols = protocols;
        member.session_timeout_ms = session_ms;
        member.rebalance_timeout_ms = rebalance_ms;
        self.count(&member);
        self.members.insert(member.id.clone(), member);
    }

    /// Gives a member its part of the leader's assignment.
    pub fn assign(&mut self, member_id: &str, assignment: Bytes) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        self.members_bytes = self.members_bytes + assignment.len() - member.assignment.len();
        member.assignment = assignment;
    }

    /// Notes that the member's join waits; a request that it left waiting before is returned.
    pub fn park_join(&mut self, member_id: &str, to: ReplyTo) -> Option<Waiting> {
        let member = self.members.get_mut(member_id)?;
        let before = member.join.replace(Waiting { to: Some(to) });
        self.awaiting_join += usize::from(before.is_none());
        before
    }

    pub fn take_join(&mut self, member_id: &str) -> Option<Waiting> {
        let before = self.members.get_mut(member_id)?.join.take();
        self.awaiting_join -= usize::from(before.is_some());
        before
    }

    /// Keeps the leader if it joined again, else picks one that did. False when nobody did.
    pub fn elect_leader(&mut self) -> bool {
        let joined = |m: &Member| m.join.is_some();
        if self.leader.as_ref().and_then(|l| self.members.get(l)).is_some_and(joined) {
            return true;
        }
        match self.members.values().find(|m| joined(m)) {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// The protocol for all members: each votes for the first of its own that all support. With equal votes the leader's
    /// order decides, so that the outcome doesn't hang on chance.
    pub fn select_protocol(&self) -> Option<Name> {
        let all = self.members.len();
        let common = |p: &&Protocol| self.supported.get(&p.name) == Some(&all);
        let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(first) = member.protocols.iter().find(common) {
                *votes.entry(&first.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        let leader = self.leader.as_ref().and_then(|l| self.members.get(l));
        let by_leader = leader.and_then(|l| l.protocols.iter().find(|p| votes.get(&p.name) == Some(&most)));
        let any = || votes.iter().find(|(_, n)| **n == most).map(|(name, _)| (*name).clone());
        by_leader.map(|p| p.name.clone()).or_else(any)
    }

    /// Begins the next generation: with members it awaits their assignment, without it is empty.
    pub fn init_next_generation(&mut self, wall_ms: i64) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.new_member_added = false;
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol_name = None;
            self.leader = None;
            self.state = GroupState::Empty;
            self.state_ms = wall_ms;
        } else {
            self.protocol_name = self.select_protocol();
            self.state = GroupState::CompletingRebalance;
        }
        self.subscribed = self.subscriptions();
    }

    /// The topics that the members subscribe to; `None` when they aren't consumers or one of them can't be read.
    pub fn subscriptions(&self) -> Option<BTreeSet<Name>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        let mut topics: BTreeSet<Name> = BTreeSet::new();
        for member in self.members.values() {
            for topic in subscription_topics(member.metadata(self.protocol_name.as_deref()))? {
                if !topics.contains(topic) {
                    topics.insert(topic.into());
                }
            }
        }
        Some(topics)
    }

    pub fn is_subscribed(&self, topic: &str, patterns: &Patterns) -> bool {
        if let Some(consumer) = &self.consumer {
            return consumer.is_subscribed(topic, patterns);
        }
        self.subscribed.as_ref().is_none_or(|topics| topics.contains(topic))
    }

    fn count(&mut self, member: &Member) {
        self.members_bytes += member.bytes();
        for protocol in &member.protocols {
            *self.supported.entry(protocol.name.clone()).or_default() += 1;
        }
    }

    fn uncount(&mut self, member: &Member) {
        self.members_bytes -= member.bytes();
        for protocol in &member.protocols {
            if let Some(n) = self.supported.get_mut(&protocol.name) {
                *n -= 1;
                if *n == 0 {
                    self.supported.remove(&protocol.name);
                }
            }
        }
    }
}

/// Copies the protocols out of the frame. Of two with one name the first counts, as in Kafka.
pub(super) fn copy_protocols(protocols: &[JoinGroupRequestProtocol<'_>]) -> Vec<Protocol> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let unique = protocols.iter().filter(|p| seen.insert(p.name));
    unique.map(|p| Protocol { name: p.name.into(), metadata: Bytes::copy_from_slice(p.metadata) }).collect()
}

/// The topics in a consumer's metadata; `None` when it can't be read.
pub(super) fn subscription_topics(metadata: &[u8]) -> Option<BTreeSet<&str>> {
    Some(subscription_of(metadata)?.topics.into_iter().collect())
}

/// A consumer's metadata; `None` when it can't be read. Newer versions only add at the end.
pub(super) fn subscription_of(metadata: &[u8]) -> Option<ConsumerProtocolSubscription<'_>> {
    let version = i16::from_be_bytes(metadata.get(..2)?.try_into().ok()?);
    if version < 0 {
        return None;
    }
    let mut reader = Reader::new(&metadata[2..], version.min(SUBSCRIPTION_VERSION_MAX), false);
    ConsumerProtocolSubscription::read(&mut reader).ok()
}

/// A consumer's assignment; `None` when it can't be read.
pub(super) fn assignment_of(assignment: &[u8]) -> Option<ConsumerProtocolAssignment<'_>> {
    let version = i16::from_be_bytes(assignment.get(..2)?.try_into().ok()?);
    if version < 0 {
        return None;
    }
    let mut reader = Reader::new(&assignment[2..], version.min(SUBSCRIPTION_VERSION_MAX), false);
    ConsumerProtocolAssignment::read(&mut reader).ok()
}
