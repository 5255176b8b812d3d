//! Owns a share partition: which records of a partition a share group may still hand out, who has which, how often each
//! was handed out, and where the group starts (KIP-932).
//!
//! Offsets below `start` are done with, offsets from `end` on were never handed out; each offset between has a state. The
//! rules are Kafka's: a record is acquired by one member at a time under a lock that ends; it is accepted, released,
//! rejected or renewed by that member; what was handed out too often is archived; the start moves over what is final.

use super::runs::{Fate, Name, RecordState, Runs};
use crate::canary::{self, Fault};
use crate::limits;
use crate::wire::msg::AcknowledgementBatch;
use crate::wire::ErrorCode;

/// What a member says of a record, by Kafka's numbers.
mod kind {
    pub const GAP: i8 = 0;
    pub const ACCEPT: i8 = 1;
    pub const RELEASE: i8 = 2;
    pub const REJECT: i8 = 3;
    pub const RENEW: i8 = 4;
}

/// How much one acquisition may take, and for whom.
#[derive(Clone, Debug)]
pub(super) struct Acquire<'a> {
    pub member: &'a Name,
    /// Monotonic µs at which the locks end.
    pub lock_us: u64,
    /// Records wanted. Whole batches are taken, so that it may become more, unless `exact`.
    pub records_max: i64,
    /// A range of acquired records is ended at the first batch after so many.
    pub batch_size: i64,
    /// Kafka's mode `record_limit`: not one record more.
    pub exact: bool,
    /// `group.share.partition.max.record.locks`.
    pub locks_max: i64,
    /// `group.share.delivery.count.limit`.
    pub deliveries_max: i16,
}

/// A stretch of the log: a batch with records, or one in which there is nothing for consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub first: i64,
    pub last: i64,
    /// False for control batches, aborted records, and offsets at which there are no records.
    pub has_records: bool,
}

/// Consecutive records that were acquired together and were handed out equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acquired {
    pub first: i64,
    pub last: i64,
    pub count: i16,
}

/// What an event changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// There is something to append to the log.
    pub durable: bool,
    /// Others may find something to acquire.
    pub available: bool,
}

/// Why an acknowledgement is refused, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub ErrorCode, pub &'static str);

/// A share group's view of a partition.
#[derive(Clone, Debug)]
pub(super) struct SharePartition {
    start: i64,
    end: i64,
    runs: Runs,
    /// Raised when an administrator sets the start.
    pub state_epoch: i32,
    /// Whether Kafka would have stored the start by now; before that it tells -1.
    pub told: bool,
    /// The fetch for which a reader looks into this partition; others leave it alone meanwhile.
    pub fetching: Option<u64>,
    /// Deadline of the timer for the locks.
    pub timer_us: Option<u64>,
}

impl SharePartition {
    pub fn new(start: i64, state_epoch: i32, told: bool) -> SharePartition {
        let runs = Runs::default();
        SharePartition { start, end: start, runs, state_epoch, told, fetching: None, timer_us: None }
    }

    /// One that was found in the log: states of consecutive records from the start on.
    pub fn restored(start: i64, state_epoch: i32, told: bool, states: &[(i64, RecordState, i16)]) -> SharePartition {
        let mut partition = SharePartition::new(start, state_epoch, told);
        for (len, state, count) in states {
            partition.push(partition.end + len - 1, Fate::new(*state, *count));
        }
        partition.advance();
        partition
    }

    pub fn start(&self) -> i64 {
        self.start
    }

    #[cfg(test)]
    pub fn end(&self) -> i64 {
        self.end
    }

    pub fn bytes(&self) -> usize {
        200 + self.runs.bytes()
    }

    /// Records between the start and the end whose state is final.
    pub fn complete(&self) -> i64 {
        self.runs.iter().filter(|(_, _, fate)| fate.state.is_final()).map(|(first, last, _)| last - first + 1).sum()
    }

