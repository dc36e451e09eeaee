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
