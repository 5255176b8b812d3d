//! Owns the broker state machine: it is told events and returns effects.
//!
//! The shell (net/ in the server, tests/sim in the simulation) calls the methods of `Broker` from one thread and carries
//! out the effects. Nothing here opens a file or a socket, starts a thread or reads a clock: `Now` comes with each event.
//!
//! The rules that hold everywhere:
//! - What is *appended* (an offset assigned, a sequence number accepted, an offset commit taken) gets into the next group.
//!   A reply that tells of it is built at once and held back until that group is durable.
//! - A control-plane reply waits for all metadata appended before it, whoever appended it; so nobody ever sees state
//!   that a crash could take back.
//! - Replies of one connection leave in the order of its requests.

pub mod effect;
pub mod gather;
pub mod groups;
pub mod metalog;
pub mod reply;
pub mod work;

pub use effect::{CheckpointDone, CheckpointJob, ConnId, ConnInfo, Effect, Now, Response};

use crate::wal;

/// The broker. See the module's page for its rules.
#[derive(Debug)]
pub struct Broker {}

/// The calls of the shell, in the order in which a turn of the reactor makes them.
impl Broker {
    /// A client connected.
    pub fn connected(&mut self, _conn: ConnId, _info: ConnInfo) {}

    /// A connection is gone, for whatever reason. What it had appended stays appended.
    pub fn disconnected(&mut self, _now: Now, _conn: ConnId) {}

    /// Whether a frame of this connection with this API key may be handed in now. False while an earlier request of the
    /// connection holds it (a parked fetch, a join), while its pipeline is full, or, for Produce, while the log is behind.
    /// The shell keeps the frame, stops reading the socket, and asks again after each turn.
    pub fn ready_for(&self, _conn: ConnId, _api_key: i16) -> bool {
        true
    }

    /// One request frame without its length prefix.
    pub fn request(&mut self, _now: Now, _conn: ConnId, _frame: bytes::Bytes) {}

    /// The group in flight is durable.
    pub fn written(&mut self, _now: Now, _written: wal::Written) {}

    pub fn read_done(&mut self, _now: Now, _done: wal::ReadDone) {}

    pub fn work_done(&mut self, _now: Now, _done: work::WorkDone) {}

    pub fn checkpoint_done(&mut self, _now: Now, _done: CheckpointDone) {}

    /// Carries out every timer that is due.
    pub fn expire(&mut self, _now: Now) {}

    /// When `expire` is next needed, in monotonic µs; `None` while nothing is timed.
    pub fn deadline_us(&self) -> Option<u64> {
        None
    }

    /// The next group to write, if there is anything. Called only while no group is in flight.
    pub fn next_group(&mut self, _now: Now) -> Option<wal::Group> {
        None
    }

    /// The next effect to carry out, oldest first.
    pub fn next_effect(&mut self) -> Option<Effect> {
        None
    }

    /// Bytes of the log that are still in memory, from which the shell resolves splices.
    pub fn ring_bytes(&self, _splice: &wal::Splice) -> Option<bytes::Bytes> {
        None
    }

    /// Begins a clean stop: parked fetches and joins are answered, new requests are refused by closing. The shell goes on
    /// with groups and sends until `is_drained`.
    pub fn stop(&mut self, _now: Now) {}

    /// After `stop`: everything appended is durable and answered, and the last checkpoint has been handed out.
    pub fn is_drained(&self) -> bool {
        true
    }
}
