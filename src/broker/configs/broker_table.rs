//! Owns the one table of broker configurations that clients can see, by Kafka's names: what each is here, and which can be
//! changed while the broker runs.

use super::value::{int, long, Kind};
use crate::config::{Config, Port, TimestampType};
use crate::options::OPTIONS;

/// One broker configuration.
#[derive(Debug)]
pub struct BrokerConfig {
    /// Kafka's name.
    pub name: &'static str,
    pub kind: Kind,
    /// What it is under these settings.
    pub value: fn(&Config) -> String,
    pub change: Change,
    /// What it means, for those that are not options.
    about: &'static str,
}

/// Whether a configuration can be changed while the broker runs.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// In Kafka neither.
    Never,
    /// In Kafka it can.
    NotHere,
    /// By this; the value has been checked by its kind.
    Live(fn(&mut Config, &str)),
}

impl BrokerConfig {
    /// What it means: the option's help, or a sentence of its own.
    pub fn documentation(&self) -> &'static str {
        match OPTIONS.iter().find(|option| option.is_kafkas() && option.key() == self.name) {
            Some(option) => option.help,
            None => self.about,
        }
    }

    /// Checks a value that someone wants to set while the broker runs. `Ok` is its one way of writing.
    pub fn check(&self, config: &Config, value: &str) -> Result<String, String> {
        let name = self.name;
        match self.change {
            Change::Never => return Err(format!("Cannot update these configs dynamically: {name}")),
            Change::NotHere => return Err(format!("Changing {name} dynamically is not available in this version")),
            Change::Live(_) => {}
        }
        let shown = super::topic_table::shown(value);
        let value =
            self.kind.read(value).map_err(|why| format!("Invalid value {shown} for configuration {name}: {why}"))?;
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
const fn option(name: &'static str, kind: Kind, change: Change, value: fn(&Config) -> String) -> BrokerConfig {
    BrokerConfig { name, kind, value, change, about: "" }
}

/// Something that is what it is.
const fn fact(
    name: &'static str,
    kind: Kind,
    change: Change,
    value: fn(&Config) -> String,
    about: &'static str,
) -> BrokerConfig {
    BrokerConfig { name, kind, value, change, about }
}

use Change::{Live, Never, NotHere};

/// A valid value, read as a number; the bounds were checked by its kind.
fn number(value: &str) -> i64 {
    value.parse().unwrap_or(0)
}

fn listener(config: &Config) -> String {
    let port = match config.kafka_port {
        Port::Fixed(port) => port,
        Port::Any | Port::Off => 0,
    };
    let host = &config.bind_host;
    match host.contains(':') {
        true => format!("PLAINTEXT://[{host}]:{port}"),
        false => format!("PLAINTEXT://{host}:{port}"),
    }
}

const ONE_NODE: &str = "Always 1: there is one node.";
const TOPIC_DEFAULT: &str = "The default of the topic configuration that corresponds to it, which says what it does.";

/// Every broker configuration that is told, in the order of names.
pub static BROKER_CONFIGS: &[BrokerConfig] = &[
    option("auto.create.topics.enable", Kind::Bool, Never, |c| c.auto_create_topics_enable.to_string()),
    fact("broker.id", int(0), Never, |c| c.node_id.to_string(), "This broker's id, as clients see it."),
    fact("compression.gzip.level", Kind::Int { min: -1, max: 9 }, NotHere, |_| "-1".into(), TOPIC_DEFAULT),
    fact("compression.lz4.level", Kind::Int { min: 1, max: 17 }, NotHere, |_| "9".into(), TOPIC_DEFAULT),
    fact("compression.type", Kind::Text, NotHere, |_| "producer".into(), TOPIC_DEFAULT),
    fact("compression.zstd.level", Kind::Int { min: -131_072, max: 22 }, NotHere, |_| "3".into(), TOPIC_DEFAULT),
    option("connections.max.idle.ms", long(1), Never, |c| c.connections_max_idle_ms.to_string()),
    fact("default.replication.factor", int(1), Never, |_| "1".into(), ONE_NODE),
    option("delete.topic.enable", Kind::Bool, Never, |c| c.delete_topic_enable.to_string()),
    option("fetch.max.bytes", int(1024), Never, |c| c.fetch_max_bytes.to_string()),
    option("group.initial.rebalance.delay.ms", int(0), Never, |c| c.group_initial_rebalance_delay_ms.to_string()),
    option("group.max.session.timeout.ms", int(1), Never, |c| c.group_max_session_timeout_ms.to_string()),
    option("group.max.size", int(1), Never, |c| c.group_max_size.to_string()),
    option("group.min.session.timeout.ms", int(1), Never, |c| c.group_min_session_timeout_ms.to_string()),
    fact(
        "group.share.assignors",
        Kind::Text,
        Never,
        |_| "simple".into(),
        "The assignor of share groups; there is one.",
    ),
    option("group.share.delivery.count.limit", int(2), Never, |c| c.share.delivery_count_limit.to_string()),
    option("group.share.heartbeat.interval.ms", int(1), Never, |c| c.share.heartbeat_interval_ms.to_string()),
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
    fact("listeners", Kind::Text, Never, listener, "Where Kafka clients are listened for."),
    fact("log.cleaner.delete.retention.ms", long(0), NotHere, |_| "86400000".into(), TOPIC_DEFAULT),
    fact("log.cleaner.max.compaction.lag.ms", long(1), NotHere, |_| i64::MAX.to_string(), TOPIC_DEFAULT),
    fact(
        "log.cleaner.min.cleanable.ratio",
        Kind::Double { min: 0.0, max: 1.0 },
        NotHere,
        |_| "0.5".into(),
        TOPIC_DEFAULT,
    ),
    fact("log.cleaner.min.compaction.lag.ms", long(0), NotHere, |_| "0".into(), TOPIC_DEFAULT),
    fact("log.cleanup.policy", Kind::List(&["compact", "delete"]), NotHere, |_| "delete".into(), TOPIC_DEFAULT),
    fact("log.dir", Kind::Text, Never, |c| c.data_dir.to_string_lossy().into_owned(), "Where everything is kept."),
    fact("log.dirs", Kind::Text, Never, |c| c.data_dir.to_string_lossy().into_owned(), "Where everything is kept."),
    fact("log.flush.interval.messages", long(1), NotHere, |_| i64::MAX.to_string(), TOPIC_DEFAULT),
    fact("log.flush.interval.ms", long(0), NotHere, |_| i64::MAX.to_string(), TOPIC_DEFAULT),
    fact("log.index.interval.bytes", int(0), NotHere, |_| "4096".into(), TOPIC_DEFAULT),
    fact("log.index.size.max.bytes", int(4), NotHere, |_| "10485760".into(), TOPIC_DEFAULT),
    fact("log.local.retention.bytes", long(-2), NotHere, |_| "-2".into(), TOPIC_DEFAULT),
    fact("log.local.retention.ms", long(-2), NotHere, |_| "-2".into(), TOPIC_DEFAULT),
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
    fact("log.preallocate", Kind::Bool, NotHere, |_| "true".into(), TOPIC_DEFAULT),
    option("log.retention.bytes", long(-1), Live(|c, v| c.log_retention_bytes = number(v)), |c| {
        c.log_retention_bytes.to_string()
    }),
    option("log.retention.check.interval.ms", long(1), Never, |c| c.log_retention_check_interval_ms.to_string()),
    option("log.retention.hours", int(-1), Never, |c| match c.log_retention_ms {
        -1 => "-1".into(),
        ms => (ms / 3_600_000).to_string(),
    }),
    option("log.retention.ms", long(-1), Live(|c, v| c.log_retention_ms = number(v)), |c| {
        c.log_retention_ms.to_string()
    }),
    fact("log.roll.jitter.ms", long(0), NotHere, |_| "0".into(), TOPIC_DEFAULT),
    option("log.roll.ms", long(1000), Live(|c, v| c.log_roll_ms = number(v)), |c| c.log_roll_ms.to_string()),
    option("log.segment.bytes", int(1 << 20), NotHere, |c| c.log_segment_bytes.to_string()),
    fact("log.segment.delete.delay.ms", long(0), NotHere, |_| "0".into(), TOPIC_DEFAULT),
    option("max.connections", int(0), NotHere, |c| c.max_connections.to_string()),
    option("max.connections.per.ip", int(0), NotHere, |c| c.max_connections_per_ip.to_string()),
    option(
        "message.max.bytes",
        int(0),
        Live(|c, v| c.message_max_bytes = usize::try_from(number(v)).unwrap_or(0)),
        |c| c.message_max_bytes.to_string(),
    ),
    fact("min.insync.replicas", int(1), NotHere, |_| "1".into(), TOPIC_DEFAULT),
    option("node.id", int(0), Never, |c| c.node_id.to_string()),
    option("num.partitions", int(1), Never, |c| c.num_partitions.to_string()),
    option("offset.metadata.max.bytes", int(0), Never, |c| c.offset_metadata_max_bytes.to_string()),
    option("offsets.retention.minutes", int(1), Never, |c| (c.offsets_retention_ms / 60_000).to_string()),
    fact("offsets.topic.replication.factor", int(1), Never, |_| "1".into(), ONE_NODE),
    fact(
        "process.roles",
        Kind::List(&["broker", "controller"]),
        Never,
        |_| "broker,controller".into(),
        "One process is both broker and controller.",
    ),
    option("producer.id.expiration.ms", long(1), Live(|c, v| c.producer_id_expiration_ms = number(v)), |c| {
        c.producer_id_expiration_ms.to_string()
    }),
    option("queued.max.request.bytes", long(-1), Never, |c| c.queued_max_request_bytes.to_string()),
    option("socket.request.max.bytes", int(1), Never, |c| c.socket_request_max_bytes.to_string()),
    fact("unclean.leader.election.enable", Kind::Bool, NotHere, |_| "false".into(), TOPIC_DEFAULT),
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
            let value = (row.value)(&Config::default());
            assert_eq!(row.kind.read(&value), Ok(value), "{}", row.name);
        }
    }

    #[test]
    fn what_is_changed_live_is_told_as_changed() {
        for row in BROKER_CONFIGS {
            let Live(set) = row.change else { continue };
            let mut config = Config::default();
            let value = match row.kind {
                Kind::Choice(names) => names[1].to_owned(),
                _ => "54321".to_owned(),
            };
            let checked = row.check(&config, &value).unwrap();
            set(&mut config, &checked);
            assert_eq!((row.value)(&config), value, "{}", row.name);
        }
    }

    #[test]
    fn what_cannot_be_changed_live_is_refused() {
        let config = Config::default();
        let refused = |name: &str, value: &str| find(name).unwrap().check(&config, value).unwrap_err();
        assert_eq!(refused("log.dirs", "/tmp"), "Cannot update these configs dynamically: log.dirs");
        assert!(refused("max.connections", "1").ends_with("is not available in this version"));
        assert!(refused("message.max.bytes", "2147483647").contains("segment"));
    }
}
