//! Owns `chronik cluster`: what the brokers say about themselves.

use super::failure::{Failure, OK};
use super::output::safe;
use super::parse::Args;
use super::value::{object, Value};
use super::Session;
use crate::wire::msg::{ApiVersionsRequest, ApiVersionsResponse, MetadataResponse};

/// `chronik cluster info`.
pub fn info(session: &mut Session, _: &Args) -> Result<u8, Failure> {
    let mut cluster = session.connect()?;
    let reply = cluster.metadata(None)?;
    let metadata: MetadataResponse<'_> = reply.decode()?;
    let request = ApiVersionsRequest {
        client_software_name: "chronik",
        client_software_version: env!("CARGO_PKG_VERSION"),
        ..Default::default()
    };
    let features_reply = cluster.any().call(&request)?;
    let features: ApiVersionsResponse<'_> = features_reply.decode()?;
    let levels = || features.finalized_features.iter().map(|feature| (feature.name, feature.max_version_level));
    let partitions: usize = metadata.topics.iter().map(|topic| topic.partitions.len()).sum();
    if session.out.is_json() {
        let brokers = metadata.brokers.iter().map(|broker| {
            object([
                ("id", broker.node_id.into()),
                ("host", broker.host.into()),
                ("port", broker.port.into()),
                ("rack", broker.rack.map(str::to_owned).into()),
                ("controller", (broker.node_id == metadata.controller_id).into()),
            ])
        });
        session.out.json(&object([
            ("cluster_id", metadata.cluster_id.map(str::to_owned).into()),
            ("controller_id", metadata.controller_id.into()),
            ("topics", metadata.topics.len().into()),
            ("partitions", partitions.into()),
            ("brokers", Value::List(brokers.collect())),
            ("features", Value::Map(levels().map(|(name, level)| (name.to_owned(), level.into())).collect())),
        ]))?;
        return Ok(OK);
    }
    let out = &mut session.out;
    out.line(&format!("cluster     {}", safe(metadata.cluster_id.unwrap_or("-"))))?;
    out.line(&format!("controller  {}", metadata.controller_id))?;
    out.line(&format!("topics      {}", metadata.topics.len()))?;
    out.line(&format!("partitions  {partitions}"))?;
    let shown: Vec<String> = levels().map(|(name, level)| format!("{}={level}", safe(name))).collect();
    if !shown.is_empty() {
        out.line(&format!("features    {}", shown.join(" ")))?;
    }
    out.line("")?;
    let row = |broker: &crate::wire::msg::MetadataResponseBroker<'_>| {
        vec![broker.node_id.to_string(), safe(broker.host), broker.port.to_string(), safe(broker.rack.unwrap_or("-"))]
    };
    let rows: Vec<Vec<String>> = metadata.brokers.iter().map(row).collect();
    out.table(&["BROKER", "HOST", "PORT", "RACK"], &rows)?;
    Ok(OK)
}
