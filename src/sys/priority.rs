//! Owns which threads come first where processors are short.

/// Slice of a thread that answers, in ns: the shortest that Linux takes.
#[cfg(target_os = "linux")]
const ANSWERING_SLICE_NS: u64 = 100_000;

/// Lets this thread have a processor soon after it has been woken, also where others are busy on all of them, in return for shorter
/// slices of time. For threads that do a little for each request, and are waited for.
///
/// Only where the thread is scheduled as threads usually are: whoever has given the server another policy knows why.
///
/// On Linux since 6.12 a thread that asks for shorter slices than the running one takes its place; otherwise it waits for up to a whole
/// slice of each thread that computes (EEVDF; sched(7), sched_setattr(2)). Elsewhere nothing changes: it is a matter of speed only.
pub fn be_soon_on_this_thread() {
    #[cfg(target_os = "linux")]
    if is_scheduled_as_usual() {
        let attr = libc::sched_attr {
            size: std::mem::size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            // Threads that it starts are as all are.
            sched_flags: libc::SCHED_FLAG_RESET_ON_FORK as u64,
            sched_nice: nice_of_this_thread(),
            sched_priority: 0,
            sched_runtime: ANSWERING_SLICE_NS,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the pointer is to a structure that says its size, and lives on; thread 0 is the calling one.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attr, 0) };
    }
}

#[cfg(target_os = "linux")]
fn is_scheduled_as_usual() -> bool {
    // SAFETY: takes a number; thread 0 is the calling one.
    unsafe { libc::sched_getscheduler(0) == libc::SCHED_OTHER }
}

/// Its nice value, which goes with the policy.
#[cfg(target_os = "linux")]
fn nice_of_this_thread() -> i32 {
    // SAFETY: takes two numbers. A value of -1 is also that of an error, which this call can't have for the calling thread.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}
