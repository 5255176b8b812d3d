//! Owns damage: what was durable and is not readable is refused with file, position and remedy; a torn tail is dropped.

use std::sync::Arc;

use chronik::sys::aligned::AlignedBuf;
use chronik::sys::disk::{Disk, OpenMode};
use chronik::wal::settings::{FsyncMode, LogOptions};
use chronik::wal::{RecoverError, SegmentId, Written};

use super::support::{group, open, options, partition, Planner, Seen};
use crate::sim::disk::{Faults, Op, SimDisk, Trouble};
use crate::sim::rng::Rng;

const FIRST: &str = "wal/00000000000000000001.log";

/// A log of so many groups in several partitions; the directory is left as kill -9 leaves it.
fn written(disk: &SimDisk, options: LogOptions, groups: u64) -> Vec<Written> {
    let (mut recovered, _) = open(Arc::new(disk.clone()), options).unwrap();
    let mut planner = Planner::default();
    let one = |seq| {
        let runs = (0..3).map(|p| planner.run(partition(1, p), 2, 3, 500)).collect();
        recovered.writer.step(group(seq, vec![], runs)).unwrap()
    };
    (1..=groups).map(one).collect()
}

fn runs_of(written: &[Written]) -> usize {
    written.iter().map(|w| w.runs.len()).sum()
}

fn refused(disk: &SimDisk) -> (String, u64, String) {
    match open(Arc::new(disk.restart()), options(77)) {
        Err(RecoverError::Corrupt { file, position, what, remedy }) => {
            assert!(!remedy.is_empty());
            (file, position, what)
        }
        Err(other) => panic!("refused with {other}"),
        Ok((recovered, _)) => panic!("opened: {:?}", recovered.notes),
    }
}

fn opened(disk: &SimDisk) -> (Vec<String>, bool, Seen) {
    let (recovered, seen) = open(Arc::new(disk.restart()), options(78)).unwrap_or_else(|e| panic!("{e}"));
    (recovered.notes, recovered.clean, seen)
}

#[test]
fn a_flipped_bit_in_any_group_but_the_last_is_corruption_with_file_and_position() {
    for victim in 0..4 {
        let disk = SimDisk::new(1, Faults::NONE);
        let groups = written(&disk, options(1), 5);
        disk.rot(FIRST, groups[victim].position + 200, 1).unwrap();
        let (file, position, what) = refused(&disk);
        assert_eq!((file.as_str(), position), (FIRST, groups[victim].position), "{what}");
    }
}

#[test]
fn bit_rot_in_the_very_last_group_is_dropped_with_a_word() {
    let disk = SimDisk::new(1, Faults::NONE);
    let groups = written(&disk, options(1), 5);
    disk.rot(FIRST, groups[4].position + 200, 1).unwrap();
    let (notes, clean, seen) = opened(&disk);
    assert!(!clean && notes.iter().any(|note| note.contains("bytes from position")), "{notes:?}");
    assert_eq!(seen.runs.len(), runs_of(&groups[..4]));
}

#[test]
fn what_the_refusal_says_to_do_works() {
    let disk = SimDisk::new(1, Faults::NONE);
    let groups = written(&disk, options(1), 5);
    disk.rot(FIRST, groups[2].position + 50, 1).unwrap();
    let error = open(Arc::new(disk.restart()), options(2)).unwrap_err().to_string();
    let position = groups[2].position;
    assert!(error.contains(&format!("truncate -s {position} {FIRST}")), "{error}");
    let disk = disk.restart();
    disk.open(FIRST, OpenMode::Direct).unwrap().truncate(position).unwrap();
    let (_, _, seen) = opened(&disk);
    assert_eq!(seen.runs.len(), runs_of(&groups[..2]));
}

#[test]
fn damage_in_a_sealed_segment_is_corruption_even_in_its_last_group() {
    let disk = SimDisk::new(1, Faults::NONE);
    let groups = written(&disk, options(1), 40);
    let first: Vec<_> = groups.iter().filter(|w| w.handle.segment == SegmentId::FIRST).collect();
    assert!(groups.last().unwrap().handle.segment > SegmentId::Wal(2));
    let position = first.last().unwrap().position;
    disk.rot(FIRST, position + 100, 1).unwrap();
    assert_eq!(refused(&disk).1, position);
}

