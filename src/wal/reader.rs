//! Owns cold reads: what is not in memory, found by the footers and checked before it is sent.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::batch_cursor::{BatchCursor, Found, HOP_READ_BYTES};
use super::read_cache::{OpenSegment, ReadCache};
use super::run_source::{RunSource, RunsAhead};
use super::{
    BatchPlace, Convert, PartitionId, Place, ReadDone, ReadError, ReadFound, ReadJob, ReadKind, RunRef, SegmentId,
    Splice,
};
use crate::limits;
use crate::sys::disk::Disk;
use crate::wire::batch::{first_at_or_after_from, records, Batch, DECOMPRESSED_BYTES_MAX};
use crate::wire::legacy;

/// Does one look-up at a time. Blocks on the disk, so it belongs on a thread of its own; never panics on damaged files.
#[derive(Debug)]
pub struct Reader {
    cache: Arc<ReadCache>,
    buf: Vec<u8>,
    /// When the look-up that is under way was asked for, in µs.
    now_us: u64,
}

/// Offset, timestamp and leader epoch of a record.
type RecordAt = (i64, i64, i32);

/// Offsets that a look-up is about: from the first on, below the second.
type Offsets = (i64, i64);

impl Reader {
    /// A reader with handles of its own.
    pub fn new(disk: Arc<dyn Disk>) -> Reader {
        Reader::with_cache(Arc::new(ReadCache::new(disk)))
    }

    /// A reader that shares open segments with others.
    pub fn with_cache(cache: Arc<ReadCache>) -> Reader {
        Reader { cache, buf: Vec::new(), now_us: 0 }
    }

    /// The segments this reader keeps open.
    pub fn cache(&self) -> &Arc<ReadCache> {
        &self.cache
    }

    /// Carries out a look-up. What lies in a segment that is gone is not found; that is no error.
    pub fn read(&mut self, job: ReadJob) -> ReadDone {
        let ReadJob { job, asked_us, id, kind } = job;
        self.now_us = asked_us;
        let mut result = self.look_up(id, &kind);
        if matches!(result, Err(ReadError::Corrupt(_))) {
            // Of what lies elsewhere a copy may be damaged; it is looked at once more without that.
            let elsewhere = kind.segments().filter(|segment| self.cache.distrust(*segment)).count();
            if elsewhere > 0 {
                result = self.look_up(id, &kind);
            }
        }
        if let Err(ReadError::Io(why)) = &mut result {
            if kind.segments().any(|segment| self.cache.is_elsewhere(segment)) {
                result = Err(ReadError::Away(std::mem::take(why)));
            }
        }
        // A single large batch must not hold its memory for ever.
        if self.buf.capacity() > 4 * limits::READ_PIECE_BYTES {
            self.buf = Vec::new();
        }
        ReadDone { job, id, result }
    }

    fn look_up(&mut self, id: PartitionId, kind: &ReadKind) -> Result<ReadFound, ReadError> {
        match *kind {
            ReadKind::Fetch { ref place, offset, end_offset, bytes_max, convert } => match convert {
                None => self.fetch(id, place, (offset, end_offset), bytes_max),
                Some(convert) => self.converted(id, place, (offset, end_offset), bytes_max, convert),
            },
            ReadKind::Batches { ref place, offset, end_offset, bytes_max, batches_max } => {
                self.batches(id, place, (offset, end_offset), bytes_max, batches_max)
            }
            ReadKind::FirstAtOrAfter { ref places, start_offset, end_offset, timestamp } => {
                self.first_at_or_after(id, places, (start_offset, end_offset), timestamp).map(ReadFound::Record)
            }
            ReadKind::MaxTimestamp { ref places, start_offset, end_offset } => {
                self.max_timestamp(id, places, (start_offset, end_offset)).map(ReadFound::Record)
            }
        }
    }

