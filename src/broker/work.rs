//! Owns the CPU-heavy pieces that a worker thread does for the broker: pure functions from job to answer.

use bytes::Bytes;

use super::groups::{match_topics, MatchDone, MatchJob};
use crate::wire::batch::{self, Batch, ProduceChecks, Rejected, RejectedKind, Target, TimestampPolicy};
use crate::wire::{legacy, record};

/// A job for a worker thread; answered by exactly one `WorkDone`.
#[derive(Debug)]
pub enum WorkJob {
    /// Parts of the Produce request of this number.
    Produce { job: u64, parts: Vec<WorkPart> },
    /// A regular expression with which a group subscribes to topics.
    Match(MatchJob),
    /// A regular expression with which an administrator asks for transactional ids; the job's version is its number.
    MatchTransactions(MatchJob),
}

/// Record data of one partition of a Produce request that headers alone cannot settle.
#[derive(Clone, Debug)]
pub struct WorkPart {
    pub records: Bytes,
    pub checks: ProduceChecks,
    /// How the topic wants its batches; `None` takes them as they are.
    pub compression: Option<Target>,
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
    MatchTransactions(MatchDone),
}

/// Does a job. Memory is bounded by the limits of decompression; bad input is an error of its part.
pub fn run(job: WorkJob) -> WorkDone {
    match job {
        WorkJob::Produce { job, parts } => {
            let mut scratch = Vec::new();
            WorkDone::Produce { job, parts: parts.iter().map(|part| settle(part, &mut scratch)).collect() }
        }
        WorkJob::Match(job) => WorkDone::Match(match_topics(&job)),
        WorkJob::MatchTransactions(job) => WorkDone::MatchTransactions(match_topics(&job)),
    }
}

fn settle(part: &WorkPart, scratch: &mut Vec<u8>) -> Result<Bytes, Rejected> {
    let checks = &part.checks;
    if matches!(batch::magic_of(&part.records), Some(0 | 1)) {
        let converted = Bytes::from(legacy::convert_up(&part.records, checks)?);
        return match part.compression {
            Some(to) => recompress_all(&converted, to, checks),
            None => Ok(converted),
        };
    }
    // The records come before the head where timestamps are at fault, so that the answer can name them.
    let timestamps = match checks.timestamps {
        TimestampPolicy::CreateTime { .. } => TimestampPolicy::UNBOUNDED,
        TimestampPolicy::LogAppendTime => TimestampPolicy::LogAppendTime,
    };
    let batch = batch::validate_produced(&part.records, &ProduceChecks { timestamps, ..*checks })?;
    record::validate_records(&batch, checks, scratch)?;
    batch::check_timestamps(&batch.header, checks)?;
    let other_codec = part.compression.filter(|to| batch.header.compression() != Some(to.codec));
    let mut changed = match other_codec {
        Some(to) => recompress(&batch, to, checks)?,
        None if checks.timestamps != TimestampPolicy::LogAppendTime => {
            return Ok(part.records.slice_ref(batch.bytes));
        }
        None => batch.bytes.to_vec(),
    };
    if checks.timestamps == TimestampPolicy::LogAppendTime {
        batch::stamp_log_append_time(&mut changed, checks.now_ms);
    }
    Ok(changed.into())
}

fn recompress_all(batches: &Bytes, to: Target, checks: &ProduceChecks) -> Result<Bytes, Rejected> {
    let mut all = Vec::with_capacity(batches.len());
    for batch in batch::batches(batches) {
        let batch = batch?;
        if batch.header.compression() == Some(to.codec) {
            all.extend_from_slice(batch.bytes);
        } else {
            all.extend_from_slice(&recompress(&batch, to, checks)?);
        }
    }
    Ok(all.into())
}

