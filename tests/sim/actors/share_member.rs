//! Owns members of share groups (KIP-932): they fetch, accept, release and reject, keep records for too long, vanish, and
//! say things of records that they no longer have. At the end of a run they accept all that is left.

use std::collections::BTreeSet;

use chronik::wire::Uuid;
use kafka_protocol::messages::share_acknowledge_request::{AcknowledgePartition, AcknowledgeTopic};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{
    GroupId, ShareAcknowledgeRequest, ShareFetchRequest, ShareFetchResponse, ShareGroupHeartbeatRequest,
};

use super::super::model::shares::*;
use super::super::model::NONE;
use super::super::proto::{foreign_id, text, topic_name, Answer, Ask};
use super::super::renew;
use super::{Actor, Turn};

/// Records that the member was given.
#[derive(Clone, Copy, Debug)]
struct Range {
    topic: Uuid,
    partition: i32,
    first: i64,
    last: i64,
}

/// What it says of a range, one for all or one for each.
type Saying = (Range, Vec<i8>);

/// Whether the second of two ranges in order begins within the first.
fn overlap(a: &Range, b: &Range) -> bool {
    (a.topic, a.partition) == (b.topic, b.partition) && b.first <= a.last
}

/// A member.
#[derive(Debug)]
pub struct ShareMember {
    group: String,
    number: u64,
    names: u64,
    id: String,
    /// 0 while it is outside.
    epoch: i32,
    assigned: BTreeSet<(Uuid, i32)>,
    /// The epoch of its next request in the share session; 0 opens one.
    session: i32,
    /// Partitions of the session.
    fetched: BTreeSet<(Uuid, i32)>,
    held: Vec<Range>,
    /// What it had before it lost its session, or was slow.
    stale: Vec<Range>,
    vanishes: bool,
    /// It subscribes to everything there is.
    complete: bool,
    asked: Option<i32>,
}

impl ShareMember {
    pub fn new(group: String, number: u64, vanishes: bool) -> ShareMember {
        ShareMember {
            group,
            number,
            names: 0,
            id: String::new(),
            epoch: 0,
            assigned: BTreeSet::new(),
            session: 0,
            fetched: BTreeSet::new(),
            held: Vec::new(),
            stale: Vec::new(),
            vanishes,
            complete: false,
            asked: None,
        }
    }

    fn ask(&mut self, turn: &mut Turn<'_>, ask: Ask) {
        self.asked = Some(turn.send(if matches!(ask, Ask::ReadShareGroupState(_)) { 0 } else { 1 }, ask));
    }

    fn beat(&mut self, turn: &mut Turn<'_>) {
        let joins = self.epoch == 0;
        if joins && (self.id.is_empty() || turn.rng.one_in(4)) {
            self.names += 1;
            self.id = format!("sharer-{}-{}", self.number, self.names);
            self.lose_session();
        }
        let mut request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_subscribed_topic_names(None);
        let completes = turn.closing && !self.complete;
        if joins || completes || turn.rng.one_in(15) {
            let mut topics = turn.readable(true);
            topics.retain(|_| turn.closing || turn.rng.chance(70));
            topics.extend([("passing-0".to_string(), 1)]);
            self.complete = turn.closing;
            let names = topics.iter().map(|(topic, _)| topic_name(topic)).collect();
            request.subscribed_topic_names = Some(names);
        }
        self.ask(turn, Ask::ShareGroupHeartbeat(request));
    }

    fn leave(&mut self, turn: &mut Turn<'_>) {
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_member_id(text(&self.id))
            .with_member_epoch(-1);
        self.epoch = 0;
        self.ask(turn, Ask::ShareGroupHeartbeat(request));
    }

    /// What was acquired may be somebody else's now.
    fn lose_session(&mut self) {
        self.session = 0;
        self.fetched.clear();
        self.stale = std::mem::take(&mut self.held);
    }

