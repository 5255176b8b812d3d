//! Owns the way from request bytes to the groups and back: decoding, the checks that need no group, encoding.

use super::ctx::{Ctx, Outbox, TopicLookup};
use super::group::{Group, GroupState, CONSUMER};
use super::offsets::Offset;
use super::{Env, GroupKind, Groups, Handled};
use crate::broker::reply::ReplyTo;
use crate::limits;
use crate::wire::frame;
use crate::wire::msg::*;
use crate::wire::{decode_request, ApiKey, Body, ErrorCode, Response, Uuid};

/// What a client may do with a group when nothing is forbidden, as Kafka's bits: READ, DELETE, DESCRIBE,
/// DESCRIBE_CONFIGS, ALTER_CONFIGS.
const AUTHORIZED_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// FindCoordinator's key types.
const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;
const KEY_TYPE_SHARE: i8 = 2;

/// First OffsetCommit version that members of the consumer protocol may use.
const MEMBER_EPOCH_VERSION: i16 = 9;

/// First OffsetCommit and OffsetFetch version that names topics by id.
const TOPIC_ID_VERSION: i16 = 10;

/// The APIs that `Groups::handle` answers.
pub const GROUP_APIS: [ApiKey; 13] = [
    ApiKey::OFFSET_COMMIT,
    ApiKey::OFFSET_FETCH,
    ApiKey::FIND_COORDINATOR,
    ApiKey::JOIN_GROUP,
    ApiKey::HEARTBEAT,
    ApiKey::LEAVE_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::DESCRIBE_GROUPS,
    ApiKey::LIST_GROUPS,
    ApiKey::DELETE_GROUPS,
    ApiKey::OFFSET_DELETE,
    ApiKey::CONSUMER_GROUP_HEARTBEAT,
    ApiKey::CONSUMER_GROUP_DESCRIBE,
];

pub(super) fn send<'a, M: Response<'a>>(out: &mut dyn Outbox, to: ReplyTo, message: &M) {
    out.reply(to, frame::response(to.version, to.correlation_id, message).bytes);
}

/// A join that failed, or one that is told its member id only.
pub(super) fn join_error(env: &mut Env<'_>, to: ReplyTo, error: ErrorCode, member_id: &str) {
    send_join_error(env.out, to, error, member_id);
}

fn send_join_error(out: &mut dyn Outbox, to: ReplyTo, error_code: ErrorCode, member_id: &str) {
    send(out, to, &JoinGroupResponse { error_code, member_id, ..Default::default() });
}

/// Tells a leader of the generation and of all members.
pub(super) fn join_leader(env: &mut Env<'_>, to: ReplyTo, group: &Group, member_id: &str, skip: bool) {
    let protocol = group.protocol_name.as_deref();
    let members = group.members.values().map(|m| JoinGroupResponseMember {
        member_id: &m.id,
        group_instance_id: m.instance.as_deref(),
        metadata: m.metadata(protocol),
    });
    let members = members.collect();
    let answer = JoinGroupResponse { members, skip_assignment: skip, ..joined(group, member_id, member_id) };
    send(env.out, to, &answer);
}

/// Tells a member of the generation and of who leads.
pub(super) fn join_follower(env: &mut Env<'_>, to: ReplyTo, group: &Group, member_id: &str, leader: &str) {
    send(env.out, to, &joined(group, member_id, leader));
}

fn joined<'a>(group: &'a Group, member_id: &'a str, leader: &'a str) -> JoinGroupResponse<'a> {
    JoinGroupResponse {
        generation_id: group.generation,
        protocol_type: group.protocol_type.as_deref(),
        protocol_name: group.protocol_name.as_deref(),
        leader,
        member_id,
        ..Default::default()
    }
}

pub(super) fn sync_error(env: &mut Env<'_>, to: ReplyTo, error_code: ErrorCode) {
    send_sync_error(env.out, to, error_code);
}

fn send_sync_error(out: &mut dyn Outbox, to: ReplyTo, error_code: ErrorCode) {
    send(out, to, &SyncGroupResponse { error_code, ..Default::default() });
}

pub(super) fn sync_assignment(env: &mut Env<'_>, to: ReplyTo, group: &Group, member_id: &str) {
    let answer = SyncGroupResponse {
        protocol_type: group.protocol_type.as_deref(),
        protocol_name: group.protocol_name.as_deref(),
        assignment: group.members.get(member_id).map_or(&[], |m| &m.assignment),
        ..Default::default()
    };
    send(env.out, to, &answer);
}

