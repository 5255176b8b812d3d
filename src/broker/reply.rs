//! Owns the order of replies: per connection, a queue of slots that are filled in any order and leave in order.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::effect::{ConnId, ConnInfo, Effect, Response};
use crate::canary::{self, Fault};
use crate::limits;
use crate::wal::GroupSeq;

/// Where a reply belongs, and how it is to be encoded. Cheap to keep while the request is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    pub conn: ConnId,
    /// Number of the request on its connection.
    pub slot: u64,
    /// API key of the request.
    pub key: i16,
    pub version: i16,
    pub correlation_id: i32,
}

#[derive(Debug)]
enum Slot {
    /// The request is being carried out.
    Open,
    /// Answered, but not before this group is durable. `None` is a request without a reply (acks=0).
    Filled { wait: GroupSeq, response: Option<Response> },
}

#[derive(Debug)]
struct Conn {
    info: ConnInfo,
    /// Number of the first slot in `slots`.
    first: u64,
    slots: VecDeque<Slot>,
    /// The shell waits to be told that the next request may begin.
    awaited: bool,
}

impl Conn {
    /// Whether the next request may begin: none before it is still being carried out, and the pipeline of replies that wait
    /// for the disk has room.
    fn is_ready(&self) -> bool {
        let carried_out = !matches!(self.slots.back(), Some(Slot::Open)) || canary::has(Fault::Overtaken);
        self.slots.len() < limits::PIPELINE_REQUESTS_MAX && carried_out
    }

    /// Tells that the next request may begin, if somebody waits for that.
    fn tell_ready(&mut self, conn: ConnId, out: &mut VecDeque<Effect>) {
        if self.awaited && self.is_ready() {
            self.awaited = false;
            out.push_back(Effect::Ready { conn });
        }
    }
}

/// All connections that the shell has told of.
#[derive(Debug, Default)]
pub struct Conns {
    conns: HashMap<ConnId, Conn>,
    /// Connections whose front slot waits for a group.
    waiting: BTreeMap<GroupSeq, Vec<ConnId>>,
    /// Bytes of memory of the answers in all slots.
    kept_bytes: usize,
}

fn memory_of(slot: &Slot) -> usize {
    match slot {
        Slot::Filled { response: Some(response), .. } => response.memory_bytes(),
        _ => 0,
    }
}

impl Conns {
    pub fn connected(&mut self, conn: ConnId, info: ConnInfo) {
        self.conns.insert(conn, Conn { info, first: 0, slots: VecDeque::new(), awaited: false });
    }

    /// True when the connection was known.
    pub fn disconnected(&mut self, conn: ConnId) -> bool {
        let gone = self.conns.remove(&conn);
        self.kept_bytes -= gone.iter().flat_map(|c| &c.slots).map(memory_of).sum::<usize>();
        gone.is_some()
    }

    pub fn info(&self, conn: ConnId) -> Option<ConnInfo> {
        self.conns.get(&conn).map(|c| c.info)
    }

    /// Whether the connection's next request may begin.
    pub fn ready(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(Conn::is_ready)
    }

    /// Whether the connection's next request may not begin yet; if so, `Effect::Ready` tells when it may.
    pub fn will_tell(&mut self, conn: ConnId) -> bool {
        let Some(c) = self.conns.get_mut(&conn).filter(|c| !c.is_ready()) else { return false };
        c.awaited = true;
        true
    }

