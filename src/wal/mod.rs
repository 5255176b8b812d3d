//! Owns the write-ahead log on disk: one sequence of segments for every partition and all metadata.
//!
//! What stands here is the vocabulary that the broker core and the log share; docs/log-format.md has the bytes.

mod ballast;
mod batch_cursor;
pub mod check;
pub mod checkpoint;
pub mod compact;
pub mod convert;
mod crc;
mod encode;
mod error;
pub mod files;
mod footer;
pub mod format;
pub mod frozen;
pub mod inspect;
pub mod marker;
pub mod pack;
pub mod pool;
pub mod read_cache;
pub mod reader;
pub mod readers;
pub mod recovery;
pub mod ring;
mod run_source;
mod scan;
pub mod segment;
mod segment_id;
pub mod settings;
pub mod thread;
pub mod tidy;
mod trusted;
pub mod writer;

pub use error::{Fatal, RecoverError};
pub use format::cost_bytes;
pub use segment::{remove as remove_segment, sync_newest};
pub use segment_id::SegmentId;

use std::sync::Arc;

use bytes::Bytes;

use crate::sys::disk::DiskFile;
use crate::wire::batch::BatchHeader;
use crate::wire::Uuid;

/// Number of a group, increasing by one over the life of the data directory. Group 0 is never written.
pub type GroupSeq = u64;

/// A partition's name in the log. Topic ids are never used again, so a re-created topic is another partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    pub topic: Uuid,
    pub partition: i32,
}

/// One whole RecordBatch v2 as it came from a client (or a worker). Base offset and partition leader epoch, which lie
/// outside the batch's CRC, are filled in while it is copied into the group's buffer.
#[derive(Clone, Debug)]
pub struct PlannedBatch {
    pub bytes: Bytes,
    pub base_offset: i64,
    pub leader_epoch: i32,
}

/// All batches of one partition in a group, in offset order.
#[derive(Clone, Debug)]
pub struct PlannedRun {
    pub id: PartitionId,
    pub base_offset: i64,
    pub last_offset: i64,
    /// Largest timestamp in the run, ms since 1970; -1 when no record has one.
    pub max_timestamp: i64,
    pub batches: Vec<PlannedBatch>,
}

/// One change of metadata: a key is given a value, or removed (`None`).
///
/// State is the fold of these entries; a snapshot is the list of those that live; in `--file-metadata` mode all entries
/// of one (table, scope) live in one file. What the bytes mean is the broker's business (broker/metalog.rs).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetaEntry {
    /// Which kind of thing (a constant of broker/metalog.rs).
    pub table: u8,
    /// Which entity the key belongs to, such as a topic id or a group's name; decides the file in file mode.
    pub scope: Bytes,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// The table of metadata that says what the others come to when a crash leaves a group half done, as it can where metadata
/// lives in files: its files are written first. Transactional ids: how each transaction has ended (broker/metalog.rs).
pub const DECIDING_TABLE: u8 = 8;

/// The table of metadata that says which packs have taken the place of other segments (broker/tidying.rs).
pub const PACK_TABLE: u8 = 16;

/// What the wal thread is to make durable next: all of it or nothing.
#[derive(Debug, Default)]
pub struct Group {
    pub seq: GroupSeq,
    /// Changes of metadata; they take effect before the group's runs.
    pub meta: Vec<MetaEntry>,
    pub runs: Vec<PlannedRun>,
    /// Seal the segment after this group even if it has room (time-based roll, clean stop).
    pub seal_after: bool,
}

/// Where one run stands in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRef {
    pub id: PartitionId,
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    pub segment: SegmentId,
    /// Position in the file of the first batch's first byte.
    pub position: u64,
    /// Length in bytes of the run's batches, without the run header.
    pub len: u32,
}

/// Where the next group will be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPosition {
    pub segment: SegmentId,
    pub position: u64,
}

/// A segment's file together with its identity; cheap to clone. It stays readable after the segment is removed.
#[derive(Clone, Debug)]
pub struct SegmentHandle {
    pub segment: SegmentId,
    pub file: Arc<dyn DiskFile>,
}

/// Bytes of a segment to be sent as they are: from the ring if they are still there, otherwise from the file.
#[derive(Clone, Debug)]
pub struct Splice {
    pub handle: SegmentHandle,
    pub position: u64,
    pub len: u32,
}

