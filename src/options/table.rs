//! Owns the one table of options. Parser, `--help`, man page, README and environment come from it
//! or are checked against it.
//!
//! A row without a setter does not compile, so an option cannot be accepted and then ignored; what
//! is not built yet is a row that refuses.

use super::row::{act, bytes, int, millis, opt};
pub(super) use super::row::{Action, Draft, Kind};
pub use super::row::{Group, Opt};
use super::storage;
use crate::config::{MetadataStore, TimestampType};
use crate::limits;

const I32_MAX: i64 = i32::MAX as i64;
const MIB: i64 = 1 << 20;
const SHARE_LOCKS_MAX: i64 = limits::SHARE_PARTITION_LOCKS_MAX;

/// A time of share groups.
macro_rules! share_ms {
    ($long:literal, $default:literal, $field:ident, $min:literal, $help:literal) => {
        opt(Group::Groups, $long, "TIME", $default, $help, millis($min, I32_MAX, |d, v| d.config.share.$field = v))
            .kafka()
    };
}

/// A number of share groups.
macro_rules! share_int {
    ($long:literal, $default:literal, $field:ident, $min:expr, $max:expr, $help:literal) => {
        opt(Group::Groups, $long, "NUMBER", $default, $help, int($min, $max, |d, v| d.config.share.$field = v as _))
            .kafka()
    };
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A hundred years: times up to here can be added to the present without overflow.
const CENTURY_MS: i64 = 36_525 * DAY_MS;

/// A command and what it needs that this version does not have.
pub struct Command {
    /// The word on the command line.
    pub name: &'static str,
    /// What it does.
    pub help: &'static str,
    /// `None` if it is available.
    pub missing: Option<&'static str>,
}

/// Every command; the first is the default.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "standalone",
        help: "Serve Kafka clients from the data directory. This is the default.",
        missing: None,
    },
    Command { name: "all", help: "Serve with search and backup.", missing: Some("full-text search") },
    Command {
        name: "ingest",
        help: "Take records for a controller, with --controller-url.",
        missing: Some("running as one of several nodes"),
    },
    Command {
        name: "search",
        help: "Answer searches over stored segments, with --storage-url.",
        missing: Some("full-text search"),
    },
];

