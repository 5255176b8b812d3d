//! Owns what the tests of the log share: groups to write, a replay that remembers, options small enough to rotate often.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chronik::sys::disk::Disk;
use chronik::wal::recovery::{recover, Recovered, Replay};
use chronik::wal::settings::{Entropy, FsyncMode, LogOptions, MetadataStore};
use chronik::wal::{Group, MetaEntry, PartitionId, PlannedBatch, PlannedRun, RecoverError, RunRef, SegmentId};
use chronik::wire::batch::{batches, verify_crc, BatchBuilder};
use chronik::wire::Uuid;

/// Options with small segments. Each start of a test needs another seed.
pub fn options(seed: u64) -> LogOptions {
    LogOptions {
        segment_bytes: 128 << 10,
        group_bytes_max: 32 << 10,
        fsync: FsyncMode::Always,
        metadata: MetadataStore::Log,
        ballast_bytes: 16 << 10,
        entropy: Entropy::Seeded(seed.wrapping_mul(0x1234_5678_9abc_def1)),
    }
}

pub fn partition(topic: u8, partition: i32) -> PartitionId {
    PartitionId { topic: Uuid([topic; 16]), partition }
}

/// A batch of `count` records with timestamps from `first_timestamp` on.
pub fn batch(count: i32, first_timestamp: i64, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for n in 0..count {
        let value = vec![n as u8; value_bytes];
        builder.push(first_timestamp + i64::from(n), Some(b"key"), Some(&value), &[]);
    }
    Bytes::from(builder.build().expect("a batch"))
}

pub fn entry(scope: &str, key: &str, value: Option<&str>) -> MetaEntry {
    MetaEntry {
        table: 3,
        scope: Bytes::copy_from_slice(scope.as_bytes()),
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    }
}

/// Gives offsets like the broker: contiguous per partition.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    next: BTreeMap<PartitionId, i64>,
}

impl Planner {
    /// Goes on where a replay ended.
    pub fn from(seen: &Seen) -> Planner {
        Planner { next: seen.next.clone() }
    }

    /// A run of several batches; each has `records` records.
    pub fn run(&mut self, id: PartitionId, batch_count: usize, records: i32, value_bytes: usize) -> PlannedRun {
        let next = self.next.entry(id).or_insert(0);
        let base_offset = *next;
        let mut planned = Vec::new();
        for _ in 0..batch_count {
            planned.push(PlannedBatch {
                bytes: batch(records, *next, value_bytes),
                base_offset: *next,
                leader_epoch: 0,
            });
            *next += i64::from(records);
        }
        PlannedRun { id, base_offset, last_offset: *next - 1, max_timestamp: *next - 1, batches: planned }
    }

    pub fn next_offset(&self, id: PartitionId) -> i64 {
        self.next.get(&id).copied().unwrap_or(0)
    }
}

pub fn group(seq: u64, meta: Vec<MetaEntry>, runs: Vec<PlannedRun>) -> Group {
    Group { seq, meta, runs, seal_after: false }
}

/// Remembers what recovery hands over, and checks each run while at it.
#[derive(Debug, Default)]
pub struct Seen {
    pub checkpoint: Option<Vec<u8>>,
    pub meta: Vec<MetaEntry>,
    pub runs: Vec<RunRef>,
    pub segments: Vec<(SegmentId, u64, bool)>,
    /// Next offset of each partition after the replay.
    pub next: BTreeMap<PartitionId, i64>,
}

impl Replay for Seen {
    fn checkpoint(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.checkpoint = Some(bytes.to_vec());
        Ok(())
    }

    fn meta(&mut self, entry: MetaEntry) -> Result<(), String> {
        self.meta.push(entry);
        Ok(())
    }

    fn run(&mut self, run: RunRef, content: &[u8]) -> Result<(), String> {
        let mut next = run.base_offset;
        for item in batches(content) {
            let item = item.map_err(|e| e.to_string())?;
            assert!(verify_crc(item.bytes), "a batch with a wrong CRC was handed over");
            assert_eq!(item.header.base_offset, next, "batches of a run follow each other");
            next = item.header.last_offset() + 1;
        }
        assert_eq!(next, run.last_offset + 1, "a run holds the offsets that it states");
        let expected = self.next.insert(run.id, next);
        if let Some(expected) = expected {
            assert_eq!(run.base_offset, expected, "runs of a partition come whole, in order, once");
        }
        self.runs.push(run);
        Ok(())
    }

    fn segment(&mut self, id: SegmentId, bytes: u64, sealed: bool) {
        self.segments.push((id, bytes, sealed));
    }
}

pub fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(Recovered, Seen), RecoverError> {
    let mut seen = Seen::default();
    recover(disk, options, &mut seen).map(|recovered| (recovered, seen))
}
