//! Owns the bound of the producers that all partitions remember together: when they are counted, and who has to give room.

use crate::limits;
use crate::wal::PartitionId;

/// How many producers there may still be before all are counted again, and which partitions have yet to give room.
///
/// Nobody keeps account of those that are forgotten, which happens in many ways (expiry, deleted topics, partitions that are full):
/// there are never more than at the last count and what came since. So counting costs nothing until there may be too many.
#[derive(Debug)]
pub struct Census {
    max: usize,
    /// How many may come before the next count.
    left: usize,
    /// Partitions with more producers than `level`, which give room one by one, so that no request waits for all of them.
    crowded: Vec<PartitionId>,
    level: usize,
}

/// What has to be done when a producer has come that was not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    Nothing,
    /// Tell [`Census::counted`] what there is.
    Count,
    /// Forget the producers of this partition that were silent for longest, until there are so many.
    Trim(PartitionId, usize),
}

impl Default for Census {
    fn default() -> Census {
        Census::new(limits::PRODUCERS_MAX)
    }
}

impl Census {
    /// For at most `max` producers. The first that comes has all counted, as nobody said what a checkpoint held.
    fn new(max: usize) -> Census {
        Census { max, left: 0, crowded: Vec::new(), level: 0 }
    }

    /// A producer came to be known in a partition.
    pub fn added(&mut self) -> Duty {
        if let Some(id) = self.crowded.pop() {
            return Duty::Trim(id, self.level);
        }
        match self.left.checked_sub(1) {
            None => Duty::Count,
            Some(left) => {
                self.left = left;
                Duty::Nothing
            }
        }
    }

    /// How many producers each partition remembers; those that remember none may be left out.
    ///
    /// If there are more than seven eighths of the bound, the partitions with most of them give room, down to the level at which so
    /// many are left. So those who invent producers have room only from each other.
    pub fn counted(&mut self, mut partitions: Vec<(usize, PartitionId)>) {
        let total: usize = partitions.iter().map(|(producers, _)| producers).sum();
        let wanted = self.max / 8 * 7;
        if total > wanted {
            self.level = level(&mut partitions, wanted);
            self.crowded =
                partitions.iter().filter(|(producers, _)| *producers > self.level).map(|(_, id)| *id).collect();
        }
        // While partitions give room nothing is counted. What takes part in open transactions stays, so all of it may not have helped.
        self.left = self.max.saturating_sub(total.min(wanted)).max(self.max / 16);
    }
}

/// The largest number of producers that each partition may keep, at least 1, so that all together keep no more than `wanted`. Sorts the
/// partitions by how many they have.
fn level(partitions: &mut [(usize, PartitionId)], wanted: usize) -> usize {
    partitions.sort_unstable();
    let mut rest = wanted;
    for (at, (producers, _)) in partitions.iter().enumerate() {
        let share = rest / (partitions.len() - at);
        if *producers > share {
            return share.max(1);
        }
        rest -= producers;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    fn id(partition: i32) -> PartitionId {
        PartitionId { topic: Uuid([1; 16]), partition }
    }

    /// Partitions with so many producers each, and a census of them.
    struct Town {
        census: Census,
        producers: Vec<usize>,
        /// Open transactions in each.
        pinned: usize,
    }

    impl Town {
        fn come(&mut self, to: usize) {
            self.producers[to] += 1;
            match self.census.added() {
                Duty::Nothing => {}
                Duty::Count => {
                    let counts = self.producers.iter().enumerate();
                    self.census.counted(counts.map(|(at, n)| (*n, id(at as i32))).collect());
                }
                Duty::Trim(id, level) => {
                    let producers = &mut self.producers[id.partition as usize];
                    *producers = level.max(self.pinned).min(*producers);
                }
            }
        }

        fn total(&self) -> usize {
            self.producers.iter().sum()
        }
    }

    #[test]
    fn producers_of_all_partitions_are_bounded_and_the_fullest_give_room() {
        let mut town = Town { census: Census::new(800), producers: vec![0; 40], pinned: 0 };
        for quiet in 10..40 {
            town.come(quiet);
            town.come(quiet);
        }
        for n in 0..20_000 {
            town.come(n % 10);
            assert!(town.total() <= 800 + 10, "{} after {n}", town.total());
        }
        assert!(town.total() > 600, "{}: more was forgotten than had to be", town.total());
        assert!(town.producers[10..].iter().all(|producers| *producers == 2), "{:?}", town.producers);
    }

    #[test]
    fn producers_that_have_to_stay_do_not_have_all_counted_each_time() {
        let mut town = Town { census: Census::new(160), producers: vec![0; 4], pinned: usize::MAX };
        let mut counts = 0;
        for n in 0..1_600 {
            town.come(n % 4);
            counts += usize::from(town.census.left == 0 && town.census.crowded.is_empty());
        }
        assert!(counts <= 160, "{counts}");
    }

    #[test]
    fn each_partition_keeps_one_at_least() {
        let mut many: Vec<_> = (0..100).map(|at| (2, id(at))).collect();
        assert_eq!(level(&mut many, 70), 1);
        assert_eq!(level(&mut many, 200), usize::MAX);
        let mut some = vec![(50, id(0)), (3, id(1)), (90, id(2))];
        assert_eq!(level(&mut some, 83), 40);
    }
}
