//! Owns the loop that everything else hangs on: one thread, every socket, every call to the broker.
//!
//! This is the only file that names mio. The kernel reports edges, not levels: a socket is reported once when something
//! changes, and never again for what was left in it. So what a turn does not finish stays in one of two queues
//! (connections to read from, connections to write to), and a turn that leaves work behind does not wait.
//!
//! With nothing to do and no timer the thread sleeps without end.

mod burst;
mod leaving;
mod shortage;
mod visits;
mod waiting;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::complaints::{shown, Complaints, Kind};
use super::connection::{Closing, Why};
use super::core::Core;
use super::frames::ReadDesk;
use super::inbox::{Completion, Inbox};
use super::outgoing::Sent;
use super::table::Table;
use crate::broker::tiering::StoredObject;
use crate::broker::work::WorkJob;
use crate::broker::{CheckpointJob, ConnId, ConnInfo, Effect, Now, Response};
use crate::metrics::Metrics;
use crate::sys::clock::Clock;
use crate::sys::signals::Signals;
use crate::sys::socket;
use crate::sys::usage::thread_cpu_us;
use crate::wal::tidy::TidyJob;
use crate::wal::{Group, ReadJob, SegmentId};

const WAKER: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);
const SIGNALS: Token = Token(usize::MAX - 2);

/// Edges taken from the kernel in one turn; the others come with the next.
const EVENTS_PER_TURN: usize = 1024;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;

/// Bytes of the memory of large requests that are given back in one turn: the system takes its time for them.
const TURN_GIVE_BACK_BYTES: usize = 2 << 20;

/// Bytes sent to one connection in one turn; to all whose answers are longer than `FIRST_SEND_BYTES`; and of each answer at first,
/// while there are more than `FEW_WRITES`, so that short ones do not wait for long ones.
const CONNECTION_SEND_BYTES: usize = 256 << 10;
const TURN_SEND_BYTES: usize = 1 << 20;
const FIRST_SEND_BYTES: usize = 64 << 10;
const FEW_WRITES: usize = 4;

/// How long accepting rests when no descriptor was free, unless a connection is closed before.
const ACCEPT_REST_US: u64 = 1_000_000;

/// How long, after everything is answered, a stop waits for clients to read it.
const LAST_SENDS_US: u64 = 1_000_000;

/// API keys whose latency is measured.
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;

/// The bounds of the shell.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most open connections, and most from one address.
    pub connections_max: usize,
    pub connections_per_ip_max: usize,
    /// `connections.max.idle.ms` in µs; none when idle connections stay.
    pub idle_us: Option<u64>,
    /// How long a client may read nothing while answers wait for it, in µs.
    pub unread_us: u64,
    /// How long a connection that is being closed, by its client or by us, may read nothing of its last answers, in µs.
    pub linger_us: u64,
    /// `socket.request.max.bytes`.
    pub frame_bytes_max: usize,
    /// `queued.max.request.bytes`: all request frames in memory together.
    pub request_bytes_max: usize,
    /// Most bytes of answers in memory, record data that is in the log or its ring not counted.
    pub response_bytes_max: usize,
    /// How long a clean stop may take, in µs.
    pub stop_us: u64,
}

/// Where the broker's orders to other threads go. None of these may block.
pub struct Outlets {
    pub group: Box<dyn FnMut(Group)>,
    pub read: Box<dyn FnMut(ReadJob)>,
    pub work: Box<dyn FnMut(WorkJob)>,
    pub checkpoint: Box<dyn FnMut(CheckpointJob)>,
    pub tidy: Box<dyn FnMut(TidyJob)>,
    /// Stops making the pack that is being made.
    pub stop_tidy: Box<dyn FnMut()>,
    pub remove: Box<dyn FnMut(SegmentId)>,
    pub upload: Box<dyn FnMut(bool)>,
    pub evict: Box<dyn FnMut(SegmentId, StoredObject)>,
    /// Gives back the memory that the allocator keeps.
    pub trim: Box<dyn FnMut()>,
    /// SIGHUP came.
    pub reload: Box<dyn FnMut()>,
    /// A clean stop begins.
    pub stopping: Box<dyn FnMut()>,
}

