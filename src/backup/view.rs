//! Owns data directories that can only be read: a frozen one, and one that lies in a store.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::manifest::{Manifest, Object};
use crate::limits;
use crate::store::{self, get_bytes, ObjectStore};
use crate::sys::disk::{Disk, DiskFile, OpenMode};
use crate::wal::frozen::Frozen;
use crate::wal::marker::{self, Marker};

type Open<'a> = Box<dyn Fn() -> io::Result<Arc<dyn DiskFile>> + Send + Sync + 'a>;

/// A directory of files that nobody changes. What would change it is refused.
pub struct View<'a> {
    files: BTreeMap<String, (u64, Open<'a>)>,
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} files)", self.files.len())
    }
}

impl<'a> View<'a> {
    fn new(marker: &Marker) -> View<'a> {
        let text = marker.text().into_bytes();
        let bytes = text.len() as u64;
        let text = Arc::new(InMemory(text));
        let open: Open<'a> = Box::new(move || Ok(Arc::clone(&text) as Arc<dyn DiskFile>));
        View { files: BTreeMap::from([(marker::PATH.to_owned(), (bytes, open))]) }
    }

    /// A data directory as it was caught.
    pub fn of_frozen(frozen: &'a Frozen) -> View<'a> {
        let mut view = View::new(&frozen.marker);
        for file in frozen.files() {
            let open: Open<'a> = Box::new(move || {
                Ok(Arc::new(Beginning { file: frozen.open(file)?, bytes: file.bytes }) as Arc<dyn DiskFile>)
            });
            view.files.insert(file.path.clone(), (file.bytes, open));
        }
        view
    }

    /// The data directory that a backup holds, read from the store as far as it is needed.
    pub fn of_backup(store: &Arc<dyn ObjectStore>, manifest: &Manifest) -> View<'a> {
        let mut view = View::new(&manifest.marker);
        for file in manifest.files() {
            let (store, objects) = (Arc::clone(store), file.objects.to_vec());
            let open: Open<'a> = Box::new(move || Ok(Arc::new(Pieces::new(&store, &objects)) as Arc<dyn DiskFile>));
            view.files.insert(file.path().to_owned(), (file.bytes(), open));
        }
        view
    }
}

fn read_only() -> io::Error {
    io::Error::new(ErrorKind::ReadOnlyFilesystem, "this directory can only be read")
}

impl Disk for View<'_> {
    fn create(&self, _path: &str, _bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Err(read_only())
    }

    fn open(&self, path: &str, _mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        match self.files.get(path) {
            Some((_, open)) => open(),
            None => Err(io::Error::new(ErrorKind::NotFound, format!("{path}: no such file"))),
        }
    }

    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Cached)?;
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        if len > bytes_max {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("{path}: longer than {bytes_max} bytes")));
        }
        // Grows with what is really there, whatever length is claimed.
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let at = bytes.len();
            bytes.resize(len.min(at + limits::BACKUP_PIECE_BYTES), 0);
            if file.read_at(&mut bytes[at..], at as u64)? < bytes.len() - at {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{path}: shorter than it should be")));
            }
        }
        Ok(bytes)
    }

    fn replace(&self, _path: &str, _bytes: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(read_only())
    }

    fn link(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(read_only())
    }

    fn remove(&self, _path: &str) -> io::Result<()> {
        Err(read_only())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let name = |path: &str| match dir {
            "" => (!path.contains('/')).then(|| path.to_owned()),
            dir => path.strip_prefix(dir)?.strip_prefix('/').map(str::to_owned),
        };
        let files: Vec<_> = self.files.iter().filter_map(|(path, (bytes, _))| Some((name(path)?, *bytes))).collect();
        match files.is_empty() {
            true => Err(io::Error::new(ErrorKind::NotFound, format!("{dir}: no such folder"))),
            false => Ok(files),
        }
    }

    fn create_dir(&self, _dir: &str) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// What every file of a view does alike.
macro_rules! nothing_is_written {
    () => {
        fn write_at(&self, _bytes: &[u8], _position: u64) -> io::Result<()> {
            Err(read_only())
        }

        /// Nothing is ever written, so everything is on its medium.
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn truncate(&self, _bytes: u64) -> io::Result<()> {
            Err(read_only())
        }
    };
}

#[derive(Debug)]
struct InMemory(Vec<u8>);

