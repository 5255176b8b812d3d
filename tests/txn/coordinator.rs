//! Owns the tests of the coordinator's rules, one each, for clients before and after KIP-890.

use super::*;

fn both(test: impl Fn(&mut Harness, Protocol)) {
    for protocol in [CLASSIC, NEW] {
        let mut h = Harness::new();
        create_topic(&mut h, "t", 2);
        test(&mut h, protocol);
    }
}

#[test]
fn a_transaction_over_two_partitions_is_committed_whole() {
    both(|h, protocol| {
        let mut producer = Producer::init(h, "x", protocol);
        assert_eq!(producer.send(h, "t", 0, &["a", "b"]), Ok(0));
        assert_eq!(producer.send(h, "t", 1, &["c"]), Ok(0));
        assert_eq!(committed(h, "t", 0), [] as [&str; 0]);
        assert_eq!(producer.end(h, true), ErrorCode::NONE);
        assert_eq!(committed(h, "t", 0), ["a", "b"]);
        assert_eq!(committed(h, "t", 1), ["c"]);
        assert_eq!((markers(h, "t", 0), markers(h, "t", 1)), (vec![(2, true)], vec![(1, true)]));
        assert_eq!(described(h, "x").1, "CompleteCommit");
    });
}

#[test]
fn an_aborted_transaction_is_never_shown_to_readers_of_committed_records() {
    both(|h, protocol| {
        let mut producer = Producer::init(h, "x", protocol);
        producer.send(h, "t", 0, &["a"]).unwrap();
        assert_eq!(producer.end(h, false), ErrorCode::NONE);
        producer.send(h, "t", 0, &["b"]).unwrap();
        assert_eq!(producer.end(h, true), ErrorCode::NONE);
        assert_eq!(committed(h, "t", 0), ["b"]);
        let (all, _) = fetch(h, "t", 0, 0, 0);
        assert_eq!(all.data, [(0, "a".to_owned()), (2, "b".to_owned())]);
        assert_eq!(all.markers, [(1, false), (3, true)]);
    });
}

#[test]
fn every_version_of_every_api_takes_part_in_a_transaction() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let mut expected = Vec::new();
    for version in 0..=5 {
        let protocol = Protocol {
            produce: [3, 5, 7, 9, 10, 11][version as usize],
            add_partitions: version,
            add_offsets: version.min(4),
            offset_commit: version.min(4),
            end: version.min(4),
        };
        let (error, id, epoch) = init(&mut h, version, "x", None);
        assert_eq!(error, ErrorCode::NONE);
        let mut producer = Producer { transactional_id: "x".into(), protocol, id, epoch, sequences: BTreeMap::new() };
        let value = format!("v{version}");
        producer.send(&mut h, "t", 0, &[&value]).unwrap();
        producer.commit_offset(&mut h, "g", "t", 0, i64::from(version)).unwrap();
        assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
        expected.push(value);
        assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, i64::from(version)));
    }
    assert_eq!(committed(&mut h, "t", 0), expected);
}

#[test]
fn what_was_not_added_is_refused_as_each_version_knows_it() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let producer = Producer::init(&mut h, "x", CLASSIC);
    for (version, error) in [
        (3, ErrorCode::INVALID_TXN_STATE),
        (9, ErrorCode::INVALID_TXN_STATE),
        (10, ErrorCode::INVALID_TXN_STATE),
        (11, ErrorCode::TRANSACTION_ABORTABLE),
    ] {
        let batch = batch(Some((producer.id, producer.epoch, 0)), true, &["a"]);
        assert_eq!(produce(&mut h, version, Some("x"), "t", 0, &batch), Err(error), "version {version}");
    }
    for (version, error) in [(3, ErrorCode::INVALID_TXN_STATE), (4, ErrorCode::TRANSACTION_ABORTABLE)] {
        assert_eq!(txn_commit(&mut h, version, &producer, "g", "t", 0, 1), error);
    }
    assert_eq!(ends(&mut h, "t", 0), (0, 0));
}

