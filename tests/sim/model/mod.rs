//! Owns the oracle: an independent model of what Kafka promises, against which every answer of the broker is held.
//!
//! The model follows three things: what clients handed in (`handed_in`), what the broker put into the log's groups and
//! which of them were durable (`planned`, `written`, `recovered`), and every answer at the moment it leaves (`answered`).
//! A durable log is a prefix of the planned groups; so after a crash each partition must hold exactly the batches of
//! that prefix, with the bytes that were sent, and no answer may tell of anything beyond it.

mod admin;
mod compacted;
pub mod consumers;
mod groups;
mod log;
mod reads;
mod register;
pub mod shares;
mod txn;

use std::collections::{BTreeMap, BTreeSet};

use chronik::broker::Now;
use chronik::wal::{Group, GroupSeq, PartitionId, Written};
use chronik::wire::Uuid;
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::batch::{self, Batch};
use super::proto::{Answer, Ask};

pub use admin::TopicState;
pub use consumers::Consumers;
pub use groups::{commit_text, Groups};
pub use log::Log;
pub use txn::FULL;

pub const NONE: i16 = 0;
pub const OFFSET_OUT_OF_RANGE: i16 = 1;
pub const CORRUPT_MESSAGE: i16 = 2;
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
pub const NOT_COORDINATOR: i16 = 16;
pub const TOPIC_ALREADY_EXISTS: i16 = 36;
pub const OUT_OF_ORDER_SEQUENCE: i16 = 45;
pub const KAFKA_STORAGE_ERROR: i16 = 56;
pub const UNKNOWN_TOPIC_ID: i16 = 100;

/// What is wrong.
pub type Verdict = Result<(), String>;

/// Says what is wrong unless it is right.
macro_rules! hold {
    ($right:expr, $($says:tt)+) => {
        if !$right {
            return Err(format!($($says)+));
        }
    };
}
pub(crate) use hold;

/// A request with what was known when the broker took it.
#[derive(Clone, Debug)]
pub struct Call {
    pub correlation: i32,
    pub version: i16,
    pub ask: Ask,
    /// What was durable, by the completions that the broker had been told of.
    pub durable: GroupSeq,
    /// Position in the order of all requests that were handed in.
    pub order: u64,
    /// Which start of the broker took it.
    pub life: u32,
    /// Who asks, and when it was handed in (monotonic µs).
    pub client: usize,
    pub at_us: u64,
}

/// A batch that a client made.
#[derive(Clone, Debug)]
struct Sent {
    topic: String,
    partition: i32,
    batch: Batch,
    /// How often it was handed in. A plain producer that repeats itself may be stored as often.
    attempts: u32,
    /// An answer told that it was refused, and it was not handed in again.
    refused: bool,
    /// If it was handed in once: on which connection, and in which place of the order of all requests.
    once: Option<(u64, u64)>,
}

/// Which promises the faults of this run suspend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// Reads may be answered with an error.
    pub reads_fail: bool,
    /// A file is damaged and not mended yet: who reads what is in it gets no further.
    pub damaged: bool,
    /// What only the object store has may be late: a fetch is answered without it then.
    pub reads_late: bool,
    /// Appends may be refused for want of space.
    pub disk_full: bool,
}

/// The oracle.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub excuses: Excuses,
    /// The server is on its way to an orderly stop.
    pub stopping: bool,
    pub logs: BTreeMap<PartitionId, Log>,
    pub topics: BTreeMap<String, TopicState>,
    pub groups: Groups,
    pub txns: txn::Txns,
    pub consumers: Consumers,
    pub shares: shares::Shares,
    /// Who speaks now, and the time (monotonic µs).
    client: usize,
    /// The connection that a request comes by.
    pub conn: u64,
    pub now_us: u64,
    /// The wall clock, ms, and whether it may be set in this run.
    pub wall_ms: i64,
    pub clock_jumps: bool,
    /// Records of which a reader saw that compaction has taken them out.
    pub gone: u64,
    names: BTreeMap<Uuid, String>,
    /// Ids of topics that were deleted, each with how many requests had been handed in when that was answered.
    dead: BTreeMap<Uuid, u64>,
    sent: BTreeMap<u64, Sent>,
    /// The last group whose completion the broker was told of.
    durable: GroupSeq,
    planned: GroupSeq,
    /// The last durable group that left something in the log.
    logged: GroupSeq,
    /// The last planned group that does, which may be in flight. Groups with nothing in them are in checkpoints at most, and such a
    /// one may rot.
    logging: GroupSeq,
    /// Metadata lives in files of its own, so groups without data are not in the log.
    file_metadata: bool,
    /// Producer ids that were given out.
    producers: BTreeSet<i64>,
    orders: u64,
    empty: Log,
    /// The request that brought the last batch of a partition, for each connection.
    stored: BTreeMap<(PartitionId, u64), u64>,
    /// Believes only what clients see: the groups of the log are not asked whether they hold what was acknowledged.
    pub blind: bool,
    /// The last group of which something was acknowledged.
    acked: GroupSeq,
    life: u32,
    pub answers: u64,
}

