//! Owns Kafka's guarantees, said without looking at how a cleaning comes to its result.

use std::collections::{BTreeMap, BTreeSet};

use chronik::wal::compact::{Clean, Outcome};
use chronik::wire::batch::{records, verify_crc, Batch, BatchHeader, Compression};
use chronik::wire::control::EndMarker;

use super::partition::{Partition, Written};

/// A record that is left.
struct Left {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: usize,
}

/// The batches that are left, with their records; markers have none.
fn left(partition: &Partition) -> Vec<(BatchHeader, Vec<Left>)> {
    let read = |bytes: &Vec<u8>| {
        assert!(verify_crc(bytes));
        let batch = Batch::parse(bytes).unwrap();
        assert_eq!(batch.bytes.len(), bytes.len());
        let mut scratch = Vec::new();
        let all = records(&batch, &mut scratch, 1 << 20).unwrap().map(|record| {
            let record = record.unwrap();
            Left {
                offset: record.offset(&batch.header),
                timestamp: record.timestamp(&batch.header),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers.count(),
            }
        });
        let all: Vec<Left> = all.collect();
        assert_eq!(all.len(), batch.header.records_count as usize);
        (batch.header, if batch.header.is_control() { Vec::new() } else { all })
    };
    partition.batches.iter().map(read).collect()
}

pub fn all(partition: &Partition, before: &[Vec<u8>], params: &Clean, outcome: &Outcome) {
    let left = left(partition);
    batches_are_those_that_were_written(partition, &left);
    records_are_those_that_were_written(partition, &left);
    what_is_not_cleanable_is_untouched(partition, before, outcome);
    last_records_stay_and_older_ones_go(partition, &left, params, outcome);
    markers_outlive_their_transactions(partition, &left, outcome);
    producers_go_on(partition, &left, params);
    readers_of_committed_records_see_the_same(partition, &left);
    segments_add_up(&left, params, outcome);
    the_end_is_told(before, &left, params, outcome);
}

/// The head of a batch stays, but for what follows from having fewer records.
fn batches_are_those_that_were_written(partition: &Partition, left: &[(BatchHeader, Vec<Left>)]) {
    let mut next = 0;
    for (header, _) in left {
        assert!(header.base_offset >= next, "batches are in order");
        next = header.last_offset() + 1;
        let written = partition.heads[&header.base_offset];
        if header.records_count > 0 {
            assert_eq!(header.compression(), written.compression());
        } else {
            assert_eq!(header.compression(), Some(Compression::None));
        }
        let horizon_and_codec = 0b100_0111;
        assert_eq!(header.attributes & !horizon_and_codec, written.attributes & !horizon_and_codec);
        let same = BatchHeader {
            batch_length: written.batch_length,
            crc: written.crc,
            attributes: written.attributes,
            base_timestamp: written.base_timestamp,
            max_timestamp: written.max_timestamp,
            records_count: written.records_count,
            ..*header
        };
        assert_eq!(same, written);
    }
}

fn records_are_those_that_were_written(partition: &Partition, left: &[(BatchHeader, Vec<Left>)]) {
    let written: BTreeMap<i64, &Written> = partition.written.iter().map(|record| (record.offset, record)).collect();
    let mut last = -1;
    for (header, records) in left {
        let largest = records.iter().map(|record| record.timestamp).max();
        assert!(largest.is_none_or(|largest| largest == header.max_timestamp));
        for record in records {
            assert!(record.offset > last && record.offset <= header.last_offset());
            last = record.offset;
            let written = written[&record.offset];
            let told = (record.timestamp, &record.key, &record.value, record.headers);
            assert_eq!(told, (written.timestamp, &written.key, &written.value, written.headers));
        }
    }
}

fn what_is_not_cleanable_is_untouched(partition: &Partition, before: &[Vec<u8>], outcome: &Outcome) {
    let beyond = |batches: &[Vec<u8>]| -> Vec<Vec<u8>> {
        let is_beyond = |bytes: &&Vec<u8>| BatchHeader::parse(bytes).unwrap().base_offset >= outcome.end;
        batches.iter().filter(is_beyond).cloned().collect()
    };
    assert!(beyond(before) == beyond(&partition.batches));
}

