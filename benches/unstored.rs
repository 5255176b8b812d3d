//! Owns a server that acknowledges what is produced without storing or looking at it: what the client, the network layer and the codec
//! leave room for at most, to hold the real server against.
//!
//!     cargo bench --bench unstored -- --port N [--partitions N]
//!
//! It has every topic that is asked for, with so many partitions (6), and serves a producer only, until it is killed.
//! `scripts/measure` uses it.

#[path = "shell/mod.rs"]
mod shell;

use std::net::SocketAddr;

use bytes::Bytes;
use chronik::broker::Response;
use chronik::sys::socket;
use chronik::wire::msg::*;
use chronik::wire::{self, frame, Api, ApiKey, ErrorCode, Message, RequestHeader, Uuid};
use shell::Answering;

/// What a producer needs.
const SERVED: [&Api; 4] =
    [ProduceRequest::API, MetadataRequest::API, ApiVersionsRequest::API, InitProducerIdRequest::API];
const NODE: i32 = 1;

struct Unstored {
    port: u16,
    partitions: i32,
}

impl Answering for Unstored {
    fn answer(&mut self, frame: &Bytes) -> Response {
        let (header, body) = RequestHeader::parse(frame).expect("a request that the codec knows");
        let head = match header.api.key {
            ApiKey::PRODUCE => produce(&header, body),
            ApiKey::METADATA => self.metadata(&header, body),
            ApiKey::INIT_PRODUCER_ID => {
                let answer = InitProducerIdResponse { producer_id: 1, producer_epoch: 0, ..Default::default() };
                frame::response(header.version, header.correlation_id, &answer).bytes
            }
            ApiKey::API_VERSIONS => versions(&header),
            _ => panic!("{} is not served", header.api.name),
        };
        Response { head, inserts: Vec::new() }
    }
}

impl Unstored {
    fn metadata(&self, header: &RequestHeader<'_>, body: &[u8]) -> Vec<u8> {
        let request: MetadataRequest<'_> = wire::decode_request(body, header.version).expect("a request");
        let partition = |index| MetadataResponsePartition {
            partition_index: index,
            leader_id: NODE,
            leader_epoch: 0,
            replica_nodes: vec![NODE],
            isr_nodes: vec![NODE],
            ..Default::default()
        };
        let asked = request.topics.unwrap_or_default();
        let named: Vec<_> = asked.iter().filter_map(|topic| Some((topic.name?, topic_id(topic.name?)))).collect();
        let topics = named.iter().map(|(name, topic_id)| MetadataResponseTopic {
            name: Some(name),
            topic_id: *topic_id,
            partitions: (0..self.partitions).map(partition).collect(),
            ..Default::default()
        });
        let answer = MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: NODE,
                host: "127.0.0.1",
                port: self.port.into(),
                rack: None,
            }],
            cluster_id: Some("unstored"),
            controller_id: NODE,
            topics: topics.collect(),
            ..Default::default()
        };
        frame::response(header.version, header.correlation_id, &answer).bytes
    }
}

/// The same for the same name.
fn topic_id(name: &str) -> Uuid {
    let mut id = [1; 16];
    name.bytes().enumerate().for_each(|(at, byte)| id[at % 16] ^= byte);
    Uuid(id)
}

fn produce(header: &RequestHeader<'_>, body: &[u8]) -> Vec<u8> {
    let request: ProduceRequest<'_> = wire::decode_request(body, header.version).expect("a request");
    let answered = |topic: &TopicProduceData<'_>| {
        topic
            .partition_data
            .iter()
            .map(|partition| PartitionProduceResponse { index: partition.index, ..Default::default() })
            .collect()
    };
    let topics = request.topic_data.iter().map(|topic| TopicProduceResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partition_responses: answered(topic),
    });
    let answer = ProduceResponse { responses: topics.collect(), ..Default::default() };
    frame::response(header.version, header.correlation_id, &answer).bytes
}

fn versions(header: &RequestHeader<'_>) -> Vec<u8> {
    let known = header.api.describes(header.version) && header.version <= header.api.stable;
    let api_keys =
        SERVED.iter().map(|api| ApiVersion { api_key: api.key.0, min_version: api.min, max_version: api.stable });
    let answer = ApiVersionsResponse {
        error_code: if known { ErrorCode::NONE } else { ErrorCode::UNSUPPORTED_VERSION },
        api_keys: api_keys.collect(),
        ..Default::default()
    };
    frame::response(if known { header.version } else { 0 }, header.correlation_id, &answer).bytes
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        Some(words.get(at + 1)?.parse().expect("a number"))
    };
    let Some(port) = number("--port") else {
        println!("unstored: serves until it is killed, on --port N");
        return;
    };
    let port = u16::try_from(port).expect("a port");
    let listener = socket::listen(SocketAddr::from(([127, 0, 0, 1], port))).expect("a free port");
    let unstored = Unstored { port, partitions: number("--partitions").unwrap_or(6) };
    shell::serve(listener, unstored, |_| eprintln!("Kafka protocol on 127.0.0.1:{port}"));
}
