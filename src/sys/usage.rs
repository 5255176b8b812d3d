//! Owns the questions about this process: how much time, memory and how many files it uses.
//!
//! Linux answers most of them in /proc; elsewhere getrusage(2) and /dev/fd do.

use std::fs;

/// What the process uses. A number that the platform does not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time of all threads, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory held now, in bytes; where only the peak is known (macOS), the peak.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most file descriptors the process may have; `None` also if there is no limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Asks the system. Takes some microseconds, and more on systems that only list open files one by one.
pub fn usage() -> Usage {
    let rusage = rusage();
    let mut usage = Usage {
        cpu_seconds: rusage.map(|r| seconds(r.ru_utime) + seconds(r.ru_stime)),
        open_fds: open_fds(),
        max_fds: max_fds(),
        ..Usage::default()
    };
    match fs::read_to_string("/proc/self/status") {
        Ok(status) => {
            usage.resident_bytes = field(&status, "VmRSS:").map(|kib| kib * 1024);
            usage.threads = field(&status, "Threads:");
        }
        Err(_) => usage.resident_bytes = rusage.and_then(peak_bytes),
    }
    usage
}

/// The first number behind `name` in the text of /proc/self/status.
fn field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn open_fds() -> Option<u64> {
    // Linux 6.2 and newer give the number as the size of the folder, without listing it.
    if let Ok(meta) = fs::metadata("/proc/self/fd") {
        if meta.len() > 0 {
            return Some(meta.len());
        }
    }
    let list = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd"));
    // The listing itself holds one descriptor open.
    Some((list.ok()?.count() as u64).saturating_sub(1))
}

fn seconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}

/// ru_maxrss is in bytes on macOS and in KiB elsewhere.
fn peak_bytes(rusage: libc::rusage) -> Option<u64> {
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(rusage.ru_maxrss).ok()?.checked_mul(unit)
}

fn rusage() -> Option<libc::rusage> {
    // SAFETY: an all-zero rusage is a valid value of that plain C struct.
    let mut rusage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, writable rusage for the whole call.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut rusage) };
    (result == 0).then_some(rusage)
}

/// Processor time of this thread so far, in µs.
pub fn thread_cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live, writable timespec for the whole call.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0 {
        return 0;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

fn max_fds() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable rlimit for the whole call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_uses_something() {
        let usage = usage();
        assert!(usage.cpu_seconds.is_some_and(|s| s >= 0.0));
        assert!(usage.resident_bytes.is_some_and(|b| b > 100_000));
        assert!(usage.open_fds.is_some_and(|n| n >= 3));
        assert!(usage.threads.is_none_or(|n| n >= 1));
    }

    #[test]
    fn proc_status_is_read_by_field() {
        let status = "Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(1234));
        assert_eq!(field(status, "Threads:"), Some(7));
        assert_eq!(field(status, "Swap:"), None);
    }
}