    /// Whether requests of the connection are not answered yet.
    pub fn owes(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|c| !c.slots.is_empty())
    }

    /// Begins a request; the number of its slot. `None` when the connection is gone.
    pub fn open(&mut self, conn: ConnId) -> Option<u64> {
        let c = self.conns.get_mut(&conn)?;
        c.slots.push_back(Slot::Open);
        Some(c.first + c.slots.len() as u64 - 1)
    }

    /// Answers a request once `wait` is durable. A connection that went away, or a slot that is answered already, is no
    /// error: a parked request may be settled twice by events that cross.
    pub fn fill(
        &mut self,
        conn: ConnId,
        slot: u64,
        wait: GroupSeq,
        response: Option<Response>,
        durable: GroupSeq,
        out: &mut VecDeque<Effect>,
    ) {
        let Some(c) = self.conns.get_mut(&conn) else { return };
        let Some(index) = slot.checked_sub(c.first) else { return };
        match c.slots.get_mut(index as usize) {
            Some(open @ Slot::Open) => {
                *open = Slot::Filled { wait, response };
                self.kept_bytes += memory_of(open);
            }
            _ => return,
        }
        match index {
            0 => self.flush(conn, durable, out),
            _ => c.tell_ready(conn, out),
        }
    }

    /// A group became durable: sends what waited for it, in the order of each connection.
    pub fn durable(&mut self, durable: GroupSeq, out: &mut VecDeque<Effect>) {
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > durable {
                break;
            }
            for conn in entry.remove() {
                self.flush(conn, durable, out);
            }
        }
    }

    /// Bytes of memory of answers that cannot leave yet.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Number of requests that are not answered yet.
    pub fn unanswered(&self) -> usize {
        self.conns.values().map(|c| c.slots.len()).sum()
    }

    fn flush(&mut self, conn: ConnId, durable: GroupSeq, out: &mut VecDeque<Effect>) {
        let reached = if canary::has(Fault::EarlyAck) { GroupSeq::MAX } else { durable };
        let Some(c) = self.conns.get_mut(&conn) else { return };
        if canary::has(Fault::RepliesShuffled) {
            let is_ready = |slot: &Slot| matches!(slot, Slot::Filled { wait, .. } if *wait <= reached);
            if let Some(at) = c.slots.iter().rposition(is_ready) {
                c.slots.swap(0, at);
            }
        }
        while let Some(Slot::Filled { wait, .. }) = c.slots.front() {
            if *wait > reached {
                let waiters = self.waiting.entry(*wait).or_default();
                if waiters.last() != Some(&conn) {
                    waiters.push(conn);
                }
                break;
            }
            self.kept_bytes -= c.slots.front().map_or(0, memory_of);
            if let Some(Slot::Filled { response: Some(response), .. }) = c.slots.pop_front() {
                out.push_back(Effect::Send { conn, response });
            }
            c.first += 1;
        }
        c.tell_ready(conn, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conns() -> (Conns, ConnId, VecDeque<Effect>) {
        let mut conns = Conns::default();
        let address = "127.0.0.1:9092".parse().unwrap();
        conns.connected(ConnId(1), ConnInfo { local: address, peer: address });
        (conns, ConnId(1), VecDeque::new())
    }

    fn response(byte: u8) -> Option<Response> {
        Some(Response { head: vec![byte], inserts: Vec::new() })
    }

    fn sent(out: &mut VecDeque<Effect>) -> Vec<u8> {
        out.drain(..)
            .map(|effect| match effect {
                Effect::Send { response, .. } => response.head[0],
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }

    #[test]
    fn pipelined_replies_leave_in_the_order_of_the_requests() {
        let (mut conns, conn, mut out) = conns();
        let a = conns.open(conn).unwrap();
        conns.fill(conn, a, 5, response(1), 0, &mut out);
        let b = conns.open(conn).unwrap();
        conns.fill(conn, b, 0, response(2), 0, &mut out);
        assert_eq!(sent(&mut out), []);
        conns.durable(4, &mut out);
        assert_eq!(sent(&mut out), []);
        assert_eq!(conns.kept_bytes(), 2);
        conns.durable(5, &mut out);
        assert_eq!(sent(&mut out), [1, 2]);
        assert_eq!(conns.kept_bytes(), 0);
        assert_eq!(conns.unanswered(), 0);
    }

    #[test]
    fn a_request_that_is_carried_out_holds_only_its_own_connection() {
        let (mut conns, conn, mut out) = conns();
        let address = "127.0.0.1:9092".parse().unwrap();
        conns.connected(ConnId(2), ConnInfo { local: address, peer: address });
        let slot = conns.open(conn).unwrap();
        assert!(!conns.ready(conn));
        assert!(conns.ready(ConnId(2)));
        conns.fill(conn, slot, 0, response(1), 0, &mut out);
        assert!(conns.ready(conn));
    }

    #[test]
    fn who_asked_is_told_once_that_the_next_request_may_begin() {
        let (mut conns, conn, mut out) = conns();
        let is_told =
            |out: &mut VecDeque<Effect>| out.drain(..).filter(|effect| matches!(effect, Effect::Ready { .. })).count();
        assert!(!conns.will_tell(conn), "it may begin now");
        // Carried out and not durable: that is enough, also behind others.
        for _ in 0..2 {
            let slot = conns.open(conn).unwrap();
            assert!(conns.will_tell(conn));
            conns.fill(conn, slot, 1, response(1), 0, &mut out);
            assert_eq!(is_told(&mut out), 1);
        }
        let slot = conns.open(conn).unwrap();
        conns.fill(conn, slot, 1, response(1), 0, &mut out);
        assert_eq!(is_told(&mut out), 0, "nobody has asked");
        conns.durable(1, &mut out);
        assert_eq!(is_told(&mut out), 0);
        // A full pipeline has room again when its first is durable.
        for wait in 0..limits::PIPELINE_REQUESTS_MAX as u64 {
            let slot = conns.open(conn).unwrap();
            conns.fill(conn, slot, 2 + wait, response(1), 1, &mut out);
        }
        assert!(conns.will_tell(conn));
        conns.durable(2, &mut out);
        assert_eq!(is_told(&mut out), 1);
    }

    #[test]
    fn a_request_without_reply_keeps_its_place() {
        let (mut conns, conn, mut out) = conns();
        for (wait, reply) in [(1, response(1)), (2, None), (0, response(3))] {
            let slot = conns.open(conn).unwrap();
            conns.fill(conn, slot, wait, reply, 0, &mut out);
        }
        conns.durable(2, &mut out);
        assert_eq!(sent(&mut out), [1, 3]);
    }
}
