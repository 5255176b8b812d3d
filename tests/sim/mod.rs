//! The deterministic simulation: the broker, its log and its recovery in one thread over a seeded clock, network and disk.

mod actors;
mod batch;
mod clock;
#[allow(dead_code)]
pub mod disk;
mod disk_tests;
mod fate;
pub mod image;
mod model;
mod net;
mod node;
mod proto;
mod regressions;
pub mod rng;
mod scenario;
mod world;

#[test]
fn seeds() {
    let from: u64 = std::env::var("CHRONIK_SIM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("CHRONIK_SIM_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let trace = std::env::var("CHRONIK_SIM_TRACE").is_ok_and(|t| !t.is_empty());
    let mut all = world::Stats::default();
    for seed in from..from + count {
        let (result, stats, lines) = fate::run(scenario::Scenario::drawn(seed), trace);
        let skip = 0;
        for line in &lines[skip..] {
            eprintln!("{line}");
        }
        eprintln!("{seed}: {stats:?}");
        if let Err(why) = result {
            panic!("seed {seed}: {why}");
        }
        all.crashes += stats.crashes;
    }
}
