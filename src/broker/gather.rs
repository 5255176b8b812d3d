//! Owns the groups that are being gathered while another one is written.

use std::collections::{HashMap, VecDeque};

use crate::limits;
use crate::wal::{Group, GroupSeq, MetaEntry, PartitionId, PlannedBatch, PlannedRun};

/// Bytes that a run costs on disk beyond its batches: its header, and its entry in the segment's footer.
const RUN_OVERHEAD_BYTES: usize = 160;
/// Bytes that a group costs beyond its content: header and padding.
const GROUP_OVERHEAD_BYTES: usize = 8192;

#[derive(Debug)]
struct Building {
    group: Group,
    run_of: HashMap<PartitionId, usize>,
    bytes: usize,
    /// Up to here everything that is added stays in this group, even beyond `GROUP_BYTES_MAX`.
    reserved: usize,
}

/// Groups in order of their numbers; the first is the next to be written.
#[derive(Debug)]
pub struct Gather {
    queue: VecDeque<Building>,
    next_seq: GroupSeq,
    bytes: usize,
    /// The group of the last change of metadata; control-plane replies wait for it.
    meta_seq: GroupSeq,
}

impl Gather {
    pub fn new(next_seq: GroupSeq) -> Gather {
        Gather { queue: VecDeque::new(), next_seq, bytes: 0, meta_seq: 0 }
    }

