//! Owns what a checkpoint holds: a snapshot of all state as of the end of one group.
//!
//! It is taken at a moment when nothing is being written or gathered, so that what is appended and what is durable are the
//! same. Under load that moment is made: while a checkpoint is due no new request is let in, which lasts for the groups
//! that are on their way.

use super::log::{PartitionLog, SegmentRange};
use super::logical::LogicalSegment;
use super::metalog;
use super::producers::table::Chunk;
use super::producers::{AppendedBatch, LastBatches, ProducerState};
use super::topics;
use super::txn::partition::AbortedTxn;
use super::{Broker, CheckpointJob, Effect, Now};
use crate::wal::{MetaEntry, PartitionId, SegmentId};
use crate::wire::macros::message;
use crate::wire::{DecodeError, Reader, Uuid, Wire, Writer};

/// Version of the layout below; older ones are read. 1 added transactions, 2 packs, logical segments and how far partitions
/// are compacted.
const VERSION: i16 = 2;

/// Producers of one partition that are written while everybody waits; more of them are left to who writes the checkpoint.
const PRODUCERS_AT_ONCE_MAX: usize = 64;

/// Where checkpointing stands.
#[derive(Debug, Default)]
pub struct Progress {
    wanted: bool,
    writing: bool,
}

impl Progress {
    /// Asks for a checkpoint as soon as there can be one.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether a snapshot should be taken as soon as nothing is on its way to the disk.
    pub fn is_due(&self) -> bool {
        self.wanted && !self.writing
    }

    /// The one under way was written or has failed.
    pub fn done(&mut self) {
        self.writing = false;
    }

    /// Nothing is wanted or under way.
    pub fn is_idle(&self) -> bool {
        !self.wanted && !self.writing
    }
}

message! {
    /// What stands behind the living entries and the partitions.
    struct Rest {
        last_pack: i64 [2..],
        segments: Vec<SegmentState> [2..],
    }
    /// How many runs were written to a segment.
    struct SegmentState {
        segment: i64 [2..],
        runs: i64 [2..],
    }
    /// A living entry of ChronikMetaLog.
    struct EntryState<'a> {
        table: i8 [0..],
        scope: &'a [u8] [0..],
        key: &'a [u8] [0..],
        value: &'a [u8] [0..],
    }
    struct PartitionState {
        topic: Uuid [0..],
        partition: i32 [0..],
        next_offset: i64 [0..],
        epochs: Vec<EpochState> [0..],
        ranges: Vec<RangeState> [0..],
        producers: Vec<ProducerEntry> [0..],
        aborted: Vec<AbortedState> [1..],
        segments: Vec<LogicalState> [2..],
        first_dirty: i64 [2..],
    }
    struct EpochState {
        epoch: i32 [0..],
        start_offset: i64 [0..],
    }
    struct RangeState {
        segment: i64 [0..],
        base_offset: i64 [0..],
        last_offset: i64 [0..],
        max_timestamp: i64 [0..],
        bytes: i64 [0..],
    }
    struct LogicalState {
        base_offset: i64 [2..],
        bytes: i64 [2..],
        first_timestamp: i64 [2..],
        max_timestamp: i64 [2..],
        modified_ms: i64 [2..],
    }
    struct ProducerEntry {
        producer_id: i64 [0..],
        epoch: i16 [0..],
        last_append_ms: i64 [0..],
        batches: Vec<BatchState> [0..],
        txn_first_offset: i64 [1..] = -1,
        coordinator_epoch: i32 [1..] = -1,
    }
    struct AbortedState {
        producer_id: i64 [1..],
        first_offset: i64 [1..],
        last_offset: i64 [1..],
        stable_offset: i64 [1..],
    }
    struct BatchState {
        first_sequence: i32 [0..],
        last_sequence: i32 [0..],
        base_offset: i64 [0..],
        append_time_ms: i64 [0..],
    }
}

impl Broker {
    /// Takes a snapshot if one is due and everything appended is durable.
    pub(super) fn checkpoint_if_due(&mut self, now: Now) {
        if !self.checkpoint.is_due() || self.in_flight.is_some() || !self.gather.is_empty() {
            return;
        }
        let expired_ms = now.wall_ms.saturating_sub(self.settings.config.producer_id_expiration_ms);
        self.topics.each_log_mut(|log| log.producers.expire(expired_ms));
        self.checkpoint = Progress { wanted: false, writing: true };
        self.checkpoint_taken(now);
        let (seq, position, state) = (self.durable, self.position, self.freeze(self.settings.metadata_in_log));
        self.effects.push_back(Effect::Checkpoint(CheckpointJob { seq, position, state }));
    }

