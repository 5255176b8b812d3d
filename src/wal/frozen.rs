//! Owns a frozen picture of a data directory that may be in use: second names for all that a copy of it needs, and the
//! place at which its log is cut.
//!
//! The picture is what a crash at the moment of the cut would have left, so recovery makes of it exactly the state of that
//! moment: transactions, offsets, configurations. The order of the steps makes it so. The checkpoint is named first, so the
//! log, which is looked at afterwards, is never older. Then every segment gets its second name, and only when none of them
//! vanished during that is the cut looked for: a segment that had gone before was set free by an entry that was durable
//! then, which therefore stands before the cut. After it the segments are listed again, because the last entries before the
//! cut may speak of files that are newer than the first list. Where a step comes too late, all begins again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::checkpoint::{self, Unusable};
use super::files;
use super::format::{GroupHeader, HeaderError, Identity, SegmentHeader, FORMAT_VERSION, GROUP_HEADER_BYTES};
use super::marker::{self, Marker};
use super::recovery::read_trailer;
use super::scan::{search_on, Scan, Step};
use super::segment::{self, Segment};
use super::settings::MetadataStore;
use super::{GroupSeq, LogPosition, RecoverError, SegmentId};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES};

/// The folder of the second names. What is in it belongs to nobody when no copy is being made.
pub const DIR: &str = "frozen";

/// In that folder: locked by whoever makes a copy.
pub const LOCK: &str = "lock";

/// Folders of segment files. All that lies there under a segment's name belongs to the picture.
const SEGMENT_DIRS: &[&str] = &[segment::PACKS_DIR, segment::DIR];

/// One file of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenFile {
    /// Its path in the data directory.
    pub path: String,
    /// Bytes, from its beginning, that belong to the picture.
    pub bytes: u64,
    /// Which use of which file it is; `None` if it is no segment.
    pub identity: Option<Identity>,
}

/// The picture. The second names go with it.
#[derive(Debug)]
pub struct Frozen {
    disk: Arc<dyn Disk>,
    pub marker: Marker,
    /// Segments that will never change, in the order of their paths.
    pub segments: Vec<FrozenFile>,
    /// The beginning of the segment that was being written, up to its last whole group.
    pub tail: Option<FrozenFile>,
    /// The newest sound checkpoint.
    pub checkpoint: Option<FrozenFile>,
    /// The files of `--file-metadata`.
    pub metadata: Vec<FrozenFile>,
}

/// Why there is no picture.
#[derive(Debug)]
pub enum FreezeError {
    /// It can't be done in this way; a sentence.
    Refused(String),
    /// The directory itself is damaged or can't be read.
    Unsound(RecoverError),
}

