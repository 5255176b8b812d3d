//! The deterministic simulation: the broker, its log and its recovery in one thread over a seeded clock, network and disk.

mod actors;
mod batch;
#[cfg(feature = "canary")]
mod canary;
mod clock;
mod crashes;
#[allow(dead_code)]
pub mod disk;
mod disk_tests;
mod everywhere;
mod fate;
pub mod image;
mod knobs;
mod model;
mod net;
pub mod node;
mod proto;
mod regressions;
mod renew;
pub mod rng;
mod scenario;
mod shrink;
mod world;

use scenario::Scenario;

/// Seeds that every test run tries; each is a few thousand events and a dozen crashes.
const SEEDS_PER_RUN: u64 = 60;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Seeds with a crash at every sync that every test run tries; each is some hundred crashes.
const CRASHING_SEEDS_PER_RUN: u64 = 4;

fn set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|text| !text.is_empty() && text != "0")
}

/// Runs the seeds that `CHRONIK_SIM_SEED` (the first; then one only) and `CHRONIK_SIM_SEEDS` (how many) ask for;
/// `CHRONIK_SIM_SET` changes what they draw (`knobs.rs`). The error names the seed, what it broke, and the command that
/// replays it, and another one that replays what is left of it when it is made smaller. `CHRONIK_SIM_TRACE=1` prints every
/// event, `CHRONIK_SIM_SHRINK=0` leaves a failing seed as it is.
fn run_seeds(drawn: impl Fn(u64) -> Scenario, test: &str, per_run: u64) -> Result<world::Stats, String> {
    let first = number("CHRONIK_SIM_SEED", 1);
    let chosen = std::env::var_os("CHRONIK_SIM_SEED").is_some();
    let count = number("CHRONIK_SIM_SEEDS", if chosen { 1 } else { per_run });
    let changes = std::env::var("CHRONIK_SIM_SET").unwrap_or_default();
    let mut all = world::Stats::default();
    for seed in first..first.saturating_add(count) {
        let mut scenario = drawn(seed);
        scenario.set(&changes)?;
        let (result, stats, lines) = fate::run(scenario.clone(), set("CHRONIK_SIM_TRACE"));
        lines.iter().for_each(|line| eprintln!("{line}"));
        all.add(&stats);
        let Err(why) = result else { continue };
        let replay = |set: &str| {
            let set = if set.is_empty() { String::new() } else { format!("CHRONIK_SIM_SET={set} ") };
            format!("CHRONIK_SIM_SEED={seed} {set}CHRONIK_SIM_TRACE=1 cargo test --test all {test}")
        };
        let mut report = format!("seed {seed}: {why}\nreplay: {}", replay(&changes));
        if changes.is_empty() && std::env::var("CHRONIK_SIM_SHRINK").as_deref() != Ok("0") {
            let (small, runs) = shrink::shrink(shrink::Failure { scenario, why });
            let list = small.scenario.difference(&drawn(seed));
            report += &format!("\nmade smaller in {runs} runs: {}\nreplay: {}", small.why, replay(&list));
        }
        return Err(report);
    }
    println!("{count} seeds: {all:?}");
    Ok(all)
}

#[test]
fn no_seed_finds_a_broken_promise() {
    match run_seeds(Scenario::drawn, "sim::no_seed", SEEDS_PER_RUN) {
        Err(why) => panic!("{why}"),
        // A few seeds need not do everything.
        Ok(stats) if stats.events < 200_000 => {}
        Ok(stats) => {
            let some = stats.commits > 0 && stats.given > 0 && stats.accepted > 0 && stats.packs > 0 && stats.moves > 0;
            assert!(some, "nothing was committed, assigned, accepted, tidied or restored: {stats:?}");
            assert!(stats.uploads > 0 && stats.evicted > 0, "nothing was uploaded or evicted: {stats:?}");
            assert!(stats.relocated > 0, "nothing was in the way of an eviction: {stats:?}");
            assert!(stats.cleanings > 0 && stats.gone > 0, "nothing was compacted: {stats:?}");
        }
    }
}

/// `scripts/simulate --crashes` runs more of these.
#[test]
fn no_crash_at_any_sync_breaks_a_promise() {
    match run_seeds(Scenario::crashing, "sim::no_crash", CRASHING_SEEDS_PER_RUN) {
        Err(why) => panic!("{why}"),
        Ok(stats) => assert!(stats.tries > 0 && stats.checks > 0, "no crash was tried: {stats:?}"),
    }
}
