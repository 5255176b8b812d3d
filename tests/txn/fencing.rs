//! Owns the tests of InitProducerId and of who is fenced by it: two producers with one id, zombies, KIP-360.

use super::*;

#[test]
fn a_new_producer_fences_the_old_one_and_aborts_its_transaction() {
    for protocol in [CLASSIC, NEW] {
        let mut h = Harness::new();
        create_topic(&mut h, "t", 1);
        let mut old = Producer::init(&mut h, "x", protocol);
        old.send(&mut h, "t", 0, &["old"]).unwrap();
        old.commit_offset(&mut h, "g", "t", 0, 7).unwrap();
        let mut new = Producer::init(&mut h, "x", protocol);
        assert_eq!(new.id, old.id);
        assert!(new.epoch > old.epoch);
        assert_eq!(markers(&mut h, "t", 0), [(1, false)]);
        let batch = batch(Some((old.id, old.epoch, 1)), true, &["zombie"]);
        let zombie = produce(&mut h, protocol.produce, Some("x"), "t", 0, &batch);
        assert_eq!(zombie, Err(ErrorCode::INVALID_PRODUCER_EPOCH));
        assert_eq!(end(&mut h, protocol.end, &old, true).0, ErrorCode::PRODUCER_FENCED);
        assert_eq!(add_partition(&mut h, protocol.add_partitions, &old, "t", 0), ErrorCode::PRODUCER_FENCED);
        let late = txn_commit(&mut h, protocol.offset_commit, &old, "g", "t", 0, 8);
        assert_eq!(late, ErrorCode::INVALID_PRODUCER_EPOCH);
        new.send(&mut h, "t", 0, &["new"]).unwrap();
        assert_eq!(new.end(&mut h, true), ErrorCode::NONE);
        assert_eq!(committed(&mut h, "t", 0), ["new"]);
        assert_eq!(committed_offset(&mut h, "g", "t", 0, true), (ErrorCode::NONE, -1));
    }
}

#[test]
fn two_producers_that_take_turns_never_mix_their_transactions() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let mut expected = Vec::new();
    for turn in 0..6 {
        let protocol = if turn % 2 == 0 { NEW } else { CLASSIC };
        let mut producer = Producer::init(&mut h, "x", protocol);
        let value = format!("{turn}");
        producer.send(&mut h, "t", 0, &[&value]).unwrap();
        if turn % 3 != 0 {
            assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
            expected.push(value);
        }
    }
    Producer::init(&mut h, "x", NEW);
    assert_eq!(committed(&mut h, "t", 0), expected);
    let (stable, end) = ends(&mut h, "t", 0);
    assert_eq!(stable, end);
}

#[test]
fn a_producer_that_says_who_it_was_goes_on_with_the_next_epoch() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let (_, id, epoch) = init(&mut h, 5, "x", None);
    assert_eq!(epoch, 0);
    assert_eq!(init(&mut h, 5, "x", Some((id, epoch))), (ErrorCode::NONE, id, 1));
    // The answer was lost: the same question has the same answer.
    assert_eq!(init(&mut h, 5, "x", Some((id, epoch))), (ErrorCode::NONE, id, 1));
    assert_eq!(init(&mut h, 5, "x", Some((id, 1))), (ErrorCode::NONE, id, 2));
    assert_eq!(init(&mut h, 5, "x", Some((id, 0))), (ErrorCode::PRODUCER_FENCED, -1, -1));
    assert_eq!(init(&mut h, 3, "x", Some((id, 0))), (ErrorCode::INVALID_PRODUCER_EPOCH, -1, -1));
    assert_eq!(init(&mut h, 5, "x", Some((id + 1, 2))), (ErrorCode::PRODUCER_FENCED, -1, -1));
    // Someone else took over in between.
    assert_eq!(init(&mut h, 5, "x", None), (ErrorCode::NONE, id, 3));
    assert_eq!(init(&mut h, 5, "x", Some((id, 2))), (ErrorCode::PRODUCER_FENCED, -1, -1));
    // A new transactional id takes whoever comes.
    let (error, other, epoch) = init(&mut h, 5, "y", Some((id, 2)));
    assert_eq!((error, epoch), (ErrorCode::NONE, 0));
    assert_ne!(other, id);
}

#[test]
fn a_zombie_that_says_who_it_was_does_not_abort_its_successors_transaction() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let old = Producer::init(&mut h, "x", NEW);
    let mut new = Producer::init(&mut h, "x", NEW);
    new.send(&mut h, "t", 0, &["a"]).unwrap();
    assert_eq!(init(&mut h, 5, "x", Some((old.id, old.epoch))).0, ErrorCode::PRODUCER_FENCED);
    assert_eq!(new.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(committed(&mut h, "t", 0), ["a"]);
}

