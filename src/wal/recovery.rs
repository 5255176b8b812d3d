//! Owns the way back: from the files of a data directory to a writer that goes on, handing over all that was durable.
//!
//! docs/log-format.md has the rules. Nothing here trusts the page cache: segments are read past it and synced again.

use std::io;
use std::sync::Arc;

use super::checkpoint::{self, Floor, Header};
use super::files::{self, MetaFiles};
use super::footer::{self, Trailer, TRAILER_BYTES};
use super::format::{parse_entries, Identity, SegmentHeader, GROUP_MAGIC, RUN_META};
use super::marker::{self, Marker};
use super::pack::{self, Coverage};
use super::scan::{search_on, Scan, ScannedGroup, Step};
use super::segment::{self, Segment};
use super::settings::{LogOptions, MetadataStore};
use super::writer::{segment_bytes, Seqs, Start, Writer};
use super::{ballast, GroupSeq, LogPosition, MetaEntry, RecoverError, RunRef, SegmentHandle, SegmentId};
use crate::canary::{self, Fault};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES};
use crate::wire::Uuid;

/// Takes what recovery finds: first the checkpoint, then metadata and runs in log order, then the segments there are.
///
/// With `--file-metadata` all entries of the files come before the first run, so runs of topics that are gone by now
/// may follow. An error (a sentence about what does not fit) ends the recovery.
pub trait Replay {
    /// The broker's bytes of the newest sound checkpoint; not called when there is none.
    fn checkpoint(&mut self, bytes: &[u8]) -> Result<(), String>;
    fn meta(&mut self, entry: MetaEntry) -> Result<(), String>;
    /// A run after the checkpoint, with its whole batches.
    fn run(&mut self, run: RunRef, batches: &[u8]) -> Result<(), String>;
    /// The packs of which it has been told that they have taken the place of other segments and whose content it does not
    /// know from the checkpoint, in the order of their numbers; asked when all groups have been handed over.
    fn packs(&self) -> Vec<u64> {
        Vec::new()
    }
    /// What one of those packs stands for.
    fn pack(&mut self, _number: u64, _coverage: Vec<Coverage>) -> Result<(), String> {
        Ok(())
    }
    /// A segment file with its length; all of them, in order, at the end.
    fn segment(&mut self, id: SegmentId, bytes: u64, sealed: bool);
}

/// An open log.
#[derive(Debug)]
pub struct Recovered {
    pub writer: Writer,
    /// The sequence that the next group is to have.
    pub next_seq: GroupSeq,
    /// Where the next group goes.
    pub position: LogPosition,
    pub directory_id: Uuid,
    pub cluster_id: String,
    /// What the kept checkpoints need.
    pub floor: Floor,
    /// Sentences for the log.
    pub notes: Vec<String>,
    /// The log had been closed in order. When it had not, and groups are not always synced, acknowledged records may be
    /// lost.
    pub clean: bool,
    /// As `Written::space_bytes`.
    pub space_bytes: u64,
}

/// The note about a directory that held nothing; every other one is about something that should not be.
pub const NEW_DIRECTORY: &str = "the data directory is new";

/// Opens a data directory, making it if it is new. The caller holds the directory's lock.
pub fn recover(disk: Arc<dyn Disk>, options: LogOptions, replay: &mut dyn Replay) -> Result<Recovered, RecoverError> {
    refuse_half_restored(&*disk)?;
    remove_temporaries(&*disk);
    settle_names(&*disk)?;
    let Some(marker) = Marker::load(&*disk)? else { return initialise(disk, options, replay) };
    marker.check_store(options.metadata)?;
    let (walk, damaged) = walk(&*disk, &marker, replay)?;
    let end = walk.finish()?;
    hand_over_packs(&*disk, &marker, replay)?;
    if damaged {
        checkpoint::drop_damaged(&*disk).map_err(RecoverError::io("removing a damaged checkpoint"))?;
    }
    let recovered = reopen(disk.clone(), options, marker, end)?;
    report_segments(&*disk, recovered.position.segment, recovered.writer.has_open_segment(), replay)?;
    Ok(recovered)
}

/// What a look at a log found.
#[derive(Clone, Debug)]
pub struct Looked {
    pub marker: Marker,
    /// The sequence that the next group would have.
    pub next_seq: GroupSeq,
    /// Where the groups end.
    pub position: LogPosition,
}

