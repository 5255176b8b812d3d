//! Owns the tests of what administrators ask and do: DescribeTransactions, ListTransactions, DescribeProducers,
//! WriteTxnMarkers.

use super::*;

fn list(h: &mut Harness, request: &ListTransactionsRequest<'_>) -> Vec<(String, String)> {
    let answer = h.call(2, request);
    let response: ListTransactionsResponse<'_> = answer.decode();
    assert_eq!(response.error_code, ErrorCode::NONE);
    let each = response.transaction_states.iter();
    each.map(|t| (t.transactional_id.to_owned(), t.transaction_state.to_owned())).collect()
}

fn filter(duration_filter: i64) -> ListTransactionsRequest<'static> {
    ListTransactionsRequest { duration_filter, ..Default::default() }
}

#[test]
fn transactions_are_described_with_their_partitions() {
    let mut h = Harness::new();
    create_topic(&mut h, "b", 2);
    create_topic(&mut h, "a", 1);
    let mut producer = Producer::init(&mut h, "x", NEW);
    for (topic, partition) in [("b", 1), ("a", 0), ("b", 0)] {
        producer.send(&mut h, topic, partition, &["v"]).unwrap();
    }
    let answer = h.call(0, &DescribeTransactionsRequest { transactional_ids: vec!["x", "nobody", ""] });
    let response: DescribeTransactionsResponse<'_> = answer.decode();
    let [x, nobody, nameless] = &response.transaction_states[..] else { panic!() };
    assert_eq!((x.transaction_state, x.producer_id, x.producer_epoch), ("Ongoing", producer.id, producer.epoch));
    assert_eq!((x.transaction_timeout_ms, x.transaction_start_time_ms), (60_000, h.now.wall_ms));
    let topics: Vec<_> = x.topics.iter().map(|t| (t.topic, t.partitions.clone())).collect();
    assert_eq!(topics, [("a", vec![0]), ("b", vec![0, 1])]);
    assert_eq!(nobody.error_code, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
    assert_eq!(nameless.error_code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn transactions_are_listed_by_state_producer_and_age() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let mut done = Producer::init(&mut h, "done", NEW);
    done.send(&mut h, "t", 0, &["a"]).unwrap();
    done.end(&mut h, true);
    let mut open = Producer::init(&mut h, "open", NEW);
    open.send(&mut h, "t", 0, &["a"]).unwrap();
    Producer::init(&mut h, "fresh", NEW);
    let pair = |id: &str, state: &str| (id.to_owned(), state.to_owned());
    let (done_, fresh, open_) = (pair("done", "CompleteCommit"), pair("fresh", "Empty"), pair("open", "Ongoing"));
    assert_eq!(list(&mut h, &filter(-1)), [done_.clone(), fresh.clone(), open_.clone()]);
    let by_state = ListTransactionsRequest { state_filters: vec!["Ongoing", "Empty"], ..filter(-1) };
    assert_eq!(list(&mut h, &by_state), [fresh.clone(), open_.clone()]);
    let by_producer = ListTransactionsRequest { producer_id_filters: vec![open.id, 999], ..filter(-1) };
    assert_eq!(list(&mut h, &by_producer), std::slice::from_ref(&open_));
    h.pass_ms(5000);
    // One that never began is older than anything, as in Kafka.
    assert_eq!(list(&mut h, &filter(4999)), [done_, fresh.clone(), open_]);
    assert_eq!(list(&mut h, &filter(5000)), std::slice::from_ref(&fresh));
    let by_pattern = |h: &mut Harness, pattern| {
        list(h, &ListTransactionsRequest { transactional_id_pattern: Some(pattern), ..filter(-1) })
    };
    assert_eq!(by_pattern(&mut h, "f.*h|o"), [fresh]);
    assert_eq!(by_pattern(&mut h, "nothing").len(), 0);
    assert_eq!(by_pattern(&mut h, "").len(), 3);
    let wrong = ListTransactionsRequest { transactional_id_pattern: Some("("), ..filter(-1) };
    let answer = h.call(2, &wrong);
    let error = answer.decode::<ListTransactionsResponse<'_>>().error_code;
    assert_eq!(error, ErrorCode::INVALID_REGULAR_EXPRESSION);
    for version in 0..=2 {
        let request = ListTransactionsRequest { state_filters: vec!["Ongoing", "What"], ..filter(-1) };
        let answer = h.call(version, &request);
        let response: ListTransactionsResponse<'_> = answer.decode();
        assert_eq!(response.unknown_state_filters, ["What"]);
        assert_eq!(response.transaction_states.len(), 1);
    }
}

#[test]
fn producers_of_a_partition_are_described() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let mut done = Producer::init(&mut h, "done", CLASSIC);
    done.send(&mut h, "t", 0, &["a", "b"]).unwrap();
    done.end(&mut h, true);
    let mut open = Producer::init(&mut h, "open", NEW);
    open.send(&mut h, "t", 0, &["a"]).unwrap();
    let topic = DescribeProducersTopicRequest { name: "t", partition_indexes: vec![0, 1] };
    let other = DescribeProducersTopicRequest { name: "nowhere", partition_indexes: vec![0] };
    let answer = h.call(0, &DescribeProducersRequest { topics: vec![topic, other] });
    let response: DescribeProducersResponse<'_> = answer.decode();
    let producers = &response.topics[0].partitions[0].active_producers;
    let seen: Vec<_> = producers
        .iter()
        .map(|p| (p.producer_id, p.producer_epoch, p.last_sequence, p.coordinator_epoch, p.current_txn_start_offset))
        .collect();
    assert_eq!(seen, [(done.id, 0, 1, 0, -1), (open.id, 0, 0, -1, 3)]);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(response.topics[0].partitions[1].error_code, unknown);
    assert_eq!(response.topics[1].partitions[0].error_code, unknown);
}

fn write_markers(h: &mut Harness, version: i16, marker: WritableTxnMarker<'_>) -> Vec<ErrorCode> {
    let answer = h.call(version, &WriteTxnMarkersRequest { markers: vec![marker] });
    let response: WriteTxnMarkersResponse<'_> = answer.decode();
    let topics = response.markers[0].topics.iter();
    topics.flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
}

#[test]
fn a_hanging_transaction_can_be_ended_by_hand() {
    for version in 0..=2 {
        let mut h = Harness::new();
        create_topic(&mut h, "t", 1);
        let mut open = Producer::init(&mut h, "x", NEW);
        open.send(&mut h, "t", 0, &["a"]).unwrap();
        let marker = |epoch: i16, coordinator_epoch: i32| WritableTxnMarker {
            producer_id: open.id,
            producer_epoch: epoch,
            coordinator_epoch,
            topics: vec![
                WritableTxnMarkerTopic { name: "t", partition_indexes: vec![0, 7] },
                WritableTxnMarkerTopic { name: "nowhere", partition_indexes: vec![0] },
            ],
            ..Default::default()
        };
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(write_markers(&mut h, version, marker(5, 3)), [ErrorCode::NONE, unknown, unknown]);
        assert_eq!(ends(&mut h, "t", 0), (2, 2));
        assert_eq!(markers(&mut h, "t", 0), [(1, false)]);
        assert_eq!(write_markers(&mut h, version, marker(4, 3))[0], ErrorCode::INVALID_PRODUCER_EPOCH);
        assert_eq!(write_markers(&mut h, version, marker(6, 2))[0], ErrorCode::TRANSACTION_COORDINATOR_FENCED);
        let nobody = WritableTxnMarker { producer_id: -1, ..marker(6, 4) };
        assert_eq!(write_markers(&mut h, version, nobody)[0], ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        assert_eq!(markers(&mut h, "t", 0), [(1, false)]);
    }
}

#[test]
fn markers_of_the_new_protocol_carry_the_next_epoch() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let mut producer = Producer::init(&mut h, "x", NEW);
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    let marker = |producer_epoch| WritableTxnMarker {
        producer_id: producer.id,
        producer_epoch,
        transaction_result: true,
        transaction_version: 2,
        topics: vec![WritableTxnMarkerTopic { name: "t", partition_indexes: vec![0] }],
        ..Default::default()
    };
    assert_eq!(write_markers(&mut h, 2, marker(producer.epoch)), [ErrorCode::INVALID_PRODUCER_EPOCH]);
    assert_eq!(write_markers(&mut h, 2, marker(producer.epoch + 1)), [ErrorCode::NONE]);
    assert_eq!(markers(&mut h, "t", 0), [(1, true)]);
    // Nothing to be ended is named: nothing is told of it.
    let nothing = WritableTxnMarker { topics: vec![], ..marker(9) };
    let answer = h.call(2, &WriteTxnMarkersRequest { markers: vec![nothing] });
    assert_eq!(answer.decode::<WriteTxnMarkersResponse<'_>>().markers, []);
}
