//! Owns what a seed decides before the run: who takes part, what may go wrong, how fast everything is.

use std::sync::Arc;
use std::time::Duration;

use chronik::broker::settings::Settings;
use chronik::config::{Config, Fsync, ShareConfig};
use chronik::metrics::Metrics;
use chronik::wal::settings::{Entropy, FsyncMode, LogOptions, MetadataStore};

use super::actors::{
    Actor, Admin, Checker, Compactor, Consumer, GroupMember, GroupWatch, Manners, Member, Offsets, Producer,
    ShareMember, ShareWatch, Stray, TxnProducer, TxnReader,
};
use super::disk::{Faults, Op, CAPACITY_BYTES};
use super::model::Excuses;
use super::rng::Rng;

/// One run's circumstances.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    /// The model believes only what clients see, so that a fault has to show there.
    pub blind: bool,
    /// Another run of the same scenario.
    pub salt: u64,
    pub faults: Faults,
    pub excuses: Excuses,
    /// How long the disk and the workers may take, µs.
    pub slow_us: u64,
    /// How long a frame may travel, µs.
    pub net_us: u64,
    /// Of 100 requests, after how many the connection breaks.
    pub reset_percent: u64,
    /// Events after which the run comes to its end.
    pub events: u64,
    /// Mean number of events between misfortunes.
    pub misfortune_events: u64,
    /// Which kinds of misfortune there are, a bit for each.
    pub misfortunes: u64,
    pub disk_errors: bool,
    pub full_disk: bool,
    pub clock_jumps: bool,
    pub file_metadata: bool,
    pub fsync: Fsync,
    /// A call of the disk that lies: such a run must fail.
    pub lie: Option<Op>,
    pub delete_records: bool,
    pub producers: u64,
    pub consumers: u64,
    pub members: u64,
    pub value_bytes_max: u64,
    pub segment_bytes: u64,
    pub roll_ms: i64,
    pub txn_producers: u64,
    /// Members of groups of the consumer protocol.
    pub group_members: u64,
    pub manners: Manners,
    /// Session timeout of those, and how long an assignment holds at least.
    pub group_session_ms: i64,
    pub assignment_interval_ms: i64,
    /// Members of a share group, how long they may keep a record, and how often one is handed out.
    pub sharers: u64,
    pub lock_ms: i64,
    /// Clients that use everything badly.
    pub strays: u64,
    /// Producers to compacted topics, of which there are none without; and what a cleaner may use as memory, in bytes.
    pub keyed: u64,
    pub map_bytes: usize,
    pub deliveries_max: i64,
    /// There is an object store, which keeps all segments that it may.
    pub tiered: bool,
    pub store_fails: bool,
    /// What only the store has always comes later than a fetch waits for it.
    pub store_is_slow: bool,
    /// Topics are compacted only when the store may have some of their records alone.
    pub compacts_late: bool,
    /// There is room for some segments that the store has too, and so for making its objects smaller; without, all of them go.
    pub has_room: bool,
    /// Before how many of 100 calls that make something durable, and of 100 others that change the disk, a crash is tried
    /// out beside the run (`crashes.rs`); and the only one of them that is, from 1, or 0 for all.
    pub tries: (u64, u64),
    pub only_try: u64,
    /// Producers compress some of their batches.
    pub codecs: bool,
    /// Requests arrive in pieces, several at once, and connections break in the middle of them.
    pub splits: bool,
    /// Bytes of settled files change while the server is down.
    pub rots: bool,
    /// Bytes of the largest group that the log is told of.
    pub group_bytes_max: u64,
}

/// The modes that may lose what they acknowledged in a power cut; not when the process dies.
const LOSSY: [Fsync; 2] = [Fsync::IntervalMs(10), Fsync::Never];

/// Groups whose offsets are committed: by anybody, by members, by transactions, by members of the consumer protocol.
const GROUPS: [&str; 8] = ["offsets-0", "offsets-1", "members-0", "members-1", "txn-0", "txn-1", "next-0", "next-1"];

/// How many segments of full size may be on the disk before those go that the store has.
const ROOM_SEGMENTS: u64 = 4;

const SHARE_GROUP: &str = "share-0";

/// The client that checks everything after a restart.
pub const CHECKER: usize = 0;

