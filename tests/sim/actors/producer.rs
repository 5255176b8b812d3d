//! Owns producers: plain ones that may repeat themselves, and idempotent ones that must not be stored twice.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};

use super::super::batch::{self, Sequence};
use super::super::model::{KAFKA_STORAGE_ERROR, NONE, OUT_OF_ORDER_SEQUENCE};
use super::super::proto::{topic_name, Answer, Ask};
use super::{keyed, Actor, Turn};

/// One batch on its way.
#[derive(Clone, Debug)]
struct Piece {
    topic: String,
    partition: i32,
    bytes: Bytes,
}

/// One request's worth of batches, each of another partition.
#[derive(Debug)]
struct Load {
    /// While it is in flight.
    correlation: Option<i32>,
    pieces: Vec<Piece>,
}

/// A producer.
#[derive(Debug)]
pub struct Producer {
    idempotent: bool,
    /// Producer id and epoch, once given.
    id: Option<(i64, i16)>,
    asked_id: Option<i32>,
    sequences: BTreeMap<(String, i32), i32>,
    loads: VecDeque<Load>,
    in_flight_max: usize,
    value_bytes_max: u64,
    acks: i16,
    /// It writes to compacted topics.
    keyed: bool,
    /// Something failed: whatever is left is sent again once nothing is in flight.
    recovering: bool,
}

impl Producer {
    pub fn new(idempotent: bool, in_flight_max: usize, value_bytes_max: u64, acks: i16, keyed: bool) -> Producer {
        Producer {
            idempotent,
            id: None,
            asked_id: None,
            sequences: BTreeMap::new(),
            loads: VecDeque::new(),
            in_flight_max,
            value_bytes_max,
            acks,
            keyed,
            recovering: false,
        }
    }

    fn in_flight(&self) -> usize {
        self.loads.iter().filter(|load| load.correlation.is_some()).count()
    }

    fn make_load(&mut self, turn: &mut Turn<'_>) -> Option<Load> {
        let topics = if self.keyed { turn.compacted() } else { turn.topics(self.idempotent) };
        let mut pieces: Vec<Piece> = Vec::new();
        for _ in 0..turn.rng.range(1, 3) {
            let (topic, partitions) = turn.rng.pick(&topics)?.clone();
            let partition = turn.rng.below(partitions.max(1) as u64) as i32;
            if pieces.iter().any(|piece| piece.topic == topic && piece.partition == partition) {
                continue;
            }
            let count = turn.rng.range(1, 6) as usize;
            let now = turn.now.wall_ms;
            let timestamps: Vec<i64> = (0..count).map(|_| now - 1000 + turn.rng.below(2000) as i64).collect();
            let sequence = self.id.map(|(producer, epoch)| {
                let next = self.sequences.entry((topic.clone(), partition)).or_default();
                *next += count as i32;
                Sequence { producer, epoch, first: *next - count as i32 }
            });
            let tag = turn.ids.tag();
            let value_bytes = turn.rng.below(self.value_bytes_max) as usize;
            let bytes = match self.keyed {
                true => keyed::batch(turn.rng, tag, sequence, &timestamps, value_bytes),
                false => batch::build(tag, sequence, &timestamps, value_bytes),
            };
            let bytes = turn.packed(bytes);
            let parsed = batch::parse(&bytes).ok().and_then(|mut batches| batches.pop()).expect("what we built");
            turn.model.sends(&topic, partition, parsed);
            pieces.push(Piece { topic, partition, bytes });
        }
        Some(Load { correlation: None, pieces })
    }

    fn send(&self, turn: &mut Turn<'_>, load: &mut Load) {
        let mut topics: Vec<TopicProduceData> = Vec::new();
        for piece in &load.pieces {
            let part =
                PartitionProduceData::default().with_index(piece.partition).with_records(Some(piece.bytes.clone()));
            match topics.iter_mut().find(|topic| *topic.name.0 == *piece.topic) {
                Some(topic) => topic.partition_data.push(part),
                None => topics.push(
                    TopicProduceData::default().with_name(topic_name(&piece.topic)).with_partition_data(vec![part]),
                ),
            }
        }
        let request = ProduceRequest::default().with_acks(self.acks).with_timeout_ms(30_000).with_topic_data(topics);
        // Only from version 7 on zstd is allowed.
        let least = if load.pieces.iter().any(|piece| batch::codec(&piece.bytes) == 4) { 7 } else { 3 };
        let version = turn.rng.range(least, 12) as i16;
        load.correlation = Some(turn.send(version, Ask::Produce(request)));
    }

    fn resend(&mut self, turn: &mut Turn<'_>) {
        self.recovering = false;
        let mut loads = std::mem::take(&mut self.loads);
        if !self.idempotent && turn.rng.chance(50) {
            loads.clear();
        }
        for load in &mut loads {
            self.send(turn, load);
        }
        self.loads = loads;
    }
}

impl Actor for Producer {
    fn act(&mut self, turn: &mut Turn<'_>) {
        turn.again(100, 20_000);
        if self.idempotent && self.id.is_none() {
            if self.asked_id.is_none() && !turn.closing {
                let version = turn.rng.range(0, 4) as i16;
                let request = InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_transaction_timeout_ms(60_000)
                    .with_producer_id((-1).into())
                    .with_producer_epoch(-1);
                self.asked_id = Some(turn.send(version, Ask::InitProducerId(request)));
            }
            return;
        }
        if self.recovering || self.loads.iter().any(|load| load.correlation.is_none()) {
            if self.in_flight() == 0 {
                self.resend(turn);
            }
            return;
        }
        while !turn.closing && self.loads.len() < self.in_flight_max && turn.rng.chance(70) {
            let Some(mut load) = self.make_load(turn) else { break };
            self.send(turn, &mut load);
            if self.acks != 0 {
                self.loads.push_back(load);
            }
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, correlation: i32, answer: &Answer) -> Result<(), String> {
        if let Answer::InitProducerId(response) = answer {
            self.asked_id = None;
            if response.error_code == NONE {
                self.id = Some((response.producer_id.0, response.producer_epoch));
                self.sequences.clear();
            }
            return Ok(());
        }
        let Answer::Produce(response) = answer else { return Err(format!("a producer was told {answer:?}")) };
        let at = self.loads.iter().position(|load| load.correlation == Some(correlation));
        let Some(at) = at else { return Err(format!("answer {correlation} to nothing")) };
        let mut left = Vec::new();
        for piece in std::mem::take(&mut self.loads[at].pieces) {
            let parts = response.responses.iter().filter(|topic| *topic.name.0 == *piece.topic);
            let mut parts = parts.flat_map(|topic| &topic.partition_responses);
            let code = parts.find(|part| part.index == piece.partition).map_or(NONE, |part| part.error_code);
            let again = matches!(code, KAFKA_STORAGE_ERROR | OUT_OF_ORDER_SEQUENCE) && self.idempotent;
            if again {
                left.push(piece);
            }
        }
        if left.is_empty() {
            self.loads.remove(at);
        } else {
            self.loads[at].pieces = left;
            self.loads[at].correlation = None;
            self.recovering = true;
        }
        if turn.rng.chance(50) {
            turn.again(0, 1000);
        }
        Ok(())
    }

    fn disconnected(&mut self) {
        self.asked_id = None;
        for load in &mut self.loads {
            load.correlation = None;
        }
        self.recovering = !self.loads.is_empty();
    }

    fn is_idle(&self) -> bool {
        self.loads.is_empty() && self.asked_id.is_none()
    }
}
