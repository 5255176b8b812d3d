//! Owns the rules of the house: tiers and forbidden names per room, sizes, opening lines, papers that tell the truth.

mod bounds;
mod packages;
mod source;

use source::{all_files, functions, line_of, paths, read, rust_files, top, words, CodePath, Source};
use std::collections::BTreeSet;

/// Every room and its tier. A room uses rooms on its own tier or below.
const TIERS: [(&str, u8); 15] = [
    ("canary", 0),
    ("sys", 0),
    ("options", 0),
    ("config", 0),
    ("limits", 0),
    ("logging", 0),
    ("metrics", 0),
    ("wire", 1),
    ("wal", 2),
    ("store", 2),
    ("broker", 3),
    ("backup", 4),
    ("tier", 4),
    ("net", 4),
    ("cli", 4),
];

/// A function longer than this is two functions.
const FUNCTION_LINES_MAX: usize = 70;
/// How many functions are longer all the same. This number only ever goes down.
const FUNCTIONS_TOO_LONG: usize = 1;
/// A file longer than this is two rooms.
const FILE_LINES_MAX: usize = 900;
/// How many files are longer all the same. This number only ever goes down.
const FILES_TOO_LONG: usize = 0;

/// What the broker must not name: it opens no file, no socket, starts no thread and reads no clock.
const BROKER_FORBIDDEN_PATHS: [&[&str]; 8] = [
    &["mio"],
    &["libc"],
    &["std", "fs"],
    &["std", "thread"],
    &["std", "process"],
    &["std", "env"],
    &["std", "os"],
    &["std", "io", "stdin"],
];
const BROKER_FORBIDDEN_NAMES: [&str; 7] =
    ["Instant", "SystemTime", "TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener"];

fn fail_if_any(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// The room a file under src/ belongs to; none for lib.rs and the programs, which may use every room.
fn room(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("src/")?;
    let first = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(first, "lib" | "bin")).then_some(first)
}

fn tier(room: &str) -> Option<u8> {
    TIERS.iter().find(|(name, _)| *name == room).map(|(_, tier)| *tier)
}

/// How many `super` lead from a file's own module to the crate's root.
fn depth(name: &str) -> usize {
    let parts = name.trim_start_matches("src/").split('/').count();
    parts - usize::from(name.ends_with("/mod.rs"))
}

/// The room that a path names, when it names one from the crate's root.
fn room_named(path: &CodePath, depth: usize) -> Option<&str> {
    let first = path.segments.first()?;
    if first == "crate" {
        return path.segments.get(1).map(String::as_str);
    }
    let supers = path.segments.iter().take_while(|s| *s == "super").count();
    (supers >= depth).then(|| path.segments.get(supers).map(String::as_str))?
}

#[test]
fn every_room_stands_in_the_table_of_tiers() {
    let known: BTreeSet<&str> = TIERS.iter().map(|(name, _)| *name).collect();
    let files = rust_files();
    let broken: Vec<String> = files
        .iter()
        .filter_map(|f| room(&f.name))
        .filter(|room| !known.contains(room))
        .map(|room| format!("src/{room} has no tier in tests/tidy.rs"))
        .collect();
    fail_if_any("every room has a tier", &broken);
}

#[test]
fn a_room_uses_only_its_own_tier_and_those_below() {
    let mut broken = Vec::new();
    for file in rust_files() {
        let Some(own) = room(&file.name).and_then(tier) else {
            continue;
        };
        for path in paths(&file.code) {
            let Some(other) = room_named(&path, depth(&file.name)) else {
                continue;
            };
            if tier(other).is_some_and(|other| other > own) {
                broken.push(format!("{}:{} (tier {own}) uses {}", file.name, path.line, path.segments.join("::")));
            }
        }
    }
    fail_if_any("a room uses only rooms on its own tier or below", &broken);
}

