//! Owns the server's own backups: a thread that makes one when it is time, and keeps as many as it should.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::find::newest;
use super::{create, keep, layout, Created, Failure, Kind, Origin, Watch};
use crate::limits;
use crate::metrics::Metrics;
use crate::store::ObjectStore;
use crate::sys::clock::Clock;
use crate::sys::disk::Disk;
use crate::sys::mailbox::{mailbox, Received, Receiver, Sender, Worker};
use crate::wal::settings::Entropy;
use crate::wire::Uuid;

/// When backups are made, and how many stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// From the beginning of one to that of the next, ms.
    pub interval_ms: i64,
    /// How many stay; `None` for all.
    pub keep: Option<u64>,
    /// How long they stay, ms; `None` for ever.
    pub keep_ms: Option<i64>,
}

/// What backups are made of and where they go.
pub struct Subject {
    pub disk: Arc<dyn Disk>,
    /// The data directory.
    pub root: PathBuf,
    pub directory_id: Uuid,
    pub store: Arc<dyn ObjectStore>,
    /// Where segments lie that only the object store has.
    pub tier: Option<Arc<dyn ObjectStore>>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

/// The running thread. It sleeps without wake-ups until the next backup is due.
#[derive(Debug)]
pub struct Scheduler {
    sender: Sender<()>,
    worker: Worker,
    stopped: Arc<AtomicBool>,
}

impl Scheduler {
    pub fn spawn(subject: Subject, plan: Plan) -> io::Result<Scheduler> {
        let (sender, receiver) = mailbox(1);
        let stopped = Arc::new(AtomicBool::new(false));
        let keeper = Keeper { subject, plan, stopped: Arc::clone(&stopped), failures: 0, was_busy: false };
        let worker = Worker::spawn("chronik-backup", move || keeper.run(&receiver))?;
        Ok(Scheduler { sender, worker, stopped })
    }

    /// Ends a backup that is being made, and waits for the thread. False if it panicked.
    pub fn stop(self) -> bool {
        self.stopped.store(true, Ordering::Relaxed);
        drop(self.sender);
        self.worker.join()
    }
}

struct Keeper {
    subject: Subject,
    plan: Plan,
    stopped: Arc<AtomicBool>,
    /// Failures since the last backup that was made.
    failures: u32,
    /// Somebody was in the way of the last try, which was said.
    was_busy: bool,
}

struct Stopped<'a>(&'a AtomicBool);

impl Watch for Stopped<'_> {
    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Keeper {
    fn run(mut self, mailbox: &Receiver<()>) {
        let mut wait_ms = self.first_wait_ms();
        loop {
            let until = Instant::now() + Duration::from_millis(wait_ms.max(0) as u64);
            match mailbox.recv_until(Some(until)) {
                Received::Closed => return,
                Received::Message(()) | Received::TimedOut => wait_ms = self.backup(),
            }
        }
    }

    /// A restart does not change when the next one is due.
    fn first_wait_ms(&self) -> i64 {
        let directory = layout::directory(self.subject.directory_id);
        match newest(&*self.subject.store, &directory, None) {
            Ok(Some(last)) => {
                let metrics = &self.subject.metrics;
                metrics.backup_last_success_seconds.set(last.time_ms / 1000);
                let due_ms = last.time_ms.saturating_add(self.plan.interval_ms);
                // A clock that went back must not keep backups from being made.
                due_ms.saturating_sub(self.subject.clock.wall_ms()).clamp(0, self.plan.interval_ms)
            }
            // If something is wrong, the backup that is due now will say it.
            Ok(None) | Err(_) => 0,
        }
    }

    /// Makes one; how long to wait for the next.
    fn backup(&mut self) -> i64 {
        let (begun, now_ms) = (Instant::now(), self.subject.clock.wall_ms());
        match self.make(now_ms) {
            Ok(created) => {
                (self.failures, self.was_busy) = (0, false);
                self.say(&created, begun.elapsed());
                self.keep(now_ms);
                (self.plan.interval_ms - begun.elapsed().as_millis() as i64).max(0)
            }
            Err(failure) if failure.kind == Kind::Stopped => self.plan.interval_ms,
            // Who is in the way, as an upload is, soon is not.
            Err(failure) if failure.kind == Kind::Busy => {
                if !std::mem::replace(&mut self.was_busy, true) {
                    log::info!("a backup is made later: {failure}");
                }
                limits::BACKUP_BUSY_MS.min(self.plan.interval_ms)
            }
            Err(failure) => {
                self.subject.metrics.backups_failed.inc();
                let doubled = limits::BACKUP_RETRY_MS.saturating_mul(1 << self.failures.min(20));
                let wait_ms = doubled.min(self.plan.interval_ms);
                self.failures = self.failures.saturating_add(1);
                log::warn!("no backup was made: {failure}. The next try is in {} s", (wait_ms + 999) / 1000);
                wait_ms
            }
        }
    }

    fn make(&self, now_ms: i64) -> Result<Created, Failure> {
        let origin = Origin::of_server(Arc::clone(&self.subject.disk), self.subject.root.clone())?;
        let origin = match &self.subject.tier {
            Some(tier) => origin.with_tier(Arc::clone(tier)),
            None => origin,
        };
        create(&origin, &*self.subject.store, now_ms, &mut Entropy::System, &Stopped(&self.stopped))
    }

    fn say(&self, created: &Created, took: Duration) {
        let (manifest, metrics) = (&created.manifest, &self.subject.metrics);
        for note in &created.notes {
            log::warn!("backup {}: {note}", manifest.backup);
        }
        metrics.backups_made.inc();
        metrics.backup_last_success_seconds.set(manifest.time_ms / 1000);
        metrics.backup_last_sent_bytes.set(created.sent_bytes as i64);
        metrics.backup_last_bytes.set(manifest.bytes() as i64);
        metrics.backup_last_duration_seconds.set(took.as_secs_f64().ceil() as i64);
        log::info!(
            "backup {} made in {} ms: {} topics, {} bytes, {} of them sent to {}",
            manifest.backup,
            took.as_millis(),
            manifest.topics.len(),
            manifest.bytes(),
            created.sent_bytes,
            self.subject.store.describe()
        );
    }

    fn keep(&self, now_ms: i64) {
        if self.plan.keep.is_none() && self.plan.keep_ms.is_none() {
            return;
        }
        let directory = layout::directory(self.subject.directory_id);
        let since_ms = self.plan.keep_ms.map(|ms| now_ms.saturating_sub(ms));
        match keep(&*self.subject.store, &directory, self.plan.keep, since_ms) {
            Ok((deleted, swept)) if !deleted.is_empty() || swept.objects > 0 => {
                log::info!("{} old backups deleted, {} bytes of the store given back", deleted.len(), swept.bytes)
            }
            Ok(_) => {}
            Err(failure) => log::warn!("old backups were not deleted: {failure}"),
        }
    }
}