/// To no threads: nothing that is asked for is done, or answered.
impl Default for Outlets {
    fn default() -> Outlets {
        Outlets {
            group: Box::new(|_| {}),
            read: Box::new(|_| {}),
            work: Box::new(|_| {}),
            checkpoint: Box::new(|_| {}),
            tidy: Box::new(|_| {}),
            stop_tidy: Box::new(|| {}),
            remove: Box::new(|_| {}),
            upload: Box::new(|_| {}),
            evict: Box::new(|_, _| {}),
            trim: Box::new(|| {}),
            reload: Box::new(|| {}),
            stopping: Box::new(|| {}),
        }
    }
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A clean stop. `complete` is false when its time ran out first.
    Stopped { complete: bool },
    /// The log cannot go on; what was not durable was not answered.
    Fatal(String),
    /// The kernel refuses to wait for events.
    Failed(String),
}

/// Whether new connections are taken.
#[derive(Debug, Default)]
struct Accepting {
    /// Connections may be waiting.
    ready: bool,
    /// No descriptor was free; try again then, or when a connection is closed.
    resting_until_us: Option<u64>,
    /// The shortage was mentioned in the log already.
    said: bool,
}

/// What the stop waits for, in monotonic µs.
#[derive(Clone, Copy, Debug)]
struct Stopping {
    deadline_us: u64,
    drained_us: Option<u64>,
}

/// The kernel's queue of events, and the inbox that wakes who waits there. It comes first, because the threads that
/// report to the inbox are there before the reactor is.
pub struct EventQueue<C> {
    poll: Poll,
    inbox: Inbox<C>,
}

impl<C: 'static> EventQueue<C> {
    /// An empty queue.
    pub fn new() -> io::Result<EventQueue<C>> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        // Waking can only fail when the counter behind it is full, and then the reactor wakes anyway.
        let inbox = Inbox::new(move || drop(waker.wake()));
        Ok(EventQueue { poll, inbox })
    }

    /// Where other threads report to.
    pub fn inbox(&self) -> Inbox<C> {
        self.inbox.clone()
    }
}

/// The loop and what it needs.
pub struct Reactor<C> {
    core: C,
    poll: Poll,
    listener: Option<TcpListener>,
    signals: Option<Signals>,
    signalled: bool,
    inbox: Inbox<C>,
    completions: VecDeque<Completion<C>>,
    outlets: Outlets,
    limits: Limits,
    clock: Clock,
    metrics: Arc<Metrics>,
    table: Table,
    desk: ReadDesk,
    complaints: Complaints,
    accepting: Accepting,
    /// Connections to read from: an edge was seen, or more is left.
    visits: visits::Visits,
    /// Connections to write to, and those of them whose answers are long, which come behind the others.
    writes: VecDeque<ConnId>,
    long_writes: VecDeque<ConnId>,
    /// Connections whose next frame has to wait for others.
    held: waiting::Held,
    /// Connections whose clients have closed their side.
    leavers: leaving::Leavers,
    /// Connections that wait until request frames in memory become fewer.
    starved: shortage::Starved,
    /// Bytes of requests at the end of the last turn.
    requests_seen: usize,
    /// When to look for connections that make the shortage worse.
    shortage_check_us: Option<u64>,
    /// Memory for answers is short, and when to look for connections that hold most of it.
    answers_check_us: Option<u64>,
    burst: burst::Burst,
    /// Who was the first of the starved when that was last looked at, and how many bytes of its request had arrived.
    first_starved: Option<(ConnId, usize)>,
    group_in_flight: bool,
    fatal: Option<String>,
    stopping: Option<Stopping>,
}

