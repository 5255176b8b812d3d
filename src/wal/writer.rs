//! Owns the open segment: writes groups, makes them durable, rotates, and keeps space reserved ahead.
//!
//! Everything is synchronous. An error while a group is written ends the log (`Fatal`): nothing is tried twice, and
//! recovery decides from the disk. An error while the next segment is prepared only means less reserved space.

use std::sync::Arc;
use std::time::Instant;

use super::encode::{self, Place};
use super::files::MetaFiles;
use super::footer::{footer_bytes_max, PAGE_BYTES};
use super::format::{Identity, SegmentHeader};
use super::pool::BufferPool;
use super::segment::{self, Segment};
use super::settings::{Entropy, FsyncMode, LogOptions};
use super::{ballast, Fatal, Group, GroupSeq, LogPosition, RunRef, SegmentHandle, SegmentId, Written};
use crate::canary::{self, Fault};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::Disk;
use crate::wire::Uuid;

/// The only one that writes groups. Made by recovery.
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    directory: Uuid,
    block: u64,
    entropy: Entropy,
    active: Option<Active>,
    /// The segment after the active one, made ahead so that its space is reserved.
    prepared: Option<Segment>,
    /// The segment of the last group, for those who ask while there is no active one.
    last: (SegmentHandle, LogPosition),
    next_segment: SegmentId,
    seqs: Seqs,
    /// A segment is to be sealed as soon as another is prepared.
    seal_wanted: bool,
    /// Groups were written since the last sync.
    unsynced: bool,
    /// Whether the last attempt to reserve space failed, so that it is said once.
    starved: bool,
    files: Option<MetaFiles>,
    pool: BufferPool,
    fatal: Option<Fatal>,
}

/// The open segment.
#[derive(Debug)]
struct Active {
    segment: Segment,
    seed: u32,
    position: u64,
    runs: Vec<RunRef>,
    first_seq: GroupSeq,
    last_seq: GroupSeq,
    /// Length of the last group with its padding.
    last_len: u64,
    /// Up to where zeros were written ahead of the groups.
    zeroed: u64,
}

/// Sequences of groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seqs {
    /// The last group that was taken, written or not.
    pub last: GroupSeq,
    /// The last group in the log; 0 when that is not known.
    pub logged: GroupSeq,
    /// The last group that is known to be durable.
    pub durable: GroupSeq,
}

/// What recovery found, for the writer to go on from.
pub(super) struct Start {
    pub disk: Arc<dyn Disk>,
    pub options: LogOptions,
    pub directory: Uuid,
    pub entropy: Entropy,
    /// An unused segment with a fresh incarnation.
    pub unused: Option<Segment>,
    pub last: (SegmentHandle, LogPosition),
    pub next_segment: SegmentId,
    pub seqs: Seqs,
    pub files: Option<MetaFiles>,
}

impl Active {
    fn new(segment: Segment) -> Active {
        let (seed, position) = (segment.header.identity.seed(), segment.block());
        Active { segment, seed, position, runs: Vec::new(), first_seq: 0, last_seq: 0, last_len: 0, zeroed: position }
    }

    fn room(&self) -> u64 {
        room(&self.segment, self.position, self.runs.len() as u64)
    }

    fn fits(&self, bytes: u64, runs: usize) -> bool {
        let footer = footer_bytes_max((self.runs.len() + runs) as u64, self.segment.block());
        self.position + bytes + footer <= self.segment.header.file_bytes
    }

    fn is_used(&self) -> bool {
        self.last_seq != 0
    }

    fn next(&self) -> LogPosition {
        LogPosition { segment: self.segment.header.identity.segment, position: self.position }
    }
}

/// What groups may still cost (`cost_bytes`) in a segment: the rest without the footer, whose last page may be new.
fn room(segment: &Segment, position: u64, runs: u64) -> u64 {
    let slack = segment.block() + PAGE_BYTES as u64;
    segment.header.file_bytes.saturating_sub(position + footer_bytes_max(runs, segment.block()) + slack)
}

impl Writer {
    pub(super) fn new(start: Start) -> Writer {
        let block = start.disk.block_bytes() as u64;
        let mut writer = Writer {
            disk: start.disk,
            options: start.options,
            directory: start.directory,
            block,
            entropy: start.entropy,
            active: start.unused.map(Active::new),
            prepared: None,
            last: start.last,
            next_segment: start.next_segment,
            seqs: start.seqs,
            seal_wanted: false,
            unsynced: false,
            starved: false,
            files: start.files,
            pool: BufferPool::default(),
            fatal: None,
        };
        writer.reserve(false);
        writer
    }

