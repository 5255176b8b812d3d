//! Owns looking at the log's files without opening the log: goes on behind damage, and says what is damaged and what stood
//! there. Nothing here writes.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

pub use super::checkpoint::Header as CheckpointHeader;
use super::checkpoint::{self, Unusable};
use super::crc::crc_from;
pub use super::footer::Trailer;
use super::footer::{self, PAGE_BYTES};
use super::format::{
    GroupHeader, HeaderError, Identity, RunHeader, SegmentHeader, GROUP_HEADER_BYTES, GROUP_MAGIC, IDENTITY_BYTES,
    RUN_HEADER_BYTES, SEGMENT_HEADER_BYTES,
};
use super::recovery::read_trailer;
pub use super::scan::ScannedGroup;
use super::scan::{search_on, Scan, Step};
use super::segment::{self, Segment};
use super::{GroupSeq, RecoverError, RunRef, SegmentId};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES};
use crate::wire::batch::{self, Batch};
use crate::wire::Uuid;

/// A segment's file as it is found.
#[derive(Clone, Debug)]
pub struct View {
    segment: Segment,
    /// Path below the data directory, or as it was given.
    pub file: String,
    /// Length of the file.
    pub bytes: u64,
    /// What a sealed segment says about itself; `None` when it is not sealed, or the trailer is damaged.
    pub trailer: Option<Trailer>,
}

/// What stands in a segment, in order.
pub enum Item<'a> {
    /// A whole group.
    Group(ScannedGroup<'a>),
    /// A whole group that belongs elsewhere in the segment: what stood there is overwritten.
    Stray(ScannedGroup<'a>),
    /// A stretch in which no whole group stands.
    Bad(Bad),
}

/// A stretch without a whole group.
pub struct Bad {
    pub position: u64,
    /// Where the next group begins, or the segment's groups end.
    pub end: u64,
    pub what: &'static str,
    /// It had been durable once: something later proves that. Otherwise it is the torn end of an unsealed segment, whose
    /// content nobody was promised.
    pub was_durable: bool,
    /// The group's header, if that is sound.
    pub header: Option<GroupHeader>,
    /// The group's runs as far as they can be found.
    pub runs: Vec<PartialRun>,
    /// Not all of the group's runs were found, or it is not known how many it had.
    pub is_partial: bool,
}

/// A run of a group that is not whole.
pub struct PartialRun {
    pub header: RunHeader,
    /// Position of the content in the file.
    pub position: u64,
    /// Batches or entries; cut short where the file ends.
    pub content: Vec<u8>,
    /// Its checksum is right.
    pub is_sound: bool,
}

/// The index of a sealed segment, read on its own.
#[derive(Debug, Default)]
pub struct Index {
    /// The runs on sound pages.
    pub runs: Vec<RunRef>,
    /// Position, length and fault of each damaged part.
    pub damaged: Vec<(u64, u64, String)>,
}

/// Opens a segment of a data directory.
pub fn open(disk: &dyn Disk, id: SegmentId, directory: Option<Uuid>) -> Result<View, RecoverError> {
    let segment = segment::open(disk, id, OpenMode::Cached, directory)?;
    View::new(segment, segment::path(id)).map_err(RecoverError::io("reading a segment"))
}

/// Opens a segment by its file alone, whatever its name.
pub fn open_file(file: Arc<dyn DiskFile>, name: &str) -> Result<View, RecoverError> {
    let mut head = vec![0; SEGMENT_HEADER_BYTES];
    let read = file.read_at(&mut head, 0).map_err(RecoverError::io("reading a segment"))?;
    let header = match SegmentHeader::parse(&head[..read]) {
        Ok(header) => header,
        Err(HeaderError::Bad(what)) => return Err(RecoverError::lost(name, 0, what)),
        Err(HeaderError::Newer(version)) => {
            return Err(RecoverError::Newer {
                file: name.to_owned(),
                version,
                supported: super::format::FORMAT_VERSION,
            })
        }
    };
    View::new(Segment { header, file }, name.to_owned()).map_err(RecoverError::io("reading a segment"))
}

/// Opens a segment whose header is damaged: each of its groups repeats what it needs. `None` when no group is found.
pub fn open_by_groups(disk: &dyn Disk, id: SegmentId, directory: Uuid, block: u32) -> io::Result<Option<View>> {
    let name = segment::path(id);
    let file = disk.open(&name, OpenMode::Cached)?;
    let file_bytes = file.len()?;
    let mut chunk = AlignedBuf::for_pieces(limits::SCAN_BYTES, file_bytes);
    let mut at = 0;
    while at < file_bytes {
        let read = file.read_at(&mut chunk, at)?;
        if read == 0 {
            break;
        }
        for bytes in chunk[..read].chunks(BLOCK_BYTES).filter(|bytes| bytes.starts_with(GROUP_MAGIC)) {
            let Some(identity) = bytes.get(8..8 + IDENTITY_BYTES).map(Identity::parse) else { continue };
            let is_ours = identity.directory == directory && identity.segment == id;
            if is_ours && GroupHeader::parse(bytes, &identity, identity.seed()).is_some() {
                let header = SegmentHeader { identity, block_bytes: block, file_bytes };
                return View::new(Segment { header, file }, name).map(Some);
            }
        }
        at += read as u64;
    }
    Ok(None)
}

/// A checkpoint's header and the broker's bytes, or what is wrong with it.
pub type FoundCheckpoint = Result<(CheckpointHeader, Vec<u8>), String>;

/// Reads a checkpoint and checks it.
pub fn checkpoint(disk: &dyn Disk, seq: GroupSeq) -> io::Result<FoundCheckpoint> {
    Ok(checkpoint::load(disk, seq)?.map_err(told))
}

/// The copy of a checkpoint ([`checkpoint::write_twice`]), if there is one.
pub fn checkpoint_copy(disk: &dyn Disk, seq: GroupSeq) -> io::Result<Option<FoundCheckpoint>> {
    match checkpoint::load_from(disk, &checkpoint::copy_path(seq), seq) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other?.map_err(told))),
    }
}

