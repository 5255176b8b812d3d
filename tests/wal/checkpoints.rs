//! Owns checkpoints: the newest sound one counts, the last two are kept, and what they need is never removed.

use std::sync::Arc;

use chronik::sys::disk::Disk;
use chronik::wal::checkpoint::Floor;
use chronik::wal::recovery::Recovered;
use chronik::wal::{checkpoint, remove_segment, LogPosition, RecoverError, SegmentId};

use super::support::{entry, group, open, options, partition, Planner};
use crate::sim::disk::{Faults, Op, SimDisk, Trouble, CHANGES};

fn write_groups(recovered: &mut Recovered, planner: &mut Planner, count: u64) -> (u64, LogPosition) {
    let mut at = (0, LogPosition::default());
    for seq in recovered.next_seq..recovered.next_seq + count {
        let planned = group(seq, vec![entry("s", "k", None)], vec![planner.run(partition(1, 0), 1, 2, 3000)]);
        at = (seq, recovered.writer.step(planned).unwrap().next);
    }
    recovered.next_seq += count;
    at
}

fn checkpointed(disk: &SimDisk) -> (u64, LogPosition, LogPosition) {
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let mut planner = Planner::default();
    let id = recovered.directory_id;
    let (first, older) = write_groups(&mut recovered, &mut planner, 30);
    let floor = checkpoint::write(disk, id, first, older, b"older").unwrap();
    assert_eq!(floor, Floor::default(), "one checkpoint frees nothing");
    let (seq, newer) = write_groups(&mut recovered, &mut planner, 30);
    let floor = checkpoint::write(disk, id, seq, newer, b"newer").unwrap();
    assert_eq!(floor, Floor { segment: older.segment, seq: first });
    write_groups(&mut recovered, &mut planner, 7);
    (seq, older, newer)
}

#[test]
fn only_what_follows_the_checkpoint_is_replayed_and_older_segments_are_not_opened() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (_, older, newer) = checkpointed(&disk);
    assert!(older.segment > SegmentId::Wal(2) && newer.segment > older.segment);
    let disk = disk.restart();
    disk.start_trace();
    let (recovered, seen) = open(Arc::new(disk.clone()), options(2)).unwrap();
    let trace = disk.take_trace().join("\n");
    assert_eq!(seen.checkpoint.as_deref(), Some(&b"newer"[..]));
    assert_eq!((seen.runs.len(), seen.meta.len()), (7, 7));
    assert_eq!(recovered.floor.segment, older.segment);
    let covered = chronik::wal::segment::path(SegmentId::Wal(newer.segment.number() - 1));
    assert!(!trace.contains(&format!("Open {covered}")), "a start must not grow with the data:\n{trace}");
    assert_eq!(seen.segments.len() as u64, recovered.position.segment.number());
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (seq, older, _) = checkpointed(&disk);
    disk.rot(&checkpoint::path(seq), 75, 1).unwrap();
    let disk = disk.restart();
    // What lies below the floor may be gone.
    for id in 1..older.segment.number() {
        remove_segment(&disk, SegmentId::Wal(id)).unwrap();
    }
    let (recovered, seen) = open(Arc::new(disk.clone()), options(2)).unwrap();
    assert_eq!(seen.checkpoint.as_deref(), Some(&b"older"[..]));
    assert_eq!(seen.runs.len(), 37);
    assert!(recovered.notes.iter().any(|note| note.contains("damaged")), "{:?}", recovered.notes);
    assert_eq!(checkpoint::list(&disk).unwrap().len(), 1, "a damaged one does not count among the two");
    assert_eq!(recovered.floor, Floor::default());
}

#[test]
fn without_a_sound_checkpoint_a_log_that_lost_its_beginning_is_refused() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (_, older, _) = checkpointed(&disk);
    let disk = disk.restart();
    for seq in checkpoint::list(&disk).unwrap() {
        disk.rot(&checkpoint::path(seq), 30, 1).unwrap();
    }
    let (_, seen) = open(Arc::new(disk.clone()), options(2)).unwrap();
    assert_eq!(seen.runs.len(), 67, "with all segments there, the log is enough");
    let disk = disk.restart();
    for id in 1..older.segment.number() {
        remove_segment(&disk, SegmentId::Wal(id)).unwrap();
    }
    assert!(matches!(open(Arc::new(disk), options(3)), Err(RecoverError::Corrupt { .. })));
}

/// A directory as a restore leaves it: without the beginning of its log, and with one checkpoint.
fn begun_in_the_middle() -> (SimDisk, u64) {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let (id, mut planner) = (recovered.directory_id, Planner::default());
    let (seq, at) = write_groups(&mut recovered, &mut planner, 30);
    assert!(at.segment > SegmentId::FIRST);
    checkpoint::write_twice(&disk, id, seq, at, b"restored").unwrap();
    write_groups(&mut recovered, &mut planner, 7);
    drop(recovered);
    for number in 1..at.segment.number() {
        remove_segment(&disk, SegmentId::Wal(number)).unwrap();
    }
    (disk, seq)
}

#[test]
fn a_checkpoint_that_nothing_else_stands_in_for_is_there_twice() {
    for in_header in [true, false] {
        let (disk, seq) = begun_in_the_middle();
        let at = if in_header { 30 } else { 75 };
        disk.rot(&checkpoint::path(seq), at, 1).unwrap();
        let (recovered, seen) = open(Arc::new(disk.clone()), options(2)).unwrap();
        assert_eq!((seen.checkpoint.as_deref(), seen.runs.len()), (Some(&b"restored"[..]), 7));
        assert!(recovered.notes.iter().any(|note| note.contains("its copy is used")), "{:?}", recovered.notes);
        drop(recovered);
        // It is whole again, so the copy may go now.
        disk.rot(&checkpoint::copy_path(seq), at, 1).unwrap();
        let (recovered, seen) = open(Arc::new(disk.restart()), options(3)).unwrap();
        assert_eq!(seen.checkpoint.as_deref(), Some(&b"restored"[..]));
        assert!(!recovered.notes.iter().any(|note| note.contains("damaged")), "{:?}", recovered.notes);
    }
}

