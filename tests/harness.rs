//! Owns a broker without a machine around it: requests go in as frames, groups become durable on demand, in memory.
//!
//! `Harness::call` is a client that waits for its answer. For everything finer (answers that are held back, requests that
//! are parked) there are `send`, `write_one_group` and `take_answers`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chronik::broker::recovery::{LogState, Recovering};
use chronik::broker::settings::Settings;
use chronik::broker::work::{self, WorkDone, WorkJob};
use chronik::broker::{Broker, CheckpointDone, ConnId, ConnInfo, Effect, Insert, Now, Response};
use chronik::config::Config;
use chronik::metrics::Metrics;
use chronik::sys::aligned::AlignedBuf;
use chronik::sys::disk::{DiskFile, BLOCK_BYTES};
use chronik::wal::checkpoint::Floor;
use chronik::wal::compact::{Indexing, Verdict};
use chronik::wal::pack::{Coverage, Kept};
use chronik::wal::recovery::Replay;
use chronik::wal::tidy::{Tidied, TidyDone, TidyError, TidyJob, TidyMode, TidyPart};
use chronik::wal::{
    BatchPlace, Group, GroupSeq, LogPosition, MetaEntry, PartitionId, Place, PlannedRun, ReadDone, ReadFound, ReadJob,
    ReadKind, RunRef, SegmentHandle, SegmentId, Splice, Written,
};
use chronik::wire::msg::{
    IncrementalAlterConfigsAlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
};
use chronik::wire::{self, frame, Api, ErrorCode, Message, Request};

/// The broker under test, its log, and what it has sent.
pub struct Harness {
    pub broker: Broker,
    pub now: Now,
    pub log: MemLog,
    pub settings: Settings,
    next_conn: u64,
    next_correlation: i32,
    apis: BTreeMap<(ConnId, i32), (&'static Api, i16)>,
    answers: Vec<Answer>,
    /// Connections that the broker closed, and why.
    pub closed: Vec<(ConnId, String)>,
    /// Segments that the broker no longer needs.
    pub removed: Vec<SegmentId>,
    /// Uploads that the broker has asked for, and segments whose local copies it lets go.
    pub uploads: usize,
    pub evicted: Vec<SegmentId>,
    /// Look-ups are not answered by themselves but kept here.
    pub holds_reads: bool,
    pub reads: Vec<ReadJob>,
    /// Jobs of the worker are not done by themselves but kept here.
    pub holds_work: bool,
    pub work: Vec<WorkJob>,
    /// Tidyings are not done by themselves but kept here.
    pub holds_tidying: bool,
    pub tidying: Vec<TidyJob>,
    /// How often the one under way was to stop.
    pub tidying_stops: u32,
    checkpoint: Option<(GroupSeq, LogPosition, Vec<u8>)>,
}

/// A response as the client reads it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub conn: ConnId,
    pub correlation_id: i32,
    pub version: i16,
    pub body: Bytes,
}

impl Answer {
    /// The message. Panics when it is not one of this kind and the request's version.
    pub fn decode<'a, M: Message<'a>>(&'a self) -> M {
        wire::decode(&self.body, self.version).unwrap_or_else(|error| panic!("{}: {error}", M::API.name))
    }
}

impl Harness {
    /// An empty broker with the default settings.
    pub fn new() -> Harness {
        Harness::with(Config::default())
    }

    /// An empty broker.
    pub fn with(config: Config) -> Harness {
        let settings = Settings {
            config,
            cluster_id: "harness-cluster".into(),
            advertised_host: None,
            advertised_port: None,
            seed: 7,
            metadata_in_log: true,
            metrics: Arc::new(Metrics::new()),
        };
        let now = Now { mono_us: 1_000_000, wall_ms: 1_700_000_000_000 };
        let log = MemLog::default();
        let state = log.state(1, Floor::default(), true);
        let broker = Recovering::new(settings.clone()).finish(now, state).unwrap();
        let (apis, answers, closed, removed) = Default::default();
        Harness {
            broker,
            now,
            log,
            settings,
            next_conn: 0,
            next_correlation: 0,
            apis,
            answers,
            closed,
            removed,
            uploads: 0,
            evicted: Vec::new(),
            holds_reads: false,
            reads: Vec::new(),
            holds_work: false,
            work: Vec::new(),
            holds_tidying: false,
            tidying: Vec::new(),
            tidying_stops: 0,
            checkpoint: None,
        }
    }

