//! Owns a codec that follows the descriptions of the messages at run time: trees to requests, answers to trees. Unlike the
//! broker's codec it also writes what the protocol forbids, such as null where a value must stand.

use std::collections::BTreeMap;

use chronik::wire::schema::{Field, Struct, Type};
use chronik::wire::{Api, DecodeError, Reader, Uuid};

use super::records;
use super::value::Value;
use crate::codec::every_message;
use crate::codec::random::in_range;

/// The descriptions of one API.
#[derive(Clone, Copy)]
pub struct Described {
    pub api: &'static Api,
    pub request: &'static Struct,
    pub response: &'static Struct,
}

/// Every API by its name.
pub fn described() -> BTreeMap<&'static str, Described> {
    let messages = every_message();
    let pairs = messages.chunks_exact(2);
    pairs
        .map(|pair| (pair[0].api.name, Described { api: pair[0].api, request: pair[0].body, response: pair[1].body }))
        .collect()
}

/// Writes a message body. Fields that are not given hold their defaults, tagged ones are then left out; fields that the
/// version lacks are left out even if given. A field that no version has is an error.
pub fn encode(body: &Struct, version: i16, flexible: bool, given: &Value) -> Result<Vec<u8>, String> {
    let mut out = Out { bytes: Vec::new(), version, flexible };
    out.body(body, given)?;
    Ok(out.bytes)
}

struct Out {
    bytes: Vec<u8>,
    version: i16,
    flexible: bool,
}

