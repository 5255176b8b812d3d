//! Owns the tests of S3's store against faults: storms, silence, torn bodies, lost answers, expired keys, wrong regions.

use std::sync::Arc;
use std::time::Duration;

use chronik::config::storage::{S3Config, Secret};
use chronik::store::{get_bytes, CloudStore, ETag, Kind, ObjectStore, PutMode, StoreError, Tuning};

use super::contract::{bytes, Shelf};
use super::server::{Reply, Seen, Server};
use super::surroundings::{small, Simulated};

fn config(server: &Server) -> S3Config {
    S3Config {
        bucket: Some("bucket".into()),
        prefix: Some("pre".into()),
        endpoint: Some(server.url()),
        access_key_id: Some("AKIDEXAMPLE".into()),
        secret_access_key: Some(Secret::new("very-secret")),
        ..S3Config::default()
    }
}

fn open(config: &S3Config, tuning: Tuning) -> (CloudStore, Arc<Simulated>) {
    let around = Simulated::start();
    (CloudStore::s3(config, None, tuning, around.clone()).unwrap(), around)
}

fn store(server: &Server) -> (CloudStore, Arc<Simulated>) {
    open(&config(server), small())
}

fn fault(status: u16, code: &str) -> Reply {
    Reply::new(
        status,
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>It said so.</Message></Error>"),
    )
}

fn done() -> Reply {
    Reply::new(200, "").header("etag", "\"e1\"")
}

/// Answers one after the other; the last one again and again.
fn script(replies: Vec<Reply>) -> Server {
    Server::start(move |number, _| replies[number.min(replies.len() - 1)].clone())
}

/// What one attempt to read fails with.
fn error_of(reply: Reply) -> StoreError {
    let server = script(vec![reply]);
    let error = get_bytes(&store(&server).0, "k", None, 100).unwrap_err();
    assert!(!error.sentence.contains("very-secret") && error.sentence.ends_with('.'), "{error}");
    error
}

#[test]
fn a_storm_of_503_is_waited_out_with_growing_waits() {
    let server = script(vec![fault(503, "SlowDown"), fault(500, "InternalError"), fault(503, "SlowDown"), done()]);
    let (store, around) = store(&server);
    assert_eq!(store.put("k", b"x", PutMode::Overwrite).unwrap(), ETag("e1".into()));
    let waited = around.waited();
    assert_eq!(waited.len(), 3);
    for (wait, bound) in waited.iter().zip([200, 400, 800]) {
        assert!(wait.as_millis() <= bound, "{waited:?}");
    }
    assert_eq!(server.seen().len(), 4);
    assert!(server.lines().iter().all(|line| line == "PUT /bucket/pre/k"), "{:?}", server.lines());
}

#[test]
fn an_endless_storm_ends_within_bounds() {
    let server = script(vec![fault(503, "SlowDown")]);
    let (store, around) = store(&server);
    let error = store.head("k").unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "an answer to HEAD has no code: {error}");
    let error = store.put("k", b"x", PutMode::Overwrite).unwrap_err();
    assert_eq!(error.kind, Kind::Throttled, "{error}");
    assert!(error.is_transient() && error.sentence.contains("tried 8 times"), "{error}");
    assert_eq!(server.seen().len(), 16);
    assert!(around.waited().iter().all(|wait| *wait <= Duration::from_secs(10)));
}

#[test]
fn what_the_store_asks_for_is_waited_and_not_beyond_the_time_there_is() {
    let server = script(vec![fault(503, "SlowDown").header("retry-after", "7"), done()]);
    let (store, around) = store(&server);
    store.put("k", b"x", PutMode::Overwrite).unwrap();
    assert!(around.waited()[0] >= Duration::from_secs(7), "{:?}", around.waited());

    let server = script(vec![fault(503, "SlowDown").header("retry-after", "999999")]);
    let tuning = Tuning { total: Duration::from_secs(50), ..small() };
    let (store, around) = open(&config(&server), tuning);
    let error = store.put("k", b"x", PutMode::Overwrite).unwrap_err();
    assert_eq!((error.kind, error.retry_after), (Kind::Throttled, Some(Duration::from_secs(60))));
    assert_eq!((around.waited(), server.seen().len()), (vec![], 1));
}

