//! Owns Produce: from a client's batches to offsets.
//!
//! The hot path looks at batch headers only. What headers cannot settle (old message sets, log-append time, keys of
//! compacted topics, a bound on every timestamp, another codec than the producer's) goes to a worker first, and holds its
//! connection meanwhile, so that the order of arrival stays.

use bytes::Bytes;

use super::dispatch::Request;
use super::gather::Gather;
use super::log::PartitionLog;
use super::logical::Growth;
use super::producers::Verdict;
use super::reply::ReplyTo;
use super::topics::{is_internal, Topic};
use super::work::{WorkJob, WorkPart};
use super::{Broker, Now};
use crate::canary::{self, Fault};
use crate::wal::{GroupSeq, PartitionId, PlannedBatch};
use crate::wire::batch::{
    self, Batch, BatchHeader, ProduceChecks, RecordError, Rejected, RejectedKind, TimestampPolicy,
};
use crate::wire::msg::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

/// A Produce request that waits for a worker.
#[derive(Debug)]
pub struct PendingProduce {
    to: ReplyTo,
    acks: i16,
    transactional_id: Option<Box<str>>,
    topics: Vec<TopicPlan>,
}

#[derive(Debug)]
struct TopicPlan {
    name: String,
    id: Uuid,
    partitions: Vec<PartitionPlan>,
}

#[derive(Debug)]
struct PartitionPlan {
    index: i32,
    step: Step,
}

/// How far a partition's data has come.
#[derive(Debug)]
enum Step {
    Refused(Refusal),
    /// Ready to be appended: one batch (or several, from a worker).
    Ready(PartitionId, Bytes),
    /// In the hands of a worker.
    Working(PartitionId, WorkPart),
}

/// Why records were not taken: Kafka's error, and what to tell the person behind the client.
#[derive(Debug, Default)]
pub struct Refusal {
    pub error: ErrorCode,
    pub message: Option<String>,
    pub records: Vec<RecordError>,
    /// The partition's, which Kafka tells too when it was the records that it did not like.
    pub log_start_offset: Option<i64>,
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Refusal {
        Refusal { error, ..Refusal::default() }
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Refusal {
        let (error, message) = (ErrorCode(rejected.kind.code()), Some(rejected.message));
        Refusal { error, message, records: rejected.records, log_start_offset: None }
    }
}

impl Refusal {
    /// What a check of the records found, in a partition that begins at this offset.
    fn of_records(rejected: Rejected, log_start_offset: i64) -> Refusal {
        let tells = matches!(rejected.kind, RejectedKind::InvalidRecord | RejectedKind::InvalidTimestamp);
        Refusal { log_start_offset: tells.then_some(log_start_offset), ..rejected.into() }
    }
}

/// Where records went.
struct Appended {
    base_offset: i64,
    log_append_time_ms: i64,
    log_start_offset: i64,
    /// The group to wait for.
    seq: GroupSeq,
}

impl Broker {
    pub(super) fn produce(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ProduceRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let refusal = self.refuse_whole(&request);
        let mut topics = Vec::with_capacity(request.topic_data.len());
        for data in &request.topic_data {
            let by_id = req.to.version >= 13;
            let topic = if by_id { self.topics.by_id(data.topic_id) } else { self.topics.by_name(data.name) };
            let plan = |part: &wire::msg::PartitionProduceData<'_>| {
                let step = match (refusal, topic) {
                    (Some(error), _) => Step::Refused(error.into()),
                    (None, None) => Step::Refused(Broker::no_such_topic(by_id).into()),
                    (None, Some(topic)) => plan_partition(req, topic, part.index, part.records.bytes()),
                };
                PartitionPlan { index: part.index, step }
            };
            let partitions = data.partition_data.iter().map(plan).collect();
            topics.push(TopicPlan { name: data.name.to_owned(), id: data.topic_id, partitions });
        }
        let transactional_id = request.transactional_id.map(Box::from);
        let pending = PendingProduce { to: req.to, acks: request.acks, transactional_id, topics };
        self.begin_produce(req.now, pending);
        Ok(())
    }

