//! Owns Fetch: what is in memory is answered at once, what is not is read by a reader first, and a fetch at the end of
//! its partitions is parked until there is enough or its time is up.
//!
//! A fetch goes through `serve` until it can be answered. Record data never passes through here: the answer names places
//! in the log (`Splice`), which the shell sends from the ring or from the file.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dispatch::Request;
use super::log::PartitionLog;
use super::reply::ReplyTo;
use super::topics::StableMap;
use super::{Broker, ConnId, Effect, Now, Timer};
use crate::limits;
use crate::wal::{Convert, PartitionId, Place, ReadDone, ReadError, ReadFound, ReadJob, ReadKind, Splice};
use crate::wire::batch;
use crate::wire::msg::{
    AbortedTransaction, FetchEpochEndOffset, FetchPartition, FetchPartitionData, FetchRequest, FetchResponse,
    FetchableTopicResponse,
};
use crate::wire::{self, frame, DecodeError, ErrorCode, RecordSet, Uuid};

/// Fetches that are not answered yet: parked, or waiting for readers.
#[derive(Debug, Default)]
pub struct Fetches {
    next: u64,
    by_id: StableMap<u64, Fetch>,
    by_conn: BTreeMap<ConnId, u64>,
    /// Which fetch, and which of its partitions, a reader works for.
    reads: StableMap<u64, (u64, usize)>,
}

impl Fetches {
    /// Whether a read job belongs to a fetch.
    pub fn waits_for(&self, job: u64) -> bool {
        self.reads.contains_key(&job)
    }
}

#[derive(Debug)]
struct Fetch {
    to: ReplyTo,
    read_committed: bool,
    bytes_max: usize,
    bytes_min: usize,
    /// Monotonic µs at which the client wants an answer whatever there is.
    deadline_us: u64,
    parts: Vec<Part>,
    /// Reads that are under way.
    reading: usize,
    /// Bytes that are there, while parked: what was found, and what became durable since.
    found_bytes: usize,
}

#[derive(Debug)]
struct Part {
    name: String,
    topic_id: Uuid,
    want: FetchPartition,
    /// The partition, or what is wrong with it.
    id: Result<PartitionId, ErrorCode>,
    read: Option<Result<ReadFound, ReadError>>,
}

impl Part {
    /// Goes on behind what was read when nothing of it could be told to the client.
    fn pass_markers(&mut self) -> Option<()> {
        match &self.read {
            Some(Ok(ReadFound::Converted(bytes, end))) if bytes.is_empty() && *end > self.want.fetch_offset => {
                self.want.fetch_offset = *end;
                self.read = None;
                Some(())
            }
            _ => None,
        }
    }
}

/// What a partition gives at this moment.
enum Found {
    Refused(ErrorCode),
    /// The client's log went another way than ours from here on (KIP-320).
    Diverged(i32, i64),
    Nothing,
    /// Places in the log, their bytes, and the offset after the last of their batches.
    Splices(Vec<Splice>, usize, i64),
    Converted(Bytes, i64),
    /// A reader has to look.
    Cold(Place),
}

impl Found {
    fn bytes(&self) -> usize {
        match self {
            Found::Splices(_, bytes, _) => *bytes,
            Found::Converted(bytes, _) => bytes.len(),
            _ => 0,
        }
    }

    /// Whether the client should hear of it at once.
    fn is_final(&self) -> bool {
        matches!(self, Found::Refused(_) | Found::Diverged(..))
    }
}

