//! Owns the decisions about compaction: which partitions are due, what of them, in which order, and when to look next.
//!
//! The rules are Kafka's (LogCleanerManager). What they come to is a [`Plan`]; who reads and writes asks for the next one
//! and tells what came of it.

use std::collections::{BTreeMap, BTreeSet};

use super::agenda::Agenda;
use super::configs::{CompactionSettings, TopicSettings};
use super::log::PartitionLog;
use super::producers::ProducerState;
use super::tiering::store_retry_us;
use super::{Broker, Now, Timer};
use crate::limits;
use crate::wal::compact::{AbortedTxn, Clean, LastBatch, Outcome};
use crate::wal::{PartitionId, SegmentId};

/// A cleaning of a partition that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub id: PartitionId,
    pub clean: Clean,
}

/// What the broker knows about compaction.
#[derive(Debug, Default)]
pub struct Cleanings {
    agenda: Agenda,
    /// Partitions that are due, with how much of them is dirty in billionths.
    ready: BTreeMap<PartitionId, u64>,
    by_dirt: BTreeSet<(u64, PartitionId)>,
    /// Partitions of which more could be cleaned if a transaction were over.
    unstable: BTreeSet<PartitionId>,
    /// Partitions that could not be read; they are left alone until the next start.
    uncleanable: BTreeSet<PartitionId>,
    /// The one that is being cleaned.
    busy: Option<PartitionId>,
    /// The segment that was asked to be sealed.
    sealing: Option<SegmentId>,
    store: FromStore,
    /// The last job that readers could have got when a cleaning last replaced what they read.
    replaced_at_job: u64,
    armed_us: Option<u64>,
    /// When partitions were last looked at, monotonic µs.
    looked_us: Option<u64>,
}

/// Cleanings that read what only the object store has.
#[derive(Debug, Default)]
struct FromStore {
    /// How many failed since one did not.
    failures: u32,
    /// Before when none begins, in monotonic µs.
    earliest_us: u64,
    /// Partitions that could not be read, which come after the others, and when that was: the number of the try.
    failed: BTreeMap<PartitionId, u64>,
    tries: u64,
}

impl Cleanings {
    /// Partitions that are due, in the order in which they are begun: the dirtiest first, those that failed last.
    fn in_order(&self) -> Vec<PartitionId> {
        let mut ids: Vec<PartitionId> = self.by_dirt.iter().rev().map(|(_, id)| *id).collect();
        ids.sort_by_key(|id| self.store.failed.get(id));
        ids
    }

    /// A cleaning from the store did not get done: it comes after the others.
    pub fn comes_last(&mut self, id: PartitionId) {
        self.store.tries += 1;
        self.store.failed.insert(id, self.store.tries);
    }

    fn set_ready(&mut self, id: PartitionId, dirt: Option<u64>) {
        let before = match dirt {
            Some(dirt) => {
                self.by_dirt.insert((dirt, id));
                self.ready.insert(id, dirt).filter(|before| *before != dirt)
            }
            None => self.ready.remove(&id),
        };
        if let Some(before) = before {
            self.by_dirt.remove(&(before, id));
        }
    }
}

/// What of a partition could be cleaned, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dirty {
    first_dirty: i64,
    /// Where the first logical segment begins that must be left alone.
    end: i64,
    /// How much of what is below `end` is dirty, in billionths.
    ratio: u64,
    bytes: u64,
    /// It must be cleaned whatever the ratio.
    overdue: bool,
    /// A transaction is in the way of cleaning more.
    unstable: bool,
    /// When more can or must be cleaned, in wall-clock ms.
    next_ms: Option<i64>,
}

const WHOLE: u64 = 1_000_000_000;

impl Dirty {
    /// Whether a cleaning is due, as in Kafka: more than the ratio is dirty, or something is overdue.
    fn is_due(&self, settings: &CompactionSettings) -> bool {
        self.bytes > 0 && (self.overdue || self.ratio as f64 > settings.min_dirty_ratio * WHOLE as f64)
    }
}

