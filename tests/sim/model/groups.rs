//! Owns what the model expects of consumer groups: committed offsets, generations, assignments.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chronik::wal::GroupSeq;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::super::actors::NOWHERE;
use super::consumers::{self, FENCED_INSTANCE_ID, GROUP_ID_NOT_FOUND, STALE_MEMBER_EPOCH};
use super::register::Register;
use super::{hold, Call, Verdict, NONE, UNKNOWN_TOPIC_OR_PARTITION};

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

/// What else a commit is refused with in groups of the consumer protocol.
const FENCED: [i16; 3] = [FENCED_INSTANCE_ID, GROUP_ID_NOT_FOUND, STALE_MEMBER_EPOCH];

/// Offset and metadata.
type Committed = Option<(i64, String)>;

/// All groups.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    offsets: BTreeMap<(String, String, i32), Register<Committed>>,
    /// In which group of the log each commit's text was seen.
    commit_seq: BTreeMap<u64, GroupSeq>,
    groups: BTreeMap<String, Membership>,
    /// What each request to end a transaction commits, by the request's order.
    of_txn: BTreeMap<u64, Vec<(String, String, i32)>>,
    /// Groups from which members vanish: they rebalance without anybody joining or leaving.
    restless: BTreeSet<String>,
}

/// One group's members.
#[derive(Clone, Debug, Default)]
struct Membership {
    generation: i32,
    /// The start of the broker in which the generation was first heard of.
    life: u32,
    /// The last generation before this one of which somebody was given an assignment.
    before: Option<Box<Membership>>,
    leader: String,
    members: BTreeSet<String>,
    assignments: BTreeMap<String, Bytes>,
    /// Members that were told their assignment of this generation.
    synced: BTreeSet<String>,
    /// Something that may end the generation was handed in.
    disturbed: bool,
}

/// The text that makes a commit traceable in the log: unique, and ended so that none is the beginning of another.
pub fn commit_text(id: u64) -> String {
    format!("commit-{id};")
}