impl Model {
    pub fn new(excuses: Excuses, file_metadata: bool) -> Model {
        Model { excuses, file_metadata, ..Model::default() }
    }

    /// A client is about to be told, or has just been told, of a batch's way; remembers what it consists of.
    pub fn sends(&mut self, topic: &str, partition: i32, batch: Batch) {
        let sent = Sent { topic: topic.to_string(), partition, batch, attempts: 0, refused: false, once: None };
        self.sent.insert(sent.batch.tag, sent);
    }

    /// It is this client's turn, at this time.
    pub fn turn_of(&mut self, client: usize, now: Now) {
        (self.client, self.now_us, self.wall_ms) = (client, now.mono_us, now.wall_ms);
    }

    /// The broker takes a request. The call is to be given back with its answer.
    pub fn handed_in(&mut self, correlation: i32, version: i16, ask: Ask) -> Call {
        self.orders += 1;
        let (order, durable, life, client, at_us) = (self.orders, self.durable, self.life, self.client, self.now_us);
        let call = Call { correlation, version, ask, durable, order, life, client, at_us };
        self.consumers.handed_in(&call);
        self.shares.handed_in(&call);
        match &call.ask {
            Ask::Produce(request) => {
                for (_, _, batch) in batches_of(request) {
                    if let Some(sent) = self.sent.get_mut(&batch.tag) {
                        sent.attempts += 1;
                        sent.once = (sent.attempts == 1).then_some((self.conn, order));
                        sent.refused = false;
                    }
                }
            }
            Ask::OffsetCommit(request) => self.groups.commit_handed_in(&call, request),
            Ask::JoinGroup(request) => self.groups.join_handed_in(request),
            Ask::EndTxn(_) | Ask::TxnOffsetCommit(_) => self.txn_handed_in(&call),
            _ => self.admin_handed_in(&call),
        }
        call
    }

    /// The broker gave a group to be written.
    pub fn planned(&mut self, group: &Group) -> Verdict {
        hold!(group.seq > self.planned, "group {} after group {}", group.seq, self.planned);
        self.planned = group.seq;
        if !group.runs.is_empty() || !(group.meta.is_empty() || self.file_metadata) {
            self.logging = group.seq;
        }
        self.groups.planned(group.seq, group.meta.iter().filter_map(|entry| entry.value.as_deref()));
        let mut markers = Vec::new();
        for run in &group.runs {
            let end = self.logs.entry(run.id).or_default().end();
            hold!(run.base_offset == end, "{:?}: run at {} where {end} is next", run.id, run.base_offset);
            for planned in &run.batches {
                let bytes = log::filled_in(planned);
                let batch = batch::parse(&bytes)?.pop().ok_or("a planned batch that is none")?;
                match batch.marker {
                    Some(marker) => markers.push((run.id, marker)),
                    None => {
                        self.check_placement(run.id, &batch)?;
                        self.txns.data(run.id, &batch)?;
                    }
                }
                self.logs.entry(run.id).or_default().place(batch, group.seq, self.wall_ms)?;
            }
            let next = self.logs.entry(run.id).or_default().end();
            hold!(next == run.last_offset + 1, "run of {:?} ends before {next}, not at {}", run.id, run.last_offset);
        }
        self.txns.markers(group.seq, self.orders, &markers, self.file_metadata)
    }

