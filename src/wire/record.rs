//! Owns what is inside a record batch: decompressing it within a bound, walking over its records, the checks that need
//! each record, and finding records by timestamp.
//!
//! A worker or a reader runs this, never the hot path.

use super::batch::{
    log_append_time_from_client, timestamp_sentence, Batch, BatchError, BatchHeader, ProduceChecks, RecordError,
    Rejected, RejectedKind, TimestampType, ATTR_CODEC, DECOMPRESSED_BYTES_MAX, NO_TIMESTAMP, RECORD_ERRORS_MAX,
};
use super::compress::{self, Compression};

/// The bytes of the smallest record: its length, attributes, two deltas, no key, no value, no headers.
const RECORD_BYTES_MIN: usize = 7;

/// One record, borrowed from its batch or from the scratch memory that the batch was decompressed into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    /// Not used by any version so far.
    pub attributes: i8,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

impl Record<'_> {
    /// The record's offset in its partition.
    pub fn offset(&self, header: &BatchHeader) -> i64 {
        header.base_offset.wrapping_add(i64::from(self.offset_delta))
    }

    /// The record's timestamp as a consumer is told it: the batch's time if that is a log-append time.
    pub fn timestamp(&self, header: &BatchHeader) -> i64 {
        match header.timestamp_type() {
            TimestampType::CreateTime => header.base_timestamp.wrapping_add(self.timestamp_delta),
            TimestampType::LogAppendTime => header.max_timestamp,
        }
    }
}

/// The headers of a record, in order: key (Kafka says UTF-8, nobody checks) and value. Well-formed, because the record was
/// checked when it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Headers<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        read_header(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

/// Walks over the records of a batch. After the last one it answers an error if bytes are left over; any error ends the walk.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    left: u32,
    rest: &'a [u8],
    done: bool,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.left == 0 {
            self.done = true;
            if self.rest.is_empty() {
                return None;
            }
            return Some(Err(BatchError::Malformed("there are bytes after the last record")));
        }
        self.left -= 1;
        let record = read_record(&mut self.rest);
        self.done = record.is_err();
        Some(record)
    }
}

/// The records of a batch. Compressed ones are decompressed into `scratch`, to `limit_bytes` at the most; others are
/// borrowed from the batch. The checksum is not looked at.
///
/// # Errors
/// An unknown codec, data that do not decompress within the limit, or a record count that the bytes cannot hold.
pub fn records<'a>(
    batch: &Batch<'a>,
    scratch: &'a mut Vec<u8>,
    limit_bytes: usize,
) -> Result<RecordIter<'a>, BatchError> {
    let body = body_of(batch, scratch, limit_bytes)?;
    let count = u32::try_from(batch.header.records_count)
        .map_err(|_| BatchError::Malformed("the batch has a negative count of records"))?;
    if count as usize > body.len() / RECORD_BYTES_MIN {
        return Err(BatchError::Malformed("the batch is too short for its count of records"));
    }
    Ok(RecordIter { left: count, rest: body, done: false })
}

/// The uncompressed records of a batch as bytes.
pub(super) fn body_of<'a>(
    batch: &Batch<'a>,
    scratch: &'a mut Vec<u8>,
    limit_bytes: usize,
) -> Result<&'a [u8], BatchError> {
    match batch.header.compression() {
        None => Err(BatchError::Codec((batch.header.attributes & ATTR_CODEC) as u8)),
        Some(Compression::None) => Ok(batch.body()),
        Some(codec) => {
            compress::decompress(codec, 2, batch.body(), limit_bytes, scratch)?;
            Ok(scratch)
        }
    }
}

fn read_record<'a>(rest: &mut &'a [u8]) -> Result<Record<'a>, BatchError> {
    let length = read_varint(rest)?;
    let mut inner = take(rest, length)?.ok_or(BatchError::Malformed("a record has no length"))?;
    let Some((&attributes, after)) = inner.split_first() else {
        return Err(BatchError::Malformed("a record is empty"));
    };
    inner = after;
    let timestamp_delta = read_varlong(&mut inner)?;
    let offset_delta = read_varint(&mut inner)?;
    let key = read_bytes(&mut inner)?;
    let value = read_bytes(&mut inner)?;
    let count = u32::try_from(read_varint(&mut inner)?)
        .map_err(|_| BatchError::Malformed("a record has a negative count of headers"))?;
    let headers = Headers { left: count, rest: inner };
    for _ in 0..count {
        read_header(&mut inner)?;
    }
    if !inner.is_empty() {
        return Err(BatchError::Malformed("a record is longer than what is in it"));
    }
    Ok(Record { offset_delta, timestamp_delta, attributes: attributes as i8, key, value, headers })
}

