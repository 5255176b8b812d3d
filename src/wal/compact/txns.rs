//! Owns what compaction knows of transactions while it walks over a partition: which batches were aborted, and which
//! markers have nothing left that they end.
//!
//! The rules are those of Kafka's CleanedTransactionMetadata (KIP-98): batches of aborted transactions go at once; a marker
//! stays as long as a batch of its transaction is there.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::batch::Batch;
use crate::wire::control::EndMarker;

/// A transaction that was aborted in the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    pub producer_id: i64,
    /// Offset of its first batch.
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
}

/// An aborted transaction that has begun and not ended where the walk is.
#[derive(Debug)]
struct Ongoing {
    last_offset: i64,
    /// Whether any of its batches was met.
    seen: bool,
}

/// A walk over all batches of a partition, in offset order.
#[derive(Debug)]
pub struct Walk<'a> {
    /// In the order of first offsets: those that the walk has not reached.
    ahead: &'a [AbortedTxn],
    aborted: BTreeMap<i64, Ongoing>,
    /// The smallest of their markers' offsets, so that not every batch asks them all.
    first_end: i64,
    /// Producers that have batches of a transaction which was not aborted, and whose marker was not met.
    committed: BTreeSet<i64>,
    /// Offsets of the markers of aborted transactions of which no batch was met.
    gone: Vec<i64>,
}

impl<'a> Walk<'a> {
    /// `aborted` are all aborted transactions that have a batch or a marker where the walk goes, in the order of their
    /// first offsets.
    pub fn new(aborted: &'a [AbortedTxn]) -> Walk<'a> {
        Walk {
            ahead: aborted,
            aborted: BTreeMap::new(),
            first_end: i64::MAX,
            committed: BTreeSet::new(),
            gone: Vec::new(),
        }
    }

    /// Meets the next batch. True when nothing of it is needed any more: its transaction was aborted, or it is the marker
    /// of a transaction of which no batch was met.
    pub fn meets(&mut self, batch: &Batch<'_>) -> bool {
        let header = &batch.header;
        self.reach(header.base_offset, header.last_offset());
        let producer_id = header.producer_id;
        if header.is_control() {
            return self.meets_control(batch);
        }
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&producer_id) {
            Some(txn) => {
                txn.seen = true;
                true
            }
            None => {
                self.committed.insert(producer_id);
                false
            }
        }
    }

    fn meets_control(&mut self, batch: &Batch<'_>) -> bool {
        let producer_id = batch.header.producer_id;
        match EndMarker::of(batch) {
            Some(marker) if marker.committed => !self.committed.remove(&producer_id),
            Some(_) => !self.end_aborted(producer_id),
            // A control record of a kind that is not known stays; a control batch that was emptied has nothing to say.
            None => batch.header.records_count == 0,
        }
    }

    /// Takes in the aborted transactions that have begun, and lets go of those whose marker was passed.
    fn reach(&mut self, base_offset: i64, last_offset: i64) {
        let (begun, ahead) = self.ahead.split_at(self.ahead.partition_point(|txn| txn.first_offset <= last_offset));
        self.ahead = ahead;
        for txn in begun {
            // Its marker may have been removed by an earlier cleaning, and so may tell nothing about what follows.
            if txn.last_offset < base_offset {
                self.gone.push(txn.last_offset);
                continue;
            }
            self.end_passed(txn.producer_id, base_offset);
            let ongoing = Ongoing { last_offset: txn.last_offset, seen: false };
            self.first_end = self.first_end.min(txn.last_offset);
            self.aborted.entry(txn.producer_id).or_insert(ongoing);
        }
        if self.first_end < base_offset {
            let passed: Vec<i64> =
                self.aborted.iter().filter(|(_, txn)| txn.last_offset < base_offset).map(|(id, _)| *id).collect();
            passed.into_iter().for_each(|producer_id| self.end_passed(producer_id, base_offset));
            self.first_end = self.aborted.values().map(|txn| txn.last_offset).min().unwrap_or(i64::MAX);
        }
    }

    fn end_passed(&mut self, producer_id: i64, base_offset: i64) {
        if self.aborted.get(&producer_id).is_some_and(|txn| txn.last_offset < base_offset) {
            self.end_aborted(producer_id);
        }
    }

