//! Owns reading every byte of a data directory: what is sound is handed on, what is not becomes a finding.

use std::collections::{BTreeMap, BTreeSet};

use super::datadir::Names;
use super::failure::Failure;
use super::findings::{joined, uncovered, Extent, Finding, Grade};
use crate::broker::checkpoint::{self, Snapshot};
use crate::broker::metalog;
use crate::sys::disk::{Disk, BLOCK_BYTES};
use crate::wal::format::{parse_entries, RunHeader, RUN_META};
use crate::wal::inspect::{self, Bad, CheckpointHeader, Index, Item, PartialRun, ScannedGroup, View};
use crate::wal::marker::{self, Marker};
use crate::wal::pack::{Coverage, COVERAGE_TABLE};
use crate::wal::settings::MetadataStore;
use crate::wal::{self, files, segment, GroupSeq, MetaEntry, PartitionId, RecoverError, RunRef, SegmentId};
use crate::wire::batch::{self, verify_crc};
use crate::wire::Uuid;

/// Takes what is sound: packs first, then the log in its order. Groups of packs are numbered on their own.
pub trait Taker {
    /// The newest sound checkpoint, and what sound metadata files hold. Comes first.
    fn begin(&mut self, _base: Option<&Base>, _file_entries: &[MetaEntry]) {}
    /// A change of metadata in the log; not called for metadata in files.
    fn meta(&mut self, seq: GroupSeq, entry: MetaEntry) -> Result<(), Failure>;
    /// Whole batches of one partition.
    fn run(&mut self, seq: GroupSeq, run: RunRef, batches: &[u8]) -> Result<(), Failure>;
}

/// Takes nothing: only the findings are wanted.
pub struct Nothing;

impl Taker for Nothing {
    fn meta(&mut self, _: GroupSeq, _: MetaEntry) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&mut self, _: GroupSeq, _: RunRef, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// How much was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    pub segments: u64,
    pub bytes: u64,
    pub groups: u64,
    pub batches: u64,
    pub checkpoints: u64,
}

/// The newest sound checkpoint.
pub struct Base {
    pub header: CheckpointHeader,
    pub snapshot: Snapshot,
}

/// What a reading of the directory has come to.
#[derive(Default)]
pub struct Survey {
    pub findings: Vec<Finding>,
    pub names: Names,
    pub read: Read,
    pub marker: Option<Marker>,
    pub base: Option<Base>,
    /// Sound entries of metadata files.
    pub file_entries: Vec<MetaEntry>,
    directory: Option<Uuid>,
    /// The last group, as long as nothing was damaged since.
    chain: Option<GroupSeq>,
    /// The segment of `chain` is soundly sealed.
    is_chain_sealed: bool,
    /// The offset that follows each partition's last run, and how many findings there were then.
    partitions: BTreeMap<PartitionId, (i64, usize)>,
    /// What sound packs say that they stand for.
    pub coverage: BTreeMap<u64, Vec<Extent>>,
    /// Packs that have taken the place of other segments, by the changes of metadata that were read.
    packs: BTreeSet<u64>,
    /// Segments that only object storage has; they are not read.
    pub remote: BTreeSet<SegmentId>,
    /// Bytes of a block, as far as a segment has told.
    block: u32,
}

/// What is known of a segment before it is read: whether later ones have groups, and what the first of those follows.
#[derive(Clone, Copy, Default)]
struct Ahead {
    is_followed: bool,
    previous_seq: Option<GroupSeq>,
}

impl Survey {
    /// Reads everything, and hands on what is sound.
    pub fn all(disk: &dyn Disk, taker: &mut dyn Taker) -> Result<Survey, Failure> {
        let mut survey = Survey { block: BLOCK_BYTES as u32, ..Survey::default() };
        let listed = segment::list(disk).unwrap_or_default();
        let packs = segment::list_packs(disk)?;
        survey.read_marker(disk);
        survey.find_directory(disk, &listed);
        survey.read_checkpoints(disk)?;
        survey.read_files(disk)?;
        survey.find_remote(&listed, &packs);
        let mut missing = survey.missing(&listed, &packs);
        taker.begin(survey.base.as_ref(), &survey.file_entries);
        for (id, bytes) in &packs {
            survey.read.bytes += bytes;
            // A pack gets its name once it is whole and durable, so none has an end that is torn.
            survey.segment(disk, *id, Ahead { is_followed: true, previous_seq: None }, taker)?;
            survey.chain = None;
        }
        let ahead = look_ahead(disk, &listed, survey.directory);
        for ((id, bytes), ahead) in listed.iter().zip(ahead) {
            survey.read.bytes += bytes;
            // In their place, so that gaps in the records that follow are put down to them.
            while let Some(finding) = missing.first_entry().filter(|entry| entry.key() < id) {
                survey.findings.push(finding.remove());
                survey.chain = None;
            }
            survey.segment(disk, *id, ahead, taker)?;
        }
        survey.findings.extend(missing.into_values());
        survey.find_missing_packs(&packs);
        survey.forgive_replaced();
        Ok(survey)
    }

