//! Owns the tests of Google's and Azure's stores against faults.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use chronik::config::storage::{AzureConfig, GcsConfig, Secret};
use chronik::store::{get_bytes, CloudStore, ETag, Kind, ObjectStore, PutMode, StoreError};

use ring::signature::{RsaKeyPair, UnparsedPublicKey, RSA_PKCS1_2048_8192_SHA256};

use super::contract::bytes;
use super::server::{Reply, Server};
use super::surroundings::{small, Simulated};

fn script(replies: Vec<Reply>) -> Server {
    Server::start(move |number, _| replies[number.min(replies.len() - 1)].clone())
}

fn azure(server: &Server) -> (CloudStore, Arc<Simulated>) {
    let config = AzureConfig {
        account: Some("acct".into()),
        key: Some(Secret::new("c2VjcmV0LWtleQ==")),
        container: Some("cont".into()),
        endpoint: Some(server.url()),
        ..AzureConfig::default()
    };
    let around = Simulated::start();
    (CloudStore::azure(&config, None, small(), around.clone()).unwrap(), around)
}

fn azure_fault(status: u16, code: &str) -> Reply {
    Reply::new(status, format!("<Error><Code>{code}</Code><Message>It said so.\nTime:x</Message></Error>"))
        .header("x-ms-error-code", code)
}

fn azure_error(reply: Reply) -> StoreError {
    let server = script(vec![reply]);
    let error = azure(&server).0.put("k", b"x", PutMode::IfAbsent).unwrap_err();
    assert!(!error.sentence.contains("c2VjcmV0") && error.sentence.ends_with('.'), "{error}");
    error
}

#[test]
fn azures_refusals_have_their_kinds() {
    let of = |status, code| azure_error(azure_fault(status, code)).kind;
    assert_eq!(of(409, "BlobAlreadyExists"), Kind::Exists);
    assert_eq!(of(412, "ConditionNotMet"), Kind::Exists);
    assert_eq!(of(404, "ContainerNotFound"), Kind::NoBucket);
    assert_eq!(of(403, "AuthorizationPermissionMismatch"), Kind::Denied);
    let key = azure_error(azure_fault(403, "AuthenticationFailed"));
    assert_eq!(key.kind, Kind::Denied);
    assert!(key.sentence.contains("AZURE_STORAGE_KEY"), "{key}");
    let text =
        "<Error><Code>AuthorizationFailure</Code><Message>Server failed to authenticate the request.</Message></Error>";
    let emulated = azure_error(Reply::new(403, text));
    assert!(emulated.sentence.contains("AZURE_STORAGE_KEY is not the account's key"), "{emulated}");
    let text = "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Request date header too old: 'x'\
                </AuthenticationErrorDetail></Error>";
    let skew = azure_error(Reply::new(403, text).header("date", "Fri, 24 May 2013 00:20:00 GMT"));
    assert_eq!(skew.kind, Kind::ClockSkew);
    assert!(skew.sentence.contains("1200 s behind"), "{skew}");
}

#[test]
fn a_busy_azure_is_waited_for() {
    let done = Reply::new(201, "").header("etag", "\"0x8D\"");
    let server = script(vec![azure_fault(503, "ServerBusy"), azure_fault(500, "OperationTimedOut"), done]);
    let (store, around) = azure(&server);
    assert_eq!(store.put("a/k", b"hello", PutMode::IfAbsent).unwrap(), ETag("0x8D".into()));
    assert_eq!(around.waited().len(), 2);
    let seen = server.seen().remove(2);
    assert_eq!(seen.target, "/cont/a/k");
    assert_eq!((seen.header("if-none-match"), seen.header("x-ms-blob-type")), ("*", "BlockBlob"));
    assert_eq!(seen.header("content-md5"), "XUFAKrxLKna5cZ2REBfFkg==");
    assert!(seen.header("authorization").starts_with("SharedKey acct:"), "{seen:?}");
}

#[test]
fn a_shared_access_signature_is_shown_and_not_told() {
    let config = AzureConfig {
        account: Some("acct".into()),
        sas_token: Some(Secret::new("?sv=1&sig=s3cr3t")),
        container: Some("cont".into()),
        ..AzureConfig::default()
    };
    let server = script(vec![Reply::new(403, "")]);
    let config = AzureConfig { endpoint: Some(server.url()), ..config };
    let store = CloudStore::azure(&config, None, small(), Simulated::start()).unwrap();
    let error = store.delete("k").unwrap_err();
    assert_eq!(server.lines(), ["DELETE /cont/k?sv=1&sig=s3cr3t"]);
    assert_eq!(server.seen()[0].header("authorization"), "");
    let printed = format!("{error} {store:?} {config:?}");
    assert!(!printed.contains("s3cr3t"), "{printed}");
    drop(server);
    let error = store.delete("k").unwrap_err();
    assert!(error.kind == Kind::Unavailable && !error.sentence.contains("s3cr3t"), "{error}");
}