#[test]
fn a_late_batch_does_not_begin_a_transaction_that_nobody_ends() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let mut producer = Producer::init(&mut h, "x", CLASSIC);
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(producer.send_only(&mut h, "t", 0, &["late"]), Err(ErrorCode::INVALID_TXN_STATE));
    let mut producer = Producer::init(&mut h, "y", NEW);
    producer.send(&mut h, "t", 0, &["b"]).unwrap();
    let mut zombie = producer.clone();
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(zombie.send_only(&mut h, "t", 0, &["late"]), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    assert_eq!(committed(&mut h, "t", 0), ["a", "b"]);
    assert_eq!(ends(&mut h, "t", 0), (4, 4));
}

#[test]
fn transactional_batches_need_a_transactional_id_and_one_producer() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 2);
    let producer = Producer::init(&mut h, "x", NEW);
    let good = batch(Some((producer.id, producer.epoch, 0)), true, &["a"]);
    assert_eq!(produce(&mut h, 12, None, "t", 0, &good), Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
    assert_eq!(produce(&mut h, 12, Some("unknown"), "t", 0, &good), Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));
    let other = batch(Some((producer.id + 1, producer.epoch, 0)), true, &["a"]);
    let data = [(0, &good), (1, &other)];
    let partition_data = data.map(|(index, batch)| PartitionProduceData { index, records: RecordSet::Bytes(batch) });
    let topic_data = vec![TopicProduceData { name: "t", partition_data: partition_data.into(), ..Default::default() }];
    let request = ProduceRequest { transactional_id: Some("x"), acks: -1, timeout_ms: 1000, topic_data };
    let answer = h.call(12, &request);
    let response: ProduceResponse<'_> = answer.decode();
    let errors = response.responses[0].partition_responses.iter().map(|part| part.error_code);
    assert_eq!(errors.collect::<Vec<_>>(), [ErrorCode::INVALID_PRODUCER_ID_MAPPING; 2]);
    // A transactional producer may write plain batches too, but not while its transaction is open in the partition.
    let plain = batch(Some((producer.id, producer.epoch, 0)), false, &["plain"]);
    assert_eq!(produce(&mut h, 12, Some("x"), "t", 0, &plain), Ok(0));
    let second = batch(Some((producer.id, producer.epoch, 1)), true, &["a"]);
    assert_eq!(produce(&mut h, 12, Some("x"), "t", 0, &second), Ok(1));
    let third = batch(Some((producer.id, producer.epoch, 2)), false, &["plain"]);
    assert_eq!(produce(&mut h, 12, Some("x"), "t", 0, &third), Err(ErrorCode::INVALID_TXN_STATE));
}

#[test]
fn the_new_protocol_wants_the_first_sequence_number_of_a_producer_to_be_zero() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let producer = Producer::init(&mut h, "x", NEW);
    let batch = batch(Some((producer.id, producer.epoch, 5)), true, &["a"]);
    assert_eq!(produce(&mut h, 12, Some("x"), "t", 0, &batch), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(described(&mut h, "x").1, "Empty");
}

#[test]
fn partitions_are_added_all_or_none() {
    both(|h, protocol| {
        let producer = Producer::init(h, "x", protocol);
        let wanted = [("t", 0), ("nowhere", 0), ("t", 9)];
        let errors = add_partitions(h, protocol.add_partitions, &producer, &wanted, false);
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(errors, [ErrorCode::OPERATION_NOT_ATTEMPTED, unknown, unknown]);
        assert_eq!(described(h, "x").1, "Empty");
    });
}

