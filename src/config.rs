//! Owns typed settings, parsed once from the options.
//!
//! Nothing here reads the command line or the environment; [`crate::options`] does and builds a
//! [`Config`]. Every value in a `Config` that came from there is inside the bounds that the
//! table of options states. Fields end in their unit; times are `i64` milliseconds, as in
//! Kafka's protocol, and `-1` means "no limit" only where the field says so.

pub mod storage;

use std::collections::BTreeMap;
use std::path::PathBuf;

use log::LevelFilter;

use storage::StorageConfig;

/// When the log is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Every group is durable before anything in it is acknowledged.
    Always,
    /// The log is synced this often, in milliseconds (1 to 60000); a power cut may lose what was
    /// acknowledged since.
    IntervalMs(u32),
    /// The log is never synced while running; the operating system decides.
    Never,
}

/// Where topics, groups, offsets and the other metadata live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataStore {
    /// As events in the write-ahead log (ChronikMetaLog).
    Log,
    /// As plain files that are replaced atomically (the legacy store).
    File,
}

/// A TCP port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// No listener.
    Off,
    /// Any free port; the one that was found is printed at start.
    Any,
    /// This port, 1 to 65535.
    Fixed(u16),
}

/// Which time a record carries: Kafka's `message.timestamp.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's time is kept.
    CreateTime,
    /// The broker overwrites it with the time of the append.
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's spelling, as in topic configs.
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

/// Kafka's `group.share.*` settings. A group may have a value of its own within `min` and `max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// How often members report, in milliseconds.
    pub heartbeat_interval_ms: i64,
    pub min_heartbeat_interval_ms: i64,
    pub max_heartbeat_interval_ms: i64,
    /// A member that is silent for this many milliseconds is removed.
    pub session_timeout_ms: i64,
    pub min_session_timeout_ms: i64,
    pub max_session_timeout_ms: i64,
    /// How long a member may keep a record, in milliseconds.
    pub record_lock_duration_ms: i64,
    pub min_record_lock_duration_ms: i64,
    pub max_record_lock_duration_ms: i64,
    /// How long an assignment holds at least before the next is made, in milliseconds.
    pub assignment_interval_ms: i64,
    pub min_assignment_interval_ms: i64,
    pub max_assignment_interval_ms: i64,
    /// How often a record is handed out at most.
    pub delivery_count_limit: i64,
    pub min_delivery_count_limit: i64,
    pub max_delivery_count_limit: i64,
    /// Records of one partition that a group may have under way.
    pub partition_max_record_locks: i64,
    pub min_partition_max_record_locks: i64,
    pub max_partition_max_record_locks: i64,
    /// Most members of one share group.
    pub max_size: usize,
    /// Most share sessions of all groups together.
    pub max_share_sessions: usize,
}

impl Default for ShareConfig {
    /// Kafka's defaults.
    fn default() -> ShareConfig {
        ShareConfig {
            heartbeat_interval_ms: 5_000,
            min_heartbeat_interval_ms: 5_000,
            max_heartbeat_interval_ms: 15_000,
            session_timeout_ms: 45_000,
            min_session_timeout_ms: 45_000,
            max_session_timeout_ms: 60_000,
            record_lock_duration_ms: 30_000,
            min_record_lock_duration_ms: 15_000,
            max_record_lock_duration_ms: 60_000,
            assignment_interval_ms: 1_000,
            min_assignment_interval_ms: 0,
            max_assignment_interval_ms: 15_000,
            delivery_count_limit: 5,
            min_delivery_count_limit: 2,
            max_delivery_count_limit: 10,
            partition_max_record_locks: 2_000,
            min_partition_max_record_locks: 100,
            max_partition_max_record_locks: 4_000,
            max_size: 200,
            max_share_sessions: 2_000,
        }
    }
}

/// Backups that the server makes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupConfig {
    /// Whether it makes any.
    pub enabled: bool,
    /// URL of the store; there when they are enabled.
    pub url: Option<String>,
    /// From the beginning of one to that of the next, in milliseconds.
    pub interval_ms: i64,
    /// How many are kept; 0 for all.
    pub keep: u64,
    /// How long they are kept, in milliseconds; 0 for ever.
    pub keep_ms: i64,
    /// URL of the store from which a data directory is made that is not there.
    pub restore_from: Option<String>,
    /// The id of the data directory that is meant there, or its beginning.
    pub restore_directory: Option<String>,
}

impl Default for BackupConfig {
    fn default() -> BackupConfig {
        BackupConfig {
            enabled: false,
            url: None,
            interval_ms: 24 * 60 * 60 * 1000,
            keep: 0,
            keep_ms: 0,
            restore_from: None,
            restore_directory: None,
        }
    }
}

