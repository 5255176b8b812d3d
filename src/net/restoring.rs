//! Owns `--restore-from`: a server whose data directory is not there makes it of what a store holds, and goes on from there.

use std::sync::Arc;
use std::time::Instant;

use super::server::Failure;
use super::tiers::root_of;
use crate::backup::{self, Manifest, Selection, Target, Unwatched, Wanted};
use crate::config::storage::{Backend, StorageConfig};
use crate::config::Config;
use crate::options::exit;
use crate::store::{self, Machine, ObjectStore, Surroundings, Tuning};
use crate::sys::clock::Clock;
use crate::tier::owner::Owner;
use crate::wal::marker;

/// A store in which there may be something to restore.
struct Place {
    store: Arc<dyn ObjectStore>,
    /// The segments that lie there are those of `--storage`.
    is_own: bool,
    /// What lies there are uploads of a tiered server, and not backups.
    is_tier: bool,
}

/// Makes the data directory if the settings say of what, and there is none.
pub fn restore_if_absent(config: &Config, clock: Clock) -> Result<(), Failure> {
    let Some(url) = config.backup.restore_from.as_deref() else { return Ok(()) };
    let shown = config.data_dir.display();
    if config.data_dir.join(marker::PATH).is_file() && !config.data_dir.join(marker::RESTORING).is_file() {
        log::info!("nothing to restore: {shown} is a data directory already");
        return Ok(());
    }
    let failed = |failure: backup::Failure| {
        let code = if failure.kind == backup::Kind::Store { exit::UNAVAILABLE } else { exit::DATA };
        Failure::new(code, format!("cannot restore {shown}: {failure}"))
    };
    let begun = Instant::now();
    let places = places(config, url)?;
    let (_, manifest) = newest(&places, config.backup.restore_directory.as_deref()).map_err(failed)?;
    let directory = manifest.directory();
    let target = Target::open(&config.data_dir).map_err(failed)?;
    if let Some(own) = places.iter().find(|place| place.is_own) {
        // First, so that a server that still runs stops removing what is to be restored.
        let mut owner = Owner::of_directory(&root_of(config))
            .map_err(|error| Failure::new(exit::IO, format!("cannot write who this server is: {error}")))?;
        owner.claim(&*own.store, &directory, None, true).map_err(failed)?;
    }
    let (place, manifest) = newest(&places, Some(&directory)).map_err(failed)?;
    log::info!("restoring {shown} as of {} from {}", backup::when::shown(manifest.time_ms), place.store.describe());
    let now_ms = clock.wall_ms();
    let restored = match place.is_own {
        true => backup::restore_tiered(&target, &place.store, &manifest, now_ms, &Unwatched),
        false => backup::restore(&target, &place.store, &manifest, &Selection::default(), now_ms, &Unwatched),
    }
    .map_err(failed)?;
    drop(target);
    log::info!(
        "restored {} topics in {} ms: {} bytes fetched, {} left in the store",
        restored.topics.len(),
        begun.elapsed().as_millis(),
        restored.bytes + restored.kept_bytes,
        manifest.bytes().saturating_sub(restored.bytes + restored.kept_bytes)
    );
    let upload_interval_ms = place.is_tier.then_some(config.storage.upload_interval_ms);
    log::info!("{}", what_is_missing(manifest.time_ms, now_ms, upload_interval_ms));
    Ok(())
}

/// Up to when the log is restored, and what bounds what came later. `upload_interval_ms` is 0 without an interval, and `None` of a backup.
fn what_is_missing(time_ms: i64, now_ms: i64, upload_interval_ms: Option<i64>) -> String {
    let at = backup::when::shown(time_ms);
    let ago = match now_ms.saturating_sub(time_ms) {
        // By the clocks of two machines.
        ..0 => String::new(),
        ms => format!(", {} s ago", ms / 1000),
    };
    let (what, bound) = match upload_interval_ms {
        None => ("backup", "--backup-interval bounds that, and uploads to a second tier do closer".to_owned()),
        Some(0) => (
            "upload",
            "without --upload-interval, as here, that can be the whole segment that was being written, and what was sealed while the \
             store was away"
                .to_owned(),
        ),
        Some(ms) => {
            ("upload", format!("an --upload-interval of {ms} ms, as here, bounds that to about so much, while the store is there"))
        }
    };
    format!(
        "the log is restored up to {at}, the time of the last {what}{ago}: all that was acknowledged before is here, and what was \
         written after it is missing; {bound}"
    )
}

