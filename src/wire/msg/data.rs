//! Owns the messages that carry and find records: Produce, Fetch, ListOffsets, OffsetForLeaderEpoch, DeleteRecords. Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, RecordSet, Uuid};

message! {
    /// Appends record data to partitions. From version 13 on topics are named by id (KIP-516).
    request ProduceRequest<'a> = PRODUCE -> ProduceResponse<'a> {
        transactional_id: Option<&'a str> [3..],
        acks: i16 [0..],
        timeout_ms: i32 [0..],
        topic_data: Vec<TopicProduceData<'a>> [0..],
    }
    struct TopicProduceData<'a> {
        name: &'a str [0..=12],
        topic_id: Uuid [13..],
        partition_data: Vec<PartitionProduceData<'a>> [0..],
    }
    struct PartitionProduceData<'a> { index: i32 [0..], records: RecordSet<'a> [0..] }

    /// Where the record data went, or why it did not; a request with `acks` 0 gets none.
    response ProduceResponse<'a> = PRODUCE {
        responses: Vec<TopicProduceResponse<'a>> [0..],
        throttle_time_ms: i32 [1..],
        node_endpoints: Vec<NodeEndpoint<'a>> [10..] tag 0,
    }
    struct TopicProduceResponse<'a> {
        name: &'a str [0..=12],
        topic_id: Uuid [13..],
        partition_responses: Vec<PartitionProduceResponse<'a>> [0..],
    }
    struct PartitionProduceResponse<'a> {
        index: i32 [0..],
        error_code: ErrorCode [0..],
        base_offset: i64 [0..],
        log_append_time_ms: i64 [2..] = -1,
        log_start_offset: i64 [5..] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage<'a>> [8..],
        error_message: Option<&'a str> [8..],
        current_leader: ProduceLeaderIdAndEpoch [10..] tag 0,
    }
    struct BatchIndexAndErrorMessage<'a> {
        batch_index: i32 [0..],
        batch_index_error_message: Option<&'a str> [0..],
    }
    struct ProduceLeaderIdAndEpoch { leader_id: i32 [0..] = -1, leader_epoch: i32 [0..] = -1 }
    struct NodeEndpoint<'a> {
        node_id: i32 [0..],
        host: &'a str [0..],
        port: i32 [0..],
        rack: Option<&'a str> [0..],
    }
}

message! {
    /// Reads record data, waiting for it up to `max_wait_ms`. Sessions (KIP-227) begin with version 7, topic ids
    /// (KIP-516) with 13.
    request FetchRequest<'a> = FETCH -> FetchResponse<'a> {
        cluster_id: Option<&'a str> [12..] tag 0,
        replica_id: i32 [0..=14] = -1,
        replica_state: FetchReplicaState [15..] tag 1,
        max_wait_ms: i32 [0..],
        min_bytes: i32 [0..],
        max_bytes: i32 [3..] = i32::MAX,
        isolation_level: i8 [4..],
        session_id: i32 [7..],
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic<'a>> [0..],
        forgotten_topics_data: Vec<FetchForgottenTopic<'a>> [7..],
        rack_id: &'a str [11..],
    }
    struct FetchReplicaState { replica_id: i32 [0..] = -1, replica_epoch: i64 [0..] = -1 }
    struct FetchTopic<'a> {
        topic: &'a str [0..=12],
        topic_id: Uuid [13..],
        partitions: Vec<FetchPartition> [0..],
    }
    struct FetchPartition {
        partition: i32 [0..],
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64 [0..],
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5..] = -1,
        partition_max_bytes: i32 [0..],
        replica_directory_id: Uuid [17..] tag 0,
        high_watermark: i64 [18..] tag 1 = i64::MAX,
    }
    struct FetchForgottenTopic<'a> {
        topic: &'a str [0..=12],
        topic_id: Uuid [13..],
        partitions: Vec<i32> [0..],
    }

    /// The record data, as much as the request's limits allow.
    response FetchResponse<'a> = FETCH {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [7..],
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse<'a>> [0..],
        node_endpoints: Vec<NodeEndpoint<'a>> [16..] tag 0,
    }
    struct FetchableTopicResponse<'a> {
        topic: &'a str [0..=12],
        topic_id: Uuid [13..],
        partitions: Vec<FetchPartitionData<'a>> [0..],
    }
    struct FetchPartitionData<'a> {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        high_watermark: i64 [0..],
        last_stable_offset: i64 [4..] = -1,
        log_start_offset: i64 [5..] = -1,
        diverging_epoch: FetchEpochEndOffset [12..] tag 0,
        current_leader: FetchLeaderIdAndEpoch [12..] tag 1,
        snapshot_id: SnapshotId [12..] tag 2,
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..],
        preferred_read_replica: i32 [11..] = -1,
        records: RecordSet<'a> [0..],
    }
    struct FetchEpochEndOffset { epoch: i32 [0..] = -1, end_offset: i64 [0..] = -1 }
    struct FetchLeaderIdAndEpoch { leader_id: i32 [0..] = -1, leader_epoch: i32 [0..] = -1 }
    struct SnapshotId { end_offset: i64 [0..] = -1, epoch: i32 [0..] = -1 }
    struct AbortedTransaction { producer_id: i64 [0..], first_offset: i64 [0..] }
}

