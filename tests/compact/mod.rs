//! Owns the tests of compaction: a partition with random records, transactions and gaps is cleaned again and again, and
//! what is left is held against Kafka's guarantees.

mod checks;
mod partition;

use chronik::wal::compact::{Cleaning, Indexing, Outcome, Verdict};
use chronik::wire::batch::Batch;

use crate::sim::rng::Rng;
use partition::Partition;

/// Carries out a cleaning as the log does: two walks over all batches.
fn clean(partition: &mut Partition, params: &chronik::wal::compact::Clean) -> Outcome {
    let mut indexing = Indexing::new(params);
    for bytes in &partition.batches {
        let batch = Batch::parse(bytes).unwrap();
        if batch.header.last_offset() < params.first_dirty {
            continue;
        }
        if !indexing.batch(&batch).unwrap() {
            break;
        }
    }
    let mut cleaning: Cleaning<'_> = indexing.finish();
    let mut left = Vec::new();
    for bytes in &partition.batches {
        match cleaning.batch(&Batch::parse(bytes).unwrap()).unwrap() {
            Verdict::Gone => {}
            Verdict::Unchanged => left.push(bytes.clone()),
            Verdict::Rewritten(bytes) => left.push(bytes.to_vec()),
        }
    }
    partition.batches = left;
    Outcome::decode(&cleaning.finish().encode()).unwrap()
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut partition = Partition::new(&mut rng);
    for _ in 0..rng.range(2, 12) {
        for _ in 0..rng.range(0, 60) {
            partition.step(&mut rng);
        }
        partition.now_ms += [1, 500, 3_000, 40_000][rng.index(4)];
        let Some(params) = partition.params(&mut rng) else { continue };
        let before = partition.batches.clone();
        let outcome = clean(&mut partition, &params);
        partition.cleaned(&params, &outcome);
        checks::all(&partition, &before, &params, &outcome);
    }
}

#[test]
fn whatever_is_cleaned_kafkas_guarantees_hold() {
    let first = std::env::var("CHRONIK_COMPACT_SEED").ok().and_then(|text| text.parse().ok());
    for seed in first.map_or(1..=150, |seed: u64| seed..=seed) {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed} failed: CHRONIK_COMPACT_SEED={seed} replays it");
    }
}

#[test]
fn in_the_end_tombstones_markers_and_aborted_transactions_are_gone() {
    for seed in 1..=40 {
        let mut rng = Rng::new(seed);
        let mut partition = Partition::new(&mut rng);
        for _ in 0..80 {
            partition.step(&mut rng);
        }
        partition.finish_txns(&mut rng);
        partition.forget_producers();
        for _ in 0..4 {
            let params = partition.params_of_all();
            let before = partition.batches.clone();
            let outcome = clean(&mut partition, &params);
            partition.cleaned(&params, &outcome);
            checks::all(&partition, &before, &params, &outcome);
            partition.now_ms += partition.delete_retention_ms + 1;
        }
        checks::nothing_is_left_over(&partition);
    }
}
