//! Owns a share group: its members, their epochs and assignments, and the partitions that it has begun to share.

use std::collections::{BTreeMap, BTreeSet};

use super::assignor::{self, Assignment, Candidate};
use super::partition::SharePartition;
use super::runs::Name;
use crate::broker::groups::TopicLookup;
use crate::wal::PartitionId;
use crate::wire::{ErrorCode, Uuid};

/// The epoch of a member that joins.
pub(super) const JOIN: i32 = 0;
/// The epoch of a member that leaves.
pub(super) const LEAVE: i32 = -1;

/// The epoch of a group without a single change, as in Kafka.
const FIRST_EPOCH: i32 = 1;

/// Bytes that a partition's number takes in an assignment, roughly.
const ASSIGNED_BYTES: usize = 8;

/// A member of a share group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub id: Name,
    pub rack: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    /// Names of the topics that it subscribes to.
    pub topics: BTreeSet<Name>,
    pub epoch: i32,
    /// The epoch before, which a member may still give when an answer was lost.
    pub previous_epoch: i32,
    /// What the member was told to fetch.
    pub assigned: Assignment,
    /// The member is to be told its assignment with the next heartbeat, whether it changed or not.
    pub resend: bool,
    /// Deadline of the session timer.
    pub session_us: Option<u64>,
}

impl Member {
    pub fn new(id: Name) -> Member {
        Member {
            id,
            rack: None,
            client_id: "".into(),
            client_host: "".into(),
            topics: BTreeSet::new(),
            epoch: JOIN,
            previous_epoch: JOIN,
            assigned: Assignment::new(),
            resend: false,
            session_us: None,
        }
    }

    /// Bytes that the member takes, roughly.
    pub fn bytes(&self) -> usize {
        let topics: usize = self.topics.iter().map(|topic| topic.len() + 48).sum();
        let assigned: usize = self.assigned.values().map(|partitions| 64 + partitions.len() * ASSIGNED_BYTES).sum();
        400 + self.id.len() + self.client_id.len() + self.client_host.len() + topics + 2 * assigned
    }

    /// Whether the member may speak with this epoch.
    pub fn check_epoch(&self, epoch: i32) -> Result<(), ErrorCode> {
        let known = epoch == JOIN || epoch == self.epoch || epoch == self.previous_epoch;
        known.then_some(()).ok_or(ErrorCode::FENCED_MEMBER_EPOCH)
    }
}

/// A share group.
#[derive(Debug)]
pub(super) struct ShareGroup {
    pub id: Name,
    /// Rises with each change of members, subscriptions or subscribed topics.
    pub epoch: i32,
    /// The epoch that `target` was made for.
    pub assignment_epoch: i32,
    pub members: BTreeMap<Name, Member>,
    target: BTreeMap<Name, Assignment>,
    /// Topics that the group has or had to do with, and their numbers of partitions: those for which it has a state.
    pub topics: BTreeMap<Uuid, i32>,
    /// Partitions whose start is known.
    pub partitions: BTreeMap<PartitionId, SharePartition>,
    /// Subscribed topics that exist, with their partitions, as the last epoch has them.
    subscribed: BTreeMap<Uuid, i32>,
    /// The change of topics up to which `subscribed` was looked at.
    pub seen: u64,
    /// When the last assignment was made, in monotonic µs.
    pub assigned_us: Option<u64>,
    /// What is counted of this group in the sum of bytes.
    pub counted_bytes: usize,
}

impl ShareGroup {
    pub fn new(id: Name) -> ShareGroup {
        ShareGroup {
            id,
            epoch: FIRST_EPOCH,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            topics: BTreeMap::new(),
            partitions: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            seen: 0,
            assigned_us: None,
            counted_bytes: 0,
        }
    }

    /// Kafka's name for the group's state.
    pub fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else {
            "Stable"
        }
    }

    /// Bytes that the group takes without its share partitions, roughly.
    pub fn bytes(&self) -> usize {
        let members: usize = self.members.values().map(Member::bytes).sum();
        400 + self.id.len() + members + (self.topics.len() + self.subscribed.len()) * 64
    }

    /// Whether the group has a state for the partition.
    pub fn knows(&self, id: PartitionId) -> bool {
        self.topics.get(&id.topic).is_some_and(|count| (0..*count).contains(&id.partition))
    }

    /// Looks at the subscribed topics again. True when they have changed.
    pub fn follow_topics(&mut self, topics: &dyn TopicLookup, seen: u64) -> bool {
        self.seen = seen;
        let names: BTreeSet<&Name> = self.members.values().flat_map(|member| &member.topics).collect();
        let found = names.iter().filter_map(|name| Some((topics.id_of(name)?, topics.partitions(name)?)));
        let found: BTreeMap<Uuid, i32> = found.collect();
        if found == self.subscribed {
            return false;
        }
        self.subscribed = found;
        true
    }

    /// Makes the assignment for this epoch. True when the group has got to do with more topics or partitions.
    pub fn assign(&mut self, topics: &dyn TopicLookup) -> bool {
        self.assignment_epoch = self.epoch;
        let candidates = self.members.values().map(|member| Candidate {
            topics: member.topics.iter().filter_map(|name| topics.id_of(name)).collect(),
            before: self.target.get(&member.id).unwrap_or(&member.assigned),
        });
        let candidates: Vec<Candidate<'_>> = candidates.collect();
        let assigned = assignor::assign(&candidates, &self.subscribed);
        self.target = self.members.keys().cloned().zip(assigned).collect();
        let mut grown = false;
        for (topic, count) in &self.subscribed {
            grown |= self.topics.get(topic).is_none_or(|known| known < count);
            self.topics.insert(*topic, *count);
        }
        grown
    }

    /// Gives a member its part of the assignment. True when its epoch has changed.
    pub fn reconcile(&mut self, member_id: &str) -> bool {
        let Some(member) = self.members.get_mut(member_id) else { return false };
        let target = self.target.get(member_id).cloned().unwrap_or_default();
        if member.assigned != target {
            member.assigned = target;
            member.resend = true;
        }
        if member.epoch == self.assignment_epoch {
            return false;
        }
        member.previous_epoch = member.epoch;
        member.epoch = self.assignment_epoch;
        true
    }

    /// After recovery: assigns anew; every member will be told.
    pub fn recovered(&mut self, topics: &dyn TopicLookup, seen: u64) {
        self.follow_topics(topics, seen);
        if self.members.is_empty() {
            return;
        }
        let known = self.topics.clone();
        self.assign(topics);
        // What the log does not know is begun with the next change, which is appended.
        if self.topics != known {
            self.topics = known;
            self.subscribed.clear();
            self.seen = u64::MAX;
        }
        for member in self.members.values_mut() {
            member.assigned = self.target.get(&member.id).cloned().unwrap_or_default();
            member.resend = true;
        }
    }

    /// Takes a member out; the group has another epoch then.
    pub fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.target.remove(member_id);
        self.epoch += 1;
        Some(member)
    }
}
