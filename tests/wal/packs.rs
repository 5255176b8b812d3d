//! Owns packs: made of whole or partly dead segments, read like any segment, whole or not there after any crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik::sys::disk::Disk;
use chronik::wal::pack::{read_coverage, Coverage};
use chronik::wal::reader::Reader;
use chronik::wal::settings::Entropy;
use chronik::wal::tidy::{Tidier, TidyDone, TidyError, TidyJob, TidyMode, TidyPart, TidySource};
use chronik::wal::{segment, PartitionId, Place, ReadFound, ReadJob, ReadKind, RunRef, SegmentId};
use chronik::wire::batch::{batches, verify_crc};
use chronik::wire::Uuid;

use super::support::{group, open, options, partition, Planner};
use crate::sim::disk::{Faults, Op, SimDisk, Trouble, CHANGES};

/// A log whose first segments are sealed, and where all of its runs are.
struct Log {
    disk: SimDisk,
    directory: Uuid,
    runs: Vec<RunRef>,
    next: BTreeMap<PartitionId, i64>,
}

const PARTITIONS: i32 = 5;

fn log(seed: u64, faults: Faults) -> Log {
    log_of(seed, faults, 60)
}

fn log_of(seed: u64, faults: Faults, groups: u64) -> Log {
    let disk = SimDisk::new(seed, faults);
    let (mut recovered, _) = open(Arc::new(disk.clone()), options(seed)).unwrap();
    let mut planner = Planner::default();
    let mut runs = Vec::new();
    for seq in 1..=groups {
        let planned = (0..PARTITIONS).map(|p| planner.run(partition(p as u8 % 2, p), 2, 3, 300)).collect();
        runs.extend(recovered.writer.step(group(seq, vec![], planned)).unwrap().runs);
    }
    recovered.writer.close().unwrap();
    let next = (0..PARTITIONS).map(|p| (partition(p as u8 % 2, p), planner.next_offset(partition(p as u8 % 2, p))));
    Log { disk, directory: recovered.directory_id, runs, next: next.collect() }
}

impl Log {
    /// What the partitions have in these segments.
    fn job(&self, pack: u64, segments: std::ops::RangeInclusive<u64>, live_from: i64) -> TidyJob {
        let mut parts: BTreeMap<PartitionId, TidyPart> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| segments.contains(&run.segment.number())) {
            let none = || TidyPart { id: run.id, sources: Vec::new(), live_from, mode: TidyMode::Copy };
            let sources = &mut parts.entry(run.id).or_insert_with(none).sources;
            match sources.last_mut().filter(|source| source.segment == run.segment) {
                Some(source) => {
                    source.last_offset = run.last_offset;
                    source.bytes += u64::from(run.len);
                }
                None => sources.push(TidySource {
                    segment: run.segment,
                    base_offset: run.base_offset,
                    last_offset: run.last_offset,
                    bytes: u64::from(run.len),
                }),
            }
        }
        TidyJob { pack, parts: parts.into_values().collect(), spare_bytes: 0 }
    }

    fn tidy(&self, job: &TidyJob) -> TidyDone {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let cache = Reader::new(disk.clone()).cache().clone();
        Tidier::new(disk, self.directory, cache, Entropy::Seeded(9)).run(job, &mut |_| true)
    }

    /// Base and last offsets of the batches that a reader finds in a segment.
    fn offsets(&self, segment: SegmentId, id: PartitionId, offset: i64) -> Vec<(i64, i64)> {
        let mut reader = Reader::new(Arc::new(self.disk.clone()));
        let place = Place { segment, runs: None };
        let kind = ReadKind::Fetch { place, offset, end_offset: i64::MAX, bytes_max: 1 << 30, convert: None };
        let bytes = match reader.read(ReadJob { job: 1, asked_us: 0, id, kind }).result.unwrap() {
            ReadFound::Converted(bytes, _) => bytes.to_vec(),
            ReadFound::Splices(splices, _) => {
                let mut all = Vec::new();
                for splice in splices {
                    let mut part = vec![0; splice.len as usize];
                    splice.handle.file.read_at(&mut part, splice.position).unwrap();
                    all.extend_from_slice(&part);
                }
                all
            }
            other => panic!("{other:?}"),
        };
        let whole = |batch: chronik::wire::batch::Batch<'_>| {
            assert!(verify_crc(batch.bytes));
            (batch.header.base_offset, batch.header.last_offset())
        };
        batches(&bytes).map(|batch| whole(batch.unwrap())).collect()
    }
}

