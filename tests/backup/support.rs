//! Owns what the tests of backups share: a server on a simulated disk that is driven by hand, and looks at what it holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chronik::backup::{self, create, find, restore, verify, Created, Failure, Manifest, Origin, Selection, Target};
use chronik::backup::{Restored, Unwatched, Wanted};
use chronik::broker::settings::Settings;
use chronik::broker::tiering::UploadDone;
use chronik::broker::{metalog, work, ConnId, ConnInfo, Effect, Now};
use chronik::config::Config;
use chronik::metrics::Metrics;
use chronik::store::ObjectStore;
use chronik::sys::disk::Disk;
use chronik::wal::settings::{Entropy, FsyncMode, LogOptions, MetadataStore};
use chronik::wal::tidy::TidyJob;
use chronik::wal::{ReadDone, SegmentId};
use chronik::wire::batch::{batches, BatchBuilder};
use chronik::wire::msg::*;
use chronik::wire::{self, frame, ErrorCode, RecordSet, Request};

use super::memory_store::MemStore;
use crate::sim::disk::{Faults, SimDisk};
use crate::sim::node::Node;

const SEGMENT_BYTES: u64 = 12 << 20;

/// A server on a simulated disk, without threads. Everything happens when it is called.
pub struct House {
    pub node: Node,
    pub now: Now,
    pub metrics: Arc<Metrics>,
    /// What uploads came to: segments in the store, or why not.
    pub uploads: Vec<Result<usize, String>>,
    /// Segments whose local copies went.
    pub evicted: Vec<SegmentId>,
    /// What the tidier was told to do.
    pub jobs: Vec<TidyJob>,
    /// What the disk is said to have free, instead of what it has.
    pub free_bytes: Option<u64>,
    /// What readers have found and not handed over yet, while they are slow.
    pub slow_reads: Option<Vec<ReadDone>>,
    next: u64,
    answers: BTreeMap<u64, Vec<u8>>,
}

pub fn empty_disk() -> SimDisk {
    SimDisk::new(7, Faults::NONE)
}

impl House {
    /// What a tiered one wants to have free on its disk.
    pub const LOCAL_FREE_BYTES: u64 = 1 << 20;

    /// Starts on what the disk holds. Each start of a disk needs a seed of its own.
    pub fn start(disk: &SimDisk, seed: u64) -> House {
        House::start_with(disk, seed, MetadataStore::Log).unwrap()
    }

    pub fn start_with(disk: &SimDisk, seed: u64, metadata: MetadataStore) -> Result<House, String> {
        House::start_tiered(disk, seed, metadata, None)
    }

    /// With a store as its second tier.
    pub fn start_tiered(
        disk: &SimDisk,
        seed: u64,
        metadata: MetadataStore,
        store: Option<Arc<dyn ObjectStore>>,
    ) -> Result<House, String> {
        House::start_config(disk, seed, metadata, store, false)
    }

    /// With a data directory that is a copy of one whose server is gone for good.
    pub fn start_taking_over(disk: &SimDisk, seed: u64, store: &Arc<MemStore>) -> Result<House, String> {
        House::start_config(disk, seed, MetadataStore::Log, Some(store.clone()), true)
    }

    fn start_config(
        disk: &SimDisk,
        seed: u64,
        metadata: MetadataStore,
        store: Option<Arc<dyn ObjectStore>>,
        take_over: bool,
    ) -> Result<House, String> {
        let now = Now { mono_us: 1_000_000, wall_ms: 1_700_000_000_000 };
        let config = Config {
            log_segment_bytes: SEGMENT_BYTES,
            auto_create_topics_enable: false,
            group_initial_rebalance_delay_ms: 0,
            ..Config::default()
        };
        let mut config = config;
        config.storage.local_path = store.is_some().then(|| "unused".into());
        config.storage.local_free_bytes = House::LOCAL_FREE_BYTES;
        config.storage.take_over = take_over;
        let metrics = Arc::new(Metrics::new());
        let settings = Settings {
            config,
            cluster_id: "house".into(),
            advertised_host: None,
            advertised_port: None,
            seed,
            metadata_in_log: metadata == MetadataStore::Log,
            metrics: metrics.clone(),
        };
        let options = LogOptions {
            segment_bytes: SEGMENT_BYTES,
            group_bytes_max: 2 << 20,
            fsync: FsyncMode::Always,
            metadata,
            ballast_bytes: 16 << 10,
            entropy: Entropy::Seeded(seed.wrapping_mul(7919)),
        };
        let node = Node::start(disk, settings, options, now, store)?;
        let (uploads, evicted, jobs) = (Vec::new(), Vec::new(), Vec::new());
        let (slow_reads, answers) = (None, BTreeMap::new());
        let mut house =
            House { node, now, metrics, uploads, evicted, jobs, free_bytes: None, slow_reads, next: 0, answers };
        house.settle();
        Ok(house)
    }

