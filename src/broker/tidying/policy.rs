//! Owns which segments are rewritten next: a choice by their figures alone.
//!
//! Three things are worth a pack:
//! 1. A segment of which at least a quarter would be gained: what was deleted, and the padding of small groups.
//! 2. Adjacent segments of the log whose runs are short, once there are several or they are large enough.
//! 3. Several adjacent packs of about the same size in which partitions have little each.
//!
//! Packs of a size are merged only when there are `TIDY_MERGE_MIN` of them, so each rewriting makes a byte live in a pack about
//! that many times larger, and large packs are left alone: a byte is rewritten a few times at most. A segment of long runs
//! stays as it is.

use super::super::segments::Segment;
use crate::limits;
use crate::wal::SegmentId;

/// A segment that may be rewritten.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub id: SegmentId,
    pub segment: Segment,
}

/// The length that a pack of these live data has at most, if this is what it takes beside its batches.
fn pack_bytes(segment: &Segment, overhead: u64) -> u64 {
    let parts = segment.live as u64 * limits::TIDY_PART_OVERHEAD_BYTES;
    segment.live_bytes + segment.live_bytes / 64 + parts + overhead
}

impl Candidate {
    /// Bytes that rewriting it gives back; none if that is little compared to its size.
    fn gain(&self) -> u64 {
        let most = pack_bytes(&self.segment, limits::TIDY_PACK_OVERHEAD_BYTES);
        let gain = self.segment.bytes.saturating_sub(most);
        if gain >= self.segment.bytes / 4 {
            gain
        } else {
            0
        }
    }

    /// Whether its data would be read faster when sorted, or together with others'.
    fn is_short(&self) -> bool {
        let Segment { live_bytes, live, runs, .. } = self.segment;
        match self.id {
            SegmentId::Wal(_) => live_bytes < runs * limits::TIDY_SHORT_RUN_BYTES,
            SegmentId::Pack(_) => {
                live_bytes < live as u64 * limits::TIDY_SHORT_RANGE_BYTES && live_bytes < limits::TIDY_JOB_BYTES / 2
            }
        }
    }

    /// Packs of one tier have about the same size.
    fn tier(&self) -> u32 {
        match self.id {
            SegmentId::Wal(_) => u32::MAX,
            SegmentId::Pack(_) => (self.segment.live_bytes >> 18).max(1).ilog2() / 2,
        }
    }
}

/// The segments that should be rewritten next, together; none when there is nothing to do. `sealed` are those that are sealed,
/// alive and sound, packs first, in the order of their numbers.
pub fn choose(sealed: &[Candidate]) -> Vec<SegmentId> {
    let best = (0..sealed.len()).filter(|at| sealed[*at].gain() > 0).max_by_key(|at| sealed[*at].gain());
    if let Some(at) = best {
        return with_neighbours(sealed, at);
    }
    let mut at = 0;
    while at < sealed.len() {
        let stretch = short_stretch(&sealed[at..]);
        if is_worth_merging(stretch) {
            return within_a_job(stretch);
        }
        at += stretch.len().max(1);
    }
    Vec::new()
}

/// Bytes that rewriting an object gives back, if that is half of it at least; else none.
pub fn half_gained(Candidate { id, segment }: &Candidate) -> u64 {
    let overhead = match id.is_pack() {
        true => limits::TIDY_PACK_OBJECT_OVERHEAD_BYTES,
        false => limits::TIDY_OBJECT_OVERHEAD_BYTES,
    };
    match segment.bytes.saturating_sub(pack_bytes(segment, overhead)) {
        gain if gain >= segment.bytes / 2 => gain,
        _ => 0,
    }
}

/// Whether there is less to tidy when nothing is left in these segments and a pack holds what was: fewer segments of the log,
/// fewer packs, or less of what is not needed. Otherwise the pack would only be rewritten next.
pub fn is_progress(emptied: &[Candidate]) -> bool {
    emptied.len() > 1 || emptied.iter().any(|candidate| !candidate.id.is_pack() || candidate.gain() > 0)
}

/// A segment to rewrite for its space, and those behind it which are worth rewriting as well.
fn with_neighbours(sealed: &[Candidate], at: usize) -> Vec<SegmentId> {
    let is_alike = |other: &Candidate| {
        let is_small = other.tier() == sealed[at].tier() && other.is_short();
        other.id.is_pack() == sealed[at].id.is_pack() && (other.gain() > 0 || is_small)
    };
    let count = sealed[at..].iter().take_while(|other| is_alike(other)).count().max(1);
    within_a_job(&sealed[at..at + count])
}

/// The short segments of one tier at the beginning.
fn short_stretch(sealed: &[Candidate]) -> &[Candidate] {
    let Some(first) = sealed.first() else { return &[] };
    let is_alike = |other: &&Candidate| other.is_short() && other.tier() == first.tier();
    &sealed[..sealed.iter().take_while(is_alike).count()]
}

