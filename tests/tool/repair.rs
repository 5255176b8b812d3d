//! Owns repairs: what is readable comes back through a real server, what is lost is named, the damaged copy stays as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use chronik::cli::client::Cluster;
use chronik::wire::batch::{batches, records, Batch, BatchBuilder};
use chronik::wire::msg::*;
use chronik::wire::{RecordSet, Uuid};

use super::{items, json, printed, stderr, tool};
use crate::codec::json::Json;
use crate::net::process::{Server, TempDir};

fn cluster(server: &Server) -> Cluster {
    let deadline = Instant::now() + Duration::from_secs(60);
    Cluster::connect(&server.address("Kafka protocol on").to_string(), deadline).unwrap().0
}

fn id_of(cluster: &mut Cluster, topic: &str) -> Uuid {
    let reply = cluster.metadata(Some(&[topic])).unwrap();
    reply.decode::<MetadataResponse<'_>>().unwrap().topics[0].topic_id
}

/// One batch of one record; its offset.
fn produce(cluster: &mut Cluster, topic: &str, partition: i32, value: &str) -> i64 {
    let topic_id = id_of(cluster, topic);
    let mut builder = BatchBuilder::new();
    builder.push(1_700_000_000_000, Some(b"key"), Some(value.as_bytes()), &[]);
    let batch = builder.build().unwrap();
    let data = PartitionProduceData { index: partition, records: RecordSet::Bytes(&batch) };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: topic, topic_id, partition_data: vec![data] }],
        ..Default::default()
    };
    let reply = cluster.any().call(&request).unwrap();
    let answer: ProduceResponse<'_> = reply.decode().unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    assert!(partition.error_code.is_none(), "{}", partition.error_code);
    partition.base_offset
}

/// Everything that can be fetched of a partition, by offset, with the largest leader epoch that clients are told.
fn fetch(cluster: &mut Cluster, topic: &str, partition: i32) -> BTreeMap<i64, String> {
    let topic_id = id_of(cluster, topic);
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
            topics: vec![FetchTopic { topic, topic_id, partitions: vec![wanted] }],
            session_epoch: -1,
            ..Default::default()
        };
        let reply = cluster.any().call(&request).unwrap();
        let answer: FetchResponse<'_> = reply.decode().unwrap();
        let part = &answer.responses[0].partitions[0];
        assert!(part.error_code.is_none(), "{}", part.error_code);
        let RecordSet::Bytes(bytes) = part.records else { return found };
        let before = offset;
        for batch in batches(bytes) {
            let batch: Batch<'_> = batch.unwrap();
            let mut scratch = Vec::new();
            for record in records(&batch, &mut scratch, 1 << 20).unwrap() {
                let record = record.unwrap();
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                found.insert(record.offset(&batch.header), value);
            }
            offset = batch.header.last_offset() + 1;
        }
        if offset == before {
            return found;
        }
    }
}

fn epoch_of(cluster: &mut Cluster, topic: &str) -> i32 {
    let reply = cluster.metadata(Some(&[topic])).unwrap();
    reply.decode::<MetadataResponse<'_>>().unwrap().topics[0].partitions[0].leader_epoch
}

/// Flips one bit of the place where these bytes stand in the log.
fn flip(dir: &Path, needle: &str) {
    let mut hits = 0;
    for item in fs::read_dir(dir.join("wal")).unwrap() {
        let path = item.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes());
        if let Some(at) = at {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            hits += 1;
        }
    }
    assert_eq!(hits, 1, "{needle}");
}

