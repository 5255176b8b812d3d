//! Owns the store that is a folder: an object is a file, written beside and moved into its place.
//!
//! Uploads are written to `.chronik-tmp` in the folder, forced to the disk, and put in their place under a lock that
//! all processes take, so that conditions hold between them too. A file there that no process has locked belongs to
//! none that lives, and is removed by the next one that opens the store.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::SystemTime;

use super::source::SourceReader;
use super::{check_key, check_prefix, ETag, Kind, Listed, ObjectInfo, ObjectStore, Page, PutMode, Source, StoreError};
use crate::limits::{STORE_COPY_BYTES, STORE_KEY_BYTES_MAX, STORE_LIST_PAGE, STORE_LOCAL_SYNC_BYTES};
use crate::sys::lock::FileLock;
use crate::sys::traffic::{Pieces, Rests, Traffic};

/// Holds uploads and the lock. No key begins with it.
const TEMP_FOLDER: &str = ".chronik-tmp";
const LOCK_NAME: &str = "lock";
/// How often a file for an upload is made if others sweep it away.
const TEMP_TRIES: u32 = 10;
/// After each step of an upload.
const RESTS: Rests = Rests { idle: 0, busy: 1 };

/// A folder as a store. It is made by the first put; before that there is no bucket.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    /// Tells uploads of this process apart.
    uploads: AtomicU64,
    /// Of the log that may be on the same disk.
    traffic: Option<Arc<Traffic>>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl LocalStore {
    /// The store in `root`, which need not exist. What uploads of ended processes left behind is removed.
    pub fn open(root: &Path) -> LocalStore {
        let store = LocalStore { root: root.to_owned(), uploads: AtomicU64::new(0), traffic: None };
        store.sweep();
        store
    }

    /// Whose log may be on the same disk: while it is written, uploads rest for half of the time.
    pub fn beside(self, traffic: Option<Arc<Traffic>>) -> LocalStore {
        LocalStore { traffic, ..self }
    }

    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.root.join(TEMP_FOLDER)) else {
            return;
        };
        for entry in entries.flatten().filter(|e| e.file_name() != LOCK_NAME) {
            let free = File::open(entry.path()).is_ok_and(|file| matches!(FileLock::of(file, false), Ok(Some(_))));
            if free {
                // It may be gone already, and if it can't be removed it only takes space.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        check_key(key)?;
        if key.split('/').next() == Some(TEMP_FOLDER) {
            return Err(StoreError::new(
                Kind::Other,
                format!("{TEMP_FOLDER} is where a local store keeps its uploads."),
            ));
        }
        Ok(self.root.join(key))
    }

    /// An error of the file system about an object.
    fn failed(&self, what: &str, key: &str, error: &io::Error) -> StoreError {
        let kind = match error.kind() {
            ErrorKind::NotFound if !self.root.is_dir() => Kind::NoBucket,
            ErrorKind::NotFound | ErrorKind::NotADirectory => Kind::NotFound,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Kind::Denied,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::Unavailable,
            _ => Kind::Other,
        };
        let sentence = match kind {
            Kind::NoBucket => format!("The folder {} does not exist.", self.root.display()),
            Kind::NotFound => format!("There is no object {key} in {}.", self.describe()),
            _ => format!("The object {key} in {} can't be {what}: {error}.", self.describe()),
        };
        StoreError::new(kind, sentence)
    }

    /// Opens an object's file and tells what it is.
    fn opened(&self, key: &str) -> Result<(File, ObjectInfo)> {
        let path = self.path(key)?;
        let read = || -> io::Result<(File, fs::Metadata)> {
            // Looked at before it is opened, because opening a pipe could wait for ever.
            if !fs::metadata(&path)?.is_file() {
                return Err(ErrorKind::NotFound.into());
            }
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        };
        let (file, metadata) = read().map_err(|e| self.failed("read", key, &e))?;
        Ok((file, info_of(&metadata)))
    }

    /// Writes the upload's file, all of it and durably.
    fn write_temp(&self, key: &str, source: &dyn Source) -> Result<(PathBuf, FileLock)> {
        let folder = self.root.join(TEMP_FOLDER);
        let (path, lock) = (0..TEMP_TRIES)
            .find_map(|_| self.make_temp(&folder).transpose())
            .unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))
            .map_err(|e| self.failed("written", key, &e))?;
        match self.fill(key, source, lock.file()) {
            Ok(()) => Ok((path, lock)),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Makes an empty file and locks it; `None` if a process that sweeps took it away in between.
    fn make_temp(&self, folder: &Path) -> io::Result<Option<(PathBuf, FileLock)>> {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let unique = getrandom::u64().map_err(|e| io::Error::other(e.to_string()))?;
        let path = folder.join(format!("{}-{number}-{unique:016x}", std::process::id()));
        make_folder(folder)?;
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let Some(lock) = FileLock::of(file, false)? else {
            return Ok(None);
        };
        let is_there = lock.file().metadata()?.nlink() > 0;
        Ok(is_there.then_some((path, lock)))
    }

    fn fill(&self, key: &str, source: &dyn Source, mut file: &File) -> Result<()> {
        let mut reader = SourceReader::new(source, 0, source.size());
        let mut buffer = vec![0; STORE_COPY_BYTES];
        let mut pieces = self.traffic.clone().map(|traffic| Pieces::begin(traffic, RESTS));
        let mut unsynced = 0;
        loop {
            let count = reader.read(&mut buffer).map_err(|e| {
                StoreError::new(Kind::Source, format!("What should be stored as {key} can't be read: {e}."))
            })?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(|e| self.failed("written", key, &e))?;
            unsynced += count;
            if unsynced >= STORE_LOCAL_SYNC_BYTES {
                file.sync_data().map_err(|e| self.failed("forced to the disk", key, &e))?;
                unsynced = 0;
                pieces.iter_mut().for_each(Pieces::end);
            }
        }
        // The time with all its digits makes the state unique, which the file system's own clock of some milliseconds
        // would not.
        file.set_modified(SystemTime::now())
            .and_then(|()| file.sync_all())
            .map_err(|e| self.failed("forced to the disk", key, &e))
    }

    /// Moves the upload into its place if the condition holds.
    fn place(&self, key: &str, temp: &Path, mode: PutMode<'_>) -> Result<()> {
        let path = self.path(key)?;
        let folder = path.parent().unwrap_or(&self.root);
        let failed = |e: io::Error| match e.kind() {
            ErrorKind::AlreadyExists => exists(key, &self.describe()),
            ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty => {
                let what =
                    format!("The object {key} can't be stored: a part of its key is an object or a folder already.");
                StoreError::new(Kind::Other, what)
            }
            _ => self.failed("written", key, &e),
        };
        let lock = self.lock().map_err(failed)?;
        if let PutMode::IfMatch(etag) = mode {
            let same = fs::metadata(&path).is_ok_and(|m| m.is_file() && info_of(&m).etag == *etag);
            if !same {
                return Err(exists(key, &self.describe()));
            }
        }
        make_folder(folder).map_err(|e| match e.kind() {
            // A file is where a folder should be.
            ErrorKind::AlreadyExists => failed(ErrorKind::NotADirectory.into()),
            _ => failed(e),
        })?;
        match mode {
            PutMode::IfAbsent if path.is_dir() => return Err(failed(ErrorKind::IsADirectory.into())),
            PutMode::IfAbsent => link(temp, &path).map_err(failed)?,
            PutMode::Overwrite | PutMode::IfMatch(_) => fs::rename(temp, &path).map_err(failed)?,
        }
        sync_folder(folder).map_err(failed)?;
        drop(lock);
        Ok(())
    }

    /// Taken for every change of a place, by every process.
    fn lock(&self) -> io::Result<FileLock> {
        let path = self.root.join(TEMP_FOLDER).join(LOCK_NAME);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        FileLock::of(file, true)?.ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    /// Adds the objects of a folder that follow `after` to `found`, up to one more than a page.
    fn walk(&self, folder: &Path, name: &str, wanted: &Wanted<'_>, found: &mut Vec<Listed>) -> io::Result<()> {
        let mut children = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (Ok(kind), Some(own)) = (entry.file_type(), entry.file_name().to_str().map(str::to_owned)) else {
                continue;
            };
            let key = format!("{name}{own}");
            // A folder sorts as its keys do: with the slash.
            match kind.is_dir() {
                // No key leads deeper.
                true if key != TEMP_FOLDER && key.len() < STORE_KEY_BYTES_MAX => children.push(format!("{key}/")),
                false if kind.is_file() => children.push(key),
                _ => (),
            }
        }
        children.sort_unstable();
        for key in children.iter().filter(|key| wanted.may_hold(key)) {
            if found.len() > STORE_LIST_PAGE {
                return Ok(());
            }
            let path = self.root.join(key);
            // What vanishes meanwhile was deleted, and what can't be a key isn't one of ours.
            let gone = match key.ends_with('/') {
                true => self.walk(&path, key, wanted, found),
                false if check_key(key).is_err() => Ok(()),
                false => fs::metadata(&path).map(|m| found.push(Listed { key: key.clone(), info: info_of(&m) })),
            };
            match gone {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => (),
            }
        }
        Ok(())
    }
}

