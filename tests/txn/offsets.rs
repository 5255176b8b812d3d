//! Owns the tests of offsets in transactions: pending until the end, and what becomes of them.

use super::*;

fn started() -> (Harness, Producer) {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 2);
    let producer = Producer::init(&mut h, "x", NEW);
    (h, producer)
}

/// OffsetCommit by nobody in particular.
fn commit(h: &mut Harness, group_id: &str, partition: i32, offset: i64) -> ErrorCode {
    let partition =
        OffsetCommitRequestPartition { partition_index: partition, committed_offset: offset, ..Default::default() };
    let request = OffsetCommitRequest {
        group_id,
        topics: vec![OffsetCommitRequestTopic { name: "t", partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    };
    let answer = h.call(8, &request);
    let response: OffsetCommitResponse<'_> = answer.decode();
    response.topics[0].partitions[0].error_code
}

fn offset(h: &mut Harness, partition: i32) -> i64 {
    committed_offset(h, "g", "t", partition, false).1
}

#[test]
fn offsets_are_the_groups_when_the_transaction_commits_and_not_before() {
    let (mut h, mut producer) = started();
    commit(&mut h, "g", 0, 3);
    producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    producer.commit_offset(&mut h, "g", "t", 1, 6).unwrap();
    assert_eq!((offset(&mut h, 0), offset(&mut h, 1)), (3, -1));
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    assert_eq!((offset(&mut h, 0), offset(&mut h, 1)), (5, 6));
}

#[test]
fn offsets_of_an_aborted_transaction_are_forgotten() {
    let (mut h, mut producer) = started();
    commit(&mut h, "g", 0, 3);
    producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    producer.end(&mut h, false);
    assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, 3));
}

#[test]
fn who_asks_for_stable_offsets_is_told_to_wait() {
    let (mut h, mut producer) = started();
    commit(&mut h, "g", 0, 3);
    commit(&mut h, "g", 1, 4);
    producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    let unstable = (ErrorCode::UNSTABLE_OFFSET_COMMIT, -1);
    assert_eq!(committed_offset(&mut h, "g", "t", 0, true), unstable);
    assert_eq!(committed_offset(&mut h, "g", "t", 1, true), (ErrorCode::NONE, 4));
    // The same in the older layout, and for all offsets at once.
    let topic = OffsetFetchRequestTopic { name: "t", partition_indexes: vec![0, 1] };
    for topics in [Some(vec![topic]), None] {
        let request = OffsetFetchRequest { group_id: "g", topics, require_stable: true, ..Default::default() };
        let answer = h.call(7, &request);
        let response: OffsetFetchResponse<'_> = answer.decode();
        let errors = response.topics[0].partitions.iter().map(|p| p.error_code);
        assert_eq!(errors.collect::<Vec<_>>(), [ErrorCode::UNSTABLE_OFFSET_COMMIT, ErrorCode::NONE]);
    }
    producer.end(&mut h, true);
    assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, 5));
}

#[test]
fn of_two_commits_the_later_one_counts_whichever_ends_first() {
    let (mut h, mut a) = started();
    let mut b = Producer::init(&mut h, "y", NEW);
    // A plain commit after the transaction's.
    a.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    commit(&mut h, "g", 0, 9);
    a.end(&mut h, true);
    assert_eq!(offset(&mut h, 0), 9);
    // Two transactions, the later one ends first; with a restart in between, too.
    for restart in [false, true] {
        a.commit_offset(&mut h, "g", "t", 0, 10).unwrap();
        b.commit_offset(&mut h, "g", "t", 0, 20).unwrap();
        if restart {
            h.checkpoint();
        }
        b.end(&mut h, true);
        a.end(&mut h, true);
        assert_eq!(offset(&mut h, 0), 20);
    }
    // The later one aborts.
    a.commit_offset(&mut h, "g", "t", 0, 30).unwrap();
    b.commit_offset(&mut h, "g", "t", 0, 40).unwrap();
    b.end(&mut h, false);
    a.end(&mut h, true);
    assert_eq!(offset(&mut h, 0), 30);
}

