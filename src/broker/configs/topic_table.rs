//! Owns the one table of topic configurations: every one that Kafka 4 has, with its default, its bounds, and what this
//! version makes of it.

use super::broker_table;
pub use super::value::shown;
use super::value::{int, long, Kind};
use crate::config::{Config, Fsync};

/// One topic configuration.
#[derive(Debug)]
pub struct TopicConfig {
    /// Kafka's name.
    pub name: &'static str,
    pub kind: Kind,
    default: Origin,
    pub support: Support,
    /// What it does here, in a sentence or two.
    pub documentation: &'static str,
}

/// Where a topic's value comes from when it has none of its own.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// This broker configuration, which Kafka calls its synonym.
    Broker(&'static str),
    Fixed(&'static str),
}

/// What this version makes of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is acted on.
    Enforced,
    /// It is kept and told, and changes nothing; the documentation says why that is harmless.
    NoEffect,
    /// Only a server with an object store takes anything but the default, and needs no telling: it does so for all topics.
    NeedsStore,
    /// Without effect while every write is synced before it is acknowledged; otherwise only the default can be set.
    NeedsFsyncAlways,
}

impl TopicConfig {
    /// The broker configuration that gives the default.
    pub fn synonym(&self) -> Option<&'static str> {
        match self.default {
            Origin::Broker(name) => Some(name),
            Origin::Fixed(_) => None,
        }
    }

    /// The value of a topic that has none of its own.
    pub fn default(&self, config: &Config) -> String {
        match self.default {
            Origin::Fixed(value) => value.to_owned(),
            Origin::Broker(name) => broker_table::find(name).map(|row| row.value(config)).unwrap_or_default(),
        }
    }

    /// Checks a value that someone wants to set. `Ok` is its one way of writing, the error a sentence.
    pub fn check(&self, config: &Config, value: &str) -> Result<String, String> {
        let name = self.name;
        let value = self.kind.check(name, value)?;
        self.check_support(name, config, &value)?;
        let largest = (config.log_segment_bytes / 2).to_string();
        if name == "max.message.bytes" && value.parse::<u64>().is_ok_and(|bytes| bytes > config.log_segment_bytes / 2) {
            return Err(format!(
                "Invalid value {value} for configuration {name}: a batch must fit twice into a segment of the log, so \
                 {largest} is the most"
            ));
        }
        Ok(value)
    }

    /// Whether a value that the kind allows can be honoured, for one topic or, under the broker's name, as the default of
    /// all. The error is a sentence.
    pub fn check_support(&self, name: &str, config: &Config, value: &str) -> Result<(), String> {
        let default_only = match self.support {
            Support::Enforced | Support::NoEffect => false,
            Support::NeedsStore => !config.storage.keeps_objects(),
            Support::NeedsFsyncAlways => config.fsync != Fsync::Always,
        };
        if !default_only || value == self.default(config) {
            return Ok(());
        }
        if name == "remote.storage.enable" {
            let why =
                "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
                       storage.";
            return Err(why.to_owned());
        }
        Err(format!("{name}={value} is not available in this version"))
    }
}

/// The row of a topic configuration.
pub fn find(name: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.binary_search_by(|row| row.name.cmp(name)).ok().map(|index| &TOPIC_CONFIGS[index])
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: Origin,
    support: Support,
    documentation: &'static str,
) -> TopicConfig {
    TopicConfig { name, kind, default, support, documentation }
}

use Origin::{Broker, Fixed};
use Support::{Enforced, NeedsFsyncAlways, NeedsStore, NoEffect};

const NO_INDEX: &str = "Without effect: there are no index files.";
const ALL_TIERED: &str = "Without effect: with object storage every sealed segment of every topic is kept there.";
const ONE_NODE: &str = "Without effect: one node has nothing to replicate.";
const SYNCED: &str = "Without effect with --fsync=always, which syncs every record before it is acknowledged. \
                      With another mode only the default can be set.";

