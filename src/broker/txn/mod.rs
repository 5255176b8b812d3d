//! Owns the transaction coordinator: transactional ids, their producers and their transactions (KIP-98, KIP-890).
//!
//! - `state.rs` has the state of one transactional id and Kafka's rules, `persist.rs` its bytes in the log.
//! - `partition.rs` is what a partition knows of transactions: it gives the last stable offset and what was aborted.
//! - `init.rs` gives out producer ids, `api.rs` answers what producers ask, `produce.rs` admits their batches, `offsets.rs`
//!   takes a group's offsets into a transaction, `end.rs` ends transactions, `describe.rs` tells administrators.
//!
//! A transaction ends in *one group* of the log: the state of its id, the offsets of its groups, and a marker in each of
//! its partitions become durable together or not at all. `recovery.rs` finishes what `--file-metadata` may leave half
//! done. Batches are added to a transaction before they are appended, so every open transaction of a partition is one
//! that the coordinator knows, and that its timer ends.

mod api;
mod describe;
mod end;
mod init;
mod offsets;
pub mod partition;
mod persist;
mod produce;
mod recovery;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Broker, Now};
use crate::config::Config;
use crate::limits;
use crate::wal::MetaEntry;

pub use init::ProducerIds;
use state::Txn;

/// A transactional id.
type Name = Arc<str>;

/// All transactional ids of this broker.
#[derive(Debug)]
pub struct Txns {
    by_id: BTreeMap<Name, Txn>,
    /// When each transaction is aborted, or its idle id forgotten: monotonic µs. Every id stands here once.
    deadlines: BTreeSet<(u64, Name)>,
    /// `transactional.id.expiration.ms`.
    expiration_ms: i64,
    /// `transaction.max.timeout.ms`.
    timeout_max_ms: i64,
    /// Sum of the bytes of all ids.
    bytes: usize,
    /// Transactions that are under way.
    ongoing: usize,
    /// ListTransactions requests whose pattern a worker looks up, by the number of the job.
    listings: BTreeMap<u64, describe::Listing>,
}

impl Txns {
    pub fn new(config: &Config) -> Txns {
        Txns {
            by_id: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            expiration_ms: config.transactional_id_expiration_ms,
            timeout_max_ms: config.transaction_max_timeout_ms,
            bytes: 0,
            ongoing: 0,
            listings: BTreeMap::new(),
        }
    }

    /// Takes over an entry of the table TXN. The error says what cannot be read.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        let (id, txn) = persist::read(entry)?;
        self.put(&id, txn);
        Ok(())
    }

    /// The entries that make this state.
    pub fn snapshot(&self, out: &mut Vec<MetaEntry>) {
        out.extend(self.by_id.iter().map(|(id, txn)| persist::entry(id, Some(txn))));
    }

    /// Transactions that are under way.
    pub fn ongoing(&self) -> usize {
        self.ongoing
    }

    /// When a transaction has to be aborted or an id forgotten, monotonic µs.
    pub fn deadline_us(&self) -> Option<u64> {
        self.deadlines.first().map(|(at_us, _)| *at_us)
    }

    /// The recovery is over: what was left of each timeout begins to run. By the wall clock, which may have jumped, but
    /// never more than the whole timeout.
    fn recovered(&mut self, now: Now) {
        let ids: Vec<Name> = self.by_id.keys().cloned().collect();
        for id in ids {
            let Some(txn) = self.by_id.get(&id) else { continue };
            let (from_ms, wait_ms) = match txn.is_ongoing() {
                true => (txn.start_ms, i64::from(txn.timeout_ms)),
                false => (txn.update_ms, self.expiration_ms),
            };
            let passed_ms = now.wall_ms.saturating_sub(from_ms).clamp(0, wait_ms.max(0));
            self.set_deadline(&id, after_ms(now, wait_ms - passed_ms));
        }
    }

    /// Puts a changed state in, or forgets the id. The deadline stays as it was.
    fn put(&mut self, id: &Name, txn: Option<Txn>) {
        if let Some(before) = self.by_id.get(id) {
            self.bytes -= before.bytes() + id.len();
            self.ongoing -= usize::from(before.is_ongoing());
        }
        match txn {
            Some(txn) => {
                self.bytes += txn.bytes() + id.len();
                self.ongoing += usize::from(txn.is_ongoing());
                self.by_id.insert(id.clone(), txn);
            }
            None => {
                if let Some(at_us) = self.by_id.remove(id).and_then(|txn| txn.deadline_us) {
                    self.deadlines.remove(&(at_us, id.clone()));
                }
            }
        }
    }

    fn set_deadline(&mut self, id: &Name, at_us: u64) {
        let Some(txn) = self.by_id.get_mut(id) else { return };
        if let Some(before) = txn.deadline_us.replace(at_us) {
            self.deadlines.remove(&(before, id.clone()));
        }
        self.deadlines.insert((at_us, id.clone()));
    }

    /// Bytes of memory that all transactional ids take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether one more transactional id fits.
    fn has_room(&self) -> bool {
        self.by_id.len() < limits::TRANSACTIONAL_IDS_MAX && self.bytes < limits::TRANSACTIONAL_IDS_BYTES_MAX
    }
}