/// Every setting of the server. `Config::default()` is what no option at all gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Host or address the Kafka listener binds; IPv6 without brackets.
    pub bind_host: String,
    /// Port of the Kafka listener; never `Port::Off`.
    pub kafka_port: Port,
    /// Host told to clients. `None`: on a wildcard bind the address their connection arrived at,
    /// otherwise `bind_host`. Never a wildcard address; IPv6 without brackets.
    pub advertised_host: Option<String>,
    /// Port told to clients, 1 to 65535. `None`: the port of the Kafka listener.
    pub advertised_port: Option<u16>,
    /// Host or address the admin listener binds.
    pub admin_bind_host: String,
    /// Port of the admin listener (`/health`, `/ready`).
    pub admin_port: Port,
    /// Host or address the metrics listener binds.
    pub metrics_bind_host: String,
    /// Port of the metrics listener (`/metrics`).
    pub metrics_port: Port,
    /// Folder that holds everything the server keeps.
    pub data_dir: PathBuf,
    /// Where objects are kept.
    pub storage: StorageConfig,
    /// Copies of the data directory.
    pub backup: BackupConfig,
    /// Where metadata lives.
    pub metadata_store: MetadataStore,
    /// Convert the data directory to `metadata_store` and exit, instead of serving.
    pub convert_metadata: bool,
    /// Lines above this level are not logged.
    pub log_level: LevelFilter,
    /// This broker's id, 0 to 2147483647.
    pub node_id: i32,
    /// Cluster id, 1 to 64 bytes of `[A-Za-z0-9._-]`. `None`: the stored one, or a new random one.
    pub cluster_id: Option<String>,

    /// Most open Kafka connections.
    pub max_connections: usize,
    /// Most open Kafka connections from one address.
    pub max_connections_per_ip: usize,
    /// A connection that is silent for this many milliseconds is closed.
    pub connections_max_idle_ms: i64,
    /// Largest request frame, in bytes, without its length prefix.
    pub socket_request_max_bytes: usize,
    /// Budget in bytes for all request frames in memory; at least `socket_request_max_bytes`.
    pub queued_max_request_bytes: usize,
    /// Budget in bytes for all answers in memory, what is sent from the log or its ring not counted.
    pub response_bytes_max: usize,
    /// What all of these, and the rest of the server's work, may take together, in bytes.
    pub memory_limit: usize,
    /// Upper bound in bytes for the records of one Fetch response.
    pub fetch_max_bytes: usize,
    /// Fetch sessions that may exist; 0 grants none.
    pub max_incremental_fetch_session_cache_slots: usize,

    /// Defaults of topic configurations that were changed while the broker runs, by the broker's name for them.
    pub topic_defaults: BTreeMap<&'static str, String>,
    /// Partitions of a topic that is created without a number.
    pub num_partitions: i32,
    /// Create a topic when a client that allows it asks for its metadata.
    pub auto_create_topics_enable: bool,
    /// Allow DeleteTopics.
    pub delete_topic_enable: bool,
    /// Largest record batch, in bytes (a topic's `max.message.bytes` overrides it).
    pub message_max_bytes: usize,
    /// How batches are stored, by Kafka's name for it; `producer` leaves them as they come.
    pub compression_type: &'static str,
    /// Whose time a record carries.
    pub log_message_timestamp_type: TimestampType,
    /// How far a CreateTime may lie in the past, in milliseconds; `i64::MAX` is no limit.
    pub log_message_timestamp_before_max_ms: i64,
    /// How far a CreateTime may lie in the future, in milliseconds; `i64::MAX` is no limit.
    pub log_message_timestamp_after_max_ms: i64,
    /// Records older than this many milliseconds are deleted; -1 keeps them for ever.
    pub log_retention_ms: i64,
    /// Bytes a partition may keep; -1 is no limit.
    pub log_retention_bytes: i64,
    /// How often retention is looked at while there is something to look at, in milliseconds.
    pub log_retention_check_interval_ms: i64,
    /// Memory in bytes for the keys of a partition that is compacted.
    pub log_cleaner_dedupe_buffer_size: usize,
    /// How long compaction rests between two looks for what is due, in milliseconds.
    pub log_cleaner_backoff_ms: i64,

    /// When the log is forced to the disk.
    pub fsync: Fsync,
    /// Size of a segment of the shared log, in bytes: 16 MiB to 2 GiB - 1.
    pub log_segment_bytes: u64,
    /// A segment older than this many milliseconds is sealed even if it is not full.
    pub log_roll_ms: i64,

    /// How long the first rebalance of an empty group waits for more members, in milliseconds.
    pub group_initial_rebalance_delay_ms: i64,
    /// Shortest session timeout a member may ask for, in milliseconds.
    pub group_min_session_timeout_ms: i64,
    /// Longest session timeout a member may ask for, in milliseconds.
    pub group_max_session_timeout_ms: i64,
    /// Most members of one group.
    pub group_max_size: usize,
    /// How long a member of a group whose assignment the broker makes may be silent, in milliseconds.
    pub group_consumer_session_timeout_ms: i64,
    /// Bounds of that for groups that configure it themselves.
    pub group_consumer_min_session_timeout_ms: i64,
    /// The other one.
    pub group_consumer_max_session_timeout_ms: i64,
    /// How often such members are told to send heartbeats, in milliseconds.
    pub group_consumer_heartbeat_interval_ms: i64,
    /// Bounds of that for groups that configure it themselves.
    pub group_consumer_min_heartbeat_interval_ms: i64,
    /// The other one.
    pub group_consumer_max_heartbeat_interval_ms: i64,
    /// Least time between two assignments of such a group, in milliseconds.
    pub group_consumer_assignment_interval_ms: i64,
    /// Bounds of that for groups that configure it themselves.
    pub group_consumer_min_assignment_interval_ms: i64,
    /// The other one.
    pub group_consumer_max_assignment_interval_ms: i64,
    /// Most members of one such group.
    pub group_consumer_max_size: usize,
    /// The assignors that members may ask for; the first is for those who do not.
    pub group_consumer_assignors: &'static str,
    /// In which direction a group with members may change between the classic and the consumer protocol.
    pub group_consumer_migration_policy: &'static str,
    /// Offsets of an empty group are kept for this many milliseconds.
    pub offsets_retention_ms: i64,
    /// Longest metadata string of an offset commit, in bytes.
    pub offset_metadata_max_bytes: usize,
    /// Share groups (KIP-932).
    pub share: ShareConfig,
    /// An idle producer id is forgotten after this many milliseconds.
    pub producer_id_expiration_ms: i64,
    /// A transactional id without a transaction is forgotten after this many milliseconds.
    pub transactional_id_expiration_ms: i64,
    /// Longest timeout that a transactional producer may ask for, in milliseconds.
    pub transaction_max_timeout_ms: i64,
}