/// Kafka's names of what batches can be compressed with.
pub(super) const COMPRESSIONS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// Every topic configuration, in the order of names.
pub static TOPIC_CONFIGS: &[TopicConfig] = &[
    row(
        "cleanup.policy",
        Kind::List(&["compact", "delete"]),
        Broker("log.cleanup.policy"),
        Enforced,
        "What happens to old records: delete applies retention; compact keeps the last record of every key, and each \
         needs a key; both can be combined; empty keeps everything.",
    ),
    row(
        "compression.gzip.level",
        Kind::GzipLevel,
        Broker("compression.gzip.level"),
        Enforced,
        "With compression.type=gzip, how hard the broker tries where it compresses; -1 is 6.",
    ),
    row(
        "compression.lz4.level",
        Kind::Int { min: 1, max: 17 },
        Broker("compression.lz4.level"),
        NoEffect,
        "Without effect: the broker's LZ4 has one level, the fast one that Kafka's default stands for too.",
    ),
    row(
        "compression.type",
        Kind::Choice(COMPRESSIONS),
        Broker("compression.type"),
        Enforced,
        "How batches are stored: producer leaves them as they come; another codec than the producer's, or uncompressed, \
         makes the broker compress them anew.",
    ),
    row(
        "compression.zstd.level",
        Kind::Int { min: -131_072, max: 22 },
        Broker("compression.zstd.level"),
        Enforced,
        "With compression.type=zstd, how hard the broker tries where it compresses; above 19 with a window of 8 MiB at most.",
    ),
    row(
        "delete.retention.ms",
        long(0),
        Broker("log.cleaner.delete.retention.ms"),
        Enforced,
        "With compaction, how long tombstones and the ends of emptied transactions stay after it has first passed \
         them, in milliseconds.",
    ),
    row(
        "file.delete.delay.ms",
        long(0),
        Broker("log.segment.delete.delay.ms"),
        NoEffect,
        "Without effect: a segment is unlinked as soon as nothing needs it.",
    ),
    row("flush.messages", long(1), Broker("log.flush.interval.messages"), NeedsFsyncAlways, SYNCED),
    row("flush.ms", long(0), Broker("log.flush.interval.ms"), NeedsFsyncAlways, SYNCED),
    row("follower.replication.throttled.replicas", Kind::ThrottledReplicas, Fixed(""), NoEffect, ONE_NODE),
    row("index.interval.bytes", int(0), Broker("log.index.interval.bytes"), NoEffect, NO_INDEX),
    row("leader.replication.throttled.replicas", Kind::ThrottledReplicas, Fixed(""), NoEffect, ONE_NODE),
    row(
        "local.retention.bytes",
        long(-2),
        Broker("log.local.retention.bytes"),
        Enforced,
        "With object storage, the bytes of a partition's newest segments that stay on the local disk; -2 means all, until \
         retention.bytes deletes them.",
    ),
    row(
        "local.retention.ms",
        long(-2),
        Broker("log.local.retention.ms"),
        Enforced,
        "With object storage, for how many milliseconds records stay on the local disk; -2 means as long as retention.ms \
         keeps them.",
    ),
    row(
        "max.compaction.lag.ms",
        long(1),
        Broker("log.cleaner.max.compaction.lag.ms"),
        Enforced,
        "With compaction, after how many milliseconds records are compacted, however little of the partition is \
         new.",
    ),
    row(
        "max.message.bytes",
        int(0),
        Broker("message.max.bytes"),
        Enforced,
        "The largest batch that is accepted, in bytes. It must fit twice into a segment of the log.",
    ),
    row(
        "message.timestamp.after.max.ms",
        long(0),
        Broker("log.message.timestamp.after.max.ms"),
        Enforced,
        "How far a record's CreateTime may lie in the future, in milliseconds.",
    ),
    row(
        "message.timestamp.before.max.ms",
        long(0),
        Broker("log.message.timestamp.before.max.ms"),
        Enforced,
        "How far a record's CreateTime may lie in the past, in milliseconds.",
    ),
    row(
        "message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        Broker("log.message.timestamp.type"),
        Enforced,
        "Whose time records carry: CreateTime, the producer's, or LogAppendTime, the broker's.",
    ),
    row(
        "min.cleanable.dirty.ratio",
        Kind::Double { min: 0.0, max: 1.0 },
        Broker("log.cleaner.min.cleanable.ratio"),
        Enforced,
        "With compaction, the part of a partition's bytes that is new when it is compacted is more than this.",
    ),
    row(
        "min.compaction.lag.ms",
        long(0),
        Broker("log.cleaner.min.compaction.lag.ms"),
        Enforced,
        "With compaction, for how many milliseconds records stay as they are at least.",
    ),
    row(
        "min.insync.replicas",
        int(1),
        Broker("min.insync.replicas"),
        NoEffect,
        "Without effect on one node: the smaller of this and the number of replicas counts, in Kafka too.",
    ),
    row(
        "preallocate",
        Kind::Bool,
        Broker("log.preallocate"),
        NoEffect,
        "Without effect: segments of the log are always preallocated.",
    ),
    row("remote.log.copy.disable", Kind::Bool, Fixed("false"), NoEffect, ALL_TIERED),
    row("remote.log.delete.on.disable", Kind::Bool, Fixed("false"), NoEffect, ALL_TIERED),
    row(
        "remote.storage.enable",
        Kind::Bool,
        Fixed("false"),
        NeedsStore,
        "Without object storage only false can be set. With it every sealed segment of every topic is kept there, whatever \
         this says.",
    ),
    row(
        "retention.bytes",
        long(i64::MIN),
        Broker("log.retention.bytes"),
        Enforced,
        "Bytes that a partition keeps at least before its oldest records are deleted; below 0 is no limit.",
    ),
    row(
        "retention.ms",
        long(-1),
        Broker("log.retention.ms"),
        Enforced,
        "Records older than this many milliseconds are deleted; -1 keeps them for ever.",
    ),
    row(
        "segment.bytes",
        int(1 << 20),
        Broker("log.segment.bytes"),
        Enforced,
        "Size in bytes that a piece of a partition does not pass; retention and compaction go by pieces. The log's \
         own segments belong to no topic.",
    ),
    row("segment.index.bytes", int(4), Broker("log.index.size.max.bytes"), NoEffect, NO_INDEX),
    row(
        "segment.jitter.ms",
        long(0),
        Broker("log.roll.jitter.ms"),
        Enforced,
        "By how many milliseconds at most segment.ms is shortened, for each piece of a partition by its own.",
    ),
    row(
        "segment.ms",
        long(1),
        Broker("log.roll.ms"),
        Enforced,
        "After how many milliseconds, by the timestamps of its records, a piece of a partition is over; retention \
         and compaction go by pieces.",
    ),
    row(
        "unclean.leader.election.enable",
        Kind::Bool,
        Broker("unclean.leader.election.enable"),
        NoEffect,
        "Without effect: with one replica no other can be elected.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_their_defaults_are_valid() {
        assert!(TOPIC_CONFIGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let config = Config::default();
        for row in TOPIC_CONFIGS {
            let default = row.default(&config);
            assert_eq!(row.check(&config, &default), Ok(default), "{}", row.name);
            assert!(row.synonym().is_none_or(|name| broker_table::find(name).is_some()), "{}", row.name);
            assert!(row.documentation.ends_with('.'), "{}", row.name);
            assert_eq!(find(row.name).map(|found| found.name), Some(row.name));
        }
        assert!(find("message.format.version").is_none());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_a_sentence() {
        let config = Config::default();
        let never = Config { fsync: Fsync::Never, ..Config::default() };
        let flush = find("flush.messages").unwrap();
        assert!(flush.check(&config, "1").is_ok());
        assert!(flush.check(&never, "1").is_err());
    }

    #[test]
    fn the_largest_message_must_fit_the_log() {
        let config = Config::default();
        let row = find("max.message.bytes").unwrap();
        let half = config.log_segment_bytes / 2;
        assert!(row.check(&config, &half.to_string()).is_ok());
        assert!(row.check(&config, &(half + 1).to_string()).is_err());
    }
}
