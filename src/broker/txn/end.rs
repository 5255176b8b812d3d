//! Owns the end of transactions: EndTxn, timeouts and fencing, WriteTxnMarkers, and the one group of the log in which it
//! all stands.

use super::state::{EndRules, EndStep, Ended, ProducerIdentity, Txn};
use super::{persist, Name};
use crate::broker::dispatch::Request;
use crate::broker::gather::Gather;
use crate::broker::logical::Growth;
use crate::broker::{Broker, Now};
use crate::canary::{self, Fault};
use crate::limits;
use crate::wal::{PartitionId, PlannedBatch};
use crate::wire::control::{EndMarker, MARKER_BYTES_MAX};
use crate::wire::msg::{
    EndTxnRequest, EndTxnResponse, WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use crate::wire::{self, DecodeError, ErrorCode};

/// The coordinator's epoch, as markers tell it: there never was another coordinator.
pub(super) const COORDINATOR_EPOCH: i32 = 0;

/// First EndTxn version by which the epoch rises with each transaction.
const EPOCH_BUMP_VERSION: i16 = 5;
/// First version whose clients know PRODUCER_FENCED (KIP-588).
const PRODUCER_FENCED_VERSION: i16 = 2;

/// What the marker in one partition counts inside a group.
pub(super) fn marker_cost() -> usize {
    Gather::run_cost(MARKER_BYTES_MAX)
}

impl Broker {
    pub(in crate::broker) fn end_txn(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: EndTxnRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let producer = ProducerIdentity { id: request.producer_id, epoch: request.producer_epoch };
        let bumps = req.to.version >= EPOCH_BUMP_VERSION;
        let rules = if bumps { EndRules::EpochBump } else { EndRules::Classic };
        let response = match self.end_by_client(req.now, request.transactional_id, producer, request.committed, rules) {
            Ok((producer_id, producer_epoch)) if bumps => {
                EndTxnResponse { producer_id, producer_epoch, ..Default::default() }
            }
            Ok(_) => EndTxnResponse::default(),
            Err(error) => {
                let old = error == ErrorCode::PRODUCER_FENCED && req.to.version < PRODUCER_FENCED_VERSION;
                let error_code = if old { ErrorCode::INVALID_PRODUCER_EPOCH } else { error };
                self.settings.metrics.request_error(req.to.key, error_code.0);
                EndTxnResponse { error_code, ..Default::default() }
            }
        };
        self.reply(req.to, &response);
        Ok(())
    }

    /// Ends a client's transaction; the producer id and epoch to go on with.
    fn end_by_client(
        &mut self,
        now: Now,
        id: &str,
        producer: ProducerIdentity,
        committed: bool,
        rules: EndRules,
    ) -> Result<(i64, i16), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let (name, txn) = self.txns.by_id.get_key_value(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?;
        let (name, mut txn) = (name.clone(), txn.clone());
        let needs_id = rules == EndRules::EpochBump && txn.end_needs_id(producer, committed);
        let new_id = if needs_id { Some(self.new_producer_id(now)?) } else { None };
        let step = txn.end(producer, committed, rules, new_id, now.wall_ms)?;
        let identity = (txn.producer_id, txn.epoch);
        if let EndStep::Ends(ended) = step {
            if !self.write_end(now, &name, txn, ended) {
                self.met_full_disk(now);
                return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
            }
        }
        Ok(identity)
    }

    /// Aborts a transaction that is under way, and fences its producer. False when the log has no room for it.
    pub(super) fn abort_by_server(&mut self, now: Now, name: &Name) -> bool {
        let Some(mut txn) = self.txns.by_id.get(name).cloned() else { return true };
        let producer = ProducerIdentity { id: txn.producer_id, epoch: txn.epoch };
        match txn.end(producer, false, EndRules::Server, None, now.wall_ms) {
            Ok(EndStep::Ends(ended)) => self.write_end(now, name, txn, ended),
            _ => true,
        }
    }

    /// What the end of this transaction takes of a group of the log at most, as `Gather::reserve` counts.
    pub(super) fn end_bytes(&self, id: &str, txn: &Txn) -> usize {
        let groups = txn.groups.iter().map(|group| self.groups.pending_bytes(group, txn.producer_id));
        let entry = Gather::meta_cost(&persist::entry(id, Some(txn)));
        entry + txn.partitions.len() * marker_cost() + groups.sum::<usize>()
    }

    /// The most that the end of a transaction may take.
    pub(super) fn end_bytes_max(&self) -> usize {
        limits::TXN_END_BYTES_MAX.min(self.settings.config.log_segment_bytes as usize / 4)
    }

    /// Appends the end of a transaction to one group of the log, and changes what it changes. `txn` has the new state and
    /// still names what is part of the transaction. False, and nothing is done, when there is no room.
    fn write_end(&mut self, now: Now, name: &Name, mut txn: Txn, ended: Ended) -> bool {
        let bytes = self.end_bytes(name, &txn);
        if !self.has_space_for_txn(bytes) {
            return false;
        }
        self.gather.reserve(bytes);
        let partitions = std::mem::take(&mut txn.partitions);
        let groups = std::mem::take(&mut txn.groups);
        self.append_meta(persist::entry(name, Some(&txn)));
        self.keep_txn(now, name, txn);
        for group in groups {
            self.end_offsets(now, &group, ended.producer_id, ended.committed);
        }
        let marker = EndMarker {
            producer_id: ended.producer_id,
            producer_epoch: ended.epoch,
            coordinator_epoch: COORDINATOR_EPOCH,
            committed: ended.committed,
        };
        let ends = if canary::has(Fault::TxnTorn) { 1 } else { usize::MAX };
        for id in partitions.into_iter().take(ends) {
            // Where the topic is gone, its part of the transaction went with it.
            let _ = self.append_marker(now, id, &marker);
        }
        true
    }

    /// Appends a marker to a partition, which ends the producer's transaction there.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION; INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED for a marker of the past.
    pub(super) fn append_marker(&mut self, now: Now, id: PartitionId, marker: &EndMarker) -> Result<(), ErrorCode> {
        let (partition, roll) = self.topics.appending(id).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let log = &mut partition.log;
        if let Some(state) = log.producers.get(marker.producer_id) {
            if marker.producer_epoch < state.epoch {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            if marker.coordinator_epoch < state.coordinator_epoch {
                return Err(ErrorCode::TRANSACTION_COORDINATOR_FENCED);
            }
        }
        let bytes = marker.batch(now.wall_ms).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let offset = log.next_offset;
        log.next_offset = offset.checked_add(1).ok_or(ErrorCode::KAFKA_STORAGE_ERROR)?;
        let is_new_producer = log.marker_appended(marker, offset, now.wall_ms);
        let grown =
            Growth { base_offset: offset, last_offset: offset, bytes: bytes.len() as u64, max_timestamp: now.wall_ms };
        log.grown(&grown, &roll, now.wall_ms);
        let planned = PlannedBatch { bytes: bytes.into(), base_offset: offset, leader_epoch: log.leader_epoch };
        partition.last_seq = self.gather.batch(id, planned, offset, now.wall_ms);
        if is_new_producer {
            self.topics.producer_added();
        }
        Ok(())
    }

    /// What coordinators on other brokers would send; here administrators who end a hanging transaction by hand.
    pub(in crate::broker) fn write_txn_markers(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: WriteTxnMarkersRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let mut wait = self.gather.meta_seq();
        let mut markers = Vec::with_capacity(request.markers.len());
        for marker in request.markers.iter().filter(|marker| !marker.topics.is_empty()) {
            let mut topics = Vec::with_capacity(marker.topics.len());
            for topic in &marker.topics {
                let topic_id = self.topics.id_of(topic.name);
                let partitions = topic.partition_indexes.iter().map(|index| {
                    let id = topic_id.map(|topic| PartitionId { topic, partition: *index });
                    let result = id.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                    let result = result.and_then(|id| self.write_marker_by_hand(req.now, id, marker));
                    if let Some(partition) = id.and_then(|id| self.topics.partition(id)) {
                        wait = wait.max(partition.last_seq);
                    }
                    let error_code = result.err().unwrap_or(ErrorCode::NONE);
                    self.settings.metrics.request_error(req.to.key, error_code.0);
                    WritableTxnMarkerPartitionResult { partition_index: *index, error_code }
                });
                topics.push(WritableTxnMarkerTopicResult { name: topic.name, partitions: partitions.collect() });
            }
            markers.push(WritableTxnMarkerResult { producer_id: marker.producer_id, topics });
        }
        self.reply_after(wait, req.to, &WriteTxnMarkersResponse { markers });
        Ok(())
    }

    fn write_marker_by_hand(
        &mut self,
        now: Now,
        id: PartitionId,
        request: &WritableTxnMarker<'_>,
    ) -> Result<(), ErrorCode> {
        if request.producer_id < 0 {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if !self.has_space_for_txn(marker_cost()) {
            self.met_full_disk(now);
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        let producers = self.topics.partition(id).map(|partition| &partition.log.producers);
        let open = producers.is_some_and(|p| p.has_open_txn(request.producer_id, request.producer_epoch));
        if open && request.transaction_version >= 2 {
            // Markers of the newer protocol carry the epoch after the transaction's.
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        let marker = EndMarker {
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
            coordinator_epoch: request.coordinator_epoch,
            committed: request.transaction_result,
        };
        self.append_marker(now, id, &marker)
    }
}
