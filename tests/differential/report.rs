//! Owns what a run tells a person.

use std::collections::BTreeMap;

use super::compare::StepDifference;
use super::work::Job;

/// What came of all jobs.
#[derive(Debug, Default)]
pub struct Report {
    pub sequences: usize,
    pub steps: usize,
    /// Sequences that had to be repeated, because the servers differed at first.
    pub repeated: usize,
    pub failed: Vec<Failed>,
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
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// Prints the differences; of each sequence the first step that differs, or every one.
    pub fn print(&self, all: bool) {
        for failed in &self.failed {
            println!("\n{} {}", failed.job.place, failed.job.title);
            let shown = if all { failed.differences.len() } else { 1 };
            for difference in failed.differences.iter().take(shown) {
                print!("{difference}");
            }
            if failed.differences.len() > shown {
                println!("    and {} later steps", failed.differences.len() - shown);
            }
            if let Some(text) = &failed.job.text {
                println!("    the sequence:\n{text}");
            }
        }
        let used: Vec<String> = self.used.iter().map(|(id, times)| format!("{id} {times}")).collect();
        println!("\nallowed differences met: {}", used.join(", "));
        println!(
            "{} sequences, {} steps on each server, {} repeated: {} differ",
            self.sequences,
            self.steps,
            self.repeated,
            self.failed.len()
        );
    }
}
