//! Owns the file operations that differ between Linux, macOS and the rest: direct I/O, preallocation, filesystem facts.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod os {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    pub fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
        options.custom_flags(libc::O_DIRECT).open(path)
    }

    pub fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
        let len = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        loop {
            // SAFETY: plain system call on a descriptor that `file` keeps open; no memory is passed.
            if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                // The filesystem cannot promise space: the file is only given its length.
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => return file.set_len(bytes),
                _ => return Err(error),
            }
        }
    }

    pub fn drop_cached_pages(file: &File) -> io::Result<()> {
        // Only clean pages can be dropped, so what is dirty is written first.
        file.sync_data()?;
        // SAFETY: plain system call on a descriptor that `file` keeps open; no memory is passed.
        match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    pub fn will_need(file: &File, position: u64, bytes: u64) {
        let (Ok(position), Ok(bytes)) = (libc::off_t::try_from(position), libc::off_t::try_from(bytes)) else { return };
        // SAFETY: plain system call on a descriptor that `file` keeps open; no memory is passed. A hint, so it may fail.
        let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), position, bytes, libc::POSIX_FADV_WILLNEED) };
    }
}

#[cfg(any(target_os = "macos", target_os = "ios"))]
mod os {
    use super::*;
    use std::os::fd::AsRawFd;

    pub fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
        let file = options.open(path)?;
        // SAFETY: plain system call on a descriptor that `file` keeps open; the argument is an integer.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 1) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(file)
    }

    pub fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
        let length = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut store = libc::fstore_t {
            fst_flags: libc::F_ALLOCATEALL,
            fst_posmode: libc::F_PEOFPOSMODE,
            fst_offset: 0,
            fst_length: length,
            fst_bytesalloc: 0,
        };
        // SAFETY: `store` is a valid fstore_t that outlives the call, and the descriptor is open.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &mut store) } == -1 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::ENOTSUP) {
                return Err(error);
            }
        }
        file.set_len(bytes)
    }

    pub fn drop_cached_pages(file: &File) -> io::Result<()> {
        file.sync_data()?;
        // SAFETY: plain system call on a descriptor that `file` keeps open; the argument is an integer.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 1) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    pub fn will_need(_file: &File, _position: u64, _bytes: u64) {}
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "ios")))]
mod os {
    use super::*;

    pub fn open_direct(_options: &mut OpenOptions, _path: &Path) -> io::Result<File> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    pub fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    pub fn drop_cached_pages(file: &File) -> io::Result<()> {
        file.sync_data()
    }

    pub fn will_need(_file: &File, _position: u64, _bytes: u64) {}
}

/// Opens a file whose transfers go past the page cache; an error where the filesystem refuses that.
pub fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    os::open_direct(options, path)
}

/// Gives a new file its length and reserves the space where the filesystem can.
pub fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    os::preallocate(file, bytes)
}

/// Makes the next reads of the file come from the device, as far as the platform can.
pub fn drop_cached_pages(file: &File) -> io::Result<()> {
    os::drop_cached_pages(file)
}

/// Tells the kernel, where it listens, that a range will be read soon through the page cache.
pub fn will_need(file: &File, position: u64, bytes: u64) {
    os::will_need(file, position, bytes);
}

/// The filesystem's block in bytes and the bytes that an unprivileged process may still use.
pub fn filesystem(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path holds a zero byte"))?;
    let mut facts = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is a C string and `facts` has room for one statvfs; both outlive the call.
    if unsafe { libc::statvfs(path.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, and all-zero bytes were a valid statvfs before it.
    let facts = unsafe { facts.assume_init() };
    // The fields' widths differ between platforms. f_bsize is not the block but what is best to transfer at once.
    #[allow(clippy::unnecessary_cast)]
    Ok((facts.f_frsize as u64, (facts.f_bavail as u64).saturating_mul(facts.f_frsize as u64)))
}

/// The memory page in bytes.
pub fn page_bytes() -> usize {
    // SAFETY: a system call without memory arguments.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(super::disk::BLOCK_BYTES).max(super::disk::BLOCK_BYTES)
}