    /// Sends a request, lets everything happen that follows from it, and gives the answer.
    pub fn call<'a, M: Request<'a>>(&mut self, version: i16, message: &M) -> Bytes {
        self.send(version, message);
        self.answer::<M>(version).unwrap_or_else(|| panic!("no answer to {}", M::API.name))
    }

    /// Sends a request on a connection of its own, and lets everything happen that follows at once.
    pub fn send<'a, M: Request<'a>>(&mut self, version: i16, message: &M) {
        self.next += 1;
        let (conn, id) = (ConnId(self.next), self.next as i32);
        let local = "127.0.0.1:9092".parse().unwrap();
        self.node.broker.connected(conn, ConnInfo { local, peer: local });
        let encoded = frame::request(version, id, Some("house"), message);
        self.node.broker.request(self.now, conn, Bytes::from(encoded.bytes).slice(4..));
        self.settle();
    }

    /// The answer to what was sent last, if there is one by now.
    pub fn answer<'a, M: Request<'a>>(&mut self, version: i16) -> Option<Bytes> {
        let whole = self.answers.remove(&self.next)?;
        self.node.broker.disconnected(self.now, ConnId(self.next));
        let whole = Bytes::from(whole).slice(4..);
        let (_, body) = frame::parse_response(M::API, version, &whole).unwrap();
        Some(whole.slice_ref(body))
    }

    /// The readers hand over what they have found.
    pub fn hand_over_reads(&mut self) {
        for done in self.slow_reads.as_mut().map(std::mem::take).unwrap_or_default() {
            self.node.broker.read_done(self.now, done);
        }
        self.settle();
    }

    /// Lets everything happen that is to happen now.
    pub fn settle(&mut self) {
        loop {
            while let Some(effect) = self.node.broker.next_effect() {
                self.carry_out(effect);
            }
            let Some(group) = self.node.broker.next_group(self.now) else { return };
            let written = self.node.write(group).expect("the log can be written");
            self.node.broker.written(self.now, written);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { conn, response } => {
                let bytes = self.node.resolve(&response).expect("an answer that can be sent");
                self.answers.insert(conn.0, bytes.to_vec());
            }
            Effect::Close { why, .. } => panic!("closed: {why}"),
            Effect::Read(job) => {
                let done = self.node.read(job);
                match &mut self.slow_reads {
                    Some(slow) => slow.push(done),
                    None => self.node.broker.read_done(self.now, done),
                }
            }
            Effect::Work(job) => self.node.broker.work_done(self.now, work::run(job)),
            Effect::Checkpoint(job) => {
                let done = self.node.checkpoint(job).expect("the log can be synced");
                self.node.broker.checkpoint_done(self.now, done);
            }
            Effect::Remove(segment) => self.node.remove(segment).expect("a segment that can go"),
            Effect::Tidy(job) => {
                let done = self.node.tidy(&job);
                self.jobs.push(job);
                self.node.broker.tidy_done(self.now, done);
            }
            Effect::LogLevel(_) | Effect::StopTidy | Effect::Ready { .. } => {}
            Effect::Upload { looks } => {
                let done = self.node.upload(self.now, looks).expect("a store");
                self.uploads.push(done.result.as_ref().map(Vec::len).map_err(|error| error.sentence.clone()));
                let free_bytes = self.free_bytes.or(done.free_bytes);
                self.node.broker.uploaded(self.now, UploadDone { free_bytes, ..done });
            }
            Effect::Evict(segment, stored) => {
                self.evicted.push(segment);
                self.node.evict(segment, &stored).expect("a segment that can go");
            }
        }
    }

    /// Lets time pass, and everything that is due happen.
    pub fn pass_ms(&mut self, ms: i64) {
        self.now.mono_us += ms as u64 * 1000;
        self.now.wall_ms += ms;
        self.node.broker.expire(self.now);
        self.settle();
    }

