//! Owns tidying: which segments are rewritten as packs, what happens when a pack is there, and how space comes back.
//!
//! There is one job at a time. A pack counts from the moment its entry in ChronikMetaLog (`metalog::PACK`) is appended: the
//! partitions' ranges then name the pack instead of its sources. A segment in which nothing lives any more goes when both kept
//! checkpoints know that, so whatever a checkpoint names is there, and when no reader can still be on its way to it.

mod patience;
mod policy;
mod shrinking;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use self::patience::Patience;
use self::policy::Candidate;
use self::shrinking::Shrinking;
use super::configs::TopicSettings;
use super::log::SegmentRange;
use super::segments::Segment;
use super::{metalog, Broker, Effect, Now, Timer};
use crate::limits;
use crate::wal::compact::Outcome;
use crate::wal::pack::Coverage;
use crate::wal::tidy::{Tidied, TidyDone, TidyError, TidyJob, TidyMode, TidyPart, TidySource};
use crate::wal::{GroupSeq, MetaEntry, PartitionId, ReadJob, SegmentId};

/// Where tidying stands.
#[derive(Debug, Default)]
pub struct Tidying {
    /// The sources of the job under way.
    running: Option<Vec<SegmentId>>,
    /// Those of them that nobody needs any more, and that go when it has ended.
    held: Vec<SegmentId>,
    /// The partition that it compacts.
    cleaning: Option<PartitionId>,
    /// It takes what must stay here out of segments that may go.
    relocates: bool,
    /// How long it may take if it reads from the object store.
    patience: Patience,
    shrinking: Shrinking,
    /// The last job was a compaction.
    cleaned_last: bool,
    /// The highest number that a pack ever had.
    newest: u64,
    /// The last pack that took the place of others, and what is known of those since the last checkpoint that was read.
    last_switched: u64,
    switched: BTreeSet<u64>,
    /// Segments that are damaged: they are left as they are.
    avoided: BTreeSet<SegmentId>,
    /// Segments that a job would leave as they are, with the bytes that lived in them when that was found. They are not chosen
    /// until that changes.
    settled: BTreeMap<SegmentId, u64>,
    /// The last job failed for want of space, which was said.
    full: bool,
    /// Look-ups that readers work on, and those that wait for the object store alone.
    reads: BTreeSet<u64>,
    store_reads: BTreeSet<(PartitionId, u64)>,
    /// Segments that go when all look-ups up to this one have been answered: those that are here, which need not wait for the
    /// store, and those that only the store has.
    leaving: VecDeque<(u64, SegmentId)>,
    leaving_store: VecDeque<(u64, SegmentId)>,
    /// When a checkpoint was last taken, in monotonic µs, and of which group.
    checkpoint: (u64, GroupSeq),
    /// When the next one is timed.
    next_checkpoint_us: Option<u64>,
    /// A job has failed, and the timer for the next one is set.
    waits: bool,
    /// The unsealed segment that is timed to be sealed.
    sealing: Option<SegmentId>,
}

/// The entry that says that a pack has taken the place of what it covers; `None` forgets it, when the pack is gone.
fn pack_entry(number: u64, is_there: bool) -> MetaEntry {
    MetaEntry {
        table: metalog::PACK,
        scope: Bytes::new(),
        key: Bytes::copy_from_slice(&number.to_be_bytes()),
        value: is_there.then(|| Bytes::from_static(&[0])),
    }
}

impl Tidying {
    /// The last pack that took the place of other segments.
    pub fn last_switched(&self) -> u64 {
        self.last_switched
    }

    /// A checkpoint knows all packs up to this one.
    pub fn restore(&mut self, last_switched: u64) {
        self.last_switched = last_switched;
        self.newest = self.newest.max(last_switched);
    }

