//! Owns the files of the cache: one for each block, opened for as long as somebody reads it.

use std::io;
use std::sync::Arc;

use super::memory::MemoryBlock;
use super::state::Entry;
use super::DIR;
use crate::sys::disk::{Disk, OpenMode};

/// The folder of the cache on its disk.
#[derive(Debug)]
pub struct Files {
    disk: Arc<dyn Disk>,
}

impl Files {
    pub fn new(disk: Arc<dyn Disk>) -> Files {
        Files { disk }
    }

    /// Whether so many bytes of the filesystem are free.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.disk.free_bytes().is_ok_and(|free| free >= bytes)
    }

    /// Writes a block; nothing of it is left if that fails.
    pub fn write(&self, number: u64, block: &MemoryBlock) -> io::Result<Entry> {
        let path = format!("{DIR}/{number:016x}.blk");
        let bytes = block.padded();
        let written = self.disk.create(&path, bytes.len() as u64).and_then(|file| file.write_at(bytes, 0));
        if written.is_err() {
            let _ = self.disk.remove(&path);
        }
        written.map(|()| Entry::new(path, block.len()))
    }

    /// Fills `out` with what is in a block's file from `within` on.
    pub fn read(&self, entry: &Entry, within: usize, out: &mut [u8]) -> io::Result<()> {
        let read = self.disk.open(&entry.path, OpenMode::Cached)?.read_at(out, within as u64)?;
        match read == out.len() && within + out.len() <= entry.len {
            true => Ok(()),
            false => Err(io::Error::other("a block of the cache is cut short")),
        }
    }

    /// Removes files. What cannot be removed now goes with the next start.
    pub fn remove(&self, gone: impl IntoIterator<Item = Entry>) {
        for entry in gone {
            let _ = self.disk.remove(&entry.path);
        }
    }
}
