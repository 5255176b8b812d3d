//! Owns making a data directory of a backup.
//!
//! The directory says that it is being restored (`chronik.restoring`) until it is whole, and no server starts on it before.
//! An interrupted restore of the same backup goes on: what is there and right is not fetched again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::create::broker_of;
use super::manifest::{Manifest, Role, Whole};
use super::source::FileSource;
use super::view::View;
use super::{Failure, Kind, Watch};
use crate::broker::extract::TopicContent;
use crate::broker::topics::name_fault;
use crate::limits;
use crate::store::{self, get_bytes, ObjectStore, StoreError};
use crate::sys::aligned::AlignedBuf;
use crate::sys::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES};
use crate::sys::lock::{DirLock, LOCK_FILE};
use crate::sys::real_disk::{make_folder, RealDisk, Writing, PROBE};
use crate::tier::owner::{FILE as OWNER_FILE, TEMPORARY as OWNER_TEMPORARY};
use crate::wal::marker::{self, RESTORING};
use crate::wal::recovery::Looked;
use crate::wal::settings::MetadataStore;
use crate::wal::{checkpoint, segment};

/// The directory that is made.
#[derive(Debug)]
pub struct Target {
    disk: Arc<dyn Disk>,
    _lock: Option<DirLock>,
}

impl Target {
    /// A folder, which is made if it is absent. It must be empty, or hold an interrupted restore.
    pub fn open(root: &Path) -> Result<Target, Failure> {
        let failed = |error: io::Error| Failure::new(Kind::Disk, format!("{}: {error}", root.display()));
        make_folder(root).map_err(failed)?;
        let lock = DirLock::acquire(root).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Failure::new(Kind::Busy, error.to_string()),
            _ => failed(error),
        })?;
        let mut is_ours = false;
        let mut other = None;
        for entry in std::fs::read_dir(root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            match name.to_str() {
                // Who the server is was written before the restore began.
                Some(LOCK_FILE | OWNER_FILE | OWNER_TEMPORARY) => {}
                Some(RESTORING) => is_ours = true,
                Some(name) if is_begun(name) => {}
                _ => other = Some(name),
            }
        }
        if let Some(other) = other.filter(|_| !is_ours) {
            let what = format!(
                "{} is not empty: it holds {}. A restore never overwrites anything; name a new folder",
                root.display(),
                other.to_string_lossy()
            );
            return Err(Failure::new(Kind::Refused, what));
        }
        let disk = RealDisk::open(root, Writing::Auto).map_err(failed)?;
        Ok(Target { disk: Arc::new(disk), _lock: Some(lock) })
    }

    /// Any disk, which the caller has made sure to be empty.
    pub fn on(disk: Arc<dyn Disk>) -> Target {
        Target { disk, _lock: None }
    }
}

/// Whether a restore leaves such a file when it is killed before it has said what it does. It is written anew.
fn is_begun(name: &str) -> bool {
    name == PROBE || name.strip_suffix(".tmp").is_some_and(|name| matches!(name, RESTORING | OWNER_FILE))
}

/// What is to be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of topics, or beginnings of names with a `*` behind. Everything if there are none and nothing is renamed.
    pub topics: Vec<String>,
    /// Other names: `old`, `new`; each may end with a `*`, then both do. Topics that are named here are wanted.
    pub renames: Vec<(String, String)>,
}

impl Selection {
    /// Whether all is wanted as it is.
    pub fn is_everything(&self) -> bool {
        self.topics.is_empty() && self.renames.is_empty()
    }

    /// The wanted topics' names with those that they get. Each pattern has to stand for something.
    fn names(&self, there: &[TopicContent]) -> Result<BTreeMap<String, String>, Failure> {
        let refused = |what: String| Failure::new(Kind::Refused, what);
        let mut names = BTreeMap::new();
        let patterns = self.topics.iter().map(|pattern| (pattern, None));
        for (pattern, new) in patterns.chain(self.renames.iter().map(|(old, new)| (old, Some(new)))) {
            let mut is_used = false;
            for (name, rest) in there.iter().filter_map(|topic| Some((&topic.name, matched(pattern, &topic.name)?))) {
                is_used = true;
                let new = match new {
                    None => name.clone(),
                    Some(new) => match (new.strip_suffix('*'), pattern.ends_with('*')) {
                        (Some(prefix), true) => format!("{prefix}{rest}"),
                        (None, false) => new.clone(),
                        _ => {
                            return Err(refused(format!(
                                "'{pattern}={new}': either both names end with * or none does"
                            )))
                        }
                    },
                };
                names.insert(name.clone(), new);
            }
            if !is_used {
                return Err(Failure::new(Kind::NotFound, format!("the backup has no topic '{pattern}'")));
            }
        }
        let mut taken = BTreeSet::new();
        for new in names.values() {
            if let Some(fault) = name_fault(new) {
                return Err(refused(format!("'{new}' can't be the name of a topic: {fault}")));
            }
            // Kafka takes '.' and '_' for the same in the names of metrics, and so refuses both in one cluster.
            if !taken.insert(new.replace('.', "_")) {
                return Err(refused(format!("two topics would have the name '{new}', or names that are too alike")));
            }
        }
        Ok(names)
    }
}

