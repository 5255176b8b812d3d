//! Owns the threads beside the reactor: who they are, what they are handed, and how they end.
//!
//! Each waits at a mailbox and reports to the reactor's inbox. When the reactor has ended its ends of the mailboxes are
//! gone; each thread then finishes what it was handed and ends.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inbox::{Completion, Inbox};
use super::reactor::Outlets;
use crate::broker::work::{self, WorkJob};
use crate::broker::{Broker, CheckpointDone, CheckpointJob};
use crate::sys::disk::Disk;
use crate::sys::mailbox::{mailbox, Received, Receiver, Sender, Worker};
use crate::wal::settings::FsyncMode;
use crate::wal::writer::Writer;
use crate::wal::{self, checkpoint, Group, ReadDone, ReadError, ReadJob, SegmentId};
use crate::wire::Uuid;

/// Threads that read what is not in memory.
const READERS: usize = 2;

/// Jobs in the mailboxes of readers and worker. They cannot be more than the requests that wait for them, whose number
/// the broker bounds per connection; this only keeps a mistake there from filling the memory.
const JOBS_MAX: usize = 1 << 20;

/// Checkpoints and removals that wait for the housekeeper. One checkpoint is asked for at a time; removals are few.
const CHORES_MAX: usize = 1 << 16;

/// What the housekeeper is asked to do.
#[derive(Debug)]
enum Chore {
    Checkpoint(CheckpointJob),
    Remove(SegmentId),
}

/// The running threads.
#[derive(Debug)]
pub struct Threads {
    workers: Vec<(&'static str, Worker)>,
}

/// What the threads work on.
pub struct Plant {
    pub disk: Arc<dyn Disk>,
    pub directory_id: Uuid,
    pub writer: Writer,
}

impl Threads {
    /// Starts them all. Orders go into the returned outlets, reports come to the inbox.
    pub fn start(plant: Plant, inbox: &Inbox<Broker>) -> io::Result<(Threads, Outlets)> {
        let mut workers = Vec::new();
        // Capacity for one group: the reactor hands out the next when this one is reported.
        let (groups, receiver) = mailbox(1);
        let reports = inbox.clone();
        let writer = plant.writer;
        workers.push(("wal", Worker::spawn("wal", move || write_log(writer, &receiver, &reports))?));

        let (reads, receiver) = mailbox(JOBS_MAX);
        for name in ["reader-0", "reader-1"].into_iter().take(READERS) {
            let (reports, receiver, disk) = (inbox.clone(), Receiver::clone(&receiver), Arc::clone(&plant.disk));
            workers.push((name, Worker::spawn(name, move || read_log(&*disk, &receiver, &reports))?));
        }

        // One worker, so that jobs of one connection and partition are done in the order of their arrival.
        let (jobs, receiver) = mailbox(JOBS_MAX);
        let reports = inbox.clone();
        workers.push(("worker", Worker::spawn("worker", move || do_work(&receiver, &reports))?));

        let (chores, receiver) = mailbox(CHORES_MAX);
        let (reports, disk, directory_id) = (inbox.clone(), plant.disk, plant.directory_id);
        let keep_house = move || keep_house(&*disk, directory_id, &receiver, &reports);
        workers.push(("housekeeper", Worker::spawn("housekeeper", keep_house)?));

        Ok((Threads { workers }, outlets(groups, reads, jobs, chores)))
    }

    /// Waits until all have ended, which they do when the outlets are gone.
    pub fn join(self) {
        for (name, worker) in self.workers {
            if !worker.join() {
                log::error!("the thread {name} ended with an internal error");
            }
        }
    }
}

/// The reactor's ends of the mailboxes. None of them ever waits; see the capacities.
fn outlets(groups: Sender<Group>, reads: Sender<ReadJob>, jobs: Sender<WorkJob>, chores: Sender<Chore>) -> Outlets {
    let removals = chores.clone();
    Outlets {
        group: Box::new(move |group| order(&groups, group, "wal")),
        read: Box::new(move |job| order(&reads, job, "reader")),
        work: Box::new(move |job| order(&jobs, job, "worker")),
        checkpoint: Box::new(move |job| order(&chores, Chore::Checkpoint(job), "housekeeper")),
        remove: Box::new(move |segment| order(&removals, Chore::Remove(segment), "housekeeper")),
        reload: Box::new(|| {}),
        stopping: Box::new(|| {}),
    }
}

/// Hands an order over. The capacities make a refusal a mistake of ours: requests would wait for ever, so it is fatal.
fn order<T>(sender: &Sender<T>, order: T, who: &str) {
    assert!(sender.try_send(order).is_ok(), "the {who} thread takes no order");
}

/// The wal thread: one group after the other; each is reported when it is durable.
fn write_log(mut writer: Writer, groups: &Receiver<Group>, inbox: &Inbox<Broker>) {
    let mut sync_at = None;
    let fatal = loop {
        match groups.recv_until(sync_at) {
            Received::Message(group) => {
                let written = match writer.step(group) {
                    Ok(written) => written,
                    Err(fatal) => break fatal,
                };
                inbox.push(Completion::Written(written));
                // The next group is being gathered meanwhile, so this is the time to reserve space for it.
                writer.tend();
                sync_at = match writer.fsync_mode() {
                    FsyncMode::Interval(every) if writer.is_unsynced() => sync_at.or(Some(Instant::now() + every)),
                    _ => None,
                };
            }
            Received::TimedOut => match writer.sync() {
                Ok(()) => sync_at = None,
                Err(fatal) => break fatal,
            },
            Received::Closed => {
                // Nobody is left to tell; the next start finds everything that was reported all the same.
                if let Err(fatal) = writer.close() {
                    log::warn!("the log could not be closed in order: {fatal}");
                }
                return;
            }
        }
    };
    inbox.push(Completion::Fatal(fatal.to_string()));
}

fn read_log(_disk: &dyn Disk, jobs: &Receiver<ReadJob>, inbox: &Inbox<Broker>) {
    while let Some(job) = jobs.recv() {
        let result = Err(ReadError::Io("reading from the disk is not wired yet".into()));
        inbox.push(Completion::Read(ReadDone { job: job.job, id: job.id, result }));
    }
}

fn do_work(jobs: &Receiver<WorkJob>, inbox: &Inbox<Broker>) {
    while let Some(job) = jobs.recv() {
        inbox.push(Completion::Work(work::run(job)));
    }
}

/// The housekeeper: checkpoints and the removal of segments, in the order they were asked for.
fn keep_house(disk: &dyn Disk, directory_id: Uuid, chores: &Receiver<Chore>, inbox: &Inbox<Broker>) {
    while let Some(chore) = chores.recv() {
        match chore {
            Chore::Checkpoint(job) => {
                let begun = Instant::now();
                let result = checkpoint::write(disk, directory_id, job.seq, job.position, &job.bytes);
                if result.is_ok() && begun.elapsed() > Duration::from_secs(1) {
                    log::info!("a checkpoint of {} bytes took {} ms", job.bytes.len(), begun.elapsed().as_millis());
                }
                let result = result.map_err(|error| error.to_string());
                inbox.push(Completion::Checkpoint(CheckpointDone { seq: job.seq, result }));
            }
            Chore::Remove(segment) => {
                if let Err(error) = wal::remove_segment(disk, segment) {
                    log::warn!("cannot remove segment {segment}, which nobody needs any more: {error}");
                }
            }
        }
    }
}
