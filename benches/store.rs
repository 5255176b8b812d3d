//! Measures a store for S3 against plain requests of the same client: throughput up and down, requests per GiB.
//!
//! `S3_ENDPOINT=http://127.0.0.1:7070 S3_BUCKET=b AWS_ACCESS_KEY_ID=.. AWS_SECRET_ACCESS_KEY=.. cargo bench --bench store`.
//! `MIB` is the size of the object (default 1024), `RUNS` how often everything is done in turn (default 3).

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chronik::config::storage::S3Config;
use chronik::options::storage_from_env;
use chronik::store::{CloudStore, FileRange, Machine, ObjectStore, PutMode, Tuning};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Signs a request without its body, which is the cheapest that a server takes.
fn plain(config: &S3Config, method: &str, key: &str) -> ureq::http::request::Builder {
    let (endpoint, bucket) = (config.endpoint.as_deref().unwrap(), config.bucket.as_deref().unwrap());
    let host = endpoint.split("://").nth(1).unwrap();
    let date = amz_date();
    let scope = format!("{}/us-east-1/s3/aws4_request", &date[..8]);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let names = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!(
        "{method}\n/{bucket}/{key}\n\nhost:{host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{date}\n\n{names}\n\
         UNSIGNED-PAYLOAD"
    );
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let secret = format!("AWS4{}", config.secret_access_key.as_ref().unwrap().reveal());
    let mut mac = secret.into_bytes();
    for part in [&date[..8], "us-east-1", "s3", "aws4_request", &to_sign] {
        let mut next = Hmac::<Sha256>::new_from_slice(&mac).unwrap();
        next.update(part.as_bytes());
        mac = next.finalize().into_bytes().to_vec();
    }
    let id = config.access_key_id.as_deref().unwrap();
    let value = format!("AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={}", hex(&mac));
    ureq::http::Request::builder()
        .method(method)
        .uri(format!("{endpoint}/{bucket}/{key}"))
        .header("x-amz-date", date)
        .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        .header("authorization", value)
}

fn amz_date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since the first of March of the year 0, as Gregorian calendars count them.
    let (era, day) = ((days + 719_468) / 146_097, (days + 719_468) % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{date:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// MiB a second of what is done.
fn speed(mib: u64, act: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    act();
    mib as f64 / begin.elapsed().as_secs_f64()
}

/// Counts what it is given.
#[derive(Default)]
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn main() {
    let config = storage_from_env(&|name| std::env::var_os(name)).expect("settings of storage").s3;
    if config.endpoint.is_none() || config.bucket.is_none() || config.secret_access_key.is_none() {
        println!("set S3_ENDPOINT, S3_BUCKET, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to measure a store");
        return;
    }
    let (mib, runs) = (number("MIB", 1024), number("RUNS", 3));
    let path = std::env::temp_dir().join(format!("chronik-bench-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let piece: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    (0..mib).for_each(|_| file.write_all(&piece).unwrap());
    let file = Arc::new(file);
    let whole = FileRange::new(Arc::clone(&file), 0, mib << 20);
    let store = CloudStore::s3(&config, None, Tuning::default(), Arc::new(Machine::start())).unwrap();
    let agent = ureq::Agent::new_with_defaults();
    println!("{mib} MiB, MiB/s        plain PUT   store (parts)   store (128 MiB each)   plain GET   store");
    for _ in 0..runs {
        let plain_put = speed(mib, || {
            let mut reader = &*file;
            io::Seek::rewind(&mut reader).unwrap();
            let mut limited = reader.take(mib << 20);
            let body = ureq::SendBody::from_reader(&mut limited);
            let request = plain(&config, "PUT", "plain").header("content-length", mib << 20).body(body).unwrap();
            assert_eq!(agent.run(request).unwrap().status(), 200);
        });
        let before = store.requests();
        let in_parts = speed(mib, || drop(store.put("parts", &whole, PutMode::Overwrite).unwrap()));
        let requests = store.requests() - before;
        let before = store.requests();
        let segments = speed(mib, || {
            for at in (0..mib).step_by(128) {
                let segment = FileRange::new(Arc::clone(&file), at << 20, mib.min(at + 128).saturating_sub(at) << 20);
                store.put(&format!("segment/{at}"), &segment, PutMode::IfAbsent).unwrap();
            }
        });
        let requests_of_segments = store.requests() - before;
        let plain_get = speed(mib, || {
            let request = plain(&config, "GET", "plain").body(()).unwrap();
            let mut body = agent.run(request).unwrap().into_body().into_reader();
            assert_eq!(io::copy(&mut body, &mut Counter::default()).unwrap(), mib << 20);
        });
        let mut counter = Counter::default();
        let get = speed(mib, || drop(store.get("parts", None, &mut counter).unwrap()));
        assert_eq!(counter.0, mib << 20);
        println!(
            "                    {plain_put:9.0} {in_parts:9.0} ({:3.0} %) {segments:15.0} ({:3.0} %) {plain_get:11.0} \
             {get:7.0} ({:3.0} %)   requests: {requests} and {requests_of_segments}",
            100.0 * in_parts / plain_put,
            100.0 * segments / plain_put,
            100.0 * get / plain_get
        );
        (0..mib).step_by(128).for_each(|at| store.delete(&format!("segment/{at}")).unwrap());
    }
    store.delete("parts").unwrap();
    store.delete("plain").unwrap();
}
