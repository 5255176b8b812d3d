//! Owns the comparison of two runs of a sequence, step by step and field by field.

use std::collections::BTreeMap;
use std::fmt;

use super::allowed::{Allowed, How, Rule};
use super::client::Outcome;
use super::run::Done;
use super::value::Value;

/// How many differences of one step are shown.
const SHOWN_MAX: usize = 6;

/// How far two servers' times for the same event may lie apart: a busy machine takes its time.
const TIME_MS_MAX: u64 = 300_000;

/// One place where the answers differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub path: String,
    pub kafka: String,
    pub chronik: String,
}

/// A step whose answers differ.
#[derive(Clone, Debug)]
pub struct StepDifference {
    /// From 0.
    pub step: usize,
    pub label: String,
    pub line: u32,
    pub differences: Vec<Difference>,
}

impl fmt::Display for StepDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  step {} (line {}): {}", self.step + 1, self.line, self.label)?;
        for Difference { path, kafka, chronik } in self.differences.iter().take(SHOWN_MAX) {
            writeln!(f, "    {path}\n      Kafka    {kafka}\n      Chronik  {chronik}")?;
        }
        match self.differences.len().saturating_sub(SHOWN_MAX) {
            0 => {}
            more => writeln!(f, "    and {more} more")?,
        }
        Ok(())
    }
}

/// Compares two runs. `used` counts the allowed differences that were met.
pub fn compare(
    kafka: &[Done],
    chronik: &[Done],
    prefix: &str,
    allowed: &Allowed,
    used: &mut BTreeMap<String, usize>,
) -> Vec<StepDifference> {
    let mut comparison =
        Comparison { allowed, aliases: BTreeMap::new(), back: BTreeMap::new(), marked: &[], used, found: Vec::new() };
    let mut steps = Vec::new();
    for (step, (theirs, ours)) in kafka.iter().zip(chronik).enumerate() {
        comparison.marked = &theirs.allow;
        comparison.step(theirs, ours, prefix);
        let differences = std::mem::take(&mut comparison.found);
        if !differences.is_empty() {
            steps.push(StepDifference { step, label: theirs.label.clone(), line: theirs.line, differences });
        }
    }
    steps
}

struct Comparison<'a> {
    allowed: &'a Allowed,
    /// Which value of ours stands where Kafka's stands, and the other way round: a value that is made up by the server may
    /// differ, but what is equal on one side must be equal on the other.
    aliases: BTreeMap<String, String>,
    back: BTreeMap<String, String>,
    /// Allowed differences that the sequence names at this step.
    marked: &'a [String],
    used: &'a mut BTreeMap<String, usize>,
    found: Vec<Difference>,
}

