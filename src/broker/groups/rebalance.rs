//! Owns how a group moves: members join, fetch their assignment, beat, leave and fall away; Kafka's classic protocol.
//!
//! Each method is one event for one group. It changes the group, sets timers, appends what has to last, then answers.

use bytes::Bytes;

use super::ctx::Client;
use super::group::{copy_protocols, subscription_topics, Group, GroupState, Member, Name, Protocol, Waiting, CONSUMER};
use super::timers::{Timer, What};
use super::{api, persist, Env};
use crate::broker::reply::ReplyTo;
use crate::limits;
use crate::wire::msg::{JoinGroupRequest, MemberIdentity, SyncGroupRequest};
use crate::wire::{ErrorCode, Uuid};

/// How long the first join of a new member may wait. It cannot heartbeat yet, so its session says nothing; and a client
/// that gave up and asks again is yet another member, of which there must not be ever more.
const NEW_MEMBER_JOIN_TIMEOUT_US: u64 = 5 * 60 * 1_000_000;

/// Least wait before a rebalance that nobody has joined is looked at again.
const JOIN_AGAIN_US_MIN: u64 = 1_000_000;

/// Bytes that a member id which was handed out takes beside itself, roughly.
const PENDING_BYTES: usize = 160;

/// First JoinGroup version whose clients come back with the member id that they are given (KIP-394).
pub(super) const MEMBER_ID_REQUIRED_VERSION: i16 = 4;

/// First JoinGroup version that can tell a leader not to assign (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

/// A JoinGroup request, its texts and protocols owned.
struct Joining {
    to: ReplyTo,
    instance: Option<Name>,
    client_id: Name,
    client_host: Name,
    protocol_type: Name,
    protocols: Vec<Protocol>,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
}

impl Joining {
    fn new(to: ReplyTo, client: Client<'_>, request: &JoinGroupRequest<'_>) -> Self {
        // Version 0 has no rebalance timeout of its own.
        let rebalance_ms = if to.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
        Joining {
            to,
            instance: request.group_instance_id.map(Name::from),
            client_id: shortened(client.id).into(),
            client_host: shortened(client.host).into(),
            protocol_type: request.protocol_type.into(),
            protocols: copy_protocols(&request.protocols),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: rebalance_ms.max(0),
        }
    }

    fn member(self, id: Name) -> Member {
        Member {
            id,
            instance: self.instance,
            client_id: self.client_id,
            client_host: self.client_host,
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: self.protocols,
            assignment: Bytes::new(),
            is_new: true,
            join: None,
            sync: None,
            session_us: None,
        }
    }
}

/// Joining.
impl Group {
    pub fn join(&mut self, env: &mut Env<'_>, to: ReplyTo, client: Client<'_>, request: &JoinGroupRequest<'_>) {
        let member_id = request.member_id;
        if !self.accepts(member_id, env.settings.size_max()) {
            // The group was made smaller, or is full: whoever does not fit leaves.
            self.forget_member(env, member_id);
            api::join_error(env, to, ErrorCode::GROUP_MAX_SIZE_REACHED, "");
        } else {
            let joining = Joining::new(to, client, request);
            if !self.supports(&joining.protocol_type, &joining.protocols) {
                api::join_error(env, to, ErrorCode::INCONSISTENT_GROUP_PROTOCOL, member_id);
            } else if member_id.is_empty() {
                self.join_new(env, joining);
            } else {
                self.join_known(env, joining, member_id);
            }
        }
        self.complete_join_if_all(env);
    }

    fn join_new(&mut self, env: &mut Env<'_>, joining: Joining) {
        let prefix = joining.instance.as_ref().unwrap_or(&joining.client_id);
        let id: Name = format!("{}-{}", shortened(prefix), hyphened(env.out.random_uuid())).into();
        let before = joining.instance.as_ref().and_then(|instance| self.statics.get(instance)).cloned();
        if let Some(old_id) = before {
            self.succeed_static(env, joining, &old_id, id);
        } else if joining.instance.is_none() && joining.to.version >= MEMBER_ID_REQUIRED_VERSION {
            self.add_pending(env, joining, id);
        } else {
            self.add_member(env, joining, id);
        }
    }

