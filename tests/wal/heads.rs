//! Owns damage to the heads of batches that come from an object store: what stands before a batch's checksum is under no other of its own.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use chronik::sys::disk::{Disk, DiskFile};
use chronik::wal::read_cache::{Elsewhere, ReadCache};
use chronik::wal::reader::Reader;
use chronik::wal::{segment, Place, ReadError, ReadFound, ReadJob, ReadKind, RunRef, SegmentId};
use chronik::wire::batch::CRC_FROM;
use parking_lot::Mutex;

use super::support::{group, open, options, partition, Planner};
use crate::sim::disk::{Faults, SimDisk};

/// A segment that lies elsewhere, as a file in memory.
#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    /// Whether it is looked at where it lies, and not copied.
    lends: bool,
}

impl DiskFile for Object {
    fn write_at(&self, _bytes: &[u8], _position: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let rest = self.bytes.get(position as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn lend(&self, position: u64, least: usize) -> io::Result<Option<Bytes>> {
        let there = self.lends && position as usize + least <= self.bytes.len();
        Ok(there.then(|| self.bytes.slice(position as usize..)))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn truncate(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// Where the first segment is, and what is there once it was found damaged.
#[derive(Debug)]
struct Away {
    object: Mutex<Object>,
    then: Object,
}

impl Elsewhere for Away {
    fn holds(&self, id: SegmentId) -> bool {
        id == SegmentId::FIRST
    }

    fn open(&self, id: SegmentId) -> Option<Arc<dyn DiskFile>> {
        self.holds(id).then(|| Arc::new(self.object.lock().clone()) as Arc<dyn DiskFile>)
    }

    fn distrust(&self, _id: SegmentId) {
        *self.object.lock() = self.then.clone();
    }
}

/// The bytes of a sealed segment, and a run of four batches in the middle of it.
fn sealed() -> (Bytes, RunRef) {
    let disk = SimDisk::new(1, Faults::NONE);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let mut planner = Planner::default();
    let mut runs = Vec::new();
    for seq in 1.. {
        let planned = (0..3).map(|p| planner.run(partition(1, p), 4, 3, 200)).collect();
        let written = recovered.writer.step(group(seq, vec![], planned)).unwrap();
        if written.handle.segment != SegmentId::FIRST {
            break;
        }
        runs.extend(written.runs);
    }
    let path = segment::path(SegmentId::FIRST);
    (disk.read(&path, 1 << 20).unwrap().into(), runs[runs.len() / 2])
}

/// What every look-up into the run comes to: for all of it and for its last batch, by offset and by time.
fn looked_up(object: &Object, then: &Object, run: RunRef) -> Vec<Result<String, ReadError>> {
    let away = Arc::new(Away { object: Mutex::new(object.clone()), then: then.clone() });
    let disk = Arc::new(SimDisk::new(2, Faults::NONE));
    let place = || Place { segment: run.segment, runs: None };
    let end_offset = run.last_offset + 1;
    let mut kinds = Vec::new();
    for (offset, bytes_max) in [(run.base_offset, 1 << 20), (run.base_offset, 1), (run.last_offset, 1 << 20)] {
        kinds.push(ReadKind::Fetch { place: place(), offset, end_offset, bytes_max, convert: None });
        kinds.push(ReadKind::Batches { place: place(), offset, end_offset, bytes_max, batches_max: 9 });
        // Each record's timestamp is its offset.
        let (places, start_offset) = (vec![place()], run.base_offset);
        kinds.push(ReadKind::FirstAtOrAfter { places, start_offset, end_offset, timestamp: offset });
    }
    kinds.push(ReadKind::MaxTimestamp { places: vec![place()], start_offset: run.base_offset, end_offset });
    let found = kinds.into_iter().map(|kind| {
        *away.object.lock() = object.clone();
        let elsewhere = Arc::clone(&away) as Arc<dyn Elsewhere>;
        let mut reader = Reader::with_cache(Arc::new(ReadCache::with_elsewhere(disk.clone(), elsewhere)));
        let done = reader.read(ReadJob { job: 1, asked_us: 0, id: run.id, kind });
        done.result.map(|found| match found {
            ReadFound::Converted(bytes, next) => format!("{bytes:?} to {next}"),
            ReadFound::Batches(batches, Some(bytes)) => format!("{} batches: {bytes:?}", batches.len()),
            ReadFound::Record(record) => format!("{record:?}"),
            other => panic!("nothing of an object is sent from a file: {other:?}"),
        })
    });
    found.collect()
}

/// A base offset that lay between the run's, and any leader epoch, were served as they came.
#[test]
fn a_changed_head_of_a_batch_in_an_object_is_fetched_again_or_an_error_and_never_served() {
    let (bytes, run) = sealed();
    let heads: Vec<u64> = {
        let content = &bytes[run.position as usize..][..run.len as usize];
        let lens = chronik::wire::batch::batches(content).map(|batch| batch.unwrap().bytes.len() as u64);
        lens.scan(run.position, |at, len| Some(std::mem::replace(at, *at + len))).collect()
    };
    assert_eq!(heads.len(), 4);
    for lends in [false, true] {
        let sound = Object { bytes: bytes.clone(), lends };
        let right: Vec<String> = looked_up(&sound, &sound, run).into_iter().map(|found| found.unwrap()).collect();
        for (head, at, bit) in
            heads.iter().flat_map(|head| (0..CRC_FROM as u64).map(move |at| (head, at, 1 << (at % 8))))
        {
            let mut changed = bytes.to_vec();
            changed[(head + at) as usize] ^= bit;
            let damaged = Object { bytes: changed.into(), lends };
            for (found, right) in looked_up(&damaged, &damaged, run).into_iter().zip(&right) {
                let is_told = matches!(&found, Err(ReadError::Corrupt(what)) if what.contains("at position"));
                assert!(is_told || found.as_ref() == Ok(right), "byte {at} of the batch at {head}: {found:?}");
            }
            let again: Vec<String> = looked_up(&damaged, &sound, run).into_iter().map(|found| found.unwrap()).collect();
            assert_eq!(again, right, "byte {at} of the batch at {head}");
        }
    }
}
