//! Owns Fetch: what is in memory is answered at once, what is not is read by a reader first, and a fetch at the end of
//! its partitions is parked until there is enough or its time is up.
//!
//! A fetch goes through `serve` until it can be answered. Record data never passes through here: the answer names places
//! in the log (`Splice`), which the shell sends from the ring or from the file. Its partitions come from the request, or
//! from a session (`incremental`), of which only those that may have news are looked at.

mod answer;
mod incremental;
mod late;
mod line;
mod request;
pub mod session;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use self::late::Late;
use self::line::Line;
use self::session::{Sessions, Slot};
use super::dispatch::Request;
use super::log::PartitionLog;
use super::reply::ReplyTo;
use super::topics::StableMap;
use super::{Broker, ConnId, Now, Timer};
use crate::canary::{self, Fault};
use crate::limits;
use crate::wal::{Convert, PartitionId, Place, ReadDone, ReadError, ReadFound, ReadJob, ReadKind, Splice};
use crate::wire::batch;
use crate::wire::msg::{FetchPartition, FetchRequest};
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

/// Fetches that are not answered yet: parked, or waiting for readers. And what clients' sessions remember.
#[derive(Debug, Default)]
pub struct Fetches {
    next: u64,
    by_id: StableMap<u64, Fetch>,
    by_conn: BTreeMap<ConnId, u64>,
    /// Which fetch, and which of its partitions, a reader works for.
    reads: StableMap<u64, (u64, usize)>,
    /// Readers that still look, for a fetch that was answered without that, and what they have brought.
    late: Late,
    line: Line,
    sessions: Sessions,
}

impl Fetches {
    /// Whether a read job belongs to a fetch.
    pub fn waits_for(&self, job: u64) -> bool {
        self.reads.contains_key(&job) || self.late.has(job)
    }
}

/// A topic as clients name it: by name until Fetch 12, by id since.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

/// What a client wants of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    pub offset: i64,
    /// As sent, and so possibly negative.
    pub bytes_max: i32,
    /// Below 0 when the client tells none.
    pub leader_epoch: i32,
    /// Below 0 when the client tells none.
    pub last_fetched_epoch: i32,
}

impl From<&FetchPartition> for Want {
    fn from(sent: &FetchPartition) -> Want {
        Want {
            offset: sent.fetch_offset,
            bytes_max: sent.partition_max_bytes,
            leader_epoch: sent.current_leader_epoch,
            last_fetched_epoch: sent.last_fetched_epoch,
        }
    }
}

/// Where a fetch's partitions come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The request, which wants no session.
    Request,
    /// The request, which wants to begin a session. True for a follower's.
    NewSession(bool),
    /// This session, whose epoch was this one.
    Session { id: i32, epoch: i32 },
}

#[derive(Debug)]
struct Fetch {
    to: ReplyTo,
    source: Source,
    reader: session::Reader,
    /// As sent, cut to what the broker allows; possibly negative.
    bytes_max: i64,
    bytes_min: i64,
    /// Monotonic µs at which the client wants an answer whatever there is.
    deadline_us: u64,
    parts: Vec<Part>,
    /// Reads that are under way.
    reading: usize,
    /// Bytes that they may bring into memory.
    reading_bytes: usize,
    /// It waits for memory, so that it can send readers.
    in_line: bool,
    /// It has waited for what somebody else's reader brings from the object store, or waits for it.
    waits_for_late: bool,
    /// Bytes that are there, while parked: what was found, and what became durable since.
    found_bytes: i64,
}

#[derive(Debug)]
struct Part {
    topic: TopicKey,
    partition: i32,
    want: Want,
    at: At,
    /// Which partition of the session it is, if it is of one.
    slot: Option<Slot>,
    read: Option<Result<ReadFound, ReadError>>,
}

