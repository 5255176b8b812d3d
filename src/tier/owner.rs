//! Owns who may write below a data directory's folder in the store: one server, and not a copy of its directory elsewhere.
//!
//! The data directory holds a file with a random token and the file's own inode. A copy of the directory, on another machine or
//! beside the first, has another inode there, so it gets a token of its own. The object `owner` in the store holds the token of
//! the server whose segments lie there; whoever has another one keeps its hands off, unless it is told to take over. A copy of the
//! whole disk, block by block, has the same inode: it cannot be told from the original.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::backup::{owner_key, Failure, Kind};
use crate::store::{self, get_bytes, ETag, ObjectStore, PutMode, Source};

/// The file in the data directory.
pub const FILE: &str = "chronik.owner";

/// The most that such a file or object holds, in bytes.
const BYTES_MAX: u64 = 4096;

/// What tells this server from others, and where it runs, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    token: String,
    place: String,
}

impl Owner {
    /// The owner that a data directory says it is; a new one where it says nothing, or was copied.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn of_directory(root: &Path) -> io::Result<Owner> {
        let path = root.join(FILE);
        let place = format!("{}:{}", host(), root.display());
        if let Some(token) = read_token(&path)? {
            return Ok(Owner { token, place });
        }
        let random = || getrandom::u64().map_err(|error| io::Error::other(error.to_string()));
        let token = format!("{:016x}{:016x}", random()?, random()?);
        let temporary: PathBuf = root.join(format!("{FILE}.tmp"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
        let inode = file.metadata()?.ino();
        file.write_all(format!("{token} {inode}\n").as_bytes())?;
        file.sync_all()?;
        // A rename keeps the inode.
        fs::rename(&temporary, &path)?;
        File::open(root)?.sync_all()?;
        Ok(Owner { token, place })
    }

    /// An owner that is told from others by `token` alone.
    pub fn named(token: &str, place: &str) -> Owner {
        Owner { token: token.to_owned(), place: place.to_owned() }
    }

    fn text(&self) -> String {
        format!("token {}\nserver {}\n", self.token, self.place)
    }

    /// Makes sure that the store knows this owner; the state of its object. With `take_over`, whoever it knew before.
    ///
    /// # Errors
    /// [`Kind::Deposed`] when it knows another one.
    pub fn claim(&self, store: &dyn ObjectStore, directory: &str, take_over: bool) -> Result<ETag, Failure> {
        let (key, text) = (owner_key(directory), self.text().into_bytes());
        let put = |mode: PutMode<'_>| store.put(&key, &text as &dyn Source, mode);
        let (bytes, info) = match get_bytes(store, &key, None, BYTES_MAX as usize) {
            Ok(got) => got,
            // A folder is made by the first put; a bucket that is not there is told by it too.
            Err(error) if matches!(error.kind, store::Kind::NotFound | store::Kind::NoBucket) => {
                return Ok(put(PutMode::IfAbsent)?);
            }
            Err(error) => return Err(error.into()),
        };
        let said = String::from_utf8_lossy(&bytes);
        let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        if value("token") == Some(self.token.as_str()) {
            return Ok(info.etag);
        }
        if take_over {
            return Ok(put(PutMode::IfMatch(&info.etag))?);
        }
        Err(Failure::new(
            Kind::Deposed,
            format!(
                "the segments in {} belong to {}, of which this data directory is a copy. If that server is gone for good, \
                 start with --storage-take-over once; else give this one another bucket or prefix",
                store.describe(),
                value("server").unwrap_or("another server")
            ),
        ))
    }

    /// Whether the store still knows this owner, by the state of its object.
    ///
    /// # Errors
    /// [`Kind::Deposed`] when somebody has taken over.
    pub fn check(&self, store: &dyn ObjectStore, directory: &str, known: &ETag) -> Result<(), Failure> {
        match store.head(&owner_key(directory)) {
            Ok(info) if info.etag == *known => Ok(()),
            Err(error) if error.kind != store::Kind::NotFound => Err(error.into()),
            // Perhaps it was only written again.
            _ => self.claim(store, directory, false).map(|_| ()),
        }
    }
}

/// The token in a file that was not copied.
fn read_token(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let inode = file.metadata()?.ino();
    let mut text = String::new();
    if file.take(BYTES_MAX).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    let told = text.trim_end().split_once(' ');
    Ok(told.filter(|(_, told)| told.parse() == Ok(inode)).map(|(token, _)| token.to_owned()))
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    name.map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}
