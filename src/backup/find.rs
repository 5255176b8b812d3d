//! Owns finding backups in a store: which there are, whether all that they name is there, which one is meant.

use std::collections::{BTreeMap, BTreeSet};

use super::{layout, Failure, Kind, Manifest};
use crate::limits;
use crate::store::{self, for_each, get_bytes, ObjectStore};

/// Whether a backup can be used, as far as can be told without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Every object that it names is there with its size.
    Complete,
    /// Objects are missing or have another size: the keys of some, and how many there are.
    Lacking(Vec<String>, u64),
    /// Its manifest can't be read; a sentence.
    Unreadable(String),
    /// Objects of a backup that has no manifest: it is being made, or was never finished.
    Unfinished,
}

/// A backup in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The hex digits of its data directory's id.
    pub directory: String,
    /// Its name.
    pub backup: String,
    pub state: State,
    /// What it consists of; none if that can't be read.
    pub manifest: Option<Manifest>,
}

/// How a backup is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, or a beginning that no other has; the newest when nothing is said.
    pub backup: Option<String>,
    /// The newest of those that were made at this time or before, ms since 1970.
    pub to_time_ms: Option<i64>,
    /// The hex digits of a data directory's id, or their beginning: needed where the store has several.
    pub directory: Option<String>,
}

/// The folders of data directories in a store.
pub fn directories(store: &dyn ObjectStore) -> Result<Vec<String>, Failure> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for_each(store, "", |listed| {
        let dir = listed.key.split_once('/').map(|(dir, _)| dir).filter(|dir| layout::directory_id(dir).is_some());
        if let Some(dir) = dir.filter(|dir| !found.contains(*dir)) {
            found.insert(dir.to_owned());
        }
        Ok(())
    })?;
    Ok(found.into_iter().collect())
}

/// Keys below a prefix, with their sizes.
pub(super) fn sizes(store: &dyn ObjectStore, prefix: &str) -> Result<BTreeMap<String, u64>, Failure> {
    let mut sizes = BTreeMap::new();
    for_each(store, prefix, |listed| {
        sizes.insert(listed.key, listed.info.size);
        Ok(())
    })?;
    Ok(sizes)
}

/// The names of a directory's backups that have a manifest, in the order of their names.
pub(super) fn names(store: &dyn ObjectStore, directory: &str) -> Result<Vec<String>, Failure> {
    let prefix = layout::manifests(directory);
    let keys = sizes(store, &prefix)?;
    let names = keys.keys().filter_map(|key| key.strip_prefix(&prefix));
    Ok(names.filter(|name| layout::is_backup(name)).map(str::to_owned).collect())
}

/// Reads a manifest. [`Kind::NotFound`] if it was deleted.
pub(super) fn load(store: &dyn ObjectStore, directory: &str, backup: &str) -> Result<Manifest, Failure> {
    let key = layout::manifest(directory, backup);
    let got = get_bytes(store, &key, None, limits::BACKUP_MANIFEST_BYTES_MAX);
    let (bytes, _) = got.map_err(|error| match error.kind {
        store::Kind::NotFound => Failure::new(Kind::NotFound, format!("there is no backup {backup}")),
        _ => error.into(),
    })?;
    Manifest::parse(&bytes, directory, backup)
}

/// All backups of all data directories in a store: by directory, the oldest first.
pub fn list(store: &dyn ObjectStore) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for directory in directories(store)? {
        let mut there = sizes(store, &layout::segments(&directory))?;
        let own = sizes(store, &layout::own(&directory))?;
        let mut known = BTreeSet::new();
        for backup in names(store, &directory)? {
            known.insert(backup.clone());
        }
        let prefix = layout::own(&directory);
        let begun: BTreeSet<String> = own
            .keys()
            .filter_map(|key| key.strip_prefix(&prefix)?.split_once('/'))
            .map(|(backup, _)| backup.to_owned())
            .filter(|backup| !known.contains(backup))
            .collect();
        there.extend(own);
        let mut found: Vec<Found> = Vec::new();
        for backup in known {
            let (state, manifest) = match load(store, &directory, &backup) {
                Ok(manifest) => (state_of(&manifest, &there), Some(manifest)),
                Err(failure) if failure.kind == Kind::Store => return Err(failure),
                Err(failure) if failure.kind == Kind::NotFound => continue,
                Err(failure) => (State::Unreadable(failure.sentence), None),
            };
            found.push(Found { directory: directory.clone(), backup, state, manifest });
        }
        found.extend(begun.into_iter().map(|backup| Found {
            directory: directory.clone(),
            backup,
            state: State::Unfinished,
            manifest: None,
        }));
        found.sort_by_key(|found| (found.manifest.as_ref().map_or(i64::MAX, |m| m.time_ms), found.backup.clone()));
        all.append(&mut found);
    }
    Ok(all)
}

