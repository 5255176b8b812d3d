//! Owns the tests of committed offsets: who may commit, what is fetched, when they expire.

use super::*;

const DAY_MS: u64 = 24 * 3_600_000;

fn delete(w: &mut World, topic: &str, partition: i32) -> Result<ErrorCode, ErrorCode> {
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: partition }];
    let topics = vec![OffsetDeleteRequestTopic { name: topic, partitions }];
    let request = OffsetDeleteRequest { group_id: G, topics };
    w.ask(0, &request, |b, v| {
        let r: OffsetDeleteResponse<'_> = decode(b, v).unwrap();
        match r.error_code {
            ErrorCode::NONE => Ok(r.topics[0].partitions[0].error_code),
            error => {
                assert!(r.topics.is_empty());
                Err(error)
            }
        }
    })
}

fn delete_groups(w: &mut World, ids: &[&str]) -> Vec<(String, ErrorCode, Option<String>)> {
    let request = DeleteGroupsRequest { groups_names: ids.to_vec() };
    w.ask(3, &request, |b, v| {
        let r: DeleteGroupsResponse<'_> = decode(b, v).unwrap();
        let result =
            |d: &DeletableGroupResult<'_>| (d.group_id.to_string(), d.error_code, d.error_message.map(String::from));
        r.results.iter().map(result).collect()
    })
}

