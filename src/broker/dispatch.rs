//! Owns the way from a frame to the room that answers it, and what happens to frames that no room can answer.

use bytes::Bytes;

use super::apis;
use super::groups::GROUP_APIS;
use super::reply::ReplyTo;
use super::share::SHARE_APIS;
use super::{Broker, ConnId, Now};
use crate::limits;
use crate::wire::msg::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{self, ApiKey, Body, DecodeError, ErrorCode, HeaderError, RequestHeader};

/// Requests that may soundly name what is not there yet, or each thing once for each group, and cost little for each.
const NAME_WHAT_IS_NOT_THERE: [ApiKey; 10] = [
    ApiKey::CREATE_TOPICS,
    ApiKey::CREATE_PARTITIONS,
    ApiKey::ALTER_CONFIGS,
    ApiKey::INCREMENTAL_ALTER_CONFIGS,
    ApiKey::ALTER_USER_SCRAM_CREDENTIALS,
    ApiKey::CREATE_ACLS,
    ApiKey::ALTER_CLIENT_QUOTAS,
    ApiKey::JOIN_GROUP,
    ApiKey::SYNC_GROUP,
    ApiKey::OFFSET_FETCH,
];

/// A request whose header has been read and whose version is served.
pub(super) struct Request<'a> {
    pub now: Now,
    pub to: ReplyTo,
    pub client_id: &'a str,
    pub body: Body<'a>,
    /// The whole frame, of which `body` is a part: record data is kept by reference.
    pub frame: &'a Bytes,
}

impl Broker {
    pub(super) fn dispatch(&mut self, now: Now, conn: ConnId, frame: Bytes) {
        let (header, body) = match RequestHeader::parse(&frame) {
            Ok(parsed) => parsed,
            Err(HeaderError::UnknownApi { key, version, .. }) => {
                return self.close(conn, format!("it asked for API {} version {version}, which is unknown", key.0));
            }
            Err(HeaderError::Malformed(error)) => {
                return self.close(conn, format!("it sent no Kafka request: {error}"))
            }
        };
        let Some(slot) = self.conns.open(conn) else { return };
        let key = header.api.key;
        let to = ReplyTo { conn, slot, key: key.0, version: header.version, correlation_id: header.correlation_id };
        if !apis::is_served(key, header.version) {
            return self.refuse_version(to);
        }
        self.settings.metrics.request(key.0);
        let client_id = header.client_id.unwrap_or("");
        let body = Body { bytes: body, room: self.room_for_arrays(key) };
        let request = Request { now, to, client_id, body, frame: &frame };
        if let Err(error) = self.carry_out(key, &request) {
            let why = format!("its {key} request (version {}) cannot be read: {error}", header.version);
            self.close(conn, why);
        }
    }

    /// Bytes of memory that the arrays of a request may take. None can soundly name much more than there is, and while one that
    /// names very much is carried out, everybody else waits.
    fn room_for_arrays(&self, key: ApiKey) -> usize {
        let least = if NAME_WHAT_IS_NOT_THERE.contains(&key) {
            limits::REQUEST_ARRAYS_BYTES_NEW
        } else {
            limits::REQUEST_ARRAYS_BYTES_LEAST
        };
        let partitions = self.topics.partition_count() * limits::REQUEST_ARRAYS_BYTES_EACH;
        let others = self.groups.bytes()
            + self.share.bytes()
            + self.txns.bytes()
            + self.scram.len() * limits::REQUEST_ELEMENT_BYTES_MIN;
        (least + partitions + others).min(limits::REQUEST_ARRAYS_BYTES_MAX)
    }