#[test]
fn a_stopped_program_does_not_wait() {
    let server = script(vec![fault(503, "SlowDown")]);
    let around = Arc::new(chronik::store::Machine::start());
    around.stop();
    let store = CloudStore::s3(&config(&server), None, small(), around).unwrap();
    assert_eq!(store.put("k", b"x", PutMode::Overwrite).unwrap_err().kind, Kind::Stopped);
    assert_eq!(server.seen().len(), 1);
}

/// A server that takes a conditional upload and doesn't answer it; asked again, it refuses, because the object is there.
fn answer_lost(mark: fn(&[Seen]) -> String) -> Server {
    let first = std::sync::Mutex::new(Vec::new());
    Server::start(move |_, seen| match seen.method.as_str() {
        "PUT" => {
            let mut first = first.lock().unwrap();
            first.push(seen.clone());
            if first.len() == 1 {
                Reply::silent()
            } else {
                fault(412, "PreconditionFailed")
            }
        }
        _ => Reply::new(200, "")
            .header("content-length", "1")
            .header("etag", "\"mine\"")
            .header("x-amz-meta-chronik-nonce", mark(&first.lock().unwrap())),
    })
}

#[test]
fn a_lost_answer_to_a_conditional_upload_is_no_loss() {
    let server = answer_lost(|first| first[0].header("x-amz-meta-chronik-nonce").to_owned());
    let (store, _) = store(&server);
    assert_eq!(store.put("k", b"x", PutMode::IfAbsent).unwrap(), ETag("mine".into()));
    assert_eq!(server.seen()[0].header("if-none-match"), "*");
    assert_eq!(server.lines(), ["PUT /bucket/pre/k", "PUT /bucket/pre/k", "HEAD /bucket/pre/k"]);
}

#[test]
fn somebody_elses_object_is_not_taken_for_ones_own() {
    let server = answer_lost(|_| "another".into());
    let (store, _) = store(&server);
    assert_eq!(store.put("k", b"x", PutMode::IfAbsent).unwrap_err().kind, Kind::Exists);
}

/// A server that asks for a body, refuses it before it has come, and ends the connection: the client, which is still sending, finds
/// the connection broken and not the answer.
#[test]
fn a_refusal_that_ends_the_connection_in_the_middle_of_an_upload_is_told_as_one() {
    let tuning = Tuning { single_bytes: 64 << 20, ..small() };
    let upload = |mode: PutMode<'_>, mark: &'static str| {
        let server = Server::hasty(move |_, seen| match seen.method.as_str() {
            "PUT" => fault(412, "PreconditionFailed"),
            _ => Reply::new(200, "")
                .header("content-length", "1")
                .header("etag", "\"e1\"")
                .header("x-amz-meta-chronik-nonce", mark),
        });
        let (store, _) = open(&config(&server), tuning.clone());
        (store.put("k", &vec![7; 32 << 20], mode).unwrap_err().kind, server.lines())
    };
    let expected = (Kind::Exists, vec!["PUT /bucket/pre/k".to_owned(), "HEAD /bucket/pre/k".to_owned()]);
    assert_eq!(upload(PutMode::IfAbsent, "another"), expected);
    assert_eq!(upload(PutMode::IfMatch(&ETag("old".into())), "another"), expected);
    // What is as it should be is sent again.
    let (kind, lines) = upload(PutMode::IfMatch(&ETag("e1".into())), "another");
    assert_eq!((kind, lines.len()), (Kind::Unavailable, 16));
}

#[test]
fn two_conditional_uploads_that_meet_are_tried_again() {
    let server = script(vec![fault(409, "ConditionalRequestConflict"), done()]);
    let (store, _) = store(&server);
    store.put("k", b"x", PutMode::IfMatch(&ETag("old".into()))).unwrap();
    assert_eq!(server.seen()[1].header("if-match"), "\"old\"");
}

#[test]
fn silence_is_a_timeout() {
    let server = script(vec![Reply::silent()]);
    let tuning = Tuning { tries: 2, idle: Duration::from_millis(100), ..small() };
    let error = open(&config(&server), tuning).0.put("k", b"x", PutMode::Overwrite).unwrap_err();
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    assert!(error.sentence.contains("did not answer in time"), "{error}");
}