/// Every file with its bytes.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in ["", "wal", "checkpoints"] {
        for item in fs::read_dir(dir.join(folder)).into_iter().flatten() {
            let path = item.unwrap().path();
            if path.is_file() {
                files.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn extents(json: &Json) -> Vec<(String, String, String, String)> {
    let text = |json: &Json, name: &str| json.text(name).unwrap().to_owned();
    let extent = |json: &Json| {
        (text(json, "topic"), text(json, "partition"), text(json, "first_offset"), text(json, "last_offset"))
    };
    json.list("lost").iter().map(extent).collect()
}

fn stop(server: Server) {
    assert!(server.stop().0.success());
}

fn values(range: std::ops::Range<i64>) -> BTreeMap<i64, String> {
    range.map(|n| (n, format!("value-{n:04}"))).collect()
}

fn damaged_directory(dir: &Path, args: &[&str]) -> (i32, String) {
    let server = Server::start(dir, args);
    let brokers = server.address("Kafka protocol on").to_string();
    printed(&["topic", "create", "orders", "-p", "2", "-c", "retention.ms=-1", "-b", &brokers], 0);
    printed(&["topic", "create", "gone", "-b", &brokers], 0);
    let mut client = cluster(&server);
    for n in 0..20 {
        assert_eq!(produce(&mut client, "orders", 0, &format!("value-{n:04}")), n);
        produce(&mut client, "orders", 1, &format!("other-{n:04}"));
    }
    produce(&mut client, "gone", 0, "deleted");
    printed(&["topic", "delete", "gone", "-y", "-b", &brokers], 0);
    let facts = (epoch_of(&mut client, "orders"), id_of(&mut client, "orders").to_string());
    stop(server);
    facts
}

fn repairs(name: &str, args: &[&str]) {
    let (dir, new) = (TempDir::new(&format!("repair-{name}")), TempDir::new(&format!("repaired-{name}")));
    let (epoch, id) = damaged_directory(&dir.0, args);
    flip(&dir.0, "value-0007");
    let before = contents(&dir.0);
    let (from, into) = (dir.0.to_str().unwrap(), new.0.to_str().unwrap());
    let dry = json(&["wal", "repair", "-d", from, "--into", into, "--dry-run"], 0);
    assert!(!new.0.exists(), "a dry run makes nothing");
    let done = json(&["wal", "repair", "-d", from, "--into", into], 0);
    let lost = vec![("orders".into(), "0".into(), "7".into(), "7".into())];
    assert_eq!((extents(&dry), extents(&done)), (lost.clone(), lost));
    assert_eq!(done.text("metadata_lost"), Some("false"));
    assert!(contents(&dir.0) == before, "the damaged directory was written to");
    json(&["wal", "verify", "-d", into], 0);
    let refused = tool(&["wal", "repair", "-d", from, "--into", into]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("not empty"), "{}", stderr(&refused));

    let server = Server::start(&new.0, args);
    let brokers = server.address("Kafka protocol on").to_string();
    let mut client = cluster(&server);
    assert_eq!(id_of(&mut client, "orders").to_string(), id);
    assert!(epoch_of(&mut client, "orders") > epoch, "leader epochs are raised");
    let mut expected = values(0..20);
    expected.remove(&7);
    assert_eq!(fetch(&mut client, "orders", 0), expected);
    assert_eq!(fetch(&mut client, "orders", 1).len(), 20);
    let described = json(&["topic", "describe", "orders", "-b", &brokers], 0);
    assert_eq!(items(&described)[0].list("configs")[0].text("name"), Some("retention.ms"));
    assert_eq!(printed(&["topic", "list", "-q", "-b", &brokers], 0), "orders\n");
    assert_eq!(produce(&mut client, "orders", 0, "value-0020"), 20);
    stop(server);
    json(&["wal", "verify", "-d", into], 0);
}

#[test]
fn a_flipped_bit_costs_one_record_and_the_rest_is_served_from_the_repaired_directory() {
    repairs("log", &[]);
}

#[test]
fn a_directory_with_metadata_in_files_is_repaired_too() {
    repairs("files", &["--file-metadata"]);
}

#[test]
fn records_of_a_topic_whose_name_is_lost_come_back_under_a_name_that_says_so() {
    let (dir, new) = (TempDir::new("repair-nameless"), TempDir::new("repaired-nameless"));
    let mut server = Server::start(&dir.0, &[]);
    let brokers = server.address("Kafka protocol on").to_string();
    printed(&["topic", "create", "needle-topic", "-b", &brokers], 0);
    let mut client = cluster(&server);
    for n in 0..5 {
        produce(&mut client, "needle-topic", 0, &format!("value-{n:04}"));
    }
    let id = id_of(&mut client, "needle-topic").to_string();
    // kill -9, so that no checkpoint knows the topic.
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    flip(&dir.0, "needle-topic");
    let (from, into) = (dir.0.to_str().unwrap(), new.0.to_str().unwrap());
    let done = json(&["wal", "repair", "-d", from, "--into", into], 0);
    assert_eq!(done.text("metadata_lost"), Some("true"));
    let name = format!("recovered.{id}");
    assert_eq!(done.list("recovered_topics")[0].text("name"), Some(name.as_str()));
    let server = Server::start(&new.0, &[]);
    assert_eq!(fetch(&mut cluster(&server), &name, 0), values(0..5));
    stop(server);
}

#[test]
fn a_sound_directory_comes_out_whole_and_trimmed_records_stay_away() {
    let (dir, new) = (TempDir::new("repair-sound"), TempDir::new("repaired-sound"));
    let server = Server::start(&dir.0, &[]);
    let brokers = server.address("Kafka protocol on").to_string();
    printed(&["topic", "create", "orders", "-b", &brokers], 0);
    let mut client = cluster(&server);
    for n in 0..9 {
        produce(&mut client, "orders", 0, &format!("value-{n:04}"));
    }
    printed(&["topic", "trim", "orders", "--before", "4", "-y", "-b", &brokers], 0);
    stop(server);
    let (from, into) = (dir.0.to_str().unwrap(), new.0.to_str().unwrap());
    let done = json(&["wal", "repair", "-d", from, "--into", into], 0);
    assert!(done.list("lost").is_empty() && done.text("batches") == Some("5"), "{done:?}");
    let server = Server::start(&new.0, &[]);
    let brokers = server.address("Kafka protocol on").to_string();
    let described = json(&["topic", "describe", "orders", "-b", &brokers], 0);
    let partition = &items(&described)[0].list("partitions")[0];
    assert_eq!((partition.text("start_offset"), partition.text("end_offset")), (Some("4"), Some("9")));
    stop(server);
}
