//! Owns what administrators ask about transactions: DescribeTransactions, ListTransactions, DescribeProducers (KIP-664).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{Txn, STATE_NAMES};
use super::Name;
use crate::broker::dispatch::Request;
use crate::broker::groups::{MatchDone, MatchJob};
use crate::broker::reply::ReplyTo;
use crate::broker::work::WorkJob;
use crate::broker::{topics, Broker, Effect, Now};
use crate::wal::PartitionId;
use crate::wire::msg::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    DescribeTransactionsTopicData, DescribeTransactionsTransactionState, ListTransactionsRequest,
    ListTransactionsResponse, ListTransactionsTransactionState, PartitionResponse, ProducerState, TopicResponse,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// What DescribeProducers says of topics that are not there, beside the error.
const NO_SUCH_TOPIC: &str = "This server does not host this topic-partition.";

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
        let encoded = wire::frame::response(req.to.version, req.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
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
        let listing = Listing {
            to: req.to,
            states: request.state_filters.iter().map(|name| (*name).to_owned()).collect(),
            producers: request.producer_id_filters.clone(),
            age_ms: request.duration_filter,
        };
        let wanted = self.txns.by_id.iter().filter(|(_, txn)| listing.wants(req.now, txn));
        let names: Arc<[Name]> = wanted.map(|(id, _)| id.clone()).collect();
        match request.transactional_id_pattern.filter(|pattern| !pattern.is_empty()) {
            None => self.tell_listing(&listing, &names),
            Some(pattern) => {
                let job = self.job();
                let pattern = pattern.into();
                let wanted = MatchJob { pattern, topics: names, version: job };
                self.effects.push_back(Effect::Work(WorkJob::MatchTransactions(wanted)));
                self.txns.listings.insert(job, listing);
            }
        }
        Ok(())
    }

    /// A worker has looked up which transactional ids an administrator means.
    pub(in crate::broker) fn transactions_matched(&mut self, now: Now, done: MatchDone) {
        let Some(listing) = self.txns.listings.remove(&done.version) else { return };
        match done.result {
            Ok(names) => {
                // They may have changed meanwhile.
                let still = |id: &Name| self.txns.by_id.get(id).is_some_and(|txn| listing.wants(now, txn));
                let names: Vec<Name> = names.into_iter().filter(still).collect();
                self.tell_listing(&listing, &names);
            }
            Err(_) => {
                let error_code = ErrorCode::INVALID_REGULAR_EXPRESSION;
                self.settings.metrics.request_error(listing.to.key, error_code.0);
                self.reply(listing.to, &ListTransactionsResponse { error_code, ..Default::default() });
            }
        }
    }

    fn tell_listing(&mut self, listing: &Listing, names: &[Name]) {
        let listed = names.iter().filter_map(|id| {
            let txn = self.txns.by_id.get(id)?;
            let (producer_id, transaction_state) = (txn.producer_id, txn.state.name());
            Some(ListTransactionsTransactionState { transactional_id: id, producer_id, transaction_state })
        });
        let transaction_states = listed.collect();
        let unknown = listing.states.iter().map(String::as_str).filter(|name| !STATE_NAMES.contains(name));
        let unknown_state_filters = unknown.collect();
        let response = ListTransactionsResponse { unknown_state_filters, transaction_states, ..Default::default() };
        self.reply(listing.to, &response);
    }

    pub(in crate::broker) fn describe_producers(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeProducersRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut wait = self.gather.meta_seq();
        let faults: Vec<Option<String>> = request.topics.iter().map(|topic| topics::name_fault(topic.name)).collect();
        let topics = request.topics.iter().zip(&faults).map(|(topic, fault)| {
            let topic_id = self.topics.id_of(topic.name);
            let unknown = match (fault, topic_id) {
                (Some(fault), _) => (ErrorCode::INVALID_TOPIC_EXCEPTION, Some(fault.as_str())),
                (None, None) => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(NO_SUCH_TOPIC)),
                (None, Some(_)) => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None),
            };
            let partitions = topic.partition_indexes.iter().map(|index| {
                let id = topic_id.map(|topic| PartitionId { topic, partition: *index });
                let described = PartitionResponse { partition_index: *index, ..Default::default() };
                match id.and_then(|id| self.topics.partition(id)) {
                    None => PartitionResponse { error_code: unknown.0, error_message: unknown.1, ..described },
                    Some(partition) => {
                        wait = wait.max(partition.last_seq);
                        let producers = partition.log.producers.iter().map(|(id, state)| producer(id, state));
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

/// Which transactions ListTransactions asks for.
#[derive(Debug)]
pub struct Listing {
    to: ReplyTo,
    /// Any state when empty.
    states: Vec<String>,
    /// Any producer when empty.
    producers: Vec<i64>,
    /// Only those that are older; any when negative.
    age_ms: i64,
}

impl Listing {
    fn wants(&self, now: Now, txn: &Txn) -> bool {
        (self.states.is_empty() || self.states.iter().any(|name| name == txn.state.name()))
            && (self.producers.is_empty() || self.producers.contains(&txn.producer_id))
            && (self.age_ms < 0 || now.wall_ms.saturating_sub(txn.start_ms) > self.age_ms)
    }
}

fn producer(producer_id: i64, state: &crate::broker::producers::ProducerState) -> ProducerState {
    ProducerState {
        producer_id,
        producer_epoch: i32::from(state.epoch),
        last_sequence: state.batches.last().map_or(-1, |batch| batch.last_sequence),
        last_timestamp: state.last_append_ms,
        coordinator_epoch: state.coordinator_epoch,
        current_txn_start_offset: state.txn_first_offset.unwrap_or(-1),
    }
}
