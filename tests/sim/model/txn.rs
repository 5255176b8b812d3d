//! Owns what the model expects of transactions: each ends once, whole, as its producer asked or aborted; zombies write
//! nothing; readers of committed records are told exactly what was aborted, and never wait behind what has ended.

use std::collections::{BTreeMap, BTreeSet};

use chronik::wal::{GroupSeq, PartitionId};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, TxnOffsetCommitRequest,
};

use super::super::batch::{Batch, Marker};
use super::super::proto::{Answer, Ask};
use super::{hold, Call, Log, Model, Verdict, COORDINATOR_NOT_AVAILABLE, KAFKA_STORAGE_ERROR, NONE};

const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTION_ABORTABLE: i16 = 120;

/// What a producer is told that has lost its transactional id, or its transaction.
pub const LOST: [i16; 6] = [
    INVALID_PRODUCER_EPOCH,
    INVALID_TXN_STATE,
    INVALID_PRODUCER_ID_MAPPING,
    OUT_OF_ORDER_SEQUENCE,
    PRODUCER_FENCED,
    TRANSACTION_ABORTABLE,
];

/// What a producer is told while the disk is full.
pub const FULL: [i16; 3] = [COORDINATOR_NOT_AVAILABLE, KAFKA_STORAGE_ERROR, NOT_ENOUGH_REPLICAS];

/// A request to end a transaction.
#[derive(Clone, Debug)]
struct Asked {
    producer: i64,
    epoch: i16,
    committed: bool,
    order: u64,
}

/// The end of a transaction, as its markers tell it.
#[derive(Clone, Debug)]
struct End {
    producer: i64,
    /// Of the transaction's batches.
    epoch: i16,
    committed: bool,
    seq: GroupSeq,
    /// How many requests had been handed in when it was planned.
    order: u64,
}

/// Where a transaction commits an offset: group, topic, partition.
type Place = (String, String, i32);

/// The offset and its metadata.
type Value = (i64, String);

/// An offset of an open transaction, and whether the client was told that it is part of it.
type Pending = (Place, Value, bool);

/// All transactions.
#[derive(Clone, Debug, Default)]
pub struct Txns {
    /// For each producer, the partitions with an open transaction and its epoch: as far as groups were planned.
    open: BTreeMap<i64, BTreeMap<PartitionId, i16>>,
    ends: Vec<End>,
    asked: Vec<Asked>,
    /// Whose predecessors are fenced: the epoch that was given out last, by an answer that has left.
    given: BTreeMap<i64, i16>,
    /// With metadata in files, an end that recovery is carrying out partition by partition.
    carried_out: BTreeMap<i64, bool>,
    /// Offsets that transactions have committed and not ended yet, by producer and epoch; and whether that was answered.
    offsets: BTreeMap<(i64, i16), Vec<Pending>>,
    /// Transactions that were committed and acknowledged; so that a run in which none is does not count.
    pub commits: u64,
}