#[test]
fn nobody_listening_is_unavailable() {
    let gone = script(vec![done()]);
    let config = config(&gone);
    drop(gone);
    let error = open(&config, small()).0.head("k").unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert!(error.sentence.contains("refuses connections"), "{error}");
}

#[test]
fn a_name_that_nobody_knows_is_told_as_one() {
    let server = script(vec![done()]);
    // The name is reserved for this (RFC 2606).
    let config = S3Config { endpoint: Some("http://no-such-host.invalid:9000".into()), ..config(&server) };
    let error = open(&config, Tuning { tries: 2, ..small() }).0.head("k").unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    let told = "http://no-such-host.invalid:9000 has no address that the name service knows. It was tried 2 times.";
    assert_eq!(error.sentence, told);
}

/// Serves an object by ranges, and breaks the connection off after so many bytes each time.
fn torn(body: Vec<u8>, each: usize, changes_at: usize) -> Server {
    Server::start(move |number, seen| {
        let range = seen.header("range").strip_prefix("bytes=").unwrap_or("0-");
        let (from, to) = range.split_once('-').unwrap();
        let from: usize = from.parse().unwrap();
        let to = to.parse::<usize>().map_or(body.len(), |last| (last + 1).min(body.len()));
        if number >= changes_at {
            return fault(412, "PreconditionFailed");
        }
        let part = body[from..to].to_vec();
        let after = each.min(part.len());
        let whole = after == part.len();
        let reply = Reply::new(if seen.header("range").is_empty() { 200 } else { 206 }, part)
            .header("etag", "\"e\"")
            .header("content-range", format!("bytes {from}-{}/{}", to - 1, body.len()));
        if whole {
            reply
        } else {
            reply.breaks_off(after)
        }
    })
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let body = bytes(1, 300_000);
    let server = torn(body.clone(), 70_000, usize::MAX);
    let (store, _) = store(&server);
    let (got, info) = get_bytes(&store, "k", None, 300_000).unwrap();
    assert!(got == body && info.size == 300_000);
    let seen = server.seen();
    assert_eq!(seen.len(), 5);
    assert_eq!((seen[1].header("range"), seen[1].header("if-match")), ("bytes=70000-", "\"e\""));
    let (got, _) = get_bytes(&store, "k", Some(10..250_000), 300_000).unwrap();
    assert!(got == body[10..250_000]);
    let mut shelf = Shelf::default();
    store.get_into("k", Some(10..250_000), &mut shelf).unwrap();
    assert!(shelf.bytes == body[10..250_000]);
}

/// More than the range is refused, and nothing of it is put where the range is all that there is room for.
#[test]
fn an_answer_longer_than_the_range_is_not_received() {
    let server = Server::start(|_, _| {
        Reply::new(206, vec![1; 500]).header("etag", "\"e\"").header("content-range", "bytes 0-99/1000")
    });
    let mut shelf = Shelf::default();
    let error = store(&server).0.get_into("k", Some(0..100), &mut shelf).unwrap_err();
    assert_eq!(error.kind, Kind::Corrupt, "{error}");
    assert!(server.seen().len() == 1 && shelf.bytes.len() <= 100);
}

#[test]
fn an_object_that_changes_while_it_is_read_is_noticed() {
    let server = torn(bytes(1, 300_000), 70_000, 2);
    let error = get_bytes(&store(&server).0, "k", None, 300_000).unwrap_err();
    assert_eq!(error.kind, Kind::Corrupt, "{error}");
    assert!(error.sentence.contains("changed while it was read"), "{error}");
}

#[test]
fn bytes_that_are_not_what_their_checksum_says_are_noticed() {
    let reply = |crc: &str| Reply::new(200, "hello").header("etag", "\"e\"").header("x-amz-checksum-crc32c", crc);
    let server = script(vec![reply("mnG7TA==")]);
    get_bytes(&store(&server).0, "k", None, 100).unwrap();
    let server = script(vec![reply("AAAAAA==")]);
    assert_eq!(get_bytes(&store(&server).0, "k", None, 100).unwrap_err().kind, Kind::Corrupt);
    // One of an upload in parts is a sum of sums.
    let server = script(vec![reply("AAAAAA==-2")]);
    get_bytes(&store(&server).0, "k", None, 100).unwrap();
}

