//! Owns the one table of broker configurations that clients can see, by Kafka's names: what each is here, and which can be
//! changed while the broker runs.

use super::topic_table::{COMPRESSIONS, TOPIC_CONFIGS};
use super::value::{int, long, Kind};
use crate::broker::apis;
use crate::config::{Config, Port, TimestampType};
use crate::limits;
use crate::options::OPTIONS;
use crate::wire::ApiKey;

/// One broker configuration.
#[derive(Debug)]
pub struct BrokerConfig {
    /// Kafka's name.
    pub name: &'static str,
    pub kind: Kind,
    /// What it is under these settings, unless it was changed as a default of topics.
    read: fn(&Config) -> String,
    pub change: Change,
    /// What it means, for those that are not options.
    about: &'static str,
    /// Nothing is told unless it was set: Kafka has no default then.
    pub null_by_default: bool,
    /// Every Kafka has a value of its own, so it is told as one that was set.
    pub always_set: bool,
}

/// Configurations that say the same in other units: the value of the first one that is set counts. Kafka tells the others as
/// synonyms of it.
const ALTERNATIVES: [&[&str]; 4] = [
    &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &["log.roll.ms", "log.roll.hours"],
];

/// Whether a configuration can be changed while the broker runs.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// In Kafka neither.
    Never,
    /// In Kafka it can.
    NotHere,
    /// By this; the value has been checked by its kind.
    Live(fn(&mut Config, &str)),
    /// As the default of the topic configuration that has this one for a synonym.
    TopicDefault,
}

impl BrokerConfig {
    /// What it means: the option's help, what the topic configuration says that it is the default of, or its own sentence.
    pub fn documentation(&self) -> &'static str {
        let option = OPTIONS.iter().find(|option| option.is_kafkas() && option.key() == self.name);
        let topic = || TOPIC_CONFIGS.iter().find(|row| row.synonym() == Some(self.name)).map(|row| row.documentation);
        option.map(|option| option.help).or_else(topic).unwrap_or(self.about)
    }

    /// The rows that give it a value, among them itself, those that count first first.
    pub fn alternatives(&self) -> impl Iterator<Item = &'static BrokerConfig> {
        let names = ALTERNATIVES.iter().find(|names| names.contains(&self.name)).copied();
        let own = names.is_none().then_some(self.name);
        names.unwrap_or(&[]).iter().copied().chain(own).filter_map(find)
    }

    /// What it is under these settings.
    pub fn value(&self, config: &Config) -> String {
        match config.topic_defaults.get(self.name) {
            Some(value) => value.clone(),
            None => (self.read)(config),
        }
    }

    /// Sets a value that has been checked.
    pub fn set(&self, config: &mut Config, value: &str) {
        match self.change {
            Change::Live(set) => set(config, value),
            Change::TopicDefault => {
                config.topic_defaults.insert(self.name, value.to_owned());
            }
            Change::Never | Change::NotHere => {}
        }
    }

    /// Whether it can be changed while the broker runs.
    pub fn is_dynamic(&self) -> bool {
        matches!(self.change, Change::Live(_) | Change::TopicDefault)
    }

    /// Checks a value that someone wants to set while the broker runs. `Ok` is its one way of writing.
    pub fn check(&self, config: &Config, value: &str) -> Result<String, String> {
        let name = self.name;
        match self.change {
            Change::Never => return Err(format!("Cannot update these configs dynamically: [{name}]")),
            Change::NotHere => return Err(format!("Changing {name} dynamically is not available in this version")),
            Change::Live(_) | Change::TopicDefault => {}
        }
        let value = self.kind.check(name, value)?;
        if matches!(self.change, Change::TopicDefault) {
            let row = TOPIC_CONFIGS.iter().find(|row| row.synonym() == Some(name));
            row.map_or(Ok(()), |row| row.check_support(name, config, &value))?;
        }
        let most = (config.log_segment_bytes / 2).min(config.socket_request_max_bytes as u64);
        if name == "message.max.bytes" && value.parse::<u64>().is_ok_and(|bytes| bytes > most) {
            return Err(format!(
                "Invalid value {value} for configuration {name}: a batch must fit twice into a segment of the log and once \
                 into a request, so {most} is the most"
            ));
        }
        Ok(value)
    }
}

