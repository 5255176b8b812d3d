//! Owns record batches as the simulation makes and reads them, written against Kafka's format and not against our codec.
//!
//! Each batch carries a *tag*, a number never used again, in the values of its records, or in a header of those that have a
//! key, so that it can be followed from the request through the log and back to a consumer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};

use bytes::Bytes;

/// Producer id, epoch and the first record's sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence {
    pub producer: i64,
    pub epoch: i16,
    pub first: i32,
}

/// The end of a transaction, as it stands in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub producer: i64,
    pub epoch: i16,
    pub committed: bool,
}

/// The attribute by which a batch says whose time it carries.
const LOG_APPEND_TIME: u8 = 8;
const TRANSACTIONAL: u8 = 16;
const CONTROL: u8 = 32;
/// The attributes that name a codec, and Kafka's numbers of codecs: gzip, snappy, lz4, zstd.
const CODEC: u8 = 7;
pub const CODECS: [u8; 4] = [1, 2, 3, 4];

/// Where a batch's records begin.
const RECORDS: usize = 61;

/// What Java's clients put in front of snappy's blocks (the format of snappy-java), with its two versions.
const SNAPPY_JAVA: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// A record with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    pub offset: i64,
    pub timestamp: i64,
    pub key: u8,
    /// `None` says that the key is deleted.
    pub value: Option<Bytes>,
}

/// What a batch's bytes say.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub sequence: Option<Sequence>,
    /// Part of a transaction.
    pub transactional: bool,
    /// Not data, but the end of a transaction.
    pub marker: Option<Marker>,
    /// 0 of markers, and of batches in which compaction has left nothing.
    pub tag: u64,
    /// Each record's timestamp, ms.
    pub timestamps: Vec<i64>,
    /// The records that have keys, in their order.
    pub keyed: Vec<Keyed>,
    /// The whole batch.
    pub bytes: Bytes,
}

impl Batch {
    pub fn records(&self) -> i64 {
        self.last_offset - self.base_offset + 1
    }

    /// Whether the broker put its own time on the records.
    pub fn is_log_append_time(&self) -> bool {
        self.bytes[22] & LOG_APPEND_TIME != 0
    }

    /// Whether two are the same but for what the broker fills in: base offset and leader epoch, and with log-append time
    /// also checksum, attributes and largest timestamp.
    pub fn is_same_data(&self, stored: &Batch) -> bool {
        let (ours, theirs) = (&self.bytes, &stored.bytes);
        let same = |range: std::ops::Range<usize>| ours.get(range.clone()) == theirs.get(range);
        let whole = ours.len() == theirs.len() && same(8..12) && same(16..17) && same(23..35) && same(43..ours.len());
        whole && (stored.is_log_append_time() || (same(17..23) && same(35..43)))
    }
}

/// A batch with one record for each timestamp; every value is `value_bytes` of noise that follows from the tag.
pub fn build(tag: u64, sequence: Option<Sequence>, timestamps: &[i64], value_bytes: usize) -> Bytes {
    let mut records = Vec::new();
    for (n, timestamp) in timestamps.iter().enumerate() {
        let mut record = vec![0];
        put_varint(&mut record, timestamp - timestamps[0]);
        put_varint(&mut record, n as i64);
        put_varint(&mut record, -1);
        put_varint(&mut record, 8 + value_bytes as i64);
        record.extend_from_slice(&tag.to_be_bytes());
        put_noise(&mut record, tag, n, value_bytes);
        put_varint(&mut record, 0);
        put_varint(&mut records, record.len() as i64);
        records.extend_from_slice(&record);
    }
    around(sequence, timestamps, &records)
}

/// A batch with a record for each timestamp and key; those of which the key's flag is set delete it.
pub fn build_keyed(
    tag: u64,
    sequence: Option<Sequence>,
    timestamps: &[i64],
    keys: &[(u8, bool)],
    value_bytes: usize,
) -> Bytes {
    let mut records = Vec::new();
    for (n, (timestamp, (key, deletes))) in timestamps.iter().zip(keys).enumerate() {
        let mut record = vec![0];
        put_varint(&mut record, timestamp - timestamps[0]);
        put_varint(&mut record, n as i64);
        put_varint(&mut record, 1);
        record.push(*key);
        if *deletes {
            put_varint(&mut record, -1);
        } else {
            put_varint(&mut record, value_bytes as i64);
            put_noise(&mut record, tag, n, value_bytes);
        }
        put_varint(&mut record, 1);
        put_varint(&mut record, 1);
        record.push(TAG_HEADER);
        put_varint(&mut record, 8);
        record.extend_from_slice(&tag.to_be_bytes());
        put_varint(&mut records, record.len() as i64);
        records.extend_from_slice(&record);
    }
    around(sequence, timestamps, &records)
}

