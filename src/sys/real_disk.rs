//! Owns the real data directory: the `Disk` of files on this machine.
//!
//! Segments are written past the page cache where the filesystem allows it, and through it elsewhere; which of the two
//! is found out once, when the directory is opened.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::aligned::AlignedBuf;
use super::disk::{Disk, DiskFile, OpenMode, BLOCK_BYTES, BLOCK_BYTES_MAX};
use super::fileops;

/// How files that are written are to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// Past the page cache if the filesystem takes it, through it otherwise.
    Auto,
    /// Always through the page cache.
    Buffered,
}

/// A data directory on this machine.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    direct: bool,
    block_bytes: usize,
}

/// A file that is made for a moment when the folder is opened.
pub const PROBE: &str = "chronik.probe";

impl RealDisk {
    /// Opens a folder as data directory, making it (and its parents) if it is absent.
    pub fn open(root: &Path, writing: Writing) -> io::Result<RealDisk> {
        make_folder(root).map_err(|e| at(root, e))?;
        let direct = writing == Writing::Auto && direct_works(&root.join(PROBE));
        let (filesystem_block, _) = fileops::filesystem(root).map_err(|e| at(root, e))?;
        let mut block = usize::try_from(filesystem_block).unwrap_or(BLOCK_BYTES_MAX);
        if !direct {
            block = block.max(fileops::page_bytes());
        }
        let block_bytes = block.clamp(BLOCK_BYTES, BLOCK_BYTES_MAX).next_power_of_two().min(BLOCK_BYTES_MAX);
        Ok(RealDisk { root: root.to_path_buf(), direct, block_bytes })
    }