    /// What to say now of what it holds, and, by mistake, of what it held.
    fn sayings(&mut self, turn: &mut Turn<'_>) -> Vec<Saying> {
        let mut kept = Vec::new();
        let mut said: Vec<Saying> = Vec::new();
        for range in std::mem::take(&mut self.held) {
            let len = (range.last - range.first + 1) as usize;
            let one = *turn.rng.pick(&[ACCEPT, ACCEPT, ACCEPT, RELEASE, REJECT]).unwrap_or(&ACCEPT);
            match turn.rng.below(10) {
                _ if turn.closing => said.push((range, vec![ACCEPT])),
                0..=2 => kept.push(range),
                3 if len > 1 => {
                    let kinds = (0..len).map(|_| *turn.rng.pick(&[ACCEPT, RELEASE, REJECT]).unwrap_or(&ACCEPT));
                    said.push((range, kinds.collect()));
                }
                4 if len > 1 => {
                    let middle = range.first + turn.rng.below(len as u64 - 1) as i64;
                    said.push((Range { last: middle, ..range }, vec![one]));
                    kept.push(Range { first: middle + 1, ..range });
                }
                _ => said.push((range, vec![one])),
            }
        }
        self.held = kept;
        if turn.rng.one_in(6) && !turn.closing {
            said.extend(self.stale.drain(..).map(|range| (range, vec![ACCEPT])));
        }
        // In order, and nothing twice.
        said.sort_by_key(|(range, _)| (range.topic, range.partition, range.first));
        said.dedup_by(|b, a| overlap(&a.0, &b.0));
        said
    }

    fn fetch(&mut self, turn: &mut Turn<'_>) {
        let opens = self.session == 0;
        let sayings = if opens { Vec::new() } else { self.sayings(turn) };
        let wanted: BTreeSet<(Uuid, i32)> = self.assigned.clone();
        let added = wanted.iter().filter(|id| !self.fetched.contains(*id)).copied();
        let mut named: BTreeSet<(Uuid, i32)> = added.collect();
        named.extend(sayings.iter().map(|(range, _)| (range.topic, range.partition)));
        let forgotten = self.fetched.iter().filter(|id| !wanted.contains(*id) && !named.contains(*id));
        let forgotten = forgotten.map(|(topic, partition)| {
            ForgottenTopic::default().with_topic_id(foreign_id(*topic)).with_partitions(vec![*partition])
        });
        let forgotten: Vec<ForgottenTopic> = forgotten.collect();
        let topics = named.iter().map(|(topic, partition)| {
            let of_part = sayings.iter().filter(|(range, _)| (range.topic, range.partition) == (*topic, *partition));
            let batches = of_part.map(|(range, kinds)| {
                kafka_protocol::messages::share_fetch_request::AcknowledgementBatch::default()
                    .with_first_offset(range.first)
                    .with_last_offset(range.last)
                    .with_acknowledge_types(kinds.clone())
            });
            let part = FetchPartition::default()
                .with_partition_index(*partition)
                .with_acknowledgement_batches(batches.collect());
            FetchTopic::default().with_topic_id(foreign_id(*topic)).with_partitions(vec![part])
        });
        let request = ShareFetchRequest::default()
            .with_group_id(Some(GroupId(text(&self.group))))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(self.session)
            .with_max_wait_ms(*turn.rng.pick(&[0, 20, 200]).unwrap_or(&0))
            .with_min_bytes(*turn.rng.pick(&[0, 1, 1, 2000]).unwrap_or(&1))
            .with_max_bytes(if turn.closing { 1 << 22 } else { *turn.rng.pick(&[1, 3000, 1 << 20]).unwrap_or(&1) })
            .with_max_records(if turn.closing { 1000 } else { *turn.rng.pick(&[1, 5, 100]).unwrap_or(&5) })
            .with_batch_size(*turn.rng.pick(&[1, 10, 500]).unwrap_or(&10))
            .with_topics(topics.collect())
            .with_forgotten_topics_data(forgotten);
        self.fetched = named.union(&wanted).copied().collect();
        self.ask(turn, Ask::ShareFetch(request));
    }

