//! Owns making a record batch anew with fewer records, as compaction does (KIP-534): offsets, timestamps and the producer's
//! numbers stay what they were.

use byteorder::{BigEndian, ByteOrder};

use super::batch::{
    write_crc, BatchError, BatchHeader, TimestampType, ATTRIBUTES_AT, ATTR_CODEC, ATTR_CONTROL, ATTR_DELETE_HORIZON,
    ATTR_LOG_APPEND_TIME, ATTR_TRANSACTIONAL, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, CRC_AT, HEADER_BYTES,
    LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT, LOG_OVERHEAD, MAGIC_AT, MAX_TIMESTAMP_AT, NO_TIMESTAMP, PRODUCER_EPOCH_AT,
    PRODUCER_ID_AT, RECORDS_COUNT_AT,
};
use super::compress::{self, CompressError, Compression};
use super::record::{put_varint, put_varlong, Record};

/// A batch that is made from some of the records of another one, which gives its head.
#[derive(Debug)]
pub struct Rewrite<'a> {
    header: BatchHeader,
    base_timestamp: i64,
    delete_horizon_ms: Option<i64>,
    max_timestamp: i64,
    count: i32,
    limit_bytes: usize,
    body: &'a mut Vec<u8>,
}

impl<'a> Rewrite<'a> {
    /// Begins without records. `first_timestamp` is that of the first record that will be kept; a delete horizon stands in
    /// its place. `body` is memory to work in, which will hold at most about `limit_bytes`.
    pub fn new(
        header: &BatchHeader,
        first_timestamp: i64,
        delete_horizon_ms: Option<i64>,
        limit_bytes: usize,
        body: &'a mut Vec<u8>,
    ) -> Rewrite<'a> {
        body.clear();
        let base_timestamp = delete_horizon_ms.unwrap_or(first_timestamp);
        let max_timestamp = NO_TIMESTAMP;
        Rewrite { header: *header, base_timestamp, delete_horizon_ms, max_timestamp, count: 0, limit_bytes, body }
    }

    /// Adds a record of the old batch. Records come in the order in which they stand there.
    ///
    /// # Errors
    /// [`CompressError::TooLarge`] when the records together pass the limit.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), CompressError> {
        let timestamp = record.timestamp(&self.header);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let length = 1
            + varlong_bytes(timestamp_delta)
            + varlong_bytes(i64::from(record.offset_delta))
            + bytes_bytes(record.key)
            + bytes_bytes(record.value)
            + varlong_bytes(record.headers.size_hint().0 as i64)
            + record.headers.map(|(key, value)| bytes_bytes(Some(key)) + bytes_bytes(value)).sum::<usize>();
        if self.body.len() + length + 5 > self.limit_bytes {
            return Err(CompressError::TooLarge { limit_bytes: self.limit_bytes });
        }
        put_varint(self.body, length as i32);
        self.body.push(record.attributes as u8);
        put_varlong(self.body, timestamp_delta);
        put_varint(self.body, record.offset_delta);
        put_bytes(self.body, record.key);
        put_bytes(self.body, record.value);
        put_varint(self.body, record.headers.size_hint().0 as i32);
        for (key, value) in record.headers {
            put_bytes(self.body, Some(key));
            put_bytes(self.body, value);
        }
        Ok(())
    }

    /// Writes the batch, with the codec that it had and a new checksum, into `out`, which is cleared first.
    ///
    /// # Errors
    /// From the codec, and for a number that is no codec.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), BatchError> {
        let header = &self.header;
        let codec = header.compression().ok_or(BatchError::Codec((header.attributes & ATTR_CODEC) as u8))?;
        let max_timestamp = match header.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::CreateTime => self.max_timestamp,
        };
        let horizon = self.delete_horizon_ms.map_or(0, |_| ATTR_DELETE_HORIZON);
        let attributes = flags(header) | i16::from(codec.id()) | horizon;
        write_head(header, attributes, (self.base_timestamp, max_timestamp), self.count, out);
        compress::compress(codec, 2, self.body, out)?;
        seal(out)
    }
}

