//! What this process has used so far: CPU time of all its threads, and the most memory it ever held.

use std::mem::MaybeUninit;

/// User and system time of all threads, ended ones too, in seconds.
pub fn process_cpu_s() -> f64 {
    clock_s(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// User and system time of the calling thread, in seconds.
pub fn thread_cpu_s() -> f64 {
    clock_s(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_s(clock: libc::clockid_t) -> f64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for a timespec, which the call fills when it returns 0.
    let time = unsafe {
        assert_eq!(libc::clock_gettime(clock, time.as_mut_ptr()), 0, "Linux has the CPU-time clocks");
        time.assume_init()
    };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Peak resident memory in bytes. From /proc and not getrusage, which after an exec still counts the parent's.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("status has VmHWM");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("VmHWM is a number of kB");
    kib * 1024
}
