//! Owns turning a data directory from one metadata store to the other (`--convert-metadata`).
//!
//! The caller has recovered with the store that the directory has, and gives the whole live metadata. The marker is
//! changed last of what matters, so an interrupted conversion leaves the old store in force and can be done again.

use std::io;
use std::sync::Arc;

use super::files::{self, MetaFiles};
use super::marker::Marker;
use super::settings::MetadataStore;
use super::{checkpoint, GroupSeq, LogPosition, MetaEntry, RecoverError};
use crate::sys::disk::Disk;

/// Moves metadata from the log into files: `entries` are all that live. The log's own entries are ignored from then on.
pub fn to_files(disk: &Arc<dyn Disk>, entries: &[MetaEntry]) -> Result<(), RecoverError> {
    let what = "converting metadata to files";
    let mut marker = load(&**disk)?;
    // Left by a conversion that did not end; the directory's metadata is still in the log.
    files::clear(&**disk).map_err(RecoverError::io(what))?;
    let mut store = MetaFiles::open(disk.clone()).map_err(RecoverError::io(what))?;
    store.set(entries).map_err(RecoverError::io(what))?;
    marker.metadata = MetadataStore::Files;
    marker.store(&**disk).map_err(RecoverError::io(what))
}

/// Moves metadata from files into the log: `bytes` is the broker's checkpoint with all metadata in it, as it is for a
/// log that keeps metadata, after group `seq`, with the replay going on at `position`. Replays never begin before it.
pub fn to_log(disk: &Arc<dyn Disk>, seq: GroupSeq, position: LogPosition, bytes: &[u8]) -> Result<(), RecoverError> {
    let what = "converting metadata to the log";
    let mut marker = load(&**disk)?;
    let mut write = || -> io::Result<()> {
        checkpoint::write(&**disk, marker.directory, seq, position, bytes)?;
        marker.metadata = MetadataStore::Log;
        marker.metadata_since = seq;
        marker.store(&**disk)?;
        files::clear(&**disk)
    };
    write().map_err(RecoverError::io(what))
}

fn load(disk: &dyn Disk) -> Result<Marker, RecoverError> {
    Marker::load(disk)?.ok_or_else(|| RecoverError::lost(super::marker::PATH, 0, "it is missing"))
}