/// Where a partition is.
#[derive(Clone, Copy, Debug)]
enum At {
    Here(PartitionId),
    /// There is none. As in Kafka that is no reason to answer before there is something else to tell, and stands last.
    Absent(ErrorCode),
    /// It is not the one that is meant.
    Wrong(ErrorCode),
}

impl Part {
    /// Goes on behind what was read when nothing of it could be told to the client.
    fn pass_markers(&mut self) -> Option<()> {
        match &self.read {
            Some(Ok(ReadFound::Converted(bytes, end))) if bytes.is_empty() && *end > self.want.offset => {
                self.want.offset = *end;
                self.read = None;
                Some(())
            }
            _ => None,
        }
    }

    fn id(&self) -> Option<PartitionId> {
        match self.at {
            At::Here(id) => Some(id),
            At::Absent(_) | At::Wrong(_) => None,
        }
    }

    fn is_absent(&self) -> bool {
        matches!(self.at, At::Absent(_))
    }
}

/// What a partition gives at this moment.
enum Found {
    Absent(ErrorCode),
    Refused(ErrorCode),
    /// The client's log went another way than ours from here on (KIP-320).
    Diverged(i32, i64),
    /// The client has all there is.
    Idle,
    /// There is more, but it does not fit into this answer.
    Nothing,
    Splices(Splices),
    /// With the offset after the last of the batches.
    Converted(Bytes, i64),
    /// A reader has to look.
    Cold(Place),
}

/// Whole batches.
#[derive(Default)]
struct Splices {
    places: Vec<Splice>,
    bytes: usize,
    /// Bytes that Kafka would send, which cuts the last batch off where a limit is reached; they count against limits.
    counted: usize,
    /// The offset after the last batch.
    end: i64,
}

impl Found {
    fn bytes(&self) -> usize {
        match self {
            Found::Splices(splices) => splices.bytes,
            Found::Converted(bytes, _) => bytes.len(),
            _ => 0,
        }
    }

    /// Bytes that count against the limits of the request, and towards what it waits for.
    fn counted(&self) -> i64 {
        let counted = match self {
            Found::Splices(splices) => splices.counted,
            other => other.bytes(),
        };
        i64::try_from(counted).unwrap_or(i64::MAX)
    }

    /// Whether the client should hear of it at once.
    fn is_final(&self) -> bool {
        matches!(self, Found::Refused(_) | Found::Diverged(..))
    }
}

impl Broker {
    pub(super) fn fetch(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: FetchRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        if !(0..=1).contains(&request.isolation_level) {
            self.reply_after(0, req.to, &request::refused(&request, req.to.version));
            return Ok(());
        }
        let (source, parts) = match self.open_fetch(req, &request) {
            Ok(opened) => opened,
            Err(error_code) => {
                self.reply_after(0, req.to, &wire::msg::FetchResponse { error_code, ..Default::default() });
                return Ok(());
            }
        };
        let most = i64::try_from(self.settings.config.fetch_max_bytes).unwrap_or(i64::MAX);
        let bytes_max = i64::from(request.max_bytes).min(most);
        let wait_us = u64::try_from(request.max_wait_ms).unwrap_or(0) * 1000;
        let fetch = Fetch {
            to: req.to,
            source,
            reader: request::reader(&request, req.to.version),
            bytes_max,
            bytes_min: i64::from(request.min_bytes).min(bytes_max),
            deadline_us: req.now.mono_us.saturating_add(wait_us),
            parts,
            reading: 0,
            reading_bytes: 0,
            in_line: false,
            waits_for_late: false,
            found_bytes: 0,
        };
        self.make_room_for(req.now, fetch.parts.len());
        self.look_again(req.now, fetch);
        Ok(())
    }

    /// Serves a fetch with what its session knows now.
    fn look_again(&mut self, now: Now, mut fetch: Fetch) {
        self.refresh(&mut fetch);
        self.serve(now, fetch);
    }

