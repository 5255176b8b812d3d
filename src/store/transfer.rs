//! Owns the way of bytes from and to a cloud: downloads that go on where they broke off, and the checksums of both ways.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::thread;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::http::Response;
use super::local::sink_failed;
use super::retry::Retry;
use super::source::SourceReader;
use super::text::base64;
use super::{ETag, Kind, ObjectInfo, Room, Source, StoreError};
use crate::limits::{STORE_COPY_BYTES, STORE_PROGRESS_BYTES, STORE_READ_BYTES};
use crate::sys::aligned::AlignedBuf;

/// A checksum that a store gives for a whole object, in Base64.
#[derive(Clone, Debug)]
pub(super) enum Checksum {
    None,
    /// Of four bytes, the most significant first.
    Crc32c(String),
    Md5(String),
}

/// The beginning of a download.
pub(super) struct Fetched {
    pub info: ObjectInfo,
    pub checksum: Checksum,
    pub response: Response,
}

/// Asks for an object from a place on, up to another, and if given only in this state.
pub(super) type Fetch<'a> = &'a dyn Fn(Option<(u64, Option<u64>)>, Option<&ETag>) -> Result<Fetched, StoreError>;

/// Status of an answer that has a range (RFC 9110, section 15.3.7).
const PARTIAL_CONTENT: u16 = 206;

/// Downloads an object or a range of it, and goes on where a connection broke.
pub(super) fn download(
    retry: &Retry,
    key: &str,
    range: Option<Range<u64>>,
    room: &mut dyn Room,
    fetch: Fetch<'_>,
) -> Result<ObjectInfo, StoreError> {
    if let Some(range) = range.as_ref().filter(|r| r.start >= r.end) {
        let what = format!("The range {}..{} of the object {key} is empty.", range.start, range.end);
        return Err(StoreError::new(Kind::OutOfRange, what));
    }
    let mut tries = retry.begin();
    let start = range.as_ref().map_or(0, |r| r.start);
    let (mut at, mut counted) = (start, start);
    let mut first: Option<ObjectInfo> = None;
    let mut sum = Sum::default();
    loop {
        let asked = match (&range, at) {
            (None, 0) => None,
            (range, at) => Some((at, range.as_ref().map(|r| r.end))),
        };
        let result = fetch(asked, first.as_ref().map(|info| &info.etag)).and_then(|fetched| {
            let info = first.get_or_insert_with(|| fetched.info.clone()).clone();
            // Not every server refuses a range behind the end, as it should, and not every one knows ranges.
            if range.is_some() && at >= info.size {
                let what =
                    format!("The object {key} has {} bytes, and none of the range that was asked for.", info.size);
                return Err(StoreError::new(Kind::OutOfRange, what));
            }
            if at > 0 && fetched.response.status() != PARTIAL_CONTENT {
                let what =
                    format!("The store does not know ranges, and so nothing can be read from within the object {key}.");
                return Err(StoreError::new(Kind::Other, what));
            }
            let end = range.as_ref().map_or(info.size, |r| r.end.min(info.size));
            sum.begin(if range.is_none() { fetched.checksum } else { Checksum::None });
            receive(fetched.response, key, &mut at, end, room, &mut sum)?;
            Ok(info)
        });
        let error = match result {
            Ok(info) => return sum.check(key).map(|()| info),
            Err(error) => error,
        };
        if at - counted >= STORE_PROGRESS_BYTES {
            counted = at;
            tries.progressed();
        }
        match error.kind {
            // The object is in another state now than when its first bytes came.
            Kind::Exists => {
                return Err(StoreError::new(Kind::Corrupt, format!("The object {key} changed while it was read.")))
            }
            Kind::Corrupt => return Err(error),
            _ => tries.failed(error)?,
        }
    }
}

/// Receives a body up to `end`; `at` tells how far that went.
fn receive(
    response: Response,
    key: &str,
    at: &mut u64,
    end: u64,
    room: &mut dyn Room,
    sum: &mut Sum,
) -> Result<(), StoreError> {
    let mut body = response.into_reader();
    // What would be too much, and the end of the body, without which the connection is not used again.
    let mut beyond = [0];
    loop {
        let buffer = if *at < end { room.room() } else { &mut beyond[..] };
        let count = match body.read(buffer) {
            Ok(count) => count,
            Err(e) => {
                let error = super::http::failure("The store", ureq::Error::from(e));
                return Err(StoreError { kind: Kind::Unavailable, ..error });
            }
        };
        if count == 0 {
            break;
        }
        if count as u64 > end - *at {
            let what = format!("More bytes of the object {key} came than it has.");
            return Err(StoreError::new(Kind::Corrupt, what));
        }
        sum.update(&buffer[..count]);
        room.filled(count).map_err(|e| sink_failed(key, &e))?;
        *at += count as u64;
    }
    match *at == end {
        true => Ok(()),
        false => {
            let what = format!("The object {key} broke off {} bytes before its end.", end - *at);
            Err(StoreError::new(Kind::Unavailable, what))
        }
    }
}

