//! Owns a bucket of S3 in this process: it holds objects, and refuses, loses and changes them as a test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chronik::config::storage::{S3Config, Secret};
use chronik::store::{CloudStore, ObjectStore, Tuning};

use crate::store::server::{Reply, Seen, Server};
use crate::store::surroundings::{small, Simulated};

/// An object with its state and the mark of who put it.
type Kept = (Vec<u8>, u64, String);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Kept>,
    puts: u64,
    /// The keys of all uploads that were taken.
    taken: Vec<String>,
    requests: u64,
    /// All that was asked: method and target.
    asked: Vec<String>,
    /// What everything is refused with, once so many uploads more were taken.
    refusal: Option<(u64, u16, &'static str)>,
}

/// The server and what it holds.
pub struct Bucket {
    state: Arc<Mutex<State>>,
    server: Server,
}

const MARK: &str = "x-amz-meta-chronik-nonce";

fn fault(status: u16, code: &str, request: u64) -> Reply {
    // As with the real one, no two answers are the same.
    let told = format!("<Code>{code}</Code><Message>It said so.</Message><RequestId>{request:016X}</RequestId>");
    Reply::new(status, format!("<?xml version=\"1.0\"?><Error>{told}</Error>"))
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Reply {
        self.requests += 1;
        self.asked.push(format!("{} {}", seen.method, seen.target));
        if let Some((left, status, code)) = &mut self.refusal {
            match *left {
                0 => return fault(*status, code, self.requests),
                _ => *left -= u64::from(seen.method == "PUT"),
            }
        }
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let key = path.trim_start_matches("/bucket").trim_start_matches('/').to_owned();
        match seen.method.as_str() {
            "GET" if key.is_empty() => self.listing(query),
            "GET" | "HEAD" => self.object(&key, seen),
            "PUT" => self.take(key, seen),
            "DELETE" => {
                self.objects.remove(&key);
                Reply::new(204, "")
            }
            other => panic!("nobody is expected to ask for {other} {}", seen.target),
        }
    }

    fn listing(&self, query: &str) -> Reply {
        let prefix = query.split('&').find_map(|word| word.strip_prefix("prefix=")).unwrap_or("").replace("%2F", "/");
        let found = self.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        let entries = found.map(|(key, (bytes, etag, _))| {
            let size = bytes.len();
            let time = "2024-01-01T00:00:00.000Z";
            format!(
                "<Contents><Key>{key}</Key><LastModified>{time}</LastModified><ETag>\"{etag}\"</ETag><Size>{size}</Size>\
                 </Contents>"
            )
        });
        let entries: String = entries.collect();
        Reply::new(200, format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"))
    }

    fn object(&self, key: &str, seen: &Seen) -> Reply {
        let Some((bytes, etag, mark)) = self.objects.get(key) else {
            return fault(404, "NoSuchKey", self.requests);
        };
        let tag = format!("\"{etag}\"");
        let only = seen.header("if-match");
        if !only.is_empty() && only != tag {
            return fault(412, "PreconditionFailed", self.requests);
        }
        let (from, to) = match seen.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-')) {
            None => (0, bytes.len()),
            Some((from, to)) => {
                let to = to.parse().map_or(bytes.len(), |last: usize| bytes.len().min(last + 1));
                (from.parse().expect("a position"), to)
            }
        };
        if from > to || (from == to && !bytes.is_empty()) {
            return fault(416, "InvalidRange", self.requests);
        }
        let status = if seen.header("range").is_empty() { 200 } else { 206 };
        let range = format!("bytes {from}-{}/{}", to.saturating_sub(1), bytes.len());
        Reply::new(status, &bytes[from..to]).header("etag", tag).header("content-range", range).header(MARK, mark)
    }

    fn take(&mut self, key: String, seen: &Seen) -> Reply {
        let there = self.objects.get(&key).map(|(_, etag, _)| format!("\"{etag}\""));
        let only = seen.header("if-match");
        let is_refused = (seen.header("if-none-match") == "*" && there.is_some())
            || (!only.is_empty() && there.as_deref() != Some(only));
        if is_refused {
            return fault(412, "PreconditionFailed", self.requests);
        }
        self.puts += 1;
        self.taken.push(key.clone());
        self.objects.insert(key, (seen.body.clone(), self.puts, seen.header(MARK).to_owned()));
        Reply::new(200, "").header("etag", format!("\"{}\"", self.puts))
    }
}

impl Bucket {
    /// Empty.
    pub fn start() -> Bucket {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        Bucket { server: Server::start(move |_, seen| shared.lock().unwrap().answer(seen)), state }
    }

    /// The store that the server under test is given. It waits in a time of its own, which takes none.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        let config = S3Config {
            bucket: Some("bucket".into()),
            endpoint: Some(self.server.url()),
            access_key_id: Some("AKIDEXAMPLE".into()),
            secret_access_key: Some(Secret::new("very-secret")),
            ..S3Config::default()
        };
        // It gives up when its time is over, after three tries or five.
        let tuning = Tuning { single_bytes: 64 << 20, total: Duration::from_secs(1), ..small() };
        Arc::new(CloudStore::s3(&config, None, tuning, Simulated::start()).expect("settings of S3"))
    }

    /// From now on everything is answered so, after `uploads` more that are taken.
    pub fn refuse(&self, uploads: u64, status: u16, code: &'static str) {
        self.state.lock().unwrap().refusal = Some((uploads, status, code));
    }

    pub fn heal(&self) {
        self.state.lock().unwrap().refusal = None;
    }

    /// The objects of segments, with their lengths.
    pub fn segments(&self) -> BTreeMap<String, usize> {
        let state = self.state.lock().unwrap();
        let all = state.objects.iter().map(|(key, kept)| (key.clone(), kept.0.len()));
        all.filter(|(key, _)| key.contains("/segments/")).collect()
    }

    pub fn bytes(&self, key: &str) -> Vec<u8> {
        self.state.lock().unwrap().objects[key].0.clone()
    }

    /// The keys of the segments that were uploaded, one for each upload.
    pub fn uploaded(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.taken.iter().filter(|key| key.contains("/segments/")).cloned().collect()
    }

    /// Every request that came, whatever was answered.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Puts something in behind everybody's back, as another state of the object; `None` takes it away.
    pub fn tamper(&self, key: &str, bytes: Option<Vec<u8>>) {
        let mut state = self.state.lock().unwrap();
        state.puts += 1;
        match bytes {
            Some(bytes) => {
                let puts = state.puts;
                state.objects.insert(key.to_owned(), (bytes, puts, String::new()));
            }
            None => drop(state.objects.remove(key).expect("an object")),
        }
    }
}
