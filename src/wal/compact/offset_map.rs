//! Owns the map of compaction: the last offset of every key, by a hash of the key, in bounded memory.

use sha2::{Digest, Sha256};

/// Bytes of memory that one key takes.
const SLOT_BYTES: usize = 24;

/// What share of the slots is filled at the most (Kafka's `log.cleaner.io.buffer.load.factor`).
const LOAD_PERCENT: usize = 90;

/// The hash of a key, the offset plus one; an offset of 0 is a free slot. An array of zeros costs no memory until it is used.
type Slot = [u64; 3];

/// The last offset of every key of a part of a partition.
///
/// Keys are known by the first 128 bits of their SHA-256: two keys with one hash would be taken for the same, and nobody can
/// make such a pair.
#[derive(Debug)]
pub struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
}

impl OffsetMap {
    /// An empty map that takes at most `bytes_max` bytes of memory, and no more than `keys` keys can need. It has room for
    /// one key at least.
    pub fn new(bytes_max: usize, keys: u64) -> OffsetMap {
        let wanted = keys.saturating_mul(100).div_ceil(LOAD_PERCENT as u64).saturating_add(1);
        let slots = usize::try_from(wanted).unwrap_or(usize::MAX).min(bytes_max / SLOT_BYTES).max(2);
        OffsetMap { slots: vec![[0; 3]; slots], used: 0, used_max: (slots * LOAD_PERCENT / 100).max(1) }
    }

    /// Notes that the record at this offset has this key. False, and nothing is noted, when the map is full: Kafka takes no
    /// key then, also none that is there already.
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        if self.used >= self.used_max {
            return false;
        }
        let (hash, at) = self.find(key);
        let slot = &mut self.slots[at];
        if slot[2] == 0 {
            slot[..2].copy_from_slice(&hash);
            self.used += 1;
        }
        slot[2] = offset as u64 + 1;
        true
    }

    /// The last offset at which the key was noted.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let (_, at) = self.find(key);
        self.slots[at][2].checked_sub(1).map(|offset| offset as i64)
    }

    /// Keys that are noted.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether no key is noted.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The hash of a key, and its slot or the free one where it would be. There always is a free one: the map is never filled.
    fn find(&self, key: &[u8]) -> ([u64; 2], usize) {
        let hash = hash_of(key);
        let mut at = ((u128::from(hash[0]) * self.slots.len() as u128) >> 64) as usize;
        while self.slots[at][2] != 0 && self.slots[at][..2] != hash {
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
        (hash, at)
    }
}

fn hash_of(key: &[u8]) -> [u64; 2] {
    let digest = Sha256::digest(key);
    let word = |at: usize| digest[at..at + 8].iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_a_key_wins() {
        let mut map = OffsetMap::new(1 << 20, 1000);
        for offset in 0..900i64 {
            assert!(map.put(format!("key-{}", offset % 300).as_bytes(), offset));
        }
        assert_eq!(map.len(), 300);
        for key in 0..300 {
            assert_eq!(map.get(format!("key-{key}").as_bytes()), Some(600 + key));
        }
        assert_eq!(map.get(b"key-300"), None);
        assert!(map.put(b"", 901));
        assert_eq!(map.get(b""), Some(901));
    }

    #[test]
    fn offset_0_is_an_offset() {
        let mut map = OffsetMap::new(1 << 20, 10);
        assert!(map.is_empty() && map.put(b"k", 0));
        assert_eq!((map.get(b"k"), map.get(b"l")), (Some(0), None));
    }

    #[test]
    fn a_full_map_says_so_and_keeps_what_it_has() {
        let mut map = OffsetMap::new(100 * SLOT_BYTES, u64::MAX);
        let mut offset = 0i64;
        while map.put(&offset.to_be_bytes(), offset) {
            offset += 1;
        }
        assert_eq!((offset, map.len()), (90, 90));
        assert!(!map.put(&0i64.to_be_bytes(), 1000));
        assert!((0..90i64).all(|key| map.get(&key.to_be_bytes()) == Some(key)));
        assert_eq!(map.get(&90i64.to_be_bytes()), None);
    }

    #[test]
    fn a_map_is_no_larger_than_its_keys_need_and_takes_one_at_least() {
        assert!(OffsetMap::new(1 << 30, 10).slots.len() <= 13);
        for bytes_max in [0, 1, SLOT_BYTES, 2 * SLOT_BYTES] {
            let mut map = OffsetMap::new(bytes_max, 5);
            assert!(map.put(b"k", 7) && !map.put(b"l", 8), "{bytes_max}");
            assert_eq!((map.get(b"k"), map.get(b"l")), (Some(7), None));
        }
    }
}
