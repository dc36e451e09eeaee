//! The allocator of Millrace's programs, and what it keeps of the memory that was freed.
//!
//! Memory that was freed and is given back to the system at once must be cleared by it when it is needed again, mostly
//! in the next epoch. Kept for ten seconds rather than one, which is mimalloc's own, Nexmark's queries with much state
//! take up to a third less CPU time. Where memory is short nothing is kept ([`keep_freed`]), and [`give_back`] does not
//! wait for what was kept before.

use std::ffi::c_long;

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_set_default, mi_option_t};

/// For `#[global_allocator]`.
pub use mimalloc::MiMalloc as Allocator;

/// `mi_option_purge_delay` of mimalloc 3, in milliseconds; the bindings do not name it.
const PURGE_DELAY: mi_option_t = 15;
const KEPT_MS: c_long = 10_000;

/// Unless the environment says otherwise (MIMALLOC_PURGE_DELAY).
pub fn begin() {
    // Safety: it sets a number, whichever allocator the program has.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT_MS) }
}

/// Whether what is freed from now on is kept for a while; not where the environment says how long.
pub fn keep_freed(keep: bool) {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // Safety: it sets a number, which is read whenever something is freed.
        unsafe { mi_option_set(PURGE_DELAY, if keep { KEPT_MS } else { 0 }) }
    }
}

/// Gives what is free back to the system.
pub fn give_back() {
    // Safety: it is called from any thread, and frees nothing that is in use.
    unsafe { mi_collect(true) }
}
