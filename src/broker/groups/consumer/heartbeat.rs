//! Owns the protocol of consumer groups (KIP-848): members join, beat and leave, the group's epoch rises with what they
//! change, and a target assignment follows it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::ctx::{Client, Ctx, TopicLookup};
use super::super::group::{Group, Name};
use super::super::patterns_wait::Waiting;
use super::super::rebalance::shortened;
use super::super::timers::{Timer, What};
use super::super::{api, Env, GroupKind, Groups};
use super::member::{self, Current, MemberState, Owned, Partitions, Subscription};
use super::patterns::Known;
use super::persist::Changes;
use super::reconcile::{step, Surroundings};
use super::ConsumerGroup;
use crate::broker::reply::ReplyTo;
use crate::limits;
use crate::wire::msg::{
    ConsumerGroupHeartbeatAssignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatTopicPartitions,
};
use crate::wire::{ErrorCode, Uuid};

/// First version in which members make their ids themselves.
const OWN_MEMBER_ID_VERSION: i16 = 1;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Refused {
    pub code: ErrorCode,
    pub message: String,
}

pub(in super::super) fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { code, message: message.into() })
}

/// What a heartbeat is answered.
struct Beaten {
    member_id: Name,
    epoch: i32,
    interval_ms: i32,
    /// The member's partitions, if it has to be told.
    assignment: Option<Owned>,
}

/// A member's part of a change to a group.
pub(super) struct Said<'a> {
    pub subscription: Subscription,
    /// What it says it owns.
    pub owned: Option<&'a Partitions>,
}

impl Groups {
    pub(in super::super) fn consumer_heartbeat(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: ReplyTo,
        body: &[u8],
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) {
        let answer = match self.beat(ctx, to, body, request) {
            Ok(None) => return,
            Ok(Some(beaten)) => {
                let assignment = beaten.assignment.as_ref().map(|assigned| ConsumerGroupHeartbeatAssignment {
                    topic_partitions: member::partitions_of(assigned)
                        .map(|(topic_id, partitions)| ConsumerGroupHeartbeatTopicPartitions { topic_id, partitions })
                        .collect(),
                });
                let answer = ConsumerGroupHeartbeatResponse {
                    member_id: Some(&beaten.member_id),
                    member_epoch: beaten.epoch,
                    heartbeat_interval_ms: beaten.interval_ms,
                    assignment,
                    ..Default::default()
                };
                return api::send(ctx.out, to, &answer);
            }
            Err(refused) => refused,
        };
        let error_message = Some(answer.message.as_str()).filter(|message| !message.is_empty());
        let answer = ConsumerGroupHeartbeatResponse { error_code: answer.code, error_message, ..Default::default() };
        api::send(ctx.out, to, &answer);
    }

