//! Owns the check that the bounds of src/limits.rs on what clients cause, and the tests that reach them, are those of the table in
//! docs/reliability.md.

use std::collections::BTreeSet;

use super::fail_if_any;
use super::source::{read, rust_files};

/// Beginnings of the names of bounds on what the server does by itself: how it portions its work, its files, memory, time and stores.
const OWN_FAMILIES: [&str; 11] = [
    "MEMORY_",
    "TIDY_",
    "STORE_",
    "TIER_",
    "UPLOAD",
    "BACKUP_",
    "POOL_",
    "META_",
    "CHECKPOINT_",
    "GATHER_SPLICE",
    "REMOTE_",
];

/// The others of that kind.
const OWN: [&str; 31] = [
    "AWAY_SAID_US",
    "BALLAST_BYTES",
    "EVICT_LOOK_US",
    "FREEZE_ROUNDS_MAX",
    "GROUP_CHANGE_BYTES",
    "LATE_READ_KEPT_US",
    "READ_AHEAD_BYTES",
    "READ_AHEAD_RUNS_MAX",
    "READ_ELSEWHERE_BYTES",
    "READ_HANDLES_MAX",
    "READ_HOP_BYTES",
    "READ_INDEX_BYTES_MAX",
    "READ_PIECE_BYTES",
    "READ_PLACES_MAX",
    "READ_RUNS_MAX",
    "READ_SPLICES_MAX",
    "READ_TRUSTED_STRETCHES_MAX",
    "READ_TRUSTED_US",
    "RELOCATE_PART",
    "REPAIR_GROUP_BYTES_MAX",
    "RING_BYTES_MAX",
    "SCAN_BYTES",
    "SEGMENT_BYTES_DEFAULT",
    "SEGMENT_BYTES_MIN",
    "SEGMENT_DIRECTORY_BYTES_MAX",
    "SEGMENT_PAGES_MAX",
    "SPACE_CHECKPOINT_US",
    "SPACE_PROBE_US",
    "TOOL_RESPONSE_BYTES_MAX",
    "WAL_MAILBOX_GROUPS",
    "ZERO_AHEAD_BYTES",
];

/// The constants of src/limits.rs.
fn limits() -> BTreeSet<String> {
    let text = read("src/limits.rs");
    let names = text.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(names.len() > 100, "only {} limits found: the reading of src/limits.rs is broken", names.len());
    names
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of the table: its bounds, and the text that names their tests.
fn rows() -> Vec<(Vec<String>, String)> {
    let paper = read("docs/reliability.md");
    let part = paper.split("### Bounds and the tests that reach them").nth(1).expect("the part is there");
    let part = part.split("\n## ").next().unwrap_or("");
    let rows = part.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 3, "{line}");
        (quoted(cells[0]).map(str::to_owned).collect(), cells[2].to_owned())
    });
    rows.collect()
}

#[test]
fn every_bound_on_what_clients_cause_is_in_the_table_of_bounds() {
    let limits = limits();
    let is_own = |name: &str| OWN.contains(&name) || OWN_FAMILIES.iter().any(|family| name.starts_with(family));
    let mut broken = Vec::new();
    let mut told = BTreeSet::new();
    for name in rows().into_iter().flat_map(|(names, _)| names) {
        if !limits.contains(&name) || is_own(&name) {
            broken.push(format!("{name} is in the table, and is no bound on what clients cause"));
        }
        if !told.insert(name.clone()) {
            broken.push(format!("{name} is in the table twice"));
        }
    }
    let missing = limits.iter().filter(|name| !told.contains(*name) && !is_own(name));
    broken.extend(missing.map(|name| format!("{name} is not in the table of docs/reliability.md")));
    broken.extend(OWN.iter().filter(|name| !limits.contains(**name)).map(|name| format!("{name} is gone")));
    fail_if_any("bounds on what clients cause are in the table, the server's own in OWN", &broken);
}

#[test]
fn every_test_in_the_table_of_bounds_is_there() {
    let mut tests = BTreeSet::new();
    for file in rust_files() {
        let lines: Vec<&str> = file.code.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[test]") {
            tests.extend(pair[1].strip_prefix("fn ").and_then(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
    let mut broken = Vec::new();
    for (bounds, cell) in rows() {
        let named: Vec<&str> = quoted(&cell).collect();
        if named.is_empty() && !cell.trim().starts_with("no test: ") {
            broken.push(format!("{bounds:?} have neither a test nor a reason for having none"));
        }
        broken
            .extend(named.iter().filter(|name| !tests.contains(**name)).map(|name| format!("there is no test {name}")));
    }
    fail_if_any("the tests that reach the bounds are there", &broken);
}