/// Bytes of what a member says it can do.
fn protocols_bytes(protocols: &[JoinGroupRequestProtocol<'_>]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

/// Whether a group id can be that of a group with members.
fn check_group_id(id: &str) -> Result<(), ErrorCode> {
    if id.is_empty() || id.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    Ok(())
}

impl Groups {
    /// Handles a request whose header was read: `body` is what follows it. The version must be one that is advertised.
    pub fn handle(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, body: Body<'_>) -> Handled {
        let v = to.version;
        let result = match ApiKey(to.key) {
            ApiKey::JOIN_GROUP => decode_request(body, v).map(|r| self.join_group(ctx, to, &r)),
            ApiKey::SYNC_GROUP => decode_request(body, v).map(|r| self.sync_group(ctx, to, &r)),
            ApiKey::HEARTBEAT => decode_request(body, v).map(|r| self.heartbeat(ctx, to, &r)),
            ApiKey::LEAVE_GROUP => decode_request(body, v).map(|r| self.leave_group(ctx, to, &r)),
            ApiKey::DESCRIBE_GROUPS => decode_request(body, v).map(|r| self.describe_groups(ctx, to, &r)),
            ApiKey::LIST_GROUPS => decode_request(body, v).map(|r| self.list_groups(ctx, to, &r)),
            ApiKey::DELETE_GROUPS => decode_request(body, v).map(|r| self.delete_groups(ctx, to, &r)),
            ApiKey::OFFSET_COMMIT => decode_request(body, v).map(|r| self.offset_commit(ctx, to, &r)),
            ApiKey::OFFSET_FETCH => decode_request(body, v).map(|r| self.offset_fetch(ctx, to, &r)),
            ApiKey::OFFSET_DELETE => decode_request(body, v).map(|r| self.offset_delete(ctx, to, &r)),
            ApiKey::FIND_COORDINATOR => decode_request(body, v).map(|r| find_coordinator(ctx, to, &r)),
            ApiKey::CONSUMER_GROUP_HEARTBEAT => {
                decode_request(body, v).map(|r| self.consumer_heartbeat(ctx, to, body.bytes, &r))
            }
            ApiKey::CONSUMER_GROUP_DESCRIBE => decode_request(body, v).map(|r| self.consumer_describe(ctx, to, &r)),
            _ => return Handled::NotOurs,
        };
        match result {
            Err(error) => Handled::Malformed(error),
            Ok(()) if self.is_parked(to) => Handled::Parked,
            Ok(()) => Handled::Answered,
        }
    }

    fn is_parked(&self, to: ReplyTo) -> bool {
        let key = (to.conn, to.slot);
        self.parked.contains_key(&key) || self.waiting.contains_key(&key)
    }

    /// Whether this is a consumer group that has members: the classic protocol then is a guest in it.
    fn is_consumer(&self, id: &str) -> bool {
        let consumer = self.groups.get(id).and_then(|group| group.consumer.as_ref());
        consumer.is_some_and(|consumer| !consumer.is_empty())
    }

    fn join_group(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &JoinGroupRequest<'_>) {
        if let Err(error) = self.check_join(request) {
            return send_join_error(ctx.out, to, error, request.member_id);
        }
        if self.is_consumer(request.group_id) {
            return self.join_consumer(ctx, to, request);
        }
        let client = ctx.client;
        self.act(ctx.now, ctx.out, request.group_id, |group, env| {
            group.drop_empty_consumer(env);
            group.join(env, to, client, request);
        });
    }

    /// The checks before the group is asked. A member without id may begin a group.
    fn check_join(&mut self, request: &JoinGroupRequest<'_>) -> Result<(), ErrorCode> {
        check_group_id(request.group_id)?;
        let sessions = self.settings.group_min_session_timeout_ms..=self.settings.group_max_session_timeout_ms;
        if self.stopped {
            Err(ErrorCode::NOT_COORDINATOR)
        } else if !sessions.contains(&i64::from(request.session_timeout_ms)) {
            Err(ErrorCode::INVALID_SESSION_TIMEOUT)
        } else if self.claimed.contains_key(request.group_id) {
            Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        } else if self.is_consumer(request.group_id) && !self.is_full() {
            Ok(())
        } else if request.member_id.is_empty() {
            let room = self.create(request.group_id) && !self.is_full();
            room.then_some(()).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        } else if let Some(group) = self.groups.get(request.group_id) {
            let room =
                !self.is_full() || protocols_bytes(&request.protocols) <= group.protocols_bytes(request.member_id);
            room.then_some(()).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    fn sync_group(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &SyncGroupRequest<'_>) {
        let unnamed = to.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none());
        let early = match check_group_id(request.group_id) {
            _ if unnamed => Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
            Ok(()) if self.stopped => Err(ErrorCode::NOT_COORDINATOR),
            Ok(()) if !self.groups.contains_key(request.group_id) => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Ok(()) if self.is_overfull() && !request.assignments.is_empty() => {
                Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
            }
            other => other,
        };
        match early {
            Err(error) => send_sync_error(ctx.out, to, error),
            Ok(()) if self.is_consumer(request.group_id) => self.sync_consumer(ctx, to, request),
            Ok(()) => {
                self.act(ctx.now, ctx.out, request.group_id, |group, env| group.sync(env, to, request));
            }
        }
    }

    fn heartbeat(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &HeartbeatRequest<'_>) {
        let (generation, member_id, instance) = (request.generation_id, request.member_id, request.group_instance_id);
        let result = check_group_id(request.group_id).and_then(|()| {
            let beat = |group: &mut Group, env: &mut Env<'_>| match group.consumer {
                Some(_) => group.beat_classic(env, request),
                None => group.heartbeat(env, generation, member_id, instance),
            };
            self.act(ctx.now, ctx.out, request.group_id, beat).unwrap_or(Err(ErrorCode::UNKNOWN_MEMBER_ID))
        });
        send(ctx.out, to, &HeartbeatResponse { error_code: code(result), ..Default::default() });
    }

    fn leave_group(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &LeaveGroupRequest<'_>) {
        if let Err(error_code) = check_group_id(request.group_id) {
            return send(ctx.out, to, &LeaveGroupResponse { error_code, ..Default::default() });
        }
        let single = [MemberIdentity { member_id: request.member_id, ..Default::default() }];
        let leaving = if to.version < 3 { &single[..] } else { &request.members };
        let lookup = ctx.topics;
        let results = self.act(ctx.now, ctx.out, request.group_id, |group, env| {
            if group.consumer.is_some() {
                return group.leave_classic(env, lookup, leaving);
            }
            leaving.iter().map(|member| code(group.leave(env, member))).collect::<Vec<_>>()
        });
        let results = results.unwrap_or_else(|| vec![ErrorCode::UNKNOWN_MEMBER_ID; leaving.len()]);
        let members = leaving.iter().zip(&results).map(|(member, error)| MemberResponse {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            error_code: *error,
        });
        let members = members.collect();
        let error_code = if to.version < 3 { results[0] } else { ErrorCode::NONE };
        send(ctx.out, to, &LeaveGroupResponse { error_code, members, ..Default::default() });
    }

    fn describe_groups(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &DescribeGroupsRequest<'_>) {
        let fault = |id: &&str| match self.kind_of(id) {
            None => format!("Group {id} not found."),
            Some(_) => format!("Group {id} is not a classic group."),
        };
        let missing: Vec<String> = request.groups.iter().map(fault).collect();
        let groups = request.groups.iter().zip(&missing).map(|(id, missing)| match self.groups.get(*id) {
            Some(group) if self.kind_of(id) == Some(GroupKind::Classic) => {
                described(group, request.include_authorized_operations)
            }
            _ => {
                let unknown = to.version >= 6;
                DescribeGroupsDescribedGroup {
                    group_id: id,
                    group_state: "Dead",
                    error_code: if unknown { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE },
                    error_message: unknown.then_some(missing),
                    authorized_operations: operations(request.include_authorized_operations && !unknown),
                    ..Default::default()
                }
            }
        });
        let groups = groups.collect();
        send(ctx.out, to, &DescribeGroupsResponse { groups, ..Default::default() });
    }

    fn list_groups(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &ListGroupsRequest<'_>) {
        let named = |filter: &[&str], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let wanted = |group: &ListedGroup<'_>| {
            named(&request.types_filter, group.group_type) && named(&request.states_filter, group.group_state)
        };
        let groups = self.groups.values().filter(|group| !self.claimed.contains_key(&group.id)).map(listed);
        let others = self.others().map(|(group_id, kind, group_state)| ListedGroup {
            group_id,
            protocol_type: kind.name(),
            group_state,
            group_type: kind.name(),
        });
        let groups = groups.chain(others).filter(wanted).collect();
        send(ctx.out, to, &ListGroupsResponse { groups, ..Default::default() });
    }

    fn delete_groups(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &DeleteGroupsRequest<'_>) {
        let mut results: Vec<DeletableGroupResult<'_>> = Vec::with_capacity(request.groups_names.len());
        let unique: std::collections::BTreeSet<&str> = request.groups_names.iter().copied().collect();
        for group_id in unique {
            let found = self.groups.get(group_id).filter(|_| !self.claimed.contains_key(group_id));
            let other = self.claimed_states.get(group_id).copied();
            let error_code = match found.map(|group| (group.state, group.has_members())) {
                None if other == Some("Dead") => {
                    self.release(group_id);
                    ErrorCode::NONE
                }
                None if self.claimed.contains_key(group_id) => ErrorCode::NON_EMPTY_GROUP,
                None => ErrorCode::GROUP_ID_NOT_FOUND,
                Some((GroupState::Empty, false)) => {
                    self.end(ctx, group_id);
                    ErrorCode::NONE
                }
                Some(_) => ErrorCode::NON_EMPTY_GROUP,
            };
            let error_message = error_code.is_error().then(|| error_code.message());
            results.push(DeletableGroupResult { group_id, error_code, error_message });
        }
        send(ctx.out, to, &DeleteGroupsResponse { results, ..Default::default() });
    }
}

/// Committed offsets.
impl Groups {
    fn offset_commit(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &OffsetCommitRequest<'_>) {
        let by_id = to.version >= TOPIC_ID_VERSION;
        let lookup = ctx.topics;
        let name_of = |topic: &OffsetCommitRequestTopic<'_>| match by_id {
            true => lookup.name_of(topic.topic_id).map(String::from),
            false => Some(topic.name.to_string()),
        };
        let names: Vec<Option<String>> = request.topics.iter().map(name_of).collect();
        let mut topics: Vec<OffsetCommitResponseTopic<'_>> = Vec::with_capacity(names.len());
        for (topic, name) in request.topics.iter().zip(&names) {
            let count = name.as_deref().and_then(|name| lookup.partitions(name)).unwrap_or(0);
            let partitions = topic.partitions.iter().map(|p| OffsetCommitResponsePartition {
                partition_index: p.partition_index,
                error_code: match name {
                    None => ErrorCode::UNKNOWN_TOPIC_ID,
                    Some(_) if (0..count).contains(&p.partition_index) => ErrorCode::NONE,
                    Some(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                },
            });
            let partitions: Vec<OffsetCommitResponsePartition> = partitions.collect();
            topics.push(OffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions });
        }
        if topics.iter().flat_map(|t| &t.partitions).any(|p| p.error_code.is_none()) {
            self.commit_known(ctx, to, request, &names, &mut topics);
        }
        topics.retain(|topic| !topic.partitions.is_empty());
        send(ctx.out, to, &OffsetCommitResponse { topics, ..Default::default() });
    }

    /// Commits what is for partitions that exist.
    fn commit_known(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: ReplyTo,
        request: &OffsetCommitRequest<'_>,
        names: &[Option<String>],
        answers: &mut [OffsetCommitResponseTopic<'_>],
    ) {
        let mut result = self.check_commit(to, request);
        let (full, lookup) = (self.is_full(), ctx.topics);
        if result.is_ok() {
            let done = self.act(ctx.now, ctx.out, request.group_id, |group, env| {
                let generation = request.generation_id_or_member_epoch;
                if let Some(consumer) = &group.consumer {
                    let told = request.topics.iter().zip(names).filter_map(|(topic, name)| {
                        Some((lookup.id_of(name.as_deref()?)?, topic.partitions.iter().map(|p| p.partition_index)))
                    });
                    let told = told.flat_map(|(id, partitions)| partitions.map(move |partition| (id, partition)));
                    let is_new_version = to.version >= MEMBER_EPOCH_VERSION;
                    consumer.check_commit(request.member_id, generation, is_new_version, told)?;
                } else {
                    group.check_commit(generation, request.member_id, request.group_instance_id)?;
                }
                if matches!(group.state, GroupState::Stable | GroupState::PreparingRebalance) {
                    group.touch(env, request.member_id);
                }
                for ((topic, name), answer) in request.topics.iter().zip(names).zip(answers.iter_mut()) {
                    let Some(name) = name else { continue };
                    for (partition, answer) in topic.partitions.iter().zip(&mut answer.partitions) {
                        if answer.error_code.is_none() {
                            answer.error_code = commit_one(group, env, request, name, partition, full);
                        }
                    }
                }
                Ok(())
            });
            result = done.unwrap_or(Err(ErrorCode::UNKNOWN_MEMBER_ID));
        }
        if let Err(error) = result {
            let concerned = answers.iter_mut().flat_map(|t| &mut t.partitions).filter(|p| p.error_code.is_none());
            concerned.for_each(|p| p.error_code = error);
        }
    }

    /// Whether there is a group to commit to. One is begun for those who commit without being members.
    fn check_commit(&mut self, to: ReplyTo, request: &OffsetCommitRequest<'_>) -> Result<(), ErrorCode> {
        if request.group_id.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        if self.claimed.contains_key(request.group_id) {
            return Err(ErrorCode::GROUP_ID_NOT_FOUND);
        }
        if self.groups.contains_key(request.group_id) {
            return Ok(());
        }
        if request.generation_id_or_member_epoch >= 0 {
            return Err(if to.version >= 9 { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::ILLEGAL_GENERATION });
        }
        self.create(request.group_id).then_some(()).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }

    fn offset_fetch(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &OffsetFetchRequest<'_>) {
        if to.version >= 8 {
            let lookup = ctx.topics;
            let groups = request.groups.iter().map(|asked| match self.check_fetch(asked) {
                Ok(()) => OffsetFetchResponseGroup {
                    group_id: asked.group_id,
                    topics: self.fetched_of_group(lookup, to.version, asked, request.require_stable),
                    ..Default::default()
                },
                Err(error_code) => {
                    OffsetFetchResponseGroup { group_id: asked.group_id, error_code, ..Default::default() }
                }
            });
            let groups = groups.collect();
            return send(ctx.out, to, &OffsetFetchResponse { groups, ..Default::default() });
        }
        let (group, stable) = (self.groups.get(request.group_id), request.require_stable);
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| OffsetFetchResponseTopic {
                    name: topic.name,
                    partitions: topic
                        .partition_indexes
                        .iter()
                        .map(|p| fetched_old(group, topic.name, *p, stable))
                        .collect(),
                })
                .collect(),
            None => group
                .iter()
                .flat_map(|group| group.offsets.topics())
                .map(|(topic, partitions)| OffsetFetchResponseTopic {
                    name: topic,
                    partitions: partitions.keys().map(|p| fetched_old(group, topic, *p, stable)).collect(),
                })
                .collect(),
        };
        send(ctx.out, to, &OffsetFetchResponse { topics, ..Default::default() });
    }

    /// Whether the sender may ask, if it says that it is a member of a consumer group.
    fn check_fetch(&self, asked: &OffsetFetchRequestGroup<'_>) -> Result<(), ErrorCode> {
        let consumer = self.groups.get(asked.group_id).and_then(|group| group.consumer.as_ref());
        consumer.map_or(Ok(()), |consumer| consumer.check_fetch(asked.member_id, asked.member_epoch))
    }

    /// The offsets of one group of a request for several.
    fn fetched_of_group<'a>(
        &'a self,
        lookup: &'a dyn TopicLookup,
        version: i16,
        asked: &OffsetFetchRequestGroup<'a>,
        stable: bool,
    ) -> Vec<OffsetFetchResponseTopics<'a>> {
        let group = self.groups.get(asked.group_id);
        let by_id = version >= TOPIC_ID_VERSION;
        let Some(topics) = &asked.topics else {
            let all = group.into_iter().flat_map(|group| group.offsets.topics());
            return all
                .filter_map(|(topic, partitions)| {
                    // By id, what is for a topic that is no longer there can't be named.
                    let topic_id = if by_id { lookup.id_of(topic)? } else { Default::default() };
                    let partitions = partitions.keys().map(|p| fetched(group, topic, *p, stable)).collect();
                    Some(OffsetFetchResponseTopics { name: topic, topic_id, partitions })
                })
                .collect();
        };
        let topics = topics.iter().map(|topic| {
            let name = if by_id { lookup.name_of(topic.topic_id) } else { Some(topic.name) };
            let partitions = topic.partition_indexes.iter().map(|p| match name {
                Some(name) => fetched(group, name, *p, stable),
                None => OffsetFetchResponsePartitions {
                    error_code: ErrorCode::UNKNOWN_TOPIC_ID,
                    ..fetched(None, "", *p, false)
                },
            });
            let partitions = partitions.collect();
            OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions }
        });
        topics.collect()
    }

    fn offset_delete(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &OffsetDeleteRequest<'_>) {
        let lookup = ctx.topics;
        let deleted = check_group_id(request.group_id).and_then(|()| {
            let done = self.act(ctx.now, ctx.out, request.group_id, |group, env| {
                let empty = group.state == GroupState::Empty && !group.has_members();
                if !empty && group.consumer.is_none() && group.protocol_type.as_deref() != Some(CONSUMER) {
                    // What members of another kind are interested in is not known.
                    return Err(ErrorCode::NON_EMPTY_GROUP);
                }
                let topics = request.topics.iter().map(|topic| {
                    let count = lookup.partitions(topic.name).unwrap_or(0);
                    let subscribed = !empty && group.is_subscribed(topic.name, env.patterns);
                    let partitions = topic.partitions.iter().map(|p| {
                        let error_code = match (0..count).contains(&p.partition_index) {
                            false => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                            true if subscribed => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
                            true => ErrorCode::NONE,
                        };
                        if error_code.is_none() {
                            group.remove_offset(env, topic.name, p.partition_index);
                        }
                        OffsetDeleteResponsePartition { partition_index: p.partition_index, error_code }
                    });
                    let partitions = partitions.collect();
                    OffsetDeleteResponseTopic { name: topic.name, partitions }
                });
                let topics = topics.collect();
                group.arm_offsets(env);
                Ok(topics)
            });
            done.unwrap_or(Err(ErrorCode::GROUP_ID_NOT_FOUND))
        });
        let (topics, error_code) = match deleted {
            Ok(topics) => (topics, ErrorCode::NONE),
            Err(error) => (Vec::new(), error),
        };
        send(ctx.out, to, &OffsetDeleteResponse { topics, error_code, ..Default::default() });
    }
}

