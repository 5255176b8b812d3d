//! Owns which transactional batches Produce lets in: those of partitions that are part of the producer's transaction
//! (KIP-890). A batch that comes late, after its transaction has ended, can so never begin one that nobody ends.

use std::collections::{BTreeMap, BTreeSet};

use super::api::Part;
use super::state::ProducerIdentity;
use crate::broker::produce::Refusal;
use crate::broker::{Broker, Now};
use crate::wal::PartitionId;
use crate::wire::batch::BatchHeader;
use crate::wire::ErrorCode;

/// First Produce version that makes partitions part of the transaction by itself.
const ADDS_PARTITIONS_VERSION: i16 = 12;
/// First Produce version whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE_VERSION: i16 = 11;

impl Broker {
    /// Looks at the transactional batches of one request, each given with its header; what is refused, by partition.
    pub(in crate::broker) fn refuse_transactional(
        &mut self,
        now: Now,
        version: i16,
        id: &str,
        batches: &[(PartitionId, BatchHeader)],
    ) -> BTreeMap<PartitionId, Refusal> {
        let producers: BTreeSet<(i64, i16)> =
            batches.iter().map(|(_, header)| (header.producer_id, header.producer_epoch)).collect();
        let Some((producer_id, epoch)) = producers.first().copied() else { return BTreeMap::new() };
        if producers.len() > 1 {
            let refused = |(id, _): &(PartitionId, BatchHeader)| (*id, ErrorCode::INVALID_PRODUCER_ID_MAPPING.into());
            return batches.iter().map(refused).collect();
        }
        let adds = version >= ADDS_PARTITIONS_VERSION;
        let mut refused: BTreeMap<PartitionId, Refusal> = BTreeMap::new();
        let mut unknown: Vec<PartitionId> = Vec::new();
        for (id, header) in batches {
            match self.needs_admission(*id, header, adds) {
                Ok(true) => unknown.push(*id),
                Ok(false) => {}
                Err(error) => {
                    // Kafka finds sequences wrong where it appends, and tells then where the partition begins.
                    let appending = error == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
                    let partition = self.topics.partition(*id).filter(|_| appending);
                    let log_start_offset = partition.map(|partition| partition.log.start_offset);
                    refused.insert(*id, Refusal { log_start_offset, ..error.into() });
                }
            }
        }
        if unknown.is_empty() {
            return refused;
        }
        let producer = ProducerIdentity { id: producer_id, epoch };
        let verdicts = if adds {
            let added = self.add_to_txn(now, id, producer, Part::Partitions(&unknown));
            added.map(|()| BTreeMap::new())
        } else {
            self.verify_partitions(id, producer, &unknown)
        };
        for id in unknown {
            let error = match &verdicts {
                Ok(each) => each.get(&id).copied().unwrap_or(ErrorCode::NONE),
                Err(error) => *error,
            };
            if error.is_error() {
                refused.insert(id, refusal(version, error));
            }
        }
        refused
    }

    /// Whether the coordinator has to be asked: not while the producer's transaction is open in the partition.
    fn needs_admission(&self, id: PartitionId, header: &BatchHeader, adds: bool) -> Result<bool, ErrorCode> {
        let Some(partition) = self.topics.partition(id) else { return Ok(false) };
        let producers = &partition.log.producers;
        match producers.get(header.producer_id) {
            Some(state) if header.producer_epoch < state.epoch => Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            None if adds && header.base_sequence != 0 => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            _ => Ok(!producers.has_open_txn(header.producer_id, header.producer_epoch)),
        }
    }
}

/// The coordinator's error as Produce tells it.
fn refusal(version: i16, error: ErrorCode) -> Refusal {
    let error = match error {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::TRANSACTION_ABORTABLE if version < ABORTABLE_VERSION => ErrorCode::INVALID_TXN_STATE,
        // Producers know no coordinator's errors here; this one they try again.
        ErrorCode::COORDINATOR_NOT_AVAILABLE => ErrorCode::NOT_ENOUGH_REPLICAS,
        error => error,
    };
    let message = match error {
        ErrorCode::INVALID_TXN_STATE => Some("Partition was not added to the transaction".to_owned()),
        _ => None,
    };
    Refusal { error, message, ..Refusal::default() }
}
