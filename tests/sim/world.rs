//! Owns one simulated run: the loop that lets things happen in time, and carries out what the broker wants done.

use std::collections::BTreeSet;
use std::sync::Arc;

use chronik::broker::tiering::{StoredObject, UploadDone};
use chronik::broker::work::WorkJob;
use chronik::broker::{CheckpointJob, ConnId, ConnInfo, Effect, Response};
use chronik::limits;
use chronik::metrics::Metrics;
use chronik::wal::tidy::{TidyDone, TidyError, TidyJob, TidyMode, TidyPart};
use chronik::wal::{Group, ReadDone, ReadJob, SegmentId, Written};

use super::actors::{Actor, Ids, Turn};
use super::clock::Clock;
use super::disk::{Damage, SimDisk};
use super::model::Model;
use super::net::{Net, Out, Sent};
use super::node::Node;
use super::rng::Rng;
use super::scenario::{Scenario, CHECKER};
use crate::backup::memory_store::MemStore;

/// What a slow store takes longer than a fast one: more than a fetch waits for it.
const SLOW_STORE_US: u64 = limits::REMOTE_FETCH_WAIT_US + 100_000;

/// What happens. Those of the broker's threads carry the life that they belong to.
#[derive(Debug)]
pub enum Event {
    /// A client's turn.
    Act(usize),
    /// A frame arrives in the broker's socket.
    Arrive(ConnId),
    /// The broker's socket takes a response.
    Leave(ConnId),
    /// The connection breaks.
    Reset(ConnId),
    /// The log's thread writes a group.
    Step(u32, Box<Group>),
    /// The broker is told of it.
    Written(u32, Box<Written>),
    Read(u32, Box<ReadJob>),
    ReadDone(u32, Box<ReadDone>),
    Work(u32, Box<WorkJob>),
    Checkpoint(u32, Box<CheckpointJob>),
    Tidy(u32, Box<TidyJob>),
    TidyDone(u32, Box<TidyDone>),
    Remove(u32, SegmentId),
    /// A timer of the broker may be due.
    Deadline,
    /// True if the store is asked what it holds.
    Upload(u32, bool),
    Uploaded(u32, Box<UploadDone>),
    Evict(u32, SegmentId, StoredObject),
}

/// How far the run has come, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub events: u64,
    pub crashes: u64,
    pub kills: u64,
    pub stops: u64,
    pub resets: u64,
    pub answers: u64,
    pub groups: u64,
    /// Packs that tidying made.
    pub packs: u64,
    /// Partitions that were compacted, and records of which a reader saw that they had been taken out.
    pub cleanings: u64,
    pub gone: u64,
    /// Transactions that were committed.
    pub commits: u64,
    /// Partitions that members of consumer groups were given, and records that share groups are done with.
    pub given: u64,
    pub accepted: u64,
    /// Machines that were lost, with a backup to come back from.
    pub moves: u64,
    /// Uploads of the log to the object store, and segments whose local copy went.
    pub uploads: u64,
    pub evicted: u64,
    /// Bytes that were written elsewhere so that such a segment could go.
    pub relocated: u64,
    /// Partitions that were compacted although the object store only had some of them.
    pub from_store: u64,
    /// Bytes that were written anew to make objects smaller.
    pub shrunk: u64,
    /// Power cuts that were tried out beside the run, and how often the checker read everything after them.
    pub tries: u64,
    pub checks: u64,
}

impl Stats {
    /// Adds another run's figures.
    pub fn add(&mut self, other: &Stats) {
        self.events += other.events;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.stops += other.stops;
        self.resets += other.resets;
        self.answers += other.answers;
        self.groups += other.groups;
        self.packs += other.packs;
        self.cleanings += other.cleanings;
        self.gone += other.gone;
        self.commits += other.commits;
        self.given += other.given;
        self.accepted += other.accepted;
        self.moves += other.moves;
        self.uploads += other.uploads;
        self.evicted += other.evicted;
        self.relocated += other.relocated;
        self.from_store += other.from_store;
        self.shrunk += other.shrunk;
        self.tries += other.tries;
        self.checks += other.checks;
    }
}

