//! Owns the harness that drives the group coordinator over real request bytes with virtual time and virtual clients.

mod bounds;
mod consumer;
mod offsets;
mod random;
mod rebalance;
mod restart;
mod statics;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik::broker::groups::{
    Client, Ctx, GroupSettings, GroupState, Groups, Handled, MatchJob, Node, Outbox, TopicLookup,
};
use chronik::broker::reply::ReplyTo;
use chronik::broker::{ConnId, Now};
use chronik::wal::MetaEntry;
use chronik::wire::msg::*;
use chronik::wire::{decode, encode, frame, ErrorCode, Request, Response, Uuid, Wire, Writer};

pub const G: &str = "g";
pub const SESSION_MS: i32 = 10_000;
pub const REBALANCE_MS: i32 = 30_000;
const WALL_START_MS: i64 = 1_700_000_000_000;

/// Topics by name: id and number of partitions.
#[derive(Default)]
pub struct Topics(pub BTreeMap<String, (Uuid, i32)>);

impl TopicLookup for Topics {
    fn partitions(&self, name: &str) -> Option<i32> {
        self.0.get(name).map(|(_, n)| *n)
    }
    fn name_of(&self, id: Uuid) -> Option<&str> {
        self.0.iter().find(|(_, (i, _))| *i == id).map(|(name, _)| name.as_str())
    }
    fn id_of(&self, name: &str) -> Option<Uuid> {
        self.0.get(name).map(|(id, _)| *id)
    }
    fn names(&self) -> Vec<Arc<str>> {
        self.0.keys().map(|name| name.as_str().into()).collect()
    }
}

/// What the coordinator gave out.
#[derive(Default)]
pub struct Given {
    pub replies: BTreeMap<(ConnId, u64), (ReplyTo, Vec<u8>)>,
    pub log: Vec<MetaEntry>,
    /// What a worker is to look up.
    pub jobs: Vec<MatchJob>,
    uuids: u128,
}

impl Outbox for Given {
    fn reply(&mut self, to: ReplyTo, frame: Vec<u8>) {
        assert!(self.replies.insert((to.conn, to.slot), (to, frame)).is_none(), "answered twice: {to:?}");
    }
    fn meta(&mut self, entry: MetaEntry) {
        self.log.push(entry);
    }
    fn metas(&mut self, entries: Vec<MetaEntry>) {
        self.log.extend(entries);
    }
    fn match_topics(&mut self, job: MatchJob) {
        self.jobs.push(job);
    }
    fn random_uuid(&mut self) -> Uuid {
        self.uuids += 1;
        Uuid(self.uuids.to_be_bytes())
    }
}

/// A request that was sent; its answer is looked up by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub ConnId, pub u64);

pub struct World {
    pub groups: Groups,
    pub settings: GroupSettings,
    pub topics: Topics,
    pub given: Given,
    pub mono_us: u64,
    pub wall_ms: i64,
    pub handled: Handled,
    /// What the tests call each topic that there ever was: its name, or with its id when it was made again.
    pub labels: BTreeMap<String, Uuid>,
    next_conn: u64,
    /// Requests come together: timers that are due wait until all of them are in.
    pub in_one_turn: bool,
}

/// An answer to JoinGroup, owned.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    pub error: ErrorCode,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub skip: bool,
    pub member_id: String,
    /// Member id, instance id, metadata.
    pub members: Vec<(String, Option<String>, Vec<u8>)>,
}

impl Joined {
    pub fn leads(&self) -> bool {
        self.leader == self.member_id
    }
}

/// What a client says when it joins.
#[derive(Clone, Debug)]
pub struct Join {
    pub version: i16,
    pub group: String,
    pub member_id: String,
    pub instance: Option<String>,
    pub protocol_type: String,
    pub protocols: Vec<(String, Vec<u8>)>,
    pub session_ms: i32,
    pub rebalance_ms: i32,
}

impl Default for Join {
    fn default() -> Self {
        Join {
            version: 9,
            group: G.into(),
            member_id: String::new(),
            instance: None,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), subscription(&["t"]))],
            session_ms: SESSION_MS,
            rebalance_ms: REBALANCE_MS,
        }
    }
}

impl Join {
    pub fn with_id(&self, id: &str) -> Join {
        Join { member_id: id.into(), ..self.clone() }
    }
    pub fn with_instance(&self, id: &str) -> Join {
        Join { instance: Some(id.into()), ..self.clone() }
    }
    pub fn with_protocols(&self, names: &[&str]) -> Join {
        let protocols = names.iter().map(|n| (n.to_string(), subscription(&["t"]))).collect();
        Join { protocols, ..self.clone() }
    }
    pub fn with_topics(&self, topics: &[&str]) -> Join {
        Join { protocols: vec![("range".into(), subscription(topics))], ..self.clone() }
    }
    pub fn with_version(&self, version: i16) -> Join {
        Join { version, ..self.clone() }
    }
}