fn read_header<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), BatchError> {
    let key = read_bytes(rest)?.ok_or(BatchError::Malformed("a header has no key"))?;
    let value = read_bytes(rest)?;
    Ok((key, value))
}

fn read_bytes<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BatchError> {
    let length = read_varint(rest)?;
    take(rest, length)
}

/// Takes `length` bytes; -1 is null.
fn take<'a>(rest: &mut &'a [u8], length: i32) -> Result<Option<&'a [u8]>, BatchError> {
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| BatchError::Malformed("a length is negative"))?;
    let bytes: &'a [u8] = rest;
    if length > bytes.len() {
        return Err(BatchError::Malformed("a length passes the end"));
    }
    let (taken, after) = bytes.split_at(length);
    *rest = after;
    Ok(Some(taken))
}

fn read_varint(rest: &mut &[u8]) -> Result<i32, BatchError> {
    let raw = read_unsigned(rest, 5)?;
    let raw = u32::try_from(raw).map_err(|_| BatchError::Malformed("a varint is too large"))?;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

fn read_varlong(rest: &mut &[u8]) -> Result<i64, BatchError> {
    let raw = read_unsigned(rest, 10)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Reads an unsigned varint of at most `bytes_max` bytes, as Protocol Buffers write it.
fn read_unsigned(rest: &mut &[u8], bytes_max: usize) -> Result<u64, BatchError> {
    let mut value = 0u64;
    for (i, &byte) in rest.iter().take(bytes_max).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return Err(BatchError::Malformed("a varint is too large"));
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    Err(BatchError::Malformed("a varint does not end"))
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// What [`validate_records`] found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFacts {
    pub count: i32,
    /// The largest timestamp of any record, whatever the head says, or [`NO_TIMESTAMP`].
    pub max_timestamp: i64,
    /// The offset of the first record that has it, relative to the base offset.
    pub max_timestamp_delta: i32,
    /// Whether any record has no key.
    pub keyless: bool,
    /// The bytes of the records, uncompressed.
    pub body_bytes: usize,
}

/// The checks of a produced batch that need each record: offsets count up from 0, timestamps are within bounds, keys are
/// there if the topic needs them, and the bytes are used up exactly. [`super::batch::validate_produced`] comes first.
///
/// Kafka writes a batch anew if its inner offsets do not count up; no client since message format 1 makes such batches,
/// so this refuses them.
///
/// # Errors
/// [`Rejected`], naming the records at fault.
pub fn validate_records(
    batch: &Batch<'_>,
    checks: &ProduceChecks,
    scratch: &mut Vec<u8>,
) -> Result<RecordFacts, Rejected> {
    let header = &batch.header;
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(log_append_time_from_client());
    }
    let body = body_of(batch, scratch, DECOMPRESSED_BYTES_MAX)?;
    let mut facts = RecordFacts {
        count: header.records_count,
        max_timestamp: NO_TIMESTAMP,
        max_timestamp_delta: 0,
        keyless: false,
        body_bytes: body.len(),
    };
    let mut faults = RecordFaults::default();
    let mut rest = body;
    for index in 0..header.records_count {
        let record = read_record(&mut rest)?;
        if record.offset_delta != index {
            return Err(Rejected::invalid(format!(
                "the record at place {index} of the batch says that its place is {}",
                record.offset_delta
            )));
        }
        let timestamp = record.timestamp(header);
        if timestamp > facts.max_timestamp {
            facts.max_timestamp = timestamp;
            facts.max_timestamp_delta = index;
        }
        facts.keyless |= record.key.is_none();
        faults.check(index, record.key.is_some(), timestamp, checks);
    }
    if !rest.is_empty() {
        return Err(BatchError::Malformed("there are bytes after the last record").into());
    }
    faults.into_result()?;
    Ok(facts)
}

/// The records of one request that break the topic's rules, as they are found.
#[derive(Debug, Default)]
pub(super) struct RecordFaults {
    count: u64,
    bad_timestamp: bool,
    named: Vec<RecordError>,
}

impl RecordFaults {
    /// Checks one record's key and timestamp against the topic's rules.
    pub(super) fn check(&mut self, index: i32, has_key: bool, timestamp: i64, checks: &ProduceChecks) {
        if checks.keys_required && !has_key {
            self.add(index, "a compacted topic needs a key in each record".into());
        } else if !checks.timestamps.allows(timestamp, checks.now_ms) {
            self.bad_timestamp = true;
            self.add(index, timestamp_sentence(timestamp, checks));
        }
    }

    fn add(&mut self, index: i32, message: String) {
        self.count += 1;
        if self.named.len() < RECORD_ERRORS_MAX {
            self.named.push(RecordError { batch_index: index, message });
        }
    }

    /// One bad timestamp makes the whole answer INVALID_TIMESTAMP, as in Kafka.
    pub(super) fn into_result(self) -> Result<(), Rejected> {
        let Some(first) = self.named.first() else {
            return Ok(());
        };
        let kind = if self.bad_timestamp { RejectedKind::InvalidTimestamp } else { RejectedKind::InvalidRecord };
        Err(Rejected {
            kind,
            message: format!(
                "{} of the records are refused; the first is at place {}: {}",
                self.count, first.batch_index, first.message
            ),
            records: self.named,
        })
    }
}

/// The offset and timestamp of the first record of the batch whose timestamp is `target_ms` or later (KIP-79).
///
/// # Errors
/// As [`records`].
pub fn first_at_or_after(batch: &Batch<'_>, target_ms: i64) -> Result<Option<(i64, i64)>, BatchError> {
    first_at_or_after_from(batch, target_ms, i64::MIN)
}

/// As [`first_at_or_after`], among the records at `offset_min` or later: the log may start inside a batch.
///
/// # Errors
/// As [`records`].
pub fn first_at_or_after_from(
    batch: &Batch<'_>,
    target_ms: i64,
    offset_min: i64,
) -> Result<Option<(i64, i64)>, BatchError> {
    let header = &batch.header;
    let mut scratch = Vec::new();
    for record in records(batch, &mut scratch, DECOMPRESSED_BYTES_MAX)? {
        let record = record?;
        let (offset, timestamp) = (record.offset(header), record.timestamp(header));
        if offset >= offset_min && timestamp >= target_ms {
            return Ok(Some((offset, timestamp)));
        }
    }
    Ok(None)
}

/// The offset and timestamp of the record with the largest timestamp, the first of them if several have it; `None` for a
/// batch without records. With log-append time that is the first record (KIP-734).
///
/// # Errors
/// As [`records`].
pub fn offset_of_max_timestamp(batch: &Batch<'_>) -> Result<Option<(i64, i64)>, BatchError> {
    let header = &batch.header;
    let mut scratch = Vec::new();
    let mut best: Option<(i64, i64)> = None;
    for record in records(batch, &mut scratch, DECOMPRESSED_BYTES_MAX)? {
        let record = record?;
        let timestamp = record.timestamp(header);
        if best.is_none_or(|(_, largest)| timestamp > largest) {
            best = Some((record.offset(header), timestamp));
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::super::batch::{set_max_timestamp, stamp_log_append_time, BatchBuilder, TimestampPolicy};
    use super::*;

    const CHECKS: ProduceChecks = ProduceChecks {
        api_version: 9,
        max_message_bytes: 1 << 20,
        now_ms: 10_000,
        timestamps: TimestampPolicy::UNBOUNDED,
        keys_required: false,
    };

    fn stamps(stamps: &[i64], codec: Compression) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(100).compression(codec);
        for &t in stamps {
            builder.push(t, Some(b"k"), Some(b"v"), &[(b"h", None)]);
        }
        builder.build().unwrap()
    }

    /// A batch with the given bytes for records, whatever they are.
    fn raw(count: i32, body: &[u8]) -> Vec<u8> {
        let mut batch = BatchBuilder::new().build().unwrap();
        batch.extend_from_slice(body);
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        batch
    }

    fn read_all(bytes: &[u8]) -> Result<usize, BatchError> {
        let batch = Batch::parse(bytes)?;
        let mut scratch = Vec::new();
        let mut count = 0;
        for record in records(&batch, &mut scratch, 1 << 20)? {
            record?;
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn varints_round_trip_and_bad_ones_are_errors() {
        for value in [0, 1, -1, 63, 64, -64, -65, 300, i32::MAX, i32::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut rest = &out[..];
            assert_eq!(read_varint(&mut rest), Ok(value));
            assert!(rest.is_empty());
            let mut short = &out[..out.len() - 1];
            assert!(read_varint(&mut short).is_err());
        }
        for value in [0, -1, i64::MAX, i64::MIN, 1_700_000_000_000] {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(read_varlong(&mut &out[..]), Ok(value));
        }
        assert!(read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]).is_err());
        assert!(read_varint(&mut &[0x80; 20][..]).is_err());
        assert!(read_varlong(&mut &[0xff; 20][..]).is_err());
        let mut eleventh = [0x80u8; 11];
        eleventh[10] = 0;
        assert!(read_varlong(&mut &eleventh[..]).is_err());
        let mut overflow = [0x80u8; 10];
        overflow[9] = 2;
        assert!(read_varlong(&mut &overflow[..]).is_err());
    }

    #[test]
    fn a_known_batch_gives_its_records() {
        let bytes = crate::wire::batch::tests_known();
        let batch = Batch::parse(&bytes).unwrap();
        let mut scratch = Vec::new();
        let all: Vec<_> = records(&batch, &mut scratch, 0).unwrap().map(Result::unwrap).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].key, all[0].value), (Some(&b"k"[..]), Some(&b"v"[..])));
        let headers: Vec<_> = all[0].headers.collect();
        assert_eq!(headers, [(&b"h"[..], Some(&b"x"[..]))]);
        assert_eq!((all[1].key, all[1].value), (None, None));
        assert_eq!(all[1].headers.count(), 0);
        assert_eq!(all[1].offset(&batch.header), 6);
        assert_eq!(all[1].timestamp(&batch.header), 1010);
        assert!(scratch.is_empty());
    }

    #[test]
    fn malformed_records_are_typed_errors() {
        let good = [12, 0, 0, 0, 1, 1, 0];
        assert_eq!(read_all(&raw(1, &good)), Ok(1));
        for (count, body) in [
            (-1, &good[..]),
            (2, &good[..]),
            (i32::MAX, &good[..]),
            (1, &[12, 0, 0, 0, 1, 1, 0, 0]),
            (1, &[14, 0, 0, 0, 1, 1, 0, 0]),
            (1, &[10, 0, 0, 0, 1, 1, 0]),
            (1, &[1, 0, 0, 0, 1, 1, 0]),
            (1, &[0, 0, 0, 0, 1, 1, 0]),
            (1, &[3, 0, 0, 0, 1, 1, 0]),
            (1, &[12, 0, 0, 0, 3, 1, 0]),
            (1, &[12, 0, 0, 0, 1, 9, 0]),
            (1, &[12, 0, 0, 0, 1, 1, 1]),
            (1, &[12, 0, 0, 0, 1, 1, 2]),
            (1, &[16, 0, 0, 0, 1, 1, 2, 1, 1]),
            (1, &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0]),
            (1, &[0xff; 12]),
        ] {
            let got = read_all(&raw(count, body));
            assert!(matches!(got, Err(BatchError::Malformed(_))), "{count} {body:?}: {got:?}");
        }
    }

    #[test]
    fn facts_are_the_truth_of_the_records() {
        for codec in crate::wire::compress::runnable() {
            let mut bytes = stamps(&[50, 70, 70, 60], codec);
            // The head may say anything about timestamps.
            set_max_timestamp(&mut bytes, TimestampType::CreateTime, 5);
            let batch = Batch::parse(&bytes).unwrap();
            let facts = validate_records(&batch, &CHECKS, &mut Vec::new()).unwrap();
            assert_eq!((facts.count, facts.max_timestamp), (4, 70));
            assert_eq!(facts.max_timestamp_delta, 1);
            assert!(!facts.keyless);
        }
    }

    #[test]
    fn a_bad_timestamp_in_the_middle_is_found_and_named() {
        let bytes = stamps(&[9_000, 1, 9_000, 2], Compression::Lz4);
        let checks = ProduceChecks {
            timestamps: TimestampPolicy::CreateTime { before_max_ms: 1_000, after_max_ms: 0 },
            ..CHECKS
        };
        let batch = Batch::parse(&bytes).unwrap();
        assert!(crate::wire::batch::validate_produced(
            &{
                let mut zero_based = bytes.clone();
                crate::wire::batch::set_base_offset(&mut zero_based, 0);
                zero_based
            },
            &checks
        )
        .is_ok());
        let rejected = validate_records(&batch, &checks, &mut Vec::new()).unwrap_err();
        assert_eq!(rejected.kind, RejectedKind::InvalidTimestamp);
        let places: Vec<i32> = rejected.records.iter().map(|r| r.batch_index).collect();
        assert_eq!(places, [1, 3]);
    }

    #[test]
    fn a_compacted_topic_refuses_records_without_keys() {
        let mut builder = BatchBuilder::new();
        builder.push(1, Some(b"k"), None, &[]);
        for _ in 0..100 {
            builder.push(1, None, Some(b"v"), &[]);
        }
        let bytes = builder.build().unwrap();
        let batch = Batch::parse(&bytes).unwrap();
        let facts = validate_records(&batch, &CHECKS, &mut Vec::new()).unwrap();
        assert!(facts.keyless);
        let checks = ProduceChecks { keys_required: true, ..CHECKS };
        let rejected = validate_records(&batch, &checks, &mut Vec::new()).unwrap_err();
        assert_eq!(rejected.kind.code(), 87);
        assert_eq!(rejected.records.len(), RECORD_ERRORS_MAX);
        assert_eq!(rejected.records[0].batch_index, 1);
    }

    #[test]
    fn offsets_that_do_not_count_up_are_refused() {
        let mut builder = BatchBuilder::new();
        builder.push_at(0, 1, None, None, &[]);
        builder.push_at(2, 1, None, None, &[]);
        let bytes = builder.build().unwrap();
        let batch = Batch::parse(&bytes).unwrap();
        let rejected = validate_records(&batch, &CHECKS, &mut Vec::new()).unwrap_err();
        assert_eq!(rejected.kind, RejectedKind::InvalidRecord);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Zstandard is C code")]
    fn a_bomb_is_refused_as_too_large() {
        let mut builder = BatchBuilder::new().compression(Compression::Zstd);
        builder.push(1, None, Some(&vec![0; DECOMPRESSED_BYTES_MAX]), &[]);
        let bytes = builder.build().unwrap();
        assert!(bytes.len() < 100_000);
        let batch = Batch::parse(&bytes).unwrap();
        let mut scratch = Vec::new();
        let rejected = validate_records(&batch, &CHECKS, &mut scratch).unwrap_err();
        assert_eq!(rejected.kind, RejectedKind::MessageTooLarge);
        assert!(scratch.capacity() <= DECOMPRESSED_BYTES_MAX);
    }

    #[test]
    fn look_up_by_timestamp_is_exact() {
        for codec in crate::wire::compress::runnable() {
            let mut bytes = stamps(&[10, 40, 20, 40, 50, 50], codec);
            let at = |bytes: &[u8], t| first_at_or_after(&Batch::parse(bytes).unwrap(), t).unwrap();
            assert_eq!(at(&bytes, i64::MIN), Some((100, 10)));
            assert_eq!(at(&bytes, 10), Some((100, 10)));
            assert_eq!(at(&bytes, 11), Some((101, 40)));
            assert_eq!(at(&bytes, 41), Some((104, 50)));
            assert_eq!(at(&bytes, 51), None);
            let batch = Batch::parse(&bytes).unwrap();
            assert_eq!(first_at_or_after_from(&batch, 21, 102), Ok(Some((103, 40))));
            assert_eq!(offset_of_max_timestamp(&batch), Ok(Some((104, 50))));
            stamp_log_append_time(&mut bytes, 77);
            assert_eq!(at(&bytes, 60), Some((100, 77)));
            assert_eq!(at(&bytes, 78), None);
            let batch = Batch::parse(&bytes).unwrap();
            assert_eq!(offset_of_max_timestamp(&batch), Ok(Some((100, 77))));
        }
    }

    #[test]
    fn gaps_left_by_compaction_are_read() {
        let mut builder = BatchBuilder::new().base_offset(1000);
        builder.push_at(3, 10, Some(b"a"), None, &[]);
        builder.push_at(9, 20, Some(b"b"), None, &[]);
        let bytes = builder.build().unwrap();
        let batch = Batch::parse(&bytes).unwrap();
        assert_eq!(batch.header.last_offset(), 1009);
        assert_eq!(first_at_or_after(&batch, 11), Ok(Some((1009, 20))));
    }
}
