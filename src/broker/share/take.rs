//! Owns what a ShareFetch takes from the log: where a group starts, which batches hold what is available, in memory or by a
//! reader, and what of them is acquired.

use bytes::Bytes;

use super::fetch::ShareFetch;
use super::partition::{Acquire, Acquired, Change, SharePartition, Stretch};
use super::persist;
use super::settings::GroupSettings;
use crate::broker::configs::group_table::ShareOffsetReset;
use crate::broker::fetch::read_error_code;
use crate::broker::log::PartitionLog;
use crate::broker::txn::partition::AbortedTxn;
use crate::broker::{Broker, Now};
use crate::limits;
use crate::wal::{BatchPlace, PartitionId, ReadDone, ReadError, ReadFound, ReadJob, ReadKind, Splice};
use crate::wire::batch;
use crate::wire::ErrorCode;

/// A partition from which a fetch may take something.
#[derive(Debug)]
pub(super) struct Wanted {
    pub id: PartitionId,
    /// The first offset that is available.
    from: i64,
    look: Look,
}

#[derive(Debug)]
enum Look {
    Batches(Vec<BatchPlace>, Option<Bytes>),
    /// A reader has to look: for batches, or for where the group starts.
    Cold(ReadKind),
    /// A reader is looking.
    Reading,
    Failed(ErrorCode),
    /// The group has just begun to share it.
    Begun,
    /// There is nothing after all.
    Nothing,
}

impl Wanted {
    pub fn is_cold(&self) -> bool {
        matches!(self.look, Look::Cold(_))
    }

    pub fn bytes(&self) -> usize {
        match &self.look {
            Look::Batches(batches, _) => batches.iter().map(|batch| batch.splice.len as usize).sum(),
            _ => 0,
        }
    }
}

/// What a fetch takes from a partition.
#[derive(Debug)]
pub(super) struct Taken {
    pub id: PartitionId,
    pub error: ErrorCode,
    pub acquired: Vec<Acquired>,
    /// Whole batches, from the one with the first acquired record to the one with the last.
    pub records: Records,
}

#[derive(Debug)]
pub(super) enum Records {
    Splices(Vec<Splice>, usize),
    Bytes(Bytes),
}

/// Records below this offset may be handed out to a group.
fn end_of(log: &PartitionLog, settings: &GroupSettings) -> i64 {
    log.readable_end(settings.read_committed)
}

/// Transactions of which nothing may be handed out to a group, of those that have batches here.
fn aborted_among(log: &PartitionLog, settings: &GroupSettings, batches: &[BatchPlace]) -> Vec<AbortedTxn> {
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Vec::new() };
    match settings.read_committed {
        true => log.txns.aborted_in(first.base_offset, last.last_offset + 1).copied().collect(),
        false => Vec::new(),
    }
}

impl Broker {
    /// Whether a group could take something from a partition now.
    pub(super) fn share_has_something(&self, group: &str, id: PartitionId) -> bool {
        let settings = self.share.of_group(group);
        let Some(log) = self.topics.partition(id).map(|partition| &partition.log) else { return true };
        let Some(group) = self.share.groups.get(group) else { return true };
        let Some(partition) = group.partitions.get(&id) else { return true };
        partition.fetching.is_none()
            && partition.has_room(settings.partition_max_record_locks)
            && partition.next_offset() < end_of(log, &settings)
    }

