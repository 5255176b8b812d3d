//! Owns the bytes of segments and groups, as docs/log-format.md states them: headers, runs, metadata entries.

use byteorder::{BigEndian, ByteOrder};
use bytes::Bytes;

use super::crc::crc_from;
use super::{Group, MetaEntry, PartitionId, PlannedRun, SegmentId};
use crate::canary::{self, Fault};
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{BLOCK_BYTES, BLOCK_BYTES_MAX};
use crate::wire::Uuid;

/// The format that is written; a higher one is refused.
pub const FORMAT_VERSION: u16 = 1;

pub const SEGMENT_MAGIC: &[u8; 8] = b"CHRONSEG";
pub const GROUP_MAGIC: &[u8; 8] = b"CHRONGRP";

pub const IDENTITY_BYTES: usize = 32;
pub const SEGMENT_HEADER_BYTES: usize = 64;
pub const GROUP_HEADER_BYTES: usize = 96;
pub const RUN_HEADER_BYTES: usize = 64;
const ENTRY_HEADER_BYTES: usize = 14;

/// Run type: changes of metadata.
pub const RUN_META: u8 = 1;
/// Run type: batches of one partition.
pub const RUN_BATCHES: u8 = 2;

/// Bytes to count against reserved space for each group, whatever is in it: its header and its padding.
pub const GROUP_COST_BYTES: u64 = (GROUP_HEADER_BYTES + RUN_HEADER_BYTES + BLOCK_BYTES_MAX) as u64;
/// Bytes to count for each run beside its batches: its header and its share of the footer.
pub const RUN_COST_BYTES: u64 = (RUN_HEADER_BYTES + 64) as u64;
/// Bytes to count for each metadata entry beside scope, key and value.
pub const ENTRY_COST_BYTES: u64 = ENTRY_HEADER_BYTES as u64;

/// What a group counts against reserved space (`Written::space_bytes`): an upper bound of the bytes it takes.
pub fn cost_bytes(group: &Group) -> u64 {
    if group.meta.is_empty() && group.runs.is_empty() {
        return 0;
    }
    let meta: usize = group.meta.iter().map(entry_bytes).sum();
    let runs: u64 = group.runs.iter().map(|run| run_bytes(run) as u64 + RUN_COST_BYTES).sum();
    GROUP_COST_BYTES + meta as u64 + runs
}

/// Length of one metadata entry in the log.
pub fn entry_bytes(entry: &MetaEntry) -> usize {
    ENTRY_HEADER_BYTES + entry.scope.len() + entry.key.len() + entry.value.as_ref().map_or(0, Bytes::len)
}

/// Length of a run's batches.
pub fn run_bytes(run: &PlannedRun) -> usize {
    run.batches.iter().map(|batch| batch.bytes.len()).sum()
}

/// The next multiple of `block`, a power of two.
pub fn round_up(bytes: u64, block: u64) -> u64 {
    (bytes + block - 1) & !(block - 1)
}

/// Which use of which file of which data directory some bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub directory: Uuid,
    pub segment: SegmentId,
    pub incarnation: u64,
}

