//! Owns DescribeTopicPartitions: topics in pages (KIP-966).

use std::collections::BTreeSet;

use super::TOPIC_OPERATIONS;
use crate::broker::dispatch::Request;
use crate::broker::topics::{self, Topic};
use crate::broker::Broker;
use crate::limits;
use crate::wire::msg::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use crate::wire::{self, frame, DecodeError, ErrorCode};

impl Broker {
    pub(in crate::broker) fn describe_topic_partitions(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeTopicPartitionsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let response = match self.describe_page(&request) {
            Some(page) => page,
            None => refuse_all(&request, ErrorCode::INVALID_REQUEST),
        };
        let encoded = frame::response(req.to.version, req.to.correlation_id, &response);
        for topic in response.topics.iter().filter(|topic| topic.error_code.is_error()) {
            self.settings.metrics.request_error(req.to.key, topic.error_code.0);
        }
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
        Ok(())
    }

    /// One page: topics in the order of names from the cursor on, up to the limit of partitions. `None` when the cursor
    /// makes no sense.
    fn describe_page<'a>(
        &'a self,
        request: &DescribeTopicPartitionsRequest<'a>,
    ) -> Option<DescribeTopicPartitionsResponse<'a>> {
        let (from, first_partition) = match &request.cursor {
            Some(cursor) => (cursor.topic_name, usize::try_from(cursor.partition_index).ok()?),
            None => ("", 0),
        };
        let named: BTreeSet<&str> =
            request.topics.iter().map(|topic| topic.name).filter(|name| *name >= from).collect();
        let all = request.topics.is_empty();
        if !all && request.cursor.is_some() && !named.contains(from) {
            return None;
        }
        let names: Box<dyn Iterator<Item = &'a str> + '_> = match all {
            true => Box::new(self.topics.iter_from(from).map(|topic| &*topic.name)),
            false => Box::new(named.into_iter()),
        };
        let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let mut left = limit.clamp(1, limits::DESCRIBED_PARTITIONS_MAX);
        let mut page = DescribeTopicPartitionsResponse::default();
        for name in names {
            let first = if name == from { first_partition } else { 0 };
            if left == 0 || page.topics.len() == limits::REQUEST_ITEMS_MAX {
                page.next_cursor = Some(Cursor { topic_name: name, partition_index: 0 });
                break;
            }
            let Some(topic) = self.topics.by_name(name) else {
                page.topics.push(unknown(name));
                continue;
            };
            let told = self.describe_partitions(topic, first, left);
            let next = first.saturating_add(told.partitions.len());
            left -= told.partitions.len();
            page.topics.push(told);
            if next < topic.partitions.len() {
                page.next_cursor = Some(Cursor { topic_name: name, partition_index: next as i32 });
                break;
            }
        }
        Some(page)
    }

    fn describe_partitions<'a>(
        &self,
        topic: &'a Topic,
        first: usize,
        most: usize,
    ) -> DescribeTopicPartitionsResponseTopic<'a> {
        let node_id = self.settings.config.node_id;
        let partitions = topic.partitions.iter().skip(first).take(most);
        let partitions = partitions.map(|partition| DescribeTopicPartitionsResponsePartition {
            partition_index: partition.log.id.partition,
            leader_id: node_id,
            leader_epoch: partition.log.leader_epoch,
            replica_nodes: vec![node_id],
            isr_nodes: vec![node_id],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..Default::default()
        });
        DescribeTopicPartitionsResponseTopic {
            name: Some(&topic.name),
            topic_id: topic.id,
            is_internal: topics::is_internal(&topic.name),
            partitions: partitions.collect(),
            topic_authorized_operations: TOPIC_OPERATIONS,
            ..Default::default()
        }
    }
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic<'_> {
    let error_code = match topics::name_fault(name) {
        Some(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code,
        name: Some(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    }
}

/// The answer has no error of its own, so each topic carries it.
fn refuse_all<'a>(
    request: &DescribeTopicPartitionsRequest<'a>,
    error_code: ErrorCode,
) -> DescribeTopicPartitionsResponse<'a> {
    let topics = request.topics.iter().map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code,
        name: Some(topic.name),
        ..Default::default()
    });
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() }
}
