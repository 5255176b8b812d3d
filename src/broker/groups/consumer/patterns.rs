//! Owns the regular expressions with which members subscribe to topics (KIP-848): which topics each stands for.
//!
//! A pattern is compiled and matched by a worker. A request that brings a pattern which is not known waits for that, and
//! is then carried out as if it had just come; so whoever is answered has a pattern that works, and its topics at once.
//! Topics that come and go make the results old: the next heartbeat of a group that uses a pattern asks for it anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::super::ctx::{Outbox, TopicLookup};
use super::super::group::Name;
use crate::limits;

/// A pattern and the names of all topics, for a worker.
#[derive(Clone, Debug)]
pub struct MatchJob {
    pub pattern: Arc<str>,
    pub topics: Arc<[Arc<str>]>,
    /// Which state of the topics this is.
    pub version: u64,
}

/// The topics that a pattern stands for, in order, or why it is not a pattern.
#[derive(Clone, Debug)]
pub struct MatchDone {
    pub pattern: Arc<str>,
    pub version: u64,
    pub result: Result<Vec<Arc<str>>, String>,
}

/// Does a job. Time is linear in the names' length, memory bounded by limits of the program that a pattern becomes.
pub fn match_topics(job: &MatchJob) -> MatchDone {
    let matching = |regex: Regex| job.topics.iter().filter(|topic| regex.is_match(topic.as_bytes())).cloned().collect();
    let result = compile(&job.pattern).map(matching);
    MatchDone { pattern: job.pattern.clone(), version: job.version, result }
}

/// A regular expression that matches whole names. What it means is RE2's syntax, over bytes, as names are ASCII.
fn compile(pattern: &str) -> Result<Regex, String> {
    let build = |pattern: &str| {
        let mut builder = RegexBuilder::new(pattern);
        builder
            .unicode(false)
            .octal(true)
            .nest_limit(limits::PATTERN_NESTING_MAX)
            .size_limit(limits::PATTERN_PROGRAM_BYTES_MAX);
        builder.build().map_err(|error| fault(&error))
    };
    let pattern = without_quotes(pattern)?;
    // By itself first: what is put around it must not complete it.
    build(&pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

/// How a fault begins here, and what Kafka says of it.
const KAFKAS_WORDS: &[(&str, &str)] = &[
    ("unclosed character class", "missing closing ]"),
    ("unclosed group", "missing closing )"),
    ("unopened group", "regexp/syntax: internal error"),
    ("repetition operator missing", "missing argument to repetition operator"),
    ("invalid repetition count", "invalid repeat count"),
    ("incomplete escape sequence", "trailing backslash at end of expression"),
    ("unrecognized escape sequence", "invalid escape sequence"),
    ("backreferences", "invalid escape sequence"),
    ("invalid character class range", "invalid character class range"),
    ("look-around", "invalid or unsupported Perl syntax"),
    ("unrecognized flag", "invalid or unsupported Perl syntax"),
];

/// What is wrong with a pattern, in a few words on one line.
fn fault(error: &regex::Error) -> String {
    let text = match error {
        regex::Error::CompiledTooBig(_) => "expression too large".to_owned(),
        other => other.to_string(),
    };
    let last = text.lines().last().unwrap_or("not a pattern");
    let last = last.strip_prefix("error: ").unwrap_or(last);
    let words = KAFKAS_WORDS.iter().find(|(ours, _)| last.starts_with(ours));
    words.map_or(last, |(_, kafkas)| kafkas).to_owned()
}

/// RE2 takes what stands between `\Q` and `\E` as it is. A single digit after a backslash would be a backreference, which
/// RE2 hasn't; octal numbers begin with 0 or have more digits.
fn without_quotes(pattern: &str) -> Result<String, String> {
    let octal = |c: Option<char>| c.is_some_and(|c| matches!(c, '0'..='7'));
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        if let Some(quoted) = escape.strip_prefix(r"\Q") {
            let (text, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(text));
            rest = after;
        } else {
            let mut after = escape.chars().skip(1);
            if after.next().is_some_and(|digit| matches!(digit, '1'..='7')) && !octal(after.next()) {
                return Err("invalid escape sequence".to_owned());
            }
            // An escape and what it stands before.
            let end = escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end);
            out.push_str(&escape[..end]);
            rest = &escape[end..];
        }
    }
    Ok(out + rest)
}

#[derive(Debug, Default)]
struct Entry {
    /// `None` before the first answer.
    topics: Option<Arc<[Name]>>,
    fault: Option<String>,
    version: u64,
    /// A worker has it.
    asked: bool,
    /// Bytes that its topics will take at most, before they are known.
    reserved: usize,
}

impl Entry {
    /// Bytes that the pattern takes, roughly.
    fn bytes(&self, name: &str) -> usize {
        160 + name.len() + self.reserved + self.topics.as_ref().map_or(0, |topics| topics.len() * size_of::<Name>())
    }
}

/// What a request may do about a pattern.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Known {
    Yes,
    /// Its answer is awaited.
    NotYet,
    /// It is no pattern; what is wrong.
    Fault(String),
}

/// All patterns that are used.
#[derive(Debug, Default)]
pub(in super::super) struct Patterns {
    entries: BTreeMap<Name, Entry>,
    /// Sum of the entries' bytes.
    bytes: usize,
    /// All topics of `version`, once they were needed.
    names: Option<Arc<[Name]>>,
    version: u64,
}

