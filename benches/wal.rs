//! Owns the measurement of the log's write path: one writer, each group made durable before the next.
//!
//! `cargo bench --bench wal [-- DIRECTORY]`; the directory should lie on the disk that is meant, not on a tmpfs. It
//! first writes to bare files in the ways that the log could, then through the log's writer. `KIB=N`: nothing but the log as the
//! server has it, with groups of so many KiB.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chronik::sys::aligned::AlignedBuf;
use chronik::sys::disk::Disk;
use chronik::sys::real_disk::{RealDisk, Writing};
use chronik::sys::usage::usage;
use chronik::wal::recovery::{recover, Replay};
use chronik::wal::settings::{FsyncMode, LogOptions};
use chronik::wal::{remove_segment, Group, MetaEntry, PartitionId, PlannedBatch, PlannedRun, RunRef, SegmentId};
use chronik::wire::Uuid;

/// How long each line measures.
const LINE_SECONDS: f64 = 1.5;
const FILE_BYTES: u64 = 128 << 20;
/// The log as the server has it.
const AS_SERVED: &str = "log: direct, always";
const SIZES: [usize; 5] = [4 << 10, 16 << 10, 128 << 10, 1 << 20, 4 << 20];

struct Line {
    micros: Vec<u64>,
    bytes: u64,
    started: Instant,
    cpu_started: f64,
}

impl Line {
    fn start() -> Line {
        Line { micros: Vec::new(), bytes: 0, started: Instant::now(), cpu_started: cpu_seconds() }
    }

    fn is_running(&self) -> bool {
        self.started.elapsed().as_secs_f64() < LINE_SECONDS
    }

    fn add(&mut self, bytes: usize, begun: Instant) {
        self.bytes += bytes as u64;
        self.micros.push(begun.elapsed().as_micros() as u64);
    }

    fn print(mut self, what: &str, size: usize) {
        let (wall, cpu) = (self.started.elapsed().as_secs_f64(), cpu_seconds() - self.cpu_started);
        self.micros.sort_unstable();
        let at = |share: f64| self.micros[((self.micros.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        println!(
            "{what:<34} {:>7} KiB {:>7.0} MB/s {:>7.2} GB per CPU s   median {:>7.3} ms   p99 {:>7.3} ms",
            size >> 10,
            self.bytes as f64 / wall / 1e6,
            self.bytes as f64 / cpu / 1e9,
            at(0.5),
            at(0.99),
        );
    }
}

/// CPU time of the process so far, user and system.
fn cpu_seconds() -> f64 {
    usage().cpu_seconds.expect("the platform tells")
}

fn filled(size: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::with_capacity(size);
    buf.resize(size);
    buf.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31) as u8);
    buf
}

/// One way of writing to a bare file.
struct Way {
    name: &'static str,
    direct: bool,
    dsync: bool,
    preallocated: bool,
}

#[cfg(target_os = "linux")]
const WAYS: [Way; 3] = [
    Way { name: "bare: buffered, fresh, fdatasync", direct: false, dsync: false, preallocated: false },
    Way { name: "bare: direct, fallocate, fdatasync", direct: true, dsync: false, preallocated: true },
    Way { name: "bare: direct, fallocate, O_DSYNC", direct: true, dsync: true, preallocated: true },
];

#[cfg(target_os = "linux")]
fn open_bare(dir: &Path, way: &Way) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join("bare");
    let _ = std::fs::remove_file(&path);
    if way.preallocated {
        let disk = RealDisk::open(dir, Writing::Auto).expect("a folder");
        disk.create("bare", FILE_BYTES).expect("a preallocated file");
    }
    let flags = if way.direct { libc::O_DIRECT } else { 0 } | if way.dsync { libc::O_DSYNC } else { 0 };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path);
    let file = file.expect("a file to write");
    file.sync_all().expect("a synced file");
    file
}

#[cfg(target_os = "linux")]
fn bare(dir: &Path, size: usize) {
    let buf = filled(size);
    for way in &WAYS {
        let mut file = open_bare(dir, way);
        let mut position = 0;
        let mut line = Line::start();
        while line.is_running() {
            if position + size as u64 > FILE_BYTES {
                file = open_bare(dir, way);
                position = 0;
            }
            let begun = Instant::now();
            file.write_all_at(&buf, position).expect("a write");
            if !way.dsync {
                file.sync_data().expect("a sync");
            }
            line.add(size, begun);
            position += size as u64;
        }
        line.print(way.name, size);
        let _ = std::fs::remove_file(dir.join("bare"));
    }
}

#[cfg(not(target_os = "linux"))]
fn bare(_dir: &Path, _size: usize) {}

struct Nothing;