    /// Hands out a member id; the member has a session's length to come back with it.
    fn add_pending(&mut self, env: &mut Env<'_>, joining: Joining, id: Name) {
        if self.pending.len() >= limits::CONSUMER_GROUP_MEMBERS_MAX {
            return api::join_error(env, joining.to, ErrorCode::GROUP_MAX_SIZE_REACHED, "");
        }
        let mut held = None;
        let timer = Timer { group: self.id.clone(), what: What::Pending(id.clone()) };
        env.timers.set(&mut held, after_ms(env, joining.session_timeout_ms), timer);
        self.pending.insert(id.clone(), held);
        self.pending_bytes += id.len() + PENDING_BYTES;
        self.disarm_if_bare(env);
        api::join_error(env, joining.to, ErrorCode::MEMBER_ID_REQUIRED, &id);
    }

    fn join_known(&mut self, env: &mut Env<'_>, joining: Joining, member_id: &str) {
        if let Some((id, _)) = self.pending.get_key_value(member_id) {
            let id = id.clone();
            if joining.instance.is_some() {
                // Ids are handed out to dynamic members only, so this one isn't the sender's.
                return api::join_error(env, joining.to, ErrorCode::UNKNOWN_MEMBER_ID, member_id);
            }
            return self.add_member(env, joining, id);
        }
        if let Err(error) = self.check_member(member_id, joining.instance.as_deref()) {
            return api::join_error(env, joining.to, error, member_id);
        }
        let same = self.members.get(member_id).is_some_and(|m| m.matches(&joining.protocols));
        match self.state {
            // Probably the answer to its join was lost on the way: it is told again.
            GroupState::CompletingRebalance if same => self.answer_join(env, joining.to, member_id, false),
            // Nothing has changed for a follower. A leader that joins again wants a new assignment.
            GroupState::Stable if same && !self.is_leader(member_id) => {
                self.answer_join(env, joining.to, member_id, false)
            }
            GroupState::Empty => api::join_error(env, joining.to, ErrorCode::UNKNOWN_MEMBER_ID, member_id),
            _ => self.join_again(env, joining, member_id),
        }
    }