#[test]
fn uploads_carry_their_checksums() {
    let server = script(vec![done()]);
    store(&server).0.put("k", b"hello", PutMode::Overwrite).unwrap();
    let seen = server.seen().remove(0);
    assert_eq!(seen.header("x-amz-checksum-crc32c"), "mnG7TA==");
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(seen.header("x-amz-content-sha256"), sha256);
    assert_eq!(seen.body, b"hello");
    assert!(seen.header("authorization").contains("Credential=AKIDEXAMPLE/20130524/us-east-1/s3/aws4_request"));
}

#[test]
fn damage_on_the_way_up_is_sent_again() {
    let server = script(vec![fault(400, "BadDigest"), done()]);
    store(&server).0.put("k", b"x", PutMode::Overwrite).unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn every_refusal_has_its_kind_and_says_what_to_do() {
    let of = |status, code| error_of(fault(status, code));
    let unknown = of(403, "InvalidAccessKeyId");
    assert_eq!(unknown.kind, Kind::Denied);
    assert!(unknown.sentence.contains("AWS_ACCESS_KEY_ID"), "{unknown}");
    let wrong = of(403, "SignatureDoesNotMatch");
    assert_eq!(wrong.kind, Kind::Denied);
    assert!(wrong.sentence.contains("AWS_SECRET_ACCESS_KEY"), "{wrong}");
    assert_eq!(of(403, "AccessDenied").kind, Kind::Denied);
    let expired = of(400, "ExpiredToken");
    assert_eq!(expired.kind, Kind::Denied);
    assert!(expired.sentence.contains("expired"), "{expired}");
    let bucket = of(404, "NoSuchBucket");
    assert_eq!((bucket.kind, bucket.sentence.as_str()), (Kind::NoBucket, "There is no bucket bucket."));
    assert_eq!(of(404, "NoSuchKey").kind, Kind::NotFound);
    assert_eq!(of(416, "InvalidRange").kind, Kind::OutOfRange);
    assert_eq!(of(400, "MalformedXML").kind, Kind::Other);
    assert_eq!(error_of(Reply::new(403, "<html>")).kind, Kind::Denied);
}

#[test]
fn what_is_missing_without_being_an_object_is_not_taken_for_one() {
    let user = script(vec![fault(404, "XAdminUserNotFound")]);
    let error = store(&user).0.delete("k").unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
    assert!(error.sentence.contains("AWS_ACCESS_KEY_ID names no key"), "{error}");
    let else_missing = script(vec![fault(404, "NoSuchSomething")]);
    let error = store(&else_missing).0.delete("k").unwrap_err();
    assert!(error.kind == Kind::Other && error.sentence.contains("404 NoSuchSomething"), "{error}");
}

#[test]
fn a_wrong_region_tells_the_right_one() {
    let by_header = error_of(fault(301, "PermanentRedirect").header("x-amz-bucket-region", "eu-central-1"));
    assert_eq!(by_header.kind, Kind::WrongRegion(Some("eu-central-1".into())));
    assert!(by_header.sentence.contains("S3_REGION=eu-central-1"), "{by_header}");
    let text = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>";
    assert_eq!(error_of(Reply::new(400, text)).kind, Kind::WrongRegion(Some("eu-west-3".into())));
    assert_eq!(error_of(fault(307, "TemporaryRedirect")).kind, Kind::WrongRegion(None));
    // A HEAD has no body that would say it, so the bucket is asked.
    let server = Server::start(move |_, seen| match seen.method.as_str() {
        "HEAD" => Reply::new(400, ""),
        _ => Reply::new(400, text),
    });
    assert_eq!(store(&server).0.head("k").unwrap_err().kind, Kind::WrongRegion(Some("eu-west-3".into())));
}

#[test]
fn a_skewed_clock_is_told_with_its_difference() {
    let reply = fault(403, "RequestTimeTooSkewed").header("date", "Thu, 23 May 2013 23:30:00 GMT");
    let error = error_of(reply);
    assert_eq!(error.kind, Kind::ClockSkew);
    assert!(error.sentence.contains("1800 s ahead"), "{error}");
}

/// An upload of three parts, of which `answer` may answer some requests otherwise.
fn in_parts(answer: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Server {
    Server::start(move |_, seen| {
        if let Some(reply) = answer(seen) {
            return reply;
        }
        match (seen.method.as_str(), seen.target.split_once('?').map_or("", |(_, query)| query)) {
            ("HEAD", _) => Reply::new(404, ""),
            ("GET", _) => Reply::new(200, "<ListBucketResult></ListBucketResult>"),
            ("POST", "uploads=") => {
                let text =
                    "<InitiateMultipartUploadResult><UploadId>u&amp;1</UploadId></InitiateMultipartUploadResult>";
                Reply::new(200, text)
            }
            ("POST", _) => {
                let text =
                    "<CompleteMultipartUploadResult><ETag>&quot;whole-3&quot;</ETag></CompleteMultipartUploadResult>";
                Reply::new(200, text)
            }
            ("DELETE", _) => Reply::new(204, ""),
            _ => Reply::new(200, "").header("etag", "\"part\""),
        }
    })
}

#[test]
fn a_large_object_goes_up_in_parts() {
    let server = in_parts(|_| None);
    let body = bytes(9, (2 << 20) + 5);
    let etag = store(&server).0.put("k", &body, PutMode::IfAbsent).unwrap();
    assert_eq!(etag, ETag("whole-3".into()));
    assert_eq!(
        server.lines(),
        [
            "HEAD /bucket/pre/k",
            "GET /bucket?list-type=2&max-keys=1&prefix=pre%2F",
            "POST /bucket/pre/k?uploads=",
            "PUT /bucket/pre/k?partNumber=1&uploadId=u%261",
            "PUT /bucket/pre/k?partNumber=2&uploadId=u%261",
            "PUT /bucket/pre/k?partNumber=3&uploadId=u%261",
            "POST /bucket/pre/k?uploadId=u%261",
        ]
    );
    let seen = server.seen();
    let sent: Vec<u8> = seen[3..6].iter().flat_map(|seen| seen.body.clone()).collect();
    assert!(sent == body, "the parts are the object");
    assert_eq!(seen[6].header("if-none-match"), "*", "the condition holds at the end");
    let end = String::from_utf8(seen[6].body.clone()).unwrap();
    assert!(end.contains("<PartNumber>3</PartNumber><ETag>&quot;part&quot;</ETag><ChecksumCRC32C>"), "{end}");
}

#[test]
fn a_gib_costs_at_most_forty_requests() {
    let parts = (1u64 << 30).div_ceil(Tuning::default().part_bytes);
    // Look, list, begin and end come with the parts; smaller objects go up in one request.
    assert!(parts + 4 <= 40, "{parts}");
    assert!(Tuning::default().single_bytes >= (1 << 30) / 40 && Tuning::default().single_bytes >= 128 << 20);
}

#[test]
fn what_a_large_upload_would_be_refused_for_is_found_out_before_its_bytes_are_sent() {
    let held = Reply::new(200, "").header("content-length", "1").header("etag", "\"new\"");
    let server = in_parts(move |seen| (seen.method == "HEAD").then(|| held.clone()));
    let (store, _) = store(&server);
    let body = bytes(9, 2 << 20);
    let old = ETag("old".into());
    for mode in [PutMode::IfAbsent, PutMode::IfMatch(&old)] {
        assert_eq!(store.put("k", &body, mode).unwrap_err().kind, Kind::Exists);
    }
    assert!(server.seen().iter().all(|seen| seen.method == "HEAD"), "{:?}", server.lines());
    store.put("k", &body, PutMode::IfMatch(&ETag("new".into()))).unwrap();
    let asked = server.seen().len();
    store.put("k", &body, PutMode::Overwrite).unwrap();
    assert_eq!(server.lines()[asked], "POST /bucket/pre/k?uploads=", "there is nothing to find out");
}

#[test]
fn an_upload_whose_end_fails_inside_a_success_is_ended_again() {
    let times = std::sync::atomic::AtomicU32::new(0);
    let server = in_parts(move |seen| {
        let is_end = seen.method == "POST" && seen.target.contains("uploadId");
        let first = is_end && times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        first.then(|| Reply::new(200, "<Error><Code>InternalError</Code></Error>"))
    });
    let etag = store(&server).0.put("k", &bytes(9, 2 << 20), PutMode::Overwrite).unwrap();
    assert_eq!(etag, ETag("whole-3".into()));
}

#[test]
fn an_upload_that_fails_for_good_is_called_off() {
    let server = in_parts(|seen| seen.target.contains("partNumber=2").then(|| fault(403, "AccessDenied")));
    let error = store(&server).0.put("k", &bytes(9, 2 << 20), PutMode::Overwrite).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert_eq!(server.lines().last().unwrap(), "DELETE /bucket/pre/k?uploadId=u%261");
}

const KEYS: &str = r#"{"Code":"Success","AccessKeyId":"ASIA$","SecretAccessKey":"s$","Token":"t$","Expiration":"2013-05-24T06:00:00Z"}"#;

/// The instance metadata service, which lends these keys; each `$` in them becomes the number of times it was asked before.
pub fn instance(keys: impl Into<String>) -> Server {
    let (keys, times) = (keys.into(), std::sync::atomic::AtomicU32::new(0));
    Server::start(move |_, seen| match seen.target.as_str() {
        "/latest/api/token" if seen.method == "PUT" => Reply::new(200, "token-of-the-session"),
        _ if seen.header("x-aws-ec2-metadata-token") != "token-of-the-session" => Reply::new(401, ""),
        "/latest/meta-data/iam/security-credentials/" => Reply::new(200, "my-role"),
        _ => {
            let time = times.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Reply::new(200, keys.replace('$', &time.to_string()))
        }
    })
}

fn lent(server: &Server, instance: &Server) -> S3Config {
    S3Config { access_key_id: None, secret_access_key: None, metadata_endpoint: Some(instance.url()), ..config(server) }
}

#[test]
fn keys_that_expire_in_mid_upload_are_renewed_and_the_upload_goes_on() {
    let instance = instance(KEYS);
    let server = in_parts(|seen| {
        let refused = seen.target.contains("partNumber=2") && seen.header("x-amz-security-token") == "t0";
        refused.then(|| fault(400, "ExpiredToken"))
    });
    let (store, around) = open(&lent(&server, &instance), small());
    store.put("k", &bytes(9, (2 << 20) + 5), PutMode::Overwrite).unwrap();
    let tokens: Vec<_> = server.seen().iter().map(|seen| seen.header("x-amz-security-token").to_owned()).collect();
    assert_eq!(tokens, ["t0", "t0", "t0", "t1", "t1", "t1"]);
    assert!(server.seen()[3].header("authorization").contains("Credential=ASIA1/"));
    assert!(around.waited().is_empty(), "there was nothing to wait for");
    assert_eq!(instance.seen()[0].method, "PUT");
    assert_eq!(instance.seen().len(), 6, "token, role and keys, twice");
}

#[test]
fn keys_are_renewed_before_they_expire() {
    let instance = instance(KEYS);
    let server = script(vec![done()]);
    let (store, around) = open(&lent(&server, &instance), small());
    let put = || store.put("k", b"x", PutMode::Overwrite).unwrap();
    put();
    around.advance(Duration::from_secs(5 * 3600));
    put();
    around.advance(Duration::from_secs(3600 - 4 * 60));
    put();
    let tokens: Vec<_> = server.seen().iter().map(|seen| seen.header("x-amz-security-token").to_owned()).collect();
    assert_eq!(tokens, ["t0", "t0", "t1"]);
}

#[test]
fn keys_that_cannot_be_renewed_are_used_as_long_as_they_are_valid() {
    let instance = instance(KEYS);
    let server = script(vec![done()]);
    let (store, around) = open(&lent(&server, &instance), small());
    let put = || store.put("k", b"x", PutMode::Overwrite);
    put().unwrap();
    drop(instance);
    around.advance(Duration::from_secs(6 * 3600 - 60));
    put().unwrap();
    around.advance(Duration::from_secs(120));
    let error = put().unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
}

#[test]
fn a_container_shows_its_token_to_get_keys() {
    let service = Server::start(|_, seen| match seen.header("authorization") {
        "shown" => Reply::new(200, KEYS.replace('$', "c")),
        _ => Reply::new(403, ""),
    });
    let server = script(vec![done()]);
    let mut config = lent(&server, &service);
    config.container_full_uri = Some(format!("{}/keys", service.url()));
    config.container_token = Some(Secret::new("shown"));
    open(&config, small()).0.put("k", b"x", PutMode::Overwrite).unwrap();
    assert_eq!(server.seen()[0].header("x-amz-security-token"), "tc");
    assert_eq!(service.lines(), ["GET /keys"]);
    config.container_full_uri = Some("http://example.com/keys".into());
    let refused = CloudStore::s3(&config, None, small(), Simulated::start()).unwrap_err();
    assert_eq!(refused.kind, Kind::Denied, "keys aren't asked of anybody without TLS: {refused}");
}

#[test]
fn without_any_keys_the_sentence_says_what_to_set() {
    let server = script(vec![done()]);
    let gone = script(vec![done()]);
    let config = lent(&server, &gone);
    drop(gone);
    let error = open(&config, small()).0.head("k").unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert!(error.sentence.contains("AWS_ACCESS_KEY_ID"), "{error}");
    assert!(server.seen().is_empty());
    let half = S3Config { access_key_id: Some("x".into()), ..config.clone() };
    assert!(CloudStore::s3(&half, None, small(), Simulated::start())
        .unwrap_err()
        .sentence
        .contains("AWS_SECRET_ACCESS_KEY"));
    let off = S3Config { metadata_disabled: true, ..config };
    assert_eq!(CloudStore::s3(&off, None, small(), Simulated::start()).unwrap_err().kind, Kind::Denied);
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let server = script(vec![done()]);
    let config = S3Config { session_token: Some(Secret::new("very-secret-token")), ..config(&server) };
    let (store, _) = open(&config, small());
    store.put("k", b"x", PutMode::Overwrite).unwrap();
    let printed = format!("{config:?} {store:?} {}", store.describe());
    assert!(!printed.contains("secret-token") && !printed.contains("very-secret"), "{printed}");
    assert_eq!(store.describe(), "s3://bucket/pre");
}

#[test]
fn a_bucket_stands_in_the_host_unless_told_otherwise() {
    let server = script(vec![done()]);
    let host = server.url().replace("http://127.0.0.1", "http://localhost");
    let config = S3Config { endpoint: Some(host), path_style: Some(false), ..config(&server) };
    // Whether bucket.localhost is this machine is up to its resolver; what would be asked shows in the error or the log.
    let tuning = Tuning { tries: 1, ..small() };
    match open(&config, tuning).0.put("k", b"x", PutMode::Overwrite) {
        Ok(_) => {
            let seen = server.seen().remove(0);
            assert!(seen.header("host").starts_with("bucket.localhost:"), "{seen:?}");
            assert_eq!(seen.target, "/pre/k");
        }
        Err(error) => assert!(error.sentence.contains("http://bucket.localhost:"), "{error}"),
    }
}

#[test]
fn settings_that_cannot_be_right_are_refused_at_once() {
    let server = script(vec![done()]);
    let good = config(&server);
    let wrong = [
        S3Config { bucket: None, ..good.clone() },
        S3Config { bucket: Some("a/b".into()), ..good.clone() },
        S3Config { endpoint: Some("127.0.0.1:9000".into()), ..good.clone() },
        S3Config { endpoint: Some("http://user:pass@host".into()), ..good.clone() },
        S3Config { prefix: Some("a//b".into()), ..good.clone() },
        S3Config { region: Some("eu/1".into()), ..good.clone() },
    ];
    for config in wrong {
        let error = CloudStore::s3(&config, None, small(), Simulated::start()).unwrap_err();
        assert!(error.kind == Kind::Other && !error.sentence.contains("pass"), "{error}");
    }
    let error = CloudStore::s3(&good, Some("/no/such.pem".as_ref()), small(), Simulated::start()).unwrap_err();
    assert!(error.sentence.contains("/no/such.pem"), "{error}");
}
