//! Owns the tests of transactions: what a producer is told, what readers see, and what is still so after a restart.

mod administrators;
mod bounds;
mod coordinator;
mod fencing;
mod files;
mod offsets;
mod protocols;
mod reads;
mod recovery;
mod resets;
mod timeouts;

use std::collections::BTreeMap;

use chronik::wire::batch::{batches, records, BatchBuilder};
use chronik::wire::control::EndMarker;
use chronik::wire::msg::*;
use chronik::wire::{ErrorCode, RecordSet, Uuid};

use crate::harness::Harness;

/// Versions of Produce, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit and EndTxn that a client uses together.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    produce: i16,
    add_partitions: i16,
    add_offsets: i16,
    offset_commit: i16,
    end: i16,
}

/// A client that knows transactions as they were before KIP-890.
const CLASSIC: Protocol = Protocol { produce: 9, add_partitions: 3, add_offsets: 3, offset_commit: 3, end: 3 };
/// A client of `transaction.version` 2: partitions are added by Produce, and the epoch rises with each transaction.
const NEW: Protocol = Protocol { produce: 12, add_partitions: 5, add_offsets: 4, offset_commit: 5, end: 5 };

impl Protocol {
    fn adds_by_itself(self) -> bool {
        self.produce >= 12
    }
}

/// A transactional producer as a client library would be one.
#[derive(Clone, Debug)]
struct Producer {
    transactional_id: String,
    protocol: Protocol,
    id: i64,
    epoch: i16,
    /// The next sequence number for each partition.
    sequences: BTreeMap<(String, i32), i32>,
}

impl Producer {
    /// A producer that has got its id and epoch.
    fn init(h: &mut Harness, transactional_id: &str, protocol: Protocol) -> Producer {
        let (error, id, epoch) = init(h, 5, transactional_id, None);
        assert_eq!(error, ErrorCode::NONE);
        let transactional_id = transactional_id.to_owned();
        Producer { transactional_id, protocol, id, epoch, sequences: BTreeMap::new() }
    }

    /// Sends one batch, after adding its partition where the protocol wants that; its offset.
    fn send(&mut self, h: &mut Harness, topic: &str, partition: i32, values: &[&str]) -> Result<i64, ErrorCode> {
        if !self.protocol.adds_by_itself() {
            let error = self.add(h, topic, partition);
            if error != ErrorCode::NONE {
                return Err(error);
            }
        }
        self.send_only(h, topic, partition, values)
    }

    /// Sends one batch.
    fn send_only(&mut self, h: &mut Harness, topic: &str, partition: i32, values: &[&str]) -> Result<i64, ErrorCode> {
        let next = self.sequences.entry((topic.to_owned(), partition)).or_default();
        let batch = batch(Some((self.id, self.epoch, *next)), true, values);
        let result = produce(h, self.protocol.produce, Some(&self.transactional_id), topic, partition, &batch);
        if result.is_ok() {
            *next += values.len() as i32;
        }
        result
    }

    fn add(&self, h: &mut Harness, topic: &str, partition: i32) -> ErrorCode {
        add_partition(h, self.protocol.add_partitions, self, topic, partition)
    }

    /// Commits an offset of a group as part of the transaction.
    fn commit_offset(
        &self,
        h: &mut Harness,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), ErrorCode> {
        if !self.protocol.adds_by_itself() {
            let error = add_group(h, self.protocol.add_offsets, self, group);
            if error != ErrorCode::NONE {
                return Err(error);
            }
        }
        match txn_commit(h, self.protocol.offset_commit, self, group, topic, partition, offset) {
            ErrorCode::NONE => Ok(()),
            error => Err(error),
        }
    }

    /// Commits or aborts, and goes on with what the answer says.
    fn end(&mut self, h: &mut Harness, committed: bool) -> ErrorCode {
        let (error, id, epoch) = end(h, self.protocol.end, self, committed);
        if error == ErrorCode::NONE && self.protocol.end >= 5 {
            (self.id, self.epoch) = (id, epoch);
            self.sequences.clear();
        }
        error
    }
}

