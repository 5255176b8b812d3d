//! Owns share groups (KIP-932): members that share partitions record by record, with locks, acknowledgements and delivery
//! counts, as in Kafka 4.3.
//!
//! - `group.rs` has a group and its members, `members.rs` their heartbeats, `assignor.rs` who fetches from where.
//! - `partition.rs` has a share partition (on `runs.rs`), `session.rs` the sessions, `fetch.rs` ShareFetch and `take.rs`
//!   how it takes records, `acknowledge.rs` ShareAcknowledge.
//! - `offsets.rs` has the administrators' view, `state_apis.rs` the APIs that brokers use among themselves in Kafka.
//! - `persist.rs` has the bytes in the log, `settings.rs` the settings.
//!
//! What a member acknowledged is appended before it is answered, and the answer waits for it. What is acquired is not
//! kept: after a crash it is to be handed out again, and the delivery that was under way does not count, as in Kafka. Where
//! a group starts in a partition is kept from the first fetch on, so that a crash moves it for no group that starts at the
//! end; Kafka keeps it from the first acknowledgement on.

mod acknowledge;
mod assignor;
mod fetch;
mod group;
mod members;
mod offsets;
mod partition;
mod persist;
mod runs;
mod session;
pub mod settings;
mod state_apis;
mod take;

use std::collections::{BTreeMap, BTreeSet};

use self::fetch::Fetches;
use self::group::ShareGroup;
use self::partition::{Change, SharePartition};
use self::persist::ShareChange;
use self::runs::Name;
use self::session::Sessions;
use self::settings::{GroupSettings, ShareSettings};
use super::dispatch::Request;
use super::groups::GroupKind;
use super::{Broker, ConnId, Now};
use crate::limits;
use crate::wal::{MetaEntry, PartitionId};
use crate::wire::msg::DeleteGroupsRequest;
use crate::wire::{self, ApiKey, DecodeError, Uuid};

pub use runs::RecordState;

/// The APIs of share groups.
pub(super) const SHARE_APIS: [ApiKey; 12] = [
    ApiKey::SHARE_GROUP_HEARTBEAT,
    ApiKey::SHARE_GROUP_DESCRIBE,
    ApiKey::SHARE_FETCH,
    ApiKey::SHARE_ACKNOWLEDGE,
    ApiKey::INITIALIZE_SHARE_GROUP_STATE,
    ApiKey::READ_SHARE_GROUP_STATE,
    ApiKey::WRITE_SHARE_GROUP_STATE,
    ApiKey::DELETE_SHARE_GROUP_STATE,
    ApiKey::READ_SHARE_GROUP_STATE_SUMMARY,
    ApiKey::DESCRIBE_SHARE_GROUP_OFFSETS,
    ApiKey::ALTER_SHARE_GROUP_OFFSETS,
    ApiKey::DELETE_SHARE_GROUP_OFFSETS,
];

/// What is timed. Whoever sets a timer keeps its deadline, which finds it again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A member has been silent for too long.
    Session(Name, Name),
    /// The first lock of a share partition ends.
    Lock(Name, PartitionId),
    /// A parked fetch has waited as long as its client allows.
    Fetch(u64),
}

/// All share groups, sessions and fetches.
#[derive(Debug)]
pub struct ShareGroups {
    settings: ShareSettings,
    groups: BTreeMap<Name, ShareGroup>,
    /// Of groups that have set something for themselves.
    own_settings: BTreeMap<Name, GroupSettings>,
    sessions: Sessions,
    fetches: Fetches,
    timers: BTreeSet<(u64, Timer)>,
    /// Sum of the groups' `counted_bytes`.
    bytes: usize,
}