impl Scenario {
    pub fn drawn(seed: u64) -> Scenario {
        let rng = &mut Rng::new(seed);
        let (disk_errors, full_disk) = (rng.chance(40), rng.chance(20));
        let fsync = if rng.chance(85) { Fsync::Always } else { *rng.pick(&LOSSY).unwrap_or(&Fsync::Never) };
        // A failed fsync may lose what nobody had synced yet; then only `always` keeps its promise.
        let disk_errors = disk_errors && fsync == Fsync::Always;
        // An error while space is reserved ahead is no more than a want of space.
        let (reads_fail, disk_full) = (rng.chance(15), full_disk || disk_errors);
        let excuses = Excuses { reads_fail, disk_full, ..Excuses::default() };
        let mut scenario = Scenario {
            seed,
            faults: Faults::drawn(rng),
            excuses,
            slow_us: *rng.pick(&[100, 2000, 20_000]).unwrap_or(&100),
            net_us: *rng.pick(&[50, 1000, 10_000]).unwrap_or(&50),
            reset_percent: *rng.pick(&[0, 1, 5]).unwrap_or(&0),
            events: rng.range(1000, 4000),
            misfortune_events: *rng.pick(&[40, 150, 400]).unwrap_or(&150),
            disk_errors,
            full_disk,
            clock_jumps: rng.chance(30),
            file_metadata: rng.chance(25),
            fsync,
            lie: None,
            delete_records: rng.chance(60),
            producers: rng.range(1, 5),
            consumers: rng.range(1, 4),
            members: rng.below(4),
            value_bytes_max: *rng.pick(&[100, 2000, 20_000]).unwrap_or(&100),
            segment_bytes: *rng.pick(&[12, 20]).unwrap_or(&12) << 20,
            roll_ms: *rng.pick(&[20, 100, 1_000_000]).unwrap_or(&100),
            txn_producers: rng.below(5),
            group_members: if rng.chance(60) { rng.range(1, 5) } else { 0 },
            manners: Manners { migrate: rng.chance(40), patterns: rng.chance(40), vanish: rng.chance(60) },
            group_session_ms: *rng.pick(&[1000, 3000, 8000]).unwrap_or(&3000),
            assignment_interval_ms: *rng.pick(&[0, 100, 1000]).unwrap_or(&0),
            misfortunes: if rng.chance(30) { u64::MAX } else { rng.next_u64() | rng.next_u64() },
            strays: if rng.chance(40) { rng.range(1, 2) } else { 0 },
            sharers: if rng.chance(50) { rng.range(1, 4) } else { 0 },
            lock_ms: *rng.pick(&[300, 1500, 5000]).unwrap_or(&1500),
            deliveries_max: *rng.pick(&[2, 3, 5, 10]).unwrap_or(&5),
            keyed: if rng.chance(40) { rng.range(1, 3) } else { 0 },
            map_bytes: *rng.pick(&[200, 1 << 16]).unwrap_or(&200),
            tiered: rng.chance(50),
            store_fails: rng.chance(30),
            store_is_slow: rng.chance(15),
            tries: *rng.pick(&[(0, 0), (0, 0), (0, 0), (3, 1)]).unwrap_or(&(0, 0)),
            only_try: 0,
            salt: 0,
            blind: false,
            group_bytes_max: 2 << 20,
            codecs: rng.chance(40),
            splits: rng.chance(50),
            rots: rng.chance(15),
            compacts_late: rng.chance(40),
            has_room: rng.chance(25),
        };
        // What only the store has cannot be read while it is away.
        scenario.excuses.reads_fail |= scenario.is_tiered() && scenario.store_fails;
        // Damage that was uploaded cannot be taken back.
        scenario.rots &= !scenario.is_tiered();
        scenario
    }

    /// A seed for many crashes: one is tried at every call that makes something durable, in a history that is so small
    /// that each of them costs little.
    pub fn crashing(seed: u64) -> Scenario {
        let drawn = Scenario::drawn(seed);
        let rng = &mut Rng::new(seed ^ 0xC4A5);
        Scenario {
            tries: (100, 25),
            events: rng.range(300, 1500),
            value_bytes_max: drawn.value_bytes_max.min(2000),
            segment_bytes: 1 << 20,
            group_bytes_max: 128 << 10,
            // What a cut may take away shows nothing; what a kill leaves is looked at by other seeds.
            fsync: Fsync::Always,
            ..drawn
        }
    }

    /// What is in files cannot be uploaded with the log.
    pub fn is_tiered(&self) -> bool {
        self.tiered && !self.file_metadata
    }

    /// A good client's connection is closed only for what the protocol cannot say otherwise.
    pub fn may_close(&self, why: &str) -> bool {
        why.contains("acks=0") || self.excuses.disk_full && why.starts_with("the disk is full")
    }

    pub fn checker(&self) -> Checker {
        let share_group = (self.sharers > 0).then(|| SHARE_GROUP.to_string());
        Checker::new(GROUPS.map(String::from).to_vec(), share_group, if self.is_tiered() { 1000 } else { 0 })
    }