/// One run.
pub struct World {
    pub rng: Rng,
    pub clock: Clock<Event>,
    pub scenario: Scenario,
    pub disk: SimDisk,
    /// The second tier, if there is one.
    pub store: Option<Arc<MemStore>>,
    /// What all lives of the server have counted.
    pub metrics: Arc<Metrics>,
    pub node: Option<Node>,
    pub net: Net,
    pub clients: Vec<Box<dyn Actor>>,
    pub model: Model,
    pub ids: Ids,
    pub stats: Stats,
    pub life: u32,
    /// The tidying that is about to begin is to be stopped.
    pub stops_tidying: bool,
    /// When each client's next turn is.
    pub acts_at: Vec<Option<u64>>,
    /// Only the checker speaks.
    pub checking: bool,
    /// After how many events something goes wrong: a crash, a jump of the clock, the disk's size.
    pub next_misfortune: u64,
    /// Planned crashes stay planned when the run comes to its end.
    pub keep_plans: bool,
    /// Nothing new is begun.
    pub closing: bool,
    /// Calls of the disk may fail, so the log may give up.
    pub errors_planned: bool,
    /// Why starts failed that were allowed to.
    pub excused_starts: Vec<String>,
    /// Crashes that were tried out beside the run, so far.
    pub tries: u64,
    /// A damaged file, until the server has gone down once more.
    pub rotten: Option<Damage>,
    pub trace: Option<Vec<String>>,
}

