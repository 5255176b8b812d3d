//! Owns small directed runs, each of a failure that the simulation once found.

use chronik::config::Fsync;
use chronik::wal::{Group, MetaEntry};

use super::actors::TxnReader;
use super::disk::{Faults, Op, Trouble, CHANGES};
use super::fate;
use super::model::{Excuses, Model};
use super::scenario::Scenario;
use super::world::World;

/// A run in which nothing goes wrong by itself.
pub fn calm(seed: u64) -> Scenario {
    Scenario {
        faults: Faults::NONE,
        excuses: Default::default(),
        disk_errors: false,
        full_disk: false,
        store_fails: false,
        compacts_late: false,
        has_room: false,
        fsync: Fsync::Always,
        ..Scenario::drawn(seed)
    }
}

/// A server that is up, with its topics created.
pub fn started(scenario: Scenario) -> World {
    let mut world = World::new(scenario, false);
    world.start().expect("it starts");
    world.next_misfortune = u64::MAX;
    go_on(&mut world, 800);
    world.finish().expect("everybody is answered");
    world
}

/// Lets so many things happen.
pub fn go_on(world: &mut World, events: usize) {
    world.closing = false;
    for _ in 0..events {
        world.step().expect("nothing goes wrong");
    }
}

/// Segments that hold only metadata are dead at once, and a checkpoint was wanted to let them go; but nobody took it
/// until something was written, and no request was let in before.
#[test]
fn a_server_that_is_killed_again_and_again_serves_again() {
    let mut world = started(Scenario { producers: 0, ..calm(1) });
    for _ in 0..3 {
        world.die(Trouble::Kill).expect("it starts again");
        world.finish().expect("the checker is served");
        go_on(&mut world, 300);
    }
}