    /// All living entries of ChronikMetaLog.
    pub fn meta_snapshot(&self) -> Vec<MetaEntry> {
        let mut entries = vec![self.producer_ids.entry(), metalog::lossy_entry(self.lossy)];
        entries.extend(self.broker_configs.entries());
        entries.extend(self.features.entries());
        entries.extend(self.resource_configs.entries());
        entries.extend(self.scram.entries());
        for topic in self.topics.iter() {
            entries.push(topics::topic_entry(topic.id, &topic.name, topic.partitions.len(), &topic.configs));
            let moved = topic.partitions.iter().map(|partition| &partition.log).filter(|log| log.start_offset > 0);
            entries.extend(moved.map(|log| topics::log_start_entry(log.id, Some(log.start_offset))));
        }
        self.groups.snapshot(&mut entries);
        self.share.snapshot(&mut entries);
        self.txns.snapshot(&mut entries);
        entries.extend(self.tidying.entries());
        entries.extend(self.tiering.entries());
        entries
    }

    /// The bytes of a checkpoint of the state as it is now.
    pub fn snapshot(&self, with_metadata: bool) -> Vec<u8> {
        self.freeze(with_metadata).into_bytes()
    }

    fn freeze(&self, with_metadata: bool) -> Frozen {
        let entries = if with_metadata { self.meta_snapshot() } else { Vec::new() };
        let logs = self.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| &partition.log);
        let segments = self.segments.runs();
        freeze(&entries, logs, self.tidying.last_switched(), segments)
    }
}

/// A snapshot that does not change any more, and is not altogether written yet: everybody waits while it is taken, and there may be
/// hundreds of thousands of producers.
#[derive(Clone, Debug)]
pub struct Frozen {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Written(Vec<u8>),
    Producers(Vec<Chunk>),
}

impl Frozen {
    /// The bytes of the checkpoint.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut pieces = self.pieces.into_iter();
        let Some(Piece::Written(first)) = pieces.next() else { return Vec::new() };
        let mut writer = Writer::behind(first, VERSION, true);
        for piece in pieces {
            match piece {
                Piece::Written(bytes) => writer.raw(&bytes),
                Piece::Producers(chunks) => write_producers(&mut writer, &chunks),
            }
        }
        writer.into_encoded().bytes
    }
}

/// Freezes living entries, partitions, the last pack that is known, and the runs in each segment.
pub(super) fn freeze<'a>(
    entries: &[MetaEntry],
    logs: impl Iterator<Item = &'a PartitionLog>,
    last_pack: u64,
    segments: impl Iterator<Item = (SegmentId, u64)>,
) -> Frozen {
    let (mut pieces, mut writer) = (Vec::new(), Writer::new(VERSION, true));
    writer.i16(VERSION);
    let living: Vec<&MetaEntry> = entries.iter().filter(|entry| entry.value.is_some()).collect();
    each(&mut writer, living.into_iter(), |writer, entry| entry_state(entry).write(writer));
    let logs: Vec<&PartitionLog> = logs.collect();
    each(&mut writer, logs.into_iter(), |writer, log| write_partition(writer, &mut pieces, log));
    let segments = segments.map(|(id, runs)| SegmentState { segment: id.raw() as i64, runs: runs as i64 });
    Rest { last_pack: last_pack as i64, segments: segments.collect() }.write(&mut writer);
    pieces.push(Piece::Written(writer.into_encoded().bytes));
    Frozen { pieces }
}

/// An array, without a copy of its elements.
fn each<T>(writer: &mut Writer, elements: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut Writer, T)) {
    writer.len(Some(elements.len()));
    elements.for_each(|element| write(writer, element));
}

fn entry_state(entry: &MetaEntry) -> EntryState<'_> {
    EntryState {
        table: entry.table as i8,
        scope: &entry.scope,
        key: &entry.key,
        value: entry.value.as_deref().unwrap_or_default(),
    }
}

