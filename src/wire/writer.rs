//! Owns encoding's lowest layer: a growing buffer, plus the places where record data is spliced in later.

use byteorder::{BigEndian, ByteOrder};

use super::error_code::ErrorCode;
use super::primitives::Wire;
use super::reader::MAX_STRING;

/// A piece of record data that the encoder did not copy: the sender splices it in at `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct External {
    /// Index into [`Encoded::bytes`] of the byte before which the data goes.
    pub position: usize,
    /// The caller's name for the data, as given in `RecordSet::External`.
    pub tag: u32,
    /// The data's length in bytes; lengths in the encoded bytes already count it.
    pub len: u32,
}

/// An encoded message: a head, and where the data of each external goes, in rising order of position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The encoded bytes, without the externals' data.
    pub bytes: Vec<u8>,
    /// The externals, in the order of their places.
    pub externals: Vec<External>,
    /// The errors that the message tells, and how often each; there are no more than there are error codes.
    pub errors: Vec<(ErrorCode, u32)>,
}

impl Encoded {
    /// Bytes on the wire, externals included.
    pub fn total_len(&self) -> usize {
        self.bytes.len() + self.externals.iter().map(|e| e.len as usize).sum::<usize>()
    }
}

/// Collects the bytes of one message of a given version.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    /// Record data to be spliced in, with positions in the bytes written.
    pub externals: Vec<External>,
    errors: Vec<(ErrorCode, u32)>,
    version: i16,
    flexible: bool,
}

impl Writer {
    /// An empty writer.
    pub fn new(version: i16, flexible: bool) -> Self {
        Writer { bytes: Vec::with_capacity(128), externals: Vec::new(), errors: Vec::new(), version, flexible }
    }

    /// A writer that goes on behind bytes.
    pub fn behind(bytes: Vec<u8>, version: i16, flexible: bool) -> Self {
        Writer { bytes, externals: Vec::new(), errors: Vec::new(), version, flexible }
    }

    /// The version of the message being written.
    #[inline]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Whether the message has compact lengths and tagged fields.
    #[inline]
    pub fn flexible(&self) -> bool {
        self.flexible
    }

    /// Changes the form of what follows: a header's flexibility differs from its body's.
    pub(super) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// How many bytes have been written, externals not counted.
    #[inline]
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    /// The finished message.
    pub fn into_encoded(self) -> Encoded {
        Encoded { bytes: self.bytes, externals: self.externals, errors: self.errors }
    }

    /// Bytes as they are, without a length.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// One signed byte.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.bytes.push(value as u8);
    }

    /// A big-endian 16-bit number.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        let mut bytes = [0; 2];
        BigEndian::write_i16(&mut bytes, value);
        self.raw(&bytes);
    }

    /// An error code, which is counted if it is one.
    #[inline]
    pub fn error_code(&mut self, error: ErrorCode) {
        self.i16(error.0);
        if error.is_error() {
            self.count_error(error, 1);
        }
    }

    fn count_error(&mut self, error: ErrorCode, times: u32) {
        match self.errors.iter_mut().find(|(known, _)| *known == error) {
            Some((_, count)) => *count = count.saturating_add(times),
            None => self.errors.push((error, times)),
        }
    }

    /// A big-endian unsigned 16-bit number.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        let mut bytes = [0; 2];
        BigEndian::write_u16(&mut bytes, value);
        self.raw(&bytes);
    }

    /// A big-endian 32-bit number.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        let mut bytes = [0; 4];
        BigEndian::write_i32(&mut bytes, value);
        self.raw(&bytes);
    }

    /// A big-endian 64-bit number.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        let mut bytes = [0; 8];
        BigEndian::write_i64(&mut bytes, value);
        self.raw(&bytes);
    }

    /// A big-endian IEEE 754 number.
    #[inline]
    pub fn f64(&mut self, value: f64) {
        let mut bytes = [0; 8];
        BigEndian::write_f64(&mut bytes, value);
        self.raw(&bytes);
    }

    /// An unsigned variable-length number.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// The length of bytes or record data, or the count of an array; None is null.
    #[inline]
    pub fn len(&mut self, len: Option<usize>) {
        // A length over 31 bits can't come from a message that fits into a frame; it is cut rather than wrapped.
        let len = len.map(|len| len.min(i32::MAX as usize - 1) as i32);
        match (self.flexible, len) {
            (true, None) => self.uvarint(0),
            (true, Some(len)) => self.uvarint(len as u32 + 1),
            (false, len) => self.i32(len.unwrap_or(-1)),
        }
    }

    /// A string; None is null. What exceeds the protocol's 32767 bytes is cut off at a character's
    /// boundary, because a response that a client can read beats one that it can't.
    #[inline]
    pub fn string(&mut self, text: Option<&str>) {
        let text = text.map(cut);
        match (self.flexible, text) {
            (true, None) => self.uvarint(0),
            (true, Some(text)) => self.uvarint(text.len() as u32 + 1),
            (false, None) => self.i16(-1),
            (false, Some(text)) => self.i16(text.len() as i16),
        }
        self.raw(text.unwrap_or("").as_bytes());
    }

    /// Bytes; None is null.
    #[inline]
    pub fn bytes(&mut self, bytes: Option<&[u8]>) {
        self.len(bytes.map(<[u8]>::len));
        self.raw(bytes.unwrap_or(&[]));
    }

    /// Record data that is spliced in later: only its length is written here.
    #[inline]
    pub fn external(&mut self, tag: u32, len: u32) {
        self.len(Some(len as usize));
        self.externals.push(External { position: self.bytes.len(), tag, len });
    }

    /// An array; None is null.
    #[inline]
    pub fn array<'a, T: Wire<'a>>(&mut self, elements: Option<&[T]>) {
        self.len(elements.map(<[T]>::len));
        for element in elements.unwrap_or(&[]) {
            element.write(self);
        }
    }

    /// One tagged field: tag, length, content. Record data is never tagged, so no external lies in the content.
    pub fn tagged<'a, T: Wire<'a>>(&mut self, tag: u32, value: &T) {
        self.uvarint(tag);
        let mut content = Writer::new(self.version, self.flexible);
        value.write(&mut content);
        self.uvarint(content.bytes.len() as u32);
        self.raw(&content.bytes);
        for (error, times) in content.errors {
            self.count_error(error, times);
        }
    }

    /// Fills in a 4-byte number written earlier; out of range is ignored, since positions come from `position`.
    pub(super) fn patch_i32(&mut self, position: usize, value: i32) {
        if let Some(place) = self.bytes.get_mut(position..position + 4) {
            BigEndian::write_i32(place, value);
        }
    }
}

#[inline]
fn cut(text: &str) -> &str {
    if text.len() <= MAX_STRING {
        return text;
    }
    let end = (0..=MAX_STRING).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    &text[..end]
}
