//! Owns a data directory that is only looked at: reads come from the device where the platform can, and nothing is ever
//! made, changed or removed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, OpenMode};
use super::fileops;
use super::real_disk::{RealDisk, Writing};

/// A folder on this machine that is not written to.
#[derive(Debug)]
pub struct ReadDisk {
    inner: RealDisk,
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the data directory is only looked at")
}

impl ReadDisk {
    /// Opens an existing folder.
    pub fn open(root: &Path) -> io::Result<ReadDisk> {
        if !std::fs::metadata(root)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a folder"));
        }
        // Writing through the cache needs no probe, so this makes nothing either.
        Ok(ReadDisk { inner: RealDisk::open(root, Writing::Buffered)? })
    }
}

impl Disk for ReadDisk {
    fn create(&self, _path: &str, _bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Err(refused())
    }

    /// Whatever the mode: read through the page cache, which is emptied of the file first.
    fn open(&self, path: &str, _mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if let Ok(file) = std::fs::File::open(self.inner.root().join(path)) {
            // Where it cannot be emptied, what the cache holds is what a reader would be served.
            let _ = fileops::drop_cached_pages(&file);
        }
        self.inner.open(path, OpenMode::Cached)
    }

    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        self.inner.read(path, bytes_max)
    }

    fn replace(&self, _path: &str, _bytes: &[u8]) -> io::Result<()> {
        Err(refused())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(refused())
    }

    fn link(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _path: &str) -> io::Result<()> {
        Err(refused())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        self.inner.list(dir)
    }

    fn create_dir(&self, _dir: &str) -> io::Result<()> {
        Err(refused())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Err(refused())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }

    fn block_bytes(&self) -> usize {
        self.inner.block_bytes()
    }
}