    pub fn make_topic(&mut self, name: &str, partitions: i32) {
        let topic = CreatableTopic { name, num_partitions: partitions, replication_factor: 1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
        let body = self.call(5, &request);
        let response: CreateTopicsResponse<'_> = wire::decode(&body, 5).unwrap();
        assert_eq!(response.topics[0].error_code, ErrorCode::NONE);
    }

    pub fn delete_topic(&mut self, name: &str) {
        let request = DeleteTopicsRequest { topic_names: vec![name], timeout_ms: 1000, ..Default::default() };
        let body = self.call(3, &request);
        let response: DeleteTopicsResponse<'_> = wire::decode(&body, 3).unwrap();
        assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
    }

    /// Writes one record; its offset.
    pub fn produce(&mut self, topic: &str, partition: i32, value: &[u8]) -> i64 {
        let mut builder = BatchBuilder::new();
        builder.push(self.now.wall_ms, Some(b"key"), Some(value), &[]);
        let batch = builder.build().unwrap();
        let data = PartitionProduceData { index: partition, records: RecordSet::Bytes(&batch) };
        let topic_data = vec![TopicProduceData { name: topic, partition_data: vec![data], ..Default::default() }];
        let body = self.call(9, &ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() });
        let response: ProduceResponse<'_> = wire::decode(&body, 9).unwrap();
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, ErrorCode::NONE);
        answer.base_offset
    }

    /// Writes until the segment that is being written is another one.
    pub fn fill_segment(&mut self, topic: &str) {
        let before = self.node.position().segment;
        while self.node.position().segment == before {
            self.produce(topic, 0, &vec![b'f'; 900_000]);
        }
    }

    pub fn commit(&mut self, group: &str, topic: &str, partition: i32, offset: i64) {
        let partitions = vec![OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: Some("m"),
            ..Default::default()
        }];
        let topics = vec![OffsetCommitRequestTopic { name: topic, partitions, ..Default::default() }];
        let request =
            OffsetCommitRequest { group_id: group, generation_id_or_member_epoch: -1, topics, ..Default::default() };
        let body = self.call(8, &request);
        let response: OffsetCommitResponse<'_> = wire::decode(&body, 8).unwrap();
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::NONE);
    }

    /// The offset that a group has committed; -1 for none.
    pub fn committed(&mut self, group: &str, topic: &str, partition: i32) -> i64 {
        let topics = vec![OffsetFetchRequestTopic { name: topic, partition_indexes: vec![partition] }];
        let request = OffsetFetchRequest { group_id: group, topics: Some(topics), ..Default::default() };
        let body = self.call(7, &request);
        let response: OffsetFetchResponse<'_> = wire::decode(&body, 7).unwrap();
        response.topics[0].partitions[0].committed_offset
    }

    /// Deletes the records before an offset.
    pub fn trim(&mut self, topic: &str, partition: i32, offset: i64) {
        let partitions = vec![DeleteRecordsPartition { partition_index: partition, offset }];
        let topics = vec![DeleteRecordsTopic { name: topic, partitions }];
        let body = self.call(2, &DeleteRecordsRequest { topics, timeout_ms: 1000 });
        let response: DeleteRecordsResponse<'_> = wire::decode(&body, 2).unwrap();
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::NONE);
    }

    /// Offset and bytes behind the CRC of every batch that a consumer is given.
    pub fn records(&mut self, topic: &str, partition: i32) -> Vec<(i64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut offset = self.offsets(topic, partition).0;
        loop {
            let body = self.call(11, &fetch_from(topic, partition, offset, 8 << 20));
            let response: FetchResponse<'_> = wire::decode(&body, 11).unwrap();
            let answer = &response.responses[0].partitions[0];
            assert_eq!(answer.error_code, ErrorCode::NONE, "{topic}-{partition} at {offset}");
            let before = found.len();
            for batch in batches(bytes_of(&answer.records)) {
                let batch = batch.unwrap();
                found.push((batch.header.base_offset, batch.bytes[21..].to_vec()));
                offset = batch.header.last_offset() + 1;
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// Start and end of a partition.
    pub fn offsets(&self, topic: &str, partition: i32) -> (i64, i64) {
        let content = self.node.broker.contents().into_iter().find(|content| content.name == topic).expect("a topic");
        content.offsets[partition as usize]
    }

    /// All that a server says of its state.
    pub fn state(&mut self) -> State {
        let contents = self.node.broker.contents();
        let mut records = BTreeMap::new();
        for topic in &contents {
            for partition in 0..topic.offsets.len() as i32 {
                records.insert((topic.name.clone(), partition), self.records(&topic.name, partition));
            }
        }
        // Packs come and go by themselves.
        let entries = self.node.broker.meta_snapshot().into_iter().filter(|entry| entry.table != metalog::PACK);
        let mut meta: Vec<String> = entries.map(|entry| format!("{entry:?}")).collect();
        meta.sort();
        State { meta, records }
    }
}

/// Asks for what there is from an offset on, without waiting for more.
pub fn fetch_from(topic: &str, partition: i32, offset: i64, bytes_max: i32) -> FetchRequest<'_> {
    let partitions = vec![FetchPartition {
        partition,
        fetch_offset: offset,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        partition_max_bytes: bytes_max,
        ..Default::default()
    }];
    let topics = vec![FetchTopic { topic, partitions, ..Default::default() }];
    FetchRequest { max_bytes: bytes_max, topics, ..Default::default() }
}

pub fn bytes_of<'a>(records: &RecordSet<'a>) -> &'a [u8] {
    match records {
        RecordSet::Bytes(bytes) => bytes,
        _ => &[],
    }
}

