//! Owns the messages of share groups (KIP-932). Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, RecordSet, Uuid};

use super::data::NodeEndpoint;

message! {
    /// Joins, stays in or leaves a share group.
    request ShareGroupHeartbeatRequest<'a> = SHARE_GROUP_HEARTBEAT -> ShareGroupHeartbeatResponse<'a> {
        group_id: &'a str [0..],
        member_id: &'a str [0..],
        member_epoch: i32 [0..],
        rack_id: Option<&'a str> [0..],
        subscribed_topic_names: Option<Vec<&'a str>> [0..],
    }

    /// The member's epoch and assignment.
    response ShareGroupHeartbeatResponse<'a> = SHARE_GROUP_HEARTBEAT {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        member_id: Option<&'a str> [0..],
        member_epoch: i32 [0..],
        heartbeat_interval_ms: i32 [0..],
        assignment: Option<ShareGroupHeartbeatAssignment> [0..],
    }
    struct ShareGroupHeartbeatAssignment {
        topic_partitions: Vec<ShareGroupHeartbeatTopicPartitions> [0..],
    }
    struct ShareGroupHeartbeatTopicPartitions { topic_id: Uuid [0..], partitions: Vec<i32> [0..] }
}

message! {
    /// Asks about share groups.
    request ShareGroupDescribeRequest<'a> = SHARE_GROUP_DESCRIBE -> ShareGroupDescribeResponse<'a> {
        group_ids: Vec<&'a str> [0..],
        include_authorized_operations: bool [0..],
    }

    /// The groups and their members.
    response ShareGroupDescribeResponse<'a> = SHARE_GROUP_DESCRIBE {
        throttle_time_ms: i32 [0..],
        groups: Vec<ShareGroupDescribedGroup<'a>> [0..],
    }
    struct ShareGroupDescribedGroup<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        group_id: &'a str [0..],
        group_state: &'a str [0..],
        group_epoch: i32 [0..],
        assignment_epoch: i32 [0..],
        assignor_name: &'a str [0..],
        members: Vec<ShareGroupDescribeMember<'a>> [0..],
        authorized_operations: i32 [0..] = i32::MIN,
    }
    struct ShareGroupDescribeMember<'a> {
        member_id: &'a str [0..],
        rack_id: Option<&'a str> [0..],
        member_epoch: i32 [0..],
        client_id: &'a str [0..],
        client_host: &'a str [0..],
        subscribed_topic_names: Vec<&'a str> [0..],
        assignment: ShareGroupDescribeAssignment<'a> [0..],
    }
    struct ShareGroupDescribeAssignment<'a> {
        topic_partitions: Vec<ShareGroupDescribeTopicPartitions<'a>> [0..],
    }
    struct ShareGroupDescribeTopicPartitions<'a> {
        topic_id: Uuid [0..],
        topic_name: &'a str [0..],
        partitions: Vec<i32> [0..],
    }
}

message! {
    /// Acquires records, and acknowledges earlier ones.
    request ShareFetchRequest<'a> = SHARE_FETCH -> ShareFetchResponse<'a> {
        group_id: Option<&'a str> [0..],
        member_id: Option<&'a str> [0..],
        share_session_epoch: i32 [0..],
        max_wait_ms: i32 [0..],
        min_bytes: i32 [0..],
        max_bytes: i32 [0..] = i32::MAX,
        max_records: i32 [1..],
        batch_size: i32 [1..],
        share_acquire_mode: i8 [2..],
        is_renew_ack: bool [2..],
        topics: Vec<ShareFetchTopic> [0..],
        forgotten_topics_data: Vec<ShareFetchForgottenTopic> [0..],
    }
    struct ShareFetchTopic { topic_id: Uuid [0..], partitions: Vec<ShareFetchPartition> [0..] }
    struct ShareFetchPartition {
        partition_index: i32 [0..],
        partition_max_bytes: i32 [0..=0],
        acknowledgement_batches: Vec<AcknowledgementBatch> [0..],
    }
    struct AcknowledgementBatch {
        first_offset: i64 [0..],
        last_offset: i64 [0..],
        acknowledge_types: Vec<i8> [0..],
    }
    struct ShareFetchForgottenTopic { topic_id: Uuid [0..], partitions: Vec<i32> [0..] }

    /// The records acquired.
    response ShareFetchResponse<'a> = SHARE_FETCH {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        acquisition_lock_timeout_ms: i32 [1..],
        responses: Vec<ShareFetchableTopicResponse<'a>> [0..],
        node_endpoints: Vec<NodeEndpoint<'a>> [0..],
    }
    struct ShareFetchableTopicResponse<'a> {
        topic_id: Uuid [0..],
        partitions: Vec<ShareFetchPartitionData<'a>> [0..],
    }
    struct ShareFetchPartitionData<'a> {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        acknowledge_error_code: ErrorCode [0..],
        acknowledge_error_message: Option<&'a str> [0..],
        current_leader: ShareFetchLeaderIdAndEpoch [0..],
        records: RecordSet<'a> [0..],
        acquired_records: Vec<AcquiredRecords> [0..],
    }
    struct ShareFetchLeaderIdAndEpoch { leader_id: i32 [0..], leader_epoch: i32 [0..] }
    struct AcquiredRecords {
        first_offset: i64 [0..],
        last_offset: i64 [0..],
        delivery_count: i16 [0..],
    }
}