    /// Starts the broker again from its last checkpoint and the log, as after a crash: what was not durable is gone, and
    /// so are all connections.
    pub fn restart(&mut self) {
        self.restart_with(self.settings.config.clone());
    }

    /// Starts the broker again as after a crash with metadata in files: of the last group of the log, which is lost, the
    /// metadata that `kept` picks had been written to its files already.
    pub fn restart_half_way(&mut self, kept: impl Fn(&MetaEntry) -> bool) {
        let (_, lost) = self.log.groups.pop_last().expect("a group was written");
        let meta: Vec<MetaEntry> = lost.meta.into_iter().filter(|entry| kept(entry)).collect();
        // What files hold is applied after the rest of the metadata, as if it stood in a group of its own.
        let seq = self.log.groups.last_key_value().map_or(0, |(seq, _)| *seq) + 1;
        self.log.groups.insert(seq, WrittenGroup { meta, runs: Vec::new() });
        self.restart();
    }

    /// Like `restart`, with other options.
    pub fn restart_with(&mut self, config: Config) {
        self.settings.config = config;
        let mut recovering = Recovering::new(self.settings.clone());
        let (seq, position, bytes) = self.checkpoint.clone().unwrap_or_default();
        if self.checkpoint.is_some() {
            recovering.checkpoint(&bytes).unwrap();
        }
        for (segment, file) in self.log.files.iter().filter(|(segment, _)| !self.removed.contains(segment)) {
            recovering.segment(*segment, file.bytes().len() as u64);
        }
        for (_, group) in self.log.groups.range(seq + 1..) {
            for entry in &group.meta {
                recovering.meta(entry).unwrap();
            }
            for run in &group.runs {
                recovering.run(*run, &self.log.read(run.segment, run.position, run.len)).unwrap();
            }
        }
        for number in Replay::packs(&recovering) {
            Replay::pack(&mut recovering, number, self.log.packs[&number].clone()).unwrap();
        }
        self.tidying.clear();
        let next_seq = self.log.groups.last_key_value().map_or(seq, |(seq, _)| *seq) + 1;
        let state = self.log.state(next_seq, Floor { segment: position.segment, seq }, false);
        self.broker = recovering.finish(self.now, state).unwrap();
        self.answers.clear();
        self.apis.clear();
    }

