//! Owns the memory of request frames: buffers that are reused, and the count of bytes that are out.
//!
//! A frame stays in memory from the first byte received until nobody needs it any more, which another thread may be the
//! one to find out. So every buffer knows its pool, and dropping it gives the memory back and takes it off the count.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::{self, ThreadId};

use bytes::Bytes;
use parking_lot::Mutex;

/// Smallest buffer that is kept for reuse, and the size of a plain read.
pub const READ_BYTES: usize = 64 << 10;

/// Sizes that are kept for reuse: `READ_BYTES` shifted left by 0 to `CLASSES - 1`, so up to 4 MiB.
const CLASSES: usize = 7;

/// Most bytes that lie ready for reuse.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Where buffers come from and go back to; shared by all connections of one reactor.
#[derive(Debug)]
pub struct Pool {
    kept: Mutex<Kept>,
    out_bytes: AtomicUsize,
    /// The thread that made the pool, for which others wait: it gives large memory back in parts.
    owner: ThreadId,
    /// Memory that is given back in parts, and is still counted.
    going: Going,
}

/// Large memory that nobody needs any more and that is given back to the system in parts, as that takes the system its time.
#[derive(Debug, Default)]
pub struct Going {
    memory: Mutex<Vec<Vec<u8>>>,
    bytes: AtomicUsize,
}

impl Going {
    /// Whether memory of so many bytes is given back in parts.
    pub fn is_for(capacity: usize) -> bool {
        capacity > READ_BYTES << (CLASSES - 1)
    }

    /// Takes memory whose content is of no use any more.
    pub fn push(&self, mut memory: Vec<u8>) {
        memory.clear();
        self.bytes.fetch_add(memory.capacity(), Ordering::Relaxed);
        self.memory.lock().push(memory);
    }

    /// Bytes that are left to give back.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Gives back about so many bytes; how many it were.
    pub fn give_back_some(&self, bytes: usize) -> usize {
        let mut going = self.memory.lock();
        let mut all = 0;
        while all < bytes {
            let Some(mut memory) = going.pop() else { break };
            let before = memory.capacity();
            // The allocator cuts large memory off at its end, where it is.
            memory.shrink_to(before.saturating_sub(bytes - all));
            all += before - memory.capacity();
            if memory.capacity() > 0 {
                going.push(memory);
            }
        }
        self.bytes.fetch_sub(all, Ordering::Relaxed);
        all
    }
}

#[derive(Debug, Default)]
struct Kept {
    classes: [Vec<Vec<u8>>; CLASSES],
    bytes: usize,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Arc<Pool> {
        let (kept, out_bytes, going) = Default::default();
        Arc::new(Pool { kept, out_bytes, owner: thread::current().id(), going })
    }

    /// Capacity in bytes of all buffers that are out, whoever holds them.
    pub fn out_bytes(&self) -> usize {
        self.out_bytes.load(Ordering::Relaxed)
    }

    /// An empty buffer with room for at least `capacity` bytes. Sizes from `READ_BYTES` to 4 MiB are rounded up to a
    /// power of two and may be a used one.
    pub fn take(self: &Arc<Pool>, capacity: usize) -> Buffer {
        let memory = match class_at_least(capacity) {
            Some(class) => self.reuse(class).unwrap_or_else(|| Vec::with_capacity(READ_BYTES << class)),
            None => Vec::with_capacity(capacity),
        };
        self.out_bytes.fetch_add(memory.capacity(), Ordering::Relaxed);
        Buffer { memory, pool: Arc::clone(self) }
    }

    /// A copy of `bytes` that takes only the room it needs.
    pub fn copy(self: &Arc<Pool>, bytes: &[u8]) -> Bytes {
        let memory = bytes.to_vec();
        self.out_bytes.fetch_add(memory.capacity(), Ordering::Relaxed);
        Buffer { memory, pool: Arc::clone(self) }.freeze()
    }

    fn reuse(&self, class: usize) -> Option<Vec<u8>> {
        let mut kept = self.kept.lock();
        let memory = kept.classes[class].pop()?;
        kept.bytes -= memory.capacity();
        Some(memory)
    }

    /// Bytes that `give_back_some` has yet to give back.
    pub fn going_bytes(&self) -> usize {
        self.going.bytes()
    }

    /// Gives back about so many bytes of what was too large to be given back at once.
    pub fn give_back_some(&self, bytes: usize) {
        self.out_bytes.fetch_sub(self.going.give_back_some(bytes), Ordering::Relaxed);
    }

