//! Owns carrying out a tidying: reading what lives of some segments, and writing it as one pack, sorted by partition.
//!
//! It reads past the page cache, in bounded memory, and asks after each piece whether to go on, so that whoever runs it can
//! set the pace. The checksums of the run and of each batch are looked at before the batch is written anew: damage is never copied.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::compact::{Clean, Indexing, Verdict};
use super::crc::crc_from;
use super::format::{RunHeader, RUN_HEADER_BYTES};
use super::pack::{self, Coverage, Kept, PackWriter};
use super::read_cache::{OpenSegment, ReadCache};
use super::segment;
use super::settings::Entropy;
use super::{PartitionId, PlannedBatch, ReadError, RunRef, SegmentId};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES};
use crate::wire::batch::{self, Batch, BatchError, BatchHeader};
use crate::wire::Uuid;

/// One pack to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TidyJob {
    /// The pack's number, which no other ever had.
    pub pack: u64,
    /// In the order of their ids, each partition once.
    pub parts: Vec<TidyPart>,
    /// Bytes that must stay free on the filesystem beside what the pack needs.
    pub spare_bytes: u64,
}

/// What is done with one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TidyPart {
    pub id: PartitionId,
    /// All that the partition has in some of the segments, in offset order; adjacent in its log.
    pub sources: Vec<TidySource>,
    /// Batches that end below this offset are dropped.
    pub live_from: i64,
    pub mode: TidyMode,
}

/// All that a partition has in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TidySource {
    pub segment: SegmentId,
    pub base_offset: i64,
    pub last_offset: i64,
    /// Length of the batches in bytes.
    pub bytes: u64,
}

/// How a partition is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TidyMode {
    /// Every live batch as it is.
    Copy,
    /// Compacted. The sources reach from the partition's first batch to the end of what is cleaned, at least.
    Clean(Box<Clean>),
}

/// What became of a job.
#[derive(Debug)]
pub struct TidyDone {
    pub pack: u64,
    pub result: Result<Tidied, TidyError>,
}

/// A pack that is there, durably.
#[derive(Clone, Debug)]
pub struct Tidied {
    /// One per part, in the same order.
    pub coverage: Vec<Coverage>,
    /// Length of the pack's file.
    pub file_bytes: u64,
    /// Runs in it.
    pub runs: u64,
    /// Bytes that were read and written for it.
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// Why there is no pack. Nothing of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TidyError {
    /// There is no space for it.
    Full(String),
    /// A source is damaged or gone: it must stay as it is. Says file, position and what.
    Damaged(SegmentId, String),
    /// The records of a batch make no sense, though its checksum is right: so they came. Says file, position and what.
    Unreadable(String),
    /// The disk failed.
    Io(String),
    /// A source is in the object store only, which could not be read.
    Away(String),
    /// Whoever sets the pace said to stop.
    Stopped,
}

impl TidyError {
    /// Whether the same job may succeed another time.
    pub fn is_passing(&self) -> bool {
        !matches!(self, TidyError::Damaged(..) | TidyError::Unreadable(_))
    }
}

impl TidyPart {
    /// The first offset that the sources stand for, and the one behind them.
    fn range(&self) -> (i64, i64) {
        let from = self.sources.first().map_or(0, |source| source.base_offset);
        (from, self.sources.last().map_or(from, |source| source.last_offset + 1))
    }
}

/// Carries out jobs, one at a time. Blocks on the disk, so it belongs on a thread of its own.
#[derive(Debug)]
pub struct Tidier {
    disk: Arc<dyn Disk>,
    directory: Uuid,
    cache: Arc<ReadCache>,
    entropy: Entropy,
}

/// Told after each piece how many bytes were moved; false ends the job.
pub type Pace<'a> = &'a mut dyn FnMut(u64) -> bool;

impl Tidier {
    /// `cache` finds the runs; sharing it with the readers lets removed segments go at once.
    pub fn new(disk: Arc<dyn Disk>, directory: Uuid, cache: Arc<ReadCache>, entropy: Entropy) -> Tidier {
        Tidier { disk, directory, cache, entropy }
    }

