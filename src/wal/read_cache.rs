//! Owns what readers keep open: handles of segments and the directories of their footers, under limits.
//!
//! Shared by all readers, so that a removed segment is let go at once (`forget`): an open handle would keep its space.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::footer::{self, footer_bytes_max, PageSummary, Trailer, PAGE_BYTES};
use super::recovery::read_trailer;
use super::scan::{Scan, Step};
use super::segment::{self, Segment};
use super::trusted::Trusted;
use super::{PartitionId, ReadError, RecoverError, RunRef, SegmentId};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, DiskFile, OpenMode};

/// Where segments are that this disk does not hold any more.
pub trait Elsewhere: Send + Sync + std::fmt::Debug {
    /// Whether a segment is to be looked for there and not on the disk.
    fn holds(&self, id: SegmentId) -> bool;
    /// The segment as a file that can only be read, each read of which may take long; `None` when it is not there.
    fn open(&self, id: SegmentId) -> Option<Arc<dyn DiskFile>>;
    /// What was read of a segment is damaged: whatever copies of it are at hand must not be used again.
    fn distrust(&self, id: SegmentId);
}

/// Open segments, the longest unused of which go first.
#[derive(Debug)]
pub struct ReadCache {
    disk: Arc<dyn Disk>,
    elsewhere: Option<Arc<dyn Elsewhere>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    segments: HashMap<SegmentId, Entry>,
    clock: u64,
    /// Segments of whose damaged footers the log has told.
    damaged: HashSet<SegmentId>,
}

#[derive(Debug)]
struct Entry {
    segment: Arc<OpenSegment>,
    used: u64,
}

/// A segment that is open for reading through the page cache.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub segment: Segment,
    /// It is not on this disk: it has no descriptor for `sendfile`, and reading it may take long.
    pub is_elsewhere: bool,
    index: Mutex<Option<Arc<Index>>>,
    /// What was found sound of it; held for no longer than a look or an entry takes.
    pub trusted: Mutex<Trusted>,
}

/// How the runs of a segment are found.
#[derive(Debug)]
pub(super) enum Index {
    Footer {
        trailer: Trailer,
        directory: Vec<PageSummary>,
    },
    /// Found by walking the groups, because the footer cannot be read; sorted like a footer.
    Walked(Vec<RunRef>),
}

impl Index {
    fn bytes(&self) -> usize {
        match self {
            Index::Footer { directory, .. } => std::mem::size_of_val(&directory[..]),
            Index::Walked(runs) => std::mem::size_of_val(&runs[..]),
        }
    }
}

impl Index {
    /// Pages, or runs, that may hold `offset` of a partition or what follows.
    fn range(&self, id: PartitionId, offset: i64) -> Range<usize> {
        match self {
            Index::Footer { directory, .. } => footer::pages_for(directory, id, offset),
            Index::Walked(runs) => {
                let start = runs.partition_point(|run| (run.id, run.last_offset) < (id, offset));
                start..runs.partition_point(|run| run.id <= id).max(start)
            }
        }
    }
}

impl ReadCache {
    pub fn new(disk: Arc<dyn Disk>) -> ReadCache {
        ReadCache { disk, elsewhere: None, state: Mutex::new(State::default()) }
    }

    /// With a place to look for segments that the disk does not hold.
    pub fn with_elsewhere(disk: Arc<dyn Disk>, elsewhere: Arc<dyn Elsewhere>) -> ReadCache {
        ReadCache { disk, elsewhere: Some(elsewhere), state: Mutex::new(State::default()) }
    }

