//! Owns the reader threads, which do cold reads so that the reactor never waits for a disk.

use std::io;
use std::sync::Arc;

use super::read_cache::ReadCache;
use super::reader::Reader;
use super::{ReadDone, ReadJob, SegmentId};
use crate::limits;
use crate::sys::mailbox::{mailbox, Sender, TrySendError, Worker};

/// The running threads. They sleep without wake-ups while there is nothing to read.
///
/// What lies elsewhere is read by threads of its own, so that a slow store holds up nobody who reads from this disk. What is converted
/// takes a processor for itself as long as it lasts, and is for clients of long ago: it has one thread, which leaves a processor to the
/// others.
#[derive(Debug)]
pub struct Readers {
    here: Sender<ReadJob>,
    converting: Sender<ReadJob>,
    elsewhere: Option<Sender<ReadJob>>,
    workers: Vec<Worker>,
    cache: Arc<ReadCache>,
}

/// How many threads read, at least one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderCounts {
    pub here: usize,
    /// For segments that are elsewhere; none where there is no such place.
    pub elsewhere: Option<usize>,
}

impl Readers {
    /// Starts the threads. `done` is called on them, once for each job, in any order.
    pub fn spawn(
        cache: Arc<ReadCache>,
        counts: ReaderCounts,
        done: impl Fn(ReadDone) + Clone + Send + 'static,
    ) -> io::Result<Readers> {
        let mut workers = Vec::new();
        let mut spawn_some = |name, count| spawn_some(name, count, &cache, &done, &mut workers);
        let here = spawn_some("chronik-read", counts.here)?;
        let converting = spawn_some("chronik-convert", 1)?;
        let elsewhere = counts.elsewhere.map(|count| spawn_some("chronik-tier", count)).transpose()?;
        Ok(Readers { here, converting, elsewhere, workers, cache })
    }

    /// Hands over a job without waiting; it comes back when too many wait.
    pub fn submit(&self, job: ReadJob) -> Result<(), TrySendError<ReadJob>> {
        match &self.elsewhere {
            Some(elsewhere) if job.kind.segments().any(|id| self.cache.is_elsewhere(id)) => elsewhere.try_send(job),
            _ if job.kind.is_converted() => self.converting.try_send(job),
            _ => self.here.try_send(job),
        }
    }

    /// The segments that the readers keep open.
    pub fn cache(&self) -> Arc<ReadCache> {
        self.cache.clone()
    }

    /// Lets go of a segment that is removed, so that its space is given back.
    pub fn forget(&self, segment: SegmentId) {
        self.cache.forget(segment);
    }

    /// Lets the threads finish what waits, and waits for their end. False if one panicked.
    pub fn stop(self) -> bool {
        drop((self.here, self.converting, self.elsewhere));
        // All of them are waited for, also after one that panicked.
        let ends: Vec<bool> = self.workers.into_iter().map(Worker::join).collect();
        ends.into_iter().all(|fine| fine)
    }
}

fn spawn_some(
    name: &str,
    count: usize,
    cache: &Arc<ReadCache>,
    done: &(impl Fn(ReadDone) + Clone + Send + 'static),
    workers: &mut Vec<Worker>,
) -> io::Result<Sender<ReadJob>> {
    let (sender, receiver) = mailbox::<ReadJob>(limits::READ_MAILBOX_JOBS);
    for number in 0..count.max(1) {
        let (receiver, done, cache) = (receiver.clone(), done.clone(), cache.clone());
        let body = move || {
            let mut reader = Reader::with_cache(cache);
            while let Some(job) = receiver.recv() {
                done(reader.read(job));
            }
        };
        workers.push(Worker::spawn(&format!("{name}-{number}"), body)?);
    }
    Ok(sender)
}
