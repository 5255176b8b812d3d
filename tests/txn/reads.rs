//! Owns the tests of what readers see of transactions: the last stable offset, aborted transactions, parked fetches,
//! offsets by time, deletion of records, old clients.

use super::*;

fn started() -> (Harness, Producer) {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let producer = Producer::init(&mut h, "x", NEW);
    (h, producer)
}

/// ListOffsets with an isolation level; the offset.
fn list_offset(h: &mut Harness, timestamp: i64, isolation_level: i8) -> i64 {
    let partition = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: "t", partitions: vec![partition] }];
    let answer = h.call(7, &ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..Default::default() });
    let response: ListOffsetsResponse<'_> = answer.decode();
    let found = &response.topics[0].partitions[0];
    assert_eq!(found.error_code, ErrorCode::NONE);
    found.offset
}

fn delete_before(h: &mut Harness, offset: i64) {
    let topics =
        vec![DeleteRecordsTopic { name: "t", partitions: vec![DeleteRecordsPartition { partition_index: 0, offset }] }];
    let answer = h.call(2, &DeleteRecordsRequest { topics, timeout_ms: 1000 });
    let response: DeleteRecordsResponse<'_> = answer.decode();
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::NONE);
}

#[test]
fn readers_of_committed_records_stop_before_the_first_open_transaction() {
    let (mut h, mut producer) = started();
    let plain = batch(None, false, &["before"]);
    produce(&mut h, 9, None, "t", 0, &plain).unwrap();
    producer.send(&mut h, "t", 0, &["open"]).unwrap();
    let after = batch(None, false, &["after"]);
    produce(&mut h, 9, None, "t", 0, &after).unwrap();
    let (seen, _) = fetch(&mut h, "t", 0, 0, 1);
    assert_eq!((seen.stable, seen.high_watermark), (1, 3));
    assert_eq!(seen.data, [(0, "before".to_owned())]);
    // Beyond it, but not beyond the log, is no error.
    let (seen, bytes) = fetch(&mut h, "t", 0, 2, 1);
    assert_eq!((seen.stable, bytes.len()), (1, 0));
    assert_eq!(fetch(&mut h, "t", 0, 0, 0).0.data.len(), 3);
    producer.end(&mut h, true);
    assert_eq!(committed(&mut h, "t", 0), ["before", "open", "after"]);
}

#[test]
fn a_batch_of_one_request_in_which_stable_and_open_records_stand_together_is_cut() {
    // Both batches become durable in one group, so they stand in one run.
    let (mut h, producer) = started();
    let conns = [h.connect(), h.connect()];
    let plain = batch(None, false, &["plain"]);
    let open = batch(Some((producer.id, producer.epoch, 0)), true, &["open"]);
    for (conn, id, bytes) in [(conns[0], None, &plain), (conns[1], Some("x"), &open)] {
        let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(bytes) };
        let topic_data = vec![TopicProduceData { name: "t", partition_data: vec![data], ..Default::default() }];
        h.send(conn, 12, &ProduceRequest { transactional_id: id, acks: -1, timeout_ms: 1000, topic_data });
    }
    h.settle();
    assert_eq!(fetch(&mut h, "t", 0, 0, 1).0.data, [(0, "plain".to_owned())]);
    h.restart();
    assert_eq!(fetch(&mut h, "t", 0, 0, 1).0.data, [(0, "plain".to_owned())]);
}

#[test]
fn the_last_stable_offset_waits_for_the_marker_to_be_durable() {
    let (mut h, mut producer) = started();
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    let conn = h.connect();
    h.send(conn, 5, &end_request(&producer, true));
    assert!(h.take_answers().is_empty());
    let reader = h.connect();
    h.send(reader, 11, &fetch_request("t", 0, 0, 1));
    let answers = h.take_answers();
    // The answer to the fetch waits too: it may tell of nothing that is not durable.
    for answer in &answers {
        assert_eq!(read_response(&answer.decode()).0.stable, 0);
    }
    h.settle();
    assert_eq!(ends(&mut h, "t", 0), (2, 2));
}

#[test]
fn aborted_transactions_are_told_for_the_range_that_was_read() {
    let (mut h, mut producer) = started();
    let mut other = Producer::init(&mut h, "y", NEW);
    let (x, y) = (producer.id, other.id);
    producer.send(&mut h, "t", 0, &["0"]).unwrap();
    other.send(&mut h, "t", 0, &["1"]).unwrap();
    other.end(&mut h, false);
    producer.send(&mut h, "t", 0, &["3"]).unwrap();
    producer.end(&mut h, false);
    other.send(&mut h, "t", 0, &["5"]).unwrap();
    other.end(&mut h, true);
    producer.send(&mut h, "t", 0, &["7"]).unwrap();
    producer.end(&mut h, false);
    assert_eq!(fetch(&mut h, "t", 0, 0, 1).0.aborted, [(y, 1), (x, 0), (x, 7)]);
    assert_eq!(fetch(&mut h, "t", 0, 3, 1).0.aborted, [(x, 0), (x, 7)]);
    assert_eq!(fetch(&mut h, "t", 0, 5, 1).0.aborted, [(x, 7)]);
    // Who reads everything is told nothing.
    assert_eq!(fetch(&mut h, "t", 0, 0, 0).0.aborted, []);
    assert_eq!(committed(&mut h, "t", 0), ["5"]);
    // A small answer tells only of what is in it.
    let mut request = fetch_request("t", 0, 5, 1);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    let answer = h.call(11, &request);
    let (seen, _) = read_response(&answer.decode());
    assert_eq!((seen.data, seen.aborted), (vec![(5, "5".to_owned())], vec![]));
}

