//! Owns idempotence: what is known of each producer in one partition, and the verdict on a batch's sequence numbers.
//!
//! The rules are Kafka's (KIP-98, ProducerStateManager): the last five batches are remembered, a batch that repeats one of
//! them is a duplicate, one that continues is accepted, anything else is out of order. A producer's open transaction is
//! known by its first offset; a marker ends it, and may raise the epoch.

pub mod census;
pub mod table;

use std::ops::Deref;

use self::table::{Chunk, Table};
use crate::canary::{self, Fault};
use crate::limits;
use crate::wire::batch::BatchHeader;
use crate::wire::control::EndMarker;

/// How many batches of a producer are remembered per partition; clients have at most this many in flight.
pub const BATCHES_REMEMBERED: usize = 5;

/// A batch that was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendedBatch {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    /// Log-append time in ms, or -1.
    pub append_time_ms: i64,
}

impl AppendedBatch {
    /// The offset of its last record.
    pub fn last_offset(&self) -> i64 {
        // Sequences go on at 0 after the largest number.
        let records = (i64::from(self.last_sequence) - i64::from(self.first_sequence)).rem_euclid(1 << 31);
        self.base_offset + records
    }
}

/// The last batches of a producer, oldest first. They lie in place: there may be hundreds of thousands of producers, which are all looked
/// at while everybody waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastBatches {
    count: usize,
    slots: [AppendedBatch; BATCHES_REMEMBERED],
}

impl LastBatches {
    /// Adds one, in the place of the oldest if there are as many as are remembered.
    pub fn push(&mut self, batch: AppendedBatch) {
        if self.count == BATCHES_REMEMBERED {
            self.slots.copy_within(1.., 0);
            self.count -= 1;
        }
        self.slots[self.count] = batch;
        self.count += 1;
    }
}

impl Deref for LastBatches {
    type Target = [AppendedBatch];

    fn deref(&self) -> &[AppendedBatch] {
        &self.slots[..self.count]
    }
}

/// One producer in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    pub epoch: i16,
    pub batches: LastBatches,
    /// Wall clock of the last append, ms; decides about expiry.
    pub last_append_ms: i64,
    /// Offset of the first batch of the transaction that is open.
    pub txn_first_offset: Option<i64>,
    /// Epoch of the coordinator that wrote the last marker; -1 before the first.
    pub coordinator_epoch: i32,
}

impl ProducerState {
    /// When it appended last, in ms and by offset: recovery does not know the time of most.
    fn latest(&self) -> (i64, i64) {
        (self.last_append_ms, self.batches.last().map_or(-1, |batch| batch.base_offset))
    }

    /// The batch of this epoch that this one repeats.
    ///
    /// In a transaction only what was appended in it can be repeated: nobody waits for an answer about an earlier one any more. A
    /// client that gave up a batch when it aborted, and took it for one that never arrived, uses its sequence again for the next
    /// one. Kafka would acknowledge that one as there already, and it would be lost.
    fn duplicate_of(&self, header: &BatchHeader) -> Option<&AppendedBatch> {
        let first_offset = match header.is_transactional() {
            true => self.txn_first_offset?,
            false => 0,
        };
        let sequences = (header.base_sequence, header.last_sequence());
        let mut repeatable = self.batches.iter().filter(|batch| batch.base_offset >= first_offset);
        repeatable.find(|batch| (batch.first_sequence, batch.last_sequence) == sequences)
    }
}

/// What to do with a batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It is there already: answer as then.
    Duplicate(AppendedBatch),
    OutOfOrderSequence,
    /// The producer id was taken over by a newer epoch.
    InvalidProducerEpoch,
    /// A batch outside of the transaction while the producer's transaction is open.
    InvalidTxnState,
}

/// All producers of one partition. Empty tables allocate nothing.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    by_id: Table,
    /// None of them was silent for longer, ms; so that it costs little to find out that none has expired.
    since_ms: Option<i64>,
}