    fn fetch(
        &mut self,
        id: PartitionId,
        place: &Place,
        range: Offsets,
        bytes_max: u32,
    ) -> Result<ReadFound, ReadError> {
        let Some(segment) = self.cache.open(place.segment)? else {
            return Ok(ReadFound::Splices(Vec::new(), range.0));
        };
        if segment.is_elsewhere {
            // Whoever sends it must not wait for where it is.
            let (copy, end) = self.copied(&segment, id, place, range, bytes_max)?;
            return Ok(match copy.is_empty() {
                true => ReadFound::Splices(Vec::new(), end),
                false => ReadFound::Converted(Bytes::from(copy), end),
            });
        }
        let (splices, end) = self.collect(&segment, id, place, range, bytes_max)?;
        if are_many_short(splices.iter().map(|splice| splice.len)) {
            return Ok(ReadFound::Converted(Bytes::from(gather(&segment, &splices)?), end));
        }
        Ok(ReadFound::Splices(splices, end))
    }

    fn converted(
        &mut self,
        id: PartitionId,
        place: &Place,
        range: Offsets,
        bytes_max: u32,
        convert: Convert,
    ) -> Result<ReadFound, ReadError> {
        let (mut offset, end_offset) = range;
        let Some(segment) = self.cache.open(place.segment)? else {
            return Ok(ReadFound::Splices(Vec::new(), offset));
        };
        loop {
            let (batches, end) = self.copied(&segment, id, place, (offset, end_offset), bytes_max)?;
            if batches.is_empty() {
                return Ok(ReadFound::Converted(Bytes::new(), offset));
            }
            let message_set = legacy::convert_down(&batches, convert.magic, range.0, bytes_max as usize)
                .map_err(|rejected| ReadError::Unsupported(format!("{rejected:?}")))?;
            if !message_set.is_empty() {
                return Ok(ReadFound::Converted(Bytes::from(message_set), end));
            }
            // There were only transaction markers, which the old formats have no word for.
            offset = end;
        }
    }

    fn batches(
        &mut self,
        id: PartitionId,
        place: &Place,
        range: Offsets,
        bytes_max: u32,
        batches_max: usize,
    ) -> Result<ReadFound, ReadError> {
        let Some(segment) = self.cache.open(place.segment)? else { return Ok(ReadFound::Batches(Vec::new(), None)) };
        let (mut batches, mut copy) = (Vec::new(), segment.is_elsewhere.then(Vec::new));
        self.each_batch(&segment, id, place, (range, bytes_max), copy.as_mut(), |found| {
            batches.push(BatchPlace::new(&found.header, splice(&segment, found)));
            batches.len() < batches_max
        })?;
        if let Some(copy) = copy.filter(|copy| !copy.is_empty()) {
            return Ok(ReadFound::Batches(batches, Some(Bytes::from(copy))));
        }
        if are_many_short(batches.iter().map(|batch| batch.splice.len)) {
            let splices: Vec<Splice> = batches.iter().map(|batch| batch.splice.clone()).collect();
            let gathered = Bytes::from(gather(&segment, &splices)?);
            return Ok(ReadFound::Batches(batches, Some(gathered)));
        }
        Ok(ReadFound::Batches(batches, None))
    }

    /// Whole, checked batches from the one that holds the first offset on, and the offset after the last of them.
    fn collect(
        &mut self,
        segment: &Arc<OpenSegment>,
        id: PartitionId,
        place: &Place,
        range: Offsets,
        bytes_max: u32,
    ) -> Result<(Vec<Splice>, i64), ReadError> {
        let mut wanted = Wanted::new(segment, range, bytes_max, self.now_us);
        let (mut splices, mut next): (Vec<Splice>, i64) = (Vec::new(), range.0);
        let source = RunSource::new(&self.cache, segment, id, place, wanted.offset, i64::MIN)?;
        let mut runs = RunsAhead::new(source, segment, self.now_us);
        while let Some(run) = runs.next(&self.cache, wanted.end_offset, wanted.left)? {
            let goes_on = if wanted.takes_unread(segment, &run) {
                next = run.last_offset + 1;
                splices.push(Splice { handle: segment.segment.handle(), position: run.position, len: run.len });
                splices.len() < limits::READ_SPLICES_MAX && wanted.take(run.len)
            } else {
                in_run(segment, run, &mut self.buf, &mut wanted, None, |found| {
                    next = found.header.last_offset() + 1;
                    match splices.last_mut() {
                        Some(last) if last.position + u64::from(last.len) == found.position => last.len += found.len,
                        _ => splices.push(splice(segment, found)),
                    }
                    splices.len() < limits::READ_SPLICES_MAX
                })?
            };
            if !goes_on {
                break;
            }
        }
        Ok((splices, next))
    }