/// Making and running it.
impl<C: Core + 'static> Reactor<C> {
    /// A reactor over a listening socket that does not block.
    pub fn new(
        events: EventQueue<C>,
        core: C,
        listener: TcpListener,
        outlets: Outlets,
        limits: Limits,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> io::Result<Reactor<C>> {
        let EventQueue { poll, inbox } = events;
        poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
        Ok(Reactor {
            core,
            poll,
            listener: Some(listener),
            signals: None,
            signalled: false,
            inbox,
            completions: VecDeque::new(),
            outlets,
            limits,
            clock,
            metrics,
            table: Table::default(),
            desk: ReadDesk::new(limits.frame_bytes_max),
            complaints: Complaints::default(),
            accepting: Accepting::default(),
            visits: visits::Visits::default(),
            writes: VecDeque::new(),
            long_writes: VecDeque::new(),
            held: waiting::Held::default(),
            leavers: leaving::Leavers::default(),
            starved: shortage::Starved::default(),
            requests_seen: 0,
            shortage_check_us: None,
            answers_check_us: None,
            burst: burst::Burst::default(),
            first_starved: None,
            group_in_flight: false,
            fatal: None,
            stopping: None,
        })
    }

    /// Listens to signals too.
    pub fn watch_signals(&mut self, signals: Signals) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;
        self.signalled = true;
        self.signals = Some(signals);
        Ok(())
    }

    /// Runs until a stop or a failure. One turn has a fixed order; each step depends on the one before.
    pub fn run(mut self) -> Outcome {
        crate::sys::priority::be_soon_on_this_thread();
        // What recovery left to do, such as a checkpoint, begins without waiting for a client.
        let now = self.now();
        self.carry_out(now);
        self.submit_group(now);
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut cpu_us = thread_cpu_us();
        loop {
            // Wait for edges; not at all while work is left, without end when nothing is timed.
            if let Err(error) = self.poll.poll(&mut events, self.timeout()) {
                if error.kind() != io::ErrorKind::Interrupted {
                    return Outcome::Failed(format!("cannot wait for network events: {error}"));
                }
            }
            let now = self.now();
            self.note_edges(now, &events);
            // What other threads finished goes first: it frees memory, wakes fetches and lets held requests go on.
            self.take_completions(now);
            if let Some(why) = self.fatal.take() {
                return Outcome::Fatal(why);
            }
            self.accept(now);
            self.visit_all(now);
            self.expire(now);
            self.see_off(now);
            // One group for everything that this turn appended, while no other is being written.
            self.submit_group(now);
            // Last, so that answers of the whole turn leave in one call per connection.
            self.send(now);
            self.desk.pool.give_back_some(TURN_GIVE_BACK_BYTES);
            self.table.give_back_some(TURN_GIVE_BACK_BYTES);
            self.look_at_memory(now);
            // Clients that went meanwhile may have left something to be written, for which others wait.
            self.submit_group(now);
            self.ask_others();
            if let Some(outcome) = self.stopped(now) {
                return outcome;
            }
            self.count_turn(now, &mut cpu_us);
        }
    }

    /// Notes how long a turn took. What waiting uses of a processor counts with the turn behind it.
    fn count_turn(&self, now: Now, cpu_us: &mut u64) {
        self.metrics.reactor_turn.observe(self.clock.mono_us().saturating_sub(now.mono_us));
        let before_us = std::mem::replace(cpu_us, thread_cpu_us());
        self.metrics.reactor_turn_cpu.observe(cpu_us.saturating_sub(before_us));
    }

    fn now(&self) -> Now {
        Now { mono_us: self.clock.mono_us(), wall_ms: self.clock.wall_ms() }
    }

    /// How long the next wait may take.
    fn timeout(&self) -> Option<Duration> {
        let accepts = self.accepting.ready && self.accepting.resting_until_us.is_none() && self.listener.is_some();
        let writes = !self.writes.is_empty() || !self.long_writes.is_empty();
        let gives_back = self.desk.pool.going_bytes() > 0 || self.table.has_to_give_back();
        if !self.visits.is_empty() || self.leavers.are_due() || writes || accepts || self.signalled || gives_back {
            return Some(Duration::ZERO);
        }
        let stopping = self.stopping.map(|stopping| match stopping.drained_us {
            Some(drained_us) => stopping.deadline_us.min(drained_us + LAST_SENDS_US),
            None => stopping.deadline_us,
        });
        let timers = [
            self.core.deadline_us(),
            self.table.first_timer_us(),
            self.shortage_check_us,
            self.answers_check_us,
            self.burst.deadline_us(),
            self.accepting.resting_until_us,
            stopping,
        ];
        let first_us = timers.into_iter().flatten().min()?;
        Some(Duration::from_micros(first_us.saturating_sub(self.clock.mono_us())))
    }
}

