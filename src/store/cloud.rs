//! Owns the store that is a bucket of a cloud: the same for all of them, over the requests of each one's protocol.

use std::io::Write;
use std::ops::Range;

use super::http::{Http, Response};
use super::local::exists;
use super::retry::Retry;
use super::text::from_http_date;
use super::transfer::{digests, download, Digests, Fetched, Passage, Which};
use super::{
    check_key, check_prefix, joined, key_within, xml, ETag, Kind, Listed, ObjectInfo, ObjectStore, Page, PutMode, Room,
    Source, StoreError, Surroundings,
};
use crate::limits::{STORE_ASK_FIRST_BYTES, STORE_PREFIX_BYTES_MAX, STORE_SINGLE_PUT_BYTES_MAX};

type Result<T> = std::result::Result<T, StoreError>;

/// A bucket or container of a cloud, and a folder in it.
#[derive(Debug)]
pub struct CloudStore {
    protocol: Box<dyn Protocol>,
}

/// The requests that a cloud understands. Each is made once: whether it is made again is up to the store above. Only an
/// upload in parts, whose steps differ most, makes its own steps again.
pub(super) trait Protocol: Send + Sync + std::fmt::Debug {
    /// Where the objects are.
    fn bucket(&self) -> &Bucket;

    /// Which checksums the upload of a whole object carries.
    fn digests(&self) -> Which;

    /// What is known about an object, and the mark of the upload that wrote it.
    fn look(&self, key: &str) -> Result<(ObjectInfo, String)>;

    /// Begins to download an object from a place on, up to another, and if given only in this state.
    fn fetch(&self, key: &str, range: Option<(u64, Option<u64>)>, only: Option<&ETag>) -> Result<Fetched>;

    /// A page of a listing.
    fn page(&self, prefix: &str, from: Option<&str>) -> Result<Page>;

    /// What the answer to a listing says.
    fn read_page(&self, text: &str) -> Result<Page>;

    /// Removes an object; [`Kind::NotFound`] is no failure.
    fn remove(&self, key: &str) -> Result<()>;

    /// Uploads an object in one request.
    fn upload_whole(&self, upload: &Upload<'_>, sums: &Digests) -> Result<ETag>;

    /// Uploads an object piece by piece; the condition holds for the moment at which they become one.
    fn upload_in_parts(&self, upload: &Upload<'_>) -> Result<ETag>;
}

/// What is uploaded.
pub(super) struct Upload<'a> {
    pub key: &'a str,
    pub source: &'a dyn Source,
    pub mode: PutMode<'a>,
    /// Marks the object, so that its writer can find out whether it was the one that took effect.
    pub nonce: String,
}

/// Where the objects of a store are, and how they are reached.
#[derive(Debug)]
pub(super) struct Bucket {
    pub http: Http,
    pub retry: Retry,
    /// With which the store's URL begins.
    pub scheme: &'static str,
    pub name: String,
    /// Without slashes around it; may be empty.
    pub folder: String,
}

/// The names of elements in a cloud's listings: of the whole, of an object, and of what is said of it.
pub(super) struct Names {
    pub listing: &'static str,
    pub object: &'static str,
    pub key: &'static str,
    pub size: &'static str,
    pub etag: &'static str,
    pub modified: &'static str,
}

impl Bucket {
    /// The store's URL.
    pub fn describe(&self) -> String {
        let slash = if self.folder.is_empty() { "" } else { "/" };
        format!("{}://{}{slash}{}", self.scheme, self.name, self.folder)
    }

    /// Where a key, or the beginning of keys, is in the bucket.
    pub fn path(&self, key: &str) -> String {
        joined(&self.folder, key)
    }

    /// The key of what is there in the bucket, if it is in the folder.
    pub fn key<'a>(&self, path: &'a str) -> Option<&'a str> {
        key_within(&self.folder, path)
    }

    /// The time, for signatures.
    pub fn now_ms(&self) -> i64 {
        self.retry.around.wall_ms()
    }

    /// What there is to say of an answer that makes no sense.
    pub fn strange(&self) -> StoreError {
        StoreError::new(Kind::Other, format!("{} answered with something that can't be read.", self.describe()))
    }

    /// What an answer's head says of the object.
    pub fn info_of(&self, response: &Response, etag: ETag) -> Result<ObjectInfo> {
        let size = size_of(response).ok_or_else(|| self.strange())?;
        let modified_ms = from_http_date(response.header("last-modified")).unwrap_or(0);
        Ok(ObjectInfo { size, etag, modified_ms })
    }

    /// The objects in the folder that a listing in XML tells of; `time` reads their times.
    pub fn objects_in(&self, text: &str, names: &Names, time: fn(&str) -> Option<i64>) -> Result<Vec<Listed>> {
        let strange = || self.strange();
        xml::element(text, names.listing).ok_or_else(strange)?;
        let mut objects = Vec::new();
        for object in xml::elements(text, names.object) {
            let key = xml::text(object, names.key).ok_or_else(strange)?;
            let Some(key) = self.key(&key) else {
                continue;
            };
            let info = ObjectInfo {
                size: xml::text(object, names.size).and_then(|s| s.parse().ok()).ok_or_else(strange)?,
                etag: etag(&xml::text(object, names.etag).unwrap_or_default()),
                modified_ms: xml::text(object, names.modified).and_then(|t| time(&t)).unwrap_or(0),
            };
            objects.push(Listed { key: key.to_owned(), info });
        }
        Ok(objects)
    }
}

impl CloudStore {
    pub(super) fn over(protocol: impl Protocol + 'static) -> CloudStore {
        CloudStore { protocol: Box::new(protocol) }
    }

    /// Requests to the bucket so far, the failed ones too.
    pub fn requests(&self) -> u64 {
        self.protocol.bucket().http.requests()
    }

