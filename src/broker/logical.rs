//! Owns a partition's logical segments: where Kafka would have begun another segment file.
//!
//! All partitions share one log, so these are no files. Retention and compaction compare at their granularity, as in Kafka:
//! the newest one, the active segment, is neither compacted nor expired in part. Rolling follows Kafka's
//! LogSegment.shouldRoll, always between batches.

use std::collections::VecDeque;

use crate::limits;
use crate::wal::compact::Outcome;
use crate::wal::PartitionId;

/// When a partition begins another logical segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roll {
    /// `segment.bytes`.
    pub bytes: u64,
    /// `segment.ms`, or `max.compaction.lag.ms` if the topic is compacted and that is less.
    pub ms: i64,
    /// `segment.jitter.ms`.
    pub jitter_ms: i64,
    /// Segments that the partition may have; the older ones are joined in pairs beyond it.
    pub segments_max: usize,
}

/// What counts of a batch that is appended.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    pub base_offset: i64,
    pub last_offset: i64,
    pub bytes: u64,
    /// Largest timestamp in ms; -1 without one.
    pub max_timestamp: i64,
}

/// A logical segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalSegment {
    pub base_offset: i64,
    pub bytes: u64,
    /// Largest timestamp of its first batch in ms, from which its age counts; -1 without one.
    pub first_timestamp: i64,
    /// Largest timestamp of all its batches in ms; -1 without one.
    pub max_timestamp: i64,
    /// Wall clock of its last append, ms: in place of a timestamp where no record has one.
    pub modified_ms: i64,
    /// Wall clock of its first append since the last start, ms.
    created_ms: i64,
}

impl LogicalSegment {
    /// One that a checkpoint tells of.
    pub fn restored(base_offset: i64, bytes: u64, timestamps: (i64, i64), modified_ms: i64) -> LogicalSegment {
        let (first_timestamp, max_timestamp) = timestamps;
        LogicalSegment { base_offset, bytes, first_timestamp, max_timestamp, modified_ms, created_ms: i64::MAX }
    }

    /// When it is older than `retention_ms`, in wall-clock ms; `None` if never.
    fn expiry_ms(&self, retention_ms: i64) -> Option<i64> {
        (retention_ms >= 0).then(|| self.largest_timestamp().saturating_add(retention_ms).saturating_add(1))
    }

    /// The largest timestamp; when it was last written if no record has one.
    pub fn largest_timestamp(&self) -> i64 {
        if self.max_timestamp >= 0 {
            self.max_timestamp
        } else {
            self.modified_ms
        }
    }

    /// Whether a batch must begin the next segment.
    fn is_over(&self, batch: &Growth, roll: &Roll, jitter_ms: i64, now_ms: i64) -> bool {
        if self.bytes == 0 {
            return false;
        }
        let waited_ms = match self.first_timestamp {
            first if first >= 0 => batch.max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(self.created_ms),
        };
        self.bytes.saturating_add(batch.bytes) > roll.bytes
            || waited_ms > roll.ms.saturating_sub(jitter_ms)
            || batch.last_offset - self.base_offset > i64::from(i32::MAX)
    }

    fn join(&mut self, next: &LogicalSegment) {
        if self.bytes == 0 {
            self.first_timestamp = next.first_timestamp;
        }
        self.bytes += next.bytes;
        self.max_timestamp = self.max_timestamp.max(next.max_timestamp);
        self.modified_ms = self.modified_ms.max(next.modified_ms);
    }
}

/// All logical segments of a partition, oldest first. The last one is active. Empty ones allocate nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogicalSegments {
    segments: VecDeque<LogicalSegment>,
    bytes: u64,
}

