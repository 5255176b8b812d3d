//! Owns the group coordinator: classic groups, consumer groups and committed offsets, as a state machine without clock or
//! I/O.
//!
//! - `consumer/` has the groups whose assignment the broker makes (KIP-848); `kinds.rs` says of which kind a group is.
//! - `group.rs` has a classic group's data, `rebalance.rs` how it moves, `offsets.rs` the committed offsets and their expiry.
//! - `api.rs` decodes requests and encodes answers; `persist.rs` has the bytes in the log; `timers.rs` the one set of
//!   deadlines; `ctx.rs` what comes from outside.
//!
//! A change that has to last is appended (`Outbox::meta`) before the answer that tells of it (`Outbox::reply`), and the
//! receiver holds the answer back until the change is durable. A group is appended when its generation becomes stable,
//! when a static member is replaced, when it becomes empty and when it ends. A rebalance under way is not: after a crash
//! the members go on in the last stable generation, or join again.

mod api;
pub mod consumer;
mod ctx;
mod group;
mod kinds;
mod offsets;
mod patterns_wait;
mod persist;
pub(super) use persist::offset_of;
mod rebalance;
mod timers;
mod txn_offsets;

use std::collections::{BTreeMap, BTreeSet};

use super::effect::{ConnId, Now};
use super::metalog;
use super::reply::ReplyTo;
use crate::canary::{self, Fault};
use crate::limits;
use crate::wal::MetaEntry;
use crate::wire::{DecodeError, Uuid};

pub use api::GROUP_APIS;
pub use consumer::assign::Assignor;
pub use consumer::migrate::MigrationPolicy;
use consumer::patterns::Patterns;
pub use consumer::patterns::{match_topics, MatchDone, MatchJob};
pub use consumer::ConsumerState;
pub use ctx::{Client, Ctx, Node, Outbox, TopicLookup};
pub use group::GroupState;
use group::{Group, Name};
pub use kinds::GroupKind;
use patterns_wait::Waiting;
use timers::{Timer, Timers, What};
pub use txn_offsets::Collected;