message! {
    /// Finds offsets by timestamp: the first record at or after it, or what a negative number stands for.
    request ListOffsetsRequest<'a> = LIST_OFFSETS -> ListOffsetsResponse<'a> {
        replica_id: i32 [0..],
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic<'a>> [0..],
        timeout_ms: i32 [10..],
    }
    struct ListOffsetsTopic<'a> { name: &'a str [0..], partitions: Vec<ListOffsetsPartition> [0..] }
    struct ListOffsetsPartition {
        partition_index: i32 [0..],
        current_leader_epoch: i32 [4..] = -1,
        timestamp: i64 [0..],
        max_num_offsets: i32 [0..=0] = 1,
    }

    /// The offsets found. Version 0 gives a list of segment starts, later ones a single offset.
    response ListOffsetsResponse<'a> = LIST_OFFSETS {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse<'a>> [0..],
    }
    struct ListOffsetsTopicResponse<'a> {
        name: &'a str [0..],
        partitions: Vec<ListOffsetsPartitionResponse> [0..],
    }
    struct ListOffsetsPartitionResponse {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        old_style_offsets: Vec<i64> [0..=0],
        timestamp: i64 [1..] = -1,
        offset: i64 [1..] = -1,
        leader_epoch: i32 [4..] = -1,
    }
}

message! {
    /// Asks where leader epochs ended, so that a client notices truncation (KIP-320).
    request OffsetForLeaderEpochRequest<'a> = OFFSET_FOR_LEADER_EPOCH -> OffsetForLeaderEpochResponse<'a> {
        replica_id: i32 [3..] = -2,
        topics: Vec<OffsetForLeaderTopic<'a>> [0..],
    }
    struct OffsetForLeaderTopic<'a> {
        topic: &'a str [0..],
        partitions: Vec<OffsetForLeaderPartition> [0..],
    }
    struct OffsetForLeaderPartition {
        partition: i32 [0..],
        current_leader_epoch: i32 [2..] = -1,
        leader_epoch: i32 [0..],
    }

    /// The ends of the epochs.
    response OffsetForLeaderEpochResponse<'a> = OFFSET_FOR_LEADER_EPOCH {
        throttle_time_ms: i32 [2..],
        topics: Vec<OffsetForLeaderTopicResult<'a>> [0..],
    }
    struct OffsetForLeaderTopicResult<'a> {
        topic: &'a str [0..],
        partitions: Vec<OffsetForLeaderEpochEndOffset> [0..],
    }
    struct OffsetForLeaderEpochEndOffset {
        error_code: ErrorCode [0..],
        partition: i32 [0..],
        leader_epoch: i32 [1..] = -1,
        end_offset: i64 [0..] = -1,
    }
}

message! {
    /// Deletes all records before an offset; -1 stands for the high watermark.
    request DeleteRecordsRequest<'a> = DELETE_RECORDS -> DeleteRecordsResponse<'a> {
        topics: Vec<DeleteRecordsTopic<'a>> [0..],
        timeout_ms: i32 [0..],
    }
    struct DeleteRecordsTopic<'a> {
        name: &'a str [0..],
        partitions: Vec<DeleteRecordsPartition> [0..],
    }
    struct DeleteRecordsPartition { partition_index: i32 [0..], offset: i64 [0..] }

    /// The partitions' new first offsets.
    response DeleteRecordsResponse<'a> = DELETE_RECORDS {
        throttle_time_ms: i32 [0..],
        topics: Vec<DeleteRecordsTopicResult<'a>> [0..],
    }
    struct DeleteRecordsTopicResult<'a> {
        name: &'a str [0..],
        partitions: Vec<DeleteRecordsPartitionResult> [0..],
    }
    struct DeleteRecordsPartitionResult {
        partition_index: i32 [0..],
        low_watermark: i64 [0..],
        error_code: ErrorCode [0..],
    }
}