    /// Reads some segments only; what stands elsewhere is not judged.
    pub fn some(names: Names, views: &[View]) -> Result<Survey, Failure> {
        let mut survey = Survey { names, block: BLOCK_BYTES as u32, ..Survey::default() };
        for view in views {
            survey.chain = None;
            survey.read.bytes += view.bytes;
            let ahead = Ahead { is_followed: view.id().is_pack(), previous_seq: None };
            survey.view(view, ahead, &mut Nothing)?;
        }
        Ok(survey)
    }

    /// Whether anything is damaged. A torn end is not.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.grade != Grade::Torn)
    }

    /// Everything that is lost, joined.
    pub fn lost(&self) -> Vec<Extent> {
        let damage = self.findings.iter().filter(|finding| finding.grade == Grade::Damage);
        joined(damage.flat_map(|finding| finding.lost.iter().copied()).collect())
    }

    fn read_marker(&mut self, disk: &dyn Disk) {
        match Marker::load(disk) {
            Ok(Some(marker)) => {
                self.directory = Some(marker.directory);
                self.marker = Some(marker);
            }
            Ok(None) => self.findings.push(Finding::new(Grade::Damage, marker::PATH, 0, "it is missing")),
            Err(error) => self.refused(error, marker::PATH),
        }
    }

    /// Turns a refusal of the log into a finding.
    fn refused(&mut self, error: RecoverError, file: &str) {
        let finding = match error {
            RecoverError::Corrupt { file, position, what, .. } => Finding::new(Grade::Damage, file, position, what),
            RecoverError::Newer { file, version, supported } => {
                let what = format!("it has format {version}, and this program knows formats up to {supported}");
                Finding::new(Grade::Damage, file, 0, what)
            }
            other => Finding::new(Grade::Damage, file, 0, other.to_string()),
        };
        self.findings.push(finding);
    }

    /// The segments tell which directory this is, if there is no marker, or if it names one to which none of them belongs: their
    /// headers have checksums, and the marker has none.
    fn find_directory(&mut self, disk: &dyn Disk, listed: &[(SegmentId, u64)]) {
        let mut counts: BTreeMap<Uuid, usize> = BTreeMap::new();
        let mut block = None;
        for view in listed.iter().filter_map(|(id, _)| inspect::open(disk, *id, None).ok()) {
            *counts.entry(view.header().identity.directory).or_default() += 1;
            block.get_or_insert(view.header().block_bytes);
        }
        self.block = block.unwrap_or(self.block);
        let most = counts.iter().max_by_key(|(_, count)| **count).map(|(directory, _)| *directory);
        match (self.directory, most) {
            (None, most) => self.directory = most,
            (Some(own), Some(most)) if !counts.contains_key(&own) => {
                let what = "it names a directory to which no segment belongs";
                self.findings.push(Finding::new(Grade::Damage, marker::PATH, 0, what));
                self.directory = Some(most);
            }
            _ => {}
        }
    }

    /// A checkpoint, or the copy that stands in for it. Whichever is damaged is told.
    fn sound_checkpoint(
        &mut self,
        disk: &dyn Disk,
        seq: GroupSeq,
    ) -> Result<Option<(inspect::CheckpointHeader, Vec<u8>)>, Failure> {
        let copy = match inspect::checkpoint_copy(disk, seq)? {
            None => None,
            Some(Ok(found)) => Some(found),
            Some(Err(what)) => {
                self.findings.push(Finding::new(Grade::Index, wal::checkpoint::copy_path(seq), 0, what));
                None
            }
        };
        match inspect::checkpoint(disk, seq)? {
            Ok(found) => Ok(Some(found)),
            Err(what) => {
                let instead =
                    if copy.is_some() { "its copy is used" } else { "an older one is used, or all of the log" };
                let what = format!("{what}; {instead}");
                self.findings.push(Finding::new(Grade::Index, wal::checkpoint::path(seq), 0, what));
                Ok(copy)
            }
        }
    }

    fn read_checkpoints(&mut self, disk: &dyn Disk) -> Result<(), Failure> {
        for seq in wal::checkpoint::list(disk)?.into_iter().rev() {
            self.read.checkpoints += 1;
            let file = wal::checkpoint::path(seq);
            let Some((header, bytes)) = self.sound_checkpoint(disk, seq)? else { continue };
            if self.directory.is_some_and(|directory| directory != header.directory) {
                let what = "it belongs to another data directory";
                self.findings.push(Finding::new(Grade::Damage, file, 0, what));
                continue;
            }
            match checkpoint::read(&bytes) {
                Ok(snapshot) if self.base.is_none() => self.base = Some(Base { header, snapshot }),
                Ok(_) => {}
                Err(what) => self.findings.push(Finding::new(Grade::Damage, file, 0, what)),
            }
        }
        if let Some(base) = &self.base {
            base.snapshot.entries.iter().for_each(|entry| self.names.learn(entry));
        }
        Ok(())
    }

    fn read_files(&mut self, disk: &dyn Disk) -> Result<(), Failure> {
        if !self.marker.as_ref().is_some_and(|marker| marker.metadata == MetadataStore::Files) {
            return Ok(());
        }
        for (name, _) in disk.list(files::DIR).unwrap_or_default() {
            let mut entries = Vec::new();
            match files::load_file(disk, &name, &mut |entry| entries.push(entry)) {
                _ if name.ends_with(".tmp") => {}
                Ok(()) => self.file_entries.extend(entries),
                Err(error) => {
                    self.refused(error, &format!("{}/{name}", files::DIR));
                    self.findings.last_mut().into_iter().for_each(|finding| finding.metadata = true);
                }
            }
        }
        self.file_entries.iter().for_each(|entry| self.names.learn(entry));
        Ok(())
    }

    /// Segments that must be there and are not: those that the checkpoint has records in, and each from the one on in
    /// which the replay begins.
    fn missing(&self, listed: &[(SegmentId, u64)], packs: &[(SegmentId, u64)]) -> BTreeMap<SegmentId, Finding> {
        let there: BTreeSet<SegmentId> = listed.iter().chain(packs).map(|(id, _)| *id).collect();
        let last = there.last().copied().unwrap_or_default().max(SegmentId::default()).number();
        let start = self.base.as_ref().map_or(SegmentId::FIRST, |base| base.header.position.segment);
        let held = self.ranges().map(|(id, _)| id).filter(|id| !there.contains(id) && !self.remote.contains(id));
        // Of a long stretch only the first are named: a single absurd file name must not make a million findings.
        let numbers = start.number()..=last.max(start.number());
        let replayed = numbers.map(SegmentId::Wal).filter(|id| !there.contains(id)).take(MISSING_MAX);
        let finding = |id: SegmentId| {
            let mut finding = Finding::new(Grade::Damage, segment::path(id), 0, "the segment is missing");
            finding.lost = self.held_by(id);
            finding.metadata = id >= start;
            finding.unnamed = !self.is_told_by_checkpoint(id);
            (id, finding)
        };
        held.chain(replayed).map(finding).collect()
    }

    /// Segments that hold something, have no file here, and are in object storage, as the checkpoint says.
    fn find_remote(&mut self, listed: &[(SegmentId, u64)], packs: &[(SegmentId, u64)]) {
        let there: BTreeSet<SegmentId> = listed.iter().chain(packs).map(|(id, _)| *id).collect();
        let entries = self.base.iter().flat_map(|base| &base.snapshot.entries);
        let objects = entries.filter(|entry| entry.table == metalog::OBJECT);
        let raw = objects.filter_map(|entry| <[u8; 8]>::try_from(&entry.key[..]).ok());
        let stored: BTreeSet<SegmentId> = raw.map(|raw| SegmentId::from_raw(u64::from_be_bytes(raw))).collect();
        let held = self.ranges().map(|(id, _)| id);
        self.remote = held.filter(|id| stored.contains(id) && !there.contains(id)).collect();
    }

    /// Packs that the log names, and that neither the checkpoint nor the folder knows.
    fn find_missing_packs(&mut self, listed: &[(SegmentId, u64)]) {
        let known = self.base.as_ref().map_or(0, |base| base.snapshot.last_pack);
        for number in self.packs.range(known + 1..).copied().collect::<Vec<_>>() {
            let id = SegmentId::Pack(number);
            if !listed.iter().any(|(there, _)| *there == id) {
                let what = "the pack is missing, and the log says that it replaces other segments";
                let mut finding = Finding::new(Grade::Damage, segment::path(id), 0, what);
                finding.unnamed = true;
                self.findings.push(finding);
            }
        }
    }

    /// What a sound pack holds in the place of damaged records is not lost.
    fn forgive_replaced(&mut self) {
        let lost_of = |number: &u64| -> Vec<Extent> { self.lost_in(SegmentId::Pack(*number)) };
        let sound = |(number, extents): (&u64, &Vec<Extent>)| -> (u64, Vec<Extent>) {
            let lost = lost_of(number);
            (*number, extents.iter().flat_map(|extent| uncovered(*extent, &lost)).collect())
        };
        let sound: Vec<(u64, Vec<Extent>)> = self.coverage.iter().map(sound).collect();
        for finding in &mut self.findings {
            let own = finding.file.rsplit('/').next().and_then(segment::id_of);
            let above = sound.iter().filter(|(number, _)| match own {
                Some(SegmentId::Pack(own)) => *number > own,
                _ => true,
            });
            let above: Vec<Extent> = above.flat_map(|(_, extents)| extents.iter().copied()).collect();
            finding.lost = std::mem::take(&mut finding.lost).into_iter().flat_map(|e| uncovered(e, &above)).collect();
        }
    }

    /// What is lost in one segment's file.
    pub fn lost_in(&self, id: SegmentId) -> Vec<Extent> {
        let file = segment::path(id);
        self.findings.iter().filter(|finding| finding.file == file).flat_map(|finding| finding.lost.clone()).collect()
    }

    /// What the checkpoint says lies in a segment.
    fn held_by(&self, id: SegmentId) -> Vec<Extent> {
        joined(self.ranges().filter(|(segment, _)| *segment == id).map(|(_, extent)| extent).collect())
    }

    /// Whether the checkpoint was made when all of a segment had been written, so that it knows all records there.
    fn is_told_by_checkpoint(&self, id: SegmentId) -> bool {
        self.base.as_ref().is_some_and(|base| match id {
            SegmentId::Pack(number) => number <= base.snapshot.last_pack,
            id => id < base.header.position.segment,
        })
    }

    /// What the checkpoint says lies in each segment.
    fn ranges(&self) -> impl Iterator<Item = (SegmentId, Extent)> + '_ {
        let logs = self.base.iter().flat_map(|base| &base.snapshot.logs);
        logs.flat_map(|log| {
            log.ranges()
                .map(|range| (range.segment, Extent { id: log.id, first: range.base_offset, last: range.last_offset }))
        })
    }

    fn segment(&mut self, disk: &dyn Disk, id: SegmentId, ahead: Ahead, taker: &mut dyn Taker) -> Result<(), Failure> {
        let view = match inspect::open(disk, id, self.directory) {
            Ok(view) => view,
            Err(RecoverError::Io { error, .. }) => return Err(error.into()),
            Err(error) => {
                let is_newer = matches!(error, RecoverError::Newer { .. });
                self.refused(error, &segment::path(id));
                self.chain = None;
                let directory = self.directory.unwrap_or_default();
                let found = if is_newer { None } else { inspect::open_by_groups(disk, id, directory, self.block)? };
                let Some(view) = found else {
                    let (lost, unnamed) = (self.held_by(id), !self.is_told_by_checkpoint(id));
                    let is_replayed = self.base.as_ref().is_none_or(|base| id >= base.header.position.segment);
                    if let Some(finding) = self.findings.last_mut() {
                        (finding.lost, finding.metadata, finding.unnamed) = (lost, is_replayed, unnamed);
                    }
                    return Ok(());
                };
                view
            }
        };
        self.view(&view, ahead, taker)
    }

    fn view(&mut self, view: &View, ahead: Ahead, taker: &mut dyn Taker) -> Result<(), Failure> {
        self.read.segments += 1;
        let index = view.index()?;
        let first_finding = self.findings.len();
        let before = self.chain.filter(|_| !view.id().is_pack());
        let mut reading = Reading {
            survey: self,
            taker,
            view,
            ahead,
            index,
            runs: Vec::new(),
            salvaged: Vec::new(),
            last_seq: 0,
            end: u64::from(view.header().block_bytes),
            is_broken: false,
            is_gap: false,
            is_torn: false,
        };
        view.walk_after(before, ahead.is_followed, &mut |item| reading.item(item))?;
        reading.close();
        let Reading { mut runs, salvaged, is_broken, is_gap, is_torn, last_seq, .. } = reading;
        runs.extend(salvaged);
        self.find_uncovered(view.id(), &runs, first_finding);
        if last_seq != 0 || is_broken {
            self.chain = (!is_gap && !is_torn && last_seq != 0).then_some(last_seq);
            self.is_chain_sealed = view.trailer.is_some();
        }
        Ok(())
    }

    /// Where a segment is damaged, what the checkpoint says was in it and was not found is lost.
    fn find_uncovered(&mut self, id: SegmentId, runs: &[RunRef], first_finding: usize) {
        let is_damage = |finding: &Finding| finding.grade == Grade::Damage;
        let Some(at) = self.findings[first_finding..].iter().position(is_damage) else { return };
        let found = runs.iter().map(|run| Extent { id: run.id, first: run.base_offset, last: run.last_offset });
        let told = self.findings[first_finding..].iter().flat_map(|finding| finding.lost.iter().copied());
        let known: Vec<Extent> = found.chain(told).collect();
        let lost: Vec<Extent> = self.held_by(id).into_iter().flat_map(|range| uncovered(range, &known)).collect();
        let finding = &mut self.findings[first_finding + at];
        finding.lost = joined(std::mem::take(&mut finding.lost).into_iter().chain(lost).collect());
    }

    /// All offsets of a damaged run are told, as lost or as salvaged.
    fn account(&mut self, run: &RunRef) {
        let findings = self.findings.len();
        let (next, _) = self.partitions.get(&run.id).copied().unwrap_or((run.base_offset, findings));
        let is_likely = (run.base_offset..run.base_offset.saturating_add(RUN_OFFSETS_MAX)).contains(&run.last_offset);
        if run.base_offset == next && is_likely {
            self.partitions.insert(run.id, (run.last_offset + 1, findings));
        }
    }

    /// A run was found; what lies between it and the one before, with damage in between, is lost.
    fn note_run(&mut self, run: &RunRef) {
        let findings = self.findings.len();
        let (next, seen) = self.partitions.get(&run.id).copied().unwrap_or((run.base_offset, findings));
        if run.base_offset > next && seen < findings {
            let gap = Extent { id: run.id, first: next, last: run.base_offset - 1 };
            let lost = self.findings.iter().flat_map(|finding| finding.lost.iter().copied());
            let remote = self.ranges().filter(|(id, _)| self.remote.contains(id)).map(|(_, extent)| extent);
            let lost = uncovered(gap, &lost.chain(remote).collect::<Vec<Extent>>());
            let damage = self.findings[seen..].iter_mut().rfind(|finding| finding.grade == Grade::Damage);
            if let Some(finding) = damage {
                finding.lost = joined(std::mem::take(&mut finding.lost).into_iter().chain(lost).collect());
            }
        }
        if run.last_offset >= next || seen == findings {
            self.partitions.insert(run.id, (next.max(run.last_offset.saturating_add(1)), findings));
        }
    }
}