/// The coordinator's settings, under Kafka's names.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`: a shorter session is refused.
    pub group_min_session_timeout_ms: i64,
    /// `group.max.session.timeout.ms`: a longer session is refused.
    pub group_max_session_timeout_ms: i64,
    /// `group.initial.rebalance.delay.ms`: how long an empty group gathers members; each new one stretches it.
    pub group_initial_rebalance_delay_ms: i64,
    /// `group.max.size`: members of one group; `limits::CONSUMER_GROUP_MEMBERS_MAX` holds in any case.
    pub group_max_size: usize,
    /// `group.consumer.session.timeout.ms`: how long a member of a consumer group may be silent.
    pub consumer_session_timeout_ms: i64,
    /// `group.consumer.heartbeat.interval.ms`: how often such a member is told to beat.
    pub consumer_heartbeat_interval_ms: i64,
    /// `group.consumer.assignment.interval.ms`: least time between two targets of a group.
    pub consumer_assignment_interval_ms: i64,
    /// `group.consumer.max.size`: members of one group; `limits::CONSUMER_GROUP_MEMBERS_MAX` holds in any case.
    pub consumer_max_size: usize,
    /// `group.consumer.assignors`: what members can ask for; the first is for those who do not.
    pub consumer_assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`.
    pub consumer_migration_policy: MigrationPolicy,
    /// `offsets.retention.minutes`, in ms.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: an empty group without offsets stays this long.
    pub offsets_retention_check_interval_ms: i64,
    /// `offset.metadata.max.bytes`: counted in UTF-16 units, as Kafka does.
    pub offset_metadata_max_bytes: usize,
}

impl Default for GroupSettings {
    /// Kafka's defaults.
    fn default() -> Self {
        GroupSettings {
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 3_000,
            group_max_size: usize::MAX,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_assignment_interval_ms: 1_000,
            consumer_max_size: usize::MAX,
            consumer_assignors: vec![Assignor::Uniform, Assignor::Range],
            consumer_migration_policy: MigrationPolicy::Bidirectional,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offsets_retention_check_interval_ms: 600_000,
            offset_metadata_max_bytes: 4096,
        }
    }
}

impl GroupSettings {
    fn initial_rebalance_delay_us(&self) -> u64 {
        self.group_initial_rebalance_delay_ms.max(0) as u64 * 1000
    }

    fn size_max(&self) -> usize {
        self.group_max_size.clamp(1, limits::CONSUMER_GROUP_MEMBERS_MAX)
    }

    fn consumer_size_max(&self) -> usize {
        self.consumer_max_size.clamp(1, limits::CONSUMER_GROUP_MEMBERS_MAX)
    }

    /// The assignor of a group whose members ask for none.
    fn usual_assignor(&self) -> Assignor {
        self.consumer_assignors.first().copied().unwrap_or(Assignor::Uniform)
    }
}

/// What became of a request that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// The answer was given to the outbox.
    Answered,
    /// The answer will come with a later event. Only the request's own connection has to wait.
    Parked,
    /// The body is not what the API and version describe; there is no answer.
    Malformed(DecodeError),
    /// Not an API of the group coordinator; there is no answer.
    NotOurs,
}

/// A committed offset, for the lag that the metrics show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
}

/// What a group needs of its surroundings while it handles an event.
struct Env<'a> {
    settings: &'a GroupSettings,
    timing: Timing,
    patterns: &'a Patterns,
    now: Now,
    timers: &'a mut Timers,
    parked: &'a mut Parked,
    out: &'a mut dyn Outbox,
}

/// What one group overrides of the settings; `None` where the settings hold (KIP-848's group configurations).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `consumer.session.timeout.ms`
    pub session_timeout_ms: Option<i64>,
    /// `consumer.heartbeat.interval.ms`
    pub heartbeat_interval_ms: Option<i64>,
    /// `consumer.assignment.interval.ms`
    pub assignment_interval_ms: Option<i64>,
}

/// What settings and overrides come to for one group.
#[derive(Clone, Copy, Debug)]
struct Timing {
    session_us: u64,
    heartbeat_interval_ms: i32,
    assignment_interval_us: u64,
}

impl Timing {
    fn new(settings: &GroupSettings, overrides: Option<&Overrides>) -> Timing {
        let overrides = overrides.copied().unwrap_or_default();
        let us = |ms: i64| ms.max(0) as u64 * 1000;
        let heartbeat_ms = overrides.heartbeat_interval_ms.unwrap_or(settings.consumer_heartbeat_interval_ms);
        let interval_ms = overrides.assignment_interval_ms.unwrap_or(settings.consumer_assignment_interval_ms);
        Timing {
            session_us: us(overrides.session_timeout_ms.unwrap_or(settings.consumer_session_timeout_ms)),
            heartbeat_interval_ms: heartbeat_ms.clamp(0, i64::from(i32::MAX)) as i32,
            assignment_interval_us: us(interval_ms),
        }
    }
}

/// The parked requests by connection and slot: whose they are.
type Parked = BTreeMap<(ConnId, u64), (Name, Name)>;

/// All groups of this broker.
#[derive(Debug)]
pub struct Groups {
    settings: GroupSettings,
    groups: BTreeMap<Name, Group>,
    /// Ids of groups that other rooms keep.
    claimed: BTreeMap<Name, GroupKind>,
    /// Kafka's names for the states of those groups.
    claimed_states: BTreeMap<Name, &'static str>,
    timers: Timers,
    parked: Parked,
    /// What groups override of the settings.
    overrides: BTreeMap<Name, Overrides>,
    patterns: Patterns,
    /// Requests that wait for a pattern.
    waiting: BTreeMap<(ConnId, u64), Waiting>,
    /// Sum of the groups' `counted_bytes`.
    bytes: usize,
    stopped: bool,
}

impl Groups {
    pub fn new(settings: GroupSettings) -> Groups {
        Groups {
            settings,
            groups: BTreeMap::new(),
            claimed: BTreeMap::new(),
            claimed_states: BTreeMap::new(),
            timers: Timers::default(),
            parked: Parked::new(),
            overrides: BTreeMap::new(),
            patterns: Patterns::default(),
            waiting: BTreeMap::new(),
            bytes: 0,
            stopped: false,
        }
    }

    /// Takes over an entry of the tables GROUP, OFFSET and TXN_OFFSET, in the order in which they were appended.
    ///
    /// # Errors
    /// An entry that this version can't read, with the group and what is wrong.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        let id = std::str::from_utf8(&entry.scope).map_err(|_| "a group's name is not UTF-8".to_string())?;
        let name: Name = id.into();
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group::new(name));
        let result = match entry.table {
            metalog::GROUP => apply_group(group, entry),
            metalog::OFFSET => apply_offset(group, entry),
            metalog::CONSUMER_GROUP => apply_consumer(group, entry),
            metalog::TXN_OFFSET => Groups::apply_txn_offset(group, entry),
            other => Err(format!("table {other} is not one of groups")),
        };
        self.settle(id);
        result.map_err(|error| format!("group {id:?}: {error}"))
    }

    /// The recovery is over: the members have their whole session to be heard of again, and offsets expire from now on.
    pub fn recovered(&mut self, now: Now) {
        let ids: Vec<Name> = self.groups.keys().cloned().collect();
        let size_max = self.settings.size_max();
        for id in ids {
            self.act(now, &mut Nowhere, &id, |group, env| {
                if group.recovered_consumer(env) {
                    return group.arm_offsets(env);
                }
                let members: Vec<Name> = group.members.keys().cloned().collect();
                members.iter().for_each(|member| group.touch(env, member));
                if members.len() > size_max {
                    group.prepare_rebalance(env);
                } else {
                    group.arm_offsets(env);
                }
            });
        }
    }

    /// The entries that make this state, as far as it was appended: groups, then their offsets and those of transactions.
    pub fn snapshot(&self, out: &mut Vec<MetaEntry>) {
        for group in self.groups.values() {
            if let Some(value) = &group.persisted {
                out.push(persist::group_value_entry(&group.id, Some(value.clone())));
            }
            if let Some(consumer) = group.consumer.as_ref().filter(|consumer| consumer.persisted) {
                out.extend(consumer::persist::all(&group.id, consumer, group.state_ms));
            }
            let offsets = group.offsets.iter();
            out.extend(offsets.map(|(topic, p, offset)| persist::offset_entry(&group.id, topic, p, Some(offset))));
            Groups::snapshot_txn_offsets(group, out);
        }
    }

    /// Carries out the timers that are due.
    pub fn expire(&mut self, ctx: &mut Ctx<'_>) {
        for due in self.timers.due(ctx.now.mono_us) {
            if !self.timers.take(&due) {
                continue;
            }
            let Timer { group: id, what } = due.1;
            let lookup = ctx.topics;
            let is_heard = |member: &Name| self.waiting.values().any(|waiting| waiting.is_of(&id, member));
            let is_heard = matches!(&what, What::Session(member) if is_heard(member));
            let ended = self.act(ctx.now, ctx.out, &id, |group, env| {
                match what {
                    // It came in time, and is carried out when a pattern is known.
                    What::Session(member) if is_heard => group.touch_member(env, &member),
                    what if what.is_of_member() && group.consumer.is_some() => group.member_expired(env, lookup, &what),
                    What::Session(member) => group.session_expired(env, &member),
                    What::Pending(member) => group.pending_gone(env, &member),
                    What::Join => group.join_expired(env),
                    What::Sync => group.sync_expired(env),
                    What::Offsets => return group.expire_offsets(env),
                    What::Revoke(_) | What::Rejoin(_) | What::MemberSync(_) => {}
                }
                false
            });
            if ended == Some(true) {
                self.end(ctx, &id);
            }
        }
    }

    /// When `expire` is next needed, in monotonic µs; `None` while nothing is timed.
    pub fn deadline_us(&self) -> Option<u64> {
        self.timers.next_us()
    }

    /// A connection is gone. Its member stays, still waiting as far as the group is concerned, until its session ends.
    pub fn disconnected(&mut self, conn: ConnId) {
        let waiting: Vec<_> = self.waiting.range((conn, 0)..=(conn, u64::MAX)).map(|(key, _)| *key).collect();
        waiting.iter().for_each(|key| drop(self.waiting.remove(key)));
        self.unpark(conn);
    }

    /// Nobody waits for the joins and syncs of a connection any more, as far as clients are concerned; their slots. The members
    /// stay as they are.
    pub fn unpark(&mut self, conn: ConnId) -> Vec<u64> {
        let keys: Vec<(ConnId, u64)> = self.parked.range((conn, 0)..=(conn, u64::MAX)).map(|(key, _)| *key).collect();
        for key in &keys {
            let Some((id, member_id)) = self.parked.remove(key) else { continue };
            let Some(member) = self.groups.get_mut(&id).and_then(|g| g.members.get_mut(&member_id)) else { continue };
            for waiting in [&mut member.join, &mut member.sync].into_iter().flatten() {
                if waiting.to.is_some_and(|to| (to.conn, to.slot) == *key) {
                    waiting.to = None;
                }
            }
        }
        keys.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Topics were deleted: what groups committed for them is forgotten. One look at each group, however many topics there are.
    pub fn topics_deleted(&mut self, ctx: &mut Ctx<'_>, names: &BTreeSet<String>) {
        if names.is_empty() {
            return;
        }
        let concerned = |g: &&Group| !g.offsets.topics_in(names).is_empty() || !g.pending_txn.is_empty();
        let ids: Vec<Name> = self.groups.values().filter(concerned).map(|g| g.id.clone()).collect();
        for id in ids {
            self.act(ctx.now, ctx.out, &id, |group, env| group.topics_deleted(env, names));
        }
    }

    /// The server stops: parked requests are answered, timers end, and nothing is parked any more.
    pub fn stop(&mut self, ctx: &mut Ctx<'_>) {
        self.stopped = true;
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            waiting.refuse(ctx);
        }
        let ids: Vec<Name> = self.groups.keys().cloned().collect();
        for id in ids {
            self.act(ctx.now, ctx.out, &id, |group, env| group.stop(env));
        }
    }

    /// All committed offsets.
    pub fn lag(&self) -> impl Iterator<Item = Committed<'_>> {
        self.groups.values().flat_map(|group| {
            group.offsets.iter().map(|(topic, partition, offset)| Committed {
                group: &group.id,
                topic,
                partition,
                offset: offset.offset,
            })
        })
    }

    /// Each group's name, state and number of members, in the order of names.
    pub fn states(&self) -> impl Iterator<Item = (&str, GroupState, usize)> {
        self.groups.values().map(|group| (&*group.id, group.state, group.members.len()))
    }

    /// How many groups there are.
    pub fn count(&self) -> usize {
        self.groups.len()
    }

    /// Bytes of memory that all groups take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many timers are set; each has a reason that ends.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// How many requests are parked whose connections are still there.
    pub fn parked(&self) -> usize {
        self.parked.len() + self.waiting.len()
    }

    /// What a group overrides of the settings from now on; members are told with their next answers.
    pub fn set_overrides(&mut self, group: &str, overrides: Overrides) {
        if overrides == Overrides::default() {
            self.overrides.remove(group);
        } else {
            self.overrides.insert(group.into(), overrides);
        }
    }

    /// Lets a group handle an event; `None` when there is no such group.
    fn act<R>(
        &mut self,
        now: Now,
        out: &mut dyn Outbox,
        id: &str,
        act: impl FnOnce(&mut Group, &mut Env<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let Groups { settings, timers, parked, patterns, overrides, .. } = self;
        let timing = Timing::new(settings, overrides.get(id));
        // All that an event appends is appended together, before anybody is told of it.
        let mut out = Together { out, entries: Vec::new() };
        let result = act(group, &mut Env { settings, timing, patterns, now, timers, parked, out: &mut out });
        out.flush();
        self.settle(id);
        Some(result)
    }

    /// Begins a group; false when there are too many, or too much in them.
    fn create(&mut self, id: &str) -> bool {
        if self.groups.contains_key(id) {
            return true;
        }
        if self.groups.len() >= limits::CONSUMER_GROUPS_MAX || self.is_full() {
            return false;
        }
        self.groups.insert(id.into(), Group::new(id.into()));
        true
    }

    fn is_full(&self) -> bool {
        self.bytes >= limits::CONSUMER_GROUPS_BYTES_MAX
    }

    /// Assignments of the groups that are there may take as much again.
    fn is_overfull(&self) -> bool {
        self.bytes >= 2 * limits::CONSUMER_GROUPS_BYTES_MAX
    }

    /// Counts the group's bytes anew, and forgets a group in which there is nothing.
    fn settle(&mut self, id: &str) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let nothing = group.is_nothing();
        let bytes = if nothing { 0 } else { group.bytes() };
        self.bytes = self.bytes + bytes - group.counted_bytes;
        group.counted_bytes = bytes;
        if nothing {
            let mut held = group.offsets_us.take();
            if let Some(group) = self.groups.remove(id) {
                self.timers.cancel(&mut held, &Timer { group: group.id, what: What::Offsets });
            }
        }
    }

    /// Ends a group: its offsets go with it.
    fn end(&mut self, ctx: &mut Ctx<'_>, id: &str) {
        self.act(ctx.now, ctx.out, id, |group, env| {
            group.cancel_all(env);
            let offsets: Vec<(Name, i32)> = group.offsets.iter().map(|(topic, p, _)| (topic.clone(), p)).collect();
            for (topic, partition) in offsets {
                group.remove_offset(env, &topic, partition);
            }
            group.forget_all_pending(env, |_| true);
            if group.persisted.is_some() {
                env.out.meta(persist::group_value_entry(&group.id, None));
            }
            if let Some(consumer) = group.consumer.as_ref().filter(|consumer| consumer.persisted) {
                env.out.metas(consumer::persist::none(&group.id, consumer));
            }
            // A group without anything is forgotten when the event is settled.
            group.reset();
        });
    }
}

fn apply_group(group: &mut Group, entry: &MetaEntry) -> Result<(), String> {
    match &entry.value {
        Some(value) => persist::read_group(group, value),
        None => {
            // What it is as a consumer group has entries of its own.
            let (consumer, state_ms) = (group.consumer.take(), group.state_ms);
            group.reset();
            if consumer.is_some() {
                (group.consumer, group.state_ms) = (consumer, state_ms);
            }
            Ok(())
        }
    }
}

fn apply_offset(group: &mut Group, entry: &MetaEntry) -> Result<(), String> {
    let (topic, partition) = persist::read_offset_key(&entry.key)?;
    match &entry.value {
        Some(_) if canary::has(Fault::OffsetBack) && group.offsets.get(topic, partition).is_some() => {}
        Some(value) => group.offsets.set(topic, partition, persist::read_offset(value)?),
        None => {
            group.offsets.remove(topic, partition);
        }
    }
    Ok(())
}

fn apply_consumer(group: &mut Group, entry: &MetaEntry) -> Result<(), String> {
    if let Some(empty_since_ms) = consumer::persist::apply(&mut group.consumer, entry)? {
        group.state_ms = empty_since_ms;
    }
    Ok(())
}

/// An outbox that gathers what is appended until somebody is answered, so that it becomes durable together.
struct Together<'a> {
    out: &'a mut dyn Outbox,
    entries: Vec<MetaEntry>,
}

impl Together<'_> {
    fn flush(&mut self) {
        if !self.entries.is_empty() {
            self.out.metas(std::mem::take(&mut self.entries));
        }
    }
}

impl Outbox for Together<'_> {
    fn reply(&mut self, to: ReplyTo, frame: Vec<u8>) {
        self.flush();
        self.out.reply(to, frame);
    }
    fn meta(&mut self, entry: MetaEntry) {
        self.entries.push(entry);
    }
    fn metas(&mut self, entries: Vec<MetaEntry>) {
        self.entries.extend(entries);
    }
    fn match_topics(&mut self, job: MatchJob) {
        self.out.match_topics(job);
    }
    fn random_uuid(&mut self) -> Uuid {
        self.out.random_uuid()
    }
}

/// The outbox of the recovery, in which nobody is there to be answered and nothing new is appended.
struct Nowhere;

impl Outbox for Nowhere {
    fn reply(&mut self, _: ReplyTo, _: Vec<u8>) {}
    fn meta(&mut self, _: MetaEntry) {}
    fn metas(&mut self, _: Vec<MetaEntry>) {}
    fn match_topics(&mut self, _: MatchJob) {}
    fn random_uuid(&mut self) -> Uuid {
        Uuid::ZERO
    }
}