    /// Does a job. Whatever it ends with, the sources are untouched.
    pub fn run(&mut self, job: &TidyJob, pace: Pace<'_>) -> TidyDone {
        let mut result = self.make(job, &mut *pace);
        if let Err(TidyError::Damaged(segment, _)) = &result {
            // Of what lies elsewhere a copy may be damaged; it is read once more without that.
            if self.cache.distrust(*segment) {
                pack::abandon(&*self.disk, job.pack);
                result = self.make(job, pace);
            }
        }
        if result.is_err() {
            pack::abandon(&*self.disk, job.pack);
        }
        TidyDone { pack: job.pack, result }
    }

    fn make(&mut self, job: &TidyJob, pace: Pace<'_>) -> Result<Tidied, TidyError> {
        let sources = job.parts.iter().flat_map(|part| &part.sources);
        let content: u64 = sources.map(|source| source.bytes).sum();
        let free = self.disk.free_bytes().map_err(failed)?;
        let need = content + content / 64 + job.spare_bytes;
        if free < need {
            return Err(TidyError::Full(format!("{free} bytes are free and {need} are needed")));
        }
        let incarnation = self.entropy.next_u64().map_err(failed)?;
        let disk = self.disk.clone();
        let writer = PackWriter::create(&*disk, self.directory, job.pack, incarnation, job.parts.len(), content);
        let mut work = Work {
            disk: &*disk,
            cache: &self.cache,
            files: HashMap::new(),
            window: Window::default(),
            writer: writer.map_err(failed)?,
            kept: vec![None; job.parts.len()],
            outcomes: vec![Bytes::new(); job.parts.len()],
            read_bytes: 0,
            told_bytes: 0,
            pace,
        };
        work.rewrite_all(job)?;
        let Work { writer, kept, outcomes, read_bytes, .. } = work;
        let results = job.parts.iter().zip(kept).zip(outcomes);
        let coverage: Vec<Coverage> = results.map(|((part, kept), outcome)| coverage(part, kept, outcome)).collect();
        let (file_bytes, runs) = writer.finish(&coverage).map_err(failed)?;
        Ok(Tidied { coverage, file_bytes, runs, read_bytes, written_bytes: file_bytes })
    }
}

fn coverage(part: &TidyPart, kept: Option<Kept>, outcome: Bytes) -> Coverage {
    let (from_offset, to_offset) = part.range();
    Coverage { id: part.id, from_offset, to_offset, kept, outcome }
}

fn failed(error: io::Error) -> TidyError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => TidyError::Full(error.to_string()),
        _ => TidyError::Io(error.to_string()),
    }
}

/// A job under way.
struct Work<'a> {
    disk: &'a dyn Disk,
    cache: &'a ReadCache,
    /// Sources that are open, past the page cache or in the object store.
    files: HashMap<SegmentId, Arc<dyn DiskFile>>,
    window: Window,
    writer: PackWriter<'a>,
    /// What was written of each part.
    kept: Vec<Option<Kept>>,
    /// What the cleaning of each part came to.
    outcomes: Vec<Bytes>,
    read_bytes: u64,
    told_bytes: u64,
    pace: Pace<'a>,
}

/// A partition's batches in one source.
struct Unit<'a> {
    index: usize,
    part: &'a TidyPart,
    source: TidySource,
}

