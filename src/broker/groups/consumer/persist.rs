//! Owns how consumer groups stand in the log: the entries of `metalog::CONSUMER_GROUP`.
//!
//! Scope is the group id. The key is one letter and, except for the group itself, the member id; each value is encoded
//! by `metalog::encode`, which puts its version in front.
//!
//! - `g`: the group's epochs, what its topics hashed to, and since when it is empty. Without it there is no group.
//! - `m`: what a member says of itself. Its removal removes the member.
//! - `t`: a member's target.
//! - `c`: what a member owns, and its epochs.
//!
//! All entries of one event are in one group of the log. Nothing depends on the order of entries with different keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::super::group::{Name, Protocol};
use super::member::{Classic, Current, Member, MemberState, Owned, Partitions, Subscription};
use super::ConsumerGroup;
use crate::broker::metalog;
use crate::wal::MetaEntry;
use crate::wire::macros::message;
use crate::wire::Uuid;

const VERSION: i16 = 0;

const GROUP: u8 = b'g';
const MEMBER: u8 = b'm';
const TARGET: u8 = b't';
const CURRENT: u8 = b'c';

message! {
    struct GroupValue {
        epoch: i32 [0..],
        assignment_epoch: i32 [0..],
        topics_hash: i64 [0..],
        /// Wall clock, ms.
        empty_since: i64 [0..],
    }
    struct MemberValue<'a> {
        instance: Option<&'a str> [0..],
        rack: Option<&'a str> [0..],
        client_id: &'a str [0..],
        client_host: &'a str [0..],
        rebalance_timeout_ms: i32 [0..],
        topics: Vec<&'a str> [0..],
        pattern: Option<&'a str> [0..],
        assignor: Option<&'a str> [0..],
        /// -1 for members that do not speak the classic protocol.
        classic_session_timeout_ms: i32 [0..],
        classic_protocols: Vec<ProtocolValue<'a>> [0..],
    }
    struct ProtocolValue<'a> {
        name: &'a str [0..],
        metadata: &'a [u8] [0..],
    }
    struct TargetValue {
        topics: Vec<TargetTopic> [0..],
    }
    struct TargetTopic {
        topic: Uuid [0..],
        partitions: Vec<i32> [0..],
    }
    struct CurrentValue {
        epoch: i32 [0..],
        previous_epoch: i32 [0..],
        state: i8 [0..],
        assigned: Vec<OwnedTopic> [0..],
        revoking: Vec<OwnedTopic> [0..],
    }
    struct OwnedTopic {
        topic: Uuid [0..],
        ranges: Vec<OwnedRange> [0..],
    }
    /// Partitions that follow each other and were given in the same epoch.
    struct OwnedRange {
        first: i32 [0..],
        count: i32 [0..],
        epoch: i32 [0..],
    }
}

/// What an event changed in a group, so that it is appended at its end.
#[derive(Debug, Default)]
pub(super) struct Changes {
    group: bool,
    said: BTreeSet<Name>,
    targets: BTreeSet<Name>,
    currents: BTreeSet<Name>,
    gone: BTreeSet<Name>,
}

impl Changes {
    pub fn group(&mut self) {
        self.group = true;
    }

    pub fn said(&mut self, id: &Name) {
        self.said.insert(id.clone());
    }

    pub fn target(&mut self, id: &Name) {
        self.targets.insert(id.clone());
    }

    pub fn current(&mut self, id: &Name) {
        self.currents.insert(id.clone());
    }

    pub fn gone(&mut self, id: &Name) {
        self.gone.insert(id.clone());
    }

    /// Everything of a member.
    pub fn whole(&mut self, id: &Name) {
        self.said(id);
        self.target(id);
        self.current(id);
    }

    pub fn has_current(&self, id: &Name) -> bool {
        self.currents.contains(id)
    }

    /// The entries for what has changed, as it is now.
    pub fn entries(&self, group_id: &str, group: &ConsumerGroup, state_ms: i64) -> Vec<MetaEntry> {
        let mut out = Vec::new();
        for id in self.gone.iter().filter(|id| !group.has(id)) {
            out.extend([MEMBER, TARGET, CURRENT].map(|kind| entry(group_id, kind, id, None)));
        }
        if self.group {
            out.push(group_entry(group_id, group, state_ms));
        }
        let members = |ids: &BTreeSet<Name>| ids.iter().filter_map(|id| group.member(id)).collect::<Vec<&Member>>();
        out.extend(members(&self.said).into_iter().map(|member| member_entry(group_id, member)));
        out.extend(members(&self.targets).into_iter().map(|member| target_entry(group_id, member)));
        out.extend(members(&self.currents).into_iter().map(|member| current_entry(group_id, member)));
        out
    }
}

