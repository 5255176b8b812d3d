//! Owns the store that is a container of Azure Blob Storage.
//!
//! Source: Azure Blob Storage REST API, version 2023-11-03. Signs with the account's key, or shows a shared access
//! signature. Uploads carry an MD5, which Azure checks and, for those of one request, keeps and gives back.

mod error;

use std::path::Path;
use std::sync::Arc;

use self::error::Fault;
use super::cloud::{self, etag, Bucket, CloudStore, Names, Protocol, Upload, NONCE};
use super::http::{Body, Http, Request, Response};
use super::retry::Retry;
use super::sigv4::hmac_sha256;
use super::text::{base64, from_base64, from_http_date, http_date, percent};
use super::transfer::{each_part, Checksum, Digests, Fetched, Which};
use super::{xml, ETag, Kind, ObjectInfo, Page, StoreError, Surroundings, Tuning};
use crate::config::storage::{AzureConfig, Secret};
use crate::limits::STORE_LIST_PAGE;

type Result<T> = std::result::Result<T, StoreError>;

const VERSION: &str = "2023-11-03";
const BLOCK_UNIT: u64 = 1 << 20;
const WHICH: Which = Which { sha256: false, crc32c: false, md5: true };

const NAMES: Names = Names {
    listing: "EnumerationResults",
    object: "Blob",
    key: "Name",
    size: "Content-Length",
    etag: "Etag",
    modified: "Last-Modified",
};

/// What opens the container.
enum Access {
    SharedKey(Vec<u8>),
    Sas(Secret),
}

struct Azure {
    bucket: Bucket,
    access: Access,
    account: String,
    /// Scheme and host.
    origin: String,
    /// What stands before a key: the endpoint's path and the container.
    path: String,
}

impl std::fmt::Debug for Azure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Azure({} of {})", self.bucket.describe(), self.account)
    }
}

/// What is sent besides the method and the key.
#[derive(Default)]
struct Extra<'a> {
    query: Vec<(&'a str, String)>,
    headers: Vec<(&'a str, String)>,
    expected: u64,
}

impl CloudStore {
    /// The container of Azure Blob Storage that the settings name. Asks nothing yet.
    pub fn azure(
        config: &AzureConfig,
        ca_file: Option<&Path>,
        tuning: Tuning,
        around: Arc<dyn Surroundings>,
    ) -> Result<CloudStore> {
        let wrong = |what: &str| StoreError::new(Kind::Other, what);
        let account = config
            .account
            .clone()
            .ok_or_else(|| wrong("Storage in Azure needs an account: set AZURE_STORAGE_ACCOUNT."))?;
        let container = config
            .container
            .clone()
            .ok_or_else(|| wrong("Storage in Azure needs a container: set AZURE_CONTAINER."))?;
        if !account.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(wrong("The name of an Azure storage account has small letters and digits."));
        }
        if !container.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-$".contains(&b)) {
            return Err(wrong("The name of an Azure container has small letters, digits and dashes."));
        }
        let access =
            match (&config.key, &config.sas_token) {
                (_, Some(sas)) => Access::Sas(Secret::new(sas.reveal().trim_start_matches('?'))),
                (Some(key), None) => Access::SharedKey(from_base64(key.reveal()).ok_or_else(|| {
                    StoreError::new(Kind::Denied, "AZURE_STORAGE_KEY is not a key: it must be Base64.")
                })?),
                (None, None) => {
                    let what = "There is no key for Azure: set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN.";
                    return Err(StoreError::new(Kind::Denied, what));
                }
            };
        let usual = format!("https://{account}.blob.core.windows.net");
        let (origin, path) = cloud::endpoint(config.endpoint.as_deref().unwrap_or(&usual))?;
        let path = format!("{path}/{container}");
        let folder = cloud::folder(config.prefix.as_deref())?;
        let http = Http::new(&tuning, ca_file, true)?;
        let retry = Retry { tuning, around };
        let bucket = Bucket { http, retry, scheme: "azure", name: container, folder };
        Ok(CloudStore::over(Azure { bucket, access, account, origin, path }))
    }
}

