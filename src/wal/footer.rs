//! Owns the footer of a sealed segment: the sorted index of its runs, in pages that are read one at a time.

use byteorder::{BigEndian, ByteOrder};

use super::crc::crc_from;
use super::format::{round_up, Identity};
use super::{PartitionId, RunRef};
use crate::sys::aligned::AlignedBuf;
use crate::wire::Uuid;

pub const TRAILER_MAGIC: &[u8; 8] = b"CHRONEND";
pub const TRAILER_BYTES: usize = 128;
/// Length of an index page.
pub const PAGE_BYTES: usize = 4096;
const PAGE_HEADER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 56;
const ENTRIES_PER_PAGE: usize = (PAGE_BYTES - PAGE_HEADER_BYTES) / ENTRY_BYTES;
/// Length of one entry of the page directory.
pub const DIRECTORY_ENTRY_BYTES: usize = 36;

/// The fixed end of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where the groups end and the index pages begin.
    pub groups_end: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub run_count: u32,
    pub page_count: u32,
    /// Smallest and largest of the runs' max timestamps; -1 without runs.
    pub min_timestamp: i64,
    pub max_timestamp: i64,
    pub directory_crc: u32,
}

impl Trailer {
    fn to_bytes(self, identity: &Identity) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(TRAILER_MAGIC);
        bytes[8..40].copy_from_slice(&identity.mark());
        BigEndian::write_u64(&mut bytes[40..48], self.groups_end);
        BigEndian::write_u64(&mut bytes[48..56], self.first_seq);
        BigEndian::write_u64(&mut bytes[56..64], self.last_seq);
        BigEndian::write_u32(&mut bytes[64..68], self.run_count);
        BigEndian::write_u32(&mut bytes[68..72], self.page_count);
        BigEndian::write_i64(&mut bytes[72..80], self.min_timestamp);
        BigEndian::write_i64(&mut bytes[80..88], self.max_timestamp);
        BigEndian::write_u32(&mut bytes[88..92], self.directory_crc);
        let crc = crc_from(identity.seed(), &bytes[..124]);
        BigEndian::write_u32(&mut bytes[124..128], crc);
        bytes
    }

    /// Parses the last `TRAILER_BYTES` of a file of `file_bytes`; `None` when it is not the sound trailer of this
    /// segment.
    pub fn parse(bytes: &[u8], identity: &Identity, file_bytes: u64, block: u64) -> Option<Trailer> {
        let bytes = bytes.get(..TRAILER_BYTES)?;
        if &bytes[..8] != TRAILER_MAGIC || bytes[8..40] != identity.mark() {
            return None;
        }
        if BigEndian::read_u32(&bytes[124..128]) != crc_from(identity.seed(), &bytes[..124]) {
            return None;
        }
        let trailer = Trailer {
            groups_end: BigEndian::read_u64(&bytes[40..48]),
            first_seq: BigEndian::read_u64(&bytes[48..56]),
            last_seq: BigEndian::read_u64(&bytes[56..64]),
            run_count: BigEndian::read_u32(&bytes[64..68]),
            page_count: BigEndian::read_u32(&bytes[68..72]),
            min_timestamp: BigEndian::read_i64(&bytes[72..80]),
            max_timestamp: BigEndian::read_i64(&bytes[80..88]),
            directory_crc: BigEndian::read_u32(&bytes[88..92]),
        };
        let pages = u64::from(trailer.page_count);
        let content = pages * (PAGE_BYTES + DIRECTORY_ENTRY_BYTES) as u64 + TRAILER_BYTES as u64;
        let whole = trailer.groups_end.checked_add(round_up(content, block)) == Some(file_bytes);
        whole.then_some(trailer)
    }

    /// Where the page directory begins.
    pub fn directory_position(&self) -> u64 {
        self.groups_end + u64::from(self.page_count) * PAGE_BYTES as u64
    }

    /// Length of the page directory.
    pub fn directory_bytes(&self) -> usize {
        self.page_count as usize * DIRECTORY_ENTRY_BYTES
    }
}

/// Upper bound of a footer's length for so many runs.
pub fn footer_bytes_max(runs: u64, block: u64) -> u64 {
    let pages = runs.div_ceil(ENTRIES_PER_PAGE as u64);
    round_up(pages * (PAGE_BYTES + DIRECTORY_ENTRY_BYTES) as u64 + TRAILER_BYTES as u64, block)
}

