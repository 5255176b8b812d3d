//! Owns the memory of blocks: buffers that are used again, because the first touch of fresh memory costs more than filling it.

use std::io::{self, Write};
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::Room;
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::BLOCK_BYTES;

/// Where blocks take their memory from, and give it back to.
#[derive(Debug)]
pub struct Memory {
    free: Mutex<Vec<AlignedBuf>>,
    block_bytes: usize,
}

/// Buffers that lie ready for use: as many as are given back before the next are taken, when several readers go on.
const FREE_MAX: usize = 4;

impl Memory {
    /// Of blocks of at most `block_bytes`.
    pub fn new(block_bytes: usize) -> Arc<Memory> {
        Arc::new(Memory { free: Mutex::default(), block_bytes })
    }

    /// An empty block with room for the largest.
    pub fn take(self: &Arc<Memory>) -> MemoryBlock {
        let free = self.free.lock().pop();
        let buf = free.unwrap_or_else(|| {
            let mut buf = AlignedBuf::with_capacity(self.block_bytes);
            buf.resize(self.block_bytes);
            buf
        });
        MemoryBlock { buf: Some(buf), len: 0, home: Arc::clone(self) }
    }

    /// Gives back to the system what nobody uses.
    pub fn release(&self) {
        let free = std::mem::take(&mut *self.free.lock());
        drop(free);
    }

    fn give(&self, buf: AlignedBuf) {
        let mut free = self.free.lock();
        if free.len() < FREE_MAX {
            free.push(buf);
        }
    }
}

/// A block, or the beginning of one. Its memory goes back where it came from.
#[derive(Debug)]
pub struct MemoryBlock {
    /// There until it is dropped, and as long as the largest block.
    buf: Option<AlignedBuf>,
    /// Bytes of the object. What follows them is left of an earlier use, but for zeros up to a block of the disk when it is complete.
    len: usize,
    home: Arc<Memory>,
}

impl MemoryBlock {
    /// Room for the bytes that come next.
    pub fn room(&mut self) -> &mut [u8] {
        let len = self.len;
        self.buf.as_deref_mut().map_or(&mut [], |buf| &mut buf[len..])
    }

    /// So many bytes have come to the beginning of the room.
    pub fn filled(&mut self, count: usize) {
        self.len += self.room().len().min(count);
    }

    /// There is no more to come: zeros follow, so that a disk takes it as it is.
    pub fn complete(&mut self) {
        let behind = self.padded_bytes() - self.len;
        self.room()[..behind].fill(0);
    }

    fn padded_bytes(&self) -> usize {
        self.len.next_multiple_of(BLOCK_BYTES)
    }

    /// Bytes of memory that it takes, however short it is.
    pub fn memory_bytes(&self) -> usize {
        self.buf.as_ref().map_or(0, AlignedBuf::capacity)
    }

    /// With the zeros.
    pub fn padded(&self) -> &[u8] {
        &self.buf.as_deref().unwrap_or_default()[..self.padded_bytes()]
    }
}

impl Deref for MemoryBlock {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buf.as_deref().unwrap_or_default()[..self.len]
    }
}

/// The memory of whoever asks, for bytes that go past the blocks: what of it is still to be filled.
pub struct Exactly<'a>(pub &'a mut [u8]);

impl Room for Exactly<'_> {
    fn room(&mut self) -> &mut [u8] {
        self.0
    }

    fn filled(&mut self, count: usize) -> io::Result<()> {
        self.0 = std::mem::take(&mut self.0).split_at_mut_checked(count).ok_or(io::ErrorKind::FileTooLarge)?.1;
        Ok(())
    }
}

impl Write for Exactly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let there = self.0.get_mut(..bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        there.copy_from_slice(bytes);
        self.filled(bytes.len())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A block that somebody is lent bytes of, which keep it there.
pub struct Lent(pub Arc<MemoryBlock>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for MemoryBlock {
    fn drop(&mut self) {
        if let Some(buf) = self.buf.take() {
            self.home.give(buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_use_has_left_is_neither_read_nor_written_to_the_disk() {
        let memory = Memory::new(2 * BLOCK_BYTES);
        let mut first = memory.take();
        first.room().fill(9);
        first.filled(2 * BLOCK_BYTES);
        drop(first);
        let mut again = memory.take();
        again.room()[..2].copy_from_slice(&[1, 2]);
        again.filled(2);
        again.complete();
        assert_eq!((&again[..], again.padded().len()), (&[1, 2][..], BLOCK_BYTES));
        assert!(again.padded()[2..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn memory_is_used_again_and_does_not_pile_up() {
        let memory = Memory::new(4096);
        let mut first = memory.take();
        first.room()[..7].copy_from_slice(b"chronik");
        first.filled(7);
        let address = first.as_ptr();
        drop(first);
        let again = memory.take();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        let others: Vec<_> = (0..2 * FREE_MAX).map(|_| memory.take()).collect();
        drop((again, others));
        assert_eq!(memory.free.lock().len(), FREE_MAX);
        memory.release();
        assert!(memory.free.lock().is_empty());
    }
}
