//! Owns the seam between the log and the machine's files: the `Disk` and `DiskFile` traits.
//!
//! Everything that wal/ does to storage goes through these, so that the deterministic simulation can put a faulty disk
//! in their place. Paths are relative to the data directory, separated by `/`, and never leave it.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

/// Positions, lengths and buffers of `DiskFile::write_at` are multiples of this many bytes.
pub const BLOCK_BYTES: usize = 4096;

/// The largest block that a data directory asks for.
pub const BLOCK_BYTES_MAX: usize = 65536;

/// A data directory.
///
/// Errors are those of the operating system; `ErrorKind::StorageFull` (ENOSPC, EDQUOT) is the one that callers tell
/// apart.
pub trait Disk: Send + Sync + Debug {
    /// Makes a new file of `bytes` bytes whose space is reserved (later writes inside it cannot meet a full disk where
    /// the filesystem can promise that). Fails with `AlreadyExists` if there is one. The directory entry is not durable
    /// before `sync_dir`.
    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file. `Cached` reads through the page cache; `Direct` past it (or after dropping the file's
    /// cached pages, where the platform has no direct reading), which recovery needs; `Over` writes past it too.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// The whole of a small file; `InvalidData` when it is longer than `bytes_max`.
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>>;
    /// Replaces or makes a small file atomically and durably: temporary file, fsync, rename, fsync of the folder.
    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Renames within the data directory; durable after `sync_dir` of the folders.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name, which keeps it when the first one goes. `AlreadyExists` if that name is taken. Durable
    /// after `sync_dir`.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Unlinks a file; what is open stays readable. Durable after `sync_dir`.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Names and sizes in bytes of the plain files in a folder, sorted by name. An absent folder is an error.
    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>>;
    /// Makes a folder (and its parents) durably; an existing one is no error.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Bytes that an unprivileged process may still use on the filesystem.
    fn free_bytes(&self) -> io::Result<u64>;
    /// The unit that a torn write damages: what is durable is never written again within it. A power of two from
    /// `BLOCK_BYTES` to `BLOCK_BYTES_MAX`.
    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reads through the page cache; no writing.
    Cached,
    /// Reads past the page cache, and writes.
    Direct,
    /// Writes over what is there, which nobody wants any more.
    Over,
}

/// An open file of the data directory. Closed when the last handle goes.
pub trait DiskFile: Send + Sync + Debug {
    /// Writes all of `bytes`; position, length and the buffer's address are multiples of `BLOCK_BYTES`
    /// (see `AlignedBuf`). Not durable before `sync_data`.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// fdatasync (F_FULLFSYNC on macOS). After an error the file's unsynced data is lost for good: never retry.
    fn sync_data(&self) -> io::Result<()>;
    /// Reads until `buf` is full or the file ends; the number of bytes read.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Some of the file's bytes from `position` on, at least `least` of them, where they lie in memory already and need not be copied to
    /// be looked at. They keep memory that others wait for, so they are not to be kept for long. `None` where they have to be read.
    fn lend(&self, _position: u64, _least: usize) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True when the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file; durable after `sync_data`.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// A hint that a range will be read soon through the page cache. Returns without waiting for it, and does nothing where there is
    /// no such cache.
    fn will_need(&self, _position: u64, _bytes: u64) {}
    /// A descriptor for `sendfile`, which reads through the page cache; none in the simulation.
    fn sendfile_fd(&self) -> Option<i32> {
        None
    }
}