    /// An entry that was found at recovery.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        let number = <[u8; 8]>::try_from(&entry.key[..]).map(u64::from_be_bytes);
        let number = number.map_err(|_| "the number of a pack is not 8 bytes".to_owned())?;
        self.newest = self.newest.max(number);
        match &entry.value {
            Some(_) => self.switched.insert(number),
            None => self.switched.remove(&number),
        };
        Ok(())
    }

    /// Whether nothing is being rewritten.
    pub fn is_at_rest(&self) -> bool {
        self.running.is_none()
    }

    /// Whether a segment is being rewritten.
    pub fn works_on(&self, id: SegmentId) -> bool {
        self.running.as_ref().is_some_and(|sources| sources.contains(&id))
    }

    /// Whether a segment is damaged and left as it is.
    pub fn avoids(&self, id: SegmentId) -> bool {
        self.avoided.contains(&id)
    }

    /// The oldest look-up that readers work on.
    pub fn oldest_read(&self) -> Option<u64> {
        self.reads.first().copied()
    }

    /// Whether a look-up of a partition, up to this one, still waits for the object store.
    pub fn waits_for_store(&self, id: PartitionId, job: u64) -> bool {
        self.store_reads.range((id, 0)..=(id, job)).next().is_some()
    }

    /// Packs that took the place of others after the checkpoint, in order.
    pub fn unknown(&self) -> Vec<u64> {
        self.switched.range(self.last_switched + 1..).copied().collect()
    }

    /// All packs that are known to have been read.
    pub fn know_all(&mut self) {
        self.last_switched = self.switched.last().map_or(0, |last| *last).max(self.last_switched);
    }

    /// The living entries.
    pub fn entries(&self) -> impl Iterator<Item = MetaEntry> {
        self.entries_of(|_| true)
    }

    /// Those of some packs.
    pub fn entries_of(&self, is_wanted: impl Fn(u64) -> bool) -> impl Iterator<Item = MetaEntry> {
        let wanted = self.switched.iter().filter(move |number| is_wanted(**number));
        wanted.map(|number| pack_entry(*number, true)).collect::<Vec<_>>().into_iter()
    }
}

impl Broker {
    /// Hands a look-up to the readers, and remembers that it is on its way.
    pub(super) fn send_reader(&mut self, job: ReadJob) {
        // What is in the store only may be waited for for long; no file is looked at for that.
        match job.kind.segments().any(|segment| !self.segments.is_remote(segment)) {
            true => self.tidying.reads.insert(job.job),
            false => self.tidying.store_reads.insert((job.id, job.job)),
        };
        self.effects.push_back(Effect::Read(job));
    }

    /// A look-up has been answered.
    pub(super) fn reader_is_back(&mut self, job: u64, id: PartitionId) {
        self.tidying.reads.remove(&job);
        self.tidying.store_reads.remove(&(id, job));
        self.let_segments_go();
    }

    /// Begins a job if there is something to tidy and none is under way.
    pub(super) fn tidy_if_due(&mut self, now: Now) {
        let is_busy = self.tidying.running.is_some() || self.tidying.waits;
        if is_busy || self.stopping || !self.has_space_for_metadata() {
            return;
        }
        // Compactions and other tidyings take turns, if there are both.
        if !std::mem::take(&mut self.tidying.cleaned_last) && self.begin_cleaning(now) {
            return;
        }
        if self.begin_relocation() {
            return;
        }
        loop {
            let candidates = self.candidates();
            let chosen = policy::choose(&candidates);
            let Some(first) = chosen.first() else { break };
            if self.begin_tidying(*first, &candidates, &chosen) {
                return;
            }
        }
        if !self.begin_cleaning(now) {
            self.begin_shrinking(now);
        }
    }

    /// The segments that may be rewritten.
    fn candidates(&self) -> Vec<Candidate> {
        let tidying = &self.tidying;
        let is_left = |id: SegmentId| tidying.avoids(id) || self.tiering.lets_go(id);
        let alive = self.segments.sealed_alive().filter(|(id, _)| !is_left(*id));
        let moves = alive.filter(|(id, segment)| tidying.settled.get(id) != Some(&segment.live_bytes));
        moves.map(|(id, segment)| Candidate { id, segment: *segment }).collect()
    }

    /// The time after a failure is over.
    pub(super) fn tidy_again(&mut self, now: Now) {
        self.tidying.waits = false;
        self.tidy_if_due(now);
    }

