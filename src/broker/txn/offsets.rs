//! Owns TxnOffsetCommit: a group's offsets as part of a transaction. `broker/groups/txn_offsets.rs` keeps them until the
//! transaction ends.

use super::api::Part;
use super::state::ProducerIdentity;
use crate::broker::dispatch::Request;
use crate::broker::groups::Collected;
use crate::broker::{Broker, Now};
use crate::wire::msg::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// First version that names topics by id.
const TOPIC_ID_VERSION: i16 = 6;
/// First version that makes the group part of the transaction by itself (KIP-890).
const ADDS_GROUP_VERSION: i16 = 5;
/// First version whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE_VERSION: i16 = 4;
/// What one more offset counts towards the end of its transaction, beside its names and metadata.
const OFFSET_COST: usize = 512;

impl Broker {
    pub(in crate::broker) fn txn_offset_commit(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: TxnOffsetCommitRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let by_id = req.to.version >= TOPIC_ID_VERSION;
        let mut topics = Vec::with_capacity(request.topics.len());
        let mut names: Vec<Option<String>> = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let found = if by_id { self.topics.by_id(topic.topic_id) } else { self.topics.by_name(topic.name) };
            let count = found.map_or(0, |topic| topic.partitions.len() as i32);
            let partitions = topic.partitions.iter().map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: match found {
                    Some(_) if (0..count).contains(&partition.partition_index) => ErrorCode::NONE,
                    None => Broker::no_such_topic(by_id),
                    Some(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                },
            });
            let partitions = partitions.collect();
            names.push(found.map(|topic| topic.name.to_string()));
            topics.push(TxnOffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions });
        }
        if topics.iter().flat_map(|topic| &topic.partitions).any(|partition| partition.error_code.is_none()) {
            self.commit_in_txn(req.now, req.to.version, &request, &names, &mut topics);
        }
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            self.settings.metrics.request_error(req.to.key, partition.error_code.0);
        }
        self.reply(req.to, &TxnOffsetCommitResponse { topics, ..Default::default() });
        Ok(())
    }

    /// Commits what is for partitions that exist.
    fn commit_in_txn(
        &mut self,
        now: Now,
        version: i16,
        request: &TxnOffsetCommitRequest<'_>,
        names: &[Option<String>],
        answers: &mut [TxnOffsetCommitResponseTopic<'_>],
    ) {
        let admitted = self.admit_offsets(now, version, request);
        let txn = self.txns.by_id.get(request.transactional_id);
        let mut end_bytes = txn.map_or(0, |txn| self.end_bytes(request.transactional_id, txn));
        for ((topic, name), answer) in request.topics.iter().zip(names).zip(answers.iter_mut()) {
            let Some(name) = name else { continue };
            for (partition, answer) in topic.partitions.iter().zip(&mut answer.partitions) {
                if answer.error_code.is_none() {
                    let done = admitted.and_then(|()| self.pend_offset(now, request, &mut end_bytes, name, partition));
                    answer.error_code = done.err().unwrap_or(ErrorCode::NONE);
                }
            }
        }
    }

    /// Whether the group is part of the producer's transaction, and the member one of the group.
    fn admit_offsets(&mut self, now: Now, version: i16, request: &TxnOffsetCommitRequest<'_>) -> Result<(), ErrorCode> {
        let (id, group) = (request.transactional_id, request.group_id);
        if group.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        let producer = ProducerIdentity { id: request.producer_id, epoch: request.producer_epoch };
        let part = if version >= ADDS_GROUP_VERSION {
            self.add_to_txn(now, id, producer, Part::Group(group))
        } else {
            self.txn_of(id, producer).and_then(|(_, txn)| match txn.is_ongoing() && txn.groups.contains(group) {
                true => Ok(()),
                false if version < ABORTABLE_VERSION => Err(ErrorCode::INVALID_TXN_STATE),
                false => Err(ErrorCode::TRANSACTION_ABORTABLE),
            })
        };
        part.map_err(|error| match error {
            ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
            error => error,
        })?;
        let generation = request.generation_id_or_member_epoch;
        let by_id = version >= TOPIC_ID_VERSION;
        let told = request.topics.iter().filter_map(|topic| {
            let id = if by_id { Some(topic.topic_id) } else { self.topics.id_of(topic.name) };
            Some((id?, topic.partitions.iter().map(|partition| partition.partition_index)))
        });
        let told: Vec<_> = told.flat_map(|(id, of)| of.map(move |partition| (id, partition))).collect();
        let member_id = request.member_id;
        let checked = self.groups.check_txn_commit(group, generation, member_id, request.group_instance_id, &told);
        checked.map_err(|error| match error {
            // Older clients know generations only.
            ErrorCode::STALE_MEMBER_EPOCH if !by_id => ErrorCode::ILLEGAL_GENERATION,
            error => error,
        })
    }

    /// Keeps one offset until the transaction ends; `end_bytes` is what its end takes of the log so far.
    fn pend_offset(
        &mut self,
        now: Now,
        request: &TxnOffsetCommitRequest<'_>,
        end_bytes: &mut usize,
        topic: &str,
        partition: &TxnOffsetCommitRequestPartition<'_>,
    ) -> Result<(), ErrorCode> {
        let metadata = partition.committed_metadata.unwrap_or("");
        let cost = OFFSET_COST + 3 * (topic.len() + request.group_id.len() + metadata.len());
        *end_bytes += cost;
        if *end_bytes > self.end_bytes_max() {
            return Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
        }
        if !self.has_space_for_txn(cost) {
            self.met_full_disk(now);
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let mut entries = Vec::new();
        let result = self.groups.txn_commit(
            now,
            &mut Collected(&mut entries),
            request.group_id,
            request.producer_id,
            topic,
            partition.partition_index,
            (partition.committed_offset, partition.committed_leader_epoch, metadata),
        );
        for entry in entries {
            self.append_meta(entry);
        }
        result
    }

    /// Commits or forgets what a transaction holds of a group's offsets.
    pub(super) fn end_offsets(&mut self, now: Now, group: &str, producer_id: i64, committed: bool) {
        let mut entries = Vec::new();
        self.groups.end_txn(now, &mut Collected(&mut entries), group, producer_id, committed);
        for entry in entries {
            self.append_meta(entry);
        }
    }
}
