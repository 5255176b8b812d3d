//! Owns sending what a backup needs and the store lacks: every file of a caught directory, and the manifest last.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::create::{Created, Known};
use super::find::sizes;
use super::lease::Lease;
use super::manifest::{Object, Role};
use super::source::{Checksum, FileSource};
use super::view::ObjectFile;
use super::{layout, Failure, Kind, Watch};
use crate::broker::tiering::StoredObject;
use crate::limits;
use crate::store::{self, ObjectStore, PutMode, Source};
use crate::sys::disk::DiskFile;
use crate::wal::frozen::{Frozen, FrozenFile};
use crate::wal::{segment, SegmentId};

/// A backup that is being sent.
pub(super) struct Sending<'a, 't> {
    pub(super) store: &'a dyn ObjectStore,
    pub(super) directory: String,
    pub(super) frozen: &'a Frozen,
    /// Where segments lie that the disk does not hold any more, if it is not `store`.
    pub(super) elsewhere: Option<&'a Arc<dyn ObjectStore>>,
    /// What is in the store of segments and of their beginnings, with the sizes.
    pub(super) there: BTreeMap<String, u64>,
    /// Checksums of the segments that the newest manifest names.
    pub(super) crcs: BTreeMap<String, u32>,
    /// The pieces of its tail.
    pub(super) pieces: Vec<Object>,
    pub(super) watch: &'a dyn Watch,
    pub(super) lease: Option<Lease<'a>>,
    /// The store is the server's second tier.
    pub(super) tier: Option<Known<'t>>,
    pub(super) created: Created,
}

