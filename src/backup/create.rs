//! Owns making a backup: catch the data directory, send what the store lacks, and the manifest last.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::find::{newest, sizes};
use super::lease::Lease;
use super::manifest::{Manifest, Object, Role, TopicTotal};
use super::source::{Checksum, FileSource};
use super::view::{ObjectFile, View};
use super::{layout, when, Failure, Kind, Watch};
use crate::broker::recovery::Recovering;
use crate::broker::settings::Settings;
use crate::broker::tiering::StoredObject;
use crate::broker::Now;
use crate::config::Config;
use crate::limits;
use crate::store::{self, ObjectStore, PutMode, Source};
use crate::sys::disk::{Disk, DiskFile};
use crate::sys::lock::{DirLock, FileLock};
use crate::sys::real_disk::{RealDisk, Writing};
use crate::wal::frozen::{self, Frozen, FrozenFile};
use crate::wal::marker::Marker;
use crate::wal::recovery::look;
use crate::wal::settings::{Entropy, MetadataStore};
use crate::wal::{segment, SegmentId};

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
    make(origin, store, now_ms, entropy, watch, Place::Backups, &mut Sent::default())
}

/// Sends the log to the store that is its second tier, as of now: `create` in the store in which the segments lie that the
/// disk does not hold any more. The caller is the only one who writes there. `previous` is what the last call made, if nothing
/// that it names was removed since; then the store is not asked what it holds. `sent` is what calls that failed have sent, and is not
/// read again to see that it is right.
pub fn upload(
    origin: &Origin,
    store: &dyn ObjectStore,
    now_ms: i64,
    entropy: &mut Entropy,
    watch: &dyn Watch,
    previous: Option<&Manifest>,
    sent: &mut Sent,
) -> Result<Created, Failure> {
    let created = make(origin, store, now_ms, entropy, watch, Place::Tier(previous), sent)?;
    // From now on the manifest says it.
    sent.crcs.clear();
    Ok(created)
}

/// Segments that this process has put into a store, which no manifest there names yet.
#[derive(Debug, Default)]
pub struct Sent {
    /// Their checksums, by their keys; at most [`limits::UPLOAD_SENT_MAX`].
    crcs: BTreeMap<String, u32>,
}

/// What the store is to the directory.
#[derive(Clone, Copy)]
enum Place<'a> {
    Backups,
    Tier(Option<&'a Manifest>),
}

