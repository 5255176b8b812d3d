//! Owns the history of one value that clients set and read: a committed offset, a setting.

use super::{hold, Call, Verdict};

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    order: u64,
    life: u32,
    /// The answer to the request says that it was set, and not only that something was.
    is_answered_for: bool,
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
        Register {
            entries: vec![Entry { value: initial, order: 0, life: 0, is_answered_for: true, known_at: Some(0) }],
        }
    }

    /// A request to set it was handed in.
    pub fn set(&mut self, call: &Call, value: V) {
        self.set_perhaps(call, value, true);
    }

    /// A request was handed in that sets it, as its answer will say, or does so perhaps: a transaction ends that may hold the value.
    pub fn set_perhaps(&mut self, call: &Call, value: V, is_answered_for: bool) {
        self.entries.push(Entry { value, order: call.order, life: call.life, is_answered_for, known_at: None });
    }

    /// The request was acknowledged, when `now` requests had been handed in.
    pub fn acked(&mut self, call: &Call, now: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.order == call.order && entry.is_answered_for) {
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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::EndTxnRequest;

    use super::super::super::proto::Ask;
    use super::*;

    fn call(order: u64) -> Call {
        let ask = Ask::EndTxn(EndTxnRequest::default());
        Call { correlation: 0, version: 0, ask, durable: 0, order, life: 1, client: 0, at_us: 0 }
    }

    /// A transaction held an offset that was acknowledged and then one that was not; its end was taken for the second one's (seed
    /// 10600000124 of the long histories).
    #[test]
    fn an_end_that_is_acknowledged_says_nothing_of_what_was_only_perhaps_in_it() {
        for seen in [1, 2] {
            let mut register = Register::new(0);
            register.set_perhaps(&call(1), 1, true);
            register.set_perhaps(&call(1), 2, false);
            register.acked(&call(1), 1);
            assert!(register.clone().seen(&call(2), 2, &0).is_err(), "the first one holds");
            register.seen(&call(2), 2, &seen).expect("either may have been set");
            let other = register.seen(&call(3), 3, &(3 - seen));
            assert_eq!(other.is_err(), seen == 2, "what was seen may not be gone");
        }
    }
}
