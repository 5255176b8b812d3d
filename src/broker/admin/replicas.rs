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
        let named: usize = request.topic_partitions.iter().flatten().map(|topic| topic.partitions.len()).sum();
        // Kafka does not look at the kind of an election in which nobody takes part.
        let nobody = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
        let error_code = match nobody || ELECTION_TYPES.contains(&request.election_type) {
            false => ErrorCode::INVALID_REQUEST,
            true if named > limits::REQUEST_ITEMS_MAX => ErrorCode::POLICY_VIOLATION,
            true => ErrorCode::NONE,
        };
        let told: Vec<(&str, Vec<(i32, Refused)>)> = match &request.topic_partitions {
            Some(wanted) => wanted
                .iter()
                .map(|topic| {
                    (topic.topic, topic.partitions.iter().map(|id| (*id, self.elect(&request, topic.topic, *id))))
                })
                .map(|(name, partitions)| (name, partitions.collect()))
                .collect(),
            // Asked for all, Kafka tells of the partitions that got a new leader: each topic has none.
            None if error_code.is_none() => self.topics.iter().map(|topic| (&*topic.name, Vec::new())).collect(),
            None => Vec::new(),
        };
        let results = told.iter().map(|(topic, partitions)| ReplicaElectionResult {
            topic,
            partition_result: partitions
                .iter()
                .map(|(partition_id, refused)| ElectLeadersPartitionResult {
                    partition_id: *partition_id,
                    error_code: refused.error,
                    error_message: refused.message.as_deref(),
                })
                .collect(),
        });
        let results = results.collect();
        let response = ElectLeadersResponse { error_code, replica_election_results: results, ..Default::default() };
        let encoded = wire::frame::response(req.to.version, req.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
        Ok(())
    }

    /// Why nobody is elected: the leader is the preferred one, and in sync.
    fn elect(&self, request: &ElectLeadersRequest<'_>, topic: &str, partition: i32) -> Refused {
        let kind = request.election_type;
        if !ELECTION_TYPES.contains(&kind) {
            return Refused::new(ErrorCode::INVALID_REQUEST, format!("Unknown election type {kind}"));
        }
        let unknown = |why| Refused::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, why);
        match self.topics.by_name(topic) {
            None => unknown(format!("No such topic as {topic}")),
            Some(_) if !self.partition_exists(topic, partition) => {
                unknown(format!("No such partition as {topic}-{partition}"))
            }
            Some(_) => Refused::new(ErrorCode::ELECTION_NOT_NEEDED, "Leader election not needed for topic partition."),
        }
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
            // Kafka says nothing about nothing by an empty text.
            error_message: request.topics.is_empty().then_some(""),
            responses: responses.collect(),
            ..Default::default()
        };
        self.reply(req.to, &response);
        Ok(())
    }

    /// A partition may be moved to where it is.
    fn reassign(&self, topic: &str, wanted: &ReassignablePartition) -> Outcome {
        if !self.partition_exists(topic, wanted.partition_index) {
            let why = match self.topics.by_name(topic) {
                Some(_) => format!("Unable to find partition {topic}:{}.", wanted.partition_index),
                None => format!("Unable to find a topic named {topic}."),
            };
            return Err(Refused::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, why));
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
