//! Owns which runs of a partition a look-up meets in one segment, in offset order, and telling the disk of those that come.

use std::collections::VecDeque;
use std::sync::Arc;

use super::read_cache::{OpenSegment, ReadCache, Runs};
use super::{PartitionId, Place, ReadError, RunRef};
use crate::limits;

/// Where a place's runs come from: the broker's memory, or the segment's footer.
pub(super) enum RunSource<'a> {
    Given { runs: std::slice::Iter<'a, RunRef>, id: PartitionId, offset: i64 },
    Footer(Runs),
}

impl<'a> RunSource<'a> {
    pub fn new(
        cache: &ReadCache,
        segment: &Arc<OpenSegment>,
        id: PartitionId,
        place: &'a Place,
        offset: i64,
        timestamp_min: i64,
    ) -> Result<RunSource<'a>, ReadError> {
        match &place.runs {
            Some(runs) => Ok(RunSource::Given { runs: runs.iter(), id, offset }),
            None => Ok(RunSource::Footer(segment.runs(cache, id, offset, timestamp_min)?)),
        }
    }

    pub fn next(&mut self, cache: &ReadCache) -> Result<Option<RunRef>, ReadError> {
        match self {
            RunSource::Given { runs, id, offset } => {
                Ok(runs.find(|run| run.id == *id && run.last_offset >= *offset).copied())
            }
            RunSource::Footer(runs) => runs.next(cache),
        }
    }
}

/// Runs of which the disk was told before they are read, so that it looks for several at a time, and for what is asked for next while
/// a consumer is busy with what it got.
pub(super) struct RunsAhead<'a> {
    source: RunSource<'a>,
    segment: &'a OpenSegment,
    /// Taken from the source and not handed out yet, and their bytes.
    coming: VecDeque<RunRef>,
    coming_bytes: u64,
    /// What the source said in place of the run behind those; it concerns only who comes that far.
    failed: Option<ReadError>,
    now_us: u64,
}

impl<'a> RunsAhead<'a> {
    pub fn new(source: RunSource<'a>, segment: &'a OpenSegment, now_us: u64) -> RunsAhead<'a> {
        RunsAhead { source, segment, coming: VecDeque::new(), coming_bytes: 0, failed: None, now_us }
    }

    /// The next run, if it begins below `end_offset`, for somebody who takes so many bytes from there on.
    pub fn next(&mut self, cache: &ReadCache, end_offset: i64, wanted: u64) -> Result<Option<RunRef>, ReadError> {
        let reach = wanted.saturating_add(limits::READ_AHEAD_BYTES);
        while self.coming_bytes < reach && self.coming.len() < limits::READ_AHEAD_RUNS_MAX && self.failed.is_none() {
            let run = self.source.next(cache).unwrap_or_else(|failed| {
                self.failed = Some(failed);
                None
            });
            let Some(run) = run.filter(|run| run.base_offset < end_offset) else { break };
            // What was checked a short while ago was read then.
            if !self.segment.trusts(&run, self.now_us) {
                self.segment.segment.file.will_need(run.position, run.len.into());
            }
            self.coming_bytes += u64::from(run.len);
            self.coming.push_back(run);
        }
        match (self.coming.pop_front(), self.failed.take()) {
            (None, Some(failed)) => Err(failed),
            (None, None) => Ok(None),
            (Some(run), failed) => {
                self.failed = failed;
                self.coming_bytes -= u64::from(run.len);
                Ok(Some(run))
            }
        }
    }
}
