//! Owns AWS's signatures, version 4, as S3 wants them.
//!
//! Source: AWS, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)"; the examples there
//! are the tests here.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::text::{amz_date, hex, percent};

/// Who signs, for what.
pub(super) struct Signer<'a> {
    pub access_key: &'a str,
    pub secret_key: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

/// A request as far as it is signed.
pub(super) struct Signed<'a> {
    pub method: &'a str,
    /// Percent-encoded once.
    pub path: &'a str,
    /// Names and values, not encoded.
    pub query: &'a [(&'a str, String)],
    /// Names in lower case, and values. `host` and `x-amz-date` are among them.
    pub headers: &'a [(&'a str, String)],
    /// The hexadecimal SHA-256 of the body.
    pub payload: &'a str,
}

/// The query as it is signed and sent: encoded, sorted.
pub(super) fn canonical_query(query: &[(&str, String)]) -> String {
    let mut pairs: Vec<String> =
        query.iter().map(|(name, value)| format!("{}={}", percent(name, ""), percent(value, ""))).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

impl Signer<'_> {
    /// The value of the header `Authorization`.
    pub fn authorization(&self, request: &Signed<'_>, now_ms: i64) -> String {
        let date = amz_date(now_ms);
        let mut headers: Vec<(&str, &str)> = request.headers.iter().map(|(n, v)| (*n, v.trim())).collect();
        headers.sort_unstable();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let query = canonical_query(request.query);
        let canonical = format!("{}\n{}\n{query}\n{lines}\n{names}\n{}", request.method, request.path, request.payload);
        let day = &date[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let first = hmac_sha256(format!("AWS4{}", self.secret_key).as_bytes(), day.as_bytes());
        let parts = [self.region, self.service, "aws4_request", &to_sign];
        let signature = parts.iter().fold(first, |key, part| hmac_sha256(&key, part.as_bytes()));
        let credential = format!("{}/{scope}", self.access_key);
        format!("AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={}", hex(&signature))
    }
}

/// HMAC with SHA-256 (RFC 2104).
pub(super) fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    // A key of any length is one, so that this can't fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Signs as in the documentation's examples and returns the signature alone.
    fn signature(method: &str, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)], payload: &str) -> String {
        let signer = Signer {
            access_key: "AKIAIOSFODNN7EXAMPLE",
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
            service: "s3",
        };
        let query: Vec<(&str, String)> = query.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        let fixed = [
            ("host", "examplebucket.s3.amazonaws.com"),
            ("x-amz-date", "20130524T000000Z"),
            ("x-amz-content-sha256", payload),
        ];
        let headers: Vec<(&str, String)> = fixed.iter().chain(headers).map(|(n, v)| (*n, (*v).to_owned())).collect();
        let request = Signed { method, path, query: &query, headers: &headers, payload };
        let value = signer.authorization(&request, 1_369_353_600_000);
        assert!(
            value.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,")
        );
        value.split_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn the_documentations_examples_come_out_the_same() {
        let get = signature("GET", "/test.txt", &[], &[("range", "bytes=0-9")], NOTHING);
        assert_eq!(get, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
        let body = hex(&Sha256::digest(b"Welcome to Amazon S3."));
        let more = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let put = signature("PUT", "/test%24file.text", &[], &more, &body);
        assert_eq!(put, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
        let lifecycle = signature("GET", "/", &[("lifecycle", "")], &[], NOTHING);
        assert_eq!(lifecycle, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
        let list = signature("GET", "/", &[("prefix", "J"), ("max-keys", "2")], &[], NOTHING);
        assert_eq!(list, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    }
}
