//! Owns what is told of consumer groups: their states, and the answers to ConsumerGroupDescribe.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ctx::{Ctx, TopicLookup};
use super::super::group::Group;
use super::super::{api, GroupKind, Groups};
use super::heartbeat::not_a_consumer_group;
use super::member::{Member, Partitions};
use super::ConsumerGroup;
use crate::broker::reply::ReplyTo;
use crate::wire::msg::{
    ConsumerGroupDescribeAssignment, ConsumerGroupDescribeMember, ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse, ConsumerGroupDescribeTopicPartitions, ConsumerGroupDescribedGroup,
};
use crate::wire::{ErrorCode, Uuid};

/// Kafka's states of a consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerState {
    /// No members.
    Empty,
    /// The epoch has risen and no target was made for it yet.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    Stable,
}

impl ConsumerState {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            ConsumerState::Empty => "Empty",
            ConsumerState::Assigning => "Assigning",
            ConsumerState::Reconciling => "Reconciling",
            ConsumerState::Stable => "Stable",
        }
    }
}

/// What ConsumerGroupDescribe calls members by their protocol.
const TYPE_CLASSIC: i8 = 0;
const TYPE_CONSUMER: i8 = 1;

impl ConsumerGroup {
    pub fn state(&self) -> ConsumerState {
        if self.is_empty() {
            ConsumerState::Empty
        } else if self.epoch > self.assignment_epoch {
            ConsumerState::Assigning
        } else if self.members().any(|member| !member.current.is_reconciled_to(self.assignment_epoch)) {
            ConsumerState::Reconciling
        } else {
            ConsumerState::Stable
        }
    }
}

impl Groups {
    pub(in super::super) fn consumer_describe(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: ReplyTo,
        request: &ConsumerGroupDescribeRequest<'_>,
    ) {
        let faults: Vec<String> = request.group_ids.iter().map(|id| self.fault_of(id)).collect();
        let lookup = ctx.topics;
        let usual = self.settings.usual_assignor();
        let groups = request.group_ids.iter().zip(&faults).map(|(id, fault)| {
            let found = self.groups.get(*id).and_then(|group| Some((group, group.consumer.as_ref()?)));
            match found {
                Some((group, consumer)) => ConsumerGroupDescribedGroup {
                    assignor_name: consumer.assignor(usual).name(),
                    authorized_operations: api::operations(request.include_authorized_operations),
                    ..described(group, consumer, lookup)
                },
                None if id.is_empty() => ConsumerGroupDescribedGroup {
                    group_id: id,
                    error_code: ErrorCode::INVALID_GROUP_ID,
                    ..Default::default()
                },
                None => ConsumerGroupDescribedGroup {
                    group_id: id,
                    error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                    error_message: Some(fault),
                    ..Default::default()
                },
            }
        });
        let groups = groups.collect();
        api::send(ctx.out, to, &ConsumerGroupDescribeResponse { groups, ..Default::default() });
    }

    fn fault_of(&self, id: &str) -> String {
        match self.kind_of(id) {
            None => format!("Group {id} not found."),
            Some(GroupKind::Consumer) => String::new(),
            Some(_) => not_a_consumer_group(id),
        }
    }
}

fn described<'a>(
    group: &'a Group,
    consumer: &'a ConsumerGroup,
    lookup: &'a dyn TopicLookup,
) -> ConsumerGroupDescribedGroup<'a> {
    ConsumerGroupDescribedGroup {
        group_id: &group.id,
        group_state: consumer.state().name(),
        group_epoch: consumer.epoch,
        assignment_epoch: consumer.assignment_epoch,
        members: consumer.members().map(|member| described_member(member, lookup)).collect(),
        ..Default::default()
    }
}

fn described_member<'a>(member: &'a Member, lookup: &'a dyn TopicLookup) -> ConsumerGroupDescribeMember<'a> {
    let said = &member.subscription;
    ConsumerGroupDescribeMember {
        member_id: &member.id,
        instance_id: said.instance.as_deref(),
        rack_id: said.rack.as_deref(),
        member_epoch: member.current.epoch,
        client_id: &said.client_id,
        client_host: &said.client_host,
        subscribed_topic_names: said.topics.iter().map(|topic| &**topic).collect(),
        subscribed_topic_regex: Some(said.pattern.as_deref().unwrap_or("")),
        assignment: assignment(held(member), lookup),
        target_assignment: assignment(targets(&member.target), lookup),
        member_type: if member.is_classic() { TYPE_CLASSIC } else { TYPE_CONSUMER },
    }
}

/// What a member holds: as in Kafka also what it has been told to give up and hasn't yet.
fn held(member: &Member) -> impl Iterator<Item = (Uuid, Vec<i32>)> {
    let mut held: BTreeMap<Uuid, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partition) in member.current.held() {
        held.entry(topic).or_default().insert(partition);
    }
    held.into_iter().map(|(topic, partitions)| (topic, partitions.into_iter().collect()))
}

fn targets(target: &Partitions) -> impl Iterator<Item = (Uuid, Vec<i32>)> + '_ {
    target.iter().map(|(topic, partitions)| (*topic, partitions.iter().copied().collect()))
}

/// Partitions of topics that are no longer there can't be named, and are left out, as in Kafka.
fn assignment<'a>(
    topics: impl Iterator<Item = (Uuid, Vec<i32>)>,
    lookup: &'a dyn TopicLookup,
) -> ConsumerGroupDescribeAssignment<'a> {
    let topic_partitions = topics.filter_map(|(topic_id, partitions)| {
        let topic_name = lookup.name_of(topic_id)?;
        Some(ConsumerGroupDescribeTopicPartitions { topic_id, topic_name, partitions })
    });
    ConsumerGroupDescribeAssignment { topic_partitions: topic_partitions.collect() }
}