impl Azure {
    fn send(&self, method: &'static str, key: Option<&str>, extra: &Extra<'_>, body: Body<'_>) -> Result<Response> {
        let now_ms = self.bucket.now_ms();
        let path = match key {
            Some(key) => format!("{}/{}", self.path, percent(&self.bucket.path(key), "/")),
            None => self.path.clone(),
        };
        let mut headers = extra.headers.clone();
        headers.push(("x-ms-version", VERSION.to_owned()));
        headers.push(("x-ms-date", http_date(now_ms)));
        let mut query: Vec<String> =
            extra.query.iter().map(|(name, value)| format!("{name}={}", percent(value, ""))).collect();
        match &self.access {
            Access::Sas(token) => query.push(token.reveal().to_owned()),
            Access::SharedKey(key) => {
                let resource = format!("/{}{path}", self.account);
                let to_sign = string_to_sign(method, body.size(), &headers, &resource, &extra.query);
                let signature = base64(&hmac_sha256(key, to_sign.as_bytes()));
                headers.push(("authorization", format!("SharedKey {}:{signature}", self.account)));
            }
        }
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request = Request::new(method, format!("{}{path}{mark}{}", self.origin, query.join("&")), body);
        request.expected = extra.expected;
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = self.bucket.http.send(&request)?;
        if response.is_success() {
            return Ok(response);
        }
        Err(Fault::read(response)?.into_error(key, &self.bucket.describe(), &self.bucket.name, now_ms))
    }
}

/// What is sent with an upload: its mark and its condition.
fn marked(upload: &Upload<'_>) -> Vec<(&'static str, String)> {
    let mut headers = vec![("x-ms-meta-chronik_nonce", upload.nonce.clone())];
    headers.extend(cloud::condition(upload.mode));
    headers
}

/// What the account's key signs (Azure, "Authorize with Shared Key").
fn string_to_sign(
    method: &str,
    size: u64,
    headers: &[(&str, String)],
    resource: &str,
    query: &[(&str, String)],
) -> String {
    let of = |name: &str| headers.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value.as_str());
    let length = if size == 0 { String::new() } else { size.to_string() };
    let mut out = format!("{method}\n\n\n{length}\n{}\n{}\n\n\n", of("content-md5"), of("content-type"));
    out.push_str(&format!("{}\n{}\n\n{}\n", of("if-match"), of("if-none-match"), of("range")));
    let mut own: Vec<_> = headers.iter().filter(|(name, _)| name.starts_with("x-ms-")).collect();
    own.sort_unstable();
    for (name, value) in own {
        out.push_str(&format!("{name}:{value}\n"));
    }
    out.push_str(resource);
    let mut query: Vec<_> = query.iter().collect();
    query.sort_unstable();
    for (name, value) in query {
        out.push_str(&format!("\n{name}:{value}"));
    }
    out
}

impl Protocol for Azure {
    fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn digests(&self) -> Which {
        WHICH
    }

    fn look(&self, key: &str) -> Result<(ObjectInfo, String)> {
        let response = self.send("HEAD", Some(key), &Extra::default(), Body::None)?;
        let mark = response.header(&format!("x-ms-meta-{NONCE}")).to_owned();
        Ok((self.bucket.info_of(&response, etag(response.header("etag")))?, mark))
    }

    fn fetch(&self, key: &str, range: Option<(u64, Option<u64>)>, only: Option<&ETag>) -> Result<Fetched> {
        let mut extra = Extra { expected: cloud::expected(range), ..Extra::default() };
        extra.headers.extend(range.map(|range| ("range", cloud::range_header(range))));
        extra.headers.extend(only.map(|etag| ("if-match", format!("\"{etag}\""))));
        let response = self.send("GET", Some(key), &extra, Body::None)?;
        let checksum = match response.header("content-md5") {
            "" => Checksum::None,
            _ if range.is_some() => Checksum::None,
            md5 => Checksum::Md5(md5.to_owned()),
        };
        Ok(Fetched { info: self.bucket.info_of(&response, etag(response.header("etag")))?, checksum, response })
    }

