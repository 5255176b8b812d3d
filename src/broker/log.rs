//! Owns one partition's place in the log: offsets, what lies in which segment, and what is still in memory.

use std::collections::VecDeque;

use super::logical::{Ends, Growth, LogicalSegments, Roll};
use super::producers::Producers;
use super::txn::partition::PartitionTxns;
use crate::wal::compact::Outcome;
use crate::wal::{PartitionId, Place, RunRef, SegmentId};
use crate::wire::batch::BatchHeader;
use crate::wire::control::EndMarker;

/// A partition's data in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRange {
    pub segment: SegmentId,
    pub base_offset: i64,
    pub last_offset: i64,
    /// Largest timestamp in ms; -1 when no record has one.
    pub max_timestamp: i64,
    pub bytes: u64,
}

/// One partition. *Appended* is what has an offset; *durable* is what clients may see.
#[derive(Clone, Debug)]
pub struct PartitionLog {
    pub id: PartitionId,
    /// The first offset that clients may read.
    pub start_offset: i64,
    /// The offset that the next record gets.
    pub next_offset: i64,
    /// The end of what is durable: the high watermark.
    pub high_watermark: i64,
    pub leader_epoch: i32,
    /// Leader epochs with the offset at which each began, oldest first. Never empty.
    pub epochs: Vec<(i32, i64)>,
    pub producers: Producers,
    pub txns: PartitionTxns,
    /// What retention and compaction go by.
    pub logical: LogicalSegments,
    /// The first offset that compaction has not looked at; below `start_offset` when deletion was faster.
    pub first_dirty: i64,
    /// Durable data by segment, in offset order.
    ranges: VecDeque<SegmentRange>,
    /// Durable runs that lie in the unsealed segment or in the ring, in offset order.
    runs: VecDeque<RunRef>,
}

impl PartitionLog {
    /// An empty log.
    pub fn new(id: PartitionId) -> PartitionLog {
        PartitionLog {
            id,
            start_offset: 0,
            next_offset: 0,
            high_watermark: 0,
            leader_epoch: 0,
            epochs: vec![(0, 0)],
            producers: Producers::default(),
            txns: PartitionTxns::default(),
            logical: LogicalSegments::default(),
            first_dirty: 0,
            ranges: VecDeque::new(),
            runs: VecDeque::new(),
        }
    }

    /// Bytes of the logical segments that have not been deleted: the size of the partition as in Kafka.
    pub fn bytes(&self) -> u64 {
        self.logical.bytes()
    }

    /// Where the log begins and ends.
    pub fn ends(&self) -> Ends {
        Ends { start_offset: self.start_offset, high_watermark: self.high_watermark, next_offset: self.next_offset }
    }

    /// Counts a batch that got its offsets, data or marker, into the logical segments. Wall clock in ms.
    pub fn grown(&mut self, batch: &Growth, roll: &Roll, now_ms: i64) {
        self.logical.append(self.id, batch, roll, now_ms);
    }

    pub fn ranges(&self) -> impl ExactSizeIterator<Item = &SegmentRange> + DoubleEndedIterator {
        self.ranges.iter()
    }

    /// The end of what readers of committed records may see: the first record of the first transaction that has not
    /// durably ended, else the high watermark. It never goes back.
    pub fn last_stable_offset(&self) -> i64 {
        let unstable = self.txns.first_unstable().unwrap_or(i64::MAX).max(self.start_offset);
        unstable.min(self.high_watermark)
    }

    /// The end of what a reader may see.
    pub fn readable_end(&self, read_committed: bool) -> i64 {
        match read_committed {
            true => self.last_stable_offset(),
            false => self.high_watermark,
        }
    }

    /// Notes a data batch that got its offset, or that was found at recovery. Times are wall clock, ms. True when its producer
    /// was not known ([`Topics::producer_added`](super::topics::Topics::producer_added)).
    pub fn batch_appended(&mut self, header: &BatchHeader, base_offset: i64, append_time_ms: i64, now_ms: i64) -> bool {
        let known = self.producers.len();
        if self.producers.appended(header, base_offset, append_time_ms, now_ms) {
            self.txns.begin(base_offset);
        }
        self.producers.len() != known
    }

    /// Notes a transaction's marker that got its offset, or that was found at recovery. True when its producer was not known.
    pub fn marker_appended(&mut self, marker: &EndMarker, offset: i64, now_ms: i64) -> bool {
        let known = self.producers.len();
        if let Some(first_offset) = self.producers.ended(marker, now_ms) {
            self.txns.end(marker.producer_id, first_offset, offset, marker.committed);
        }
        self.producers.len() != known
    }

