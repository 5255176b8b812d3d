//! Owns the tests of DescribeShareGroupOffsets, AlterShareGroupOffsets and DeleteShareGroupOffsets.

use super::*;

#[test]
fn a_group_without_members_may_be_set_anywhere() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 10);
    w.fetch(&mut a, WANT);
    w.ack(&mut a, &[(0, 5, &[ACCEPT])]);
    assert_eq!(w.alter("t", 2), ErrorCode::NON_EMPTY_GROUP);
    w.beat(G, "m", -1, None);
    assert_eq!(w.alter("t", 2), ErrorCode::NONE);
    assert_eq!(w.start_and_lag("t", 0), (2, 8));
    assert_eq!(w.ack(&mut a, &[(6, 6, &[ACCEPT])]), ErrorCode::INVALID_RECORD_STATE, "all that was known is forgotten");
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(2, 9, 1)]);
    assert_eq!(w.alter("t", 100), ErrorCode::NONE);
    assert_eq!(w.start_and_lag("t", 0), (100, -90));
    assert_eq!(w.fetch(&mut a, Want { wait_ms: 0, ..WANT }).acquired(), []);
    assert_eq!(w.alter("t", -5), ErrorCode::NONE);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(0, 9, 1)]);
}

#[test]
fn setting_begins_a_group_and_names_what_is_not_there() {
    let mut w = World::new();
    w.topic("t", 1);
    w.produce("t", 4);
    assert_eq!(w.alter("t", 1), ErrorCode::NONE);
    assert_eq!(w.described(G).1, "Empty");
    assert_eq!(w.alter("nope", 1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let request = AlterShareGroupOffsetsRequest::default();
    let answer = w.h.call(0, &request);
    assert_eq!(answer.decode::<AlterShareGroupOffsetsResponse<'_>>().error_code, ErrorCode::INVALID_GROUP_ID);
    w.restart();
    assert_eq!(w.start_and_lag("t", 0), (1, 3));
    let mut a = w.join("a", &["t"]);
    assert_eq!(w.fetch(&mut a, WANT).acquired(), [(1, 3, 1)]);
}

/// The topics that are told when none are named, with the number of their partitions.
fn all_topics(w: &mut World) -> Vec<(String, usize)> {
    let group = DescribeShareGroupOffsetsRequestGroup { group_id: G, topics: None };
    let answer = w.h.call(1, &DescribeShareGroupOffsetsRequest { groups: vec![group] });
    let response: DescribeShareGroupOffsetsResponse<'_> = answer.decode();
    let topics = response.groups[0].topics.iter();
    topics.map(|topic| (topic.topic_name.to_owned(), topic.partitions.len())).collect()
}

fn delete(w: &mut World, topic_name: &str) -> ErrorCode {
    let topics = vec![DeleteShareGroupOffsetsRequestTopic { topic_name }];
    let answer = w.h.call(0, &DeleteShareGroupOffsetsRequest { group_id: G, topics });
    let response: DeleteShareGroupOffsetsResponse<'_> = answer.decode();
    match response.error_code {
        ErrorCode::NONE => response.responses[0].error_code,
        error => error,
    }
}

#[test]
fn what_a_group_has_of_a_topic_can_be_deleted() {
    let (mut w, mut a) = World::with_member();
    w.produce("t", 4);
    w.fetch(&mut a, WANT);
    w.ack(&mut a, &[(0, 1, &[ACCEPT])]);
    assert_eq!(all_topics(&mut w), [("t".to_owned(), 1)]);
    assert_eq!(delete(&mut w, "t"), ErrorCode::NON_EMPTY_GROUP);
    w.beat(G, "m", -1, None);
    assert_eq!(delete(&mut w, "t"), ErrorCode::NONE);
    assert_eq!(delete(&mut w, "t"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(delete(&mut w, "nope"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(all_topics(&mut w), []);
    assert_eq!(w.start_and_lag("t", 0), (-1, -1));
    w.restart();
    assert_eq!(all_topics(&mut w), []);
    let mut b = w.join("b", &["t"]);
    assert_eq!(w.fetch(&mut b, WANT).acquired(), [(0, 3, 1)], "the group begins anew");
}

#[test]
fn a_group_that_is_not_there_has_no_offsets() {
    let mut w = World::new();
    w.topic("t", 1);
    assert_eq!(w.start_and_lag("t", 0), (-1, -1));
    assert_eq!(w.start_and_lag("nope", 3), (-1, -1));
    assert_eq!(delete(&mut w, "t"), ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn the_lag_is_not_told_before_version_1() {
    let (mut w, _) = World::with_member();
    let group = DescribeShareGroupOffsetsRequestGroup { group_id: G, topics: None };
    let answer = w.h.call(0, &DescribeShareGroupOffsetsRequest { groups: vec![group] });
    let response: DescribeShareGroupOffsetsResponse<'_> = answer.decode();
    assert_eq!(response.groups[0].topics[0].partitions[0].start_offset, -1);
}