/// The name of the header that holds the tag of a record with a key.
const TAG_HEADER: u8 = b't';

fn put_noise(out: &mut Vec<u8>, tag: u64, n: usize, value_bytes: usize) {
    let noise = tag.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ n as u64;
    out.extend((0..value_bytes).map(|i| (noise >> (i % 8 * 8)) as u8 ^ (i >> 3) as u8));
}

/// The batch around its records.
fn around(sequence: Option<Sequence>, timestamps: &[i64], records: &[u8]) -> Bytes {
    let first_timestamp = timestamps[0];
    let mut tail = Vec::with_capacity(40 + records.len());
    tail.extend_from_slice(&0_i16.to_be_bytes());
    tail.extend_from_slice(&(timestamps.len() as i32 - 1).to_be_bytes());
    tail.extend_from_slice(&first_timestamp.to_be_bytes());
    tail.extend_from_slice(&timestamps.iter().copied().max().unwrap_or(-1).to_be_bytes());
    let sequence = sequence.unwrap_or(Sequence { producer: -1, epoch: -1, first: -1 });
    tail.extend_from_slice(&sequence.producer.to_be_bytes());
    tail.extend_from_slice(&sequence.epoch.to_be_bytes());
    tail.extend_from_slice(&sequence.first.to_be_bytes());
    tail.extend_from_slice(&(timestamps.len() as i32).to_be_bytes());
    tail.extend_from_slice(records);

    let mut batch = Vec::with_capacity(21 + tail.len());
    batch.extend_from_slice(&0_i64.to_be_bytes());
    batch.extend_from_slice(&(9 + tail.len() as i32).to_be_bytes());
    batch.extend_from_slice(&(-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend_from_slice(&crc32c::crc32c(&tail).to_be_bytes());
    batch.extend_from_slice(&tail);
    batch.into()
}

/// The same batch as part of a transaction.
pub fn transactional(batch: &Bytes) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[22] |= TRANSACTIONAL;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// The same batch with its records compressed.
pub fn compressed(batch: &Bytes, codec: u8) -> Bytes {
    let (head, plain) = batch.split_at(RECORDS);
    let mut bytes = head.to_vec();
    match codec {
        1 => {
            let mut gzip = flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::fast());
            gzip.write_all(plain).expect("memory takes everything");
            gzip.finish().expect("memory takes everything");
        }
        2 => {
            bytes.extend_from_slice(SNAPPY_JAVA);
            for block in plain.chunks(1000) {
                let packed = snap::raw::Encoder::new().compress_vec(block).expect("a small block");
                bytes.extend_from_slice(&(packed.len() as u32).to_be_bytes());
                bytes.extend_from_slice(&packed);
            }
        }
        3 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(&mut bytes);
            lz4.write_all(plain).expect("memory takes everything");
            lz4.finish().expect("memory takes everything");
        }
        _ => bytes.extend(zstd::encode_all(plain, 1).expect("memory takes everything")),
    }
    let len = (bytes.len() - 12) as u32;
    bytes[8..12].copy_from_slice(&len.to_be_bytes());
    bytes[22] |= codec;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// The codec of a batch, 0 for none.
pub fn codec(batch: &Bytes) -> u8 {
    batch[22] & CODEC
}

/// Batches whose records are remembered: after each crash the same ones are read again, and what the codecs set up for each of them
/// was a quarter of the simulation's time.
const UNPACKED_MAX: usize = 4096;

/// Codec and what it made, to the records.
type Unpacked = HashMap<(u8, Vec<u8>), Vec<u8>>;

thread_local! {
    static UNPACKED: RefCell<Unpacked> = RefCell::default();
}

/// Records out of their codec.
fn unpacked(codec: u8, packed: &[u8]) -> Result<Vec<u8>, String> {
    UNPACKED.with_borrow_mut(|known| {
        let key = (codec, packed.to_vec());
        if let Some(plain) = known.get(&key) {
            return Ok(plain.clone());
        }
        let plain = unpack(codec, packed)?;
        if known.len() == UNPACKED_MAX {
            known.clear();
        }
        known.insert(key, plain.clone());
        Ok(plain)
    })
}

fn unpack(codec: u8, packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    let done = match codec {
        1 => flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).map(|_| ()),
        2 => return unpacked_snappy(packed),
        3 => lz4_flex::frame::FrameDecoder::new(packed).read_to_end(&mut plain).map(|_| ()),
        4 => zstd::stream::copy_decode(packed, &mut plain),
        other => return Err(format!("codec {other}")),
    };
    done.map_err(|error| format!("records that cannot be unpacked by codec {codec}: {error}"))?;
    Ok(plain)
}

