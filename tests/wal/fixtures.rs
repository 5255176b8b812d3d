//! Owns the committed data directory of format 1, which every later version must read.
//!
//! `CHRONIK_WRITE_FIXTURES=1 cargo test wal::fixtures` makes it again; that is only right before format 1 is released.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik::sys::disk::Disk;
use chronik::sys::real_disk::{RealDisk, Writing};
use chronik::wal::checkpoint;
use chronik::wal::settings::{LogOptions, MetadataStore};

use super::support::{entry, group, open, options, partition, Planner};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/log-v1").join(name)
}

fn small(metadata: MetadataStore) -> LogOptions {
    LogOptions { segment_bytes: 32 << 10, group_bytes_max: 4 << 10, ballast_bytes: 0, metadata, ..options(1) }
}

/// Sealed segments, a checkpoint, an unsealed tail.
fn write(dir: &Path, metadata: MetadataStore) {
    let _ = std::fs::remove_dir_all(dir);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir, Writing::Buffered).unwrap());
    let (mut recovered, _) = open(disk.clone(), small(metadata)).unwrap();
    let mut planner = Planner::default();
    for seq in 1..=10 {
        let runs = (0..2).map(|p| planner.run(partition(1, p), 2, 2, 20)).collect();
        let meta = vec![entry("topic", &format!("k{seq}"), Some("value")), entry("topic", "gone", None)];
        let written = recovered.writer.step(group(seq, meta, runs)).unwrap();
        if seq == 5 {
            checkpoint::write(&*disk, recovered.directory_id, seq, written.next, b"the broker's state").unwrap();
        }
    }
}

/// Works on a copy, because opening seals the tail.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        match item.file_type().unwrap().is_dir() {
            true => copy(&item.path(), &to.join(item.file_name())),
            false => std::fs::copy(item.path(), to.join(item.file_name())).map(drop).unwrap(),
        }
    }
}

fn check(name: &str, metadata: MetadataStore, entries: usize) {
    if std::env::var_os("CHRONIK_WRITE_FIXTURES").is_some() {
        write(&fixture(name), metadata);
    }
    let work = std::env::temp_dir().join(format!("chronik-fixture-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&work);
    copy(&fixture(name), &work);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&work, Writing::Auto).unwrap());
    let (recovered, seen) = open(disk, LogOptions { segment_bytes: 64 << 10, ..small(metadata) }).unwrap();
    assert_eq!(seen.checkpoint.as_deref(), Some(&b"the broker's state"[..]));
    assert_eq!((recovered.next_seq, seen.runs.len(), seen.meta.len()), (11, 10, entries));
    assert_eq!(seen.next[&partition(1, 1)], 40);
    assert_eq!(recovered.cluster_id.len(), 22);
    assert!(!recovered.clean && seen.segments.len() > 2);
    std::fs::remove_dir_all(&work).unwrap();
}

#[test]
fn a_log_of_format_1_is_read() {
    check("log", MetadataStore::Log, 10);
}

#[test]
fn metadata_files_of_format_1_are_read() {
    check("files", MetadataStore::Files, 10);
}
