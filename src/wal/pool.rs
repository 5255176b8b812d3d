//! Owns a small pool of group buffers, because the first touch of fresh memory costs more than copying a batch.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits;
use crate::sys::aligned::AlignedBuf;

/// Buffers that wait to be used again; clones share them.
#[derive(Clone, Debug, Default)]
pub struct BufferPool {
    free: Arc<Mutex<Vec<AlignedBuf>>>,
}

impl BufferPool {
    /// An empty buffer for `bytes`, of at most about twice that, so that small groups do not hold large memory.
    pub fn take(&self, bytes: usize) -> AlignedBuf {
        let mut free = self.free.lock();
        let fits = |buf: &AlignedBuf| buf.capacity() >= bytes && buf.capacity() <= bytes.max(4096) * 2;
        let best = (0..free.len()).filter(|at| fits(&free[*at])).min_by_key(|at| free[*at].capacity());
        let mut buf = match best {
            Some(at) => free.remove(at),
            None => {
                drop(free);
                // Rounded up, so that groups of about the same size share buffers.
                let step = (bytes.next_power_of_two() / 4).max(4096);
                AlignedBuf::with_capacity(bytes.div_ceil(step) * step)
            }
        };
        buf.clear();
        buf
    }

    /// Takes a buffer back if nobody else holds it.
    pub fn give(&self, buf: Arc<AlignedBuf>) {
        let Some(buf) = Arc::into_inner(buf) else { return };
        if buf.capacity() > limits::POOL_BYTES_MAX {
            return;
        }
        let mut free = self.free.lock();
        free.push(buf);
        // Those that were given back longest ago make room: sizes follow the load, and what it no longer needs must not
        // keep out what it does.
        let mut held: usize = free.iter().map(AlignedBuf::capacity).sum();
        while free.len() > limits::POOL_BUFFERS_MAX || held > limits::POOL_BYTES_MAX {
            held -= free.remove(0).capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_holds_it() {
        let pool = BufferPool::default();
        let held = Arc::new(pool.take(100_000));
        let address = held.as_ptr();
        pool.give(held.clone());
        assert!(pool.free.lock().is_empty());
        pool.give(held);
        assert_ne!(pool.take(1000).as_ptr(), address, "a small group must not hold a large buffer");
        assert_eq!(pool.take(90_000).as_ptr(), address);
    }

    #[test]
    fn small_buffers_of_yesterday_do_not_keep_out_large_ones() {
        let pool = BufferPool::default();
        let small: Vec<_> = (0..100).map(|_| Arc::new(pool.take(4096))).collect();
        small.into_iter().for_each(|buf| pool.give(buf));
        let large = Arc::new(pool.take(1 << 20));
        let address = large.as_ptr();
        pool.give(large);
        assert_eq!(pool.take(1 << 20).as_ptr(), address);
        assert!(pool.free.lock().len() <= limits::POOL_BUFFERS_MAX);
    }
}
