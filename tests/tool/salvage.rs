//! Owns data directories that are damaged at random: what is said to be damaged is, what is said to be lost is exactly what is
//! missing from the repaired directory, and a server starts on that.
//!
//! `CHRONIK_SALVAGE_SEEDS` says how many other rows of damage are drawn; `CHRONIK_SALVAGE_SEED` from which on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use chronik::wire::Uuid;

use super::{stderr, stdout, tool};
use crate::codec::json::{parse, Json};
use crate::fuzz::damage::{apply, Change, Harm};
use crate::fuzz::image::{disk_of, image, read, Batches};
use crate::fuzz::life::Life;
use crate::fuzz::logs::{places, Group};
use crate::net::process::TempDir;
use crate::sim::rng::Rng;

type Files = BTreeMap<String, Vec<u8>>;

/// Where damage is drawn: all files of a kind.
const KINDS: [&str; 4] = ["wal/", "packs/", "checkpoints/", "chronik.dir"];

fn drawn(rng: &mut Rng) -> Vec<Change> {
    let kind = KINDS[[0, 0, 0, 1, 1, 2, 2, 3][rng.index(8)]];
    let files: Vec<&String> = image().files.keys().filter(|path| path.starts_with(kind)).collect();
    let mut changes = Vec::new();
    for _ in 0..[1, 1, 1, 2, 3][rng.index(5)] {
        let path = rng.pick(&files).map(|path| (*path).clone()).unwrap();
        let len = image().files[&path].len() as u64;
        let harm = match rng.below(12) {
            0..=4 => Harm::Flip { position: rng.below(len), mask: 1 << rng.below(8) },
            5 => {
                let mut bytes = vec![0; rng.range(1, 200) as usize];
                rng.fill(&mut bytes);
                Harm::Overwrite { position: rng.below(len), bytes }
            }
            6 | 7 => Harm::ZeroPage { page: rng.below(len) },
            8 => Harm::Noise { sector: rng.below(len), count: rng.range(1, 24), seed: rng.next_u64() },
            9 => Harm::StrayPage { from: rng.below(len), to: rng.below(len) },
            10 => Harm::Cut { position: rng.below(len) },
            _ => Harm::Gone,
        };
        changes.push((path, harm));
    }
    changes
}

