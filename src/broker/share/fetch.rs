//! Owns ShareFetch from request to answer: sessions, acknowledgements that come along, waiting for records, and the answer.
//! What is taken from where is `take.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::acknowledge::{names, Acknowledging, Outcome, RENEW_VERSION};
use super::runs::Name;
use super::session::{SessionKey, CLOSE, OPEN};
use super::take::{Records, Taken, Wanted};
use super::Timer;
use crate::broker::dispatch::Request;
use crate::broker::reply::ReplyTo;
use crate::broker::topics::StableMap;
use crate::broker::{Broker, ConnId, Insert, Now};
use crate::wal::PartitionId;
use crate::wire::msg::{
    AcquiredRecords, ShareFetchPartitionData, ShareFetchRequest, ShareFetchResponse, ShareFetchableTopicResponse,
};
use crate::wire::{self, frame, DecodeError, ErrorCode, RecordSet, Uuid};

/// ShareFetch's acquire modes (KIP-1206).
const BATCH_OPTIMIZED: i8 = 0;
const RECORD_LIMIT: i8 = 1;

/// Fetches that are not answered yet: parked, or waiting for readers.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    next: u64,
    pub by_id: StableMap<u64, ShareFetch>,
    by_conn: BTreeMap<ConnId, u64>,
    /// Who waits at which partition, in the order in which they came.
    waiting: BTreeMap<PartitionId, BTreeSet<u64>>,
    /// Which fetch, and which of the partitions that it wants, a reader works for.
    pub reads: StableMap<u64, (u64, usize)>,
}

#[derive(Debug)]
pub(super) struct ShareFetch {
    pub to: ReplyTo,
    pub group: Name,
    pub member: Name,
    pub bytes_min: usize,
    pub bytes_max: usize,
    pub records_max: i64,
    pub batch_size: i64,
    /// Mode `record_limit`.
    pub exact: bool,
    /// Monotonic µs at which the client wants an answer whatever there is.
    deadline_us: u64,
    pub parts: Vec<PartitionId>,
    acked: BTreeMap<PartitionId, Outcome>,
    /// The session's first request: every partition is told of, also one that has nothing.
    full: bool,
    /// The answer is this error, once the client's time is up.
    refused: Option<ErrorCode>,
    /// What readers look up, with what they found so far.
    pub wanted: Vec<Wanted>,
    /// Reads that are under way.
    pub reading: usize,
}

impl Broker {
    pub(super) fn share_fetch(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ShareFetchRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let (group, member) = match self.begin_share_fetch(req, &request) {
            Ok(key) => key,
            Err(error_code) => {
                self.settings.metrics.request_error(req.to.key, error_code.0);
                self.refuse_share_fetch(req, &request, error_code);
                return Ok(());
            }
        };
        let renew_allowed = request.is_renew_ack && req.to.version >= RENEW_VERSION;
        let how = Acknowledging { group: group.clone(), member: member.clone(), renew_allowed };
        let mut acked = BTreeMap::new();
        for topic in &request.topics {
            for partition in topic.partitions.iter().filter(|p| !p.acknowledgement_batches.is_empty()) {
                let id = PartitionId { topic: topic.topic_id, partition: partition.partition_index };
                let outcome = self.acknowledge_partition(req.now, &how, id, &partition.acknowledgement_batches);
                acked.entry(id).or_insert(outcome);
            }
        }
        let epoch = request.share_session_epoch;
        let mut fetch = ShareFetch { acked, ..self.new_share_fetch(req, &request, (group.clone(), member.clone())) };
        if epoch == CLOSE {
            self.end_share_session(req.now, &group, &member);
        } else if !request.is_renew_ack && fetch.records_max > 0 && fetch.bytes_max > 0 {
            fetch.parts = self.share.sessions.rotated(&(group, member), epoch);
        }
        match fetch.parts.is_empty() {
            true => self.answer_share_fetch(fetch, &[]),
            false => self.serve_share_fetch(req.now, fetch),
        }
        Ok(())
    }

