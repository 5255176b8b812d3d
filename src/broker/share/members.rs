//! Owns ShareGroupHeartbeat and ShareGroupDescribe: how members join, stay in and leave share groups.

use super::group::{Member, ShareGroup, JOIN, LEAVE};
use super::persist;
use super::runs::Name;
use super::Timer;
use crate::broker::dispatch::Request;
use crate::broker::groups::GroupKind;
use crate::broker::reply::ReplyTo;
use crate::broker::{Broker, Now};
use crate::limits;
use crate::wire::msg::{
    ShareGroupDescribeAssignment, ShareGroupDescribeMember, ShareGroupDescribeRequest, ShareGroupDescribeResponse,
    ShareGroupDescribeTopicPartitions, ShareGroupDescribedGroup, ShareGroupHeartbeatAssignment,
    ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, ShareGroupHeartbeatTopicPartitions,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// What a client may do with a group when nothing is forbidden, as Kafka's bits: READ, DELETE, DESCRIBE,
/// DESCRIBE_CONFIGS, ALTER_CONFIGS.
const AUTHORIZED_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// The only assignor.
const ASSIGNOR: &str = "simple";

/// Why a heartbeat is refused: the error and a sentence.
struct Refused(ErrorCode, String);

fn refused<T>(error: ErrorCode, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(error, why.into()))
}

impl Broker {
    pub(super) fn share_group_heartbeat(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ShareGroupHeartbeatRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let result = check(&request).and_then(|()| match request.member_epoch {
            LEAVE => self.leave_share_group(&request).map(|()| None),
            _ => self.share_heartbeat(req, &request).map(Some),
        });
        match result {
            Err(Refused(error_code, why)) => {
                self.settings.metrics.request_error(req.to.key, error_code.0);
                let error_message = Some(&*why).filter(|why| !why.is_empty());
                self.reply(req.to, &ShareGroupHeartbeatResponse { error_code, error_message, ..Default::default() });
            }
            Ok(None) => {
                let member_id = Some(request.member_id);
                let answer = ShareGroupHeartbeatResponse { member_id, member_epoch: LEAVE, ..Default::default() };
                self.reply(req.to, &answer);
            }
            Ok(Some((group, member))) => self.answer_heartbeat(req.to, &group, &member, request.member_epoch == JOIN),
        }
        Ok(())
    }

    fn answer_heartbeat(&mut self, to: ReplyTo, group: &Name, member_id: &Name, joins: bool) {
        let heartbeat_interval_ms = self.share.of_group(group).heartbeat_interval_ms;
        let member = self.share.groups.get_mut(group).and_then(|group| group.members.get_mut(member_id));
        let Some(member) = member else { return };
        let told = std::mem::take(&mut member.resend) || joins;
        let assignment = told.then(|| ShareGroupHeartbeatAssignment {
            topic_partitions: member
                .assigned
                .iter()
                .map(|(topic_id, partitions)| ShareGroupHeartbeatTopicPartitions {
                    topic_id: *topic_id,
                    partitions: partitions.clone(),
                })
                .collect(),
        });
        let answer = ShareGroupHeartbeatResponse {
            member_id: Some(member_id),
            member_epoch: member.epoch,
            heartbeat_interval_ms,
            assignment,
            ..Default::default()
        };
        self.reply(to, &answer);
    }

