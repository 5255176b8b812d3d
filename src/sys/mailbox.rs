//! Owns threads with a name and the bounded mailboxes that they wait at.
//!
//! A thread that waits makes no wake-up until something is sent or the last sender goes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// A new mailbox for at most `capacity` messages (at least one).
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), senders: 1, receivers: 1 };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        filled: Condvar::new(),
        drained: Condvar::new(),
        capacity: capacity.max(1),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    drained: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
    receivers: usize,
}

/// Puts messages in. Clones share the mailbox.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Takes messages out. Clones share the mailbox: each message goes to one of them.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// Why a message was not taken; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// No room now.
    Full(T),
    /// Nobody reads any more.
    Closed(T),
}

/// What came of waiting with a time limit.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    Message(T),
    TimedOut,
    /// Empty, and no sender is left.
    Closed,
}

impl<T> Sender<T> {
    /// Sends without waiting.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.shared.state.lock();
        if state.receivers == 0 {
            return Err(TrySendError::Closed(message));
        }
        if state.queue.len() >= self.shared.capacity {
            return Err(TrySendError::Full(message));
        }
        state.queue.push_back(message);
        drop(state);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Sends, waiting for room. The message comes back when nobody reads any more.
    pub fn send(&self, message: T) -> Result<(), T> {
        let mut state = self.shared.state.lock();
        while state.receivers > 0 && state.queue.len() >= self.shared.capacity {
            self.shared.drained.wait(&mut state);
        }
        if state.receivers == 0 {
            return Err(message);
        }
        state.queue.push_back(message);
        drop(state);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.shared.state.lock().queue.len()
    }

    /// True when none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Receiver<T> {
    /// Waits for the next message; `None` when the mailbox is empty and no sender is left.
    pub fn recv(&self) -> Option<T> {
        match self.recv_until(None) {
            Received::Message(message) => Some(message),
            Received::TimedOut | Received::Closed => None,
        }
    }

    /// Waits for the next message, but not past `deadline`.
    pub fn recv_until(&self, deadline: Option<Instant>) -> Received<T> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(message) = state.queue.pop_front() {
                drop(state);
                self.shared.drained.notify_one();
                return Received::Message(message);
            }
            if state.senders == 0 {
                return Received::Closed;
            }
            match deadline {
                None => self.shared.filled.wait(&mut state),
                Some(deadline) => {
                    let timed_out = self.shared.filled.wait_until(&mut state, deadline).timed_out();
                    if timed_out && state.queue.is_empty() && state.senders > 0 {
                        return Received::TimedOut;
                    }
                }
            }
        }
    }

    /// The next message if one waits.
    pub fn try_recv(&self) -> Option<T> {
        let message = self.shared.state.lock().queue.pop_front()?;
        self.shared.drained.notify_one();
        Some(message)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().senders += 1;
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().receivers += 1;
        Receiver { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.senders -= 1;
        if state.senders == 0 {
            drop(state);
            self.shared.filled.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            // Nobody will ever take these, so what they hold is given back now.
            let left = std::mem::take(&mut state.queue);
            drop(state);
            drop(left);
            self.shared.drained.notify_all();
        }
    }
}

/// A running thread; `join` waits for its end.
#[derive(Debug)]
pub struct Worker {
    handle: JoinHandle<()>,
}

impl Worker {
    /// Starts a thread under a name of at most 15 bytes (what `ps -T` and `top -H` can show).
    pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
        let handle = std::thread::Builder::new().name(name.to_string()).spawn(body)?;
        Ok(Worker { handle })
    }

    /// Waits for the end; false when the thread panicked.
    pub fn join(self) -> bool {
        self.handle.join().is_ok()
    }

    /// True when it has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_and_the_bound_holds() {
        let (sender, receiver) = mailbox(2);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!(receiver.recv(), Some(1));
        sender.try_send(3).unwrap();
        assert_eq!((receiver.recv(), receiver.try_recv(), receiver.try_recv()), (Some(2), Some(3), None));
    }

    #[test]
    fn both_ends_notice_when_the_other_goes() {
        let (sender, receiver) = mailbox(1);
        let second = sender.clone();
        second.try_send("last").unwrap();
        drop((sender, second));
        assert_eq!(receiver.recv(), Some("last"));
        assert_eq!(receiver.recv(), None);
        let (sender, receiver) = mailbox(1);
        drop(receiver);
        assert_eq!(sender.send(1), Err(1));
        assert_eq!(sender.try_send(1), Err(TrySendError::Closed(1)));
    }

    #[test]
    fn a_sender_waits_for_room_and_a_receiver_for_its_deadline() {
        let (sender, receiver) = mailbox(1);
        let worker = Worker::spawn("mailbox-test", move || (0..100).for_each(|n| sender.send(n).unwrap())).unwrap();
        assert_eq!((0..100).map(|_| receiver.recv().unwrap()).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert!(worker.join());
        let (_sender, receiver) = mailbox::<u8>(1);
        assert_eq!(receiver.recv_until(Some(Instant::now())), Received::TimedOut);
    }
}