#[test]
fn members_commit_in_their_generation_only() {
    let mut w = World::new();
    let id = w.stable(&[Join::default()]).remove(0).id;
    assert_eq!(w.commit(&id, 1, "t", 0, 10), ErrorCode::NONE);
    assert_eq!(w.commit(&id, 0, "t", 0, 11), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(w.commit(&id, -1, "t", 0, 11), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(w.commit("stranger", 1, "t", 0, 11), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.commit("", -1, "t", 0, 11), ErrorCode::UNKNOWN_MEMBER_ID, "nobody else while there are members");
    assert_eq!(w.fetch(G, "t", 0), 10);
}

#[test]
fn commits_are_allowed_until_the_next_generation_begins() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default()]);
    w.join(&Join::default().with_topics(&["u"]).with_id(&members[1].id));
    assert_eq!(w.commit(&members[0].id, 2, "t", 0, 10), ErrorCode::NONE, "what it did before it joins again");
    let joined = w.join_now(&Join::default().with_id(&members[0].id));
    assert_eq!(w.commit(&members[0].id, 2, "t", 0, 11), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(w.commit(&members[0].id, joined.generation, "t", 0, 11), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_commit_keeps_the_session() {
    let mut w = World::new();
    let id = w.stable(&[Join::default()]).remove(0).id;
    for _ in 0..4 {
        w.pass_ms(9_000);
        assert_eq!(w.commit(&id, 1, "t", 0, 10), ErrorCode::NONE);
    }
}

#[test]
fn simple_consumers_commit_without_a_group() {
    let mut w = World::new();
    assert_eq!(w.commit("", -1, "t", 0, 5), ErrorCode::NONE);
    assert_eq!(w.state(), Some(GroupState::Empty));
    assert_eq!(w.commit("", 3, "t", 0, 6), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.commit_to("other", "", 3, "t", 0, 6), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(w.commit_to("", "", -1, "t", 0, 7), ErrorCode::NONE, "even without a name");
    assert_eq!(w.fetch("", "t", 0), 7);
    // A generation that does not exist any more, for clients that know the error.
    let partitions = vec![OffsetCommitRequestPartition::default()];
    let topics = vec![OffsetCommitRequestTopic { name: "t", partitions, ..Default::default() }];
    let request =
        OffsetCommitRequest { group_id: "other", generation_id_or_member_epoch: 3, topics, ..Default::default() };
    let error =
        w.ask(9, &request, |b, v| decode::<OffsetCommitResponse<'_>>(b, v).unwrap().topics[0].partitions[0].error_code);
    assert_eq!(error, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(w.groups.states().count(), 2, "no refused commit begins a group");
}

#[test]
fn what_does_not_exist_is_not_committed() {
    let mut w = World::new();
    for (topic, partition) in [("t", 8), ("t", -1), ("nowhere", 0), ("", 0)] {
        assert_eq!(w.commit("", -1, topic, partition, 5), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    assert_eq!((w.state(), w.given.log.len()), (None, 0));
}

#[test]
fn metadata_too_large_is_refused_for_its_partition_only() {
    let mut w = World::new();
    let fits = "ü".repeat(4096);
    let large = "x".repeat(4097);
    let partition = |partition_index, metadata| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 9,
        committed_metadata: metadata,
        ..Default::default()
    };
    let partitions = vec![partition(0, Some(fits.as_str())), partition(1, Some(large.as_str())), partition(2, None)];
    let topics = vec![OffsetCommitRequestTopic { name: "t", partitions, ..Default::default() }];
    let request = OffsetCommitRequest { group_id: G, topics, ..Default::default() };
    let errors: Vec<ErrorCode> = w.ask(8, &request, |b, v| {
        let r: OffsetCommitResponse<'_> = decode(b, v).unwrap();
        r.topics[0].partitions.iter().map(|p| p.error_code).collect()
    });
    assert_eq!(errors, [ErrorCode::NONE, ErrorCode::OFFSET_METADATA_TOO_LARGE, ErrorCode::NONE]);
    let topics = Some(vec![OffsetFetchRequestTopic { name: "t", partition_indexes: vec![0, 1, 2] }]);
    let request = OffsetFetchRequest { group_id: G, topics, require_stable: true, ..Default::default() };
    w.ask(7, &request, move |b, v| {
        let r: OffsetFetchResponse<'_> = decode(b, v).unwrap();
        let found: Vec<_> = r.topics[0].partitions.iter().map(|p| (p.committed_offset, p.metadata)).collect();
        assert_eq!(found, [(9, Some(fits.as_str())), (-1, Some("")), (9, Some(""))]);
        assert!(r.topics[0].partitions.iter().all(|p| p.error_code.is_none() && p.committed_leader_epoch == -1));
    });
}

#[test]
fn unknown_offsets_are_minus_one_without_an_error() {
    let mut w = World::new();
    assert_eq!(w.fetch("nobody", "t", 0), -1);
    assert_eq!(w.fetch_all("nobody"), []);
    w.commit("", -1, "t", 0, 5);
    assert_eq!(w.fetch(G, "t", 1), -1);
    assert_eq!(w.fetch(G, "nowhere", 1), -1);
}

#[test]
fn several_groups_are_fetched_at_once() {
    let mut w = World::new();
    w.commit_to("a", "", -1, "t", 0, 5);
    w.commit_to("b", "", -1, "u", 3, 6);
    let asked = vec![OffsetFetchRequestTopics { name: "t", partition_indexes: vec![0, 1], ..Default::default() }];
    let groups = vec![
        OffsetFetchRequestGroup { group_id: "a", topics: Some(asked), ..Default::default() },
        OffsetFetchRequestGroup { group_id: "b", topics: None, ..Default::default() },
        OffsetFetchRequestGroup { group_id: "c", topics: None, ..Default::default() },
    ];
    let request = OffsetFetchRequest { groups, ..Default::default() };
    w.ask(8, &request, |b, v| {
        let r: OffsetFetchResponse<'_> = decode(b, v).unwrap();
        let found = |i: usize| -> Vec<(&str, i32, i64, i32)> {
            let topics = r.groups[i].topics.iter();
            let all = topics.flat_map(|t| t.partitions.iter().map(|p| (t.name, p)));
            all.map(|(t, p)| (t, p.partition_index, p.committed_offset, p.committed_leader_epoch)).collect()
        };
        assert_eq!(found(0), [("t", 0, 5, 3), ("t", 1, -1, -1)]);
        assert_eq!(found(1), [("u", 3, 6, 3)]);
        assert_eq!(found(2), []);
    });
}

#[test]
fn topics_are_named_by_id_in_version_10() {
    let mut w = World::new();
    let (known, unknown) = (Uuid([1; 16]), Uuid([9; 16]));
    let partitions = vec![OffsetCommitRequestPartition { committed_offset: 4, ..Default::default() }];
    let topic = |topic_id| OffsetCommitRequestTopic { topic_id, partitions: partitions.clone(), ..Default::default() };
    let request = OffsetCommitRequest { group_id: G, topics: vec![topic(known), topic(unknown)], ..Default::default() };
    w.ask(10, &request, move |b, v| {
        let r: OffsetCommitResponse<'_> = decode(b, v).unwrap();
        let found: Vec<_> = r.topics.iter().map(|t| (t.topic_id, t.partitions[0].error_code)).collect();
        assert_eq!(found, [(known, ErrorCode::NONE), (unknown, ErrorCode::UNKNOWN_TOPIC_ID)]);
    });
    assert_eq!(w.fetch(G, "t", 0), 4);
    let asked = [known, unknown].map(|topic_id| OffsetFetchRequestTopics {
        topic_id,
        partition_indexes: vec![0],
        ..Default::default()
    });
    let group = |topics| OffsetFetchRequestGroup { group_id: G, topics, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group(Some(asked.to_vec())), group(None)], ..Default::default() };
    w.ask(10, &request, move |b, v| {
        let r: OffsetFetchResponse<'_> = decode(b, v).unwrap();
        let found = |i: usize| -> Vec<(Uuid, i64, ErrorCode)> {
            let one = |t: &OffsetFetchResponseTopics<'_>| {
                (t.topic_id, t.partitions[0].committed_offset, t.partitions[0].error_code)
            };
            r.groups[i].topics.iter().map(one).collect()
        };
        assert_eq!(found(0), [(known, 4, ErrorCode::NONE), (unknown, -1, ErrorCode::UNKNOWN_TOPIC_ID)]);
        assert_eq!(found(1), [(known, 4, ErrorCode::NONE)]);
    });
}

#[test]
fn offsets_of_an_empty_group_expire_with_the_group() {
    let mut w = World::new();
    let id = w.stable(&[Join::default()]).remove(0).id;
    w.commit(&id, 1, "t", 0, 5);
    assert_eq!(w.groups.timers(), 1, "only its session");
    w.leave(&[(&id, None)]);
    w.pass_ms(3 * DAY_MS);
    // Retention counts from the moment when the group became empty, whoever commits after it.
    assert_eq!(w.commit("", -1, "t", 1, 6), ErrorCode::NONE);
    w.restart();
    w.pass_ms(4 * DAY_MS - 1);
    assert_eq!(w.fetch_all(G).len(), 2);
    w.pass_ms(1);
    assert_eq!((w.fetch_all(G).len(), w.state(), w.groups.timers(), w.groups.bytes()), (0, None, 0, 0));
    w.restart();
    assert_eq!(w.state(), None);
}

#[test]
fn a_new_member_saves_the_offsets() {
    let mut w = World::new();
    let id = w.stable(&[Join::default()]).remove(0).id;
    w.commit(&id, 1, "t", 0, 5);
    w.leave(&[(&id, None)]);
    w.pass_ms(6 * DAY_MS);
    let id = w.new_id(&Join::default());
    let joined = w.join_now(&Join::default().with_id(&id));
    assert_eq!(w.groups.timers(), 2, "its session and its time to sync; the offsets are safe already");
    let member = w.sync_all(&[joined]).remove(0);
    assert_eq!(w.groups.timers(), 1);
    w.leave(&[(&member.id, None)]);
    w.pass_ms(6 * DAY_MS);
    assert_eq!(w.fetch(G, "t", 0), 5);
}

#[test]
fn offsets_of_simple_consumers_expire_one_by_one() {
    let mut w = World::new();
    w.commit("", -1, "t", 0, 5);
    w.pass_ms(DAY_MS);
    w.commit("", -1, "t", 1, 6);
    w.pass_ms(6 * DAY_MS);
    assert_eq!(w.fetch_all(G), [("t".into(), 1, 6)]);
    // A new commit counts anew.
    w.commit("", -1, "t", 1, 7);
    w.pass_ms(6 * DAY_MS);
    assert_eq!(w.fetch(G, "t", 1), 7);
    w.pass_ms(DAY_MS);
    assert_eq!(w.state(), None);
}

#[test]
fn offsets_of_topics_that_nobody_subscribes_to_any_more_expire() {
    let mut w = World::new();
    let id = w.stable(&[Join::default().with_topics(&["t", "u"])]).remove(0).id;
    w.commit(&id, 1, "t", 0, 5);
    w.commit(&id, 1, "u", 0, 6);
    let joined = w.join_now(&Join { session_ms: 1_800_000, ..Join::default().with_topics(&["t"]).with_id(&id) });
    w.sync_all(&[joined]);
    for _ in 0..7 * 24 * 4 {
        w.pass_ms(15 * 60_000);
        assert_eq!(w.heartbeat(&id, 2), ErrorCode::NONE);
    }
    assert_eq!(w.fetch_all(G), [("t".into(), 0, 5)]);
    assert_eq!(w.groups.timers(), 1);
}

#[test]
fn old_clients_say_how_long_their_offsets_last() {
    let mut w = World::new();
    let partitions = vec![OffsetCommitRequestPartition { committed_offset: 4, ..Default::default() }];
    let topics = vec![OffsetCommitRequestTopic { name: "t", partitions, ..Default::default() }];
    let request = OffsetCommitRequest { group_id: G, retention_time_ms: 5_000, topics, ..Default::default() };
    w.commit("", -1, "t", 1, 5);
    w.ask(4, &request, |_, _| ());
    w.pass_ms(4_999);
    assert_eq!(w.fetch(G, "t", 0), 4);
    w.pass_ms(1);
    assert_eq!((w.fetch(G, "t", 0), w.fetch(G, "t", 1)), (-1, 5));
}

#[test]
fn version_1_gives_the_time_of_the_commit() {
    let mut w = World::new();
    let week_ago = w.wall_ms - 7 * DAY_MS as i64;
    let partition = |partition_index, commit_timestamp| OffsetCommitRequestPartition {
        partition_index,
        commit_timestamp,
        committed_offset: 4,
        ..Default::default()
    };
    let partitions = vec![partition(0, week_ago + 1_000), partition(1, -1)];
    let topics = vec![OffsetCommitRequestTopic { name: "t", partitions, ..Default::default() }];
    w.ask(1, &OffsetCommitRequest { group_id: G, topics, ..Default::default() }, |_, _| ());
    w.pass_ms(1_000);
    assert_eq!((w.fetch(G, "t", 0), w.fetch(G, "t", 1)), (-1, 4));
}

#[test]
fn a_wall_clock_that_goes_back_does_not_spin() {
    let mut w = World::new();
    w.commit("", -1, "t", 0, 5);
    w.wall_ms -= 30 * DAY_MS as i64;
    w.pass_ms(7 * DAY_MS);
    assert_eq!(w.fetch(G, "t", 0), 5);
    assert!(w.groups.deadline_us().unwrap() > w.mono_us + DAY_MS * 1000);
}

#[test]
fn an_empty_group_without_offsets_ends_after_a_while() {
    let mut w = World::new();
    let id = w.stable(&[Join::default()]).remove(0).id;
    w.leave(&[(&id, None)]);
    w.pass_ms(599_999);
    assert_eq!(w.state(), Some(GroupState::Empty));
    let pending = w.new_id(&Join::default());
    w.pass_ms(2);
    assert_eq!(w.state(), Some(GroupState::Empty), "somebody is about to join");
    w.leave(&[(&pending, None)]);
    assert_eq!((w.state(), w.groups.timers()), (None, 0));
    w.restart();
    assert_eq!(w.state(), None);
}

#[test]
fn a_first_offset_gives_an_empty_group_its_full_time() {
    let mut w = World::new();
    let id = w.stable(&[Join::default()]).remove(0).id;
    w.leave(&[(&id, None)]);
    w.commit("", -1, "t", 0, 5);
    assert_eq!(w.groups.deadline_us(), Some(w.mono_us + 7 * DAY_MS * 1000));
}

fn delete_topics(w: &mut World, names: &[&str]) {
    for name in names {
        w.topics.0.remove(*name);
    }
    let names = names.iter().map(|name| name.to_string()).collect();
    w.with_ctx(|groups, ctx| groups.topics_deleted(ctx, &names));
}

#[test]
fn offsets_go_with_all_topics_of_a_request_in_one_look_at_each_group() {
    let mut w = World::new();
    for (number, topic) in ["w", "x"].into_iter().enumerate() {
        w.topics.0.insert(topic.into(), (Uuid([50 + number as u8; 16]), 1));
    }
    let id = w.stable(&[Join::default()]).remove(0).id;
    for topic in ["t", "u", "v", "w"] {
        w.commit(&id, 1, topic, 0, 5);
    }
    for group in ["one", "other"] {
        w.commit_to(group, "", -1, if group == "one" { "t" } else { "x" }, 0, 7);
    }
    // Fewer than one group has, and more than the others have.
    delete_topics(&mut w, &["t", "u", "never"]);
    assert_eq!(w.fetch_all(G), [("v".into(), 0, 5), ("w".into(), 0, 5)]);
    assert_eq!(w.fetch_all("other"), [("x".into(), 0, 7)]);
    assert_eq!(w.groups.states().count(), 2, "one had nothing else");
    delete_topics(&mut w, &["v", "w", "x", "y", "z"]);
    w.restart();
    assert_eq!(w.groups.lag().count(), 0);
}

#[test]
fn offsets_go_with_their_topic() {
    let mut w = World::new();
    let id = w.stable(&[Join::default()]).remove(0).id;
    w.commit(&id, 1, "t", 0, 5);
    w.commit(&id, 1, "t", 1, 5);
    w.commit(&id, 1, "u", 0, 6);
    w.commit_to("simple", "", -1, "t", 0, 7);
    delete_topics(&mut w, &["t"]);
    assert_eq!(w.fetch_all(G), [("u".into(), 0, 6)]);
    assert_eq!(w.groups.states().count(), 1, "the simple group had nothing else");
    w.restart();
    assert_eq!(w.fetch_all(G), [("u".into(), 0, 6)]);
    let lag: Vec<_> = w.groups.lag().map(|c| (c.group, c.topic, c.partition, c.offset)).collect();
    assert_eq!(lag, [(G, "u", 0, 6)]);
}

#[test]
fn offsets_of_topics_in_use_are_not_deleted() {
    let mut w = World::new();
    assert_eq!(delete(&mut w, "t", 0), Err(ErrorCode::GROUP_ID_NOT_FOUND));
    let id = w.stable(&[Join::default()]).remove(0).id;
    w.commit(&id, 1, "t", 0, 5);
    w.commit(&id, 1, "u", 0, 5);
    assert_eq!(delete(&mut w, "t", 0), Ok(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));
    assert_eq!(delete(&mut w, "u", 0), Ok(ErrorCode::NONE));
    assert_eq!(delete(&mut w, "u", 8), Ok(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(delete(&mut w, "nowhere", 0), Ok(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(w.fetch_all(G), [("t".into(), 0, 5)]);
    w.leave(&[(&id, None)]);
    assert_eq!(delete(&mut w, "t", 0), Ok(ErrorCode::NONE));
    assert_eq!(w.fetch_all(G), []);
}

#[test]
fn offsets_of_members_that_are_not_consumers_are_not_deleted() {
    let mut w = World::new();
    w.stable(&[Join { protocol_type: "connect".into(), ..Default::default() }]);
    assert_eq!(delete(&mut w, "u", 0), Err(ErrorCode::NON_EMPTY_GROUP));
    // Consumers whose metadata can't be read may be subscribed to anything.
    let mut w = World::new();
    w.stable(&[Join { protocols: vec![("range".into(), b"?".to_vec())], ..Default::default() }]);
    assert_eq!(delete(&mut w, "u", 0), Ok(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));
}

#[test]
fn groups_with_members_are_not_deleted() {
    let mut w = World::new();
    let id = w.stable(&[Join::default()]).remove(0).id;
    w.commit(&id, 1, "t", 0, 5);
    let message = |e: ErrorCode| Some(e.message().to_string());
    let (busy, missing) = (ErrorCode::NON_EMPTY_GROUP, ErrorCode::GROUP_ID_NOT_FOUND);
    let expected = [(G.to_string(), busy, message(busy)), ("nobody".to_string(), missing, message(missing))];
    assert_eq!(delete_groups(&mut w, &[G, "nobody", G]), expected);
    w.leave(&[(&id, None)]);
    let pending = w.new_id(&Join::default());
    assert_eq!(delete_groups(&mut w, &[G]), [(G.to_string(), ErrorCode::NONE, None)]);
    assert_eq!((w.fetch(G, "t", 0), w.state(), w.groups.timers(), w.groups.bytes()), (-1, None, 0, 0));
    assert_eq!(w.join_now(&Join::default().with_id(&pending)).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn many_offsets_expire_in_bounded_pieces() {
    let mut w = World::new();
    for i in 0..600 {
        w.topics.0.insert(format!("topic{i}"), (Uuid([100; 16]), 10));
    }
    for i in 0..600 {
        for p in 0..10 {
            w.commit("", -1, &format!("topic{i}"), p, 1);
        }
    }
    w.mono_us += 8 * DAY_MS * 1000;
    w.wall_ms += 8 * DAY_MS as i64;
    let before = w.given.log.len();
    w.with_ctx(|groups, ctx| groups.expire(ctx));
    assert_eq!(w.given.log.len() - before, 2000);
    w.expire();
    assert_eq!((w.given.log.len() - before, w.state(), w.groups.bytes()), (6000, None, 0));
}