/// Hands over all that a start would, and changes nothing: for copies, and for directories that nobody writes to.
pub fn look(disk: &dyn Disk, replay: &mut dyn Replay) -> Result<Looked, RecoverError> {
    let missing = || RecoverError::lost(marker::PATH, 0, "it is missing");
    let marker = Marker::load(disk)?.ok_or_else(missing)?;
    let (walk, _) = walk(disk, &marker, replay)?;
    let (next_seq, position, is_open) = walk.reached()?;
    hand_over_packs(disk, &marker, replay)?;
    report_segments(disk, position.segment, is_open, replay)?;
    Ok(Looked { marker, next_seq, position })
}

/// Checkpoint, metadata files and groups, in this order. True when a newer checkpoint was damaged.
fn walk<'a>(
    disk: &'a dyn Disk,
    marker: &'a Marker,
    replay: &'a mut dyn Replay,
) -> Result<(Walk<'a>, bool), RecoverError> {
    let mut notes = Vec::new();
    let newest = checkpoint::newest(disk, marker.directory, &mut notes)?;
    let damaged = !notes.is_empty();
    let start = starting_point(disk, marker, newest.as_ref().map(|(header, _)| header))?;
    if let Some((header, bytes)) = newest {
        let refused = |what| RecoverError::Checkpoint { file: checkpoint::path(header.seq), what };
        replay.checkpoint(&bytes).map_err(refused)?;
    }
    if marker.metadata == MetadataStore::Files {
        let mut outcome = Ok(());
        files::load(disk, &mut |entry| {
            if outcome.is_ok() {
                outcome = replay.meta(entry);
            }
        })?;
        outcome.map_err(|what| RecoverError::Checkpoint { file: files::DIR.to_string(), what })?;
    }
    let segments = segment::list(disk).map_err(RecoverError::io("listing segments"))?;
    let mut walk = Walk::new(disk, marker, start, replay);
    for (id, _) in segments.iter().filter(|(id, _)| *id >= start.position.segment) {
        walk.segment(*id)?;
    }
    walk.notes.append(&mut notes);
    Ok((walk, damaged))
}

/// What the packs stand for that the checkpoint does not know.
fn hand_over_packs(disk: &dyn Disk, marker: &Marker, replay: &mut dyn Replay) -> Result<(), RecoverError> {
    for number in replay.packs() {
        let coverage = pack::read_coverage(disk, marker.directory, number)?;
        let refused = |what| RecoverError::Replay { file: segment::path(SegmentId::Pack(number)), position: 0, what };
        replay.pack(number, coverage).map_err(refused)?;
    }
    Ok(())
}

/// What an interrupted restore left is neither whole nor empty.
fn refuse_half_restored(disk: &dyn Disk) -> Result<(), RecoverError> {
    match disk.read(marker::RESTORING, marker::BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RecoverError::Io { what: "looking for an interrupted restore".to_string(), error }),
        Ok(_) => Err(RecoverError::HalfRestored),
    }
}

/// What an interrupted atomic write left is nobody's.
fn remove_temporaries(disk: &dyn Disk) {
    for dir in ["", checkpoint::DIR, files::DIR, segment::DIR, segment::PACKS_DIR] {
        for (name, _) in disk.list(dir).unwrap_or_default() {
            let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
            if name.ends_with(".tmp") {
                let _ = disk.remove(&path);
            }
        }
    }
}

