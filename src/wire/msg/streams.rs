//! Owns the messages of streams groups (KIP-1071). Descriptions only.

use crate::wire::macros::message;
use crate::wire::ErrorCode;

use super::groups::TopicPartition;

message! {
    /// Joins, stays in or leaves a streams group, with the topology and the tasks.
    request StreamsGroupHeartbeatRequest<'a> = STREAMS_GROUP_HEARTBEAT -> StreamsGroupHeartbeatResponse<'a> {
        group_id: &'a str [0..],
        member_id: &'a str [0..],
        member_epoch: i32 [0..],
        endpoint_information_epoch: i32 [0..],
        instance_id: Option<&'a str> [0..],
        rack_id: Option<&'a str> [0..],
        rebalance_timeout_ms: i32 [0..] = -1,
        topology: Option<StreamsGroupHeartbeatTopology<'a>> [0..],
        active_tasks: Option<Vec<TaskIds<'a>>> [0..],
        standby_tasks: Option<Vec<TaskIds<'a>>> [0..],
        warmup_tasks: Option<Vec<TaskIds<'a>>> [0..],
        process_id: Option<&'a str> [0..],
        user_endpoint: Option<Endpoint<'a>> [0..],
        client_tags: Option<Vec<KeyValue<'a>>> [0..],
        task_offsets: Option<Vec<TaskOffset<'a>>> [0..],
        task_end_offsets: Option<Vec<TaskOffset<'a>>> [0..],
        shutdown_application: bool [0..],
    }
    struct StreamsGroupHeartbeatTopology<'a> {
        epoch: i32 [0..],
        subtopologies: Vec<StreamsGroupHeartbeatSubtopology<'a>> [0..],
    }
    struct StreamsGroupHeartbeatSubtopology<'a> {
        subtopology_id: &'a str [0..],
        source_topics: Vec<&'a str> [0..],
        source_topic_regex: Vec<&'a str> [0..],
        state_changelog_topics: Vec<TopicInfo<'a>> [0..],
        repartition_sink_topics: Vec<&'a str> [0..],
        repartition_source_topics: Vec<TopicInfo<'a>> [0..],
        copartition_groups: Vec<CopartitionGroup> [0..],
    }
    struct TopicInfo<'a> {
        name: &'a str [0..],
        partitions: i32 [0..],
        replication_factor: i16 [0..],
        topic_configs: Vec<KeyValue<'a>> [0..],
    }
    struct KeyValue<'a> { key: &'a str [0..], value: &'a str [0..] }
    struct CopartitionGroup {
        source_topics: Vec<i16> [0..],
        source_topic_regex: Vec<i16> [0..],
        repartition_source_topics: Vec<i16> [0..],
    }
    struct TaskIds<'a> { subtopology_id: &'a str [0..], partitions: Vec<i32> [0..] }
    struct Endpoint<'a> { host: &'a str [0..], port: u16 [0..] }
    struct TaskOffset<'a> { subtopology_id: &'a str [0..], partition: i32 [0..], offset: i64 [0..] }

    /// The member's epoch and tasks.
    response StreamsGroupHeartbeatResponse<'a> = STREAMS_GROUP_HEARTBEAT {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        member_id: &'a str [0..],
        member_epoch: i32 [0..],
        heartbeat_interval_ms: i32 [0..],
        acceptable_recovery_lag_legacy: i32 [0..=0],
        task_offset_interval_ms: i32 [0..],
        acceptable_recovery_lag: i64 [1..] = -1,
        status: Option<Vec<Status<'a>>> [0..],
        active_tasks: Option<Vec<TaskIds<'a>>> [0..],
        standby_tasks: Option<Vec<TaskIds<'a>>> [0..],
        warmup_tasks: Option<Vec<TaskIds<'a>>> [0..],
        topology_description_required: bool [1..],
        endpoint_information_epoch: i32 [0..],
        partitions_by_user_endpoint: Option<Vec<EndpointToPartitions<'a>>> [0..],
    }
    struct Status<'a> { status_code: i8 [0..], status_detail: &'a str [0..] }
    struct EndpointToPartitions<'a> {
        user_endpoint: Endpoint<'a> [0..],
        active_partitions: Vec<TopicPartition<'a>> [0..],
        standby_partitions: Vec<TopicPartition<'a>> [0..],
    }
}

