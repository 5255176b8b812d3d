//! Owns consumer groups whose assignment the broker makes (KIP-848): a group's data, and the questions that need nothing
//! else.
//!
//! - `heartbeat.rs` is the protocol: members join, stay and leave; the group's epoch rises and a target is made.
//! - `reconcile.rs` brings a member nearer to its target, `assign/` makes targets, `member.rs` has a member's data.
//! - `classic.rs` serves members of the classic protocol in such a group; `migrate.rs` makes one kind of group the other.
//! - `patterns.rs` has the regular expressions; `commits.rs` who may commit offsets; `describe.rs` the answers about groups; `persist.rs` the bytes in the log.
//!
//! Everything that an answer tells is appended first: the group's epochs, each member, its target and what it owns. After
//! a restart members go on where they were, with a whole session each.

pub(super) mod assign;
mod classic;
mod commits;
mod describe;
mod heartbeat;
pub(super) mod member;
pub(super) mod migrate;
pub(super) mod patterns;
pub(super) mod persist;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet};

use super::ctx::TopicLookup;
use super::group::Name;
use crate::wire::Uuid;
use assign::{Assignor, Spec, SpecMember};
use member::{Current, Member, Partitions, Subscription};
use patterns::Patterns;

pub use describe::ConsumerState;

/// A consumer group.
#[derive(Debug)]
pub(super) struct ConsumerGroup {
    /// Rises with everything that asks for another assignment; 1 for a group that is being made.
    pub epoch: i32,
    /// The epoch of the group for which the present target was made; 0 before the first.
    pub assignment_epoch: i32,
    /// Stands for the topics that the group subscribes to as they were when the epoch last rose.
    pub topics_hash: u64,
    /// The state of the topics that was looked at for that; `None` when it has to be looked at again in any case.
    pub topics_seen: Option<u64>,
    /// When the target was made (monotonic µs); `None` when that was not in this life of the server.
    pub assigned_us: Option<u64>,
    /// Whether the group is in the log.
    pub persisted: bool,
    members: BTreeMap<Name, Member>,
    /// Instance id to member id.
    statics: BTreeMap<Name, Name>,
    /// Who holds each partition, be it only until it has given it up.
    owners: BTreeMap<Uuid, BTreeMap<i32, Name>>,
    /// How many members subscribe to each topic by its name, use each pattern, ask for each assignor, and, of those that
    /// speak the classic protocol, support each of its protocols.
    names: BTreeMap<Name, usize>,
    patterns: BTreeMap<Name, usize>,
    assignors: BTreeMap<Name, usize>,
    protocols: BTreeMap<Name, usize>,
    classic: usize,
    bytes: usize,
}

impl Default for ConsumerGroup {
    fn default() -> Self {
        ConsumerGroup {
            epoch: 1,
            assignment_epoch: 0,
            topics_hash: HASH_OF_NOTHING,
            topics_seen: None,
            assigned_us: None,
            persisted: false,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            owners: BTreeMap::new(),
            names: BTreeMap::new(),
            patterns: BTreeMap::new(),
            assignors: BTreeMap::new(),
            protocols: BTreeMap::new(),
            classic: 0,
            bytes: 0,
        }
    }
}

/// What a group knows of its members.
impl ConsumerGroup {
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    pub fn has(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn ids(&self) -> Vec<Name> {
        self.members.keys().cloned().collect()
    }

    /// The member that has the instance id.
    pub fn by_instance(&self, instance: &str) -> Option<&Member> {
        self.members.get(self.statics.get(instance)?)
    }

    /// Bytes that the group takes, roughly.
    pub fn bytes(&self) -> usize {
        512 + self.bytes
    }

    /// How many members speak the classic protocol.
    pub fn classic_count(&self) -> usize {
        self.classic
    }

    /// Whether a member with these classic protocols can work with the other classic members.
    pub fn supports<'a>(&self, mut protocols: impl Iterator<Item = &'a str>) -> bool {
        protocols.any(|name| self.protocols.get(name).copied().unwrap_or(0) == self.classic)
    }

    /// The patterns that members use.
    pub fn patterns(&self) -> impl Iterator<Item = &Name> {
        self.patterns.keys()
    }

