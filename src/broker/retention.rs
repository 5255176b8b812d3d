//! Owns retention: when log start offsets move by time and size, and when to look next.

use super::{Broker, Now, Timer};
use crate::wal::PartitionId;

impl Broker {
    /// Moves the start of every partition whose oldest segments are due, and looks again when the next ones are.
    pub(super) fn retain(&mut self, now: Now) {
        let unsealed = self.segments.unsealed();
        let mut due = Vec::new();
        // Records that have expired in the segment being written go once it is sealed, as Kafka rolls an expired segment.
        let mut roll = false;
        for topic in self.topics.iter().filter(|topic| topic.settings.delete && !topic.settings.compact) {
            let (ms, bytes) = (topic.settings.retention_ms, topic.settings.retention_bytes);
            for log in topic.partitions.iter().map(|partition| &partition.log) {
                roll |= log.next_expiry_ms(ms).is_some_and(|at| at <= now.wall_ms) && log.begins_in(unsealed);
                let end = log.retention_end(now.wall_ms, ms, bytes, unsealed);
                if end > log.start_offset {
                    due.push((log.id, end));
                }
            }
        }
        for (id, end) in due {
            // What does not fit into a full disk's reserve comes with the next look.
            if !self.has_space_for_metadata() {
                break;
            }
            self.move_start(now, id, end);
        }
        if roll {
            self.gather.seal();
        }
        self.schedule_retention(now);
    }

    /// Sets the timer for the next look: when the first sealed data expires, but not more often than
    /// `log.retention.check.interval.ms`. Nothing that can expire, no timer.
    pub(super) fn schedule_retention(&mut self, now: Now) {
        let unsealed = self.segments.unsealed();
        let topics = self.topics.iter().filter(|topic| topic.settings.delete && !topic.settings.compact);
        let expiries = topics.flat_map(|topic| {
            let (ms, bytes) = (topic.settings.retention_ms, topic.settings.retention_bytes);
            topic.partitions.iter().filter_map(move |partition| {
                let log = &partition.log;
                let surplus = log.retention_end(now.wall_ms, -1, bytes, unsealed) > log.start_offset;
                if surplus {
                    Some(now.wall_ms)
                } else {
                    log.next_expiry_ms(ms)
                }
            })
        });
        if let Some(first) = expiries.min() {
            self.arm_retention(now, first);
        }
    }

    /// A partition has its first data in a segment: retention looks when that expires, or earlier.
    pub(super) fn schedule_retention_of(&mut self, now: Now, id: PartitionId) {
        let Some(topic) = self.topics.by_id(id.topic) else { return };
        if !topic.settings.delete || topic.settings.compact {
            return;
        }
        let log = self.topics.partition(id).map(|partition| &partition.log);
        if let Some(first) = log.and_then(|log| log.next_expiry_ms(topic.settings.retention_ms)) {
            self.arm_retention(now, first);
        }
    }

    /// Looks at wall-clock `first` ms, but not before the interval is over.
    fn arm_retention(&mut self, now: Now, first: i64) {
        let interval_ms = self.settings.config.log_retention_check_interval_ms.max(1);
        let wait_ms = first.saturating_sub(now.wall_ms).max(interval_ms);
        let at_us = now.mono_us.saturating_add(u64::try_from(wait_ms).unwrap_or(0).saturating_mul(1000));
        // One timer is enough: an earlier one stays, a later one is replaced.
        let set = self.timers.iter().find(|(_, timer)| *timer == Timer::Retention).copied();
        match set {
            Some((at, _)) if at <= at_us => {}
            Some(later) => {
                self.timers.remove(&later);
                self.set_timer(at_us, Timer::Retention);
            }
            None => self.set_timer(at_us, Timer::Retention),
        }
    }
}
