//! Owns the two metadata stores: files that survive every crash, the refusal of the other store, and conversion.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik::sys::disk::Disk;
use chronik::wal::settings::{LogOptions, MetadataStore};
use chronik::wal::{convert, MetaEntry, RecoverError};

use super::support::{entry, group, open, options, partition, Planner};
use crate::sim::disk::{Faults, SimDisk, Trouble, CHANGES};
use crate::sim::rng::Rng;

fn files(seed: u64) -> LogOptions {
    LogOptions { metadata: MetadataStore::Files, ..options(seed) }
}

type Live = BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>;

fn fold(live: &mut Live, entries: &[MetaEntry]) {
    for entry in entries {
        let key = (entry.scope.to_vec(), entry.key.to_vec());
        match &entry.value {
            Some(value) => live.insert(key, value.to_vec()),
            None => live.remove(&key),
        };
    }
}

fn folded(entries: &[MetaEntry]) -> Live {
    let mut live = Live::new();
    fold(&mut live, entries);
    live
}

fn of_scope(live: &Live, scope: &str) -> Live {
    live.iter().filter(|((s, _), _)| s == scope.as_bytes()).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn some_changes(rng: &mut Rng) -> Vec<MetaEntry> {
    let mut changes = Vec::new();
    for _ in 0..rng.range(1, 4) {
        let (scope, key) = (["a", "B", "c/d"][rng.index(3)], format!("k{}", rng.below(3)));
        let value = format!("v{}", rng.below(1000));
        changes.push(entry(scope, &key, rng.chance(70).then_some(value.as_str())));
    }
    changes
}

#[test]
fn file_metadata_survives_a_crash_at_every_call() {
    for trouble in [Trouble::Cut, Trouble::Kill] {
        let mut nth = 1;
        while file_crash(nth, trouble) {
            nth += 1 + nth / 30;
        }
        assert!(nth > 40);
    }
}

fn file_crash(nth: u64, trouble: Trouble) -> bool {
    let mut rng = Rng::new(nth);
    let disk = SimDisk::new(nth, Faults::ALL);
    let (mut recovered, _) = open(Arc::new(disk.clone()), files(1)).unwrap();
    disk.plan(CHANGES, "", nth, trouble);
    let mut planner = Planner::default();
    let (mut live, mut next, mut acked_runs) = (Live::new(), Live::new(), 0);
    for seq in 1..25 {
        let changes = some_changes(&mut rng);
        next = live.clone();
        fold(&mut next, &changes);
        let runs = if rng.chance(50) { vec![planner.run(partition(1, 0), 1, 1, 100)] } else { vec![] };
        let count = runs.len();
        if recovered.writer.step(group(seq, changes, runs)).is_err() {
            break;
        }
        live = next.clone();
        acked_runs += count;
    }
    let hit = disk.is_down().is_some();
    disk.forget_plans();
    let (_, seen) = open(Arc::new(disk.restart()), files(2)).unwrap_or_else(|e| panic!("{nth}: {e}"));
    assert!(seen.runs.len() >= acked_runs);
    let found = folded(&seen.meta);
    for scope in ["a", "B", "c/d"] {
        let found = of_scope(&found, scope);
        let (old, new) = (of_scope(&live, scope), of_scope(&next, scope));
        // Between the two stand the values that are set before the group and the removals that follow it.
        let mut between = old.clone();
        between.extend(new.clone());
        assert!(found == old || found == new || found == between, "{nth}: {found:?} is none of {old:?}, {new:?}");
    }
    hit
}

#[test]
fn groups_of_metadata_alone_are_not_written_to_the_log_with_file_metadata() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), files(1)).unwrap();
    let written = recovered.writer.step(group(1, vec![entry("a", "k", Some("v"))], vec![])).unwrap();
    assert!(written.buf.is_empty() && written.runs.is_empty());
    let mut planner = Planner::default();
    recovered.writer.step(group(2, vec![], vec![planner.run(partition(1, 0), 1, 1, 10)])).unwrap();
    recovered.writer.step(group(3, vec![entry("a", "k", None)], vec![])).unwrap();
    recovered.writer.step(group(4, vec![], vec![planner.run(partition(1, 0), 1, 1, 10)])).unwrap();
    let (_, seen) = open(Arc::new(disk.power_cut()), files(2)).unwrap();
    assert_eq!((seen.runs.len(), seen.meta.len()), (2, 0));
    assert!(disk.paths().iter().all(|path| !path.starts_with("metadata/")), "an empty file goes");
}