/// Writes the batch without any record into `out`, which is cleared first: it still tells its offsets, and the producer's
/// sequence numbers.
pub fn write_empty(header: &BatchHeader, out: &mut Vec<u8>) {
    let attributes = flags(header) | i16::from(Compression::None.id());
    write_head(header, attributes, (NO_TIMESTAMP, header.max_timestamp), 0, out);
    BigEndian::write_i32(&mut out[8..], (HEADER_BYTES - LOG_OVERHEAD) as i32);
    write_crc(out);
}

/// What the attributes say apart from codec and delete horizon.
fn flags(header: &BatchHeader) -> i16 {
    header.attributes & (ATTR_LOG_APPEND_TIME | ATTR_TRANSACTIONAL | ATTR_CONTROL)
}

/// Writes all of a head but length and checksum. `timestamps` are the base and the largest.
fn write_head(header: &BatchHeader, attributes: i16, timestamps: (i64, i64), count: i32, out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
    BigEndian::write_i64(out, header.base_offset);
    BigEndian::write_i32(&mut out[LEADER_EPOCH_AT..], header.leader_epoch);
    out[MAGIC_AT] = 2;
    BigEndian::write_u32(&mut out[CRC_AT..], 0);
    BigEndian::write_i16(&mut out[ATTRIBUTES_AT..], attributes);
    BigEndian::write_i32(&mut out[LAST_OFFSET_DELTA_AT..], header.last_offset_delta);
    BigEndian::write_i64(&mut out[BASE_TIMESTAMP_AT..], timestamps.0);
    BigEndian::write_i64(&mut out[MAX_TIMESTAMP_AT..], timestamps.1);
    BigEndian::write_i64(&mut out[PRODUCER_ID_AT..], header.producer_id);
    BigEndian::write_i16(&mut out[PRODUCER_EPOCH_AT..], header.producer_epoch);
    BigEndian::write_i32(&mut out[BASE_SEQUENCE_AT..], header.base_sequence);
    BigEndian::write_i32(&mut out[RECORDS_COUNT_AT..], count);
}

fn seal(batch: &mut [u8]) -> Result<(), BatchError> {
    let too_large = CompressError::TooLarge { limit_bytes: i32::MAX as usize };
    let length = i32::try_from(batch.len() - LOG_OVERHEAD).map_err(|_| too_large)?;
    BigEndian::write_i32(&mut batch[8..], length);
    write_crc(batch);
    Ok(())
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

/// The bytes that [`put_varlong`] writes.
fn varlong_bytes(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}

/// The bytes that [`put_bytes`] writes.
fn bytes_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varlong_bytes(bytes.len() as i64) + bytes.len())
}

#[cfg(test)]
mod tests {
    use super::super::batch::{records, verify_crc, Batch, BatchBuilder, DECOMPRESSED_BYTES_MAX};
    use super::*;

    /// Four records with offsets 100, 101, 103 and 109, of which the second has no value.
    fn batch(codec: Compression) -> Vec<u8> {
        let mut builder =
            BatchBuilder::new().base_offset(100).leader_epoch(7).producer(77, 3, 40).transactional().compression(codec);
        builder.push_at(0, 5_000, Some(b"a"), Some(b"1"), &[(b"h", Some(b"x")), (b"i", None)]);
        builder.push_at(1, 4_000, Some(b"b"), None, &[]);
        builder.push_at(3, 9_000, Some(b"c"), Some(&[9; 300]), &[]);
        builder.push_at(9, 6_000, None, Some(b""), &[]);
        builder.build().unwrap()
    }

    fn rewrite(bytes: &[u8], keep: &[usize], horizon: Option<i64>) -> Vec<u8> {
        let (mut scratch, mut body, mut out) = (Vec::new(), Vec::new(), Vec::new());
        let batch = Batch::parse(bytes).unwrap();
        let iter = records(&batch, &mut scratch, DECOMPRESSED_BYTES_MAX).unwrap();
        let kept: Vec<_> = iter.map(Result::unwrap).enumerate().filter(|(i, _)| keep.contains(i)).collect();
        let first = kept[0].1.timestamp(&batch.header);
        let mut rewrite = Rewrite::new(&batch.header, first, horizon, DECOMPRESSED_BYTES_MAX, &mut body);
        kept.iter().for_each(|(_, record)| rewrite.push(record).unwrap());
        rewrite.finish(&mut out).unwrap();
        out
    }

