//! Owns filling a new data directory with what was found readable, and opening it once with raised leader epochs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::failure::Failure;
use super::repair::Plan;
use super::sources::Chosen;
use crate::broker::recovery::{LogState, Recovering};
use crate::broker::settings::Settings;
use crate::broker::{Broker, CheckpointDone, Effect, Now};
use crate::config::{Config, Fsync};
use crate::limits;
use crate::metrics::Metrics;
use crate::sys::clock::Clock;
use crate::sys::disk::{Disk, DiskFile, OpenMode};
use crate::wal::marker::Marker;
use crate::wal::recovery::{recover, Recovered, Replay};
use crate::wal::settings::{FsyncMode, LogOptions, MetadataStore};
use crate::wal::writer::Writer;
use crate::wal::{
    checkpoint, segment, Fatal, Group, GroupSeq, MetaEntry, PartitionId, PlannedBatch, PlannedRun, RecoverError,
    RunRef, SegmentId,
};
use crate::wire::batch;
use crate::wire::Uuid;

/// How much went into the new directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copied {
    pub batches: u64,
    pub bytes: u64,
}

/// Writes what the survey finds into a new log.
pub struct Copying<'a> {
    plan: &'a Plan,
    writer: Writer,
    seq: GroupSeq,
    /// What is gathered for the next group.
    runs: BTreeMap<PartitionId, PlannedRun>,
    gathered: usize,
    copied: Copied,
}

/// The log is forced to the disk when a segment is sealed, and at the end; until then nobody is promised anything.
fn options(in_files: bool) -> LogOptions {
    let metadata = if in_files { MetadataStore::Files } else { MetadataStore::Log };
    LogOptions { metadata, fsync: FsyncMode::Never, ..LogOptions::default() }
}

fn refused(error: RecoverError) -> Failure {
    Failure::error(format!("The new data directory cannot be opened: {error}"))
}

fn fatal(error: Fatal) -> Failure {
    Failure::error(format!("The new data directory cannot be written: {error}"))
}

/// A new directory has nothing to replay.
struct Empty;

impl Replay for Empty {
    fn checkpoint(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn meta(&mut self, _: MetaEntry) -> Result<(), String> {
        Ok(())
    }

    fn run(&mut self, _: RunRef, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn segment(&mut self, _: SegmentId, _: u64, _: bool) {}
}

impl<'a> Copying<'a> {
    /// Makes the directory, with the cluster's id, and writes all metadata. Records come behind it, so that their topics
    /// are there when the log is replayed.
    pub fn begin(
        disk: Arc<dyn Disk>,
        plan: &'a Plan,
        in_files: bool,
        cluster: Option<String>,
    ) -> Result<Copying<'a>, Failure> {
        let made = recover(disk.clone(), options(in_files), &mut Empty).map_err(refused)?;
        if let (Some(cluster), Some(mut marker)) = (cluster, Marker::load(&*disk).map_err(refused)?) {
            marker.cluster = cluster;
            marker.store(&*disk)?;
        }
        let mut copying = Copying {
            plan,
            writer: made.writer,
            seq: made.next_seq,
            runs: BTreeMap::new(),
            gathered: 0,
            copied: Copied::default(),
        };
        let mut meta = Vec::new();
        let mut bytes = 0;
        for ((table, scope, key), value) in &plan.entries {
            bytes += scope.len() + key.len() + value.len();
            meta.push(MetaEntry { table: *table, scope: scope.clone(), key: key.clone(), value: Some(value.clone()) });
            if bytes > limits::REPAIR_GROUP_BYTES_MAX {
                copying.write(std::mem::take(&mut meta), Vec::new())?;
                bytes = 0;
            }
        }
        copying.write(meta, Vec::new())?;
        Ok(copying)
    }

    fn write(&mut self, meta: Vec<MetaEntry>, runs: Vec<PlannedRun>) -> Result<(), Failure> {
        if meta.is_empty() && runs.is_empty() {
            return Ok(());
        }
        let group = Group { seq: self.seq, meta, runs, seal_after: false };
        self.writer.step(group).map_err(fatal)?;
        self.writer.tend();
        self.seq += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let runs = std::mem::take(&mut self.runs).into_values().collect();
        self.gathered = 0;
        self.write(Vec::new(), runs)
    }

    /// Writes what is left and seals the log.
    pub fn finish(mut self) -> Result<Copied, Failure> {
        self.flush()?;
        self.writer.close().map_err(fatal)?;
        Ok(self.copied)
    }
}

impl Copying<'_> {
    /// Copies what was chosen, partition by partition.
    pub fn copy(&mut self, from: &dyn Disk) -> Result<(), Failure> {
        let mut files: BTreeMap<SegmentId, Arc<dyn DiskFile>> = BTreeMap::new();
        let plan = self.plan;
        for (id, pieces) in &plan.chosen {
            for piece in pieces.iter().filter(|piece| plan.wants(*id, piece.last)) {
                let segment = piece.run.segment;
                if files.len() >= limits::READ_HANDLES_MAX && !files.contains_key(&segment) {
                    files.clear();
                }
                let file = match files.get(&segment) {
                    Some(file) => file.clone(),
                    None => from.open(&segment::path(segment), OpenMode::Cached)?,
                };
                files.insert(segment, file.clone());
                let mut bytes = vec![0; piece.run.len as usize];
                let read = file.read_at(&mut bytes, piece.run.position)?;
                self.piece(piece, &bytes[..read])?;
            }
        }
        Ok(())
    }

