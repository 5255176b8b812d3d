//! Owns the counters, gauges and histograms, and their Prometheus text.
//!
//! Updates are relaxed atomic additions, cheap enough for every request. The text is made when
//! somebody asks, in the exposition format 0.0.4. What only others know (names of APIs and errors,
//! the lag of consumer groups) is handed in with [`Scrape`], so that this room knows nobody.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::logging;
use crate::sys::usage::{usage, Usage};

/// The `Content-Type` of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// API keys from 0 to below this have a counter of their own; others share one.
const API_KEYS_MAX: usize = 128;
/// Most pairs of API and error that are told apart; further ones share one.
const ERROR_PAIRS_MAX: usize = 1024;
/// Most samples of one [`Family`]; what is over is left out, and said in `chronik_metrics_truncated`.
pub const FAMILY_SAMPLES_MAX: usize = 10_000;
/// Most buckets of a histogram, the one for infinity not counted.
const BUCKETS_MAX: usize = 20;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// How values are spread over fixed buckets.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, ascending, in the unit of the values.
    bounds: &'static [u64],
    /// One value in the text is this many of the values observed.
    per_unit: f64,
    buckets: [AtomicU64; BUCKETS_MAX + 1],
    sum: AtomicU64,
}

/// From 50 microseconds to 10 seconds.
const LATENCY_US: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];
/// From one block to 64 MiB.
const GROUP_BYTES: &[u64] = &[
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
    8 << 20,
    16 << 20,
    64 << 20,
];
const _: () = assert!(LATENCY_US.len() <= BUCKETS_MAX && GROUP_BYTES.len() <= BUCKETS_MAX);

impl Histogram {
    fn latency() -> Histogram {
        Histogram::new(LATENCY_US, 1e6)
    }

    fn new(bounds: &'static [u64], per_unit: f64) -> Histogram {
        Histogram { bounds, per_unit, buckets: Default::default(), sum: AtomicU64::new(0) }
    }

    /// Counts one value: microseconds for a latency, bytes for a size.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Values counted so far.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.load(Relaxed)).sum()
    }
}

/// The disk cache of objects: blocks that were there and that were not, requests to the store, bytes that they brought, those
/// that failed, and bytes that are kept.
#[derive(Debug, Default)]
pub struct TierCache {
    pub hits: Gauge,
    pub misses: Gauge,
    pub requests: Gauge,
    pub fetched_bytes: Gauge,
    pub failures: Gauge,
    pub bytes: Gauge,
}

