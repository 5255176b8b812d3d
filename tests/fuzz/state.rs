//! Owns the fuzzing of what the broker keeps: entries of ChronikMetaLog, checkpoints, what packs say of themselves, the marker
//! and the metadata files.
//!
//! The first byte chooses which of them the rest is.

use std::collections::BTreeSet;

use bytes::Bytes;
use chronik::broker::checkpoint::{self, Snapshot};
use chronik::broker::recovery::{LogState, Recovering};
use chronik::broker::{Broker, Now};
use chronik::sys::disk::Disk;
use chronik::wal::compact::{CleanedSegment, Outcome};
use chronik::wal::marker::{self, Marker};
use chronik::wal::pack::{Coverage, COVERAGE_TABLE};
use chronik::wal::{files, LogPosition, MetaEntry, SegmentId};

use super::image::image;
use super::life::{settings, BEGIN_MS};
use crate::sim::disk::{Faults, SimDisk};

const ENTRIES_MAX: usize = 100;

pub fn run(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    match kind % 6 {
        0 => entries(bytes),
        1 => snapshot(bytes),
        2 => outcome(bytes),
        3 => {
            let (key, value) = bytes.split_at(bytes.len().min(20));
            let (key, value) = (Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
            let _ = Coverage::parse(&MetaEntry { table: COVERAGE_TABLE, scope: Bytes::new(), key, value });
        }
        4 => in_marker(bytes),
        _ => in_file(bytes),
    }
}

fn finished(recovering: Recovering) -> Option<Broker> {
    let now = Now { mono_us: 1_000_000, wall_ms: BEGIN_MS };
    let state = LogState {
        next_seq: 100,
        position: LogPosition { segment: SegmentId::FIRST, position: 4096 },
        space_bytes: 1 << 30,
        floor: Default::default(),
        clean: true,
    };
    recovering.finish(now, state).ok()
}

/// What a broker knows it tells its successor, which then knows the same.
fn is_kept(broker: &Broker) {
    let told = broker.snapshot(true);
    let mut recovering = Recovering::new(settings());
    recovering.checkpoint(&told).expect("what was written can be read");
    let Some(second) = finished(recovering) else { panic!("no broker begins with what was written") };
    let both: Vec<Snapshot> =
        [told, second.snapshot(true)].iter().map(|told| checkpoint::read(told).unwrap()).collect();
    let entries =
        |snapshot: &Snapshot| -> BTreeSet<String> { snapshot.entries.iter().map(|e| format!("{e:?}")).collect() };
    assert_eq!(entries(&both[0]), entries(&both[1]));
}

/// Entries one after the other: table, length of scope, of key, of value (255 for a removal), and the three.
fn entries(mut rest: &[u8]) {
    let mut recovering = Recovering::new(settings());
    for _ in 0..ENTRIES_MAX {
        let [table, scope, key, value, after @ ..] = rest else { break };
        rest = after;
        let mut take = |len: u8| {
            let (taken, after) = rest.split_at(usize::from(len).min(rest.len()));
            rest = after;
            Bytes::copy_from_slice(taken)
        };
        let (scope, key) = (take(*scope), take(*key));
        let value = (*value != 255).then(|| take(*value));
        if recovering.meta(&MetaEntry { table: *table, scope, key, value }).is_err() {
            return;
        }
    }
    if let Some(broker) = finished(recovering) {
        is_kept(&broker);
    }
}

fn written(entry: &MetaEntry) -> Option<Vec<u8>> {
    let len = |bytes: &Bytes| u8::try_from(bytes.len()).ok().filter(|len| *len < 255);
    let value = entry.value.as_ref().map_or(Some(255), len)?;
    let head = [entry.table, len(&entry.scope)?, len(&entry.key)?, value];
    Some([&head[..], &entry.scope, &entry.key, entry.value.as_deref().unwrap_or(&[])].concat())
}

fn snapshot(bytes: &[u8]) {
    let mut recovering = Recovering::new(settings());
    if checkpoint::read(bytes).is_err() {
        assert!(recovering.checkpoint(bytes).is_err());
        return;
    }
    if recovering.checkpoint(bytes).is_ok() {
        // Segments that it names are not there, so most do not begin; those that do are kept.
        if let Some(broker) = finished(recovering) {
            is_kept(&broker);
        }
    }
}

fn outcome(bytes: &[u8]) {
    if let Ok(outcome) = Outcome::decode(bytes) {
        let again = outcome.encode();
        assert_eq!(Outcome::decode(&again), Ok(outcome));
    }
}

fn in_marker(bytes: &[u8]) {
    let disk = SimDisk::new(1, Faults::NONE);
    disk.replace(marker::PATH, bytes).unwrap();
    if let Ok(Some(marker)) = Marker::load(&disk) {
        marker.store(&disk).unwrap();
        let Ok(Some(again)) = Marker::load(&disk) else { panic!("a marker that was written cannot be read") };
        assert_eq!(again, marker);
    }
}

fn in_file(bytes: &[u8]) {
    let disk = SimDisk::new(1, Faults::NONE);
    disk.create_dir(files::DIR).unwrap();
    let mut bytes = bytes.to_vec();
    if bytes.len() > 16 {
        let crc = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_be_bytes());
    }
    disk.replace(&format!("{}/003-s", files::DIR), &bytes).unwrap();
    let mut recovering = Recovering::new(settings());
    let _ = files::load_file(&disk, "003-s", &mut |entry| drop(recovering.meta(&entry)));
}

pub fn seeds() -> Vec<Vec<u8>> {
    let segment = CleanedSegment { base_offset: 0, bytes: 100, first_timestamp: 1, max_timestamp: 9 };
    let outcome = Outcome { cleaned_to: 70, end: 80, segments: vec![segment], aborted_gone: vec![5, 9] };
    let mut seeds = vec![[&[2][..], &outcome.encode()].concat()];
    let marker = |(path, bytes): (&String, &Vec<u8>)| (path == marker::PATH).then(|| [&[4][..], bytes].concat());
    seeds.extend(image().files.iter().filter_map(marker));
    for (_, bytes) in image().files.iter().filter(|(path, _)| path.starts_with("checkpoints/")) {
        seeds.push([&[1][..], &bytes[72..]].concat());
    }
    // What all kinds of requests leave behind.
    for row in super::broker::seeds() {
        let life = super::broker::carried_out(&SimDisk::new(1, Faults::NONE), &row);
        let all: Vec<Vec<u8>> = life.node.broker.meta_snapshot().iter().filter_map(written).collect();
        seeds.extend(all.iter().map(|entry| [&[0][..], entry].concat()));
        seeds.push([&[0][..], &all.concat()].concat());
        seeds.push([&[1][..], &life.node.broker.snapshot(true)].concat());
    }
    seeds.sort();
    seeds.dedup();
    seeds
}
