//! Owns the way from a classic group to a consumer group and back, with members in it (KIP-848): the group id, its
//! offsets, its members and what they own stay.

use bytes::Bytes;

use super::super::ctx::{Ctx, TopicLookup};
use super::super::group::{self, assignment_of, subscription_of, Group, GroupState, Name, CONSUMER};
use super::super::{persist as classic_persist, Env, GroupKind, Groups};
use super::classic::encoded_assignment;
use super::heartbeat::{not_a_consumer_group, refuse, Refused};
use super::member::{Classic, Current, Member, Owned, Subscription};
use super::{persist, ConsumerGroup};
use crate::limits;
use crate::wire::ErrorCode;

/// `group.consumer.migration.policy`: in which direction a group with members may change its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    #[default]
    Bidirectional,
    Upgrade,
    Downgrade,
    Disabled,
}

impl MigrationPolicy {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            MigrationPolicy::Bidirectional => "bidirectional",
            MigrationPolicy::Upgrade => "upgrade",
            MigrationPolicy::Downgrade => "downgrade",
            MigrationPolicy::Disabled => "disabled",
        }
    }

    /// By its name, in capitals or not.
    pub fn parse(name: &str) -> Option<MigrationPolicy> {
        let all = [Self::Bidirectional, Self::Upgrade, Self::Downgrade, Self::Disabled];
        all.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(name))
    }

    fn upgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade)
    }

    fn downgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade)
    }
}

/// To a consumer group.
impl Groups {
    /// Sees to it that there is a consumer group for a member that joins. What is made here is provisional: `settle_kind`
    /// makes it last once the member has joined.
    pub(in super::super) fn begin_consumer_group(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: &str,
        member_id: &str,
    ) -> Result<(), Refused> {
        let full = self.is_full();
        match self.kind_of(id) {
            Some(GroupKind::Consumer) => {
                let known = self.groups.get(id).and_then(|group| group.consumer.as_ref());
                if full && !known.is_some_and(|group| group.has(member_id)) {
                    return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "");
                }
                return Ok(());
            }
            Some(GroupKind::Classic) => {}
            Some(_) => return refuse(ErrorCode::GROUP_ID_NOT_FOUND, not_a_consumer_group(id)),
            None => {
                if !self.create(id) {
                    return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "");
                }
            }
        }
        if full {
            return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "");
        }
        let lookup = ctx.topics;
        let settings = self.settings.clone();
        let Some(group) = self.groups.get_mut(id) else { return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "") };
        let made = match group.state {
            GroupState::Empty => ConsumerGroup::default(),
            _ => {
                let size_max = settings.consumer_size_max();
                let allowed = settings.consumer_migration_policy.upgrades()
                    && group.protocol_type.as_deref() == Some(CONSUMER)
                    && group.members.len() <= size_max;
                if !allowed {
                    return refuse(ErrorCode::GROUP_ID_NOT_FOUND, not_a_consumer_group(id));
                }
                group.upgraded(lookup)?
            }
        };
        group.consumer = Some(Box::new(made));
        Ok(())
    }
}

