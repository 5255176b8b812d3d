//! Owns the store that is a bucket of Google Cloud Storage.
//!
//! Source: Cloud Storage JSON API. An object's state is its generation. Uploads carry a CRC-32C, which Google checks and
//! gives back; large ones go through a resumable session, which tells how far it got.

mod error;
mod token;

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use self::error::Fault;
use self::token::Tokens;
use super::cloud::{self, digests, download, Checksum, Fetched, Which, NONCE};
use super::http::{Body, Http, Request, Response};
use super::json::{quoted, Json};
use super::retry::Retry;
use super::text::{base64, from_http_date, from_iso_date, percent};
use super::{
    check_key, check_prefix, joined, key_within, ETag, Kind, Listed, ObjectInfo, ObjectStore, Page, PutMode, Source,
    StoreError, Surroundings, Tuning,
};
use crate::config::storage::GcsConfig;
use crate::limits::{STORE_LIST_PAGE, STORE_SINGLE_PUT_BYTES_MAX};

type Result<T> = std::result::Result<T, StoreError>;

const USUAL: &str = "https://storage.googleapis.com";
/// Chunks of a session are whole numbers of this many bytes, but for the last.
const CHUNK_UNIT: u64 = 256 << 10;
/// Answer to a chunk that isn't the last.
const INCOMPLETE: u16 = 308;
const WHICH: Which = Which { sha256: false, crc32c: true, md5: false };
const BOUNDARY: &str = "chronik-4f2d9c61a7";

/// A bucket, and a folder in it.
#[derive(Debug)]
pub struct GcsStore {
    http: Http,
    retry: Retry,
    tokens: Tokens,
    /// Scheme, host and path of the service.
    base: String,
    bucket: String,
    folder: String,
}

