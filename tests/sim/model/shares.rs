//! Owns what the model expects of share groups (KIP-932): one member at a time holds a record, what was accepted and
//! answered is never handed out again, nothing is handed out too often, and nothing is passed over.

use std::collections::BTreeMap;

use bytes::Bytes;
use chronik::wal::PartitionId;
use chronik::wire::Uuid;
use kafka_protocol::messages::share_fetch_response::PartitionData;
use kafka_protocol::messages::{ReadShareGroupStateResponse, ShareFetchRequest, ShareFetchResponse};

use super::super::batch;
use super::super::proto::{Answer, Ask};
use super::{
    compacted, hold, Call, Log, Model, Verdict, COORDINATOR_NOT_AVAILABLE, CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR, NONE,
    NOT_COORDINATOR, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
};

pub const UNKNOWN_SERVER_ERROR: i16 = -1;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_REQUEST: i16 = 42;
const GROUP_ID_NOT_FOUND: i16 = 69;
const FENCED_MEMBER_EPOCH: i16 = 110;
const INVALID_RECORD_STATE: i16 = 121;
pub const SHARE_SESSION_NOT_FOUND: i16 = 122;
pub const INVALID_SHARE_SESSION_EPOCH: i16 = 123;

/// What members say of records.
pub const ACCEPT: i8 = 1;
pub const RELEASE: i8 = 2;
pub const REJECT: i8 = 3;
pub const RENEW: i8 = 4;

/// States of records as brokers keep them.
const AVAILABLE: i8 = 0;

/// Who has a record.
#[derive(Clone, Debug)]
struct Held {
    client: usize,
    member: String,
    /// When it was asked for, monotonic µs, and how many requests had been handed in when it was told.
    asked_us: u64,
    told_at: u64,
}

/// A record as far as a group goes.
#[derive(Clone, Debug, Default)]
struct Record {
    deliveries: u32,
    /// The delivery count that was told last, how many requests had been handed in by then, and when it was, in µs.
    count: i16,
    told_at: u64,
    told_us: u64,
    held: Option<Held>,
    /// Somebody said that it is done with.
    may_be_done: bool,
    /// That was answered when so many requests had been handed in.
    done_at: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    records: BTreeMap<i64, Record>,
    /// The group starts here or before.
    base: Option<i64>,
    /// Starts that were told, each with how many requests had been handed in by then.
    start: (u64, i64),
}

#[derive(Clone, Debug, Default)]
struct Group {
    parts: BTreeMap<PartitionId, Part>,
    /// Fetches whose answer nobody got: each may have handed anything out.
    lost: u32,
    /// Fetches that are not answered yet: client by order.
    open: BTreeMap<u64, usize>,
}

/// One acknowledgement: where, from, to, and what is said of each.
#[derive(Clone, Debug)]
struct Said {
    id: PartitionId,
    first: i64,
    last: i64,
    kinds: Vec<i8>,
    /// The one who says so had all of it for certain, or somebody else had some of it.
    certain: bool,
    foreign: bool,
}

/// All share groups.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    groups: BTreeMap<String, Group>,
    /// Acknowledgements by the order of their request.
    said: BTreeMap<u64, Vec<Said>>,
    /// `group.share.record.lock.duration.ms` in µs, and `group.share.delivery.count.limit`.
    pub lock_us: u64,
    pub deliveries_max: i16,
    /// Records that were accepted; so that a run in which none is does not count.
    pub accepted: u64,
}

impl Shares {
    /// A client's connection is gone, and with it its sessions.
    pub fn disconnected(&mut self, client: usize) {
        for group in self.groups.values_mut() {
            let before = group.open.len();
            group.open.retain(|_, of| *of != client);
            group.lost += (before - group.open.len()) as u32;
            release(group, |held| held.client == client);
        }
    }

