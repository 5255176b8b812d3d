//! Owns the checks of a produce request that need the head of a batch only, and how a refusal is told: which of Kafka's
//! errors, and a sentence.

use std::fmt;

use super::batch::{
    compute_crc, magic_of, verify_crc, Batch, BatchError, BatchHeader, CompressError, Compression, TimestampType,
    ATTR_CODEC, NO_TIMESTAMP,
};

/// How a topic treats timestamps: `message.timestamp.type` and the bounds that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampPolicy {
    /// The producer's, within `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` of the broker's clock.
    CreateTime { before_max_ms: i64, after_max_ms: i64 },
    /// The broker's; whatever the producer says is overwritten.
    LogAppendTime,
}

impl TimestampPolicy {
    /// The producer's timestamps, without bounds.
    pub const UNBOUNDED: TimestampPolicy =
        TimestampPolicy::CreateTime { before_max_ms: i64::MAX, after_max_ms: i64::MAX };

    /// Whether a record with this timestamp may be appended at `now_ms`. No timestamp always may.
    pub fn allows(&self, timestamp: i64, now_ms: i64) -> bool {
        match *self {
            TimestampPolicy::CreateTime { before_max_ms, after_max_ms } => {
                timestamp == NO_TIMESTAMP
                    || (now_ms.saturating_sub(timestamp) <= before_max_ms
                        && timestamp.saturating_sub(now_ms) <= after_max_ms)
            }
            TimestampPolicy::LogAppendTime => true,
        }
    }
}

/// What a produce request is checked against: the topic's settings, the clock and the request's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceChecks {
    /// The version of the produce request. zstd needs 7 (KIP-110).
    pub api_version: i16,
    /// `max.message.bytes`: the largest batch, head included.
    pub max_message_bytes: usize,
    /// The broker's clock in milliseconds since 1970.
    pub now_ms: i64,
    pub timestamps: TimestampPolicy,
    /// Whether every record needs a key, as in a compacted topic. Only [`validate_records`] and conversion see keys.
    pub keys_required: bool,
}

/// Which of Kafka's errors answers a refused produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedKind {
    CorruptMessage,
    MessageTooLarge,
    InvalidTimestamp,
    UnsupportedForMessageFormat,
    UnsupportedCompressionType,
    InvalidRecord,
}

impl RejectedKind {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        match self {
            RejectedKind::CorruptMessage => 2,
            RejectedKind::MessageTooLarge => 10,
            RejectedKind::InvalidTimestamp => 32,
            RejectedKind::UnsupportedForMessageFormat => 43,
            RejectedKind::UnsupportedCompressionType => 76,
            RejectedKind::InvalidRecord => 87,
        }
    }
}

/// One record that was refused, for the `record_errors` of a produce response (version 8 on, KIP-467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's place in its batch.
    pub batch_index: i32,
    pub message: String,
}

/// The most refused records that one answer names. Kafka names all; a client prints the first few.
pub const RECORD_ERRORS_MAX: usize = 16;

/// Records were refused: which error, and a sentence for the person who reads the client's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub kind: RejectedKind,
    pub message: String,
    /// The records at fault if it is about single records; at most [`RECORD_ERRORS_MAX`].
    pub records: Vec<RecordError>,
}

