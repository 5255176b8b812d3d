//! Owns the simulated network: connections that deliver bytes late and in order, in any pieces, and break at any time.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::Bytes;
use chronik::broker::{ConnId, Response};
use chronik::net::frames::{FrameReader, ReadDesk, Source};

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
    stream: Stream,
}

/// The bytes of requests on their way, in runs in which they come in pieces.
#[derive(Debug, Default)]
struct Stream {
    bytes: VecDeque<u8>,
    /// Lengths of the pieces that are still to arrive.
    pieces: VecDeque<usize>,
    /// Bytes that lie in the socket.
    ready: usize,
    reader: FrameReader,
}

impl Source for &mut Stream {
    fn receive(&mut self, buf: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
        let count = self.ready.min(bytes_max).min(buf.capacity() - buf.len());
        buf.extend(self.bytes.drain(..count));
        self.ready -= count;
        Ok(count)
    }
}

impl Conn {
    /// A request's bytes go on their way in pieces, which end after `cuts` bytes.
    pub fn send_in_pieces(&mut self, frame: &[u8], mut cuts: Vec<usize>) -> usize {
        let len = 4 + frame.len();
        self.stream.bytes.extend((frame.len() as u32).to_be_bytes());
        self.stream.bytes.extend(frame);
        cuts.retain(|cut| (1..len).contains(cut));
        cuts.push(len);
        cuts.sort_unstable();
        cuts.dedup();
        let mut from = 0;
        for to in &cuts {
            self.stream.pieces.push_back(to - from);
            from = *to;
        }
        cuts.len()
    }

    /// A piece arrives; if it `waits`, the broker looks into the socket only when the next one has come, if one does.
    pub fn piece_arrives(&mut self, desk: &mut ReadDesk, waits: bool) -> Result<(), String> {
        let Stream { pieces, ready, .. } = &mut self.stream;
        *ready += pieces.pop_front().unwrap_or(0);
        if waits && !pieces.is_empty() {
            return Ok(());
        }
        let mut frames = VecDeque::new();
        while self.stream.ready > 0 {
            let mut reader = std::mem::take(&mut self.stream.reader);
            let received = reader.receive(&mut &mut self.stream, desk, &mut frames);
            self.stream.reader = reader;
            received.map_err(|error| format!("a good client's bytes are refused: {error:?}"))?;
        }
        for frame in frames {
            let sent = self.travelling.pop_front().ok_or("a request that nobody sent")?;
            if frame != sent.frame {
                return Err(format!("request {} has other bytes than were sent", sent.correlation));
            }
            self.arrived.push_back(Sent { frame, ..sent });
        }
        Ok(())
    }
}

/// Kafka's usual `socket.request.max.bytes`.
const FRAME_BYTES_MAX: usize = 100 << 20;

/// All connections.
#[derive(Debug)]
pub struct Net {
    pub conns: BTreeMap<ConnId, Conn>,
    /// Each client's connection.
    pub of_client: BTreeMap<usize, ConnId>,
    /// Where the bytes of all connections are received.
    pub desk: ReadDesk,
    opened: u64,
}

impl Default for Net {
    fn default() -> Net {
        Net { conns: BTreeMap::new(), of_client: BTreeMap::new(), desk: ReadDesk::new(FRAME_BYTES_MAX), opened: 0 }
    }
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
            stream: Stream::default(),
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
