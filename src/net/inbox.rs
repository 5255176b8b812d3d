//! Owns the way back from the other threads to the reactor: what they finished, in order, and the bell that wakes it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::tiering::UploadDone;
use crate::broker::work::WorkDone;
use crate::broker::CheckpointDone;
use crate::wal::tidy::TidyDone;
use crate::wal::{ReadDone, Written};

/// What another thread tells the reactor.
pub enum Completion<C> {
    Written(Written),
    Read(ReadDone),
    Work(WorkDone),
    Checkpoint(CheckpointDone),
    Tidy(TidyDone),
    Uploaded(UploadDone),
    /// A question about the broker's state, carried out on the reactor's thread; it must not take long.
    Ask(Box<dyn FnOnce(&mut C) + Send>),
    /// The log cannot go on. Nothing is answered any more.
    Fatal(String),
    /// Stop in an orderly way.
    Stop,
}

/// The sending side; clones share it.
///
/// It needs no bound of its own: every completion answers a job that the reactor has handed out, and those are bounded
/// (one group, one checkpoint, the reads and the work of the requests being handled); questions come from the few
/// threads that answer HTTP. So no thread ever waits for the reactor.
pub struct Inbox<C> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    queue: Mutex<VecDeque<Completion<C>>>,
    bell: Box<dyn Fn() + Send + Sync>,
}

impl<C> Inbox<C> {
    /// An empty inbox; `bell` is rung when it stops being empty.
    pub fn new(bell: impl Fn() + Send + Sync + 'static) -> Inbox<C> {
        Inbox { shared: Arc::new(Shared { queue: Mutex::default(), bell: Box::new(bell) }) }
    }

    /// Hands a completion to the reactor. Never waits.
    pub fn push(&self, completion: Completion<C>) {
        let mut queue = self.shared.queue.lock();
        let was_empty = queue.is_empty();
        queue.push_back(completion);
        drop(queue);
        if was_empty {
            (self.shared.bell)();
        }
    }

    /// Takes everything that is there, leaving `into`'s memory in its place.
    pub fn take_all(&self, into: &mut VecDeque<Completion<C>>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.shared.queue.lock(), into);
    }
}

impl<C> Clone for Inbox<C> {
    fn clone(&self) -> Self {
        Inbox { shared: Arc::clone(&self.shared) }
    }
}

impl<C> fmt::Debug for Inbox<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} waiting)", self.shared.queue.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_bell_rings_once_for_what_is_taken_together() {
        let rung = Arc::new(AtomicUsize::new(0));
        let bell = Arc::clone(&rung);
        let inbox: Inbox<()> = Inbox::new(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        });
        inbox.push(Completion::Stop);
        inbox.push(Completion::Fatal("why".into()));
        let mut taken = VecDeque::new();
        inbox.take_all(&mut taken);
        assert_eq!((taken.len(), rung.load(Ordering::Relaxed)), (2, 1));
        taken.clear();
        inbox.push(Completion::Stop);
        assert_eq!(rung.load(Ordering::Relaxed), 2);
    }
}