/// What a `*` stands for, if the name fits the pattern.
fn matched<'a>(pattern: &str, name: &'a str) -> Option<&'a str> {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.strip_prefix(prefix),
        None => (pattern == name).then_some(""),
    }
}

/// What a restore came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Topics by the names that they have now.
    pub topics: Vec<String>,
    /// Objects and bytes that were fetched.
    pub objects: u64,
    pub bytes: u64,
    /// Bytes that an interrupted restore had fetched before.
    pub kept_bytes: u64,
}

/// Makes the data directory that a backup holds, or a part of it. `now_ms` is the wall clock.
///
/// Every partition begins a new leader epoch at its end, so that clients that have seen more find out. After an error what
/// was fetched stays, and the same call goes on with it.
pub fn restore(
    target: &Target,
    store: &Arc<dyn ObjectStore>,
    manifest: &Manifest,
    selection: &Selection,
    now_ms: i64,
    watch: &dyn Watch,
) -> Result<Restored, Failure> {
    check_interrupted(&*target.disk, manifest, selection)?;
    let partial = match selection.is_everything() {
        true => None,
        false => Some(Partial::of(store, manifest, selection, now_ms)?),
    };
    fetch(target, store, manifest, selection, partial, now_ms, watch)
}

/// The same for the server whose second tier the store is: segments stay there, but those of compacted topics, and are read when they
/// are asked for.
pub fn restore_tiered(
    target: &Target,
    store: &Arc<dyn ObjectStore>,
    manifest: &Manifest,
    now_ms: i64,
    watch: &dyn Watch,
) -> Result<Restored, Failure> {
    let selection = Selection::default();
    check_interrupted(&*target.disk, manifest, &selection)?;
    let partial = match manifest.marker.metadata {
        MetadataStore::Log => Some(Partial::tiered(store, manifest, now_ms)?),
        MetadataStore::Files => None,
    };
    fetch(target, store, manifest, &selection, partial, now_ms, watch)
}

fn fetch(
    target: &Target,
    store: &Arc<dyn ObjectStore>,
    manifest: &Manifest,
    selection: &Selection,
    partial: Option<Partial>,
    now_ms: i64,
    watch: &dyn Watch,
) -> Result<Restored, Failure> {
    let disk = &*target.disk;
    let is_wanted = |file: &Whole<'_>| partial.as_ref().is_none_or(|partial| partial.needs(file));
    let files: Vec<Whole<'_>> = manifest.files().filter(is_wanted).collect();
    let total: u64 = files.iter().map(Whole::bytes).sum();
    watch.planned(files.iter().map(|file| file.objects.len() as u64).sum(), total);
    let restored = Restored { topics: Vec::new(), objects: 0, bytes: 0, kept_bytes: 0 };
    let mut fetching = Fetching { disk, store: &**store, watch, restored };
    disk.replace(RESTORING, statement(manifest, selection).as_bytes()).map_err(failed)?;
    for dir in [segment::DIR, checkpoint::DIR] {
        disk.create_dir(dir).map_err(failed)?;
    }
    let kept = files.iter().map(|file| fetching.kept(file)).sum::<Result<u64, Failure>>()?;
    let free = disk.free_bytes().map_err(failed)?;
    if free < total - kept {
        let what = format!("{} bytes are to be restored, and only {free} are free", total - kept);
        return Err(Failure::new(Kind::Disk, what));
    }
    for file in &files {
        fetching.file(file)?;
    }
    let mut restored = fetching.restored;
    manifest.marker.store(disk).map_err(failed)?;
    let (looked, state) = match partial {
        Some(partial) => (partial.looked, partial.state),
        None => {
            let (broker, looked) = broker_of(disk, &manifest.marker, now_ms, true)?;
            (looked, broker.snapshot(manifest.marker.metadata == MetadataStore::Log))
        }
    };
    let seq = looked.next_seq.saturating_sub(1);
    if seq > 0 {
        checkpoint::write_twice(disk, manifest.marker.directory, seq, looked.position, &state)
            .map_err(|error| failed(error.into()))?;
    }
    // The proof that it opens, from what is on the disk now.
    let (broker, _) = broker_of(disk, &manifest.marker, now_ms, false)?;
    restored.topics = broker.contents().into_iter().map(|topic| topic.name).collect();
    disk.remove(RESTORING).map_err(failed)?;
    disk.sync_dir("").map_err(failed)?;
    Ok(restored)
}

