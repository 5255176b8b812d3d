//! Owns what the model expects of groups of the consumer protocol (KIP-848), with members of the classic protocol among
//! them: nobody is given what another member still holds, epochs only rise while a group lives, who was heard of in time
//! stays a member, and who is none commits nothing.
//!
//! The broker carries out a request when it is handed in, so what members hold is told in spans of the order of requests:
//! from the one that gave a partition to a member to the one with which the member gave it up.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Buf;
use chronik::wire::Uuid;
use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerProtocolAssignment, JoinGroupRequest,
    OffsetCommitRequest, OffsetCommitResponse, SyncGroupResponse,
};
use kafka_protocol::protocol::Decodable;

use super::super::proto::{Answer, Ask};
use super::{hold, Call, Model, Verdict, COORDINATOR_NOT_AVAILABLE, NONE, NOT_COORDINATOR};

pub const ILLEGAL_GENERATION: i16 = 22;
pub const UNKNOWN_MEMBER_ID: i16 = 25;
pub const REBALANCE_IN_PROGRESS: i16 = 27;
pub const GROUP_ID_NOT_FOUND: i16 = 69;
pub const MEMBER_ID_REQUIRED: i16 = 79;
pub const FENCED_INSTANCE_ID: i16 = 82;
pub const FENCED_MEMBER_EPOCH: i16 = 110;
pub const UNRELEASED_INSTANCE_ID: i16 = 111;
pub const STALE_MEMBER_EPOCH: i16 = 113;
pub const INVALID_REGULAR_EXPRESSION: i16 = 128;

/// A rebalance timeout that no run outlasts: a member that has it is not sent away for giving partitions up slowly.
pub const PATIENT_MS: i32 = 3_600_000;

/// Session timeout of members of the classic protocol.
pub const CLASSIC_SESSION_MS: i32 = 6000;

/// What no expression is.
pub const NO_PATTERN: &str = "steady-[";

/// Whether a group is one that this file follows.
pub fn is_followed(group: &str) -> bool {
    group.starts_with("next-")
}

/// A partition in somebody's hands.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// Orders of the request that gave it and of the one that gave it up.
    start: u64,
    end: u64,
    start_us: u64,
    /// Once it has ended: until when the session lasted in which it was held.
    until_us: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Member {
    instance: Option<String>,
    classic: bool,
    patient: bool,
    /// The epoch that was told last, and how many requests had been handed in by then.
    epoch: i32,
    known_at: u64,
    /// It is a member until then, monotonic µs, unless it goes.
    until_us: u64,
    /// The last request that joins, and the last with which it may have gone.
    joined: u64,
    leaving: u64,
    /// Certainly no member since then.
    gone: Option<u64>,
    /// A request whose answer is outstanding.
    open: Option<u64>,
    /// An answer was lost: the broker may know a newer epoch than the member.
    unsure: bool,
    holds: BTreeMap<(Uuid, i32), Hold>,
}

impl Member {
    fn is_certain(&self, now_us: u64) -> bool {
        // After a departure that was asked for, only an answer to who joins again says that it is there.
        let has_stayed = self.leaving == 0 || (self.joined > self.leaving && self.known_at > self.joined);
        self.patient && self.gone.is_none() && has_stayed && self.known_at > 0 && now_us < self.until_us
    }

    /// Gives up what is not in `kept`.
    fn give_up(&mut self, order: u64, kept: &BTreeSet<(Uuid, i32)>) {
        let given = self.holds.iter_mut().filter(|(id, hold)| !kept.contains(id) && hold.end == u64::MAX);
        let until_us = Some(self.until_us);
        given.for_each(|(_, hold)| (hold.end, hold.until_us) = (order, until_us));
    }

    fn asks(&mut self, order: u64) {
        self.unsure |= self.open.replace(order).is_some();
    }
}

#[derive(Clone, Debug, Default)]
struct Group {
    members: BTreeMap<String, Member>,
    /// Epochs that were told since the group was last empty, each with how many requests had been handed in by then.
    told: Vec<(u64, i32)>,
    /// A regular expression was used: requests may be carried out later than they were handed in.
    patterns: bool,
}

impl Group {
    /// Once nobody is a member for certain the group may be gone, and its epoch may begin anew.
    fn forget_if_dead(&mut self, now_us: u64) {
        if !self.members.values().any(|member| member.is_certain(now_us)) {
            self.told.clear();
        }
    }

