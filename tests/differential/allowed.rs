//! Owns the list of allowed differences: reading `allowed.txt`, finding the rule for a place, the table in the papers.

/// How two answers may differ in a place.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// In any way.
    Any,
    /// Another text; where Kafka says nothing we may say something, but not the other way round.
    Text,
    /// Made up by the server: values stand for each other one to one.
    Alias,
    /// A time of the server's clock: within some minutes of the other, and given if the other is.
    Time,
    /// A list whose order means nothing.
    Unordered,
    /// A number that is at least, or at most, Kafka's.
    AtLeast,
    AtMost,
    /// Kafka says the first, we say the second.
    Pair(String, String),
    /// Kafka fails with UNKNOWN_SERVER_ERROR, we don't; then nothing else in the answer is compared.
    InPlaceOfFailure,
    /// Records that end in a piece of a batch, without that piece.
    WholeBatches,
}

/// One allowed difference.
#[derive(Clone, Debug)]
pub struct Rule {
    pub id: String,
    /// Only at steps that name the rule.
    pub marked_only: bool,
    /// Paths of fields without indexes: `Fetch.responses.partitions.records`, `*.throttle_time_ms` in every answer.
    pub paths: Vec<String>,
    pub how: How,
    pub reason: String,
}

/// The list.
#[derive(Debug, Default)]
pub struct Allowed {
    pub rules: Vec<Rule>,
}

impl Allowed {
    /// Reads the list: blocks of `id:`, `where:`, `how:` and `why:` lines, with blank lines between.
    pub fn parse(text: &str) -> Result<Allowed, String> {
        let mut rules = Vec::new();
        let text: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
                line.map(|line| line.trim().to_string()).ok_or_else(|| format!("no {name}: in\n{block}"))
            };
            let how = field("how")?;
            let (how, marked_only) = match how.strip_suffix(" where marked") {
                Some(how) => (how.to_string(), true),
                None => (how, false),
            };
            let how = match how.as_str() {
                "any" => How::Any,
                "text" => How::Text,
                "alias" => How::Alias,
                "time" => How::Time,
                "unordered" => How::Unordered,
                "at least" => How::AtLeast,
                "at most" => How::AtMost,
                "in place of a failure" => How::InPlaceOfFailure,
                "whole batches" => How::WholeBatches,
                pair => match pair.split_once(" here ") {
                    Some((kafka, chronik)) => How::Pair(kafka.trim().into(), chronik.trim().into()),
                    None => return Err(format!("no such way to differ: {pair}")),
                },
            };
            let paths = field("where")?.split_whitespace().map(str::to_string).collect();
            rules.push(Rule { id: field("id")?, marked_only, paths, how, reason: field("why")? });
        }
        Ok(Allowed { rules })
    }

    /// The rules for a place: those that the step names come first.
    pub fn rules<'a>(&'a self, path: &'a str, marked: &'a [String]) -> impl Iterator<Item = &'a Rule> {
        let here = move |rule: &&Rule| rule.paths.iter().any(|pattern| matches(pattern, path));
        let named = self.rules.iter().filter(|rule| rule.marked_only && marked.contains(&rule.id)).filter(here);
        named.chain(self.rules.iter().filter(|rule| !rule.marked_only).filter(here))
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut out = String::from("| Where | How | Why |\n|---|---|---|\n");
        for rule in &self.rules {
            let how = match &rule.how {
                How::Any => "any value".to_string(),
                How::Text => "another text".to_string(),
                How::Alias => "another value, used alike".to_string(),
                How::Time => "another moment".to_string(),
                How::Unordered => "another order".to_string(),
                How::AtLeast => "more than Kafka's".to_string(),
                How::AtMost => "less than Kafka's".to_string(),
                How::InPlaceOfFailure => "another answer than UNKNOWN_SERVER_ERROR".to_string(),
                How::WholeBatches => "without a piece of a batch at the end".to_string(),
                How::Pair(kafka, chronik) => format!("Kafka {kafka}, here {chronik}"),
            };
            let paths: Vec<String> = rule.paths.iter().map(|path| format!("`{path}`")).collect();
            out.push_str(&format!("| {} | {how} | {} |\n", paths.join(" "), rule.reason));
        }
        out
    }
}

/// `*.a.b` fits every path that ends so; other patterns fit one path. In a path elements of lists may bear their names,
/// as in `DescribeConfigs.results.configs[retention.ms].value`; a pattern without them fits all elements.
fn matches(pattern: &str, path: &str) -> bool {
    let fits = |path: &str| match pattern.strip_prefix('*') {
        Some(end) => path.ends_with(end),
        None => pattern == path,
    };
    if pattern.contains('[') {
        return fits(path);
    }
    let parts = path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest));
    fits(&parts.collect::<String>())
}

#[test]
fn a_rule_is_found_by_its_place_and_its_mark() {
    let list = "id: a\nwhere: *.x\nhow: any\nwhy: r\n\nid: b\nwhere: P.q.x R.s\nhow: 1 here 2 where marked\nwhy: s\n";
    let allowed = Allowed::parse(list).unwrap();
    let id = |path: &str, marked: &[String]| allowed.rules(path, marked).next().map(|rule| rule.id.clone());
    assert_eq!(id("P.q.x", &[]).as_deref(), Some("a"));
    assert_eq!(id("P.q.x", &["b".into()]).as_deref(), Some("b"));
    assert_eq!(id("R.s", &[]), None);
    assert!(matches("*.c[x].v", "A.c[x].v") && matches("A.c.v", "A.c[x].v") && !matches("A.c[y].v", "A.c[x].v"));
    assert_eq!(allowed.rules[1].how, How::Pair("1".into(), "2".into()));
    assert!(Allowed::parse("id: a\nhow: sometimes\n").is_err());
}
