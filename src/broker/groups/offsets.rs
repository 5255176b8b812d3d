//! Owns a group's committed offsets: what is kept of each, the rules for committing, and when they expire (KIP-211).

use std::collections::{BTreeMap, BTreeSet};

use super::group::{Group, GroupState, Name, CONSUMER};
use super::timers::{Timer, What};
use super::{persist, Env};
use crate::canary::{self, Fault};
use crate::wire::ErrorCode;

/// Offsets that one firing of the timer removes at most, so that no turn of the reactor grows without bound.
const EXPIRED_PER_TURN_MAX: usize = 2000;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    pub offset: i64,
    /// -1 when the client gave none.
    pub leader_epoch: i32,
    pub metadata: Box<str>,
    /// Wall clock, ms since 1970.
    pub commit_ms: i64,
    /// Set by clients that give a retention time (OffsetCommit v2 to v4); -1 otherwise.
    pub expire_ms: i64,
}

/// The offsets of a group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Name, BTreeMap<i32, Offset>>,
    bytes: usize,
}

/// Bytes that an offset takes, roughly.
fn weight(offset: &Offset) -> usize {
    96 + offset.metadata.len()
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&Offset> {
        self.topics.get(topic)?.get(&partition)
    }

    pub fn set(&mut self, topic: &str, partition: i32, offset: Offset) {
        self.bytes += weight(&offset);
        let partitions = match self.topics.get_mut(topic) {
            Some(partitions) => partitions,
            None => {
                self.bytes += topic.len() + 96;
                self.topics.entry(topic.into()).or_default()
            }
        };
        if let Some(before) = partitions.insert(partition, offset) {
            self.bytes -= weight(&before);
        }
    }

    /// True when there was one.
    pub fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        let Some(before) = partitions.remove(&partition) else { return false };
        self.bytes -= weight(&before);
        if partitions.is_empty() {
            self.topics.remove(topic);
            self.bytes -= topic.len() + 96;
        }
        true
    }

    pub fn topics(&self) -> impl Iterator<Item = (&Name, &BTreeMap<i32, Offset>)> {
        self.topics.iter()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Name, i32, &Offset)> {
        self.topics.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |(p, o)| (topic, *p, o)))
    }

    /// Those of some topics of which there are offsets.
    pub fn topics_in(&self, names: &BTreeSet<String>) -> Vec<Name> {
        if names.len() < self.topics.len() {
            let held = names.iter().filter_map(|name| self.topics.get_key_value(name.as_str()));
            return held.map(|(topic, _)| topic.clone()).collect();
        }
        self.topics.keys().filter(|topic| names.contains(&***topic)).cloned().collect()
    }

    pub fn partitions_of(&self, topic: &str) -> Vec<i32> {
        self.topics.get(topic).map(|partitions| partitions.keys().copied().collect()).unwrap_or_default()
    }
}