    /// Begins the compaction of a partition that is due for it, if there is one that can be begun.
    fn begin_cleaning(&mut self, now: Now) -> bool {
        if !self.wants_cleaning() {
            return false;
        }
        let Some(plan) = self.next_cleaning(now) else { return false };
        let ranges = self.topics.partition(plan.id).map(|partition| partition.log.ranges_below(plan.clean.end));
        let ranges = ranges.unwrap_or_default();
        let damaged = ranges.iter().find(|range| self.tidying.avoided.contains(&range.segment));
        if let Some(range) = damaged {
            let why = format!("{} is damaged", range.segment);
            self.cleaning_failed(plan.id, &why);
            return false;
        }
        let Some(partition) = self.topics.partition(plan.id).filter(|_| !ranges.is_empty()) else {
            // Deletion was faster, and has left nothing there.
            let end = plan.clean.end;
            self.cleaned(now, plan.id, &Outcome { cleaned_to: end, end, ..Outcome::default() });
            return false;
        };
        self.tidying.cleaned_last = true;
        let live_from = partition.log.start_offset;
        let mode = TidyMode::Clean(Box::new(plan.clean));
        let part = TidyPart { id: plan.id, sources: ranges.iter().map(source).collect(), live_from, mode };
        self.tidying.cleaning = Some(plan.id);
        self.begin(ranges.iter().map(|range| range.segment).collect(), vec![part]);
        if ranges.iter().any(|range| self.segments.is_remote(range.segment)) {
            self.watch_tidying(now);
        }
        true
    }

    /// Begins to rewrite some segments, this one in any case. False if that would not help; then it is not a candidate any more.
    fn begin_tidying(&mut self, first: SegmentId, candidates: &[Candidate], chosen: &[SegmentId]) -> bool {
        let mut wanted = self.emptied_together(first, chosen);
        let mut parts = self.parts_in(&wanted, |_| true);
        if parts.len() == limits::TIDY_PARTS_MAX && wanted.len() > 1 {
            // One job may not take all that: the next one would begin with the same partitions.
            wanted = BTreeSet::from([first]);
            parts = self.parts_in(&wanted, |_| true);
        }
        if parts.is_empty() {
            // What the figures say and what partitions have there differ: looking again would not help.
            self.tidying.avoided.extend(wanted);
            return false;
        }
        let emptied = candidates.iter().filter(|candidate| wanted.contains(&candidate.id));
        if !policy::is_progress(&emptied.copied().collect::<Vec<_>>()) {
            self.tidying.settled.insert(first, self.segments.live_bytes_of(first));
            return false;
        }
        self.begin(wanted.into_iter().collect(), parts);
        true
    }

