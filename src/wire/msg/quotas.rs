//! Owns the messages of client quotas (KIP-546). Descriptions only.

use crate::wire::macros::message;
use crate::wire::ErrorCode;

message! {
    /// Asks for the quotas that match a filter.
    request DescribeClientQuotasRequest<'a> = DESCRIBE_CLIENT_QUOTAS -> DescribeClientQuotasResponse<'a> {
        components: Vec<ComponentData<'a>> [0..],
        strict: bool [0..],
    }
    struct ComponentData<'a> {
        entity_type: &'a str [0..],
        match_type: i8 [0..],
        match_: Option<&'a str> [0..],
    }

    /// The quotas.
    response DescribeClientQuotasResponse<'a> = DESCRIBE_CLIENT_QUOTAS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        entries: Option<Vec<DescribeClientQuotasEntryData<'a>>> [0..],
    }
    struct DescribeClientQuotasEntryData<'a> {
        entity: Vec<EntityData<'a>> [0..],
        values: Vec<ValueData<'a>> [0..],
    }
    struct EntityData<'a> { entity_type: &'a str [0..], entity_name: Option<&'a str> [0..] }
    struct ValueData<'a> { key: &'a str [0..], value: f64 [0..] }
}

message! {
    /// Sets and removes quotas.
    request AlterClientQuotasRequest<'a> = ALTER_CLIENT_QUOTAS -> AlterClientQuotasResponse<'a> {
        entries: Vec<AlterClientQuotasEntryData<'a>> [0..],
        validate_only: bool [0..],
    }
    struct AlterClientQuotasEntryData<'a> {
        entity: Vec<EntityData<'a>> [0..],
        ops: Vec<OpData<'a>> [0..],
    }
    struct OpData<'a> { key: &'a str [0..], value: f64 [0..], remove: bool [0..] }

    /// What became of it.
    response AlterClientQuotasResponse<'a> = ALTER_CLIENT_QUOTAS {
        throttle_time_ms: i32 [0..],
        entries: Vec<AlterClientQuotasResponseEntryData<'a>> [0..],
    }
    struct AlterClientQuotasResponseEntryData<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<&'a str> [0..],
        entity: Vec<EntityData<'a>> [0..],
    }
}