    fn read_page(&self, text: &str) -> Result<Page> {
        let objects = self.bucket.objects_in(text, &NAMES, from_http_date)?;
        let next = xml::text(text, "NextMarker").filter(|marker| !marker.is_empty());
        Ok(Page { objects, next })
    }

    fn page(&self, prefix: &str, from: Option<&str>) -> Result<Page> {
        let whole = self.bucket.path(prefix);
        let mut query = vec![
            ("restype", "container".to_owned()),
            ("comp", "list".to_owned()),
            ("maxresults", STORE_LIST_PAGE.to_string()),
        ];
        // Azure signs only what is there, and takes an empty value for none.
        query.extend((!whole.is_empty()).then_some(("prefix", whole)));
        query.extend(from.map(|marker| ("marker", marker.to_owned())));
        let text = self.send("GET", None, &Extra { query, ..Extra::default() }, Body::None)?.text()?;
        self.read_page(&text)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.send("DELETE", Some(key), &Extra::default(), Body::None).map(|_| ())
    }

    fn upload_whole(&self, upload: &Upload<'_>, sums: &Digests) -> Result<ETag> {
        let mut headers = marked(upload);
        headers.push(("x-ms-blob-type", "BlockBlob".to_owned()));
        headers.push(("content-md5", base64(&sums.md5)));
        headers.push(("content-type", "application/octet-stream".to_owned()));
        let body = Body::Piece(upload.source, 0, upload.source.size());
        let response = self.send("PUT", Some(upload.key), &Extra { headers, ..Extra::default() }, body)?;
        Ok(etag(response.header("etag")))
    }

    fn upload_in_parts(&self, upload: &Upload<'_>) -> Result<ETag> {
        let (key, source) = (upload.key, upload.source);
        let block_bytes = self.bucket.retry.tuning.part_size(source.size(), BLOCK_UNIT);
        let mut list = String::new();
        each_part(source, block_bytes, WHICH, |part| {
            // The mark keeps the blocks of two uploads at a time apart. All ids of a blob are of one length.
            let id = base64(format!("{}-{:06}", upload.nonce, part.number).as_bytes());
            let query = vec![("comp", "block".to_owned()), ("blockid", id.clone())];
            let extra = Extra { query, headers: vec![("content-md5", base64(&part.sums.md5))], ..Extra::default() };
            let body = Body::Piece(source, part.from, part.to);
            self.bucket.retry.run(|| self.send("PUT", Some(key), &extra, body).map(|_| ()))?;
            list.push_str(&format!("<Uncommitted>{id}</Uncommitted>"));
            Ok(())
        })?;
        let body = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{list}</BlockList>");
        let mut headers = marked(upload);
        headers.push(("content-type", "application/xml".to_owned()));
        headers.push(("x-ms-blob-content-type", "application/octet-stream".to_owned()));
        let extra = Extra { query: vec![("comp", "blocklist".to_owned())], headers, ..Extra::default() };
        self.bucket.retry.run(|| {
            let response = self.send("PUT", Some(key), &extra, Body::Bytes(body.as_bytes()))?;
            Ok(etag(response.header("etag")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentations_string_to_sign_comes_out_the_same() {
        let headers =
            [("x-ms-version", "2015-02-21".to_owned()), ("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT".to_owned())];
        let query =
            [("restype", "container".to_owned()), ("comp", "metadata".to_owned()), ("timeout", "20".to_owned())];
        let text = string_to_sign("GET", 0, &headers, "/myaccount/mycontainer", &query);
        assert_eq!(
            text,
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
             /myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
    }

    #[test]
    fn every_signed_header_stands_in_its_line() {
        let headers = [
            ("range", "bytes=0-9".to_owned()),
            ("if-none-match", "*".to_owned()),
            ("if-match", "\"e\"".to_owned()),
            ("content-type", "t".to_owned()),
            ("content-md5", "m".to_owned()),
            ("x-ms-date", "d".to_owned()),
        ];
        let text = string_to_sign("PUT", 5, &headers, "/a/c/k", &[]);
        assert_eq!(text, "PUT\n\n\n5\nm\nt\n\n\n\"e\"\n*\n\nbytes=0-9\nx-ms-date:d\n/a/c/k");
    }
}
