//! Owns the store that is a bucket of Amazon S3, or of what speaks its protocol.
//!
//! Source: Amazon S3 API Reference. Requests are signed by [`super::sigv4`]; uploads carry a CRC-32C, which S3 checks, keeps and gives
//! back. Over plain HTTP bodies are signed too, so that a forged one is refused; over HTTPS TLS sees to that.

mod credentials;
mod error;
mod upload;

use std::path::Path;
use std::sync::Arc;

use self::credentials::Credentials;
pub(super) use self::error::skewed;
use self::error::{Asked, Fault};
use super::cloud::{self, etag, Bucket, CloudStore, Names, Protocol, Upload};
use super::http::{Body, Http, Request, Response};
use super::retry::Retry;
use super::sigv4::{canonical_query, Signed, Signer};
use super::text::{amz_date, from_iso_date, percent};
use super::transfer::{Checksum, Digests, Fetched, Which};
use super::{xml, ETag, Kind, ObjectInfo, Page, StoreError, Surroundings, Tuning};
use crate::config::storage::S3Config;
use crate::limits::STORE_LIST_PAGE;

type Result<T> = std::result::Result<T, StoreError>;

const NOTHING_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const DEFAULT_REGION: &str = "us-east-1";

const NAMES: Names = Names {
    listing: "ListBucketResult",
    object: "Contents",
    key: "Key",
    size: "Size",
    etag: "ETag",
    modified: "LastModified",
};

#[derive(Debug)]
struct S3 {
    bucket: Bucket,
    credentials: Credentials,
    /// Scheme and host.
    origin: String,
    /// What stands before a key: the endpoint's path, and the bucket if it isn't in the host.
    path: String,
    region: String,
    /// The connection is not encrypted.
    signs_bodies: bool,
}

/// What is sent besides the method and the key.
#[derive(Default)]
struct Extra<'a> {
    query: Vec<(&'a str, String)>,
    headers: Vec<(&'a str, String)>,
    /// SHA-256 of the body, or what stands in its place; `None` if there is none.
    payload: Option<String>,
    /// Bytes that the answer may have.
    expected: u64,
}

impl CloudStore {
    /// The bucket of Amazon S3, or of what speaks its protocol, that the settings name. Asks nothing yet.
    pub fn s3(
        config: &S3Config,
        ca_file: Option<&Path>,
        tuning: Tuning,
        around: Arc<dyn Surroundings>,
    ) -> Result<CloudStore> {
        S3::new(config, ca_file, tuning, around).map(CloudStore::over)
    }
}

impl S3 {
    fn new(config: &S3Config, ca_file: Option<&Path>, tuning: Tuning, around: Arc<dyn Surroundings>) -> Result<S3> {
        let wrong = |what: &str| StoreError::new(Kind::Other, what);
        let bucket = config.bucket.clone().ok_or_else(|| wrong("Storage in S3 needs a bucket: set S3_BUCKET."))?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(fits) || bucket.contains("..") {
            return Err(wrong("The name of an S3 bucket has 3 to 63 letters, digits, dots and dashes."));
        }
        let region = config.region.as_deref().or(config.aws_region.as_deref()).unwrap_or(DEFAULT_REGION).to_owned();
        if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(wrong("The name of a region has letters, digits and dashes."));
        }
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let usual = format!("https://s3.{region}.{domain}");
        let (origin, path) = cloud::endpoint(config.endpoint.as_deref().unwrap_or(&usual))?;
        // A certificate for *.s3.amazonaws.com is none for a bucket with a dot in its name.
        let by_path = config.path_style.unwrap_or(config.endpoint.is_some() || bucket.contains('.'));
        let (origin, path) = match by_path {
            true => (origin, format!("{path}/{bucket}")),
            false => (origin.replacen("://", &format!("://{bucket}."), 1), path),
        };
        let http = Http::new(&tuning, ca_file, true)?;
        let credentials = Credentials::new(config, &tuning, Arc::clone(&around))?;
        let (retry, folder) = (Retry { tuning, around }, cloud::folder(config.prefix.as_deref())?);
        let bucket = Bucket { http, retry, scheme: "s3", name: bucket, folder };
        let signs_bodies = !origin.starts_with("https://");
        Ok(S3 { bucket, credentials, origin, path, region, signs_bodies })
    }

    /// Makes a request once; twice if the keys had expired and others could be had.
    fn send(&self, method: &'static str, key: Option<&str>, extra: &Extra<'_>, body: Body<'_>) -> Result<Response> {
        let mut renewed = false;
        loop {
            let keys = self.credentials.get()?;
            let response = self.bucket.http.send(&self.signed(method, key, extra, body, &keys))?;
            if response.is_success() {
                return Ok(response);
            }
            let fault = Fault::read(response)?;
            if fault.is_expiry() && !renewed && self.credentials.renew(&keys)? {
                renewed = true;
                continue;
            }
            return Err(self.refused(fault, key));
        }
    }

    fn refused(&self, fault: Fault, key: Option<&str>) -> StoreError {
        let (store, now_ms) = (self.bucket.describe(), self.bucket.now_ms());
        fault.into_error(&Asked { key, store: &store, bucket: &self.bucket.name, region: &self.region, now_ms })
    }

    fn signed<'b>(
        &self,
        method: &'static str,
        key: Option<&str>,
        extra: &Extra<'_>,
        body: Body<'b>,
        keys: &credentials::Keys,
    ) -> Request<'b> {
        let now_ms = self.bucket.now_ms();
        let path = match key {
            Some(key) => format!("{}/{}", self.path, percent(&self.bucket.path(key), "/")),
            None if self.path.is_empty() => "/".to_owned(),
            None => self.path.clone(),
        };
        let payload = extra.payload.as_deref().unwrap_or(NOTHING_SHA256);
        let mut headers = extra.headers.clone();
        let mut add = |name, value: &str| headers.push((name, value.to_owned()));
        add("host", cloud::host_of(&self.origin));
        add("x-amz-date", &amz_date(now_ms));
        add("x-amz-content-sha256", payload);
        if let Some(token) = &keys.token {
            add("x-amz-security-token", token.reveal());
        }
        let signer = Signer {
            access_key: &keys.access_key,
            secret_key: keys.secret_key.reveal(),
            region: &self.region,
            service: "s3",
        };
        let signed = Signed { method, path: &path, query: &extra.query, headers: &headers, payload };
        let authorization = signer.authorization(&signed, now_ms);
        headers.push(("authorization", authorization));
        let query = canonical_query(&extra.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Request { method, url: format!("{}{path}{mark}{query}", self.origin), headers, body, expected: extra.expected }
    }

    fn list_once(&self, prefix: &str, from: Option<&str>, count: usize) -> Result<Page> {
        let whole = self.bucket.path(prefix);
        let mut query = vec![("list-type", "2".to_owned()), ("max-keys", count.to_string()), ("prefix", whole)];
        if let Some(token) = from {
            query.push(("continuation-token", token.to_owned()));
        }
        let response = self.send("GET", None, &Extra { query, ..Extra::default() }, Body::None)?;
        self.read_page(&response.text()?)
    }
}

