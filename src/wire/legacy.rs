//! Owns the message sets of Kafka 0.8 to 0.10 (message formats 0 and 1): reading them, converting them up to record batches
//! when old producers send them, and converting record batches down for old consumers.
//!
//! A message set is messages one after the other. A compressed one is a message whose value is a message set (a wrapper);
//! one level of that is allowed. The offsets inside a wrapper are absolute in format 0 and relative in format 1 (KIP-31),
//! timestamps came with format 1 (KIP-32). Disks never hold these formats, so all of this runs on a worker.

use byteorder::{BigEndian, ByteOrder};

use super::batch::{
    check_size, log_append_time_from_client, Batch, BatchBuilder, BatchError, ProduceChecks,
    Rejected, RejectedKind, TimestampPolicy, TimestampType, LOG_OVERHEAD, MAGIC_AT, NO_TIMESTAMP,
};
use super::compress::{self, Compression, DECOMPRESSED_BYTES_MAX};
use super::record::{records, RecordFaults};

pub use super::batch::magic_of;

/// CRC-32 as in IEEE 802.3, the checksum of these formats (record batches have CRC-32C); sixteen bytes at a time.
static CRC32: crc::Crc<u32, crc::Table<16>> =
    crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISO_HDLC);

/// The checksum covers a message from its magic byte to its end.
const CRC_AT: usize = 12;
const ATTRIBUTES_AT: usize = 17;
const BODY_AT: usize = 18;
/// The bytes that the length counts in the smallest message: checksum, magic, attributes, two lengths, and in format 1 the
/// timestamp.
const MESSAGE_BYTES_MIN: [usize; 2] = [14, 22];

const ATTR_CODEC: u8 = 0b111;
const ATTR_LOG_APPEND_TIME: u8 = 1 << 3;

/// More than a record of a record batch has besides key and value: length, attributes, deltas, lengths, no headers.
const RECORD_OVERHEAD_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 1;

/// One message as it stands in a set, its checksum found right.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    offset: i64,
    magic: i8,
    attributes: u8,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    /// The bytes of the whole message, offset and length included.
    bytes: usize,
}

impl Message<'_> {
    fn codec(&self) -> Result<Compression, BatchError> {
        let id = self.attributes & ATTR_CODEC;
        match Compression::from_id(id) {
            // zstd is younger than these formats, and no client of theirs could read it (KIP-110).
            Some(Compression::Zstd) | None => Err(BatchError::Codec(id)),
            Some(codec) => Ok(codec),
        }
    }

    fn timestamp_type(&self) -> TimestampType {
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
fn read_message<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>, BatchError> {
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
        return Err(BatchError::Malformed(
            "a message is longer than what is in it",
        ));
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
    let length = usize::try_from(length)
        .map_err(|_| BatchError::Malformed("a message has a negative length"))?;
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
fn check_inner(
    wrapper: &Message<'_>,
    limit_bytes: usize,
    scratch: &mut Vec<u8>,
) -> Result<i64, BatchError> {
    let value = wrapper
        .value
        .ok_or(BatchError::Malformed("a compressed message has no value"))?;
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
            return Err(BatchError::Malformed(
                "a message has another format than its wrapper",
            ));
        }
        if inner.attributes & ATTR_CODEC != 0 {
            return Err(BatchError::Malformed(
                "a compressed message stands inside a compressed message",
            ));
        }
        last_offset = Some(inner.offset);
    }
    last_offset.ok_or(BatchError::Malformed("a compressed message set is empty"))
}

