//! Owns the timers of all groups: one ordered set, so that the next one is known exactly and nothing ticks.

use std::collections::BTreeSet;

use super::group::Name;

/// What is timed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A member's session, or for a new member how long its first join may wait.
    Session(Name),
    /// A member's time to give partitions up, in a consumer group.
    Revoke(Name),
    /// The time of a member of the classic protocol in a consumer group to join again, and to ask for its assignment.
    Rejoin(Name),
    MemberSync(Name),
    /// A member id that was handed out and not joined with yet.
    Pending(Name),
    /// The members' time to join again.
    Join,
    /// The members' time to fetch their assignment.
    Sync,
    /// The next offset of the group that expires, or the end of an empty group without offsets.
    Offsets,
}

impl What {
    /// Whether it is about one member that has joined.
    pub fn is_of_member(&self) -> bool {
        matches!(self, What::Session(_) | What::Revoke(_) | What::Rejoin(_) | What::MemberSync(_))
    }
}

/// A timer's name; each is set at most once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub group: Name,
    pub what: What,
}

/// Deadlines in monotonic µs. Whoever sets a timer keeps its deadline, which together with the name finds it again.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(u64, Timer)>,
}

impl Timers {
    /// Sets a timer, or moves it from the deadline that `held` has.
    pub fn set(&mut self, held: &mut Option<u64>, deadline_us: u64, timer: Timer) {
        if *held == Some(deadline_us) {
            return;
        }
        self.cancel(held, &timer);
        self.queue.insert((deadline_us, timer));
        *held = Some(deadline_us);
    }

    pub fn cancel(&mut self, held: &mut Option<u64>, timer: &Timer) {
        if let Some(deadline_us) = held.take() {
            self.queue.remove(&(deadline_us, timer.clone()));
        }
    }

    pub fn next_us(&self) -> Option<u64> {
        self.queue.first().map(|(deadline_us, _)| *deadline_us)
    }

    /// The timers that are due, soonest first. They stay set: each is to be taken before it is carried out, as an earlier
    /// one may have cancelled or moved it.
    pub fn due(&self, now_us: u64) -> Vec<(u64, Timer)> {
        self.queue.iter().take_while(|(deadline_us, _)| *deadline_us <= now_us).cloned().collect()
    }

    /// True when the timer was still set to that deadline; it no longer is.
    pub fn take(&mut self, due: &(u64, Timer)) -> bool {
        self.queue.remove(due)
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }
}
