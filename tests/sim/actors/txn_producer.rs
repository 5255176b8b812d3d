//! Owns transactional producers: several may share an id, pause for too long, abort, and commit offsets; of both
//! generations of the protocol.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, GroupId, InitProducerIdRequest, ProduceRequest,
    TransactionalId, TxnOffsetCommitRequest,
};

use super::super::batch::{self, Sequence};
use super::super::model::{commit_text, FULL, NONE};
use super::super::proto::{text, topic_name, Answer, Ask};
use super::{keyed, Actor, Turn, COMPACTED};

/// A batch and where it goes.
#[derive(Clone, Debug)]
struct Piece {
    topic: String,
    partition: i32,
    bytes: Bytes,
}

/// What the producer does next, or is doing.
#[derive(Clone, Debug)]
enum Step {
    Init,
    AddPartitions(Vec<Piece>),
    Produce(Vec<Piece>),
    AddOffsets,
    CommitOffsets,
    End(bool),
}

/// A transactional producer.
#[derive(Debug)]
pub struct TxnProducer {
    xid: String,
    group: String,
    /// KIP-890: Produce adds partitions, EndTxn raises the epoch.
    new_protocol: bool,
    id: Option<(i64, i16)>,
    sequences: BTreeMap<(String, i32), i32>,
    added: BTreeSet<(String, i32)>,
    /// A transaction is open, as far as this producer knows.
    open: bool,
    /// What is to be done; kept until it was answered.
    step: Option<Step>,
    asked: Option<i32>,
    value_bytes_max: u64,
    /// It also writes to compacted topics.
    keyed: bool,
    /// How often it goes on though it was told that it lost its id.
    stubborn: u32,
}

impl TxnProducer {
    pub fn new(xid: String, group: String, new_protocol: bool, value_bytes_max: u64, keyed: bool) -> TxnProducer {
        TxnProducer {
            xid,
            group,
            new_protocol,
            id: None,
            sequences: BTreeMap::new(),
            added: BTreeSet::new(),
            open: false,
            step: None,
            asked: None,
            value_bytes_max,
            keyed,
            stubborn: 0,
        }
    }

    /// Someone else has the id now, or the transaction is over: everything begins anew.
    fn give_up(&mut self) {
        self.id = None;
        self.step = None;
        self.open = false;
    }

    /// What comes next when nothing is under way.
    fn choose(&mut self, turn: &mut Turn<'_>) -> Option<Step> {
        if self.id.is_none() {
            return (!turn.closing).then_some(Step::Init);
        }
        if self.open && (turn.closing || turn.rng.chance(35)) {
            return Some(Step::End(turn.rng.chance(70)));
        }
        if turn.closing {
            return None;
        }
        if self.open && turn.rng.chance(25) {
            return Some(if self.new_protocol { Step::CommitOffsets } else { Step::AddOffsets });
        }
        let pieces = self.make_pieces(turn);
        match pieces.is_empty() {
            true => None,
            false if self.new_protocol => Some(Step::Produce(pieces)),
            false => Some(Step::AddPartitions(pieces)),
        }
    }

