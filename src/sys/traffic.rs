//! Owns the word that the log is being written, and how long threads that work beside it on the same disk rest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest rest after one piece of work.
const REST_MAX: Duration = Duration::from_millis(200);

/// Counts what was written to the log.
#[derive(Debug, Default)]
pub struct Traffic(AtomicU64);

impl Traffic {
    /// A group was written.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn groups(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a thread rests for after each piece of its work, as multiples of the time that the piece took.
///
/// A disk makes durable what the log wrote together with what others wrote, so each piece delays acknowledgements.
#[derive(Clone, Copy, Debug)]
pub struct Rests {
    /// While nobody writes to the log.
    pub idle: u32,
    /// While somebody does.
    pub busy: u32,
}

/// Measures the pieces of one thread's work.
#[derive(Debug)]
pub struct Pieces {
    traffic: Arc<Traffic>,
    rests: Rests,
    begun: Instant,
    groups: u64,
}

impl Pieces {
    /// The first piece begins now.
    pub fn begin(traffic: Arc<Traffic>, rests: Rests) -> Pieces {
        let groups = traffic.groups();
        Pieces { traffic, rests, begun: Instant::now(), groups }
    }

    /// A piece has ended: how long to rest, 200 ms at most.
    fn rest(&self) -> Duration {
        let times = if self.traffic.groups() == self.groups { self.rests.idle } else { self.rests.busy };
        (self.begun.elapsed() * times).min(REST_MAX)
    }

    /// A piece has ended: rests, and begins the next one.
    pub fn end(&mut self) {
        std::thread::sleep(self.rest());
        (self.begun, self.groups) = (Instant::now(), self.traffic.groups());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_works_beside_the_log_rests_longer_while_it_is_written() {
        let traffic = Arc::new(Traffic::default());
        let mut pieces = Pieces::begin(Arc::clone(&traffic), Rests { idle: 0, busy: 4 });
        assert_eq!(pieces.rest(), Duration::ZERO);
        traffic.note();
        pieces.begun -= Duration::from_millis(10);
        assert!(pieces.rest() >= Duration::from_millis(40));
        pieces.begun -= Duration::from_secs(3600);
        assert_eq!(pieces.rest(), REST_MAX);
        pieces.end();
        assert_eq!(pieces.rest(), Duration::ZERO);
    }
}
