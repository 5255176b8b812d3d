//! Owns ElectLeaders, AlterPartitionReassignments and ListPartitionReassignments: with one node, every leader is the
//! preferred one and nothing ever moves.

use super::{check_replicas, error_of, message_of, Outcome, Refused};
use crate::broker::dispatch::Request;
use crate::broker::Broker;
use crate::limits;
use crate::wal::PartitionId;
use crate::wire::msg::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ElectLeadersPartitionResult,
    ElectLeadersRequest, ElectLeadersResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    ReassignablePartition, ReassignablePartitionResponse, ReassignableTopicResponse, ReplicaElectionResult,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// The kinds of elections: of the preferred replica, and of one that may have lost records.
const ELECTION_TYPES: [i8; 2] = [0, 1];

impl Broker {
    pub(in crate::broker) fn elect_leaders(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ElectLeadersRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        // Asked for all partitions, Kafka tells of those that got a new leader: none.
        let wanted = request.topic_partitions.as_deref().unwrap_or(&[]);
        let named: usize = wanted.iter().map(|topic| topic.partitions.len()).sum();
        let error_code = match ELECTION_TYPES.contains(&request.election_type) {
            false => ErrorCode::INVALID_REQUEST,
            true if named > limits::REQUEST_ITEMS_MAX => ErrorCode::POLICY_VIOLATION,
            true => ErrorCode::NONE,
        };
        let wanted = if error_code.is_error() { &[] } else { wanted };
        let mut results = Vec::with_capacity(wanted.len());
        for topic in wanted {
            let partitions = topic.partitions.iter().map(|partition_id| {
                let (error_code, why) = match self.partition_exists(topic.topic, *partition_id) {
                    true => (ErrorCode::ELECTION_NOT_NEEDED, "The leader is the one that is wanted."),
                    false => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "There is no such partition."),
                };
                ElectLeadersPartitionResult { partition_id: *partition_id, error_code, error_message: Some(why) }
            });
            results.push(ReplicaElectionResult { topic: topic.topic, partition_result: partitions.collect() });
        }
        let response = ElectLeadersResponse { error_code, replica_election_results: results, ..Default::default() };
        self.reply(req.to, &response);
        Ok(())
    }

    pub(in crate::broker) fn alter_partition_reassignments(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: AlterPartitionReassignmentsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let named: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let too_many = named > limits::REQUEST_ITEMS_MAX;
        let topics = if too_many { &[] } else { &request.topics[..] };
        let outcomes: Vec<Vec<Outcome>> = topics
            .iter()
            .map(|topic| topic.partitions.iter().map(|partition| self.reassign(topic.name, partition)).collect())
            .collect();
        for outcomes in &outcomes {
            self.count_outcomes(req.to, outcomes);
        }
        let responses = topics.iter().zip(&outcomes).map(|(topic, outcomes)| {
            let partitions =
                topic.partitions.iter().zip(outcomes).map(|(partition, outcome)| ReassignablePartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: error_of(outcome),
                    error_message: message_of(outcome),
                });
            ReassignableTopicResponse { name: topic.name, partitions: partitions.collect() }
        });
        let response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: request.allow_replication_factor_change,
            error_code: if too_many { ErrorCode::POLICY_VIOLATION } else { ErrorCode::NONE },
            responses: responses.collect(),
            ..Default::default()
        };
        self.reply(req.to, &response);
        Ok(())
    }

    /// A partition may be moved to where it is.
    fn reassign(&self, topic: &str, wanted: &ReassignablePartition) -> Outcome {
        if !self.partition_exists(topic, wanted.partition_index) {
            return Err(Refused::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "There is no such partition."));
        }
        match &wanted.replicas {
            None => Err(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS.into()),
            Some(replicas) => check_replicas(replicas, self.settings.config.node_id),
        }
    }

    pub(in crate::broker) fn list_partition_reassignments(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let _: ListPartitionReassignmentsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        self.reply(req.to, &ListPartitionReassignmentsResponse::default());
        Ok(())
    }

    fn partition_exists(&self, topic: &str, partition: i32) -> bool {
        let id = self.topics.id_of(topic).map(|topic| PartitionId { topic, partition });
        id.is_some_and(|id| self.topics.partition(id).is_some())
    }
}