fn told(unusable: Unusable) -> String {
    match unusable {
        Unusable::Damaged(what) => what.to_owned(),
        Unusable::Newer(version) => format!("it has format {version}, which a newer version of this program wrote"),
    }
}

impl View {
    fn new(segment: Segment, file: String) -> io::Result<View> {
        let (bytes, trailer) = (segment.file.len()?, read_trailer(&segment)?);
        Ok(View { segment, file, bytes, trailer })
    }

    pub fn header(&self) -> &SegmentHeader {
        &self.segment.header
    }

    pub fn id(&self) -> SegmentId {
        self.segment.header.identity.segment
    }

    /// Where groups end at the latest.
    pub fn groups_end(&self) -> u64 {
        self.trailer.map_or(self.bytes, |trailer| trailer.groups_end)
    }

    /// The header of the first group, if a sound one stands where it belongs.
    pub fn first_group(&self) -> io::Result<Option<GroupHeader>> {
        let mut head = AlignedBuf::with_capacity(BLOCK_BYTES);
        head.resize(BLOCK_BYTES);
        let read = self.segment.file.read_at(&mut head, self.segment.block())?;
        let identity = &self.segment.header.identity;
        Ok(GroupHeader::parse(&head[..read], identity, identity.seed()))
    }

    /// Whether a file of this length ends in a footer for so many runs, behind groups that end at `groups_end`.
    pub fn has_room_for_footer_only(&self, groups_end: u64, runs: usize) -> bool {
        groups_end + footer::footer_bytes_max(runs as u64, self.segment.block()) == self.bytes
    }

    /// Reads the index of a sealed segment.
    pub fn index(&self) -> io::Result<Index> {
        let mut index = Index::default();
        let Some(trailer) = &self.trailer else { return Ok(index) };
        let identity = &self.segment.header.identity;
        let mut page = vec![0; PAGE_BYTES];
        let mut firsts = Vec::new();
        for number in 0..u64::from(trailer.page_count) {
            let position = trailer.groups_end + number * PAGE_BYTES as u64;
            let read = self.segment.file.read_at(&mut page, position)?;
            let runs = footer::parse_page(&page[..read], identity, trailer.groups_end);
            firsts.push(runs.as_ref().map(|runs| runs.first().map(|run| (run.id, run.base_offset))));
            match runs {
                Some(runs) => index.runs.extend(runs),
                None => {
                    let what = format!("page {number} of the index is damaged");
                    index.damaged.push((position, PAGE_BYTES as u64, what));
                }
            }
        }
        let (position, len) = (trailer.directory_position(), trailer.directory_bytes());
        let mut bytes = vec![0; len];
        let read = self.segment.file.read_at(&mut bytes, position)?;
        let summaries = footer::parse_directory(&bytes[..read], identity, trailer);
        let agrees = summaries.as_ref().is_some_and(|summaries| {
            let named = summaries.iter().map(|summary| (summary.id, summary.base_offset));
            named.zip(&firsts).all(|(named, first)| first.is_none_or(|first| first == Some(named)))
        });
        if !agrees {
            index.damaged.push((position, len as u64, "the directory of the index is damaged".to_owned()));
        }
        Ok(index)
    }

