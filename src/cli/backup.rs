//! Owns `chronik backup`: making, listing, verifying, restoring and deleting backups.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::failure::{Failure, ERROR, NOT_FOUND, OK, UNREACHABLE};
use super::output::{safe, size};
use super::parse::Args;
use super::value::{object, Value};
use super::Session;
use crate::backup::{self, when, Found, Kind, Manifest, Origin, Selection, State, Target, Wanted, Watch};
use crate::config::storage::StorageConfig;
use crate::options;
use crate::store::{self, open_url, Machine, ObjectStore, Tuning};
use crate::sys::clock::Clock;
use crate::wal::settings::Entropy;

impl From<backup::Failure> for Failure {
    fn from(failure: backup::Failure) -> Failure {
        let code = match failure.kind {
            Kind::NotFound => NOT_FOUND,
            Kind::Store => UNREACHABLE,
            _ => ERROR,
        };
        Failure::new(code, format!("{}.", failure.sentence))
    }
}

/// The settings of stores, which are those of the server's environment.
fn environment() -> Result<StorageConfig, Failure> {
    options::storage_from_env(&|name| std::env::var_os(name)).map_err(|error| Failure::usage(error.sentence))
}

/// The store that `--url` names, with the keys that the environment holds for it.
fn store(args: &Args) -> Result<Arc<dyn ObjectStore>, Failure> {
    let url = args.value("url").ok_or_else(|| Failure::usage("Say with --url where the backups are."))?;
    let opened = open_url(&url, &environment()?, Tuning::default(), Arc::new(Machine::start()));
    opened.map(Arc::from).map_err(|error| Failure::usage(error.sentence))
}

/// The store in which a server with this environment keeps segments, if it keeps any.
fn tier() -> Result<Option<Arc<dyn ObjectStore>>, Failure> {
    let config = store::within(&environment()?, backup::TIER);
    let opened = store::open(&config, Tuning::default(), Arc::new(Machine::start()));
    Ok(opened.map_err(|error| Failure::usage(error.sentence))?.map(Arc::from))
}

fn wanted(args: &Args) -> Result<Wanted, Failure> {
    let to_time_ms = match args.value("to-time") {
        None => None,
        Some(text) => Some(when::parse(&text).ok_or_else(|| {
            Failure::usage("--to-time: give a time such as 2026-11-28T16:00:00Z, or milliseconds since 1970.")
        })?),
    };
    if to_time_ms.is_some() && !args.free.is_empty() {
        return Err(Failure::usage("Name a backup or give --to-time, not both."));
    }
    Ok(Wanted { backup: args.free.first().cloned(), to_time_ms, directory: args.value("directory") })
}

/// A bar on standard error while a person looks on; nothing otherwise.
struct Bar {
    what: &'static str,
    is_shown: bool,
    state: Mutex<Progress>,
}

struct Progress {
    begun: Instant,
    drawn: Option<Instant>,
    total: u64,
    done: u64,
}

/// How often the bar is drawn, and how wide it is.
const REDRAW: Duration = Duration::from_millis(100);
const CELLS: u64 = 30;

impl Bar {
    fn new(session: &Session, what: &'static str) -> Bar {
        let is_shown = io::stderr().is_terminal() && !session.out.quiet && !session.out.is_json();
        let state = Progress { begun: Instant::now(), drawn: None, total: 0, done: 0 };
        Bar { what, is_shown, state: Mutex::new(state) }
    }

