//! Owns the server's side of its second tier: the store, the disk cache in front of it, and the threads that wait for it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use super::inbox::{Completion, Inbox};
use super::server::Failure;
use crate::backup::{self, Watch};
use crate::broker::tiering::StoredObject;
use crate::broker::Broker;
use crate::config::Config;
use crate::limits;
use crate::metrics::Metrics;
use crate::options::exit;
use crate::store::{self, Machine, ObjectStore, Surroundings, Tuning};
use crate::sys::clock::Clock;
use crate::sys::disk::Disk;
use crate::sys::mailbox::{mailbox, Sender, Worker};
use crate::sys::traffic::Traffic;
use crate::tier::owner::Owner;
use crate::tier::upload::{Subject, Uploader};
use crate::tier::{cache, BlockCache, CacheSettings, Object, Remote, StoreSource};
use crate::wal::settings::Entropy;
use crate::wal::SegmentId;
use crate::wire::Uuid;

/// Uploads that wait. The broker asks for one at a time.
const UPLOADS_MAX: usize = 1;

/// The store that the settings name.
pub struct Tiers {
    store: Arc<dyn ObjectStore>,
    /// The same for readers, who give up earlier.
    reads: Arc<dyn ObjectStore>,
    machine: Arc<Machine>,
}

/// What the data directory and the store come to together.
pub struct Tier {
    pub remote: Arc<Remote>,
    uploader: Uploader,
    machine: Arc<Machine>,
    clock: Clock,
    directory: String,
}

impl Tiers {
    /// `None` when the settings name no store. Asks it nothing yet, so that the server starts while it is down.
    pub fn open(config: &Config, traffic: &Arc<Traffic>) -> Result<Option<Tiers>, Failure> {
        let machine = Arc::new(Machine::beside(traffic));
        let open = |tuning| {
            let around = Arc::clone(&machine) as Arc<dyn Surroundings>;
            store::open(&store::within(&config.storage, backup::TIER), tuning, around)
                .map_err(|error| Failure::new(exit::CONFIG, format!("--storage: {}", error.sentence)))
        };
        let impatient = Tuning {
            tries: 3,
            total: Duration::from_millis(limits::REMOTE_READ_MS_MAX),
            longest_wait: Duration::from_secs(1),
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            ..Tuning::default()
        };
        let (Some(store), Some(reads)) = (open(Tuning::default())?, open(impatient)?) else { return Ok(None) };
        Ok(Some(Tiers { store: Arc::from(store), reads: Arc::from(reads), machine }))
    }

    /// The store itself.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Ready to be used: empties the disk cache, and knows where everything lies that is not on the disk.
    pub fn with(
        self,
        config: &Config,
        disk: &Arc<dyn Disk>,
        directory_id: Uuid,
        broker: &Broker,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Tier, Failure> {
        let failed = |what: &str, error: io::Error| Failure::new(exit::IO, format!("cannot {what}: {error}"));
        let root = root_of(config);
        let owner = Owner::of_directory(&root).map_err(|error| failed("write who this server is", error))?;
        let settings = CacheSettings {
            block_bytes: limits::TIER_BLOCK_BYTES,
            slab_bytes: limits::TIER_SLAB_BYTES,
            bytes_max: config.storage.cache_bytes,
            ahead_blocks_max: limits::TIER_AHEAD_BLOCKS_MAX,
            free_bytes_min: limits::TIER_CACHE_FREE_BYTES,
            memory_bytes_max: limits::TIER_MEMORY_BYTES,
        };
        let cache = BlockCache::open(Arc::clone(disk), Arc::new(StoreSource(Arc::clone(&self.reads))), settings)
            .map_err(|error| failed("empty the cache of objects", error))?;
        let remote = Arc::new(Remote::new(Arc::new(cache)));
        let directory = backup::directory_name(directory_id);
        for (id, stored) in broker.remote_segments() {
            remote.insert(id, object_of(&directory, id, &stored));
        }
        log::info!("segments are kept in {} too", self.store.describe());
        let subject = Subject {
            disk: Arc::clone(disk),
            root: Some(root),
            directory_id,
            store: self.store,
            owner,
            take_over: config.storage.take_over,
            metrics,
            entropy: Entropy::System,
        };
        Ok(Tier { remote, uploader: Uploader::new(subject), machine: self.machine, clock, directory })
    }
}

/// Without a store: what a disk cache of before has left goes. What cannot be removed takes space and does no other harm.
pub fn clear_cache(config: &Config, disk: &dyn Disk) {
    if let Err(error) = BlockCache::clear(disk) {
        log::warn!("cannot remove what the cache of objects has left: {error}");
    }
    // It is not there, or somebody else keeps something in it.
    let _ = std::fs::remove_dir(config.data_dir.join(cache::DIR));
}

pub fn root_of(config: &Config) -> PathBuf {
    config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone())
}

