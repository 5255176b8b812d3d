//! Owns what the three clouds have in common: downloads that go on where they broke off, checksums, addresses.

use std::io::{Read, Write};
use std::ops::Range;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::http::Response;
use super::local::{exists, sink_failed};
use super::retry::Retry;
use super::source::SourceReader;
use super::text::base64;
use super::{ETag, Kind, ObjectInfo, PutMode, Source, StoreError, Surroundings};
use crate::limits::{STORE_COPY_BYTES, STORE_PREFIX_BYTES_MAX, STORE_PROGRESS_BYTES};

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
    sink: &mut dyn Write,
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
            copy(fetched.response, key, &mut at, end, sink, &mut sum)?;
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

/// Passes a body on up to `end`; `at` tells how far that went.
fn copy(
    response: Response,
    key: &str,
    at: &mut u64,
    end: u64,
    sink: &mut dyn Write,
    sum: &mut Sum,
) -> Result<(), StoreError> {
    let mut body = response.into_reader();
    let mut buffer = vec![0; STORE_COPY_BYTES];
    loop {
        let count = match body.read(&mut buffer) {
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
        sink.write_all(&buffer[..count]).map_err(|e| sink_failed(key, &e))?;
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

/// Reads a piece of a source once, ahead of sending it.
pub(super) fn digests(source: &dyn Source, from: u64, to: u64, which: Which) -> Result<Digests, StoreError> {
    let mut reader = SourceReader::new(source, from, to);
    let mut buffer = vec![0; STORE_COPY_BYTES];
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

/// Looks at an object: what is known, and the mark of the upload that wrote it.
pub(super) type Look<'a> = &'a dyn Fn() -> Result<(ObjectInfo, String), StoreError>;

/// Finds out what became of an upload whose answer isn't a success: an answer may have been lost, so that a later try met
/// the object that an earlier one had made.
pub(super) fn settled(
    retry: &Retry,
    key: &str,
    nonce: &str,
    mode: PutMode<'_>,
    result: Result<ETag, StoreError>,
    store: &str,
    look: Look<'_>,
) -> Result<ETag, StoreError> {
    let error = match result {
        Ok(etag) => return Ok(etag),
        Err(error) => error,
    };
    let seen = match error.kind {
        Kind::Exists | Kind::NotFound => retry.run(look),
        // The store is in trouble; one look must do.
        Kind::Timeout | Kind::Unavailable => look(),
        _ => return Err(error),
    };
    match seen {
        Ok((info, mark)) if mark == nonce => Ok(info.etag),
        // Only a put that has a state to match misses an object.
        _ if error.kind == Kind::NotFound && matches!(mode, PutMode::IfMatch(_)) => Err(exists(key, store)),
        _ => Err(error),
    }
}

/// Marks an upload, so that its writer can find out whether it was the one that took effect.
pub(super) fn nonce(around: &dyn Surroundings) -> String {
    format!("{:016x}{:016x}", around.random(), around.random())
}

/// Name of the metadata that holds it.
pub(super) const NONCE: &str = "chronik_nonce";

/// Not every server reads numbers of 64 bits.
const NUMBER_MAX: u64 = 1 << 53;

/// The value of a header `Range`; the end isn't in it.
pub(super) fn range_header((from, to): (u64, Option<u64>)) -> String {
    match to.filter(|to| *to < NUMBER_MAX) {
        None => format!("bytes={from}-"),
        Some(to) => format!("bytes={from}-{}", to - 1),
    }
}

/// The whole object's size of an answer: behind the slash of `Content-Range`, or the body's length.
pub(super) fn size_of(response: &Response) -> Option<u64> {
    let range = response.header("content-range");
    let text = range.rsplit_once('/').map_or_else(|| response.header("content-length"), |(_, total)| total);
    text.parse().ok()
}

/// What the status of an answer means where the store has no code of its own that says more.
pub(super) fn kind_of_status(status: u16) -> Kind {
    match status {
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        412 => Kind::Exists,
        416 => Kind::OutOfRange,
        429 => Kind::Throttled,
        408 => Kind::Timeout,
        500 | 502..=504 => Kind::Unavailable,
        _ => Kind::Other,
    }
}

/// A state without the quotes that some answers have around it.
pub(super) fn etag(text: &str) -> ETag {
    ETag(text.trim().trim_start_matches("W/").trim_matches('"').to_owned())
}

/// A folder in a bucket, without slashes around it.
pub(super) fn folder(text: Option<&str>) -> Result<String, StoreError> {
    let folder = text.unwrap_or("").trim_matches('/');
    if folder.is_empty() || (folder.len() <= STORE_PREFIX_BYTES_MAX && super::check_key(folder).is_ok()) {
        return Ok(folder.to_owned());
    }
    let what = format!(
        "The prefix must be a path of at most {STORE_PREFIX_BYTES_MAX} visible ASCII characters, without empty parts."
    );
    Err(StoreError::new(Kind::Other, what))
}

/// An endpoint as scheme and host, and the path behind it without a slash at its end.
pub(super) fn endpoint(url: &str) -> Result<(String, String), StoreError> {
    let wrong = || StoreError::new(Kind::Other, "The endpoint must be a URL as https://host or http://host:port.");
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host_fits = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    if !matches!(scheme, "http" | "https") || !host_fits || path.contains(['?', '#']) {
        return Err(wrong());
    }
    Ok((format!("{scheme}://{host}"), path.trim_end_matches('/').to_owned()))
}

/// The host of scheme and host, as the header `Host` has it.
pub(super) fn host_of(origin: &str) -> &str {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    match origin.starts_with("https") {
        true => host.strip_suffix(":443").unwrap_or(host),
        false => host.strip_suffix(":80").unwrap_or(host),
    }
}
