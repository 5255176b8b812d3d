//! Owns the second walk of a cleaning: what becomes of each batch.

use super::{txns, Clean, CleanedSegment, OffsetMap, Outcome, DECOMPRESSED_BYTES_MAX};
use crate::canary::{self, Fault};
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
            aborted_gone: self.walk.finish(self.end),
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
    if canary::has(Fault::TombstoneDropped) && record.value.is_none() {
        return false;
    }
    let is_last = match canary::has(Fault::LastValueDropped) {
        true => map.get(key).is_none_or(|last| offset > last),
        false => map.get(key).is_none_or(|last| offset >= last),
    };
    is_last && (record.value.is_some() || header.delete_horizon_ms().is_none_or(|horizon| clean.now_ms < horizon))
}

#[cfg(test)]
mod tests {
    use super::super::{AbortedTxn, Indexing};
    use super::*;
    use crate::wire::batch::BatchBuilder;
    use crate::wire::control::EndMarker;

    /// A batch with these keys; upper case ones have no value.
    fn batch(base_offset: i64, keys: &str) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(base_offset);
        for key in keys.bytes() {
            let value: Option<&[u8]> = if key.is_ascii_uppercase() { None } else { Some(b"v") };
            builder.push(1_000, Some(&[key.to_ascii_lowercase()]), value, &[]);
        }
        builder.build().unwrap()
    }

    fn params(end: i64) -> Clean {
        Clean {
            end,
            now_ms: 5_000,
            delete_retention_ms: 100,
            map_bytes_max: 1 << 16,
            batch_bytes_max: 1 << 20,
            segments: vec![0],
            ..Clean::default()
        }
    }

    fn clean(params: &Clean, log: &[Vec<u8>]) -> (Vec<Vec<u8>>, Outcome) {
        let mut indexing = Indexing::new(params);
        for bytes in log {
            if !indexing.batch(&Batch::parse(bytes).unwrap()).unwrap() {
                break;
            }
        }
        let (mut cleaning, mut left) = (indexing.finish(), Vec::new());
        for bytes in log {
            match cleaning.batch(&Batch::parse(bytes).unwrap()).unwrap() {
                Verdict::Gone => {}
                Verdict::Unchanged => left.push(bytes.clone()),
                Verdict::Rewritten(bytes) => left.push(bytes.to_vec()),
            }
        }
        (left, cleaning.finish())
    }

    fn head(bytes: &[u8]) -> BatchHeader {
        BatchHeader::parse(bytes).unwrap()
    }

    #[test]
    fn what_is_complete_and_has_no_tombstones_stays_byte_for_byte() {
        let log = [batch(0, "ab"), batch(2, "cd")];
        let (left, outcome) = clean(&params(4), &log);
        assert_eq!(left, log);
        assert_eq!((outcome.cleaned_to, outcome.end), (4, 4));
    }

    #[test]
    fn a_tombstone_gets_a_horizon_first_and_goes_when_that_is_over() {
        let log = [batch(0, "a"), batch(1, "Ab"), batch(3, "c")];
        let (left, _) = clean(&params(4), &log);
        assert_eq!(left.len(), 2);
        assert_eq!((head(&left[0]).delete_horizon_ms(), head(&left[0]).records_count), (Some(5_100), 2));
        let again = |now_ms, log: &[Vec<u8>]| clean(&Clean { now_ms, first_dirty: 4, ..params(4) }, log).0;
        assert_eq!(again(5_099, &left), left);
        let left = again(5_100, &left);
        // A horizon that was set stays, although there is nothing left that it is about.
        assert_eq!((head(&left[0]).delete_horizon_ms(), head(&left[0]).records_count), (Some(5_100), 1));
        assert_eq!(again(9_999, &left), left);
    }

    #[test]
    fn a_full_map_cleans_up_to_where_it_reaches() {
        let log = [batch(0, "aab"), batch(3, "abc"), batch(6, "abc")];
        let params = Clean { map_bytes_max: 48, segments: vec![0, 3, 6], ..params(9) };
        let (left, outcome) = clean(&params, &log);
        // One key fits: all that is known is that offset 0 is the last a below offset 1.
        assert_eq!((outcome.cleaned_to, outcome.end), (1, 3));
        assert_eq!(left, log);
        let next = Clean { first_dirty: 1, ..params };
        let (left, outcome) = clean(&next, &left);
        assert_eq!((outcome.cleaned_to, head(&left[0]).records_count), (2, 2));
    }

    #[test]
    fn a_batch_does_not_grow_beyond_its_bound() {
        let log = [batch(0, "A"), batch(1, "b")];
        let (left, _) = clean(&params(2), &log);
        assert!(left[0].len() > log[0].len());
        // Then the tombstone has no horizon, and stays.
        let (left, _) = clean(&Clean { batch_bytes_max: 10, ..params(2) }, &log);
        assert_eq!(left, log);
    }

    #[test]
    fn an_aborted_batch_of_an_active_producer_is_kept_without_records() {
        let mut builder = BatchBuilder::new().producer(7, 0, 40).transactional();
        builder.push(1_000, Some(b"k"), Some(b"v"), &[]);
        let marker = EndMarker { producer_id: 7, producer_epoch: 0, coordinator_epoch: 0, committed: false };
        let mut marker = marker.batch(1_000).unwrap();
        batch::set_base_offset(&mut marker, 1);
        let log = [builder.build().unwrap(), marker, batch(2, "a")];
        let aborted = vec![AbortedTxn { producer_id: 7, first_offset: 0, last_offset: 1 }];
        let last = super::super::LastBatch { last_offset: Some(0), epoch: 0 };
        let params = Clean { aborted, producers: [(7, last)].into(), ..params(3) };
        let (left, outcome) = clean(&params, &log);
        assert_eq!((head(&left[0]).records_count, head(&left[0]).last_sequence()), (0, 40));
        assert_eq!((&left[1..], outcome.aborted_gone.len()), (&log[1..], 0));
        // When the producer is forgotten, the batch goes at once, and the marker in its time.
        let params = Clean { producers: Default::default(), ..params };
        let (left, outcome) = clean(&params, &left);
        assert_eq!((left.len(), head(&left[0]).delete_horizon_ms()), (2, None));
        assert!(outcome.aborted_gone.is_empty());
        let params = Clean { aborted: Vec::new(), ..params };
        let (left, _) = clean(&params, &left);
        assert_eq!(head(&left[0]).delete_horizon_ms(), Some(5_100));
        let (left, _) = clean(&Clean { now_ms: 5_100, ..params }, &left);
        assert_eq!(left, log[2..]);
    }

    #[test]
    fn records_that_cannot_be_read_are_an_error() {
        let mut broken = batch(0, "abc");
        let end = broken.len() - 3;
        broken[end] = 0x7f;
        let batch = Batch::parse(&broken).unwrap();
        let params = params(3);
        assert!(Indexing::new(&params).batch(&batch).is_err());
        assert!(Indexing::new(&params).finish().batch(&batch).is_err());
    }
}