    /// First offset, last offset, state and number of deliveries, as they are to be found after a crash: what was acquired
    /// is to be handed out again, and the delivery under way does not count, as in Kafka.
    pub fn lasting(&self) -> impl Iterator<Item = (i64, i64, RecordState, i16)> + '_ {
        self.runs.iter().map(|(first, last, fate)| match fate.state {
            RecordState::Acquired => (first, last, RecordState::Available, fate.count - 1),
            state => (first, last, state, fate.count),
        })
    }

    /// Where to read next: the first record that is available, or the end.
    pub fn next_offset(&self) -> i64 {
        let available = self.runs.iter().find(|(_, _, fate)| may_be_acquired(fate));
        available.map_or(self.end, |(first, _, _)| first)
    }

    /// Whether anything may be acquired: a record again, or one more.
    pub fn has_room(&self, locks_max: i64) -> bool {
        self.next_offset() != self.end || self.end - self.start < locks_max
    }

    /// How many of these offsets may be acquired, by their states.
    pub fn acquirable(&self, first: i64, last: i64) -> i64 {
        let again = self.runs.within(first, last).filter(|(_, _, fate)| fate.state == RecordState::Available);
        let again: i64 = again.map(|(first, last, _)| last - first + 1).sum();
        again + (last - first.max(self.end) + 1).max(0)
    }

    /// Hands out records. The stretches lie end to end from `from` on, where something is to be acquired. An acquisition
    /// itself is not kept, but that there is nothing at an offset is: the start may move over it, and what was told of the
    /// start must not go back with a crash.
    pub fn acquire(&mut self, how: &Acquire<'_>, from: i64, stretches: &[Stretch]) -> (Vec<Acquired>, Change) {
        let mut out = Out { ranges: Vec::new(), left: how.records_max.min(limits::SHARE_ACQUIRE_RECORDS_MAX) };
        let mut change = Change::default();
        if from < self.start || from > self.end {
            // The start was set anew while a reader looked.
            return (out.ranges, change);
        }
        let room = how.locks_max - (self.end - self.start);
        let mut last_allowed = i64::MAX;
        if room > 0 {
            out.left = out.left.min(room);
        } else {
            out.left = out.left.min(self.end - from);
            last_allowed = self.end - 1;
        }
        for stretch in stretches {
            let (first, last) = (stretch.first.max(from), stretch.last.min(last_allowed));
            if out.left <= 0 {
                break;
            }
            if first > last {
                continue;
            }
            if !stretch.has_records {
                change.durable |= self.archive(first, last);
                continue;
            }
            let again_last = last.min(self.end - 1);
            if !self.acquire_again(how, first, again_last, &mut out) {
                break;
            }
            if last >= self.end && out.left > 0 {
                self.acquire_new(how, stretch.first, last, &mut out);
            }
        }
        self.advance();
        (out.ranges, change)
    }

    /// Acquires what is available within a batch. False when the acquisition is to end here.
    fn acquire_again(&mut self, how: &Acquire<'_>, first: i64, last: i64, out: &mut Out) -> bool {
        let available = self.runs.within(first, last).filter(|(_, _, fate)| may_be_acquired(fate));
        let available: Vec<_> = available.map(|(first, last, fate)| (first, last, fate.count)).collect();
        for (run_first, run_last, count) in available {
            let len = run_last - run_first + 1;
            let suspects = suspects(count, how.deliveries_max, len);
            if suspects.is_some() && !out.ranges.is_empty() {
                return false;
            }
            let mut take = suspects.unwrap_or(len);
            if how.exact {
                take = take.min(out.left);
            }
            if take <= 0 {
                return false;
            }
            let taken_last = run_first + take - 1;
            self.runs.change(run_first, taken_last, |fate| {
                *fate = Fate {
                    state: RecordState::Acquired,
                    count: fate.count.saturating_add(1),
                    owner: Some(how.member.clone()),
                    lock_us: how.lock_us,
                }
            });
            out.add(how, first, Acquired { first: run_first, last: taken_last, count: count.saturating_add(1) });
            if suspects.is_some() {
                return false;
            }
        }
        true
    }

    /// Acquires what was never handed out, up to the end of the batch that begins at `batch_first`.
    fn acquire_new(&mut self, how: &Acquire<'_>, batch_first: i64, last: i64, out: &mut Out) {
        let first = self.end;
        let most = if how.exact { out.left } else { limits::SHARE_ACQUIRE_RECORDS_MAX };
        let last = last.min(first + most - 1);
        let fate =
            Fate { state: RecordState::Acquired, count: 1, owner: Some(how.member.clone()), lock_us: how.lock_us };
        self.push(last, fate);
        out.add(how, batch_first.max(first), Acquired { first, last, count: 1 });
    }

    /// There is nothing at these offsets that a consumer could be given. True if that was not known before.
    fn archive(&mut self, first: i64, last: i64) -> bool {
        let before = last.min(self.end - 1);
        let mut is_new = last >= self.end;
        self.runs.change(first, before, |fate| {
            if fate.state == RecordState::Available {
                fate.state = RecordState::Archived;
                is_new = true;
            }
        });
        if last >= self.end {
            self.push(last, Fate::new(RecordState::Archived, 0));
        }
        is_new
    }

    /// Extends the end to include `last`.
    fn push(&mut self, last: i64, fate: Fate) {
        if last >= self.end {
            self.runs.push(self.end, last, fate);
            self.end = last + 1;
        }
    }

    /// Carries out acknowledgements: all of them or none. The batches have been checked by `check_batches`.
    pub fn acknowledge(
        &mut self,
        member: &str,
        batches: &[AcknowledgementBatch],
        lock_us: u64,
        deliveries_max: i16,
    ) -> Result<Change, Refusal> {
        for batch in batches {
            self.check(member, batch)?;
        }
        let mut change = Change::default();
        for batch in batches {
            let first = batch.first_offset.max(self.start);
            if let [one] = batch.acknowledge_types[..] {
                self.say(first, batch.last_offset, one, lock_us, deliveries_max, &mut change);
                continue;
            }
            // Neighbours of the same kind are changed together.
            let mut from = first;
            while from <= batch.last_offset {
                let kinds = &batch.acknowledge_types[(from - batch.first_offset) as usize..];
                let len = kinds.iter().take_while(|kind| **kind == kinds[0]).count() as i64;
                self.say(from, from + len - 1, kinds[0], lock_us, deliveries_max, &mut change);
                from += len;
            }
        }
        change.available |= self.advance();
        self.told |= change.durable;
        Ok(change)
    }

    fn say(&mut self, first: i64, last: i64, kind: i8, lock_us: u64, deliveries_max: i16, change: &mut Change) {
        if first > last {
            return;
        }
        change.durable |= kind != kind::RENEW;
        self.runs.change(first, last, |fate| {
            let state = match kind {
                kind::RENEW => {
                    fate.lock_us = lock_us;
                    return;
                }
                kind::ACCEPT => RecordState::Acknowledged,
                kind::RELEASE if fate.count < deliveries_max => RecordState::Available,
                _ => RecordState::Archived,
            };
            change.available |= state == RecordState::Available;
            *fate = Fate::new(state, fate.count);
        });
    }

    /// Whether the member may say something of these records.
    fn check(&self, member: &str, batch: &AcknowledgementBatch) -> Result<(), Refusal> {
        if batch.last_offset < self.start {
            // Done with, by whomever: nothing is left to be said.
            return Ok(());
        }
        let invalid = |why| Err(Refusal(ErrorCode::INVALID_REQUEST, why));
        let state = |why| Err(Refusal(ErrorCode::INVALID_RECORD_STATE, why));
        if self.runs.is_empty() {
            return state("None of the records is acquired.");
        }
        if batch.first_offset >= self.end {
            return invalid("The first record lies behind all that were handed out.");
        }
        if batch.last_offset >= self.end {
            return invalid("The last record lies behind all that were handed out.");
        }
        for (_, _, fate) in self.runs.within(batch.first_offset.max(self.start), batch.last_offset) {
            if fate.state != RecordState::Acquired {
                return state("A record is not acquired.");
            }
            if fate.owner.as_deref() != Some(member) {
                return state("A record is acquired by another member.");
            }
        }
        Ok(())
    }

    /// Gives back what a member has acquired: its session has ended.
    pub fn release(&mut self, member: &str, deliveries_max: i16) -> Change {
        self.give_back(deliveries_max, |fate| fate.owner.as_deref() == Some(member))
    }

    /// Gives back what has been acquired for too long.
    pub fn expire(&mut self, now_us: u64, deliveries_max: i16) -> Change {
        self.give_back(deliveries_max, |fate| fate.lock_us <= now_us)
    }

    fn give_back(&mut self, deliveries_max: i16, concerned: impl Fn(&Fate) -> bool) -> Change {
        let acquired = self.runs.iter().filter(|(_, _, fate)| fate.state == RecordState::Acquired && concerned(fate));
        let acquired: Vec<(i64, i64)> = acquired.map(|(first, last, _)| (first, last)).collect();
        let mut change = Change { durable: !acquired.is_empty(), available: false };
        for (first, last) in acquired {
            self.runs.change(first, last, |fate| {
                let again = fate.count < deliveries_max && !canary::has(Fault::ShareRecordLost);
                change.available |= again;
                *fate = Fate::new(if again { RecordState::Available } else { RecordState::Archived }, fate.count);
            });
        }
        change.available |= self.advance();
        self.told |= change.durable;
        change
    }

    /// When the first lock ends, in monotonic µs.
    pub fn next_lock_us(&self) -> Option<u64> {
        let acquired = self.runs.iter().filter(|(_, _, fate)| fate.state == RecordState::Acquired);
        acquired.map(|(_, _, fate)| fate.lock_us).min()
    }

    /// The log begins here now: what lies before is gone.
    pub fn log_starts_at(&mut self, offset: i64) {
        if offset > self.start {
            self.runs.cut(offset);
            self.start = offset;
            self.end = self.end.max(offset);
            self.advance();
        }
    }

    /// Moves the start over what is final. True when it moved.
    fn advance(&mut self) -> bool {
        let Some(start) = self.runs.pop_final() else { return false };
        self.start = start;
        true
    }
}