    /// What each partition of a fetch could give, within its limits. Starts that can be told at once are begun.
    pub(super) fn look_for_share(&mut self, now: Now, fetch: &ShareFetch) -> Vec<Wanted> {
        let settings = self.share.of_group(&fetch.group);
        let mut wanted = Vec::new();
        for id in &fetch.parts {
            if self.share_part_error(&fetch.group, *id).is_some() {
                continue;
            }
            if self.share.partition_mut(&fetch.group, *id).is_none() {
                if let Some(kind) = self.begin_share_partition(now, fetch, *id, &settings) {
                    wanted.push(Wanted { id: *id, from: 0, look: Look::Cold(kind) });
                    continue;
                }
            }
            if self.share_has_something(&fetch.group, *id) {
                let from = self.share.partition_mut(&fetch.group, *id).map_or(0, |partition| partition.next_offset());
                wanted.push(Wanted { id: *id, from, look: Look::Nothing });
            }
        }
        let each = (fetch.bytes_max / wanted.len().max(1)).max(1);
        let mut first = true;
        let mut reads = 0;
        for one in wanted.iter_mut().filter(|one| !one.is_cold()) {
            one.look = self.look_at_share(fetch, one, each, first, &settings);
            if one.is_cold() {
                reads += 1;
                if reads > limits::FETCH_READS_MAX {
                    one.look = Look::Nothing;
                }
            }
            first &= one.bytes() == 0 && !one.is_cold();
        }
        wanted
    }

    /// Begins to share a partition, where the group's setting says. A reader has to find the place when it is a time.
    fn begin_share_partition(
        &mut self,
        now: Now,
        fetch: &ShareFetch,
        id: PartitionId,
        settings: &GroupSettings,
    ) -> Option<ReadKind> {
        let log = &self.topics.partition(id)?.log;
        let start = match settings.auto_offset_reset {
            ShareOffsetReset::Earliest => log.start_offset,
            ShareOffsetReset::Latest => log.high_watermark,
            ShareOffsetReset::ByDurationMs(ms) => {
                let timestamp = now.wall_ms.saturating_sub(ms);
                let places = log.places(log.start_offset, timestamp, limits::READ_PLACES_MAX);
                if !places.is_empty() {
                    let (start_offset, end_offset) = (log.start_offset, log.high_watermark);
                    return Some(ReadKind::FirstAtOrAfter { places, start_offset, end_offset, timestamp });
                }
                log.high_watermark
            }
        };
        self.share_starts_at(fetch, id, start);
        None
    }

    /// A group's start in a partition is known.
    fn share_starts_at(&mut self, fetch: &ShareFetch, id: PartitionId, start: i64) {
        let Some(group) = self.share.groups.get_mut(&fetch.group).filter(|group| group.knows(id)) else { return };
        if group.partitions.contains_key(&id) {
            return;
        }
        let partition = SharePartition::new(start, group.epoch, false);
        let entry = persist::state_entry(&fetch.group, id, Some(&partition));
        let bytes = partition.bytes();
        group.partitions.insert(id, partition);
        self.share.grown(&fetch.group, 0, bytes);
        // On a full disk nothing is appended to any partition either; the start is found again after a crash.
        if self.has_space_for_groups() {
            self.append_meta(entry);
        }
    }

    fn look_at_share(
        &self,
        fetch: &ShareFetch,
        wanted: &Wanted,
        bytes_max: usize,
        first: bool,
        settings: &GroupSettings,
    ) -> Look {
        let found = self.topics.partition(wanted.id).map(|partition| &partition.log);
        let partition = self.share.groups.get(&fetch.group).and_then(|group| group.partitions.get(&wanted.id));
        let (Some(log), Some(partition)) = (found, partition) else { return Look::Nothing };
        let end = end_of(log, settings);
        let bounds = Bounds { end, bytes_max, records_max: fetch.records_max, first };
        if let Some(batches) = self.share_batches_in_memory(log, partition, wanted.from, &bounds) {
            return if batches.is_empty() { Look::Nothing } else { Look::Batches(batches, None) };
        }
        let Some(place) = log.place(wanted.from, limits::READ_RUNS_MAX) else { return Look::Nothing };
        Look::Cold(ReadKind::Batches {
            place,
            offset: wanted.from,
            end_offset: end,
            bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
            batches_max: limits::SHARE_FETCH_BATCHES_MAX,
        })
    }