/// Offsets that one damaged run is believed to have had at most; more is what a damaged header says.
const RUN_OFFSETS_MAX: i64 = 1 << 31;

/// Missing segments that are named one by one.
const MISSING_MAX: usize = 1000;

/// What follows each segment; headers and trailers only are read for it.
fn look_ahead(disk: &dyn Disk, listed: &[(SegmentId, u64)], directory: Option<Uuid>) -> Vec<Ahead> {
    let mut ahead = vec![Ahead::default(); listed.len()];
    let mut next = Ahead::default();
    for (at, (id, _)) in listed.iter().enumerate().rev() {
        ahead[at] = next;
        let Ok(view) = inspect::open(disk, *id, directory) else {
            // It may well have groups, but what they follow cannot be told.
            next = Ahead { is_followed: next.is_followed, previous_seq: None };
            continue;
        };
        let first = view.first_group().ok().flatten();
        let has_groups = first.is_some() || view.trailer.is_some_and(|trailer| trailer.first_seq != 0);
        if has_groups {
            next = Ahead { is_followed: true, previous_seq: first.map(|first| first.previous_seq) };
        }
    }
    ahead
}

/// One segment while it is read.
struct Reading<'a> {
    survey: &'a mut Survey,
    taker: &'a mut dyn Taker,
    view: &'a View,
    ahead: Ahead,
    index: Index,
    /// Runs that were found whole.
    runs: Vec<RunRef>,
    /// Batches that were found in damaged runs.
    salvaged: Vec<RunRef>,
    last_seq: GroupSeq,
    /// Where the last whole group ends.
    end: u64,
    /// Groups are missing or damaged.
    is_broken: bool,
    /// The same, since the last whole group.
    is_gap: bool,
    is_torn: bool,
}