impl World {
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = line();
            let lines: Vec<String> = self.disk.take_trace().into_iter().map(|l| format!("    disk: {l}")).collect();
            trace.extend(lines);
            trace.push(format!("{:>12} {line}", self.clock.now().mono_us % 1_000_000_000_000));
        }
    }

    /// Lets the next thing happen. False when nothing is left.
    pub fn step(&mut self) -> Result<bool, String> {
        self.stats.events += 1;
        if self.stats.events >= self.next_misfortune {
            self.next_misfortune = self.stats.events + 1 + self.rng.below(2 * self.scenario.misfortune_events);
            self.misfortune()?;
        }
        let Some(event) = self.clock.next() else { return Ok(false) };
        match event {
            Event::Act(client) => self.act(client),
            Event::Reset(conn) => self.reset(conn),
            Event::Leave(conn) => self.leave(conn)?,
            Event::Arrive(conn) => self.arrive(conn)?,
            Event::Upload(..) => {
                self.tier_event(event)?;
                // The store is further by now than it was then.
                drop(self.disk.take_moments());
            }
            Event::Uploaded(..) | Event::Evict(..) => self.tier_event(event)?,
            event => self.thread_event(event)?,
        }
        if self.node.is_some() {
            self.turn()?;
        }
        self.try_crashes()?;
        self.bury_if_dead()?;
        Ok(true)
    }

    /// Something that a thread of the broker does or has done.
    fn thread_event(&mut self, event: Event) -> Result<(), String> {
        let life = self.life;
        let now = self.clock.now();
        let Some(node) = &mut self.node else { return Ok(()) };
        match event {
            Event::Step(of, group) if of == life => {
                let seq = group.seq;
                let result = node.write(*group);
                self.note(|| format!("write group {seq}: {}", result.as_ref().map_or_else(|e| e.as_str(), |_| "ok")));
                match result {
                    Ok(written) => {
                        let delay = self.delay(self.scenario.slow_us);
                        self.clock.after(delay, Event::Written(life, Box::new(written)));
                    }
                    Err(why) => self.log_failed(&why)?,
                }
            }
            Event::Written(of, written) if of == life => {
                self.model.written(&written)?;
                self.stats.groups += 1;
                node.in_flight = false;
                node.broker.written(now, *written);
            }
            Event::Read(of, job) if of == life => {
                let line = self.trace.is_some().then(|| format!("read {job:?}"));
                let is_slow = self.scenario.store_is_slow && node.reads_from_store(&job);
                let done = node.read(*job);
                let delay = self.delay(self.scenario.slow_us) + if is_slow { SLOW_STORE_US } else { 0 };
                self.note(|| format!("{}: {done:?}", line.unwrap_or_default()));
                self.clock.after(delay, Event::ReadDone(life, Box::new(done)));
            }
            Event::ReadDone(of, done) if of == life => {
                node.broker.read_done(now, *done);
                node.broker.unsent(now, 0);
            }
            Event::Work(of, job) if of == life => node.broker.work_done(now, chronik::broker::work::run(*job)),
            Event::Checkpoint(of, job) if of == life => match node.checkpoint(*job) {
                Ok(done) => node.broker.checkpoint_done(now, done),
                Err(why) => self.log_failed(&why)?,
            },
            Event::Tidy(of, job) if of == life && self.stops_tidying => {
                node.broker.tidy_done(now, TidyDone { pack: job.pack, result: Err(TidyError::Stopped) });
            }
            Event::Tidy(of, job) if of == life => {
                let done = node.tidy(&job);
                self.stats.packs += u64::from(done.result.is_ok());
                let cleans = job.parts.iter().filter(|part| matches!(part.mode, TidyMode::Clean(_)));
                let cleans: Vec<_> = cleans.filter(|_| done.result.is_ok()).collect();
                self.stats.cleanings += cleans.len() as u64;
                let remote: BTreeSet<SegmentId> = node.broker.remote_segments().map(|(id, _)| id).collect();
                let is_remote = |part: &&&TidyPart| part.sources.iter().any(|source| remote.contains(&source.segment));
                self.stats.from_store += cleans.iter().filter(is_remote).count() as u64;
                let delay = self.delay(self.scenario.slow_us);
                self.note(|| format!("tidy {job:?}: {done:?}"));
                self.clock.after(delay, Event::TidyDone(life, Box::new(done)));
            }
            Event::TidyDone(of, done) if of == life => node.broker.tidy_done(now, *done),
            Event::Remove(of, segment) if of == life => {
                if let Err(why) = node.remove(segment) {
                    self.log_failed(&why)?;
                }
            }
            // If the clock stands still, it is not due yet, and has to be agreed on anew.
            Event::Deadline if node.deadline_us.is_some_and(|at| at <= self.clock.real_us()) => node.deadline_us = None,
            _ => {}
        }
        Ok(())
    }

    /// The same of what has to do with the object store.
    fn tier_event(&mut self, event: Event) -> Result<(), String> {
        let (life, now) = (self.life, self.clock.now());
        let Some(node) = &mut self.node else { return Ok(()) };
        match event {
            Event::Upload(of, looks) if of == life => {
                if let Some(done) = node.upload(now, looks) {
                    self.stats.uploads += u64::from(done.result.is_ok());
                    let delay = self.delay(self.scenario.slow_us);
                    self.note(|| format!("upload: {done:?}"));
                    self.clock.after(delay, Event::Uploaded(life, Box::new(done)));
                }
            }
            Event::Uploaded(of, done) if of == life => node.broker.uploaded(now, *done),
            Event::Evict(of, segment, stored) if of == life => {
                self.stats.evicted += 1;
                let result = node.evict(segment, &stored);
                self.note(|| format!("{segment} is evicted: {result:?}"));
                if let Err(why) = result {
                    self.log_failed(&why)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// One turn of the reactor, in the order of the real one.
    pub fn turn(&mut self) -> Result<(), String> {
        loop {
            self.carry_out_effects()?;
            let now = self.clock.now();
            let Some(node) = &mut self.node else { return Ok(()) };
            if node.broker.deadline_us().is_some_and(|at| at <= now.mono_us) {
                node.broker.expire(now);
                continue;
            }
            if self.hand_in()? {
                continue;
            }
            let Some(node) = &mut self.node else { return Ok(()) };
            if node.in_flight {
                break;
            }
            let Some(group) = node.broker.next_group(now) else { break };
            node.in_flight = true;
            self.model.wall_ms = now.wall_ms;
            self.model.planned(&group)?;
            let (life, seq) = (self.life, group.seq);
            self.note(|| format!("group {seq}: {} runs, {} entries", group.runs.len(), group.meta.len()));
            let delay = self.delay(self.scenario.slow_us);
            self.clock.after(delay, Event::Step(life, Box::new(group)));
        }
        self.carry_out_effects()?;
        let deadline = self.node.as_ref().and_then(|node| node.broker.deadline_us());
        if let Some(at) = deadline.filter(|at| self.node.as_ref().is_some_and(|n| n.deadline_us != Some(*at))) {
            self.clock.wake_at(at, Event::Deadline);
            if let Some(node) = &mut self.node {
                node.deadline_us = Some(at);
            }
        }
        Ok(())
    }

    /// A frame arrives in the broker's socket, or a piece of one.
    fn arrive(&mut self, id: ConnId) -> Result<(), String> {
        let waits = self.scenario.splits && self.rng.one_in(4);
        let Some(conn) = self.net.conns.get_mut(&id) else { return Ok(()) };
        if self.scenario.splits {
            return conn.piece_arrives(&mut self.net.desk, waits);
        }
        conn.arrived.extend(conn.travelling.pop_front());
        Ok(())
    }

    /// Hands in frames that the broker will take, connection by connection. Whether there were any.
    fn hand_in(&mut self) -> Result<bool, String> {
        let waiting = self.net.conns.iter().filter(|(_, conn)| !conn.arrived.is_empty());
        let mut ids: Vec<ConnId> = waiting.map(|(id, _)| *id).collect();
        let mut any = false;
        while !ids.is_empty() {
            let id = ids.swap_remove(self.rng.index(ids.len()));
            let now = self.clock.now();
            let (Some(conn), Some(node)) = (self.net.conns.get_mut(&id), &mut self.node) else { continue };
            let Some(sent) = conn.arrived.front() else { continue };
            if !node.broker.ready_for(id, sent.ask.api_key()) {
                continue;
            }
            let Some(sent) = conn.arrived.pop_front() else { continue };
            let (answered, frame, correlation) = (sent.is_answered(), sent.frame.clone(), sent.correlation);
            self.model.turn_of(conn.client, now);
            self.model.conn = id.0;
            let call = self.model.handed_in(sent.correlation, sent.version, sent.ask);
            let line = self.trace.is_some().then(|| format!("{id:?} asks {correlation}: {call:?}"));
            if answered {
                conn.expected.push_back(call);
            }
            node.broker.request(now, id, frame);
            self.note(|| line.unwrap_or_default());
            any = true;
            ids.push(id);
        }
        Ok(any)
    }

    fn carry_out_effects(&mut self) -> Result<(), String> {
        while let Some(effect) = self.node.as_mut().and_then(|node| node.broker.next_effect()) {
            let (life, delay) = (self.life, self.delay(self.scenario.slow_us));
            match effect {
                Effect::Send { conn, response } => self.send(conn, response)?,
                Effect::Close { conn, why } => {
                    self.note(|| format!("{conn:?} is closed: {why}"));
                    let Some(open) = self.net.conns.get_mut(&conn) else { continue };
                    if !self.scenario.may_close(&why) {
                        return Err(format!("a good client's connection was closed: {why}"));
                    }
                    open.out.push_back(Out::Close);
                    self.clock.after(delay, Event::Leave(conn));
                }
                Effect::Read(job) => self.clock.after(delay, Event::Read(life, Box::new(job))),
                Effect::Work(job) => self.clock.after(delay, Event::Work(life, Box::new(job))),
                Effect::Checkpoint(job) => self.clock.after(delay, Event::Checkpoint(life, Box::new(job))),
                Effect::LogLevel(_) | Effect::Ready { .. } => {}
                Effect::Tidy(job) => {
                    self.stops_tidying = false;
                    self.clock.after(delay, Event::Tidy(life, Box::new(job)));
                }
                Effect::StopTidy => self.stops_tidying = true,
                Effect::Remove(segment) => self.clock.after(delay, Event::Remove(life, segment)),
                Effect::Upload { looks } => self.clock.after(delay, Event::Upload(life, looks)),
                Effect::Evict(segment, stored) => self.clock.after(delay, Event::Evict(life, segment, stored)),
            }
        }
        Ok(())
    }

    /// A response leaves the broker: from here on the client may know, so everything in it is held against the model.
    fn send(&mut self, id: ConnId, response: Response) -> Result<(), String> {
        let (Some(conn), Some(node)) = (self.net.conns.get_mut(&id), &self.node) else { return Ok(()) };
        let call = conn.expected.pop_front().ok_or("an answer to nothing")?;
        let bytes = match node.resolve(&response) {
            Ok(bytes) => bytes,
            Err(_) if self.disk.is_down().is_some() || self.scenario.excuses.reads_fail => {
                self.clock.after(0, Event::Reset(id));
                return Ok(());
            }
            Err(why) => return Err(format!("a response that cannot be sent: {why}")),
        };
        let answer = super::renew::answer(&call.ask, &bytes, call.correlation, call.version)?;
        self.model.turn_of(call.client, self.clock.now());
        self.model
            .answered(&call, &answer)
            .map_err(|why| format!("{why}\n  asked:  {call:?}\n  answer: {answer:?}"))?;
        let (correlation, delay) = (call.correlation, self.delay(self.scenario.net_us));
        let at = self.net_time(id, delay);
        self.note(|| format!("{id:?} is told {correlation}: {answer:?}"));
        if let Some(conn) = self.net.conns.get_mut(&id) {
            conn.out.push_back(Out::Answer { correlation, response, bytes, answer: Box::new(answer) });
        }
        self.clock.at(at, Event::Leave(id));
        Ok(())
    }

    fn net_time(&mut self, id: ConnId, delay: u64) -> u64 {
        let at = self.clock.real_us() + delay;
        let Some(conn) = self.net.conns.get_mut(&id) else { return at };
        conn.last_leave_us = conn.last_leave_us.max(at);
        conn.last_leave_us
    }

    /// The socket takes a response, and the client reads it.
    fn leave(&mut self, id: ConnId) -> Result<(), String> {
        let Some(conn) = self.net.conns.get_mut(&id) else { return Ok(()) };
        let client = conn.client;
        let (correlation, response, bytes, answer) = match conn.out.pop_front() {
            None => return Ok(()),
            Some(Out::Close) => {
                self.reset(id);
                return Ok(());
            }
            Some(Out::Answer { correlation, response, bytes, answer }) => (correlation, response, bytes, answer),
        };
        // The file or the ring is read again when the socket has room: it must still be the same.
        match self.node.as_ref().map(|node| node.resolve(&response)) {
            Some(Ok(again)) if again == bytes => {}
            Some(Ok(_)) => return Err(format!("the bytes of answer {correlation} changed before they were sent")),
            _ => {
                self.reset(id);
                return Ok(());
            }
        }
        self.with_client(client, |actor, turn| actor.answered(turn, correlation, &answer))?;
        self.checking &= client != CHECKER || !self.clients[CHECKER].is_idle();
        Ok(())
    }

    /// Gives a client its turn in so many µs, or earlier if that was agreed already.
    pub fn act_after(&mut self, client: usize, delay_us: u64) {
        let at = self.clock.real_us() + delay_us;
        if self.acts_at[client].is_none_or(|agreed| agreed > at) {
            self.acts_at[client] = Some(at);
            self.clock.at(at, Event::Act(client));
        }
    }

    fn act(&mut self, client: usize) {
        if self.acts_at[client].is_none_or(|agreed| agreed > self.clock.real_us()) {
            return;
        }
        self.acts_at[client] = None;
        if (self.checking && client != CHECKER) || self.node.is_none() {
            let delay = self.rng.range(1000, 20_000);
            self.act_after(client, delay);
            return;
        }
        let done = self.with_client(client, |actor, turn| {
            actor.act(turn);
            Ok(())
        });
        debug_assert!(done.is_ok());
    }

    fn with_client(
        &mut self,
        client: usize,
        what: impl FnOnce(&mut dyn Actor, &mut Turn<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut turn = Turn {
            rng: &mut self.rng,
            now: self.clock.now(),
            model: &mut self.model,
            ids: &mut self.ids,
            out: Vec::new(),
            again_us: None,
            closing: self.closing,
            codecs: self.scenario.codecs,
        };
        let result = what(self.clients[client].as_mut(), &mut turn);
        let (out, again_us) = (turn.out, turn.again_us);
        // At the end of a run, who has nothing to say need not be asked all the time.
        let idle = self.closing && out.is_empty() && self.clients[client].is_idle();
        if let Some(delay) = again_us.map(|delay| if idle { delay * 16 } else { delay }) {
            self.act_after(client, delay);
        }
        for (correlation, version, ask) in out {
            let frame = super::renew::frame(&ask, correlation, version);
            self.transmit(client, Sent { correlation, version, ask, frame });
        }
        result
    }

    fn transmit(&mut self, client: usize, sent: Sent) {
        let known = self.net.of_client.get(&client).copied();
        let id = known.unwrap_or_else(|| {
            let id = self.net.open(client);
            let local = ([127, 0, 0, 1], 9092).into();
            let peer = ([127, 0, 0, 1], 40_000).into();
            if let Some(node) = &mut self.node {
                node.broker.connected(id, ConnInfo { local, peer });
            }
            id
        });
        let mut pieces = 1;
        if self.scenario.splits {
            let len = sent.frame.len() + 4;
            let cuts = if self.rng.chance(40) { self.rng.range(1, 3) } else { 0 };
            let cuts: Vec<usize> = (0..cuts).map(|_| self.cut_place(len)).collect();
            if let Some(conn) = self.net.conns.get_mut(&id) {
                pieces = conn.send_in_pieces(&sent.frame, cuts);
            }
        }
        for _ in 0..pieces {
            let delay = self.delay(self.scenario.net_us);
            let now_us = self.clock.real_us();
            let Some(conn) = self.net.conns.get_mut(&id) else { continue };
            conn.last_arrival_us = conn.last_arrival_us.max(now_us + delay);
            let at = conn.last_arrival_us;
            self.clock.at(at, Event::Arrive(id));
        }
        if let Some(conn) = self.net.conns.get_mut(&id) {
            conn.travelling.push_back(sent);
        }
        if self.rng.chance(self.scenario.reset_percent) && client != CHECKER {
            let delay = self.delay(20_000);
            self.clock.after(delay, Event::Reset(id));
        }
    }

    /// Where a frame of so many bytes is cut: anywhere, or in its head.
    fn cut_place(&mut self, len: usize) -> usize {
        match self.rng.chance(50) {
            true => self.rng.index(len),
            false => self.rng.index(len.min(16)),
        }
    }

    fn reset(&mut self, id: ConnId) {
        let Some(client) = self.net.close(id) else { return };
        let now = self.clock.now();
        self.stats.resets += 1;
        if let Some(node) = &mut self.node {
            node.broker.disconnected(now, id);
        }
        self.note(|| format!("{id:?} of client {client} is gone"));
        self.clients[client].disconnected();
        self.model.shares.disconnected(client);
        let delay = self.rng.range(100, 20_000);
        self.act_after(client, delay);
    }

    /// All connections break.
    pub fn reset_all(&mut self) {
        let ids: Vec<ConnId> = self.net.conns.keys().copied().collect();
        for id in ids {
            self.reset(id);
        }
    }

    /// A time up to `max`, mostly short.
    pub fn delay(&mut self, max: u64) -> u64 {
        let max = if self.rng.one_in(10) { max } else { max / 10 };
        self.rng.below(max + 1)
    }
}
