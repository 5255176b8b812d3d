//! Owns sending a range of a file to a socket without the bytes passing through our memory, and the portable fallback.

use std::io::{self, IoSlice};
use std::net::TcpStream;

use super::disk::DiskFile;
use super::socket;

/// Bytes that the fallback reads at a time.
const COPY_BYTES: usize = 64 << 10;

/// Sends up to `bytes_max` bytes of `file` from `position` on, as far as the socket takes them; the number sent.
///
/// 0 means that the file ends at `position`. `WouldBlock` is the socket's. Uses the system's `sendfile` where the file
/// has a descriptor for it, otherwise [`send_copy`].
pub fn send(stream: &TcpStream, file: &dyn DiskFile, position: u64, bytes_max: usize) -> io::Result<usize> {
    match file.sendfile_fd() {
        Some(fd) => send_fd(stream, fd, file, position, bytes_max),
        None => send_copy(stream, file, position, bytes_max),
    }
}

/// As [`send`], by reading and writing. At most 64 KiB per call; what the socket does not take is read again next time.
pub fn send_copy(stream: &TcpStream, file: &dyn DiskFile, position: u64, bytes_max: usize) -> io::Result<usize> {
    let mut buf = vec![0; bytes_max.min(COPY_BYTES)];
    let read = file.read_at(&mut buf, position)?;
    if read == 0 {
        return Ok(0);
    }
    socket::send_vectored(stream, &[IoSlice::new(&buf[..read])], false)
}

#[cfg(target_os = "linux")]
fn send_fd(stream: &TcpStream, fd: i32, file: &dyn DiskFile, position: u64, bytes_max: usize) -> io::Result<usize> {
    use std::os::fd::AsRawFd;
    let Ok(mut offset) = libc::off_t::try_from(position) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    loop {
        // SAFETY: both descriptors are open while `stream` and `file` are borrowed, and `offset` is valid to write to.
        let sent = unsafe { libc::sendfile(stream.as_raw_fd(), fd, &raw mut offset, bytes_max) };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // This filesystem or socket cannot do it.
            Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
                return send_copy(stream, file, position, bytes_max)
            }
            _ => return Err(error),
        }
    }
}

#[cfg(target_os = "macos")]
fn send_fd(stream: &TcpStream, fd: i32, file: &dyn DiskFile, position: u64, bytes_max: usize) -> io::Result<usize> {
    use std::os::fd::AsRawFd;
    if bytes_max == 0 {
        // To this sendfile a length of zero means everything.
        return Ok(0);
    }
    let (Ok(offset), Ok(wanted)) = (libc::off_t::try_from(position), libc::off_t::try_from(bytes_max)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    loop {
        let mut len = wanted;
        // SAFETY: both descriptors are open while `stream` and `file` are borrowed, and `len` is valid to write to.
        let status = unsafe { libc::sendfile(fd, stream.as_raw_fd(), offset, &raw mut len, std::ptr::null_mut(), 0) };
        // A full socket is an error that still says how much went.
        if status == 0 || len > 0 {
            return Ok(len as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EINVAL | libc::ENOTSUP | libc::EOPNOTSUPP) => {
                return send_copy(stream, file, position, bytes_max)
            }
            _ => return Err(error),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn send_fd(stream: &TcpStream, _fd: i32, file: &dyn DiskFile, position: u64, bytes_max: usize) -> io::Result<usize> {
    send_copy(stream, file, position, bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;

    #[derive(Debug)]
    struct PlainFile(File);

    impl DiskFile for PlainFile {
        fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
            self.0.write_all_at(bytes, position)
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
        fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
            self.0.read_at(buf, position)
        }
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.metadata()?.len())
        }
        fn truncate(&self, bytes: u64) -> io::Result<()> {
            self.0.set_len(bytes)
        }
        fn sendfile_fd(&self) -> Option<i32> {
            Some(self.0.as_raw_fd())
        }
    }

    type Send = fn(&TcpStream, &dyn DiskFile, u64, usize) -> io::Result<usize>;

    /// Sends the range with `send` through a real connection whose reader is slow to start; what arrived.
    fn transfer(send: Send, file: &PlainFile, mut position: u64, len: usize) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            got
        });
        let end = position + len as u64;
        while position < end {
            let sent = send(&server, file, position, (end - position) as usize).unwrap();
            assert!(sent > 0, "the file is long enough");
            position += sent as u64;
        }
        drop(server);
        reader.join().unwrap()
    }

    fn file_with(bytes: &[u8], name: &str) -> PlainFile {
        let path = std::env::temp_dir().join(format!("chronik-sendfile-{name}-{}", std::process::id()));
        File::create(&path).unwrap().write_all(bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        PlainFile(file)
    }

    #[test]
    fn sendfile_and_its_fallback_send_the_same_bytes() {
        let bytes: Vec<u8> = (0..700_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let file = file_with(&bytes, "same");
        for (position, len) in [(0, bytes.len()), (4096, 300_000), (1, 1), (699_999, 2)] {
            let expected = &bytes[position..position + len];
            assert!(transfer(send, &file, position as u64, len) == expected, "sendfile, {len} bytes at {position}");
            assert!(transfer(send_copy, &file, position as u64, len) == expected, "copy, {len} bytes at {position}");
        }
    }

    #[test]
    fn the_end_of_the_file_is_zero_bytes_and_not_an_endless_loop() {
        let file = file_with(b"short", "end");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(send(&client, &file, 5, 10).unwrap(), 0);
        assert_eq!(send_copy(&client, &file, 5, 10).unwrap(), 0);
        assert_eq!(send(&client, &file, 3, 10).unwrap(), 2);
    }

    #[test]
    fn a_full_socket_is_would_block_for_both() {
        let file = file_with(&vec![1; 8 << 20], "full");
        for send in [send as Send, send_copy as Send] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.set_nonblocking(true).unwrap();
            let error = loop {
                if let Err(error) = send(&client, &file, 0, 8 << 20) {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