impl Group {
    /// What this classic group is as a consumer group. All members own what they were last assigned.
    fn upgraded(&self, lookup: &dyn TopicLookup) -> Result<ConsumerGroup, Refused> {
        let mut made =
            ConsumerGroup { epoch: self.generation, assignment_epoch: self.generation, ..ConsumerGroup::default() };
        for member in self.members.values() {
            let malformed = || Refused {
                code: ErrorCode::GROUP_ID_NOT_FOUND,
                message: format!(
                    "Cannot upgrade classic group {} to consumer group because the embedded consumer protocol is \
                     malformed.",
                    self.id
                ),
            };
            let protocol = self.protocol_name.as_deref().or(member.protocols.first().map(|protocol| &*protocol.name));
            let said = subscription_of(member.metadata(protocol)).ok_or_else(malformed)?;
            let mut assigned = Owned::new();
            if !member.assignment.is_empty() {
                let assignment = assignment_of(&member.assignment).ok_or_else(malformed)?;
                if assignment.user_data.is_some_and(|data| !data.is_empty()) {
                    return refuse(
                        ErrorCode::GROUP_ID_NOT_FOUND,
                        format!(
                            "Cannot upgrade classic group {} to consumer group because an unsupported custom assignor \
                             is in use.",
                            self.id
                        ),
                    );
                }
                for topic in &assignment.assigned_partitions {
                    let Some(id) = lookup.id_of(topic.topic) else { continue };
                    let count = lookup.partitions(topic.topic).unwrap_or(0);
                    // What a leader gave to two members belongs to the first of them from now on.
                    let mine = topic.partitions.iter().filter(|p| (0..count).contains(*p) && !made.is_owned(id, **p));
                    let mine: Vec<i32> = mine.copied().collect();
                    if !mine.is_empty() {
                        assigned.entry(id).or_default().extend(mine.into_iter().map(|p| (p, self.generation)));
                    }
                }
            }
            made.put(upgraded_member(member, &said, assigned, self.generation));
        }
        Ok(made)
    }

    /// Settles what kind of group this is after somebody may have joined it: a consumer group that is in the log is one,
    /// and what is left of the classic group goes; one that is not was not joined.
    pub(in super::super) fn settle_kind(&mut self, env: &mut Env<'_>) {
        let Some(group) = &self.consumer else { return };
        if !group.persisted {
            self.consumer = None;
            return;
        }
        let was_classic = self.persisted.is_some() || self.generation != 0 || self.protocol_type.is_some();
        // Ids that were handed out and not used yet go too: after a downgrade they would be waited for, and counted
        // twice if the member has come meanwhile.
        if was_classic || !self.members.is_empty() || !self.pending.is_empty() {
            let members = self.members.len();
            if members > 0 {
                log::info!(
                    "group {}: becomes a consumer group with {members} members of the classic protocol",
                    self.id
                );
            }
            self.drop_classic(env);
            let ids = self.consumer.as_ref().map(|group| group.ids()).unwrap_or_default();
            ids.iter().for_each(|id| self.start_session(env, id));
            self.arm_offsets(env);
        }
    }

    /// Starts the session of a member that has none.
    fn start_session(&mut self, env: &mut Env<'_>, id: &str) {
        let deadlines = self.consumer.as_mut().and_then(|group| group.deadlines(id));
        if deadlines.is_some_and(|(_, deadlines)| deadlines.session_us.is_none()) {
            self.touch_member(env, id);
        }
    }

    /// A consumer group without members makes way for whoever joins with the classic protocol.
    pub(in super::super) fn drop_empty_consumer(&mut self, env: &mut Env<'_>) {
        if let Some(group) = self.consumer.take_if(|group| group.is_empty()) {
            env.out.metas(persist::none(&self.id, &group));
        }
    }

    /// Forgets what the group was as a classic group. Who waits in it is told to join again.
    fn drop_classic(&mut self, env: &mut Env<'_>) {
        if self.persisted.is_some() {
            env.out.meta(classic_persist::group_value_entry(&self.id, None));
        }
        let ids: Vec<Name> = self.members.keys().cloned().collect();
        for id in ids {
            let join = self.take_join(&id);
            let sync = self.members.get_mut(&id).and_then(|member| member.sync.take());
            self.answer_waiting_join(env, join, ErrorCode::REBALANCE_IN_PROGRESS, &id);
            self.answer_waiting_sync(env, sync, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.cancel_classic(env);
        let (consumer, state_ms) = (self.consumer.take(), self.state_ms);
        self.reset();
        (self.consumer, self.state_ms) = (consumer, state_ms);
    }
}

fn upgraded_member(
    member: &group::Member,
    said: &crate::wire::msg::ConsumerProtocolSubscription<'_>,
    assigned: Owned,
    generation: i32,
) -> Member {
    let target = assigned.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()));
    let target = target.collect();
    Member {
        subscription: Subscription {
            instance: member.instance.clone(),
            rack: said.rack_id.map(Name::from),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            topics: std::sync::Arc::new(said.topics.iter().map(|topic| Name::from(*topic)).collect()),
            pattern: None,
            assignor: None,
            classic: Some(Classic {
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.clone(),
            }),
        },
        current: Current { epoch: generation, previous_epoch: generation, assigned, ..Current::default() },
        target,
        ..Member::new(member.id.clone())
    }
}