    fn floor(&self, order: u64) -> i32 {
        self.told.iter().filter(|(at, _)| *at < order).map(|(_, epoch)| *epoch).max().unwrap_or(0)
    }

    fn tells(&mut self, orders: u64, epoch: i32) {
        if self.told.iter().all(|(_, told)| *told < epoch) {
            self.told.push((orders, epoch));
        }
    }

    /// Somebody joins as a static member: whoever had the instance is replaced.
    fn takes_over(&mut self, order: u64, instance: Option<&str>, id: &str) {
        let Some(instance) = instance else { return };
        let others = self.members.iter_mut().filter(|(other, _)| *other != id);
        for (_, member) in others.filter(|(_, member)| member.instance.as_deref() == Some(instance)) {
            member.leaving = order;
            member.give_up(order, &BTreeSet::new());
        }
    }

    /// A member was given partitions: it holds them from now on, and nobody else may.
    fn given(&mut self, call: &Call, orders: u64, id: &str, given: &BTreeSet<(Uuid, i32)>) -> Verdict {
        let start = if self.patterns { orders } else { call.order };
        let new = Hold { start, end: u64::MAX, start_us: call.at_us, until_us: None };
        let Some(member) = self.members.get_mut(id) else { return Ok(()) };
        if member.joined.max(member.leaving) > call.order || !member.patient {
            return Ok(());
        }
        for partition in given {
            let held = member.holds.get(partition).is_some_and(|hold| hold.end == u64::MAX);
            if !held {
                member.holds.insert(*partition, new);
            }
        }
        let until_us = member.until_us;
        for (other, theirs) in self.members.iter().filter(|(other, _)| *other != id) {
            for (partition, hold) in theirs.holds.iter().filter(|(partition, _)| given.contains(partition)) {
                let own = self.members.get(id).and_then(|member| member.holds.get(partition)).unwrap_or(&new);
                let theirs_us = hold.until_us.unwrap_or(theirs.until_us);
                let (first, until, second) =
                    if hold.start < own.start { (hold, theirs_us, own) } else { (own, until_us, hold) };
                let both = second.start < first.end && second.start_us < until;
                hold!(!both, "{partition:?} was given to {id} while {other} had it: {own:?}, {hold:?}");
            }
        }
        Ok(())
    }
}

/// All groups of the consumer protocol.
#[derive(Clone, Debug, Default)]
pub struct Consumers {
    groups: BTreeMap<String, Group>,
    /// `group.consumer.session.timeout.ms`, in µs.
    pub session_us: u64,
    /// Partitions that members were given; so that a run in which none is does not count.
    pub given: u64,
}

impl Consumers {
    /// The broker takes a request.
    pub fn handed_in(&mut self, call: &Call) {
        match &call.ask {
            Ask::ConsumerGroupHeartbeat(request) => self.beat_handed_in(call, request),
            Ask::JoinGroup(request) if is_followed(&request.group_id) => self.join_handed_in(call, request),
            Ask::SyncGroup(request) if is_followed(&request.group_id) => {
                self.group(call, &request.group_id).members.entry(request.member_id.to_string()).or_default();
            }
            Ask::LeaveGroup(request) if is_followed(&request.group_id) => {
                let group = self.group(call, &request.group_id);
                let named = request.members.iter().map(|member| member.member_id.to_string());
                for id in named.chain([request.member_id.to_string()]) {
                    if let Some(member) = group.members.get_mut(&id) {
                        member.leaving = call.order;
                        member.give_up(call.order, &BTreeSet::new());
                    }
                }
            }
            _ => {}
        }
    }

    fn group(&mut self, call: &Call, name: &str) -> &mut Group {
        let group = self.groups.entry(name.to_string()).or_default();
        group.forget_if_dead(call.at_us);
        group
    }

