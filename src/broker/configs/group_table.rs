//! Owns the one table of group configurations, and what they come to for a group: its own values, or else the broker's
//! defaults, inside the broker's bounds.

use std::collections::BTreeMap;

use super::broker_table;
use super::value::{int, Kind};
use crate::broker::apis;
use crate::config::Config;
use crate::wire::ApiKey;

/// One group configuration.
#[derive(Debug)]
pub struct GroupConfig {
    /// Kafka's name.
    pub name: &'static str,
    pub kind: Kind,
    /// The broker configuration that gives the default.
    pub broker: Option<&'static str>,
    /// The default where the broker has no such configuration.
    default: &'static str,
    /// What the broker allows.
    min: Option<Bound>,
    max: Option<Bound>,
    /// It is there only if this API is served.
    needs: ApiKey,
    pub documentation: &'static str,
}

/// A bound that the broker sets.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// The broker configuration that gives it.
    broker: &'static str,
    /// Its value where the broker has no such configuration.
    default: i64,
}

impl Bound {
    fn value(self, config: &Config) -> i64 {
        let row = broker_table::find(self.broker);
        row.and_then(|row| row.value(config).parse().ok()).unwrap_or(self.default)
    }
}

impl GroupConfig {
    /// The value of a group that has none of its own.
    pub fn default(&self, config: &Config) -> String {
        let row = self.broker.and_then(broker_table::find);
        row.map_or_else(|| self.default.to_owned(), |row| row.value(config))
    }

    /// Checks the form of a value that someone wants to set. `Ok` is its one way of writing, the error a sentence.
    pub fn check(&self, value: &str) -> Result<String, String> {
        self.kind.check(self.name, value)
    }

    /// Checks a value against what the broker allows. The error is a sentence.
    pub fn check_bounds(&self, config: &Config, value: &str) -> Result<(), String> {
        let Ok(number) = value.parse::<i64>() else { return Ok(()) };
        let name = self.name;
        match (self.min, self.max) {
            (Some(min), _) if number < min.value(config) => {
                Err(format!("{name} must be greater than or equal to {}", min.broker))
            }
            (_, Some(max)) if number > max.value(config) => {
                Err(format!("{name} must be less than or equal to {}", max.broker))
            }
            _ => Ok(()),
        }
    }

    /// A group's value. Bounds may have moved since it was set.
    fn resolve(&self, config: &Config, own: &BTreeMap<String, String>) -> String {
        let value = own.get(self.name).cloned().unwrap_or_else(|| self.default(config));
        let Ok(number) = value.parse::<i64>() else { return value };
        let min = self.min.map_or(i64::MIN, |min| min.value(config));
        let max = self.max.map_or(i64::MAX, |max| max.value(config));
        // Bounds that contradict each other are not obeyed by a panic.
        number.max(min).min(max.max(min)).to_string()
    }
}

/// Where a share group begins to read a partition that it has not read before (`share.auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOffsetReset {
    Earliest,
    Latest,
    /// At what is this many milliseconds old.
    ByDurationMs(i64),
}

impl ShareOffsetReset {
    /// Reads Kafka's text. `None` is none that Kafka knows.
    pub fn parse(text: &str) -> Option<ShareOffsetReset> {
        match text {
            "earliest" => Some(ShareOffsetReset::Earliest),
            "latest" => Some(ShareOffsetReset::Latest),
            _ => duration_ms(text.strip_prefix("by_duration:")?).map(ShareOffsetReset::ByDurationMs),
        }
    }
}

/// A group's effective configurations. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfigs {
    pub consumer_session_timeout_ms: i32,
    pub consumer_heartbeat_interval_ms: i32,
    /// How long the assignor waits at least between two assignments.
    pub consumer_assignment_interval_ms: i32,
    pub share_session_timeout_ms: i32,
    pub share_heartbeat_interval_ms: i32,
    pub share_assignment_interval_ms: i32,
    /// How long a consumer may hold a record that it was given.
    pub share_record_lock_duration_ms: i32,
    /// How often a record is delivered at most.
    pub share_delivery_count_limit: i32,
    /// Records of one partition that may be held at the same time.
    pub share_partition_max_record_locks: i32,
    pub share_auto_offset_reset: ShareOffsetReset,
    /// Records of aborted transactions are left out.
    pub share_read_committed: bool,
    /// Consumers may ask for more time with a record.
    pub share_renew_acknowledge_enable: bool,
}

