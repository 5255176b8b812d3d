//! Owns the expressions that sequences are written with: literals, names, captured values and a few functions.

use std::collections::BTreeMap;

use chronik::wire::msg::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition};
use chronik::wire::{Uuid, Wire, Writer};

use super::records;
use super::value::Value;

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Literal(Value),
    /// `$name`: a captured value.
    Variable(String),
    /// `@name`: a name that only this run of the sequence uses.
    Own(String),
    List(Vec<Expr>),
    Struct(Vec<(String, Expr)>),
    Call(String, Vec<Expr>),
    Add(Box<Expr>, Box<Expr>),
}

/// What expressions see: one run of one sequence against one server.
#[derive(Clone, Debug)]
pub struct Scope {
    pub prefix: String,
    /// Milliseconds since 1970, the same for both servers.
    pub now: i64,
    pub variables: BTreeMap<String, Value>,
    /// Topic ids as answers named them, the latest for each name.
    pub topic_ids: BTreeMap<String, Uuid>,
}

impl Scope {
    /// The value of an expression, or why it has none.
    pub fn eval(&self, expr: &Expr) -> Result<Value, String> {
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Own(name) => Ok(Value::Text(format!("{}{name}", self.prefix))),
            Expr::Variable(name) if name == "now" => Ok(Value::Int(self.now)),
            Expr::Variable(name) => {
                self.variables.get(name).cloned().ok_or_else(|| format!("nothing was captured as ${name}"))
            }
            Expr::List(items) => items.iter().map(|item| self.eval(item)).collect::<Result<_, _>>().map(Value::List),
            Expr::Struct(fields) => {
                let fields = fields.iter().map(|(name, value)| Ok((name.clone(), self.eval(value)?)));
                fields.collect::<Result<_, String>>().map(Value::Struct)
            }
            Expr::Add(a, b) => match (self.eval(a)?, self.eval(b)?) {
                (Value::Int(a), Value::Int(b)) => Ok(Value::Int(a.wrapping_add(b))),
                (Value::Text(a), Value::Text(b)) => Ok(Value::Text(a + &b)),
                (Value::Text(a), Value::Int(b)) => Ok(Value::Text(format!("{a}{b}"))),
                (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([a, b].concat())),
                (Value::List(a), Value::List(b)) => Ok(Value::List([a, b].concat())),
                (a, b) => Err(format!("{a} + {b} makes no sense")),
            },
            Expr::Call(name, args) => {
                let args = args.iter().map(|arg| self.eval(arg)).collect::<Result<Vec<_>, _>>()?;
                self.call(name, &args).map_err(|error| format!("{name}: {error}"))
            }
        }
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        match (name, args) {
            ("batch", [Value::List(values)]) => {
                records::build(values, &Value::Struct(Vec::new()), self.now).map(Value::Bytes)
            }
            ("batch", [Value::List(values), options]) => records::build(values, options, self.now).map(Value::Bytes),
            ("reseal", [Value::Bytes(bytes)]) => {
                let mut bytes = bytes.clone();
                records::reseal(&mut bytes);
                Ok(Value::Bytes(bytes))
            }
            ("patch", [Value::Bytes(bytes), Value::Int(at), Value::Bytes(with)]) => {
                let mut bytes = bytes.clone();
                let at = usize::try_from(*at).map_err(|_| "a negative place")?;
                let place = bytes.get_mut(at..at + with.len()).ok_or("a place beyond the end")?;
                place.copy_from_slice(with);
                Ok(Value::Bytes(bytes))
            }
            ("front", [Value::Bytes(bytes), Value::Int(len)]) => {
                Ok(Value::Bytes(bytes.iter().copied().take(*len as usize).collect()))
            }
            ("hex", [Value::Text(digits)]) => of_hex(digits).map(Value::Bytes),
            ("i8", [Value::Int(n)]) => Ok(Value::Bytes((*n as i8).to_be_bytes().to_vec())),
            ("i16", [Value::Int(n)]) => Ok(Value::Bytes((*n as i16).to_be_bytes().to_vec())),
            ("i32", [Value::Int(n)]) => Ok(Value::Bytes((*n as i32).to_be_bytes().to_vec())),
            ("i64", [Value::Int(n)]) => Ok(Value::Bytes(n.to_be_bytes().to_vec())),
            ("str", [Value::Text(text)]) => {
                let len = (text.len() as i16).to_be_bytes();
                Ok(Value::Bytes([&len, text.as_bytes()].concat()))
            }
            ("repeat", [Value::Text(text), Value::Int(times)]) => Ok(Value::Text(text.repeat(*times as usize))),
            ("times", [Value::Int(times), value]) => Ok(Value::List(vec![value.clone(); *times as usize])),
            ("uuid", [Value::Text(text)]) => Uuid::parse(text).map(Value::Id).ok_or_else(|| "no uuid".into()),
            ("uuid", [Value::Int(n)]) => Ok(Value::Id(Uuid((*n as u128).to_be_bytes()))),
            ("id", [Value::Text(topic)]) => {
                let id = self.topic_ids.get(topic).copied();
                id.map(Value::Id).ok_or_else(|| format!("no answer told the id of {topic}"))
            }
            ("subscription", [Value::List(topics)]) => subscription(topics),
            ("assignment", [Value::Text(topic), Value::List(partitions)]) => assignment(topic, partitions),
            _ => Err("no such function, or not with these arguments".into()),
        }
    }
}

fn of_hex(digits: &str) -> Result<Vec<u8>, String> {
    let digits: String = digits.split_whitespace().collect();
    let pairs = (0..digits.len()).step_by(2).map(|i| digits.get(i..i + 2));
    pairs
        .map(|pair| pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<_>>()
        .ok_or("not hex".into())
}

/// What a consumer puts into JoinGroup: version 0 of the consumer protocol.
fn subscription(topics: &[Value]) -> Result<Value, String> {
    let topics = topics.iter().map(Value::text).collect::<Option<Vec<_>>>().ok_or("topics are texts")?;
    Ok(embedded(&ConsumerProtocolSubscription { topics, ..Default::default() }))
}

/// What a leader puts into SyncGroup: version 0 of the consumer protocol.
fn assignment(topic: &str, partitions: &[Value]) -> Result<Value, String> {
    let partitions = partitions.iter().map(|p| p.int().map(|p| p as i32)).collect::<Option<Vec<_>>>();
    let partitions = partitions.ok_or("partitions are numbers")?;
    let assigned_partitions = vec![TopicPartition { topic, partitions }];
    Ok(embedded(&ConsumerProtocolAssignment { assigned_partitions, user_data: None }))
}

fn embedded<'a, T: Wire<'a>>(message: &T) -> Value {
    let mut w = Writer::new(0, false);
    w.i16(0);
    message.write(&mut w);
    Value::Bytes(w.into_encoded().bytes)
}