#[test]
fn an_ongoing_transaction_of_the_same_producer_is_aborted_and_it_goes_on() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let mut producer = Producer::init(&mut h, "x", NEW);
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    let (error, id, epoch) = init(&mut h, 5, "x", Some((producer.id, producer.epoch)));
    assert_eq!((error, id, epoch), (ErrorCode::NONE, producer.id, producer.epoch + 1));
    (producer.epoch, producer.sequences) = (epoch, BTreeMap::new());
    producer.send(&mut h, "t", 0, &["b"]).unwrap();
    assert_eq!(producer.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(committed(&mut h, "t", 0), ["b"]);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut h = Harness::new();
    assert_eq!(init(&mut h, 5, "", None).0, ErrorCode::INVALID_REQUEST);
    assert_eq!(init(&mut h, 5, "x", Some((7, -1))).0, ErrorCode::INVALID_REQUEST);
    assert_eq!(init(&mut h, 5, "x", Some((-1, 7))).0, ErrorCode::INVALID_REQUEST);
    // As in Kafka, only -1 is nobody: whoever else cannot be is a stranger, who may have an id that nobody has.
    assert_eq!(init(&mut h, 5, "y", Some((-2, 0))).0, ErrorCode::NONE);
    assert_eq!(init(&mut h, 5, "y", Some((-2, 0))).0, ErrorCode::PRODUCER_FENCED);
    for timeout in [0, -1, 900_001, i32::MAX] {
        let refused = init_with_timeout(&mut h, 5, "x", None, timeout).0;
        assert_eq!(refused, ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    }
    assert_eq!(init_with_timeout(&mut h, 5, "x", None, 900_000).0, ErrorCode::NONE);
    let request = InitProducerIdRequest { producer_id: 5, ..Default::default() };
    let answer = h.call(3, &request);
    assert_eq!(answer.decode::<InitProducerIdResponse>().error_code, ErrorCode::INVALID_REQUEST);
}

/// Raises the epoch by InitProducerId until it is the last that clients are given.
fn last_epoch(h: &mut Harness, protocol: Protocol) -> Producer {
    let mut producer = Producer::init(h, "x", protocol);
    while producer.epoch < i16::MAX - 1 {
        let (error, id, epoch) = init(h, 5, "x", None);
        assert_eq!((error, id, epoch), (ErrorCode::NONE, producer.id, producer.epoch + 1));
        producer.epoch = epoch;
    }
    producer
}

#[test]
fn when_the_epochs_are_used_up_there_is_a_new_producer_id() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    // By InitProducerId, with the transaction of the last epoch open.
    let mut last = last_epoch(&mut h, CLASSIC);
    last.send(&mut h, "t", 0, &["a"]).unwrap();
    let (error, id, epoch) = init(&mut h, 5, "x", None);
    assert_eq!((error, epoch), (ErrorCode::NONE, 0));
    assert_ne!(id, last.id);
    assert_eq!(last.send_only(&mut h, "t", 0, &["zombie"]), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    let stale = end(&mut h, 3, &last, true).0;
    assert_eq!(stale, ErrorCode::INVALID_PRODUCER_ID_MAPPING);

    // By EndTxn, whose repetition finds the new id.
    let mut last = last_epoch(&mut h, NEW);
    last.send(&mut h, "t", 0, &["b"]).unwrap();
    let before = last.clone();
    assert_eq!(last.end(&mut h, true), ErrorCode::NONE);
    assert_ne!(last.id, before.id);
    assert_eq!(last.epoch, 0);
    assert_eq!(end(&mut h, 5, &before, true), (ErrorCode::NONE, last.id, 0));
    assert_eq!(end(&mut h, 5, &before, false).0, ErrorCode::INVALID_TXN_STATE);
    last.send(&mut h, "t", 0, &["c"]).unwrap();
    assert_eq!(last.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(committed(&mut h, "t", 0), ["b", "c"]);

    // By a producer that says who it was.
    let last = last_epoch(&mut h, NEW);
    let (error, id, epoch) = init(&mut h, 5, "x", Some((last.id, last.epoch)));
    assert_eq!((error, epoch), (ErrorCode::NONE, 0));
    assert_ne!(id, last.id);
    assert_eq!(init(&mut h, 5, "x", Some((last.id, last.epoch))), (ErrorCode::NONE, id, 0));
}