    fn beat_handed_in(&mut self, call: &Call, request: &ConsumerGroupHeartbeatRequest) {
        let group = self.group(call, &request.group_id);
        group.patterns |= request.subscribed_topic_regex.as_ref().is_some_and(|pattern| !pattern.is_empty());
        if request.member_epoch == 0 {
            group.takes_over(call.order, request.instance_id.as_deref(), &request.member_id);
        }
        if request.member_id.is_empty() {
            return;
        }
        let member = group.members.entry(request.member_id.to_string()).or_default();
        member.asks(call.order);
        if request.member_epoch == 0 {
            member.joined = call.order;
            member.unsure = true;
        } else if request.member_epoch < 0 {
            member.leaving = call.order;
        }
        let kept = request.topic_partitions.as_ref().map(|topics| {
            let parts = topics.iter().flat_map(|t| t.partitions.iter().map(|p| (Uuid(*t.topic_id.as_bytes()), *p)));
            parts.collect::<BTreeSet<_>>()
        });
        if request.member_epoch < 0 {
            member.give_up(call.order, &BTreeSet::new());
        } else if let Some(kept) = kept {
            member.give_up(call.order, &kept);
        }
    }

    fn join_handed_in(&mut self, call: &Call, request: &JoinGroupRequest) {
        let group = self.group(call, &request.group_id);
        group.takes_over(call.order, request.group_instance_id.as_deref(), &request.member_id);
        if request.member_id.is_empty() {
            return;
        }
        let member = group.members.entry(request.member_id.to_string()).or_default();
        // It says that it owns nothing.
        member.joined = call.order;
        member.instance = request.group_instance_id.as_ref().map(|instance| instance.to_string());
        member.give_up(call.order, &BTreeSet::new());
    }
}

impl Model {
    /// Holds an answer against the model if it is about these groups; `None` if it is not.
    pub(super) fn check_consumers(&mut self, call: &Call, answer: &Answer) -> Option<Verdict> {
        match (&call.ask, answer) {
            (Ask::ConsumerGroupHeartbeat(request), Answer::ConsumerGroupHeartbeat(response)) => {
                Some(self.check_beat(call, request, response))
            }
            (Ask::ConsumerGroupDescribe(_), Answer::ConsumerGroupDescribe(response)) => {
                Some(response.groups.iter().try_for_each(|group| self.check_described(call, group)))
            }
            (Ask::JoinGroup(request), Answer::JoinGroup(response)) if is_followed(&request.group_id) => {
                Some(self.may_refuse_classic("join", response.error_code))
            }
            (Ask::SyncGroup(request), Answer::SyncGroup(response)) if is_followed(&request.group_id) => {
                Some(match response.error_code {
                    NONE => self.check_classic_sync(call, (&request.group_id, &request.member_id), response),
                    code => self.may_refuse_classic("sync", code),
                })
            }
            (Ask::Heartbeat(request), Answer::Heartbeat(response)) if is_followed(&request.group_id) => {
                let group = self.consumers.group(call, &request.group_id);
                let member = group.members.get_mut(request.member_id.as_str());
                if let Some(member) = member.filter(|_| response.error_code == NONE) {
                    member.until_us = member.until_us.max(call.at_us + CLASSIC_SESSION_MS as u64 * 1000);
                }
                Some(self.may_refuse_classic("heartbeat", response.error_code))
            }
            (Ask::LeaveGroup(_), Answer::LeaveGroup(response)) => {
                Some(self.may_refuse_classic("leave", response.error_code))
            }
            _ => None,
        }
    }

    fn may_refuse_classic(&self, what: &str, code: i16) -> Verdict {
        let usual = [
            NONE,
            ILLEGAL_GENERATION,
            UNKNOWN_MEMBER_ID,
            REBALANCE_IN_PROGRESS,
            GROUP_ID_NOT_FOUND,
            MEMBER_ID_REQUIRED,
            FENCED_INSTANCE_ID,
        ];
        let full = code == COORDINATOR_NOT_AVAILABLE && self.excuses.disk_full;
        let stopping = code == NOT_COORDINATOR && self.stopping;
        hold!(usual.contains(&code) || full || stopping, "{what} of the classic protocol refused with {code}");
        Ok(())
    }