/// Builds a footer that begins at `groups_end` and ends on a block. Sorts `runs`.
pub fn encode(
    runs: &mut [RunRef],
    identity: &Identity,
    groups_end: u64,
    first_seq: u64,
    last_seq: u64,
    block: usize,
) -> AlignedBuf {
    runs.sort_unstable_by_key(|run| (run.id, run.base_offset, run.position));
    let seed = identity.seed();
    let mut out = AlignedBuf::with_capacity(footer_bytes_max(runs.len() as u64, block as u64) as usize);
    let mut directory = Vec::new();
    for page in runs.chunks(ENTRIES_PER_PAGE) {
        encode_page(page, seed, &mut out);
        directory.extend_from_slice(&directory_entry(page));
    }
    out.extend_from_slice(&directory);
    let page_count = (directory.len() / DIRECTORY_ENTRY_BYTES) as u32;
    let trailer = Trailer {
        groups_end,
        first_seq,
        last_seq,
        run_count: runs.len() as u32,
        page_count,
        min_timestamp: runs.iter().map(|run| run.max_timestamp).min().unwrap_or(-1),
        max_timestamp: runs.iter().map(|run| run.max_timestamp).max().unwrap_or(-1),
        directory_crc: crc_from(seed, &directory),
    };
    let end = round_up((out.len() + TRAILER_BYTES) as u64, block as u64) as usize;
    out.resize(end - TRAILER_BYTES);
    out.extend_from_slice(&trailer.to_bytes(identity));
    out
}

fn encode_page(runs: &[RunRef], seed: u32, out: &mut AlignedBuf) {
    let mut page = [0; PAGE_BYTES];
    BigEndian::write_u32(&mut page[..4], runs.len() as u32);
    for (run, entry) in runs.iter().zip(page[PAGE_HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES)) {
        entry[..16].copy_from_slice(&run.id.topic.0);
        BigEndian::write_i32(&mut entry[16..20], run.id.partition);
        BigEndian::write_u32(&mut entry[20..24], run.len);
        BigEndian::write_i64(&mut entry[24..32], run.base_offset);
        BigEndian::write_i64(&mut entry[32..40], run.last_offset);
        BigEndian::write_i64(&mut entry[40..48], run.max_timestamp);
        BigEndian::write_u64(&mut entry[48..56], run.position);
    }
    let crc = crc_from(crc_from(seed, &page[..4]), &page[8..]);
    BigEndian::write_u32(&mut page[4..8], crc);
    out.extend_from_slice(&page);
}

fn directory_entry(page: &[RunRef]) -> [u8; DIRECTORY_ENTRY_BYTES] {
    let mut entry = [0; DIRECTORY_ENTRY_BYTES];
    if let Some(first) = page.first() {
        entry[..16].copy_from_slice(&first.id.topic.0);
        BigEndian::write_i32(&mut entry[16..20], first.id.partition);
        BigEndian::write_i64(&mut entry[20..28], first.base_offset);
        let newest = page.iter().map(|run| run.max_timestamp).max().unwrap_or(-1);
        BigEndian::write_i64(&mut entry[28..36], newest);
    }
    entry
}

/// The runs of one index page; `None` when it is damaged. Positions are checked to lie before `groups_end`.
pub fn parse_page(page: &[u8], identity: &Identity, groups_end: u64) -> Option<Vec<RunRef>> {
    let page = page.get(..PAGE_BYTES)?;
    let crc = crc_from(crc_from(identity.seed(), &page[..4]), &page[8..]);
    let count = BigEndian::read_u32(&page[..4]) as usize;
    if BigEndian::read_u32(&page[4..8]) != crc || count > ENTRIES_PER_PAGE {
        return None;
    }
    let mut runs = Vec::with_capacity(count);
    for entry in page[PAGE_HEADER_BYTES..].chunks_exact(ENTRY_BYTES).take(count) {
        let mut topic = [0; 16];
        topic.copy_from_slice(&entry[..16]);
        let run = RunRef {
            id: PartitionId { topic: Uuid(topic), partition: BigEndian::read_i32(&entry[16..20]) },
            len: BigEndian::read_u32(&entry[20..24]),
            base_offset: BigEndian::read_i64(&entry[24..32]),
            last_offset: BigEndian::read_i64(&entry[32..40]),
            max_timestamp: BigEndian::read_i64(&entry[40..48]),
            position: BigEndian::read_u64(&entry[48..56]),
            segment: identity.segment,
        };
        if run.position.checked_add(u64::from(run.len))? > groups_end {
            return None;
        }
        runs.push(run);
    }
    Some(runs)
}

/// First key and newest timestamp of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSummary {
    pub id: PartitionId,
    pub base_offset: i64,
    pub max_timestamp: i64,
}

