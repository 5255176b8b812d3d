//! Owns the threads beside the reactor: who they are, what they are handed, and how they end.
//!
//! Each waits at a mailbox and reports to the reactor's inbox. When the reactor has ended its ends of the mailboxes are
//! gone; each thread then finishes what it was handed and ends.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backups;
use super::inbox::{Completion, Inbox};
use super::reactor::Outlets;
use super::tiers::{self, Orders, Tier};
use crate::broker::work::{self, WorkJob};
use crate::broker::{Broker, CheckpointDone, CheckpointJob};
use crate::limits;
use crate::sys::aligned::AlignedBuf;
use crate::sys::allocator;
use crate::sys::disk::Disk;
use crate::sys::mailbox::{mailbox, Receiver, TrySendError, Worker};
use crate::sys::traffic::{Pieces, Rests, Traffic};
use crate::wal::checkpoint::{Floor, WriteError};
use crate::wal::pool::BufferPool;
use crate::wal::read_cache::{Elsewhere, ReadCache};
use crate::wal::readers::{ReaderCounts, Readers};
use crate::wal::settings::{Entropy, FsyncMode};
use crate::wal::thread::WalThread;
use crate::wal::tidy::{Tidier, TidyJob};
use crate::wal::writer::Writer;
use crate::wal::{self, checkpoint, Fatal, ReadDone, ReadError, SegmentId, Written};
use crate::wire::Uuid;

/// Threads that read what is not in memory.
const READERS: usize = 2;

/// Jobs that may wait for the worker. They cannot be more than the Produce requests that are being handled, whose number
/// the broker bounds per connection; this only keeps a mistake there from filling the memory.
const JOBS_MAX: usize = 1 << 20;

/// Checkpoints and removals that wait for the housekeeper. One checkpoint is asked for at a time; removals are few.
const CHORES_MAX: usize = 1 << 16;

/// A checkpoint that takes longer than this is mentioned in the log.
const SLOW_CHECKPOINT: Duration = Duration::from_secs(1);

/// Tidyings that wait. The broker asks for one at a time.
const TIDYINGS_MAX: usize = 1;

/// So at least half of the disk's and a core's time is left to others, however slow the machine is, and most of it while the
/// log is being written.
const TIDY_RESTS: Rests = Rests { idle: 1, busy: 4 };

/// What the housekeeper is asked to do.
#[derive(Debug)]
enum Chore {
    Checkpoint(CheckpointJob),
    Remove(SegmentId),
    /// Nobody needs it any more, wherever it is.
    Forget(SegmentId),
    /// A burst is over.
    Trim,
}

/// The running threads.
#[derive(Debug)]
pub struct Threads {
    wal: Arc<WalThread>,
    readers: Arc<Readers>,
    workers: Vec<(&'static str, Worker)>,
    /// Tells the tidier to give up what it does.
    ending: Arc<AtomicBool>,
    tier: Option<tiers::Running>,
}

/// What the threads work on.
pub struct Plant {
    pub disk: Arc<dyn Disk>,
    pub directory_id: Uuid,
    pub writer: Writer,
    pub tier: Option<Tier>,
    /// Told of each group that is written.
    pub traffic: Arc<Traffic>,
}

impl Threads {
    /// Starts them all. Orders go into the returned outlets, reports come to the inbox.
    pub fn start(plant: Plant, inbox: &Inbox<Broker>) -> io::Result<(Threads, Outlets)> {
        let pool = plant.writer.pool();
        let is_lossy = plant.writer.fsync_mode() != FsyncMode::Always;
        let traffic = plant.traffic;
        let wal = Arc::new(WalThread::spawn(plant.writer, report_groups(pool, Arc::clone(&traffic), inbox.clone()))?);

        let readers = Arc::new(readers(&plant.disk, plant.tier.as_ref(), inbox.clone())?);

        // One worker, so that jobs of one connection and partition are done in the order of their arrival.
        let (jobs, receiver) = mailbox(JOBS_MAX);
        let reports = inbox.clone();
        let worker = Worker::spawn("chronik-work", move || do_work(&receiver, &reports))?;

        let tidier = Tidier::new(Arc::clone(&plant.disk), plant.directory_id, readers.cache(), Entropy::System);

        let (tier, orders) = match plant.tier {
            Some(tier) => tier.start(inbox).map(|(running, orders)| (Some(running), orders))?,
            None => (None, Orders::none()),
        };
        let Orders { upload, mut evict, forget } = orders;
        let (chores, receiver) = mailbox(CHORES_MAX);
        let house = House {
            is_lossy,
            disk: plant.disk,
            directory_id: plant.directory_id,
            readers: Arc::clone(&readers),
            inbox: inbox.clone(),
            forget,
        };
        let housekeeper = Worker::spawn("chronik-house", move || house.keep(&receiver))?;

        let (tidyings, receiver) = mailbox(TIDYINGS_MAX);
        let (ending, reports) = (Arc::new(AtomicBool::new(false)), inbox.clone());
        let stops = Stops { is_ending: Arc::clone(&ending), is_stopped: Arc::default() };
        let is_stopped = Arc::clone(&stops.is_stopped);
        let tidier = Worker::spawn("chronik-tidy", move || tidy(tidier, &receiver, &reports, &traffic, &stops))?;

        let (evictions, trims) = (chores.clone(), chores.clone());

        // The reactor's ends of the mailboxes. None of them ever waits; see the capacities.
        let (log, reads, reports, removals) = (Arc::clone(&wal), Arc::clone(&readers), inbox.clone(), chores.clone());
        let outlets = Outlets {
            // When the log has failed it has reported that already, and the loop is about to end.
            group: Box::new(move |group| drop(log.submit(group))),
            read: Box::new(move |job| {
                if let Err(TrySendError::Full(job) | TrySendError::Closed(job)) = reads.submit(job) {
                    let result = Err(ReadError::Io("too many reads wait for the disk".into()));
                    reports.push(Completion::Read(ReadDone { job: job.job, id: job.id, result }));
                }
            }),
            work: Box::new(move |job| expect_taken(jobs.try_send(job), "worker")),
            checkpoint: Box::new(move |job| expect_taken(chores.try_send(Chore::Checkpoint(job)), "housekeeper")),
            tidy: Box::new(move |job| expect_taken(tidyings.try_send(job), "tidier")),
            stop_tidy: Box::new(move || is_stopped.store(true, Ordering::Relaxed)),
            remove: Box::new(move |segment| expect_taken(removals.try_send(Chore::Forget(segment)), "housekeeper")),
            upload,
            evict: Box::new(move |segment, object| {
                // First it is known where it is from now on, then the file goes.
                evict(segment, object);
                expect_taken(evictions.try_send(Chore::Remove(segment)), "housekeeper");
            }),
            // With so much to do that this finds no room, there will be another burst.
            trim: Box::new(move || drop(trims.try_send(Chore::Trim))),
            reload: Box::new(|| {}),
            stopping: Box::new(|| {}),
        };
        let workers = vec![("worker", worker), ("housekeeper", housekeeper), ("tidier", tidier)];
        Ok((Threads { wal, readers, workers, ending, tier }, outlets))
    }

