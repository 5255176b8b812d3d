//! Owns reading files of a data directory for a store, and the checksums of what passes by.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Watch;
use crate::limits;
use crate::store::Source;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::DiskFile;

/// A part of a file, with the checksum of what is read from front to back.
pub struct FileSource<'a> {
    file: Arc<dyn DiskFile>,
    /// Where it begins.
    start: u64,
    bytes: u64,
    watch: &'a dyn Watch,
    running: Mutex<Running>,
}

/// The checksum of the bytes before a place. Bytes that are read again, or out of turn, count for nothing.
#[derive(Clone, Copy, Default)]
struct Running {
    at: u64,
    crc: u32,
}

impl<'a> FileSource<'a> {
    /// The first `bytes` bytes of a file.
    pub fn new(file: Arc<dyn DiskFile>, bytes: u64, watch: &'a dyn Watch) -> FileSource<'a> {
        FileSource::part(file, 0, bytes, watch)
    }

    /// `bytes` bytes of a file from `start` on.
    pub fn part(file: Arc<dyn DiskFile>, start: u64, bytes: u64, watch: &'a dyn Watch) -> FileSource<'a> {
        FileSource { file, start, bytes, watch, running: Mutex::default() }
    }

    /// CRC-32C of all bytes; reads what has not been read in turn.
    pub fn crc(&self) -> io::Result<u32> {
        let mut piece = AlignedBuf::for_pieces(limits::BACKUP_PIECE_BYTES, self.bytes);
        loop {
            let at = self.running.lock().at;
            if at == self.bytes {
                return Ok(self.running.lock().crc);
            }
            // A piece that begins on a block can be read past the page cache without a copy.
            let into = (at % piece.len() as u64) as usize;
            self.read_at(at, &mut piece[into..])?;
        }
    }
}

impl Source for FileSource<'_> {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.is_stopped() {
            // Not the kind for interrupted calls, which are tried again.
            return Err(io::Error::other("stopped"));
        }
        let rest = self.bytes.saturating_sub(offset);
        let count = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buffer[..count], self.start + offset)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
        }
        let mut running = self.running.lock();
        if running.at == offset {
            running.crc = crc32c::crc32c_append(running.crc, &buffer[..read]);
            running.at += read as u64;
        }
        Ok(read)
    }
}

/// Counts and checksums what is written to it.
pub struct Checksum<'a> {
    pub bytes: u64,
    pub crc: u32,
    watch: &'a dyn Watch,
}

impl<'a> Checksum<'a> {
    pub fn new(watch: &'a dyn Watch) -> Checksum<'a> {
        Checksum { bytes: 0, crc: 0, watch }
    }
}

impl Write for Checksum<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.watch.is_stopped() {
            return Err(io::Error::other("stopped"));
        }
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
