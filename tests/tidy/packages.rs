//! Owns the rules for other people's packages: where they come from, under which licences, each in one version, none that is denied
//! or that an advisory is known about. All of it holds without a network; `scripts/audit` asks further.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::fail_if_any;
use super::source::{read, top};
use crate::codec::json::{parse, Json};

/// Licences that ask for nothing but their text to be kept. An expression is fine if all that it needs is in here.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages of which there may be several versions, and why. What is only used by the tests or on other systems counts too.
const TWICE: [(&str, &str); 4] = [
    ("getrandom", "ring and the build of C code have not come to the version that we use"),
    ("kafka-protocol", "an older release knows versions of the protocol that the newer one has dropped; tests only"),
    ("r-efi", "comes with getrandom, for a system that we do not build for"),
    ("windows-sys", "comes with ring and mio, for a system that we do not build for"),
];

/// Packages that must not come in, by whomever, and why. Beginnings of names.
const DENIED: [(&str, &str); 14] = [
    ("openssl", "TLS is rustls with ring: memory-safe, and nothing of the machine's"),
    ("native-tls", "the same"),
    ("aws-lc", "a second library for what ring does, built with cmake"),
    ("tokio", "one event loop on mio is all the concurrency there is"),
    ("async-", "the same"),
    ("smol", "the same"),
    ("futures-executor", "the same"),
    ("hyper", "HTTP for object stores is ureq: blocking, in threads of its own"),
    ("reqwest", "the same"),
    ("jemalloc", "the allocator is the C library's"),
    ("tikv-jemalloc", "the same"),
    ("mimalloc", "the same"),
    ("rdkafka", "clients of other people are run by scripts, not linked"),
    ("git2", "nothing here reads repositories"),
];

/// Advisories on packages that we have, and the first version without: RustSec's, or CVEs. Known by hand, so that what is fixed stays
/// fixed where there is no network; `scripts/audit` asks the database.
const ADVISORIES: [(&str, &str, &str); 13] = [
    ("bumpalo", "3.11.1", "RUSTSEC-2022-0078"),
    ("bytes", "1.11.1", "RUSTSEC-2026-0007"),
    ("lz4-sys", "1.9.4", "RUSTSEC-2022-0051"),
    ("lz4_flex", "0.11.6", "RUSTSEC-2026-0041"),
    ("mio", "0.8.11", "RUSTSEC-2024-0019"),
    ("regex", "1.5.5", "RUSTSEC-2022-0013"),
    ("ring", "0.17.12", "RUSTSEC-2025-0009"),
    ("rustls", "0.23.46", "RUSTSEC-2026-0346 to 0349"),
    ("rustls-webpki", "0.103.13", "RUSTSEC-2026-0104"),
    ("smallvec", "1.6.1", "RUSTSEC-2021-0003"),
    ("time", "0.3.47", "RUSTSEC-2026-0009"),
    ("zstd-safe", "8.2.0", "RUSTSEC-2026-0398, 0399, 0403"),
    ("zstd-sys", "2.2.0", "CVE-2026-124851"),
];

/// Those of them that Cargo.lock has all the same, and why.
const ACCEPTED: [(&str, &str); 3] = [
    ("time", "it is about reading dates of RFC 2822, and we only write times; the fix needs a newer Rust than ours"),
    ("zstd-safe", "it is about old frames, seekable archives and dictionaries, none of which is built in or used"),
    (
        "zstd-sys",
        "who sends a crafted frame to a topic that is compacted or recompressed may read some KiB of the server's memory from \
         it. The fix came on 24 November 2026: `cargo update -p zstd-sys` as soon as the registry has it",
    ),
];

/// Where packages come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// One package as Cargo.lock names it.
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

/// What the server and its tests, and the programs for libFuzzer, are built of.
const LOCKS: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];

/// Our own packages.
const OURS: [&str; 2] = ["chronik-stream", "chronik-fuzz"];

fn locked(name: &str) -> Vec<Locked> {
    let text = read(name);
    let field = |part: &str, name: &str| {
        let line = part.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
        Some(line.trim_matches('"').to_owned())
    };
    let packages = text.split("[[package]]").skip(1).map(|part| Locked {
        name: field(part, "name").expect("a package has a name"),
        version: field(part, "version").expect("a package has a version"),
        source: field(part, "source"),
    });
    packages.collect()
}

#[test]
fn every_package_comes_from_the_registry() {
    let mut broken = Vec::new();
    for lock in LOCKS {
        let packages = locked(lock);
        assert!(packages.len() > 50, "only {} packages found: the reading of {lock} is broken", packages.len());
        let foreign = packages.iter().filter(|package| !OURS.contains(&package.name.as_str()));
        let strange = foreign.filter(|package| package.source.as_deref() != Some(REGISTRY));
        broken.extend(strange.map(|package| format!("{lock}: {} from {:?}", package.name, package.source)));
    }
    fail_if_any("packages come from the registry, not from repositories or folders", &broken);
}

