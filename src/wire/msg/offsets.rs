//! Owns the messages that keep the committed offsets of groups. Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, Uuid};

message! {
    /// Commits offsets for a group. Version 0 knows neither member nor generation; topics have ids from version
    /// 10 on.
    request OffsetCommitRequest<'a> = OFFSET_COMMIT -> OffsetCommitResponse<'a> {
        group_id: &'a str [0..],
        generation_id_or_member_epoch: i32 [1..] = -1,
        member_id: &'a str [1..],
        group_instance_id: Option<&'a str> [7..],
        retention_time_ms: i64 [2..=4] = -1,
        topics: Vec<OffsetCommitRequestTopic<'a>> [0..],
    }
    struct OffsetCommitRequestTopic<'a> {
        name: &'a str [0..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitRequestPartition<'a>> [0..],
    }
    struct OffsetCommitRequestPartition<'a> {
        partition_index: i32 [0..],
        committed_offset: i64 [0..],
        committed_leader_epoch: i32 [6..] = -1,
        commit_timestamp: i64 [1..=1] = -1,
        committed_metadata: Option<&'a str> [0..],
    }

    /// What became of it.
    response OffsetCommitResponse<'a> = OFFSET_COMMIT {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic<'a>> [0..],
    }
    struct OffsetCommitResponseTopic<'a> {
        name: &'a str [0..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitResponsePartition> [0..],
    }
    struct OffsetCommitResponsePartition { partition_index: i32 [0..], error_code: ErrorCode [0..] }
}

message! {
    /// Asks for a group's committed offsets, or from version 8 on for those of several groups. Null is all
    /// topics.
    request OffsetFetchRequest<'a> = OFFSET_FETCH -> OffsetFetchResponse<'a> {
        group_id: &'a str [0..=7],
        topics: Option<Vec<OffsetFetchRequestTopic<'a>>> [0..=7] nullable [2..=7],
        groups: Vec<OffsetFetchRequestGroup<'a>> [8..],
        require_stable: bool [7..],
    }
    struct OffsetFetchRequestTopic<'a> { name: &'a str [0..], partition_indexes: Vec<i32> [0..] }
    struct OffsetFetchRequestGroup<'a> {
        group_id: &'a str [0..],
        member_id: Option<&'a str> [9..],
        member_epoch: i32 [9..] = -1,
        topics: Option<Vec<OffsetFetchRequestTopics<'a>>> [0..],
    }
    struct OffsetFetchRequestTopics<'a> {
        name: &'a str [0..=9],
        topic_id: Uuid [10..],
        partition_indexes: Vec<i32> [0..],
    }

    /// The committed offsets; -1 is none.
    response OffsetFetchResponse<'a> = OFFSET_FETCH {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetFetchResponseTopic<'a>> [0..=7],
        error_code: ErrorCode [2..=7],
        groups: Vec<OffsetFetchResponseGroup<'a>> [8..],
    }
    struct OffsetFetchResponseTopic<'a> {
        name: &'a str [0..],
        partitions: Vec<OffsetFetchResponsePartition<'a>> [0..],
    }
    struct OffsetFetchResponsePartition<'a> {
        partition_index: i32 [0..],
        committed_offset: i64 [0..],
        committed_leader_epoch: i32 [5..] = -1,
        metadata: Option<&'a str> [0..],
        error_code: ErrorCode [0..],
    }
    struct OffsetFetchResponseGroup<'a> {
        group_id: &'a str [0..],
        topics: Vec<OffsetFetchResponseTopics<'a>> [0..],
        error_code: ErrorCode [0..],
    }
    struct OffsetFetchResponseTopics<'a> {
        name: &'a str [0..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetFetchResponsePartitions<'a>> [0..],
    }
    struct OffsetFetchResponsePartitions<'a> {
        partition_index: i32 [0..],
        committed_offset: i64 [0..],
        committed_leader_epoch: i32 [0..] = -1,
        metadata: Option<&'a str> [0..],
        error_code: ErrorCode [0..],
    }
}

message! {
    /// Deletes committed offsets of partitions that the group is not subscribed to (KIP-496).
    request OffsetDeleteRequest<'a> = OFFSET_DELETE -> OffsetDeleteResponse<'a> {
        group_id: &'a str [0..],
        topics: Vec<OffsetDeleteRequestTopic<'a>> [0..],
    }
    struct OffsetDeleteRequestTopic<'a> {
        name: &'a str [0..],
        partitions: Vec<OffsetDeleteRequestPartition> [0..],
    }
    struct OffsetDeleteRequestPartition { partition_index: i32 [0..] }

    /// What became of it.
    response OffsetDeleteResponse<'a> = OFFSET_DELETE {
        error_code: ErrorCode [0..],
        throttle_time_ms: i32 [0..],
        topics: Vec<OffsetDeleteResponseTopic<'a>> [0..],
    }
    struct OffsetDeleteResponseTopic<'a> {
        name: &'a str [0..],
        partitions: Vec<OffsetDeleteResponsePartition> [0..],
    }
    struct OffsetDeleteResponsePartition { partition_index: i32 [0..], error_code: ErrorCode [0..] }
}
