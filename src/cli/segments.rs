//! Owns `chronik segment`: listing, showing and checking single segments of a log.

use std::path::Path;

use super::datadir::{self, DataDir, Live, Names};
use super::failure::{together, Failure, ERROR, NOT_FOUND, OK};
use super::findings::{Finding, Grade};
use super::output::{safe, size, time};
use super::parse::Args;
use super::survey::Survey;
use super::topic::complain;
use super::value::{object, Value};
use super::verify::tell;
use super::Session;
use crate::sys::disk::{Disk, OpenMode};
use crate::sys::read_disk::ReadDisk;
use crate::wal::inspect::{self, View};
use crate::wal::{segment, RecoverError, SegmentId};

/// What a listing says about a segment without reading its groups.
fn state_of(view: &Result<View, RecoverError>) -> &'static str {
    match view {
        Err(_) => "damaged",
        Ok(view) if view.trailer.is_some() => "sealed",
        Ok(view) if view.first_group().ok().flatten().is_some() => "open",
        Ok(_) => "empty",
    }
}

/// `chronik segment list`.
pub fn list(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let dir = datadir::open(session, args, Live::SealedOnly)?;
    let listed = all_segments(&dir)?;
    let views = listed.iter().map(|(id, bytes)| (*id, *bytes, inspect::open(&*dir.disk, *id, None)));
    let views: Vec<_> = views.collect();
    if session.out.is_json() {
        let items = views.iter().map(|(id, bytes, view)| {
            let trailer = view.as_ref().ok().and_then(|view| view.trailer);
            object([
                ("segment", id.number().into()),
                ("pack", id.is_pack().into()),
                ("file", segment::path(*id).into()),
                ("bytes", (*bytes).into()),
                ("state", state_of(view).into()),
                ("first_group", trailer.map(|t| t.first_seq).into()),
                ("last_group", trailer.map(|t| t.last_seq).into()),
                ("runs", trailer.map(|t| t.run_count).into()),
                ("min_timestamp", trailer.map(|t| t.min_timestamp).into()),
                ("max_timestamp", trailer.map(|t| t.max_timestamp).into()),
            ])
        });
        session.out.json(&Value::List(items.collect()))?;
    } else if session.out.quiet {
        for (id, _, _) in &views {
            session.out.line(&segment::path(*id))?;
        }
    } else {
        let rows: Vec<Vec<String>> = views
            .iter()
            .map(|(id, bytes, view)| {
                let trailer = view.as_ref().ok().and_then(|view| view.trailer);
                let [groups, runs, newest] = trailer.map_or(["-".into(), "-".into(), "-".into()], |t| {
                    [format!("{}-{}", t.first_seq, t.last_seq), t.run_count.to_string(), time(t.max_timestamp)]
                });
                vec![short(*id), size(*bytes), state_of(view).to_owned(), groups, runs, newest]
            })
            .collect();
        session.out.table(&["SEGMENT", "SIZE", "STATE", "GROUPS", "RUNS", "NEWEST"], &rows)?;
    }
    Ok(if views.iter().any(|(_, _, view)| view.is_err()) { ERROR } else { OK })
}

/// Packs and segments of the log, with their lengths in bytes.
fn all_segments(dir: &DataDir) -> Result<Vec<(SegmentId, u64)>, Failure> {
    let mut all = segment::list_packs(&*dir.disk)?;
    all.extend(segment::list(&*dir.disk)?);
    Ok(all)
}

/// How a segment is named on the command line: `7`, or `pack-7`.
fn short(id: SegmentId) -> String {
    match id {
        SegmentId::Pack(number) => format!("pack-{number}"),
        SegmentId::Wal(number) => number.to_string(),
    }
}

/// The segment that is meant, if it is not a path.
fn named(text: &str) -> Option<SegmentId> {
    let number = |digits: &str| digits.parse::<u64>().ok().filter(|number| number >> 63 == 0);
    match text.strip_prefix("pack-") {
        Some(digits) => number(digits).map(SegmentId::Pack),
        None => number(text).map(SegmentId::Wal),
    }
}