/// Looks at a partition. Costs one step per logical segment.
fn dirty(log: &PartitionLog, settings: &CompactionSettings, now_ms: i64) -> Dirty {
    let first_dirty = match log.first_dirty {
        // Deletion was faster, or the log lost its end.
        first if first < log.start_offset || first > log.next_offset => log.start_offset,
        first => first,
    };
    let active = log.logical.active_base().unwrap_or(log.next_offset);
    let young_from = now_ms.saturating_sub(settings.min_lag_ms);
    let stable = log.last_stable_offset();
    let mut look = Dirty {
        first_dirty,
        end: first_dirty,
        ratio: 0,
        bytes: 0,
        overdue: false,
        unstable: stable < active.min(log.high_watermark),
        next_ms: None,
    };
    let mut clean_bytes = 0;
    let mut oldest_ms = i64::MAX;
    let mut is_open = true;
    for (segment, end) in log.logical.iter().zip(log.logical.iter().skip(1).map(|next| next.base_offset)) {
        if end <= first_dirty {
            clean_bytes += segment.bytes;
            continue;
        }
        if segment.first_timestamp > 0 {
            oldest_ms = oldest_ms.min(segment.first_timestamp);
        }
        let is_young = settings.min_lag_ms > 0 && segment.largest_timestamp() > young_from;
        if is_open && is_young {
            look.next_ms = Some(segment.largest_timestamp().saturating_add(settings.min_lag_ms));
        }
        is_open &= !is_young && end <= stable;
        if is_open {
            look.bytes += segment.bytes;
            look.end = end;
        }
    }
    look.ratio = (u128::from(look.bytes) * u128::from(WHOLE))
        .checked_div(u128::from(look.bytes + clean_bytes))
        .unwrap_or(0) as u64;
    let due_ms = oldest_ms.saturating_add(settings.max_lag_ms).saturating_add(1);
    look.overdue = now_ms >= due_ms;
    if !look.overdue && due_ms < i64::MAX {
        look.next_ms = Some(look.next_ms.map_or(due_ms, |next| next.min(due_ms)));
    }
    look
}

impl Broker {
    /// Something of a partition has changed: it is looked at soon if its topic is compacted.
    pub(super) fn schedule_cleaning_of(&mut self, now: Now, id: PartitionId) {
        let is_compacted = self.topics.by_id(id.topic).is_some_and(|topic| topic.settings.compact);
        if is_compacted {
            self.cleanings.agenda.set(id, Some(now.wall_ms));
            self.arm_cleaning(now);
        } else {
            self.forget_cleaning_of(id);
        }
    }

    /// A transaction has ended in a partition: it may have been in the way.
    pub(super) fn stable_offset_moved(&mut self, now: Now, id: PartitionId) {
        if self.cleanings.unstable.contains(&id) {
            self.schedule_cleaning_of(now, id);
        }
    }

    /// Every partition is looked at soon: after a start, or when settings have changed.
    pub(super) fn schedule_cleaning(&mut self, now: Now) {
        for id in self.topics.partition_ids() {
            self.schedule_cleaning_of(now, id);
        }
    }

    fn forget_cleaning_of(&mut self, id: PartitionId) {
        self.cleanings.agenda.set(id, None);
        self.cleanings.set_ready(id, None);
        self.cleanings.unstable.remove(&id);
        self.cleanings.store.failed.remove(&id);
    }

    /// Sets the timer for the next look, not more often than `log.cleaner.backoff.ms`. Nothing to look at, no timer.
    fn arm_cleaning(&mut self, now: Now) {
        let Some(first_ms) = self.cleanings.agenda.first_ms() else { return };
        let wait_ms = u64::try_from(first_ms.saturating_sub(now.wall_ms)).unwrap_or(0);
        let backoff_us = u64::try_from(self.settings.config.log_cleaner_backoff_ms).unwrap_or(0).saturating_mul(1000);
        let rested_us = self.cleanings.looked_us.map_or(0, |looked_us| looked_us.saturating_add(backoff_us));
        let at_us = now.mono_us.saturating_add(wait_ms.saturating_mul(1000)).max(rested_us);
        self.cleanings.armed_us = self.arm(self.cleanings.armed_us, at_us, Timer::Cleaning);
    }

