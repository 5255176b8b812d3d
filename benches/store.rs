//! Measures a store for S3 against plain requests of the same client: throughput up and down, requests per GiB.
//!
//! `S3_ENDPOINT=http://127.0.0.1:7070 S3_BUCKET=b AWS_ACCESS_KEY_ID=.. AWS_SECRET_ACCESS_KEY=.. cargo bench --bench store`.
//! `MIB` is the size of the object (default 1024), `RUNS` how often everything is done in turn (default 5). With `ONLY=downloads`
//! what is downloaded is uploaded once, and the rest not at all: no upload's bytes are on their way to the disk meanwhile.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chronik::config::storage::S3Config;
use chronik::limits;
use chronik::options::storage_from_env;
use chronik::store::{for_each, get_bytes, CloudStore, FileRange, Machine, ObjectStore, PutMode, Source, Tuning};
use chronik::sys::disk::Disk;
use chronik::sys::real_disk::{RealDisk, Writing};
use chronik::sys::usage::usage;
use chronik::tier::{cache, BlockCache, CacheSettings, Object, StoreSource};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a body is signed and checked with.
struct Sums {
    sha256: String,
    crc32c: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Four bytes in Base64.
fn base64(number: u32) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u64::from(number) << 4;
    let text: String = (0..6).map(|at| DIGITS[(bits >> (30 - 6 * at)) as usize & 63] as char).collect();
    format!("{text}==")
}

/// Reads it once, as whoever signs a body has to before sending it.
fn sums(source: &FileRange) -> Sums {
    let (mut sha256, mut crc32c, mut at, mut buffer) = (Sha256::new(), 0, 0, vec![0; 128 << 10]);
    while at < source.size() {
        let count = source.read_at(at, &mut buffer).unwrap();
        sha256.update(&buffer[..count]);
        crc32c = crc32c::crc32c_append(crc32c, &buffer[..count]);
        at += count as u64;
    }
    Sums { sha256: hex(&sha256.finalize()), crc32c: base64(crc32c) }
}

/// Signs a request for a key with an encoded query: without its body, which is the cheapest that a server takes, or with it and with
/// the checksum that S3's own clients send.
fn plain(
    config: &S3Config,
    method: &str,
    (key, query): (&str, &str),
    sums: Option<&Sums>,
) -> ureq::http::request::Builder {
    let (endpoint, bucket) = (config.endpoint.as_deref().unwrap(), config.bucket.as_deref().unwrap());
    let host = endpoint.split("://").nth(1).unwrap();
    let date = amz_date();
    let scope = format!("{}/us-east-1/s3/aws4_request", &date[..8]);
    let payload = sums.map_or("UNSIGNED-PAYLOAD", |sums| &sums.sha256);
    let mut headers = vec![("host", host)];
    headers.extend(sums.map(|sums| ("x-amz-checksum-crc32c", sums.crc32c.as_str())));
    headers.extend([("x-amz-content-sha256", payload), ("x-amz-date", date.as_str())]);
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!("{method}\n/{bucket}/{key}\n{query}\n{lines}\n{names}\n{payload}");
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
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{endpoint}/{bucket}/{key}?{query}"))
        .header("authorization", value);
    headers.iter().skip(1).fold(request, |request, (name, value)| request.header(*name, *value))
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

/// What something comes to.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// MiB a second.
    speed: f64,
    /// Time of this process's threads for a MiB, in µs. Others at work on the machine change it less than the speed.
    cpu_us: f64,
}