/// Segments that were named, those that can be opened; findings about those that cannot.
#[derive(Default)]
struct Chosen {
    views: Vec<View>,
    findings: Vec<Finding>,
    codes: Vec<u8>,
    names: Names,
}

impl Chosen {
    fn take(&mut self, opened: Result<View, RecoverError>, session: &Session) {
        match opened {
            Ok(view) => self.views.push(view),
            Err(RecoverError::Corrupt { file, position, what, .. }) => {
                self.findings.push(Finding::new(Grade::Damage, file, position, what));
            }
            Err(RecoverError::Io { what, error }) => {
                self.codes.push(complain(&session.out, Failure::file(&what, &error)))
            }
            Err(other) => self.codes.push(complain(&session.out, Failure::error(other.to_string()))),
        }
    }

    /// A number is a segment of the data directory, everything else the path of a file. The directory is opened when it
    /// is first needed.
    fn find(session: &Session, args: &Args) -> Result<Chosen, Failure> {
        let mut chosen = Chosen::default();
        let numbers = args.free.iter().filter_map(|text| named(text)).collect::<Vec<_>>();
        if !numbers.is_empty() || args.free.is_empty() {
            let dir = datadir::open(session, args, Live::SealedOnly)?;
            chosen.names = Names::of(&*dir.disk);
            chosen.find_numbers(session, &dir, &numbers)?;
        }
        for text in args.free.iter().filter(|text| named(text).is_none()) {
            match open_path(Path::new(text)) {
                Ok(opened) => chosen.take(opened, session),
                Err(failure) => chosen.codes.push(complain(&session.out, failure)),
            }
        }
        Ok(chosen)
    }

    fn find_numbers(&mut self, session: &Session, dir: &DataDir, numbers: &[SegmentId]) -> Result<(), Failure> {
        let listed: Vec<SegmentId> = all_segments(dir)?.into_iter().map(|(id, _)| id).collect();
        let wanted = if numbers.is_empty() { &listed } else { numbers };
        for id in wanted {
            if !listed.contains(id) {
                let what = format!("There is no {}.", segment::path(*id));
                self.codes.push(complain(&session.out, Failure::new(NOT_FOUND, what)));
                continue;
            }
            let opened = inspect::open(&*dir.disk, *id, None);
            let is_open = opened.as_ref().is_ok_and(|view| view.trailer.is_none());
            match (dir.is_live && is_open, numbers.is_empty()) {
                (false, _) => self.take(opened, session),
                // Of all segments, the one that is written just now is left out.
                (true, true) => {}
                (true, false) => {
                    let what = format!("{id} is being written by the server; look at it when that has stopped.");
                    self.codes.push(complain(&session.out, Failure::error(what)));
                }
            }
        }
        Ok(())
    }
}

fn open_path(path: &Path) -> Result<Result<View, RecoverError>, Failure> {
    let shown = path.display().to_string();
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(Failure::new(NOT_FOUND, format!("{shown} is neither the number of a segment nor a file.")));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let opened = ReadDisk::open(folder).and_then(|disk| disk.open(name, OpenMode::Cached));
    let file = opened.map_err(|error| Failure::file(&format!("Cannot open {shown}"), &error))?;
    Ok(inspect::open_file(file, &shown))
}

/// `chronik segment dump`.
pub fn dump(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let chosen = Chosen::find(session, args)?;
    let mut codes = chosen.codes.clone();
    for finding in &chosen.findings {
        let what = format!("{} at position {}: {}", finding.file, finding.position, finding.what);
        codes.push(complain(&session.out, Failure::error(what)));
    }
    let mut values = Vec::new();
    for (at, view) in chosen.views.iter().enumerate() {
        let index = view.index()?;
        for (position, _, what) in &index.damaged {
            session.out.complain(&format!("{} at position {position}: {what}", view.file));
            codes.push(ERROR);
        }
        if session.out.is_json() {
            values.push(dump_json(view, &index, &chosen.names));
            continue;
        }
        if at > 0 {
            session.out.line("")?;
        }
        print_dump(session, view, &index, &chosen.names)?;
    }
    if session.out.is_json() {
        session.out.json(&Value::List(values))?;
    }
    Ok(together(codes))
}