    /// The timer is due: looks at the partitions that may have become due.
    pub(super) fn look_at_cleaning(&mut self, now: Now) {
        self.cleanings.armed_us = None;
        self.cleanings.looked_us = Some(now.mono_us);
        for id in self.cleanings.agenda.take_due(now.wall_ms) {
            self.look_at_cleaning_of(now, id);
        }
        self.arm_cleaning(now);
    }

    fn look_at_cleaning_of(&mut self, now: Now, id: PartitionId) -> Option<Dirty> {
        let settings = self.topics.by_id(id.topic).map(|topic| &topic.settings).filter(|settings| settings.compact);
        let log = self.topics.partition(id).map(|partition| &partition.log);
        let Some((settings, log)) = settings.zip(log).filter(|_| !self.cleanings.uncleanable.contains(&id)) else {
            self.forget_cleaning_of(id);
            return None;
        };
        let look = dirty(log, &settings.compaction, now.wall_ms);
        let is_due = look.is_due(&settings.compaction);
        self.cleanings.set_ready(id, is_due.then_some(look.ratio));
        self.cleanings.agenda.set(id, look.next_ms.filter(|_| !is_due));
        match look.unstable {
            true => self.cleanings.unstable.insert(id),
            false => self.cleanings.unstable.remove(&id),
        };
        is_due.then_some(look)
    }

    /// Whether a partition is due for compaction.
    pub(super) fn wants_cleaning(&self) -> bool {
        self.cleanings.busy.is_none() && !self.cleanings.by_dirt.is_empty()
    }

    /// The next cleaning: of the partition of which most is dirty, whose records up to the end of what is cleaned lie in
    /// sealed segments. What is due and lies in the unsealed one gets that sealed, and comes after. Only one is under way
    /// at a time; it must be answered by `cleaned` or `cleaning_failed`, or given up by `cleaning_put_off`.
    pub(super) fn next_cleaning(&mut self, now: Now) -> Option<Plan> {
        let unsealed = self.segments.unsealed();
        if !self.wants_cleaning() || self.cleanings.sealing == Some(unsealed) {
            return None;
        }
        // Readers are told of aborted transactions when they are answered. One that still reads what the last cleaning has
        // replaced must be told of those that the next one would find emptied.
        if self.tidying.oldest_read().is_some_and(|job| job <= self.cleanings.replaced_at_job) {
            self.rest_cleaning(now);
            return None;
        }
        let (mut plan, mut wants_seal, mut wants_rest) = (None, false, false);
        for id in self.cleanings.in_order() {
            let Some(mut look) = self.look_at_cleaning_of(now, id) else { continue };
            let Some(log) = self.topics.partition(id).map(|partition| &partition.log) else { continue };
            if log.ranges_below(look.end).iter().any(|range| self.segments.is_remote(range.segment)) {
                if now.mono_us < self.cleanings.store.earliest_us {
                    continue;
                }
                look.end = portion_end(log, &look);
            }
            // The same for a reader that waits for the store; there may be one for long, so others are not kept back.
            if self.tidying.waits_for_store(id, self.cleanings.replaced_at_job) {
                wants_rest = true;
                continue;
            }
            if log.reaches_into(unsealed, look.end) {
                wants_seal = true;
                continue;
            }
            plan = self.clean_of(now, id, &look).map(|clean| Plan { id, clean });
            break;
        }
        if wants_seal {
            self.cleanings.sealing = Some(unsealed);
            self.gather.seal();
        }
        self.cleanings.busy = plan.as_ref().map(|plan| plan.id);
        if wants_rest && plan.is_none() {
            self.rest_cleaning(now);
        }
        plan
    }