impl Broker {
    pub(super) fn fetch(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: FetchRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        // Sessions are never granted (session id 0 in every answer), so any that a client names is unknown.
        if request.session_id != 0 && request.session_epoch > 0 {
            let response = FetchResponse { error_code: ErrorCode::FETCH_SESSION_ID_NOT_FOUND, ..Default::default() };
            self.reply_after(0, req.to, &response);
            return Ok(());
        }
        let wait_us = u64::try_from(request.max_wait_ms).unwrap_or(0) * 1000;
        let mut parts = Vec::new();
        for topic in &request.topics {
            for want in &topic.partitions {
                let id = self.fetchable(req.to.version, topic.topic, topic.topic_id, want);
                let name = topic.topic.to_owned();
                parts.push(Part { name, topic_id: topic.topic_id, want: want.clone(), id, read: None });
            }
        }
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(self.settings.config.fetch_max_bytes);
        let fetch = Fetch {
            to: req.to,
            read_committed: request.isolation_level == 1,
            bytes_max,
            bytes_min: usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max),
            deadline_us: req.now.mono_us.saturating_add(wait_us),
            parts,
            reading: 0,
            found_bytes: 0,
        };
        self.serve(req.now, fetch);
        Ok(())
    }

    /// Finds the partition and checks the epoch that the client knows.
    fn fetchable(&self, version: i16, name: &str, id: Uuid, want: &FetchPartition) -> Result<PartitionId, ErrorCode> {
        let by_id = version >= 13;
        let topic = if by_id { self.topics.by_id(id) } else { self.topics.by_name(name) };
        let topic = topic.ok_or(Broker::no_such_topic(by_id))?;
        let id = PartitionId { topic: topic.id, partition: want.partition };
        let partition = self.topics.partition(id).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        check_epoch(want.current_leader_epoch, partition.log.leader_epoch)?;
        Ok(id)
    }

    /// Answers a fetch, or sends readers, or parks it.
    fn serve(&mut self, now: Now, mut fetch: Fetch) {
        let found = self.look(&fetch);
        if found.iter().any(|found| matches!(found, Found::Cold(_))) {
            return self.send_readers(&mut fetch, found);
        }
        let bytes: usize = found.iter().map(Found::bytes).sum();
        let enough = bytes >= fetch.bytes_min || found.iter().any(Found::is_final);
        let nothing_to_wait_for = fetch.parts.is_empty() || self.stopping;
        if enough || nothing_to_wait_for || now.mono_us >= fetch.deadline_us {
            return self.answer(fetch, found);
        }
        fetch.found_bytes = bytes;
        self.park(fetch);
    }

    /// What each partition gives now, within the limits of the request: the first one that has anything gives at least
    /// one whole batch, the others only what fits.
    fn look(&self, fetch: &Fetch) -> Vec<Found> {
        let mut left = fetch.bytes_max;
        let mut reads = 0;
        let mut first = true;
        let mut found = Vec::with_capacity(fetch.parts.len());
        for part in &fetch.parts {
            let one = self.look_at(fetch, part, left, first);
            let one = match one {
                Found::Cold(_) if reads == limits::FETCH_READS_MAX => Found::Nothing,
                // A reader gives at least one whole batch; only the first partition with data may exceed what is left.
                one if !first && one.bytes() > left => Found::Nothing,
                one => one,
            };
            let bytes = match &one {
                Found::Cold(_) => {
                    reads += 1;
                    bytes_max_of(&part.want).min(left).max(1)
                }
                one => one.bytes(),
            };
            if bytes > 0 {
                first = false;
                left = left.saturating_sub(bytes);
            }
            found.push(one);
        }
        found
    }

    fn look_at(&self, fetch: &Fetch, part: &Part, left: usize, first: bool) -> Found {
        let version = fetch.to.version;
        let id = match part.id {
            Ok(id) => id,
            Err(error) => return Found::Refused(error),
        };
        let Some(partition) = self.topics.partition(id) else {
            return Found::Refused(Broker::no_such_topic(version >= 13));
        };
        let log = &partition.log;
        let offset = part.want.fetch_offset;
        if offset < log.start_offset || offset > log.high_watermark {
            return Found::Refused(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if let Some((epoch, end)) = diverging(log, &part.want) {
            return Found::Diverged(epoch, end);
        }
        match &part.read {
            Some(Ok(ReadFound::Splices(splices, end))) => {
                let bytes = splices.iter().map(|splice| splice.len as usize).sum();
                return Found::Splices(splices.clone(), bytes, *end);
            }
            Some(Ok(ReadFound::Converted(bytes, end))) => return Found::Converted(bytes.clone(), *end),
            Some(Ok(ReadFound::Record(_))) => return Found::Refused(ErrorCode::UNKNOWN_SERVER_ERROR),
            Some(Err(error)) => return Found::Refused(read_error_code(error)),
            None => {}
        }
        let end = log.readable_end(fetch.read_committed);
        if offset >= end || (left == 0 && !first) {
            return Found::Nothing;
        }
        let budget = bytes_max_of(&part.want).min(left);
        if convert_for(version).is_none() {
            if let Some((splices, bytes, end)) = self.in_memory(log, (offset, end), budget, first) {
                return if splices.is_empty() { Found::Nothing } else { Found::Splices(splices, bytes, end) };
            }
        }
        log.place(offset, limits::READ_RUNS_MAX).map_or(Found::Nothing, Found::Cold)
    }

    /// Whole batches from the ring: from the one that holds `offset`, as many as fit, at least one if `first`, none that
    /// begins at or above `end`; their bytes, and the offset after them. `None` when the ring does not hold that batch.
    fn in_memory(
        &self,
        log: &PartitionLog,
        (offset, end): (i64, i64),
        budget: usize,
        first: bool,
    ) -> Option<(Vec<Splice>, usize, i64)> {
        if !log.knows_run(offset) {
            return None;
        }
        let mut splices: Vec<Splice> = Vec::new();
        let (mut bytes, mut next) = (0, offset);
        for run in log.runs_from(offset).take_while(|run| run.base_offset < end) {
            let Some(data) = self.ring.get(run.segment, run.position, run.len) else {
                if splices.is_empty() {
                    return None;
                }
                break;
            };
            let left = budget.saturating_sub(bytes);
            let (skip, take, after) = batches_within(&data, (offset, end), left, first && bytes == 0);
            if take > 0 {
                next = after;
                let handle = self.handles.get(&run.segment)?.clone();
                splices.push(Splice { handle, position: run.position + skip as u64, len: take as u32 });
                bytes += take;
            }
            if skip + take < data.len() || bytes >= budget {
                break;
            }
        }
        Some((splices, bytes, next))
    }

    fn send_readers(&mut self, fetch: &mut Fetch, found: Vec<Found>) {
        let id = self.new_fetch_id();
        let mut fetch = std::mem::replace(fetch, Fetch { parts: Vec::new(), ..*fetch });
        let mut left = fetch.bytes_max;
        for (index, found) in found.into_iter().enumerate() {
            let part = &fetch.parts[index];
            let (Found::Cold(place), Ok(partition)) = (&found, part.id) else {
                left = left.saturating_sub(found.bytes());
                continue;
            };
            let bytes_max = bytes_max_of(&part.want).min(left).max(1);
            left = left.saturating_sub(bytes_max);
            let kind = ReadKind::Fetch {
                place: place.clone(),
                offset: part.want.fetch_offset,
                end_offset: self.topics.partition(partition).map_or(0, |p| p.log.readable_end(fetch.read_committed)),
                bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
                convert: convert_for(fetch.to.version),
            };
            let job = self.job();
            self.fetches.reads.insert(job, (id, index));
            self.effects.push_back(Effect::Read(ReadJob { job, id: partition, kind }));
            fetch.reading += 1;
        }
        self.fetches.by_conn.insert(fetch.to.conn, id);
        self.fetches.by_id.insert(id, fetch);
    }

    pub(super) fn fetch_read_done(&mut self, now: Now, done: ReadDone) {
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

    fn park(&mut self, fetch: Fetch) {
        let id = self.new_fetch_id();
        for part in &fetch.parts {
            if let Some(partition) = part.id.ok().and_then(|id| self.topics.partition_mut(id)) {
                partition.fetches.push(id);
            }
        }
        self.set_timer(fetch.deadline_us, Timer::Fetch(id));
        self.fetches.by_conn.insert(fetch.to.conn, id);
        self.fetches.by_id.insert(id, fetch);
    }

    /// A partition has `len` more durable bytes, or its last stable offset has moved: fetches that now have enough are
    /// answered.
    pub(super) fn wake_fetches(&mut self, now: Now, id: PartitionId, len: u32, stable_moved: bool) {
        let Some(partition) = self.topics.partition(id).filter(|p| !p.fetches.is_empty()) else { return };
        for fetch_id in partition.fetches.clone() {
            let Some(fetch) = self.fetches.by_id.get_mut(&fetch_id) else { continue };
            // How much a moved last stable offset opens to a reader of committed records is found by looking.
            fetch.found_bytes += if fetch.read_committed { 0 } else { len as usize };
            if fetch.found_bytes >= fetch.bytes_min || (fetch.read_committed && stable_moved) {
                if let Some(fetch) = self.take_fetch(fetch_id) {
                    self.serve(now, fetch);
                }
            }
        }
    }

    /// Everyone who waits at a partition gets an answer (it was deleted, or its start moved).
    pub(super) fn wake_all_fetches_of(&mut self, now: Now, ids: Vec<u64>) {
        for id in ids {
            if let Some(fetch) = self.take_fetch(id) {
                self.serve(now, fetch);
            }
        }
    }

    pub(super) fn fetch_timed_out(&mut self, now: Now, id: u64) {
        if let Some(fetch) = self.take_fetch(id) {
            self.serve(now, fetch);
        }
    }

    pub(super) fn drop_fetch_of(&mut self, conn: ConnId) {
        if let Some(id) = self.fetches.by_conn.get(&conn).copied() {
            self.take_fetch(id);
        }
    }

    /// The server stops: whoever waits is answered with what there is.
    pub(super) fn answer_all_fetches(&mut self, now: Now) {
        let mut parked: Vec<u64> =
            self.fetches.by_id.iter().filter(|(_, fetch)| fetch.reading == 0).map(|(id, _)| *id).collect();
        parked.sort_unstable();
        self.wake_all_fetches_of(now, parked);
    }

    /// Takes a fetch out of every list that it stands in.
    fn take_fetch(&mut self, id: u64) -> Option<Fetch> {
        let fetch = self.fetches.by_id.remove(&id)?;
        self.fetches.by_conn.remove(&fetch.to.conn);
        self.timers.remove(&(fetch.deadline_us, Timer::Fetch(id)));
        for part in &fetch.parts {
            if let Some(partition) = part.id.ok().and_then(|id| self.topics.partition_mut(id)) {
                partition.fetches.retain(|other| *other != id);
            }
        }
        Some(fetch)
    }

    fn new_fetch_id(&mut self) -> u64 {
        self.fetches.next += 1;
        self.fetches.next
    }

    fn answer(&mut self, fetch: Fetch, found: Vec<Found>) {
        let mut splices = Vec::new();
        let mut responses: Vec<FetchableTopicResponse<'_>> = Vec::new();
        for (part, found) in fetch.parts.iter().zip(&found) {
            let mut data = self.partition_data(part, found, &mut splices);
            if fetch.read_committed {
                data.aborted_transactions = Some(self.aborted_in(part, found));
            }
            match responses.last_mut() {
                Some(topic) if topic.topic == part.name && topic.topic_id == part.topic_id => {
                    topic.partitions.push(data)
                }
                _ => responses.push(FetchableTopicResponse {
                    topic: &part.name,
                    topic_id: part.topic_id,
                    partitions: vec![data],
                }),
            }
        }
        let response = FetchResponse { responses, ..Default::default() };
        let encoded = frame::response(fetch.to.version, fetch.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), fetch.to, encoded, &splices);
    }

    fn partition_data<'a>(
        &self,
        part: &Part,
        found: &'a Found,
        splices: &mut Vec<Vec<Splice>>,
    ) -> FetchPartitionData<'a> {
        let mut data = FetchPartitionData {
            partition_index: part.want.partition,
            high_watermark: -1,
            records: RecordSet::Bytes(&[]),
            ..Default::default()
        };
        let log = part.id.ok().and_then(|id| self.topics.partition(id)).map(|partition| &partition.log);
        if let Some(log) = log.filter(|_| !matches!(found, Found::Refused(_))) {
            data.high_watermark = log.high_watermark;
            data.last_stable_offset = log.last_stable_offset();
            data.log_start_offset = log.start_offset;
        }
        match found {
            Found::Refused(error) => {
                self.settings.metrics.request_error(wire::ApiKey::FETCH.0, error.0);
                data.error_code = *error;
            }
            Found::Diverged(epoch, end_offset) => {
                data.diverging_epoch = FetchEpochEndOffset { epoch: *epoch, end_offset: *end_offset };
            }
            Found::Splices(list, bytes, _) => {
                data.records = RecordSet::External { tag: splices.len() as u32, len: *bytes as u32 };
                splices.push(list.clone());
            }
            Found::Converted(bytes, _) => data.records = RecordSet::Bytes(bytes),
            Found::Nothing | Found::Cold(_) => {}
        }
        data
    }
}

