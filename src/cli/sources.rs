//! Owns the choice of where each record is taken from, when several segments hold it: a pack takes the place of what it was
//! made of, a newer pack that of an older one, and where a pack is damaged what it was made of is used again.

use std::collections::BTreeMap;

use super::findings::{joined, uncovered, Extent};
use super::survey::Survey;
use crate::wal::{PartitionId, RunRef, SegmentId};

/// Sound batches by partition, in the order in which they were found. Some 70 bytes of memory for each run.
pub type Pieces = BTreeMap<PartitionId, Vec<RunRef>>;

/// Batches that are taken from one place: those that lie wholly between two offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub run: RunRef,
    pub first: i64,
    pub last: i64,
}

impl Chosen {
    pub fn extent(&self, id: PartitionId) -> Extent {
        Extent { id, first: self.first, last: self.last }
    }
}

/// Chooses for every partition; in the order of the offsets.
pub fn choose(pieces: &Pieces, survey: &Survey) -> BTreeMap<PartitionId, Vec<Chosen>> {
    let lost_of = |number: &u64| (*number, survey.lost_in(SegmentId::Pack(*number)));
    let lost: BTreeMap<u64, Vec<Extent>> = survey.coverage.keys().map(lost_of).collect();
    pieces.iter().map(|(id, runs)| (*id, of_partition(*id, runs, &survey.coverage, &lost))).collect()
}

fn of_partition(
    id: PartitionId,
    runs: &[RunRef],
    coverage: &BTreeMap<u64, Vec<Extent>>,
    lost: &BTreeMap<u64, Vec<Extent>>,
) -> Vec<Chosen> {
    let mut sources: BTreeMap<Option<u64>, Vec<RunRef>> = BTreeMap::new();
    // A pack may hold nothing of a partition and yet stand for some of it, of which nothing was left.
    for (number, extents) in coverage {
        if extents.iter().any(|extent| extent.id == id) {
            sources.entry(Some(*number)).or_default();
        }
    }
    for run in runs {
        let source = run.segment.is_pack().then(|| run.segment.number());
        sources.entry(source).or_default().push(*run);
    }
    let (mut claimed, mut chosen): (Vec<Extent>, Vec<Chosen>) = Default::default();
    // The newest pack first, the log, which is `None`, last.
    for (source, mut runs) in sources.into_iter().rev() {
        runs.sort_by_key(|run| (run.base_offset, run.position));
        for extent in claims(id, source, &runs, coverage, lost) {
            for free in uncovered(extent, &claimed) {
                take(&runs, free, &mut chosen);
                claimed.push(free);
            }
        }
        claimed = joined(claimed);
    }
    chosen.sort_by_key(|one| one.first);
    chosen
}

/// The offsets that a source stands for.
fn claims(
    id: PartitionId,
    source: Option<u64>,
    runs: &[RunRef],
    coverage: &BTreeMap<u64, Vec<Extent>>,
    lost: &BTreeMap<u64, Vec<Extent>>,
) -> Vec<Extent> {
    let Some(number) = source else {
        return vec![Extent { id, first: 0, last: i64::MAX - 1 }];
    };
    let stated = coverage.get(&number).into_iter().flatten().filter(|extent| extent.id == id);
    let mut stated: Vec<Extent> = stated.copied().collect();
    if stated.is_empty() {
        // What it stands for is lost; what it holds is not.
        let held = runs.iter().map(|run| Extent { id, first: run.base_offset, last: run.last_offset });
        stated = joined(held.collect());
    }
    let none = Vec::new();
    let lost = lost.get(&number).unwrap_or(&none);
    stated.into_iter().flat_map(|extent| uncovered(extent, lost)).collect()
}

/// Takes what the runs, which are in order, have between two offsets. Of what they hold twice, the first counts.
fn take(runs: &[RunRef], free: Extent, chosen: &mut Vec<Chosen>) {
    let mut next = free.first;
    for run in runs {
        let (first, last) = (run.base_offset.max(next), run.last_offset.min(free.last));
        if first <= last {
            chosen.push(Chosen { run: *run, first, last });
            next = last + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    const ID: PartitionId = PartitionId { topic: Uuid([1; 16]), partition: 0 };

    fn run(segment: SegmentId, base_offset: i64, last_offset: i64) -> RunRef {
        RunRef { id: ID, base_offset, last_offset, max_timestamp: 0, segment, position: 4096, len: 100 }
    }

    fn extent(first: i64, last: i64) -> Extent {
        Extent { id: ID, first, last }
    }

    fn chosen(runs: &[RunRef], coverage: &[(u64, Extent)], lost: &[(u64, Extent)]) -> Vec<(SegmentId, i64, i64)> {
        let map = |items: &[(u64, Extent)]| {
            let mut map: BTreeMap<u64, Vec<Extent>> = BTreeMap::new();
            items.iter().for_each(|(number, extent)| map.entry(*number).or_default().push(*extent));
            map
        };
        let chosen = of_partition(ID, runs, &map(coverage), &map(lost));
        chosen.iter().map(|one| (one.run.segment, one.first, one.last)).collect()
    }

    #[test]
    fn a_newer_pack_comes_before_an_older_one_and_both_before_the_log() {
        let (one, two, log) = (SegmentId::Pack(1), SegmentId::Pack(2), SegmentId::Wal(3));
        let runs = [run(one, 0, 19), run(two, 3, 8), run(log, 0, 9), run(log, 10, 19), run(log, 20, 29)];
        let coverage = [(1, extent(0, 19)), (2, extent(0, 9))];
        // Pack 2 was cleaned: what it does not hold any more does not come back.
        assert_eq!(chosen(&runs, &coverage, &[]), [(two, 3, 8), (one, 10, 19), (log, 20, 29)]);
    }

    #[test]
    fn what_is_lost_in_a_pack_is_taken_from_what_it_was_made_of() {
        let (pack, log) = (SegmentId::Pack(1), SegmentId::Wal(3));
        let runs = [run(pack, 0, 4), run(pack, 10, 19), run(log, 0, 9), run(log, 10, 19)];
        let coverage = [(1, extent(0, 19))];
        let lost = [(1, extent(5, 9))];
        assert_eq!(chosen(&runs, &coverage, &lost), [(pack, 0, 4), (log, 5, 9), (pack, 10, 19)]);
    }

    #[test]
    fn a_pack_that_kept_nothing_still_stands_for_what_it_replaced() {
        let log = SegmentId::Wal(3);
        let runs = [run(log, 0, 9), run(log, 10, 19)];
        assert_eq!(chosen(&runs, &[(1, extent(0, 9))], &[]), [(log, 10, 19)]);
    }
}