/// The trailer of a segment that was being sealed may reach the disk without the index page in front of it. Recovery took
/// such a segment for sealed, and acknowledged records could not be read any more.
#[test]
fn a_crash_while_a_segment_is_sealed_hurts_nobody() {
    let mut crashes = 0;
    for seed in 1..12 {
        let mut world = started(Scenario { faults: Faults { torn: true, ..Faults::NONE }, consumers: 1, ..calm(seed) });
        world.disk.plan(&[Op::Truncate], "wal/", 1, Trouble::Cut);
        world.stop().expect("it starts again");
        crashes += world.disk.crashes();
        world.finish().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(crashes > 3, "hardly any segment was being sealed");
}

/// Without fsync a power cut may take what was acknowledged, but the server must come up with the rest. The footer of a
/// segment that was being sealed could be there without the groups before it, which was taken for damage.
#[test]
fn a_power_cut_without_fsync_never_keeps_the_server_from_starting() {
    for seed in 1..40 {
        let faults = Faults { torn: true, drop: true, ..Faults::NONE };
        let mut world = started(Scenario { faults, fsync: Fsync::Never, consumers: 1, ..calm(seed) });
        world.closing = false;
        match seed % 2 {
            0 => world.disk.plan(&[Op::Truncate], "wal/", 1, Trouble::Cut),
            _ => world.disk.plan(CHANGES, "", 1 + seed * 13 % 60, Trouble::Cut),
        }
        for _ in 0..3000 {
            // What is lost fails the model, which expects all of it; by then the server has started.
            let is_loss = |why: &str| why.contains("recovered up to") || why.contains("was thrown out of generation");
            let lost = |why: String| assert!(is_loss(&why), "seed {seed}: {why}");
            if let Err(why) = world.step() {
                lost(why);
                break;
            }
        }
    }
}

/// Without room for a segment nothing can be appended. A commit, DeleteRecords or InitProducerId ended the server then.
#[test]
fn a_server_that_starts_on_a_full_disk_stays_up_and_recovers() {
    for seed in 1..6 {
        let excuses = Excuses { disk_full: true, ..Excuses::default() };
        let mut world = started(Scenario { excuses, delete_records: true, members: 2, ..calm(seed) });
        world.disk.set_capacity(1);
        world.closing = true;
        world.stop().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        go_on(&mut world, 1000);
        let refused = world.stats.groups;
        world.finish().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        go_on(&mut world, 1000);
        assert!(world.stats.groups > refused, "seed {seed}: nothing is written though there is room again");
        world.finish().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// A process that is killed between a rename and the fsync of the folder leaves a name that is there and not durable. The
/// next start wrote acknowledged records under such a name, and a power cut took them.
#[test]
fn names_that_a_killed_process_left_are_made_durable() {
    for seed in 1..4 {
        let faults = Faults { names: true, ..Faults::NONE };
        let mut world = started(Scenario { faults, roll_ms: 20, consumers: 1, ..calm(seed) });
        for _ in 0..3 {
            world.closing = false;
            world.disk.plan(&[Op::SyncDir], "wal", 1, Trouble::Kill);
            let before = world.life;
            for _ in 0..4000 {
                world.step().expect("nothing goes wrong");
                if world.life > before {
                    break;
                }
            }
            go_on(&mut world, 300);
            world.die(Trouble::Cut).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            world.finish().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        }
    }
}

/// A group with nothing in it is nowhere but in the number that a checkpoint gives. The model took its loss, with a checkpoint that
/// rotted, for one of something durable (seed 9400000109).
#[test]
fn only_groups_with_something_in_them_have_to_be_there_after_a_crash() {
    let entry = MetaEntry { table: 1, scope: "s".into(), key: "k".into(), value: None };
    for (meta, may_go) in [(vec![], true), (vec![entry], false)] {
        let mut model = Model::new(Excuses::default(), false);
        model.planned(&Group { seq: 1, meta, ..Group::default() }).expect("the first");
        model.recovered(1).expect("it may be there after a crash");
        assert_eq!(
            model.recovered(0).is_ok(),
            may_go,
            "and has to be there after the next one if it has something in it"
        );
    }
}

/// A server that went down, came back to a damaged file, and has a reader now that knows nothing yet. `None` if nobody who reads
/// everything notices the damage.
fn damaged_for_a_reader(seed: u64) -> Option<World> {
    let mut world = started(Scenario { roll_ms: 5, slow_us: 2000, tiered: false, txn_producers: 2, ..calm(seed) });
    go_on(&mut world, 300);
    world.rot().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    let newcomer = world.clients.len();
    world.clients.push(Box::<TxnReader>::default());
    world.acts_at.push(None);
    world.act_after(newcomer, 0);
    go_on(&mut world, 300);
    world.finish().unwrap_or_else(|why| panic!("seed {seed}: damage keeps somebody: {why}"));
    is_kept(&world).then_some(world)
}

/// Whether damage keeps a reader from going on.
fn is_kept(world: &World) -> bool {
    format!("{:?}", world.clients).contains("damaged: true")
}

/// Readers of committed records can't get past damage, which is there until the server has gone down once more. At the end of a run
/// the model took that for an answer that never comes (seed 9600000267).
#[test]
fn damage_keeps_readers_for_as_long_as_it_is_there_and_nothing_else_may() {
    let mut kept: Vec<World> = (1..40).filter_map(damaged_for_a_reader).take(3).collect();
    assert_eq!(kept.len(), 3, "hardly any damage is where somebody reads");
    let mut unmended = kept.remove(0);
    unmended.model.excuses.damaged = false;
    unmended.reset_all();
    let why = unmended.finish().expect_err("records that cannot be read though all is sound");
    assert!(why.starts_with("somebody waits for an answer for ever"), "{why}");
    for mut world in kept {
        world.die(Trouble::Cut).expect("it starts again");
        world.finish().expect("what was mended can be read");
        assert!(!is_kept(&world), "a reader did not come back to what was mended");
    }
}

#[test]
fn the_same_seed_runs_the_same_way() {
    let run = |seed| fate::run(Scenario { events: 600, ..Scenario::drawn(seed) }, true);
    for seed in 1..4 {
        let (one, two) = (run(seed), run(seed));
        let differs = one.2.iter().zip(&two.2).position(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}: the runs part at this line of the trace");
        assert_eq!(one.2.len(), two.2.len(), "seed {seed}");
    }
}