    /// What is wrong with the request as a whole.
    fn refuse_whole(&self, request: &ProduceRequest<'_>) -> Option<ErrorCode> {
        let mut records = request.topic_data.iter().flat_map(|topic| &topic.partition_data).map(|part| &part.records);
        if request.transactional_id.is_none() && records.any(|records| is_transactional(records.bytes())) {
            return Some(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        }
        (!(-1..=1).contains(&request.acks)).then_some(ErrorCode::INVALID_REQUIRED_ACKS)
    }

    /// Appends at once, or sends what needs a worker there first.
    fn begin_produce(&mut self, now: Now, mut pending: PendingProduce) {
        let mut parts = Vec::new();
        for partition in pending.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if let Step::Working(_, part) = &mut partition.step {
                parts.push(part.clone());
            }
        }
        if parts.is_empty() {
            return self.finish_produce(now, pending);
        }
        let job = self.job();
        self.produces.insert(job, pending);
        self.effects.push_back(super::Effect::Work(WorkJob::Produce { job, parts }));
    }

    pub(super) fn produce_work_done(&mut self, now: Now, job: u64, parts: Vec<Result<Bytes, Rejected>>) {
        let Some(mut pending) = self.produces.remove(&job) else { return };
        let mut results = parts.into_iter();
        for partition in pending.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if let Step::Working(id, _) = partition.step {
                partition.step = match results.next() {
                    Some(Ok(bytes)) => Step::Ready(id, bytes),
                    Some(Err(rejected)) => {
                        let start = self.topics.partition(id).map_or(-1, |partition| partition.log.start_offset);
                        Step::Refused(Refusal::of_records(rejected, start))
                    }
                    None => Step::Refused(ErrorCode::UNKNOWN_SERVER_ERROR.into()),
                };
            }
        }
        self.finish_produce(now, pending);
    }

    /// Refuses transactional batches that are part of no transaction.
    fn check_transactions(&mut self, now: Now, pending: &mut PendingProduce) {
        let Some(transactional_id) = pending.transactional_id.take() else { return };
        let steps = pending.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| &partition.step);
        let batches = steps.filter_map(|step| match step {
            Step::Ready(id, bytes) => Some((*id, BatchHeader::parse(bytes).ok()?)),
            _ => None,
        });
        let batches: Vec<_> = batches.filter(|(_, header)| header.is_transactional()).collect();
        let mut refused = self.refuse_transactional(now, pending.to.version, &transactional_id, &batches);
        for partition in pending.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let refusal = match &partition.step {
                Step::Ready(id, _) => refused.remove(id),
                _ => None,
            };
            if let Some(refusal) = refusal {
                partition.step = Step::Refused(refusal);
            }
        }
    }

    /// Appends what is ready, builds the answer, and holds it back until all of it is durable.
    fn finish_produce(&mut self, now: Now, mut pending: PendingProduce) {
        self.check_transactions(now, &mut pending);
        let mut wait = 0;
        let mut results = Vec::new();
        for partition in pending.topics.iter().flat_map(|topic| &topic.partitions) {
            let result = match &partition.step {
                Step::Ready(id, bytes) => self.append_records(now, *id, bytes),
                Step::Refused(_) | Step::Working(..) => Err(Refusal::default()),
            };
            if let Ok(appended) = &result {
                wait = wait.max(appended.seq);
            }
            results.push(result);
        }
        if pending.acks == 0 {
            return self.finish_unacknowledged(&pending, &results);
        }
        self.count_produce_errors(&pending, &results);
        let mut results = results.iter();
        // As in Kafka, a topic of which no partition is named is not answered.
        let topics = pending.topics.iter().filter(|topic| !topic.partitions.is_empty());
        let responses = topics.map(|topic| TopicProduceResponse {
            name: &topic.name,
            topic_id: topic.id,
            partition_responses: topic.partitions.iter().map(|p| partition_response(p, results.next())).collect(),
        });
        let response = ProduceResponse { responses: responses.collect(), ..Default::default() };
        self.reply_after(wait, pending.to, &response);
    }

    fn count_produce_errors(&self, pending: &PendingProduce, results: &[Result<Appended, Refusal>]) {
        for pair in pending.topics.iter().flat_map(|topic| &topic.partitions).zip(results) {
            if let (PartitionPlan { step: Step::Refused(refusal), .. }, _) | (_, Err(refusal)) = pair {
                self.settings.metrics.request_error(pending.to.key, refusal.error.0);
            }
        }
    }

    /// A client that wants no answer learns of an error by its connection being closed, as Kafka does.
    fn finish_unacknowledged(&mut self, pending: &PendingProduce, results: &[Result<Appended, Refusal>]) {
        let refused =
            pending.topics.iter().flat_map(|topic| &topic.partitions).zip(results).find_map(|pair| match pair {
                (PartitionPlan { step: Step::Refused(refusal), .. }, _) | (_, Err(refusal)) => Some(refusal.error),
                _ => None,
            });
        self.no_reply(pending.to);
        if let Some(error) = refused {
            self.close(pending.to.conn, format!("records sent with acks=0 were refused: {error}"));
        }
    }

    /// Gives a partition's batches their offsets and puts them into the next group.
    fn append_records(&mut self, now: Now, id: PartitionId, bytes: &Bytes) -> Result<Appended, Refusal> {
        // All or nothing: a set that was half appended would be sent again whole.
        let overhead = batch::batches(bytes).count() * Gather::cost(0);
        if !self.has_space_for(bytes.len() + overhead) {
            self.met_full_disk(now);
            if canary::has(Fault::FullAcknowledged) {
                let base_offset = self.topics.partition(id).map_or(0, |partition| partition.log.next_offset);
                return Ok(Appended { base_offset, log_append_time_ms: -1, log_start_offset: 0, seq: 0 });
            }
            return Err(ErrorCode::KAFKA_STORAGE_ERROR.into());
        }
        let mut first: Option<Appended> = None;
        for item in batch::batches(bytes) {
            let batch = item.map_err(|error| Refusal::from(Rejected::from(error)))?;
            let appended = self.append_batch(now, id, bytes.slice_ref(batch.bytes), &batch.header)?;
            first = Some(match first {
                Some(first) => Appended { seq: appended.seq, ..first },
                None => appended,
            });
        }
        first.ok_or_else(|| ErrorCode::INVALID_RECORD.into())
    }

    fn append_batch(
        &mut self,
        now: Now,
        id: PartitionId,
        bytes: Bytes,
        header: &BatchHeader,
    ) -> Result<Appended, Refusal> {
        let (partition, roll) = self.topics.appending(id).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let log = &mut partition.log;
        match log.producers.check(header) {
            Verdict::Append => {}
            // The original may still be on its way to the disk: the answer waits for the partition's last group.
            Verdict::Duplicate(original) => {
                // As in Kafka, the time of a repeated batch is told whoseever it is.
                return Ok(Appended {
                    base_offset: original.base_offset,
                    log_append_time_ms: original.append_time_ms.max(header.max_timestamp),
                    log_start_offset: log.start_offset,
                    seq: partition.last_seq,
                });
            }
            Verdict::OutOfOrderSequence => return Err(told_start(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, log)),
            Verdict::InvalidProducerEpoch => return Err(told_start(ErrorCode::INVALID_PRODUCER_EPOCH, log)),
            Verdict::InvalidTxnState => return Err(told_start(ErrorCode::INVALID_TXN_STATE, log)),
        }
        let base_offset = log.next_offset;
        let next_offset = base_offset
            .checked_add(i64::from(header.last_offset_delta) + 1)
            .ok_or_else(|| Refusal::from(ErrorCode::KAFKA_STORAGE_ERROR))?;
        let log_append_time_ms = match header.timestamp_type() {
            batch::TimestampType::LogAppendTime => header.max_timestamp,
            batch::TimestampType::CreateTime => -1,
        };
        self.settings.metrics.messages_received.add(header.records_count as u64);
        log.next_offset = next_offset;
        let is_new_producer = log.batch_appended(header, base_offset, log_append_time_ms, now.wall_ms);
        let grown = Growth {
            base_offset,
            last_offset: next_offset - 1,
            bytes: bytes.len() as u64,
            max_timestamp: header.max_timestamp,
        };
        log.grown(&grown, &roll, now.wall_ms);
        if canary::has(Fault::VisibleEarly) {
            log.high_watermark = next_offset;
        }
        let planned = PlannedBatch { bytes, base_offset, leader_epoch: log.leader_epoch };
        partition.last_seq = self.gather.batch(id, planned, next_offset - 1, header.max_timestamp);
        let appended = Appended {
            base_offset,
            log_append_time_ms,
            log_start_offset: partition.log.start_offset,
            seq: partition.last_seq,
        };
        if is_new_producer {
            self.topics.producer_added();
        }
        Ok(appended)
    }
}