    /// Waits until all have finished what they were handed and ended, the backups too. Call it when the outlets are gone.
    ///
    /// When the log is closed nothing more can be lost, so a store that says nothing is not waited for for long.
    pub fn join(self, backups: Option<backups::Running>) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(tier) = &self.tier {
            tier.end();
        }
        if let Some(backups) = &backups {
            backups.end();
        }
        let is_closed = Arc::into_inner(self.wal).is_none_or(WalThread::stop);
        let asks_stores = self.tier.is_some() || backups.is_some();
        let others = Others { backups, workers: self.workers, readers: self.readers, tier: self.tier };
        let ended = if asks_stores { others.join_in_time() } else { others.join() };
        if !(is_closed && ended) {
            log::error!("a thread ended with an internal error");
        }
    }
}

/// All threads but the one that writes the log.
struct Others {
    backups: Option<backups::Running>,
    workers: Vec<(&'static str, Worker)>,
    readers: Arc<Readers>,
    tier: Option<tiers::Running>,
}

impl Others {
    /// Waits for them. False if one panicked.
    fn join(self) -> bool {
        let mut ended = self.backups.is_none_or(backups::Running::join);
        for (_, worker) in self.workers {
            ended &= worker.join();
        }
        ended &= Arc::into_inner(self.readers).is_none_or(Readers::stop);
        ended & self.tier.is_none_or(tiers::Running::join)
    }