impl Producers {
    /// Judges a batch by its header; changes nothing. Batches without a producer id are always appended.
    pub fn check(&self, header: &BatchHeader) -> Verdict {
        if header.producer_id < 0 {
            return Verdict::Append;
        }
        let Some(state) = self.by_id.get(header.producer_id) else {
            // Unknown producers may start anywhere: their state may have expired or gone with retention.
            return Verdict::Append;
        };
        if header.producer_epoch < state.epoch {
            return Verdict::InvalidProducerEpoch;
        }
        if header.producer_epoch > state.epoch {
            return if header.base_sequence == 0 { Verdict::Append } else { Verdict::OutOfOrderSequence };
        }
        let duplicate = state.duplicate_of(header);
        if canary::has(Fault::Duplicate) && duplicate.is_some() {
            return Verdict::Append;
        }
        if let Some(batch) = duplicate {
            return Verdict::Duplicate(*batch);
        }
        // After a marker that raised the epoch nothing of this epoch is there yet: it begins at 0.
        let in_order = match state.batches.last() {
            Some(last) => follows(last.last_sequence, header.base_sequence),
            None => header.base_sequence == 0,
        };
        match in_order {
            false => Verdict::OutOfOrderSequence,
            true if state.txn_first_offset.is_some() && !header.is_transactional() => Verdict::InvalidTxnState,
            true => Verdict::Append,
        }
    }

    /// What is known of a producer.
    pub fn get(&self, producer_id: i64) -> Option<&ProducerState> {
        self.by_id.get(producer_id)
    }

    /// Whether the producer's transaction is open in this partition, in this epoch.
    pub fn has_open_txn(&self, producer_id: i64, epoch: i16) -> bool {
        self.by_id.get(producer_id).is_some_and(|state| state.epoch == epoch && state.txn_first_offset.is_some())
    }

    /// Records a batch that was appended (or is found in the log at recovery). True when it begins a transaction.
    pub fn appended(&mut self, header: &BatchHeader, base_offset: i64, append_time_ms: i64, now_ms: i64) -> bool {
        if header.producer_id < 0 {
            return false;
        }
        let state = self.state_of(header.producer_id, header.producer_epoch, now_ms);
        state.batches.push(AppendedBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            append_time_ms,
        });
        let begins = header.is_transactional() && state.txn_first_offset.is_none();
        if begins {
            state.txn_first_offset = Some(base_offset);
        }
        begins
    }

    /// Records a marker; the first offset of the transaction that it ends, if one was open.
    pub fn ended(&mut self, marker: &EndMarker, now_ms: i64) -> Option<i64> {
        let state = self.state_of(marker.producer_id, marker.producer_epoch, now_ms);
        state.coordinator_epoch = marker.coordinator_epoch;
        state.txn_first_offset.take()
    }

    /// The producer's state in this epoch; a new epoch starts without batches.
    fn state_of(&mut self, producer_id: i64, epoch: i16, now_ms: i64) -> &mut ProducerState {
        if self.by_id.len() >= limits::PRODUCERS_PER_PARTITION_MAX && self.by_id.get(producer_id).is_none() {
            self.keep_latest(self.by_id.len() / 8 * 7);
        }
        let new = ProducerState {
            epoch,
            batches: LastBatches::default(),
            last_append_ms: now_ms,
            txn_first_offset: None,
            coordinator_epoch: -1,
        };
        let state = self.by_id.entry(producer_id, new);
        if state.epoch != epoch {
            state.epoch = epoch;
            state.batches = LastBatches::default();
        }
        state.last_append_ms = now_ms;
        self.since_ms = Some(self.since_ms.map_or(now_ms, |since_ms| since_ms.min(now_ms)));
        state
    }

    /// Forgets producers that have not appended since `before_ms` (`producer.id.expiration.ms`), but none whose
    /// transaction is open: its end could not be told any more.
    pub fn expire(&mut self, before_ms: i64) {
        if self.since_ms.is_none_or(|since_ms| since_ms >= before_ms) {
            return;
        }
        self.by_id.retain(|state| state.last_append_ms >= before_ms || state.txn_first_offset.is_some());
        self.since_ms = self.by_id.iter().map(|(_, state)| state.last_append_ms).min();
    }

    /// Forgets the producers that were silent for longest until there are at most so many, but none whose transaction is open.
    pub fn keep_latest(&mut self, at_most: usize) {
        let Some(last_dropped) = self.by_id.len().checked_sub(at_most + 1) else { return };
        let mut latest: Vec<_> = self.by_id.iter().map(|(_, state)| state.latest()).collect();
        let (_, last_dropped, _) = latest.select_nth_unstable(last_dropped);
        let last_dropped = *last_dropped;
        self.by_id.retain(|state| state.txn_first_offset.is_some() || state.latest() > last_dropped);
    }

    /// No producer has appended later than now: what replay could not know is set to the time of recovery.
    pub fn cap_last_append(&mut self, now_ms: i64) {
        self.by_id.change_all(|state| state.last_append_ms = state.last_append_ms.min(now_ms));
        self.since_ms = self.since_ms.map(|since_ms| since_ms.min(now_ms));
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.by_id.iter()
    }

    /// The same in parts, which stay as they are while somebody holds on to them.
    pub fn chunks(&self) -> &[Chunk] {
        self.by_id.chunks()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts back what a checkpoint held; each producer once.
    pub fn restore(&mut self, producer_id: i64, state: ProducerState) {
        let since_ms = self.since_ms.unwrap_or(state.last_append_ms);
        self.since_ms = Some(since_ms.min(state.last_append_ms));
        self.by_id.entry(producer_id, state);
    }
}

