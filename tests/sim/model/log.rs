//! Owns what the model knows of one partition: the batches that were placed in it, in order, and by which group.

use bytes::Bytes;
use chronik::wal::{GroupSeq, PlannedBatch};

use super::super::batch::Batch;
use super::{hold, Verdict};

/// A batch at its offset.
#[derive(Clone, Debug)]
pub struct Placed {
    pub batch: Batch,
    pub seq: GroupSeq,
    /// The wall clock when it was placed, ms.
    pub wall_ms: i64,
}

/// One partition's log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    placed: Vec<Placed>,
    /// Log start offsets that were acknowledged, each with how many requests had been handed in by then.
    pub start_acked: Vec<(u64, i64)>,
    /// Nobody asked for more to be deleted than what lies below this offset.
    pub deleted_max: i64,
}

impl Log {
    /// Where the next batch goes.
    pub fn end(&self) -> i64 {
        self.placed.last().map_or(0, |placed| placed.batch.last_offset + 1)
    }

    /// Where the log ends if it consists of the groups up to `seq`.
    pub fn end_at(&self, seq: GroupSeq) -> i64 {
        self.up_to(seq).last().map_or(0, |placed| placed.batch.last_offset + 1)
    }

    /// The batches of the groups up to `seq`.
    pub fn up_to(&self, seq: GroupSeq) -> &[Placed] {
        &self.placed[..self.placed.partition_point(|placed| placed.seq <= seq)]
    }

    /// The log start offset that the answer to the request with this order must not fall behind.
    pub fn start_min(&self, order: u64) -> i64 {
        let known = self.start_acked.iter().filter(|(acked, _)| *acked < order);
        known.map(|(_, start)| *start).max().unwrap_or(0)
    }

    /// The log start offset is at most this.
    pub fn start_max(&self, expires: bool) -> i64 {
        if expires {
            self.end()
        } else {
            self.deleted_max
        }
    }

    pub fn place(&mut self, batch: Batch, seq: GroupSeq, wall_ms: i64) -> Verdict {
        let end = self.end();
        hold!(batch.base_offset == end, "batch {} at {}, where {end} is next", batch.tag, batch.base_offset);
        self.placed.push(Placed { batch, seq, wall_ms });
        Ok(())
    }

    /// A crash took the groups after `seq`.
    pub fn cut(&mut self, seq: GroupSeq) {
        let keep = self.up_to(seq).len();
        self.placed.truncate(keep);
    }

    pub fn copies(&self, tag: u64) -> usize {
        self.places(tag).count()
    }

    pub fn places(&self, tag: u64) -> impl Iterator<Item = &Placed> {
        self.placed.iter().filter(move |placed| placed.batch.tag == tag)
    }

    /// The batch that holds an offset.
    pub fn at(&self, offset: i64) -> Option<&Placed> {
        let index = self.placed.partition_point(|placed| placed.batch.last_offset < offset);
        self.placed.get(index).filter(|placed| placed.batch.base_offset <= offset)
    }

    /// First and last offset and length in bytes of what one group brought.
    pub fn extent(&self, seq: GroupSeq) -> (i64, i64, usize) {
        let of_group: Vec<&Placed> = self.placed.iter().filter(|placed| placed.seq == seq).collect();
        let len = of_group.iter().map(|placed| placed.batch.bytes.len()).sum();
        match (of_group.first(), of_group.last()) {
            (Some(first), Some(last)) => (first.batch.base_offset, last.batch.last_offset, len),
            _ => (-1, -1, 0),
        }
    }

    /// A producer's batches stand in the order of its sequence numbers, without a gap.
    pub fn check_sequence(&self, batch: &Batch) -> Verdict {
        let Some(new) = batch.sequence else { return Ok(()) };
        let same = |old: &super::super::batch::Sequence| old.producer == new.producer && old.epoch == new.epoch;
        let before = self.placed.iter().rev().find(|placed| placed.batch.sequence.as_ref().is_some_and(same));
        let Some(before) = before else { return Ok(()) };
        let first = before.batch.sequence.map_or(0, |s| s.first);
        let next = i64::from(first) + before.batch.records();
        hold!(i64::from(new.first) == next, "producer {}: sequence {} where {next} is next", new.producer, new.first);
        Ok(())
    }

    /// The first record at or after a time, of those at or above the start and below `end`: offset and timestamp.
    pub fn first_at_or_after(&self, start: i64, end: i64, timestamp: i64) -> Option<(i64, i64)> {
        self.records(start, end).find(|(_, at)| *at >= timestamp)
    }

    /// The first record with the largest timestamp.
    pub fn max_timestamp(&self, start: i64, end: i64) -> Option<(i64, i64)> {
        self.records(start, end).fold(None, |best, record| match best {
            Some((_, at)) if at >= record.1 => best,
            _ => Some(record),
        })
    }

    fn records(&self, start: i64, end: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        let all = self.placed.iter().flat_map(|placed| {
            let base = placed.batch.base_offset;
            placed.batch.timestamps.iter().enumerate().map(move |(n, at)| (base + n as i64, *at))
        });
        all.filter(move |(offset, _)| (start..end).contains(offset))
    }
}

/// A planned batch with what is filled in while it is copied to the group's buffer.
pub fn filled_in(planned: &PlannedBatch) -> Bytes {
    let mut bytes = planned.bytes.to_vec();
    bytes[..8].copy_from_slice(&planned.base_offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&planned.leader_epoch.to_be_bytes());
    bytes.into()
}