fn make(
    origin: &Origin,
    store: &dyn ObjectStore,
    now_ms: i64,
    entropy: &mut Entropy,
    watch: &dyn Watch,
    place: Place<'_>,
    earlier: &mut Sent,
) -> Result<Created, Failure> {
    let marker = Marker::load(&*origin.disk)?
        .ok_or_else(|| Failure::new(Kind::Refused, "the folder is no data directory: it has no chronik.dir"))?;
    let random = entropy.next_u64().map_err(|error| Failure::new(Kind::Disk, error.to_string()))?;
    let backup = format!("{}-{:06x}", when::compact(now_ms), random & 0xff_ffff);
    let directory = layout::directory(marker.directory);
    let lease = match place {
        Place::Backups => Some(Lease::to_make(store, &directory, &backup)?),
        Place::Tier(_) => None,
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
    let (there, known) = match place {
        Place::Tier(Some(previous)) => {
            let segments = || previous.objects.iter().filter(|object| object.role == Role::Segment);
            let there = segments().map(|object| (object.key.clone(), object.bytes)).collect();
            (there, crcs_of(previous))
        }
        _ => {
            let known = match newest(store, &directory, None) {
                Ok(manifest) => manifest.as_ref().map(crcs_of).unwrap_or_default(),
                // One that can't be read only spares no work.
                Err(failure) if failure.kind != Kind::Store => BTreeMap::new(),
                Err(failure) => return Err(failure),
            };
            (sizes(store, &layout::segments(&directory))?, known)
        }
    };
    let created = Created { manifest, sent_objects: 0, sent_bytes: 0, notes: Vec::new() };
    let tier = origin.tier.as_ref();
    Sending { store, place, tier, directory, frozen: &frozen, there, known, earlier, watch, lease, created }
        .run(&remote)
}

fn crcs_of(manifest: &Manifest) -> BTreeMap<String, u32> {
    let objects = manifest.objects.iter().filter(|object| object.role == Role::Segment);
    objects.map(|object| (object.key.clone(), object.crc)).collect()
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

struct Sending<'a> {
    store: &'a dyn ObjectStore,
    place: Place<'a>,
    tier: Option<&'a Arc<dyn ObjectStore>>,
    directory: String,
    frozen: &'a Frozen,
    /// The segments in the store, with their sizes.
    there: BTreeMap<String, u64>,
    /// Checksums of those that the newest backup names.
    known: BTreeMap<String, u32>,
    /// The same of what this process has put there.
    earlier: &'a mut Sent,
    watch: &'a dyn Watch,
    lease: Option<Lease<'a>>,
    created: Created,
}

impl<'a> Sending<'a> {
    fn run(mut self, remote: &[(SegmentId, StoredObject)]) -> Result<Created, Failure> {
        let count = (self.frozen.files().count() + remote.len()) as u64;
        let bytes: u64 = self.frozen.files().map(|file| file.bytes).sum();
        self.watch.planned(count, bytes + remote.iter().map(|(_, object)| object.bytes).sum::<u64>());
        for (id, object) in remote {
            self.remote(*id, object)?;
            self.renew()?;
        }
        let frozen = self.frozen;
        for file in &frozen.segments {
            self.segment(file)?;
            frozen.release(file);
            self.renew()?;
        }
        for (role, files) in [
            (Role::Tail, frozen.tail.as_slice()),
            (Role::Checkpoint, frozen.checkpoint.as_slice()),
            (Role::Metadata, frozen.metadata.as_slice()),
        ] {
            for file in files {
                self.own(role, file)?;
                self.renew()?;
            }
        }
        self.finish()
    }

    fn renew(&mut self) -> Result<(), Failure> {
        self.lease.as_mut().map_or(Ok(()), Lease::renew)
    }

    /// A segment that the disk does not hold any more: it lies in this store already, or is copied from where it lies.
    fn remote(&mut self, id: SegmentId, object: &StoredObject) -> Result<(), Failure> {
        let StoredObject { incarnation, bytes, crc } = *object;
        let (path, key) = (segment::path(id), object_key(&self.directory, id, object));
        let is_there = self.there.get(&key) == Some(&bytes);
        let object = Object { role: Role::Segment, path, bytes, crc, incarnation, key };
        match (self.place, self.tier) {
            _ if is_there => {}
            (Place::Tier(_), _) => {
                // Whoever reads what it held is told. Everything else is uploaded all the same.
                let what = format!("object {} is gone from the store, and nobody else has what it held", object.key);
                self.created.notes.push(what);
                return Ok(());
            }
            (Place::Backups, None) => {
                let what = format!("{id} is in object storage only: name that store with the --storage settings");
                return Err(Failure::new(Kind::Refused, what));
            }
            (Place::Backups, Some(tier)) => {
                let file = Arc::new(ObjectFile::new(tier, &object));
                let source = FileSource::new(file, bytes, self.watch);
                if source.crc().map_err(disk_failed)? != crc {
                    let what = format!("object {} in {} is not what it was", object.key, tier.describe());
                    return Err(Failure::new(Kind::Damaged, what));
                }
                match self.store.put(&object.key, &source, PutMode::IfAbsent) {
                    Err(error) if error.kind != store::Kind::Exists => return Err(self.failed(error)),
                    _ => {}
                }
                self.created.sent_objects += 1;
                self.created.sent_bytes += bytes;
            }
        }
        self.note(object);
        Ok(())
    }

    fn source(&self, file: &FrozenFile) -> Result<FileSource<'a>, Failure> {
        let opened: io::Result<Arc<dyn DiskFile>> = self.frozen.open(file);
        Ok(FileSource::new(opened.map_err(disk_failed)?, file.bytes, self.watch))
    }

    /// Makes sure that a segment is in the store, and notes it.
    fn segment(&mut self, file: &FrozenFile) -> Result<(), Failure> {
        let identity = file.identity.as_ref().ok_or_else(|| Failure::new(Kind::Disk, "a segment without identity"))?;
        let incarnation = identity.incarnation;
        let key = layout::segment(&self.directory, &file.path, incarnation, file.bytes);
        let known = self.known.get(&key).or_else(|| self.earlier.crcs.get(&key)).copied();
        let crc = match (self.there.get(&key).copied(), known) {
            (Some(bytes), Some(crc)) if bytes == file.bytes => crc,
            (Some(_), _) => self.check(file, &key)?,
            (None, _) => {
                let source = self.source(file)?;
                match self.store.put(&key, &source, PutMode::IfAbsent) {
                    Ok(_) => {
                        let crc = source.crc().map_err(disk_failed)?;
                        self.sent(file);
                        if self.earlier.crcs.len() < limits::UPLOAD_SENT_MAX {
                            self.earlier.crcs.insert(key.clone(), crc);
                        }
                        crc
                    }
                    Err(error) if error.kind == store::Kind::Exists => self.check(file, &key)?,
                    Err(error) => return Err(self.failed(error)),
                }
            }
        };
        self.note(Object { role: Role::Segment, path: file.path.clone(), bytes: file.bytes, crc, incarnation, key });
        Ok(())
    }

    /// Compares an object that nobody vouches for with the file; what differs is sent again.
    fn check(&mut self, file: &FrozenFile, key: &str) -> Result<u32, Failure> {
        let source = self.source(file)?;
        let crc = source.crc().map_err(disk_failed)?;
        let mut sum = Checksum::new(self.watch);
        let is_same = match self.store.get(key, None, &mut sum) {
            Ok(_) => sum.bytes == file.bytes && sum.crc == crc,
            Err(error) if matches!(error.kind, store::Kind::Corrupt | store::Kind::NotFound) => false,
            Err(error) => return Err(self.failed(error)),
        };
        if !is_same {
            self.store.put(key, &source, PutMode::Overwrite).map_err(|error| self.failed(error))?;
            self.sent(file);
            self.created.notes.push(format!("object {key} was not what it should have been; it was sent again"));
        }
        Ok(crc)
    }

    /// Sends what belongs to this backup alone.
    fn own(&mut self, role: Role, file: &FrozenFile) -> Result<(), Failure> {
        let key =
            layout::own_object(&self.directory, &self.created.manifest.backup, self.created.manifest.objects.len());
        let source = self.source(file)?;
        self.store.put(&key, &source, PutMode::IfAbsent).map_err(|error| self.failed(error))?;
        let crc = source.crc().map_err(disk_failed)?;
        let incarnation = file.identity.map_or(0, |identity| identity.incarnation);
        self.sent(file);
        self.note(Object { role, path: file.path.clone(), bytes: file.bytes, crc, incarnation, key });
        Ok(())
    }

    fn sent(&mut self, file: &FrozenFile) {
        self.created.sent_objects += 1;
        self.created.sent_bytes += file.bytes;
    }

    fn note(&mut self, object: Object) {
        self.watch.advanced(object.bytes);
        self.created.manifest.objects.push(object);
    }

    /// A store says that what it was to send can't be read when all is to stop.
    fn failed(&self, error: store::StoreError) -> Failure {
        match self.watch.is_stopped() {
            true => Failure::new(Kind::Stopped, "stopped"),
            false => error.into(),
        }
    }

    /// The manifest comes last, when everything that it names is known to be there.
    fn finish(mut self) -> Result<Created, Failure> {
        if !matches!(self.place, Place::Tier(Some(_))) {
            self.look_again()?;
        }
        self.lease.as_ref().map_or(Ok(()), Lease::check)?;
        self.created.manifest.new_bytes = self.created.sent_bytes;
        let text = self.created.manifest.encode();
        if text.len() > limits::BACKUP_MANIFEST_BYTES_MAX {
            let what = format!("the manifest would have {} bytes, more than can be read again", text.len());
            return Err(Failure::new(Kind::Refused, what));
        }
        let key = layout::manifest(&self.directory, &self.created.manifest.backup);
        let text = text.into_bytes();
        self.store.put(&key, &text as &dyn Source, PutMode::IfAbsent).map_err(|error| self.failed(error))?;
        Ok(self.created)
    }

    /// Whether the store holds all that was sent, and what others had sent before.
    fn look_again(&self) -> Result<(), Failure> {
        let mut there = sizes(self.store, &layout::segments(&self.directory))?;
        let backup = &self.created.manifest.backup;
        there.extend(sizes(self.store, &format!("{}{backup}/", layout::own(&self.directory)))?);
        let objects = &self.created.manifest.objects;
        if let Some(lost) = objects.iter().find(|object| there.get(&object.key) != Some(&object.bytes)) {
            let what = format!("object {} went away or was changed while the backup was made; make it again", lost.key);
            return Err(Failure::new(Kind::Damaged, what));
        }
        Ok(())
    }
}

/// Where a directory's segment lies in the store that is its second tier.
pub fn object_key(directory: &str, id: SegmentId, object: &StoredObject) -> String {
    layout::segment(directory, &segment::path(id), object.incarnation, object.bytes)
}

fn disk_failed(error: io::Error) -> Failure {
    match error.to_string() == "stopped" {
        true => Failure::new(Kind::Stopped, "stopped"),
        false => Failure::new(Kind::Disk, error.to_string()),
    }
}