/// Offset and value of each record of a partition of a topic.
pub type Records = BTreeMap<(String, i32), Vec<(i64, Vec<u8>)>>;

/// What is compared between a server and what was restored of it.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub meta: Vec<String>,
    pub records: Records,
}

pub const NOW_MS: i64 = 1_700_000_000_000;

/// Makes a backup of a server that runs.
pub fn back_up(disk: &SimDisk, store: &MemStore, number: i64) -> Result<Created, Failure> {
    let origin = Origin::on(Arc::new(disk.clone()), false);
    create(&origin, store, NOW_MS + number * 60_000, &mut Entropy::Seeded(number as u64), &Unwatched)
}

/// Restores into an empty disk.
pub fn restored(store: &Arc<MemStore>, manifest: &Manifest, selection: &Selection) -> Result<SimDisk, Failure> {
    let disk = empty_disk();
    restore_into(&disk, store, manifest, selection).map(|_| disk)
}

pub fn restore_into(
    disk: &SimDisk,
    store: &Arc<MemStore>,
    manifest: &Manifest,
    selection: &Selection,
) -> Result<Restored, Failure> {
    let (store, target) =
        (Arc::clone(store) as Arc<dyn ObjectStore>, Target::on(Arc::new(disk.clone()) as Arc<dyn Disk>));
    restore(&target, &store, manifest, selection, NOW_MS, &Unwatched)
}

pub fn verified(store: &Arc<MemStore>, manifest: &Manifest) -> backup::Verified {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    verify(&store, manifest, NOW_MS, &Unwatched).unwrap()
}

pub fn newest(store: &MemStore) -> Manifest {
    find(store, &Wanted::default()).unwrap()
}

/// A server with something of everything, with several segments.
pub fn busy_house(disk: &SimDisk) -> House {
    let mut house = House::start(disk, 1);
    house.make_topic("orders", 2);
    house.make_topic("bills", 1);
    house.make_topic("gone", 1);
    house.produce("gone", 0, b"soon forgotten");
    house.fill_segment("bills");
    house.delete_topic("gone");
    for n in 0..20 {
        house.produce("orders", n % 2, format!("order {n}").as_bytes());
    }
    house.trim("orders", 1, 3);
    house.commit("readers", "orders", 0, 4);
    house.commit("readers", "bills", 0, 1);
    house.fill_segment("bills");
    house.produce("orders", 0, b"the last one");
    house
}

impl House {
    /// A partition's leader epoch.
    pub fn epoch(&mut self, topic: &str, partition: i32) -> i32 {
        let body = self.call(9, &MetadataRequest { topics: None, ..Default::default() });
        let response: MetadataResponse<'_> = wire::decode(&body, 9).unwrap();
        let found = response.topics.iter().find(|found| found.name == Some(topic)).expect("a topic");
        found.partitions.iter().find(|found| found.partition_index == partition).expect("a partition").leader_epoch
    }

    /// Where a leader epoch ends, as a client asks (KIP-320).
    pub fn epoch_end(&mut self, topic: &str, partition: i32, epoch: i32) -> i64 {
        let partitions = vec![OffsetForLeaderPartition { partition, current_leader_epoch: -1, leader_epoch: epoch }];
        let topics = vec![OffsetForLeaderTopic { topic, partitions }];
        let body = self.call(3, &OffsetForLeaderEpochRequest { replica_id: -1, topics });
        let response: OffsetForLeaderEpochResponse<'_> = wire::decode(&body, 3).unwrap();
        response.topics[0].partitions[0].end_offset
    }
}
