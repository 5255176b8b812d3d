//! Owns decoding's lowest layer: a cursor over one frame that never panics and never believes a claimed length.

use byteorder::{BigEndian, ByteOrder};
use std::fmt;

use super::primitives::Wire;
use crate::limits;

/// The longest string that Kafka's protocol allows, in bytes, in the compact form as well as in the classic one.
pub const MAX_STRING: usize = i16::MAX as usize;

/// Why a message could not be decoded, and how many bytes into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// What was wrong, for a person who reads the log.
    pub what: &'static str,
    /// Bytes between the start of what was being decoded and the place of the error.
    pub position: usize,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.position)
    }
}

impl std::error::Error for DecodeError {}

/// A cursor over the bytes of one message, knowing the message's version and whether that version is flexible (KIP-482).
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// The position at which `rest` ends, so that a position can be told without a second counter.
    end: usize,
    version: i16,
    flexible: bool,
    /// Bytes of memory that arrays may still take.
    room: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8], version: i16, flexible: bool) -> Self {
        Reader { rest: bytes, end: bytes.len(), version, flexible, room: usize::MAX }
    }

    /// The same, with so many bytes of memory for all arrays together, what their elements borrow not counted.
    #[inline]
    pub fn within(self, room: usize) -> Self {
        Reader { room, ..self }
    }

    /// The version of the message being read.
    #[inline]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether the message has compact lengths and tagged fields.
    #[inline]
    pub fn flexible(&self) -> bool {
        self.flexible
    }

    /// How many bytes have been read.
    #[inline]
    pub fn position(&self) -> usize {
        self.end - self.rest.len()
    }

    /// The bytes that have not been read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error at the present position.
    #[cold]
    pub fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { what, position: self.position() }
    }

    /// Ends a message: bytes left over are an error.
    #[inline]
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(self.error("bytes left over after the message")),
        }
    }

    /// The next `len` bytes, borrowed.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.error("the message ends too early")),
        }
    }

    /// One unsigned byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// One signed byte.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(self.u8()? as i8)
    }

    /// A big-endian 16-bit number.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(BigEndian::read_i16(self.take(2)?))
    }

    /// A big-endian unsigned 16-bit number.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(BigEndian::read_u16(self.take(2)?))
    }

    /// A big-endian 32-bit number.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(BigEndian::read_i32(self.take(4)?))
    }

    /// A big-endian 64-bit number.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(BigEndian::read_i64(self.take(8)?))
    }

    /// A big-endian IEEE 754 number.
    #[inline]
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(BigEndian::read_f64(self.take(8)?))
    }

    /// An unsigned variable-length number of at most five bytes.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u32::from(*byte))
            }
            _ => self.long_uvarint(),
        }
    }

    fn long_uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                return Err(self.error("a variable-length number is over 32 bits"));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// A compact length: one more than the length, with 0 for null.
    #[inline]
    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.uvarint()? {
            0 => Ok(None),
            n if n > i32::MAX as u32 => Err(self.error("a length is over 31 bits")),
            n => Ok(Some(n as usize - 1)),
        }
    }

    /// A classic length, with -1 for null. Kafka takes any negative number for null, and so must we.
    #[inline]
    fn signed_len(len: i32) -> Option<usize> {
        usize::try_from(len).ok()
    }

    /// The length of a string, or None for null.
    #[inline]
    pub fn string_len(&mut self) -> Result<Option<usize>, DecodeError> {
        let len = if self.flexible { self.compact_len()? } else { Self::signed_len(i32::from(self.i16()?)) };
        match len {
            Some(len) if len > MAX_STRING => Err(self.error("a string is over 32767 bytes")),
            _ => Ok(len),
        }
    }

    /// The length of bytes or record data, or the count of an array, or None for null.
    #[inline]
    pub fn len(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            self.compact_len()
        } else {
            Ok(Self::signed_len(self.i32()?))
        }
    }

    /// A string, or None for null.
    #[inline]
    pub fn string(&mut self) -> Result<Option<&'a str>, DecodeError> {
        let Some(len) = self.string_len()? else {
            return Ok(None);
        };
        let bytes = self.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.error("a string is not UTF-8")),
        }
    }

    /// Bytes, or None for null.
    #[inline]
    pub fn bytes(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.len()? {
            None => Ok(None),
            Some(len) => self.take(len).map(Some),
        }
    }

    /// An array, or None for null. Memory is reserved for as many elements as the bytes that are
    /// really there can hold, and the reader's room: a count above that is an error before anything is allocated.
    #[inline]
    pub fn array<T: Wire<'a>>(&mut self) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.len()? else {
            return Ok(None);
        };
        let smallest = T::min_size(self.version, self.flexible).max(1);
        if count > self.rest.len() / smallest {
            return Err(self.error("an array has more elements than the message has room for"));
        }
        // An array of bytes, as the kinds of acknowledgements are, is no more work than a string.
        let each = if size_of::<T>() == 1 { 1 } else { size_of::<T>().max(limits::REQUEST_ELEMENT_BYTES_MIN) };
        let bytes = count.saturating_mul(each);
        self.room = self.room.checked_sub(bytes).ok_or_else(|| self.error("it names more than any request may"))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(self)?);
        }
        Ok(Some(elements))
    }

    /// The number of tagged fields that follow.
    #[inline]
    pub fn tag_count(&mut self) -> Result<u32, DecodeError> {
        self.uvarint()
    }

    /// One tagged field: its tag and a reader over its bytes alone.
    pub fn tag(&mut self) -> Result<(u32, Reader<'a>), DecodeError> {
        let tag = self.uvarint()?;
        let len = self.uvarint()?;
        let rest = self.take(len as usize)?;
        Ok((tag, Reader { rest, end: self.position(), ..*self }))
    }

    /// Ends the field that `content` was read from: bytes left over in it are an error.
    #[inline]
    pub fn end_tag(&mut self, content: &Reader<'_>) -> Result<(), DecodeError> {
        self.room = content.room;
        content.finish()
    }

    /// Skips the tagged fields of a struct that knows none, as the protocol asks for.
    #[inline]
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.tag_count()? {
            self.tag()?;
        }
        Ok(())
    }
}