impl DiskFile for InMemory {
    nothing_is_written!();

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let rest = usize::try_from(position).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// The first bytes of a file.
#[derive(Debug)]
struct Beginning {
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

impl DiskFile for Beginning {
    nothing_is_written!();

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let rest = usize::try_from(self.bytes.saturating_sub(position)).unwrap_or(usize::MAX);
        let count = rest.min(buf.len());
        self.file.read_at(&mut buf[..count], position)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }
}

/// An object as a file. Read from front to back, each of its bytes is fetched once, and the checksum is made on the way.
pub struct ObjectFile {
    store: Arc<dyn ObjectStore>,
    key: String,
    bytes: u64,
    piece: Mutex<Piece>,
    /// What the store said when it last failed.
    fault: Mutex<Option<store::Kind>>,
}

/// What was fetched last.
#[derive(Default)]
struct Piece {
    start: u64,
    bytes: Vec<u8>,
    /// How far the object was fetched without a gap, and the CRC-32C of that.
    summed: u64,
    crc: u32,
}

impl fmt::Debug for ObjectFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectFile({})", self.key)
    }
}

impl ObjectFile {
    pub fn new(store: &Arc<dyn ObjectStore>, object: &Object) -> ObjectFile {
        let (store, key) = (Arc::clone(store), object.key.clone());
        ObjectFile { store, key, bytes: object.bytes, piece: Mutex::default(), fault: Mutex::default() }
    }

    /// What the store said when it last failed; none when what came was not what was expected.
    pub fn fault(&self) -> Option<store::Kind> {
        self.fault.lock().clone()
    }

    /// CRC-32C of the whole object; fetches what was not fetched yet.
    pub fn crc(&self) -> io::Result<u32> {
        let mut piece = self.piece.lock();
        while piece.summed < self.bytes {
            let at = piece.summed;
            self.load(&mut piece, at)?;
        }
        Ok(piece.crc)
    }

    fn load(&self, piece: &mut Piece, position: u64) -> io::Result<()> {
        let end = self.bytes.min(position.saturating_add(limits::BACKUP_PIECE_BYTES as u64));
        let want = usize::try_from(end - position).unwrap_or(usize::MAX);
        let got = get_bytes(&*self.store, &self.key, Some(position..end), limits::BACKUP_PIECE_BYTES);
        let (bytes, info) = got.map_err(|error| {
            *self.fault.lock() = Some(error.kind);
            io::Error::other(error.sentence)
        })?;
        if info.size != self.bytes || bytes.len() != want {
            let what = format!("object {} has {} bytes instead of {}", self.key, info.size, self.bytes);
            return Err(io::Error::new(ErrorKind::UnexpectedEof, what));
        }
        if position == piece.summed {
            piece.crc = crc32c::crc32c_append(piece.crc, &bytes);
            piece.summed = end;
        }
        (piece.start, piece.bytes) = (position, bytes);
        Ok(())
    }
}

impl DiskFile for ObjectFile {
    nothing_is_written!();

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut piece = self.piece.lock();
        let (mut filled, mut at) = (0, position);
        while filled < buf.len() && at < self.bytes {
            if at < piece.start || at >= piece.start + piece.bytes.len() as u64 {
                self.load(&mut piece, at)?;
            }
            let here = &piece.bytes[(at - piece.start) as usize..];
            let count = here.len().min(buf.len() - filled);
            buf[filled..filled + count].copy_from_slice(&here[..count]);
            filled += count;
            at += count as u64;
        }
        Ok(filled)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }
}

/// Objects that are one file, one after the other.
#[derive(Debug)]
pub struct Pieces {
    /// Where each begins, and its length.
    pieces: Vec<(u64, u64, ObjectFile)>,
}

impl Pieces {
    pub fn new(store: &Arc<dyn ObjectStore>, objects: &[Object]) -> Pieces {
        let pieces = objects.iter().map(|object| (object.start, object.bytes, ObjectFile::new(store, object)));
        Pieces { pieces: pieces.collect() }
    }

    /// The object of this number.
    pub fn object(&self, number: usize) -> &ObjectFile {
        &self.pieces[number].2
    }

    /// The objects, in order.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectFile> {
        self.pieces.iter().map(|(_, _, object)| object)
    }
}

impl DiskFile for Pieces {
    nothing_is_written!();

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        for (start, bytes, object) in &self.pieces {
            let at = position.saturating_add(filled as u64);
            if filled < buf.len() && (*start..start.saturating_add(*bytes)).contains(&at) {
                filled += object.read_at(&mut buf[filled..], at - start)?;
            }
        }
        Ok(filled)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.pieces.last().map_or(0, |(start, bytes, _)| start.saturating_add(*bytes)))
    }
}
