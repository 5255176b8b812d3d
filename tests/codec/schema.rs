//! Owns the comparison of every description with Kafka's own schemas, version by version and field by field.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use chronik::wire::api::TABLE;
use chronik::wire::msg::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, EndTxnMarker};
use chronik::wire::schema::{Struct, Type};
use chronik::wire::Wire;

use super::json::{parse, Json};
use super::random::{in_range, nullable};
use super::{body, every_message};

/// Folders under `$KAFKA_SCHEMAS`: the old release for the versions that 4.0 dropped, the new one for all others.
const RELEASES: [&str; 2] = ["3.9", "4.4"];

/// Names that changed between the releases: message, name in the old one, ours.
const RENAMED: &[(&str, &str, &str)] = &[
    ("TxnOffsetCommitRequest", "generation_id", "generation_id_or_member_epoch"),
    ("ListConfigResourcesResponse", "client_metrics_resources", "config_resources"),
    ("ListConfigResourcesResponse", "name", "resource_name"),
];

/// Where the schemas are; None, said loudly, when nobody told, which is an error where everything must run.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("KAFKA_SCHEMAS").map(PathBuf::from);
    if folder.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "KAFKA_SCHEMAS must be set");
        eprintln!("SKIPPED: set KAFKA_SCHEMAS to a folder with Kafka's message schemas to compare the codec with them");
    }
    folder
}

/// The schemas of one release by message name, under today's name where an API was renamed.
fn load(folder: &Path, release: &str) -> BTreeMap<String, Json> {
    let mut schemas = BTreeMap::new();
    let folder = folder.join(release);
    for file in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = file.expect("a folder's entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let schema = parse(&std::fs::read_to_string(&path).expect("a readable schema"));
        let name = schema.text("name").expect("a schema has a name");
        schemas.insert(name.replace("ListClientMetricsResources", "ListConfigResources"), schema);
    }
    assert!(schemas.len() > 150, "{} has only {} schemas", folder.display(), schemas.len());
    schemas
}

/// A version range in Kafka's notation: `3+`, `0-12`, `7`, `none`.
fn range(text: &str) -> Option<(i16, i16)> {
    let number = |text: &str| text.parse::<i16>().expect("a version is a number");
    Some(match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(first), _) => (number(first), i16::MAX),
        (_, Some((first, last))) => (number(first), number(last)),
        _ if text == "none" => return None,
        _ => (number(text), number(text)),
    })
}

fn member_range(field: &Json, member: &str) -> Option<(i16, i16)> {
    field.text(member).and_then(range)
}

fn holds(range: Option<(i16, i16)>, version: i16) -> bool {
    range.is_some_and(|(first, last)| (first..=last).contains(&version))
}

/// Kafka's names in Rust's manner.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit()) {
            out.push('_');
        }
        out.extend(c.to_lowercase());
        before = c;
    }
    out
}

/// The version of a message that its release calls unstable; the request's schema says so.
fn unstable(schemas: &BTreeMap<String, Json>, name: &str) -> Option<i16> {
    let request = schemas.get(&name.replace("Response", "Request"))?;
    let (_, last) = member_range(request, "validVersions")?;
    (request.text("latestVersionUnstable") == Some("true")).then_some(last)
}

/// What a schema says about one version, a line for each field in the order of the wire.
struct Theirs<'a> {
    message: &'a str,
    schema: &'a Json,
    version: i16,
}