    pub fn is_owned(&self, topic: Uuid, partition: i32) -> bool {
        self.owners.get(&topic).is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Whether the member waits for a partition that another one still holds.
    pub fn waits_for_others(&self, member: &Member) -> bool {
        member.target.iter().any(|(topic, partitions)| {
            let has = member.current.assigned.get(topic);
            partitions.iter().any(|p| !has.is_some_and(|has| has.contains_key(p)) && self.is_owned(*topic, *p))
        })
    }

    /// The assignor that most members ask for.
    pub fn assignor(&self, usual: Assignor) -> Assignor {
        let most = self.assignors.iter().rev().max_by_key(|(_, n)| **n);
        most.and_then(|(name, _)| Assignor::parse(name)).unwrap_or(usual)
    }

    /// Names of all topics that members subscribe to; `None` while a pattern has not been looked up.
    fn subscribed<'a>(&'a self, patterns: &'a Patterns) -> Option<BTreeSet<&'a Name>> {
        let mut topics: BTreeSet<&Name> = self.names.keys().collect();
        for pattern in self.patterns.keys() {
            topics.extend(patterns.topics(pattern)?);
        }
        Some(topics)
    }

    /// Whether all patterns have been looked up.
    pub fn knows_topics(&self, patterns: &Patterns) -> bool {
        self.patterns.keys().all(|pattern| patterns.topics(pattern).is_some())
    }

    /// Whether a member subscribes to the topic. A pattern that has not been looked up may stand for any.
    pub fn is_subscribed(&self, topic: &str, patterns: &Patterns) -> bool {
        let matches = |pattern: &Name| {
            patterns.topics(pattern).is_none_or(|topics| topics.binary_search_by(|known| (**known).cmp(topic)).is_ok())
        };
        self.names.contains_key(topic) || self.patterns.keys().any(matches)
    }

    /// What stands for the topics that members subscribe to as they are now; `None` while a pattern has not been looked up.
    pub fn hash(&self, patterns: &Patterns, lookup: &dyn TopicLookup) -> Option<u64> {
        Some(hash_topics(self.subscribed(patterns)?.into_iter(), lookup))
    }

    /// Ids of the topics that exist and the subscription names.
    pub fn topic_ids(&self, of: &Subscription, patterns: &Patterns, lookup: &dyn TopicLookup) -> BTreeSet<Uuid> {
        let matched = of.pattern.as_ref().and_then(|pattern| patterns.topics(pattern));
        let names = of.topics.iter().chain(matched.into_iter().flat_map(|topics| topics.iter()));
        names.filter_map(|name| lookup.id_of(name)).collect()
    }

    /// Makes a target from the members' subscriptions and what they were to own so far.
    pub fn assign(
        &self,
        assignor: Assignor,
        patterns: &Patterns,
        lookup: &dyn TopicLookup,
    ) -> BTreeMap<Name, Partitions> {
        let mut spec = Spec::default();
        let mut known: BTreeMap<(&BTreeSet<Name>, Option<&Name>), usize> = BTreeMap::new();
        for member in self.members.values() {
            let said = &member.subscription;
            let subscription = *known.entry((&*said.topics, said.pattern.as_ref())).or_insert_with(|| {
                let ids = self.topic_ids(said, patterns, lookup);
                spec.subscriptions.iter().position(|known| *known == ids).unwrap_or_else(|| {
                    spec.subscriptions.push(ids);
                    spec.subscriptions.len() - 1
                })
            });
            let instance = said.instance.as_ref();
            spec.members.push(SpecMember { id: &member.id, instance, subscription, target: &member.target });
        }
        for topic in spec.subscriptions.iter().flatten() {
            let count = lookup.name_of(*topic).and_then(|name| lookup.partitions(name));
            spec.topics.insert(*topic, count.unwrap_or(0));
        }
        assignor.assign(&spec)
    }
}

/// Changes, which keep the counts right.
impl ConsumerGroup {
    /// The member, made if there is none.
    pub fn member_or_new(&mut self, id: &Name) -> &mut Member {
        if !self.members.contains_key(id) {
            let member = Member::new(id.clone());
            self.bytes += member.bytes();
            self.members.insert(id.clone(), member);
        }
        self.members.get_mut(id).expect("it was just made if there was none")
    }

    /// The member's deadlines, which count for nothing else.
    pub fn deadlines(&mut self, id: &str) -> Option<(&Name, &mut member::Deadlines)> {
        self.members.get_mut(id).map(|member| (&member.id, &mut member.deadlines))
    }

