//! Owns turning sequences into jobs, one for each version and parameter, and running them side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::allowed::Allowed;
use super::client::{Client, Outcome};
use super::codec::{encode, Described};
use super::compare::{compare, StepDifference};
use super::expr::Scope;
use super::report::{Failed, Report};
use super::run::{run, Done, Plan};
use super::script::{Def, Sequence, Step};
use super::value::Value;

/// How long an answer may take, and how long to rest after changes, in the first and in later attempts: a difference
/// counts when the last one shows it.
const ATTEMPTS: [(u64, u64); 3] = [(4_000, 0), (8_000, 100), (16_000, 1_500)];

/// What all jobs share.
pub struct Shared<'a> {
    apis: &'a BTreeMap<&'static str, Described>,
    defs: &'a BTreeMap<String, Def>,
    allowed: &'a Allowed,
    kafka: SocketAddr,
    chronik: SocketAddr,
    now: i64,
    /// The versions that both servers speak.
    versions: BTreeMap<&'static str, (i16, i16)>,
    newest: BTreeMap<&'static str, i16>,
    /// Names that no other run of this test uses on the same servers.
    stamp: String,
    next: AtomicUsize,
    /// What was asked so far: APIs and their versions.
    asked: Mutex<BTreeSet<(&'static str, i16)>>,
}

/// One sequence with one version and one set of parameters.
#[derive(Clone, Debug)]
pub struct Job {
    pub title: String,
    pub place: String,
    pub pinned: Option<(String, i16)>,
    pub parameters: Vec<(String, Value)>,
    pub alone: bool,
    pub steps: Vec<Step>,
    /// The text of a sequence that stands in no file.
    pub text: Option<String>,
    /// What it was made from, if it was made at random.
    pub seed: Option<u64>,
}

impl Job {
    /// What tells it from the sequence's other jobs.
    pub fn variant(&self) -> &str {
        self.title.find('[').map_or("", |at| &self.title[at..])
    }
}

/// The jobs of a sequence.
pub fn expand(sequence: &Sequence, shared: &Shared<'_>) -> Vec<Job> {
    let mut pinned = vec![None];
    if let Some(api) = &sequence.each {
        let range = shared.versions.get(api.as_str()).copied();
        let wanted = |v: &i16| {
            let (from, to) = sequence.versions;
            from.is_none_or(|from| *v >= from) && to.is_none_or(|to| *v <= to)
        };
        let pins = |(min, max)| (min..=max).filter(wanted).map(|v| Some((api.clone(), v))).collect();
        pinned = range.map_or(Vec::new(), pins);
    }
    let mut sets: Vec<Vec<(String, Value)>> = vec![Vec::new()];
    let scope =
        Scope { prefix: String::new(), now: shared.now, variables: BTreeMap::new(), topic_ids: BTreeMap::new() };
    for (name, values) in &sequence.with {
        let values = values.iter().map(|value| scope.eval(value).unwrap_or_else(|e| panic!("{}: {e}", sequence.place)));
        let values: Vec<Value> = values.collect();
        let longer = |set: &Vec<(String, Value)>| {
            let set = set.clone();
            let name = name.clone();
            values.clone().into_iter().map(move |value| [set.clone(), vec![(name.clone(), value)]].concat())
        };
        sets = sets.iter().flat_map(longer).collect();
    }
    let mut jobs = Vec::new();
    for pinned in &pinned {
        for parameters in &sets {
            let mut shown: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            shown.extend(pinned.iter().map(|(api, version)| format!("{api} v{version}")));
            let title = match shown.is_empty() {
                true => sequence.title.clone(),
                false => format!("{} [{}]", sequence.title, shown.join(", ")),
            };
            jobs.push(Job {
                title,
                place: sequence.place.clone(),
                pinned: pinned.clone(),
                parameters: parameters.clone(),
                alone: sequence.alone,
                steps: sequence.steps.clone(),
                text: None,
                seed: None,
            });
        }
    }
    jobs
}