impl GroupConfigs {
    /// What a group's own configurations and the broker's defaults and bounds come to.
    pub fn resolve(config: &Config, own: &BTreeMap<String, String>) -> GroupConfigs {
        let text = |name: &str| {
            let row = GROUP_CONFIGS.iter().find(|row| row.name == name);
            row.map(|row| row.resolve(config, own)).unwrap_or_default()
        };
        let number = |name: &str| text(name).parse::<i32>().unwrap_or(i32::MAX);
        GroupConfigs {
            consumer_session_timeout_ms: number("consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
            consumer_assignment_interval_ms: number("consumer.assignment.interval.ms"),
            share_session_timeout_ms: number("share.session.timeout.ms"),
            share_heartbeat_interval_ms: number("share.heartbeat.interval.ms"),
            share_assignment_interval_ms: number("share.assignment.interval.ms"),
            share_record_lock_duration_ms: number("share.record.lock.duration.ms"),
            share_delivery_count_limit: number("share.delivery.count.limit"),
            share_partition_max_record_locks: number("share.partition.max.record.locks"),
            share_auto_offset_reset: ShareOffsetReset::parse(&text("share.auto.offset.reset"))
                .unwrap_or(ShareOffsetReset::Latest),
            share_read_committed: text("share.isolation.level") == "read_committed",
            share_renew_acknowledge_enable: text("share.renew.acknowledge.enable") == "true",
        }
    }
}

/// Every group configuration of a protocol that is served.
pub fn rows() -> impl Iterator<Item = &'static GroupConfig> {
    GROUP_CONFIGS.iter().filter(|row| apis::served().any(|served| served.key == row.needs))
}

/// The row of a group configuration.
pub fn find(name: &str) -> Option<&'static GroupConfig> {
    rows().find(|row| row.name == name)
}