/// The store that the URL names: the tier of a server in it, and backups.
fn places(config: &Config, url: &str) -> Result<Vec<Place>, Failure> {
    let wrong = |error: store::StoreError| Failure::new(exit::CONFIG, format!("--restore-from: {}", error.sentence));
    let named = store::with_url(url, &config.storage).map_err(wrong)?;
    let own = config.storage.keeps_objects().then(|| store::within(&config.storage, backup::TIER));
    let around = Arc::new(Machine::start());
    let mut places = Vec::new();
    let tier = Some(store::within(&named, backup::TIER)).filter(|tier| !is_absent_in(tier, &named));
    for (config, is_tier) in tier.map(|tier| (tier, true)).into_iter().chain([(named, false)]) {
        let is_own = own.as_ref().is_some_and(|own| own.is_same_place(&config));
        let around = Arc::clone(&around) as Arc<dyn Surroundings>;
        if let Some(store) = store::open(&config, Tuning::default(), around).map_err(wrong)? {
            places.push(Place { store: Arc::from(store), is_own, is_tier });
        }
    }
    Ok(places)
}

/// Whether a folder that holds nothing of a server has no folder for its segments: a bucket needs none.
fn is_absent_in(tier: &StorageConfig, named: &StorageConfig) -> bool {
    let paths = tier.local_path.as_ref().zip(named.local_path.as_ref());
    tier.backend == Backend::Local && paths.is_some_and(|(tier, named)| named.is_dir() && !tier.exists())
}

/// What is newest of the data directory that is meant, by its id or a beginning of it. The uploads of a tiered server say which
/// one that is, where there are any; then only its backups count, and one that can't be read is no reason to do without the uploads.
fn newest<'a>(places: &'a [Place], directory: Option<&str>) -> Result<(&'a Place, Manifest), backup::Failure> {
    let mut directory = directory.map(str::to_owned);
    let mut best: Option<(&Place, Manifest)> = None;
    let mut nothing = None;
    for place in places {
        let found = match place.is_tier {
            true => backup::find_upload(&*place.store, directory.as_deref()),
            false => backup::find(&*place.store, &Wanted { directory: directory.clone(), ..Wanted::default() }),
        };
        match found {
            Ok(manifest) if best.as_ref().is_some_and(|(_, best)| best.time_ms >= manifest.time_ms) => {}
            Ok(manifest) => {
                directory = Some(manifest.directory());
                best = Some((place, manifest));
            }
            Err(failure) if failure.kind == backup::Kind::NotFound => {
                // Of two places that have nothing, the first that has something of others tells more.
                nothing.get_or_insert(failure);
            }
            Err(failure) if failure.kind == backup::Kind::Refused => {
                let sentence = format!("{}, by --restore-directory", failure.sentence);
                return Err(backup::Failure { sentence, ..failure });
            }
            Err(failure) if best.is_some() && failure.kind != backup::Kind::Store => {
                log::warn!("backups in {} are left aside: {failure}", place.store.describe());
            }
            Err(failure) => return Err(failure),
        }
    }
    best.ok_or_else(|| {
        nothing.unwrap_or_else(|| backup::Failure::new(backup::Kind::NotFound, "the URL names no store"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log said as of when it restored, and not what that means.
    #[test]
    fn a_restore_says_up_to_when_and_what_bounds_that() {
        const AT_MS: i64 = 1_796_000_000_000;
        let said = |now_ms, interval| what_is_missing(AT_MS, now_ms, interval);
        let begin = format!("the log is restored up to {}, the time of the last ", backup::when::shown(AT_MS));
        let alone = said(AT_MS + 90_500, Some(0));
        assert!(
            alone.starts_with(&format!("{begin}upload, 90 s ago: ")) && alone.contains("without --upload-interval"),
            "{alone}"
        );
        let often = said(AT_MS, Some(60_000));
        assert!(often.contains(", 0 s ago: ") && often.contains("--upload-interval of 60000 ms"), "{often}");
        // A clock that is behind says nothing of how long ago.
        let backup = said(AT_MS - 1, None);
        assert!(backup.starts_with(&format!("{begin}backup: ")) && backup.contains("--backup-interval"), "{backup}");
    }
}