/// Converts a produced message set to record batches of format 2, as Kafka does, with base offsets counting from 0.
///
/// The codec, keys, values and timestamps stay; format 0 has no timestamps, so its records get [`NO_TIMESTAMP`]. With log-append
/// time every batch is stamped. The offsets that the producer wrote mean nothing and are not looked at (some old clients
/// write wrong ones). Uncompressed messages become as few batches as `max.message.bytes` allows, where Kafka makes one and
/// refuses it if it is too large; a wrapper becomes one batch.
///
/// # Errors
/// [`Rejected`] as Kafka answers: CORRUPT_MESSAGE for a wrong checksum or a set that is cut off, INVALID_RECORD for mixed
/// formats, a wrapper beside other messages or inside another, or missing keys; INVALID_TIMESTAMP, MESSAGE_TOO_LARGE (also
/// for what decompresses to more than [`DECOMPRESSED_BYTES_MAX`]), UNSUPPORTED_COMPRESSION_TYPE.
/// An empty set is INVALID_RECORD.
pub fn convert_up(message_set: &[u8], checks: &ProduceChecks) -> Result<Vec<u8>, Rejected> {
    if checks.api_version >= 3 {
        return Err(Rejected::invalid(format!(
            "produce requests of version {} may hold record batches of magic 2 only",
            checks.api_version
        )));
    }
    let codec = check_shallow(message_set, checks)?;
    let mut converter = UpConverter {
        checks,
        codec,
        builder: new_builder(checks, codec, 0),
        next_offset: 0,
        faults: RecordFaults::default(),
        failed: None,
        out: Vec::with_capacity(message_set.len() + super::batch::HEADER_BYTES),
    };
    for_each_record(
        message_set,
        Tail::MustBeWhole,
        DECOMPRESSED_BYTES_MAX,
        |record| converter.push(&record),
    )?;
    converter.finish()
}

/// Walks over the messages of a set without looking into wrappers: the checks that come before decompression. Returns the
/// codec of the set.
fn check_shallow(message_set: &[u8], checks: &ProduceChecks) -> Result<Compression, Rejected> {
    let mut rest = message_set;
    let mut first: Option<Message<'_>> = None;
    let mut count = 0usize;
    let mut codec = Compression::None;
    while !rest.is_empty() {
        let message = read_message(&mut rest)?;
        check_size(message.bytes, checks)?;
        count += 1;
        let first = first.get_or_insert(message);
        if first.magic != message.magic {
            return Err(Rejected::invalid(format!(
                "a message of format {} follows one of format {}",
                message.magic, first.magic
            )));
        }
        if message.timestamp_type() == TimestampType::LogAppendTime {
            return Err(log_append_time_from_client());
        }
        match message.codec()? {
            Compression::None => {}
            wrapped => codec = wrapped,
        }
        if codec != Compression::None && count > 1 {
            return Err(Rejected::invalid(
                "a compressed message set stands beside other messages",
            ));
        }
    }
    if count == 0 {
        return Err(Rejected::invalid("the message set is empty"));
    }
    Ok(codec)
}

fn new_builder(checks: &ProduceChecks, codec: Compression, base_offset: i64) -> BatchBuilder {
    let builder = BatchBuilder::new()
        .compression(codec)
        .base_offset(base_offset);
    match checks.timestamps {
        TimestampPolicy::CreateTime { .. } => builder,
        TimestampPolicy::LogAppendTime => builder.log_append_time(checks.now_ms),
    }
}

/// Puts records into batches, and remembers what is wrong with them.
struct UpConverter<'a> {
    checks: &'a ProduceChecks,
    codec: Compression,
    builder: BatchBuilder,
    next_offset: i64,
    faults: RecordFaults,
    failed: Option<Rejected>,
    out: Vec<u8>,
}

impl UpConverter<'_> {
    fn push(&mut self, record: &LegacyRecord<'_>) {
        let index = i32::try_from(self.next_offset).unwrap_or(i32::MAX);
        self.faults
            .check(index, record.key.is_some(), record.timestamp, self.checks);
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let full = self.builder.uncompressed_bytes() + bytes + RECORD_OVERHEAD_MAX
            > self.checks.max_message_bytes;
        if full && self.codec == Compression::None && self.builder.count() > 0 {
            self.flush();
        }
        self.builder
            .push(record.timestamp, record.key, record.value, &[]);
        self.next_offset += 1;
    }

    fn flush(&mut self) {
        let fresh = new_builder(self.checks, self.codec, self.next_offset);
        let full = std::mem::replace(&mut self.builder, fresh);
        let batch = full
            .build()
            .map_err(|e| Rejected::from(BatchError::Compress(e)))
            .and_then(|batch| check_size(batch.len(), self.checks).map(|()| batch));
        match batch {
            Ok(batch) => self.out.extend_from_slice(&batch),
            Err(e) => self.failed = self.failed.take().or(Some(e)),
        }
    }

    fn finish(mut self) -> Result<Vec<u8>, Rejected> {
        self.faults.into_result()?;
        self.faults = RecordFaults::default();
        self.flush();
        match self.failed {
            Some(e) => Err(e),
            None => Ok(self.out),
        }
    }
}