fn last_records_stay_and_older_ones_go(
    partition: &Partition,
    left: &[(BatchHeader, Vec<Left>)],
    params: &Clean,
    outcome: &Outcome,
) {
    let there: BTreeSet<i64> = left.iter().flat_map(|(_, records)| records).map(|record| record.offset).collect();
    let mut last: BTreeMap<&[u8], i64> = BTreeMap::new();
    let committed = |record: &&Written| !partition.is_aborted(record);
    for record in partition.written.iter().filter(committed).filter(|record| record.offset < outcome.cleaned_to) {
        if let Some(key) = &record.key {
            last.insert(key, record.offset);
        }
    }
    for record in &partition.written {
        let is_there = there.contains(&record.offset);
        if record.offset >= outcome.end {
            continue;
        }
        if partition.is_aborted(record) {
            assert!(!is_there, "offset {} was aborted", record.offset);
            continue;
        }
        let is_last =
            record.key.as_ref().is_some_and(|key| last.get(&key[..]).is_none_or(|last| *last <= record.offset));
        let beyond = record.offset >= outcome.cleaned_to;
        match (beyond, is_last, &record.value) {
            (true, ..) | (false, true, Some(_)) => assert!(is_there, "offset {} is gone", record.offset),
            (false, false, _) => assert!(!is_there, "offset {} is still there", record.offset),
            (false, true, None) => {
                let over = record.passed_ms.unwrap() + params.delete_retention_ms <= params.now_ms;
                // A cleaning sets the time first and looks at it the next time.
                let over = over && record.passed_ms.unwrap() < params.now_ms;
                assert!(is_there || over || params.delete_retention_ms == 0, "tombstone {} went early", record.offset);
                assert!(!is_there || !over, "tombstone {} is still there", record.offset);
            }
        }
    }
}

/// While anything of a transaction is left, so is its marker; an aborted one of which a batch is left is told of.
fn markers_outlive_their_transactions(partition: &Partition, left: &[(BatchHeader, Vec<Left>)], outcome: &Outcome) {
    let markers: BTreeSet<i64> =
        left.iter().filter(|(header, _)| header.is_control()).map(|(header, _)| header.base_offset).collect();
    for txn in &partition.txns {
        let end = txn.end.map_or(i64::MAX, |(end, _)| end);
        let has_batch = left.iter().any(|(header, _)| {
            let within = header.base_offset >= txn.first_offset && header.base_offset < end;
            within && header.is_transactional() && !header.is_control() && header.producer_id == txn.producer_id
        });
        let Some((end, committed)) = txn.end else { continue };
        assert!(!has_batch || markers.contains(&end), "the marker at {end} is gone");
        let is_told = partition.aborted.iter().any(|aborted| aborted.last_offset == end);
        assert!(committed || !has_batch || is_told, "nobody is told that the transaction up to {end} was aborted");
        assert!(end >= outcome.end || markers.contains(&end) || !is_told, "a transaction without marker is told of");
    }
}

/// The last batch of every active producer is there, so that its sequence numbers are known.
fn producers_go_on(partition: &Partition, left: &[(BatchHeader, Vec<Left>)], params: &Clean) {
    for (id, last) in &params.producers {
        let Some(last_offset) = last.last_offset else { continue };
        let newest = left.iter().rfind(|(header, _)| header.producer_id == *id && !header.is_control());
        let newest = &newest.unwrap().0;
        assert_eq!(newest.last_offset(), last_offset);
        let producer = &partition.producers[id];
        assert_eq!((newest.last_sequence() + 1, newest.producer_epoch), (producer.sequence, producer.epoch));
    }
}

