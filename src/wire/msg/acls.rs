//! Owns the messages that show and change access rules. Descriptions only.

use crate::wire::macros::message;
use crate::wire::ErrorCode;

message! {
    /// Asks for the access rules that match a filter.
    request DescribeAclsRequest<'a> = DESCRIBE_ACLS -> DescribeAclsResponse<'a> {
        resource_type_filter: i8 [0..],
        resource_name_filter: Option<&'a str> [0..],
        pattern_type_filter: i8 [1..] = 3,
        principal_filter: Option<&'a str> [0..],
        host_filter: Option<&'a str> [0..],
        operation: i8 [0..],
        permission_type: i8 [0..],
    }

    /// The rules.
    response DescribeAclsResponse<'a> = DESCRIBE_ACLS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        resources: Vec<DescribeAclsResource<'a>> [0..],
    }
    struct DescribeAclsResource<'a> {
        resource_type: i8 [0..],
        resource_name: &'a str [0..],
        pattern_type: i8 [1..] = 3,
        acls: Vec<AclDescription<'a>> [0..],
    }
    struct AclDescription<'a> {
        principal: &'a str [0..],
        host: &'a str [0..],
        operation: i8 [0..],
        permission_type: i8 [0..],
    }
}

message! {
    /// Creates access rules.
    request CreateAclsRequest<'a> = CREATE_ACLS -> CreateAclsResponse<'a> {
        creations: Vec<AclCreation<'a>> [0..],
    }
    struct AclCreation<'a> {
        resource_type: i8 [0..],
        resource_name: &'a str [0..],
        resource_pattern_type: i8 [1..] = 3,
        principal: &'a str [0..],
        host: &'a str [0..],
        operation: i8 [0..],
        permission_type: i8 [0..],
    }

    /// What became of it.
    response CreateAclsResponse<'a> = CREATE_ACLS {
        throttle_time_ms: i32 [0..],
        results: Vec<AclCreationResult<'a>> [0..],
    }
    struct AclCreationResult<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
    }
}

message! {
    /// Deletes the access rules that match filters.
    request DeleteAclsRequest<'a> = DELETE_ACLS -> DeleteAclsResponse<'a> {
        filters: Vec<DeleteAclsFilter<'a>> [0..],
    }
    struct DeleteAclsFilter<'a> {
        resource_type_filter: i8 [0..],
        resource_name_filter: Option<&'a str> [0..],
        pattern_type_filter: i8 [1..] = 3,
        principal_filter: Option<&'a str> [0..],
        host_filter: Option<&'a str> [0..],
        operation: i8 [0..],
        permission_type: i8 [0..],
    }

    /// The rules that were deleted.
    response DeleteAclsResponse<'a> = DELETE_ACLS {
        throttle_time_ms: i32 [0..],
        filter_results: Vec<DeleteAclsFilterResult<'a>> [0..],
    }
    struct DeleteAclsFilterResult<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        matching_acls: Vec<DeleteAclsMatchingAcl<'a>> [0..],
    }
    struct DeleteAclsMatchingAcl<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        resource_type: i8 [0..],
        resource_name: &'a str [0..],
        pattern_type: i8 [1..] = 3,
        principal: &'a str [0..],
        host: &'a str [0..],
        operation: i8 [0..],
        permission_type: i8 [0..],
    }
}
