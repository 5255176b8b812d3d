//! Owns the differential test: the same sequences of requests go to a real Kafka and to chronik-server, and the decoded
//! answers are compared field by field. `README.md` in this folder tells how to write a sequence.
//!
//! It needs two running servers, which `scripts/differential` starts:
//!
//! - `DIFFERENTIAL_KAFKA`, `DIFFERENTIAL_CHRONIK`: their addresses; without them the test says so and does nothing
//! - `DIFFERENTIAL_ONLY`: run only sequences whose file or title holds this text
//! - `DIFFERENTIAL_SEEDS`: how many random sequences to run, or the ones to run as `FROM..TO`
//! - `DIFFERENTIAL_WORKERS`: how many sequences run at the same time
//! - `DIFFERENTIAL_TRACE`: show every answer of both servers
//! - `DIFFERENTIAL_ALL`: show every step that differs, not only a sequence's first

mod allowed;
mod client;
mod codec;
mod compare;
mod expr;
mod lexer;
mod random;
mod records;
mod report;
mod run;
mod script;
mod value;
mod work;

use std::collections::BTreeMap;
use std::env;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use allowed::Allowed;
use codec::{described, Described};
use script::Scripts;
use work::{expand, Job, Shared};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/differential")
}

/// The committed sequences.
fn scripts(apis: &BTreeMap<&'static str, Described>) -> Scripts {
    Scripts::load(&folder().join("sequences"), apis).unwrap_or_else(|error| panic!("{error}"))
}

/// The committed list of allowed differences.
fn allowed() -> Allowed {
    let path = folder().join("allowed.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Allowed::parse(&text).unwrap_or_else(|error| panic!("allowed.txt: {error}"))
}

fn address(variable: &str) -> Option<SocketAddr> {
    let text = env::var(variable).ok()?;
    let found = text.to_socket_addrs().unwrap_or_else(|error| panic!("{variable}={text}: {error}")).next();
    Some(found.unwrap_or_else(|| panic!("{variable}={text} is no address")))
}

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The seeds of the random sequences to run.
fn seeds() -> std::ops::Range<u64> {
    let text = env::var("DIFFERENTIAL_SEEDS").unwrap_or_default();
    match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap_or(0)..to.parse().unwrap_or(0),
        None => 0..text.parse().unwrap_or(0),
    }
}

#[test]
fn kafka_and_chronik_answer_alike() {
    let (Some(kafka), Some(chronik)) = (address("DIFFERENTIAL_KAFKA"), address("DIFFERENTIAL_CHRONIK")) else {
        println!(
            "SKIPPED: DIFFERENTIAL_KAFKA and DIFFERENTIAL_CHRONIK name no servers; scripts/differential starts them"
        );
        return;
    };
    let apis = described();
    let scripts = scripts(&apis);
    let allowed = allowed();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let shared = Shared::new(&apis, &scripts.defs, &allowed, kafka, chronik, now);
    shared.warm_up();
    let only = env::var("DIFFERENTIAL_ONLY").unwrap_or_default();
    let chosen = |job: &Job| job.title.contains(&only) || job.place.contains(&only);
    let mut jobs: Vec<Job> = scripts.sequences.iter().flat_map(|sequence| expand(sequence, &shared)).collect();
    jobs.extend(seeds().map(|seed| random::job(seed, &apis)));
    jobs.retain(chosen);
    let report = shared.run_all(&jobs, number("DIFFERENTIAL_WORKERS", 4));
    report.print(env::var_os("DIFFERENTIAL_ALL").is_some());
    assert!(report.is_clean(), "Kafka and Chronik answer differently: see above");
}

#[test]
fn every_sequence_can_be_read_and_names_allowed_differences_that_exist() {
    let apis = described();
    let scripts = scripts(&apis);
    let allowed = allowed();
    let mut ids: Vec<&String> = allowed.rules.iter().map(|rule| &rule.id).collect();
    ids.sort();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "an id stands twice in allowed.txt: {ids:?}");
    let mut named = Vec::new();
    let steps =
        scripts.sequences.iter().map(|sequence| &sequence.steps).chain(scripts.defs.values().map(|def| &def.steps));
    steps.for_each(|steps| script::marks(steps, &mut named));
    for rule in allowed.rules.iter().filter(|rule| rule.marked_only) {
        assert!(named.contains(&rule.id), "no sequence names the allowed difference {}", rule.id);
    }
    for id in &named {
        assert!(ids.contains(&id), "{id} is not in allowed.txt");
    }
    for seed in 0..20 {
        random::job(seed, &apis);
    }
}

/// The list of allowed differences in the papers is made from allowed.txt; `UPDATE=1` writes it anew.
#[test]
fn the_document_tells_every_allowed_difference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- differential -->\n", "<!-- /differential -->");
    let (from, to) = (text.find(begin).unwrap() + begin.len(), text.find(end).unwrap());
    let made = allowed().table();
    if text[from..to] != made {
        assert!(env::var_os("UPDATE").is_some(), "docs/compatibility.md is out of date; UPDATE=1 writes it anew");
        std::fs::write(path, format!("{}{made}{}", &text[..from], &text[to..])).unwrap();
    }
}