impl Work<'_> {
    /// Does all parts in their order, copying as many of them at once as fit the memory for that.
    fn rewrite_all(&mut self, job: &TidyJob) -> Result<(), TidyError> {
        let (mut units, mut bytes) = (Vec::new(), 0);
        for (index, part) in job.parts.iter().enumerate() {
            if let TidyMode::Clean(clean) = &part.mode {
                self.pass(&std::mem::take(&mut units))?;
                bytes = 0;
                self.clean(index, part, clean)?;
                continue;
            }
            for source in &part.sources {
                if bytes + source.bytes > limits::TIDY_PASS_BYTES && !units.is_empty() {
                    self.pass(&units)?;
                    units.clear();
                    bytes = 0;
                }
                bytes += source.bytes;
                units.push(Unit { index, part, source: *source });
            }
        }
        self.pass(&units)
    }

    /// Copies some units. One alone, which may be large, is copied run by run; of several, all runs are read in the order
    /// in which they lie on the disk before they are written.
    fn pass(&mut self, units: &[Unit<'_>]) -> Result<(), TidyError> {
        let mut runs = Vec::new();
        for (at, unit) in units.iter().enumerate() {
            runs.extend(self.runs_of(unit)?.into_iter().map(|run| (at, run)));
        }
        if units.len() > 1 {
            runs.sort_unstable_by_key(|(_, run)| (run.segment, run.position));
        }
        let mut held = Vec::with_capacity(if units.len() > 1 { runs.len() } else { 0 });
        for next in 0..runs.len() {
            let (at, run) = runs[next];
            let bytes = self.read(run, ahead(&runs[next..]))?;
            match units.len() {
                1 => self.copy(&units[at], run, &bytes)?,
                _ => held.push((at, run, bytes)),
            }
        }
        held.sort_unstable_by_key(|(at, run, _)| (*at, run.base_offset));
        for (at, run, bytes) in held {
            self.copy(&units[at], run, &bytes)?;
        }
        Ok(())
    }

    /// Compacts a partition: one walk over what is dirty, and one over everything.
    fn clean(&mut self, index: usize, part: &TidyPart, clean: &Clean) -> Result<(), TidyError> {
        let units = part.sources.iter().map(|source| Unit { index, part, source: *source });
        let units: Vec<Unit<'_>> = units.collect();
        let mut indexing = Indexing::new(clean);
        'indexing: for unit in &units {
            let runs: Vec<_> = self.runs_of(unit)?.into_iter().map(|run| (0, run)).collect();
            let dirty = runs.partition_point(|(_, run)| run.last_offset < clean.first_dirty);
            for next in dirty..runs.len() {
                let (run, bytes) = (runs[next].1, self.read(runs[next].1, ahead(&runs[next..]))?);
                for item in Checked::new(run, part.live_from, &bytes) {
                    let (position, batch) = item?;
                    let goes_on = indexing.batch(&batch).map_err(|error| unreadable(run, position, &error))?;
                    if !goes_on {
                        break 'indexing;
                    }
                }
                self.keep_pace()?;
            }
        }
        let mut cleaning = indexing.finish();
        for unit in &units {
            let runs: Vec<_> = self.runs_of(unit)?.into_iter().map(|run| (0, run)).collect();
            for next in 0..runs.len() {
                let (run, bytes) = (runs[next].1, self.read(runs[next].1, ahead(&runs[next..]))?);
                for item in Checked::new(run, part.live_from, &bytes) {
                    let (position, batch) = item?;
                    let wrong = |error: BatchError| unreadable(run, position, &error);
                    match cleaning.batch(&batch).map_err(wrong)? {
                        Verdict::Gone => {}
                        Verdict::Unchanged => self.keep(unit, &batch.header, bytes.slice_ref(batch.bytes))?,
                        Verdict::Rewritten(shorter) => {
                            let header = BatchHeader::parse(shorter).map_err(wrong)?;
                            self.keep(unit, &header, Bytes::copy_from_slice(shorter))?;
                        }
                    }
                }
                self.keep_pace()?;
            }
        }
        self.outcomes[index] = cleaning.finish().encode().into();
        Ok(())
    }

    /// The runs of a unit, which must hold exactly what the broker knows of it.
    fn runs_of(&mut self, unit: &Unit<'_>) -> Result<Vec<RunRef>, TidyError> {
        let source = &unit.source;
        let damaged = |error: ReadError| read_failed(self.cache, source.segment, error);
        let open = self.open(source.segment)?;
        let mut found = open.runs(self.cache, unit.part.id, source.base_offset, i64::MIN).map_err(damaged)?;
        let (mut runs, mut bytes) = (Vec::new(), 0);
        while let Some(run) = found.next(self.cache).map_err(damaged)? {
            if run.base_offset > source.last_offset {
                break;
            }
            bytes += u64::from(run.len);
            runs.push(run);
        }
        let first = runs.first().map(|run| run.base_offset);
        let last = runs.last().map(|run| run.last_offset);
        if (first, last, bytes) != (Some(source.base_offset), Some(source.last_offset), source.bytes) {
            let what = format!("its index leads to {bytes} bytes of a partition that has {} there", source.bytes);
            return Err(damaged(open.corrupt(0, &what)));
        }
        Ok(runs)
    }

    fn open(&self, id: SegmentId) -> Result<Arc<OpenSegment>, TidyError> {
        match self.cache.open(id).map_err(|error| read_failed(self.cache, id, error))? {
            Some(open) => Ok(open),
            None => Err(TidyError::Damaged(id, format!("{id} is gone"))),
        }
    }

    fn file(&mut self, id: SegmentId) -> Result<Arc<dyn DiskFile>, TidyError> {
        if let Some(file) = self.files.get(&id) {
            return Ok(file.clone());
        }
        let open = self.open(id)?;
        let file = match open.is_elsewhere {
            true => open.segment.file.clone(),
            false => self.disk.open(&segment::path(id), OpenMode::Direct).map_err(failed)?,
        };
        self.files.insert(id, file.clone());
        Ok(file)
    }

    /// A run's bytes; what lies behind it up to `ahead` is read along.
    fn read(&mut self, run: RunRef, ahead: u64) -> Result<Bytes, TidyError> {
        let (from, to) = (run.position, run.position + u64::from(run.len));
        let head = from.saturating_sub(RUN_HEADER_BYTES as u64);
        if !self.window.holds(run.segment, head, to) {
            let file = self.file(run.segment)?;
            let loaded = self.window.load(run.segment, &*file, head, ahead.max(to));
            self.read_bytes += loaded.map_err(|error| match self.cache.is_elsewhere(run.segment) {
                true => TidyError::Away(error.to_string()),
                false => failed(error),
            })?;
            self.keep_pace()?;
        }
        let seed = self.open(run.segment)?.segment.header.identity.seed();
        let (Some(head), Some(bytes)) = (self.window.get(head, from), self.window.get(from, to)) else {
            return Err(damaged(run, from, "the file ends inside a run"));
        };
        // The batches' own checksums leave out what stands before them.
        let is_sound =
            RunHeader::parse(head).is_some_and(|header| header.crc == crc_from(crc_from(seed, &head[8..]), bytes));
        match is_sound {
            true => Ok(Bytes::copy_from_slice(bytes)),
            false => Err(damaged(run, from, "the checksum of the run is wrong")),
        }
    }

    /// Writes what lives of a run.
    fn copy(&mut self, unit: &Unit<'_>, run: RunRef, bytes: &Bytes) -> Result<(), TidyError> {
        for item in Checked::new(run, unit.part.live_from, bytes) {
            let (_, batch) = item?;
            self.keep(unit, &batch.header, bytes.slice_ref(batch.bytes))?;
        }
        self.keep_pace()
    }

    fn keep(&mut self, unit: &Unit<'_>, header: &BatchHeader, bytes: Bytes) -> Result<(), TidyError> {
        let len = bytes.len() as u64;
        let planned = PlannedBatch { bytes, base_offset: header.base_offset, leader_epoch: header.leader_epoch };
        let last_offset = header.last_offset();
        self.writer.push(unit.part.id, planned, last_offset, header.max_timestamp).map_err(failed)?;
        let kept = self.kept[unit.index].get_or_insert(Kept {
            base_offset: header.base_offset,
            last_offset,
            max_timestamp: header.max_timestamp,
            bytes: 0,
        });
        kept.last_offset = last_offset;
        kept.max_timestamp = kept.max_timestamp.max(header.max_timestamp);
        kept.bytes += len;
        Ok(())
    }

    fn keep_pace(&mut self) -> Result<(), TidyError> {
        let moved = self.read_bytes + self.writer.written() - self.told_bytes;
        if moved < limits::TIDY_PIECE_BYTES as u64 {
            return Ok(());
        }
        self.told_bytes += moved;
        match (self.pace)(moved) {
            true => Ok(()),
            false => Err(TidyError::Stopped),
        }
    }
}

