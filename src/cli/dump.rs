//! Owns `chronik wal dump`: what the log holds, group by group.

use super::datadir::{self, Live, Names};
use super::failure::{Failure, ERROR, OK};
use super::output::{hex, readable, safe, time, Out};
use super::parse::Args;
use super::value::{object, Value};
use super::Session;
use crate::broker::metalog;
use crate::wal::format::{parse_entries, RunView, RUN_META};
use crate::wal::inspect::{self, Bad, Item, ScannedGroup};
use crate::wal::{segment, GroupSeq, MetaEntry};

/// Longest piece of a key or value that is shown to people, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// Which groups are printed, and what of them.
struct Choice {
    from: GroupSeq,
    to: GroupSeq,
    meta_only: bool,
}

/// `chronik wal dump`.
pub fn run(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let choice = Choice {
        from: args.number("from", "the number of a group")?.unwrap_or(0),
        to: args.number("to", "the number of a group")?.unwrap_or(GroupSeq::MAX),
        meta_only: args.flag("meta"),
    };
    let dir = datadir::open(session, args, Live::Refused)?;
    let disk = &*dir.disk;
    let mut names = Names::of(disk);
    let mut code = OK;
    for (id, _) in segment::list(disk)? {
        let view = match inspect::open(disk, id, None) {
            Ok(view) => view,
            Err(error) => {
                session.out.complain(&error.to_string());
                code = ERROR;
                continue;
            }
        };
        let outside = |t: &inspect::Trailer| t.last_seq < choice.from || t.first_seq > choice.to;
        if view.trailer.as_ref().is_some_and(outside) {
            continue;
        }
        let out = &mut session.out;
        view.walk(false, &mut |item: Item<'_>| -> Result<(), Failure> {
            match item {
                Item::Group(group) if (choice.from..=choice.to).contains(&group.header.seq) => {
                    print_group(out, &mut names, &choice, &view.file, &group)
                }
                Item::Group(_) => Ok(()),
                Item::Stray(group) => {
                    code = ERROR;
                    let (file, from, seq) = (&view.file, group.position, group.header.seq);
                    out.complain(&format!(
                        "{file}: damaged at position {from}: group {seq} belongs elsewhere; chronik wal verify says more"
                    ));
                    Ok(())
                }
                Item::Bad(bad) => {
                    code = if bad.was_durable { ERROR } else { code };
                    tell_bad(out, &view.file, &bad);
                    Ok(())
                }
            }
        })?;
    }
    Ok(code)
}

fn tell_bad(out: &Out, file: &str, bad: &Bad) {
    let (from, to, what) = (bad.position, bad.end, bad.what);
    let word = if bad.was_durable { "damaged" } else { "torn" };
    out.complain(&format!("{file}: {word} from position {from} to {to}: {what}; chronik wal verify says more"));
}

fn print_group(
    out: &mut Out,
    names: &mut Names,
    choice: &Choice,
    file: &str,
    group: &ScannedGroup<'_>,
) -> Result<(), Failure> {
    let mut runs = Vec::new();
    let mut entries = Vec::new();
    for run in &group.runs {
        match run.header.kind {
            RUN_META => {
                let parsed = parse_entries(run.content, run.header.count);
                entries.extend(parsed.map_err(|what| Failure::error(format!("{file}: {what}")))?);
            }
            _ => runs.push(run),
        }
    }
    entries.iter().for_each(|entry| names.learn(entry));
    if choice.meta_only {
        runs.clear();
        if entries.is_empty() {
            return Ok(());
        }
    }
    match out.is_json() {
        true => {
            let value = group_json(names, file, group, &runs, &entries);
            out.json_line(&value)
        }
        false => print_text(out, names, file, group, &runs, &entries),
    }
}

