//! Owns walking a segment's groups, and searching on behind a place where none stands.

use std::io;

use super::format::{
    parse_group, round_up, GroupHeader, RunView, GROUP_HEADER_BYTES, GROUP_MAGIC, RUN_BATCHES, RUN_META,
};
use super::segment::Segment;
use super::{RunRef, SegmentId};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{DiskFile, BLOCK_BYTES};

/// Reads a segment's groups from a position on, holding one group (and a little more) in memory.
pub struct Scan<'a> {
    segment: &'a Segment,
    seed: u32,
    /// Where groups end at the latest: the footer's position, or the file's length.
    end: u64,
    position: u64,
    window: Window,
}

/// What stands at the scan's position.
pub enum Step<'a> {
    Group(ScannedGroup<'a>),
    /// The end of the scanned range.
    End,
    /// No valid group.
    Bad(&'static str),
}

/// A whole, checked group.
pub struct ScannedGroup<'a> {
    pub segment: SegmentId,
    pub position: u64,
    /// Length with padding.
    pub len: u64,
    pub header: GroupHeader,
    pub runs: Vec<RunView<'a>>,
}

impl ScannedGroup<'_> {
    /// Where one of the group's runs of batches stands.
    pub fn run_ref(&self, run: &RunView<'_>) -> RunRef {
        RunRef {
            id: run.header.id,
            base_offset: run.header.base_offset,
            last_offset: run.header.last_offset,
            max_timestamp: run.header.max_timestamp,
            segment: self.segment,
            position: self.position + run.offset as u64,
            len: run.header.len,
        }
    }
}

impl<'a> Scan<'a> {
    /// Scans from `position`, which lies on a block, to `end`.
    pub fn new(segment: &'a Segment, position: u64, end: u64) -> Scan<'a> {
        Scan { segment, seed: segment.header.identity.seed(), end, position, window: Window::new(position, end) }
    }

    /// Where the next group is looked for.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next group; the scan moves behind it.
    pub fn next(&mut self) -> io::Result<Step<'_>> {
        if self.position >= self.end {
            return Ok(Step::End);
        }
        let (identity, block) = (self.segment.header.identity, self.segment.block());
        let file = &*self.segment.file;
        let remaining = self.end - self.position;
        let head = self.window.get(file, self.position, remaining.min(block))?;
        let Some(header) = GroupHeader::parse(head, &identity, self.seed) else {
            return Ok(Step::Bad("no group stands there"));
        };
        // The header is sound, so its length was meant; the file says how much of it can be there.
        let len = (GROUP_HEADER_BYTES + header.len as usize) as u64;
        if len > remaining {
            return Ok(Step::Bad("the group is longer than the file"));
        }
        let bytes = self.window.get(file, self.position, len)?;
        let (header, runs) = match parse_group(bytes, &identity, self.seed) {
            Ok(parsed) => parsed,
            Err(what) => return Ok(Step::Bad(what)),
        };
        if runs.iter().any(|run| run.header.kind != RUN_META && run.header.kind != RUN_BATCHES) {
            return Ok(Step::Bad("the group holds a run of an unknown type"));
        }
        let group = ScannedGroup {
            segment: identity.segment,
            position: self.position,
            len: round_up(len, block),
            header,
            runs,
        };
        self.position += group.len;
        Ok(Step::Group(group))
    }
}

/// What lies behind the last good group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Position and sequence of a group that proves that a later one than `last_seq` had been durable.
    pub proof: Option<(u64, u64)>,
    /// End of the last block that holds anything but zeros; 0 if there is none.
    pub data_end: u64,
}

/// Searches block by block from `position` to the file's end.
pub fn search_on(segment: &Segment, position: u64, last_seq: u64) -> io::Result<Beyond> {
    let (identity, block) = (segment.header.identity, segment.block());
    let (seed, end) = (identity.seed(), segment.file.len()?);
    let mut beyond = Beyond::default();
    let mut chunk = AlignedBuf::for_pieces(limits::SCAN_BYTES, end.saturating_sub(position));
    let mut at = position;
    while at < end {
        let read = segment.file.read_at(&mut chunk, at)?;
        if read == 0 {
            break;
        }
        for (index, bytes) in chunk[..read].chunks(block as usize).enumerate() {
            let here = at + index as u64 * block;
            if !is_zero(bytes) {
                beyond.data_end = here + bytes.len() as u64;
            }
            if !bytes.starts_with(GROUP_MAGIC) {
                continue;
            }
            match GroupHeader::parse(bytes, &identity, seed) {
                Some(header) if header.durable_seq > last_seq => {
                    beyond.proof = Some((here, header.seq));
                    return Ok(beyond);
                }
                _ => {}
            }
        }
        at += read as u64;
    }
    Ok(beyond)
}

/// Compares the bytes with themselves moved by one, which is a single memcmp and so fast in every build.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.split_last().is_none_or(|(last, before)| *last == 0 && *before == bytes[1..])
}

/// A stretch of a file in memory.
struct Window {
    buf: AlignedBuf,
    start: u64,
    /// What lies from here on is of no interest.
    end: u64,
}

impl Window {
    fn new(start: u64, end: u64) -> Window {
        Window { buf: AlignedBuf::with_capacity(BLOCK_BYTES), start, end }
    }

    /// `len` bytes at `position`, fewer where the file ends. Positions do not go backwards.
    fn get(&mut self, file: &dyn DiskFile, position: u64, len: u64) -> io::Result<&[u8]> {
        let have_end = self.start + self.buf.len() as u64;
        if position < self.start || position + len > have_end {
            self.load(file, position, len as usize)?;
        }
        let skip = (position - self.start) as usize;
        let end = (skip + len as usize).min(self.buf.len());
        Ok(&self.buf[skip.min(end)..end])
    }

    fn load(&mut self, file: &dyn DiskFile, position: u64, len: usize) -> io::Result<()> {
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let want = len.max(limits::SCAN_BYTES.min(left)).next_multiple_of(BLOCK_BYTES);
        let have_end = self.start + self.buf.len() as u64;
        // What is in memory already is kept, if the rest can be read behind it on a block.
        let keep = match position >= self.start && position < have_end && self.buf.len() % BLOCK_BYTES == 0 {
            true => (have_end - position) as usize,
            false => 0,
        };
        let old_len = self.buf.len();
        self.buf.copy_within(old_len - keep.., 0);
        self.buf.resize(want);
        let read = match keep < want {
            true => file.read_at(&mut self.buf[keep..], position + keep as u64)?,
            false => 0,
        };
        self.buf.resize((keep + read).min(want));
        self.start = position;
        Ok(())
    }
}