/// The page directory; `None` when its CRC is wrong.
pub fn parse_directory(bytes: &[u8], identity: &Identity, trailer: &Trailer) -> Option<Vec<PageSummary>> {
    if bytes.len() != trailer.directory_bytes() || crc_from(identity.seed(), bytes) != trailer.directory_crc {
        return None;
    }
    let summary = |entry: &[u8]| {
        let mut topic = [0; 16];
        topic.copy_from_slice(&entry[..16]);
        PageSummary {
            id: PartitionId { topic: Uuid(topic), partition: BigEndian::read_i32(&entry[16..20]) },
            base_offset: BigEndian::read_i64(&entry[20..28]),
            max_timestamp: BigEndian::read_i64(&entry[28..36]),
        }
    };
    Some(bytes.chunks_exact(DIRECTORY_ENTRY_BYTES).map(summary).collect())
}

/// The pages that may hold runs of `id` whose last offset is at or above `offset`, as a range of page numbers.
///
/// The range begins one page early where a page's first key cannot tell.
pub fn pages_for(directory: &[PageSummary], id: PartitionId, offset: i64) -> std::ops::Range<usize> {
    let after_start = directory.partition_point(|page| (page.id, page.base_offset) <= (id, offset));
    let end = directory.partition_point(|page| page.id <= id);
    after_start.saturating_sub(1)..end.max(after_start)
}

#[cfg(test)]
mod tests {
    use super::super::SegmentId;
    use super::*;

    fn run(topic: u8, partition: i32, base_offset: i64) -> RunRef {
        RunRef {
            id: PartitionId { topic: Uuid([topic; 16]), partition },
            base_offset,
            last_offset: base_offset + 9,
            max_timestamp: 1000 + base_offset,
            segment: SegmentId::Wal(7),
            position: 4096 + base_offset as u64,
            len: 100,
        }
    }

    fn identity() -> Identity {
        Identity { directory: Uuid([3; 16]), segment: SegmentId::Wal(7), incarnation: 99 }
    }

    #[test]
    fn a_footer_finds_every_run_again_with_one_page() {
        let mut runs: Vec<RunRef> = (0..40).flat_map(|n| (0..20).map(move |p| run(p as u8 % 5, p, n * 10))).collect();
        for block in [4096, 16384] {
            let groups_end = 1 << 20;
            let out = encode(&mut runs, &identity(), groups_end, 3, 9, block);
            assert_eq!(out.len() % block, 0);
            assert!(out.len() as u64 <= footer_bytes_max(runs.len() as u64, block as u64));
            let file_bytes = groups_end + out.len() as u64;
            let tail = &out[out.len() - TRAILER_BYTES..];
            let trailer = Trailer::parse(tail, &identity(), file_bytes, block as u64).unwrap();
            assert_eq!((trailer.first_seq, trailer.last_seq, trailer.run_count), (3, 9, 800));
            assert_eq!((trailer.min_timestamp, trailer.max_timestamp), (1000, 1390));
            assert!(Trailer::parse(tail, &identity(), file_bytes + 4096, block as u64).is_none());
            let start = (trailer.directory_position() - groups_end) as usize;
            let directory =
                parse_directory(&out[start..start + trailer.directory_bytes()], &identity(), &trailer).unwrap();
            // Miri takes seconds for a page.
            for wanted in runs.iter().step_by(if cfg!(miri) { 97 } else { 1 }) {
                let pages = pages_for(&directory, wanted.id, wanted.base_offset + 5);
                let page = &out[pages.start * PAGE_BYTES..];
                let found = parse_page(page, &identity(), groups_end).unwrap();
                assert!(found.contains(wanted), "{wanted:?} is not on page {}", pages.start);
            }
        }
    }

    #[test]
    fn an_empty_footer_is_one_block_and_damage_is_noticed() {
        let out = encode(&mut [], &identity(), 8192, 0, 0, 4096);
        assert_eq!(out.len(), 4096);
        let mut tail = out[4096 - TRAILER_BYTES..].to_vec();
        assert!(Trailer::parse(&tail, &identity(), 12288, 4096).is_some());
        for at in 0..tail.len() {
            tail[at] ^= 1;
            assert!(Trailer::parse(&tail, &identity(), 12288, 4096).is_none());
            tail[at] ^= 1;
        }
        let mut runs = [run(1, 1, 0)];
        let mut page = encode(&mut runs, &identity(), 8192, 1, 1, 4096)[..PAGE_BYTES].to_vec();
        assert_eq!(parse_page(&page, &identity(), 8192), Some(runs.to_vec()));
        page[4000] ^= 1;
        assert!(parse_page(&page, &identity(), 8192).is_none());
    }
}
