//! Owns opening a data directory: lock, recovery, and turning it from one metadata store to the other.
//!
//! Everything that can be wrong here ends the start with one sentence for the person who has to mend it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::server::Failure;
use crate::backup;
use crate::broker::recovery::{LogState, Recovering};
use crate::broker::settings::Settings;
use crate::broker::{Broker, Now};
use crate::config::{self, Config};
use crate::limits;
use crate::metrics::Metrics;
use crate::options::exit;
use crate::sys::clock::Clock;
use crate::sys::disk::Disk;
use crate::sys::lock::DirLock;
use crate::sys::real_disk::{make_folder, RealDisk, Writing};
use crate::wal::marker::Marker;
use crate::wal::pack::Coverage;
use crate::wal::recovery::{recover, Recovered, Replay, NEW_DIRECTORY};
use crate::wal::settings::{Entropy, FsyncMode, LogOptions, MetadataStore};
use crate::wal::{convert, MetaEntry, RecoverError, RunRef, SegmentId};

/// Opens the data directory and takes its lock.
pub fn open_directory(path: &Path) -> Result<(Arc<dyn Disk>, DirLock), Failure> {
    let cannot = |error: io::Error| {
        let why = unusable(path, &error);
        Failure::new(exit::IO, format!("cannot use the data directory {}: {why}", path.display()))
    };
    make_folder(path).map_err(cannot)?;
    let lock = DirLock::acquire(path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Failure::new(exit::IN_USE, error.to_string()),
        _ => cannot(error),
    })?;
    let disk = RealDisk::open(path, Writing::Auto).map_err(cannot)?;
    backup::clear_leftovers(&disk, path);
    let shown = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let how = if disk.is_direct() { "" } else { " (written through the page cache)" };
    log::info!("data directory {}{how}", shown.display());
    Ok((Arc::new(disk), lock))
}

/// What keeps a path from being the data directory, for the person who chose it.
fn unusable(path: &Path, error: &io::Error) -> String {
    let file = path.ancestors().find(|part| part.exists()).filter(|part| !part.is_dir());
    match (file, error.kind()) {
        (Some(file), _) if file == path => "it is a file; name a directory, or a path where one can be made".to_owned(),
        (Some(file), _) => format!("{} is a file, so nothing can be made in it", file.display()),
        (None, io::ErrorKind::PermissionDenied) => {
            format!("this user may not make it or write to it; give it to the user that runs the server ({error})")
        }
        (None, io::ErrorKind::ReadOnlyFilesystem) => "its file system can only be read".to_owned(),
        (None, io::ErrorKind::StorageFull) => "its file system is full".to_owned(),
        (None, io::ErrorKind::NotFound) => format!("it is not there and cannot be made ({error})"),
        _ => error.to_string(),
    }
}

/// Builds the broker from what the data directory holds.
pub fn recover_broker(
    config: &Config,
    disk: Arc<dyn Disk>,
    kafka_address: SocketAddr,
    metrics: Arc<Metrics>,
    clock: Clock,
) -> Result<(Broker, Recovered), Failure> {
    let begun = Instant::now();
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| Failure::new(exit::FAILURE, format!("no random numbers: {error}")))?;
    let settings = settings_of(config, kafka_address, u64::from_be_bytes(seed), metrics);
    let mut replayed = Replayed(Recovering::new(settings));
    let log = recover(disk, log_options(config), &mut replayed).map_err(cannot_open)?;
    for note in &log.notes {
        let level = if note == NEW_DIRECTORY { log::Level::Info } else { log::Level::Warn };
        log::log!(level, "{note}");
    }
    let Replayed(mut recovering) = replayed;
    recovering.cluster_id(config.cluster_id.clone().unwrap_or_else(|| log.cluster_id.clone()));
    let records = recovering.replayed_records();
    let state = LogState {
        next_seq: log.next_seq,
        position: log.position,
        space_bytes: log.space_bytes,
        floor: log.floor,
        clean: log.clean,
    };
    let now = Now { mono_us: clock.mono_us(), wall_ms: clock.wall_ms() };
    let broker = recovering
        .finish(now, state)
        .map_err(|what| Failure::new(exit::DATA, format!("cannot open the data directory: {what}")))?;
    if records > 0 || !log.clean {
        let ms = begun.elapsed().as_millis();
        log::info!("recovered {records} records written since the last checkpoint, in {ms} ms");
    }
    Ok((broker, log))
}