    /// Whether another partition is due than the one that is being cleaned, of which the store has nothing.
    pub(super) fn local_cleaning_waits(&self) -> bool {
        let others = self.cleanings.ready.keys().filter(|id| self.cleanings.busy != Some(**id));
        let mut logs = others.filter_map(|id| self.topics.partition(*id)).map(|partition| &partition.log);
        logs.any(|log| log.ranges().all(|range| !self.segments.is_remote(range.segment)))
    }

    /// Looks again after a while.
    fn rest_cleaning(&mut self, now: Now) {
        if self.cleanings.armed_us.is_none() {
            let backoff_ms = u64::try_from(self.settings.config.log_cleaner_backoff_ms).unwrap_or(0).max(1);
            let at_us = now.mono_us.saturating_add(backoff_ms.saturating_mul(1000));
            self.set_timer(at_us, Timer::Cleaning);
            self.cleanings.armed_us = Some(at_us);
        }
    }

    fn clean_of(&self, now: Now, id: PartitionId, look: &Dirty) -> Option<Clean> {
        let settings = &self.topics.by_id(id.topic)?.settings;
        let log = &self.topics.partition(id)?.log;
        Some(clean_of(
            log,
            settings,
            look,
            now.wall_ms,
            self.settings.config.log_cleaner_dedupe_buffer_size,
            self.settings.config.log_segment_bytes,
        ))
    }

    /// A cleaning is over, and what it wrote has taken the place of what was there. At recovery too.
    pub(super) fn cleaned(&mut self, now: Now, id: PartitionId, outcome: &Outcome) {
        if let Some(partition) = self.topics.partition_mut(id) {
            partition.log.cleaned(outcome);
        }
        self.forget_reads_of(id);
        self.forget_share_reads_of(id);
        self.cleanings.replaced_at_job = self.next_job;
        self.cleaning_put_off(now, id);
    }

    /// A cleaning was given up and changed nothing; it comes again.
    pub(super) fn cleaning_put_off(&mut self, now: Now, id: PartitionId) {
        if self.cleanings.busy == Some(id) {
            self.cleanings.busy = None;
        }
        self.cleanings.set_ready(id, None);
        self.schedule_cleaning_of(now, id);
        self.schedule_retention_of(now, id);
    }

    /// The store could not be read for a cleaning, which changed nothing: it comes again after a while, behind others.
    pub(super) fn cleaning_away(&mut self, now: Now, id: PartitionId, why: &str) {
        if self.cleanings.busy == Some(id) {
            self.cleanings.busy = None;
        }
        self.store_is_away(now, why);
        let store = &mut self.cleanings.store;
        store.earliest_us = now.mono_us + store_retry_us(store.failures);
        store.failures += 1;
        let at_us = store.earliest_us;
        self.cleanings.comes_last(id);
        self.set_timer(at_us, Timer::Cleaning);
    }

    /// A cleaning has read what it needed of the store.
    pub(super) fn cleaned_from_store(&mut self, id: PartitionId) {
        let store = &mut self.cleanings.store;
        (store.failures, store.earliest_us) = (0, 0);
        store.failed.remove(&id);
    }

    /// A partition's records cannot be read: it is left alone until the next start, as in Kafka.
    pub(super) fn cleaning_failed(&mut self, id: PartitionId, why: &str) {
        if self.cleanings.busy == Some(id) {
            self.cleanings.busy = None;
        }
        let name = self.topics.by_id(id.topic).map_or_else(|| id.topic.to_string(), |topic| topic.name.to_string());
        ::log::error!("partition {} of topic {name} is not compacted any more: {why}", id.partition);
        self.cleanings.uncleanable.insert(id);
        self.forget_cleaning_of(id);
    }
}