impl<'a> Shared<'a> {
    pub fn new(
        apis: &'a BTreeMap<&'static str, Described>,
        defs: &'a BTreeMap<String, Def>,
        allowed: &'a Allowed,
        kafka: SocketAddr,
        chronik: SocketAddr,
        now: i64,
    ) -> Shared<'a> {
        let (theirs, ours) = (served(kafka, apis), served(chronik, apis));
        let both = |(name, (min, max)): (&&'static str, &(i16, i16))| {
            let (our_min, our_max) = ours.get(name)?;
            let range = (*min.max(our_min), *max.min(our_max));
            (range.0 <= range.1).then_some((*name, range))
        };
        let mut versions: BTreeMap<&'static str, (i16, i16)> = theirs.iter().filter_map(both).collect();
        // Kafka 4 advertises Produce from 0 on, for the sake of old librdkafka, but closes the connection below 3.
        versions.entry("Produce").and_modify(|(min, _)| *min = 3.max(*min));
        let missing: Vec<&str> = theirs.keys().filter(|name| !versions.contains_key(*name)).copied().collect();
        println!("Kafka on {kafka}, Chronik on {chronik}; {} APIs on both", versions.len());
        println!("served by Kafka only: {}", missing.join(" "));
        let newest = versions.iter().map(|(name, (_, max))| (*name, *max)).collect();
        let stamp = base36(now as u64 / 1000 % 60_466_176);
        let (next, asked) = Default::default();
        Shared { apis, defs, allowed, kafka, chronik, now, versions, newest, stamp, next, asked }
    }

    /// Makes both servers ready for groups and transactions: Kafka creates its internal topics when they are first needed.
    pub fn warm_up(&self) {
        let Some(def) = self.defs.get("warm-up") else { return };
        for address in [self.kafka, self.chronik] {
            let prefix = format!("w{}-", self.stamp);
            run(&self.plan(&def.steps, None, &[], &prefix, ATTEMPTS[2]), address);
        }
    }

    fn plan<'p>(
        &'p self,
        steps: &'p [Step],
        pinned: Option<(&'p str, i16)>,
        parameters: &'p [(String, Value)],
        prefix: &'p str,
        (patience, rest): (u64, u64),
    ) -> Plan<'p> {
        Plan {
            apis: self.apis,
            defs: self.defs,
            newest: &self.newest,
            pinned,
            steps,
            prefix,
            now: self.now,
            parameters,
            patience: Duration::from_millis(patience),
            rest: Duration::from_millis(rest),
        }
    }

    /// Runs the jobs, those that must be alone at the end.
    pub fn run_all(&self, jobs: &[Job], workers: usize) -> Report {
        let report = Mutex::new(Report::default());
        let (together, alone): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(|job| !job.alone);
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..workers.max(1) {
                scope.spawn(|| {
                    while let Some(job) = together.get(next.fetch_add(1, Ordering::Relaxed)) {
                        self.run_job(job, &report);
                    }
                });
            }
        });
        alone.iter().for_each(|job| self.run_job(job, &report));
        let mut report = report.into_inner().unwrap_or_default();
        report.failed.sort_by_key(|a| a.order());
        let asked = self.asked.lock().map(|asked| asked.clone()).unwrap_or_default();
        report.apis_asked = asked.iter().map(|(api, _)| api).collect::<BTreeSet<_>>().len();
        report.versions_asked = asked.len();
        let all = self.versions.iter().flat_map(|(api, (min, max))| (*min..=*max).map(|version| (*api, version)));
        report.not_asked = all.filter(|one| !asked.contains(one)).map(|(api, v)| format!("{api} v{v}")).collect();
        report
    }

    fn run_job(&self, job: &Job, report: &Mutex<Report>) {
        let (steps, differences, used, attempts) = self.attempt(job, &job.steps);
        let failed = (!differences.is_empty()).then(|| self.smallest(job, differences));
        if let Ok(mut report) = report.lock() {
            report.sequences += 1;
            report.steps += steps;
            report.repeated += usize::from(attempts > 1);
            for (id, times) in used {
                *report.used.entry(id).or_default() += times;
            }
            report.failed.extend(failed);
        }
    }

    /// What is left of a random sequence when all is gone that its first difference does not need.
    fn smallest(&self, job: &Job, differences: Vec<StepDifference>) -> Failed {
        let wanted = what(&differences);
        let mut last = differences;
        let job = super::random::shrink(job, self.apis, |candidate| {
            let (_, differences, _) = self.once(candidate, &candidate.steps, ATTEMPTS[1]);
            let same = what(&differences) == wanted;
            if same {
                last = differences;
            }
            same
        });
        Failed { job, differences: last }
    }

    /// Runs the steps on both servers, again and slower while there are differences.
    fn attempt(&self, job: &Job, steps: &[Step]) -> (usize, Vec<StepDifference>, BTreeMap<String, usize>, usize) {
        let mut last = (0, Vec::new(), BTreeMap::new(), 0);
        for (attempt, pace) in ATTEMPTS.into_iter().enumerate() {
            let (count, differences, used) = self.once(job, steps, pace);
            last = (count, differences, used, attempt + 1);
            if last.1.is_empty() {
                break;
            }
        }
        last
    }

    /// Runs the steps on both servers, under a name of their own.
    fn once(
        &self,
        job: &Job,
        steps: &[Step],
        pace: (u64, u64),
    ) -> (usize, Vec<StepDifference>, BTreeMap<String, usize>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("d{}-{}-", self.stamp, base36(number as u64));
        let pinned = job.pinned.as_ref().map(|(api, version)| (api.as_str(), *version));
        let plan = self.plan(steps, pinned, &job.parameters, &prefix, pace);
        let (kafka, chronik) = self.on_both(&plan);
        if let Ok(mut asked) = self.asked.lock() {
            asked.extend(kafka.iter().filter_map(|done| Some((done.api?, done.version?))));
        }
        let mut used = BTreeMap::new();
        let differences = compare(&kafka, &chronik, &prefix, self.allowed, &mut used);
        if std::env::var_os("DIFFERENTIAL_TRACE").is_some() {
            trace(job, &kafka, &chronik);
        }
        (kafka.len(), differences, used)
    }

    fn on_both(&self, plan: &Plan<'_>) -> (Vec<Done>, Vec<Done>) {
        thread::scope(|scope| {
            let kafka = scope.spawn(|| run(plan, self.kafka));
            let chronik = run(plan, self.chronik);
            (kafka.join().unwrap_or_default(), chronik)
        })
    }
}

