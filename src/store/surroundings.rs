//! Owns what stores need of the world besides the network: time, waiting, chance. Tests bring their own.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::sys::clock::Clock;
use crate::sys::traffic::Traffic;

/// Time, waiting, chance.
pub trait Surroundings: Send + Sync + fmt::Debug {
    /// Milliseconds since 1970, as far as this machine knows; signatures carry it.
    fn wall_ms(&self) -> i64;

    /// Milliseconds of a clock that never goes back; bounds tries.
    fn mono_ms(&self) -> u64;

    /// A number that nobody can guess.
    fn random(&self) -> u64;

    /// Waits; `false` if there is no point in going on, because the program is being stopped.
    fn wait(&self, time: Duration) -> bool;

    /// What a folder as a store takes care of; `None` if no log is written meanwhile.
    fn traffic(&self) -> Option<Arc<Traffic>> {
        None
    }
}

/// The machine's clock and randomness, and waits that can be ended.
#[derive(Debug)]
pub struct Machine {
    clock: Clock,
    stopped: Mutex<bool>,
    changed: Condvar,
    traffic: Option<Arc<Traffic>>,
}

impl Machine {
    /// Not stopped.
    pub fn start() -> Machine {
        Machine { clock: Clock::start(), stopped: Mutex::new(false), changed: Condvar::new(), traffic: None }
    }

    /// The same for a server, which writes a log meanwhile.
    pub fn beside(traffic: &Arc<Traffic>) -> Machine {
        Machine { traffic: Some(Arc::clone(traffic)), ..Machine::start() }
    }

    /// Ends every wait of now and later, so that requests that fail are not tried again.
    pub fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }
}

impl Surroundings for Machine {
    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn mono_ms(&self) -> u64 {
        self.clock.mono_us() / 1000
    }

    fn random(&self) -> u64 {
        // Without the system's randomness, time and an address still tell two tries apart.
        getrandom::u64().unwrap_or_else(|_| self.clock.mono_us() ^ std::ptr::from_ref(self) as u64)
    }

    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut stopped = self.stopped.lock();
        while !*stopped && !self.changed.wait_until(&mut stopped, until).timed_out() {}
        !*stopped
    }

    fn traffic(&self) -> Option<Arc<Traffic>> {
        self.traffic.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_ends_waits() {
        let machine = Machine::start();
        assert!(machine.wait(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| machine.wait(Duration::from_secs(3600)));
            machine.stop();
            assert!(!waiting.join().unwrap());
        });
        assert!(!machine.wait(Duration::from_secs(3600)));
        assert_ne!(machine.random(), machine.random());
    }
}