    fn draw(&self, progress: &mut Progress) {
        let is_due = progress.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) || progress.done == progress.total;
        if !self.is_shown || !is_due {
            return;
        }
        progress.drawn = Some(Instant::now());
        let share = |of: u64| progress.done.saturating_mul(of) / progress.total.max(1);
        let bar: String = (0..CELLS).map(|cell| if cell < share(CELLS) { '#' } else { '.' }).collect();
        let per_second = progress.done as f64 / progress.begun.elapsed().as_secs_f64().max(0.001);
        let line = format!(
            "\r{} [{bar}] {:3}%  {} of {}  {}/s\x1b[K",
            self.what,
            share(100),
            size(progress.done),
            size(progress.total),
            size(per_second as u64)
        );
        // Without a reader there is nobody to show it to.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

impl Watch for Bar {
    fn planned(&self, _objects: u64, bytes: u64) {
        let mut progress = self.state.lock();
        progress.total = bytes;
        self.draw(&mut progress);
    }

    fn advanced(&self, bytes: u64) {
        let mut progress = self.state.lock();
        progress.done += bytes;
        self.draw(&mut progress);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.is_shown && self.state.lock().drawn.is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

fn described(manifest: &Manifest) -> Vec<(&'static str, Value)> {
    let topics = manifest.topics.iter().map(|topic| {
        object([
            ("name", topic.name.clone().into()),
            ("partitions", topic.partitions.into()),
            ("offsets", topic.offsets.into()),
            ("bytes", topic.bytes.into()),
        ])
    });
    vec![
        ("backup", manifest.backup.clone().into()),
        ("directory", manifest.directory().into()),
        ("cluster", manifest.marker.cluster.clone().into()),
        ("time", when::shown(manifest.time_ms).into()),
        ("time_ms", manifest.time_ms.into()),
        ("version", manifest.version.clone().into()),
        ("objects", manifest.objects.len().into()),
        ("bytes", manifest.bytes().into()),
        ("new_bytes", manifest.new_bytes.into()),
        ("topics", Value::List(topics.collect())),
    ]
}

/// `chronik backup create`.
pub fn create(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let store = store(args)?;
    let origin = Origin::open(Path::new(&args.value("data-dir").unwrap_or_default()))?;
    let origin = match tier()? {
        Some(tier) => origin.with_tier(tier),
        None => origin,
    };
    if session.dry_run {
        session.out.note(&format!("a backup would go to {}", store.describe()));
        return Ok(OK);
    }
    let bar = Bar::new(session, "copying");
    let created = backup::create(&origin, &*store, Clock::start().wall_ms(), &mut Entropy::System, &bar)?;
    drop(bar);
    for note in &created.notes {
        session.out.note(note);
    }
    let manifest = &created.manifest;
    if session.out.is_json() {
        let mut fields = described(manifest);
        fields.push(("sent_objects", created.sent_objects.into()));
        session.out.json(&Value::Object(fields))?;
    } else if session.out.quiet {
        session.out.line(&manifest.backup)?;
    } else {
        let (all, sent) = (size(manifest.bytes()), size(created.sent_bytes));
        let count = manifest.topics.len();
        session.out.line(&format!("{}: {count} topics, {all}, of which {sent} were sent", manifest.backup))?;
    }
    Ok(OK)
}

fn state_word(state: &State) -> &'static str {
    match state {
        State::Complete => "complete",
        State::Lacking(..) => "lacking",
        State::Unreadable(_) => "unreadable",
        State::Unfinished => "unfinished",
    }
}

fn state_detail(found: &Found) -> Option<String> {
    match &found.state {
        State::Complete | State::Unfinished => None,
        State::Unreadable(what) => Some(what.clone()),
        State::Lacking(keys, count) => {
            Some(format!("{count} objects of {} are missing or cut, such as {}", found.backup, keys.join(", ")))
        }
    }
}

/// `chronik backup list`.
pub fn list(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let store = store(args)?;
    let all = backup::list(&*store)?;
    if session.out.is_json() {
        let items = all.iter().map(|found| {
            let mut fields = match &found.manifest {
                Some(manifest) => described(manifest),
                None => {
                    vec![("backup", found.backup.clone().into()), ("directory", found.directory.clone().into())]
                }
            };
            fields.push(("state", state_word(&found.state).into()));
            fields.push(("detail", state_detail(found).into()));
            Value::Object(fields)
        });
        session.out.json(&Value::List(items.collect()))?;
    } else if session.out.quiet {
        for found in all.iter().filter(|found| found.manifest.is_some()) {
            session.out.line(&safe(&found.backup))?;
        }
    } else {
        let rows: Vec<Vec<String>> = all.iter().map(row).collect();
        session.out.table(&["BACKUP", "TIME", "SIZE", "NEW", "TOPICS", "STATE", "DIRECTORY"], &rows)?;
    }
    let faults: Vec<String> = all.iter().filter_map(state_detail).collect();
    faults.iter().for_each(|fault| session.out.complain(&format!("{fault}.")));
    Ok(if faults.is_empty() { OK } else { ERROR })
}

fn row(found: &Found) -> Vec<String> {
    let [time, all, new, topics] = match &found.manifest {
        None => ["-"; 4].map(str::to_owned),
        Some(manifest) => [
            when::shown(manifest.time_ms),
            size(manifest.bytes()),
            size(manifest.new_bytes),
            manifest.topics.len().to_string(),
        ],
    };
    let directory: String = found.directory.chars().take(8).collect();
    vec![safe(&found.backup), time, all, new, topics, state_word(&found.state).to_owned(), directory]
}

/// `chronik backup verify`.
pub fn verify(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let store = store(args)?;
    let manifest = backup::find(&*store, &wanted(args)?)?;
    let bar = Bar::new(session, "reading");
    let verified = backup::verify(&store, &manifest, Clock::start().wall_ms(), &bar)?;
    drop(bar);
    for fault in &verified.faults {
        let place = fault.position.map_or(String::new(), |position| format!(" at position {position}"));
        let which = match fault.key.is_empty() {
            true => "The backup as a whole".to_owned(),
            false => format!("Object {} ({})", fault.key, fault.path),
        };
        let topics = match fault.topics.is_empty() {
            true => String::new(),
            false => format!(" Topics with records from there on: {}.", fault.topics.join(", ")),
        };
        session.out.complain(&format!("{which} is damaged{place}: {}.{topics}", fault.what));
    }
    if session.out.is_json() {
        let faults = verified.faults.iter().map(|fault| {
            object([
                ("object", fault.key.clone().into()),
                ("file", fault.path.clone().into()),
                ("position", fault.position.into()),
                ("what", fault.what.clone().into()),
                ("topics", fault.topics.clone().into()),
            ])
        });
        session.out.json(&object([
            ("backup", manifest.backup.clone().into()),
            ("sound", verified.is_sound().into()),
            ("objects", verified.objects.into()),
            ("bytes", verified.bytes.into()),
            ("groups", verified.groups.into()),
            ("faults", Value::List(faults.collect())),
            ("more_faults", verified.more_faults.into()),
        ]))?;
    } else if !session.out.quiet {
        let verdict = if verified.is_sound() { "sound" } else { "damaged" };
        let (count, bytes) = (verified.objects, size(verified.bytes));
        session.out.line(&format!("{}: {verdict}; {count} objects and {bytes} were read", manifest.backup))?;
    }
    Ok(if verified.is_sound() { OK } else { ERROR })
}

fn selection(args: &Args) -> Result<Selection, Failure> {
    let lists = args.values("topics");
    let names = lists.iter().flat_map(|list| list.split(',')).filter(|name| !name.is_empty());
    let rename = |text: String| {
        let (old, new) = text.split_once('=').filter(|(old, new)| !old.is_empty() && !new.is_empty())?;
        Some((old.to_owned(), new.to_owned()))
    };
    let renames: Option<Vec<_>> = args.values("rename").into_iter().map(rename).collect();
    let renames = renames.ok_or_else(|| Failure::usage("--rename: give OLD=NEW, such as orders=orders-2026."))?;
    Ok(Selection { topics: names.map(str::to_owned).collect(), renames })
}

/// `chronik backup restore`.
pub fn restore(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let store = store(args)?;
    let selection = selection(args)?;
    let into = args.value("into").ok_or_else(|| Failure::usage("Say with --into which new folder is to be made."))?;
    let manifest = backup::find(&*store, &wanted(args)?)?;
    let time = when::shown(manifest.time_ms);
    if session.dry_run {
        session.out.note(&format!("{} of {time} would be restored into {into}", manifest.backup));
        return Ok(OK);
    }
    let target = Target::open(Path::new(&into))?;
    let bar = Bar::new(session, "fetching");
    let now_ms = Clock::start().wall_ms();
    let restored = backup::restore(&target, &store, &manifest, &selection, now_ms, &bar)?;
    drop(bar);
    if session.out.is_json() {
        session.out.json(&object([
            ("backup", manifest.backup.clone().into()),
            ("time", time.into()),
            ("time_ms", manifest.time_ms.into()),
            ("into", into.into()),
            ("topics", restored.topics.clone().into()),
            ("objects", restored.objects.into()),
            ("bytes", restored.bytes.into()),
            ("kept_bytes", restored.kept_bytes.into()),
        ]))?;
    } else if !session.out.quiet {
        let (count, bytes) = (restored.topics.len(), size(restored.bytes + restored.kept_bytes));
        session.out.line(&format!("{into}: {count} topics, {bytes}, as of {time}"))?;
        session.out.note("what was written after that time is not in this backup");
    }
    Ok(OK)
}

/// `chronik backup delete`.
pub fn delete(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let store = store(args)?;
    let count: Option<u64> = args.number("keep", "how many backups to keep")?;
    let days: Option<u32> = args.number("keep-days", "for how many days backups are kept")?;
    let is_rule = count.is_some() || days.is_some();
    if is_rule != args.free.is_empty() {
        return Err(Failure::usage("Name the backups to delete, or say with --keep or --keep-days which stay."));
    }
    if count == Some(0) {
        return Err(Failure::usage("--keep: at least 1, because the newest backup always stays."));
    }
    let mut deleted = Vec::new();
    let mut bytes = 0;
    let mut is_put_off = false;
    let mut take = |swept: backup::Swept| {
        bytes += swept.bytes;
        is_put_off |= swept.is_put_off;
    };
    if is_rule {
        let mut directories = backup::directories(&*store)?;
        let prefix = args.value("directory").unwrap_or_default();
        directories.retain(|directory| directory.starts_with(&prefix));
        session.confirm("Delete old backups?")?;
        let since_ms = days.map(|days| Clock::start().wall_ms() - i64::from(days) * 86_400_000);
        for directory in directories.iter().filter(|_| !session.dry_run) {
            let (names, swept) = backup::keep(&*store, directory, count, since_ms)?;
            deleted.extend(names);
            take(swept);
        }
    } else {
        let mut found = Vec::new();
        for name in &args.free {
            let exact = backup::list(&*store)?.into_iter().find(|found| found.backup == *name);
            found.push(exact.ok_or_else(|| Failure::new(NOT_FOUND, format!("There is no backup {name}.")))?);
        }
        session.confirm(&format!("Delete {} backups?", found.len()))?;
        for found in found.iter().filter(|_| !session.dry_run) {
            take(backup::delete(&*store, &found.directory, &found.backup)?);
            deleted.push(found.backup.clone());
        }
    }
    if is_put_off {
        session.out.note("a backup is being made just now, so the space comes back with the next deletion");
    }
    if session.out.is_json() {
        let fields = [("deleted", deleted.into()), ("freed_bytes", bytes.into()), ("put_off", is_put_off.into())];
        session.out.json(&object(fields))?;
    } else if !session.out.quiet {
        session.out.line(&format!("{} backups deleted, {} given back", deleted.len(), size(bytes)))?;
    }
    Ok(OK)
}