#[test]
fn a_damaged_footer_is_written_again_because_the_chain_proves_the_groups() {
    let disk = SimDisk::new(1, Faults::NONE);
    let groups = written(&disk, options(1), 40);
    let len = disk.contents(FIRST).unwrap().len() as u64;
    disk.rot(FIRST, len - 20, 1).unwrap();
    let (notes, _, seen) = opened(&disk);
    assert!(notes.iter().any(|note| note.contains("footer")), "{notes:?}");
    assert_eq!(seen.runs.len(), runs_of(&groups));
    assert_eq!(disk.contents(FIRST).unwrap().len() as u64, len);
    let (notes, clean, _) = opened(&disk);
    assert!(clean && notes.is_empty(), "{notes:?}");
}

#[test]
fn every_segment_is_read_at_recovery_and_not_only_the_latest() {
    let disk = SimDisk::new(1, Faults::NONE);
    let groups = written(&disk, options(1), 60);
    let (_, _, seen) = opened(&disk);
    assert!(seen.segments.len() > 4);
    assert_eq!(seen.runs.len(), runs_of(&groups));
    for p in 0..3 {
        assert_eq!(seen.next[&partition(1, p)], 60 * 6, "multi-batch runs come back with all their records");
        assert_eq!(seen.runs.iter().filter(|run| run.id == partition(1, p)).map(|run| run.base_offset).min(), Some(0));
    }
}

#[test]
fn a_missing_segment_in_the_middle_or_at_the_start_is_refused() {
    for missing in [1, 2] {
        let disk = SimDisk::new(1, Faults::NONE);
        written(&disk, options(1), 60);
        let disk = disk.restart();
        let file = format!("wal/{missing:020}.log");
        disk.remove(&file).unwrap();
        assert_eq!(refused(&disk).0, file);
    }
}

#[test]
fn a_segment_of_another_directory_or_under_another_name_is_refused() {
    let (disk, other) = (SimDisk::new(1, Faults::NONE), SimDisk::new(2, Faults::NONE));
    written(&disk, options(1), 60);
    written(&other, options(2), 60);
    let second = "wal/00000000000000000002.log";
    let stranger = other.contents(second).unwrap();
    let (disk, original) = (disk.restart(), disk.contents(second).unwrap());
    put(&disk, second, &stranger);
    assert!(refused(&disk).2.contains("another data directory"));
    let disk = disk.restart();
    put(&disk, "wal/00000000000000000003.log", &original);
    put(&disk, second, &original);
    assert!(refused(&disk).2.contains("under another name"));
}

/// Replaces a segment's file by other bytes.
fn put(disk: &SimDisk, path: &str, bytes: &[u8]) {
    disk.remove(path).unwrap();
    let file = disk.create(path, bytes.len() as u64).unwrap();
    let mut buf = AlignedBuf::with_capacity(bytes.len());
    buf.extend_from_slice(bytes);
    file.write_at(&buf, 0).unwrap();
    file.sync_data().unwrap();
}

#[test]
fn a_newer_format_is_refused_with_what_to_do() {
    let disk = SimDisk::new(1, Faults::NONE);
    written(&disk, options(1), 1);
    let disk = disk.restart();
    let mut bytes = disk.contents(FIRST).unwrap();
    bytes[9] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_be_bytes());
    put(&disk, FIRST, &bytes);
    let error = open(Arc::new(disk.restart()), options(2)).unwrap_err();
    assert!(matches!(error, RecoverError::Newer { version: 2, .. }) && error.to_string().contains("newer"), "{error}");
    let disk = disk.restart();
    let marker = String::from_utf8(disk.read("chronik.dir", 4096).unwrap()).unwrap();
    disk.replace("chronik.dir", marker.replace("format 1", "format 9").as_bytes()).unwrap();
    let error = open(Arc::new(disk), options(2)).unwrap_err();
    assert!(matches!(error, RecoverError::Newer { version: 9, .. }), "{error}");
}

#[test]
fn segments_without_a_marker_are_refused_but_an_interrupted_first_start_is_done_again() {
    let disk = SimDisk::new(1, Faults::NONE);
    written(&disk, options(1), 1);
    let disk = disk.restart();
    disk.remove("chronik.dir").unwrap();
    assert_eq!(refused(&disk).0, "chronik.dir");
    let disk = SimDisk::new(1, Faults::NONE);
    written(&disk, options(1), 0);
    let disk = disk.restart();
    disk.remove("chronik.dir").unwrap();
    assert!(opened(&disk).0.iter().any(|note| note.contains("new")));
}