    fn give_back(&self, mut memory: Vec<u8>) {
        let capacity = memory.capacity();
        if Going::is_for(capacity) && thread::current().id() == self.owner {
            return self.going.push(memory);
        }
        self.out_bytes.fetch_sub(capacity, Ordering::Relaxed);
        let Some(class) = class_of(capacity) else { return };
        memory.clear();
        let mut kept = self.kept.lock();
        if kept.bytes + capacity <= KEPT_BYTES_MAX {
            kept.bytes += capacity;
            kept.classes[class].push(memory);
        }
    }
}

/// The smallest class with room for `capacity`; none for buffers that are too small or too large to keep.
fn class_at_least(capacity: usize) -> Option<usize> {
    if capacity < READ_BYTES {
        return None;
    }
    (0..CLASSES).find(|class| READ_BYTES << class >= capacity)
}

/// The class that a buffer of exactly this capacity belongs to.
fn class_of(capacity: usize) -> Option<usize> {
    (0..CLASSES).find(|class| READ_BYTES << class == capacity)
}

/// A growable buffer out of a pool. Its memory goes back when it is dropped.
pub struct Buffer {
    memory: Vec<u8>,
    pool: Arc<Pool>,
}

impl Buffer {
    /// The bytes and their spare capacity. The capacity must not be changed, or the count of bytes goes wrong; use
    /// `grow` for that.
    pub fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    /// How many bytes fit without growing.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Makes room for at least `capacity` bytes in all, keeping the content.
    pub fn grow(&mut self, capacity: usize) {
        let before = self.memory.capacity();
        if capacity > before && before >= READ_BYTES << (CLASSES - 1) {
            // The allocator moves large memory without a copy.
            self.memory.reserve_exact(capacity - self.memory.len());
            self.pool.out_bytes.fetch_add(self.memory.capacity() - before, Ordering::Relaxed);
        } else if capacity > before {
            let mut larger = self.pool.take(capacity);
            larger.memory.extend_from_slice(&self.memory);
            *self = larger;
        }
    }

    /// The content as shared bytes; the memory goes back to the pool with the last of them.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.memory));
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.memory.len(), self.memory.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_the_last_slice_of_a_frozen_buffer_goes() {
        let pool = Pool::new();
        let mut buffer = pool.take(READ_BYTES);
        buffer.vec().extend_from_slice(b"two frames");
        let address = buffer.as_ptr();
        let (first, second) = {
            let shared = buffer.freeze();
            (shared.slice(0..3), shared.slice(4..))
        };
        drop(first);
        assert_eq!(pool.out_bytes(), READ_BYTES);
        std::thread::spawn(move || drop(second)).join().unwrap();
        assert_eq!(pool.out_bytes(), 0);
        let again = pool.take(READ_BYTES);
        assert_eq!(again.as_ptr(), address);
        assert!(again.is_empty());
    }

    #[test]
    fn growing_keeps_the_content_and_the_count() {
        let pool = Pool::new();
        let mut buffer = pool.take(100);
        buffer.vec().extend_from_slice(&[7; 100]);
        buffer.grow(READ_BYTES + 1);
        assert_eq!(&buffer[..], &[7; 100]);
        assert_eq!(buffer.capacity(), 2 * READ_BYTES);
        assert_eq!(pool.out_bytes(), 2 * READ_BYTES);
        buffer.grow(10 << 20);
        assert!(buffer.capacity() >= 10 << 20);
        drop(buffer);
        pool.give_back_some(usize::MAX);
        assert_eq!(pool.out_bytes(), 0);
    }

    #[test]
    fn large_memory_is_given_back_in_parts_by_the_thread_for_which_others_wait() {
        let pool = Pool::new();
        drop(pool.take(64 << 20));
        let mut parts = 0;
        while pool.going_bytes() > 0 {
            let before = pool.out_bytes();
            pool.give_back_some(2 << 20);
            assert!(before - pool.out_bytes() <= 2 << 20);
            parts += 1;
        }
        assert_eq!((pool.out_bytes(), parts), (0, 32));
        let large = pool.take(64 << 20);
        std::thread::spawn(move || drop(large)).join().unwrap();
        assert_eq!(pool.out_bytes(), 0, "nobody waits for another thread");
    }

    #[test]
    fn what_is_kept_for_reuse_is_bounded() {
        let pool = Pool::new();
        let many: Vec<Buffer> = (0..10).map(|_| pool.take(4 << 20)).collect();
        drop(many);
        assert_eq!(pool.out_bytes(), 0);
        assert!(pool.kept.lock().bytes <= KEPT_BYTES_MAX);
    }

    #[test]
    fn a_copy_takes_only_its_own_room() {
        let pool = Pool::new();
        let copy = pool.copy(b"small");
        assert_eq!(&copy[..], b"small");
        assert!(pool.out_bytes() < 64);
        drop(copy);
        assert_eq!(pool.out_bytes(), 0);
    }
}
