//! Owns groups that change between the classic and the consumer protocol while members are in them (KIP-848).

use super::*;

/// A consumer's metadata of version 3, with what it owns.
fn cooperative(topics: &[&str], owned: &[i32]) -> Vec<u8> {
    let mut w = Writer::new(3, false);
    w.i16(3);
    let owned_partitions = match owned {
        [] => Vec::new(),
        _ => vec![TopicPartition { topic: "t", partitions: owned.to_vec() }],
    };
    ConsumerProtocolSubscription { topics: topics.to_vec(), owned_partitions, ..Default::default() }.write(&mut w);
    w.into_encoded().bytes
}

fn join_with(id: &str, owned: &[i32]) -> Join {
    let protocols = vec![("cooperative-sticky".into(), cooperative(&["t"], owned))];
    Join { member_id: id.into(), protocols, ..Default::default() }
}

fn encoded(partitions: &[i32]) -> Vec<u8> {
    let mut w = Writer::new(1, false);
    w.i16(1);
    let topic = TopicPartition { topic: "t", partitions: partitions.to_vec() };
    ConsumerProtocolAssignment { assigned_partitions: vec![topic], ..Default::default() }.write(&mut w);
    w.into_encoded().bytes
}

fn decoded(assignment: &[u8]) -> Vec<i32> {
    let mut reader = chronik::wire::Reader::new(&assignment[2..], 1, false);
    let assignment = ConsumerProtocolAssignment::read(&mut reader).unwrap();
    assignment.assigned_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect()
}

impl World {
    /// A stable classic group of two members with four partitions each.
    fn classic_pair(&mut self) -> [Stable; 2] {
        let joins = [join_with("", &[]), join_with("", &[])];
        let stable = self.stable(&joins);
        // Again, with assignments that consumers understand.
        let tickets = [&stable[0], &stable[1]].map(|m| self.join(&join_with(&m.id, &[])));
        let joined = tickets.map(|t| self.joined(t));
        let leader = joined.iter().find(|j| j.leads()).unwrap().clone();
        let halves = [encoded(&[0, 1, 2, 3]), encoded(&[4, 5, 6, 7])];
        let given: Vec<(&str, &[u8])> =
            joined.iter().zip(&halves).map(|(j, half)| (j.member_id.as_str(), &half[..])).collect();
        let ticket = self.sync(&leader.member_id, leader.generation, &given);
        assert_eq!(self.synced(ticket).0, ErrorCode::NONE);
        joined.map(|j| {
            let ticket = self.sync(&j.member_id, j.generation, &[]);
            let (error, assignment) = self.synced(ticket);
            assert_eq!(error, ErrorCode::NONE);
            Stable { id: j.member_id, generation: j.generation, assignment: assignment[..].to_vec() }
        })
    }

    /// A classic member joins and fetches its assignment: generation and partitions.
    fn rejoin(&mut self, id: &str, owned: &[i32]) -> (i32, Vec<i32>) {
        let joined = self.join_now(&join_with(id, owned));
        assert_eq!((joined.error, joined.protocol.as_deref()), (ErrorCode::NONE, Some("cooperative-sticky")));
        assert!(!joined.leads(), "nobody leads: the broker assigns");
        let ticket = self.sync(&joined.member_id, joined.generation, &[]);
        let (error, assignment) = self.synced(ticket);
        assert_eq!(error, ErrorCode::NONE);
        (joined.generation, decoded(&assignment))
    }

    fn kind(&self) -> Option<chronik::broker::groups::GroupKind> {
        self.groups.kind_of(G)
    }
}

use chronik::broker::groups::{GroupKind, MigrationPolicy};

