//! Owns verifying a backup: every byte is read, every checksum is made, everything is parsed, and it is put together.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::create::broker_of;
use super::manifest::{Manifest, Object, Role, Whole};
use super::view::{ObjectFile, Pieces, View};
use super::{Failure, Kind, Watch};
use crate::limits;
use crate::store::{self, ObjectStore};
use crate::sys::disk::DiskFile;
use crate::wal::check::{self, Damage};
use crate::wire::Uuid;

/// Something that is wrong with a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The object in the store; empty if it is the backup as a whole.
    pub key: String,
    /// Which file of the data directory it is.
    pub path: String,
    /// Where in it the damage begins, if that is known.
    pub position: Option<u64>,
    pub what: String,
    /// Topics that have records from there on in it, as far as that can be told.
    pub topics: Vec<String>,
}

/// What verifying came to. The backup is sound if there is no fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Objects and bytes that were read.
    pub objects: u64,
    pub bytes: u64,
    /// Groups of the log in them.
    pub groups: u64,
    /// At most [`limits::BACKUP_FAULTS_MAX`].
    pub faults: Vec<Fault>,
    /// Faults beyond those.
    pub more_faults: u64,
}

/// Reads a backup whole. `now_ms` is the wall clock.
///
/// # Errors
/// The store can't be read, or it was stopped. Whatever is wrong with the backup is no error but a fault.
pub fn verify(
    store: &Arc<dyn ObjectStore>,
    manifest: &Manifest,
    now_ms: i64,
    watch: &dyn Watch,
) -> Result<Verified, Failure> {
    watch.planned(manifest.objects.len() as u64, manifest.bytes());
    let mut verified = Verified::default();
    for whole in manifest.files() {
        if watch.is_stopped() {
            return Err(Failure::new(Kind::Stopped, "stopped"));
        }
        match verify_file(store, manifest, &whole) {
            Ok(groups) => verified.groups += groups,
            Err(Trouble::Fault(fault)) => verified.add(*fault),
            Err(Trouble::Failure(failure)) => return Err(failure),
        }
        verified.objects += whole.objects.len() as u64;
        verified.bytes += whole.bytes();
        watch.advanced(whole.bytes());
    }
    // What is damaged can't be put together, and why is said already.
    if verified.faults.is_empty() {
        let view = View::of_backup(store, manifest);
        match broker_of(&view, &manifest.marker, now_ms, false) {
            Ok((broker, looked)) => {
                let there: BTreeSet<String> = broker.contents().into_iter().map(|topic| topic.name).collect();
                let said: BTreeSet<String> = manifest.topics.iter().map(|topic| topic.name.clone()).collect();
                if there != said || looked.next_seq.saturating_sub(1) != manifest.last_group {
                    verified.add(whole("what it holds is not what its manifest says"));
                }
            }
            Err(failure) if failure.kind == Kind::Damaged => verified.add(whole(&failure.sentence)),
            // All that is read here comes from the store.
            Err(failure) if failure.kind == Kind::Disk => return Err(Failure::new(Kind::Store, failure.sentence)),
            Err(failure) => return Err(failure),
        }
    }
    Ok(verified)
}

fn whole(what: &str) -> Fault {
    let (key, path) = (String::new(), String::new());
    Fault { key, path, position: None, what: what.to_owned(), topics: Vec::new() }
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    fn add(&mut self, fault: Fault) {
        match self.faults.len() < limits::BACKUP_FAULTS_MAX {
            true => self.faults.push(fault),
            false => self.more_faults += 1,
        }
    }
}

enum Trouble {
    Fault(Box<Fault>),
    Failure(Failure),
}

fn fault(object: &Object, what: &str) -> Trouble {
    damage(object, None, what, Vec::new())
}

fn damage(object: &Object, position: Option<u64>, what: &str, topics: Vec<String>) -> Trouble {
    let (key, path) = (object.key.clone(), object.path.clone());
    Trouble::Fault(Box::new(Fault { key, path, position, what: what.to_owned(), topics }))
}

/// A lost or cut object is a fault; that the store does not answer says nothing about the backup.
fn find(store: &dyn ObjectStore, object: &Object) -> Result<(), Trouble> {
    match store.head(&object.key) {
        Ok(info) if info.size == object.bytes => Ok(()),
        Ok(info) => Err(fault(object, &format!("it has {} bytes instead of {}", info.size, object.bytes))),
        Err(error) if error.kind == store::Kind::NotFound => Err(fault(object, "it is missing")),
        Err(error) => Err(Trouble::Failure(error.into())),
    }
}

/// What the store said when an object could not be read.
fn unread(object: &Object, file: &ObjectFile, error: &io::Error) -> Trouble {
    match file.fault() {
        Some(kind) if kind != store::Kind::Corrupt && kind != store::Kind::NotFound => {
            Trouble::Failure(Failure::new(Kind::Store, error.to_string()))
        }
        _ => fault(object, &error.to_string()),
    }
}

/// The number of groups in it.
fn verify_file(store: &Arc<dyn ObjectStore>, manifest: &Manifest, whole: &Whole<'_>) -> Result<u64, Trouble> {
    whole.objects.iter().try_for_each(|object| find(&**store, object))?;
    let pieces = Arc::new(Pieces::new(store, whole.objects));
    let each = || whole.objects.iter().zip(pieces.objects());
    let checked = match whole.role() {
        Role::Segment | Role::Tail => {
            let file = Arc::clone(&pieces) as Arc<dyn DiskFile>;
            check::check(file, whole.role() == Role::Segment).map_err(|error| {
                let culprit = each().position(|(_, file)| file.fault().is_some()).unwrap_or(0);
                unread(&whole.objects[culprit], pieces.object(culprit), &error)
            })?
        }
        Role::Checkpoint | Role::Metadata => Ok(check::Checked::default()),
    };
    let mut wrong = None;
    for (object, file) in each() {
        let crc = file.crc().map_err(|error| unread(object, file, &error))?;
        if crc != object.crc {
            wrong = wrong.or(Some(fault(object, &format!("its checksum is {crc:08x} instead of {:08x}", object.crc))));
        }
    }
    match (checked, wrong) {
        (Err(Damage { position, what, partitions }), _) => {
            let ids: BTreeSet<Uuid> = partitions.into_iter().map(|id| id.topic).collect();
            let named = manifest.topics.iter().filter(|topic| ids.contains(&topic.id));
            let topics = named.map(|topic| topic.name.clone()).collect();
            let at = whole.objects.iter().rposition(|object| object.start <= position).unwrap_or(0);
            Err(damage(&whole.objects[at], Some(position), &what, topics))
        }
        (Ok(_), Some(wrong)) => Err(wrong),
        (Ok(checked), None) => Ok(checked.groups),
    }
}
