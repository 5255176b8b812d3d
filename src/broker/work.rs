//! Owns the CPU-heavy pieces that a worker thread does for the broker: pure functions from job to answer.

use bytes::Bytes;

/// A job for a worker thread; answered by exactly one `WorkDone` with the same `job`.
#[derive(Debug)]
pub struct WorkJob {
    pub job: u64,
    pub parts: Vec<WorkPart>,
}

/// Record data of one partition of a Produce request that headers alone cannot settle.
#[derive(Debug)]
pub struct WorkPart {
    pub records: Bytes,
    pub rules: RecordRules,
}

/// What the records have to satisfy, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct RecordRules {
    /// The broker's wall clock when the request was handled, ms.
    pub now_ms: i64,
    /// `message.timestamp.type=LogAppendTime`: every record gets `now_ms`.
    pub log_append_time: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` includes compact: every record needs a key.
    pub keys_needed: bool,
    /// `max.message.bytes`.
    pub batch_bytes_max: usize,
    /// Version of the Produce request.
    pub api_version: i16,
}

/// What became of each part, in order: the batches to append, or the Kafka error code and a sentence.
#[derive(Debug)]
pub struct WorkDone {
    pub job: u64,
    pub parts: Vec<Result<Bytes, (i16, String)>>,
}