    /// Checks the request and moves its session on; group and member.
    fn begin_share_fetch(
        &mut self,
        req: &Request<'_>,
        request: &ShareFetchRequest<'_>,
    ) -> Result<SessionKey, ErrorCode> {
        let key = names(request.group_id, request.member_id)?;
        let limits = [request.max_wait_ms, request.min_bytes, request.max_bytes, request.max_records];
        let renews_and_fetches = request.is_renew_ack && limits.iter().any(|limit| *limit != 0);
        if renews_and_fetches || ![BATCH_OPTIMIZED, RECORD_LIMIT].contains(&request.share_acquire_mode) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let named = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|p| PartitionId { topic: topic.topic_id, partition: p.partition_index })
        });
        match request.share_session_epoch {
            CLOSE => self.share.sessions.find(&key)?,
            OPEN => {
                let acks = request.topics.iter().flat_map(|topic| &topic.partitions);
                if acks.into_iter().any(|partition| !partition.acknowledgement_batches.is_empty()) {
                    return Err(ErrorCode::INVALID_REQUEST);
                }
                let sessions_max = self.share.settings.max_share_sessions;
                self.share.sessions.open(key.clone(), req.to.conn, named.collect(), sessions_max)?;
            }
            epoch => {
                self.share.sessions.next(&key, req.to.conn, epoch)?;
                let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
                    topic.partitions.iter().map(|p| PartitionId { topic: topic.topic_id, partition: *p })
                });
                self.share.sessions.update(&key, named, forgotten)?;
            }
        }
        Ok(key)
    }

    /// Tells an error; a client that finds no room for its session is told so only when its time is up, as in Kafka.
    fn refuse_share_fetch(&mut self, req: &Request<'_>, request: &ShareFetchRequest<'_>, error_code: ErrorCode) {
        if error_code == ErrorCode::SHARE_SESSION_LIMIT_REACHED && request.max_wait_ms > 0 && !self.stopping {
            let nobody: SessionKey = ("".into(), "".into());
            let fetch = ShareFetch { refused: Some(error_code), ..self.new_share_fetch(req, request, nobody) };
            return self.park_share_fetch(fetch);
        }
        self.reply_after(0, req.to, &ShareFetchResponse { error_code, ..Default::default() });
    }

    fn new_share_fetch(&self, req: &Request<'_>, request: &ShareFetchRequest<'_>, key: SessionKey) -> ShareFetch {
        let positive = |n: i32| usize::try_from(n).unwrap_or(0);
        let bytes_max = positive(request.max_bytes).min(self.settings.config.fetch_max_bytes);
        let wait_us = u64::try_from(request.max_wait_ms).unwrap_or(0) * 1000;
        let (group, member) = key;
        ShareFetch {
            to: req.to,
            group,
            member,
            bytes_min: positive(request.min_bytes).min(bytes_max),
            bytes_max,
            records_max: i64::from(request.max_records),
            batch_size: i64::from(request.batch_size.max(1)),
            exact: request.share_acquire_mode == RECORD_LIMIT,
            deadline_us: req.now.mono_us.saturating_add(wait_us),
            parts: Vec::new(),
            acked: BTreeMap::new(),
            full: request.share_session_epoch == OPEN,
            refused: None,
            wanted: Vec::new(),
            reading: 0,
        }
    }

    /// Answers a fetch, or sends readers, or parks it.
    pub(super) fn serve_share_fetch(&mut self, now: Now, mut fetch: ShareFetch) {
        if self.stopping || fetch.refused.is_some() {
            return self.answer_share_fetch(fetch, &[]);
        }
        loop {
            let wanted = self.look_for_share(now, &fetch);
            if wanted.iter().any(Wanted::is_cold) {
                fetch.wanted = wanted;
                return self.send_share_readers(now, fetch);
            }
            let late = now.mono_us >= fetch.deadline_us;
            let bytes: usize = wanted.iter().map(Wanted::bytes).sum();
            if bytes == 0 || (bytes < fetch.bytes_min && !late) {
                let hopeless = fetch.parts.iter().all(|id| self.topics.partition(*id).is_none());
                return match late || hopeless {
                    true => self.answer_share_fetch(fetch, &[]),
                    false => self.park_share_fetch(fetch),
                };
            }
            let (taken, moved) = self.take_share(now, &fetch, wanted);
            if !taken.is_empty() {
                return self.answer_share_fetch(fetch, &taken);
            }
            if !moved {
                // What is there cannot be acquired; that changes with an event.
                return match late {
                    true => self.answer_share_fetch(fetch, &[]),
                    false => self.park_share_fetch(fetch),
                };
            }
        }
    }

    /// Readers have found what they were sent for.
    pub(super) fn share_reads_done(&mut self, now: Now, mut fetch: ShareFetch) {
        let wanted = std::mem::take(&mut fetch.wanted);
        let read: Vec<PartitionId> = wanted.iter().map(|wanted| wanted.id).collect();
        let group = fetch.group.clone();
        let (taken, moved) = match self.stopping {
            true => (Vec::new(), false),
            false => self.take_share(now, &fetch, wanted),
        };
        if !taken.is_empty() {
            self.answer_share_fetch(fetch, &taken);
        } else if moved || self.stopping {
            self.serve_share_fetch(now, fetch);
        } else if now.mono_us >= fetch.deadline_us {
            self.answer_share_fetch(fetch, &[]);
        } else {
            self.park_share_fetch(fetch);
        }
        // Others kept away from these partitions meanwhile.
        for id in read {
            self.wake_share_fetches(now, id, Some(&group));
        }
    }

    fn park_share_fetch(&mut self, fetch: ShareFetch) {
        let id = self.keep_share_fetch(fetch);
        let Some(fetch) = self.share.fetches.by_id.get(&id) else { return };
        for part in &fetch.parts {
            self.share.fetches.waiting.entry(*part).or_default().insert(id);
        }
        self.share.timers.insert((fetch.deadline_us, Timer::Fetch(id)));
    }

    /// Keeps a fetch until it is taken; its number.
    pub(super) fn keep_share_fetch(&mut self, fetch: ShareFetch) -> u64 {
        let fetches = &mut self.share.fetches;
        fetches.next += 1;
        fetches.by_conn.insert(fetch.to.conn, fetches.next);
        fetches.by_id.insert(fetches.next, fetch);
        fetches.next
    }

    /// Takes a fetch out of every list that it stands in.
    pub(super) fn take_share_fetch(&mut self, id: u64) -> Option<ShareFetch> {
        let fetches = &mut self.share.fetches;
        let fetch = fetches.by_id.remove(&id)?;
        fetches.by_conn.remove(&fetch.to.conn);
        self.share.timers.remove(&(fetch.deadline_us, Timer::Fetch(id)));
        for part in &fetch.parts {
            if let Some(waiting) = fetches.waiting.get_mut(part) {
                waiting.remove(&id);
                if waiting.is_empty() {
                    fetches.waiting.remove(part);
                }
            }
        }
        for wanted in &fetch.wanted {
            if let Some(partition) = self.share.partition_mut(&fetch.group, wanted.id) {
                partition.fetching = partition.fetching.filter(|by| *by != id);
            }
        }
        Some(fetch)
    }

    /// There may be something to acquire in a partition, for a group or for all: whoever waits longest comes first.
    pub(in crate::broker) fn wake_share_fetches(&mut self, now: Now, id: PartitionId, group: Option<&Name>) {
        let Some(waiting) = self.share.fetches.waiting.get(&id) else { return };
        for fetch_id in waiting.clone() {
            let Some(fetch) = self.share.fetches.by_id.get(&fetch_id) else { continue };
            if group.is_some_and(|group| fetch.group != *group) || !self.share_has_something(&fetch.group, id) {
                continue;
            }
            if let Some(fetch) = self.take_share_fetch(fetch_id) {
                self.serve_share_fetch(now, fetch);
            }
        }
    }

    /// A topic is gone: whoever waits at it is served, to be told so.
    pub(super) fn wake_share_fetches_of_topic(&mut self, now: Now, topic: Uuid) {
        let (first, last) = (PartitionId { topic, partition: 0 }, PartitionId { topic, partition: i32::MAX });
        let waiting: BTreeSet<u64> =
            self.share.fetches.waiting.range(first..=last).flat_map(|(_, ids)| ids).copied().collect();
        for id in waiting {
            if let Some(fetch) = self.take_share_fetch(id) {
                self.serve_share_fetch(now, fetch);
            }
        }
    }

    pub(super) fn share_fetch_timed_out(&mut self, now: Now, id: u64) {
        if let Some(fetch) = self.take_share_fetch(id) {
            self.serve_share_fetch(now, fetch);
        }
    }

    /// Nobody waits for the ShareFetch of this connection any more. If no reader is about to bring it something it is dropped; its
    /// slot.
    pub(in crate::broker) fn give_up_share_fetch_of(&mut self, now: Now, conn: ConnId) -> Option<u64> {
        let id = self.share.fetches.by_conn.get(&conn).copied()?;
        let fetch = self.share.fetches.by_id.get(&id).filter(|fetch| fetch.reading == 0)?;
        let slot = fetch.to.slot;
        self.drop_share_fetch_of(now, conn);
        Some(slot)
    }

    pub(super) fn drop_share_fetch_of(&mut self, now: Now, conn: ConnId) {
        let Some(id) = self.share.fetches.by_conn.get(&conn).copied() else { return };
        let Some(fetch) = self.take_share_fetch(id) else { return };
        for wanted in &fetch.wanted {
            self.wake_share_fetches(now, wanted.id, Some(&fetch.group));
        }
    }

    /// The server stops: whoever waits is answered.
    pub(in crate::broker) fn answer_all_share_fetches(&mut self, now: Now) {
        let parked = self.share.fetches.by_id.iter().filter(|(_, fetch)| fetch.reading == 0);
        let mut parked: Vec<u64> = parked.map(|(id, _)| *id).collect();
        parked.sort_unstable();
        for id in parked {
            self.share_fetch_timed_out(now, id);
        }
    }

    /// Why a partition can't be fetched from by a group.
    pub(super) fn share_part_error(&self, group: &str, id: PartitionId) -> Option<ErrorCode> {
        if self.topics.by_id(id.topic).is_none() {
            Some(ErrorCode::UNKNOWN_TOPIC_ID)
        } else if self.topics.partition(id).is_none() {
            Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        } else if !self.share.groups.get(group).is_some_and(|group| group.knows(id)) {
            // A group begins to share what its members subscribe to. Kafka too has no better name for this.
            Some(ErrorCode::UNKNOWN_SERVER_ERROR)
        } else {
            None
        }
    }

    fn answer_share_fetch(&mut self, fetch: ShareFetch, taken: &[Taken]) {
        if let Some(error_code) = fetch.refused {
            return self.reply_after(0, fetch.to, &ShareFetchResponse { error_code, ..Default::default() });
        }
        let mut parts: BTreeMap<PartitionId, ShareFetchPartitionData<'_>> = BTreeMap::new();
        let empty = |id: &PartitionId| ShareFetchPartitionData {
            partition_index: id.partition,
            records: RecordSet::Bytes(&[]),
            ..Default::default()
        };
        for id in &fetch.parts {
            let error = self.share_part_error(&fetch.group, *id);
            if let Some(error_code) = error {
                self.settings.metrics.request_error(fetch.to.key, error_code.0);
            }
            if fetch.full || error.is_some() {
                let error_code = error.unwrap_or(ErrorCode::NONE);
                parts.insert(*id, ShareFetchPartitionData { error_code, ..empty(id) });
            }
        }
        for (id, outcome) in &fetch.acked {
            let (error_code, why) = self.told_outcome(fetch.to, outcome);
            let part = parts.entry(*id).or_insert_with(|| empty(id));
            (part.acknowledge_error_code, part.acknowledge_error_message) = (error_code, why);
        }
        let mut inserts: Vec<Vec<Insert>> = Vec::new();
        for taken in taken {
            let part = parts.entry(taken.id).or_insert_with(|| empty(&taken.id));
            part.error_code = taken.error;
            part.acquired_records = taken.acquired.iter().map(told).collect();
            match &taken.records {
                Records::Bytes(bytes) => part.records = RecordSet::Bytes(bytes),
                Records::Splices(list, len) => {
                    part.records = RecordSet::External { tag: inserts.len() as u32, len: *len as u32 };
                    inserts.push(list.iter().cloned().map(Insert::Log).collect());
                }
            }
        }
        let mut responses: Vec<ShareFetchableTopicResponse<'_>> = Vec::new();
        for (id, part) in parts {
            match responses.last_mut() {
                Some(topic) if topic.topic_id == id.topic => topic.partitions.push(part),
                _ => responses.push(ShareFetchableTopicResponse { topic_id: id.topic, partitions: vec![part] }),
            }
        }
        let response = ShareFetchResponse {
            acquisition_lock_timeout_ms: self.share.of_group(&fetch.group).record_lock_duration_ms as i32,
            responses,
            ..Default::default()
        };
        let encoded = frame::response(fetch.to.version, fetch.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), fetch.to, encoded, &inserts);
    }
}

fn told(acquired: &super::partition::Acquired) -> AcquiredRecords {
    AcquiredRecords { first_offset: acquired.first, last_offset: acquired.last, delivery_count: acquired.count }
}
