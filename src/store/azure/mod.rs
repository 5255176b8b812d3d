//! Owns the store that is a container of Azure Blob Storage.
//!
//! Source: Azure Blob Storage REST API, version 2023-11-03. Signs with the account's key, or shows a shared access
//! signature. Uploads carry an MD5, which Azure checks and, for those of one request, keeps and gives back.

mod error;

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use self::error::Fault;
use super::cloud::{self, digests, download, etag, Checksum, Fetched, Which, NONCE};
use super::http::{Body, Http, Request, Response};
use super::retry::Retry;
use super::sigv4::hmac_sha256;
use super::text::{base64, from_base64, from_http_date, http_date, percent};
use super::{
    check_key, check_prefix, joined, key_within, local, xml, ETag, Kind, Listed, ObjectInfo, ObjectStore, Page,
    PutMode, Source, StoreError, Surroundings, Tuning,
};
use crate::config::storage::{AzureConfig, Secret};
use crate::limits::{STORE_LIST_PAGE, STORE_SINGLE_PUT_BYTES_MAX};

type Result<T> = std::result::Result<T, StoreError>;

const VERSION: &str = "2023-11-03";
const BLOCK_UNIT: u64 = 1 << 20;
const WHICH: Which = Which { sha256: false, crc32c: false, md5: true };

/// What opens the container.
enum Access {
    SharedKey(Vec<u8>),
    Sas(Secret),
}

/// A container, and a folder in it.
pub struct AzureStore {
    http: Http,
    retry: Retry,
    access: Access,
    account: String,
    /// Scheme and host.
    origin: String,
    /// What stands before a key: the endpoint's path and the container.
    path: String,
    container: String,
    folder: String,
}

impl std::fmt::Debug for AzureStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AzureStore({} of {})", self.describe(), self.account)
    }
}