    fn check_placement(&mut self, id: PartitionId, batch: &Batch) -> Verdict {
        let sent = self.sent.get(&batch.tag).ok_or_else(|| format!("batch {} was never sent", batch.tag))?;
        hold!(sent.batch.is_same_data(batch), "batch {} is not as it was sent", batch.tag);
        hold!(sent.partition == id.partition, "batch {} was meant for partition {}", batch.tag, sent.partition);
        hold!(!sent.refused, "batch {} was refused and is stored nevertheless", batch.tag);
        if let Some(name) = self.names.get(&id.topic) {
            hold!(*name == sent.topic, "batch {} was meant for {}, not {name}", batch.tag, sent.topic);
        }
        // A batch that was sent once stands behind all that were sent before it on the same connection.
        if let Some((conn, order)) = sent.once {
            let before = self.stored.insert((id, conn), order).unwrap_or(0);
            let (tag, name) = (batch.tag, &sent.topic);
            hold!(
                before < order,
                "order: batch {tag} of request {order} stands in {name} behind one of request {before}"
            );
        }
        let log = self.logs.entry(id).or_default();
        let copies = log.copies(batch.tag) as u32;
        let copies_max = if batch.sequence.is_some() { 1 } else { sent.attempts };
        hold!(copies < copies_max, "duplicate: batch {} stands {} times in {id:?}", batch.tag, copies + 1);
        log.check_sequence(batch)
    }

    /// The broker is told that a group is durable.
    pub fn written(&mut self, written: &Written) -> Verdict {
        hold!(written.seq == self.planned, "group {} written, {} planned", written.seq, self.planned);
        for run in &written.runs {
            let log = self.logs.get(&run.id).ok_or_else(|| format!("{:?} written and not planned", run.id))?;
            let (first, last, len) = log.extent(written.seq);
            let told = (run.base_offset, run.last_offset, run.len as usize);
            hold!(told == (first, last, len), "{:?}: wrote {told:?}, planned {:?}", run.id, (first, last, len));
        }
        self.durable = written.seq;
        self.logged = self.logging;
        Ok(())
    }

    /// Recovery says that the log holds the groups up to `last`.
    pub fn recovered(&mut self, last: GroupSeq) -> Verdict {
        let (logged, planned) = (self.logged, self.planned);
        let acked = self.acked;
        hold!(last >= acked, "recovered up to group {last}, but something of group {acked} was acknowledged");
        hold!(last >= logged, "recovered up to group {last}, but {logged} was durable");
        hold!(last <= planned, "recovered up to group {last}, but only {planned} was planned");
        for log in self.logs.values_mut() {
            log.cut(last);
        }
        if self.logging <= last {
            self.logged = self.logging;
        }
        (self.durable, self.planned, self.logging) = (last, last, self.logged);
        self.acked = 0;
        self.stored.clear();
        self.groups.cut(last);
        self.shares.restarted();
        self.txns.cut(last, self.logs.iter());
        self.life += 1;
        Ok(())
    }

    /// An answer leaves the broker.
    pub fn answered(&mut self, call: &Call, answer: &Answer) -> Verdict {
        self.answers += 1;
        let of_groups = self.check_consumers(call, answer).or_else(|| self.check_shares(call, answer));
        if let Some(verdict) = of_groups {
            return verdict;
        }
        match (&call.ask, answer) {
            (Ask::Produce(request), Answer::Produce(response)) => self.check_produce(call, request, response),
            (Ask::Fetch(request), Answer::Fetch(response)) => self.check_fetch(call, request, response),
            (Ask::ListOffsets(request), Answer::ListOffsets(response)) => {
                self.check_list_offsets(call, request, response)
            }
            (Ask::OffsetCommit(request), Answer::OffsetCommit(response)) => {
                self.check_member_commit(call, request, response)?;
                let (now, durable) = (self.orders, (!self.blind).then_some(self.durable));
                self.groups.check_commit(call, request, response, now, durable)
            }
            (Ask::OffsetFetch(request), Answer::OffsetFetch(response)) => {
                let now = self.orders;
                self.groups.check_offset_fetch(call, request, response, now)
            }
            (Ask::JoinGroup(request), Answer::JoinGroup(response)) => {
                // Whoever waits for a rebalance is sent away when the server stops.
                let sent_away = self.stopping && response.error_code == NOT_COORDINATOR;
                if sent_away {
                    Ok(())
                } else {
                    self.groups.check_join(call, request, response)
                }
            }
            (Ask::SyncGroup(request), Answer::SyncGroup(response)) => {
                let sent_away = self.stopping && response.error_code == NOT_COORDINATOR;
                if sent_away {
                    Ok(())
                } else {
                    self.groups.check_sync(request, response)
                }
            }
            (Ask::Heartbeat(request), Answer::Heartbeat(response)) => self.groups.check_heartbeat(request, response),
            (
                Ask::InitProducerId(_)
                | Ask::AddPartitionsToTxn(_)
                | Ask::AddOffsetsToTxn(_)
                | Ask::TxnOffsetCommit(_)
                | Ask::EndTxn(_),
                _,
            ) => self.check_txn(call, answer),
            _ => self.check_admin(call, answer),
        }
    }