impl ShareGroups {
    pub fn new(settings: ShareSettings) -> ShareGroups {
        ShareGroups {
            settings,
            groups: BTreeMap::new(),
            own_settings: BTreeMap::new(),
            sessions: Sessions::default(),
            fetches: Fetches::default(),
            timers: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// What holds for a group that has set something for itself, whether or not it is there yet; `None` when it has not.
    /// It holds from the group's next event on.
    pub fn set_overrides(&mut self, group: &str, settings: Option<GroupSettings>) {
        match settings {
            Some(settings) => self.own_settings.insert(group.into(), settings),
            None => self.own_settings.remove(group),
        };
    }

    /// Each group's name, state and number of members, in the order of names.
    pub fn states(&self) -> impl Iterator<Item = (&str, &'static str, usize)> {
        self.groups.values().map(|group| (&*group.id, group.state(), group.members.len()))
    }

    /// Bytes of memory that groups and sessions take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes + self.sessions.bytes()
    }

    /// Takes over an entry of the tables SHARE_GROUP and SHARE_STATE, in the order in which they were appended.
    ///
    /// # Errors
    /// An entry that this version can't read, with the group and what is wrong.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        let id = std::str::from_utf8(&entry.scope).map_err(|_| "a share group's name is not UTF-8".to_owned())?;
        let change = persist::read(entry).map_err(|error| format!("share group {id:?}: {error}"))?;
        let group = self.groups.entry(id.into()).or_insert_with(|| ShareGroup::new(id.into()));
        match change {
            ShareChange::Group { epoch, topics } => {
                group.epoch = epoch;
                group.topics = topics.into_iter().collect();
                group.partitions.retain(|id, _| group.topics.contains_key(&id.topic));
            }
            ShareChange::RemoveGroup => {
                self.groups.remove(id);
            }
            ShareChange::Member(member) => {
                group.members.insert(member.id.clone(), *member);
            }
            ShareChange::RemoveMember(member) => {
                group.members.remove(&*member);
            }
            ShareChange::State(id, partition) => {
                group.partitions.insert(id, *partition);
            }
            ShareChange::RemoveState(id) => {
                group.partitions.remove(&id);
            }
        }
        Ok(())
    }

    /// The entries that make this state, as far as it was appended.
    pub fn snapshot(&self, out: &mut Vec<MetaEntry>) {
        for group in self.groups.values() {
            out.push(persist::group_entry(group));
            out.extend(group.members.values().map(|m| persist::member_entry(&group.id, &m.id, Some(m))));
            out.extend(group.partitions.iter().map(|(id, p)| persist::state_entry(&group.id, *id, Some(p))));
        }
    }

    /// When something is next due, in monotonic µs.
    pub fn deadline_us(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn of_group(&self, group: &str) -> GroupSettings {
        self.own_settings.get(group).copied().unwrap_or(self.settings.defaults)
    }

    fn partition_mut(&mut self, group: &str, id: PartitionId) -> Option<&mut SharePartition> {
        self.groups.get_mut(group)?.partitions.get_mut(&id)
    }

    fn is_full(&self) -> bool {
        self.bytes() >= limits::SHARE_BYTES_MAX
    }

    /// Counts a group's bytes anew.
    fn settle(&mut self, group: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            let partitions: usize = group.partitions.values().map(SharePartition::bytes).sum();
            let bytes = group.bytes() + partitions;
            self.bytes = self.bytes + bytes - group.counted_bytes;
            group.counted_bytes = bytes;
        }
    }

    /// Counts what a share partition has grown or shrunk by.
    fn grown(&mut self, group: &str, before: usize, after: usize) {
        if let Some(group) = self.groups.get_mut(group) {
            group.counted_bytes = (group.counted_bytes + after).saturating_sub(before);
            self.bytes = (self.bytes + after).saturating_sub(before);
        }
    }

    /// Sets the timer for the locks of a share partition to the first that ends.
    fn arm_locks(&mut self, group: &str, id: PartitionId) {
        let Some(entry) = self.groups.get_mut(group) else { return };
        let name = entry.id.clone();
        let Some(partition) = entry.partitions.get_mut(&id) else { return };
        let next = partition.next_lock_us();
        if next == partition.timer_us {
            return;
        }
        let timer = Timer::Lock(name, id);
        if let Some(at) = partition.timer_us.take() {
            self.timers.remove(&(at, timer.clone()));
        }
        partition.timer_us = next;
        if let Some(at) = next {
            self.timers.insert((at, timer));
        }
    }

    /// Takes a share partition out, with its timer.
    fn remove_partition(&mut self, group: &str, id: PartitionId) -> bool {
        let Some(entry) = self.groups.get_mut(group) else { return false };
        let name = entry.id.clone();
        let Some(partition) = entry.partitions.remove(&id) else { return false };
        if let Some(at) = partition.timer_us {
            self.timers.remove(&(at, Timer::Lock(name, id)));
        }
        self.grown(group, partition.bytes(), 0);
        true
    }
}