/// A process that was killed between a rename and the fsync of the folder left a name that is there and not durable.
/// Whatever is found from here on must also be found after a power cut.
fn settle_names(disk: &dyn Disk) -> Result<(), RecoverError> {
    for dir in ["", checkpoint::DIR, files::DIR, segment::DIR, segment::PACKS_DIR] {
        match disk.sync_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RecoverError::io("syncing the data directory")(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes a new data directory. The marker comes last, so that a marker always has segments.
fn initialise(disk: Arc<dyn Disk>, options: LogOptions, replay: &mut dyn Replay) -> Result<Recovered, RecoverError> {
    let what = "making the data directory";
    refuse_unmarked(&*disk)?;
    let mut entropy = options.entropy.clone();
    let marker = Marker::generate(options.metadata, &mut entropy).map_err(RecoverError::io(what))?;
    for dir in [segment::DIR, checkpoint::DIR] {
        disk.create_dir(dir).map_err(RecoverError::io(what))?;
    }
    let incarnation = entropy.next_u64().map_err(RecoverError::io(what))?;
    let identity = Identity { directory: marker.directory, segment: SegmentId::FIRST, incarnation };
    let block = disk.block_bytes();
    let file_bytes = segment_bytes(&options, block as u64);
    let header = SegmentHeader { identity, block_bytes: block as u32, file_bytes };
    let segment = segment::create(&*disk, header).map_err(RecoverError::io(what))?;
    marker.store(&*disk).map_err(RecoverError::io(what))?;
    ballast::make(&*disk, options.ballast_bytes);
    let last = (segment.handle(), LogPosition { segment: SegmentId::FIRST, position: block as u64 });
    let seqs = Seqs { last: 0, logged: 0, durable: 0 };
    let options = LogOptions { entropy, ..options };
    let notes = vec![NEW_DIRECTORY.to_string()];
    let end = End {
        unused: Some(segment),
        unused_data_end: 0,
        last,
        next_segment: SegmentId::FIRST.next(),
        seqs,
        notes,
        clean: true,
    };
    let recovered = open_writer(disk.clone(), options, marker, end)?;
    report_segments(&*disk, SegmentId::FIRST, true, replay)?;
    Ok(recovered)
}

/// Without a marker only the leftover of an interrupted first start may be there: segment 1 without a group.
fn refuse_unmarked(disk: &dyn Disk) -> Result<(), RecoverError> {
    let segments = match segment::list(disk) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(RecoverError::io("listing segments"))?,
    };
    let checkpoints = checkpoint::list(disk).map_err(RecoverError::io("listing checkpoints"))?;
    let refused = || RecoverError::lost(marker::PATH, 0, "it is missing, but there is data beside it");
    let packs = segment::list_packs(disk).map_err(RecoverError::io("listing packs"))?;
    if !checkpoints.is_empty() || !packs.is_empty() || segments.iter().any(|(id, _)| *id != SegmentId::FIRST) {
        return Err(refused());
    }
    if segments.is_empty() {
        return Ok(());
    }
    let segment = segment::open(disk, SegmentId::FIRST, OpenMode::Direct, None)?;
    let mut first = AlignedBuf::with_capacity(BLOCK_BYTES);
    first.resize(BLOCK_BYTES);
    let read = segment.file.read_at(&mut first, segment.block()).map_err(RecoverError::io("reading a segment"))?;
    // A first group that is damaged must not make the others worthless.
    let beyond = search_on(&segment, segment.block(), 0).map_err(RecoverError::io("reading a segment"))?;
    if first[..read].starts_with(GROUP_MAGIC) || beyond.proof.is_some() {
        return Err(refused());
    }
    segment::remove(disk, SegmentId::FIRST).map_err(RecoverError::io("removing an unused segment"))
}

/// Where the replay begins.
#[derive(Clone, Copy, Debug)]
struct StartingPoint {
    position: LogPosition,
    /// The last group that the checkpoint contains.
    seq: GroupSeq,
}

fn starting_point(disk: &dyn Disk, marker: &Marker, newest: Option<&Header>) -> Result<StartingPoint, RecoverError> {
    let segments = segment::list(disk).map_err(RecoverError::io("listing segments"))?;
    let start = match newest {
        Some(header) => StartingPoint { position: header.position, seq: header.seq },
        None => StartingPoint { position: LogPosition { segment: SegmentId::FIRST, position: 0 }, seq: 0 },
    };
    if marker.metadata == MetadataStore::Log && start.seq < marker.metadata_since {
        let what = format!("no sound checkpoint of group {} or later, which this log needs", marker.metadata_since);
        return Err(RecoverError::lost(checkpoint::DIR, 0, what));
    }
    let mut expected = start.position.segment;
    for (id, _) in segments.iter().filter(|(id, _)| *id >= start.position.segment) {
        if *id != expected {
            break;
        }
        expected = expected.next();
    }
    let last = segments.last().map_or(SegmentId::default(), |(id, _)| *id);
    if expected <= last || expected == start.position.segment {
        let what = match newest {
            None if expected == SegmentId::FIRST => {
                "the segment is missing, and there is no sound checkpoint to start from"
            }
            _ => "the segment is missing",
        };
        return Err(RecoverError::lost(segment::path(expected), 0, what));
    }
    Ok(start)
}

/// The trailer of a sealed segment, read from its end; `None` when there is no sound one.
pub(super) fn read_trailer(segment: &Segment) -> io::Result<Option<Trailer>> {
    let file_bytes = segment.file.len()?;
    let Some(at) = file_bytes.checked_sub(BLOCK_BYTES as u64).filter(|at| at % BLOCK_BYTES as u64 == 0) else {
        return Ok(None);
    };
    let mut last = AlignedBuf::with_capacity(BLOCK_BYTES);
    last.resize(BLOCK_BYTES);
    if segment.file.read_at(&mut last, at)? < BLOCK_BYTES {
        return Ok(None);
    }
    let bytes = &last[BLOCK_BYTES - TRAILER_BYTES..];
    Ok(Trailer::parse(bytes, &segment.header.identity, file_bytes, segment.block()))
}

/// Whether everything that a trailer speaks of is there. A crash during sealing may leave the trailer without the rest.
fn has_whole_index(segment: &Segment, trailer: &Trailer) -> io::Result<bool> {
    let identity = &segment.header.identity;
    let mut directory = vec![0; trailer.directory_bytes()];
    let read = segment.file.read_at(&mut directory, trailer.directory_position())?;
    if footer::parse_directory(&directory[..read], identity, trailer).is_none() {
        return Ok(false);
    }
    let mut page = vec![0; footer::PAGE_BYTES];
    for number in 0..u64::from(trailer.page_count) {
        let read = segment.file.read_at(&mut page, trailer.groups_end + number * footer::PAGE_BYTES as u64)?;
        if footer::parse_page(&page[..read], identity, trailer.groups_end).is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The walk over the segments from the starting point on.
struct Walk<'a> {
    disk: &'a dyn Disk,
    marker: &'a Marker,
    start: StartingPoint,
    replay: &'a mut dyn Replay,
    notes: Vec<String>,
    /// The last group seen; 0 while none was.
    logged: GroupSeq,
    /// The last segment with a group, or the one that the checkpoint ends in.
    tail: Option<Tail>,
    /// Segments without a group behind it.
    unused: Vec<Unused>,
}

/// A segment that groups were written to.
struct Tail {
    segment: Segment,
    groups_end: u64,
    runs: Vec<RunRef>,
    first_seq: GroupSeq,
    last_seq: GroupSeq,
    sealed: bool,
    /// End of what lies behind the last good group; 0 if nothing does.
    data_end: u64,
}

struct Unused {
    segment: Segment,
    data_end: u64,
}

/// What the walk ended with.
struct End {
    unused: Option<Segment>,
    /// End of what a torn group left in the unused segment; 0 if it is empty.
    unused_data_end: u64,
    last: (SegmentHandle, LogPosition),
    next_segment: SegmentId,
    seqs: Seqs,
    notes: Vec<String>,
    clean: bool,
}

impl<'a> Walk<'a> {
    fn new(disk: &'a dyn Disk, marker: &'a Marker, start: StartingPoint, replay: &'a mut dyn Replay) -> Walk<'a> {
        Walk { disk, marker, start, replay, notes: Vec::new(), logged: 0, tail: None, unused: Vec::new() }
    }

    fn segment(&mut self, id: SegmentId) -> Result<(), RecoverError> {
        let reading = || RecoverError::io(format!("reading {}", segment::path(id)));
        let segment = segment::open(self.disk, id, OpenMode::Direct, Some(self.marker.directory))?;
        // Without all of its footer it counts as not sealed: its index is found again, and the footer written again.
        let trailer = match read_trailer(&segment).map_err(reading())? {
            Some(trailer) if has_whole_index(&segment, &trailer).map_err(reading())? => Some(trailer),
            _ => None,
        };
        let is_start = id == self.start.position.segment;
        let end = match trailer {
            Some(trailer) => trailer.groups_end,
            None => segment.file.len().map_err(reading())?,
        };
        // An unsealed segment is walked from its beginning, because its index is needed to seal it.
        let begin = match (is_start, trailer) {
            (true, Some(_)) => self.start.position.position.max(segment.block()),
            _ => segment.block(),
        };
        self.check_start(&segment, begin, end)?;
        let mut found = Tail {
            segment: segment.clone(),
            groups_end: begin,
            runs: vec![],
            first_seq: 0,
            last_seq: 0,
            sealed: false,
            data_end: 0,
        };
        let seen = match canary::has(Fault::CacheTrusted) {
            true => segment::open(self.disk, id, OpenMode::Cached, Some(self.marker.directory))?,
            false => segment.clone(),
        };
        let mut scan = Scan::new(&seen, begin, end);
        let bad = loop {
            match scan.next().map_err(reading())? {
                Step::Group(group) => self.group(&group, is_start, &mut found)?,
                Step::End => break None,
                Step::Bad(what) => break Some(what),
            }
        };
        found.groups_end = scan.position();
        match trailer {
            Some(trailer) => self.sealed(found, &trailer, bad),
            None => self.unsealed(found, is_start, bad),
        }
    }

    fn check_start(&self, segment: &Segment, begin: u64, end: u64) -> Result<(), RecoverError> {
        let at = LogPosition { segment: segment.header.identity.segment, position: end };
        if begin > end || begin % segment.block() != 0 {
            let what = format!("the newest checkpoint goes on at position {begin}, which is not in this segment");
            return Err(RecoverError::in_log(at, what));
        }
        Ok(())
    }

    fn group(&mut self, group: &ScannedGroup<'_>, is_start: bool, found: &mut Tail) -> Result<(), RecoverError> {
        let at = LogPosition { segment: group.segment, position: group.position };
        let is_first = found.first_seq == 0;
        let covered = is_start && group.position < self.start.position.position;
        if !covered {
            self.check_chain(group, at, is_first)?;
        }
        if is_first {
            found.first_seq = group.header.seq;
            self.reseal_previous()?;
        }
        found.last_seq = group.header.seq;
        self.logged = group.header.seq;
        for run in &group.runs {
            if run.header.kind != RUN_META {
                found.runs.push(group.run_ref(run));
            }
            if !covered {
                self.deliver(group, run, at)?;
            }
        }
        Ok(())
    }

    /// The chain of sequences must be whole, across segments too.
    fn check_chain(&self, group: &ScannedGroup<'_>, at: LogPosition, is_first: bool) -> Result<(), RecoverError> {
        let (seq, previous) = (group.header.seq, group.header.previous_seq);
        let last = self.logged.max(self.start.seq);
        let known = self.logged != 0;
        let starts_anew = previous == 0 && is_first && self.tail.as_ref().is_none_or(|tail| tail.sealed);
        let linked = if known { previous == self.logged } else { previous <= self.start.seq };
        if seq > last && (linked || starts_anew) {
            return Ok(());
        }
        // When the segment before ends early, that is the place to look at.
        let place = match &self.tail {
            Some(tail) if is_first && !tail.sealed => {
                LogPosition { segment: tail.segment.header.identity.segment, position: tail.groups_end }
            }
            _ => at,
        };
        Err(RecoverError::gap(place, last, seq))
    }

    /// A later segment has a group that goes on from this one, so this one is whole although its footer is not.
    fn reseal_previous(&mut self) -> Result<(), RecoverError> {
        self.unused.clear();
        let Some(tail) = self.tail.as_mut().filter(|tail| !tail.sealed) else { return Ok(()) };
        let id = tail.segment.header.identity.segment;
        tail.seal()?;
        self.notes.push(format!("{} had no sound footer; it was written again", segment::path(id)));
        Ok(())
    }

    fn deliver(
        &mut self,
        group: &ScannedGroup<'_>,
        run: &super::format::RunView<'_>,
        at: LogPosition,
    ) -> Result<(), RecoverError> {
        let refused =
            |what: String| RecoverError::Replay { file: segment::path(at.segment), position: at.position, what };
        if run.header.kind != RUN_META {
            return self.replay.run(group.run_ref(run), run.content).map_err(refused);
        }
        if self.marker.metadata == MetadataStore::Files {
            return Ok(());
        }
        let entries = parse_entries(run.content, run.header.count);
        for entry in entries.map_err(|what| RecoverError::in_log(at, what))? {
            self.replay.meta(entry).map_err(refused)?;
        }
        Ok(())
    }

    fn sealed(&mut self, mut found: Tail, trailer: &Trailer, bad: Option<&'static str>) -> Result<(), RecoverError> {
        let at = LogPosition { segment: found.segment.header.identity.segment, position: found.groups_end };
        if let Some(what) = bad {
            return Err(RecoverError::in_log(at, format!("{what}, but the segment is sealed and goes on")));
        }
        if found.last_seq != 0 && found.last_seq != trailer.last_seq {
            return Err(RecoverError::gap(at, found.last_seq, trailer.last_seq));
        }
        if found.last_seq == 0 && self.tail.is_none() {
            // The checkpoint covers all of it; the chain goes on from what the trailer says.
            self.logged = trailer.last_seq;
        }
        found.segment.file.sync_data().map_err(RecoverError::io("syncing a segment"))?;
        found.sealed = true;
        self.unused.clear();
        self.tail = Some(found);
        Ok(())
    }

    fn unsealed(&mut self, mut found: Tail, is_start: bool, bad: Option<&'static str>) -> Result<(), RecoverError> {
        let id = found.segment.header.identity.segment;
        let at = LogPosition { segment: id, position: found.groups_end };
        let what = bad.unwrap_or("the file ends there");
        if is_start && found.groups_end < self.start.position.position {
            let covered = self.start.position.position;
            return Err(RecoverError::in_log(at, format!("{what}, but the checkpoint covers groups up to {covered}")));
        }
        let last = self.logged.max(self.start.seq);
        let beyond = search_on(&found.segment, at.position, last).map_err(RecoverError::io("reading a segment"))?;
        if let Some((position, seq)) = beyond.proof {
            let proof = format!("group {seq} at position {position} was written after what stood there was durable");
            return Err(RecoverError::in_log(at, format!("{what}, but {proof}")));
        }
        found.data_end = beyond.data_end;
        match found.first_seq {
            0 => self.unused.push(Unused { segment: found.segment, data_end: beyond.data_end }),
            _ => self.tail = Some(found),
        }
        Ok(())
    }

    /// The next group's sequence, where the groups end, and whether more could be written there.
    fn reached(&self) -> Result<(GroupSeq, LogPosition, bool), RecoverError> {
        let next_seq = self.logged.max(self.start.seq) + 1;
        let position = |segment: &Segment, position| LogPosition { segment: segment.header.identity.segment, position };
        let open = self.tail.as_ref().filter(|tail| !tail.sealed);
        match (open, self.unused.first(), &self.tail) {
            (Some(tail), ..) => Ok((next_seq, position(&tail.segment, tail.groups_end), true)),
            (None, Some(unused), _) => Ok((next_seq, position(&unused.segment, unused.segment.block()), true)),
            (None, None, Some(tail)) => Ok((next_seq, position(&tail.segment, tail.groups_end), false)),
            (None, None, None) => Err(RecoverError::lost(segment::DIR, 0, "there are no segments")),
        }
    }

    /// Seals the tail at the cut and makes ready the segment behind it.
    fn finish(mut self) -> Result<End, RecoverError> {
        let mut clean = true;
        if let Some(tail) = self.tail.as_mut().filter(|tail| !tail.sealed) {
            clean = false;
            let id = tail.segment.header.identity.segment;
            if tail.data_end > tail.groups_end {
                self.notes.push(torn(id, tail.groups_end, tail.data_end));
            }
            tail.seal()?;
        }
        let mut unused = self.unused.into_iter();
        let next = unused.next();
        for other in unused.rev() {
            let id = other.segment.header.identity.segment;
            segment::remove(self.disk, id).map_err(RecoverError::io("removing an unused segment"))?;
        }
        if let Some(next) = &next {
            let (id, block) = (next.segment.header.identity.segment, next.segment.block());
            if next.data_end > block {
                clean = false;
                self.notes.push(torn(id, block, next.data_end));
            }
        }
        let unused_data_end = next.as_ref().map_or(0, |next| next.data_end);
        let unused = next.map(|next| next.segment);
        let last = match (&self.tail, &unused) {
            (Some(tail), _) => (tail.segment.handle(), tail.groups_end),
            (None, Some(unused)) => (unused.handle(), unused.block()),
            (None, None) => return Err(RecoverError::lost(segment::DIR, 0, "there are no segments")),
        };
        let newest = unused.as_ref().map_or(last.0.segment, |unused| unused.header.identity.segment);
        let seq = self.logged.max(self.start.seq);
        let seqs = Seqs { last: seq, logged: self.logged, durable: seq };
        let position = LogPosition { segment: last.0.segment, position: last.1 };
        Ok(End {
            unused,
            unused_data_end,
            last: (last.0, position),
            next_segment: newest.next(),
            seqs,
            notes: self.notes,
            clean,
        })
    }
}

impl Tail {
    /// What was read may never have been flushed, so it is synced before the footer says that it is there.
    fn seal(&mut self) -> Result<(), RecoverError> {
        let file: &dyn DiskFile = &*self.segment.file;
        file.sync_data()
            .and_then(|()| {
                let header = &self.segment.header;
                segment::seal(file, header, self.groups_end, &mut self.runs, self.first_seq, self.last_seq)
            })
            .map_err(RecoverError::io("sealing a segment"))?;
        self.sealed = true;
        Ok(())
    }
}

fn torn(id: SegmentId, from: u64, to: u64) -> String {
    format!(
        "{} ends with a group that was never completed: {} bytes from position {from} on were dropped; as far as can be \
         told, nothing in them was acknowledged",
        segment::path(id),
        to - from
    )
}

/// Makes the unused segment ready for use: empty, and of the wanted length if there is room for that.
fn reopen(
    disk: Arc<dyn Disk>,
    mut options: LogOptions,
    marker: Marker,
    mut end: End,
) -> Result<Recovered, RecoverError> {
    if let Some(unused) = end.unused.take() {
        let made = make_ready(&*disk, &mut options, unused, end.unused_data_end);
        end.unused = Some(made.map_err(RecoverError::io("making a segment ready"))?);
    }
    open_writer(disk, options, marker, end)
}

fn make_ready(disk: &dyn Disk, options: &mut LogOptions, unused: Segment, data_end: u64) -> io::Result<Segment> {
    let block = disk.block_bytes() as u64;
    let length = unused.file.len()?;
    let wanted = segment_bytes(options, block);
    if length != wanted || unused.header.file_bytes != wanted || unused.block() != block {
        let identity = Identity { incarnation: options.entropy.next_u64()?, ..unused.header.identity };
        let header = SegmentHeader { identity, block_bytes: block as u32, file_bytes: wanted };
        match segment::create(disk, header) {
            // On a full disk the space that it has is better than none.
            Err(error) if error.kind() == io::ErrorKind::StorageFull && unused.block() == block => {}
            other => return other,
        }
    }
    // Its header stays as it is, because a header that is written in place could be torn. What a torn group left is
    // wiped instead, so that nothing in it can be taken for a later group of this incarnation.
    wipe(&*unused.file, unused.block(), data_end)?;
    let header = SegmentHeader { file_bytes: length.min(unused.header.file_bytes), ..unused.header };
    Ok(Segment { header, file: unused.file })
}

fn wipe(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut zeros = AlignedBuf::with_capacity(limits::SCAN_BYTES);
    let mut at = from;
    while at < to {
        let len = (to - at).min(limits::SCAN_BYTES as u64).next_multiple_of(BLOCK_BYTES as u64);
        zeros.resize(len as usize);
        file.write_at(&zeros, at)?;
        at += len;
    }
    // Also where nothing is wiped: that the file is there may not be durable yet.
    file.sync_data()
}

fn open_writer(disk: Arc<dyn Disk>, options: LogOptions, marker: Marker, end: End) -> Result<Recovered, RecoverError> {
    let files = match marker.metadata {
        MetadataStore::Log => None,
        MetadataStore::Files => {
            Some(MetaFiles::open(disk.clone()).map_err(RecoverError::io("opening the metadata files"))?)
        }
    };
    let floor = checkpoint::floor(&*disk).map_err(RecoverError::io("reading a checkpoint"))?;
    let (notes, clean, next_seq) = (end.notes, end.clean, end.seqs.last + 1);
    let writer = Writer::new(Start {
        disk,
        entropy: options.entropy.clone(),
        options,
        directory: marker.directory,
        unused: end.unused,
        last: end.last,
        next_segment: end.next_segment,
        seqs: end.seqs,
        files,
    });
    Ok(Recovered {
        next_seq,
        position: writer.position(),
        space_bytes: writer.space_bytes(),
        directory_id: marker.directory,
        cluster_id: marker.cluster,
        floor,
        notes,
        clean,
        writer,
    })
}

fn report_segments(
    disk: &dyn Disk,
    active: SegmentId,
    is_open: bool,
    replay: &mut dyn Replay,
) -> Result<(), RecoverError> {
    for (id, bytes) in segment::list_packs(disk).map_err(RecoverError::io("listing packs"))? {
        replay.segment(id, bytes, true);
    }
    for (id, bytes) in segment::list(disk).map_err(RecoverError::io("listing segments"))? {
        replay.segment(id, bytes, id < active || (id == active && !is_open));
    }
    Ok(())
}
