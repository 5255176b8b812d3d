//! Owns the way back: building the broker's state from a checkpoint and what the log holds after it.
//!
//! The log hands over, in this order: the newest checkpoint, the segments that are there, and for each group after the
//! checkpoint its metadata and its runs. `finish` checks that nothing is missing and gives the broker.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::checkpoint;
use super::configs::{BrokerConfigs, TopicSettings};
use super::coordinator::group_settings;
use super::gather::Gather;
use super::groups::Groups;
use super::log::PartitionLog;
use super::logical::Growth;
use super::metalog;
use super::settings::{Rng, Settings};
use super::share::settings::ShareSettings;
use super::share::ShareGroups;
use super::topics::{StableMap, TopicChange};
use super::txn::Txns;
use super::{tidying, topics, Broker, Now};
use crate::canary::{self, Fault};
use crate::config::Fsync;
use crate::limits;
use crate::wal::checkpoint::Floor;
use crate::wal::pack::Coverage;
use crate::wal::recovery::{Recovered, Replay};
use crate::wal::ring::Ring;
use crate::wal::{GroupSeq, LogPosition, MetaEntry, PartitionId, RunRef, SegmentId};
use crate::wire::batch;
use crate::wire::control::EndMarker;

/// A broker that is being put together.
#[derive(Debug)]
pub struct Recovering {
    broker: Broker,
    /// Log starts that events named; applied at the end, when all runs are there.
    starts: BTreeMap<PartitionId, i64>,
    /// What checkpoints told of partitions whose topics come from metadata files.
    waiting_logs: StableMap<PartitionId, PartitionLog>,
    /// How many runs each segment holds, as far as that is known.
    runs: BTreeMap<SegmentId, u64>,
    records: u64,
}

/// What the log knows at the end of recovery.
#[derive(Clone, Copy, Debug)]
pub struct LogState {
    /// The number of the next group.
    pub next_seq: GroupSeq,
    /// Where it will stand.
    pub position: LogPosition,
    pub space_bytes: u64,
    /// What the kept checkpoints need.
    pub floor: Floor,
    /// The log was closed in order: nothing that was visible can be missing, whatever the fsync mode.
    pub clean: bool,
}

impl Recovering {
    pub fn new(settings: Settings) -> Recovering {
        let seed = settings.seed;
        let groups = Groups::new(group_settings(&settings.config));
        let share = ShareGroups::new(ShareSettings::of(&settings.config));
        let txns = Txns::new(&settings.config);
        let broker_configs = BrokerConfigs::new(settings.config.clone());
        let broker = Broker {
            settings: Arc::new(settings),
            conns: Default::default(),
            effects: VecDeque::new(),
            gather: Gather::new(1),
            durable: 0,
            in_flight: None,
            in_flight_bytes: 0,
            position: LogPosition::default(),
            space_bytes: 0,
            out_of_space: false,
            topics: Default::default(),
            segments: Default::default(),
            tidying: Default::default(),
            tiering: Default::default(),
            ring: Ring::new(limits::RING_BYTES_MAX),
            ring_groups: VecDeque::new(),
            handles: BTreeMap::new(),
            groups,
            share,
            producer_ids: Default::default(),
            txns,
            fetches: Default::default(),
            list_offsets: Default::default(),
            produces: Default::default(),
            checkpoint: Default::default(),
            broker_configs,
            features: Default::default(),
            resource_configs: Default::default(),
            scram: Default::default(),
            timers: Default::default(),
            retention: Default::default(),
            cleanings: Default::default(),
            rolling: None,
            next_job: 0,
            rng: Rng::new(seed),
            lossy: false,
            stopping: false,
            #[cfg(feature = "canary")]
            set_clock: None,
        };
        Recovering {
            broker,
            starts: BTreeMap::new(),
            waiting_logs: Default::default(),
            runs: BTreeMap::new(),
            records: 0,
        }
    }

    /// Sets the cluster id, which the data directory knows.
    pub fn cluster_id(&mut self, cluster_id: String) {
        Arc::make_mut(&mut self.broker.settings).cluster_id = cluster_id;
    }