    /// Walks the groups from the first on and goes on behind damage. `is_followed` says that later segments have groups,
    /// which proves that this one was whole. Holds one group at a time.
    pub fn walk<E: From<io::Error>>(
        &self,
        is_followed: bool,
        take: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.walk_after(None, is_followed, take)
    }

    /// The same, with the group that the first one here should follow, if that is known.
    pub fn walk_after<E: From<io::Error>>(
        &self,
        before: Option<GroupSeq>,
        is_followed: bool,
        take: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = self.groups_end();
        let mut position = self.segment.block();
        let mut last_seq = 0;
        // Looked for once something is not in order: that costs one more reading of the file.
        let mut strays: Option<BTreeSet<u64>> = None;
        loop {
            let mut scan = Scan::new(&self.segment, position, end);
            let what = loop {
                match scan.next()? {
                    Step::Group(group) => {
                        let previous = group.header.previous_seq;
                        let is_next =
                            if last_seq == 0 { before.is_none_or(|b| b == previous) } else { previous == last_seq };
                        if strays.is_none() && !is_next {
                            strays = Some(self.strays()?);
                        }
                        if strays.as_ref().is_some_and(|strays| strays.contains(&group.position)) {
                            take(Item::Stray(group))?;
                            continue;
                        }
                        last_seq = group.header.seq;
                        take(Item::Group(group))?;
                    }
                    Step::End => return Ok(()),
                    Step::Bad(what) => break what,
                }
            };
            position = scan.position();
            let place = Place { position, end, last_seq, is_followed };
            match self.bad(place, what, &mut strays, take)? {
                Some(next) => position = next,
                None => return Ok(()),
            }
        }
    }