/// `max.message.bytes` counts for the batch as it came and as it is stored, as in Kafka.
fn recompress(batch: &Batch<'_>, to: Target, checks: &ProduceChecks) -> Result<Vec<u8>, Rejected> {
    let changed = batch::recompress(batch, to, batch::DECOMPRESSED_BYTES_MAX)?;
    if changed.len() > checks.max_message_bytes {
        let (bytes, codec, most) = (changed.len(), to.codec.name(), checks.max_message_bytes);
        return Err(Rejected::new(
            RejectedKind::MessageTooLarge,
            format!("stored as compression.type={codec} the batch has {bytes} bytes, more than the {most} that max.message.bytes allows"),
        ));
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::{BatchBuilder, Compression, TimestampType};

    fn part(from: Compression, compression: Option<Target>, timestamps: TimestampPolicy) -> WorkPart {
        let mut batch = BatchBuilder::new().compression(from).producer(7, 1, 5);
        batch.push(100, Some(b"key"), Some(&[b'a'; 300]), &[(b"h", Some(b"v"))]);
        batch.push(90, None, None, &[]);
        let checks =
            ProduceChecks { api_version: 9, max_message_bytes: 1000, now_ms: 10_000, timestamps, keys_required: false };
        WorkPart { records: batch.build().unwrap().into(), checks, compression }
    }

    #[test]
    fn every_codec_becomes_every_other_and_nothing_else_changes() {
        for from in Compression::ALL {
            for codec in Compression::ALL {
                for timestamps in [TimestampPolicy::UNBOUNDED, TimestampPolicy::LogAppendTime] {
                    let part = part(from, Some(codec.into()), timestamps);
                    let bytes = settle(&part, &mut Vec::new()).unwrap();
                    let (before, after) = (Batch::parse(&part.records).unwrap(), Batch::parse(&bytes).unwrap());
                    assert!(batch::verify_crc(&bytes), "{from:?} {codec:?}");
                    assert_eq!(after.header.compression(), Some(codec));
                    assert_eq!(after.header.base_sequence, 5);
                    let stamped = after.header.timestamp_type() == TimestampType::LogAppendTime;
                    assert_eq!(stamped, timestamps == TimestampPolicy::LogAppendTime);
                    assert_eq!(after.header.max_timestamp, if stamped { 10_000 } else { 100 });
                    let (mut a, mut b) = (Vec::new(), Vec::new());
                    let before = batch::records(&before, &mut a, 1 << 20).unwrap().map(Result::unwrap);
                    let after = batch::records(&after, &mut b, 1 << 20).unwrap().map(Result::unwrap);
                    assert!(before.eq(after), "{from:?} {codec:?}");
                }
            }
        }
    }

    #[test]
    fn a_batch_that_is_too_large_as_it_is_stored_is_refused() {
        let mut part = part(Compression::Gzip, Some(Compression::None.into()), TimestampPolicy::UNBOUNDED);
        part.checks.max_message_bytes = part.records.len();
        let refused = settle(&part, &mut Vec::new()).unwrap_err();
        assert_eq!(refused.kind, RejectedKind::MessageTooLarge);
        part.compression = Some(Compression::Gzip.into());
        assert_eq!(settle(&part, &mut Vec::new()).unwrap(), part.records);
    }

    #[test]
    fn records_with_bad_timestamps_are_named_and_a_head_that_says_so_alone_is_refused() {
        let bounds = TimestampPolicy::CreateTime { before_max_ms: 9_905, after_max_ms: i64::MAX };
        let refused = settle(&part(Compression::None, None, bounds), &mut Vec::new()).unwrap_err();
        assert_eq!((refused.kind, refused.records[0].batch_index), (RejectedKind::InvalidTimestamp, 1));
        let mut part =
            part(Compression::None, None, TimestampPolicy::CreateTime { before_max_ms: i64::MAX, after_max_ms: 0 });
        let mut bytes = part.records.to_vec();
        batch::set_max_timestamp(&mut bytes, TimestampType::CreateTime, 10_001);
        part.records = bytes.into();
        let refused = settle(&part, &mut Vec::new()).unwrap_err();
        assert_eq!((refused.kind, refused.records.len()), (RejectedKind::InvalidTimestamp, 0));
    }
}
