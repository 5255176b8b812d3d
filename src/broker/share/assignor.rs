//! Owns the assignor of share groups, `simple`: every partition goes to at least one member that subscribes to it, every
//! member gets at least one partition if there are any for it, evenly, and whoever has a partition keeps it where that fits.

use std::collections::{BTreeMap, BTreeSet};

use crate::wal::PartitionId;
use crate::wire::Uuid;

/// Partitions by topic, each in rising order.
pub(super) type Assignment = BTreeMap<Uuid, Vec<i32>>;

/// What the assignor knows of a member.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    /// Topics that the member subscribes to and that exist.
    pub topics: Vec<Uuid>,
    /// What the member has been assigned so far.
    pub before: &'a Assignment,
}

/// Gives partitions to members. `partitions` has the number of partitions of each topic.
pub(super) fn assign(candidates: &[Candidate<'_>], partitions: &BTreeMap<Uuid, i32>) -> Vec<Assignment> {
    let mut work = Work::new(candidates, partitions);
    work.keep(candidates);
    work.cover_partitions();
    // Before members share a partition, those who have more give.
    work.even_out();
    work.cover_members();
    work.held.iter().map(group_by_topic).collect()
}

fn group_by_topic(held: &BTreeSet<PartitionId>) -> Assignment {
    let mut assignment = Assignment::new();
    for id in held {
        assignment.entry(id.topic).or_default().push(id.partition);
    }
    assignment
}

struct Work {
    /// Members by number that subscribe to each topic that anyone subscribes to.
    subscribers: BTreeMap<Uuid, Vec<usize>>,
    /// All partitions of those topics.
    all: Vec<PartitionId>,
    topics: Vec<Vec<Uuid>>,
    /// Who has a partition.
    holders: BTreeMap<PartitionId, BTreeSet<usize>>,
    /// What a member has.
    held: Vec<BTreeSet<PartitionId>>,
    counts: BTreeMap<Uuid, i32>,
}

impl Work {
    fn new(candidates: &[Candidate<'_>], partitions: &BTreeMap<Uuid, i32>) -> Work {
        let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        let known = |topic: &&Uuid| partitions.get(*topic).is_some_and(|count| *count > 0);
        for (member, candidate) in candidates.iter().enumerate() {
            for topic in candidate.topics.iter().filter(known) {
                subscribers.entry(*topic).or_default().push(member);
            }
        }
        let ids = |topic: &Uuid| {
            let topic = *topic;
            (0..partitions[&topic]).map(move |partition| PartitionId { topic, partition })
        };
        let all = subscribers.keys().flat_map(ids).collect();
        let topics = candidates.iter().map(|candidate| candidate.topics.iter().filter(known).copied().collect());
        Work {
            all,
            topics: topics.collect(),
            holders: BTreeMap::new(),
            held: vec![BTreeSet::new(); candidates.len()],
            counts: partitions.clone(),
            subscribers,
        }
    }

    fn give(&mut self, member: usize, id: PartitionId) {
        self.held[member].insert(id);
        self.holders.entry(id).or_default().insert(member);
    }

    fn take(&mut self, member: usize, id: PartitionId) {
        self.held[member].remove(&id);
        if let Some(holders) = self.holders.get_mut(&id) {
            holders.remove(&member);
        }
    }

    /// Keeps what members have, as far as neither a member nor a partition would have more than its share.
    fn keep(&mut self, candidates: &[Candidate<'_>]) {
        let members = self.topics.iter().filter(|topics| !topics.is_empty()).count();
        if members == 0 {
            return;
        }
        let slots = members.max(self.all.len());
        let (each_member, each_partition) = (slots.div_ceil(members), slots.div_ceil(self.all.len().max(1)));
        for (member, candidate) in candidates.iter().enumerate() {
            for (topic, kept) in candidate.before {
                let still = self.subscribers.get(topic).is_some_and(|members| members.binary_search(&member).is_ok());
                let count = self.counts.get(topic).copied().unwrap_or(0);
                for partition in kept.iter().filter(|partition| still && **partition < count) {
                    let id = PartitionId { topic: *topic, partition: *partition };
                    let shared = self.holders.get(&id).map_or(0, BTreeSet::len);
                    if self.held[member].len() < each_member && shared < each_partition {
                        self.give(member, id);
                    }
                }
            }
        }
    }

    /// Nobody's partitions go to those who have least.
    fn cover_partitions(&mut self) {
        for at in 0..self.all.len() {
            let id = self.all[at];
            if self.holders.get(&id).is_some_and(|holders| !holders.is_empty()) {
                continue;
            }
            let members = self.subscribers.get(&id.topic).into_iter().flatten().copied();
            if let Some(member) = members.min_by_key(|member| (self.held[*member].len(), *member)) {
                self.give(member, id);
            }
        }
    }

    /// Who has nothing gets the partition that is shared by the fewest.
    fn cover_members(&mut self) {
        for member in 0..self.held.len() {
            if !self.held[member].is_empty() {
                continue;
            }
            let ids = self.topics[member].iter().flat_map(|topic| {
                let topic = *topic;
                (0..self.counts[&topic]).map(move |partition| PartitionId { topic, partition })
            });
            let least = ids.min_by_key(|id| (self.holders.get(id).map_or(0, BTreeSet::len), *id));
            if let Some(id) = least {
                self.give(member, id);
            }
        }
    }

    /// Moves partitions from those who have more to those who have at least two fewer, as long as there are such.
    fn even_out(&mut self) {
        for _ in 0..self.all.len() {
            let Some((from, to, id)) = self.uneven() else { return };
            self.take(from, id);
            self.give(to, id);
        }
    }

    fn uneven(&self) -> Option<(usize, usize, PartitionId)> {
        let mut by_count: Vec<usize> = (0..self.held.len()).collect();
        by_count.sort_by_key(|member| (self.held[*member].len(), *member));
        let poorest = |topic: &Uuid| by_count.iter().find(|member| self.topics[**member].contains(topic)).copied();
        for from in by_count.iter().rev() {
            let most = self.held[*from].len();
            let topics: BTreeSet<Uuid> = self.held[*from].iter().map(|id| id.topic).collect();
            for topic in topics {
                let Some(to) = poorest(&topic).filter(|to| self.held[*to].len() + 2 <= most) else { continue };
                let mine = self.held[*from].iter().rev().find(|id| id.topic == topic && !self.held[to].contains(id));
                if let Some(id) = mine {
                    return Some((*from, to, *id));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(n: u8) -> Uuid {
        Uuid([n; 16])
    }

    /// Assigns to members with these topics, starting from nothing, and checks what must hold of every assignment.
    fn run(members: &[&[u8]], partitions: &[(u8, i32)], before: Option<Vec<Assignment>>) -> Vec<Assignment> {
        let none = Assignment::new();
        let before = before.unwrap_or_default();
        let candidates: Vec<Candidate<'_>> = members
            .iter()
            .enumerate()
            .map(|(n, topics)| Candidate {
                topics: topics.iter().map(|t| topic(*t)).collect(),
                before: before.get(n).unwrap_or(&none),
            })
            .collect();
        let counts: BTreeMap<Uuid, i32> = partitions.iter().map(|(t, count)| (topic(*t), *count)).collect();
        let assigned = assign(&candidates, &counts);
        for (t, count) in partitions {
            let wanted = members.iter().any(|topics| topics.contains(t));
            for partition in 0..*count {
                let holders = assigned.iter().filter(|a| a.get(&topic(*t)).is_some_and(|p| p.contains(&partition)));
                assert_eq!(holders.count() > 0, wanted, "partition {partition} of topic {t}");
            }
        }
        for (topics, assignment) in members.iter().zip(&assigned) {
            let any = partitions.iter().any(|(t, count)| *count > 0 && topics.contains(t));
            assert_eq!(!assignment.is_empty(), any);
            assert!(assignment.keys().all(|id| topics.iter().any(|t| topic(*t) == *id)));
        }
        assigned
    }

    fn sizes(assigned: &[Assignment]) -> Vec<usize> {
        assigned.iter().map(|a| a.values().map(Vec::len).sum()).collect()
    }

    #[test]
    fn partitions_are_spread_evenly_and_shared_when_there_are_too_few() {
        assert_eq!(sizes(&run(&[&[1]], &[(1, 5)], None)), [5]);
        assert_eq!(sizes(&run(&[&[1], &[1]], &[(1, 5)], None)), [3, 2]);
        assert_eq!(sizes(&run(&[&[1], &[1], &[1], &[1]], &[(1, 2)], None)), [1, 1, 1, 1]);
        assert_eq!(sizes(&run(&[&[1, 2], &[1, 2]], &[(1, 2), (2, 2)], None)), [2, 2]);
        assert!(run(&[&[9], &[]], &[(1, 2)], None).iter().all(BTreeMap::is_empty));
        assert!(run(&[], &[(1, 2)], None).is_empty());
    }

    #[test]
    fn subscriptions_may_differ() {
        let assigned = run(&[&[1], &[1, 2], &[2, 3]], &[(1, 4), (2, 4), (3, 1)], None);
        assert_eq!(sizes(&assigned).iter().sum::<usize>(), 9);
        // Two who subscribe to the same topic differ by one at most.
        let sizes = sizes(&assigned);
        assert!(sizes.windows(2).all(|pair| pair[0].abs_diff(pair[1]) <= 1), "{sizes:?}");
    }

    #[test]
    fn members_keep_what_they_have() {
        let first = run(&[&[1], &[1]], &[(1, 4)], None);
        assert_eq!(run(&[&[1], &[1]], &[(1, 4)], Some(first.clone())), first);
        let third = run(&[&[1], &[1], &[1]], &[(1, 4)], Some(first.clone()));
        let moved: usize = first.iter().zip(&third).map(|(a, b)| usize::from(a != b)).sum();
        assert_eq!(sizes(&third), [2, 1, 1]);
        assert_eq!(moved, 1);
    }

    #[test]
    fn random_groups_are_covered() {
        let mut seed = 3u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..200 {
            let members: Vec<Vec<u8>> =
                (0..below(12)).map(|_| (1..=4).filter(|_| below(2) == 0).collect::<Vec<u8>>()).collect();
            let members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
            let partitions: Vec<(u8, i32)> = (1..=4).map(|t| (t, below(7) as i32)).collect();
            let first = run(&members, &partitions, None);
            run(&members, &partitions, Some(first));
        }
    }
}
