//! Owns the group coordinator: classic consumer groups and committed offsets, as a state machine without clock or I/O.
//!
//! - `group.rs` has a group's data, `rebalance.rs` how it moves, `offsets.rs` the committed offsets and their expiry.
//! - `api.rs` decodes requests and encodes answers; `persist.rs` has the bytes in the log; `timers.rs` the one set of
//!   deadlines; `ctx.rs` what comes from outside.
//!
//! A change that has to last is appended (`Outbox::meta`) before the answer that tells of it (`Outbox::reply`), and the
//! receiver holds the answer back until the change is durable. A group is appended when its generation becomes stable,
//! when a static member is replaced, when it becomes empty and when it ends. A rebalance under way is not: after a crash
//! the members go on in the last stable generation, or join again.

mod api;
mod ctx;
mod group;
mod kinds;
mod offsets;
mod persist;
mod rebalance;
mod timers;

use std::collections::BTreeMap;

use super::effect::{ConnId, Now};
use super::metalog;
use super::reply::ReplyTo;
use crate::limits;
use crate::wal::MetaEntry;
use crate::wire::{DecodeError, Uuid};

pub use api::GROUP_APIS;
pub use ctx::{Client, Ctx, Node, Outbox, TopicLookup};
pub use group::GroupState;
use group::{Group, Name};
pub use kinds::GroupKind;
use timers::{Timer, Timers, What};

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
    now: Now,
    timers: &'a mut Timers,
    parked: &'a mut Parked,
    out: &'a mut dyn Outbox,
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
            bytes: 0,
            stopped: false,
        }
    }

    /// Takes over an entry of the tables GROUP and OFFSET, in the order in which they were appended.
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

    /// The entries that make this state, as far as it was appended: groups, then their offsets.
    pub fn snapshot(&self, out: &mut Vec<MetaEntry>) {
        for group in self.groups.values() {
            if let Some(value) = &group.persisted {
                out.push(persist::group_value_entry(&group.id, Some(value.clone())));
            }
            let offsets = group.offsets.iter();
            out.extend(offsets.map(|(topic, p, offset)| persist::offset_entry(&group.id, topic, p, Some(offset))));
        }
    }

    /// Carries out the timers that are due.
    pub fn expire(&mut self, ctx: &mut Ctx<'_>) {
        for due in self.timers.due(ctx.now.mono_us) {
            if !self.timers.take(&due) {
                continue;
            }
            let Timer { group: id, what } = due.1;
            let ended = self.act(ctx.now, ctx.out, &id, |group, env| {
                match what {
                    What::Session(member) => group.session_expired(env, &member),
                    What::Pending(member) => group.pending_gone(env, &member),
                    What::Join => group.join_expired(env),
                    What::Sync => group.sync_expired(env),
                    What::Offsets => return group.expire_offsets(env),
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
        let keys: Vec<(ConnId, u64)> = self.parked.range((conn, 0)..=(conn, u64::MAX)).map(|(key, _)| *key).collect();
        for key in keys {
            let Some((id, member_id)) = self.parked.remove(&key) else { continue };
            let Some(member) = self.groups.get_mut(&id).and_then(|g| g.members.get_mut(&member_id)) else { continue };
            for waiting in [&mut member.join, &mut member.sync].into_iter().flatten() {
                if waiting.to.is_some_and(|to| (to.conn, to.slot) == key) {
                    waiting.to = None;
                }
            }
        }
    }

    /// A topic was deleted: what groups committed for it is forgotten.
    pub fn topic_deleted(&mut self, ctx: &mut Ctx<'_>, name: &str) {
        let concerned = |g: &&Group| !g.offsets.partitions_of(name).is_empty();
        let ids: Vec<Name> = self.groups.values().filter(concerned).map(|g| g.id.clone()).collect();
        for id in ids {
            self.act(ctx.now, ctx.out, &id, |group, env| group.topic_deleted(env, name));
        }
    }

    /// The server stops: parked requests are answered, timers end, and nothing is parked any more.
    pub fn stop(&mut self, ctx: &mut Ctx<'_>) {
        self.stopped = true;
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
        self.parked.len()
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
        let Groups { settings, timers, parked, .. } = self;
        let result = act(group, &mut Env { settings, now, timers, parked, out });
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
            if group.persisted.is_some() {
                env.out.meta(persist::group_value_entry(&group.id, None));
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
            group.reset();
            Ok(())
        }
    }
}

fn apply_offset(group: &mut Group, entry: &MetaEntry) -> Result<(), String> {
    let (topic, partition) = persist::read_offset_key(&entry.key)?;
    match &entry.value {
        Some(value) => group.offsets.set(topic, partition, persist::read_offset(value)?),
        None => {
            group.offsets.remove(topic, partition);
        }
    }
    Ok(())
}

/// The outbox of the recovery, in which nobody is there to be answered and nothing new is appended.
struct Nowhere;

impl Outbox for Nowhere {
    fn reply(&mut self, _: ReplyTo, _: Vec<u8>) {}
    fn meta(&mut self, _: MetaEntry) {}
    fn random_uuid(&mut self) -> Uuid {
        Uuid::ZERO
    }
}
