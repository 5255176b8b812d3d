//! Owns the messages that tell a client what the cluster is: ApiVersions, Metadata, DescribeCluster and their like. Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, Uuid};

message! {
    /// Asks what the broker speaks, as a connection's first request. Says who asks from version 3 on (KIP-511).
    request ApiVersionsRequest<'a> = API_VERSIONS -> ApiVersionsResponse<'a> {
        client_software_name: &'a str [3..],
        client_software_version: &'a str [3..],
        cluster_id: Option<&'a str> [5..],
        node_id: i32 [5..] = -1,
    }

    /// The APIs and versions that the broker speaks, and its features (KIP-584).
    response ApiVersionsResponse<'a> = API_VERSIONS {
        error_code: ErrorCode [0..],
        api_keys: Vec<ApiVersion> [0..],
        throttle_time_ms: i32 [1..],
        supported_features: Vec<SupportedFeatureKey<'a>> [3..] tag 0,
        finalized_features_epoch: i64 [3..] tag 1 = -1,
        finalized_features: Vec<FinalizedFeatureKey<'a>> [3..] tag 2,
        zk_migration_ready: bool [3..] tag 3,
    }
    struct ApiVersion { api_key: i16 [0..], min_version: i16 [0..], max_version: i16 [0..] }
    struct SupportedFeatureKey<'a> {
        name: &'a str [0..],
        min_version: i16 [0..],
        max_version: i16 [0..],
    }
    struct FinalizedFeatureKey<'a> {
        name: &'a str [0..],
        max_version_level: i16 [0..],
        min_version_level: i16 [0..],
    }
}

message! {
    /// Asks about brokers and topics: null is all topics, and in version 0 so is an empty list.
    request MetadataRequest<'a> = METADATA -> MetadataResponse<'a> {
        topics: Option<Vec<MetadataRequestTopic<'a>>> [0..] nullable [1..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }
    struct MetadataRequestTopic<'a> {
        topic_id: Uuid [10..],
        name: Option<&'a str> [0..] nullable [10..],
    }

    /// The brokers, and the topics with their partitions.
    response MetadataResponse<'a> = METADATA {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker<'a>> [0..],
        cluster_id: Option<&'a str> [2..],
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataResponseTopic<'a>> [0..],
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
        error_code: ErrorCode [13..],
    }
    struct MetadataResponseBroker<'a> {
        node_id: i32 [0..],
        host: &'a str [0..],
        port: i32 [0..],
        rack: Option<&'a str> [1..],
    }
    struct MetadataResponseTopic<'a> {
        error_code: ErrorCode [0..],
        name: Option<&'a str> [0..] nullable [12..],
        topic_id: Uuid [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition> [0..],
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }
    struct MetadataResponsePartition {
        error_code: ErrorCode [0..],
        partition_index: i32 [0..],
        leader_id: i32 [0..],
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32> [0..],
        isr_nodes: Vec<i32> [0..],
        offline_replicas: Vec<i32> [5..],
    }
}

message! {
    /// Asks for the cluster's id and nodes (KIP-700).
    request DescribeClusterRequest = DESCRIBE_CLUSTER -> DescribeClusterResponse<'a> {
        include_cluster_authorized_operations: bool [0..],
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    /// The cluster's id and nodes.
    response DescribeClusterResponse<'a> = DESCRIBE_CLUSTER {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        endpoint_type: i8 [1..] = 1,
        cluster_id: &'a str [0..],
        controller_id: i32 [0..] = -1,
        brokers: Vec<DescribeClusterBroker<'a>> [0..],
        cluster_authorized_operations: i32 [0..] = i32::MIN,
    }
    struct DescribeClusterBroker<'a> {
        broker_id: i32 [0..],
        host: &'a str [0..],
        port: i32 [0..],
        rack: Option<&'a str> [0..],
        is_fenced: bool [2..],
    }
}

message! {
    /// Asks about topics in pages, from a cursor on (KIP-966).
    request DescribeTopicPartitionsRequest<'a> = DESCRIBE_TOPIC_PARTITIONS -> DescribeTopicPartitionsResponse<'a> {
        topics: Vec<DescribeTopicPartitionsTopicRequest<'a>> [0..],
        response_partition_limit: i32 [0..] = 2000,
        cursor: Option<Cursor<'a>> [0..],
    }
    struct DescribeTopicPartitionsTopicRequest<'a> { name: &'a str [0..] }
    struct Cursor<'a> { topic_name: &'a str [0..], partition_index: i32 [0..] }

    /// The topics, and the cursor of the next page.
    response DescribeTopicPartitionsResponse<'a> = DESCRIBE_TOPIC_PARTITIONS {
        throttle_time_ms: i32 [0..],
        topics: Vec<DescribeTopicPartitionsResponseTopic<'a>> [0..],
        next_cursor: Option<Cursor<'a>> [0..],
    }
    struct DescribeTopicPartitionsResponseTopic<'a> {
        error_code: ErrorCode [0..],
        name: Option<&'a str> [0..],
        topic_id: Uuid [0..],
        is_internal: bool [0..],
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0..],
        topic_authorized_operations: i32 [0..] = i32::MIN,
    }
    struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode [0..],
        partition_index: i32 [0..],
        leader_id: i32 [0..],
        leader_epoch: i32 [0..] = -1,
        replica_nodes: Vec<i32> [0..],
        isr_nodes: Vec<i32> [0..],
        eligible_leader_replicas: Option<Vec<i32>> [0..],
        last_known_elr: Option<Vec<i32>> [0..],
        offline_replicas: Vec<i32> [0..],
    }
}

message! {
    /// Changes the levels of the cluster's features (KIP-584).
    request UpdateFeaturesRequest<'a> = UPDATE_FEATURES -> UpdateFeaturesResponse<'a> {
        timeout_ms: i32 [0..] = 60000,
        feature_updates: Vec<FeatureUpdateKey<'a>> [0..],
        validate_only: bool [1..],
    }
    struct FeatureUpdateKey<'a> {
        feature: &'a str [0..],
        max_version_level: i16 [0..],
        allow_downgrade: bool [0..=0],
        upgrade_type: i8 [1..] = 1,
    }

    /// What became of the changes.
    response UpdateFeaturesResponse<'a> = UPDATE_FEATURES {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        results: Vec<UpdatableFeatureResult<'a>> [0..=1],
    }
    struct UpdatableFeatureResult<'a> {
        feature: &'a str [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Removes a broker that is gone from the cluster (KIP-631).
    request UnregisterBrokerRequest = UNREGISTER_BROKER -> UnregisterBrokerResponse<'a> {
        broker_id: i32 [0..],
    }

    /// What became of it.
    response UnregisterBrokerResponse<'a> = UNREGISTER_BROKER {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}