impl Theirs<'_> {
    fn lines(&self, fields: &[Json], indent: usize, out: &mut String) {
        for field in fields.iter().filter(|f| holds(member_range(f, "versions"), self.version)) {
            let name = snake(field.text("name").expect("a field has a name"));
            let renamed = RENAMED.iter().find(|r| r.0 == self.message && r.1 == name);
            let name = renamed.map_or(name.as_str(), |r| r.2);
            let kind = field.text("type").expect("a field has a type");
            let element = kind.trim_start_matches("[]");
            let inner = self.fields_of(field, element);
            let null = holds(member_range(field, "nullableVersions"), self.version) || kind == "records";
            let tag = match holds(member_range(field, "taggedVersions"), self.version) {
                true => field.text("tag").map(|tag| format!(" tag {tag}")).unwrap_or_default(),
                false => String::new(),
            };
            let default = default(kind, field.get("nullableVersions").is_some(), field.text("default"));
            let shown = if inner.is_some() { kind.replace(element, "struct") } else { kind.to_string() };
            line(out, indent, name, &shown, null, &tag, &default);
            if let Some(inner) = inner {
                self.lines(inner, indent + 1, out);
            }
        }
    }

    /// The fields of a struct, which stand with its first use or among the common ones.
    fn fields_of<'b>(&'b self, field: &'b Json, element: &str) -> Option<&'b [Json]> {
        if field.get("fields").is_some() {
            return Some(field.list("fields"));
        }
        let common = self.schema.list("commonStructs").iter();
        common.filter(|s| s.text("name") == Some(element)).map(|s| s.list("fields")).next()
    }
}

/// The default as our fields show it: a nullable field that the schema gives no default is None.
fn default(kind: &str, nullable: bool, given: Option<&str>) -> String {
    let plain = match (kind, given) {
        (_, Some("null")) => return "None".to_string(),
        ("records", _) => return "Null".to_string(),
        (_, None) if nullable => return "None".to_string(),
        ("bool", given) => given.unwrap_or("false").to_lowercase(),
        ("string", given) => format!("{:?}", given.unwrap_or("")),
        ("bytes", _) => "[]".to_string(),
        ("uuid", _) => "AAAAAAAAAAAAAAAAAAAAAA".to_string(),
        ("float64", given) => format!("{:?}", given.unwrap_or("0").parse::<f64>().expect("a number")),
        (kind, given) if kind.starts_with("int") || kind.starts_with("uint") => {
            let given = given.unwrap_or("0");
            match given.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16).expect("a number").to_string(),
                None => given.to_string(),
            }
        }
        (kind, _) if kind.starts_with('[') => "[]".to_string(),
        _ => "struct".to_string(),
    };
    if nullable {
        format!("Some({plain})")
    } else {
        plain
    }
}

/// What our description says about one version, in the same lines.
fn our_lines(body: &Struct, version: i16, indent: usize, out: &mut String) {
    for field in body.fields.iter().filter(|f| in_range(f.versions, version)) {
        let (shown, inner) = kind_of(field.kind);
        let tag = field.tag.map(|tag| format!(" tag {tag}")).unwrap_or_default();
        let mut default = (field.default)();
        if default == "NONE(0)" {
            default = "0".to_string();
        }
        if matches!(field.kind, Type::Struct(_)) {
            default = "struct".to_string();
        }
        let name = field.name.trim_end_matches('_');
        line(out, indent, name, &shown, nullable(field, version), &tag, &default);
        if let Some(inner) = inner {
            our_lines(inner, version, indent + 1, out);
        }
    }
}

/// A type in Kafka's words, and the struct in it.
fn kind_of(kind: Type) -> (String, Option<&'static Struct>) {
    let word = match kind {
        Type::Bool => "bool",
        Type::Int8 => "int8",
        Type::Int16 => "int16",
        Type::Uint16 => "uint16",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Float64 => "float64",
        Type::Uuid => "uuid",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Records => "records",
        Type::Struct(body) => return ("struct".to_string(), Some(body)),
        Type::Nullable(kind) => return kind_of(*kind),
        Type::Array { of, .. } => {
            let (word, body) = kind_of(*of);
            return (format!("[]{word}"), body);
        }
    };
    (word.to_string(), None)
}

fn line(out: &mut String, indent: usize, name: &str, kind: &str, null: bool, tag: &str, default: &str) {
    let null = if null { " or null" } else { "" };
    let _ = writeln!(out, "{:indent$}{name}: {kind}{null}{tag} = {default}", "", indent = indent * 2);
}