/// The room of a sink that has none: what comes there is written.
pub(super) struct Passage<'a> {
    buffer: Vec<u8>,
    sink: &'a mut dyn Write,
}

impl<'a> Passage<'a> {
    pub fn to(sink: &'a mut dyn Write) -> Passage<'a> {
        Passage { buffer: vec![0; STORE_COPY_BYTES], sink }
    }
}

impl Room for Passage<'_> {
    fn room(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn filled(&mut self, count: usize) -> io::Result<()> {
        self.sink.write_all(&self.buffer[..count])
    }
}

impl Write for Passage<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Compares what came with the checksum that the store gave.
#[derive(Default)]
struct Sum {
    expected: Option<Checksum>,
    crc: u32,
    md5: Md5,
}

impl Sum {
    /// The checksum of the first answer counts; later ones are of the same object.
    fn begin(&mut self, expected: Checksum) {
        self.expected.get_or_insert(expected);
    }

    fn update(&mut self, bytes: &[u8]) {
        match self.expected {
            Some(Checksum::Crc32c(_)) => self.crc = crc32c::crc32c_append(self.crc, bytes),
            Some(Checksum::Md5(_)) => self.md5.update(bytes),
            Some(Checksum::None) | None => (),
        }
    }

    fn check(self, key: &str) -> Result<(), StoreError> {
        let (expected, found) = match self.expected {
            Some(Checksum::Crc32c(expected)) => (expected, base64(&self.crc.to_be_bytes())),
            Some(Checksum::Md5(expected)) => (expected, base64(&self.md5.finalize())),
            Some(Checksum::None) | None => return Ok(()),
        };
        match expected == found {
            true => Ok(()),
            false => {
                let what = format!("The bytes of the object {key} are not those that its checksum was made of.");
                Err(StoreError::new(Kind::Corrupt, what))
            }
        }
    }
}

/// The checksums that an upload carries.
#[derive(Clone, Debug, Default)]
pub(super) struct Digests {
    pub sha256: [u8; 32],
    pub crc32c: u32,
    pub md5: [u8; 16],
}

/// Which of them are wanted; the others stay zero.
#[derive(Clone, Copy, Default)]
pub(super) struct Which {
    pub sha256: bool,
    pub crc32c: bool,
    pub md5: bool,
}

/// A part of an upload.
pub(super) struct Part {
    /// From 0 on.
    pub number: u64,
    pub from: u64,
    pub to: u64,
    pub sums: Digests,
}

/// Hands over the parts of a source, each of `part_bytes` but for the last, with their checksums. Those of the next part are made
/// meanwhile, by a thread of their own.
pub(super) fn each_part(
    source: &dyn Source,
    part_bytes: u64,
    which: Which,
    mut send: impl FnMut(Part) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let size = source.size();
    let piece = |number: u64| (number * part_bytes, size.min((number + 1) * part_bytes));
    let sums_of = move |number: u64| {
        let (from, to) = piece(number);
        digests(source, from, to, which)
    };
    thread::scope(|scope| {
        let mut ahead: Option<thread::ScopedJoinHandle<'_, Result<Digests, StoreError>>> = None;
        for number in 0..size.div_ceil(part_bytes) {
            let sums = match ahead.take().map(thread::ScopedJoinHandle::join) {
                Some(Ok(sums)) => sums,
                // Without that thread it takes longer.
                Some(Err(_)) | None => sums_of(number),
            }?;
            let (from, to) = piece(number);
            if to < size {
                let named = thread::Builder::new().name("chronik-sums".to_owned());
                ahead = named.spawn_scoped(scope, move || sums_of(number + 1)).ok();
            }
            send(Part { number, from, to, sums })?;
        }
        Ok(())
    })
}

/// Reads a piece of a source once, ahead of sending it.
pub(super) fn digests(source: &dyn Source, from: u64, to: u64, which: Which) -> Result<Digests, StoreError> {
    let mut reader = SourceReader::new(source, from, to);
    // A file that is read past the page cache is read into this without a copy.
    let mut buffer = AlignedBuf::with_capacity(STORE_READ_BYTES);
    buffer.resize(STORE_READ_BYTES);
    let (mut sha256, mut md5, mut crc32c) = (Sha256::new(), Md5::new(), 0);
    loop {
        let count = reader
            .read(&mut buffer)
            .map_err(|e| StoreError::new(Kind::Source, format!("What should be uploaded can't be read: {e}.")))?;
        if count == 0 {
            break;
        }
        let bytes = &buffer[..count];
        if which.sha256 {
            sha256.update(bytes);
        }
        if which.crc32c {
            crc32c = crc32c::crc32c_append(crc32c, bytes);
        }
        if which.md5 {
            md5.update(bytes);
        }
    }
    Ok(Digests { sha256: sha256.finalize().into(), crc32c, md5: md5.finalize().into() })
}
