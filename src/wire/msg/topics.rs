//! Owns the messages that create and delete topics and partitions. Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, Uuid};

message! {
    /// Creates topics, or only checks whether they could be created.
    request CreateTopicsRequest<'a> = CREATE_TOPICS -> CreateTopicsResponse<'a> {
        topics: Vec<CreatableTopic<'a>> [0..],
        timeout_ms: i32 [0..] = 60000,
        validate_only: bool [1..],
    }
    struct CreatableTopic<'a> {
        name: &'a str [0..],
        num_partitions: i32 [0..],
        replication_factor: i16 [0..],
        assignments: Vec<CreatableReplicaAssignment> [0..],
        configs: Vec<CreatableTopicConfig<'a>> [0..],
    }
    struct CreatableReplicaAssignment { partition_index: i32 [0..], broker_ids: Vec<i32> [0..] }
    struct CreatableTopicConfig<'a> { name: &'a str [0..], value: Option<&'a str> [0..] }

    /// What became of it, from version 5 on with the new topics' configurations (KIP-525).
    response CreateTopicsResponse<'a> = CREATE_TOPICS {
        throttle_time_ms: i32 [2..],
        topics: Vec<CreatableTopicResult<'a>> [0..],
    }
    struct CreatableTopicResult<'a> {
        name: &'a str [0..],
        topic_id: Uuid [7..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [1..],
        topic_config_error_code: ErrorCode [5..] tag 0,
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs<'a>>> [5..],
    }
    struct CreatableTopicConfigs<'a> {
        name: &'a str [0..],
        value: Option<&'a str> [0..],
        read_only: bool [0..],
        config_source: i8 [0..] = -1,
        is_sensitive: bool [0..],
    }
}

message! {
    /// Deletes topics, by name, or from version 6 on by id as well.
    request DeleteTopicsRequest<'a> = DELETE_TOPICS -> DeleteTopicsResponse<'a> {
        topics: Vec<DeleteTopicState<'a>> [6..],
        topic_names: Vec<&'a str> [0..=5],
        timeout_ms: i32 [0..],
    }
    struct DeleteTopicState<'a> { name: Option<&'a str> [0..], topic_id: Uuid [0..] }

    /// What became of it.
    response DeleteTopicsResponse<'a> = DELETE_TOPICS {
        throttle_time_ms: i32 [1..],
        responses: Vec<DeletableTopicResult<'a>> [0..],
    }
    struct DeletableTopicResult<'a> {
        name: Option<&'a str> [0..] nullable [6..],
        topic_id: Uuid [6..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [5..],
    }
}

message! {
    /// Adds partitions to topics.
    request CreatePartitionsRequest<'a> = CREATE_PARTITIONS -> CreatePartitionsResponse<'a> {
        topics: Vec<CreatePartitionsTopic<'a>> [0..],
        timeout_ms: i32 [0..],
        validate_only: bool [0..],
    }
    struct CreatePartitionsTopic<'a> {
        name: &'a str [0..],
        count: i32 [0..],
        assignments: Option<Vec<CreatePartitionsAssignment>> [0..],
    }
    struct CreatePartitionsAssignment { broker_ids: Vec<i32> [0..] }

    /// What became of it.
    response CreatePartitionsResponse<'a> = CREATE_PARTITIONS {
        throttle_time_ms: i32 [0..],
        results: Vec<CreatePartitionsTopicResult<'a>> [0..],
    }
    struct CreatePartitionsTopicResult<'a> {
        name: &'a str [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}