    /// `None` when the answer has to wait.
    fn beat(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: ReplyTo,
        body: &[u8],
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Result<Option<Beaten>, Refused> {
        self.check_heartbeat(to.version, request)?;
        if self.stopped {
            return refuse(ErrorCode::NOT_COORDINATOR, "");
        }
        if request.member_epoch < member::JOINS {
            return self.leave(ctx, request).map(Some);
        }
        self.check_group(request.group_id, request.member_epoch == member::JOINS)?;
        let unknown = self.unknown_patterns(ctx, request)?;
        if !unknown.is_empty() {
            let waiting = Waiting::new(ctx, to, body, request, unknown);
            let bytes: usize = self.waiting.values().map(Waiting::bytes).sum();
            if bytes + waiting.bytes() > limits::PATTERN_WAITING_BYTES_MAX {
                return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "Too much waits for regular expressions.");
            }
            self.waiting.insert((to.conn, to.slot), waiting);
            return Ok(None);
        }
        self.begin_consumer_group(ctx, request.group_id, request.member_id)?;
        let (client, lookup) = (ctx.client, ctx.topics);
        let done = self.act(ctx.now, ctx.out, request.group_id, |group, env| {
            let beaten = group.beat(env, lookup, client, request);
            group.settle_kind(env);
            beaten
        });
        done.unwrap_or_else(|| refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "")).map(Some)
    }

    /// The checks that need no group, with Kafka's words.
    fn check_heartbeat(&self, version: i16, request: &ConsumerGroupHeartbeatRequest<'_>) -> Result<(), Refused> {
        let invalid = |message: &str| refuse(ErrorCode::INVALID_REQUEST, message);
        let epoch = request.member_epoch;
        let is_blank = |text: &str| text.trim().is_empty();
        let is_named = version >= OWN_MEMBER_ID_VERSION || epoch > member::JOINS || epoch == member::LEAVES;
        if is_named && is_blank(request.member_id) {
            return invalid("MemberId can't be empty.");
        } else if is_blank(request.group_id) {
            return invalid("GroupId can't be empty.");
        } else if request.instance_id.is_some_and(is_blank) {
            return invalid("InstanceId can't be empty.");
        } else if request.rack_id.is_some_and(is_blank) {
            return invalid("RackId can't be empty.");
        }
        if epoch == member::JOINS {
            if request.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            } else if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            } else if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
        } else if epoch == member::LEAVES_FOR_A_WHILE && request.instance_id.is_none() {
            return invalid("InstanceId can't be null.");
        } else if epoch < member::LEAVES_FOR_A_WHILE {
            return invalid("MemberEpoch is invalid.");
        }
        let assignors = &self.settings.consumer_assignors;
        if let Some(wanted) = request.server_assignor {
            if !assignors.iter().any(|assignor| assignor.name() == wanted) {
                let names: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
                let names = names.join(", ");
                return refuse(
                    ErrorCode::UNSUPPORTED_ASSIGNOR,
                    format!("ServerAssignor {wanted} is not supported. Supported assignors: {names}."),
                );
            }
        }
        check_lengths(request)
    }

    /// Whether the group is one, or can be made one, in which members beat.
    fn check_group(&self, id: &str, joins: bool) -> Result<(), Refused> {
        match self.kind_of(id) {
            Some(GroupKind::Consumer) => Ok(()),
            None if joins => Ok(()),
            Some(GroupKind::Classic) if joins => Ok(()),
            None => refuse(ErrorCode::GROUP_ID_NOT_FOUND, format!("Consumer group {id} not found.")),
            Some(_) => refuse(ErrorCode::GROUP_ID_NOT_FOUND, not_a_consumer_group(id)),
        }
    }

    /// The patterns that the request and its group use and that have not been looked up yet; they are asked for.
    fn unknown_patterns(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Result<Vec<Name>, Refused> {
        let Groups { groups, patterns, .. } = self;
        let group = groups.get(request.group_id).and_then(|group| group.consumer.as_ref());
        let used: BTreeSet<Name> = group.into_iter().flat_map(|group| group.patterns().cloned()).collect();
        let mut unknown = Vec::new();
        if let Some(said) = request.subscribed_topic_regex.filter(|said| !said.is_empty() && !used.contains(*said)) {
            if patterns.are_too_many() && patterns.topics(said).is_none() {
                let consumers = groups.values().filter_map(|group| group.consumer.as_ref());
                let used: BTreeSet<&Name> = consumers.flat_map(|group| group.patterns()).collect();
                patterns.retain(|pattern| used.contains(pattern));
                if patterns.are_too_many() {
                    return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "There are too many regular expressions.");
                }
            }
            let said: Name = said.into();
            match patterns.ask(&said, ctx.topics, ctx.out) {
                Known::Yes => {}
                Known::NotYet => unknown.push(said),
                Known::Fault(fault) => {
                    return refuse(
                        ErrorCode::INVALID_REGULAR_EXPRESSION,
                        format!("SubscribedTopicRegex `{said}` is not a valid regular expression: {fault}."),
                    );
                }
            }
        }
        for pattern in used {
            if patterns.ask(&pattern, ctx.topics, ctx.out) != Known::Yes {
                unknown.push(pattern);
            }
        }
        Ok(unknown)
    }

    fn leave(&mut self, ctx: &mut Ctx<'_>, request: &ConsumerGroupHeartbeatRequest<'_>) -> Result<Beaten, Refused> {
        let id = request.group_id;
        match self.kind_of(id) {
            Some(GroupKind::Consumer) => {}
            None => return refuse(ErrorCode::GROUP_ID_NOT_FOUND, format!("Group {id} not found.")),
            Some(_) => return refuse(ErrorCode::GROUP_ID_NOT_FOUND, not_a_consumer_group(id)),
        }
        let lookup = ctx.topics;
        let done = self.act(ctx.now, ctx.out, id, |group, env| group.member_leaves(env, lookup, request));
        done.unwrap_or_else(|| refuse(ErrorCode::GROUP_ID_NOT_FOUND, format!("Group {id} not found.")))
    }
}

