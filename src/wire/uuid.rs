//! Owns the 128-bit ids that Kafka gives to topics, members and directories.

use std::fmt;

/// An id in Kafka's sense: 16 bytes, shown as 22 characters of URL-safe base64 without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// The id that stands for "none".
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// Whether this is the id that stands for "none".
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Reads the form that `Display` writes; None for anything else.
    pub fn parse(text: &str) -> Option<Uuid> {
        if text.len() != 22 {
            return None;
        }
        let mut bits = 0u128;
        for (i, c) in text.bytes().enumerate() {
            let six = ALPHABET.iter().position(|&a| a == c)? as u128;
            if i < 21 {
                bits = bits << 6 | six;
            } else {
                // The last character carries two bits; the four below them must be zero.
                if six & 0xf != 0 {
                    return None;
                }
                bits = bits << 2 | six >> 4;
            }
        }
        Some(Uuid(bits.to_be_bytes()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0u8; 22];
        for (i, c) in text.iter_mut().enumerate() {
            let six = if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 };
            *c = ALPHABET[(six & 0x3f) as usize];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or(""))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_and_reads_kafkas_base64() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        // Kafka's reserved ids: the metadata topic's is 1, shown like this by its tools.
        let one = Uuid(1u128.to_be_bytes());
        assert_eq!(one.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210] {
            let id = Uuid(bits.to_be_bytes());
            assert_eq!(Uuid::parse(&id.to_string()), Some(id));
        }
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
    }

    #[test]
    fn refuses_other_text() {
        for text in
            ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAA+A", "AAAAAAAAAAAAAAAAAAAAAB"]
        {
            assert_eq!(Uuid::parse(text), None, "{text}");
        }
    }
}