/// The same bytes as of a [`PartitionState`]; where it has many producers, what is written so far becomes a piece, and they the next one.
fn write_partition(writer: &mut Writer, pieces: &mut Vec<Piece>, log: &PartitionLog) {
    log.id.topic.write(writer);
    log.id.partition.write(writer);
    log.next_offset.write(writer);
    each(writer, log.epochs.iter(), |writer, (epoch, start_offset)| {
        EpochState { epoch: *epoch, start_offset: *start_offset }.write(writer);
    });
    each(writer, log.ranges(), |writer, range| range_state(range).write(writer));
    writer.len(Some(log.producers.len()));
    if log.producers.len() <= PRODUCERS_AT_ONCE_MAX {
        write_producers(writer, log.producers.chunks());
    } else {
        let written = std::mem::replace(writer, Writer::new(VERSION, true));
        pieces.push(Piece::Written(written.into_encoded().bytes));
        pieces.push(Piece::Producers(log.producers.chunks().to_vec()));
    }
    each(writer, log.txns.aborted(), |writer, txn| aborted_state(txn).write(writer));
    each(writer, log.logical.iter(), |writer, segment| logical_state(segment).write(writer));
    log.first_dirty.write(writer);
    // No tagged fields.
    writer.uvarint(0);
}

fn logical_state(segment: &LogicalSegment) -> LogicalState {
    LogicalState {
        base_offset: segment.base_offset,
        bytes: segment.bytes as i64,
        first_timestamp: segment.first_timestamp,
        max_timestamp: segment.max_timestamp,
        modified_ms: segment.modified_ms,
    }
}

fn aborted_state(txn: &AbortedTxn) -> AbortedState {
    AbortedState {
        producer_id: txn.producer_id,
        first_offset: txn.first_offset,
        last_offset: txn.last_offset,
        stable_offset: txn.stable_offset,
    }
}

fn range_state(range: &SegmentRange) -> RangeState {
    RangeState {
        segment: range.segment.raw() as i64,
        base_offset: range.base_offset,
        last_offset: range.last_offset,
        max_timestamp: range.max_timestamp,
        bytes: range.bytes as i64,
    }
}

fn write_producers(writer: &mut Writer, chunks: &[Chunk]) {
    for (id, state) in chunks.iter().flat_map(|chunk| chunk.iter()) {
        write_producer(writer, *id, state);
    }
}

/// The same bytes as of a [`ProducerEntry`].
fn write_producer(writer: &mut Writer, producer_id: i64, state: &ProducerState) {
    producer_id.write(writer);
    state.epoch.write(writer);
    state.last_append_ms.write(writer);
    each(writer, state.batches.iter(), |writer, batch| {
        let state = BatchState {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            base_offset: batch.base_offset,
            append_time_ms: batch.append_time_ms,
        };
        state.write(writer);
    });
    state.txn_first_offset.unwrap_or(-1).write(writer);
    state.coordinator_epoch.write(writer);
    // No tagged fields.
    writer.uvarint(0);
}

/// A checkpoint, read back.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub entries: Vec<MetaEntry>,
    pub logs: Vec<PartitionLog>,
    /// The last pack that took the place of other segments.
    pub last_pack: u64,
    /// How many runs were written to each segment.
    pub runs: Vec<(SegmentId, u64)>,
}

/// Reads a checkpoint. The error says what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Snapshot, String> {
    let version = match bytes {
        [high, low, ..] => i16::from_be_bytes([*high, *low]),
        _ => return Err("the checkpoint is shorter than its version".to_owned()),
    };
    if !(0..=VERSION).contains(&version) {
        return Err(format!("the checkpoint has version {version}, this program knows {VERSION}"));
    }
    let mut reader = Reader::new(&bytes[2..], version, true);
    let mut snapshot = Snapshot::default();
    let told = |error: DecodeError| error.to_string();
    each_read(&mut reader, |entry: EntryState<'_>| {
        snapshot.entries.push(MetaEntry {
            table: entry.table as u8,
            scope: entry.scope.to_vec().into(),
            key: entry.key.to_vec().into(),
            value: Some(entry.value.to_vec().into()),
        });
    })
    .map_err(told)?;
    each_read(&mut reader, |state| snapshot.logs.push(log_of(&state, version))).map_err(told)?;
    let rest = Rest::read(&mut reader).map_err(told)?;
    reader.finish().map_err(told)?;
    snapshot.last_pack = rest.last_pack as u64;
    let runs = rest.segments.iter();
    snapshot.runs = runs.map(|state| (SegmentId::from_raw(state.segment as u64), state.runs as u64)).collect();
    Ok(snapshot)
}

/// An array of which no more than one element is in memory.
fn each_read<'a, T: Wire<'a>>(reader: &mut Reader<'a>, mut take: impl FnMut(T)) -> Result<(), DecodeError> {
    for _ in 0..reader.len()?.unwrap_or(0) {
        take(T::read(reader)?);
    }
    Ok(())
}