#[test]
fn a_classic_group_is_upgraded_by_the_first_member_of_the_new_protocol() {
    let mut w = world();
    let [a, b] = w.classic_pair();
    assert_eq!(w.commit(&a.id, a.generation, "t", 0, 42), ErrorCode::NONE);
    let beaten = w.beat(&Beat::join("n", &["t"]));
    assert_eq!((beaten.error, beaten.epoch), (ErrorCode::NONE, a.generation + 1));
    assert_eq!(count(&beaten.assignment.unwrap()), 0, "all is taken yet");
    assert_eq!(w.kind(), Some(GroupKind::Consumer));
    let described = w.describe_consumer(G);
    let kinds: Vec<(i8, usize)> = described.members.iter().map(|m| (m.kind, count(&m.assigned))).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == (0, 4)).count(), 2, "{kinds:?}");
    assert_eq!(w.fetch(G, "t", 0), 42, "offsets stay");

    // The classic members learn by heartbeat, join again, and give up what they are to give up.
    let mut owned = Vec::new();
    for (member, had) in [(&a, [0, 1, 2, 3]), (&b, [4, 5, 6, 7])] {
        assert_eq!(w.heartbeat(&member.id, member.generation), ErrorCode::REBALANCE_IN_PROGRESS);
        let (generation, kept) = w.rejoin(&member.id, &had);
        assert_eq!(w.heartbeat(&member.id, generation), ErrorCode::REBALANCE_IN_PROGRESS, "it gives partitions up");
        let (generation, kept) = w.rejoin(&member.id, &kept);
        assert_eq!(generation, beaten.epoch);
        assert_eq!(w.heartbeat(&member.id, generation), ErrorCode::NONE);
        assert_eq!(w.commit_epoch(&member.id, generation, "t", kept[0], 1), ErrorCode::NONE);
        assert_eq!(w.commit_epoch(&member.id, generation - 1, "t", 7, 1), ErrorCode::ILLEGAL_GENERATION);
        owned.extend(kept);
    }
    owned.extend(w.stay("n", beaten.epoch).assignment.unwrap()["t"].clone());
    owned.sort_unstable();
    assert_eq!(owned, (0..8).collect::<Vec<i32>>());
    assert_eq!(w.describe_consumer(G).state, "Stable");
    w.restart();
    assert_eq!(w.describe_consumer(G).state, "Stable");
}

#[test]
fn the_last_member_of_the_new_protocol_leaves_a_classic_group_behind() {
    let mut w = world();
    let [a, b] = w.classic_pair();
    w.commit(&a.id, a.generation, "t", 0, 42);
    w.beat(&Beat::join("n", &["t"]));
    w.leave_consumer("n");
    assert_eq!(w.kind(), Some(GroupKind::Classic));
    assert_eq!(w.state(), Some(GroupState::PreparingRebalance));
    assert_eq!(w.fetch(G, "t", 0), 42);
    // The members are in a generation that is over, and join again as in any classic group.
    for member in [&a, &b] {
        assert_eq!(w.heartbeat(&member.id, member.generation), ErrorCode::ILLEGAL_GENERATION);
    }
    let tickets = [&a, &b].map(|m| w.join(&join_with(&m.id, &[])));
    let joined: Vec<Joined> = tickets.into_iter().map(|t| w.joined(t)).collect();
    assert!(joined.iter().all(|j| j.error == ErrorCode::NONE && j.generation > a.generation));
    w.sync_all(&joined);
    w.restart();
    assert_eq!((w.kind(), w.state()), (Some(GroupKind::Classic), Some(GroupState::Stable)));
    assert_eq!(w.describe_consumer(G).error, ErrorCode::GROUP_ID_NOT_FOUND);
}

/// An id handed out in a classic group of which nobody was a member yet is no promise once there is a consumer group: kept,
/// it made a member count twice when the group became a classic one again, and the other was refused from then on.
#[test]
fn an_id_handed_out_before_the_upgrade_does_not_count_its_member_twice_after_the_downgrade() {
    let mut w = world();
    let handed_out = w.join_now(&join_with("", &[]));
    assert_eq!(handed_out.error, ErrorCode::MEMBER_ID_REQUIRED);
    w.beat(&Beat::join("n", &["t"]));
    assert_eq!(w.kind(), Some(GroupKind::Consumer));
    let other = w.join_now(&join_with("", &[]));
    assert_eq!(other.error, ErrorCode::MEMBER_ID_REQUIRED);
    let members = [&handed_out, &other].map(|joined| w.join_now(&join_with(&joined.member_id, &[])));
    assert!(members.iter().all(|joined| joined.error == ErrorCode::NONE));
    w.leave_consumer("n");
    assert_eq!(w.kind(), Some(GroupKind::Classic));
    let tickets = members.map(|joined| w.join(&join_with(&joined.member_id, &[])));
    let joined = tickets.map(|ticket| w.joined(ticket));
    assert!(joined.iter().all(|joined| joined.error == ErrorCode::NONE), "{joined:?}");
    w.sync_all(&joined);
}

