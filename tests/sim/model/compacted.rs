//! Owns what the model expects of compacted topics: which records may be gone, and that everything else is as it was sent.

use chronik::wal::GroupSeq;

use super::super::batch::{Batch, Keyed};
use super::log::{Log, Placed};
use super::{hold, Verdict};

/// When tombstones may be gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tombstones {
    /// Wall clock, ms. `None` if it may have been set: then nobody can say how old anything is.
    pub wall_ms: Option<i64>,
    /// The least `delete.retention.ms` that the topic may ever have had.
    pub retention_ms: i64,
}

/// What was read from `offset` on, up to the end of the last batch; `low` is the log start, below which records may be
/// gone for any reason. How many records compaction has taken out.
pub fn check(
    log: &Log,
    offset: i64,
    batches: &[Batch],
    low: i64,
    durable: GroupSeq,
    rule: Tombstones,
) -> Result<u64, String> {
    let Some(last) = batches.last() else { return Ok(0) };
    let mut next = offset;
    let mut there = std::collections::BTreeSet::new();
    for batch in batches {
        let base = batch.base_offset;
        hold!(batch.last_offset >= next, "batch at {base} ends before {next}");
        hold!(base >= next || next == offset, "batch at {base}, in front of {next}");
        let placed = log.at(base).ok_or_else(|| format!("batch {} at {base}, where nothing is", batch.tag))?;
        hold!(placed.seq <= durable, "visible before it was durable: batch at {base} of group {}", placed.seq);
        check_batch(batch, placed)?;
        there.extend(batch.keyed.iter().map(|record| record.offset));
        next = batch.last_offset + 1;
    }
    let mut gone = 0;
    for placed in log.up_to(durable).iter().filter(|placed| placed.batch.last_offset >= offset.max(low)) {
        for record in placed.batch.keyed.iter().filter(|record| record.offset >= offset.max(low)) {
            if record.offset > last.last_offset {
                return Ok(gone);
            }
            if !there.contains(&record.offset) {
                check_gone(log, placed, record, durable, rule)?;
                gone += 1;
            }
        }
    }
    Ok(gone)
}

/// A batch that a reader was given: its head is as it was, and so is every record that is still in it.
pub fn check_batch(batch: &Batch, placed: &Placed) -> Verdict {
    check_head(batch, placed)?;
    for record in &batch.keyed {
        let is_sent = placed.batch.keyed.iter().any(|sent| sent == record);
        hold!(is_sent, "the record at {} was not sent like this", record.offset);
    }
    Ok(())
}

/// Whether compaction may have taken out the record at an offset.
pub fn may_be_gone(log: &Log, offset: i64, durable: GroupSeq, rule: Tombstones) -> bool {
    let placed = log.at(offset);
    let record = placed.and_then(|placed| placed.batch.keyed.iter().find(|record| record.offset == offset));
    placed.zip(record).is_some_and(|(placed, record)| check_gone(log, placed, record, durable, rule).is_ok())
}

/// The head of a batch stays, but for what follows from having fewer records.
fn check_head(batch: &Batch, placed: &Placed) -> Verdict {
    let (base, sent) = (batch.base_offset, &placed.batch);
    hold!(sent.base_offset == base && sent.last_offset == batch.last_offset, "batch at {base} has other offsets");
    let same = batch.sequence == sent.sequence && batch.transactional == sent.transactional;
    let is_empty = batch.timestamps.is_empty();
    let is_ended = batch.marker == sent.marker || is_empty && sent.marker.is_some();
    hold!(same && is_ended, "the head of the batch at {base} has changed");
    let whole = batch.keyed.len() == sent.keyed.len();
    hold!(batch.marker.is_some() || whole || batch.keyed.len() < sent.keyed.len(), "more records at {base}");
    hold!(batch.tag == sent.tag || batch.keyed.is_empty(), "batch {} at {base}, sent was {}", batch.tag, sent.tag);
    Ok(())
}

/// A record that is not there any more: is that right?
fn check_gone(log: &Log, placed: &Placed, record: &Keyed, durable: GroupSeq, rule: Tombstones) -> Verdict {
    let outcome = |batch: &Batch| match batch.transactional {
        true => log.outcome(batch).filter(|(_, seq)| *seq <= durable).map(|(committed, _)| committed),
        false => Some(true),
    };
    if outcome(&placed.batch) == Some(false) {
        return Ok(());
    }
    let later = log.up_to(durable).iter().filter(|later| later.batch.last_offset > record.offset);
    let mut later = later.filter(|later| {
        let mut of_key = later.batch.keyed.iter().filter(|other| other.key == record.key);
        of_key.any(|other| other.offset > record.offset)
    });
    if later.any(|later| outcome(&later.batch) == Some(true)) {
        return Ok(());
    }
    hold!(record.value.is_none(), "the last value of key {} at {} is gone", record.key, record.offset);
    let over = rule.wall_ms.is_none_or(|now_ms| now_ms >= placed.wall_ms.saturating_add(rule.retention_ms));
    hold!(over, "the tombstone of key {} at {} is gone before its time", record.key, record.offset);
    Ok(())
}