    /// Makes a group durable (or, with another fsync mode than always, written), all of it or nothing.
    ///
    /// A group without content writes nothing and tries to reserve space again, so it is a probe when the disk was
    /// full; with `seal_after` it seals the segment. Sequences must increase. When `seal_after` cannot be carried out
    /// because no other segment could be prepared, it is done as soon as one can. After a `Fatal` every further call
    /// returns it again and touches nothing.
    pub fn step(&mut self, group: Group) -> Result<Written, Fatal> {
        if let Some(fatal) = &self.fatal {
            return Err(fatal.clone());
        }
        let result = self.try_step(group);
        if let Err(fatal) = &result {
            self.fatal = Some(fatal.clone());
        }
        result
    }

    /// Makes everything written durable; only needed with the modes interval and never.
    pub fn sync(&mut self) -> Result<(), Fatal> {
        if let Some(fatal) = &self.fatal {
            return Err(fatal.clone());
        }
        let Some(active) = self.active.as_ref().filter(|_| self.unsynced) else { return Ok(()) };
        if let Err(error) = active.segment.file.sync_data() {
            let fatal = Fatal::io("syncing the log", &error);
            self.fatal = Some(fatal.clone());
            return Err(fatal);
        }
        self.synced();
        Ok(())
    }

    /// Seals the open segment for an orderly stop, so that the next start finds a clean log.
    pub fn close(&mut self) -> Result<(), Fatal> {
        if let Some(fatal) = &self.fatal {
            return Err(fatal.clone());
        }
        let result = self.seal().map(|_| ());
        if let Err(fatal) = &result {
            self.fatal = Some(fatal.clone());
        }
        result
    }

    /// True when groups were written and not synced.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// When groups count as durable.
    pub fn fsync_mode(&self) -> FsyncMode {
        self.options.fsync
    }

    /// Reserves space ahead if that is due, so that the next group need not wait for it. Never fails: see
    /// `space_bytes`.
    pub fn tend(&mut self) {
        if self.fatal.is_none() {
            self.reserve(false);
            self.write_zeros_ahead();
        }
    }

    /// Small groups are synced much faster where the file was written before: the first write to preallocated space
    /// makes the filesystem note that, and each sync then waits for its journal as well. So zeros are written ahead of
    /// small groups, some dozens of groups at a time. Large ones carry that cost easily, and would only be written
    /// twice.
    fn write_zeros_ahead(&mut self) {
        let Some(active) = &mut self.active else { return };
        let near = active.zeroed < active.position + limits::ZERO_AHEAD_BYTES / 4;
        let is_small = (1..=limits::ZERO_AHEAD_BYTES / 8).contains(&active.last_len);
        if self.options.fsync != FsyncMode::Always || !is_small || !near {
            return;
        }
        let from = active.zeroed.max(active.position);
        let to = (active.position + limits::ZERO_AHEAD_BYTES).min(active.segment.header.file_bytes);
        if from >= to {
            return;
        }
        let mut zeros = self.pool.take((to - from) as usize);
        zeros.resize((to - from) as usize);
        // Failing costs only speed, and is not tried again in this segment. What it hints at, the next group will meet.
        let failed = active.segment.file.write_at(&zeros, from).is_err();
        active.zeroed = if failed { u64::MAX } else { to };
        self.pool.give(Arc::new(zeros));
    }

    /// Bytes that groups may cost (`format::cost_bytes`) in all before space has to be asked for again.
    pub fn space_bytes(&self) -> u64 {
        if self.files.is_some() && !ballast::is_safe(&*self.disk, self.options.ballast_bytes) {
            return 0;
        }
        // When the rest of the active segment is left for the next one, that one alone must be enough.
        match (&self.prepared, &self.active) {
            (Some(next), _) => room(next, next.block(), 0),
            (None, Some(active)) => active.room(),
            (None, None) => 0,
        }
    }

    /// Where the next group goes.
    pub fn position(&self) -> LogPosition {
        self.active.as_ref().map_or(self.last.1, Active::next)
    }

    /// False when no segment could be opened because the disk is full.
    pub(super) fn has_open_segment(&self) -> bool {
        self.active.is_some()
    }

    /// The pool that group buffers come from; what the ring lets go is given back there.
    pub fn pool(&self) -> BufferPool {
        self.pool.clone()
    }

    /// Gives a group's buffer back for use again.
    pub fn recycle(&self, buf: Arc<AlignedBuf>) {
        self.pool.give(buf);
    }

