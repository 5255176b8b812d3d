//! Owns the CPU-heavy pieces that a worker thread does for the broker: pure functions from job to answer.

use bytes::Bytes;

use super::groups::{match_topics, MatchDone, MatchJob};
use crate::wire::batch::{self, ProduceChecks, Rejected, TimestampPolicy};
use crate::wire::{legacy, record};

/// A job for a worker thread; answered by exactly one `WorkDone`.
#[derive(Debug)]
pub enum WorkJob {
    /// Parts of the Produce request of this number.
    Produce { job: u64, parts: Vec<WorkPart> },
    /// A regular expression with which a group subscribes to topics.
    Match(MatchJob),
}

/// Record data of one partition of a Produce request that headers alone cannot settle.
#[derive(Clone, Debug)]
pub struct WorkPart {
    pub records: Bytes,
    pub checks: ProduceChecks,
}

/// What became of a job.
#[derive(Debug)]
pub enum WorkDone {
    /// What became of each part, in order: the batches to append, or why not.
    Produce {
        job: u64,
        parts: Vec<Result<Bytes, Rejected>>,
    },
    Match(MatchDone),
}

/// Does a job. Memory is bounded by the limits of decompression; bad input is an error of its part.
pub fn run(job: WorkJob) -> WorkDone {
    match job {
        WorkJob::Produce { job, parts } => {
            let mut scratch = Vec::new();
            WorkDone::Produce { job, parts: parts.iter().map(|part| settle(part, &mut scratch)).collect() }
        }
        WorkJob::Match(job) => WorkDone::Match(match_topics(&job)),
    }
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
