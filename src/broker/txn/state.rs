//! Owns the state of one transactional id and Kafka's rules of how it changes (KIP-98, KIP-360, KIP-890): pure functions.
//!
//! There are no prepared states: on one node a transaction ends in one group of the log, all of it or nothing. So nobody
//! is ever told CONCURRENT_TRANSACTIONS either.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::limits;
use crate::wal::PartitionId;
use crate::wire::ErrorCode;

/// "No producer epoch": nobody was given the producer id yet.
pub const NO_EPOCH: i16 = -1;

/// Epochs from here on are not given to clients: the coordinator can always raise one more to fence them.
const EPOCH_EXHAUSTED: i16 = i16::MAX - 1;

/// Where a transactional id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No transaction since the producer got its id.
    Empty,
    Ongoing,
    CompleteCommit,
    CompleteAbort,
}

impl State {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::CompleteCommit => "CompleteCommit",
            State::CompleteAbort => "CompleteAbort",
        }
    }

    /// Its number in the log; for ever.
    pub fn number(self) -> i8 {
        match self {
            State::Empty => 0,
            State::Ongoing => 1,
            State::CompleteCommit => 4,
            State::CompleteAbort => 5,
        }
    }

    pub fn from_number(number: i8) -> Option<State> {
        [State::Empty, State::Ongoing, State::CompleteCommit, State::CompleteAbort]
            .into_iter()
            .find(|state| state.number() == number)
    }
}

/// Kafka's states, for the filter of ListTransactions: those that never occur here are known all the same.
pub const STATE_NAMES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// How the last transaction ended: what its markers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub producer_id: i64,
    pub epoch: i16,
    pub committed: bool,
}

/// One transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    pub producer_id: i64,
    /// The epoch that the producer must name.
    pub epoch: i16,
    /// The producer id before the last change; it differs when the epochs of the old one were used up.
    pub previous_producer_id: i64,
    /// The epoch before, if the same producer went on from it; so that its repeated request is known.
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    /// When the transaction began, wall clock in ms; -1 before the first.
    pub start_ms: i64,
    /// The last change, wall clock in ms.
    pub update_ms: i64,
    pub ended: Option<Ended>,
    /// What is part of the transaction.
    pub partitions: BTreeSet<PartitionId>,
    /// Groups whose offsets are.
    pub groups: BTreeSet<Arc<str>>,
    /// When it is aborted, or forgotten when no transaction is under way; monotonic µs.
    pub deadline_us: Option<u64>,
}

/// Which producer a request says that it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub id: i64,
    pub epoch: i16,
}

/// Whose rules a transaction ends by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndRules {
    /// EndTxn up to version 4: the epoch stays.
    Classic,
    /// EndTxn from version 5 on (KIP-890): the epoch rises with each transaction.
    EpochBump,
    /// The coordinator itself ends it, to fence the producer or because its time is up.
    Server,
}

/// What an accepted request to end a transaction comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndStep {
    /// It has been carried out before.
    Repeated,
    /// Markers with this end are due, if anything is part of the transaction; the state has changed.
    Ends(Ended),
}

impl Txn {
    /// A transactional id that was just seen for the first time.
    pub fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Txn {
        Txn {
            producer_id,
            epoch: NO_EPOCH,
            previous_producer_id: -1,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            start_ms: -1,
            update_ms: now_ms,
            ended: None,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            deadline_us: None,
        }
    }

    pub fn is_ongoing(&self) -> bool {
        self.state == State::Ongoing
    }

    /// No client may be given a higher epoch of this producer id.
    pub fn is_exhausted(&self) -> bool {
        self.epoch >= EPOCH_EXHAUSTED
    }

    /// Whether InitProducerId may go on, for a producer that says who it was (KIP-360).
    ///
    /// # Errors
    /// PRODUCER_FENCED: someone else has taken over.
    pub fn check_init(&self, expected: Option<ProducerIdentity>) -> Result<(), ErrorCode> {
        let Some(expected) = expected else { return Ok(()) };
        let rotated = expected.id == self.previous_producer_id && expected.epoch >= EPOCH_EXHAUSTED;
        let known = self.epoch == NO_EPOCH || expected.id == self.producer_id || rotated;
        // Kafka would abort the successor's transaction before it finds that this one is fenced.
        let fenced = self.is_ongoing() && expected.epoch != self.epoch;
        if known && !fenced {
            Ok(())
        } else {
            Err(ErrorCode::PRODUCER_FENCED)
        }
    }

    /// Whether InitProducerId has to give a new producer id.
    pub fn must_rotate(&self, expected: Option<ProducerIdentity>) -> bool {
        let raised_to_the_top = |epoch| self.epoch == i16::MAX && epoch == self.last_epoch;
        self.is_exhausted() && expected.is_none_or(|p| p.epoch == self.epoch || raised_to_the_top(p.epoch))
    }

    /// InitProducerId while no transaction is under way. `new_id` is a fresh producer id where `must_rotate` says so.
    ///
    /// # Errors
    /// PRODUCER_FENCED.
    pub fn init(
        &mut self,
        expected: Option<ProducerIdentity>,
        new_id: Option<i64>,
        timeout_ms: i32,
        now_ms: i64,
    ) -> Result<(), ErrorCode> {
        let (producer_id, epoch, last_epoch) = match (new_id, expected) {
            (Some(id), _) => (id, 0, expected.map_or(NO_EPOCH, |expected| expected.epoch)),
            (None, None) => (self.producer_id, self.epoch + 1, NO_EPOCH),
            (None, Some(expected)) if self.epoch == NO_EPOCH || expected.epoch == self.epoch => {
                (self.producer_id, self.epoch + 1, self.epoch)
            }
            // It asks again: the answer of the first time was lost.
            (None, Some(expected)) if expected.epoch == self.last_epoch => {
                (self.producer_id, self.epoch, self.last_epoch)
            }
            (None, Some(_)) => return Err(ErrorCode::PRODUCER_FENCED),
        };
        self.previous_producer_id = self.producer_id;
        (self.producer_id, self.epoch, self.last_epoch) = (producer_id, epoch, last_epoch);
        self.timeout_ms = timeout_ms;
        self.state = State::Empty;
        self.start_ms = -1;
        self.update_ms = now_ms;
        Ok(())
    }

