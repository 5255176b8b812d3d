//! Owns packs: segments that tidying writes, sorted by partition, which say themselves what they stand for.
//!
//! A pack is written under a temporary name, synced, and only then given its own; so a pack is whole or not there.

use std::io;
use std::sync::Arc;

use byteorder::{BigEndian, ByteOrder};
use bytes::Bytes;

use super::encode::{self, Place};
use super::footer::footer_bytes_max;
use super::format::{parse_entries, round_up, Identity, SegmentHeader, GROUP_HEADER_BYTES, RUN_HEADER_BYTES, RUN_META};
use super::scan::{Scan, Step};
use super::segment::{self, Segment, PACKS_DIR};
use super::{Group, MetaEntry, PartitionId, PlannedBatch, PlannedRun, RecoverError, RunRef, SegmentId};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, DiskFile, OpenMode};
use crate::wire::Uuid;

/// The table of the entry in a pack's first group: where the last group stands. Not a table of ChronikMetaLog's.
const POINTER_TABLE: u8 = 254;
/// The table of the entries in a pack's last group: what the pack stands for. Not one of ChronikMetaLog's either.
pub const COVERAGE_TABLE: u8 = 255;
const COVERAGE_KEY_BYTES: usize = 20;
/// Length of what stands in front of an outcome.
const COVERAGE_VALUE_BYTES: usize = 50;
/// Version of the entries.
const COVERAGE_VERSION: u8 = 0;

/// About what a partition adds to the last group.
const COVERAGE_COST_BYTES: u64 = 128;

/// What a pack stands for in one partition: it replaces everything that the partition had in these offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    pub id: PartitionId,
    /// The first offset of the ranges that it replaces.
    pub from_offset: i64,
    /// The offset behind the last of them.
    pub to_offset: i64,
    /// What the pack holds of them; `None` when nothing was left to keep.
    pub kept: Option<Kept>,
    /// What cleaning came to, as the broker's bytes; empty when the partition was only copied.
    pub outcome: Bytes,
}

/// A partition's batches in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub base_offset: i64,
    pub last_offset: i64,
    /// Largest timestamp in ms; -1 when no record has one.
    pub max_timestamp: i64,
    /// Length of the batches in bytes.
    pub bytes: u64,
}

impl Coverage {
    /// As an entry of the pack's last group.
    fn entry(&self) -> MetaEntry {
        let mut key = [0; COVERAGE_KEY_BYTES];
        key[..16].copy_from_slice(&self.id.topic.0);
        BigEndian::write_i32(&mut key[16..], self.id.partition);
        let none = Kept { base_offset: 0, last_offset: 0, max_timestamp: -1, bytes: 0 };
        let kept = self.kept.unwrap_or(none);
        let mut value = vec![0; COVERAGE_VALUE_BYTES];
        value[0] = COVERAGE_VERSION;
        value[1] = u8::from(self.kept.is_some());
        let numbers = [
            self.from_offset,
            self.to_offset,
            kept.base_offset,
            kept.last_offset,
            kept.max_timestamp,
            kept.bytes as i64,
        ];
        for (number, place) in numbers.iter().zip(value[2..].chunks_exact_mut(8)) {
            BigEndian::write_i64(place, *number);
        }
        value.extend_from_slice(&self.outcome);
        let key = Bytes::copy_from_slice(&key);
        MetaEntry { table: COVERAGE_TABLE, scope: Bytes::new(), key, value: Some(value.into()) }
    }

    /// Reads an entry of a pack's last group; the error says what is wrong.
    pub fn parse(entry: &MetaEntry) -> Result<Coverage, &'static str> {
        let value = entry.value.as_deref().unwrap_or(&[]);
        let is_sound = entry.table == COVERAGE_TABLE
            && entry.key.len() == COVERAGE_KEY_BYTES
            && value.len() >= COVERAGE_VALUE_BYTES
            && value[0] == COVERAGE_VERSION;
        if !is_sound {
            return Err("what the pack stands for is told in a way that is unknown to this program");
        }
        let mut topic = [0; 16];
        topic.copy_from_slice(&entry.key[..16]);
        let number = |at: usize| BigEndian::read_i64(&value[2 + at * 8..]);
        let kept =
            Kept { base_offset: number(2), last_offset: number(3), max_timestamp: number(4), bytes: number(5) as u64 };
        Ok(Coverage {
            id: PartitionId { topic: Uuid(topic), partition: BigEndian::read_i32(&entry.key[16..]) },
            from_offset: number(0),
            to_offset: number(1),
            kept: (value[1] != 0).then_some(kept),
            outcome: Bytes::copy_from_slice(&value[COVERAGE_VALUE_BYTES..]),
        })
    }
}

