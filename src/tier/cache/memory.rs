//! Owns the memory of blocks: buffers that are used again, because the first touch of fresh memory costs more than filling it.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::sys::aligned::AlignedBuf;

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
        let buf = free.unwrap_or_else(|| AlignedBuf::with_capacity(self.block_bytes));
        MemoryBlock { buf: Some(buf), len: 0, home: Arc::clone(self) }
    }

    /// Gives back to the system what nobody uses.
    pub fn release(&self) {
        let free = std::mem::take(&mut *self.free.lock());
        drop(free);
    }

    fn give(&self, mut buf: AlignedBuf) {
        buf.clear();
        let mut free = self.free.lock();
        if free.len() < FREE_MAX {
            free.push(buf);
        }
    }
}

/// A block, or the beginning of one. Its memory goes back where it came from.
#[derive(Debug)]
pub struct MemoryBlock {
    /// There until it is dropped.
    buf: Option<AlignedBuf>,
    /// Bytes of the object; zeros may follow them.
    len: usize,
    home: Arc<Memory>,
}

impl MemoryBlock {
    /// Appends bytes, of which there are never more than fit.
    pub fn extend(&mut self, bytes: &[u8]) {
        if let Some(buf) = &mut self.buf {
            debug_assert!(self.len + bytes.len() <= buf.capacity());
            buf.extend_from_slice(bytes);
            self.len = buf.len();
        }
    }

    /// There is no more to come: zeros follow, so that a disk takes it as it is.
    pub fn complete(&mut self) {
        if let Some(buf) = &mut self.buf {
            buf.pad_to_block();
        }
    }

    /// Bytes of memory that it takes, however short it is.
    pub fn memory_bytes(&self) -> usize {
        self.buf.as_ref().map_or(0, AlignedBuf::capacity)
    }

    /// With the zeros.
    pub fn padded(&self) -> &[u8] {
        self.buf.as_deref().unwrap_or_default()
    }
}

impl Deref for MemoryBlock {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.padded()[..self.len]
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
    fn memory_is_used_again_and_does_not_pile_up() {
        let memory = Memory::new(4096);
        let mut first = memory.take();
        first.extend(b"chronik");
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
