//! Owns the table of a partition's producers: sorted by id, in chunks that others may hold on to while it changes.

use std::sync::Arc;

use super::ProducerState;

/// Producers of one chunk at most: what a change copies while somebody holds on to it, some 45 KiB.
const CHUNK_MAX: usize = 256;

/// A part of a table, which does not change while somebody holds on to it: some producers with their ids, in order. Never empty.
pub type Chunk = Arc<Vec<(i64, ProducerState)>>;

/// Producers by their ids. An empty one allocates nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// In the order of their ids.
    chunks: Vec<Chunk>,
    len: usize,
}

impl Table {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|(id, state)| (*id, state))
    }

    pub fn get(&self, id: i64) -> Option<&ProducerState> {
        let chunk = &self.chunks[self.chunk_of(id)?];
        place(chunk, id).ok().map(|at| &chunk[at].1)
    }

    /// The producer's state; `new` if it was not known.
    pub fn entry(&mut self, id: i64, new: ProducerState) -> &mut ProducerState {
        let Some(mut at) = self.chunk_of(id) else {
            self.len = 1;
            self.chunks.push(Arc::new(vec![(id, new)]));
            return &mut Arc::make_mut(&mut self.chunks[0])[0].1;
        };
        let found = place(&self.chunks[at], id);
        let mut to = found.unwrap_or_else(|to| to);
        if found.is_err() {
            self.len += 1;
            if self.chunks[at].len() == CHUNK_MAX {
                (at, to) = self.split(at, to);
            }
            Arc::make_mut(&mut self.chunks[at]).insert(to, (id, new));
        }
        &mut Arc::make_mut(&mut self.chunks[at])[to].1
    }

    /// Keeps those for which `keeps` is true.
    pub fn retain(&mut self, keeps: impl Fn(&ProducerState) -> bool) {
        for chunk in &mut self.chunks {
            if chunk.iter().all(|(_, state)| keeps(state)) {
                continue;
            }
            let mut left: Vec<_> = chunk.iter().filter(|(_, state)| keeps(state)).cloned().collect();
            left.shrink_to_fit();
            *chunk = Arc::new(left);
        }
        self.chunks.retain(|chunk| !chunk.is_empty());
        self.len = self.chunks.iter().map(|chunk| chunk.len()).sum();
    }

    pub fn change_all(&mut self, change: impl Fn(&mut ProducerState)) {
        for chunk in &mut self.chunks {
            Arc::make_mut(chunk).iter_mut().for_each(|(_, state)| change(state));
        }
    }

    /// The chunk in which the id is, or to which it would come: the last one that begins at or before it. `None` if there is none at all.
    fn chunk_of(&self, id: i64) -> Option<usize> {
        let behind = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|(first, _)| *first <= id));
        (!self.chunks.is_empty()).then(|| behind.saturating_sub(1))
    }

    /// Makes room in a full chunk, in which something is to be inserted at `to`; where it is to be inserted now.
    fn split(&mut self, at: usize, to: usize) -> (usize, usize) {
        // Ids are given out in order, so chunks are filled one after the other.
        if at + 1 == self.chunks.len() && to == CHUNK_MAX {
            self.chunks.push(Arc::default());
            return (at + 1, 0);
        }
        let rest = Arc::make_mut(&mut self.chunks[at]).split_off(CHUNK_MAX / 2);
        self.chunks.insert(at + 1, Arc::new(rest));
        match to.checked_sub(CHUNK_MAX / 2) {
            Some(to) if to > 0 => (at + 1, to),
            _ => (at, to),
        }
    }
}

/// Where the id is, or would be.
fn place(chunk: &Chunk, id: i64) -> Result<usize, usize> {
    chunk.binary_search_by_key(&id, |(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::LastBatches;
    use super::*;

    fn state(last_append_ms: i64) -> ProducerState {
        ProducerState {
            epoch: 0,
            batches: LastBatches::default(),
            last_append_ms,
            txn_first_offset: None,
            coordinator_epoch: -1,
        }
    }

    fn told(table: &Table) -> BTreeMap<i64, i64> {
        let ids: Vec<i64> = table.iter().map(|(id, _)| id).collect();
        assert!(ids.is_sorted() && table.len() == ids.len());
        assert!(table.chunks().iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.len())));
        table.iter().map(|(id, state)| (id, state.last_append_ms)).collect()
    }

    #[test]
    fn it_holds_what_a_map_would_whatever_the_order() {
        type Order = fn(i64) -> i64;
        let orders: [Order; 4] = [|n| n, |n| -n, |n| n * 7919 % 3001, |n| (n % 2) * 100_000 - n];
        for order in orders {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for n in 0..3000 {
                table.entry(order(n), state(0)).last_append_ms = n;
                map.insert(order(n), n);
                if n % 500 == 499 {
                    assert_eq!(told(&table), map);
                    table.retain(|state| state.last_append_ms % 3 != 0);
                    map.retain(|_, ms| *ms % 3 != 0);
                    assert_eq!(told(&table), map);
                }
                assert_eq!(table.get(order(n)).map(|state| state.last_append_ms), map.get(&order(n)).copied());
            }
            assert!(table.get(1 << 40).is_none() && table.get(-1 << 40).is_none());
            table.retain(|_| false);
            assert!(told(&table).is_empty() && table.chunks().is_empty());
        }
    }

    #[test]
    fn whoever_holds_on_to_chunks_sees_no_changes() {
        let mut table = Table::default();
        for id in 0..1000 {
            table.entry(id, state(id));
        }
        let held = table.chunks().to_vec();
        table.change_all(|state| state.last_append_ms += 1);
        table.entry(5, state(0)).last_append_ms = -1;
        table.entry(5000, state(0));
        table.retain(|state| state.last_append_ms < 500);
        let seen: Vec<i64> =
            held.iter().flat_map(|chunk| chunk.iter()).map(|(_, state)| state.last_append_ms).collect();
        assert_eq!(seen, (0..1000).collect::<Vec<i64>>());
    }
}
