//! Owns the tree that requests are written from and answers are compared as, and how it is shown to people.

use std::fmt;

use chronik::wire::Uuid;

/// Text over this many characters is cut when it is shown.
const SHOWN_CHARS_MAX: usize = 160;

/// A value of the protocol without its type: numbers of any width are `Int`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Id(Uuid),
    List(Vec<Value>),
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// A field of a struct.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// What a path like `topics[0].topic_id` leads to.
    pub fn at(&self, path: &str) -> Option<&Value> {
        let mut here = self;
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            here = match part.strip_suffix(']') {
                Some(index) => match here {
                    Value::List(items) => items.get(index.parse::<usize>().ok()?)?,
                    _ => return None,
                },
                None => here.get(part)?,
            };
        }
        Some(here)
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Shows a leaf whose field has this name: error codes by Kafka's names.
    pub fn shown_as(&self, field: &str) -> String {
        match self {
            Value::Int(code) if field.ends_with("error_code") => {
                let named = i16::try_from(*code).map(|code| chronik::wire::ErrorCode(code).to_string());
                format!("{} ({code})", named.unwrap_or_default())
            }
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value}"),
            Value::Text(text) => write!(f, "{:?}", cut(text)),
            Value::Bytes(bytes) => write!(f, "hex({:?})", cut(&hex(bytes))),
            Value::Id(id) => write!(f, "uuid(\"{id}\")"),
            Value::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Value::Struct(fields) => {
                f.write_str("{")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    let shown = value.shown_as(name);
                    write!(f, "{}{name}: {shown}", if i > 0 { ", " } else { " " })?;
                }
                f.write_str(" }")
            }
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_string(),
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_path_leads_through_structs_and_lists() {
    let inner = Value::Struct(vec![("b".into(), Value::List(vec![Value::Int(7)]))]);
    let tree = Value::Struct(vec![("a".into(), Value::List(vec![inner]))]);
    assert_eq!(tree.at("a[0].b[0]"), Some(&Value::Int(7)));
    assert_eq!(tree.at("a[1].b[0]"), None);
    assert_eq!(tree.at("a.b"), None);
    assert_eq!(tree.to_string(), "{ a: [{ b: [7] }] }");
}