    /// Upper bound of the bytes that what is gathered will take on disk.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn meta_seq(&self) -> GroupSeq {
        self.meta_seq
    }

    /// Upper bound of what one batch will add to `bytes`.
    pub fn cost(batch_bytes: usize) -> usize {
        batch_bytes + RUN_OVERHEAD_BYTES + GROUP_OVERHEAD_BYTES
    }

    /// Adds a batch; the number of the group that it will be durable with.
    pub fn batch(&mut self, id: PartitionId, batch: PlannedBatch, last_offset: i64, max_timestamp: i64) -> GroupSeq {
        let bytes = batch.bytes.len();
        let building = self.room_for(bytes + RUN_OVERHEAD_BYTES);
        let runs = &mut building.group.runs;
        let index = *building.run_of.entry(id).or_insert_with(|| {
            runs.push(PlannedRun {
                id,
                base_offset: batch.base_offset,
                last_offset,
                max_timestamp,
                batches: Vec::new(),
            });
            runs.len() - 1
        });
        let run = &mut runs[index];
        run.last_offset = last_offset;
        run.max_timestamp = run.max_timestamp.max(max_timestamp);
        run.batches.push(batch);
        building.group.seq
    }

    /// What a change of metadata counts inside a group.
    pub fn meta_cost(entry: &MetaEntry) -> usize {
        entry.scope.len() + entry.key.len() + entry.value.as_ref().map_or(0, |v| v.len()) + 32
    }

    /// What a batch of a partition that is not in the group yet counts inside a group.
    pub fn run_cost(batch_bytes: usize) -> usize {
        batch_bytes + RUN_OVERHEAD_BYTES
    }

    /// What is added next, up to this many bytes (as `meta_cost` and `run_cost` count them), stands in one group: all of it
    /// becomes durable or nothing.
    pub fn reserve(&mut self, bytes: usize) {
        let building = self.open_for(bytes);
        building.reserved = building.reserved.max(building.bytes + bytes);
    }

    /// Adds a change of metadata; the number of its group.
    pub fn meta(&mut self, entry: MetaEntry) -> GroupSeq {
        let bytes = Gather::meta_cost(&entry);
        let building = self.room_for(bytes);
        building.group.meta.push(entry);
        self.meta_seq = self.queue.back().map_or(0, |b| b.group.seq);
        self.meta_seq
    }

    /// Adds changes of metadata that become durable together, or not at all.
    pub fn metas(&mut self, entries: Vec<MetaEntry>) -> GroupSeq {
        self.reserve(entries.iter().map(Gather::meta_cost).sum());
        for entry in entries {
            self.meta(entry);
        }
        self.meta_seq
    }

    /// An empty group: asks the log whether there is space again.
    pub fn probe(&mut self) {
        self.room_for(0);
    }

    /// Asks for the segment to be sealed after the last group.
    pub fn seal(&mut self) {
        self.room_for(0).group.seal_after = true;
    }

    /// The next group to write, in the order of their numbers, and an upper bound of its bytes on disk.
    pub fn take(&mut self) -> Option<(Group, usize)> {
        let building = self.queue.pop_front()?;
        self.bytes -= building.bytes;
        Some((building.group, building.bytes))
    }

    fn room_for(&mut self, bytes: usize) -> &mut Building {
        self.open_for(bytes);
        self.bytes += bytes;
        let building = self.queue.back_mut().expect("one was just made if there was none");
        building.bytes += bytes;
        building
    }

    /// The last group if this many bytes fit, else a new one.
    fn open_for(&mut self, bytes: usize) -> &mut Building {
        let full = self.queue.back().is_none_or(|b| {
            let bytes_max = limits::GROUP_BYTES_MAX.max(b.reserved);
            b.bytes > GROUP_OVERHEAD_BYTES && b.bytes + bytes > bytes_max
        });
        if full {
            let group = Group { seq: self.next_seq, ..Group::default() };
            self.next_seq += 1;
            self.queue.push_back(Building { group, run_of: HashMap::new(), bytes: GROUP_OVERHEAD_BYTES, reserved: 0 });
            self.bytes += GROUP_OVERHEAD_BYTES;
        }
        self.queue.back_mut().expect("one was just made if there was none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;
    use bytes::Bytes;

    fn batch(base_offset: i64, len: usize) -> PlannedBatch {
        PlannedBatch { bytes: Bytes::from(vec![0; len]), base_offset, leader_epoch: 0 }
    }

    #[test]
    fn batches_of_one_partition_stand_together_in_a_group() {
        let mut gather = Gather::new(7);
        let a = PartitionId { topic: Uuid([1; 16]), partition: 0 };
        let b = PartitionId { topic: Uuid([1; 16]), partition: 1 };
        assert_eq!(gather.batch(a, batch(0, 10), 4, 100), 7);
        assert_eq!(gather.batch(b, batch(0, 10), 0, 50), 7);
        assert_eq!(gather.batch(a, batch(5, 10), 5, 90), 7);
        let (group, _) = gather.take().unwrap();
        assert_eq!(group.runs.len(), 2);
        assert_eq!((group.runs[0].base_offset, group.runs[0].last_offset, group.runs[0].max_timestamp), (0, 5, 100));
        assert!(gather.take().is_none());
        assert_eq!(gather.bytes(), 0);
    }

    #[test]
    fn a_group_never_outgrows_its_limit_by_more_than_one_batch() {
        let mut gather = Gather::new(1);
        let id = PartitionId { topic: Uuid([1; 16]), partition: 0 };
        let half = limits::GROUP_BYTES_MAX / 2;
        assert_eq!(gather.batch(id, batch(0, half), 0, 0), 1);
        assert_eq!(gather.batch(id, batch(1, half), 1, 0), 2);
        assert_eq!(gather.batch(id, batch(2, limits::GROUP_BYTES_MAX * 2), 2, 0), 3);
        assert_eq!(gather.batch(id, batch(3, 1), 3, 0), 4);
    }

    #[test]
    fn what_was_reserved_together_stands_in_one_group() {
        let id = |n: i32| PartitionId { topic: Uuid([1; 16]), partition: n };
        let half = limits::GROUP_BYTES_MAX / 2;
        let mut gather = Gather::new(1);
        assert_eq!(gather.batch(id(0), batch(0, half), 0, 0), 1);
        let cost = Gather::run_cost(half);
        gather.reserve(4 * cost);
        let seqs: Vec<GroupSeq> = (1..5).map(|n| gather.batch(id(n), batch(0, half), 0, 0)).collect();
        assert_eq!(seqs, [2, 2, 2, 2]);
        assert_eq!(gather.batch(id(9), batch(0, half), 0, 0), 3);
    }
}
