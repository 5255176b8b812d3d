//! Owns ShareAcknowledge, and what it and ShareFetch do with acknowledgements.

use std::collections::BTreeMap;

use super::partition::{check_batches, Refusal};
use super::runs::Name;
use super::session::{CLOSE, OPEN};
use crate::broker::dispatch::Request;
use crate::broker::reply::ReplyTo;
use crate::broker::{Broker, Now};
use crate::limits;
use crate::wal::PartitionId;
use crate::wire::msg::{
    AcknowledgementBatch, ShareAcknowledgePartitionData, ShareAcknowledgeRequest, ShareAcknowledgeResponse,
    ShareAcknowledgeTopicResponse,
};
use crate::wire::{self, DecodeError, ErrorCode, Uuid};

/// First version in which a lock can be renewed (KIP-1222).
pub(super) const RENEW_VERSION: i16 = 2;

/// What became of a partition's acknowledgements.
pub(super) type Outcome = Result<(), Refusal>;

/// Who acknowledges, and how.
#[derive(Clone, Debug)]
pub(super) struct Acknowledging {
    pub group: Name,
    pub member: Name,
    pub renew_allowed: bool,
}

/// The names in a request that may be used as keys.
///
/// # Errors
/// INVALID_REQUEST for names that are missing or too long.
pub(super) fn names(group: Option<&str>, member: Option<&str>) -> Result<(Name, Name), ErrorCode> {
    let (Some(group), Some(member)) = (group, member) else { return Err(ErrorCode::INVALID_REQUEST) };
    let too_long =
        group.len() > limits::CONSUMER_GROUP_ID_BYTES_MAX || member.len() > limits::SHARE_MEMBER_ID_BYTES_MAX;
    if too_long || member.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok((group.into(), member.into()))
}

impl Broker {
    pub(super) fn share_acknowledge(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: ShareAcknowledgeRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let began = names(request.group_id, request.member_id).and_then(|key| {
            match request.share_session_epoch {
                OPEN => return Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH),
                CLOSE => self.share.sessions.find(&key)?,
                epoch => self.share.sessions.next(&key, req.to.conn, epoch)?,
            }
            Ok(key)
        });
        let (group, member) = match began {
            Ok(names) => names,
            Err(error_code) => {
                self.settings.metrics.request_error(req.to.key, error_code.0);
                self.reply(req.to, &ShareAcknowledgeResponse { error_code, ..Default::default() });
                return Ok(());
            }
        };
        let renew_allowed = request.is_renew_ack && req.to.version >= RENEW_VERSION;
        let how = Acknowledging { group: group.clone(), member: member.clone(), renew_allowed };
        let mut outcomes = BTreeMap::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                let id = PartitionId { topic: topic.topic_id, partition: partition.partition_index };
                let outcome = self.acknowledge_partition(req.now, &how, id, &partition.acknowledgement_batches);
                outcomes.entry(id).or_insert(outcome);
            }
        }
        if request.share_session_epoch == CLOSE {
            self.end_share_session(req.now, &group, &member);
        }
        self.answer_acknowledge(req.to, &group, &outcomes);
        Ok(())
    }

    fn answer_acknowledge(&mut self, to: ReplyTo, group: &str, outcomes: &BTreeMap<PartitionId, Outcome>) {
        let mut topics: BTreeMap<Uuid, Vec<ShareAcknowledgePartitionData<'_>>> = BTreeMap::new();
        for (id, outcome) in outcomes {
            let (error_code, error_message) = self.told_outcome(to, outcome);
            topics.entry(id.topic).or_default().push(ShareAcknowledgePartitionData {
                partition_index: id.partition,
                error_code,
                error_message,
                ..Default::default()
            });
        }
        let responses = topics
            .into_iter()
            .map(|(topic_id, partitions)| ShareAcknowledgeTopicResponse { topic_id, partitions })
            .collect();
        let answer = ShareAcknowledgeResponse {
            acquisition_lock_timeout_ms: self.share.of_group(group).record_lock_duration_ms as i32,
            responses,
            ..Default::default()
        };
        self.reply(to, &answer);
    }

    /// Error and message of an outcome; errors are counted.
    pub(super) fn told_outcome(&self, to: ReplyTo, outcome: &Outcome) -> (ErrorCode, Option<&'static str>) {
        match outcome {
            Ok(()) => (ErrorCode::NONE, None),
            Err(Refusal(error, why)) => {
                self.settings.metrics.request_error(to.key, error.0);
                (*error, Some(*why).filter(|why| !why.is_empty()))
            }
        }
    }

    /// Carries out the acknowledgements for one partition: all of them, or none if one is refused.
    pub(super) fn acknowledge_partition(
        &mut self,
        now: Now,
        how: &Acknowledging,
        id: PartitionId,
        batches: &[AcknowledgementBatch],
    ) -> Outcome {
        let refused = |error| Err(Refusal(error, ""));
        if self.topics.by_id(id.topic).is_none() {
            return refused(ErrorCode::UNKNOWN_TOPIC_ID);
        }
        if self.topics.partition(id).is_none() {
            return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        let settings = self.share.of_group(&how.group);
        check_batches(batches, how.renew_allowed && settings.renew_acknowledge).map_err(|error| Refusal(error, ""))?;
        if !self.has_space_for_groups() {
            self.met_full_disk(now);
            return Err(Refusal(ErrorCode::KAFKA_STORAGE_ERROR, "The disk is full."));
        }
        let lock_us = now.mono_us.saturating_add(settings.record_lock_duration_ms.unsigned_abs().saturating_mul(1000));
        let done = self.with_share(&how.group, id, |partition| {
            match partition.acknowledge(&how.member, batches, lock_us, settings.delivery_count_limit) {
                Ok(change) => (Ok(()), change),
                Err(refusal) => (Err(refusal), Default::default()),
            }
        });
        let Some((outcome, change)) = done else {
            return Err(Refusal(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "Nothing was fetched from this partition."));
        };
        if change.available {
            self.wake_share_fetches(now, id, Some(&how.group));
        }
        outcome
    }
}
