//! Owns what goes wrong in a run, and how the server comes back: crashes, kills, stops, errors, full disks, clock jumps.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use chronik::backup::{self, Manifest, Origin, Selection, Target, Unwatched};
use chronik::config::Fsync;
use chronik::store::ObjectStore;
use chronik::tier::owner::Owner;
use chronik::wal::settings::Entropy;

use super::clock::Clock;
use super::disk::{Op, SimDisk, Trouble, CAPACITY_BYTES, CHANGES};
use super::model::{Excuses, Model};
use super::net::Net;
use super::node::Node;
use super::rng::Rng;
use super::scenario::{Scenario, CHECKER};
use super::world::{Event, Stats, World};
use crate::backup::memory_store::{Failing, MemStore};

/// How often a start may be struck down before the run is given up.
const STARTS_MAX: usize = 50;

/// Kinds of misfortune.
pub const MISFORTUNES: u64 = 21;

/// What the words of a failure begin with that is no verdict of the model's.
pub const PANICKED: &str = "it panicked: ";

/// Runs one seed from its beginning to its end. A panic, of the server or of a client, is a failure like any other.
pub fn run(scenario: Scenario, trace: bool) -> (Result<(), String>, Stats, Vec<String>) {
    let mut world = World::new(scenario, trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = result.unwrap_or_else(|why| Err(format!("{PANICKED}{}", panic_text(&*why))));
    world.stats.answers = world.model.answers;
    world.stats.commits = world.model.txns.commits;
    world.stats.given = world.model.consumers.given;
    world.stats.accepted = world.model.shares.accepted;
    world.stats.gone = world.model.gone;
    world.stats.crashes = world.disk.crashes();
    world.stats.relocated = world.metrics.tier_relocated_bytes.get();
    world.stats.shrunk = world.metrics.tier_shrunk_bytes.get();
    (result, world.stats, world.trace.unwrap_or_default())
}

/// What a panic says.
pub fn panic_text(why: &(dyn std::any::Any + Send)) -> String {
    let text = why.downcast_ref::<String>().cloned();
    text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_string())).unwrap_or_default()
}

