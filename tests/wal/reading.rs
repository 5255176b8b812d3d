//! Owns cold reads: by offset, by timestamp, within bounds, of damaged and of missing segments.

use std::sync::Arc;

use bytes::Bytes;
use chronik::limits;
use chronik::sys::disk::Disk;
use chronik::wal::reader::Reader;
use chronik::wal::settings::LogOptions;
use chronik::wal::{
    remove_segment, Convert, PartitionId, Place, PlannedBatch, PlannedRun, ReadError, ReadFound, ReadJob, ReadKind,
    RunRef, SegmentId, Splice, Written,
};
use chronik::wire::batch::{batches, BatchBuilder};

use super::support::{group, open, options, partition, Planner};
use crate::sim::disk::{Faults, SimDisk};
use crate::sim::rng::Rng;

fn log(disk: &SimDisk, groups: u64, value_bytes: usize) -> (Vec<Written>, Planner) {
    log_with(disk, options(1), groups, value_bytes)
}

fn log_with(disk: &SimDisk, options: LogOptions, groups: u64, value_bytes: usize) -> (Vec<Written>, Planner) {
    let (mut recovered, _) = open(Arc::new(disk.clone()), options).unwrap();
    let mut planner = Planner::default();
    let one = |seq| {
        let runs = (0..5).map(|p| planner.run(partition(p as u8 % 2, p), 2, 3, value_bytes)).collect();
        recovered.writer.step(group(seq, vec![], runs)).unwrap()
    };
    let written = (1..=groups).map(one).collect();
    (written, planner)
}

fn read(reader: &mut Reader, id: PartitionId, kind: ReadKind) -> Result<ReadFound, ReadError> {
    let done = reader.read(ReadJob { job: 9, asked_us: 0, id, kind });
    assert_eq!((done.job, done.id), (9, id));
    done.result
}

fn fetch(segment: SegmentId, runs: Option<Vec<RunRef>>, offset: i64, end_offset: i64, bytes_max: u32) -> ReadKind {
    ReadKind::Fetch { place: Place { segment, runs }, offset, end_offset, bytes_max, convert: None }
}

fn content(splices: &[Splice]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for splice in splices {
        let mut part = vec![0; splice.len as usize];
        assert_eq!(splice.handle.file.read_at(&mut part, splice.position).unwrap(), part.len());
        bytes.extend_from_slice(&part);
    }
    bytes
}

fn bytes_of(found: ReadFound) -> Vec<u8> {
    match found {
        ReadFound::Splices(splices, _) => content(&splices),
        ReadFound::Converted(bytes, _) => bytes.to_vec(),
        ReadFound::Record(_) | ReadFound::Batches(..) => panic!("something else for a fetch"),
    }
}

/// Base and last offsets of whole batches.
fn offsets(bytes: &[u8]) -> Vec<(i64, i64)> {
    batches(bytes).map(|b| b.unwrap().header).map(|h| (h.base_offset, h.last_offset())).collect()
}

fn segments_of(written: &[Written], id: PartitionId) -> Vec<SegmentId> {
    let mut segments: Vec<SegmentId> =
        written.iter().flat_map(|w| &w.runs).filter(|run| run.id == id).map(|run| run.segment).collect();
    segments.dedup();
    segments
}

#[test]
fn every_offset_is_found_through_the_footers_and_through_given_runs() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (written, planner) = log(&disk, 50, 300);
    let mut reader = Reader::new(Arc::new(disk));
    for p in 0..5 {
        let id = partition(p as u8 % 2, p);
        let all: Vec<RunRef> = written.iter().flat_map(|w| &w.runs).filter(|run| run.id == id).copied().collect();
        assert!(segments_of(&written, id).len() > 2);
        for offset in (0..planner.next_offset(id)).step_by(7) {
            let run = all.iter().find(|run| run.last_offset >= offset).unwrap();
            let given = all.iter().filter(|other| other.segment == run.segment).copied().collect();
            for runs in [None, Some(given)] {
                let found = read(&mut reader, id, fetch(run.segment, runs, offset, i64::MAX, 2000)).unwrap();
                let bytes = bytes_of(found);
                let found = offsets(&bytes);
                assert!(found[0].0 <= offset && offset <= found[0].1, "{offset}: {found:?}");
                assert!(found.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{found:?}");
                assert!(bytes.len() <= 2000, "within the bound");
            }
        }
    }
}

