//! Owns what administrators ask about transactions: DescribeTransactions, ListTransactions, DescribeProducers (KIP-664).

use std::collections::BTreeMap;

use super::state::{Txn, STATE_NAMES};
use crate::broker::dispatch::Request;
use crate::broker::{Broker, Now};
use crate::wal::PartitionId;
use crate::wire::msg::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    DescribeTransactionsTopicData, DescribeTransactionsTransactionState, ListTransactionsRequest,
    ListTransactionsResponse, ListTransactionsTransactionState, PartitionResponse, ProducerState, TopicResponse,
};
use crate::wire::{self, DecodeError, ErrorCode};

impl Broker {
    pub(in crate::broker) fn describe_transactions(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeTransactionsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let states = request.transactional_ids.iter().map(|id| {
            let unknown = DescribeTransactionsTransactionState { transactional_id: id, ..Default::default() };
            match self.txns.by_id.get(*id) {
                _ if id.is_empty() => {
                    DescribeTransactionsTransactionState { error_code: ErrorCode::INVALID_REQUEST, ..unknown }
                }
                None => DescribeTransactionsTransactionState {
                    error_code: ErrorCode::TRANSACTIONAL_ID_NOT_FOUND,
                    ..unknown
                },
                Some(txn) => DescribeTransactionsTransactionState {
                    transaction_state: txn.state.name(),
                    transaction_timeout_ms: txn.timeout_ms,
                    transaction_start_time_ms: txn.start_ms,
                    producer_id: txn.producer_id,
                    producer_epoch: txn.epoch,
                    topics: self.topics_of(txn),
                    ..unknown
                },
            }
        });
        let response = DescribeTransactionsResponse { transaction_states: states.collect(), ..Default::default() };
        let (gather, key) = (self.gather.meta_seq(), req.to);
        let encoded = wire::frame::response(key.version, key.correlation_id, &response);
        self.send_after(gather, key, encoded, &[]);
        Ok(())
    }

    /// The transaction's partitions that are still there, by topic in the order of names.
    fn topics_of(&self, txn: &Txn) -> Vec<DescribeTransactionsTopicData<'_>> {
        let mut by_name: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for id in &txn.partitions {
            if let Some(topic) = self.topics.by_id(id.topic) {
                by_name.entry(&topic.name).or_default().push(id.partition);
            }
        }
        by_name.into_iter().map(|(topic, partitions)| DescribeTransactionsTopicData { topic, partitions }).collect()
    }

    pub(in crate::broker) fn list_transactions(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ListTransactionsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let unknown_state_filters =
            request.state_filters.iter().copied().filter(|name| !STATE_NAMES.contains(name)).collect();
        let wanted = self.txns.by_id.iter().filter(|(_, txn)| is_listed(req.now, &request, txn));
        let listed = wanted.map(|(id, txn)| ListTransactionsTransactionState {
            transactional_id: id,
            producer_id: txn.producer_id,
            transaction_state: txn.state.name(),
        });
        let transaction_states = listed.collect();
        let response = ListTransactionsResponse { unknown_state_filters, transaction_states, ..Default::default() };
        let encoded = wire::frame::response(req.to.version, req.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
        Ok(())
    }

    pub(in crate::broker) fn describe_producers(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeProducersRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut wait = self.gather.meta_seq();
        let topics = request.topics.iter().map(|topic| {
            let topic_id = self.topics.id_of(topic.name);
            let partitions = topic.partition_indexes.iter().map(|index| {
                let id = topic_id.map(|topic| PartitionId { topic, partition: *index });
                let described = PartitionResponse { partition_index: *index, ..Default::default() };
                match id.and_then(|id| self.topics.partition(id)) {
                    None => PartitionResponse { error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ..described },
                    Some(partition) => {
                        wait = wait.max(partition.last_seq);
                        let producers = partition.log.producers.iter().map(|(id, state)| producer(*id, state));
                        PartitionResponse { active_producers: producers.collect(), ..described }
                    }
                }
            });
            TopicResponse { name: topic.name, partitions: partitions.collect() }
        });
        let response = DescribeProducersResponse { topics: topics.collect(), ..Default::default() };
        self.reply_after(wait, req.to, &response);
        Ok(())
    }
}

fn is_listed(now: Now, request: &ListTransactionsRequest<'_>, txn: &Txn) -> bool {
    let states = &request.state_filters;
    let producers = &request.producer_id_filters;
    let age_ms = now.wall_ms.saturating_sub(txn.start_ms);
    (states.is_empty() || states.contains(&txn.state.name()))
        && (producers.is_empty() || producers.contains(&txn.producer_id))
        && (request.duration_filter < 0 || age_ms > request.duration_filter)
}

fn producer(producer_id: i64, state: &crate::broker::producers::ProducerState) -> ProducerState {
    ProducerState {
        producer_id,
        producer_epoch: i32::from(state.epoch),
        last_sequence: state.batches.back().map_or(-1, |batch| batch.last_sequence),
        last_timestamp: state.last_append_ms,
        coordinator_epoch: state.coordinator_epoch,
        current_txn_start_offset: state.txn_first_offset.unwrap_or(-1),
    }
}