/// Compares what a manifest names with what is there.
pub(super) fn state_of(manifest: &Manifest, there: &BTreeMap<String, u64>) -> State {
    let wrong = manifest.objects.iter().filter(|object| there.get(&object.key) != Some(&object.bytes));
    let keys: Vec<&String> = wrong.map(|object| &object.key).collect();
    match keys.len() {
        0 => State::Complete,
        count => State::Lacking(keys.into_iter().take(3).cloned().collect(), count as u64),
    }
}

/// The folders of the data directories whose ids begin so, or of all.
fn directories_named(store: &dyn ObjectStore, prefix: Option<&str>) -> Result<Vec<String>, Failure> {
    let all = directories(store)?;
    let mut dirs = all.clone();
    dirs.retain(|dir| prefix.is_none_or(|prefix| dir.starts_with(prefix)));
    match prefix {
        Some(prefix) if dirs.is_empty() && !all.is_empty() => {
            let what =
                format!("{} has nothing of a data directory {prefix}, but of {}", store.describe(), all.join(", "));
            Err(Failure::new(Kind::NotFound, what))
        }
        _ => Ok(dirs),
    }
}

/// The backup that is meant. [`Kind::NotFound`] with a sentence if there is none, [`Kind::Refused`] if several may be.
pub fn find(store: &dyn ObjectStore, wanted: &Wanted) -> Result<Manifest, Failure> {
    let none = |what: String| Failure::new(Kind::NotFound, what);
    let dirs = directories_named(store, wanted.directory.as_deref())?;
    if dirs.is_empty() {
        return Err(none(format!("there are no backups in {}", store.describe())));
    }
    if let Some(name) = &wanted.backup {
        let mut fitting = Vec::new();
        for dir in &dirs {
            let names = names(store, dir)?;
            match names.contains(name) {
                true => fitting.push((dir, name.clone())),
                false => fitting.extend(names.into_iter().filter(|n| n.starts_with(name.as_str())).map(|n| (dir, n))),
            }
        }
        return match fitting.as_slice() {
            [] => Err(none(format!("there is no backup {name} in {}", store.describe()))),
            [(dir, name)] => load(store, dir, name),
            _ => Err(Failure::new(
                Kind::Refused,
                format!("{} backups have a name that begins with {name}", fitting.len()),
            )),
        };
    }
    if dirs.len() > 1 {
        let what = format!("the store has backups of {} data directories ({}): say which", dirs.len(), dirs.join(", "));
        return Err(Failure::new(Kind::Refused, what));
    }
    newest(store, &dirs[0], wanted.to_time_ms)?.ok_or_else(|| match wanted.to_time_ms {
        Some(ms) => none(format!("no backup is as old as {}", super::when::shown(ms))),
        None => none(format!("there are no backups in {}", store.describe())),
    })
}

/// The last upload of a tiered server, by the number of its last group, whatever clocks said. [`Kind::NotFound`] if there is
/// none, [`Kind::Refused`] if there are those of several data directories. `directory` is the id of the one that is meant, or its
/// beginning.
pub fn find_upload(store: &dyn ObjectStore, directory: Option<&str>) -> Result<Manifest, Failure> {
    let dirs = directories_named(store, directory)?;
    let [directory] = dirs.as_slice() else {
        // Which says that there is none, or that there are several.
        return find(store, &Wanted { directory: directory.map(str::to_owned), ..Wanted::default() });
    };
    let mut best: Option<Manifest> = None;
    let mut unreadable = None;
    for backup in names(store, directory)? {
        let of = |manifest: &Manifest| (manifest.last_group, manifest.time_ms);
        match load(store, directory, &backup) {
            Ok(manifest) if best.as_ref().is_some_and(|best| of(best) >= of(&manifest)) => {}
            Ok(manifest) => best = Some(manifest),
            Err(failure) if failure.kind == Kind::Store => return Err(failure),
            // Deleted since it was listed.
            Err(failure) if failure.kind == Kind::NotFound => {}
            // Two are kept, so that one may be damaged.
            Err(failure) => unreadable = Some(failure),
        }
    }
    let none = || Failure::new(Kind::NotFound, format!("there are no uploads in {}", store.describe()));
    best.ok_or_else(|| unreadable.unwrap_or_else(none))
}

/// The newest backup of a directory, of those made at `to_time_ms` or before.
pub(super) fn newest(
    store: &dyn ObjectStore,
    directory: &str,
    to_time_ms: Option<i64>,
) -> Result<Option<Manifest>, Failure> {
    let mut best: Option<Manifest> = None;
    // Names begin with the time, so the last one that can be read and fits is it, but for a clock that went back.
    for backup in names(store, directory)?.iter().rev() {
        let manifest = match load(store, directory, backup) {
            // Deleted since it was listed.
            Err(failure) if failure.kind == Kind::NotFound => continue,
            other => other?,
        };
        if to_time_ms.is_some_and(|ms| manifest.time_ms > ms) {
            continue;
        }
        if best.as_ref().is_none_or(|best| best.time_ms < manifest.time_ms) {
            best = Some(manifest);
        } else {
            break;
        }
    }
    Ok(best)
}