#[test]
fn the_first_batch_comes_whole_however_long_and_the_end_offset_is_kept() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (written, _) = log(&disk, 3, 200);
    let (id, mut reader) = (partition(0, 0), Reader::new(Arc::new(disk)));
    let runs: Vec<RunRef> = written.iter().flat_map(|w| &w.runs).filter(|run| run.id == id).copied().collect();
    let mut ask = |offset, end, max| {
        bytes_of(read(&mut reader, id, fetch(SegmentId::Wal(1), Some(runs.clone()), offset, end, max)).unwrap())
    };
    assert_eq!(offsets(&ask(4, i64::MAX, 1)), [(3, 5)]);
    assert_eq!(offsets(&ask(4, 9, 1 << 20)), [(3, 5), (6, 8)]);
    assert!(ask(4, 3, 1 << 20).is_empty());
    assert!(ask(1000, i64::MAX, 1 << 20).is_empty());
    assert_eq!(offsets(&ask(0, i64::MAX, 1 << 20)).len(), 6);
}

#[test]
fn a_batch_with_a_wrong_checksum_is_corrupt_and_the_others_are_served() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (written, _) = log(&disk, 40, 300);
    let run = written[0].runs[0];
    disk.rot("wal/00000000000000000001.log", run.position + 100, 4).unwrap();
    let mut reader = Reader::new(Arc::new(disk));
    let error = read(&mut reader, run.id, fetch(SegmentId::Wal(1), None, 0, i64::MAX, 1 << 20)).unwrap_err();
    assert!(matches!(&error, ReadError::Corrupt(what) if what.contains("position")), "{error:?}");
    assert!(
        !bytes_of(read(&mut reader, run.id, fetch(SegmentId::Wal(1), None, 6, i64::MAX, 1 << 20)).unwrap()).is_empty()
    );
}

#[test]
fn a_damaged_footer_is_replaced_by_a_walk_over_the_groups() {
    for from_end in [20, 200, 4096 + 50] {
        let disk = SimDisk::new(1, Faults::NONE);
        let (written, _) = log(&disk, 60, 300);
        let path = "wal/00000000000000000001.log";
        let len = disk.contents(path).unwrap().len() as u64;
        disk.rot(path, len - from_end, 1).unwrap();
        let mut reader = Reader::new(Arc::new(disk));
        let run = written[3].runs[2];
        let found =
            read(&mut reader, run.id, fetch(SegmentId::Wal(1), None, run.base_offset, run.last_offset + 1, 1 << 20));
        assert_eq!(offsets(&bytes_of(found.unwrap())).len(), 2, "{from_end}");
    }
}

#[test]
fn a_flip_in_any_block_of_the_index_hides_nothing() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (written, _) = log(&disk, 60, 1);
    let path = "wal/00000000000000000001.log";
    let len = disk.contents(path).unwrap().len() as u64;
    let in_first = written.iter().flat_map(|w| &w.runs).filter(|run| run.segment == SegmentId::FIRST);
    let groups_end =
        in_first.clone().map(|run| (run.position + u64::from(run.len)).next_multiple_of(4096)).max().unwrap();
    assert!(len - groups_end >= 2 * 4096, "the index has several blocks");
    for block in (groups_end..len).step_by(4096) {
        disk.rot(path, block + 100, 1).unwrap();
        let mut reader = Reader::new(Arc::new(disk.clone()));
        for run in written[0].runs.iter().chain(&written[7].runs) {
            let all = in_first.clone().filter(|other| other.id == run.id && other.base_offset >= run.base_offset);
            let found = bytes_of(
                read(&mut reader, run.id, fetch(SegmentId::Wal(1), None, run.base_offset, i64::MAX, 1 << 20)).unwrap(),
            );
            assert_eq!(offsets(&found).len(), 2 * all.count(), "block at {block}");
        }
        disk.rot(path, block + 100, 1).unwrap();
    }
}

