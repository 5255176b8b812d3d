//! Owns the table of open connections: their names, their number per address, and their timers.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr, TcpStream};

use super::complaints::plain_ip;
use super::connection::Connection;
use super::outgoing::Tally;
use crate::broker::ConnId;

/// Bits of a connection's name that say its slot; the rest count how often connections were made.
const SLOT_BITS: u32 = 24;

/// Most slots.
const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// All open connections.
#[derive(Debug, Default)]
pub struct Table {
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    made: u64,
    open: usize,
    per_ip: HashMap<IpAddr, usize>,
    timers: BTreeSet<(u64, ConnId)>,
    unsent: Tally,
}

impl Table {
    /// Number of open connections.
    pub fn len(&self) -> usize {
        self.open
    }

    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Bytes of memory of the answers that wait to be sent, on all connections.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.bytes()
    }

    /// Whether `give_back_some` has something to do.
    pub fn has_to_give_back(&self) -> bool {
        self.unsent.has_to_give_back()
    }

    /// Gives back about so many bytes of what large answers took.
    pub fn give_back_some(&self, bytes: usize) {
        self.unsent.give_back_some(bytes);
    }

    /// What counts those bytes.
    pub fn tally(&self) -> Tally {
        self.unsent.clone()
    }

    /// Number of open connections from the address of `peer`.
    pub fn from_same_ip(&self, peer: SocketAddr) -> usize {
        self.per_ip.get(&plain_ip(peer.ip())).copied().unwrap_or(0)
    }

    /// Takes a connection in; its timer fires at `timer_us`. `None` when there is no slot left.
    pub fn insert(&mut self, stream: TcpStream, peer: SocketAddr, now_us: u64, timer_us: u64) -> Option<ConnId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < SLOTS_MAX => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return None,
        };
        self.made += 1;
        let id = ConnId(self.made << SLOT_BITS | slot as u64);
        let mut conn = Box::new(Connection::new(id, peer, stream, now_us, self.unsent.clone()));
        conn.timer_us = timer_us;
        self.timers.insert((timer_us, id));
        self.slots[slot] = Some(conn);
        self.open += 1;
        *self.per_ip.entry(plain_ip(peer.ip())).or_default() += 1;
        Some(id)
    }

    /// The connection of this name, if it is still open.
    pub fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.slots.get_mut(slot_of(id))?.as_deref_mut().filter(|conn| conn.id == id)
    }

    /// Takes the connection out. Dropping it closes the socket.
    pub fn remove(&mut self, id: ConnId) -> Option<Box<Connection>> {
        self.get(id)?;
        let slot = slot_of(id);
        let conn = self.slots[slot].take()?;
        self.free.push(slot);
        self.open -= 1;
        self.timers.remove(&(conn.timer_us, id));
        let ip = plain_ip(conn.peer.ip());
        if let Some(count) = self.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
        Some(conn)
    }

    /// Sets the connection's timer.
    pub fn set_timer(&mut self, id: ConnId, at_us: u64) {
        let Some(conn) = self.get(id) else { return };
        let old = std::mem::replace(&mut conn.timer_us, at_us);
        if old != at_us {
            self.timers.remove(&(old, id));
            self.timers.insert((at_us, id));
        }
    }

    /// When the first timer fires.
    pub fn first_timer_us(&self) -> Option<u64> {
        self.timers.first().map(|(at_us, _)| *at_us).filter(|at_us| *at_us != u64::MAX)
    }

    /// The connection whose timer is due, if any. The caller sets a later timer or removes the connection.
    pub fn due(&self, now_us: u64) -> Option<ConnId> {
        self.timers.first().filter(|(at_us, _)| *at_us <= now_us).map(|(_, id)| *id)
    }

    /// All open connections.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(Option::as_deref)
    }
}

fn slot_of(id: ConnId) -> usize {
    (id.0 & (SLOTS_MAX as u64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_name_is_never_used_again_and_counts_are_kept_per_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut table = Table::default();
        let open = |table: &mut Table, timer_us| {
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            (table.insert(stream, peer, 0, timer_us).unwrap(), peer)
        };
        let (first, peer) = open(&mut table, 10);
        let (second, _) = open(&mut table, 5);
        assert_eq!((table.len(), table.from_same_ip(peer)), (2, 2));
        assert!(table.remove(first).is_some() && table.remove(first).is_none());
        let (third, _) = open(&mut table, 20);
        assert_eq!(slot_of(first), slot_of(third), "the slot is");
        assert!(table.get(first).is_none() && table.get(third).is_some());
        assert_eq!((table.due(4), table.due(5)), (None, Some(second)));
        table.set_timer(second, 30);
        assert_eq!(table.first_timer_us(), Some(20));
        table.remove(second);
        table.remove(third);
        assert_eq!((table.len(), table.from_same_ip(peer), table.first_timer_us()), (0, 0, None));
    }
}
