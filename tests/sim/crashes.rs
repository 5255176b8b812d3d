//! Owns crashes beside the run: a copy of the disk as it was in the middle of things loses its power, a server starts on what
//! is left, and the checker reads everything. The run itself goes on as if nothing had been, so that one history gives
//! hundreds of crashes.

use std::sync::Arc;

use super::disk::{Moment, SimDisk, Trouble, CHANGES};
use super::model::Excuses;
use super::net::Net;
use super::rng::Rng;
use super::world::{Stats, World};

impl World {
    /// An empty disk as this run wants it.
    pub fn blank_disk(&self, seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed, self.scenario.faults);
        self.prepare_disk(&disk, seed);
        disk
    }

    /// Lets a disk lie, be traced and be watched as this run wants it.
    pub fn prepare_disk(&self, disk: &SimDisk, seed: u64) {
        if self.trace.is_some() {
            disk.start_trace();
        }
        if let Some(op) = self.scenario.lie {
            disk.lie(op);
        }
        let (syncs, changes) = self.scenario.tries;
        if syncs + changes > 0 {
            disk.watch(Rng::new(seed).next_u64(), syncs, changes);
        }
    }

    /// Tries a crash at each moment that was kept since the last time. What the model knows must not have changed since.
    pub fn try_crashes(&mut self) -> Result<(), String> {
        let moments = self.disk.take_moments();
        if self.rotten.is_some() {
            return Ok(());
        }
        for moment in moments {
            self.tries += 1;
            if [0, self.tries].contains(&self.scenario.only_try) {
                self.try_crash(&moment)?;
            }
        }
        Ok(())
    }

    fn try_crash(&mut self, moment: &Moment) -> Result<(), String> {
        let mut branch = self.branch(moment);
        let result = branch.crash_and_check();
        self.stats.tries += branch.disk.crashes();
        self.stats.checks += branch.stats.checks;
        if let (Some(trace), Some(of_branch), true) = (&mut self.trace, branch.trace, result.is_err()) {
            trace.push(format!("== a crash beside the run, before {}", moment.call));
            trace.extend(of_branch);
        }
        result.map_err(|why| format!("try {}, a crash before {}: {why}", self.tries, moment.call))
    }

    /// A run that goes on from a copy of the disk, with nobody but the checker. Nothing excuses it: its disk has room and
    /// does what it is told, and its store answers.
    fn branch(&self, moment: &Moment) -> World {
        let mut model = self.model.clone();
        model.excuses = Excuses { reads_late: model.excuses.reads_late, ..Excuses::default() };
        model.stopping = false;
        World {
            rng: Rng::new(moment.seed),
            clock: self.clock.branch(),
            scenario: self.scenario.clone(),
            disk: moment.disk.clone(),
            store: self.store.as_ref().map(|store| Arc::new(store.copied())),
            node: None,
            net: Net::default(),
            clients: vec![Box::new(self.scenario.checker())],
            acts_at: vec![None],
            model,
            ids: Default::default(),
            stats: Stats::default(),
            metrics: Arc::default(),
            life: self.life + 1000,
            stops_tidying: false,
            checking: false,
            next_misfortune: u64::MAX,
            keep_plans: false,
            closing: true,
            errors_planned: false,
            excused_starts: Vec::new(),
            tries: 0,
            rotten: None,
            trace: self.trace.as_ref().map(|_| Vec::new()),
        }
    }

    /// The power goes; perhaps again while the server starts or is looked at; and perhaps once more after that.
    fn crash_and_check(&mut self) -> Result<(), String> {
        let worst = self.worst();
        if self.rng.chance(30) {
            let nth = 1 + self.rng.below(15);
            self.disk.plan(CHANGES, "", nth, worst);
            self.keep_plans = true;
        }
        for _ in 0..1 + self.rng.below(2) {
            let trouble = if self.rng.chance(90) { worst } else { Trouble::Kill };
            self.die(trouble)?;
            self.finish()?;
            self.stats.checks += 1;
        }
        Ok(())
    }
}