#[test]
fn a_crash_finds_the_group_of_one_kind_or_the_other() {
    let mut w = world();
    w.classic_pair();
    w.restart();
    assert_eq!(w.kind(), Some(GroupKind::Classic));
    w.beat(&Beat::join("n", &["t"]));
    w.restart();
    assert_eq!((w.kind(), w.describe_consumer(G).members.len()), (Some(GroupKind::Consumer), 3));
    w.leave_consumer("n");
    w.restart();
    assert_eq!((w.kind(), w.size()), (Some(GroupKind::Classic), 2));
}

#[test]
fn a_session_that_ends_downgrades_too() {
    let mut w = world();
    let [a, b] = w.classic_pair();
    w.beat(&Beat::join("n", &["t"]));
    let mut members = [(a.id.clone(), a.generation, vec![0, 1, 2, 3]), (b.id.clone(), b.generation, vec![4, 5, 6, 7])];
    for _ in 0..9 {
        for (id, generation, owned) in &mut members {
            if w.heartbeat(id, *generation) == ErrorCode::REBALANCE_IN_PROGRESS {
                (*generation, *owned) = w.rejoin(id, owned);
            }
        }
        w.pass_ms(BEAT_MS);
    }
    assert_eq!(w.kind(), Some(GroupKind::Classic));
}

#[test]
fn a_classic_client_joins_a_consumer_group() {
    let mut w = world();
    w.joined_consumer("n", &["t"]);
    let id = w.new_id(&join_with("", &[]));
    let (generation, none) = w.rejoin(&id, &[]);
    assert_eq!((generation, none), (3, vec![]));
    assert_eq!(w.heartbeat(&id, generation), ErrorCode::NONE, "what it is to have is not free yet");
    let kept = w.stay("n", 2).assignment.unwrap();
    w.beat(&Beat::stay("n", 2).owning(&kept));
    assert_eq!(w.heartbeat(&id, generation), ErrorCode::REBALANCE_IN_PROGRESS, "now it is");
    let (generation, mine) = w.rejoin(&id, &[]);
    assert_eq!((generation, mine.len()), (3, 4));
    assert_eq!(w.heartbeat(&id, generation), ErrorCode::NONE);
    assert_eq!(w.heartbeat(&id, generation + 1), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(w.heartbeat("n", 3), ErrorCode::UNKNOWN_MEMBER_ID, "that one does not speak the classic protocol");
    assert_eq!(w.leave(&[("o", None), (&id, None)]), [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::NONE]);
    assert_eq!(count(&w.stay("n", 3).assignment.unwrap()), 8);
}

/// A target that was made before a pattern was known had none of its topics, and they had no owner from then on.
#[test]
fn a_classic_member_that_comes_first_after_a_restart_takes_nothing_from_patterns() {
    let mut w = world();
    let told = w.beat(&Beat::join("a", &[]).with_pattern("t|u"));
    assert_eq!(count(&told.assignment.unwrap()), 16);
    w.restart();
    assert_eq!(w.join_now(&join_with("m", &[])).error, ErrorCode::NONE);
    w.beat(&Beat::stay("a", 2));
    assert_eq!(w.join_now(&join_with("m", &[])).error, ErrorCode::NONE);
    let group = w.describe_consumer(G);
    let targets: Vec<usize> = group.members.iter().map(|member| count(&member.target)).collect();
    assert_eq!((group.epoch, group.assignment_epoch), (3, 3));
    assert_eq!((targets.len(), targets.iter().sum::<usize>()), (2, 16), "{targets:?}");
}

/// Who uses a pattern may be away for a while, and come back late.
#[test]
fn classic_members_need_not_wait_for_who_uses_a_pattern_to_come_back() {
    let mut w = world();
    w.beat(&Beat::join("a", &[]).with_pattern("t|u"));
    w.restart();
    w.join_now(&join_with("m", &[]));
    assert_eq!(w.given.jobs.len(), 1, "the pattern is looked up, whoever comes");
    w.work();
    let joined = w.join_now(&join_with("m", &[]));
    assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 3));
}

