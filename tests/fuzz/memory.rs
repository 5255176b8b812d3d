//! Owns counting the memory that a test takes: an allocator that keeps, for each thread, what it holds and the most it held.
//!
//! What C code takes (zstd) is not seen.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted. The test program and the fuzz programs name it as theirs.
pub struct Counting;

thread_local! {
    // Neither needs memory or a destructor, so they may be used inside the allocator.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    HELD.with(|held| {
        let now = held.get() + change;
        held.set(now);
        MOST.with(|most| most.set(most.get().max(now)));
    });
}

// SAFETY: every call is handed to the system's allocator as it came, so its promises are kept; counting allocates nothing and
// cannot unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the rules of `alloc`, which are the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the memory came from this allocator, which means from the system's, with this layout.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The most bytes that this thread held while `run` ran, beyond what it held before.
pub fn peak_of(run: impl FnOnce()) -> usize {
    let before = HELD.get();
    MOST.set(before);
    run();
    (MOST.get() - before).max(0) as usize
}

#[test]
fn memory_is_counted_at_its_peak_and_by_thread() {
    let peak = peak_of(|| {
        drop(std::hint::black_box(vec![1u8; 1 << 20]));
        std::thread::spawn(|| drop(std::hint::black_box(vec![1u8; 16 << 20]))).join().unwrap();
        let mut grown: Vec<u8> = Vec::with_capacity(10);
        grown.reserve_exact(2 << 20);
        std::hint::black_box(&grown);
    });
    assert!((2 << 20..3 << 20).contains(&peak), "{peak} bytes");
}