/// Back to a classic group.
impl Group {
    /// Whether the group becomes a classic one when the member goes, or, `replaced`, when it has been replaced by one of
    /// the classic protocol.
    pub(super) fn may_downgrade(&self, env: &Env<'_>, id: &str, replaced: bool) -> bool {
        let Some(group) = &self.consumer else { return false };
        let left = if replaced { group.len() } else { group.len() - 1 };
        let is_classic = group.member(id).is_some_and(Member::is_classic);
        let only_classic = group.classic_count() == left && is_classic == replaced;
        let bytes: usize = group.members().map(|member| member.bytes()).sum();
        only_classic
            && left > 0
            && left <= env.settings.size_max()
            && bytes <= limits::CONSUMER_GROUP_BYTES_MAX
            && env.settings.consumer_migration_policy.downgrades()
    }

    /// The last member of the consumer protocol goes: the others find themselves in a classic group that rebalances.
    pub(super) fn downgrade_without(&mut self, env: &mut Env<'_>, lookup: &dyn TopicLookup, id: &str) {
        self.cancel_member(env, id);
        let mut gone = None;
        if let Some(group) = &mut self.consumer {
            gone = group.take(id);
        }
        if let Some(gone) = gone {
            // Its entries go with those of the others.
            let mut changes = persist::Changes::default();
            changes.gone(&gone.id);
            self.append_consumer(env, &changes);
        }
        self.downgrade(env, lookup);
        self.prepare_rebalance(env);
    }

    /// Makes a stable classic group of it, in which everybody has what the target gives it.
    pub(super) fn downgrade(&mut self, env: &mut Env<'_>, lookup: &dyn TopicLookup) {
        let ids = self.consumer.as_ref().map(|group| group.ids()).unwrap_or_default();
        ids.iter().for_each(|id| self.cancel_member(env, id));
        let Some(group) = self.consumer.take() else { return };
        log::info!("group {}: becomes a classic group with {} members", self.id, group.len());
        let mut entries = persist::none(&self.id, &group);
        self.generation = group.epoch;
        self.protocol_type = Some(CONSUMER.into());
        for member in group.members() {
            let Some(classic) = &member.subscription.classic else { continue };
            self.add(downgraded_member(member, classic, lookup));
        }
        self.protocol_name = self.select_protocol();
        self.state = GroupState::Stable;
        self.state_ms = env.now.wall_ms;
        self.subscribed = self.subscriptions();
        let entry = classic_persist::group_entry(self);
        self.persisted = entry.value.clone();
        entries.push(entry);
        env.out.metas(entries);
        ids.iter().for_each(|id| self.touch(env, id));
        self.arm_offsets(env);
    }
}

fn downgraded_member(member: &Member, classic: &Classic, lookup: &dyn TopicLookup) -> group::Member {
    let said = &member.subscription;
    let metadata = classic.protocols.first().map_or(&[][..], |protocol| &protocol.metadata);
    let epoch = member.current.epoch;
    let target = member.target.iter().map(|(topic, p)| (*topic, p.iter().map(|p| (*p, epoch)).collect()));
    group::Member {
        id: member.id.clone(),
        instance: said.instance.clone(),
        client_id: said.client_id.clone(),
        client_host: said.client_host.clone(),
        session_timeout_ms: classic.session_timeout_ms,
        rebalance_timeout_ms: said.rebalance_timeout_ms,
        protocols: classic.protocols.clone(),
        assignment: Bytes::from(encoded_assignment(&target.collect(), metadata, lookup)),
        is_new: false,
        join: None,
        sync: None,
        session_us: None,
    }
}