fn is_worth_merging(stretch: &[Candidate]) -> bool {
    let live: u64 = stretch.iter().map(|candidate| candidate.segment.live_bytes).sum();
    let is_large = matches!(stretch.first(), Some(first) if !first.id.is_pack()) && live >= limits::TIDY_JOB_BYTES / 2;
    stretch.len() >= limits::TIDY_MERGE_MIN || is_large
}

/// As many of them as one job takes, the first in any case.
fn within_a_job(stretch: &[Candidate]) -> Vec<SegmentId> {
    let mut live = 0;
    let fits = |candidate: &&Candidate| {
        let is_first = live == 0;
        live += candidate.segment.live_bytes;
        is_first || live <= limits::TIDY_JOB_BYTES
    };
    stretch.iter().take(limits::TIDY_SEGMENTS_MAX).take_while(fits).map(|candidate| candidate.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn wal(number: u64, bytes: u64, live_bytes: u64, live: usize, runs: u64) -> Candidate {
        Candidate { id: SegmentId::Wal(number), segment: Segment { bytes, live, live_bytes, runs, is_remote: false } }
    }

    fn pack(number: u64, live_bytes: u64, live: usize) -> Candidate {
        let mut segment = Segment { bytes: 0, live, live_bytes, runs: live as u64, is_remote: false };
        segment.bytes = pack_bytes(&segment, limits::TIDY_PACK_OVERHEAD_BYTES);
        Candidate { id: SegmentId::Pack(number), segment }
    }

    #[test]
    fn long_runs_that_live_are_left_alone() {
        let sealed: Vec<_> = (1..20).map(|number| wal(number, 128 * MIB, 126 * MIB, 4, 500)).collect();
        assert_eq!(choose(&sealed), vec![]);
    }

    #[test]
    fn a_segment_that_is_a_quarter_dead_is_rewritten_and_the_worst_comes_first() {
        let sealed = [
            wal(1, 128 * MIB, 120 * MIB, 4, 500),
            wal(2, 128 * MIB, 90 * MIB, 4, 500),
            wal(3, 128 * MIB, 20 * MIB, 4, 500),
        ];
        assert_eq!(choose(&sealed), vec![SegmentId::Wal(3)]);
        assert_eq!(choose(&sealed[..2]), vec![SegmentId::Wal(2)]);
        assert_eq!(choose(&sealed[..1]), vec![]);
    }

    #[test]
    fn short_runs_are_merged_when_there_are_several_segments_or_much_data() {
        let small: Vec<_> = (1..4).map(|number| wal(number, MIB / 8, MIB / 16, 40, 40)).collect();
        assert_eq!(choose(&small), vec![]);
        let small: Vec<_> = (1..6).map(|number| wal(number, MIB / 8, MIB / 16, 40, 40)).collect();
        assert_eq!(choose(&small).len(), 5);
        let large: Vec<_> = (1..9).map(|number| wal(number, 128 * MIB, 120 * MIB, 900, 60_000)).collect();
        assert_eq!(choose(&large), vec![SegmentId::Wal(1), SegmentId::Wal(2)]);
    }

    #[test]
    fn what_was_rewritten_is_not_rewritten_for_itself_again() {
        for live_bytes in [1, MIB, 17 * MIB, 200 * MIB] {
            for live in [1, 800] {
                assert_eq!(choose(&[pack(1, live_bytes, live)]), vec![], "{live_bytes} {live}");
            }
        }
    }

    #[test]
    fn a_byte_is_rewritten_a_few_times_only_however_long_the_log() {
        let (mut packs, mut number, mut written) = (Vec::new(), 0, 0);
        let mut taken = 0;
        for _ in 0..2000 {
            number += 1;
            packs.push(pack(number, 17 * MIB, 800));
            taken += 17 * MIB;
            loop {
                let chosen = choose(&packs);
                if chosen.is_empty() {
                    break;
                }
                let live =
                    packs.iter().filter(|pack| chosen.contains(&pack.id)).map(|pack| pack.segment.live_bytes).sum();
                packs.retain(|pack| !chosen.contains(&pack.id));
                number += 1;
                packs.push(pack(number, live, 800));
                written += live;
            }
        }
        assert!(written <= 3 * taken, "{} times", written as f64 / taken as f64);
        assert!(packs.len() < 300, "{} packs", packs.len());
    }

    #[test]
    fn an_object_is_worth_fetching_when_half_of_it_is_gained_however_small_it_is() {
        assert_eq!(half_gained(&wal(1, MIB, MIB / 2, 1, 9)), 0);
        assert_eq!(half_gained(&wal(1, MIB, 450 << 10, 1, 9)), MIB - (450 << 10) - (450 << 4) - 320 - (32 << 10));
        assert_eq!(half_gained(&wal(1, 64 << 10, 1000, 1, 9)), 0, "a pack takes half of that itself");
        assert!(half_gained(&pack(1, 900 * MIB, 3)) == 0);
    }
}
