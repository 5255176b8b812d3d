//! Owns the settings of share groups: the broker's, under Kafka's names, and what a single group may override.

use crate::config::Config;

/// The broker's settings. Times are in milliseconds.
#[derive(Clone, Debug)]
pub struct ShareSettings {
    /// `group.share.heartbeat.interval.ms` and its bounds for a group.
    pub heartbeat_interval_ms: Bounded,
    /// `group.share.session.timeout.ms` and its bounds for a group.
    pub session_timeout_ms: Bounded,
    /// `group.share.record.lock.duration.ms` and its bounds for a group.
    pub record_lock_duration_ms: Bounded,
    /// `group.share.delivery.count.limit` and its bounds for a group.
    pub delivery_count_limit: Bounded,
    /// `group.share.partition.max.record.locks` and its bounds for a group.
    pub partition_max_record_locks: Bounded,
    /// `group.share.max.size`: members of one group.
    pub max_size: usize,
    /// `group.share.max.share.sessions`: share sessions of all groups together.
    pub max_share_sessions: usize,
}

/// A value and the bounds within which a group may have its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    pub value: i64,
    pub min: i64,
    pub max: i64,
}

impl Bounded {
    fn of(value: i64, min: i64, max: i64) -> Bounded {
        Bounded { value, min, max }
    }

    /// The group's own value within the bounds, or the broker's.
    fn or(self, own: Option<i64>) -> i64 {
        own.map_or(self.value, |own| own.max(self.min).min(self.max.max(self.min)))
    }
}

impl ShareSettings {
    pub fn of(config: &Config) -> ShareSettings {
        let c = &config.share;
        ShareSettings {
            heartbeat_interval_ms: Bounded::of(
                c.heartbeat_interval_ms,
                c.min_heartbeat_interval_ms,
                c.max_heartbeat_interval_ms,
            ),
            session_timeout_ms: Bounded::of(c.session_timeout_ms, c.min_session_timeout_ms, c.max_session_timeout_ms),
            record_lock_duration_ms: Bounded::of(
                c.record_lock_duration_ms,
                c.min_record_lock_duration_ms,
                c.max_record_lock_duration_ms,
            ),
            delivery_count_limit: Bounded::of(
                c.delivery_count_limit,
                c.min_delivery_count_limit,
                c.max_delivery_count_limit,
            ),
            partition_max_record_locks: Bounded::of(
                c.partition_max_record_locks,
                c.min_partition_max_record_locks,
                c.max_partition_max_record_locks,
            ),
            max_size: c.max_size,
            max_share_sessions: c.max_share_sessions,
        }
    }

    /// What holds for a group with these overrides.
    pub fn of_group(&self, own: &ShareOverrides) -> GroupSettings {
        GroupSettings {
            heartbeat_interval_ms: self.heartbeat_interval_ms.or(own.heartbeat_interval_ms) as i32,
            session_timeout_ms: self.session_timeout_ms.or(own.session_timeout_ms),
            record_lock_duration_ms: self.record_lock_duration_ms.or(own.record_lock_duration_ms),
            delivery_count_limit: self.delivery_count_limit.or(own.delivery_count_limit) as i16,
            partition_max_record_locks: self.partition_max_record_locks.or(own.partition_max_record_locks),
            auto_offset_reset: own.auto_offset_reset.unwrap_or(OffsetReset::Latest),
            read_committed: own.read_committed.unwrap_or(false),
            renew_acknowledge: own.renew_acknowledge.unwrap_or(true),
        }
    }
}

/// What a group sets for itself, as a resource of type GROUP; `None` is the broker's value. Values outside the broker's
/// bounds count as the nearest bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareOverrides {
    /// `share.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i64>,
    /// `share.session.timeout.ms`.
    pub session_timeout_ms: Option<i64>,
    /// `share.record.lock.duration.ms`.
    pub record_lock_duration_ms: Option<i64>,
    /// `share.delivery.count.limit`.
    pub delivery_count_limit: Option<i64>,
    /// `share.partition.max.record.locks`.
    pub partition_max_record_locks: Option<i64>,
    /// `share.auto.offset.reset`; `latest` when not set.
    pub auto_offset_reset: Option<OffsetReset>,
    /// `share.isolation.level` is `read_committed`; otherwise `read_uncommitted`.
    pub read_committed: Option<bool>,
    /// `share.renew.acknowledge.enable`; true when not set.
    pub renew_acknowledge: Option<bool>,
}