impl Broker {
    /// The aborted transactions that have batches among what was found.
    fn aborted_in(&self, part: &Part, found: &Found) -> Vec<AbortedTransaction> {
        let (Found::Splices(_, _, end) | Found::Converted(_, end)) = found else { return Vec::new() };
        let log = part.id.ok().and_then(|id| self.topics.partition(id)).map(|partition| &partition.log);
        let aborted = log.into_iter().flat_map(|log| log.txns.aborted_in(part.want.fetch_offset, *end));
        let aborted =
            aborted.map(|txn| AbortedTransaction { producer_id: txn.producer_id, first_offset: txn.first_offset });
        aborted.collect()
    }
}

/// The client's epoch for a partition must be ours, unless it tells none (-1).
pub(super) fn check_epoch(client: i32, ours: i32) -> Result<(), ErrorCode> {
    match client {
        ..=-1 => Ok(()),
        epoch if epoch < ours => Err(ErrorCode::FENCED_LEADER_EPOCH),
        epoch if epoch > ours => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// KIP-595: where the client's log, which ends in `last_fetched_epoch`, parted from ours.
fn diverging(log: &PartitionLog, want: &FetchPartition) -> Option<(i32, i64)> {
    if want.last_fetched_epoch < 0 {
        return None;
    }
    match log.epoch_end(want.last_fetched_epoch) {
        Some((epoch, end)) if epoch < want.last_fetched_epoch || end < want.fetch_offset => Some((epoch, end)),
        Some(_) => None,
        None => Some((log.leader_epoch, log.high_watermark)),
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

fn bytes_max_of(want: &FetchPartition) -> usize {
    usize::try_from(want.partition_max_bytes).unwrap_or(0)
}

pub(super) fn read_error_code(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::Corrupt(_) => ErrorCode::CORRUPT_MESSAGE,
        ReadError::Io(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        ReadError::Unsupported(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
    }
}

/// Within a run: how many bytes lie before the batch that holds `offset` (or the first after it), and how many bytes of
/// whole batches from there fit into `budget`, none that begins at or above `end`; and the offset after the last of them.
/// The first batch is taken whatever its size if `first`.
fn batches_within(data: &[u8], (offset, end): (i64, i64), budget: usize, first: bool) -> (usize, usize, i64) {
    let (mut skip, mut take, mut next) = (0, 0, offset);
    for item in batch::batches(data) {
        let Ok(batch) = item else { break };
        let len = batch.bytes.len();
        if batch.header.base_offset >= end {
            break;
        } else if batch.header.last_offset() < offset {
            skip += len;
        } else if take + len <= budget || (first && take == 0) {
            take += len;
            next = batch.header.last_offset() + 1;
        } else {
            break;
        }
    }
    (skip, take, next)
}
