//! Owns offsets that transactions commit: pending until the transaction ends, then a group's offsets or nothing (KIP-98,
//! KIP-447).
//!
//! They stand in the log as `metalog::TXN_OFFSET` entries: scope group id; key producer id (8 bytes), partition (4) and the
//! topic's name; value an order (8) and the offset as in `metalog::OFFSET`. Of two commits of one partition the later
//! one counts, whichever transaction ends first; so an offset that was committed since makes a pending one void.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::consumer::patterns::MatchJob;
use super::ctx::Outbox;
use super::group::{Group, GroupState, Name};
use super::offsets::Offset;
use super::{persist, Env, Groups};
use crate::broker::effect::Now;
use crate::broker::metalog;
use crate::limits;
use crate::wal::MetaEntry;
use crate::wire::{ErrorCode, Uuid};

/// What an entry counts in a group of the log beside its key, topic and metadata, for the offset that it becomes and for
/// its own removal.
const PENDING_COST: usize = 192;

/// An offset that waits for the end of its transaction.
#[derive(Clone, Debug)]
struct Pending {
    /// Rises with each commit in a transaction.
    order: u64,
    offset: Offset,
}

/// Pending offsets of a group, by producer.
#[derive(Debug, Default)]
pub(super) struct TxnOffsets {
    by_producer: BTreeMap<i64, BTreeMap<(Name, i32), Pending>>,
    bytes: usize,
    /// The highest order that was given.
    last_order: u64,
}

/// Bytes that a pending offset takes, roughly, in memory and in the log.
fn weight(topic: &str, offset: &Offset) -> usize {
    PENDING_COST + 2 * topic.len() + offset.metadata.len()
}

