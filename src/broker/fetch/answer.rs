//! Owns a fetch's answer: which partitions it tells of, and what.

use super::session::{News, Told};
use super::{Fetch, Found, Part, TopicKey};
use crate::broker::log::PartitionLog;
use crate::broker::{Broker, Insert, Now};
use crate::canary::{self, Fault};
use crate::wire::msg::{
    AbortedTransaction, FetchEpochEndOffset, FetchLeaderIdAndEpoch, FetchPartitionData, FetchResponse,
    FetchableTopicResponse,
};
use crate::wire::{frame, ErrorCode, RecordSet, Uuid};

/// Record data in memory that is at least so long is sent from where it is; shorter ones are copied into the answer.
const INSERTED_BYTES_MIN: usize = 4 << 10;

/// Whether there is nothing to tell until somebody changes the partition.
pub(super) fn news_is_idle(found: &Found) -> bool {
    matches!(found, Found::Idle)
}

impl Broker {
    pub(super) fn answer(&mut self, now: Now, fetch: Fetch, found: Vec<Found>) {
        let news: Vec<News> = fetch.parts.iter().zip(&found).map(|(part, found)| self.news(part, found)).collect();
        // Partitions that are not there stand last, as in Kafka.
        let mut order: Vec<usize> = (0..fetch.parts.len()).collect();
        order.sort_by_key(|place| fetch.parts[*place].is_absent());
        let settled = self.settle(now, &fetch, order, &news);
        let mut inserts = Vec::new();
        let mut responses: Vec<FetchableTopicResponse<'_>> = Vec::new();
        let mut last: Option<&TopicKey> = None;
        for place in settled.told {
            let part = &fetch.parts[place];
            let data = self.partition_data(&fetch, part, &found[place], news[place].told, &mut inserts);
            match responses.last_mut().filter(|_| last == Some(&part.topic)) {
                Some(topic) => topic.partitions.push(data),
                None => responses.push(topic_response(&part.topic, data)),
            }
            last = Some(&part.topic);
        }
        let response = FetchResponse {
            error_code: settled.error_code,
            session_id: settled.session_id,
            responses,
            ..Default::default()
        };
        let encoded = frame::response(fetch.to.version, fetch.to.correlation_id, &response);
        self.send_after(self.gather.meta_seq(), fetch.to, encoded, &inserts);
        self.note_told(&fetch.parts, &found);
    }

    /// What an answer says of a partition.
    pub(super) fn news(&self, part: &Part, found: &Found) -> News {
        let log = self.log_of(part).filter(|_| !matches!(found, Found::Refused(_) | Found::Absent(_)));
        let told = log.map_or(Told::NOTHING, |log| Told {
            high_watermark: log.high_watermark,
            last_stable_offset: log.last_stable_offset(),
            log_start_offset: log.start_offset,
        });
        News {
            told,
            has_records: found.bytes() > 0,
            is_alarm: matches!(found, Found::Refused(_) | Found::Absent(_) | Found::Diverged(..)),
            is_idle: news_is_idle(found),
        }
    }

    fn log_of(&self, part: &Part) -> Option<&PartitionLog> {
        part.id().and_then(|id| self.topics.partition(id)).map(|partition| &partition.log)
    }

    fn partition_data<'a>(
        &self,
        fetch: &Fetch,
        part: &Part,
        found: &'a Found,
        told: Told,
        inserts: &mut Vec<Vec<Insert>>,
    ) -> FetchPartitionData<'a> {
        let committed = fetch.reader.read_committed;
        let mut data = FetchPartitionData {
            partition_index: part.partition,
            high_watermark: told.high_watermark,
            last_stable_offset: told.last_stable_offset,
            log_start_offset: told.log_start_offset,
            aborted_transactions: committed.then(|| self.aborted_in(part, found)),
            records: RecordSet::Bytes(&[]),
            ..Default::default()
        };
        match found {
            Found::Absent(error) => {
                data.error_code = *error;
                data.aborted_transactions = Some(Vec::new());
            }
            Found::Refused(error) => {
                data.error_code = *error;
                data.aborted_transactions = None;
                data.current_leader = self.leader_for(fetch.to.version, part, *error);
            }
            Found::Diverged(epoch, end_offset) => {
                data.aborted_transactions = None;
                data.diverging_epoch = FetchEpochEndOffset { epoch: *epoch, end_offset: *end_offset };
            }
            Found::Splices(found) => {
                data.records = RecordSet::External { tag: inserts.len() as u32, len: found.bytes as u32 };
                inserts.push(found.places.iter().cloned().map(Insert::Log).collect());
            }
            Found::Converted(bytes, _) if bytes.len() >= INSERTED_BYTES_MIN => {
                data.records = RecordSet::External { tag: inserts.len() as u32, len: bytes.len() as u32 };
                inserts.push(vec![Insert::Memory(bytes.clone())]);
            }
            Found::Converted(bytes, _) => data.records = RecordSet::Bytes(bytes),
            Found::Idle | Found::Nothing | Found::Cold(_) => {}
        }
        data
    }

    /// KIP-951: who leads, for clients that seem not to know.
    fn leader_for(&self, version: i16, part: &Part, error: ErrorCode) -> FetchLeaderIdAndEpoch {
        let asks = matches!(error, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH);
        match self.log_of(part).filter(|_| asks && version >= 16) {
            Some(log) => {
                FetchLeaderIdAndEpoch { leader_id: self.settings.config.node_id, leader_epoch: log.leader_epoch }
            }
            None => FetchLeaderIdAndEpoch::default(),
        }
    }

    /// The aborted transactions that have batches among what was found.
    fn aborted_in(&self, part: &Part, found: &Found) -> Vec<AbortedTransaction> {
        let end = match found {
            Found::Splices(found) => found.end,
            Found::Converted(_, end) => *end,
            _ => return Vec::new(),
        };
        if canary::has(Fault::AbortedShown) {
            return Vec::new();
        }
        let aborted = self.log_of(part).into_iter().flat_map(|log| log.txns.aborted_in(part.want.offset, end));
        let aborted =
            aborted.map(|txn| AbortedTransaction { producer_id: txn.producer_id, first_offset: txn.first_offset });
        aborted.collect()
    }
}

fn topic_response<'a>(topic: &'a TopicKey, data: FetchPartitionData<'a>) -> FetchableTopicResponse<'a> {
    let (topic, topic_id): (&str, Uuid) = match topic {
        TopicKey::Name(name) => (name, Uuid::default()),
        TopicKey::Id(id) => ("", *id),
    };
    FetchableTopicResponse { topic, topic_id, partitions: vec![data] }
}