/// With metadata in files a crash can come between what a group sets and what it removes. Both owned the same partitions then (seed
/// 10210000782 of the crashing kind).
#[test]
fn a_static_member_and_its_successor_are_not_both_there_after_a_crash() {
    let mut w = world();
    w.beat(&Beat::join("a", &["t", "u"]).with_instance("i"));
    w.beat(&Beat { epoch: -2, ..Beat::stay("a", 1).with_instance("i") });
    let before = w.given.log.len();
    w.beat(&Beat::join("b", &["t", "u"]).with_instance("i"));
    let mut groups = Groups::new(w.settings.clone());
    for (number, entry) in w.given.log.iter().enumerate() {
        if number < before || entry.value.is_some() {
            groups.apply(entry).unwrap();
        }
    }
    groups.recovered(w.now());
    w.groups = groups;
    let told = w.describe_consumer(G);
    let members: Vec<(&str, usize)> = told.members.iter().map(|member| (&*member.id, count(&member.target))).collect();
    assert_eq!(members, [("b", 16)]);
    let epoch = told.members[0].epoch;
    assert_eq!(w.beat(&Beat::stay("b", epoch).with_instance("i")).error, ErrorCode::NONE);
}

#[test]
fn a_classic_client_of_another_kind_does_not() {
    let mut w = world();
    w.joined_consumer("n", &["t"]);
    let connect = Join { protocol_type: "connect".into(), ..join_with("", &[]) };
    assert_eq!(w.join_now(&connect).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let none = Join { protocols: vec![], ..join_with("", &[]) };
    assert_eq!(w.join_now(&none).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let malformed = Join { protocols: vec![("range".into(), vec![1])], ..join_with("m", &[]) };
    assert_eq!(w.join_now(&malformed).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    w.rejoin("m", &[]);
    let other = Join { protocols: vec![("range".into(), cooperative(&["t"], &[]))], ..join_with("o", &[]) };
    assert_eq!(w.join_now(&other).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn classic_members_have_time_to_join_again_and_to_sync() {
    let mut w = world();
    w.joined_consumer("n", &["t"]);
    let joined = w.join_now(&join_with("m", &[]));
    assert_eq!(joined.error, ErrorCode::NONE);
    for _ in 0..6 {
        w.stay("n", 2);
        w.pass_ms(BEAT_MS);
    }
    assert_eq!(w.heartbeat("m", joined.generation), ErrorCode::UNKNOWN_MEMBER_ID, "it never asked for its assignment");

    let mut w = world();
    w.joined_consumer("n", &["t"]);
    let (generation, _) = w.rejoin("m", &[]);
    let kept = w.stay("n", 2).assignment.unwrap();
    w.beat(&Beat::stay("n", 2).owning(&kept));
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(w.heartbeat("m", generation));
        w.stay("n", 3);
        w.pass_ms(BEAT_MS);
    }
    assert_eq!(told, [ErrorCode::REBALANCE_IN_PROGRESS; 6]);
    assert_eq!(w.heartbeat("m", generation), ErrorCode::UNKNOWN_MEMBER_ID, "it did not join again");
}

#[test]
fn a_static_member_changes_its_protocol_and_keeps_its_partitions() {
    let mut w = world();
    let classic = join_with("", &[]).with_instance("i");
    let first = w.join_now(&classic);
    let half = encoded(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let ticket = w.sync_as(&first.member_id, "i", first.generation, &[(&first.member_id, &half)]);
    assert_eq!(w.synced(ticket).0, ErrorCode::NONE);
    let beaten = w.beat(&Beat::join("new", &["t"]).with_instance("i"));
    assert_eq!((beaten.error, count(&beaten.assignment.unwrap())), (ErrorCode::NONE, 8));
    assert_eq!(w.kind(), Some(GroupKind::Consumer));
    assert_eq!(w.heartbeat_as(&first.member_id, Some("i"), first.generation), ErrorCode::FENCED_INSTANCE_ID);
    // And back: nobody of the new protocol is left.
    let again = w.join_now(&classic);
    assert_eq!((again.error, w.kind()), (ErrorCode::NONE, Some(GroupKind::Classic)));
    let ticket = w.sync_as(&again.member_id, "i", again.generation, &[]);
    let (error, assignment) = w.synced(ticket);
    assert_eq!((error, decoded(&assignment)), (ErrorCode::NONE, (0..8).collect()));
}

impl World {
    fn sync_as(&mut self, id: &str, instance: &str, generation: i32, given: &[(&str, &[u8])]) -> Ticket {
        let given = given.iter().map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment });
        let request = SyncGroupRequest {
            group_id: G,
            generation_id: generation,
            member_id: id,
            group_instance_id: Some(instance),
            assignments: given.collect(),
            ..Default::default()
        };
        self.send(3, &request)
    }
}

#[test]
fn groups_that_cannot_be_upgraded_stay_what_they_are() {
    let mut w = world();
    let members = w.stable(&[join_with("", &[])]);
    // Its assignment is not one that consumers make.
    let refused = w.beat(&Beat::join("n", &["t"]));
    assert_eq!(refused.error, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(
        refused.message.unwrap(),
        "Cannot upgrade classic group g to consumer group because the embedded consumer protocol is malformed."
    );
    assert_eq!(w.heartbeat(&members[0].id, members[0].generation), ErrorCode::NONE);

    let mut w = world();
    let connect = Join { protocol_type: "connect".into(), ..Join::default() };
    w.stable(&[connect]);
    let refused = w.beat(&Beat::join("n", &["t"]));
    assert_eq!(refused.error, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(refused.message.unwrap(), "Group g is not a consumer group.");
}

#[test]
fn the_policy_decides_what_may_change() {
    let with = |policy| {
        World::with(GroupSettings {
            group_initial_rebalance_delay_ms: 0,
            consumer_assignment_interval_ms: 0,
            consumer_migration_policy: policy,
            ..Default::default()
        })
    };
    for (policy, up, down) in [
        (MigrationPolicy::Bidirectional, true, true),
        (MigrationPolicy::Upgrade, true, false),
        (MigrationPolicy::Downgrade, false, true),
        (MigrationPolicy::Disabled, false, false),
    ] {
        let mut w = with(policy);
        w.classic_pair();
        let error = w.beat(&Beat::join("n", &["t"])).error;
        assert_eq!(error == ErrorCode::NONE, up, "{policy:?}");
        let mut w = with(policy);
        w.joined_consumer("n", &["t"]);
        w.rejoin("m", &[]);
        w.leave_consumer("n");
        assert_eq!(w.kind() == Some(GroupKind::Classic), down, "{policy:?}");
        if !down {
            assert_eq!(w.heartbeat("m", 3), ErrorCode::REBALANCE_IN_PROGRESS);
            assert_eq!(w.rejoin("m", &[]).1.len(), 8, "the broker goes on assigning");
        }
    }
}

#[test]
fn an_empty_group_takes_the_kind_of_whoever_comes() {
    let mut w = world();
    w.commit("", -1, "t", 0, 42);
    w.joined_consumer("n", &["t"]);
    assert_eq!((w.kind(), w.fetch(G, "t", 0)), (Some(GroupKind::Consumer), 42));
    w.leave_consumer("n");
    let members = w.stable(&[join_with("", &[])]);
    assert_eq!((w.kind(), w.fetch(G, "t", 0), members[0].generation), (Some(GroupKind::Classic), 42, 1));
    w.restart();
    assert_eq!(w.kind(), Some(GroupKind::Classic));
    w.leave(&[(&members[0].id, None)]);
    w.joined_consumer("n", &["t"]);
    w.restart();
    assert_eq!((w.kind(), w.fetch(G, "t", 0)), (Some(GroupKind::Consumer), 42));
}

#[test]
fn who_waits_in_a_classic_rebalance_is_told_to_join_the_new_group() {
    let mut w = world();
    let [a, b] = w.classic_pair();
    let waits = w.join(&join_with(&a.id, &[0, 1, 2, 3]));
    assert!(!w.is_answered(waits));
    w.beat(&Beat::join("n", &["t"]));
    assert_eq!(w.joined(waits).error, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(w.groups.parked(), 0);
    let (generation, _) = w.rejoin(&a.id, &[0, 1, 2, 3]);
    assert!(generation >= a.generation);
    assert_eq!(w.heartbeat(&b.id, b.generation), ErrorCode::REBALANCE_IN_PROGRESS);
}