/// What is done for so many MiB.
fn cost(mib: u64, act: impl FnOnce()) -> Cost {
    let cpu = || usage().cpu_seconds.expect("the platform tells");
    let (begin, cpu_begin) = (Instant::now(), cpu());
    act();
    Cost { speed: mib as f64 / begin.elapsed().as_secs_f64(), cpu_us: 1e6 * (cpu() - cpu_begin) / mib as f64 }
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

/// What is measured, and with what it is compared.
const COLUMNS: [(&str, usize); 16] = [
    ("plain PUT, unsigned", 0),
    ("plain PUT, signed, with CRC-32C", 0),
    ("plain PUT, signed, of 128 MiB each", 0),
    ("plain PUT, signed, in parts", 0),
    ("store: one object, in parts", 0),
    ("store: objects of 128 MiB each", 0),
    ("plain GET", 6),
    ("plain GET of the store's object", 6),
    ("plain GETs of ranges of 16 MiB", 6),
    ("store: GET", 6),
    ("store: GET of the plain object", 6),
    ("store: ranges of 16 MiB", 6),
    ("cold read, through the disk cache", 6),
    ("the same when the cache is full", 6),
    ("cold read with CRC-32C, not copied", 6),
    ("the same when the cache is full", 6),
];

/// The column in which the downloads begin.
const DOWNLOADS_FROM: usize = 6;

struct Bench {
    config: S3Config,
    mib: u64,
    file: Arc<File>,
    /// The file's checksum, in Base64.
    crc32c: String,
    store: Arc<CloudStore>,
    disk: Arc<dyn Disk>,
    agent: ureq::Agent,
}

impl Bench {
    fn put(&self, key: &str, from: u64, mib: u64, is_signed: bool) {
        self.put_part((key, ""), from, mib, is_signed);
    }

    /// The state that the server gives it.
    fn put_part(&self, at: (&str, &str), from: u64, mib: u64, is_signed: bool) -> String {
        let piece = FileRange::new(Arc::clone(&self.file), from << 20, mib << 20);
        let sums = is_signed.then(|| sums(&piece));
        let mut reader = Reading { source: &piece, at: 0 };
        let body = ureq::SendBody::from_reader(&mut reader);
        let request = plain(&self.config, "PUT", at, sums.as_ref()).header("content-length", mib << 20).body(body);
        let response = self.agent.run(request.unwrap()).unwrap();
        assert_eq!(response.status(), 200);
        response.headers()["etag"].to_str().unwrap().to_owned()
    }

    /// What a POST is answered with.
    fn post(&self, at: (&str, &str), body: &str) -> String {
        let request = plain(&self.config, "POST", at, None).header("content-type", "application/xml").body(body);
        let mut response = self.agent.run(request.unwrap()).unwrap();
        assert_eq!(response.status(), 200);
        response.body_mut().read_to_string().unwrap()
    }

    /// The parts that the store makes, each signed before it is sent and with nothing done meanwhile.
    fn put_in_parts(&self, key: &str) {
        let begun = self.post((key, "uploads="), "");
        let id = begun.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
        let part_mib = limits::STORE_PART_BYTES >> 20;
        let mut parts = String::new();
        for (number, at) in (1..).zip((0..self.mib).step_by(part_mib as usize)) {
            let query = format!("partNumber={number}&uploadId={id}");
            let etag = self.put_part((key, &query), at, part_mib.min(self.mib - at), true);
            parts += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        self.post((key, &format!("uploadId={id}")), &body);
    }

    fn get(&self, key: &str) {
        assert_eq!(self.get_range(key, None), self.mib << 20);
    }

    /// How many bytes came.
    fn get_range(&self, key: &str, range: Option<Range<u64>>) -> u64 {
        let mut request = plain(&self.config, "GET", (key, ""), None);
        if let Some(range) = range {
            request = request.header("range", format!("bytes={}-{}", range.start, range.end - 1));
        }
        let request = request.body(()).unwrap();
        let mut body = self.agent.run(request).unwrap().into_body().into_reader();
        // As large as the store's buffer.
        let (mut buffer, mut bytes) = (vec![0; 128 << 10], 0);
        loop {
            match body.read(&mut buffer).unwrap() {
                0 => break,
                count => bytes += count as u64,
            }
        }
        bytes
    }

    /// An empty cache of so many MiB.
    fn cache(&self, mib: u64) -> Arc<BlockCache> {
        let settings = CacheSettings {
            block_bytes: limits::TIER_BLOCK_BYTES,
            slab_bytes: limits::TIER_SLAB_BYTES,
            bytes_max: mib << 20,
            ahead_blocks_max: limits::TIER_AHEAD_BLOCKS_MAX,
            free_bytes_min: 0,
            memory_bytes_max: limits::TIER_MEMORY_BYTES,
        };
        let source = Arc::new(StoreSource(Arc::clone(&self.store) as Arc<dyn ObjectStore>));
        Arc::new(BlockCache::open(Arc::clone(&self.disk), source, settings).unwrap())
    }

    /// Reads an object from its beginning to its end, with the threads that work for the readers: into a buffer, or as a consumer's
    /// reader does, which makes the checksum of what is in memory where it lies.
    fn cold_read(&self, key: &str, blocks: &Arc<BlockCache>, is_copied: bool) {
        let helpers = cache::start_helpers(blocks).unwrap();
        let object = Object { key: key.into(), bytes: self.mib << 20 };
        let mut piece = vec![0; limits::READ_PIECE_BYTES];
        let (mut at, mut crc) = (0, 0);
        while at < object.bytes {
            let lent = if is_copied { None } else { blocks.lend(&object, at, 1).unwrap() };
            at += match lent {
                Some(lent) => {
                    crc = crc32c::crc32c_append(crc, &lent);
                    lent.len() as u64
                }
                None => {
                    let count = blocks.read_at(&object, &mut piece, at).unwrap();
                    crc = if is_copied { 0 } else { crc32c::crc32c_append(crc, &piece[..count]) };
                    count as u64
                }
            };
        }
        assert!(is_copied || base64(crc) == self.crc32c, "other bytes came than were sent");
        blocks.stop_helpers();
        helpers.into_iter().for_each(|helper| assert!(helper.join()));
    }

    /// What reading an object comes to when the cache is empty, and when it is full of what was read before.
    fn cold_reads(&self, key: &str, is_copied: bool) -> [Cost; 2] {
        let cache = self.cache(2 * self.mib);
        let cold = cost(self.mib, || self.cold_read(key, &cache, is_copied));
        drop(cache);
        let cache = self.cache(self.mib / 4);
        self.cold_read(key, &cache, is_copied);
        [cold, cost(self.mib, || self.cold_read(key, &cache, is_copied))]
    }

    /// Where the pieces of the object begin that are as large as segments are, and how long they are, in MiB.
    fn pieces(&self) -> impl Iterator<Item = (u64, u64)> {
        let mib = self.mib;
        (0..mib).step_by(128).map(move |at| (at, mib.min(at + 128) - at))
    }

    /// Removes what a run leaves, this one or one that was killed: uploads that want to be the first fail where there is something.
    fn tidy(&self) {
        self.remove_pieces();
        ["one", "plain", "parts"].iter().for_each(|key| self.store.delete(key).unwrap());
    }

    fn remove_pieces(&self) {
        for prefix in ["segment/", "pieces/"] {
            for_each(&*self.store, prefix, |object| self.store.delete(&object.key)).unwrap();
        }
    }

    /// What each column of the uploads comes to, and the store's requests for one object and for several.
    fn uploads(&self) -> ([Cost; DOWNLOADS_FROM], u64, u64) {
        let (mib, store) = (self.mib, &*self.store);
        let unsigned = cost(mib, || self.put("plain", 0, mib, false));
        let signed = cost(mib, || self.put("plain", 0, mib, true));
        let signed_pieces =
            cost(mib, || self.pieces().for_each(|(at, len)| self.put(&format!("pieces/{at}"), at, len, true)));
        let in_parts = cost(mib, || self.put_in_parts("parts"));
        store.delete("parts").unwrap();
        let before = store.requests();
        let whole = FileRange::new(Arc::clone(&self.file), 0, mib << 20);
        let one = cost(mib, || drop(store.put("one", &whole, PutMode::Overwrite).unwrap()));
        let of_one = store.requests() - before;
        let segments = cost(mib, || {
            for (at, len) in self.pieces() {
                let segment = FileRange::new(Arc::clone(&self.file), at << 20, len << 20);
                store.put(&format!("segment/{at}"), &segment, PutMode::IfAbsent).unwrap();
            }
        });
        let of_segments = store.requests() - before - of_one;
        self.remove_pieces();
        ([unsigned, signed, signed_pieces, in_parts, one, segments], of_one, of_segments)
    }

    /// What each column of the downloads comes to.
    fn downloads(&self) -> [Cost; COLUMNS.len() - DOWNLOADS_FROM] {
        let (mib, store) = (self.mib, &*self.store);
        let plain_get = cost(mib, || self.get("plain"));
        let plain_get_one = cost(mib, || self.get("one"));
        let sixteens = || (0..mib).step_by(16).map(|at| at << 20..mib.min(at + 16) << 20);
        let plain_ranges = cost(mib, || {
            let bytes: u64 = sixteens().map(|range| self.get_range("one", Some(range))).sum();
            assert_eq!(bytes, mib << 20);
        });
        let mut counter = Counter::default();
        let get = cost(mib, || drop(store.get("one", None, &mut counter).unwrap()));
        let get_plain = cost(mib, || drop(store.get("plain", None, &mut counter).unwrap()));
        let ranges = cost(mib, || {
            for range in sixteens() {
                let (bytes, _) = get_bytes(store, "one", Some(range), 16 << 20).unwrap();
                counter.0 += bytes.len() as u64;
            }
        });
        assert_eq!(counter.0, (3 * mib) << 20);
        let ([cold, full], [lent, lent_full]) = (self.cold_reads("one", true), self.cold_reads("one", false));
        [plain_get, plain_get_one, plain_ranges, get, get_plain, ranges, cold, full, lent, lent_full]
    }

    /// Puts what is downloaded there.
    fn prepare(&self) {
        self.put("plain", 0, self.mib, true);
        let whole = FileRange::new(Arc::clone(&self.file), 0, self.mib << 20);
        self.store.put("one", &whole, PutMode::Overwrite).unwrap();
    }
}

/// A source from its beginning to its end.
struct Reading<'a> {
    source: &'a FileRange,
    at: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read_at(self.at, buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The middle, the lowest and the highest.
fn spread(mut all: Vec<f64>) -> (f64, f64, f64) {
    all.sort_by(f64::total_cmp);
    (all[all.len() / 2], all[0], all[all.len() - 1])
}

fn main() {
    let config = storage_from_env(&|name| std::env::var_os(name)).expect("settings of storage").s3;
    if config.endpoint.is_none() || config.bucket.is_none() || config.secret_access_key.is_none() {
        println!("set S3_ENDPOINT, S3_BUCKET, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to measure a store");
        return;
    }
    let (mib, runs) = (number("MIB", 1024), number("RUNS", 5));
    let path = std::env::temp_dir().join(format!("chronik-bench-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let piece: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    (0..mib).for_each(|_| file.write_all(&piece).unwrap());
    let store = Arc::new(CloudStore::s3(&config, None, Tuning::default(), Arc::new(Machine::start())).unwrap());
    std::fs::create_dir_all(&path).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&path, Writing::Auto).unwrap());
    let (file, agent) = (Arc::new(file), ureq::Agent::new_with_defaults());
    let crc32c = sums(&FileRange::new(Arc::clone(&file), 0, mib << 20)).crc32c;
    let bench = Bench { config, mib, file, crc32c, store, disk, agent };
    bench.tidy();
    let is_whole = std::env::var_os("ONLY").is_none_or(|only| only != "downloads");
    if !is_whole {
        bench.prepare();
    }
    let first = if is_whole { 0 } else { DOWNLOADS_FROM };
    let mut rounds = Vec::new();
    for _ in 0..runs {
        let mut costs = [Cost::default(); COLUMNS.len()];
        let mut requests = String::new();
        if is_whole {
            let (uploads, of_one, of_segments) = bench.uploads();
            costs[..DOWNLOADS_FROM].copy_from_slice(&uploads);
            requests = format!("requests: {of_one} and {of_segments}");
        }
        costs[DOWNLOADS_FROM..].copy_from_slice(&bench.downloads());
        println!("{} {requests}", costs.map(|cost| format!("{:5.0}", cost.speed))[first..].join(" "));
        rounds.push(costs);
    }
    report(mib, first, &rounds);
    bench.tidy();
    let _ = std::fs::remove_dir_all(&path);
}

/// Says what the columns from the first that was measured on have come to.
fn report(mib: u64, first: usize, rounds: &[[Cost; COLUMNS.len()]]) {
    let runs = rounds.len();
    println!("{mib} MiB, {runs} rounds               MiB/s: middle (lowest to highest)   % of the first of its kind in the round   own CPU, µs per MiB");
    for (at, (name, base)) in COLUMNS.iter().enumerate().skip(first) {
        let (middle, low, high) = spread(rounds.iter().map(|round| round[at].speed).collect());
        let cpu_us = spread(rounds.iter().map(|round| round[at].cpu_us).collect()).0;
        let (part, least, most) =
            spread(rounds.iter().map(|round| 100.0 * round[at].speed / round[*base].speed).collect());
        println!(
            "{name:38} {middle:6.0} ({low:.0} to {high:.0})   {part:4.0} % ({least:.0} to {most:.0})   {cpu_us:5.0}"
        );
    }
}
