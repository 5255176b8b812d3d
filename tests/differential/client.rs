//! Owns one connection to a server under comparison: frames out, frames in, and what happens when none comes.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::codec::{decode, Described};
use super::value::Value;

/// A frame from a server is at most this long; more means that a length was misread.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The answer's body.
    Answer(Value),
    /// The server closed the connection.
    Closed,
    /// Nothing came within the bound.
    Silent,
    /// An answer that is not one to this request.
    Unreadable(String),
    /// The request can't be made, because a value was never captured.
    Impossible(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answer(value) => write!(f, "an answer: {value}"),
            Outcome::Closed => f.write_str("closed"),
            Outcome::Silent => f.write_str("silent"),
            Outcome::Unreadable(why) => write!(f, "unreadable: {why}"),
            Outcome::Impossible(why) => write!(f, "the request could not be made: {why}"),
        }
    }
}

/// A request that is on its way.
#[derive(Clone, Copy)]
struct Pending {
    described: Option<Described>,
    version: i16,
    correlation_id: i32,
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    name: String,
    next_correlation: i32,
    pending: VecDeque<Pending>,
}

impl Client {
    pub fn connect(address: SocketAddr, name: &str) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, name: name.to_string(), next_correlation: 0, pending: VecDeque::new() })
    }

    /// Sends a request whose body is given; `cut` bytes at its end are left off. False when the connection is gone.
    pub fn send(&mut self, described: Described, version: i16, body: &[u8], cut: usize) -> bool {
        self.next_correlation += 1;
        let api = described.api;
        let mut frame = Vec::new();
        frame.extend(api.key.0.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(self.next_correlation.to_be_bytes());
        frame.extend((self.name.len() as i16).to_be_bytes());
        frame.extend(self.name.as_bytes());
        if api.request_header(version) >= 2 {
            frame.push(0);
        }
        frame.extend(body);
        frame.truncate(frame.len().saturating_sub(cut));
        let correlation_id = self.next_correlation;
        self.pending.push_back(Pending { described: Some(described), version, correlation_id });
        self.send_frame(&frame, frame.len() as i64)
    }

    /// Sends a frame as it is; its answer is read as that of this API and version, otherwise as bytes. The frame's
    /// correlation id must be 1.
    pub fn send_raw(&mut self, frame: &[u8], length: i64, read_as: Option<(Described, i16)>) -> bool {
        let (described, version) = read_as.map_or((None, 0), |(described, version)| (Some(described), version));
        self.pending.push_back(Pending { described, version, correlation_id: 1 });
        self.send_frame(frame, length)
    }

    fn send_frame(&mut self, frame: &[u8], length: i64) -> bool {
        let mut whole = (length as i32).to_be_bytes().to_vec();
        whole.extend(frame);
        self.stream.write_all(&whole).is_ok()
    }

    /// Waits for the answer to the oldest request without one.
    pub fn receive(&mut self, patience: Duration) -> Outcome {
        let Some(pending) = self.pending.pop_front() else {
            return Outcome::Impossible("no request is on its way".into());
        };
        let frame = match self.read_frame(patience) {
            Ok(frame) => frame,
            Err(outcome) => return outcome,
        };
        let Some(Described { api, response, .. }) = pending.described else {
            return Outcome::Answer(Value::Bytes(frame));
        };
        match chronik::wire::frame::parse_response(api, pending.version, &frame) {
            Err(error) => Outcome::Unreadable(error.to_string()),
            Ok((id, _)) if id != pending.correlation_id => {
                Outcome::Unreadable(format!("it answers request {id} and not {}", pending.correlation_id))
            }
            Ok((_, body)) => self.read_body(&pending, response, body),
        }
    }

    fn read_body(&self, pending: &Pending, response: &chronik::wire::schema::Struct, body: &[u8]) -> Outcome {
        let Some(Described { api, .. }) = pending.described else {
            return Outcome::Answer(Value::Bytes(body.to_vec()));
        };
        // A version that the broker doesn't know is answered in version 0 (KIP-511).
        let versions = [pending.version, 0];
        let tried = if api.name == "ApiVersions" { &versions[..] } else { &versions[..1] };
        let mut error = String::new();
        for version in tried {
            match decode(response, *version, api.is_flexible(*version), body) {
                Ok(value) => return Outcome::Answer(value),
                Err(wrong) => error = wrong.to_string(),
            }
        }
        Outcome::Unreadable(error)
    }

    fn read_frame(&mut self, patience: Duration) -> Result<Vec<u8>, Outcome> {
        let mut head = [0; 4];
        self.read_exact(&mut head, patience)?;
        let len = i32::from_be_bytes(head);
        if !(0..=FRAME_BYTES_MAX as i32).contains(&len) {
            return Err(Outcome::Unreadable(format!("a frame of {len} bytes")));
        }
        let mut frame = vec![0; len as usize];
        self.read_exact(&mut frame, patience)?;
        Ok(frame)
    }

    fn read_exact(&mut self, buf: &mut [u8], patience: Duration) -> Result<(), Outcome> {
        self.stream.set_read_timeout(Some(patience)).map_err(|_| Outcome::Closed)?;
        self.stream.read_exact(buf).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Silent,
            _ => Outcome::Closed,
        })
    }
}
