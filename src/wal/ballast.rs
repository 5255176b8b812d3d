//! Owns the ballast: a file that is given back to a full filesystem so that what frees space can still be written.

use std::io;

use crate::sys::disk::{Disk, OpenMode};

const PATH: &str = "chronik.reserve";

/// Free bytes above which small files need no ballast.
const SAFE_BYTES: u64 = 1 << 20;

/// Makes the ballast if it is missing and there is plenty of room. Without it the server is only less patient with a
/// full disk.
pub fn make(disk: &dyn Disk, bytes: u64) {
    if bytes == 0 || disk.free_bytes().unwrap_or(0) < bytes.saturating_mul(2) {
        return;
    }
    match disk.create(PATH, bytes) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => log::warn!("no ballast: {error}"),
        _ => {}
    }
}

/// Whether a small file can be written for sure: there is room, or ballast that makes some. Always, if none is kept.
pub fn is_safe(disk: &dyn Disk, bytes: u64) -> bool {
    bytes == 0 || disk.free_bytes().is_ok_and(|free| free >= SAFE_BYTES) || disk.open(PATH, OpenMode::Cached).is_ok()
}

/// Does `write`; if the disk is full, gives the ballast back and does it once more.
pub fn spend<T>(disk: &dyn Disk, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match write() {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            if disk.remove(PATH).is_err() {
                return Err(error);
            }
            log::warn!("the disk is full: the ballast was given back");
            write()
        }
        other => other,
    }
}
