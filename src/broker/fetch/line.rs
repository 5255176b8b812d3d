//! Owns the memory that fetches take while they are not answered: what readers may bring for them, and the partitions they name.
//! Who finds no room for the first stands in line; for the second those that name most are answered before their time.

use std::collections::BTreeSet;

use super::Fetch;
use crate::broker::{Broker, Now};
use crate::limits;

/// A fetch of so many partitions may always wait.
const FEW_PARTITIONS: usize = 64;

/// What all fetches that are not answered yet take together.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Fetches that wait to send readers, oldest first.
    waiting: BTreeSet<u64>,
    /// Bytes that readers may bring for those that have sent them.
    reading_bytes: usize,
    /// Partitions of all of them.
    partitions: usize,
    /// Those that are parked and name many, by how many.
    large: BTreeSet<(usize, u64)>,
    /// Bytes of answers that clients have not read, as last told.
    unsent_bytes: usize,
}

impl Line {
    /// A fetch is kept until it can be answered.
    pub fn count(&mut self, fetch: &Fetch) {
        self.reading_bytes += fetch.reading_bytes;
        self.partitions += fetch.parts.len();
    }

    /// It is parked, and may be answered at any time.
    pub fn parked(&mut self, id: u64, fetch: &Fetch) {
        if fetch.parts.len() > FEW_PARTITIONS {
            self.large.insert((fetch.parts.len(), id));
        }
    }

    /// It is taken up again.
    pub fn forget(&mut self, id: u64, fetch: &mut Fetch) {
        self.waiting.remove(&id);
        self.large.remove(&(fetch.parts.len(), id));
        fetch.in_line = false;
        self.reading_bytes -= std::mem::take(&mut fetch.reading_bytes);
        self.partitions -= fetch.parts.len();
    }
}

impl Broker {
    /// Whether so many partitions are remembered that this fetch cannot wait. One that names few always can.
    pub(super) fn is_crowded(&self, fetch: &Fetch) -> bool {
        let named = fetch.parts.len();
        named > FEW_PARTITIONS && self.fetches.line.partitions + named > limits::FETCH_WAITING_PARTITIONS_MAX
    }

    /// Before a fetch of so many partitions is looked at: those that are parked and name most are answered, but none that names
    /// less than the new one.
    pub(super) fn make_room_for(&mut self, now: Now, named: usize) {
        while self.fetches.line.partitions + named > limits::FETCH_WAITING_PARTITIONS_MAX {
            match self.fetches.line.large.last().copied() {
                Some((most, id)) if most >= named => self.answer_now(now, id),
                _ => return,
            }
        }
    }

    /// Whether a fetch has to wait before it sends readers. One that meets no other memory in use never has.
    pub(super) fn is_to_stand_in_line(&self) -> bool {
        let line = &self.fetches.line;
        let taken = line.reading_bytes + line.unsent_bytes + self.conns.kept_bytes();
        !self.stopping && taken > 0 && taken >= self.settings.config.response_bytes_max / 2
    }

    pub(super) fn stand_in_line(&mut self, mut fetch: Fetch) {
        let id = self.new_fetch_id();
        fetch.in_line = true;
        self.fetches.line.waiting.insert(id);
        self.keep(id, fetch);
    }

    /// Serves those whose turn has come, now that clients have so many bytes left to read.
    pub(in crate::broker) fn serve_fetches_in_line(&mut self, now: Now, unsent_bytes: usize) {
        self.fetches.line.unsent_bytes = unsent_bytes;
        while !self.is_to_stand_in_line() {
            let Some(id) = self.fetches.line.waiting.first().copied() else { return };
            if let Some(fetch) = self.take_fetch(id) {
                self.look_again(now, fetch);
            }
        }
    }
}