/// A member of a stable group.
#[derive(Clone, Debug)]
pub struct Stable {
    pub id: String,
    pub generation: i32,
    pub assignment: Vec<u8>,
}

/// A consumer's metadata.
pub fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut w = Writer::new(1, false);
    w.i16(1);
    ConsumerProtocolSubscription { topics: topics.to_vec(), ..Default::default() }.write(&mut w);
    w.into_encoded().bytes
}

impl World {
    pub fn new() -> World {
        World::with(GroupSettings { group_initial_rebalance_delay_ms: 0, ..Default::default() })
    }

    pub fn with(settings: GroupSettings) -> World {
        let mut topics = Topics::default();
        for (i, name) in ["t", "u", "v"].into_iter().enumerate() {
            topics.0.insert(name.into(), (Uuid([i as u8 + 1; 16]), 8));
        }
        World {
            groups: Groups::new(settings.clone()),
            settings,
            topics,
            given: Given::default(),
            mono_us: 1_000_000,
            wall_ms: WALL_START_MS,
            handled: Handled::NotOurs,
            labels: BTreeMap::new(),
            next_conn: 0,
            in_one_turn: false,
        }
    }

    pub fn now(&self) -> Now {
        Now { mono_us: self.mono_us, wall_ms: self.wall_ms }
    }

    pub fn with_ctx<R>(&mut self, act: impl FnOnce(&mut Groups, &mut Ctx<'_>) -> R) -> R {
        let mut ctx = Ctx {
            now: Now { mono_us: self.mono_us, wall_ms: self.wall_ms },
            client: Client { id: "client", host: "/127.0.0.1" },
            node: Node { id: 1, host: "broker.example", port: 9092 },
            topics: &self.topics,
            out: &mut self.given,
        };
        act(&mut self.groups, &mut ctx)
    }

    /// Sends raw bytes on a connection of its own.
    pub fn send_bytes(&mut self, key: i16, version: i16, body: &[u8]) -> Ticket {
        self.next_conn += 1;
        let to = ReplyTo { conn: ConnId(self.next_conn), slot: 0, key, version, correlation_id: 7 };
        self.handled = self.with_ctx(|groups, ctx| groups.handle(ctx, to, body.into()));
        // The shell calls this at the end of its turn.
        if !self.in_one_turn {
            self.expire();
        }
        Ticket(to.conn, to.slot)
    }

    pub fn send<'a, M: Request<'a>>(&mut self, version: i16, request: &M) -> Ticket {
        let body = encode(request, version).bytes;
        self.send_bytes(M::KEY.0, version, &body)
    }

    pub fn is_answered(&self, ticket: Ticket) -> bool {
        self.given.replies.contains_key(&(ticket.0, ticket.1))
    }

    /// The answer, decoded; each can be looked at once.
    pub fn answer<R: 'static>(&mut self, ticket: Ticket, read: impl FnOnce(&[u8], i16) -> R) -> R {
        let (to, frame) = self.given.replies.remove(&(ticket.0, ticket.1)).expect("the request was not answered");
        let api = chronik::wire::ApiKey(to.key).api().unwrap();
        let (correlation_id, body) = frame::parse_response(api, to.version, &frame[4..]).unwrap();
        assert_eq!(correlation_id, 7);
        assert_eq!(frame.len() - 4, i32::from_be_bytes(frame[..4].try_into().unwrap()) as usize);
        read(body, to.version)
    }

