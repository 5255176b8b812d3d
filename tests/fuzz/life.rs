//! Owns one life of the server on a simulated disk, without threads and without time of its own: the real broker, log and
//! readers, and whatever the broker wants is done at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chronik::broker::settings::Settings;
use chronik::broker::{work, ConnId, ConnInfo, Effect, Now};
use chronik::config::Config;
use chronik::metrics::Metrics;
use chronik::wal::settings::{Entropy, FsyncMode, LogOptions, MetadataStore};
use chronik::wire::{decode, frame, Api, Message, Request};

use crate::sim::disk::SimDisk;
use crate::sim::node::Node;

/// Where the clocks stand when a life begins.
pub const BEGIN_MS: i64 = 1_700_000_000_000;

/// How old a segment gets.
pub const ROLL_MS: u64 = 5_000;

/// Effects and groups that one turn may bring; more would be a loop without an end.
const TURNS_MAX: usize = 200_000;

pub struct Life {
    pub node: Node,
    pub now: Now,
    next_conn: u64,
    next_correlation: i32,
    /// Whole frames of answers, in the order in which they were sent.
    pub answers: Vec<(ConnId, Bytes)>,
    /// Connections that the broker closed.
    pub closed: Vec<(ConnId, String)>,
}

/// As small as a broker can work with.
const SEGMENT_BYTES: u64 = 512 << 10;

/// Small segments, so that few records make several.
pub fn options(seed: u64) -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT_BYTES,
        group_bytes_max: 32 << 10,
        fsync: FsyncMode::Always,
        metadata: MetadataStore::Log,
        ballast_bytes: 8 << 10,
        entropy: Entropy::Seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    }
}

/// What a broker is told.
pub fn settings() -> Settings {
    let config = Config {
        group_initial_rebalance_delay_ms: 0,
        log_segment_bytes: SEGMENT_BYTES,
        log_roll_ms: ROLL_MS as i64,
        ..Config::default()
    };
    Settings {
        config,
        cluster_id: "life".into(),
        advertised_host: None,
        advertised_port: None,
        seed: 7,
        metadata_in_log: true,
        metrics: Arc::new(Metrics::new()),
    }
}

impl Life {
    /// Starts on what the disk holds. Each life on a disk needs another seed.
    pub fn start(disk: &SimDisk, seed: u64) -> Result<Life, String> {
        let now = Now { mono_us: 1_000_000, wall_ms: BEGIN_MS };
        let node = Node::start(disk, settings(), options(seed), now, None)?;
        let (answers, closed) = Default::default();
        let mut life = Life { node, now, next_conn: 0, next_correlation: 0, answers, closed };
        life.settle();
        Ok(life)
    }

    pub fn connect(&mut self) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let (local, peer) = ("127.0.0.1:9092".parse().unwrap(), "127.0.0.1:50000".parse().unwrap());
        self.node.broker.connected(conn, ConnInfo { local, peer });
        conn
    }

    /// Hands in a frame, without its length, when its connection is ready for it.
    pub fn frame(&mut self, conn: ConnId, frame: Bytes) -> bool {
        let key = chronik::net::frames::api_key(&frame).unwrap_or(-1);
        let is_ready = self.node.broker.ready_for(conn, key);
        if is_ready {
            self.node.broker.request(self.now, conn, frame);
            self.settle();
        }
        is_ready
    }

    /// Does all that the broker wants, until it wants nothing more.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if let Some(effect) = self.node.broker.next_effect() {
                self.carry_out(effect);
            } else if let Some(group) = self.node.broker.next_group(self.now) {
                let written = self.node.write(group).expect("the disk has no faults");
                self.node.broker.written(self.now, written);
            } else {
                return;
            }
        }
        panic!("the broker never comes to rest");
    }

    fn carry_out(&mut self, effect: Effect) {
        let (node, now) = (&mut self.node, self.now);
        match effect {
            Effect::Send { conn, response } => {
                let frame = node.resolve(&response).expect("what is sent can be read");
                self.answers.push((conn, frame));
            }
            Effect::Close { conn, why } => {
                node.broker.disconnected(now, conn);
                self.closed.push((conn, why));
            }
            Effect::Read(job) => {
                let done = node.read(job);
                node.broker.read_done(now, done);
                node.broker.unsent(now, 0);
            }
            Effect::Work(job) => node.broker.work_done(now, work::run(job)),
            Effect::Checkpoint(job) => {
                let done = node.checkpoint(job).expect("the disk has no faults");
                node.broker.checkpoint_done(now, done);
            }
            Effect::Tidy(job) => {
                let done = node.tidy(&job);
                node.broker.tidy_done(now, done);
            }
            Effect::Remove(segment) => node.remove(segment).expect("a segment can be removed"),
            Effect::Upload { .. } | Effect::Evict(..) => panic!("there is no store"),
            Effect::LogLevel(_) | Effect::StopTidy | Effect::Ready { .. } => {}
        }
    }

    /// Lets time pass, timer by timer.
    pub fn pass_ms(&mut self, ms: u64) {
        let end_us = self.now.mono_us + ms * 1000;
        for _ in 0..1000 {
            let next_us = self.node.broker.deadline_us().filter(|at| *at < end_us).unwrap_or(end_us);
            let passed_us = next_us.saturating_sub(self.now.mono_us).max(1000);
            self.now.mono_us += passed_us;
            self.now.wall_ms += (passed_us / 1000) as i64;
            self.node.broker.expire(self.now);
            self.settle();
            if self.now.mono_us >= end_us {
                return;
            }
        }
    }

    /// Sends a request on a connection of its own and gives its answer's body.
    pub fn call<'a, M: Request<'a>>(&mut self, version: i16, message: &M) -> Bytes {
        let conn = self.connect();
        self.next_correlation += 1;
        let encoded = frame::request(version, self.next_correlation, Some("life"), message);
        assert!(self.frame(conn, Bytes::from(encoded.bytes).slice(4..)), "a new connection is ready");
        let mut waited = 0;
        let at = loop {
            match self.answers.iter().position(|(to, _)| *to == conn) {
                Some(at) => break at,
                None => assert!(waited < 100, "{} is not answered; closed: {:?}", M::API.name, self.closed),
            }
            waited += 1;
            self.pass_ms(100);
        };
        let (_, whole) = self.answers.remove(at);
        self.node.broker.disconnected(self.now, conn);
        body_of(M::API, version, &whole).1
    }
}