/// The steps of a turn, in order.
impl<C: Core + 'static> Reactor<C> {
    fn note_edges(&mut self, now: Now, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                LISTENER => self.accepting.ready = true,
                SIGNALS => self.signalled = true,
                Token(name) => self.note_edge(now, ConnId(name as u64), event),
            }
        }
    }

    fn note_edge(&mut self, now: Now, id: ConnId, event: &Event) {
        let Some(conn) = self.table.get(id) else { return };
        let gone = event.is_error() || event.is_write_closed();
        if event.is_readable() || event.is_read_closed() || gone {
            conn.readable = true;
            conn.write_closed |= gone;
            self.queue_read(id);
        }
        if event.is_read_closed() || gone {
            self.note_leaver(now, id);
        }
        if event.is_writable() || gone {
            self.with(id, |conn| conn.writable = true);
            self.queue_write(id);
        }
    }

    fn take_completions(&mut self, now: Now) {
        if std::mem::take(&mut self.signalled) {
            self.heed_signals(now);
        }
        let mut completions = std::mem::take(&mut self.completions);
        self.inbox.take_all(&mut completions);
        if completions.is_empty() {
            self.completions = completions;
            return;
        }
        for completion in completions.drain(..) {
            match completion {
                Completion::Written(written) => {
                    self.group_in_flight = false;
                    self.core.written(now, written);
                }
                Completion::Read(done) => self.core.read_done(now, done),
                Completion::Work(done) => self.core.work_done(now, done),
                Completion::Checkpoint(done) => self.core.checkpoint_done(now, done),
                Completion::Tidy(done) => self.core.tidy_done(now, done),
                Completion::Uploaded(done) => self.core.uploaded(now, done),
                Completion::Ask(ask) => ask(&mut self.core),
                Completion::Stop => self.begin_stop(now),
                Completion::Fatal(why) => {
                    self.fatal = Some(why);
                    return;
                }
            }
            self.carry_out(now);
        }
        self.completions = completions;
        self.leavers.look_again();
        self.ask_again();
        self.feed_starved(now);
    }

    fn accept(&mut self, now: Now) {
        if self.accepting.resting_until_us.is_some_and(|until| until <= now.mono_us) {
            self.accepting.resting_until_us = None;
        }
        if !self.accepting.ready || self.accepting.resting_until_us.is_some() {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, peer)) => self.admit(now, stream, peer),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.accepting.ready = false;
                        return;
                    }
                    // The client was gone before we came to it.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return self.rest_accepting(now, &error),
                },
            }
        }
    }

    fn expire(&mut self, now: Now) {
        if self.core.deadline_us().is_some_and(|at_us| at_us <= now.mono_us) {
            self.core.expire(now);
            self.carry_out(now);
            self.leavers.look_again();
            self.ask_again();
        }
        // What is due and not looked at is due in the next turn too.
        while let Some(id) = self.table.due(now.mono_us) {
            self.connection_timer(now, id);
            if self.turn_is_over() {
                break;
            }
        }
        if self.shortage_check_us.is_some_and(|at_us| at_us <= now.mono_us) {
            self.relieve_shortage(now);
        }
        if self.answers_check_us.is_some_and(|at_us| at_us <= now.mono_us) {
            self.relieve_answers(now);
        }
    }

    fn submit_group(&mut self, now: Now) {
        if self.group_in_flight {
            return;
        }
        if let Some(group) = self.core.next_group(now) {
            self.group_in_flight = true;
            (self.outlets.group)(group);
            // There is room for the next one, and whoever has waited for that comes before those who come now.
            self.ask_again();
        }
        self.carry_out(now);
    }

    fn send(&mut self, now: Now) {
        let is_crowded = self.writes.len() + self.long_writes.len() > FEW_WRITES;
        let at_first = if is_crowded { FIRST_SEND_BYTES } else { CONNECTION_SEND_BYTES };
        for _ in 0..self.writes.len() {
            let Some(id) = self.writes.pop_front() else { break };
            self.send_to(now, id, at_first);
        }
        let mut allowance = TURN_SEND_BYTES;
        for _ in 0..self.long_writes.len() {
            if allowance == 0 {
                return;
            }
            let Some(id) = self.long_writes.pop_front() else { return };
            allowance = allowance.saturating_sub(self.send_to(now, id, CONNECTION_SEND_BYTES));
        }
    }

    /// Sends about so many bytes at most to a connection; how many.
    fn send_to(&mut self, now: Now, id: ConnId, bytes_max: usize) -> usize {
        let Some(conn) = self.table.get(id) else { return 0 };
        conn.in_writes = false;
        let core = &self.core;
        match conn.send(bytes_max, now.mono_us, |splice| core.ring_bytes(splice)) {
            Ok((count, sent)) => {
                self.metrics.bytes_sent.add(count as u64);
                self.after_send(now, id, sent);
                count
            }
            Err(error) => {
                self.close(now, id, why_send_failed(&error));
                0
            }
        }
    }

    fn stopped(&mut self, now: Now) -> Option<Outcome> {
        let stopping = self.stopping.as_mut()?;
        let drained = self.core.is_drained() && !self.group_in_flight;
        if drained && stopping.drained_us.is_none() {
            stopping.drained_us = Some(now.mono_us);
        }
        let unsent = self.table.iter().any(|conn| conn.has_outgoing());
        let patient = stopping.drained_us.is_some_and(|since| now.mono_us < since + LAST_SENDS_US);
        if drained && (!unsent || !patient) {
            return Some(Outcome::Stopped { complete: true });
        }
        (now.mono_us >= stopping.deadline_us).then_some(Outcome::Stopped { complete: drained })
    }
}