fn object_of(directory: &str, id: SegmentId, stored: &StoredObject) -> Object {
    Object { key: Arc::from(backup::object_key(directory, id, stored)), bytes: stored.bytes }
}

/// The running threads, and what the reactor hands them.
#[derive(Debug)]
pub struct Running {
    upload: Option<Sender<bool>>,
    workers: Vec<Worker>,
    machine: Arc<Machine>,
    ending: Arc<AtomicBool>,
    cache: Arc<BlockCache>,
}

/// Orders of the reactor.
pub struct Orders {
    /// True if the store has to be asked what it holds.
    pub upload: Box<dyn FnMut(bool)>,
    /// A segment is read from the store from now on.
    pub evict: Box<dyn FnMut(SegmentId, StoredObject)>,
    /// A segment is gone.
    pub forget: Box<dyn FnMut(SegmentId) + Send>,
}

impl Orders {
    /// For a server without a store, which gives none of them.
    pub fn none() -> Orders {
        Orders { upload: Box::new(|_| {}), evict: Box::new(|_, _| {}), forget: Box::new(|_| {}) }
    }
}

struct Ending<'a>(&'a AtomicBool);

impl Watch for Ending<'_> {
    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tier {
    /// Starts the threads for uploads and for reading ahead.
    pub fn start(self, inbox: &Inbox<Broker>) -> io::Result<(Running, Orders)> {
        let Tier { remote, mut uploader, machine, clock, directory } = self;
        let cache = remote.shared_cache();
        let (upload, receiver) = mailbox::<bool>(UPLOADS_MAX);
        let (ending, reports) = (Arc::new(AtomicBool::new(false)), inbox.clone());
        let is_ending = Arc::clone(&ending);
        let uploads = move || {
            while let Some(looks) = receiver.recv() {
                let done = uploader.upload(clock.wall_ms(), looks, &Ending(&is_ending));
                reports.push(Completion::Uploaded(done));
            }
        };
        let mut workers = cache::start_helpers(&cache)?;
        workers.push(Worker::spawn("chronik-upload", uploads)?);
        let (sender, theirs) = (upload.clone(), Arc::clone(&remote));
        let orders = Orders {
            // There is room: the broker asks for one at a time.
            upload: Box::new(move |looks| drop(sender.try_send(looks))),
            evict: Box::new(move |id, stored| theirs.insert(id, object_of(&directory, id, &stored))),
            forget: Box::new(move |id| remote.remove(id)),
        };
        Ok((Running { upload: Some(upload), workers, machine, ending, cache }, orders))
    }
}

impl Running {
    /// Ends what is going on: nobody waits for the store any more.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.machine.stop();
        self.cache.stop_helpers();
    }

    /// Waits for the threads, after `end` and when nothing reads from the store any more. False if one panicked.
    pub fn join(mut self) -> bool {
        drop(self.upload.take());
        self.workers.into_iter().map(Worker::join).fold(true, |fine, ended| fine & ended)
    }
}