impl Rejected {
    pub fn new(kind: RejectedKind, message: impl Into<String>) -> Rejected {
        Rejected { kind, message: message.into(), records: Vec::new() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Rejected {
        Rejected::new(RejectedKind::InvalidRecord, message)
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Rejected {}

impl From<BatchError> for Rejected {
    fn from(e: BatchError) -> Rejected {
        let kind = match e {
            BatchError::Truncated | BatchError::Length(_) | BatchError::Magic(_) | BatchError::Crc => {
                RejectedKind::CorruptMessage
            }
            BatchError::Codec(_) => RejectedKind::UnsupportedCompressionType,
            BatchError::Compress(CompressError::TooLarge { .. }) => RejectedKind::MessageTooLarge,
            // The checksum was right, so sending the same bytes again cannot help: not CORRUPT_MESSAGE, which is retried.
            BatchError::Compress(_) | BatchError::Malformed(_) => RejectedKind::InvalidRecord,
        };
        Rejected::new(kind, e.to_string())
    }
}

/// The checks of a produce request that need no more than the head of the batch: all that the hot path does.
///
/// They are Kafka's (`ProduceRequest.validateRecords`, then `UnifiedLog`, then `LogValidator`) in Kafka's order: exactly one
/// whole batch of format 2; zstd only from version 7; base offset 0; size; checksum; count and offsets agree; no control
/// batch; a sequence where there is a producer id; timestamps of the producer's making and within bounds. Of the
/// timestamps only the first and the largest are looked at; [`validate_records`] looks at each.
///
/// Stricter than Kafka in two points: bytes after the batch that are no whole batch are refused where Kafka drops them in
/// silence, and a transactional batch needs a producer id. An unknown codec is UNSUPPORTED_COMPRESSION_TYPE, where
/// Kafka fails with UNKNOWN_SERVER_ERROR.
///
/// # Errors
/// [`Rejected`], with the error that Kafka would answer.
pub fn validate_produced<'a>(records: &'a [u8], checks: &ProduceChecks) -> Result<Batch<'a>, Rejected> {
    let batch = the_one_batch(records, checks.api_version)?;
    let header = &batch.header;
    if header.base_offset != 0 {
        return Err(Rejected::invalid(format!(
            "the base offset of a produced batch must be 0, but is {}",
            header.base_offset
        )));
    }
    check_size(batch.bytes.len(), checks)?;
    if !verify_crc(batch.bytes) {
        return Err(Rejected::new(
            RejectedKind::CorruptMessage,
            format!(
                "the batch is corrupt: it says CRC {:#010x}, its bytes say {:#010x}",
                header.crc,
                compute_crc(batch.bytes)
            ),
        ));
    }
    check_counts(header)?;
    check_producer(header)?;
    check_timestamps(header, checks)?;
    Ok(batch)
}

/// `max.message.bytes` against one batch, or one message of an old format.
pub(super) fn check_size(bytes: usize, checks: &ProduceChecks) -> Result<(), Rejected> {
    if bytes <= checks.max_message_bytes {
        return Ok(());
    }
    Err(Rejected::new(
        RejectedKind::MessageTooLarge,
        format!(
            "the batch has {bytes} bytes, more than the {} that max.message.bytes allows",
            checks.max_message_bytes
        ),
    ))
}

fn the_one_batch(records: &[u8], api_version: i16) -> Result<Batch<'_>, Rejected> {
    if records.is_empty() {
        return Err(Rejected::invalid("a produce request must have one record batch per partition, but there is none"));
    }
    if let Some(old @ (0 | 1)) = magic_of(records) {
        return Err(Rejected::invalid(format!(
            "produce requests of version {api_version} may hold record batches of magic 2 only, not {old}"
        )));
    }
    let batch = Batch::parse(records).map_err(|error| match error {
        // To Kafka a batch that is cut off is none at all.
        BatchError::Truncated => Rejected::invalid(error.to_string()),
        other => other.into(),
    })?;
    match batch.header.compression() {
        None => {
            let id = (batch.header.attributes & ATTR_CODEC) as u8;
            return Err(BatchError::Codec(id).into());
        }
        Some(Compression::Zstd) if api_version < 7 => {
            return Err(Rejected::new(
                RejectedKind::UnsupportedCompressionType,
                format!("produce requests of version {api_version} may not use zstd"),
            ));
        }
        Some(_) => {}
    }
    let rest = &records[batch.bytes.len()..];
    if !rest.is_empty() {
        Batch::parse(rest)?;
        return Err(Rejected::invalid(
            "a produce request must have one record batch per partition, but there are more",
        ));
    }
    Ok(batch)
}

fn check_counts(header: &BatchHeader) -> Result<(), Rejected> {
    let count = i64::from(header.records_count);
    let from_offsets = i64::from(header.last_offset_delta) + 1;
    if count <= 0 || from_offsets != count {
        return Err(Rejected::invalid(format!(
            "the batch says that it has {count} records, and its offsets span {from_offsets}"
        )));
    }
    if header.is_control() {
        return Err(Rejected::invalid("clients may not write control batches"));
    }
    Ok(())
}

fn check_producer(header: &BatchHeader) -> Result<(), Rejected> {
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(Rejected::invalid(format!(
            "the batch of producer {} has the sequence number {}",
            header.producer_id, header.base_sequence
        )));
    }
    if header.is_transactional() && !header.has_producer_id() {
        return Err(Rejected::invalid("a transactional batch needs a producer id"));
    }
    Ok(())
}

