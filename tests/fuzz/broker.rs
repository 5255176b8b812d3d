//! Owns the fuzzing of the broker: whatever frames clients send, it goes on, answers in order, and serves a good client.
//!
//! The input is a row of frames, each behind two bytes of length; the first of a frame's own bytes chooses the connection.

use std::collections::VecDeque;

use bytes::Bytes;
use chronik::broker::ConnId;
use chronik::wire::batch::BatchBuilder;
use chronik::wire::msg::*;
use chronik::wire::{frame, ApiKey, ErrorCode, RecordSet, RequestHeader, Uuid};

use super::life::{body_of, message, Life};
use super::messages::{every_kind, is_message};
use crate::codec::random::{Maker, Random};
use crate::sim::disk::{Faults, SimDisk};

const CONNECTIONS: usize = 4;
const FRAMES_MAX: usize = 60;

/// A client of the run.
struct Client {
    conn: ConnId,
    /// Requests that were handed in and want answers, oldest first: correlation id, API, version.
    asked: VecDeque<(i32, ApiKey, i16)>,
}

pub fn run(input: &[u8]) {
    let mut life = carried_out(&SimDisk::new(1, Faults::NONE), input);
    good_client(&mut life);
}

/// A life on an empty disk in which clients have sent all this.
pub fn carried_out(disk: &SimDisk, input: &[u8]) -> Life {
    let mut life = Life::start(disk, 1).expect("an empty disk can be opened");
    prelude(&mut life);
    let mut clients: Vec<Client> =
        (0..CONNECTIONS).map(|_| Client { conn: life.connect(), asked: VecDeque::new() }).collect();
    let (mut rest, mut next_id) = (input, 1000);
    for _ in 0..FRAMES_MAX {
        let [high, low, more @ ..] = rest else { break };
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (bytes, after) = more.split_at(len);
        rest = after;
        let Some((&who, bytes)) = bytes.split_first() else { continue };
        next_id += 1;
        send(&mut life, &mut clients[usize::from(who) % CONNECTIONS], bytes, next_id);
        take_answers(&mut life, &mut clients);
    }
    // Everything that waits has its time.
    for _ in 0..4 {
        life.pass_ms(400_000);
        take_answers(&mut life, &mut clients);
    }
    life
}

/// Hands in one frame under a number of its own, if the connection takes it.
fn send(life: &mut Life, client: &mut Client, bytes: &[u8], id: i32) {
    let mut bytes = bytes.to_vec();
    if let Some(correlation) = bytes.get_mut(4..8) {
        correlation.copy_from_slice(&id.to_be_bytes());
    }
    let bytes = Bytes::from(bytes);
    if bytes.len() < 8 {
        // The shell refuses frames as short as this.
        return;
    }
    let asked = RequestHeader::parse(&bytes).ok().map(|(header, body)| (header.api, header.version, body.to_vec()));
    if !life.frame(client.conn, bytes) {
        return;
    }
    let Some((api, version, body)) = asked else { return };
    let wants_answer = api.key != ApiKey::PRODUCE
        || chronik::wire::decode_request::<ProduceRequest<'_>>(&body[..], version)
            .is_ok_and(|request| request.acks != 0);
    if wants_answer {
        client.asked.push_back((id, api.key, version));
    }
}

/// Answers come in the order of the requests, and each is a message of its kind and version.
fn take_answers(life: &mut Life, clients: &mut [Client]) {
    let answers = std::mem::take(&mut life.answers);
    for (conn, whole) in answers {
        let Some(client) = clients.iter_mut().find(|client| client.conn == conn) else { continue };
        let (id, key, version) = client.asked.pop_front().expect("an answer to nothing");
        let api = key.api().expect("the header was read");
        // A version from the future is answered in the oldest (KIP-511).
        let version = if key == ApiKey::API_VERSIONS && !api.describes(version) { 0 } else { version };
        let (correlation_id, body) = body_of(api, version, &whole);
        assert_eq!(correlation_id, id, "{key} is answered out of order");
        assert!(is_message(api, false, version, &body), "the answer of {key} v{version} cannot be read");
    }
    for (conn, _) in std::mem::take(&mut life.closed) {
        if let Some(client) = clients.iter_mut().find(|client| client.conn == conn) {
            *client = Client { conn: life.connect(), asked: VecDeque::new() };
        }
    }
}

/// Topics, a producer's id, records and a group to stumble over.
fn prelude(life: &mut Life) {
    let topic = |name, partitions| CreatableTopic {
        name,
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let created = CreateTopicsRequest {
        topics: vec![topic("orders", 2), topic("other", 1)],
        timeout_ms: 1000,
        ..Default::default()
    };
    life.call(7, &created);
    life.call(
        4,
        &InitProducerIdRequest { transactional_id: Some("tx"), transaction_timeout_ms: 60_000, ..Default::default() },
    );
    for n in 0..3 {
        produce(life, "orders", n % 2).expect("a new topic can be written to");
    }
}

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(super::life::BEGIN_MS, Some(b"key"), Some(b"value"), &[]);
    builder.build().unwrap()
}