    fn try_step(&mut self, mut group: Group) -> Result<Written, Fatal> {
        let is_empty = group.meta.is_empty() && group.runs.is_empty();
        if !is_empty && group.seq <= self.seqs.last {
            return Err(Fatal::new(format!("group {} comes after group {}", group.seq, self.seqs.last)));
        }
        // Whoever probes wants more than there is, however little of the segment is used.
        self.reserve(is_empty && !group.seal_after);
        let meta = self.files.is_some().then(|| std::mem::take(&mut group.meta));
        if let (Some(files), Some(meta)) = (&mut self.files, &meta) {
            files.set(meta).map_err(|e| Fatal::io("writing metadata", &e))?;
        }
        self.seqs.last = self.seqs.last.max(group.seq);
        let mut written = match group.meta.is_empty() && group.runs.is_empty() {
            true => self.nothing_written(group.seq),
            false => self.write(&group)?,
        };
        if let (Some(files), Some(meta)) = (&mut self.files, &meta) {
            files.remove(meta).map_err(|e| Fatal::io("writing metadata", &e))?;
        }
        self.seal_wanted |= group.seal_after;
        // A group that opened a segment needs no second roll; one that still wants it gets it at the next step.
        if written.sealed.is_none() {
            written.sealed = self.seal_if_wanted()?;
        }
        written.next = self.position();
        written.space_bytes = self.space_bytes();
        Ok(written)
    }

    fn nothing_written(&self, seq: GroupSeq) -> Written {
        let next = self.position();
        let handle = self.active.as_ref().map_or_else(|| self.last.0.clone(), |active| active.segment.handle());
        Written {
            seq,
            runs: Vec::new(),
            handle,
            position: next.position,
            buf: Arc::new(AlignedBuf::with_capacity(1)),
            next,
            sealed: None,
            space_bytes: 0,
            sync_micros: 0,
        }
    }

    fn write(&mut self, group: &Group) -> Result<Written, Fatal> {
        let len = encode::group_bytes(group, self.block).map_err(Fatal::new)?;
        let sealed = self.make_room(len, group.runs.len())?;
        let Some(active) = &mut self.active else { return Err(Fatal::new("no segment is open")) };
        let place = Place {
            identity: &active.segment.header.identity,
            seed: active.seed,
            position: active.position,
            previous_seq: self.seqs.logged,
            durable_seq: self.seqs.durable,
            block: self.block,
        };
        let mut buf = self.pool.take(len as usize);
        let runs = encode::encode(group, &place, &mut buf);
        let started = Instant::now();
        let file = &active.segment.file;
        let written = file.write_at(&buf, active.position);
        if !canary::has(Fault::WriteErrorIgnored) {
            written.map_err(|e| Fatal::io("writing to the log", &e))?;
        }
        if self.options.fsync == FsyncMode::Always && !canary::has(Fault::UnsyncedGroup) {
            let again = |e| if canary::has(Fault::SyncErrorIgnored) { file.sync_data() } else { Err(e) };
            file.sync_data().or_else(again).map_err(|e| Fatal::io("syncing the log", &e))?;
        }
        let sync_micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (handle, position) = (active.segment.handle(), active.position);
        active.position += buf.len() as u64;
        active.last_len = buf.len() as u64;
        active.runs.extend_from_slice(&runs);
        active.last_seq = group.seq;
        if active.first_seq == 0 {
            active.first_seq = group.seq;
        }
        self.seqs.logged = group.seq;
        self.unsynced = true;
        if self.options.fsync == FsyncMode::Always {
            self.synced();
        }
        let next = self.position();
        let buf = Arc::new(buf);
        Ok(Written { seq: group.seq, runs, handle, position, buf, next, sealed, space_bytes: 0, sync_micros })
    }

    fn synced(&mut self) {
        self.unsynced = false;
        self.seqs.durable = self.seqs.logged;
    }

    /// Turns to the next segment when a group does not fit the active one. The segment sealed by that, with its length.
    fn make_room(&mut self, len: u64, runs: usize) -> Result<Option<(SegmentId, u64)>, Fatal> {
        if self.active.as_ref().is_some_and(|active| active.fits(len, runs)) {
            return Ok(None);
        }
        let sealed = self.seal()?;
        if self.active.as_ref().is_some_and(|active| active.fits(len, runs)) {
            return Ok(sealed);
        }
        // Only a group larger than was announced, or more than was reserved, comes here.
        let footer = footer_bytes_max(runs as u64, self.block);
        let need = 2 * self.block + len + footer;
        let id = self.active.take().map_or(self.next_segment, |active| active.segment.header.identity.segment);
        let made = self.create(id, need.max(self.segment_bytes()));
        let segment = made.map_err(|e| Fatal::io("making room in the log for a group", &e))?;
        self.next_segment = id.next();
        self.active = Some(Active::new(segment));
        Ok(sealed)
    }

