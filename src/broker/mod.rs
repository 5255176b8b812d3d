//! Owns the broker state machine: it is told events and returns effects.
//!
//! The shell (net/ in the server, tests/sim in the simulation) calls the methods of `Broker` from one thread and carries
//! out the effects. Nothing here opens a file or a socket, starts a thread or reads a clock: `Now` comes with each event.
//!
//! The rules that hold everywhere:
//! - What is *appended* (an offset assigned, a sequence number accepted, an offset commit taken) gets into the next group.
//!   A reply that tells of it is built at once and held back until that group is durable.
//! - A control-plane reply waits for all metadata appended before it, whoever appended it; so nobody ever sees state
//!   that a crash could take back.
//! - Replies of one connection leave in the order of its requests.

mod admin;
mod agenda;
pub mod apis;
pub mod checkpoint;
pub mod cleaning;
pub mod configs;
mod coordinator;
mod dispatch;
pub mod effect;
pub mod extract;
pub mod features;
mod fetch;
pub mod gather;
pub mod groups;
mod list_offsets;
pub mod log;
pub mod logical;
mod metadata;
pub mod metalog;
mod produce;
pub mod producers;
pub mod recovery;
pub mod reply;
mod retention;
pub mod scram;
pub mod segments;
pub mod settings;
pub mod share;
mod tidying;
pub mod tiering;
pub mod topics;
pub mod txn;
pub mod work;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use self::gather::Gather;
use self::reply::{Conns, ReplyTo};
use self::segments::Segments;
use self::settings::Settings;
use self::topics::{StableMap, Topics};
use crate::limits;
use crate::wal::ring::Ring;
use crate::wal::{self, Group, GroupSeq, LogPosition, MetaEntry, PartitionId, SegmentId, Splice};
use crate::wire::{self, frame, Encoded, ErrorCode};

pub use effect::{CheckpointDone, CheckpointJob, ConnId, ConnInfo, Effect, Insert, Now, Response};

/// What a timer does when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A parked fetch has waited as long as its client allows.
    Fetch(u64),
    /// What a reader brought too late, and nobody has asked for since, goes.
    LateReads,
    /// Something may have expired.
    Retention,
    /// Something may be due for compaction.
    Cleaning,
    /// The unsealed segment has been open for `log.roll.ms`.
    Roll(SegmentId),
    /// Ask the log whether there is space again.
    Probe,
    /// A checkpoint would let segments go, or writing one failed.
    Checkpoint,
    /// Tidying failed; try again.
    Tidy,
    /// Making an object smaller failed; try again.
    Shrink,
    /// The making of this pack, which reads from the object store, has taken long.
    TidyPatience(u64),
    /// Much of the unsealed segment was deleted.
    Seal(SegmentId),
    /// The log is to be uploaded.
    Upload,
    /// A local copy of something that is in the object store may be old enough to go.
    Evict,
    /// Ends of transactions are left from recovery, for which the disk had no room.
    Txns,
}

/// The broker. See the module's page for its rules.
#[derive(Debug)]
pub struct Broker {
    settings: Arc<Settings>,
    conns: Conns,
    effects: VecDeque<Effect>,
    gather: Gather,
    /// The last group that is durable.
    durable: GroupSeq,
    /// The group that is being written.
    in_flight: Option<GroupSeq>,
    /// Upper bound of what that group takes of `space_bytes`, which is from before it.
    in_flight_bytes: usize,
    /// Where the next group goes.
    position: LogPosition,
    /// Bytes that the log can take without asking the filesystem.
    space_bytes: u64,
    /// Whether the log was last found without space, so that this is said once.
    out_of_space: bool,
    topics: Topics,
    segments: Segments,
    tidying: tidying::Tidying,
    tiering: tiering::Tiering,
    ring: Ring,
    /// Groups that are in the ring, and the partitions whose runs they hold.
    ring_groups: VecDeque<(LogPosition, Vec<PartitionId>)>,
    /// Files of the segments that reach into the ring.
    handles: std::collections::BTreeMap<SegmentId, wal::SegmentHandle>,
    groups: groups::Groups,
    share: share::ShareGroups,
    producer_ids: txn::ProducerIds,
    txns: txn::Txns,
    fetches: fetch::Fetches,
    list_offsets: StableMap<u64, list_offsets::Listing>,
    produces: StableMap<u64, produce::PendingProduce>,
    checkpoint: checkpoint::Progress,
    broker_configs: configs::BrokerConfigs,
    features: features::Features,
    resource_configs: configs::ResourceConfigs,
    scram: scram::Scram,
    timers: BTreeSet<(u64, Timer)>,
    retention: retention::Retention,
    cleanings: cleaning::Cleanings,
    /// The segment for which a roll is timed.
    rolling: Option<SegmentId>,
    next_job: u64,
    rng: settings::Rng,
    /// The log says that acknowledgements may come before their fsync.
    lossy: bool,
    stopping: bool,
    /// For the canary that believes the wall clock: what both clocks showed at first.
    #[cfg(feature = "canary")]
    set_clock: Option<Now>,
}