/// Converts stored record batches to a message set of format 0 or 1 for an old consumer that fetches from `first_offset`.
///
/// As Kafka does it: transaction markers are left out, record headers are dropped, the codec stays, a compressed batch becomes
/// one wrapper (which may start before `first_offset`; consumers skip that), uncompressed records before `first_offset` are
/// left out. A batch that is cut off at the end ends the conversion. The answer is at most `max_bytes` long, except that
/// its first message is always whole. It is empty if all there was are markers; the caller then reads on behind them.
///
/// # Errors
/// For the first batch only, so that what comes before a bad one is still delivered: UNSUPPORTED_COMPRESSION_TYPE for zstd,
/// which no reader of these formats knows (KIP-110), UNSUPPORTED_FOR_MESSAGE_FORMAT for another `magic` than 0 and 1, and
/// what [`records`] finds.
pub fn convert_down(
    batches: &[u8],
    magic: i8,
    first_offset: i64,
    max_bytes: usize,
) -> Result<Vec<u8>, Rejected> {
    if !matches!(magic, 0 | 1) {
        return Err(Rejected::new(
            RejectedKind::UnsupportedForMessageFormat,
            format!("there is no message set of magic {magic}"),
        ));
    }
    let mut down = DownConverter {
        magic,
        first_offset,
        max_bytes,
        out: Vec::new(),
        scratch: Vec::new(),
        inner: Vec::new(),
    };
    for batch in super::batch::batches(batches) {
        let before = down.out.len();
        let done = match batch {
            Ok(batch) if batch.header.is_control() => continue,
            Ok(batch) => down.batch(&batch),
            Err(BatchError::Truncated) => break,
            Err(e) => Err(e.into()),
        };
        match done {
            Ok(More::Yes) => {}
            Ok(More::No) => break,
            Err(e) if before == 0 => return Err(e),
            Err(_) => {
                down.out.truncate(before);
                break;
            }
        }
    }
    Ok(down.out)
}

/// Whether there is room for more.
#[derive(PartialEq)]
enum More {
    Yes,
    No,
}

struct DownConverter {
    magic: i8,
    first_offset: i64,
    max_bytes: usize,
    out: Vec<u8>,
    scratch: Vec<u8>,
    inner: Vec<u8>,
}

/// The parts of a wrapper that are known only once its last record is.
struct Wrapper {
    codec: Compression,
    flags: u8,
    base_offset: i64,
    last_offset: i64,
    max_timestamp: i64,
}

impl DownConverter {
    /// Converts one batch. If that fails, what it wrote so far is of no use.
    fn batch(&mut self, batch: &Batch<'_>) -> Result<More, Rejected> {
        let header = &batch.header;
        let codec = header.compression();
        if codec == Some(Compression::Zstd) {
            return Err(Rejected::new(
                RejectedKind::UnsupportedCompressionType,
                "data compressed with zstd cannot be converted for a client this old",
            ));
        }
        let log_append = self.magic > 0 && header.timestamp_type() == TimestampType::LogAppendTime;
        let flags = if log_append { ATTR_LOG_APPEND_TIME } else { 0 };
        let mut scratch = std::mem::take(&mut self.scratch);
        let done = match codec {
            None | Some(Compression::None) => self.plain(batch, flags, &mut scratch),
            Some(codec) => self.wrapped(batch, codec, flags, &mut scratch),
        };
        self.scratch = scratch;
        done
    }

    fn plain(
        &mut self,
        batch: &Batch<'_>,
        flags: u8,
        scratch: &mut Vec<u8>,
    ) -> Result<More, Rejected> {
        for record in records(batch, scratch, DECOMPRESSED_BYTES_MAX)? {
            let record = record?;
            let offset = record.offset(&batch.header);
            if offset < self.first_offset {
                continue;
            }
            let at = self.out.len();
            let timestamp = record.timestamp(&batch.header);
            let (key, value) = (record.key, record.value);
            put_message(
                &mut self.out,
                self.magic,
                offset,
                flags,
                timestamp,
                key,
                value,
            );
            if at > 0 && self.out.len() > self.max_bytes {
                self.out.truncate(at);
                return Ok(More::No);
            }
        }
        Ok(self.more())
    }

