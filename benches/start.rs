//! Measures how long a server takes to be ready, and what memory it has then, when nearly all of its log is in an object store that
//! does not even answer, against one whose data directory is new.
//!
//! `OBJECTS=10000 cargo bench --bench start`. `PARTITIONS` (100) are in one topic, `PER_OBJECT` (10) of them have records in each
//! segment, `RUNS` (5) is how often everything is done in turn.
//!
//! `SEALED_GB=100 cargo bench --bench start`: so much in sealed segments on the disk instead (`start/sealed.rs`), in runs of `RUN_KIB`
//! (1024) of `PARTITIONS` (1000), which take hardly any room because their values are holes.

#[path = "start/sealed.rs"]
mod sealed;
#[path = "start/sparse.rs"]
mod sparse;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik::broker::recovery::Recovering;
use chronik::broker::settings::Settings;
use chronik::broker::{metalog, Now};
use chronik::config::Config;
use chronik::metrics::Metrics;
use chronik::sys::disk::Disk;
use chronik::sys::real_disk::{RealDisk, Writing};
use chronik::wal::recovery::recover;
use chronik::wal::settings::LogOptions;
use chronik::wal::{checkpoint, Group, MetaEntry, PartitionId, RunRef, SegmentId};
use chronik::wire::batch::BatchBuilder;
use chronik::wire::Uuid;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn settings() -> Settings {
    let mut config = Config::default();
    config.storage.local_path = Some("nowhere".into());
    Settings {
        config,
        cluster_id: "bench".into(),
        advertised_host: None,
        advertised_port: None,
        seed: 1,
        metadata_in_log: true,
        metrics: Arc::new(Metrics::new()),
    }
}

const TOPIC: Uuid = Uuid([7; 16]);
/// What a segment's object is said to have.
const OBJECT_BYTES: u64 = 128 << 20;

fn numbered(table: u8, number: u64, value: Vec<u8>) -> MetaEntry {
    let key = Bytes::copy_from_slice(&number.to_be_bytes());
    MetaEntry { table, scope: Bytes::new(), key, value: Some(value.into()) }
}

/// A checkpoint in which the records of so many packs are in the store only.
fn state(objects: u64) -> Vec<u8> {
    let (partitions, per_object) = (number("PARTITIONS", 100), number("PER_OBJECT", 10));
    let mut recovering = Recovering::new(settings());
    let topic = chronik::broker::topics::topic_entry(TOPIC, "old", partitions as usize, &Default::default());
    recovering.meta(&topic).unwrap();
    let mut builder = BatchBuilder::new();
    builder.push(1_700_000_000_000, None, Some(b"value"), &[]);
    let batch = builder.build().unwrap();
    let mut next = vec![0i64; partitions as usize];
    for pack in 1..=objects {
        let id = SegmentId::Pack(pack);
        for nth in 0..per_object {
            let partition = (pack * per_object + nth) % partitions;
            let offset = next[partition as usize];
            next[partition as usize] += 1;
            let mut batch = batch.to_vec();
            batch[..8].copy_from_slice(&offset.to_be_bytes());
            let run = RunRef {
                id: PartitionId { topic: TOPIC, partition: partition as i32 },
                base_offset: offset,
                last_offset: offset,
                max_timestamp: 1_700_000_000_000,
                segment: id,
                position: 4096,
                len: batch.len() as u32,
            };
            recovering.run(run, &batch).unwrap();
        }
        let mut value = vec![0, 0];
        [pack, OBJECT_BYTES].iter().for_each(|number| value.extend(number.to_be_bytes()));
        value.extend([0; 5]);
        recovering.meta(&numbered(metalog::OBJECT, id.raw(), value)).unwrap();
        recovering.meta(&numbered(metalog::PACK, pack, vec![0])).unwrap();
    }
    let broker = recovering.at_rest(Now { mono_us: 0, wall_ms: 1_700_000_000_000 }, false).unwrap();
    broker.snapshot(true)
}

/// A data directory that begins with such a checkpoint; its bytes.
fn prepare(root: &Path, objects: u64) -> usize {
    let _ = fs::remove_dir_all(root);
    fs::create_dir_all(root).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root, Writing::Auto).unwrap());
    let mut none = Recovering::new(settings());
    let mut log = recover(disk.clone(), LogOptions::default(), &mut none).unwrap();
    let group = Group { seq: 1, meta: Vec::new(), runs: Vec::new(), seal_after: false };
    let written = log.writer.step(group).unwrap();
    let bytes = state(objects);
    checkpoint::write(&*disk, log.directory_id, 1, written.next, &bytes).unwrap();
    log.writer.close().unwrap();
    bytes.len()
}

/// A server whose log says that it is ready.
struct Server {
    child: Child,
    begun: Instant,
    port: u16,
}

impl Server {
    /// Starts one and waits until it is ready.
    fn start(root: &Path, store: Option<&Path>) -> Server {
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chronik-server"));
        command.args(["-b", "127.0.0.1", "-p", "0", "-a", "0", "--metrics-port", "0", "-d"]).arg(root);
        if let Some(store) = store {
            command.arg("--local-storage-path").arg(store);
        }
        command.env_remove("JOURNAL_STREAM").stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let said: Vec<String> = lines.by_ref().take_while(|line| !line.contains("ready after")).collect();
        assert!(child.try_wait().unwrap().is_none(), "the server ended: {said:#?}");
        // Whatever it says from here on must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        let port = said.iter().find_map(|line| line.split_once("Kafka protocol on 127.0.0.1:")?.1.parse().ok());
        Server { child, begun, port: port.expect("it says where it listens") }
    }

    /// Kills it; the bytes of its memory until then.
    fn end(mut self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        memory.unwrap_or(0u64) * 1024
    }
}

/// How long a start takes, and the bytes of the server's memory then.
fn start(root: &Path, store: &Path) -> (Duration, u64) {
    let server = Server::start(root, Some(store));
    let time = server.begun.elapsed();
    (time, server.end())
}

fn main() {
    let (objects, runs) = (number("OBJECTS", 10_000), number("RUNS", 5));
    let base: PathBuf = std::env::temp_dir().join(format!("chronik-start-{}", std::process::id()));
    let (empty, full, store) = (base.join("empty"), base.join("full"), base.join("no-such-store/at-all"));
    if number("SEALED_GB", 0) > 0 {
        sealed::measure(&full, number("SEALED_GB", 0), runs);
        let _ = fs::remove_dir_all(&base);
        return;
    }
    println!("{objects} objects        new: ready, memory        with objects: ready, memory, per object");
    for _ in 0..runs {
        let _ = fs::remove_dir_all(&empty);
        let (new_time, new_bytes) = start(&empty, &store);
        let checkpoint = prepare(&full, objects);
        let (time, bytes) = start(&full, &store);
        println!(
            "                      {:6.0} ms, {:5.1} MiB            {:6.0} ms, {:5.1} MiB, {:5} bytes   checkpoint: {} bytes",
            new_time.as_secs_f64() * 1e3,
            new_bytes as f64 / f64::from(1 << 20),
            time.as_secs_f64() * 1e3,
            bytes as f64 / f64::from(1 << 20),
            bytes.saturating_sub(new_bytes) / objects.max(1),
            checkpoint
        );
    }
    let _ = fs::remove_dir_all(&base);
}
