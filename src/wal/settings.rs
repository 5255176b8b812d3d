//! Owns what the log can be told at start: sizes, fsync mode, where metadata lives, where random numbers come from.

use std::io;
use std::time::Duration;

use crate::limits;

/// When a group counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsyncMode {
    /// Each group is synced before it is reported.
    Always,
    /// Groups are reported when written; the file is synced this long after the first that was not.
    Interval(Duration),
    /// The operating system decides, except that a segment is synced when it is sealed.
    Never,
}

/// Where metadata lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataStore {
    /// In the log's groups.
    Log,
    /// In files of their own (`--file-metadata`).
    Files,
}

/// Where incarnations and ids come from.
#[derive(Clone, Debug)]
pub enum Entropy {
    /// The operating system.
    System,
    /// A fixed sequence, for the simulation. Each start needs a seed of its own, as incarnations must differ.
    Seeded(u64),
}

impl Entropy {
    /// The next random number.
    pub fn next_u64(&mut self) -> io::Result<u64> {
        match self {
            Entropy::System => {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).map_err(|e| io::Error::other(format!("no random numbers: {e}")))?;
                Ok(u64::from_be_bytes(bytes))
            }
            // SplitMix64 (Steele, Lea and Flood, 2014).
            Entropy::Seeded(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                Ok(mixed ^ (mixed >> 31))
            }
        }
    }

    /// Sixteen random bytes.
    pub fn next_id(&mut self) -> io::Result<[u8; 16]> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next_u64()?.to_be_bytes());
        id[8..].copy_from_slice(&self.next_u64()?.to_be_bytes());
        Ok(id)
    }
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Length that segments are preallocated with, bytes. Raised where the largest group would not fit.
    pub segment_bytes: u64,
    /// The largest group that must always fit a segment: the largest message and then some, bytes.
    pub group_bytes_max: u64,
    pub fsync: FsyncMode,
    pub metadata: MetadataStore,
    /// Length of the ballast file, bytes; 0 for none.
    pub ballast_bytes: u64,
    pub entropy: Entropy,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            group_bytes_max: 2 * limits::GROUP_BYTES_MAX as u64,
            fsync: FsyncMode::Always,
            metadata: MetadataStore::Log,
            ballast_bytes: limits::BALLAST_BYTES,
            entropy: Entropy::System,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_numbers_repeat_and_differ_from_each_other() {
        let (mut one, mut two) = (Entropy::Seeded(5), Entropy::Seeded(5));
        let first = one.next_id().unwrap();
        assert_eq!(first, two.next_id().unwrap());
        assert_ne!(first, one.next_id().unwrap());
        assert_ne!(Entropy::System.next_id().unwrap(), Entropy::System.next_id().unwrap());
    }
}
