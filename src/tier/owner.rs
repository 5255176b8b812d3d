//! Owns who may write below a data directory's folder in the store: one server, and not a copy of its directory elsewhere.
//!
//! The data directory holds a file with a random token and the file's own inode. A copy of the directory, on another machine or
//! beside the first, has another inode there, so it gets a token of its own. The object `owner` in the store holds the token of
//! the server whose segments lie there; whoever has another one keeps its hands off, unless it is told to take over.
//!
//! A copy of the whole disk, block by block, has the same inode and the same token. So the token is another one after each upload:
//! of two that had the same, the first to write the object, which only one can do as it was, is the owner, and the other finds a
//! token that it does not know. The new token is in the file before it is in the object, beside the one before; so whatever an
//! interruption leaves in the object is one of the two.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backup::{owner_key, Failure, Kind};
use crate::store::{self, get_bytes, ETag, ObjectStore, PutMode, Source};
use crate::sys::disk::Disk;
use crate::wal::settings::Entropy;

/// The file in the data directory.
pub const FILE: &str = "chronik.owner";

/// What a write of it that was interrupted has left.
pub const TEMPORARY: &str = "chronik.owner.tmp";

/// The most that such a file or object holds, in bytes.
const BYTES_MAX: usize = 4096;

/// How often the object is looked at and written when others write it at the same moment.
const ROUNDS: u32 = 3;

/// What tells this server from others, and where it runs, for people.
#[derive(Debug)]
pub struct Owner {
    tokens: Tokens,
    place: String,
    home: Home,
    entropy: Entropy,
}

/// What the object in the store may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tokens {
    /// What it held when it was last read or written.
    current: String,
    /// What is being written to it, or was when a write was interrupted.
    next: Option<String>,
}

/// Where the tokens are kept.
#[derive(Debug)]
enum Home {
    /// In a file that tells whether it was copied.
    Directory(PathBuf),
    /// In one that does not.
    Disk(Arc<dyn Disk>),
}