/// Where a cleaning ends that reads from the object store. It takes in so much, or as much as is clean already: the clean part is
/// written anew each time, so the whole is written a few times at most, and room is needed for a part only.
fn portion_end(log: &PartitionLog, look: &Dirty) -> i64 {
    let (mut clean, mut dirty, mut end) = (0, 0, None);
    let ends = log.logical.iter().skip(1).map(|next| next.base_offset);
    for (segment, segment_end) in log.logical.iter().zip(ends).take_while(|(_, end)| *end <= look.end) {
        if segment_end <= look.first_dirty {
            clean += segment.bytes;
            continue;
        }
        dirty += segment.bytes;
        if end.is_some() && dirty > limits::STORE_CLEAN_BYTES.max(clean) {
            break;
        }
        end = Some(segment_end);
    }
    end.unwrap_or(look.end)
}

fn clean_of(
    log: &PartitionLog,
    settings: &TopicSettings,
    look: &Dirty,
    now_ms: i64,
    map_bytes_max: usize,
    log_segment_bytes: u64,
) -> Clean {
    let aborted = log.txns.aborted_in(log.start_offset, look.end).map(|txn| AbortedTxn {
        producer_id: txn.producer_id,
        first_offset: txn.first_offset,
        last_offset: txn.last_offset,
    });
    let mut aborted: Vec<AbortedTxn> = aborted.collect();
    aborted.sort_by_key(|txn| txn.first_offset);
    Clean {
        first_dirty: look.first_dirty,
        end: look.end,
        now_ms,
        delete_retention_ms: settings.compaction.delete_retention_ms,
        map_bytes_max,
        batch_bytes_max: usize::try_from(log_segment_bytes / 2).unwrap_or(usize::MAX),
        segments: log.logical.cleaning_groups(look.end, settings.segment_bytes),
        aborted,
        producers: log.producers.iter().map(|(id, state)| (id, last_batch(state))).collect(),
    }
}

