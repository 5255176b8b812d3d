//! Owns the programs for libFuzzer: one for each target of tests/fuzz, which is compiled in here as it is.
//!
//! `scripts/fuzz` builds and runs them.

#[path = "../../tests/fuzz/mod.rs"]
pub mod fuzz;

/// What the targets need of the tests of the codec.
pub mod codec {
    #[path = "../../../tests/codec/list.rs"]
    pub mod list;
    #[path = "../../../tests/codec/random.rs"]
    pub mod random;
}

/// What they need of the simulation.
pub mod sim {
    #[path = "../../../tests/sim/disk.rs"]
    pub mod disk;
    #[path = "../../../tests/sim/image.rs"]
    pub mod image;
    #[path = "../../../tests/sim/node.rs"]
    pub mod node;
    #[path = "../../../tests/sim/rng.rs"]
    pub mod rng;
}

#[global_allocator]
static MEMORY: fuzz::memory::Counting = fuzz::memory::Counting;

/// Runs one input of a target.
pub fn check(name: &str, input: &[u8]) {
    static FIRST: std::sync::Once = std::sync::Once::new();
    let target = fuzz::find(name);
    // What targets make once is no input's memory.
    FIRST.call_once(|| (target.run)(&(target.seeds)()[0]));
    fuzz::check(target, input);
}
