//! Owns ListOffsets, OffsetForLeaderEpoch and DeleteRecords: where a partition begins, ends, and where a time lies.

use std::collections::BTreeMap;

use super::dispatch::Request;
use super::fetch::{check_epoch, read_error_code};
use super::log::PartitionLog;
use super::reply::ReplyTo;
use super::topics;
use super::{Broker, Now};
use crate::limits;
use crate::wal::{PartitionId, ReadDone, ReadError, ReadFound, ReadJob, ReadKind};
use crate::wire::msg::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse, OffsetForLeaderEpochEndOffset, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// The timestamps that stand for something else (KIP-734, KIP-405, KIP-1005, KIP-1023).
mod special {
    pub const LATEST: i64 = -1;
    pub const EARLIEST: i64 = -2;
    pub const MAX_TIMESTAMP: i64 = -3;
    pub const EARLIEST_LOCAL: i64 = -4;
    pub const LATEST_TIERED: i64 = -5;
    pub const EARLIEST_PENDING_UPLOAD: i64 = -6;

    /// The first version of ListOffsets that knows a timestamp; beyond all versions for one without a meaning.
    pub fn first_version(timestamp: i64) -> i16 {
        match timestamp {
            LATEST | EARLIEST | 0.. => 0,
            MAX_TIMESTAMP => 7,
            EARLIEST_LOCAL => 8,
            LATEST_TIERED => 9,
            EARLIEST_PENDING_UPLOAD => 11,
            _ => i16::MAX,
        }
    }
}

/// A ListOffsets request that waits for readers.
#[derive(Debug)]
pub struct Listing {
    to: ReplyTo,
    topics: Vec<(String, Vec<ListOffsetsPartitionResponse>)>,
    /// Reads under way: job, and which partition of which topic it is for.
    reads: Vec<(u64, usize, usize)>,
}

/// What is known of one partition's answer without reading.
enum Answer {
    Known(ListOffsetsPartitionResponse),
    Read(PartitionId, ReadKind),
}

