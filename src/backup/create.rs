//! Owns making a backup: the data directory is caught, and what the store has of it is looked up.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::find::{newest, sizes};
use super::lease::Lease;
use super::manifest::{Manifest, Role, TopicTotal};
use super::send::Sending;
use super::view::View;
use super::{layout, when, Failure, Kind, Watch};
use crate::broker::recovery::Recovering;
use crate::broker::settings::Settings;
use crate::broker::tiering::StoredObject;
use crate::broker::Now;
use crate::config::Config;
use crate::store::ObjectStore;
use crate::sys::disk::Disk;
use crate::sys::lock::{DirLock, FileLock};
use crate::sys::real_disk::{RealDisk, Writing};
use crate::wal::frozen::{self, Frozen};
use crate::wal::marker::Marker;
use crate::wal::recovery::look;
use crate::wal::settings::{Entropy, MetadataStore};
use crate::wal::SegmentId;

/// The data directory that a backup is made of.
#[derive(Debug)]
pub struct Origin {
    disk: Arc<dyn Disk>,
    /// No server can use the directory while this is held.
    at_rest: bool,
    /// Where segments lie that only the object store has.
    tier: Option<Arc<dyn ObjectStore>>,
    _locks: Vec<Lock>,
}

#[derive(Debug)]
#[allow(dead_code, reason = "a lock is held by being there")]
enum Lock {
    Directory(DirLock),
    Copy(FileLock),
}

impl Origin {
    /// The directory of a server that runs in this process.
    ///
    /// # Errors
    /// Another process is making a backup of it.
    pub fn of_server(disk: Arc<dyn Disk>, root: PathBuf) -> Result<Origin, Failure> {
        let lock = copy_lock(&root)?;
        Ok(Origin { disk, at_rest: false, tier: None, _locks: vec![Lock::Copy(lock)] })
    }

    /// A directory that a server may be using or not.
    pub fn open(root: &std::path::Path) -> Result<Origin, Failure> {
        let failed = |error: io::Error| Failure::new(Kind::Disk, format!("{}: {error}", root.display()));
        if !root.join(crate::wal::marker::PATH).is_file() {
            let what = format!("{} is no data directory: it has no {}", root.display(), crate::wal::marker::PATH);
            return Err(Failure::new(Kind::Refused, what));
        }
        let disk = RealDisk::open(root, Writing::Auto).map_err(failed)?;
        let mut locks = vec![Lock::Copy(copy_lock(root)?)];
        let at_rest = match DirLock::acquire(root) {
            Ok(lock) => {
                locks.push(Lock::Directory(lock));
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => return Err(failed(error)),
        };
        Ok(Origin { disk: Arc::new(disk), at_rest, tier: None, _locks: locks })
    }

    /// A directory on any disk, without locks.
    pub fn on(disk: Arc<dyn Disk>, at_rest: bool) -> Origin {
        Origin { disk, at_rest, tier: None, _locks: Vec::new() }
    }

    /// With the store that holds the segments which are not on the disk any more: a backup gets copies of them.
    pub fn with_tier(self, tier: Arc<dyn ObjectStore>) -> Origin {
        Origin { tier: Some(tier), ..self }
    }
}

/// Removes what a backup left in a data directory when its process was killed; nothing while another process makes one.
pub fn clear_leftovers(disk: &dyn Disk, root: &std::path::Path) {
    if !root.join(frozen::DIR).is_dir() {
        return;
    }
    // What can't be removed now takes space only, and the next backup tries again.
    if let Ok(_lock) = copy_lock(root) {
        if let Err(error) = frozen::clear(disk) {
            log::warn!("cannot remove what an interrupted backup left: {error}");
        }
    }
}

/// Keeps a second copy from being made of a directory at the same time.
fn copy_lock(root: &std::path::Path) -> Result<FileLock, Failure> {
    let path = root.join(frozen::DIR).join(frozen::LOCK);
    let lock = || -> io::Result<Option<FileLock>> {
        fs::create_dir_all(root.join(frozen::DIR))?;
        FileLock::of(OpenOptions::new().write(true).create(true).truncate(false).open(&path)?, false)
    };
    match lock() {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => {
            Err(Failure::new(Kind::Busy, format!("another backup of {} is being made just now", root.display())))
        }
        Err(error) => Err(Failure::new(Kind::Disk, format!("{}: {error}", path.display()))),
    }
}

/// What making a backup came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub manifest: Manifest,
    /// Objects and bytes that were sent.
    pub sent_objects: u64,
    pub sent_bytes: u64,
    /// Sentences about objects in the store that were not what they should have been, and were sent again.
    pub notes: Vec<String>,
}

/// Makes a backup as of now. `now_ms` is the wall clock, and `entropy` makes the name unlike others.
///
/// What was sent before an error stays, and the next backup uses it.
pub fn create(
    origin: &Origin,
    store: &dyn ObjectStore,
    now_ms: i64,
    entropy: &mut Entropy,
    watch: &dyn Watch,
) -> Result<Created, Failure> {
    make(origin, store, now_ms, entropy, watch, None)
}

/// Tells whether a server may still write where its second tier is.
pub type Guard<'a> = &'a mut dyn FnMut() -> Result<(), Failure>;

/// What the uploader knows of its server's second tier.
pub struct Known<'a> {
    /// What the last upload made, if nothing that it names was removed since; then the store is not asked what it holds.
    pub previous: Option<&'a Manifest>,
    /// What uploads that failed have sent, and is not read again to see that it is right.
    pub sent: &'a mut Sent,
    /// Asked just before the manifest counts.
    pub guard: Guard<'a>,
}