    fn make_pieces(&mut self, turn: &mut Turn<'_>) -> Vec<Piece> {
        let mut topics = turn.topics(true);
        let compacted = if self.keyed { turn.compacted() } else { Vec::new() };
        if turn.rng.chance(50) || topics.is_empty() {
            topics.extend(compacted.iter().cloned());
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let Some((producer, epoch)) = self.id else { return pieces };
        for _ in 0..turn.rng.range(1, 3) {
            let Some((topic, partitions)) = turn.rng.pick(&topics).cloned() else { break };
            let partition = turn.rng.below(partitions.max(1) as u64) as i32;
            if pieces.iter().any(|piece| piece.topic == topic && piece.partition == partition) {
                continue;
            }
            let count = turn.rng.range(1, 4) as i32;
            let timestamps: Vec<i64> = (0..count).map(|n| turn.now.wall_ms + i64::from(n)).collect();
            let next = self.sequences.entry((topic.clone(), partition)).or_default();
            let sequence = Sequence { producer, epoch, first: *next };
            *next += count;
            let tag = turn.ids.tag();
            let value_bytes = turn.rng.below(self.value_bytes_max) as usize;
            let plain = match topic.starts_with(COMPACTED) {
                true => keyed::batch(turn.rng, tag, Some(sequence), &timestamps, value_bytes),
                false => batch::build(tag, Some(sequence), &timestamps, value_bytes),
            };
            let bytes = batch::transactional(&turn.packed(plain));
            let parsed = batch::parse(&bytes).ok().and_then(|mut batches| batches.pop()).expect("what we built");
            turn.model.sends(&topic, partition, parsed);
            pieces.push(Piece { topic, partition, bytes });
        }
        pieces
    }

    fn send(&mut self, turn: &mut Turn<'_>) {
        let Some(step) = self.step.clone() else { return };
        let (id, epoch) = self.id.unwrap_or((-1, -1));
        let xid = TransactionalId(text(&self.xid));
        let new = self.new_protocol;
        let (version, ask) = match step {
            Step::Init => {
                let request = InitProducerIdRequest::default()
                    .with_transactional_id(Some(xid))
                    .with_transaction_timeout_ms(*turn.rng.pick(&[200, 1000, 3000]).unwrap_or(&1000))
                    .with_producer_id((-1).into())
                    .with_producer_epoch(-1);
                (turn.rng.range(0, 5) as i16, Ask::InitProducerId(request))
            }
            Step::AddPartitions(pieces) => {
                let topics = pieces.iter().map(|piece| {
                    AddPartitionsToTxnTopic::default()
                        .with_name(topic_name(&piece.topic))
                        .with_partitions(vec![piece.partition])
                });
                let request = AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(xid)
                    .with_v3_and_below_producer_id(id.into())
                    .with_v3_and_below_producer_epoch(epoch)
                    .with_v3_and_below_topics(topics.collect());
                (turn.rng.range(0, 3) as i16, Ask::AddPartitionsToTxn(request))
            }
            Step::Produce(pieces) => {
                let data = pieces.iter().map(|piece| {
                    let part = PartitionProduceData::default()
                        .with_index(piece.partition)
                        .with_records(Some(piece.bytes.clone()));
                    TopicProduceData::default().with_name(topic_name(&piece.topic)).with_partition_data(vec![part])
                });
                let request = ProduceRequest::default()
                    .with_transactional_id(Some(xid))
                    .with_acks(-1)
                    .with_timeout_ms(30_000)
                    .with_topic_data(data.collect());
                let least = if pieces.iter().any(|piece| batch::codec(&piece.bytes) == 4) { 7 } else { 3 };
                let version = if new { 12 } else { turn.rng.range(least, 11) as i16 };
                (version, Ask::Produce(request))
            }
            Step::AddOffsets => {
                let request = AddOffsetsToTxnRequest::default()
                    .with_transactional_id(xid)
                    .with_producer_id(id.into())
                    .with_producer_epoch(epoch)
                    .with_group_id(GroupId(text(&self.group)));
                (turn.rng.range(0, 4) as i16, Ask::AddOffsetsToTxn(request))
            }
            Step::CommitOffsets => self.commit_offsets(turn, xid, id, epoch),
            Step::End(committed) => {
                let request = EndTxnRequest::default()
                    .with_transactional_id(xid)
                    .with_producer_id(id.into())
                    .with_producer_epoch(epoch)
                    .with_committed(committed);
                (if new { 5 } else { turn.rng.range(0, 4) as i16 }, Ask::EndTxn(request))
            }
        };
        self.asked = Some(turn.send(version, ask));
    }

    fn commit_offsets(&self, turn: &mut Turn<'_>, xid: TransactionalId, id: i64, epoch: i16) -> (i16, Ask) {
        let topics = turn.readable(true);
        let (topic, partitions) = turn.rng.pick(&topics).cloned().unwrap_or_default();
        let metadata = commit_text(turn.ids.commit());
        let part = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(turn.rng.below(partitions.max(1) as u64) as i32)
            .with_committed_offset(turn.rng.below(1000) as i64)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text(&metadata)));
        let topic = TxnOffsetCommitRequestTopic::default().with_name(topic_name(&topic)).with_partitions(vec![part]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(xid)
            .with_group_id(GroupId(text(&self.group)))
            .with_producer_id(id.into())
            .with_producer_epoch(epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        let version = if self.new_protocol { 5 } else { turn.rng.range(0, 4) as i16 };
        (version, Ask::TxnOffsetCommit(request))
    }

    /// The step was carried out.
    fn done(&mut self, step: Step, answer: &Answer) {
        match (step, answer) {
            (Step::Init, Answer::InitProducerId(response)) => {
                self.id = Some((response.producer_id.0, response.producer_epoch));
                self.sequences.clear();
                self.added.clear();
                self.open = false;
            }
            (Step::AddPartitions(pieces), _) => {
                self.added.extend(pieces.iter().map(|piece| (piece.topic.clone(), piece.partition)));
                self.open = true;
                self.step = Some(Step::Produce(pieces));
            }
            (Step::AddOffsets, _) => {
                self.open = true;
                self.step = Some(Step::CommitOffsets);
            }
            (Step::End(_), Answer::EndTxn(response)) => {
                self.open = false;
                self.added.clear();
                if self.new_protocol {
                    self.id = Some((response.producer_id.0, response.producer_epoch));
                    self.sequences.clear();
                }
            }
            _ => self.open = true,
        }
    }
}

/// The worst error of an answer.
fn error_of(answer: &Answer) -> i16 {
    let codes: Vec<i16> = match answer {
        Answer::InitProducerId(response) => vec![response.error_code],
        Answer::AddPartitionsToTxn(response) => {
            let topics = &response.results_by_topic_v3_and_below;
            topics.iter().flat_map(|t| &t.results_by_partition).map(|p| p.partition_error_code).collect()
        }
        Answer::Produce(response) => {
            response.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code).collect()
        }
        Answer::AddOffsetsToTxn(response) => vec![response.error_code],
        Answer::TxnOffsetCommit(response) => {
            response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        }
        Answer::EndTxn(response) => vec![response.error_code],
        _ => vec![-1],
    };
    let lost = codes.iter().find(|code| **code != NONE && !FULL.contains(code));
    lost.or_else(|| codes.iter().find(|code| **code != NONE)).copied().unwrap_or(NONE)
}

