//! Owns the wiring: from settings to a running server and back to an exit code.
//!
//! Fatal, with a sentence and an exit code of `options::exit`: wrong options, a data directory that cannot be used, a port
//! that cannot be opened, a log that cannot be written. Everything else is a line in the log.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{mpsc, Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{io, panic, process};

use super::backups::{self, Backups};
use super::http::{self, Answer};
use super::inbox::{Completion, Inbox};
use super::listeners::Listeners;
use super::opening::{convert_metadata, is_wildcard, open_directory, recover_broker};
use super::reactor::{EventQueue, Limits, Outcome, Reactor};
use super::restoring::restore_if_absent;
use super::threads::{Plant, Threads};
use super::tiers::{clear_cache, Tier, Tiers};
use crate::broker::Broker;
use crate::config::{self, Config};
use crate::logging;
use crate::metrics::{self, Metrics, Scrape};
use crate::options::{self, exit};
use crate::sys::allocator;
use crate::sys::clock::Clock;
use crate::sys::signals::Signals;
use crate::sys::socket;
use crate::sys::traffic::Traffic;
use crate::tier::BlockCache;
use crate::wire::{ApiKey, ErrorCode};

/// How long leaving waits for the last lines of the log to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long a scrape or a probe waits for the reactor.
const ASK_TIME: Duration = Duration::from_secs(2);

/// How long a client may read nothing while answers wait for it.
const UNREAD_US: u64 = 60_000_000;

/// How long a connection that is being closed may read nothing of its last answers.
const LINGER_US: u64 = 5_000_000;

/// How long a clean stop may take.
const STOP_US: u64 = 10_000_000;

/// Descriptors that are kept for files, ports and threads.
const OWN_DESCRIPTORS: u64 = 128;

/// The server's process: everything from the arguments to the exit code.
pub fn main() -> u8 {
    allocator::give_back_what_is_freed();
    let config = match options::from_process() {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Err(error) = logging::init(config.log_level) {
        // There is no log to say it in, and perhaps no stderr either.
        eprintln!("chronik-server: cannot start the log: {error}");
        return exit::FAILURE;
    }
    abort_on_panic();
    let code = match run(&config) {
        Ok(code) => code,
        Err(failure) => {
            log::error!("{}", failure.sentence);
            failure.code
        }
    };
    logging::flush(LAST_LINES);
    code
}

/// A thread that is in an unknown state must not go on acknowledging; the message was logged by the hook before.
fn abort_on_panic() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        hook(info);
        process::abort();
    }));
}

/// Why the server does not run, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    sentence: String,
    code: u8,
}

impl Failure {
    pub fn new(code: u8, sentence: impl Into<String>) -> Failure {
        Failure { sentence: sentence.into(), code }
    }

    fn io(what: &str, error: &io::Error) -> Failure {
        Failure::new(exit::FAILURE, format!("{what}: {error}"))
    }
}

fn run(config: &Config) -> Result<u8, Failure> {
    let begun = Instant::now();
    log::info!("chronik-server {}", env!("CARGO_PKG_VERSION"));
    let signals = Signals::start().map_err(|error| Failure::io("cannot listen to signals", &error))?;
    let limits = limits_of(config);
    let traffic = Arc::new(Traffic::default());
    let backups = Backups::open(config, &traffic)?;
    let tiers = Tiers::open(config, &traffic)?;
    restore_if_absent(config, Clock::start())?;
    let (disk, _lock) = open_directory(&config.data_dir)?;
    if config.convert_metadata {
        convert_metadata(config, disk)?;
        return Ok(exit::OK);
    }
    let listeners = Listeners::open(config).map_err(|sentence| Failure::new(exit::UNAVAILABLE, sentence))?;
    let metrics = Arc::new(Metrics::new());
    let shared = Arc::new(Shared::new(Arc::clone(&metrics)));
    let kafka_address = listeners.kafka_address;
    start_http(listeners.admin, listeners.metrics, &shared)?;

    let clock = Clock::start();
    let (broker, log) = recover_broker(config, Arc::clone(&disk), kafka_address, Arc::clone(&metrics), clock)?;
    let directory_id = log.directory_id;
    if tiers.is_none() {
        clear_cache(config, &*disk);
    }
    let tier_store = tiers.as_ref().map(Tiers::store);
    let tier = tiers.map(|tiers| tiers.with(config, &disk, directory_id, &broker, Arc::clone(&metrics), clock));
    let tier = tier.transpose()?;
    shared.cache(tier.as_ref());
    let plant = Plant { disk: Arc::clone(&disk), directory_id, writer: log.writer, tier, traffic };
    let events = EventQueue::new().map_err(|error| Failure::io("cannot start the network", &error))?;
    let inbox = events.inbox();
    let (threads, mut outlets) =
        Threads::start(plant, &inbox).map_err(|error| Failure::io("cannot start a thread", &error))?;
    outlets.reload = Box::new(say_what_reload_does);
    let theirs = Arc::clone(&shared);
    outlets.stopping = Box::new(move || theirs.stage.store(STOPPING, Ordering::Relaxed));
    let theirs = Arc::clone(&metrics);
    let reactor = Reactor::new(events, broker, listeners.kafka, outlets, limits, metrics, clock)
        .and_then(|mut reactor| reactor.watch_signals(signals).map(|()| reactor))
        .map_err(|error| Failure::io("cannot start the network", &error))?;

    let backups =
        backups.map(|backups| backups.start(config, disk, directory_id, theirs, clock, tier_store)).transpose()?;
    say_how_to_reach_us(config, kafka_address);
    shared.serving(inbox);
    log::info!("ready after {} ms", begun.elapsed().as_millis());
    let outcome = reactor.run();
    Ok(leave(outcome, threads, backups))
}

