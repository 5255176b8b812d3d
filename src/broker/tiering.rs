//! Owns tiering: which segments are in the object store, when the log is uploaded, and which local copies may go.
//!
//! The uploader sends a picture of the whole log at a time; what it has sent comes back in `Broker::uploaded`. A segment counts
//! as stored from the moment its entry in ChronikMetaLog (`metalog::OBJECT`) is appended. Its local copy may go when both kept
//! checkpoints know that entry and no replay begins in or before it, so whatever recovery starts from, it knows where the
//! segment is. In this life of the server the store must have been seen to hold it, whatever an earlier one had written down.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::configs::TopicSettings;
use super::log::PartitionLog;
use super::{metalog, Broker, Effect, Now, Timer};
use crate::limits;
use crate::wal::{GroupSeq, MetaEntry, SegmentId};
use crate::wire::macros::message;

/// A segment's object: with the segment's name this says where it lies, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Which use of the segment's file it is.
    pub incarnation: u64,
    /// Its length.
    pub bytes: u64,
    /// CRC-32C of all of it.
    pub crc: u32,
}

/// The uploader has sent what the store lacked, or could not.
#[derive(Debug)]
pub struct UploadDone {
    /// The segments that the store holds now.
    pub result: Result<Vec<(SegmentId, StoredObject)>, UploadError>,
    /// What is free on the data directory's filesystem, in bytes, if that is known.
    pub free_bytes: Option<u64>,
    /// The store was asked what it holds, and not only told.
    pub has_looked: bool,
    /// Something is still in the store that is to go from it.
    pub has_superfluous: bool,
}

/// Why nothing was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadError {
    /// For people, without a full stop.
    pub sentence: String,
    /// Nothing may be relied on that the store was seen to hold before: somebody else removes things there.
    pub is_deposed: bool,
    /// Somebody else works on the same files, as a backup does: it was not even begun.
    pub is_busy: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    object: StoredObject,
    /// The group of its entry.
    seq: GroupSeq,
    /// The store was seen to hold it since the start.
    is_confirmed: bool,
}

/// Where tiering stands.
#[derive(Debug, Default)]
pub struct Tiering {
    /// Segments that are in the store; of some the local copy is gone.
    stored: BTreeMap<SegmentId, Stored>,
    /// The group up to which the upload under way reaches at least.
    uploading: Option<GroupSeq>,
    /// The same of the last one that succeeded, and what it wrote itself.
    uploaded: GroupSeq,
    /// When the last one began, and before when none begins, in monotonic µs.
    begun_us: u64,
    earliest_us: u64,
    /// Since when there is a segment that the store lacks.
    waits_since_us: Option<u64>,
    /// Uploads until what was deleted is gone from the store too, and the group that says so: earlier ones do not count.
    removals: u32,
    removed: GroupSeq,
    /// How often in a row that could not be removed.
    removal_failures: u32,
    /// Uploads that failed since the last one that did not.
    failures: u32,
    upload_timer_us: Option<u64>,
    evict_timer_us: Option<u64>,
    /// When it was last said that the store cannot be read, in monotonic µs.
    away_said_us: Option<u64>,
    /// When the store was last seen to hold what it holds, in monotonic µs.
    seen_us: Option<u64>,
    /// The next upload has to look, because something is to leave the disk.
    wants_look: bool,
    /// Why the last upload failed.
    failure: String,
    /// Free bytes of the filesystem, less what eviction has counted on since.
    free_bytes: Option<u64>,
    /// Segments that could go but for little that is to stay here, with the bytes of that.
    blocked: BTreeMap<SegmentId, u64>,
    /// Those of which that is being, or has been, written elsewhere: they go soon, so nobody is to rewrite them.
    leaving: BTreeSet<SegmentId>,
    /// The group of the entry of the pack into which it was written last, until that is durable.
    relocated: Option<GroupSeq>,
}

message! {
    struct ObjectValue {
        incarnation: i64 [0..],
        bytes: i64 [0..],
        crc: i32 [0..],
    }
}

