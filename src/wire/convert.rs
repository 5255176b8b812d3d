//! Owns the conversion between message sets of formats 0 and 1 and record batches: up when old producers send them, down for
//! old consumers.
//!
//! Disks hold record batches only, so this runs on a worker, for old clients.

use super::batch::{
    check_size, log_append_time_from_client, Batch, BatchBuilder, BatchError, ProduceChecks, Rejected, RejectedKind,
    TimestampPolicy, TimestampType, HEADER_BYTES, NO_TIMESTAMP,
};
use super::compress::{self, Compression, DECOMPRESSED_BYTES_MAX};
use super::legacy::{for_each_record, put_message, read_message, LegacyRecord, Message, Tail, ATTR_LOG_APPEND_TIME};
use super::record::{records, RecordFaults};

/// More than a record of a record batch has besides key and value: length, attributes, deltas, lengths, no headers.
const RECORD_OVERHEAD_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 1;

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
        out: Vec::with_capacity(message_set.len() + HEADER_BYTES),
    };
    for_each_record(message_set, Tail::MustBeWhole, DECOMPRESSED_BYTES_MAX, |record| converter.push(&record))?;
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
            return Err(Rejected::invalid("a compressed message set stands beside other messages"));
        }
    }
    if count == 0 {
        return Err(Rejected::invalid("the message set is empty"));
    }
    Ok(codec)
}

