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
