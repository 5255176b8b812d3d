//! Owns object storage: one small blocking trait, and the stores behind it.
//!
//! A store keeps immutable-looking objects under keys. Every method blocks its thread, tries again by itself as far as
//! that makes sense, and ends within a bounded time. `local` is a folder; `s3`, `gcs` and `azure` speak to the clouds
//! and to what speaks like them; `cloud` is what these three are built on, with `http`, `retry` and `transfer`. `open` finds the one that is meant.

mod azure;
mod cloud;
mod error;
mod gcs;
mod http;
mod json;
mod key;
mod local;
mod open;
mod retry;
mod s3;
mod sigv4;
mod source;
mod surroundings;
mod text;
mod transfer;
mod xml;

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

pub use cloud::CloudStore;
pub use error::{Kind, StoreError};
pub use key::{check_key, check_prefix, joined, key_within};
pub use local::LocalStore;
pub use open::{open, open_url, with_url, within};
pub use retry::Tuning;
pub use source::{FileRange, Source};
pub use surroundings::{Machine, Surroundings};

/// Names one state of an object: as long as it is the same, so are the bytes. Only the store that made it can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(pub String);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When a put may take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode<'a> {
    /// Always.
    Overwrite,
    /// Only if there is no object of that key. Of several who try at once, exactly one succeeds.
    IfAbsent,
    /// Only if the object of that key is still in this state.
    IfMatch(&'a ETag),
}

/// What a store knows about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Length of the whole object in bytes, also when only a range was read.
    pub size: u64,
    /// Its state.
    pub etag: ETag,
    /// When it was written, in milliseconds since 1970 by the store's clock, often rounded to seconds.
    pub modified_ms: i64,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// What else is known.
    pub info: ObjectInfo,
}

/// Some of the objects that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys' bytes; at most [`crate::limits::STORE_LIST_PAGE`]. May be empty although more follow.
    pub objects: Vec<Listed>,
    /// Where the next page begins; `None` after the last one. Opaque.
    pub next: Option<String>,
}

/// Objects under keys. What a successful put, or delete, did is durable and seen by everything that begins afterwards.
///
/// Keys are checked by [`check_key`]. No key may be a folder of another one (`a` and `a/b`): a file system can't hold
/// both. All errors are [`StoreError`]s; what is worth another try was tried again before it was returned.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Writes a whole object, of any size, without holding it in memory, and returns its new state. It is there entirely
    /// or not at all.
    ///
    /// [`Kind::Exists`] if the mode's condition doesn't hold, also if there is no object to match. A put that failed
    /// otherwise may have taken effect or may still do; one with a condition is only reported so when looking at the
    /// object could not tell.
    fn put(&self, key: &str, source: &dyn Source, mode: PutMode<'_>) -> Result<ETag, StoreError>;

    /// Writes the bytes of `range`, or of the whole object, into `sink`, which gets each byte once and in order, and
    /// fewer of them only on an error. What lies beyond the object's end is left out.
    ///
    /// [`Kind::NotFound`]; [`Kind::OutOfRange`] if the range is empty or begins at or after the end; [`Kind::Corrupt`] if
    /// the object changed while it was read or isn't what its checksum says; [`Kind::Sink`] if `sink` failed.
    fn get(&self, key: &str, range: Option<Range<u64>>, sink: &mut dyn Write) -> Result<ObjectInfo, StoreError>;

    /// The same, into memory of whoever wants the bytes, where the store can put them there without a copy of its own.
    fn get_into(&self, key: &str, range: Option<Range<u64>>, room: &mut dyn Room) -> Result<ObjectInfo, StoreError> {
        self.get(key, range, &mut Written(room))
    }

    /// What is known about an object; [`Kind::NotFound`].
    fn head(&self, key: &str) -> Result<ObjectInfo, StoreError>;

    /// A page of the objects whose keys begin with `prefix` (any text, not only whole folders; checked by
    /// [`check_prefix`]). The first page without `from`, the others with the last page's `next`.
    fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError>;

    /// Removes an object; nothing happens if it isn't there. Never conditional: stores don't agree on that.
    fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Which store this is, for the log, without secrets: its URL.
    fn describe(&self) -> String;
}

/// A sink with memory of its own, into which the next bytes may be received instead of being written.
pub trait Room: Write {
    /// Where the next bytes belong. As long as what is asked for has not come, there is room for one at least; what lies there now
    /// means nothing.
    fn room(&mut self) -> &mut [u8];

    /// So many bytes lie at the beginning of that room now.
    ///
    /// # Errors
    /// As those of a write.
    fn filled(&mut self, count: usize) -> io::Result<()>;
}

/// What has room, for a store that knows sinks only.
struct Written<'a>(&'a mut dyn Room);

impl Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reads an object, or a range of it, into memory. [`Kind::Other`] if it has more than `max` bytes.
pub fn get_bytes(
    store: &dyn ObjectStore,
    key: &str,
    range: Option<Range<u64>>,
    max: usize,
) -> Result<(Vec<u8>, ObjectInfo), StoreError> {
    // What is asked for is likely to come, and is not moved again and again while it does.
    let expected = range.as_ref().map_or(0, |range| range.end.saturating_sub(range.start));
    let bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(max).min(max));
    let mut sink = Bounded { bytes, max };
    match store.get(key, range, &mut sink) {
        Ok(info) => Ok((sink.bytes, info)),
        Err(error) if error.kind == Kind::Sink => {
            Err(StoreError::new(Kind::Other, format!("The object {key} has more than {max} bytes.")))
        }
        Err(error) => Err(error),
    }
}

/// Calls `each` for every object whose key begins with `prefix`, in the order of the keys, page by page.
pub fn for_each(
    store: &dyn ObjectStore,
    prefix: &str,
    mut each: impl FnMut(Listed) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut from = None;
    loop {
        let page = store.list(prefix, from.as_deref())?;
        page.objects.into_iter().try_for_each(&mut each)?;
        match page.next {
            None => return Ok(()),
            next if next == from => {
                let what = format!("{} lists the same page again and again.", store.describe());
                return Err(StoreError::new(Kind::Other, what));
            }
            next => from = next,
        }
    }
}

/// A vector that refuses to grow beyond a bound.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.max - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
