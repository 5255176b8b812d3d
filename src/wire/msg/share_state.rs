//! Owns the messages that keep the state of share groups (KIP-932). Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, Uuid};

message! {
    /// Begins the state of share partitions.
    request InitializeShareGroupStateRequest<'a> = INITIALIZE_SHARE_GROUP_STATE -> InitializeShareGroupStateResponse<'a> {
        group_id: &'a str [0..],
        topics: Vec<InitializeStateData> [0..],
    }
    struct InitializeStateData {
        topic_id: Uuid [0..],
        partitions: Vec<InitializeShareGroupStatePartitionData> [0..],
    }
    struct InitializeShareGroupStatePartitionData {
        partition: i32 [0..],
        state_epoch: i32 [0..],
        start_offset: i64 [0..],
    }

    /// What became of it.
    response InitializeShareGroupStateResponse<'a> = INITIALIZE_SHARE_GROUP_STATE {
        results: Vec<InitializeStateResult<'a>> [0..],
    }
    struct InitializeStateResult<'a> {
        topic_id: Uuid [0..],
        partitions: Vec<InitializeShareGroupStatePartitionResult<'a>> [0..],
    }
    struct InitializeShareGroupStatePartitionResult<'a> {
        partition: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Reads the state of share partitions.
    request ReadShareGroupStateRequest<'a> = READ_SHARE_GROUP_STATE -> ReadShareGroupStateResponse<'a> {
        group_id: &'a str [0..],
        topics: Vec<ReadStateData> [0..],
    }
    struct ReadStateData {
        topic_id: Uuid [0..],
        partitions: Vec<ReadShareGroupStatePartitionData> [0..],
    }
    struct ReadShareGroupStatePartitionData { partition: i32 [0..], leader_epoch: i32 [0..] }

    /// The state.
    response ReadShareGroupStateResponse<'a> = READ_SHARE_GROUP_STATE {
        results: Vec<ReadStateResult<'a>> [0..],
    }
    struct ReadStateResult<'a> {
        topic_id: Uuid [0..],
        partitions: Vec<ReadShareGroupStatePartitionResult<'a>> [0..],
    }
    struct ReadShareGroupStatePartitionResult<'a> {
        partition: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        state_epoch: i32 [0..],
        start_offset: i64 [0..],
        state_batches: Vec<StateBatch> [0..],
    }
    struct StateBatch {
        first_offset: i64 [0..],
        last_offset: i64 [0..],
        delivery_state: i8 [0..],
        delivery_count: i16 [0..],
    }
}

message! {
    /// Writes the state of share partitions.
    request WriteShareGroupStateRequest<'a> = WRITE_SHARE_GROUP_STATE -> WriteShareGroupStateResponse<'a> {
        group_id: &'a str [0..],
        topics: Vec<WriteStateData> [0..],
    }
    struct WriteStateData {
        topic_id: Uuid [0..],
        partitions: Vec<WriteShareGroupStatePartitionData> [0..],
    }
    struct WriteShareGroupStatePartitionData {
        partition: i32 [0..],
        state_epoch: i32 [0..],
        leader_epoch: i32 [0..],
        start_offset: i64 [0..],
        delivery_complete_count: i32 [1..] = -1,
        state_batches: Vec<StateBatch> [0..],
    }

    /// What became of it.
    response WriteShareGroupStateResponse<'a> = WRITE_SHARE_GROUP_STATE {
        results: Vec<WriteStateResult<'a>> [0..],
    }
    struct WriteStateResult<'a> {
        topic_id: Uuid [0..],
        partitions: Vec<WriteShareGroupStatePartitionResult<'a>> [0..],
    }
    struct WriteShareGroupStatePartitionResult<'a> {
        partition: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Deletes the state of share partitions.
    request DeleteShareGroupStateRequest<'a> = DELETE_SHARE_GROUP_STATE -> DeleteShareGroupStateResponse<'a> {
        group_id: &'a str [0..],
        topics: Vec<DeleteStateData> [0..],
    }
    struct DeleteStateData {
        topic_id: Uuid [0..],
        partitions: Vec<DeleteShareGroupStatePartitionData> [0..],
    }
    struct DeleteShareGroupStatePartitionData { partition: i32 [0..] }

    /// What became of it.
    response DeleteShareGroupStateResponse<'a> = DELETE_SHARE_GROUP_STATE {
        results: Vec<DeleteStateResult<'a>> [0..],
    }
    struct DeleteStateResult<'a> {
        topic_id: Uuid [0..],
        partitions: Vec<DeleteShareGroupStatePartitionResult<'a>> [0..],
    }
    struct DeleteShareGroupStatePartitionResult<'a> {
        partition: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Reads where share partitions start, without their batches.
    request ReadShareGroupStateSummaryRequest<'a> = READ_SHARE_GROUP_STATE_SUMMARY -> ReadShareGroupStateSummaryResponse<'a> {
        group_id: &'a str [0..],
        topics: Vec<ReadStateSummaryData> [0..],
    }
    struct ReadStateSummaryData {
        topic_id: Uuid [0..],
        partitions: Vec<ReadShareGroupStateSummaryPartitionData> [0..],
    }
    struct ReadShareGroupStateSummaryPartitionData { partition: i32 [0..], leader_epoch: i32 [0..] }

    /// The starts.
    response ReadShareGroupStateSummaryResponse<'a> = READ_SHARE_GROUP_STATE_SUMMARY {
        results: Vec<ReadStateSummaryResult<'a>> [0..],
    }
    struct ReadStateSummaryResult<'a> {
        topic_id: Uuid [0..],
        partitions: Vec<ReadShareGroupStateSummaryPartitionResult<'a>> [0..],
    }
    struct ReadShareGroupStateSummaryPartitionResult<'a> {
        partition: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        state_epoch: i32 [0..],
        leader_epoch: i32 [0..],
        start_offset: i64 [0..],
        delivery_complete_count: i32 [1..] = -1,
    }
}