    /// The newest valid checkpoint. The error says what is wrong with its content.
    pub fn checkpoint(&mut self, bytes: &[u8]) -> Result<(), String> {
        let snapshot = checkpoint::read(bytes)?;
        self.broker.tidying.restore(snapshot.last_pack);
        self.runs = snapshot.runs.into_iter().collect();
        // Metadata files are the truth where there are any; a checkpoint from before they were made is not.
        if self.broker.settings.metadata_in_log {
            for entry in &snapshot.entries {
                self.meta(entry)?;
            }
        }
        for log in snapshot.logs {
            match self.broker.topics.partition_mut(log.id) {
                Some(partition) => partition.log = log,
                None => {
                    self.waiting_logs.insert(log.id, log);
                }
            }
        }
        Ok(())
    }

    /// A segment's file is there.
    pub fn segment(&mut self, id: SegmentId, bytes: u64) {
        self.broker.segments.present(id, bytes);
    }

    /// A change of metadata.
    pub fn meta(&mut self, entry: &MetaEntry) -> Result<(), String> {
        match entry.table {
            metalog::TOPIC | metalog::LOG_START => self.topic_change(topics::read_entry(entry)?)?,
            metalog::SHARE_GROUP | metalog::SHARE_STATE => self.broker.share.apply(entry)?,
            metalog::GROUP | metalog::OFFSET | metalog::CONSUMER_GROUP | metalog::TXN_OFFSET => {
                self.broker.groups.apply(entry)?
            }
            metalog::LOSSY => self.broker.lossy = entry.value.as_ref().is_some_and(|value| value[..] == [1]),
            metalog::TXN => self.broker.txns.apply(entry)?,
            metalog::PRODUCER_IDS => self.broker.producer_ids.apply(entry)?,
            metalog::BROKER_CONFIG => self.broker.broker_configs.apply(entry)?,
            metalog::SCRAM => self.broker.scram.apply(entry)?,
            metalog::RESOURCE_CONFIG => self.broker.resource_configs.apply(entry)?,
            metalog::FEATURE => self.broker.features.apply(entry)?,
            metalog::PACK => self.broker.tidying.apply(entry)?,
            metalog::OBJECT => self.broker.tiering.apply(entry)?,
            table => return Err(format!("metadata of kind {table} is unknown to this program")),
        }
        Ok(())
    }

    fn topic_change(&mut self, change: TopicChange) -> Result<(), String> {
        match change {
            TopicChange::Put { id, name, partitions, configs } => {
                // What was written keeps this bound, so more is not what was written; it must not cost memory.
                let others = self.broker.topics.partition_count();
                let own = self.broker.topics.by_id(id).map_or(0, |topic| topic.partitions.len());
                if others - own + partitions > limits::PARTITIONS_MAX {
                    return Err(format!("topic {id} has {partitions} partitions, which are too many"));
                }
                let settings = TopicSettings::resolve(&self.broker.settings.config, &configs);
                self.broker.topics.put(id, &name, partitions, configs, settings);
                for partition in self.broker.topics.by_id_mut(id).into_iter().flat_map(|topic| &mut topic.partitions) {
                    if let Some(log) = self.waiting_logs.remove(&partition.log.id) {
                        partition.log = log;
                    }
                }
            }
            TopicChange::Remove { id } => {
                self.broker.topics.remove(id);
            }
            TopicChange::LogStart { id, offset } => {
                let start = self.starts.entry(id).or_insert(offset);
                *start = offset.max(*start);
            }
            TopicChange::None => {}
        }
        Ok(())
    }

