//! Owns what the broker knows of the log's segments: which are there, what lives in them, which may go.

use std::collections::{BTreeMap, BTreeSet};

use super::log::SegmentRange;
use crate::limits;
use crate::wal::checkpoint::Floor;
use crate::wal::{GroupSeq, PartitionId, RunRef, SegmentId};

/// One segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Length of its file.
    pub bytes: u64,
    /// Partitions that have live data in it.
    pub live: usize,
    /// Bytes of their batches.
    pub live_bytes: u64,
    /// Runs that were written to it, also those that are dead by now.
    pub runs: u64,
    /// It has no file here: only the object store has it.
    pub is_remote: bool,
}

/// All segments of the log.
#[derive(Debug, Default)]
pub struct Segments {
    segments: BTreeMap<SegmentId, Segment>,
    /// Sum of their sizes, here and in the object store only, and of what lives in them.
    bytes: u64,
    remote_bytes: u64,
    live_bytes: u64,
    /// Sealed segments without live data, and the group after which that is durably so.
    dead: BTreeMap<SegmentId, GroupSeq>,
    /// Partitions that have data in the unsealed segment.
    touched: BTreeSet<PartitionId>,
    /// The segment that is being written.
    unsealed: SegmentId,
    /// Bytes of the unsealed segment that were deleted.
    deleted: u64,
    /// What the kept checkpoints need.
    floor: Floor,
}

impl Segments {
    pub fn unsealed(&self) -> SegmentId {
        self.unsealed
    }

    /// Total size of all segments' files in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Total size of the segments that only the object store has.
    pub fn remote_bytes(&self) -> u64 {
        self.remote_bytes
    }

    /// Whether only the object store has a segment.
    pub fn is_remote(&self, id: SegmentId) -> bool {
        self.segments.get(&id).is_some_and(|segment| segment.is_remote)
    }

    /// Whether something lives in a segment.
    pub fn is_alive(&self, id: SegmentId) -> bool {
        self.segments.get(&id).is_some_and(|segment| segment.live > 0)
    }

    /// What the kept checkpoints need.
    pub fn floor(&self) -> Floor {
        self.floor
    }

    /// Bytes of batches in them that have not been deleted.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Size of one segment in bytes; 0 when it is not there.
    pub fn bytes_of(&self, id: SegmentId) -> u64 {
        self.segments.get(&id).map_or(0, |segment| segment.bytes)
    }

    /// Bytes of batches in one segment that have not been deleted.
    pub fn live_bytes_of(&self, id: SegmentId) -> u64 {
        self.segments.get(&id).map_or(0, |segment| segment.live_bytes)
    }

    pub fn contains(&self, id: SegmentId) -> bool {
        self.segments.contains_key(&id)
    }

    /// Those that are here, sealed, and hold live data, packs first, each in the order of their numbers.
    pub fn sealed_alive(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        let sealed = self.segments.range(..self.unsealed);
        sealed.filter(|(_, segment)| segment.live > 0 && !segment.is_remote).map(|(id, segment)| (*id, segment))
    }

    /// Those that only the object store has, and that hold live data.
    pub fn remote_alive(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        let remote = self.segments.iter().filter(|(_, segment)| segment.live > 0 && segment.is_remote);
        remote.map(|(id, segment)| (*id, segment))
    }