impl Broker {
    pub(super) fn list_offsets(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ListOffsetsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut listing = Listing { to: req.to, topics: Vec::new(), reads: Vec::new() };
        let mut times = times_named(&request);
        for topic in request.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
            let mut answers = Vec::with_capacity(topic.partitions.len());
            for want in &topic.partitions {
                // As in Kafka, what is named more than once is refused, and told once.
                let answer = match times.remove(&(topic.name, want.partition_index)) {
                    None => continue,
                    Some(1) => self.list_offset(req.to.version, request.isolation_level, topic.name, want),
                    Some(_) => refused(want, ErrorCode::INVALID_REQUEST),
                };
                match answer {
                    Answer::Known(answer) => answers.push(answer),
                    Answer::Read(id, kind) => {
                        let job = self.job();
                        listing.reads.push((job, listing.topics.len(), answers.len()));
                        answers.push(ListOffsetsPartitionResponse {
                            partition_index: want.partition_index,
                            ..unknown_offset()
                        });
                        self.send_reader(ReadJob { job, asked_us: req.now.mono_us, id, kind });
                    }
                }
            }
            if !answers.is_empty() {
                listing.topics.push((topic.name.to_owned(), answers));
            }
        }
        match listing.reads.first() {
            None => self.answer_listing(listing),
            Some((job, ..)) => {
                self.list_offsets.insert(*job, listing);
            }
        }
        Ok(())
    }

    fn list_offset(&self, version: i16, isolation: i8, topic: &str, want: &ListOffsetsPartition) -> Answer {
        let refused = |error_code| refused(want, error_code);
        if !(0..=1).contains(&isolation) {
            return refused(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        if version > 0 && version < special::first_version(want.timestamp) {
            return refused(ErrorCode::UNSUPPORTED_VERSION);
        }
        let id = self.topics.id_of(topic).map(|topic| PartitionId { topic, partition: want.partition_index });
        let Some((id, partition)) = id.and_then(|id| Some((id, self.topics.partition(id)?))) else {
            return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let log = &partition.log;
        if let Err(error) = check_epoch(want.current_leader_epoch, log.leader_epoch) {
            return refused(error);
        }
        if version == 0 {
            return Answer::Known(old_style(log, want));
        }
        let known = |offset: i64, leader_epoch: i32| {
            let partition_index = want.partition_index;
            Answer::Known(ListOffsetsPartitionResponse { partition_index, offset, leader_epoch, ..unknown_offset() })
        };
        let end_offset = log.readable_end(isolation == 1);
        match want.timestamp {
            special::LATEST => known(end_offset, log.epoch_at(end_offset)),
            special::EARLIEST => known(log.start_offset, log.epoch_at(log.start_offset)),
            special::MAX_TIMESTAMP => match log.max_timestamp() {
                None => known(-1, -1),
                Some(_) => {
                    let start_offset = log.start_offset;
                    let places = log.places(start_offset, log.max_timestamp_at_least(), limits::READ_PLACES_MAX);
                    Answer::Read(id, ReadKind::MaxTimestamp { places, start_offset, end_offset })
                }
            },
            special::EARLIEST_LOCAL => {
                let start = self.local_start(log);
                known(start, log.epoch_at(start))
            }
            // As in Kafka for a topic without remote storage.
            special::LATEST_TIERED | special::EARLIEST_PENDING_UPLOAD if !self.is_tiered() => known(-1, -1),
            special::LATEST_TIERED => self.stored_end(log).map_or(known(-1, -1), |end| known(end, log.epoch_at(end))),
            special::EARLIEST_PENDING_UPLOAD => {
                let start = self.stored_end(log).map_or(log.start_offset, |end| log.start_offset.max(end + 1));
                known(start, log.epoch_at(start))
            }
            timestamp => {
                let start_offset = log.start_offset;
                let places = log.places(start_offset, timestamp, limits::READ_PLACES_MAX);
                if places.is_empty() {
                    return known(-1, -1);
                }
                Answer::Read(id, ReadKind::FirstAtOrAfter { places, start_offset, end_offset, timestamp })
            }
        }
    }

    pub(super) fn list_offsets_read_done(&mut self, _now: Now, done: ReadDone) {
        // A listing is kept under the number of the first read that is still under way.
        let listing = self.list_offsets.iter().find(|(_, l)| l.reads.iter().any(|(job, ..)| *job == done.job));
        let Some(key) = listing.map(|(key, _)| *key) else { return };
        let Some(mut listing) = self.list_offsets.remove(&key) else { return };
        let Some(at) = listing.reads.iter().position(|(job, ..)| *job == done.job) else { return };
        let (_, topic, index) = listing.reads.remove(at);
        let answer = &mut listing.topics[topic].1[index];
        match done.result {
            Ok(ReadFound::Record(Some((offset, timestamp, leader_epoch)))) => {
                answer.offset = offset;
                answer.timestamp = timestamp;
                answer.leader_epoch = leader_epoch;
            }
            Ok(ReadFound::Record(None)) => {}
            Ok(_) => answer.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(ReadError::Away(_)) => answer.error_code = ErrorCode::KAFKA_STORAGE_ERROR,
            Err(error) => {
                ::log::error!("cannot look up a timestamp: {error:?}");
                answer.error_code = read_error_code(&error);
            }
        }
        match listing.reads.first() {
            None => self.answer_listing(listing),
            Some((job, ..)) => {
                self.list_offsets.insert(*job, listing);
            }
        }
    }

    fn answer_listing(&mut self, listing: Listing) {
        let topics = listing.topics.iter();
        let topics = topics.map(|(name, partitions)| ListOffsetsTopicResponse { name, partitions: partitions.clone() });
        let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
        self.reply(listing.to, &response);
    }

    pub(super) fn offset_for_leader_epoch(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: OffsetForLeaderEpochRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let topics = request.topics.iter().map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions: topic.partitions.iter().map(|want| self.epoch_end(topic.topic, want)).collect(),
        });
        let response = OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    fn epoch_end(&self, topic: &str, want: &OffsetForLeaderPartition) -> OffsetForLeaderEpochEndOffset {
        let none = OffsetForLeaderEpochEndOffset { partition: want.partition, ..Default::default() };
        let id = self.topics.id_of(topic).map(|topic| PartitionId { topic, partition: want.partition });
        let Some(partition) = id.and_then(|id| self.topics.partition(id)) else {
            return OffsetForLeaderEpochEndOffset { error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ..none };
        };
        if let Err(error_code) = check_epoch(want.current_leader_epoch, partition.log.leader_epoch) {
            return OffsetForLeaderEpochEndOffset { error_code, ..none };
        }
        match partition.log.epoch_end(want.leader_epoch) {
            Some((leader_epoch, end_offset)) => OffsetForLeaderEpochEndOffset { leader_epoch, end_offset, ..none },
            None => none,
        }
    }

    pub(super) fn delete_records(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DeleteRecordsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        // As in Kafka, each partition is answered once, and of several offsets the last one counts.
        let mut wanted: BTreeMap<&str, BTreeMap<i32, &DeleteRecordsPartition>> = BTreeMap::new();
        for topic in &request.topics {
            for want in &topic.partitions {
                wanted.entry(topic.name).or_default().insert(want.partition_index, want);
            }
        }
        let mut topics = Vec::with_capacity(wanted.len());
        for (name, partitions) in wanted {
            let partitions = partitions.into_values().map(|want| self.delete_before(req.now, name, want));
            topics.push(DeleteRecordsTopicResult { name, partitions: partitions.collect() });
        }
        let response = DeleteRecordsResponse { topics, ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    fn delete_before(&mut self, now: Now, topic: &str, want: &DeleteRecordsPartition) -> DeleteRecordsPartitionResult {
        let partition_index = want.partition_index;
        let refused = |error_code| DeleteRecordsPartitionResult { partition_index, low_watermark: -1, error_code };
        let Some(topic) = self.topics.by_name(topic) else {
            return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        if topic.settings.compact && !topic.settings.delete {
            return refused(ErrorCode::POLICY_VIOLATION);
        }
        let id = PartitionId { topic: topic.id, partition: partition_index };
        let Some(log) = self.topics.partition(id).map(|partition| &partition.log) else {
            return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let offset = if want.offset == -1 { log.high_watermark } else { want.offset };
        if offset < 0 || offset > log.high_watermark {
            return refused(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if offset > log.start_offset {
            if !self.has_space_for_metadata() {
                self.met_full_disk(now);
                return refused(ErrorCode::KAFKA_STORAGE_ERROR);
            }
            self.move_start(now, id, offset);
        }
        let low_watermark = self.topics.partition(id).map_or(-1, |partition| partition.log.start_offset);
        DeleteRecordsPartitionResult { partition_index, low_watermark, error_code: ErrorCode::NONE }
    }

    /// Moves a partition's log start offset, durably before anything is deleted for it.
    pub(super) fn move_start(&mut self, now: Now, id: PartitionId, offset: i64) {
        let seq = self.append_meta(topics::log_start_entry(id, Some(offset)));
        let Some(partition) = self.topics.partition_mut(id) else { return };
        let gone = partition.log.advance_start(offset);
        for range in gone {
            self.segments.remove_live(&range, seq);
        }
        self.start_moved(now, id);
        self.share_log_start_moved(now, id, offset);
        self.give_space_back(now);
        self.look_at_eviction(now);
    }
}

/// How often each partition is named.
fn times_named<'a>(request: &ListOffsetsRequest<'a>) -> BTreeMap<(&'a str, i32), u32> {
    let mut times = BTreeMap::new();
    for topic in &request.topics {
        for want in &topic.partitions {
            *times.entry((topic.name, want.partition_index)).or_default() += 1;
        }
    }
    times
}

fn refused(want: &ListOffsetsPartition, error_code: ErrorCode) -> Answer {
    let partition_index = want.partition_index;
    Answer::Known(ListOffsetsPartitionResponse { partition_index, error_code, ..unknown_offset() })
}

fn unknown_offset() -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse { offset: -1, timestamp: -1, leader_epoch: -1, ..Default::default() }
}

/// ListOffsets v0: the starts of segments that lie before the time, newest first.
fn old_style(log: &PartitionLog, want: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
    let count_max = usize::try_from(want.max_num_offsets).unwrap_or(0);
    let starts = log.ranges().map(|range| (range.base_offset.max(log.start_offset), range.max_timestamp));
    let mut offsets: Vec<i64> = match want.timestamp {
        special::EARLIEST => vec![log.start_offset],
        special::LATEST => starts.map(|(start, _)| start).chain([log.high_watermark]).collect(),
        timestamp => starts.filter(|(_, newest)| *newest <= timestamp).map(|(start, _)| start).collect(),
    };
    offsets.dedup();
    offsets.reverse();
    offsets.truncate(count_max);
    ListOffsetsPartitionResponse {
        partition_index: want.partition_index,
        old_style_offsets: offsets,
        ..Default::default()
    }
}