    fn seal_if_wanted(&mut self) -> Result<Option<(SegmentId, u64)>, Fatal> {
        let Some(active) = &self.active else { return Ok(None) };
        if !active.is_used() {
            self.seal_wanted = false;
            return Ok(None);
        }
        if !self.seal_wanted && active.runs.len() < limits::SEGMENT_RUNS_MAX {
            return Ok(None);
        }
        // Space that was promised must stay, so the active segment is given up only for another.
        self.reserve(true);
        if self.prepared.is_none() {
            return Ok(None);
        }
        self.seal_wanted = false;
        self.seal()
    }

    /// Seals the active segment if it holds a group, and opens the prepared one if there is one.
    fn seal(&mut self) -> Result<Option<(SegmentId, u64)>, Fatal> {
        let Some(active) = &mut self.active else {
            self.active = self.prepared.take().map(Active::new);
            return Ok(None);
        };
        if !active.is_used() {
            return Ok(None);
        }
        let Segment { header, file } = &active.segment;
        let end = active.position;
        if self.unsynced {
            // The footer says that all groups are there, so they are made durable before it can be.
            file.sync_data().map_err(|e| Fatal::io("syncing the log", &e))?;
        }
        let bytes = segment::seal(&**file, header, end, &mut active.runs, active.first_seq, active.last_seq)
            .map_err(|e| Fatal::io("sealing a segment", &e))?;
        let id = header.identity.segment;
        self.last = (active.segment.handle(), active.next());
        self.synced();
        self.active = self.prepared.take().map(Active::new);
        Ok(Some((id, bytes)))
    }

    /// Makes the next segment when the active one is half used (or `now`), and the ballast if it is missing.
    fn reserve(&mut self, now: bool) {
        let half = |active: &Active| {
            let header = &active.segment.header;
            active.position > header.file_bytes / 2 || active.runs.len() > limits::SEGMENT_RUNS_MAX / 2
        };
        let bytes = self.segment_bytes();
        // One that was opened short and holds no group is replaced: no group may find it too short when it is the next.
        let short = self.active.as_ref().filter(|active| !active.is_used() && active.segment.header.file_bytes < bytes);
        let replaced = short.map(|active| active.segment.header.identity.segment);
        if self.prepared.is_some() || !(now || replaced.is_some() || self.active.as_ref().is_none_or(half)) {
            return;
        }
        let free = self.disk.free_bytes().unwrap_or(0);
        // Half a reservation would take the room that checkpoints need, so it is not begun.
        let made = match free >= bytes {
            true => self.create(replaced.unwrap_or(self.next_segment), bytes),
            false => Err(std::io::Error::new(std::io::ErrorKind::StorageFull, format!("{free} bytes are free"))),
        };
        match made {
            Ok(segment) => {
                if std::mem::take(&mut self.starved) {
                    log::info!("the log has reserved space for {bytes} bytes again");
                }
                if replaced.is_none() {
                    self.next_segment = self.next_segment.next();
                }
                match self.active {
                    Some(_) if replaced.is_none() => self.prepared = Some(segment),
                    _ => self.active = Some(Active::new(segment)),
                }
                ballast::make(&*self.disk, self.options.ballast_bytes);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.starved, true) {
                    log::warn!("no space for the log's next segment of {bytes} bytes: {error}");
                }
                if self.active.is_none() {
                    self.open_short_segment(bytes);
                }
            }
        }
    }

    /// Opens a segment that is shorter than usual, if there is room for one. An unclean stop on a full disk seals the segment in
    /// which room was kept for metadata; without another one no topic could be deleted any more, and no space ever come back.
    /// It is too short for Produce, which leaves that room alone.
    fn open_short_segment(&mut self, usual_bytes: u64) {
        for bytes in [limits::META_RESERVE_BYTES as u64, limits::SEGMENT_BYTES_MIN] {
            if bytes >= usual_bytes || self.disk.free_bytes().unwrap_or(0) < bytes {
                continue;
            }
            if let Ok(segment) = self.create(self.next_segment, bytes) {
                self.next_segment = self.next_segment.next();
                self.active = Some(Active::new(segment));
                return;
            }
        }
    }

    fn create(&mut self, id: SegmentId, file_bytes: u64) -> std::io::Result<Segment> {
        let identity = Identity { directory: self.directory, segment: id, incarnation: self.entropy.next_u64()? };
        let block_bytes = self.block as u32;
        segment::create(&*self.disk, SegmentHeader { identity, block_bytes, file_bytes })
    }

    fn segment_bytes(&self) -> u64 {
        segment_bytes(&self.options, self.block)
    }
}

/// The length that segments are preallocated with: as the options say, but enough for the largest group.
pub(super) fn segment_bytes(options: &LogOptions, block: u64) -> u64 {
    // Twice, so that a rotation never leaves most of a segment empty.
    let least = 2 * options.group_bytes_max + 8 * block;
    super::format::round_up(options.segment_bytes.max(least), block)
}
