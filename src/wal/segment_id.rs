//! Owns the names of segments: those of the write-ahead log, and packs, which tidying makes of them.

use std::fmt;

/// A segment. Every pack is below every segment of the log, so that comparing with the unsealed segment tells whether one
/// is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SegmentId {
    /// `packs/` + 20 decimal digits + `.seg`: what tidying has made of other segments, sorted by partition.
    Pack(u64),
    /// `wal/` + 20 decimal digits + `.log`: written by the wal thread, numbers increasing by one.
    Wal(u64),
}

/// Tells the numbers of packs from those of the log's segments where both stand in one field.
const PACK_BIT: u64 = 1 << 63;

impl SegmentId {
    /// The first segment of a log.
    pub const FIRST: SegmentId = SegmentId::Wal(1);
    /// Above every other.
    pub const MAX: SegmentId = SegmentId::Wal(u64::MAX);

    /// As identities and checkpoints write it: the number, for packs with the highest bit set.
    pub fn raw(self) -> u64 {
        match self {
            SegmentId::Pack(number) => number | PACK_BIT,
            SegmentId::Wal(number) => number,
        }
    }

    /// The name that `raw` stands for.
    pub fn from_raw(raw: u64) -> SegmentId {
        match raw & PACK_BIT {
            0 => SegmentId::Wal(raw),
            _ => SegmentId::Pack(raw & !PACK_BIT),
        }
    }

    /// The number in the file's name.
    pub fn number(self) -> u64 {
        match self {
            SegmentId::Pack(number) | SegmentId::Wal(number) => number,
        }
    }

    /// The one that is made after it.
    pub fn next(self) -> SegmentId {
        match self {
            SegmentId::Pack(number) => SegmentId::Pack(number + 1),
            SegmentId::Wal(number) => SegmentId::Wal(number + 1),
        }
    }

    /// Whether tidying made it.
    pub fn is_pack(self) -> bool {
        matches!(self, SegmentId::Pack(_))
    }
}

impl Default for SegmentId {
    /// Below every segment of the log that there can be.
    fn default() -> SegmentId {
        SegmentId::Wal(0)
    }
}

/// Its path below the data directory.
impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::segment::path(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_below_the_log_and_survive_encoding() {
        assert!(SegmentId::Pack(u64::MAX >> 1) < SegmentId::Wal(0));
        for id in [SegmentId::Pack(0), SegmentId::Pack(7), SegmentId::Wal(7), SegmentId::Wal(0)] {
            assert_eq!(SegmentId::from_raw(id.raw()), id);
        }
        assert_eq!(SegmentId::Wal(7).raw(), 7);
    }
}