#[test]
fn damage_ahead_of_what_is_wanted_concerns_only_who_comes_there() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (written, _) = log_with(&disk, LogOptions { segment_bytes: 2 << 20, ..options(1) }, 600, 1);
    let path = "wal/00000000000000000001.log";
    let in_first = written.iter().flat_map(|w| &w.runs).filter(|run| run.segment == SegmentId::FIRST);
    let groups_end =
        in_first.clone().map(|run| (run.position + u64::from(run.len)).next_multiple_of(4096)).max().unwrap();
    let id = written[0].runs[0].id;
    let runs: Vec<RunRef> = in_first.filter(|run| run.id == id).copied().collect();
    // The second block of the index, and a group, so that the groups can't tell what the block held.
    disk.rot(path, groups_end + 4096 + 100, 1).unwrap();
    disk.rot(path, written[300].position + 100, 1).unwrap();
    let mut reader = Reader::new(Arc::new(disk));
    let mut at = |run: &RunRef| read(&mut reader, id, fetch(SegmentId::FIRST, None, run.base_offset, i64::MAX, 1000));
    assert_eq!(offsets(&bytes_of(at(&runs[0]).unwrap()))[0].0, runs[0].base_offset);
    assert!(matches!(at(&runs[120]), Err(ReadError::Corrupt(_))));
    assert_eq!(offsets(&bytes_of(at(&runs[1]).unwrap()))[0].0, runs[1].base_offset);
}

#[test]
fn a_removed_segment_is_empty_and_no_error() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (written, _) = log(&disk, 60, 300);
    let id = written[0].runs[0].id;
    let mut reader = Reader::new(Arc::new(disk.clone()));
    let held = read(&mut reader, id, fetch(SegmentId::Wal(1), None, 0, i64::MAX, 1 << 20)).unwrap();
    remove_segment(&disk, SegmentId::FIRST).unwrap();
    reader.cache().forget(SegmentId::FIRST);
    assert!(!bytes_of(held).is_empty(), "what was found stays readable");
    assert!(bytes_of(read(&mut reader, id, fetch(SegmentId::Wal(1), None, 0, i64::MAX, 1 << 20)).unwrap()).is_empty());
    let places = vec![Place { segment: SegmentId::FIRST, runs: None }];
    let kind = ReadKind::FirstAtOrAfter { places, start_offset: 0, end_offset: i64::MAX, timestamp: 0 };
    assert!(matches!(read(&mut reader, id, kind), Ok(ReadFound::Record(None))));
}

#[test]
fn many_short_runs_are_gathered_into_one_piece() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (written, _) = log(&disk, 20, 1);
    let id = written[0].runs[0].id;
    let runs: Vec<RunRef> =
        written.iter().flat_map(|w| &w.runs).filter(|r| r.id == id && r.segment == SegmentId::FIRST).copied().collect();
    let mut reader = Reader::new(Arc::new(disk));
    let found = read(&mut reader, id, fetch(SegmentId::Wal(1), Some(runs.clone()), 0, i64::MAX, 1 << 20)).unwrap();
    assert!(matches!(found, ReadFound::Converted(..)));
    assert_eq!(offsets(&bytes_of(found)).len(), 2 * runs.len());
}

#[test]
fn old_formats_are_converted_on_the_way() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (written, _) = log(&disk, 2, 50);
    let run = written[0].runs[0];
    let mut reader = Reader::new(Arc::new(disk));
    for magic in [0, 1] {
        let place = Place { segment: SegmentId::FIRST, runs: Some(vec![run]) };
        let convert = Some(Convert { magic });
        let kind = ReadKind::Fetch { place, offset: 1, end_offset: i64::MAX, bytes_max: 1 << 20, convert };
        let bytes = bytes_of(read(&mut reader, run.id, kind).unwrap());
        assert_eq!(bytes[16] as i8, magic);
        assert_eq!(i64::from_be_bytes(bytes[..8].try_into().unwrap()), 1);
    }
}