    /// Those of some segments that one job can empty, this one in any case. A pack holds one stretch of a partition: what lies
    /// behind something of that partition that is not among them, like what only the store has, stays where it is. A job that
    /// left a segment alive would be chosen again, with the pack in the place of what it took.
    fn emptied_together(&self, first: SegmentId, chosen: &[SegmentId]) -> BTreeSet<SegmentId> {
        let mut wanted: BTreeSet<SegmentId> = chosen.iter().copied().collect();
        loop {
            let before = wanted.len();
            for log in self.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| &partition.log) {
                let stretches = log.stretches(|id| wanted.contains(&id));
                if stretches.len() < 2 {
                    continue;
                }
                let holds_first = |stretch: &[SegmentRange]| stretch.iter().any(|range| range.segment == first);
                let longest = stretches.iter().max_by_key(|stretch| (holds_first(stretch), stretch.len()));
                let kept: BTreeSet<SegmentId> = longest.into_iter().flatten().map(|range| range.segment).collect();
                let apart = stretches.iter().flatten().map(|range| range.segment);
                let apart: BTreeSet<SegmentId> = apart.filter(|id| *id != first && !kept.contains(id)).collect();
                wanted.retain(|id| !apart.contains(id));
            }
            if wanted.len() == before {
                return wanted;
            }
        }
    }

    /// Begins to give what is to stay here, of segments that may go, a pack of its own. Each byte leaves such a segment once.
    fn begin_relocation(&mut self) -> bool {
        loop {
            let wanted = self.tiering.take_blocked();
            if wanted.is_empty() {
                return false;
            }
            let parts = self.parts_in(&wanted, |settings| settings.compact);
            if !parts.is_empty() {
                self.begin(wanted.into_iter().collect(), parts);
                self.tidying.relocates = true;
                return true;
            }
        }
    }

    /// What partitions of certain topics have in these segments, as far as it is adjacent in them and one job takes it.
    fn parts_in(&self, wanted: &BTreeSet<SegmentId>, is_meant: impl Fn(&TopicSettings) -> bool) -> Vec<TidyPart> {
        let mut parts: BTreeMap<PartitionId, TidyPart> = BTreeMap::new();
        for topic in self.topics.iter().filter(|topic| is_meant(&topic.settings)) {
            for log in topic.partitions.iter().map(|partition| &partition.log) {
                let stretch = log.stretch(|id| wanted.contains(&id));
                if stretch.is_empty() {
                    continue;
                }
                let sources = stretch.iter().map(source).collect();
                let part = TidyPart { id: log.id, sources, live_from: log.start_offset, mode: TidyMode::Copy };
                parts.insert(log.id, part);
                if parts.len() == limits::TIDY_PARTS_MAX {
                    return parts.into_values().collect();
                }
            }
        }
        parts.into_values().collect()
    }

    fn begin(&mut self, sources: Vec<SegmentId>, parts: Vec<TidyPart>) {
        self.tidying.newest = self.tidying.newest.max(self.segments.newest_pack()) + 1;
        // What is written meanwhile must find its space, unless there is none anyway.
        let spare_bytes = if self.out_of_space { 0 } else { self.settings.config.log_segment_bytes };
        let job = TidyJob { pack: self.tidying.newest, parts, spare_bytes };
        let what = if self.tidying.cleaning.is_some() { "compacting" } else { "tidying" };
        ::log::debug!("{what} {} segments into {}", sources.len(), SegmentId::Pack(job.pack));
        self.tidying.running = Some(sources);
        self.effects.push_back(Effect::Tidy(job));
    }

    /// The tidier has done its job, or could not.
    pub fn tidy_done(&mut self, now: Now, done: TidyDone) {
        let sources = self.tidying.running.take().unwrap_or_default();
        std::mem::take(&mut self.tidying.held).into_iter().for_each(|id| self.let_go(id));
        let cleaning = self.tidying.cleaning.take();
        let relocates = std::mem::take(&mut self.tidying.relocates);
        let from_store = self.tidying.patience.is_over();
        let shrinks = self.tidying.shrinking.is_over();
        match (done.result, cleaning) {
            (Ok(tidied), _) => {
                if let Some(id) = cleaning.filter(|_| from_store) {
                    self.tidying.patience.was_enough();
                    self.cleaned_from_store(id);
                }
                if shrinks {
                    self.tidying.shrinking.succeeded();
                    self.settings.metrics.tier_shrunk_bytes.add(tidied.written_bytes);
                }
                let seq = self.switch(now, done.pack, &tidied);
                if relocates {
                    self.tiering.relocated(seq);
                    self.settings.metrics.tier_relocated_bytes.add(tidied.written_bytes);
                }
            }
            (Err(error), None) if shrinks && error.is_passing() => {
                self.shrinking_put_off(now, sources.first().copied(), &error);
            }
            (Err(TidyError::Away(why)), Some(id)) => {
                self.settings.metrics.tidy_failures.add(1);
                self.cleaning_away(now, id, &why);
            }
            (Err(TidyError::Stopped), Some(id)) if from_store => {
                self.cleanings.comes_last(id);
                self.cleaning_put_off(now, id);
            }
            (Err(error), cleaning) => {
                match (&error, cleaning) {
                    (TidyError::Damaged(_, why) | TidyError::Unreadable(why), Some(id)) => {
                        self.cleaning_failed(id, why)
                    }
                    (_, Some(id)) => self.cleaning_put_off(now, id),
                    (_, None) => {}
                }
                self.tidying_failed(now, &sources, error);
            }
        }
        self.tidy_if_due(now);
        self.upload_if_due(now);
    }

    /// After a start: entries of packs that are gone need not be kept in metadata files.
    pub(super) fn forget_gone_packs(&mut self) {
        let is_gone = |number: &u64| !self.segments.contains(SegmentId::Pack(*number));
        let gone: Vec<u64> = self.tidying.switched.iter().copied().filter(is_gone).collect();
        for number in gone {
            self.forget_pack(number);
        }
    }

    /// A pack is gone. Only metadata files would keep its entry; in the log it is of no use once checkpoints know the pack.
    fn forget_pack(&mut self, number: u64) {
        if self.tidying.switched.remove(&number) && !self.settings.metadata_in_log {
            self.append_meta(pack_entry(number, false));
        }
    }

    /// Puts a pack in the place of what it covers, and gives the group of its entry.
    fn switch(&mut self, now: Now, number: u64, tidied: &Tidied) -> GroupSeq {
        let id = SegmentId::Pack(number);
        let metrics = self.settings.metrics.clone();
        metrics.tidy_jobs.add(1);
        metrics.tidy_read_bytes.add(tidied.read_bytes);
        metrics.tidy_written_bytes.add(tidied.written_bytes);
        self.tidying.full = false;
        self.tidying.last_switched = number;
        let kept = || tidied.coverage.iter().filter_map(|coverage| coverage.kept);
        let (live, live_bytes) = (kept().count(), kept().map(|kept| kept.bytes).sum());
        let segment = Segment { bytes: tidied.file_bytes, live, live_bytes, runs: tidied.runs, is_remote: false };
        if policy::is_progress(&[Candidate { id, segment }]) {
            // It is longer than the figures say, and so would be what takes its place.
            self.tidying.settled.insert(id, live_bytes);
        }
        self.tidying.switched.insert(number);
        let seq = self.append_meta(pack_entry(number, true));
        self.segments.present(id, tidied.file_bytes);
        self.segments.restore_runs(id, tidied.runs);
        for coverage in &tidied.coverage {
            let outcome = outcome_of(coverage).unwrap_or_default();
            let Some(partition) = self.topics.partition_mut(coverage.id) else {
                if outcome.is_some() {
                    self.cleaning_put_off(now, coverage.id);
                }
                continue;
            };
            let with = range_of(id, coverage).filter(|range| range.last_offset >= partition.log.start_offset);
            for gone in partition.log.replace(coverage.from_offset, coverage.to_offset, with) {
                self.segments.remove_live(&gone, seq);
            }
            if let Some(range) = with {
                self.segments.add_live(&range, coverage.id);
            }
            if let Some(outcome) = outcome {
                self.cleaned(now, coverage.id, &outcome);
            }
        }
        self.segments.is_dead(id, seq);
        self.count_storage();
        self.give_space_back(now);
        seq
    }

    fn tidying_failed(&mut self, now: Now, sources: &[SegmentId], error: TidyError) {
        if error == TidyError::Stopped {
            return;
        }
        self.settings.metrics.tidy_failures.add(1);
        match error {
            TidyError::Damaged(segment, what) => {
                ::log::error!(
                    "{segment} is damaged and left as it is: {what}. Restore the data directory from a backup"
                );
                self.tidying.avoided.insert(segment);
                return;
            }
            TidyError::Full(what) => {
                if !std::mem::replace(&mut self.tidying.full, true) {
                    ::log::warn!("no space to tidy {} segments of the log; tried again later: {what}", sources.len());
                }
            }
            TidyError::Io(what) | TidyError::Away(what) => {
                ::log::error!("cannot tidy {} segments of the log: {what}", sources.len())
            }
            // That is no fault of the segment, and only compaction looks at records.
            TidyError::Unreadable(_) => return,
            TidyError::Stopped => {}
        }
        self.tidying.waits = true;
        self.set_timer(now.mono_us + limits::TIDY_RETRY_US, Timer::Tidy);
    }

    /// Something was deleted: sees to it that its space comes back.
    pub(super) fn give_space_back(&mut self, now: Now) {
        if self.segments.wants_checkpoint() {
            self.checkpoint_for_space(now);
        }
        let unsealed = self.segments.unsealed();
        if self.segments.unsealed_is_due() && self.tidying.sealing != Some(unsealed) {
            self.tidying.sealing = Some(unsealed);
            self.set_timer(now.mono_us + limits::TIDY_SEAL_US, Timer::Seal(unsealed));
        }
        self.tidy_if_due(now);
    }

    /// Times a checkpoint that lets dead segments go. Not often, unless the disk is full.
    pub(super) fn checkpoint_for_space(&mut self, now: Now) {
        let earliest = self.tidying.checkpoint.0.saturating_add(limits::SPACE_CHECKPOINT_US);
        let at = if self.out_of_space { now.mono_us } else { earliest.max(now.mono_us) };
        self.time_checkpoint(at);
    }

    /// Asks for a checkpoint at this time, in monotonic µs, if none is timed earlier.
    pub(super) fn time_checkpoint(&mut self, at_us: u64) {
        self.tidying.next_checkpoint_us = self.arm(self.tidying.next_checkpoint_us, at_us, Timer::Checkpoint);
    }

    /// The timer of a checkpoint is due.
    pub(super) fn checkpoint_is_due(&mut self) {
        self.tidying.next_checkpoint_us = None;
        // A checkpoint is named by its last group. Where nothing happens, the same state gets a new name, because both of
        // those that are kept have to know what is dead.
        if self.durable == self.tidying.checkpoint.1 && self.gather.is_empty() && self.in_flight.is_none() {
            self.gather.probe();
        }
        self.checkpoint.want();
    }

    /// A checkpoint is being taken.
    pub(super) fn checkpoint_taken(&mut self, now: Now) {
        self.tidying.checkpoint = (now.mono_us, self.durable);
    }

    /// Removes segments that nobody needs any more.
    pub(super) fn remove_segments(&mut self) {
        for (id, is_remote) in self.segments.take_removable() {
            if let SegmentId::Pack(number) = id {
                // Its file goes later: no other pack may have that name.
                self.tidying.newest = self.tidying.newest.max(number);
            }
            let leaving = if is_remote { &mut self.tidying.leaving_store } else { &mut self.tidying.leaving };
            leaving.push_back((self.next_job, id));
        }
        self.let_segments_go();
        self.count_storage();
    }

    fn let_segments_go(&mut self) {
        let oldest = self.tidying.reads.first().copied().unwrap_or(u64::MAX);
        while let Some(id) = pop_below(&mut self.tidying.leaving, oldest) {
            self.let_go(id);
        }
        if self.tidying.leaving_store.is_empty() {
            return;
        }
        let oldest = self.tidying.store_reads.iter().map(|(_, job)| *job).chain([oldest]).min().unwrap_or(oldest);
        while let Some(id) = pop_below(&mut self.tidying.leaving_store, oldest) {
            self.let_go(id);
        }
    }

    /// A segment that was waited for: nobody is on the way to it any more.
    fn let_go(&mut self, id: SegmentId) {
        if self.tidying.works_on(id) {
            self.tidying.held.push(id);
            return;
        }
        self.tidying.avoided.remove(&id);
        self.tidying.settled.remove(&id);
        if let SegmentId::Pack(number) = id {
            self.forget_pack(number);
        }
        self.forget_object(id);
        self.effects.push_back(Effect::Remove(id));
    }

    pub(super) fn count_storage(&self) {
        let metrics = &self.settings.metrics;
        let (bytes, live) = (self.segments.bytes(), self.segments.live_bytes());
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.storage_usage_bytes.set(gauge(bytes));
        metrics.storage_live_bytes.set(gauge(live));
        metrics.storage_dead_bytes.set(gauge((bytes + self.segments.remote_bytes()).saturating_sub(live)));
    }
}

/// Takes the first out if it waits only for look-ups below this one.
fn pop_below(leaving: &mut VecDeque<(u64, SegmentId)>, oldest: u64) -> Option<SegmentId> {
    let (job, _) = leaving.front()?;
    if *job >= oldest {
        return None;
    }
    leaving.pop_front().map(|(_, id)| id)
}

fn source(range: &SegmentRange) -> TidySource {
    let SegmentRange { segment, base_offset, last_offset, bytes, .. } = *range;
    TidySource { segment, base_offset, last_offset, bytes }
}

/// What the compaction of a partition came to; `None` when it was only copied. The error says what cannot be read.
pub fn outcome_of(coverage: &Coverage) -> Result<Option<Outcome>, String> {
    match coverage.outcome.is_empty() {
        true => Ok(None),
        false => Outcome::decode(&coverage.outcome).map(Some),
    }
}

/// What a pack holds of a partition.
pub fn range_of(pack: SegmentId, coverage: &Coverage) -> Option<SegmentRange> {
    coverage.kept.map(|kept| SegmentRange {
        segment: pack,
        base_offset: kept.base_offset,
        last_offset: kept.last_offset,
        max_timestamp: kept.max_timestamp,
        bytes: kept.bytes,
    })
}
