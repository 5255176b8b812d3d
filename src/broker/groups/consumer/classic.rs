//! Owns members that speak the classic protocol in a consumer group, while its clients are being replaced one by one.
//!
//! JoinGroup does for them what a heartbeat does for the others, SyncGroup tells what they own, and Heartbeat tells when
//! to join again. Nobody leads: the broker assigns.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::ctx::{Client, Ctx, TopicLookup};
use super::super::group::{copy_protocols, subscription_of, Group, Name, CONSUMER};
use super::super::rebalance::{hyphened, shortened, MEMBER_ID_REQUIRED_VERSION};
use super::super::timers::{Timer, What};
use super::super::{api, Env, Groups};
use super::heartbeat::{check_instance, raised, refuse, Refused, Said};
use super::member::{Classic, Member, MemberState, Owned, Partitions, Subscription};
use super::persist::Changes;
use crate::broker::reply::ReplyTo;
use crate::limits;
use crate::wire::msg::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    MemberIdentity, SyncGroupRequest, SyncGroupResponse, TopicPartition,
};
use crate::wire::{ErrorCode, Wire, Writer};

/// Newest version of the assignment that consumers tell each other.
const ASSIGNMENT_VERSION_MAX: i16 = 3;

impl Groups {
    pub(in super::super) fn join_consumer(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &JoinGroupRequest<'_>) {
        self.look_patterns_up(ctx, request.group_id);
        let (client, lookup) = (ctx.client, ctx.topics);
        self.act(ctx.now, ctx.out, request.group_id, |group, env| {
            let result = group.join_classic(env, lookup, to, client, request);
            group.settle_kind(env);
            if let Err(refused) = result {
                api::join_error(env, to, refused.code, request.member_id);
            }
        });
    }

    /// Has the patterns of a group looked up, without waiting for that: those who use them may be away for a while, and the others'
    /// target has to wait for what they stand for.
    fn look_patterns_up(&mut self, ctx: &mut Ctx<'_>, group_id: &str) {
        let Groups { groups, patterns, .. } = self;
        let group = groups.get(group_id).and_then(|group| group.consumer.as_ref());
        for pattern in group.into_iter().flat_map(|group| group.patterns()) {
            patterns.ask(pattern, ctx.topics, ctx.out);
        }
    }

    pub(in super::super) fn sync_consumer(&mut self, ctx: &mut Ctx<'_>, to: ReplyTo, request: &SyncGroupRequest<'_>) {
        let lookup = ctx.topics;
        self.act(ctx.now, ctx.out, request.group_id, |group, env| {
            if let Err(code) = group.sync_classic(env, lookup, to, request) {
                api::sync_error(env, to, code);
            }
        });
    }
}