impl Patterns {
    /// The topics that a pattern stands for, in order; `None` while that is not known.
    pub fn topics(&self, pattern: &str) -> Option<&[Name]> {
        self.entries.get(pattern)?.topics.as_deref()
    }

    /// Topics have come or gone.
    pub fn topics_changed(&mut self) {
        self.version += 1;
        self.names = None;
    }

    /// The present state of the topics.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether there is no room for another one.
    pub fn are_too_many(&self) -> bool {
        self.entries.len() >= limits::PATTERNS_MAX || self.bytes >= limits::PATTERNS_BYTES_MAX
    }

    /// Asks a worker for a pattern unless its topics are known as they are now; whether they are known at all. A fault is
    /// told once: who repeats the request has the pattern looked at again.
    pub fn ask(&mut self, pattern: &Name, lookup: &dyn TopicLookup, out: &mut dyn Outbox) -> Known {
        let bytes = &mut self.bytes;
        let entry = self.entries.entry(pattern.clone()).or_insert_with(|| {
            let entry = Entry::default();
            *bytes += entry.bytes(pattern);
            entry
        });
        if let Some(fault) = entry.fault.take() {
            if entry.topics.is_none() && !entry.asked {
                self.bytes -= entry.bytes(pattern);
                self.entries.remove(pattern);
            }
            return Known::Fault(fault);
        }
        let known = entry.topics.is_some();
        if !entry.asked && (!known || entry.version != self.version) {
            entry.asked = true;
            let topics = self.names.get_or_insert_with(|| lookup.names().into());
            if !known {
                entry.reserved = topics.len() * size_of::<Name>();
                self.bytes += entry.reserved;
            }
            out.match_topics(MatchJob { pattern: pattern.clone(), topics: topics.clone(), version: self.version });
        }
        if known {
            Known::Yes
        } else {
            Known::NotYet
        }
    }

    /// A worker has answered. True when the pattern stands for other topics than before.
    pub fn done(&mut self, done: MatchDone) -> bool {
        let Some(entry) = self.entries.get_mut(&done.pattern) else { return false };
        self.bytes -= entry.bytes(&done.pattern);
        entry.asked = false;
        entry.reserved = 0;
        entry.version = done.version;
        let mut changed = false;
        match done.result {
            Ok(topics) => {
                let topics: Arc<[Name]> = topics.into();
                changed = entry.topics.as_ref() != Some(&topics);
                entry.topics = Some(topics);
            }
            Err(fault) => entry.fault = Some(fault),
        }
        self.bytes += entry.bytes(&done.pattern);
        changed
    }

    /// Forgets the patterns that nobody uses.
    pub fn retain(&mut self, is_used: impl Fn(&Name) -> bool) {
        let bytes = &mut self.bytes;
        self.entries.retain(|name, entry| {
            let stays = entry.asked || is_used(name);
            if !stays {
                *bytes -= entry.bytes(name);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &str) -> Result<Vec<String>, String> {
        let topics = ["orders", "orders.eu", "orders-dlq", "Payments", "p.1", "x"].map(Arc::from);
        let job = MatchJob { pattern: pattern.into(), topics: topics.into(), version: 0 };
        match_topics(&job).result.map(|topics| topics.iter().map(|t| t.to_string()).collect())
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        assert_eq!(matched("orders").unwrap(), ["orders"]);
        assert_eq!(matched("orders.*").unwrap(), ["orders", "orders.eu", "orders-dlq"]);
        assert_eq!(matched("order|x").unwrap(), ["x"]);
        assert_eq!(matched("^orders$").unwrap(), ["orders"]);
        assert_eq!(matched("(?i)pay.*s").unwrap(), ["Payments"]);
        assert_eq!(matched(r"\w\.\d").unwrap(), ["p.1"]);
        assert_eq!(matched("[[:upper:]].*").unwrap(), ["Payments"]);
        assert_eq!(matched("").unwrap(), [""; 0]);
        assert_eq!(matched("nothing").unwrap(), [""; 0]);
    }

    #[test]
    fn quoted_text_stands_for_itself() {
        assert_eq!(matched(r"\Qp.1\E").unwrap(), ["p.1"]);
        assert_eq!(matched(r"\Qorders.").unwrap(), [""; 0]);
        assert_eq!(matched(r"\Qorders\E\.e[u]").unwrap(), ["orders.eu"]);
        assert_eq!(matched(r"\\Q").unwrap(), [""; 0]);
        assert_eq!(matched(r"\Qp.1\E|\170").unwrap(), ["p.1", "x"], "octal numbers are no backreferences");
    }

    #[test]
    fn what_is_no_pattern_is_refused_in_one_line() {
        for bad in [
            "[",
            "a)(b",
            "(",
            "a{2,1}",
            r"\",
            r"\1",
            r"(a)\7x",
            r"[\2]",
            r"\8",
            "(?P<n>a)(?P<n>b)",
            "a(?#",
            &"(".repeat(1000),
        ] {
            let bad_result = matched(bad);
            let fault = bad_result.unwrap_err();
            assert!(!fault.is_empty() && !fault.contains('\n'), "{bad}: {fault}");
        }
        assert_eq!(matched("((a{1000}){1000}){1000}").unwrap_err(), "expression too large");
    }
}
