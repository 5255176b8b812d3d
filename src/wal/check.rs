//! Owns looking at a whole segment file: header, groups, index, from front to back and each byte once.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::footer::{self, Trailer, TRAILER_BYTES};
use super::format::{HeaderError, SegmentHeader, RUN_META};
use super::scan::{Scan, Step};
use super::segment::Segment;
use super::PartitionId;
use crate::limits;
use crate::sys::disk::{DiskFile, BLOCK_BYTES};

/// What a sound segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub groups: u64,
    /// Runs of batches.
    pub runs: u64,
    /// The sequence of its last group; 0 for none.
    pub last_seq: u64,
}

/// What is wrong with a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub position: u64,
    pub what: String,
    /// Partitions that have something from that position on, as far as the index can still tell.
    pub partitions: BTreeSet<PartitionId>,
}

/// Reads a segment and checks every structure in it. Without `is_sealed` it ends with its last group.
///
/// # Errors
/// Reading failed. Damage is no error but an answer.
pub fn check(file: Arc<dyn DiskFile>, is_sealed: bool) -> io::Result<Result<Checked, Damage>> {
    let mut first = vec![0; BLOCK_BYTES];
    let read = file.read_at(&mut first, 0)?;
    let header = match SegmentHeader::parse(&first[..read]) {
        Ok(header) => header,
        Err(HeaderError::Bad(what)) => return Ok(Err(damage(0, what))),
        Err(HeaderError::Newer(version)) => return Ok(Err(damage(0, format!("it has the newer format {version}")))),
    };
    let end = file.len()?;
    let segment = Segment { header, file };
    let (mut checked, mut last_seq) = (Checked::default(), 0);
    let mut scan = Scan::new(&segment, segment.block(), end);
    let what = loop {
        match scan.next()? {
            Step::Group(group) => {
                if group.header.seq <= last_seq {
                    return Ok(Err(damage(group.position, "the groups are not in their order")));
                }
                last_seq = group.header.seq;
                checked.groups += 1;
                checked.runs += group.runs.iter().filter(|run| run.header.kind != RUN_META).count() as u64;
            }
            Step::End => break "the groups go on to its end",
            Step::Bad(what) => break what,
        }
    };
    checked.last_seq = last_seq;
    let position = scan.position();
    match is_sealed {
        true => check_end(&segment, position, what, checked),
        false if position == end => Ok(Ok(checked)),
        false => Ok(Err(damage(position, what))),
    }
}

fn damage(position: u64, what: impl Into<String>) -> Damage {
    Damage { position, what: what.into(), partitions: BTreeSet::new() }
}

/// Checks what stands behind the groups that were found, and that they are all.
fn check_end(
    segment: &Segment,
    position: u64,
    what: &'static str,
    checked: Checked,
) -> io::Result<Result<Checked, Damage>> {
    let (end, identity) = (segment.file.len()?, &segment.header.identity);
    let trailer_at = end.saturating_sub(TRAILER_BYTES as u64);
    let mut bytes = vec![0; TRAILER_BYTES];
    let read = segment.file.read_at(&mut bytes, trailer_at)?;
    let Some(trailer) = Trailer::parse(&bytes[..read], identity, end, segment.block()) else {
        let why = format!("{what}, and the trailer at the end of the file is damaged");
        return Ok(Err(damage(position, why)));
    };
    let (runs, bad_page) = match read_index(segment, &trailer)? {
        Ok(runs) => (runs, None),
        Err((runs, position)) => (runs, Some(position)),
    };
    if trailer.groups_end != position {
        // Runs are found by where they stand, so those from the damage on are the ones that may be lost.
        let partitions = runs.iter().filter(|(_, at)| *at >= position).map(|(id, _)| *id).collect();
        return Ok(Err(Damage { position, what: what.to_owned(), partitions }));
    }
    if let Some(position) = bad_page {
        return Ok(Err(damage(position, "the index of its runs is damaged")));
    }
    if trailer.last_seq != checked.last_seq || u64::from(trailer.run_count) != checked.runs {
        return Ok(Err(damage(trailer_at, "the trailer speaks of other groups")));
    }
    Ok(Ok(checked))
}

type Index = Vec<(PartitionId, u64)>;

/// Partition and position of every run in the index; with what could be read, the position of the first damage.
fn read_index(segment: &Segment, trailer: &Trailer) -> io::Result<Result<Index, (Index, u64)>> {
    let identity = &segment.header.identity;
    let (mut runs, mut bad) = (Vec::new(), None);
    let mut page = vec![0; footer::PAGE_BYTES];
    for number in 0..u64::from(trailer.page_count).min(limits::SEGMENT_PAGES_MAX) {
        let at = trailer.groups_end + number * footer::PAGE_BYTES as u64;
        let read = segment.file.read_at(&mut page, at)?;
        match footer::parse_page(&page[..read], identity, trailer.groups_end) {
            Some(found) => runs.extend(found.iter().map(|run| (run.id, run.position))),
            None => bad = bad.or(Some(at)),
        }
    }
    let mut directory = vec![0; trailer.directory_bytes().min(limits::SEGMENT_DIRECTORY_BYTES_MAX)];
    let read = segment.file.read_at(&mut directory, trailer.directory_position())?;
    if footer::parse_directory(&directory[..read], identity, trailer).is_none() {
        bad = bad.or(Some(trailer.directory_position()));
    }
    match bad {
        None => Ok(Ok(runs)),
        Some(position) => Ok(Err((runs, position))),
    }
}
