//! Owns the tests of Fetch and of what stands beside it, as a client sees them. What is expected is what a Kafka 4.3.1
//! answered to the same requests, unless a test says otherwise.

mod limits;
mod odd;
mod sessions;
mod tiers;
mod topics;

use chronik::broker::ConnId;
use chronik::wire::batch::{batches, BatchBuilder};
use chronik::wire::msg::*;
use chronik::wire::{ErrorCode, RecordSet, Uuid};

use crate::harness::{Answer, Harness};

/// Bytes of a batch that `produce` writes.
const BATCH: i32 = 171;

const ZERO: Uuid = Uuid([0; 16]);
const UNKNOWN: Uuid = Uuid([7; 16]);

fn create(h: &mut Harness, name: &str, num_partitions: i32) -> Uuid {
    let topic = CreatableTopic { name, num_partitions, replication_factor: 1, ..Default::default() };
    let answer = h.call(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    let created = answer.decode::<CreateTopicsResponse<'_>>().topics.remove(0);
    assert_eq!(created.error_code, ErrorCode::NONE, "{:?}", created.error_message);
    created.topic_id
}

fn delete(h: &mut Harness, name: &str) {
    let topic = DeleteTopicState { name: Some(name), ..Default::default() };
    let answer = h.call(6, &DeleteTopicsRequest { topics: vec![topic], ..Default::default() });
    assert_eq!(answer.decode::<DeleteTopicsResponse<'_>>().responses[0].error_code, ErrorCode::NONE);
}

/// Writes one batch with one record.
fn produce(h: &mut Harness, name: &str, partition: i32) {
    let mut batch = BatchBuilder::new();
    batch.push(h.now.wall_ms, Some(b"k"), Some(&[b'x'; 100]), &[]);
    let bytes = batch.build().unwrap();
    assert_eq!(bytes.len(), BATCH as usize);
    let data = PartitionProduceData { index: partition, records: RecordSet::Bytes(&bytes) };
    let topic_data = vec![TopicProduceData { name, partition_data: vec![data], ..Default::default() }];
    let answer = h.call(9, &ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() });
    let response: ProduceResponse<'_> = answer.decode();
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

/// A partition of a request: number, offset and limit.
fn part(partition: i32, fetch_offset: i64, partition_max_bytes: i32) -> FetchPartition {
    FetchPartition { partition, fetch_offset, partition_max_bytes, ..Default::default() }
}

/// A Fetch request that is being put together, and what tells its answer.
#[derive(Clone)]
struct Fetch<'a> {
    version: i16,
    request: FetchRequest<'a>,
}

/// A request that waits for one byte, for no time, outside of sessions.
fn fetch<'a>(version: i16) -> Fetch<'a> {
    let request = FetchRequest { min_bytes: 1, max_bytes: 1 << 20, session_epoch: -1, ..Default::default() };
    Fetch { version, request }
}

impl<'a> Fetch<'a> {
    fn topic(mut self, topic: &'a str, topic_id: Uuid, partitions: Vec<FetchPartition>) -> Self {
        self.request.topics.push(FetchTopic { topic, topic_id, partitions });
        self
    }

    fn forget(mut self, topic: &'a str, topic_id: Uuid, partitions: Vec<i32>) -> Self {
        self.request.forgotten_topics_data.push(FetchForgottenTopic { topic, topic_id, partitions });
        self
    }

    fn session(mut self, id: i32, epoch: i32) -> Self {
        self.request.session_id = id;
        self.request.session_epoch = epoch;
        self
    }

    fn wait(mut self, max_wait_ms: i32, min_bytes: i32) -> Self {
        self.request.max_wait_ms = max_wait_ms;
        self.request.min_bytes = min_bytes;
        self
    }

    fn max(mut self, max_bytes: i32) -> Self {
        self.request.max_bytes = max_bytes;
        self
    }

    fn replica(mut self, id: i32) -> Self {
        self.request.replica_id = id;
        self.request.replica_state.replica_id = id;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut FetchRequest<'a>)) -> Self {
        change(&mut self.request);
        self
    }

    /// Sends it on a connection of its own and tells the answer. One that comes only when the time is up has " late".
    fn go(&self, h: &mut Harness) -> Told {
        let conn = h.connect();
        let told = self.go_on(h, conn);
        h.broker.disconnected(h.now, conn);
        told
    }

    fn go_on(&self, h: &mut Harness, conn: ConnId) -> Told {
        self.send(h, conn);
        if let Some(told) = self.answered(h, conn) {
            return told;
        }
        let wait_ms = u64::try_from(self.request.max_wait_ms).expect("it waits for no time, and is not answered");
        h.pass_ms(wait_ms - 1);
        assert!(self.answered(h, conn).is_none(), "it is answered before its time");
        h.pass_ms(1);
        let mut told = self.answered(h, conn).expect("its time is up, and it is not answered");
        told.head.push_str(" late");
        told
    }

    fn send(&self, h: &mut Harness, conn: ConnId) {
        h.send(conn, self.version, &self.request);
        h.settle();
    }

    /// The answer on this connection, if it is there.
    fn answered(&self, h: &mut Harness, conn: ConnId) -> Option<Told> {
        let mut answers = h.take_answers();
        answers.retain(|answer| answer.conn == conn);
        assert!(answers.len() < 2);
        answers.pop().map(|answer| Told::of(&answer))
    }
}

/// An answer in few words.
#[derive(Debug)]
struct Told {
    session_id: i32,
    /// The error; " S" when there is a session.
    head: String,
    /// For each partition, in order: topic (of an id its first byte) and partition; its error; high watermark, last
    /// stable offset and log start offset; what is not as usual; the number of batches.
    parts: Vec<String>,
}

impl Told {
    fn of(answer: &Answer) -> Told {
        let response: FetchResponse<'_> = answer.decode();
        assert_eq!(response.node_endpoints, []);
        let session = if response.session_id == 0 { "" } else { " S" };
        let topics = response.responses.iter();
        let parts = topics.flat_map(|topic| topic.partitions.iter().map(|data| tell(topic, data)));
        Told {
            session_id: response.session_id,
            head: format!("{}{session}", response.error_code),
            parts: parts.collect(),
        }
    }

    /// Asserts the head and the partitions.
    #[track_caller]
    fn is(&self, head: &str, parts: &[&str]) -> i32 {
        assert_eq!((self.head.as_str(), self.parts.as_slice()), (head, parts.map_to_strings().as_slice()));
        self.session_id
    }
}

trait ToStrings {
    fn map_to_strings(&self) -> Vec<String>;
}

impl ToStrings for [&str] {
    fn map_to_strings(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

fn tell(topic: &FetchableTopicResponse<'_>, data: &FetchPartitionData<'_>) -> String {
    let name = match topic.topic {
        "" => format!("{:02x}", topic.topic_id.0[0]),
        name => name.to_owned(),
    };
    let mut text = format!("{name}-{} ", data.partition_index);
    if data.error_code.is_error() {
        text += &format!("{} ", data.error_code);
    }
    text += &format!("{}/{}/{}", data.high_watermark, data.last_stable_offset, data.log_start_offset);
    if let Some(aborted) = &data.aborted_transactions {
        text += &format!(" aborted={aborted:?}");
    }
    if data.diverging_epoch != FetchEpochEndOffset::default() {
        text += &format!(" diverging={}@{}", data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
    }
    if data.current_leader != FetchLeaderIdAndEpoch::default() {
        text += &format!(" leader={}@{}", data.current_leader.leader_id, data.current_leader.leader_epoch);
    }
    assert_eq!(data.preferred_read_replica, -1);
    match data.records {
        RecordSet::Bytes([]) => text,
        RecordSet::Bytes(bytes) => text + &format!(" {} batches", batches(bytes).filter(Result::is_ok).count()),
        _ => text + " no record set",
    }
}
