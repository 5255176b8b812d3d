//! Owns crashes at every point of a workload: what was acknowledged comes back whole, in order and once.

use std::sync::Arc;

use chronik::wal::settings::{FsyncMode, LogOptions};
use chronik::wal::writer::Writer;
use chronik::wal::{Group, RunRef};

use super::support::{entry, group, open, options, partition, Planner, Seen};
use crate::sim::disk::{Faults, Op, SimDisk, Trouble, CHANGES};
use crate::sim::rng::Rng;

/// What a workload did before it ended.
#[derive(Debug, Default)]
struct Done {
    /// Runs of groups that were acknowledged.
    acked: Vec<RunRef>,
    acked_seq: u64,
    acked_meta: usize,
    /// What the group that was under way would have added.
    pending_runs: usize,
    pending_meta: usize,
    next_seq: u64,
    why: String,
}

fn workload(rng: &mut Rng, planner: &mut Planner, seq: u64) -> Group {
    let mut runs = Vec::new();
    for p in 0..6 {
        if rng.chance(40) {
            let (batches, records) = (rng.range(1, 3) as usize, rng.range(1, 5) as i32);
            runs.push(planner.run(partition(p as u8 % 2, p), batches, records, rng.range(1, 1500) as usize));
        }
    }
    let meta = if rng.chance(50) { vec![entry("s", &format!("k{seq}"), Some("v"))] } else { vec![] };
    let mut group = group(seq, meta, runs);
    group.seal_after = rng.one_in(15);
    group
}

/// Writes up to `groups` groups, until the log fails.
fn drive(writer: &mut Writer, rng: &mut Rng, planner: &mut Planner, first: u64, groups: u64, done: &mut Done) -> bool {
    done.next_seq = first;
    for seq in first..first + groups {
        let before = planner.clone();
        let planned = workload(rng, planner, seq);
        let (runs, meta) = (planned.runs.len(), planned.meta.len());
        match writer.step(planned) {
            Ok(written) => {
                assert_eq!(written.runs.len(), runs);
                done.acked.extend_from_slice(&written.runs);
                done.acked_meta += meta;
                if runs + meta > 0 {
                    done.acked_seq = seq;
                }
                done.next_seq = seq + 1;
                writer.recycle(written.buf);
                if rng.chance(50) {
                    writer.tend();
                }
            }
            Err(error) => {
                done.why = error.to_string();
                *planner = before;
                (done.pending_runs, done.pending_meta) = (runs, meta);
                return false;
            }
        }
    }
    true
}

fn same_content(a: &RunRef, b: &RunRef) -> bool {
    (a.id, a.base_offset, a.last_offset, a.segment, a.position, a.len)
        == (b.id, b.base_offset, b.last_offset, b.segment, b.position, b.len)
}

/// Everything acknowledged is there; beyond it at most the group that was under way, whole.
fn check(seen: &Seen, done: &Done, context: &str) {
    assert!(seen.runs.len() >= done.acked.len(), "{context}: {} of {} runs", seen.runs.len(), done.acked.len());
    for (found, acked) in seen.runs.iter().zip(&done.acked) {
        assert!(same_content(found, acked), "{context}: {found:?} in place of {acked:?}");
    }
    let more = (seen.runs.len() - done.acked.len(), seen.meta.len() - done.acked_meta);
    assert!(
        more == (0, 0) || more == (done.pending_runs, done.pending_meta),
        "{context}: {more:?} came back of a group that was not acknowledged and had {:?}",
        (done.pending_runs, done.pending_meta)
    );
}