    /// True when segments are written past the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn full(&self, path: &str) -> PathBuf {
        debug_assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."));
        self.root.join(path)
    }

    fn replace_file(&self, path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(temporary)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let full = self.full(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = if self.direct { fileops::open_direct(&mut options, &full) } else { options.open(&full) };
        let file = file.map_err(|e| at(&full, e))?;
        let made = fileops::preallocate(&file, bytes).and_then(|()| File::open(&full));
        match made {
            Ok(cached) => Ok(Arc::new(RealFile { path: full, file, cached: Some(cached), direct: self.direct })),
            Err(error) => {
                // Half a reservation helps nobody and would hold the space that is missing.
                let _ = fs::remove_file(&full);
                Err(at(&full, error))
            }
        }
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let full = self.full(path);
        let open = || -> io::Result<RealFile> {
            if mode == OpenMode::Cached {
                return Ok(RealFile { path: full.clone(), file: File::open(&full)?, cached: None, direct: false });
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            let file = if self.direct { fileops::open_direct(&mut options, &full)? } else { options.open(&full)? };
            if mode == OpenMode::Over {
                return Ok(RealFile { cached: None, path: full.clone(), file, direct: self.direct });
            }
            if !self.direct {
                fileops::drop_cached_pages(&file)?;
            }
            Ok(RealFile { cached: Some(File::open(&full)?), path: full.clone(), file, direct: self.direct })
        };
        let file = open().map_err(|e| at(&full, e))?;
        Ok(Arc::new(file))
    }

    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let full = self.full(path);
        let mut bytes = Vec::new();
        let limit = (bytes_max as u64).saturating_add(1);
        File::open(&full).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(|e| at(&full, e))?;
        if bytes.len() > bytes_max {
            let what = format!("{}: longer than {bytes_max} bytes", full.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(bytes)
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let full = self.full(path);
        let temporary = self.full(&format!("{path}.tmp"));
        if let Err(error) = self.replace_file(&full, &temporary, bytes) {
            let _ = fs::remove_file(&temporary);
            return Err(at(&full, error));
        }
        self.sync_dir(parent(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let from = self.full(from);
        fs::rename(&from, self.full(to)).map_err(|e| at(&from, e))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let from = self.full(from);
        fs::hard_link(&from, self.full(to)).map_err(|e| at(&from, e))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let full = self.full(path);
        fs::remove_file(&full).map_err(|e| at(&full, e))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let full = self.full(dir);
        let list = || -> io::Result<Vec<(String, u64)>> {
            let mut files = Vec::new();
            for entry in fs::read_dir(&full)? {
                let entry = entry?;
                // A file may go between the listing and the look at it.
                let facts = match entry.metadata() {
                    Ok(facts) => facts,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                if let (true, Ok(name)) = (facts.is_file(), entry.file_name().into_string()) {
                    files.push((name, facts.len()));
                }
            }
            files.sort();
            Ok(files)
        };
        list().map_err(|e| at(&full, e))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut made = String::new();
        for part in dir.split('/').filter(|part| !part.is_empty()) {
            let outer = made.clone();
            if !made.is_empty() {
                made.push('/');
            }
            made.push_str(part);
            let full = self.full(&made);
            match fs::create_dir(&full) {
                Ok(()) => self.sync_dir(&outer)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && full.is_dir() => {}
                Err(error) => return Err(at(&full, error)),
            }
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let full = self.full(dir);
        File::open(&full).and_then(|folder| folder.sync_all()).map_err(|e| at(&full, e))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        fileops::filesystem(&self.root).map(|(_, free)| free).map_err(|e| at(&self.root, e))
    }

    fn block_bytes(&self) -> usize {
        self.block_bytes
    }
}

/// One open file.
#[derive(Debug)]
struct RealFile {
    path: PathBuf,
    file: File,
    /// A second descriptor that reads through the page cache, where `file` may not.
    cached: Option<File>,
    direct: bool,
}

impl RealFile {
    /// Direct reads need aligned memory and positions; this reads what lies around and copies.
    fn read_unaligned(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let start = position - position % BLOCK_BYTES as u64;
        let skip = (position - start) as usize;
        let mut around = AlignedBuf::with_capacity(skip + buf.len());
        let capacity = around.capacity();
        around.resize(capacity);
        let read = read_full(&self.file, &mut around, start, true)?;
        let usable = read.saturating_sub(skip).min(buf.len());
        buf[..usable].copy_from_slice(&around[skip..skip + usable]);
        Ok(usable)
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position).map_err(|e| at(&self.path, e))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|e| at(&self.path, e))
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let block = BLOCK_BYTES;
        let aligned = buf.as_ptr() as usize % block == 0 && buf.len() % block == 0 && position % block as u64 == 0;
        let read = match self.direct && !aligned {
            true => self.read_unaligned(buf, position),
            false => read_full(&self.file, buf, position, self.direct),
        };
        read.map_err(|e| at(&self.path, e))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|facts| facts.len()).map_err(|e| at(&self.path, e))
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes).map_err(|e| at(&self.path, e))
    }

    fn will_need(&self, position: u64, bytes: u64) {
        fileops::will_need(self.cached.as_ref().unwrap_or(&self.file), position, bytes);
    }

    fn sendfile_fd(&self) -> Option<i32> {
        Some(self.cached.as_ref().unwrap_or(&self.file).as_raw_fd())
    }
}

fn read_full(file: &File, buf: &mut [u8], position: u64, direct: bool) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // A direct read that ends inside a block has met the end of the file, and could not go on from there.
        if direct && filled % BLOCK_BYTES != 0 {
            break;
        }
    }
    Ok(filled)
}

/// Whether a block can be written past the page cache here. A full disk says nothing against it.
fn direct_works(probe: &Path) -> bool {
    let _ = fs::remove_file(probe);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    let Ok(file) = fileops::open_direct(&mut options, probe) else {
        let _ = fs::remove_file(probe);
        return false;
    };
    let mut block = AlignedBuf::with_capacity(BLOCK_BYTES);
    block.resize(BLOCK_BYTES);
    let works = match file.write_all_at(&block, 0) {
        Ok(()) => true,
        Err(error) => is_full(&error),
    };
    let _ = fs::remove_file(probe);
    works
}