/// What a reader of committed records makes of the partition: the last value of every key.
fn readers_of_committed_records_see_the_same(partition: &Partition, left: &[(BatchHeader, Vec<Left>)]) {
    let stable = partition.last_stable_offset();
    let mut want: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for record in partition.written.iter().filter(|record| record.offset < stable && !partition.is_aborted(record)) {
        fold(&mut want, &record.key, &record.value);
    }
    // As a client does it (KIP-98): told of aborted transactions by first offset, and unmarking at their markers.
    let mut ahead: Vec<_> = partition.aborted.iter().filter(|txn| txn.first_offset < stable).collect();
    ahead.sort_by_key(|txn| std::cmp::Reverse(txn.first_offset));
    let (mut aborting, mut got) = (BTreeSet::new(), BTreeMap::new());
    for ((header, records), bytes) in left.iter().zip(&partition.batches) {
        if header.base_offset >= stable {
            break;
        }
        while ahead.last().is_some_and(|txn| txn.first_offset <= header.last_offset()) {
            aborting.insert(ahead.pop().unwrap().producer_id);
        }
        if header.is_control() {
            let marker = EndMarker::of(&Batch::parse(bytes).unwrap());
            if marker.is_some_and(|marker| !marker.committed) {
                aborting.remove(&header.producer_id);
            }
        } else if !(header.is_transactional() && aborting.contains(&header.producer_id)) {
            records.iter().for_each(|record| fold(&mut got, &record.key, &record.value));
        }
    }
    assert_eq!(got, want);
}

fn fold(state: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: &Option<Vec<u8>>, value: &Option<Vec<u8>>) {
    let Some(key) = key else { return };
    match value {
        Some(value) => state.insert(key.clone(), value.clone()),
        None => state.remove(key),
    };
}

fn segments_add_up(left: &[(BatchHeader, Vec<Left>)], params: &Clean, outcome: &Outcome) {
    let want: Vec<i64> = params.segments.iter().copied().filter(|base| *base < outcome.end).collect();
    assert_eq!(outcome.segments.iter().map(|segment| segment.base_offset).collect::<Vec<_>>(), want);
    for (index, segment) in outcome.segments.iter().enumerate() {
        let end = want.get(index + 1).copied().unwrap_or(outcome.end);
        let within = |header: &&BatchHeader| header.base_offset >= segment.base_offset && header.base_offset < end;
        let heads: Vec<&BatchHeader> = left.iter().map(|(header, _)| header).filter(within).collect();
        assert_eq!(segment.bytes, heads.iter().map(|header| header.total_bytes() as i64).sum::<i64>());
        assert_eq!(segment.first_timestamp, heads.first().map_or(-1, |header| header.max_timestamp));
        assert_eq!(segment.max_timestamp, heads.iter().map(|header| header.max_timestamp).max().unwrap_or(-1));
    }
}

/// The last batch of what was cleaned stays, and a cleaning gets on.
fn the_end_is_told(before: &[Vec<u8>], left: &[(BatchHeader, Vec<Left>)], params: &Clean, outcome: &Outcome) {
    assert!(outcome.cleaned_to > params.first_dirty || params.end == params.first_dirty);
    assert!(outcome.end >= outcome.cleaned_to.min(params.end) && outcome.end <= params.end);
    let ends_there = |header: &BatchHeader| header.last_offset() + 1 == params.end;
    let was_there = before.iter().any(|bytes| ends_there(&BatchHeader::parse(bytes).unwrap()));
    assert!(!was_there || left.iter().any(|(header, _)| ends_there(header)));
}

/// After enough cleanings, each long after the one before: one record per key, and nothing that says nothing.
pub fn nothing_is_left_over(partition: &Partition) {
    let (end, left) = (partition.first_dirty, left(partition));
    for (header, records) in left.iter().filter(|(header, _)| header.base_offset < end) {
        let is_last = header.last_offset() + 1 == end;
        assert!(records.iter().all(|record| record.value.is_some()), "a tombstone is left");
        assert!(is_last || header.is_control() || !records.is_empty(), "an empty batch is left");
        let of_txn = |(other, _): &&(BatchHeader, Vec<Left>)| {
            other.producer_id == header.producer_id && other.is_transactional() && !other.is_control()
        };
        assert!(is_last || !header.is_control() || left.iter().any(|other| of_txn(&other)), "a marker is left");
    }
    let told = partition.aborted.iter().filter(|txn| txn.last_offset < end);
    assert_eq!(told.count(), 0);
}