    /// The same, copied while they are checked.
    fn copied(
        &mut self,
        segment: &Arc<OpenSegment>,
        id: PartitionId,
        place: &Place,
        range: Offsets,
        bytes_max: u32,
    ) -> Result<(Vec<u8>, i64), ReadError> {
        let (mut copy, mut next) = (Vec::new(), range.0);
        self.each_batch(segment, id, place, (range, bytes_max), Some(&mut copy), |found| {
            next = found.header.last_offset() + 1;
            true
        })?;
        Ok((copy, next))
    }

    /// Visits whole, checked batches from the one that holds the first offset on, until there are enough bytes or the
    /// visitor has enough. They are appended to `copy` if there is one.
    fn each_batch(
        &mut self,
        segment: &Arc<OpenSegment>,
        id: PartitionId,
        place: &Place,
        (range, bytes_max): (Offsets, u32),
        mut copy: Option<&mut Vec<u8>>,
        mut visit: impl FnMut(&Found) -> bool,
    ) -> Result<(), ReadError> {
        let mut wanted = Wanted::new(segment, range, bytes_max, self.now_us);
        let mut runs = RunSource::new(&self.cache, segment, id, place, wanted.offset, i64::MIN)?;
        while let Some(run) = runs.next(&self.cache)?.filter(|run| run.base_offset < wanted.end_offset) {
            if !in_run(segment, run, &mut self.buf, &mut wanted, copy.as_deref_mut(), &mut visit)? {
                break;
            }
        }
        Ok(())
    }

    fn first_at_or_after(
        &mut self,
        id: PartitionId,
        places: &[Place],
        range: Offsets,
        timestamp: i64,
    ) -> Result<Option<RecordAt>, ReadError> {
        for place in places {
            let Some(segment) = self.cache.open(place.segment)? else { continue };
            let mut runs = RunSource::new(&self.cache, &segment, id, place, range.0, timestamp)?;
            while let Some(run) = runs.next(&self.cache)?.filter(|run| run.base_offset < range.1) {
                if run.max_timestamp < timestamp {
                    continue;
                }
                if let Some(found) = first_in_run(&segment, run, range, timestamp, &mut self.buf)? {
                    return Ok(Some(found).filter(|(offset, ..)| *offset < range.1));
                }
            }
        }
        Ok(None)
    }

    /// Index entries tell the largest timestamp of each run. The run with the largest is read to be sure, which matters
    /// where only a part of it is in the range; then the next largest may be the larger one.
    fn max_timestamp(
        &mut self,
        id: PartitionId,
        places: &[Place],
        range: Offsets,
    ) -> Result<Option<RecordAt>, ReadError> {
        let mut exact: HashMap<(SegmentId, u64), Option<RecordAt>> = HashMap::new();
        let mut known: Option<RecordAt> = None;
        for _ in 0..limits::MAX_TIMESTAMP_RUNS {
            let Some((segment, run)) = self.newest_run(id, places, range, &exact)? else { break };
            if known.is_some_and(|(offset, newest, _)| (newest, -offset) >= (run.max_timestamp, -run.base_offset)) {
                break;
            }
            let found = newest_in_run(&segment, run, range, &mut self.buf)?;
            if let Some(found) = found {
                let is_better = |(offset, newest, _): RecordAt| (found.1, -found.0) > (newest, -offset);
                if known.is_none_or(is_better) {
                    known = Some(found);
                }
            }
            exact.insert((run.segment, run.position), found);
        }
        Ok(known.filter(|(_, timestamp, _)| *timestamp >= 0))
    }

