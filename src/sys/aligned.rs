//! Owns a growable buffer whose memory is aligned for direct I/O.

use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::disk::BLOCK_BYTES;

/// Bytes at an address that is a multiple of `BLOCK_BYTES`. The capacity is a multiple of it too.
pub struct AlignedBuf {
    memory: NonNull<u8>,
    capacity: usize,
    len: usize,
}

// SAFETY: the buffer owns its memory exclusively, like a Vec<u8>.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// An empty buffer with room for at least `capacity` bytes (rounded up to whole blocks, at least one).
    pub fn with_capacity(capacity: usize) -> AlignedBuf {
        let capacity = round_up(capacity.max(1));
        // SAFETY: the layout's size is at least one block, so it is not zero.
        let memory = unsafe { alloc(layout(capacity)) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout(capacity)));
        AlignedBuf { memory, capacity, len: 0 }
    }

    /// How many bytes fit without growing.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends bytes, growing to at least double when they do not fit.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if end > self.capacity {
            self.grow(end.max(self.capacity * 2));
        }
        // SAFETY: `end` is within the capacity, and `bytes` cannot overlap memory that is exclusively ours.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_ptr().add(self.len), bytes.len());
        }
        self.len = end;
    }

    /// Sets the length; bytes gained are zero.
    pub fn resize(&mut self, len: usize) {
        if len > self.capacity {
            self.grow(len);
        }
        if len > self.len {
            // SAFETY: the range lies within the capacity.
            unsafe { std::ptr::write_bytes(self.memory.as_ptr().add(self.len), 0, len - self.len) };
        }
        self.len = len;
    }

    /// Appends zero bytes up to a multiple of `BLOCK_BYTES`.
    pub fn pad_to_block(&mut self) {
        self.resize(round_up(self.len));
    }

    fn grow(&mut self, capacity: usize) {
        let mut larger = AlignedBuf::with_capacity(capacity);
        // SAFETY: both regions are at least `self.len` long and distinct; the bytes were initialised.
        unsafe { std::ptr::copy_nonoverlapping(self.memory.as_ptr(), larger.memory.as_ptr(), self.len) };
        larger.len = self.len;
        std::mem::swap(self, &mut larger);
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated by `with_capacity` with this very layout.
        unsafe { dealloc(self.memory.as_ptr(), layout(self.capacity)) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are initialised: `len` only grows over bytes that were just written.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes)", self.len, self.capacity)
    }
}

fn round_up(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, BLOCK_BYTES).expect("capacities are far below isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stays_aligned_and_content_survives_growth() {
        let mut buf = AlignedBuf::with_capacity(1);
        buf.extend_from_slice(b"chronik");
        buf.extend_from_slice(&[7; 9000]);
        assert_eq!(buf.as_ptr() as usize % BLOCK_BYTES, 0);
        assert_eq!(&buf[..7], b"chronik");
        assert_eq!(buf[9006], 7);
        buf.pad_to_block();
        assert_eq!(buf.len() % BLOCK_BYTES, 0);
        assert_eq!(buf[9007..].iter().map(|b| *b as u64).sum::<u64>(), 0);
    }

    #[test]
    fn bytes_of_an_earlier_use_never_show_as_padding() {
        let mut buf = AlignedBuf::with_capacity(8192);
        buf.resize(8192);
        buf.fill(9);
        buf.clear();
        buf.extend_from_slice(b"x");
        buf.pad_to_block();
        assert!(buf[1..].iter().all(|b| *b == 0));
    }
}