fn cannot_open(error: RecoverError) -> Failure {
    let code = if matches!(error, RecoverError::Io { .. }) { exit::IO } else { exit::DATA };
    Failure::new(code, format!("cannot open the data directory: {error}"))
}

/// Moves the metadata to the store that the settings name (`--convert-metadata`). Opens no port.
pub fn convert_metadata(config: &Config, disk: Arc<dyn Disk>) -> Result<(), Failure> {
    let target = store_of(config.metadata_store);
    let Some(marker) = Marker::load(&*disk).map_err(cannot_open)? else {
        log::info!("nothing to convert: the data directory is new");
        return Ok(());
    };
    if marker.metadata == target {
        log::info!("nothing to convert: the metadata is there already");
        return Ok(());
    }
    let mut source = config.clone();
    source.metadata_store = match marker.metadata {
        MetadataStore::Log => config::MetadataStore::Log,
        MetadataStore::Files => config::MetadataStore::File,
    };
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let metrics = Arc::new(Metrics::new());
    let (broker, log) = recover_broker(&source, Arc::clone(&disk), nowhere, metrics, Clock::start())?;
    match target {
        MetadataStore::Files => convert::to_files(&disk, &broker.meta_snapshot()),
        MetadataStore::Log => {
            let last = log.next_seq.saturating_sub(1);
            convert::to_log(&disk, last, log.position, &broker.snapshot(true))
        }
    }
    .map_err(cannot_open)?;
    match target {
        MetadataStore::Files => log::info!("the metadata is in files now; start with --file-metadata from now on"),
        MetadataStore::Log => log::info!("the metadata is in the log now; start without --file-metadata from now on"),
    }
    Ok(())
}

fn store_of(store: config::MetadataStore) -> MetadataStore {
    match store {
        config::MetadataStore::Log => MetadataStore::Log,
        config::MetadataStore::File => MetadataStore::Files,
    }
}

fn settings_of(config: &Config, kafka_address: SocketAddr, seed: u64, metrics: Arc<Metrics>) -> Settings {
    // On a wildcard bind each client is told the address that it reached.
    let by_connection = config.advertised_host.is_none() && is_wildcard(config, kafka_address);
    let advertised_host = match &config.advertised_host {
        Some(host) => Some(host.clone()),
        None if by_connection => None,
        None => Some(config.bind_host.clone()),
    };
    let mut config = config.clone();
    // Clients are told where the data is; that is the same from everywhere.
    config.data_dir = config.data_dir.canonicalize().unwrap_or(config.data_dir);
    Settings {
        cluster_id: config.cluster_id.clone().unwrap_or_default(),
        advertised_host,
        advertised_port: Some(config.advertised_port.unwrap_or(kafka_address.port())),
        seed,
        metrics,
        metadata_in_log: config.metadata_store == config::MetadataStore::Log,
        config,
    }
}

pub fn is_wildcard(config: &Config, kafka_address: SocketAddr) -> bool {
    kafka_address.ip().is_unspecified() || config.bind_host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
}

fn log_options(config: &Config) -> LogOptions {
    // A single batch that is larger than a group travels alone.
    let group_bytes_max = 2 * limits::GROUP_BYTES_MAX.max(config.message_max_bytes) as u64;
    LogOptions {
        segment_bytes: config.log_segment_bytes,
        group_bytes_max,
        fsync: match config.fsync {
            config::Fsync::Always => FsyncMode::Always,
            config::Fsync::IntervalMs(ms) => FsyncMode::Interval(Duration::from_millis(u64::from(ms))),
            config::Fsync::Never => FsyncMode::Never,
        },
        metadata: store_of(config.metadata_store),
        entropy: Entropy::System,
        ..LogOptions::default()
    }
}

/// Passes on what the log finds to the broker that is being put together.
struct Replayed(Recovering);

impl Replay for Replayed {
    fn checkpoint(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.checkpoint(bytes)
    }
    fn meta(&mut self, entry: MetaEntry) -> Result<(), String> {
        self.0.meta(&entry)
    }
    fn run(&mut self, run: RunRef, batches: &[u8]) -> Result<(), String> {
        self.0.run(run, batches)
    }
    fn packs(&self) -> Vec<u64> {
        Replay::packs(&self.0)
    }
    fn pack(&mut self, number: u64, coverage: Vec<Coverage>) -> Result<(), String> {
        Replay::pack(&mut self.0, number, coverage)
    }
    fn segment(&mut self, id: SegmentId, bytes: u64, _sealed: bool) {
        self.0.segment(id, bytes);
    }
}
