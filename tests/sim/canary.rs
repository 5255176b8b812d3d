//! Owns the proof that the simulation notices: a server that commits the fault that `CHRONIK_CANARY` names must be found out.

use std::panic::catch_unwind;

use chronik::canary::{self, Fault};

use super::{everywhere, fate, number, scenario};

/// Seeds within which a fault must be found.
const SEEDS_MAX: u64 = 300;

/// What gives the fault away: the first seed that fails, and why.
fn given_away(fault: Fault) -> Option<String> {
    if fault == Fault::RotServed {
        let tried = catch_unwind(everywhere::bit_rot_is_refused_or_answered_as_corrupt_but_never_served);
        return tried.err().map(|why| format!("by damage to settled files: {}", fate::panic_text(&*why)));
    }
    (1..=number("CHRONIK_SIM_SEEDS", SEEDS_MAX)).find_map(|seed| {
        let scenario = scenario::Scenario { blind: true, ..scenario::Scenario::drawn(seed) };
        let why = fate::run(scenario, false).0.err()?;
        // Only the model's verdict counts: a server that falls over its own assertion proves nothing about the oracle.
        let is_verdict = !why.starts_with(fate::PANICKED);
        is_verdict.then(|| format!("by seed {seed}: {}", why.lines().next().unwrap_or_default()))
    })
}

#[test]
fn the_chosen_fault_is_found_out() {
    let known = canary::FAULTS.map(|(name, _)| name);
    let fault = canary::chosen().unwrap_or_else(|| panic!("CHRONIK_CANARY must name one of {known:?}"));
    let why = given_away(fault).unwrap_or_else(|| panic!("nobody noticed {fault:?}"));
    println!("found out {why}");
}