fn group_json(
    names: &Names,
    file: &str,
    group: &ScannedGroup<'_>,
    runs: &[&RunView<'_>],
    entries: &[MetaEntry],
) -> Value {
    let run = |run: &&RunView<'_>| {
        let place = group.run_ref(run);
        object([
            ("topic", names.name(place.id.topic).map(str::to_owned).into()),
            ("topic_id", place.id.topic.to_string().into()),
            ("partition", place.id.partition.into()),
            ("first_offset", place.base_offset.into()),
            ("last_offset", place.last_offset.into()),
            ("batches", run.header.count.into()),
            ("position", place.position.into()),
            ("bytes", place.len.into()),
            ("max_timestamp", place.max_timestamp.into()),
        ])
    };
    let entry = |entry: &MetaEntry| {
        object([
            ("table", table_name(entry.table).into()),
            ("scope", hex(&entry.scope).into()),
            ("key", hex(&entry.key).into()),
            ("value", entry.value.as_ref().map(|value| hex(value)).into()),
        ])
    };
    object([
        ("group", group.header.seq.into()),
        ("previous", group.header.previous_seq.into()),
        ("durable", group.header.durable_seq.into()),
        ("file", file.into()),
        ("position", group.position.into()),
        ("bytes", group.len.into()),
        ("runs", Value::List(runs.iter().map(run).collect())),
        ("metadata", Value::List(entries.iter().map(entry).collect())),
    ])
}

fn print_text(
    out: &mut Out,
    names: &Names,
    file: &str,
    group: &ScannedGroup<'_>,
    runs: &[&RunView<'_>],
    entries: &[MetaEntry],
) -> Result<(), Failure> {
    let (header, position, len) = (&group.header, group.position, group.len);
    let (seq, previous, durable) = (header.seq, header.previous_seq, header.durable_seq);
    out.heading(&format!("group {seq}  {file} at {position}, {len} bytes, after {previous}, durable {durable}"))?;
    for entry in entries {
        let (scope, key) = (scope_text(names, entry), readable(&entry.key, SHOWN_CHARS_MAX));
        let key = if key.is_empty() { key } else { format!(" [{key}]") };
        let value = match &entry.value {
            Some(value) => format!("= {}", readable(value, SHOWN_CHARS_MAX)),
            None => "removed".to_owned(),
        };
        out.line(&safe(&format!("    {} {scope}{key} {value}", table_name(entry.table))))?;
    }
    for run in runs {
        let place = group.run_ref(run);
        let what = names.partition(place.id);
        let (first, last, count) = (place.base_offset, place.last_offset, run.header.count);
        let (at, len, newest) = (place.position, place.len, time(place.max_timestamp));
        out.line(&safe(&format!(
            "    {what}: offsets {first} to {last} in {count} batches, {len} bytes at {at}, newest {newest}"
        )))?;
    }
    Ok(())
}

/// What an entry's scope is, for people: a topic's name where it is a topic's id.
fn scope_text(names: &Names, entry: &MetaEntry) -> String {
    let is_topic = matches!(entry.table, metalog::TOPIC | metalog::LOG_START);
    match <[u8; 16]>::try_from(&entry.scope[..]) {
        Ok(id) if is_topic => names.shown(crate::wire::Uuid(id)),
        _ if entry.scope.is_empty() => "-".to_owned(),
        _ => readable(&entry.scope, SHOWN_CHARS_MAX),
    }
}

/// What people call a table of metadata.
fn table_name(table: u8) -> String {
    let name = match table {
        metalog::TOPIC => "topic",
        metalog::LOG_START => "log-start",
        metalog::PRODUCER_IDS => "producer-ids",
        metalog::GROUP => "group",
        metalog::OFFSET => "offset",
        metalog::BROKER_CONFIG => "broker-config",
        metalog::LOSSY => "lossy",
        metalog::SHARE_GROUP => "share-group",
        metalog::SHARE_STATE => "share-state",
        metalog::TXN => "transactional-id",
        metalog::TXN_OFFSET => "transaction-offset",
        metalog::SCRAM => "scram",
        metalog::RESOURCE_CONFIG => "resource-config",
        metalog::FEATURE => "feature",
        metalog::CONSUMER_GROUP => "consumer-group",
        metalog::PACK => "pack",
        metalog::OBJECT => "stored-segment",
        _ => return format!("table-{table}"),
    };
    name.to_owned()
}