    /// The checker first, then everybody else.
    pub fn clients(&self, rng: &mut Rng) -> Vec<Box<dyn Actor>> {
        let groups = GROUPS.map(String::from);
        let names = |prefix: &str, from: usize| (from..from + 2).map(|n| format!("{prefix}-{n}")).collect::<Vec<_>>();
        let mut clients: Vec<Box<dyn Actor>> = vec![
            Box::new(self.checker()),
            Box::new(Admin::new(names("steady", 0), names("passing", 0), self.delete_records)),
            Box::new(Admin::new(names("steady", 2), names("passing", 2), self.delete_records)),
            Box::new(Offsets::new(groups[0].clone())),
            Box::new(Offsets::new(groups[0].clone())),
            Box::new(Offsets::new(groups[1].clone())),
        ];
        for n in 0..self.producers {
            let idempotent = n % 2 == 0;
            let acks = if !idempotent && rng.one_in(4) { 0 } else { *rng.pick(&[1, -1]).unwrap_or(&1) };
            let acks = if idempotent { -1 } else { acks };
            let in_flight = rng.range(1, 5) as usize;
            clients.push(Box::new(Producer::new(idempotent, in_flight, self.value_bytes_max, acks, false)));
        }
        for _ in 0..self.consumers {
            clients.push(Box::<Consumer>::default());
        }
        for n in 0..self.members {
            clients.push(Box::new(Member::new(groups[2 + n as usize % 2].clone())));
        }
        for n in 0..self.txn_producers {
            // Two and more share an id.
            let id = format!("txn-{}", n % 2);
            let (new, keyed) = (rng.chance(50), self.keyed > 0);
            clients.push(Box::new(TxnProducer::new(id.clone(), id, new, self.value_bytes_max, keyed)));
        }
        for _ in 0..self.txn_producers.min(2) {
            clients.push(Box::<TxnReader>::default());
        }
        for n in 0..self.group_members {
            let group = groups[6 + usize::from(n >= 3)].clone();
            clients.push(Box::new(GroupMember::new(group, n, rng.chance(35), self.manners)));
        }
        for group in groups[6..].iter().take(self.group_members.div_ceil(3) as usize) {
            clients.push(Box::new(GroupWatch::new(group.clone())));
        }
        for n in 0..self.sharers {
            clients.push(Box::new(ShareMember::new(SHARE_GROUP.to_string(), n, self.manners.vanish)));
        }
        for n in 0..self.strays {
            clients.push(Box::new(Stray::new(groups[2 + n as usize % 2].clone())));
        }
        for n in 0..self.keyed {
            let bytes = self.value_bytes_max.min(2000);
            clients.push(Box::new(Producer::new(n % 2 == 0, 2, bytes, if n % 2 == 0 { -1 } else { 1 }, true)));
        }
        if self.keyed > 0 {
            clients.push(Box::new(Compactor::new(names("compact", 0), self.compacts_late)));
        }
        if self.sharers > 0 {
            clients.push(Box::new(ShareWatch::new(SHARE_GROUP.to_string())));
        }
        clients
    }

    /// What the broker is told at a start.
    pub fn settings(&self, life: u32) -> Settings {
        let config = Config {
            auto_create_topics_enable: false,
            fsync: self.fsync,
            log_roll_ms: self.roll_ms,
            log_retention_check_interval_ms: 50,
            group_initial_rebalance_delay_ms: 50,
            log_cleaner_backoff_ms: 20,
            log_cleaner_dedupe_buffer_size: self.map_bytes,
            log_segment_bytes: self.segment_bytes,
            share: ShareConfig {
                session_timeout_ms: self.group_session_ms,
                min_session_timeout_ms: 1,
                min_record_lock_duration_ms: 1,
                assignment_interval_ms: self.assignment_interval_ms,
                record_lock_duration_ms: self.lock_ms,
                delivery_count_limit: self.deliveries_max,
                ..ShareConfig::default()
            },
            group_consumer_session_timeout_ms: self.group_session_ms,
            group_consumer_min_session_timeout_ms: 1,
            group_consumer_assignment_interval_ms: self.assignment_interval_ms,
            ..Config::default()
        };
        let mut config = config;
        if self.is_tiered() {
            // Whatever is in the store goes from the disk, or what is too much for it.
            config.storage.local_path = Some("the store".into());
            config.storage.local_free_bytes = match self.has_room {
                true => CAPACITY_BYTES - ROOM_SEGMENTS * self.segment_bytes,
                false => u64::MAX,
            };
            config.storage.upload_pause_ms = 200;
        }
        Settings {
            config,
            cluster_id: "simulation".to_string(),
            advertised_host: None,
            advertised_port: None,
            seed: self.seed.wrapping_mul(1000).wrapping_add(u64::from(life)),
            metadata_in_log: !self.file_metadata,
            metrics: Arc::new(Metrics::default()),
        }
    }

    /// What the log is told at a start.
    pub fn options(&self, life: u32) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            group_bytes_max: self.group_bytes_max,
            fsync: match self.fsync {
                Fsync::Always => FsyncMode::Always,
                Fsync::IntervalMs(ms) => FsyncMode::Interval(Duration::from_millis(u64::from(ms))),
                Fsync::Never => FsyncMode::Never,
            },
            metadata: if self.file_metadata { MetadataStore::Files } else { MetadataStore::Log },
            ballast_bytes: 1 << 20,
            entropy: Entropy::Seeded(self.seed.wrapping_mul(7919).wrapping_add(u64::from(life))),
        }
    }
}