/// The calls of the shell, in the order in which a turn of the reactor makes them.
impl Broker {
    /// A client connected.
    pub fn connected(&mut self, conn: ConnId, info: ConnInfo) {
        self.conns.connected(conn, info);
    }

    /// A connection is gone, for whatever reason. What it had appended stays appended.
    pub fn disconnected(&mut self, now: Now, conn: ConnId) {
        if self.conns.disconnected(conn) {
            self.drop_fetch_of(conn);
            self.groups.disconnected(conn);
            self.share_disconnected(now, conn);
        }
    }

    /// The client has closed its side of the connection. It is not waited for: what it has parked (a fetch, a join) is given up
    /// without an answer, so that what it sent behind that can be carried out. Its members stay until their sessions end.
    pub fn abandon(&mut self, now: Now, conn: ConnId) {
        let mut given_up = self.groups.unpark(conn);
        given_up.extend(self.give_up_fetch_of(conn));
        given_up.extend(self.give_up_share_fetch_of(now, conn));
        for slot in given_up {
            self.conns.fill(conn, slot, 0, None, self.durable, &mut self.effects);
        }
    }

    /// Whether requests of this connection are not answered yet.
    pub fn owes(&self, conn: ConnId) -> bool {
        self.conns.owes(conn)
    }

    /// Whether a frame of this connection with this API key may be handed in now. False while an earlier request of the
    /// connection holds it (a parked fetch, a join), while its pipeline is full, while a checkpoint waits for the groups on
    /// their way, or, for Produce, while the log is behind.
    /// The shell keeps the frame and stops reading the socket. It is told when an earlier request does not hold the connection any
    /// more, if it asks for that with `will_tell`; otherwise it asks again after each group and each job that is done.
    pub fn ready_for(&self, conn: ConnId, api_key: i16) -> bool {
        let log_behind = api_key == wire::ApiKey::PRODUCE.0 && self.gather.bytes() >= limits::GATHER_BYTES_MAX;
        !self.stopping && !log_behind && !self.checkpoint.is_due() && self.conns.ready(conn)
    }

    /// Whether it is an earlier request of this connection, or its full pipeline, that keeps back the next frame; then
    /// `Effect::Ready` tells when that is over.
    pub fn will_tell(&mut self, conn: ConnId) -> bool {
        self.conns.will_tell(conn)
    }

    /// One request frame without its length prefix.
    pub fn request(&mut self, now: Now, conn: ConnId, frame: Bytes) {
        self.dispatch(now, conn, frame);
    }

    /// The group in flight is durable.
    pub fn written(&mut self, now: Now, written: wal::Written) {
        self.in_flight = None;
        self.in_flight_bytes = 0;
        self.durable = written.seq;
        self.note_space(now, written.space_bytes);
        self.count_written(&written);
        let mut partitions = Vec::with_capacity(written.runs.len());
        for run in &written.runs {
            if let Some((partition, settings)) = self.topics.partition_and_settings_mut(run.id) {
                let log = &mut partition.log;
                let stable_before = log.last_stable_offset();
                let first_in_segment = log.durable(*run);
                self.segments.add_run(run, first_in_segment);
                let stable_moved = log.last_stable_offset() > stable_before;
                partitions.push((run.id, run.len, stable_moved));
                let due_ms = retention::due_ms(log, settings, now.wall_ms);
                let rolled = settings.compact && log.logical.begins_within(run.base_offset, run.last_offset);
                self.schedule_retention_after(now, run.id, due_ms);
                if rolled {
                    self.schedule_cleaning_of(now, run.id);
                }
            }
        }
        self.keep_in_ring(&written, partitions.iter().map(|(id, ..)| *id).collect());
        self.follow_segments(now, &written);
        self.conns.durable(self.durable, &mut self.effects);
        for (id, len, stable_moved) in partitions {
            if stable_moved {
                self.stable_offset_moved(now, id);
            }
            self.wake_fetches(now, id, len, stable_moved);
            self.wake_share_fetches(now, id, None);
        }
        self.remove_segments();
        if written.sealed.is_some() {
            self.give_space_back(now);
            self.look_at_eviction(now);
            self.upload_if_due(now);
            self.count_tiers();
        }
        self.evict_relocated(now);
        self.note_news(now);
        self.checkpoint_if_due(now);
    }