impl LogicalSegments {
    /// Bytes of all of them: the size of the partition as Kafka would tell it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &LogicalSegment> + ExactSizeIterator {
        self.segments.iter()
    }

    /// Where the active segment begins; `None` while nothing is there.
    pub fn active_base(&self) -> Option<i64> {
        self.segments.back().map(|segment| segment.base_offset)
    }

    /// Whether the active segment begins at one of these offsets.
    pub fn begins_within(&self, base_offset: i64, last_offset: i64) -> bool {
        self.active_base().is_some_and(|active| (base_offset..=last_offset).contains(&active))
    }

    /// Takes in a batch that got its offsets. True when it begins another segment.
    pub fn append(&mut self, id: PartitionId, batch: &Growth, roll: &Roll, now_ms: i64) -> bool {
        let active = self.segments.back();
        let rolls =
            active.is_none_or(|active| active.is_over(batch, roll, jitter_ms(id, active.base_offset, roll), now_ms));
        if rolls {
            self.segments.push_back(LogicalSegment {
                base_offset: batch.base_offset,
                bytes: 0,
                first_timestamp: -1,
                max_timestamp: -1,
                modified_ms: now_ms,
                created_ms: now_ms,
            });
            self.keep_to(roll.segments_max);
        }
        self.bytes += batch.bytes;
        if let Some(active) = self.segments.back_mut() {
            if active.bytes == 0 {
                active.first_timestamp = batch.max_timestamp;
                active.created_ms = now_ms;
            }
            active.bytes += batch.bytes;
            active.max_timestamp = active.max_timestamp.max(batch.max_timestamp);
            active.modified_ms = now_ms;
        }
        rolls
    }

    /// Joins the older half in pairs if there are too many: it is looked at more coarsely then.
    fn keep_to(&mut self, segments_max: usize) {
        if self.segments.len() <= segments_max.max(2) {
            return;
        }
        let old: Vec<_> = self.segments.drain(..self.segments.len() / 2).collect();
        for pair in old.chunks(2).rev() {
            let mut joined = pair[0];
            pair[1..].iter().for_each(|next| joined.join(next));
            self.segments.push_front(joined);
        }
    }

    /// Puts back what a checkpoint held.
    pub fn restore(&mut self, segment: LogicalSegment) {
        self.bytes += segment.bytes;
        self.segments.push_back(segment);
    }

    /// Nothing was written later than now: what replay could not know is set to the time of recovery.
    pub fn cap_times(&mut self, now_ms: i64) {
        for segment in &mut self.segments {
            segment.modified_ms = segment.modified_ms.min(now_ms);
            segment.created_ms = segment.created_ms.min(now_ms);
        }
    }

    /// Forgets the segments of which nothing is at or above `start_offset`; the partition ends at `next_offset`.
    pub fn forget_below(&mut self, start_offset: i64, next_offset: i64) {
        while let Some(first) = self.segments.front() {
            let end = self.segments.get(1).map_or(next_offset, |next| next.base_offset);
            if end > start_offset || first.base_offset >= start_offset {
                break;
            }
            self.bytes -= first.bytes;
            self.segments.pop_front();
        }
    }

    /// The offset up to which retention deletes now, as Kafka decides: whole segments from the oldest on, none that is not
    /// wholly below the high watermark. The active one goes only if all goes. `None` when nothing is due. The settings
    /// are -1 for "for ever".
    pub fn retention_end(&self, now_ms: i64, retention_ms: i64, retention_bytes: i64, ends: Ends) -> Option<i64> {
        let mut surplus = u64::try_from(retention_bytes).ok().and_then(|most| self.bytes.checked_sub(most));
        let mut end = None;
        for (index, segment) in self.segments.iter().enumerate() {
            let segment_end = self.segments.get(index + 1).map_or(ends.next_offset, |next| next.base_offset);
            let is_surplus = surplus.is_some_and(|surplus| surplus >= segment.bytes);
            let is_expired = retention_ms >= 0 && now_ms.saturating_sub(segment.largest_timestamp()) > retention_ms;
            if segment.bytes == 0 && index + 1 == self.segments.len() {
                break;
            }
            if !(is_surplus || is_expired) || segment_end > ends.high_watermark {
                break;
            }
            surplus = surplus.and_then(|surplus| surplus.checked_sub(segment.bytes));
            end = Some(segment_end);
        }
        end.filter(|end| *end > ends.start_offset)
    }

    /// When the oldest segment expires, in wall-clock ms; `None` while there is none, or it never does.
    pub fn next_expiry_ms(&self, retention_ms: i64) -> Option<i64> {
        self.segments.front().filter(|segment| segment.bytes > 0)?.expiry_ms(retention_ms)
    }

    /// When the segment that begins at or after `offset` expires, in wall-clock ms; `None` if there is none, or it never does.
    pub fn expiry_at_ms(&self, offset: i64, retention_ms: i64) -> Option<i64> {
        let held = self.segments.iter().find(|segment| segment.base_offset >= offset && segment.bytes > 0);
        held?.expiry_ms(retention_ms)
    }

    /// Where the segments begin that a cleaning up to `end` leaves: neighbours are joined as long as together they have no
    /// more than `bytes_max` bytes before it (Kafka's groups of segments).
    pub fn cleaning_groups(&self, end: i64, bytes_max: u64) -> Vec<i64> {
        let mut bases = Vec::new();
        let (mut bytes, mut base) = (0u64, 0);
        for (index, segment) in self.segments.iter().enumerate().take_while(|(_, segment)| segment.base_offset < end) {
            let segment_end = self.segments.get(index + 1).map_or(end, |next| next.base_offset);
            let fits = bytes.saturating_add(segment.bytes) <= bytes_max && segment_end - base <= i64::from(i32::MAX);
            if bases.is_empty() || !fits {
                (bytes, base) = (0, segment.base_offset);
                bases.push(base);
            }
            bytes += segment.bytes;
        }
        bases
    }

    /// Takes over what a cleaning left below its end. Times of last appends stay with the newest of what was joined.
    pub fn cleaned(&mut self, outcome: &Outcome) {
        let (mut old, mut kept) = (Vec::new(), VecDeque::new());
        while let Some(segment) = self.segments.pop_front() {
            let next = self.segments.front().map_or(i64::MAX, |next| next.base_offset);
            if segment.base_offset >= outcome.end {
                kept.push_back(segment);
                continue;
            }
            if next > outcome.end {
                // It was joined across the end meanwhile, or is the last: what lies beyond stays a segment.
                kept.push_back(LogicalSegment { base_offset: outcome.end, ..segment });
            }
            old.push(segment);
        }
        for cleaned in outcome.segments.iter().rev().filter(|segment| segment.bytes > 0) {
            let below = old.partition_point(|segment| segment.base_offset <= cleaned.base_offset);
            let modified_ms = old.last().map_or(0, |segment| segment.modified_ms);
            old.truncate(below.saturating_sub(1));
            let timestamps = (cleaned.first_timestamp, cleaned.max_timestamp);
            let bytes = u64::try_from(cleaned.bytes).unwrap_or(0);
            kept.push_front(LogicalSegment::restored(cleaned.base_offset, bytes, timestamps, modified_ms));
        }
        self.bytes = kept.iter().map(|segment| segment.bytes).sum();
        self.segments = kept;
    }
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub start_offset: i64,
    pub high_watermark: i64,
    pub next_offset: i64,
}