    /// The same for some time. What is left in the middle of something then is as after a kill: the next start copes with it.
    fn join_in_time(self) -> bool {
        let (sender, ended) = mpsc::sync_channel(1);
        let waiting = Worker::spawn("chronik-leave", move || {
            // Nobody listens any more when it took too long.
            let _ = sender.send(self.join());
        });
        match waiting.map(|_| ended.recv_timeout(Duration::from_millis(limits::STORE_STOP_MS_MAX))) {
            Ok(Ok(ended)) => ended,
            Ok(Err(RecvTimeoutError::Disconnected)) => false,
            Ok(Err(RecvTimeoutError::Timeout)) => {
                log::warn!("an object store does not answer, and is not waited for any longer");
                true
            }
            Err(_) => true,
        }
    }
}

fn readers(disk: &Arc<dyn Disk>, tier: Option<&Tier>, inbox: Inbox<Broker>) -> io::Result<Readers> {
    let disk = Arc::clone(disk);
    let cache = match tier {
        Some(tier) => ReadCache::with_elsewhere(disk, Arc::clone(&tier.remote) as Arc<dyn Elsewhere>),
        None => ReadCache::new(disk),
    };
    let counts = ReaderCounts { here: READERS, elsewhere: tier.map(|_| limits::TIER_READERS) };
    Readers::spawn(Arc::new(cache), counts, move |done| inbox.push(Completion::Read(done)))
}

/// The capacities make a refusal a mistake of ours, and requests would wait for ever after it.
fn expect_taken<T>(result: Result<(), TrySendError<T>>, who: &str) {
    assert!(result.is_ok(), "the {who} takes no order");
}

/// Reports groups, and gives their buffers back to the pool when nobody holds them any more: memory that was used before
/// costs less than fresh memory. `traffic` is told of them.
fn report_groups(
    pool: BufferPool,
    traffic: Arc<Traffic>,
    inbox: Inbox<Broker>,
) -> impl FnMut(Result<Written, Fatal>) + Send {
    let mut lent: VecDeque<Arc<AlignedBuf>> = VecDeque::new();
    move |result| match result {
        Ok(written) => {
            traffic.note();
            lent.push_back(Arc::clone(&written.buf));
            inbox.push(Completion::Written(written));
            // The broker lets go of them in their order.
            while lent.front().is_some_and(|buf| Arc::strong_count(buf) == 1) {
                lent.pop_front().into_iter().for_each(|buf| pool.give(buf));
            }
        }
        Err(fatal) => inbox.push(Completion::Fatal(fatal.to_string())),
    }
}

fn do_work(jobs: &Receiver<WorkJob>, inbox: &Inbox<Broker>) {
    while let Some(job) = jobs.recv() {
        inbox.push(Completion::Work(work::run(job)));
    }
}

/// What ends a tidying before its time: the end of the server, or the broker, which stops that one only.
struct Stops {
    is_ending: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
}

/// Makes packs, and rests after each piece.
fn tidy(mut tidier: Tidier, jobs: &Receiver<TidyJob>, inbox: &Inbox<Broker>, traffic: &Arc<Traffic>, stops: &Stops) {
    while let Some(job) = jobs.recv() {
        // The broker stops a job only while it waits for it, so what was meant for the last one came before this one.
        stops.is_stopped.store(false, Ordering::Relaxed);
        let mut pieces = Pieces::begin(Arc::clone(traffic), TIDY_RESTS);
        let done = tidier.run(&job, &mut |_bytes| {
            pieces.end();
            ![&stops.is_ending, &stops.is_stopped].iter().any(|flag| flag.load(Ordering::Relaxed))
        });
        inbox.push(Completion::Tidy(done));
    }
}

/// What the housekeeper needs.
struct House {
    /// Groups are reported as written before they are synced.
    is_lossy: bool,
    disk: Arc<dyn Disk>,
    directory_id: Uuid,
    readers: Arc<Readers>,
    inbox: Inbox<Broker>,
    /// Forgets a segment of the store.
    forget: Box<dyn FnMut(SegmentId) + Send>,
}

impl House {
    /// Checkpoints and the removal of segments, in the order they were asked for. After a failed sync of the log nothing more
    /// is done, as entries that free a segment may be lost.
    fn keep(mut self, chores: &Receiver<Chore>) {
        while let Some(chore) = chores.recv() {
            match chore {
                Chore::Checkpoint(job) => {
                    let seq = job.seq;
                    match self.checkpoint(job) {
                        Err(error @ WriteError::Log(_)) => {
                            self.inbox.push(Completion::Fatal(error.to_string()));
                            while chores.recv().is_some() {}
                        }
                        result => {
                            let result = result.map_err(|error| error.to_string());
                            self.inbox.push(Completion::Checkpoint(CheckpointDone { seq, result }));
                        }
                    }
                }
                Chore::Remove(segment) => self.remove(segment),
                Chore::Forget(segment) => {
                    self.remove(segment);
                    (self.forget)(segment);
                }
                Chore::Trim => allocator::give_back_what_is_kept(),
            }
        }
    }

    fn checkpoint(&self, job: CheckpointJob) -> Result<Floor, WriteError> {
        let begun = Instant::now();
        let bytes = job.state.into_bytes();
        let floor = checkpoint::write(&*self.disk, self.directory_id, job.seq, job.position, &bytes)?;
        if begun.elapsed() > SLOW_CHECKPOINT {
            log::info!("a checkpoint of {} bytes took {} ms", bytes.len(), begun.elapsed().as_millis());
        }
        Ok(floor)
    }

    fn remove(&self, segment: SegmentId) {
        // The entries that free it must not be lost when it is gone.
        if self.is_lossy {
            if let Err(error) = wal::sync_newest(&*self.disk) {
                return self.inbox.push(Completion::Fatal(format!("syncing the log: {error}")));
            }
        }
        if let Err(error) = wal::remove_segment(&*self.disk, segment) {
            log::warn!("cannot remove {segment}, which nobody needs any more: {error}");
        }
        // Readers keep segments open, and an open file keeps its space. Only now can none be opened again.
        self.readers.forget(segment);
    }
}
