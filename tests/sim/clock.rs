//! Owns the simulation's time and what is going to happen when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use chronik::broker::Now;

use super::rng::Rng;

/// A clock that only moves when something happens, and the queue of what will.
#[derive(Debug)]
pub struct Clock<E> {
    now_us: u64,
    /// The wall clock at time 0, ms.
    wall_base_ms: i64,
    /// How far jumps have moved it, ms.
    jumped_ms: i64,
    /// The monotonic clock shows the first of these until the second is reached.
    stalled: Option<(u64, u64)>,
    queue: BinaryHeap<Reverse<(u64, u64, Item<E>)>>,
    scheduled: u64,
}

/// Takes no part in the order.
#[derive(Debug)]
struct Item<E>(E);

impl<E> PartialEq for Item<E> {
    fn eq(&self, _: &Item<E>) -> bool {
        true
    }
}

impl<E> Eq for Item<E> {}

impl<E> PartialOrd for Item<E> {
    fn partial_cmp(&self, other: &Item<E>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Item<E> {
    fn cmp(&self, _: &Item<E>) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<E> Clock<E> {
    pub fn new(rng: &mut Rng) -> Clock<E> {
        let wall_base_ms = 1_600_000_000_000 + rng.below(1 << 32) as i64;
        Clock {
            now_us: rng.below(1 << 40),
            wall_base_ms,
            jumped_ms: 0,
            stalled: None,
            queue: BinaryHeap::new(),
            scheduled: 0,
        }
    }

    /// A clock that shows the same time, and of which nothing is expected yet.
    pub fn branch(&self) -> Clock<E> {
        Clock { queue: BinaryHeap::new(), scheduled: 0, ..*self }
    }

    pub fn now(&self) -> Now {
        let stalled = self.stalled.filter(|(_, until)| self.now_us < *until);
        let mono_us = stalled.map_or(self.now_us, |(shown, _)| shown);
        Now { mono_us, wall_ms: self.wall_base_ms + self.jumped_ms + (self.now_us / 1000) as i64 }
    }

    /// The time by which things happen, monotonic µs: the clock that the broker sees may stand still.
    pub fn real_us(&self) -> u64 {
        self.now_us
    }

    /// For so long, µs, the monotonic clock stands still; then it shows the right time again.
    pub fn stall(&mut self, us: u64) {
        self.stalled = Some((self.now().mono_us, self.now_us + us));
    }

    /// Nothing happens for so long, µs, and then everything that was due at once.
    pub fn leap(&mut self, us: u64) {
        self.now_us += us;
    }

    /// A timer that is due when the clock shows `at_us`.
    pub fn wake_at(&mut self, at_us: u64, event: E) {
        let until = self.stalled.map_or(0, |(_, until)| until);
        self.at(at_us.max(until), event);
    }

    /// Somebody set the wall clock: so far from where it would stand without any jump.
    pub fn jump(&mut self, ms: i64) {
        self.jumped_ms = ms;
    }

    /// `event` happens in so many µs, after everything scheduled before for the same time.
    pub fn after(&mut self, delay_us: u64, event: E) {
        self.at(self.now_us + delay_us, event);
    }

    pub fn at(&mut self, at_us: u64, event: E) {
        self.scheduled += 1;
        self.queue.push(Reverse((at_us.max(self.now_us), self.scheduled, Item(event))));
    }

    /// Moves on to the next event.
    pub fn next(&mut self) -> Option<E> {
        let Reverse((at_us, _, Item(event))) = self.queue.pop()?;
        self.now_us = self.now_us.max(at_us);
        Some(event)
    }
}

#[test]
fn events_come_in_the_order_of_their_times() {
    let mut clock = Clock::new(&mut Rng::new(1));
    let start = clock.now();
    clock.after(2000, 'c');
    clock.after(1000, 'a');
    clock.after(1000, 'b');
    assert_eq!([clock.next(), clock.next(), clock.next(), clock.next()], [Some('a'), Some('b'), Some('c'), None]);
    assert_eq!((clock.now().mono_us, clock.now().wall_ms - start.wall_ms >= 2), (start.mono_us + 2000, true));
}