    pub fn set_subscription(&mut self, id: &str, subscription: Subscription) {
        let Some(mut member) = self.members.remove(id) else { return };
        self.bytes -= member.bytes();
        self.count(&member.subscription, false);
        let before = std::mem::replace(&mut member.subscription, subscription);
        if let Some(instance) = before.instance.filter(|instance| self.statics.get(instance) == Some(&member.id)) {
            self.statics.remove(&instance);
        }
        if let Some(instance) = &member.subscription.instance {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        self.count(&member.subscription, true);
        self.bytes += member.bytes();
        self.members.insert(member.id.clone(), member);
    }

    pub fn set_current(&mut self, id: &str, current: Current) {
        let Some(mut member) = self.members.remove(id) else { return };
        self.bytes -= member.bytes();
        self.release(&member);
        member.current = current;
        self.hold(&member);
        self.bytes += member.bytes();
        self.members.insert(member.id.clone(), member);
    }

    pub fn set_target(&mut self, id: &str, target: Partitions) {
        let Some(member) = self.members.get_mut(id) else { return };
        self.bytes -= member.bytes();
        member.target = target;
        self.bytes += member.bytes();
    }

    /// Takes a member out. Its timers are the caller's.
    pub fn take(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.bytes -= member.bytes();
        self.count(&member.subscription, false);
        self.release(&member);
        if let Some(instance) = &member.subscription.instance {
            if self.statics.get(instance) == Some(&member.id) {
                self.statics.remove(instance);
            }
        }
        Some(member)
    }

    /// Of static members with the same instance id keeps the one that was put in last. With metadata in files, a crash may leave both
    /// the one that was replaced and the one that took its place.
    pub fn drop_predecessors(&mut self) {
        for id in self.ids() {
            let instance = self.members.get(&id).and_then(|member| member.subscription.instance.as_ref());
            let successor =
                instance.and_then(|instance| self.statics.get(instance)).filter(|other| **other != id).cloned();
            if let Some(successor) = successor.and_then(|successor| self.take(&id).and(self.take(&successor))) {
                // What both had is now its own.
                self.put(successor);
            }
        }
    }

    /// Puts a member in that was taken out under another name, with all that it has.
    pub fn put(&mut self, member: Member) {
        self.take(&member.id);
        self.bytes += member.bytes();
        self.count(&member.subscription, true);
        self.hold(&member);
        if let Some(instance) = &member.subscription.instance {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    fn hold(&mut self, member: &Member) {
        for (topic, partition) in member.current.held() {
            self.owners.entry(topic).or_default().insert(partition, member.id.clone());
        }
    }

    fn release(&mut self, member: &Member) {
        for (topic, partition) in member.current.held() {
            let Some(partitions) = self.owners.get_mut(&topic) else { continue };
            if partitions.get(&partition) == Some(&member.id) {
                partitions.remove(&partition);
            }
            if partitions.is_empty() {
                self.owners.remove(&topic);
            }
        }
    }

    fn count(&mut self, said: &Subscription, up: bool) {
        said.topics.iter().for_each(|topic| tally(&mut self.names, topic, up));
        said.pattern.iter().for_each(|pattern| tally(&mut self.patterns, pattern, up));
        said.assignor.iter().for_each(|assignor| tally(&mut self.assignors, assignor, up));
        if let Some(classic) = &said.classic {
            classic.protocols.iter().for_each(|protocol| tally(&mut self.protocols, &protocol.name, up));
            self.classic = if up { self.classic + 1 } else { self.classic - 1 };
        }
    }
}

fn tally(counts: &mut BTreeMap<Name, usize>, name: &Name, up: bool) {
    if up {
        *counts.entry(name.clone()).or_default() += 1;
    } else if let Some(n) = counts.get_mut(name) {
        *n -= 1;
        if *n == 0 {
            counts.remove(name);
        }
    }
}

/// What no topics hash to.
const HASH_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;

/// A number that stands for topics as they are: names, ids, numbers of partitions (FNV-1a, the same in every version).
fn hash_topics<'a>(names: impl Iterator<Item = &'a Name>, lookup: &dyn TopicLookup) -> u64 {
    let mut hash = HASH_OF_NOTHING;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for name in names {
        let (Some(id), Some(count)) = (lookup.id_of(name), lookup.partitions(name)) else { continue };
        eat(&(name.len() as u32).to_be_bytes());
        eat(name.as_bytes());
        eat(&id.0);
        eat(&count.to_be_bytes());
    }
    hash
}
