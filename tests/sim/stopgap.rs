//! Owns a stand-in for the log's reader and the workers until the real ones are here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chronik::broker::work::{WorkDone, WorkJob};
use chronik::sys::disk::{Disk, OpenMode};
use chronik::wal::{
    segment, PartitionId, Place, ReadDone, ReadError, ReadFound, ReadJob, ReadKind, RunRef, SegmentHandle, SegmentId,
    Splice,
};

use super::batch;

pub type Known = Arc<Mutex<BTreeMap<(SegmentId, PartitionId), Vec<RunRef>>>>;

pub fn remember(known: &Known, run: RunRef) {
    let mut known = known.lock().unwrap();
    let runs = known.entry((run.segment, run.id)).or_default();
    if !runs.contains(&run) {
        runs.push(run);
        runs.sort_by_key(|r| r.base_offset);
    }
}

pub fn work(job: WorkJob) -> WorkDone {
    WorkDone { job: job.job, parts: job.parts.into_iter().map(|p| Ok(p.records)).collect() }
}

fn runs_of(known: &Known, id: PartitionId, place: &Place) -> Vec<RunRef> {
    place.runs.clone().unwrap_or_else(|| known.lock().unwrap().get(&(place.segment, id)).cloned().unwrap_or_default())
}

pub fn read(disk: &dyn Disk, known: &Known, job: &ReadJob) -> ReadDone {
    ReadDone { job: job.job, id: job.id, result: try_read(disk, known, job).map_err(|e| ReadError::Io(e.to_string())) }
}

fn try_read(disk: &dyn Disk, known: &Known, job: &ReadJob) -> std::io::Result<ReadFound> {
    let load = |run: &RunRef| -> std::io::Result<(SegmentHandle, Vec<batch::Batch>)> {
        let file = disk.open(&segment::path(run.segment), OpenMode::Cached)?;
        let mut bytes = vec![0; run.len as usize];
        file.read_at(&mut bytes, run.position)?;
        let batches = batch::parse(&bytes.into()).map_err(std::io::Error::other)?;
        Ok((SegmentHandle { segment: run.segment, file }, batches))
    };
    match &job.kind {
        ReadKind::Fetch { place, offset, end_offset, bytes_max, .. } => {
            let mut splices: Vec<Splice> = Vec::new();
            let mut total = 0;
            for run in runs_of(known, job.id, place).iter().filter(|r| r.last_offset >= *offset) {
                let (handle, batches) = load(run)?;
                let mut at = run.position;
                for b in batches {
                    let len = b.bytes.len() as u32;
                    if b.last_offset >= *offset && b.base_offset < *end_offset {
                        if total > 0 && total + len > *bytes_max {
                            return Ok(ReadFound::Splices(splices));
                        }
                        total += len;
                        splices.push(Splice { handle: handle.clone(), position: at, len });
                    }
                    at += u64::from(len);
                }
            }
            Ok(ReadFound::Splices(splices))
        }
        ReadKind::FirstAtOrAfter { places, start_offset, end_offset, timestamp } => {
            for place in places {
                for run in runs_of(known, job.id, place) {
                    for b in load(&run)?.1 {
                        for (n, t) in b.timestamps.iter().enumerate() {
                            let o = b.base_offset + n as i64;
                            if (*start_offset..*end_offset).contains(&o) && t >= timestamp {
                                return Ok(ReadFound::Record(Some((o, *t, b.leader_epoch))));
                            }
                        }
                    }
                }
            }
            Ok(ReadFound::Record(None))
        }
        ReadKind::MaxTimestamp { places, start_offset, end_offset } => {
            let mut best: Option<(i64, i64, i32)> = None;
            for place in places {
                for run in runs_of(known, job.id, place) {
                    for b in load(&run)?.1 {
                        for (n, t) in b.timestamps.iter().enumerate() {
                            let o = b.base_offset + n as i64;
                            if (*start_offset..*end_offset).contains(&o) && best.is_none_or(|x| x.1 < *t) {
                                best = Some((o, *t, b.leader_epoch));
                            }
                        }
                    }
                }
            }
            Ok(ReadFound::Record(best))
        }
    }
}
