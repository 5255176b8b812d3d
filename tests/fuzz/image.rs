//! Owns a data directory to be damaged: files of every kind, made by the real broker, and what a reader gets of it while it is
//! whole.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use chronik::sys::disk::Disk;
use chronik::wire::batch::BatchBuilder;
use chronik::wire::msg::*;
use chronik::wire::{RecordSet, Uuid};

use super::life::{message, Fetched, Life, BEGIN_MS, ROLL_MS};
use crate::sim::disk::{Faults, SimDisk};

/// Batches by base offset: last offset, and the bytes behind the leader epoch.
pub type Batches = BTreeMap<i64, (i64, Vec<u8>)>;

/// The files of a data directory, as kill -9 leaves them.
pub struct Image {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Topics with their partitions.
    pub topics: Vec<(&'static str, Uuid, i32)>,
    /// What a reader gets of each partition.
    pub whole: BTreeMap<(Uuid, i32), Batches>,
}

/// Turns of producers.
const TURNS: usize = 170;

/// The image; made once. Sealed segments, a pack, two checkpoints, an unsealed end with some groups.
pub fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(make)
}

fn make() -> Image {
    let disk = SimDisk::new(1, Faults::NONE);
    let mut life = Life::start(&disk, 1).unwrap();
    let topics = [("orders", 3, "delete"), ("table", 1, "compact"), ("gone", 1, "delete"), ("short", 1, "delete")];
    let ids: Vec<Uuid> = topics.iter().map(|(name, count, policy)| create(&mut life, name, *count, policy)).collect();
    for turn in 0..TURNS {
        for (name, partition) in [("orders", 0), ("orders", 1), ("orders", 2), ("table", 0), ("gone", 0), ("short", 0)]
        {
            if (turn + partition as usize) % 3 != 0 && (name != "gone" || turn < 40) {
                produce(&mut life, name, partition, turn);
            }
        }
        if turn == 40 {
            delete(&mut life, "gone");
        }
        if turn == TURNS / 2 {
            commit(&mut life);
            trim(&mut life, "short", 20);
        }
        if turn % 15 == 14 && turn < TURNS - 20 {
            life.pass_ms(ROLL_MS + 1000);
        }
    }
    drop(life);
    // Taken before the look at what readers get, which seals the end.
    let disk = disk.restart();
    let contents = |path: String| (path.clone(), without_room(disk.contents(&path).unwrap()));
    let files = disk.paths().into_iter().map(contents).collect();
    let topics: Vec<(&'static str, Uuid, i32)> = topics
        .iter()
        .zip(&ids)
        .filter(|((name, ..), _)| *name != "gone")
        .map(|((name, count, _), id)| (*name, *id, *count))
        .collect();
    let mut life = Life::start(&disk, 2).unwrap();
    let whole = read(&mut life, &topics).into_iter().map(|(id, (batches, code))| {
        assert_eq!(code, 0, "a whole directory is read to its end");
        (id, batches)
    });
    let whole = whole.collect();
    Image { files, topics, whole }
}

/// Most of the room that an unsealed segment has left is of no interest.
fn without_room(mut bytes: Vec<u8>) -> Vec<u8> {
    const ROOM: usize = 32 << 10;
    while bytes.len() > ROOM && bytes[bytes.len() - ROOM..].iter().all(|byte| *byte == 0) {
        bytes.truncate(bytes.len() - ROOM / 2);
    }
    bytes
}

/// What a reader gets of all partitions.
pub fn read(life: &mut Life, topics: &[(&'static str, Uuid, i32)]) -> BTreeMap<(Uuid, i32), Fetched> {
    let partitions = topics.iter().flat_map(|(_, id, count)| (0..*count).map(|partition| (*id, partition)));
    partitions.map(|(id, partition)| ((id, partition), life.fetch(id, partition))).collect()
}

/// A disk with these files, all of them durable.
pub fn disk_of(files: &BTreeMap<String, Vec<u8>>) -> SimDisk {
    let disk = SimDisk::new(1, Faults::NONE);
    for (path, bytes) in files {
        if let Some((folder, _)) = path.rsplit_once('/') {
            disk.create_dir(folder).unwrap();
        }
        disk.replace(path, bytes).unwrap();
    }
    disk
}

fn create(life: &mut Life, name: &str, partitions: i32, policy: &str) -> Uuid {
    let config = |name, value| CreatableTopicConfig { name, value: Some(value) };
    let topic = CreatableTopic {
        name,
        num_partitions: partitions,
        replication_factor: 1,
        configs: vec![config("cleanup.policy", policy), config("retention.ms", "-1")],
        ..Default::default()
    };
    let answer = life.call(7, &CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() });
    let created: CreateTopicsResponse<'_> = message(&answer, 7);
    assert!(created.topics[0].error_code.is_none(), "{:?}", created.topics[0]);
    created.topics[0].topic_id
}

fn produce(life: &mut Life, name: &str, partition: i32, turn: usize) {
    let mut builder = BatchBuilder::new();
    for n in 0..1 + turn % 3 {
        let value = format!("{name}-{partition}-{turn}-{n}-{}", "x".repeat(turn * 37 % 400));
        builder.push(BEGIN_MS, Some(format!("key-{}", turn % 50).as_bytes()), Some(value.as_bytes()), &[]);
    }
    let batch = builder.build().unwrap();
    let data = PartitionProduceData { index: partition, records: RecordSet::Bytes(&batch) };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name, partition_data: vec![data], ..Default::default() }],
        ..Default::default()
    };
    let answer = life.call(9, &request);
    let answer: ProduceResponse<'_> = message(&answer, 9);
    let code = answer.responses[0].partition_responses[0].error_code;
    assert!(code.is_none(), "{code}");
}

fn delete(life: &mut Life, name: &str) {
    life.call(5, &DeleteTopicsRequest { topic_names: vec![name], timeout_ms: 1000, ..Default::default() });
}

fn trim(life: &mut Life, name: &str, offset: i64) {
    let partition = DeleteRecordsPartition { partition_index: 0, offset };
    let topic = DeleteRecordsTopic { name, partitions: vec![partition] };
    life.call(2, &DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 });
}

fn commit(life: &mut Life) {
    let partition = OffsetCommitRequestPartition { partition_index: 0, committed_offset: 7, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: "orders", partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: "readers",
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    life.call(8, &request);
}

#[test]
fn the_image_has_files_of_every_kind() {
    let image = image();
    let count = |part: &str| image.files.keys().filter(|path| path.starts_with(part)).count();
    assert!(count("wal/") >= 4, "{:?}", image.files.keys());
    assert!(count("packs/") >= 1 && count("checkpoints/") == 2, "{:?}", image.files.keys());
    assert_eq!(image.topics.len(), 3);
    assert!(image.whole.values().all(|batches| batches.len() > 30));
}