fn code(result: Result<(), ErrorCode>) -> ErrorCode {
    result.err().unwrap_or(ErrorCode::NONE)
}

fn commit_one(
    group: &mut Group,
    env: &mut Env<'_>,
    request: &OffsetCommitRequest<'_>,
    topic: &str,
    partition: &OffsetCommitRequestPartition<'_>,
    full: bool,
) -> ErrorCode {
    let metadata = partition.committed_metadata.unwrap_or("");
    let longest = env.settings.offset_metadata_max_bytes;
    if metadata.len() > longest && metadata.encode_utf16().count() > longest {
        return ErrorCode::OFFSET_METADATA_TOO_LARGE;
    }
    if full && group.offsets.get(topic, partition.partition_index).is_none() {
        return ErrorCode::COORDINATOR_NOT_AVAILABLE;
    }
    let now_ms = env.now.wall_ms;
    let (given_ms, retention_ms) = (partition.commit_timestamp, request.retention_time_ms);
    let offset = Offset {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: metadata.into(),
        commit_ms: if given_ms == -1 { now_ms } else { given_ms },
        expire_ms: if retention_ms == -1 { -1 } else { now_ms.saturating_add(retention_ms).max(0) },
    };
    group.commit(env, topic, partition.partition_index, offset);
    ErrorCode::NONE
}

