//! Owns the tests of a server's disk: that space comes back, at default settings, whatever shares a segment.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chronik::wire::batch::{batches, verify_crc, BatchBuilder};
use chronik::wire::msg::*;
use chronik::wire::{self, frame, ErrorCode, RecordSet, Request};

use super::process::{Server, TempDir};

/// A client with one connection that waits for each answer, and what its server has said.
struct Client {
    stream: TcpStream,
    said: Box<dyn Fn() -> Vec<String>>,
}

impl Client {
    fn of(server: &Server) -> Client {
        Client { stream: server.connect(), said: Box::new(server.witness()) }
    }

    fn receive(&mut self, buf: &mut [u8], what: &str) {
        if let Err(error) = self.stream.read_exact(buf) {
            panic!("no answer to {what}: {error}; the server said {:#?}", (self.said)());
        }
    }

    fn call<'a, M: Request<'a>>(&mut self, version: i16, message: &M) -> Bytes {
        let request = frame::request(version, 7, Some("space"), message);
        self.stream.write_all(&request.bytes).unwrap();
        let mut len = [0; 4];
        self.receive(&mut len, M::API.name);
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.receive(&mut frame, M::API.name);
        let frame = Bytes::from(frame);
        let (_, body) = frame::parse_response(M::API, version, &frame).unwrap();
        frame.slice_ref(body)
    }

    fn create(&mut self, name: &str) {
        let topic = CreatableTopic { name, num_partitions: 1, replication_factor: 1, ..Default::default() };
        let body = self.call(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
        let answer: CreateTopicsResponse<'_> = wire::decode(&body, 7).unwrap();
        assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
    }

    fn delete(&mut self, name: &str) {
        let topic = DeleteTopicState { name: Some(name), ..Default::default() };
        let body = self.call(6, &DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() });
        let answer: DeleteTopicsResponse<'_> = wire::decode(&body, 6).unwrap();
        assert_eq!(answer.responses[0].error_code, ErrorCode::NONE);
    }

    /// One batch of `count` records of `bytes` bytes each. As all clients do, it sends again what found no space because the next segment
    /// was not reserved yet, which happens when that thread gets no processor for long.
    fn produce(&mut self, name: &str, count: usize, bytes: usize) {
        let mut batch = BatchBuilder::new();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        (0..count).for_each(|n| batch.push(now_ms, None, Some(&vec![n as u8; bytes]), &[]));
        let batch = batch.build().unwrap();
        let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(&batch) };
        let topic_data = vec![TopicProduceData { name, partition_data: vec![data], ..Default::default() }];
        let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() };
        loop {
            let body = self.call(9, &request);
            let answer: ProduceResponse<'_> = wire::decode(&body, 9).unwrap();
            match answer.responses[0].partition_responses[0].error_code {
                ErrorCode::NONE => return,
                error => assert_eq!(error, ErrorCode::KAFKA_STORAGE_ERROR, "the server said {:#?}", (self.said)()),
            }
        }
    }

    /// Reads a topic from its beginning; the offset behind its last record. Every offset has to come, once.
    fn read_all(&mut self, name: &str) -> i64 {
        let mut next = 0;
        loop {
            let partition = FetchPartition { fetch_offset: next, partition_max_bytes: 1 << 20, ..Default::default() };
            let topics = vec![FetchTopic { topic: name, partitions: vec![partition], ..Default::default() }];
            let request = FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics, ..Default::default() };
            let body = self.call(11, &request);
            let answer: FetchResponse<'_> = wire::decode(&body, 11).unwrap();
            let data = &answer.responses[0].partitions[0];
            assert_eq!(data.error_code, ErrorCode::NONE);
            let RecordSet::Bytes(records) = data.records else { panic!("no bytes") };
            if records.is_empty() {
                assert_eq!(next, data.high_watermark);
                return next;
            }
            for batch in batches(records).map_while(Result::ok) {
                assert_eq!(batch.header.base_offset, next);
                assert!(verify_crc(batch.bytes));
                next = batch.header.last_offset() + 1;
            }
        }
    }
}

/// Length of the files that hold records.
fn held_bytes(dir: &Path) -> u64 {
    let files = ["wal", "packs"].into_iter().flat_map(|name| fs::read_dir(dir.join(name)).into_iter().flatten());
    files.map(|file| file.unwrap().metadata().map_or(0, |facts| facts.len())).sum()
}

/// Asks again and again, for as long as it takes and the server is there.
fn until(server: &mut Server, what: &str, mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        assert!(server.child.try_wait().unwrap().is_none(), "the server ended before {what} came");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_deleted_topics_space_comes_back_from_the_segments_that_it_shares_with_a_living_one() {
    let dir = TempDir::new("space");
    let mut server = Server::start(&dir.0, &[]);
    let mut client = Client::of(&server);
    client.create("lives");
    client.create("goes");
    for _ in 0..250 {
        client.produce("lives", 5, 8_000);
        client.produce("goes", 20, 8_000);
    }
    let (live, before) = (250 * 5 * 8_000, held_bytes(&dir.0));
    assert!(before > 45 << 20, "{before} bytes");
    client.delete("goes");
    // The segment that is written and the one that is reserved have the length that is preallocated.
    until(&mut server, "the space of the deleted topic", || held_bytes(&dir.0) < live + (2 << 20) + 2 * (16 << 20));
    assert_eq!(client.read_all("lives"), 1250);
    assert!(fs::read_dir(dir.0.join("packs")).unwrap().count() > 0);
    server.signal("-KILL");
    drop(server);
    let server = Server::start(&dir.0, &[]);
    let mut client = Client::of(&server);
    assert_eq!(client.read_all("lives"), 1250);
}