impl World {
    pub fn new(scenario: Scenario, trace: bool) -> World {
        let mut rng = Rng::new(scenario.seed ^ 0x5EED ^ scenario.salt.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let seed = rng.next_u64();
        let disk = SimDisk::new(seed, scenario.faults);
        let clients = scenario.clients(&mut rng);
        let mut clock = Clock::new(&mut rng);
        for client in 1..clients.len() {
            clock.after(0, Event::Act(client));
        }
        let mut acts_at = vec![Some(clock.real_us()); clients.len()];
        acts_at[CHECKER] = None;
        let session_us = scenario.group_session_ms as u64 * 1000;
        let mut model =
            Model::new(Excuses { reads_late: scenario.is_tiered(), ..scenario.excuses }, scenario.file_metadata);
        model.clock_jumps = scenario.clock_jumps;
        model.blind = scenario.blind;
        model.consumers.session_us = session_us;
        model.shares.lock_us = scenario.lock_ms as u64 * 1000;
        model.shares.deliveries_max = scenario.deliveries_max as i16;
        let store = scenario.is_tiered().then(Arc::<MemStore>::default);
        let world = World {
            rng,
            clock,
            scenario,
            disk,
            store,
            metrics: Arc::default(),
            node: None,
            net: Net::default(),
            clients,
            acts_at,
            model,
            ids: Default::default(),
            stats: Stats::default(),
            life: 0,
            stops_tidying: false,
            checking: false,
            next_misfortune: 0,
            closing: false,
            keep_plans: false,
            errors_planned: false,
            excused_starts: Vec::new(),
            tries: 0,
            rotten: None,
            trace: trace.then(Vec::new),
        };
        world.prepare_disk(&world.disk, seed);
        world
    }

    pub fn run(&mut self) -> Result<(), String> {
        self.start()?;
        while self.stats.events < self.scenario.events {
            if !self.step()? {
                break;
            }
        }
        self.finish()?;
        // Whatever is on the disk now must be there after a last crash, and after an orderly stop.
        self.die(self.worst())?;
        self.finish()?;
        self.stop()?;
        self.finish()
    }

    /// Lets everybody come to an end: every request has to be answered.
    pub fn finish(&mut self) -> Result<(), String> {
        self.closing = true;
        if !self.keep_plans {
            self.disk.forget_plans();
        }
        self.disk.set_capacity(CAPACITY_BYTES);
        for _ in 0..100_000 {
            let quiet = self.clients.iter().all(|client| client.is_idle()) && !self.checking;
            let writing = self.node.as_ref().is_none_or(|node| node.in_flight);
            if quiet && !writing {
                return Ok(());
            }
            self.step()?;
        }
        let owed: Vec<String> =
            self.clients.iter().filter(|c| !c.is_idle()).map(|client| format!("{client:?}")).collect();
        Err(format!("somebody waits for an answer for ever: {owed:#?}"))
    }

    /// The worst crash after which everything must be there: without fsync that is the death of the process.
    pub fn worst(&self) -> Trouble {
        match self.scenario.fsync {
            Fsync::Always => Trouble::Cut,
            _ => Trouble::Kill,
        }
    }

    pub fn misfortune(&mut self) -> Result<(), String> {
        if self.closing || self.node.is_none() {
            return Ok(());
        }
        let nth = 1 + self.rng.below(12);
        let cut = self.worst();
        match self.draw_misfortune() {
            0 | 1 => self.die(cut)?,
            2 => self.die(Trouble::Kill)?,
            3..=5 => self.disk.plan(CHANGES, "", nth, cut),
            6 => self.disk.plan(CHANGES, "", nth, Trouble::Kill),
            7 => self.disk.plan(&[Op::Sync], "", nth, cut),
            8 => self.stop()?,
            9 if self.scenario.disk_errors => {
                self.errors_planned = true;
                self.disk.plan(&[Op::Write, Op::Sync], "wal/", nth, Trouble::Error);
            }
            10 if self.scenario.disk_errors => {
                self.errors_planned = true;
                self.disk.plan(CHANGES, "", nth, Trouble::Error);
            }
            11 if self.scenario.excuses.reads_fail => self.disk.plan(&[Op::Read], "wal/", nth, Trouble::Error),
            12 if self.scenario.full_disk => {
                let used = self.disk.used_bytes();
                let spare = self.rng.below(30 << 20);
                let full = self.rng.chance(60);
                self.disk.set_capacity(if full { used + spare } else { CAPACITY_BYTES });
            }
            13 if self.scenario.clock_jumps => {
                // Less than the hour that a record may lie in the future.
                let ms = self.rng.below(2 * 1_500_000) as i64 - 1_500_000;
                self.note(|| format!("the wall clock jumps to {ms} ms off"));
                self.clock.jump(ms);
            }
            14 => {
                let us = self.rng.range(1000, 3_000_000);
                self.note(|| format!("the monotonic clock stands still for {us} us"));
                self.clock.stall(us);
            }
            15 => {
                let us = self.rng.range(1000, 8_000_000);
                self.note(|| format!("nothing happens for {us} us"));
                self.clock.leap(us);
            }
            16 if self.rotten.is_none() => self.move_house()?,
            17 => self.store_fails(),
            18 if self.scenario.full_disk => {
                // One call meets a full disk, and the next one does not.
                self.errors_planned = true;
                self.disk.plan(&[Op::Create, Op::Write, Op::Replace], "", nth, Trouble::Full);
            }
            19 if self.scenario.rots => self.rot()?,
            _ => self.reset_all(),
        }
        Ok(())
    }

    /// One of the kinds that this run has; if it has none, connections break.
    fn draw_misfortune(&mut self) -> u64 {
        for _ in 0..8 {
            let kind = self.rng.below(MISFORTUNES);
            if self.scenario.misfortunes & (1 << kind) != 0 {
                return kind;
            }
        }
        MISFORTUNES
    }

    /// The machine is lost. What comes back is what a backup of this moment holds, on another disk, which loses its power as
    /// soon as all is restored.
    fn move_house(&mut self) -> Result<(), String> {
        self.note(|| "== lost, but for a backup".to_string());
        let at_rest = self.scenario.file_metadata;
        if at_rest {
            self.node = None;
            self.disk = self.disk.process_died();
        }
        if self.store.is_some() && self.rng.chance(50) {
            return self.move_to_store();
        }
        let store: Arc<dyn ObjectStore> = Arc::new(MemStore::default());
        let origin = Origin::on(Arc::new(self.disk.clone()), at_rest);
        let origin = match &self.store {
            Some(tier) => origin.with_tier(tier.clone()),
            None => origin,
        };
        let (now_ms, seed) = (self.clock.now().wall_ms, self.rng.next_u64());
        let created = match backup::create(&origin, &*store, now_ms, &mut Entropy::Seeded(seed), &Unwatched) {
            Ok(created) => created,
            Err(why) => {
                self.note(|| format!("no backup: {why}"));
                let is_excused = self.disk.is_down().is_some()
                    || self.errors_planned
                    || self.scenario.excuses.reads_fail
                    || self.scenario.excuses.disk_full;
                if !is_excused {
                    return Err(format!("no backup could be made: {why}"));
                }
                return if self.node.is_none() { self.come_back() } else { self.bury_if_dead() };
            }
        };
        let verified = backup::verify(&store, &created.manifest, now_ms, &Unwatched).map_err(|e| e.to_string())?;
        if !verified.is_sound() {
            return Err(format!("a backup is not sound: {:?}", verified.faults));
        }
        let disk = self.blank_disk(seed);
        if let Some(tier) = &self.store {
            tier.heal();
            take_over(&disk, tier, &created.manifest, seed)?;
        }
        let target = Target::on(Arc::new(disk.clone()));
        backup::restore(&target, &store, &created.manifest, &Selection::default(), now_ms, &Unwatched)
            .map_err(|why| format!("a backup can't be restored: {why}"))?;
        self.stats.moves += 1;
        self.node = None;
        drop(disk.take_moments());
        self.disk = disk.power_cut();
        self.come_back()
    }

    /// While the server is down, a byte of a file changes that nobody writes to any more. At the next start after that the
    /// damage is mended, as if the file had been brought back from a copy: then all has to be there again.
    pub fn rot(&mut self) -> Result<(), String> {
        let files = self.disk.settled();
        let Some(path) = self.rng.pick(&files).cloned().filter(|_| self.rotten.is_none()) else { return Ok(()) };
        let len = self.disk.contents(&path).map_or(1, |bytes| bytes.len() as u64);
        let (position, mask) = (self.rng.below(len), 1 << self.rng.below(8));
        self.note(|| format!("bit rot in {path} at {position}"));
        self.node = None;
        self.try_crashes()?;
        self.stats.kills += 1;
        self.disk = self.disk.process_died();
        self.rotten = Some(self.disk.damage(&path, position, mask).map_err(|why| why.to_string())?);
        (self.model.excuses.reads_fail, self.model.excuses.damaged) = (true, true);
        self.start_again()
    }

    /// Takes the damage back.
    fn mend(&mut self) {
        if let Some(damage) = self.rotten.take() {
            damage.mend();
            self.model.excuses.reads_fail = self.scenario.excuses.reads_fail;
            self.model.excuses.damaged = false;
        }
    }

    /// The object store answers some calls with errors, some of which have done what was asked all the same.
    fn store_fails(&mut self) {
        let Some(store) = self.store.clone().filter(|_| self.scenario.store_fails) else { return };
        let how = if self.rng.chance(50) { Failing::Before } else { Failing::After };
        let (nth, count) = (1 + self.rng.below(12), self.rng.range(1, 30));
        self.note(|| format!("the store fails from call {nth} on, {count} times: {how:?}"));
        store.fail(nth, count, how);
    }

    /// The machine is lost. What comes back is what the object store holds after an upload of this moment; segments that
    /// are there stay there.
    fn move_to_store(&mut self) -> Result<(), String> {
        let now = self.clock.now();
        let Some((store, node)) = self.store.clone().zip(self.node.as_mut()) else { return Ok(()) };
        let done = node.upload(now, false);
        drop(self.disk.take_moments());
        self.note(|| format!("the last upload: {done:?}"));
        if done.is_none_or(|done| done.result.is_err()) {
            return self.bury_if_dead();
        }
        store.heal();
        let manifest = backup::find_upload(&*store, None).map_err(|why| format!("no upload is found: {why}"))?;
        let seed = self.rng.next_u64();
        let disk = self.blank_disk(seed);
        take_over(&disk, &store, &manifest, seed)?;
        let target = Target::on(Arc::new(disk.clone()));
        let store = store as Arc<dyn ObjectStore>;
        backup::restore_tiered(&target, &store, &manifest, now.wall_ms, &Unwatched)
            .map_err(|why| format!("an upload can't be restored: {why}"))?;
        self.stats.moves += 1;
        self.node = None;
        drop(disk.take_moments());
        self.disk = disk.power_cut();
        self.come_back()
    }

    /// The log gave up. The process ends, and what the cache still shows is not what the medium holds.
    pub fn log_failed(&mut self, why: &str) -> Result<(), String> {
        if self.disk.is_down().is_some() {
            return Ok(());
        }
        if !self.errors_planned {
            return Err(format!("the log gave up without need: {why}"));
        }
        let trouble = if self.rng.chance(50) { self.worst() } else { Trouble::Kill };
        self.die(trouble)
    }

    /// A planned crash has struck.
    pub fn bury_if_dead(&mut self) -> Result<(), String> {
        if self.node.is_none() || self.disk.is_down().is_none() {
            return Ok(());
        }
        self.node = None;
        self.come_back()
    }

    /// The server goes down now and comes back.
    pub fn die(&mut self, trouble: Trouble) -> Result<(), String> {
        self.note(|| format!("== {trouble:?}"));
        self.node = None;
        self.stats.kills += u64::from(trouble == Trouble::Kill);
        self.disk = if trouble == Trouble::Cut { self.disk.power_cut() } else { self.disk.process_died() };
        self.come_back()
    }

    /// An orderly stop, and a start after it.
    pub fn stop(&mut self) -> Result<(), String> {
        self.note(|| "== stop".to_string());
        self.stats.stops += 1;
        self.model.stopping = true;
        let now = self.clock.now();
        if let Some(node) = &mut self.node {
            node.broker.stop(now);
            self.turn()?;
        }
        let life = self.life;
        for _ in 0..20_000 {
            let drained = self.node.as_ref().is_none_or(|node| node.broker.is_drained() && !node.in_flight);
            if drained || self.life != life {
                break;
            }
            self.step()?;
        }
        if self.life != life {
            return Ok(());
        }
        let Some(mut node) = self.node.take() else { return Ok(()) };
        if !node.broker.is_drained() {
            return Err("an orderly stop does not come to its end".to_string());
        }
        let closed = node.close();
        if let Err(why) = closed.as_ref().map_err(|e| e.clone()) {
            if self.disk.is_down().is_none() && !self.errors_planned {
                return Err(format!("the log could not be closed: {why}"));
            }
        }
        drop(node);
        self.come_back()
    }

    fn come_back(&mut self) -> Result<(), String> {
        self.try_crashes()?;
        self.mend();
        self.start_again()
    }

    fn start_again(&mut self) -> Result<(), String> {
        self.model.stopping = false;
        self.reset_all();
        self.disk = self.disk.restart();
        if self.rng.chance(80) && !self.keep_plans {
            self.disk.forget_plans();
            self.errors_planned = false;
        }
        if !self.closing && !self.keep_plans && self.rng.chance(25) {
            // The next start may be struck down too.
            let nth = 1 + self.rng.below(15);
            self.disk.plan(CHANGES, "", nth, self.worst());
        }
        self.start()
    }

    /// Starts the server, again and again if it is struck down meanwhile.
    pub fn start(&mut self) -> Result<(), String> {
        for _ in 0..STARTS_MAX {
            self.life += 1;
            let (mut settings, options) = (self.scenario.settings(self.life), self.scenario.options(self.life));
            settings.metrics = self.metrics.clone();
            let store = self.store.clone().map(|store| store as Arc<dyn ObjectStore>);
            let started = Node::start(&self.disk, settings, options, self.clock.now(), store);
            self.note(|| format!("== start: {}", started.as_ref().map_or_else(|why| why.as_str(), |_| "ok")));
            self.try_crashes()?;
            match started {
                Ok(node) => {
                    self.model.recovered(node.recovered)?;
                    self.node = Some(node);
                    self.checking = true;
                    self.clients[CHECKER].start();
                    self.act_after(CHECKER, 0);
                    return self.bury_if_dead();
                }
                Err(why) if self.disk.is_down().is_some() => drop(why),
                // It says which file is damaged, and starts when that one is whole again.
                Err(why) if self.rotten.as_ref().is_some_and(|damage| why.contains(&damage.path)) => self.mend(),
                // An error of the disk, or a disk without room: it passes.
                Err(why)
                    if self.errors_planned || self.scenario.excuses.reads_fail || self.scenario.excuses.disk_full =>
                {
                    self.disk.forget_plans();
                    self.disk.set_capacity(CAPACITY_BYTES);
                    self.excused_starts.push(why);
                    if self.excused_starts.len() > STARTS_MAX {
                        break;
                    }
                }
                Err(why) => return Err(format!("refuses to start: {why}")),
            }
            self.disk = self.disk.restart();
        }
        Err(format!("does not come up: {:?}", self.excused_starts.last()))
    }
}

/// The directory that is to be made on a disk becomes the owner of its objects in the store.
fn take_over(disk: &SimDisk, store: &MemStore, manifest: &Manifest, seed: u64) -> Result<(), String> {
    let owner = Owner::on(Arc::new(disk.clone()), "simulation", Entropy::Seeded(seed));
    let mut owner = owner.map_err(|why| format!("no owner: {why}"))?;
    let claimed = owner.claim(store, &manifest.directory(), None, true);
    claimed.map(|_| ()).map_err(|why| format!("a restored server can't take over: {why}"))
}