const VERSION: i16 = 0;

/// The manifest that does not name a segment any more, and the one after which no other does.
const REMOVAL_UPLOADS: u32 = 2;

/// The entry that says where a segment is; `None` forgets it, when nobody needs the segment any more.
fn object_entry(id: SegmentId, object: Option<StoredObject>) -> MetaEntry {
    let value = object.map(|object| {
        let StoredObject { incarnation, bytes, crc } = object;
        let value = ObjectValue { incarnation: incarnation as i64, bytes: bytes as i64, crc: crc as i32 };
        metalog::encode(VERSION, &value)
    });
    let key = Bytes::copy_from_slice(&id.raw().to_be_bytes());
    MetaEntry { table: metalog::OBJECT, scope: Bytes::new(), key, value }
}

/// How long what needs the store waits after it failed, with so many failures before, in µs.
pub(super) fn store_retry_us(failures: u32) -> u64 {
    limits::UPLOAD_RETRY_US.saturating_mul(1 << failures.min(20)).min(limits::UPLOAD_RETRY_MAX_US)
}

/// From an upload to one that only removes, after so many that could not, in µs.
fn removals_us(failures: u32) -> u64 {
    limits::UPLOAD_REMOVALS_US << failures.min(limits::UPLOAD_REMOVAL_TRIES)
}

/// Whether two sentences give the same reason: numbers in them (of tries, of seconds) are those of the moment.
fn is_same_reason(one: &str, other: &str) -> bool {
    let is_of_it = |c: &char| !c.is_ascii_digit();
    one.chars().filter(is_of_it).eq(other.chars().filter(is_of_it))
}

impl Tiering {
    /// An entry that was found at recovery.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        let raw = <[u8; 8]>::try_from(&entry.key[..]).map(u64::from_be_bytes);
        let id = SegmentId::from_raw(raw.map_err(|_| "the number of a stored segment is not 8 bytes".to_owned())?);
        let Some(value) = &entry.value else {
            self.stored.remove(&id);
            return Ok(());
        };
        let value: ObjectValue = metalog::decode(VERSION, value)?;
        let ObjectValue { incarnation, bytes, crc } = value;
        let object = StoredObject { incarnation: incarnation as u64, bytes: bytes as u64, crc: crc as u32 };
        self.stored.insert(id, Stored { object, seq: 0, is_confirmed: false });
        Ok(())
    }

    /// The living entries.
    pub fn entries(&self) -> impl Iterator<Item = MetaEntry> + '_ {
        self.stored.iter().map(|(id, stored)| object_entry(*id, Some(stored.object)))
    }

    /// Every segment that is in the store, with its length.
    pub fn stored(&self) -> impl Iterator<Item = (SegmentId, u64)> + '_ {
        self.stored.iter().map(|(id, stored)| (*id, stored.object.bytes))
    }

    /// Whether a segment is in the store.
    pub fn holds(&self, id: SegmentId) -> bool {
        self.stored.contains_key(&id)
    }

    /// Whether the store was seen to hold a segment, and to be this server's, since the start.
    pub fn is_confirmed(&self, id: SegmentId) -> bool {
        self.stored.get(&id).is_some_and(|stored| stored.is_confirmed)
    }

    /// Whether a segment is about to go, and so not worth rewriting.
    pub fn lets_go(&self, id: SegmentId) -> bool {
        self.leaving.contains(&id)
    }

    /// Whether there are segments of which what is to stay here is to be written elsewhere.
    pub fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Takes out some segments of which what is to stay here is to be written elsewhere, as many as one job takes.
    pub fn take_blocked(&mut self) -> BTreeSet<SegmentId> {
        let (mut taken, mut bytes) = (BTreeSet::new(), 0);
        while let Some(first) = self.blocked.first_entry() {
            bytes += first.get();
            let is_full = taken.len() == limits::TIDY_SEGMENTS_MAX || bytes > limits::TIDY_JOB_BYTES;
            if is_full && !taken.is_empty() {
                break;
            }
            taken.insert(first.remove_entry().0);
        }
        self.leaving.extend(&taken);
        taken
    }

    /// What was to stay here is in a pack, which counts from group `seq` on.
    pub fn relocated(&mut self, seq: GroupSeq) {
        self.relocated = Some(seq);
    }

    /// Entries that recovery found count as written by group `seq`.
    pub fn recovered(&mut self, seq: GroupSeq) {
        self.stored.values_mut().for_each(|stored| stored.seq = seq);
    }
}