/// Where a pack is written before it gets its name.
fn temporary(number: u64) -> String {
    format!("{PACKS_DIR}/{number:020}.tmp")
}

/// A pack that is being written, holding about one group in memory. Dropped unfinished, it leaves a temporary file, which
/// `abandon` removes.
#[derive(Debug)]
pub struct PackWriter<'a> {
    disk: &'a dyn Disk,
    number: u64,
    header: SegmentHeader,
    file: Arc<dyn DiskFile>,
    seed: u32,
    /// Where the next group goes.
    position: u64,
    group: Group,
    group_bytes: usize,
    runs: Vec<RunRef>,
    buf: AlignedBuf,
    /// Bytes written so far.
    written: u64,
}

impl<'a> PackWriter<'a> {
    /// Begins a pack about `partitions` partitions, with space for about `content_bytes` of batches.
    ///
    /// # Errors
    /// `StorageFull` when there is no such space; nothing is left behind then.
    pub fn create(
        disk: &'a dyn Disk,
        directory: Uuid,
        number: u64,
        incarnation: u64,
        partitions: usize,
        content_bytes: u64,
    ) -> io::Result<PackWriter<'a>> {
        let block = disk.block_bytes() as u64;
        let coverage_bytes = partitions as u64 * COVERAGE_COST_BYTES;
        let groups = 2 * content_bytes / limits::TIDY_GROUP_BYTES as u64 + 2;
        let runs = groups + partitions as u64;
        let overhead = groups * (GROUP_HEADER_BYTES as u64 + block) + runs * RUN_HEADER_BYTES as u64;
        let file_bytes =
            round_up(2 * block + coverage_bytes + content_bytes + overhead + footer_bytes_max(runs, block), block);
        let identity = Identity { directory, segment: SegmentId::Pack(number), incarnation };
        let header = SegmentHeader { identity, block_bytes: block as u32, file_bytes };
        disk.create_dir(PACKS_DIR)?;
        let file = disk.create(&temporary(number), file_bytes)?;
        Ok(PackWriter {
            disk,
            number,
            header,
            file,
            seed: identity.seed(),
            // The first group, which is written last, takes one block.
            position: 2 * block,
            group: Group { seq: 2, ..Group::default() },
            group_bytes: 0,
            runs: Vec::new(),
            buf: AlignedBuf::with_capacity(2 * limits::TIDY_GROUP_BYTES),
            written: 0,
        })
    }

    /// Appends a batch; those of a partition come together and in offset order. It is copied to the disk as it is.
    pub fn push(
        &mut self,
        id: PartitionId,
        batch: PlannedBatch,
        last_offset: i64,
        max_timestamp: i64,
    ) -> io::Result<()> {
        let bytes = batch.bytes.len();
        if self.group_bytes > 0 && self.group_bytes + bytes > limits::TIDY_GROUP_BYTES {
            self.flush()?;
        }
        self.group_bytes += bytes;
        match self.group.runs.last_mut() {
            Some(run) if run.id == id => {
                run.last_offset = last_offset;
                run.max_timestamp = run.max_timestamp.max(max_timestamp);
                run.batches.push(batch);
            }
            _ => self.group.runs.push(PlannedRun {
                id,
                base_offset: batch.base_offset,
                last_offset,
                max_timestamp,
                batches: vec![batch],
            }),
        }
        Ok(())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.group.runs.is_empty() {
            return Ok(());
        }
        let next = Group { seq: self.group.seq + 1, ..Group::default() };
        let group = std::mem::replace(&mut self.group, next);
        self.group_bytes = 0;
        self.position += self.write(&group, self.position)?;
        Ok(())
    }

    /// Writes a group; its length.
    fn write(&mut self, group: &Group, position: u64) -> io::Result<u64> {
        let block = u64::from(self.header.block_bytes);
        let bytes = encode::group_bytes(group, block).map_err(io::Error::other)?;
        let place = Place {
            identity: &self.header.identity,
            seed: self.seed,
            position,
            previous_seq: group.seq - 1,
            durable_seq: 0,
            block,
        };
        self.buf.clear();
        let runs = encode::encode(group, &place, &mut self.buf);
        self.runs.extend(runs);
        self.file.write_at(&self.buf, position)?;
        self.written += bytes;
        Ok(bytes)
    }

    /// Writes the rest, makes the pack durable and gives it its name. Its length in bytes and number of runs.
    ///
    /// # Errors
    /// Those of the disk; `abandon` then removes what there is.
    pub fn finish(mut self, coverage: &[Coverage]) -> io::Result<(u64, u64)> {
        self.flush()?;
        let (seq, block) = (self.group.seq, u64::from(self.header.block_bytes));
        let last = Group { seq, meta: coverage.iter().map(Coverage::entry).collect(), ..Group::default() };
        let first = Group { seq: 1, meta: vec![pointer(self.position)], ..Group::default() };
        let end = self.position + self.write(&last, self.position)?;
        self.write(&first, block)?;
        self.buf.clear();
        self.header.encode(&mut self.buf);
        self.file.write_at(&self.buf, 0)?;
        let run_count = self.runs.len() as u64;
        let bytes = segment::seal(&*self.file, &self.header, end, &mut self.runs, 1, seq)?;
        self.disk.rename(&temporary(self.number), &segment::path(SegmentId::Pack(self.number)))?;
        self.disk.sync_dir(PACKS_DIR)?;
        Ok((bytes, run_count))
    }
}

