//! Owns how connections end: clients that leave, clients that are silent or read nothing, and those that we send away.
//!
//! A client that has closed its side may have closed all of it, or still read; nobody can tell before something is sent to it. So it
//! gets the answers to what it has sent, as from Kafka, but it is not waited for: what it has parked is given up, and what it does
//! not read is not kept for long.

use std::collections::VecDeque;

use super::{Limits, Reactor};
use crate::broker::{ConnId, Now};
use crate::net::complaints::Kind;
use crate::net::connection::{Closing, Connection, Why};
use crate::net::core::Core;

/// How long a turn may go on closing connections whose clients have left, in µs. The kernel takes 10 for each.
const SEE_OFF_US: u64 = 500;

/// Connections whose clients have closed their side.
#[derive(Debug, Default)]
pub(super) struct Leavers {
    /// Nobody has looked at them since they left, or since they were last answered.
    new: VecDeque<ConnId>,
    /// Those that the broker owed answers when they were last looked at.
    owed: VecDeque<ConnId>,
    /// How many of the owed ones, from the front, have yet to be looked at since something happened to the broker.
    left: usize,
}

impl Leavers {
    /// Whether some have yet to be looked at.
    pub(super) fn are_due(&self) -> bool {
        self.left > 0 || !self.new.is_empty()
    }

    /// Something has happened to the broker, which may have parked what was on its way, or owe less.
    pub(super) fn look_again(&mut self) {
        self.left = self.owed.len();
    }

    /// The broker has answered a request of one of them.
    pub(super) fn answered(&mut self, id: ConnId) {
        self.new.push_back(id);
    }

    fn next(&mut self) -> Option<ConnId> {
        self.new.pop_front().or_else(|| {
            self.left = self.left.checked_sub(1)?;
            self.owed.pop_front()
        })
    }
}

impl Limits {
    /// How long the connection may read nothing while answers wait for it, in µs.
    pub(super) fn patience_us(&self, conn: &Connection) -> u64 {
        if conn.read_closed {
            self.linger_us
        } else {
            self.unread_us
        }
    }
}

/// Clients that leave.
impl<C: Core + 'static> Reactor<C> {
    /// The kernel says that the client has closed its side, or all of the connection.
    pub(super) fn note_leaver(&mut self, now: Now, id: ConnId) {
        let Some(conn) = self.table.get(id) else { return };
        let is_news = !std::mem::replace(&mut conn.read_closed, true);
        let until_us = conn.timer_us.min(now.mono_us.saturating_add(self.limits.linger_us));
        if is_news && conn.has_outgoing() {
            self.table.set_timer(id, until_us);
        }
    }

    /// Nothing more comes from the connection, and what came is handled.
    pub(super) fn end_of_stream(&mut self, now: Now, id: ConnId, why: Why) {
        let Some(conn) = self.table.get(id) else { return };
        if conn.write_closed {
            return self.close(now, id, why);
        }
        if why.kind.is_some() {
            return self.close_after_sending(now, id, why);
        }
        conn.closing = Closing::AfterAnswers;
        self.table.set_timer(id, now.mono_us.saturating_add(self.limits.linger_us));
        self.leavers.new.push_back(id);
    }

    /// Closes the connections whose clients have left and which have all answers that they can get: as many as there is time for, those
    /// first that nobody has looked at.
    pub(super) fn see_off(&mut self, now: Now) {
        let ends_us = self.clock.mono_us() + SEE_OFF_US;
        while let Some(id) = self.leavers.next() {
            self.core.abandon(now, id);
            self.carry_out(now);
            if self.core.owes(id) {
                self.leavers.owed.push_back(id);
            } else {
                self.close_after_sending(now, id, Why::quiet());
            }
            if self.clock.mono_us() >= ends_us {
                return;
            }
        }
    }
}

/// Connections that we close.
impl<C: Core + 'static> Reactor<C> {
    /// Lets the connection read its last answers, then closes it.
    pub(super) fn close_after_sending(&mut self, now: Now, id: ConnId, why: Why) {
        let Some(conn) = self.table.get(id) else { return };
        if !conn.has_outgoing() {
            return self.close(now, id, why);
        }
        conn.closing = Closing::AfterSending(why);
        conn.drop_held();
        self.queue_write(id);
        self.table.set_timer(id, now.mono_us.saturating_add(self.limits.linger_us));
    }

    pub(super) fn close(&mut self, now: Now, id: ConnId, why: Why) {
        let is_waited_for = self.is_waited_for(id);
        let Some(conn) = self.table.remove(id) else { return };
        if let Some(kind) = why.kind {
            self.complaints.closed(now.mono_ms(), kind, conn.peer, &why.text);
        }
        let (held_at, starved_at) = (conn.held_at, conn.starved_at);
        drop(conn);
        self.forget_place(held_at);
        if let Some(place) = starved_at {
            self.starved.remove(place);
        }
        if is_waited_for {
            self.feed_starved(now);
        }
        self.metrics.active_connections.set(self.table.len() as i64);
        if self.accepting.resting_until_us.take().is_some() {
            self.accepting.said = false;
        }
        self.core.disconnected(now, id);
        self.carry_out(now);
    }

    /// The timer of a connection fired: it is closed, or gets a later timer. As in Kafka a request that waits keeps no silent
    /// connection.
    pub(super) fn connection_timer(&mut self, now: Now, id: ConnId) {
        let tally = self.table.tally();
        let Some(conn) = self.table.get(id) else { return };
        let patience_us = self.limits.patience_us(conn);
        let stalled_us = conn.sent_us.saturating_add(patience_us);
        match &conn.closing {
            // A client that has left may take its time as long as it reads.
            Closing::AfterSending(why) if why.kind.is_none() && stalled_us > now.mono_us => {
                return self.table.set_timer(id, stalled_us);
            }
            Closing::AfterSending(why) => {
                let why = why.clone();
                return self.close(now, id, why);
            }
            // What is owed to it comes by itself, as nothing of it is parked any more.
            Closing::AfterAnswers => {
                let owed_until_us = conn.active_us.saturating_add(self.limits.unread_us);
                let until_us = if conn.has_outgoing() { stalled_us } else { owed_until_us };
                return match until_us > now.mono_us {
                    true => self.table.set_timer(id, until_us),
                    false => self.close(now, id, Why::quiet()),
                };
            }
            Closing::No | Closing::AfterHeld(_) => {}
        }
        if conn.has_outgoing() {
            if stalled_us > now.mono_us {
                return self.table.set_timer(id, stalled_us);
            }
            if conn.read_closed && !conn.unheard && (conn.holds_frames() || conn.readable) {
                conn.forget_answers(tally);
                self.table.set_timer(id, now.mono_us.saturating_add(patience_us));
                return self.queue_read(id);
            }
            let text = format!("it has not read its answers for {} s", patience_us / 1_000_000);
            let why = if conn.read_closed { Why::quiet() } else { Why::said(Kind::Slow, text) };
            return self.close(now, id, why);
        }
        let idle_until_us = conn.active_us.saturating_add(self.limits.idle_us.unwrap_or(u64::MAX));
        if idle_until_us > now.mono_us {
            return self.table.set_timer(id, idle_until_us);
        }
        log::debug!("closed the idle connection from {}", conn.peer);
        self.close(now, id, Why::quiet());
    }
}