#[test]
fn a_large_blob_goes_up_in_blocks() {
    let server = Server::start(|_, seen| match seen.method.as_str() {
        "HEAD" => Reply::new(404, "").header("x-ms-error-code", "BlobNotFound"),
        _ => Reply::new(201, "").header("etag", "\"e\""),
    });
    let body = bytes(2, (2 << 20) + 1);
    azure(&server).0.put("k", &body, PutMode::IfAbsent).unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 5, "look, three blocks, list");
    assert!(seen[1..4].iter().flat_map(|seen| seen.body.clone()).collect::<Vec<_>>() == body);
    let list = String::from_utf8(seen[4].body.clone()).unwrap();
    assert_eq!((seen[4].target.as_str(), list.matches("<Uncommitted>").count()), ("/cont/k?comp=blocklist", 3));
    assert_eq!((seen[4].header("if-none-match"), seen[1].header("if-none-match")), ("*", ""));
}

fn gcs(server: &Server) -> (CloudStore, Arc<Simulated>) {
    let config = GcsConfig { bucket: Some("b".into()), endpoint: Some(server.url()), ..GcsConfig::default() };
    let around = Simulated::start();
    (CloudStore::gcs(&config, None, small(), around.clone()).unwrap(), around)
}

fn object(size: usize) -> Reply {
    let text = format!(r#"{{"name":"k","size":"{size}","generation":"42","updated":"2013-05-24T00:00:00.000Z"}}"#);
    Reply::new(200, text)
}

#[test]
fn googles_refusals_have_their_kinds() {
    let of = |status, text: &str| {
        let server = script(vec![Reply::new(status, text)]);
        gcs(&server).0.put("k", b"x", PutMode::IfAbsent).unwrap_err().kind
    };
    let bucket = r#"{"error":{"code":404,"message":"The specified bucket does not exist."}}"#;
    assert_eq!(of(404, bucket), Kind::NoBucket);
    assert_eq!(
        of(412, r#"{"error":{"message":"At least one of the pre-conditions you specified did not hold."}}"#),
        Kind::Exists
    );
    assert_eq!(of(403, r#"{"error":{"message":"no","errors":[{"reason":"forbidden"}]}}"#), Kind::Denied);
    assert_eq!(of(403, r#"{"error":{"message":"no","errors":[{"reason":"rateLimitExceeded"}]}}"#), Kind::Throttled);
    assert_eq!(of(401, "Login required"), Kind::Denied);
    assert_eq!(of(200, "nonsense"), Kind::Other);
}

#[test]
fn what_google_does_not_find_for_an_upload_or_a_listing_is_the_bucket() {
    // Emulators don't say it, but there is nothing else that could be missing.
    let server = script(vec![Reply::new(404, r#"{"error":{"code":404,"message":"Not Found"}}"#)]);
    let store = gcs(&server).0;
    for error in [
        store.put("k", b"x", PutMode::IfAbsent).unwrap_err(),
        store.put("k", &bytes(1, 5000), PutMode::Overwrite).unwrap_err(),
        store.list("", None).unwrap_err(),
    ] {
        assert_eq!((error.kind, error.sentence.as_str()), (Kind::NoBucket, "There is no bucket b."));
    }
    assert_eq!(store.head("k").unwrap_err().kind, Kind::NotFound);
}

#[test]
fn a_session_that_is_gone_is_no_missing_object() {
    let server = Server::start(|_, seen| match seen.method.as_str() {
        "POST" => Reply::new(200, "").header("location", format!("http://{}/session/1", seen.header("host"))),
        _ => Reply::new(410, ""),
    });
    let error = gcs(&server).0.put("k", &bytes(1, 5000), PutMode::Overwrite).unwrap_err();
    assert!(error.is_transient() && error.sentence.contains("has ended the upload of the object k"), "{error}");
}

#[test]
fn an_answer_without_a_byte_of_the_range_is_out_of_range() {
    // Azure refuses such a range, but its emulator answers with nothing.
    let reply = Reply::new(206, "").header("etag", "\"e\"").header("content-range", "bytes 5000-4999/5000");
    let server = script(vec![reply]);
    let error = get_bytes(&azure(&server).0, "k", Some(5000..5001), 100).unwrap_err();
    assert_eq!(error.kind, Kind::OutOfRange, "{error}");
}

#[test]
fn no_store_takes_the_beginning_for_a_range() {
    let server = script(vec![Reply::new(200, "hello").header("etag", "\"e\"").header("x-goog-generation", "42")]);
    for store in [&azure(&server).0 as &dyn ObjectStore, &gcs(&server).0] {
        let error = get_bytes(store, "k", Some(1..3), 100).unwrap_err();
        assert!(error.kind == Kind::Other && error.sentence.contains("does not know ranges"), "{error}");
    }
}

#[test]
fn a_small_object_goes_to_google_with_its_checksum_in_one_request() {
    let server = script(vec![object(5)]);
    let etag = gcs(&server).0.put("a/k", b"hello", PutMode::IfMatch(&ETag("41".into()))).unwrap();
    assert_eq!(etag, ETag("42".into()));
    assert_eq!(server.lines(), ["POST /upload/storage/v1/b/b/o?uploadType=multipart&ifGenerationMatch=41"]);
    let seen = server.seen().remove(0);
    let body = String::from_utf8(seen.body.clone()).unwrap();
    assert!(body.contains(r#""name":"a/k""#) && body.contains(r#""crc32c":"mnG7TA==""#), "{body}");
    assert!(body.contains("\r\n\r\nhello\r\n--"), "{body}");
    assert_eq!(seen.header("authorization"), "", "an emulator is shown nothing");
}

#[test]
fn a_session_that_breaks_is_asked_how_far_it_got() {
    let size = (2 << 20) + 7;
    let calls = std::sync::atomic::AtomicU32::new(0);
    let server = Server::start(move |_, seen| {
        if seen.method == "POST" {
            return Reply::new(200, "").header("location", format!("http://{}/session/1", seen.header("host")));
        }
        if seen.method == "GET" {
            return Reply::new(404, "");
        }
        match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::new(308, "").header("range", "bytes=0-1048575"),
            // The second chunk is lost half-way.
            1 => Reply::new(503, ""),
            2 => Reply::new(308, "").header("range", "bytes=0-1310719"),
            3 => Reply::new(308, "").header("range", "bytes=0-2097151"),
            _ => object(size),
        }
    });
    let body = bytes(4, size);
    let (store, around) = gcs(&server);
    assert_eq!(store.put("k", &body, PutMode::IfAbsent).unwrap(), ETag("42".into()));
    let seen = server.seen();
    let ranges: Vec<_> = seen.iter().skip(2).map(|seen| seen.header("content-range").to_owned()).collect();
    let expected = [
        "bytes 0-1048575/2097159".to_owned(),
        "bytes 1048576-2097151/2097159".to_owned(),
        "bytes */2097159".to_owned(),
        "bytes 1310720-2097158/2097159".to_owned(),
        "bytes 2097152-2097158/2097159".to_owned(),
    ];
    assert_eq!(ranges, expected);
    assert!(seen[5].body == body[1_310_720..], "what had arrived isn't sent again");
    assert_eq!(around.waited().len(), 1);
    assert!(seen[1].target.ends_with("uploadType=resumable&ifGenerationMatch=0"));
}

const PEM: &str = include_str!("../data/store/rfc7515-a2.pem");

/// The key file of a service account, as long as this lives.
pub struct Account {
    pub path: PathBuf,
}

impl Account {
    /// One whose tokens come from this server.
    pub fn of(tokens: &Server) -> Account {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("chronik-gcs-{}-{}.json", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        let text = format!(
            r#"{{"type":"service_account","client_email":"a@b.example","private_key_id":"k","private_key":"{}","token_uri":"{}/token"}}"#,
            PEM.replace('\n', "\\n"),
            tokens.url()
        );
        std::fs::write(&path, text).unwrap();
        Account { path }
    }

    fn store(&self, server: &Server) -> CloudStore {
        CloudStore::gcs(&self.config(server), None, small(), Simulated::start()).unwrap()
    }

    fn config(&self, server: &Server) -> GcsConfig {
        let (endpoint, credentials_file) = (Some(server.url()), Some(self.path.clone()));
        GcsConfig { bucket: Some("b".into()), endpoint, credentials_file, ..GcsConfig::default() }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Gives a token for a claim that is signed with the account's key, and for no other.
pub fn token_service() -> Server {
    Server::start(|_, seen| {
        let body = String::from_utf8(seen.body.clone()).unwrap();
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
        match body.strip_prefix(grant).is_some_and(is_signed_well) && seen.target == "/token" {
            true => Reply::new(200, r#"{"access_token":"good","expires_in":3599,"token_type":"Bearer"}"#),
            false => Reply::new(400, r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#),
        }
    })
}

/// Whether a JSON Web Token is signed with RS256 and the private half of the key in [`PEM`].
fn is_signed_well(token: &str) -> bool {
    let pem = ureq::tls::PrivateKey::from_pem(PEM.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(pem.der()).or_else(|_| RsaKeyPair::from_der(pem.der())).unwrap();
    let (text, signature) = token.rsplit_once('.').unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref());
    public.verify(text.as_bytes(), &from_base64_url(signature)).is_ok()
}

fn from_base64_url(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = text.bytes().map(|b| alphabet.iter().position(|a| *a == b).expect("a digit of Base64") as u8);
    let bits: Vec<u8> = digits.flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1)).collect();
    bits.chunks_exact(8).map(|eight| eight.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}

#[test]
fn a_service_accounts_claim_is_signed_with_its_key() {
    let tokens = token_service();
    let server = script(vec![object(1)]);
    Account::of(&tokens).store(&server).head("k").unwrap();
    assert_eq!(server.seen()[0].header("authorization"), "Bearer good");
    assert!(!is_signed_well("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UifQ.c2lnbmF0dXJl"), "not any signature is one");
}

#[test]
fn a_key_that_google_does_not_take_is_told_as_one() {
    let text = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let tokens = script(vec![Reply::new(400, text)]);
    let server = script(vec![object(1)]);
    let error = Account::of(&tokens).store(&server).head("k").unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    let told = "Google gives no token for the key file or the instance: it answered 400 Invalid JWT Signature.";
    assert_eq!((error.sentence.as_str(), server.seen().len()), (told, 0));
}

#[test]
fn a_service_account_gets_a_token_and_another_when_it_is_refused() {
    let server = Server::start(|number, seen| match (seen.target.as_str(), number) {
        ("/token", 0) => Reply::new(200, r#"{"access_token":"first","expires_in":3599,"token_type":"Bearer"}"#),
        ("/token", _) => Reply::new(200, r#"{"access_token":"second","expires_in":3599}"#),
        _ if seen.header("authorization") == "Bearer first" && number > 1 => Reply::new(401, ""),
        _ => object(1),
    });
    let store = Account::of(&server).store(&server);
    store.head("k").unwrap();
    store.head("k").unwrap();
    let seen = server.seen();
    let shown: Vec<_> =
        seen.iter().filter(|s| s.method == "GET").map(|s| s.header("authorization").to_owned()).collect();
    assert_eq!(shown, ["Bearer first", "Bearer first", "Bearer second"]);
    let told = format!("{store:?}");
    assert!(!told.contains("second") && !told.contains("PRIVATE KEY"), "{told}");
}

#[test]
fn google_tells_a_wrong_clock_when_it_refuses_a_token() {
    let text = r#"{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."}"#;
    let server = script(vec![Reply::new(400, text).header("date", "Fri, 24 May 2013 02:00:00 GMT")]);
    let account = Account::of(&server);
    let error = account.store(&server).head("k").unwrap_err();
    assert_eq!(error.kind, Kind::ClockSkew);
    assert!(error.sentence.contains("7200 s behind"), "{error}");
    std::fs::write(&account.path, "{}").unwrap();
    let error = CloudStore::gcs(&account.config(&server), None, small(), Simulated::start()).unwrap_err();
    assert!(error.kind == Kind::Denied && error.sentence.contains("private_key"), "{error}");
}

#[test]
fn downloads_from_both_are_checked() {
    let reply = |crc: &str| {
        Reply::new(200, "hello").header("x-goog-generation", "42").header("x-goog-hash", format!("crc32c={crc},md5=x"))
    };
    let server = script(vec![reply("mnG7TA==")]);
    get_bytes(&gcs(&server).0, "k", None, 100).unwrap();
    let server = script(vec![reply("AAAAAA==")]);
    assert_eq!(get_bytes(&gcs(&server).0, "k", None, 100).unwrap_err().kind, Kind::Corrupt);
    let server = script(vec![Reply::new(200, "hello").header("etag", "\"e\"").header("content-md5", "AAAA")]);
    assert_eq!(get_bytes(&azure(&server).0, "k", None, 100).unwrap_err().kind, Kind::Corrupt);
}
