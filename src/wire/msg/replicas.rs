//! Owns the messages about where replicas are: log directories, elections, reassignments. Descriptions only.

use crate::wire::macros::message;
use crate::wire::ErrorCode;

message! {
    /// Asks what is in the log directories: for given partitions, or for all if null.
    request DescribeLogDirsRequest<'a> = DESCRIBE_LOG_DIRS -> DescribeLogDirsResponse<'a> {
        topics: Option<Vec<DescribableLogDirTopic<'a>>> [0..],
    }
    struct DescribableLogDirTopic<'a> { topic: &'a str [0..], partitions: Vec<i32> [0..] }

    /// The log directories with their partitions and sizes.
    response DescribeLogDirsResponse<'a> = DESCRIBE_LOG_DIRS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [3..],
        results: Vec<DescribeLogDirsResult<'a>> [0..],
    }
    struct DescribeLogDirsResult<'a> {
        error_code: ErrorCode [0..],
        log_dir: &'a str [0..],
        topics: Vec<DescribeLogDirsTopic<'a>> [0..],
        total_bytes: i64 [4..] = -1,
        usable_bytes: i64 [4..] = -1,
        is_cordoned: bool [5..],
    }
    struct DescribeLogDirsTopic<'a> {
        name: &'a str [0..],
        partitions: Vec<DescribeLogDirsPartition> [0..],
    }
    struct DescribeLogDirsPartition {
        partition_index: i32 [0..],
        partition_size: i64 [0..],
        offset_lag: i64 [0..],
        is_future_key: bool [0..],
    }
}

message! {
    /// Moves replicas to other log directories.
    request AlterReplicaLogDirsRequest<'a> = ALTER_REPLICA_LOG_DIRS -> AlterReplicaLogDirsResponse<'a> {
        dirs: Vec<AlterReplicaLogDir<'a>> [0..],
    }
    struct AlterReplicaLogDir<'a> {
        path: &'a str [0..],
        topics: Vec<AlterReplicaLogDirTopic<'a>> [0..],
    }
    struct AlterReplicaLogDirTopic<'a> { name: &'a str [0..], partitions: Vec<i32> [0..] }

    /// What became of it.
    response AlterReplicaLogDirsResponse<'a> = ALTER_REPLICA_LOG_DIRS {
        throttle_time_ms: i32 [0..],
        results: Vec<AlterReplicaLogDirTopicResult<'a>> [0..],
    }
    struct AlterReplicaLogDirTopicResult<'a> {
        topic_name: &'a str [0..],
        partitions: Vec<AlterReplicaLogDirPartitionResult> [0..],
    }
    struct AlterReplicaLogDirPartitionResult {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
    }
}

message! {
    /// Starts elections: for given partitions, or for all if null.
    request ElectLeadersRequest<'a> = ELECT_LEADERS -> ElectLeadersResponse<'a> {
        election_type: i8 [1..],
        topic_partitions: Option<Vec<ElectLeadersTopicPartitions<'a>>> [0..],
        timeout_ms: i32 [0..] = 60000,
    }
    struct ElectLeadersTopicPartitions<'a> { topic: &'a str [0..], partitions: Vec<i32> [0..] }

    /// What became of it.
    response ElectLeadersResponse<'a> = ELECT_LEADERS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [1..],
        replica_election_results: Vec<ReplicaElectionResult<'a>> [0..],
    }
    struct ReplicaElectionResult<'a> {
        topic: &'a str [0..],
        partition_result: Vec<ElectLeadersPartitionResult<'a>> [0..],
    }
    struct ElectLeadersPartitionResult<'a> {
        partition_id: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Moves partitions to other brokers; null replicas cancel a move (KIP-455).
    request AlterPartitionReassignmentsRequest<'a> = ALTER_PARTITION_REASSIGNMENTS -> AlterPartitionReassignmentsResponse<'a> {
        timeout_ms: i32 [0..] = 60000,
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<ReassignableTopic<'a>> [0..],
    }
    struct ReassignableTopic<'a> {
        name: &'a str [0..],
        partitions: Vec<ReassignablePartition> [0..],
    }
    struct ReassignablePartition { partition_index: i32 [0..], replicas: Option<Vec<i32>> [0..] }

    /// What became of it.
    response AlterPartitionReassignmentsResponse<'a> = ALTER_PARTITION_REASSIGNMENTS {
        throttle_time_ms: i32 [0..],
        allow_replication_factor_change: bool [1..] = true,
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        responses: Vec<ReassignableTopicResponse<'a>> [0..],
    }
    struct ReassignableTopicResponse<'a> {
        name: &'a str [0..],
        partitions: Vec<ReassignablePartitionResponse<'a>> [0..],
    }
    struct ReassignablePartitionResponse<'a> {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Lists the moves that are under way.
    request ListPartitionReassignmentsRequest<'a> = LIST_PARTITION_REASSIGNMENTS -> ListPartitionReassignmentsResponse<'a> {
        timeout_ms: i32 [0..] = 60000,
        topics: Option<Vec<ListPartitionReassignmentsTopics<'a>>> [0..],
    }
    struct ListPartitionReassignmentsTopics<'a> {
        name: &'a str [0..],
        partition_indexes: Vec<i32> [0..],
    }

    /// The moves.
    response ListPartitionReassignmentsResponse<'a> = LIST_PARTITION_REASSIGNMENTS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        topics: Vec<OngoingTopicReassignment<'a>> [0..],
    }
    struct OngoingTopicReassignment<'a> {
        name: &'a str [0..],
        partitions: Vec<OngoingPartitionReassignment> [0..],
    }
    struct OngoingPartitionReassignment {
        partition_index: i32 [0..],
        replicas: Vec<i32> [0..],
        adding_replicas: Vec<i32> [0..],
        removing_replicas: Vec<i32> [0..],
    }
}