/// Everything the server counts. Share it in an `Arc`; every method takes `&self`.
#[derive(Debug)]
pub struct Metrics {
    /// Records that producers sent, refused ones included.
    pub messages_received: Counter,
    /// Records that are durable.
    pub messages_stored: Counter,
    /// Bytes read from Kafka connections.
    pub bytes_received: Counter,
    /// Bytes written to Kafka connections.
    pub bytes_sent: Counter,
    /// From a Produce request read to its answer queued, in microseconds.
    pub produce_latency: Histogram,
    /// From a Fetch request read to its answer queued, in microseconds; waiting for data counts.
    pub fetch_latency: Histogram,
    /// One turn of the reactor, in microseconds, from when it has waited until it waits again; and what it used of a processor.
    pub reactor_turn: Histogram,
    pub reactor_turn_cpu: Histogram,
    /// One durable write of the log, in microseconds.
    pub wal_fsync_latency: Histogram,
    /// One group as written to the log, in bytes, padding included.
    pub wal_group_bytes: Histogram,
    /// Bytes that the data directory holds.
    pub storage_usage_bytes: Gauge,
    /// Of these, bytes of batches that live, and the rest: deleted batches, metadata, padding, indexes.
    pub storage_live_bytes: Gauge,
    pub storage_dead_bytes: Gauge,
    /// Packs that tidying made, and how often it failed.
    pub tidy_jobs: Counter,
    pub tidy_failures: Counter,
    /// Bytes that tidying has read and written for them.
    pub tidy_read_bytes: Counter,
    pub tidy_written_bytes: Counter,
    /// Bytes of sealed segments that the object store lacks, that it has, and that only it has.
    pub tier_lag_bytes: Gauge,
    pub tier_stored_bytes: Gauge,
    pub tier_remote_bytes: Gauge,
    /// Segments whose local copy went.
    pub tier_evicted_segments: Counter,
    /// Bytes of packs that took in what was to stay of such segments.
    pub tier_relocated_bytes: Counter,
    /// Bytes of packs that took in what lives in objects of which much was deleted.
    pub tier_shrunk_bytes: Counter,
    /// Uploads of the log that came to their end, those that failed, and the bytes that were sent.
    pub tier_uploads: Counter,
    pub tier_upload_failures: Counter,
    pub tier_uploaded_bytes: Counter,
    /// When the log was caught of the last one, seconds since 1970; 0 for none.
    pub tier_last_upload_seconds: Gauge,
    /// What the disk cache of objects has done and holds, as of the last scrape.
    pub tier_cache: TierCache,
    /// Fetch sessions, and the partitions that they remember.
    pub fetch_sessions: Gauge,
    pub fetch_session_partitions: Gauge,
    /// Fetch sessions that made room for others.
    pub fetch_sessions_evicted: Counter,
    /// Transactions that are under way.
    pub transactions_open: Gauge,
    /// Backups that the server made, and that it failed to make.
    pub backups_made: Counter,
    pub backups_failed: Counter,
    /// When the directory of the last one was caught, seconds since 1970; 0 for none.
    pub backup_last_success_seconds: Gauge,
    /// Bytes of the last one, and those that had to be sent for it.
    pub backup_last_bytes: Gauge,
    pub backup_last_sent_bytes: Gauge,
    /// How long the last one took, in whole seconds, rounded up.
    pub backup_last_duration_seconds: Gauge,
    /// Open Kafka connections.
    pub active_connections: Gauge,
    /// Memory of requests that are being received or carried out, in bytes.
    pub request_memory_bytes: Gauge,
    /// Memory of answers that wait to be sent, in bytes.
    pub response_memory_bytes: Gauge,
    /// Kafka connections accepted.
    pub connections_accepted: Counter,
    /// Kafka connections refused or closed because a limit was reached.
    pub connections_refused: Counter,
    requests: Box<[Counter; API_KEYS_MAX + 1]>,
    /// Locked only where an error is answered, and by a scrape.
    errors: Mutex<BTreeMap<(i16, i16), u64>>,
    errors_beyond: Counter,
    started: Duration,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// All zero; the process counts as started now.
    pub fn new() -> Metrics {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Metrics {
            messages_received: Counter::default(),
            messages_stored: Counter::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            produce_latency: Histogram::latency(),
            fetch_latency: Histogram::latency(),
            reactor_turn: Histogram::latency(),
            reactor_turn_cpu: Histogram::latency(),
            wal_fsync_latency: Histogram::latency(),
            wal_group_bytes: Histogram::new(GROUP_BYTES, 1.0),
            storage_usage_bytes: Gauge::default(),
            storage_live_bytes: Gauge::default(),
            storage_dead_bytes: Gauge::default(),
            tidy_jobs: Counter::default(),
            tidy_failures: Counter::default(),
            tier_lag_bytes: Gauge::default(),
            tier_stored_bytes: Gauge::default(),
            tier_remote_bytes: Gauge::default(),
            tier_evicted_segments: Counter::default(),
            tier_relocated_bytes: Counter::default(),
            tier_shrunk_bytes: Counter::default(),
            tier_uploads: Counter::default(),
            tier_upload_failures: Counter::default(),
            tier_uploaded_bytes: Counter::default(),
            tier_last_upload_seconds: Gauge::default(),
            tier_cache: TierCache::default(),
            tidy_read_bytes: Counter::default(),
            tidy_written_bytes: Counter::default(),
            fetch_sessions: Gauge::default(),
            fetch_session_partitions: Gauge::default(),
            fetch_sessions_evicted: Counter::default(),
            transactions_open: Gauge::default(),
            backups_made: Counter::default(),
            backups_failed: Counter::default(),
            backup_last_success_seconds: Gauge::default(),
            backup_last_bytes: Gauge::default(),
            backup_last_sent_bytes: Gauge::default(),
            backup_last_duration_seconds: Gauge::default(),
            active_connections: Gauge::default(),
            request_memory_bytes: Gauge::default(),
            response_memory_bytes: Gauge::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            requests: Box::new(std::array::from_fn(|_| Counter::default())),
            errors: Mutex::default(),
            errors_beyond: Counter::default(),
            started: now.unwrap_or_default(),
        }
    }