#[test]
fn a_parked_reader_of_committed_records_wakes_when_the_transaction_ends() {
    let (mut h, mut producer) = started();
    producer.send(&mut h, "t", 0, &["a long value that is more than the marker has"]).unwrap();
    let conn = h.connect();
    let mut request = fetch_request("t", 0, 0, 1);
    (request.max_wait_ms, request.min_bytes) = (60_000, 100);
    h.send(conn, 11, &request);
    h.settle();
    producer.send(&mut h, "t", 0, &["another batch that does not help"]).unwrap();
    assert!(h.take_answers().is_empty());
    producer.end(&mut h, true);
    let answers = h.take_answers();
    assert_eq!(answers.len(), 1);
    assert_eq!(read_response(&answers[0].decode()).0.data.len(), 2);
}

#[test]
fn a_parked_reader_is_answered_in_time_while_the_transaction_stays_open() {
    let (mut h, mut producer) = started();
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    let conn = h.connect();
    let mut request = fetch_request("t", 0, 0, 1);
    (request.max_wait_ms, request.min_bytes) = (500, 1);
    h.send(conn, 11, &request);
    h.pass_ms(499);
    assert!(h.take_answers().is_empty());
    h.pass_ms(1);
    assert_eq!(h.take_answers().len(), 1);
}

#[test]
fn the_latest_offset_is_the_stable_one_for_readers_of_committed_records() {
    let (mut h, mut producer) = started();
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    assert_eq!((list_offset(&mut h, -1, 0), list_offset(&mut h, -1, 1)), (1, 0));
    assert_eq!((list_offset(&mut h, -2, 0), list_offset(&mut h, -2, 1)), (0, 0));
    producer.end(&mut h, true);
    assert_eq!((list_offset(&mut h, -1, 0), list_offset(&mut h, -1, 1)), (2, 2));
}

#[test]
fn deleting_records_of_a_transaction_moves_the_stable_offset_with_the_start() {
    let (mut h, mut producer) = started();
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    producer.send(&mut h, "t", 0, &["b"]).unwrap();
    delete_before(&mut h, 1);
    let (seen, bytes) = fetch(&mut h, "t", 0, 1, 1);
    assert_eq!((seen.stable, bytes.len()), (1, 0));
    producer.end(&mut h, false);
    // The whole transaction is still aborted, also what is left of it.
    let (seen, bytes) = fetch(&mut h, "t", 0, 1, 1);
    assert_eq!(seen.committed(&bytes), [] as [&str; 0]);
    assert_eq!(seen.aborted, [(producer.id, 0)]);
    h.restart();
    let (seen, bytes) = fetch(&mut h, "t", 0, 1, 1);
    assert_eq!((seen.stable, seen.committed(&bytes).len()), (3, 0));
    delete_before(&mut h, 3);
    assert_eq!(fetch(&mut h, "t", 0, 3, 1).0.aborted, []);
}

#[test]
fn clients_of_old_message_formats_never_see_markers_and_get_past_them() {
    let (mut h, mut producer) = started();
    // The marker is alone in its segment.
    h.log.segment_bytes = 1;
    producer.send(&mut h, "t", 0, &["a"]).unwrap();
    producer.end(&mut h, true);
    producer.send(&mut h, "t", 0, &["b"]).unwrap();
    producer.end(&mut h, true);
    for version in [1, 2, 3] {
        for (offset, expected) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
            let answer = h.call(version, &fetch_request("t", 0, offset, 0));
            let response: FetchResponse<'_> = answer.decode();
            let data = &response.responses[0].partitions[0];
            assert_eq!(data.error_code, ErrorCode::NONE);
            assert_eq!(!data.records.bytes().is_empty(), expected, "version {version}, offset {offset}");
        }
    }
    // With nothing but a marker ahead the client waits, as at the end of the log.
    let conn = h.connect();
    let mut request = fetch_request("t", 0, 3, 0);
    (request.max_wait_ms, request.min_bytes) = (60_000, 1);
    h.send(conn, 3, &request);
    assert!(h.take_answers().is_empty());
    let plain = batch(None, false, &["plain"]);
    produce(&mut h, 9, None, "t", 0, &plain).unwrap();
    assert_eq!(h.take_answers().len(), 1);
}

#[test]
fn clients_may_not_write_markers() {
    let mut h = Harness::new();
    create_topic(&mut h, "t", 1);
    let marker = EndMarker { producer_id: 1, producer_epoch: 0, coordinator_epoch: 0, committed: true };
    let bytes = marker.batch(1).unwrap();
    assert!(produce(&mut h, 9, Some("x"), "t", 0, &bytes).is_err());
    assert_eq!(ends(&mut h, "t", 0), (0, 0));
}
