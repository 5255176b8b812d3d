//! Owns the store that is a bucket of Google Cloud Storage.
//!
//! Source: Cloud Storage JSON API. An object's state is its generation. Uploads carry a CRC-32C, which Google checks and
//! gives back; large ones go through a resumable session, which tells how far it got.

mod error;
mod token;

use std::path::Path;
use std::sync::Arc;

use self::error::Fault;
use self::token::Tokens;
use super::cloud::{self, Bucket, CloudStore, Protocol, Upload, NONCE};
use super::http::{Body, Http, Request, Response};
use super::json::{quoted, Json};
use super::retry::Retry;
use super::text::{base64, from_iso_date, percent};
use super::transfer::{digests, Checksum, Digests, Fetched, Which};
use super::{ETag, Kind, Listed, ObjectInfo, Page, PutMode, StoreError, Surroundings, Tuning};
use crate::config::storage::GcsConfig;
use crate::limits::STORE_LIST_PAGE;

type Result<T> = std::result::Result<T, StoreError>;

const USUAL: &str = "https://storage.googleapis.com";
/// Chunks of a session are whole numbers of this many bytes, but for the last.
const CHUNK_UNIT: u64 = 256 << 10;
/// Answer to a chunk that isn't the last.
const INCOMPLETE: u16 = 308;
const WHICH: Which = Which { sha256: false, crc32c: true, md5: false };
const BOUNDARY: &str = "chronik-4f2d9c61a7";

#[derive(Debug)]
struct Gcs {
    bucket: Bucket,
    tokens: Tokens,
    /// Scheme, host and path of the service.
    base: String,
}

impl CloudStore {
    /// The bucket of Google Cloud Storage that the settings name. Reads the key file, but asks nothing yet.
    pub fn gcs(
        config: &GcsConfig,
        ca_file: Option<&Path>,
        tuning: Tuning,
        around: Arc<dyn Surroundings>,
    ) -> Result<CloudStore> {
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
        let http = Http::new(&tuning, ca_file, true)?;
        let tokens = Tokens::new(config, plain, ca_file, &tuning, Arc::clone(&around))?;
        let (retry, folder) = (Retry { tuning, around }, cloud::folder(config.prefix.as_deref())?);
        let bucket = Bucket { http, retry, scheme: "gs", name: bucket, folder };
        Ok(CloudStore::over(Gcs { bucket, tokens, base: format!("{origin}{path}") }))
    }
}

impl Gcs {
    /// Makes a request once; twice if the token had expired.
    fn send(&self, key: Option<&str>, request: &Request<'_>) -> Result<Response> {
        let mut renewed = false;
        loop {
            let token = self.tokens.get()?;
            let mut request = request.clone();
            if let Some(token) = &token {
                request = request.header("authorization", format!("Bearer {}", token.reveal()));
            }
            let response = self.bucket.http.send(&request)?;
            match response.status() {
                401 if !renewed && self.tokens.renew(token.as_ref()) => renewed = true,
                INCOMPLETE => return Ok(response),
                _ if response.is_success() => return Ok(response),
                _ => return Err(Fault::read(response)?.into_error(key, &self.bucket.describe(), &self.bucket.name)),
            }
        }
    }

    /// The same where no object is named that could be missing: then it is the bucket that is.
    fn send_to_bucket(&self, key: Option<&str>, request: &Request<'_>) -> Result<Response> {
        self.send(key, request).map_err(|error| match error.kind {
            Kind::NotFound => Fault::no_bucket(&self.bucket.name),
            _ => error,
        })
    }

    fn object_url(&self, key: &str) -> String {
        let name = percent(&self.bucket.path(key), "");
        format!("{}/storage/v1/b/{}/o/{name}", self.base, self.bucket.name)
    }

    fn upload_url(&self, kind: &str, mode: PutMode<'_>) -> String {
        let condition = match mode {
            PutMode::Overwrite => String::new(),
            PutMode::IfAbsent => "&ifGenerationMatch=0".to_owned(),
            PutMode::IfMatch(etag) => format!("&ifGenerationMatch={}", percent(&etag.0, "")),
        };
        format!("{}/upload/storage/v1/b/{}/o?uploadType={kind}{condition}", self.base, self.bucket.name)
    }

    /// What is said of an object with its upload.
    fn metadata(&self, upload: &Upload<'_>, sums: &Digests) -> String {
        let (name, nonce) = (quoted(&self.bucket.path(upload.key)), &upload.nonce);
        let crc = base64(&sums.crc32c.to_be_bytes());
        format!(
            r#"{{"name":{name},"contentType":"application/octet-stream","metadata":{{"{NONCE}":"{nonce}"}},"crc32c":"{crc}"}}"#
        )
    }

    fn written(&self, response: Response) -> Result<ETag> {
        let json = Json::read(&response.text()?).unwrap_or(Json::Null);
        info_of(&json).map(|info| info.etag).ok_or_else(|| self.bucket.strange())
    }