/// What holds for one group.
#[derive(Clone, Copy, Debug)]
pub struct GroupSettings {
    pub heartbeat_interval_ms: i32,
    pub session_timeout_ms: i64,
    pub record_lock_duration_ms: i64,
    pub delivery_count_limit: i16,
    pub partition_max_record_locks: i64,
    pub auto_offset_reset: OffsetReset,
    pub read_committed: bool,
    pub renew_acknowledge: bool,
}

/// Where a share group starts in a partition that it has no start for (`share.auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// At the first record that is not older than so many milliseconds.
    ByDuration(i64),
}

impl OffsetReset {
    /// Reads Kafka's spelling: `earliest`, `latest` or `by_duration:` and an ISO 8601 duration such as `PT1H30M` or `P3D`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<OffsetReset, String> {
        match text.split_once(':') {
            None if text == "earliest" => Ok(OffsetReset::Earliest),
            None if text == "latest" => Ok(OffsetReset::Latest),
            Some(("by_duration", duration)) => duration_ms(duration)
                .map(OffsetReset::ByDuration)
                .ok_or_else(|| format!("{duration:?} is no ISO 8601 duration, such as PT1H30M or P3D, of at least 0.")),
            _ => Err("It must be earliest, latest or by_duration:<duration>.".to_owned()),
        }
    }
}

/// The milliseconds of `PnDTnHnMn.nS`, each part at most once and in this order; `None` for anything else.
fn duration_ms(text: &str) -> Option<i64> {
    let rest = text.strip_prefix(['P', 'p'])?.to_ascii_uppercase();
    let (days, time) = match rest.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days.to_owned(), time.to_owned()),
        Some(_) => return None,
        None => (rest, String::new()),
    };
    let mut total = 0i64;
    let mut parts = 0;
    for (text, units) in [(days, &[('D', 86_400_000i64)][..]), (time, &[('H', 3_600_000), ('M', 60_000), ('S', 1000)])]
    {
        let mut text = text.as_str();
        for (unit, ms) in units {
            let Some(at) = text.find(*unit) else { continue };
            let (whole, fraction) = text[..at].split_once('.').unwrap_or((&text[..at], ""));
            if !fraction.is_empty() && (*unit != 'S' || fraction.len() > 9) {
                return None;
            }
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if whole.is_empty() || !digits(whole) || !digits(fraction) || text[..at].ends_with('.') {
                return None;
            }
            total = total.checked_add(whole.parse::<i64>().ok()?.checked_mul(*ms)?)?;
            let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
            total = total.checked_add(if fraction.is_empty() { 0 } else { thousandths.parse().ok()? })?;
            parts += 1;
            text = &text[at + 1..];
        }
        if !text.is_empty() {
            return None;
        }
    }
    (parts > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_start_is_spelled_as_in_kafka() {
        assert_eq!(OffsetReset::parse("earliest"), Ok(OffsetReset::Earliest));
        assert_eq!(OffsetReset::parse("latest"), Ok(OffsetReset::Latest));
        for (text, ms) in [
            ("PT1H", 3_600_000),
            ("P1D", 86_400_000),
            ("P1DT1H1M1.5S", 86_400_000 + 3_600_000 + 60_000 + 1500),
            ("PT0S", 0),
            ("pt30m", 1_800_000),
        ] {
            assert_eq!(OffsetReset::parse(&format!("by_duration:{text}")), Ok(OffsetReset::ByDuration(ms)), "{text}");
        }
        for bad in [
            "",
            "none",
            "by_duration",
            "by_duration:",
            "by_duration:1h",
            "by_duration:PT",
            "by_duration:P",
            "by_duration:PT-1S",
            "by_duration:PT1S1H",
            "by_duration:PT1.5H",
            "by_duration:PT99999999999999999H",
            "by_duration:PT1.S",
            "by_duration:P1DT",
        ] {
            assert!(OffsetReset::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_groups_own_value_stays_within_the_brokers_bounds() {
        let settings = ShareSettings::of(&Config::default());
        let own =
            ShareOverrides { record_lock_duration_ms: Some(1), delivery_count_limit: Some(7), ..Default::default() };
        let group = settings.of_group(&own);
        assert_eq!((group.record_lock_duration_ms, group.delivery_count_limit), (15_000, 7));
        let plain = settings.of_group(&ShareOverrides::default());
        assert_eq!((plain.record_lock_duration_ms, plain.delivery_count_limit), (30_000, 5));
        assert_eq!(plain.auto_offset_reset, OffsetReset::Latest);
    }
}
