//! Owns the second walk of a cleaning: what becomes of each batch.

use super::{txns, Clean, CleanedSegment, OffsetMap, Outcome, DECOMPRESSED_BYTES_MAX};
use crate::wire::batch::{self, Batch, BatchError, BatchHeader, CompressError, Record, Rewrite, NO_TIMESTAMP};

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It goes.
    Gone,
    /// It stays as it is.
    Unchanged,
    /// These bytes take its place.
    Rewritten(&'a [u8]),
}

/// The second walk: all batches of the partition from its first one on. Those from `end` on stay as they are.
#[derive(Debug)]
pub struct Cleaning<'a> {
    clean: &'a Clean,
    map: OffsetMap,
    /// Up to where keys are noted, exclusive: records from there on stay whatever their key.
    cleaned_to: i64,
    /// Up to where batches are cleaned, exclusive.
    end: i64,
    walk: txns::Walk<'a>,
    segments: Vec<CleanedSegment>,
    scratch: Vec<u8>,
    body: Vec<u8>,
    out: Vec<u8>,
    kept: Kept,
}

/// Which records of a batch stay.
#[derive(Debug, Default)]
struct Kept {
    /// A bit per record, in their order.
    bits: Vec<u64>,
    count: u32,
    all: bool,
    tombstones: bool,
    /// Timestamp of the first that stays.
    first_timestamp: i64,
}

impl Kept {
    fn clear(&mut self) {
        self.bits.clear();
        *self = Kept { bits: std::mem::take(&mut self.bits), all: true, ..Kept::default() };
    }

    fn note(&mut self, index: usize, stays: bool, header: &BatchHeader, record: &Record<'_>) {
        if index % 64 == 0 {
            self.bits.push(0);
        }
        if !stays {
            self.all = false;
            return;
        }
        self.bits[index / 64] |= 1 << (index % 64);
        if self.count == 0 {
            self.first_timestamp = record.timestamp(header);
        }
        self.count += 1;
        self.tombstones |= record.value.is_none();
    }

    fn has(&self, index: usize) -> bool {
        self.bits[index / 64] & (1 << (index % 64)) != 0
    }
}

/// What is to be done with a batch before its records are looked at.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// No record stays.
    discard: bool,
    /// It stays even if no record does.
    keep_empty: bool,
    /// It is the marker of a transaction of which nothing else is left.
    idle_marker: bool,
}

/// What came of a batch, without its bytes.
enum Done {
    Gone,
    Unchanged,
    Rewritten,
}

