//! Owns the fuzz targets: what is done with bytes that nobody has looked at, and what must hold whatever they are.
//!
//! Here each target runs a fixed number of inputs, made from good ones by a seeded mutator; `CHRONIK_FUZZ_INPUTS` says how many
//! others, `CHRONIK_FUZZ_SEED` from which seed. The programs in `fuzz/` hand the same functions to libFuzzer, which finds its own
//! way (`scripts/fuzz`). Beside what a target checks itself, no input may make it take more memory than its bound.

pub mod broker;
pub mod codecs;
pub mod damage;
pub mod frames;
pub mod image;
pub mod life;
pub mod logs;
pub mod memory;
pub mod messages;
pub mod mutate;
pub mod records;
pub mod state;
pub mod texts;

use mutate::Mutator;

/// One target.
pub struct Target {
    pub name: &'static str,
    /// Panics if something that must hold does not.
    pub run: fn(&[u8]),
    /// Good inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of the longest input.
    pub input_max: usize,
    /// Memory that one input may take: so many bytes for each of its bytes, and so many besides.
    pub per_byte: usize,
    pub fixed: usize,
    /// Inputs in a test run.
    pub inputs: u64,
}

const MIB: usize = 1 << 20;

/// All of them.
pub static TARGETS: [Target; 8] = [
    Target {
        name: "frames",
        run: frames::run,
        seeds: frames::seeds,
        input_max: 128 << 10,
        per_byte: 16,
        fixed: MIB,
        inputs: 4000,
    },
    Target {
        name: "messages",
        run: messages::run,
        seeds: messages::seeds,
        input_max: 16 << 10,
        // Decoded twice and encoded three times.
        per_byte: 300,
        fixed: 64 << 10,
        inputs: 20_000,
    },
    Target {
        name: "broker",
        run: broker::run,
        seeds: broker::seeds,
        input_max: 32 << 10,
        per_byte: 1000,
        fixed: 256 * MIB,
        inputs: 100,
    },
    Target {
        name: "records",
        run: records::run,
        seeds: records::seeds,
        input_max: 64 << 10,
        per_byte: 100,
        // What decompresses to the limit is held some times.
        fixed: 512 * MIB,
        inputs: 2500,
    },
    Target {
        name: "codecs",
        run: codecs::run,
        seeds: codecs::seeds,
        input_max: 64 << 10,
        per_byte: 20,
        fixed: 4 * MIB,
        inputs: 1500,
    },
    Target {
        name: "logs",
        run: logs::run,
        seeds: logs::seeds,
        input_max: 4 << 10,
        per_byte: 20,
        fixed: 96 * MIB,
        inputs: 150,
    },
    Target {
        name: "state",
        run: state::run,
        seeds: state::seeds,
        input_max: 32 << 10,
        per_byte: 1000,
        // Two brokers with as many partitions as there may be.
        fixed: 768 * MIB,
        inputs: 2000,
    },
    Target {
        name: "texts",
        run: texts::run,
        seeds: texts::seeds,
        input_max: 8 << 10,
        per_byte: 200,
        fixed: 16 * MIB,
        inputs: 3000,
    },
];

/// The target of this name.
pub fn find(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no fuzz target {name}"))
}

/// Runs one input, bounded in memory.
pub fn check(target: &Target, input: &[u8]) {
    let peak = memory::peak_of(|| (target.run)(input));
    let most = target.per_byte * input.len() + target.fixed;
    assert!(peak <= most, "{} bytes of input took {peak} bytes of memory; {most} is the most", input.len());
}

/// Says which input it was when a check fails.
struct Saying<'a> {
    target: &'a Target,
    input: &'a [u8],
}

impl Drop for Saying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("fuzz target {}: this input fails: {hex}", self.target.name);
        }
    }
}

fn one(target: &Target, input: &[u8]) {
    let _saying = Saying { target, input };
    check(target, input);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// The seeds, then what the mutator makes of them.
fn fuzz(name: &str) {
    let target = find(name);
    let seeds = (target.seeds)();
    // What targets make once is no input's memory.
    if let Some(first) = seeds.first() {
        (target.run)(first);
    }
    seeds.iter().for_each(|seed| one(target, seed));
    let first = number("CHRONIK_FUZZ_SEED").unwrap_or(1);
    let mut mutator = Mutator::new(first, &seeds, target.input_max);
    for _ in 0..number("CHRONIK_FUZZ_INPUTS").unwrap_or(target.inputs) {
        one(target, &mutator.draw());
    }
}

#[test]
fn frames_of_any_bytes() {
    fuzz("frames");
}

#[test]
fn messages_of_any_bytes() {
    fuzz("messages");
}

#[test]
fn a_broker_that_is_sent_any_bytes() {
    fuzz("broker");
}

#[test]
fn records_of_any_bytes() {
    fuzz("records");
}

#[test]
fn codecs_of_any_bytes() {
    fuzz("codecs");
}

#[test]
fn logs_damaged_anywhere() {
    fuzz("logs");
}

#[test]
fn state_of_any_bytes() {
    fuzz("state");
}

#[test]
fn texts_of_any_bytes() {
    fuzz("texts");
}

/// Writes the seeds of all targets where `scripts/fuzz` has libFuzzer begin, if `CHRONIK_FUZZ_CORPUS` names a folder. They are the same
/// wherever and whenever they are made, so that nobody has to keep them.
#[test]
fn seeds_are_written_for_other_fuzzers() {
    let folder = std::env::var_os("CHRONIK_FUZZ_CORPUS").map(std::path::PathBuf::from);
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty() && seeds.iter().all(|seed| seed.len() <= 2 * target.input_max), "{}", target.name);
        assert!((target.seeds)() == seeds, "the seeds of {} are others each time", target.name);
        if let Some(folder) = &folder {
            let folder = folder.join(target.name);
            std::fs::create_dir_all(&folder).unwrap();
            for (number, seed) in seeds.iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{number:05}")), seed).unwrap();
            }
        }
    }
}

/// What libFuzzer begins with knows every request and response in every version.
#[test]
fn the_corpus_has_every_message_in_every_version() {
    let seeds = messages::seeds();
    for (which, kind) in messages::every_kind().iter().enumerate() {
        for version in 0..=kind.api.max - kind.api.min {
            let begin = [which as u8, version as u8];
            assert!(seeds.iter().any(|seed| seed.starts_with(&begin)), "{} {}", kind.api.name, version + kind.api.min);
        }
    }
}
