//! Owns what the model expects of Fetch and ListOffsets.

use bytes::Bytes;
use chronik::wal::PartitionId;
use chronik::wire::Uuid;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};

use super::super::batch;
use super::compacted::{self, Tombstones};
use super::txn::check_committed;
use super::{
    hold, Call, Log, Model, Verdict, CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR, NONE, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
};

/// What was asked of one partition.
struct Wanted {
    topic: String,
    id: Option<Uuid>,
    partition: i32,
    offset: i64,
    bytes_max: i64,
    /// Only committed records are wanted.
    committed: bool,
}

impl Model {
    pub(super) fn check_fetch(&mut self, call: &Call, request: &FetchRequest, response: &FetchResponse) -> Verdict {
        hold!(response.error_code == NONE, "fetch refused with {}", response.error_code);
        let mut wanted = wanted(call, request);
        let (mut bytes, mut first_batch, mut progress) = (0, 0, false);
        let mut could_progress = false;
        for topic in &response.responses {
            let id = (call.version >= 13).then(|| Uuid(*topic.topic_id.as_bytes()));
            for part in &topic.partitions {
                let asked = |w: &Wanted| {
                    w.partition == part.partition_index
                        && if id.is_some() { w.id == id } else { *topic.topic == *w.topic }
                };
                let index = wanted.iter().position(asked).ok_or("a partition that was not asked")?;
                let want = wanted.swap_remove(index);
                let len = part.records.as_ref().map_or(0, Bytes::len);
                if bytes == 0 && len > 0 {
                    first_batch = first_batch_len(part);
                }
                bytes += len;
                let bound = want.bytes_max.max(first_batch_len(part) as i64);
                hold!(len as i64 <= bound, "{len} bytes of a partition where {bound} were allowed");
                progress |= len > 0 || part.error_code != NONE;
                could_progress |= self.check_partition(call, &want, part)?;
            }
        }
        hold!(wanted.is_empty(), "{} partitions without an answer", wanted.len());
        let bound = i64::from(request.max_bytes).max(first_batch as i64);
        hold!(bytes as i64 <= bound, "{bytes} bytes in a fetch where {bound} were allowed");
        hold!(progress || !could_progress || self.excuses.reads_late, "a fetch without data though there was some");
        Ok(())
    }

    /// Whether there was something to read; what came must fit one of the logs that the name may stand for.
    fn check_partition(&mut self, call: &Call, want: &Wanted, part: &PartitionData) -> Result<bool, String> {
        let dead = want.id.and_then(|id| self.dead.get(&id)).is_some_and(|at| *at < call.order);
        hold!(!dead || part.error_code == UNKNOWN_TOPIC_ID, "{:?} was deleted: {}", want.id, part.error_code);
        match part.error_code {
            UNKNOWN_TOPIC_OR_PARTITION | UNKNOWN_TOPIC_ID => {
                let topic = want.id.and_then(|id| self.names.get(&id)).unwrap_or(&want.topic).clone();
                hold!(self.may_be_unknown(call, &topic, want.partition), "{topic}/{} is unknown", want.partition);
                return Ok(false);
            }
            KAFKA_STORAGE_ERROR | CORRUPT_MESSAGE => {
                hold!(self.excuses.reads_fail, "{}/{}: error {}", want.topic, want.partition, part.error_code);
                return Ok(false);
            }
            _ => {}
        }
        let logs = self.logs_for(call, &want.topic, want.id, want.partition);
        let name = want.id.and_then(|id| self.names.get(&id)).unwrap_or(&want.topic);
        let state = State { durable: self.durable, expires: self.expires(name), compacted: self.compacted(name) };
        let mut why = Ok((false, 0));
        for log in logs {
            why = check_data(log, call, want, part, &state);
            if why.is_ok() {
                break;
            }
        }
        let (readable, gone) =
            why.map_err(|e| format!("{}/{} from {}: {e}", want.topic, want.partition, want.offset))?;
        self.gone += gone;
        Ok(readable)
    }

    /// The logs that a name may have stood for since a request was handed in, or may stand for now.
    fn logs_for(&self, call: &Call, topic: &str, id: Option<Uuid>, partition: i32) -> Vec<&Log> {
        let id = id.or_else(|| self.settled_id(topic, call));
        let named = |of: &PartitionId| match id {
            Some(id) => of.topic == id,
            None => self.names.get(&of.topic).is_none_or(|name| name == topic),
        };
        let of_name = self.logs.iter().filter(|(of, _)| of.partition == partition && named(of));
        let mut logs: Vec<&Log> = of_name.map(|(_, log)| log).collect();
        if logs.is_empty() || id.is_none() {
            logs.push(&self.empty);
        }
        logs
    }

    pub(super) fn check_list_offsets(
        &mut self,
        call: &Call,
        request: &ListOffsetsRequest,
        response: &ListOffsetsResponse,
    ) -> Verdict {
        for topic in &request.topics {
            let told = response.topics.iter().find(|t| t.name == topic.name).ok_or("a topic without an answer")?;
            for asked in &topic.partitions {
                let index = asked.partition_index;
                let part = told.partitions.iter().find(|p| p.partition_index == index).ok_or("no answer")?;
                let at = format!("{}/{index} at {}", topic.name.as_str(), asked.timestamp);
                if part.error_code != NONE {
                    let gone =
                        part.error_code == UNKNOWN_TOPIC_OR_PARTITION && self.may_be_unknown(call, &topic.name, index);
                    let failed =
                        self.excuses.reads_fail && matches!(part.error_code, KAFKA_STORAGE_ERROR | CORRUPT_MESSAGE);
                    hold!(gone || failed, "{at}: error {}", part.error_code);
                    continue;
                }
                let durable = self.durable;
                let found = (part.offset, part.timestamp);
                let logs = self.logs_for(call, &topic.name, None, index);
                let expires = self.expires(&topic.name);
                let committed = request.isolation_level == 1;
                let state = (durable, expires, committed);
                let compacted = self.compacted(&topic.name).is_some();
                let fits = logs.iter().any(|log| is_offset_right(log, call, asked.timestamp, found, state, compacted));
                let (start, end) = logs.first().map_or((0, 0), |log| (log.start_max(expires), log.end_at(durable)));
                let best = logs
                    .first()
                    .map(|log| (log.max_timestamp(start, end), log.first_at_or_after(start, end, asked.timestamp)));
                hold!(fits, "{at}: told {found:?}, of {start}..{end}, where max and first are {best:?}");
            }
        }
        Ok(())
    }
}

