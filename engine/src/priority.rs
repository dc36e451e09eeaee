//! Threads that compute for long leave the processors to those that someone waits for.
//!
//! | way | for whom | while others want the processors |
//! | --- | --- | --- |
//! | [`background`] | one long computation | has about a tenth of one, and gives way to who has had less than its share |
//! | [`idle`] | much work in small pieces | has next to nothing, and gives way at once: see [`is_starved`] |
//!
//! Less weight alone is not enough: once a thread has a processor, Linux leaves it there until its turn is over, some three
//! milliseconds, whoever else wakes up. All of this is asked of Linux for the calling thread, without privileges; where it
//! is refused, nothing but latency is lost.

use std::time::Duration;

/// How much less is the calling thread's share, on the scale from -20 to 19 of `nice`: about a tenth.
const NICE: i32 = 10;
/// Of two threads that may go on, Linux (6.12) prefers the one with the shorter turns, which it lets one say.
const LONG_TURN: Duration = Duration::from_millis(100);
/// A piece of work that takes so long, and has a processor for this part of it or less, is starved.
const STARVED_AFTER: Duration = Duration::from_millis(50);
const STARVED_PART: u32 = 8;

/// The calling thread works in the background from now on: whatever else wants a processor comes first, mostly.
pub fn background() {
    #[cfg(target_os = "linux")]
    linux::set(libc::SCHED_OTHER, NICE, LONG_TURN);
}

/// The calling thread, and those that it makes, work when nobody else does. That cannot be taken back without privileges: if
/// it is starved, another thread has to go on.
pub fn idle() {
    #[cfg(target_os = "linux")]
    linux::set(libc::SCHED_IDLE, 0, Duration::ZERO);
}

/// Whether a piece of work that took `elapsed`, of which it had a processor for `worked`, waited for processors rather than
/// worked.
pub fn is_starved(elapsed: Duration, worked: Duration) -> bool {
    elapsed >= STARVED_AFTER && worked * STARVED_PART <= elapsed
}

/// How long the calling thread has had a processor.
pub fn worked() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a call that writes the time there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(target_os = "linux")]
mod linux {
    use super::Duration;

    /// `nicer` than the thread is now.
    pub fn set(policy: i32, nicer: i32, turn: Duration) {
        // SAFETY: plain numbers. The id 0 is that of the calling thread, and the value its own.
        let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: policy as u32,
            sched_flags: 0,
            sched_nice: (now + nicer).min(19),
            sched_priority: 0,
            sched_runtime: turn.as_nanos() as u64,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: a call that reads this structure, of the calling thread.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    fn policy_and_nice() -> (i32, i32) {
        // SAFETY: plain numbers, of the calling thread.
        unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_takes_what_is_asked() {
        let asked =
            |ask: fn()| std::thread::spawn(move || (policy_and_nice(), ask(), policy_and_nice())).join().unwrap();
        let ((_, nice), (), (policy, after)) = asked(background);
        assert_eq!((policy, after), (libc::SCHED_OTHER, (nice + NICE).min(19)));
        let (_, (), (policy, _)) = asked(idle);
        assert_eq!(policy, libc::SCHED_IDLE);
    }

    #[test]
    fn who_waits_is_starved_and_who_works_is_not() {
        let (began, worked_before) = (std::time::Instant::now(), worked());
        std::thread::sleep(Duration::from_millis(60));
        assert!(is_starved(began.elapsed(), worked() - worked_before));
        let worked_before = worked();
        while worked() - worked_before < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(!is_starved(Duration::from_millis(60), worked() - worked_before));
        assert!(!is_starved(Duration::from_millis(40), Duration::ZERO));
    }
}