#[test]
fn brokers_may_ask_whether_a_partition_is_part_of_a_transaction() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 2);
    let producer = Producer::init(&mut h, "x", NEW);
    let verify = |h: &mut Harness, producer: &Producer| add_partitions(h, 4, producer, &[("t", 0), ("t", 1)], true);
    assert_eq!(verify(&mut h, &producer), [ErrorCode::TRANSACTION_ABORTABLE; 2]);
    assert_eq!(add_partition(&mut h, 5, &producer, "t", 0), ErrorCode::NONE);
    assert_eq!(verify(&mut h, &producer), [ErrorCode::NONE, ErrorCode::TRANSACTION_ABORTABLE]);
    let stranger = Producer { epoch: producer.epoch + 1, ..producer.clone() };
    assert_eq!(verify(&mut h, &stranger), [ErrorCode::PRODUCER_FENCED; 2]);
    let stranger = Producer { id: producer.id + 1, ..producer };
    assert_eq!(verify(&mut h, &stranger), [ErrorCode::INVALID_PRODUCER_ID_MAPPING; 2]);
}

#[test]
fn ending_twice_is_answered_as_kafka_does_before_kip_890() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let mut producer = Producer::init(&mut h, "x", CLASSIC);
    // Nothing has begun.
    assert_eq!(end(&mut h, 3, &producer, true).0, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(end(&mut h, 3, &producer, false).0, ErrorCode::INVALID_TXN_STATE);
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    assert_eq!(end(&mut h, 3, &producer, true).0, ErrorCode::NONE);
    assert_eq!(end(&mut h, 3, &producer, true).0, ErrorCode::NONE);
    assert_eq!(end(&mut h, 3, &producer, false).0, ErrorCode::INVALID_TXN_STATE);
    producer.send(&mut h, "t", 0, &["b"]).unwrap();
    assert_eq!(end(&mut h, 3, &producer, false).0, ErrorCode::NONE);
    assert_eq!(end(&mut h, 3, &producer, false).0, ErrorCode::NONE);
    assert_eq!(end(&mut h, 3, &producer, true).0, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(markers(&mut h, "t", 0), [(1, true), (3, false)]);
}

#[test]
fn strangers_are_refused_everywhere_as_each_version_knows_it() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let producer = Producer::init(&mut h, "x", CLASSIC);
    let old = Producer { epoch: producer.epoch + 7, ..producer.clone() };
    let other = Producer { id: producer.id + 7, ..producer.clone() };
    let nobody = Producer { transactional_id: "nobody".into(), ..producer.clone() };
    let nameless = Producer { transactional_id: String::new(), ..producer.clone() };
    for version in 0..=4 {
        let fenced = if version < 2 { ErrorCode::INVALID_PRODUCER_EPOCH } else { ErrorCode::PRODUCER_FENCED };
        let cases = [
            (&old, fenced),
            (&other, ErrorCode::INVALID_PRODUCER_ID_MAPPING),
            (&nobody, ErrorCode::INVALID_PRODUCER_ID_MAPPING),
            (&nameless, ErrorCode::INVALID_REQUEST),
        ];
        for (who, error) in cases {
            assert_eq!(add_partition(&mut h, version, who, "t", 0), error);
            assert_eq!(add_group(&mut h, version, who, "g"), error);
            assert_eq!(end(&mut h, version, who, true).0, error);
        }
    }
    assert_eq!(end(&mut h, 5, &old, true), (ErrorCode::PRODUCER_FENCED, -1, -1));
    assert_eq!(txn_commit(&mut h, 5, &old, "g", "t", 0, 1), ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(txn_commit(&mut h, 3, &other, "g", "t", 0, 1), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
}

#[test]
fn transactions_of_several_producers_in_one_partition_end_one_by_one() {
    both(|h, protocol| {
        let mut a = Producer::init(h, "a", protocol);
        let mut b = Producer::init(h, "b", protocol);
        a.send(h, "t", 0, &["a1"]).unwrap();
        b.send(h, "t", 0, &["b1"]).unwrap();
        a.send(h, "t", 0, &["a2"]).unwrap();
        assert_eq!(ends(h, "t", 0), (0, 3));
        assert_eq!(b.end(h, true), ErrorCode::NONE);
        assert_eq!(ends(h, "t", 0), (0, 4));
        assert_eq!(a.end(h, false), ErrorCode::NONE);
        assert_eq!(ends(h, "t", 0), (5, 5));
        assert_eq!(committed(h, "t", 0), ["b1"]);
    });
}

#[test]
fn a_topic_that_is_deleted_takes_its_part_of_the_transaction_with_it() {
    both(|h, protocol| {
        create_topic(h, "u", 1);
        let mut producer = Producer::init(h, "x", protocol);
        producer.send(h, "t", 0, &["a"]).unwrap();
        producer.send(h, "u", 0, &["gone"]).unwrap();
        delete_topic(h, "u");
        assert_eq!(producer.end(h, true), ErrorCode::NONE);
        assert_eq!(committed(h, "t", 0), ["a"]);
        create_topic(h, "u", 1);
        assert_eq!(ends(h, "u", 0), (0, 0));
        producer.sequences.clear();
        let mut next = Producer::init(h, "x", protocol);
        next.send(h, "u", 0, &["new"]).unwrap();
        assert_eq!(next.end(h, true), ErrorCode::NONE);
        assert_eq!(committed(h, "u", 0), ["new"]);
    });
}

#[test]
fn a_topic_that_comes_back_under_its_name_is_another_one_to_the_transaction() {
    let mut h = Harness::new();
    create_topic(&mut h, "u", 1);
    let mut producer = Producer::init(&mut h, "x", CLASSIC);
    producer.send(&mut h, "u", 0, &["gone"]).unwrap();
    delete_topic(&mut h, "u");
    create_topic(&mut h, "u", 1);
    producer.sequences.clear();
    assert_eq!(producer.send_only(&mut h, "u", 0, &["x"]), Err(ErrorCode::INVALID_TXN_STATE));
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(ends(&mut h, "u", 0), (0, 0));
}

#[test]
fn a_transaction_that_would_not_fit_one_group_of_the_log_is_refused_before_it_grows() {
    let mut h = Harness::new();
    create_topic(&mut h, "wide", 10_001);
    let producer = Producer::init(&mut h, "x", CLASSIC);
    let all: Vec<(&str, i32)> = (0..10_001).map(|partition| ("wide", partition)).collect();
    let refused = add_partitions(&mut h, 3, &producer, &all, false);
    assert!(refused.iter().all(|error| *error == ErrorCode::POLICY_VIOLATION));
    let accepted = add_partitions(&mut h, 3, &producer, &all[..10_000], false);
    assert!(accepted.iter().all(|error| *error == ErrorCode::NONE));
    let groups_before = h.log.groups.len();
    assert_eq!(end(&mut h, 3, &producer, true).0, ErrorCode::NONE);
    assert_eq!(h.log.groups.len(), groups_before + 1);
    let last = h.log.groups.last_key_value().unwrap().1;
    assert_eq!((last.runs.len(), last.meta.len()), (10_000, 1));
}

#[test]
fn the_coordinator_of_every_transactional_id_is_this_node() {
    let mut h = Harness::new();
    for version in 1..=3 {
        let request = FindCoordinatorRequest { key: "x", key_type: 1, ..Default::default() };
        let answer = h.call(version, &request);
        let response: FindCoordinatorResponse<'_> = answer.decode();
        assert_eq!((response.error_code, response.node_id), (ErrorCode::NONE, 1));
    }
    let request = FindCoordinatorRequest { key_type: 1, coordinator_keys: vec!["x", "y"], ..Default::default() };
    let answer = h.call(6, &request);
    let response: FindCoordinatorResponse<'_> = answer.decode();
    assert!(response.coordinators.iter().all(|c| c.error_code.is_none() && c.node_id == 1));
}
