//! The deterministic simulation: the broker, its log and its recovery in one thread over a seeded clock, network and disk.

mod actors;
mod batch;
#[cfg(feature = "canary")]
mod canary;
mod clock;
#[allow(dead_code)]
pub mod disk;
mod disk_tests;
mod everywhere;
mod fate;
pub mod image;
mod model;
mod net;
pub mod node;
mod proto;
mod regressions;
mod renew;
pub mod rng;
mod scenario;
mod world;

/// Seeds that every test run tries; each is a few thousand events and a dozen crashes.
const SEEDS_PER_RUN: u64 = 60;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs the seeds that `CHRONIK_SIM_SEED` (the first; then one only) and `CHRONIK_SIM_SEEDS` (how many) ask for. The error
/// names the seed, what it broke, and the command that replays it. `CHRONIK_SIM_TRACE=1` prints every event.
fn run_seeds() -> Result<world::Stats, String> {
    let first = number("CHRONIK_SIM_SEED", 1);
    let chosen = std::env::var_os("CHRONIK_SIM_SEED").is_some();
    let count = number("CHRONIK_SIM_SEEDS", if chosen { 1 } else { SEEDS_PER_RUN });
    let trace = std::env::var("CHRONIK_SIM_TRACE").is_ok_and(|text| !text.is_empty());
    let mut all = world::Stats::default();
    for seed in first..first.saturating_add(count) {
        let (result, stats, lines) = fate::run(scenario::Scenario::drawn(seed), trace);
        lines.iter().for_each(|line| eprintln!("{line}"));
        all.add(&stats);
        result.map_err(|why| {
            format!(
                "seed {seed}: {why}\nreplay: CHRONIK_SIM_SEED={seed} CHRONIK_SIM_TRACE=1 cargo test --test all sim::"
            )
        })?;
    }
    println!("{count} seeds: {all:?}");
    Ok(all)
}

#[test]
fn no_seed_finds_a_broken_promise() {
    match run_seeds() {
        Err(why) => panic!("{why}"),
        // A few seeds need not do everything.
        Ok(stats) if stats.events < 200_000 => {}
        Ok(stats) => {
            let some = stats.commits > 0 && stats.given > 0 && stats.accepted > 0 && stats.packs > 0 && stats.moves > 0;
            assert!(some, "nothing was committed, assigned, accepted, tidied or restored: {stats:?}");
            assert!(stats.uploads > 0 && stats.evicted > 0, "nothing was uploaded or evicted: {stats:?}");
            let both = stats.relocated > 0 && stats.from_store > 0;
            assert!(both, "nothing was in the way of an eviction, or compacted over the store: {stats:?}");
            assert!(stats.cleanings > 0 && stats.gone > 0, "nothing was compacted: {stats:?}");
        }
    }
}
