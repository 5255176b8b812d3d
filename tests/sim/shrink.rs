//! Owns making a failing run smaller: fewer clients, fewer faults, fewer events, as long as it still fails in the same way.

use super::fate;
use super::knobs::KNOBS;
use super::scenario::Scenario;

/// Runs that are spent on one failure.
const RUNS_MAX: u32 = 200;

/// Other chances that are tried for each step when the same ones do not fail any more.
const SALTS: u64 = 1;

/// A run that fails.
#[derive(Clone, Debug)]
pub struct Failure {
    pub scenario: Scenario,
    pub why: String,
}

/// The words of a failure without the numbers and names in it: two with the same ones are taken for the same failure.
fn kind(why: &str) -> Vec<String> {
    let line = why.lines().next().unwrap_or_default();
    let line =
        line.split_once(" crash before ").and_then(|(_, rest)| rest.split_once(": ")).map_or(line, |(_, why)| why);
    let words = line.split_whitespace().map(|word| word.trim_end_matches([',', ':', ';', '.']));
    words.filter(|word| word.chars().all(char::is_alphabetic)).take(8).map(str::to_string).collect()
}

struct Shrinker {
    runs: u32,
    best: Failure,
    kind: Vec<String>,
}

impl Shrinker {
    /// Takes a candidate for the best one if it fails in the same way, with the same chances or with a few others.
    fn try_out(&mut self, candidate: Scenario) -> bool {
        for salt in candidate.salt..=candidate.salt + SALTS {
            if self.runs >= RUNS_MAX {
                return false;
            }
            self.runs += 1;
            let salted = Scenario { salt, ..candidate.clone() };
            let (result, stats, _) = fate::run(salted.clone(), false);
            let Err(why) = result else { continue };
            if kind(&why) == self.kind {
                // What would come after the failure does not matter.
                let events = salted.events.min(stats.events.max(1));
                self.best = Failure { scenario: Scenario { events, ..salted }, why };
                return true;
            }
        }
        false
    }

    fn one_round(&mut self) -> bool {
        let mut any = false;
        for knob in KNOBS.iter().filter(|knob| !["salt", "only_try", "misfortunes", "events"].contains(&knob.name)) {
            let now = (knob.get)(&self.best.scenario);
            if now == knob.simplest {
                continue;
            }
            for value in [knob.simplest, now / 2] {
                let mut candidate = self.best.scenario.clone();
                (knob.set)(&mut candidate, value);
                let is_other = (knob.get)(&candidate) != now;
                if is_other && self.try_out(candidate) {
                    any = true;
                    break;
                }
            }
        }
        for kind in
            (0..fate::MISFORTUNES).filter(|kind| self.best.scenario.misfortunes >> kind & 1 == 1).collect::<Vec<_>>()
        {
            let mut candidate = self.best.scenario.clone();
            candidate.misfortunes &= (1 << fate::MISFORTUNES) - 1;
            candidate.misfortunes &= !(1 << kind);
            any |= self.try_out(candidate);
        }
        for percent in [25, 50, 75, 90] {
            let mut candidate = self.best.scenario.clone();
            candidate.events = (candidate.events * percent / 100).max(1);
            if self.try_out(candidate) {
                return true;
            }
        }
        any
    }
}

/// A run that is as small as it gets and fails like this one; and how many runs that took.
pub fn shrink(failure: Failure) -> (Failure, u32) {
    let kind = kind(&failure.why);
    let mut shrinker = Shrinker { runs: 0, best: failure, kind };
    while shrinker.runs < RUNS_MAX && shrinker.one_round() {}
    // Of crashes beside the run the one that fails is enough.
    if let Some(number) = tried(&shrinker.best.why) {
        shrinker.runs = shrinker.runs.min(RUNS_MAX - 1);
        let only = Scenario { only_try: number, ..shrinker.best.scenario.clone() };
        shrinker.try_out(only);
    }
    (shrinker.best, shrinker.runs)
}

/// The number of the crash beside the run that a failure names.
fn tried(why: &str) -> Option<u64> {
    let (number, _) = why.strip_prefix("try ")?.split_once(',')?;
    number.parse().ok()
}

#[test]
fn failures_are_the_same_whatever_their_numbers() {
    let one = "try 17, a crash before Sync wal/07.log: recovered up to group 5, but 7 was durable";
    let other = "recovered up to group 12345, but 12346 was durable\n  asked: more";
    assert_eq!((kind(one), tried(one), tried(other)), (kind(other), Some(17), None));
    assert_ne!(kind(one), kind("batch 5 acknowledged at 7, where it is not"));
}

/// A disk whose fsync does nothing is found out; what is left of the run is small, and fails in the same way when its one
/// command is carried out.
#[test]
fn a_failure_is_made_smaller_and_can_be_replayed() {
    use super::disk::Op;
    let lying = |seed| Scenario { lie: Some(Op::Sync), ..Scenario::drawn(seed) };
    let failing = (1..40).map(lying).find_map(|scenario| {
        let why = fate::run(scenario.clone(), false).0.err()?;
        Some(Failure { scenario, why })
    });
    let failing = failing.expect("nobody noticed that fsync does nothing");
    let (small, runs) = shrink(failing.clone());
    assert!(runs <= RUNS_MAX + 2, "{runs} runs");
    assert!(small.scenario.events < failing.scenario.events, "{small:?} is no shorter");
    let clients =
        |scenario: &Scenario| scenario.producers + scenario.txn_producers + scenario.strays + scenario.sharers;
    assert!(clients(&small.scenario) < clients(&failing.scenario).max(1), "{small:?} has as many clients");
    let mut replayed = failing.scenario.clone();
    replayed.set(&small.scenario.difference(&failing.scenario)).expect("known names");
    assert_eq!(fate::run(replayed, false).0, Err(small.why));
}
