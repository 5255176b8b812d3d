//! Owns uploads to S3: in one request, or in parts that become an object together.

use sha2::{Digest, Sha256};

use super::super::cloud::{self, digests, etag, Digests, Which};
use super::super::http::Body;
use super::super::local::exists;
use super::super::text::{base64, hex};
use super::super::{xml, ETag, Kind, ObjectStore, PutMode, Source, StoreError};
use super::error::Fault;
use super::{Extra, Result, S3Store};

/// Metadata of an object: the mark of the upload that wrote it.
pub(super) const NONCE_HEADER: &str = "x-amz-meta-chronik-nonce";
/// Parts are whole numbers of this many bytes.
const PART_UNIT: u64 = 1 << 20;
const WHICH: Which = Which { sha256: true, crc32c: true, md5: false };

impl S3Store {
    pub(super) fn upload(&self, key: &str, source: &dyn Source, mode: PutMode<'_>) -> Result<ETag> {
        let nonce = cloud::nonce(&*self.retry.around);
        let result = match source.size() <= self.retry.tuning.single_bytes {
            true => self.upload_whole(key, source, mode, &nonce),
            false => self.upload_in_parts(key, source, mode, &nonce),
        };
        cloud::settled(&self.retry, key, &nonce, mode, result, &self.describe(), &|| self.look(key))
    }

    fn upload_whole(&self, key: &str, source: &dyn Source, mode: PutMode<'_>, nonce: &str) -> Result<ETag> {
        let size = source.size();
        let sums = digests(source, 0, size, WHICH)?;
        let mut extra = with_sums(&sums);
        extra.headers.extend(conditions(mode));
        extra.headers.push((NONCE_HEADER.to_owned(), nonce.to_owned()));
        extra.headers.push(("content-type".to_owned(), "application/octet-stream".to_owned()));
        self.retry.run(|| {
            let response = self.send("PUT", Some(key), &extra, &Body::Piece(source, 0, size))?;
            Ok(etag(response.header("etag")))
        })
    }

    fn upload_in_parts(&self, key: &str, source: &dyn Source, mode: PutMode<'_>, nonce: &str) -> Result<ETag> {
        // Spares the bytes if the answer is clear already; what counts is the condition at the end.
        match (mode, self.retry.run(|| self.look(key))) {
            (PutMode::IfAbsent, Ok(_)) => return Err(exists(key, &self.describe())),
            (_, Err(error)) if error.kind != Kind::NotFound => return Err(error),
            _ => (),
        }
        let id = self.begin(key, nonce)?;
        let result = self.send_parts(key, source, &id).and_then(|parts| self.end(key, &id, &parts, mode));
        if result.is_err() {
            // What is left behind costs money and nothing else, and a rule of the bucket can end it.
            let query = vec![("uploadId", id)];
            let _ = self.send("DELETE", Some(key), &Extra { query, ..Extra::default() }, &Body::None);
        }
        result
    }

    fn begin(&self, key: &str, nonce: &str) -> Result<String> {
        let headers = [
            ("x-amz-checksum-algorithm", "CRC32C"),
            (NONCE_HEADER, nonce),
            ("content-type", "application/octet-stream"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let extra = Extra { query: vec![("uploads", String::new())], headers, ..Extra::default() };
        self.retry.run(|| {
            let text = self.send("POST", Some(key), &extra, &Body::Bytes(b""))?.text()?;
            xml::text(&text, "UploadId")
                .ok_or_else(|| StoreError::new(Kind::Other, "The store began an upload in parts without naming it."))
        })
    }

    /// Sends the parts one after the other, and returns what the end of the upload has to say about them.
    fn send_parts(&self, key: &str, source: &dyn Source, id: &str) -> Result<String> {
        let size = source.size();
        let part_size = self.retry.tuning.part_size(size, PART_UNIT);
        let mut parts = String::new();
        for (number, from) in (1..).zip((0..size).step_by(usize::try_from(part_size).unwrap_or(usize::MAX))) {
            let to = size.min(from + part_size);
            let sums = digests(source, from, to, WHICH)?;
            let mut extra = with_sums(&sums);
            extra.query = vec![("partNumber", number.to_string()), ("uploadId", id.to_owned())];
            let etag = self.retry.run(|| {
                let response = self.send("PUT", Some(key), &extra, &Body::Piece(source, from, to))?;
                Ok(response.header("etag").to_owned())
            })?;
            let (etag, crc) = (xml::escaped(&etag), base64(&sums.crc32c.to_be_bytes()));
            parts.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumCRC32C>{crc}</ChecksumCRC32C></Part>"
            ));
        }
        Ok(parts)
    }

    fn end(&self, key: &str, id: &str, parts: &str, mode: PutMode<'_>) -> Result<ETag> {
        let body = format!(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
        );
        let mut headers = conditions(mode);
        headers.push(("content-type".to_owned(), "application/xml".to_owned()));
        let payload = Some(hex(&Sha256::digest(body.as_bytes())));
        let extra = Extra { query: vec![("uploadId", id.to_owned())], headers, payload, ..Extra::default() };
        self.retry.run(|| {
            let text = self.send("POST", Some(key), &extra, &Body::Bytes(body.as_bytes()))?.text()?;
            match xml::element(&text, "CompleteMultipartUploadResult") {
                Some(result) => Ok(etag(&xml::text(result, "ETag").unwrap_or_default())),
                None => Err(self.refused(Fault::of_text(&text), Some(key))),
            }
        })
    }
}

fn with_sums(sums: &Digests) -> Extra<'static> {
    Extra {
        headers: vec![("x-amz-checksum-crc32c".to_owned(), base64(&sums.crc32c.to_be_bytes()))],
        payload: Some(hex(&sums.sha256)),
        ..Extra::default()
    }
}

fn conditions(mode: PutMode<'_>) -> Vec<(String, String)> {
    match mode {
        PutMode::Overwrite => Vec::new(),
        PutMode::IfAbsent => vec![("if-none-match".to_owned(), "*".to_owned())],
        PutMode::IfMatch(etag) => vec![("if-match".to_owned(), format!("\"{etag}\""))],
    }
}