/// The difference between a schema and a description, in those versions of the schema that `skip` leaves.
fn compare(name: &str, ours: &Struct, schema: &Json, skip: impl Fn(i16) -> bool, wrong: &mut Vec<String>) {
    let Some((first, last)) = member_range(schema, "validVersions") else {
        return;
    };
    for version in (first..=last).filter(|version| !skip(*version)) {
        let (mut our_text, mut their_text) = (String::new(), String::new());
        our_lines(ours, version, 0, &mut our_text);
        Theirs { message: name, schema, version }.lines(schema.list("fields"), 0, &mut their_text);
        if our_text != their_text {
            let pairs = our_text.lines().zip(their_text.lines());
            let first = pairs.into_iter().find(|(a, b)| a != b);
            wrong.push(format!("{name} v{version}: ours against theirs: {first:?}"));
        }
    }
}

#[test]
fn every_description_says_what_the_schemas_say() {
    let Some(folder) = folder() else { return };
    let mut wrong = Vec::new();
    let mut compared = 0;
    let mut others: Vec<(&str, &Struct)> = vec![
        ("ConsumerProtocolSubscription", body(ConsumerProtocolSubscription::TYPE)),
        ("ConsumerProtocolAssignment", body(ConsumerProtocolAssignment::TYPE)),
        ("EndTxnMarker", body(EndTxnMarker::TYPE)),
    ];
    let messages = every_message();
    others.extend(messages.iter().map(|entry| (entry.name, entry.body)));
    let [old, new] = RELEASES.map(|release| load(&folder, release));
    for (name, ours) in &others {
        assert_eq!(ours.name, *name);
        if let Some(schema) = new.get(*name) {
            compare(name, ours, schema, |_| false, &mut wrong);
            compared += 1;
        }
        if let Some(schema) = old.get(*name) {
            // What was unstable in the old release may have changed: the new one's word counts, if it has any.
            let unstable = unstable(&old, name);
            let newer = new.get(*name).and_then(|schema| member_range(schema, "validVersions"));
            compare(name, ours, schema, |v| unstable == Some(v) && holds(newer, v), &mut wrong);
            compared += 1;
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    println!("{compared} schemas compared");
    assert!(compared > 280, "only {compared} schemas compared");
}

#[test]
fn the_table_has_every_api_of_a_broker_and_its_versions() {
    let Some(folder) = folder() else { return };
    let releases = RELEASES.map(|release| load(&folder, release));
    for (name, schema) in &releases[1] {
        let broker = schema.list("listeners").contains(&Json::Text("broker".to_string()));
        if schema.text("type") == Some("request") && broker {
            let api = name.trim_end_matches("Request");
            assert!(TABLE.iter().any(|row| row.name == api), "{api} is not in the table");
        }
    }
    for api in TABLE {
        for kind in ["Request", "Response"] {
            let name = format!("{}{kind}", api.name);
            let schemas: Vec<&Json> = releases.iter().filter_map(|r| r.get(&name)).collect();
            let newest = schemas.last().unwrap_or_else(|| panic!("{name} has no schema"));
            let (_, last) = member_range(newest, "validVersions").expect("versions");
            assert_eq!((api.min, api.max), (0, last), "versions of {name}");
            for schema in schemas {
                let key: i16 = schema.text("apiKey").and_then(|key| key.parse().ok()).expect("a key");
                assert_eq!(api.key.0, key, "key of {name}");
                let flexible = member_range(schema, "flexibleVersions").map(|(first, _)| first);
                assert_eq!(api.flexible, flexible, "flexible versions of {name}");
            }
        }
        let unstable = unstable(&releases[1], &format!("{}Request", api.name)).is_some();
        assert_eq!(api.stable, api.max - i16::from(unstable), "stable version of {}", api.name);
    }
}
