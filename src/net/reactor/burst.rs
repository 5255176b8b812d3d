//! Owns when the allocator is to give back what it has kept of a burst: memory that was freed between what is still used.

/// Requests and answers that take more than so many bytes at once are a burst.
const BURST_BYTES: usize = 32 << 20;

/// Bytes that they take at most when it is over, and for how long, in µs: who gives back what is wanted again soon takes it twice.
const OVER_BYTES: usize = 4 << 20;
const OVER_US: u64 = 2_000_000;

/// Whether there was a burst that nothing was given back after.
#[derive(Debug, Default)]
pub(super) struct Burst {
    was: bool,
    /// When it is over, if nothing comes in between.
    over_us: Option<u64>,
}

impl Burst {
    /// Takes note of the bytes that requests and answers take now. True once after each burst.
    pub(super) fn is_over(&mut self, now_us: u64, bytes: usize) -> bool {
        self.was |= bytes > BURST_BYTES;
        if !self.was || bytes > OVER_BYTES {
            self.over_us = None;
            return false;
        }
        let over_us = *self.over_us.get_or_insert(now_us + OVER_US);
        if now_us < over_us {
            return false;
        }
        *self = Burst::default();
        true
    }

    /// When to look again though nothing happens.
    pub(super) fn deadline_us(&self) -> Option<u64> {
        self.over_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_over_once_and_only_when_little_was_taken_for_a_while() {
        let mut burst = Burst::default();
        assert!(!burst.is_over(0, BURST_BYTES) && burst.deadline_us().is_none());
        assert!(!burst.is_over(OVER_US * 2, 0) && burst.deadline_us().is_none(), "that was none");
        assert!(!burst.is_over(1, BURST_BYTES + 1) && burst.deadline_us().is_none());
        assert!(!burst.is_over(2, 0) && burst.deadline_us() == Some(2 + OVER_US));
        assert!(!burst.is_over(3, OVER_BYTES + 1) && burst.deadline_us().is_none());
        assert!(!burst.is_over(4, OVER_BYTES) && !burst.is_over(3 + OVER_US, OVER_BYTES));
        assert!(burst.is_over(4 + OVER_US, 0));
        assert!(!burst.is_over(5 + 3 * OVER_US, 0) && burst.deadline_us().is_none());
    }
}
