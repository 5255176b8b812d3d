//! Owns which APIs and versions the broker serves: what ApiVersions tells, and what `dispatch` lets in.

use crate::wire::ApiKey;

/// An API that is served, from its oldest described version to its newest stable one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    pub key: ApiKey,
    pub min: i16,
    pub max: i16,
}

/// Every API that is served, in the order of their keys.
const KEYS: &[ApiKey] = &[
    ApiKey::PRODUCE,
    ApiKey::FETCH,
    ApiKey::LIST_OFFSETS,
    ApiKey::METADATA,
    ApiKey::OFFSET_COMMIT,
    ApiKey::OFFSET_FETCH,
    ApiKey::FIND_COORDINATOR,
    ApiKey::JOIN_GROUP,
    ApiKey::HEARTBEAT,
    ApiKey::LEAVE_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::DESCRIBE_GROUPS,
    ApiKey::LIST_GROUPS,
    ApiKey::API_VERSIONS,
    ApiKey::CREATE_TOPICS,
    ApiKey::DELETE_TOPICS,
    ApiKey::DELETE_RECORDS,
    ApiKey::INIT_PRODUCER_ID,
    ApiKey::OFFSET_FOR_LEADER_EPOCH,
    ApiKey::ADD_PARTITIONS_TO_TXN,
    ApiKey::ADD_OFFSETS_TO_TXN,
    ApiKey::END_TXN,
    ApiKey::WRITE_TXN_MARKERS,
    ApiKey::TXN_OFFSET_COMMIT,
    ApiKey::DESCRIBE_CONFIGS,
    ApiKey::ALTER_CONFIGS,
    ApiKey::DESCRIBE_LOG_DIRS,
    ApiKey::CREATE_PARTITIONS,
    ApiKey::DELETE_GROUPS,
    ApiKey::ELECT_LEADERS,
    ApiKey::INCREMENTAL_ALTER_CONFIGS,
    ApiKey::ALTER_PARTITION_REASSIGNMENTS,
    ApiKey::LIST_PARTITION_REASSIGNMENTS,
    ApiKey::OFFSET_DELETE,
    ApiKey::UPDATE_FEATURES,
    ApiKey::DESCRIBE_CLUSTER,
    ApiKey::DESCRIBE_PRODUCERS,
    ApiKey::DESCRIBE_TRANSACTIONS,
    ApiKey::LIST_TRANSACTIONS,
    ApiKey::CONSUMER_GROUP_HEARTBEAT,
    ApiKey::CONSUMER_GROUP_DESCRIBE,
    ApiKey::LIST_CONFIG_RESOURCES,
    ApiKey::DESCRIBE_TOPIC_PARTITIONS,
    ApiKey::SHARE_GROUP_HEARTBEAT,
    ApiKey::SHARE_GROUP_DESCRIBE,
    ApiKey::SHARE_FETCH,
    ApiKey::SHARE_ACKNOWLEDGE,
    ApiKey::INITIALIZE_SHARE_GROUP_STATE,
    ApiKey::READ_SHARE_GROUP_STATE,
    ApiKey::WRITE_SHARE_GROUP_STATE,
    ApiKey::DELETE_SHARE_GROUP_STATE,
    ApiKey::READ_SHARE_GROUP_STATE_SUMMARY,
    ApiKey::DESCRIBE_SHARE_GROUP_OFFSETS,
    ApiKey::ALTER_SHARE_GROUP_OFFSETS,
    ApiKey::DELETE_SHARE_GROUP_OFFSETS,
];

/// Version 0 of these was a trial in Kafka 4.0, which it took back.
const FROM_VERSION_1: [ApiKey; 4] =
    [ApiKey::SHARE_GROUP_HEARTBEAT, ApiKey::SHARE_GROUP_DESCRIBE, ApiKey::SHARE_FETCH, ApiKey::SHARE_ACKNOWLEDGE];

/// All served APIs with their versions.
pub fn served() -> impl Iterator<Item = Served> {
    KEYS.iter().filter_map(|key| {
        let api = key.api()?;
        Some(Served { key: *key, min: first(*key, api.min), max: api.stable })
    })
}

/// Whether a request of this version is served.
pub fn is_served(key: ApiKey, version: i16) -> bool {
    KEYS.contains(&key) && key.api().is_some_and(|api| (first(key, api.min)..=api.stable).contains(&version))
}

/// The first version that is served of those that are described.
fn first(key: ApiKey, described: i16) -> i16 {
    described.max(i16::from(FROM_VERSION_1.contains(&key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apis_stand_in_the_order_of_their_keys_and_are_all_described() {
        assert!(KEYS.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(served().count(), KEYS.len());
    }

    #[test]
    fn versions_that_kafka_calls_unstable_are_described_but_not_served() {
        for served in served() {
            let api = served.key.api().unwrap();
            assert!(!is_served(served.key, api.stable + 1), "{}", api.name);
        }
    }
}