/// What the rooms of share groups share.
impl Broker {
    pub(super) fn share_request(&mut self, key: ApiKey, request: &Request<'_>) -> Result<(), DecodeError> {
        match key {
            ApiKey::SHARE_GROUP_HEARTBEAT => self.share_group_heartbeat(request),
            ApiKey::SHARE_GROUP_DESCRIBE => self.share_group_describe(request),
            ApiKey::SHARE_FETCH => self.share_fetch(request),
            ApiKey::SHARE_ACKNOWLEDGE => self.share_acknowledge(request),
            ApiKey::INITIALIZE_SHARE_GROUP_STATE => self.initialize_share_group_state(request),
            ApiKey::READ_SHARE_GROUP_STATE => self.read_share_group_state(request),
            ApiKey::WRITE_SHARE_GROUP_STATE => self.write_share_group_state(request),
            ApiKey::DELETE_SHARE_GROUP_STATE => self.delete_share_group_state(request),
            ApiKey::READ_SHARE_GROUP_STATE_SUMMARY => self.read_share_group_state_summary(request),
            ApiKey::DESCRIBE_SHARE_GROUP_OFFSETS => self.describe_share_group_offsets(request),
            ApiKey::ALTER_SHARE_GROUP_OFFSETS => self.alter_share_group_offsets(request),
            _ => self.delete_share_group_offsets(request),
        }
    }

    /// Tells the one namespace of groups in which state a share group is.
    fn note_share_state(&mut self, group: &str) {
        if let Some(group) = self.share.groups.get(group) {
            self.groups.note_state(&group.id, group.state());
        }
    }

    /// Lets a share partition change, appends the change, and counts and times what follows. Wakes nobody.
    fn with_share<R>(
        &mut self,
        group: &str,
        id: PartitionId,
        act: impl FnOnce(&mut SharePartition) -> (R, Change),
    ) -> Option<(R, Change)> {
        let partition = self.share.partition_mut(group, id)?;
        let before = partition.bytes();
        let (result, change) = act(partition);
        let after = partition.bytes();
        let entry = change.durable.then(|| persist::state_entry(group, id, Some(partition)));
        self.share.grown(group, before, after);
        self.share.arm_locks(group, id);
        // On a full disk a release or the end of a lock is not kept: after a crash the record is available in any case.
        if let Some(entry) = entry.filter(|_| self.has_space_for_groups()) {
            self.append_meta(entry);
        }
        Some((result, change))
    }

    /// The recovery is over: members have their whole session to be heard of again.
    pub(super) fn share_recovered(&mut self, now: Now) {
        let names: Vec<Name> = self.share.groups.keys().cloned().collect();
        for name in names {
            self.groups.claim_recovered(&name, GroupKind::Share);
            self.note_share_state(&name);
            let Some(group) = self.share.groups.get_mut(&name) else { continue };
            group.topics.retain(|topic, _| self.topics.by_id(*topic).is_some());
            group.partitions.retain(|id, _| self.topics.partition(*id).is_some());
            group.recovered(&self.topics, self.topics.changes());
            for (id, partition) in &mut group.partitions {
                if let Some(found) = self.topics.partition(*id) {
                    partition.log_starts_at(found.log.start_offset);
                }
            }
            self.share.settle(&name);
            self.touch_all_members(now, &name);
        }
    }

    fn touch_all_members(&mut self, now: Now, group: &Name) {
        let members: Vec<Name> =
            self.share.groups.get(group).map_or_else(Vec::new, |g| g.members.keys().cloned().collect());
        for member in members {
            self.touch_share_member(now, group, &member);
        }
    }

    /// Carries out the timers that are due.
    pub(super) fn expire_share(&mut self, now: Now) {
        if self.stopping {
            return;
        }
        while let Some((at, _)) = self.share.timers.first() {
            if *at > now.mono_us {
                break;
            }
            let Some((_, timer)) = self.share.timers.pop_first() else { break };
            match timer {
                Timer::Session(group, member) => self.share_session_expired(now, &group, &member),
                Timer::Lock(group, id) => self.share_locks_expired(now, &group, id),
                Timer::Fetch(id) => self.share_fetch_timed_out(now, id),
            }
        }
    }

    /// When `expire_share` is next needed, in monotonic µs.
    pub(super) fn share_deadline_us(&self) -> Option<u64> {
        self.share.deadline_us().filter(|_| !self.stopping)
    }