impl Group {
    fn join_classic(
        &mut self,
        env: &mut Env<'_>,
        lookup: &dyn TopicLookup,
        to: ReplyTo,
        client: Client<'_>,
        request: &JoinGroupRequest<'_>,
    ) -> Result<(), Refused> {
        let is_new = request.member_id.is_empty();
        let id: Name = match is_new {
            true => hyphened(env.out.random_uuid()).into(),
            false => request.member_id.into(),
        };
        self.check_classic_join(env, &id, request)?;
        if is_new && request.group_instance_id.is_none() && to.version >= MEMBER_ID_REQUIRED_VERSION {
            api::join_error(env, to, ErrorCode::MEMBER_ID_REQUIRED, &id);
            return Ok(());
        }
        let said = request.protocols.first().and_then(|protocol| subscription_of(protocol.metadata));
        let Some(said) = said else { return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, "") };
        let mut changes = Changes::default();
        let replaced = self.find_classic(env, &id, request.group_instance_id, is_new, &mut changes)?;
        let Some(group) = &mut self.consumer else { return Ok(()) };
        let before = &group.member_or_new(&id).subscription;
        let rebalance_ms = if to.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
        let subscription = joined(before, client, request, &said, rebalance_ms);
        let owned = owned_by(&said, lookup);
        let result = self.member_says(env, lookup, &id, Said { subscription, owned: Some(&owned) }, &mut changes);
        let Some(member) = self.consumer.as_ref().and_then(|group| group.member(&id)) else { return Ok(()) };
        let epoch = member.current.epoch;
        if replaced && self.may_downgrade(env, &id, true) {
            self.downgrade(env, lookup);
        } else {
            self.end_rejoin(env, &id);
            self.touch_member(env, &id);
            self.time_sync(env, &id, rebalance_ms);
        }
        result?;
        let answer = JoinGroupResponse {
            generation_id: epoch,
            protocol_type: Some(CONSUMER),
            protocol_name: request.protocols.first().map(|protocol| protocol.name),
            member_id: &id,
            ..Default::default()
        };
        api::send(env.out, to, &answer);
        Ok(())
    }

    fn check_classic_join(&self, env: &Env<'_>, id: &str, request: &JoinGroupRequest<'_>) -> Result<(), Refused> {
        let Some(group) = &self.consumer else { return Ok(()) };
        let size_max = env.settings.consumer_size_max();
        let needed: usize = request.protocols.iter().map(|p| p.name.len() + p.metadata.len() + 32).sum();
        let too_large = needed > limits::CONSUMER_GROUP_BYTES_MAX / 2
            || group.bytes() + needed > limits::CONSUMER_GROUP_MEMORY_BYTES_MAX;
        if id.len() > limits::CONSUMER_GROUP_CLIENT_BYTES_MAX {
            return refuse(ErrorCode::UNKNOWN_MEMBER_ID, "");
        } else if group.len() >= size_max && !group.has(id) || too_large {
            return refuse(ErrorCode::GROUP_MAX_SIZE_REACHED, "");
        }
        let supported = group.supports(request.protocols.iter().map(|protocol| protocol.name));
        if request.protocol_type != CONSUMER || !supported {
            return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, "");
        }
        Ok(())
    }

    /// Checks a joining member's identity. True when it took the place of a static member.
    fn find_classic(
        &mut self,
        env: &mut Env<'_>,
        id: &Name,
        instance: Option<&str>,
        is_new: bool,
        changes: &mut Changes,
    ) -> Result<bool, Refused> {
        let (Some(group), Some(instance)) = (&self.consumer, instance) else { return Ok(false) };
        let current = group.by_instance(instance);
        if !is_new {
            check_instance(current, id, instance)?;
            return Ok(false);
        }
        let Some(old) = current.map(|member| member.id.clone()) else { return Ok(false) };
        self.replace_static(env, &old, id, changes);
        Ok(true)
    }

    fn sync_classic(
        &mut self,
        env: &mut Env<'_>,
        lookup: &dyn TopicLookup,
        to: ReplyTo,
        request: &SyncGroupRequest<'_>,
    ) -> Result<(), ErrorCode> {
        let instance = request.group_instance_id;
        let member = self.classic_member(request.member_id, instance, request.generation_id)?;
        let Some(protocol) = member.subscription.classic.as_ref().and_then(|classic| classic.protocols.first()) else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        let differs = |said: Option<&str>, known: &str| said.is_some_and(|said| said != known);
        if differs(request.protocol_type, CONSUMER) || differs(request.protocol_name, &protocol.name) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let id = member.id.clone();
        let assignment = encoded_assignment(&member.current.assigned, &protocol.metadata, lookup);
        let epoch = self.consumer.as_ref().map_or(0, |group| group.epoch);
        if epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions {
            self.time_rejoin(env, &id);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.end_sync(env, &id);
        self.touch_member(env, &id);
        let answer = SyncGroupResponse {
            protocol_type: request.protocol_type,
            protocol_name: request.protocol_name,
            assignment: &assignment,
            ..Default::default()
        };
        api::send(env.out, to, &answer);
        Ok(())
    }

    /// A classic heartbeat to a consumer group. A member is to join again when there is a newer epoch, when it has to give
    /// partitions up, and when what it waits for is free.
    pub(in super::super) fn beat_classic(
        &mut self,
        env: &mut Env<'_>,
        request: &HeartbeatRequest<'_>,
    ) -> Result<(), ErrorCode> {
        let instance = request.group_instance_id;
        let member = self.classic_member(request.member_id, instance, request.generation_id)?;
        let id = member.id.clone();
        let Some(group) = &self.consumer else { return Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        let join_again = member.current.epoch < group.epoch
            || match member.current.state {
                MemberState::Stable => false,
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !group.waits_for_others(member),
            };
        self.touch_member(env, &id);
        if join_again {
            self.time_rejoin(env, &id);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Members of either protocol leave a consumer group by LeaveGroup, which is also how an administrator removes them;
    /// what became of each.
    pub(in super::super) fn leave_classic(
        &mut self,
        env: &mut Env<'_>,
        lookup: &dyn TopicLookup,
        leaving: &[MemberIdentity<'_>],
    ) -> Vec<ErrorCode> {
        let mut changes = Changes::default();
        let mut results = Vec::with_capacity(leaving.len());
        let mut left = false;
        // With them the group may become a classic one, so they go last.
        let mut fenced: Vec<Name> = Vec::new();
        for identity in leaving {
            let result = self.leaving_member(identity);
            let result =
                result.and_then(|id| if fenced.contains(&id) { Err(ErrorCode::UNKNOWN_MEMBER_ID) } else { Ok(id) });
            results.push(result.as_ref().err().copied().unwrap_or(ErrorCode::NONE));
            let Ok(id) = result else { continue };
            if !self.consumer.as_ref().and_then(|group| group.member(&id)).is_some_and(Member::is_classic) {
                fenced.push(id);
                continue;
            }
            self.cancel_member(env, &id);
            if let Some(group) = &mut self.consumer {
                group.take(&id);
                changes.gone(&id);
                left = true;
            }
        }
        if left {
            if let Some(group) = &mut self.consumer {
                group.epoch = raised(group.epoch);
                group.topics_seen = None;
                changes.group();
            }
            self.became_smaller(env, &changes);
        }
        for id in fenced {
            self.fence(env, lookup, &id);
        }
        results
    }

    fn leaving_member(&self, leaving: &MemberIdentity<'_>) -> Result<Name, ErrorCode> {
        let group = self.consumer.as_ref().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let found = match leaving.group_instance_id {
            None => group.member(leaving.member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID),
            // An administrator removes a static member without knowing its member id.
            Some(instance) if leaving.member_id.is_empty() => {
                group.by_instance(instance).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
            }
            Some(instance) => {
                check_instance(group.by_instance(instance), leaving.member_id, instance).map_err(|refused| refused.code)
            }
        };
        found.map(|member| member.id.clone())
    }

    /// The member of the classic protocol whose generation this is.
    fn classic_member(&self, id: &str, instance: Option<&str>, generation: i32) -> Result<&Member, ErrorCode> {
        let group = self.consumer.as_ref().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let member = match instance {
            None => group.member(id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?,
            Some(instance) => {
                check_instance(group.by_instance(instance), id, instance).map_err(|refused| refused.code)?
            }
        };
        if !member.is_classic() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        } else if member.current.epoch != generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(member)
    }
}

/// The two timers of members of the classic protocol.
impl Group {
    /// From the moment that a member is told to join again it has its rebalance timeout to do so.
    fn time_rejoin(&mut self, env: &mut Env<'_>, id: &str) {
        let Some(group) = &mut self.consumer else { return };
        let Some(member) = group.member(id) else { return };
        let timeout_us = member.subscription.rebalance_timeout_ms.max(0) as u64 * 1000;
        let Some((id, deadlines)) = group.deadlines(id) else { return };
        if deadlines.rejoin_us.is_none() {
            let timer = Timer { group: self.id.clone(), what: What::Rejoin(id.clone()) };
            env.timers.set(&mut deadlines.rejoin_us, env.now.mono_us.saturating_add(timeout_us), timer);
        }
    }

    fn end_rejoin(&mut self, env: &mut Env<'_>, id: &str) {
        let Some((id, deadlines)) = self.consumer.as_mut().and_then(|group| group.deadlines(id)) else { return };
        let timer = Timer { group: self.id.clone(), what: What::Rejoin(id.clone()) };
        env.timers.cancel(&mut deadlines.rejoin_us, &timer);
    }

    fn time_sync(&mut self, env: &mut Env<'_>, id: &str, timeout_ms: i32) {
        let at_us = env.now.mono_us.saturating_add(timeout_ms.max(0) as u64 * 1000);
        let Some((id, deadlines)) = self.consumer.as_mut().and_then(|group| group.deadlines(id)) else { return };
        let timer = Timer { group: self.id.clone(), what: What::MemberSync(id.clone()) };
        env.timers.set(&mut deadlines.sync_us, at_us, timer);
    }

    fn end_sync(&mut self, env: &mut Env<'_>, id: &str) {
        let Some((id, deadlines)) = self.consumer.as_mut().and_then(|group| group.deadlines(id)) else { return };
        let timer = Timer { group: self.id.clone(), what: What::MemberSync(id.clone()) };
        env.timers.cancel(&mut deadlines.sync_us, &timer);
    }
}

/// What the member says after it joined with the classic protocol.
fn joined(
    before: &Subscription,
    client: Client<'_>,
    request: &JoinGroupRequest<'_>,
    said: &ConsumerProtocolSubscription<'_>,
    rebalance_timeout_ms: i32,
) -> Subscription {
    let topics: BTreeSet<Name> = said.topics.iter().map(|topic| Name::from(*topic)).collect();
    Subscription {
        instance: request.group_instance_id.map(Name::from).or_else(|| before.instance.clone()),
        rack: said.rack_id.map(Name::from).or_else(|| before.rack.clone()),
        client_id: shortened(client.id).into(),
        client_host: shortened(client.host).into(),
        rebalance_timeout_ms: if rebalance_timeout_ms == -1 {
            before.rebalance_timeout_ms
        } else {
            rebalance_timeout_ms
        },
        topics: if topics == *before.topics { before.topics.clone() } else { Arc::new(topics) },
        pattern: None,
        assignor: before.assignor.clone(),
        classic: Some(Classic {
            session_timeout_ms: request.session_timeout_ms,
            protocols: copy_protocols(&request.protocols),
        }),
    }
}

/// What a joining member says it owns. Consumers that give everything up before they join say nothing.
fn owned_by(said: &ConsumerProtocolSubscription<'_>, lookup: &dyn TopicLookup) -> Partitions {
    let mut owned = Partitions::new();
    for topic in &said.owned_partitions {
        if let Some(id) = lookup.id_of(topic.topic) {
            owned.entry(id).or_default().extend(&topic.partitions);
        }
    }
    owned
}

/// Partitions as consumers of the classic protocol are given them, in the version of their own metadata.
pub(super) fn encoded_assignment(assigned: &Owned, metadata: &[u8], lookup: &dyn TopicLookup) -> Vec<u8> {
    let version = metadata.get(..2).map_or(0, |bytes| i16::from_be_bytes([bytes[0], bytes[1]]));
    let version = version.clamp(0, ASSIGNMENT_VERSION_MAX);
    let topics = assigned.iter().filter_map(|(topic, partitions)| {
        Some(TopicPartition { topic: lookup.name_of(*topic)?, partitions: partitions.keys().copied().collect() })
    });
    let mut writer = Writer::new(version, false);
    writer.i16(version);
    ConsumerProtocolAssignment { assigned_partitions: topics.collect(), ..Default::default() }.write(&mut writer);
    writer.into_encoded().bytes
}
