//! Owns a member of a consumer group: what it subscribes to, what it owns, what it is to own, and its timers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::group::{Name, Protocol};
use crate::wire::Uuid;

/// Member epoch of a request that joins, or joins again.
pub(in super::super) const JOINS: i32 = 0;

/// Member epoch of a request that leaves.
pub(in super::super) const LEAVES: i32 = -1;

/// Member epoch of a request in which a static member leaves for a while, and the epoch that it has meanwhile.
pub(in super::super) const LEAVES_FOR_A_WHILE: i32 = -2;

/// Partitions by topic, without topics that have none.
pub(in super::super) type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions that a member owns, each with the epoch in which it was given to it.
pub(in super::super) type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// Where a member stands on its way to the target assignment; Kafka's states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum MemberState {
    /// It has all that the target gives it, as of its epoch.
    #[default]
    Stable,
    /// It is to give partitions up first, and has not said yet that it did.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given up yet.
    UnreleasedPartitions,
}

/// What a member that speaks the classic protocol brought with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Classic {
    pub session_timeout_ms: i32,
    /// In its order of preference; there is at least one.
    pub protocols: Vec<Protocol>,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Subscription {
    /// Set for static members.
    pub instance: Option<Name>,
    pub rack: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    /// How long it may take to give partitions up; -1 when it never said.
    pub rebalance_timeout_ms: i32,
    pub topics: Arc<BTreeSet<Name>>,
    /// A regular expression for more topics; `None` for none.
    pub pattern: Option<Name>,
    pub assignor: Option<Name>,
    pub classic: Option<Classic>,
}

impl Subscription {
    /// Bytes that it takes, roughly.
    fn bytes(&self) -> usize {
        let names = [&self.instance, &self.rack, &self.pattern, &self.assignor];
        let names: usize = names.iter().filter_map(|name| name.as_ref()).map(|name| name.len()).sum();
        let topics: usize = self.topics.iter().map(|topic| topic.len() + 48).sum();
        let classic = self.classic.iter().flat_map(|classic| &classic.protocols);
        let classic: usize = classic.map(|p| p.name.len() + p.metadata.len() + 32).sum();
        names + self.client_id.len() + self.client_host.len() + topics + classic
    }
}

/// What a member owns, and in which epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Current {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Owned,
    /// What it is to give up; until then nobody else gets it.
    pub revoking: Owned,
}

impl Current {
    pub fn advance_to(&mut self, epoch: i32) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
    }

    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// In which epoch the partition was given to the member, if it has it.
    pub fn assigned_in(&self, topic: Uuid, partition: i32) -> Option<i32> {
        let of = |owned: &Owned| owned.get(&topic)?.get(&partition).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }

    /// Every partition that nobody else may have.
    pub fn held(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        let both = self.assigned.iter().chain(&self.revoking);
        both.flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
    }

    fn held_count(&self) -> usize {
        self.assigned.values().chain(self.revoking.values()).map(|partitions| partitions.len()).sum()
    }
}

/// Deadlines of a member's timers, in monotonic µs.
#[derive(Debug, Default)]
pub(in super::super) struct Deadlines {
    pub session_us: Option<u64>,
    /// To give up what is to be given up.
    pub revoke_us: Option<u64>,
    /// For members of the classic protocol: to join again, and to fetch the assignment.
    pub rejoin_us: Option<u64>,
    pub sync_us: Option<u64>,
}

#[derive(Debug)]
pub(in super::super) struct Member {
    pub id: Name,
    pub subscription: Subscription,
    pub current: Current,
    pub target: Partitions,
    pub deadlines: Deadlines,
}

impl Member {
    pub fn new(id: Name) -> Member {
        Member {
            id,
            subscription: Subscription { rebalance_timeout_ms: -1, ..Subscription::default() },
            current: Current::default(),
            target: Partitions::new(),
            deadlines: Deadlines::default(),
        }
    }

    pub fn is_classic(&self) -> bool {
        self.subscription.classic.is_some()
    }

    /// Bytes that the member takes, roughly.
    pub fn bytes(&self) -> usize {
        let target: usize = self.target.values().map(|partitions| 48 + partitions.len() * 8).sum();
        let topics = self.current.assigned.len() + self.current.revoking.len();
        400 + 2 * self.id.len() + self.subscription.bytes() + target + topics * 48 + self.current.held_count() * 64
    }
}

/// The member's partitions in the order in which answers tell them.
pub(in super::super) fn partitions_of(owned: &Owned) -> impl Iterator<Item = (Uuid, Vec<i32>)> + '_ {
    owned.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()))
}
