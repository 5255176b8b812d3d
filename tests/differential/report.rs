//! Owns what a run tells a person.

use std::collections::BTreeMap;

use super::compare::{Difference, StepDifference};
use super::work::Job;

/// What came of all jobs.
#[derive(Debug, Default)]
pub struct Report {
    pub sequences: usize,
    pub steps: usize,
    /// Sequences that had to be repeated, because the servers differed at first.
    pub repeated: usize,
    pub failed: Vec<Failed>,
    /// How many APIs were asked, and how many versions of them together.
    pub apis_asked: usize,
    pub versions_asked: usize,
    /// Versions of APIs that both servers speak and no sequence asked.
    pub not_asked: Vec<String>,
    /// How often each allowed difference was met.
    pub used: BTreeMap<String, usize>,
}

/// A job in which the servers differ.
#[derive(Debug)]
pub struct Failed {
    pub job: Job,
    pub differences: Vec<StepDifference>,
}

impl Failed {
    /// Where it stands in the report.
    pub fn order(&self) -> (String, String) {
        (self.job.place.clone(), self.job.title.clone())
    }

    /// What variants of a sequence must share to be told together: where they differ first, and how.
    fn alike(&self) -> String {
        let part = |step: &StepDifference| {
            let found: &Difference = step.differences.first()?;
            let path = without_indexes(&found.path);
            Some(format!("{} {path} {} {}", step.line, without_texts(&found.kafka), without_texts(&found.chronik)))
        };
        self.differences.first().and_then(part).unwrap_or_default()
    }
}

/// A path without indexes.
fn without_indexes(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// A value without its texts, in which names of one run stand.
fn without_texts(value: &str) -> String {
    value.split('"').step_by(2).collect()
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// Prints the differences; of each sequence the first step that differs, or every one. Variants of a sequence that
    /// differ alike are told once.
    pub fn print(&self, all: bool) {
        let mut groups: BTreeMap<(String, String), Vec<&Failed>> = BTreeMap::new();
        for failed in &self.failed {
            groups.entry((failed.job.place.clone(), failed.alike())).or_default().push(failed);
        }
        for ((place, _), failed) in &groups {
            let first = failed[0];
            println!("\n{place} {}", first.job.title);
            if failed.len() > 1 {
                let variants: Vec<&str> = failed[1..].iter().map(|failed| failed.job.variant()).collect();
                println!("  and alike {}", variants.join(" "));
            }
            let shown = if all { first.differences.len() } else { 1 };
            for difference in first.differences.iter().take(shown) {
                print!("{difference}");
            }
            if first.differences.len() > shown {
                println!("    and {} later steps", first.differences.len() - shown);
            }
            if let Some(text) = &first.job.text {
                println!("    the sequence:\n{text}");
            }
        }
        let used: Vec<String> = self.used.iter().map(|(id, times)| format!("{id} {times}")).collect();
        println!("\nallowed differences met: {}", used.join(", "));
        println!("not asked: {}", self.not_asked.join(", "));
        println!(
            "{} sequences, {} steps on each server, {} APIs in {} versions, {} repeated: {} differ, in {} ways",
            self.sequences,
            self.steps,
            self.apis_asked,
            self.versions_asked,
            self.repeated,
            self.failed.len(),
            groups.len()
        );
    }
}
