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
    ApiKey::SASL_HANDSHAKE,
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
    ApiKey::DESCRIBE_ACLS,
    ApiKey::CREATE_ACLS,
    ApiKey::DELETE_ACLS,
    ApiKey::DESCRIBE_CONFIGS,
    ApiKey::ALTER_CONFIGS,
    ApiKey::ALTER_REPLICA_LOG_DIRS,
    ApiKey::DESCRIBE_LOG_DIRS,
    ApiKey::SASL_AUTHENTICATE,
    ApiKey::CREATE_PARTITIONS,
    ApiKey::CREATE_DELEGATION_TOKEN,
    ApiKey::RENEW_DELEGATION_TOKEN,
    ApiKey::EXPIRE_DELEGATION_TOKEN,
    ApiKey::DESCRIBE_DELEGATION_TOKEN,
    ApiKey::DELETE_GROUPS,
    ApiKey::ELECT_LEADERS,
    ApiKey::INCREMENTAL_ALTER_CONFIGS,
    ApiKey::ALTER_PARTITION_REASSIGNMENTS,
    ApiKey::LIST_PARTITION_REASSIGNMENTS,
    ApiKey::OFFSET_DELETE,
    ApiKey::DESCRIBE_USER_SCRAM_CREDENTIALS,
    ApiKey::ALTER_USER_SCRAM_CREDENTIALS,
    ApiKey::DESCRIBE_QUORUM,
    ApiKey::UPDATE_FEATURES,
    ApiKey::DESCRIBE_CLUSTER,
    ApiKey::DESCRIBE_PRODUCERS,
    ApiKey::UNREGISTER_BROKER,
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
    ApiKey::ADD_RAFT_VOTER,
    ApiKey::REMOVE_RAFT_VOTER,
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

/// Answered, but not advertised, as by a Kafka without a telemetry plugin: clients that see them would push metrics.
const QUIET: &[ApiKey] = &[ApiKey::GET_TELEMETRY_SUBSCRIPTIONS, ApiKey::PUSH_TELEMETRY];

/// What is to be said of an API: why it is not served, or what its answers are as long as something else is missing.
pub const REMARKS: &[(ApiKey, &str)] = &[
    (ApiKey::SASL_HANDSHAKE, "ILLEGAL_SASL_STATE: no listener asks for SASL."),
    (ApiKey::DESCRIBE_ACLS, "SECURITY_DISABLED: there is no authorizer."),
    (ApiKey::CREATE_ACLS, "SECURITY_DISABLED: there is no authorizer."),
    (ApiKey::DELETE_ACLS, "SECURITY_DISABLED: there is no authorizer."),
    (ApiKey::SASL_AUTHENTICATE, "ILLEGAL_SASL_STATE: no listener asks for SASL."),
    (ApiKey::CREATE_DELEGATION_TOKEN, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED: no listener asks for SASL."),
    (ApiKey::RENEW_DELEGATION_TOKEN, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED: no listener asks for SASL."),
    (ApiKey::EXPIRE_DELEGATION_TOKEN, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED: no listener asks for SASL."),
    (ApiKey::DESCRIBE_DELEGATION_TOKEN, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED: no listener asks for SASL."),
    (ApiKey::DESCRIBE_CLIENT_QUOTAS, "Quotas are not enforced in this version."),
    (ApiKey::ALTER_CLIENT_QUOTAS, "Quotas are not enforced in this version."),
    (ApiKey::GET_TELEMETRY_SUBSCRIPTIONS, "Not advertised, but answered: no metrics are asked for."),
    (ApiKey::PUSH_TELEMETRY, "Not advertised, but answered: what is pushed is dropped."),
    (ApiKey::ADD_RAFT_VOTER, "UNSUPPORTED_VERSION: the quorum is this node."),
    (ApiKey::REMOVE_RAFT_VOTER, "UNSUPPORTED_VERSION: the quorum is this node."),
    (ApiKey::UNREGISTER_CONTROLLER, "The quorum is this node; Kafka 4.3 has no such API."),
];

/// What is to be said of an API that is not served and has no remark.
pub const NOT_SERVED: &str = "Not available in this version.";

/// All advertised APIs with their versions.
pub fn served() -> impl Iterator<Item = Served> {
    KEYS.iter().filter_map(|key| {
        let api = key.api()?;
        Some(Served { key: *key, min: first(*key, api.min), max: api.stable })
    })
}

/// Whether a request of this version is served.
pub fn is_served(key: ApiKey, version: i16) -> bool {
    (KEYS.contains(&key) || QUIET.contains(&key))
        && key.api().is_some_and(|api| (first(key, api.min)..=api.stable).contains(&version))
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