impl Comparison<'_> {
    fn step(&mut self, theirs: &Done, ours: &Done, prefix: &str) {
        let api = theirs.api.unwrap_or("raw");
        match (&theirs.outcome, &ours.outcome) {
            (Outcome::Answer(theirs_tree), Outcome::Answer(ours_tree)) if theirs.mine => {
                self.value(api, "", &only_mine(theirs_tree, prefix), &only_mine(ours_tree, prefix));
            }
            (Outcome::Answer(theirs), Outcome::Answer(ours)) => self.value(api, "", theirs, ours),
            (theirs, ours) if theirs == ours => {}
            (theirs, ours) => {
                let path = format!("{api}.outcome");
                self.differ(&path, "outcome", theirs.to_string(), ours.to_string());
            }
        }
    }

    /// `place` is the path with indexes, for people; `path` is without, for rules.
    fn value(&mut self, path: &str, place: &str, kafka: &Value, chronik: &Value) {
        if kafka != chronik && self.is_allowed(path, kafka, chronik) {
            return;
        }
        match (kafka, chronik) {
            (Value::Struct(theirs), Value::Struct(ours)) => {
                for (name, value) in theirs {
                    let inner = format!("{path}.{name}");
                    let at = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                    let other = ours.iter().find(|(other, _)| other == name).map(|(_, value)| value);
                    self.value(&inner, &at, value, other.unwrap_or(&Value::Null));
                    if name == "error_code" && other != Some(value) {
                        self.explain(theirs, ours);
                    }
                }
            }
            (Value::List(theirs), Value::List(ours)) if theirs.len() == ours.len() => {
                let unordered = self.allowed.rules(path, self.marked).any(|rule| matches!(rule.how, How::Unordered));
                let (mut theirs, mut ours) = (theirs.clone(), ours.clone());
                if unordered {
                    theirs.sort_by_key(|item| self.key(path, item, true));
                    ours.sort_by_key(|item| self.key(path, item, false));
                }
                for (i, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
                    let name = theirs.get("name").or(theirs.get("key")).and_then(Value::text);
                    let at = name.map_or_else(|| format!("{place}[{i}]"), |name| format!("{place}[{i} {name}]"));
                    self.value(&element(path, name), &at, theirs, ours);
                }
            }
            (Value::List(theirs), Value::List(ours)) if have_identities(theirs) && have_identities(ours) => {
                self.aligned(path, place, theirs, ours);
            }
            (Value::Id(_), Value::Id(_)) if self.is_alias("uuid", kafka, chronik) => {}
            (kafka, chronik) if kafka == chronik => {}
            (kafka, chronik) => {
                let field = path.rsplit('.').next().unwrap_or("");
                self.differ(path, place, kafka.shown_as(field), chronik.shown_as(field));
            }
        }
    }

    /// Compares lists of different lengths by what their elements are called.
    fn aligned(&mut self, path: &str, place: &str, kafka: &[Value], chronik: &[Value]) {
        let same = |a: &Value, b: &Value| identity(a) == identity(b);
        for theirs in kafka {
            let name = identity(theirs).unwrap_or_default();
            let at = format!("{place}[{name}]");
            let path = element(path, Some(&name));
            match chronik.iter().find(|ours| same(theirs, ours)) {
                Some(ours) => self.value(&path, &at, theirs, ours),
                None => self.differ(&path, &at, theirs.to_string(), "nothing".into()),
            }
        }
        for ours in chronik.iter().filter(|ours| !kafka.iter().any(|theirs| same(theirs, ours))) {
            let name = identity(ours).unwrap_or_default();
            let at = format!("{place}[{name}]");
            self.differ(&element(path, Some(&name)), &at, "nothing".into(), ours.to_string());
        }
    }

    /// Adds to a difference of error codes what the servers say in words.
    fn explain(&mut self, theirs: &[(String, Value)], ours: &[(String, Value)]) {
        let words = |fields: &[(String, Value)]| {
            let message = fields.iter().find(|(name, _)| name == "error_message");
            message.and_then(|(_, text)| text.text()).map_or_else(String::new, |text| format!(": {text}"))
        };
        if let Some(last) = self.found.last_mut().filter(|last| last.path.ends_with("error_code")) {
            last.kafka.push_str(&words(theirs));
            last.chronik.push_str(&words(ours));
        }
    }

    fn count(&mut self, rule: &Rule) {
        *self.used.entry(rule.id.clone()).or_default() += 1;
    }

    fn differ(&mut self, path: &str, place: &str, kafka: String, chronik: String) {
        let allowed = self.allowed;
        let fits = |rule: &&Rule| match &rule.how {
            How::Any => true,
            How::Pair(theirs, ours) => *theirs == kafka && *ours == chronik,
            _ => false,
        };
        if let Some(rule) = allowed.rules(path, self.marked).find(fits) {
            return self.count(rule);
        }
        self.found.push(Difference { path: place.to_string(), kafka, chronik });
    }

    /// Whether a rule lets these values differ.
    fn is_allowed(&mut self, path: &str, kafka: &Value, chronik: &Value) -> bool {
        let allowed = self.allowed;
        for rule in allowed.rules(path, self.marked) {
            let allows = match &rule.how {
                How::Any => true,
                How::Text => is_absent(kafka) || !is_absent(chronik),
                How::Alias => self.is_alias(&rule.id, kafka, chronik),
                How::Time => are_close(kafka, chronik),
                How::AtLeast => kafka.int() < chronik.int(),
                How::AtMost => kafka.int() > chronik.int(),
                How::Unordered => false,
                How::InPlaceOfFailure => fails(kafka) && !fails(chronik),
                How::WholeBatches => is_without_piece(kafka, chronik),
                How::Pair(theirs, ours) => kafka.to_string() == *theirs && chronik.to_string() == *ours,
            };
            if allows {
                self.count(rule);
                return true;
            }
        }
        false
    }

    /// Whether two made-up values stand for each other. The first time they meet they do, unless one of them stands for
    /// another value already. Numbers of different kinds may be equal by chance: `kind` keeps them apart.
    fn is_alias(&mut self, kind: &str, kafka: &Value, chronik: &Value) -> bool {
        if kafka == chronik {
            return true;
        }
        if is_absent(kafka) || is_absent(chronik) {
            return false;
        }
        let (theirs, ours) = (format!("{kind} {kafka}"), format!("{kind} {chronik}"));
        match (self.aliases.get(&theirs), self.back.get(&ours)) {
            (None, None) => {
                self.aliases.insert(theirs.clone(), ours.clone());
                self.back.insert(ours, theirs);
                true
            }
            (Some(known), _) => *known == ours,
            (None, Some(_)) => false,
        }
    }

    /// What an element of a list without an order is sorted by: all of it but made-up values, which are replaced.
    fn key(&self, path: &str, item: &Value, is_kafkas: bool) -> String {
        let known = |kind: &str, value: &Value| {
            let shown = format!("{kind} {value}");
            let name = if is_kafkas { self.aliases.get(&shown).map(|_| shown) } else { self.back.get(&shown).cloned() };
            name.unwrap_or_default()
        };
        for rule in self.allowed.rules(path, self.marked) {
            match rule.how {
                How::Any | How::Text | How::Time => return String::new(),
                How::Alias => return known(&rule.id, item),
                _ => {}
            }
        }
        match item {
            Value::Id(_) => known("uuid", item),
            Value::Struct(fields) => {
                let parts = fields.iter().map(|(name, value)| self.key(&format!("{path}.{name}"), value, is_kafkas));
                parts.collect::<Vec<_>>().join("|")
            }
            Value::List(items) => {
                let mut parts: Vec<String> = items.iter().map(|item| self.key(path, item, is_kafkas)).collect();
                parts.sort();
                parts.join(",")
            }
            Value::Int(number) => format!("{:020}", i128::from(*number) - i128::from(i64::MIN)),
            leaf => leaf.to_string(),
        }
    }
}

