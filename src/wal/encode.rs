//! Owns assembling a group: each batch is copied once, into the buffer that is written.

use byteorder::{BigEndian, ByteOrder};

use super::crc::{crc_from, crc_over};
use super::format::{
    encode_entry, entry_bytes, round_up, run_bytes, GroupHeader, Identity, RunHeader, GROUP_HEADER_BYTES, RUN_BATCHES,
    RUN_HEADER_BYTES, RUN_META,
};
use super::{Group, PartitionId, PlannedBatch, RunRef};
use crate::sys::aligned::AlignedBuf;
use crate::wire::batch::{verify_crc, CRC_AT, CRC_FROM, HEADER_BYTES};
use crate::wire::Uuid;

/// From this size on, a body's known CRC costs less than calculating it.
const KNOWN_CRC_BYTES_MIN: usize = 8 << 10;

/// Length of a group with its padding; the error says what no segment can hold.
pub fn group_bytes(group: &Group, block: u64) -> Result<u64, String> {
    let meta: u64 = group.meta.iter().map(|entry| entry_bytes(entry) as u64).sum();
    let meta_run = if group.meta.is_empty() { 0 } else { meta + RUN_HEADER_BYTES as u64 };
    let mut len = meta_run;
    for run in &group.runs {
        // What is shorter cannot be patched.
        if run.batches.iter().any(|batch| batch.bytes.len() < HEADER_BYTES) {
            return Err("a batch is shorter than its header".to_string());
        }
        len += RUN_HEADER_BYTES as u64 + run.batches.iter().map(|batch| batch.bytes.len() as u64).sum::<u64>();
    }
    match u32::try_from(len) {
        Ok(_) => Ok(round_up(GROUP_HEADER_BYTES as u64 + len, block)),
        Err(_) => Err(format!("a group of {len} bytes is too long")),
    }
}

/// What a group is written as, beside its content.
pub struct Place<'a> {
    pub identity: &'a Identity,
    pub seed: u32,
    pub position: u64,
    pub previous_seq: u64,
    pub durable_seq: u64,
    pub block: u64,
}

/// Fills an empty buffer with the group and says where its runs stand. The group was measured by `group_bytes`.
pub fn encode(group: &Group, place: &Place<'_>, out: &mut AlignedBuf) -> Vec<RunRef> {
    out.resize(GROUP_HEADER_BYTES);
    let mut digest = 0;
    if !group.meta.is_empty() {
        let header = RunHeader {
            len: group.meta.iter().map(|entry| entry_bytes(entry) as u32).sum(),
            crc: 0,
            kind: RUN_META,
            id: PartitionId { topic: Uuid::default(), partition: 0 },
            base_offset: 0,
            last_offset: 0,
            max_timestamp: -1,
            count: group.meta.len() as u32,
        };
        let (start, crc) = begin_run(header, place.seed, out);
        group.meta.iter().for_each(|entry| encode_entry(entry, out));
        digest = end_run(out, start, crc_from(crc, &out[start + RUN_HEADER_BYTES..]), digest);
    }
    let mut refs = Vec::with_capacity(group.runs.len());
    for run in &group.runs {
        let len = run_bytes(run) as u32;
        let header = RunHeader {
            len,
            crc: 0,
            kind: RUN_BATCHES,
            id: run.id,
            base_offset: run.base_offset,
            last_offset: run.last_offset,
            max_timestamp: run.max_timestamp,
            count: run.batches.len() as u32,
        };
        let (start, crc) = begin_run(header, place.seed, out);
        let crc = run.batches.iter().fold(crc, |crc, batch| copy_batch(batch, crc, out));
        digest = end_run(out, start, crc, digest);
        refs.push(RunRef {
            id: run.id,
            base_offset: run.base_offset,
            last_offset: run.last_offset,
            max_timestamp: run.max_timestamp,
            segment: place.identity.segment,
            position: place.position + (start + RUN_HEADER_BYTES) as u64,
            len,
        });
    }
    let header = GroupHeader {
        seq: group.seq,
        previous_seq: place.previous_seq,
        durable_seq: place.durable_seq,
        len: (out.len() - GROUP_HEADER_BYTES) as u32,
        run_count: (refs.len() + usize::from(!group.meta.is_empty())) as u32,
        digest,
    };
    out[..GROUP_HEADER_BYTES].copy_from_slice(&header.to_bytes(place.identity, place.seed));
    out.resize(round_up(out.len() as u64, place.block) as usize);
    refs
}

