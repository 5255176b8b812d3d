//! Owns how a member gets from what it owns to what it is to own: one step with each of its heartbeats (KIP-848).
//!
//! A member first gives up what the target takes from it and says so; only then it moves to the target's epoch and is
//! given what nobody else has. So at no moment two members own a partition.

use std::collections::{BTreeMap, BTreeSet};

use super::member::{Current, MemberState, Owned, Partitions};
use crate::canary::{self, Fault};
use crate::wire::Uuid;

/// What a step depends on besides the member.
pub(in super::super) struct Surroundings<'a> {
    pub target_epoch: i32,
    pub target: &'a Partitions,
    /// What the member says it owns; `None` when it did not say.
    pub owned: Option<&'a Partitions>,
    /// Ids of the topics that the member subscribes to; what it does not subscribe to is taken from it at once.
    pub subscribed: &'a BTreeSet<Uuid>,
    /// Its subscription changed with this heartbeat.
    pub has_changed: bool,
    /// Whether a partition has an owner, be it this member.
    pub is_owned: &'a dyn Fn(Uuid, i32) -> bool,
}

/// The member's next step; `None` when it stays where it is.
pub(in super::super) fn step(member: &Current, around: &Surroundings<'_>) -> Option<Current> {
    let next = match member.state {
        MemberState::Stable if member.epoch != around.target_epoch => advance(member, around),
        MemberState::Stable if around.has_changed => withdraw(member, around),
        MemberState::Stable => return None,
        MemberState::UnrevokedPartitions if owns_any(around.owned, &member.revoking) => {
            if !around.has_changed {
                return None;
            }
            withdraw(member, around)
        }
        MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => advance(member, around),
    };
    (next != *member).then_some(next)
}

/// Whether the member still has one of the partitions. Who does not say has them all.
fn owns_any(owned: Option<&Partitions>, revoking: &Owned) -> bool {
    let Some(owned) = owned else { return true };
    owned.iter().any(|(topic, partitions)| {
        revoking.get(topic).is_some_and(|revoking| partitions.iter().any(|p| revoking.contains_key(p)))
    })
}

/// Takes from the member what it no longer subscribes to, and nothing else.
fn withdraw(member: &Current, around: &Surroundings<'_>) -> Current {
    let (kept, gone): (Owned, Owned) =
        member.assigned.clone().into_iter().partition(|(topic, _)| around.subscribed.contains(topic));
    if gone.is_empty() {
        return member.clone();
    }
    let mut revoking = member.revoking.clone();
    for (topic, partitions) in gone {
        revoking.entry(topic).or_default().extend(partitions);
    }
    let mut next = member.clone();
    next.advance_to(member.epoch);
    next.assigned = kept;
    if owns_any(around.owned, &revoking) {
        next.state = MemberState::UnrevokedPartitions;
        next.revoking = revoking;
    }
    next
}