/// One offset. Who asks for stable ones only is told to wait while a transaction may still change it (KIP-447).
fn fetched<'a>(
    group: Option<&'a Group>,
    topic: &str,
    partition_index: i32,
    stable: bool,
) -> OffsetFetchResponsePartitions<'a> {
    let pending = group.map(|group| &group.pending_txn).filter(|pending| stable && !pending.is_empty());
    if pending.is_some_and(|pending| pending.holds(topic, partition_index)) {
        return OffsetFetchResponsePartitions {
            error_code: ErrorCode::UNSTABLE_OFFSET_COMMIT,
            ..fetched(None, topic, partition_index, false)
        };
    }
    let offset = group.and_then(|group| group.offsets.get(topic, partition_index));
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: offset.map_or(-1, |o| o.offset),
        committed_leader_epoch: offset.map_or(-1, |o| o.leader_epoch),
        metadata: Some(offset.map_or("", |o| &o.metadata)),
        error_code: ErrorCode::NONE,
    }
}

/// The same in the shape of a request for one group.
fn fetched_old<'a>(
    group: Option<&'a Group>,
    topic: &str,
    partition_index: i32,
    stable: bool,
) -> OffsetFetchResponsePartition<'a> {
    let f = fetched(group, topic, partition_index, stable);
    OffsetFetchResponsePartition {
        partition_index,
        committed_offset: f.committed_offset,
        committed_leader_epoch: f.committed_leader_epoch,
        metadata: f.metadata,
        error_code: f.error_code,
    }
}

