//! Owns opening a data directory to look at it, and the names of the topics in it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::failure::{Failure, NOT_FOUND};
use super::parse::Args;
use super::Session;
use crate::broker::topics::{self, TopicChange};
use crate::broker::{checkpoint, metalog};
use crate::sys::disk::Disk;
use crate::sys::lock::DirLock;
use crate::sys::read_disk::ReadDisk;
use crate::wal::marker::{self, Marker};
use crate::wal::{self, inspect, MetaEntry, PartitionId};
use crate::wire::Uuid;

/// A data directory that is looked at.
pub struct DataDir {
    pub path: PathBuf,
    pub disk: Arc<dyn Disk>,
    /// A server uses it at the moment, so that only what is sealed stands still.
    pub is_live: bool,
    _lock: Option<DirLock>,
}

/// What a command may do while a server uses the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    Refused,
    /// Sealed segments never change, so they may be looked at.
    SealedOnly,
}

/// Opens the directory that `--data-dir` names and keeps servers out of it while it is open.
pub fn open(session: &Session, args: &Args, live: Live) -> Result<DataDir, Failure> {
    let path = PathBuf::from(args.value("data-dir").unwrap_or_default());
    let shown = path.display().to_string();
    let disk = ReadDisk::open(&path).map_err(|error| Failure::file(&shown, &error))?;
    if !path.join(marker::PATH).exists() && !path.join(wal::segment::DIR).is_dir() {
        return Err(Failure::new(
            NOT_FOUND,
            format!("{shown} is no data directory: it has neither {} nor {}/.", marker::PATH, wal::segment::DIR),
        ));
    }
    let (lock, is_live) = match DirLock::share(&path) {
        Ok(lock) => (lock, false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && live == Live::SealedOnly => {
            session.out.note(&format!("{error}; only sealed segments are looked at, which never change"));
            (None, true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(Failure::error(format!("{error}; stop it first, as its log changes while it runs.")));
        }
        Err(error) => return Err(Failure::file("Cannot lock the data directory", &error)),
    };
    Ok(DataDir { path, disk: Arc::new(disk), is_live, _lock: lock })
}

/// What topics were called, as far as metadata told.
#[derive(Debug, Default)]
pub struct Names {
    topics: BTreeMap<Uuid, Topic>,
}

#[derive(Debug)]
struct Topic {
    name: String,
    is_deleted: bool,
}

impl Names {
    /// Learns from an entry of metadata; others than those of topics tell nothing.
    pub fn learn(&mut self, entry: &MetaEntry) {
        if entry.table != metalog::TOPIC {
            return;
        }
        match topics::read_entry(entry) {
            Ok(TopicChange::Put { id, name, .. }) => {
                self.topics.insert(id, Topic { name, is_deleted: false });
            }
            Ok(TopicChange::Remove { id }) => {
                if let Some(topic) = self.topics.get_mut(&id) {
                    topic.is_deleted = true;
                }
            }
            _ => {}
        }
    }

    /// What a directory's newest sound checkpoint, or its metadata files, tell. Damage is passed over.
    pub fn of(disk: &dyn Disk) -> Names {
        let mut names = Names::default();
        for seq in wal::checkpoint::list(disk).unwrap_or_default().into_iter().rev() {
            let copy = || inspect::checkpoint_copy(disk, seq).ok().flatten()?.ok();
            let Some((_, bytes)) = inspect::checkpoint(disk, seq).ok().and_then(Result::ok).or_else(copy) else {
                continue;
            };
            if let Ok(snapshot) = checkpoint::read(&bytes) {
                snapshot.entries.iter().for_each(|entry| names.learn(entry));
                break;
            }
        }
        if let Ok(Some(Marker { metadata: wal::settings::MetadataStore::Files, .. })) = Marker::load(disk) {
            let _ = wal::files::load(disk, &mut |entry| names.learn(&entry));
        }
        names
    }

    pub fn name(&self, id: Uuid) -> Option<&str> {
        self.topics.get(&id).map(|topic| topic.name.as_str())
    }

    /// The topic's name for people, or its id when nobody told the name.
    pub fn shown(&self, id: Uuid) -> String {
        match self.topics.get(&id) {
            Some(Topic { name, is_deleted: true }) => format!("{name} (deleted)"),
            Some(topic) => topic.name.clone(),
            None => format!("topic id {id}"),
        }
    }

    /// `partition 3 of orders`.
    pub fn partition(&self, id: PartitionId) -> String {
        format!("partition {} of {}", id.partition, self.shown(id.topic))
    }
}