/// Snappy as Java's clients write it, and as all others do: one block without any frame.
fn unpacked_snappy(packed: &[u8]) -> Result<Vec<u8>, String> {
    let block = |bytes: &[u8]| snap::raw::Decoder::new().decompress_vec(bytes).map_err(|error| error.to_string());
    let Some(mut rest) = packed.strip_prefix(&SNAPPY_JAVA[..]) else { return block(packed) };
    let mut plain = Vec::new();
    while !rest.is_empty() {
        let len = i32_at(rest, 0)? as usize;
        plain.extend(block(rest.get(4..4 + len).ok_or("a block that ends too early")?)?);
        rest = &rest[4 + len..];
    }
    Ok(plain)
}

/// The end of a transaction that a control batch holds: its only record, with what Kafka puts into it.
fn marker(bytes: &[u8], producer: i64, epoch: i16) -> Result<(Marker, i64), String> {
    let mut at = RECORDS;
    let len = varint(bytes, &mut at)?;
    let end = at + usize::try_from(len).map_err(|_| "negative length")?;
    at += 1;
    let timestamp = varint(bytes, &mut at)?;
    let (offset, key_len) = (varint(bytes, &mut at)?, varint(bytes, &mut at)?);
    let key = bytes.get(at..at + 4).ok_or("a marker without its key")?.to_vec();
    at += 4;
    let value_len = varint(bytes, &mut at)?;
    if end != bytes.len() || (offset, key_len, value_len) != (0, 4, 6) || key[..3] != [0, 0, 0] || key[3] > 1 {
        return Err(format!("a control record that is no marker: {bytes:?}"));
    }
    Ok((Marker { producer, epoch, committed: key[3] == 1 }, timestamp))
}

/// All batches in some record data. A last one that is cut short is left out, as consumers do.
pub fn parse(data: &Bytes) -> Result<Vec<Batch>, String> {
    let mut batches = Vec::new();
    let mut at = 0;
    while data.len() - at >= 12 {
        let len = 12 + i32_at(data, at + 8)? as usize;
        if data.len() - at < len {
            break;
        }
        batches.push(parse_one(data.slice(at..at + len))?);
        at += len;
    }
    Ok(batches)
}

fn parse_one(bytes: Bytes) -> Result<Batch, String> {
    let magic = bytes.get(16).copied();
    if magic != Some(2) {
        return Err(format!("a batch of magic {magic:?}"));
    }
    if crc32c::crc32c(&bytes[21..]) != i32_at(&bytes, 17)? as u32 {
        return Err("a batch with a wrong CRC".to_string());
    }
    let base_offset = i64_at(&bytes, 0)?;
    let last_delta = i32_at(&bytes, 23)?;
    let first_timestamp = i64_at(&bytes, 27)?;
    let producer = i64_at(&bytes, 43)?;
    let epoch = i16::from_be_bytes(bytes[51..53].try_into().map_err(|_| "short batch")?);
    let sequence = Sequence { producer, epoch, first: i32_at(&bytes, 53)? };
    let count = i32_at(&bytes, 57)?;
    if count > last_delta + 1 || count < 0 {
        return Err(format!("{count} records up to delta {last_delta}"));
    }
    let (last_offset, transactional) = (base_offset + i64::from(last_delta), bytes[22] & TRANSACTIONAL != 0);
    if bytes[22] & CONTROL != 0 {
        // Compaction may empty the marker of a transaction of which nothing else is left.
        let found = if count == 0 { None } else { Some(marker(&bytes, producer, epoch)?) };
        let timestamps = found.iter().map(|(_, delta)| first_timestamp + delta).collect();
        let (marker, sequence, keyed, tag) = (found.map(|(marker, _)| marker), None, Vec::new(), 0);
        return Ok(Batch { base_offset, last_offset, sequence, transactional, marker, tag, timestamps, keyed, bytes });
    }
    let plain = match codec(&bytes) {
        0 => bytes.clone(),
        codec => [&bytes[..RECORDS], &unpacked(codec, &bytes[RECORDS..])?].concat().into(),
    };
    let mut at = RECORDS;
    let mut tag = 0;
    let mut timestamps = Vec::new();
    let mut keyed = Vec::new();
    let mut before = -1;
    for n in 0..count {
        let len = varint(&plain, &mut at)?;
        let end = at + usize::try_from(len).map_err(|_| "negative length")?;
        at += 1;
        let timestamp = first_timestamp + varint(&plain, &mut at)?;
        timestamps.push(timestamp);
        let delta = varint(&plain, &mut at)?;
        let of_record = match varint(&plain, &mut at)? {
            -1 if delta == i64::from(n) && count == last_delta + 1 => {
                varint(&plain, &mut at)?;
                i64_at(&plain, at)? as u64
            }
            1 if delta > before && delta <= i64::from(last_delta) => {
                let (key, value, tag) = keyed_record(&plain, &mut at)?;
                keyed.push(Keyed { offset: base_offset + delta, timestamp, key, value });
                tag
            }
            key => return Err(format!("a record that was not sent: offset {delta} after {before}, key of {key}")),
        };
        if n > 0 && of_record != tag {
            return Err(format!("records of {tag} and {of_record} in one batch"));
        }
        (tag, at, before) = (of_record, end, delta);
    }
    if at != plain.len() {
        return Err(format!("{} bytes after the last record", plain.len() - at));
    }
    if bytes[22] & LOG_APPEND_TIME != 0 {
        let append_time = i64_at(&bytes, 35)?;
        timestamps.fill(append_time);
        keyed.iter_mut().for_each(|record| record.timestamp = append_time);
    }
    let sequence = (producer >= 0).then_some(sequence);
    Ok(Batch { base_offset, last_offset, sequence, transactional, marker: None, tag, timestamps, keyed, bytes })
}