/// The live batches of a run with their positions in the file, each after its checksum was looked at.
struct Checked<'a> {
    run: RunRef,
    live_from: i64,
    batches: batch::Batches<'a>,
    position: u64,
    next_offset: i64,
}

impl<'a> Checked<'a> {
    fn new(run: RunRef, live_from: i64, bytes: &'a [u8]) -> Checked<'a> {
        let batches = batch::batches(bytes);
        Checked { run, live_from, batches, position: run.position, next_offset: run.base_offset }
    }

    fn check(&mut self, item: Result<Batch<'a>, BatchError>) -> Result<(u64, Batch<'a>), TidyError> {
        let position = self.position;
        let wrong = |what: &str| damaged(self.run, position, what);
        let batch = item.map_err(|error| wrong(&error.to_string()))?;
        let header = &batch.header;
        if !batch::verify_crc(batch.bytes) {
            return Err(wrong("the checksum of the batch is wrong"));
        }
        if header.base_offset < self.next_offset || header.last_offset() > self.run.last_offset {
            return Err(wrong("the batch does not fit the run that holds it"));
        }
        self.next_offset = header.last_offset() + 1;
        self.position += batch.bytes.len() as u64;
        Ok((position, batch))
    }
}

impl<'a> Iterator for Checked<'a> {
    type Item = Result<(u64, Batch<'a>), TidyError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let item = self.batches.next()?;
            let checked = self.check(item);
            if !matches!(&checked, Ok((_, batch)) if batch.header.last_offset() < self.live_from) {
                return Some(checked);
            }
        }
    }
}

