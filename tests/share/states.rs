//! Owns the tests of the APIs with which Kafka's brokers keep the state of share groups among themselves.

use super::*;

pub fn initialize(w: &mut World, partition: i32, state_epoch: i32, start_offset: i64) -> ErrorCode {
    let partitions = vec![InitializeShareGroupStatePartitionData { partition, state_epoch, start_offset }];
    let topics = vec![InitializeStateData { topic_id: w.id("t"), partitions }];
    let answer = w.h.call(0, &InitializeShareGroupStateRequest { group_id: G, topics });
    answer.decode::<InitializeShareGroupStateResponse<'_>>().results[0].partitions[0].error_code
}

/// Error, state epoch, start and states (first and last offset, state, deliveries) of a partition.
pub type StateRead = (ErrorCode, i32, i64, Vec<(i64, i64, i8, i16)>);

/// What is kept of partition 0.
pub fn read(w: &mut World, leader_epoch: i32) -> StateRead {
    let partitions = vec![ReadShareGroupStatePartitionData { partition: 0, leader_epoch }];
    let topics = vec![ReadStateData { topic_id: w.id("t"), partitions }];
    let answer = w.h.call(0, &ReadShareGroupStateRequest { group_id: G, topics });
    let response: ReadShareGroupStateResponse<'_> = answer.decode();
    let part = &response.results[0].partitions[0];
    let states = part.state_batches.iter();
    let states = states.map(|s| (s.first_offset, s.last_offset, s.delivery_state, s.delivery_count)).collect();
    (part.error_code, part.state_epoch, part.start_offset, states)
}

pub fn write(w: &mut World, state_epoch: i32, start_offset: i64, states: &[(i64, i64, i8, i16)]) -> ErrorCode {
    let state_batches = states.iter().map(|(first_offset, last_offset, delivery_state, delivery_count)| StateBatch {
        first_offset: *first_offset,
        last_offset: *last_offset,
        delivery_state: *delivery_state,
        delivery_count: *delivery_count,
    });
    let partitions = vec![WriteShareGroupStatePartitionData {
        state_epoch,
        start_offset,
        state_batches: state_batches.collect(),
        ..Default::default()
    }];
    let topics = vec![WriteStateData { topic_id: w.id("t"), partitions }];
    let answer = w.h.call(1, &WriteShareGroupStateRequest { group_id: G, topics });
    answer.decode::<WriteShareGroupStateResponse<'_>>().results[0].partitions[0].error_code
}

/// Error, state epoch, start and number of completed records of partition 0.
fn summary(w: &mut World) -> (ErrorCode, i32, i64, i32) {
    let partitions = vec![ReadShareGroupStateSummaryPartitionData { partition: 0, leader_epoch: 0 }];
    let topics = vec![ReadStateSummaryData { topic_id: w.id("t"), partitions }];
    let answer = w.h.call(1, &ReadShareGroupStateSummaryRequest { group_id: G, topics });
    let response: ReadShareGroupStateSummaryResponse<'_> = answer.decode();
    let part = &response.results[0].partitions[0];
    (part.error_code, part.state_epoch, part.start_offset, part.delivery_complete_count)
}

fn delete(w: &mut World) -> ErrorCode {
    let partitions = vec![DeleteShareGroupStatePartitionData { partition: 0 }];
    let topics = vec![DeleteStateData { topic_id: w.id("t"), partitions }];
    let answer = w.h.call(0, &DeleteShareGroupStateRequest { group_id: G, topics });
    answer.decode::<DeleteShareGroupStateResponse<'_>>().results[0].partitions[0].error_code
}

#[test]
fn the_state_that_groups_use_is_read_and_written() {
    let mut w = World::new();
    w.topic("t", 1);
    w.produce("t", 20);
    assert_eq!(read(&mut w, 0).0, ErrorCode::INVALID_REQUEST, "no state yet");
    assert_eq!(write(&mut w, 0, 0, &[]), ErrorCode::INVALID_REQUEST);
    assert_eq!(summary(&mut w), (ErrorCode::NONE, 0, -1, -1));
    assert_eq!(initialize(&mut w, 9, 1, 0), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(initialize(&mut w, 0, 5, 3), ErrorCode::NONE);
    assert_eq!(initialize(&mut w, 0, 4, 3), ErrorCode::FENCED_STATE_EPOCH);
    assert_eq!(write(&mut w, 4, 3, &[]), ErrorCode::FENCED_STATE_EPOCH);
    let states = [(4, 5, 0, 2), (7, 9, 2, 1)];
    assert_eq!(write(&mut w, 6, 3, &states), ErrorCode::NONE);
    let all = vec![(3, 3, 0, 0), (4, 5, 0, 2), (6, 6, 0, 0), (7, 9, 2, 1)];
    assert_eq!(read(&mut w, 0), (ErrorCode::NONE, 6, 3, all.clone()));
    assert_eq!(read(&mut w, -1).0, ErrorCode::NONE);
    assert_eq!(read(&mut w, -2).0, ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(summary(&mut w), (ErrorCode::NONE, 6, 3, 3));
    assert_eq!(write(&mut w, 6, 3, &[(5, 4, 0, 1)]), ErrorCode::INVALID_REQUEST);
    w.restart();
    assert_eq!(read(&mut w, 0), (ErrorCode::NONE, 6, 3, all));
    let mut a = w.join("a", &["t"]);
    let got = w.fetch(&mut a, WANT).acquired();
    assert_eq!(got, [(3, 3, 1), (4, 5, 3), (6, 6, 1), (10, 19, 1)]);
    assert_eq!(delete(&mut w), ErrorCode::NONE);
    assert_eq!(summary(&mut w), (ErrorCode::NONE, 0, -1, -1));
}

/// What a transaction ends with is not for consumers, and the start moves over it when a member comes there. That it had
/// moved was told and not kept, so the start went back with a crash.
#[test]
fn a_start_that_was_told_does_not_go_back_over_a_marker_with_a_crash() {
    let (mut w, mut a) = World::with_member();
    w.fetch(&mut a, Want { wait_ms: 0, ..WANT });
    w.produce_in_transaction("t", 2);
    assert_eq!(w.fetch(&mut a, Want { records: 2, ..WANT }).acquired(), [(0, 1, 1)], "not as far as the marker");
    w.ack(&mut a, &[(0, 1, &[ACCEPT])]);
    assert_eq!(read(&mut w, 0).2, 2);
    assert_eq!(w.fetch(&mut a, Want { wait_ms: 0, ..WANT }).acquired(), []);
    let told = read(&mut w, 0);
    assert_eq!(told.2, 3, "behind the marker");
    w.restart();
    assert_eq!(read(&mut w, 0), told);
    assert_eq!(w.start_and_lag("t", 0), (3, 0));
}
