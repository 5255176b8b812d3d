//! Owns the messages of consumer groups, classic (JoinGroup and its like) and new (KIP-848), and what members tell each other. Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, Uuid};

message! {
    /// Asks which broker coordinates a group (key type 0), a transactional id (1) or a share group (2).
    request FindCoordinatorRequest<'a> = FIND_COORDINATOR -> FindCoordinatorResponse<'a> {
        key: &'a str [0..=3],
        key_type: i8 [1..],
        coordinator_keys: Vec<&'a str> [4..],
    }

    /// The coordinator, or from version 4 on one for each key.
    response FindCoordinatorResponse<'a> = FIND_COORDINATOR {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..=3],
        error_message: Option<&'a str> [1..=3],
        node_id: i32 [0..=3],
        host: &'a str [0..=3],
        port: i32 [0..=3],
        coordinators: Vec<Coordinator<'a>> [4..],
    }
    struct Coordinator<'a> {
        key: &'a str [0..],
        node_id: i32 [0..],
        host: &'a str [0..],
        port: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Joins a group, or joins it again (KIP-62; static members since KIP-345).
    request JoinGroupRequest<'a> = JOIN_GROUP -> JoinGroupResponse<'a> {
        group_id: &'a str [0..],
        session_timeout_ms: i32 [0..],
        rebalance_timeout_ms: i32 [1..] = -1,
        member_id: &'a str [0..],
        group_instance_id: Option<&'a str> [5..],
        protocol_type: &'a str [0..],
        protocols: Vec<JoinGroupRequestProtocol<'a>> [0..],
        reason: Option<&'a str> [8..],
    }
    struct JoinGroupRequestProtocol<'a> { name: &'a str [0..], metadata: &'a [u8] [0..] }

    /// The new generation; the leader also learns the members.
    response JoinGroupResponse<'a> = JOIN_GROUP {
        throttle_time_ms: i32 [2..],
        error_code: ErrorCode [0..],
        generation_id: i32 [0..] = -1,
        protocol_type: Option<&'a str> [7..],
        protocol_name: Option<&'a str> [0..] nullable [7..],
        leader: &'a str [0..],
        skip_assignment: bool [9..],
        member_id: &'a str [0..],
        members: Vec<JoinGroupResponseMember<'a>> [0..],
    }
    struct JoinGroupResponseMember<'a> {
        member_id: &'a str [0..],
        group_instance_id: Option<&'a str> [5..],
        metadata: &'a [u8] [0..],
    }
}

message! {
    /// Asks for the member's assignment; the leader's request carries all of them.
    request SyncGroupRequest<'a> = SYNC_GROUP -> SyncGroupResponse<'a> {
        group_id: &'a str [0..],
        generation_id: i32 [0..],
        member_id: &'a str [0..],
        group_instance_id: Option<&'a str> [3..],
        protocol_type: Option<&'a str> [5..],
        protocol_name: Option<&'a str> [5..],
        assignments: Vec<SyncGroupRequestAssignment<'a>> [0..],
    }
    struct SyncGroupRequestAssignment<'a> { member_id: &'a str [0..], assignment: &'a [u8] [0..] }

    /// The member's assignment.
    response SyncGroupResponse<'a> = SYNC_GROUP {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
        protocol_type: Option<&'a str> [5..],
        protocol_name: Option<&'a str> [5..],
        assignment: &'a [u8] [0..],
    }
}

message! {
    /// Keeps a member's session alive.
    request HeartbeatRequest<'a> = HEARTBEAT -> HeartbeatResponse {
        group_id: &'a str [0..],
        generation_id: i32 [0..],
        member_id: &'a str [0..],
        group_instance_id: Option<&'a str> [3..],
    }

    /// Whether the member is still in the group's generation.
    response HeartbeatResponse = HEARTBEAT {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
    }
}

message! {
    /// Leaves a group: one member up to version 2, several ones after it.
    request LeaveGroupRequest<'a> = LEAVE_GROUP -> LeaveGroupResponse<'a> {
        group_id: &'a str [0..],
        member_id: &'a str [0..=2],
        members: Vec<MemberIdentity<'a>> [3..],
    }
    struct MemberIdentity<'a> {
        member_id: &'a str [0..],
        group_instance_id: Option<&'a str> [0..],
        reason: Option<&'a str> [5..],
    }

    /// What became of it.
    response LeaveGroupResponse<'a> = LEAVE_GROUP {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
        members: Vec<MemberResponse<'a>> [3..],
    }
    struct MemberResponse<'a> {
        member_id: &'a str [0..],
        group_instance_id: Option<&'a str> [0..],
        error_code: ErrorCode [0..],
    }
}

message! {
    /// Asks about classic groups.
    request DescribeGroupsRequest<'a> = DESCRIBE_GROUPS -> DescribeGroupsResponse<'a> {
        groups: Vec<&'a str> [0..],
        include_authorized_operations: bool [3..],
    }

    /// The groups and their members.
    response DescribeGroupsResponse<'a> = DESCRIBE_GROUPS {
        throttle_time_ms: i32 [1..],
        groups: Vec<DescribeGroupsDescribedGroup<'a>> [0..],
    }
    struct DescribeGroupsDescribedGroup<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [6..],
        group_id: &'a str [0..],
        group_state: &'a str [0..],
        protocol_type: &'a str [0..],
        protocol_data: &'a str [0..],
        members: Vec<DescribedGroupMember<'a>> [0..],
        authorized_operations: i32 [3..] = i32::MIN,
    }
    struct DescribedGroupMember<'a> {
        member_id: &'a str [0..],
        group_instance_id: Option<&'a str> [4..],
        client_id: &'a str [0..],
        client_host: &'a str [0..],
        member_metadata: &'a [u8] [0..],
        member_assignment: &'a [u8] [0..],
    }
}

