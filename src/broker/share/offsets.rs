//! Owns the administrators' view of share groups: DescribeShareGroupOffsets, AlterShareGroupOffsets and
//! DeleteShareGroupOffsets.

use super::group::ShareGroup;
use super::partition::{Change, SharePartition};
use super::persist;
use super::runs::Name;
use crate::broker::dispatch::Request;
use crate::broker::groups::GroupKind;
use crate::broker::reply::ReplyTo;
use crate::broker::topics::Topic;
use crate::broker::{Broker, Now};
use crate::limits;
use crate::wal::PartitionId;
use crate::wire::msg::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestTopic, AlterShareGroupOffsetsResponse,
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse, DeleteShareGroupOffsetsResponseTopic, DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsResponse, DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition, DescribeShareGroupOffsetsResponseTopic,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// What is told where a group has no start.
const UNKNOWN: i64 = -1;

impl Broker {
    pub(super) fn describe_share_group_offsets(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DescribeShareGroupOffsetsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let groups = request.groups.iter().map(|asked| self.described_offsets(asked)).collect();
        let response = DescribeShareGroupOffsetsResponse { groups, ..Default::default() };
        let encoded = wire::frame::response(req.to.version, req.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), req.to, encoded, &[]);
        Ok(())
    }

    fn described_offsets<'a>(
        &'a self,
        asked: &DescribeShareGroupOffsetsRequestGroup<'a>,
    ) -> DescribeShareGroupOffsetsResponseGroup<'a> {
        let group = self.share.groups.get(asked.group_id);
        let topics = match &asked.topics {
            Some(topics) => topics
                .iter()
                .map(|asked| {
                    let topic = self.topics.by_name(asked.topic_name);
                    let partitions = asked.partitions.iter().map(|p| self.described_offset(group, topic, *p));
                    DescribeShareGroupOffsetsResponseTopic {
                        topic_name: asked.topic_name,
                        topic_id: topic.map(|topic| topic.id).unwrap_or_default(),
                        partitions: partitions.collect(),
                    }
                })
                .collect(),
            None => group.map_or_else(Vec::new, |known| self.described_topics(known)),
        };
        DescribeShareGroupOffsetsResponseGroup { group_id: asked.group_id, topics, ..Default::default() }
    }

    /// All topics for which a group has a state.
    fn described_topics<'a>(&'a self, group: &'a ShareGroup) -> Vec<DescribeShareGroupOffsetsResponseTopic<'a>> {
        let topics = group.topics.iter().filter_map(|(id, count)| {
            let topic = self.topics.by_id(*id)?;
            let partitions = (0..*count).map(|p| self.described_offset(Some(group), Some(topic), p));
            Some(DescribeShareGroupOffsetsResponseTopic {
                topic_name: &topic.name,
                topic_id: topic.id,
                partitions: partitions.collect(),
            })
        });
        topics.collect()
    }

    fn described_offset<'a>(
        &self,
        group: Option<&ShareGroup>,
        topic: Option<&Topic>,
        partition_index: i32,
    ) -> DescribeShareGroupOffsetsResponsePartition<'a> {
        let mut told =
            DescribeShareGroupOffsetsResponsePartition { partition_index, start_offset: UNKNOWN, ..Default::default() };
        let (Some(group), Some(topic)) = (group, topic) else { return told };
        let id = PartitionId { topic: topic.id, partition: partition_index };
        let log = self.topics.partition(id).map(|partition| &partition.log);
        if let (Some(log), Some(shared)) = (log, group.partitions.get(&id).filter(|shared| shared.told)) {
            told.start_offset = shared.start();
            told.leader_epoch = log.leader_epoch;
            told.lag = log.high_watermark - shared.start() - shared.complete();
        }
        told
    }

    pub(super) fn alter_share_group_offsets(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: AlterShareGroupOffsetsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let responses = match self.share_group_to_alter(req.now, request.group_id, true) {
            Err(error_code) => return self.refuse_alter(req.to, error_code),
            Ok(group) => {
                let topics = request.topics.iter();
                let answers = topics.map(|topic| self.alter_share_topic(req.now, &group, topic)).collect();
                self.share.settle(&group);
                answers
            }
        };
        self.reply(req.to, &AlterShareGroupOffsetsResponse { responses, ..Default::default() });
        Ok(())
    }

    fn refuse_alter(&mut self, to: ReplyTo, error_code: ErrorCode) -> Result<(), DecodeError> {
        self.settings.metrics.request_error(to.key, error_code.0);
        let error_message = Some(error_code.message());
        self.reply(to, &AlterShareGroupOffsetsResponse { error_code, error_message, ..Default::default() });
        Ok(())
    }

    /// A group without members, whose offsets may be changed. It is begun if `begin` says so.
    fn share_group_to_alter(&mut self, now: Now, id: &str, begin: bool) -> Result<Name, ErrorCode> {
        if id.is_empty() || id.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        if !self.has_space_for_groups() {
            self.met_full_disk(now);
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        match self.share.groups.get(id) {
            Some(group) if group.members.is_empty() => Ok(group.id.clone()),
            Some(_) => Err(ErrorCode::NON_EMPTY_GROUP),
            None if !begin || self.groups.kind_of(id).is_some_and(|kind| kind != GroupKind::Share) => {
                Err(ErrorCode::GROUP_ID_NOT_FOUND)
            }
            None => self.begin_share_group(id).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }

    fn alter_share_topic<'a>(
        &mut self,
        now: Now,
        name: &Name,
        asked: &AlterShareGroupOffsetsRequestTopic<'a>,
    ) -> AlterShareGroupOffsetsResponseTopic<'a> {
        let topic = self.topics.by_name(asked.topic_name).map(|topic| (topic.id, topic.partitions.len() as i32));
        if let (Some((id, count)), Some(group)) = (topic, self.share.groups.get_mut(name)) {
            let any = asked.partitions.iter().any(|p| (0..count).contains(&p.partition_index));
            if any && group.topics.insert(id, count) != Some(count) {
                let entry = persist::group_entry(group);
                self.append_meta(entry);
            }
        }
        let partitions = asked.partitions.iter().map(|partition| {
            let (partition_index, start) = (partition.partition_index, partition.start_offset);
            let known = topic.filter(|(_, count)| (0..*count).contains(&partition_index));
            let error_code = match known {
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Some(_) if !self.has_space_for_groups() => ErrorCode::KAFKA_STORAGE_ERROR,
                Some((topic, _)) => {
                    self.set_share_start(now, name, PartitionId { topic, partition: partition_index }, start, None);
                    ErrorCode::NONE
                }
            };
            let error_message = error_code.is_error().then(|| error_code.message());
            AlterShareGroupOffsetsResponsePartition { partition_index, error_code, error_message }
        });
        AlterShareGroupOffsetsResponseTopic {
            topic_name: asked.topic_name,
            topic_id: topic.map(|(id, _)| id).unwrap_or_default(),
            partitions: partitions.collect(),
        }
    }

    /// Sets where a group starts in a partition: what it knew of the records there is forgotten.
    pub(super) fn set_share_start(
        &mut self,
        now: Now,
        name: &Name,
        id: PartitionId,
        start: i64,
        state_epoch: Option<i32>,
    ) {
        self.share.remove_partition(name, id);
        let Some(group) = self.share.groups.get_mut(name) else { return };
        let partition = SharePartition::new(start, state_epoch.unwrap_or(group.epoch), true);
        let bytes = partition.bytes();
        group.partitions.insert(id, partition);
        self.share.grown(name, 0, bytes);
        let log_start = self.topics.partition(id).map(|partition| partition.log.start_offset);
        self.with_share(name, id, |partition| {
            // A start before the log's is one at the log's, once somebody reads.
            if let Some(log_start) = log_start.filter(|_| start < 0) {
                partition.log_starts_at(log_start);
            }
            ((), Change { durable: true, available: true })
        });
        self.wake_share_fetches(now, id, Some(name));
    }

    pub(super) fn delete_share_group_offsets(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: DeleteShareGroupOffsetsRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let group = match self.share_group_to_alter(req.now, request.group_id, false) {
            Ok(group) => group,
            Err(error_code) => {
                self.settings.metrics.request_error(req.to.key, error_code.0);
                let error_message = Some(error_code.message());
                let response = DeleteShareGroupOffsetsResponse { error_code, error_message, ..Default::default() };
                self.reply(req.to, &response);
                return Ok(());
            }
        };
        let responses = request.topics.iter().map(|asked| {
            let topic = self.topics.id_of(asked.topic_name);
            let known = topic.filter(|id| self.share.groups.get(&group).is_some_and(|g| g.topics.contains_key(id)));
            if let Some(id) = known {
                for entry in self.forget_share_topic(&group, id) {
                    self.append_meta(entry);
                }
            }
            let error_code = if known.is_some() { ErrorCode::NONE } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
            DeleteShareGroupOffsetsResponseTopic {
                topic_name: asked.topic_name,
                topic_id: known.unwrap_or_default(),
                error_code,
                error_message: error_code.is_error().then(|| error_code.message()),
            }
        });
        let responses = responses.collect();
        self.reply(req.to, &DeleteShareGroupOffsetsResponse { responses, ..Default::default() });
        Ok(())
    }
}