pub(super) fn not_a_consumer_group(id: &str) -> String {
    format!("Group {id} is not a consumer group.")
}

pub(super) fn not_a_member(member_id: &str, group_id: &str) -> String {
    format!("Member {member_id} is not a member of group {group_id}.")
}

/// Bounds of what a client makes up; Kafka's is the size of its records.
fn check_lengths(request: &ConsumerGroupHeartbeatRequest<'_>) -> Result<(), Refused> {
    if request.group_id.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX {
        return refuse(ErrorCode::INVALID_GROUP_ID, "");
    }
    let names = [Some(request.member_id), request.instance_id, request.rack_id];
    if names.into_iter().flatten().any(|name| name.len() > limits::CONSUMER_GROUP_CLIENT_BYTES_MAX) {
        return refuse(ErrorCode::INVALID_REQUEST, "MemberId, InstanceId or RackId is too long.");
    }
    if let Some(pattern) = request.subscribed_topic_regex.filter(|p| p.len() > limits::PATTERN_BYTES_MAX) {
        let message = format!("SubscribedTopicRegex of {} bytes is too long.", pattern.len());
        return refuse(ErrorCode::INVALID_REGULAR_EXPRESSION, message);
    }
    Ok(())
}

/// What a request says that its member owns.
fn owned_of(request: &ConsumerGroupHeartbeatRequest<'_>) -> Option<Partitions> {
    let mut owned = Partitions::new();
    for topic in request.topic_partitions.as_ref()? {
        owned.entry(topic.topic_id).or_default().extend(&topic.partitions);
    }
    Some(owned)
}

impl Group {
    fn beat(
        &mut self,
        env: &mut Env<'_>,
        lookup: &dyn TopicLookup,
        client: Client<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Result<Beaten, Refused> {
        let joins = request.member_epoch == member::JOINS;
        let owned = owned_of(request);
        self.check_room(env, request)?;
        let mut changes = Changes::default();
        let id: Name = if request.member_id.is_empty() {
            env.out.random_uuid().to_string().into()
        } else {
            request.member_id.into()
        };
        self.find_member(env, &id, request, owned.as_ref(), &mut changes)?;
        let Some(group) = &mut self.consumer else { return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "") };
        let was_empty = group.is_empty();
        let member = group.member_or_new(&id);
        let before: Vec<(Uuid, Vec<i32>)> = member::partitions_of(&member.current.assigned).collect();
        let subscription = updated(&member.subscription, client, request);
        self.member_says(env, lookup, &id, Said { subscription, owned: owned.as_ref() }, &mut changes)?;
        self.touch_member(env, &id);
        if was_empty {
            self.arm_offsets(env);
        }

        let Some(member) = self.consumer.as_ref().and_then(|group| group.member(&id)) else {
            return refuse(ErrorCode::UNKNOWN_MEMBER_ID, not_a_member(&id, &self.id));
        };
        let says_all = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && request.topic_partitions.is_some();
        let assigned = &member.current.assigned;
        let tell = joins || says_all || !before.into_iter().eq(member::partitions_of(assigned));
        Ok(Beaten {
            member_id: id.clone(),
            epoch: member.current.epoch,
            interval_ms: env.timing.heartbeat_interval_ms,
            assignment: tell.then(|| assigned.clone()),
        })
    }

    /// Whether there is room for what the request brings.
    fn check_room(&self, env: &Env<'_>, request: &ConsumerGroupHeartbeatRequest<'_>) -> Result<(), Refused> {
        let Some(group) = &self.consumer else { return Ok(()) };
        let size_max = env.settings.consumer_size_max();
        let is_member = !request.member_id.is_empty() && group.has(request.member_id);
        let names = request.subscribed_topic_names.iter().flatten();
        let more: usize = names.map(|name| name.len() + 48).sum();
        let too_large = more > limits::CONSUMER_GROUP_BYTES_MAX / 2
            || more > 0 && group.bytes() + more > limits::CONSUMER_GROUP_MEMORY_BYTES_MAX;
        if group.len() >= size_max && !is_member || too_large {
            let message = format!("The consumer group has reached its maximum capacity of {size_max} members.");
            return refuse(ErrorCode::GROUP_MAX_SIZE_REACHED, message);
        }
        Ok(())
    }