/// Which keys a page is made of.
struct Wanted<'a> {
    prefix: &'a str,
    after: &'a str,
}

impl Wanted<'_> {
    /// Whether a key, or with a slash at its end some key below, is wanted.
    fn may_hold(&self, key: &str) -> bool {
        if key.ends_with('/') {
            return (key.starts_with(self.prefix) || self.prefix.starts_with(key))
                && (key > self.after || self.after.starts_with(key));
        }
        key.starts_with(self.prefix) && key > self.after
    }
}

impl ObjectStore for LocalStore {
    fn put(&self, key: &str, source: &dyn Source, mode: PutMode<'_>) -> Result<ETag> {
        let path = self.path(key)?;
        // Spares the writing when it is clear already; what counts is decided under the lock.
        if mode == PutMode::IfAbsent && path.is_file() {
            return Err(exists(key, &self.describe()));
        }
        let (temp, lock) = self.write_temp(key, source)?;
        let placed = self.place(key, &temp, mode);
        if placed.is_err() || mode == PutMode::IfAbsent {
            // After a link this is the upload's second name, otherwise it has failed.
            let _ = fs::remove_file(&temp);
        }
        placed?;
        let metadata = lock.file().metadata().map_err(|e| self.failed("written", key, &e))?;
        Ok(info_of(&metadata).etag)
    }

