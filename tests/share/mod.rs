//! Owns the tests of share groups: members, sessions, acquisition, acknowledgement and what survives a restart, through the
//! requests that clients send.

mod acknowledging;
mod bounds;
mod disk;
mod fetching;
mod members;
mod offsets;
mod random;
mod restart;
mod sessions;
mod states;

use std::collections::BTreeMap;

use chronik::broker::ConnId;
use chronik::config::{Config, ShareConfig};
use chronik::wire::batch::{self, BatchBuilder};
use chronik::wire::msg::*;
use chronik::wire::{ErrorCode, RecordSet, Uuid};

use crate::harness::{Answer, Harness};

pub const G: &str = "g";
pub const LOCK_MS: u64 = 30_000;

/// What was acquired: first offset, last offset, deliveries.
pub type Range = (i64, i64, i16);

/// A client of share groups, with what it knows of its session.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    pub conn: ConnId,
    pub epoch: i32,
    pub member_epoch: i32,
}

/// A partition and what is acknowledged of it.
pub type AcksOfPartition = (i32, Vec<AcknowledgementBatch>);

/// How a member fetches.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    pub wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub records: i32,
    pub batch_size: i32,
    pub mode: i8,
}

pub const WANT: Want = Want { wait_ms: 500, min_bytes: 1, max_bytes: 1 << 20, records: 500, batch_size: 500, mode: 0 };

/// The answer to a ShareFetch, owned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetched {
    pub error: ErrorCode,
    pub lock_ms: i32,
    pub parts: BTreeMap<(Uuid, i32), FetchedPart>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchedPart {
    pub error: ErrorCode,
    pub ack_error: ErrorCode,
    pub acquired: Vec<Range>,
    /// Offsets of the batches that came along.
    pub batches: Vec<(i64, i64)>,
}

impl Fetched {
    /// What was acquired in the only partition that has anything.
    pub fn acquired(&self) -> Vec<Range> {
        assert_eq!(self.error, ErrorCode::NONE);
        let mut parts = self.parts.values().filter(|part| !part.acquired.is_empty());
        let acquired = parts.next().map_or(Vec::new(), |part| part.acquired.clone());
        assert!(parts.next().is_none(), "more than one partition: {self:?}");
        acquired
    }
}

