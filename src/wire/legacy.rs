//! Owns the message sets of Kafka 0.8 to 0.10 (message formats 0 and 1): reading and writing them. [`super::convert`]
//! converts between them and record batches; it is re-exported, so that callers need this one path.
//!
//! A message set is messages one after the other. A compressed one is a message whose value is a message set (a wrapper);
//! one level of that is allowed. The offsets inside a wrapper are absolute in format 0 and relative in format 1 (KIP-31),
//! timestamps came with format 1 (KIP-32). Disks never hold these formats, so all of this runs on a worker.

use byteorder::{BigEndian, ByteOrder};

use super::batch::{BatchError, TimestampType, LOG_OVERHEAD, MAGIC_AT, NO_TIMESTAMP};
use super::compress::{self, Compression};

pub use super::batch::magic_of;
pub use super::convert::{convert_down, convert_up};

/// CRC-32 as in IEEE 802.3, the checksum of these formats (record batches have CRC-32C); sixteen bytes at a time.
static CRC32: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISO_HDLC);

/// The checksum covers a message from its magic byte to its end.
const CRC_AT: usize = 12;
const ATTRIBUTES_AT: usize = 17;
const BODY_AT: usize = 18;
/// The bytes that the length counts in the smallest message: checksum, magic, attributes, two lengths, and in format 1 the
/// timestamp.
const MESSAGE_BYTES_MIN: [usize; 2] = [14, 22];

const ATTR_CODEC: u8 = 0b111;
pub(super) const ATTR_LOG_APPEND_TIME: u8 = 1 << 3;

/// One message as it stands in a set, its checksum found right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) offset: i64,
    pub(super) magic: i8,
    pub(super) attributes: u8,
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    /// The bytes of the whole message, offset and length included.
    pub(super) bytes: usize,
}

impl Message<'_> {
    pub(super) fn codec(&self) -> Result<Compression, BatchError> {
        let id = self.attributes & ATTR_CODEC;
        match Compression::from_id(id) {
            // zstd is younger than these formats, and no client of theirs could read it (KIP-110).
            Some(Compression::Zstd) | None => Err(BatchError::Codec(id)),
            Some(codec) => Ok(codec),
        }
    }

    pub(super) fn timestamp_type(&self) -> TimestampType {
        if self.magic > 0 && self.attributes & ATTR_LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }
}

/// One record of a message set, wherever it stood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LegacyRecord<'a> {
    pub offset: i64,
    /// Milliseconds since 1970, or [`NO_TIMESTAMP`] in format 0.
    pub timestamp: i64,
    pub timestamp_type: TimestampType,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// Takes the message that starts `rest`.
pub(super) fn read_message<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>, BatchError> {
    let bytes: &'a [u8] = rest;
    if bytes.len() < LOG_OVERHEAD {
        return Err(BatchError::Truncated);
    }
    let length = BigEndian::read_i32(&bytes[8..]);
    let size = usize::try_from(length).map_err(|_| BatchError::Length(length))?;
    if size < MESSAGE_BYTES_MIN[0] {
        return Err(BatchError::Length(length));
    }
    let Some(entry) = bytes.get(..LOG_OVERHEAD + size) else {
        return Err(BatchError::Truncated);
    };
    let magic = entry[MAGIC_AT] as i8;
    if !matches!(magic, 0 | 1) {
        return Err(BatchError::Magic(magic));
    }
    if size < MESSAGE_BYTES_MIN[magic as usize] {
        return Err(BatchError::Length(length));
    }
    if CRC32.checksum(&entry[MAGIC_AT..]) != BigEndian::read_u32(&entry[CRC_AT..]) {
        return Err(BatchError::Crc);
    }
    let mut body = &entry[BODY_AT..];
    let mut timestamp = NO_TIMESTAMP;
    if magic == 1 {
        timestamp = BigEndian::read_i64(body);
        body = &body[8..];
    }
    let key = take_bytes(&mut body)?;
    let value = take_bytes(&mut body)?;
    if !body.is_empty() {
        return Err(BatchError::Malformed("a message is longer than what is in it"));
    }
    *rest = &bytes[entry.len()..];
    Ok(Message {
        offset: BigEndian::read_i64(entry),
        magic,
        attributes: entry[ATTRIBUTES_AT],
        timestamp,
        key,
        value,
        bytes: entry.len(),
    })
}

fn take_bytes<'a>(body: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BatchError> {
    let bytes: &'a [u8] = body;
    if bytes.len() < 4 {
        return Err(BatchError::Malformed("a message ends inside a length"));
    }
    let (length, rest) = bytes.split_at(4);
    let length = BigEndian::read_i32(length);
    if length == -1 {
        *body = rest;
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| BatchError::Malformed("a message has a negative length"))?;
    if length > rest.len() {
        return Err(BatchError::Malformed("a length passes the message's end"));
    }
    let (taken, rest) = rest.split_at(length);
    *body = rest;
    Ok(Some(taken))
}

