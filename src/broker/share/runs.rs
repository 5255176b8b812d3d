//! Owns the states of a share partition's records, kept as runs of consecutive offsets that are alike.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

/// A group's or member's id.
pub(super) type Name = Arc<str>;

/// Bytes that a run takes in memory, roughly.
const RUN_BYTES: usize = 96;

/// Kafka's states of a record between a share group's start offset and what was never handed out (KIP-932).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// To be handed out, for the first time or again.
    Available,
    /// A member has it, until its lock ends.
    Acquired,
    /// A member has accepted it.
    Acknowledged,
    /// It will not be handed out any more: rejected, delivered too often, or there is no such record.
    Archived,
}

impl RecordState {
    /// Kafka's number for it.
    pub fn id(self) -> i8 {
        match self {
            RecordState::Available => 0,
            RecordState::Acquired => 1,
            RecordState::Acknowledged => 2,
            RecordState::Archived => 4,
        }
    }

    pub fn of_id(id: i8) -> Option<RecordState> {
        match id {
            0 => Some(RecordState::Available),
            1 => Some(RecordState::Acquired),
            2 => Some(RecordState::Acknowledged),
            4 => Some(RecordState::Archived),
            _ => None,
        }
    }

    /// Whether the record stays in this state.
    pub fn is_final(self) -> bool {
        matches!(self, RecordState::Acknowledged | RecordState::Archived)
    }
}

/// What is known of a record, and of those that follow it in its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub state: RecordState,
    /// How often it was handed out.
    pub count: i16,
    /// Who has it, while it is acquired.
    pub owner: Option<Name>,
    /// Monotonic µs at which the owner's lock ends, while it is acquired.
    pub lock_us: u64,
}

impl Fate {
    pub fn new(state: RecordState, count: i16) -> Fate {
        Fate { state, count, owner: None, lock_us: 0 }
    }
}

/// A run: its last offset, and what is known of each of its records.
#[derive(Clone, Debug)]
struct Run {
    last: i64,
    fate: Fate,
}

/// Runs by their first offsets. They lie end to end: every offset from the first run to the last has a state, also those
/// at which the log has no record.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    runs: BTreeMap<i64, Run>,
}

