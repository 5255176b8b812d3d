//! Owns a scripted broker behind a real reactor, and a client that speaks in raw frames.
//!
//! What a request does is said by its API key: see `Scripted::request`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik::broker::tiering::UploadDone;
use chronik::broker::work::WorkDone;
use chronik::broker::{CheckpointDone, ConnId, ConnInfo, Effect, Insert, Now, Response};
use chronik::metrics::Metrics;
use chronik::net::core::Core;
use chronik::net::inbox::{Completion, Inbox};
use chronik::net::reactor::{EventQueue, Limits, Outcome, Outlets, Reactor};
use chronik::sys::aligned::AlignedBuf;
use chronik::sys::clock::Clock;
use chronik::sys::disk::DiskFile;
use chronik::sys::socket;
use chronik::wal::tidy::TidyDone;
use chronik::wal::{Group, LogPosition, ReadDone, SegmentHandle, SegmentId, Splice, Written};

/// Appended to a group; answered when it is durable. A payload of `0` gets no answer.
pub const PRODUCE: i16 = 0;
/// Parked: answered after as many ms as the payload's first four bytes say; holds its connection until then.
pub const PARK: i16 = 1;
/// Answered at once with as many bytes of filler as the payload's first four bytes say.
pub const FILL: i16 = 2;
/// Answered with the file's bytes: the payload names ranges as pairs of u32 (position, length), each behind a `|`.
pub const FETCH: i16 = 3;
/// Answered with nothing after a ms, in which the thread does nothing else.
pub const SPIN: i16 = 4;
/// Keeps the request, and answers nothing.
pub const KEEP: i16 = 8;
/// Answered at once with its own payload.
pub const ECHO: i16 = 18;
/// The broker closes the connection.
pub const CLOSE: i16 = 99;

/// What the broker saw, for the test to look at.
#[derive(Debug, Default)]
pub struct Seen {
    pub requests: AtomicUsize,
    pub connected: AtomicUsize,
    pub disconnected: AtomicUsize,
    /// Requests that were parked, whatever has become of them.
    pub parked: AtomicUsize,
    /// How often the broker was asked whether a connection's next request may begin.
    pub asked: AtomicUsize,
    /// How often the broker was asked whether it owes a connection answers.
    pub owed: AtomicUsize,
    /// Requests of this turn, and the most of any.
    pub in_this_turn: AtomicUsize,
    pub most_in_a_turn: AtomicUsize,
    /// Requests that are kept.
    pub kept: AtomicUsize,
    /// Record data is served from memory when set, otherwise from the file.
    pub in_ring: AtomicBool,
    /// Produce requests are not wanted while set.
    pub behind: AtomicBool,
    /// Clients that go leave something to be written while set.
    pub wills: AtomicBool,
}

/// A file in memory, which `sendfile` cannot have.
#[derive(Debug)]
pub struct MemFile(pub Vec<u8>);