    /// The first of the runs that state the largest timestamp, without those that were read already.
    fn newest_run(
        &mut self,
        id: PartitionId,
        places: &[Place],
        range: Offsets,
        exact: &HashMap<(SegmentId, u64), Option<RecordAt>>,
    ) -> Result<Option<(Arc<OpenSegment>, RunRef)>, ReadError> {
        let mut newest: Option<(Arc<OpenSegment>, RunRef)> = None;
        for place in places {
            let Some(segment) = self.cache.open(place.segment)? else { continue };
            // Runs that are no newer than the best so far need not be looked at.
            let least = newest.as_ref().map_or(i64::MIN, |(_, run)| run.max_timestamp);
            let mut runs = RunSource::new(&self.cache, &segment, id, place, range.0, least)?;
            while let Some(run) = runs.next(&self.cache)?.filter(|run| run.base_offset < range.1) {
                let is_newer = newest.as_ref().is_none_or(|(_, best)| run.max_timestamp > best.max_timestamp);
                if is_newer && !exact.contains_key(&(run.segment, run.position)) {
                    newest = Some((segment.clone(), run));
                }
            }
        }
        Ok(newest)
    }
}

/// What a look-up for batches still wants.
struct Wanted {
    offset: i64,
    end_offset: i64,
    /// Bytes that it may still take; the first batch is taken whatever its length.
    left: u64,
    is_first: bool,
    now_us: u64,
}

impl Wanted {
    fn new(segment: &OpenSegment, (offset, end_offset): Offsets, bytes_max: u32, now_us: u64) -> Wanted {
        let bytes_max = if segment.is_elsewhere { bytes_max.min(limits::READ_ELSEWHERE_BYTES) } else { bytes_max };
        Wanted { offset, end_offset, left: bytes_max.into(), is_first: true, now_us }
    }

    /// Whether a whole run is taken as it lies, because all of it is wanted and was checked a short while ago.
    fn takes_unread(&self, segment: &OpenSegment, run: &RunRef) -> bool {
        run.base_offset >= self.offset
            && run.last_offset < self.end_offset
            && u64::from(run.len) <= self.left
            && segment.trusts(run, self.now_us)
    }

    /// Takes so many bytes; whether more are wanted.
    fn take(&mut self, bytes: u32) -> bool {
        self.is_first = false;
        self.left = self.left.saturating_sub(bytes.into());
        self.left > 0
    }
}

/// Visits the batches of a run that are wanted, each of them checked, now or a short while ago, and appended to `copy` if there is one.
/// Whether the next run is wanted as well.
fn in_run(
    segment: &OpenSegment,
    run: RunRef,
    buf: &mut Vec<u8>,
    wanted: &mut Wanted,
    mut copy: Option<&mut Vec<u8>>,
    mut visit: impl FnMut(&Found) -> bool,
) -> Result<bool, ReadError> {
    let trusted_end = match copy {
        Some(_) => run.position,
        None => segment.trusted.lock().until(run.position, wanted.now_us),
    };
    let mut cursor = BatchCursor::new(segment, run, buf)?;
    let (mut checked, mut last_len) = (None, None);
    let mut is_passing = run.base_offset < wanted.offset;
    let goes_on = loop {
        cursor.want(match last_len {
            Some(len) if len < limits::READ_HOP_BYTES => wanted.left,
            _ if is_passing || cursor.position() < trusted_end => HOP_READ_BYTES,
            _ => wanted.left,
        });
        let Some(found) = cursor.next()? else { break true };
        last_len = Some(found.len);
        if found.header.last_offset() < wanted.offset {
            continue;
        }
        is_passing = false;
        let is_too_much = u64::from(found.len) > wanted.left && !wanted.is_first;
        if found.header.base_offset >= wanted.end_offset || is_too_much {
            break false;
        }
        let end = found.position + u64::from(found.len);
        if let Some(copy) = &mut copy {
            make_room(copy, found.len as usize, wanted.left);
        }
        if end > trusted_end {
            cursor.want(wanted.left.saturating_sub(found.len.into()));
            cursor.verify(&found, copy.as_deref_mut())?;
            checked = Some((checked.map_or(found.position, |(from, _)| from), end));
        }
        let has_room = wanted.take(found.len);
        if !visit(&found) || !has_room {
            break false;
        }
    };
    if let (Some((from, to)), false) = (checked, segment.is_elsewhere) {
        segment.trusted.lock().add(from, to, wanted.now_us);
    }
    Ok(goes_on)
}

