//! Owns the tests that each version of each API works, and those of describing, listing and finding.

use super::*;

#[test]
fn every_join_and_sync_version_makes_a_group() {
    for version in 0..=9i16 {
        let mut w = World::new();
        let joins = vec![Join::default().with_version(version); 2];
        let members = w.stable(&joins);
        assert_eq!((members.len(), members[0].generation), (2, 2), "JoinGroup version {version}");
        for sync_version in 0..=5i16 {
            let request = SyncGroupRequest {
                group_id: G,
                generation_id: 2,
                member_id: &members[1].id,
                protocol_type: Some("consumer"),
                protocol_name: Some("range"),
                ..Default::default()
            };
            let assignment = members[1].assignment.clone();
            w.ask(sync_version, &request, move |b, v| {
                let r: SyncGroupResponse<'_> = decode(b, v).unwrap();
                assert_eq!((r.error_code, r.assignment), (ErrorCode::NONE, &assignment[..]));
                let named = (v >= 5).then_some(("consumer", "range"));
                assert_eq!(r.protocol_type.zip(r.protocol_name), named);
            });
        }
    }
}

#[test]
fn every_version_of_heartbeat_leave_commit_and_fetch_works() {
    let mut w = World::new();
    let mut members = w.stable(&vec![Join::default(); 6]);
    for version in 0..=4 {
        let request =
            HeartbeatRequest { group_id: G, generation_id: 2, member_id: &members[0].id, ..Default::default() };
        let error = w.ask(version, &request, |b, v| error_of(b, v, |r: &HeartbeatResponse| r.error_code));
        assert_eq!(error, ErrorCode::NONE);
    }
    for version in 1..=10 {
        let partitions = vec![OffsetCommitRequestPartition { committed_offset: version as i64, ..Default::default() }];
        let topic = OffsetCommitRequestTopic { name: "t", topic_id: Uuid([1; 16]), partitions };
        let request = OffsetCommitRequest {
            group_id: G,
            generation_id_or_member_epoch: 2,
            member_id: &members[0].id,
            topics: vec![topic],
            ..Default::default()
        };
        w.ask(version, &request, |b, v| {
            let r: OffsetCommitResponse<'_> = decode(b, v).unwrap();
            assert_eq!(r.topics[0].partitions[0].error_code, ErrorCode::NONE);
            assert_eq!(r.topics[0].name, if v < 10 { "t" } else { "" });
        });
        assert_eq!(w.fetch(G, "t", 0), version as i64);
    }
    for version in 0..=10 {
        let topics = vec![OffsetFetchRequestTopic { name: "t", partition_indexes: vec![0] }];
        let by_id = vec![OffsetFetchRequestTopics { name: "t", topic_id: Uuid([1; 16]), partition_indexes: vec![0] }];
        let group = OffsetFetchRequestGroup { group_id: G, topics: Some(by_id), ..Default::default() };
        let request =
            OffsetFetchRequest { group_id: G, topics: Some(topics), groups: vec![group], require_stable: true };
        let offset = w.ask(version, &request, |b, v| {
            let r: OffsetFetchResponse<'_> = decode(b, v).unwrap();
            match v {
                ..=7 => r.topics[0].partitions[0].committed_offset,
                _ => r.groups[0].topics[0].partitions[0].committed_offset,
            }
        });
        assert_eq!(offset, 10, "OffsetFetch version {version}");
    }
    for version in 0..=5 {
        let gone = members.pop().unwrap();
        let request = LeaveGroupRequest {
            group_id: G,
            member_id: &gone.id,
            members: vec![MemberIdentity { member_id: &gone.id, ..Default::default() }],
        };
        w.ask(version, &request, |b, v| {
            let r: LeaveGroupResponse<'_> = decode(b, v).unwrap();
            assert!(r.error_code.is_none() && r.members.iter().all(|m| m.error_code.is_none()));
        });
        assert_eq!(w.size(), members.len());
    }
}

#[test]
fn a_version_0_commit_knows_no_member() {
    let mut w = World::new();
    let partitions = vec![OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() }];
    let topics = vec![OffsetCommitRequestTopic { name: "t", partitions, ..Default::default() }];
    let request = OffsetCommitRequest { group_id: G, topics, ..Default::default() };
    let error = |w: &mut World| {
        w.ask(0, &request, |b, v| decode::<OffsetCommitResponse<'_>>(b, v).unwrap().topics[0].partitions[0].error_code)
    };
    assert_eq!(error(&mut w), ErrorCode::NONE);
    assert_eq!(w.fetch(G, "t", 0), 1);
    w.stable(&[Join::default()]);
    assert_eq!(error(&mut w), ErrorCode::UNKNOWN_MEMBER_ID);
}

fn list(w: &mut World, version: i16, states: &[&str], types: &[&str]) -> Vec<(String, String, String, String)> {
    let request = ListGroupsRequest { states_filter: states.to_vec(), types_filter: types.to_vec() };
    w.ask(version, &request, |b, v| {
        let r: ListGroupsResponse<'_> = decode(b, v).unwrap();
        assert_eq!(r.error_code, ErrorCode::NONE);
        let all = r.groups.iter().map(|g| {
            (g.group_id.to_string(), g.protocol_type.to_string(), g.group_state.to_string(), g.group_type.to_string())
        });
        all.collect()
    })
}