impl<'a> Cleaning<'a> {
    pub(super) fn new(clean: &'a Clean, map: OffsetMap, cleaned_to: i64, scratch: Vec<u8>) -> Cleaning<'a> {
        // As in Kafka, segments are cleaned whole: also the one in which the map became full.
        let next = clean.segments.iter().copied().find(|base| *base >= cleaned_to);
        let end = next.unwrap_or(clean.end).min(clean.end);
        let segments = clean.segments.iter().filter(|base| **base < end).map(|base| CleanedSegment {
            base_offset: *base,
            first_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            ..CleanedSegment::default()
        });
        Cleaning {
            clean,
            map,
            cleaned_to,
            end,
            walk: txns::Walk::new(&clean.aborted),
            segments: segments.collect(),
            scratch,
            body: Vec::new(),
            out: Vec::new(),
            kept: Kept::default(),
        }
    }

    /// Batches from this offset on stay as they are, and need not be given.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Decides about the next batch, whose checksum was looked at.
    ///
    /// # Errors
    /// The records cannot be read; nothing that this cleaning has said may be used then.
    pub fn batch(&mut self, batch: &Batch<'_>) -> Result<Verdict<'_>, BatchError> {
        if batch.header.base_offset >= self.end {
            return Ok(Verdict::Unchanged);
        }
        let done = self.clean_batch(batch)?;
        let header = match done {
            Done::Gone => return Ok(Verdict::Gone),
            Done::Unchanged => batch.header,
            Done::Rewritten => BatchHeader::parse(&self.out)?,
        };
        self.count(&header);
        match done {
            Done::Rewritten => Ok(Verdict::Rewritten(&self.out)),
            _ => Ok(Verdict::Unchanged),
        }
    }

    /// After the last batch.
    pub fn finish(self) -> Outcome {
        Outcome {
            cleaned_to: self.cleaned_to,
            end: self.end,
            segments: self.segments,
            aborted_gone: self.walk.finish(),
        }
    }

    fn clean_batch(&mut self, batch: &Batch<'_>) -> Result<Done, BatchError> {
        let header = &batch.header;
        let plan = self.plan(batch);
        if plan.discard {
            return Ok(self.without_records(header, plan));
        }
        let records = batch::records(batch, &mut self.scratch, DECOMPRESSED_BYTES_MAX)?;
        self.kept.clear();
        for (index, record) in records.clone().enumerate() {
            let record = record?;
            let stays = header.is_control() || stays(self.clean, &self.map, self.cleaned_to, header, &record);
            self.kept.note(index, stays, header, &record);
        }
        if self.kept.count == 0 {
            return Ok(self.without_records(header, plan));
        }
        let sets_horizon = (self.kept.tombstones || plan.idle_marker) && header.delete_horizon_ms().is_none();
        if self.kept.all && !sets_horizon {
            return Ok(Done::Unchanged);
        }
        let horizon = match sets_horizon {
            true => Some(self.clean.now_ms.saturating_add(self.clean.delete_retention_ms)),
            false => header.delete_horizon_ms(),
        };
        let kept = &self.kept;
        let mut rewrite = Rewrite::new(header, kept.first_timestamp, horizon, DECOMPRESSED_BYTES_MAX, &mut self.body);
        for (index, record) in records.enumerate() {
            if kept.has(index) {
                match rewrite.push(&record?) {
                    Ok(()) => {}
                    // Timestamps can take more room than they did. Such a batch could not be read again.
                    Err(CompressError::TooLarge { .. }) => return Ok(Done::Unchanged),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        rewrite.finish(&mut self.out)?;
        match self.out.len() > self.clean.batch_bytes_max.max(batch.bytes.len()) {
            true => Ok(Done::Unchanged),
            false => Ok(Done::Rewritten),
        }
    }

    fn plan(&mut self, batch: &Batch<'_>) -> Plan {
        let (header, clean) = (&batch.header, self.clean);
        let unneeded = self.walk.meets(batch);
        let is_over = |horizon: i64| horizon <= clean.now_ms;
        let is_last = header.has_producer_id()
            && clean.producers.get(&header.producer_id).is_some_and(|last| match last.last_offset {
                Some(offset) => header.last_offset() == offset,
                None => header.is_control() && header.producer_epoch == last.epoch,
            });
        Plan {
            discard: unneeded && (!header.is_control() || header.delete_horizon_ms().is_some_and(is_over)),
            // The last batch of what is cleaned stays too, so that the offsets up to there are told by something.
            keep_empty: is_last || header.last_offset() + 1 == clean.end,
            idle_marker: unneeded && header.is_control(),
        }
    }

    fn without_records(&mut self, header: &BatchHeader, plan: Plan) -> Done {
        if !plan.keep_empty {
            return Done::Gone;
        }
        // One that was emptied before stays as it is.
        if header.records_count == 0 {
            return Done::Unchanged;
        }
        batch::write_empty(header, &mut self.out);
        Done::Rewritten
    }

    fn count(&mut self, header: &BatchHeader) {
        let after = self.segments.partition_point(|segment| segment.base_offset <= header.base_offset);
        let Some(segment) = after.checked_sub(1).and_then(|at| self.segments.get_mut(at)) else { return };
        if segment.bytes == 0 {
            segment.first_timestamp = header.max_timestamp;
        }
        segment.bytes += header.total_bytes() as i64;
        segment.max_timestamp = segment.max_timestamp.max(header.max_timestamp);
    }
}

/// Whether a record of data stays: it is the last of its key as far as is known, and no tombstone whose time is over.
fn stays(clean: &Clean, map: &OffsetMap, cleaned_to: i64, header: &BatchHeader, record: &Record<'_>) -> bool {
    let offset = record.offset(header);
    if offset >= cleaned_to {
        return true;
    }
    // Compacted topics take no records without key; those from before the topic was compacted go, as in Kafka.
    let Some(key) = record.key else { return false };
    let is_last = map.get(key).is_none_or(|last| offset >= last);
    is_last && (record.value.is_some() || header.delete_horizon_ms().is_none_or(|horizon| clean.now_ms < horizon))
}