fn last_batch(state: &ProducerState) -> LastBatch {
    let last_offset = state.batches.last().map(|batch| batch.last_offset());
    LastBatch { last_offset, epoch: state.epoch }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::logical::LogicalSegment;
    use crate::wire::Uuid;

    const SETTINGS: CompactionSettings =
        CompactionSettings { min_dirty_ratio: 0.5, min_lag_ms: 0, max_lag_ms: i64::MAX, delete_retention_ms: 1000 };

    /// Four segments of ten offsets; the last is active. Their timestamps are 1000, 2000, 3000 and 4000.
    fn log() -> PartitionLog {
        let mut log = PartitionLog::new(PartitionId { topic: Uuid([1; 16]), partition: 0 });
        for (index, bytes) in [100, 100, 200, 50].into_iter().enumerate() {
            let timestamp = (index as i64 + 1) * 1000;
            log.logical.restore(LogicalSegment::restored(index as i64 * 10, bytes, (timestamp, timestamp), 0));
        }
        (log.next_offset, log.high_watermark) = (40, 40);
        log
    }

    #[test]
    fn all_but_the_active_segment_can_be_cleaned() {
        let look = dirty(&log(), &SETTINGS, 9_000);
        assert_eq!((look.first_dirty, look.end, look.bytes, look.ratio), (0, 30, 400, WHOLE));
        assert!(look.is_due(&SETTINGS) && !look.unstable && !look.overdue);
        assert_eq!(look.next_ms, None);
    }

    #[test]
    fn it_is_due_when_more_than_the_ratio_is_dirty() {
        let mut log = log();
        log.first_dirty = 20;
        let look = dirty(&log, &SETTINGS, 9_000);
        assert_eq!((look.bytes, look.ratio), (200, WHOLE / 2));
        assert!(!look.is_due(&SETTINGS));
        assert!(look.is_due(&CompactionSettings { min_dirty_ratio: 0.49, ..SETTINGS }));
        log.first_dirty = 30;
        let look = dirty(&log, &SETTINGS, 9_000);
        assert!(look.ratio == 0 && !look.is_due(&CompactionSettings { min_dirty_ratio: 0.0, ..SETTINGS }));
    }

    #[test]
    fn young_records_wait_and_say_until_when() {
        let settings = CompactionSettings { min_lag_ms: 500, ..SETTINGS };
        let look = dirty(&log(), &settings, 2_499);
        assert_eq!((look.end, look.next_ms), (10, Some(2_500)));
        let look = dirty(&log(), &settings, 2_500);
        assert_eq!((look.end, look.next_ms), (20, Some(3_500)));
    }

    #[test]
    fn old_records_are_cleaned_whatever_the_ratio() {
        let settings = CompactionSettings { min_dirty_ratio: 1.0, max_lag_ms: 5_000, ..SETTINGS };
        let look = dirty(&log(), &settings, 6_000);
        assert!(!look.overdue && !look.is_due(&settings));
        assert_eq!(look.next_ms, Some(6_001));
        let look = dirty(&log(), &settings, 6_001);
        assert!(look.overdue && look.is_due(&settings));
        let mut cleaned = log();
        cleaned.first_dirty = 10;
        assert_eq!(dirty(&cleaned, &settings, 6_001).next_ms, Some(7_001));
    }

    #[test]
    fn an_open_transaction_is_in_the_way() {
        let mut log = log();
        log.txns.begin(15);
        let look = dirty(&log, &SETTINGS, 9_000);
        assert_eq!((look.end, look.bytes, look.unstable), (10, 100, true));
        log.txns.end(7, 15, 39, true);
        log.txns.durable(40);
        assert_eq!(dirty(&log, &SETTINGS, 9_000).end, 30);
    }

    #[test]
    fn what_lies_in_the_store_is_cleaned_in_portions_that_grow_with_what_is_clean() {
        let mut log = PartitionLog::new(PartitionId { topic: Uuid([1; 16]), partition: 0 });
        for index in 0..20 {
            let bytes = limits::STORE_CLEAN_BYTES / 2;
            log.logical.restore(LogicalSegment::restored(index * 10, bytes, (1000, 1000), 0));
        }
        (log.next_offset, log.high_watermark) = (200, 200);
        let portion = |log: &PartitionLog| portion_end(log, &dirty(log, &SETTINGS, 9_000));
        assert_eq!(portion(&log), 20);
        log.first_dirty = 20;
        assert_eq!(portion(&log), 40);
        log.first_dirty = 60;
        assert_eq!(portion(&log), 120);
        log.first_dirty = 120;
        assert_eq!(portion(&log), 190, "but for the active segment");
    }

    #[test]
    fn what_was_deleted_needs_no_cleaning() {
        let mut log = log();
        log.first_dirty = 10;
        log.start_offset = 25;
        log.logical.forget_below(25, 40);
        let look = dirty(&log, &SETTINGS, 9_000);
        assert_eq!((look.first_dirty, look.end, look.bytes), (25, 30, 200));
        log.start_offset = 40;
        log.logical.forget_below(40, 40);
        assert!(!dirty(&log, &SETTINGS, 9_000).is_due(&SETTINGS));
    }

    #[test]
    fn a_producers_last_offset_counts_over_the_wrap_of_sequences() {
        let mut producers = crate::broker::producers::Producers::default();
        let header = crate::wire::batch::BatchHeader {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: 2,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 9,
            producer_epoch: 4,
            base_sequence: i32::MAX - 1,
            records_count: 3,
        };
        producers.appended(&header, 100, -1, 0);
        assert_eq!(last_batch(producers.get(9).unwrap()), LastBatch { last_offset: Some(102), epoch: 4 });
        let marker = crate::wire::control::EndMarker {
            producer_id: 9,
            producer_epoch: 5,
            coordinator_epoch: 0,
            committed: false,
        };
        producers.ended(&marker, 0);
        assert_eq!(last_batch(producers.get(9).unwrap()), LastBatch { last_offset: None, epoch: 5 });
    }
}