fn create_topic(h: &mut Harness, name: &str, partitions: i32) -> Uuid {
    let topic = CreatableTopic { name, num_partitions: partitions, replication_factor: -1, ..Default::default() };
    let answer = h.call(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    let created = answer.decode::<CreateTopicsResponse<'_>>().topics.remove(0);
    assert_eq!(created.error_code, ErrorCode::NONE, "{:?}", created.error_message);
    created.topic_id
}

fn delete_topic(h: &mut Harness, name: &str) {
    let topics = vec![DeleteTopicState { name: Some(name), ..Default::default() }];
    let answer = h.call(6, &DeleteTopicsRequest { topics, timeout_ms: 1000, ..Default::default() });
    assert_eq!(answer.decode::<DeleteTopicsResponse<'_>>().responses[0].error_code, ErrorCode::NONE);
}

/// InitProducerId with a timeout of a minute: error, producer id, epoch.
fn init(h: &mut Harness, version: i16, transactional_id: &str, expected: Option<(i64, i16)>) -> (ErrorCode, i64, i16) {
    init_with_timeout(h, version, transactional_id, expected, 60_000)
}

fn init_with_timeout(
    h: &mut Harness,
    version: i16,
    transactional_id: &str,
    expected: Option<(i64, i16)>,
    transaction_timeout_ms: i32,
) -> (ErrorCode, i64, i16) {
    let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
    let request = InitProducerIdRequest {
        transactional_id: Some(transactional_id),
        transaction_timeout_ms,
        producer_id,
        producer_epoch,
        ..Default::default()
    };
    let answer = h.call(version, &request);
    let response: InitProducerIdResponse = answer.decode();
    (response.error_code, response.producer_id, response.producer_epoch)
}

/// A batch of a producer (id, epoch, first sequence number).
fn batch(producer: Option<(i64, i16, i32)>, transactional: bool, values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    if transactional {
        builder = builder.transactional();
    }
    for value in values {
        builder.push(1_700_000_000_000, None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

fn produce(
    h: &mut Harness,
    version: i16,
    transactional_id: Option<&str>,
    topic: &str,
    partition: i32,
    batch: &[u8],
) -> Result<i64, ErrorCode> {
    let data = PartitionProduceData { index: partition, records: RecordSet::Bytes(batch) };
    let topic_data = vec![TopicProduceData { name: topic, partition_data: vec![data], ..Default::default() }];
    let request = ProduceRequest { transactional_id, acks: -1, timeout_ms: 1000, topic_data };
    let answer = h.call(version, &request);
    let response: ProduceResponse<'_> = answer.decode();
    let part = &response.responses[0].partition_responses[0];
    match part.error_code {
        ErrorCode::NONE => Ok(part.base_offset),
        error => Err(error),
    }
}

fn add_partition(h: &mut Harness, version: i16, producer: &Producer, topic: &str, partition: i32) -> ErrorCode {
    add_partitions(h, version, producer, &[(topic, partition)], false)[0]
}

fn add_partitions(
    h: &mut Harness,
    version: i16,
    producer: &Producer,
    partitions: &[(&str, i32)],
    verify_only: bool,
) -> Vec<ErrorCode> {
    let topics: Vec<_> = partitions
        .iter()
        .map(|(name, partition)| AddPartitionsToTxnTopic { name, partitions: vec![*partition] })
        .collect();
    let transactional_id = producer.transactional_id.as_str();
    let request = if version < 4 {
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: transactional_id,
            v3_and_below_producer_id: producer.id,
            v3_and_below_producer_epoch: producer.epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        }
    } else {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            verify_only,
            topics,
        };
        AddPartitionsToTxnRequest { transactions: vec![transaction], ..Default::default() }
    };
    let answer = h.call(version, &request);
    let response: AddPartitionsToTxnResponse<'_> = answer.decode();
    let topics = match version {
        0..=3 => &response.results_by_topic_v3_and_below,
        _ => &response.results_by_transaction[0].topic_results,
    };
    topics.iter().flat_map(|t| &t.results_by_partition).map(|p| p.partition_error_code).collect()
}

fn add_group(h: &mut Harness, version: i16, producer: &Producer, group_id: &str) -> ErrorCode {
    let request = AddOffsetsToTxnRequest {
        transactional_id: &producer.transactional_id,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        group_id,
    };
    h.call(version, &request).decode::<AddOffsetsToTxnResponse>().error_code
}

fn txn_commit_request<'a>(
    producer: &'a Producer,
    group_id: &'a str,
    topic: &'a str,
    partition: i32,
    offset: i64,
) -> TxnOffsetCommitRequest<'a> {
    let partition = TxnOffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        committed_metadata: Some("m"),
        ..Default::default()
    };
    TxnOffsetCommitRequest {
        transactional_id: &producer.transactional_id,
        group_id,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        topics: vec![TxnOffsetCommitRequestTopic { name: topic, partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    }
}

fn txn_commit(
    h: &mut Harness,
    version: i16,
    producer: &Producer,
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> ErrorCode {
    let answer = h.call(version, &txn_commit_request(producer, group, topic, partition, offset));
    let response: TxnOffsetCommitResponse<'_> = answer.decode();
    response.topics[0].partitions[0].error_code
}

/// EndTxn: error, producer id, epoch.
fn end(h: &mut Harness, version: i16, producer: &Producer, committed: bool) -> (ErrorCode, i64, i16) {
    let request = end_request(producer, committed);
    let answer = h.call(version, &request);
    let response: EndTxnResponse = answer.decode();
    (response.error_code, response.producer_id, response.producer_epoch)
}

fn end_request(producer: &Producer, committed: bool) -> EndTxnRequest<'_> {
    EndTxnRequest {
        transactional_id: &producer.transactional_id,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        committed,
    }
}

/// What a fetch tells of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fetched {
    high_watermark: i64,
    stable: i64,
    /// Producer id and first offset.
    aborted: Vec<(i64, i64)>,
    /// Offset and value of each record that is data, whether aborted or not.
    data: Vec<(i64, String)>,
    /// Offset, and whether it is a commit, of each marker.
    markers: Vec<(i64, bool)>,
}

impl Fetched {
    /// The values that a consumer hands on: what is left when the batches of aborted transactions are passed over.
    fn committed(&self, bytes: &[u8]) -> Vec<String> {
        let mut values = Vec::new();
        let mut aborting: BTreeMap<i64, ()> = BTreeMap::new();
        let mut coming = self.aborted.clone();
        coming.sort_by_key(|(_, first)| *first);
        for batch in batches(bytes).map(|batch| batch.unwrap()) {
            while coming.first().is_some_and(|(_, first)| *first <= batch.header.last_offset()) {
                aborting.insert(coming.remove(0).0, ());
            }
            if let Some(marker) = EndMarker::of(&batch) {
                if !marker.committed {
                    aborting.remove(&marker.producer_id);
                }
            } else if !batch.header.is_transactional() || !aborting.contains_key(&batch.header.producer_id) {
                let mut scratch = Vec::new();
                let each = records(&batch, &mut scratch, 1 << 20).unwrap();
                values.extend(each.map(|r| String::from_utf8_lossy(r.unwrap().value.unwrap_or(b"")).into_owned()));
            }
        }
        values
    }
}

fn fetch_request(topic: &str, partition: i32, offset: i64, isolation_level: i8) -> FetchRequest<'_> {
    let partition = FetchPartition {
        partition,
        fetch_offset: offset,
        current_leader_epoch: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 1 << 20,
        isolation_level,
        topics: vec![FetchTopic { topic, partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    }
}

fn read_response(response: &FetchResponse<'_>) -> (Fetched, Vec<u8>) {
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::NONE);
    let bytes = data.records.bytes().to_vec();
    let aborted = data.aborted_transactions.iter().flatten().map(|txn| (txn.producer_id, txn.first_offset));
    let mut fetched = Fetched {
        high_watermark: data.high_watermark,
        stable: data.last_stable_offset,
        aborted: aborted.collect(),
        data: Vec::new(),
        markers: Vec::new(),
    };
    for batch in batches(&bytes).map(|batch| batch.unwrap()) {
        if let Some(marker) = EndMarker::of(&batch) {
            fetched.markers.push((batch.header.base_offset, marker.committed));
            continue;
        }
        let mut scratch = Vec::new();
        for record in records(&batch, &mut scratch, 1 << 20).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8_lossy(record.value.unwrap_or(b"")).into_owned();
            fetched.data.push((record.offset(&batch.header), value));
        }
    }
    (fetched, bytes)
}