impl DiskFile for MemFile {
    fn write_at(&self, _bytes: &[u8], _position: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let rest = &self.0[(position as usize).min(self.0.len())..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn truncate(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The bytes that `FETCH` serves.
pub fn file_bytes() -> Vec<u8> {
    (0..4_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
}

pub struct Scripted {
    seen: Arc<Seen>,
    file: SegmentHandle,
    memory: Bytes,
    effects: VecDeque<Effect>,
    parked: BTreeMap<ConnId, (u64, i32)>,
    /// Who is told when nothing of it is parked any more.
    awaited: BTreeSet<ConnId>,
    kept: Vec<Bytes>,
    gathered: Vec<Option<(ConnId, i32)>>,
    in_flight: Vec<Option<(ConnId, i32)>>,
    seq: u64,
    stopping: bool,
}

impl Scripted {
    fn new(seen: Arc<Seen>) -> Scripted {
        let bytes = file_bytes();
        Scripted {
            seen,
            memory: bytes.clone().into(),
            file: SegmentHandle { segment: SegmentId::FIRST, file: Arc::new(MemFile(bytes)) },
            effects: VecDeque::new(),
            parked: BTreeMap::new(),
            awaited: BTreeSet::new(),
            kept: Vec::new(),
            gathered: Vec::new(),
            in_flight: Vec::new(),
            seq: 0,
            stopping: false,
        }
    }

    fn answer(&mut self, conn: ConnId, correlation_id: i32, payload: &[u8], splices: Vec<(usize, Splice)>) {
        let spliced: usize = splices.iter().map(|(_, splice)| splice.len as usize).sum();
        let mut head = ((4 + payload.len() + spliced) as u32).to_be_bytes().to_vec();
        head.extend(correlation_id.to_be_bytes());
        head.extend(payload);
        let inserts = splices.into_iter().map(|(at, splice)| (at, Insert::Log(splice))).collect();
        self.effects.push_back(Effect::Send { conn, response: Response { head, inserts } });
    }

    /// Nothing of the connection is parked any more.
    fn unpark(&mut self, conn: ConnId) {
        self.parked.remove(&conn);
        if self.awaited.remove(&conn) {
            self.effects.push_back(Effect::Ready { conn });
        }
    }

    fn fetch(&mut self, conn: ConnId, correlation_id: i32, payload: &[u8]) {
        let mut head = Vec::new();
        let mut splices = Vec::new();
        for range in payload.chunks_exact(8) {
            head.push(b'|');
            let (position, len) = (u32_at(range, 0), u32_at(range, 4));
            let splice = Splice { handle: self.file.clone(), position: position.into(), len };
            splices.push((8 + head.len(), splice));
        }
        self.answer(conn, correlation_id, &head, splices);
    }
}

impl Core for Scripted {
    fn connected(&mut self, _conn: ConnId, _info: ConnInfo) {
        self.seen.connected.fetch_add(1, Ordering::SeqCst);
    }

    fn disconnected(&mut self, _now: Now, conn: ConnId) {
        self.parked.remove(&conn);
        if self.seen.wills.load(Ordering::SeqCst) {
            self.gathered.push(None);
        }
        self.seen.disconnected.fetch_add(1, Ordering::SeqCst);
    }

    fn abandon(&mut self, _now: Now, conn: ConnId) {
        self.unpark(conn);
    }

    fn owes(&self, conn: ConnId) -> bool {
        self.seen.owed.fetch_add(1, Ordering::SeqCst);
        let appended = self.gathered.iter().chain(&self.in_flight).flatten();
        self.parked.contains_key(&conn) || appended.into_iter().any(|(of, _)| *of == conn)
    }

    fn will_tell(&mut self, conn: ConnId) -> bool {
        let is_parked = self.parked.contains_key(&conn);
        if is_parked {
            self.awaited.insert(conn);
        }
        is_parked
    }

    fn ready_for(&self, conn: ConnId, api_key: i16) -> bool {
        self.seen.asked.fetch_add(1, Ordering::SeqCst);
        !(self.parked.contains_key(&conn) || api_key == PRODUCE && self.seen.behind.load(Ordering::SeqCst))
    }

    fn request(&mut self, now: Now, conn: ConnId, frame: Bytes) {
        self.seen.requests.fetch_add(1, Ordering::SeqCst);
        let so_many = self.seen.in_this_turn.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.most_in_a_turn.fetch_max(so_many, Ordering::SeqCst);
        let api_key = i16::from_be_bytes([frame[0], frame[1]]);
        let correlation_id = u32_at(&frame, 4) as i32;
        let payload = &frame[8..];
        match api_key {
            PRODUCE => self.gathered.push((payload != b"0").then_some((conn, correlation_id))),
            PARK => {
                let until_us = now.mono_us + u64::from(u32_at(payload, 0)) * 1000;
                self.parked.insert(conn, (until_us, correlation_id));
                self.seen.parked.fetch_add(1, Ordering::SeqCst);
            }
            FILL => self.answer(conn, correlation_id, &vec![b'x'; u32_at(payload, 0) as usize], Vec::new()),
            FETCH => self.fetch(conn, correlation_id, payload),
            KEEP => {
                self.kept.push(frame);
                self.seen.kept.fetch_add(1, Ordering::SeqCst);
            }
            SPIN => {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(1) {}
                self.answer(conn, correlation_id, b"", Vec::new());
            }
            CLOSE => self.effects.push_back(Effect::Close { conn, why: "it asked for it".into() }),
            _ => self.answer(conn, correlation_id, payload, Vec::new()),
        }
    }

    fn written(&mut self, _now: Now, _written: Written) {
        for (conn, correlation_id) in std::mem::take(&mut self.in_flight).into_iter().flatten() {
            self.answer(conn, correlation_id, b"durable", Vec::new());
        }
    }

    fn read_done(&mut self, _now: Now, _done: ReadDone) {}
    fn work_done(&mut self, _now: Now, _done: WorkDone) {}
    fn checkpoint_done(&mut self, _now: Now, _done: CheckpointDone) {}
    fn uploaded(&mut self, _now: Now, _done: UploadDone) {}

    fn tidy_done(&mut self, _now: Now, _done: TidyDone) {}

    fn expire(&mut self, now: Now) {
        let due: Vec<_> =
            self.parked.iter().filter(|(_, (until, _))| *until <= now.mono_us).map(|(c, p)| (*c, p.1)).collect();
        for (conn, correlation_id) in due {
            self.answer(conn, correlation_id, b"waited", Vec::new());
            self.unpark(conn);
        }
    }

    fn deadline_us(&self) -> Option<u64> {
        self.parked.values().map(|(until_us, _)| *until_us).min()
    }

    fn next_group(&mut self, _now: Now) -> Option<Group> {
        if self.gathered.is_empty() {
            return None;
        }
        self.in_flight = std::mem::take(&mut self.gathered);
        self.seq += 1;
        Some(Group { seq: self.seq, ..Group::default() })
    }

    fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn ring_bytes(&self, splice: &Splice) -> Option<Bytes> {
        if !self.seen.in_ring.load(Ordering::SeqCst) {
            return None;
        }
        let from = splice.position as usize;
        Some(self.memory.slice(from..from + splice.len as usize))
    }

    fn kept_answer_bytes(&self) -> usize {
        0
    }

    /// Told at the end of each turn.
    fn unsent(&mut self, _now: Now, _bytes: usize) {
        self.seen.in_this_turn.store(0, Ordering::SeqCst);
    }

    fn stop(&mut self, _now: Now) {
        self.stopping = true;
        for (conn, (_, correlation_id)) in std::mem::take(&mut self.parked) {
            self.answer(conn, correlation_id, b"stopping", Vec::new());
        }
    }

    fn is_drained(&self) -> bool {
        self.stopping && self.gathered.is_empty() && self.in_flight.is_empty() && self.effects.is_empty()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Bounds that no test meets by accident.
pub fn wide_limits() -> Limits {
    Limits {
        connections_max: 100_000,
        connections_per_ip_max: 100_000,
        idle_us: Some(600_000_000),
        unread_us: 60_000_000,
        linger_us: 60_000_000,
        frame_bytes_max: 8 << 20,
        request_bytes_max: 64 << 20,
        response_bytes_max: 64 << 20,
        stop_us: 10_000_000,
    }
}

/// A reactor on a thread of its own.
pub struct Rig {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    pub metrics: Arc<Metrics>,
    pub inbox: Inbox<Scripted>,
    /// Groups that wait to be reported durable with `make_durable`.
    pub groups: mpsc::Receiver<Group>,
    /// The kernel's number of the reactor's thread (Linux; 0 elsewhere).
    pub thread_id: i32,
    thread: JoinHandle<Outcome>,
}

impl Rig {
    /// Starts a reactor under these bounds.
    pub fn start(limits: Limits) -> Rig {
        let listener = socket::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let metrics = Arc::new(Metrics::new());
        let (groups_in, groups) = mpsc::channel();
        let (ready_in, ready) = mpsc::channel();
        let thread = {
            let (seen, metrics) = (Arc::clone(&seen), Arc::clone(&metrics));
            std::thread::spawn(move || {
                let outlets =
                    Outlets { group: Box::new(move |group| groups_in.send(group).unwrap()), ..Outlets::default() };
                let events = EventQueue::new().unwrap();
                let inbox = events.inbox();
                let scripted = Scripted::new(seen);
                let reactor =
                    Reactor::new(events, scripted, listener, outlets, limits, metrics, Clock::start()).unwrap();
                ready_in.send((inbox, this_thread())).unwrap();
                reactor.run()
            })
        };
        let (inbox, thread_id) = ready.recv().unwrap();
        Rig { address, seen, metrics, inbox, groups, thread_id, thread }
    }

    pub fn client(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// Waits for the group being written and reports it durable.
    pub fn make_durable(&self) {
        self.written(&self.groups.recv().unwrap());
    }

    /// Reports a group durable.
    pub fn written(&self, group: &Group) {
        self.inbox.push(Completion::Written(Written {
            seq: group.seq,
            runs: Vec::new(),
            handle: SegmentHandle { segment: SegmentId::FIRST, file: Arc::new(MemFile(Vec::new())) },
            position: 0,
            buf: Arc::new(AlignedBuf::with_capacity(1)),
            next: LogPosition::default(),
            sealed: None,
            space_bytes: 0,
            sync_micros: 0,
        }));
    }

    /// Runs a question on the reactor's thread and waits until that turn has come.
    pub fn turn(&self) {
        let (done_in, done) = mpsc::channel();
        self.inbox.push(Completion::Ask(Box::new(move |_| done_in.send(()).unwrap())));
        done.recv().unwrap();
    }

    /// Takes turns until the condition holds.
    pub fn turn_until(&self, mut condition: impl FnMut(&Seen) -> bool) {
        while !condition(&self.seen) {
            self.turn();
            std::thread::yield_now();
        }
    }

    /// Stops the reactor; how it ended.
    pub fn stop(self) -> Outcome {
        self.inbox.push(Completion::Stop);
        self.thread.join().unwrap()
    }

    /// Waits for the reactor to end by itself.
    pub fn join(self) -> Outcome {
        self.thread.join().unwrap()
    }
}

#[cfg(target_os = "linux")]
fn this_thread() -> i32 {
    let path = std::fs::read_link("/proc/thread-self").unwrap();
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[cfg(not(target_os = "linux"))]
fn this_thread() -> i32 {
    0
}

/// A client that sends and receives raw frames.
pub struct Client {
    pub stream: TcpStream,
}

/// A request frame with its length prefix.
pub fn request(api_key: i16, correlation_id: i32, payload: &[u8]) -> Vec<u8> {
    let mut frame = ((8 + payload.len()) as u32).to_be_bytes().to_vec();
    frame.extend(api_key.to_be_bytes());
    frame.extend(0i16.to_be_bytes());
    frame.extend(correlation_id.to_be_bytes());
    frame.extend(payload);
    frame
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        Client { stream }
    }

    pub fn send(&mut self, api_key: i16, correlation_id: i32, payload: &[u8]) {
        self.stream.write_all(&request(api_key, correlation_id, payload)).unwrap();
    }

    /// The next answer: correlation id and payload.
    pub fn receive(&mut self) -> (i32, Vec<u8>) {
        let mut prefix = [0; 8];
        self.stream.read_exact(&mut prefix).unwrap();
        let mut payload = vec![0; u32_at(&prefix, 0) as usize - 4];
        self.stream.read_exact(&mut payload).unwrap();
        (u32_at(&prefix, 4) as i32, payload)
    }

    /// Whether the server has closed (or resets) the connection; waits for the next byte or the end.
    pub fn is_closed(&mut self) -> bool {
        !matches!(self.stream.read(&mut [0]), Ok(1))
    }
}
