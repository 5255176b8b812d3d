//! Owns the CPU-heavy pieces that a worker thread does for the broker: pure functions from job to answer.

use bytes::Bytes;

use crate::wire::batch::{self, ProduceChecks, Rejected, TimestampPolicy};
use crate::wire::{legacy, record};

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

/// Does a job. Memory is bounded by the limits of decompression; bad input is an error of its part.
pub fn run(job: WorkJob) -> WorkDone {
    let mut scratch = Vec::new();
    let parts = job.parts.iter().map(|part| settle(part, &mut scratch)).collect();
    WorkDone { job: job.job, parts }
}

fn settle(part: &WorkPart, scratch: &mut Vec<u8>) -> Result<Bytes, Rejected> {
    let checks = &part.checks;
    if matches!(batch::magic_of(&part.records), Some(0 | 1)) {
        return legacy::convert_up(&part.records, checks).map(Bytes::from);
    }
    let batch = batch::validate_produced(&part.records, checks)?;
    record::validate_records(&batch, checks, scratch)?;
    if checks.timestamps != TimestampPolicy::LogAppendTime {
        return Ok(part.records.slice_ref(batch.bytes));
    }
    let mut stamped = batch.bytes.to_vec();
    batch::stamp_log_append_time(&mut stamped, checks.now_ms);
    Ok(stamped.into())
}
