//! Owns making record batches of message format 2: for conversion of old formats, for transaction markers, and for tests.

use byteorder::{BigEndian, ByteOrder};

use super::batch::{
    write_crc, Batch, BatchError, ATTRIBUTES_AT, ATTR_CODEC, ATTR_CONTROL, ATTR_LOG_APPEND_TIME, ATTR_TRANSACTIONAL,
    BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, HEADER_BYTES, LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT, LOG_OVERHEAD, MAGIC_AT,
    MAX_TIMESTAMP_AT, NO_PRODUCER_ID, NO_TIMESTAMP, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RECORDS_COUNT_AT,
};
use super::compress::{self, CompressError, Compression, Target};
use super::record::{body_of, put_varint, put_varlong};

/// A record header to write: key and value.
pub type RecordHeader<'a> = (&'a [u8], Option<&'a [u8]>);

/// Collects records and makes one batch of them.
///
/// ```
/// use chronik::wire::batch::{BatchBuilder, Compression};
/// let mut batch = BatchBuilder::new().compression(Compression::Lz4);
/// batch.push(1_700_000_000_000, Some(b"key"), Some(b"value"), &[]);
/// let bytes = batch.build().unwrap();
/// assert!(chronik::wire::batch::verify_crc(&bytes));
/// ```
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: i64,
    leader_epoch: i32,
    compression: Compression,
    flags: i16,
    log_append_time: Option<i64>,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    last_offset_delta: i32,
    count: i32,
    body: Vec<u8>,
    record: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// An empty, uncompressed batch of a producer without an id, at base offset 0, with leader epoch -1 as clients send it.
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            base_offset: 0,
            leader_epoch: -1,
            compression: Compression::None,
            flags: 0,
            log_append_time: None,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            last_offset_delta: -1,
            count: 0,
            body: Vec::new(),
            record: Vec::new(),
        }
    }

    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    pub fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The identity of an idempotent producer and the sequence number of the first record.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Marks the batch as part of a transaction.
    pub fn transactional(mut self) -> Self {
        self.flags |= ATTR_TRANSACTIONAL;
        self
    }

    /// Marks the batch as a control batch, such as a transaction marker.
    pub fn control(mut self) -> Self {
        self.flags |= ATTR_CONTROL;
        self
    }

    /// Gives all records this log-append time.
    pub fn log_append_time(mut self, now_ms: i64) -> Self {
        self.log_append_time = Some(now_ms);
        self
    }

    /// Adds a record at the next offset. `timestamp` is milliseconds since 1970 or -1.
    pub fn push(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader<'_>]) {
        let next = self.last_offset_delta.saturating_add(1);
        self.push_at(next, timestamp, key, value, headers);
    }

    /// Adds a record at an offset relative to the base, as in batches that compaction left gaps in.
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.count = self.count.saturating_add(1);
        let record = &mut self.record;
        record.clear();
        record.push(0);
        put_varlong(record, timestamp.wrapping_sub(self.base_timestamp));
        put_varint(record, offset_delta);
        put_bytes(record, key);
        put_bytes(record, value);
        put_varint(record, headers.len() as i32);
        for (key, value) in headers {
            put_bytes(record, Some(key));
            put_bytes(record, *value);
        }
        put_varint(&mut self.body, record.len() as i32);
        self.body.extend_from_slice(record);
    }

    /// The records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// The bytes that the batch has before compression.
    pub fn uncompressed_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// Makes the batch, with its checksum.
    ///
    /// # Errors
    /// [`CompressError::TooLarge`] if the batch passes the 2 GiB of the format, [`CompressError::Failed`] from the codec.
    pub fn build(&self) -> Result<Vec<u8>, CompressError> {
        let mut out = vec![0; HEADER_BYTES];
        let attributes =
            self.flags | i16::from(self.compression.id()) | self.log_append_time.map_or(0, |_| ATTR_LOG_APPEND_TIME);
        BigEndian::write_i64(&mut out, self.base_offset);
        BigEndian::write_i32(&mut out[LEADER_EPOCH_AT..], self.leader_epoch);
        out[MAGIC_AT] = 2;
        BigEndian::write_i16(&mut out[ATTRIBUTES_AT..], attributes);
        BigEndian::write_i32(&mut out[LAST_OFFSET_DELTA_AT..], self.last_offset_delta);
        BigEndian::write_i64(&mut out[BASE_TIMESTAMP_AT..], self.base_timestamp);
        let max_timestamp = self.log_append_time.unwrap_or(self.max_timestamp);
        BigEndian::write_i64(&mut out[MAX_TIMESTAMP_AT..], max_timestamp);
        BigEndian::write_i64(&mut out[PRODUCER_ID_AT..], self.producer_id);
        BigEndian::write_i16(&mut out[PRODUCER_EPOCH_AT..], self.producer_epoch);
        BigEndian::write_i32(&mut out[BASE_SEQUENCE_AT..], self.base_sequence);
        BigEndian::write_i32(&mut out[RECORDS_COUNT_AT..], self.count);
        compress::compress(self.compression, 2, &self.body, &mut out)?;
        seal(out)
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

/// Writes length and checksum.
fn seal(mut batch: Vec<u8>) -> Result<Vec<u8>, CompressError> {
    let length = i32::try_from(batch.len() - LOG_OVERHEAD)
        .map_err(|_| CompressError::TooLarge { limit_bytes: i32::MAX as usize })?;
    BigEndian::write_i32(&mut batch[8..], length);
    write_crc(&mut batch);
    Ok(batch)
}

/// The same batch with another codec, for topics whose `compression.type` is not `producer`. All else stays: offsets,
/// timestamps, the producer's numbers.
///
/// # Errors
/// The batch does not decompress within `limit_bytes`, or the codec fails.
pub fn recompress(batch: &Batch<'_>, to: impl Into<Target>, limit_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let to = to.into();
    let mut scratch = Vec::new();
    let body = body_of(batch, &mut scratch, limit_bytes)?;
    let mut out = batch.bytes[..HEADER_BYTES].to_vec();
    let attributes = (batch.header.attributes & !ATTR_CODEC) | i16::from(to.codec.id());
    BigEndian::write_i16(&mut out[ATTRIBUTES_AT..], attributes);
    compress::compress(to, 2, body, &mut out)?;
    Ok(seal(out)?)
}
