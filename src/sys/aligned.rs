//! Owns a growable buffer whose memory is aligned for direct I/O, and cheap to hand to a disk.
//!
//! Large buffers ask for huge pages: the kernel then pins a few of those for a direct write, and not hundreds of small ones. What is
//! copied into them in large pieces goes past the processor's caches, because the disk reads it next.

use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::disk::BLOCK_BYTES;

/// Size and alignment of a huge page. Where there are none, nothing is lost.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The largest pages that systems have.
#[cfg(all(target_os = "linux", not(miri)))]
const PAGE_BYTES_MAX: usize = 64 << 10;

/// From this size on, what is copied goes past the caches; smaller pieces are looked at again soon, or not worth it.
const STREAM_BYTES_MIN: usize = 16 << 10;

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
        let memory = allocate(capacity);
        #[cfg(target_os = "linux")]
        if capacity >= HUGE_PAGE_BYTES {
            // A hint: without it everything works as well.
            // SAFETY: the range is what was just allocated (or a null pointer, which is refused), and its content stays.
            unsafe { libc::madvise(memory.cast(), capacity, libc::MADV_HUGEPAGE) };
        }
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout(capacity)));
        AlignedBuf { memory, capacity, len: 0 }
    }

    /// Zeros to read a file of `file_bytes` into, a piece of `piece_bytes` at a time: as long as a piece, or as the whole file in
    /// blocks, if that is shorter.
    pub fn for_pieces(piece_bytes: usize, file_bytes: u64) -> AlignedBuf {
        let file_bytes = usize::try_from(file_bytes).unwrap_or(usize::MAX).min(piece_bytes);
        let bytes = round_up(file_bytes.max(1)).min(piece_bytes);
        let mut buf = AlignedBuf::with_capacity(bytes);
        buf.resize(bytes);
        buf
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
            let to = self.memory.as_ptr().add(self.len);
            if bytes.len() < STREAM_BYTES_MIN {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            } else {
                stream(bytes.as_ptr(), to, bytes.len());
            }
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
        unsafe { free(self.memory.as_ptr(), self.capacity) }
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

/// Copies past the caches.
///
/// # Safety
/// As for `std::ptr::copy_nonoverlapping`.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn stream(from: *const u8, to: *mut u8, len: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    /// A cache line, which is written whole.
    const LINE_BYTES: usize = 64;

    let head = to.align_offset(LINE_BYTES).min(len);
    let lines = (len - head) / LINE_BYTES;
    let tail = head + lines * LINE_BYTES;
    // SAFETY: head, lines and tail together are the `len` bytes that the caller vouches for; lines are aligned in `to`.
    // SSE2 is part of x86-64. The fence makes the stores visible before anything that is stored later.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, head);
        for at in (head..tail).step_by(LINE_BYTES) {
            let (from, to) = (from.add(at).cast::<__m128i>(), to.add(at).cast::<__m128i>());
            let line = [
                _mm_loadu_si128(from),
                _mm_loadu_si128(from.add(1)),
                _mm_loadu_si128(from.add(2)),
                _mm_loadu_si128(from.add(3)),
            ];
            line.into_iter().enumerate().for_each(|(n, part)| _mm_stream_si128(to.add(n), part));
        }
        std::ptr::copy_nonoverlapping(from.add(tail), to.add(tail), len - tail);
        _mm_sfence();
    }
}

/// Copies; elsewhere caches are left to themselves, and Miri does not know of them.
///
/// # Safety
/// As for `std::ptr::copy_nonoverlapping`.
#[cfg(any(not(target_arch = "x86_64"), miri))]
unsafe fn stream(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller vouches for it.
    unsafe { std::ptr::copy_nonoverlapping(from, to, len) }
}