impl Replay for Nothing {
    fn checkpoint(&mut self, _bytes: &[u8]) -> Result<(), String> {
        Ok(())
    }
    fn meta(&mut self, _entry: MetaEntry) -> Result<(), String> {
        Ok(())
    }
    fn run(&mut self, _run: RunRef, _batches: &[u8]) -> Result<(), String> {
        Ok(())
    }
    fn segment(&mut self, _id: SegmentId, _bytes: u64, _sealed: bool) {}
}

/// Runs of eight partitions with batches of at most 16 KiB, as producers send them.
fn group(seq: u64, content: &Bytes, offsets: &mut i64) -> Group {
    let partitions = 8.min(content.len() / 512) as i32;
    let each = content.len() / partitions as usize;
    let run = |partition: i32| {
        let part = content.slice(partition as usize * each..(partition as usize + 1) * each);
        let mut batches: Vec<PlannedBatch> = Vec::new();
        let mut at = 0;
        while at < part.len() {
            let end = if part.len() - at < (20 << 10) { part.len() } else { at + (16 << 10) };
            batches.push(PlannedBatch { bytes: part.slice(at..end), base_offset: *offsets, leader_epoch: 0 });
            at = end;
        }
        let id = PartitionId { topic: Uuid([1; 16]), partition };
        PlannedRun { id, base_offset: *offsets, last_offset: *offsets, max_timestamp: 0, batches }
    };
    let runs = (0..partitions).map(run).collect();
    *offsets += 1;
    Group { seq, runs, ..Group::default() }
}

fn through_the_log(dir: &Path, size: usize, name: &str, writing: Writing, fsync: FsyncMode, recycle: bool) {
    let dir = dir.join("log");
    let _ = std::fs::remove_dir_all(&dir);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir, writing).expect("a data directory"));
    let options = LogOptions { segment_bytes: FILE_BYTES, fsync, ..LogOptions::default() };
    let mut recovered = recover(disk.clone(), options, &mut Nothing).expect("an open log");
    let content = Bytes::from(filled(size - 2048).to_vec());
    let (mut seq, mut offsets) = (0, 0);
    let mut line = Line::start();
    while line.is_running() {
        seq += 1;
        let group = group(seq, &content, &mut offsets);
        let begun = Instant::now();
        let written = recovered.writer.step(group).expect("a written group");
        line.add(size, begun);
        recovered.writer.tend();
        if let Some((segment, _)) = written.sealed {
            remove_segment(&*disk, segment).expect("a removed segment");
        }
        if recycle {
            recovered.writer.recycle(written.buf);
        }
    }
    line.print(name, size);
    let _ = std::fs::remove_dir_all(&dir);
}

/// How long a start takes when the open segment holds nothing, and when it is full of groups that were not sealed.
fn starts(dir: &Path) {
    let dir = dir.join("log");
    let _ = std::fs::remove_dir_all(&dir);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir, Writing::Auto).expect("a data directory"));
    let options = || LogOptions { segment_bytes: FILE_BYTES, ..LogOptions::default() };
    let timed = |what: &str| {
        let begun = Instant::now();
        let recovered = recover(disk.clone(), options(), &mut Nothing).expect("an open log");
        println!("{what:<34} {:>7.1} ms", begun.elapsed().as_secs_f64() * 1e3);
        recovered
    };
    timed("start: new directory");
    let mut recovered = timed("start: empty segment");
    let content = Bytes::from(filled((1 << 20) - 2048).to_vec());
    let mut offsets = 0;
    for seq in 1..100 {
        recovered.writer.step(group(seq, &content, &mut offsets)).expect("a written group");
    }
    timed("start: 99 MiB to replay");
    timed("start: sealed segment");
    let _ = std::fs::remove_dir_all(&dir);
}

fn main() {
    let given = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let dir = given.map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).to_path_buf(), PathBuf::from);
    let dir = dir.join(format!("bench-wal-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a scratch folder");
    println!("in {}; a line measures {LINE_SECONDS} s", dir.display());
    if let Some(kib) = std::env::var("KIB").ok().map(|text| text.parse::<usize>().expect("KIB is a number")) {
        through_the_log(&dir, kib << 10, AS_SERVED, Writing::Auto, FsyncMode::Always, true);
        let _ = std::fs::remove_dir_all(&dir);
        return;
    }
    starts(&dir);
    for size in SIZES {
        bare(&dir, size);
        through_the_log(&dir, size, AS_SERVED, Writing::Auto, FsyncMode::Always, true);
        through_the_log(&dir, size, "log: direct, always, fresh memory", Writing::Auto, FsyncMode::Always, false);
        through_the_log(&dir, size, "log: buffered, always", Writing::Buffered, FsyncMode::Always, true);
        through_the_log(&dir, size, "log: direct, never", Writing::Auto, FsyncMode::Never, true);
    }
    let _ = std::fs::remove_dir_all(&dir);
}
