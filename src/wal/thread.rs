//! Owns the thread that writes the log: one group after the other, each reported when it is durable.

use std::io;
use std::time::Instant;

use super::pool::BufferPool;
use super::settings::FsyncMode;
use super::writer::Writer;
use super::{Fatal, Group, Written};
use crate::limits;
use crate::sys::mailbox::{mailbox, Received, Receiver, Sender, TrySendError, Worker};

/// The running thread. It sleeps without wake-ups while there is nothing to do.
#[derive(Debug)]
pub struct WalThread {
    sender: Sender<Group>,
    worker: Worker,
    pool: BufferPool,
}

impl WalThread {
    /// Starts the thread. `done` is called on it for each group, in order; after an error it is called no more, and
    /// groups that are sent are not taken.
    pub fn spawn(writer: Writer, done: impl FnMut(Result<Written, Fatal>) + Send + 'static) -> io::Result<WalThread> {
        let (sender, receiver) = mailbox(limits::WAL_MAILBOX_GROUPS);
        let pool = writer.pool();
        let worker = Worker::spawn("chronik-wal", move || run(writer, &receiver, done))?;
        Ok(WalThread { sender, worker, pool })
    }

    /// Hands over a group without waiting. It comes back when too many wait, or when the log has failed.
    pub fn submit(&self, group: Group) -> Result<(), TrySendError<Group>> {
        self.sender.try_send(group)
    }

    /// Where buffers of written groups can be given back for use again.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// Lets the thread finish what waits, seals the open segment, and waits for its end. False if it panicked.
    pub fn stop(self) -> bool {
        drop(self.sender);
        self.worker.join()
    }
}

fn run(mut writer: Writer, mailbox: &Receiver<Group>, mut done: impl FnMut(Result<Written, Fatal>)) {
    crate::sys::priority::be_soon_on_this_thread();
    // When the groups that were not synced have to be.
    let mut sync_at: Option<Instant> = None;
    loop {
        let failed = match mailbox.recv_until(sync_at) {
            Received::Message(group) => {
                let result = writer.step(group);
                let failed = result.is_err();
                done(result);
                // Space for what comes is reserved now, while nobody waits.
                writer.tend();
                failed
            }
            Received::TimedOut => false,
            Received::Closed => {
                if let Err(fatal) = writer.close() {
                    done(Err(fatal));
                }
                return;
            }
        };
        if failed {
            return;
        }
        sync_at = match (writer.fsync_mode(), sync_at) {
            (FsyncMode::Interval(every), at) if writer.is_unsynced() => at.or_else(|| Some(Instant::now() + every)),
            _ => None,
        };
        if sync_at.is_some_and(|at| at <= Instant::now()) {
            if let Err(fatal) = writer.sync() {
                done(Err(fatal));
                return;
            }
            sync_at = None;
        }
    }
}
