//! Owns random sequences: a grammar of requests over a small world, written as text that a sequence file could hold.

use std::collections::BTreeMap;

use super::codec::Described;
use super::script::Scripts;
use super::work::Job;

/// The sequence of a seed.
pub fn job(seed: u64, apis: &BTreeMap<&'static str, Described>) -> Job {
    let text = format!("== random {seed}\nMetadata {{ topics: [] }}\n");
    let mut scripts = Scripts::default();
    scripts.read("random", &text, apis).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
    let sequence = scripts.sequences.remove(0);
    Job {
        title: sequence.title,
        place: format!("random:{seed:06}"),
        pinned: None,
        parameters: Vec::new(),
        alone: false,
        steps: sequence.steps,
        text: Some(text),
    }
}