/// What is sent besides the method and the key.
#[derive(Default)]
struct Extra<'a> {
    query: Vec<(&'a str, String)>,
    headers: Vec<(&'a str, String)>,
    expected: u64,
}

impl AzureStore {
    /// The store that the settings name. Asks nothing yet.
    pub fn new(
        config: &AzureConfig,
        ca_file: Option<&Path>,
        tuning: Tuning,
        around: Arc<dyn Surroundings>,
    ) -> Result<AzureStore> {
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
        Ok(AzureStore { http, retry, access, account, origin, path, container, folder })
    }

    /// Requests to the container so far, the failed ones too.
    pub fn requests(&self) -> u64 {
        self.http.requests()
    }

    fn send(&self, method: &'static str, key: Option<&str>, extra: &Extra<'_>, body: Body<'_>) -> Result<Response> {
        let now_ms = self.retry.around.wall_ms();
        let path = match key {
            Some(key) => format!("{}/{}", self.path, percent(&joined(&self.folder, key), "/")),
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
        let response = self.http.send(&request)?;
        if response.is_success() {
            return Ok(response);
        }
        Err(Fault::read(response)?.into_error(key, &self.describe(), &self.container, now_ms))
    }

    fn look(&self, key: &str) -> Result<(ObjectInfo, String)> {
        let response = self.send("HEAD", Some(key), &Extra::default(), Body::None)?;
        let mark = response.header(&format!("x-ms-meta-{NONCE}")).to_owned();
        Ok((info_of(&response, key)?, mark))
    }

    fn upload_whole(&self, key: &str, source: &dyn Source, mode: PutMode<'_>, nonce: &str) -> Result<ETag> {
        let size = source.size();
        let sums = digests(source, 0, size, WHICH)?;
        let mut headers = marked(nonce, mode);
        headers.push(("x-ms-blob-type", "BlockBlob".to_owned()));
        headers.push(("content-md5", base64(&sums.md5)));
        headers.push(("content-type", "application/octet-stream".to_owned()));
        let extra = Extra { headers, ..Extra::default() };
        self.retry.run(|| {
            let response = self.send("PUT", Some(key), &extra, Body::Piece(source, 0, size))?;
            Ok(etag(response.header("etag")))
        })
    }

    fn upload_in_blocks(&self, key: &str, source: &dyn Source, mode: PutMode<'_>, nonce: &str) -> Result<ETag> {
        // Spares the bytes if the answer is clear already; what counts is the condition at the end.
        match (mode, self.retry.run(|| self.look(key))) {
            (PutMode::IfAbsent, Ok(_)) => return Err(local::exists(key, &self.describe())),
            (_, Err(error)) if error.kind != Kind::NotFound => return Err(error),
            _ => (),
        }
        let size = source.size();
        let block_size = self.retry.tuning.part_size(size, BLOCK_UNIT);
        let mut list = String::new();
        for (number, from) in (0u64..).zip((0..size).step_by(usize::try_from(block_size).unwrap_or(usize::MAX))) {
            let to = size.min(from + block_size);
            // The mark keeps the blocks of two uploads at a time apart. All ids of a blob are of one length.
            let id = base64(format!("{nonce}-{number:06}").as_bytes());
            let sums = digests(source, from, to, WHICH)?;
            let extra = Extra {
                query: vec![("comp", "block".to_owned()), ("blockid", id.clone())],
                headers: vec![("content-md5", base64(&sums.md5))],
                ..Extra::default()
            };
            self.retry.run(|| self.send("PUT", Some(key), &extra, Body::Piece(source, from, to)).map(|_| ()))?;
            list.push_str(&format!("<Uncommitted>{id}</Uncommitted>"));
        }
        let body = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{list}</BlockList>");
        let mut headers = marked(nonce, mode);
        headers.push(("content-type", "application/xml".to_owned()));
        headers.push(("x-ms-blob-content-type", "application/octet-stream".to_owned()));
        let extra = Extra { query: vec![("comp", "blocklist".to_owned())], headers, ..Extra::default() };
        self.retry.run(|| {
            let response = self.send("PUT", Some(key), &extra, Body::Bytes(body.as_bytes()))?;
            Ok(etag(response.header("etag")))
        })
    }

    fn list_once(&self, prefix: &str, from: Option<&str>) -> Result<Page> {
        let whole = joined(&self.folder, prefix);
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

    fn read_page(&self, text: &str) -> Result<Page> {
        let strange =
            || StoreError::new(Kind::Other, format!("{} answered with a listing that can't be read.", self.describe()));
        xml::element(text, "EnumerationResults").ok_or_else(strange)?;
        let mut page = Page::default();
        for blob in xml::elements(text, "Blob") {
            let name = xml::text(blob, "Name").ok_or_else(strange)?;
            let Some(key) = key_within(&self.folder, &name) else {
                continue;
            };
            let info = ObjectInfo {
                size: xml::text(blob, "Content-Length").and_then(|s| s.parse().ok()).ok_or_else(strange)?,
                etag: etag(&xml::text(blob, "Etag").unwrap_or_default()),
                modified_ms: xml::text(blob, "Last-Modified").and_then(|t| from_http_date(&t)).unwrap_or(0),
            };
            page.objects.push(Listed { key: key.to_owned(), info });
        }
        page.next = xml::text(text, "NextMarker").filter(|marker| !marker.is_empty());
        Ok(page)
    }

    fn fetch(&self, key: &str, range: Option<(u64, Option<u64>)>, only: Option<&ETag>) -> Result<Fetched> {
        let mut extra = Extra::default();
        extra.headers.extend(range.map(|range| ("range", cloud::range_header(range))));
        extra.headers.extend(only.map(|etag| ("if-match", format!("\"{etag}\""))));
        extra.expected = range.and_then(|(from, to)| Some(to? - from)).unwrap_or(STORE_SINGLE_PUT_BYTES_MAX);
        let response = self.send("GET", Some(key), &extra, Body::None)?;
        let checksum = match response.header("content-md5") {
            "" => Checksum::None,
            _ if range.is_some() => Checksum::None,
            md5 => Checksum::Md5(md5.to_owned()),
        };
        Ok(Fetched { info: info_of(&response, key)?, checksum, response })
    }
}

fn info_of(response: &Response, key: &str) -> Result<ObjectInfo> {
    let size = cloud::size_of(response)
        .ok_or_else(|| StoreError::new(Kind::Other, format!("The store does not say how long the object {key} is.")))?;
    let modified_ms = from_http_date(response.header("last-modified")).unwrap_or(0);
    Ok(ObjectInfo { size, etag: etag(response.header("etag")), modified_ms })
}

fn marked(nonce: &str, mode: PutMode<'_>) -> Vec<(&'static str, String)> {
    let mut headers = vec![("x-ms-meta-chronik_nonce", nonce.to_owned())];
    match mode {
        PutMode::Overwrite => (),
        PutMode::IfAbsent => headers.push(("if-none-match", "*".to_owned())),
        PutMode::IfMatch(etag) => headers.push(("if-match", format!("\"{etag}\""))),
    }
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

impl ObjectStore for AzureStore {
    fn put(&self, key: &str, source: &dyn Source, mode: PutMode<'_>) -> Result<ETag> {
        check_key(key)?;
        let nonce = cloud::nonce(&*self.retry.around);
        let result = match source.size() <= self.retry.tuning.single_bytes {
            true => self.upload_whole(key, source, mode, &nonce),
            false => self.upload_in_blocks(key, source, mode, &nonce),
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
        self.retry.run(|| match self.send("DELETE", Some(key), &Extra::default(), Body::None) {
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            other => other.map(|_| ()),
        })
    }

    fn describe(&self) -> String {
        match self.folder.as_str() {
            "" => format!("azure://{}", self.container),
            folder => format!("azure://{}/{folder}", self.container),
        }
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