    fn wrapped(
        &mut self,
        batch: &Batch<'_>,
        codec: Compression,
        flags: u8,
        scratch: &mut Vec<u8>,
    ) -> Result<More, Rejected> {
        let before = self.out.len();
        let mut wrapper: Option<Wrapper> = None;
        self.inner.clear();
        for record in records(batch, scratch, DECOMPRESSED_BYTES_MAX)? {
            let record = record?;
            let offset = record.offset(&batch.header);
            let timestamp = record.timestamp(&batch.header);
            let full = self.inner.len() >= DECOMPRESSED_BYTES_MAX;
            // Small records are larger in the old formats. A second wrapper keeps memory bounded then.
            if let Some(done) = wrapper.take_if(|_| full) {
                self.put_wrapper(&done)?;
                self.inner.clear();
            }
            let open = wrapper.get_or_insert(Wrapper {
                codec,
                flags,
                base_offset: offset,
                last_offset: offset,
                max_timestamp: NO_TIMESTAMP,
            });
            open.last_offset = offset;
            open.max_timestamp = open.max_timestamp.max(timestamp);
            let place = match self.magic {
                0 => offset,
                _ => offset.wrapping_sub(open.base_offset),
            };
            let (key, value) = (record.key, record.value);
            put_message(
                &mut self.inner,
                self.magic,
                place,
                flags,
                timestamp,
                key,
                value,
            );
        }
        if let Some(done) = wrapper {
            self.put_wrapper(&done)?;
        }
        if before > 0 && self.out.len() > self.max_bytes {
            self.out.truncate(before);
            return Ok(More::No);
        }
        Ok(self.more())
    }

    fn put_wrapper(&mut self, wrapper: &Wrapper) -> Result<(), Rejected> {
        let mut value = Vec::new();
        compress::compress(wrapper.codec, self.magic, &self.inner, &mut value)
            .map_err(|e| Rejected::from(BatchError::Compress(e)))?;
        put_message(
            &mut self.out,
            self.magic,
            wrapper.last_offset,
            wrapper.flags | wrapper.codec.id(),
            wrapper.max_timestamp,
            None,
            Some(&value),
        );
        Ok(())
    }

    fn more(&self) -> More {
        if self.out.len() < self.max_bytes {
            More::Yes
        } else {
            More::No
        }
    }
}