#[test]
fn groups_are_listed() {
    // A known failure of others: ListGroups is empty.
    let mut w = World::new();
    assert_eq!(list(&mut w, 5, &[], &[]), []);
    w.stable(&[Join::default()]);
    w.commit_to("simple", "", -1, "t", 0, 7);
    let row = |id: &str, kind: &str, state: &str, of: &str| (id.into(), kind.into(), state.into(), of.into());
    let stable = row(G, "consumer", "Stable", "classic");
    let simple = row("simple", "", "Empty", "classic");
    assert_eq!(list(&mut w, 5, &[], &[]), [stable.clone(), simple.clone()]);
    assert_eq!(list(&mut w, 5, &["STABLE", "dead"], &["Classic"]), [stable]);
    assert_eq!(list(&mut w, 5, &["empty"], &[]), [simple]);
    assert_eq!(list(&mut w, 5, &[], &["consumer"]), []);
    for version in 0..=3 {
        assert_eq!(list(&mut w, version, &["Dead"], &[])[0], row(G, "consumer", "", ""));
    }
    assert_eq!(list(&mut w, 4, &["Dead"], &["consumer"]), []);
}

#[test]
fn groups_are_described() {
    let mut w = World::new();
    let members = w.stable(&[Join::default(), Join::default().with_instance("b")]);
    for version in 0..=6 {
        let request = DescribeGroupsRequest { groups: vec![G, "nobody"], include_authorized_operations: version == 6 };
        let ids: Vec<String> = members.iter().map(|m| m.id.clone()).collect();
        w.ask(version, &request, move |b, v| {
            let r: DescribeGroupsResponse<'_> = decode(b, v).unwrap();
            let g = &r.groups[0];
            assert_eq!(
                (g.group_id, g.group_state, g.protocol_type, g.protocol_data),
                (G, "Stable", "consumer", "range")
            );
            assert_eq!((g.error_code, g.members.len()), (ErrorCode::NONE, 2));
            assert_eq!(g.authorized_operations, if v == 6 { 3400 } else { i32::MIN });
            for m in &g.members {
                assert!(ids.iter().any(|id| id == m.member_id));
                assert_eq!((m.client_id, m.client_host), ("client", "/127.0.0.1"));
                assert_eq!(m.member_metadata, subscription(&["t"]));
                assert_eq!(m.member_assignment, m.member_id.as_bytes());
                let instance = (v >= 4 && m.member_id.starts_with("b-")).then_some("b");
                assert_eq!(m.group_instance_id, instance);
            }
            let missing = &r.groups[1];
            assert_eq!((missing.group_state, missing.authorized_operations), ("Dead", i32::MIN));
            let error = if v >= 6 { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE };
            assert_eq!(missing.error_code, error);
            assert_eq!(missing.error_message, (v >= 6).then_some("Group nobody not found."));
        });
    }
    // While it rebalances, there is no protocol to speak of. What members own they own until they get something else.
    w.join(&Join::default().with_topics(&["u"]).with_id(&members[1].id));
    w.leave(&[(&members[0].id, None)]);
    let request = DescribeGroupsRequest { groups: vec![G], ..Default::default() };
    w.ask(5, &request, |b, v| {
        let r: DescribeGroupsResponse<'_> = decode(b, v).unwrap();
        let g = &r.groups[0];
        assert!(g.protocol_data.is_empty() && g.group_state.ends_with("Rebalance"), "{g:?}");
        assert!(g.members.iter().all(|m| m.member_metadata.is_empty()));
    });
}

#[test]
fn this_broker_coordinates_every_group() {
    let mut w = World::new();
    for version in 0..=6 {
        let request = FindCoordinatorRequest { key: G, key_type: 0, coordinator_keys: vec![G, "h"] };
        w.ask(version, &request, |b, v| {
            let r: FindCoordinatorResponse<'_> = decode(b, v).unwrap();
            let found: Vec<_> = match v {
                ..=3 => vec![(r.error_code, r.node_id, r.host, r.port)],
                _ => r.coordinators.iter().map(|c| (c.error_code, c.node_id, c.host, c.port)).collect(),
            };
            let expected = vec![(ErrorCode::NONE, 1, "broker.example", 9092); if v < 4 { 1 } else { 2 }];
            assert_eq!(found, expected);
            let keys: Vec<&str> = r.coordinators.iter().map(|c| c.key).collect();
            assert_eq!(keys, if v < 4 { vec![] } else { vec![G, "h"] });
        });
        for key_type in [3, -1] {
            if version == 0 {
                continue;
            }
            let request = FindCoordinatorRequest { key: "id", key_type, coordinator_keys: vec!["id"] };
            w.ask(version, &request, |b, v| {
                let r: FindCoordinatorResponse<'_> = decode(b, v).unwrap();
                let (error, message, node) = match v {
                    ..=3 => (r.error_code, r.error_message, r.node_id),
                    _ => (r.coordinators[0].error_code, r.coordinators[0].error_message, r.coordinators[0].node_id),
                };
                assert_eq!((error, node), (ErrorCode::INVALID_REQUEST, -1));
                assert!(message.unwrap().ends_with('.'));
            });
        }
    }
}