/// Makes a folder and its parents, durably: a power cut must not take away a folder that something durable is in.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|part| !part.as_os_str().is_empty() && !part.is_dir()).collect();
    fs::create_dir_all(path)?;
    // The last one is there perhaps because it was made by a run that was killed before it came here.
    for made in missing.into_iter().chain([path]) {
        let parent = made.parent().filter(|part| !part.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match File::open(parent).and_then(|folder| folder.sync_all()) {
            // Who may not read the parent did not make the folder either. And the data directory may be mounted on a folder
            // of a filesystem that is read-only or knows no such sync; then that folder was there before.
            Err(error) if !cannot_be_synced(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn cannot_be_synced(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::EINVAL | libc::ENOTSUP | libc::ENOSYS)
    )
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
        || error.kind() == io::ErrorKind::StorageFull
}

/// The same error with the path in its text. A quota, or a limit on the length of files, is a full disk to those who ask.
fn at(path: &Path, error: io::Error) -> io::Error {
    let kind = if is_full(&error) { io::ErrorKind::StorageFull } else { error.kind() };
    io::Error::new(kind, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("chronik-disk-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn write_and_read_back(writing: Writing, name: &str) {
        let root = scratch(name);
        let disk = RealDisk::open(&root, writing).unwrap();
        if writing == Writing::Buffered {
            assert!(!disk.is_direct());
        }
        disk.create_dir("wal/inner").unwrap();
        let file = disk.create("wal/a", 65536).unwrap();
        assert_eq!(file.len().unwrap(), 65536);
        assert_eq!(disk.create("wal/a", 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let mut buf = AlignedBuf::with_capacity(8192);
        buf.extend_from_slice(&[5; 8192]);
        file.write_at(&buf, 4096).unwrap();
        file.sync_data().unwrap();
        for mode in [OpenMode::Cached, OpenMode::Direct] {
            let again = disk.open("wal/a", mode).unwrap();
            let mut odd = vec![0u8; 5000];
            assert_eq!(again.read_at(&mut odd, 4000).unwrap(), 5000);
            assert!(odd[..96].iter().all(|b| *b == 0) && odd[96..].iter().all(|b| *b == 5));
            assert_eq!(again.read_at(&mut odd, 65536 - 10).unwrap(), 10);
            assert!(again.sendfile_fd().is_some());
        }
        buf.fill(6);
        disk.open("wal/a", OpenMode::Over).unwrap().write_at(&buf, 4096).unwrap();
        let mut over = [0; 4096];
        for mode in [OpenMode::Cached, OpenMode::Direct, OpenMode::Over] {
            assert_eq!(disk.open("wal/a", mode).unwrap().read_at(&mut over, 5000).unwrap(), over.len());
            assert_eq!(over, [6; 4096], "{mode:?}");
        }
        file.truncate(12288).unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.list("wal").unwrap(), vec![("a".to_string(), 12288)]);
        disk.rename("wal/a", "wal/b").unwrap();
        disk.sync_dir("wal").unwrap();
        disk.remove("wal/b").unwrap();
        assert_eq!(disk.remove("wal/b").unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn files_are_written_and_read_past_the_cache_where_possible() {
        write_and_read_back(Writing::Auto, "auto");
    }

    #[test]
    fn the_buffered_fallback_does_the_same() {
        write_and_read_back(Writing::Buffered, "buffered");
    }

    #[test]
    fn small_files_are_replaced_whole_and_errors_name_the_path() {
        let root = scratch("small");
        let disk = RealDisk::open(&root, Writing::Auto).unwrap();
        disk.replace("x", b"one").unwrap();
        disk.replace("x", b"two").unwrap();
        assert_eq!(disk.read("x", 3).unwrap(), b"two");
        assert_eq!(disk.read("x", 2).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(disk.list("").unwrap(), vec![("x".to_string(), 3)]);
        let error = disk.read("absent", 9).unwrap_err();
        assert!(error.to_string().contains("absent") && error.kind() == io::ErrorKind::NotFound);
        assert!(disk.list("nowhere").is_err());
        assert!(disk.free_bytes().unwrap() > 0);
        fs::remove_dir_all(&root).unwrap();
    }
}
