//! Owns AddPartitionsToTxn and AddOffsetsToTxn, and what Produce and TxnOffsetCommit share with them: making something a
//! part of a transaction, or finding that it is.

use std::collections::BTreeMap;

use super::end::marker_cost;
use super::state::{ProducerIdentity, Txn};
use super::{persist, Name};
use crate::broker::dispatch::Request;
use crate::broker::gather::Gather;
use crate::broker::{Broker, Now};
use crate::limits;
use crate::wal::PartitionId;
use crate::wire::msg::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// First AddPartitionsToTxn version that brokers send, for several producers at once.
const BATCHED_VERSION: i16 = 4;
/// First version of AddPartitionsToTxn and AddOffsetsToTxn whose clients know PRODUCER_FENCED (KIP-588).
const PRODUCER_FENCED_VERSION: i16 = 2;

/// What becomes part of a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Partitions(&'a [PartitionId]),
    Group(&'a str),
}

impl Broker {
    pub(in crate::broker) fn add_partitions_to_txn(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: AddPartitionsToTxnRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let response = if req.to.version < BATCHED_VERSION {
            let producer =
                ProducerIdentity { id: request.v3_and_below_producer_id, epoch: request.v3_and_below_producer_epoch };
            let topics = &request.v3_and_below_topics;
            let results = self.add_topics(req, request.v3_and_below_transactional_id, producer, topics, false);
            AddPartitionsToTxnResponse { results_by_topic_v3_and_below: results, ..Default::default() }
        } else {
            let mut results = Vec::with_capacity(request.transactions.len());
            for txn in &request.transactions {
                let producer = ProducerIdentity { id: txn.producer_id, epoch: txn.producer_epoch };
                let topic_results = self.add_topics(req, txn.transactional_id, producer, &txn.topics, txn.verify_only);
                results.push(AddPartitionsToTxnResult { transactional_id: txn.transactional_id, topic_results });
            }
            AddPartitionsToTxnResponse { results_by_transaction: results, ..Default::default() }
        };
        self.reply(req.to, &response);
        Ok(())
    }