fn new_builder(checks: &ProduceChecks, codec: Compression, base_offset: i64) -> BatchBuilder {
    let builder = BatchBuilder::new().compression(codec).base_offset(base_offset);
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
        self.faults.check(index, record.key.is_some(), record.timestamp, self.checks);
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let full = self.builder.uncompressed_bytes() + bytes + RECORD_OVERHEAD_MAX > self.checks.max_message_bytes;
        if full && self.codec == Compression::None && self.builder.count() > 0 {
            self.flush();
        }
        self.builder.push(record.timestamp, record.key, record.value, &[]);
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
pub fn convert_down(batches: &[u8], magic: i8, first_offset: i64, max_bytes: usize) -> Result<Vec<u8>, Rejected> {
    if !matches!(magic, 0 | 1) {
        return Err(Rejected::new(
            RejectedKind::UnsupportedForMessageFormat,
            format!("there is no message set of magic {magic}"),
        ));
    }
    let mut down =
        DownConverter { magic, first_offset, max_bytes, out: Vec::new(), scratch: Vec::new(), inner: Vec::new() };
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

    fn plain(&mut self, batch: &Batch<'_>, flags: u8, scratch: &mut Vec<u8>) -> Result<More, Rejected> {
        for record in records(batch, scratch, DECOMPRESSED_BYTES_MAX)? {
            let record = record?;
            let offset = record.offset(&batch.header);
            if offset < self.first_offset {
                continue;
            }
            let at = self.out.len();
            let timestamp = record.timestamp(&batch.header);
            let (key, value) = (record.key, record.value);
            put_message(&mut self.out, self.magic, offset, flags, timestamp, key, value);
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
            put_message(&mut self.inner, self.magic, place, flags, timestamp, key, value);
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

#[cfg(test)]
mod tests {
    use super::super::batch::{batches, stamp_log_append_time, verify_crc};
    use super::super::legacy::{magic_of, MessageSetBuilder};
    use super::*;

    const ATTRIBUTES_AT: usize = 17;
    const ATTR_CODEC: u8 = 0b111;

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
            all.push((r.offset, r.timestamp, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec)));
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

    /// k=v in format 0, without a timestamp.
    fn v0() -> Vec<u8> {
        let mut set = MessageSetBuilder::new(0);
        set.push(3, 0, Some(b"k"), Some(b"v"));
        set.build()
    }

    /// A value without key in format 1, at time 1000.
    fn v1() -> Vec<u8> {
        let mut set = MessageSetBuilder::new(1);
        set.push(4, 1000, None, Some(b"v"));
        set.build()
    }

    #[test]
    fn a_cut_off_message_is_an_error_in_a_produce() {
        let set = [v0(), v0()].concat();
        for cut in v0().len() + 1..set.len() {
            assert_eq!(refused(&set[..cut], &CHECKS), RejectedKind::CorruptMessage);
        }
    }

    #[test]
    fn log_append_time_is_not_the_clients_to_set() {
        let mut set = Vec::new();
        put_message(&mut set, 1, 0, ATTR_LOG_APPEND_TIME, 5, None, None);
        assert_eq!(refused(&set, &CHECKS), RejectedKind::InvalidTimestamp);
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
                let later = ProduceChecks { api_version: 9, ..CHECKS };
                assert_eq!(refused(&set, &later), RejectedKind::InvalidRecord);
                super::super::batch::validate_produced(&up, &later).unwrap();
            }
        }
    }

    #[test]
    fn conversion_up_stamps_log_append_time() {
        let checks = ProduceChecks { timestamps: TimestampPolicy::LogAppendTime, ..CHECKS };
        let up = convert_up(&set(1).build(), &checks).unwrap();
        assert!(read_batches(&up).iter().all(|r| r.1 == 10_000));
    }

    #[test]
    fn a_large_uncompressed_set_becomes_several_batches() {
        let mut set = MessageSetBuilder::new(1);
        for i in 0..100 {
            set.push(0, i, None, Some(&[7; 100]));
        }
        let checks = ProduceChecks { max_message_bytes: 1000, ..CHECKS };
        let up = convert_up(&set.build(), &checks).unwrap();
        assert!(batches(&up).count() > 10);
        assert!(batches(&up).all(|b| b.unwrap().bytes.len() <= 1000));
        let all = read_batches(&up);
        assert!(all.iter().enumerate().all(|(i, r)| r.0 == i as i64 && r.1 == i as i64));
        assert_eq!(all.len(), 100);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Zstandard is C code")]
    fn conversion_up_refuses_what_kafka_refuses() {
        use RejectedKind::*;
        assert_eq!(refused(&[], &CHECKS), InvalidRecord);
        let mut bad = v1();
        bad[34] ^= 1;
        assert_eq!(refused(&bad, &CHECKS), CorruptMessage);
        let mixed = [v0(), v1()].concat();
        assert_eq!(refused(&mixed, &CHECKS), InvalidRecord);
        let wrapper = set(1).build_wrapped(Compression::Lz4, 2, 0).unwrap();
        let beside = [wrapper, v1()].concat();
        assert_eq!(refused(&beside, &CHECKS), InvalidRecord);
        let small = ProduceChecks { max_message_bytes: 34, ..CHECKS };
        assert_eq!(refused(&v1(), &small), MessageTooLarge);
        let keys = ProduceChecks { keys_required: true, ..CHECKS };
        assert_eq!(refused(&v1(), &keys), InvalidRecord);
        assert!(convert_up(&v0(), &keys).is_ok());
        let strict = ProduceChecks {
            timestamps: TimestampPolicy::CreateTime { before_max_ms: 8_999, after_max_ms: 0 },
            ..CHECKS
        };
        assert_eq!(refused(&v1(), &strict), InvalidTimestamp);
        assert!(convert_up(&v0(), &strict).is_ok());
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
    #[cfg_attr(miri, ignore = "megabytes take Miri minutes")]
    fn strange_wrappers_are_refused() {
        let nested = set(1).build_wrapped(Compression::Gzip, 0, 0).unwrap();
        let mut bad_inner = v1();
        bad_inner[34] ^= 1;
        for (inner, kind) in [
            (&nested[..], RejectedKind::InvalidRecord),
            (&v0()[..], RejectedKind::InvalidRecord),
            (&[][..], RejectedKind::InvalidRecord),
            (&v1()[..30], RejectedKind::InvalidRecord),
            (&bad_inner[..], RejectedKind::CorruptMessage),
        ] {
            assert_eq!(refused(&wrap_bytes(Compression::Gzip, inner), &CHECKS), kind);
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
        let mut marker = BatchBuilder::new().base_offset(1006).control().transactional().producer(1, 0, -1);
        marker.push(800, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
        let mut last = BatchBuilder::new().base_offset(1007).compression(codec);
        last.push(900, None, Some(b"end"), &[]);
        [first.build().unwrap(), marker.build().unwrap(), last.build().unwrap()].concat()
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
    #[cfg_attr(miri, ignore = "Zstandard is C code")]
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