    fn add_member(&mut self, env: &mut Env<'_>, joining: Joining, id: Name) {
        let to = joining.to;
        let protocol_type = joining.protocol_type.clone();
        let member = joining.member(id.clone());
        self.drop_pending(env, &id);
        if self.members.len() >= limits::CONSUMER_GROUP_MEMBERS_MAX || self.is_full(member.bytes()) {
            return api::join_error(env, to, ErrorCode::GROUP_MAX_SIZE_REACHED, "");
        }
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type);
        }
        if self.state == GroupState::PreparingRebalance && self.generation == 0 {
            self.new_member_added = true;
        }
        self.add(member);
        self.park_join_of(env, &id, to);
        self.set_session(env, &id, NEW_MEMBER_JOIN_TIMEOUT_US);
        self.prepare_rebalance_if_can(env);
    }

    /// A member joins again, perhaps with other metadata: the group rebalances.
    fn join_again(&mut self, env: &mut Env<'_>, joining: Joining, member_id: &str) {
        let before = self.members.get(member_id).map_or(0, |m| m.bytes());
        let needed: usize = joining.protocols.iter().map(|p| p.name.len() + p.metadata.len() + 32).sum();
        if self.is_full(needed.saturating_sub(before)) {
            return api::join_error(env, joining.to, ErrorCode::GROUP_MAX_SIZE_REACHED, member_id);
        }
        self.update(member_id, joining.protocols, joining.session_timeout_ms, joining.rebalance_timeout_ms);
        self.park_join_of(env, member_id, joining.to);
        self.prepare_rebalance_if_can(env);
    }

    /// A static member came back without its member id: the new one takes the old one's place, and whoever still uses the
    /// old id is fenced. While nothing changes for the group, it goes on without a rebalance (KIP-345).
    fn succeed_static(&mut self, env: &mut Env<'_>, joining: Joining, old_id: &str, id: Name) {
        let to = joining.to;
        let Some(old) = self.members.get(old_id) else { return };
        if self.is_full(joining.protocols.iter().map(|p| p.metadata.len()).sum::<usize>().saturating_sub(old.bytes())) {
            return api::join_error(env, to, ErrorCode::GROUP_MAX_SIZE_REACHED, "");
        }
        let (old_join, old_sync, assignment) = (old.join, old.sync, old.assignment.clone());
        let old_topics = self.topics_of(old_id);
        let old_leader = self.leader.clone();
        self.answer_waiting_join(env, old_join, ErrorCode::FENCED_INSTANCE_ID, old_id);
        self.answer_waiting_sync(env, old_sync, ErrorCode::FENCED_INSTANCE_ID);
        self.cancel_session(env, old_id);

        let mut successor = joining.member(id.clone());
        successor.is_new = false;
        successor.assignment = assignment;
        self.succeed(old_id, successor);
        self.touch(env, &id);
        let unchanged = self.select_protocol() == self.protocol_name && self.topics_of(&id) == old_topics;
        if self.state == GroupState::Stable && unchanged {
            self.persist(env);
            if to.version >= SKIP_ASSIGNMENT_VERSION {
                self.answer_join(env, to, &id, true);
            } else {
                // An older leader must not assign anew, as a stable group would not hand that out; so it is shown the
                // former leader's id, which is no longer its own.
                api::join_follower(env, to, self, &id, old_leader.as_deref().unwrap_or(""));
            }
            return;
        }
        self.park_join_of(env, &id, to);
        self.prepare_rebalance_if_can(env);
    }

    /// The topics that a consumer's metadata names; `None` for members that aren't consumers.
    fn topics_of(&self, member_id: &str) -> Option<Vec<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        let member = self.members.get(member_id)?;
        let topics = subscription_topics(member.metadata(self.protocol_name.as_deref()))?;
        Some(topics.into_iter().map(String::from).collect())
    }

    /// Whether `more` bytes would make the group too large to be one entry of the log.
    fn is_full(&self, more: usize) -> bool {
        self.members_bytes() + more > limits::CONSUMER_GROUP_BYTES_MAX
    }

    fn park_join_of(&mut self, env: &mut Env<'_>, member_id: &str, to: ReplyTo) {
        let before = self.park_join(member_id, to);
        self.answer_waiting_join(env, before, ErrorCode::REBALANCE_IN_PROGRESS, member_id);
        if let Some((id, _)) = self.members.get_key_value(member_id) {
            env.parked.insert((to.conn, to.slot), (self.id.clone(), id.clone()));
        }
    }

    pub(super) fn answer_waiting_join(
        &self,
        env: &mut Env<'_>,
        waiting: Option<Waiting>,
        error: ErrorCode,
        member_id: &str,
    ) {
        if let Some(to) = waiting.and_then(|w| w.to) {
            env.parked.remove(&(to.conn, to.slot));
            api::join_error(env, to, error, member_id);
        }
    }

    pub(super) fn answer_waiting_sync(&self, env: &mut Env<'_>, waiting: Option<Waiting>, error: ErrorCode) {
        if let Some(to) = waiting.and_then(|w| w.to) {
            env.parked.remove(&(to.conn, to.slot));
            api::sync_error(env, to, error);
        }
    }

    /// Tells a member of the generation; `skip`: a leader need not assign.
    fn answer_join(&self, env: &mut Env<'_>, to: ReplyTo, member_id: &str, skip: bool) {
        env.parked.remove(&(to.conn, to.slot));
        if self.is_leader(member_id) {
            api::join_leader(env, to, self, member_id, skip);
        } else {
            api::join_follower(env, to, self, member_id, self.leader.as_deref().unwrap_or(""));
        }
    }
}