impl Reading<'_> {
    fn item(&mut self, item: Item<'_>) -> Result<(), Failure> {
        match item {
            Item::Group(group) => self.group(&group),
            Item::Stray(group) => self.stray(&group),
            Item::Bad(bad) => self.bad(&bad),
        }
    }

    fn found(&mut self, grade: Grade, position: u64, what: impl Into<String>) -> &mut Finding {
        self.survey.findings.push(Finding::new(grade, self.view.file.clone(), position, what));
        let last = self.survey.findings.len() - 1;
        &mut self.survey.findings[last]
    }

    fn group(&mut self, group: &ScannedGroup<'_>) -> Result<(), Failure> {
        self.survey.read.groups += 1;
        self.check_chain(group);
        self.last_seq = group.header.seq;
        self.is_gap = false;
        self.end = group.position + group.len;
        for run in &group.runs {
            let position = group.position + run.offset as u64;
            self.sound_run(group.header.seq, &run.header, position, run.content)?;
        }
        Ok(())
    }

    /// A group that belongs elsewhere: its batches are handed on, in case that its own place is damaged too; what the index says
    /// stood here is lost.
    fn stray(&mut self, group: &ScannedGroup<'_>) -> Result<(), Failure> {
        let (seq, position, end) = (group.header.seq, group.position, group.position + group.len);
        for run in group.runs.iter().filter(|run| run.header.kind != RUN_META) {
            let place = group.run_ref(run);
            if self.check_batches(&place, run.content).is_none() {
                self.taker.run(seq, place, run.content)?;
            }
        }
        (self.is_broken, self.is_gap, self.end) = (true, true, end);
        let lost =
            self.indexed(position, end).map(|run| Extent { id: run.id, first: run.base_offset, last: run.last_offset });
        let (lost, unnamed) = (joined(lost.collect()), !self.is_all_told());
        let metadata = !self.view.id().is_pack();
        let what = format!("group {seq} stands there, which belongs elsewhere in the segment");
        let finding = self.found(Grade::Damage, position, what);
        (finding.bytes, finding.lost, finding.metadata, finding.unnamed) = (end - position, lost, metadata, unnamed);
        Ok(())
    }

    /// Runs that stood in a stretch, by the index.
    fn indexed(&self, position: u64, end: u64) -> impl Iterator<Item = &RunRef> {
        self.index.runs.iter().filter(move |run| (position..end).contains(&run.position))
    }

    /// Whether all runs that stood in the segment are known from its index or from the checkpoint.
    fn is_all_told(&self) -> bool {
        let is_whole = |trailer: inspect::Trailer| self.index.runs.len() == trailer.run_count as usize;
        self.view.trailer.is_some_and(is_whole) || self.survey.is_told_by_checkpoint(self.view.id())
    }

    /// Each group names the one before it.
    fn check_chain(&mut self, group: &ScannedGroup<'_>) {
        let (seq, previous) = (group.header.seq, group.header.previous_seq);
        let survey = &*self.survey;
        let (before, may_start_anew) = match self.last_seq {
            0 => {
                let start = survey.base.as_ref().map_or(SegmentId::default(), |base| base.header.position.segment);
                (survey.chain.filter(|_| self.view.id() > start), survey.is_chain_sealed)
            }
            last => (Some(last), false),
        };
        let Some(before) = before.filter(|_| !self.is_gap) else { return };
        if seq > before && (previous == before || (previous == 0 && may_start_anew)) {
            return;
        }
        self.is_broken = true;
        let what = format!("group {seq} follows group {before}: groups between them are missing");
        let metadata = !self.view.id().is_pack();
        let unnamed = !self.is_all_told();
        let finding = self.found(Grade::Damage, group.position, what);
        (finding.metadata, finding.unnamed) = (metadata, unnamed);
    }

    /// A change of metadata, or in a pack what it says of itself.
    fn entry(&mut self, seq: GroupSeq, position: u64, entry: MetaEntry) -> Result<(), Failure> {
        if let SegmentId::Pack(number) = self.view.id() {
            if entry.table != COVERAGE_TABLE {
                return Ok(());
            }
            match Coverage::parse(&entry) {
                Ok(Coverage { id, from_offset, to_offset, .. }) if from_offset < to_offset => {
                    let extent = Extent { id, first: from_offset, last: to_offset - 1 };
                    self.survey.coverage.entry(number).or_default().push(extent);
                }
                Ok(_) => {}
                Err(what) => self.found(Grade::Damage, position, what).metadata = true,
            }
            return Ok(());
        }
        self.survey.names.learn(&entry);
        if let (metalog::PACK, Ok(number)) = (entry.table, <[u8; 8]>::try_from(&entry.key[..])) {
            let number = u64::from_be_bytes(number);
            match entry.value.is_some() {
                true => self.survey.packs.insert(number),
                false => self.survey.packs.remove(&number),
            };
        }
        self.taker.meta(seq, entry)
    }

    fn sound_run(&mut self, seq: GroupSeq, run: &RunHeader, position: u64, content: &[u8]) -> Result<(), Failure> {
        if run.kind == RUN_META {
            match parse_entries(content, run.count) {
                Ok(entries) => {
                    for entry in entries {
                        self.entry(seq, position, entry)?;
                    }
                }
                Err(what) => self.found(Grade::Damage, position, what).metadata = true,
            }
            return Ok(());
        }
        let place = RunRef {
            id: run.id,
            base_offset: run.base_offset,
            last_offset: run.last_offset,
            max_timestamp: run.max_timestamp,
            segment: self.view.id(),
            position,
            len: content.len() as u32,
        };
        if !place.segment.is_pack() {
            self.survey.note_run(&place);
        }
        self.runs.push(place);
        match self.check_batches(&place, content) {
            None => self.taker.run(seq, place, content),
            Some((at, what)) => {
                let lost = self.salvage(seq, place, content)?;
                let finding = self.found(Grade::Damage, position + at as u64, what);
                finding.lost.extend(lost);
                Ok(())
            }
        }
    }

    /// The first batch that is not as it should be: where, and what.
    fn check_batches(&mut self, run: &RunRef, content: &[u8]) -> Option<(usize, String)> {
        let (mut at, mut next) = (0, run.base_offset);
        for item in batch::batches(content) {
            self.survey.read.batches += 1;
            let batch = match item {
                Ok(batch) => batch,
                Err(error) => return Some((at, error.to_string())),
            };
            let (first, last) = (batch.header.base_offset, batch.header.last_offset());
            if !verify_crc(batch.bytes) {
                return Some((at, "the checksum of the batch is wrong".to_owned()));
            }
            if first < next || last < first || last > run.last_offset {
                return Some((at, "the batch does not fit the run that holds it".to_owned()));
            }
            next = last + 1;
            at += batch.bytes.len();
        }
        None
    }

    /// Hands on the batches of a damaged run that can be read; what is lost.
    fn salvage(&mut self, seq: GroupSeq, run: RunRef, content: &[u8]) -> Result<Option<Extent>, Failure> {
        let readable = inspect::readable_batches(run.base_offset, run.last_offset, content);
        for range in readable.batches {
            let Ok(batch) = batch::Batch::parse(&content[range.clone()]) else { continue };
            let place = RunRef {
                base_offset: batch.header.base_offset,
                last_offset: batch.header.last_offset(),
                max_timestamp: batch.header.max_timestamp,
                position: run.position + range.start as u64,
                len: range.len() as u32,
                ..run
            };
            self.taker.run(seq, place, batch.bytes)?;
            self.salvaged.push(place);
        }
        Ok(readable.lost.map(|(first, last)| Extent { id: run.id, first, last }))
    }

    fn bad(&mut self, bad: &Bad) -> Result<(), Failure> {
        if self.is_footer(bad) {
            return Ok(());
        }
        if !bad.was_durable {
            self.is_torn = true;
            let what =
                format!("{}: the log ends with a group that was never completed; the next start drops it", bad.what);
            self.found(Grade::Torn, bad.position, what).bytes = bad.end - bad.position;
            return Ok(());
        }
        (self.is_broken, self.is_gap) = (true, true);
        let seq = bad.header.map_or(self.last_seq + 1, |header| header.seq);
        // The index of a sealed segment has its own checksums, so it tells best what stood here.
        let indexed: Vec<RunRef> = self.indexed(bad.position, bad.end).copied().collect();
        let (mut lost, mut known) = (Vec::new(), BTreeSet::new());
        // A pack has no changes of metadata: what it says of itself only says what it stands for.
        let is_pack = self.view.id().is_pack();
        let mut metadata = bad.is_partial && bad.runs.is_empty() && !is_pack;
        for run in &bad.runs {
            known.insert(run.position);
            if run.is_sound {
                self.sound_run(seq, &run.header, run.position, &run.content)?;
            } else if run.header.kind == RUN_META {
                metadata = !is_pack;
            } else {
                lost.extend(self.damaged_run(seq, run, &indexed)?);
            }
        }
        let unseen = indexed.iter().filter(|run| !known.contains(&run.position));
        lost.extend(unseen.map(|run| Extent { id: run.id, first: run.base_offset, last: run.last_offset }));
        // What the header of a damaged run says may be damaged itself.
        let is_known = !bad.is_partial && bad.runs.iter().all(|run| run.is_sound);
        let unnamed = !is_known && !self.is_all_told();
        let finding = self.found(Grade::Damage, bad.position, bad.what);
        finding.bytes = bad.end - bad.position;
        (finding.lost, finding.metadata, finding.unnamed) = (joined(lost), metadata, unnamed);
        self.end = bad.end;
        Ok(())
    }

    fn damaged_run(&mut self, seq: GroupSeq, run: &PartialRun, indexed: &[RunRef]) -> Result<Option<Extent>, Failure> {
        let header = &run.header;
        let told = RunRef {
            id: header.id,
            base_offset: header.base_offset,
            last_offset: header.last_offset,
            max_timestamp: header.max_timestamp,
            segment: self.view.id(),
            position: run.position,
            len: run.content.len() as u32,
        };
        let place = indexed.iter().find(|one| one.position == run.position).copied().unwrap_or(told);
        if !place.segment.is_pack() {
            self.survey.account(&place);
        }
        self.salvage(seq, place, &run.content)
    }

    /// Whether what stands there is what is left of the footer, while the groups are whole: the next segment's first group
    /// follows the last one here, or the file was cut to just that length.
    fn is_footer(&mut self, bad: &Bad) -> bool {
        if self.view.trailer.is_some() || bad.header.is_some() || !bad.runs.is_empty() {
            return false;
        }
        let is_linked = self.last_seq != 0 && self.ahead.previous_seq == Some(self.last_seq);
        let is_cut = self.last_seq != 0 && self.view.has_room_for_footer_only(bad.position, self.runs.len());
        if !is_linked && !is_cut {
            return false;
        }
        self.end = bad.position;
        let what = "the footer is damaged; the next start writes it again from the groups";
        self.found(Grade::Index, bad.position, what).bytes = self.view.bytes - bad.position;
        true
    }

    /// What only shows at the end: a file that is cut, and an index that does not agree with the groups.
    fn close(&mut self) {
        for (position, bytes, what) in std::mem::take(&mut self.index.damaged) {
            let what = format!("{what}; the groups tell the same");
            self.found(Grade::Index, position, what).bytes = bytes;
        }
        let end = self.end;
        let Some(trailer) = self.view.trailer else {
            let is_whole = match self.last_seq {
                // It may never have had a group.
                0 => self.survey.chain.is_some() && self.ahead.previous_seq == self.survey.chain,
                last => self.ahead.previous_seq == Some(last),
            };
            let is_cut = self.ahead.is_followed && !self.is_torn && end >= self.view.bytes;
            if is_cut && is_whole && !self.is_gap {
                if self.last_seq != 0 {
                    let what = "the footer is missing; the next start writes it again from the groups";
                    self.found(Grade::Index, end, what);
                }
            } else if is_cut && (!self.is_gap || !is_whole) {
                (self.is_broken, self.is_gap) = (true, true);
                let unnamed = !self.is_all_told();
                let is_pack = self.view.id().is_pack();
                let what = match is_pack {
                    true => "the file ends there, without its footer",
                    false => "the file ends there, and later segments have groups",
                };
                let finding = self.found(Grade::Damage, end, what);
                (finding.metadata, finding.unnamed) = (!is_pack, unnamed);
            }
            return;
        };
        if self.is_gap {
            return;
        }
        if self.last_seq != trailer.last_seq {
            let what = format!("group {} is the last, and the footer names group {}", self.last_seq, trailer.last_seq);
            let unnamed = !self.is_all_told();
            self.found(Grade::Damage, end, what).unnamed = unnamed;
            return;
        }
        if self.is_broken {
            return;
        }
        let of =
            |runs: &[RunRef]| runs.iter().map(|run| (run.position, run.id, run.base_offset)).collect::<BTreeSet<_>>();
        let (found, indexed) = (of(&self.runs), of(&self.index.runs));
        let is_complete = self.index.runs.len() == trailer.run_count as usize;
        if is_complete && found != indexed {
            let what = "the index does not name the runs that the groups hold";
            self.found(Grade::Index, trailer.groups_end, what);
        }
    }
}