    fn share_locks_expired(&mut self, now: Now, group: &Name, id: PartitionId) {
        let deliveries_max = self.share.of_group(group).delivery_count_limit;
        if let Some(partition) = self.share.partition_mut(group, id) {
            partition.timer_us = None;
        }
        let changed = self.with_share(group, id, |partition| ((), partition.expire(now.mono_us, deliveries_max)));
        if changed.is_some_and(|(_, change)| change.available) {
            self.wake_share_fetches(now, id, Some(group));
        }
    }

    /// A connection is gone: its parked fetch and its sessions go with it, and what was acquired in them is given back.
    pub(super) fn share_disconnected(&mut self, now: Now, conn: ConnId) {
        self.drop_share_fetch_of(now, conn);
        if self.stopping {
            return;
        }
        for (group, member) in self.share.sessions.of_conn(conn) {
            self.end_share_session(now, &group, &member);
        }
    }

    /// Ends a member's session, and gives back what it has acquired in the session's partitions.
    fn end_share_session(&mut self, now: Now, group: &Name, member: &Name) {
        let Some(partitions) = self.share.sessions.remove(&(group.clone(), member.clone())) else { return };
        let deliveries_max = self.share.of_group(group).delivery_count_limit;
        for id in partitions {
            let changed = self.with_share(group, id, |partition| ((), partition.release(member, deliveries_max)));
            if changed.is_some_and(|(_, change)| change.available) {
                self.wake_share_fetches(now, id, Some(group));
            }
        }
    }

    /// A topic is gone, and with it all that groups have of it. The entry that deletes it is appended already.
    pub(super) fn share_topic_deleted(&mut self, now: Now, topic: Uuid) {
        let concerned = self.share.groups.values().filter(|group| group.topics.contains_key(&topic));
        let names: Vec<Name> = concerned.map(|group| group.id.clone()).collect();
        for name in names {
            let entries = self.forget_share_topic(&name, topic);
            // On a full disk the topic's own entry is enough: recovery passes over states of topics that are gone.
            if self.has_space_for_groups() {
                entries.into_iter().for_each(|entry| {
                    self.append_meta(entry);
                });
            }
        }
        self.wake_share_fetches_of_topic(now, topic);
    }

    /// Takes out all that a group has of a topic; the entries that say so.
    fn forget_share_topic(&mut self, name: &Name, topic: Uuid) -> Vec<MetaEntry> {
        let mut entries = Vec::new();
        let Some(group) = self.share.groups.get_mut(name) else { return entries };
        group.topics.remove(&topic);
        let first = PartitionId { topic, partition: 0 };
        let last = PartitionId { topic, partition: i32::MAX };
        let ids: Vec<PartitionId> = group.partitions.range(first..=last).map(|(id, _)| *id).collect();
        for id in ids {
            self.share.remove_partition(name, id);
            entries.push(persist::state_entry(name, id, None));
        }
        self.share.settle(name);
        entries.extend(self.share.groups.get(name).map(persist::group_entry));
        entries
    }

    /// A partition's log begins later now.
    pub(super) fn share_log_start_moved(&mut self, now: Now, id: PartitionId, start_offset: i64) {
        let concerned = self.share.groups.values().filter(|group| group.partitions.contains_key(&id));
        let names: Vec<Name> = concerned.map(|group| group.id.clone()).collect();
        for name in names {
            self.with_share(&name, id, |partition| {
                partition.log_starts_at(start_offset);
                ((), Change::default())
            });
            self.wake_share_fetches(now, id, Some(&name));
        }
    }

    /// Share groups that are to be deleted end, if they have no members; DeleteGroups then finds them dead.
    pub(super) fn end_share_groups_of(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DeleteGroupsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        for id in request.groups_names {
            if self.share.groups.get(id).is_some_and(|group| group.members.is_empty()) {
                self.end_share_group(id);
                self.groups.note_state(id, "Dead");
            }
        }
        Ok(())
    }

    /// Ends a share group that has no members: all that it has goes.
    fn end_share_group(&mut self, name: &str) {
        let Some(group) = self.share.groups.get(name) else { return };
        let name = group.id.clone();
        let ids: Vec<PartitionId> = group.partitions.keys().copied().collect();
        for id in ids {
            self.share.remove_partition(&name, id);
            self.append_meta(persist::state_entry(&name, id, None));
        }
        self.append_meta(persist::removed_group_entry(&name));
        if let Some(group) = self.share.groups.remove(&name) {
            self.share.bytes -= group.counted_bytes;
        }
    }
}