    /// A run became durable (or was found at recovery). Runs come in offset order. True when the partition has its
    /// first run in that segment.
    pub fn durable(&mut self, run: RunRef) -> bool {
        self.runs.push_back(run);
        self.high_watermark = run.last_offset + 1;
        self.txns.durable(self.high_watermark);
        self.next_offset = self.next_offset.max(run.last_offset + 1);
        match self.ranges.back_mut() {
            Some(range) if range.segment == run.segment => {
                range.last_offset = run.last_offset;
                range.max_timestamp = range.max_timestamp.max(run.max_timestamp);
                range.bytes += u64::from(run.len);
                false
            }
            _ => {
                self.ranges.push_back(SegmentRange {
                    segment: run.segment,
                    base_offset: run.base_offset,
                    last_offset: run.last_offset,
                    max_timestamp: run.max_timestamp,
                    bytes: u64::from(run.len),
                });
                true
            }
        }
    }

    /// Puts back a range from a checkpoint.
    pub fn restore_range(&mut self, range: SegmentRange) {
        self.ranges.push_back(range);
    }

    /// Forgets runs of segments before `unsealed` that are no longer in the ring, which begins at `ring`
    /// (segment and position).
    pub fn forget_runs(&mut self, unsealed: SegmentId, ring: (SegmentId, u64)) {
        while let Some(run) = self.runs.front() {
            if run.segment >= unsealed || (run.segment, run.position) >= ring {
                break;
            }
            self.runs.pop_front();
        }
    }

    /// Runs that memory knows, from the one that holds `offset` on.
    pub fn runs_from(&self, offset: i64) -> impl Iterator<Item = &RunRef> {
        let first = self.runs.partition_point(|run| run.last_offset < offset);
        self.runs.range(first..)
    }

    /// Whether memory knows the run in which `offset` lies (or would lie).
    pub fn knows_run(&self, offset: i64) -> bool {
        self.runs.front().is_some_and(|run| run.base_offset <= offset)
    }

    /// Where to look for `offset` (or the next one that exists): the segment, and the runs when memory knows all of the
    /// partition's runs there from `offset` on, at most `runs_max` of them.
    pub fn place(&self, offset: i64, runs_max: usize) -> Option<Place> {
        let index = self.ranges.partition_point(|range| range.last_offset < offset);
        let range = self.ranges.get(index)?;
        Some(self.place_of(range, offset, runs_max))
    }

    /// All places that may hold a timestamp of at least `timestamp`, from `offset` on, in offset order.
    pub fn places(&self, offset: i64, timestamp: i64, places_max: usize) -> Vec<Place> {
        let matches = |range: &&SegmentRange| range.last_offset >= offset && range.max_timestamp >= timestamp;
        let ranges = self.ranges.iter().filter(matches).take(places_max);
        ranges.map(|range| self.place_of(range, offset.max(range.base_offset), usize::MAX)).collect()
    }

    fn place_of(&self, range: &SegmentRange, offset: i64, runs_max: usize) -> Place {
        let from = offset.max(range.base_offset);
        let runs = self
            .knows_run(from)
            .then(|| self.runs_from(from).filter(|run| run.segment == range.segment).take(runs_max).copied().collect());
        Place { segment: range.segment, runs }
    }

    /// The largest timestamp of what is durable and not deleted; `None` when nothing has one.
    pub fn max_timestamp(&self) -> Option<i64> {
        self.ranges.iter().map(|range| range.max_timestamp).max().filter(|timestamp| *timestamp >= 0)
    }

    /// A timestamp that some record certainly reaches, or less: a range that the log start cuts may have lost its largest.
    pub fn max_timestamp_at_least(&self) -> i64 {
        let whole = self.ranges.iter().filter(|range| range.base_offset >= self.start_offset);
        whole.map(|range| range.max_timestamp).max().unwrap_or(i64::MIN)
    }

    /// Moves the start; returns the ranges that are gone.
    pub fn advance_start(&mut self, offset: i64) -> Vec<SegmentRange> {
        self.start_offset = self.start_offset.max(offset);
        self.txns.forget_below(self.start_offset);
        self.logical.forget_below(self.start_offset, self.next_offset);
        let mut gone = Vec::new();
        while let Some(range) = self.ranges.front() {
            if range.last_offset >= self.start_offset {
                break;
            }
            gone.push(*range);
            self.ranges.pop_front();
        }
        while self.runs.front().is_some_and(|run| run.last_offset < self.start_offset) {
            self.runs.pop_front();
        }
        gone
    }