impl Identity {
    pub fn to_bytes(self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        bytes[..16].copy_from_slice(&self.directory.0);
        BigEndian::write_u64(&mut bytes[16..24], self.segment.raw());
        BigEndian::write_u64(&mut bytes[24..32], self.incarnation);
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Identity {
        let mut directory = [0; 16];
        directory.copy_from_slice(&bytes[..16]);
        Identity {
            directory: Uuid(directory),
            segment: SegmentId::from_raw(BigEndian::read_u64(&bytes[16..24])),
            incarnation: BigEndian::read_u64(&bytes[24..32]),
        }
    }

    /// What stands in everything that belongs to this use of the file.
    pub(super) fn mark(self) -> [u8; IDENTITY_BYTES] {
        if canary::has(Fault::StaleAccepted) {
            return [0; IDENTITY_BYTES];
        }
        self.to_bytes()
    }

    /// What seeded CRCs start from.
    pub fn seed(self) -> u32 {
        crc_from(0, &self.mark())
    }
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub identity: Identity,
    pub block_bytes: u32,
    /// Length that the file was preallocated with.
    pub file_bytes: u64,
}

/// Why a segment header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Damaged, with what is wrong.
    Bad(&'static str),
    /// Written by a newer program.
    Newer(u16),
}

impl SegmentHeader {
    /// Appends the header, padded to its block.
    pub fn encode(&self, out: &mut AlignedBuf) {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        BigEndian::write_u16(&mut bytes[8..10], FORMAT_VERSION);
        BigEndian::write_u32(&mut bytes[12..16], self.block_bytes);
        bytes[16..48].copy_from_slice(&self.identity.to_bytes());
        BigEndian::write_u64(&mut bytes[48..56], self.file_bytes);
        let crc = crc_from(0, &bytes[..60]);
        BigEndian::write_u32(&mut bytes[60..64], crc);
        let start = out.len();
        out.extend_from_slice(&bytes);
        out.resize(start + self.block_bytes as usize);
    }

    pub fn parse(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER_BYTES) else {
            return Err(HeaderError::Bad("the file is shorter than a segment header"));
        };
        if &bytes[..8] != SEGMENT_MAGIC {
            return Err(HeaderError::Bad("the segment header does not begin with CHRONSEG"));
        }
        if BigEndian::read_u32(&bytes[60..64]) != crc_from(0, &bytes[..60]) {
            return Err(HeaderError::Bad("the CRC of the segment header is wrong"));
        }
        let version = BigEndian::read_u16(&bytes[8..10]);
        if version > FORMAT_VERSION {
            return Err(HeaderError::Newer(version));
        }
        let block_bytes = BigEndian::read_u32(&bytes[12..16]);
        let block = block_bytes as usize;
        if !block.is_power_of_two() || !(BLOCK_BYTES..=BLOCK_BYTES_MAX).contains(&block) {
            return Err(HeaderError::Bad("the segment header states an impossible block"));
        }
        let file_bytes = BigEndian::read_u64(&bytes[48..56]);
        Ok(SegmentHeader { identity: Identity::parse(&bytes[16..48]), block_bytes, file_bytes })
    }
}

/// What stands in front of a group's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    pub seq: u64,
    pub previous_seq: u64,
    pub durable_seq: u64,
    /// Bytes of runs after this header.
    pub len: u32,
    pub run_count: u32,
    /// CRC of the runs' CRCs.
    pub digest: u32,
}

impl GroupHeader {
    pub fn to_bytes(self, identity: &Identity, seed: u32) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        bytes[..8].copy_from_slice(GROUP_MAGIC);
        bytes[8..40].copy_from_slice(&identity.mark());
        BigEndian::write_u64(&mut bytes[40..48], self.seq);
        BigEndian::write_u64(&mut bytes[48..56], self.previous_seq);
        BigEndian::write_u64(&mut bytes[56..64], self.durable_seq);
        BigEndian::write_u32(&mut bytes[64..68], self.len);
        BigEndian::write_u32(&mut bytes[68..72], self.run_count);
        BigEndian::write_u32(&mut bytes[72..76], self.digest);
        let crc = crc_from(seed, &bytes[..92]);
        BigEndian::write_u32(&mut bytes[92..96], crc);
        bytes
    }

    /// The header of a group of exactly this use of the file; `None` for anything else.
    pub fn parse(bytes: &[u8], identity: &Identity, seed: u32) -> Option<GroupHeader> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        if &bytes[..8] != GROUP_MAGIC || bytes[8..40] != identity.mark() {
            return None;
        }
        if BigEndian::read_u32(&bytes[92..96]) != crc_from(seed, &bytes[..92]) {
            return None;
        }
        Some(GroupHeader {
            seq: BigEndian::read_u64(&bytes[40..48]),
            previous_seq: BigEndian::read_u64(&bytes[48..56]),
            durable_seq: BigEndian::read_u64(&bytes[56..64]),
            len: BigEndian::read_u32(&bytes[64..68]),
            run_count: BigEndian::read_u32(&bytes[68..72]),
            digest: BigEndian::read_u32(&bytes[72..76]),
        })
    }
}

