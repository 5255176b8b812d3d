//! Owns the history of one value that clients set and read: a committed offset, a setting.

use super::{hold, Call, Verdict};

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    order: u64,
    life: u32,
    /// Every request with a later order was handed in after somebody had been told of this value.
    known_at: Option<u64>,
}

/// One value over time. An acknowledged value holds until a later one; one without an answer may have been set or not;
/// what was seen once may not be gone afterwards.
#[derive(Clone, Debug)]
pub struct Register<V> {
    entries: Vec<Entry<V>>,
}

impl<V: Clone + PartialEq + std::fmt::Debug> Register<V> {
    pub fn new(initial: V) -> Register<V> {
        Register { entries: vec![Entry { value: initial, order: 0, life: 0, known_at: Some(0) }] }
    }

    /// A request to set it was handed in.
    pub fn set(&mut self, call: &Call, value: V) {
        self.entries.push(Entry { value, order: call.order, life: call.life, known_at: None });
    }

    /// The request was acknowledged, when `now` requests had been handed in.
    pub fn acked(&mut self, call: &Call, now: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.order == call.order) {
            entry.known_at = Some(now);
        }
        self.forget();
    }

    /// The request was refused.
    pub fn refused(&mut self, call: &Call) {
        self.entries.retain(|entry| entry.order != call.order);
    }

    /// A read was answered.
    pub fn seen(&mut self, call: &Call, now: u64, value: &V) -> Verdict {
        let floor = self.entries.iter().rposition(|entry| entry.known_at.is_some_and(|at| at < call.order));
        let floor = floor.unwrap_or(0);
        let at = self.entries.iter().rposition(|entry| entry.value == *value);
        let Some(at) = at.filter(|at| *at >= floor) else {
            return Err(format!("{value:?}, but {:?} was known before", self.entries[floor].value));
        };
        hold!(self.entries[at].order < now + 1, "a value from the future");
        self.entries[at].known_at.get_or_insert(now);
        // What an earlier life of the broker took after this value, and never told anybody, is lost.
        let mut index = 0;
        self.entries.retain(|entry| {
            index += 1;
            index - 1 <= at || entry.life == call.life || entry.known_at.is_some()
        });
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        let keep = self.entries.len().saturating_sub(200);
        self.entries.drain(..keep);
    }
}
