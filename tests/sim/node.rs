//! Owns one life of the server: the broker with its log, its readers and its housekeeper, without their threads.

use std::sync::Arc;

use bytes::Bytes;
use chronik::backup::{self, Unwatched};
use chronik::broker::recovery::{LogState, Recovering};
use chronik::broker::settings::Settings;
use chronik::broker::tiering::{StoredObject, UploadDone};
use chronik::broker::{Broker, CheckpointDone, CheckpointJob, Insert, Now, Response};
use chronik::store::ObjectStore;
use chronik::sys::disk::Disk;
use chronik::tier::owner::Owner;
use chronik::tier::upload::{Subject, Uploader};
use chronik::tier::{BlockCache, CacheSettings, Object, Remote, StoreSource};
use chronik::wal::read_cache::{Elsewhere, ReadCache};
use chronik::wal::reader::Reader;
use chronik::wal::recovery::recover;
use chronik::wal::settings::{Entropy, FsyncMode, LogOptions};
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
    tier: Option<NodeTier>,
}

/// The second tier of a server.
struct NodeTier {
    uploader: Uploader,
    remote: Arc<Remote>,
}

/// A small cache, so that it is always full.
const CACHE: CacheSettings = CacheSettings {
    block_bytes: 64 << 10,
    slab_bytes: 128 << 10,
    bytes_max: 512 << 10,
    ahead_blocks_max: 4,
    free_bytes_min: 0,
    memory_bytes_max: 256 << 10,
};

fn object_of(directory: Uuid, id: SegmentId, stored: &StoredObject) -> Object {
    let key = backup::object_key(&backup::directory_name(directory), id, stored);
    Object { key: key.into(), bytes: stored.bytes }
}

impl NodeTier {
    fn new(
        disk: &Arc<dyn Disk>,
        store: Arc<dyn ObjectStore>,
        directory_id: Uuid,
        mut entropy: Entropy,
    ) -> std::io::Result<NodeTier> {
        let theirs = Entropy::Seeded(entropy.next_u64()?);
        let cache = BlockCache::open(disk.clone(), Arc::new(StoreSource(store.clone())), CACHE)?;
        let subject = Subject {
            disk: disk.clone(),
            root: None,
            directory_id,
            store,
            owner: Owner::on(disk.clone(), "simulation", theirs)?,
            take_over: false,
            metrics: Arc::default(),
            entropy,
        };
        Ok(NodeTier { uploader: Uploader::new(subject), remote: Arc::new(Remote::new(Arc::new(cache))) })
    }
}

impl Node {
    /// Starts a server on what the disk holds, with a store as its second tier if there is one.
    pub fn start(
        disk: &SimDisk,
        settings: Settings,
        options: LogOptions,
        now: Now,
        store: Option<Arc<dyn ObjectStore>>,
    ) -> Result<Node, String> {
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
        let mut entropy = tidier_entropy.clone();
        entropy.next_u64().map_err(|e| e.to_string())?;
        let tier = store.map(|store| NodeTier::new(&disk, store, log.directory_id, entropy)).transpose();
        let tier = tier.map_err(|error| error.to_string())?;
        let reader = match &tier {
            None => Reader::new(disk.clone()),
            Some(tier) => {
                for (id, stored) in broker.remote_segments() {
                    tier.remote.insert(id, object_of(log.directory_id, id, &stored));
                }
                let elsewhere = tier.remote.clone() as Arc<dyn Elsewhere>;
                Reader::with_cache(Arc::new(ReadCache::with_elsewhere(disk.clone(), elsewhere)))
            }
        };
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
            tier,
            disk,
        })
    }

    pub fn write(&mut self, group: Group) -> Result<Written, String> {
        let written = self.writer.step(group).map_err(|fatal| fatal.to_string());
        self.writer.tend();
        written
    }

    /// The id of its data directory.
    pub fn directory(&self) -> Uuid {
        self.directory
    }

    /// Where the next group goes.
    pub fn position(&self) -> LogPosition {
        self.writer.position()
    }

    /// Whether a look-up is for what only the store has.
    pub fn reads_from_store(&self, job: &ReadJob) -> bool {
        let remote = self.tier.as_ref().map(|tier| &tier.remote);
        job.kind.segments().any(|id| remote.is_some_and(|remote| remote.holds(id)))
    }

    pub fn read(&mut self, job: ReadJob) -> ReadDone {
        self.reader.read(job)
    }

    /// Ends in order.
    pub fn close(&mut self) -> Result<(), String> {
        self.writer.close().map_err(|fatal| fatal.to_string())
    }

    /// An error when the log could not be synced, which ends the server.
    pub fn checkpoint(&mut self, job: CheckpointJob) -> Result<CheckpointDone, String> {
        match checkpoint::write(&*self.disk, self.directory, job.seq, job.position, &job.state.into_bytes()) {
            Err(error @ checkpoint::WriteError::Log(_)) => Err(error.to_string()),
            result => Ok(CheckpointDone { seq: job.seq, result: result.map_err(|e| e.to_string()) }),
        }
    }

    pub fn tidy(&mut self, job: &TidyJob) -> TidyDone {
        self.tidier.run(job, &mut |_| true)
    }

    /// Sends to the store what it lacks.
    pub fn upload(&mut self, now: Now, looks: bool) -> Option<UploadDone> {
        self.tier.as_mut().map(|tier| tier.uploader.upload(now.wall_ms, looks, &Unwatched))
    }

    /// From now on a segment is read from the store.
    pub fn evict(&self, id: SegmentId, stored: &StoredObject) -> Result<(), String> {
        if let Some(tier) = &self.tier {
            tier.remote.insert(id, object_of(self.directory, id, stored));
        }
        self.unlink(id)
    }

    pub fn remove(&self, id: SegmentId) -> Result<(), String> {
        if let Some(tier) = &self.tier {
            tier.remote.remove(id);
        }
        self.unlink(id)
    }

    /// A segment that cannot be removed stays: no harm is done.
    fn unlink(&self, id: SegmentId) -> Result<(), String> {
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
        for (position, insert) in &response.inserts {
            frame.extend_from_slice(&response.head[at..*position]);
            at = *position;
            match insert {
                Insert::Memory(bytes) => frame.extend_from_slice(bytes),
                Insert::Log(splice) => match self.broker.ring_bytes(splice) {
                    Some(bytes) => frame.extend_from_slice(&bytes),
                    None => frame.extend_from_slice(&from_file(splice)?),
                },
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