/// What stands in front of a run's batches or entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHeader {
    pub len: u32,
    pub crc: u32,
    pub kind: u8,
    pub id: PartitionId,
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    pub count: u32,
}

impl RunHeader {
    /// The header's bytes; those of the CRC are zero.
    pub fn to_bytes(self) -> [u8; RUN_HEADER_BYTES] {
        let mut bytes = [0; RUN_HEADER_BYTES];
        BigEndian::write_u32(&mut bytes[..4], self.len);
        bytes[8] = self.kind;
        BigEndian::write_i32(&mut bytes[12..16], self.id.partition);
        bytes[16..32].copy_from_slice(&self.id.topic.0);
        BigEndian::write_i64(&mut bytes[32..40], self.base_offset);
        BigEndian::write_i64(&mut bytes[40..48], self.last_offset);
        BigEndian::write_i64(&mut bytes[48..56], self.max_timestamp);
        BigEndian::write_u32(&mut bytes[56..60], self.count);
        bytes
    }

    /// The fields, unchecked but for there being enough bytes.
    pub fn parse(bytes: &[u8]) -> Option<RunHeader> {
        let bytes = bytes.get(..RUN_HEADER_BYTES)?;
        let mut topic = [0; 16];
        topic.copy_from_slice(&bytes[16..32]);
        Some(RunHeader {
            len: BigEndian::read_u32(&bytes[..4]),
            crc: BigEndian::read_u32(&bytes[4..8]),
            kind: bytes[8],
            id: PartitionId { topic: Uuid(topic), partition: BigEndian::read_i32(&bytes[12..16]) },
            base_offset: BigEndian::read_i64(&bytes[32..40]),
            last_offset: BigEndian::read_i64(&bytes[40..48]),
            max_timestamp: BigEndian::read_i64(&bytes[48..56]),
            count: BigEndian::read_u32(&bytes[56..60]),
        })
    }
}

/// One run inside a group's bytes.
#[derive(Clone, Copy, Debug)]
pub struct RunView<'a> {
    pub header: RunHeader,
    /// Where the content begins, counted from the group's first byte.
    pub offset: usize,
    /// Batches or metadata entries.
    pub content: &'a [u8],
}

