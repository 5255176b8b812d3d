//! Owns the small trait that every field type implements, and its implementations for the protocol's basic types.

use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader};
use super::schema::Type;
use super::uuid::Uuid;
use super::writer::Writer;

/// Something that can stand in a message. Version and flexibility are the reader's and the writer's business.
pub trait Wire<'a>: Sized {
    /// What this is in the protocol's terms; evaluated by tests only.
    const TYPE: Type;

    /// Reads a value.
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Writes the value.
    fn write(&self, w: &mut Writer);

    /// The fewest bytes that a value takes in this version: what an array's count is checked against.
    fn min_size(version: i16, flexible: bool) -> usize;
}

/// A type that the protocol allows to be null.
pub trait Nullable<'a>: Wire<'a> {
    /// Reads a value or null.
    fn read_nullable(r: &mut Reader<'a>) -> Result<Option<Self>, DecodeError>;

    /// Writes a value or null.
    fn write_nullable(value: Option<&Self>, w: &mut Writer);

    /// What a null is read as in a version that allows none: an error, unless the type says otherwise.
    #[cold]
    fn read_forbidden_null(r: &Reader<'a>) -> Result<Self, DecodeError> {
        Err(r.error("null where a value must stand"))
    }

    /// Writes the empty value, which stands for null in a version that allows none.
    fn write_empty(w: &mut Writer);

    /// The fewest bytes that a value or null takes.
    fn min_size_nullable(flexible: bool) -> usize;
}

impl<'a, T: Nullable<'a>> Wire<'a> for Option<T> {
    const TYPE: Type = Type::Nullable(&T::TYPE);

    #[inline]
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        T::read_nullable(r)
    }

    #[inline]
    fn write(&self, w: &mut Writer) {
        T::write_nullable(self.as_ref(), w);
    }

    #[inline]
    fn min_size(_: i16, flexible: bool) -> usize {
        T::min_size_nullable(flexible)
    }
}

/// Implements `Wire` for a type of fixed size by the reader's and writer's methods of that name.
macro_rules! fixed {
    ($($rust:ty, $method:ident, $kind:ident, $size:literal;)*) => { $(
        impl<'a> Wire<'a> for $rust {
            const TYPE: Type = Type::$kind;

            #[inline]
            fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
                r.$method()
            }

            #[inline]
            fn write(&self, w: &mut Writer) {
                w.$method(*self);
            }

            #[inline]
            fn min_size(_: i16, _: bool) -> usize {
                $size
            }
        }
    )* };
}

fixed! {
    i8, i8, Int8, 1;
    i16, i16, Int16, 2;
    u16, u16, Uint16, 2;
    i32, i32, Int32, 4;
    i64, i64, Int64, 8;
    f64, f64, Float64, 8;
}

impl<'a> Wire<'a> for bool {
    const TYPE: Type = Type::Bool;

    #[inline]
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(r.u8()? != 0)
    }

    #[inline]
    fn write(&self, w: &mut Writer) {
        w.i8(i8::from(*self));
    }

    #[inline]
    fn min_size(_: i16, _: bool) -> usize {
        1
    }
}

impl<'a> Wire<'a> for ErrorCode {
    const TYPE: Type = Type::Int16;

    #[inline]
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(ErrorCode(r.i16()?))
    }

    #[inline]
    fn write(&self, w: &mut Writer) {
        w.i16(self.0);
    }

    #[inline]
    fn min_size(_: i16, _: bool) -> usize {
        2
    }
}

impl<'a> Wire<'a> for Uuid {
    const TYPE: Type = Type::Uuid;

    #[inline]
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut id = [0; 16];
        id.copy_from_slice(r.take(16)?);
        Ok(Uuid(id))
    }

    #[inline]
    fn write(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    #[inline]
    fn min_size(_: i16, _: bool) -> usize {
        16
    }
}