impl Txns {
    /// Recovery found the log to end with group `last`; `logs` have been cut.
    pub fn cut<'a>(&mut self, last: GroupSeq, logs: impl Iterator<Item = (&'a PartitionId, &'a Log)>) {
        self.ends.retain(|end| end.seq <= last);
        self.open.clear();
        self.carried_out.clear();
        for (id, log) in logs {
            for (producer, epoch) in log.open_txns() {
                self.open.entry(producer).or_default().insert(*id, epoch);
            }
        }
    }

    /// A data batch gets its place.
    pub fn data(&mut self, id: PartitionId, batch: &Batch) -> Verdict {
        let Some(sequence) = batch.sequence.filter(|_| batch.transactional) else { return Ok(()) };
        let (producer, epoch) = (sequence.producer, sequence.epoch);
        let given = self.given.get(&producer).copied().unwrap_or(epoch);
        hold!(epoch >= given, "producer {producer} writes in epoch {epoch}, but {given} was given to its successor");
        self.open.entry(producer).or_default().entry(id).or_insert(epoch);
        Ok(())
    }

    /// The markers of one group of the log.
    pub fn markers(&mut self, seq: GroupSeq, order: u64, markers: &[(PartitionId, Marker)], files: bool) -> Verdict {
        let producers: BTreeSet<i64> = markers.iter().map(|(_, marker)| marker.producer).collect();
        for producer in producers {
            let of_producer = || markers.iter().filter(|(_, marker)| marker.producer == producer);
            let mut open = self.open.remove(&producer).unwrap_or_default();
            let outcomes: BTreeSet<bool> = of_producer().map(|(_, marker)| marker.committed).collect();
            hold!(outcomes.len() == 1, "group {seq}: producer {producer} both commits and aborts");
            let committed = outcomes.contains(&true);
            let mut epochs = BTreeSet::new();
            for (id, marker) in of_producer() {
                if let Some(epoch) = open.remove(id) {
                    let next = epoch.saturating_add(1);
                    let right = marker.epoch == epoch || marker.epoch == next;
                    hold!(right, "a marker of epoch {} ends a transaction of epoch {epoch}", marker.epoch);
                    epochs.insert(epoch);
                }
            }
            hold!(epochs.len() <= 1, "group {seq}: producer {producer} ends epochs {epochs:?} at once");
            if let Some(before) = self.carried_out.get(&producer) {
                hold!(*before == committed, "producer {producer}: half committed, half aborted");
            }
            hold!(
                open.is_empty() || files,
                "group {seq}: the transaction of producer {producer} ends, but not in {:?}",
                open.keys()
            );
            if open.is_empty() {
                self.carried_out.remove(&producer);
            } else {
                self.carried_out.insert(producer, committed);
                self.open.insert(producer, open);
            }
            let Some(epoch) = epochs.first().copied() else { continue };
            let last_end = self.ends.iter().rev().find(|end| end.producer == producer).map_or(0, |end| end.order);
            let is_asked = |asked: &Asked| {
                (asked.producer, asked.epoch, asked.committed) == (producer, epoch, true) && asked.order > last_end
            };
            let wanted = self.asked.iter().any(is_asked) || self.carried_out.contains_key(&producer);
            hold!(!committed || wanted || files, "producer {producer} committed epoch {epoch} without being asked");
            self.ends.push(End { producer, epoch, committed, seq, order });
        }
        Ok(())
    }

    fn asked_to_end(&mut self, call: &Call, request: &EndTxnRequest) {
        self.asked.push(Asked {
            producer: request.producer_id.0,
            epoch: request.producer_epoch,
            committed: request.committed,
            order: call.order,
        });
    }

    /// How the transaction that a request names has ended, by its markers: outcome and group.
    fn end_of(&self, request: &EndTxnRequest) -> Option<(bool, GroupSeq)> {
        let of_request = |end: &&End| end.producer == request.producer_id.0 && end.epoch == request.producer_epoch;
        self.ends.iter().rev().find(of_request).map(|end| (end.committed, end.seq))
    }
}

impl Model {
    pub(super) fn txn_handed_in(&mut self, call: &Call) {
        match &call.ask {
            Ask::EndTxn(request) => {
                self.txns.asked_to_end(call, request);
                if request.committed {
                    let key = (request.producer_id.0, request.producer_epoch);
                    let offsets = self.txns.offsets.get(&key).cloned().unwrap_or_default();
                    for (place, value, acked) in offsets {
                        self.groups.set_offset(call, place, Some(value), acked);
                    }
                }
            }
            Ask::TxnOffsetCommit(request) => {
                let key = (request.producer_id.0, request.producer_epoch);
                let asked = offsets_of(request).into_iter().map(|(place, value)| (place, value, false));
                self.txns.offsets.entry(key).or_default().extend(asked);
            }
            _ => {}
        }
    }