    /// Counts a request of API `api_key`, which may be any number.
    pub fn request(&self, api_key: i16) {
        let known = usize::try_from(api_key).ok().filter(|k| *k < API_KEYS_MAX);
        self.requests[known.unwrap_or(API_KEYS_MAX)].inc();
    }

    /// Counts an error that a request of API `api_key` was answered with; 0, no error, is not counted.
    pub fn request_error(&self, api_key: i16, error_code: i16) {
        if error_code == 0 {
            return;
        }
        let mut errors = self.errors.lock();
        let full = errors.len() >= ERROR_PAIRS_MAX;
        match errors.get_mut(&(api_key, error_code)) {
            Some(count) => *count += 1,
            None if full => self.errors_beyond.inc(),
            None => {
                errors.insert((api_key, error_code), 1);
            }
        }
    }

    /// The whole text, in the exposition format 0.0.4.
    pub fn render(&self, scrape: &Scrape<'_>) -> String {
        let mut text = Text::default();
        text.single("chronik_build_info", "gauge", "Which version is running; always 1.");
        text.sample("chronik_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.render_data(&mut text);
        self.render_times(&mut text);
        self.render_backups(&mut text);
        self.render_tiers(&mut text);
        self.render_requests(&mut text, scrape);
        text.counter(
            "chronik_log_lines_dropped_total",
            "Log lines lost because nobody read them in time.",
            logging::dropped_lines(),
        );
        let truncated = render_families(&mut text, scrape.families);
        text.gauge(
            "chronik_metrics_truncated",
            "Samples left out of this answer because a list was too long.",
            truncated as i64,
        );
        render_process(&mut text, &usage(), self.started);
        text.0
    }

    fn render_data(&self, text: &mut Text) {
        for (name, help, counter) in [
            ("chronik_messages_received_total", "Records that producers sent.", &self.messages_received),
            ("chronik_messages_stored_total", "Records made durable.", &self.messages_stored),
            ("chronik_tidy_packs_total", "Packs that tidying made of other segments of the log.", &self.tidy_jobs),
            ("chronik_tidy_failures_total", "Tidyings that failed.", &self.tidy_failures),
            ("chronik_tidy_read_bytes_total", "Bytes of the log that tidying read.", &self.tidy_read_bytes),
            ("chronik_tidy_written_bytes_total", "Bytes that tidying wrote.", &self.tidy_written_bytes),
            ("chronik_bytes_received_total", "Bytes read from Kafka clients.", &self.bytes_received),
            ("chronik_bytes_sent_total", "Bytes written to Kafka clients.", &self.bytes_sent),
            ("chronik_connections_accepted_total", "Kafka connections accepted.", &self.connections_accepted),
            (
                "chronik_connections_refused_total",
                "Kafka connections refused because of a limit.",
                &self.connections_refused,
            ),
            (
                "chronik_fetch_sessions_evicted_total",
                "Fetch sessions that were ended to make room for others.",
                &self.fetch_sessions_evicted,
            ),
        ] {
            text.counter(name, help, counter.get());
        }
        for (name, help, gauge) in [
            (
                "chronik_storage_usage_bytes",
                "Bytes written in the log's segments; space reserved ahead is not counted.",
                &self.storage_usage_bytes,
            ),
            (
                "chronik_storage_live_bytes",
                "Bytes of record batches in the log's segments that have not been deleted.",
                &self.storage_live_bytes,
            ),
            (
                "chronik_storage_dead_bytes",
                "Bytes of the log's segments that are no living batch: deleted ones, metadata, padding, indexes.",
                &self.storage_dead_bytes,
            ),
            ("chronik_transactions_open", "Transactions that are under way.", &self.transactions_open),
            ("chronik_active_connections", "Open Kafka connections.", &self.active_connections),
            (
                "chronik_request_memory_bytes",
                "Memory of requests that are being received or carried out.",
                &self.request_memory_bytes,
            ),
            ("chronik_response_memory_bytes", "Memory of answers that wait to be sent.", &self.response_memory_bytes),
            ("chronik_fetch_sessions", "Fetch sessions (KIP-227).", &self.fetch_sessions),
            (
                "chronik_fetch_session_partitions",
                "Partitions that fetch sessions remember.",
                &self.fetch_session_partitions,
            ),
        ] {
            text.gauge(name, help, gauge.get());
        }
    }

    fn render_times(&self, text: &mut Text) {
        for (name, help, histogram) in [
            ("chronik_produce_latency_seconds", "From a Produce request to its answer.", &self.produce_latency),
            (
                "chronik_fetch_latency_seconds",
                "From a Fetch request to its answer, waiting included.",
                &self.fetch_latency,
            ),
            (
                "chronik_reactor_turn_seconds",
                "One turn of the loop that serves all connections: for so long the others wait.",
                &self.reactor_turn,
            ),
            (
                "chronik_reactor_turn_cpu_seconds",
                "Processor time of one such turn: what it would take on a machine of its own.",
                &self.reactor_turn_cpu,
            ),
            ("chronik_wal_fsync_latency_seconds", "One durable write of the log.", &self.wal_fsync_latency),
            ("chronik_wal_group_bytes", "Bytes of one group written to the log.", &self.wal_group_bytes),
        ] {
            text.histogram(name, help, histogram);
        }
    }

    fn render_tiers(&self, text: &mut Text) {
        for (name, help, counter) in [
            ("chronik_tier_uploads_total", "Uploads of the log to the object store.", &self.tier_uploads),
            ("chronik_tier_upload_failures_total", "Uploads of the log that failed.", &self.tier_upload_failures),
            ("chronik_tier_uploaded_bytes_total", "Bytes sent to the object store.", &self.tier_uploaded_bytes),
            (
                "chronik_tier_evicted_segments_total",
                "Segments whose local copy was removed because the object store has them.",
                &self.tier_evicted_segments,
            ),
            (
                "chronik_tier_relocated_bytes_total",
                "Bytes written so that compacted topics stay here when the segments that held them go.",
                &self.tier_relocated_bytes,
            ),
            (
                "chronik_tier_shrunk_bytes_total",
                "Bytes fetched and written anew because half or more of their object was deleted.",
                &self.tier_shrunk_bytes,
            ),
        ] {
            text.counter(name, help, counter.get());
        }
        let TierCache { hits, misses, requests, fetched_bytes, failures, bytes } = &self.tier_cache;
        for (name, help, gauge) in [
            ("chronik_tier_cache_hits_total", "Blocks of objects that the disk cache had.", hits),
            ("chronik_tier_cache_misses_total", "Blocks of objects that it did not have.", misses),
            ("chronik_tier_fetches_total", "Requests for parts of objects.", requests),
            ("chronik_tier_fetched_bytes_total", "Bytes of objects that they brought.", fetched_bytes),
            ("chronik_tier_fetch_failures_total", "Requests for parts of objects that failed.", failures),
        ] {
            text.counter(name, help, u64::try_from(gauge.get()).unwrap_or(0));
        }
        for (name, help, gauge) in [
            ("chronik_tier_lag_bytes", "Bytes of sealed segments that the object store lacks.", &self.tier_lag_bytes),
            ("chronik_tier_stored_bytes", "Bytes of segments that are in the object store.", &self.tier_stored_bytes),
            ("chronik_tier_remote_bytes", "Bytes of segments that only the object store has.", &self.tier_remote_bytes),
            ("chronik_tier_cache_bytes", "Bytes of the disk cache of objects.", bytes),
            (
                "chronik_tier_last_upload_timestamp_seconds",
                "The time that the newest upload of the log holds, in seconds since 1970; 0 if none is known.",
                &self.tier_last_upload_seconds,
            ),
        ] {
            text.gauge(name, help, gauge.get());
        }
    }

    fn render_backups(&self, text: &mut Text) {
        text.counter("chronik_backups_total", "Backups that the server made.", self.backups_made.get());
        let help = "Backups that the server failed to make.";
        text.counter("chronik_backup_failures_total", help, self.backups_failed.get());
        let of_last = [
            (
                "chronik_backup_last_success_timestamp_seconds",
                "The time that the newest backup holds, in seconds since 1970; 0 if none is known.",
                &self.backup_last_success_seconds,
            ),
            ("chronik_backup_last_bytes", "Bytes of the newest backup.", &self.backup_last_bytes),
            ("chronik_backup_last_sent_bytes", "Bytes sent for the newest backup.", &self.backup_last_sent_bytes),
            (
                "chronik_backup_last_duration_seconds",
                "How long the newest backup took, in whole seconds, rounded up.",
                &self.backup_last_duration_seconds,
            ),
        ];
        for (name, help, gauge) in of_last {
            text.gauge(name, help, gauge.get());
        }
    }

    fn render_requests(&self, text: &mut Text, scrape: &Scrape<'_>) {
        let name = "chronik_requests_total";
        text.single(name, "counter", "Requests by API.");
        // APIs without a name share one sample, since a label set may appear only once.
        let mut unknown = 0;
        for (key, counter) in self.requests.iter().enumerate() {
            match (scrape.api_name)(key as i16).filter(|_| key < API_KEYS_MAX) {
                Some(api) if counter.get() > 0 => text.sample(name, &[("api", api)], counter.get()),
                Some(_) => (),
                None => unknown += counter.get(),
            }
        }
        text.sample(name, &[("api", "unknown")], unknown);

        let name = "chronik_request_errors_total";
        text.single(name, "counter", "Errors that requests were answered with, by API and error.");
        let mut by_name = BTreeMap::new();
        for (&(api, error), &count) in self.errors.lock().iter() {
            let api = (scrape.api_name)(api).unwrap_or("unknown");
            let error = (scrape.error_name)(error).unwrap_or("unknown");
            *by_name.entry((api, error)).or_insert(0) += count;
        }
        for ((api, error), count) in by_name {
            text.sample(name, &[("api", api), ("error", error)], count);
        }
        let beyond = self.errors_beyond.get();
        text.sample(name, &[("api", "other"), ("error", "other")], beyond);
    }
}

/// What a scrape needs from others.
pub struct Scrape<'a> {
    /// The name of an API key, as Kafka spells it; the same name for one key only.
    pub api_name: fn(i16) -> Option<&'static str>,
    /// The name of an error code.
    pub error_name: fn(i16) -> Option<&'static str>,
    /// Further metrics, each name once.
    pub families: &'a [Family],
}

