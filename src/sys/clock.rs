//! Owns the two clocks: a monotonic one for timers and the wall clock for timestamps.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks. Cheap to copy; copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Microseconds since `start`; never goes back.
    pub fn mono_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since 1970, as the machine believes at the moment; may jump. A clock before 1970 counts as 1970.
    pub fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_their_origin_and_time_does_not_go_back() {
        let clock = Clock::start();
        let copy = clock;
        let earlier = clock.mono_us();
        assert!(copy.mono_us() >= earlier);
        assert!(clock.wall_ms() > 1_600_000_000_000);
    }
}