pub(super) fn operations(asked: bool) -> i32 {
    if asked {
        AUTHORIZED_OPERATIONS
    } else {
        i32::MIN
    }
}

fn listed(group: &Group) -> ListedGroup<'_> {
    let (protocol_type, group_state) = match &group.consumer {
        Some(consumer) => (CONSUMER, consumer.state().name()),
        None => (group.protocol_type.as_deref().unwrap_or(""), group.state.name()),
    };
    ListedGroup { group_id: &group.id, protocol_type, group_state, group_type: group.kind().name() }
}

fn described(group: &Group, with_operations: bool) -> DescribeGroupsDescribedGroup<'_> {
    // Only a stable group has a protocol that all members use. What members own they own until they get something else.
    let stable = group.state == GroupState::Stable;
    let protocol = group.protocol_name.as_deref().filter(|_| stable);
    let members = group.members.values().map(|m| DescribedGroupMember {
        member_id: &m.id,
        group_instance_id: m.instance.as_deref(),
        client_id: &m.client_id,
        client_host: &m.client_host,
        member_metadata: m.metadata(protocol),
        member_assignment: &m.assignment,
    });
    DescribeGroupsDescribedGroup {
        group_id: &group.id,
        group_state: group.state.name(),
        protocol_type: group.protocol_type.as_deref().unwrap_or(""),
        protocol_data: protocol.unwrap_or(""),
        members: members.collect(),
        authorized_operations: operations(with_operations),
        ..Default::default()
    }
}