#[test]
fn groups_lost_together_without_fsync_are_a_tear_and_not_corruption() {
    for seed in 0..60 {
        let disk = SimDisk::new(seed, Faults { drop: true, torn: true, garbled: true, ..Faults::NONE });
        let tuned = LogOptions { fsync: FsyncMode::Never, ..options(seed) };
        let groups = written(&disk, tuned, 4 + seed % 20);
        let disk = disk.power_cut();
        let (_, seen) = open(Arc::new(disk), options(seed + 1000)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(seen.runs.len() <= runs_of(&groups));
    }
}

#[test]
fn data_of_an_earlier_use_of_the_space_never_counts() {
    let disk = SimDisk::new(3, Faults { stale: true, ..Faults::NONE });
    let tuned = || options(3);
    written(&disk, tuned(), 40);
    // The files go, their bytes stay where new files are put.
    let disk = disk.restart();
    for path in disk.paths() {
        disk.remove(&path).unwrap();
    }
    disk.sync_dir("wal").unwrap();
    disk.sync_dir("").unwrap();
    let disk = disk.power_cut();
    let (mut recovered, seen) = open(Arc::new(disk.clone()), options(4)).unwrap();
    assert!(seen.runs.is_empty());
    let mut planner = Planner::default();
    recovered.writer.step(group(1, vec![], vec![planner.run(partition(9, 9), 1, 1, 10)])).unwrap();
    let (_, seen) = open(Arc::new(disk.power_cut()), options(5)).unwrap();
    assert_eq!(seen.runs.len(), 1);
}

#[test]
fn a_first_segment_whose_first_group_is_damaged_is_not_taken_for_an_interrupted_start_when_the_marker_is_gone() {
    let disk = SimDisk::new(1, Faults::NONE);
    let groups = written(&disk, options(1), 3);
    let disk = disk.restart();
    let mut bytes = disk.contents(FIRST).unwrap();
    bytes[groups[0].position as usize..][..4096].fill(0);
    put(&disk, FIRST, &bytes);
    disk.remove("chronik.dir").unwrap();
    let (file, _, what) = refused(&disk);
    assert_eq!(file, "chronik.dir", "{what}");
    assert!(disk.contents(FIRST) == Some(bytes), "what is left of the log was removed");
}

#[test]
fn random_bytes_anywhere_in_a_segment_never_panic() {
    for seed in 0..150 {
        let disk = SimDisk::new(seed, Faults::NONE);
        written(&disk, options(seed), 30);
        let mut rng = Rng::new(seed);
        let disk = disk.restart();
        let path = format!("wal/{:020}.log", rng.range(1, 3));
        let mut bytes = disk.contents(&path).unwrap();
        for _ in 0..rng.range(1, 4) {
            let from = rng.index(bytes.len());
            let to = (from + rng.range(1, 6000) as usize).min(bytes.len());
            rng.fill(&mut bytes[from..to]);
        }
        if rng.chance(30) {
            bytes.truncate(rng.index(bytes.len() / 4096 + 1) * 4096);
        }
        put(&disk, &path, &bytes);
        if let Ok((mut recovered, _)) = open(Arc::new(disk.restart()), options(seed + 1)) {
            let _ = recovered.writer.close();
        }
    }
}

#[test]
fn acknowledged_data_survives_a_failed_sync_even_though_the_cache_shows_more() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed, Faults::ALL);
        let (mut recovered, _) = open(Arc::new(disk.clone()), options(seed)).unwrap();
        let mut planner = Planner::default();
        disk.plan(&[Op::Sync], ".log", 5, Trouble::Error);
        let mut acked = 0;
        for seq in 1..20 {
            match recovered.writer.step(group(seq, vec![], vec![planner.run(partition(1, 0), 1, 1, 9000)])) {
                Ok(_) => acked += 1,
                Err(_) => break,
            }
        }
        assert_eq!(acked, 4, "the fifth sync failed");
        // The process exits and is started again; the cache still shows the group that the disk lost.
        let (mut again, seen) = open(Arc::new(disk.restart()), options(seed + 1)).unwrap();
        assert!(seen.runs.len() >= acked, "seed {seed}");
        let mut planner = Planner::from(&seen);
        let next = group(again.next_seq, vec![], vec![planner.run(partition(1, 0), 1, 1, 100)]);
        again.writer.step(next).unwrap();
        let (_, after) = open(Arc::new(disk.power_cut()), options(seed + 2)).unwrap();
        assert_eq!(after.runs.len(), seen.runs.len() + 1, "seed {seed}: what was served is still there");
    }
}