fn wanted(call: &Call, request: &FetchRequest) -> Vec<Wanted> {
    let parts = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
    parts
        .map(|(topic, part)| Wanted {
            topic: topic.topic.to_string(),
            id: (call.version >= 13).then(|| Uuid(*topic.topic_id.as_bytes())),
            partition: part.partition,
            offset: part.fetch_offset,
            bytes_max: i64::from(part.partition_max_bytes),
            committed: request.isolation_level == 1,
        })
        .collect()
}

fn first_batch_len(part: &PartitionData) -> usize {
    let Some(records) = part.records.as_ref().filter(|r| r.len() >= 12) else { return 0 };
    let len = u32::from_be_bytes(records[8..12].try_into().expect("four bytes"));
    12 + len as usize
}

/// What is known besides a partition's log.
#[derive(Clone, Copy)]
struct State {
    durable: u64,
    /// Retention moves the log start by itself.
    expires: bool,
    /// If the topic is compacted, when tombstones may be gone.
    compacted: Option<Tombstones>,
}

/// Whether there was something to read, and how many records compaction had taken out of what was read.
fn check_data(
    log: &Log,
    call: &Call,
    want: &Wanted,
    part: &PartitionData,
    state: &State,
) -> Result<(bool, u64), String> {
    let (State { durable, expires, compacted }, offset) = (*state, want.offset);
    let start_max = log.start_max(expires);
    let (low, high) = (log.end_at(call.durable), log.end_at(durable));
    if part.error_code == OFFSET_OUT_OF_RANGE {
        hold!(offset < start_max || offset > low, "out of range, but {start_max}..{low} is there");
        return Ok((false, 0));
    }
    hold!(part.error_code == NONE, "error {}", part.error_code);
    let (hw, start) = (part.high_watermark, part.log_start_offset);
    hold!((low..=high).contains(&hw), "high watermark {hw}, but {low} were durable before and {high} are now");
    if call.version >= 5 {
        let start_min = log.start_min(call.order);
        hold!(start <= start_max, "log start {start}, but nobody moved it beyond {start_max}");
        hold!(start >= start_min, "log start {start} went back behind {start_min}");
    }
    if call.version >= 4 {
        let (least, most) = (log.stable_at(call.durable), log.stable_at(durable).max(start_max));
        let stable = part.last_stable_offset;
        hold!((least..=most).contains(&stable), "last stable offset {stable}, where it is {least} to {most}");
    }
    let mut next = offset;
    let batches = batch::parse(&part.records.clone().unwrap_or_default())?;
    if want.committed {
        check_committed(log, &batches, part, durable)?;
    }
    let readable = if want.committed { log.stable_at(call.durable) } else { low };
    if let Some(rule) = compacted {
        hold!(batches.last().is_none_or(|last| last.last_offset < hw), "beyond the high watermark {hw}");
        let below = if expires { start.max(0) } else { 0 };
        let gone = compacted::check(log, offset, &batches, below, durable, rule)?;
        return Ok((readable > offset, gone));
    }
    for batch in batches {
        let placed = log.at(next).ok_or_else(|| format!("batch {} at {next}, where nothing is", batch.tag))?;
        let (tag, base) = (placed.batch.tag, placed.batch.base_offset);
        hold!(batch.base_offset == base, "batch {} at {}, expected {tag} at {base}", batch.tag, batch.base_offset);
        hold!(batch.bytes == placed.batch.bytes, "the bytes of batch {} at {base} have changed", batch.tag);
        hold!(placed.seq <= durable, "visible before it was durable: batch {tag} of group {}", placed.seq);
        hold!(batch.last_offset < hw, "batch {tag} reaches beyond the high watermark {hw}");
        next = batch.last_offset + 1;
    }
    Ok((readable > offset, 0))
}

fn is_offset_right(
    log: &Log,
    call: &Call,
    asked: i64,
    found: (i64, i64),
    state: (u64, bool, bool),
    compacted: bool,
) -> bool {
    let (durable, expires, committed) = state;
    let (start_min, start_max) = (log.start_min(call.order), log.start_max(expires));
    let (low, high) = match committed {
        true => (log.stable_at(call.durable), log.stable_at(durable).max(start_max)),
        false => (log.end_at(call.durable), log.end_at(durable)),
    };
    let search = |start: i64, end: i64| match asked {
        -3 => log.max_timestamp(start, end),
        _ => log.first_at_or_after(start, end, asked),
    };
    match asked {
        -1 => (low..=high).contains(&found.0),
        -2 | -4 => (0..=start_max).contains(&found.0),
        // What is searched may have changed meanwhile; then any state in between is right.
        // Or compaction may have taken out what would be found.
        _ if low == high && start_min == start_max && !compacted => search(start_min, low).unwrap_or((-1, -1)) == found,
        _ => found == (-1, -1) || log.at(found.0).is_some_and(|placed| placed.seq <= durable),
    }
}