impl Out {
    fn body(&mut self, body: &Struct, given: &Value) -> Result<(), String> {
        let Value::Struct(fields) = given else { return Err(format!("{} is a struct, not {given}", body.name)) };
        if let Some((unknown, _)) = fields.iter().find(|(name, _)| !body.fields.iter().any(|f| f.name == name)) {
            return Err(format!("{} has no field {unknown}", body.name));
        }
        let version = self.version;
        let present = || body.fields.iter().filter(move |field| in_range(field.versions, version));
        for field in present().filter(|field| field.tag.is_none()) {
            let default;
            let value = match given.get(field.name) {
                Some(value) => value,
                None => {
                    default = default_in(field, version);
                    &default
                }
            };
            self.value(&field.kind, value).map_err(|error| format!("{}: {error}", field.name))?;
        }
        if self.flexible {
            let tagged: Vec<(u32, &Field, &Value)> =
                present().filter_map(|field| Some((field.tag?, field, given.get(field.name)?))).collect();
            self.uvarint(tagged.len());
            for (tag, field, value) in tagged {
                let mut content = Out { bytes: Vec::new(), version, flexible: true };
                content.value(&field.kind, value)?;
                self.uvarint(tag as usize);
                self.uvarint(content.bytes.len());
                self.bytes.extend(content.bytes);
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: &Type, value: &Value) -> Result<(), String> {
        match (kind, value) {
            (Type::Nullable(Type::Struct(_)), Value::Null) => self.bytes.push(0xff),
            (Type::Nullable(Type::Struct(body)), value) => {
                self.bytes.push(1);
                self.body(body, value)?;
            }
            (Type::Nullable(kind), value) => self.value(kind, value)?,
            (Type::Struct(body), value) => self.body(body, value)?,
            (Type::Bool, Value::Bool(value)) => self.bytes.push(u8::from(*value)),
            (Type::Bool | Type::Int8, Value::Int(n)) => self.bytes.extend((*n as i8).to_be_bytes()),
            (Type::Int16 | Type::Uint16, Value::Int(n)) => self.bytes.extend((*n as i16).to_be_bytes()),
            (Type::Int32, Value::Int(n)) => self.bytes.extend((*n as i32).to_be_bytes()),
            (Type::Int64, Value::Int(n)) => self.bytes.extend(n.to_be_bytes()),
            (Type::Float64, Value::Float(n)) => self.bytes.extend(n.to_be_bytes()),
            (Type::Float64, Value::Int(n)) => self.bytes.extend((*n as f64).to_be_bytes()),
            (Type::Uuid, Value::Id(id)) => self.bytes.extend(id.0),
            (Type::String, Value::Null) => self.string(None),
            (Type::String, Value::Text(text)) => self.string(Some(text.as_bytes())),
            (Type::String, Value::Bytes(bytes)) => self.string(Some(bytes)),
            (Type::Bytes | Type::Records | Type::Array { .. }, Value::Null) => self.len(None),
            (Type::Bytes | Type::Records, Value::Text(text)) => self.sized(text.as_bytes()),
            (Type::Bytes | Type::Records, Value::Bytes(bytes)) => self.sized(bytes),
            (Type::Array { of, .. }, Value::List(items)) => {
                self.len(Some(items.len()));
                for item in items {
                    self.value(of, item)?;
                }
            }
            (kind, value) => return Err(format!("{value} is no {}", kind_name(kind))),
        }
        Ok(())
    }

    fn string(&mut self, text: Option<&[u8]>) {
        match (self.flexible, text) {
            (true, text) => self.uvarint(text.map_or(0, |text| text.len() + 1)),
            (false, text) => self.bytes.extend(text.map_or(-1, |text| text.len() as i16).to_be_bytes()),
        }
        self.bytes.extend(text.unwrap_or(&[]));
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.len(Some(bytes.len()));
        self.bytes.extend(bytes);
    }

    fn len(&mut self, len: Option<usize>) {
        if self.flexible {
            self.uvarint(len.map_or(0, |len| len + 1));
        } else {
            self.bytes.extend(len.map_or(-1, |len| len as i32).to_be_bytes());
        }
    }

    fn uvarint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

fn kind_name(kind: &Type) -> String {
    match kind {
        Type::Array { of, .. } => format!("list of {}", kind_name(of)),
        Type::Struct(body) => body.name.to_string(),
        Type::Nullable(kind) => format!("{} or null", kind_name(kind)),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// A field's default in a version: where null is not allowed, the empty value stands for it.
fn default_in(field: &Field, version: i16) -> Value {
    match (default_of(field), &field.kind, field.nullable) {
        (Value::Null, Type::Nullable(kind), Some(range)) if !in_range(range, version) => match kind {
            Type::Array { .. } => Value::List(Vec::new()),
            _ => Value::Text(String::new()),
        },
        (value, ..) => value,
    }
}

/// A field's default, read from what the description says of it in Rust's debug format.
fn default_of(field: &Field) -> Value {
    let text = (field.default)();
    match (&field.kind, text.as_str()) {
        (Type::Struct(_), _) => Value::Struct(Vec::new()),
        (Type::Uuid, _) => Value::Id(Uuid::ZERO),
        (Type::Array { .. }, _) => Value::List(Vec::new()),
        (Type::Bytes, _) => Value::Bytes(Vec::new()),
        (_, "None" | "Null") => Value::Null,
        (Type::Bool, text) => Value::Bool(text == "true"),
        (Type::String, _) => Value::Text(String::new()),
        (_, text) => match text.parse::<i64>() {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Int(0),
        },
    }
}

/// Checks the names of the fields that a request gives, without writing it.
pub fn check_names(body: &Struct, given: &[(String, super::expr::Expr)]) -> Result<(), String> {
    for (name, value) in given {
        let Some(field) = body.fields.iter().find(|field| field.name == name) else {
            let known: Vec<&str> = body.fields.iter().map(|field| field.name).collect();
            return Err(format!("{} has no field {name}, but {}", body.name, known.join(", ")));
        };
        check_value(&field.kind, value)?;
    }
    Ok(())
}

fn check_value(kind: &Type, value: &super::expr::Expr) -> Result<(), String> {
    use super::expr::Expr;
    match (kind, value) {
        (Type::Nullable(kind), value) => check_value(kind, value),
        (Type::Array { of, .. }, Expr::List(items)) => items.iter().try_for_each(|item| check_value(of, item)),
        (Type::Struct(body), Expr::Struct(fields)) => check_names(body, fields),
        _ => Ok(()),
    }
}

/// Reads an answer's body to its last byte.
pub fn decode(body: &Struct, version: i16, flexible: bool, bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut r = Reader::new(bytes, version, flexible);
    let value = read_body(body, &mut r)?;
    r.finish()?;
    Ok(value)
}

fn read_body(body: &Struct, r: &mut Reader<'_>) -> Result<Value, DecodeError> {
    let version = r.version();
    let present = || body.fields.iter().filter(move |field| in_range(field.versions, version));
    let mut values = Vec::new();
    for field in present() {
        let value = if field.tag.is_some() { absent(field) } else { read_value(&field.kind, r)? };
        values.push((field.name.to_string(), value));
    }
    if r.flexible() {
        for _ in 0..r.tag_count()? {
            let (tag, mut content) = r.tag()?;
            let Some(field) = present().find(|field| field.tag == Some(tag)) else {
                values.push((format!("tag_{tag}"), Value::Bytes(content.rest().to_vec())));
                continue;
            };
            let value = read_value(&field.kind, &mut content)?;
            content.finish()?;
            if let Some((_, slot)) = values.iter_mut().find(|(name, _)| name == field.name) {
                *slot = value;
            }
        }
    }
    Ok(Value::Struct(values))
}

/// What a tagged field holds that was not sent: its default, struct fields spelled out.
fn absent(field: &Field) -> Value {
    match field.kind {
        Type::Struct(body) => Value::Struct(body.fields.iter().map(|f| (f.name.to_string(), absent(f))).collect()),
        _ => default_of(field),
    }
}

fn read_value(kind: &Type, r: &mut Reader<'_>) -> Result<Value, DecodeError> {
    Ok(match kind {
        Type::Bool => match r.u8()? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            odd => Value::Int(i64::from(odd)),
        },
        Type::Int8 => Value::Int(i64::from(r.i8()?)),
        Type::Int16 => Value::Int(i64::from(r.i16()?)),
        Type::Uint16 => Value::Int(i64::from(r.u16()?)),
        Type::Int32 => Value::Int(i64::from(r.i32()?)),
        Type::Int64 => Value::Int(r.i64()?),
        Type::Float64 => Value::Float(r.f64()?),
        Type::Uuid => {
            let mut id = [0; 16];
            id.copy_from_slice(r.take(16)?);
            Value::Id(Uuid(id))
        }
        Type::String => r.string()?.map_or(Value::Null, |text| Value::Text(text.to_string())),
        Type::Bytes => r.bytes()?.map_or(Value::Null, |bytes| Value::Bytes(bytes.to_vec())),
        Type::Records => r.bytes()?.map_or(Value::Null, records::decode),
        Type::Array { of, .. } => match r.len()? {
            None => Value::Null,
            Some(count) => {
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(read_value(of, r)?);
                }
                Value::List(items)
            }
        },
        Type::Nullable(Type::Struct(body)) => match r.i8()? {
            ..=-1 => Value::Null,
            _ => read_body(body, r)?,
        },
        Type::Nullable(kind) => read_value(kind, r)?,
        Type::Struct(body) => read_body(body, r)?,
    })
}

#[test]
fn defaults_are_written_as_the_brokers_codec_writes_them() {
    for (entry, version) in crate::codec::every_version() {
        let flexible = entry.api.is_flexible(version);
        let ours = encode(entry.body, version, flexible, &Value::Struct(Vec::new())).unwrap();
        assert_eq!(ours, (entry.default)(version), "{} v{version}", entry.name);
        decode(entry.body, version, flexible, &ours).unwrap_or_else(|e| panic!("{} v{version}: {e}", entry.name));
    }
}
