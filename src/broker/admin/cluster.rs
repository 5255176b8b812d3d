//! Owns DescribeCluster.

use super::CLUSTER_OPERATIONS;
use crate::broker::dispatch::Request;
use crate::broker::Broker;
use crate::wire::msg::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse};
use crate::wire::{self, DecodeError, ErrorCode};

/// The kind of endpoint that a client believes it talks to (KIP-919).
mod endpoint {
    pub const BROKERS: i8 = 1;
    pub const CONTROLLERS: i8 = 2;
}

impl Broker {
    pub(in crate::broker) fn describe_cluster(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeClusterRequest = wire::decode_request(req.body, req.to.version)?;
        let refused = match request.endpoint_type {
            endpoint::BROKERS => None,
            endpoint::CONTROLLERS => {
                let why =
                    "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
                Some((ErrorCode::MISMATCHED_ENDPOINT_TYPE, why.to_owned()))
            }
            kind => Some((ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, format!("Unsupported endpoint type {kind}"))),
        };
        if let Some((error_code, why)) = refused {
            self.settings.metrics.request_error(req.to.key, error_code.0);
            let response = DescribeClusterResponse { error_code, error_message: Some(&why), ..Default::default() };
            self.reply(req.to, &response);
            return Ok(());
        }
        let (host, port) = self.advertised(req.to.conn);
        let settings = self.settings.clone();
        let node_id = settings.config.node_id;
        let operations = if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { i32::MIN };
        let response = DescribeClusterResponse {
            cluster_id: &settings.cluster_id,
            controller_id: node_id,
            brokers: vec![DescribeClusterBroker { broker_id: node_id, host: &host, port, ..Default::default() }],
            cluster_authorized_operations: operations,
            ..Default::default()
        };
        self.reply(req.to, &response);
        Ok(())
    }
}