#[test]
fn a_pack_holds_every_batch_of_its_sources_in_order_and_says_so_itself() {
    let log = log(1, Faults::NONE);
    let job = log.job(1, 1..=3, 0);
    let tidied = log.tidy(&job).result.unwrap();
    assert_eq!(tidied.coverage.len(), PARTITIONS as usize);
    assert_eq!(read_coverage(&log.disk, log.directory, 1).unwrap(), tidied.coverage);
    let pack = SegmentId::Pack(1);
    assert_eq!(segment::list_packs(&log.disk).unwrap(), vec![(pack, tidied.file_bytes)]);
    for (part, Coverage { id, from_offset, to_offset, kept, .. }) in job.parts.iter().zip(&tidied.coverage) {
        let found = log.offsets(pack, *id, 0);
        let expected: Vec<(i64, i64)> =
            part.sources.iter().flat_map(|source| log.offsets(source.segment, *id, 0)).collect();
        assert_eq!(found, expected);
        let kept = kept.unwrap();
        assert_eq!((kept.base_offset, kept.last_offset + 1), (*from_offset, *to_offset));
        assert_eq!(kept.bytes, part.sources.iter().map(|source| source.bytes).sum::<u64>());
        for offset in (0..*to_offset).step_by(5) {
            assert!(log.offsets(pack, *id, offset)[0].1 >= offset);
        }
    }
}

#[test]
fn what_lies_below_the_log_start_is_left_out() {
    let log = log(1, Faults::NONE);
    let tidied = log.tidy(&log.job(1, 1..=2, 10)).result.unwrap();
    for coverage in &tidied.coverage {
        assert_eq!((coverage.from_offset, coverage.kept.unwrap().base_offset), (0, 9));
        assert_eq!(log.offsets(SegmentId::Pack(1), coverage.id, 0)[0], (9, 11));
    }
    let tidied = log.tidy(&log.job(2, 1..=2, i64::MAX)).result.unwrap();
    assert!(tidied.coverage.iter().all(|coverage| coverage.kept.is_none()), "a pack can stand for nothing");
    assert_eq!(read_coverage(&log.disk, log.directory, 2).unwrap(), tidied.coverage);
}