/// Whether a key names a share partition: group, topic id and partition, with colons between. Version 6 brought them.
fn is_share_key(version: i16, key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let partition = parts.next().and_then(|text| text.parse::<u32>().ok());
    let topic = parts.next().and_then(Uuid::parse);
    version >= 6 && partition.is_some() && topic.is_some() && parts.next().is_some_and(|group| !group.is_empty())
}

/// Every group's coordinator is this broker.
fn find_coordinator(ctx: &mut Ctx<'_>, to: ReplyTo, request: &FindCoordinatorRequest<'_>) {
    let refused = match request.key_type {
        KEY_TYPE_GROUP | KEY_TYPE_TRANSACTION | KEY_TYPE_SHARE => None,
        _ => Some((ErrorCode::INVALID_REQUEST, "The key type is not one that exists.")),
    };
    let node = ctx.node;
    let one = |key| match refused {
        None if request.key_type == KEY_TYPE_SHARE && !is_share_key(to.version, key) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some(if to.version < 4 { "The key type is one of later versions." } else { "" }),
            ..Default::default()
        },
        None => Coordinator {
            key,
            node_id: node.id,
            host: node.host,
            port: node.port,
            // As Kafka words success, up to version 3 and from version 4 on.
            error_message: Some(if to.version < 4 { "NONE" } else { "" }),
            ..Default::default()
        },
        Some((error_code, message)) => {
            Coordinator { key, node_id: -1, port: -1, error_code, error_message: Some(message), ..Default::default() }
        }
    };
    if to.version >= 4 {
        let coordinators = request.coordinator_keys.iter().map(|key| one(*key)).collect();
        return send(ctx.out, to, &FindCoordinatorResponse { coordinators, ..Default::default() });
    }
    let one = one(request.key);
    let answer = FindCoordinatorResponse {
        error_code: one.error_code,
        error_message: one.error_message,
        node_id: one.node_id,
        host: one.host,
        port: one.port,
        ..Default::default()
    };
    send(ctx.out, to, &answer);
}