fn told_start(error: ErrorCode, log: &PartitionLog) -> Refusal {
    Refusal { log_start_offset: Some(log.start_offset), ..error.into() }
}

/// Whether records are a transactional batch, as far as their header says.
fn is_transactional(records: &[u8]) -> bool {
    BatchHeader::parse(records).is_ok_and(|header| header.is_transactional())
}

/// The client id of Kafka's tools that may write to topics that Kafka calls internal.
const ADMIN_CLIENT: &str = "__admin_client";

/// Checks one partition's data by its headers, and decides whether a worker has to look deeper.
fn plan_partition(req: &Request<'_>, topic: &Topic, index: i32, records: &[u8]) -> Step {
    let in_range = usize::try_from(index).is_ok_and(|index| index < topic.partitions.len());
    if !in_range {
        return Step::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
    }
    if is_internal(&topic.name) && req.client_id != ADMIN_CLIENT {
        return Step::Refused(ErrorCode::INVALID_TOPIC_EXCEPTION.into());
    }
    let id = PartitionId { topic: topic.id, partition: index };
    let settings = &topic.settings;
    let timestamps = if settings.log_append_time {
        TimestampPolicy::LogAppendTime
    } else {
        TimestampPolicy::CreateTime {
            before_max_ms: settings.timestamp_before_max_ms,
            after_max_ms: settings.timestamp_after_max_ms,
        }
    };
    let checks = ProduceChecks {
        api_version: req.to.version,
        max_message_bytes: settings.max_message_bytes,
        now_ms: req.now.wall_ms,
        timestamps,
        keys_required: settings.compact,
    };
    let old_format = req.to.version < 3 && matches!(batch::magic_of(records), Some(0 | 1));
    let bytes = req.frame.slice_ref(records);
    let working = |records| Step::Working(id, WorkPart { records, checks, compression: settings.compression });
    if old_format {
        return working(bytes);
    }
    match batch::validate_produced(records, &checks) {
        // Which of the records it is, a worker finds out.
        Err(rejected) if rejected.kind == RejectedKind::InvalidTimestamp => working(bytes),
        Err(rejected) => {
            let is_one = Batch::parse(records).is_ok_and(|batch| batch.bytes.len() == records.len());
            let start = topic.partitions[index as usize].log.start_offset;
            Step::Refused(if is_one { Refusal::of_records(rejected, start) } else { rejected.into() })
        }
        Ok(batch) => {
            let each_timestamp = !settings.log_append_time && settings.timestamp_before_max_ms != i64::MAX;
            let other_codec = settings.compression.is_some_and(|to| batch.header.compression() != Some(to.codec));
            if settings.compact || settings.log_append_time || each_timestamp || other_codec {
                working(bytes)
            } else {
                Step::Ready(id, bytes)
            }
        }
    }
}