    fn send_chunks(&self, upload: &Upload<'_>, session: &str) -> Result<ETag> {
        let (key, source, size) = (upload.key, upload.source, upload.source.size());
        let chunk = self.bucket.retry.tuning.part_size(size, CHUNK_UNIT);
        let (mut at, mut reached, mut unsure) = (0, 0, false);
        let mut tries = self.bucket.retry.begin();
        loop {
            let to = size.min(at + chunk);
            let request = match unsure {
                // Asks how much arrived.
                true => Request::new("PUT", session.to_owned(), Body::Bytes(b""))
                    .header("content-range", format!("bytes */{size}")),
                false => Request::new("PUT", session.to_owned(), Body::Piece(source, at, to))
                    .header("content-range", format!("bytes {at}-{}/{size}", to - 1)),
            };
            let sent = self.send(Some(key), &request);
            match sent {
                Ok(response) if response.status() == INCOMPLETE => {
                    (at, unsure) = (arrived(&response).min(size), false);
                    if at > reached && at < size {
                        reached = at;
                        tries.progressed();
                    } else {
                        // Nothing new, or all of it and still not an object.
                        let what = format!("{} does not go on with the object {key}.", self.bucket.describe());
                        tries.failed(StoreError::new(Kind::Unavailable, what))?;
                        unsure = at == size;
                    }
                }
                Ok(response) => return self.written(response),
                Err(error) if error.kind == Kind::NotFound => {
                    // Asking the same session again is of no use, but a new upload may be.
                    let what =
                        format!("{} has ended the upload of the object {key} before its end.", self.bucket.describe());
                    return Err(StoreError::new(Kind::Unavailable, what));
                }
                Err(error) => {
                    tries.failed(error)?;
                    unsure = true;
                }
            }
        }
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

impl Protocol for Gcs {
    fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn digests(&self) -> Which {
        WHICH
    }

    fn look(&self, key: &str) -> Result<(ObjectInfo, String)> {
        let text = self.send(Some(key), &Request::new("GET", self.object_url(key), Body::None))?.text()?;
        let json = Json::read(&text).unwrap_or(Json::Null);
        let mark = json.get("metadata").and_then(|m| m.text(NONCE)).unwrap_or("").to_owned();
        let info = info_of(&json).ok_or_else(|| self.bucket.strange())?;
        Ok((info, mark))
    }

    fn fetch(&self, key: &str, range: Option<(u64, Option<u64>)>, only: Option<&ETag>) -> Result<Fetched> {
        let condition = only.map_or(String::new(), |etag| format!("&ifGenerationMatch={}", percent(&etag.0, "")));
        let mut request = Request::new("GET", format!("{}?alt=media{condition}", self.object_url(key)), Body::None);
        request.expected = cloud::expected(range);
        if let Some(range) = range {
            request = request.header("range", cloud::range_header(range));
        }
        let response = self.send(Some(key), &request)?;
        let crc = response.header("x-goog-hash").split(',').find_map(|hash| hash.trim().strip_prefix("crc32c="));
        let checksum = match crc.filter(|_| range.is_none()) {
            Some(crc) => Checksum::Crc32c(crc.to_owned()),
            None => Checksum::None,
        };
        match response.header("x-goog-generation") {
            "" => Err(self.bucket.strange()),
            generation => {
                let info = self.bucket.info_of(&response, ETag(generation.to_owned()))?;
                Ok(Fetched { info, checksum, response })
            }
        }
    }

    fn page(&self, prefix: &str, from: Option<&str>) -> Result<Page> {
        let token = from.map_or(String::new(), |token| format!("&pageToken={}", percent(token, "")));
        let (name, whole) = (&self.bucket.name, percent(&self.bucket.path(prefix), ""));
        let url = format!("{}/storage/v1/b/{name}/o?maxResults={STORE_LIST_PAGE}&prefix={whole}{token}", self.base);
        self.read_page(&self.send_to_bucket(None, &Request::new("GET", url, Body::None))?.text()?)
    }

    fn read_page(&self, text: &str) -> Result<Page> {
        let strange = || self.bucket.strange();
        let json = Json::read(text).ok_or_else(strange)?;
        let mut page = Page::default();
        for item in json.list("items") {
            let name = item.text("name").ok_or_else(strange)?;
            if let Some(key) = self.bucket.key(name) {
                let info = info_of(item).ok_or_else(strange)?;
                page.objects.push(Listed { key: key.to_owned(), info });
            }
        }
        page.next = json.text("nextPageToken").filter(|token| !token.is_empty()).map(str::to_owned);
        Ok(page)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.send(Some(key), &Request::new("DELETE", self.object_url(key), Body::None)).map(|_| ())
    }

    fn upload_whole(&self, upload: &Upload<'_>, sums: &Digests) -> Result<ETag> {
        let metadata = self.metadata(upload, sums);
        let before = format!(
            "--{BOUNDARY}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n--{BOUNDARY}\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let behind = format!("\r\n--{BOUNDARY}--\r\n");
        let body = Body::Framed(before.as_bytes(), upload.source, behind.as_bytes());
        let request = Request::new("POST", self.upload_url("multipart", upload.mode), body)
            .header("content-type", format!("multipart/related; boundary={BOUNDARY}"));
        self.written(self.send_to_bucket(Some(upload.key), &request)?)
    }

    fn upload_in_parts(&self, upload: &Upload<'_>) -> Result<ETag> {
        let size = upload.source.size();
        let metadata = self.metadata(upload, &digests(upload.source, 0, size, WHICH)?);
        let request = Request::new("POST", self.upload_url("resumable", upload.mode), Body::Bytes(metadata.as_bytes()))
            .header("content-type", "application/json; charset=UTF-8")
            .header("x-upload-content-length", size.to_string());
        let session = self.bucket.retry.run(|| {
            let response = self.send_to_bucket(Some(upload.key), &request)?;
            match response.header("location") {
                "" => Err(self.bucket.strange()),
                location => Ok(location.to_owned()),
            }
        })?;
        let result = self.send_chunks(upload, &session);
        if result.is_err() {
            // A session that is left behind ends by itself after a week.
            let _ = self.send(Some(upload.key), &Request::new("DELETE", session, Body::None));
        }
        result
    }
}