/// Sends the log to the store that is its second tier, as of now: `create` in the store in which the segments lie that the
/// disk does not hold any more. The caller is the only one who writes there.
pub fn upload(
    origin: &Origin,
    store: &dyn ObjectStore,
    now_ms: i64,
    entropy: &mut Entropy,
    watch: &dyn Watch,
    known: Known<'_>,
) -> Result<Created, Failure> {
    make(origin, store, now_ms, entropy, watch, Some(known))
}

/// Segments that this process has put into a store, which no manifest there names yet.
#[derive(Debug, Default)]
pub struct Sent {
    /// Their checksums, by their keys; at most [`UPLOAD_SENT_MAX`](crate::limits::UPLOAD_SENT_MAX).
    pub(super) crcs: BTreeMap<String, u32>,
}

/// `tier` is of the store that is the server's second tier; else the store is for backups.
fn make(
    origin: &Origin,
    store: &dyn ObjectStore,
    now_ms: i64,
    entropy: &mut Entropy,
    watch: &dyn Watch,
    tier: Option<Known<'_>>,
) -> Result<Created, Failure> {
    let marker = Marker::load(&*origin.disk)?
        .ok_or_else(|| Failure::new(Kind::Refused, "the folder is no data directory: it has no chronik.dir"))?;
    let random = entropy.next_u64().map_err(|error| Failure::new(Kind::Disk, error.to_string()))?;
    let backup = format!("{}-{:06x}", when::compact(now_ms), random & 0xff_ffff);
    let directory = layout::directory(marker.directory);
    let lease = match tier {
        None => Some(Lease::to_make(store, &directory, &backup)?),
        Some(_) => None,
    };
    let frozen = frozen::freeze(&origin.disk, origin.at_rest)?;
    let Contents { topics, last_group, remote } = contents(&frozen, now_ms)?;
    let manifest = Manifest {
        backup,
        time_ms: now_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        marker,
        last_group,
        new_bytes: 0,
        topics,
        objects: Vec::new(),
    };
    let previous = tier.as_ref().and_then(|known| known.previous);
    let found = if previous.is_some() { None } else { newest_readable(store, &directory)? };
    let newest = previous.or(found.as_ref());
    let of_newest =
        |role| newest.into_iter().flat_map(|manifest| &manifest.objects).filter(move |object| object.role == role);
    let there = match previous {
        Some(_) => {
            let shared = of_newest(Role::Segment).chain(of_newest(Role::Tail));
            shared.map(|object| (object.key.clone(), object.bytes)).collect()
        }
        None => sizes(store, &layout::segments(&directory))?,
    };
    let crcs = of_newest(Role::Segment).map(|object| (object.key.clone(), object.crc)).collect();
    let pieces = of_newest(Role::Tail).cloned().collect();
    let created = Created { manifest, sent_objects: 0, sent_bytes: 0, notes: Vec::new() };
    let (frozen, elsewhere) = (&frozen, origin.tier.as_ref());
    Sending { store, directory, frozen, elsewhere, there, crcs, pieces, watch, lease, tier, created }.run(&remote)
}

/// The newest manifest. One that can't be read is as good as none: it only spares no work.
fn newest_readable(store: &dyn ObjectStore, directory: &str) -> Result<Option<Manifest>, Failure> {
    match newest(store, directory, None) {
        Err(failure) if failure.kind != Kind::Store => Ok(None),
        other => other,
    }
}

/// What a caught directory holds.
struct Contents {
    topics: Vec<TopicTotal>,
    last_group: u64,
    /// Segments that only the object store has.
    remote: Vec<(SegmentId, StoredObject)>,
}

/// What the caught directory holds; so it is known to open.
fn contents(frozen: &Frozen, now_ms: i64) -> Result<Contents, Failure> {
    let view = View::of_frozen(frozen);
    let (broker, looked) = broker_of(&view, &frozen.marker, now_ms, false)?;
    let topics = broker.contents().into_iter().map(|topic| TopicTotal {
        name: topic.name,
        id: topic.id,
        partitions: topic.offsets.len() as u32,
        offsets: topic.offsets.iter().map(|(start, end)| end.saturating_sub(*start).max(0) as u64).sum(),
        bytes: topic.bytes,
    });
    let remote = broker.remote_segments().collect();
    Ok(Contents { topics: topics.collect(), last_group: looked.next_seq.saturating_sub(1), remote })
}

/// The state that a data directory holds, which nothing is done with but looking at it.
pub(super) fn broker_of(
    disk: &dyn Disk,
    marker: &Marker,
    now_ms: i64,
    raise_epochs: bool,
) -> Result<(crate::broker::Broker, crate::wal::recovery::Looked), Failure> {
    let settings = Settings {
        config: Config::default(),
        cluster_id: marker.cluster.clone(),
        advertised_host: None,
        advertised_port: None,
        seed: 0,
        metadata_in_log: marker.metadata == MetadataStore::Log,
        metrics: Arc::new(crate::metrics::Metrics::new()),
    };
    let mut recovering = Recovering::new(settings);
    let looked = look(disk, &mut recovering)?;
    let now = Now { mono_us: 0, wall_ms: now_ms };
    let broker = recovering.at_rest(now, raise_epochs).map_err(|what| Failure::new(Kind::Damaged, what))?;
    Ok((broker, looked))
}