/// One metric with labels, made at the time of the scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, in Prometheus' spelling.
    pub name: &'static str,
    /// True if it only grows; its name then ends in `_total`.
    pub counter: bool,
    /// One sentence.
    pub help: &'static str,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// For each sample the values of the labels, in their order, and the number. No two samples
    /// have the same values.
    pub samples: Vec<(Vec<String>, i64)>,
}

/// `chronik_consumer_group_lag`, from group, topic, partition and the number of records between
/// the committed offset and the high watermark. Takes no more than can be shown.
pub fn consumer_group_lag(lags: impl Iterator<Item = (String, String, i32, i64)>) -> Family {
    Family {
        name: "chronik_consumer_group_lag",
        counter: false,
        help: "Records between a group's committed offset and the high watermark.",
        labels: &["group", "topic", "partition"],
        // One more than fits, so that the cut is noticed and told.
        samples: lags
            .take(FAMILY_SAMPLES_MAX + 1)
            .map(|(group, topic, partition, lag)| (vec![group, topic, partition.to_string()], lag))
            .collect(),
    }
}

/// Writes the families and returns how many samples were left out.
fn render_families(text: &mut Text, families: &[Family]) -> usize {
    let mut left_out = 0;
    for family in families {
        let kind = if family.counter { "counter" } else { "gauge" };
        text.single(family.name, kind, family.help);
        for (values, number) in family.samples.iter().take(FAMILY_SAMPLES_MAX) {
            let labels = family.labels.iter().copied();
            let pairs: Vec<_> = labels.zip(values.iter().map(String::as_str)).collect();
            text.sample(family.name, &pairs, number);
        }
        left_out += family.samples.len().saturating_sub(FAMILY_SAMPLES_MAX);
    }
    left_out
}