impl Owner {
    /// The owner that a data directory says it is; a new one where it says nothing, or was copied.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn of_directory(root: &Path) -> io::Result<Owner> {
        let place = format!("{}:{}", host(), root.display());
        Owner::at(Home::Directory(root.to_owned()), place, Entropy::System)
    }

    /// The same on any disk, where a copy is not told from the original before one of them has uploaded something.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn on(disk: Arc<dyn Disk>, place: &str, entropy: Entropy) -> io::Result<Owner> {
        Owner::at(Home::Disk(disk), place.to_owned(), entropy)
    }

    fn at(home: Home, place: String, mut entropy: Entropy) -> io::Result<Owner> {
        let tokens = match home.load()? {
            Some(tokens) => tokens,
            None => {
                let tokens = Tokens { current: token(&mut entropy)?, next: None };
                home.store(&tokens)?;
                tokens
            }
        };
        Ok(Owner { tokens, place, home, entropy })
    }

    /// Makes sure that the store knows this owner, by another token than before; the state of its object. `known` is the state after
    /// the last claim of this process. With `take_over`, whoever the store knew before.
    ///
    /// # Errors
    /// [`Kind::Deposed`] when it knows another one; [`Kind::Store`] when others write the object all the time.
    pub fn claim(
        &mut self,
        store: &dyn ObjectStore,
        directory: &str,
        known: Option<ETag>,
        take_over: bool,
    ) -> Result<ETag, Failure> {
        let mut known = known;
        for _ in 0..ROUNDS {
            let state = match known.take() {
                Some(state) => Some(state),
                None => self.look(store, directory, take_over)?,
            };
            let token = self.next_token();
            let text = format!("token {token}\nserver {}\n", self.place).into_bytes();
            let mode = state.as_ref().map_or(PutMode::IfAbsent, PutMode::IfMatch);
            match store.put(&owner_key(directory), &text as &dyn Source, mode) {
                Ok(state) => {
                    self.tokens = Tokens { current: token, next: None };
                    return Ok(state);
                }
                // Somebody else, or this server's own write of before whose answer was lost.
                Err(error) if error.kind == store::Kind::Exists => {}
                Err(error) => return Err(error.into()),
            }
        }
        let what = format!("others write {} in {} all the time", owner_key(directory), store.describe());
        Err(Failure::new(Kind::Store, what))
    }

    /// Whether the store still knows this owner, by the state of its object.
    ///
    /// # Errors
    /// [`Kind::Deposed`] when somebody has taken over.
    pub fn check(&mut self, store: &dyn ObjectStore, directory: &str, known: &ETag) -> Result<(), Failure> {
        match store.head(&owner_key(directory)) {
            Ok(info) if info.etag == *known => Ok(()),
            Err(error) if error.kind != store::Kind::NotFound => Err(error.into()),
            // Perhaps it was only written again.
            _ => self.look(store, directory, false).map(|_| ()),
        }
    }

    /// The state of the object; `None` when there is none. Notes which of the two tokens it holds.
    fn look(&mut self, store: &dyn ObjectStore, directory: &str, take_over: bool) -> Result<Option<ETag>, Failure> {
        let (bytes, info) = match get_bytes(store, &owner_key(directory), None, BYTES_MAX) {
            Ok(got) => got,
            // A folder is made by the first put; a bucket that is not there is told by it too.
            Err(error) if matches!(error.kind, store::Kind::NotFound | store::Kind::NoBucket) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let said = String::from_utf8_lossy(&bytes);
        let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let told = value("token");
        if told.is_some() && told == self.tokens.next.as_deref() {
            self.tokens = Tokens { current: told.unwrap_or_default().to_owned(), next: None };
        } else if told != Some(self.tokens.current.as_str()) && !take_over {
            let what = format!(
                "the segments in {} belong to {}, and this data directory is a copy of that server's or was copied to it. If that \
                 server is gone for good, start with --storage-take-over once; else give this one another bucket or prefix",
                store.describe(),
                value("server").unwrap_or("another server")
            );
            return Err(Failure::new(Kind::Deposed, what));
        }
        Ok(Some(info.etag))
    }

    /// What the object is to hold: a token that was never there, and that the file holds too.
    fn next_token(&mut self) -> String {
        if let Some(next) = &self.tokens.next {
            // The write of before may still take effect.
            return next.clone();
        }
        let noted = token(&mut self.entropy).and_then(|next| {
            let tokens = Tokens { next: Some(next.clone()), ..self.tokens.clone() };
            self.home.store(&tokens).map(|()| (next, tokens))
        });
        match noted {
            Ok((next, tokens)) => {
                self.tokens = tokens;
                next
            }
            // A full disk must not keep the log from the store, which is what makes room on it.
            Err(error) => {
                log::warn!("cannot write {FILE}, by which a copy of this disk is found out: {error}");
                self.tokens.current.clone()
            }
        }
    }
}

fn token(entropy: &mut Entropy) -> io::Result<String> {
    Ok(entropy.next_id()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Home {
    fn load(&self) -> io::Result<Option<Tokens>> {
        match self {
            Home::Directory(root) => {
                let file = match File::open(root.join(FILE)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    other => other?,
                };
                let inode = file.metadata()?.ino();
                let mut bytes = Vec::new();
                file.take(BYTES_MAX as u64).read_to_end(&mut bytes)?;
                Ok(Tokens::parse(&bytes, inode))
            }
            Home::Disk(disk) => match disk.read(FILE, BYTES_MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                read => Ok(Tokens::parse(&read?, 0)),
            },
        }
    }

    /// Durable when it returns.
    fn store(&self, tokens: &Tokens) -> io::Result<()> {
        let root = match self {
            Home::Disk(disk) => return disk.replace(FILE, tokens.text(0).as_bytes()),
            Home::Directory(root) => root,
        };
        let temporary = root.join(TEMPORARY);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
        let inode = file.metadata()?.ino();
        file.write_all(tokens.text(inode).as_bytes())?;
        file.sync_all()?;
        // A rename keeps the inode.
        fs::rename(&temporary, root.join(FILE))?;
        File::open(root)?.sync_all()
    }
}

impl Tokens {
    fn text(&self, inode: u64) -> String {
        let next = self.next.as_ref().map_or(String::new(), |next| format!(" {next}"));
        format!("{} {inode}{next}\n", self.current)
    }

    /// The tokens of a file that was not copied.
    fn parse(bytes: &[u8], inode: u64) -> Option<Tokens> {
        let mut words = std::str::from_utf8(bytes).ok()?.split_whitespace();
        let current = words.next()?.to_owned();
        if words.next()?.parse() != Ok(inode) {
            return None;
        }
        Some(Tokens { current, next: words.next().map(str::to_owned) })
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    name.map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}
