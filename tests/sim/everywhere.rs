//! Owns what is tried one by one instead of by chance: a crash at every call that changes the disk, and damage to every
//! kind of file.

use super::disk::{Faults, Op, Trouble, CHANGES};
use super::fate;
use super::model::Excuses;
use super::regressions::{calm, go_on, started};
use super::scenario::Scenario;
use super::world::{Stats, World};

/// A few clients, small groups, and segments that are sealed all the time.
fn small(file_metadata: bool) -> Scenario {
    Scenario {
        faults: Faults::ALL,
        events: 150,
        producers: 2,
        consumers: 1,
        members: 1,
        txn_producers: 2,
        group_members: 0,
        sharers: 0,
        strays: 0,
        keyed: 0,
        roll_ms: 5,
        reset_percent: 0,
        value_bytes_max: 1000,
        slow_us: 2000,
        file_metadata,
        ..calm(3)
    }
}

fn crash_at_every_call(file_metadata: bool, trouble: Trouble) {
    let mut world = World::new(small(file_metadata), false);
    world.next_misfortune = u64::MAX;
    world.run().expect("nothing goes wrong");
    let calls = world.disk.count(CHANGES);
    assert!(calls > 60, "{calls} calls are no workload");
    for nth in 1..=calls {
        let mut world = World::new(small(file_metadata), false);
        world.next_misfortune = u64::MAX;
        world.keep_plans = true;
        world.disk.plan(CHANGES, "", nth, trouble);
        world.run().unwrap_or_else(|why| panic!("{trouble:?} at call {nth} of {calls}: {why}"));
        assert_eq!(world.disk.is_down(), None);
    }
}

#[test]
fn a_power_cut_at_every_change_of_the_disk_loses_nothing() {
    crash_at_every_call(false, Trouble::Cut);
}

#[test]
fn a_power_cut_at_every_change_loses_nothing_with_metadata_in_files() {
    crash_at_every_call(true, Trouble::Cut);
}

#[test]
fn a_kill_at_every_change_of_the_disk_loses_nothing() {
    crash_at_every_call(false, Trouble::Kill);
}

/// The same at every change in the folder of the packs, with more of them. Returns how many changes there were, and what
/// came of a run in which none of them was struck.
fn crash_at_every_call_of_tidying(scenario: impl Fn() -> Scenario, trouble: Trouble) -> (u64, Stats) {
    for nth in 1.. {
        let mut world = World::new(scenario(), false);
        world.next_misfortune = u64::MAX;
        world.keep_plans = true;
        world.disk.plan(CHANGES, "packs", nth, trouble);
        let lives = world.life;
        world.run().unwrap_or_else(|why| panic!("{trouble:?} at change {nth} of packs: {why}"));
        // The first start, the one after the last crash, and the one after the stop.
        if world.life - lives <= 3 {
            assert!(world.stats.packs > 0, "nothing was tidied");
            world.stats.gone = world.model.gone;
            world.stats.relocated = world.metrics.tier_relocated_bytes.get();
            return (nth - 1, world.stats);
        }
    }
    unreachable!("the calls of a run are finite")
}

#[test]
fn a_crash_at_every_change_while_packs_are_made_loses_nothing() {
    for file_metadata in [false, true] {
        let scenario = || Scenario { events: 700, ..small(file_metadata) };
        let (cuts, _) = crash_at_every_call_of_tidying(scenario, Trouble::Cut);
        let (kills, _) = crash_at_every_call_of_tidying(scenario, Trouble::Kill);
        assert!(cuts > 10 && kills > 10, "{cuts} cuts and {kills} kills are no workload");
    }
}

/// The same while partitions are compacted: the last value of every key stays, and transactions stay whole.
#[test]
fn a_crash_at_every_change_while_partitions_are_compacted_loses_nothing() {
    for trouble in [Trouble::Cut, Trouble::Kill] {
        let scenario = || Scenario { events: 500, producers: 0, keyed: 2, map_bytes: 1 << 16, ..small(false) };
        let (crashes, stats) = crash_at_every_call_of_tidying(scenario, trouble);
        assert!(crashes > 10 && stats.cleanings > 0 && stats.gone > 0, "{crashes} crashes: {stats:?}");
    }
}

/// The same while segments leave the disk, and what must stay of them is written elsewhere first.
#[test]
fn a_crash_at_every_change_while_segments_leave_the_disk_loses_nothing() {
    for trouble in [Trouble::Cut, Trouble::Kill] {
        let scenario =
            || Scenario { events: 700, producers: 3, keyed: 1, value_bytes_max: 20_000, tiered: true, ..small(false) };
        let (crashes, stats) = crash_at_every_call_of_tidying(scenario, trouble);
        assert!(crashes > 10 && stats.evicted > 2 && stats.relocated > 0, "{crashes} crashes: {stats:?}");
    }
}

/// What the simulation would say of a log that forgets to make something durable. If it found nothing, its faults would
/// prove nothing.
#[test]
fn a_disk_that_lies_is_found_out() {
    for lie in [Op::Sync, Op::SyncDir, Op::Replace] {
        let found = (1..40).find_map(|seed| {
            let faults = Faults { length: false, ..Faults::ALL };
            let scenario = Scenario { faults, lie: Some(lie), misfortune_events: 60, events: 1500, ..calm(seed) };
            fate::run(scenario, false).0.err()
        });
        let why = found.unwrap_or_else(|| panic!("nobody noticed that {lie:?} does nothing"));
        println!("{lie:?} does nothing: {why}");
    }
}

/// Either the server says which file is damaged and does not start, or it serves what is sound and refuses the rest.
#[test]
pub fn bit_rot_is_refused_or_answered_as_corrupt_but_never_served() {
    let (mut refused, mut served) = (0, 0);
    for seed in 1..25 {
        let excuses = Excuses { reads_fail: true, ..Excuses::default() };
        let mut world = started(Scenario { excuses, roll_ms: 5, slow_us: 2000, ..calm(seed) });
        go_on(&mut world, 300);
        world.finish().expect("everybody is answered");
        let files = world.disk.settled();
        let Some(path) = world.rng.pick(&files).cloned() else { continue };
        let len = world.disk.contents(&path).map_or(1, |bytes| bytes.len() as u64);
        let (position, mask) = (world.rng.below(len), 1 << world.rng.below(8));
        world.disk.rot(&path, position, mask).expect("the file is there");
        match world.die(Trouble::Cut) {
            Err(why) => {
                assert!(why.contains(&path), "seed {seed}: {path} at {position} is damaged, but it is said: {why}");
                refused += 1;
            }
            Ok(()) => {
                world.finish().unwrap_or_else(|why| panic!("seed {seed}: {path} at {position}: {why}"));
                served += 1;
            }
        }
    }
    assert!(served > 0 && refused + served > 10, "{refused} refused, {served} served");
}
