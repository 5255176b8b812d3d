//! Owns what readers bring after the fetch that asked was answered without it: they are counted, and what they bring is kept for
//! the next fetch of that place. So a reader goes on even if the object store always takes longer than a fetch waits, and the disk
//! cache keeps nothing.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{batches_within, Found, Part};
use crate::broker::topics::StableMap;
use crate::broker::{Broker, Now, Timer};
use crate::limits;
use crate::wal::{PartitionId, ReadError, ReadFound};
use crate::wire::ErrorCode;

/// Look-ups that nobody waits for any more, and what came of them.
#[derive(Debug, Default)]
pub(super) struct Late {
    jobs: StableMap<u64, Looking>,
    /// How many of them look for something of a partition.
    partitions: StableMap<PartitionId, usize>,
    kept: StableMap<PartitionId, Kept>,
    /// The same by the order in which they came.
    by_age: BTreeMap<u64, PartitionId>,
    /// Bytes of all that is kept.
    bytes: usize,
    next: u64,
    timer_us: Option<u64>,
}

#[derive(Debug)]
struct Looking {
    id: PartitionId,
    /// From where on; `None` if what comes is in an old format, and so of use to nobody else.
    offset: Option<i64>,
}

/// What was brought too late.
#[derive(Debug)]
struct Kept {
    number: u64,
    /// Monotonic µs at which it goes if nobody has asked for it.
    until_us: u64,
    /// The place that was asked for.
    offset: i64,
    what: Brought,
}

#[derive(Debug)]
enum Brought {
    /// Whole batches, and the offset after the last.
    Batches(Bytes, i64),
    Failed(ErrorCode),
}

impl Kept {
    fn len(&self) -> usize {
        match &self.what {
            Brought::Batches(bytes, _) => bytes.len(),
            Brought::Failed(_) => 0,
        }
    }
}

impl Late {
    /// Whether a look-up is one of these.
    pub fn has(&self, job: u64) -> bool {
        self.jobs.contains_key(&job)
    }

    /// Whether somebody still looks for something of a partition, so that asking again would not help.
    pub fn looks_for(&self, id: PartitionId) -> bool {
        self.partitions.contains_key(&id)
    }

    /// Nobody waits for a look-up any more. `offset` is where it began, unless what it brings is of use to its asker only.
    pub fn insert(&mut self, job: u64, id: PartitionId, offset: Option<i64>) {
        self.jobs.insert(job, Looking { id, offset });
        *self.partitions.entry(id).or_default() += 1;
    }

    fn remove(&mut self, job: u64) -> Option<Looking> {
        let looking = self.jobs.remove(&job)?;
        if let Some(count) = self.partitions.get_mut(&looking.id) {
            *count -= 1;
            if *count == 0 {
                self.partitions.remove(&looking.id);
            }
        }
        Some(looking)
    }

    /// Keeps what came in the place of what was kept of that partition; the oldest of other partitions make room.
    fn keep(&mut self, id: PartitionId, kept: Kept) {
        self.forget(id);
        self.bytes += kept.len();
        self.by_age.insert(kept.number, id);
        self.kept.insert(id, kept);
        while self.bytes > limits::LATE_READ_BYTES_MAX && self.by_age.len() > 1 {
            let Some(oldest) = self.by_age.first_key_value().map(|(_, id)| *id) else { break };
            self.forget(oldest);
        }
    }

    /// Nothing is kept of a partition any more.
    pub fn forget(&mut self, id: PartitionId) {
        if let Some(kept) = self.kept.remove(&id) {
            self.by_age.remove(&kept.number);
            self.bytes -= kept.len();
        }
    }

    /// What is kept of a partition from `offset` on: whole batches within `budget`, at least one if `first`, none that begins at or
    /// above `end`.
    pub fn found(&self, id: PartitionId, range: (i64, i64), budget: usize, first: bool) -> Option<Found> {
        let kept = self.kept.get(&id)?;
        match &kept.what {
            Brought::Failed(error) => (kept.offset == range.0).then_some(Found::Refused(*error)),
            Brought::Batches(bytes, kept_end) => {
                if !(kept.offset..*kept_end).contains(&range.0) {
                    return None;
                }
                let within = batches_within(bytes, range, budget, first);
                // What doesn't fit now fits into another answer.
                Some(match within.take {
                    0 => Found::Nothing,
                    take => Found::Converted(bytes.slice(within.skip..within.skip + take), within.end),
                })
            }
        }
    }

