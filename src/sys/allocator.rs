//! Owns how the C library's allocator keeps memory that was freed.

/// Allocations of at least so many bytes are given back to the system as soon as they are freed. glibc raises its own bound to
/// the largest allocation that was ever freed, up to 32 MiB, and then keeps the holes that requests and answers leave in its heaps.
/// Answers of up to 4 MiB and their copies are smaller: mapping each of them anew costs cold reads a third of their speed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const GIVEN_BACK_BYTES: libc::c_int = 8 << 20;

/// Free bytes at the end of a heap that are kept for the next allocations: some answers.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 16 << 20;

/// Heaps. One for each thread keeps what every thread once needed; the reactor has the first to itself.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: libc::c_int = 2;

/// Lets the allocator give memory back to the system when a burst is over. To be called before there are other threads. Other
/// C libraries do so by themselves.
pub fn give_back_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (name, value) in
        [(libc::M_MMAP_THRESHOLD, GIVEN_BACK_BYTES), (libc::M_TRIM_THRESHOLD, KEPT_BYTES), (libc::M_ARENA_MAX, HEAPS)]
    {
        // SAFETY: takes two numbers, and changes bounds that the allocator reads under its own lock. A value that it does not
        // take is left as it was.
        unsafe { libc::mallopt(name, value) };
    }
}

/// Gives back what the allocator has kept, also between what is still used. Takes some ms for each 100 MiB, in which others who want
/// memory may wait.
pub fn give_back_what_is_kept() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes a number, and touches only memory that is free, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
