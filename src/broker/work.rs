//! Owns the CPU-heavy pieces that a worker thread does for the broker: pure functions from job to answer.

use bytes::Bytes;

use crate::wire::batch::{ProduceChecks, Rejected};

/// A job for a worker thread; answered by exactly one `WorkDone` with the same `job`.
#[derive(Debug)]
pub struct WorkJob {
    pub job: u64,
    pub parts: Vec<WorkPart>,
}

/// Record data of one partition of a Produce request that headers alone cannot settle.
#[derive(Clone, Debug)]
pub struct WorkPart {
    pub records: Bytes,
    pub checks: ProduceChecks,
}

/// What became of each part, in order: the batches to append, or why not.
#[derive(Debug)]
pub struct WorkDone {
    pub job: u64,
    pub parts: Vec<Result<Bytes, Rejected>>,
}