    /// Checks that the sender is a member or may become one. A static member that comes back takes its place under its new
    /// id.
    fn find_member(
        &mut self,
        env: &mut Env<'_>,
        id: &Name,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        owned: Option<&Partitions>,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        let joins = request.member_epoch == member::JOINS;
        let Some(group) = &self.consumer else { return Ok(()) };
        let Some(instance) = request.instance_id else {
            return match group.member(id) {
                None if joins => Ok(()),
                None => refuse(ErrorCode::UNKNOWN_MEMBER_ID, not_a_member(id, &self.id)),
                Some(_) if joins => Ok(()),
                Some(member) => check_epoch(&member.current, request.member_epoch, owned),
            };
        };
        let current = group.by_instance(instance);
        if !joins {
            let member = check_instance(current, id, instance)?;
            return check_epoch(&member.current, request.member_epoch, owned);
        }
        let Some(current) = current else { return Ok(()) };
        if !current.is_classic() && current.current.epoch != member::LEAVES_FOR_A_WHILE {
            let owner = &current.id;
            return refuse(
                ErrorCode::UNRELEASED_INSTANCE_ID,
                format!(
                    "Static member {id} with instance id {instance} cannot join the group because the instance id is \
                     owned by {owner} member."
                ),
            );
        }
        let old = current.id.clone();
        self.replace_static(env, &old, id, changes);
        Ok(())
    }

    /// A static member's successor takes over what it owns, and is brought to the target from there.
    pub(super) fn replace_static(&mut self, env: &mut Env<'_>, old: &Name, new: &Name, changes: &mut Changes) {
        self.cancel_member(env, old);
        self.cancel_member(env, new);
        let Some(group) = &mut self.consumer else { return };
        let Some(mut member) = group.take(old) else { return };
        changes.gone(old);
        member.id = new.clone();
        (member.current.epoch, member.current.previous_epoch) = (member::JOINS, member::JOINS);
        group.put(member);
        changes.whole(new);
    }

    /// A member says something: the group's epoch rises if that, or the topics, ask for another assignment; the target
    /// follows; the member goes a step towards it.
    pub(super) fn member_says(
        &mut self,
        env: &mut Env<'_>,
        lookup: &dyn TopicLookup,
        id: &Name,
        said: Said<'_>,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        let Some(group) = &mut self.consumer else { return Ok(()) };
        let before = &group.member_or_new(id).subscription;
        let has_changed = before.topics != said.subscription.topics || before.pattern != said.subscription.pattern;
        if *before != said.subscription {
            group.set_subscription(id, said.subscription);
            changes.said(id);
        }
        let other_topics = group.follow_topics(env, lookup, has_changed, changes);
        let assigned = group.make_target(&self.id, env, lookup, changes);
        group.reconcile(env, lookup, id, said.owned, has_changed, changes);
        self.time_revocation(env, id, changes);
        self.append_consumer(env, changes);
        if other_topics {
            self.arm_offsets(env);
        }
        assigned
    }

    /// Starts the time that a member has to give partitions up, or ends it.
    fn time_revocation(&mut self, env: &mut Env<'_>, id: &Name, changes: &Changes) {
        let Some(group) = &mut self.consumer else { return };
        if !changes.has_current(id) {
            return;
        }
        let Some(member) = group.member(id) else { return };
        // Members of the classic protocol have other timers.
        let revokes = member.current.state == MemberState::UnrevokedPartitions && !member.is_classic();
        let timeout_us = member.subscription.rebalance_timeout_ms.max(0) as u64 * 1000;
        let timer = Timer { group: self.id.clone(), what: What::Revoke(id.clone()) };
        let Some((_, deadlines)) = group.deadlines(id) else { return };
        if revokes {
            env.timers.set(&mut deadlines.revoke_us, env.now.mono_us.saturating_add(timeout_us), timer);
        } else {
            env.timers.cancel(&mut deadlines.revoke_us, &timer);
        }
    }

    /// The member was heard of: its session begins anew.
    pub(in super::super) fn touch_member(&mut self, env: &mut Env<'_>, id: &str) {
        let Some(member) = self.consumer.as_ref().and_then(|group| group.member(id)) else { return };
        let classic_ms = member.subscription.classic.as_ref().map(|classic| classic.session_timeout_ms);
        let timeout_us = classic_ms.map_or(env.timing.session_us, |ms| ms.max(0) as u64 * 1000);
        let at_us = env.now.mono_us.saturating_add(timeout_us);
        let Some((id, deadlines)) = self.consumer.as_mut().and_then(|group| group.deadlines(id)) else { return };
        let timer = Timer { group: self.id.clone(), what: What::Session(id.clone()) };
        env.timers.set(&mut deadlines.session_us, at_us, timer);
    }

