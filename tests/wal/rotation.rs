//! Owns when a segment ends and the next begins: by size, by runs, on request, for a group larger than announced.

use std::sync::Arc;

use chronik::limits;
use chronik::wal::settings::LogOptions;
use chronik::wal::{Group, PlannedBatch, PlannedRun, SegmentId};

use super::support::{batch, group, open, options, partition, Planner};
use crate::sim::disk::{Faults, SimDisk};

#[test]
fn a_segment_is_sealed_on_request_once_and_only_if_it_holds_a_group() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let seal = || Group { seal_after: true, ..Group::default() };
    assert_eq!(recovered.writer.step(seal()).unwrap().sealed, None);
    let mut planner = Planner::default();
    let mut planned = group(1, vec![], vec![planner.run(partition(1, 0), 1, 1, 10)]);
    planned.seal_after = true;
    let written = recovered.writer.step(planned).unwrap();
    assert_eq!(
        written.sealed,
        Some((SegmentId::FIRST, 4096 + 4096 + 4096 + 4096)),
        "header, group, index page, trailer"
    );
    assert_eq!((written.handle.segment, written.next.segment), (SegmentId::FIRST, SegmentId::Wal(2)));
    assert_eq!(recovered.writer.step(seal()).unwrap().sealed, None);
    let planned = group(2, vec![], vec![planner.run(partition(1, 0), 1, 1, 10)]);
    assert_eq!(recovered.writer.step(planned).unwrap().handle.segment, SegmentId::Wal(2));
    assert_eq!(recovered.writer.step(seal()).unwrap().sealed.map(|(id, _)| id), Some(SegmentId::Wal(2)));
    let (recovered, seen) = open(Arc::new(disk.restart()), options(2)).unwrap();
    assert!(recovered.clean);
    let sealed: Vec<_> = seen.segments.iter().map(|(id, _, sealed)| (id.number(), *sealed)).collect();
    assert_eq!(sealed, [(1, true), (2, true), (3, false)]);
}

#[test]
fn a_group_larger_than_announced_gets_a_segment_that_holds_it() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let mut planner = Planner::default();
    for seq in 1..6 {
        let size = if seq % 2 == 0 { 500_000 } else { 100 };
        let planned = group(seq, vec![], vec![planner.run(partition(1, 0), 1, 1, size)]);
        recovered.writer.step(planned).unwrap();
    }
    let (_, seen) = open(Arc::new(disk.power_cut()), options(2)).unwrap();
    assert_eq!(seen.next[&partition(1, 0)], 5);
}

#[test]
fn a_segment_with_too_many_runs_is_sealed_before_it_is_full() {
    let disk = SimDisk::new(1, Faults::NONE);
    let wide = || LogOptions { segment_bytes: 64 << 20, group_bytes_max: 1 << 20, ..options(1) };
    let (mut recovered, _) = open(Arc::new(disk.clone()), wide()).unwrap();
    let (bytes, mut sealed) = (batch(1, 0, 1), None);
    let per_group = 2048;
    for seq in 1..=(limits::SEGMENT_RUNS_MAX / per_group) as u64 {
        assert_eq!(sealed, None);
        let offset = seq as i64 - 1;
        let run = |p| {
            let batches = vec![PlannedBatch { bytes: bytes.clone(), base_offset: offset, leader_epoch: 0 }];
            PlannedRun { id: partition(1, p), base_offset: offset, last_offset: offset, max_timestamp: 0, batches }
        };
        sealed = recovered.writer.step(group(seq, vec![], (0..per_group as i32).map(run).collect())).unwrap().sealed;
    }
    assert_eq!(sealed.map(|(id, _)| id), Some(SegmentId::FIRST));
    let (_, seen) = open(Arc::new(disk.power_cut()), wide()).unwrap();
    assert_eq!(seen.runs.len(), limits::SEGMENT_RUNS_MAX);
}

#[test]
fn another_segment_size_takes_effect_at_the_next_start_even_on_a_full_disk() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let mut planner = Planner::default();
    recovered.writer.step(group(1, vec![], vec![planner.run(partition(1, 0), 1, 1, 10)])).unwrap();
    // Seals the first and leaves the second prepared.
    recovered.writer.step(Group { seal_after: true, ..Group::default() }).unwrap();
    let larger = |seed| LogOptions { segment_bytes: 256 << 10, ..options(seed) };
    let disk = disk.restart();
    disk.set_capacity(disk.used_bytes());
    let (full, _) = open(Arc::new(disk.clone()), larger(2)).unwrap();
    assert!((1..128 << 10).contains(&full.space_bytes), "the old one is used");
    let disk = disk.restart();
    disk.set_capacity(1 << 30);
    let (mut roomy, _) = open(Arc::new(disk.clone()), larger(3)).unwrap();
    assert!(roomy.space_bytes > 200 << 10);
    roomy.writer.step(group(2, vec![], vec![planner.run(partition(1, 0), 1, 1, 10)])).unwrap();
    let (_, seen) = open(Arc::new(disk.power_cut()), options(4)).unwrap();
    assert_eq!(seen.next[&partition(1, 0)], 2);
}
