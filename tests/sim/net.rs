//! Owns the simulated network: connections that deliver frames late and in order, and break at any time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use chronik::broker::{ConnId, Response};

use super::model::Call;
use super::proto::{Answer, Ask};

/// A request on its way to the broker.
#[derive(Debug)]
pub struct Sent {
    pub correlation: i32,
    pub version: i16,
    pub ask: Ask,
    pub frame: Bytes,
}

impl Sent {
    /// Produce with acks=0 is the one request that gets no answer.
    pub fn is_answered(&self) -> bool {
        !matches!(&self.ask, Ask::Produce(request) if request.acks == 0)
    }
}

/// What the broker has for a connection, waiting for the socket to take it.
#[derive(Debug)]
pub enum Out {
    Answer {
        correlation: i32,
        response: Response,
        /// The bytes when the broker gave the response. They must be the same when the socket takes it.
        bytes: Bytes,
        answer: Box<Answer>,
    },
    Close,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    pub client: usize,
    /// On the wire.
    pub travelling: VecDeque<Sent>,
    /// In the broker's socket.
    pub arrived: VecDeque<Sent>,
    /// Handed in and not answered, in order.
    pub expected: VecDeque<Call>,
    pub out: VecDeque<Out>,
    /// Time at which the last frame arrives: frames do not overtake each other.
    pub last_arrival_us: u64,
    pub last_leave_us: u64,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Net {
    pub conns: BTreeMap<ConnId, Conn>,
    /// Each client's connection.
    pub of_client: BTreeMap<usize, ConnId>,
    opened: u64,
}

impl Net {
    pub fn open(&mut self, client: usize) -> ConnId {
        self.opened += 1;
        let id = ConnId(self.opened);
        let conn = Conn {
            client,
            travelling: VecDeque::new(),
            arrived: VecDeque::new(),
            expected: VecDeque::new(),
            out: VecDeque::new(),
            last_arrival_us: 0,
            last_leave_us: 0,
        };
        self.conns.insert(id, conn);
        self.of_client.insert(client, id);
        id
    }

    /// The connection is gone; its client.
    pub fn close(&mut self, id: ConnId) -> Option<usize> {
        let conn = self.conns.remove(&id)?;
        self.of_client.remove(&conn.client);
        Some(conn.client)
    }
}
