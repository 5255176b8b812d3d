//! Owns the `uniform` assignor: members get equally many partitions, as far as their subscriptions allow, and keep as
//! many as they can of those they were to own so far.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::group::Name;
use super::super::member::Partitions;
use super::Spec;
use crate::wire::Uuid;

pub(super) fn assign(spec: &Spec<'_>) -> BTreeMap<Name, Partitions> {
    if spec.members.is_empty() {
        return BTreeMap::new();
    }
    let (parts, free) = keep(spec);
    let parts = if spec.is_homogeneous() { level(spec, parts, free) } else { balance(spec, parts, free) };
    spec.result(parts)
}

/// What each member may keep, and the partitions that are left without an owner, in the order of topics and numbers.
fn keep(spec: &Spec<'_>) -> (Vec<Partitions>, Vec<(Uuid, i32)>) {
    let mut taken: BTreeMap<Uuid, BTreeSet<i32>> = BTreeMap::new();
    let mut parts = Vec::with_capacity(spec.members.len());
    for (i, member) in spec.members.iter().enumerate() {
        let mut kept = Partitions::new();
        for (topic, partitions) in member.target {
            let Some(count) = spec.topics.get(topic).filter(|_| spec.subscribes(i, topic)) else { continue };
            let taken = taken.entry(*topic).or_default();
            let mine: BTreeSet<i32> = partitions.range(0..*count).copied().filter(|p| taken.insert(*p)).collect();
            if !mine.is_empty() {
                kept.insert(*topic, mine);
            }
        }
        parts.push(kept);
    }
    let nothing = BTreeSet::new();
    let mut free = Vec::new();
    for (topic, count) in &spec.topics {
        let taken = taken.get(topic).unwrap_or(&nothing);
        free.extend((0..*count).filter(|p| !taken.contains(p)).map(|partition| (*topic, partition)));
    }
    (parts, free)
}

fn load(part: &Partitions) -> usize {
    part.values().map(|partitions| partitions.len()).sum()
}

/// All members subscribe to the same: whoever has more than its share gives the rest, and the others are filled up.
fn level(spec: &Spec<'_>, mut parts: Vec<Partitions>, mut free: Vec<(Uuid, i32)>) -> Vec<Partitions> {
    if spec.subscriptions.first().is_none_or(|topics| topics.is_empty()) {
        return parts;
    }
    let total = free.len() + parts.iter().map(load).sum::<usize>();
    let (least, mut extra) = (total / parts.len(), total % parts.len());
    // Those who have more than the least keep the one more, as long as there is one.
    let mut quotas = vec![least; parts.len()];
    for (quota, part) in quotas.iter_mut().zip(&parts) {
        if extra > 0 && load(part) > least {
            *quota += 1;
            extra -= 1;
        }
    }
    for (quota, part) in quotas.iter_mut().zip(&parts) {
        if extra > 0 && load(part) <= least {
            *quota += 1;
            extra -= 1;
        }
    }
    for (part, quota) in parts.iter_mut().zip(&quotas) {
        for _ in *quota..load(part) {
            free.extend(take_last(part));
        }
    }
    let mut free = free.into_iter();
    for (part, quota) in parts.iter_mut().zip(&quotas) {
        for (topic, partition) in free.by_ref().take(quota - load(part)) {
            part.entry(topic).or_default().insert(partition);
        }
    }
    parts
}

/// Takes the last partition of the member's last topic.
fn take_last(part: &mut Partitions) -> Option<(Uuid, i32)> {
    let mut last = part.last_entry()?;
    let topic = *last.key();
    let partition = last.get_mut().pop_last()?;
    if last.get().is_empty() {
        last.remove();
    }
    Some((topic, partition))
}

/// Members subscribe to different topics: free partitions go to whoever has least, those that few can take first; then
/// partitions move as long as one goes from who has more to who has at least two less.
fn balance(spec: &Spec<'_>, mut parts: Vec<Partitions>, mut free: Vec<(Uuid, i32)>) -> Vec<Partitions> {
    let members = 0..spec.members.len();
    let takers: BTreeMap<Uuid, Vec<usize>> = spec
        .topics
        .keys()
        .map(|topic| (*topic, members.clone().filter(|i| spec.subscribes(*i, topic)).collect()))
        .collect();
    let mut loads: Vec<usize> = parts.iter().map(load).collect();
    free.sort_by_key(|(topic, partition)| (takers[topic].len(), *topic, *partition));
    for (topic, partition) in free {
        let Some(taker) = takers[&topic].iter().copied().min_by_key(|i| (loads[*i], *i)) else { continue };
        parts[taker].entry(topic).or_default().insert(partition);
        loads[taker] += 1;
    }
    // Each move makes the loads more equal, so this ends; a pass without a move is the last.
    loop {
        let mut moved = false;
        for (topic, takers) in takers.iter().filter(|(_, takers)| takers.len() > 1) {
            moved |= even_out(topic, takers, &mut parts, &mut loads);
        }
        if !moved {
            return parts;
        }
    }
}

/// Moves partitions of one topic from the members that have most to those that have least. True when one moved.
fn even_out(topic: &Uuid, takers: &[usize], parts: &mut [Partitions], loads: &mut [usize]) -> bool {
    let mut queue: BTreeSet<(usize, usize)> = takers.iter().map(|i| (loads[*i], *i)).collect();
    let mut givers: BTreeSet<(usize, usize)> =
        queue.iter().copied().filter(|(_, i)| parts[*i].contains_key(topic)).collect();
    let mut moved = false;
    while let (Some(&(less, to)), Some(&(more, from))) = (queue.first(), givers.last()) {
        if less + 1 >= more {
            break;
        }
        let Some(partitions) = parts[from].get_mut(topic) else { break };
        let Some(partition) = partitions.pop_last() else { break };
        let is_last = partitions.is_empty();
        if is_last {
            parts[from].remove(topic);
        }
        parts[to].entry(*topic).or_default().insert(partition);
        (loads[from], loads[to]) = (more - 1, less + 1);
        queue.remove(&(more, from));
        queue.remove(&(less, to));
        givers.remove(&(more, from));
        givers.remove(&(less, to));
        queue.extend([(more - 1, from), (less + 1, to)]);
        givers.insert((less + 1, to));
        if !is_last {
            givers.insert((more - 1, from));
        }
        moved = true;
    }
    moved
}