message! {
    /// Lists groups, by state and type if asked so (KIP-518, KIP-848).
    request ListGroupsRequest<'a> = LIST_GROUPS -> ListGroupsResponse<'a> {
        states_filter: Vec<&'a str> [4..],
        types_filter: Vec<&'a str> [5..],
    }

    /// The groups.
    response ListGroupsResponse<'a> = LIST_GROUPS {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
        groups: Vec<ListedGroup<'a>> [0..],
    }
    struct ListedGroup<'a> {
        group_id: &'a str [0..],
        protocol_type: &'a str [0..],
        group_state: &'a str [4..],
        group_type: &'a str [5..],
    }
}

message! {
    /// Deletes groups without members, and their offsets.
    request DeleteGroupsRequest<'a> = DELETE_GROUPS -> DeleteGroupsResponse<'a> {
        groups_names: Vec<&'a str> [0..],
    }

    /// What became of it.
    response DeleteGroupsResponse<'a> = DELETE_GROUPS {
        throttle_time_ms: i32 [0..],
        results: Vec<DeletableGroupResult<'a>> [0..],
    }
    struct DeletableGroupResult<'a> {
        group_id: &'a str [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [3..],
    }
}

message! {
    /// Joins, stays in or leaves a group whose assignment the broker makes (KIP-848).
    request ConsumerGroupHeartbeatRequest<'a> = CONSUMER_GROUP_HEARTBEAT -> ConsumerGroupHeartbeatResponse<'a> {
        group_id: &'a str [0..],
        member_id: &'a str [0..],
        member_epoch: i32 [0..],
        instance_id: Option<&'a str> [0..],
        rack_id: Option<&'a str> [0..],
        rebalance_timeout_ms: i32 [0..] = -1,
        subscribed_topic_names: Option<Vec<&'a str>> [0..],
        subscribed_topic_regex: Option<&'a str> [1..],
        server_assignor: Option<&'a str> [0..],
        topic_partitions: Option<Vec<ConsumerGroupHeartbeatTopicPartitions>> [0..],
    }
    struct ConsumerGroupHeartbeatTopicPartitions {
        topic_id: Uuid [0..],
        partitions: Vec<i32> [0..],
    }

    /// The member's epoch and assignment.
    response ConsumerGroupHeartbeatResponse<'a> = CONSUMER_GROUP_HEARTBEAT {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        member_id: Option<&'a str> [0..],
        member_epoch: i32 [0..],
        heartbeat_interval_ms: i32 [0..],
        assignment: Option<ConsumerGroupHeartbeatAssignment> [0..],
    }
    struct ConsumerGroupHeartbeatAssignment {
        topic_partitions: Vec<ConsumerGroupHeartbeatTopicPartitions> [0..],
    }
}

message! {
    /// Asks about groups whose assignment the broker makes (KIP-848).
    request ConsumerGroupDescribeRequest<'a> = CONSUMER_GROUP_DESCRIBE -> ConsumerGroupDescribeResponse<'a> {
        group_ids: Vec<&'a str> [0..],
        include_authorized_operations: bool [0..],
    }

    /// The groups and their members.
    response ConsumerGroupDescribeResponse<'a> = CONSUMER_GROUP_DESCRIBE {
        throttle_time_ms: i32 [0..],
        groups: Vec<ConsumerGroupDescribedGroup<'a>> [0..],
    }
    struct ConsumerGroupDescribedGroup<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        group_id: &'a str [0..],
        group_state: &'a str [0..],
        group_epoch: i32 [0..],
        assignment_epoch: i32 [0..],
        assignor_name: &'a str [0..],
        members: Vec<ConsumerGroupDescribeMember<'a>> [0..],
        authorized_operations: i32 [0..] = i32::MIN,
    }
    struct ConsumerGroupDescribeMember<'a> {
        member_id: &'a str [0..],
        instance_id: Option<&'a str> [0..],
        rack_id: Option<&'a str> [0..],
        member_epoch: i32 [0..],
        client_id: &'a str [0..],
        client_host: &'a str [0..],
        subscribed_topic_names: Vec<&'a str> [0..],
        subscribed_topic_regex: Option<&'a str> [0..],
        assignment: ConsumerGroupDescribeAssignment<'a> [0..],
        target_assignment: ConsumerGroupDescribeAssignment<'a> [0..],
        member_type: i8 [1..] = -1,
    }
    struct ConsumerGroupDescribeAssignment<'a> {
        topic_partitions: Vec<ConsumerGroupDescribeTopicPartitions<'a>> [0..],
    }
    struct ConsumerGroupDescribeTopicPartitions<'a> {
        topic_id: Uuid [0..],
        topic_name: &'a str [0..],
        partitions: Vec<i32> [0..],
    }
}

message! {
    /// What a consumer tells the group's leader, inside JoinGroup's metadata, after a 2-byte version; never
    /// flexible.
    struct ConsumerProtocolSubscription<'a> {
        topics: Vec<&'a str> [0..],
        user_data: Option<&'a [u8]> [0..],
        owned_partitions: Vec<TopicPartition<'a>> [1..],
        generation_id: i32 [2..] = -1,
        rack_id: Option<&'a str> [3..],
    }
    struct TopicPartition<'a> { topic: &'a str [0..], partitions: Vec<i32> [0..] }
}

message! {
    /// What the group's leader gives a consumer, inside SyncGroup's assignment, after a 2-byte version; never
    /// flexible.
    struct ConsumerProtocolAssignment<'a> {
        assigned_partitions: Vec<TopicPartition<'a>> [0..],
        user_data: Option<&'a [u8]> [0..],
    }
}