    fn carry_out(&mut self, key: ApiKey, request: &Request<'_>) -> Result<(), DecodeError> {
        match key {
            ApiKey::PRODUCE => self.produce(request),
            ApiKey::FETCH => self.fetch(request),
            ApiKey::LIST_OFFSETS => self.list_offsets(request),
            ApiKey::METADATA => self.metadata(request),
            ApiKey::API_VERSIONS => self.api_versions(request),
            ApiKey::CREATE_TOPICS => self.create_topics(request),
            ApiKey::DELETE_TOPICS => self.delete_topics(request),
            ApiKey::DELETE_RECORDS => self.delete_records(request),
            ApiKey::INIT_PRODUCER_ID => self.init_producer_id(request),
            ApiKey::OFFSET_FOR_LEADER_EPOCH => self.offset_for_leader_epoch(request),
            ApiKey::ADD_PARTITIONS_TO_TXN => self.add_partitions_to_txn(request),
            ApiKey::ADD_OFFSETS_TO_TXN => self.add_offsets_to_txn(request),
            ApiKey::END_TXN => self.end_txn(request),
            ApiKey::WRITE_TXN_MARKERS => self.write_txn_markers(request),
            ApiKey::TXN_OFFSET_COMMIT => self.txn_offset_commit(request),
            ApiKey::DESCRIBE_PRODUCERS => self.describe_producers(request),
            ApiKey::DESCRIBE_TRANSACTIONS => self.describe_transactions(request),
            ApiKey::LIST_TRANSACTIONS => self.list_transactions(request),
            key if GROUP_APIS.contains(&key) => self.group_request(request),
            key if SHARE_APIS.contains(&key) => self.share_request(key, request),
            ApiKey::DESCRIBE_CONFIGS => self.describe_configs(request),
            ApiKey::ALTER_CONFIGS => self.alter_configs(request),
            ApiKey::DESCRIBE_LOG_DIRS => self.describe_log_dirs(request),
            ApiKey::CREATE_PARTITIONS => self.create_partitions(request),
            ApiKey::ELECT_LEADERS => self.elect_leaders(request),
            ApiKey::INCREMENTAL_ALTER_CONFIGS => self.incremental_alter_configs(request),
            ApiKey::ALTER_PARTITION_REASSIGNMENTS => self.alter_partition_reassignments(request),
            ApiKey::LIST_PARTITION_REASSIGNMENTS => self.list_partition_reassignments(request),
            ApiKey::SASL_HANDSHAKE => self.sasl_handshake(request),
            ApiKey::SASL_AUTHENTICATE => self.sasl_authenticate(request),
            ApiKey::DESCRIBE_ACLS => self.describe_acls(request),
            ApiKey::CREATE_ACLS => self.create_acls(request),
            ApiKey::DELETE_ACLS => self.delete_acls(request),
            ApiKey::CREATE_DELEGATION_TOKEN => self.create_delegation_token(request),
            ApiKey::RENEW_DELEGATION_TOKEN => self.renew_delegation_token(request),
            ApiKey::EXPIRE_DELEGATION_TOKEN => self.expire_delegation_token(request),
            ApiKey::DESCRIBE_DELEGATION_TOKEN => self.describe_delegation_token(request),
            ApiKey::ALTER_REPLICA_LOG_DIRS => self.alter_replica_log_dirs(request),
            ApiKey::DESCRIBE_USER_SCRAM_CREDENTIALS => self.describe_user_scram_credentials(request),
            ApiKey::ALTER_USER_SCRAM_CREDENTIALS => self.alter_user_scram_credentials(request),
            ApiKey::DESCRIBE_QUORUM => self.describe_quorum(request),
            ApiKey::ADD_RAFT_VOTER => self.add_raft_voter(request),
            ApiKey::REMOVE_RAFT_VOTER => self.remove_raft_voter(request),
            ApiKey::UNREGISTER_BROKER => self.unregister_broker(request),
            ApiKey::GET_TELEMETRY_SUBSCRIPTIONS => self.get_telemetry_subscriptions(request),
            ApiKey::PUSH_TELEMETRY => self.push_telemetry(request),
            ApiKey::UPDATE_FEATURES => self.update_features(request),
            ApiKey::DESCRIBE_CLUSTER => self.describe_cluster(request),
            ApiKey::LIST_CONFIG_RESOURCES => self.list_config_resources(request),
            ApiKey::DESCRIBE_TOPIC_PARTITIONS => self.describe_topic_partitions(request),
            _ => {
                self.close(request.to.conn, format!("it asked for {key}, which is not served"));
                Ok(())
            }
        }
    }

    /// A version from the future. ApiVersions is answered in version 0 with its own range, from which every client finds
    /// a version to go on with (KIP-511); anything else was never advertised, and Kafka closes the connection too.
    fn refuse_version(&mut self, to: ReplyTo) {
        let key = ApiKey(to.key);
        if key != ApiKey::API_VERSIONS {
            return self.close(to.conn, format!("it asked for {key} version {}, which is not served", to.version));
        }
        let own = apis::served().filter(|served| served.key == key);
        let response = ApiVersionsResponse {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            api_keys: own.map(advertised).collect(),
            ..Default::default()
        };
        self.reply_after(0, ReplyTo { version: 0, ..to }, &response);
    }

    fn api_versions(&mut self, request: &Request<'_>) -> Result<(), DecodeError> {
        let body: ApiVersionsRequest<'_> = wire::decode_request(request.body, request.to.version)?;
        let legal = |text: &str| {
            let inside = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
            let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            text.chars().all(inside) && edge(text.chars().next()) && edge(text.chars().last())
        };
        let named = request.to.version < 3 || (legal(body.client_software_name) && legal(body.client_software_version));
        let response = if named {
            ApiVersionsResponse {
                api_keys: apis::served().map(advertised).collect(),
                supported_features: Broker::supported_features(request.to.version),
                finalized_features_epoch: self.features.epoch(),
                finalized_features: self.finalized_features(),
                ..Default::default()
            }
        } else {
            ApiVersionsResponse { error_code: ErrorCode::INVALID_REQUEST, ..Default::default() }
        };
        self.reply_after(self.features_seq(), request.to, &response);
        Ok(())
    }
}

fn advertised(served: apis::Served) -> ApiVersion {
    ApiVersion { api_key: served.key.0, min_version: served.min, max_version: served.max }
}