/// Ends the process as the loop ended. A stop waits for the threads; after a failure nothing is waited for.
fn leave(outcome: Outcome, threads: Threads, backups: Option<backups::Running>) -> u8 {
    let why = match outcome {
        Outcome::Stopped { complete } => {
            threads.join(backups);
            if complete {
                log::info!("stopped; everything acknowledged is on the disk");
            } else {
                log::warn!("stopped before everything was answered; what was not acknowledged may be missing");
            }
            return exit::OK;
        }
        Outcome::Fatal(why) => {
            log::error!("the log cannot be written, so nothing more can be acknowledged: {why}");
            exit::IO
        }
        Outcome::Failed(why) => {
            log::error!("{why}");
            exit::FAILURE
        }
    };
    logging::flush(LAST_LINES);
    process::exit(i32::from(why))
}

fn limits_of(config: &Config) -> Limits {
    let mut connections_max = config.max_connections;
    match socket::raise_open_files_limit() {
        Ok(descriptors) => {
            let possible = usize::try_from(descriptors.saturating_sub(OWN_DESCRIPTORS).max(16)).unwrap_or(usize::MAX);
            if possible < connections_max {
                log::warn!(
                    "at most {possible} connections are taken instead of {connections_max}, because the limit on open \
                     files is {descriptors}"
                );
                connections_max = possible;
            }
        }
        Err(error) => log::warn!("the limit on open files is not known: {error}"),
    }
    Limits {
        connections_max,
        connections_per_ip_max: config.max_connections_per_ip,
        idle_us: u64::try_from(config.connections_max_idle_ms)
            .ok()
            .filter(|ms| *ms > 0)
            .map(|ms| ms.saturating_mul(1000)),
        unread_us: UNREAD_US,
        linger_us: LINGER_US,
        frame_bytes_max: config.socket_request_max_bytes,
        request_bytes_max: config.queued_max_request_bytes,
        response_bytes_max: config.response_bytes_max,
        stop_us: STOP_US,
    }
}

fn say_how_to_reach_us(config: &Config, kafka_address: SocketAddr) {
    if config.advertised_host.is_none() && is_wildcard(config, kafka_address) {
        log::warn!(
            "without --advertised-addr each client is told the address at which it reached this server; behind NAT or \
             port forwarding give --advertised-addr"
        );
    }
    match config.fsync {
        config::Fsync::Always => {}
        config::Fsync::IntervalMs(ms) => {
            log::warn!("fsync every {ms} ms: a crash of the machine loses what was acknowledged since the last one");
        }
        config::Fsync::Never => {
            log::warn!("fsync is off: a crash of the machine loses acknowledged messages");
        }
    }
    log::info!("Kafka protocol on {kafka_address}");
}

fn say_what_reload_does() {
    log::info!(
        "SIGHUP: nothing to reload; settings come from the command line and the environment, the log goes to stderr"
    );
}