/// Uploads.
impl Broker {
    /// The segments of which only the store has a copy, and where they lie there.
    pub fn remote_segments(&self) -> impl Iterator<Item = (SegmentId, StoredObject)> + '_ {
        let stored = self.tiering.stored.iter();
        stored.filter(|(id, _)| self.segments.is_remote(**id)).map(|(id, stored)| (*id, stored.object))
    }

    /// Segments that are in the store, hold something, and nothing of a compacted topic: whoever makes the log of what the store
    /// holds can leave them there.
    pub fn leavable_segments(&self) -> Vec<SegmentId> {
        let compacted = self.held_by_compacted();
        let stored = self.tiering.stored.keys().copied();
        stored.filter(|id| self.segments.is_alive(*id) && !compacted.contains(id)).collect()
    }

    /// Segments in which a compacted topic has something.
    pub(super) fn held_by_compacted(&self) -> BTreeSet<SegmentId> {
        let compacted = self.topics.iter().filter(|topic| topic.settings.compact);
        let logs = compacted.flat_map(|topic| &topic.partitions).map(|partition| &partition.log);
        logs.flat_map(|log| log.ranges().map(|range| range.segment)).collect()
    }

    /// These segments are in the store as well. A log learns of an upload only afterwards, so whoever makes it of what an upload sent
    /// has to say what that one named.
    pub fn know_stored(&mut self, segments: impl IntoIterator<Item = (SegmentId, StoredObject)>) {
        for (id, object) in segments {
            self.tiering.stored.insert(id, Stored { object, seq: 0, is_confirmed: false });
        }
    }

    /// Whether what only the object store has can be read. The error is a sentence.
    pub(super) fn check_store(&self) -> Result<(), String> {
        match self.remote_segments().find(|(id, _)| self.segments.is_alive(*id)) {
            Some((id, _)) if !self.is_tiered() => Err(format!(
                "{id} is in object storage only, and no store is named: start with the --storage settings with which it was \
                 uploaded"
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn is_tiered(&self) -> bool {
        self.settings.config.storage.keeps_objects()
    }

    /// When an upload is due, in monotonic µs; `None` while nothing is. Segments are uploaded when tidying has come to rest, so
    /// that they are not soon replaced; but it is not waited for for long.
    fn upload_due_us(&mut self, now: Now) -> Option<u64> {
        let lacks =
            self.segments.sealed_alive().any(|(id, _)| !self.tiering.stored.get(&id).is_some_and(|s| s.is_confirmed));
        let tiering = &mut self.tiering;
        let of_segments = match lacks {
            false => {
                tiering.waits_since_us = None;
                None
            }
            true => {
                let since = *tiering.waits_since_us.get_or_insert(now.mono_us);
                Some(if self.tidying.is_at_rest() { since } else { since + limits::UPLOAD_PATIENCE_US })
            }
        };
        let interval_us = u64::try_from(self.settings.config.storage.upload_interval_ms).unwrap_or(0) * 1000;
        let is_news = interval_us > 0 && self.durable > tiering.uploaded;
        let of_interval = is_news.then(|| tiering.begun_us + interval_us);
        let of_removals = (tiering.removals > 0).then(|| tiering.begun_us + removals_us(tiering.removal_failures));
        let of_look = tiering.wants_look.then_some(now.mono_us);
        let due = of_segments.into_iter().chain(of_interval).chain(of_removals).chain(of_look).min()?;
        Some(due.max(tiering.earliest_us))
    }

    /// Begins an upload if one is due, or sets the timer for it. One is under way at a time.
    pub(super) fn upload_if_due(&mut self, now: Now) {
        if !self.is_tiered() || self.tiering.uploading.is_some() || self.stopping {
            return;
        }
        let Some(due_us) = self.upload_due_us(now) else { return };
        if due_us > now.mono_us {
            self.tiering.upload_timer_us = self.arm(self.tiering.upload_timer_us, due_us, Timer::Upload);
            return;
        }
        self.tiering.uploading = Some(self.durable);
        self.tiering.begun_us = now.mono_us;
        let looks = self.tiering.wants_look;
        self.effects.push_back(Effect::Upload { looks });
    }

    /// The timer of an upload is due.
    pub(super) fn upload_timer(&mut self, now: Now) {
        self.tiering.upload_timer_us = None;
        self.upload_if_due(now);
    }

    /// With `--upload-interval`: something was written that the store lacks.
    pub(super) fn note_news(&mut self, now: Now) {
        let wants = self.settings.config.storage.upload_interval_ms > 0 && self.tiering.upload_timer_us.is_none();
        if wants {
            self.upload_if_due(now);
        }
    }

    /// The uploader has done its work, or could not.
    pub fn uploaded(&mut self, now: Now, done: UploadDone) {
        let reached = self.tiering.uploading.take().unwrap_or(0);
        self.tiering.free_bytes = done.free_bytes;
        match done.result {
            Ok(objects) => {
                self.tiering.failures = 0;
                self.tiering.earliest_us = now.mono_us + self.upload_pause_us();
                if done.has_looked {
                    self.tiering.seen_us = Some(self.tiering.begun_us);
                    self.tiering.wants_look = false;
                    self.tiering.stored.values_mut().for_each(|stored| stored.is_confirmed = false);
                }
                // The entries are written later, so with an interval one more upload follows, which notes nothing new.
                self.tiering.uploaded = reached;
                if reached >= self.tiering.removed {
                    self.tiering.removals = self.tiering.removals.saturating_sub(1);
                }
                self.count_removal(done.has_superfluous);
                objects.into_iter().for_each(|(id, object)| self.note_stored(id, object));
            }
            Err(UploadError { sentence: why, is_busy: true, .. }) => {
                // However often that comes, it says nothing of the store.
                ::log::debug!("the log is uploaded later: {why}");
                self.tiering.earliest_us = now.mono_us + store_retry_us(0);
            }
            Err(UploadError { sentence: why, is_deposed, is_busy: false }) => {
                if is_deposed {
                    self.tiering.stored.values_mut().for_each(|stored| stored.is_confirmed = false);
                }
                if self.tiering.failures == 0 || !is_same_reason(&why, &self.tiering.failure) {
                    ::log::warn!("the log was not uploaded, and everything stays on this disk: {why}");
                } else {
                    ::log::debug!("the log was not uploaded again: {why}");
                }
                self.tiering.earliest_us = now.mono_us + store_retry_us(self.tiering.failures);
                self.tiering.failures += 1;
                self.tiering.failure = why;
            }
        }
        self.count_tiers();
        self.evict(now);
        self.tidy_if_due(now);
        self.upload_if_due(now);
    }

    /// What was to be removed was, or was not. It is tried again a few times, and then only when something else is uploaded.
    fn count_removal(&mut self, has_failed: bool) {
        let tiering = &mut self.tiering;
        tiering.removal_failures = if has_failed { tiering.removal_failures.saturating_add(1) } else { 0 };
        if (1..=limits::UPLOAD_REMOVAL_TRIES).contains(&tiering.removal_failures) {
            tiering.removals = tiering.removals.max(1);
        } else if has_failed {
            tiering.removals = 0;
        }
    }

    /// From an upload to the next one, in µs, so that a segment does not cost an upload of its own.
    fn upload_pause_us(&self) -> u64 {
        let storage = &self.settings.config.storage;
        let pause_ms = match storage.upload_interval_ms {
            1.. => storage.upload_pause_ms.min(storage.upload_interval_ms),
            _ => storage.upload_pause_ms,
        };
        u64::try_from(pause_ms).unwrap_or(0) * 1000
    }

    /// Whether the store was lately seen to hold what it holds; if not, the next upload looks.
    fn was_seen_lately(&mut self, now: Now) -> bool {
        let tiering = &mut self.tiering;
        let is_lately = tiering.seen_us.is_some_and(|at| now.mono_us < at.saturating_add(limits::EVICT_LOOK_US));
        tiering.wants_look |= !is_lately;
        is_lately
    }

    /// Lets an upload look at what the store holds, soon.
    pub(super) fn look_at_store(&mut self, now: Now) {
        self.tiering.wants_look = true;
        self.upload_if_due(now);
    }

    /// The store holds a segment.
    fn note_stored(&mut self, id: SegmentId, object: StoredObject) {
        if id >= self.segments.unsealed() || !self.segments.contains(id) {
            return;
        }
        if let Some(stored) = self.tiering.stored.get_mut(&id).filter(|stored| stored.object == object) {
            stored.is_confirmed = true;
            return;
        }
        // What does not fit into a full disk's reserve comes with the next upload.
        if self.segments.is_remote(id) || !self.has_space_for_metadata() {
            return;
        }
        let seq = self.append_meta(object_entry(id, Some(object)));
        self.tiering.stored.insert(id, Stored { object, seq, is_confirmed: true });
    }

    /// A segment is gone, and its object goes with it.
    pub(super) fn forget_object(&mut self, id: SegmentId) {
        if self.tiering.stored.remove(&id).is_some() {
            self.tiering.removed = self.append_meta(object_entry(id, None));
            self.tiering.removals = REMOVAL_UPLOADS;
            self.count_tiers();
        }
    }

    /// After a start: objects of segments that are nowhere any more.
    pub(super) fn forget_gone_objects(&mut self) {
        let is_gone = |id: &SegmentId| !self.segments.contains(*id);
        let gone: Vec<SegmentId> = self.tiering.stored.keys().copied().filter(is_gone).collect();
        for id in gone {
            self.forget_object(id);
        }
        if self.is_tiered() && self.durable > 0 {
            // What an earlier life was about to remove may be there still, and no entry says so.
            self.tiering.removals = REMOVAL_UPLOADS;
        }
    }

    pub(super) fn count_tiers(&self) {
        let metrics = &self.settings.metrics;
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let lacking = self.segments.sealed_alive().filter(|(id, _)| !self.tiering.holds(*id));
        metrics.tier_lag_bytes.set(gauge(lacking.map(|(_, segment)| segment.bytes).sum()));
        metrics.tier_stored_bytes.set(gauge(self.tiering.stored().map(|(_, bytes)| bytes).sum()));
        metrics.tier_remote_bytes.set(gauge(self.segments.remote_bytes()));
    }
}

/// What keeps the local copy of a segment.
#[derive(Debug, Default)]
struct Holds {
    /// Data that a topic wants to have here, by time or size.
    recent: BTreeSet<SegmentId>,
    /// Data of compacted topics, which is rewritten now and then, and its bytes.
    compacted: BTreeMap<SegmentId, u64>,
    /// When the first of what is held by time is not any more, in wall-clock ms.
    next_ms: Option<i64>,
}

impl Holds {
    fn look(&mut self, log: &PartitionLog, settings: &TopicSettings, now_ms: i64, candidates: &BTreeSet<SegmentId>) {
        let mut ranges = log.ranges().filter(|range| candidates.contains(&range.segment)).peekable();
        if ranges.peek().is_none() {
            return;
        }
        if settings.compact {
            ranges.for_each(|range| *self.compacted.entry(range.segment).or_default() += range.bytes);
            return;
        }
        let (ms, bytes) = (settings.local_retention_ms, settings.local_retention_bytes);
        let end = log.logical.retention_end(now_ms, ms, bytes, log.ends()).unwrap_or(log.start_offset);
        let before = self.recent.len();
        self.recent.extend(ranges.filter(|range| range.last_offset >= end).map(|range| range.segment));
        if self.recent.len() > before {
            let next = log.logical.expiry_at_ms(end, ms);
            self.next_ms = self.next_ms.into_iter().chain(next).min();
        }
    }
}

/// Local copies.
impl Broker {
    /// Lets local copies go that nobody wants to have here: older than `local.retention.*` of all that is in them, or, when
    /// the filesystem has less free than `--storage-free-bytes`, the oldest. What is in the way and little gets a pack of its own.
    pub(super) fn evict(&mut self, now: Now) {
        // What stays here must durably have its new place before the old one goes.
        if !self.is_tiered() || self.tiering.relocated.is_some_and(|seq| seq > self.durable) {
            return;
        }
        self.tiering.relocated = None;
        self.tiering.blocked.clear();
        let (candidates, waits_for_checkpoint) = self.evictable();
        if !candidates.is_empty() || !waits_for_checkpoint.is_empty() {
            let mut holds = Holds::default();
            let all = candidates.union(&waits_for_checkpoint).copied().collect();
            for topic in self.topics.iter() {
                for partition in &topic.partitions {
                    holds.look(&partition.log, &topic.settings, now.wall_ms, &all);
                }
            }
            let shortage = self.evict_unless_held(now, candidates, &holds);
            let is_held = |id: &SegmentId| self.stays(*id, &holds) || (holds.recent.contains(id) && shortage == 0);
            if !waits_for_checkpoint.iter().all(is_held) {
                self.checkpoint_for_space(now);
            }
            self.arm_evict(now, holds.next_ms);
            self.count_tiers();
        }
        let Tiering { leaving, blocked, .. } = &mut self.tiering;
        leaving.retain(|id| blocked.contains_key(id) || self.tidying.works_on(*id));
        if !blocked.is_empty() {
            self.tidy_if_due(now);
        }
        if self.tiering.wants_look {
            self.upload_if_due(now);
        }
    }

    /// The pack into which something was written that stays here counts durably: what it was in the way of can go.
    pub(super) fn evict_relocated(&mut self, now: Now) {
        if self.tiering.relocated.is_some_and(|seq| seq <= self.durable) {
            self.evict(now);
        }
    }

    /// Lets the segments go that nobody wants here, then the oldest of the others while there is a want of room. What is left
    /// of that, when all that is blocked has gone too. None goes that the store was not lately seen to hold, unless room is wanted and
    /// the store cannot be asked.
    fn evict_unless_held(&mut self, now: Now, candidates: BTreeSet<SegmentId>, holds: &Holds) -> u64 {
        let mut shortage = self.shortage();
        let (held, unheld): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|id| holds.recent.contains(id));
        let some_go = unheld.iter().any(|id| !self.stays(*id, holds)) || (shortage > 0 && !held.is_empty());
        if !some_go || (!self.was_seen_lately(now) && (shortage == 0 || self.tiering.failures == 0)) {
            return shortage;
        }
        let count = unheld.len();
        for (index, id) in unheld.into_iter().chain(held).enumerate() {
            if index >= count && shortage == 0 {
                break;
            }
            let gain = match holds.compacted.get(&id) {
                None => self.evict_segment(id),
                Some(_) if self.stays(id, holds) => 0,
                Some(bytes) => {
                    self.tiering.blocked.insert(id, *bytes);
                    self.segments.bytes_of(id).saturating_sub(*bytes)
                }
            };
            shortage = shortage.saturating_sub(gain);
        }
        shortage
    }

    /// Whether so much of a segment must be here that it is left where it is.
    fn stays(&self, id: SegmentId, holds: &Holds) -> bool {
        let is_much = |bytes: &u64| *bytes > self.segments.live_bytes_of(id) / limits::RELOCATE_PART;
        holds.compacted.get(&id).is_some_and(|bytes| is_much(bytes) || self.tidying.avoids(id))
    }

    /// Segments whose local copy could go, and those of which it could if checkpoints knew that they are stored.
    fn evictable(&self) -> (BTreeSet<SegmentId>, BTreeSet<SegmentId>) {
        let floor = self.segments.floor();
        let stored = self.tiering.stored.iter().filter(|(id, stored)| {
            let is_here =
                self.segments.contains(**id) && !self.segments.is_remote(**id) && self.segments.is_alive(**id);
            stored.is_confirmed && is_here && **id < self.segments.unsealed() && !self.tidying.works_on(**id)
        });
        let is_known = |id: SegmentId, stored: &Stored| id < floor.segment && stored.seq <= floor.seq;
        let (known, unknown): (Vec<_>, Vec<_>) = stored.partition(|(id, stored)| is_known(**id, stored));
        let ids = |all: Vec<(&SegmentId, &Stored)>| all.into_iter().map(|(id, _)| *id).collect();
        (ids(known), ids(unknown))
    }

    /// Bytes that should be free and are not.
    pub(super) fn shortage(&self) -> u64 {
        let wanted = self.settings.config.storage.local_free_bytes;
        let missing = self.tiering.free_bytes.map_or(0, |free| wanted.saturating_sub(free));
        match self.out_of_space {
            true => missing.max(self.settings.config.log_segment_bytes),
            false => missing,
        }
    }

    /// Lets a local copy go; its bytes.
    fn evict_segment(&mut self, id: SegmentId) -> u64 {
        let bytes = self.segments.bytes_of(id);
        let Some(stored) = self.tiering.stored.get(&id) else { return 0 };
        ::log::debug!("{id} is in the object store only from now on");
        self.effects.push_back(Effect::Evict(id, stored.object));
        self.segments.evicted(id);
        self.settings.metrics.tier_evicted_segments.add(1);
        if let Some(free) = &mut self.tiering.free_bytes {
            *free = free.saturating_add(bytes);
        }
        bytes
    }

    /// Sets the timer for when the next local copy is old enough.
    fn arm_evict(&mut self, now: Now, next_ms: Option<i64>) {
        let Some(next_ms) = next_ms else { return };
        let at_us = self.next_check_us(now, next_ms);
        self.tiering.evict_timer_us = self.arm(self.tiering.evict_timer_us, at_us, Timer::Evict);
    }

    /// Something was deleted, which may have held what could leave the disk.
    pub(super) fn look_at_eviction(&mut self, now: Now) {
        if self.is_tiered() && !self.tiering.stored.is_empty() {
            self.arm_evict(now, Some(now.wall_ms));
        }
    }

    /// The timer of eviction is due.
    pub(super) fn evict_timer(&mut self, now: Now) {
        self.tiering.evict_timer_us = None;
        self.evict(now);
    }
}

/// Reading.
impl Broker {
    /// The store could not be read. While that goes on it is said now and then.
    pub(super) fn store_is_away(&mut self, now: Now, why: &str) {
        let said_us = self.tiering.away_said_us.map_or(0, |said_us| said_us + limits::AWAY_SAID_US);
        if self.tiering.away_said_us.is_none() || now.mono_us >= said_us {
            self.tiering.away_said_us = Some(now.mono_us);
            ::log::warn!("what only the object store has cannot be read now: {why}");
        }
    }
}

/// Offsets, for KIP-405 and KIP-1023.
impl Broker {
    /// The first offset from which on everything is on this disk.
    pub(super) fn local_start(&self, log: &PartitionLog) -> i64 {
        let remote = log.ranges().rev().find(|range| self.segments.is_remote(range.segment));
        remote.map_or(log.start_offset, |range| log.start_offset.max(range.last_offset + 1))
    }

    /// The last offset up to which everything is in the store; `None` while nothing is.
    pub(super) fn stored_end(&self, log: &PartitionLog) -> Option<i64> {
        log.ranges().take_while(|range| self.tiering.holds(range.segment)).last().map(|range| range.last_offset)
    }
}