fn round_up(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// Memory of so many bytes, whole blocks and not none; null if there is none.
fn allocate(capacity: usize) -> *mut u8 {
    #[cfg(all(target_os = "linux", not(miri)))]
    if capacity >= HUGE_PAGE_BYTES {
        return map(capacity);
    }
    // SAFETY: the layout's size is at least one block, so it is not zero.
    unsafe { alloc(layout(capacity)) }
}

/// # Safety
/// The memory came from [`allocate`] with this capacity, and nobody uses it any more.
unsafe fn free(memory: *mut u8, capacity: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    if capacity >= HUGE_PAGE_BYTES {
        // SAFETY: these are the pages that `map` left.
        unsafe { libc::munmap(memory.cast(), capacity.next_multiple_of(PAGE_BYTES_MAX)) };
        return;
    }
    // SAFETY: it was allocated with this layout.
    unsafe { dealloc(memory, layout(capacity)) }
}

/// Memory straight from the system, at the beginning of a huge page. In the C library's heaps memory that is aligned like that leaves
/// holes into which hardly anything fits: they became three times as large as what was in use.
#[cfg(all(target_os = "linux", not(miri)))]
fn map(capacity: usize) -> *mut u8 {
    let capacity = capacity.next_multiple_of(PAGE_BYTES_MAX);
    let whole = capacity + HUGE_PAGE_BYTES;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: asks for new pages, wherever there is room, and touches nothing that is there.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), whole, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    let start: *mut u8 = start.cast();
    let before = start.align_offset(HUGE_PAGE_BYTES);
    // SAFETY: a huge page begins within the first `HUGE_PAGE_BYTES`, and what is given back lies before it and behind the memory, in whole
    // pages, as all three numbers are multiples of one.
    unsafe {
        let memory = start.add(before);
        if before > 0 {
            libc::munmap(start.cast(), before);
        }
        if before < HUGE_PAGE_BYTES {
            libc::munmap(memory.add(capacity).cast(), HUGE_PAGE_BYTES - before);
        }
        memory
    }
}

fn layout(capacity: usize) -> Layout {
    let align = if capacity < HUGE_PAGE_BYTES { BLOCK_BYTES } else { HUGE_PAGE_BYTES };
    Layout::from_size_align(capacity, align).expect("capacities are far below isize::MAX")
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
    fn large_buffers_begin_at_a_huge_page_and_all_of_them_is_theirs() {
        let mut buffers = Vec::new();
        for n in 0..12u8 {
            let bytes = HUGE_PAGE_BYTES - BLOCK_BYTES + usize::from(n) * 3 * BLOCK_BYTES;
            let mut buf = AlignedBuf::with_capacity(bytes);
            buf.resize(buf.capacity());
            buf.fill(n);
            buffers.push(buf);
        }
        for (n, buf) in buffers.iter_mut().enumerate() {
            let is_large = buf.capacity() >= HUGE_PAGE_BYTES;
            assert_eq!(buf.as_ptr() as usize % if is_large { HUGE_PAGE_BYTES } else { BLOCK_BYTES }, 0);
            assert!(buf.iter().all(|byte| usize::from(*byte) == n));
            buf.extend_from_slice(b"more");
        }
        buffers.truncate(3);
        assert!(buffers.iter().enumerate().all(|(n, buf)| usize::from(buf[HUGE_PAGE_BYTES / 2]) == n));
    }

    #[test]
    fn what_is_copied_past_the_caches_arrives_whole_at_any_alignment() {
        let bytes: Vec<u8> = (0..STREAM_BYTES_MIN * 2).map(|n| (n * 7 + n / 251) as u8).collect();
        for before in [0, 1, 15, 16, 63, 64, 65] {
            for skip in [0, 1, 13] {
                for len in [STREAM_BYTES_MIN, STREAM_BYTES_MIN + 1, STREAM_BYTES_MIN + 63, STREAM_BYTES_MIN + 64] {
                    let mut buf = AlignedBuf::with_capacity(1);
                    buf.resize(before);
                    buf.extend_from_slice(&bytes[skip..skip + len]);
                    assert!(buf[before..] == bytes[skip..skip + len], "{len} bytes from {skip} to {before}");
                }
            }
        }
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