impl GcsStore {
    /// The store that the settings name. Reads the key file, but asks nothing yet.
    pub fn new(
        config: &GcsConfig,
        ca_file: Option<&Path>,
        tuning: Tuning,
        around: Arc<dyn Surroundings>,
    ) -> Result<GcsStore> {
        let wrong = |what: &str| StoreError::new(Kind::Other, what);
        let bucket =
            config.bucket.clone().ok_or_else(|| wrong("Storage in Google's cloud needs a bucket: set GCS_BUCKET."))?;
        if !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err(wrong("The name of a Google bucket has small letters, digits, dots, dashes and underscores."));
        }
        let endpoint = match config.endpoint.as_deref() {
            // An emulator is often told without its scheme.
            Some(host) if !host.contains("://") => format!("http://{host}"),
            other => other.unwrap_or(USUAL).to_owned(),
        };
        let (origin, path) = cloud::endpoint(&endpoint)?;
        let plain = origin.starts_with("http://");
        Ok(GcsStore {
            http: Http::new(&tuning, ca_file, true)?,
            tokens: Tokens::new(config, plain, ca_file, &tuning, Arc::clone(&around))?,
            retry: Retry { tuning, around },
            base: format!("{origin}{path}"),
            bucket,
            folder: cloud::folder(config.prefix.as_deref())?,
        })
    }

    /// Requests to the bucket so far, the failed ones too.
    pub fn requests(&self) -> u64 {
        self.http.requests()
    }

    /// Makes a request once; twice if the token had expired.
    fn send(&self, key: Option<&str>, make: &dyn Fn() -> Request<'static>) -> Result<Response> {
        self.send_body(key, &|| make())
    }

    fn send_body<'a>(&self, key: Option<&str>, make: &dyn Fn() -> Request<'a>) -> Result<Response> {
        let mut renewed = false;
        loop {
            let token = self.tokens.get()?;
            let mut request = make();
            if let Some(token) = &token {
                request = request.header("authorization", format!("Bearer {}", token.reveal()));
            }
            let response = self.http.send(&request)?;
            match response.status() {
                401 if !renewed && self.tokens.renew(token.as_ref()) => renewed = true,
                INCOMPLETE => return Ok(response),
                _ if response.is_success() => return Ok(response),
                _ => return Err(Fault::read(response)?.into_error(key, &self.describe(), &self.bucket)),
            }
        }
    }

    fn object_url(&self, key: &str) -> String {
        let name = percent(&joined(&self.folder, key), "");
        format!("{}/storage/v1/b/{}/o/{name}", self.base, self.bucket)
    }

    fn upload_url(&self, kind: &str, mode: PutMode<'_>) -> String {
        let condition = match mode {
            PutMode::Overwrite => String::new(),
            PutMode::IfAbsent => "&ifGenerationMatch=0".to_owned(),
            PutMode::IfMatch(etag) => format!("&ifGenerationMatch={}", percent(&etag.0, "")),
        };
        format!("{}/upload/storage/v1/b/{}/o?uploadType={kind}{condition}", self.base, self.bucket)
    }

    /// What is said of an object with its upload.
    fn metadata(&self, key: &str, nonce: &str, crc32c: Option<u32>) -> String {
        let crc = crc32c.map_or(String::new(), |crc| format!(r#","crc32c":"{}""#, base64(&crc.to_be_bytes())));
        let name = quoted(&joined(&self.folder, key));
        format!(r#"{{"name":{name},"contentType":"application/octet-stream","metadata":{{"{NONCE}":"{nonce}"}}{crc}}}"#)
    }

    fn look(&self, key: &str) -> Result<(ObjectInfo, String)> {
        let text = self.send(Some(key), &|| Request::new("GET", self.object_url(key), Body::None))?.text()?;
        let json = Json::read(&text).unwrap_or(Json::Null);
        let mark = json.get("metadata").and_then(|m| m.text(NONCE)).unwrap_or("").to_owned();
        let info = info_of(&json).ok_or_else(|| self.strange())?;
        Ok((info, mark))
    }

    /// Where no object is named that could be missing, it is the bucket that is.
    fn without_bucket(&self, error: StoreError) -> StoreError {
        match error.kind {
            Kind::NotFound => Fault::no_bucket(&self.bucket),
            _ => error,
        }
    }

    fn strange(&self) -> StoreError {
        StoreError::new(Kind::Other, format!("{} answered with something that can't be read.", self.describe()))
    }

    fn written(&self, response: Response) -> Result<ETag> {
        let json = Json::read(&response.text()?).unwrap_or(Json::Null);
        info_of(&json).map(|info| info.etag).ok_or_else(|| self.strange())
    }

    fn upload_whole(&self, key: &str, source: &dyn Source, mode: PutMode<'_>, nonce: &str) -> Result<ETag> {
        let sums = digests(source, 0, source.size(), WHICH)?;
        let metadata = self.metadata(key, nonce, Some(sums.crc32c));
        let before = format!(
            "--{BOUNDARY}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n--{BOUNDARY}\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let behind = format!("\r\n--{BOUNDARY}--\r\n");
        let url = self.upload_url("multipart", mode);
        self.retry.run(|| {
            let response = self.send_body(Some(key), &|| {
                let body = Body::Framed(before.as_bytes(), source, behind.as_bytes());
                let kind = format!("multipart/related; boundary={BOUNDARY}");
                Request::new("POST", url.clone(), body).header("content-type", kind)
            });
            self.written(response.map_err(|error| self.without_bucket(error))?)
        })
    }

    fn upload_in_chunks(&self, key: &str, source: &dyn Source, mode: PutMode<'_>, nonce: &str) -> Result<ETag> {
        let sums = digests(source, 0, source.size(), WHICH)?;
        let metadata = self.metadata(key, nonce, Some(sums.crc32c));
        let url = self.upload_url("resumable", mode);
        let session = self.retry.run(|| {
            let response = self.send_body(Some(key), &|| {
                Request::new("POST", url.clone(), Body::Bytes(metadata.as_bytes()))
                    .header("content-type", "application/json; charset=UTF-8")
                    .header("x-upload-content-length", source.size().to_string())
            });
            let response = response.map_err(|error| self.without_bucket(error))?;
            match response.header("location") {
                "" => Err(self.strange()),
                location => Ok(location.to_owned()),
            }
        })?;
        let result = self.send_chunks(key, source, &session);
        if result.is_err() {
            // A session that is left behind ends by itself after a week.
            let _ = self.send(Some(key), &|| Request::new("DELETE", session.clone(), Body::None));
        }
        result
    }

    fn send_chunks(&self, key: &str, source: &dyn Source, session: &str) -> Result<ETag> {
        let size = source.size();
        let chunk = self.retry.tuning.part_size(size, CHUNK_UNIT);
        let (mut at, mut reached, mut unsure) = (0, 0, false);
        let mut tries = self.retry.begin();
        loop {
            let to = size.min(at + chunk);
            let sent = self.send_body(Some(key), &|| match unsure {
                // Asks how much arrived.
                true => Request::new("PUT", session.to_owned(), Body::Bytes(b""))
                    .header("content-range", format!("bytes */{size}")),
                false => Request::new("PUT", session.to_owned(), Body::Piece(source, at, to))
                    .header("content-range", format!("bytes {at}-{}/{size}", to - 1)),
            });
            match sent {
                Ok(response) if response.status() == INCOMPLETE => {
                    (at, unsure) = (arrived(&response).min(size), false);
                    if at > reached && at < size {
                        reached = at;
                        tries.progressed();
                    } else {
                        // Nothing new, or all of it and still not an object.
                        let what = format!("{} does not go on with the object {key}.", self.describe());
                        tries.failed(StoreError::new(Kind::Unavailable, what))?;
                        unsure = at == size;
                    }
                }
                Ok(response) => return self.written(response),
                Err(error) if error.kind == Kind::NotFound => {
                    // Asking the same session again is of no use, but a new upload may be.
                    let what = format!("{} has ended the upload of the object {key} before its end.", self.describe());
                    return Err(StoreError::new(Kind::Unavailable, what));
                }
                Err(error) => {
                    tries.failed(error)?;
                    unsure = true;
                }
            }
        }
    }

    fn list_once(&self, prefix: &str, from: Option<&str>) -> Result<Page> {
        let whole = joined(&self.folder, prefix);
        let page = from.map_or(String::new(), |token| format!("&pageToken={}", percent(token, "")));
        let url = format!(
            "{}/storage/v1/b/{}/o?maxResults={STORE_LIST_PAGE}&prefix={}{page}",
            self.base,
            self.bucket,
            percent(&whole, "")
        );
        let listed = self.send(None, &|| Request::new("GET", url.clone(), Body::None));
        let text = listed.map_err(|error| self.without_bucket(error))?.text()?;
        let json = Json::read(&text).ok_or_else(|| self.strange())?;
        let mut page = Page::default();
        for item in json.list("items") {
            let name = item.text("name").ok_or_else(|| self.strange())?;
            if let Some(key) = key_within(&self.folder, name) {
                let info = info_of(item).ok_or_else(|| self.strange())?;
                page.objects.push(Listed { key: key.to_owned(), info });
            }
        }
        page.next = json.text("nextPageToken").filter(|token| !token.is_empty()).map(str::to_owned);
        Ok(page)
    }

    fn fetch(&self, key: &str, range: Option<(u64, Option<u64>)>, only: Option<&ETag>) -> Result<Fetched> {
        let condition = only.map_or(String::new(), |etag| format!("&ifGenerationMatch={}", percent(&etag.0, "")));
        let url = format!("{}?alt=media{condition}", self.object_url(key));
        let expected = range.and_then(|(from, to)| Some(to? - from)).unwrap_or(STORE_SINGLE_PUT_BYTES_MAX);
        let response = self.send(Some(key), &|| {
            let mut request = Request::new("GET", url.clone(), Body::None);
            request.expected = expected;
            match range {
                Some(range) => request.header("range", cloud::range_header(range)),
                None => request,
            }
        })?;
        let crc = response.header("x-goog-hash").split(',').find_map(|hash| hash.trim().strip_prefix("crc32c="));
        let checksum = match crc.filter(|_| range.is_none()) {
            Some(crc) => Checksum::Crc32c(crc.to_owned()),
            None => Checksum::None,
        };
        let generation = response.header("x-goog-generation").to_owned();
        let info = match (cloud::size_of(&response), generation.is_empty()) {
            (Some(size), false) => {
                let modified_ms = from_http_date(response.header("last-modified")).unwrap_or(0);
                ObjectInfo { size, etag: ETag(generation), modified_ms }
            }
            _ => return Err(self.strange()),
        };
        Ok(Fetched { info, checksum, response })
    }
}

/// How many bytes a session has, from the header `Range: bytes=0-LAST`.
fn arrived(response: &Response) -> u64 {
    let last = response.header("range").rsplit_once('-').and_then(|(_, last)| last.parse::<u64>().ok());
    last.map_or(0, |last| last.saturating_add(1))
}

fn info_of(json: &Json) -> Option<ObjectInfo> {
    Some(ObjectInfo {
        size: json.text("size")?.parse().ok()?,
        etag: ETag(json.text("generation")?.to_owned()),
        modified_ms: json.text("updated").and_then(from_iso_date).unwrap_or(0),
    })
}

impl ObjectStore for GcsStore {
    fn put(&self, key: &str, source: &dyn Source, mode: PutMode<'_>) -> Result<ETag> {
        check_key(key)?;
        let nonce = cloud::nonce(&*self.retry.around);
        let result = match source.size() <= self.retry.tuning.single_bytes {
            true => self.upload_whole(key, source, mode, &nonce),
            false => self.upload_in_chunks(key, source, mode, &nonce),
        };
        cloud::settled(&self.retry, key, &nonce, mode, result, &self.describe(), &|| self.look(key))
    }

    fn get(&self, key: &str, range: Option<Range<u64>>, sink: &mut dyn Write) -> Result<ObjectInfo> {
        check_key(key)?;
        download(&self.retry, key, range, sink, &|range, only| self.fetch(key, range, only))
    }

    fn head(&self, key: &str) -> Result<ObjectInfo> {
        check_key(key)?;
        self.retry.run(|| self.look(key)).map(|(info, _)| info)
    }

    fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page> {
        check_prefix(prefix)?;
        self.retry.run(|| self.list_once(prefix, from))
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.retry.run(|| match self.send(Some(key), &|| Request::new("DELETE", self.object_url(key), Body::None)) {
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            other => other.map(|_| ()),
        })
    }

    fn describe(&self) -> String {
        match self.folder.as_str() {
            "" => format!("gs://{}", self.bucket),
            folder => format!("gs://{}/{folder}", self.bucket),
        }
    }
}