#[test]
fn packs_are_made_of_packs() {
    let log = log(1, Faults::NONE);
    let one = log.tidy(&log.job(1, 1..=2, 0)).result.unwrap();
    let rest = log.job(2, 3..=4, 0);
    let parts = rest.parts.iter().zip(&one.coverage).map(|(part, coverage)| {
        let kept = coverage.kept.unwrap();
        let (base_offset, last_offset, bytes) = (kept.base_offset, kept.last_offset, kept.bytes);
        let source = TidySource { segment: SegmentId::Pack(1), base_offset, last_offset, bytes };
        TidyPart { sources: [vec![source], part.sources.clone()].concat(), ..part.clone() }
    });
    let job = TidyJob { parts: parts.collect(), ..rest.clone() };
    log.tidy(&job).result.unwrap();
    for part in &rest.parts {
        let found = log.offsets(SegmentId::Pack(2), part.id, 0);
        assert_eq!(found.first().unwrap().0, 0);
        assert_eq!(found.last().unwrap().1, part.sources.last().unwrap().last_offset);
        assert!(found.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
    }
}

#[test]
fn damage_is_never_copied() {
    for (position, what) in [(5000, "batch in the middle"), (4096 + 200, "first batch")] {
        let log = log(1, Faults::NONE);
        log.disk.rot("wal/00000000000000000002.log", position, 1).unwrap();
        match log.tidy(&log.job(1, 1..=3, 0)).result {
            Err(TidyError::Damaged(segment, why)) => {
                assert_eq!(segment, SegmentId::Wal(2), "{what}");
                assert!(why.contains("wal/00000000000000000002.log at position"), "{why}");
            }
            other => panic!("{what}: {other:?}"),
        }
        assert!(segment::list_packs(&log.disk).unwrap().is_empty());
    }
}

#[test]
fn a_source_that_is_gone_or_holds_less_than_it_should_is_not_replaced() {
    let log = log(1, Faults::NONE);
    let mut job = log.job(1, 1..=3, 0);
    job.parts[0].sources[0].bytes += 1;
    assert!(matches!(log.tidy(&job).result, Err(TidyError::Damaged(SegmentId::Wal(1), _))));
    log.disk.remove("wal/00000000000000000003.log").unwrap();
    let gone = log.tidy(&log.job(1, 1..=3, 0)).result;
    assert!(matches!(gone, Err(TidyError::Damaged(SegmentId::Wal(3), _))), "{gone:?}");
}

#[test]
fn without_space_nothing_is_begun_and_nothing_stays() {
    let log = log(1, Faults::NONE);
    let used = log.disk.used_bytes();
    log.disk.set_capacity(used + (64 << 10));
    assert!(matches!(log.tidy(&log.job(1, 1..=3, 0)).result, Err(TidyError::Full(_))));
    let mut spared = log.job(1, 1..=1, 0);
    spared.spare_bytes = 1 << 30;
    log.disk.set_capacity(1 << 30);
    assert!(matches!(log.tidy(&spared).result, Err(TidyError::Full(_))));
    log.disk.plan(&[Op::Create], "packs/", 1, Trouble::Full);
    assert!(matches!(log.tidy(&log.job(1, 1..=3, 0)).result, Err(TidyError::Full(_))));
    assert_eq!(log.disk.used_bytes(), used);
    log.tidy(&log.job(1, 1..=3, 0)).result.unwrap();
}

#[test]
fn whoever_sets_the_pace_can_end_it() {
    let log = log_of(1, Faults::NONE, 600);
    let disk: Arc<dyn Disk> = Arc::new(log.disk.clone());
    let cache = Reader::new(disk.clone()).cache().clone();
    let mut tidier = Tidier::new(disk, log.directory, cache, Entropy::Seeded(9));
    let large = log.job(1, 1..=1000, 0);
    let mut told = 0;
    let done = tidier.run(&large, &mut |bytes| {
        told += bytes;
        false
    });
    assert_eq!(done.result.err(), Some(TidyError::Stopped));
    assert!(told > 0 && segment::list_packs(&log.disk).unwrap().is_empty());
}

#[test]
fn after_a_crash_at_any_call_a_pack_is_whole_or_not_there() {
    let calls = {
        let log = log(1, Faults::NONE);
        let before = log.disk.count(CHANGES);
        log.tidy(&log.job(1, 1..=3, 0)).result.unwrap();
        log.disk.count(CHANGES) - before
    };
    assert!(calls > 6, "{calls}");
    let (mut whole, mut none) = (0, 0);
    for trouble in [Trouble::Cut, Trouble::Kill, Trouble::Error] {
        for nth in 1..=calls {
            let log = log(nth, Faults::ALL);
            let job = log.job(1, 1..=3, 0);
            log.disk.plan(CHANGES, "", nth, trouble);
            let done = log.tidy(&job);
            assert!(done.result.is_err() || nth == calls, "{trouble:?} {nth}");
            let disk = if trouble == Trouble::Error { log.disk.clone() } else { log.disk.restart() };
            let (_, seen) = open(Arc::new(disk.clone()), options(99)).unwrap();
            assert_eq!(seen.next, log.next);
            match &segment::list_packs(&disk).unwrap()[..] {
                [] => none += 1,
                [(SegmentId::Pack(1), _)] => {
                    whole += 1;
                    let coverage = read_coverage(&disk, log.directory, 1).unwrap();
                    let log = Log { disk: disk.clone(), ..log };
                    for part in &job.parts {
                        let found = log.offsets(SegmentId::Pack(1), part.id, 0);
                        assert_eq!(found.last().unwrap().1, part.sources.last().unwrap().last_offset);
                    }
                    assert_eq!(coverage.len(), job.parts.len());
                }
                other => panic!("{other:?}"),
            }
            assert!(!disk.paths().iter().any(|path| path.ends_with(".tmp")), "{:?}", disk.paths());
        }
    }
    assert!(whole > 0 && none > 0, "{whole} whole, {none} not there");
}

#[test]
fn a_pack_that_is_missing_or_of_another_directory_is_named() {
    let log = log(1, Faults::NONE);
    let missing = read_coverage(&log.disk, log.directory, 1).unwrap_err().to_string();
    assert!(missing.contains("packs/00000000000000000001.seg"), "{missing}");
    log.tidy(&log.job(1, 1..=3, 0)).result.unwrap();
    assert!(read_coverage(&log.disk, Uuid([9; 16]), 1).is_err());
    log.disk.rot("packs/00000000000000000001.seg", 4096 + 100, 1).unwrap();
    let damaged = read_coverage(&log.disk, log.directory, 1).unwrap_err().to_string();
    assert!(damaged.contains("packs/00000000000000000001.seg"), "{damaged}");
}
