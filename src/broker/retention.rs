//! Owns retention: when log start offsets move by time and size, and when to look next.

use super::agenda::Agenda;
use super::configs::TopicSettings;
use super::log::PartitionLog;
use super::{Broker, Now, Timer};
use crate::wal::PartitionId;

/// When retention looks at what.
#[derive(Debug, Default)]
pub struct Retention {
    agenda: Agenda,
    armed_us: Option<u64>,
}

impl Broker {
    /// Moves the start of the partitions that are due, and sets the timer for the next ones.
    pub(super) fn retain(&mut self, now: Now) {
        self.retention.armed_us = None;
        let unsealed = self.segments.unsealed();
        // What goes of the segment that is being written gives its space back once that is sealed.
        let mut roll = false;
        for id in self.retention.agenda.take_due(now.wall_ms) {
            let Some(topic) = self.topics.by_id(id.topic).filter(|topic| topic.settings.delete) else { continue };
            let (ms, bytes) = (topic.settings.retention_ms, topic.settings.retention_bytes);
            let Some(log) = self.topics.partition(id).map(|partition| &partition.log) else { continue };
            let end = log.logical.retention_end(now.wall_ms, ms, bytes, log.ends());
            // What does not fit into a full disk's reserve comes with the next look.
            if let Some(end) = end.filter(|_| self.has_space_for_metadata()) {
                roll |= log.ends_in(unsealed, end);
                self.move_start(now, id, end);
            }
            self.look_at_retention(now, id);
        }
        if roll {
            self.gather.seal();
        }
        self.arm_retention(now);
    }

    /// Finds out anew for every partition when it is due.
    pub(super) fn schedule_retention(&mut self, now: Now) {
        for id in self.topics.partition_ids() {
            self.look_at_retention(now, id);
        }
        self.arm_retention(now);
    }

    /// Data of a partition became durable: the same, with what is at hand.
    pub(super) fn schedule_retention_after(&mut self, now: Now, id: PartitionId, due_ms: Option<i64>) {
        if self.retention.agenda.set(id, due_ms) {
            self.arm_retention(now);
        }
    }

    /// Something of a partition has changed: retention looks when it is due now, if it ever is.
    pub(super) fn schedule_retention_of(&mut self, now: Now, id: PartitionId) {
        if self.look_at_retention(now, id) {
            self.arm_retention(now);
        }
    }

    /// Notes when a partition is due. True when that is before all others.
    fn look_at_retention(&mut self, now: Now, id: PartitionId) -> bool {
        let topic = self.topics.by_id(id.topic);
        let log = self.topics.partition(id).map(|partition| &partition.log);
        let due = topic.zip(log).and_then(|(topic, log)| due_ms(log, &topic.settings, now.wall_ms));
        self.retention.agenda.set(id, due)
    }

    /// Sets the timer: when the first is due, but not more often than `log.retention.check.interval.ms`. Nothing that can
    /// expire, no timer.
    fn arm_retention(&mut self, now: Now) {
        let Some(first_ms) = self.retention.agenda.first_ms() else { return };
        let at_us = self.next_check_us(now, first_ms);
        self.retention.armed_us = self.arm(self.retention.armed_us, at_us, Timer::Retention);
    }
}

/// When something of a partition is to be deleted, in wall-clock ms; `None` while nothing can be.
pub(super) fn due_ms(log: &PartitionLog, settings: &TopicSettings, now_ms: i64) -> Option<i64> {
    if !settings.delete {
        return None;
    }
    match log.logical.retention_end(now_ms, -1, settings.retention_bytes, log.ends()) {
        Some(_) => Some(now_ms),
        None => log.logical.next_expiry_ms(settings.retention_ms),
    }
}
