//! Owns the files of the cache: one for each block, opened for as long as somebody reads it.
//!
//! A block that needs room is written over the file of the one that makes it: space that a file has already costs a fifth of what new
//! space costs. But who was given a block reads that one or none, so a file that somebody may be reading is removed as it is.

use std::io;
use std::sync::Arc;

use super::memory::MemoryBlock;
use super::state::Entry;
use super::DIR;
use crate::sys::disk::{Disk, OpenMode, BLOCK_BYTES};

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

    /// Writes a block, in the place of one of those that are gone, of which nothing else is left; nothing of it is left if that fails.
    /// Without one of its length it gets a file with this number.
    pub fn write(&self, number: u64, block: &MemoryBlock, mut gone: Vec<Entry>) -> io::Result<Entry> {
        let bytes = block.padded();
        let fits = |entry: &Entry| entry.is_unread() && entry.bytes().next_multiple_of(BLOCK_BYTES) == bytes.len();
        let place = gone.iter().position(fits).map(|at| gone.swap_remove(at));
        self.remove(gone);
        let path = match &place {
            Some(entry) => Arc::clone(entry.path()),
            None => format!("{DIR}/{number:016x}.blk").into(),
        };
        let opened = match place {
            Some(_) => self.disk.open(&path, OpenMode::Over),
            None => self.disk.create(&path, bytes.len() as u64),
        };
        let written = opened.and_then(|file| file.write_at(bytes, 0));
        if written.is_err() {
            let _ = self.disk.remove(&path);
        }
        written.map(|()| Entry::new(path, block.len()))
    }

    /// Fills `out` with what is in a block's file from `within` on.
    pub fn read(&self, entry: &Entry, within: usize, out: &mut [u8]) -> io::Result<()> {
        let read = self.disk.open(entry.path(), OpenMode::Cached)?.read_at(out, within as u64)?;
        match read == out.len() && within + out.len() <= entry.bytes() {
            true => Ok(()),
            false => Err(io::Error::other("a block of the cache is cut short")),
        }
    }

    /// Removes files. What cannot be removed now goes with the next start.
    pub fn remove(&self, gone: impl IntoIterator<Item = Entry>) {
        for entry in gone {
            let _ = self.disk.remove(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;
    use crate::sys::real_disk::{RealDisk, Writing};

    const LEN: usize = 2 * BLOCK_BYTES;

    fn block(byte: u8, len: usize) -> MemoryBlock {
        let mut block = Memory::new(LEN).take();
        block.extend(&vec![byte; len]);
        block.complete();
        block
    }

    fn byte_of(files: &Files, entry: &Entry) -> io::Result<u8> {
        let mut byte = [0];
        files.read(entry, 0, &mut byte).map(|()| byte[0])
    }

    /// The real trouble would be a reader that is given another block's bytes.
    #[test]
    fn a_block_is_written_over_one_that_is_gone_but_never_over_one_that_may_be_read() {
        for writing in [Writing::Auto, Writing::Buffered] {
            let root = std::env::temp_dir().join(format!("chronik-cache-{}-{writing:?}", std::process::id()));
            let _ = std::fs::remove_dir_all(&root);
            let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&root, writing).unwrap());
            disk.create_dir(DIR).unwrap();
            let files = Files::new(Arc::clone(&disk));
            let names = || disk.list(DIR).unwrap().len();
            let first = files.write(1, &block(1, LEN), Vec::new()).unwrap();
            let path = Arc::clone(first.path());
            assert!(!first.is_unread());
            drop(path);
            let path = first.path().to_string();
            let second = files.write(2, &block(2, LEN - 5), vec![first]).unwrap();
            assert_eq!((&*path, byte_of(&files, &second).unwrap(), names()), (&**second.path(), 2, 1));
            // Somebody was given it, and has not begun to read.
            let reading = second.clone();
            let third = files.write(3, &block(3, LEN), vec![second]).unwrap();
            assert_eq!(byte_of(&files, &reading).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!((byte_of(&files, &third).unwrap(), names()), (3, 1));
            // A short one has no room for a long one.
            let short = files.write(4, &block(4, 5), Vec::new()).unwrap();
            let fifth = files.write(5, &block(5, LEN), vec![short, third]).unwrap();
            assert_eq!((byte_of(&files, &fifth).unwrap(), names()), (5, 1));
            std::fs::remove_dir_all(&root).unwrap();
        }
    }
}