    /// Answers a fetch, or sends readers, or parks it.
    fn serve(&mut self, now: Now, mut fetch: Fetch) {
        let found = self.look(&fetch);
        if self.is_crowded(&fetch) {
            return self.answer(now, fetch, found);
        }
        if found.iter().any(|found| matches!(found, Found::Cold(_))) {
            if self.is_to_stand_in_line() {
                return self.stand_in_line(fetch);
            }
            return self.send_readers(now, fetch, &found);
        }
        let bytes = found.iter().map(Found::counted).sum();
        if self.is_to_wait_for_late(&fetch, &found) {
            // As long as if it had sent the reader itself, however little its client wants to wait.
            fetch.waits_for_late = true;
            fetch.deadline_us = fetch.deadline_us.max(now.mono_us.saturating_add(limits::REMOTE_FETCH_WAIT_US));
            return self.park(fetch, &found, bytes);
        }
        let enough = bytes >= fetch.bytes_min || found.iter().any(Found::is_final);
        if enough || self.stopping || now.mono_us >= fetch.deadline_us || self.waits_for_nothing(&fetch) {
            return self.answer(now, fetch, found);
        }
        self.park(fetch, &found, bytes);
    }

    /// Whether a fetch has nothing to tell but is soon given something that a reader is about to bring.
    fn is_to_wait_for_late(&self, fetch: &Fetch, found: &[Found]) -> bool {
        let mut ids = fetch.parts.iter().filter_map(Part::id);
        !fetch.waits_for_late
            && !self.stopping
            && found.iter().all(|found| matches!(found, Found::Nothing | Found::Idle))
            && ids.any(|id| self.fetches.late.looks_for(id))
    }

    /// What each partition gives now, within the limits of the request: the first one that has anything gives at least
    /// one whole batch, the others only what fits.
    fn look(&self, fetch: &Fetch) -> Vec<Found> {
        let mut left = fetch.bytes_max;
        let mut reads = 0;
        let mut first = true;
        let mut found = Vec::with_capacity(fetch.parts.len());
        for part in &fetch.parts {
            if let At::Absent(error) = part.at {
                found.push(Found::Absent(error));
                continue;
            }
            let budget = left.min(i64::from(part.want.bytes_max));
            let one = match self.look_at(fetch, part, budget, first) {
                Found::Cold(_) if reads == limits::FETCH_READS_MAX => Found::Nothing,
                // A reader gives at least one whole batch; only the first partition with data may exceed the limits.
                one if !first && one.bytes() as i64 > budget.max(0) => Found::Nothing,
                one => one,
            };
            let counted = match &one {
                Found::Cold(_) => {
                    reads += 1;
                    budget.max(1)
                }
                one => one.counted(),
            };
            first &= counted == 0;
            left = (left - counted).max(0);
            found.push(one);
        }
        found
    }

