//! Owns the record batch of message format 2 (KIP-98): its header, walking over batches, the checks of a produce request
//! that need the header only, and the few fields that the broker fills in.
//!
//! Nothing here decompresses and nothing here copies. [`super::record`] looks inside batches, [`super::batch_builder`]
//! makes new ones; both are re-exported, so that callers need this one path.

use std::fmt;

use byteorder::{BigEndian, ByteOrder};

pub use super::batch_builder::{recompress, BatchBuilder, RecordHeader};
pub use super::compress::{CompressError, Compression, DECOMPRESSED_BYTES_MAX};
pub use super::record::{
    first_at_or_after, first_at_or_after_from, offset_of_max_timestamp, records, validate_records,
    Headers, Record, RecordFacts, RecordIter,
};

/// The bytes of a batch before its first record.
pub const HEADER_BYTES: usize = 61;
/// The bytes that `batch_length` doesn't count: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// Where the magic byte is, in every format that Kafka ever had.
pub const MAGIC_AT: usize = 16;
/// The checksum covers a batch from its attributes to its end.
pub const CRC_FROM: usize = 21;

/// "No timestamp", as message format 0 has none.
pub const NO_TIMESTAMP: i64 = -1;
/// "No producer id": the producer is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;

pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(super) const BASE_TIMESTAMP_AT: usize = 27;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
pub(super) const PRODUCER_ID_AT: usize = 43;
pub(super) const PRODUCER_EPOCH_AT: usize = 51;
pub(super) const BASE_SEQUENCE_AT: usize = 53;
pub(super) const RECORDS_COUNT_AT: usize = 57;

pub(super) const ATTR_CODEC: i16 = 0b111;
pub(super) const ATTR_LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const ATTR_TRANSACTIONAL: i16 = 1 << 4;
pub(super) const ATTR_CONTROL: i16 = 1 << 5;

/// What the timestamps of a batch mean (KIP-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// When the producer made each record.
    CreateTime,
    /// When the broker appended the batch: one time for all its records, kept in `max_timestamp`.
    LogAppendTime,
}

/// Why bytes are not a whole and readable batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end before the batch does.
    Truncated,
    /// `batch_length` is negative or too small for a header.
    Length(i32),
    /// Not message format 2.
    Magic(i8),
    /// A codec number that no version of Kafka uses.
    Codec(u8),
    /// The records do not decompress, or to too much.
    Compress(CompressError),
    /// A record breaks the format; the reason is for people.
    Malformed(&'static str),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Truncated => f.write_str("the record batch is cut off"),
            BatchError::Length(n) => write!(f, "the record batch claims a length of {n}"),
            BatchError::Magic(n) => write!(f, "the magic byte is {n}, which is no known format"),
            BatchError::Codec(n) => write!(f, "the compression codec {n} is not known"),
            BatchError::Compress(e) => e.fmt(f),
            BatchError::Malformed(why) => write!(f, "a record is malformed: {why}"),
        }
    }
}

impl std::error::Error for BatchError {}

impl From<CompressError> for BatchError {
    fn from(e: CompressError) -> Self {
        BatchError::Compress(e)
    }
}

/// The fixed head of a batch, decoded. Values are as on the wire and may be nonsense until checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes after this field; never smaller than a header needs once parsed.
    pub batch_length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    /// Milliseconds since 1970; the timestamps of the records are relative to it.
    pub base_timestamp: i64,
    /// Milliseconds since 1970, or [`NO_TIMESTAMP`].
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: i32,
}