/// The row of a broker configuration.
pub fn find(name: &str) -> Option<&'static BrokerConfig> {
    BROKER_CONFIGS.binary_search_by(|row| row.name.cmp(name)).ok().map(|index| &BROKER_CONFIGS[index])
}

/// An option.
const fn option(name: &'static str, kind: Kind, change: Change, read: fn(&Config) -> String) -> BrokerConfig {
    BrokerConfig { name, kind, read, change, about: "", null_by_default: false, always_set: false }
}

/// Something that is what it is.
const fn fact(
    name: &'static str,
    kind: Kind,
    change: Change,
    read: fn(&Config) -> String,
    about: &'static str,
) -> BrokerConfig {
    BrokerConfig { name, kind, read, change, about, null_by_default: false, always_set: false }
}

/// Something that Kafka has no default for.
const fn null_by_default(row: BrokerConfig) -> BrokerConfig {
    BrokerConfig { null_by_default: true, ..row }
}

/// Something that every Kafka sets.
const fn always_set(row: BrokerConfig) -> BrokerConfig {
    BrokerConfig { always_set: true, ..row }
}

/// The default of a topic configuration that has an effect only there.
const fn default(name: &'static str, kind: Kind, read: fn(&Config) -> String) -> BrokerConfig {
    fact(name, kind, Change::TopicDefault, read, "")
}

use Change::{Live, Never, NotHere};

/// A valid value, read as a number; the bounds were checked by its kind.
fn number(value: &str) -> i64 {
    value.parse().unwrap_or(0)
}

fn listener(config: &Config) -> String {
    endpoint(&config.bind_host, port(config))
}

fn advertised(config: &Config) -> String {
    if config.advertised_host.is_none() && config.advertised_port.is_none() {
        return String::new();
    }
    let host = config.advertised_host.as_ref().unwrap_or(&config.bind_host);
    endpoint(host, config.advertised_port.unwrap_or_else(|| port(config)))
}

fn port(config: &Config) -> u16 {
    match config.kafka_port {
        Port::Fixed(port) => port,
        Port::Any | Port::Off => 0,
    }
}

fn endpoint(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("PLAINTEXT://[{host}]:{port}"),
        false => format!("PLAINTEXT://{host}:{port}"),
    }
}

