//! Owns the vocabulary between the broker core and its shell: identities, time, effects.

use std::net::SocketAddr;

use bytes::Bytes;

use super::checkpoint::Frozen;
use super::tiering::StoredObject;
use crate::wal::checkpoint::Floor;
use crate::wal::tidy::TidyJob;
use crate::wal::{GroupSeq, LogPosition, ReadJob, SegmentId, Splice};

/// A connection, named by the shell; never used again after `Broker::disconnected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// The time at which an event happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, µs since any fixed point. Timers use it.
    pub mono_us: u64,
    /// Wall clock, ms since 1970. Timestamps and retention use it; it may jump.
    pub wall_ms: i64,
}

impl Now {
    /// Monotonic milliseconds, rounded down.
    pub fn mono_ms(self) -> u64 {
        self.mono_us / 1000
    }
}

/// What the shell knows of a connection when it is accepted.
#[derive(Clone, Copy, Debug)]
pub struct ConnInfo {
    /// The address of ours that the client reached, told to it as the broker's when nothing else is configured.
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// A whole response frame, length prefix included: `head` with record data inserted.
#[derive(Debug, Default)]
pub struct Response {
    pub head: Vec<u8>,
    /// Record data, each before the byte of `head` at the given index; in rising order. The frame's length prefix counts it.
    pub inserts: Vec<(usize, Insert)>,
}

impl Response {
    /// Bytes of memory that it holds until it is sent.
    pub fn memory_bytes(&self) -> usize {
        self.head.capacity() + self.inserts.iter().map(|(_, insert)| insert.memory_bytes()).sum::<usize>()
    }
}

/// Record data of a response that is not copied into its head.
#[derive(Clone, Debug)]
pub enum Insert {
    /// To be sent from the log.
    Log(Splice),
    Memory(Bytes),
}

impl Insert {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Insert::Log(splice) => splice.len as usize,
            Insert::Memory(bytes) => bytes.len(),
        }
    }

    /// Whether there are no bytes to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it holds until it is sent; what is sent from the log holds none.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Insert::Log(_) => 0,
            Insert::Memory(bytes) => bytes.len(),
        }
    }
}

/// What the shell has to do.
#[derive(Debug)]
pub enum Effect {
    /// Send to the connection, after what was sent before. Unknown connections are ignored.
    Send { conn: ConnId, response: Response },
    /// The next frame of the connection may begin, as far as the earlier ones of the connection are concerned. Told once to who has
    /// asked for it (`Broker::will_tell`).
    Ready { conn: ConnId },
    /// Send what is queued and close; `why` is written to the log (rate-limited) for the operator.
    Close { conn: ConnId, why: String },
    /// Work for a reader thread; answered by `Broker::read_done`.
    Read(ReadJob),
    /// CPU-heavy work for a worker thread; answered by `Broker::work_done`.
    Work(super::work::WorkJob),
    /// Write a checkpoint on the housekeeper thread; answered by `Broker::checkpoint_done`.
    Checkpoint(CheckpointJob),
    /// Make a pack on the tidier thread; answered by `Broker::tidy_done`. There is one at a time.
    Tidy(TidyJob),
    /// Stop making the pack that is being made, which is answered all the same; nothing if none is being made.
    StopTidy,
    /// Send to the object store what it lacks (uploader); answered by `Broker::uploaded`. There is one at a time. `looks` if the store
    /// has to be asked what it holds.
    Upload { looks: bool },
    /// From now on a segment is read from the object store; unlink the local copy (housekeeper). No answer.
    Evict(SegmentId, StoredObject),
    /// Unlink a segment that nobody needs any more (housekeeper); no answer. Its file may be gone already.
    Remove(SegmentId),
    /// Log this much for people from now on; no answer.
    LogLevel(log::LevelFilter),
}

/// A snapshot of the state as of the end of group `seq`, which is durable.
#[derive(Debug)]
pub struct CheckpointJob {
    pub seq: GroupSeq,
    /// Where the group after `seq` begins.
    pub position: LogPosition,
    pub state: Frozen,
}

/// A checkpoint was written, or could not be (which costs space, not safety).
#[derive(Debug)]
pub struct CheckpointDone {
    pub seq: GroupSeq,
    /// What the kept checkpoints still need.
    pub result: Result<Floor, String>,
}
