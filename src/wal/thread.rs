//! Owns the loop of the thread that writes the log: one group after the other, each reported when it is durable.

use std::time::Instant;

use super::settings::FsyncMode;
use super::writer::Writer;
use super::{Fatal, Group, Written};
use crate::sys::mailbox::{Received, Receiver};

/// Writes groups until their senders are gone, then seals the open segment. Sleeps without wake-ups while nothing is to be done.
///
/// `done` is told of each group, in order. An error is the last thing it is told: the log cannot go on, and the mailbox takes nothing more.
pub fn run(mut writer: Writer, mailbox: &Receiver<Group>, mut done: impl FnMut(Result<Written, Fatal>)) {
    // When the groups that were not synced have to be.
    let mut sync_at: Option<Instant> = None;
    loop {
        match mailbox.recv_until(sync_at) {
            Received::Message(group) => {
                let result = writer.step(group);
                let failed = result.is_err();
                done(result);
                if failed {
                    return;
                }
                // Space for what comes is reserved now, while nobody waits.
                writer.tend();
            }
            Received::TimedOut => {}
            Received::Closed => {
                if let Err(fatal) = writer.close() {
                    done(Err(fatal));
                }
                return;
            }
        }
        sync_at = match (writer.fsync_mode(), sync_at) {
            (FsyncMode::Interval(every), at) if writer.is_unsynced() => at.or_else(|| Some(Instant::now() + every)),
            _ => None,
        };
        // Looked at after each group too: under load there is always one waiting, and the deadline would never be met.
        if sync_at.is_some_and(|at| at <= Instant::now()) {
            if let Err(fatal) = writer.sync() {
                done(Err(fatal));
                return;
            }
            sync_at = None;
        }
    }
}
