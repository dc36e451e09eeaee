//! Threads that compute for long leave the processors to those that someone waits for.

/// How much less is the calling thread's share, on the scale from -20 to 19 of `nice`: about a tenth.
const NICE: i32 = 10;

/// The calling thread works in the background from now on: whatever else wants a processor comes first.
pub fn background() {
    // On Linux the id 0 is that of the calling thread, and the value is its own. It may always be raised; where it cannot
    // be, nothing but latency is lost.
    #[cfg(target_os = "linux")]
    // SAFETY: plain numbers.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, (now + NICE).min(19));
    }
}

/// How long a turn of a prompt thread is.
#[cfg(target_os = "linux")]
const PROMPT_NS: u64 = 100_000;

/// The calling thread does little at a time, and someone waits for it: when it has something to do it gets a processor at
/// once, rather than when another thread's turn of some milliseconds is over. Nothing else of its share changes.
pub fn prompt() {
    // Linux 6.12 and later let a thread ask for shorter turns; before that it is no error.
    #[cfg(target_os = "linux")]
    // SAFETY: a structure of plain numbers, which the kernel reads during the call.
    unsafe {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            sched_flags: 0,
            sched_nice: libc::getpriority(libc::PRIO_PROCESS, 0),
            sched_priority: 0,
            sched_runtime: PROMPT_NS,
            sched_deadline: 0,
            sched_period: 0,
        };
        libc::syscall(libc::SYS_sched_setattr, 0, &attributes, 0);
    }
}