#[test]
fn long_and_strange_scopes_have_files_of_their_own() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), files(1)).unwrap();
    let long = "x".repeat(20_000);
    let scopes = ["", "a", "A", "../../etc/passwd", "ü", "a.tmp", &long, &format!("{long}y"), "a%41"];
    let changes: Vec<_> = scopes.iter().map(|scope| entry(scope, "k", Some(scope))).collect();
    recovered.writer.step(group(1, changes.clone(), vec![])).unwrap();
    let (_, seen) = open(Arc::new(disk.power_cut()), files(2)).unwrap();
    assert_eq!(folded(&seen.meta), folded(&changes));
}

#[test]
fn a_damaged_metadata_file_is_refused_by_name() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), files(1)).unwrap();
    recovered.writer.step(group(1, vec![entry("a", "k", Some("v"))], vec![])).unwrap();
    let disk = disk.restart();
    disk.rot("metadata/003-a", 30, 1).unwrap();
    let error = open(Arc::new(disk), files(2)).unwrap_err();
    assert!(error.to_string().contains("metadata/003-a"), "{error}");
}

#[test]
fn the_other_store_is_refused_with_the_option_that_converts() {
    let disk = SimDisk::new(1, Faults::NONE);
    open(Arc::new(disk.clone()), options(1)).unwrap();
    let error = open(Arc::new(disk.restart()), files(2)).unwrap_err();
    assert!(matches!(error, RecoverError::OtherStore(_)) && error.to_string().contains("--convert-metadata"));
    let disk = SimDisk::new(1, Faults::NONE);
    open(Arc::new(disk.clone()), files(1)).unwrap();
    let error = open(Arc::new(disk.restart()), options(2)).unwrap_err();
    assert!(error.to_string().contains("--file-metadata"), "{error}");
}

#[test]
fn conversion_there_and_back_keeps_everything_and_can_be_interrupted() {
    let changes = vec![entry("a", "k", Some("1")), entry("b", "k", Some("2")), entry("b", "l", Some("3"))];
    for nth in 1..12 {
        let disk = SimDisk::new(nth, Faults::ALL);
        let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
        recovered.writer.step(group(1, changes.clone(), vec![])).unwrap();
        recovered.writer.close().unwrap();
        disk.plan(CHANGES, "", nth, Trouble::Cut);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let _ = convert::to_files(&shared, &changes);
        disk.forget_plans();
        let disk = disk.restart();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        if open(shared.clone(), options(2)).is_ok() {
            convert::to_files(&shared, &changes).unwrap();
        }
        let (mut recovered, seen) = open(shared, files(3)).unwrap();
        assert_eq!(folded(&seen.meta), folded(&changes), "{nth}");
        recovered.writer.step(group(recovered.next_seq, vec![entry("b", "k", None)], vec![])).unwrap();
        let (seq, position) = (recovered.next_seq, recovered.writer.position());
        disk.plan(CHANGES, "", nth, Trouble::Cut);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let _ = convert::to_log(&shared, seq, position, b"all of it");
        disk.forget_plans();
        let disk = disk.restart();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        if open(shared.clone(), files(4)).is_ok() {
            convert::to_log(&shared, seq, position, b"all of it").unwrap();
        }
        let (_, seen) = open(shared, options(5)).unwrap_or_else(|e| panic!("{nth}: {e}"));
        assert_eq!(seen.checkpoint.as_deref(), Some(&b"all of it"[..]), "{nth}");
        assert!(seen.meta.is_empty(), "{nth}: entries from before the files must not come back");
    }
}