/// The path of an element. Only APIs and configurations have names that a rule may want to know.
fn element(path: &str, name: Option<&str>) -> String {
    match name.filter(|_| path.ends_with("configs") || path.ends_with("api_keys") || path.ends_with("features")) {
        Some(name) => format!("{path}[{name}]"),
        None => path.to_string(),
    }
}

/// What an element of a list is called.
fn identity(item: &Value) -> Option<String> {
    const NAMES: [&str; 10] = [
        "name",
        "topic",
        "group_id",
        "topic_name",
        "api_key",
        "partition_index",
        "partition",
        "user",
        "base_offset",
        "offset",
    ];
    match item {
        Value::Text(_) | Value::Int(_) => Some(item.to_string()),
        _ => match NAMES.iter().find_map(|name| item.get(name))? {
            Value::Text(text) => Some(text.clone()),
            Value::Int(number) if item.get("api_key").is_some() => {
                Some(chronik::wire::ApiKey(*number as i16).to_string())
            }
            other => Some(other.to_string()),
        },
    }
}

/// Whether every element is called something, and no two the same.
fn have_identities(items: &[Value]) -> bool {
    let mut found: Vec<Option<String>> = items.iter().map(identity).collect();
    found.sort();
    found.iter().all(Option::is_some) && found.windows(2).all(|pair| pair[0] != pair[1])
}

/// Whether both are times, and close to each other.
fn are_close(kafka: &Value, chronik: &Value) -> bool {
    match (kafka.int(), chronik.int()) {
        (Some(theirs), Some(ours)) => theirs > 0 && ours > 0 && theirs.abs_diff(ours) < TIME_MS_MAX,
        _ => false,
    }
}

/// Whether an answer holds UNKNOWN_SERVER_ERROR.
fn fails(answer: &Value) -> bool {
    match answer {
        Value::List(items) => items.iter().any(fails),
        Value::Struct(fields) => {
            fields.iter().any(|(name, value)| name == "error_code" && value.int() == Some(-1) || fails(value))
        }
        _ => false,
    }
}

/// Whether ours are Kafka's batches but for a piece of one at the end. What is no whole batch is told as a text.
fn is_without_piece(kafka: &Value, chronik: &Value) -> bool {
    match (kafka.list(), chronik.list()) {
        (Some([whole @ .., Value::Text(_)]), Some(ours)) => whole == ours,
        _ => false,
    }
}

/// Null, empty, zero or -1: what stands where there is nothing.
fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Int(number) => *number == -1,
        Value::Id(id) => id.is_zero(),
        Value::List(items) => items.is_empty(),
        _ => false,
    }
}

/// Leaves out of lists what bears another run's name.
fn only_mine(value: &Value, prefix: &str) -> Value {
    const NAMES: [&str; 8] =
        ["name", "topic", "group_id", "topic_name", "transactional_id", "resource_name", "user", "key"];
    let foreign = |item: &Value| {
        let named = NAMES.iter().find_map(|name| item.get(name)?.text());
        named.is_some_and(|name| !name.starts_with(prefix))
    };
    match value {
        Value::List(items) => {
            Value::List(items.iter().filter(|item| !foreign(item)).map(|item| only_mine(item, prefix)).collect())
        }
        Value::Struct(fields) => {
            Value::Struct(fields.iter().map(|(name, value)| (name.clone(), only_mine(value, prefix))).collect())
        }
        leaf => leaf.clone(),
    }
}
