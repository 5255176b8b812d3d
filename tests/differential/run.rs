//! Owns carrying out one sequence against one server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use chronik::wire::Uuid;

use super::client::{Client, Outcome};
use super::codec::{encode, Described};
use super::expr::{Expr, Scope};
use super::script::{Call, Def, Step};
use super::value::Value;

/// How often `until` asks again, and how long it rests between.
const UNTIL_TRIES: usize = 200;
const UNTIL_REST: Duration = Duration::from_millis(25);
/// How deep definitions may use each other.
const DEPTH_MAX: usize = 8;

/// What both runs of a sequence share.
pub struct Plan<'a> {
    pub apis: &'a BTreeMap<&'static str, Described>,
    pub defs: &'a BTreeMap<String, Def>,
    /// The newest version of each API that both servers speak.
    pub newest: &'a BTreeMap<&'static str, i16>,
    /// The version of the API over whose versions the sequence is repeated.
    pub pinned: Option<(&'a str, i16)>,
    pub steps: &'a [Step],
    pub prefix: &'a str,
    pub now: i64,
    pub parameters: &'a [(String, Value)],
    pub patience: Duration,
    /// How long to rest after a request that changes what Kafka's broker learns from its controller only later.
    pub rest: Duration,
}

/// One answer, or what came in its place.
#[derive(Clone, Debug)]
pub struct Done {
    /// The request as it is shown in a report.
    pub label: String,
    pub line: u32,
    pub api: Option<&'static str>,
    /// Of the request, where it was made as one.
    pub version: Option<i16>,
    pub mine: bool,
    pub allow: Vec<String>,
    pub outcome: Outcome,
}

/// Carries out the steps and tells what came of each.
pub fn run(plan: &Plan<'_>, address: SocketAddr) -> Vec<Done> {
    let scope = Scope {
        prefix: plan.prefix.to_string(),
        now: plan.now,
        variables: plan.parameters.iter().cloned().collect(),
        topic_ids: BTreeMap::new(),
    };
    let mut runner = Runner { plan, address, clients: BTreeMap::new(), sent: BTreeMap::new(), scope, done: Vec::new() };
    runner.steps(plan.steps, 0);
    runner.done
}

/// A frame to send as it is.
struct Raw<'a> {
    conn: &'a str,
    bytes: &'a Expr,
    length: Option<&'a Expr>,
    mine: bool,
    read_as: &'a Option<(String, i16)>,
    allow: &'a [String],
    line: u32,
}

struct Runner<'a> {
    plan: &'a Plan<'a>,
    address: SocketAddr,
    clients: BTreeMap<String, Client>,
    /// Requests whose answers a later `receive` waits for.
    sent: BTreeMap<String, Vec<(&'static str, String)>>,
    scope: Scope,
    done: Vec<Done>,
}

