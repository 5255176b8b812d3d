//! Owns what the broker knows of the log's segments: which are there, which still hold live data, which may go.

use std::collections::{BTreeMap, BTreeSet};

use crate::wal::{GroupSeq, PartitionId, SegmentId};

#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    /// Partitions that have live data in it.
    live: usize,
}

/// All segments of the log.
#[derive(Debug, Default)]
pub struct Segments {
    segments: BTreeMap<SegmentId, Segment>,
    /// Sum of their sizes.
    bytes: u64,
    /// Sealed segments without live data, and the group after which that is durably so.
    dead: BTreeMap<SegmentId, GroupSeq>,
    /// Partitions that have data in the unsealed segment.
    touched: BTreeSet<PartitionId>,
    /// The segment that is being written.
    unsealed: SegmentId,
    /// The oldest segment that the kept checkpoints need.
    floor: SegmentId,
}

impl Segments {
    pub fn unsealed(&self) -> SegmentId {
        self.unsealed
    }

    /// Total size of all segments in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Size of one segment in bytes; 0 when it is not there.
    pub fn bytes_of(&self, id: SegmentId) -> u64 {
        self.segments.get(&id).map_or(0, |segment| segment.bytes)
    }

    pub fn contains(&self, id: SegmentId) -> bool {
        self.segments.contains_key(&id)
    }

    /// A segment is there with this size.
    pub fn present(&mut self, id: SegmentId, bytes: u64) {
        let segment = self.segments.entry(id).or_default();
        self.bytes = self.bytes - segment.bytes + bytes;
        segment.bytes = bytes;
    }

    /// From now on `id` is the one being written, up to this position.
    pub fn writing(&mut self, id: SegmentId, bytes: u64) {
        self.unsealed = id;
        self.present(id, bytes);
    }

    /// A partition has its first live data in a segment.
    pub fn add_live(&mut self, id: SegmentId, partition: PartitionId) {
        self.segments.entry(id).or_default().live += 1;
        if id >= self.unsealed {
            self.touched.insert(partition);
        }
    }

    /// A partition has data in the segment that is being written.
    pub fn touch(&mut self, partition: PartitionId) {
        self.touched.insert(partition);
    }

    /// A partition has no live data in a segment any more, durably once `seq` is.
    pub fn remove_live(&mut self, id: SegmentId, seq: GroupSeq) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.live = segment.live.saturating_sub(1);
            if segment.live == 0 && id < self.unsealed {
                self.dead.insert(id, seq);
            }
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

    /// After recovery: every segment below the unsealed one without live data is dead.
    pub fn find_dead(&mut self) {
        let unsealed = self.unsealed;
        let dead = self.segments.range(..unsealed).filter(|(_, segment)| segment.live == 0);
        self.dead = dead.map(|(id, _)| (*id, 0)).collect();
    }

    /// Takes out the segments that nobody needs any more: no live data, durably, and below every kept checkpoint.
    pub fn take_removable(&mut self, durable: GroupSeq) -> Vec<SegmentId> {
        let floor = self.floor;
        let removable: Vec<SegmentId> =
            self.dead.range(..floor).filter(|(_, seq)| **seq <= durable).map(|(id, _)| *id).collect();
        for id in &removable {
            self.dead.remove(id);
            self.bytes -= self.segments.remove(id).map_or(0, |segment| segment.bytes);
        }
        removable
    }

    /// Whether dead segments are kept only because a checkpoint needs them: writing a new one would free them.
    pub fn wants_checkpoint(&self) -> bool {
        self.dead.range(self.floor..).next().is_some()
    }

    pub fn set_floor(&mut self, floor: SegmentId) {
        self.floor = self.floor.max(floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    #[test]
    fn a_segment_goes_only_when_dead_durable_and_covered_by_checkpoints() {
        let partition = PartitionId { topic: Uuid([1; 16]), partition: 0 };
        let mut segments = Segments::default();
        segments.writing(1, 100);
        segments.add_live(1, partition);
        assert_eq!(segments.sealed(1, 200, 5).len(), 1);
        segments.writing(2, 0);
        segments.set_floor(2);
        assert!(segments.take_removable(9).is_empty());
        segments.remove_live(1, 10);
        assert!(segments.take_removable(9).is_empty());
        assert_eq!(segments.take_removable(10), vec![1]);
        assert_eq!(segments.bytes(), 0);
    }

    #[test]
    fn a_segment_of_metadata_only_goes_once_checkpoints_cover_it() {
        let mut segments = Segments::default();
        segments.writing(1, 100);
        segments.sealed(1, 200, 5);
        segments.writing(2, 0);
        assert!(segments.wants_checkpoint());
        segments.set_floor(2);
        assert!(!segments.wants_checkpoint());
        assert_eq!(segments.take_removable(5), vec![1]);
    }
}