#[test]
fn the_broker_names_no_file_no_socket_no_thread_and_no_clock() {
    let mut broken = Vec::new();
    for file in rust_files().iter().filter(|f| f.name.starts_with("src/broker/")) {
        for path in paths(&file.code) {
            let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            let forbidden = BROKER_FORBIDDEN_PATHS.iter().any(|p| segments.starts_with(p))
                || segments.iter().any(|s| BROKER_FORBIDDEN_NAMES.contains(s));
            if forbidden {
                broken.push(format!("{}:{} names {}", file.name, path.line, segments.join("::")));
            }
        }
    }
    fail_if_any("src/broker is a pure state machine", &broken);
}

#[test]
fn only_the_reactor_names_mio() {
    let mut broken = Vec::new();
    for file in rust_files().iter().filter(|f| f.name.starts_with("src/") && f.name != "src/net/reactor.rs") {
        for path in paths(&file.code).iter().filter(|p| p.segments[0] == "mio") {
            broken.push(format!("{}:{}", file.name, path.line));
        }
    }
    fail_if_any("mio is named in src/net/reactor.rs alone", &broken);
}

/// Every file with unsafe code, how many times the word stands in it, and what is not to be had without. Any other number is a
/// change to look at twice.
const UNSAFE: [(&str, usize, &str); 10] = [
    (
        "src/sys/aligned.rs",
        19,
        "buffers whose address O_DIRECT takes, of huge pages, large ones by mmap; copies past the caches. Safe vectors have no alignment",
    ),
    ("src/sys/allocator.rs", 2, "mallopt and malloc_trim: calls of the C library"),
    ("src/sys/fileops.rs", 9, "fallocate, fadvise, statvfs, the page's size, F_NOCACHE: system calls"),
    ("src/sys/lock.rs", 3, "flock: a system call"),
    ("src/sys/priority.rs", 3, "sched_getscheduler, sched_setattr, getpriority: system calls"),
    ("src/sys/sendfile.rs", 2, "sendfile: a system call"),
    ("src/sys/signals.rs", 3, "handlers of signals, which may do little"),
    ("src/sys/socket.rs", 9, "listen, setsockopt, sendmsg, limits; recv into memory that is not zeroed first"),
    ("src/sys/usage.rs", 4, "getrusage, getrlimit, clock_gettime: system calls"),
    ("tests/fuzz/memory.rs", 9, "an allocator that counts, for the bounds of memory"),
];

#[test]
fn unsafe_stands_only_where_it_earns_its_place_and_gives_its_reason() {
    let mut broken = Vec::new();
    let mut counts = std::collections::BTreeMap::new();
    for file in rust_files() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, _) in words(&file.code).into_iter().filter(|(_, word)| *word == "unsafe") {
            *counts.entry(file.name.clone()).or_insert(0) += 1;
            let line = line_of(&file.code, at);
            let next = file.code[at + "unsafe".len()..].split_whitespace().next().unwrap_or("");
            if !matches!(next, "fn" | "extern") && !has_safety_argument(&lines, line) {
                broken.push(format!("{}:{line} unsafe without a SAFETY comment above it", file.name));
            }
        }
    }
    fail_if_any("unsafe code is argued for", &broken);
    let counted: Vec<(&str, usize)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    let known: Vec<(&str, usize)> = UNSAFE.iter().map(|(name, count, _)| (*name, *count)).collect();
    assert_eq!(counted, known, "unsafe code is kept in few places, which are in the table UNSAFE with their reasons");
    assert!(known.iter().all(|(name, _)| name.starts_with("src/sys/") || name.starts_with("tests/")));
}

#[test]
fn sums_of_lengths_and_offsets_are_checked_in_the_released_program_too() {
    for name in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let manifest = read(name);
        let release = manifest.split("[profile.release]").nth(1).expect("there is a release profile");
        let release = release.split("\n[").next().unwrap_or("");
        assert!(release.lines().any(|line| line == "overflow-checks = true"), "{name}: {release}");
        assert!(!manifest.contains("overflow-checks = false"), "{name}");
    }
}