    /// Reads a page of a listing as the cloud answers it; asks nothing.
    ///
    /// # Errors
    /// [`Kind::Other`] when it makes no sense.
    pub fn read_page(&self, text: &str) -> Result<Page> {
        self.protocol.read_page(text)
    }

    fn retry(&self) -> &Retry {
        &self.protocol.bucket().retry
    }

    fn upload(&self, upload: &Upload<'_>) -> Result<ETag> {
        let size = upload.source.size();
        if size > self.retry().tuning.single_bytes {
            let sent = self.foresee(upload).and_then(|()| self.protocol.upload_in_parts(upload));
            return sent.or_else(|error| self.settled(upload, error));
        }
        let sums = digests(upload.source, 0, size, self.protocol.digests())?;
        let once = || self.protocol.upload_whole(upload, &sums);
        if size > STORE_ASK_FIRST_BYTES && upload.mode != PutMode::Overwrite {
            // Some servers ask for all of a body that they then refuse, and end the connection without reading it, which hides their
            // answer. Sending all of it again and again would not bring the answer; a look tells as much.
            return self.retry().run(|| once().or_else(|error| self.settled(upload, error)));
        }
        self.retry().run(once).or_else(|error| self.settled(upload, error))
    }

    /// Spares the bytes of an upload that will be refused; what counts is the condition at its end.
    fn foresee(&self, upload: &Upload<'_>) -> Result<()> {
        if upload.mode == PutMode::Overwrite {
            return Ok(());
        }
        let held = match self.retry().run(|| self.protocol.look(upload.key)) {
            Ok((info, _)) => Some(info.etag),
            Err(error) if error.kind == Kind::NotFound => None,
            Err(error) => return Err(error),
        };
        match fits(upload.mode, held.as_ref()) {
            true => Ok(()),
            false => Err(exists(upload.key, &self.describe())),
        }
    }

    /// Finds out what became of an upload whose answer isn't a success: an answer may have been lost, so that a later try
    /// met the object that an earlier one had made.
    fn settled(&self, upload: &Upload<'_>, error: StoreError) -> Result<ETag> {
        let look = || self.protocol.look(upload.key);
        let seen = match error.kind {
            Kind::Exists | Kind::NotFound => self.retry().run(look),
            // The store is in trouble; one look must do.
            Kind::Timeout | Kind::Unavailable => look(),
            _ => return Err(error),
        };
        match seen {
            Ok((info, mark)) if mark == upload.nonce => Ok(info.etag),
            // Whether its answer was that or was lost: an upload that another's object is in the way of does not take effect.
            Ok((info, _)) if !fits(upload.mode, Some(&info.etag)) => Err(exists(upload.key, &self.describe())),
            // Only a put that has a state to match misses an object.
            _ if error.kind == Kind::NotFound && matches!(upload.mode, PutMode::IfMatch(_)) => {
                Err(exists(upload.key, &self.describe()))
            }
            _ => Err(error),
        }
    }
}

impl ObjectStore for CloudStore {
    fn put(&self, key: &str, source: &dyn Source, mode: PutMode<'_>) -> Result<ETag> {
        check_key(key)?;
        let upload = Upload { key, source, mode, nonce: nonce(&*self.retry().around) };
        self.upload(&upload)
    }

    fn get(&self, key: &str, range: Option<Range<u64>>, sink: &mut dyn Write) -> Result<ObjectInfo> {
        self.get_into(key, range, &mut Passage::to(sink))
    }

    fn get_into(&self, key: &str, range: Option<Range<u64>>, room: &mut dyn Room) -> Result<ObjectInfo> {
        check_key(key)?;
        download(self.retry(), key, range, room, &|range, only| self.protocol.fetch(key, range, only))
    }

    fn head(&self, key: &str) -> Result<ObjectInfo> {
        check_key(key)?;
        self.retry().run(|| self.protocol.look(key)).map(|(info, _)| info)
    }

    fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page> {
        check_prefix(prefix)?;
        self.retry().run(|| self.protocol.page(prefix, from))
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.retry().run(|| match self.protocol.remove(key) {
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            other => other,
        })
    }

    fn describe(&self) -> String {
        self.protocol.bucket().describe()
    }
}

/// Whether an object in this state, or none, is what a put's condition wants.
fn fits(mode: PutMode<'_>, held: Option<&ETag>) -> bool {
    match mode {
        PutMode::Overwrite => true,
        PutMode::IfAbsent => held.is_none(),
        PutMode::IfMatch(etag) => held == Some(etag),
    }
}

fn nonce(around: &dyn Surroundings) -> String {
    format!("{:016x}{:016x}", around.random(), around.random())
}

/// Name of the metadata that holds the mark of an upload.
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

/// Bytes that the answer for a range, or for all, may have.
pub(super) fn expected(range: Option<(u64, Option<u64>)>) -> u64 {
    range.and_then(|(from, to)| Some(to? - from)).unwrap_or(STORE_SINGLE_PUT_BYTES_MAX)
}

/// The header that holds an upload's condition, where a state is an entity tag.
pub(super) fn condition(mode: PutMode<'_>) -> Option<(&'static str, String)> {
    match mode {
        PutMode::Overwrite => None,
        PutMode::IfAbsent => Some(("if-none-match", "*".to_owned())),
        PutMode::IfMatch(etag) => Some(("if-match", format!("\"{etag}\""))),
    }
}

/// The whole object's size of an answer: behind the slash of `Content-Range`, or the body's length.
fn size_of(response: &Response) -> Option<u64> {
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
pub(super) fn folder(text: Option<&str>) -> Result<String> {
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
pub(super) fn endpoint(url: &str) -> Result<(String, String)> {
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