/// Whether the last message of a set may be cut off, as a broker may do to it in an old fetch response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    MayBeCut,
    MustBeWhole,
}

/// Calls `each` for every record of the set, those inside wrappers included, with its real offset. A wrapper may decompress
/// to `limit_bytes`.
///
/// # Errors
/// [`BatchError`] at the first message that is not right; `each` has seen what came before it.
pub fn for_each_record(
    message_set: &[u8],
    tail: Tail,
    limit_bytes: usize,
    mut each: impl FnMut(LegacyRecord<'_>),
) -> Result<(), BatchError> {
    let mut rest = message_set;
    let mut scratch = Vec::new();
    while !rest.is_empty() {
        let message = match read_message(&mut rest) {
            Err(BatchError::Truncated) if tail == Tail::MayBeCut => return Ok(()),
            message => message?,
        };
        if message.codec()? == Compression::None {
            each(LegacyRecord {
                offset: message.offset,
                timestamp: message.timestamp,
                timestamp_type: message.timestamp_type(),
                key: message.key,
                value: message.value,
            });
        } else {
            open_wrapper(&message, limit_bytes, &mut scratch, &mut each)?;
        }
    }
    Ok(())
}

/// Calls `each` for the records inside a wrapper. The inner set is walked over twice, because in format 1 the offsets hang
/// on the last of them.
fn open_wrapper(
    wrapper: &Message<'_>,
    limit_bytes: usize,
    scratch: &mut Vec<u8>,
    each: &mut impl FnMut(LegacyRecord<'_>),
) -> Result<(), BatchError> {
    let last_offset = check_inner(wrapper, limit_bytes, scratch)?;
    let base_offset = match wrapper.magic {
        0 => 0,
        _ => wrapper.offset.wrapping_sub(last_offset),
    };
    let timestamp_type = wrapper.timestamp_type();
    let mut rest = scratch.as_slice();
    while !rest.is_empty() {
        let inner = read_message(&mut rest)?;
        each(LegacyRecord {
            offset: base_offset.wrapping_add(inner.offset),
            timestamp: match timestamp_type {
                TimestampType::CreateTime => inner.timestamp,
                TimestampType::LogAppendTime => wrapper.timestamp,
            },
            timestamp_type,
            key: inner.key,
            value: inner.value,
        });
    }
    Ok(())
}

/// Decompresses a wrapper into `scratch`, checks every message in it, and returns the offset that the last one carries.
fn check_inner(wrapper: &Message<'_>, limit_bytes: usize, scratch: &mut Vec<u8>) -> Result<i64, BatchError> {
    let value = wrapper.value.ok_or(BatchError::Malformed("a compressed message has no value"))?;
    compress::decompress(wrapper.codec()?, wrapper.magic, value, limit_bytes, scratch)?;
    let mut rest = scratch.as_slice();
    let mut last_offset = None;
    while !rest.is_empty() {
        let inner = read_message(&mut rest).map_err(|e| match e {
            // The outer checksum was right, so this is how the producer made it.
            BatchError::Truncated | BatchError::Length(_) | BatchError::Magic(_) => {
                BatchError::Malformed("a compressed message set does not parse")
            }
            e => e,
        })?;
        if inner.magic != wrapper.magic {
            return Err(BatchError::Malformed("a message has another format than its wrapper"));
        }
        if inner.attributes & ATTR_CODEC != 0 {
            return Err(BatchError::Malformed("a compressed message stands inside a compressed message"));
        }
        last_offset = Some(inner.offset);
    }
    last_offset.ok_or(BatchError::Malformed("a compressed message set is empty"))
}

/// Appends one message.
pub(super) fn put_message(
    out: &mut Vec<u8>,
    magic: i8,
    offset: i64,
    attributes: u8,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) {
    let at = out.len();
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[magic as u8, attributes]);
    if magic > 0 {
        out.extend_from_slice(&timestamp.to_be_bytes());
    }
    for bytes in [key, value] {
        match bytes {
            Some(bytes) => {
                out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        }
    }
    let length = (out.len() - at - LOG_OVERHEAD) as i32;
    BigEndian::write_i32(&mut out[at + 8..], length);
    let crc = CRC32.checksum(&out[at + MAGIC_AT..]);
    BigEndian::write_u32(&mut out[at + CRC_AT..], crc);
}

/// Writes a message set by hand: what an old producer would send. For tests and simulation.
#[derive(Clone, Debug, Default)]
pub struct MessageSetBuilder {
    magic: i8,
    set: Vec<u8>,
}

impl MessageSetBuilder {
    /// An empty set of format `magic`, which is 0 or 1.
    pub fn new(magic: i8) -> MessageSetBuilder {
        MessageSetBuilder { magic: magic.clamp(0, 1), set: Vec::new() }
    }

    /// Adds a message. Format 0 drops the timestamp.
    pub fn push(&mut self, offset: i64, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        put_message(&mut self.set, self.magic, offset, 0, timestamp, key, value);
    }

    /// The messages one after the other.
    pub fn build(self) -> Vec<u8> {
        self.set
    }

    /// All messages inside one wrapper with this offset and timestamp.
    ///
    /// # Errors
    /// The codec fails.
    pub fn build_wrapped(
        self,
        codec: Compression,
        offset: i64,
        timestamp: i64,
    ) -> Result<Vec<u8>, compress::CompressError> {
        let mut value = Vec::new();
        compress::compress(codec, self.magic, &self.set, &mut value)?;
        let mut out = Vec::new();
        put_message(&mut out, self.magic, offset, codec.id(), timestamp, None, Some(&value));
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// k=v at offset 3 in format 0, and a value v without key at offset 4 and time 1000 in format 1; the checksums were
    /// made with another implementation.
    const V0: [u8; 28] =
        [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 16, 0x1f, 0xec, 0xd7, 0x0a, 0, 0, 0, 0, 0, 1, b'k', 0, 0, 0, 1, b'v'];
    const V1: [u8; 35] = [
        0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 23, 0x09, 0xb6, 0x6c, 0xaa, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0xff, 0xff, 0xff,
        0xff, 0, 0, 0, 1, b'v',
    ];

    type Owned = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

    fn read(set: &[u8], tail: Tail) -> Result<Vec<Owned>, BatchError> {
        let mut all = Vec::new();
        for_each_record(set, tail, 1 << 20, |r| {
            all.push((r.offset, r.timestamp, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec)));
        })?;
        Ok(all)
    }

    #[test]
    fn known_messages_are_read_and_written_byte_for_byte() {
        let set = [&V0[..], &V1[..]].concat();
        let want = [(3, -1, Some(b"k".to_vec()), Some(b"v".to_vec())), (4, 1000, None, Some(b"v".to_vec()))];
        assert_eq!(read(&set, Tail::MustBeWhole).unwrap(), want);
        let mut v0 = MessageSetBuilder::new(0);
        v0.push(3, 99, Some(b"k"), Some(b"v"));
        assert_eq!(v0.build(), V0);
        let mut v1 = MessageSetBuilder::new(1);
        v1.push(4, 1000, None, Some(b"v"));
        assert_eq!(v1.build(), V1);
    }

    #[test]
    fn every_flipped_bit_behind_the_length_is_noticed() {
        for at in CRC_AT..V1.len() {
            for bit in 0..8 {
                let mut bad = V1;
                bad[at] ^= 1 << bit;
                let got = read(&bad, Tail::MustBeWhole);
                assert!(matches!(got, Err(BatchError::Crc | BatchError::Magic(_))), "{at} {bit}: {got:?}");
            }
        }
    }

    #[test]
    fn a_cut_off_message_is_fine_in_a_fetch_and_an_error_in_a_produce() {
        let set = [&V0[..], &V1[..]].concat();
        for cut in V0.len() + 1..set.len() {
            let set = &set[..cut];
            assert_eq!(read(set, Tail::MayBeCut).unwrap().len(), 1);
            assert_eq!(read(set, Tail::MustBeWhole), Err(BatchError::Truncated));
        }
    }

    #[test]
    fn wrappers_have_absolute_offsets_in_format_0_and_relative_ones_in_format_1() {
        let mut v0 = MessageSetBuilder::new(0);
        v0.push(40, 0, None, Some(b"a"));
        v0.push(43, 0, None, Some(b"b"));
        let v0 = v0.build_wrapped(Compression::Snappy, 43, 0).unwrap();
        let offsets: Vec<i64> = read(&v0, Tail::MustBeWhole).unwrap().iter().map(|r| r.0).collect();
        assert_eq!(offsets, [40, 43]);
        let mut v1 = MessageSetBuilder::new(1);
        v1.push(0, 5, None, Some(b"a"));
        v1.push(3, 9, None, Some(b"b"));
        let mut v1 = v1.build_wrapped(Compression::Gzip, 43, 9).unwrap();
        let times = |set: &[u8]| -> Vec<(i64, i64)> {
            let all = read(set, Tail::MustBeWhole).unwrap();
            all.iter().map(|r| (r.0, r.1)).collect()
        };
        assert_eq!(times(&v1), [(40, 5), (43, 9)]);
        v1[ATTRIBUTES_AT] |= ATTR_LOG_APPEND_TIME;
        let crc = CRC32.checksum(&v1[MAGIC_AT..]);
        BigEndian::write_u32(&mut v1[CRC_AT..], crc);
        assert_eq!(times(&v1), [(40, 9), (43, 9)]);
    }
}
