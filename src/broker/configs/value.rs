//! Owns the types of configuration values: what text is allowed, how it is written in one way only, and Kafka's numbers
//! for the types.

use super::group_table::ShareOffsetReset;

/// What a configuration may hold, in Kafka's terms.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// BOOLEAN: `true` or `false`.
    Bool,
    /// STRING: any text.
    Text,
    /// STRING: one of these.
    Choice(&'static [&'static str]),
    /// SHORT: a 16-bit number of at least this.
    Short { min: i64 },
    /// INT: a 32-bit number in these bounds.
    Int { min: i64, max: i64 },
    /// LONG: a 64-bit number of at least this.
    Long { min: i64 },
    /// DOUBLE: a number in these bounds.
    Double { min: f64, max: f64 },
    /// LIST: any of these, separated by commas, none twice.
    List(&'static [&'static str]),
    /// LIST: any texts. Kafka lets no single element be appended to lists of this kind.
    Texts,
    /// INT: 1 to 9, or -1 for the default level.
    GzipLevel,
    /// STRING: where a share group begins to read.
    OffsetReset,
    /// LIST: `*`, or pairs of partition and broker such as `0:1`, separated by commas.
    ThrottledReplicas,
}

/// An INT of at least `min`.
pub const fn int(min: i64) -> Kind {
    Kind::Int { min, max: i32::MAX as i64 }
}

/// A LONG of at least `min`.
pub const fn long(min: i64) -> Kind {
    Kind::Long { min }
}

impl Kind {
    /// The type's number in DescribeConfigs version 3 and newer (KIP-569).
    pub fn type_id(self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::Text | Kind::Choice(_) | Kind::OffsetReset => 2,
            Kind::Int { .. } | Kind::GzipLevel => 3,
            Kind::Short { .. } => 4,
            Kind::Long { .. } => 5,
            Kind::Double { .. } => 6,
            Kind::List(_) | Kind::Texts | Kind::ThrottledReplicas => 7,
        }
    }

    /// Whether single elements can be appended and subtracted (KIP-339).
    pub fn is_list(self) -> bool {
        matches!(self, Kind::List(_) | Kind::ThrottledReplicas)
    }

    /// Checks a value of a configuration. `Ok` is the value in its one way of writing; the error is Kafka's sentence.
    pub fn check(self, name: &str, value: &str) -> Result<String, String> {
        let list = self.type_id() == 7 && !value.trim().is_empty();
        if list && value.split(',').any(|part| part.trim().is_empty()) {
            return Err(format!("Configuration '{name}' values must not be empty."));
        }
        self.read(value).map_err(|why| {
            let shown = match (self, value.trim().parse::<f64>()) {
                // Kafka tells these as it has read them.
                (Kind::Double { .. }, Ok(number)) => format!("{number:?}"),
                (Kind::ThrottledReplicas, _) => format!("[{}]", elements(shown(value)).collect::<Vec<_>>().join(", ")),
                _ => shown(value).to_owned(),
            };
            // What else Kafka says needs the name once more.
            let why = why.replace("{name}", name).replace("{value}", &shown);
            format!("Invalid value {shown} for configuration {name}: {why}")
        })
    }

    /// Reads a value: `Ok` is its one way of writing, the error says what is allowed.
    pub(super) fn read(self, value: &str) -> Result<String, String> {
        let text = value.trim();
        match self {
            Kind::Bool => match text.to_ascii_lowercase().as_str() {
                "true" => Ok("true".to_owned()),
                "false" => Ok("false".to_owned()),
                _ => Err("Expected value to be either true or false".to_owned()),
            },
            Kind::Text => Ok(text.to_owned()),
            Kind::Choice(names) if names.contains(&text) => Ok(text.to_owned()),
            Kind::Choice(names) => Err(format!("String must be one of: {}", names.join(", "))),
            Kind::Short { min } => {
                let number = text.parse::<i16>().map_err(|_| "Not a number of type SHORT".to_owned())?;
                in_bounds(i64::from(number), min, i64::from(i16::MAX))
            }
            Kind::Int { min, max } => {
                let number = text.parse::<i32>().map_err(|_| "Not a number of type INT".to_owned())?;
                in_bounds(i64::from(number), min, max)
            }
            Kind::Long { min } => {
                let number = text.parse::<i64>().map_err(|_| "Not a number of type LONG".to_owned())?;
                in_bounds(number, min, i64::MAX)
            }
            Kind::Double { min, max } => match text.parse::<f64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(format!("{number:?}")),
                Ok(number) if number > max => Err(format!("Value must be no more than {max}")),
                Ok(_) => Err(format!("Value must be at least {min}")),
                Err(_) => Err("Not a number of type DOUBLE".to_owned()),
            },
            Kind::List(names) => read_list(text, |part| match names.contains(&part) {
                true => Ok(()),
                false => Err(format!("String must be one of: {}", names.join(", "))),
            }),
            Kind::Texts => read_list(text, |_| Ok(())),
            Kind::GzipLevel => {
                let number = text.parse::<i32>().map_err(|_| "Not a number of type INT".to_owned())?;
                match number {
                    -1 | 1..=9 => Ok(number.to_string()),
                    _ => Err("Value must be between 1 and 9 or equal to -1".to_owned()),
                }
            }
            Kind::OffsetReset if ShareOffsetReset::parse(text).is_some() => Ok(text.to_owned()),
            Kind::OffsetReset => Err("Invalid value `{value}` for configuration {name}. The value must be either \
                                      'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
                .to_owned()),
            Kind::ThrottledReplicas if text == "*" => Ok("*".to_owned()),
            Kind::ThrottledReplicas => read_list(text, |part| {
                let numbers = |(a, b): (&str, &str)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok();
                match part.split_once(':').is_some_and(numbers) {
                    true => Ok(()),
                    false => Err("{name} must be the literal '*' or a list of replicas in the following format: \
                                  [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                        .to_owned()),
                }
            }),
        }
    }
}

