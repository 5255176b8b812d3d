//! Owns the messages that show and change configurations. Descriptions only.

use crate::wire::macros::message;
use crate::wire::ErrorCode;

message! {
    /// Asks for configurations: of given keys, or of all if null.
    request DescribeConfigsRequest<'a> = DESCRIBE_CONFIGS -> DescribeConfigsResponse<'a> {
        resources: Vec<DescribeConfigsResource<'a>> [0..],
        include_synonyms: bool [1..],
        include_documentation: bool [3..],
    }
    struct DescribeConfigsResource<'a> {
        resource_type: i8 [0..],
        resource_name: &'a str [0..],
        configuration_keys: Option<Vec<&'a str>> [0..],
    }

    /// The configurations and where their values come from.
    response DescribeConfigsResponse<'a> = DESCRIBE_CONFIGS {
        throttle_time_ms: i32 [0..],
        results: Vec<DescribeConfigsResult<'a>> [0..],
    }
    struct DescribeConfigsResult<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        resource_type: i8 [0..],
        resource_name: &'a str [0..],
        configs: Vec<DescribeConfigsResourceResult<'a>> [0..],
    }
    struct DescribeConfigsResourceResult<'a> {
        name: &'a str [0..],
        value: Option<&'a str> [0..],
        read_only: bool [0..],
        is_default: bool [0..=0],
        config_source: i8 [1..] = -1,
        is_sensitive: bool [0..],
        synonyms: Vec<DescribeConfigsSynonym<'a>> [1..],
        config_type: i8 [3..],
        documentation: Option<&'a str> [3..],
    }
    struct DescribeConfigsSynonym<'a> {
        name: &'a str [0..],
        value: Option<&'a str> [0..],
        source: i8 [0..],
    }
}

message! {
    /// Replaces configurations as a whole.
    request AlterConfigsRequest<'a> = ALTER_CONFIGS -> AlterConfigsResponse<'a> {
        resources: Vec<AlterConfigsResource<'a>> [0..],
        validate_only: bool [0..],
    }
    struct AlterConfigsResource<'a> {
        resource_type: i8 [0..],
        resource_name: &'a str [0..],
        configs: Vec<AlterConfigsAlterableConfig<'a>> [0..],
    }
    struct AlterConfigsAlterableConfig<'a> { name: &'a str [0..], value: Option<&'a str> [0..] }

    /// What became of it.
    response AlterConfigsResponse<'a> = ALTER_CONFIGS {
        throttle_time_ms: i32 [0..],
        responses: Vec<AlterConfigsResourceResponse<'a>> [0..],
    }
    struct AlterConfigsResourceResponse<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        resource_type: i8 [0..],
        resource_name: &'a str [0..],
    }
}

message! {
    /// Changes single keys of configurations (KIP-339).
    request IncrementalAlterConfigsRequest<'a> = INCREMENTAL_ALTER_CONFIGS -> IncrementalAlterConfigsResponse<'a> {
        resources: Vec<IncrementalAlterConfigsResource<'a>> [0..],
        validate_only: bool [0..],
    }
    struct IncrementalAlterConfigsResource<'a> {
        resource_type: i8 [0..],
        resource_name: &'a str [0..],
        configs: Vec<IncrementalAlterConfigsAlterableConfig<'a>> [0..],
    }
    struct IncrementalAlterConfigsAlterableConfig<'a> {
        name: &'a str [0..],
        config_operation: i8 [0..],
        value: Option<&'a str> [0..],
    }

    /// What became of it.
    response IncrementalAlterConfigsResponse<'a> = INCREMENTAL_ALTER_CONFIGS {
        throttle_time_ms: i32 [0..],
        responses: Vec<AlterConfigsResourceResponse<'a>> [0..],
    }
}

message! {
    /// Lists what has a configuration. Version 0 knew client metrics only and was called
    /// ListClientMetricsResources.
    request ListConfigResourcesRequest = LIST_CONFIG_RESOURCES -> ListConfigResourcesResponse<'a> {
        resource_types: Vec<i8> [1..],
    }

    /// The resources.
    response ListConfigResourcesResponse<'a> = LIST_CONFIG_RESOURCES {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        config_resources: Vec<ConfigResource<'a>> [0..],
    }
    struct ConfigResource<'a> { resource_name: &'a str [0..], resource_type: i8 [1..] = 16 }
}
