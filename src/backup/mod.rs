//! Owns backups: copies of a data directory in an object store, each consistent, each sent once.
//!
//! A backup is a manifest that names objects (docs/backup-format.md). Segments never change, so they are shared between
//! backups; what a backup has for itself is small. `create` makes one from a directory that may be in use, `restore` makes
//! a directory of one, `verify` reads it whole, `prune` gives space back, `schedule` is the server's own thread.

mod clock;
mod create;
mod failure;
mod find;
mod layout;
mod lease;
mod manifest;
mod prune;
mod restore;
pub mod schedule;
mod send;
mod source;
mod verify;
mod view;
pub mod when;

pub use create::{clear_leftovers, create, upload, Created, Guard, Known, Origin, Sent};
pub use failure::{Failure, Kind};
pub use find::{directories, find, find_upload, list, Found, State, Wanted};
pub use layout::{directory as directory_name, owner as owner_key};
pub use manifest::{Manifest, Object, Role, TopicTotal};
pub use prune::{delete, keep, keep_tier, remove_superseded, sweep, Swept};
pub use restore::{restore, restore_tiered, Restored, Selection, Target};
pub use send::object_key;
pub use verify::{verify, Fault, Verified};

/// The folder, in the store that is the second tier of servers, in which everything of theirs lies; so that backups in the same
/// bucket are not taken for that.
pub const TIER: &str = "tier";

/// Looks on while bytes are moved, and may stop it.
pub trait Watch: Sync {
    /// So many objects with so many bytes in all are to be moved or read.
    fn planned(&self, _objects: u64, _bytes: u64) {}
    /// So many bytes more are done, moved or found to be there already.
    fn advanced(&self, _bytes: u64) {}
    /// Whether all should end as soon as possible.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Looks on without doing anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}
