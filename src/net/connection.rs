//! Owns one client's connection: its socket, the frames that wait to be handled and the answers that wait to be sent.
//!
//! An idle connection costs this struct and a descriptor: it holds no buffer.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;

use super::complaints::Kind;
use super::frames::{self, FrameReader, ReadDesk, ReadError, Received};
use super::outgoing::{Outgoing, Sent, Tally};
use crate::broker::{ConnId, Response};
use crate::wal::Splice;

/// While heads of at least this many bytes wait to be sent, no further request of the connection is handled.
const OUTGOING_HEAD_BYTES_MAX: usize = 64 << 10;

/// As above, for the number of answers.
const OUTGOING_RESPONSES_MAX: usize = 512;

/// Most requests whose time of arrival is remembered; answers to older ones are not measured.
const ASKED_MAX: usize = 1024;

/// Why a connection is closed; without a kind it is nothing to talk about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub kind: Option<Kind>,
    pub text: String,
}

impl Why {
    /// A reason for the log.
    pub fn said(kind: Kind, text: impl Into<String>) -> Why {
        Why { kind: Some(kind), text: text.into() }
    }

    /// The client went away, as clients do.
    pub fn quiet() -> Why {
        Why { kind: None, text: String::new() }
    }
}

/// Whether and when the connection closes.
#[derive(Debug, Default)]
pub enum Closing {
    #[default]
    No,
    /// Nothing more is read; it closes when the frames that were read are handled.
    AfterHeld(Why),
    /// The client has closed its side and all that it sent is handled; it closes when the broker owes it no answer.
    AfterAnswers,
    /// It closes when what is queued has been sent.
    AfterSending(Why),
}

/// A request that was handed to the broker.
#[derive(Clone, Copy, Debug)]
struct Asked {
    api_key: i16,
    correlation_id: i32,
    at_us: u64,
}

/// A request's API key and the µs from its frame's arrival to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub api_key: i16,
    pub took_us: u64,
}

/// A place in one of several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub number: u64,
}

/// A client's connection. The flags are the reactor's.
#[derive(Debug)]
pub struct Connection {
    pub id: ConnId,
    pub peer: SocketAddr,
    stream: TcpStream,
    reader: FrameReader,
    held: VecDeque<Bytes>,
    outgoing: Outgoing,
    asked: VecDeque<Asked>,
    pub closing: Closing,
    /// The socket may have bytes for us: an edge was seen and nothing has said otherwise since.
    pub readable: bool,
    /// The socket may take bytes.
    pub writable: bool,
    /// The kernel said that the client's side is closed, so reading goes on to the end of the stream.
    pub read_closed: bool,
    /// The kernel said that nothing that is sent arrives any more.
    pub write_closed: bool,
    /// It stands in the queue of connections to read from.
    pub in_reads: bool,
    /// Visits that were over before all was done, since it last had nothing to do.
    pub long_visits: u8,
    /// It stands in the queue of connections to write to.
    pub in_writes: bool,
    /// Where it stands among those whose next frame has to wait.
    pub held_at: Option<Place>,
    /// Where it stands among those that wait for memory to read on.
    pub starved_at: Option<Place>,
    /// Its client has left, and there is no memory for its answers, or no way to send them: they are dropped.
    pub unheard: bool,
    /// When the table's timer for it fires, monotonic µs.
    pub timer_us: u64,
    /// When bytes last went either way.
    pub active_us: u64,
    /// When bytes last arrived.
    pub received_us: u64,
    /// Since when the incomplete request, if there is one, has been read as it arrives.
    pub partial_since_us: u64,
    /// When bytes were last sent, or the queue of answers last began to fill.
    pub sent_us: u64,
    /// When the queue of answers last began to fill.
    pub unsent_since_us: u64,
}

impl Connection {
    /// A connection that was accepted at `now_us`, whose answers are counted in `tally`.
    pub fn new(id: ConnId, peer: SocketAddr, stream: TcpStream, now_us: u64, tally: Tally) -> Connection {
        Connection {
            id,
            peer,
            stream,
            reader: FrameReader::default(),
            held: VecDeque::new(),
            outgoing: Outgoing::new(tally),
            asked: VecDeque::new(),
            closing: Closing::No,
            readable: false,
            writable: false,
            read_closed: false,
            write_closed: false,
            in_reads: false,
            long_visits: 0,
            in_writes: false,
            held_at: None,
            starved_at: None,
            unheard: false,
            timer_us: 0,
            active_us: now_us,
            received_us: now_us,
            partial_since_us: now_us,
            sent_us: now_us,
            unsent_since_us: now_us,
        }
    }

