//! Owns the record batch of message format 2 (KIP-98): its header, walking over batches, and the few fields that the broker
//! fills in.
//!
//! Nothing here decompresses and nothing here copies. [`super::validate`] checks what producers send, [`super::record`]
//! looks inside batches, [`super::batch_builder`] makes new ones, [`super::rewrite`] makes them anew with fewer records; all
//! are re-exported, so that callers need this one path.

use std::fmt;

use byteorder::{BigEndian, ByteOrder};

pub use super::batch_builder::{recompress, BatchBuilder, RecordHeader};
pub use super::compress::{CompressError, Compression, Target, DECOMPRESSED_BYTES_MAX};
pub use super::record::{
    first_at_or_after, first_at_or_after_from, offset_of_max_timestamp, records, validate_records, Headers, Record,
    RecordFacts, RecordIter,
};
pub use super::rewrite::{write_empty, Rewrite};
pub(super) use super::validate::{check_size, log_append_time_from_client, timestamp_sentence};
pub use super::validate::{
    check_timestamps, validate_produced, ProduceChecks, RecordError, Rejected, RejectedKind, TimestampPolicy,
    RECORD_ERRORS_MAX,
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
pub const CRC_AT: usize = 17;
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
pub(super) const ATTR_DELETE_HORIZON: i16 = 1 << 6;

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
    /// The checksum is wrong (message formats 0 and 1; batches are checked with [`verify_crc`]).
    Crc,
    /// A codec number that this format has not.
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
            BatchError::Crc => f.write_str("the checksum is wrong"),
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
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
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

    /// From when on the tombstones of the batch, or the marker of a transaction of which nothing else is left, may be
    /// removed, ms since 1970; `None` until compaction has passed them once (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & ATTR_DELETE_HORIZON != 0).then_some(self.base_timestamp)
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

pub(super) fn compute_crc(batch: &[u8]) -> u32 {
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

#[cfg(test)]
/// The known batch, for the tests of the neighbours.
pub(super) fn tests_known() -> Vec<u8> {
    tests::KNOWN.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two records, made with another implementation's checksum: offsets 5 and 6, leader epoch 3, producer 77 with epoch 1
    /// and sequence 9; k=v with the header h=x at 1000, and a record of nulls at 1010.
    pub(super) const KNOWN: [u8; 81] = [
        0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 69, 0, 0, 0, 3, 2, 0x68, 0xc3, 0x5e, 0x2c, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,
        3, 0xe8, 0, 0, 0, 0, 0, 0, 3, 0xf2, 0, 0, 0, 0, 0, 0, 0, 77, 0, 1, 0, 0, 0, 9, 0, 0, 0, 2, 24, 0, 0, 0, 2,
        b'k', 2, b'v', 2, 2, b'h', 2, b'x', 12, 0, 0x14, 2, 1, 1, 0,
    ];

    fn builder() -> BatchBuilder {
        let mut builder = BatchBuilder::new();
        builder.push(9_000, Some(b"k"), Some(b"v"), &[]);
        builder.push(9_500, None, Some(b"w"), &[]);
        builder
    }

    #[test]
    fn a_known_batch_is_decoded_field_by_field() {
        let header = BatchHeader::parse(&KNOWN).unwrap();
        let want = BatchHeader {
            base_offset: 5,
            batch_length: 69,
            leader_epoch: 3,
            magic: 2,
            crc: 0x68c3_5e2c,
            attributes: 0,
            last_offset_delta: 1,
            base_timestamp: 1000,
            max_timestamp: 1010,
            producer_id: 77,
            producer_epoch: 1,
            base_sequence: 9,
            records_count: 2,
        };
        assert_eq!(header, want);
        assert_eq!((header.total_bytes(), header.last_offset()), (81, 6));
        assert_eq!(header.last_sequence(), 10);
        assert_eq!(header.compression(), Some(Compression::None));
        assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
        assert!(!header.is_transactional() && !header.is_control());
        assert_eq!(magic_of(&KNOWN), Some(2));
    }

    #[test]
    fn the_builder_makes_the_known_batch_byte_for_byte() {
        let mut builder = BatchBuilder::new().base_offset(5).leader_epoch(3).producer(77, 1, 9);
        builder.push(1000, Some(b"k"), Some(b"v"), &[(b"h", Some(b"x"))]);
        builder.push(1010, None, None, &[]);
        assert_eq!(builder.build().unwrap(), KNOWN);
    }

    #[test]
    fn the_checksum_is_crc32c_and_not_crc32() {
        assert!(verify_crc(&KNOWN));
        let mut other = KNOWN;
        let crc32 = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&KNOWN[CRC_FROM..]);
        assert_eq!(crc32, 0xfb23_4f98);
        BigEndian::write_u32(&mut other[CRC_AT..], crc32);
        assert!(!verify_crc(&other));
    }

    #[test]
    fn the_checksum_covers_all_from_the_attributes_on_and_nothing_before() {
        for at in 0..KNOWN.len() {
            let mut batch = KNOWN;
            batch[at] ^= 1;
            assert_eq!(verify_crc(&batch), at < CRC_AT, "byte {at}");
        }
        let mut batch = KNOWN.to_vec();
        set_base_offset(&mut batch, i64::MAX);
        set_leader_epoch(&mut batch, 12);
        assert!(verify_crc(&batch));
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch), (i64::MAX, 12));
        assert!(!verify_crc(&KNOWN[..60]));
    }

    #[test]
    fn log_append_time_is_stamped_with_a_new_checksum() {
        let mut batch = builder().build().unwrap();
        stamp_log_append_time(&mut batch, 123_456);
        assert!(verify_crc(&batch));
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!((header.max_timestamp, header.base_timestamp), (123_456, 9_000));
        set_max_timestamp(&mut batch, TimestampType::CreateTime, 9_500);
        assert_eq!(batch, builder().build().unwrap());
    }

    #[test]
    fn sequences_go_on_at_zero_after_the_largest() {
        let mut header = BatchHeader::parse(&KNOWN).unwrap();
        header.base_sequence = i32::MAX;
        header.last_offset_delta = 0;
        assert_eq!(header.last_sequence(), i32::MAX);
        header.last_offset_delta = 1;
        assert_eq!(header.last_sequence(), 0);
        header.base_sequence = i32::MAX - 2;
        header.last_offset_delta = 5;
        assert_eq!(header.last_sequence(), 2);
        header.base_sequence = -1;
        assert_eq!(header.last_sequence(), -1);
    }

    #[test]
    fn batches_are_walked_over_and_a_cut_one_ends_the_walk() {
        let two = [&KNOWN[..], &KNOWN[..]].concat();
        let all: Vec<_> = batches(&two).collect();
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|b| b.unwrap().bytes == KNOWN));
        for cut in 1..KNOWN.len() {
            let mut walk = batches(&two[..KNOWN.len() + cut]);
            assert!(walk.next().unwrap().is_ok());
            assert_eq!(walk.rest().len(), cut);
            assert_eq!(walk.next(), Some(Err(BatchError::Truncated)));
            assert_eq!(walk.next(), None);
        }
        let mut small = KNOWN;
        small[11] = 48;
        assert_eq!(batches(&small).next(), Some(Err(BatchError::Length(HEADER_BYTES as i32 - 13))));
        small[8] = 0xff;
        assert!(matches!(
            batches(&small).next(),
            Some(Err(BatchError::Length(n))) if n < 0
        ));
        small[MAGIC_AT] = 1;
        assert_eq!(batches(&small).next(), Some(Err(BatchError::Magic(1))));
    }
}
