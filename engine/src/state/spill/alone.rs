//! A mapped file of which pages come alone, not with their neighbours.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// Asks Linux (6.7) not to map the pages around one that is touched: it does not do that where writes are watched. This watches
/// none of them. `None` where it is too old, or does not let this process ask, as in some containers.
#[cfg(target_os = "linux")]
pub(super) fn map_alone(base: NonNull<u8>, length: usize) -> Option<OwnedFd> {
    #[repr(C)]
    struct Api {
        version: u64,
        features: u64,
        calls: u64,
    }
    #[repr(C)]
    struct Register {
        start: u64,
        length: u64,
        mode: u64,
        calls: u64,
    }
    // From linux/userfaultfd.h.
    const USER_MODE_ONLY: libc::c_int = 1;
    const API: libc::c_ulong = 0xc018_aa3f;
    const REGISTER: libc::c_ulong = 0xc020_aa00;
    const VERSION: u64 = 0xaa;
    const WRITES_ASYNC: u64 = 1 << 15;
    const WRITES: u64 = 1 << 1;
    // SAFETY: a call without pointers, which gives a new file of ours.
    let watch = unsafe {
        let number = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY);
        OwnedFd::from_raw_fd(libc::c_int::try_from(number).ok().filter(|number| *number >= 0)?)
    };
    let mut api = Api { version: VERSION, features: WRITES_ASYNC, calls: 0 };
    let start = base.as_ptr() as u64;
    let mut register = Register { start, length: length as u64, mode: WRITES, calls: 0 };
    // SAFETY: structures of the layouts that these calls take; the range is our own mapping.
    let taken = unsafe {
        libc::ioctl(watch.as_raw_fd(), API, &raw mut api) == 0
            && libc::ioctl(watch.as_raw_fd(), REGISTER, &raw mut register) == 0
    };
    taken.then_some(watch)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn map_alone(_: NonNull<u8>, _: usize) -> Option<OwnedFd> {
    None
}
