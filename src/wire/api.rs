//! Owns the table of APIs: their keys, names, versions, and from which version on they are flexible.

use std::fmt;
use std::ops::RangeInclusive;

/// The number that a request names its API by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKey(pub i16);

/// One API as this codec describes it. Which APIs and versions are served is the broker's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// Its key.
    pub key: ApiKey,
    /// Kafka's name for it, as in `ApiVersions`.
    pub name: &'static str,
    /// The oldest version described.
    pub min: i16,
    /// The newest version described; those above `stable` are for codec tests only.
    pub max: i16,
    /// The newest version that Kafka calls stable: a broker must advertise none above it.
    pub stable: i16,
    /// The first version with compact lengths and tagged fields (KIP-482), if there is one.
    pub flexible: Option<i16>,
}

impl Api {
    /// Whether the codec describes this version.
    pub const fn describes(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// All versions described.
    pub const fn versions(&self) -> RangeInclusive<i16> {
        self.min..=self.max
    }

    /// Whether a version has compact lengths and tagged fields. True as well for versions newer than those
    /// described, so that the header of a request from the future can be read.
    pub const fn is_flexible(&self, version: i16) -> bool {
        match self.flexible {
            Some(first) => version >= first,
            None => false,
        }
    }

    /// The version of the request header that stands before a request of this version.
    pub const fn request_header(&self, version: i16) -> i16 {
        if self.is_flexible(version) {
            2
        } else {
            1
        }
    }

    /// The version of the response header. ApiVersions always has the oldest, because its client can't know yet
    /// what the broker speaks (KIP-511).
    pub const fn response_header(&self, version: i16) -> i16 {
        if self.is_flexible(version) && self.key.0 != ApiKey::API_VERSIONS.0 {
            1
        } else {
            0
        }
    }
}

impl ApiKey {
    /// The API's row of the table, or None if the codec doesn't describe it.
    #[inline]
    pub const fn api(self) -> Option<&'static Api> {
        // The rows are in the order of their keys, but keys between brokers only are missing.
        let mut i = if self.0 < TABLE.len() as i16 { self.0 } else { TABLE.len() as i16 - 1 };
        while i >= 0 {
            if TABLE[i as usize].key.0 == self.0 {
                return Some(&TABLE[i as usize]);
            }
            i -= 1;
        }
        None
    }

    /// The row of a key that has one; only for constants, where a missing row is an error of the compiler.
    pub(super) const fn described(self) -> &'static Api {
        match self.api() {
            Some(api) => api,
            None => panic!("no row in the API table"),
        }
    }

    /// The API's name, also for those that only brokers call among themselves; None for a number that Kafka doesn't use.
    pub fn name(self) -> Option<&'static str> {
        match self.api() {
            Some(api) => Some(api.name),
            None => INTERNAL.iter().find(|(key, _)| *key == self.0).map(|(_, name)| *name),
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "API {}", self.0),
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}({})", self.0)
    }
}

/// Writes the table and the keys' constants; a row is: constant, key, name, versions, `stable` where the newest isn't, `flexible` where some are.
macro_rules! apis {
    ($( $constant:ident $key:literal $name:literal $min:literal..=$max:literal
        $(stable $stable:literal)? $(flexible $flexible:literal)?; )*) => {
        #[allow(missing_docs)]
        impl ApiKey {
            $( pub const $constant: ApiKey = ApiKey($key); )*
        }

        /// Every API described, in rising order of their keys.
        pub const TABLE: &[Api] = &[ $( Api {
            key: ApiKey($key),
            name: $name,
            min: $min,
            max: $max,
            stable: apis!(@last $max $($stable)?),
            flexible: apis!(@option $($flexible)?),
        }, )* ];
    };
    (@last $max:literal) => { $max };
    (@last $max:literal $stable:literal) => { $stable };
    (@option) => { None };
    (@option $value:literal) => { Some($value) };
}