    /// A client was told this of a partition: what it has now need not be kept.
    pub fn told(&mut self, id: PartitionId, found: &Found) {
        let is_done = match (self.kept.get(&id).map(|kept| &kept.what), found) {
            (Some(Brought::Batches(_, kept_end)), Found::Converted(_, end)) => end >= kept_end,
            (Some(Brought::Failed(_)), Found::Refused(_)) => true,
            _ => false,
        };
        if is_done {
            self.forget(id);
        }
    }

    /// Drops what nobody has asked for in time; when the next is to go.
    fn expire(&mut self, now_us: u64) -> Option<u64> {
        loop {
            let id = *self.by_age.first_key_value()?.1;
            let until_us = self.kept.get(&id)?.until_us;
            if until_us > now_us {
                return Some(until_us);
            }
            self.forget(id);
        }
    }
}

impl Broker {
    /// A look-up has ended that nobody waited for any more. Whoever waits at that partition now is given what it brought.
    pub(super) fn late_read_done(&mut self, now: Now, job: u64, result: Result<ReadFound, ReadError>) {
        let Some(Looking { id, offset }) = self.fetches.late.remove(job) else { return };
        if let Err(ReadError::Corrupt(why) | ReadError::Io(why)) = &result {
            ::log::error!("cannot read what only the object store has: {why}");
        }
        let what = match result {
            Ok(ReadFound::Converted(bytes, end)) if !bytes.is_empty() => Some(Brought::Batches(bytes, end)),
            // What is on this disk is found again in no time.
            Ok(_) => None,
            Err(error) => Some(Brought::Failed(super::read_error_code(&error))),
        };
        if let (Some(offset), Some(what), Some(_)) = (offset, what, self.topics.partition(id)) {
            let until_us = now.mono_us.saturating_add(limits::LATE_READ_KEPT_US);
            let late = &mut self.fetches.late;
            late.next += 1;
            let number = late.next;
            late.keep(id, Kept { number, until_us, offset, what });
            self.fetches.late.timer_us = self.arm(self.fetches.late.timer_us, until_us, Timer::LateReads);
        }
        self.start_moved(now, id);
    }

    /// The timer of what is kept is due.
    pub(in crate::broker) fn late_reads_expire(&mut self, now: Now) {
        self.fetches.late.timer_us = None;
        if let Some(at_us) = self.fetches.late.expire(now.mono_us) {
            self.fetches.late.timer_us = self.arm(None, at_us, Timer::LateReads);
        }
    }

    /// An answer leaves with this.
    pub(super) fn note_told(&mut self, parts: &[Part], found: &[Found]) {
        for (part, found) in parts.iter().zip(found) {
            if let Some(id) = part.id() {
                self.fetches.late.told(id, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    #[test]
    fn what_came_too_late_is_bounded_in_bytes_and_the_oldest_makes_room() {
        let id = |partition| PartitionId { topic: Uuid([1; 16]), partition };
        let mut late = Late::default();
        let keep = |late: &mut Late, partition: i32, len: usize| {
            late.next += 1;
            let what = Brought::Batches(Bytes::from(vec![0; len]), 9);
            late.keep(id(partition), Kept { number: late.next, until_us: 9, offset: 0, what });
            assert_eq!(late.bytes, late.kept.values().map(Kept::len).sum::<usize>());
            let mut kept: Vec<i32> = late.kept.keys().map(|id| id.partition).collect();
            kept.sort_unstable();
            kept
        };
        let third = limits::LATE_READ_BYTES_MAX / 3;
        for partition in 0..3 {
            keep(&mut late, partition, third);
        }
        assert_eq!(keep(&mut late, 0, third), [0, 1, 2], "in the place of what was kept of it");
        assert_eq!(keep(&mut late, 3, third), [0, 2, 3]);
        assert_eq!(keep(&mut late, 4, limits::LATE_READ_BYTES_MAX + 1), [4], "one is kept whatever its size");
        assert_eq!(keep(&mut late, 5, 1), [5]);
    }
}
