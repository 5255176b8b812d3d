//! Owns the signals: SIGTERM, SIGINT and SIGHUP become a readable socket and a few flags.
//!
//! The handlers only set a flag and write a byte, so the reactor can wait for signals as it waits
//! for sockets, and nothing polls. A second SIGTERM or SIGINT ends the process from within the
//! handler, whatever the rest of the program is doing; what was acknowledged is on the disk by then.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::options::exit;

/// What signals have asked for since the last [`Signals::take`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Stop in an orderly way (SIGTERM or SIGINT). Stays true once it is.
    pub stop: bool,
    /// Reopen and reload what can be (SIGHUP).
    pub reload: bool,
}

/// The receiving end. Register its file descriptor for reading and call [`Signals::take`] when it
/// is readable.
#[derive(Debug)]
pub struct Signals {
    bell: UnixStream,
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers. Call it once, before other threads are started. SIGPIPE and SIGXFSZ are ignored
    /// from then on: a peer that has gone away, and a limit on the length of files, is an error of one write.
    ///
    /// # Errors
    /// If no socket pair can be made or a handler cannot be installed.
    pub fn start() -> io::Result<Signals> {
        let (bell, ring) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ring.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let reload = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Handlers run in the order of registration: the first signal finds the flag unset
            // and sets it, the second finds it set and leaves.
            let code = i32::from(exit::SECOND_SIGNAL);
            let stopping = stop.clone();
            // SAFETY: the action calls `load` of an atomic, poll(2) and write(2), which may be called in a handler; it
            // neither allocates, locks nor panics.
            unsafe { low_level::register(signal, move || say_if(&stopping)) }?;
            flag::register_conditional_shutdown(signal, code, stop.clone())?;
            flag::register(signal, stop.clone())?;
            low_level::pipe::register(signal, ring.try_clone()?)?;
        }
        flag::register(SIGHUP, reload.clone())?;
        low_level::pipe::register(SIGHUP, ring)?;
        ignore_failed_writes();
        Ok(Signals { bell, stop, reload })
    }

    /// Silences the socket and says what was asked for. Never blocks.
    pub fn take(&mut self) -> Requests {
        // The bell is silenced before the flags are read: a signal in between rings it again.
        let mut rung = [0; 64];
        loop {
            match self.bell.read(&mut rung) {
                Ok(0) => break,
                Ok(_) => (),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(_) => break,
            }
        }
        Requests { stop: self.stop.load(Ordering::SeqCst), reload: self.reload.swap(false, Ordering::SeqCst) }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}

/// From now on an interrupt (SIGINT) ends the process at once with this exit code.
///
/// # Errors
/// If the handler cannot be installed.
pub fn exit_on_interrupt(code: i32) -> io::Result<()> {
    flag::register_conditional_shutdown(SIGINT, code, Arc::new(AtomicBool::new(true)))?;
    Ok(())
}

/// The last words, said from within a handler, where the log cannot be used.
const LAST_WORDS: &[u8] = b"a second signal: leaving at once; what was acknowledged is on the disk\n";

// poll(2) promises room for this many bytes in a pipe that it calls writable.
const _: () = assert!(LAST_WORDS.len() <= 512);

/// Says why the process ends, if a stop was asked for before and stderr takes it without blocking.
fn say_if(stopping: &AtomicBool) {
    if !stopping.load(Ordering::SeqCst) {
        return;
    }
    let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: both are plain system calls; the pointers are to a live structure and a constant of the given lengths.
    unsafe {
        if libc::poll(&mut stderr, 1, 0) == 1 && stderr.revents & libc::POLLOUT != 0 {
            libc::write(libc::STDERR_FILENO, LAST_WORDS.as_ptr().cast(), LAST_WORDS.len());
        }
    }
}

fn ignore_failed_writes() {
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_IGN is a valid disposition for both, and no handler of ours is replaced; the
        // call touches no memory.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs one ignored test of this file in a process of its own, since signals are the
    /// process's and not the test's.
    fn in_a_process(name: &str) -> (Option<i32>, String) {
        let path = format!("sys::signals::tests::{name}");
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &path, "--ignored", "--test-threads=1"])
            .stdout(std::process::Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[test]
    fn signals_arrive_at_the_socket_and_are_told_once() {
        assert_eq!(in_a_process("one_of_each").0, Some(0));
    }

    #[test]
    #[ignore = "runs in a process of its own"]
    fn one_of_each() {
        let mut signals = Signals::start().unwrap();
        assert_eq!(signals.take(), Requests::default());
        low_level::raise(libc::SIGPIPE).unwrap();
        assert_eq!(signals.take(), Requests::default());
        low_level::raise(SIGHUP).unwrap();
        low_level::raise(SIGHUP).unwrap();
        let reload = Requests { stop: false, reload: true };
        assert_eq!(signals.take(), reload);
        assert_eq!(signals.take(), Requests::default());
        low_level::raise(SIGINT).unwrap();
        let mut byte = [0];
        assert_eq!(signals.bell.read(&mut byte).unwrap(), 1, "the bell rings");
        assert!(signals.take().stop);
        assert!(signals.take().stop, "stopping is not taken back");
    }

    #[test]
    fn a_limit_on_the_length_of_files_does_not_end_the_process() {
        assert_eq!(in_a_process("too_long_a_file").0, Some(0));
    }

    #[test]
    #[ignore = "runs in a process of its own"]
    fn too_long_a_file() {
        let _signals = Signals::start().unwrap();
        low_level::raise(libc::SIGXFSZ).unwrap();
    }

    #[test]
    fn the_second_signal_leaves_at_once() {
        let (code, said) = in_a_process("two_signals");
        assert!(said.contains("a second signal"), "{said}");
        assert_eq!(code, Some(i32::from(exit::SECOND_SIGNAL)));
    }

    #[test]
    #[ignore = "runs in a process of its own"]
    fn two_signals() {
        let _signals = Signals::start().unwrap();
        low_level::raise(SIGTERM).unwrap();
        low_level::raise(SIGINT).unwrap();
        unreachable!("the second signal ends the process");
    }
}