    /// The producer's aborted transaction ends; whether a batch of it was met.
    fn end_aborted(&mut self, producer_id: i64) -> bool {
        match self.aborted.remove(&producer_id) {
            Some(txn) if txn.seen => true,
            Some(txn) => {
                self.gone.push(txn.last_offset);
                false
            }
            None => false,
        }
    }

    /// The markers' offsets of the aborted transactions that were over before `end`, where the walk ended, and of which no
    /// batch was met: readers need not be told of them, and must not be once the marker is gone. Ascending.
    pub fn finish(mut self, end: i64) -> Vec<i64> {
        // The marker of the last one may be gone already, with nothing behind it that would show that it was passed.
        self.reach(end, end - 1);
        self.gone.sort_unstable();
        self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::{BatchBuilder, BatchHeader};

    fn data(producer_id: i64, offset: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(offset).producer(producer_id, 0, 0).transactional();
        builder.push(1000, Some(b"k"), Some(b"v"), &[]);
        builder.build().unwrap()
    }

    fn marker(producer_id: i64, offset: i64, committed: bool) -> Vec<u8> {
        let marker = EndMarker { producer_id, producer_epoch: 0, coordinator_epoch: 0, committed };
        let mut bytes = marker.batch(1000).unwrap();
        crate::wire::batch::set_base_offset(&mut bytes, offset);
        bytes
    }

    fn meets(walk: &mut Walk<'_>, bytes: &[u8]) -> bool {
        walk.meets(&Batch::parse(bytes).unwrap())
    }

    fn aborted(producer_id: i64, first_offset: i64, last_offset: i64) -> AbortedTxn {
        AbortedTxn { producer_id, first_offset, last_offset }
    }

    #[test]
    fn aborted_batches_go_and_committed_ones_stay() {
        let txns = [aborted(7, 10, 13)];
        let mut walk = Walk::new(&txns);
        assert!(!meets(&mut walk, &data(7, 5)), "an earlier transaction of the producer, committed");
        assert!(!meets(&mut walk, &marker(7, 6, true)));
        assert!(meets(&mut walk, &data(7, 10)));
        assert!(!meets(&mut walk, &data(8, 11)));
        assert!(meets(&mut walk, &data(7, 12)));
        assert!(!meets(&mut walk, &marker(7, 13, false)), "its batches were still there");
        assert!(!meets(&mut walk, &marker(8, 14, true)));
        assert!(!meets(&mut walk, &data(7, 15)));
        assert_eq!(walk.finish(16), Vec::<i64>::new());
    }

    #[test]
    fn a_marker_without_batches_is_of_no_use() {
        let txns = [aborted(7, 10, 13)];
        let mut walk = Walk::new(&txns);
        assert!(meets(&mut walk, &marker(8, 12, true)));
        assert!(meets(&mut walk, &marker(7, 13, false)));
        assert_eq!(walk.finish(14), [13]);
    }

    #[test]
    fn an_aborted_transaction_whose_marker_is_gone_says_nothing_about_what_follows() {
        let txns = [aborted(7, 10, 13), aborted(7, 20, 23), aborted(9, 21, 50)];
        let mut walk = Walk::new(&txns);
        assert!(!meets(&mut walk, &data(7, 15)));
        assert!(!meets(&mut walk, &marker(7, 16, true)));
        // The second is open while the walk passes, although nothing of it is left.
        assert!(!meets(&mut walk, &data(8, 22)));
        assert!(!meets(&mut walk, &data(7, 30)));
        assert_eq!(walk.finish(31), [13, 23]);
    }

    #[test]
    fn an_aborted_transaction_of_which_nothing_is_left_at_the_end_is_forgotten() {
        let txns = [aborted(7, 10, 13), aborted(8, 12, 40)];
        let mut walk = Walk::new(&txns);
        assert!(!meets(&mut walk, &data(9, 11)));
        assert_eq!(walk.finish(20), [13], "the other one goes on behind the end");
    }

    #[test]
    fn control_records_of_another_kind_stay_and_emptied_ones_go() {
        let mut other = BatchBuilder::new().base_offset(3).control();
        other.push(1, Some(&[0, 0, 0, 2]), Some(&[0; 6]), &[]);
        let other = other.build().unwrap();
        let mut empty = Vec::new();
        crate::wire::batch::write_empty(&BatchHeader::parse(&marker(7, 4, true)).unwrap(), &mut empty);
        let mut walk = Walk::new(&[]);
        assert!(!meets(&mut walk, &other));
        assert!(meets(&mut walk, &empty));
    }
}
