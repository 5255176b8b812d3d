//! Owns which bytes of a segment were found sound a short while ago, so that they are not read again only to be checked again.

use std::collections::BTreeMap;

use crate::limits;

/// Stretches of a file whose batches were all checked. Bounded; what is forgotten is checked once more.
///
/// A disk may let bytes rot after they were checked. So nothing is trusted for longer than `READ_TRUSTED_US`, in which what was read
/// is mostly still in the page cache; and clients check what they get as well.
#[derive(Debug, Default)]
pub(super) struct Trusted {
    /// By the first byte: the byte after the last, and when the oldest part of it was checked, in µs.
    stretches: BTreeMap<u64, (u64, u64)>,
}

impl Trusted {
    /// The bytes from `from` to before `to` were checked at `now_us`. Grows the stretch that ends there, unless that is far older.
    pub fn add(&mut self, from: u64, to: u64, now_us: u64) {
        if let Some((_, (end, since))) = self.stretches.range_mut(..=from).next_back() {
            let is_fresh = now_us.saturating_sub(*since) < limits::READ_TRUSTED_US / 2;
            if *end >= from && is_fresh {
                *end = to.max(*end);
                return;
            }
        }
        self.stretches.insert(from, (to, now_us));
        if self.stretches.len() > limits::READ_TRUSTED_STRETCHES_MAX {
            self.stretches.retain(|_, (_, since)| is_trusted(*since, now_us));
            // Who reads on from the start comes to the others first.
            while self.stretches.len() > limits::READ_TRUSTED_STRETCHES_MAX {
                self.stretches.pop_first();
            }
        }
    }

    /// Up to where bytes from `from` on can be taken for sound; `from` itself if none of them can.
    pub fn until(&self, from: u64, now_us: u64) -> u64 {
        let known = self.stretches.range(..=from).next_back();
        known.filter(|(_, (_, since))| is_trusted(*since, now_us)).map_or(from, |(_, (end, _))| from.max(*end))
    }
}

fn is_trusted(since_us: u64, now_us: u64) -> bool {
    now_us.saturating_sub(since_us) < limits::READ_TRUSTED_US
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_checked_is_trusted_and_nothing_beside_it() {
        let mut trusted = Trusted::default();
        trusted.add(100, 200, 5);
        assert_eq!(trusted.until(100, 6), 200);
        assert_eq!(trusted.until(150, 6), 200);
        assert_eq!(trusted.until(99, 6), 99);
        assert_eq!(trusted.until(200, 6), 200);
        assert_eq!(trusted.until(300, 6), 300);
        trusted.add(200, 260, 6);
        assert_eq!(trusted.until(100, 6), 260);
        assert_eq!(trusted.stretches.len(), 1);
    }

    #[test]
    fn a_stretch_is_as_old_as_its_oldest_part_and_trust_ends() {
        let mut trusted = Trusted::default();
        trusted.add(100, 200, 0);
        trusted.add(200, 300, limits::READ_TRUSTED_US / 3);
        trusted.add(300, 400, limits::READ_TRUSTED_US - 1);
        assert_eq!(trusted.until(100, limits::READ_TRUSTED_US - 1), 300);
        assert_eq!(trusted.until(100, limits::READ_TRUSTED_US), 100);
        assert_eq!(trusted.until(300, limits::READ_TRUSTED_US), 400);
        trusted.add(100, 200, limits::READ_TRUSTED_US);
        assert_eq!(trusted.until(100, limits::READ_TRUSTED_US), 200);
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of stretches take Miri an hour")]
    fn there_are_never_more_stretches_than_the_limit() {
        let mut trusted = Trusted::default();
        for number in 0..3 * limits::READ_TRUSTED_STRETCHES_MAX as u64 {
            trusted.add(number * 10, number * 10 + 5, 0);
            assert!(trusted.stretches.len() <= limits::READ_TRUSTED_STRETCHES_MAX);
        }
    }
}