    /// Whether the producer is the one that holds the transactional id.
    ///
    /// # Errors
    /// INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED.
    pub fn check_producer(&self, producer: ProducerIdentity) -> Result<(), ErrorCode> {
        if self.producer_id != producer.id {
            Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
        } else if self.epoch != producer.epoch {
            Err(ErrorCode::PRODUCER_FENCED)
        } else {
            Ok(())
        }
    }

    /// Adds partitions and a group; the transaction begins if none is under way. False when all is there already.
    pub fn add(&mut self, partitions: &[PartitionId], group: Option<&str>, now_ms: i64) -> bool {
        let known = partitions.iter().all(|partition| self.partitions.contains(partition))
            && group.is_none_or(|group| self.groups.contains(group));
        if self.is_ongoing() && known {
            return false;
        }
        if !self.is_ongoing() {
            self.state = State::Ongoing;
            self.start_ms = now_ms;
        }
        self.update_ms = now_ms;
        self.previous_producer_id = self.producer_id;
        self.partitions.extend(partitions);
        self.groups.extend(group.map(Arc::from));
        true
    }

    /// Ends the transaction, or finds that it has ended. What was part of it stays named until the caller takes it.
    /// `new_id` is a fresh producer id for `EpochBump` when the epochs are used up.
    ///
    /// # Errors
    /// INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, INVALID_TXN_STATE.
    pub fn end(
        &mut self,
        producer: ProducerIdentity,
        committed: bool,
        rules: EndRules,
        new_id: Option<i64>,
        now_ms: i64,
    ) -> Result<EndStep, ErrorCode> {
        let step = match rules {
            EndRules::Classic => self.judge_classic(producer, committed)?,
            EndRules::EpochBump => self.judge_epoch_bump(producer, committed)?,
            EndRules::Server => EndStep::Ends(Ended { producer_id: self.producer_id, epoch: self.epoch, committed }),
        };
        let EndStep::Ends(mut ended) = step else { return Ok(step) };
        let was_ongoing = self.is_ongoing();
        self.previous_producer_id = self.producer_id;
        if rules != EndRules::Classic {
            // Below the largest number also at the end: it is the one that is kept for fencing.
            ended.epoch = self.epoch.saturating_add(1);
            self.last_epoch = self.epoch;
            self.epoch = ended.epoch;
        }
        if let Some(id) = new_id {
            (self.producer_id, self.epoch) = (id, 0);
        }
        self.state = if committed { State::CompleteCommit } else { State::CompleteAbort };
        if was_ongoing {
            self.ended = Some(ended);
        } else {
            self.start_ms = now_ms;
        }
        self.update_ms = now_ms;
        Ok(EndStep::Ends(ended))
    }

    /// Whether EndTxn by the newer rules needs a fresh producer id.
    pub fn end_needs_id(&self, producer: ProducerIdentity, committed: bool) -> bool {
        self.is_exhausted() && matches!(self.judge_epoch_bump(producer, committed), Ok(EndStep::Ends(_)))
    }

    fn judge_classic(&self, producer: ProducerIdentity, committed: bool) -> Result<EndStep, ErrorCode> {
        self.check_producer(producer)?;
        match self.state {
            State::Ongoing => Ok(self.ends(committed)),
            State::CompleteCommit if committed => Ok(EndStep::Repeated),
            State::CompleteAbort if !committed => Ok(EndStep::Repeated),
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// With the epoch rising each time, the epoch tells a repeated request from the next one. An abort is accepted even if
    /// there is nothing to abort: the producer may not know whether its first records arrived.
    fn judge_epoch_bump(&self, producer: ProducerIdentity, committed: bool) -> Result<EndStep, ErrorCode> {
        let complete = matches!(self.state, State::CompleteCommit | State::CompleteAbort);
        let over_the_top = complete
            && self.previous_producer_id == producer.id
            && producer.epoch == EPOCH_EXHAUSTED
            && self.epoch == 0
            && self.producer_id != producer.id;
        if self.producer_id != producer.id && !over_the_top {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let repeated = over_the_top || (complete && producer.epoch.checked_add(1) == Some(self.epoch));
        if !repeated && producer.epoch != self.epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match (self.state, committed) {
            (State::Ongoing, _) => Ok(self.ends(committed)),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if repeated => Ok(EndStep::Repeated),
            (State::Empty | State::CompleteCommit | State::CompleteAbort, false) if !repeated => Ok(self.ends(false)),
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    fn ends(&self, committed: bool) -> EndStep {
        EndStep::Ends(Ended { producer_id: self.producer_id, epoch: self.epoch, committed })
    }

    /// Bytes of memory that the id takes, roughly, with what its partitions remember of it while its transaction is open.
    pub fn bytes(&self) -> usize {
        256 + self.partitions.len() * (48 + limits::PRODUCER_BYTES)
            + self.groups.iter().map(|group| group.len() + 48).sum::<usize>()
    }
}