/// Appends one message.
fn put_message(
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
        MessageSetBuilder {
            magic: magic.clamp(0, 1),
            set: Vec::new(),
        }
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
        put_message(
            &mut out,
            self.magic,
            offset,
            codec.id(),
            timestamp,
            None,
            Some(&value),
        );
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{batches, stamp_log_append_time, verify_crc};
    use super::*;

    /// k=v at offset 3 in format 0, and a value v without key at offset 4 and time 1000 in format 1; the checksums were
    /// made with another implementation.
    const V0: [u8; 28] = [
        0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 16, 0x1f, 0xec, 0xd7, 0x0a, 0, 0, 0, 0, 0, 1, b'k', 0, 0,
        0, 1, b'v',
    ];
    const V1: [u8; 35] = [
        0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 23, 0x09, 0xb6, 0x6c, 0xaa, 1, 0, 0, 0, 0, 0, 0, 0, 3,
        0xe8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, b'v',
    ];

    const CHECKS: ProduceChecks = ProduceChecks {
        api_version: 2,
        max_message_bytes: 1 << 20,
        now_ms: 10_000,
        timestamps: TimestampPolicy::UNBOUNDED,
        keys_required: false,
    };

    type Owned = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

    fn read(set: &[u8], tail: Tail) -> Result<Vec<Owned>, BatchError> {
        let mut all = Vec::new();
        for_each_record(set, tail, 1 << 20, |r| {
            all.push((
                r.offset,
                r.timestamp,
                r.key.map(<[u8]>::to_vec),
                r.value.map(<[u8]>::to_vec),
            ));
        })?;
        Ok(all)
    }

    fn read_batches(bytes: &[u8]) -> Vec<Owned> {
        let mut all = Vec::new();
        for batch in batches(bytes) {
            let batch = batch.unwrap();
            assert!(verify_crc(batch.bytes));
            let mut scratch = Vec::new();
            for record in records(&batch, &mut scratch, 1 << 24).unwrap() {
                let r = record.unwrap();
                all.push((
                    r.offset(&batch.header),
                    r.timestamp(&batch.header),
                    r.key.map(<[u8]>::to_vec),
                    r.value.map(<[u8]>::to_vec),
                ));
            }
        }
        all
    }

    fn set(magic: i8) -> MessageSetBuilder {
        let mut set = MessageSetBuilder::new(magic);
        set.push(0, 500, Some(b"a"), Some(b"one"));
        set.push(1, 700, None, None);
        set.push(2, 600, Some(b""), Some(b""));
        set
    }

    fn refused(set: &[u8], checks: &ProduceChecks) -> RejectedKind {
        convert_up(set, checks).unwrap_err().kind
    }

    #[test]
    fn known_messages_are_read_and_written_byte_for_byte() {
        let set = [&V0[..], &V1[..]].concat();
        let want = [
            (3, -1, Some(b"k".to_vec()), Some(b"v".to_vec())),
            (4, 1000, None, Some(b"v".to_vec())),
        ];
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
                assert!(
                    matches!(got, Err(BatchError::Crc | BatchError::Magic(_))),
                    "{at} {bit}: {got:?}"
                );
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
            assert_eq!(refused(set, &CHECKS), RejectedKind::CorruptMessage);
        }
    }

    #[test]
    fn wrappers_have_absolute_offsets_in_format_0_and_relative_ones_in_format_1() {
        let mut v0 = MessageSetBuilder::new(0);
        v0.push(40, 0, None, Some(b"a"));
        v0.push(43, 0, None, Some(b"b"));
        let v0 = v0.build_wrapped(Compression::Snappy, 43, 0).unwrap();
        let offsets: Vec<i64> = read(&v0, Tail::MustBeWhole)
            .unwrap()
            .iter()
            .map(|r| r.0)
            .collect();
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
        assert_eq!(refused(&v1, &CHECKS), RejectedKind::InvalidTimestamp);
    }

    #[test]
    fn conversion_up_keeps_all_but_offsets() {
        for magic in [0, 1] {
            for codec in Compression::ALL.into_iter().take(4) {
                let set = match codec {
                    Compression::None => set(magic).build(),
                    // The wrapper's offset is nonsense, as some clients send it.
                    codec => set(magic).build_wrapped(codec, 0, 700).unwrap(),
                };
                let up = convert_up(&set, &CHECKS).unwrap();
                let header = batches(&up).next().unwrap().unwrap().header;
                assert_eq!(header.compression(), Some(codec));
                assert_eq!((header.base_offset, header.producer_id), (0, -1));
                let time = |t| if magic == 0 { -1 } else { t };
                assert_eq!(header.max_timestamp, time(700));
                let want = [
                    (0, time(500), Some(b"a".to_vec()), Some(b"one".to_vec())),
                    (1, time(700), None, None),
                    (2, time(600), Some(vec![]), Some(vec![])),
                ];
                assert_eq!(read_batches(&up), want, "{magic} {codec:?}");
                let later = ProduceChecks {
                    api_version: 9,
                    ..CHECKS
                };
                assert_eq!(refused(&set, &later), RejectedKind::InvalidRecord);
                super::super::batch::validate_produced(&up, &later).unwrap();
            }
        }
    }

    #[test]
    fn conversion_up_stamps_log_append_time() {
        let checks = ProduceChecks {
            timestamps: TimestampPolicy::LogAppendTime,
            ..CHECKS
        };
        let up = convert_up(&set(1).build(), &checks).unwrap();
        assert!(read_batches(&up).iter().all(|r| r.1 == 10_000));
    }

    #[test]
    fn a_large_uncompressed_set_becomes_several_batches() {
        let mut set = MessageSetBuilder::new(1);
        for i in 0..100 {
            set.push(0, i, None, Some(&[7; 100]));
        }
        let checks = ProduceChecks {
            max_message_bytes: 1000,
            ..CHECKS
        };
        let up = convert_up(&set.build(), &checks).unwrap();
        assert!(batches(&up).count() > 10);
        assert!(batches(&up).all(|b| b.unwrap().bytes.len() <= 1000));
        let all = read_batches(&up);
        assert!(all
            .iter()
            .enumerate()
            .all(|(i, r)| r.0 == i as i64 && r.1 == i as i64));
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn conversion_up_refuses_what_kafka_refuses() {
        use RejectedKind::*;
        assert_eq!(refused(&[], &CHECKS), InvalidRecord);
        let mut bad = V1;
        bad[34] ^= 1;
        assert_eq!(refused(&bad, &CHECKS), CorruptMessage);
        let mixed = [&V0[..], &V1[..]].concat();
        assert_eq!(refused(&mixed, &CHECKS), InvalidRecord);
        let wrapper = set(1).build_wrapped(Compression::Lz4, 2, 0).unwrap();
        let beside = [&wrapper[..], &V1[..]].concat();
        assert_eq!(refused(&beside, &CHECKS), InvalidRecord);
        let small = ProduceChecks {
            max_message_bytes: 34,
            ..CHECKS
        };
        assert_eq!(refused(&V1, &small), MessageTooLarge);
        let keys = ProduceChecks {
            keys_required: true,
            ..CHECKS
        };
        assert_eq!(refused(&V1, &keys), InvalidRecord);
        assert!(convert_up(&V0, &keys).is_ok());
        let strict = ProduceChecks {
            timestamps: TimestampPolicy::CreateTime {
                before_max_ms: 8_999,
                after_max_ms: 0,
            },
            ..CHECKS
        };
        assert_eq!(refused(&V1, &strict), InvalidTimestamp);
        assert!(convert_up(&V0, &strict).is_ok());
        let zstd = set(1).build_wrapped(Compression::Zstd, 2, 0).unwrap();
        assert_eq!(refused(&zstd, &CHECKS), UnsupportedCompressionType);
    }

    fn wrap_bytes(codec: Compression, inner: &[u8]) -> Vec<u8> {
        let mut value = Vec::new();
        compress::compress(codec, 1, inner, &mut value).unwrap();
        let mut out = Vec::new();
        put_message(&mut out, 1, 0, codec.id(), 0, None, Some(&value));
        out
    }

    #[test]
    fn strange_wrappers_are_refused() {
        let nested = set(1).build_wrapped(Compression::Gzip, 0, 0).unwrap();
        let mut bad_inner = V1;
        bad_inner[34] ^= 1;
        for (inner, kind) in [
            (&nested[..], RejectedKind::InvalidRecord),
            (&V0[..], RejectedKind::InvalidRecord),
            (&[][..], RejectedKind::InvalidRecord),
            (&V1[..30], RejectedKind::InvalidRecord),
            (&bad_inner[..], RejectedKind::CorruptMessage),
        ] {
            assert_eq!(
                refused(&wrap_bytes(Compression::Gzip, inner), &CHECKS),
                kind
            );
        }
        let mut null = Vec::new();
        put_message(&mut null, 1, 0, 1, 0, None, None);
        assert_eq!(refused(&null, &CHECKS), RejectedKind::InvalidRecord);
        let mut garbage = Vec::new();
        put_message(&mut garbage, 1, 0, 3, 0, None, Some(b"not lz4"));
        assert_eq!(refused(&garbage, &CHECKS), RejectedKind::InvalidRecord);
        let bomb = wrap_bytes(Compression::Gzip, &vec![0; DECOMPRESSED_BYTES_MAX + 1]);
        assert_eq!(refused(&bomb, &CHECKS), RejectedKind::MessageTooLarge);
    }

    fn stored(codec: Compression) -> Vec<u8> {
        let mut first = BatchBuilder::new().base_offset(1000).compression(codec);
        first.push(500, Some(b"a"), Some(b"one"), &[(b"h", Some(b"x"))]);
        first.push(700, None, None, &[]);
        // A gap, as compaction leaves it.
        first.push_at(5, 600, Some(b""), Some(b""), &[]);
        let mut marker = BatchBuilder::new()
            .base_offset(1006)
            .control()
            .transactional()
            .producer(1, 0, -1);
        marker.push(800, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
        let mut last = BatchBuilder::new().base_offset(1007).compression(codec);
        last.push(900, None, Some(b"end"), &[]);
        [
            first.build().unwrap(),
            marker.build().unwrap(),
            last.build().unwrap(),
        ]
        .concat()
    }

    #[test]
    fn conversion_down_keeps_offsets_times_and_codec_and_skips_markers() {
        for magic in [0, 1] {
            for codec in Compression::ALL.into_iter().take(4) {
                let down = convert_down(&stored(codec), magic, 0, usize::MAX).unwrap();
                assert_eq!(magic_of(&down), Some(magic));
                assert_eq!(down[ATTRIBUTES_AT] & ATTR_CODEC, codec.id());
                let time = |t| if magic == 0 { -1 } else { t };
                let want = [
                    (1000, time(500), Some(b"a".to_vec()), Some(b"one".to_vec())),
                    (1001, time(700), None, None),
                    (1005, time(600), Some(vec![]), Some(vec![])),
                    (1007, time(900), None, Some(b"end".to_vec())),
                ];
                assert_eq!(read(&down, Tail::MustBeWhole).unwrap(), want);
            }
        }
    }

    #[test]
    fn conversion_down_starts_where_the_consumer_asks_unless_compressed() {
        let plain = convert_down(&stored(Compression::None), 1, 1001, usize::MAX).unwrap();
        assert_eq!(read(&plain, Tail::MustBeWhole).unwrap()[0].0, 1001);
        let packed = convert_down(&stored(Compression::Lz4), 0, 1001, usize::MAX).unwrap();
        assert_eq!(read(&packed, Tail::MustBeWhole).unwrap()[0].0, 1000);
    }

    #[test]
    fn conversion_down_keeps_to_max_bytes_but_gives_the_first_message_whole() {
        for codec in [Compression::None, Compression::Snappy] {
            let batches = stored(codec);
            let all = convert_down(&batches, 1, 0, usize::MAX).unwrap();
            let mut sizes = std::collections::BTreeSet::new();
            for max in 0..all.len() + 10 {
                let some = convert_down(&batches, 1, 0, max).unwrap();
                assert!(all.starts_with(&some));
                let records = read(&some, Tail::MustBeWhole).unwrap().len();
                assert!(records > 0);
                sizes.insert(some.len());
                assert!(some.len() <= max || some.len() == *sizes.first().unwrap());
            }
            assert_eq!(sizes.last(), Some(&all.len()));
        }
    }

    #[test]
    fn conversion_down_keeps_log_append_time_in_format_1() {
        for codec in [Compression::None, Compression::Gzip] {
            let mut batch = BatchBuilder::new().compression(codec);
            batch.push(1, None, Some(b"a"), &[]);
            batch.push(2, None, Some(b"b"), &[]);
            let mut batch = batch.build().unwrap();
            stamp_log_append_time(&mut batch, 44);
            let down = convert_down(&batch, 1, 0, usize::MAX).unwrap();
            let mut seen = 0;
            for_each_record(&down, Tail::MustBeWhole, 1 << 20, |r| {
                assert_eq!(r.timestamp_type, TimestampType::LogAppendTime);
                assert_eq!(r.timestamp, 44);
                seen += 1;
            })
            .unwrap();
            assert_eq!(seen, 2);
        }
    }

    #[test]
    fn zstd_cannot_go_down_and_does_not_hide_what_is_before_it() {
        let zstd = stored(Compression::Zstd);
        let rejected = convert_down(&zstd, 1, 0, usize::MAX).unwrap_err();
        assert_eq!(rejected.kind.code(), 76);
        let both = [stored(Compression::None), zstd].concat();
        let down = convert_down(&both, 1, 0, usize::MAX).unwrap();
        assert_eq!(read(&down, Tail::MustBeWhole).unwrap().len(), 4);
        let odd = convert_down(&both, 2, 0, usize::MAX).unwrap_err();
        assert_eq!(odd.kind.code(), 43);
    }

    #[test]
    fn only_markers_give_an_empty_answer_and_a_cut_batch_ends_it() {
        let mut marker = BatchBuilder::new().control();
        marker.push(1, None, None, &[]);
        let marker = marker.build().unwrap();
        assert_eq!(convert_down(&marker, 1, 0, 100), Ok(vec![]));
        let all = stored(Compression::None);
        let cut = &all[..all.len() - 1];
        let down = convert_down(cut, 1, 0, usize::MAX).unwrap();
        assert_eq!(read(&down, Tail::MustBeWhole).unwrap().len(), 3);
    }
}
