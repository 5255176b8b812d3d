//! Owns GetTelemetrySubscriptions and PushTelemetry (KIP-714). As in a Kafka without a telemetry plugin they are not
//! advertised, and answered all the same: no metrics are asked for, and what is pushed is dropped.

use crate::broker::dispatch::Request;
use crate::broker::Broker;
use crate::wire::msg::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, PushTelemetryRequest, PushTelemetryResponse,
};
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

/// Kafka's default interval between two pushes.
const PUSH_INTERVAL_MS: i32 = 300_000;

/// Kafka's default for `telemetry.max.bytes`.
const TELEMETRY_BYTES_MAX: i32 = 1 << 20;

/// Kafka's numbers of zstd, lz4, gzip and snappy, in its order of preference.
const COMPRESSIONS: [i8; 4] = [4, 3, 1, 2];

impl Broker {
    pub(in crate::broker) fn get_telemetry_subscriptions(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: GetTelemetrySubscriptionsRequest = wire::decode_request(req.body, req.to.version)?;
        let client_instance_id = match request.client_instance_id.is_zero() {
            true => self.rng.uuid(),
            false => request.client_instance_id,
        };
        let response = GetTelemetrySubscriptionsResponse {
            client_instance_id,
            subscription_id: subscription_id(client_instance_id),
            accepted_compression_types: COMPRESSIONS.to_vec(),
            push_interval_ms: PUSH_INTERVAL_MS,
            telemetry_max_bytes: TELEMETRY_BYTES_MAX,
            delta_temporality: true,
            ..Default::default()
        };
        self.reply_after(0, req.to, &response);
        Ok(())
    }

    pub(in crate::broker) fn push_telemetry(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: PushTelemetryRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let error_code = if request.client_instance_id.is_zero() {
            ErrorCode::INVALID_REQUEST
        } else if request.subscription_id != subscription_id(request.client_instance_id) {
            ErrorCode::UNKNOWN_SUBSCRIPTION_ID
        } else if !(0..=4).contains(&request.compression_type) {
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        } else if request.metrics.len() > TELEMETRY_BYTES_MAX as usize {
            ErrorCode::TELEMETRY_TOO_LARGE
        } else {
            ErrorCode::NONE
        };
        if error_code.is_error() {
            self.settings.metrics.request_error(req.to.key, error_code.0);
        }
        self.reply_after(0, req.to, &PushTelemetryResponse { error_code, ..Default::default() });
        Ok(())
    }
}

/// The number of a client's subscription, which is the same each time: there is nothing that it could change with.
fn subscription_id(client: Uuid) -> i32 {
    crc32c::crc32c(&client.0) as i32
}