    fn leave_share_group(&mut self, request: &ShareGroupHeartbeatRequest<'_>) -> Result<(), Refused> {
        let Some(group) = self.share.groups.get(request.group_id) else {
            return refused(ErrorCode::GROUP_ID_NOT_FOUND, format!("There is no share group {}.", request.group_id));
        };
        let Some(member) = group.members.get(request.member_id) else {
            return refused(ErrorCode::UNKNOWN_MEMBER_ID, format!("The group has no member {}.", request.member_id));
        };
        if !self.has_space_for_groups() {
            return refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, "The disk is full.");
        }
        let (group, member) = (group.id.clone(), member.id.clone());
        self.remove_share_member(&group, &member);
        Ok(())
    }

    /// A member joins or shows that it is there.
    fn share_heartbeat(
        &mut self,
        req: &Request<'_>,
        request: &ShareGroupHeartbeatRequest<'_>,
    ) -> Result<(Name, Name), Refused> {
        let (now, has_space) = (req.now, self.has_space_for_groups());
        if !has_space {
            self.met_full_disk(now);
        }
        let name = self.share_group_to_join(request, has_space)?;
        let peer = self.conns.info(req.to.conn).map(|info| info.peer.ip().to_canonical().to_string());
        let client_host = format!("/{}", peer.unwrap_or_default());
        let changes = self.topics.changes();
        let max_size = self.share.settings.max_size;
        let interval_us = self.share.of_group(&name).assignment_interval_ms.unsigned_abs().saturating_mul(1000);
        let Some(group) = self.share.groups.get_mut(&name) else {
            return refused(ErrorCode::GROUP_ID_NOT_FOUND, "");
        };
        let mut member = match group.members.get(request.member_id) {
            Some(member) => {
                let fenced = |_| Refused(ErrorCode::FENCED_MEMBER_EPOCH, fenced_sentence(member, request.member_epoch));
                member.check_epoch(request.member_epoch).map_err(fenced)?;
                member.clone()
            }
            None if request.member_epoch != JOIN => {
                return refused(
                    ErrorCode::UNKNOWN_MEMBER_ID,
                    format!("The group has no member {}.", request.member_id),
                );
            }
            None if group.members.len() >= max_size => {
                return refused(ErrorCode::GROUP_MAX_SIZE_REACHED, format!("The group has its {max_size} members."));
            }
            None => Member::new(request.member_id.into()),
        };
        let is_new = !group.members.contains_key(request.member_id);
        let told = update(&mut member, req.client_id, &client_host, request);
        if told.any && !has_space {
            return refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, "The disk is full.");
        }
        let id = member.id.clone();
        let mut changed = told.any || is_new;
        group.members.insert(id.clone(), member);
        if has_space {
            let topics_changed =
                (is_new || told.topics || group.seen != changes) && group.follow_topics(&self.topics, changes);
            let bumped = is_new || told.topics || topics_changed;
            group.epoch += i32::from(bumped);
            // Several changes that come together make one assignment.
            let settled = group.assigned_us.is_none_or(|at| now.mono_us >= at.saturating_add(interval_us));
            let assigns = group.assignment_epoch < group.epoch && settled;
            let grown = assigns && group.assign(&self.topics);
            if assigns {
                group.assigned_us = Some(now.mono_us);
            }
            changed |= group.reconcile(&id);
            let group_entry = (bumped || grown).then(|| persist::group_entry(group));
            let member_entry = changed.then(|| persist::member_entry(&name, &id, group.members.get(&id)));
            group_entry.into_iter().chain(member_entry).for_each(|entry| {
                self.gather.meta(entry);
            });
            self.share.settle(&name);
        }
        self.note_share_state(&name);
        self.touch_share_member(now, &name, &id);
        Ok((name, id))
    }

    /// The group that a heartbeat is for; one that joins may begin it.
    fn share_group_to_join(
        &mut self,
        request: &ShareGroupHeartbeatRequest<'_>,
        has_space: bool,
    ) -> Result<Name, Refused> {
        let id = request.group_id;
        if let Some(group) = self.share.groups.get(id) {
            let joins = !group.members.contains_key(request.member_id);
            if joins && request.member_epoch == JOIN && self.share.is_full() {
                return refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, "Share groups have no more room.");
            }
            return Ok(group.id.clone());
        }
        if request.member_epoch != JOIN || self.groups.kind_of(id).is_some_and(|kind| kind != GroupKind::Share) {
            return refused(ErrorCode::GROUP_ID_NOT_FOUND, format!("There is no share group {id}."));
        }
        if !has_space {
            return refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, "The disk is full.");
        }
        match self.begin_share_group(id) {
            Some(name) => Ok(name),
            None => refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, "There can be no more share groups."),
        }
    }

    /// Begins a share group; `None` when there are too many, or too much in them.
    pub(super) fn begin_share_group(&mut self, id: &str) -> Option<Name> {
        if self.share.groups.len() >= limits::SHARE_GROUPS_MAX || self.share.is_full() {
            return None;
        }
        let name: Name = id.into();
        self.share.groups.insert(name.clone(), ShareGroup::new(name.clone()));
        self.groups.claim_recovered(id, GroupKind::Share);
        self.note_share_state(id);
        self.share.settle(id);
        Some(name)
    }

    /// Gives a member its whole session again.
    pub(super) fn touch_share_member(&mut self, now: Now, group: &Name, member: &Name) {
        let timeout_ms = self.share.of_group(group).session_timeout_ms;
        let at_us = now.mono_us.saturating_add(u64::try_from(timeout_ms).unwrap_or(0).saturating_mul(1000));
        self.time_share_member(group, member, Some(at_us));
    }

    fn time_share_member(&mut self, group: &Name, member: &Name, at_us: Option<u64>) {
        let Some(entry) = self.share.groups.get_mut(group).and_then(|g| g.members.get_mut(member)) else { return };
        let timer = Timer::Session(group.clone(), member.clone());
        if let Some(before) = std::mem::replace(&mut entry.session_us, at_us) {
            self.share.timers.remove(&(before, timer.clone()));
        }
        if let Some(at_us) = at_us {
            self.share.timers.insert((at_us, timer));
        }
    }

    pub(super) fn share_session_expired(&mut self, now: Now, group: &Name, member: &Name) {
        if self.has_space_for_groups() {
            ::log::info!("member {member} of share group {group} was silent for too long and is removed");
            self.remove_share_member(group, member);
            return;
        }
        // Nothing can be recorded: it is looked at again when there may be space.
        self.time_share_member(group, member, Some(now.mono_us + limits::SPACE_PROBE_US));
    }

    fn remove_share_member(&mut self, name: &Name, member: &Name) {
        self.time_share_member(name, member, None);
        let Some(group) = self.share.groups.get_mut(name) else { return };
        if group.remove(member).is_none() {
            return;
        }
        let entries = [persist::member_entry(name, member, None), persist::group_entry(group)];
        entries.into_iter().for_each(|entry| {
            self.append_meta(entry);
        });
        self.share.settle(name);
        self.note_share_state(name);
    }

    pub(super) fn share_group_describe(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ShareGroupDescribeRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let missing: Vec<String> =
            request.group_ids.iter().map(|id| format!("There is no share group {id}.")).collect();
        let groups = request.group_ids.iter().zip(&missing).map(|(group_id, missing)| {
            if let Some(group) = self.share.groups.get(*group_id) {
                return self.described(group, request.include_authorized_operations);
            }
            let nameless = group_id.is_empty();
            ShareGroupDescribedGroup {
                group_id,
                error_code: if nameless { ErrorCode::INVALID_GROUP_ID } else { ErrorCode::GROUP_ID_NOT_FOUND },
                error_message: Some(&**missing).filter(|_| !nameless),
                ..Default::default()
            }
        });
        let response = ShareGroupDescribeResponse { groups: groups.collect(), ..Default::default() };
        let encoded = wire::frame::response(req.to.version, req.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
        Ok(())
    }

    fn described<'a>(&'a self, group: &'a ShareGroup, with_operations: bool) -> ShareGroupDescribedGroup<'a> {
        let assignment = |member: &'a Member| {
            let topics = member.assigned.iter().filter_map(|(topic_id, partitions)| {
                let topic = self.topics.by_id(*topic_id)?;
                let partitions = partitions.clone();
                Some(ShareGroupDescribeTopicPartitions { topic_id: *topic_id, topic_name: &topic.name, partitions })
            });
            ShareGroupDescribeAssignment { topic_partitions: topics.collect() }
        };
        let members = group.members.values().map(|member| ShareGroupDescribeMember {
            member_id: &member.id,
            rack_id: member.rack.as_deref(),
            member_epoch: member.epoch,
            client_id: &member.client_id,
            client_host: &member.client_host,
            subscribed_topic_names: member.topics.iter().map(|topic| &**topic).collect(),
            assignment: assignment(member),
        });
        ShareGroupDescribedGroup {
            group_id: &group.id,
            group_state: group.state(),
            group_epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            assignor_name: ASSIGNOR,
            members: members.collect(),
            authorized_operations: if with_operations { AUTHORIZED_OPERATIONS } else { i32::MIN },
            ..Default::default()
        }
    }
}