/// Every option, in the order in which it is shown within its group.
pub static OPTIONS: &[Opt] = &[
    act("help", "Print this help and exit.", |d| d.action = d.action.min_some(Action::Help)).short('h'),
    act("version", "Print the version and exit.", |d| d.action = d.action.min_some(Action::Version)).short('V'),
    act(
        "check-config",
        "Check every option and variable and exit: with 0 if the server would accept them, otherwise with 78.",
        |d| d.action = d.action.min_some(Action::CheckConfig),
    ),
    act("print-config", "Print every setting, its value and where it comes from, and exit.", |d| {
        d.action = d.action.min_some(Action::PrintConfig)
    }),
    act(
        "convert-metadata",
        "Convert the data directory to the metadata store that the other options name, and exit.",
        |d| d.config.convert_metadata = true,
    ),
    opt(
        Group::General,
        "log-level",
        "LEVEL",
        "info",
        "Log this much: off, error, warn, info, debug or trace. RUST_LOG may be a list; \
         its bare level and its chronik=LEVEL count.",
        Kind::Level(|d, v| d.config.log_level = v),
    )
    .env_named("RUST_LOG"),
    opt(
        Group::Listeners,
        "kafka-port",
        "PORT",
        "9092",
        "Port for Kafka clients; 0 is any free port, which is printed at start.",
        Kind::Port { off: false, set: |d, v| d.config.kafka_port = v },
    )
    .short('p'),
    opt(
        Group::Listeners,
        "bind-addr",
        "HOST",
        "0.0.0.0",
        "Address to listen on for Kafka clients. HOST:PORT is accepted too and sets the port \
         unless --kafka-port does; an IPv6 address then stands in brackets.",
        Kind::HostPort {
            wildcard: true,
            set: |d, (host, port)| {
                d.config.bind_host = host;
                d.bind_port = port;
            },
        },
    )
    .short('b'),
    opt(
        Group::Listeners,
        "advertised-addr",
        "HOST",
        "",
        "Address that clients are told to connect to. Without it, and listening on every \
         address, each client is told the address that it reached. HOST:PORT sets the port too.",
        Kind::HostPort {
            wildcard: false,
            set: |d, (host, port)| {
                d.config.advertised_host = Some(host);
                d.advertised_addr_port = port;
            },
        },
    ),
    opt(
        Group::Listeners,
        "advertised-port",
        "PORT",
        "",
        "Port that clients are told to connect to, if it is not the one listened on.",
        Kind::RemotePort(|d, v| d.config.advertised_port = Some(v)),
    ),
    opt(
        Group::Listeners,
        "admin-port",
        "PORT",
        "3000",
        "Port for /health and /ready over HTTP; 0 is any free port, off is none.",
        Kind::Port { off: true, set: |d, v| d.config.admin_port = v },
    )
    .short('a'),
    opt(
        Group::Listeners,
        "admin-bind-addr",
        "HOST",
        "127.0.0.1",
        "Address to listen on for the admin port. It asks for no password.",
        Kind::Host(|d, v| d.config.admin_bind_host = v),
    ),
    opt(
        Group::Listeners,
        "metrics-port",
        "PORT",
        "9090",
        "Port for Prometheus metrics at /metrics; 0 is any free port, off is none.",
        Kind::Port { off: true, set: |d, v| d.config.metrics_port = v },
    ),
    opt(
        Group::Listeners,
        "metrics-bind-addr",
        "HOST",
        "127.0.0.1",
        "Address to listen on for the metrics port. It asks for no password.",
        Kind::Host(|d, v| d.config.metrics_bind_host = v),
    ),
    opt(
        Group::Listeners,
        "node-id",
        "NUMBER",
        "1",
        "This broker's id, as clients see it.",
        int(0, I32_MAX, |d, v| d.config.node_id = v as i32),
    )
    .kafka(),
    opt(
        Group::Listeners,
        "cluster-id",
        "ID",
        "",
        "The cluster's id, as clients see it. Without it one is made up at the first start and kept.",
        Kind::ClusterId(|d, v| d.config.cluster_id = Some(v)),
    ),
    opt(
        Group::Storage,
        "data-dir",
        "PATH",
        "./data",
        "Directory that holds everything the server keeps; it is created if it does not exist.",
        Kind::Path(|d, v| d.config.data_dir = v),
    )
    .short('d'),
    opt(
        Group::Storage,
        "storage",
        "BACKEND",
        "local",
        storage::BACKEND_HELP,
        Kind::Choice {
            names: storage::BACKENDS,
            refused: &[],
            set: storage::set_backend,
        },
    )
    .env_named("STORAGE_BACKEND"),
    opt(
        Group::Storage,
        "file-metadata",
        "",
        "false",
        "Keep topics, groups and offsets in plain files (the legacy store) and not as events in \
         the log.",
        Kind::Flag(|d, v| d.config.metadata_store = if v { MetadataStore::File } else { MetadataStore::Log }),
    ),
    opt(
        Group::Storage,
        "fsync",
        "MODE",
        "always",
        "When the log is forced to the disk: always, before anything is acknowledged; \
         interval=MS, every so many milliseconds; never, when the operating system likes. \
         With the last two a power cut loses acknowledged records.",
        Kind::Fsync(|d, v| d.config.fsync = v),
    ),
    opt(
        Group::Storage,
        "log-segment-bytes",
        "SIZE",
        "128MiB",
        "Size of a segment of the log, which all partitions share; also the default of segment.bytes.",
        bytes(16 * MIB, I32_MAX, |d, v| d.config.log_segment_bytes = v as u64),
    )
    .kafka(),
    opt(
        Group::Storage,
        "log-roll-ms",
        "TIME",
        "7d",
        "Start a new segment when the current one is this old, even if it is not full; also the default of \
         segment.ms.",
        millis(1000, CENTURY_MS, |d, v| d.config.log_roll_ms = v),
    )
    .kafka(),
    opt(
        Group::Storage,
        "log-retention-ms",
        "TIME",
        "",
        "Delete records that are older; -1 keeps them for ever. It wins over \
         --log-retention-hours.",
        Kind::Millis { min: 1, max: CENTURY_MS, minus_one: true, set: |d, v| d.log_retention_ms = Some(v) },
    )
    .kafka(),
    opt(
        Group::Storage,
        "log-retention-hours",
        "HOURS",
        "168",
        "Delete records that are older; -1 keeps them for ever.",
        Kind::Int { min: 1, max: 876_600, minus_one: true, set: |d, v| d.log_retention_hours = Some(v) },
    )
    .kafka(),
    opt(
        Group::Storage,
        "log-retention-bytes",
        "SIZE",
        "-1",
        "Delete the oldest records of a partition that holds more; -1 is no limit.",
        Kind::Bytes { min: 0, max: i64::MAX, minus_one: true, set: |d, v| d.config.log_retention_bytes = v },
    )
    .kafka(),
    opt(
        Group::Storage,
        "log-retention-check-interval-ms",
        "TIME",
        "30s",
        "How often to look for records to delete. Kafka's default is 5m.",
        millis(1, DAY_MS, |d, v| d.config.log_retention_check_interval_ms = v),
    )
    .kafka(),
    storage::LOCAL_PATH,
    storage::CA_FILE,
    storage::UPLOAD_INTERVAL,
    storage::CACHE_BYTES,
    storage::FREE_BYTES,
    storage::TAKE_OVER,
    storage::S3_BUCKET,
    storage::S3_PREFIX,
    storage::S3_REGION,
    storage::AWS_REGION,
    storage::S3_ENDPOINT,
    storage::S3_PATH_STYLE,
    storage::AWS_KEY_ID,
    storage::AWS_SECRET,
    storage::AWS_TOKEN,
    storage::AWS_CONTAINER_PATH,
    storage::AWS_CONTAINER_URL,
    storage::AWS_CONTAINER_TOKEN,
    storage::AWS_CONTAINER_TOKEN_FILE,
    storage::AWS_METADATA_DISABLED,
    storage::AWS_METADATA_URL,
    storage::GCS_BUCKET,
    storage::GCS_PREFIX,
    storage::GCS_KEY_FILE,
    storage::GCS_ENDPOINT,
    storage::GCS_METADATA_HOST,
    storage::AZURE_ACCOUNT,
    storage::AZURE_KEY,
    storage::AZURE_SAS,
    storage::AZURE_CONTAINER,
    storage::AZURE_PREFIX,
    storage::AZURE_ENDPOINT,
    opt(
        Group::Storage,
        "log-cleaner-dedupe-buffer-size",
        "SIZE",
        "128MiB",
        "Memory that compaction takes for the keys of one partition, 24 bytes each. \
         What has more new keys is compacted in several rounds.",
        bytes(MIB, 1024 * MIB, |d, v| d.config.log_cleaner_dedupe_buffer_size = v as usize),
    )
    .kafka(),
    opt(
        Group::Storage,
        "log-cleaner-backoff-ms",
        "TIME",
        "15s",
        "How long compaction rests between two looks for what is due.",
        millis(0, DAY_MS, |d, v| d.config.log_cleaner_backoff_ms = v),
    )
    .kafka(),
    opt(
        Group::Backup,
        "enable-backup",
        "",
        "false",
        "Make backups of the data directory while serving. The tool chronik lists, verifies and restores them.",
        Kind::Flag(|d, v| d.config.backup.enabled = v),
    ),
    opt(
        Group::Backup,
        "backup-url",
        "URL",
        "",
        "Where backups go: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, azure://CONTAINER/PREFIX or file:///PATH.",
        Kind::StoreUrl(|d, v| d.config.backup.url = Some(v)),
    ),
    opt(
        Group::Backup,
        "restore-from",
        "URL",
        "",
        "If there is no data directory yet, make it of the newest upload or backup in this store, and go on from there. Segments \
         that --storage keeps in the same place are not fetched.",
        Kind::StoreUrl(|d, v| d.config.backup.restore_from = Some(v)),
    ),
    opt(
        Group::Backup,
        "restore-directory",
        "ID",
        "",
        "Whose upload or backup that is: the id of its data directory, or a beginning that no other has. Needed where the store \
         has several; the error lists them.",
        Kind::Text(|d, v| d.config.backup.restore_directory = Some(v)),
    ),
    opt(
        Group::Backup,
        "backup-interval",
        "TIME",
        "1d",
        "Time from the beginning of one backup to that of the next; restarts don't change it.",
        millis(1000, CENTURY_MS, |d, v| d.config.backup.interval_ms = v),
    ),
    opt(
        Group::Backup,
        "backup-keep",
        "NUMBER",
        "0",
        "Backups to keep; older ones are deleted after each new one. 0 keeps all.",
        int(0, 1_000_000, |d, v| d.config.backup.keep = v as u64),
    ),
    opt(
        Group::Backup,
        "backup-keep-time",
        "TIME",
        "0",
        "How long backups are kept; the newest always stays. 0 keeps them for ever.",
        millis(0, CENTURY_MS, |d, v| d.config.backup.keep_ms = v),
    ),
    opt(
        Group::Topics,
        "num-partitions",
        "NUMBER",
        "1",
        "Partitions of a topic that is created without saying how many.",
        int(1, 10_000, |d, v| d.config.num_partitions = v as i32),
    )
    .kafka(),
    opt(
        Group::Topics,
        "auto-create-topics-enable",
        "BOOL",
        "true",
        "Create a topic when a client asks for one that does not exist.",
        Kind::Bool(|d, v| d.config.auto_create_topics_enable = v),
    )
    .kafka(),
    opt(
        Group::Topics,
        "delete-topic-enable",
        "BOOL",
        "true",
        "Allow clients to delete topics.",
        Kind::Bool(|d, v| d.config.delete_topic_enable = v),
    )
    .kafka(),
    opt(
        Group::Topics,
        "message-max-bytes",
        "SIZE",
        "1048588",
        "Largest record batch. It must fit twice into a segment and once into a request.",
        bytes(1, I32_MAX, |d, v| d.config.message_max_bytes = v as usize),
    )
    .kafka(),
    opt(
        Group::Topics,
        "compression-type",
        "TYPE",
        "producer",
        "How batches are stored: as the producer compressed them, with a codec of the broker's choice, or uncompressed.",
        Kind::Choice {
            names: &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"],
            refused: &[],
            set: |d, v| d.config.compression_type = v,
        },
    )
    .kafka(),
    opt(
        Group::Topics,
        "log-message-timestamp-type",
        "TYPE",
        "CreateTime",
        "Whose time records carry: CreateTime, the producer's, or LogAppendTime, the broker's.",
        Kind::Choice {
            names: &["CreateTime", "LogAppendTime"],
            refused: &[],
            set: |d, v| {
                d.config.log_message_timestamp_type =
                    if v == "LogAppendTime" { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
            },
        },
    )
    .kafka(),
    opt(
        Group::Topics,
        "log-message-timestamp-before-max-ms",
        "TIME",
        "9223372036854775807",
        "Refuse records whose CreateTime lies further in the past. The default is no limit.",
        millis(0, i64::MAX, |d, v| d.config.log_message_timestamp_before_max_ms = v),
    )
    .kafka(),
    opt(
        Group::Topics,
        "log-message-timestamp-after-max-ms",
        "TIME",
        "1h",
        "Refuse records whose CreateTime lies further in the future.",
        millis(0, i64::MAX, |d, v| d.config.log_message_timestamp_after_max_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-initial-rebalance-delay-ms",
        "TIME",
        "0",
        "How long the first rebalance of an empty group waits for more members. Kafka's default \
         of 3s spares large groups a few rebalances; here a first consumer starts at once.",
        millis(0, I32_MAX, |d, v| d.config.group_initial_rebalance_delay_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-min-session-timeout-ms",
        "TIME",
        "6s",
        "Shortest session timeout a group member may ask for.",
        millis(1, I32_MAX, |d, v| d.config.group_min_session_timeout_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-max-session-timeout-ms",
        "TIME",
        "30m",
        "Longest session timeout a group member may ask for.",
        millis(1, I32_MAX, |d, v| d.config.group_max_session_timeout_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-max-size",
        "NUMBER",
        "10000",
        "Most members of one group. Kafka's default is no limit.",
        int(1, 1_000_000, |d, v| d.config.group_max_size = v as usize),
    )
    .kafka(),
    share_ms! {
        "group-share-heartbeat-interval-ms", "5s", heartbeat_interval_ms, 1,
        "Members of share groups report this often."
    },
    share_ms! {
        "group-share-min-heartbeat-interval-ms", "5s", min_heartbeat_interval_ms, 1,
        "Least value of the heartbeat interval of share groups."
    },
    share_ms! {
        "group-share-max-heartbeat-interval-ms", "15s", max_heartbeat_interval_ms, 1,
        "Largest value of the heartbeat interval of share groups."
    },
    share_ms! {
        "group-share-session-timeout-ms", "45s", session_timeout_ms, 1,
        "A share group forgets a member that is silent for this long."
    },
    share_ms! {
        "group-share-min-session-timeout-ms", "45s", min_session_timeout_ms, 1,
        "Least value of the session timeout of share groups."
    },
    share_ms! {
        "group-share-max-session-timeout-ms", "60s", max_session_timeout_ms, 1,
        "Largest value of the session timeout of share groups."
    },
    share_ms! {
        "group-share-record-lock-duration-ms", "30s", record_lock_duration_ms, 1,
        "A share group's member may keep a record this long."
    },
    share_ms! {
        "group-share-min-record-lock-duration-ms", "15s", min_record_lock_duration_ms, 1,
        "Least value of the record lock duration of share groups."
    },
    share_ms! {
        "group-share-max-record-lock-duration-ms", "60s", max_record_lock_duration_ms, 1,
        "Largest value of the record lock duration of share groups."
    },
    share_ms! {
        "group-share-assignment-interval-ms", "1s", assignment_interval_ms, 0,
        "Wait so long between assignments."
    },
    share_ms! {
        "group-share-min-assignment-interval-ms", "0", min_assignment_interval_ms, 0,
        "Least value of that wait."
    },
    share_ms! {
        "group-share-max-assignment-interval-ms", "15s", max_assignment_interval_ms, 0,
        "Largest value of that wait."
    },
    share_int! {
        "group-share-delivery-count-limit", "5", delivery_count_limit, 2, 1000,
        "A share group hands out a record this often at most."
    },
    share_int! {
        "group-share-min-delivery-count-limit", "2", min_delivery_count_limit, 2, 1000,
        "Least value of the delivery count limit."
    },
    share_int! {
        "group-share-max-delivery-count-limit", "10", max_delivery_count_limit, 2, 1000,
        "Largest value of the delivery count limit."
    },
    share_int! {
        "group-share-partition-max-record-locks", "2000", partition_max_record_locks, 100, SHARE_LOCKS_MAX,
        "Records of a partition that a share group has under way."
    },
    share_int! {
        "group-share-min-partition-max-record-locks", "100", min_partition_max_record_locks, 100, SHARE_LOCKS_MAX,
        "Least value of the record locks per partition."
    },
    share_int! {
        "group-share-max-partition-max-record-locks", "4000", max_partition_max_record_locks, 100, SHARE_LOCKS_MAX,
        "Largest value of the record locks per partition."
    },
    share_int! { "group-share-max-size", "200", max_size, 1, 1000, "Most members of one share group." },
    share_int! {
        "group-share-max-share-sessions", "2000", max_share_sessions, 1, 100_000,
        "Most share sessions of all groups."
    },
    opt(
        Group::Groups,
        "group-consumer-session-timeout-ms",
        "TIME",
        "45s",
        "How long a member of a group of the consumer protocol (KIP-848) may be silent.",
        millis(1, I32_MAX, |d, v| d.config.group_consumer_session_timeout_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-min-session-timeout-ms",
        "TIME",
        "45s",
        "Shortest such timeout that a group may configure.",
        millis(1, I32_MAX, |d, v| d.config.group_consumer_min_session_timeout_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-max-session-timeout-ms",
        "TIME",
        "1m",
        "Longest such timeout that a group may configure.",
        millis(1, I32_MAX, |d, v| d.config.group_consumer_max_session_timeout_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-heartbeat-interval-ms",
        "TIME",
        "5s",
        "How often members of such groups are told to send heartbeats.",
        millis(1, I32_MAX, |d, v| d.config.group_consumer_heartbeat_interval_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-min-heartbeat-interval-ms",
        "TIME",
        "5s",
        "Shortest such interval that a group may configure.",
        millis(1, I32_MAX, |d, v| d.config.group_consumer_min_heartbeat_interval_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-max-heartbeat-interval-ms",
        "TIME",
        "15s",
        "Longest such interval that a group may configure.",
        millis(1, I32_MAX, |d, v| d.config.group_consumer_max_heartbeat_interval_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-assignment-interval-ms",
        "TIME",
        "1s",
        "Least time between two assignments of such a group.",
        millis(0, I32_MAX, |d, v| d.config.group_consumer_assignment_interval_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-min-assignment-interval-ms",
        "TIME",
        "0",
        "Shortest such interval that a group may configure.",
        millis(0, I32_MAX, |d, v| d.config.group_consumer_min_assignment_interval_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-max-assignment-interval-ms",
        "TIME",
        "15s",
        "Longest such interval that a group may configure.",
        millis(0, I32_MAX, |d, v| d.config.group_consumer_max_assignment_interval_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-max-size",
        "NUMBER",
        "10000",
        "Most members of one such group. Kafka's default is no limit.",
        int(1, 1_000_000, |d, v| d.config.group_consumer_max_size = v as usize),
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-assignors",
        "NAMES",
        "uniform,range",
        "The assignors that members of such groups may ask for; the first serves those who do \
         not.",
        Kind::Choice {
            names: &["uniform,range", "range,uniform", "uniform", "range"],
            refused: &[],
            set: |d, v| d.config.group_consumer_assignors = v,
        },
    )
    .kafka(),
    opt(
        Group::Groups,
        "group-consumer-migration-policy",
        "POLICY",
        "bidirectional",
        "In which direction a group with members may change between the classic and the \
         consumer protocol: both, to consumer only (upgrade), to classic only (downgrade), or \
         neither.",
        Kind::Choice {
            names: &["bidirectional", "upgrade", "downgrade", "disabled"],
            refused: &[],
            set: |d, v| d.config.group_consumer_migration_policy = v,
        },
    )
    .kafka(),
    opt(
        Group::Groups,
        "offsets-retention-minutes",
        "MINUTES",
        "10080",
        "Keep the committed offsets of an empty group this long.",
        int(1, 52_596_000, |d, v| d.config.offsets_retention_ms = v * 60_000),
    )
    .kafka(),
    opt(
        Group::Groups,
        "offset-metadata-max-bytes",
        "SIZE",
        "4096",
        "Longest text that a consumer may store beside an offset.",
        bytes(0, 32_767, |d, v| d.config.offset_metadata_max_bytes = v as usize),
    )
    .kafka(),
    opt(
        Group::Groups,
        "producer-id-expiration-ms",
        "TIME",
        "1d",
        "Forget a producer id that has been idle this long.",
        millis(1, CENTURY_MS, |d, v| d.config.producer_id_expiration_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "transaction-max-timeout-ms",
        "TIME",
        "15m",
        "Longest time that a transactional producer may give a transaction before it is aborted.",
        millis(1, i32::MAX as i64, |d, v| d.config.transaction_max_timeout_ms = v),
    )
    .kafka(),
    opt(
        Group::Groups,
        "transactional-id-expiration-ms",
        "TIME",
        "7d",
        "Forget a transactional id that has been idle this long.",
        millis(1, CENTURY_MS, |d, v| d.config.transactional_id_expiration_ms = v),
    )
    .kafka(),
    opt(
        Group::Limits,
        "max-connections",
        "NUMBER",
        "16384",
        "Most open connections. Kafka's default is no limit.",
        int(1, 1_000_000, |d, v| d.config.max_connections = v as usize),
    )
    .kafka(),
    opt(
        Group::Limits,
        "max-connections-per-ip",
        "NUMBER",
        "4096",
        "Most open connections from one address. Kafka's default is no limit.",
        int(1, 1_000_000, |d, v| d.config.max_connections_per_ip = v as usize),
    )
    .kafka(),
    opt(
        Group::Limits,
        "connections-max-idle-ms",
        "TIME",
        "10m",
        "Close a connection that has been silent this long.",
        millis(1000, CENTURY_MS, |d, v| d.config.connections_max_idle_ms = v),
    )
    .kafka(),
    opt(
        Group::Limits,
        "memory-limit",
        "SIZE",
        "1GiB",
        "Memory for all that clients and the server's own work cause; topics, groups and ids come on top. An eighth each is for \
         requests, answers and the keys of a compaction; when there is none left, reading waits.",
        bytes(limits::MEMORY_BYTES_MIN as i64, 1 << 40, |d, v| d.config.memory_limit = v as usize),
    ),
    opt(
        Group::Limits,
        "socket-request-max-bytes",
        "SIZE",
        "100MiB",
        "Largest request; a connection that announces a larger one is closed, and so is one that announces more than 16 MiB for \
         anything but Produce.",
        bytes(16_384, I32_MAX, |d, v| d.config.socket_request_max_bytes = v as usize),
    )
    .kafka(),
    opt(
        Group::Limits,
        "queued-max-request-bytes",
        "SIZE",
        "128MiB",
        "Memory for the requests of all connections together; when it is full, reading waits. \
         An eighth of --memory-limit. Kafka's default is no limit.",
        bytes(16_384, 1 << 40, |d, v| d.config.queued_max_request_bytes = v as usize),
    )
    .kafka(),
    opt(
        Group::Limits,
        "fetch-max-bytes",
        "SIZE",
        "55MiB",
        "Most bytes of records in one answer to a consumer.",
        bytes(1024, I32_MAX, |d, v| d.config.fetch_max_bytes = v as usize),
    )
    .kafka(),
    opt(
        Group::Limits,
        "max-incremental-fetch-session-cache-slots",
        "N",
        "1000",
        "Consumers whose fetches are remembered, so that they need not name all their partitions each time; 0 for none.",
        int(0, I32_MAX, |d, v| d.config.max_incremental_fetch_session_cache_slots = v as usize),
    )
    .kafka(),
    opt(
        Group::Later,
        "enable-search",
        "",
        "false",
        "Full-text search over the records.",
        Kind::Refused { takes_value: false },
    )
    .missing("full-text search"),
    opt(
        Group::Later,
        "controller-url",
        "URL",
        "",
        "The controller that the command ingest works for.",
        Kind::Refused { takes_value: true },
    )
    .missing("running as one of several nodes"),
    opt(
        Group::Later,
        "storage-url",
        "URL",
        "",
        "The storage that the command search reads.",
        Kind::Refused { takes_value: true },
    )
    .missing("full-text search"),
];

/// Keeps the more important of two actions, so that `--version --help` prints the help.
trait MinSome {
    fn min_some(self, other: Action) -> Option<Action>;
}

impl MinSome for Option<Action> {
    fn min_some(self, other: Action) -> Option<Action> {
        Some(self.map_or(other, |mine| mine.min(other)))
    }
}