/// Appends one record; its offset.
fn produce(life: &mut Life, topic: &str, partition: i32) -> Result<i64, ErrorCode> {
    let batch = batch();
    let data = PartitionProduceData { index: partition, records: RecordSet::Bytes(&batch) };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: topic, partition_data: vec![data], ..Default::default() }],
        ..Default::default()
    };
    let answer = life.call(9, &request);
    let answer: ProduceResponse<'_> = message(&answer, 9);
    let partition = &answer.responses[0].partition_responses[0];
    match partition.error_code.is_none() {
        true => Ok(partition.base_offset),
        false => Err(partition.error_code),
    }
}

/// A client that does nothing wrong is served as if nothing had been.
fn good_client(life: &mut Life) {
    let name = "a-topic-of-its-own";
    let topic = CreatableTopic { name, num_partitions: 1, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let answer = life.call(7, &request);
    let created: CreateTopicsResponse<'_> = message(&answer, 7);
    let code = created.topics[0].error_code;
    if code == ErrorCode::TOPIC_ALREADY_EXISTS || code == ErrorCode::POLICY_VIOLATION {
        // One of the frames made it, or as many partitions as there may be.
        return;
    }
    assert!(code.is_none(), "a topic cannot be made any more: {code}");
    let id: Uuid = created.topics[0].topic_id;
    let offset = produce(life, name, 0).unwrap_or_else(|code| panic!("nothing can be appended any more: {code}"));
    let (found, code) = life.fetch(id, 0);
    assert_eq!((code, found.get(&offset).map(|(last, _)| *last)), (0, Some(offset)));
}

fn framed(who: u8, frame: &[u8]) -> Vec<u8> {
    let len = (frame.len() + 1) as u16;
    [&len.to_be_bytes()[..], &[who], frame].concat()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (n, kind) in every_kind().iter().filter(|kind| kind.is_request).enumerate() {
        let mut row = Vec::new();
        for version in [kind.api.min, kind.api.stable] {
            for seed in 0..2 {
                let flexible = kind.api.is_flexible(version);
                let random = &mut Random((n * 2 + seed) as u64);
                let mut bytes = header(kind.api.key, version, flexible);
                bytes.extend(Maker { random, version, flexible, unknown_tags: false }.message(kind.body()));
                row.extend(framed(n as u8, &bytes));
            }
        }
        seeds.push(row);
    }
    seeds.extend(sensible());
    seeds
}

fn header(key: ApiKey, version: i16, flexible: bool) -> Vec<u8> {
    let mut bytes = [&key.0.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 0, 1, b'c']].concat();
    if flexible {
        bytes.push(0);
    }
    bytes
}

/// Rows of requests that mean something together.
fn sensible() -> Vec<Vec<u8>> {
    let records = batch();
    let data = |index| PartitionProduceData { index, records: RecordSet::Bytes(&records) };
    let produce = ProduceRequest {
        acks: 1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: "orders",
            partition_data: vec![data(0), data(1)],
            ..Default::default()
        }],
        ..Default::default()
    };
    let wanted =
        FetchPartition { partition: 0, partition_max_bytes: 1000, current_leader_epoch: -1, ..Default::default() };
    let fetch = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic { topic: "orders", partitions: vec![wanted], ..Default::default() }],
        session_epoch: -1,
        ..Default::default()
    };
    let join = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol {
            name: "range",
            metadata: &[0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        }],
        ..Default::default()
    };
    let beat = ConsumerGroupHeartbeatRequest {
        group_id: "h",
        member_id: "m",
        rebalance_timeout_ms: 1000,
        subscribed_topic_names: Some(vec!["orders"]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let share = ShareGroupHeartbeatRequest {
        group_id: "s",
        member_id: "m",
        subscribed_topic_names: Some(vec!["orders"]),
        ..Default::default()
    };
    let partition = |topic| AddPartitionsToTxnTopic { name: topic, partitions: vec![0] };
    let add = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "tx",
        v3_and_below_producer_id: 0,
        v3_and_below_producer_epoch: 0,
        v3_and_below_topics: vec![partition("orders")],
        ..Default::default()
    };
    let end = EndTxnRequest { transactional_id: "tx", producer_id: 0, producer_epoch: 0, committed: true };
    let one = |frame: Vec<u8>| framed(0, &frame[4..]);
    let request = |bytes: Vec<u8>| one(bytes);
    vec![
        [request(frame::request(7, 1, None, &produce).bytes), request(frame::request(9, 1, None, &produce).bytes)]
            .concat(),
        [request(frame::request(4, 1, None, &fetch).bytes), request(frame::request(12, 1, None, &fetch).bytes)]
            .concat(),
        [request(frame::request(2, 1, None, &join).bytes), request(frame::request(9, 1, None, &join).bytes)].concat(),
        [request(frame::request(0, 1, None, &beat).bytes), request(frame::request(1, 1, None, &beat).bytes)].concat(),
        request(frame::request(1, 1, None, &share).bytes),
        [request(frame::request(3, 1, None, &add).bytes), request(frame::request(3, 1, None, &end).bytes)].concat(),
        [
            request(frame::request(3, 1, None, &ApiVersionsRequest::default()).bytes),
            framed(1, &[0, 18, 0, 99, 0, 0, 0, 1, 0, 0, 0]),
        ]
        .concat(),
    ]
}