impl<'a> Sending<'a, '_> {
    /// Sends all, and these segments that only the object store has.
    pub(super) fn run(mut self, remote: &[(SegmentId, StoredObject)]) -> Result<Created, Failure> {
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
        if let Some(file) = &frozen.tail {
            self.tail(file)?;
            self.renew()?;
        }
        for (role, files) in
            [(Role::Checkpoint, frozen.checkpoint.as_slice()), (Role::Metadata, frozen.metadata.as_slice())]
        {
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
        let object = Object { role: Role::Segment, path, start: 0, bytes, crc, incarnation, key };
        match (&self.tier, self.elsewhere) {
            _ if is_there => {}
            (Some(_), _) => {
                // Whoever reads what it held is told. Everything else is uploaded all the same.
                let what = format!("object {} is gone from the store, and nobody else has what it held", object.key);
                self.created.notes.push(what);
                return Ok(());
            }
            (None, None) => {
                let what = format!("{id} is in object storage only: name that store with the --storage settings");
                return Err(Failure::new(Kind::Refused, what));
            }
            (None, Some(tier)) => {
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
        self.part(file, 0, file.bytes)
    }

    fn part(&self, file: &FrozenFile, start: u64, bytes: u64) -> Result<FileSource<'a>, Failure> {
        let opened: io::Result<Arc<dyn DiskFile>> = self.frozen.open(file);
        Ok(FileSource::part(opened.map_err(disk_failed)?, start, bytes, self.watch))
    }

    /// Makes sure that a segment is in the store, and notes it.
    fn segment(&mut self, file: &FrozenFile) -> Result<(), Failure> {
        let identity = file.identity.as_ref().ok_or_else(|| Failure::new(Kind::Disk, "a segment without identity"))?;
        let incarnation = identity.incarnation;
        let key = layout::segment(&self.directory, &file.path, incarnation, file.bytes);
        let sent = self.tier.as_ref().and_then(|known| known.sent.crcs.get(&key));
        let known = self.crcs.get(&key).or(sent).copied();
        let crc = match (self.there.get(&key).copied(), known) {
            (Some(bytes), Some(crc)) if bytes == file.bytes => crc,
            (Some(_), _) => self.check(file, &key)?,
            (None, _) => {
                let source = self.source(file)?;
                match self.store.put(&key, &source, PutMode::IfAbsent) {
                    Ok(_) => {
                        let crc = source.crc().map_err(disk_failed)?;
                        self.sent(file.bytes);
                        let sent = self.tier.as_mut().map(|known| &mut known.sent.crcs);
                        if let Some(sent) = sent.filter(|sent| sent.len() < limits::UPLOAD_SENT_MAX) {
                            sent.insert(key.clone(), crc);
                        }
                        crc
                    }
                    Err(error) if error.kind == store::Kind::Exists => self.check(file, &key)?,
                    Err(error) => return Err(self.failed(error)),
                }
            }
        };
        let (role, path) = (Role::Segment, file.path.clone());
        self.note(Object { role, path, start: 0, bytes: file.bytes, crc, incarnation, key });
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
            self.sent(file.bytes);
            self.created.notes.push(format!("object {key} was not what it should have been; it was sent again"));
        }
        Ok(crc)
    }

    /// Makes sure that the beginning of the segment that is being written is in the store: as the pieces that are there and what
    /// came after them. Pieces that are not at least twice as long as what follows are sent again with that, so there are few, and
    /// no byte is sent often.
    fn tail(&mut self, file: &FrozenFile) -> Result<(), Failure> {
        let incarnation = file.identity.map_or(0, |identity| identity.incarnation);
        let mut pieces = self.pieces_of(file, incarnation);
        let mut start = pieces.last().map_or(0, |last| last.start + last.bytes);
        if start < file.bytes {
            while let Some(last) = pieces.last().filter(|last| last.bytes < 2 * (file.bytes - start)) {
                start = last.start;
                pieces.pop();
            }
            let bytes = file.bytes - start;
            let source = self.part(file, start, bytes)?;
            let (role, path, key) = (Role::Tail, file.path.clone(), String::new());
            let mut piece = Object { role, path, start, bytes, crc: 0, incarnation, key };
            piece.key = layout::piece(&self.directory, &piece);
            // What an interrupted upload has put there is the same, or not whole.
            self.store.put(&piece.key, &source, PutMode::Overwrite).map_err(|error| self.failed(error))?;
            piece.crc = source.crc().map_err(disk_failed)?;
            self.sent(bytes);
            pieces.push(piece);
        }
        pieces.into_iter().for_each(|piece| self.note(piece));
        Ok(())
    }

    /// The pieces of a tail that are in the store. No group is written in the place of another: after a crash the log goes on in a new
    /// segment. So they are what is in the file.
    fn pieces_of(&self, file: &FrozenFile, incarnation: u64) -> Vec<Object> {
        let of_file = |piece: &&Object| piece.path == file.path && piece.incarnation == incarnation;
        let is_there = |piece: &&Object| {
            self.there.get(&piece.key) == Some(&piece.bytes) && piece.start + piece.bytes <= file.bytes
        };
        self.pieces.iter().filter(of_file).take_while(is_there).cloned().collect()
    }

    /// Sends what belongs to this backup alone.
    fn own(&mut self, role: Role, file: &FrozenFile) -> Result<(), Failure> {
        let key =
            layout::own_object(&self.directory, &self.created.manifest.backup, self.created.manifest.objects.len());
        let source = self.source(file)?;
        self.store.put(&key, &source, PutMode::IfAbsent).map_err(|error| self.failed(error))?;
        let crc = source.crc().map_err(disk_failed)?;
        self.sent(file.bytes);
        self.note(Object { role, path: file.path.clone(), start: 0, bytes: file.bytes, crc, incarnation: 0, key });
        Ok(())
    }

    fn sent(&mut self, bytes: u64) {
        self.created.sent_objects += 1;
        self.created.sent_bytes += bytes;
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
        if self.tier.as_ref().is_none_or(|known| known.previous.is_none()) {
            self.look_again()?;
        }
        self.tier.as_mut().map_or(Ok(()), |known| (known.guard)())?;
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
        if let Some(known) = self.tier {
            // From now on the manifest says it.
            known.sent.crcs.clear();
        }
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
