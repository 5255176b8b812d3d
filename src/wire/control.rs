//! Owns control batches: the markers that end a transaction in a partition (KIP-98).

use byteorder::{BigEndian, ByteOrder};

use super::batch::{records, Batch, BatchBuilder};
use super::compress::CompressError;

/// Length of a marker as a batch in bytes, an upper bound.
pub const MARKER_BYTES_MAX: usize = 96;

/// Types of control records that mark the end of a transaction.
const TYPE_ABORT: i16 = 0;
const TYPE_COMMIT: i16 = 1;

/// The largest control record that is looked into, bytes. Markers are never compressed, and a few bytes long.
const CONTROL_BYTES_MAX: usize = 4096;

/// What a marker says: the transaction of this producer ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    pub committed: bool,
}

impl EndMarker {
    /// The marker as a batch of one record. Base offset and leader epoch are filled in later, as for every batch.
    ///
    /// # Errors
    /// None in practice: the batch is tiny and not compressed.
    pub fn batch(&self, now_ms: i64) -> Result<Vec<u8>, CompressError> {
        let kind = if self.committed { TYPE_COMMIT } else { TYPE_ABORT };
        let (mut key, mut value) = ([0; 4], [0; 6]);
        BigEndian::write_i16(&mut key[2..], kind);
        BigEndian::write_i32(&mut value[2..], self.coordinator_epoch);
        let mut builder =
            BatchBuilder::new().control().transactional().producer(self.producer_id, self.producer_epoch, -1);
        builder.push(now_ms, Some(&key), Some(&value), &[]);
        builder.build()
    }

    /// The marker that a control batch holds; `None` for control batches of another kind, or of one that is not known.
    pub fn of(batch: &Batch<'_>) -> Option<EndMarker> {
        if !batch.header.is_control() {
            return None;
        }
        let mut scratch = Vec::new();
        let record = records(batch, &mut scratch, CONTROL_BYTES_MAX).ok()?.next()?.ok()?;
        let (key, value) = (record.key?, record.value?);
        let kind = BigEndian::read_i16(key.get(2..4)?);
        if !matches!(kind, TYPE_ABORT | TYPE_COMMIT) {
            return None;
        }
        Some(EndMarker {
            producer_id: batch.header.producer_id,
            producer_epoch: batch.header.producer_epoch,
            coordinator_epoch: BigEndian::read_i32(value.get(2..6)?),
            committed: kind == TYPE_COMMIT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back_as_written() {
        for committed in [false, true] {
            let marker = EndMarker { producer_id: 7, producer_epoch: 3, coordinator_epoch: 9, committed };
            let bytes = marker.batch(1000).unwrap();
            assert!(bytes.len() <= MARKER_BYTES_MAX, "{}", bytes.len());
            let batch = Batch::parse(&bytes).unwrap();
            assert!(batch.header.is_control() && batch.header.is_transactional());
            assert_eq!((batch.header.base_sequence, batch.header.records_count), (-1, 1));
            assert_eq!(EndMarker::of(&batch), Some(marker));
        }
    }

    #[test]
    fn data_and_unknown_control_records_are_no_markers() {
        let mut data = BatchBuilder::new();
        data.push(1, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
        assert_eq!(EndMarker::of(&Batch::parse(&data.build().unwrap()).unwrap()), None);
        let mut other = BatchBuilder::new().control();
        other.push(1, Some(&[0, 0, 0, 2]), Some(&[0; 6]), &[]);
        assert_eq!(EndMarker::of(&Batch::parse(&other.build().unwrap()).unwrap()), None);
        let mut short = BatchBuilder::new().control();
        short.push(1, Some(&[0]), None, &[]);
        assert_eq!(EndMarker::of(&Batch::parse(&short.build().unwrap()).unwrap()), None);
    }
}