    /// Adds the partitions of one transaction, all or none: where one does not exist, the others are not tried.
    fn add_topics<'a>(
        &mut self,
        req: &Request<'_>,
        id: &str,
        producer: ProducerIdentity,
        topics: &[AddPartitionsToTxnTopic<'a>],
        verify_only: bool,
    ) -> Vec<AddPartitionsToTxnTopicResult<'a>> {
        let mut named: Vec<Option<PartitionId>> = Vec::new();
        for topic in topics {
            let topic_id = self.topics.id_of(topic.name);
            let partitions = topic.partitions.iter().map(|index| {
                let id = PartitionId { topic: topic_id?, partition: *index };
                self.topics.partition(id).map(|_| id)
            });
            named.extend(partitions);
        }
        let found: Vec<PartitionId> = named.iter().flatten().copied().collect();
        let result = if found.len() < named.len() {
            Err(ErrorCode::OPERATION_NOT_ATTEMPTED)
        } else if verify_only {
            self.verify_partitions(id, producer, &found)
        } else {
            let added = self.add_to_txn(req.now, id, producer, Part::Partitions(&found));
            added.map(|()| found.iter().map(|id| (*id, ErrorCode::NONE)).collect())
        };
        let old = req.to.version < PRODUCER_FENCED_VERSION;
        let error_of = |id: Option<PartitionId>| match (id, &result) {
            (None, _) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            (Some(_), Err(ErrorCode::PRODUCER_FENCED)) if old => ErrorCode::INVALID_PRODUCER_EPOCH,
            (Some(_), Err(error)) => *error,
            (Some(id), Ok(each)) => each.get(&id).copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
        };
        let mut named = named.into_iter();
        let results = topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().zip(named.by_ref()).map(|(index, id)| {
                let partition_error_code = error_of(id);
                self.settings.metrics.request_error(req.to.key, partition_error_code.0);
                AddPartitionsToTxnPartitionResult { partition_index: *index, partition_error_code }
            });
            AddPartitionsToTxnTopicResult { name: topic.name, results_by_partition: partitions.collect() }
        });
        results.collect()
    }

    pub(in crate::broker) fn add_offsets_to_txn(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: AddOffsetsToTxnRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let producer = ProducerIdentity { id: request.producer_id, epoch: request.producer_epoch };
        let added = self.add_to_txn(req.now, request.transactional_id, producer, Part::Group(request.group_id));
        let error_code = match added {
            Ok(()) => ErrorCode::NONE,
            Err(ErrorCode::PRODUCER_FENCED) if req.to.version < PRODUCER_FENCED_VERSION => {
                ErrorCode::INVALID_PRODUCER_EPOCH
            }
            Err(error) => error,
        };
        self.settings.metrics.request_error(req.to.key, error_code.0);
        self.reply(req.to, &AddOffsetsToTxnResponse { error_code, ..Default::default() });
        Ok(())
    }

    /// Makes something a part of the producer's transaction, which begins if none is under way.
    ///
    /// # Errors
    /// INVALID_REQUEST, INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED; POLICY_VIOLATION for what would make the transaction
    /// too large to be ended in one group of the log; COORDINATOR_NOT_AVAILABLE while the disk is full.
    pub(super) fn add_to_txn(
        &mut self,
        now: Now,
        id: &str,
        producer: ProducerIdentity,
        part: Part<'_>,
    ) -> Result<(), ErrorCode> {
        let (name, txn) = self.txn_of(id, producer)?;
        let (partitions, group) = match part {
            Part::Partitions(partitions) => (partitions, None),
            Part::Group(group) => (&[][..], Some(group)),
        };
        let (name, mut txn): (Name, Txn) = (name.clone(), txn.clone());
        if !txn.add(partitions, group, now.wall_ms) {
            return Ok(());
        }
        let crowded = |id: &PartitionId| {
            let txns = self.topics.partition(*id).map(|partition| &partition.log.txns);
            txns.is_some_and(|txns| txns.aborted().len() >= limits::ABORTED_TXNS_PER_PARTITION_MAX)
        };
        let long_group = group.is_some_and(|group| group.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX);
        let too_large = txn.partitions.len() > limits::TXN_PARTITIONS_MAX
            || self.end_bytes(id, &txn) > self.end_bytes_max()
            || partitions.iter().any(crowded);
        if long_group {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        if too_large {
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        let entry_bytes = Gather::meta_cost(&persist::entry(id, Some(&txn)));
        if !self.has_space_for_txn(entry_bytes + partitions.len() * marker_cost()) {
            self.met_full_disk(now);
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        self.store_txn(now, &name, txn);
        Ok(())
    }

    /// The transactional id that the producer holds.
    pub(super) fn txn_of(&self, id: &str, producer: ProducerIdentity) -> Result<(&Name, &Txn), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let (name, txn) = self.txns.by_id.get_key_value(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        txn.check_producer(producer)?;
        Ok((name, txn))
    }

    /// Which of the partitions are part of the producer's transaction; the others are TRANSACTION_ABORTABLE.
    ///
    /// # Errors
    /// As `txn_of`.
    pub(super) fn verify_partitions(
        &self,
        id: &str,
        producer: ProducerIdentity,
        partitions: &[PartitionId],
    ) -> Result<BTreeMap<PartitionId, ErrorCode>, ErrorCode> {
        let (_, txn) = self.txn_of(id, producer)?;
        let verdict = |partition: &PartitionId| match txn.is_ongoing() && txn.partitions.contains(partition) {
            true => ErrorCode::NONE,
            false => ErrorCode::TRANSACTION_ABORTABLE,
        };
        Ok(partitions.iter().map(|partition| (*partition, verdict(partition))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::recovery::{LogState, Recovering};
    use crate::broker::topics;
    use crate::broker::txn::partition::AbortedTxn;
    use crate::wal::checkpoint::Floor;
    use crate::wal::{LogPosition, SegmentId};
    use crate::wire::Uuid;

    const NOW: Now = Now { mono_us: 0, wall_ms: 2000 };

    /// A broker with one topic of two partitions, in the first of which so many transactions were aborted.
    fn broker(topic: Uuid, aborted: i64) -> Broker {
        let mut recovering = Recovering::new(crate::broker::recovery::tests::settings());
        recovering.meta(&topics::topic_entry(topic, "t", 2, &Default::default())).unwrap();
        let position = LogPosition { segment: SegmentId::FIRST, position: 0 };
        let state = LogState { next_seq: 1, position, space_bytes: 1 << 30, floor: Floor::default(), clean: true };
        let mut broker = recovering.finish(NOW, state).unwrap();
        let log = &mut broker.topics.partition_mut(PartitionId { topic, partition: 0 }).unwrap().log;
        for at in 0..aborted {
            let (first_offset, last_offset) = (2 * at, 2 * at + 1);
            let stable_offset = last_offset + 1;
            log.txns.restore_aborted(AbortedTxn { producer_id: 7, first_offset, last_offset, stable_offset });
        }
        broker
    }

    #[test]
    fn in_a_partition_with_too_many_aborted_transactions_none_begins_until_the_log_start_has_moved() {
        let topic = Uuid([7; 16]);
        let (crowded, free) = (PartitionId { topic, partition: 0 }, PartitionId { topic, partition: 1 });
        let mut broker = broker(topic, limits::ABORTED_TXNS_PER_PARTITION_MAX as i64);
        let producer = ProducerIdentity { id: 9, epoch: 0 };
        let txn = Txn { epoch: 0, ..Txn::new(producer.id, 60_000, NOW.wall_ms) };
        broker.store_txn(NOW, &"x".into(), txn);
        let add = |broker: &mut Broker, id| broker.add_to_txn(NOW, "x", producer, Part::Partitions(&[id]));
        assert_eq!(add(&mut broker, crowded), Err(ErrorCode::POLICY_VIOLATION));
        assert_eq!(add(&mut broker, free), Ok(()), "elsewhere it goes on");
        broker.topics.partition_mut(crowded).unwrap().log.txns.forget_below(2);
        assert_eq!(add(&mut broker, crowded), Ok(()));
    }
}