    /// Cancels all timers of a member.
    pub(in super::super) fn cancel_member(&mut self, env: &mut Env<'_>, id: &str) {
        let Some((id, deadlines)) = self.consumer.as_mut().and_then(|group| group.deadlines(id)) else { return };
        let timer = |what: fn(Name) -> What| Timer { group: self.id.clone(), what: what(id.clone()) };
        env.timers.cancel(&mut deadlines.session_us, &timer(What::Session));
        env.timers.cancel(&mut deadlines.revoke_us, &timer(What::Revoke));
        env.timers.cancel(&mut deadlines.rejoin_us, &timer(What::Rejoin));
        env.timers.cancel(&mut deadlines.sync_us, &timer(What::MemberSync));
    }

    fn member_leaves(
        &mut self,
        env: &mut Env<'_>,
        lookup: &dyn TopicLookup,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Result<Beaten, Refused> {
        let Some(group) = &mut self.consumer else { return refuse(ErrorCode::GROUP_ID_NOT_FOUND, "") };
        let member = match request.instance_id {
            None => group.member(request.member_id).ok_or_else(|| Refused {
                code: ErrorCode::UNKNOWN_MEMBER_ID,
                message: not_a_member(request.member_id, &self.id),
            })?,
            Some(instance) => check_instance(group.by_instance(instance), request.member_id, instance)?,
        };
        let id = member.id.clone();
        if request.member_epoch == member::LEAVES_FOR_A_WHILE {
            let current = away(&member.current);
            group.set_current(&id, current);
            let timer = Timer { group: self.id.clone(), what: What::Revoke(id.clone()) };
            if let Some((_, deadlines)) = group.deadlines(&id) {
                env.timers.cancel(&mut deadlines.revoke_us, &timer);
            }
            let mut changes = Changes::default();
            changes.current(&id);
            self.append_consumer(env, &changes);
        } else {
            log::debug!("group {}: member {id} leaves", self.id);
            self.fence(env, lookup, &id);
        }
        Ok(Beaten { member_id: id, epoch: request.member_epoch, interval_ms: 0, assignment: None })
    }

    /// The server has found the group in its log: members have their whole session to be heard of again, and their whole
    /// time to give partitions up. False when this is no consumer group.
    pub(in super::super) fn recovered_consumer(&mut self, env: &mut Env<'_>) -> bool {
        if !self.consumer.as_ref().is_some_and(|group| group.persisted) {
            self.consumer = None;
            return false;
        }
        // With metadata in files, what a group was before may be there still when a crash came between.
        let (consumer, persisted, state_ms) = (self.consumer.take(), self.persisted.take(), self.state_ms);
        self.reset();
        (self.consumer, self.persisted, self.state_ms) = (consumer, persisted, state_ms);
        let Some(group) = &mut self.consumer else { return false };
        group.topics_seen = None;
        group.drop_predecessors();
        let ids = group.ids();
        for id in &ids {
            self.touch_member(env, id);
            let mut changes = Changes::default();
            changes.current(id);
            self.time_revocation(env, id, &changes);
        }
        true
    }

    /// Takes a member out, whatever it owns: the group's epoch rises. When only members of the classic protocol are left,
    /// the group becomes a classic one.
    pub(in super::super) fn fence(&mut self, env: &mut Env<'_>, lookup: &dyn TopicLookup, id: &str) {
        if self.may_downgrade(env, id, false) {
            return self.downgrade_without(env, lookup, id);
        }
        self.cancel_member(env, id);
        let Some(group) = &mut self.consumer else { return };
        let Some(member) = group.take(id) else { return };
        let mut changes = Changes::default();
        changes.gone(&member.id);
        group.epoch = raised(group.epoch);
        changes.group();
        // Without its subscription the group may have left topics, so the next heartbeat looks.
        group.topics_seen = None;
        self.became_smaller(env, &changes);
    }

    /// Appends that members left, and lets offsets expire if nobody is left.
    pub(super) fn became_smaller(&mut self, env: &mut Env<'_>, changes: &Changes) {
        if self.consumer.as_ref().is_some_and(|group| group.is_empty()) {
            self.state_ms = env.now.wall_ms;
        }
        self.append_consumer(env, changes);
        self.arm_offsets(env);
    }

    /// A member's session ended, or its time to do something.
    pub(in super::super) fn member_expired(&mut self, env: &mut Env<'_>, lookup: &dyn TopicLookup, what: &What) {
        let (id, why) = match what {
            What::Session(id) => (id, "was not heard of within its session timeout"),
            What::Revoke(id) => (id, "did not give its partitions up in time"),
            What::Rejoin(id) => (id, "did not join again in time"),
            What::MemberSync(id) => (id, "did not ask for its assignment in time"),
            _ => return,
        };
        let Some((_, deadlines)) = self.consumer.as_mut().and_then(|group| group.deadlines(id)) else { return };
        match what {
            What::Session(_) => deadlines.session_us = None,
            What::Revoke(_) => deadlines.revoke_us = None,
            What::Rejoin(_) => deadlines.rejoin_us = None,
            _ => deadlines.sync_us = None,
        }
        log::info!("group {}: member {id} {why}", self.id);
        self.fence(env, lookup, id);
    }

    /// Appends what has changed; for a group that is not in the log yet, all of it.
    pub(super) fn append_consumer(&mut self, env: &mut Env<'_>, changes: &Changes) {
        let state_ms = self.state_ms;
        let Some(group) = &mut self.consumer else { return };
        let entries = match group.persisted {
            true => changes.entries(&self.id, group, state_ms),
            false => super::persist::all(&self.id, group, state_ms),
        };
        group.persisted = true;
        env.out.metas(entries);
    }
}

impl ConsumerGroup {
    /// Raises the group's epoch if a member asks for something else, or the topics have changed. True when the group
    /// subscribes to other topics than before.
    fn follow_topics(
        &mut self,
        env: &mut Env<'_>,
        lookup: &dyn TopicLookup,
        mut raise: bool,
        changes: &mut Changes,
    ) -> bool {
        let mut other = false;
        if raise || self.topics_seen != Some(env.patterns.version()) {
            if let Some(hash) = self.hash(env.patterns, lookup) {
                other = hash != self.topics_hash;
                raise |= other;
                self.topics_hash = hash;
                self.topics_seen = Some(env.patterns.version());
            }
        }
        if raise {
            self.epoch = raised(self.epoch);
            changes.group();
        }
        other
    }