    pub(super) fn check_txn(&mut self, call: &Call, answer: &Answer) -> Verdict {
        match (&call.ask, answer) {
            (Ask::AddPartitionsToTxn(_), Answer::AddPartitionsToTxn(response)) => {
                let old = response.results_by_topic_v3_and_below.iter();
                let new = response.results_by_transaction.iter().flat_map(|txn| &txn.topic_results);
                for part in old.chain(new).flat_map(|topic| &topic.results_by_partition) {
                    self.may_refuse("AddPartitionsToTxn", part.partition_error_code)?;
                }
                Ok(())
            }
            (Ask::AddOffsetsToTxn(_), Answer::AddOffsetsToTxn(response)) => {
                self.may_refuse("AddOffsetsToTxn", response.error_code)
            }
            (Ask::TxnOffsetCommit(request), Answer::TxnOffsetCommit(response)) => {
                for part in response.topics.iter().flat_map(|topic| &topic.partitions) {
                    self.may_refuse("TxnOffsetCommit", part.error_code)?;
                    let asked = offsets_of(request);
                    let is_asked = |place: &_, value: &_| asked.iter().any(|(p, v)| (p, v) == (place, value));
                    let key = (request.producer_id.0, request.producer_epoch);
                    let kept = self.txns.offsets.entry(key).or_default();
                    match part.error_code {
                        NONE => kept.iter_mut().for_each(|(place, value, acked)| *acked |= is_asked(place, value)),
                        _ => kept.retain(|(place, value, _)| !is_asked(place, value)),
                    }
                }
                Ok(())
            }
            (Ask::EndTxn(request), Answer::EndTxn(response)) => self.check_end(call, request, response),
            (Ask::InitProducerId(request), Answer::InitProducerId(response)) => self.check_init(request, response),
            (ask, answer) => Err(format!("{answer:?} answers {ask:?}")),
        }
    }

    pub(super) fn may_refuse(&self, what: &str, code: i16) -> Verdict {
        let full = FULL.contains(&code) && self.excuses.disk_full;
        hold!(code == NONE || LOST.contains(&code) || full, "{what} refused with {code}");
        Ok(())
    }

    fn check_init(&mut self, request: &InitProducerIdRequest, response: &InitProducerIdResponse) -> Verdict {
        let (id, epoch) = (response.producer_id.0, response.producer_epoch);
        if response.error_code != NONE {
            let full = response.error_code == COORDINATOR_NOT_AVAILABLE && self.excuses.disk_full;
            hold!(full, "InitProducerId refused with {}", response.error_code);
            return Ok(());
        }
        if request.transactional_id.is_none() {
            hold!(self.producers.insert(id), "producer id {id} was given twice");
            return Ok(());
        }
        let before = self.txns.given.get(&id).copied();
        hold!(before.is_some() || self.producers.insert(id), "producer id {id} was given twice");
        hold!(before != Some(epoch), "producer {id} was given epoch {epoch} twice");
        self.txns.given.insert(id, before.unwrap_or(epoch).max(epoch));
        // Whoever had the id before: nothing of it is open any more.
        let open = self.txns.open.get(&id).into_iter().flatten().find(|(_, open)| **open < epoch);
        hold!(open.is_none(), "producer {id} was given epoch {epoch}, but {open:?} is still open");
        Ok(())
    }

    fn check_end(&mut self, call: &Call, request: &EndTxnRequest, response: &EndTxnResponse) -> Verdict {
        let now = self.orders;
        let producer = request.producer_id.0;
        let key = (producer, request.producer_epoch);
        if response.error_code != NONE {
            self.groups.offset_refused(call);
            return self.may_refuse("EndTxn", response.error_code);
        }
        let still_open = self.txns.open.get(&producer).into_iter().flatten();
        let still_open: Vec<_> = still_open.filter(|(_, epoch)| **epoch == request.producer_epoch).collect();
        hold!(still_open.is_empty(), "producer {producer} was told of an end, but {still_open:?}");
        if let Some((committed, seq)) = self.txns.end_of(request) {
            hold!(
                committed == request.committed,
                "producer {producer} was told that it {}, but it did not",
                if request.committed { "committed" } else { "aborted" }
            );
            self.acknowledged(seq)?;
        }
        if request.committed {
            self.txns.commits += 1;
            if self.txns.offsets.remove(&key).is_some() {
                self.groups.offset_acked(call, now);
            }
        } else {
            self.txns.offsets.remove(&key);
        }
        if call.version >= 5 {
            let given = (response.producer_id.0, response.producer_epoch);
            hold!(given == (producer, request.producer_epoch + 1), "EndTxn gave {given:?} after {key:?}");
            let known = self.txns.given.entry(producer).or_insert(given.1);
            *known = given.1.max(*known);
        }
        Ok(())
    }
}

