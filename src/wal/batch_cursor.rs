//! Owns walking the batches of a run in a segment's file, with their checksums, in bounded memory.

use std::io;

use byteorder::{BigEndian, ByteOrder};
use bytes::Bytes;

use super::crc::{crc_from, crc_over};
use super::format::{RunHeader, RUN_HEADER_BYTES};
use super::read_cache::OpenSegment;
use super::{ReadError, RunRef};
use crate::canary::{self, Fault};
use crate::limits;
use crate::wire::batch::{BatchHeader, CRC_AT, CRC_FROM, HEADER_BYTES};

/// What is read of a run of which only headers are needed, as long as it is unknown whether its batches are long.
pub(super) const HOP_READ_BYTES: u64 = 4096;

/// The batches of a run, one after the other.
pub(super) struct BatchCursor<'a> {
    segment: &'a OpenSegment,
    run: RunRef,
    position: u64,
    next_offset: i64,
    /// Up to where it is worth reading ahead.
    ahead_end: u64,
    buf: &'a mut Vec<u8>,
    /// What is looked at in the place of the buffer, if the file had it in memory.
    lent: Option<Bytes>,
    /// What of the buffer was read, and from where; the rest is of an earlier use.
    filled: usize,
    buf_position: u64,
}

/// A batch whose header is sound and lies within its run. Its checksum has not been looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub header: BatchHeader,
    pub position: u64,
    pub len: u32,
}