#[test]
fn several_groups_and_partitions_end_in_one_group_of_the_log() {
    let (mut h, mut producer) = started();
    for group in ["g", "h"] {
        for partition in [0, 1] {
            producer.commit_offset(&mut h, group, "t", partition, 7).unwrap();
        }
    }
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    producer.send(&mut h, "t", 1, &["b"]).unwrap();
    let before = h.log.groups.len();
    producer.end(&mut h, true);
    assert_eq!(h.log.groups.len(), before + 1);
    let last = h.log.groups.last_key_value().unwrap().1;
    // The id, and for each offset its removal from the pending ones and its commit; the markers.
    assert_eq!((last.meta.len(), last.runs.len()), (1 + 4 * 2, 2));
}

#[test]
fn unknown_topics_and_too_long_metadata_are_refused_one_by_one() {
    let (mut h, producer) = started();
    for version in 0..=5 {
        let producer = Producer { protocol: NEW, ..producer.clone() };
        assert_eq!(add_group(&mut h, 4, &producer, "g"), ErrorCode::NONE);
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(txn_commit(&mut h, version, &producer, "g", "nowhere", 0, 1), unknown);
        assert_eq!(txn_commit(&mut h, version, &producer, "g", "t", 2, 1), unknown);
        let long = "m".repeat(4097);
        let mut request = txn_commit_request(&producer, "g", "t", 0, 1);
        request.topics[0].partitions[0].committed_metadata = Some(&long);
        let answer = h.call(version, &request);
        let response: TxnOffsetCommitResponse<'_> = answer.decode();
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    assert_eq!(txn_commit(&mut h, 5, &producer, "", "t", 0, 1), ErrorCode::INVALID_GROUP_ID);
}

#[test]
fn members_are_checked_as_kafka_does_for_transactions() {
    let (mut h, producer) = started();
    // Nobody in particular may commit to a group that is not there; a member may not.
    assert_eq!(txn_commit(&mut h, 5, &producer, "new", "t", 0, 1), ErrorCode::NONE);
    let with = |h: &mut Harness, generation, member_id: &str| {
        let mut request = txn_commit_request(&producer, "g", "t", 0, 1);
        (request.generation_id_or_member_epoch, request.member_id) = (generation, member_id);
        let answer = h.call(5, &request);
        answer.decode::<TxnOffsetCommitResponse<'_>>().topics[0].partitions[0].error_code
    };
    assert_eq!(with(&mut h, 0, "m"), ErrorCode::ILLEGAL_GENERATION);
    let member = join(&mut h, "g");
    assert_eq!(with(&mut h, 1, &member), ErrorCode::NONE);
    assert_eq!(with(&mut h, 2, &member), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(with(&mut h, 1, "stranger"), ErrorCode::UNKNOWN_MEMBER_ID);
    // Versions that name no member are let in also while there are members.
    assert_eq!(with(&mut h, -1, ""), ErrorCode::NONE);
}

/// Joins a group as its only member and gets an assignment: generation 1.
fn join(h: &mut Harness, group_id: &str) -> String {
    let protocols = || vec![JoinGroupRequestProtocol { name: "range", metadata: &[] }];
    let request = |member_id| JoinGroupRequest {
        group_id,
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id,
        protocol_type: "consumer",
        protocols: protocols(),
        ..Default::default()
    };
    let answer = h.call(4, &request(""));
    let member = answer.decode::<JoinGroupResponse<'_>>().member_id.to_owned();
    let conn = h.connect();
    h.send(conn, 4, &request(&member));
    h.pass_ms(0);
    h.settle();
    let answer = h.take_answers().remove(0);
    let joined: JoinGroupResponse<'_> = answer.decode();
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1));
    let assignments = vec![SyncGroupRequestAssignment { member_id: &member, assignment: &[] }];
    let sync = SyncGroupRequest { group_id, generation_id: 1, member_id: &member, assignments, ..Default::default() };
    assert_eq!(h.call(3, &sync).decode::<SyncGroupResponse<'_>>().error_code, ErrorCode::NONE);
    member
}

#[test]
fn a_group_that_is_deleted_takes_pending_offsets_with_it() {
    let (mut h, mut producer) = started();
    producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    let answer = h.call(2, &DeleteGroupsRequest { groups_names: vec!["g"] });
    assert_eq!(answer.decode::<DeleteGroupsResponse<'_>>().results[0].error_code, ErrorCode::NONE);
    h.restart();
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(offset(&mut h, 0), -1);
}

#[test]
fn an_offset_that_is_deleted_takes_the_pending_one_with_it() {
    let (mut h, mut producer) = started();
    producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    producer.commit_offset(&mut h, "g", "t", 1, 6).unwrap();
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
    let topics = vec![OffsetDeleteRequestTopic { name: "t", partitions }];
    let answer = h.call(0, &OffsetDeleteRequest { group_id: "g", topics });
    assert_eq!(answer.decode::<OffsetDeleteResponse<'_>>().error_code, ErrorCode::NONE);
    producer.end(&mut h, true);
    assert_eq!((offset(&mut h, 0), offset(&mut h, 1)), (-1, 6));
}

#[test]
fn a_topic_that_is_deleted_takes_pending_offsets_with_it() {
    let (mut h, mut producer) = started();
    producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    delete_topic(&mut h, "t");
    create_topic(&mut h, "t", 2);
    producer.end(&mut h, true);
    assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, -1));
}

#[test]
fn a_group_and_its_offsets_do_not_expire_while_a_transaction_holds_them() {
    let (mut h, _) = started();
    let day_ms = 24 * 3_600_000;
    let config = chronik::config::Config {
        offsets_retention_ms: 1000,
        transaction_max_timeout_ms: 8 * day_ms,
        ..Default::default()
    };
    h.restart_with(config);
    let (_, id, epoch) = init_with_timeout(&mut h, 5, "x", None, 7 * day_ms as i32);
    let transactional_id = "x".to_owned();
    let mut producer = Producer { transactional_id, protocol: NEW, id, epoch, sequences: BTreeMap::new() };
    commit(&mut h, "g", 0, 1);
    commit(&mut h, "g", 1, 2);
    producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
    h.pass_ms(10_000);
    h.settle();
    assert_eq!((offset(&mut h, 0), offset(&mut h, 1)), (1, -1));
    producer.end(&mut h, true);
    assert_eq!(offset(&mut h, 0), 5);
    h.pass_ms(10_000);
    h.settle();
    assert_eq!(offset(&mut h, 0), -1);
}

#[test]
fn pending_offsets_survive_a_restart() {
    for checkpoint in [false, true] {
        let (mut h, mut producer) = started();
        producer.commit_offset(&mut h, "g", "t", 0, 5).unwrap();
        if checkpoint {
            h.checkpoint();
        } else {
            h.restart();
        }
        let unstable = (ErrorCode::UNSTABLE_OFFSET_COMMIT, -1);
        assert_eq!(committed_offset(&mut h, "g", "t", 0, true), unstable);
        assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
        assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, 5));
    }
}