/// A group is durable.
#[derive(Debug)]
pub struct Written {
    pub seq: GroupSeq,
    pub runs: Vec<RunRef>,
    /// The segment that the group stands in.
    pub handle: SegmentHandle,
    /// Position of `buf`'s first byte in the segment.
    pub position: u64,
    /// The group as written, for the ring; empty when the group had no runs and no metadata in the log.
    pub buf: Arc<crate::sys::aligned::AlignedBuf>,
    /// Where the next group goes.
    pub next: LogPosition,
    /// The segment sealed by this step, if any, and its final size in bytes.
    pub sealed: Option<(SegmentId, u64)>,
    /// Bytes that can still be written without asking the filesystem for space.
    pub space_bytes: u64,
    /// How long the durable write took, in µs (0 when none was needed).
    pub sync_micros: u64,
}

/// Where to look for a partition's data in one segment.
#[derive(Clone, Debug)]
pub struct Place {
    pub segment: SegmentId,
    /// The runs of the partition there when memory knows them (the unsealed segment); `None` means that the segment's
    /// footer has to be asked.
    pub runs: Option<Vec<RunRef>>,
}

/// Work for a reader thread. Each is answered by exactly one `ReadDone` with the same `job`.
#[derive(Debug)]
pub struct ReadJob {
    pub job: u64,
    /// When it was asked for, on the monotonic clock, in µs.
    pub asked_us: u64,
    pub id: PartitionId,
    pub kind: ReadKind,
}

#[derive(Debug)]
pub enum ReadKind {
    /// Whole batches from the one that holds `offset` on (the first batch whole even if longer than `bytes_max`),
    /// none of which begins at or above `end_offset`. CRCs are checked.
    Fetch { place: Place, offset: i64, end_offset: i64, bytes_max: u32, convert: Option<Convert> },
    /// The same, told batch by batch; at most `batches_max` of them.
    Batches { place: Place, offset: i64, end_offset: i64, bytes_max: u32, batches_max: usize },
    /// The first record, in offset order, at or above `start_offset` and below `end_offset` with a timestamp of at
    /// least `timestamp`. Places are in offset order.
    FirstAtOrAfter { places: Vec<Place>, start_offset: i64, end_offset: i64, timestamp: i64 },
    /// The first record that has the largest timestamp.
    MaxTimestamp { places: Vec<Place>, start_offset: i64, end_offset: i64 },
}

impl ReadKind {
    /// The segments that are looked into.
    pub fn segments(&self) -> impl Iterator<Item = SegmentId> + '_ {
        let places = match self {
            ReadKind::Fetch { place, .. } | ReadKind::Batches { place, .. } => std::slice::from_ref(place),
            ReadKind::FirstAtOrAfter { places, .. } | ReadKind::MaxTimestamp { places, .. } => &places[..],
        };
        places.iter().map(|place| place.segment)
    }

    /// Whether the answer is in another format than what lies there.
    pub fn is_converted(&self) -> bool {
        matches!(self, ReadKind::Fetch { convert: Some(_), .. })
    }
}

/// Answer in an older message format instead of the bytes as they lie (Fetch v0 to v3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convert {
    /// 0 or 1.
    pub magic: i8,
}

/// A reader's answer.
#[derive(Debug)]
pub struct ReadDone {
    pub job: u64,
    pub id: PartitionId,
    pub result: Result<ReadFound, ReadError>,
}

#[derive(Debug)]
pub enum ReadFound {
    /// Adjacent runs are merged into one splice where they touch; with the offset after the last batch. Empty when the
    /// segment holds nothing in the range.
    Splices(Vec<Splice>, i64),
    /// Bytes to be sent in place of file ranges: converted, or gathered from many short runs; with the offset after the
    /// last batch that was looked at.
    Converted(Bytes, i64),
    /// Offset, timestamp in ms, leader epoch of the batch.
    Record(Option<(i64, i64, i32)>),
    /// Batches in offset order, and their bytes one after the other if they are to be sent in place of file ranges.
    Batches(Vec<BatchPlace>, Option<Bytes>),
}

/// Where a batch lies, and what its header says.
#[derive(Clone, Debug)]
pub struct BatchPlace {
    pub base_offset: i64,
    pub last_offset: i64,
    pub producer_id: i64,
    pub is_transactional: bool,
    pub is_control: bool,
    pub splice: Splice,
}

impl BatchPlace {
    pub fn new(header: &BatchHeader, splice: Splice) -> BatchPlace {
        BatchPlace {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            producer_id: header.producer_id,
            is_transactional: header.is_transactional(),
            is_control: header.is_control(),
            splice,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// A checksum or a header is wrong: answered as CORRUPT_MESSAGE. Says file, position and what.
    Corrupt(String),
    /// The disk failed: answered as KAFKA_STORAGE_ERROR.
    Io(String),
    /// What is not on this disk cannot be had from where it is: answered as KAFKA_STORAGE_ERROR.
    Away(String),
    /// The batches cannot be said in the older format: answered as UNSUPPORTED_COMPRESSION_TYPE or similar.
    Unsupported(String),
}
