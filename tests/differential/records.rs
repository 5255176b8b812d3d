//! Owns record data in the differential test: batches made as a sequence asks for, right or wrong, and read for comparison.

use chronik::wire::batch::{
    self, Batch, BatchBuilder, BatchHeader, Compression, Record, TimestampType, DECOMPRESSED_BYTES_MAX,
};
use chronik::wire::legacy::MessageSetBuilder;

use super::value::{hex, Value};

/// Reads record data into a list of batches. What is no batch stands at the end as bytes.
pub fn decode(records: &[u8]) -> Value {
    let mut batches = batch::batches(records);
    let mut list = Vec::new();
    for found in batches.by_ref() {
        match found {
            Ok(found) => list.push(of_batch(&found)),
            Err(error) => {
                list.push(Value::Text(format!("no batch: {error}")));
                break;
            }
        }
    }
    if list.is_empty() && !records.is_empty() {
        list.push(Value::Bytes(records.to_vec()));
    }
    Value::List(list)
}

fn of_batch(batch: &Batch<'_>) -> Value {
    let header = &batch.header;
    // The server's own times have another name than the producer's, which must come back as they were.
    let is_servers = header.is_control() || header.timestamp_type() == TimestampType::LogAppendTime;
    let time = if is_servers { "append_time" } else { "timestamp" };
    let mut scratch = Vec::new();
    let records = match batch::records(batch, &mut scratch, DECOMPRESSED_BYTES_MAX) {
        Err(error) => Value::Text(format!("unreadable records: {error}")),
        Ok(records) => Value::List(
            records
                .map(|record| match record {
                    Err(error) => Value::Text(format!("unreadable record: {error}")),
                    Ok(record) => of_record(header, &record, time),
                })
                .collect(),
        ),
    };
    Value::Struct(vec![
        int("base_offset", header.base_offset),
        int("last_offset", header.last_offset()),
        int("batch_leader_epoch", header.leader_epoch.into()),
        int("magic", header.magic.into()),
        int("attributes", header.attributes.into()),
        ("crc_is_right".into(), Value::Bool(batch::verify_crc(batch.bytes))),
        int(&format!("base_{}", if header.is_control() { time } else { "timestamp" }), header.base_timestamp),
        int(&format!("max_{time}"), header.max_timestamp),
        int("producer_id", header.producer_id),
        int("producer_epoch", header.producer_epoch.into()),
        int("base_sequence", header.base_sequence.into()),
        ("records".into(), records),
    ])
}

fn int(name: &str, value: i64) -> (String, Value) {
    (name.to_string(), Value::Int(value))
}

fn of_record(header: &BatchHeader, record: &Record<'_>, time: &str) -> Value {
    let mut fields = vec![int("offset", record.offset(header)), int(time, record.timestamp(header))];
    if header.is_control() {
        let hex_of = |bytes: Option<&[u8]>| Value::Text(hex(bytes.unwrap_or(&[])));
        fields.push(("marker".into(), hex_of(record.key)));
        fields.push(("coordinator_epoch".into(), hex_of(record.value)));
    } else {
        let headers = record.headers.map(|header| Value::Text(format!("{header:?}"))).collect();
        fields.push(("key".into(), readable(record.key)));
        fields.push(("value".into(), readable(record.value)));
        fields.push(("headers".into(), Value::List(headers)));
    }
    Value::Struct(fields)
}

fn readable(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) if !text.contains('\0') => Value::Text(text.to_string()),
        _ => Value::Text(hex(bytes.unwrap_or(&[]))),
    }
}

/// A batch of `values`; the options are a struct with any of: codec, pid, epoch, seq, txn, control, ts, magic.
/// A value is text, null, or a struct of k, v, ts.
pub fn build(values: &[Value], options: &Value, now: i64) -> Result<Vec<u8>, String> {
    let int = |name: &str, default: i64| options.get(name).and_then(Value::int).unwrap_or(default);
    let timestamp = int("ts", now);
    let magic = int("magic", 2);
    if magic < 2 {
        return legacy(values, magic as i8, timestamp, options);
    }
    let mut builder = BatchBuilder::new().compression(codec(options)?);
    if options.get("pid").is_some() {
        builder = builder.producer(int("pid", -1), int("epoch", 0) as i16, int("seq", 0) as i32);
    }
    if options.get("txn").is_some() {
        builder = builder.transactional();
    }
    if options.get("control").is_some() {
        builder = builder.control();
    }
    for value in values {
        let (key, content, at) = parts(value, timestamp)?;
        builder.push(at, key, content, &[]);
    }
    builder.build().map_err(|error| error.to_string())
}

fn legacy(values: &[Value], magic: i8, timestamp: i64, options: &Value) -> Result<Vec<u8>, String> {
    let mut set = MessageSetBuilder::new(magic);
    for (i, value) in values.iter().enumerate() {
        let (key, content, at) = parts(value, timestamp)?;
        set.push(i as i64, if magic == 0 { -1 } else { at }, key, content);
    }
    let _ = codec(options)?;
    Ok(set.build())
}

type Parts<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, i64);

fn parts(value: &Value, timestamp: i64) -> Result<Parts<'_>, String> {
    let bytes = |value: Option<&'_ Value>| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("{other} is no record value")),
    };
    match value {
        Value::Text(text) => Ok((None, Some(text.as_bytes()), timestamp)),
        Value::Null => Ok((None, None, timestamp)),
        Value::Struct(_) => {
            bytes(value.get("k"))?;
            bytes(value.get("v"))?;
            let get = |name: &str| value.get(name).and_then(Value::text).map(str::as_bytes);
            Ok((get("k"), get("v"), value.get("ts").and_then(Value::int).unwrap_or(timestamp)))
        }
        other => Err(format!("{other} is no record")),
    }
}

fn codec(options: &Value) -> Result<Compression, String> {
    match options.get("codec").and_then(Value::text) {
        None => Ok(Compression::None),
        Some(name) => Compression::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| format!("there is no codec {name}")),
    }
}

/// Writes the checksum of a batch that was tampered with anew.
pub fn reseal(batch: &mut [u8]) {
    if batch.len() > batch::CRC_FROM {
        let crc = crc32c::crc32c(&batch[batch::CRC_FROM..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}
