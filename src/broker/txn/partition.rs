//! Owns what one partition knows of transactions: which are open, which were aborted, and how far a reader of committed
//! records may look.
//!
//! It is a fold over the partition's batches, in offset order: transactional batches begin transactions, markers end
//! them. Recovery folds the same batches again, after what the checkpoint held.

use std::collections::{BTreeMap, VecDeque};

/// A transaction that was aborted here: readers of committed records pass over its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    pub producer_id: i64,
    /// Offset of its first batch.
    pub first_offset: i64,
    /// Offset of the marker.
    pub last_offset: i64,
    /// No transaction that ended later began below this offset; so a search may stop here.
    pub stable_offset: i64,
}

/// The transactions of one partition. Empty ones allocate nothing.
#[derive(Clone, Debug, Default)]
pub struct PartitionTxns {
    /// By first offset: transactions whose end is not durable. The offset of the marker once one is appended.
    open: BTreeMap<i64, Option<i64>>,
    /// In the order of their markers.
    aborted: VecDeque<AbortedTxn>,
}

impl PartitionTxns {
    /// A transaction's first batch was appended at this offset.
    pub fn begin(&mut self, first_offset: i64) {
        self.open.insert(first_offset, None);
    }

    /// The transaction that began at `first_offset` got its marker at `offset`.
    pub fn end(&mut self, producer_id: i64, first_offset: i64, offset: i64, committed: bool) {
        let Some(end) = self.open.get_mut(&first_offset) else { return };
        *end = Some(offset);
        if !committed {
            let undecided = self.open.iter().find(|(_, end)| end.is_none()).map(|(first, _)| *first);
            let stable_offset = undecided.unwrap_or(offset + 1);
            self.aborted.push_back(AbortedTxn { producer_id, first_offset, last_offset: offset, stable_offset });
        }
    }

    /// Everything below this offset is durable.
    pub fn durable(&mut self, high_watermark: i64) {
        if !self.open.is_empty() {
            self.open.retain(|_, end| end.is_none_or(|end| end >= high_watermark));
        }
    }

    /// Offset of the first batch whose transaction has not durably ended; `None` when there is none.
    pub fn first_unstable(&self) -> Option<i64> {
        self.open.keys().next().copied()
    }

    /// Number of transactions without a marker.
    pub fn open_count(&self) -> usize {
        self.open.values().filter(|end| end.is_none()).count()
    }

    /// Aborted transactions that have batches in `from..to`, in the order of their markers.
    pub fn aborted_in(&self, from: i64, to: i64) -> impl Iterator<Item = &AbortedTxn> {
        let first = self.aborted.partition_point(|txn| txn.last_offset < from);
        let mut stop = false;
        self.aborted
            .range(first..)
            .take_while(move |txn| !std::mem::replace(&mut stop, txn.stable_offset >= to))
            .filter(move |txn| txn.first_offset < to)
    }

    /// All aborted transactions, in the order of their markers.
    pub fn aborted(&self) -> impl ExactSizeIterator<Item = &AbortedTxn> {
        self.aborted.iter()
    }

    /// The log begins here now: what ended before it is of no use to anybody.
    pub fn forget_below(&mut self, start_offset: i64) {
        while self.aborted.front().is_some_and(|txn| txn.last_offset < start_offset) {
            self.aborted.pop_front();
        }
    }

    /// Forgets aborted transactions of which nothing is left, by the offsets of their markers, ascending.
    pub fn forget_aborted(&mut self, markers: &[i64]) {
        if !markers.is_empty() {
            self.aborted.retain(|txn| markers.binary_search(&txn.last_offset).is_err());
        }
    }

    /// Puts back an aborted transaction from a checkpoint, in the order in which it gave them.
    pub fn restore_aborted(&mut self, txn: AbortedTxn) {
        self.aborted.push_back(txn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_open_until_its_marker_is_durable() {
        let mut txns = PartitionTxns::default();
        txns.begin(10);
        txns.begin(20);
        assert_eq!((txns.first_unstable(), txns.open_count()), (Some(10), 2));
        txns.end(1, 10, 30, true);
        txns.durable(30);
        assert_eq!((txns.first_unstable(), txns.open_count()), (Some(10), 1));
        txns.durable(31);
        assert_eq!(txns.first_unstable(), Some(20));
        txns.end(2, 20, 31, false);
        txns.durable(32);
        assert_eq!((txns.first_unstable(), txns.open_count()), (None, 0));
    }

    #[test]
    fn aborted_transactions_are_found_by_the_range_that_they_touch() {
        let mut txns = PartitionTxns::default();
        txns.begin(0);
        txns.begin(5);
        txns.end(2, 5, 9, false);
        txns.end(1, 0, 20, false);
        txns.begin(30);
        txns.end(1, 30, 39, false);
        let ids = |from, to| txns.aborted_in(from, to).map(|txn| txn.last_offset).collect::<Vec<_>>();
        assert_eq!(ids(0, 5), [20]);
        assert_eq!(ids(0, 6), [9, 20]);
        assert_eq!(ids(10, 40), [20, 39]);
        assert_eq!(ids(10, 30), [20]);
        assert_eq!(ids(21, 30), [] as [i64; 0]);
        assert_eq!(ids(40, 50), [] as [i64; 0]);
        txns.forget_below(21);
        assert_eq!(txns.aborted().count(), 1);
    }

    #[test]
    fn a_committed_transaction_is_not_remembered() {
        let mut txns = PartitionTxns::default();
        txns.begin(0);
        txns.end(1, 0, 3, true);
        txns.durable(4);
        assert_eq!(txns.aborted().count(), 0);
    }
}
