//! Owns retention: when log start offsets move by time and size, and when to look next.

use super::{Broker, Now, Timer};

impl Broker {
    /// Moves the start of every partition whose oldest segments are due, and looks again when the next ones are.
    pub(super) fn retain(&mut self, now: Now) {
        let unsealed = self.segments.unsealed();
        let mut due = Vec::new();
        for topic in self.topics.iter().filter(|topic| topic.settings.delete && !topic.settings.compact) {
            let (ms, bytes) = (topic.settings.retention_ms, topic.settings.retention_bytes);
            for log in topic.partitions.iter().map(|partition| &partition.log) {
                let end = log.retention_end(now.wall_ms, ms, bytes, unsealed);
                if end > log.start_offset {
                    due.push((log.id, end));
                }
            }
        }
        if !due.is_empty() && !self.has_space_for_metadata() {
            due.clear();
        }
        for (id, end) in due {
            self.move_start(now, id, end);
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
                    log.next_expiry_ms(ms, unsealed)
                }
            })
        });
        let Some(first) = expiries.min() else { return };
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
