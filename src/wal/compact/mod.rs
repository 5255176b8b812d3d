//! Owns log compaction as a calculation: which records of a partition stay, and the bytes of the batches that hold them.
//!
//! The rules are Kafka's, to the letter (its log cleaner; KIP-58, KIP-98, KIP-534). One cleaning of a partition is two walks
//! over its batches, in offset order, which somebody else reads and writes:
//!
//! 1. [`Indexing`] takes the batches of the dirty part and notes the last offset of every key, until the map is full.
//! 2. [`Cleaning`] takes all batches of the partition and says of each whether it goes, stays as it is, or becomes shorter.
//!
//! Offsets and order never change, nothing is combined across batches, and everything is bounded by what [`Clean`] says.

mod cleaning;
mod offset_map;
mod outcome;
mod txns;

pub use cleaning::{Cleaning, Verdict};
pub use offset_map::OffsetMap;
pub use outcome::{CleanedSegment, Outcome};
pub use txns::AbortedTxn;

use std::collections::BTreeMap;

use crate::wire::batch::{self, Batch, BatchError};

/// The most that the records of a batch may decompress to.
const DECOMPRESSED_BYTES_MAX: usize = batch::DECOMPRESSED_BYTES_MAX;

/// What one cleaning of one partition is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clean {
    /// Records below this offset have been cleaned before: their keys are not noted.
    pub first_dirty: i64,
    /// Batches from this offset on are not cleaned: where a logical segment begins.
    pub end: i64,
    /// Wall clock in ms, once for the whole cleaning.
    pub now_ms: i64,
    /// `delete.retention.ms`: how long tombstones and markers of emptied transactions stay after a cleaning has first
    /// passed them.
    pub delete_retention_ms: i64,
    /// Memory of the map in bytes (`log.cleaner.dedupe.buffer.size`).
    pub map_bytes_max: usize,
    /// A batch does not become longer than this, in bytes, by being written anew; it is left alone then.
    pub batch_bytes_max: usize,
    /// Where the logical segments begin that lie below `end`, ascending. The cleaning stops at one of them, or at `end`.
    pub segments: Vec<i64>,
    /// Aborted transactions that reach into what is below `end`, in the order of their first offsets.
    pub aborted: Vec<AbortedTxn>,
    /// The active producers: the last batch of each stays, if need be without records.
    pub producers: BTreeMap<i64, LastBatch>,
}

/// The newest that a producer wrote into the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBatch {
    /// The last offset of its last batch of data; `None` when it wrote only markers in its epoch.
    pub last_offset: Option<i64>,
    pub epoch: i16,
}

/// The first walk: noting keys. It is over when the map is full, or at `end`.
#[derive(Debug)]
pub struct Indexing<'a> {
    clean: &'a Clean,
    map: OffsetMap,
    walk: txns::Walk<'a>,
    /// Up to where everything is noted, exclusive.
    indexed_to: i64,
    full: bool,
    scratch: Vec<u8>,
}

impl<'a> Indexing<'a> {
    /// Begins with an empty map.
    pub fn new(clean: &'a Clean) -> Indexing<'a> {
        let records = clean.end.saturating_sub(clean.first_dirty).max(0) as u64;
        Indexing {
            clean,
            map: OffsetMap::new(clean.map_bytes_max, records),
            walk: txns::Walk::new(&clean.aborted),
            indexed_to: clean.first_dirty,
            full: false,
            scratch: Vec::new(),
        }
    }

    /// Takes the next batch, whose checksum was looked at. The first that is needed is the one that holds `first_dirty`.
    /// False when no more batches are needed.
    ///
    /// # Errors
    /// The records cannot be read; the partition cannot be cleaned then.
    pub fn batch(&mut self, batch: &Batch<'_>) -> Result<bool, BatchError> {
        let header = &batch.header;
        if self.full || header.base_offset >= self.clean.end {
            return Ok(false);
        }
        let aborted = self.walk.meets(batch);
        if !header.is_control() && !aborted {
            for record in batch::records(batch, &mut self.scratch, DECOMPRESSED_BYTES_MAX)? {
                let record = record?;
                let offset = record.offset(header);
                let is_dirty = (self.clean.first_dirty..self.clean.end).contains(&offset);
                let Some(key) = record.key.filter(|_| is_dirty) else { continue };
                if !self.map.put(key, offset) {
                    self.full = true;
                    return Ok(false);
                }
                self.indexed_to = self.indexed_to.max(offset + 1);
            }
        }
        self.indexed_to = self.indexed_to.max(header.last_offset() + 1);
        Ok(true)
    }

    /// After the last batch: the second walk.
    pub fn finish(self) -> Cleaning<'a> {
        let cleaned_to = if self.full { self.indexed_to } else { self.clean.end.max(self.clean.first_dirty) };
        Cleaning::new(self.clean, self.map, cleaned_to, self.scratch)
    }
}