apis! {
    PRODUCE 0 "Produce" 0..=13 flexible 9;
    FETCH 1 "Fetch" 0..=18 flexible 12;
    LIST_OFFSETS 2 "ListOffsets" 0..=11 flexible 6;
    METADATA 3 "Metadata" 0..=13 flexible 9;
    OFFSET_COMMIT 8 "OffsetCommit" 0..=10 flexible 8;
    OFFSET_FETCH 9 "OffsetFetch" 0..=10 flexible 6;
    FIND_COORDINATOR 10 "FindCoordinator" 0..=6 flexible 3;
    JOIN_GROUP 11 "JoinGroup" 0..=9 flexible 6;
    HEARTBEAT 12 "Heartbeat" 0..=4 flexible 4;
    LEAVE_GROUP 13 "LeaveGroup" 0..=5 flexible 4;
    SYNC_GROUP 14 "SyncGroup" 0..=5 flexible 4;
    DESCRIBE_GROUPS 15 "DescribeGroups" 0..=6 flexible 5;
    LIST_GROUPS 16 "ListGroups" 0..=5 flexible 3;
    SASL_HANDSHAKE 17 "SaslHandshake" 0..=1;
    API_VERSIONS 18 "ApiVersions" 0..=5 flexible 3;
    CREATE_TOPICS 19 "CreateTopics" 0..=7 flexible 5;
    DELETE_TOPICS 20 "DeleteTopics" 0..=6 flexible 4;
    DELETE_RECORDS 21 "DeleteRecords" 0..=2 flexible 2;
    INIT_PRODUCER_ID 22 "InitProducerId" 0..=6 stable 5 flexible 2;
    OFFSET_FOR_LEADER_EPOCH 23 "OffsetForLeaderEpoch" 0..=4 flexible 4;
    ADD_PARTITIONS_TO_TXN 24 "AddPartitionsToTxn" 0..=5 flexible 3;
    ADD_OFFSETS_TO_TXN 25 "AddOffsetsToTxn" 0..=4 flexible 3;
    END_TXN 26 "EndTxn" 0..=5 flexible 3;
    WRITE_TXN_MARKERS 27 "WriteTxnMarkers" 0..=2 flexible 1;
    TXN_OFFSET_COMMIT 28 "TxnOffsetCommit" 0..=6 flexible 3;
    DESCRIBE_ACLS 29 "DescribeAcls" 0..=3 flexible 2;
    CREATE_ACLS 30 "CreateAcls" 0..=3 flexible 2;
    DELETE_ACLS 31 "DeleteAcls" 0..=3 flexible 2;
    DESCRIBE_CONFIGS 32 "DescribeConfigs" 0..=4 flexible 4;
    ALTER_CONFIGS 33 "AlterConfigs" 0..=2 flexible 2;
    ALTER_REPLICA_LOG_DIRS 34 "AlterReplicaLogDirs" 0..=2 flexible 2;
    DESCRIBE_LOG_DIRS 35 "DescribeLogDirs" 0..=5 flexible 2;
    SASL_AUTHENTICATE 36 "SaslAuthenticate" 0..=2 flexible 2;
    CREATE_PARTITIONS 37 "CreatePartitions" 0..=3 flexible 2;
    CREATE_DELEGATION_TOKEN 38 "CreateDelegationToken" 0..=3 flexible 2;
    RENEW_DELEGATION_TOKEN 39 "RenewDelegationToken" 0..=2 flexible 2;
    EXPIRE_DELEGATION_TOKEN 40 "ExpireDelegationToken" 0..=2 flexible 2;
    DESCRIBE_DELEGATION_TOKEN 41 "DescribeDelegationToken" 0..=3 flexible 2;
    DELETE_GROUPS 42 "DeleteGroups" 0..=3 flexible 2;
    ELECT_LEADERS 43 "ElectLeaders" 0..=2 flexible 2;
    INCREMENTAL_ALTER_CONFIGS 44 "IncrementalAlterConfigs" 0..=1 flexible 1;
    ALTER_PARTITION_REASSIGNMENTS 45 "AlterPartitionReassignments" 0..=1 flexible 0;
    LIST_PARTITION_REASSIGNMENTS 46 "ListPartitionReassignments" 0..=0 flexible 0;
    OFFSET_DELETE 47 "OffsetDelete" 0..=0;
    DESCRIBE_CLIENT_QUOTAS 48 "DescribeClientQuotas" 0..=1 flexible 1;
    ALTER_CLIENT_QUOTAS 49 "AlterClientQuotas" 0..=1 flexible 1;
    DESCRIBE_USER_SCRAM_CREDENTIALS 50 "DescribeUserScramCredentials" 0..=0 flexible 0;
    ALTER_USER_SCRAM_CREDENTIALS 51 "AlterUserScramCredentials" 0..=0 flexible 0;
    DESCRIBE_QUORUM 55 "DescribeQuorum" 0..=2 flexible 0;
    UPDATE_FEATURES 57 "UpdateFeatures" 0..=2 flexible 0;
    DESCRIBE_CLUSTER 60 "DescribeCluster" 0..=2 flexible 0;
    DESCRIBE_PRODUCERS 61 "DescribeProducers" 0..=0 flexible 0;
    UNREGISTER_BROKER 64 "UnregisterBroker" 0..=0 flexible 0;
    DESCRIBE_TRANSACTIONS 65 "DescribeTransactions" 0..=0 flexible 0;
    LIST_TRANSACTIONS 66 "ListTransactions" 0..=2 flexible 0;
    CONSUMER_GROUP_HEARTBEAT 68 "ConsumerGroupHeartbeat" 0..=1 flexible 0;
    CONSUMER_GROUP_DESCRIBE 69 "ConsumerGroupDescribe" 0..=1 flexible 0;
    GET_TELEMETRY_SUBSCRIPTIONS 71 "GetTelemetrySubscriptions" 0..=0 flexible 0;
    PUSH_TELEMETRY 72 "PushTelemetry" 0..=0 flexible 0;
    LIST_CONFIG_RESOURCES 74 "ListConfigResources" 0..=1 flexible 0;
    DESCRIBE_TOPIC_PARTITIONS 75 "DescribeTopicPartitions" 0..=0 flexible 0;
    SHARE_GROUP_HEARTBEAT 76 "ShareGroupHeartbeat" 0..=1 flexible 0;
    SHARE_GROUP_DESCRIBE 77 "ShareGroupDescribe" 0..=1 flexible 0;
    SHARE_FETCH 78 "ShareFetch" 0..=2 flexible 0;
    SHARE_ACKNOWLEDGE 79 "ShareAcknowledge" 0..=2 flexible 0;
    ADD_RAFT_VOTER 80 "AddRaftVoter" 0..=1 flexible 0;
    REMOVE_RAFT_VOTER 81 "RemoveRaftVoter" 0..=0 flexible 0;
    INITIALIZE_SHARE_GROUP_STATE 83 "InitializeShareGroupState" 0..=0 flexible 0;
    READ_SHARE_GROUP_STATE 84 "ReadShareGroupState" 0..=0 flexible 0;
    WRITE_SHARE_GROUP_STATE 85 "WriteShareGroupState" 0..=1 flexible 0;
    DELETE_SHARE_GROUP_STATE 86 "DeleteShareGroupState" 0..=0 flexible 0;
    READ_SHARE_GROUP_STATE_SUMMARY 87 "ReadShareGroupStateSummary" 0..=1 flexible 0;
    STREAMS_GROUP_HEARTBEAT 88 "StreamsGroupHeartbeat" 0..=1 flexible 0;
    STREAMS_GROUP_DESCRIBE 89 "StreamsGroupDescribe" 0..=1 flexible 0;
    DESCRIBE_SHARE_GROUP_OFFSETS 90 "DescribeShareGroupOffsets" 0..=1 flexible 0;
    ALTER_SHARE_GROUP_OFFSETS 91 "AlterShareGroupOffsets" 0..=0 flexible 0;
    DELETE_SHARE_GROUP_OFFSETS 92 "DeleteShareGroupOffsets" 0..=0 flexible 0;
    STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE 93 "StreamsGroupTopologyDescriptionUpdate" 0..=0 flexible 0;
    UNREGISTER_CONTROLLER 94 "UnregisterController" 0..=0 flexible 0;
}