    /// The first of the partition's ranges that lie in certain segments, and those that follow it without another between.
    pub fn stretch(&self, is_wanted: impl Fn(SegmentId) -> bool) -> Vec<SegmentRange> {
        let ranges = self.ranges.iter().skip_while(|range| !is_wanted(range.segment));
        ranges.take_while(|range| is_wanted(range.segment)).copied().collect()
    }

    /// All such stretches.
    pub fn stretches(&self, is_wanted: impl Fn(SegmentId) -> bool) -> Vec<Vec<SegmentRange>> {
        let (mut stretches, mut goes_on) = (Vec::<Vec<SegmentRange>>::new(), false);
        for range in &self.ranges {
            let is_in = is_wanted(range.segment);
            match stretches.last_mut().filter(|_| goes_on) {
                Some(stretch) if is_in => stretch.push(*range),
                None if is_in => stretches.push(vec![*range]),
                _ => {}
            }
            goes_on = is_in;
        }
        stretches
    }

    /// All ranges that begin below an offset.
    pub fn ranges_below(&self, offset: i64) -> Vec<SegmentRange> {
        self.ranges.iter().take_while(|range| range.base_offset < offset).copied().collect()
    }

    /// A pack has taken the place of all ranges from `from` on and below `to`; `with` is what it holds of them that still
    /// lives. Returns the ranges that are gone.
    pub fn replace(&mut self, from: i64, to: i64, with: Option<SegmentRange>) -> Vec<SegmentRange> {
        let start = self.ranges.partition_point(|range| range.base_offset < from);
        let end = self.ranges.partition_point(|range| range.last_offset < to).max(start);
        let gone: Vec<SegmentRange> = self.ranges.drain(start..end).collect();
        if let Some(range) = with {
            self.ranges.insert(start, range);
        }
        // What memory knows of them is about files that go; runs before them go along, so that what is left is whole.
        while self.runs.front().is_some_and(|run| run.last_offset < to) {
            self.runs.pop_front();
        }
        gone
    }

    /// Whether data below this offset lies in this segment or a later one.
    pub fn reaches_into(&self, segment: SegmentId, offset: i64) -> bool {
        self.ranges_from(segment).any(|range| range.base_offset < offset)
    }

    /// Whether all that lies in this segment or in a later one is below this offset.
    pub fn ends_in(&self, segment: SegmentId, offset: i64) -> bool {
        self.ranges_from(segment).any(|range| range.last_offset < offset)
    }

    /// The data in this segment and later ones, newest first.
    fn ranges_from(&self, segment: SegmentId) -> impl Iterator<Item = &SegmentRange> {
        self.ranges.iter().rev().take_while(move |range| range.segment >= segment)
    }

    /// Takes over what a cleaning came to; its batches are what `ranges` point to from now on.
    pub fn cleaned(&mut self, outcome: &Outcome) {
        self.first_dirty = outcome.cleaned_to;
        self.logical.cleaned(outcome);
        self.logical.forget_below(self.start_offset, self.next_offset);
        self.txns.forget_aborted(&outcome.aborted_gone);
    }

    /// Begins a new leader epoch at the current end (after a stop that may have lost what was visible): the next one, or
    /// `at_least`.
    pub fn raise_epoch(&mut self, at_least: i32) {
        self.leader_epoch = at_least.max(self.leader_epoch + 1);
        if self.epochs.last().is_some_and(|(_, start)| *start == self.next_offset) {
            self.epochs.pop();
        }
        self.epochs.push((self.leader_epoch, self.next_offset));
    }

    /// KIP-101: the largest epoch not above `epoch`, and the offset at which it ended. An epoch of which nothing is kept
    /// ended where the next one begins; so did, to Kafka, epochs below -1. `None` for an epoch that is newer than the
    /// partition's, and for -1.
    pub fn epoch_end(&self, epoch: i32) -> Option<(i32, i64)> {
        if epoch > self.leader_epoch || epoch == -1 {
            return None;
        }
        let next = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let end = self.epochs.get(next).map_or(self.high_watermark, |(_, start)| *start);
        match next.checked_sub(1).and_then(|at| self.epochs.get(at)) {
            Some((known, _)) if next == self.epochs.len() || end > self.start_offset => Some((*known, end)),
            None if self.next_offset == 0 && epoch >= 0 => None,
            _ => Some((epoch, end.max(self.start_offset))),
        }
    }