    fn check_beat(
        &mut self,
        call: &Call,
        request: &ConsumerGroupHeartbeatRequest,
        response: &ConsumerGroupHeartbeatResponse,
    ) -> Verdict {
        let (orders, session_us, now_us) = (self.orders, self.consumers.session_us, self.now_us);
        let id = match &response.member_id {
            Some(told) if request.member_id.is_empty() => told.to_string(),
            _ => request.member_id.to_string(),
        };
        if response.error_code != NONE {
            return self.check_beat_refused(call, request, response.error_code);
        }
        hold!(!id.is_empty(), "{}: a member without an id", request.group_id.as_str());
        let group = self.consumers.group(call, &request.group_id);
        let floor = group.floor(call.order);
        let member = group.members.entry(id.clone()).or_default();
        member.open.take_if(|open| *open == call.order);
        if request.member_epoch < 0 {
            if member.joined < call.order && request.member_epoch == -1 {
                member.gone = Some(orders);
            }
            return Ok(());
        }
        let epoch = response.member_epoch;
        let least = match request.member_epoch {
            0 => floor,
            said if member.known_at < call.order => said.max(member.epoch),
            said => said,
        };
        hold!(epoch >= least.max(1), "{}: {id} was told epoch {epoch} after {least}", request.group_id.as_str());
        if member.joined <= call.order {
            if request.member_epoch == 0 {
                member.patient = request.rebalance_timeout_ms == PATIENT_MS;
                member.instance = request.instance_id.as_ref().map(|instance| instance.to_string());
                member.joined = call.order;
                member.classic = false;
            }
            member.until_us = member.until_us.max(call.at_us + session_us);
            (member.epoch, member.known_at, member.gone) = (epoch, orders, None);
            member.unsure = false;
            let certain = member.is_certain(now_us);
            if certain {
                group.tells(orders, epoch);
            }
        }
        let Some(assignment) = &response.assignment else { return Ok(()) };
        let topics = assignment.topic_partitions.iter();
        let parts = topics.flat_map(|t| t.partitions.iter().map(|p| (Uuid(*t.topic_id.as_bytes()), *p)));
        let parts: BTreeSet<_> = parts.collect();
        let verdict = group.given(call, orders, &id, &parts);
        self.consumers.given += parts.len() as u64;
        verdict
    }

    fn check_beat_refused(&mut self, call: &Call, request: &ConsumerGroupHeartbeatRequest, code: i16) -> Verdict {
        let orders = self.orders;
        let (name, id) = (request.group_id.as_str(), request.member_id.as_str());
        let no_pattern = request.subscribed_topic_regex.as_ref().is_some_and(|pattern| **pattern == *NO_PATTERN);
        if code == INVALID_REGULAR_EXPRESSION && no_pattern
            || code == NOT_COORDINATOR && self.stopping
            || code == COORDINATOR_NOT_AVAILABLE && self.excuses.disk_full
        {
            return Ok(());
        }
        let known =
            [UNKNOWN_MEMBER_ID, GROUP_ID_NOT_FOUND, FENCED_INSTANCE_ID, FENCED_MEMBER_EPOCH, UNRELEASED_INSTANCE_ID];
        hold!(known.contains(&code), "{name}: a heartbeat of {id} refused with {code}");
        let joins = request.member_epoch == 0;
        hold!(!joins || code == UNRELEASED_INSTANCE_ID, "{name}: {id} may not join: {code}");
        let group = self.consumers.group(call, name);
        let Some(member) = group.members.get_mut(id) else { return Ok(()) };
        member.open.take_if(|open| *open == call.order);
        let certain = member.is_certain(call.at_us) && !member.classic && !member.unsure && !joins;
        let current = member.known_at < call.order && member.epoch == request.member_epoch;
        hold!(!certain || !current, "{name}: {id} was sent away ({code}), though nothing was wrong: {member:?}");
        if code == UNKNOWN_MEMBER_ID && member.joined < call.order {
            member.gone = Some(orders);
        }
        Ok(())
    }

    fn check_classic_sync(&mut self, call: &Call, who: (&str, &str), response: &SyncGroupResponse) -> Verdict {
        let (orders, (name, id)) = (self.orders, who);
        let mut bytes = response.assignment.clone();
        let mut given = BTreeSet::new();
        if bytes.len() >= 2 {
            let version = bytes.get_i16();
            let told = ConsumerProtocolAssignment::decode(&mut bytes, version).map_err(|e| format!("{name}: {e}"))?;
            for topic in &told.assigned_partitions {
                let Some(topic_id) = self.topics.get(topic.topic.as_str()).and_then(|t| t.id) else { continue };
                given.extend(topic.partitions.iter().map(|p| (topic_id, *p)));
            }
        }
        let group = self.consumers.group(call, name);
        let member = group.members.entry(id.to_string()).or_default();
        if member.joined < call.order {
            (member.classic, member.patient, member.gone) = (true, true, None);
            member.until_us = member.until_us.max(call.at_us + CLASSIC_SESSION_MS as u64 * 1000);
            member.known_at = orders;
        }
        group.given(call, orders, id, &given)
    }

