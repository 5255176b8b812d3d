//! Owns the messages of client metrics (KIP-714). Descriptions only.

use crate::wire::macros::message;
use crate::wire::{ErrorCode, Uuid};

message! {
    /// Asks which metrics the client should push.
    request GetTelemetrySubscriptionsRequest = GET_TELEMETRY_SUBSCRIPTIONS -> GetTelemetrySubscriptionsResponse<'a> {
        client_instance_id: Uuid [0..],
    }

    /// The metrics asked for, and how often.
    response GetTelemetrySubscriptionsResponse<'a> = GET_TELEMETRY_SUBSCRIPTIONS {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        client_instance_id: Uuid [0..],
        subscription_id: i32 [0..],
        accepted_compression_types: Vec<i8> [0..],
        push_interval_ms: i32 [0..],
        telemetry_max_bytes: i32 [0..],
        delta_temporality: bool [0..],
        requested_metrics: Vec<&'a str> [0..],
    }
}

message! {
    /// Pushes metrics.
    request PushTelemetryRequest<'a> = PUSH_TELEMETRY -> PushTelemetryResponse {
        client_instance_id: Uuid [0..],
        subscription_id: i32 [0..],
        terminating: bool [0..],
        compression_type: i8 [0..],
        metrics: &'a [u8] [0..],
    }

    /// What became of it.
    response PushTelemetryResponse = PUSH_TELEMETRY {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
    }
}