    /// Makes a new target if the epoch has risen since the last, but not sooner than the interval allows: when many come
    /// at once, one target serves them all. While a pattern has not been looked up, which is so after a start, there is none to be
    /// made: it would lack the pattern's topics, and nothing would call for another one.
    fn make_target(
        &mut self,
        id: &str,
        env: &mut Env<'_>,
        lookup: &dyn TopicLookup,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        let interval_us = env.timing.assignment_interval_us;
        let too_soon = self.assigned_us.is_some_and(|at| env.now.mono_us < at.saturating_add(interval_us));
        if self.epoch <= self.assignment_epoch || too_soon || !self.knows_topics(env.patterns) {
            return Ok(());
        }
        let assignor = self.assignor(env.settings.usual_assignor());
        let targets = self.assign(assignor, env.patterns, lookup);
        let bytes: usize = targets.values().flat_map(|t| t.values()).map(|p| 24 + 4 * p.len()).sum();
        if bytes > limits::CONSUMER_GROUP_BYTES_MAX {
            log::error!("group {id}: an assignment of {bytes} bytes is too large to be kept");
            let message = format!("Failed to compute a new target assignment for epoch {}: too large", self.epoch);
            return refuse(ErrorCode::UNKNOWN_SERVER_ERROR, message);
        }
        log::debug!("group {id}: target of epoch {} by {}, {} members", self.epoch, assignor.name(), self.len());
        for (member_id, target) in targets {
            if self.member(&member_id).is_some_and(|member| member.target != target) {
                self.set_target(&member_id, target);
                changes.target(&member_id);
            }
        }
        self.assignment_epoch = self.epoch;
        self.assigned_us = Some(env.now.mono_us);
        changes.group();
        Ok(())
    }

