//! Owns the records of compacted topics: few keys, so that most records have a successor, and now and then a deletion.

use bytes::Bytes;

use super::super::batch::{self, Sequence};
use super::super::rng::Rng;

/// Keys that there are.
const KEYS: u64 = 12;

/// A batch with a record for each timestamp.
pub fn batch(rng: &mut Rng, tag: u64, sequence: Option<Sequence>, timestamps: &[i64], value_bytes: usize) -> Bytes {
    let keys: Vec<(u8, bool)> = timestamps.iter().map(|_| (rng.below(KEYS) as u8, rng.chance(15))).collect();
    batch::build_keyed(tag, sequence, timestamps, &keys, value_bytes)
}