    /// A new client.
    pub fn connect(&mut self) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let local = "127.0.0.1:9092".parse().unwrap();
        let peer = "127.0.0.1:50000".parse().unwrap();
        self.broker.connected(conn, ConnInfo { local, peer });
        conn
    }

    /// Sends a request on a connection of its own and waits for the answer.
    pub fn call<'a, M: Request<'a>>(&mut self, version: i16, message: &M) -> Answer {
        let conn = self.connect();
        let answer = self.call_on(conn, version, message);
        self.broker.disconnected(self.now, conn);
        answer
    }

    /// Sets configurations of a resource; types as in the protocol: 2 is a topic, 32 a group.
    pub fn configure(&mut self, resource_type: i8, resource_name: &str, configs: &[(&str, &str)]) {
        let set = configs.iter().map(|(name, value)| IncrementalAlterConfigsAlterableConfig {
            name,
            config_operation: 0,
            value: Some(value),
        });
        let resources = vec![IncrementalAlterConfigsResource { resource_type, resource_name, configs: set.collect() }];
        let answer = self.call(1, &IncrementalAlterConfigsRequest { resources, validate_only: false });
        let response: IncrementalAlterConfigsResponse<'_> = answer.decode();
        assert_eq!(response.responses[0].error_code, ErrorCode::NONE, "{:?}", response.responses[0].error_message);
    }

    /// Sends a request and waits for its answer.
    pub fn call_on<'a, M: Request<'a>>(&mut self, conn: ConnId, version: i16, message: &M) -> Answer {
        let id = self.send(conn, version, message);
        self.settle();
        let at = self.answers.iter().position(|answer| answer.conn == conn && answer.correlation_id == id);
        let closed = &self.closed;
        self.answers.remove(at.unwrap_or_else(|| panic!("no answer to {}; closed: {closed:?}", M::API.name)))
    }

    /// Sends a request; its correlation id. Effects are carried out, groups are not written.
    pub fn send<'a, M: Request<'a>>(&mut self, conn: ConnId, version: i16, message: &M) -> i32 {
        self.next_correlation += 1;
        let id = self.next_correlation;
        self.apis.insert((conn, id), (M::API, version));
        let encoded = frame::request(version, id, Some("harness"), message);
        self.send_frame(conn, Bytes::from(encoded.bytes).slice(4..));
        id
    }

    /// Says what the answer to a frame that is handed in as it is will be.
    pub fn expect(&mut self, conn: ConnId, correlation_id: i32, api: &'static Api, version: i16) {
        self.apis.insert((conn, correlation_id), (api, version));
    }

    /// Hands in one frame as it is, without its length prefix.
    pub fn send_frame(&mut self, conn: ConnId, frame: Bytes) {
        let key = frame.get(..2).map_or(-1, |key| i16::from_be_bytes([key[0], key[1]]));
        assert!(self.broker.ready_for(conn, key), "the connection has a request under way");
        self.broker.request(self.now, conn, frame);
        self.carry_out();
    }

    /// Answers a look-up that was kept.
    pub fn answer_read(&mut self, job: ReadJob) {
        let done = self.log.find(job);
        self.broker.read_done(self.now, done);
    }

    /// Clients have so many bytes of their answers left to read.
    pub fn unsent(&mut self, bytes: usize) {
        self.broker.unsent(self.now, bytes);
        self.carry_out();
    }

    /// Reports what became of a job of the worker that was kept.
    pub fn work_done(&mut self, done: WorkDone) {
        self.broker.work_done(self.now, done);
        self.carry_out();
    }

    /// Reports what became of a tidying that was kept.
    pub fn tidy_done(&mut self, done: TidyDone) {
        self.broker.tidy_done(self.now, done);
        self.settle();
    }

    /// Answers that have left the broker since the last call.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// Gives back answers that were taken and are for somebody else.
    pub fn put_back(&mut self, answers: Vec<Answer>) {
        self.answers.extend(answers);
    }

    /// Seals the segment and takes a checkpoint, as a clean stop does, and goes on.
    pub fn checkpoint(&mut self) {
        self.broker.stop(self.now);
        self.settle();
        assert!(self.broker.is_drained());
        self.restart();
    }

    /// Lets time pass and timers fire.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
        self.now.wall_ms += ms as i64;
        self.broker.expire(self.now);
        self.carry_out();
    }

    /// Writes groups until there is nothing left to write.
    pub fn settle(&mut self) {
        self.carry_out();
        while self.write_one_group() {}
    }

    /// Makes the next group durable. False when there is none.
    pub fn write_one_group(&mut self) -> bool {
        let Some(group) = self.broker.next_group(self.now) else { return false };
        let written = self.log.write(group);
        self.broker.written(self.now, written);
        self.carry_out();
        true
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.broker.next_effect() {
            match effect {
                Effect::Send { conn, response } => self.receive(conn, &response),
                Effect::Close { conn, why } => {
                    self.broker.disconnected(self.now, conn);
                    self.closed.push((conn, why));
                }
                Effect::Read(job) if self.holds_reads => self.reads.push(job),
                Effect::Read(job) => {
                    let done = self.log.find(job);
                    self.broker.read_done(self.now, done);
                }
                Effect::Work(job) if self.holds_work => self.work.push(job),
                Effect::Work(job) => self.broker.work_done(self.now, work::run(job)),
                Effect::Checkpoint(job) => {
                    let done = CheckpointDone {
                        seq: job.seq,
                        result: Ok(Floor { segment: job.position.segment, seq: job.seq }),
                    };
                    self.checkpoint = Some((job.seq, job.position, job.state.into_bytes()));
                    self.broker.checkpoint_done(self.now, done);
                }
                Effect::LogLevel(_) | Effect::Ready { .. } => {}
                Effect::Tidy(job) if self.holds_tidying => self.tidying.push(job),
                Effect::StopTidy => self.tidying_stops += 1,
                Effect::Tidy(job) => {
                    let done = self.log.tidy(&job);
                    self.broker.tidy_done(self.now, done);
                }
                Effect::Remove(segment) => self.removed.push(segment),
                Effect::Upload { .. } => self.uploads += 1,
                Effect::Evict(segment, _) => self.evicted.push(segment),
            }
        }
    }

    fn receive(&mut self, conn: ConnId, response: &Response) {
        let mut whole = Vec::new();
        let mut from = 0;
        for (position, insert) in &response.inserts {
            whole.extend_from_slice(&response.head[from..*position]);
            whole.extend_from_slice(&match insert {
                Insert::Memory(bytes) => bytes.clone(),
                Insert::Log(splice) => {
                    let in_file = || self.log.read(splice.handle.segment, splice.position, splice.len).into();
                    self.broker.ring_bytes(splice).unwrap_or_else(in_file)
                }
            });
            from = *position;
        }
        whole.extend_from_slice(&response.head[from..]);
        assert_eq!(whole[..4], (whole.len() as u32 - 4).to_be_bytes(), "the frame's length is wrong");
        let whole = Bytes::from(whole).slice(4..);
        let id = i32::from_be_bytes(whole[..4].try_into().unwrap());
        let (api, version) = self.apis[&(conn, id)];
        let (correlation_id, body) = frame::parse_response(api, version, &whole).unwrap();
        self.answers.push(Answer { conn, correlation_id, version, body: whole.slice_ref(body) });
    }
}

