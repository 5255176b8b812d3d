//! Owns when partitions are to be looked at next, so that a look takes those that are due and no others.

use std::collections::BTreeSet;

use super::topics::StableMap;
use crate::wal::PartitionId;

/// Partitions with a time each, in wall-clock ms.
#[derive(Debug, Default)]
pub struct Agenda {
    by_time: BTreeSet<(i64, PartitionId)>,
    times: StableMap<PartitionId, i64>,
}

impl Agenda {
    /// A partition is to be looked at then; `None`: not at all for now. True when that changes when the first one is.
    pub fn set(&mut self, id: PartitionId, at_ms: Option<i64>) -> bool {
        let first = self.first_ms();
        let before = match at_ms {
            Some(at_ms) if self.times.get(&id) == Some(&at_ms) => return false,
            Some(at_ms) => {
                self.by_time.insert((at_ms, id));
                self.times.insert(id, at_ms)
            }
            None => self.times.remove(&id),
        };
        if let Some(before) = before {
            self.by_time.remove(&(before, id));
        }
        self.first_ms() != first
    }

    /// When the first one is to be looked at.
    pub fn first_ms(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes out all that are to be looked at by now, the longest due first.
    pub fn take_due(&mut self, now_ms: i64) -> Vec<PartitionId> {
        let mut due = Vec::new();
        while let Some((at_ms, id)) = self.by_time.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            self.by_time.remove(&(at_ms, id));
            self.times.remove(&id);
            due.push(id);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    fn id(partition: i32) -> PartitionId {
        PartitionId { topic: Uuid([1; 16]), partition }
    }

    #[test]
    fn what_is_due_is_taken_once_and_in_order() {
        let mut agenda = Agenda::default();
        assert!(agenda.set(id(1), Some(100)) && !agenda.set(id(2), Some(300)) && agenda.set(id(3), Some(50)));
        assert!(!agenda.set(id(3), Some(50)));
        assert_eq!(agenda.first_ms(), Some(50));
        assert!(agenda.take_due(49).is_empty());
        assert_eq!(agenda.take_due(299), [id(3), id(1)]);
        assert_eq!(agenda.first_ms(), Some(300));
        assert!(agenda.set(id(2), Some(400)) && agenda.set(id(2), None));
        assert!(agenda.take_due(i64::MAX).is_empty() && agenda.first_ms().is_none());
    }
}