fn offsets_of(request: &TxnOffsetCommitRequest) -> Vec<(Place, Value)> {
    let mut offsets = Vec::new();
    for topic in &request.topics {
        for part in &topic.partitions {
            let metadata = part.committed_metadata.as_ref().map_or(String::new(), |m| m.to_string());
            let place = (request.group_id.to_string(), topic.name.to_string(), part.partition_index);
            offsets.push((place, (part.committed_offset, metadata)));
        }
    }
    offsets
}

/// Transactions of one partition.
impl Log {
    /// Producers whose transaction is open, with its epoch.
    pub fn open_txns(&self) -> BTreeMap<i64, i16> {
        let mut open = BTreeMap::new();
        for placed in self.up_to(GroupSeq::MAX) {
            if let Some(marker) = placed.batch.marker {
                open.remove(&marker.producer);
            } else if let Some(sequence) = placed.batch.sequence.filter(|_| placed.batch.transactional) {
                open.entry(sequence.producer).or_insert(sequence.epoch);
            }
        }
        open
    }

    /// The last stable offset if the log consists of the groups up to `seq`, the log start not counted.
    pub fn stable_at(&self, seq: GroupSeq) -> i64 {
        let mut open: BTreeMap<i64, i64> = BTreeMap::new();
        for placed in self.up_to(seq) {
            if let Some(marker) = placed.batch.marker {
                open.remove(&marker.producer);
            } else if let Some(sequence) = placed.batch.sequence.filter(|_| placed.batch.transactional) {
                open.entry(sequence.producer).or_insert(placed.batch.base_offset);
            }
        }
        open.values().copied().min().unwrap_or_else(|| self.end_at(seq))
    }

    /// Whether the transaction of the batch at an offset was committed, and in which group of the log that stands.
    pub fn outcome(&self, batch: &Batch) -> Option<(bool, GroupSeq)> {
        let producer = batch.sequence?.producer;
        let markers = self.up_to(GroupSeq::MAX).iter().filter(|placed| placed.batch.base_offset > batch.last_offset);
        markers
            .filter_map(|placed| Some((placed.batch.marker?, placed.seq)))
            .find_map(|(marker, seq)| (marker.producer == producer).then_some((marker.committed, seq)))
    }
}

/// Does what a consumer of committed records does with an answer, and holds it against what is right.
pub fn check_committed(log: &Log, batches: &[Batch], part: &PartitionData, durable: GroupSeq) -> Verdict {
    let mut coming: Vec<(i64, i64)> = Vec::new();
    for txn in part.aborted_transactions.iter().flatten() {
        coming.push((txn.first_offset, txn.producer_id.0));
    }
    coming.sort_unstable();
    let mut coming = coming.into_iter().peekable();
    let mut aborting = BTreeSet::new();
    for batch in batches {
        while let Some((_, producer)) = coming.next_if(|(first, _)| *first <= batch.last_offset) {
            aborting.insert(producer);
        }
        let (base, stable) = (batch.base_offset, part.last_stable_offset);
        hold!(batch.last_offset < stable, "batch {} at {base}, behind the last stable offset {stable}", batch.tag);
        if let Some(marker) = batch.marker {
            if !marker.committed {
                aborting.remove(&marker.producer);
            }
            continue;
        }
        // Of one that compaction has emptied there is nothing to be shown.
        let is_empty = batch.timestamps.is_empty();
        let Some(sequence) = batch.sequence.filter(|_| batch.transactional && !is_empty) else { continue };
        let hidden = aborting.contains(&sequence.producer);
        let Some((committed, seq)) = log.outcome(batch) else {
            return Err(format!("batch {} at {base} is shown, and its transaction is open", batch.tag));
        };
        hold!(seq <= durable, "batch {} is shown before the end of its transaction is durable", batch.tag);
        hold!(committed != hidden, "batch {} at {base}: committed {committed}, passed over {hidden}", batch.tag);
    }
    Ok(())
}