message! {
    /// Acknowledges records.
    request ShareAcknowledgeRequest<'a> = SHARE_ACKNOWLEDGE -> ShareAcknowledgeResponse<'a> {
        group_id: Option<&'a str> [0..],
        member_id: Option<&'a str> [0..],
        share_session_epoch: i32 [0..],
        is_renew_ack: bool [2..],
        topics: Vec<AcknowledgeTopic> [0..],
    }
    struct AcknowledgeTopic { topic_id: Uuid [0..], partitions: Vec<AcknowledgePartition> [0..] }
    struct AcknowledgePartition {
        partition_index: i32 [0..],
        acknowledgement_batches: Vec<AcknowledgementBatch> [0..],
    }

    /// What became of it.
    response ShareAcknowledgeResponse<'a> = SHARE_ACKNOWLEDGE {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        acquisition_lock_timeout_ms: i32 [2..],
        responses: Vec<ShareAcknowledgeTopicResponse<'a>> [0..],
        node_endpoints: Vec<NodeEndpoint<'a>> [0..],
    }
    struct ShareAcknowledgeTopicResponse<'a> {
        topic_id: Uuid [0..],
        partitions: Vec<ShareAcknowledgePartitionData<'a>> [0..],
    }
    struct ShareAcknowledgePartitionData<'a> {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        current_leader: ShareAcknowledgeLeaderIdAndEpoch [0..],
    }
    struct ShareAcknowledgeLeaderIdAndEpoch { leader_id: i32 [0..], leader_epoch: i32 [0..] }
}

message! {
    /// Asks where share groups start to read; null is all topics.
    request DescribeShareGroupOffsetsRequest<'a> = DESCRIBE_SHARE_GROUP_OFFSETS -> DescribeShareGroupOffsetsResponse<'a> {
        groups: Vec<DescribeShareGroupOffsetsRequestGroup<'a>> [0..],
    }
    struct DescribeShareGroupOffsetsRequestGroup<'a> {
        group_id: &'a str [0..],
        topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic<'a>>> [0..],
    }
    struct DescribeShareGroupOffsetsRequestTopic<'a> {
        topic_name: &'a str [0..],
        partitions: Vec<i32> [0..],
    }

    /// The offsets.
    response DescribeShareGroupOffsetsResponse<'a> = DESCRIBE_SHARE_GROUP_OFFSETS {
        throttle_time_ms: i32 [0..],
        groups: Vec<DescribeShareGroupOffsetsResponseGroup<'a>> [0..],
    }
    struct DescribeShareGroupOffsetsResponseGroup<'a> {
        group_id: &'a str [0..],
        topics: Vec<DescribeShareGroupOffsetsResponseTopic<'a>> [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
    struct DescribeShareGroupOffsetsResponseTopic<'a> {
        topic_name: &'a str [0..],
        topic_id: Uuid [0..],
        partitions: Vec<DescribeShareGroupOffsetsResponsePartition<'a>> [0..],
    }
    struct DescribeShareGroupOffsetsResponsePartition<'a> {
        partition_index: i32 [0..],
        start_offset: i64 [0..],
        leader_epoch: i32 [0..],
        lag: i64 [1..] = -1,
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Changes where a share group starts to read.
    request AlterShareGroupOffsetsRequest<'a> = ALTER_SHARE_GROUP_OFFSETS -> AlterShareGroupOffsetsResponse<'a> {
        group_id: &'a str [0..],
        topics: Vec<AlterShareGroupOffsetsRequestTopic<'a>> [0..],
    }
    struct AlterShareGroupOffsetsRequestTopic<'a> {
        topic_name: &'a str [0..],
        partitions: Vec<AlterShareGroupOffsetsRequestPartition> [0..],
    }
    struct AlterShareGroupOffsetsRequestPartition {
        partition_index: i32 [0..],
        start_offset: i64 [0..],
    }

    /// What became of it.
    response AlterShareGroupOffsetsResponse<'a> = ALTER_SHARE_GROUP_OFFSETS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        responses: Vec<AlterShareGroupOffsetsResponseTopic<'a>> [0..],
    }
    struct AlterShareGroupOffsetsResponseTopic<'a> {
        topic_name: &'a str [0..],
        topic_id: Uuid [0..],
        partitions: Vec<AlterShareGroupOffsetsResponsePartition<'a>> [0..],
    }
    struct AlterShareGroupOffsetsResponsePartition<'a> {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Deletes a share group's offsets.
    request DeleteShareGroupOffsetsRequest<'a> = DELETE_SHARE_GROUP_OFFSETS -> DeleteShareGroupOffsetsResponse<'a> {
        group_id: &'a str [0..],
        topics: Vec<DeleteShareGroupOffsetsRequestTopic<'a>> [0..],
    }
    struct DeleteShareGroupOffsetsRequestTopic<'a> { topic_name: &'a str [0..] }

    /// What became of it.
    response DeleteShareGroupOffsetsResponse<'a> = DELETE_SHARE_GROUP_OFFSETS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        responses: Vec<DeleteShareGroupOffsetsResponseTopic<'a>> [0..],
    }
    struct DeleteShareGroupOffsetsResponseTopic<'a> {
        topic_name: &'a str [0..],
        topic_id: Uuid [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}