/// Reading and handing over.
impl<C: Core + 'static> Reactor<C> {
    /// Hands over what the connection holds and reads more, until it has nothing, must wait, or its share is used up.
    /// Returns the bytes read.
    fn serve(&mut self, now: Now, id: ConnId, share: usize) -> usize {
        let mut read = 0;
        while self.hand_over(now, id) {
            let Some(conn) = self.table.get(id) else { break };
            if let Closing::AfterHeld(why) = &conn.closing {
                let why = why.clone();
                self.end_of_stream(now, id, why);
                break;
            }
            if matches!(conn.closing, Closing::AfterAnswers) {
                conn.readable = false;
                if conn.write_closed {
                    self.close(now, id, Why::quiet());
                }
                break;
            }
            if !conn.readable {
                break;
            }
            if read >= share {
                self.queue_rest(id);
                break;
            }
            if self.must_starve(now, id) {
                break;
            }
            let Some(conn) = self.table.get(id) else { break };
            let count = conn.receive(&mut self.desk, now.mono_us);
            let is_complete = conn.holds_frames() || !conn.holds_memory();
            self.metrics.bytes_received.add(count as u64);
            read += count;
            if is_complete && self.is_waited_for(id) {
                self.leave_starved(now, id);
            }
        }
        read
    }

    fn queue_write(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get(id) {
            let wanted = conn.writable && conn.has_outgoing();
            if wanted && !std::mem::replace(&mut conn.in_writes, true) {
                self.writes.push_back(id);
            }
        }
    }

    fn with<T>(&mut self, id: ConnId, f: impl FnOnce(&mut super::connection::Connection) -> T) -> Option<T> {
        self.table.get(id).map(f)
    }
}

/// Effects and answers.
impl<C: Core + 'static> Reactor<C> {
    /// Carries out what the broker wants, oldest first.
    fn carry_out(&mut self, now: Now) {
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Send { conn, response } => self.answer(conn, response),
                Effect::Ready { conn } => self.queue_read(conn),
                Effect::Close { conn, why } => self.close_after_sending(now, conn, Why::said(Kind::Broker, why)),
                Effect::Read(job) => (self.outlets.read)(job),
                Effect::Work(job) => (self.outlets.work)(job),
                Effect::Checkpoint(job) => (self.outlets.checkpoint)(job),
                Effect::Tidy(job) => (self.outlets.tidy)(job),
                Effect::StopTidy => (self.outlets.stop_tidy)(),
                Effect::Upload { looks } => (self.outlets.upload)(looks),
                Effect::Evict(segment, object) => (self.outlets.evict)(segment, object),
                Effect::Remove(segment) => (self.outlets.remove)(segment),
                Effect::LogLevel(level) => {
                    log::warn!("a client sets the log level to {level}");
                    log::set_max_level(level);
                }
            }
        }
    }

    fn answer(&mut self, id: ConnId, response: Response) {
        let now_us = self.clock.mono_us();
        let Some(conn) = self.table.get(id) else { return };
        if conn.unheard || matches!(conn.closing, Closing::AfterSending(_)) {
            return;
        }
        if matches!(conn.closing, Closing::AfterAnswers) {
            self.leavers.answered(id);
        }
        let answered = conn.answer(response, now_us);
        match answered {
            Some(answered) if answered.api_key == PRODUCE => self.metrics.produce_latency.observe(answered.took_us),
            Some(answered) if answered.api_key == FETCH => self.metrics.fetch_latency.observe(answered.took_us),
            _ => {}
        }
        self.queue_write(id);
    }

    fn after_send(&mut self, now: Now, id: ConnId, sent: Sent) {
        let Some(conn) = self.table.get(id) else { return };
        let has_read = matches!(sent, Sent::All);
        match sent {
            Sent::Enough => {
                conn.in_writes = true;
                self.long_writes.push_back(id);
            }
            Sent::Full => {
                let stalled_us = conn.sent_us.saturating_add(self.limits.patience_us(conn));
                if stalled_us < conn.timer_us {
                    self.table.set_timer(id, stalled_us);
                }
            }
            Sent::All => {
                if let Closing::AfterSending(why) = &conn.closing {
                    let why = why.clone();
                    return self.close(now, id, why);
                }
            }
        }
        let unblocked = self.with(id, |conn| !conn.is_clogged() && (conn.holds_frames() || conn.readable));
        match unblocked {
            // While memory for answers is short, its next request may have waited only for this.
            Some(true) if has_read => self.queue_again(id),
            Some(true) => self.queue_read_later(id),
            _ => {}
        }
    }
}