    type Told = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

    /// Offset, timestamp, key, value and number of headers of every record.
    fn told(bytes: &[u8]) -> Vec<Told> {
        let batch = Batch::parse(bytes).unwrap();
        let mut scratch = Vec::new();
        let records = records(&batch, &mut scratch, DECOMPRESSED_BYTES_MAX).unwrap().map(Result::unwrap);
        let tell = |r: Record<'_>| {
            let (offset, timestamp) = (r.offset(&batch.header), r.timestamp(&batch.header));
            (offset, timestamp, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec), r.headers.count())
        };
        records.map(tell).collect()
    }

    #[test]
    fn all_records_kept_make_the_same_batch() {
        for codec in crate::wire::compress::runnable() {
            let old = batch(codec);
            assert_eq!(rewrite(&old, &[0, 1, 2, 3], None), old, "{codec:?}");
        }
    }

    #[test]
    fn records_that_stay_keep_offset_and_timestamp() {
        for codec in crate::wire::compress::runnable() {
            for horizon in [None, Some(1_800_000_000_000)] {
                let old = batch(codec);
                let new = rewrite(&old, &[1, 3], horizon);
                assert!(verify_crc(&new));
                let (before, after) = (told(&old), told(&new));
                assert_eq!(after, [before[1].clone(), before[3].clone()]);
                let (old, new) = (BatchHeader::parse(&old).unwrap(), BatchHeader::parse(&new).unwrap());
                assert_eq!(new.delete_horizon_ms(), horizon);
                assert_eq!((new.max_timestamp, new.records_count), (6_000, 2));
                let rest = BatchHeader {
                    crc: old.crc,
                    batch_length: old.batch_length,
                    attributes: old.attributes,
                    base_timestamp: old.base_timestamp,
                    max_timestamp: old.max_timestamp,
                    records_count: old.records_count,
                    ..new
                };
                assert_eq!(rest, old);
                assert!(new.is_transactional() && new.compression() == Some(codec));
            }
        }
    }

    #[test]
    fn the_log_append_time_of_a_batch_stays() {
        let mut old = batch(Compression::Lz4);
        super::super::batch::stamp_log_append_time(&mut old, 77_000);
        let new = rewrite(&old, &[0, 1], Some(99_000));
        assert_eq!(told(&new), told(&old)[..2]);
        assert_eq!(BatchHeader::parse(&new).unwrap().max_timestamp, 77_000);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Zstandard is C code")]
    fn an_empty_batch_keeps_offsets_and_sequences() {
        let old = rewrite(&batch(Compression::Zstd), &[1], Some(99_000));
        let mut new = vec![1, 2, 3];
        write_empty(&BatchHeader::parse(&old).unwrap(), &mut new);
        assert!(verify_crc(&new) && told(&new).is_empty());
        let header = Batch::parse(&new).unwrap().header;
        assert_eq!((header.base_offset, header.last_offset(), header.leader_epoch), (100, 109, 7));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (77, 3, 40));
        assert_eq!((header.last_sequence(), header.records_count, header.max_timestamp), (49, 0, 4_000));
        assert_eq!((header.compression(), header.delete_horizon_ms()), (Some(Compression::None), None));
        assert!(header.is_transactional() && new.len() == HEADER_BYTES);
    }

    #[test]
    fn records_that_pass_the_limit_are_refused() {
        let old = batch(Compression::None);
        let batch = Batch::parse(&old).unwrap();
        let (mut scratch, mut body) = (Vec::new(), Vec::new());
        let record = records(&batch, &mut scratch, 1000).unwrap().nth(2).unwrap().unwrap();
        let mut rewrite = Rewrite::new(&batch.header, 0, None, 200, &mut body);
        assert_eq!(rewrite.push(&record), Err(CompressError::TooLarge { limit_bytes: 200 }));
    }

    #[test]
    fn lengths_of_numbers_are_those_that_are_written() {
        for value in [0, -1, 1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(varlong_bytes(value), out.len(), "{value}");
        }
    }
}