    /// A reader has an answer.
    pub fn read_done(&mut self, now: Now, done: wal::ReadDone) {
        self.reader_is_back(done.job, done.id);
        if let Err(wal::ReadError::Away(why)) = &done.result {
            self.store_is_away(now, why);
        }
        if self.fetches.waits_for(done.job) {
            self.fetch_read_done(now, done);
        } else if self.share_waits_for(done.job) {
            self.share_read_done(now, done);
        } else {
            self.list_offsets_read_done(now, done);
        }
    }

    /// A worker has an answer.
    pub fn work_done(&mut self, now: Now, done: work::WorkDone) {
        match done {
            work::WorkDone::Produce { job, parts } => self.produce_work_done(now, job, parts),
            work::WorkDone::Match(done) => self.group_topics_matched(now, done),
            work::WorkDone::MatchTransactions(done) => self.transactions_matched(now, done),
        }
    }

    /// A checkpoint was written, or could not be.
    pub fn checkpoint_done(&mut self, now: Now, done: CheckpointDone) {
        self.checkpoint.done();
        match done.result {
            Ok(floor) => self.segments.set_floor(floor),
            Err(why) => {
                ::log::error!("cannot write a checkpoint, so old segments stay for now: {why}");
                // Nothing is held back meanwhile: the timer asks for it again.
                self.checkpoint = checkpoint::Progress::default();
                self.time_checkpoint(now.mono_us + limits::CHECKPOINT_RETRY_US);
                return;
            }
        }
        self.remove_segments();
        self.evict(now);
        self.give_space_back(now);
        self.upload_if_due(now);
        self.checkpoint_if_due(now);
    }

    /// The time as one believes it who measures by the wall clock.
    #[cfg(feature = "canary")]
    fn believed(&mut self, now: Now) -> Now {
        let first = *self.set_clock.get_or_insert(now);
        let passed_us = now.wall_ms.saturating_sub(first.wall_ms).max(0) as u64 * 1000;
        match crate::canary::has(crate::canary::Fault::WallClock) {
            true => Now { mono_us: now.mono_us.max(first.mono_us + passed_us), ..now },
            false => now,
        }
    }

    /// Carries out every timer that is due.
    pub fn expire(&mut self, now: Now) {
        #[cfg(feature = "canary")]
        let now = self.believed(now);
        while let Some((at, timer)) = self.timers.first().copied() {
            if at > now.mono_us {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Fetch(id) => self.fetch_timed_out(now, id),
                Timer::LateReads => self.late_reads_expire(now),
                Timer::Retention => self.retain(now),
                Timer::Cleaning => {
                    self.look_at_cleaning(now);
                    self.tidy_if_due(now);
                }
                Timer::Roll(segment) if segment == self.segments.unsealed() => self.gather.seal(),
                Timer::Roll(_) => {}
                Timer::Probe => {
                    self.gather.probe();
                    if self.out_of_space {
                        self.evict(now);
                    }
                }
                Timer::Checkpoint => self.checkpoint_is_due(),
                Timer::Tidy => self.tidy_again(now),
                Timer::Shrink => self.tidy_if_due(now),
                Timer::TidyPatience(pack) => self.tidy_patience_is_over(now, pack),
                Timer::Seal(segment) if segment == self.segments.unsealed() => self.gather.seal(),
                Timer::Seal(_) => {}
                Timer::Upload => self.upload_timer(now),
                Timer::Evict => self.evict_timer(now),
                Timer::Txns => self.finish_txns(now),
            }
        }
        self.expire_txns(now);
        if self.has_space_for_groups() {
            self.expire_groups(now);
        }
        self.expire_share(now);
        self.checkpoint_if_due(now);
    }

    /// When `expire` is next needed, in monotonic µs; `None` while nothing is timed.
    pub fn deadline_us(&self) -> Option<u64> {
        let groups = if self.has_space_for_groups() { self.groups.deadline_us() } else { None };
        let timer = self.timers.first().map(|(at, _)| *at);
        let others = self.txns.deadline_us().into_iter().chain(self.share_deadline_us());
        timer.into_iter().chain(groups).chain(others).min()
    }

    /// The next group to write, if there is anything. Called only while no group is in flight.
    pub fn next_group(&mut self, _now: Now) -> Option<Group> {
        debug_assert!(self.in_flight.is_none());
        let (group, bytes) = self.gather.take()?;
        self.in_flight_bytes = bytes;
        self.in_flight = Some(group.seq);
        Some(group)
    }