#[test]
fn every_fuzz_target_has_its_program() {
    let manifest = read("fuzz/Cargo.toml");
    for target in &crate::fuzz::TARGETS {
        let name = target.name;
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")), "{name}");
        assert!(read(&format!("fuzz/targets/{name}.rs")).contains(&format!("check(\"{name}\", input)")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), crate::fuzz::TARGETS.len());
}

/// Whether a SAFETY comment stands on the line, or in the comment and statement right above it.
fn has_safety_argument(lines: &[&str], line: usize) -> bool {
    let first = line.saturating_sub(9);
    lines[first..line].iter().any(|l| l.contains("SAFETY"))
}

#[test]
fn every_file_opens_with_what_it_owns() {
    let broken: Vec<String> =
        rust_files().iter().filter(|f| !f.text.starts_with("//! ")).map(|f| f.name.clone()).collect();
    fail_if_any("every Rust file opens with a `//! ` line that says what it owns", &broken);
}

#[test]
fn functions_stay_short() {
    let mut long = Vec::new();
    for file in rust_files() {
        for f in functions(&file.code).iter().filter(|f| f.lines > FUNCTION_LINES_MAX) {
            long.push(format!("{}:{} {} has {} lines", file.name, f.line, f.name, f.lines));
        }
    }
    ratchet("FUNCTIONS_TOO_LONG", FUNCTIONS_TOO_LONG, &long);
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = rust_files()
        .iter()
        .map(|f| (f, f.text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(f, lines)| format!("{} has {lines} lines", f.name))
        .collect();
    ratchet("FILES_TOO_LONG", FILES_TOO_LONG, &long);
}

/// Holds a count to its committed number, both ways: above it is a relapse, below it the number must follow.
fn ratchet(name: &str, committed: usize, found: &[String]) {
    let list = found.join("\n  ");
    assert!(found.len() <= committed, "{} found, {name} allows {committed}:\n  {list}", found.len());
    assert!(found.len() == committed, "better than before: lower {name} from {committed} to {}", found.len());
}

#[test]
fn nothing_is_left_undone() {
    let marks = [concat!("FIX", "ME"), concat!("XX", "X:"), concat!("TO", "DO")];
    let mut broken = Vec::new();
    for file in all_files().iter().filter(|f| is_ours(f)) {
        for (number, line) in file.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                broken.push(format!("{}:{} {}", file.name, number + 1, line.trim()));
            }
        }
        for (at, word) in words(&file.code) {
            let is_macro = file.code[at + word.len()..].starts_with('!');
            if is_macro && (word == "todo" || word == "unimplemented") {
                broken.push(format!("{}:{} {word}!", file.name, line_of(&file.code, at)));
            }
        }
    }
    fail_if_any("nothing is left undone in the code", &broken);
}

/// Text that people here wrote: not the lock file, not recorded data.
fn is_ours(file: &Source) -> bool {
    !file.name.ends_with(".lock") && !file.name.starts_with("tests/data/") && file.name != "LICENSE"
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let places = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("bash_", "jobs"), concat!(".libr", "ary/")];
    let schemas = concat!("sha", "red/kafka-messages");
    let mut broken = Vec::new();
    for file in all_files().iter().filter(|f| is_ours(f)) {
        for (number, line) in file.text.lines().enumerate() {
            let outside = file.name != ".ci/run" && line.contains(schemas);
            if outside || places.iter().any(|place| line.contains(place)) {
                broken.push(format!("{}:{} {}", file.name, number + 1, line.trim()));
            }
        }
    }
    fail_if_any("a clean clone on another machine must work", &broken);
}

/// The names of the packages that Cargo.toml depends on, for every kind of dependency.
fn dependencies() -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in read("Cargo.toml").lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end().trim_end_matches(']').ends_with("dependencies");
        } else if let (true, Some((name, _))) = (inside && !line.starts_with('#'), line.split_once('=')) {
            names.push(name.trim().to_owned());
        }
    }
    assert!(names.len() > 5, "only {} dependencies found: the reading of Cargo.toml is broken", names.len());
    names
}