    /// Whether reading a segment means waiting for more than this disk.
    pub fn is_elsewhere(&self, id: SegmentId) -> bool {
        self.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.holds(id))
    }

    /// What was read of a segment is damaged. True when another look may find it sound.
    pub(super) fn distrust(&self, id: SegmentId) -> bool {
        let Some(elsewhere) = self.elsewhere.as_ref().filter(|elsewhere| elsewhere.holds(id)) else { return false };
        self.forget(id);
        elsewhere.distrust(id);
        true
    }

    /// Lets go of a segment that is removed. Reads that are under way finish on it.
    pub fn forget(&self, id: SegmentId) {
        let mut state = self.state.lock();
        state.damaged.remove(&id);
        let gone = state.segments.remove(&id);
        drop(state);
        drop(gone);
    }

    /// The segment, or `None` when it is nowhere.
    pub(super) fn open(&self, id: SegmentId) -> Result<Option<Arc<OpenSegment>>, ReadError> {
        {
            let mut state = self.state.lock();
            state.clock += 1;
            let clock = state.clock;
            if let Some(entry) = state.segments.get_mut(&id) {
                entry.used = clock;
                return Ok(Some(entry.segment.clone()));
            }
        }
        let Some((segment, is_elsewhere)) = self.find(id)? else { return Ok(None) };
        let open = Arc::new(OpenSegment { segment, is_elsewhere, index: Mutex::new(None), trusted: Mutex::default() });
        let mut state = self.state.lock();
        if !is_elsewhere && self.is_elsewhere(id) {
            // Its file went meanwhile: kept open, it would keep its space.
            return Ok(Some(open));
        }
        let used = state.clock;
        state.segments.insert(id, Entry { segment: open.clone(), used });
        let gone = state.make_room(id);
        drop(state);
        drop(gone);
        Ok(Some(open))
    }

    /// Opens a segment wherever it is, and tells whether that is not on this disk.
    fn find(&self, id: SegmentId) -> Result<Option<(Segment, bool)>, ReadError> {
        let failed = |error| match error {
            RecoverError::Io { what, error } => ReadError::Io(format!("{what}: {error}")),
            other => ReadError::Corrupt(other.to_string()),
        };
        match segment::open(&*self.disk, id, OpenMode::Cached, None) {
            Ok(segment) => return Ok(Some((segment, false))),
            Err(RecoverError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        match self.elsewhere.as_ref().and_then(|elsewhere| elsewhere.open(id)) {
            Some(file) => Ok(Some((segment::opened(segment::path(id), id, file, None).map_err(failed)?, true))),
            None => Ok(None),
        }
    }

    /// Keeps the directories within their limit after one was loaded.
    fn trim(&self, newest: SegmentId) {
        let gone = self.state.lock().make_room(newest);
        drop(gone);
    }
}

impl State {
    /// Takes out the longest unused segments beyond the limits, but not `keep`.
    fn make_room(&mut self, keep: SegmentId) -> Vec<Entry> {
        let index_bytes = |entry: &Entry| entry.segment.index.lock().as_ref().map_or(0, |index| index.bytes());
        let mut bytes: usize = self.segments.values().map(index_bytes).sum();
        let mut gone = Vec::new();
        while self.segments.len() > limits::READ_HANDLES_MAX || bytes > limits::READ_INDEX_BYTES_MAX {
            let others = self.segments.iter().filter(|(id, _)| **id != keep);
            let Some(oldest) = others.min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id) else { break };
            if let Some(entry) = self.segments.remove(&oldest) {
                bytes -= index_bytes(&entry);
                gone.push(entry);
            }
        }
        gone
    }
}

impl OpenSegment {
    pub fn id(&self) -> SegmentId {
        self.segment.header.identity.segment
    }

    /// The index, loaded from the footer at the first use.
    pub fn index(&self, cache: &ReadCache) -> Result<Arc<Index>, ReadError> {
        if let Some(index) = &*self.index.lock() {
            return Ok(index.clone());
        }
        let failed = |error: io::Error| ReadError::Io(error.to_string());
        let index = match self.footer().map_err(failed)? {
            Some(index) => index,
            None => return self.walk(cache, None),
        };
        Ok(self.keep(cache, index))
    }

    fn keep(&self, cache: &ReadCache, index: Index) -> Arc<Index> {
        let index = Arc::new(index);
        *self.index.lock() = Some(index.clone());
        cache.trim(self.id());
        index
    }

    fn footer(&self) -> io::Result<Option<Index>> {
        let Some(trailer) = read_trailer(&self.segment)? else { return Ok(None) };
        // The trailer's CRC was right and its counts fit the file, so this is at most a part of the file.
        let mut bytes = vec![0; trailer.directory_bytes()];
        let read = self.segment.file.read_at(&mut bytes, trailer.directory_position())?;
        let directory = footer::parse_directory(&bytes[..read], &self.segment.header.identity, &trailer);
        Ok(directory.map(|directory| Index::Footer { trailer, directory }))
    }