/// The timestamps that a batch's head tells, which is the first and the largest.
///
/// # Errors
/// INVALID_TIMESTAMP.
pub fn check_timestamps(header: &BatchHeader, checks: &ProduceChecks) -> Result<(), Rejected> {
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(log_append_time_from_client());
    }
    for timestamp in [header.base_timestamp, header.max_timestamp] {
        if !checks.timestamps.allows(timestamp, checks.now_ms) {
            return Err(Rejected::new(RejectedKind::InvalidTimestamp, timestamp_sentence(timestamp, checks)));
        }
    }
    Ok(())
}

pub(super) fn log_append_time_from_client() -> Rejected {
    Rejected::new(RejectedKind::InvalidTimestamp, "a producer may not set the timestamp type to LogAppendTime")
}

pub(super) fn timestamp_sentence(timestamp: i64, checks: &ProduceChecks) -> String {
    match checks.timestamps {
        TimestampPolicy::CreateTime { before_max_ms, after_max_ms } => format!(
            "the timestamp {timestamp} is out of range: it must lie within [{}, {}]",
            checks.now_ms.saturating_sub(before_max_ms),
            checks.now_ms.saturating_add(after_max_ms)
        ),
        TimestampPolicy::LogAppendTime => {
            format!("the timestamp {timestamp} is out of range")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{
        write_crc, BatchBuilder, ATTRIBUTES_AT, LAST_OFFSET_DELTA_AT, MAGIC_AT, PRODUCER_ID_AT, RECORDS_COUNT_AT,
    };
    use super::*;

    fn checks() -> ProduceChecks {
        ProduceChecks {
            api_version: 9,
            max_message_bytes: 1000,
            now_ms: 10_000,
            timestamps: TimestampPolicy::UNBOUNDED,
            keys_required: false,
        }
    }

    fn builder() -> BatchBuilder {
        let mut builder = BatchBuilder::new();
        builder.push(9_000, Some(b"k"), Some(b"v"), &[]);
        builder.push(9_500, None, Some(b"w"), &[]);
        builder
    }

    /// A good batch with a few bytes changed and the checksum made right again.
    fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut batch = builder().build().unwrap();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        write_crc(&mut batch);
        batch
    }

    fn refused(records: &[u8], checks: &ProduceChecks) -> RejectedKind {
        let rejected = validate_produced(records, checks).unwrap_err();
        assert!(!rejected.message.is_empty());
        rejected.kind
    }

    #[test]
    fn a_good_batch_is_accepted() {
        for codec in crate::wire::compress::runnable() {
            let bytes = builder().compression(codec).build().unwrap();
            let batch = validate_produced(&bytes, &checks()).unwrap();
            assert_eq!(batch.bytes, bytes);
        }
        let idempotent = builder().producer(5, 0, 0).transactional().build().unwrap();
        assert!(validate_produced(&idempotent, &checks()).is_ok());
    }

    #[test]
    fn produce_has_exactly_one_whole_batch() {
        let good = builder().build().unwrap();
        assert_eq!(refused(&[], &checks()), RejectedKind::InvalidRecord);
        let two = [&good[..], &good[..]].concat();
        assert_eq!(refused(&two, &checks()), RejectedKind::InvalidRecord);
        let cut = &good[..good.len() - 1];
        assert_eq!(refused(cut, &checks()), RejectedKind::InvalidRecord);
        assert_eq!(refused(&good[..1], &checks()), RejectedKind::InvalidRecord);
        let tail = &two[..two.len() - 1];
        assert_eq!(refused(tail, &checks()), RejectedKind::CorruptMessage);
    }

    #[test]
    fn each_broken_header_gets_kafkas_error() {
        use RejectedKind::*;
        for (at, bytes, kind) in [
            (7, &[1u8][..], InvalidRecord),
            (MAGIC_AT, &[1], InvalidRecord),
            (MAGIC_AT, &[3], CorruptMessage),
            (ATTRIBUTES_AT, &[0, 5], UnsupportedCompressionType),
            (ATTRIBUTES_AT, &[0, 1 << 5], InvalidRecord),
            (ATTRIBUTES_AT, &[0, 1 << 4], InvalidRecord),
            (ATTRIBUTES_AT, &[0, 1 << 3], InvalidTimestamp),
            (LAST_OFFSET_DELTA_AT, &[0, 0, 0, 2], InvalidRecord),
            (LAST_OFFSET_DELTA_AT, &[0xff, 0xff, 0xff, 0xfe], InvalidRecord),
            (RECORDS_COUNT_AT, &[0, 0, 0, 0], InvalidRecord),
            (RECORDS_COUNT_AT, &[0xff; 4], InvalidRecord),
            (PRODUCER_ID_AT, &[0; 8], InvalidRecord),
        ] {
            assert_eq!(refused(&patched(at, bytes), &checks()), kind, "{at} {bytes:?}");
        }
        let mut corrupt = builder().build().unwrap();
        corrupt[30] ^= 1;
        assert_eq!(refused(&corrupt, &checks()), CorruptMessage);
        let small = ProduceChecks { max_message_bytes: corrupt.len() - 1, ..checks() };
        assert_eq!(refused(&corrupt, &small), MessageTooLarge);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Zstandard is C code")]
    fn zstd_needs_produce_version_7() {
        let bytes = builder().compression(Compression::Zstd).build().unwrap();
        for (api_version, ok) in [(3, false), (6, false), (7, true), (12, true)] {
            let checks = ProduceChecks { api_version, ..checks() };
            let got = validate_produced(&bytes, &checks);
            assert_eq!(got.is_ok(), ok, "version {api_version}");
            if let Err(e) = got {
                assert_eq!(e.kind.code(), 76);
            }
        }
    }

    #[test]
    fn timestamps_out_of_bounds_are_refused_at_both_ends() {
        let bytes = builder().build().unwrap();
        for (before_max_ms, after_max_ms, now_ms, ok) in [
            (1_000, 0, 10_000, true),
            (999, 0, 10_000, false),
            (0, 500, 9_000, true),
            (0, 499, 9_000, false),
            (i64::MAX, i64::MAX, i64::MIN, true),
            (i64::MAX, i64::MAX, i64::MAX, true),
        ] {
            let checks = ProduceChecks {
                now_ms,
                timestamps: TimestampPolicy::CreateTime { before_max_ms, after_max_ms },
                ..checks()
            };
            let got = validate_produced(&bytes, &checks);
            assert_eq!(got.is_ok(), ok, "{before_max_ms} {after_max_ms} {now_ms}");
        }
        let mut none = BatchBuilder::new();
        none.push(NO_TIMESTAMP, None, None, &[]);
        let strict =
            ProduceChecks { timestamps: TimestampPolicy::CreateTime { before_max_ms: 0, after_max_ms: 0 }, ..checks() };
        assert!(validate_produced(&none.build().unwrap(), &strict).is_ok());
        let append = ProduceChecks { timestamps: TimestampPolicy::LogAppendTime, ..checks() };
        assert!(validate_produced(&bytes, &append).is_ok());
    }
}