/// The names that every Prometheus client library uses for these.
fn render_process(text: &mut Text, usage: &Usage, started: Duration) {
    if let Some(seconds) = usage.cpu_seconds {
        let name = "process_cpu_seconds_total";
        text.single(name, "counter", "User and system time used, in seconds.");
        text.sample(name, &[], seconds);
    }
    for (name, help, number) in [
        ("process_resident_memory_bytes", "Memory held, in bytes.", usage.resident_bytes),
        ("process_open_fds", "Open file descriptors.", usage.open_fds),
        ("process_max_fds", "Most file descriptors the process may open.", usage.max_fds),
        ("process_threads", "Threads.", usage.threads),
    ] {
        if let Some(number) = number {
            text.single(name, "gauge", help);
            text.sample(name, &[], number);
        }
    }
    let name = "process_start_time_seconds";
    text.single(name, "gauge", "When the process started, in seconds since 1970.");
    text.sample(name, &[], started.as_secs_f64());
}

/// The text as it grows.
#[derive(Default)]
struct Text(String);

// Writing to a String cannot fail, so the results of write! are dropped.
impl Text {
    /// HELP and TYPE, which stand once before a metric's samples.
    fn single(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) {
        self.single(name, "counter", help);
        self.sample(name, &[], count);
    }