    /// All of them, with the number of runs that were written to each.
    pub fn runs(&self) -> impl Iterator<Item = (SegmentId, u64)> + '_ {
        self.segments.iter().map(|(id, segment)| (*id, segment.runs))
    }

    /// The highest number of a pack.
    pub fn newest_pack(&self) -> u64 {
        let packs = self.segments.range(..SegmentId::Wal(0));
        packs.last().map_or(0, |(id, _)| id.number())
    }

    /// A segment is there with this size.
    pub fn present(&mut self, id: SegmentId, bytes: u64) {
        let segment = self.segments.entry(id).or_default();
        self.bytes = self.bytes - segment.bytes + bytes;
        segment.bytes = bytes;
    }

    /// A segment is in the object store only, with this size.
    pub fn remote(&mut self, id: SegmentId, bytes: u64) {
        self.present(id, bytes);
        self.evicted(id);
    }

    /// A segment's file goes; the object store has it.
    pub fn evicted(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get_mut(&id).filter(|segment| !segment.is_remote) else { return };
        segment.is_remote = true;
        self.bytes -= segment.bytes;
        self.remote_bytes += segment.bytes;
    }

    /// Runs are known to have been written to a segment before.
    pub fn restore_runs(&mut self, id: SegmentId, runs: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.runs = segment.runs.max(runs);
        }
    }

    /// From now on `id` is the one being written, up to this position.
    pub fn writing(&mut self, id: SegmentId, bytes: u64) {
        if id != self.unsealed {
            self.deleted = 0;
        }
        self.unsealed = id;
        self.present(id, bytes);
    }

    /// A run was written. `is_first`: the partition had no live data in its segment before.
    pub fn add_run(&mut self, run: &RunRef, is_first: bool) {
        let segment = self.segments.entry(run.segment).or_default();
        segment.runs += 1;
        segment.live_bytes += u64::from(run.len);
        self.live_bytes += u64::from(run.len);
        if is_first {
            segment.live += 1;
            if run.segment >= self.unsealed {
                self.touched.insert(run.id);
            }
        }
    }

    /// A partition has live data in a segment.
    pub fn add_live(&mut self, range: &SegmentRange, partition: PartitionId) {
        let segment = self.segments.entry(range.segment).or_default();
        segment.live += 1;
        segment.live_bytes += range.bytes;
        self.live_bytes += range.bytes;
        if range.segment >= self.unsealed {
            self.touched.insert(partition);
        }
    }

    /// A partition has data in the segment that is being written.
    pub fn touch(&mut self, partition: PartitionId) {
        self.touched.insert(partition);
    }

    /// A partition has no live data in a segment any more, durably once `seq` is.
    pub fn remove_live(&mut self, range: &SegmentRange, seq: GroupSeq) {
        let id = range.segment;
        if id == self.unsealed {
            self.deleted += range.bytes;
        }
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.live = segment.live.saturating_sub(1);
        let bytes = range.bytes.min(segment.live_bytes);
        segment.live_bytes -= bytes;
        self.live_bytes -= bytes;
        if segment.live == 0 && id < self.unsealed {
            self.dead.insert(id, seq);
        }
    }

    /// A pack that nothing lives in is of no use from group `seq` on.
    pub fn is_dead(&mut self, id: SegmentId, seq: GroupSeq) {
        if self.segments.get(&id).is_some_and(|segment| segment.live == 0) {
            self.dead.entry(id).or_insert(seq);
        }
    }

    /// The unsealed segment was sealed; the partitions that have data in it.
    pub fn sealed(&mut self, id: SegmentId, bytes: u64, seq: GroupSeq) -> BTreeSet<PartitionId> {
        self.present(id, bytes);
        if self.segments.get(&id).is_some_and(|segment| segment.live == 0) {
            self.dead.insert(id, seq);
        }
        std::mem::take(&mut self.touched)
    }

    /// After recovery, which ended with group `seq`: every segment below the unsealed one without live data is dead.
    pub fn find_dead(&mut self, seq: GroupSeq) {
        let unsealed = self.unsealed;
        let dead = self.segments.range(..unsealed).filter(|(_, segment)| segment.live == 0);
        self.dead = dead.map(|(id, _)| (*id, seq)).collect();
    }

    /// Whether so much was deleted from the unsealed segment that it should be sealed, for its space to come back.
    pub fn unsealed_is_due(&self) -> bool {
        self.deleted >= limits::TIDY_SEAL_BYTES.max(self.bytes_of(self.unsealed) / 4)
    }

    /// Takes out the segments that nobody needs any more: no live data, durably, and no kept checkpoint that knows better or
    /// begins its replay there. True for those that only the object store has.
    pub fn take_removable(&mut self) -> Vec<(SegmentId, bool)> {
        let floor = self.floor;
        let removable = self.dead.range(..floor.segment).filter(|(_, seq)| **seq <= floor.seq);
        let removable: Vec<(SegmentId, bool)> = removable.map(|(id, _)| (*id, self.is_remote(*id))).collect();
        for (id, is_remote) in &removable {
            self.dead.remove(id);
            let bytes = self.segments.remove(id).map_or(0, |segment| segment.bytes);
            match is_remote {
                true => self.remote_bytes -= bytes,
                false => self.bytes -= bytes,
            }
        }
        removable
    }

    /// Whether dead segments are kept only because a checkpoint needs them: writing new ones would free them.
    pub fn wants_checkpoint(&self) -> bool {
        !self.dead.is_empty()
    }

    pub fn set_floor(&mut self, floor: Floor) {
        self.floor.segment = self.floor.segment.max(floor.segment);
        self.floor.seq = self.floor.seq.max(floor.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    fn range(segment: u64, bytes: u64) -> SegmentRange {
        SegmentRange { segment: SegmentId::Wal(segment), base_offset: 0, last_offset: 9, max_timestamp: 0, bytes }
    }

    #[test]
    fn a_segment_goes_only_when_dead_durable_and_dead_for_both_checkpoints() {
        let (one, two) = (SegmentId::Wal(1), SegmentId::Wal(2));
        let partition = PartitionId { topic: Uuid([1; 16]), partition: 0 };
        let mut segments = Segments::default();
        segments.writing(one, 100);
        segments.add_live(&range(1, 50), partition);
        assert_eq!(segments.sealed(one, 200, 5).len(), 1);
        segments.writing(two, 0);
        segments.set_floor(Floor { segment: two, seq: 9 });
        assert!(segments.take_removable().is_empty());
        segments.remove_live(&range(1, 50), 10);
        assert!(segments.take_removable().is_empty(), "a checkpoint that is kept says that something lives there");
        assert!(segments.wants_checkpoint());
        segments.set_floor(Floor { segment: two, seq: 10 });
        assert_eq!(segments.take_removable(), vec![(one, false)]);
        assert_eq!((segments.bytes(), segments.live_bytes()), (0, 0));
    }

    #[test]
    fn a_segment_of_metadata_only_goes_once_checkpoints_cover_it() {
        let (one, two) = (SegmentId::Wal(1), SegmentId::Wal(2));
        let mut segments = Segments::default();
        segments.writing(one, 100);
        segments.sealed(one, 200, 5);
        segments.writing(two, 0);
        assert!(segments.wants_checkpoint());
        segments.set_floor(Floor { segment: two, seq: 5 });
        assert_eq!(segments.take_removable(), vec![(one, false)]);
        assert!(!segments.wants_checkpoint());
    }

    #[test]
    fn the_unsealed_segment_is_due_when_much_of_it_was_deleted() {
        let mut segments = Segments::default();
        segments.writing(SegmentId::Wal(1), 6 << 20);
        segments.remove_live(&range(1, 1 << 20), 3);
        assert!(!segments.unsealed_is_due());
        segments.remove_live(&range(1, 1 << 20), 4);
        assert!(segments.unsealed_is_due());
        segments.writing(SegmentId::Wal(2), 4096);
        assert!(!segments.unsealed_is_due());
    }
}