#[test]
fn offsets_beyond_what_one_group_of_the_log_takes_are_refused() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 2000);
    let producer = Producer::init(&mut h, "x", NEW);
    let metadata = "m".repeat(4096);
    let partitions = (0..2000).map(|partition_index| TxnOffsetCommitRequestPartition {
        partition_index,
        committed_metadata: Some(&metadata),
        ..Default::default()
    });
    let mut request = txn_commit_request(&producer, "g", "t", 0, 1);
    request.topics[0].partitions = partitions.collect();
    let answer = h.call(5, &request);
    let response: TxnOffsetCommitResponse<'_> = answer.decode();
    let errors = response.topics[0].partitions.iter().map(|p| p.error_code);
    let refused = errors.clone().filter(|error| *error == ErrorCode::INVALID_COMMIT_OFFSET_SIZE).count();
    let taken = errors.filter(|error| error.is_none()).count();
    assert_eq!(refused + taken, 2000);
    assert!(taken > 100 && refused > 100, "{taken} taken");
    let before = h.log.groups.len();
    assert_eq!(end(&mut h, 5, &producer, true).0, ErrorCode::NONE);
    assert_eq!(h.log.groups.len(), before + 1);
    assert_eq!(h.log.groups.last_key_value().unwrap().1.meta.len(), 1 + 2 * taken);
}