message! {
    /// Asks about streams groups.
    request StreamsGroupDescribeRequest<'a> = STREAMS_GROUP_DESCRIBE -> StreamsGroupDescribeResponse<'a> {
        group_ids: Vec<&'a str> [0..],
        include_authorized_operations: bool [0..],
        include_topology_description: bool [1..],
    }

    /// The groups, their topologies and members.
    response StreamsGroupDescribeResponse<'a> = STREAMS_GROUP_DESCRIBE {
        throttle_time_ms: i32 [0..],
        groups: Vec<StreamsGroupDescribedGroup<'a>> [0..],
    }
    struct StreamsGroupDescribedGroup<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        group_id: &'a str [0..],
        group_state: &'a str [0..],
        group_epoch: i32 [0..],
        assignment_epoch: i32 [0..],
        topology: Option<StreamsGroupDescribeTopology<'a>> [0..],
        members: Vec<StreamsGroupDescribeMember<'a>> [0..],
        authorized_operations: i32 [0..] = i32::MIN,
        topology_description: Option<TopologyDescription<'a>> [1..],
        topology_description_status: i8 [1..],
        assignor_name: Option<&'a str> [1..],
    }
    struct StreamsGroupDescribeTopology<'a> {
        epoch: i32 [0..],
        subtopologies: Option<Vec<StreamsGroupDescribeSubtopology<'a>>> [0..],
    }
    struct StreamsGroupDescribeSubtopology<'a> {
        subtopology_id: &'a str [0..],
        source_topics: Vec<&'a str> [0..],
        repartition_sink_topics: Vec<&'a str> [0..],
        state_changelog_topics: Vec<TopicInfo<'a>> [0..],
        repartition_source_topics: Vec<TopicInfo<'a>> [0..],
    }
    struct StreamsGroupDescribeMember<'a> {
        member_id: &'a str [0..],
        member_epoch: i32 [0..],
        instance_id: Option<&'a str> [0..],
        rack_id: Option<&'a str> [0..],
        client_id: &'a str [0..],
        client_host: &'a str [0..],
        topology_epoch: i32 [0..],
        process_id: &'a str [0..],
        user_endpoint: Option<Endpoint<'a>> [0..],
        client_tags: Vec<KeyValue<'a>> [0..],
        task_offsets: Vec<TaskOffset<'a>> [0..],
        task_end_offsets: Vec<TaskOffset<'a>> [0..],
        assignment: StreamsGroupDescribeAssignment<'a> [0..],
        target_assignment: StreamsGroupDescribeAssignment<'a> [0..],
        is_classic: bool [0..],
    }
    struct StreamsGroupDescribeAssignment<'a> {
        active_tasks: Vec<TaskIds<'a>> [0..],
        standby_tasks: Vec<TaskIds<'a>> [0..],
        warmup_tasks: Vec<TaskIds<'a>> [0..],
    }
    struct TopologyDescription<'a> {
        subtopologies: Vec<TopologyDescriptionSubtopology<'a>> [0..],
        global_stores: Vec<TopologyDescriptionGlobalStore<'a>> [0..],
    }
    struct TopologyDescriptionSubtopology<'a> {
        subtopology_id: &'a str [0..],
        nodes: Vec<TopologyDescriptionNode<'a>> [0..],
    }
    struct TopologyDescriptionNode<'a> {
        name: &'a str [0..],
        node_type: i8 [0..],
        source_topics: Vec<&'a str> [0..],
        sink_topic: Option<&'a str> [0..],
        stores: Vec<&'a str> [0..],
        successors: Vec<&'a str> [0..],
    }
    struct TopologyDescriptionGlobalStore<'a> {
        source: TopologyDescriptionNode<'a> [0..],
        processor: TopologyDescriptionNode<'a> [0..],
    }
}

message! {
    /// Tells what a topology looks like, for people.
    request StreamsGroupTopologyDescriptionUpdateRequest<'a> = STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE -> StreamsGroupTopologyDescriptionUpdateResponse<'a> {
        group_id: &'a str [0..],
        member_id: &'a str [0..],
        topology_epoch: i32 [0..],
        topology_description: TopologyDescription<'a> [0..],
    }

    /// What became of it.
    response StreamsGroupTopologyDescriptionUpdateResponse<'a> = STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}