/// What the first difference is about, for comparison with that of a smaller sequence.
fn what(differences: &[StepDifference]) -> Option<String> {
    let first = differences.first()?;
    let found = first.differences.first()?;
    let api = first.label.split_whitespace().next().unwrap_or("");
    Some(format!("{api} {} {} {}", found.path, found.kafka.len(), found.chronik.len()))
}

/// Shows every step of a run, for a person who wonders how a difference came about.
fn trace(job: &Job, kafka: &[Done], chronik: &[Done]) {
    println!("\n{} {}", job.place, job.title);
    for (theirs, ours) in kafka.iter().zip(chronik) {
        println!(
            "  line {}: {}\n    Kafka    {}\n    Chronik  {}",
            theirs.line, theirs.label, theirs.outcome, ours.outcome
        );
    }
}

/// What a server advertises.
fn served(address: SocketAddr, apis: &BTreeMap<&'static str, Described>) -> BTreeMap<&'static str, (i16, i16)> {
    let described = apis["ApiVersions"];
    let body = encode(described.request, 0, false, &Value::Struct(Vec::new())).unwrap_or_default();
    let mut client = Client::connect(address, "differential").unwrap_or_else(|error| panic!("{address}: {error}"));
    client.send(described, 0, &body, 0);
    let Outcome::Answer(answer) = client.receive(Duration::from_secs(20)) else {
        panic!("{address} does not answer ApiVersions");
    };
    let mut found = BTreeMap::new();
    for entry in answer.get("api_keys").and_then(Value::list).unwrap_or(&[]) {
        let int = |name: &str| entry.get(name).and_then(Value::int).unwrap_or(-1) as i16;
        if let Some(api) = apis.values().find(|described| described.api.key.0 == int("api_key")) {
            found.insert(api.api.name, (int("min_version"), int("max_version")));
        }
    }
    found
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize]);
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits.reverse();
    String::from_utf8(digits).unwrap_or_default()
}
