//! Owns commits and fetches of offsets by members of consumer groups.

use super::*;

impl World {
    /// Commits as a member of a consumer group does.
    pub fn commit_epoch(&mut self, member: &str, epoch: i32, topic: &str, partition: i32, offset: i64) -> ErrorCode {
        self.commit_version(9, member, epoch, topic, partition, offset)
    }

    fn commit_version(&mut self, v: i16, member: &str, epoch: i32, topic: &str, p: i32, offset: i64) -> ErrorCode {
        let partition =
            OffsetCommitRequestPartition { partition_index: p, committed_offset: offset, ..Default::default() };
        let topic_id = self.topics.0.get(topic).map_or(Uuid::ZERO, |(id, _)| *id);
        let name = if v < 10 { topic } else { "" };
        let topic = OffsetCommitRequestTopic { name, topic_id, partitions: vec![partition] };
        let request = OffsetCommitRequest {
            group_id: G,
            generation_id_or_member_epoch: epoch,
            member_id: member,
            topics: vec![topic],
            ..Default::default()
        };
        self.ask(v, &request, |body, v| {
            decode::<OffsetCommitResponse<'_>>(body, v).unwrap().topics[0].partitions[0].error_code
        })
    }

    /// Error of the group, and the offset.
    fn fetch_epoch(&mut self, member: Option<&str>, epoch: i32) -> (ErrorCode, Option<i64>) {
        let topics = OffsetFetchRequestTopics { name: "t", partition_indexes: vec![0], ..Default::default() };
        let group =
            OffsetFetchRequestGroup { group_id: G, member_id: member, member_epoch: epoch, topics: Some(vec![topics]) };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        self.ask(9, &request, |body, v| {
            let r: OffsetFetchResponse<'_> = decode(body, v).unwrap();
            let offset = r.groups[0].topics.first().map(|topic| topic.partitions[0].committed_offset);
            (r.groups[0].error_code, offset)
        })
    }

    fn delete_offset(&mut self, topic: &str) -> ErrorCode {
        let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
        let request =
            OffsetDeleteRequest { group_id: G, topics: vec![OffsetDeleteRequestTopic { name: topic, partitions }] };
        self.ask(0, &request, |body, v| {
            let r: OffsetDeleteResponse<'_> = decode(body, v).unwrap();
            assert_eq!(r.error_code, ErrorCode::NONE);
            r.topics[0].partitions[0].error_code
        })
    }

    fn delete_group(&mut self) -> ErrorCode {
        let request = DeleteGroupsRequest { groups_names: vec![G] };
        self.ask(2, &request, |body, v| decode::<DeleteGroupsResponse<'_>>(body, v).unwrap().results[0].error_code)
    }
}

#[test]
fn a_member_commits_with_its_epoch() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    assert_eq!(w.commit_epoch("a", 2, "t", 0, 7), ErrorCode::NONE);
    assert_eq!(w.commit_version(10, "a", 2, "t", 0, 8), ErrorCode::NONE);
    assert_eq!(w.fetch(G, "t", 0), 8);
    assert_eq!(w.commit_epoch("a", 3, "t", 0, 9), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(w.commit_epoch("z", 2, "t", 0, 9), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.commit_epoch("", -1, "t", 0, 9), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.commit_version(8, "a", 2, "t", 0, 9), ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(w.fetch(G, "t", 0), 8);
}

#[test]
fn an_older_epoch_is_good_for_what_the_member_has_had_since() {
    let mut w = world();
    let [a, b] = w.pair();
    // `a` is in epoch 3 and has kept four partitions since epoch 2.
    assert_eq!(w.commit_epoch("a", 2, "t", a["t"][0], 1), ErrorCode::NONE);
    assert_eq!(w.commit_epoch("a", 1, "t", a["t"][0], 1), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(w.commit_epoch("a", 2, "t", b["t"][0], 1), ErrorCode::STALE_MEMBER_EPOCH, "it is no longer its own");
    assert_eq!(w.commit_epoch("b", 2, "t", b["t"][0], 1), ErrorCode::STALE_MEMBER_EPOCH, "it was given in epoch 3");
    assert_eq!(w.commit_epoch("a", 3, "t", b["t"][0], 1), ErrorCode::NONE, "the present epoch may commit anything");
}

#[test]
fn what_is_being_given_up_may_be_committed() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.joined_consumer("b", &["t"]);
    w.stay("a", 2);
    for partition in 0..8 {
        assert_eq!(w.commit_epoch("a", 2, "t", partition, 1), ErrorCode::NONE);
    }
}

#[test]
fn a_member_that_was_fenced_commits_no_more() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.pass_ms(45_000);
    assert_eq!(w.commit_epoch("a", 2, "t", 0, 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(w.commit_epoch("", -1, "t", 0, 1), ErrorCode::NONE, "an administrator may, as nobody is there");
}

#[test]
fn fetches_name_the_member_or_nobody() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.commit_epoch("a", 2, "t", 0, 7);
    assert_eq!(w.fetch_epoch(Some("a"), 2), (ErrorCode::NONE, Some(7)));
    assert_eq!(w.fetch_epoch(None, -1), (ErrorCode::NONE, Some(7)));
    assert_eq!(w.fetch_epoch(Some("a"), 1), (ErrorCode::STALE_MEMBER_EPOCH, None));
    assert_eq!(w.fetch_epoch(Some("z"), 2), (ErrorCode::UNKNOWN_MEMBER_ID, None));
    w.leave_consumer("a");
    assert_eq!(w.fetch_epoch(None, -1), (ErrorCode::NONE, Some(7)));
}

#[test]
fn offsets_outlive_members_and_groups_end_on_request() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.commit_epoch("a", 2, "t", 0, 7);
    w.commit_epoch("a", 2, "u", 0, 7);
    assert_eq!(w.delete_group(), ErrorCode::NON_EMPTY_GROUP);
    assert_eq!(w.delete_offset("t"), ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
    assert_eq!(w.delete_offset("u"), ErrorCode::NONE);
    w.leave_consumer("a");
    assert_eq!((w.fetch(G, "t", 0), w.fetch(G, "u", 0)), (7, -1));
    assert_eq!(w.delete_offset("t"), ErrorCode::NONE);
    assert_eq!(w.delete_group(), ErrorCode::NONE);
    assert_eq!(w.delete_group(), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!((w.groups.timers(), w.groups.bytes()), (0, 0));
    w.restart();
    assert_eq!((w.groups.timers(), w.groups.bytes()), (0, 0));
}

#[test]
fn offsets_of_an_empty_group_expire_by_their_own_age() {
    let mut w = world();
    w.joined_consumer("a", &["t"]);
    w.commit_epoch("a", 2, "t", 0, 7);
    w.pass_ms(40_000);
    w.leave_consumer("a");
    w.pass_ms(7 * 24 * 3_600_000 - 40_001);
    assert_eq!(w.fetch(G, "t", 0), 7);
    w.pass_ms(1);
    assert_eq!(w.fetch(G, "t", 0), -1);
    assert_eq!((w.groups.timers(), w.groups.bytes()), (0, 0), "the group goes with its last offset");
}