/// Removes what an unfinished pack left, under either of its names.
pub fn abandon(disk: &dyn Disk, number: u64) {
    // What cannot be removed now, the next start removes.
    let _ = disk.remove(&temporary(number));
    let _ = disk.remove(&segment::path(SegmentId::Pack(number)));
}

/// The entry of the first group.
fn pointer(position: u64) -> MetaEntry {
    let value = Some(Bytes::copy_from_slice(&position.to_be_bytes()));
    MetaEntry { table: POINTER_TABLE, scope: Bytes::new(), key: Bytes::new(), value }
}

/// What a pack says that it stands for.
///
/// # Errors
/// The pack is missing or damaged, with its path.
pub fn read_coverage(disk: &dyn Disk, directory: Uuid, number: u64) -> Result<Vec<Coverage>, RecoverError> {
    let id = SegmentId::Pack(number);
    let pack = match segment::open(disk, id, OpenMode::Direct, Some(directory)) {
        Err(RecoverError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            let what = "the pack is missing, and the log says that it replaces other segments";
            return Err(RecoverError::lost(segment::path(id), 0, what));
        }
        other => other?,
    };
    coverage_of(&pack)
}

fn coverage_of(pack: &Segment) -> Result<Vec<Coverage>, RecoverError> {
    let lost = |what: &str| RecoverError::lost(segment::path(pack.header.identity.segment), 0, what);
    let first = entries_at(pack, pack.block())?;
    let position = match &first[..] {
        [MetaEntry { table: POINTER_TABLE, value: Some(value), .. }] if value.len() == 8 => BigEndian::read_u64(value),
        _ => return Err(lost("the first group does not say where the last one stands")),
    };
    if position % pack.block() != 0 {
        return Err(lost("the first group names an impossible place"));
    }
    entries_at(pack, position)?.iter().map(Coverage::parse).collect::<Result<_, _>>().map_err(lost)
}

/// The metadata entries of the group that stands at a position.
fn entries_at(pack: &Segment, position: u64) -> Result<Vec<MetaEntry>, RecoverError> {
    let path = segment::path(pack.header.identity.segment);
    let lost = |what: &str| RecoverError::lost(path.clone(), position, what);
    let end = pack.file.len().map_err(RecoverError::io("reading a pack"))?;
    match Scan::new(pack, position, end).next().map_err(RecoverError::io("reading a pack"))? {
        Step::Group(group) => match group.runs.first() {
            Some(run) if run.header.kind == RUN_META => parse_entries(run.content, run.header.count).map_err(lost),
            _ => Err(lost("the group holds no metadata")),
        },
        Step::End => Err(lost("the pack ends before this group")),
        Step::Bad(what) => Err(lost(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_comes_back_as_it_was() {
        let id = PartitionId { topic: Uuid([4; 16]), partition: 3 };
        let kept = Kept { base_offset: 12, last_offset: 18, max_timestamp: 1000, bytes: 77 };
        for (kept, outcome) in [(Some(kept), Bytes::new()), (None, Bytes::from_static(b"clean"))] {
            let coverage = Coverage { id, from_offset: 10, to_offset: 20, kept, outcome };
            assert_eq!(Coverage::parse(&coverage.entry()), Ok(coverage));
        }
        let mut newer = Coverage { id, from_offset: 10, to_offset: 20, kept: None, outcome: Bytes::new() }.entry();
        newer.value = Some(Bytes::from(vec![1; COVERAGE_VALUE_BYTES]));
        assert!(Coverage::parse(&newer).is_err());
    }
}