/// The checks that need no group.
fn check(request: &ShareGroupHeartbeatRequest<'_>) -> Result<(), Refused> {
    let invalid = |why: &str| refused(ErrorCode::INVALID_REQUEST, why);
    let topics = request.subscribed_topic_names.as_deref().unwrap_or(&[]);
    let bytes: usize = topics.iter().map(|topic| topic.len() + 16).sum();
    if request.group_id.trim().is_empty() || request.group_id.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX {
        invalid("The group's id is empty or too long.")
    } else if request.member_id.is_empty() || request.member_id.len() > limits::SHARE_MEMBER_ID_BYTES_MAX {
        invalid("The member's id is empty or too long.")
    } else if request.rack_id.is_some_and(|rack| rack.trim().is_empty()) {
        invalid("The rack's id is empty.")
    } else if request.member_epoch < LEAVE {
        invalid("The member's epoch is none that there is.")
    } else if request.member_epoch == JOIN && topics.is_empty() {
        invalid("Whoever joins has to name topics.")
    } else if bytes > limits::SHARE_MEMBER_BYTES_MAX {
        invalid("There are too many topics in the subscription.")
    } else {
        Ok(())
    }
}

fn fenced_sentence(member: &Member, epoch: i32) -> String {
    let (known, before) = (member.epoch, member.previous_epoch);
    format!(
        "The member's epoch is {known}, and was {before} before, not {epoch}. It has to give up its partitions and join \
         again."
    )
}

/// What a heartbeat changed of a member.
struct Told {
    any: bool,
    topics: bool,
}

/// Takes over what a member says of itself.
fn update(member: &mut Member, client_id: &str, client_host: &str, request: &ShareGroupHeartbeatRequest<'_>) -> Told {
    let mut told = Told { any: false, topics: false };
    let short = |text: &str| -> Name {
        let mut end = text.len().min(limits::CONSUMER_GROUP_CLIENT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].into()
    };
    if let Some(topics) = &request.subscribed_topic_names {
        let topics = topics.iter().map(|topic| (*topic).into()).collect();
        told.topics = member.topics != topics;
        member.topics = topics;
    }
    if let Some(rack) = request.rack_id.map(short) {
        told.any |= member.rack.as_ref() != Some(&rack);
        member.rack = Some(rack);
    }
    for (known, said) in [(&mut member.client_id, short(client_id)), (&mut member.client_host, short(client_host))] {
        told.any |= *known != said;
        *known = said;
    }
    told.any |= told.topics;
    told
}