impl BatchHeader {
    /// Decodes the head of the batch that starts `bytes`, which may be shorter than the batch.
    ///
    /// # Errors
    /// Fewer than [`HEADER_BYTES`] bytes, a magic byte other than 2, or a length too small for a header.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        // The magic byte stands at the same place in all formats, and an old message can be shorter than a header.
        if let Some(&magic) = bytes.get(MAGIC_AT) {
            if magic != 2 {
                return Err(BatchError::Magic(magic as i8));
            }
        }
        let Some(b) = bytes.get(..HEADER_BYTES) else {
            return Err(BatchError::Truncated);
        };
        let batch_length = BigEndian::read_i32(&b[8..]);
        if batch_length < (HEADER_BYTES - LOG_OVERHEAD) as i32 {
            return Err(BatchError::Length(batch_length));
        }
        Ok(BatchHeader {
            base_offset: BigEndian::read_i64(b),
            batch_length,
            leader_epoch: BigEndian::read_i32(&b[LEADER_EPOCH_AT..]),
            magic: b[MAGIC_AT] as i8,
            crc: BigEndian::read_u32(&b[CRC_AT..]),
            attributes: BigEndian::read_i16(&b[ATTRIBUTES_AT..]),
            last_offset_delta: BigEndian::read_i32(&b[LAST_OFFSET_DELTA_AT..]),
            base_timestamp: BigEndian::read_i64(&b[BASE_TIMESTAMP_AT..]),
            max_timestamp: BigEndian::read_i64(&b[MAX_TIMESTAMP_AT..]),
            producer_id: BigEndian::read_i64(&b[PRODUCER_ID_AT..]),
            producer_epoch: BigEndian::read_i16(&b[PRODUCER_EPOCH_AT..]),
            base_sequence: BigEndian::read_i32(&b[BASE_SEQUENCE_AT..]),
            records_count: BigEndian::read_i32(&b[RECORDS_COUNT_AT..]),
        })
    }

    /// The bytes of the whole batch, head included.
    pub fn total_bytes(&self) -> usize {
        LOG_OVERHEAD + self.batch_length as usize
    }

    /// The offset of the last record; wraps for nonsense that a parsed header may hold.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .wrapping_add(i64::from(self.last_offset_delta))
    }

    /// The codec of the records, or `None` for a number that no version of Kafka uses.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_id((self.attributes & ATTR_CODEC) as u8)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & ATTR_LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTR_TRANSACTIONAL != 0
    }

    /// Whether this is a transaction marker rather than data.
    pub fn is_control(&self) -> bool {
        self.attributes & ATTR_CONTROL != 0
    }

    /// Whether an idempotent producer wrote this.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The sequence number of the last record, or -1 without one. Sequences go on at 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta.max(0));
        (last % (i64::from(i32::MAX) + 1)) as i32
    }
}

/// A whole batch, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch<'a> {
    pub header: BatchHeader,
    /// The batch from its base offset to its last record.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch that starts `bytes`. What follows it is left alone.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], and [`BatchError::Truncated`] if the batch is not all there.
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        match bytes.get(..header.total_bytes()) {
            Some(bytes) => Ok(Batch { header, bytes }),
            None => Err(BatchError::Truncated),
        }
    }

    /// What follows the head: the records, compressed if the attributes say so.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }
}

/// Walks over the batches in `records`. See [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// What was not walked over yet; after an error, where it is.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(self.rest);
        self.rest = match &batch {
            Ok(batch) => &self.rest[batch.bytes.len()..],
            // Nothing after bytes that are not understood can be found again.
            Err(_) => &[],
        };
        Some(batch)
    }
}

/// The batches that stand one after the other in `records`. A last batch that is cut off gives [`BatchError::Truncated`];
/// any error ends the walk.
pub fn batches(records: &[u8]) -> Batches<'_> {
    Batches { rest: records }
}

/// The magic byte of the first batch or message: at the same place in all formats. `None` if the bytes end before it.
pub fn magic_of(records: &[u8]) -> Option<i8> {
    records.get(MAGIC_AT).map(|&magic| magic as i8)
}

/// Whether the checksum (CRC-32C) of a whole batch is right. `false` for anything shorter than a header.
pub fn verify_crc(batch: &[u8]) -> bool {
    batch.len() >= HEADER_BYTES && BigEndian::read_u32(&batch[CRC_AT..]) == compute_crc(batch)
}

fn compute_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CRC_FROM..])
}

/// Writes the base offset. It lies outside the checksum. Bytes shorter than a header are left alone, as in all the setters.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    if batch.len() >= HEADER_BYTES {
        BigEndian::write_i64(batch, base_offset);
    }
}

/// Writes the partition's leader epoch. It lies outside the checksum.
pub fn set_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    if batch.len() >= HEADER_BYTES {
        BigEndian::write_i32(&mut batch[LEADER_EPOCH_AT..], leader_epoch);
    }
}