/// A moment so many milliseconds from now, monotonic µs.
fn after_ms(now: Now, wait_ms: i64) -> u64 {
    now.mono_us.saturating_add(u64::try_from(wait_ms).unwrap_or(0).saturating_mul(1000))
}

impl Broker {
    /// Carries out a change of a transactional id: it is appended, and the time until it is aborted or forgotten is set.
    fn store_txn(&mut self, now: Now, id: &Name, txn: Txn) {
        self.append_meta(persist::entry(id, Some(&txn)));
        self.keep_txn(now, id, txn);
    }

    /// The part of `store_txn` that is left when the entry has been appended: a transaction that is under way keeps the
    /// deadline that it began with.
    fn keep_txn(&mut self, now: Now, id: &Name, mut txn: Txn) {
        let before = self.txns.by_id.get(id);
        let goes_on = txn.is_ongoing() && before.is_some_and(Txn::is_ongoing);
        txn.deadline_us = before.and_then(|txn| txn.deadline_us);
        let wait_ms = if txn.is_ongoing() { i64::from(txn.timeout_ms) } else { self.txns.expiration_ms };
        self.txns.put(id, Some(txn));
        if !goes_on {
            self.txns.set_deadline(id, after_ms(now, wait_ms));
        }
        self.settings.metrics.transactions_open.set(self.txns.ongoing as i64);
    }

    /// Aborts the transactions whose time is up, and forgets ids that were idle for too long.
    pub(super) fn expire_txns(&mut self, now: Now) {
        for _ in 0..limits::TRANSACTIONAL_IDS_PER_TURN_MAX {
            let Some((_, id)) = self.txns.deadlines.first().filter(|(at_us, _)| *at_us <= now.mono_us).cloned() else {
                return;
            };
            let done = match self.txns.by_id.get(&id).map(Txn::is_ongoing) {
                Some(true) => self.abort_by_server(now, &id),
                Some(false) if self.has_space_for_metadata() => {
                    self.append_meta(persist::entry(&id, None));
                    self.txns.put(&id, None);
                    true
                }
                _ => false,
            };
            if !done {
                // The disk is full; the transaction is over only once that is written.
                self.met_full_disk(now);
                self.txns.set_deadline(&id, now.mono_us.saturating_add(limits::SPACE_PROBE_US));
            }
        }
    }

    /// Whether the log has room for a change of transactions of this many bytes.
    fn has_space_for_txn(&self, bytes: usize) -> bool {
        (self.unwritten_bytes() + limits::META_CHANGE_BYTES + bytes) as u64 <= self.space_bytes
    }
}
