//! Owns simulated time, waiting and chance for stores: waits take no time and are counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chronik::store::{Surroundings, Tuning};

/// 2013-05-24T00:00:00Z, where the clock begins.
pub const BEGIN_MS: i64 = 1_369_353_600_000;

#[derive(Debug, Default)]
pub struct Simulated {
    pub waits: Mutex<Vec<Duration>>,
    now_ms: AtomicU64,
    chance: AtomicU64,
}

impl Simulated {
    pub fn start() -> Arc<Simulated> {
        Arc::new(Simulated::default())
    }

    pub fn advance(&self, time: Duration) {
        self.now_ms.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn waited(&self) -> Vec<Duration> {
        self.waits.lock().unwrap().clone()
    }
}

impl Surroundings for Simulated {
    fn wall_ms(&self) -> i64 {
        BEGIN_MS + self.mono_ms() as i64
    }

    fn mono_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn random(&self) -> u64 {
        // SplitMix64: every number once, in an order that looks like none.
        let mut z = self.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn wait(&self, time: Duration) -> bool {
        self.waits.lock().unwrap().push(time);
        self.advance(time);
        true
    }
}

/// Small parts, and little patience with a peer that is on this machine.
pub fn small() -> Tuning {
    Tuning {
        idle: Duration::from_millis(400),
        connect: Duration::from_millis(2000),
        single_bytes: 4096,
        part_bytes: 1 << 20,
        ..Tuning::default()
    }
}