/// One life until the trouble, the recovery (which may crash as well), and one more life.
fn crash_at(nth: u64, trouble: Trouble, seed: u64, tune: fn(LogOptions) -> LogOptions) -> bool {
    let context = format!("{trouble:?} at call {nth}, seed {seed}");
    let mut rng = Rng::new(seed);
    let faults = Faults::drawn(&mut rng);
    let disk = SimDisk::new(seed, faults);
    let mut planner = Planner::default();
    let mut done = Done::default();
    disk.plan(CHANGES, "", nth, trouble);
    let first = open(Arc::new(disk.clone()), tune(options(seed)));
    let finished = match first {
        Ok((mut recovered, _)) => drive(&mut recovered.writer, &mut rng, &mut planner, 1, 40, &mut done),
        Err(_) => false,
    };
    let hit = disk.is_down().is_some();
    assert!(finished || hit, "{context}: failed without trouble");
    disk.forget_plans();
    // The second life crashes at times while it recovers, which must not change what is found.
    let mut disk = disk.restart();
    for _ in 0..rng.below(3) {
        disk.plan(CHANGES, "", rng.range(1, 8), trouble);
        let _ = open(Arc::new(disk.clone()), tune(options(rng.next_u64())));
        disk.forget_plans();
        disk = disk.restart();
    }
    let (mut recovered, mut seen) =
        open(Arc::new(disk.clone()), tune(options(rng.next_u64()))).unwrap_or_else(|e| panic!("{context}: {e}"));
    check(&seen, &done, &context);
    seen.next.iter().for_each(|(id, next)| assert!(*next >= planner.next_offset(*id), "{context}"));
    // A group that came back without having been acknowledged counts from now on.
    let mut planner = Planner::from(&seen);
    let mut again = Done { acked: std::mem::take(&mut seen.runs), acked_meta: seen.meta.len(), ..Done::default() };
    assert!(recovered.next_seq > done.acked_seq, "{context}");
    let went_on = drive(&mut recovered.writer, &mut rng, &mut planner, recovered.next_seq, 10, &mut again);
    assert!(went_on, "{context}: {}", again.why);
    let disk = if trouble == Trouble::Cut { disk.power_cut() } else { disk.process_died() };
    let (_, seen) = open(Arc::new(disk), tune(options(rng.next_u64()))).unwrap_or_else(|e| panic!("{context}: {e}"));
    check(&seen, &again, &context);
    hit
}

fn crash_everywhere(trouble: Trouble, seeds: std::ops::Range<u64>, tune: fn(LogOptions) -> LogOptions) {
    for seed in seeds {
        let mut nth = 1;
        while crash_at(nth, trouble, seed, tune) {
            nth += 1 + nth / 40;
        }
        assert!(nth > 50, "the workload has that many points to crash at");
    }
}

#[test]
fn acknowledged_groups_survive_a_power_cut_at_every_write_and_sync() {
    crash_everywhere(Trouble::Cut, 0..6, |options| options);
}

#[test]
fn acknowledged_groups_survive_kill_9_at_every_call() {
    crash_everywhere(Trouble::Kill, 100..102, |options| options);
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_tried_again() {
    for op in [Op::Write, Op::Sync] {
        for nth in 1..12 {
            let disk = SimDisk::new(nth, Faults::ALL);
            let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
            let mut planner = Planner::default();
            disk.plan(&[op], ".log", nth, Trouble::Error);
            let mut fatal = None;
            for seq in 1..40 {
                let id = partition(1, 0);
                if let Err(error) = recovered.writer.step(group(seq, vec![], vec![planner.run(id, 1, 1, 100)])) {
                    fatal = Some(error);
                    break;
                }
            }
            let fatal = fatal.expect("so many calls are made");
            let calls = disk.count(CHANGES);
            let retry = recovered.writer.step(group(99, vec![], vec![planner.run(partition(1, 0), 1, 1, 100)]));
            assert_eq!(retry.unwrap_err(), fatal);
            assert_eq!(recovered.writer.step(Group::default()).unwrap_err(), fatal);
            assert_eq!(recovered.writer.sync().unwrap_err(), fatal);
            assert_eq!(recovered.writer.close().unwrap_err(), fatal);
            assert_eq!(disk.count(CHANGES), calls, "the disk was touched after a {op:?} error");
        }
    }
}

#[test]
fn a_process_that_dies_without_syncing_loses_nothing_even_then() {
    crash_everywhere(Trouble::Kill, 7..8, |mut options| {
        options.fsync = FsyncMode::Never;
        options
    });
}
