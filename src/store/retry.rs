//! Owns when a request is made again: how often, after which waits, and for how long at most.

use std::sync::Arc;
use std::time::Duration;

use super::{Kind, StoreError, Surroundings};
use crate::limits;

/// Bounds of tries, sizes of requests, and how long the network may be silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Tries of one request, at least one.
    pub tries: u32,
    /// Time after which a failed request is not made again, counted from the first try.
    pub total: Duration,
    /// The first wait is between nothing and this; the next ones double it.
    pub first_wait: Duration,
    /// No wait is chosen longer than this. One that the store asks for may be, within `total`.
    pub longest_wait: Duration,
    /// Time to connect, with TLS.
    pub connect: Duration,
    /// Time without a byte in either direction after which a request has failed.
    pub idle: Duration,
    /// Largest object that is sent in one request, bytes.
    pub single_bytes: u64,
    /// Size of the parts of larger ones, bytes; grows with objects that would have too many parts.
    pub part_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            tries: limits::STORE_TRIES_MAX,
            total: Duration::from_secs(limits::STORE_TRIES_SECONDS_MAX),
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            single_bytes: limits::STORE_SINGLE_PUT_BYTES_MAX,
            part_bytes: limits::STORE_PART_BYTES,
        }
    }
}

impl Tuning {
    /// Size of the parts of an object of `size` bytes, so that they are not too many; a whole number of `unit` bytes.
    pub(super) fn part_size(&self, size: u64, unit: u64) -> u64 {
        let least = size.div_ceil(limits::STORE_PARTS_MAX);
        self.part_bytes.max(least).div_ceil(unit) * unit
    }
}

/// Makes requests again.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    pub tuning: Tuning,
    pub around: Arc<dyn Surroundings>,
}

/// How often something was tried, and since when.
pub(super) struct Tries<'a> {
    retry: &'a Retry,
    failed: u32,
    since_ms: u64,
}

impl Retry {
    /// Begins to count.
    pub fn begin(&self) -> Tries<'_> {
        Tries { retry: self, failed: 0, since_ms: self.around.mono_ms() }
    }

    /// Does `request` until it succeeds, fails for good, or was tried often and long enough.
    pub fn run<T>(&self, mut request: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut tries = self.begin();
        loop {
            match request() {
                Ok(done) => return Ok(done),
                Err(error) => tries.failed(error)?,
            }
        }
    }
}

impl Tries<'_> {
    /// Waits after a failure; `Err` if there is nothing left to wait for.
    pub fn failed(&mut self, error: StoreError) -> Result<(), StoreError> {
        // Bytes that were damaged on their way up can be sent again.
        if !error.is_transient() && error.kind != Kind::Corrupt {
            return Err(error);
        }
        self.failed += 1;
        let tuning = &self.retry.tuning;
        let wait = self.wait(error.retry_after);
        let spent = Duration::from_millis(self.retry.around.mono_ms().saturating_sub(self.since_ms));
        if self.failed >= tuning.tries || spent + wait > tuning.total {
            return Err(match self.failed {
                1 => error,
                times => StoreError { sentence: format!("{} It was tried {times} times.", error.sentence), ..error },
            });
        }
        log::debug!("{} Trying again in {} ms.", error.sentence, wait.as_millis());
        match self.retry.around.wait(wait) {
            true => Ok(()),
            false => Err(StoreError::new(Kind::Stopped, format!("{} The program is being stopped.", error.sentence))),
        }
    }

    /// Begins to count anew after progress.
    pub fn progressed(&mut self) {
        *self = self.retry.begin();
    }

    /// Full jitter: any time up to a bound that doubles. What the store asks for is the least.
    fn wait(&self, asked: Option<Duration>) -> Duration {
        let tuning = &self.retry.tuning;
        let doubled = tuning.first_wait.saturating_mul(1 << (self.failed - 1).min(16));
        let bound = u64::try_from(doubled.min(tuning.longest_wait).as_millis()).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(self.retry.around.random() % (bound + 1));
        asked.map_or(jitter, |asked| asked + jitter / 8)
    }
}