/// Implements `Wire` for a nullable type whose null is told by its length.
macro_rules! not_null {
    () => {
        #[inline]
        fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
            match Self::read_nullable(r)? {
                Some(value) => Ok(value),
                None => Self::read_forbidden_null(r),
            }
        }

        #[inline]
        fn write(&self, w: &mut Writer) {
            Self::write_nullable(Some(self), w);
        }

        #[inline]
        fn min_size(_: i16, flexible: bool) -> usize {
            Self::min_size_nullable(flexible)
        }
    };
}

impl<'a> Wire<'a> for &'a str {
    const TYPE: Type = Type::String;
    not_null!();
}

impl<'a> Nullable<'a> for &'a str {
    #[inline]
    fn read_nullable(r: &mut Reader<'a>) -> Result<Option<Self>, DecodeError> {
        r.string()
    }

    #[inline]
    fn write_nullable(value: Option<&Self>, w: &mut Writer) {
        w.string(value.copied());
    }

    fn write_empty(w: &mut Writer) {
        w.string(Some(""));
    }

    #[inline]
    fn min_size_nullable(flexible: bool) -> usize {
        if flexible {
            1
        } else {
            2
        }
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    const TYPE: Type = Type::Bytes;
    not_null!();
}

impl<'a> Nullable<'a> for &'a [u8] {
    #[inline]
    fn read_nullable(r: &mut Reader<'a>) -> Result<Option<Self>, DecodeError> {
        r.bytes()
    }

    #[inline]
    fn write_nullable(value: Option<&Self>, w: &mut Writer) {
        w.bytes(value.copied());
    }

    fn write_empty(w: &mut Writer) {
        w.bytes(Some(&[]));
    }

    #[inline]
    fn min_size_nullable(flexible: bool) -> usize {
        len_size(flexible)
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    const TYPE: Type = Type::Array { of: &T::TYPE, size: size_of::<T>() };
    not_null!();
}

impl<'a, T: Wire<'a>> Nullable<'a> for Vec<T> {
    #[inline]
    fn read_nullable(r: &mut Reader<'a>) -> Result<Option<Self>, DecodeError> {
        r.array()
    }

    /// Null is read as empty: there are clients that send null arrays in CreateTopics, and mean no elements.
    fn read_forbidden_null(_: &Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Vec::new())
    }

    #[inline]
    fn write_nullable(value: Option<&Self>, w: &mut Writer) {
        w.array(value.map(Vec::as_slice));
    }

    fn write_empty(w: &mut Writer) {
        w.len(Some(0));
    }

    #[inline]
    fn min_size_nullable(flexible: bool) -> usize {
        len_size(flexible)
    }
}

/// The fewest bytes of a length or count.
#[inline]
fn len_size(flexible: bool) -> usize {
    if flexible {
        1
    } else {
        4
    }
}

/// The record data of one partition in a Produce or Fetch message. Any version allows null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordSet<'a> {
    /// No data, written as null.
    #[default]
    Null,
    /// Data that is copied into the message, and what decoding gives.
    Bytes(&'a [u8]),
    /// Data that the sender splices in: only its length is encoded, and the place is noted in `Writer::externals`.
    External {
        /// The caller's name for the data.
        tag: u32,
        /// Length in bytes.
        len: u32,
    },
}

impl RecordSet<'_> {
    /// Length in bytes; null has none.
    pub fn len(&self) -> usize {
        match self {
            RecordSet::Null => 0,
            RecordSet::Bytes(bytes) => bytes.len(),
            RecordSet::External { len, .. } => *len as usize,
        }
    }

    /// Whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> RecordSet<'a> {
    /// The data at hand: empty for null and for data that is spliced in later.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            RecordSet::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

impl<'a> Wire<'a> for RecordSet<'a> {
    const TYPE: Type = Type::Records;

    #[inline]
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(r.bytes()?.map_or(RecordSet::Null, RecordSet::Bytes))
    }

    #[inline]
    fn write(&self, w: &mut Writer) {
        match self {
            RecordSet::Null => w.bytes(None),
            RecordSet::Bytes(bytes) => w.bytes(Some(bytes)),
            RecordSet::External { tag, len } => w.external(*tag, *len),
        }
    }

    #[inline]
    fn min_size(_: i16, flexible: bool) -> usize {
        len_size(flexible)
    }
}
