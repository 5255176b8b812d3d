//! Owns how a transactional id stands in the log: the bytes of `metalog::TXN` entries.

use std::sync::Arc;

use bytes::Bytes;

use super::state::{Ended, State, Txn};
use crate::broker::metalog;
use crate::wal::{MetaEntry, PartitionId};
use crate::wire::macros::message;
use crate::wire::Uuid;

/// Newest layout of the value.
const VERSION: i16 = 0;

message! {
    /// Value of `metalog::TXN`: the state of one transactional id.
    struct TxnValue<'a> {
        producer_id: i64 [0..],
        producer_epoch: i16 [0..],
        previous_producer_id: i64 [0..] = -1,
        last_epoch: i16 [0..] = -1,
        timeout_ms: i32 [0..],
        state: i8 [0..],
        start_ms: i64 [0..] = -1,
        update_ms: i64 [0..],
        ended_producer_id: i64 [0..] = -1,
        ended_epoch: i16 [0..] = -1,
        ended_committed: bool [0..],
        topics: Vec<TxnTopic> [0..],
        groups: Vec<&'a str> [0..],
    }
    struct TxnTopic {
        id: Uuid [0..],
        partitions: Vec<i32> [0..],
    }
}

/// The entry for a transactional id: its state, or that it is forgotten.
pub(super) fn entry(id: &str, txn: Option<&Txn>) -> MetaEntry {
    let value = txn.map(|txn| metalog::encode(VERSION, &value_of(txn)));
    MetaEntry { table: metalog::TXN, scope: Bytes::copy_from_slice(id.as_bytes()), key: Bytes::new(), value }
}

fn value_of(txn: &Txn) -> TxnValue<'_> {
    let mut topics: Vec<TxnTopic> = Vec::new();
    for partition in &txn.partitions {
        match topics.last_mut() {
            Some(topic) if topic.id == partition.topic => topic.partitions.push(partition.partition),
            _ => topics.push(TxnTopic { id: partition.topic, partitions: vec![partition.partition] }),
        }
    }
    TxnValue {
        producer_id: txn.producer_id,
        producer_epoch: txn.epoch,
        previous_producer_id: txn.previous_producer_id,
        last_epoch: txn.last_epoch,
        timeout_ms: txn.timeout_ms,
        state: txn.state.number(),
        start_ms: txn.start_ms,
        update_ms: txn.update_ms,
        ended_producer_id: txn.ended.map_or(-1, |ended| ended.producer_id),
        ended_epoch: txn.ended.map_or(-1, |ended| ended.epoch),
        ended_committed: txn.ended.is_some_and(|ended| ended.committed),
        topics,
        groups: txn.groups.iter().map(|group| &**group).collect(),
    }
}

/// Reads an entry back: the transactional id and its state, `None` when it is forgotten. The error says what is wrong.
pub(super) fn read(entry: &MetaEntry) -> Result<(Arc<str>, Option<Txn>), String> {
    let id = std::str::from_utf8(&entry.scope).map_err(|_| "a transactional id is not UTF-8".to_owned())?;
    let Some(value) = &entry.value else { return Ok((id.into(), None)) };
    let value: TxnValue<'_> =
        metalog::decode(VERSION, value).map_err(|why| format!("transactional id {id:?}: {why}"))?;
    let state = State::from_number(value.state)
        .ok_or_else(|| format!("transactional id {id:?}: state {} is unknown to this program", value.state))?;
    let partitions = value.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| PartitionId { topic: topic.id, partition: *partition })
    });
    let ended =
        Ended { producer_id: value.ended_producer_id, epoch: value.ended_epoch, committed: value.ended_committed };
    let txn = Txn {
        producer_id: value.producer_id,
        epoch: value.producer_epoch,
        previous_producer_id: value.previous_producer_id,
        last_epoch: value.last_epoch,
        timeout_ms: value.timeout_ms,
        state,
        start_ms: value.start_ms,
        update_ms: value.update_ms,
        ended: (ended.producer_id >= 0).then_some(ended),
        partitions: partitions.collect(),
        groups: value.groups.iter().map(|group| Arc::from(*group)).collect(),
        deadline_us: None,
    };
    Ok((id.into(), Some(txn)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transactional_id_is_read_back_as_written() {
        let mut txn = Txn::new(77, 60_000, 5);
        txn.epoch = 3;
        txn.state = State::Ongoing;
        txn.start_ms = 9;
        txn.ended = Some(Ended { producer_id: 77, epoch: 2, committed: true });
        for (topic, partition) in [(1, 0), (1, 5), (2, 0)] {
            txn.partitions.insert(PartitionId { topic: Uuid([topic; 16]), partition });
        }
        txn.groups.insert("g".into());
        let (id, back) = read(&entry("orders-1", Some(&txn))).unwrap();
        assert_eq!((&*id, back), ("orders-1", Some(txn)));
        assert_eq!(read(&entry("x", None)).unwrap().1, None);
    }

    #[test]
    fn what_cannot_be_read_is_said_with_the_id() {
        let mut broken = entry("orders-1", Some(&Txn::new(1, 1, 1)));
        broken.value = Some(Bytes::from_static(&[0, 0, 1]));
        assert!(read(&broken).unwrap_err().contains("orders-1"));
        let mut txn = TxnValue { state: 99, ..TxnValue::default() };
        txn.producer_id = 1;
        broken.value = Some(metalog::encode(VERSION, &txn));
        assert!(read(&broken).unwrap_err().contains("state 99"));
    }
}