    /// Reports the stretch from `position` on; where the walk goes on, if it does.
    fn bad<E: From<io::Error>>(
        &self,
        place: Place,
        what: &'static str,
        strays: &mut Option<BTreeSet<u64>>,
        take: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<Option<u64>, E> {
        let Place { position, end, last_seq, is_followed } = place;
        let beyond = search_on(&self.segment, position, last_seq)?;
        let was_durable = self.trailer.is_some() || is_followed || beyond.proof.is_some();
        if !was_durable && beyond.data_end <= position {
            // Only zeros: the room that an unsealed segment has left.
            return Ok(None);
        }
        let block = self.segment.block();
        let identity = &self.segment.header.identity;
        let mut bytes = vec![0; block.min(end - position) as usize];
        let read = self.segment.file.read_at(&mut bytes, position)?;
        let strays = match strays {
            Some(strays) => strays,
            None => strays.insert(self.strays()?),
        };
        // A stray header says nothing of what stood here.
        let header = GroupHeader::parse(&bytes[..read], identity, identity.seed());
        let header = header.filter(|_| !strays.contains(&position));
        let own_end = header.map_or(position + block, |header| {
            let len = GROUP_HEADER_BYTES as u64 + u64::from(header.len);
            position + super::format::round_up(len, block).min(end - position)
        });
        let next = if was_durable { self.next_group(own_end, end)? } else { None };
        let stretch_end = match was_durable {
            true => next.unwrap_or(end),
            false => beyond.data_end,
        };
        let runs = self.partial_runs(position, if header.is_some() { own_end } else { stretch_end }, header)?;
        let is_partial = header.is_none_or(|header| runs.len() < header.run_count as usize);
        take(Item::Bad(Bad { position, end: stretch_end, what, was_durable, header, runs, is_partial }))?;
        Ok(next)
    }

    /// The runs of the group at `position`, as far as their own headers lead. Without the group's header only runs whose
    /// checksums are right are believed.
    fn partial_runs(&self, position: u64, end: u64, group: Option<GroupHeader>) -> io::Result<Vec<PartialRun>> {
        let seed = self.segment.header.identity.seed();
        let count = group.map_or(u32::MAX, |group| group.run_count);
        let mut runs = Vec::new();
        let mut at = position + GROUP_HEADER_BYTES as u64;
        while (runs.len() as u64) < u64::from(count) && at + RUN_HEADER_BYTES as u64 <= end {
            let mut head = [0; RUN_HEADER_BYTES];
            let read = self.segment.file.read_at(&mut head, at)?;
            let Some(header) = RunHeader::parse(&head[..read]) else { break };
            let start = at + RUN_HEADER_BYTES as u64;
            let is_cut = u64::from(header.len) > end - start;
            if is_cut && group.is_none() {
                break;
            }
            let mut content = vec![0; u64::from(header.len).min(end - start) as usize];
            let read = self.segment.file.read_at(&mut content, start)?;
            content.truncate(read);
            let crc = crc_from(crc_from(seed, &head[8..]), &content);
            let is_sound = !is_cut && read == header.len as usize && crc == header.crc;
            if group.is_none() && !is_sound {
                break;
            }
            at = start + content.len() as u64;
            runs.push(PartialRun { header, position: start, content, is_sound });
        }
        Ok(runs)
    }

    /// Positions of sound headers that are not in the order of the others, which always grows: pages that belong elsewhere.
    fn strays(&self) -> io::Result<BTreeSet<u64>> {
        let (mut headers, mut at) = (Vec::new(), self.segment.block());
        let end = self.groups_end();
        while let Some(position) = self.next_group(at, end)? {
            let mut head = [0; GROUP_HEADER_BYTES];
            let read = self.segment.file.read_at(&mut head, position)?;
            let identity = &self.segment.header.identity;
            headers.extend(GroupHeader::parse(&head[..read], identity, identity.seed()).map(|one| (position, one.seq)));
            at = position + self.segment.block();
        }
        let in_order = longest_growing(&headers);
        Ok(headers.into_iter().map(|(position, _)| position).filter(|position| !in_order.contains(position)).collect())
    }

    /// The next group header of this segment on a block from `position` on.
    fn next_group(&self, position: u64, end: u64) -> io::Result<Option<u64>> {
        let identity = &self.segment.header.identity;
        let seed = identity.seed();
        let mut chunk = AlignedBuf::for_pieces(limits::SCAN_BYTES, end.saturating_sub(position));
        let mut at = position;
        while at < end {
            let read = self.segment.file.read_at(&mut chunk, at)?;
            if read == 0 {
                break;
            }
            for (number, bytes) in chunk[..read].chunks(self.segment.block() as usize).enumerate() {
                let here = at + number as u64 * self.segment.block();
                if here < end && GroupHeader::parse(bytes, identity, seed).is_some() {
                    return Ok(Some(here));
                }
            }
            at += read as u64;
        }
        Ok(None)
    }
}

/// Where a walk has come to no whole group.
#[derive(Clone, Copy)]
struct Place {
    position: u64,
    end: u64,
    last_seq: GroupSeq,
    is_followed: bool,
}

/// Positions of the longest row of sequences that grows.
fn longest_growing(headers: &[(u64, GroupSeq)]) -> BTreeSet<u64> {
    // For each length the header that such a row ends with, with the least sequence; and before each header the one it follows.
    let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), vec![None; headers.len()]);
    for (number, (_, seq)) in headers.iter().enumerate() {
        let len = ends.partition_point(|end| headers[*end].1 < *seq);
        before[number] = len.checked_sub(1).map(|len| ends[len]);
        match ends.get_mut(len) {
            Some(end) => *end = number,
            None => ends.push(number),
        }
    }
    let row = std::iter::successors(ends.last().copied(), |number| before[*number]);
    row.map(|number| headers[number].0).collect()
}

/// Batches of a damaged run that are sound by their own checksums, and the offsets that are lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Readable {
    /// Where in the content, in offset order.
    pub batches: Vec<Range<usize>>,
    /// First and last offset of what cannot be read.
    pub lost: Option<(i64, i64)>,
}