    /// A run of batches. Runs of deleted topics are passed over.
    pub fn run(&mut self, run: RunRef, bytes: &[u8]) -> Result<(), String> {
        let Some((partition, roll)) = self.broker.topics.appending(run.id) else { return Ok(()) };
        let log = &mut partition.log;
        if run.base_offset < log.next_offset {
            return Err(format!(
                "partition {} of topic {} has offset {} twice (expected {})",
                run.id.partition, run.id.topic, run.base_offset, log.next_offset
            ));
        }
        let mut new_producers = 0;
        for item in batch::batches(bytes) {
            let batch = item.map_err(|error| error.to_string())?;
            let header = &batch.header;
            if header.leader_epoch > log.leader_epoch {
                log.leader_epoch = header.leader_epoch;
                log.epochs.push((header.leader_epoch, header.base_offset));
            }
            let append_time = match header.timestamp_type() {
                batch::TimestampType::LogAppendTime => header.max_timestamp,
                batch::TimestampType::CreateTime => -1,
            };
            // When it was appended is not recorded; `finish` makes it the time of recovery.
            new_producers += usize::from(match EndMarker::of(&batch) {
                Some(marker) => log.marker_appended(&marker, header.base_offset, i64::MAX),
                None if header.is_control() => false,
                None => log.batch_appended(header, header.base_offset, append_time, i64::MAX),
            });
            let grown = Growth {
                base_offset: header.base_offset,
                last_offset: header.last_offset(),
                bytes: batch.bytes.len() as u64,
                max_timestamp: header.max_timestamp,
            };
            log.grown(&grown, &roll, i64::MAX);
            self.records += header.records_count as u64;
        }
        *self.runs.entry(run.segment).or_default() += 1;
        log.durable(run);
        log.forget_runs(SegmentId::MAX, (SegmentId::MAX, u64::MAX));
        (0..new_producers).for_each(|_| self.broker.topics.producer_added());
        Ok(())
    }

    /// What a pack stands for that has taken the place of other segments since the checkpoint.
    pub fn pack(&mut self, number: u64, coverage: &[Coverage]) -> Result<(), String> {
        for coverage in coverage {
            let outcome = tidying::outcome_of(coverage)?;
            let Some(partition) = self.broker.topics.partition_mut(coverage.id) else { continue };
            let with = tidying::range_of(SegmentId::Pack(number), coverage);
            partition.log.replace(coverage.from_offset, coverage.to_offset, with);
            if let Some(outcome) = outcome {
                partition.log.cleaned(&outcome);
            }
        }
        Ok(())
    }

    /// Records that were found after the checkpoint.
    pub fn replayed_records(&self) -> u64 {
        self.records
    }

    fn apply_starts(&mut self) {
        for (id, offset) in std::mem::take(&mut self.starts) {
            if let Some(partition) = self.broker.topics.partition_mut(id) {
                partition.log.advance_start(offset);
                partition.log.next_offset = partition.log.next_offset.max(offset);
                partition.log.high_watermark = partition.log.next_offset;
            }
        }
    }

    /// Checks that every segment with live data is there, and gives the state as a broker that must not serve: nothing is
    /// begun that would change the log. With `raise_epochs` each partition begins a new leader epoch at its end, one that no other
    /// restore from the same state has given.
    pub fn at_rest(mut self, now: Now, raise_epochs: bool) -> Result<Broker, String> {
        self.apply_starts();
        self.place_remote();
        // Topics without settings of their own have the broker's, which were changed while it ran.
        self.broker.apply_broker_configs();
        take_stock(&mut self.broker, now, raise_epochs.then(|| epoch_of_another_history(now)))?;
        self.know_segments();
        Ok(self.broker)
    }

    /// Segments that have no file here and are in the object store.
    fn place_remote(&mut self) {
        let Broker { tiering, segments, .. } = &mut self.broker;
        for (id, bytes) in tiering.stored() {
            if !segments.contains(id) {
                segments.remote(id, bytes);
            }
        }
    }

    fn know_segments(&mut self) {
        self.broker.tidying.know_all();
        for (id, runs) in &self.runs {
            self.broker.segments.restore_runs(*id, *runs);
        }
    }

