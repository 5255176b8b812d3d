//! Owns how long a tidying that reads from the object store may keep other tidying waiting: while the store is slow, space that is
//! due on the disk must come back all the same.
//!
//! Such a job is stopped, and comes after the others, if something else has come up when its time is over. Each time a compaction is
//! stopped it is given twice the time, so that it gets done in the end; but not while the disk is full.

use crate::broker::{Broker, Effect, Now, Timer};
use crate::limits;

use super::policy;

#[derive(Debug, Default)]
pub struct Patience {
    /// The pack of the job under way, if that reads from the object store.
    watched: Option<u64>,
    /// How often such jobs were stopped since one came to its end.
    stops: u32,
}

impl Patience {
    /// The job under way has ended. True if it read from the object store.
    pub fn is_over(&mut self) -> bool {
        self.watched.take().is_some()
    }

    /// A job has come to its end.
    pub fn was_enough(&mut self) {
        self.stops = 0;
    }
}

impl Broker {
    /// The job that has just begun reads from the object store.
    pub(super) fn watch_tidying(&mut self, now: Now) {
        self.tidying.patience.watched = Some(self.tidying.newest);
        self.look_at_tidying_after_a_while(now);
    }

    fn look_at_tidying_after_a_while(&mut self, now: Now) {
        let stops = if self.out_of_space { 0 } else { self.tidying.patience.stops };
        let us = match self.tidying.shrinking.is_running() {
            // Nobody waits for it, so it gets no more time each time.
            true => limits::TIDY_OBJECT_PATIENCE_US,
            false => limits::STORE_CLEAN_PATIENCE_US << stops.min(limits::STORE_CLEAN_DOUBLINGS_MAX),
        };
        self.set_timer(now.mono_us.saturating_add(us), Timer::TidyPatience(self.tidying.newest));
    }

    /// The time of a job is over.
    pub(in crate::broker) fn tidy_patience_is_over(&mut self, now: Now, pack: u64) {
        if self.tidying.patience.watched != Some(pack) {
            return;
        }
        if !self.other_tidying_waits() {
            return self.look_at_tidying_after_a_while(now);
        }
        self.tidying.patience.stops += u32::from(!self.tidying.shrinking.is_running());
        ::log::info!("a tidying that reads from the object store makes room for others, and comes again");
        self.effects.push_back(Effect::StopTidy);
    }

    /// Whether there is something to tidy that needs nothing of the object store.
    fn other_tidying_waits(&self) -> bool {
        // Where there is no room for them, stopping this one would help nobody.
        if !self.has_space_for_metadata() || self.tidying.full {
            return false;
        }
        let mut candidates = self.candidates();
        candidates.retain(|candidate| !self.tidying.works_on(candidate.id));
        !policy::choose(&candidates).is_empty() || self.tiering.has_blocked() || self.local_cleaning_waits()
    }
}
