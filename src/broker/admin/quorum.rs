//! Owns the APIs about brokers and controllers coming and going: DescribeQuorum, AddRaftVoter, RemoveRaftVoter and
//! UnregisterBroker. There is one node; its log takes the place of Kafka's metadata quorum of a single, fixed voter.

use super::create_topics::CLUSTER_METADATA_TOPIC;
use super::{error_of, message_of, Outcome, Refused};
use crate::broker::dispatch::Request;
use crate::broker::{Broker, Now};
use crate::wire::msg::{
    AddRaftVoterRequest, AddRaftVoterResponse, DescribeQuorumPartitionData, DescribeQuorumReplicaState,
    DescribeQuorumRequest, DescribeQuorumResponse, DescribeQuorumResponsePartitionData,
    DescribeQuorumResponseTopicData, Node, RemoveRaftVoterRequest, RemoveRaftVoterResponse, UnregisterBrokerRequest,
    UnregisterBrokerResponse,
};
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

/// The quorum's leader never changes.
const LEADER_EPOCH: i32 = 1;

impl Broker {
    pub(in crate::broker) fn describe_quorum(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeQuorumRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        // As in Kafka, whoever asks for anything else as well learns nothing.
        let known = match &request.topics[..] {
            [topic] => {
                topic.topic_name == CLUSTER_METADATA_TOPIC
                    && matches!(&topic.partitions[..], [partition] if partition.partition_index == 0)
            }
            _ => false,
        };
        let topics = request.topics.iter().map(|topic| DescribeQuorumResponseTopicData {
            topic_name: topic.topic_name,
            partitions: match known {
                true => vec![self.quorum(req.now)],
                false => topic.partitions.iter().map(not_the_quorum).collect(),
            },
        });
        let node = Node { node_id: self.settings.config.node_id, listeners: Vec::new() };
        let response = DescribeQuorumResponse {
            error_code: ErrorCode::NONE,
            error_message: Some(""),
            topics: topics.collect(),
            nodes: if known { vec![node] } else { Vec::new() },
        };
        self.reply(req.to, &response);
        Ok(())
    }

    /// The one voter, which is the leader and has everything. Offsets count the log's groups.
    fn quorum(&self, now: Now) -> DescribeQuorumResponsePartitionData<'static> {
        let end = i64::try_from(self.durable).unwrap_or(i64::MAX);
        let node_id = self.settings.config.node_id;
        let voter = DescribeQuorumReplicaState {
            replica_id: node_id,
            replica_directory_id: Uuid::ZERO,
            log_end_offset: end,
            last_fetch_timestamp: now.wall_ms,
            last_caught_up_timestamp: now.wall_ms,
        };
        DescribeQuorumResponsePartitionData {
            partition_index: 0,
            error_code: ErrorCode::NONE,
            error_message: Some(""),
            leader_id: node_id,
            leader_epoch: LEADER_EPOCH,
            high_watermark: end,
            current_voters: vec![voter],
            observers: Vec::new(),
        }
    }

    pub(in crate::broker) fn add_raft_voter(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: AddRaftVoterRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let valid = request.voter_id >= 0 && !request.voter_directory_id.is_zero() && !request.listeners.is_empty();
        let outcome = self.check_voter(request.cluster_id, valid, ["Add", "adding"]);
        self.count_outcomes(req.to, std::slice::from_ref(&outcome));
        let (error_code, error_message) = (error_of(&outcome), message_of(&outcome));
        self.reply(req.to, &AddRaftVoterResponse { error_code, error_message, ..Default::default() });
        Ok(())
    }

    pub(in crate::broker) fn remove_raft_voter(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: RemoveRaftVoterRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let valid = request.voter_id >= 0 && !request.voter_directory_id.is_zero();
        let outcome = self.check_voter(request.cluster_id, valid, ["Remove", "removing"]);
        self.count_outcomes(req.to, std::slice::from_ref(&outcome));
        let (error_code, error_message) = (error_of(&outcome), message_of(&outcome));
        self.reply(req.to, &RemoveRaftVoterResponse { error_code, error_message, ..Default::default() });
        Ok(())
    }

    /// No voter is added or removed: the quorum is fixed, as in a Kafka whose `kraft.version` is 0.
    fn check_voter(&self, cluster_id: Option<&str>, valid: bool, [verb, doing]: [&str; 2]) -> Outcome {
        let own = &self.settings.cluster_id;
        if let Some(given) = cluster_id.filter(|given| given != own) {
            let why = format!("The given id \"{given}\" doesn't match the cluster id \"{own}\"");
            return Err(Refused::new(ErrorCode::INCONSISTENT_CLUSTER_ID, why));
        }
        if !valid {
            let why = format!("{verb} voter request didn't include a valid voter");
            return Err(Refused::new(ErrorCode::INVALID_REQUEST, why));
        }
        let why = format!("Cluster doesn't support {doing} voter because the kraft.version feature is 0");
        Err(Refused::new(ErrorCode::UNSUPPORTED_VERSION, why))
    }

    pub(in crate::broker) fn unregister_broker(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: UnregisterBrokerRequest = wire::decode_request(req.body, req.to.version)?;
        let id = request.broker_id;
        let refused = match id == self.settings.config.node_id {
            // Kafka lets its only broker go; nobody can have meant that.
            true => Refused::new(ErrorCode::INVALID_REQUEST, format!("Broker ID {id} is the broker that was asked")),
            false => {
                let why = format!("Broker ID {id} is not currently registered");
                Refused::new(ErrorCode::BROKER_ID_NOT_REGISTERED, why)
            }
        };
        let outcome: Outcome = Err(refused);
        self.count_outcomes(req.to, std::slice::from_ref(&outcome));
        let (error_code, error_message) = (error_of(&outcome), message_of(&outcome));
        self.reply(req.to, &UnregisterBrokerResponse { error_code, error_message, ..Default::default() });
        Ok(())
    }
}

fn not_the_quorum(partition: &DescribeQuorumPartitionData) -> DescribeQuorumResponsePartitionData<'static> {
    DescribeQuorumResponsePartitionData {
        partition_index: partition.partition_index,
        error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        error_message: Some(super::NO_SUCH_PARTITION),
        leader_id: 0,
        leader_epoch: 0,
        high_watermark: 0,
        current_voters: Vec::new(),
        observers: Vec::new(),
    }
}