/// Not serving yet: the log is being recovered.
const STARTING: u8 = 0;
const SERVING: u8 = 1;
const STOPPING: u8 = 2;

/// What the HTTP threads look at.
struct Shared {
    stage: AtomicU8,
    inbox: OnceLock<Inbox<Broker>>,
    metrics: Arc<Metrics>,
    /// The disk cache of objects, if there is one.
    cache: OnceLock<Arc<BlockCache>>,
}

impl Shared {
    fn new(metrics: Arc<Metrics>) -> Shared {
        Shared { stage: AtomicU8::new(STARTING), inbox: OnceLock::new(), metrics, cache: OnceLock::new() }
    }

    fn cache(&self, tier: Option<&Tier>) {
        if let Some(tier) = tier {
            // Only called once, so the cell is empty.
            let _ = self.cache.set(tier.remote.shared_cache());
        }
    }

    /// Takes over what the disk cache has counted.
    fn count_cache(&self) {
        let Some(cache) = self.cache.get() else { return };
        let (counts, counted) = (cache.counts(), &self.metrics.tier_cache);
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        counted.hits.set(gauge(counts.hits));
        counted.misses.set(gauge(counts.misses));
        counted.requests.set(gauge(counts.requests));
        counted.fetched_bytes.set(gauge(counts.fetched_bytes));
        counted.failures.set(gauge(counts.failures));
        counted.bytes.set(gauge(cache.bytes()));
    }

    fn serving(&self, inbox: Inbox<Broker>) {
        // Only called once, so the cell is empty.
        let _ = self.inbox.set(inbox);
        self.stage.store(SERVING, Ordering::Relaxed);
    }

    /// Asks the broker on the reactor's thread; `None` when there is none or it does not answer in time.
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Broker) -> T + Send + 'static) -> Option<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        // The asker may have gone meanwhile; nobody misses the answer then.
        let ask = move |broker: &mut Broker| drop(answer.try_send(question(broker)));
        self.inbox.get()?.push(Completion::Ask(Box::new(ask)));
        answered.recv_timeout(ASK_TIME).ok()
    }

    fn admin(&self, path: &str) -> Option<Answer> {
        let stage = self.stage.load(Ordering::Relaxed);
        match (path, stage) {
            ("/health", STARTING) => Some(Answer::text(200, "starting")),
            ("/health", _) if self.ask(|_| ()).is_none() && stage == SERVING => {
                Some(Answer::text(503, "the server does not respond"))
            }
            ("/health", _) => Some(Answer::text(200, "ok")),
            ("/ready", SERVING) => Some(Answer::text(200, "ready")),
            ("/ready", STARTING) => Some(Answer::text(503, "not ready: the log is being recovered")),
            ("/ready", _) => Some(Answer::text(503, "not ready: the server is stopping")),
            _ => None,
        }
    }

    fn scrape(&self, path: &str) -> Option<Answer> {
        if path != "/metrics" {
            return None;
        }
        self.count_cache();
        let lag = self.ask(|broker| {
            let all = broker.consumer_group_lag();
            all.take(metrics::FAMILY_SAMPLES_MAX + 1).collect::<Vec<_>>()
        });
        let families: Vec<_> = lag.map(|lag| metrics::consumer_group_lag(lag.into_iter())).into_iter().collect();
        let scrape = Scrape {
            api_name: |key| ApiKey(key).name(),
            error_name: |code| ErrorCode(code).name(),
            families: &families,
        };
        Some(Answer { status: 200, content_type: metrics::CONTENT_TYPE, body: self.metrics.render(&scrape) })
    }
}

fn start_http(
    admin: Option<std::net::TcpListener>,
    metrics: Option<std::net::TcpListener>,
    shared: &Arc<Shared>,
) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io("cannot start an HTTP port", &error);
    if let Some(listener) = admin {
        log::info!("admin on {}", listener.local_addr().map_err(failed)?);
        let shared = Arc::clone(shared);
        http::serve("admin", listener, Arc::new(move |path| shared.admin(path))).map_err(failed)?;
    }
    if let Some(listener) = metrics {
        log::info!("metrics on {}", listener.local_addr().map_err(failed)?);
        let shared = Arc::clone(shared);
        http::serve("metrics", listener, Arc::new(move |path| shared.scrape(path))).map_err(failed)?;
    }
    Ok(())
}