/// Copies a batch, and continues the run's CRC by it. Of a large one's body, the CRC is known: it is the batch's own, which
/// was checked when the batch came or calculated when it was made here.
fn copy_batch(batch: &PlannedBatch, crc: u32, out: &mut AlignedBuf) -> u32 {
    let at = out.len();
    out.extend_from_slice(&batch.bytes);
    // Base offset and leader epoch lie outside the batch's CRC.
    BigEndian::write_i64(&mut out[at..at + 8], batch.base_offset);
    BigEndian::write_i32(&mut out[at + 12..at + 16], batch.leader_epoch);
    let body = &batch.bytes[CRC_FROM..];
    if body.len() < KNOWN_CRC_BYTES_MIN {
        return crc_from(crc, &out[at..]);
    }
    debug_assert!(verify_crc(&batch.bytes), "a batch with a wrong checksum is about to be logged");
    let own = BigEndian::read_u32(&batch.bytes[CRC_AT..]);
    crc_over(crc_from(crc, &out[at..at + CRC_FROM]), own, body.len())
}

/// Writes the header of a run, and begins its CRC.
fn begin_run(header: RunHeader, seed: u32, out: &mut AlignedBuf) -> (usize, u32) {
    let start = out.len();
    let bytes = header.to_bytes();
    out.extend_from_slice(&bytes);
    (start, crc_from(seed, &bytes[8..]))
}

/// Fills in the CRC of a run and returns the digest continued by it.
fn end_run(out: &mut AlignedBuf, start: usize, crc: u32, digest: u32) -> u32 {
    BigEndian::write_u32(&mut out[start + 4..start + 8], crc);
    crc_from(digest, &out[start + 4..start + 8])
}

#[cfg(test)]
mod tests {
    use super::super::format::parse_group;
    use super::super::{MetaEntry, PlannedRun, SegmentId};
    use super::*;
    use bytes::Bytes;

    fn sample() -> Group {
        let id = |partition| PartitionId { topic: Uuid([9; 16]), partition };
        let batch = |base_offset| PlannedBatch { bytes: Bytes::from(vec![0xaa; 100]), base_offset, leader_epoch: 6 };
        let run = |partition| PlannedRun {
            id: id(partition),
            base_offset: 10,
            last_offset: 29,
            max_timestamp: 5,
            batches: vec![batch(10), batch(20)],
        };
        let entry = MetaEntry { table: 1, scope: Bytes::new(), key: Bytes::from_static(b"k"), value: None };
        Group { seq: 3, meta: vec![entry], runs: vec![run(0), run(1)], seal_after: false }
    }

    #[test]
    fn a_group_comes_back_with_offsets_and_epochs_filled_in() {
        let identity = Identity { directory: Uuid([1; 16]), segment: SegmentId::Wal(4), incarnation: 5 };
        let place = Place {
            identity: &identity,
            seed: identity.seed(),
            position: 8192,
            previous_seq: 2,
            durable_seq: 2,
            block: 4096,
        };
        let mut out = AlignedBuf::with_capacity(1);
        let refs = encode(&sample(), &place, &mut out);
        assert_eq!(out.len() as u64, group_bytes(&sample(), 4096).unwrap());
        let (header, runs) = parse_group(&out, &identity, identity.seed()).unwrap();
        assert_eq!((header.seq, header.previous_seq, header.durable_seq, header.run_count), (3, 2, 2, 3));
        assert_eq!(runs[0].header.kind, RUN_META);
        assert_eq!(refs[1].position, 8192 + runs[2].offset as u64);
        assert_eq!(runs[2].content.len(), 200);
        assert_eq!(BigEndian::read_i64(&runs[2].content[100..]), 20);
        assert_eq!(BigEndian::read_i32(&runs[2].content[112..]), 6);
        assert_eq!(runs[2].content[120], 0xaa);
    }

    #[test]
    fn every_flipped_bit_of_a_group_is_noticed() {
        let identity = Identity { directory: Uuid([1; 16]), segment: SegmentId::Wal(4), incarnation: 5 };
        let place = Place {
            identity: &identity,
            seed: identity.seed(),
            position: 0,
            previous_seq: 2,
            durable_seq: 2,
            block: 4096,
        };
        let mut out = AlignedBuf::with_capacity(1);
        encode(&sample(), &place, &mut out);
        let (header, _) = parse_group(&out, &identity, identity.seed()).unwrap();
        // Miri takes seconds for a group.
        for at in (0..GROUP_HEADER_BYTES + header.len as usize).step_by(if cfg!(miri) { 7 } else { 1 }) {
            out[at] ^= 0x10;
            assert!(parse_group(&out, &identity, identity.seed()).is_err(), "byte {at}");
            out[at] ^= 0x10;
        }
    }

    #[test]
    fn what_cannot_be_written_is_said_before() {
        let mut group = sample();
        group.runs[0].batches[0].bytes = Bytes::from_static(b"short");
        assert!(group_bytes(&group, 4096).is_err());
    }
}