/// A record from its key on, of which the length has been read: key, value and tag.
fn keyed_record(bytes: &Bytes, at: &mut usize) -> Result<(u8, Option<Bytes>, u64), String> {
    let key = *bytes.get(*at).ok_or("a record that ends in its key")?;
    *at += 1;
    let value = match usize::try_from(varint(bytes, at)?) {
        Err(_) => None,
        Ok(len) if *at + len <= bytes.len() => {
            *at += len;
            Some(bytes.slice(*at - len..*at))
        }
        Ok(_) => return Err("a record that ends in its value".to_string()),
    };
    let (headers, name_len) = (varint(bytes, at)?, varint(bytes, at)?);
    let name = bytes.get(*at).copied();
    *at += 1;
    if (headers, name_len, name, varint(bytes, at)?) != (1, 1, Some(TAG_HEADER), 8) {
        return Err("a record whose headers were not sent".to_string());
    }
    Ok((key, value, i64_at(bytes, *at)? as u64))
}

fn i32_at(bytes: &[u8], at: usize) -> Result<i32, String> {
    let four = bytes.get(at..at + 4).ok_or("a batch that ends too early")?;
    Ok(i32::from_be_bytes(four.try_into().expect("four bytes")))
}

fn i64_at(bytes: &[u8], at: usize) -> Result<i64, String> {
    let eight = bytes.get(at..at + 8).ok_or("a batch that ends too early")?;
    Ok(i64::from_be_bytes(eight.try_into().expect("eight bytes")))
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<i64, String> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or("a record that ends too early")?;
        *at += 1;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err("a varint without an end".to_string())
}

#[test]
fn a_batch_reads_back_as_it_was_built() {
    let sequence = Some(Sequence { producer: 7, epoch: 1, first: 40 });
    let bytes = build(0xABCD, sequence, &[1000, 900, 2000], 50);
    let twice = Bytes::from([bytes.to_vec(), build(3, None, &[5], 0).to_vec(), vec![0; 11]].concat());
    let batches = parse(&twice).expect("whole");
    assert_eq!(batches.len(), 2);
    assert_eq!((batches[0].tag, batches[0].records(), batches[0].sequence), (0xABCD, 3, sequence));
    assert_eq!(batches[0].timestamps, [1000, 900, 2000]);
    assert!(batches[0].is_same_data(&batches[0]) && !batches[0].is_same_data(&batches[1]));
    let mut wrong = bytes.to_vec();
    wrong[70] ^= 1;
    assert!(parse(&wrong.into()).is_err());
}

#[test]
fn a_compressed_batch_says_the_same_as_the_plain_one() {
    let plain = build(0xABCD, None, &[1000, 900, 2000], 3000);
    let said = |bytes: &Bytes| {
        let batch = parse(bytes).expect("whole").pop().expect("one batch");
        (batch.tag, batch.timestamps, batch.last_offset)
    };
    for number in CODECS {
        let packed = compressed(&plain, number);
        assert_eq!((said(&packed), codec(&packed)), (said(&plain), number));
    }
}
