//! Owns what is left to do for transactions after recovery.
//!
//! With metadata in the log nothing is: a transaction ends whole or not at all. `--file-metadata` writes the state of the
//! id before the group that has the markers, and takes pending offsets away after it; so a crash may leave a transaction
//! that is decided and not carried out. Its outcome is in the state of the id; here it is carried out. What no id knows of
//! is aborted.

use std::collections::BTreeMap;

use super::end::{marker_cost, COORDINATOR_EPOCH};
use super::state::{Ended, Txn};
use crate::broker::{Broker, Now, Timer};
use crate::limits;
use crate::wal::PartitionId;
use crate::wire::control::EndMarker;

impl Broker {
    /// The recovery is over: timeouts begin to run, and transactions that were cut off in their end are ended.
    pub(in crate::broker) fn recover_txns(&mut self, now: Now) {
        self.txns.recovered(now);
        for txn in self.txns.by_id.values() {
            self.producer_ids.is_taken(txn.producer_id.max(txn.previous_producer_id));
        }
        self.settings.metrics.transactions_open.set(self.txns.ongoing as i64);
        self.finish_txns(now);
    }

    /// Ends what is open in partitions and groups, and at an end for its transactional id. What the disk has no room for
    /// is tried again.
    pub(in crate::broker) fn finish_txns(&mut self, now: Now) {
        let outcomes = Outcomes::of(self.txns.by_id.values());
        let mut hanging: Vec<(PartitionId, Ended)> = Vec::new();
        for log in self.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| &partition.log) {
            for (producer_id, state) in log.producers.iter().filter(|(_, state)| state.txn_first_offset.is_some()) {
                if let Some(ended) = outcomes.of_partition(producer_id, state.epoch) {
                    hanging.push((log.id, ended));
                }
            }
        }
        let pending = self.groups.pending_txns();
        let pending: Vec<_> = pending
            .filter_map(|(group, producer_id)| Some((group, producer_id, outcomes.of_offsets(producer_id)?)))
            .collect();
        let count = hanging.len() + pending.len();
        for (id, ended) in hanging {
            if !self.has_space_for_txn(marker_cost()) {
                self.met_full_disk(now);
                return self.set_timer(now.mono_us + limits::SPACE_PROBE_US, Timer::Txns);
            }
            let Ended { producer_id, epoch: producer_epoch, committed } = ended;
            let marker = EndMarker { producer_id, producer_epoch, coordinator_epoch: COORDINATOR_EPOCH, committed };
            if let Err(error) = self.append_marker(now, id, &marker) {
                ::log::error!("cannot end the transaction of producer {producer_id}: {error}");
            }
        }
        for (group, producer_id, committed) in pending {
            let bytes = self.groups.pending_bytes(&group, producer_id);
            if !self.has_space_for_txn(bytes) {
                self.met_full_disk(now);
                return self.set_timer(now.mono_us + limits::SPACE_PROBE_US, Timer::Txns);
            }
            self.gather.reserve(bytes);
            self.end_offsets(now, &group, producer_id, committed);
        }
        if count > 0 {
            ::log::info!("{count} parts of transactions were cut off in their end, and are ended now");
        }
    }
}

/// What the transactional ids say of each producer.
#[derive(Default)]
struct Outcomes {
    /// The epoch of the transaction that is under way.
    ongoing: BTreeMap<i64, i16>,
    ended: BTreeMap<i64, Ended>,
}

impl Outcomes {
    fn of<'a>(txns: impl Iterator<Item = &'a Txn>) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for txn in txns {
            if txn.is_ongoing() {
                outcomes.ongoing.insert(txn.producer_id, txn.epoch);
            }
            if let Some(ended) = txn.ended {
                outcomes.ended.insert(ended.producer_id, ended);
            }
        }
        outcomes
    }

    /// How a transaction that is open in a partition in this epoch has ended; `None` while it is under way.
    fn of_partition(&self, producer_id: i64, epoch: i16) -> Option<Ended> {
        if self.ongoing.get(&producer_id) == Some(&epoch) {
            return None;
        }
        let known = self.ended.get(&producer_id).filter(|ended| ended.epoch >= epoch).copied();
        Some(known.unwrap_or(Ended { producer_id, epoch, committed: false }))
    }

    /// Whether offsets that are pending were committed; `None` while their transaction is under way.
    fn of_offsets(&self, producer_id: i64) -> Option<bool> {
        match self.ongoing.contains_key(&producer_id) {
            true => None,
            false => Some(self.ended.get(&producer_id).is_some_and(|ended| ended.committed)),
        }
    }
}