/// The log in memory: segments of aligned groups, and what each group held.
#[derive(Debug)]
pub struct MemLog {
    files: BTreeMap<SegmentId, Arc<MemFile>>,
    pub groups: BTreeMap<GroupSeq, WrittenGroup>,
    /// What packs stand for, by their numbers, and the runs in them.
    packs: BTreeMap<u64, Vec<Coverage>>,
    pack_runs: Vec<RunRef>,
    next: LogPosition,
    /// A segment of at least this many bytes is sealed.
    pub segment_bytes: u64,
    pub space_bytes: u64,
}

/// What a durable group held.
#[derive(Debug)]
pub struct WrittenGroup {
    pub meta: Vec<MetaEntry>,
    pub runs: Vec<RunRef>,
}

impl Default for MemLog {
    fn default() -> MemLog {
        MemLog {
            files: BTreeMap::from([(SegmentId::FIRST, Arc::default())]),
            groups: BTreeMap::new(),
            packs: BTreeMap::new(),
            pack_runs: Vec::new(),
            next: LogPosition { segment: SegmentId::FIRST, position: 0 },
            segment_bytes: 1 << 20,
            space_bytes: 1 << 30,
        }
    }
}

impl MemLog {
    fn state(&self, next_seq: GroupSeq, floor: Floor, clean: bool) -> LogState {
        LogState { next_seq, position: self.next, space_bytes: self.space_bytes, floor, clean }
    }

    fn write(&mut self, group: Group) -> Written {
        let at = self.next;
        let mut buf = AlignedBuf::with_capacity(BLOCK_BYTES);
        let runs: Vec<RunRef> = group.runs.iter().map(|run| lay_out(run, at, &mut buf)).collect();
        if !group.meta.is_empty() || !runs.is_empty() {
            buf.resize(buf.len().max(1));
        }
        buf.pad_to_block();
        let file = self.files.entry(at.segment).or_default().clone();
        file.0.lock().unwrap().extend_from_slice(&buf);
        self.next.position += buf.len() as u64;
        let mut sealed = None;
        if self.next.position >= self.segment_bytes || (group.seal_after && self.next.position > 0) {
            sealed = Some((at.segment, self.next.position));
            self.next = LogPosition { segment: at.segment.next(), position: 0 };
            self.files.entry(self.next.segment).or_default();
        }
        self.groups.insert(group.seq, WrittenGroup { meta: group.meta, runs: runs.clone() });
        Written {
            seq: group.seq,
            runs,
            handle: SegmentHandle { segment: at.segment, file },
            position: at.position,
            buf: Arc::new(buf),
            next: self.next,
            sealed,
            space_bytes: self.space_bytes,
            sync_micros: 1,
        }
    }

    /// Bytes of all segments but those that were removed.
    pub fn held_bytes(&self, removed: &[SegmentId]) -> usize {
        let held = self.files.iter().filter(|(id, _)| !removed.contains(id));
        held.map(|(_, file)| file.bytes().len()).sum()
    }

    /// Whether there are packs.
    pub fn holds_packs(&self) -> bool {
        self.files.keys().any(|id| id.is_pack())
    }

    fn runs(&self) -> impl Iterator<Item = &RunRef> {
        self.groups.values().flat_map(|group| &group.runs).chain(&self.pack_runs)
    }

