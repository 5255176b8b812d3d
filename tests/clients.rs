//! Owns the truth of the table of clients in docs/compatibility.md: the versions are those that the scripts pin, and every
//! script that runs clients is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DOCUMENT: &str = "docs/compatibility.md";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between two texts, each time.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    let pieces = text.split(before).skip(1);
    pieces.map(|piece| piece.split(after).next().unwrap_or("").trim()).collect()
}

/// The versions of a client, in the order of the table.
type Versions = BTreeMap<String, Vec<String>>;

fn pin(pins: &mut Versions, client: &str, version: &str) {
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{client} is pinned to {version:?}");
    pins.entry(client.to_owned()).or_default().push(version.to_owned());
}

/// What the scripts fetch, by the names of the table.
fn pinned() -> Versions {
    let mut pins = Versions::new();
    let pom = read("scripts/interop/java/pom.xml");
    for (client, profile) in [
        ("kafka-clients (Java)", "clients"),
        ("Kafka Streams", "streams"),
        ("Kafka Connect", "connect"),
        ("Kafka's command-line tools", "tools"),
    ] {
        pin(&mut pins, client, between(&pom, &format!("<{profile}.version>"), "<")[0]);
    }
    let java = read("scripts/interop-java");
    for version in between(&java, "\nold_versions=(", ")")[0].split(' ').rev() {
        pin(&mut pins, "kafka-clients (Java)", version);
    }
    let modules = read("scripts/interop/go/go.mod");
    for (client, module) in [
        ("franz-go", "github.com/twmb/franz-go v"),
        ("sarama", "github.com/IBM/sarama v"),
        ("segmentio kafka-go", "github.com/segmentio/kafka-go v"),
    ] {
        pin(&mut pins, client, between(&modules, module, "\n")[0]);
    }
    let node = read("scripts/interop/node/package.json");
    for client in ["kafkajs", "@confluentinc/kafka-javascript"] {
        pin(&mut pins, client, between(&node, &format!("\"{client}\": \""), "\"")[0]);
    }
    let legacy = read("scripts/smoke/requirements-legacy.txt");
    let python = read("scripts/interop/python/requirements.txt") + &legacy;
    for client in ["confluent-kafka", "aiokafka", "kafka-python"] {
        for version in between(&python, &format!("\n{client}=="), "\n") {
            pin(&mut pins, client, version);
        }
    }
    let rust = read("scripts/interop/rust/Cargo.toml");
    pin(&mut pins, "rskafka", between(&rust, "\nrskafka = \"=", "\"")[0]);
    pin(&mut pins, "rdkafka", between(&rust, "\nrdkafka = { version = \"=", "\"")[0]);
    pins
}

/// The rows of the table: client, versions, what was run.
fn rows() -> Vec<[String; 3]> {
    let text = read(DOCUMENT);
    let table = between(&text, "<!-- clients -->", "<!-- /clients -->")[0];
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = rows.map(|row| row.trim_matches('|').splitn(3, " | ").map(|cell| cell.trim().to_owned()));
    cells.map(|cells| cells.collect::<Vec<_>>().try_into().expect("three cells")).collect()
}

#[test]
fn the_document_tells_the_versions_of_clients_that_the_scripts_pin() {
    let mut told = Versions::new();
    for [client, versions, _] in rows() {
        // What is below a client stands in brackets.
        let versions = versions.split(", ").map(|one| one.split(' ').next().unwrap_or("").to_owned());
        told.insert(client, versions.collect());
    }
    // The system's package manager decides which kcat there is.
    assert!(told.remove("kcat").is_some());
    assert_eq!(told, pinned());
}

/// The names of scripts that run clients.
fn scripts() -> BTreeSet<String> {
    let files = fs::read_dir(Path::new(ROOT).join("scripts")).expect("the scripts");
    let names = files.map(|file| file.expect("a script").file_name().into_string().expect("a name"));
    let clients = ["smoke-kcat.sh", "smoke-kafka-python.sh", "smoke-confluent.sh", "smoke-aiokafka.sh"];
    names.filter(|n| n.starts_with("interop-") && n != "interop-all" || clients.contains(&n.as_str())).collect()
}

#[test]
fn every_script_that_runs_clients_is_in_the_table_of_clients() {
    let mut named = BTreeSet::new();
    for [client, _, run] in rows() {
        let of_this: Vec<_> = between(&run, "`scripts/", "`").into_iter().map(str::to_owned).collect();
        assert!(!of_this.is_empty(), "{client}: which script runs it?");
        named.extend(of_this);
    }
    assert_eq!(named, scripts());
}

#[test]
fn one_script_runs_all_clients() {
    let all = read("scripts/interop-all");
    let parts: BTreeSet<_> = between(&all, "\n  \"", "|").into_iter().map(str::to_owned).collect();
    let wanted: BTreeSet<_> = scripts().iter().map(|name| name.trim_end_matches(".sh").to_owned()).collect();
    assert_eq!(parts, wanted);
}
