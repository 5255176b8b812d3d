//! Owns the protocol's error codes: their numbers, names and a short text for each.

use std::fmt;

/// An error code as responses carry it. Any number can arrive from the wire; those that Kafka knows have constants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    /// Whether this is [`ErrorCode::NONE`].
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether this is an error.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}({})", self.0)
    }
}

/// Writes the constants, names and texts from one table.
macro_rules! error_codes {
    ($( $name:ident $code:literal $message:literal; )*) => {
        impl ErrorCode {
            $( #[doc = $message] pub const $name: ErrorCode = ErrorCode($code); )*

            /// Every code that Kafka knows, in rising order.
            pub const ALL: &'static [ErrorCode] = &[ $( ErrorCode($code), )* ];

            /// Kafka's name for the code; None for a number that Kafka doesn't use.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $code => Some(stringify!($name)), )*
                    _ => None,
                }
            }

            /// A sentence for a person who is told nothing more particular.
            pub const fn message(self) -> &'static str {
                match self.0 {
                    $( $code => $message, )*
                    _ => "An error that this version of the protocol does not know.",
                }
            }
        }
    };
}

error_codes! {
    UNKNOWN_SERVER_ERROR -1 "The server met an error it did not expect.";
    NONE 0 "No error.";
    OFFSET_OUT_OF_RANGE 1 "The offset is outside the range of the partition's log.";
    CORRUPT_MESSAGE 2 "The record data is damaged: its checksum, size or form is wrong.";
    UNKNOWN_TOPIC_OR_PARTITION 3 "This server has no such topic or partition.";
    INVALID_FETCH_SIZE 4 "The fetch size is not valid.";
    LEADER_NOT_AVAILABLE 5 "The partition has no leader at the moment.";
    NOT_LEADER_OR_FOLLOWER 6 "This server is neither leader nor follower of the partition.";
    REQUEST_TIMED_OUT 7 "The request timed out.";
    BROKER_NOT_AVAILABLE 8 "The broker is not available.";
    REPLICA_NOT_AVAILABLE 9 "The replica is not available for the partition.";
    MESSAGE_TOO_LARGE 10 "The record data is larger than the server accepts.";
    STALE_CONTROLLER_EPOCH 11 "The controller has moved to another broker.";
    OFFSET_METADATA_TOO_LARGE 12 "The metadata of the offset is too large.";
    NETWORK_EXCEPTION 13 "The connection was lost before a response arrived.";
    COORDINATOR_LOAD_IN_PROGRESS 14 "The coordinator is loading and can't answer yet.";
    COORDINATOR_NOT_AVAILABLE 15 "The coordinator is not available.";
    NOT_COORDINATOR 16 "This server is not the coordinator.";
    INVALID_TOPIC_EXCEPTION 17 "The topic's name is not valid.";
    RECORD_LIST_TOO_LARGE 18 "The batch is larger than a segment of the server's log.";
    NOT_ENOUGH_REPLICAS 19 "There are fewer replicas in sync than required.";
    NOT_ENOUGH_REPLICAS_AFTER_APPEND 20 "The records were written, but to fewer replicas than required.";
    INVALID_REQUIRED_ACKS 21 "The number of acknowledgements asked for is not valid.";
    ILLEGAL_GENERATION 22 "The group's generation is another one.";
    INCONSISTENT_GROUP_PROTOCOL 23 "The member's protocols don't fit those of the group.";
    INVALID_GROUP_ID 24 "The group's id is not valid.";
    UNKNOWN_MEMBER_ID 25 "The group has no such member.";
    INVALID_SESSION_TIMEOUT 26 "The session timeout is outside the range that the server allows.";
    REBALANCE_IN_PROGRESS 27 "The group is rebalancing: the member must join again.";
    INVALID_COMMIT_OFFSET_SIZE 28 "The committed offset's data is not valid in size.";
    TOPIC_AUTHORIZATION_FAILED 29 "Access to the topic is not allowed.";
    GROUP_AUTHORIZATION_FAILED 30 "Access to the group is not allowed.";
    CLUSTER_AUTHORIZATION_FAILED 31 "Access to the cluster is not allowed.";
    INVALID_TIMESTAMP 32 "The timestamp is outside the range that the server accepts.";
    UNSUPPORTED_SASL_MECHANISM 33 "The server doesn't support this SASL mechanism.";
    ILLEGAL_SASL_STATE 34 "The request doesn't fit the connection's SASL state.";
    UNSUPPORTED_VERSION 35 "The server doesn't support this version of the request.";
    TOPIC_ALREADY_EXISTS 36 "There is a topic of this name.";
    INVALID_PARTITIONS 37 "The number of partitions is not valid.";
    INVALID_REPLICATION_FACTOR 38 "The replication factor is below 1 or above the number of brokers.";
    INVALID_REPLICA_ASSIGNMENT 39 "The assignment of replicas is not valid.";
    INVALID_CONFIG 40 "The configuration is not valid.";
    NOT_CONTROLLER 41 "This server is not the controller.";
    INVALID_REQUEST 42 "The request makes no sense: its fields contradict each other or the protocol.";
    UNSUPPORTED_FOR_MESSAGE_FORMAT 43 "The server's message format doesn't support the request.";
    POLICY_VIOLATION 44 "The request violates the server's policy.";
    OUT_OF_ORDER_SEQUENCE_NUMBER 45 "The producer's sequence number is out of order.";
    DUPLICATE_SEQUENCE_NUMBER 46 "The producer's sequence number was used before.";
    INVALID_PRODUCER_EPOCH 47 "The producer's epoch is an old one.";
    INVALID_TXN_STATE 48 "The transaction is in a state that doesn't allow the operation.";
    INVALID_PRODUCER_ID_MAPPING 49 "The producer's id is not the one assigned to its transactional id.";
    INVALID_TRANSACTION_TIMEOUT 50 "The transaction timeout is above what the server allows.";
    CONCURRENT_TRANSACTIONS 51 "Another operation on the same transaction is under way.";
    TRANSACTION_COORDINATOR_FENCED 52 "The transaction coordinator that sent the marker is no longer in charge.";
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED 53 "Access to the transactional id is not allowed.";
    SECURITY_DISABLED 54 "Security features are switched off.";
    OPERATION_NOT_ATTEMPTED 55 "The operation was not tried, as another one of the batch failed.";
    KAFKA_STORAGE_ERROR 56 "The server can't reach its log on disk.";
    LOG_DIR_NOT_FOUND 57 "The server has no such log directory.";
    SASL_AUTHENTICATION_FAILED 58 "Authentication failed.";
    UNKNOWN_PRODUCER_ID 59 "The server knows nothing of this producer id.";
    REASSIGNMENT_IN_PROGRESS 60 "A reassignment of the partition is under way.";
    DELEGATION_TOKEN_AUTH_DISABLED 61 "Delegation tokens are switched off.";
    DELEGATION_TOKEN_NOT_FOUND 62 "The server has no such delegation token.";
    DELEGATION_TOKEN_OWNER_MISMATCH 63 "The principal is neither owner nor renewer of the delegation token.";
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED 64 "Delegation tokens can't be requested over this kind of connection.";
    DELEGATION_TOKEN_AUTHORIZATION_FAILED 65 "Access to the delegation token is not allowed.";
    DELEGATION_TOKEN_EXPIRED 66 "The delegation token has expired.";
    INVALID_PRINCIPAL_TYPE 67 "This kind of principal is not supported.";
    NON_EMPTY_GROUP 68 "The group has members.";
    GROUP_ID_NOT_FOUND 69 "The server has no such group.";
    FETCH_SESSION_ID_NOT_FOUND 70 "The server has no such fetch session.";
    INVALID_FETCH_SESSION_EPOCH 71 "The fetch session's epoch is another one.";
    LISTENER_NOT_FOUND 72 "The partition's leader has no listener like the one of this connection.";
    TOPIC_DELETION_DISABLED 73 "Topics can't be deleted: this is switched off.";
    FENCED_LEADER_EPOCH 74 "The leader epoch is older than the server's.";
    UNKNOWN_LEADER_EPOCH 75 "The leader epoch is newer than the server's.";
    UNSUPPORTED_COMPRESSION_TYPE 76 "The client's version doesn't allow the compression in use.";
    STALE_BROKER_EPOCH 77 "The broker's epoch is an old one.";
    OFFSET_NOT_AVAILABLE 78 "The leader's high watermark has not caught up since its election.";
    MEMBER_ID_REQUIRED 79 "The member must join again with the id that it was given.";
    PREFERRED_LEADER_NOT_AVAILABLE 80 "The preferred leader is not available.";
    GROUP_MAX_SIZE_REACHED 81 "The group has as many members as it may have.";
    FENCED_INSTANCE_ID 82 "Another member with the same instance id has taken over.";
    ELIGIBLE_LEADERS_NOT_AVAILABLE 83 "No replica that may lead is available.";
    ELECTION_NOT_NEEDED 84 "The partition needs no election.";
    NO_REASSIGNMENT_IN_PROGRESS 85 "No reassignment of the partition is under way.";
    GROUP_SUBSCRIBED_TO_TOPIC 86 "The group is subscribed to the topic: its offsets can't be deleted.";
    INVALID_RECORD 87 "A record was refused by the server's checks.";
    UNSTABLE_OFFSET_COMMIT 88 "An open transaction holds offsets of the partition.";
    THROTTLING_QUOTA_EXCEEDED 89 "The quota is exceeded: try again later.";
    PRODUCER_FENCED 90 "A newer producer with the same transactional id has taken over.";
    RESOURCE_NOT_FOUND 91 "The server has no such resource.";
    DUPLICATE_RESOURCE 92 "The resource is named twice.";
    UNACCEPTABLE_CREDENTIAL 93 "The credential doesn't meet the server's requirements.";
    INCONSISTENT_VOTER_SET 94 "Sender and receiver don't agree on the set of voters.";
    INVALID_UPDATE_VERSION 95 "The update's version is not valid.";
    FEATURE_UPDATE_FAILED 96 "The feature could not be updated.";
    PRINCIPAL_DESERIALIZATION_FAILURE 97 "The forwarded principal can't be read.";
    SNAPSHOT_NOT_FOUND 98 "The server has no such snapshot.";
    POSITION_OUT_OF_RANGE 99 "The position is outside the snapshot.";
    UNKNOWN_TOPIC_ID 100 "The server has no topic with this id.";
    DUPLICATE_BROKER_REGISTRATION 101 "The broker's id is in use.";
    BROKER_ID_NOT_REGISTERED 102 "No broker has this id.";
    INCONSISTENT_TOPIC_ID 103 "The topic's id is not the one in the log.";
    INCONSISTENT_CLUSTER_ID 104 "The cluster's id is another one.";
    TRANSACTIONAL_ID_NOT_FOUND 105 "The server has no such transactional id.";
    FETCH_SESSION_TOPIC_ID_ERROR 106 "The fetch session mixes topic names and topic ids.";
    INELIGIBLE_REPLICA 107 "The replica may not join the in-sync set.";
    NEW_LEADER_ELECTED 108 "The change of the partition has elected another leader.";
    OFFSET_MOVED_TO_TIERED_STORAGE 109 "The offset has moved to tiered storage.";
    FENCED_MEMBER_EPOCH 110 "The member's epoch is fenced: it must give up its partitions and join again.";
    UNRELEASED_INSTANCE_ID 111 "The instance id is in use by a member that has not left.";
    UNSUPPORTED_ASSIGNOR 112 "The server doesn't support this assignor.";
    STALE_MEMBER_EPOCH 113 "The member's epoch is an old one: it must learn the new one and try again.";
    MISMATCHED_ENDPOINT_TYPE 114 "The request came to the wrong kind of endpoint.";
    UNSUPPORTED_ENDPOINT_TYPE 115 "This kind of endpoint is not supported.";
    UNKNOWN_CONTROLLER_ID 116 "There is no controller of this id.";
    UNKNOWN_SUBSCRIPTION_ID 117 "The telemetry subscription is not the present one.";
    TELEMETRY_TOO_LARGE 118 "The telemetry is larger than the server accepts.";
    INVALID_REGISTRATION 119 "The registration is not valid.";
    TRANSACTION_ABORTABLE 120 "The transaction failed: it must be aborted, and can then be tried again.";
    INVALID_RECORD_STATE 121 "The record is in a state that doesn't allow the acknowledgement.";
    SHARE_SESSION_NOT_FOUND 122 "The server has no such share session.";
    INVALID_SHARE_SESSION_EPOCH 123 "The share session's epoch is another one.";
    FENCED_STATE_EPOCH 124 "The state epoch of the share group is another one.";
    INVALID_VOTER_KEY 125 "The voter's key is not the one of the replica that received it.";
    DUPLICATE_VOTER 126 "The voter is in the set of voters.";
    VOTER_NOT_FOUND 127 "The voter is not in the set of voters.";
    INVALID_REGULAR_EXPRESSION 128 "The regular expression is not valid.";
    REBOOTSTRAP_REQUIRED 129 "The client's metadata is out of date: it must start from its bootstrap servers again.";
    STREAMS_INVALID_TOPOLOGY 130 "The topology is not valid.";
    STREAMS_INVALID_TOPOLOGY_EPOCH 131 "The topology's epoch is not valid.";
    STREAMS_TOPOLOGY_FENCED 132 "The topology's epoch is an old one.";
    SHARE_SESSION_LIMIT_REACHED 133 "There are as many share sessions as there may be.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_run_from_unknown_to_the_newest_without_a_gap() {
        let codes: Vec<i16> = ErrorCode::ALL.iter().map(|e| e.0).collect();
        assert_eq!(codes, (-1..=133).collect::<Vec<_>>());
    }

    #[test]
    fn an_unknown_error_is_never_code_0() {
        assert_ne!(ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode::NONE);
        assert!(ErrorCode::ALL.iter().filter(|e| **e != ErrorCode::NONE).all(|e| e.is_error()));
        assert_eq!(ErrorCode::default(), ErrorCode::NONE);
        assert_eq!(ErrorCode(999).to_string(), "error 999");
        assert_eq!(ErrorCode::CORRUPT_MESSAGE.to_string(), "CORRUPT_MESSAGE");
    }
}