/// Checks a whole group (header and runs, without padding) and gives its runs; the error says what is wrong.
pub fn parse_group<'a>(
    bytes: &'a [u8],
    identity: &Identity,
    seed: u32,
) -> Result<(GroupHeader, Vec<RunView<'a>>), &'static str> {
    let header = GroupHeader::parse(bytes, identity, seed).ok_or("no group header of this segment")?;
    let end = GROUP_HEADER_BYTES + header.len as usize;
    let body = bytes.get(..end).ok_or("the group is longer than the file")?;
    let mut runs = Vec::new();
    let mut digest = 0;
    let mut at = GROUP_HEADER_BYTES;
    for _ in 0..header.run_count {
        let run = RunHeader::parse(&body[at..]).ok_or("a run header is cut short")?;
        let start = at + RUN_HEADER_BYTES;
        let content = body[start..].get(..run.len as usize).ok_or("a run is longer than its group")?;
        let crc = crc_from(crc_from(seed, &body[at + 8..start]), content);
        if crc != run.crc && !canary::has(Fault::TornTail) {
            return Err("the CRC of a run is wrong");
        }
        digest = crc_from(digest, &body[at + 4..at + 8]);
        runs.push(RunView { header: run, offset: start, content });
        at = start + content.len();
    }
    if (at != end || digest != header.digest) && !canary::has(Fault::TornTail) {
        return Err("the group's runs are not those that its header counts");
    }
    Ok((header, runs))
}

/// Appends one metadata entry.
pub fn encode_entry(entry: &MetaEntry, out: &mut AlignedBuf) {
    let value = entry.value.as_deref().unwrap_or(&[]);
    let mut head = [0; ENTRY_HEADER_BYTES];
    head[0] = entry.table;
    head[1] = entry.value.is_some() as u8;
    BigEndian::write_u32(&mut head[2..6], entry.scope.len() as u32);
    BigEndian::write_u32(&mut head[6..10], entry.key.len() as u32);
    BigEndian::write_u32(&mut head[10..14], value.len() as u32);
    for part in [&head[..], &entry.scope, &entry.key, value] {
        out.extend_from_slice(part);
    }
}

/// The entries of a metadata run; the error says what is wrong.
pub fn parse_entries(content: &[u8], count: u32) -> Result<Vec<MetaEntry>, &'static str> {
    let mut rest = content;
    let mut entries = Vec::new();
    for _ in 0..count {
        let head = rest.get(..ENTRY_HEADER_BYTES).ok_or("a metadata entry is cut short")?;
        let lengths = [2, 6, 10].map(|at| BigEndian::read_u32(&head[at..at + 4]) as usize);
        rest = &rest[ENTRY_HEADER_BYTES..];
        let mut take = |len: usize| -> Result<Bytes, &'static str> {
            let (part, after) = rest.split_at_checked(len).ok_or("a metadata entry is longer than its run")?;
            rest = after;
            Ok(Bytes::copy_from_slice(part))
        };
        let (scope, key, value) = (take(lengths[0])?, take(lengths[1])?, take(lengths[2])?);
        entries.push(MetaEntry { table: head[0], scope, key, value: (head[1] != 0).then_some(value) });
    }
    match rest.is_empty() {
        true => Ok(entries),
        false => Err("bytes are left after a run's metadata entries"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { directory: Uuid([3; 16]), segment: SegmentId::Wal(7), incarnation: 99 }
    }

    #[test]
    fn a_segment_header_comes_back_and_a_newer_one_is_told_apart_from_a_damaged_one() {
        let header = SegmentHeader { identity: identity(), block_bytes: 4096, file_bytes: 1 << 20 };
        let mut out = AlignedBuf::with_capacity(1);
        header.encode(&mut out);
        assert_eq!(out.len(), 4096);
        assert_eq!(SegmentHeader::parse(&out), Ok(header));
        out[9] = 2;
        let crc = crc_from(0, &out[..60]);
        assert!(matches!(SegmentHeader::parse(&out), Err(HeaderError::Bad(_))));
        BigEndian::write_u32(&mut out[60..64], crc);
        assert_eq!(SegmentHeader::parse(&out), Err(HeaderError::Newer(2)));
        assert!(matches!(SegmentHeader::parse(&out[..63]), Err(HeaderError::Bad(_))));
    }

    #[test]
    fn a_group_header_of_another_incarnation_is_nothing() {
        let header = GroupHeader { seq: 5, previous_seq: 4, durable_seq: 3, len: 2, run_count: 1, digest: 8 };
        let bytes = header.to_bytes(&identity(), identity().seed());
        assert_eq!(GroupHeader::parse(&bytes, &identity(), identity().seed()), Some(header));
        let other = Identity { incarnation: 100, ..identity() };
        assert_eq!(GroupHeader::parse(&bytes, &other, other.seed()), None);
    }

    #[test]
    fn entries_come_back_and_lying_lengths_are_errors() {
        let entry = |value: Option<&'static [u8]>| MetaEntry {
            table: 4,
            scope: Bytes::from_static(b"orders"),
            key: Bytes::from_static(b"k"),
            value: value.map(Bytes::from_static),
        };
        let entries = vec![entry(Some(b"v")), entry(None), entry(Some(b""))];
        let mut out = AlignedBuf::with_capacity(1);
        entries.iter().for_each(|e| encode_entry(e, &mut out));
        assert_eq!(out.len(), entries.iter().map(entry_bytes).sum::<usize>());
        assert_eq!(parse_entries(&out, 3).unwrap(), entries);
        assert!(parse_entries(&out, 2).is_err());
        assert!(parse_entries(&out, u32::MAX).is_err());
        for at in 0..out.len() {
            let _ = parse_entries(&out[at..], 3);
        }
    }
}