/// APIs that only brokers and controllers call: known by name, for the log, and not described.
const INTERNAL: &[(i16, &str)] = &[
    (4, "LeaderAndIsr"),
    (5, "StopReplica"),
    (6, "UpdateMetadata"),
    (7, "ControlledShutdown"),
    (52, "Vote"),
    (53, "BeginQuorumEpoch"),
    (54, "EndQuorumEpoch"),
    (56, "AlterPartition"),
    (58, "Envelope"),
    (59, "FetchSnapshot"),
    (62, "BrokerRegistration"),
    (63, "BrokerHeartbeat"),
    (67, "AllocateProducerIds"),
    (70, "ControllerRegistration"),
    (73, "AssignReplicasToDirs"),
    (82, "UpdateRaftVoter"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_key() {
        for row in TABLE {
            assert_eq!(row.key.api(), Some(row));
            assert!(row.min <= row.stable && row.stable <= row.max);
        }
        assert!(TABLE.windows(2).all(|pair| pair[0].key < pair[1].key));
        for key in [-1, i16::MIN, i16::MAX, 4, 95] {
            assert_eq!(ApiKey(key).api(), None);
        }
    }

    #[test]
    fn every_key_up_to_the_newest_has_a_name() {
        for key in 0..=94 {
            assert!(ApiKey(key).name().is_some(), "{key}");
        }
        assert_eq!(ApiKey(95).name(), None);
        assert_eq!(ApiKey(95).to_string(), "API 95");
        assert_eq!(ApiKey(4).to_string(), "LeaderAndIsr");
    }
}