fn failed(error: io::Error) -> Failure {
    Failure::new(Kind::Disk, error.to_string())
}

/// What `chronik.restoring` says: which backup, and what of it.
fn statement(manifest: &Manifest, selection: &Selection) -> String {
    let mut text = format!("backup {}\ndirectory {}\n", manifest.backup, manifest.directory());
    for topic in &selection.topics {
        let _ = writeln!(text, "topic {topic}");
    }
    for (old, new) in &selection.renames {
        let _ = writeln!(text, "rename {old} {new}");
    }
    text
}

fn check_interrupted(disk: &dyn Disk, manifest: &Manifest, selection: &Selection) -> Result<(), Failure> {
    match disk.read(RESTORING, limits::BACKUP_PIECE_BYTES) {
        Ok(bytes) if bytes == statement(manifest, selection).as_bytes() => Ok(()),
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let backup = text.lines().find_map(|line| line.strip_prefix("backup ")).unwrap_or("unknown");
            let what = format!(
                "the folder holds an interrupted restore of backup {backup}, or of other topics of it. Run that restore \
                 again to go on with it, or remove the folder"
            );
            Err(Failure::new(Kind::Refused, what))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match disk.read(marker::PATH, limits::BACKUP_PIECE_BYTES).is_ok() {
                true => Err(Failure::new(Kind::Refused, "the folder is a data directory already")),
                false => Ok(()),
            }
        }
        Err(error) => Err(failed(error)),
    }
}

/// What of a backup is needed for some of its topics.
struct Partial {
    looked: Looked,
    /// A checkpoint with these topics only.
    state: Vec<u8>,
    /// Paths of the segments that hold their records, and of the one that the log ends in.
    paths: BTreeSet<String>,
}

impl Partial {
    fn of(
        store: &Arc<dyn ObjectStore>,
        manifest: &Manifest,
        selection: &Selection,
        now_ms: i64,
    ) -> Result<Partial, Failure> {
        if manifest.marker.metadata == MetadataStore::Files {
            let what =
                "single topics can't be taken from a backup whose metadata is in files (--file-metadata): restore \
                        all of it";
            return Err(Failure::new(Kind::Refused, what));
        }
        let view = View::of_backup(store, manifest);
        let (broker, looked) = broker_of(&view, &manifest.marker, now_ms, true)?;
        let contents = broker.contents();
        let names = selection.names(&contents)?;
        let chosen = contents.iter().filter(|topic| names.contains_key(&topic.name));
        let mut paths: BTreeSet<String> =
            chosen.flat_map(|topic| &topic.segments).map(|id| segment::path(*id)).collect();
        paths.insert(segment::path(looked.position.segment));
        Ok(Partial { looked, state: broker.snapshot_of_topics(&names), paths })
    }

    /// All topics, without the segments that can stay in the store.
    fn tiered(store: &Arc<dyn ObjectStore>, manifest: &Manifest, now_ms: i64) -> Result<Partial, Failure> {
        let view = View::of_backup(store, manifest);
        let (mut broker, looked) = broker_of(&view, &manifest.marker, now_ms, true)?;
        // The one that the log ends in is written on.
        broker.know_stored(manifest.segments().filter(|(id, _)| *id < looked.position.segment));
        let stay: BTreeSet<String> = broker.leavable_segments().into_iter().map(segment::path).collect();
        let last = segment::path(looked.position.segment);
        let paths = manifest.objects.iter().map(|object| object.path.clone());
        let paths = paths.filter(|path| *path == last || !stay.contains(path)).collect();
        Ok(Partial { looked, state: broker.snapshot(true), paths })
    }

    fn needs(&self, file: &Whole<'_>) -> bool {
        matches!(file.role(), Role::Segment | Role::Tail) && self.paths.contains(file.path())
    }
}

struct Fetching<'a> {
    disk: &'a dyn Disk,
    store: &'a dyn ObjectStore,
    watch: &'a dyn Watch,
    restored: Restored,
}

