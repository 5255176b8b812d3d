//! Owns the tests of KIP-890's second part: the epoch rises with each transaction, and tells a repeated request from the
//! next one.

use super::*;

fn new_producer() -> (Harness, Producer) {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let producer = Producer::init(&mut h, "x", NEW);
    (h, producer)
}

fn with_epoch(producer: &Producer, epoch: i16) -> Producer {
    Producer { epoch, ..producer.clone() }
}

#[test]
fn each_transaction_raises_the_epoch() {
    let (mut h, mut producer) = new_producer();
    for round in 0..3 {
        assert_eq!(producer.epoch, round);
        producer.send(&mut h, "t", 0, &["a"]).unwrap();
        assert_eq!(producer.end(&mut h, round % 2 == 0), ErrorCode::NONE);
    }
    assert_eq!(committed(&mut h, "t", 0), ["a", "a"]);
}

#[test]
fn a_repeated_request_is_answered_like_the_first() {
    for commit in [true, false] {
        let (mut h, mut producer) = new_producer();
        producer.send(&mut h, "t", 0, &["a"]).unwrap();
        let first = end(&mut h, 5, &producer, commit);
        assert_eq!(first, (ErrorCode::NONE, producer.id, producer.epoch + 1));
        assert_eq!(end(&mut h, 5, &producer, commit), first);
        assert_eq!(end(&mut h, 5, &producer, !commit), (ErrorCode::INVALID_TXN_STATE, -1, -1));
        assert_eq!(markers(&mut h, "t", 0), [(1, commit)]);
    }
}

#[test]
fn an_abort_of_nothing_raises_the_epoch_and_a_commit_of_nothing_is_refused() {
    let (mut h, producer) = new_producer();
    // Empty.
    assert_eq!(end(&mut h, 5, &producer, true).0, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(end(&mut h, 5, &producer, false), (ErrorCode::NONE, producer.id, 1));
    // CompleteAbort, the current epoch.
    let next = with_epoch(&producer, 1);
    assert_eq!(end(&mut h, 5, &next, true).0, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(end(&mut h, 5, &next, false), (ErrorCode::NONE, producer.id, 2));
    // CompleteCommit.
    let mut third = with_epoch(&producer, 2);
    third.send(&mut h, "t", 0, &["a"]).unwrap();
    assert_eq!(third.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(end(&mut h, 5, &third, true).0, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(end(&mut h, 5, &third, false), (ErrorCode::NONE, producer.id, 4));
    // Older than a repetition could be, and newer than anything.
    assert_eq!(end(&mut h, 5, &with_epoch(&producer, 2), true).0, ErrorCode::PRODUCER_FENCED);
    assert_eq!(end(&mut h, 5, &with_epoch(&producer, 9), true).0, ErrorCode::PRODUCER_FENCED);
    assert_eq!(markers(&mut h, "t", 0), [(1, true)]);
}

#[test]
fn the_sequence_numbers_begin_anew_with_each_epoch() {
    let (mut h, mut producer) = new_producer();
    producer.send(&mut h, "t", 0, &["a", "b"]).unwrap();
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    let batch = batch(Some((producer.id, producer.epoch, 2)), true, &["c"]);
    assert_eq!(produce(&mut h, 12, Some("x"), "t", 0, &batch), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(producer.send(&mut h, "t", 0, &["c"]), Ok(3));
}

#[test]
fn a_repeated_batch_is_stored_once() {
    let (mut h, producer) = new_producer();
    let batch = batch(Some((producer.id, producer.epoch, 0)), true, &["a"]);
    assert_eq!(produce(&mut h, 12, Some("x"), "t", 0, &batch), Ok(0));
    assert_eq!(produce(&mut h, 12, Some("x"), "t", 0, &batch), Ok(0));
    assert_eq!(ends(&mut h, "t", 0), (0, 1));
}

#[test]
fn a_client_may_change_from_the_old_protocol_to_the_new_and_back() {
    let (mut h, mut producer) = new_producer();
    let mut expected = Vec::new();
    for (round, protocol) in [NEW, CLASSIC, CLASSIC, NEW, CLASSIC].into_iter().enumerate() {
        producer.protocol = protocol;
        let value = round.to_string();
        producer.send(&mut h, "t", 0, &[&value]).unwrap();
        producer.commit_offset(&mut h, "g", "t", 0, round as i64).unwrap();
        assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
        expected.push(value);
    }
    assert_eq!(committed(&mut h, "t", 0), expected);
    assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, 4));
}

#[test]
fn several_partitions_of_one_request_are_added_with_one_entry() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 50);
    let producer = Producer::init(&mut h, "x", NEW);
    let batch = batch(Some((producer.id, producer.epoch, 0)), true, &["a"]);
    let parts = (0..50).map(|index| PartitionProduceData { index, records: RecordSet::Bytes(&batch) });
    let topic_data = vec![TopicProduceData { name: "t", partition_data: parts.collect(), ..Default::default() }];
    let request = ProduceRequest { transactional_id: Some("x"), acks: -1, timeout_ms: 1000, topic_data };
    let answer = h.call(12, &request);
    let response: ProduceResponse<'_> = answer.decode();
    assert!(response.responses[0].partition_responses.iter().all(|part| part.error_code.is_none()));
    let last = h.log.groups.last_key_value().unwrap().1;
    assert_eq!((last.runs.len(), last.meta.len()), (50, 1));
}
