//! Owns locks between processes: the one that keeps a second server out of a data directory, and short ones on files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Name of the lock's file in the data directory.
pub const LOCK_FILE: &str = "chronik.lock";

/// Held while it lives; the kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of an existing folder without waiting.
    ///
    /// `ErrorKind::WouldBlock` with a sentence that names the holder when another process has it.
    pub fn acquire(dir: &Path) -> io::Result<DirLock> {
        let path = dir.join(LOCK_FILE);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(named)?;
        // SAFETY: plain system call on a descriptor that `file` keeps open; no memory is passed.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(named(error));
            }
            return Err(in_use(dir, &mut file));
        }
        // The number is only for people; a full disk must not keep the server from starting.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        Ok(DirLock { _file: file })
    }
    /// Takes the lock for reading: other readers may have it too, a server may not. `None` when the folder has no lock's
    /// file, so that no server has ever used it. Writes nothing.
    ///
    /// `ErrorKind::WouldBlock` with a sentence that names the holder when a server has it.
    pub fn share(dir: &Path) -> io::Result<Option<DirLock>> {
        let path = dir.join(LOCK_FILE);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        };
        // SAFETY: plain system call on a descriptor that `file` keeps open; no memory is passed.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0 {
            return Ok(Some(DirLock { _file: file }));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => Err(in_use(dir, &mut file)),
            _ => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
}

/// Says who holds the lock, as far as its file tells.
fn in_use(dir: &Path, file: &mut File) -> io::Error {
    let mut holder = String::new();
    let _ = file.take(20).read_to_string(&mut holder);
    let holder = holder.trim();
    let who = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
    let what = format!("{} is in use by another chronik-server{who}", dir.display());
    io::Error::new(io::ErrorKind::WouldBlock, what)
}

/// An open file that is locked as long as this lives; the kernel gives it back when the process ends, however it ends.
/// Two of one process keep each other out as well.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Locks the file alone, and waits for that if `wait`; otherwise `None` if somebody else has it.
    pub fn of(file: File, wait: bool) -> io::Result<Option<FileLock>> {
        let how = if wait { libc::LOCK_EX } else { libc::LOCK_EX | libc::LOCK_NB };
        loop {
            // SAFETY: plain system call on a descriptor that `file` keeps open; no memory is passed.
            if unsafe { libc::flock(file.as_raw_fd(), how) } == 0 {
                return Ok(Some(FileLock { file }));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock if !wait => return Ok(None),
                _ => return Err(error),
            }
        }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_has_it() {
        let dir = std::env::temp_dir().join(format!("chronik-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let first = DirLock::acquire(&dir).unwrap();
        let error = DirLock::acquire(&dir).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        assert_eq!(DirLock::share(&dir).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        let readers = [DirLock::share(&dir).unwrap().unwrap(), DirLock::share(&dir).unwrap().unwrap()];
        assert_eq!(DirLock::acquire(&dir).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(readers);
        DirLock::acquire(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_is_locked_by_one_at_a_time() {
        let path = std::env::temp_dir().join(format!("chronik-file-lock-{}", std::process::id()));
        let open = || File::create(&path).unwrap();
        let first = FileLock::of(open(), true).unwrap().unwrap();
        assert!(FileLock::of(open(), false).unwrap().is_none());
        drop(first);
        assert!(FileLock::of(open(), false).unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
    }
}