/// Acknowledgements of one partition: first offset, last offset, one type or one for each.
pub type Acks<'a> = &'a [(i64, i64, &'a [i8])];

pub const GAP: i8 = 0;
pub const ACCEPT: i8 = 1;
pub const RELEASE: i8 = 2;
pub const REJECT: i8 = 3;
pub const RENEW: i8 = 4;

/// A broker with share groups.
pub struct World {
    pub h: Harness,
    pub topics: BTreeMap<String, Uuid>,
}

impl World {
    pub fn new() -> World {
        World::with(Config::default())
    }

    pub fn with(config: Config) -> World {
        World {
            h: Harness::with(Config {
                share: ShareConfig { assignment_interval_ms: 0, ..config.share.clone() },
                ..config
            }),
            topics: BTreeMap::new(),
        }
    }

    /// A group `G` that starts at the beginning of `t`, which has one partition, with one member.
    pub fn with_member() -> (World, Member) {
        let mut w = World::new();
        w.topic("t", 1);
        w.begin_at_the_start(G);
        let member = w.join("m", &["t"]);
        (w, member)
    }

    pub fn topic(&mut self, name: &str, num_partitions: i32) -> Uuid {
        let topic = CreatableTopic { name, num_partitions, replication_factor: 1, ..Default::default() };
        let answer =
            self.h.call(7, &CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() });
        let response: CreateTopicsResponse<'_> = answer.decode();
        assert_eq!(response.topics[0].error_code, ErrorCode::NONE);
        self.topics.insert(name.to_owned(), response.topics[0].topic_id);
        response.topics[0].topic_id
    }

    pub fn id(&self, topic: &str) -> Uuid {
        self.topics[topic]
    }

    /// Sets a configuration of a group.
    pub fn configure(&mut self, group: &str, name: &str, value: &str) {
        self.h.configure(32, group, &[(name, value)]);
    }

    pub fn begin_at_the_start(&mut self, group: &str) {
        self.configure(group, "share.auto.offset.reset", "earliest");
    }

    /// As after a crash.
    pub fn restart(&mut self) {
        self.h.restart();
    }

    /// One batch of so many records, to partition 0.
    pub fn produce(&mut self, topic: &str, records: usize) -> i64 {
        self.produce_to(topic, 0, records)
    }

    pub fn produce_to(&mut self, topic: &str, partition: i32, records: usize) -> i64 {
        let mut batch = BatchBuilder::new();
        for n in 0..records {
            batch.push(self.h.now.wall_ms, None, Some(format!("value {n}").as_bytes()), &[]);
        }
        self.produce_bytes(topic, partition, &batch.build().unwrap())
    }

    pub fn produce_bytes(&mut self, topic: &str, partition: i32, bytes: &[u8]) -> i64 {
        let data = PartitionProduceData { index: partition, records: RecordSet::Bytes(bytes) };
        let topic_data = vec![TopicProduceData { name: topic, partition_data: vec![data], ..Default::default() }];
        let answer = self.h.call(9, &ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() });
        let response: ProduceResponse<'_> = answer.decode();
        let part = &response.responses[0].partition_responses[0];
        assert_eq!(part.error_code, ErrorCode::NONE);
        part.base_offset
    }

    /// One batch of so many records in a transaction that is committed, to partition 0.
    pub fn produce_in_transaction(&mut self, topic: &str, records: usize) {
        let id = Some("x");
        let init = InitProducerIdRequest { transactional_id: id, transaction_timeout_ms: 60_000, ..Default::default() };
        let answer = self.h.call(4, &init);
        let producer: InitProducerIdResponse = answer.decode();
        let mut batch = BatchBuilder::new().producer(producer.producer_id, producer.producer_epoch, 0).transactional();
        (0..records).for_each(|_| batch.push(self.h.now.wall_ms, None, Some(b"value"), &[]));
        let bytes = batch.build().unwrap();
        let data = PartitionProduceData { index: 0, records: RecordSet::Bytes(&bytes) };
        let topic_data = vec![TopicProduceData { name: topic, partition_data: vec![data], ..Default::default() }];
        let request = ProduceRequest { transactional_id: id, acks: -1, timeout_ms: 1000, topic_data };
        let answer = self.h.call(12, &request);
        let response: ProduceResponse<'_> = answer.decode();
        assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
        let end = EndTxnRequest {
            transactional_id: "x",
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            committed: true,
        };
        let answer = self.h.call(5, &end);
        assert_eq!(answer.decode::<EndTxnResponse>().error_code, ErrorCode::NONE);
    }

    /// A heartbeat; error, member epoch and assignment (partitions by topic id), if one was told.
    pub fn beat(
        &mut self,
        group: &str,
        member: &str,
        epoch: i32,
        topics: Option<&[&str]>,
    ) -> (ErrorCode, i32, Option<BTreeMap<Uuid, Vec<i32>>>) {
        let answer = self.h.call(
            1,
            &ShareGroupHeartbeatRequest {
                group_id: group,
                member_id: member,
                member_epoch: epoch,
                rack_id: None,
                subscribed_topic_names: topics.map(<[&str]>::to_vec),
            },
        );
        let response: ShareGroupHeartbeatResponse<'_> = answer.decode();
        let assignment = response.assignment.map(|assignment| {
            assignment.topic_partitions.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect()
        });
        (response.error_code, response.member_epoch, assignment)
    }

    /// A member of `G` that joins.
    pub fn join(&mut self, id: &str, topics: &[&str]) -> Member {
        let (error, member_epoch, _) = self.beat(G, id, 0, Some(topics));
        assert_eq!(error, ErrorCode::NONE);
        Member { id: id.to_owned(), conn: self.h.connect(), epoch: 0, member_epoch }
    }

    fn fetch_request<'a>(member: &'a Member, want: Want, topics: Vec<ShareFetchTopic>) -> ShareFetchRequest<'a> {
        ShareFetchRequest {
            group_id: Some(G),
            member_id: Some(&member.id),
            share_session_epoch: member.epoch,
            max_wait_ms: want.wait_ms,
            min_bytes: want.min_bytes,
            max_bytes: want.max_bytes,
            max_records: want.records,
            batch_size: want.batch_size,
            share_acquire_mode: want.mode,
            topics,
            ..Default::default()
        }
    }

    /// Sends a fetch from the session's partitions, or for a new session from partition 0 of `t`; its correlation id.
    pub fn send_fetch(&mut self, member: &mut Member, want: Want) -> i32 {
        let topics = if member.epoch == 0 { vec![(self.id("t"), vec![(0, vec![])])] } else { vec![] };
        self.send_fetch_of(member, want, &topics)
    }

    pub fn send_fetch_of(&mut self, member: &mut Member, want: Want, topics: &[(Uuid, Vec<AcksOfPartition>)]) -> i32 {
        let topics = topics.iter().map(|(topic_id, partitions)| ShareFetchTopic {
            topic_id: *topic_id,
            partitions: partitions
                .iter()
                .map(|(partition_index, acks)| ShareFetchPartition {
                    partition_index: *partition_index,
                    acknowledgement_batches: acks.clone(),
                    ..Default::default()
                })
                .collect(),
        });
        let topics = topics.collect();
        let id = self.h.send(member.conn, 2, &World::fetch_request(member, want, topics));
        member.epoch += 1;
        id
    }

    /// Fetches from what the session has, waiting as long as it takes.
    pub fn fetch(&mut self, member: &mut Member, want: Want) -> Fetched {
        let id = self.send_fetch(member, want);
        self.answer_of(member, id, want.wait_ms)
    }

    pub fn fetch_of(&mut self, member: &mut Member, want: Want, topics: &[(Uuid, Vec<AcksOfPartition>)]) -> Fetched {
        let id = self.send_fetch_of(member, want, topics);
        self.answer_of(member, id, want.wait_ms)
    }

    /// The answer to a fetch, letting its time pass if it has to wait.
    pub fn answer_of(&mut self, member: &Member, id: i32, wait_ms: i32) -> Fetched {
        self.h.settle();
        if let Some(answer) = self.answered(member.conn, id) {
            return fetched(&answer);
        }
        self.h.pass_ms(wait_ms as u64);
        self.h.settle();
        fetched(&self.answered(member.conn, id).expect("no answer in time"))
    }

    /// An answer that has left the broker.
    pub fn answered(&mut self, conn: ConnId, id: i32) -> Option<Answer> {
        let answers = self.h.take_answers();
        let (mine, others): (Vec<Answer>, Vec<Answer>) =
            answers.into_iter().partition(|answer| answer.conn == conn && answer.correlation_id == id);
        self.h.put_back(others);
        mine.into_iter().next()
    }

    /// Acknowledges records of partition 0 of `t`; the partition's error.
    pub fn ack(&mut self, member: &mut Member, acks: Acks<'_>) -> ErrorCode {
        let (top, mut parts) = self.ack_of(member, &[(self.id("t"), 0, acks)]);
        assert_eq!(top, ErrorCode::NONE);
        parts.pop().unwrap()
    }

    /// Acknowledges; the error of the whole and those of the partitions, in the order of topic ids.
    pub fn ack_of(&mut self, member: &mut Member, acks: &[(Uuid, i32, Acks<'_>)]) -> (ErrorCode, Vec<ErrorCode>) {
        let renews = acks.iter().any(|(_, _, acks)| acks.iter().any(|(_, _, kinds)| kinds.contains(&RENEW)));
        let topics = acks.iter().map(|(topic_id, partition_index, acks)| AcknowledgeTopic {
            topic_id: *topic_id,
            partitions: vec![AcknowledgePartition {
                partition_index: *partition_index,
                acknowledgement_batches: batches(acks),
            }],
        });
        let request = ShareAcknowledgeRequest {
            group_id: Some(G),
            member_id: Some(&member.id),
            share_session_epoch: member.epoch,
            is_renew_ack: renews,
            topics: topics.collect(),
        };
        let answer = self.h.call_on(member.conn, 2, &request);
        let response: ShareAcknowledgeResponse<'_> = answer.decode();
        if response.error_code.is_none() {
            member.epoch += 1;
        }
        let parts = response.responses.iter().flat_map(|topic| &topic.partitions).map(|part| part.error_code);
        (response.error_code, parts.collect())
    }

    /// Closes a member's session.
    pub fn close_session(&mut self, member: &mut Member) -> ErrorCode {
        member.epoch = -1;
        let error = self.ack_of(member, &[]).0;
        member.epoch = 0;
        error
    }

    /// Where `G` starts in a partition of a topic, and its lag.
    pub fn start_and_lag(&mut self, topic: &str, partition: i32) -> (i64, i64) {
        let topics = vec![DescribeShareGroupOffsetsRequestTopic { topic_name: topic, partitions: vec![partition] }];
        let group = DescribeShareGroupOffsetsRequestGroup { group_id: G, topics: Some(topics) };
        let answer = self.h.call(1, &DescribeShareGroupOffsetsRequest { groups: vec![group] });
        let response: DescribeShareGroupOffsetsResponse<'_> = answer.decode();
        let part = &response.groups[0].topics[0].partitions[0];
        assert_eq!(part.error_code, ErrorCode::NONE);
        (part.start_offset, part.lag)
    }

    /// Sets where `G`, which has no members, starts in partition 0 of a topic.
    pub fn alter(&mut self, topic: &str, start_offset: i64) -> ErrorCode {
        let partitions = vec![AlterShareGroupOffsetsRequestPartition { partition_index: 0, start_offset }];
        let topics = vec![AlterShareGroupOffsetsRequestTopic { topic_name: topic, partitions }];
        let answer = self.h.call(0, &AlterShareGroupOffsetsRequest { group_id: G, topics });
        let response: AlterShareGroupOffsetsResponse<'_> = answer.decode();
        match response.error_code {
            ErrorCode::NONE => response.responses[0].partitions[0].error_code,
            error => error,
        }
    }

    /// Group state and error of a description.
    pub fn described(&mut self, group: &str) -> (ErrorCode, String, i32, Vec<String>) {
        let answer =
            self.h.call(1, &ShareGroupDescribeRequest { group_ids: vec![group], include_authorized_operations: false });
        let response: ShareGroupDescribeResponse<'_> = answer.decode();
        let group = &response.groups[0];
        let members = group.members.iter().map(|member| member.member_id.to_owned()).collect();
        (group.error_code, group.group_state.to_owned(), group.group_epoch, members)
    }
}

pub fn batches(acks: Acks<'_>) -> Vec<AcknowledgementBatch> {
    let batch = |(first_offset, last_offset, kinds): &(i64, i64, &[i8])| AcknowledgementBatch {
        first_offset: *first_offset,
        last_offset: *last_offset,
        acknowledge_types: kinds.to_vec(),
    };
    acks.iter().map(batch).collect()
}

pub fn fetched(answer: &Answer) -> Fetched {
    let response: ShareFetchResponse<'_> = answer.decode();
    let mut parts = BTreeMap::new();
    for topic in &response.responses {
        for part in &topic.partitions {
            let RecordSet::Bytes(bytes) = part.records else { panic!("records that are not there") };
            let batches = batch::batches(bytes).map(|batch| batch.unwrap().header);
            let batches: Vec<(i64, i64)> = batches.map(|header| (header.base_offset, header.last_offset())).collect();
            let acquired = part.acquired_records.iter().map(|r| (r.first_offset, r.last_offset, r.delivery_count));
            let acquired: Vec<Range> = acquired.collect();
            for (first, last, _) in &acquired {
                let told = |offset: i64| batches.iter().any(|(base, end)| (*base..=*end).contains(&offset));
                assert!(told(*first) && told(*last), "acquired {first} to {last}, sent {batches:?}");
            }
            let index = part.partition_index;
            let part =
                FetchedPart { error: part.error_code, ack_error: part.acknowledge_error_code, acquired, batches };
            assert!(parts.insert((topic.topic_id, index), part).is_none(), "a partition told twice");
        }
    }
    Fetched { error: response.error_code, lock_ms: response.acquisition_lock_timeout_ms, parts }
}
