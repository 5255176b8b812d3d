//! Owns verifying a backup: every byte is read, every checksum is made, everything is parsed, and it is put together.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::create::broker_of;
use super::manifest::{Manifest, Object, Role};
use super::view::{ObjectFile, View};
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
    for object in &manifest.objects {
        if watch.is_stopped() {
            return Err(Failure::new(Kind::Stopped, "stopped"));
        }
        match verify_object(store, manifest, object) {
            Ok(groups) => verified.groups += groups,
            Err(Trouble::Fault(fault)) => verified.add(*fault),
            Err(Trouble::Failure(failure)) => return Err(failure),
        }
        verified.objects += 1;
        verified.bytes += object.bytes;
        watch.advanced(object.bytes);
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

/// The number of groups in it.
fn verify_object(store: &Arc<dyn ObjectStore>, manifest: &Manifest, object: &Object) -> Result<u64, Trouble> {
    let fault = |position, what: &str, topics| {
        let (key, path) = (object.key.clone(), object.path.clone());
        Trouble::Fault(Box::new(Fault { key, path, position, what: what.to_owned(), topics }))
    };
    // A lost or cut object is a fault; that the store does not answer says nothing about the backup.
    match store.head(&object.key) {
        Ok(info) if info.size == object.bytes => {}
        Ok(info) => {
            let what = format!("it has {} bytes instead of {}", info.size, object.bytes);
            return Err(fault(None, &what, Vec::new()));
        }
        Err(error) if error.kind == store::Kind::NotFound => {
            return Err(fault(None, "it is missing", Vec::new()));
        }
        Err(error) => return Err(Trouble::Failure(error.into())),
    }
    let file = Arc::new(ObjectFile::new(store, object));
    let failed = |error: io::Error| match file.fault() {
        Some(kind) if kind != store::Kind::Corrupt && kind != store::Kind::NotFound => {
            Trouble::Failure(Failure::new(Kind::Store, error.to_string()))
        }
        _ => fault(None, &error.to_string(), Vec::new()),
    };
    let checked = match object.role {
        Role::Segment | Role::Tail => {
            let file: Arc<dyn DiskFile> = Arc::clone(&file) as Arc<dyn DiskFile>;
            check::check(file, object.role == Role::Segment).map_err(failed)?
        }
        Role::Checkpoint | Role::Metadata => Ok(check::Checked::default()),
    };
    match (checked, file.crc().map_err(failed)?) {
        (Err(Damage { position, what, partitions }), _) => {
            let ids: BTreeSet<Uuid> = partitions.into_iter().map(|id| id.topic).collect();
            let named = manifest.topics.iter().filter(|topic| ids.contains(&topic.id));
            Err(fault(Some(position), &what, named.map(|topic| topic.name.clone()).collect()))
        }
        (Ok(_), crc) if crc != object.crc => {
            Err(fault(None, &format!("its checksum is {crc:08x} instead of {:08x}", object.crc), Vec::new()))
        }
        (Ok(checked), _) => Ok(checked.groups),
    }
}