impl Fetching<'_> {
    /// Length of a file that an interrupted restore has made already; 0 if there is none of this length.
    fn kept(&self, whole: &Whole<'_>) -> Result<u64, Failure> {
        let len = match self.disk.open(whole.path(), OpenMode::Cached) {
            Ok(file) => file.len().map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failed(error)),
        };
        Ok(if len == whole.bytes() { len } else { 0 })
    }

    fn file(&mut self, whole: &Whole<'_>) -> Result<(), Failure> {
        if self.watch.is_stopped() {
            return Err(Failure::new(Kind::Stopped, "stopped"));
        }
        let bytes = whole.bytes();
        if bytes > 0 && self.kept(whole)? == bytes {
            let file = self.disk.open(whole.path(), OpenMode::Cached).map_err(failed)?;
            if FileSource::new(file, bytes, self.watch).crc().map_err(failed)? == whole.crc() {
                self.restored.kept_bytes += bytes;
                self.watch.advanced(bytes);
                return Ok(());
            }
        }
        match whole.role() {
            Role::Segment | Role::Tail => self.segment(whole)?,
            Role::Checkpoint | Role::Metadata => self.small(whole)?,
        }
        self.restored.objects += whole.objects.len() as u64;
        self.restored.bytes += bytes;
        self.watch.advanced(bytes);
        Ok(())
    }

    fn small(&self, whole: &Whole<'_>) -> Result<(), Failure> {
        let max = limits::CHECKPOINT_BYTES_MAX.max(limits::META_FILE_BYTES_MAX);
        let object = &whole.objects[0];
        let (bytes, _) = get_bytes(self.store, &object.key, None, max).map_err(|error| lost(&object.key, error))?;
        if bytes.len() as u64 != object.bytes || crc32c::crc32c(&bytes) != object.crc {
            return Err(not_as_it_was(whole));
        }
        if let Some((dir, _)) = object.path.split_once('/') {
            self.disk.create_dir(dir).map_err(failed)?;
        }
        self.disk.replace(&object.path, &bytes).map_err(failed)
    }

    /// Written beside and renamed, so that under its name a segment is whole.
    fn segment(&self, whole: &Whole<'_>) -> Result<(), Failure> {
        let (path, bytes) = (whole.path(), whole.bytes());
        let Some((dir, _)) = path.split_once('/').filter(|_| bytes % BLOCK_BYTES as u64 == 0) else {
            return Err(not_as_it_was(whole));
        };
        let temporary = format!("{path}.tmp");
        for path in [&temporary, path] {
            match self.disk.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        self.disk.create_dir(dir).map_err(failed)?;
        let file = self.disk.create(&temporary, bytes).map_err(failed)?;
        if let Err(failure) = self.objects(whole, &*file) {
            // What is left would hold space, and is replaced by the next try anyway.
            let _ = self.disk.remove(&temporary);
            return Err(failure);
        }
        file.sync_data().map_err(failed)?;
        self.disk.rename(&temporary, path).map_err(failed)?;
        self.disk.sync_dir(dir).map_err(failed)
    }

    /// Fetches all objects of a file into it.
    fn objects(&self, whole: &Whole<'_>, file: &dyn DiskFile) -> Result<(), Failure> {
        let mut sink = Sink::new(file, whole.bytes(), self.watch);
        for object in whole.objects {
            let got = self.store.get(&object.key, None, &mut sink);
            match (got, sink.failed.take()) {
                (_, Some(error)) if self.watch.is_stopped() => {
                    return Err(Failure::new(Kind::Stopped, error.to_string()));
                }
                (_, Some(error)) if error.kind() == io::ErrorKind::InvalidData => return Err(not_as_it_was(whole)),
                (_, Some(error)) => return Err(failed(error)),
                (Err(error), None) => return Err(lost(&object.key, error)),
                (Ok(_), None) if sink.taken() == object.start + object.bytes => {}
                (Ok(_), None) => return Err(not_as_it_was(whole)),
            }
        }
        match sink.finish().map_err(failed)? == Some(whole.crc()) {
            true => Ok(()),
            false => Err(not_as_it_was(whole)),
        }
    }
}

fn lost(key: &str, error: StoreError) -> Failure {
    match error.kind {
        store::Kind::NotFound => Failure::new(Kind::Damaged, format!("object {key} is missing")),
        _ => error.into(),
    }
}