    /// The server has started: nobody has anything.
    pub fn restarted(&mut self) {
        self.said.clear();
        for group in self.groups.values_mut() {
            group.lost += group.open.len() as u32;
            group.open.clear();
            release(group, |_| true);
        }
    }

    pub fn handed_in(&mut self, call: &Call) {
        let (name, member, epoch, said) = match &call.ask {
            Ask::ShareFetch(request) => {
                (&request.group_id, &request.member_id, request.share_session_epoch, said_in_fetch(request))
            }
            Ask::ShareAcknowledge(request) => {
                let topics = request.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t.topic_id, p)));
                let said = topics.flat_map(|(topic, part)| {
                    let id = PartitionId { topic: Uuid(*topic.as_bytes()), partition: part.partition_index };
                    part.acknowledgement_batches
                        .iter()
                        .map(move |batch| said(id, batch.first_offset, batch.last_offset, &batch.acknowledge_types))
                });
                (&request.group_id, &request.member_id, request.share_session_epoch, said.collect())
            }
            _ => return,
        };
        let (Some(name), Some(member)) = (name, member) else { return };
        let group = self.groups.entry(name.to_string()).or_default();
        if let Ask::ShareFetch(_) = &call.ask {
            group.open.insert(call.order, call.client);
        }
        let lock_us = self.lock_us;
        let mut kept = Vec::new();
        for mut one in said {
            let part = group.parts.entry(one.id).or_default();
            let is_certain = |held: &Held| held.told_at < call.order && call.at_us < held.asked_us + lock_us;
            let held = |offset: i64| part.records.get(&offset).and_then(|r| r.held.as_ref()).filter(|h| is_certain(h));
            let own = |held: &Held| held.client == call.client && *held.member == **member;
            one.certain = (one.first..=one.last).all(|offset| held(offset).is_some_and(own));
            one.foreign = (one.first..=one.last).any(|offset| held(offset).is_some_and(|held| !own(held)));
            for offset in one.first..=one.last {
                let kind = one.kind(offset);
                let record = part.records.entry(offset).or_default();
                if kind == RENEW {
                    continue;
                }
                record.may_be_done |= kind != RELEASE || record.count >= self.deliveries_max;
                record.held.take_if(|held| *held.member == **member);
            }
            kept.push(one);
        }
        self.said.insert(call.order, kept);
        if epoch == -1 {
            release(group, |held| *held.member == **member);
        }
    }

    /// What was said with a request, answered for one partition.
    fn acknowledged(&mut self, call: &Call, name: &str, id: PartitionId, code: i16, orders: u64) -> Verdict {
        let of_request = self.said.get(&call.order).into_iter().flatten().filter(|said| said.id == id);
        let said: Vec<Said> = of_request.cloned().collect();
        let Some(part) = self.groups.get_mut(name).and_then(|group| group.parts.get_mut(&id)) else { return Ok(()) };
        let all_certain = !said.is_empty() && said.iter().all(|said| said.certain);
        hold!(code == NONE || !all_certain, "{name}: {id:?}: {said:?} refused with {code}");
        if code != NONE {
            return Ok(());
        }
        for said in said {
            hold!(!said.foreign, "{name}: {said:?} was taken from somebody who had not acquired it");
            for offset in said.first..=said.last {
                let record = part.records.entry(offset).or_default();
                match (said.kind(offset), &mut record.held) {
                    (ACCEPT | REJECT, _) => {
                        record.done_at.get_or_insert(orders);
                        self.accepted += 1;
                    }
                    (RENEW, Some(held)) if held.told_at < call.order => held.asked_us = held.asked_us.max(call.at_us),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Said {
    fn kind(&self, offset: i64) -> i8 {
        let index = if self.kinds.len() == 1 { 0 } else { (offset - self.first) as usize };
        self.kinds.get(index).copied().unwrap_or(RELEASE)
    }
}

fn said(id: PartitionId, first: i64, last: i64, kinds: &[i8]) -> Said {
    Said { id, first, last, kinds: kinds.to_vec(), certain: false, foreign: false }
}

fn said_in_fetch(request: &ShareFetchRequest) -> Vec<Said> {
    let topics = request.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t.topic_id, p)));
    let said = topics.flat_map(|(topic, part)| {
        let id = PartitionId { topic: Uuid(*topic.as_bytes()), partition: part.partition_index };
        let batches = part.acknowledgement_batches.iter();
        batches.map(move |batch| said(id, batch.first_offset, batch.last_offset, &batch.acknowledge_types))
    });
    said.collect()
}

fn release(group: &mut Group, whose: impl Fn(&Held) -> bool) {
    for record in group.parts.values_mut().flat_map(|part| part.records.values_mut()) {
        record.held.take_if(|held| whose(held));
    }
}

impl Model {
    /// Holds an answer against the model if it is about share groups; `None` if it is not.
    pub(super) fn check_shares(&mut self, call: &Call, answer: &Answer) -> Option<Verdict> {
        match (&call.ask, answer) {
            (Ask::ShareGroupHeartbeat(request), Answer::ShareGroupHeartbeat(response)) => {
                let (code, name) = (response.error_code, request.group_id.as_str());
                let lost = [UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH, GROUP_ID_NOT_FOUND].contains(&code);
                let may = code == NONE || lost && request.member_epoch != 0 || self.excused(code);
                let rises = code != NONE || response.member_epoch >= request.member_epoch;
                Some(match (may, rises) {
                    (true, true) => Ok(()),
                    (false, _) => Err(format!("{name}: heartbeat refused with {code}")),
                    _ => Err(format!("{name}: epoch {} after {}", response.member_epoch, request.member_epoch)),
                })
            }
            (Ask::ShareFetch(request), Answer::ShareFetch(response)) => {
                Some(self.check_share_fetch(call, request, response))
            }
            (Ask::ShareAcknowledge(request), Answer::ShareAcknowledge(response)) => {
                let name = request.group_id.as_ref().map_or(String::new(), |name| name.to_string());
                let parts = response.responses.iter().flat_map(|topic| {
                    let topic_id = Uuid(*topic.topic_id.as_bytes());
                    topic.partitions.iter().map(move |p| (topic_id, p.partition_index, p.error_code))
                });
                let mut told = parts.collect::<Vec<_>>().into_iter();
                let verdict = self.may_refuse_session(response.error_code);
                let verdict = verdict.and_then(|()| {
                    told.try_for_each(|(topic, partition, code)| {
                        self.check_acknowledged(call, &name, PartitionId { topic, partition }, code)
                    })
                });
                self.shares.said.remove(&call.order);
                Some(verdict)
            }
            (Ask::ReadShareGroupState(request), Answer::ReadShareGroupState(response)) => {
                Some(self.check_share_state(call, &request.group_id, response))
            }
            _ => None,
        }
    }

    fn excused(&self, code: i16) -> bool {
        let full = [COORDINATOR_NOT_AVAILABLE, KAFKA_STORAGE_ERROR].contains(&code) && self.excuses.disk_full;
        full || code == NOT_COORDINATOR && self.stopping
    }

    fn may_refuse_session(&self, code: i16) -> Verdict {
        let known = [NONE, SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH].contains(&code);
        hold!(known || self.excused(code), "a share session refused with {code}");
        Ok(())
    }

    fn check_acknowledged(&mut self, call: &Call, name: &str, id: PartitionId, code: i16) -> Verdict {
        let usual = [NONE, INVALID_RECORD_STATE, INVALID_REQUEST, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION];
        let excused = self.excused(code);
        hold!(usual.contains(&code) || excused, "{name}: an acknowledgement refused with {code}");
        let topic = self.names.get(&id.topic).cloned().unwrap_or_default();
        let gone = [UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION].contains(&code)
            && self.may_be_unknown(call, &topic, id.partition);
        // Records below the log start are done with, whoever has them.
        let moved = self.logs.get(&id).is_some_and(|log| log.start_max(self.expires(&topic)) > 0);
        if excused || gone || moved && code != NONE {
            return Ok(());
        }
        let orders = self.orders;
        self.shares.acknowledged(call, name, id, code, orders)
    }

    fn check_share_fetch(
        &mut self,
        call: &Call,
        request: &ShareFetchRequest,
        response: &ShareFetchResponse,
    ) -> Verdict {
        let name = request.group_id.as_ref().map_or(String::new(), |name| name.to_string());
        let member = request.member_id.as_ref().map_or(String::new(), |member| member.to_string());
        self.may_refuse_session(response.error_code)?;
        let acknowledges: Vec<PartitionId> =
            self.shares.said.get(&call.order).into_iter().flatten().map(|said| said.id).collect();
        for topic in &response.responses {
            for part in &topic.partitions {
                let id = PartitionId { topic: Uuid(*topic.topic_id.as_bytes()), partition: part.partition_index };
                if acknowledges.contains(&id) {
                    self.check_acknowledged(call, &name, id, part.acknowledge_error_code)?;
                }
                self.check_acquired(call, (&name, &member), id, part)
                    .map_err(|why| format!("{name}: {member}: {id:?}: {why}"))?;
            }
        }
        self.shares.said.remove(&call.order);
        if let Some(group) = self.shares.groups.get_mut(&name) {
            group.open.remove(&call.order);
        }
        Ok(())
    }

    fn check_acquired(&mut self, call: &Call, who: (&str, &str), id: PartitionId, part: &PartitionData) -> Verdict {
        let (durable, orders, now_us) = (self.durable, self.orders, self.now_us);
        let (lock_us, deliveries_max, full) = (self.shares.lock_us, self.shares.deliveries_max, self.excuses.disk_full);
        match part.error_code {
            NONE => {}
            UNKNOWN_SERVER_ERROR => return Ok(()),
            UNKNOWN_TOPIC_ID | UNKNOWN_TOPIC_OR_PARTITION => {
                let topic = self.names.get(&id.topic).cloned().unwrap_or_default();
                hold!(self.may_be_unknown(call, &topic, id.partition), "is unknown");
                return Ok(());
            }
            KAFKA_STORAGE_ERROR | CORRUPT_MESSAGE if self.excuses.reads_fail => return Ok(()),
            code => return Err(format!("error {code}")),
        }
        let is_compacted = self.names.get(&id.topic).is_some_and(|name| self.compacted(name).is_some());
        let log = self.logs.get(&id).unwrap_or(&self.empty);
        let group = self.shares.groups.entry(who.0.to_string()).or_default();
        let (lost, open) = (group.lost, group.open.len() as u32);
        let state = group.parts.entry(id).or_default();
        state.base.get_or_insert(log.end_at(durable));
        let batches = check_batches(log, part.records.clone().unwrap_or_default(), durable, is_compacted)?;
        for range in &part.acquired_records {
            hold!(range.first_offset <= range.last_offset, "acquired {range:?}");
            hold!((1..=deliveries_max).contains(&range.delivery_count), "delivered {} times", range.delivery_count);
            for offset in range.first_offset..=range.last_offset {
                hold!(
                    batches.iter().any(|(first, last)| (*first..=*last).contains(&offset)),
                    "{offset} is acquired and not there"
                );
                let record = state.records.entry(offset).or_default();
                let count = range.delivery_count;
                // Whoever was told before and had it had it before, unless the lock of this one was over by then.
                let later = record.told_us < call.at_us + lock_us;
                let done = record.done_at.filter(|done| *done < call.order || later);
                hold!(done.is_none(), "{offset} is handed out again, and was done with: {record:?}");
                if let Some(held) = &record.held {
                    let both = now_us < held.asked_us + lock_us && later;
                    hold!(!both, "{offset} is handed out, and {held:?} has it");
                }
                let known = record.told_at < call.order && !full;
                hold!(count >= record.count || !known, "{offset}: delivery {count} after {}", record.count);
                let counted = count as u32 <= record.deliveries + lost + open;
                hold!(counted, "{offset}: delivery {count}, but it was told {} times", record.deliveries);
                record.deliveries += 1;
                (record.count, record.told_at, record.told_us) = (count, orders, now_us);
                record.held = Some(Held {
                    client: call.client,
                    member: who.1.to_string(),
                    asked_us: call.at_us,
                    told_at: orders,
                });
            }
        }
        Ok(())
    }

    /// A group's state, as brokers tell it each other: is anything passed over, or back that was done with?
    fn check_share_state(&mut self, call: &Call, name: &str, response: &ReadShareGroupStateResponse) -> Verdict {
        let (orders, deliveries_max, full) = (self.orders, self.shares.deliveries_max, self.excuses.disk_full);
        for topic in &response.results {
            for told in topic.partitions.iter().filter(|told| told.error_code == NONE && told.start_offset >= 0) {
                let id = PartitionId { topic: Uuid(*topic.topic_id.as_bytes()), partition: told.partition };
                let topic_name = self.names.get(&id.topic).cloned().unwrap_or_default();
                let log = self.logs.get(&id).unwrap_or(&self.empty);
                let low = log.start_max(self.expires(&topic_name));
                let (compacted, durable) = (self.compacted(&topic_name), self.durable);
                let Some(group) = self.shares.groups.get_mut(name) else { continue };
                let spare = group.lost + group.open.len() as u32;
                let Some(part) = group.parts.get_mut(&id) else { continue };
                let start = told.start_offset;
                let back = part.start.0 < call.order && start < part.start.1;
                hold!(!back || full, "{name}: {id:?}: start {start} after {}", part.start.1);
                part.start = (orders, part.start.1.max(start));
                let state = |offset: i64| {
                    let run = told.state_batches.iter().find(|b| (b.first_offset..=b.last_offset).contains(&offset));
                    run.map_or(AVAILABLE, |run| run.delivery_state)
                };
                for offset in part.base.unwrap_or(i64::MAX).max(low)..log.end_at(call.durable) {
                    let is_final = offset < start || state(offset) != AVAILABLE;
                    let record = part.records.get(&offset);
                    let deliveries = record.map_or(0, |record| record.deliveries) + spare;
                    let may_be_final = record.is_some_and(|record| record.may_be_done)
                        || deliveries >= deliveries_max as u32
                        || log.at(offset).is_none_or(|placed| placed.batch.marker.is_some())
                        || compacted.is_some_and(|rule| compacted::may_be_gone(log, offset, durable, rule));
                    hold!(!is_final || may_be_final, "{name}: {id:?}: {offset} is passed over: {record:?}, {told:?}");
                    let done = record.is_some_and(|record| record.done_at.is_some_and(|done| done < call.order));
                    hold!(is_final || !done, "{name}: {id:?}: {offset} was done with, and is available again");
                }
            }
        }
        Ok(())
    }
}

/// First and last offset of each batch of records; each has to be as it stands in the log.
fn check_batches(log: &Log, records: Bytes, durable: u64, is_compacted: bool) -> Result<Vec<(i64, i64)>, String> {
    let mut spans = Vec::new();
    for batch in batch::parse(&records)? {
        let base = batch.base_offset;
        let placed = log.at(base).ok_or_else(|| format!("batch {} at {base}, where nothing is", batch.tag))?;
        match is_compacted {
            true => compacted::check_batch(&batch, placed)?,
            false => {
                hold!(placed.batch.bytes == batch.bytes, "the bytes of batch {} at {base} have changed", batch.tag)
            }
        }
        hold!(placed.seq <= durable, "batch {} is visible before it was durable", batch.tag);
        if batch.marker.is_none() {
            spans.push((base, batch.last_offset));
        }
    }
    Ok(spans)
}
