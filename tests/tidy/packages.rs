//! Owns the rules for other people's packages: where they come from, under which licences, each in one version.

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

/// Packages of which there may be two versions, because packages that we use do not agree yet. What is only used by the tests or on
/// other systems counts too.
const TWICE: [&str; 4] = ["getrandom", "kafka-protocol", "r-efi", "windows-sys"];

/// Where packages come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// One package as Cargo.lock names it.
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

fn locked() -> Vec<Locked> {
    let text = read("Cargo.lock");
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
    let packages = locked();
    assert!(packages.len() > 50, "only {} packages found: the reading of Cargo.lock is broken", packages.len());
    let foreign = packages.iter().filter(|package| package.name != "chronik-stream");
    let broken: Vec<String> = foreign
        .filter(|package| package.source.as_deref() != Some(REGISTRY))
        .map(|package| format!("{} {} from {:?}", package.name, package.version, package.source))
        .collect();
    fail_if_any("packages come from the registry, not from repositories or folders", &broken);
}

#[test]
fn no_package_is_there_in_two_versions_without_a_reason() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in locked() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let several = versions.iter().filter(|(_, versions)| versions.len() > 1);
    let broken: Vec<String> = several
        .clone()
        .filter(|(name, _)| !TWICE.contains(&name.as_str()))
        .map(|(name, versions)| format!("{name}: {versions:?}"))
        .collect();
    fail_if_any("one version of each package; the others are named in TWICE", &broken);
    let several: BTreeSet<&str> = several.map(|(name, _)| name.as_str()).collect();
    let settled: Vec<String> =
        TWICE.iter().filter(|name| !several.contains(*name)).map(|name| (*name).to_owned()).collect();
    fail_if_any("what has one version again leaves TWICE", &settled);
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
