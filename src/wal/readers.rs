//! Owns the reader threads, which do cold reads so that the reactor never waits for a disk.

use std::io;
use std::sync::Arc;

use super::read_cache::ReadCache;
use super::reader::Reader;
use super::{ReadDone, ReadJob, SegmentId};
use crate::limits;
use crate::sys::disk::Disk;
use crate::sys::mailbox::{mailbox, Sender, TrySendError, Worker};

/// The running threads. They sleep without wake-ups while there is nothing to read.
#[derive(Debug)]
pub struct Readers {
    sender: Sender<ReadJob>,
    workers: Vec<Worker>,
    cache: Arc<ReadCache>,
}

impl Readers {
    /// Starts `count` threads (at least one). `done` is called on them, once for each job, in any order.
    pub fn spawn(
        disk: Arc<dyn Disk>,
        count: usize,
        done: impl Fn(ReadDone) + Clone + Send + 'static,
    ) -> io::Result<Readers> {
        let (sender, receiver) = mailbox::<ReadJob>(limits::READ_MAILBOX_JOBS);
        let cache = Arc::new(ReadCache::new(disk));
        let mut workers = Vec::new();
        for number in 0..count.max(1) {
            let (receiver, done, cache) = (receiver.clone(), done.clone(), cache.clone());
            let body = move || {
                let mut reader = Reader::with_cache(cache);
                while let Some(job) = receiver.recv() {
                    done(reader.read(job));
                }
            };
            workers.push(Worker::spawn(&format!("chronik-read-{number}"), body)?);
        }
        Ok(Readers { sender, workers, cache })
    }

    /// Hands over a job without waiting; it comes back when too many wait.
    pub fn submit(&self, job: ReadJob) -> Result<(), TrySendError<ReadJob>> {
        self.sender.try_send(job)
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
        drop(self.sender);
        // All of them are waited for, also after one that panicked.
        let ends: Vec<bool> = self.workers.into_iter().map(Worker::join).collect();
        ends.into_iter().all(|fine| fine)
    }
}