/// Reads what Java calls a duration and ISO 8601 a part of it, such as `P1DT2H` or `PT0.5S`: milliseconds, rounded down.
/// `None` is anything else, and a negative one.
pub fn duration_ms(text: &str) -> Option<i64> {
    let text = text.to_ascii_uppercase();
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (text.strip_prefix('P')?, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    let mut rest = days;
    if !days.is_empty() {
        let (number, after) = rest.split_once('D')?;
        nanos += i128::from(number.parse::<i64>().ok()?) * 86_400_000_000_000;
        rest = after;
    }
    if !rest.is_empty() {
        return None;
    }
    rest = time;
    for (unit, unit_nanos) in [('H', 3_600_000_000_000i128), ('M', 60_000_000_000)] {
        if let Some((number, after)) = rest.split_once(unit) {
            nanos += i128::from(number.parse::<i64>().ok()?) * unit_nanos;
            rest = after;
        }
    }
    if let Some((number, after)) = rest.split_once('S') {
        nanos += second_nanos(number)?;
        rest = after;
    }
    let ms = i64::try_from(nanos.div_euclid(1_000_000)).ok()?;
    (rest.is_empty() && ms >= 0).then_some(ms)
}

/// Seconds with up to nine digits behind the point, in nanoseconds.
fn second_nanos(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = i128::from(whole.parse::<i64>().ok()?) * 1_000_000_000;
    let nanos = format!("{fraction:0<9}").parse::<i128>().ok()?;
    Some(if whole.starts_with('-') { seconds - nanos } else { seconds + nanos })
}

const fn bound(broker: &'static str, default: i64) -> Option<Bound> {
    Some(Bound { broker, default })
}

const fn row(
    name: &'static str,
    kind: Kind,
    broker: &'static str,
    default: &'static str,
    [min, max]: [Option<Bound>; 2],
    needs: ApiKey,
    documentation: &'static str,
) -> GroupConfig {
    GroupConfig { name, kind, broker: Some(broker), default, min, max, needs, documentation }
}

/// A configuration that no broker configuration gives a default for.
const fn own(name: &'static str, kind: Kind, default: &'static str, documentation: &'static str) -> GroupConfig {
    GroupConfig { name, kind, broker: None, default, min: None, max: None, needs: SHARE, documentation }
}

const CONSUMER: ApiKey = ApiKey::CONSUMER_GROUP_HEARTBEAT;
const SHARE: ApiKey = ApiKey::SHARE_GROUP_HEARTBEAT;
const SESSION: &str = "A member that is silent for this many milliseconds is removed from the group.";
const HEARTBEAT: &str = "How often members are told to send heartbeats, in milliseconds.";
const ASSIGNMENT: &str = "How long to wait at least between two assignments of the group, in milliseconds.";

/// Every group configuration, in the order of names.
static GROUP_CONFIGS: &[GroupConfig] = &[
    row(
        "consumer.assignment.interval.ms",
        int(0),
        "group.consumer.assignment.interval.ms",
        "1000",
        [bound("group.consumer.min.assignment.interval.ms", 0), bound("group.consumer.max.assignment.interval.ms", 15_000)],
        CONSUMER,
        ASSIGNMENT,
    ),
    row(
        "consumer.heartbeat.interval.ms",
        int(1),
        "group.consumer.heartbeat.interval.ms",
        "5000",
        [bound("group.consumer.min.heartbeat.interval.ms", 5_000), bound("group.consumer.max.heartbeat.interval.ms", 15_000)],
        CONSUMER,
        HEARTBEAT,
    ),
    row(
        "consumer.session.timeout.ms",
        int(1),
        "group.consumer.session.timeout.ms",
        "45000",
        [bound("group.consumer.min.session.timeout.ms", 45_000), bound("group.consumer.max.session.timeout.ms", 60_000)],
        CONSUMER,
        SESSION,
    ),
    row(
        "share.assignment.interval.ms",
        int(0),
        "group.share.assignment.interval.ms",
        "1000",
        [bound("group.share.min.assignment.interval.ms", 0), bound("group.share.max.assignment.interval.ms", 15_000)],
        SHARE,
        ASSIGNMENT,
    ),
    own(
        "share.auto.offset.reset",
        Kind::OffsetReset,
        "latest",
        "Where the group begins with a partition that is new to it: earliest, latest, or by_duration: and a time in ISO \
         8601 (PnDTnHnMn.nS), which begins at what is that old.",
    ),
    row(
        "share.delivery.count.limit",
        int(2),
        "group.share.delivery.count.limit",
        "5",
        [bound("group.share.min.delivery.count.limit", 2), bound("group.share.max.delivery.count.limit", 10)],
        SHARE,
        "How often a record is delivered before it is given up.",
    ),
    row(
        "share.heartbeat.interval.ms",
        int(1),
        "group.share.heartbeat.interval.ms",
        "5000",
        [bound("group.share.min.heartbeat.interval.ms", 5_000), bound("group.share.max.heartbeat.interval.ms", 15_000)],
        SHARE,
        HEARTBEAT,
    ),
    own(
        "share.isolation.level",
        Kind::Choice(&["read_committed", "read_uncommitted"]),
        "read_uncommitted",
        "Whether records of transactions are delivered only once they are committed (read_committed), or all of them.",
    ),
    row(
        "share.partition.max.record.locks",
        int(100),
        "group.share.partition.max.record.locks",
        "2000",
        [bound("group.share.min.partition.max.record.locks", 100), bound("group.share.max.partition.max.record.locks", 4000)],
        SHARE,
        "Records of one partition that the group's members may hold at the same time.",
    ),
    row(
        "share.record.lock.duration.ms",
        int(1000),
        "group.share.record.lock.duration.ms",
        "30000",
        [bound("group.share.min.record.lock.duration.ms", 15_000), bound("group.share.max.record.lock.duration.ms", 60_000)],
        SHARE,
        "How long a member may hold a record that it was given, in milliseconds.",
    ),
    own("share.renew.acknowledge.enable", Kind::Bool, "true", "Whether members may ask for more time with a record."),
    row(
        "share.session.timeout.ms",
        int(1),
        "group.share.session.timeout.ms",
        "45000",
        [bound("group.share.min.session.timeout.ms", 45_000), bound("group.share.max.session.timeout.ms", 60_000)],
        SHARE,
        SESSION,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_their_defaults_are_valid() {
        assert!(GROUP_CONFIGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let config = Config::default();
        for row in GROUP_CONFIGS {
            let default = row.default(&config);
            assert_eq!(row.check(&default), Ok(default.clone()), "{}", row.name);
            assert_eq!(row.check_bounds(&config, &default), Ok(()), "{}", row.name);
            assert!(row.documentation.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn a_group_has_its_own_values_inside_the_bounds_or_else_the_defaults() {
        let config = Config::default();
        let none = GroupConfigs::resolve(&config, &BTreeMap::new());
        assert_eq!((none.consumer_session_timeout_ms, none.share_delivery_count_limit), (45_000, 5));
        assert_eq!((none.share_auto_offset_reset, none.share_read_committed), (ShareOffsetReset::Latest, false));
        assert!(none.share_renew_acknowledge_enable);
        let own = [
            ("consumer.session.timeout.ms", "50000"),
            ("consumer.heartbeat.interval.ms", "1"),
            ("share.record.lock.duration.ms", "99000"),
            ("share.auto.offset.reset", "by_duration:PT1H"),
            ("share.isolation.level", "read_committed"),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let some = GroupConfigs::resolve(&config, &own);
        assert_eq!((some.consumer_session_timeout_ms, some.consumer_heartbeat_interval_ms), (50_000, 5_000));
        assert_eq!(some.share_record_lock_duration_ms, 60_000);
        assert_eq!(some.share_auto_offset_reset, ShareOffsetReset::ByDurationMs(3_600_000));
        assert!(some.share_read_committed);
    }

    #[test]
    fn durations_are_those_that_java_reads() {
        for (text, ms) in [
            ("PT1H", Some(3_600_000)),
            ("P1D", Some(86_400_000)),
            ("p1dt2h", Some(93_600_000)),
            ("PT0.5S", Some(500)),
            ("PT1H-30M", Some(1_800_000)),
            ("PT0S", Some(0)),
            ("PT", None),
            ("P", None),
            ("", None),
            ("P1W", None),
            ("PT-1S", None),
            ("-PT1S", None),
            ("1h", None),
            ("PT1S1", None),
            ("PT1M1H", None),
            ("P99999999999999999999D", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }
}
