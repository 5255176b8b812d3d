//! Owns the settings of share groups: what holds for one group, and the bounds of the whole.

use std::collections::BTreeMap;

use crate::broker::configs::group_table::{GroupConfigs, ShareOffsetReset};
use crate::config::Config;

/// The broker's settings.
#[derive(Clone, Debug)]
pub struct ShareSettings {
    /// `group.share.max.size`: members of one group.
    pub max_size: usize,
    /// `group.share.max.share.sessions`: share sessions of all groups together.
    pub max_share_sessions: usize,
    /// What holds for a group that has set nothing for itself.
    pub defaults: GroupSettings,
}

impl ShareSettings {
    pub fn of(config: &Config) -> ShareSettings {
        ShareSettings {
            max_size: config.share.max_size,
            max_share_sessions: config.share.max_share_sessions,
            defaults: GroupSettings::of(&GroupConfigs::resolve(config, &BTreeMap::new())),
        }
    }
}

/// What holds for one group. Times are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct GroupSettings {
    pub heartbeat_interval_ms: i32,
    pub session_timeout_ms: i64,
    /// How long an assignment holds at least before the next is made.
    pub assignment_interval_ms: i64,
    pub record_lock_duration_ms: i64,
    pub delivery_count_limit: i16,
    pub partition_max_record_locks: i64,
    /// Where the group starts in a partition that it has no start for.
    pub auto_offset_reset: ShareOffsetReset,
    /// Records of transactions are handed out once they are committed.
    pub read_committed: bool,
    pub renew_acknowledge: bool,
}

impl GroupSettings {
    /// A group's configurations, as far as they are about sharing.
    pub fn of(configs: &GroupConfigs) -> GroupSettings {
        GroupSettings {
            heartbeat_interval_ms: configs.share_heartbeat_interval_ms,
            session_timeout_ms: i64::from(configs.share_session_timeout_ms),
            assignment_interval_ms: i64::from(configs.share_assignment_interval_ms),
            record_lock_duration_ms: i64::from(configs.share_record_lock_duration_ms),
            delivery_count_limit: i16::try_from(configs.share_delivery_count_limit).unwrap_or(i16::MAX),
            partition_max_record_locks: i64::from(configs.share_partition_max_record_locks),
            auto_offset_reset: configs.share_auto_offset_reset,
            read_committed: configs.share_read_committed,
            renew_acknowledge: configs.share_renew_acknowledge_enable,
        }
    }
}
