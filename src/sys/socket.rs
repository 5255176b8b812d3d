//! Owns what the standard library does not offer for sockets: reading into unused capacity, sending with "more to come",
//! listening with a long queue, and the limit on open files.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// Connections that the kernel may keep for us until they are accepted; it takes its own maximum where that is lower.
const BACKLOG: i32 = 4096;

/// Most slices in one call of `send_vectored`; more are left for the next call (IOV_MAX is at least this everywhere).
pub const SLICES_MAX: usize = 64;

/// A listening socket that does not block.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // SAFETY: `listen` only takes the descriptor, which `listener` keeps open; a second call changes the queue's length.
    if unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) } != 0 {
        return Err(io::Error::last_os_error());
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Prepares an accepted connection: no blocking, no delay of small answers, probes for dead peers.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    set_flag(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE)?;
    #[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
    set_flag(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NOSIGPIPE)?;
    Ok(())
}

fn set_flag(fd: i32, level: i32, name: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = std::mem::size_of_val(&on) as libc::socklen_t;
    // SAFETY: the value is a c_int that lives during the call, and `len` is its size.
    let status = unsafe { libc::setsockopt(fd, level, name, (&raw const on).cast(), len) };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Receives at most `bytes_max` bytes behind the end of `buf`, into capacity it already has (never grows it, never
/// zeroes). Returns how many came: 0 at the end of the stream, or when there is no room or `bytes_max` is 0.
pub fn recv_into_spare(stream: &TcpStream, buf: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
    let spare = buf.spare_capacity_mut();
    let room = spare.len().min(bytes_max);
    if room == 0 {
        return Ok(0);
    }
    loop {
        // SAFETY: `recv` writes at most `room` bytes, all of them inside the spare capacity, which is exclusively ours.
        let received = unsafe { libc::recv(stream.as_raw_fd(), buf.as_mut_ptr().add(buf.len()).cast(), room, 0) };
        if received >= 0 {
            let received = received as usize;
            // SAFETY: the kernel has initialised `received` bytes behind the old length, and they lie in the capacity.
            unsafe { buf.set_len(buf.len() + received) };
            return Ok(received);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Sends slices in order as far as the socket takes them; at most `SLICES_MAX` of them. `more` says that further bytes
/// follow at once, so that the kernel may wait with a packet that is not full (where it can be told).
pub fn send_vectored(stream: &TcpStream, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    let slices = &slices[..slices.len().min(SLICES_MAX)];
    // SAFETY: an all-zero msghdr is a valid one without address, data and control bytes.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSlice has the layout of iovec on Unix, which the standard library promises; sendmsg only reads through it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    loop {
        // SAFETY: `message` points at `slices`, which outlive the call.
        let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, send_flags(more)) };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(target_os = "linux")]
fn send_flags(more: bool) -> libc::c_int {
    libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 }
}

#[cfg(not(target_os = "linux"))]
fn send_flags(_more: bool) -> libc::c_int {
    0
}

/// Whether an error of `accept` or `open` says that no descriptor is free (EMFILE, ENFILE) or no memory for one.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Raises the soft limit on open files to the hard one. Returns the limit that holds afterwards.
pub fn raise_open_files_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = libc::rlimit { rlim_cur: highest_soft_limit(limit.rlim_max), rlim_max: limit.rlim_max };
    if wanted.rlim_cur <= limit.rlim_cur {
        return Ok(limit.rlim_cur);
    }
    // SAFETY: `wanted` is a valid rlimit to read from.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } != 0 {
        return Ok(limit.rlim_cur);
    }
    Ok(wanted.rlim_cur)
}

/// Sets the soft limit on open files, for tests of what happens when they run out. It cannot exceed the hard limit.
pub fn lower_open_files_limit(soft: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit, written by the first call and read by the second.
    let status = unsafe {
        match libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) {
            0 => {
                limit.rlim_cur = soft;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
            }
            failed => failed,
        }
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// macOS reports an infinite hard limit and then refuses more than OPEN_MAX of its <sys/syslimits.h>.
#[cfg(target_os = "macos")]
fn highest_soft_limit(hard: libc::rlim_t) -> libc::rlim_t {
    hard.min(10_240)
}

#[cfg(not(target_os = "macos"))]
fn highest_soft_limit(hard: libc::rlim_t) -> libc::rlim_t {
    hard
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn received_bytes_stand_behind_the_old_ones_and_never_grow_the_buffer() {
        let (mut client, server) = pair();
        client.write_all(b"0123456789").unwrap();
        let mut buf = Vec::with_capacity(8);
        buf.extend_from_slice(b"ab");
        let capacity = buf.capacity();
        let mut received = 0;
        while received < 6 {
            received += recv_into_spare(&server, &mut buf, 6 - received).unwrap();
        }
        assert_eq!(&buf[..], b"ab012345");
        assert_eq!(buf.capacity(), capacity);
        buf.truncate(capacity);
        buf.resize(capacity, 0);
        assert_eq!(recv_into_spare(&server, &mut buf, 10).unwrap(), 0, "no room is not an error");
    }

    #[test]
    fn slices_arrive_in_order_whether_or_not_more_follows() {
        let (mut client, server) = pair();
        assert_eq!(
            send_vectored(&server, &[IoSlice::new(b"he"), IoSlice::new(b""), IoSlice::new(b"a")], true).unwrap(),
            3
        );
        assert_eq!(send_vectored(&server, &[IoSlice::new(b"d")], false).unwrap(), 1);
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "head");
    }

    #[test]
    fn the_limit_on_open_files_is_raised_or_kept() {
        let limit = raise_open_files_limit().unwrap();
        assert_eq!(raise_open_files_limit().unwrap(), limit);
        assert!(limit > 0);
    }

    #[test]
    fn a_listener_does_not_block() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