    /// Does the tidier's work: the same batches, without files.
    pub fn tidy(&mut self, job: &TidyJob) -> TidyDone {
        let segment = SegmentId::Pack(job.pack);
        let mut file = Vec::new();
        let mut coverage = Vec::new();
        let mut runs = Vec::new();
        for part in &job.parts {
            let is_source =
                |run: &&RunRef| run.id == part.id && part.sources.iter().any(|source| source.segment == run.segment);
            let mut sources: Vec<&RunRef> = self.runs().filter(is_source).collect();
            sources.sort_by_key(|run| run.base_offset);
            let data: Vec<u8> = sources.iter().flat_map(|run| self.read(run.segment, run.position, run.len)).collect();
            let (kept, outcome) = match rewritten(part, &data) {
                Ok(found) => found,
                Err(error) => return TidyDone { pack: job.pack, result: Err(error) },
            };
            let headers: Vec<_> = chronik::wire::batch::batches(&kept).map(|batch| batch.unwrap().header).collect();
            let run = headers.first().zip(headers.last()).map(|(first, last)| RunRef {
                id: part.id,
                base_offset: first.base_offset,
                last_offset: last.last_offset(),
                max_timestamp: headers.iter().map(|header| header.max_timestamp).max().unwrap_or(-1),
                segment,
                position: file.len() as u64,
                len: kept.len() as u32,
            });
            file.extend_from_slice(&kept);
            coverage.push(Coverage {
                id: part.id,
                from_offset: part.sources.first().unwrap().base_offset,
                to_offset: part.sources.last().unwrap().last_offset + 1,
                kept: run.map(|run| Kept {
                    base_offset: run.base_offset,
                    last_offset: run.last_offset,
                    max_timestamp: run.max_timestamp,
                    bytes: u64::from(run.len),
                }),
                outcome,
            });
            runs.extend(run);
        }
        let file_bytes = file.len() as u64;
        let tidied = Tidied {
            coverage: coverage.clone(),
            file_bytes,
            runs: runs.len() as u64,
            read_bytes: file_bytes,
            written_bytes: file_bytes,
        };
        self.files.insert(segment, Arc::new(MemFile(Mutex::new(file))));
        self.pack_runs.extend(runs);
        self.packs.insert(job.pack, coverage);
        TidyDone { pack: job.pack, result: Ok(tidied) }
    }

    fn read(&self, segment: SegmentId, position: u64, len: u32) -> Vec<u8> {
        let bytes = self.files[&segment].bytes();
        bytes[position as usize..position as usize + len as usize].to_vec()
    }

    /// Does a reader's work for ShareFetch.
    fn find_for_share(&self, job: ReadJob) -> ReadDone {
        let result = match job.kind {
            ReadKind::Batches { place: Place { segment, .. }, offset, end_offset, batches_max, .. } => {
                let mut places = self.batches_of(job.id, segment, offset, end_offset);
                places.truncate(batches_max);
                ReadFound::Batches(places, None)
            }
            ReadKind::FirstAtOrAfter { places, start_offset, end_offset, timestamp } => {
                let batches =
                    places.iter().flat_map(|place| self.batches_of(job.id, place.segment, start_offset, end_offset));
                let mut found = batches.filter_map(|place| {
                    let bytes = self.read(place.splice.handle.segment, place.splice.position, place.splice.len);
                    let batch = chronik::wire::batch::Batch::parse(&bytes).unwrap();
                    chronik::wire::batch::first_at_or_after_from(&batch, timestamp, start_offset).unwrap()
                });
                ReadFound::Record(found.next().map(|(offset, timestamp)| (offset, timestamp, 0)))
            }
            other => panic!("this log does not answer {other:?}"),
        };
        ReadDone { job: job.job, id: job.id, result: Ok(result) }
    }

    fn batches_of(&self, id: PartitionId, segment: SegmentId, offset: i64, end_offset: i64) -> Vec<BatchPlace> {
        let runs = self.runs();
        let handle = SegmentHandle { segment, file: self.files[&segment].clone() };
        let mut places = Vec::new();
        for run in runs.filter(|run| run.id == id && run.segment == segment && run.last_offset >= offset) {
            let data = self.read(run.segment, run.position, run.len);
            let mut position = run.position;
            for batch in chronik::wire::batch::batches(&data).map(|batch| batch.unwrap()) {
                let len = batch.bytes.len() as u32;
                if batch.header.last_offset() >= offset && batch.header.base_offset < end_offset {
                    places.push(BatchPlace::new(&batch.header, Splice { handle: handle.clone(), position, len }));
                }
                position += u64::from(len);
            }
        }
        places
    }