    /// Whole batches from the ring: from the one that holds `from` on, as many as fit and are needed, at least one if
    /// `first`. `None` when the ring does not hold that batch.
    fn share_batches_in_memory(
        &self,
        log: &PartitionLog,
        partition: &SharePartition,
        from: i64,
        bounds: &Bounds,
    ) -> Option<Vec<BatchPlace>> {
        if !log.knows_run(from) {
            return None;
        }
        let mut batches: Vec<BatchPlace> = Vec::new();
        let (mut bytes, mut records) = (0, 0);
        for run in log.runs_from(from) {
            let Some(data) = self.ring.get(run.segment, run.position, run.len) else {
                return Some(batches).filter(|batches| !batches.is_empty());
            };
            let handle = self.handles.get(&run.segment)?;
            let mut position = run.position;
            for batch in batch::batches(&data).map_while(Result::ok) {
                let len = batch.bytes.len();
                let (at, header) = (position, &batch.header);
                position += len as u64;
                if header.last_offset() < from {
                    continue;
                }
                let fits = bytes + len <= bounds.bytes_max || (bounds.first && batches.is_empty());
                if header.base_offset >= bounds.end || !fits || records >= bounds.records_max {
                    return Some(batches);
                }
                bytes += len;
                records += partition.acquirable(header.base_offset.max(from), header.last_offset());
                let splice = Splice { handle: handle.clone(), position: at, len: len as u32 };
                batches.push(BatchPlace::new(header, splice));
            }
        }
        Some(batches)
    }

    /// Sends readers for what is not in memory. Nobody else of the group looks at these partitions meanwhile.
    pub(super) fn send_share_readers(&mut self, now: Now, mut fetch: ShareFetch) {
        let mut jobs = Vec::new();
        for (index, wanted) in fetch.wanted.iter_mut().enumerate() {
            if let Look::Cold(_) = wanted.look {
                let Look::Cold(kind) = std::mem::replace(&mut wanted.look, Look::Reading) else { continue };
                jobs.push((index, wanted.id, kind));
            }
        }
        fetch.reading = jobs.len();
        let group = fetch.group.clone();
        let locked: Vec<PartitionId> = fetch.wanted.iter().map(|wanted| wanted.id).collect();
        let id = self.keep_share_fetch(fetch);
        for partition in locked {
            if let Some(partition) = self.share.partition_mut(&group, partition) {
                partition.fetching = Some(id);
            }
        }
        for (index, partition, kind) in jobs {
            let job = self.job();
            self.share.fetches.reads.insert(job, (id, index));
            self.send_reader(ReadJob { job, asked_us: now.mono_us, id: partition, kind });
        }
    }