    fn get(&self, key: &str, range: Option<Range<u64>>, sink: &mut dyn Write) -> Result<ObjectInfo> {
        let (file, info) = self.opened(key)?;
        let range = clamped(key, range, info.size)?;
        let mut buffer = vec![0; STORE_COPY_BYTES];
        let mut at = range.start;
        while at < range.end {
            let count = buffer.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
            let read = match file.read_at(&mut buffer[..count], at) {
                Ok(0) => {
                    let what = format!("The object {key} in {} became shorter while it was read.", self.describe());
                    return Err(StoreError::new(Kind::Corrupt, what));
                }
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.failed("read", key, &e)),
            };
            sink.write_all(&buffer[..read]).map_err(|e| sink_failed(key, &e))?;
            at += read as u64;
        }
        Ok(info)
    }

    fn head(&self, key: &str) -> Result<ObjectInfo> {
        Ok(self.opened(key)?.1)
    }

    fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page> {
        check_prefix(prefix)?;
        let wanted = Wanted { prefix, after: from.unwrap_or("") };
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        let mut objects = Vec::new();
        match self.walk(&self.root.join(folder), folder, &wanted, &mut objects) {
            Err(e) if e.kind() == ErrorKind::NotFound && self.root.is_dir() => (),
            Err(e) if e.kind() == ErrorKind::NotADirectory => (),
            other => other.map_err(|e| self.failed("listed", prefix, &e))?,
        }
        let more = objects.len() > STORE_LIST_PAGE;
        objects.truncate(STORE_LIST_PAGE);
        let next = objects.last().filter(|_| more).map(|last| last.key.clone());
        Ok(Page { objects, next })
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        if !path.is_file() {
            return Ok(());
        }
        let lock = self.lock().map_err(|e| self.failed("deleted", key, &e))?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| self.failed("deleted", key, &e))?,
        }
        let mut folder = path.parent().unwrap_or(&self.root);
        // Folders that became empty go too; under the lock no upload is just about to use one.
        while folder != self.root && fs::remove_dir(folder).is_ok() {
            folder = folder.parent().unwrap_or(&self.root);
        }
        sync_folder(folder).map_err(|e| self.failed("deleted", key, &e))?;
        drop(lock);
        Ok(())
    }

    fn describe(&self) -> String {
        format!("file://{}", self.root.display())
    }
}

pub(super) fn exists(key: &str, store: &str) -> StoreError {
    let what = format!("The object {key} in {store} is not in the state that the upload asked for.");
    StoreError::new(Kind::Exists, what)
}

pub(super) fn sink_failed(key: &str, error: &io::Error) -> StoreError {
    StoreError::new(Kind::Sink, format!("What was read from {key} can't be passed on: {error}."))
}

/// The part of a range that an object of `size` bytes has.
pub(super) fn clamped(key: &str, range: Option<Range<u64>>, size: u64) -> Result<Range<u64>> {
    match range {
        None => Ok(0..size),
        Some(range) if range.start < range.end && range.start < size => Ok(range.start..range.end.min(size)),
        Some(range) => {
            let what = format!("The object {key} has {size} bytes, none of them in {}..{}.", range.start, range.end);
            Err(StoreError::new(Kind::OutOfRange, what))
        }
    }
}

fn info_of(metadata: &fs::Metadata) -> ObjectInfo {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    let etag = format!("{seconds:x}.{nanos:x}-{:x}-{:x}", metadata.len(), metadata.ino());
    ObjectInfo { size: metadata.len(), etag: ETag(etag), modified_ms: seconds.saturating_mul(1000) + nanos / 1_000_000 }
}

/// Gives a file a second name; `AlreadyExists` if that is taken. Only called under the lock.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            // A file system without links. The lock keeps the others from coming in between.
            match to.try_exists()? {
                true => Err(ErrorKind::AlreadyExists.into()),
                false => fs::rename(from, to),
            }
        }
        other => other,
    }
}

/// Makes a folder and those above it, durably.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut missing = vec![folder];
    while let Some(parent) =
        missing.last().and_then(|f| f.parent()).filter(|p| !p.as_os_str().is_empty() && !p.is_dir())
    {
        missing.push(parent);
    }
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && folder.is_dir() => (),
            other => other?,
        }
        let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(parent)?;
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