fn write(dir: &Path, files: &Files) {
    for (path, bytes) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// All files below a folder but the lock, which is made by whoever looks.
fn contents(dir: &Path) -> Files {
    let mut files = Files::new();
    for folder in ["", "wal", "packs", "checkpoints", "metadata"] {
        for item in fs::read_dir(dir.join(folder)).into_iter().flatten().flatten() {
            let path = item.path();
            if path.is_file() && !path.ends_with("chronik.lock") {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// A finding of the tool.
#[derive(Debug)]
struct Found {
    grade: String,
    file: String,
    position: usize,
    /// 0 where it is not known how far it reaches.
    bytes: usize,
    /// More may be lost there than is named.
    more: bool,
}

/// First and last offsets that are lost of each partition.
type Lost = BTreeMap<(Uuid, i32), Vec<(i64, i64)>>;

fn findings(report: &Json) -> Vec<Found> {
    let text = |json: &Json, name: &str| json.text(name).unwrap().to_owned();
    let found = |json: &Json| Found {
        grade: text(json, "grade"),
        file: text(json, "file"),
        position: text(json, "position").parse().unwrap(),
        bytes: text(json, "bytes").parse().unwrap(),
        more: text(json, "more_may_be_lost") == "true",
    };
    report.list("findings").iter().map(found).collect()
}

fn lost(report: &Json) -> Lost {
    let mut lost = Lost::new();
    for extent in report.list("lost") {
        let number = |name: &str| extent.text(name).unwrap().parse::<i64>().unwrap();
        let id =
            image().topics.iter().map(|(_, id, _)| *id).find(|id| extent.text("topic_id") == Some(&id.to_string()));
        // Of a topic that had been deleted: nobody misses it.
        let Some(id) = id else { continue };
        let of = lost.entry((id, number("partition") as i32)).or_default();
        of.push((number("first_offset"), number("last_offset")));
    }
    lost
}

fn run(args: &[&str]) -> (i32, Json) {
    let output = tool(&[args, &["-o", "json"]].concat());
    let code = output.status.code().expect("it ends by itself");
    assert!(matches!(code, 0 | 1), "{args:?} ends with {code}: {}", stderr(&output));
    assert_eq!(stderr(&output), "", "{args:?}");
    (code, parse(&stdout(&output)))
}

/// Damages, verifies, repairs, and compares.
fn salvage(changes: &[Change]) {
    let mut files = image().files.clone();
    apply(&mut files, changes);
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run_number = RUNS.fetch_add(1, Ordering::Relaxed);
    let (dir, new) = (TempDir::new(&format!("salvage-{run_number}")), TempDir::new(&format!("salvaged-{run_number}")));
    write(&dir.0, &files);
    let (from, into) = (dir.0.to_str().unwrap(), new.0.to_str().unwrap());
    let (code, report) = run(&["wal", "verify", "-d", from]);
    let found = findings(&report);
    assert_eq!(code == 1, found.iter().any(|found| found.grade != "torn"), "{found:?}");
    is_named(&files, &found);
    let (code, report) = run(&["wal", "repair", "-d", from, "--into", into]);
    assert_eq!(code, 0);
    assert!(contents(&dir.0) == files, "the damaged directory was changed");
    let (code, after) = run(&["wal", "verify", "-d", into]);
    assert_eq!(code, 0, "the repaired directory is called damaged: {after:?}");
    let repaired = contents(&new.0);
    let mut life = Life::start(&disk_of(&repaired), 9).unwrap_or_else(|why| panic!("no server starts on it: {why}"));
    let lost = lost(&report);
    for ((id, partition), (batches, code)) in read(&mut life, &image().topics) {
        let there = if code == 0 { batches } else { Batches::new() };
        let told = lost.get(&(id, partition)).cloned().unwrap_or_default();
        compare(&files, &found, (id, partition), &there, &told);
    }
}

/// Every file in which a group, or anything that is needed, has other bytes is named.
fn is_named(files: &Files, found: &[Found]) {
    let named: BTreeSet<&str> = found.iter().map(|found| found.file.as_str()).collect();
    for (path, sound) in &image().files {
        let needs_name = match path.split('/').next() {
            // Of what was made into a pack nothing is missed.
            Some("wal" | "packs") if !files.contains_key(path) => has_only(path),
            Some("wal" | "packs") => groups_of(path).any(|group| group.is_touched(files)),
            // Without the newer one the older one does; without any, all of the log.
            Some("checkpoints") => files.get(path).is_some_and(|bytes| bytes != sound),
            _ => false,
        };
        if needs_name && !is_end(files, path) {
            assert!(named.contains(path.as_str()), "{path} is damaged and not named: {found:?}");
        }
    }
}

fn groups_of(path: &str) -> impl Iterator<Item = &'static Group> + '_ {
    let places = places();
    let in_packs = places.batches.values().flatten();
    places.log.iter().chain(in_packs).filter(move |group| group.file == path)
}

/// Whether some batch is nowhere but in this file.
fn has_only(path: &str) -> bool {
    let partitions = image().whole.iter();
    let mut batches =
        partitions.flat_map(|((id, partition), batches)| batches.keys().map(|base| (*id, *partition, *base)));
    batches.any(|key| places().batches[&key].iter().all(|group| group.file == path))
}

/// Whether all that is touched in this file reaches to the end of the log, where nothing tells that there was more.
fn is_end(files: &Files, path: &str) -> bool {
    let log = &places().log;
    let first = log.iter().position(|group| group.file == path && group.is_touched(files));
    first.is_some_and(|first| log[first..].iter().all(|group| group.is_touched(files)))
}

/// What is there and what is told to be lost, against what was there.
fn compare(files: &Files, found: &[Found], id: (Uuid, i32), there: &Batches, told: &[(i64, i64)]) {
    let whole = &image().whole[&id];
    let is_told = |offset: i64| told.iter().any(|(first, last)| (*first..=*last).contains(&offset));
    for (base, (last, bytes)) in whole {
        let place = || format!("offsets {base} to {last} of {id:?}; told: {told:?}; found: {found:?}");
        match there.get(base) {
            Some((_, now)) => {
                assert!(now == bytes, "something else was salvaged: {}", place());
                assert!(!(*base..=*last).any(is_told), "salvaged, and told to be lost: {}", place());
            }
            None if (*base..=*last).all(is_told) => {}
            // Where nothing that is left tells what stood there, just that has to be said of the place.
            None if may_be_more(found, id, *base) => {}
            None => assert!(was_end(files, found, id, *base), "lost, and not told: {}", place()),
        }
    }
    let held = |offset: i64| whole.range(..=offset).next_back().is_some_and(|(_, (last, _))| offset <= *last);
    let end = whole.values().map(|(last, _)| last + 1).max().unwrap_or(0);
    for (first, last) in told {
        assert!(*first >= 0 && *last < end, "told to be lost, and never there: {first} to {last} of {id:?}");
        assert!(held(*first) || held(*last), "told to be lost, and never there: {first} to {last} of {id:?}");
    }
}

/// Whether it is said of the very place of a batch that more may be lost there than is named.
fn may_be_more(found: &[Found], (id, partition): (Uuid, i32), base: i64) -> bool {
    let is_place = |found: &Found, group: &Group| {
        let reaches = found.bytes == 0 || group.position < found.position + found.bytes;
        found.more && found.file == group.file && found.position <= group.position && reaches
    };
    let groups = &places().batches[&(id, partition, base)];
    groups.iter().any(|group| found.iter().any(|found| is_place(found, group)))
}

/// Whether a batch was at the end of the log, where a damaged group cannot be told from one that was never completed.
fn was_end(files: &Files, found: &[Found], (id, partition): (Uuid, i32), base: i64) -> bool {
    let log = &places().log;
    let own = places().batches[&(id, partition, base)].iter().find(|group| group.file.starts_with("wal/"));
    let Some(own) = own else { return false };
    let is_torn = |found: &&Found| found.grade == "torn" && found.file == own.file && found.position <= own.position;
    let at = log.iter().position(|group| group == own).unwrap();
    found.iter().any(|found| is_torn(&found)) || log[at..].iter().all(|group| group.is_touched(files))
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn what_is_told_to_be_lost_is_exactly_what_a_repair_cannot_bring_back() {
    let first = number("CHRONIK_SALVAGE_SEED", 1);
    for seed in first..first + number("CHRONIK_SALVAGE_SEEDS", 40) {
        let changes = drawn(&mut Rng::new(seed));
        println!("seed {seed}: {changes:?}");
        salvage(&changes);
    }
}

#[test]
fn a_whole_directory_is_salvaged_whole() {
    salvage(&[]);
}

#[test]
fn each_file_may_be_missing() {
    for path in image().files.keys().filter(|path| *path != "chronik.reserve") {
        println!("without {path}");
        salvage(&[(path.clone(), Harm::Gone)]);
    }
}

#[test]
fn a_changed_id_in_the_marker_does_not_make_everything_worthless() {
    // Found with seed 10: every segment was called another directory's, and nothing was salvaged.
    salvage(&[("chronik.dir".to_owned(), Harm::Flip { position: 47, mask: 2 })]);
}

#[test]
fn a_pack_that_is_cut_is_damaged_and_not_torn() {
    // Found with seed 66: nothing was told to be lost.
    for path in image().files.keys().filter(|path| path.starts_with("packs/")) {
        for pages in [2, 3, 5] {
            salvage(&[(path.clone(), Harm::Cut { position: pages * 4096 })]);
        }
    }
}
