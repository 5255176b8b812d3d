//! Owns which objects are made smaller: segments that only the object store has, and of which half or more was deleted.
//!
//! What lives in such a segment is fetched and written into a pack here, which goes to the store as any other segment does, and from
//! the disk again when it may. The object then holds nothing that lives, and is removed. So at least as much is given back as is
//! fetched. This comes after all that gives back space on the disk, makes room for that, and is not begun while the disk is short of
//! room, nor where somebody else may have the store.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::super::tiering::store_retry_us;
use super::policy::{self, Candidate};
use crate::broker::{Broker, Now, Timer};
use crate::wal::tidy::TidyError;
use crate::wal::SegmentId;

/// Where this stands.
#[derive(Debug, Default)]
pub struct Shrinking {
    /// The job under way is one of these.
    is_running: bool,
    /// How many failed since one did not.
    failures: u32,
    /// Before when none begins, in monotonic µs.
    earliest_us: u64,
    /// Objects for which the store was looked at.
    looked_for: BTreeSet<SegmentId>,
    /// How often they could not be read, so that one that is lost keeps none of the others back.
    tries: BTreeMap<SegmentId, u32>,
    /// That there is no room was said.
    is_full: bool,
}

impl Shrinking {
    /// Whether the job under way is one of these.
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// The job under way has ended. True if it was one of these.
    pub fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.is_running)
    }

    /// One has got done.
    pub fn succeeded(&mut self) {
        (self.failures, self.earliest_us, self.is_full) = (0, 0, false);
    }
}

impl Broker {
    /// Begins to make an object smaller if there is one worth it.
    pub(super) fn begin_shrinking(&mut self, now: Now) {
        if !self.is_tiered() || now.mono_us < self.tidying.shrinking.earliest_us || self.shortage() > 0 {
            return;
        }
        let emptied = self.emptied_objects();
        let shrinking = &mut self.tidying.shrinking;
        let is_there = |id: &SegmentId| emptied.iter().any(|candidate| candidate.id == *id);
        shrinking.tries.retain(|id, _| is_there(id));
        shrinking.looked_for.retain(|id| is_there(id));
        let tries = |candidate: &Candidate| shrinking.tries.get(&candidate.id).copied().unwrap_or(0);
        let confirmed = emptied.iter().filter(|candidate| self.tiering.is_confirmed(candidate.id));
        let best = confirmed.min_by_key(|candidate| (tries(candidate), Reverse(policy::half_gained(candidate))));
        let Some(best) = best.copied() else {
            let before = shrinking.looked_for.len();
            shrinking.looked_for.extend(emptied.iter().map(|candidate| candidate.id));
            if shrinking.looked_for.len() > before {
                self.look_at_store(now);
            }
            return;
        };
        let parts = self.parts_in(&BTreeSet::from([best.id]), |_| true);
        if parts.is_empty() {
            // What the figures say and what partitions have there differ: looking again would not help.
            self.tidying.avoided.insert(best.id);
            return;
        }
        self.tidying.shrinking.is_running = true;
        self.begin(vec![best.id], parts);
        self.watch_tidying(now);
    }

    /// Segments that only the store has and of which half would be gained. Those stay out in which a compacted topic has something: it
    /// is taken out by compaction, and stays on the disk.
    fn emptied_objects(&self) -> Vec<Candidate> {
        let tidying = &self.tidying;
        let remote = self.segments.remote_alive().map(|(id, segment)| Candidate { id, segment: *segment });
        let mut emptied: Vec<Candidate> = remote
            .filter(|candidate| policy::half_gained(candidate) > 0)
            .filter(|Candidate { id, segment }| {
                !tidying.avoids(*id) && tidying.settled.get(id) != Some(&segment.live_bytes)
            })
            .collect();
        if !emptied.is_empty() {
            let compacted = self.held_by_compacted();
            emptied.retain(|candidate| !compacted.contains(&candidate.id));
        }
        emptied
    }

    /// An object could not be made smaller for now, which changed nothing.
    pub(super) fn shrinking_put_off(&mut self, now: Now, id: Option<SegmentId>, error: &TidyError) {
        if *error != TidyError::Stopped {
            self.settings.metrics.tidy_failures.add(1);
        }
        match error {
            TidyError::Away(why) => {
                self.store_is_away(now, why);
                id.into_iter().for_each(|id| *self.tidying.shrinking.tries.entry(id).or_default() += 1);
            }
            TidyError::Full(why) if !std::mem::replace(&mut self.tidying.shrinking.is_full, true) => {
                ::log::info!("no room to make objects smaller of which much was deleted; tried again later: {why}");
            }
            TidyError::Io(why) => ::log::error!("cannot make an object smaller of which much was deleted: {why}"),
            _ => {}
        }
        let shrinking = &mut self.tidying.shrinking;
        shrinking.earliest_us = now.mono_us + store_retry_us(shrinking.failures);
        shrinking.failures += 1;
        let at_us = shrinking.earliest_us;
        self.set_timer(at_us, Timer::Shrink);
    }
}