/// Rebalancing.
impl Group {
    fn prepare_rebalance_if_can(&mut self, env: &mut Env<'_>) {
        if self.state != GroupState::PreparingRebalance {
            self.prepare_rebalance(env);
        }
    }

    /// Asks all members to join again: those that wait for an assignment are answered, others learn it by heartbeat.
    pub fn prepare_rebalance(&mut self, env: &mut Env<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.refuse_syncs(env, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.pending_sync.clear();
        self.cancel_sync(env);
        self.disarm_offsets(env);
        let was_empty = self.state == GroupState::Empty;
        self.state = GroupState::PreparingRebalance;
        if was_empty {
            // The first members usually come in a crowd: time for all to be in the first generation.
            let delay_us = env.settings.initial_rebalance_delay_us();
            self.join_timer.initial_remaining_us = Some(self.rebalance_timeout_us().saturating_sub(delay_us));
            self.set_join(env, delay_us);
        } else {
            self.join_timer.initial_remaining_us = None;
            self.set_join(env, self.rebalance_timeout_us());
            self.complete_join_if_all(env);
        }
    }

    fn set_join(&mut self, env: &mut Env<'_>, delay_us: u64) {
        let timer = Timer { group: self.id.clone(), what: What::Join };
        env.timers.set(&mut self.join_timer.deadline_us, env.now.mono_us.saturating_add(delay_us), timer);
    }

    fn cancel_join(&mut self, env: &mut Env<'_>) {
        let timer = Timer { group: self.id.clone(), what: What::Join };
        env.timers.cancel(&mut self.join_timer.deadline_us, &timer);
        self.join_timer.initial_remaining_us = None;
    }

    fn cancel_sync(&mut self, env: &mut Env<'_>) {
        env.timers.cancel(&mut self.sync_us, &Timer { group: self.id.clone(), what: What::Sync });
    }

    /// Ends the joining early when everybody is there. The initial delay always runs to its end.
    fn complete_join_if_all(&mut self, env: &mut Env<'_>) {
        let preparing = self.state == GroupState::PreparingRebalance;
        if preparing && self.join_timer.initial_remaining_us.is_none() && self.has_all_joined() {
            self.complete_join(env);
        }
    }

    /// The time to join is over.
    pub fn join_expired(&mut self, env: &mut Env<'_>) {
        self.join_timer.deadline_us = None;
        if let Some(remaining_us) = self.join_timer.initial_remaining_us {
            if self.new_member_added && remaining_us > 0 {
                self.new_member_added = false;
                let delay_us = env.settings.initial_rebalance_delay_us().min(remaining_us);
                self.join_timer.initial_remaining_us = Some(remaining_us - delay_us);
                return self.set_join(env, delay_us);
            }
        }
        self.complete_join(env);
    }

    /// Begins the next generation with those who joined. Static members stay until their sessions end.
    fn complete_join(&mut self, env: &mut Env<'_>) {
        let absent: Vec<Name> =
            self.members.values().filter(|m| m.join.is_none() && m.instance.is_none()).map(|m| m.id.clone()).collect();
        for id in &absent {
            log::debug!("group {}: member {id} did not join again in time", self.id);
            self.forget_member(env, id);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left and none came back: their sessions will end, or one of them joins.
            self.join_timer.initial_remaining_us = None;
            return self.set_join(env, self.rebalance_timeout_us().max(JOIN_AGAIN_US_MIN));
        }
        self.cancel_join(env);
        self.init_next_generation(env.now.wall_ms);
        if self.state == GroupState::Empty {
            log::debug!("group {}: empty after generation {}", self.id, self.generation);
            self.persist(env);
            self.arm_offsets(env);
        } else {
            self.answer_joins(env);
        }
    }

    fn answer_joins(&mut self, env: &mut Env<'_>) {
        log::debug!("group {}: generation {} has {} members", self.id, self.generation, self.members.len());
        let ids: Vec<Name> = self.members.keys().cloned().collect();
        for id in ids {
            if let Some(to) = self.take_join(&id).and_then(|w| w.to) {
                self.answer_join(env, to, &id, false);
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.touch(env, &id);
            self.pending_sync.insert(id);
        }
        let deadline_us = env.now.mono_us.saturating_add(self.rebalance_timeout_us());
        env.timers.set(&mut self.sync_us, deadline_us, Timer { group: self.id.clone(), what: What::Sync });
    }

    /// Answers those who wait for an assignment with an error; nobody has one until the next generation.
    fn refuse_syncs(&mut self, env: &mut Env<'_>, error: ErrorCode) {
        let ids: Vec<Name> = self.members.keys().cloned().collect();
        for id in ids {
            self.assign(&id, Bytes::new());
            if let Some(waiting) = self.members.get_mut(&id).and_then(|m| m.sync.take()) {
                self.answer_waiting_sync(env, Some(waiting), error);
                self.touch(env, &id);
            }
        }
    }

    /// Appends the group as it is now.
    fn persist(&mut self, env: &mut Env<'_>) {
        let entry = persist::group_entry(self);
        self.persisted = entry.value.clone();
        env.out.meta(entry);
    }
}

/// Fetching the assignment.
impl Group {
    pub fn sync(&mut self, env: &mut Env<'_>, to: ReplyTo, request: &SyncGroupRequest<'_>) {
        if let Err(error) = self.check_sync(request) {
            return api::sync_error(env, to, error);
        }
        match self.state {
            GroupState::Empty => api::sync_error(env, to, ErrorCode::UNKNOWN_MEMBER_ID),
            GroupState::PreparingRebalance => api::sync_error(env, to, ErrorCode::REBALANCE_IN_PROGRESS),
            GroupState::CompletingRebalance => {
                self.park_sync(env, request.member_id, to);
                self.has_synced(env, request.member_id);
                if self.is_leader(request.member_id) {
                    self.assign_all(env, request);
                }
            }
            GroupState::Stable => {
                self.has_synced(env, request.member_id);
                api::sync_assignment(env, to, self, request.member_id);
                self.touch(env, request.member_id);
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
        self.check_member(request.member_id, request.group_instance_id)?;
        let differs = |said: Option<&str>, known: &Option<Name>| said.is_some() && said != known.as_deref();
        if request.generation_id != self.generation {
            Err(ErrorCode::ILLEGAL_GENERATION)
        } else if differs(request.protocol_type, &self.protocol_type)
            || differs(request.protocol_name, &self.protocol_name)
        {
            Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        } else {
            Ok(())
        }
    }

    fn park_sync(&mut self, env: &mut Env<'_>, member_id: &str, to: ReplyTo) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let id = member.id.clone();
        let before = member.sync.replace(Waiting { to: Some(to) });
        self.answer_waiting_sync(env, before, ErrorCode::REBALANCE_IN_PROGRESS);
        env.parked.insert((to.conn, to.slot), (self.id.clone(), id));
    }

    fn has_synced(&mut self, env: &mut Env<'_>, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.cancel_sync(env);
        }
    }

    /// The leader's assignment makes the generation stable. Members that it left out have nothing.
    fn assign_all(&mut self, env: &mut Env<'_>, request: &SyncGroupRequest<'_>) {
        let ids: Vec<Name> = self.members.keys().cloned().collect();
        ids.iter().for_each(|id| self.assign(id, Bytes::new()));
        let given: usize = request
            .assignments
            .iter()
            .filter(|a| self.members.contains_key(a.member_id))
            .map(|a| a.assignment.len())
            .sum();
        if self.is_full(given) {
            // As in Kafka when the log refuses the group: it cannot be kept, so it isn't begun.
            log::warn!("group {}: an assignment of {given} bytes is too large to be kept", self.id);
            self.refuse_syncs(env, ErrorCode::UNKNOWN_SERVER_ERROR);
            return self.prepare_rebalance(env);
        }
        for assignment in &request.assignments {
            self.assign(assignment.member_id, Bytes::copy_from_slice(assignment.assignment));
        }
        self.state = GroupState::Stable;
        self.state_ms = env.now.wall_ms;
        self.persist(env);
        self.arm_offsets(env);
        for id in ids {
            let Some(waiting) = self.members.get_mut(&id).and_then(|m| m.sync.take()) else { continue };
            if let Some(to) = waiting.to {
                env.parked.remove(&(to.conn, to.slot));
                api::sync_assignment(env, to, self, &id);
            }
            self.touch(env, &id);
        }
    }

    /// The time to fetch the assignment is over: who has not asked for it is gone, and the others begin anew.
    pub fn sync_expired(&mut self, env: &mut Env<'_>) {
        self.sync_us = None;
        for id in std::mem::take(&mut self.pending_sync) {
            log::debug!("group {}: member {id} did not ask for its assignment in time", self.id);
            self.forget_member(env, &id);
        }
        if matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable) {
            self.prepare_rebalance(env);
        }
    }
}

/// Staying and going.
impl Group {
    pub fn heartbeat(
        &mut self,
        env: &mut Env<'_>,
        generation: i32,
        member_id: &str,
        instance: Option<&str>,
    ) -> Result<(), ErrorCode> {
        self.check_member(member_id, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        match self.state {
            GroupState::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            GroupState::PreparingRebalance => {
                self.touch(env, member_id);
                Err(ErrorCode::REBALANCE_IN_PROGRESS)
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.touch(env, member_id);
                Ok(())
            }
        }
    }

    /// A member leaves, or an administrator removes it by its instance id.
    pub fn leave(&mut self, env: &mut Env<'_>, leaving: &MemberIdentity<'_>) -> Result<(), ErrorCode> {
        let member_id = leaving.member_id;
        if member_id.is_empty() {
            let by_instance = leaving.group_instance_id.and_then(|i| self.statics.get(i)).cloned();
            let id = by_instance.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            self.remove_member(env, &id);
        } else if self.pending.contains_key(member_id) {
            self.pending_gone(env, member_id);
        } else {
            self.check_member(member_id, leaving.group_instance_id)?;
            log::debug!(
                "group {}: member {member_id} leaves ({})",
                self.id,
                leaving.reason.unwrap_or("no reason given")
            );
            self.remove_member(env, member_id);
        }
        Ok(())
    }

    /// A member's session ended. One that waits for an answer of ours is not to blame for its silence.
    pub fn session_expired(&mut self, env: &mut Env<'_>, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.session_us = None;
        if !member.is_waiting() {
            log::info!("group {}: member {member_id} was not heard of within its session timeout", self.id);
            self.remove_member(env, member_id);
        }
    }

    /// A member id that was handed out is given up.
    pub fn pending_gone(&mut self, env: &mut Env<'_>, member_id: &str) {
        self.drop_pending(env, member_id);
        if self.is_bare() && !self.is_nothing() {
            self.arm_offsets(env);
        }
        self.complete_join_if_all(env);
    }

    fn drop_pending(&mut self, env: &mut Env<'_>, member_id: &str) {
        if let Some((id, mut held)) = self.pending.remove_entry(member_id) {
            self.pending_bytes -= id.len() + PENDING_BYTES;
            env.timers.cancel(&mut held, &Timer { group: self.id.clone(), what: What::Pending(id) });
        }
    }

    /// Removes a member, and the group rebalances without it.
    fn remove_member(&mut self, env: &mut Env<'_>, member_id: &str) {
        self.forget_member(env, member_id);
        match self.state {
            GroupState::Empty => {}
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(env),
            GroupState::PreparingRebalance => self.complete_join_if_all(env),
        }
    }

    /// Takes a member or a handed-out id out of the group, with its timer. What it left waiting is answered so that the
    /// client, if it is still there, begins anew.
    fn forget_member(&mut self, env: &mut Env<'_>, member_id: &str) {
        self.drop_pending(env, member_id);
        self.cancel_session(env, member_id);
        if let Some(member) = self.take(member_id) {
            self.answer_waiting_join(env, member.join, ErrorCode::UNKNOWN_MEMBER_ID, "");
            self.answer_waiting_sync(env, member.sync, ErrorCode::UNKNOWN_MEMBER_ID);
        }
    }

    /// The member was heard of: its session begins anew.
    pub fn touch(&mut self, env: &mut Env<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            let timeout_us = member.session_timeout_ms.max(0) as u64 * 1000;
            self.set_session(env, member_id, timeout_us);
        }
    }

    fn set_session(&mut self, env: &mut Env<'_>, member_id: &str, timeout_us: u64) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let deadline_us = env.now.mono_us.saturating_add(timeout_us);
        let timer = Timer { group: self.id.clone(), what: What::Session(member.id.clone()) };
        env.timers.set(&mut member.session_us, deadline_us, timer);
    }

    fn cancel_session(&mut self, env: &mut Env<'_>, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let timer = Timer { group: self.id.clone(), what: What::Session(member.id.clone()) };
        env.timers.cancel(&mut member.session_us, &timer);
    }

    /// An empty group does not end while a member id of it is handed out.
    fn disarm_if_bare(&mut self, env: &mut Env<'_>) {
        if self.is_bare() {
            self.disarm_offsets(env);
        }
    }

    /// Cancels every timer of a group that is about to go.
    pub fn cancel_all(&mut self, env: &mut Env<'_>) {
        self.cancel_classic(env);
        let members = self.consumer.as_ref().map(|consumer| consumer.ids()).unwrap_or_default();
        members.iter().for_each(|id| self.cancel_member(env, id));
        self.disarm_offsets(env);
    }

    /// Cancels the timers of a classic group.
    pub fn cancel_classic(&mut self, env: &mut Env<'_>) {
        let pending: Vec<Name> = self.pending.keys().cloned().collect();
        pending.iter().for_each(|id| self.drop_pending(env, id));
        let members: Vec<Name> = self.members.keys().cloned().collect();
        members.iter().for_each(|id| self.cancel_session(env, id));
        self.cancel_join(env);
        self.cancel_sync(env);
    }

    /// The server stops: everybody who waits is told to look for the group's coordinator again.
    pub fn stop(&mut self, env: &mut Env<'_>) {
        let ids: Vec<Name> = self.members.keys().cloned().collect();
        for id in ids {
            let join = self.take_join(&id);
            let sync = self.members.get_mut(&id).and_then(|m| m.sync.take());
            self.answer_waiting_join(env, join, ErrorCode::NOT_COORDINATOR, &id);
            self.answer_waiting_sync(env, sync, ErrorCode::NOT_COORDINATOR);
        }
        self.cancel_all(env);
    }
}

fn after_ms(env: &Env<'_>, ms: i32) -> u64 {
    env.now.mono_us.saturating_add(ms.max(0) as u64 * 1000)
}

/// The beginning of a text that a client chose, so that what is kept of it is bounded.
pub(super) fn shortened(text: &str) -> &str {
    let mut end = text.len().min(limits::CONSUMER_GROUP_CLIENT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The form in which Java shows a random id, of which Kafka makes member ids.
pub(super) fn hyphened(id: Uuid) -> String {
    let hex: String = id.0.iter().map(|b| format!("{b:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