/// Whether `next` comes right after `last`; sequences wrap to 0 after the largest i32.
fn follows(last: i32, next: i32) -> bool {
    next == last.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(producer_id: i64, producer_epoch: i16, base_sequence: i32, count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch,
            base_sequence,
            records_count: count,
        }
    }

    fn append(producers: &mut Producers, h: &BatchHeader, offset: i64) -> Verdict {
        let verdict = producers.check(h);
        if verdict == Verdict::Append {
            producers.appended(h, offset, -1, 1000);
        }
        verdict
    }

    #[test]
    fn a_repeated_batch_is_answered_with_its_first_offset() {
        let mut producers = Producers::default();
        assert_eq!(append(&mut producers, &header(9, 0, 0, 3), 100), Verdict::Append);
        assert_eq!(append(&mut producers, &header(9, 0, 3, 2), 103), Verdict::Append);
        match producers.check(&header(9, 0, 0, 3)) {
            Verdict::Duplicate(batch) => assert_eq!(batch.base_offset, 100),
            other => panic!("{other:?}"),
        }
        assert_eq!(producers.check(&header(9, 0, 0, 2)), Verdict::OutOfOrderSequence);
        assert_eq!(producers.check(&header(9, 0, 6, 1)), Verdict::OutOfOrderSequence);
        assert_eq!(producers.check(&header(9, 0, 5, 1)), Verdict::Append);
    }

    #[test]
    fn only_the_last_five_batches_are_known_as_duplicates() {
        let mut producers = Producers::default();
        for n in 0..6 {
            append(&mut producers, &header(9, 0, n, 1), n as i64);
        }
        assert_eq!(producers.check(&header(9, 0, 0, 1)), Verdict::OutOfOrderSequence);
        assert!(matches!(producers.check(&header(9, 0, 1, 1)), Verdict::Duplicate(_)));
    }

    #[test]
    fn sequences_wrap_after_the_largest_number() {
        let mut producers = Producers::default();
        append(&mut producers, &header(9, 0, i32::MAX - 1, 2), 0);
        assert_eq!(producers.check(&header(9, 0, 0, 1)), Verdict::Append);
        let mut across = Producers::default();
        append(&mut across, &header(9, 0, i32::MAX, 3), 0);
        assert_eq!(across.check(&header(9, 0, 2, 1)), Verdict::Append);
    }

    #[test]
    fn a_newer_epoch_starts_at_zero_and_fences_the_older() {
        let mut producers = Producers::default();
        append(&mut producers, &header(9, 0, 0, 1), 0);
        assert_eq!(producers.check(&header(9, 1, 5, 1)), Verdict::OutOfOrderSequence);
        assert_eq!(append(&mut producers, &header(9, 1, 0, 1), 1), Verdict::Append);
        assert_eq!(producers.check(&header(9, 0, 1, 1)), Verdict::InvalidProducerEpoch);
    }

    fn transactional(header: BatchHeader) -> BatchHeader {
        BatchHeader { attributes: 1 << 4, ..header }
    }

    fn marker(producer_epoch: i16) -> EndMarker {
        EndMarker { producer_id: 9, producer_epoch, coordinator_epoch: 0, committed: true }
    }

    #[test]
    fn a_transaction_is_open_from_its_first_batch_to_its_marker() {
        let mut producers = Producers::default();
        assert!(producers.appended(&transactional(header(9, 0, 0, 2)), 50, -1, 1000));
        assert!(!producers.appended(&transactional(header(9, 0, 2, 2)), 52, -1, 1000));
        assert!(producers.has_open_txn(9, 0) && !producers.has_open_txn(9, 1));
        assert_eq!(producers.check(&header(9, 0, 4, 1)), Verdict::InvalidTxnState);
        producers.expire(i64::MAX);
        assert_eq!(producers.ended(&marker(0), 1000), Some(50));
        assert!(!producers.has_open_txn(9, 0));
        // The same epoch goes on counting.
        assert_eq!(producers.check(&transactional(header(9, 0, 4, 1))), Verdict::Append);
        producers.expire(i64::MAX);
        assert!(producers.is_empty());
    }

    #[test]
    fn a_sequence_of_an_ended_transaction_is_not_acknowledged_for_another_record() {
        let mut producers = Producers::default();
        let first = transactional(header(9, 0, 0, 1));
        assert_eq!(append(&mut producers, &first, 50), Verdict::Append);
        assert!(matches!(producers.check(&first), Verdict::Duplicate(_)));
        producers.ended(&marker(0), 1000);
        assert_eq!(producers.check(&first), Verdict::OutOfOrderSequence);
        let second = transactional(header(9, 0, 1, 1));
        assert_eq!(append(&mut producers, &second, 52), Verdict::Append);
        assert!(matches!(producers.check(&second), Verdict::Duplicate(_)));
        assert_eq!(producers.check(&first), Verdict::OutOfOrderSequence);
    }

    #[test]
    fn a_marker_with_a_newer_epoch_starts_the_sequences_anew() {
        let mut producers = Producers::default();
        producers.appended(&transactional(header(9, 0, 0, 2)), 0, -1, 1000);
        producers.ended(&marker(1), 1000);
        assert_eq!(producers.check(&header(9, 0, 2, 1)), Verdict::InvalidProducerEpoch);
        assert_eq!(producers.check(&header(9, 1, 2, 1)), Verdict::OutOfOrderSequence);
        assert_eq!(producers.check(&header(9, 1, 0, 1)), Verdict::Append);
        // A marker where the producer never wrote makes it known all the same.
        let mut elsewhere = Producers::default();
        assert_eq!(elsewhere.ended(&marker(4), 1000), None);
        assert_eq!(elsewhere.check(&header(9, 3, 0, 1)), Verdict::InvalidProducerEpoch);
    }

    #[test]
    fn those_that_were_silent_for_longest_make_room_and_none_in_a_transaction() {
        let mut producers = Producers::default();
        let first = BatchHeader { producer_id: 1000, ..transactional(header(9, 0, 0, 1)) };
        producers.appended(&first, 0, -1, 5);
        for n in 0..20 {
            // As after a recovery, which knows no times.
            producers.appended(&header(n, 0, 0, 1), 100 - n, -1, i64::MAX);
        }
        producers.keep_latest(21);
        assert_eq!(producers.len(), 21);
        producers.keep_latest(4);
        let left: Vec<i64> = producers.iter().map(|(id, _)| id).collect();
        assert_eq!(left, [0, 1, 2, 3, 1000]);
        producers.keep_latest(0);
        assert_eq!(producers.len(), 1);
    }

    #[test]
    fn producers_expire_by_their_last_batch_whatever_was_looked_at_before() {
        let mut producers = Producers::default();
        for (n, now_ms) in [(1, 500), (2, 900), (1, 1000), (3, 700)] {
            producers.appended(&header(n, 0, 0, 1), 0, -1, now_ms);
        }
        let mut left = |before_ms| {
            producers.expire(before_ms);
            producers.iter().map(|(id, _)| id).collect::<Vec<i64>>()
        };
        assert_eq!(left(500), [1, 2, 3]);
        assert_eq!(left(701), [1, 2]);
        assert_eq!(left(900), [1, 2]);
        assert_eq!(left(901), [1]);
        assert_eq!(left(1001), []);
        producers.restore(7, ProducerState { last_append_ms: 5, ..state() });
        producers.expire(6);
        assert!(producers.is_empty());
    }

    fn state() -> ProducerState {
        ProducerState {
            epoch: 0,
            batches: LastBatches::default(),
            last_append_ms: 0,
            txn_first_offset: None,
            coordinator_epoch: -1,
        }
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(Producers::default().check(&header(9, 0, 77, 1)), Verdict::Append);
    }
}
