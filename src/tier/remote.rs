//! Owns which segments lie in the object store only, and reads them in the shape of files.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::cache::{BlockCache, Object, Source};
use crate::store::{Kind, ObjectStore, Room, StoreError};
use crate::sys::disk::DiskFile;
use crate::wal::read_cache::Elsewhere;
use crate::wal::SegmentId;

/// Segments that this disk does not hold any more. Shared by the readers and whoever evicts.
#[derive(Debug)]
pub struct Remote {
    cache: Arc<BlockCache>,
    objects: Mutex<HashMap<SegmentId, Object>>,
}

impl Remote {
    pub fn new(cache: Arc<BlockCache>) -> Remote {
        Remote { cache, objects: Mutex::new(HashMap::new()) }
    }

    /// From now on this segment is read from this object. To be called before its file is removed.
    pub fn insert(&self, id: SegmentId, object: Object) {
        self.objects.lock().insert(id, object);
    }

    /// Nobody needs this segment any more.
    pub fn remove(&self, id: SegmentId) {
        let object = self.objects.lock().remove(&id);
        if let Some(object) = object {
            self.cache.forget(&object.key);
        }
    }

    /// The cache that its segments are read through.
    pub fn shared_cache(&self) -> Arc<BlockCache> {
        Arc::clone(&self.cache)
    }
}

impl Elsewhere for Remote {
    fn holds(&self, id: SegmentId) -> bool {
        self.objects.lock().contains_key(&id)
    }

    fn open(&self, id: SegmentId) -> Option<Arc<dyn DiskFile>> {
        let object = self.objects.lock().get(&id).cloned()?;
        Some(Arc::new(RemoteFile { cache: self.cache.clone(), object }))
    }

    fn distrust(&self, id: SegmentId) {
        let object = self.objects.lock().get(&id).cloned();
        if let Some(object) = object {
            self.cache.forget(&object.key);
        }
    }
}

/// An object in the shape of a file that can only be read, and has no descriptor for `sendfile`.
#[derive(Debug)]
struct RemoteFile {
    cache: Arc<BlockCache>,
    object: Object,
}

impl DiskFile for RemoteFile {
    fn write_at(&self, _bytes: &[u8], _position: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.cache.read_at(&self.object, buf, position)
    }

    fn lend(&self, position: u64, least: usize) -> io::Result<Option<Bytes>> {
        self.cache.lend(&self.object, position, least)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.object.bytes)
    }

    fn truncate(&self, _bytes: u64) -> io::Result<()> {
        Err(read_only())
    }
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "an object in the store is never changed")
}

/// Blocks from an object store.
#[derive(Debug)]
pub struct StoreSource(pub Arc<dyn ObjectStore>);

impl Source for StoreSource {
    fn fetch(&self, key: &str, from: u64, len: usize, room: &mut dyn Room) -> io::Result<()> {
        self.0.get_into(key, Some(from..from + len as u64), room).map(drop).map_err(failed)
    }
}

fn failed(error: StoreError) -> io::Error {
    let kind = match error.kind {
        // Not the kind for a file that is gone, which would be taken for a segment that nobody needs.
        Kind::NotFound | Kind::NoBucket => io::ErrorKind::InvalidData,
        Kind::Denied => io::ErrorKind::PermissionDenied,
        Kind::Timeout => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error.sentence)
}