fn fetch(h: &mut Harness, topic: &str, partition: i32, offset: i64, isolation_level: i8) -> (Fetched, Vec<u8>) {
    let answer = h.call(11, &fetch_request(topic, partition, offset, isolation_level));
    read_response(&answer.decode())
}

/// Everything that a reader of committed records is handed from the partition's beginning.
fn committed(h: &mut Harness, topic: &str, partition: i32) -> Vec<String> {
    let (mut values, mut offset) = (Vec::new(), 0);
    loop {
        let (fetched, bytes) = fetch(h, topic, partition, offset, 1);
        let Some(last) = batches(&bytes).map(|batch| batch.unwrap().header.last_offset()).last() else {
            return values;
        };
        values.extend(fetched.committed(&bytes));
        offset = last + 1;
    }
}

/// The last stable offset and the high watermark.
fn ends(h: &mut Harness, topic: &str, partition: i32) -> (i64, i64) {
    let (fetched, _) = fetch(h, topic, partition, 0, 0);
    (fetched.stable, fetched.high_watermark)
}

/// Every marker of a partition.
fn markers(h: &mut Harness, topic: &str, partition: i32) -> Vec<(i64, bool)> {
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let (fetched, bytes) = fetch(h, topic, partition, offset, 0);
        let Some(last) = batches(&bytes).map(|batch| batch.unwrap().header.last_offset()).last() else {
            return found;
        };
        found.extend(fetched.markers);
        offset = last + 1;
    }
}

/// A group's offset for a partition, with the error that it comes with; `stable` asks to be told of pending ones.
fn committed_offset(h: &mut Harness, group_id: &str, name: &str, partition: i32, stable: bool) -> (ErrorCode, i64) {
    let topic = OffsetFetchRequestTopics { name, partition_indexes: vec![partition], ..Default::default() };
    let group = OffsetFetchRequestGroup { group_id, topics: Some(vec![topic]), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], require_stable: stable, ..Default::default() };
    let answer = h.call(8, &request);
    let response: OffsetFetchResponse<'_> = answer.decode();
    let found = &response.groups[0].topics[0].partitions[0];
    (found.error_code, found.committed_offset)
}

/// State, producer id and epoch of a transactional id, by DescribeTransactions.
fn described(h: &mut Harness, transactional_id: &str) -> (ErrorCode, String, i64, i16) {
    let answer = h.call(0, &DescribeTransactionsRequest { transactional_ids: vec![transactional_id] });
    let response: DescribeTransactionsResponse<'_> = answer.decode();
    let state = &response.transaction_states[0];
    (state.error_code, state.transaction_state.to_owned(), state.producer_id, state.producer_epoch)
}