impl Group {
    /// Whether a commit by this member and generation is allowed.
    pub fn check_commit(&self, generation: i32, member_id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        let empty = self.state == GroupState::Empty;
        if generation < 0 && empty {
            // An administrator, or a consumer that assigns its partitions itself.
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance.is_some() {
            self.check_member(member_id, instance)?;
            if generation != self.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else if !empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if self.state == GroupState::CompletingRebalance {
            // The member knows the new generation and not yet its partitions, so these can't be its own.
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Stores an offset that a client committed; it is appended to the log with this event.
    pub fn commit(&mut self, env: &mut Env<'_>, topic: &str, partition: i32, offset: Offset) {
        self.forget_pending(env, topic, partition);
        self.store_offset(env, topic, partition, offset);
    }

    /// Stores an offset.
    pub fn store_offset(&mut self, env: &mut Env<'_>, topic: &str, partition: i32, offset: Offset) {
        if !canary::has(Fault::OffsetForgotten) {
            env.out.meta(persist::offset_entry(&self.id, topic, partition, Some(&offset)));
        }
        let was_empty = self.offsets.is_empty();
        self.offsets.set(topic, partition, offset);
        if was_empty {
            self.arm_offsets(env);
        } else if let Some(at_ms) = self.expires_at(env, topic, partition) {
            self.arm_offsets_at(env, at_ms, false);
        }
    }

    pub fn remove_offset(&mut self, env: &mut Env<'_>, topic: &str, partition: i32) {
        self.forget_pending(env, topic, partition);
        if self.offsets.remove(topic, partition) {
            env.out.meta(persist::offset_entry(&self.id, topic, partition, None));
        }
    }

    /// Forgets the offsets of topics that were deleted.
    pub fn topics_deleted(&mut self, env: &mut Env<'_>, names: &BTreeSet<String>) {
        let topics = self.offsets.topics_in(names);
        for topic in &topics {
            for partition in self.offsets.partitions_of(topic) {
                self.remove_offset(env, topic, partition);
            }
        }
        self.forget_all_pending(env, |topic| names.contains(topic));
        if !topics.is_empty() {
            self.arm_offsets(env);
        }
    }

    /// What the retention of this group's offsets counts from: `None` when they don't expire now, else a wall clock time
    /// for all, or -1 for the time of each commit.
    fn retention_base(&self) -> Option<i64> {
        if self.consumer.is_some() {
            return Some(-1);
        }
        match (&self.protocol_type, self.state) {
            (None, GroupState::Empty) => Some(-1),
            (Some(_), GroupState::Empty) => Some(self.state_ms),
            (Some(kind), GroupState::Stable) if **kind == *CONSUMER && self.subscribed.is_some() => Some(-1),
            _ => None,
        }
    }

    /// When (wall clock, ms) the offset expires if nothing changes.
    fn expires_at(&self, env: &Env<'_>, topic: &str, partition: i32) -> Option<i64> {
        let base_ms = self.retention_base()?;
        let has_members = self.state == GroupState::Stable || self.consumer.is_some();
        if has_members && self.is_subscribed(topic, env.patterns) {
            return None;
        }
        if !self.pending_txn.is_empty() && self.pending_txn.holds(topic, partition) {
            return None;
        }
        let offset = self.offsets.get(topic, partition)?;
        if offset.expire_ms >= 0 {
            return Some(offset.expire_ms);
        }
        let from_ms = if base_ms >= 0 { base_ms } else { offset.commit_ms };
        Some(from_ms.saturating_add(env.settings.offsets_retention_ms))
    }

    /// When the first offset expires, or the group ends because it is empty and has none.
    fn next_expiry_ms(&self, env: &Env<'_>) -> Option<i64> {
        if self.is_bare() {
            let end_ms = self.state_ms.saturating_add(env.settings.offsets_retention_check_interval_ms);
            return self.pending.is_empty().then_some(end_ms);
        }
        self.retention_base()?;
        self.offsets.iter().filter_map(|(topic, partition, _)| self.expires_at(env, topic, partition)).min()
    }

    /// Sets the timer for the next expiry after a change of state or of many offsets.
    pub fn arm_offsets(&mut self, env: &mut Env<'_>) {
        match self.next_expiry_ms(env) {
            Some(at_ms) => self.arm_offsets_at(env, at_ms, true),
            None => self.disarm_offsets(env),
        }
    }

    pub fn disarm_offsets(&mut self, env: &mut Env<'_>) {
        env.timers.cancel(&mut self.offsets_us, &Timer { group: self.id.clone(), what: What::Offsets });
    }

    /// Sets the timer; an earlier one stays unless `move_back`.
    fn arm_offsets_at(&mut self, env: &mut Env<'_>, at_ms: i64, move_back: bool) {
        let wait_ms = at_ms.saturating_sub(env.now.wall_ms).max(0) as u64;
        let at_us = env.now.mono_us.saturating_add(wait_ms.saturating_mul(1000));
        if move_back || self.offsets_us.is_none_or(|held| at_us < held) {
            env.timers.set(&mut self.offsets_us, at_us, Timer { group: self.id.clone(), what: What::Offsets });
        }
    }

    /// Removes what has expired by the wall clock. True when the group has ended with it.
    pub fn expire_offsets(&mut self, env: &mut Env<'_>) -> bool {
        self.offsets_us = None;
        let now_ms = env.now.wall_ms;
        if self.is_bare() {
            let over = self.next_expiry_ms(env).is_some_and(|at_ms| at_ms <= now_ms);
            if !over {
                self.arm_offsets(env);
            }
            return over;
        }
        let expired: Vec<(Name, i32)> = self
            .offsets
            .iter()
            .filter(|(topic, partition, _)| self.expires_at(env, topic, *partition).is_some_and(|at| at <= now_ms))
            .map(|(topic, partition, _)| (topic.clone(), partition))
            .take(EXPIRED_PER_TURN_MAX)
            .collect();
        for (topic, partition) in &expired {
            self.remove_offset(env, topic, *partition);
        }
        if !expired.is_empty() && self.is_bare() && self.pending.is_empty() {
            // As in Kafka, the group goes together with its last offset.
            return true;
        }
        self.arm_offsets(env);
        false
    }
}