/// What an acquisition has taken so far.
struct Out {
    ranges: Vec<Acquired>,
    /// Records that are still wanted.
    left: i64,
}

impl Out {
    /// Adds records of the batch that begins at `batch_first`.
    fn add(&mut self, how: &Acquire<'_>, batch_first: i64, taken: Acquired) {
        self.left -= taken.last - taken.first + 1;
        if let Some(range) = self.ranges.last_mut() {
            let full = !how.exact && taken.first == batch_first && taken.first - range.first >= how.batch_size;
            if range.last + 1 == taken.first && range.count == taken.count && !full {
                range.last = taken.last;
                return;
            }
        }
        self.ranges.push(taken);
    }
}

/// Whether somebody may be given a record.
fn may_be_acquired(fate: &Fate) -> bool {
    fate.state == RecordState::Available
        || canary::has(Fault::AcquiredTwice) && fate.state == RecordState::Acquired && fate.count == 1
}

/// Records that were handed out often are handed out alone and in ever smaller pieces, so that the one that cannot be
/// processed does not take its neighbours along: from half of the deliveries on half of them, then a quarter, and the last
/// time one by one. `None` for records above suspicion.
fn suspects(count: i16, deliveries_max: i16, len: i64) -> Option<i64> {
    let often = ((deliveries_max + 1) / 2).max(2);
    if count < often {
        return None;
    }
    if deliveries_max > 2 && count == deliveries_max - 1 {
        return Some(1);
    }
    let halvings = u32::from((count - often + 1).unsigned_abs()).min(62);
    Some((len >> halvings).max(1))
}

/// Checks what can be checked of acknowledgements without knowing the records: order, kinds, one kind or one for each.
pub(super) fn check_batches(batches: &[AcknowledgementBatch], renew_allowed: bool) -> Result<(), ErrorCode> {
    let mut before = i64::MIN;
    for batch in batches {
        let len = batch.last_offset.checked_sub(batch.first_offset).ok_or(ErrorCode::INVALID_REQUEST)?;
        let kinds = &batch.acknowledge_types;
        let in_order = len >= 0 && batch.first_offset > before && batch.last_offset < i64::MAX;
        let counted = kinds.len() == 1 || (!kinds.is_empty() && kinds.len() as i64 == len.saturating_add(1));
        let last_kind = if renew_allowed { kind::RENEW } else { kind::REJECT };
        if !in_order || !counted || !kinds.iter().all(|kind| (kind::GAP..=last_kind).contains(kind)) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        before = batch.last_offset;
    }
    Ok(())
}
