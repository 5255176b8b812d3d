//! Owns the configurations of client-metrics subscriptions (KIP-714). They are checked and kept as in Kafka; as in a Kafka
//! without a telemetry plugin, no client is asked to push anything.

use super::value::{elements, int, shown, Kind};

/// One configuration of a subscription.
#[derive(Debug)]
pub struct ClientMetricsConfig {
    /// Kafka's name.
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub documentation: &'static str,
}

/// Why a value cannot be set.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Kafka's INVALID_CONFIG.
    Config(String),
    /// Kafka's INVALID_REQUEST.
    Request(String),
}

/// The shortest and the longest interval between two pushes, in milliseconds (Kafka's).
const INTERVAL_MS: std::ops::RangeInclusive<i64> = 100..=3_600_000;

/// What a client can be matched by.
const MATCHED: &[&str] = &[
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Every configuration of a subscription, in the order of names.
pub static CLIENT_METRICS_CONFIGS: &[ClientMetricsConfig] = &[
    ClientMetricsConfig {
        name: "interval.ms",
        kind: int(i32::MIN as i64),
        default: "300000",
        documentation: "How often clients push metrics, in milliseconds.",
    },
    ClientMetricsConfig {
        name: "match",
        kind: Kind::Texts,
        default: "",
        documentation: "Which clients are meant: property=regular expression, separated by commas; all must match.",
    },
    ClientMetricsConfig {
        name: "metrics",
        kind: Kind::Texts,
        default: "",
        documentation: "Prefixes of the names of the metrics that are asked for, separated by commas; * is all.",
    },
];

/// The row of a configuration.
pub fn find(name: &str) -> Option<&'static ClientMetricsConfig> {
    CLIENT_METRICS_CONFIGS.iter().find(|row| row.name == name)
}

impl ClientMetricsConfig {
    /// Checks a value that someone wants to set. `Ok` is its one way of writing.
    pub fn check(&self, value: &str) -> Result<String, Fault> {
        let value = self.kind.check(self.name, value).map_err(Fault::Config)?;
        match self.name {
            "interval.ms" if !value.parse().is_ok_and(|ms| INTERVAL_MS.contains(&ms)) => Err(Fault::Request(format!(
                "Invalid value {value} for interval.ms, interval must be between {} and {} (1 hour)",
                INTERVAL_MS.start(),
                INTERVAL_MS.end()
            ))),
            "match" => {
                let wrong = elements(&value).find(|pattern| !is_match(pattern)).map(str::to_owned);
                wrong.map_or(Ok(value), |pattern| {
                    Err(Fault::Config(format!("Illegal client matching pattern: {}", shown(&pattern))))
                })
            }
            _ => Ok(value),
        }
    }
}

/// Whether this is a property that clients have, and a regular expression.
fn is_match(pattern: &str) -> bool {
    let mut parts = pattern.split('=').map(str::trim);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(regex), None) => MATCHED.contains(&name) && !regex.is_empty() && is_regex(regex),
        _ => false,
    }
}

/// Whether brackets close and nothing is repeated that is not there. No client is ever matched, so that compiling what a
/// client sent would cost time for nobody.
fn is_regex(text: &str) -> bool {
    let (mut groups, mut class, mut escaped, mut repeatable) = (0u32, false, false, false);
    for c in text.chars() {
        let before = repeatable;
        repeatable = true;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' if class => class = false,
            _ if class => {}
            '[' => class = true,
            '(' => (groups, repeatable) = (groups + 1, false),
            ')' if groups == 0 => return false,
            ')' => groups -= 1,
            '|' | '^' => repeatable = false,
            // The ? after a bracket opens a group of another kind; elsewhere it makes a repetition lazy.
            '*' | '+' if !before => return false,
            _ => {}
        }
    }
    groups == 0 && !class && !escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_as_kafka_does() {
        let check = |name: &str, value: &str| find(name).unwrap().check(value);
        assert_eq!(check("interval.ms", "100"), Ok("100".to_owned()));
        assert_eq!(
            check("interval.ms", "99"),
            Err(Fault::Request(
                "Invalid value 99 for interval.ms, interval must be between 100 and 3600000 (1 hour)".to_owned()
            ))
        );
        assert!(matches!(check("interval.ms", "x"), Err(Fault::Config(_))));
        assert_eq!(check("metrics", "a, b"), Ok("a,b".to_owned()));
        assert_eq!(
            check("metrics", "a,,b"),
            Err(Fault::Config("Configuration 'metrics' values must not be empty.".to_owned()))
        );
        for good in ["", "client_id=a.*", "client_id=a,client_id=b", " client_id = a ", "client_source_port=[0-9]+"] {
            assert!(check("match", good).is_ok(), "{good}");
        }
        for bad in ["client_id", "nope=1", "client_id=(", "client_id=", "client_id=a=b", "client_id=*a", "client_id=[a"]
        {
            assert_eq!(check("match", bad), Err(Fault::Config(format!("Illegal client matching pattern: {bad}"))));
        }
        assert!(find("x").is_none());
    }
}