fn not_as_it_was(whole: &Whole<'_>) -> Failure {
    let keys: Vec<&str> = whole.objects.iter().map(|object| object.key.as_str()).collect();
    let what = match keys.as_slice() {
        [key] => format!("object {key} ({}) is not what was backed up", whole.path()),
        _ => format!("one of the objects {} ({}) is not what was backed up", keys.join(", "), whole.path()),
    };
    Failure::new(Kind::Damaged, what)
}

/// Writes what comes into a file, in whole blocks.
struct Sink<'a> {
    file: &'a dyn DiskFile,
    bytes: u64,
    watch: &'a dyn Watch,
    piece: AlignedBuf,
    /// What is written; with the piece, what has come.
    position: u64,
    crc: u32,
    failed: Option<io::Error>,
}

impl<'a> Sink<'a> {
    fn new(file: &'a dyn DiskFile, bytes: u64, watch: &'a dyn Watch) -> Sink<'a> {
        let piece = AlignedBuf::with_capacity(limits::BACKUP_PIECE_BYTES);
        Sink { file, bytes, watch, piece, position: 0, crc: 0, failed: None }
    }

    /// Bytes that have come.
    fn taken(&self) -> u64 {
        self.position + self.piece.len() as u64
    }

    fn flush_piece(&mut self) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &self.piece);
        self.file.write_at(&self.piece, self.position)?;
        self.position += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// The checksum of all; `None` when less came than should have.
    fn finish(mut self) -> io::Result<Option<u32>> {
        if self.taken() != self.bytes {
            return Ok(None);
        }
        if !self.piece.is_empty() {
            self.flush_piece()?;
        }
        Ok(Some(self.crc))
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.watch.is_stopped() {
            return Err(io::Error::other("stopped"));
        }
        let room = limits::BACKUP_PIECE_BYTES - self.piece.len();
        let count = room.min(bytes.len());
        if self.position + (self.piece.len() + count) as u64 > self.bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the object is longer than it should be"));
        }
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == limits::BACKUP_PIECE_BYTES {
            self.flush_piece()?;
        }
        Ok(count)
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes).map_err(|error| {
            let again = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            again
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    fn topics(names: &[&str]) -> Vec<TopicContent> {
        let topic = |name: &&str| TopicContent {
            name: name.to_string(),
            id: Uuid([1; 16]),
            offsets: vec![(0, 0)],
            bytes: 0,
            segments: BTreeSet::new(),
        };
        names.iter().map(topic).collect()
    }

    fn selection(topics: &[&str], renames: &[(&str, &str)]) -> Selection {
        Selection {
            topics: topics.iter().map(|t| t.to_string()).collect(),
            renames: renames.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect(),
        }
    }

    #[test]
    fn a_restore_that_was_killed_as_it_began_can_be_run_again() {
        let root = std::env::temp_dir().join(format!("chronik-restore-{}", std::process::id()));
        for name in ["chronik.probe", "chronik.restoring.tmp", "chronik.owner.tmp"] {
            let _ = std::fs::remove_dir_all(&root);
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join(name), b"half of").unwrap();
            Target::open(&root).unwrap();
        }
        std::fs::write(root.join("chronik.dir.tmp"), b"of something else").unwrap();
        assert_eq!(Target::open(&root).unwrap_err().kind, Kind::Refused);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn patterns_choose_topics_and_renames_win() {
        let there = topics(&["a", "b1", "b2", "c.d"]);
        let names = selection(&["a", "b*"], &[("b2", "two")]).names(&there).unwrap();
        let shown: Vec<_> = names.iter().map(|(old, new)| format!("{old}={new}")).collect();
        assert_eq!(shown, ["a=a", "b1=b1", "b2=two"]);
        let names = selection(&[], &[("b*", "old-b*")]).names(&there).unwrap();
        assert_eq!(names.values().collect::<Vec<_>>(), ["old-b1", "old-b2"]);
    }

    #[test]
    fn names_that_can_not_be_are_refused() {
        let there = topics(&["a", "b", "c.d", "c"]);
        for (selection, kind) in [
            (selection(&["nothing"], &[]), Kind::NotFound),
            (selection(&["x*"], &[]), Kind::NotFound),
            (selection(&["a"], &[("b", "a")]), Kind::Refused),
            (selection(&["c.d"], &[("a", "c_d")]), Kind::Refused),
            (selection(&[], &[("a", "with space")]), Kind::Refused),
            (selection(&[], &[("a", "x*")]), Kind::Refused),
            (selection(&[], &[("c*", "x")]), Kind::Refused),
        ] {
            assert_eq!(selection.names(&there).unwrap_err().kind, kind, "{selection:?}");
        }
    }
}