/// The protocols of groups that are served.
fn protocols() -> String {
    let protocols = [
        ("classic", ApiKey::JOIN_GROUP),
        ("consumer", ApiKey::CONSUMER_GROUP_HEARTBEAT),
        ("share", ApiKey::SHARE_GROUP_HEARTBEAT),
        ("streams", ApiKey::STREAMS_GROUP_HEARTBEAT),
    ];
    let served = protocols.iter().filter(|(_, key)| apis::served().any(|served| served.key == *key));
    served.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

const ONE_NODE: &str = "Always 1: there is one node.";

/// Every broker configuration that is told, in the order of names.
pub static BROKER_CONFIGS: &[BrokerConfig] = &[
    null_by_default(fact(
        "advertised.listeners",
        Kind::Texts,
        Never,
        advertised,
        "Where clients are told to connect to, if not where they are listened for.",
    )),
    fact("authorizer.class.name", Kind::Text, Never, |_| String::new(), "Empty: there are no ACLs in this version."),
    option("auto.create.topics.enable", Kind::Bool, Never, |c| c.auto_create_topics_enable.to_string()),
    always_set(fact("broker.id", int(-1), Never, |c| c.node_id.to_string(), "This broker's id, as clients see it.")),
    null_by_default(fact("broker.rack", Kind::Text, Never, |_| String::new(), "None: one node is in no rack.")),
    default("compression.gzip.level", Kind::GzipLevel, |_| "-1".into()),
    default("compression.lz4.level", Kind::Int { min: 1, max: 17 }, |_| "9".into()),
    option("compression.type", Kind::Choice(COMPRESSIONS), Change::TopicDefault, |c| c.compression_type.into()),
    default("compression.zstd.level", Kind::Int { min: -131_072, max: 22 }, |_| "3".into()),
    option("connections.max.idle.ms", long(1), Never, |c| c.connections_max_idle_ms.to_string()),
    fact("default.replication.factor", int(1), Never, |_| "1".into(), ONE_NODE),
    option("delete.topic.enable", Kind::Bool, Never, |c| c.delete_topic_enable.to_string()),
    option("fetch.max.bytes", int(1024), Never, |c| c.fetch_max_bytes.to_string()),
    option("group.consumer.assignment.interval.ms", int(0), Never, |c| {
        c.group_consumer_assignment_interval_ms.to_string()
    }),
    option("group.consumer.assignors", Kind::List(&["uniform", "range"]), Never, |c| {
        c.group_consumer_assignors.to_string()
    }),
    option("group.consumer.heartbeat.interval.ms", int(1), Never, |c| {
        c.group_consumer_heartbeat_interval_ms.to_string()
    }),
    option("group.consumer.max.assignment.interval.ms", int(0), Never, |c| {
        c.group_consumer_max_assignment_interval_ms.to_string()
    }),
    option("group.consumer.max.heartbeat.interval.ms", int(1), Never, |c| {
        c.group_consumer_max_heartbeat_interval_ms.to_string()
    }),
    option("group.consumer.max.session.timeout.ms", int(1), Never, |c| {
        c.group_consumer_max_session_timeout_ms.to_string()
    }),
    option("group.consumer.max.size", int(1), Never, |c| c.group_consumer_max_size.to_string()),
    option(
        "group.consumer.migration.policy",
        Kind::Choice(&["bidirectional", "upgrade", "downgrade", "disabled"]),
        Never,
        |c| c.group_consumer_migration_policy.to_string(),
    ),
    option("group.consumer.min.assignment.interval.ms", int(0), Never, |c| {
        c.group_consumer_min_assignment_interval_ms.to_string()
    }),
    option("group.consumer.min.heartbeat.interval.ms", int(1), Never, |c| {
        c.group_consumer_min_heartbeat_interval_ms.to_string()
    }),
    option("group.consumer.min.session.timeout.ms", int(1), Never, |c| {
        c.group_consumer_min_session_timeout_ms.to_string()
    }),
    option("group.consumer.session.timeout.ms", int(1), Never, |c| c.group_consumer_session_timeout_ms.to_string()),
    fact(
        "group.coordinator.rebalance.protocols",
        Kind::Texts,
        Never,
        |_| protocols(),
        "The protocols that groups can have.",
    ),
    option("group.initial.rebalance.delay.ms", int(0), Never, |c| c.group_initial_rebalance_delay_ms.to_string()),
    option("group.max.session.timeout.ms", int(1), Never, |c| c.group_max_session_timeout_ms.to_string()),
    option("group.max.size", int(1), Never, |c| c.group_max_size.to_string()),
    option("group.min.session.timeout.ms", int(1), Never, |c| c.group_min_session_timeout_ms.to_string()),
    option("group.share.assignment.interval.ms", int(0), Never, |c| c.share.assignment_interval_ms.to_string()),
    fact(
        "group.share.assignors",
        Kind::List(&["simple"]),
        Never,
        |_| "simple".into(),
        "The assignor of share groups; there is one.",
    ),
    option("group.share.delivery.count.limit", int(2), Never, |c| c.share.delivery_count_limit.to_string()),
    option("group.share.heartbeat.interval.ms", int(1), Never, |c| c.share.heartbeat_interval_ms.to_string()),
    option("group.share.max.assignment.interval.ms", int(0), Never, |c| c.share.max_assignment_interval_ms.to_string()),
    option("group.share.max.delivery.count.limit", int(2), Never, |c| c.share.max_delivery_count_limit.to_string()),
    option("group.share.max.heartbeat.interval.ms", int(1), Never, |c| c.share.max_heartbeat_interval_ms.to_string()),
    option("group.share.max.partition.max.record.locks", int(100), Never, |c| {
        c.share.max_partition_max_record_locks.to_string()
    }),
    option("group.share.max.record.lock.duration.ms", int(1), Never, |c| {
        c.share.max_record_lock_duration_ms.to_string()
    }),
    option("group.share.max.session.timeout.ms", int(1), Never, |c| c.share.max_session_timeout_ms.to_string()),
    option("group.share.max.share.sessions", int(1), Never, |c| c.share.max_share_sessions.to_string()),
    option("group.share.max.size", int(1), Never, |c| c.share.max_size.to_string()),
    option("group.share.min.assignment.interval.ms", int(0), Never, |c| c.share.min_assignment_interval_ms.to_string()),
    option("group.share.min.delivery.count.limit", int(2), Never, |c| c.share.min_delivery_count_limit.to_string()),
    option("group.share.min.heartbeat.interval.ms", int(1), Never, |c| c.share.min_heartbeat_interval_ms.to_string()),
    option("group.share.min.partition.max.record.locks", int(100), Never, |c| {
        c.share.min_partition_max_record_locks.to_string()
    }),
    option("group.share.min.record.lock.duration.ms", int(1), Never, |c| {
        c.share.min_record_lock_duration_ms.to_string()
    }),
    option("group.share.min.session.timeout.ms", int(1), Never, |c| c.share.min_session_timeout_ms.to_string()),
    option("group.share.partition.max.record.locks", int(100), Never, |c| {
        c.share.partition_max_record_locks.to_string()
    }),
    option("group.share.record.lock.duration.ms", int(1), Never, |c| c.share.record_lock_duration_ms.to_string()),
    option("group.share.session.timeout.ms", int(1), Never, |c| c.share.session_timeout_ms.to_string()),
    fact("inter.broker.listener.name", Kind::Text, Never, |_| "PLAINTEXT".into(), "The name of the one listener."),
    fact(
        "listener.security.protocol.map",
        Kind::Text,
        Never,
        |_| "PLAINTEXT:PLAINTEXT".into(),
        "There is neither encryption nor authentication in this version.",
    ),
    fact("listeners", Kind::Texts, Never, listener, "Where Kafka clients are listened for."),
    option("log.cleaner.backoff.ms", long(0), Live(|c, v| c.log_cleaner_backoff_ms = number(v)), |c| {
        c.log_cleaner_backoff_ms.to_string()
    }),
    option(
        "log.cleaner.dedupe.buffer.size",
        long(1 << 20),
        Live(|c, v| c.log_cleaner_dedupe_buffer_size = usize::try_from(number(v)).unwrap_or(0)),
        |c| c.log_cleaner_dedupe_buffer_size.to_string(),
    ),
    default("log.cleaner.delete.retention.ms", long(0), |_| "86400000".into()),
    default("log.cleaner.max.compaction.lag.ms", long(1), |_| i64::MAX.to_string()),
    default("log.cleaner.min.cleanable.ratio", Kind::Double { min: 0.0, max: 1.0 }, |_| "0.5".into()),
    default("log.cleaner.min.compaction.lag.ms", long(0), |_| "0".into()),
    default("log.cleanup.policy", Kind::List(&["compact", "delete"]), |_| "delete".into()),
    fact("log.dir", Kind::Texts, Never, |c| c.data_dir.to_string_lossy().into_owned(), "Where everything is kept."),
    fact("log.dirs", Kind::Texts, Never, |c| c.data_dir.to_string_lossy().into_owned(), "Where everything is kept."),
    default("log.flush.interval.messages", long(1), |_| i64::MAX.to_string()),
    null_by_default(default("log.flush.interval.ms", long(0), |_| i64::MAX.to_string())),
    fact(
        "log.flush.scheduler.interval.ms",
        long(0),
        Never,
        |_| i64::MAX.to_string(),
        "Without effect with --fsync=always, which syncs every record before it is acknowledged.",
    ),
    default("log.index.interval.bytes", int(0), |_| "4096".into()),
    default("log.index.size.max.bytes", int(4), |_| "10485760".into()),
    default("log.local.retention.bytes", long(-2), |_| "-2".into()),
    default("log.local.retention.ms", long(-2), |_| "-2".into()),
    option(
        "log.message.timestamp.after.max.ms",
        long(0),
        Live(|c, v| c.log_message_timestamp_after_max_ms = number(v)),
        |c| c.log_message_timestamp_after_max_ms.to_string(),
    ),
    option(
        "log.message.timestamp.before.max.ms",
        long(0),
        Live(|c, v| c.log_message_timestamp_before_max_ms = number(v)),
        |c| c.log_message_timestamp_before_max_ms.to_string(),
    ),
    option(
        "log.message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        Live(|c, v| {
            c.log_message_timestamp_type =
                if v == "LogAppendTime" { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
        }),
        |c| c.log_message_timestamp_type.name().into(),
    ),
    default("log.preallocate", Kind::Bool, |_| "true".into()),
    option("log.retention.bytes", long(-1), Live(|c, v| c.log_retention_bytes = number(v)), |c| {
        c.log_retention_bytes.to_string()
    }),
    option("log.retention.check.interval.ms", long(1), Never, |c| c.log_retention_check_interval_ms.to_string()),
    option("log.retention.hours", int(-1), Never, |c| match c.log_retention_ms {
        -1 => "-1".into(),
        ms => (ms / 3_600_000).to_string(),
    }),
    null_by_default(fact("log.retention.minutes", int(-1), Never, |_| String::new(), "None: log.retention.ms counts.")),
    null_by_default(option("log.retention.ms", long(-1), Live(|c, v| c.log_retention_ms = number(v)), |c| {
        c.log_retention_ms.to_string()
    })),
    fact(
        "log.roll.hours",
        int(1),
        Never,
        |c| (c.log_roll_ms / 3_600_000).max(1).to_string(),
        "As log.roll.ms, rounded.",
    ),
    fact("log.roll.jitter.hours", int(0), Never, |_| "0".into(), "None: log.roll.jitter.ms counts."),
    null_by_default(default("log.roll.jitter.ms", long(0), |_| "0".into())),
    null_by_default(option("log.roll.ms", long(1000), Live(|c, v| c.log_roll_ms = number(v)), |c| {
        c.log_roll_ms.to_string()
    })),
    option("log.segment.bytes", int(1 << 20), NotHere, |c| c.log_segment_bytes.to_string()),
    default("log.segment.delete.delay.ms", long(0), |_| "0".into()),
    option("max.connections", int(0), NotHere, |c| c.max_connections.to_string()),
    option("max.connections.per.ip", int(0), NotHere, |c| c.max_connections_per_ip.to_string()),
    option("max.incremental.fetch.session.cache.slots", int(0), Never, |c| {
        c.max_incremental_fetch_session_cache_slots.to_string()
    }),
    fact(
        "max.request.partition.size.limit",
        int(1),
        Never,
        |_| limits::DESCRIBED_PARTITIONS_MAX.to_string(),
        "Partitions in one page of DescribeTopicPartitions.",
    ),
    option(
        "message.max.bytes",
        int(0),
        Live(|c, v| c.message_max_bytes = usize::try_from(number(v)).unwrap_or(0)),
        |c| c.message_max_bytes.to_string(),
    ),
    default("min.insync.replicas", int(1), |_| "1".into()),
    always_set(null_by_default(option("node.id", int(0), Never, |c| c.node_id.to_string()))),
    option("num.partitions", int(1), Never, |c| c.num_partitions.to_string()),
    option("offset.metadata.max.bytes", int(0), Never, |c| c.offset_metadata_max_bytes.to_string()),
    option("offsets.retention.minutes", int(1), Never, |c| (c.offsets_retention_ms / 60_000).to_string()),
    fact("offsets.topic.replication.factor", Kind::Short { min: 1 }, Never, |_| "1".into(), ONE_NODE),
    fact(
        "process.roles",
        Kind::List(&["broker", "controller"]),
        Never,
        |_| "broker,controller".into(),
        "One process is both broker and controller.",
    ),
    option("producer.id.expiration.ms", int(1), Live(|c, v| c.producer_id_expiration_ms = number(v)), |c| {
        c.producer_id_expiration_ms.to_string()
    }),
    option("queued.max.request.bytes", long(-1), Never, |c| c.queued_max_request_bytes.to_string()),
    fact(
        "remote.log.storage.system.enable",
        Kind::Bool,
        Never,
        |c| c.storage.keeps_objects().to_string(),
        "Whether sealed segments are kept in object storage too: --storage.",
    ),
    option("socket.request.max.bytes", int(1), Never, |c| c.socket_request_max_bytes.to_string()),
    option("transaction.max.timeout.ms", int(1), Never, |c| c.transaction_max_timeout_ms.to_string()),
    option("transactional.id.expiration.ms", int(1), Never, |c| c.transactional_id_expiration_ms.to_string()),
    default("unclean.leader.election.enable", Kind::Bool, |_| "false".into()),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_with_a_kafka_name_is_told_and_nothing_is_told_without_a_word() {
        assert!(BROKER_CONFIGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for option in OPTIONS.iter().filter(|option| option.is_kafkas()) {
            assert!(find(&option.key()).is_some(), "{}", option.key());
        }
        for row in BROKER_CONFIGS {
            assert!(!row.documentation().is_empty(), "{}", row.name);
            let value = row.value(&Config::default());
            if !value.is_empty() {
                assert_eq!(row.kind.check(row.name, &value), Ok(value), "{}", row.name);
            }
        }
    }

    #[test]
    fn what_is_changed_live_is_told_as_changed() {
        for row in BROKER_CONFIGS {
            let mut config = Config::default();
            let value = match (row.kind, row.name) {
                // What cannot be honoured cannot be a default either.
                (_, "log.local.retention.bytes" | "log.local.retention.ms" | "compression.type") => "-2",
                (Kind::Choice(names) | Kind::List(names), _) => names[names.len().min(2) - 1],
                (_, "log.cleaner.dedupe.buffer.size") => "54321000",
                (Kind::Bool, _) => "true",
                (Kind::Double { .. }, _) => "0.75",
                (Kind::GzipLevel, _) | (Kind::Int { max: 17 | 22, .. }, _) => "7",
                _ => "54321",
            };
            let Ok(checked) = row.check(&config, value) else {
                assert!(!row.is_dynamic() || row.name == "compression.type", "{}", row.name);
                continue;
            };
            row.set(&mut config, &checked);
            assert_eq!(row.value(&config), value, "{}", row.name);
        }
    }

    #[test]
    fn what_cannot_be_changed_live_is_refused() {
        let config = Config::default();
        let refused = |name: &str, value: &str| find(name).unwrap().check(&config, value).unwrap_err();
        assert_eq!(refused("log.dirs", "/tmp"), "Cannot update these configs dynamically: [log.dirs]");
        assert!(refused("max.connections", "1").ends_with("is not available in this version"));
        assert!(refused("message.max.bytes", "2147483647").contains("segment"));
    }
}