impl<'a> BatchCursor<'a> {
    /// At the run's first batch. What comes from elsewhere has its heads checked first.
    ///
    /// # Errors
    /// Those of reading; `Corrupt` when a head is not what was written.
    pub fn new(segment: &'a OpenSegment, run: RunRef, buf: &'a mut Vec<u8>) -> Result<BatchCursor<'a>, ReadError> {
        let (position, next_offset) = (run.position, run.base_offset);
        let mut cursor = BatchCursor {
            segment,
            run,
            position,
            next_offset,
            ahead_end: u64::MAX,
            buf,
            lent: None,
            filled: 0,
            buf_position: 0,
        };
        if segment.is_elsewhere {
            cursor.check_heads()?;
        }
        Ok(cursor)
    }

    /// Holds the heads of all batches against the checksum of the run. What stands before a batch's own checksum is under no other: the
    /// base offset, and the leader epoch. The rest of a batch need not be read for that, as its head states what its checksum is.
    fn check_heads(&mut self) -> Result<(), ReadError> {
        let start = self.run.position;
        let head = self.bytes(start.saturating_sub(RUN_HEADER_BYTES as u64), RUN_HEADER_BYTES)?.to_vec();
        let Some(header) = RunHeader::parse(&head) else {
            return Err(self.segment.corrupt(start, "the file ends inside a run"));
        };
        let mut crc = crc_from(self.segment.segment.header.identity.seed(), &head[8..]);
        self.want(limits::READ_PIECE_BYTES as u64);
        while let Some(found) = self.next()? {
            crc = crc_from(crc, self.bytes(found.position, CRC_FROM)?);
            crc = crc_over(crc, found.header.crc, found.len as usize - CRC_FROM);
            let is_short = found.len < limits::READ_HOP_BYTES;
            self.want(if is_short { limits::READ_PIECE_BYTES as u64 } else { HOP_READ_BYTES });
        }
        if crc != header.crc && !canary::has(Fault::RotServed) {
            return Err(self
                .segment
                .corrupt(start, "the heads of the batches are not those that the run was written with"));
        }
        (self.position, self.next_offset, self.ahead_end) = (start, self.run.base_offset, u64::MAX);
        Ok(())
    }

    /// Only so many bytes from the next batch on will be asked for, a first batch that is longer excepted.
    pub fn want(&mut self, bytes: u64) {
        self.ahead_end = self.position.saturating_add(bytes);
    }

    /// Where the next batch begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next batch; `None` at the run's end.
    pub fn next(&mut self) -> Result<Option<Found>, ReadError> {
        let end = self.run.position + u64::from(self.run.len);
        if self.position >= end {
            return Ok(None);
        }
        let (position, left) = (self.position, end - self.position);
        let head = self.bytes(position, HEADER_BYTES.min(left as usize))?;
        let header = BatchHeader::parse(head);
        let header = header.map_err(|error| self.segment.corrupt(position, &error.to_string()))?;
        let last = header.last_offset();
        let is_within =
            header.base_offset >= self.next_offset && last >= header.base_offset && last <= self.run.last_offset;
        if header.total_bytes() as u64 > left || !is_within {
            return Err(self.segment.corrupt(position, "the batch does not fit the run that holds it"));
        }
        self.position += header.total_bytes() as u64;
        self.next_offset = last + 1;
        Ok(Some(Found { header, position, len: header.total_bytes() as u32 }))
    }

    /// Checks a batch's checksum, a piece at a time, and appends the batch to `copy` if there is one. That holds a part of it, or
    /// all, when the batch is damaged.
    pub fn verify(&mut self, found: &Found, mut copy: Option<&mut Vec<u8>>) -> Result<(), ReadError> {
        let end = found.position + u64::from(found.len);
        let mut at = found.position + CRC_FROM as u64;
        let mut crc = 0;
        if let Some(copy) = &mut copy {
            copy.extend_from_slice(self.bytes(found.position, CRC_FROM)?);
        }
        while at < end {
            let piece = self.some_bytes(at, end)?;
            crc = crc32c::crc32c_append(crc, piece);
            if let Some(copy) = &mut copy {
                copy.extend_from_slice(piece);
            }
            at += piece.len() as u64;
        }
        match crc == found.header.crc || canary::has(Fault::RotServed) {
            true => Ok(()),
            false => Err(self.segment.corrupt(found.position, "the checksum of the batch is wrong")),
        }
    }

    /// The whole batch, checked.
    pub fn load(&mut self, found: &Found) -> Result<&[u8], ReadError> {
        let bytes = self.bytes(found.position, found.len as usize)?;
        let crc = bytes.get(CRC_FROM..).map_or(0, crc32c::crc32c);
        if crc != BigEndian::read_u32(&bytes[CRC_AT..]) && !canary::has(Fault::RotServed) {
            return Err(self.segment.corrupt(found.position, "the checksum of the batch is wrong"));
        }
        self.bytes(found.position, found.len as usize)
    }

    /// What is in the buffer of a batch that ends at `end`, from `position` on; what follows is read if that is nothing.
    fn some_bytes(&mut self, position: u64, end: u64) -> Result<&[u8], ReadError> {
        let have = (self.buf_position..self.buf_position + self.filled as u64).contains(&position);
        let there =
            if have { self.buf_position + self.filled as u64 - position } else { limits::READ_PIECE_BYTES as u64 };
        self.bytes(position, (end - position).min(there) as usize)
    }

    /// Exactly `len` bytes of the run at `position`, read with what follows them.
    fn bytes(&mut self, position: u64, len: usize) -> Result<&[u8], ReadError> {
        let have_end = self.buf_position + self.filled as u64;
        if position < self.buf_position || position + len as u64 > have_end {
            self.read(position, len).map_err(|error| ReadError::Io(error.to_string()))?;
        }
        let from = (position - self.buf_position) as usize;
        let there = self.lent.as_deref().unwrap_or(&self.buf[..]);
        match there.get(from..from + len) {
            Some(bytes) if from + len <= self.filled => Ok(bytes),
            _ => Err(self.segment.corrupt(position, "the file ends inside a run")),
        }
    }

    /// Gets at least `len` bytes at `position`, or those that the file has.
    fn read(&mut self, position: u64, len: usize) -> io::Result<()> {
        self.filled = 0;
        // Before another block is waited for.
        self.lent = None;
        let file = &self.segment.segment.file;
        self.lent = file.lend(position, len)?;
        self.filled = match &self.lent {
            Some(lent) => lent.len(),
            None => {
                let run_end = self.run.position + u64::from(self.run.len);
                let ahead = run_end.min(self.ahead_end).saturating_sub(position).min(limits::READ_PIECE_BYTES as u64);
                let wanted = len.max(ahead as usize);
                if self.buf.len() < wanted {
                    self.buf.resize(wanted, 0);
                }
                file.read_at(&mut self.buf[..wanted], position)?
            }
        };
        self.buf_position = position;
        Ok(())
    }
}