    fn look_at(&self, fetch: &Fetch, part: &Part, budget: i64, first: bool) -> Found {
        let id = match part.at {
            At::Here(id) => id,
            At::Absent(error) => return Found::Absent(error),
            At::Wrong(error) => return Found::Refused(error),
        };
        let Some(partition) = self.topics.partition(id) else {
            return Found::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let (log, want, offset) = (&partition.log, &part.want, part.want.offset);
        if let Err(error) = check_fetcher(fetch, want, log) {
            return Found::Refused(error);
        }
        match diverging(log, want) {
            Err(error) => return Found::Refused(error),
            Ok(Some((epoch, end))) => return Found::Diverged(epoch, end),
            // What has an offset and is not durable yet is no error, and not there yet.
            Ok(None) if offset < log.start_offset || offset > log.next_offset => {
                return Found::Refused(ErrorCode::OFFSET_OUT_OF_RANGE);
            }
            Ok(None) => {}
        }
        if let Some(read) = &part.read {
            return was_read(read);
        }
        let end = log.readable_end(fetch.reader.read_committed);
        if offset >= end {
            return Found::Idle;
        }
        let Ok(budget) = usize::try_from(budget) else {
            return Found::Refused(ErrorCode::UNKNOWN_SERVER_ERROR);
        };
        if budget == 0 && !first {
            return Found::Nothing;
        }
        if convert_for(fetch.to.version).is_none() {
            if let Some(splices) = self.in_memory(log, (offset, end), budget, first) {
                return if splices.places.is_empty() { Found::Nothing } else { Found::Splices(splices) };
            }
        }
        let Some(place) = log.place(offset, limits::READ_RUNS_MAX) else { return Found::Nothing };
        if !self.segments.is_remote(place.segment) {
            return Found::Cold(place);
        }
        let late = &self.fetches.late;
        let kept = late.found(id, (offset, end), budget, first).filter(|_| convert_for(fetch.to.version).is_none());
        kept.unwrap_or_else(|| if late.looks_for(id) { Found::Nothing } else { Found::Cold(place) })
    }

    /// Whole batches from the ring: from the one that holds `offset`, as many as fit, at least one if `first`, none that
    /// begins at or above `end`. `None` when the ring does not hold that batch.
    fn in_memory(&self, log: &PartitionLog, (offset, end): (i64, i64), budget: usize, first: bool) -> Option<Splices> {
        if !log.knows_run(offset) {
            return None;
        }
        let mut found = Splices { end: offset, ..Splices::default() };
        for run in log.runs_from(offset).take_while(|run| run.base_offset < end) {
            let Some(data) = self.ring.get(run.segment, run.position, run.len) else {
                if found.places.is_empty() {
                    return None;
                }
                break;
            };
            let left = budget.saturating_sub(found.bytes);
            let within = batches_within(&data, (offset, end), left, first && found.bytes == 0);
            if within.take > 0 {
                found.end = within.end;
                let handle = self.handles.get(&run.segment)?.clone();
                let position = run.position + within.skip as u64;
                found.places.push(Splice { handle, position, len: within.take as u32 });
                found.bytes += within.take;
            }
            found.counted = if within.is_cut { budget.max(found.bytes) } else { found.bytes };
            if within.skip + within.take < data.len() {
                break;
            }
        }
        Some(found)
    }

    fn send_readers(&mut self, now: Now, mut fetch: Fetch, found: &[Found]) {
        let id = self.new_fetch_id();
        let is_remote = |found: &Found| matches!(found, Found::Cold(place) if self.segments.is_remote(place.segment));
        if found.iter().any(is_remote) {
            // A store that is slow must not keep back what the other partitions have.
            fetch.deadline_us = fetch.deadline_us.max(now.mono_us.saturating_add(limits::REMOTE_FETCH_WAIT_US));
            self.set_timer(fetch.deadline_us, Timer::Fetch(id));
        }
        let mut left = fetch.bytes_max;
        for (index, found) in found.iter().enumerate() {
            let part = &fetch.parts[index];
            let (Found::Cold(place), Some(partition)) = (found, part.id()) else {
                left = (left - found.counted()).max(0);
                continue;
            };
            let bytes_max = i64::from(part.want.bytes_max).min(left).max(1);
            left = (left - bytes_max).max(0);
            let committed = fetch.reader.read_committed;
            let kind = ReadKind::Fetch {
                place: place.clone(),
                offset: part.want.offset,
                end_offset: self.topics.partition(partition).map_or(0, |p| p.log.readable_end(committed)),
                bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
                convert: convert_for(fetch.to.version),
            };
            fetch.reading_bytes += if self.segments.is_remote(place.segment) { 0 } else { bytes_max as usize };
            let job = self.job();
            self.fetches.reads.insert(job, (id, index));
            self.send_reader(ReadJob { job, asked_us: now.mono_us, id: partition, kind });
            fetch.reading += 1;
        }
        self.keep(id, fetch);
    }

    /// Keeps a fetch that cannot be answered yet.
    fn keep(&mut self, id: u64, fetch: Fetch) {
        if let Source::Session { id: session, epoch } = fetch.source {
            let session = self.fetches.sessions.get_mut(session);
            if let Some(session) = session.filter(|session| session.epoch == session::next_epoch(epoch)) {
                session.fetch = Some(id);
            }
        }
        self.fetches.line.count(&fetch);
        self.fetches.by_conn.insert(fetch.to.conn, id);
        self.fetches.by_id.insert(id, fetch);
    }

    pub(super) fn fetch_read_done(&mut self, now: Now, done: ReadDone) {
        if self.fetches.late.has(done.job) {
            return self.late_read_done(now, done.job, done.result);
        }
        let Some((id, index)) = self.fetches.reads.remove(&done.job) else { return };
        let Some(fetch) = self.fetches.by_id.get_mut(&id) else { return };
        if let Err(ReadError::Corrupt(why) | ReadError::Io(why)) = &done.result {
            ::log::error!(
                "cannot read what a client asked for: {why}. If this goes on, restore the data directory from a backup"
            );
        }
        fetch.parts[index].read = Some(done.result);
        fetch.reading -= 1;
        if fetch.reading > 0 {
            return;
        }
        if let Some(mut fetch) = self.take_fetch(id) {
            // What was read is the answer, however little it is; but where there were only transaction markers, which the
            // old formats have no word for, the client could not get past them by itself.
            let passed = fetch.parts.iter_mut().filter_map(Part::pass_markers).count();
            if passed == 0 {
                fetch.bytes_min = 0;
            }
            self.serve(now, fetch);
        }
    }

    /// A partition was compacted: what was read of it before, and waits for what other partitions have, is read again. By the next
    /// compaction nobody would know which transactions in it were aborted.
    pub(super) fn forget_reads_of(&mut self, id: PartitionId) {
        self.fetches.late.forget(id);
        for part in self.fetches.by_id.values_mut().flat_map(|fetch| &mut fetch.parts) {
            if part.id() == Some(id) {
                part.read = None;
            }
        }
    }

    fn park(&mut self, mut fetch: Fetch, found: &[Found], bytes: i64) {
        let id = self.new_fetch_id();
        fetch.found_bytes = bytes;
        self.set_timer(fetch.deadline_us, Timer::Fetch(id));
        if let Source::Session { .. } = fetch.source {
            // Its session watches the partitions, also while no fetch waits.
            self.let_rest(&fetch, found);
            fetch.parts = Vec::new();
        }
        for part in &fetch.parts {
            if let Some(partition) = part.id().and_then(|id| self.topics.partition_mut(id)) {
                partition.fetches.push(id);
            }
        }
        self.fetches.line.parked(id, &fetch);
        self.keep(id, fetch);
    }

    /// A partition has `len` more durable bytes, or its last stable offset has moved: fetches that now have enough are
    /// answered.
    pub(super) fn wake_fetches(&mut self, now: Now, id: PartitionId, len: u32, stable_moved: bool) {
        let mut waiting = self.notice(id);
        if let Some(partition) = self.topics.partition(id) {
            waiting.extend(&partition.fetches);
        }
        for fetch_id in waiting {
            let Some(fetch) = self.fetches.by_id.get_mut(&fetch_id) else { continue };
            // How much a moved last stable offset opens to a reader of committed records is found by looking.
            let committed = fetch.reader.read_committed;
            fetch.found_bytes += if committed { 0 } else { i64::from(len) };
            if fetch.found_bytes >= fetch.bytes_min || (committed && stable_moved) {
                if let Some(fetch) = self.take_fetch(fetch_id) {
                    self.look_again(now, fetch);
                }
            }
        }
    }

    /// A partition's start has moved: who waits there may have to be told.
    pub(super) fn start_moved(&mut self, now: Now, id: PartitionId) {
        let mut waiting = self.notice(id);
        if let Some(partition) = self.topics.partition(id) {
            waiting.extend(&partition.fetches);
        }
        for id in waiting {
            if let Some(fetch) = self.take_fetch(id) {
                self.look_again(now, fetch);
            }
        }
    }

    /// A topic has been taken out, with these partitions: everyone who waits there gets an answer.
    pub(super) fn topic_gone(&mut self, now: Now, partitions: &[super::topics::Partition]) {
        let mut waiting = self.notice_gone(partitions);
        waiting.extend(partitions.iter().flat_map(|partition| &partition.fetches));
        for id in waiting {
            self.answer_now(now, id);
        }
    }

    /// Answers a waiting fetch with what there is.
    fn answer_now(&mut self, now: Now, id: u64) {
        if let Some(mut fetch) = self.take_fetch(id) {
            fetch.bytes_min = 0;
            self.look_again(now, fetch);
        }
    }

    pub(super) fn fetch_timed_out(&mut self, now: Now, id: u64) {
        if let Some(mut fetch) = self.take_fetch(id) {
            if fetch.reading > 0 {
                self.go_on_without_readers(id, &mut fetch);
                return self.serve(now, fetch);
            }
            self.look_again(now, fetch);
        }
    }

    /// A fetch waits no longer for what only the object store has.
    fn go_on_without_readers(&mut self, id: u64, fetch: &mut Fetch) {
        fetch.reading = 0;
        fetch.waits_for_late = true;
        let reads = self.fetches.reads.iter().filter(|(_, (of, _))| *of == id);
        let reads: Vec<(u64, usize)> = reads.map(|(job, (_, index))| (*job, *index)).collect();
        let is_as_stored = convert_for(fetch.to.version).is_none();
        for (job, index) in reads {
            self.fetches.reads.remove(&job);
            let Some(part) = fetch.parts.get(index) else { continue };
            if let Some(id) = part.id() {
                self.fetches.late.insert(job, id, is_as_stored.then_some(part.want.offset));
            }
        }
    }

    pub(super) fn drop_fetch_of(&mut self, conn: ConnId) {
        if let Some(id) = self.fetches.by_conn.get(&conn).copied() {
            self.take_fetch(id);
        }
    }

    /// Nobody waits for the fetch of this connection any more. If no reader is about to bring it something it is dropped; its slot.
    pub(super) fn give_up_fetch_of(&mut self, conn: ConnId) -> Option<u64> {
        let id = self.fetches.by_conn.get(&conn).copied()?;
        let fetch = self.fetches.by_id.get(&id).filter(|fetch| fetch.reading == 0)?;
        let slot = fetch.to.slot;
        self.take_fetch(id);
        Some(slot)
    }

    /// The server stops: whoever waits is answered with what there is.
    pub(super) fn answer_all_fetches(&mut self, now: Now) {
        // Who stands in line sends its readers now.
        let mut parked: Vec<u64> =
            self.fetches.by_id.iter().filter(|(_, fetch)| fetch.reading == 0).map(|(id, _)| *id).collect();
        parked.sort_unstable();
        for id in parked {
            self.answer_now(now, id);
        }
    }

    /// Takes a fetch out of every list that it stands in.
    fn take_fetch(&mut self, id: u64) -> Option<Fetch> {
        let mut fetch = self.fetches.by_id.remove(&id)?;
        self.fetches.line.forget(id, &mut fetch);
        self.fetches.by_conn.remove(&fetch.to.conn);
        self.timers.remove(&(fetch.deadline_us, Timer::Fetch(id)));
        if let Source::Session { id: session, .. } = fetch.source {
            let session = self.fetches.sessions.get_mut(session);
            if let Some(session) = session.filter(|session| session.fetch == Some(id)) {
                session.fetch = None;
            }
        } else {
            for part in &fetch.parts {
                if let Some(partition) = part.id().and_then(|id| self.topics.partition_mut(id)) {
                    // Many may wait at one partition, and are taken out oldest first: so this looks at few.
                    if let Some(at) = partition.fetches.iter().position(|other| *other == id) {
                        partition.fetches.remove(at);
                    }
                }
            }
        }
        Some(fetch)
    }

    fn new_fetch_id(&mut self) -> u64 {
        self.fetches.next += 1;
        self.fetches.next
    }
}

/// The client's epoch for a partition must be ours, unless it tells none (-1).
pub(super) fn check_epoch(client: i32, ours: i32) -> Result<(), ErrorCode> {
    match client {
        -1 => Ok(()),
        epoch if epoch < ours => Err(ErrorCode::FENCED_LEADER_EPOCH),
        epoch if epoch > ours => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// What does not depend on the offset: the epoch that the client knows, and that nobody replicates from here.
fn check_fetcher(fetch: &Fetch, want: &Want, log: &PartitionLog) -> Result<(), ErrorCode> {
    check_epoch(want.leader_epoch.max(-1), log.leader_epoch)?;
    match (fetch.reader.is_follower, want.leader_epoch) {
        (false, _) => Ok(()),
        // Kafka's answers to a follower that is not among the replicas, which here every follower is.
        (true, 0..) => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        (true, _) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
    }
}

/// KIP-595: where the client's log, which ends in `last_fetched_epoch`, parted from ours.
fn diverging(log: &PartitionLog, want: &Want) -> Result<Option<(i32, i64)>, ErrorCode> {
    if want.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let (epoch, end) = log.epoch_end(want.last_fetched_epoch).ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)?;
    if want.offset < log.start_offset {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    Ok((epoch < want.last_fetched_epoch || end < want.offset).then_some((epoch, end)))
}

fn was_read(read: &Result<ReadFound, ReadError>) -> Found {
    match read {
        Ok(ReadFound::Splices(places, end)) => {
            let bytes = places.iter().map(|splice| splice.len as usize).sum();
            Found::Splices(Splices { places: places.clone(), bytes, counted: bytes, end: *end })
        }
        Ok(ReadFound::Converted(bytes, end)) => Found::Converted(bytes.clone(), *end),
        Ok(ReadFound::Record(_) | ReadFound::Batches(..)) => Found::Refused(ErrorCode::UNKNOWN_SERVER_ERROR),
        Err(error) => Found::Refused(read_error_code(error)),
    }
}

/// Clients before Fetch v4 get message sets: v0 and v1 in format 0, v2 and v3 in format 1.
fn convert_for(version: i16) -> Option<Convert> {
    match version {
        0 | 1 => Some(Convert { magic: 0 }),
        2 | 3 => Some(Convert { magic: 1 }),
        _ => None,
    }
}

pub(super) fn read_error_code(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::Corrupt(_) => ErrorCode::CORRUPT_MESSAGE,
        ReadError::Io(_) if canary::has(Fault::ReadErrorHidden) => ErrorCode::NONE,
        ReadError::Io(_) | ReadError::Away(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        ReadError::Unsupported(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
    }
}

/// A part of a run.
struct Within {
    /// Bytes before the batch that holds the offset, or the first after it.
    skip: usize,
    /// Bytes of whole batches from there that fit.
    take: usize,
    /// The offset after the last of them.
    end: i64,
    /// A batch was left out because it does not fit.
    is_cut: bool,
}

/// What of a run fits into `budget`, from the batch that holds `offset` on; none that begins at or above `end`. The first
/// batch is taken whatever its size if `first`.
fn batches_within(data: &[u8], (offset, end): (i64, i64), budget: usize, first: bool) -> Within {
    let mut within = Within { skip: 0, take: 0, end: offset, is_cut: false };
    for item in batch::batches(data) {
        let Ok(batch) = item else { break };
        let len = batch.bytes.len();
        if batch.header.base_offset >= end {
            break;
        } else if batch.header.last_offset() < offset {
            within.skip += len;
        } else if within.take + len <= budget || (first && within.take == 0) {
            within.take += len;
            within.end = batch.header.last_offset() + 1;
        } else {
            within.is_cut = true;
            break;
        }
    }
    within
}