#[test]
fn the_copy_of_a_checkpoint_goes_when_there_are_two() {
    let (disk, seq) = begun_in_the_middle();
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(2)).unwrap();
    let (newer, at) = write_groups(&mut recovered, &mut Planner::default(), 3);
    let floor = checkpoint::write(&disk, recovered.directory_id, newer, at, b"newer").unwrap();
    assert_eq!((floor.seq, checkpoint::list(&disk).unwrap()), (seq, vec![seq, newer]));
    assert!(disk.read(&checkpoint::copy_path(seq), 1000).is_err());
}

#[test]
fn a_crash_at_any_call_of_a_checkpoint_leaves_a_usable_one() {
    for trouble in [Trouble::Cut, Trouble::Kill, Trouble::Error] {
        for nth in 1..20 {
            let disk = SimDisk::new(nth, Faults::ALL);
            let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
            let (id, mut planner) = (recovered.directory_id, Planner::default());
            for _ in 0..3 {
                let (seq, at) = write_groups(&mut recovered, &mut planner, 5);
                checkpoint::write(&disk, id, seq, at, &seq.to_be_bytes()).unwrap();
            }
            let (seq, at) = write_groups(&mut recovered, &mut planner, 5);
            disk.plan(CHANGES, "", nth, trouble);
            let _ = checkpoint::write(&disk, id, seq, at, &seq.to_be_bytes());
            disk.forget_plans();
            let (_, seen) = open(Arc::new(disk.restart()), options(2)).unwrap_or_else(|e| panic!("{nth}: {e}"));
            let from = u64::from_be_bytes(seen.checkpoint.unwrap().try_into().unwrap());
            assert!(from >= 15 && seen.runs.len() as u64 == 20 - from, "{trouble:?} {nth}");
        }
    }
}

#[test]
fn a_log_that_can_not_be_synced_for_a_checkpoint_has_to_end() {
    for (part, ends) in [("wal/", true), ("checkpoints", false)] {
        let disk = SimDisk::new(1, Faults::NONE);
        let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
        let (id, mut planner) = (recovered.directory_id, Planner::default());
        let (seq, at) = write_groups(&mut recovered, &mut planner, 3);
        disk.plan(&[Op::Sync, Op::SyncDir], part, 1, Trouble::Error);
        let error = checkpoint::write(&disk, id, seq, at, b"state").unwrap_err();
        assert_eq!(matches!(error, checkpoint::WriteError::Log(_)), ends, "{part}: {error}");
    }
}

#[test]
fn a_checkpoint_is_written_on_a_full_disk() {
    let disk = SimDisk::new(1, Faults::NONE);
    disk.set_capacity(600 << 10);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let (id, mut planner) = (recovered.directory_id, Planner::default());
    let (seq, at) = write_groups(&mut recovered, &mut planner, 4);
    disk.set_capacity(disk.used_bytes());
    checkpoint::write(&disk, id, seq, at, &[7; 5000]).unwrap();
    assert!(!disk.paths().contains(&"chronik.reserve".to_string()), "the ballast was given back");
    let disk = disk.restart();
    let (_, seen) = open(Arc::new(disk), options(2)).unwrap();
    assert_eq!(seen.checkpoint.map(|bytes| bytes.len()), Some(5000));
}

#[test]
fn a_checkpoint_never_knows_more_than_the_log() {
    use chronik::wal::settings::{FsyncMode, LogOptions};
    for seed in 0..30 {
        let disk = SimDisk::new(seed, Faults::ALL);
        let lazy = LogOptions { fsync: FsyncMode::Never, ..options(seed) };
        let (mut recovered, _) = open(Arc::new(disk.clone()), lazy).unwrap();
        let (id, mut planner) = (recovered.directory_id, Planner::default());
        let (seq, at) = write_groups(&mut recovered, &mut planner, 3);
        checkpoint::write(&disk, id, seq, at, b"state").unwrap();
        write_groups(&mut recovered, &mut planner, 3);
        let (_, seen) = open(Arc::new(disk.power_cut()), options(seed + 1)).unwrap_or_else(|e| panic!("{seed}: {e}"));
        assert_eq!(seen.checkpoint.as_deref(), Some(&b"state"[..]));
        assert!(disk.count(&[Op::Sync]) > 0);
    }
}

#[test]
fn a_restart_that_finds_nothing_to_replay_keeps_the_chain_of_groups() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let (id, mut planner) = (recovered.directory_id, Planner::default());
    let mut disk = disk;
    for round in 0..6 {
        let (seq, _) = write_groups(&mut recovered, &mut planner, 4);
        recovered.writer.step(chronik::wal::Group { seal_after: true, ..Default::default() }).unwrap();
        checkpoint::write(&disk, id, seq, recovered.writer.position(), b"x").unwrap();
        disk = disk.power_cut();
        let (again, seen) = open(Arc::new(disk.clone()), options(round + 2)).unwrap();
        assert!(again.clean && seen.runs.is_empty(), "{:?}", again.notes);
        recovered = again;
    }
    // Even without any checkpoint the whole log reads as one.
    for seq in checkpoint::list(&disk).unwrap() {
        disk.remove(&checkpoint::path(seq)).unwrap();
    }
    let (_, seen) = open(Arc::new(disk.restart()), options(50)).unwrap();
    assert_eq!(seen.next[&partition(1, 0)], 6 * 4 * 2);
}