/// One partition whose records have the given timestamps, one run a group, one batch of up to three records each.
fn log_with_timestamps(disk: &SimDisk, stamps: &[i64]) -> Vec<Place> {
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(1)).unwrap();
    let (mut offset, mut segments) = (0, Vec::new());
    for (seq, chunk) in stamps.chunks(3).enumerate() {
        let mut builder = BatchBuilder::new();
        chunk.iter().for_each(|stamp| builder.push(*stamp, None, Some(&[0; 900]), &[]));
        let bytes = Bytes::from(builder.build().unwrap());
        let last_offset = offset + chunk.len() as i64 - 1;
        let max_timestamp = chunk.iter().copied().max().unwrap();
        let batches = vec![PlannedBatch { bytes, base_offset: offset, leader_epoch: 4 }];
        let run = PlannedRun { id: partition(1, 0), base_offset: offset, last_offset, max_timestamp, batches };
        segments.push(recovered.writer.step(group(seq as u64 + 1, vec![], vec![run])).unwrap().handle.segment);
        offset = last_offset + 1;
    }
    recovered.writer.close().unwrap();
    segments.dedup();
    segments.into_iter().map(|segment| Place { segment, runs: None }).collect()
}

#[test]
fn lookups_by_timestamp_are_exact_to_the_record() {
    for seed in 0..25 {
        let mut rng = Rng::new(seed);
        let stamps: Vec<i64> = (0..rng.range(1, 200)).map(|_| rng.below(60) as i64 + 100).collect();
        let disk = SimDisk::new(seed, Faults::NONE);
        let places = log_with_timestamps(&disk, &stamps);
        let mut reader = Reader::new(Arc::new(disk));
        for _ in 0..40 {
            let start = rng.below(stamps.len() as u64) as i64;
            let end = rng.range(start as u64, stamps.len() as u64) as i64;
            let timestamp = rng.range(95, 165) as i64;
            let within =
                || stamps.iter().enumerate().map(|(at, t)| (at as i64, *t)).filter(|(at, _)| (start..end).contains(at));
            let first = within().find(|(_, t)| *t >= timestamp).map(|(at, t)| (at, t, 4));
            let (start_offset, end_offset) = (start, end);
            let kind = ReadKind::FirstAtOrAfter { places: places.clone(), start_offset, end_offset, timestamp };
            match read(&mut reader, partition(1, 0), kind).unwrap() {
                ReadFound::Record(found) => assert_eq!(found, first, "seed {seed}: {start}..{end} at {timestamp}"),
                other => panic!("{other:?}"),
            }
            let newest = within().map(|(at, t)| (t, -at)).max().map(|(t, at)| (-at, t, 4));
            let kind = ReadKind::MaxTimestamp { places: places.clone(), start_offset, end_offset };
            match read(&mut reader, partition(1, 0), kind).unwrap() {
                ReadFound::Record(found) => assert_eq!(found, newest, "seed {seed}: {start}..{end}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn random_bytes_in_a_segment_never_panic_a_reader() {
    let disk = SimDisk::new(1, Faults::NONE);
    let (written, _) = log(&disk, 40, 300);
    let path = "wal/00000000000000000001.log";
    let len = disk.contents(path).unwrap().len() as u64;
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let flips: Vec<(u64, u8)> = (0..rng.range(1, 30)).map(|_| (rng.below(len), rng.range(1, 255) as u8)).collect();
        flips.iter().for_each(|(at, mask)| disk.rot(path, *at, *mask).unwrap());
        let mut reader = Reader::new(Arc::new(disk.clone()));
        for run in written.iter().take(8).flat_map(|w| &w.runs) {
            let _ = read(&mut reader, run.id, fetch(SegmentId::Wal(1), None, run.base_offset, i64::MAX, 5000));
            let places = vec![Place { segment: SegmentId::FIRST, runs: None }];
            let kind = ReadKind::MaxTimestamp { places, start_offset: 0, end_offset: i64::MAX };
            let _ = read(&mut reader, run.id, kind);
        }
        flips.iter().for_each(|(at, mask)| disk.rot(path, *at, *mask).unwrap());
    }
    assert!(disk.list("wal").is_ok());
}

/// What a fetch finds at a moment, in a segment as it lies.
fn found_at(reader: &mut Reader, asked_us: u64, id: PartitionId, kind: ReadKind) -> Result<ReadFound, ReadError> {
    reader.read(ReadJob { job: 1, asked_us, id, kind }).result
}

#[test]
fn what_was_checked_is_not_read_again_for_a_while_and_then_it_is() {
    let disk = SimDisk::new(7, Faults::NONE);
    let (written, _) = log(&disk, 3, 3000);
    let run = written[1].runs[0];
    let path = chronik::wal::segment::path(run.segment);
    let mut reader = Reader::new(Arc::new(disk.clone()));
    let whole = || fetch(run.segment, Some(vec![run]), run.base_offset, run.last_offset + 1, 1 << 20);
    let before = bytes_of(found_at(&mut reader, 1000, run.id, whole()).unwrap());
    assert_eq!(before.len(), run.len as usize);

    // Whoever reads it would notice this.
    disk.rot(&path, run.position + 100, 0x10).expect("the file is there");
    let trusted = limits::READ_TRUSTED_US;
    for asked_us in [1001, 500 + trusted, 999 + trusted] {
        let found = found_at(&mut reader, asked_us, run.id, whole()).unwrap();
        assert!(matches!(found, ReadFound::Splices(splices, end) if splices.len() == 1 && end == run.last_offset + 1));
    }
    let after = found_at(&mut reader, 1000 + trusted, run.id, whole());
    assert!(matches!(after, Err(ReadError::Corrupt(_))), "{after:?}");
    // Somebody who has not looked at it yet, and whoever gets a copy, trusts nobody.
    let others = found_at(&mut Reader::new(Arc::new(disk.clone())), 1001, run.id, whole());
    assert!(matches!(others, Err(ReadError::Corrupt(_))), "{others:?}");
}

#[test]
fn reads_of_what_was_checked_give_the_same_whatever_their_bounds() {
    for (value_bytes, groups) in [(10, 4), (6000, 4)] {
        let disk = SimDisk::new(8, Faults::NONE);
        let (written, _) = log_with(&disk, LogOptions { segment_bytes: 4 << 20, ..options(1) }, groups, value_bytes);
        let (id, segment) = (written[0].runs[0].id, written[0].handle.segment);
        let runs: Vec<RunRef> = written.iter().flat_map(|w| &w.runs).filter(|run| run.id == id).copied().collect();
        assert!(runs.len() == groups as usize && runs.iter().all(|run| run.segment == segment));
        let (first, last) = (runs[0].base_offset, runs.last().unwrap().last_offset);
        let mut warm = Reader::new(Arc::new(disk.clone()));
        let of = |reader: &mut Reader, offset, end, bytes_max| match found_at(
            reader,
            5,
            id,
            fetch(segment, Some(runs.clone()), offset, end, bytes_max),
        )
        .unwrap()
        {
            ReadFound::Splices(splices, next) => (content(&splices), next),
            ReadFound::Converted(bytes, next) => (bytes.to_vec(), next),
            other => panic!("{other:?}"),
        };
        let all = of(&mut warm, first, last + 1, u32::MAX);
        assert_eq!(all.1, last + 1);
        for offset in first..=last {
            for end in offset + 1..=last + 1 {
                for bytes_max in [1, 100, 5_000, 100_000, 200_000, u32::MAX] {
                    let cold = of(&mut Reader::new(Arc::new(disk.clone())), offset, end, bytes_max);
                    assert!(of(&mut warm, offset, end, bytes_max) == cold, "{offset} to {end}, {bytes_max} bytes");
                }
            }
        }
    }
}