    fn gauge(&mut self, name: &str, help: &str, number: i64) {
        self.single(name, "gauge", help);
        self.sample(name, &[], number);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], number: impl std::fmt::Display) {
        self.0.push_str(name);
        for (i, (label, value)) in labels.iter().enumerate() {
            self.0.push(if i == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            self.escape(value);
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {number}");
    }

    fn escape(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.single(name, "histogram", help);
        let mut count = 0;
        let bucket = format!("{name}_bucket");
        for (i, counted) in histogram.buckets.iter().enumerate() {
            if i > histogram.bounds.len() {
                break;
            }
            count += counted.load(Relaxed);
            let le = match histogram.bounds.get(i) {
                Some(bound) => (*bound as f64 / histogram.per_unit).to_string(),
                None => "+Inf".to_string(),
            };
            self.sample(&bucket, &[("le", &le)], count);
        }
        let sum = histogram.sum.load(Relaxed) as f64 / histogram.per_unit;
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_name(key: i16) -> Option<&'static str> {
        ["Produce", "Fetch"].get(usize::try_from(key).ok()?).copied()
    }

    fn error_name(code: i16) -> Option<&'static str> {
        (code == 3).then_some("UNKNOWN_TOPIC_OR_PARTITION")
    }

    fn rendered(metrics: &Metrics, families: &[Family]) -> String {
        metrics.render(&Scrape { api_name, error_name, families })
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }

    #[test]
    fn what_is_counted_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.messages_received.add(5);
        metrics.messages_stored.add(4);
        metrics.active_connections.add(2);
        metrics.active_connections.add(-1);
        metrics.storage_usage_bytes.set(4096);
        metrics.request(0);
        metrics.request(99);
        metrics.request(-1);
        metrics.request(i16::MAX);
        metrics.request_error(0, 3);
        metrics.request_error(0, 0);
        metrics.request_error(99, -7);
        metrics.request_error(98, -7);
        let text = rendered(&metrics, &[]);
        has(&text, "chronik_messages_received_total 5");
        has(&text, "chronik_messages_stored_total 4");
        has(&text, "chronik_active_connections 1");
        has(&text, "chronik_storage_usage_bytes 4096");
        has(&text, "chronik_requests_total{api=\"Produce\"} 1");
        has(&text, "chronik_requests_total{api=\"unknown\"} 3");
        has(&text, "chronik_request_errors_total{api=\"Produce\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"} 1");
        has(&text, "chronik_request_errors_total{api=\"unknown\",error=\"unknown\"} 2");
    }

    #[test]
    fn buckets_are_cumulative_and_in_base_units() {
        let metrics = Metrics::new();
        for us in [0, 50, 51, 1_000, 20_000_000] {
            metrics.produce_latency.observe(us);
        }
        metrics.wal_group_bytes.observe(4096);
        let text = rendered(&metrics, &[]);
        has(&text, "chronik_produce_latency_seconds_bucket{le=\"0.00005\"} 2");
        has(&text, "chronik_produce_latency_seconds_bucket{le=\"0.0001\"} 3");
        has(&text, "chronik_produce_latency_seconds_bucket{le=\"0.001\"} 4");
        has(&text, "chronik_produce_latency_seconds_bucket{le=\"10\"} 4");
        has(&text, "chronik_produce_latency_seconds_bucket{le=\"+Inf\"} 5");
        has(&text, "chronik_produce_latency_seconds_sum 20.001101");
        has(&text, "chronik_produce_latency_seconds_count 5");
        has(&text, "chronik_wal_group_bytes_bucket{le=\"4096\"} 1");
        assert_eq!(metrics.produce_latency.count(), 5);
    }

    #[test]
    fn labels_are_escaped() {
        let name = "a\"b\\c\nd".to_string();
        let lag = consumer_group_lag([(name, "t".into(), 0, 7)].into_iter());
        let text = rendered(&Metrics::new(), &[lag]);
        let line = r#"chronik_consumer_group_lag{group="a\"b\\c\nd",topic="t",partition="0"} 7"#;
        has(&text, line);
        has(&text, "chronik_metrics_truncated 0");
    }

    #[test]
    fn long_lists_are_cut_and_it_is_said() {
        let endless = (0..).map(|p| ("g".to_string(), "t".to_string(), p, 1));
        let text = rendered(&Metrics::new(), &[consumer_group_lag(endless)]);
        let samples = text.lines().filter(|l| l.starts_with("chronik_consumer_group_lag{"));
        assert_eq!(samples.count(), FAMILY_SAMPLES_MAX);
        has(&text, "chronik_metrics_truncated 1");
    }

    #[test]
    fn errors_of_every_kind_stay_bounded() {
        let metrics = Metrics::new();
        for code in 1..3000 {
            metrics.request_error(0, code);
        }
        assert_eq!(metrics.errors.lock().len(), ERROR_PAIRS_MAX);
        let text = rendered(&metrics, &[]);
        has(&text, "chronik_request_errors_total{api=\"other\",error=\"other\"} 1975");
    }

    /// Every metric has HELP and TYPE once, before its samples, and no sample appears twice.
    #[test]
    fn the_text_is_well_formed() {
        let metrics = Metrics::new();
        metrics.request_error(0, 3);
        let lag = consumer_group_lag([("g".into(), "t".into(), 0, 7)].into_iter());
        let text = rendered(&metrics, &[lag]);
        let (mut typed, mut seen) = (Vec::new(), std::collections::HashSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(!typed.contains(&name), "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                typed.push(name);
            } else if !line.starts_with('#') {
                let (sample, number) = line.rsplit_once(' ').unwrap();
                assert!(sample.starts_with(typed.last().unwrap()), "{line}");
                assert!(seen.insert(sample), "{line} twice");
                assert!(number.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.ends_with('\n') && typed.len() > 20);
    }

    /// Debian's package prometheus has promtool; without it the test above has to do.
    #[test]
    fn promtool_has_nothing_to_say() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let metrics = Metrics::new();
        metrics.request(0);
        metrics.request_error(0, 3);
        metrics.produce_latency.observe(300);
        let lag = consumer_group_lag([("g\"\n".into(), "t".into(), 0, 7)].into_iter());
        let text = rendered(&metrics, &[lag]);
        let promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = promtool else {
            eprintln!("skipped: promtool is not installed");
            return;
        };
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(String::from_utf8_lossy(&said), "");
        assert!(output.status.success());
    }
}
