//! Owns the messages about the quorum of controllers that a broker answers. Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, Uuid};

message! {
    /// Asks about the quorum's leader, voters and observers (KIP-595).
    request DescribeQuorumRequest<'a> = DESCRIBE_QUORUM -> DescribeQuorumResponse<'a> {
        topics: Vec<DescribeQuorumTopicData<'a>> [0..],
    }
    struct DescribeQuorumTopicData<'a> {
        topic_name: &'a str [0..],
        partitions: Vec<DescribeQuorumPartitionData> [0..],
    }
    struct DescribeQuorumPartitionData { partition_index: i32 [0..] }

    /// The quorum.
    response DescribeQuorumResponse<'a> = DESCRIBE_QUORUM {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [2..],
        topics: Vec<DescribeQuorumResponseTopicData<'a>> [0..],
        nodes: Vec<Node<'a>> [2..],
    }
    struct DescribeQuorumResponseTopicData<'a> {
        topic_name: &'a str [0..],
        partitions: Vec<DescribeQuorumResponsePartitionData<'a>> [0..],
    }
    struct DescribeQuorumResponsePartitionData<'a> {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [2..],
        leader_id: i32 [0..],
        leader_epoch: i32 [0..],
        high_watermark: i64 [0..],
        current_voters: Vec<DescribeQuorumReplicaState> [0..],
        observers: Vec<DescribeQuorumReplicaState> [0..],
    }
    struct DescribeQuorumReplicaState {
        replica_id: i32 [0..],
        replica_directory_id: Uuid [2..],
        log_end_offset: i64 [0..],
        last_fetch_timestamp: i64 [1..] = -1,
        last_caught_up_timestamp: i64 [1..] = -1,
    }
    struct Node<'a> { node_id: i32 [0..], listeners: Vec<Listener<'a>> [0..] }
    struct Listener<'a> { name: &'a str [0..], host: &'a str [0..], port: u16 [0..] }
}

message! {
    /// Adds a voter to the quorum (KIP-853).
    request AddRaftVoterRequest<'a> = ADD_RAFT_VOTER -> AddRaftVoterResponse<'a> {
        cluster_id: Option<&'a str> [0..],
        timeout_ms: i32 [0..],
        voter_id: i32 [0..],
        voter_directory_id: Uuid [0..],
        listeners: Vec<Listener<'a>> [0..],
        ack_when_committed: bool [1..] = true,
    }

    /// What became of it.
    response AddRaftVoterResponse<'a> = ADD_RAFT_VOTER {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Removes a voter from the quorum (KIP-853).
    request RemoveRaftVoterRequest<'a> = REMOVE_RAFT_VOTER -> RemoveRaftVoterResponse<'a> {
        cluster_id: Option<&'a str> [0..],
        voter_id: i32 [0..],
        voter_directory_id: Uuid [0..],
    }

    /// What became of it.
    response RemoveRaftVoterResponse<'a> = REMOVE_RAFT_VOTER {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Removes a controller that is gone from the cluster.
    request UnregisterControllerRequest = UNREGISTER_CONTROLLER -> UnregisterControllerResponse<'a> {
        controller_id: i32 [0..],
    }

    /// What became of it.
    response UnregisterControllerResponse<'a> = UNREGISTER_CONTROLLER {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}
