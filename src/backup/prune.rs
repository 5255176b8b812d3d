//! Owns giving space back: deleting backups, and what no backup needs any more.

use std::collections::BTreeSet;

use super::find::{load, names, sizes};
use super::lease::Lease;
use super::{layout, Failure, Guard, Kind, Manifest};
use crate::store::{self, ObjectStore};

/// What a sweep came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects that were removed, and their bytes.
    pub objects: u64,
    pub bytes: u64,
    /// Nothing was removed, because a backup is being made or somebody else sweeps. What is left goes with the next sweep.
    pub is_put_off: bool,
}

/// Deletes a backup and what no other needs.
///
/// The manifest goes first. What an interruption leaves belongs to no backup, and the next sweep removes it.
///
/// # Errors
/// [`Kind::Refused`] where a server keeps its segments: it removes by itself what it does not need.
pub fn delete(store: &dyn ObjectStore, directory: &str, backup: &str) -> Result<Swept, Failure> {
    refuse_owned(store, directory)?;
    store.delete(&layout::manifest(directory, backup))?;
    sweep(store, directory)
}

/// Deletes all but the newest `count` backups of a directory (at least one stays), and of those all that were made before
/// `since_ms`, except the newest. The names of what was deleted, and what the sweep came to.
///
/// # Errors
/// [`Kind::Refused`] where a server keeps its segments: it removes by itself what it does not need.
pub fn keep(
    store: &dyn ObjectStore,
    directory: &str,
    count: Option<u64>,
    since_ms: Option<i64>,
) -> Result<(Vec<String>, Swept), Failure> {
    refuse_owned(store, directory)?;
    let mut manifests = all(store, directory)?;
    manifests.sort_by(|a, b| (b.time_ms, &b.backup).cmp(&(a.time_ms, &a.backup)));
    let mut deleted = Vec::new();
    for (age, manifest) in manifests.iter().enumerate().skip(1) {
        let surplus = count.is_some_and(|count| age as u64 >= count);
        if surplus || since_ms.is_some_and(|ms| manifest.time_ms < ms) {
            store.delete(&layout::manifest(directory, &manifest.backup))?;
            deleted.push(manifest.backup.clone());
        }
    }
    Ok((deleted, sweep(store, directory)?))
}

fn refuse_owned(store: &dyn ObjectStore, directory: &str) -> Result<(), Failure> {
    match store.head(&layout::owner(directory)) {
        Err(error) if error.kind == store::Kind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => {
            let what = format!(
                "a server keeps its segments in {} (object {}), and removes by itself what it does not need",
                store.describe(),
                layout::owner(directory)
            );
            Err(Failure::new(Kind::Refused, what))
        }
    }
}

/// Deletes all uploads of a tiered server but the one that it has just made and the last before it, by the numbers of their
/// groups, whatever clocks said; with `alone` that one too. Then what none of those that are left names. Gives the one that is left
/// beside `made` too. `guard` is asked between looking and removing: what was there before it is nobody else's.
pub fn keep_tier(
    store: &dyn ObjectStore,
    directory: &str,
    made: &Manifest,
    alone: bool,
    guard: Guard<'_>,
) -> Result<(Swept, Option<Manifest>), Failure> {
    let mut others = all(store, directory)?;
    others.retain(|manifest| manifest.backup != made.backup);
    // One with later groups is of a history that this directory does not have: groups that a power cut took before they were
    // synced, or those of another server. A restore must not take it for the newest.
    let (mut gone, mut others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|manifest| alone || manifest.last_group > made.last_group);
    others.sort_by_key(|manifest| (manifest.last_group, manifest.time_ms));
    let last = others.pop();
    gone.append(&mut others);
    if !gone.is_empty() {
        guard()?;
    }
    for manifest in &gone {
        store.delete(&layout::manifest(directory, &manifest.backup))?;
    }
    // Where an owner stands nobody else sweeps: this is the word of an earlier run that was killed while it did.
    store.delete(&layout::sweeper(directory))?;
    Ok((sweep_guarded(store, directory, guard)?, last))
}

/// Removes a backup, and of what it names whatever is not in `kept`. For the only one who writes in that folder.
pub fn remove_superseded(store: &dyn ObjectStore, old: &Manifest, kept: &BTreeSet<String>) -> Result<(), Failure> {
    store.delete(&layout::manifest(&old.directory(), &old.backup))?;
    for object in old.objects.iter().filter(|object| !kept.contains(&object.key)) {
        store.delete(&object.key)?;
    }
    Ok(())
}

/// All manifests; one that can't be read is an error, because nobody knows what it names.
fn all(store: &dyn ObjectStore, directory: &str) -> Result<Vec<Manifest>, Failure> {
    let unsure = |failure: Failure| match failure.kind {
        Kind::Store => failure,
        kind => {
            let what = format!("{}. Nothing was removed, because what it needs is not known", failure.sentence);
            Failure::new(kind, what)
        }
    };
    let mut manifests = Vec::new();
    for backup in names(store, directory)? {
        match load(store, directory, &backup) {
            // Deleted since it was listed.
            Err(failure) if failure.kind == Kind::NotFound => {}
            other => manifests.push(other.map_err(unsure)?),
        }
    }
    Ok(manifests)
}

/// Removes the objects of a directory that no manifest names.
pub fn sweep(store: &dyn ObjectStore, directory: &str) -> Result<Swept, Failure> {
    sweep_guarded(store, directory, &mut || Ok(()))
}

fn sweep_guarded(store: &dyn ObjectStore, directory: &str, guard: Guard<'_>) -> Result<Swept, Failure> {
    let Some(mut lease) = Lease::to_sweep(store, directory)? else {
        return Ok(Swept { is_put_off: true, ..Swept::default() });
    };
    let named: BTreeSet<String> =
        all(store, directory)?.into_iter().flat_map(|manifest| manifest.objects).map(|object| object.key).collect();
    let mut superfluous = Vec::new();
    for prefix in [layout::own(directory), layout::segments(directory)] {
        superfluous.extend(sizes(store, &prefix)?.into_iter().filter(|(key, _)| !named.contains(key)));
    }
    let mut swept = Swept::default();
    if !superfluous.is_empty() {
        // Whoever has taken over meanwhile has perhaps sent some of that.
        guard()?;
    }
    for (key, bytes) in superfluous {
        lease.renew()?;
        lease.check()?;
        store.delete(&key)?;
        swept.objects += 1;
        swept.bytes += bytes;
    }
    Ok(swept)
}