impl Default for Config {
    fn default() -> Config {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Config {
            bind_host: "0.0.0.0".into(),
            kafka_port: Port::Fixed(9092),
            advertised_host: None,
            advertised_port: None,
            admin_bind_host: "127.0.0.1".into(),
            admin_port: Port::Fixed(3000),
            metrics_bind_host: "127.0.0.1".into(),
            metrics_port: Port::Fixed(9090),
            data_dir: PathBuf::from("./data"),
            storage: StorageConfig::default(),
            backup: BackupConfig::default(),
            metadata_store: MetadataStore::Log,
            convert_metadata: false,
            log_level: LevelFilter::Info,
            node_id: 1,
            cluster_id: None,
            max_connections: 16384,
            max_connections_per_ip: 4096,
            connections_max_idle_ms: 600_000,
            socket_request_max_bytes: 104_857_600,
            queued_max_request_bytes: 128 << 20,
            response_bytes_max: 128 << 20,
            memory_limit: 1 << 30,
            fetch_max_bytes: 57_671_680,
            max_incremental_fetch_session_cache_slots: 1000,
            topic_defaults: BTreeMap::new(),
            num_partitions: 1,
            auto_create_topics_enable: true,
            delete_topic_enable: true,
            message_max_bytes: 1_048_588,
            compression_type: "producer",
            log_message_timestamp_type: TimestampType::CreateTime,
            log_message_timestamp_before_max_ms: i64::MAX,
            log_message_timestamp_after_max_ms: 3_600_000,
            log_retention_ms: 7 * DAY_MS,
            log_retention_bytes: -1,
            log_retention_check_interval_ms: 30_000,
            log_cleaner_dedupe_buffer_size: 128 << 20,
            log_cleaner_backoff_ms: 15_000,
            fsync: Fsync::Always,
            log_segment_bytes: 128 << 20,
            log_roll_ms: 7 * DAY_MS,

            group_initial_rebalance_delay_ms: 0,
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_max_size: 10_000,
            group_consumer_session_timeout_ms: 45_000,
            group_consumer_min_session_timeout_ms: 45_000,
            group_consumer_max_session_timeout_ms: 60_000,
            group_consumer_heartbeat_interval_ms: 5_000,
            group_consumer_min_heartbeat_interval_ms: 5_000,
            group_consumer_max_heartbeat_interval_ms: 15_000,
            group_consumer_assignment_interval_ms: 1_000,
            group_consumer_min_assignment_interval_ms: 0,
            group_consumer_max_assignment_interval_ms: 15_000,
            group_consumer_max_size: 10_000,
            group_consumer_assignors: "uniform,range",
            group_consumer_migration_policy: "bidirectional",
            offsets_retention_ms: 7 * DAY_MS,
            offset_metadata_max_bytes: 4096,
            share: ShareConfig::default(),
            producer_id_expiration_ms: DAY_MS,
            transactional_id_expiration_ms: 7 * DAY_MS,
            transaction_max_timeout_ms: 900_000,
        }
    }
}