#[test]
fn every_dependency_is_explained() {
    let paper = read("CONTRIBUTING.md");
    let broken: Vec<String> =
        dependencies().into_iter().filter(|name| !paper.contains(&format!("| `{name}` |"))).collect();
    fail_if_any("CONTRIBUTING.md has a row for every dependency in Cargo.toml", &broken);
}

#[test]
fn the_papers_are_there_and_agree_with_the_package() {
    let readme = read("README.md");
    assert!(readme.contains("scripts/test"), "README.md names the test command, scripts/test");
    assert!(readme.contains("cargo run --release"), "README.md names the command that builds and runs the server");
    assert!(read(".ci/run").contains("scripts/test"), ".ci/run calls scripts/test");
    assert!(read("CHANGELOG.md").contains("## Unreleased"), "CHANGELOG.md has an Unreleased part");
    assert!(read("LICENSE").contains("Apache License"), "LICENSE is the Apache License");
    let manifest = read("Cargo.toml");
    let rust =
        manifest.lines().find_map(|l| l.strip_prefix("rust-version = ")).expect("Cargo.toml states rust-version");
    let rust = rust.trim_matches('"');
    assert!(readme.contains(&format!("Rust {rust}")), "README.md says that Rust {rust} is needed");
}

#[test]
fn links_in_the_papers_lead_somewhere() {
    let mut broken = Vec::new();
    for file in all_files().iter().filter(|f| f.name.ends_with(".md")) {
        let folder = top().join(&file.name).parent().expect("a file has a folder").to_owned();
        for target in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or("");
            let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !folder.join(target).exists() {
                broken.push(format!("{} -> {target}", file.name));
            }
        }
    }
    fail_if_any("every relative link in a .md file leads to a file", &broken);
}

#[test]
fn every_script_is_told_of_in_the_papers() {
    let paper = read("CONTRIBUTING.md");
    let mut broken = Vec::new();
    for file in all_files() {
        let Some(script) = file.name.strip_prefix("scripts/").filter(|s| !s.contains('/') && *s != "lib.sh") else {
            continue;
        };
        // Families are told of together.
        let told = ["smoke-", "interop-"].into_iter().find(|family| script.starts_with(family)).unwrap_or(script);
        if !paper.contains(&format!("scripts/{told}")) {
            broken.push(format!("CONTRIBUTING.md does not name scripts/{script}"));
        }
        if !file.text.starts_with("#!/usr/bin/env ") {
            broken.push(format!("{} does not say what runs it", file.name));
        }
    }
    fail_if_any("every script has its place in CONTRIBUTING.md", &broken);
}

#[test]
fn every_bench_says_how_it_is_run() {
    let manifest = read("Cargo.toml");
    let mut broken = Vec::new();
    for file in all_files() {
        let Some(bench) = file.name.strip_prefix("benches/").filter(|s| !s.contains('/')) else { continue };
        let bench = bench.trim_end_matches(".rs");
        if !manifest.contains(&format!("[[bench]]\nname = \"{bench}\"")) {
            broken.push(format!("Cargo.toml has no bench {bench}"));
        }
        if !file.text.contains(&format!("cargo bench --bench {bench}")) {
            broken.push(format!("{} does not say how it is run", file.name));
        }
    }
    fail_if_any("every bench is built and says how it is run", &broken);
}

#[test]
fn every_smoke_script_is_run_by_the_test_command() {
    let test_command = read("scripts/test");
    let mut broken = Vec::new();
    for file in all_files() {
        let Some(script) = file.name.strip_prefix("scripts/").filter(|s| s.starts_with("smoke-")) else {
            continue;
        };
        let part = script.trim_end_matches(".sh");
        if !test_command.contains(part) {
            broken.push(format!("scripts/test has no part {part}"));
        }
        if !file.text.starts_with("#!/usr/bin/env bash\n# ") {
            broken.push(format!("{} does not open with what it checks", file.name));
        }
    }
    fail_if_any("scripts/test runs every smoke script", &broken);
}