fn in_bounds(number: i64, min: i64, max: i64) -> Result<String, String> {
    match number {
        _ if number < min => Err(format!("Value must be at least {min}")),
        _ if number > max => Err(format!("Value must be no more than {max}")),
        _ => Ok(number.to_string()),
    }
}

fn read_list(text: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<String, String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in elements(text) {
        check(part)?;
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    Ok(parts.join(","))
}

/// A value in an error's sentence, not at any length.
pub fn shown(value: &str) -> &str {
    value.char_indices().nth(100).map_or(value, |(end, _)| &value[..end])
}

/// The elements of a list's text.
pub fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_one_way_of_writing() {
        for (kind, given, kept) in [
            (Kind::Bool, " TRUE ", "true"),
            (long(-1), "+5", "5"),
            (long(-1), "-1", "-1"),
            (int(0), " 7", "7"),
            (Kind::Double { min: 0.0, max: 1.0 }, "0.50", "0.5"),
            (Kind::Double { min: 0.0, max: 1.0 }, "1", "1.0"),
            (Kind::List(&["compact", "delete"]), "delete, compact,delete", "delete,compact"),
            (Kind::List(&["compact", "delete"]), "", ""),
            (Kind::ThrottledReplicas, "*", "*"),
            (Kind::ThrottledReplicas, "0:1, 1:1", "0:1,1:1"),
            (Kind::Choice(&["a", "b"]), "b", "b"),
        ] {
            assert_eq!(kind.read(given).as_deref(), Ok(kept), "{given}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_or_of_another_type_is_refused() {
        for (kind, given) in [
            (Kind::Bool, "yes"),
            (long(-1), "-2"),
            (long(0), "9223372036854775808"),
            (long(0), "1.5"),
            (long(0), ""),
            (int(0), "2147483648"),
            (Kind::Double { min: 0.0, max: 1.0 }, "NaN"),
            (Kind::Double { min: 0.0, max: 1.0 }, "1.1"),
            (Kind::List(&["compact", "delete"]), "compact,shred"),
            (Kind::ThrottledReplicas, "0:1,x"),
            (Kind::ThrottledReplicas, "0:-1"),
            (Kind::Choice(&["a", "b"]), "A"),
        ] {
            assert!(kind.read(given).is_err(), "{given}");
        }
    }
}
