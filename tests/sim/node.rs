//! Owns one life of the server: the broker with its log, its readers and its housekeeper, without their threads.

use std::sync::Arc;

use bytes::Bytes;
use chronik::broker::recovery::{LogState, Recovering};
use chronik::broker::settings::Settings;
use chronik::broker::{Broker, CheckpointDone, CheckpointJob, Now, Response};
use chronik::sys::disk::Disk;
use chronik::wal::reader::Reader;
use chronik::wal::recovery::recover;
use chronik::wal::settings::{FsyncMode, LogOptions};
use chronik::wal::tidy::{Tidier, TidyDone, TidyJob};
use chronik::wal::writer::Writer;
use chronik::wal::{
    checkpoint, remove_segment, sync_newest, Group, GroupSeq, LogPosition, ReadDone, ReadJob, SegmentId, Splice,
    Written,
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
    reader: Reader,
    tidier: Tidier,
}

impl Node {
    /// Starts a server on what the disk holds.
    pub fn start(disk: &SimDisk, settings: Settings, options: LogOptions, now: Now) -> Result<Node, String> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut recovering = Recovering::new(settings);
        let mut tidier_entropy = options.entropy.clone();
        tidier_entropy.next_u64().map_err(|e| e.to_string())?;
        let log = recover(disk.clone(), options, &mut recovering).map_err(|e| e.to_string())?;
        let state = LogState {
            next_seq: log.next_seq,
            position: log.position,
            space_bytes: log.space_bytes,
            floor: log.floor,
            clean: log.clean,
        };
        let broker = recovering.finish(now, state)?;
        let reader = Reader::new(disk.clone());
        let tidier = Tidier::new(disk.clone(), log.directory_id, reader.cache().clone(), tidier_entropy);
        Ok(Node {
            broker,
            in_flight: false,
            deadline_us: None,
            recovered: log.next_seq - 1,
            writer: log.writer,
            directory: log.directory_id,
            reader,
            tidier,
            disk,
        })
    }

    pub fn write(&mut self, group: Group) -> Result<Written, String> {
        let written = self.writer.step(group).map_err(|fatal| fatal.to_string());
        self.writer.tend();
        written
    }

    /// Where the next group goes.
    pub fn position(&self) -> LogPosition {
        self.writer.position()
    }

    pub fn read(&mut self, job: ReadJob) -> ReadDone {
        self.reader.read(job)
    }

    /// Ends in order.
    pub fn close(&mut self) -> Result<(), String> {
        self.writer.close().map_err(|fatal| fatal.to_string())
    }

    pub fn checkpoint(&mut self, job: &CheckpointJob) -> CheckpointDone {
        let result = checkpoint::write(&*self.disk, self.directory, job.seq, job.position, &job.bytes);
        CheckpointDone { seq: job.seq, result: result.map_err(|e| e.to_string()) }
    }

    pub fn tidy(&mut self, job: &TidyJob) -> TidyDone {
        self.tidier.run(job, &mut |_| true)
    }

    /// A segment that cannot be removed stays: no harm is done.
    pub fn remove(&self, id: SegmentId) -> Result<(), String> {
        if self.writer.fsync_mode() != FsyncMode::Always {
            sync_newest(&*self.disk).map_err(|error| error.to_string())?;
        }
        self.reader.cache().forget(id);
        let _ = remove_segment(&*self.disk, id);
        Ok(())
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
        Err(format!("{} ends within {splice:?}", splice.handle.segment))
    }
}