    /// Reads once from the socket. Complete frames are held; a stream that ends or goes wrong is noted in `closing`.
    pub fn receive(&mut self, desk: &mut ReadDesk, now_us: u64) -> usize {
        let (had_partial, held) = (self.reader.partial_bytes() > 0, self.held.len());
        match self.reader.receive(&mut &self.stream, desk, &mut self.held) {
            Ok(Received::Bytes { count, full }) => {
                if !had_partial || self.held.len() > held {
                    self.partial_since_us = now_us;
                }
                self.readable = full || self.read_closed;
                self.active_us = now_us;
                self.received_us = now_us;
                count
            }
            Ok(Received::Nothing) => {
                self.readable = false;
                0
            }
            Ok(Received::End) => {
                self.read_closed = true;
                self.stop_reading(Why::quiet())
            }
            Err(ReadError::Fault(fault)) => {
                if fault == frames::Fault::Http && self.held.is_empty() && self.outgoing.is_empty() {
                    self.outgoing.push(Response { head: HTTP_ANSWER.into(), inserts: Vec::new() });
                }
                self.stop_reading(Why::said(Kind::Garbage, fault.to_string()))
            }
            // Resets and time-outs are how clients leave; nobody wants a line for each.
            Err(ReadError::Socket(_)) => {
                self.write_closed = true;
                self.stop_reading(Why::quiet())
            }
        }
    }

    fn stop_reading(&mut self, why: Why) -> usize {
        self.readable = false;
        self.closing = Closing::AfterHeld(why);
        0
    }

    /// Sends what waits, at most about `bytes_max`. Returns the bytes sent and whether more can go at once.
    pub fn send(
        &mut self,
        bytes_max: usize,
        now_us: u64,
        ring: impl Fn(&Splice) -> Option<Bytes>,
    ) -> io::Result<(usize, Sent)> {
        let (count, sent) = self.outgoing.send(&self.stream, bytes_max, ring)?;
        if count > 0 {
            self.active_us = now_us;
            self.sent_us = now_us;
        }
        if sent == Sent::Full {
            self.writable = false;
        }
        Ok((count, sent))
    }

    /// Queues an answer. Tells which request it answers when that is known.
    pub fn answer(&mut self, response: Response, now_us: u64) -> Option<Answered> {
        let answered = self.match_request(&response.head, now_us);
        if self.outgoing.is_empty() {
            self.sent_us = now_us;
            self.unsent_since_us = now_us;
        }
        self.outgoing.push(response);
        answered
    }

    /// Finds the request by its correlation id. Requests before it had no answer to expect.
    fn match_request(&mut self, head: &[u8], now_us: u64) -> Option<Answered> {
        let correlation_id = i32::from_be_bytes(*head.get(4..8)?.first_chunk()?);
        let index = self.asked.iter().position(|asked| asked.correlation_id == correlation_id)?;
        let asked = self.asked[index];
        self.asked.drain(..=index);
        Some(Answered { api_key: asked.api_key, took_us: now_us.saturating_sub(asked.at_us) })
    }

    /// The API key of the request that comes next, if one is complete or so large that its memory matters. A frame too
    /// short to have a key never gets here.
    pub fn next_api_key(&self) -> Option<i16> {
        match self.held.front() {
            Some(frame) => frames::api_key(frame),
            None if self.reader.partial_bytes() > super::buffers::READ_BYTES => self.reader.partial_api_key(),
            None => None,
        }
    }

    /// Takes the frame that comes next, remembering when it arrived: nothing is read while frames are held, so that was
    /// when bytes last arrived.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        let frame = self.held.pop_front()?;
        if let (Some(api_key), Some(correlation_id)) = (frames::api_key(&frame), frames::correlation_id(&frame)) {
            if self.asked.len() >= ASKED_MAX {
                self.asked.pop_front();
            }
            self.asked.push_back(Asked { api_key, correlation_id, at_us: self.received_us });
        }
        Some(frame)
    }

    /// Whether frames wait to be handled.
    pub fn holds_frames(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether request bytes of this connection, complete or not, take memory here.
    pub fn holds_memory(&self) -> bool {
        !self.held.is_empty() || self.reader.partial_bytes() > 0
    }

    /// Bytes of memory that the incomplete request takes, and those that it says it will have.
    pub fn incomplete_bytes(&self) -> (usize, usize) {
        (self.reader.partial_bytes(), self.reader.claimed_bytes())
    }

    /// Bytes of the incomplete request that have arrived.
    pub fn arrived_bytes(&self) -> usize {
        self.reader.arrived_bytes()
    }

    /// Whether so much waits to be sent that no further request is handled.
    pub fn is_clogged(&self) -> bool {
        self.outgoing.memory_bytes() >= OUTGOING_HEAD_BYTES_MAX || self.outgoing.len() >= OUTGOING_RESPONSES_MAX
    }

    /// Bytes of memory of the answers that wait to be sent.
    pub fn unsent_bytes(&self) -> usize {
        self.outgoing.memory_bytes()
    }

    /// The complete frame that comes next.
    pub fn peek_frame(&self) -> Option<&Bytes> {
        self.held.front()
    }

    /// Bytes of the complete frame that comes next.
    pub fn next_frame_bytes(&self) -> usize {
        self.held.front().map_or(0, Bytes::len)
    }

    /// Whether answers wait to be sent.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Drops the answers that wait to be sent, and those to come.
    pub fn forget_answers(&mut self, tally: Tally) {
        self.unheard = true;
        self.outgoing = Outgoing::new(tally);
    }

    /// Drops the frames that were not handled.
    pub fn drop_held(&mut self) {
        self.held = VecDeque::new();
    }
}

/// What a browser or a scraper that was pointed at the Kafka port is told.
const HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
This is the Kafka port. Metrics and health have ports of their own: --metrics-port and --admin-port.\n";