impl Groups {
    /// A group of the log is being written: which commits are in it?
    pub fn planned<'a>(&mut self, seq: GroupSeq, values: impl Iterator<Item = &'a [u8]>) {
        for value in values {
            let mut rest = value;
            while let Some(at) = rest.windows(7).position(|w| w == b"commit-") {
                rest = &rest[at + 7..];
                let digits: String = rest.iter().take_while(|b| b.is_ascii_digit()).map(|b| *b as char).collect();
                if let Ok(id) = digits.parse() {
                    self.commit_seq.entry(id).or_insert(seq);
                }
            }
        }
    }

    /// Recovery found the log to end with group `last`.
    pub fn cut(&mut self, last: GroupSeq) {
        self.commit_seq.retain(|_, seq| *seq <= last);
    }

    pub fn commit_handed_in(&mut self, call: &Call, request: &OffsetCommitRequest) {
        for (key, value) in commits_of(request) {
            self.offsets.entry(key).or_insert_with(|| Register::new(None)).set(call, value);
        }
    }

    /// A transaction is to be committed that has this offset, or may have it when nobody was told so.
    pub fn set_offset(&mut self, call: &Call, key: (String, String, i32), value: Committed, certain: bool) {
        if certain {
            self.of_txn.entry(call.order).or_default().push(key.clone());
        }
        self.offsets.entry(key).or_insert_with(|| Register::new(None)).set_perhaps(call, value, certain);
    }

    /// The transaction was committed.
    pub fn offset_acked(&mut self, call: &Call, now: u64) {
        for key in self.of_txn.remove(&call.order).unwrap_or_default() {
            self.offsets.entry(key).or_insert_with(|| Register::new(None)).acked(call, now);
        }
    }

    /// The transaction was not committed by this request.
    pub fn offset_refused(&mut self, call: &Call) {
        for key in self.of_txn.remove(&call.order).unwrap_or_default() {
            self.offsets.entry(key).or_insert_with(|| Register::new(None)).refused(call);
        }
    }

    pub fn check_commit(
        &mut self,
        call: &Call,
        request: &OffsetCommitRequest,
        response: &OffsetCommitResponse,
        now: u64,
        durable: Option<GroupSeq>,
    ) -> Verdict {
        let mut codes = BTreeMap::new();
        for topic in &response.topics {
            for part in &topic.partitions {
                codes.insert((topic.name.to_string(), part.partition_index), part.error_code);
            }
        }
        for (key, value) in commits_of(request) {
            let code = codes.remove(&(key.1.clone(), key.2)).ok_or("a commit without an answer")?;
            let register = self.offsets.entry(key.clone()).or_insert_with(|| Register::new(None));
            if code != NONE {
                let fenced = matches!(code, ILLEGAL_GENERATION | UNKNOWN_MEMBER_ID | REBALANCE_IN_PROGRESS)
                    || consumers::is_followed(&key.0) && FENCED.contains(&code);
                let fenced = fenced || code == UNKNOWN_TOPIC_OR_PARTITION && key.1 == NOWHERE;
                hold!(
                    fenced && (key.1 == NOWHERE || !request.member_id.is_empty()),
                    "commit for {key:?} refused with {code}"
                );
                register.refused(call);
                continue;
            }
            register.acked(call, now);
            let Some(durable) = durable else { continue };
            let text = value.map_or(String::new(), |(_, text)| text);
            let id = text.trim_start_matches("commit-").trim_end_matches(';').parse().unwrap_or(0);
            let seq = self.commit_seq.get(&id).copied();
            let written = seq.is_some_and(|seq| seq <= durable);
            hold!(written, "acknowledged before it was durable: {text} is in group {seq:?}, only {durable} is written");
        }
        Ok(())
    }

    pub fn check_offset_fetch(
        &mut self,
        call: &Call,
        request: &OffsetFetchRequest,
        response: &OffsetFetchResponse,
        now: u64,
    ) -> Verdict {
        hold!(response.error_code == NONE, "OffsetFetch refused with {}", response.error_code);
        let mut told = Vec::new();
        for topic in &response.topics {
            for part in &topic.partitions {
                let value = (part.committed_offset, part.metadata.clone(), part.error_code);
                told.push((request.group_id.to_string(), topic.name.to_string(), part.partition_index, value));
            }
        }
        for group in &response.groups {
            hold!(
                group.error_code == NONE,
                "OffsetFetch of {} refused with {}",
                group.group_id.as_str(),
                group.error_code
            );
            for topic in &group.topics {
                for part in &topic.partitions {
                    let value = (part.committed_offset, part.metadata.clone(), part.error_code);
                    told.push((group.group_id.to_string(), topic.name.to_string(), part.partition_index, value));
                }
            }
        }
        for (group, topic, partition, (offset, metadata, code)) in told {
            hold!(code == NONE, "offset of {group} {topic}/{partition}: error {code}");
            let value = (offset >= 0).then(|| (offset, metadata.map_or(String::new(), |m| m.to_string())));
            let key = (group, topic, partition);
            let register = self.offsets.entry(key.clone()).or_insert_with(|| Register::new(None));
            register.seen(call, now, &value).map_err(|e| format!("offset of {key:?} went back: {e}"))?;
        }
        Ok(())
    }

    /// Somebody is about to join the group who will vanish.
    pub fn is_restless(&mut self, group: &str) {
        self.restless.insert(group.to_string());
    }

    pub fn join_handed_in(&mut self, request: &JoinGroupRequest) {
        self.groups.entry(request.group_id.to_string()).or_default().disturbed = true;
    }

    pub fn sync_handed_in(&mut self, request: &SyncGroupRequest) {
        let group = self.groups.entry(request.group_id.to_string()).or_default();
        if request.generation_id == group.generation && *request.member_id == *group.leader {
            for given in &request.assignments {
                group.assignments.entry(given.member_id.to_string()).or_insert_with(|| given.assignment.clone());
            }
        }
    }

    pub fn check_join(&mut self, call: &Call, request: &JoinGroupRequest, response: &JoinGroupResponse) -> Verdict {
        let name = request.group_id.to_string();
        let group = self.groups.entry(name.clone()).or_default();
        match response.error_code {
            NONE => {}
            MEMBER_ID_REQUIRED if request.member_id.is_empty() => {
                hold!(!response.member_id.is_empty(), "{name}: no member id though one is required");
                return Ok(());
            }
            UNKNOWN_MEMBER_ID if !request.member_id.is_empty() => return Ok(()),
            code => return Err(format!("{name}: join refused with {code}")),
        }
        let generation = response.generation_id;
        // A generation that nobody was given an assignment of is not kept over a restart: the one before it goes on, and
        // its number may be used again.
        let forgotten = group.life < call.life && group.synced.is_empty();
        let (known, settled) = (group.generation, group.before.as_ref().map_or(0, |before| before.generation));
        hold!(
            generation >= known || forgotten && generation >= settled,
            "{name}: generation {generation} after {known}"
        );
        let goes_on = generation == known && *response.leader == *group.leader;
        if !goes_on && (generation > known || forgotten) {
            let old = std::mem::take(group);
            let before = if old.synced.is_empty() { old.before } else { Some(Box::new(old)) };
            match before {
                Some(before) if before.generation == generation => *group = Membership { life: call.life, ..*before },
                before => {
                    let (leader, life) = (response.leader.to_string(), call.life);
                    *group = Membership { generation, leader, life, before, ..Membership::default() };
                }
            }
        }
        hold!(*response.leader == *group.leader, "{name}: two leaders in generation {generation}");
        group.members.insert(response.member_id.to_string());
        if response.leader == response.member_id {
            let told: BTreeSet<String> = response.members.iter().map(|m| m.member_id.to_string()).collect();
            let known = group.members.is_subset(&told);
            hold!(known, "{name}: members {:?}, but the leader was told {told:?}", group.members);
        }
        Ok(())
    }

    pub fn check_sync(&mut self, request: &SyncGroupRequest, response: &SyncGroupResponse) -> Verdict {
        let name = request.group_id.as_str();
        let group = self.groups.entry(name.to_string()).or_default();
        if response.error_code != NONE {
            let code = response.error_code;
            let known = matches!(code, ILLEGAL_GENERATION | UNKNOWN_MEMBER_ID | REBALANCE_IN_PROGRESS);
            hold!(known, "{name}: sync refused with {code}");
            return Ok(());
        }
        let member = request.member_id.to_string();
        hold!(request.generation_id == group.generation, "{name}: synced in old generation {}", request.generation_id);
        let expected = group.assignments.get(&member).cloned().unwrap_or_default();
        hold!(
            response.assignment == expected,
            "{name}: {member} was given {:?}, not {expected:?}",
            response.assignment
        );
        group.synced.insert(member);
        Ok(())
    }

    pub fn check_heartbeat(&mut self, request: &HeartbeatRequest, response: &HeartbeatResponse) -> Verdict {
        let name = request.group_id.as_str();
        let restless = self.restless.contains(name);
        let group = self.groups.entry(name.to_string()).or_default();
        let current = request.generation_id == group.generation && group.synced.contains(request.member_id.as_str());
        let code = response.error_code;
        hold!(
            code == NONE || !current || group.disturbed || restless,
            "{name}: {} was thrown out of generation {} ({code}) though nobody joined or left",
            request.member_id.as_str(),
            group.generation
        );
        let known = matches!(code, NONE | ILLEGAL_GENERATION | UNKNOWN_MEMBER_ID | REBALANCE_IN_PROGRESS);
        hold!(known, "{name}: heartbeat refused with {code}");
        Ok(())
    }
}

fn commits_of(request: &OffsetCommitRequest) -> Vec<((String, String, i32), Committed)> {
    let mut commits = Vec::new();
    for topic in &request.topics {
        for part in &topic.partitions {
            let metadata = part.committed_metadata.as_ref().map_or(String::new(), |m| m.to_string());
            let key = (request.group_id.to_string(), topic.name.to_string(), part.partition_index);
            commits.push((key, Some((part.committed_offset, metadata))));
        }
    }
    commits
}