    /// Checks that every segment with live data is there, and gives the broker, ready to serve.
    pub fn finish(mut self, now: Now, state: LogState) -> Result<Broker, String> {
        self.apply_starts();
        self.place_remote();
        let broker = &mut self.broker;
        broker.apply_broker_configs();
        broker.gather = Gather::new(state.next_seq);
        broker.durable = state.next_seq.saturating_sub(1);
        broker.space_bytes = state.space_bytes;
        broker.position = state.position;
        broker.segments.writing(state.position.segment, state.position.position);
        // What was acknowledged before its fsync may be gone: a new epoch lets clients find out (KIP-101, KIP-320).
        let lossy = broker.settings.config.fsync != Fsync::Always;
        let may_lack = (broker.lossy || lossy) && !state.clean;
        // Taking over, this is an older copy of a log that has gone on elsewhere.
        let is_copy = broker.settings.config.storage.take_over;
        let raised = is_copy.then(|| epoch_of_another_history(now)).or(may_lack.then_some(0));
        take_stock(broker, now, raised)?;
        broker.check_store()?;
        if raised.is_some() {
            // No request is let in before the new epochs are in a checkpoint: an epoch must never name two histories.
            broker.checkpoint.want();
        }
        if broker.lossy != lossy {
            if !broker.has_space_for_metadata() {
                return Err("the disk is full, so a change of --fsync cannot be recorded: make room first".to_owned());
            }
            broker.lossy = lossy;
            broker.append_meta(metalog::lossy_entry(lossy));
        }
        self.know_segments();
        let broker = &mut self.broker;
        broker.segments.find_dead(broker.durable);
        broker.segments.set_floor(state.floor);
        broker.tiering.recovered(broker.durable);
        broker.forget_gone_packs();
        broker.forget_gone_objects();
        broker.remove_segments();
        broker.give_space_back(now);
        broker.evict(now);
        broker.upload_if_due(now);
        broker.count_tiers();
        broker.schedule_retention(now);
        broker.schedule_cleaning(now);
        broker.groups.recovered(now);
        broker.group_configs_recovered(now);
        broker.share_recovered(now);
        broker.recover_txns(now);
        // No request is let in while one is due, and nothing else may happen that would take it.
        broker.checkpoint_if_due(now);
        Ok(self.broker)
    }
}

/// A leader epoch for a log that begins anew from a state of which others may begin too: no two of them may give the same epoch to
/// different records, and the later one has to be the higher. So it is the seconds since 2020, which fit until 2088.
fn epoch_of_another_history(now: Now) -> i32 {
    const YEAR_2020_S: i64 = 1_577_836_800;
    i32::try_from(now.wall_ms / 1000 - YEAR_2020_S).unwrap_or(0)
}

/// Counts the live data of every segment, and finds segments that are missing or cut short. The error names the file. With `raised`,
/// each partition begins a new leader epoch, that one at least.
fn take_stock(broker: &mut Broker, now: Now, raised: Option<i32>) -> Result<(), String> {
    let mut missing = None;
    let mut held: BTreeMap<SegmentId, u64> = BTreeMap::new();
    let segments = &mut broker.segments;
    broker.topics.each_log_mut(|log| {
        for range in log.ranges() {
            *held.entry(range.segment).or_default() += range.bytes;
            if segments.contains(range.segment) {
                segments.add_live(range, log.id);
            } else {
                missing = Some((log.id, *range));
            }
        }
        log.producers.cap_last_append(now.wall_ms);
        if canary::has(Fault::SequenceForgotten) {
            log.producers.expire(i64::MAX);
        }
        log.logical.cap_times(now.wall_ms);
        if let Some(at_least) = raised {
            log.raise_epoch(at_least);
        }
    });
    if let Some((id, range)) = missing {
        return Err(format!(
            "{} is missing; it held offsets {} to {} of partition {} of topic {}. Put the file back, or \
             restore the data directory from a backup",
            range.segment,
            range.base_offset,
            range.last_offset,
            id.partition,
            broker.topics.by_id(id.topic).map_or_else(|| id.topic.to_string(), |topic| topic.name.to_string())
        ));
    }
    if let Some((id, bytes)) = held.into_iter().find(|(id, bytes)| *bytes > broker.segments.bytes_of(*id)) {
        return Err(format!(
            "{id} is cut short: it has {} bytes, and the records in it alone had {bytes}. Put the file back, \
             or restore the data directory from a backup",
            broker.segments.bytes_of(id)
        ));
    }
    Ok(())
}