impl Actor for TxnProducer {
    fn act(&mut self, turn: &mut Turn<'_>) {
        // Now and then it sleeps for so long that its transaction may be over.
        if turn.rng.one_in(25) && !turn.closing {
            turn.again(200_000, 2_000_000);
            return;
        }
        turn.again(100, 20_000);
        if self.asked.is_some() {
            return;
        }
        if self.step.is_none() {
            self.step = self.choose(turn);
        }
        self.send(turn);
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if self.asked.take_if(|asked| *asked == correlation).is_none() {
            return Err(format!("answer {correlation} to nothing"));
        }
        let Some(step) = self.step.take() else { return Err("an answer without a step".to_string()) };
        match error_of(answer) {
            NONE => self.done(step, answer),
            // There is no room: the same again later. What a refused batch leaves out of order is given up.
            code if FULL.contains(&code) && !matches!(step, Step::Produce(_)) => self.step = Some(step),
            _ if self.stubborn > 0 && !turn.closing => self.stubborn -= 1,
            _ => {
                self.stubborn = if turn.rng.one_in(3) { turn.rng.range(1, 4) as u32 } else { 0 };
                self.give_up();
            }
        }
        if turn.rng.chance(70) {
            turn.again(0, 2000);
        }
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked = None;
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none() && self.step.is_none() && !(self.open && self.id.is_some())
    }
}
