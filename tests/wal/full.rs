//! Owns full disks: met before offsets are assigned, and left again when there is room.

use std::sync::Arc;

use chronik::limits;
use chronik::wal::settings::LogOptions;
use chronik::wal::{cost_bytes, remove_segment, Group, SegmentId};

use super::support::{entry, group, open, options, partition, Planner};
use crate::sim::disk::{Faults, Op, SimDisk, Trouble};
use crate::sim::rng::Rng;

#[test]
fn a_group_that_was_promised_space_never_meets_a_full_disk() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed, Faults::NONE);
        disk.set_capacity(3 << 20);
        let mut rng = Rng::new(seed);
        let larger = LogOptions { segment_bytes: 512 << 10, ..options(seed) };
        let (mut recovered, _) = open(Arc::new(disk.clone()), larger).unwrap();
        let mut planner = Planner::default();
        let (mut space, mut seq, mut refused) = (recovered.space_bytes, 1, 0);
        while refused < 20 {
            let before = planner.clone();
            let size = rng.range(1, 3000) as usize;
            let runs = (0..rng.range(1, 8)).map(|p| planner.run(partition(1, p as i32), 1, 1, size)).collect();
            let mut planned = group(seq, vec![entry("s", "k", Some("v"))], runs);
            planned.seal_after = rng.one_in(10);
            if cost_bytes(&planned) > space {
                // Refused before it has offsets; the probe asks for space again.
                planner = before;
                refused += 1;
                space = recovered.writer.step(Group { seq: 0, ..Group::default() }).unwrap().space_bytes;
                continue;
            }
            space = recovered.writer.step(planned).unwrap_or_else(|e| panic!("seed {seed}: {e}")).space_bytes;
            seq += 1;
        }
        assert!(seq > 10, "seed {seed}: {seq}");
        let (_, seen) = open(Arc::new(disk.restart()), options(seed + 1)).unwrap();
        seen.next.iter().for_each(|(id, next)| assert_eq!(*next, planner.next_offset(*id), "seed {seed}"));
    }
}

#[test]
fn writes_resume_when_a_segment_is_removed() {
    let disk = SimDisk::new(1, Faults::NONE);
    disk.set_capacity(500 << 10);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let mut planner = Planner::default();
    let mut seq = 0;
    let mut one = |recovered: &mut chronik::wal::recovery::Recovered| {
        seq += 1;
        let planned = group(seq, vec![], vec![planner.run(partition(1, 0), 1, 1, 9000)]);
        recovered.writer.step(planned).unwrap()
    };
    loop {
        if one(&mut recovered).space_bytes <= 80 << 10 {
            let probe = recovered.writer.step(Group::default()).unwrap();
            assert!(probe.buf.is_empty());
            if probe.space_bytes <= 80 << 10 {
                break;
            }
        }
    }
    for id in [1, 1, 2] {
        remove_segment(&disk, SegmentId::Wal(id)).unwrap();
    }
    let probe = recovered.writer.step(Group::default()).unwrap();
    assert!(probe.space_bytes > 80 << 10, "{}", probe.space_bytes);
    one(&mut recovered);
}

#[test]
fn a_segment_that_cannot_be_made_is_no_error_and_leaves_no_litter() {
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir, Op::Open] {
        let disk = SimDisk::new(1, Faults::NONE);
        let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
        let mut planner = Planner::default();
        let part = if matches!(op, Op::Sync | Op::Create | Op::Write) { "prepare" } else { "wal" };
        disk.plan(&[op], part, 1, Trouble::Error);
        for seq in 1..60 {
            let planned = group(seq, vec![], vec![planner.run(partition(1, 0), 1, 1, 5000)]);
            recovered.writer.step(planned).unwrap_or_else(|e| panic!("{op:?}: {e}"));
        }
        assert!(!disk.paths().iter().any(|path| path.ends_with(".tmp")), "{op:?}");
        let (_, seen) = open(Arc::new(disk.power_cut()), options(2)).unwrap_or_else(|e| panic!("{op:?}: {e}"));
        assert_eq!(seen.next[&partition(1, 0)], 59, "{op:?}");
    }
}