impl Protocol for S3 {
    fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn digests(&self) -> Which {
        Which { sha256: self.signs_bodies, crc32c: true, md5: false }
    }

    fn look(&self, key: &str) -> Result<(ObjectInfo, String)> {
        let response = match self.send("HEAD", Some(key), &Extra::default(), Body::None) {
            // Answers to HEAD have no body that would say why, but a listing's has.
            Err(error)
                if matches!(error.kind, Kind::NotFound | Kind::Denied | Kind::WrongRegion(None) | Kind::Other) =>
            {
                match self.list_once("", None, 1) {
                    // Not everybody who may read objects may list them.
                    Err(why) if error.kind != Kind::NotFound || why.kind != Kind::Denied => return Err(why),
                    _ => return Err(error),
                }
            }
            other => other?,
        };
        let mark = response.header(upload::NONCE_HEADER).to_owned();
        Ok((self.bucket.info_of(&response, etag(response.header("etag")))?, mark))
    }

    fn fetch(&self, key: &str, range: Option<(u64, Option<u64>)>, only: Option<&ETag>) -> Result<Fetched> {
        let mut extra = Extra { expected: cloud::expected(range), ..Extra::default() };
        extra.headers.push(match range {
            Some(range) => ("range", cloud::range_header(range)),
            None => ("x-amz-checksum-mode", "ENABLED".to_owned()),
        });
        extra.headers.extend(only.map(|etag| ("if-match", format!("\"{etag}\""))));
        let response = self.send("GET", Some(key), &extra, Body::None)?;
        // One with a dash is of an upload in parts: a checksum of their checksums.
        let crc = response.header("x-amz-checksum-crc32c");
        let checksum = match crc.is_empty() || crc.contains('-') {
            true => Checksum::None,
            false => Checksum::Crc32c(crc.to_owned()),
        };
        Ok(Fetched { info: self.bucket.info_of(&response, etag(response.header("etag")))?, checksum, response })
    }

    fn read_page(&self, text: &str) -> Result<Page> {
        let objects = self.bucket.objects_in(text, &NAMES, from_iso_date)?;
        let next = match xml::text(text, "IsTruncated").as_deref() {
            Some("true") => Some(xml::text(text, "NextContinuationToken").ok_or_else(|| self.bucket.strange())?),
            _ => None,
        };
        Ok(Page { objects, next })
    }

    fn page(&self, prefix: &str, from: Option<&str>) -> Result<Page> {
        self.list_once(prefix, from, STORE_LIST_PAGE)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.send("DELETE", Some(key), &Extra::default(), Body::None).map(|_| ())
    }

    fn upload_whole(&self, upload: &Upload<'_>, sums: &Digests) -> Result<ETag> {
        self.put_whole(upload, sums)
    }

    fn upload_in_parts(&self, upload: &Upload<'_>) -> Result<ETag> {
        self.put_in_parts(upload)
    }
}