impl Runs {
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.runs.len() * RUN_BYTES
    }

    /// First offset, last offset and state of every run, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64, &Fate)> {
        self.runs.iter().map(|(first, run)| (*first, run.last, &run.fate))
    }

    /// The parts of runs that lie within the offsets, in order.
    pub fn within(&self, first: i64, last: i64) -> impl Iterator<Item = (i64, i64, &Fate)> {
        let from = self.runs.range(..=first).next_back().map_or(first, |(from, _)| *from);
        let runs = self.runs.range(from..).take_while(move |(at, _)| **at <= last);
        runs.filter(move |(_, run)| run.last >= first)
            .map(move |(at, run)| ((*at).max(first), run.last.min(last), &run.fate))
    }

    /// Appends a run behind all others; offsets between are the caller's mistake and would have no state.
    pub fn push(&mut self, first: i64, last: i64, fate: Fate) {
        debug_assert!(self.runs.last_key_value().is_none_or(|(_, run)| run.last + 1 == first));
        if first > last {
            return;
        }
        if let Some(mut end) = self.runs.last_entry() {
            if end.get().fate == fate && end.get().last + 1 == first {
                end.get_mut().last = last;
                return;
            }
        }
        self.runs.insert(first, Run { last, fate });
    }

    /// Changes what is known of the records within the offsets.
    pub fn change(&mut self, first: i64, last: i64, mut change: impl FnMut(&mut Fate)) {
        if first > last {
            return;
        }
        self.split(first);
        self.split(last.saturating_add(1));
        for (_, run) in self.runs.range_mut(first..=last) {
            change(&mut run.fate);
        }
        self.merge(first, last);
    }

    /// Forgets what lies below the offset.
    pub fn cut(&mut self, offset: i64) {
        self.split(offset);
        self.runs = self.runs.split_off(&offset);
    }

    /// Takes out the leading records whose state is final; the offset after the last of them.
    pub fn pop_final(&mut self) -> Option<i64> {
        let mut end = None;
        while let Some(entry) = self.runs.first_entry() {
            if !entry.get().fate.state.is_final() {
                break;
            }
            end = Some(entry.get().last + 1);
            entry.remove();
        }
        end
    }

    /// Makes a run begin at the offset, if it lies inside one.
    fn split(&mut self, offset: i64) {
        let Some((_, run)) = self.runs.range_mut(..offset).next_back() else { return };
        if run.last < offset {
            return;
        }
        let rest = Run { last: run.last, fate: run.fate.clone() };
        run.last = offset - 1;
        self.runs.insert(offset, rest);
    }

    /// Joins neighbours that are alike, from the one before `first` to the one after `last`.
    fn merge(&mut self, first: i64, last: i64) {
        let Some(mut at) =
            self.runs.range(..first).next_back().or_else(|| self.runs.first_key_value()).map(|(at, _)| *at)
        else {
            return;
        };
        while let Some((next, run)) =
            self.runs.range((Excluded(at), Unbounded)).next().map(|(k, run)| (*k, run.clone()))
        {
            let Some(before) = self.runs.get_mut(&at) else { return };
            if before.fate == run.fate && before.last + 1 == next {
                before.last = run.last;
                self.runs.remove(&next);
            } else {
                at = next;
            }
            if next > last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(runs: &Runs) -> Vec<(i64, i64, i8, i16)> {
        runs.iter().map(|(first, last, fate)| (first, last, fate.state.id(), fate.count)).collect()
    }

    #[test]
    fn runs_split_where_they_differ_and_join_where_they_are_alike() {
        let mut runs = Runs::default();
        runs.push(0, 9, Fate::new(RecordState::Available, 0));
        runs.push(10, 19, Fate::new(RecordState::Available, 0));
        assert_eq!(shape(&runs), [(0, 19, 0, 0)]);
        runs.change(5, 7, |fate| fate.state = RecordState::Acknowledged);
        assert_eq!(shape(&runs), [(0, 4, 0, 0), (5, 7, 2, 0), (8, 19, 0, 0)]);
        let within: Vec<_> = runs.within(6, 9).map(|(first, last, _)| (first, last)).collect();
        assert_eq!(within, [(6, 7), (8, 9)]);
        runs.change(0, 4, |fate| fate.state = RecordState::Acknowledged);
        assert_eq!(shape(&runs), [(0, 7, 2, 0), (8, 19, 0, 0)]);
        assert_eq!(runs.pop_final(), Some(8));
        runs.cut(15);
        assert_eq!(shape(&runs), [(15, 19, 0, 0)]);
        assert_eq!(runs.pop_final(), None);
    }

    /// Against a plain array of states.
    #[test]
    fn random_changes_keep_every_offset_in_one_run() {
        let mut seed = 7u64;
        let mut below = |n: i64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as i64 % n
        };
        let mut runs = Runs::default();
        runs.push(0, 99, Fate::new(RecordState::Available, 0));
        let mut plain = [0i16; 100];
        for _ in 0..2000 {
            let (a, b, count) = (below(100), below(100), below(3) as i16);
            let (first, last) = (a.min(b), a.max(b));
            runs.change(first, last, |fate| fate.count = count);
            plain[first as usize..=last as usize].fill(count);
            let mut next = 0;
            let mut before = None;
            for (first, last, fate) in runs.iter() {
                assert_eq!(first, next);
                assert!(plain[first as usize..=last as usize].iter().all(|count| *count == fate.count));
                assert_ne!(before, Some(fate.count), "neighbours that are alike");
                (next, before) = (last + 1, Some(fate.count));
            }
            assert_eq!(next, 100);
        }
    }
}