/// The entries that make the group as it is.
pub(in super::super) fn all(group_id: &str, group: &ConsumerGroup, state_ms: i64) -> Vec<MetaEntry> {
    let mut out = vec![group_entry(group_id, group, state_ms)];
    for member in group.members() {
        out.push(member_entry(group_id, member));
        if !member.target.is_empty() {
            out.push(target_entry(group_id, member));
        }
        out.push(current_entry(group_id, member));
    }
    out
}

/// The entries that remove the group and all that belongs to it.
pub(in super::super) fn none(group_id: &str, group: &ConsumerGroup) -> Vec<MetaEntry> {
    let mut out = vec![entry(group_id, GROUP, "", None)];
    for id in group.ids() {
        out.extend([MEMBER, TARGET, CURRENT].map(|kind| entry(group_id, kind, &id, None)));
    }
    out
}

fn entry(group_id: &str, kind: u8, member_id: &str, value: Option<Bytes>) -> MetaEntry {
    let mut key = Vec::with_capacity(1 + member_id.len());
    key.push(kind);
    key.extend_from_slice(member_id.as_bytes());
    let scope = Bytes::copy_from_slice(group_id.as_bytes());
    MetaEntry { table: metalog::CONSUMER_GROUP, scope, key: key.into(), value }
}

fn group_entry(group_id: &str, group: &ConsumerGroup, state_ms: i64) -> MetaEntry {
    let value = GroupValue {
        epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        topics_hash: group.topics_hash as i64,
        empty_since: state_ms,
    };
    entry(group_id, GROUP, "", Some(metalog::encode(VERSION, &value)))
}

fn member_entry(group_id: &str, member: &Member) -> MetaEntry {
    let said = &member.subscription;
    let protocols = said.classic.iter().flat_map(|classic| &classic.protocols);
    let value = MemberValue {
        instance: said.instance.as_deref(),
        rack: said.rack.as_deref(),
        client_id: &said.client_id,
        client_host: &said.client_host,
        rebalance_timeout_ms: said.rebalance_timeout_ms,
        topics: said.topics.iter().map(|topic| &**topic).collect(),
        pattern: said.pattern.as_deref(),
        assignor: said.assignor.as_deref(),
        classic_session_timeout_ms: said.classic.as_ref().map_or(-1, |classic| classic.session_timeout_ms),
        classic_protocols: protocols.map(|p| ProtocolValue { name: &p.name, metadata: &p.metadata }).collect(),
    };
    entry(group_id, MEMBER, &member.id, Some(metalog::encode(VERSION, &value)))
}

fn target_entry(group_id: &str, member: &Member) -> MetaEntry {
    if member.target.is_empty() {
        return entry(group_id, TARGET, &member.id, None);
    }
    let topic = |(topic, partitions): (&Uuid, &BTreeSet<i32>)| TargetTopic {
        topic: *topic,
        partitions: partitions.iter().copied().collect(),
    };
    let value = TargetValue { topics: member.target.iter().map(topic).collect() };
    entry(group_id, TARGET, &member.id, Some(metalog::encode(VERSION, &value)))
}

fn current_entry(group_id: &str, member: &Member) -> MetaEntry {
    let current = &member.current;
    let value = CurrentValue {
        epoch: current.epoch,
        previous_epoch: current.previous_epoch,
        state: match current.state {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
        },
        assigned: owned_topics(&current.assigned),
        revoking: owned_topics(&current.revoking),
    };
    entry(group_id, CURRENT, &member.id, Some(metalog::encode(VERSION, &value)))
}

fn owned_topics(owned: &Owned) -> Vec<OwnedTopic> {
    let mut topics = Vec::with_capacity(owned.len());
    for (topic, partitions) in owned {
        let mut ranges: Vec<OwnedRange> = Vec::new();
        for (partition, epoch) in partitions {
            match ranges.last_mut() {
                Some(last) if last.first + last.count == *partition && last.epoch == *epoch => last.count += 1,
                _ => ranges.push(OwnedRange { first: *partition, count: 1, epoch: *epoch }),
            }
        }
        topics.push(OwnedTopic { topic: *topic, ranges });
    }
    topics
}