    fn check_produce(&mut self, call: &Call, request: &ProduceRequest, response: &ProduceResponse) -> Verdict {
        let mut told = BTreeMap::new();
        for topic in &response.responses {
            for part in &topic.partition_responses {
                told.insert((topic.name.to_string(), part.index), part);
            }
        }
        for (topic, partition, batch) in batches_of(request) {
            let part = told.remove(&(topic.clone(), partition)).ok_or("a partition without an answer")?;
            if part.error_code == NONE {
                self.check_ack(&topic, partition, batch.tag, part.base_offset)?;
                continue;
            }
            hold!(part.base_offset == -1, "error {} with offset {}", part.error_code, part.base_offset);
            let full = part.error_code == KAFKA_STORAGE_ERROR && self.excuses.disk_full;
            let follows_full = part.error_code == OUT_OF_ORDER_SEQUENCE && self.excuses.disk_full;
            let unknown = [UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID].contains(&part.error_code);
            let gone = unknown && self.may_be_unknown(call, &topic, partition);
            if request.transactional_id.is_some() {
                self.may_refuse("a batch of a transaction", part.error_code)?;
                continue;
            }
            hold!(full || follows_full || gone, "batch {} refused with {}", batch.tag, part.error_code);
            if let Some(sent) = self.sent.get_mut(&batch.tag).filter(|s| s.attempts == 1 && call.life == self.life) {
                sent.refused = batch.sequence.is_none();
            }
        }
        hold!(told.is_empty(), "answers for partitions that were not asked: {:?}", told.keys());
        Ok(())
    }

    fn check_ack(&mut self, topic: &str, partition: i32, tag: u64, base_offset: i64) -> Verdict {
        let mut places = self.candidates(topic, partition).flat_map(|log| log.places(tag));
        let seq = places.find(|place| place.batch.base_offset == base_offset).map(|place| place.seq);
        drop(places);
        let seq = seq.ok_or_else(|| format!("batch {tag} acknowledged at {base_offset}, where it is not"))?;
        self.acknowledged(seq).map_err(|why| format!("{why}: batch {tag}"))
    }

    /// A client is told of something that stands in a group of the log: it has to be durable, or may at least never be lost.
    fn acknowledged(&mut self, seq: GroupSeq) -> Verdict {
        self.acked = self.acked.max(seq);
        let durable = self.durable;
        hold!(
            self.blind || seq <= durable,
            "acknowledged before it was durable: group {seq}, only {durable} is written"
        );
        Ok(())
    }

    /// The logs that a name may stand for: a topic that was made anew has another.
    fn candidates<'a>(&'a self, topic: &'a str, partition: i32) -> impl Iterator<Item = &'a Log> {
        self.logs.iter().filter_map(move |(id, log)| {
            let named = self.names.get(&id.topic).is_none_or(|name| name == topic);
            (named && id.partition == partition).then_some(log)
        })
    }

    /// Whether a topic with this id was deleted.
    pub fn is_dead(&self, id: Uuid) -> bool {
        self.dead.contains_key(&id)
    }

    pub fn durable(&self) -> GroupSeq {
        self.durable
    }
}

/// Each partition's batch in a Produce request.
pub fn batches_of(request: &ProduceRequest) -> Vec<(String, i32, Batch)> {
    let parts = request.topic_data.iter().flat_map(|topic| topic.partition_data.iter().map(move |p| (topic, p)));
    parts
        .filter_map(|(topic, part)| {
            let batch = batch::parse(part.records.as_ref()?).ok()?.pop()?;
            Some((topic.name.to_string(), part.index, batch))
        })
        .collect()
}
