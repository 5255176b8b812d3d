//! Owns one life of the server: the broker with its log, its readers and its housekeeper, without their threads.

use std::sync::Arc;

use bytes::Bytes;
use chronik::broker::recovery::{LogState, Recovering};
use chronik::broker::settings::Settings;
use chronik::broker::{Broker, CheckpointDone, CheckpointJob, Now, Response};
use chronik::sys::disk::Disk;
use chronik::wal::recovery::{recover, Replay};
use chronik::wal::settings::LogOptions;
use chronik::wal::writer::Writer;
use chronik::wal::{
    checkpoint, remove_segment, Group, GroupSeq, MetaEntry, ReadDone, ReadJob, RunRef, SegmentId, Splice, Written,
};
use chronik::wire::Uuid;

use super::disk::SimDisk;

/// A server that is up.
pub struct Node {
    pub broker: Broker,
    /// A group is being written.
    pub in_flight: bool,
    /// For which of the broker's timers a wake-up is scheduled.
    pub deadline_us: Option<u64>,
    /// The last group that recovery found.
    pub recovered: GroupSeq,
    writer: Writer,
    disk: Arc<dyn Disk>,
    directory: Uuid,
    known: super::stopgap::Known,
}

/// Hands what the log finds to the broker that is being put together.
struct Bridge(Recovering, super::stopgap::Known);

impl Replay for Bridge {
    fn checkpoint(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.checkpoint(bytes)
    }

    fn meta(&mut self, entry: MetaEntry) -> Result<(), String> {
        self.0.meta(&entry)
    }

    fn run(&mut self, run: RunRef, batches: &[u8]) -> Result<(), String> {
        super::stopgap::remember(&self.1, run);
        self.0.run(run, batches)
    }

    fn segment(&mut self, id: SegmentId, bytes: u64, _sealed: bool) {
        self.0.segment(id, bytes);
    }
}

impl Node {
    /// Starts a server on what the disk holds.
    pub fn start(
        disk: &SimDisk,
        settings: Settings,
        options: LogOptions,
        now: Now,
        known: super::stopgap::Known,
    ) -> Result<Node, String> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut bridge = Bridge(Recovering::new(settings), known.clone());
        let log = recover(disk.clone(), options, &mut bridge).map_err(|e| e.to_string())?;
        let state = LogState {
            next_seq: log.next_seq,
            position: log.position,
            space_bytes: log.space_bytes,
            floor: log.floor,
            clean: log.clean,
        };
        let broker = bridge.0.finish(now, state)?;
        Ok(Node {
            broker,
            in_flight: false,
            deadline_us: None,
            recovered: log.next_seq - 1,
            writer: log.writer,
            disk,
            directory: log.directory_id,
            known,
        })
    }

    pub fn write(&mut self, group: Group) -> Result<Written, String> {
        let written = self.writer.step(group).map_err(|fatal| fatal.to_string());
        self.writer.tend();
        for run in written.iter().flat_map(|w| &w.runs) {
            super::stopgap::remember(&self.known, *run);
        }
        written
    }

    pub fn read(&self, job: &ReadJob) -> ReadDone {
        super::stopgap::read(&*self.disk, &self.known, job)
    }

    /// Ends in order.
    pub fn close(&mut self) -> Result<(), String> {
        self.writer.close().map_err(|fatal| fatal.to_string())
    }

    pub fn checkpoint(&mut self, job: &CheckpointJob) -> CheckpointDone {
        let result = checkpoint::write(&*self.disk, self.directory, job.seq, job.position, &job.bytes);
        CheckpointDone { seq: job.seq, result: result.map_err(|e| e.to_string()) }
    }

    /// A segment that cannot be removed stays: no harm is done.
    pub fn remove(&self, id: SegmentId) {
        let _ = remove_segment(&*self.disk, id);
    }

    /// The whole frame: the head with the bytes of the log in their places.
    pub fn resolve(&self, response: &Response) -> Result<Bytes, String> {
        let mut frame = Vec::with_capacity(response.head.len());
        let mut at = 0;
        for (position, splice) in &response.splices {
            frame.extend_from_slice(&response.head[at..*position]);
            at = *position;
            match self.broker.ring_bytes(splice) {
                Some(bytes) => frame.extend_from_slice(&bytes),
                None => frame.extend_from_slice(&from_file(splice)?),
            }
        }
        frame.extend_from_slice(&response.head[at..]);
        Ok(frame.into())
    }
}

fn from_file(splice: &Splice) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; splice.len as usize];
    let read = splice.handle.file.read_at(&mut bytes, splice.position).map_err(|e| e.to_string())?;
    if read == bytes.len() {
        Ok(bytes)
    } else {
        Err(format!("segment {} ends within {splice:?}", splice.handle.segment))
    }
}
