//! Owns JSON: what commands print for programs.

use std::fmt::{self, Write};

/// A JSON value. Objects keep the order in which they were made.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(&'static str, Value)>),
    /// An object whose keys are data.
    Map(Vec<(String, Value)>),
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Value {
        Value::List(values.into_iter().map(Into::into).collect())
    }
}

/// Numbers of every width.
macro_rules! numbers {
    ($($kind:ty),*) => { $(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Value {
                Value::Int(value as i128)
            }
        }
    )* };
}
numbers!(u8, i8, u16, i16, u32, i32, u64, i64, usize);

/// An object from its fields.
pub fn object<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
    Value::Object(fields.into())
}

impl Value {
    /// The value over several lines, for a terminal or a pager.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.write_pretty(&mut out, 0);
        out
    }

    fn write_pretty(&self, out: &mut String, depth: usize) {
        let fields: Vec<(Option<&str>, &Value)> = match self {
            Value::List(values) => values.iter().map(|value| (None, value)).collect(),
            Value::Object(fields) => fields.iter().map(|(key, value)| (Some(*key), value)).collect(),
            Value::Map(fields) => fields.iter().map(|(key, value)| (Some(key.as_str()), value)).collect(),
            plain => {
                let _ = write!(out, "{plain}");
                return;
            }
        };
        let (open, close) = if matches!(self, Value::List(_)) { ('[', ']') } else { ('{', '}') };
        out.push(open);
        for (at, (key, value)) in fields.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(out, "{comma}\n{:1$}", "", depth + 2);
            if let Some(key) = key {
                let _ = write!(out, "{}: ", Quoted(key));
            }
            value.write_pretty(out, depth + 2);
        }
        if !fields.is_empty() {
            let _ = write!(out, "\n{:depth$}", "");
        }
        out.push(close);
    }
}

/// On one line.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = |f: &mut fmt::Formatter<'_>, fields: &mut dyn Iterator<Item = (&str, &Value)>| {
            f.write_char('{')?;
            for (at, (key, value)) in fields.enumerate() {
                let comma = if at == 0 { "" } else { "," };
                write!(f, "{comma}{}:{value}", Quoted(key))?;
            }
            f.write_char('}')
        };
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Text(text) => write!(f, "{}", Quoted(text)),
            Value::List(values) => {
                f.write_char('[')?;
                for (at, value) in values.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{value}")?;
                }
                f.write_char(']')
            }
            Value::Object(fields) => object(f, &mut fields.iter().map(|(key, value)| (*key, value))),
            Value::Map(fields) => object(f, &mut fields.iter().map(|(key, value)| (key.as_str(), value))),
        }
    }
}

/// A string as JSON writes it (RFC 8259).
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                c if c < ' ' || c == '\u{7f}' => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_json() {
        let value = object([
            ("a", Value::from(vec![1, -2])),
            ("b", Value::from("q\"\\\n\u{1}ü")),
            ("c", Value::from(None::<bool>)),
            ("d", Value::List(vec![])),
        ]);
        assert_eq!(value.to_string(), "{\"a\":[1,-2],\"b\":\"q\\\"\\\\\\n\\u0001ü\",\"c\":null,\"d\":[]}");
        assert_eq!(object([("a", Value::from(vec![1]))]).pretty(), "{\n  \"a\": [\n    1\n  ]\n}");
    }
}