/// Segments that each of so many partitions may have.
pub fn segments_max(partitions: usize) -> usize {
    let share = limits::LOGICAL_SEGMENTS_MAX / partitions.max(1);
    share.clamp(limits::LOGICAL_SEGMENTS_PER_PARTITION_MIN, limits::LOGICAL_SEGMENTS_PER_PARTITION_MAX)
}

/// By how much a segment is over earlier: the same for one segment whenever it is asked, and spread over segments
/// (splitmix64's mixing).
fn jitter_ms(id: PartitionId, base_offset: i64, roll: &Roll) -> i64 {
    let bound = roll.jitter_ms.min(roll.ms);
    if bound <= 0 {
        return 0;
    }
    let mut mixed = id.partition as u64 ^ base_offset as u64;
    for word in id.topic.0.chunks(8) {
        mixed = word.iter().fold(mixed, |mixed, byte| mixed.rotate_left(8) ^ u64::from(*byte));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    (mixed % bound as u64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::compact::CleanedSegment;
    use crate::wire::Uuid;

    const ROLL: Roll = Roll { bytes: 1000, ms: 5_000, jitter_ms: 0, segments_max: 100 };

    fn id() -> PartitionId {
        PartitionId { topic: Uuid([7; 16]), partition: 3 }
    }

    fn batch(base_offset: i64, bytes: u64, max_timestamp: i64) -> Growth {
        Growth { base_offset, last_offset: base_offset + 9, bytes, max_timestamp }
    }

    /// Segments of ten offsets each, with these bytes and timestamps.
    fn log(segments: &[(u64, i64)]) -> LogicalSegments {
        let mut log = LogicalSegments::default();
        for (index, (bytes, timestamp)) in segments.iter().enumerate() {
            let timestamps = (*timestamp, *timestamp);
            log.restore(LogicalSegment::restored(index as i64 * 10, *bytes, timestamps, 50_000));
        }
        log
    }

    fn bases(log: &LogicalSegments) -> Vec<i64> {
        log.iter().map(|segment| segment.base_offset).collect()
    }

    fn ends(next_offset: i64) -> Ends {
        Ends { start_offset: 0, high_watermark: next_offset, next_offset }
    }

    #[test]
    fn a_segment_is_over_by_size_before_it_would_pass_it() {
        let mut log = LogicalSegments::default();
        let rolled: Vec<bool> = (0..5).map(|n| log.append(id(), &batch(n * 10, 400, 1_000), &ROLL, 9_000)).collect();
        assert_eq!(rolled, [true, false, true, false, true]);
        // One that is larger than a segment has one of its own.
        assert!(log.append(id(), &batch(50, 5_000, 1_000), &ROLL, 9_000));
        assert!(log.append(id(), &batch(60, 1, 1_000), &ROLL, 9_000));
        assert_eq!((bases(&log), log.bytes()), (vec![0, 20, 40, 50, 60], 7_001));
    }

    #[test]
    fn age_counts_from_the_first_batchs_timestamp_to_the_new_ones() {
        let mut log = LogicalSegments::default();
        log.append(id(), &batch(0, 1, 1_000), &ROLL, 0);
        assert!(!log.append(id(), &batch(10, 1, 6_000), &ROLL, 99_000));
        assert!(!log.append(id(), &batch(20, 1, 500), &ROLL, 99_000));
        assert!(log.append(id(), &batch(30, 1, 6_001), &ROLL, 0));
        // Without timestamps it counts from the first append.
        let mut log = LogicalSegments::default();
        log.append(id(), &batch(0, 1, -1), &ROLL, 1_000);
        assert!(!log.append(id(), &batch(10, 1, -1), &ROLL, 6_000));
        assert!(log.append(id(), &batch(20, 1, -1), &ROLL, 6_001));
    }

    #[test]
    fn jitter_ends_segments_earlier_each_by_its_own() {
        let roll = Roll { jitter_ms: 2_000, ..ROLL };
        let mut all = Vec::new();
        for base in 0..200 {
            let jitter = jitter_ms(id(), base, &roll);
            assert!((0..2_000).contains(&jitter) && jitter == jitter_ms(id(), base, &roll));
            all.push(jitter);
        }
        all.sort_unstable();
        all.dedup();
        assert!(all.len() > 150);
        assert_eq!(jitter_ms(id(), 1, &ROLL), 0);
    }

    #[test]
    fn retention_takes_whole_segments_and_the_active_one_only_with_all_others() {
        let log = log(&[(100, 1_000), (100, 9_000), (100, 2_000), (50, 3_000)]);
        let end = |now_ms, ms, bytes| log.retention_end(now_ms, ms, bytes, ends(40));
        assert_eq!(end(2_000, 1_000, -1), None);
        assert_eq!(end(2_001, 1_000, -1), Some(10));
        // A segment that is newer stands in front of the older ones behind it.
        assert_eq!(end(8_000, 1_000, -1), Some(10));
        assert_eq!(end(10_001, 1_000, -1), Some(40));
        assert_eq!(
            (end(0, -1, 350), end(0, -1, 251), end(0, -1, 250), end(0, -1, 51)),
            (None, None, Some(10), Some(20))
        );
        assert_eq!((end(0, -1, 50), end(0, -1, 0)), (Some(30), Some(40)));
        assert_eq!(log.next_expiry_ms(1_000), Some(2_001));
        assert_eq!(log.next_expiry_ms(-1), None);
        let not_durable = Ends { high_watermark: 39, ..ends(40) };
        assert_eq!(log.retention_end(99_000, 0, -1, not_durable), Some(30));
        let started = Ends { start_offset: 30, ..ends(40) };
        assert_eq!(log.retention_end(2_001, 1_000, -1, started), None);
    }

    #[test]
    fn records_without_timestamps_expire_by_their_last_append() {
        let log = log(&[(100, -1), (100, -1)]);
        assert_eq!(log.next_expiry_ms(1_000), Some(51_001));
        assert_eq!(log.retention_end(51_000, 1_000, -1, ends(20)), None);
        assert_eq!(log.retention_end(51_001, 1_000, -1, ends(20)), Some(20));
    }

    #[test]
    fn what_lies_below_the_start_is_forgotten_segment_by_segment() {
        let mut log = log(&[(100, 1), (100, 1), (50, 1)]);
        log.forget_below(15, 30);
        assert_eq!((bases(&log), log.bytes()), (vec![10, 20], 150));
        log.forget_below(30, 30);
        assert_eq!((bases(&log), log.bytes(), log.active_base()), (vec![], 0, None));
        assert!(log.append(id(), &batch(30, 7, 1), &ROLL, 0));
    }

    #[test]
    fn too_many_segments_are_joined_from_the_oldest_on() {
        let roll = Roll { bytes: 10, segments_max: 8, ..ROLL };
        let mut log = LogicalSegments::default();
        for n in 0..100 {
            log.append(id(), &batch(n * 10, 10, 1_000 + n), &roll, 0);
            assert!(log.iter().len() <= 8);
        }
        assert_eq!((log.bytes(), log.active_base()), (1_000, Some(990)));
        assert!(bases(&log).is_sorted());
        assert_eq!(log.iter().map(|segment| segment.bytes).sum::<u64>(), 1_000);
        assert_eq!(segments_max(1), limits::LOGICAL_SEGMENTS_PER_PARTITION_MAX);
        assert_eq!(segments_max(10_000_000), limits::LOGICAL_SEGMENTS_PER_PARTITION_MIN);
    }

    #[test]
    fn a_cleaning_joins_segments_up_to_their_size_and_leaves_the_rest() {
        let mut log = log(&[(300, 1), (300, 2), (600, 3), (700, 4), (50, 5)]);
        assert_eq!(log.cleaning_groups(40, 1000), [0, 20, 30]);
        let cleaned = |base_offset, bytes| CleanedSegment { base_offset, bytes, first_timestamp: 7, max_timestamp: 8 };
        let segments = vec![cleaned(0, 90), cleaned(20, 0), cleaned(30, 60)];
        log.cleaned(&Outcome { cleaned_to: 40, end: 40, segments, aborted_gone: Vec::new() });
        assert_eq!((bases(&log), log.bytes()), (vec![0, 30, 40], 200));
        let first = log.iter().next().copied().unwrap();
        assert_eq!((first.first_timestamp, first.max_timestamp, first.modified_ms), (7, 8, 50_000));
    }
}
