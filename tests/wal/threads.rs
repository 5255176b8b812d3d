//! Owns the threads of the log on the real disk, with direct and with buffered writing.

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::Arc;
use std::time::Duration;

use chronik::sys::disk::Disk;
use chronik::sys::real_disk::{RealDisk, Writing};
use chronik::wal::read_cache::ReadCache;
use chronik::wal::readers::{ReaderCounts, Readers};
use chronik::wal::settings::{FsyncMode, LogOptions};
use chronik::wal::thread::WalThread;
use chronik::wal::{Place, ReadFound, ReadJob, ReadKind};

use super::support::{group, open, options, partition, Planner};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("chronik-wal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write_and_read(name: &str, writing: Writing, fsync: FsyncMode) {
    let scratch = Scratch::new(name);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&scratch.0, writing).unwrap());
    let tuned = |seed| LogOptions { fsync, ..options(seed) };
    let (recovered, _) = open(disk.clone(), tuned(1)).unwrap();
    let (sender, written) = channel();
    let wal = WalThread::spawn(recovered.writer, move |result| sender.send(result).unwrap()).unwrap();
    let mut planner = Planner::default();
    for seq in 1..=40 {
        let runs = (0..4).map(|p| planner.run(partition(1, p), 2, 2, 700)).collect();
        wal.submit(group(seq, vec![], runs)).unwrap();
        let done = written.recv().unwrap().unwrap();
        assert_eq!(done.seq, seq);
        wal.pool().give(done.buf);
    }
    assert!(wal.stop());
    let (recovered, seen) = open(disk.clone(), tuned(2)).unwrap();
    assert!(recovered.clean, "{:?}", recovered.notes);
    assert_eq!(seen.runs.len(), 160);
    let (sender, found) = channel();
    let cache = Arc::new(ReadCache::new(disk));
    let counts = ReaderCounts { here: 2, elsewhere: None };
    let readers = Readers::spawn(cache, counts, move |done| sender.send(done).unwrap()).unwrap();
    for (number, run) in seen.runs.iter().enumerate() {
        let place = Place { segment: run.segment, runs: None };
        let end_offset = run.last_offset + 1;
        let kind = ReadKind::Fetch { place, offset: run.base_offset, end_offset, bytes_max: 1 << 20, convert: None };
        readers.submit(ReadJob { job: number as u64, asked_us: 0, id: run.id, kind }).unwrap();
    }
    for _ in &seen.runs {
        let done = found.recv().unwrap();
        let run = &seen.runs[done.job as usize];
        match done.result.unwrap() {
            ReadFound::Splices(splices, _) => {
                assert_eq!((splices.len(), splices[0].position, splices[0].len), (1, run.position, run.len));
                assert!(splices[0].handle.file.sendfile_fd().is_some());
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(readers.stop());
}

#[test]
fn groups_written_by_the_thread_are_read_by_the_readers() {
    write_and_read("direct", Writing::Auto, FsyncMode::Always);
}

#[test]
fn the_same_through_the_page_cache() {
    write_and_read("buffered", Writing::Buffered, FsyncMode::Always);
}

#[test]
fn the_same_with_syncs_at_intervals() {
    write_and_read("interval", Writing::Auto, FsyncMode::Interval(Duration::from_millis(1)));
}

#[test]
fn an_idle_thread_makes_no_wake_ups() {
    let scratch = Scratch::new("idle");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&scratch.0, Writing::Auto).unwrap());
    let fsync = FsyncMode::Interval(Duration::from_millis(1));
    let (mut recovered, _) = open(disk, LogOptions { fsync, ..options(1) }).unwrap();
    let mut planner = Planner::default();
    recovered.writer.step(group(1, vec![], vec![planner.run(partition(1, 0), 1, 1, 10)])).unwrap();
    assert!(recovered.writer.is_unsynced());
    recovered.writer.sync().unwrap();
    assert!(!recovered.writer.is_unsynced(), "without unsynced groups the thread has no deadline");
}
