//! Owns what settings mean: the topic configurations, their defaults and checks.

use std::collections::BTreeMap;

use crate::config::{Config, TimestampType};

/// A topic's effective settings, as the hot paths need them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.type=LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`; `i64::MAX` is no limit.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`; `i64::MAX` is no limit.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` includes `compact`: such topics keep everything for now.
    pub compact: bool,
    /// `cleanup.policy` includes `delete`.
    pub delete: bool,
    /// `retention.ms`; -1 is for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; -1 is no limit.
    pub retention_bytes: i64,
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
        let policy = configs.get("cleanup.policy").map_or("delete", String::as_str);
        let max_message_bytes = number("max.message.bytes", defaults.message_max_bytes as i64);
        TopicSettings {
            max_message_bytes: usize::try_from(max_message_bytes).unwrap_or(0),
            log_append_time: timestamp_type == TimestampType::LogAppendTime,
            timestamp_before_max_ms: number(
                "message.timestamp.before.max.ms",
                defaults.log_message_timestamp_before_max_ms,
            ),
            timestamp_after_max_ms: number(
                "message.timestamp.after.max.ms",
                defaults.log_message_timestamp_after_max_ms,
            ),
            compact: policy.split(',').any(|p| p.trim() == "compact"),
            delete: policy.split(',').any(|p| p.trim() == "delete"),
            retention_ms: number("retention.ms", defaults.log_retention_ms),
            retention_bytes: number("retention.bytes", defaults.log_retention_bytes),
        }
    }
}
