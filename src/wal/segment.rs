//! Owns segment files: their names, how one is made, renewed, sealed and removed.

use std::io;
use std::sync::Arc;

use super::footer;
use super::format::{HeaderError, Identity, SegmentHeader, FORMAT_VERSION, SEGMENT_HEADER_BYTES};
use super::{RecoverError, RunRef, SegmentHandle, SegmentId};
use crate::canary::{self, Fault};
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES};

/// The folder of the log's segments.
pub const DIR: &str = "wal";
/// The folder of the packs.
pub const PACKS_DIR: &str = "packs";
/// Where a segment is made before it gets its name.
pub const PREPARE: &str = "wal/prepare.tmp";

/// Path of a segment below the data directory.
pub fn path(id: SegmentId) -> String {
    match id {
        SegmentId::Wal(number) => format!("{DIR}/{number:020}.log"),
        SegmentId::Pack(number) => format!("{PACKS_DIR}/{number:020}.seg"),
    }
}

/// The segment that a file is, by its name without the folder.
pub fn id_of(name: &str) -> Option<SegmentId> {
    let number = |digits: &str| match digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<u64>().ok().filter(|number| number >> 63 == 0),
        false => None,
    };
    match (name.strip_suffix(".log"), name.strip_suffix(".seg")) {
        (Some(digits), _) => number(digits).map(SegmentId::Wal),
        (None, Some(digits)) => number(digits).map(SegmentId::Pack),
        (None, None) => None,
    }
}

/// The segment that a file is, by its path.
pub fn id_of_path(path: &str) -> Option<SegmentId> {
    let (dir, name) = path.rsplit_once('/')?;
    id_of(name).filter(|id| folder(*id) == dir)
}