/// Takes over an entry into `group`, which is made by the group's own entry or a member's, and removed by the removal of
/// the former. Gives since when the group is empty, if the entry says so.
///
/// # Errors
/// An entry that this version can't read.
pub(in super::super) fn apply(
    group: &mut Option<Box<ConsumerGroup>>,
    entry: &MetaEntry,
) -> Result<Option<i64>, String> {
    let (kind, id) = entry.key.split_first().ok_or("an entry has no key")?;
    let id: Name = std::str::from_utf8(id).map_err(|_| "a member's id is not UTF-8")?.into();
    let Some(value) = &entry.value else {
        forget(group, *kind, &id);
        return Ok(None);
    };
    let group = group.get_or_insert_default();
    match *kind {
        GROUP => {
            let value: GroupValue = metalog::decode(VERSION, value)?;
            (group.epoch, group.assignment_epoch) = (value.epoch, value.assignment_epoch);
            group.topics_hash = value.topics_hash as u64;
            group.persisted = true;
            return Ok(Some(value.empty_since));
        }
        MEMBER => {
            group.member_or_new(&id);
            group.set_subscription(&id, read_subscription(value)?);
        }
        TARGET => {
            let value: TargetValue = metalog::decode(VERSION, value)?;
            let topics = value.topics.into_iter().map(|t| (t.topic, t.partitions.into_iter().collect()));
            group.member_or_new(&id);
            group.set_target(&id, topics.collect());
        }
        CURRENT => {
            group.member_or_new(&id);
            group.set_current(&id, read_current(value)?);
        }
        other => return Err(format!("entries of kind {other} are not known; a newer server wrote them")),
    }
    Ok(None)
}

fn forget(group: &mut Option<Box<ConsumerGroup>>, kind: u8, id: &str) {
    match (kind, group.as_mut()) {
        (GROUP, _) => *group = None,
        (MEMBER, Some(group)) => {
            group.take(id);
        }
        (TARGET, Some(group)) => group.set_target(id, Partitions::new()),
        (CURRENT, Some(group)) => group.set_current(id, Current::default()),
        _ => {}
    }
}

fn read_subscription(value: &Bytes) -> Result<Subscription, String> {
    let value: MemberValue<'_> = metalog::decode(VERSION, value)?;
    let text = |text: Option<&str>| text.map(Name::from);
    let protocols = value
        .classic_protocols
        .iter()
        .map(|protocol| Protocol { name: protocol.name.into(), metadata: Bytes::copy_from_slice(protocol.metadata) });
    let protocols: Vec<Protocol> = protocols.collect();
    let session_timeout_ms = value.classic_session_timeout_ms;
    Ok(Subscription {
        instance: text(value.instance),
        rack: text(value.rack),
        client_id: value.client_id.into(),
        client_host: value.client_host.into(),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        topics: Arc::new(value.topics.iter().map(|topic| Name::from(*topic)).collect()),
        pattern: text(value.pattern),
        assignor: text(value.assignor),
        classic: (session_timeout_ms >= 0).then_some(Classic { session_timeout_ms, protocols }),
    })
}

fn read_current(value: &Bytes) -> Result<Current, String> {
    let value: CurrentValue = metalog::decode(VERSION, value)?;
    Ok(Current {
        epoch: value.epoch,
        previous_epoch: value.previous_epoch,
        state: match value.state {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            other => return Err(format!("a member's state {other} is not known; a newer server wrote it")),
        },
        assigned: read_owned(&value.assigned)?,
        revoking: read_owned(&value.revoking)?,
    })
}

fn read_owned(topics: &[OwnedTopic]) -> Result<Owned, String> {
    let mut owned = Owned::new();
    for topic in topics {
        let partitions = owned.entry(topic.topic).or_default();
        for range in &topic.ranges {
            let end = range.first.checked_add(range.count).filter(|end| *end <= crate::limits::PARTITIONS_MAX as i32);
            let end = end.ok_or("a range of partitions is too long")?;
            partitions.extend((range.first..end).map(|partition| (partition, range.epoch)));
        }
    }
    Ok(owned)
}