/// Correlation id and body of a whole response frame.
pub fn body_of(api: &Api, version: i16, whole: &Bytes) -> (i32, Bytes) {
    assert_eq!(whole[..4], (whole.len() as u32 - 4).to_be_bytes(), "the frame's length is wrong");
    let (correlation_id, body) = frame::parse_response(api, version, &whole[4..]).unwrap();
    (correlation_id, whole.slice_ref(body))
}

/// The message that a body is.
pub fn message<'a, M: Message<'a>>(body: &'a Bytes, version: i16) -> M {
    decode(body, version).unwrap_or_else(|error| panic!("{}: {error}", M::API.name))
}

/// How far a log start is looked for.
const START_MAX: i64 = 300;

/// Everything that a reader without isolation gets of a partition: the bytes of each batch behind the leader epoch, by base
/// offset; and the error that ended it, if one did.
pub type Fetched = (BTreeMap<i64, (i64, Vec<u8>)>, i16);

impl Life {
    /// Reads a partition from its start to its end.
    pub fn fetch(&mut self, topic_id: chronik::wire::Uuid, partition: i32) -> Fetched {
        use chronik::wire::msg::*;
        use chronik::wire::{batch, ErrorCode, RecordSet};
        let (mut found, mut offset) = (BTreeMap::new(), 0);
        loop {
            let wanted = FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                current_leader_epoch: -1,
                ..Default::default()
            };
            let request = FetchRequest {
                max_bytes: 1 << 20,
                topics: vec![FetchTopic { topic_id, partitions: vec![wanted], ..Default::default() }],
                session_epoch: -1,
                ..Default::default()
            };
            let answer = self.call(16, &request);
            let answer: FetchResponse<'_> = message(&answer, 16);
            let part = &answer.responses[0].partitions[0];
            if part.error_code == ErrorCode::OFFSET_OUT_OF_RANGE && found.is_empty() && offset < START_MAX {
                // What was deleted before the start is no error of the log.
                offset += 1;
                continue;
            }
            if !part.error_code.is_none() {
                return (found, part.error_code.0);
            }
            let RecordSet::Bytes(bytes) = part.records else { return (found, 0) };
            let before = offset;
            for batch in batch::batches(bytes) {
                let batch = batch.expect("a reader gets whole batches");
                assert!(batch::verify_crc(batch.bytes), "a reader gets a damaged batch");
                let last = batch.header.last_offset();
                found.insert(batch.header.base_offset, (last, batch.bytes[MAGIC_AT..].to_vec()));
                offset = offset.max(last + 1);
            }
            if offset == before {
                return (found, 0);
            }
        }
    }
}

/// Bytes before this one hold offset, length and leader epoch, which the broker fills in.
const MAGIC_AT: usize = 16;
