//! Owns what a Fetch request says: which partitions are wanted, and by whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::session::Reader;
use super::{TopicKey, Want};
use crate::broker::Broker;
use crate::limits;
use crate::wire::msg::{FetchPartitionData, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse};
use crate::wire::{ErrorCode, RecordSet, Uuid};

/// A partition that a request names, and what is wanted of it.
pub type Wanted = (TopicKey, i32, Want);

/// Whether this version names topics by id.
pub fn is_by_id(version: i16) -> bool {
    version >= 13
}

/// Who asks. Whoever gives a replica's number is a follower, as in Kafka.
pub fn reader(request: &FetchRequest<'_>, version: i16) -> Reader {
    let replica = if version < 15 { request.replica_id } else { request.replica_state.replica_id };
    Reader { read_committed: request.isolation_level == 1, is_follower: replica >= 0 }
}

/// Kafka's answer to an isolation level that there is not: the error once for all, and where topics have names, for each.
pub fn refused<'a>(request: &FetchRequest<'a>, version: i16) -> FetchResponse<'a> {
    let error_code = ErrorCode::UNKNOWN_SERVER_ERROR;
    let of_partition = |partition_index| FetchPartitionData {
        partition_index,
        error_code,
        high_watermark: -1,
        aborted_transactions: Some(Vec::new()),
        records: RecordSet::Bytes(&[]),
        ..Default::default()
    };
    let named = request.topics.iter().filter(|_| !is_by_id(version));
    let responses = named.map(|topic| FetchableTopicResponse {
        topic: topic.topic,
        partitions: topic.partitions.iter().map(|want| of_partition(want.partition)).collect(),
        ..Default::default()
    });
    FetchResponse { error_code, responses: responses.collect(), ..Default::default() }
}

/// Whether a topic's name is longer than any can be: a session does not keep such things.
pub fn has_impossible_names(request: &FetchRequest<'_>) -> bool {
    request.topics.iter().any(|topic| topic.topic.len() > limits::TOPIC_NAME_BYTES_MAX)
}

impl Broker {
    /// What the request names, in its order. Of a partition that it names twice, the first place and the last word count,
    /// as in Kafka.
    pub(super) fn wanted(&self, request: &FetchRequest<'_>, version: i16) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut seen = may_repeat(&request.topics).then(BTreeMap::new);
        for topic in &request.topics {
            let key = self.topic_key(version, topic.topic, topic.topic_id);
            for sent in &topic.partitions {
                let want = Want::from(sent);
                let place = wanted.len();
                if let Some(seen) = &mut seen {
                    let before = *seen.entry((topic.topic, topic.topic_id, sent.partition)).or_insert(place);
                    if before < place {
                        wanted[before].2 = want;
                        continue;
                    }
                }
                wanted.push((key.clone(), sent.partition, want));
            }
        }
        wanted
    }

    /// The topic as this version names it. Names are shared with the topic itself where there is one.
    pub(super) fn topic_key(&self, version: i16, name: &str, id: Uuid) -> TopicKey {
        if is_by_id(version) {
            return TopicKey::Id(id);
        }
        TopicKey::Name(self.topics.by_name(name).map_or_else(|| Arc::from(name), |topic| topic.name.clone()))
    }
}

/// False when each partition certainly stands there once: one topic, or each topic once, and its partitions rising.
fn may_repeat(topics: &[FetchTopic<'_>]) -> bool {
    let rises = |topic: &FetchTopic<'_>| topic.partitions.windows(2).all(|pair| pair[0].partition < pair[1].partition);
    let topics_rise =
        topics.windows(2).all(|pair| (pair[0].topic, pair[0].topic_id) < (pair[1].topic, pair[1].topic_id));
    !(topics_rise && topics.iter().all(rises))
}
