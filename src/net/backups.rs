//! Owns the server's side of its own backups: where they go, their thread, and its end.

use std::sync::Arc;

use super::server::Failure;
use super::tiers::root_of;
use crate::backup::schedule::{Plan, Scheduler, Subject};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::options::exit;
use crate::store::{open_url, Machine, ObjectStore, Surroundings, Tuning};
use crate::sys::clock::Clock;
use crate::sys::disk::Disk;
use crate::sys::traffic::Traffic;
use crate::wire::Uuid;

/// Where backups go, and when.
pub struct Backups {
    store: Arc<dyn ObjectStore>,
    machine: Arc<Machine>,
    plan: Plan,
}

/// The thread that makes them.
#[derive(Debug)]
pub struct Running {
    scheduler: Scheduler,
    machine: Arc<Machine>,
}

impl Backups {
    /// `None` when none are wanted. Asks the store nothing yet, so that the server starts while it is down.
    pub fn open(config: &Config, traffic: &Arc<Traffic>) -> Result<Option<Backups>, Failure> {
        let Some(url) = config.backup.url.as_deref().filter(|_| config.backup.enabled) else { return Ok(None) };
        let machine = Arc::new(Machine::beside(traffic));
        let around = Arc::clone(&machine) as Arc<dyn Surroundings>;
        let store = open_url(url, &config.storage, Tuning::default(), around)
            .map_err(|error| Failure::new(exit::CONFIG, format!("--backup-url: {}", error.sentence)))?;
        let some = |number: i64| Some(number).filter(|number| *number > 0);
        let plan = Plan {
            interval_ms: config.backup.interval_ms,
            keep: Some(config.backup.keep).filter(|count| *count > 0),
            keep_ms: some(config.backup.keep_ms),
        };
        Ok(Some(Backups { store: Arc::from(store), machine, plan }))
    }

    /// Starts the thread.
    pub fn start(
        self,
        config: &Config,
        disk: Arc<dyn Disk>,
        directory_id: Uuid,
        metrics: Arc<Metrics>,
        clock: Clock,
        tier: Option<Arc<dyn ObjectStore>>,
    ) -> Result<Running, Failure> {
        let root = root_of(config);
        log::info!("backups go to {} every {} s", self.store.describe(), self.plan.interval_ms / 1000);
        let subject = Subject { disk, root, directory_id, store: self.store, tier, metrics, clock };
        let scheduler = Scheduler::spawn(subject, self.plan)
            .map_err(|error| Failure::new(exit::FAILURE, format!("cannot start a thread: {error}")))?;
        Ok(Running { scheduler, machine: self.machine })
    }
}

impl Running {
    /// Ends what is going on.
    pub fn end(&self) {
        self.machine.stop();
    }

    /// Waits for the thread, after `end`. False if it panicked.
    pub fn join(self) -> bool {
        self.scheduler.stop()
    }
}
