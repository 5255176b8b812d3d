//! Owns uploads to S3: in one request, or in parts that become an object together.

use sha2::{Digest, Sha256};

use super::super::cloud::{self, etag, Protocol, Upload};
use super::super::http::Body;
use super::super::text::{base64, hex};
use super::super::transfer::{each_part, Digests};
use super::super::{xml, ETag, Kind, StoreError};
use super::error::Fault;
use super::{Extra, Result, S3};

/// Metadata of an object: the mark of the upload that wrote it.
pub(super) const NONCE_HEADER: &str = "x-amz-meta-chronik-nonce";
/// Parts are whole numbers of this many bytes.
const PART_UNIT: u64 = 1 << 20;
/// What stands in the place of a body's SHA-256 that is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

impl S3 {
    pub(super) fn put_whole(&self, upload: &Upload<'_>, sums: &Digests) -> Result<ETag> {
        let mut extra = self.with_sums(sums);
        extra.headers.extend(cloud::condition(upload.mode));
        extra.headers.push((NONCE_HEADER, upload.nonce.clone()));
        extra.headers.push(("content-type", "application/octet-stream".to_owned()));
        let body = Body::Piece(upload.source, 0, upload.source.size());
        let response = self.send("PUT", Some(upload.key), &extra, body)?;
        Ok(etag(response.header("etag")))
    }

    pub(super) fn put_in_parts(&self, upload: &Upload<'_>) -> Result<ETag> {
        let id = self.begin(upload)?;
        let result = self.send_parts(upload, &id).and_then(|parts| self.end(upload, &id, &parts));
        if result.is_err() {
            // What is left behind costs money and nothing else, and a rule of the bucket can end it.
            let query = vec![("uploadId", id)];
            let _ = self.send("DELETE", Some(upload.key), &Extra { query, ..Extra::default() }, Body::None);
        }
        result
    }

    fn begin(&self, upload: &Upload<'_>) -> Result<String> {
        let headers = vec![
            ("x-amz-checksum-algorithm", "CRC32C".to_owned()),
            (NONCE_HEADER, upload.nonce.clone()),
            ("content-type", "application/octet-stream".to_owned()),
        ];
        let extra = Extra { query: vec![("uploads", String::new())], headers, ..Extra::default() };
        self.bucket.retry.run(|| {
            let text = self.send("POST", Some(upload.key), &extra, Body::Bytes(b""))?.text()?;
            xml::text(&text, "UploadId")
                .ok_or_else(|| StoreError::new(Kind::Other, "The store began an upload in parts without naming it."))
        })
    }

    /// Sends the parts one after the other, and returns what the end of the upload has to say about them.
    fn send_parts(&self, upload: &Upload<'_>, id: &str) -> Result<String> {
        let source = upload.source;
        let part_bytes = self.bucket.retry.tuning.part_size(source.size(), PART_UNIT);
        let mut parts = String::new();
        each_part(source, part_bytes, self.digests(), |part| {
            let (number, from, to, sums) = (part.number + 1, part.from, part.to, part.sums);
            let mut extra = self.with_sums(&sums);
            extra.query = vec![("partNumber", number.to_string()), ("uploadId", id.to_owned())];
            let etag = self.bucket.retry.run(|| {
                let response = self.send("PUT", Some(upload.key), &extra, Body::Piece(source, from, to))?;
                Ok(response.header("etag").to_owned())
            })?;
            let (etag, crc) = (xml::escaped(&etag), base64(&sums.crc32c.to_be_bytes()));
            parts.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumCRC32C>{crc}</ChecksumCRC32C></Part>"
            ));
            Ok(())
        })?;
        Ok(parts)
    }

    fn end(&self, upload: &Upload<'_>, id: &str, parts: &str) -> Result<ETag> {
        let body = format!(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
        );
        let mut headers = vec![("content-type", "application/xml".to_owned())];
        headers.extend(cloud::condition(upload.mode));
        let payload = Some(hex(&Sha256::digest(body.as_bytes())));
        let extra = Extra { query: vec![("uploadId", id.to_owned())], headers, payload, ..Extra::default() };
        self.bucket.retry.run(|| {
            let text = self.send("POST", Some(upload.key), &extra, Body::Bytes(body.as_bytes()))?.text()?;
            match xml::element(&text, "CompleteMultipartUploadResult") {
                Some(result) => Ok(etag(&xml::text(result, "ETag").unwrap_or_default())),
                None => Err(self.refused(Fault::of_text(&text), Some(upload.key))),
            }
        })
    }

    /// The checksums that a body is sent with. The CRC-32C is a signed header either way, so that damage is found out. Where anybody on
    /// the way could write another body and its CRC, the body is signed too; TLS lets nobody do that.
    fn with_sums(&self, sums: &Digests) -> Extra<'static> {
        let payload = if self.signs_bodies { hex(&sums.sha256) } else { UNSIGNED.to_owned() };
        Extra {
            headers: vec![("x-amz-checksum-crc32c", base64(&sums.crc32c.to_be_bytes()))],
            payload: Some(payload),
            ..Extra::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::storage::S3Config;
    use crate::store::{Machine, Tuning};

    #[test]
    fn bodies_are_signed_where_the_connection_is_not_encrypted_and_always_carry_a_crc() {
        for (endpoint, is_signed) in [(None, false), (Some("https://h"), false), (Some("http://h"), true)] {
            let config = S3Config {
                bucket: Some("bucket".into()),
                endpoint: endpoint.map(str::to_owned),
                ..S3Config::default()
            };
            let s3 = S3::new(&config, None, Tuning::default(), Arc::new(Machine::start())).unwrap();
            let sums = Digests { sha256: [0xab; 32], crc32c: 1, ..Digests::default() };
            let extra = s3.with_sums(&sums);
            let expected = if is_signed { "ab".repeat(32) } else { "UNSIGNED-PAYLOAD".to_owned() };
            assert_eq!(extra.payload.as_deref(), Some(expected.as_str()), "{endpoint:?}");
            assert_eq!(s3.digests().sha256, is_signed);
            assert!(extra.headers.iter().any(|(name, crc)| *name == "x-amz-checksum-crc32c" && crc == "AAAAAQ=="));
        }
    }
}