fn log_of(state: &PartitionState, version: i16) -> PartitionLog {
    let mut log = PartitionLog::new(PartitionId { topic: state.topic, partition: state.partition });
    log.next_offset = state.next_offset;
    log.high_watermark = state.next_offset;
    if !state.epochs.is_empty() {
        log.epochs = state.epochs.iter().map(|epoch| (epoch.epoch, epoch.start_offset)).collect();
    }
    log.leader_epoch = log.epochs.last().map_or(0, |(epoch, _)| *epoch);
    for range in &state.ranges {
        log.restore_range(SegmentRange {
            segment: SegmentId::from_raw(range.segment as u64),
            base_offset: range.base_offset,
            last_offset: range.last_offset,
            max_timestamp: range.max_timestamp,
            bytes: range.bytes as u64,
        });
    }
    restore_logical(&mut log, state, version);
    for producer in &state.producers {
        let mut batches = LastBatches::default();
        for batch in &producer.batches {
            batches.push(AppendedBatch {
                first_sequence: batch.first_sequence,
                last_sequence: batch.last_sequence,
                base_offset: batch.base_offset,
                append_time_ms: batch.append_time_ms,
            });
        }
        let state = ProducerState {
            epoch: producer.epoch,
            batches,
            last_append_ms: producer.last_append_ms,
            txn_first_offset: Some(producer.txn_first_offset).filter(|offset| *offset >= 0),
            coordinator_epoch: producer.coordinator_epoch,
        };
        if let Some(first_offset) = state.txn_first_offset {
            log.txns.begin(first_offset);
        }
        log.producers.restore(producer.producer_id, state);
    }
    for txn in &state.aborted {
        log.txns.restore_aborted(AbortedTxn {
            producer_id: txn.producer_id,
            first_offset: txn.first_offset,
            last_offset: txn.last_offset,
            stable_offset: txn.stable_offset,
        });
    }
    log
}

