//! Owns InitProducerId: fresh producer ids for idempotent producers, and the transactional id of the others (KIP-98,
//! KIP-360).

use bytes::Bytes;

use super::state::{ProducerIdentity, Txn};
use super::Name;
use crate::broker::dispatch::Request;
use crate::broker::{metalog, Broker, Now};
use crate::wal::MetaEntry;
use crate::wire::macros::message;
use crate::wire::msg::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::{self, DecodeError, ErrorCode};

/// Producer ids are reserved in the log this many at a time, so that most InitProducerId requests cost no write.
const PRODUCER_ID_BLOCK: i64 = 1000;

/// First version whose clients know PRODUCER_FENCED (KIP-588).
const PRODUCER_FENCED_VERSION: i16 = 4;

/// Which producer ids may be handed out.
#[derive(Debug, Default)]
pub struct ProducerIds {
    next: i64,
    /// Ids below this one are reserved in the log.
    end: i64,
}

message! {
    /// Value of `metalog::PRODUCER_IDS`.
    struct ProducerIdsValue {
        next: i64 [0..],
    }
}

impl ProducerIds {
    /// Reads the reservation back: what was reserved before a restart is never handed out again.
    pub fn apply(&mut self, entry: &MetaEntry) -> Result<(), String> {
        if let Some(value) = &entry.value {
            let value: ProducerIdsValue = metalog::decode(0, value)?;
            self.next = value.next;
            self.end = value.next;
        }
        Ok(())
    }

    /// The reservation as an entry for a snapshot.
    pub fn entry(&self) -> MetaEntry {
        MetaEntry {
            table: metalog::PRODUCER_IDS,
            scope: Bytes::new(),
            key: Bytes::new(),
            value: Some(metalog::encode(0, &ProducerIdsValue { next: self.end })),
        }
    }

    /// Somebody has this id, so it is not handed out again: with metadata in files, a crash may have taken the reservation
    /// and left a transactional id with an id out of it.
    pub fn is_taken(&mut self, producer_id: i64) {
        self.next = self.next.max(producer_id.saturating_add(1));
        self.end = self.end.max(self.next);
    }

    /// Whether the next id begins a new block, which is reserved in the log.
    fn needs_block(&self) -> bool {
        self.next >= self.end
    }

    /// A fresh id; with it the entry to append when it is the first of a new block.
    fn take(&mut self) -> (i64, Option<MetaEntry>) {
        let reserve = self.needs_block();
        if reserve {
            self.end = self.next + PRODUCER_ID_BLOCK;
        }
        self.next += 1;
        (self.next - 1, reserve.then(|| self.entry()))
    }
}

impl Broker {
    pub(in crate::broker) fn init_producer_id(&mut self, req: &Request<'_>) -> Result<(), DecodeError> {
        let request: InitProducerIdRequest<'_> = wire::decode_request(req.body, req.to.version)?;
        let result = expected(&request).and_then(|expected| match request.transactional_id {
            None => self.new_producer_id(req.now).map(|id| (id, 0)),
            Some(id) => self.init_transactional(req.now, id, &request, expected),
        });
        let response = match result {
            Ok((producer_id, producer_epoch)) => {
                InitProducerIdResponse { producer_id, producer_epoch, ..Default::default() }
            }
            Err(error) => {
                let old = error == ErrorCode::PRODUCER_FENCED && req.to.version < PRODUCER_FENCED_VERSION;
                let error_code = if old { ErrorCode::INVALID_PRODUCER_EPOCH } else { error };
                self.settings.metrics.request_error(req.to.key, error_code.0);
                InitProducerIdResponse { error_code, producer_id: -1, producer_epoch: -1, ..Default::default() }
            }
        };
        self.reply(req.to, &response);
        Ok(())
    }

    /// A producer id that nobody ever had.
    ///
    /// # Errors
    /// A new block of ids has to be reserved in the log, which is full: the client tries again.
    pub(super) fn new_producer_id(&mut self, now: Now) -> Result<i64, ErrorCode> {
        if self.producer_ids.needs_block() && !self.has_space_for_metadata() {
            self.met_full_disk(now);
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let (producer_id, entry) = self.producer_ids.take();
        if let Some(entry) = entry {
            self.append_meta(entry);
        }
        Ok(producer_id)
    }

    /// Gives a transactional id to a producer: whoever had it before is fenced, and its transaction aborted.
    fn init_transactional(
        &mut self,
        now: Now,
        id: &str,
        request: &InitProducerIdRequest<'_>,
        expected: Option<ProducerIdentity>,
    ) -> Result<(i64, i16), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if request.enable2_pc {
            // As Kafka with `transaction.two.phase.commit.enable=false` (KIP-939).
            return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        }
        if request.keep_prepared_txn {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let timeout_ms = request.transaction_timeout_ms;
        if timeout_ms <= 0 || i64::from(timeout_ms) > self.txns.timeout_max_ms {
            return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        }
        let name: Name = id.into();
        if !self.has_space_for_txn(id.len()) {
            self.met_full_disk(now);
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let known = self.txns.by_id.get(&name).map(|txn| (txn.check_init(expected), txn.is_ongoing()));
        match known {
            Some((check, ongoing)) => {
                check?;
                if ongoing && !self.abort_by_server(now, &name) {
                    self.met_full_disk(now);
                    return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
                }
            }
            None if !self.txns.has_room() => return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            None => {}
        }
        let mut txn = match self.txns.by_id.get(&name).cloned() {
            Some(txn) => txn,
            None => Txn::new(self.new_producer_id(now)?, timeout_ms, now.wall_ms),
        };
        let new_id = if txn.must_rotate(expected) { Some(self.new_producer_id(now)?) } else { None };
        txn.init(expected, new_id, timeout_ms, now.wall_ms)?;
        let given = (txn.producer_id, txn.epoch);
        self.store_txn(now, &name, txn);
        Ok(given)
    }
}

/// The producer that a request says it is from, in whole or not at all. As in Kafka, only -1 is none: what else nobody can
/// be is nobody's identity.
fn expected(request: &InitProducerIdRequest<'_>) -> Result<Option<ProducerIdentity>, ErrorCode> {
    match (request.producer_id, request.producer_epoch) {
        (-1, -1) => Ok(None),
        (-1, _) | (_, -1) => Err(ErrorCode::INVALID_REQUEST),
        (id, epoch) => Ok(Some(ProducerIdentity { id, epoch })),
    }
}