fn splice(segment: &OpenSegment, found: &Found) -> Splice {
    Splice { handle: segment.segment.handle(), position: found.position, len: found.len }
}

/// Room for a batch, and for so much as is likely to follow it, so that nothing is moved again.
fn make_room(copy: &mut Vec<u8>, batch: usize, left: u64) {
    if copy.capacity() - copy.len() < batch {
        let likely = left.min(limits::READ_ELSEWHERE_BYTES.into()) as usize;
        copy.reserve_exact(batch.max(likely));
    }
}

/// Whether pieces are copied together instead of being sent one by one, because that costs less.
fn are_many_short(lens: impl ExactSizeIterator<Item = u32>) -> bool {
    let count = lens.len();
    let bytes: u64 = lens.map(u64::from).sum();
    count > limits::GATHER_SPLICES_MIN && bytes / (count as u64) < limits::GATHER_SPLICE_BYTES
}

/// The bytes of splices of one segment, one after the other.
fn gather(segment: &OpenSegment, splices: &[Splice]) -> Result<Vec<u8>, ReadError> {
    let len = splices.iter().map(|splice| splice.len as usize).sum();
    let mut bytes = vec![0; len];
    let mut rest = &mut bytes[..];
    for splice in splices {
        let (part, after) = rest.split_at_mut(splice.len as usize);
        let read = segment.segment.file.read_at(part, splice.position).map_err(|e| ReadError::Io(e.to_string()))?;
        if read < part.len() {
            return Err(segment.corrupt(splice.position, "the file ends inside a run"));
        }
        rest = after;
    }
    Ok(bytes)
}

fn first_in_run(
    segment: &OpenSegment,
    run: RunRef,
    range: Offsets,
    timestamp: i64,
    buf: &mut Vec<u8>,
) -> Result<Option<RecordAt>, ReadError> {
    let mut cursor = BatchCursor::new(segment, run, buf)?;
    while let Some(found) = cursor.next()? {
        if found.header.last_offset() < range.0 || found.header.max_timestamp < timestamp {
            continue;
        }
        if found.header.base_offset >= range.1 {
            break;
        }
        let bytes = cursor.load(&found)?;
        let batch = Batch { header: found.header, bytes };
        let first = first_at_or_after_from(&batch, timestamp, range.0);
        let first = first.map_err(|error| segment.corrupt(found.position, &error.to_string()))?;
        if let Some((offset, timestamp)) = first {
            return Ok(Some((offset, timestamp, found.header.leader_epoch)));
        }
    }
    Ok(None)
}

/// The first record within the offsets that has the largest timestamp of the run's part there.
fn newest_in_run(
    segment: &OpenSegment,
    run: RunRef,
    range: Offsets,
    buf: &mut Vec<u8>,
) -> Result<Option<RecordAt>, ReadError> {
    let mut best: Option<RecordAt> = None;
    let mut scratch = Vec::new();
    let mut cursor = BatchCursor::new(segment, run, buf)?;
    while let Some(found) = cursor.next()? {
        let header = found.header;
        let is_out = header.last_offset() < range.0 || header.base_offset >= range.1;
        if is_out || best.is_some_and(|(_, newest, _)| header.max_timestamp <= newest) {
            continue;
        }
        let batch = Batch { header, bytes: cursor.load(&found)? };
        let wrong = |error: crate::wire::batch::BatchError| segment.corrupt(found.position, &error.to_string());
        for record in records(&batch, &mut scratch, DECOMPRESSED_BYTES_MAX).map_err(wrong)? {
            let record = record.map_err(wrong)?;
            let (offset, timestamp) = (record.offset(&header), record.timestamp(&header));
            let is_in = (range.0..range.1).contains(&offset);
            if is_in && best.is_none_or(|(_, newest, _)| timestamp > newest) {
                best = Some((offset, timestamp, header.leader_epoch));
            }
        }
    }
    Ok(best)
}