/// Looks for the batches of a damaged run that can still be read.
///
/// A batch's checksum does not cover its offset. So a batch counts only if its offset is the one that follows from the
/// run's first offset and all batches before it, or from the run's last and all behind it.
pub fn readable_batches(base_offset: i64, last_offset: i64, content: &[u8]) -> Readable {
    let mut found: Vec<(Range<usize>, Option<batch::BatchHeader>)> = Vec::new();
    let mut at = 0;
    let is_whole = loop {
        if at == content.len() {
            break true;
        }
        match Batch::parse(&content[at..]) {
            Ok(one) => {
                let range = at..at + one.bytes.len();
                found.push((range.clone(), batch::verify_crc(one.bytes).then_some(one.header)));
                at = range.end;
            }
            Err(_) => break false,
        }
    };
    let (mut first, mut last) = (base_offset, last_offset);
    let mut front = 0;
    while let Some((_, Some(header))) = found.get(front) {
        if header.base_offset != first || header.last_offset() < first || header.last_offset() > last {
            break;
        }
        first = header.last_offset() + 1;
        front += 1;
    }
    let mut back = found.len();
    while let (true, Some((_, Some(header)))) = (is_whole && back > front, found.get(back.wrapping_sub(1))) {
        if header.last_offset() != last || header.base_offset > last || header.base_offset < first {
            break;
        }
        last = header.base_offset - 1;
        back -= 1;
    }
    let batches = found[..front].iter().chain(&found[back..]).map(|(range, _)| range.clone()).collect();
    Readable { batches, lost: (first <= last).then_some((first, last)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::{set_base_offset, BatchBuilder};

    /// Three batches of two records each, from offset 10 on.
    fn content() -> Vec<u8> {
        let mut content = Vec::new();
        for base in [10, 12, 14] {
            let mut builder = BatchBuilder::new();
            builder.push(1, None, Some(b"one"), &[]);
            builder.push(2, None, Some(b"two"), &[]);
            let mut batch = builder.build().unwrap();
            set_base_offset(&mut batch, base);
            content.extend_from_slice(&batch);
        }
        content
    }

    #[test]
    fn groups_that_belong_elsewhere_are_not_in_the_longest_row() {
        let row = |seqs: &[u64]| {
            let headers: Vec<(u64, GroupSeq)> = seqs.iter().enumerate().map(|(at, seq)| (at as u64, *seq)).collect();
            longest_growing(&headers).into_iter().collect::<Vec<u64>>()
        };
        assert_eq!(row(&[]), [0; 0]);
        assert_eq!(row(&[1, 2, 5, 9]), [0, 1, 2, 3]);
        // A copy of a later group, of an earlier one, and in the first place.
        assert_eq!(row(&[1, 2, 6, 4, 5, 6]), [0, 1, 3, 4, 5]);
        assert_eq!(row(&[1, 2, 3, 1, 5, 6]), [0, 1, 2, 4, 5]);
        assert_eq!(row(&[3, 2, 3]), [1, 2]);
    }

    #[test]
    fn batches_around_a_damaged_one_are_found_and_its_offsets_are_named() {
        let sound = content();
        let len = sound.len() / 3;
        assert_eq!(readable_batches(10, 15, &sound).lost, None);
        for (victim, lost) in [(0, (10, 11)), (1, (12, 13)), (2, (14, 15))] {
            let mut damaged = sound.clone();
            damaged[victim * len + len - 1] ^= 1;
            let found = readable_batches(10, 15, &damaged);
            assert_eq!((found.batches.len(), found.lost), (2, Some(lost)));
        }
    }

    #[test]
    fn a_batch_with_a_damaged_offset_is_not_taken_for_another() {
        let mut damaged = content();
        let len = damaged.len() / 3;
        damaged[len + 7] ^= 1;
        let found = readable_batches(10, 15, &damaged);
        assert_eq!((found.batches, found.lost), (vec![0..len, 2 * len..3 * len], Some((12, 13))));
    }

    #[test]
    fn content_that_is_cut_or_damaged_anywhere_never_yields_what_is_not_sound() {
        let sound = content();
        for at in 0..sound.len() {
            assert!(readable_batches(10, 15, &sound[..at]).lost.is_some());
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            for range in readable_batches(10, 15, &damaged).batches {
                // Leader epochs are outside all checksums of a batch.
                let same =
                    damaged[range.clone()][..12] == sound[range.clone()][..12] && batch::verify_crc(&damaged[range]);
                assert!(same, "byte {at}");
            }
        }
    }
}