#[test]
fn after_a_kill_on_a_full_disk_there_is_room_for_metadata_and_not_for_records() {
    let large = |seed| LogOptions { segment_bytes: 16 << 20, ..options(seed) };
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), large(1)).unwrap();
    let mut planner = Planner::default();
    recovered.writer.step(group(1, vec![], vec![planner.run(partition(1, 0), 1, 1, 900)])).unwrap();
    drop(recovered);
    let disk = disk.restart();
    // What the cut of the tail gives back is less than a whole segment.
    disk.set_capacity(disk.used_bytes());
    let (mut recovered, _) = open(Arc::new(disk.clone()), large(2)).unwrap();
    let room = recovered.space_bytes as usize;
    assert!((limits::GROUP_CHANGE_BYTES..limits::META_RESERVE_BYTES).contains(&room), "{room}");
    let next = recovered.next_seq;
    recovered.writer.step(group(next, vec![entry("topic", "gone", None)], vec![])).unwrap();
    assert!(recovered.writer.step(Group::default()).unwrap().space_bytes < limits::META_RESERVE_BYTES as u64);
    disk.set_capacity(1 << 30);
    assert!(recovered.writer.step(Group::default()).unwrap().space_bytes > 8 << 20, "a whole segment");
    recovered.writer.step(group(next + 1, vec![], vec![planner.run(partition(1, 0), 1, 1, 900)])).unwrap();
    let (_, seen) = open(Arc::new(disk.power_cut()), large(3)).unwrap();
    assert_eq!((seen.runs.len(), seen.meta.len()), (2, 1));
}

#[test]
fn a_short_segment_that_holds_no_group_is_replaced_by_a_whole_one() {
    let large = |seed| LogOptions { segment_bytes: 16 << 20, group_bytes_max: 6 << 20, ..options(seed) };
    for is_started_again in [false, true] {
        let disk = SimDisk::new(1, Faults::NONE);
        let (mut recovered, _) = open(Arc::new(disk.clone()), large(1)).unwrap();
        let mut planner = Planner::default();
        recovered.writer.step(group(1, vec![], vec![planner.run(partition(1, 0), 1, 1, 900)])).unwrap();
        drop(recovered);
        let mut disk = disk.restart();
        disk.set_capacity(disk.used_bytes());
        let (mut recovered, _) = open(Arc::new(disk.clone()), large(2)).unwrap();
        assert!((1..limits::META_RESERVE_BYTES as u64).contains(&recovered.space_bytes), "a short one");
        if is_started_again {
            drop(recovered);
            disk = disk.restart();
            recovered = open(Arc::new(disk.clone()), large(3)).unwrap().0;
        }
        disk.set_capacity(1 << 30);
        recovered.writer.step(Group::default()).unwrap();
        let first = recovered.next_seq;
        for seq in first..first + 12 {
            let runs = (0..6).map(|p| planner.run(partition(1, p), 1, 1, 900 << 10)).collect();
            recovered.writer.step(group(seq, vec![], runs)).unwrap();
            recovered.writer.tend();
        }
        let (_, seen) = open(Arc::new(disk.power_cut()), large(4)).unwrap();
        for p in 0..6 {
            assert_eq!(seen.next[&partition(1, p)], planner.next_offset(partition(1, p)), "partition {p}");
        }
    }
}

#[test]
fn a_start_on_a_full_disk_serves_what_there_is() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let mut planner = Planner::default();
    for seq in 1..5 {
        recovered.writer.step(group(seq, vec![], vec![planner.run(partition(1, 0), 1, 1, 900)])).unwrap();
    }
    drop(recovered);
    let disk = disk.restart();
    disk.set_capacity(1);
    let (mut recovered, seen) = open(Arc::new(disk.clone()), options(2)).unwrap();
    assert_eq!((recovered.space_bytes, seen.runs.len()), (0, 4));
    assert_eq!(recovered.writer.step(Group::default()).unwrap().space_bytes, 0);
    disk.set_capacity(1 << 30);
    assert!(recovered.writer.step(Group::default()).unwrap().space_bytes > 0);
    let next = recovered.next_seq;
    recovered.writer.step(group(next, vec![], vec![planner.run(partition(1, 0), 1, 1, 900)])).unwrap();
    let (_, seen) = open(Arc::new(disk.power_cut()), options(3)).unwrap();
    assert_eq!(seen.runs.len(), 5);
}