    fn piece(&mut self, piece: &Chosen, batches: &[u8]) -> Result<(), Failure> {
        let run = &piece.run;
        let mut left = batches.len();
        for batch in batch::batches(batches).flatten() {
            left -= batch.bytes.len();
            let (base_offset, last_offset) = (batch.header.base_offset, batch.header.last_offset());
            if !batch::verify_crc(batch.bytes) {
                left = usize::MAX;
                break;
            }
            if base_offset < piece.first || last_offset > piece.last {
                continue;
            }
            let planned = self.runs.entry(run.id).or_insert_with(|| PlannedRun {
                id: run.id,
                base_offset,
                last_offset,
                max_timestamp: -1,
                batches: Vec::new(),
            });
            planned.last_offset = last_offset;
            planned.max_timestamp = planned.max_timestamp.max(batch.header.max_timestamp);
            let bytes = Bytes::copy_from_slice(batch.bytes);
            planned.batches.push(PlannedBatch { bytes, base_offset, leader_epoch: batch.header.leader_epoch });
            self.gathered += batch.bytes.len();
            self.copied.batches += 1;
            self.copied.bytes += batch.bytes.len() as u64;
        }
        if left != 0 || batches.len() != run.len as usize {
            let (file, position) = (segment::path(run.segment), run.position);
            return Err(Failure::error(format!("{file} at position {position} has changed since it was read.")));
        }
        if self.gathered >= limits::GROUP_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }
}

/// Opens the directory as a server does after records were lost: leader epochs rise, and a checkpoint holds them.
pub fn settle(disk: Arc<dyn Disk>, in_files: bool) -> Result<(), Failure> {
    let clock = Clock::start();
    let now = Now { mono_us: clock.mono_us(), wall_ms: clock.wall_ms() };
    // Without a promise of fsync an unclean log makes the broker raise its epochs before anything else.
    let config = Config { fsync: Fsync::Never, ..Config::default() };
    let settings = Settings {
        config,
        cluster_id: String::new(),
        advertised_host: None,
        advertised_port: None,
        seed: u64::from_be_bytes(random()?),
        metadata_in_log: !in_files,
        metrics: Arc::new(Metrics::new()),
    };
    let mut recovering = Recovering::new(settings);
    let mut log = recover(disk.clone(), options(in_files), &mut recovering).map_err(refused)?;
    let state = LogState { clean: false, ..LogState::of(&log) };
    let cannot = |what: String| Failure::error(format!("The new data directory cannot be opened: {what}."));
    let mut broker = recovering.finish(now, state).map_err(cannot)?;
    if !drive(&mut broker, &mut log, &*disk, now)? {
        return Err(cannot("no checkpoint with the raised epochs was taken".to_owned()));
    }
    log.writer.close().map_err(fatal)
}

fn random() -> Result<[u8; 8], Failure> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| Failure::error(format!("There are no random numbers: {error}.")))?;
    Ok(seed)
}

/// Carries out what the broker wants until it wants nothing more; whether a checkpoint was written.
fn drive(broker: &mut Broker, log: &mut Recovered, disk: &dyn Disk, now: Now) -> Result<bool, Failure> {
    let directory: Uuid = log.directory_id;
    let mut written = false;
    loop {
        while let Some(effect) = broker.next_effect() {
            if let Effect::Checkpoint(job) = effect {
                let floor = checkpoint::write(disk, directory, job.seq, job.position, &job.state.into_bytes())
                    .map_err(std::io::Error::from)?;
                broker.checkpoint_done(now, CheckpointDone { seq: job.seq, result: Ok(floor) });
                written = true;
            }
        }
        let Some(group) = broker.next_group(now) else { return Ok(written) };
        let done = log.writer.step(group).map_err(fatal)?;
        broker.written(now, done);
    }
}