impl Runner<'_> {
    fn steps(&mut self, steps: &[Step], depth: usize) {
        for step in steps {
            self.step(step, depth);
        }
    }

    fn step(&mut self, step: &Step, depth: usize) {
        match step {
            Step::Let(name, expr) => match self.scope.eval(expr) {
                Ok(value) => {
                    self.scope.variables.insert(name.clone(), value);
                }
                Err(error) => self.impossible(format!("let {name}"), 0, error),
            },
            Step::Call(call) => self.call(call),
            Step::Raw { conn, bytes, length, mine, read_as, allow, line } => {
                let length = length.as_ref();
                self.raw(&Raw { conn, bytes, length, mine: *mine, read_as, allow, line: *line });
            }
            Step::Receive { conn, captures, allow, line } => self.receive(conn, captures, allow, *line),
            Step::Close { conn } => {
                self.clients.remove(conn);
                self.sent.remove(conn);
            }
            Step::Pause { ms } => sleep(Duration::from_millis(*ms)),
            Step::Use { name, args, line } => self.use_def(name, args, *line, depth),
            Step::For { name, values, steps } => {
                for value in values {
                    self.step(&Step::Let(name.clone(), value.clone()), depth);
                    self.steps(steps, depth);
                }
            }
        }
    }

    fn impossible(&mut self, label: String, line: u32, error: String) {
        let outcome = Outcome::Impossible(error);
        self.done.push(Done { label, line, api: None, version: None, mine: false, allow: Vec::new(), outcome });
    }

    fn use_def(&mut self, name: &str, args: &[Expr], line: u32, depth: usize) {
        let Some(def) = self.plan.defs.get(name).filter(|def| def.params.len() == args.len() && depth < DEPTH_MAX)
        else {
            return self.impossible(name.to_string(), line, "no such definition with so many parameters".into());
        };
        for (param, arg) in def.params.iter().zip(args) {
            self.step(&Step::Let(param.clone(), arg.clone()), depth);
        }
        self.steps(&def.steps, depth + 1);
    }

    /// The connection of this name, opened when it is first used and again after it was closed.
    fn client(&mut self, conn: &str) -> Result<&mut Client, String> {
        if !self.clients.contains_key(conn) {
            let client = Client::connect(self.address, &format!("client-{conn}")).map_err(|error| error.to_string())?;
            self.clients.insert(conn.to_string(), client);
        }
        self.clients.get_mut(conn).ok_or_else(|| "unreachable".into())
    }

    fn version_of(&self, call: &Call) -> i16 {
        let newest = || self.plan.newest.get(call.api.as_str()).copied();
        let pinned = || self.plan.pinned.filter(|(api, _)| *api == call.api).map(|(_, version)| version);
        call.version.or_else(pinned).or_else(newest).unwrap_or(0)
    }

    fn call(&mut self, call: &Call) {
        let described = self.plan.apis[call.api.as_str()];
        let version = self.version_of(call);
        let label = format!("{} v{version}", call.api);
        let fields = match self.scope.eval(&call.fields) {
            Ok(fields) => fields,
            Err(error) => return self.impossible(label, call.line, error),
        };
        let label = format!("{label} {fields}");
        let body = encode(described.request, version, described.api.is_flexible(version), &fields);
        let extra = call.extra.as_ref().map_or(Ok(Value::Bytes(Vec::new())), |extra| self.scope.eval(extra));
        let body = match (body, extra) {
            (Ok(body), Ok(Value::Bytes(extra))) => [body, extra].concat(),
            (Err(error), _) | (_, Err(error)) => return self.impossible(label, call.line, error),
            (_, Ok(other)) => return self.impossible(label, call.line, format!("{other} is not bytes")),
        };
        let mut outcome = self.exchange(call, described, version, &body);
        if let Some((path, wanted)) = &call.until {
            let wanted = self.scope.eval(wanted);
            for _ in 0..UNTIL_TRIES {
                let Outcome::Answer(answer) = &outcome else { break };
                if answer.at(path) == wanted.as_ref().ok() {
                    break;
                }
                sleep(UNTIL_REST);
                outcome = self.exchange(call, described, version, &body);
            }
        }
        if call.send_only && outcome == Outcome::Silent {
            self.sent.entry(call.conn.clone()).or_default().push((described.api.name, label.clone()));
            outcome = Outcome::Answer(Value::Null);
        }
        self.take(&call.captures, &outcome);
        let allow = call.allow.clone();
        let (api, version) = (Some(described.api.name), Some(version));
        self.done.push(Done { label, line: call.line, api, version, mine: call.mine, allow, outcome });
        if !self.plan.rest.is_zero() && told_later(described.api.name) {
            sleep(self.plan.rest);
        }
    }

    /// Sends and receives; for a request that is only sent, silence stands for "under way".
    fn exchange(&mut self, call: &Call, described: Described, version: i16, body: &[u8]) -> Outcome {
        let patience = self.plan.patience;
        let cut = call.cut.as_ref().and_then(|cut| self.scope.eval(cut).ok()?.int()).unwrap_or(0) as usize;
        let client = match self.client(&call.conn) {
            Ok(client) => client,
            Err(error) => return Outcome::Impossible(error),
        };
        let sent = client.send(described, version, body, cut);
        let outcome = match (sent, call.send_only) {
            (true, true) => Outcome::Silent,
            (true, false) => client.receive(patience),
            (false, _) => Outcome::Closed,
        };
        if !(matches!(outcome, Outcome::Answer(_)) || call.send_only) {
            self.clients.remove(&call.conn);
        }
        outcome
    }

    fn raw(&mut self, raw: &Raw<'_>) {
        let length = raw.length.and_then(|length| self.scope.eval(length).ok()?.int());
        let bytes = match self.scope.eval(raw.bytes) {
            Ok(Value::Bytes(bytes)) => bytes,
            other => return self.impossible("raw".into(), raw.line, format!("{other:?} is not bytes")),
        };
        let patience = self.plan.patience;
        let read_as = raw.read_as.as_ref().map(|(api, version)| (self.plan.apis[api.as_str()], *version));
        let outcome = match self.client(raw.conn) {
            Err(error) => Outcome::Impossible(error),
            Ok(client) => match client.send_raw(&bytes, length.unwrap_or(bytes.len() as i64), read_as) {
                true => client.receive(patience),
                false => Outcome::Closed,
            },
        };
        if !matches!(outcome, Outcome::Answer(_)) {
            self.clients.remove(raw.conn);
        }
        let label = format!("raw {}", Value::Bytes(bytes));
        let api = read_as.map(|(described, _)| described.api.name);
        self.done.push(Done {
            label,
            line: raw.line,
            api,
            version: None,
            mine: raw.mine,
            allow: raw.allow.to_vec(),
            outcome,
        });
    }

    fn receive(&mut self, conn: &str, captures: &[(String, String)], allow: &[String], line: u32) {
        let queue = self.sent.entry(conn.to_string()).or_default();
        let (api, label) = match queue.is_empty() {
            true => (None, "receive".to_string()),
            false => {
                let (api, label) = queue.remove(0);
                (Some(api), label)
            }
        };
        let patience = self.plan.patience;
        let outcome = self.client(conn).map_or_else(Outcome::Impossible, |client| client.receive(patience));
        self.take(captures, &outcome);
        let label = format!("answer to {label}");
        self.done.push(Done { label, line, api, version: None, mine: false, allow: allow.to_vec(), outcome });
    }

    /// Captures values, and learns topic ids wherever an answer names one.
    fn take(&mut self, captures: &[(String, String)], outcome: &Outcome) {
        let Outcome::Answer(answer) = outcome else { return };
        learn_ids(answer, &mut self.scope.topic_ids);
        for (name, path) in captures {
            match answer.at(path) {
                Some(value) => self.scope.variables.insert(name.clone(), value.clone()),
                None => self.scope.variables.remove(name),
            };
        }
    }
}

/// Requests that Kafka answers when its controller has decided, a moment before its broker acts accordingly.
fn told_later(api: &str) -> bool {
    let starts = ["Create", "Delete", "Alter", "IncrementalAlter", "Update", "Elect"];
    starts.iter().any(|start| api.starts_with(start))
}

fn learn_ids(answer: &Value, ids: &mut BTreeMap<String, Uuid>) {
    match answer {
        Value::List(items) => items.iter().for_each(|item| learn_ids(item, ids)),
        Value::Struct(fields) => {
            let name = ["name", "topic", "topic_name"].iter().find_map(|field| answer.get(field)?.text());
            if let (Some(name), Some(Value::Id(id))) = (name, answer.get("topic_id")) {
                if !id.is_zero() {
                    ids.insert(name.to_string(), *id);
                }
            }
            fields.iter().for_each(|(_, value)| learn_ids(value, ids));
        }
        _ => {}
    }
}