    /// The next effect to carry out, oldest first.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Bytes of the log that are still in memory, from which the shell resolves splices.
    pub fn ring_bytes(&self, splice: &Splice) -> Option<Bytes> {
        self.ring.get(splice.handle.segment, splice.position, splice.len)
    }

    /// Bytes of memory of answers that are made and cannot be sent yet, as they wait for the disk or for their turn.
    pub fn kept_answer_bytes(&self) -> usize {
        self.conns.kept_bytes()
    }

    /// Answers of so many bytes have been handed out that clients have not read. To be told after anything that answers; fetches
    /// that wait for memory go on when there is some.
    pub fn unsent(&mut self, now: Now, bytes: usize) {
        self.serve_fetches_in_line(now, bytes);
    }

    /// Begins a clean stop: parked fetches and joins are answered, new requests are refused by closing. The shell goes on
    /// with groups and sends until `is_drained`.
    pub fn stop(&mut self, now: Now) {
        self.stopping = true;
        self.answer_all_fetches(now);
        self.answer_all_share_fetches(now);
        self.stop_groups(now);
        self.gather.seal();
        self.checkpoint.want();
        self.checkpoint_if_due(now);
    }

    /// After `stop`: everything appended is durable and answered, and the last checkpoint has been written.
    pub fn is_drained(&self) -> bool {
        self.stopping
            && self.in_flight.is_none()
            && self.gather.is_empty()
            && self.checkpoint.is_idle()
            && self.conns.unanswered() == 0
            && self.effects.is_empty()
    }
}

/// What the rooms of the broker share.
impl Broker {
    /// Answers a control-plane request: after all metadata appended so far is durable.
    fn reply<'m, M: wire::Response<'m>>(&mut self, to: ReplyTo, message: &M) {
        self.reply_after(self.gather.meta_seq(), to, message);
    }

    /// Answers once group `wait` is durable.
    fn reply_after<'m, M: wire::Response<'m>>(&mut self, wait: GroupSeq, to: ReplyTo, message: &M) {
        let encoded = frame::response(to.version, to.correlation_id, message);
        self.send_after(wait, to, encoded, &[]);
    }

    /// Sends an encoded answer whose externals are lists of inserts: the external's tag is the index.
    fn send_after(&mut self, wait: GroupSeq, to: ReplyTo, encoded: Encoded, inserts: &[Vec<Insert>]) {
        let placed = encoded.externals.iter().flat_map(|external| {
            let inserts = inserts.get(external.tag as usize).map_or(&[][..], Vec::as_slice);
            inserts.iter().map(|insert| (external.position, insert.clone()))
        });
        let response = Response { inserts: placed.collect(), head: encoded.bytes };
        self.conns.fill(to.conn, to.slot, wait, Some(response), self.durable, &mut self.effects);
    }

    /// Ends a request that gets no answer (acks=0).
    fn no_reply(&mut self, to: ReplyTo) {
        self.conns.fill(to.conn, to.slot, 0, None, self.durable, &mut self.effects);
    }

    fn close(&mut self, conn: ConnId, why: impl Into<String>) {
        self.effects.push_back(Effect::Close { conn, why: why.into() });
    }

    /// Appends a change of metadata.
    fn append_meta(&mut self, entry: MetaEntry) -> GroupSeq {
        self.gather.meta(entry)
    }

    fn job(&mut self) -> u64 {
        self.next_job += 1;
        self.next_job
    }

    fn set_timer(&mut self, at_us: u64, timer: Timer) {
        self.timers.insert((at_us, timer));
    }

    /// Sets a timer of which one is enough, and which is armed for this time, if it is: an earlier one stays, a later one is
    /// replaced. For when it is armed now.
    fn arm(&mut self, armed_us: Option<u64>, at_us: u64, timer: Timer) -> Option<u64> {
        match armed_us {
            Some(armed_us) if armed_us <= at_us => return Some(armed_us),
            Some(armed_us) => self.timers.remove(&(armed_us, timer)),
            None => false,
        };
        self.set_timer(at_us, timer);
        Some(at_us)
    }

    /// The monotonic time, in µs, of a wall-clock time in ms; not before `log.retention.check.interval.ms` is over.
    fn next_check_us(&self, now: Now, wall_ms: i64) -> u64 {
        let interval_ms = self.settings.config.log_retention_check_interval_ms.max(1);
        let wait_ms = wall_ms.saturating_sub(now.wall_ms).max(interval_ms);
        now.mono_us.saturating_add(u64::try_from(wait_ms).unwrap_or(0).saturating_mul(1000))
    }

