//! Owns what settings mean: the topic and broker configurations, their defaults and checks.

pub mod broker_table;
pub mod client_metrics_table;
mod dynamic;
pub mod group_table;
mod resource_configs;
pub mod topic_table;
pub mod value;

pub use dynamic::BrokerConfigs;
pub use group_table::GroupConfigs;
pub use resource_configs::{Configs, ResourceConfigs};

use std::collections::BTreeMap;

use crate::config::{Config, TimestampType};
use crate::limits;
use crate::wire::batch::{Compression, Target};

/// A topic's effective settings, as the hot paths need them.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSettings {
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: usize,
    /// `compression.type` and its level; `None` is `producer`.
    pub compression: Option<Target>,
    /// `message.timestamp.type=LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`; `i64::MAX` is no limit.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`; `i64::MAX` is no limit.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` includes `compact`.
    pub compact: bool,
    /// `cleanup.policy` includes `delete`.
    pub delete: bool,
    /// `retention.ms`; -1 is for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; -1 is no limit.
    pub retention_bytes: i64,
    /// `local.retention.ms`: after how long only the object store has records; -1 is never, because all goes together.
    pub local_retention_ms: i64,
    /// `local.retention.bytes`; -1 is no limit.
    pub local_retention_bytes: i64,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`, or `max.compaction.lag.ms` for compacted topics if that is less.
    pub segment_ms: i64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// What concerns compaction; without effect on topics that are not compacted.
    pub compaction: CompactionSettings,
}

/// A topic's settings of compaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionSettings {
    /// `min.cleanable.dirty.ratio`: the part of the log, in bytes, that must be new before it is cleaned.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: for how long records stay uncompacted at least.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: after how long records are compacted whatever the ratio.
    pub max_lag_ms: i64,
    /// `delete.retention.ms`: how long tombstones stay.
    pub delete_retention_ms: i64,
}

impl TopicSettings {
    /// What a topic's own configurations and the broker's defaults come to. Values were checked when they were set.
    pub fn resolve(defaults: &Config, configs: &BTreeMap<String, String>) -> TopicSettings {
        let number = |name: &str, default: i64| configs.get(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        let timestamp_type = match configs.get("message.timestamp.type").map(String::as_str) {
            Some("LogAppendTime") => TimestampType::LogAppendTime,
            Some(_) => TimestampType::CreateTime,
            None => defaults.log_message_timestamp_type,
        };
        // What only topics act on has its default in the table.
        let table = |name: &str| {
            let own = configs.get(name).cloned();
            own.or_else(|| Some(topic_table::find(name)?.default(defaults))).unwrap_or_default()
        };
        let of_table = |name: &str| table(name).parse().unwrap_or(0i64);
        let default_policy = defaults.topic_defaults.get("log.cleanup.policy");
        let policy = configs.get("cleanup.policy").or(default_policy).map_or("delete", String::as_str);
        let compact = policy.split(',').any(|p| p.trim() == "compact");
        let compaction = CompactionSettings {
            min_dirty_ratio: table("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_lag_ms: of_table("min.compaction.lag.ms"),
            max_lag_ms: of_table("max.compaction.lag.ms"),
            delete_retention_ms: of_table("delete.retention.ms"),
        };
        let roll_ms = of_table("segment.ms");
        let max_message_bytes = number("max.message.bytes", defaults.message_max_bytes as i64);
        // The log's segments may have become smaller since the value was set.
        let max_message_bytes = max_message_bytes.min((defaults.log_segment_bytes / 2) as i64);
        TopicSettings {
            max_message_bytes: usize::try_from(max_message_bytes).unwrap_or(0),
            compression: compression(defaults, configs),
            log_append_time: timestamp_type == TimestampType::LogAppendTime,
            timestamp_before_max_ms: number(
                "message.timestamp.before.max.ms",
                defaults.log_message_timestamp_before_max_ms,
            ),
            timestamp_after_max_ms: number(
                "message.timestamp.after.max.ms",
                defaults.log_message_timestamp_after_max_ms,
            ),
            compact,
            delete: policy.split(',').any(|p| p.trim() == "delete"),
            retention_ms: number("retention.ms", defaults.log_retention_ms),
            retention_bytes: number("retention.bytes", defaults.log_retention_bytes),
            // -2 stands for the whole retention, at the end of which there is nothing left to keep anywhere.
            local_retention_ms: of_table("local.retention.ms").max(-1),
            local_retention_bytes: of_table("local.retention.bytes").max(-1),
            segment_bytes: u64::try_from(of_table("segment.bytes")).unwrap_or(0),
            segment_ms: if compact && compaction.max_lag_ms > 0 { roll_ms.min(compaction.max_lag_ms) } else { roll_ms },
            segment_jitter_ms: of_table("segment.jitter.ms"),
            compaction,
        }
    }
}

/// What `compression.type` and the level of that codec come to.
fn compression(defaults: &Config, configs: &BTreeMap<String, String>) -> Option<Target> {
    let value = |name: &str| configs.get(name).or(defaults.topic_defaults.get(name)).map(String::as_str);
    let named = value("compression.type").unwrap_or(defaults.compression_type);
    let codec = Compression::ALL.into_iter().find(|codec| codec.name() == named)?;
    let level = match codec {
        // -1 is the codec's default, which zstd knows as 0.
        Compression::Gzip => value("compression.gzip.level").and_then(|level| level.parse().ok()).filter(|l| *l != -1),
        Compression::Zstd => value("compression.zstd.level").and_then(|level| level.parse().ok()),
        Compression::Lz4 | Compression::Snappy | Compression::None => None,
    };
    Some(Target { codec, level })
}

/// Checks what all configurations of a topic come to together. The error is a sentence.
pub fn check_together(defaults: &Config, configs: &BTreeMap<String, String>) -> Result<(), String> {
    let bytes: usize = configs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > limits::TOPIC_CONFIGS_BYTES_MAX {
        let most = limits::TOPIC_CONFIGS_BYTES_MAX;
        return Err(format!("The topic's configurations have {bytes} bytes together; {most} is the most"));
    }
    let number = |name: &str| {
        let value = configs.get(name).cloned().or_else(|| Some(topic_table::find(name)?.default(defaults)));
        value.and_then(|value| value.parse::<i64>().ok()).unwrap_or(0)
    };
    let (least, most) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    if least > most {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
        ));
    }
    Ok(())
}