fn read_failed(cache: &ReadCache, segment: SegmentId, error: ReadError) -> TidyError {
    match error {
        ReadError::Corrupt(what) | ReadError::Unsupported(what) => TidyError::Damaged(segment, what),
        ReadError::Io(what) | ReadError::Away(what) if cache.is_elsewhere(segment) => TidyError::Away(what),
        ReadError::Io(what) | ReadError::Away(what) => TidyError::Io(what),
    }
}

fn damaged(run: RunRef, position: u64, what: &str) -> TidyError {
    TidyError::Damaged(run.segment, format!("{} at position {position}: {what}", run.segment))
}

fn unreadable(run: RunRef, position: u64, error: &BatchError) -> TidyError {
    TidyError::Unreadable(format!("{} at position {position}: {error}", run.segment))
}

/// Up to where it pays to read on behind the first of these runs: others follow closely, and all fit one piece.
fn ahead(runs: &[(usize, RunRef)]) -> u64 {
    let Some((_, first)) = runs.first() else { return 0 };
    let mut end = first.position + u64::from(first.len);
    for (_, run) in &runs[1..] {
        let run_end = run.position + u64::from(run.len);
        let is_near = run.segment == first.segment
            && run.position >= end
            && run.position - end <= limits::TIDY_GAP_BYTES
            && run_end - first.position <= limits::TIDY_PIECE_BYTES as u64;
        if !is_near {
            break;
        }
        end = run_end;
    }
    end
}

/// A stretch of a source in memory.
#[derive(Default)]
struct Window {
    segment: SegmentId,
    start: u64,
    buf: Option<AlignedBuf>,
}

impl Window {
    fn holds(&self, segment: SegmentId, from: u64, to: u64) -> bool {
        segment == self.segment && self.get(from, to).is_some()
    }

    fn get(&self, from: u64, to: u64) -> Option<&[u8]> {
        let from = usize::try_from(from.checked_sub(self.start)?).ok()?;
        let to = usize::try_from(to.checked_sub(self.start)?).ok()?;
        self.buf.as_ref()?.get(from..to)
    }

    /// Reads whole blocks around a stretch; the number of bytes read.
    fn load(&mut self, segment: SegmentId, file: &dyn DiskFile, from: u64, to: u64) -> io::Result<u64> {
        let block = BLOCK_BYTES as u64;
        self.segment = segment;
        self.start = from / block * block;
        let len = (to - self.start).next_multiple_of(block) as usize;
        let fits = |buf: &AlignedBuf| (len..=4 * len.max(limits::TIDY_PIECE_BYTES)).contains(&buf.capacity());
        let mut buf = match self.buf.take().filter(fits) {
            Some(buf) => buf,
            None => AlignedBuf::with_capacity(len.max(limits::TIDY_PIECE_BYTES)),
        };
        buf.resize(len);
        let read = file.read_at(&mut buf, self.start)?;
        buf.resize(read.min(len));
        self.buf = Some(buf);
        Ok(read as u64)
    }
}