    /// Brings a member one step nearer to its target.
    fn reconcile(
        &mut self,
        env: &mut Env<'_>,
        lookup: &dyn TopicLookup,
        id: &Name,
        owned: Option<&Partitions>,
        has_changed: bool,
        changes: &mut Changes,
    ) {
        let Some(member) = self.member(id) else { return };
        if !has_changed && member.current.is_reconciled_to(self.assignment_epoch) {
            return;
        }
        let subscribed = self.topic_ids(&member.subscription, env.patterns, lookup);
        let around = Surroundings {
            target_epoch: self.assignment_epoch,
            target: &member.target,
            owned,
            subscribed: &subscribed,
            has_changed,
            is_owned: &|topic, partition| self.is_owned(topic, partition),
        };
        if let Some(next) = step(&member.current, &around) {
            self.set_current(id, next);
            changes.current(id);
        }
    }
}

/// The next epoch. It begins anew when there are no more, which two billion rebalances will not see.
pub(super) fn raised(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// What a static member leaves behind when it goes for a while: it keeps its partitions for its successor, under epoch 0.
fn away(current: &Current) -> Current {
    let mut left = Current { epoch: member::LEAVES_FOR_A_WHILE, revoking: Owned::new(), ..current.clone() };
    left.assigned.values_mut().flat_map(|partitions| partitions.values_mut()).for_each(|epoch| *epoch = 0);
    left
}

/// The static member of the instance, if it is the one with this id.
pub(super) fn check_instance<'a>(
    current: Option<&'a member::Member>,
    id: &str,
    instance: &str,
) -> Result<&'a member::Member, Refused> {
    match current {
        None => refuse(ErrorCode::UNKNOWN_MEMBER_ID, format!("Instance id {instance} is unknown.")),
        Some(member) if *member.id != *id => refuse(
            ErrorCode::FENCED_INSTANCE_ID,
            format!("Static member {id} with instance id {instance} was fenced by member {}.", member.id),
        ),
        Some(member) => Ok(member),
    }
}

/// Whether the epoch is the member's. The one before it will do while the member owns nothing that is not its own: the
/// answer that told the new one may have been lost.
fn check_epoch(current: &Current, epoch: i32, owned: Option<&Partitions>) -> Result<(), Refused> {
    let word = if epoch > current.epoch {
        "greater"
    } else if epoch < current.epoch
        && !(epoch == current.previous_epoch && owned.is_some_and(|owned| is_within(owned, &current.assigned)))
    {
        "smaller"
    } else {
        return Ok(());
    };
    refuse(
        ErrorCode::FENCED_MEMBER_EPOCH,
        format!(
            "The consumer group member has a {word} member epoch ({epoch}) than the one known by the group coordinator \
             ({}). The member must abandon all its partitions and rejoin.",
            current.epoch
        ),
    )
}

fn is_within(owned: &Partitions, assigned: &Owned) -> bool {
    owned.iter().all(|(topic, partitions)| {
        assigned.get(topic).is_some_and(|assigned| partitions.iter().all(|p| assigned.contains_key(p)))
    })
}

/// What the member says after a request: what it leaves out stays as it was.
fn updated(before: &Subscription, client: Client<'_>, request: &ConsumerGroupHeartbeatRequest<'_>) -> Subscription {
    let text = |said: Option<&str>, before: &Option<Name>| match said {
        Some(said) => before.clone().filter(|before| **before == *said).or_else(|| Some(said.into())),
        None => before.clone(),
    };
    let name = |said: &str, before: &Name| if **before == *said { before.clone() } else { said.into() };
    let topics = match &request.subscribed_topic_names {
        Some(names) if !same_names(names, &before.topics) => {
            Arc::new(names.iter().map(|name| (*name).into()).collect())
        }
        _ => before.topics.clone(),
    };
    let timeout_ms = request.rebalance_timeout_ms;
    Subscription {
        instance: text(request.instance_id, &before.instance),
        rack: text(request.rack_id, &before.rack),
        client_id: name(shortened(client.id), &before.client_id),
        client_host: name(shortened(client.host), &before.client_host),
        rebalance_timeout_ms: if timeout_ms == -1 { before.rebalance_timeout_ms } else { timeout_ms },
        topics,
        pattern: text(request.subscribed_topic_regex, &before.pattern).filter(|pattern| !pattern.is_empty()),
        assignor: text(request.server_assignor, &before.assignor),
        classic: None,
    }
}

fn same_names(said: &[&str], known: &BTreeSet<Name>) -> bool {
    let said: BTreeSet<&str> = said.iter().copied().collect();
    said.len() == known.len() && said.iter().all(|name| known.contains(*name))
}
