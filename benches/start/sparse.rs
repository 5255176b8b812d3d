//! Owns a data directory whose files take no room where they hold zeros, so that a hundred GB of log fit where they would not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik::sys::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES};
use chronik::sys::real_disk::{RealDisk, Writing};

const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// The real one, but for files that are written: they are not preallocated, and blocks of zeros are left out.
#[derive(Debug)]
pub struct SparseDisk {
    root: PathBuf,
    real: RealDisk,
}

impl SparseDisk {
    pub fn open(root: &Path) -> io::Result<SparseDisk> {
        Ok(SparseDisk { root: root.to_path_buf(), real: RealDisk::open(root, Writing::Buffered)? })
    }
}

impl Disk for SparseDisk {
    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.root.join(path))?;
        file.set_len(bytes)?;
        Ok(Arc::new(SparseFile(file)))
    }
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if mode == OpenMode::Cached {
            return self.real.open(path, mode);
        }
        Ok(Arc::new(SparseFile(OpenOptions::new().read(true).write(true).open(self.root.join(path))?)))
    }
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        self.real.read(path, bytes_max)
    }
    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.real.replace(path, bytes)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.real.rename(from, to)
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.real.link(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.real.remove(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        self.real.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.real.create_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.real.sync_dir(dir)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    fn block_bytes(&self) -> usize {
        self.real.block_bytes()
    }
}

#[derive(Debug)]
struct SparseFile(File);

impl DiskFile for SparseFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let is_zero = |from: usize| bytes.get(from..from + BLOCK_BYTES).is_some_and(|block| *block == ZEROS);
            let begun = at;
            while at < bytes.len() && !is_zero(at) {
                at += BLOCK_BYTES;
            }
            self.0.write_all_at(&bytes[begun..at.min(bytes.len())], position + begun as u64)?;
            while is_zero(at) {
                at += BLOCK_BYTES;
            }
        }
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buf.len() {
            match self.0.read_at(&mut buf[read..], position + read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        Ok(read)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn sendfile_fd(&self) -> Option<i32> {
        Some(self.0.as_raw_fd())
    }
}
