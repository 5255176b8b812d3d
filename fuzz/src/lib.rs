//! Owns the programs for libFuzzer: one for each target of tests/fuzz, which is compiled in here as it is.
//!
//! `scripts/fuzz` builds and runs them.

// What runs them in the tests is not used here.
#[allow(dead_code, unused_imports)]
#[path = "../../tests/fuzz/mod.rs"]
pub mod fuzz;

pub mod codec;
pub mod sim;

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