/// Makes every record of the batch carry `now_ms` as its log-append time, with a new checksum. The records themselves stay
/// as they are: readers take the time from the head then.
pub fn stamp_log_append_time(batch: &mut [u8], now_ms: i64) {
    set_max_timestamp(batch, TimestampType::LogAppendTime, now_ms);
}

/// Writes the largest timestamp and what the timestamps mean, with a new checksum if that changes anything.
pub fn set_max_timestamp(batch: &mut [u8], kind: TimestampType, max_timestamp: i64) {
    if batch.len() < HEADER_BYTES {
        return;
    }
    let old = BigEndian::read_i16(&batch[ATTRIBUTES_AT..]);
    let new = match kind {
        TimestampType::CreateTime => old & !ATTR_LOG_APPEND_TIME,
        TimestampType::LogAppendTime => old | ATTR_LOG_APPEND_TIME,
    };
    if old == new && BigEndian::read_i64(&batch[MAX_TIMESTAMP_AT..]) == max_timestamp {
        return;
    }
    BigEndian::write_i16(&mut batch[ATTRIBUTES_AT..], new);
    BigEndian::write_i64(&mut batch[MAX_TIMESTAMP_AT..], max_timestamp);
    write_crc(batch);
}

/// Computes and writes the checksum of a batch that has at least a header.
pub(super) fn write_crc(batch: &mut [u8]) {
    let crc = compute_crc(batch);
    BigEndian::write_u32(&mut batch[CRC_AT..], crc);
}

/// How a topic treats timestamps: `message.timestamp.type` and the bounds that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampPolicy {
    /// The producer's, within `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` of the broker's clock.
    CreateTime {
        before_max_ms: i64,
        after_max_ms: i64,
    },
    /// The broker's; whatever the producer says is overwritten.
    LogAppendTime,
}

impl TimestampPolicy {
    /// The producer's timestamps, without bounds.
    pub const UNBOUNDED: TimestampPolicy = TimestampPolicy::CreateTime {
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
    };

    /// Whether a record with this timestamp may be appended at `now_ms`. No timestamp always may.
    pub fn allows(&self, timestamp: i64, now_ms: i64) -> bool {
        match *self {
            TimestampPolicy::CreateTime {
                before_max_ms,
                after_max_ms,
            } => {
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
        Rejected {
            kind,
            message: message.into(),
            records: Vec::new(),
        }
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
            BatchError::Truncated | BatchError::Length(_) | BatchError::Magic(_) => {
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
pub fn validate_produced<'a>(
    records: &'a [u8],
    checks: &ProduceChecks,
) -> Result<Batch<'a>, Rejected> {
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
        return Err(Rejected::invalid(
            "a produce request must have one record batch per partition, but there is none",
        ));
    }
    if let Some(old @ (0 | 1)) = magic_of(records) {
        return Err(Rejected::invalid(format!(
            "produce requests of version {api_version} may hold record batches of magic 2 only, not {old}"
        )));
    }
    let batch = Batch::parse(records)?;
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
        return Err(Rejected::invalid(
            "a transactional batch needs a producer id",
        ));
    }
    Ok(())
}

fn check_timestamps(header: &BatchHeader, checks: &ProduceChecks) -> Result<(), Rejected> {
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(log_append_time_from_client());
    }
    for timestamp in [header.base_timestamp, header.max_timestamp] {
        if !checks.timestamps.allows(timestamp, checks.now_ms) {
            return Err(Rejected::new(
                RejectedKind::InvalidTimestamp,
                timestamp_sentence(timestamp, checks),
            ));
        }
    }
    Ok(())
}

pub(super) fn log_append_time_from_client() -> Rejected {
    Rejected::new(
        RejectedKind::InvalidTimestamp,
        "a producer may not set the timestamp type to LogAppendTime",
    )
}

pub(super) fn timestamp_sentence(timestamp: i64, checks: &ProduceChecks) -> String {
    match checks.timestamps {
        TimestampPolicy::CreateTime {
            before_max_ms,
            after_max_ms,
        } => format!(
            "the timestamp {timestamp} is out of range: it must lie within [{}, {}]",
            checks.now_ms.saturating_sub(before_max_ms),
            checks.now_ms.saturating_add(after_max_ms)
        ),
        TimestampPolicy::LogAppendTime => {
            format!("the timestamp {timestamp} is out of range")
        }
    }
}