    fn acknowledge(&mut self, turn: &mut Turn<'_>, closes: bool) {
        let renews = !closes && turn.rng.one_in(3);
        let mut sayings = self.sayings(turn);
        if renews {
            // What it would keep without a word it asks to keep for longer.
            sayings.extend(self.held.iter().map(|range| (*range, vec![RENEW])));
            sayings.sort_by_key(|(range, _)| (range.topic, range.partition, range.first));
            sayings.dedup_by(|b, a| overlap(&a.0, &b.0));
        }
        let mut topics: Vec<AcknowledgeTopic> = Vec::new();
        for (range, kinds) in sayings {
            let batch = kafka_protocol::messages::share_acknowledge_request::AcknowledgementBatch::default()
                .with_first_offset(range.first)
                .with_last_offset(range.last)
                .with_acknowledge_types(kinds);
            let id = foreign_id(range.topic);
            let same = |topic: &&mut AcknowledgeTopic| {
                topic.topic_id == id && topic.partitions.iter().any(|p| p.partition_index == range.partition)
            };
            match topics.iter_mut().find(same).and_then(|topic| topic.partitions.first_mut()) {
                Some(part) => part.acknowledgement_batches.push(batch),
                None => {
                    let part = AcknowledgePartition::default()
                        .with_partition_index(range.partition)
                        .with_acknowledgement_batches(vec![batch]);
                    topics.push(AcknowledgeTopic::default().with_topic_id(id).with_partitions(vec![part]));
                }
            }
        }
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text(&self.group))))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(if closes { -1 } else { self.session })
            .with_topics(topics);
        let version = if renews { renew::VERSION } else { 1 };
        self.asked = Some(turn.send(version, Ask::ShareAcknowledge(request)));
    }

    fn fetched(&mut self, response: &ShareFetchResponse) {
        if response.error_code != NONE {
            return self.lose_session();
        }
        self.session += 1;
        for topic in &response.responses {
            for part in &topic.partitions {
                let (topic, partition) = (Uuid(*topic.topic_id.as_bytes()), part.partition_index);
                let acquired = part.acquired_records.iter();
                self.held.extend(acquired.map(|range| Range {
                    topic,
                    partition,
                    first: range.first_offset,
                    last: range.last_offset,
                }));
            }
        }
    }
}

impl Actor for ShareMember {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(5000, 100_000);
        if self.asked.is_some() {
            return;
        }
        if self.epoch == 0 || turn.closing && !self.complete {
            return self.beat(turn);
        }
        if self.vanishes && !turn.closing {
            match turn.rng.below(150) {
                // It does not say that it goes, and what it has stays locked.
                0 | 1 => {
                    (self.epoch, self.id) = (0, String::new());
                    self.lose_session();
                    turn.again_us = Some(turn.rng.range(1000, 3_000_000));
                    return;
                }
                2 | 3 => {
                    turn.again_us = Some(turn.rng.range(200_000, 6_000_000));
                    return;
                }
                4 => return self.leave(turn),
                _ => {}
            }
        }
        match turn.rng.below(20) {
            0..=3 => self.beat(turn),
            4..=7 if self.session > 0 => self.acknowledge(turn, false),
            8 if self.session > 0 => self.acknowledge(turn, true),
            _ => self.fetch(turn),
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if self.asked.take_if(|asked| *asked == correlation).is_none() {
            return Err(format!("answer {correlation} to nothing"));
        }
        match answer {
            Answer::ShareGroupHeartbeat(response) if response.error_code == NONE && response.member_epoch > 0 => {
                self.epoch = response.member_epoch;
                if let Some(assignment) = &response.assignment {
                    let topics = assignment.topic_partitions.iter();
                    let parts = topics.flat_map(|t| t.partitions.iter().map(|p| (Uuid(*t.topic_id.as_bytes()), *p)));
                    self.assigned = parts.collect();
                }
            }
            Answer::ShareGroupHeartbeat(response) if response.error_code != NONE => {
                (self.epoch, self.complete) = (0, false);
            }
            Answer::ShareFetch(response) => self.fetched(response),
            Answer::ShareAcknowledge(response) if response.error_code != NONE => self.lose_session(),
            Answer::ShareAcknowledge(_) => self.session += 1,
            _ => {}
        }
        if turn.rng.chance(50) {
            turn.again(0, 10_000);
        }
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked = None;
        // Whether it was heard is not known: it says all again.
        (self.epoch, self.complete) = (0, false);
        self.lose_session();
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none()
    }
}