    /// A reader has an answer, for a share fetch if the job is one of theirs.
    pub(in crate::broker) fn share_read_done(&mut self, now: Now, done: ReadDone) {
        let Some((id, index)) = self.share.fetches.reads.remove(&done.job) else { return };
        let Some(fetch) = self.share.fetches.by_id.get_mut(&id) else { return };
        if let Err(ReadError::Corrupt(why) | ReadError::Io(why)) = &done.result {
            ::log::error!(
                "cannot read what a share group asked for: {why}. If this goes on, restore the data directory from a backup"
            );
        }
        let partition = fetch.wanted[index].id;
        let mut start = None;
        fetch.wanted[index].look = match done.result {
            Ok(ReadFound::Batches(batches, _)) if batches.is_empty() => Look::Nothing,
            Ok(ReadFound::Batches(batches, gathered)) => Look::Batches(batches, gathered),
            Ok(ReadFound::Record(found)) => {
                start = Some(found.map(|(offset, ..)| offset));
                Look::Begun
            }
            Ok(_) => Look::Failed(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(error) => Look::Failed(read_error_code(&error)),
        };
        fetch.reading -= 1;
        let complete = fetch.reading == 0;
        if let Some(start) = start {
            self.share_start_found(id, partition, start);
        }
        if complete {
            if let Some(fetch) = self.take_share_fetch(id) {
                self.share_reads_done(now, fetch);
            }
        }
    }

    /// A partition was compacted: what was read of it before, and waits for what other partitions have, is read again when the client
    /// asks again. By the next compaction nobody would know which transactions in it were aborted.
    pub(in crate::broker) fn forget_share_reads_of(&mut self, id: PartitionId) {
        for wanted in self.share.fetches.by_id.values_mut().flat_map(|fetch| &mut fetch.wanted) {
            if wanted.id == id && matches!(wanted.look, Look::Batches(..)) {
                wanted.look = Look::Nothing;
            }
        }
    }

    /// A reader found where a group starts; `None` is at the end.
    fn share_start_found(&mut self, id: u64, partition: PartitionId, start: Option<i64>) {
        let Some(log) = self.topics.partition(partition).map(|partition| &partition.log) else { return };
        let start = start.unwrap_or(log.high_watermark).max(log.start_offset);
        // The fetch is taken out for a moment, as what it says is needed to begin.
        if let Some(fetch) = self.share.fetches.by_id.remove(&id) {
            self.share_starts_at(&fetch, partition, start);
            self.share.fetches.by_id.insert(id, fetch);
        }
    }

    /// Whether a reader works for a share fetch.
    pub(in crate::broker) fn share_waits_for(&self, job: u64) -> bool {
        self.share.fetches.reads.contains_key(&job)
    }

    /// Acquires what was found. What there is to tell; and whether anything has moved, so that looking again may help.
    pub(super) fn take_share(&mut self, now: Now, fetch: &ShareFetch, wanted: Vec<Wanted>) -> (Vec<Taken>, bool) {
        let settings = self.share.of_group(&fetch.group);
        let lock_ms = settings.record_lock_duration_ms.unsigned_abs();
        let mut how = Acquire {
            member: &fetch.member,
            lock_us: now.mono_us.saturating_add(lock_ms.saturating_mul(1000)),
            records_max: fetch.records_max,
            batch_size: fetch.batch_size,
            exact: fetch.exact,
            locks_max: settings.partition_max_record_locks,
            deliveries_max: settings.delivery_count_limit,
        };
        let mut taken = Vec::new();
        let mut moved = false;
        for one in wanted {
            let (batches, gathered) = match one.look {
                Look::Batches(batches, gathered) => (batches, gathered),
                Look::Failed(error) => {
                    let records = Records::Bytes(Bytes::new());
                    taken.push(Taken { id: one.id, error, acquired: Vec::new(), records });
                    continue;
                }
                Look::Begun => {
                    moved = true;
                    continue;
                }
                Look::Cold(_) | Look::Reading | Look::Nothing => continue,
            };
            let Some(log) = self.topics.partition(one.id).map(|partition| &partition.log) else { continue };
            let stretches = stretches(one.from, &batches, &aborted_among(log, &settings, &batches));
            let acquired = self.with_share(&fetch.group, one.id, |partition| {
                let (acquired, change) = match how.records_max > 0 {
                    true => partition.acquire(&how, one.from, &stretches),
                    false => (Vec::new(), Change::default()),
                };
                ((acquired, partition.next_offset()), change)
            });
            let Some(((acquired, next), _)) = acquired else { continue };
            moved |= next != one.from;
            if acquired.is_empty() {
                continue;
            }
            how.records_max -= acquired.iter().map(|range| range.last - range.first + 1).sum::<i64>();
            let records = records_of(&batches, gathered, &acquired);
            taken.push(Taken { id: one.id, error: ErrorCode::NONE, acquired, records });
        }
        (taken, moved)
    }
}

/// Within which a look into memory stays.
struct Bounds {
    end: i64,
    bytes_max: usize,
    records_max: i64,
    /// The first batch may be larger than `bytes_max`.
    first: bool,
}

/// The log from `from` on, as batches and what lies between them.
fn stretches(from: i64, batches: &[BatchPlace], aborted: &[AbortedTxn]) -> Vec<Stretch> {
    let mut stretches = Vec::with_capacity(batches.len());
    let mut next = from;
    for batch in batches {
        if batch.base_offset > next {
            stretches.push(Stretch { first: next, last: batch.base_offset - 1, has_records: false });
        }
        let within = |txn: &AbortedTxn| (txn.first_offset..txn.last_offset).contains(&batch.base_offset);
        let is_aborted =
            batch.is_transactional && aborted.iter().any(|txn| txn.producer_id == batch.producer_id && within(txn));
        let has_records = !batch.is_control && !is_aborted;
        stretches.push(Stretch { first: batch.base_offset, last: batch.last_offset, has_records });
        next = batch.last_offset + 1;
    }
    stretches
}

/// The batches from the first acquired record to the last.
fn records_of(batches: &[BatchPlace], gathered: Option<Bytes>, acquired: &[Acquired]) -> Records {
    let first = acquired.first().map_or(i64::MAX, |range| range.first);
    let last = acquired.iter().map(|range| range.last).max().unwrap_or(i64::MIN);
    let from = batches.partition_point(|batch| batch.last_offset < first);
    let to = batches.partition_point(|batch| batch.base_offset <= last);
    let len = |batches: &[BatchPlace]| batches.iter().map(|batch| batch.splice.len as usize).sum::<usize>();
    let (skipped, chosen) = (&batches[..from.min(to)], &batches[from.min(to)..to]);
    if let Some(bytes) = gathered {
        let start = len(skipped);
        return Records::Bytes(bytes.slice(start..start + len(chosen)));
    }
    let mut splices: Vec<Splice> = Vec::new();
    for batch in chosen {
        let splice = &batch.splice;
        match splices.last_mut() {
            Some(before)
                if before.handle.segment == splice.handle.segment
                    && before.position + u64::from(before.len) == splice.position =>
            {
                before.len += splice.len;
            }
            _ => splices.push(splice.clone()),
        }
    }
    Records::Splices(splices, len(chosen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::DiskFile;
    use crate::wal::SegmentHandle;
    use std::io;
    use std::sync::Arc;

    #[derive(Debug)]
    struct NoFile;

    impl DiskFile for NoFile {
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    fn batch(base_offset: i64, last_offset: i64, producer_id: i64, is_control: bool) -> BatchPlace {
        let handle = SegmentHandle { segment: crate::wal::SegmentId::FIRST, file: Arc::new(NoFile) };
        let splice = Splice { handle, position: base_offset as u64 * 100, len: 100 };
        let is_transactional = producer_id >= 0;
        BatchPlace { base_offset, last_offset, producer_id, is_transactional, is_control, splice }
    }

    #[test]
    fn aborted_records_markers_and_holes_hold_nothing_for_consumers() {
        let batches = [
            batch(5, 6, -1, false),
            batch(7, 7, 1, false),
            batch(8, 8, 2, false),
            batch(9, 9, 1, true),
            batch(12, 12, 1, false),
        ];
        let aborted = [AbortedTxn { producer_id: 1, first_offset: 7, last_offset: 9, stable_offset: 10 }];
        let found = stretches(3, &batches, &aborted);
        let found: Vec<_> = found.iter().map(|s| (s.first, s.last, s.has_records)).collect();
        let wanted =
            [(3, 4, false), (5, 6, true), (7, 7, false), (8, 8, true), (9, 9, false), (10, 11, false), (12, 12, true)];
        assert_eq!(found, wanted);
    }

    #[test]
    fn only_the_batches_with_acquired_records_are_sent() {
        let batches = [batch(0, 0, -1, false), batch(1, 1, -1, false), batch(2, 2, -1, false), batch(9, 9, -1, false)];
        let acquired = [Acquired { first: 1, last: 2, count: 1 }];
        let Records::Splices(splices, len) = records_of(&batches, None, &acquired) else { panic!("bytes") };
        assert_eq!((splices.len(), splices[0].position, splices[0].len, len), (1, 100, 200, 200));
        let gathered = Bytes::from((0..400u32).map(|n| (n / 100) as u8).collect::<Vec<u8>>());
        let Records::Bytes(bytes) = records_of(&batches, Some(gathered), &acquired) else { panic!("splices") };
        assert_eq!((bytes.len(), bytes[0], bytes[199]), (200, 1, 2));
    }
}
