//! Owns checkpoints: the broker's state after a group, so that a start need not replay the whole log. The last two are kept, so
//! that one may be damaged; of one that is alone there is a copy instead.

use std::io;

use byteorder::{BigEndian, ByteOrder};

use super::{ballast, segment, GroupSeq, LogPosition, RecoverError, SegmentId};
use crate::canary::{self, Fault};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, OpenMode};
use crate::wire::Uuid;

/// The folder of the checkpoints.
pub const DIR: &str = "checkpoints";
const MAGIC: &[u8; 8] = b"CHRONCKP";
pub(super) const VERSION: u16 = 1;
pub(super) const HEADER_BYTES: usize = 72;
const KEPT: usize = 2;
const COPY: &str = ".copy";

/// What a checkpoint says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub directory: Uuid,
    /// The last group that it contains.
    pub seq: GroupSeq,
    /// Where the replay goes on.
    pub position: LogPosition,
    len: u64,
    content_crc: u32,
}

/// What the kept checkpoints still need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Segments of the log below this one are not needed for a replay. The lowest, so every one, while there are not two
    /// checkpoints.
    pub segment: SegmentId,
    /// The last group that the older checkpoint contains: whatever it knew to be of no use is not needed by either. 0 while
    /// there are not two.
    pub seq: GroupSeq,
}