/// Brings the member as near to the target as the others let it.
fn advance(member: &Current, around: &Surroundings<'_>) -> Current {
    let nothing = BTreeSet::new();
    let mut kept = Owned::new();
    let mut revoking = Owned::new();
    let mut gained: Vec<(Uuid, i32)> = Vec::new();
    let mut waits = false;
    let topics: BTreeSet<&Uuid> = around.target.keys().chain(member.assigned.keys()).collect();
    for topic in topics {
        let wanted = around.target.get(topic).filter(|_| around.subscribed.contains(topic)).unwrap_or(&nothing);
        let empty = BTreeMap::new();
        let has = member.assigned.get(topic).unwrap_or(&empty);
        for (partition, epoch) in has {
            let side = if wanted.contains(partition) { &mut kept } else { &mut revoking };
            side.entry(*topic).or_default().insert(*partition, *epoch);
        }
        for partition in wanted.iter().filter(|p| !has.contains_key(p)) {
            // What this member is giving up itself is free for it as soon as it comes here.
            let own = member.revoking.get(topic).is_some_and(|partitions| partitions.contains_key(partition));
            if own || canary::has(Fault::DoubleAssignment) || !(around.is_owned)(*topic, *partition) {
                gained.push((*topic, *partition));
            } else {
                waits = true;
            }
        }
    }
    if !revoking.is_empty() && owns_any(around.owned, &revoking) {
        let mut next = Current { state: MemberState::UnrevokedPartitions, assigned: kept, revoking, ..member.clone() };
        next.advance_to(member.epoch);
        return next;
    }
    for (topic, partition) in gained {
        kept.entry(topic).or_default().insert(partition, around.target_epoch);
    }
    let state = if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable };
    let mut next = Current { state, assigned: kept, revoking: Owned::new(), ..member.clone() };
    next.advance_to(around.target_epoch);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Uuid = Uuid([1; 16]);
    const U: Uuid = Uuid([2; 16]);

    fn owned(topic: Uuid, partitions: &[i32], epoch: i32) -> Owned {
        match partitions {
            [] => Owned::new(),
            _ => Owned::from([(topic, partitions.iter().map(|p| (*p, epoch)).collect())]),
        }
    }

    fn partitions(topic: Uuid, partitions: &[i32]) -> Partitions {
        match partitions {
            [] => Partitions::new(),
            _ => Partitions::from([(topic, partitions.iter().copied().collect())]),
        }
    }

    fn member(epoch: i32, assigned: &[i32]) -> Current {
        Current { epoch, previous_epoch: epoch, assigned: owned(T, assigned, epoch), ..Current::default() }
    }

    struct Case<'a> {
        member: &'a Current,
        epoch: i32,
        target: &'a [i32],
        says: Option<&'a [i32]>,
        others: &'a [i32],
    }

    fn next(case: &Case<'_>) -> Option<Current> {
        let target = partitions(T, case.target);
        let says = case.says.map(|says| partitions(T, says));
        let held: BTreeSet<(Uuid, i32)> =
            case.member.held().chain(case.others.iter().map(|partition| (T, *partition))).collect();
        let around = Surroundings {
            target_epoch: case.epoch,
            target: &target,
            owned: says.as_ref(),
            subscribed: &BTreeSet::from([T, U]),
            has_changed: false,
            is_owned: &|topic, partition| held.contains(&(topic, partition)),
        };
        step(case.member, &around)
    }

    #[test]
    fn a_stable_member_of_the_targets_epoch_stays() {
        let member = member(3, &[0, 1]);
        assert_eq!(next(&Case { member: &member, epoch: 3, target: &[0, 1], says: None, others: &[] }), None);
    }

    #[test]
    fn partitions_are_given_up_before_others_are_taken() {
        let before = member(3, &[0, 1]);
        let case = Case { member: &before, epoch: 4, target: &[1, 2], says: None, others: &[2] };
        let revoking = next(&case).unwrap();
        assert_eq!((revoking.epoch, revoking.state), (3, MemberState::UnrevokedPartitions));
        assert_eq!((&revoking.assigned, &revoking.revoking), (&owned(T, &[1], 3), &owned(T, &[0], 3)));
        // It says nothing, or still has it: it waits, and stays in its epoch.
        assert_eq!(next(&Case { member: &revoking, ..case }), None);
        let still = Case { member: &revoking, says: Some(&[0, 1]), ..case };
        assert_eq!(next(&still), None);
        // It has given it up, and the other one has not: it moves on and waits.
        let waiting = next(&Case { says: Some(&[1]), ..still }).unwrap();
        assert_eq!((waiting.epoch, waiting.previous_epoch), (4, 3));
        assert_eq!((waiting.state, &waiting.assigned), (MemberState::UnreleasedPartitions, &owned(T, &[1], 3)));
        let stable = next(&Case { member: &waiting, epoch: 4, target: &[1, 2], says: None, others: &[] }).unwrap();
        assert_eq!(stable.state, MemberState::Stable);
        assert_eq!(stable.assigned[&T], BTreeMap::from([(1, 3), (2, 4)]), "each knows in which epoch it was given");
    }

    #[test]
    fn who_joins_without_partitions_has_given_all_up() {
        let before = member(3, &[0, 1]);
        let after = next(&Case { member: &before, epoch: 4, target: &[1], says: Some(&[]), others: &[] }).unwrap();
        assert_eq!((after.state, after.epoch, &after.assigned), (MemberState::Stable, 4, &owned(T, &[1], 3)));
    }

    #[test]
    fn what_is_being_given_up_may_come_back() {
        let mut before = member(3, &[1]);
        before.state = MemberState::UnrevokedPartitions;
        before.revoking = owned(T, &[0], 3);
        let after = next(&Case { member: &before, epoch: 5, target: &[0, 1], says: Some(&[1]), others: &[] }).unwrap();
        assert_eq!((after.state, &after.assigned[&T]), (MemberState::Stable, &BTreeMap::from([(0, 5), (1, 3)])));
    }

    #[test]
    fn what_is_no_longer_subscribed_to_is_taken_though_the_target_has_it() {
        let mut before = member(3, &[0]);
        before.assigned.extend(owned(U, &[7], 2));
        let target = Partitions::from([(T, BTreeSet::from([0])), (U, BTreeSet::from([7]))]);
        let subscribed = BTreeSet::from([T]);
        let around = |owned| Surroundings {
            target_epoch: 3,
            target: &target,
            owned,
            subscribed: &subscribed,
            has_changed: true,
            is_owned: &|_, _| true,
        };
        let after = step(&before, &around(None)).unwrap();
        assert_eq!(
            (after.epoch, after.state, &after.revoking),
            (3, MemberState::UnrevokedPartitions, &owned(U, &[7], 2))
        );
        let says = partitions(T, &[0]);
        let after = step(&before, &around(Some(&says))).unwrap();
        assert_eq!((after.state, &after.assigned, after.revoking.len()), (MemberState::Stable, &owned(T, &[0], 3), 0));
    }
}