    /// Finds the runs by walking the groups. Only a whole walk is believed when the segment is sealed, which a sound
    /// trailer proves by itself.
    fn walk(&self, cache: &ReadCache, trailer: Option<&Trailer>) -> Result<Arc<Index>, ReadError> {
        let failed = |error: io::Error| ReadError::Io(error.to_string());
        let file_bytes = self.segment.file.len().map_err(failed)?;
        let groups_end = trailer.map_or(file_bytes, |trailer| trailer.groups_end);
        let mut scan = Scan::new(&self.segment, self.segment.block(), groups_end);
        let mut runs = Vec::new();
        while let Step::Group(group) = scan.next().map_err(failed)? {
            let batches = group.runs.iter().filter(|run| run.header.kind == super::format::RUN_BATCHES);
            runs.extend(batches.map(|run| group.run_ref(run)));
        }
        runs.sort_unstable_by_key(|run| (run.id, run.base_offset, run.position));
        if trailer.is_none() && file_bytes == self.segment.header.file_bytes {
            // Still being written (or never sealed): right for now, and not to be kept.
            return Ok(Arc::new(Index::Walked(runs)));
        }
        let is_whole = match trailer {
            Some(trailer) => scan.position() == trailer.groups_end && runs.len() == trailer.run_count as usize,
            None => scan.position() + footer_bytes_max(runs.len() as u64, self.segment.block()) == file_bytes,
        };
        if !is_whole {
            return Err(self.corrupt(scan.position(), "neither the footer nor the groups can be read"));
        }
        if cache.state.lock().damaged.insert(self.id()) {
            log::warn!("{} has a damaged footer; its index was made from its groups", segment::path(self.id()));
        }
        Ok(self.keep(cache, Index::Walked(runs)))
    }

    /// Whether all of a run was checked a short while ago.
    pub fn trusts(&self, run: &RunRef, now_us: u64) -> bool {
        self.trusted.lock().until(run.position, now_us) >= run.position + u64::from(run.len)
    }

    pub fn corrupt(&self, position: u64, what: &str) -> ReadError {
        ReadError::Corrupt(format!("{} at position {position}: {what}", segment::path(self.id())))
    }

    /// The partition's runs that may hold `offset` or what follows, in offset order. Pages without a timestamp of at
    /// least `timestamp_min` are passed over.
    pub fn runs(
        self: &Arc<Self>,
        cache: &ReadCache,
        id: PartitionId,
        offset: i64,
        timestamp_min: i64,
    ) -> Result<Runs, ReadError> {
        let index = self.index(cache)?;
        let range = index.range(id, offset);
        Ok(Runs { segment: self.clone(), index, range, id, offset, timestamp_min, page: Vec::new().into_iter() })
    }
}

/// Runs of one partition in one segment, page by page.
pub(super) struct Runs {
    segment: Arc<OpenSegment>,
    index: Arc<Index>,
    /// Pages, or entries of a walked index, that are left.
    range: Range<usize>,
    id: PartitionId,
    offset: i64,
    timestamp_min: i64,
    page: std::vec::IntoIter<RunRef>,
}

impl Runs {
    pub fn next(&mut self, cache: &ReadCache) -> Result<Option<RunRef>, ReadError> {
        loop {
            let wanted = |run: &RunRef| run.id == self.id && run.last_offset >= self.offset;
            if let Some(run) = self.page.find(wanted) {
                self.offset = run.last_offset + 1;
                return Ok(Some(run));
            }
            let Some(number) = self.range.next() else { return Ok(None) };
            match &*self.index {
                Index::Walked(runs) => self.page = vec![runs[number]].into_iter(),
                Index::Footer { directory, .. } if directory[number].max_timestamp < self.timestamp_min => {}
                Index::Footer { trailer, .. } => match load_page(&self.segment, trailer, number)? {
                    Some(page) => self.page = page.into_iter(),
                    // The groups tell the same; from here on they are asked.
                    None => {
                        self.index = self.segment.walk(cache, Some(trailer))?;
                        self.range = self.index.range(self.id, self.offset);
                    }
                },
            }
        }
    }
}

/// A page of the index; `None` when it is damaged.
fn load_page(segment: &OpenSegment, trailer: &Trailer, number: usize) -> Result<Option<Vec<RunRef>>, ReadError> {
    let mut page = AlignedBuf::with_capacity(PAGE_BYTES);
    page.resize(PAGE_BYTES);
    let position = trailer.groups_end + (number * PAGE_BYTES) as u64;
    let read = segment.segment.file.read_at(&mut page, position).map_err(|e| ReadError::Io(e.to_string()))?;
    Ok(footer::parse_page(&page[..read], &segment.segment.header.identity, trailer.groups_end))
}