    /// Sends a request and gives its answer, which must come at once, to `read`.
    pub fn ask<'a, M: Request<'a>, R: 'static>(
        &mut self,
        version: i16,
        request: &M,
        read: impl FnOnce(&[u8], i16) -> R,
    ) -> R {
        let ticket = self.send(version, request);
        assert_eq!(self.handled, Handled::Answered);
        self.answer(ticket, read)
    }

    pub fn expire(&mut self) {
        while self.groups.deadline_us().is_some_and(|at| at <= self.mono_us) {
            self.with_ctx(|groups, ctx| groups.expire(ctx));
        }
    }

    /// Lets time pass, stopping at each timer.
    pub fn pass_ms(&mut self, ms: u64) {
        let end_us = self.mono_us + ms * 1000;
        while let Some(at_us) = self.groups.deadline_us().filter(|at| *at <= end_us) {
            self.move_to(at_us.max(self.mono_us));
            self.with_ctx(|groups, ctx| groups.expire(ctx));
        }
        self.move_to(end_us);
    }

    fn move_to(&mut self, mono_us: u64) {
        // Both clocks run alike; the wall clock counts whole milliseconds.
        self.wall_ms += (mono_us / 1000) as i64 - (self.mono_us / 1000) as i64;
        self.mono_us = mono_us;
    }

    pub fn join(&mut self, join: &Join) -> Ticket {
        let protocols = join.protocols.iter().map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata });
        let request = JoinGroupRequest {
            group_id: &join.group,
            session_timeout_ms: join.session_ms,
            rebalance_timeout_ms: join.rebalance_ms,
            member_id: &join.member_id,
            group_instance_id: join.instance.as_deref(),
            protocol_type: &join.protocol_type,
            protocols: protocols.collect(),
            reason: Some("a test"),
        };
        let body = encode(&request, join.version).bytes;
        self.send_bytes(11, join.version, &body)
    }

    pub fn joined(&mut self, ticket: Ticket) -> Joined {
        self.answer(ticket, |body, version| {
            let r: JoinGroupResponse<'_> = decode(body, version).unwrap();
            let member = |m: &JoinGroupResponseMember<'_>| {
                (m.member_id.to_string(), m.group_instance_id.map(String::from), m.metadata.to_vec())
            };
            Joined {
                error: r.error_code,
                generation: r.generation_id,
                protocol_type: r.protocol_type.map(String::from),
                protocol: r.protocol_name.map(String::from),
                leader: r.leader.to_string(),
                skip: r.skip_assignment,
                member_id: r.member_id.to_string(),
                members: r.members.iter().map(member).collect(),
            }
        })
    }

    pub fn join_now(&mut self, join: &Join) -> Joined {
        let ticket = self.join(join);
        self.joined(ticket)
    }

    /// Asks for a member id as clients since KIP-394 do.
    pub fn new_id(&mut self, join: &Join) -> String {
        let joined = self.join_now(join);
        assert_eq!(joined.error, ErrorCode::MEMBER_ID_REQUIRED);
        joined.member_id
    }

    pub fn sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &[u8])]) -> Ticket {
        let assignments =
            assignments.iter().map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment });
        let request = SyncGroupRequest {
            group_id: G,
            generation_id: generation,
            member_id: id,
            assignments: assignments.collect(),
            ..Default::default()
        };
        self.send(3, &request)
    }

    /// Error and assignment.
    pub fn synced(&mut self, ticket: Ticket) -> (ErrorCode, Vec<u8>) {
        self.answer(ticket, |body, version| {
            let r: SyncGroupResponse<'_> = decode(body, version).unwrap();
            (r.error_code, r.assignment.to_vec())
        })
    }

    pub fn heartbeat(&mut self, id: &str, generation: i32) -> ErrorCode {
        self.heartbeat_as(id, None, generation)
    }

    pub fn heartbeat_as(&mut self, id: &str, instance: Option<&str>, generation: i32) -> ErrorCode {
        let request =
            HeartbeatRequest { group_id: G, generation_id: generation, member_id: id, group_instance_id: instance };
        self.ask(4, &request, |body, v| decode::<HeartbeatResponse>(body, v).unwrap().error_code)
    }

    pub fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let members = members.iter().map(|(member_id, group_instance_id)| MemberIdentity {
            member_id,
            group_instance_id: *group_instance_id,
            reason: Some("a test"),
        });
        let request = LeaveGroupRequest { group_id: G, members: members.collect(), ..Default::default() };
        self.ask(5, &request, |body, v| {
            let r: LeaveGroupResponse<'_> = decode(body, v).unwrap();
            assert_eq!(r.error_code, ErrorCode::NONE);
            r.members.iter().map(|m| m.error_code).collect()
        })
    }

    pub fn state(&self) -> Option<GroupState> {
        self.groups.states().find(|(id, _, _)| *id == G).map(|(_, state, _)| state)
    }

    pub fn size(&self) -> usize {
        self.groups.states().find(|(id, _, _)| *id == G).map_or(0, |(_, _, n)| n)
    }

    /// Brings a group with these members to its stable state. Each is assigned its own id; the leader comes first.
    pub fn stable(&mut self, joins: &[Join]) -> Vec<Stable> {
        let ids: Vec<String> = joins
            .iter()
            .map(|join| match (&join.instance, join.member_id.is_empty(), join.version) {
                (None, true, 4..) => self.new_id(join),
                _ => join.member_id.clone(),
            })
            .collect();
        let mut tickets: Vec<Ticket> = joins.iter().zip(&ids).map(|(join, id)| self.join(&join.with_id(id))).collect();
        // With no initial delay the first one is alone in its generation; it joins again with the others.
        if joins.len() > 1 && self.is_answered(tickets[0]) {
            let first = self.joined(tickets[0]);
            assert_eq!(first.error, ErrorCode::NONE);
            tickets[0] = self.join(&joins[0].with_id(&first.member_id));
        }
        self.pass_ms(0);
        let joined: Vec<Joined> = tickets.into_iter().map(|t| self.joined(t)).collect();
        self.sync_all(&joined)
    }

    /// All members of a generation fetch their assignments, the leader last.
    pub fn sync_all(&mut self, joined: &[Joined]) -> Vec<Stable> {
        let leader = joined.iter().position(|j| j.leads()).expect("nobody leads");
        assert_eq!(joined[leader].members.len(), joined.len());
        let ids: Vec<String> = joined.iter().map(|j| j.member_id.clone()).collect();
        let all: Vec<(&str, &[u8])> = ids.iter().map(|id| (id.as_str(), id.as_bytes())).collect();
        let mut order: Vec<usize> = (0..joined.len()).filter(|i| *i != leader).collect();
        order.push(leader);
        let mut tickets = BTreeMap::new();
        for i in order {
            let assignments = if i == leader { &all[..] } else { &[] };
            tickets.insert(i, self.sync(&ids[i], joined[i].generation, assignments));
        }
        let mut members: Vec<Stable> = Vec::new();
        for (i, ticket) in tickets {
            let (error, assignment) = self.synced(ticket);
            assert_eq!(error, ErrorCode::NONE);
            assert_eq!(assignment, ids[i].as_bytes());
            members.push(Stable { id: ids[i].clone(), generation: joined[i].generation, assignment });
        }
        members.swap(0, leader);
        assert_eq!(self.state(), Some(GroupState::Stable));
        members
    }

    /// Commits an offset for a partition; the partition's error.
    pub fn commit(&mut self, id: &str, generation: i32, topic: &str, partition: i32, offset: i64) -> ErrorCode {
        self.commit_to(G, id, generation, topic, partition, offset)
    }

    pub fn commit_to(&mut self, group: &str, id: &str, generation: i32, topic: &str, p: i32, offset: i64) -> ErrorCode {
        let partition = OffsetCommitRequestPartition {
            partition_index: p,
            committed_offset: offset,
            committed_leader_epoch: 3,
            committed_metadata: Some("m"),
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic { name: topic, partitions: vec![partition], ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: group,
            generation_id_or_member_epoch: generation,
            member_id: id,
            topics: vec![topic],
            ..Default::default()
        };
        self.ask(8, &request, |body, v| {
            decode::<OffsetCommitResponse<'_>>(body, v).unwrap().topics[0].partitions[0].error_code
        })
    }

    /// The committed offset of a partition; -1 for none.
    pub fn fetch(&mut self, group: &str, topic: &str, partition: i32) -> i64 {
        let topics = Some(vec![OffsetFetchRequestTopic { name: topic, partition_indexes: vec![partition] }]);
        let request = OffsetFetchRequest { group_id: group, topics, ..Default::default() };
        self.ask(7, &request, |body, v| {
            decode::<OffsetFetchResponse<'_>>(body, v).unwrap().topics[0].partitions[0].committed_offset
        })
    }

    /// All offsets of a group: topic, partition, offset.
    pub fn fetch_all(&mut self, group: &str) -> Vec<(String, i32, i64)> {
        let request = OffsetFetchRequest { group_id: group, topics: None, ..Default::default() };
        self.ask(7, &request, |body, v| {
            let r: OffsetFetchResponse<'_> = decode(body, v).unwrap();
            assert_eq!(r.error_code, ErrorCode::NONE);
            let all = r
                .topics
                .iter()
                .flat_map(|t| t.partitions.iter().map(|p| (t.name.to_string(), p.partition_index, p.committed_offset)));
            all.collect()
        })
    }

    /// What a crash and a restart make of it: all that was appended, and nothing else.
    pub fn restart(&mut self) {
        let mut groups = Groups::new(self.settings.clone());
        for entry in &self.given.log {
            groups.apply(entry).unwrap();
        }
        groups.recovered(self.now());
        let mut kept = Vec::new();
        self.groups.snapshot(&mut kept);
        let mut found = Vec::new();
        groups.snapshot(&mut found);
        assert_eq!(found, kept, "a checkpoint and the log tell different stories");
        self.groups = groups;
    }
}

/// The error code of any answer that has one at its top level.
pub fn error_of<'a, R: Response<'a>>(body: &'a [u8], version: i16, code: impl Fn(&R) -> ErrorCode) -> ErrorCode {
    code(&decode::<R>(body, version).unwrap())
}