/// Why a checkpoint's bytes are no use.
pub(super) enum Unusable {
    Damaged(&'static str),
    Newer(u16),
}

/// Path of a checkpoint below the data directory.
pub fn path(seq: GroupSeq) -> String {
    format!("{DIR}/{seq:020}.ckpt")
}

/// Path of a checkpoint's second copy ([`write_twice`]).
pub fn copy_path(seq: GroupSeq) -> String {
    format!("{DIR}/{seq:020}{COPY}")
}

/// Sequences of the checkpoints there are, oldest first.
pub fn list(disk: &dyn Disk) -> io::Result<Vec<GroupSeq>> {
    let files = match disk.list(DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let seq = |name: &str| name.strip_suffix(".ckpt").filter(|d| d.len() == 20).and_then(|digits| digits.parse().ok());
    Ok(files.iter().filter_map(|(name, _)| seq(name)).collect())
}

/// Writes a checkpoint of the state after group `seq`, whose replay goes on at `position` (`Written::next` of that
/// group), and drops all but the last two. The answer is what these two still need.
///
/// Blocks, so it belongs on a thread of its own. The log is synced up to there first, because a checkpoint must not
/// know more than the log. An error leaves the older checkpoints valid, but the log must end when it could not be synced
/// ([`WriteError::Log`]). On a full disk the ballast is spent.
pub fn write(
    disk: &dyn Disk,
    directory: Uuid,
    seq: GroupSeq,
    position: LogPosition,
    bytes: &[u8],
) -> Result<Floor, WriteError> {
    if bytes.len() > limits::CHECKPOINT_BYTES_MAX - HEADER_BYTES {
        return Err(io::Error::other(format!("a checkpoint of {} bytes is too long", bytes.len())).into());
    }
    disk.open(&segment::path(position.segment), OpenMode::Cached)?.sync_data().map_err(WriteError::Log)?;
    let header = Header { directory, seq, position, len: bytes.len() as u64, content_crc: crc32c::crc32c(bytes) };
    let mut out = Vec::with_capacity(HEADER_BYTES + bytes.len());
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(bytes);
    disk.create_dir(DIR)?;
    match canary::has(Fault::UnsyncedCheckpoint) {
        true => replace_unsynced(disk, &path(seq), &out)?,
        false => ballast::spend(disk, || disk.replace(&path(seq), &out))?,
    }
    drop(out);
    let seqs = list(disk)?;
    for old in seqs.iter().rev().skip(KEPT) {
        disk.remove(&path(*old))?;
    }
    if seqs.len() >= KEPT {
        remove_copies(disk)?;
    }
    disk.sync_dir(DIR)?;
    Ok(floor(disk)?)
}

/// The same, and if it is the only checkpoint, with a second copy in a file beside it: for a directory whose log does not begin with the
/// first group, so that nothing else could stand in for it. The copy stays until there is another checkpoint.
pub fn write_twice(
    disk: &dyn Disk,
    directory: Uuid,
    seq: GroupSeq,
    position: LogPosition,
    bytes: &[u8],
) -> Result<(), WriteError> {
    write(disk, directory, seq, position, bytes)?;
    if list(disk)?.len() >= KEPT {
        return Ok(());
    }
    let whole = disk.read(&path(seq), limits::CHECKPOINT_BYTES_MAX)?;
    disk.replace(&copy_path(seq), &whole)?;
    Ok(disk.sync_dir(DIR)?)
}

fn remove_copies(disk: &dyn Disk) -> io::Result<()> {
    let files = disk.list(DIR)?;
    let copies = files.iter().filter(|(name, _)| name.ends_with(COPY));
    copies.map(|(name, _)| format!("{DIR}/{name}")).try_for_each(|path| disk.remove(&path))
}

/// Why a checkpoint was not written.
#[derive(Debug)]
pub enum WriteError {
    /// The log could not be synced. What was written to it may be lost though a later sync succeeds, so the log must end.
    Log(io::Error),
    /// There is no new checkpoint, and nothing else has happened.
    Checkpoint(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        WriteError::Checkpoint(error)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> io::Error {
        match error {
            WriteError::Log(error) | WriteError::Checkpoint(error) => error,
        }
    }
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WriteError::Log(error) => write!(f, "syncing the log: {error}"),
            WriteError::Checkpoint(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WriteError {}

/// What must never be done: the name is durable, and the bytes are not.
fn replace_unsynced(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let name = format!("{path}.tmp");
    let whole_bytes = bytes.len().next_multiple_of(disk.block_bytes());
    let file = disk.create(&name, whole_bytes as u64)?;
    let mut whole = AlignedBuf::with_capacity(whole_bytes);
    whole.extend_from_slice(bytes);
    whole.resize(whole_bytes);
    file.write_at(&whole, 0)?;
    file.truncate(bytes.len() as u64)?;
    disk.rename(&name, path)
}

/// What recovery may need: what the older of two checkpoints does.
pub fn floor(disk: &dyn Disk) -> io::Result<Floor> {
    let seqs = list(disk)?;
    let Some(older) = seqs.len().checked_sub(KEPT).map(|at| seqs[at]) else { return Ok(Floor::default()) };
    match load(disk, older)? {
        Ok((header, _)) => Ok(Floor { segment: header.position.segment, seq: header.seq }),
        Err(_) => Ok(Floor::default()),
    }
}

/// Reads a checkpoint and checks it.
pub(super) fn load(disk: &dyn Disk, seq: GroupSeq) -> io::Result<Result<(Header, Vec<u8>), Unusable>> {
    load_from(disk, &path(seq), seq)
}

/// The same for a checkpoint that has another name.
pub(super) fn load_from(disk: &dyn Disk, path: &str, seq: GroupSeq) -> io::Result<Result<(Header, Vec<u8>), Unusable>> {
    let mut bytes = disk.read(path, limits::CHECKPOINT_BYTES_MAX)?;
    let header = match Header::parse(&bytes) {
        Ok(header) => header,
        Err(unusable) => return Ok(Err(unusable)),
    };
    bytes.drain(..HEADER_BYTES);
    if header.len != bytes.len() as u64 || header.content_crc != crc32c::crc32c(&bytes) {
        return Ok(Err(Unusable::Damaged("the CRC of its content is wrong")));
    }
    if header.seq != seq {
        return Ok(Err(Unusable::Damaged("its name is that of another checkpoint")));
    }
    Ok(Ok((header, bytes)))
}

/// What the second copy of a checkpoint holds, if there is one that is sound.
pub(super) fn load_copy(disk: &dyn Disk, seq: GroupSeq) -> io::Result<Option<(Header, Vec<u8>)>> {
    match load_from(disk, &copy_path(seq), seq) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Ok(other?.ok()),
    }
}

/// Finds the newest sound checkpoint. Those that are damaged are passed over with a note.
pub(super) fn newest(
    disk: &dyn Disk,
    directory: Uuid,
    notes: &mut Vec<String>,
) -> Result<Option<(Header, Vec<u8>)>, RecoverError> {
    let seqs = list(disk).map_err(RecoverError::io("listing checkpoints"))?;
    for seq in seqs.into_iter().rev() {
        match load(disk, seq).map_err(RecoverError::io("reading a checkpoint"))? {
            Ok((header, _)) if header.directory != directory => {
                return Err(RecoverError::lost(path(seq), 0, "it belongs to another data directory"));
            }
            Ok(found) => return Ok(Some(found)),
            Err(Unusable::Newer(version)) => {
                return Err(RecoverError::Newer { file: path(seq), version, supported: VERSION });
            }
            Err(Unusable::Damaged(what)) => {
                let copy = load_copy(disk, seq).map_err(RecoverError::io("reading a checkpoint"))?;
                if let Some(copy) = copy.filter(|(header, _)| header.directory == directory) {
                    notes.push(format!("{} is damaged ({what}); its copy is used", path(seq)));
                    return Ok(Some(copy));
                }
                notes.push(format!(
                    "{} is damaged ({what}); the one before it is used and more of the log replayed",
                    path(seq)
                ));
            }
        }
    }
    Ok(None)
}

/// Removes checkpoints that are damaged, so that they do not count among the two that are kept; one that has a copy is written anew.
pub(super) fn drop_damaged(disk: &dyn Disk) -> io::Result<()> {
    for seq in list(disk)? {
        if let Err(Unusable::Damaged(_)) = load(disk, seq)? {
            match load_copy(disk, seq)? {
                Some((header, content)) => {
                    let mut whole = header.to_bytes().to_vec();
                    whole.extend_from_slice(&content);
                    ballast::spend(disk, || disk.replace(&path(seq), &whole))?;
                }
                None => disk.remove(&path(seq))?,
            }
            disk.sync_dir(DIR)?;
        }
    }
    Ok(())
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        BigEndian::write_u16(&mut bytes[8..10], VERSION);
        bytes[16..32].copy_from_slice(&self.directory.0);
        BigEndian::write_u64(&mut bytes[32..40], self.seq);
        BigEndian::write_u64(&mut bytes[40..48], self.position.segment.raw());
        BigEndian::write_u64(&mut bytes[48..56], self.position.position);
        BigEndian::write_u64(&mut bytes[56..64], self.len);
        BigEndian::write_u32(&mut bytes[64..68], self.content_crc);
        let crc = crc32c::crc32c(&bytes[..68]);
        BigEndian::write_u32(&mut bytes[68..72], crc);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Header, Unusable> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(Unusable::Damaged("it is cut short"))?;
        if &bytes[..8] != MAGIC {
            return Err(Unusable::Damaged("it does not begin with CHRONCKP"));
        }
        if BigEndian::read_u32(&bytes[68..72]) != crc32c::crc32c(&bytes[..68]) {
            return Err(Unusable::Damaged("the CRC of its header is wrong"));
        }
        let version = BigEndian::read_u16(&bytes[8..10]);
        if version > VERSION {
            return Err(Unusable::Newer(version));
        }
        let mut directory = [0; 16];
        directory.copy_from_slice(&bytes[16..32]);
        Ok(Header {
            directory: Uuid(directory),
            seq: BigEndian::read_u64(&bytes[32..40]),
            position: LogPosition {
                segment: SegmentId::from_raw(BigEndian::read_u64(&bytes[40..48])),
                position: BigEndian::read_u64(&bytes[48..56]),
            },
            len: BigEndian::read_u64(&bytes[56..64]),
            content_crc: BigEndian::read_u32(&bytes[64..68]),
        })
    }
}