    /// Does a reader's work for Fetch: the batches of one segment from the one that holds the offset on, up to the end
    /// that readers may see.
    fn find(&self, job: ReadJob) -> ReadDone {
        let ReadKind::Fetch { place: Place { segment, .. }, offset, end_offset, convert, .. } = job.kind else {
            return self.find_for_share(job);
        };
        let runs = self.runs();
        let handle = SegmentHandle { segment, file: self.files[&segment].clone() };
        let (mut splices, mut bytes, mut next) = (Vec::new(), Vec::new(), offset);
        for run in runs.filter(|run| run.id == job.id && run.segment == segment && run.last_offset >= offset) {
            let data = self.read(run.segment, run.position, run.len);
            let mut position = run.position;
            for batch in chronik::wire::batch::batches(&data).map(|batch| batch.unwrap()) {
                let len = batch.bytes.len() as u32;
                if batch.header.last_offset() >= offset && batch.header.base_offset < end_offset {
                    next = batch.header.last_offset() + 1;
                    bytes.extend_from_slice(batch.bytes);
                    splices.push(Splice { handle: handle.clone(), position, len });
                }
                position += u64::from(len);
            }
        }
        let found = match convert {
            None => ReadFound::Splices(splices, next),
            Some(convert) => {
                let set = chronik::wire::legacy::convert_down(&bytes, convert.magic, offset, 1 << 20).unwrap();
                ReadFound::Converted(set.into(), next)
            }
        };
        ReadDone { job: job.job, id: job.id, result: Ok(found) }
    }
}

/// What a tidying keeps of a partition's batches, and what it came to.
fn rewritten(part: &TidyPart, data: &[u8]) -> Result<(Vec<u8>, Bytes), TidyError> {
    let all = chronik::wire::batch::batches(data).map(|batch| batch.unwrap());
    let live: Vec<_> = all.filter(|batch| batch.header.last_offset() >= part.live_from).collect();
    let TidyMode::Clean(clean) = &part.mode else {
        return Ok((live.iter().flat_map(|batch| batch.bytes).copied().collect(), Bytes::new()));
    };
    let wrong = |error: chronik::wire::batch::BatchError| TidyError::Unreadable(error.to_string());
    let mut indexing = Indexing::new(clean);
    let dirty = live.iter().filter(|batch| batch.header.last_offset() >= clean.first_dirty);
    for batch in dirty {
        if !indexing.batch(batch).map_err(wrong)? {
            break;
        }
    }
    let mut cleaning = indexing.finish();
    let mut kept = Vec::new();
    for batch in &live {
        match cleaning.batch(batch).map_err(wrong)? {
            Verdict::Gone => {}
            Verdict::Unchanged => kept.extend_from_slice(batch.bytes),
            Verdict::Rewritten(bytes) => kept.extend_from_slice(bytes),
        }
    }
    Ok((kept, cleaning.finish().encode().into()))
}

fn lay_out(run: &PlannedRun, at: LogPosition, buf: &mut AlignedBuf) -> RunRef {
    let start = buf.len();
    for batch in &run.batches {
        let mut bytes = batch.bytes.to_vec();
        bytes[..8].copy_from_slice(&batch.base_offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&batch.leader_epoch.to_be_bytes());
        buf.extend_from_slice(&bytes);
    }
    RunRef {
        id: run.id,
        base_offset: run.base_offset,
        last_offset: run.last_offset,
        max_timestamp: run.max_timestamp,
        segment: at.segment,
        position: at.position + start as u64,
        len: (buf.len() - start) as u32,
    }
}

/// A file in memory.
#[derive(Debug, Default)]
pub struct MemFile(Mutex<Vec<u8>>);

impl MemFile {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl DiskFile for MemFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut content = self.0.lock().unwrap();
        let end = position as usize + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[position as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let content = self.0.lock().unwrap();
        let from = content.get(position as usize..).unwrap_or(&[]);
        let len = from.len().min(buf.len());
        buf[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.lock().unwrap().truncate(bytes as usize);
        Ok(())
    }
}
