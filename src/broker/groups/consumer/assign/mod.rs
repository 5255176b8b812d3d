//! Owns the assignors: pure functions from members and topics to who is to own what.
//!
//! - `uniform.rs`: everybody gets equally much, and keeps what it has.
//! - `range.rs`: the same partitions of all topics go to the same member.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use super::super::group::Name;
use super::member::Partitions;
use crate::wire::Uuid;

/// An assignor that members can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// By its name, or by that of Kafka's class, which `group.consumer.assignors` may name.
    pub fn parse(name: &str) -> Option<Assignor> {
        match name.strip_prefix("org.apache.kafka.coordinator.group.assignor.").unwrap_or(name) {
            "uniform" | "UniformAssignor" => Some(Assignor::Uniform),
            "range" | "RangeAssignor" => Some(Assignor::Range),
            _ => None,
        }
    }

    /// Gives every partition of the topics to one of the members that subscribe to its topic.
    pub(in super::super) fn assign(self, spec: &Spec<'_>) -> BTreeMap<Name, Partitions> {
        match self {
            Assignor::Uniform => uniform::assign(spec),
            Assignor::Range => range::assign(spec),
        }
    }
}

/// What an assignor works with.
#[derive(Debug, Default)]
pub(in super::super) struct Spec<'a> {
    /// The topics that exist and somebody subscribes to, with their numbers of partitions.
    pub topics: BTreeMap<Uuid, i32>,
    /// The different subscriptions that there are.
    pub subscriptions: Vec<BTreeSet<Uuid>>,
    /// In the order of their ids.
    pub members: Vec<SpecMember<'a>>,
}

#[derive(Debug)]
pub(in super::super) struct SpecMember<'a> {
    pub id: &'a Name,
    pub instance: Option<&'a Name>,
    /// Which of the subscriptions it has.
    pub subscription: usize,
    /// What it was to own so far.
    pub target: &'a Partitions,
}

