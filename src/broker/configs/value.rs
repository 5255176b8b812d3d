//! Owns the types of configuration values: what text is allowed, how it is written in one way only, and Kafka's numbers
//! for the types.

/// What a configuration may hold, in Kafka's terms.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// BOOLEAN: `true` or `false`.
    Bool,
    /// STRING: any text.
    Text,
    /// STRING: one of these.
    Choice(&'static [&'static str]),
    /// INT: a 32-bit number in these bounds.
    Int { min: i64, max: i64 },
    /// LONG: a 64-bit number of at least this.
    Long { min: i64 },
    /// DOUBLE: a number in these bounds.
    Double { min: f64, max: f64 },
    /// LIST: any of these, separated by commas, none twice.
    List(&'static [&'static str]),
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
            Kind::Text | Kind::Choice(_) => 2,
            Kind::Int { .. } => 3,
            Kind::Long { .. } => 5,
            Kind::Double { .. } => 6,
            Kind::List(_) | Kind::ThrottledReplicas => 7,
        }
    }

    /// Whether single elements can be appended and subtracted (KIP-339).
    pub fn is_list(self) -> bool {
        matches!(self, Kind::List(_) | Kind::ThrottledReplicas)
    }

    /// Checks a value. `Ok` is the value in its one way of writing; the error says what is allowed, to be put behind
    /// "Invalid value x for configuration y: ".
    pub fn read(self, value: &str) -> Result<String, String> {
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
                Ok(_) => Err(format!("Value must be from {min} to {max}")),
                Err(_) => Err("Not a number of type DOUBLE".to_owned()),
            },
            Kind::List(names) => read_list(text, |part| match names.contains(&part) {
                true => Ok(()),
                false => Err(format!("String must be one of: {}", names.join(", "))),
            }),
            Kind::ThrottledReplicas if text == "*" => Ok("*".to_owned()),
            Kind::ThrottledReplicas => read_list(text, |part| {
                let numbers = |(a, b): (&str, &str)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok();
                match part.split_once(':').is_some_and(numbers) {
                    true => Ok(()),
                    false => Err("Must be '*', or partition:broker pairs such as 0:1,1:1".to_owned()),
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
