//! Owns in which order connections are visited, to read from them and to carry out what they ask for, and how long a visit and a turn
//! may take.
//!
//! Who has just sent something comes first, and gets a short visit. Who has more to do than a few of those comes later, again for a short
//! visit, and so on in turn. So a request waits for one visit to each of those that came with it, and not until others have all they
//! want, however many they are.

use std::collections::VecDeque;

use super::Reactor;
use crate::broker::{ConnId, Now};
use crate::net::connection::Connection;
use crate::net::core::Core;

/// How long a turn may go on beginning something else, in µs: what is left comes with the next, behind what has arrived meanwhile.
const TURN_US: u64 = 300;

/// How long a visit may go on beginning something else, in µs.
const VISIT_US: u64 = 100;

/// Visits that were over before all was done after which a connection comes later, unless it has had nothing to do in between. A single
/// one may have been long because the processor was taken away in it.
const LONG_VISITS_MAX: u8 = 2;

/// Bytes read from one connection in one visit, overshot by at most one read.
const VISIT_READ_BYTES: usize = 256 << 10;

/// Bytes read from all connections in one turn, so that a group gets on its way and answers leave. Bytes of large requests come into
/// memory that is new to the process, which makes them several times as dear as a copy.
const TURN_READ_BYTES: usize = 1 << 20;

/// Connections that are to be visited, each in one of the lines at most.
#[derive(Debug, Default)]
pub(super) struct Visits {
    first: VecDeque<ConnId>,
    later: VecDeque<ConnId>,
    /// The last turn was over before one of those that come later got on.
    later_is_due: bool,
    /// When the turn is over, and the visit, on the monotonic clock.
    turn_ends_us: u64,
    visit_ends_us: u64,
}

impl Visits {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.later.is_empty()
    }
}

impl<C: Core + 'static> Reactor<C> {
    /// Visits those that are due, as long as the turn lasts: the first ones, then the others, of which one gets on in every other turn
    /// at least.
    pub(super) fn visit_all(&mut self, now: Now) {
        // However long what came before took, such as a flood of new connections, those that are there are visited.
        self.visits.turn_ends_us = self.clock.mono_us() + TURN_US;
        let mut allowance = TURN_READ_BYTES;
        let (first, later) = (self.visits.first.len(), self.visits.later.len());
        let due = usize::from(std::mem::take(&mut self.visits.later_is_due));
        let mut got_on = self.visit_some(now, due.min(later), &mut allowance, |visits| &mut visits.later);
        self.visit_some(now, first, &mut allowance, |visits| &mut visits.first);
        got_on += self.visit_some(now, later - got_on, &mut allowance, |visits| &mut visits.later);
        self.visits.later_is_due = later > 0 && got_on == 0;
    }

    /// Visits so many of a line at most; how many it were.
    fn visit_some(
        &mut self,
        now: Now,
        count: usize,
        allowance: &mut usize,
        line: fn(&mut Visits) -> &mut VecDeque<ConnId>,
    ) -> usize {
        for number in 0..count {
            if *allowance == 0 || self.turn_is_over() {
                return number;
            }
            let Some(id) = line(&mut self.visits).pop_front() else { return number };
            self.visit(now, id, allowance);
        }
        count
    }

    fn visit(&mut self, now: Now, id: ConnId, allowance: &mut usize) {
        if self.with(id, |conn| conn.in_reads = false).is_some() {
            self.visits.visit_ends_us = self.clock.mono_us() + VISIT_US;
            *allowance = allowance.saturating_sub(self.serve(now, id, VISIT_READ_BYTES.min(*allowance)));
            let nothing_left = |conn: &mut Connection| {
                if !conn.readable && !conn.holds_frames() {
                    conn.long_visits = 0;
                }
            };
            self.with(id, nothing_left);
        }
    }

    /// Whether nothing else is to be begun in this turn.
    pub(super) fn turn_is_over(&self) -> bool {
        self.clock.mono_us() >= self.visits.turn_ends_us
    }

    /// Whether nothing else is to be begun in this visit.
    pub(super) fn visit_is_over(&self) -> bool {
        self.clock.mono_us() >= self.visits.visit_ends_us.min(self.visits.turn_ends_us)
    }

    /// The connection may have something to be read, or to be carried out.
    pub(super) fn queue_read(&mut self, id: ConnId) {
        if self.is_to_be_queued(id) {
            self.visits.first.push_back(id);
        }
    }

    /// The same, of one whose visit or turn was over before all was done.
    pub(super) fn queue_rest(&mut self, id: ConnId) {
        // One that only the end of the turn has cut short says nothing.
        if self.clock.mono_us() >= self.visits.visit_ends_us {
            self.with(id, |conn| conn.long_visits = conn.long_visits.saturating_add(1));
        }
        self.queue_again(id);
    }

    /// The same, of one that goes on: first, unless it has had much already.
    pub(super) fn queue_again(&mut self, id: ConnId) {
        match self.with(id, |conn| conn.long_visits > LONG_VISITS_MAX) {
            Some(true) => self.queue_read_later(id),
            _ => self.queue_read(id),
        }
    }

    /// The same, of one that waited because it wants much.
    pub(super) fn queue_read_later(&mut self, id: ConnId) {
        if self.is_to_be_queued(id) {
            self.visits.later.push_back(id);
        }
    }

    fn is_to_be_queued(&mut self, id: ConnId) -> bool {
        self.with(id, |conn| !std::mem::replace(&mut conn.in_reads, true)) == Some(true)
    }
}