/// Puts back the logical segments. Before version 2 there were none: what lay in one segment of the log is one.
fn restore_logical(log: &mut PartitionLog, state: &PartitionState, version: i16) {
    log.first_dirty = state.first_dirty;
    if version < 2 {
        for range in &state.ranges {
            let timestamps = (range.max_timestamp, range.max_timestamp);
            log.logical.restore(LogicalSegment::restored(range.base_offset, range.bytes as u64, timestamps, i64::MAX));
        }
    }
    for segment in &state.segments {
        let timestamps = (segment.first_timestamp, segment.max_timestamp);
        let (base_offset, bytes) = (segment.base_offset, segment.bytes as u64);
        log.logical.restore(LogicalSegment::restored(base_offset, bytes, timestamps, segment.modified_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::BatchHeader;

    /// Bytes of a layout, written without the descriptions above, so that a change of these is noticed.
    #[derive(Default)]
    struct Raw(Vec<u8>);

    impl Raw {
        fn put(mut self, bytes: &[u8]) -> Raw {
            self.0.extend_from_slice(bytes);
            self
        }

        fn longs(self, numbers: &[i64]) -> Raw {
            numbers.iter().fold(self, |raw, number| raw.put(&number.to_be_bytes()))
        }

        /// A length, which stands one higher, of an array or of bytes.
        fn len(self, len: u8) -> Raw {
            self.put(&[len + 1])
        }

        /// The end of a structure, which has no tagged fields.
        fn end(self) -> Raw {
            self.put(&[0])
        }
    }

    /// A checkpoint as versions 0 and 1 were: one entry, one partition with two ranges, one producer in a transaction.
    fn old(version: i16) -> Vec<u8> {
        let raw = Raw::default().put(&version.to_be_bytes());
        let raw = raw.len(1).put(&[7]).len(0).len(1).put(b"k").len(2).put(b"vv").end();
        let raw = raw.len(1).put(&[9; 16]).put(&3i32.to_be_bytes()).longs(&[120]);
        let raw = raw.len(1).put(&4i32.to_be_bytes()).longs(&[0]).end();
        let raw = raw.len(2).longs(&[1, 0, 99, 1000, 4096]).end().longs(&[2, 100, 119, 2000, 512]).end();
        let raw = raw.len(1).longs(&[55]).put(&6i16.to_be_bytes()).longs(&[1234]);
        let raw = raw.len(1).put(&0i32.to_be_bytes()).put(&4i32.to_be_bytes()).longs(&[115, -1]).end();
        let raw = match version {
            0 => raw.end(),
            _ => raw.longs(&[115]).put(&2i32.to_be_bytes()).end().len(1).longs(&[54, 10, 20, 30]).end(),
        };
        raw.end().end().0
    }

    #[test]
    fn checkpoints_of_the_layouts_before_are_read() {
        for version in [0, 1] {
            let snapshot = read(&old(version)).unwrap_or_else(|why| panic!("version {version}: {why}"));
            let entry = &snapshot.entries[0];
            assert_eq!((entry.table, &entry.key[..], entry.value.as_deref()), (7, &b"k"[..], Some(&b"vv"[..])));
            let log = &snapshot.logs[0];
            assert_eq!(log.id, PartitionId { topic: Uuid([9; 16]), partition: 3 });
            assert_eq!((log.next_offset, log.high_watermark, log.leader_epoch), (120, 120, 4));
            let ranges: Vec<_> = log.ranges().map(|range| (range.segment, range.base_offset, range.bytes)).collect();
            assert_eq!(ranges, [(SegmentId::Wal(1), 0, 4096), (SegmentId::Wal(2), 100, 512)]);
            // There were no logical segments: each range is one, which no clock makes older than it is.
            let segments: Vec<_> = log.logical.iter().map(|segment| (segment.base_offset, segment.bytes)).collect();
            assert_eq!(segments, [(0, 4096), (100, 512)]);
            let (producer_id, producer) = log.producers.iter().next().expect("a producer");
            assert_eq!((producer_id, producer.epoch, producer.last_append_ms), (55, 6, 1234));
            assert_eq!((producer.batches[0].last_sequence, producer.batches[0].base_offset), (4, 115));
            let is_open = version > 0;
            assert_eq!(producer.txn_first_offset, is_open.then_some(115));
            assert_eq!(producer.coordinator_epoch, if is_open { 2 } else { -1 });
            assert_eq!(log.txns.first_unstable(), is_open.then_some(115));
            assert_eq!(log.txns.aborted().map(|txn| txn.last_offset).collect::<Vec<_>>(), [20][..usize::from(is_open)]);
            assert_eq!((snapshot.last_pack, snapshot.runs.len()), (0, 0));
        }
    }

    #[test]
    fn what_is_written_piece_by_piece_reads_back() {
        let header = |producer_id, attributes| BatchHeader {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes,
            last_offset_delta: 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch: 3,
            base_sequence: 8,
            records_count: 2,
        };
        let mut log = PartitionLog::new(PartitionId { topic: Uuid([9; 16]), partition: 3 });
        for n in 0..7 {
            log.batch_appended(&header(n % 2, 0), 2 * n, 77 + n, 1000 + n);
        }
        log.batch_appended(&header(5, 1 << 4), 14, -1, 2000);
        log.next_offset = 16;
        let mut crowded = log.clone();
        for n in 0..1000 {
            crowded.batch_appended(&header(10 + n, 0), 16 + n, -1, 3000);
        }
        let entry = MetaEntry { table: 7, scope: "s".into(), key: "k".into(), value: Some("v".into()) };
        let gone = MetaEntry { value: None, ..entry.clone() };
        let logs = [&log, &crowded, &log, &crowded];
        let frozen = freeze(&[gone, entry], logs.into_iter(), 6, [(SegmentId::Wal(4), 9)].into_iter());
        let expected: Vec<_> = logs.iter().map(|log| log.producers.clone()).collect();
        // What is frozen does not change.
        crowded.batch_appended(&header(10, 0), 2000, -1, 4000);
        let snapshot = read(&frozen.into_bytes()).expect("a checkpoint");
        assert_eq!((snapshot.entries.len(), &snapshot.entries[0].key[..]), (1, &b"k"[..]));
        assert_eq!((snapshot.last_pack, snapshot.runs), (6, vec![(SegmentId::Wal(4), 9)]));
        assert_eq!(snapshot.logs.len(), expected.len());
        for (back, producers) in snapshot.logs.iter().zip(expected) {
            assert_eq!((back.id, back.next_offset), (log.id, 16));
            assert!(back.producers.iter().eq(producers.iter()));
            assert_eq!(back.txns.first_unstable(), Some(14));
        }
    }

    #[test]
    fn a_checkpoint_that_is_cut_or_too_new_is_refused() {
        for version in [0, 1] {
            let whole = old(version);
            for len in 0..whole.len() {
                assert!(read(&whole[..len]).is_err(), "version {version}, {len} bytes");
            }
            assert!(read(&[&whole[..], &[0]].concat()).is_err(), "something behind it");
        }
        let error = read(&(VERSION + 1).to_be_bytes()).unwrap_err();
        assert!(error.contains(&format!("version {}", VERSION + 1)), "{error}");
    }
}