impl Replay for Recovering {
    fn checkpoint(&mut self, bytes: &[u8]) -> Result<(), String> {
        Recovering::checkpoint(self, bytes)
    }

    fn meta(&mut self, entry: MetaEntry) -> Result<(), String> {
        Recovering::meta(self, &entry)
    }

    fn run(&mut self, run: RunRef, batches: &[u8]) -> Result<(), String> {
        Recovering::run(self, run, batches)
    }

    fn packs(&self) -> Vec<u64> {
        self.broker.tidying.unknown()
    }

    fn pack(&mut self, number: u64, coverage: Vec<Coverage>) -> Result<(), String> {
        Recovering::pack(self, number, &coverage)
    }

    fn segment(&mut self, id: SegmentId, bytes: u64, _sealed: bool) {
        Recovering::segment(self, id, bytes);
    }
}

impl LogState {
    /// What the open log says.
    pub fn of(recovered: &Recovered) -> LogState {
        LogState {
            next_seq: recovered.next_seq,
            position: recovered.position,
            space_bytes: recovered.space_bytes,
            floor: recovered.floor,
            clean: recovered.clean,
        }
    }
}

#[cfg(test)]
pub(in crate::broker) mod tests {
    use super::*;
    use crate::config::Config;
    use crate::metrics::Metrics;
    use crate::wire::batch::BatchBuilder;
    use crate::wire::Uuid;

    pub fn settings() -> Settings {
        Settings {
            config: Config::default(),
            cluster_id: "cluster".to_owned(),
            advertised_host: None,
            advertised_port: None,
            seed: 1,
            metadata_in_log: true,
            metrics: Arc::new(Metrics::new()),
        }
    }

    fn begun() -> Recovering {
        Recovering::new(settings())
    }

    #[test]
    fn a_topic_of_more_partitions_than_there_can_be_is_refused_before_it_costs_memory() {
        let mut recovering = begun();
        let mut entry = |id: u8, partitions: usize| {
            recovering.meta(&topics::topic_entry(Uuid([id; 16]), &format!("t{id}"), partitions, &BTreeMap::new()))
        };
        assert!(entry(1, i32::MAX as usize).is_err());
        assert!(entry(1, 10).is_ok() && entry(1, 12).is_ok());
        assert!(entry(2, limits::PARTITIONS_MAX - 11).is_err());
    }

    /// A broker that found one record of one topic in segment 1, whose file has `file_bytes` bytes (`None`: no file).
    fn found(file_bytes: Option<u64>) -> Result<Broker, String> {
        let mut recovering = begun();
        let id = PartitionId { topic: Uuid([7; 16]), partition: 0 };
        recovering.meta(&topics::topic_entry(id.topic, "orders", 1, &BTreeMap::new())).unwrap();
        let mut builder = BatchBuilder::new();
        builder.push(1000, None, Some(b"value"), &[]);
        let batch = builder.build().unwrap();
        let run = RunRef {
            id,
            base_offset: 0,
            last_offset: 0,
            max_timestamp: 1000,
            segment: SegmentId::FIRST,
            position: 4096,
            len: batch.len() as u32,
        };
        recovering.run(run, &batch).unwrap();
        if let Some(bytes) = file_bytes {
            recovering.segment(SegmentId::FIRST, bytes);
        }
        recovering.segment(SegmentId::Wal(2), 1 << 20);
        let position = LogPosition { segment: SegmentId::Wal(2), position: 4096 };
        let state = LogState { next_seq: 5, position, space_bytes: 1 << 30, floor: Floor::default(), clean: false };
        recovering.finish(Now { mono_us: 0, wall_ms: 2000 }, state)
    }

    #[test]
    fn a_segment_that_is_missing_or_cut_short_is_named_and_nothing_is_served() {
        assert!(found(Some(1 << 20)).is_ok());
        let missing = found(None).unwrap_err();
        assert!(missing.contains("wal/00000000000000000001.log is missing") && missing.contains("orders"), "{missing}");
        let cut = found(Some(20)).unwrap_err();
        assert!(cut.contains("wal/00000000000000000001.log is cut short"), "{cut}");
    }
}
