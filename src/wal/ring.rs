//! Owns the last groups of the log in memory, from which the tail is served.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::SegmentId;
use crate::sys::aligned::AlignedBuf;

#[derive(Debug)]
struct Held {
    segment: SegmentId,
    position: u64,
    buf: Arc<AlignedBuf>,
}

/// Written groups in log order, the oldest leaving when there are too many bytes.
#[derive(Debug)]
pub struct Ring {
    held: VecDeque<Held>,
    bytes: usize,
    bytes_max: usize,
}

/// A group's memory, kept by whoever sends from it.
struct Shared(Arc<AlignedBuf>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Ring {
    /// An empty ring that holds at most `bytes_max` bytes, but always the newest group.
    pub fn new(bytes_max: usize) -> Ring {
        Ring { held: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Takes in a group, which lies behind all others in the log.
    pub fn push(&mut self, segment: SegmentId, position: u64, buf: Arc<AlignedBuf>) {
        self.bytes += buf.capacity();
        self.held.push_back(Held { segment, position, buf });
        while self.bytes > self.bytes_max && self.held.len() > 1 {
            if let Some(gone) = self.held.pop_front() {
                self.bytes -= gone.buf.capacity();
            }
        }
    }

    /// Bytes of the log, if all of them are in one group that is still here.
    pub fn get(&self, segment: SegmentId, position: u64, len: u32) -> Option<Bytes> {
        let after = self.held.partition_point(|held| (held.segment, held.position) <= (segment, position));
        let held = self.held.get(after.checked_sub(1)?)?;
        if held.segment != segment {
            return None;
        }
        let from = usize::try_from(position - held.position).ok()?;
        let to = from.checked_add(len as usize)?;
        if to > held.buf.len() {
            return None;
        }
        Some(Bytes::from_owner(Shared(held.buf.clone())).slice(from..to))
    }

    /// Where the oldest group begins; the end of time while there is none.
    pub fn start(&self) -> (SegmentId, u64) {
        self.held.front().map_or((SegmentId::MAX, u64::MAX), |held| (held.segment, held.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(byte: u8) -> Arc<AlignedBuf> {
        let mut buf = AlignedBuf::with_capacity(4096);
        buf.resize(4096);
        buf.fill(byte);
        Arc::new(buf)
    }

    #[test]
    fn the_newest_groups_are_served_and_older_ones_are_not() {
        let mut ring = Ring::new(8192);
        ring.push(SegmentId::Wal(1), 0, group(1));
        ring.push(SegmentId::Wal(1), 4096, group(2));
        ring.push(SegmentId::Wal(2), 0, group(3));
        assert_eq!(ring.get(SegmentId::Wal(1), 10, 5), None);
        assert_eq!(ring.get(SegmentId::Wal(1), 4100, 3).unwrap().as_ref(), [2, 2, 2]);
        assert_eq!(ring.get(SegmentId::Wal(2), 0, 4096).unwrap().len(), 4096);
        assert_eq!(ring.get(SegmentId::Wal(2), 1, 4096), None);
        assert_eq!(ring.get(SegmentId::Wal(3), 0, 1), None);
        assert_eq!(ring.start(), (SegmentId::Wal(1), 4096));
    }
}