    fn check_described(&mut self, call: &Call, told: &DescribedGroup) -> Verdict {
        let name = told.group_id.as_str();
        let group = self.consumers.group(call, name);
        let certain = |member: &Member| !member.classic && member.known_at < call.order && member.joined < call.order;
        let certain = |member: &Member| certain(member) && member.is_certain(call.at_us);
        let mut alive = group.members.iter().filter(|(_, member)| certain(member)).map(|(id, _)| id);
        if told.error_code != NONE {
            hold!(told.error_code == GROUP_ID_NOT_FOUND, "{name}: describe refused with {}", told.error_code);
            let alive: Vec<&String> = alive.collect();
            hold!(alive.is_empty(), "{name} is said not to be there, and has members {alive:?}");
            return Ok(());
        }
        let missing = alive.find(|id| !told.members.iter().any(|member| *member.member_id == ***id));
        hold!(missing.is_none(), "{name}: {missing:?} is missing");
        let floor = group.floor(call.order);
        hold!(told.group_epoch >= floor, "{name}: epoch {} after {floor}", told.group_epoch);
        let mut owners = BTreeMap::new();
        for member in &told.members {
            hold!(member.member_epoch <= told.group_epoch, "{name}: a member of epoch {}", member.member_epoch);
            for topic in &member.assignment.topic_partitions {
                for partition in &topic.partitions {
                    let before = owners.insert((topic.topic_id, *partition), &member.member_id);
                    hold!(before.is_none(), "{name}: two members own {partition} of {}", topic.topic_name.as_str());
                }
            }
        }
        Ok(())
    }

    /// Whether a commit may have been accepted, or refused.
    pub(super) fn check_member_commit(
        &mut self,
        call: &Call,
        request: &OffsetCommitRequest,
        response: &OffsetCommitResponse,
    ) -> Verdict {
        let name = request.group_id.as_str();
        if !is_followed(name) {
            return Ok(());
        }
        let ids: BTreeMap<String, Uuid> =
            self.topics.iter().filter_map(|(name, topic)| Some((name.clone(), topic.id?))).collect();
        let (excused, stopping) = (self.excuses.disk_full, self.stopping);
        let group = self.consumers.group(call, name);
        let (epoch, id) = (request.generation_id_or_member_epoch, request.member_id.as_str());
        let known = group.members.get(id);
        for topic in &response.topics {
            for part in &topic.partitions {
                let partition = (ids.get(topic.name.as_str()).copied().unwrap_or_default(), part.partition_index);
                if part.error_code != NONE {
                    let certain = known.is_some_and(|member| {
                        member.is_certain(call.at_us)
                            && !(member.classic || member.unsure)
                            && (member.epoch, member.open) == (epoch, None)
                            && member.known_at < call.order
                            && member.joined < call.order
                    });
                    let why = part.error_code;
                    hold!(!certain || excused || stopping, "{name}: a commit of {id} refused with {why}");
                    continue;
                }
                let gone = known.and_then(|member| member.gone.filter(|gone| *gone < call.order));
                let back = known.is_some_and(|member| member.joined > gone.unwrap_or(0));
                hold!(gone.is_none() || back, "{name}: {id} committed, and is no member any more");
                let stale = known.is_some_and(|member| member.epoch > epoch && member.known_at < call.order);
                let held = |hold: &Hold| (hold.start..hold.end).contains(&call.order);
                let owner = group.members.iter().find(|(other, member)| {
                    let hold = member.holds.get(&partition).filter(|hold| held(hold));
                    *other != id && hold.is_some_and(|hold| call.at_us < hold.until_us.unwrap_or(member.until_us))
                });
                let owner = owner.map(|(owner, _)| owner).filter(|_| stale && epoch >= 0);
                hold!(owner.is_none(), "{name}: {id} of old epoch {epoch} committed for {partition:?} of {owner:?}");
            }
        }
        Ok(())
    }
}