fn dump_json(view: &View, index: &inspect::Index, names: &Names) -> Value {
    let header = view.header();
    let trailer = view.trailer.map(|t| {
        object([
            ("groups_end", t.groups_end.into()),
            ("first_group", t.first_seq.into()),
            ("last_group", t.last_seq.into()),
            ("runs", t.run_count.into()),
            ("pages", t.page_count.into()),
            ("min_timestamp", t.min_timestamp.into()),
            ("max_timestamp", t.max_timestamp.into()),
        ])
    });
    let run = |run: &crate::wal::RunRef| {
        object([
            ("topic", names.name(run.id.topic).map(str::to_owned).into()),
            ("topic_id", run.id.topic.to_string().into()),
            ("partition", run.id.partition.into()),
            ("first_offset", run.base_offset.into()),
            ("last_offset", run.last_offset.into()),
            ("position", run.position.into()),
            ("bytes", run.len.into()),
            ("max_timestamp", run.max_timestamp.into()),
        ])
    };
    object([
        ("file", view.file.as_str().into()),
        ("bytes", view.bytes.into()),
        ("segment", view.id().number().into()),
        ("pack", view.id().is_pack().into()),
        ("directory", header.identity.directory.to_string().into()),
        ("incarnation", header.identity.incarnation.into()),
        ("block", header.block_bytes.into()),
        ("preallocated", header.file_bytes.into()),
        ("footer", trailer.unwrap_or(Value::Null)),
        ("index", Value::List(index.runs.iter().map(run).collect())),
    ])
}

fn print_dump(session: &mut Session, view: &View, index: &inspect::Index, names: &Names) -> Result<(), Failure> {
    let header = view.header();
    let out = &mut session.out;
    out.heading(&safe(&view.file))?;
    out.line(&format!("segment      {}", short(view.id())))?;
    out.line(&format!("directory    {}", header.identity.directory))?;
    out.line(&format!("incarnation  {:016x}", header.identity.incarnation))?;
    out.line(&format!("size         {} bytes in blocks of {}", view.bytes, header.block_bytes))?;
    let Some(trailer) = view.trailer else {
        return out.line("footer       none: the segment is not sealed, or its footer is damaged");
    };
    out.line(&format!("groups       {} to {}", trailer.first_seq, trailer.last_seq))?;
    out.line(&format!("groups end   at {}", trailer.groups_end))?;
    out.line(&format!("timestamps   {} to {}", time(trailer.min_timestamp), time(trailer.max_timestamp)))?;
    out.line(&format!("index        {} runs on {} pages", trailer.run_count, trailer.page_count))?;
    let row = |run: &crate::wal::RunRef| {
        vec![
            safe(&names.shown(run.id.topic)),
            run.id.partition.to_string(),
            run.base_offset.to_string(),
            run.last_offset.to_string(),
            run.position.to_string(),
            run.len.to_string(),
            time(run.max_timestamp),
        ]
    };
    let rows: Vec<Vec<String>> = index.runs.iter().map(row).collect();
    out.table(&["TOPIC", "PARTITION", "FIRST", "LAST", "POSITION", "BYTES", "NEWEST"], &rows)
}

/// `chronik segment verify`.
pub fn verify(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let chosen = Chosen::find(session, args)?;
    let mut survey = Survey::some(chosen.names, &chosen.views)?;
    survey.findings.splice(0..0, chosen.findings);
    let code = tell(session, &survey)?;
    Ok(together(chosen.codes.into_iter().chain([code])))
}