impl std::fmt::Display for FreezeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FreezeError::Refused(what) => f.write_str(what),
            FreezeError::Unsound(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FreezeError {}

impl From<RecoverError> for FreezeError {
    fn from(error: RecoverError) -> FreezeError {
        FreezeError::Unsound(error)
    }
}

/// Takes the picture. `at_rest` says that no server can be using the directory while this runs.
///
/// One picture of a directory exists at a time; the caller sees to that. Changes nothing but the folder [`DIR`].
///
/// # Errors
/// Metadata in files that a server may be changing is refused: those files and the log can't be caught at one moment.
pub fn freeze(disk: &Arc<dyn Disk>, at_rest: bool) -> Result<Frozen, FreezeError> {
    let marker = Marker::load(&**disk)?
        .ok_or_else(|| FreezeError::Refused("the folder is no data directory: it has no chronik.dir".to_string()))?;
    if disk.read(marker::RESTORING, marker::BYTES_MAX).is_ok() {
        return Err(RecoverError::HalfRestored.into());
    }
    if marker.metadata == MetadataStore::Files && !at_rest {
        let what =
            "the data directory keeps its metadata in files (--file-metadata), which can't be copied at one moment \
                    with the log while a server runs. Stop the server for the time of the backup, or convert the \
                    directory with --convert-metadata";
        return Err(FreezeError::Refused(what.to_string()));
    }
    clear(&**disk).map_err(RecoverError::io("removing what an earlier copy left"))?;
    disk.create_dir(DIR).map_err(RecoverError::io("making a folder"))?;
    for _ in 0..limits::FREEZE_ROUNDS_MAX {
        let mut freezing = Freezing { disk, marker: &marker, linked: BTreeMap::new() };
        match freezing.run() {
            Ok(Some(frozen)) => return Ok(frozen),
            Ok(None) => clear(&**disk).map_err(RecoverError::io("removing second names"))?,
            Err(error) => {
                let _ = clear(&**disk);
                return Err(error.into());
            }
        }
    }
    let what =
        "the data directory changes faster than its files can be held, or its log lacks a segment (a start would say \
                which)";
    Err(FreezeError::Refused(what.to_string()))
}

/// Removes the second names that a copy left which did not come to its end.
pub fn clear(disk: &dyn Disk) -> io::Result<()> {
    let files = match disk.list(DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for (name, _) in files.iter().filter(|(name, _)| name != LOCK) {
        match disk.remove(&format!("{DIR}/{name}")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn link_name(path: &str) -> String {
    format!("{DIR}/{}", path.replace('/', "-"))
}

/// Whether a file of a folder of segments is one.
fn is_segment(name: &str) -> bool {
    segment::id_of(name).is_some()
}

struct Freezing<'a> {
    disk: &'a Arc<dyn Disk>,
    marker: &'a Marker,
    /// What has a second name, with its length when it was listed.
    linked: BTreeMap<String, u64>,
}

/// The newest sound checkpoint.
enum Newest {
    There(checkpoint::Header, FrozenFile),
    None,
    /// It went away while it was looked at.
    Gone,
}

/// What naming the files of some folders came to.
#[derive(Default)]
struct Round {
    vanished: bool,
}

impl Freezing<'_> {
    /// `None` when the directory has changed too much meanwhile.
    fn run(&mut self) -> Result<Option<Frozen>, RecoverError> {
        let naming = || RecoverError::io("naming the files of the data directory");
        let (start, seq, checkpoint) = match self.checkpoint()? {
            Newest::There(header, file) => (header.position.segment, header.seq, Some(file)),
            Newest::None => (SegmentId::FIRST, 0, None),
            Newest::Gone => return Ok(None),
        };
        let mut rounds = 0;
        while self.link_segments().map_err(naming())?.vanished {
            rounds += 1;
            if rounds == limits::FREEZE_ROUNDS_MAX {
                return Ok(None);
            }
        }
        if !self.has_all_from(start) {
            // If it is not a removal that came in between, a start would say what is missing; so does the last try.
            return Ok(None);
        }
        let cut = self.cut(start, seq)?;
        if self.link_segments().map_err(naming())?.vanished {
            return Ok(None);
        }
        if self.marker.metadata == MetadataStore::Files {
            self.link_folder(files::DIR, |name| !name.ends_with(".tmp")).map_err(naming())?;
        }
        self.frozen(checkpoint, cut).map(Some)
    }

    fn checkpoint(&mut self) -> Result<Newest, RecoverError> {
        let reading = || RecoverError::io("reading a checkpoint");
        let seqs = checkpoint::list(&**self.disk).map_err(RecoverError::io("listing checkpoints"))?;
        for seq in seqs.into_iter().rev() {
            let path = checkpoint::path(seq);
            match self.disk.link(&path, &link_name(&path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Newest::Gone),
                other => other.map_err(RecoverError::io("naming a checkpoint"))?,
            }
            match checkpoint::load_from(&**self.disk, &link_name(&path), seq).map_err(reading())? {
                Ok((header, _)) if header.directory != self.marker.directory => {
                    return Err(RecoverError::lost(path, 0, "it belongs to another data directory"));
                }
                Ok((header, content)) => {
                    let bytes = (checkpoint::HEADER_BYTES + content.len()) as u64;
                    return Ok(Newest::There(header, FrozenFile { path, bytes, identity: None }));
                }
                Err(Unusable::Newer(version)) => {
                    return Err(RecoverError::Newer { file: path, version, supported: checkpoint::VERSION });
                }
                Err(Unusable::Damaged(_)) => {
                    self.disk.remove(&link_name(&path)).map_err(RecoverError::io("removing a second name"))?;
                }
            }
        }
        Ok(Newest::None)
    }

    fn link_segments(&mut self) -> io::Result<Round> {
        let mut all = Round::default();
        for dir in SEGMENT_DIRS {
            all.vanished |= self.link_folder(dir, is_segment)?.vanished;
        }
        Ok(all)
    }

    fn link_folder(&mut self, dir: &str, is_wanted: fn(&str) -> bool) -> io::Result<Round> {
        let mut round = Round::default();
        let files = match self.disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(round),
            other => other?,
        };
        for (name, bytes) in files.into_iter().filter(|(name, _)| is_wanted(name)) {
            let path = format!("{dir}/{name}");
            if self.linked.contains_key(&path) {
                continue;
            }
            match self.disk.link(&path, &link_name(&path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => round.vanished = true,
                other => {
                    other?;
                    self.linked.insert(path, bytes);
                }
            }
        }
        Ok(round)
    }

    /// The segments of the log that have a second name.
    fn log_ids(&self) -> impl Iterator<Item = SegmentId> + '_ {
        let names = self.linked.keys().filter_map(|path| path.strip_prefix(segment::DIR)?.strip_prefix('/'));
        names.filter_map(segment::id_of).filter(|id| !id.is_pack())
    }

    fn has_all_from(&self, start: SegmentId) -> bool {
        let mut expected = start;
        for id in self.log_ids().filter(|id| *id >= start) {
            if id != expected {
                return false;
            }
            expected = expected.next();
        }
        expected > start
    }

    fn open(&self, id: SegmentId) -> Result<Segment, RecoverError> {
        let name = link_name(&segment::path(id));
        segment::open_named(&**self.disk, name, id, OpenMode::Direct, Some(self.marker.directory))
    }

    /// The last segment that belongs to the picture, and where its last whole group ends if it is not sealed.
    fn cut(&self, start: SegmentId, seq: GroupSeq) -> Result<(SegmentId, Option<u64>), RecoverError> {
        let reading = |id| RecoverError::io(format!("reading {id}"));
        let mut last_seq = seq;
        let ids: Vec<SegmentId> = self.log_ids().filter(|id| *id >= start).collect();
        for (at, id) in ids.iter().enumerate() {
            let segment = self.open(*id)?;
            if let Some(trailer) = read_trailer(&segment).map_err(reading(*id))? {
                last_seq = last_seq.max(trailer.last_seq);
                continue;
            }
            let position = whole_groups(&segment, &mut last_seq)?;
            let goes_on = match ids.get(at + 1) {
                Some(next) => begins_with_group(&self.open(*next)?).map_err(reading(*next))?,
                None => false,
            };
            if !goes_on {
                return Ok((*id, Some(position)));
            }
            // It has been sealed since it was looked at, or its end is damaged.
            if read_trailer(&segment).map_err(reading(*id))?.is_none() {
                let what = "it has no sound end, although the log goes on behind it; a start mends that";
                return Err(RecoverError::in_log(LogPosition { segment: *id, position }, what));
            }
        }
        let last = ids.last().ok_or_else(|| RecoverError::lost(segment::DIR, 0, "there are no segments"))?;
        Ok((*last, None))
    }

    fn frozen(
        &self,
        checkpoint: Option<FrozenFile>,
        (last, cut): (SegmentId, Option<u64>),
    ) -> Result<Frozen, RecoverError> {
        let mut segments = Vec::new();
        let (mut tail, mut metadata) = (None, Vec::new());
        for (path, bytes) in &self.linked {
            let Some(name) = SEGMENT_DIRS.iter().find_map(|dir| path.strip_prefix(dir)?.strip_prefix('/')) else {
                metadata.push(FrozenFile { path: path.clone(), bytes: *bytes, identity: None });
                continue;
            };
            let log_id = path.starts_with(segment::DIR).then(|| segment::id_of(name)).flatten();
            // What lies behind the cut was not there yet.
            if log_id.is_some_and(|id| id > last) {
                self.disk.remove(&link_name(path)).map_err(RecoverError::io("removing a second name"))?;
                continue;
            }
            let (identity, bytes) = self.identity(path)?;
            let file = FrozenFile { path: path.clone(), bytes, identity: Some(identity) };
            match cut.filter(|_| log_id == Some(last)) {
                Some(bytes) => tail = Some(FrozenFile { bytes, ..file }),
                None => segments.push(file),
            }
        }
        let (disk, marker) = (Arc::clone(self.disk), self.marker.clone());
        Ok(Frozen { disk, marker, segments, tail, checkpoint, metadata })
    }

    /// What a segment's header says, and the file's length now.
    fn identity(&self, path: &str) -> Result<(Identity, u64), RecoverError> {
        let reading = || RecoverError::io(format!("reading {path}"));
        let file = self.disk.open(&link_name(path), OpenMode::Cached).map_err(reading())?;
        let mut block = vec![0; BLOCK_BYTES];
        let read = file.read_at(&mut block, 0).map_err(reading())?;
        let header = SegmentHeader::parse(&block[..read]).map_err(|error| match error {
            HeaderError::Bad(what) => RecoverError::lost(path, 0, what),
            HeaderError::Newer(version) => {
                RecoverError::Newer { file: path.to_string(), version, supported: FORMAT_VERSION }
            }
        })?;
        if header.identity.directory != self.marker.directory {
            return Err(RecoverError::lost(path, 0, "it belongs to another data directory"));
        }
        Ok((header.identity, file.len().map_err(reading())?))
    }
}

/// Where the last whole group of a segment ends that may be written to meanwhile. `last_seq` becomes that group's.
fn whole_groups(segment: &Segment, last_seq: &mut GroupSeq) -> Result<u64, RecoverError> {
    let id = segment.header.identity.segment;
    let reading = || RecoverError::io(format!("reading {id}"));
    let (mut position, mut is_proved) = (segment.block(), false);
    loop {
        let begin = position;
        let mut scan = Scan::new(segment, position, segment.file.len().map_err(reading())?);
        let what = loop {
            match scan.next().map_err(reading())? {
                Step::Group(group) => *last_seq = (*last_seq).max(group.header.seq),
                Step::End => break "the file ends there",
                Step::Bad(what) => break what,
            }
        };
        position = scan.position();
        // A group that says that what stands here had been durable: it came after the scan, or what stands here is damaged.
        if is_proved && position == begin {
            let what = format!("{what}, but a later group proves that something stood there");
            return Err(RecoverError::in_log(LogPosition { segment: id, position }, what));
        }
        if search_on(segment, position, *last_seq).map_err(reading())?.proof.is_none() {
            return Ok(position);
        }
        is_proved = true;
    }
}

fn begins_with_group(segment: &Segment) -> io::Result<bool> {
    let mut block = AlignedBuf::with_capacity(BLOCK_BYTES);
    block.resize(BLOCK_BYTES);
    let read = segment.file.read_at(&mut block, segment.block())?;
    let identity = &segment.header.identity;
    Ok(GroupHeader::parse(&block[..read.min(GROUP_HEADER_BYTES)], identity, identity.seed()).is_some())
}

impl Frozen {
    /// All files of the picture.
    pub fn files(&self) -> impl Iterator<Item = &FrozenFile> {
        self.checkpoint.iter().chain(&self.segments).chain(&self.tail).chain(&self.metadata)
    }

    /// Opens a file of the picture, past the page cache. What lies behind `FrozenFile::bytes` is not part of it.
    pub fn open(&self, file: &FrozenFile) -> io::Result<Arc<dyn DiskFile>> {
        let mode = if file.identity.is_some() { OpenMode::Direct } else { OpenMode::Cached };
        self.disk.open(&link_name(&file.path), mode)
    }

    /// Gives up a file's second name: it has been copied, and its space may be needed.
    pub fn release(&self, file: &FrozenFile) {
        // What can't be removed now goes with the rest, or at the next start.
        let _ = self.disk.remove(&link_name(&file.path));
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // What is left here goes at the next copy or start.
        let _ = clear(&*self.disk);
    }
}