    /// The epoch in force at an offset.
    pub fn epoch_at(&self, offset: i64) -> i32 {
        self.epochs.iter().rev().find(|(_, start)| *start <= offset).map_or(self.epochs[0].0, |(epoch, _)| *epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    fn id() -> PartitionId {
        PartitionId { topic: Uuid([1; 16]), partition: 0 }
    }

    fn run(segment: u64, position: u64, base_offset: i64, last_offset: i64, max_timestamp: i64) -> RunRef {
        let segment = SegmentId::Wal(segment);
        RunRef { id: id(), base_offset, last_offset, max_timestamp, segment, position, len: 100 }
    }

    fn log() -> PartitionLog {
        let mut log = PartitionLog::new(id());
        log.durable(run(1, 4096, 0, 9, 1000));
        log.durable(run(1, 8192, 10, 19, 2000));
        log.durable(run(2, 4096, 20, 29, 3000));
        log
    }

    #[test]
    fn every_segment_with_data_is_found_not_only_the_newest() {
        let log = log();
        assert_eq!(log.place(0, 10).unwrap().segment, SegmentId::Wal(1));
        assert_eq!(log.place(19, 10).unwrap().segment, SegmentId::Wal(1));
        assert_eq!(log.place(20, 10).unwrap().segment, SegmentId::Wal(2));
        assert!(log.place(30, 10).is_none());
        assert_eq!((log.high_watermark, log.next_offset), (30, 30));
    }

    #[test]
    fn the_largest_timestamp_of_deleted_records_hides_no_segment() {
        let mut log = PartitionLog::new(id());
        log.durable(run(1, 4096, 0, 9, 9000));
        log.durable(run(1, 8192, 10, 19, 2000));
        log.durable(run(2, 4096, 20, 29, 3000));
        assert_eq!(log.max_timestamp_at_least(), 9000);
        log.advance_start(10);
        assert_eq!(log.max_timestamp_at_least(), 3000);
        assert_eq!(log.places(10, log.max_timestamp_at_least(), 10).len(), 2);
    }

    #[test]
    fn runs_of_a_sealed_segment_are_asked_of_its_footer_once_they_left_memory() {
        let mut log = log();
        assert_eq!(log.place(12, 10).unwrap().runs.unwrap().len(), 1);
        log.forget_runs(SegmentId::Wal(2), (SegmentId::Wal(1), 8192));
        assert!(log.place(5, 10).unwrap().runs.is_none());
        assert_eq!(log.place(12, 10).unwrap().runs.unwrap().len(), 1);
        log.forget_runs(SegmentId::Wal(2), (SegmentId::Wal(2), 4096));
        assert!(log.place(12, 10).unwrap().runs.is_none());
        assert_eq!(log.place(25, 10).unwrap().runs.unwrap().len(), 1);
    }

    #[test]
    fn segments_without_live_data_are_told_when_the_start_moves() {
        let mut log = log();
        assert_eq!(log.advance_start(15), vec![]);
        let gone: Vec<SegmentId> = log.advance_start(20).iter().map(|range| range.segment).collect();
        assert_eq!(gone, [SegmentId::Wal(1)]);
    }

    #[test]
    fn a_pack_takes_the_place_of_whole_ranges_and_reads_find_it() {
        let mut log = log();
        log.durable(run(3, 4096, 30, 39, 4000));
        let stretch = log.stretch(|id| id < SegmentId::Wal(3));
        assert_eq!(stretch.iter().map(|range| range.base_offset).collect::<Vec<_>>(), [0, 20]);
        let segment = SegmentId::Pack(1);
        let pack = SegmentRange { segment, base_offset: 5, last_offset: 25, max_timestamp: 3000, bytes: 120 };
        assert_eq!(log.replace(0, 30, Some(pack)), stretch);
        assert_eq!(log.place(12, 10).unwrap().segment, segment);
        assert!(log.place(12, 10).unwrap().runs.is_none());
        assert_eq!(log.place(26, 10).unwrap().segment, SegmentId::Wal(3));
        assert_eq!(log.replace(5, 26, None), vec![pack]);
        assert_eq!(log.place(0, 10).unwrap().segment, SegmentId::Wal(3));
    }

    #[test]
    fn epochs_end_where_the_next_began() {
        let mut log = log();
        log.raise_epoch(0);
        log.durable(run(3, 4096, 30, 39, 4000));
        assert_eq!(log.epoch_end(0), Some((0, 30)));
        assert_eq!(log.epoch_end(1), Some((1, 40)));
        assert_eq!(log.epoch_end(2), None);
        assert_eq!(log.epoch_end(-1), None);
        assert_eq!(log.epoch_end(-2), Some((-2, 0)));
        assert_eq!((log.epoch_at(29), log.epoch_at(30)), (0, 1));
    }
}
