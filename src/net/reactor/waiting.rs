//! Owns what the next frame of a connection may have to wait for, and who is asked again when something has happened.
//!
//! What a connection itself is the reason for, a request that is being carried out, is told by the broker when it is over. Whoever
//! waits for something that concerns others too stands in a line. Of a line a bounded number is asked at once, from its head on, so it
//! costs nothing how many stand there.

use std::collections::BTreeMap;

use super::shortage::Shortage;
use super::{Reactor, PRODUCE};
use crate::broker::{ConnId, Now};
use crate::net::connection::{Closing, Place};
use crate::net::core::Core;

/// Connections that wait for the same, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Line(BTreeMap<u64, ConnId>);

impl Line {
    /// Puts a connection at the end, which is at `number` of all lines.
    pub(super) fn push(&mut self, number: u64, id: ConnId) {
        self.0.insert(number, id);
    }

    /// The first, and its number.
    pub(super) fn first(&self) -> Option<(u64, ConnId)> {
        self.0.first_key_value().map(|(number, id)| (*number, *id))
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.0.remove(&number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that stand there, and nobody any more.
    fn take(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}

/// What a frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Nothing,
    /// Earlier requests of its connection; the broker tells when they are done.
    Itself,
    /// The broker: Produce for the log, any request for a checkpoint.
    Broker,
    /// Memory for its answer.
    Memory,
}

/// Connections of a line that go on at once.
const ASKED_AT_ONCE: usize = 64;

/// The lines of `Held`.
const FOR_BROKER: usize = 0;
const FOR_LOG: usize = 1;
const FOR_MEMORY: usize = 2;

/// Connections whose next frame waits for something that concerns others too.
#[derive(Debug, Default)]
pub(super) struct Held {
    lines: [Line; 3],
    /// How often somebody came to stand in a line.
    count: u64,
    /// The worst shortage of memory since those that wait for that were last asked.
    worst: Shortage,
    /// Somebody goes on, so that others may, too.
    goes_on: bool,
}

fn line_of(wait: Wait, api_key: i16) -> Option<usize> {
    match wait {
        Wait::Nothing | Wait::Itself => None,
        Wait::Broker if api_key == PRODUCE => Some(FOR_LOG),
        Wait::Broker => Some(FOR_BROKER),
        Wait::Memory => Some(FOR_MEMORY),
    }
}

impl<C: Core + 'static> Reactor<C> {
    /// Hands the connection's complete frames to the broker, in order. True when none is left and more may be read.
    pub(super) fn hand_over(&mut self, now: Now, id: ConnId) -> bool {
        loop {
            let Some(conn) = self.table.get(id) else { return false };
            if matches!(conn.closing, Closing::AfterSending(_)) {
                conn.drop_held();
                return false;
            }
            if conn.is_clogged() {
                return false;
            }
            let Some(api_key) = conn.next_api_key() else { return true };
            let (leaves, stands) = (conn.read_closed, conn.held_at.is_some());
            let mut wait = self.wait_of(id, api_key);
            if leaves && wait != Wait::Nothing {
                wait = self.wait_of_leaver(now, id, api_key);
            }
            if stands || wait != Wait::Nothing {
                self.hold(id, line_of(wait, api_key));
            }
            if wait != Wait::Nothing {
                return false;
            }
            let Some(frame) = self.with(id, |conn| conn.next_frame()).flatten() else { return true };
            self.core.request(now, id, frame);
            self.carry_out(now);
            if self.visit_is_over() {
                // Others first.
                self.queue_rest(id);
                return false;
            }
        }
    }

    fn wait_of(&mut self, id: ConnId, api_key: i16) -> Wait {
        if !self.core.ready_for(id, api_key) {
            return if self.core.will_tell(id) { Wait::Itself } else { Wait::Broker };
        }
        if self.answer_must_wait(id, api_key) {
            Wait::Memory
        } else {
            Wait::Nothing
        }
    }

    /// The same for a client that has left: what waits of it is given up, and where there is no memory for its answers, or no way to
    /// send them, it gets none. What it has sent is carried out.
    fn wait_of_leaver(&mut self, now: Now, id: ConnId, api_key: i16) -> Wait {
        self.core.abandon(now, id);
        self.carry_out(now);
        let wait = self.wait_of(id, api_key);
        self.with(id, |conn| conn.unheard |= conn.write_closed || wait == Wait::Memory);
        match wait {
            Wait::Memory => Wait::Nothing,
            wait => wait,
        }
    }

    /// Has the connection stand in this line, where it keeps its place, or in none.
    fn hold(&mut self, id: ConnId, line: Option<usize>) {
        let shortage = self.shortage_of_answers();
        let Some(conn) = self.table.get(id) else { return };
        if line == Some(FOR_MEMORY) {
            self.held.worst = self.held.worst.max(shortage);
        }
        if conn.held_at.map(|place| place.line) == line {
            return;
        }
        let before = conn.held_at.take();
        if let Some(line) = line {
            self.held.count += 1;
            let number = self.held.count;
            conn.held_at = Some(Place { line, number });
            self.held.lines[line].push(number, id);
        }
        self.forget_place(before);
    }

    /// Takes a connection that has gone out of its line.
    pub(super) fn forget_place(&mut self, place: Option<Place>) {
        if let Some(Place { line, number }) = place {
            self.held.lines[line].remove(number);
        }
    }

    /// Lets connections go on whose frames the broker may want now, after something has happened to it. Where it does not want the
    /// first one's, it wants none of the others. The first few go on, as those before may take what there is; the turn in which they
    /// do asks for the others.
    pub(super) fn ask_again(&mut self) {
        for line in [FOR_BROKER, FOR_LOG] {
            for _ in 0..ASKED_AT_ONCE {
                let Some((_, id)) = self.held.lines[line].first() else { break };
                let api_key = self.with(id, |conn| conn.next_api_key()).flatten();
                if api_key.is_some_and(|api_key| line_of(self.wait_of(id, api_key), api_key) == Some(line)) {
                    break;
                }
                self.hold(id, None);
                self.queue_read(id);
                self.held.goes_on = true;
            }
        }
    }

    /// At the end of a turn in which somebody was let go on: asks the next ones, for whom nothing else may happen.
    pub(super) fn ask_others(&mut self) {
        if std::mem::take(&mut self.held.goes_on) {
            self.ask_again();
        }
    }

    /// Lets those go on that wait for memory for their answers, when there is more of it than when they were last asked.
    pub(super) fn ask_about_memory(&mut self) {
        let shortage = self.shortage_of_answers();
        if shortage >= self.held.worst || self.held.lines[FOR_MEMORY].is_empty() {
            return;
        }
        self.held.worst = shortage;
        for id in self.held.lines[FOR_MEMORY].take() {
            self.with(id, |conn| conn.held_at = None);
            self.queue_read_later(id);
        }
    }
}