impl TxnOffsets {
    pub fn is_empty(&self) -> bool {
        self.by_producer.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a transaction has an offset of this partition.
    pub fn holds(&self, topic: &str, partition: i32) -> bool {
        let key = (Name::from(topic), partition);
        self.by_producer.values().any(|offsets| offsets.contains_key(&key))
    }

    fn set(&mut self, producer_id: i64, topic: &str, partition: i32, pending: Pending) {
        self.bytes += weight(topic, &pending.offset);
        self.last_order = self.last_order.max(pending.order);
        let offsets = self.by_producer.entry(producer_id).or_default();
        if let Some(before) = offsets.insert((topic.into(), partition), pending) {
            self.bytes -= weight(topic, &before.offset);
        }
    }

    fn remove(&mut self, producer_id: i64, topic: &str, partition: i32) {
        let Some(offsets) = self.by_producer.get_mut(&producer_id) else { return };
        if let Some(before) = offsets.remove(&(topic.into(), partition)) {
            self.bytes -= weight(topic, &before.offset);
        }
        if offsets.is_empty() {
            self.by_producer.remove(&producer_id);
        }
    }

    /// The producers whose transactions have an offset of this partition, with the order of each.
    fn holders(&self, topic: &str, partition: i32) -> Vec<(i64, u64)> {
        let key = (Name::from(topic), partition);
        let holders = self.by_producer.iter();
        holders.filter_map(|(id, offsets)| Some((*id, offsets.get(&key)?.order))).collect()
    }

    /// The partitions of certain topics of which some transaction has an offset.
    fn partitions(&self, is_meant: impl Fn(&str) -> bool) -> Vec<(Name, i32)> {
        let all = self.by_producer.values().flat_map(BTreeMap::keys);
        all.filter(|(name, _)| is_meant(name)).cloned().collect()
    }
}

impl Group {
    /// Whether a commit in a transaction by this member and generation is allowed. Older clients name no member.
    pub fn check_txn_commit(
        &self,
        generation: i32,
        member_id: &str,
        instance: Option<&str>,
        partitions: &[(Uuid, i32)],
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.state == GroupState::Empty && !self.has_members() {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance.is_none() {
            return Ok(());
        }
        if let Some(consumer) = &self.consumer {
            return consumer.check_commit(member_id, generation, true, partitions.iter().copied());
        }
        self.check_member(member_id, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(())
    }

    /// Keeps an offset until the producer's transaction ends.
    fn pend(&mut self, env: &mut Env<'_>, producer_id: i64, topic: &str, partition: i32, pending: Pending) {
        env.out.meta(pending_entry(&self.id, producer_id, topic, partition, Some(&pending)));
        self.pending_txn.set(producer_id, topic, partition, pending);
    }

    /// Forgets what transactions hold of a partition, below an order: something newer has taken its place.
    fn drop_older(&mut self, env: &mut Env<'_>, topic: &str, partition: i32, below: u64) {
        if self.pending_txn.is_empty() {
            return;
        }
        for (producer_id, order) in self.pending_txn.holders(topic, partition) {
            if order < below {
                self.pending_txn.remove(producer_id, topic, partition);
                env.out.meta(pending_entry(&self.id, producer_id, topic, partition, None));
            }
        }
    }

    /// Forgets what transactions hold of a partition: its offset was committed since, or removed.
    pub fn forget_pending(&mut self, env: &mut Env<'_>, topic: &str, partition: i32) {
        self.drop_older(env, topic, partition, u64::MAX);
    }

    /// Forgets what transactions hold of a topic, or of all.
    pub fn forget_all_pending(&mut self, env: &mut Env<'_>, is_meant: impl Fn(&str) -> bool) {
        for (topic, partition) in self.pending_txn.partitions(is_meant) {
            self.forget_pending(env, &topic, partition);
        }
    }

    /// The producer's transaction has ended.
    fn end_txn(&mut self, env: &mut Env<'_>, producer_id: i64, committed: bool) {
        let Some(offsets) = self.pending_txn.by_producer.get(&producer_id).cloned() else { return };
        for ((topic, partition), pending) in offsets {
            self.pending_txn.remove(producer_id, &topic, partition);
            env.out.meta(pending_entry(&self.id, producer_id, &topic, partition, None));
            if committed {
                self.drop_older(env, &topic, partition, pending.order);
                self.store_offset(env, &topic, partition, pending.offset);
            }
        }
        self.arm_offsets(env);
    }
}

impl Groups {
    /// Takes over an entry of the table TXN_OFFSET.
    ///
    /// # Errors
    /// An entry that this version can't read.
    pub(super) fn apply_txn_offset(group: &mut Group, entry: &MetaEntry) -> Result<(), String> {
        let (producer_id, key) = split_id(&entry.key)?;
        let (topic, partition) = persist::read_offset_key(&key)?;
        match &entry.value {
            Some(value) => {
                let (order, value) = split_id(value)?;
                let pending = Pending { order: order as u64, offset: persist::read_offset(&value)? };
                group.pending_txn.set(producer_id, topic, partition, pending);
            }
            None => group.pending_txn.remove(producer_id, topic, partition),
        }
        Ok(())
    }

    /// The entries of a group's pending offsets.
    pub(super) fn snapshot_txn_offsets(group: &Group, out: &mut Vec<MetaEntry>) {
        for (producer_id, offsets) in &group.pending_txn.by_producer {
            let entries = offsets.iter();
            out.extend(entries.map(|((topic, partition), pending)| {
                pending_entry(&group.id, *producer_id, topic, *partition, Some(pending))
            }));
        }
    }

    /// Whether the group may commit these offsets in a transaction; begins one for those who are no members.
    ///
    /// # Errors
    /// As OffsetCommit answers them, with Kafka's differences for transactions.
    pub fn check_txn_commit(
        &mut self,
        group_id: &str,
        generation: i32,
        member_id: &str,
        instance: Option<&str>,
        partitions: &[(Uuid, i32)],
    ) -> Result<(), ErrorCode> {
        if group_id.is_empty() || group_id.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        if self.claimed.contains_key(group_id) {
            return Err(ErrorCode::GROUP_ID_NOT_FOUND);
        }
        if let Some(group) = self.groups.get(group_id) {
            return group.check_txn_commit(generation, member_id, instance, partitions);
        }
        if generation >= 0 {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        self.create(group_id).then_some(()).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }

    /// Keeps an offset until the transaction ends; the caller has checked the group.
    ///
    /// # Errors
    /// OFFSET_METADATA_TOO_LARGE; COORDINATOR_NOT_AVAILABLE when there is no memory for one more.
    #[allow(clippy::too_many_arguments)]
    pub fn txn_commit(
        &mut self,
        now: Now,
        out: &mut dyn Outbox,
        group_id: &str,
        producer_id: i64,
        topic: &str,
        partition: i32,
        offset: (i64, i32, &str),
    ) -> Result<(), ErrorCode> {
        let (offset, leader_epoch, metadata) = offset;
        let longest = self.settings.offset_metadata_max_bytes;
        if metadata.len() > longest && metadata.encode_utf16().count() > longest {
            return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
        }
        if self.is_full() {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let newest = self.groups.get(group_id).map_or(0, |group| group.pending_txn.last_order);
        let metadata = metadata.into();
        let offset = Offset { offset, leader_epoch, metadata, commit_ms: now.wall_ms, expire_ms: -1 };
        let pending = Pending { order: newest + 1, offset };
        let done = self.act(now, out, group_id, |group, env| group.pend(env, producer_id, topic, partition, pending));
        done.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
    }

    /// The producer's transaction has ended: its offsets are the group's, or forgotten.
    pub fn end_txn(&mut self, now: Now, out: &mut dyn Outbox, group_id: &str, producer_id: i64, committed: bool) {
        self.act(now, out, group_id, |group, env| group.end_txn(env, producer_id, committed));
    }

    /// What the end of a producer's transaction appends for this group at most, in bytes of a group of the log.
    pub fn pending_bytes(&self, group_id: &str, producer_id: i64) -> usize {
        let group = self.groups.get(group_id);
        let offsets = group.and_then(|group| group.pending_txn.by_producer.get(&producer_id));
        let offsets = offsets.into_iter().flatten();
        // Others that wait for the same partition may go with it.
        let holders = group.map_or(0, |group| group.pending_txn.by_producer.len());
        let removal = |topic: &str| 64 + topic.len() + group_id.len();
        let cost = offsets.map(|((topic, _), pending)| {
            weight(topic, &pending.offset) + 2 * group_id.len() + holders * removal(topic)
        });
        cost.sum()
    }

    /// Every group and producer with offsets that wait for the end of a transaction.
    pub fn pending_txns(&self) -> impl Iterator<Item = (Name, i64)> + '_ {
        self.groups
            .values()
            .flat_map(|group| group.pending_txn.by_producer.keys().map(|producer_id| (group.id.clone(), *producer_id)))
    }
}

fn pending_entry(group: &str, producer_id: i64, topic: &str, partition: i32, pending: Option<&Pending>) -> MetaEntry {
    let committed = persist::offset_entry(group, topic, partition, pending.map(|pending| &pending.offset));
    let join = |number: i64, rest: &Bytes| [&number.to_be_bytes()[..], rest].concat().into();
    let value = committed.value.as_ref().zip(pending);
    MetaEntry {
        table: metalog::TXN_OFFSET,
        scope: committed.scope,
        key: join(producer_id, &committed.key),
        value: value.map(|(value, pending)| join(pending.order as i64, value)),
    }
}

/// The number in front, and what follows it.
fn split_id(bytes: &Bytes) -> Result<(i64, Bytes), String> {
    let (number, _) = bytes.split_first_chunk::<8>().ok_or("a pending offset's entry is too short")?;
    Ok((i64::from_be_bytes(*number), bytes.slice(8..)))
}

/// Gathers what a group appends.
pub struct Collected<'a>(pub &'a mut Vec<MetaEntry>);

impl Outbox for Collected<'_> {
    fn reply(&mut self, _: crate::broker::reply::ReplyTo, _: Vec<u8>) {}

    fn meta(&mut self, entry: MetaEntry) {
        self.0.push(entry);
    }

    fn match_topics(&mut self, _: MatchJob) {}

    fn random_uuid(&mut self) -> Uuid {
        Uuid::ZERO
    }
}