/// Ids and lengths in bytes of the log's segment files, in order.
pub fn list(disk: &dyn Disk) -> io::Result<Vec<(SegmentId, u64)>> {
    let files = disk.list(DIR)?;
    let segments = files.iter().filter_map(|(name, bytes)| Some((id_of(name)?, *bytes)));
    let mut segments: Vec<_> = segments.filter(|(id, _)| !id.is_pack()).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Ids and lengths in bytes of the packs, in order. None before the first one is made.
pub fn list_packs(disk: &dyn Disk) -> io::Result<Vec<(SegmentId, u64)>> {
    let files = match disk.list(PACKS_DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let packs = files.iter().filter_map(|(name, bytes)| Some((id_of(name)?, *bytes)));
    let mut packs: Vec<_> = packs.filter(|(id, _)| id.is_pack()).collect();
    packs.sort_unstable();
    Ok(packs)
}

/// The folder that a segment lies in.
fn folder(id: SegmentId) -> &'static str {
    match id {
        SegmentId::Wal(_) => DIR,
        SegmentId::Pack(_) => PACKS_DIR,
    }
}

/// An open segment with what its header says.
#[derive(Clone, Debug)]
pub struct Segment {
    pub header: SegmentHeader,
    pub file: Arc<dyn DiskFile>,
}

impl Segment {
    pub fn handle(&self) -> SegmentHandle {
        SegmentHandle { segment: self.header.identity.segment, file: self.file.clone() }
    }

    pub fn block(&self) -> u64 {
        u64::from(self.header.block_bytes)
    }
}

/// Makes a preallocated segment with a durable header under its final name.
///
/// Any error leaves the log as it was; `StorageFull` means that there is no room now.
pub fn create(disk: &dyn Disk, header: SegmentHeader) -> io::Result<Segment> {
    match disk.remove(PREPARE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(PREPARE, header.file_bytes)?;
    let name = path(header.identity.segment);
    let finish = || -> io::Result<Arc<dyn DiskFile>> {
        write_header(&*file, &header)?;
        disk.rename(PREPARE, &name)?;
        if !canary::has(Fault::UnsyncedName) {
            disk.sync_dir(DIR)?;
        }
        // Under its own name, so that errors tell it.
        disk.open(&name, OpenMode::Direct)
    };
    match finish() {
        Ok(file) => Ok(Segment { header, file }),
        Err(error) => {
            // What is left under this name would hold the space that was missing.
            let _ = disk.remove(PREPARE);
            Err(error)
        }
    }
}

/// Writes a header and makes it durable.
pub fn write_header(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<()> {
    let mut block = AlignedBuf::with_capacity(header.block_bytes as usize);
    header.encode(&mut block);
    file.write_at(&block, 0)?;
    file.sync_data()
}

/// Opens a segment and checks its header against its name; `directory` too, if it is known.
pub fn open(
    disk: &dyn Disk,
    id: SegmentId,
    mode: OpenMode,
    directory: Option<crate::wire::Uuid>,
) -> Result<Segment, RecoverError> {
    open_named(disk, path(id), id, mode, directory)
}

/// The same for a segment that has another name.
pub(super) fn open_named(
    disk: &dyn Disk,
    name: String,
    id: SegmentId,
    mode: OpenMode,
    directory: Option<crate::wire::Uuid>,
) -> Result<Segment, RecoverError> {
    let file = disk.open(&name, mode).map_err(RecoverError::io("opening a segment"))?;
    opened(name, id, file, directory)
}

/// The same for a file that is open already, wherever it lies.
pub(super) fn opened(
    name: String,
    id: SegmentId,
    file: Arc<dyn DiskFile>,
    directory: Option<crate::wire::Uuid>,
) -> Result<Segment, RecoverError> {
    let mut block = AlignedBuf::with_capacity(BLOCK_BYTES);
    block.resize(BLOCK_BYTES);
    let read = file.read_at(&mut block, 0).map_err(RecoverError::io("reading a segment"))?;
    let header = match SegmentHeader::parse(&block[..read.min(SEGMENT_HEADER_BYTES)]) {
        Ok(header) => header,
        Err(HeaderError::Bad(what)) => return Err(RecoverError::lost(name, 0, what)),
        Err(HeaderError::Newer(version)) => {
            return Err(RecoverError::Newer { file: name, version, supported: FORMAT_VERSION })
        }
    };
    if header.identity.segment != id {
        let what = format!("it is {} under another name", header.identity.segment);
        return Err(RecoverError::lost(name, 0, what));
    }
    if directory.is_some_and(|directory| directory != header.identity.directory) {
        return Err(RecoverError::lost(name, 0, "it belongs to another data directory"));
    }
    Ok(Segment { header, file })
}

/// Writes the footer where the groups end, cuts the file behind it and makes both durable. The new length in bytes.
pub fn seal(
    file: &dyn DiskFile,
    header: &SegmentHeader,
    groups_end: u64,
    runs: &mut [RunRef],
    first_seq: u64,
    last_seq: u64,
) -> io::Result<u64> {
    let identity: &Identity = &header.identity;
    let block = header.block_bytes as usize;
    let footer = footer::encode(runs, identity, groups_end, first_seq, last_seq, block);
    file.write_at(&footer, groups_end)?;
    let file_bytes = groups_end + footer.len() as u64;
    file.truncate(file_bytes)?;
    file.sync_data()?;
    Ok(file_bytes)
}

/// Makes all groups durable that have been reported as written, for the modes without fsync.
///
/// # Errors
/// What was written and not synced may be lost, and what is written later would stand behind a hole: the log must end.
pub fn sync_newest(disk: &dyn Disk) -> io::Result<()> {
    // A segment is synced when it is sealed, so only the one that is being written is not; it may stand before one that is
    // reserved for what comes.
    for (id, _) in list(disk)?.iter().rev().take(2) {
        disk.open(&path(*id), OpenMode::Direct)?.sync_data()?;
    }
    Ok(())
}

/// Removes a segment durably; one that is gone already is no error.
///
/// The caller has made sure that no live run is in it, that it lies below the floor of the checkpoints, and that the
/// entries which say so are durable (`sync_newest`).
pub fn remove(disk: &dyn Disk, id: SegmentId) -> io::Result<()> {
    match disk.remove(&path(id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => disk.sync_dir(folder(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(path(SegmentId::Wal(42)), "wal/00000000000000000042.log");
        assert_eq!(id_of("00000000000000000042.log"), Some(SegmentId::Wal(42)));
        assert_eq!(path(SegmentId::Pack(7)), "packs/00000000000000000007.seg");
        assert_eq!(id_of("00000000000000000007.seg"), Some(SegmentId::Pack(7)));
        for other in ["42.log", "00000000000000000042.tmp", "+0000000000000000042.log", "99999999999999999999.log"] {
            assert_eq!(id_of(other), None, "{other}");
        }
    }
}