    /// Upper bound of what is gathered or being written, and so not taken from `space_bytes` yet.
    fn unwritten_bytes(&self) -> usize {
        self.gather.bytes() + self.in_flight_bytes
    }

    /// Whether the log can take a batch now, over what has been gathered already; a reserve is left for metadata.
    fn has_space_for(&self, bytes: usize) -> bool {
        let reserve = limits::META_RESERVE_BYTES.min(self.settings.config.log_segment_bytes as usize / 4);
        let needed = self.unwritten_bytes() + Gather::cost(bytes) + reserve;
        needed as u64 <= self.space_bytes
    }

    /// A request found no space: says so once, and asks the log again after a while.
    fn met_full_disk(&mut self, now: Now) {
        if !self.out_of_space {
            self.out_of_space = true;
            ::log::error!("the disk is full: Produce is refused with KAFKA_STORAGE_ERROR until there is space");
        }
        if !self.timers.iter().any(|(_, timer)| *timer == Timer::Probe) {
            self.set_timer(now.mono_us + limits::SPACE_PROBE_US, Timer::Probe);
        }
    }

    fn note_space(&mut self, _now: Now, space_bytes: u64) {
        let grown = space_bytes > self.space_bytes;
        self.space_bytes = space_bytes;
        if self.out_of_space && grown && self.has_space_for(limits::GROUP_BYTES_MAX) {
            self.out_of_space = false;
            ::log::info!("there is disk space again: Produce is served");
        }
    }

    fn count_written(&self, written: &wal::Written) {
        let metrics = &self.settings.metrics;
        let records: i64 = written.runs.iter().map(|run| run.last_offset - run.base_offset + 1).sum();
        metrics.messages_stored.add(u64::try_from(records).unwrap_or(0));
        if !written.buf.is_empty() {
            metrics.wal_group_bytes.observe(written.buf.len() as u64);
            metrics.wal_fsync_latency.observe(written.sync_micros);
        }
    }

    /// Keeps a written group in memory, and forgets runs that have left it.
    fn keep_in_ring(&mut self, written: &wal::Written, partitions: Vec<PartitionId>) {
        if written.buf.is_empty() {
            return;
        }
        let at = LogPosition { segment: written.handle.segment, position: written.position };
        self.ring.push(at.segment, at.position, written.buf.clone());
        self.ring_groups.push_back((at, partitions));
        self.handles.insert(at.segment, written.handle.clone());
        let (start, unsealed) = (self.ring.start(), self.segments.unsealed());
        self.handles.retain(|segment, _| *segment >= start.0);
        while let Some((at, _)) = self.ring_groups.front() {
            if (at.segment, at.position) >= start {
                break;
            }
            for id in self.ring_groups.pop_front().map(|(_, ids)| ids).unwrap_or_default() {
                if let Some(partition) = self.topics.partition_mut(id) {
                    partition.log.forget_runs(unsealed, start);
                }
            }
        }
    }

    /// Follows the log into a new segment.
    fn follow_segments(&mut self, now: Now, written: &wal::Written) {
        if let Some((id, bytes)) = written.sealed {
            // The group that made the log roll may itself stand in the new segment already.
            let touched = self.segments.sealed(id, bytes, written.seq);
            for partition_id in touched {
                if let Some(partition) = self.topics.partition_mut(partition_id) {
                    partition.log.forget_runs(written.next.segment, self.ring.start());
                    if partition.log.ranges().next_back().is_some_and(|range| range.segment > id) {
                        self.segments.touch(partition_id);
                    }
                }
            }
            self.checkpoint.want();
        }
        // A segment's age counts from its first group, also when it was opened by a start; an empty one never rolls.
        let segment = written.handle.segment;
        if !written.buf.is_empty() && segment == written.next.segment && self.rolling != Some(segment) {
            self.rolling = Some(segment);
            let roll_ms = u64::try_from(self.settings.config.log_roll_ms).unwrap_or(u64::MAX / 2000);
            let at_us = now.mono_us.saturating_add(roll_ms.saturating_mul(1000));
            self.set_timer(at_us, Timer::Roll(segment));
        }
        self.position = written.next;
        self.segments.writing(written.next.segment, written.next.position);
        self.count_storage();
    }

    /// The error for a topic that a request names and that is not there.
    fn no_such_topic(version_has_ids: bool) -> ErrorCode {
        if version_has_ids {
            ErrorCode::UNKNOWN_TOPIC_ID
        } else {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        }
    }
}
