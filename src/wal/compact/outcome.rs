//! Owns what a cleaning comes to, for the broker and, as bytes, for the log.

use crate::wire::macros::message;
use crate::wire::{Reader, Wire, Writer};

/// Version of the layout below.
const VERSION: i16 = 0;

message! {
    /// What a cleaning did to a partition. The broker keeps it, and a recovery must find it with the batches that were
    /// written.
    struct Outcome {
        /// The first offset that the next cleaning has to index.
        cleaned_to: i64 [0..],
        /// The batches below this offset are those that the cleaning left; it is where a logical segment begins.
        end: i64 [0..],
        /// The logical segments below `end`, ascending; some may have become empty.
        segments: Vec<CleanedSegment> [0..],
        /// Markers' offsets of aborted transactions of which no batch is left, ascending: nobody is told of them any more.
        aborted_gone: Vec<i64> [0..],
    }
    /// A logical segment after a cleaning.
    struct CleanedSegment {
        base_offset: i64 [0..],
        /// Bytes of the batches that are left.
        bytes: i64 [0..],
        /// Largest timestamp of the first batch in ms, by which a segment's age counts; -1 without one.
        first_timestamp: i64 [0..],
        /// Largest timestamp of all batches in ms; -1 without one.
        max_timestamp: i64 [0..],
    }
}

impl Outcome {
    /// As bytes, which begin with a version.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(VERSION, true);
        writer.i16(VERSION);
        self.write(&mut writer);
        writer.into_encoded().bytes
    }

    /// Reads bytes of [`Outcome::encode`]. The error says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Outcome, String> {
        let version = match bytes {
            [high, low, ..] => i16::from_be_bytes([*high, *low]),
            _ => return Err("the outcome of a cleaning is shorter than its version".to_owned()),
        };
        if version != VERSION {
            return Err(format!("the outcome of a cleaning has version {version}, this program knows {VERSION}"));
        }
        let mut reader = Reader::new(&bytes[2..], version, true);
        let outcome = Outcome::read(&mut reader).map_err(|error| error.to_string())?;
        reader.finish().map_err(|error| error.to_string())?;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_back_as_written() {
        let segment = CleanedSegment { base_offset: 3, bytes: 99, first_timestamp: -1, max_timestamp: 1000 };
        let outcome = Outcome { cleaned_to: 70, end: 80, segments: vec![segment], aborted_gone: vec![5, 9] };
        let bytes = outcome.encode();
        assert_eq!(Outcome::decode(&bytes), Ok(outcome));
        assert!(Outcome::decode(&bytes[..bytes.len() - 1]).is_err() && Outcome::decode(&[0]).is_err());
        assert!(Outcome::decode(&[0, 9]).unwrap_err().contains("version 9"));
    }
}