/// The life of connections.
impl<C: Core + 'static> Reactor<C> {
    fn admit(&mut self, now: Now, stream: TcpStream, peer: SocketAddr) {
        if let Some(why) = self.why_not_admit(peer) {
            self.metrics.connections_refused.inc();
            self.complaints.closed(now.mono_ms(), Kind::Limit, peer, &why);
            return;
        }
        // A socket that fails here was reset already; there is nobody to tell.
        let Ok(local) = socket::prepare(&stream).and_then(|()| stream.local_addr()) else { return };
        let fd = stream.as_raw_fd();
        let timer_us = self.limits.idle_us.map_or(u64::MAX, |idle_us| now.mono_us.saturating_add(idle_us));
        let Some(id) = self.table.insert(stream, peer, now.mono_us, timer_us) else { return };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), Token(id.0 as usize), interest) {
            self.table.remove(id);
            let why = format!("the kernel cannot watch it: {error}");
            self.complaints.closed(now.mono_ms(), Kind::Failure, peer, &why);
            return;
        }
        // The kernel reports only changes; a new socket takes bytes from the beginning.
        self.with(id, |conn| conn.writable = true);
        self.metrics.connections_accepted.inc();
        self.metrics.active_connections.set(self.table.len() as i64);
        self.core.connected(id, ConnInfo { local: shown(local), peer: shown(peer) });
        self.carry_out(now);
    }

    fn why_not_admit(&self, peer: SocketAddr) -> Option<String> {
        let limits = &self.limits;
        if self.table.len() >= limits.connections_max {
            Some(format!("{} connections are open, which is max.connections", self.table.len()))
        } else if self.table.from_same_ip(peer) >= limits.connections_per_ip_max {
            let max = limits.connections_per_ip_max;
            Some(format!("{max} connections from this address are open, which is max.connections.per.ip"))
        } else {
            None
        }
    }

    /// Accepting failed for want of a descriptor (or of memory): others go on, and we try again later.
    fn rest_accepting(&mut self, now: Now, error: &io::Error) {
        self.accepting.resting_until_us = Some(now.mono_us + ACCEPT_REST_US);
        if !std::mem::replace(&mut self.accepting.said, true) {
            let hint = if socket::is_out_of_descriptors(error) { " (see ulimit -n)" } else { "" };
            let open = self.table.len();
            log::error!("cannot accept connections for now, {open} are open: {error}{hint}");
        }
    }

    fn heed_signals(&mut self, now: Now) {
        let Some(signals) = &mut self.signals else { return };
        let requests = signals.take();
        if requests.reload {
            (self.outlets.reload)();
        }
        if requests.stop {
            self.begin_stop(now);
        }
    }

    fn begin_stop(&mut self, now: Now) {
        if self.stopping.is_some() {
            return;
        }
        log::info!("stopping: no new connections; what is in flight is finished");
        (self.outlets.stopping)();
        self.listener = None;
        self.stopping = Some(Stopping { deadline_us: now.mono_us + self.limits.stop_us, drained_us: None });
        self.core.stop(now);
        self.carry_out(now);
    }
}

/// Clients that leave are nothing to talk about; a file that cannot be read is.
fn why_send_failed(error: &io::Error) -> Why {
    match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::TimedOut => Why::quiet(),
        _ => Why::said(Kind::Failure, format!("sending to it failed: {error}")),
    }
}