#[test]
fn no_package_is_there_in_two_versions_without_a_reason() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in locked("Cargo.lock") {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let several = versions.iter().filter(|(_, versions)| versions.len() > 1);
    let broken: Vec<String> = several
        .clone()
        .filter(|(name, _)| TWICE.iter().all(|(twice, _)| *twice != name.as_str()))
        .map(|(name, versions)| format!("{name}: {versions:?}"))
        .collect();
    fail_if_any("one version of each package; the others are named in TWICE", &broken);
    let several: BTreeSet<&str> = several.map(|(name, _)| name.as_str()).collect();
    let settled: Vec<String> =
        TWICE.iter().filter(|(name, _)| !several.contains(name)).map(|(name, _)| (*name).to_owned()).collect();
    fail_if_any("what has one version again leaves TWICE", &settled);
}

#[test]
fn packages_that_are_denied_do_not_come_in() {
    let mut broken = Vec::new();
    for lock in LOCKS {
        for package in locked(lock) {
            let denied = DENIED.iter().filter(|(begin, _)| package.name.starts_with(begin));
            broken.extend(denied.map(|(_, why)| format!("{lock}: {}: {why}", package.name)));
        }
    }
    fail_if_any("no package of the list DENIED", &broken);
}

/// The numbers of a version, without what follows `+` or `-`.
fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split(['+', '-']).next().unwrap_or("");
    plain.split('.').map(|number| number.parse().expect("a version is of numbers")).collect()
}

#[test]
fn what_advisories_are_known_about_is_not_locked_or_there_is_a_reason() {
    let mut broken = Vec::new();
    let mut met = BTreeSet::new();
    for lock in LOCKS {
        for package in locked(lock) {
            let Some((name, fixed, id)) = ADVISORIES.iter().find(|(name, ..)| *name == package.name) else { continue };
            if numbers(&package.version) >= numbers(fixed) {
                continue;
            }
            met.insert(*name);
            if ACCEPTED.iter().all(|(accepted, _)| accepted != name) {
                broken.push(format!("{lock}: {name} {} has {id}, which {fixed} has not", package.version));
            }
        }
    }
    fail_if_any("no package with a known advisory, but for those in ACCEPTED", &broken);
    let settled: Vec<String> =
        ACCEPTED.iter().filter(|(name, _)| !met.contains(name)).map(|(name, _)| (*name).to_owned()).collect();
    fail_if_any("what is fixed leaves ACCEPTED", &settled);
    assert!(numbers("0.103.9") < numbers("0.103.13") && numbers("2.1.3+zstd.1.5.7") < numbers("2.2.0"));
}

/// Whether an SPDX expression can be kept with these licences: of `OR` one side, of `AND` both.
fn is_fine(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    let all = |part: &str| part.split(" AND ").all(|licence| LICENCES.contains(&licence.trim()));
    match expression.contains(" AND ") && expression.contains(" OR ") {
        // Brackets are not looked at, so of a mixture everything has to be fine.
        true => expression.split(" OR ").all(all),
        false => expression.split(" OR ").any(all),
    }
}

#[test]
fn every_package_has_a_licence_that_we_can_keep() {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let version = Command::new(&cargo).arg("-vV").output().expect("cargo can be run");
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo tells its host");
    let output = Command::new(&cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host])
        .current_dir(top())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document = parse(&String::from_utf8(output.stdout).unwrap());
    let packages = document.list("packages");
    assert!(packages.len() > 50, "only {} packages found: the reading of the metadata is broken", packages.len());
    let licence = |package: &Json| package.text("license").unwrap_or("none").to_owned();
    let broken: Vec<String> = packages
        .iter()
        .filter(|package| !is_fine(&licence(package)))
        .map(|package| format!("{}: {}", package.text("name").unwrap_or("?"), licence(package)))
        .collect();
    fail_if_any("licences of other people's packages are in the list", &broken);
}

#[test]
fn expressions_of_licences_are_understood() {
    for fine in ["MIT", "MIT OR GPL-3.0", "Apache-2.0/MIT", "Apache-2.0 AND ISC", "MIT AND (MIT OR Apache-2.0)"] {
        assert!(is_fine(fine), "{fine}");
    }
    for other in ["GPL-3.0", "none", "MIT AND GPL-2.0", "(MIT OR GPL-2.0) AND ISC", ""] {
        assert!(!is_fine(other), "{other}");
    }
}