fn partition_response<'a>(
    plan: &'a PartitionPlan,
    result: Option<&'a Result<Appended, Refusal>>,
) -> PartitionProduceResponse<'a> {
    let refusal = match (&plan.step, result) {
        (Step::Ready(..), Some(Ok(appended))) => {
            return PartitionProduceResponse {
                index: plan.index,
                base_offset: appended.base_offset,
                log_append_time_ms: appended.log_append_time_ms,
                log_start_offset: appended.log_start_offset,
                ..Default::default()
            };
        }
        (Step::Refused(refusal), _) | (_, Some(Err(refusal))) => refusal,
        _ => {
            return PartitionProduceResponse {
                index: plan.index,
                error_code: ErrorCode::UNKNOWN_SERVER_ERROR,
                base_offset: -1,
                ..Default::default()
            }
        }
    };
    let record_errors = refusal.records.iter().map(|error| BatchIndexAndErrorMessage {
        batch_index: error.batch_index,
        batch_index_error_message: Some(&error.message),
    });
    PartitionProduceResponse {
        index: plan.index,
        error_code: refusal.error,
        base_offset: -1,
        record_errors: record_errors.collect(),
        error_message: refusal.message.as_deref(),
        log_start_offset: refusal.log_start_offset.unwrap_or(-1),
        ..Default::default()
    }
}
