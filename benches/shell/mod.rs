//! Owns the reactor of the server around something that answers each request by itself, for the benches: no broker, no log, no threads.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::Arc;

use bytes::Bytes;
use chronik::broker::tiering::UploadDone;
use chronik::broker::work::WorkDone;
use chronik::broker::{CheckpointDone, ConnId, ConnInfo, Effect, Now, Response};
use chronik::metrics::Metrics;
use chronik::net::core::Core;
use chronik::net::inbox::Inbox;
use chronik::net::reactor::{EventQueue, Limits, Outlets, Reactor};
use chronik::sys::clock::Clock;
use chronik::wal::tidy::TidyDone;
use chronik::wal::{Group, ReadDone, Splice, Written};

/// What answers at once.
pub trait Answering {
    /// The answer to a request frame.
    fn answer(&mut self, frame: &Bytes) -> Response;

    /// What a splice in an answer stands for, if that is in memory.
    fn in_memory(&self) -> Option<Bytes> {
        None
    }
}

/// In the broker's place.
pub struct Shell<A> {
    answering: A,
    effects: VecDeque<Effect>,
}

impl<A: Answering> Core for Shell<A> {
    fn connected(&mut self, _conn: ConnId, _info: ConnInfo) {}
    fn disconnected(&mut self, _now: Now, _conn: ConnId) {}
    fn abandon(&mut self, _now: Now, _conn: ConnId) {}
    fn owes(&self, _conn: ConnId) -> bool {
        false
    }
    fn ready_for(&self, _conn: ConnId, _api_key: i16) -> bool {
        true
    }
    fn will_tell(&mut self, _conn: ConnId) -> bool {
        false
    }
    fn request(&mut self, _now: Now, conn: ConnId, frame: Bytes) {
        let response = self.answering.answer(&frame);
        self.effects.push_back(Effect::Send { conn, response });
    }
    fn written(&mut self, _now: Now, _written: Written) {}
    fn read_done(&mut self, _now: Now, _done: ReadDone) {}
    fn work_done(&mut self, _now: Now, _done: WorkDone) {}
    fn checkpoint_done(&mut self, _now: Now, _done: CheckpointDone) {}
    fn uploaded(&mut self, _now: Now, _done: UploadDone) {}
    fn tidy_done(&mut self, _now: Now, _done: TidyDone) {}
    fn expire(&mut self, _now: Now) {}
    fn deadline_us(&self) -> Option<u64> {
        None
    }
    fn next_group(&mut self, _now: Now) -> Option<Group> {
        None
    }
    fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
    fn ring_bytes(&self, _splice: &Splice) -> Option<Bytes> {
        self.answering.in_memory()
    }
    fn kept_answer_bytes(&self) -> usize {
        0
    }
    fn unsent(&mut self, _now: Now, _bytes: usize) {}
    fn stop(&mut self, _now: Now) {}
    fn is_drained(&self) -> bool {
        true
    }
}

/// Serves for ever, in the calling thread. `started` gets what the reactor can be asked through.
pub fn serve<A: Answering + 'static>(listener: TcpListener, answering: A, started: impl FnOnce(Inbox<Shell<A>>)) {
    let core = Shell { answering, effects: VecDeque::new() };
    let events = EventQueue::new().expect("an event queue");
    started(events.inbox());
    let limits = Limits {
        connections_max: 1000,
        connections_per_ip_max: 1000,
        idle_us: None,
        unread_us: 60_000_000,
        linger_us: 5_000_000,
        frame_bytes_max: 100 << 20,
        request_bytes_max: 128 << 20,
        response_bytes_max: 128 << 20,
        stop_us: 1_000_000,
    };
    let metrics = Arc::new(Metrics::new());
    Reactor::new(events, core, listener, Outlets::default(), limits, metrics, Clock::start()).expect("a reactor").run();
}