impl Spec<'_> {
    fn subscribes(&self, member: usize, topic: &Uuid) -> bool {
        self.subscriptions[self.members[member].subscription].contains(topic)
    }

    /// Whether all members subscribe to the same topics.
    fn is_homogeneous(&self) -> bool {
        self.subscriptions.len() <= 1
    }

    fn result(&self, parts: Vec<Partitions>) -> BTreeMap<Name, Partitions> {
        self.members.iter().map(|member| member.id.clone()).zip(parts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group that is assigned again and again, each time from what it was assigned before.
    struct World {
        assignor: Assignor,
        topics: BTreeMap<Uuid, i32>,
        members: BTreeMap<Name, (Option<Name>, BTreeSet<Uuid>)>,
        target: BTreeMap<Name, Partitions>,
    }

    fn topic(n: u8) -> Uuid {
        Uuid([n; 16])
    }

    impl World {
        fn new(assignor: Assignor, topics: &[(u8, i32)]) -> World {
            let topics = topics.iter().map(|(n, partitions)| (topic(*n), *partitions)).collect();
            World { assignor, topics, members: BTreeMap::new(), target: BTreeMap::new() }
        }

        fn join(&mut self, id: &str, topics: &[u8]) {
            self.members.insert(id.into(), (None, topics.iter().map(|n| topic(*n)).collect()));
        }

        fn leave(&mut self, id: &str) {
            self.members.remove(id);
            self.target.remove(id);
        }

        /// Assigns anew; how many partitions changed hands that need not have been without an owner.
        fn assign(&mut self) -> usize {
            let before = self.owners();
            let mut subscriptions: Vec<BTreeSet<Uuid>> = Vec::new();
            let nothing = Partitions::new();
            let mut members = Vec::new();
            for (id, (instance, topics)) in &self.members {
                let found = subscriptions.iter().position(|known| known == topics);
                let subscription = found.unwrap_or_else(|| {
                    subscriptions.push(topics.clone());
                    subscriptions.len() - 1
                });
                let target = self.target.get(id).unwrap_or(&nothing);
                members.push(SpecMember { id, instance: instance.as_ref(), subscription, target });
            }
            let mut topics = self.topics.clone();
            topics.retain(|topic, _| subscriptions.iter().any(|topics| topics.contains(topic)));
            let spec = Spec { topics, subscriptions, members };
            let target = self.assignor.assign(&spec);
            self.target = target;
            self.check();
            let after = self.owners();
            after.iter().filter(|(place, owner)| before.get(place).is_some_and(|was| was != *owner)).count()
        }

        fn owners(&self) -> BTreeMap<(Uuid, i32), Name> {
            let mut owners = BTreeMap::new();
            for (id, target) in &self.target {
                for (topic, partitions) in target {
                    assert!(!partitions.is_empty(), "a topic without partitions");
                    for partition in partitions {
                        let twice = owners.insert((*topic, *partition), id.clone());
                        assert!(twice.is_none(), "{topic}-{partition} has two owners");
                    }
                }
            }
            owners
        }

        /// Every partition that somebody subscribes to has one owner, who subscribes to it.
        fn check(&self) {
            let owners = self.owners();
            for ((topic, partition), owner) in &owners {
                assert!(*partition < self.topics[topic] && self.members[owner].1.contains(topic));
            }
            let wanted =
                self.topics.iter().filter(|(t, _)| self.members.values().any(|(_, topics)| topics.contains(*t)));
            assert_eq!(owners.len() as i32, wanted.map(|(_, n)| n).sum::<i32>());
        }

        fn loads(&self) -> Vec<usize> {
            self.target.values().map(|target| target.values().map(|p| p.len()).sum()).collect()
        }

        fn of(&self, id: &str) -> Vec<(u8, Vec<i32>)> {
            self.target[id].iter().map(|(t, p)| (t.0[0], p.iter().copied().collect())).collect()
        }
    }

    #[test]
    fn assignors_are_found_by_kafkas_names() {
        assert_eq!(Assignor::parse("uniform"), Some(Assignor::Uniform));
        assert_eq!(Assignor::parse("org.apache.kafka.coordinator.group.assignor.RangeAssignor"), Some(Assignor::Range));
        assert_eq!(Assignor::parse("mine"), None);
    }

    #[test]
    fn uniform_is_balanced_and_moves_no_more_than_it_must() {
        let mut world = World::new(Assignor::Uniform, &[(1, 6), (2, 5)]);
        world.join("a", &[1, 2]);
        assert_eq!(world.assign(), 0);
        assert_eq!(world.loads(), [11]);
        world.join("b", &[1, 2]);
        assert_eq!((world.assign(), world.loads()), (5, vec![6, 5]));
        world.join("c", &[1, 2]);
        assert_eq!((world.assign(), world.loads()), (3, vec![4, 4, 3]));
        assert_eq!(world.assign(), 0, "nothing changes by itself");
        world.leave("b");
        assert_eq!((world.assign(), world.loads()), (0, vec![6, 5]));
    }

    #[test]
    fn uniform_gives_new_partitions_to_who_has_least() {
        let mut world = World::new(Assignor::Uniform, &[(1, 3)]);
        world.join("a", &[1, 2]);
        world.join("b", &[1, 2]);
        world.assign();
        world.topics.insert(topic(2), 3);
        assert_eq!((world.assign(), world.loads()), (0, vec![3, 3]));
        world.topics.remove(&topic(1));
        assert_eq!((world.assign(), world.loads()), (0, vec![1, 2]));
    }

    #[test]
    fn uniform_balances_members_that_subscribe_to_different_topics() {
        let mut world = World::new(Assignor::Uniform, &[(1, 6), (2, 6), (3, 6)]);
        world.join("a", &[1]);
        world.join("b", &[1, 2]);
        world.join("c", &[1, 2, 3]);
        world.assign();
        assert_eq!(world.loads(), [6, 6, 6]);
        assert_eq!(world.assign(), 0);
        world.leave("c");
        assert_eq!(world.assign(), 0, "nobody who stays loses anything");
        assert_eq!(world.loads(), [6, 6]);
        world.join("d", &[2]);
        assert_eq!((world.assign(), world.loads()), (4, vec![5, 4, 3]));
    }

    #[test]
    fn uniform_moves_partitions_on_through_members_in_between() {
        // c can only take from topic 3, whose owner b can take from topic 2, whose owner a is the full one.
        let mut world = World::new(Assignor::Uniform, &[(1, 1), (2, 4), (3, 4)]);
        world.join("a", &[1, 2]);
        world.join("b", &[2, 3]);
        world
            .target
            .insert("a".into(), BTreeMap::from([(topic(1), BTreeSet::from([0])), (topic(2), (0..4).collect())]));
        world.target.insert("b".into(), BTreeMap::from([(topic(3), (0..4).collect())]));
        world.join("c", &[3]);
        world.assign();
        assert_eq!(world.loads(), [4, 3, 2], "no single partition can move any more");
    }

    #[test]
    fn range_gives_the_same_partitions_of_all_topics_to_a_member() {
        let mut world = World::new(Assignor::Range, &[(1, 5), (2, 5), (3, 2)]);
        for id in ["c", "a", "b"] {
            world.join(id, &[1, 2, 3]);
        }
        world.assign();
        assert_eq!(world.of("a"), [(1, vec![0, 1]), (2, vec![0, 1]), (3, vec![0])]);
        assert_eq!(world.of("b"), [(1, vec![2, 3]), (2, vec![2, 3]), (3, vec![1])]);
        assert_eq!(world.of("c"), [(1, vec![4]), (2, vec![4])]);
    }

    #[test]
    fn range_puts_static_members_first_in_the_order_of_their_instances() {
        let mut world = World::new(Assignor::Range, &[(1, 3)]);
        for id in ["a", "b", "c"] {
            world.join(id, &[1]);
        }
        world.members.get_mut("c").unwrap().0 = Some("i1".into());
        world.members.get_mut("b").unwrap().0 = Some("i2".into());
        world.assign();
        assert_eq!(world.of("c"), [(1, vec![0])]);
        assert_eq!(world.of("b"), [(1, vec![1])]);
        assert_eq!(world.of("a"), [(1, vec![2])]);
    }

    #[test]
    fn range_counts_only_those_who_subscribe_to_a_topic() {
        let mut world = World::new(Assignor::Range, &[(1, 4), (2, 4)]);
        world.join("a", &[1]);
        world.join("b", &[1, 2]);
        world.assign();
        assert_eq!(world.of("a"), [(1, vec![0, 1])]);
        assert_eq!(world.of("b"), [(1, vec![2, 3]), (2, vec![0, 1, 2, 3])]);
    }

    #[test]
    fn random_groups_are_assigned_whole_and_balanced() {
        let mut random = 7u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        for round in 0..300 {
            let assignor = if round % 3 == 0 { Assignor::Range } else { Assignor::Uniform };
            let mut world = World::new(assignor, &[(1, 1), (2, 7), (3, 13), (4, 0)]);
            let homogeneous = round % 2 == 0;
            for _ in 0..20 {
                let id = format!("m{}", below(6));
                let topics: Vec<u8> = (1..=4).filter(|_| homogeneous || below(2) == 0).collect();
                match below(4) {
                    0 => world.leave(&id),
                    1 => {
                        world.topics.insert(topic(2), below(10) as i32 + 1);
                    }
                    _ => world.join(&id, &topics),
                }
                world.assign();
                if homogeneous && assignor == Assignor::Uniform && !world.members.is_empty() {
                    let loads = world.loads();
                    assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
                }
                if assignor == Assignor::Uniform {
                    world.nobody_could_be_better_off();
                    assert_eq!(world.assign(), 0, "a second time moves nothing");
                }
            }
        }
    }

    impl World {
        /// No single partition could go from who has more to who would still have less.
        fn nobody_could_be_better_off(&self) {
            let load = |id: &str| self.target[id].values().map(|p| p.len()).sum::<usize>();
            for ((topic, partition), owner) in self.owners() {
                for (id, (_, topics)) in &self.members {
                    let better = topics.contains(&topic) && load(id) + 1 < load(&owner);
                    assert!(!better, "{topic}-{partition} should go from {owner} to {id}");
                }
            }
        }
    }
}
