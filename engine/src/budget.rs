//! The memory of the process, held to `--memory`.
//!
//! ```text
//!   --memory 8 GB ─► state 2 GB in memory, what is more in a file (state/spill.rs)
//!                    more than 6 GB that cannot leave    ─► what is freed from now on is not kept
//!                    resident more than 7 GB             ─► what was freed is given back at once
//!                    resident more than 8 GB             ─► pages of that file leave
//!                    more than 8 GB that cannot leave    ─► the view that has most of such state is suspended
//! ```
//!
//! The rest is for ad-hoc queries ([`crate::memory`]) and the store's cache.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::allocator;
use crate::catalog::{Relation, RelationKind};
use crate::core::Core;
use crate::error::Error;
use crate::memory::SPILL_DIRECTORY;
use crate::state::spill;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(50);
/// While state is in the file.
const INTERVAL_FILE: Duration = Duration::from_millis(10);
/// What was freed is given back so often where it is short.
const BETWEEN_GIVING_BACK: Duration = Duration::from_secs(1);
/// Over the budget for so long, a view is suspended: what a moment needs is not state.
const UNTIL_SUSPENDED: Duration = Duration::from_secs(1);
/// And so long it may take until its memory has been given back.
const AFTER_SUSPENDED: Duration = Duration::from_secs(3);
/// Where no view is to blame, it is said again after this.
const AFTER_WARNED: Duration = Duration::from_secs(60);
/// A view with less state than this part of the budget is not why it is exceeded.
const PART_WORTH_SUSPENDING: u64 = 8;
/// The file's bound, unless that is more than half of what the disk has free.
const FILE_BYTES_MAX: u64 = 1 << 40;

/// State beyond a quarter of `memory_bytes` goes to a file below the data directory from now on.
pub fn begin(memory_bytes: u64, data_dir: &Path, free_bytes: Option<u64>) {
    let state_bytes = usize::try_from(memory_bytes / 4).unwrap_or(usize::MAX);
    let file_bytes = FILE_BYTES_MAX.min(free_bytes.unwrap_or(0) / 2);
    if let Err(error) = spill::begin(&data_dir.join(SPILL_DIRECTORY), state_bytes, file_bytes) {
        tracing::warn!(%error, "state stays in memory, whatever it takes");
    }
}

/// What may wait for views in memory before writers wait.
pub fn backlog_bytes_max(memory_bytes: u64) -> usize {
    usize::try_from(memory_bytes / 16).unwrap_or(usize::MAX).clamp(16 << 20, 1 << 30)
}

/// Runs as long as the engine.
pub async fn keep(core: Weak<Core>, memory_bytes: u64) {
    let (mut over_since, mut told_at): (Option<Instant>, Option<Instant>) = (None, None);
    let mut given_back_at: Option<Instant> = None;
    let mut pause = AFTER_SUSPENDED;
    let mut keeps_freed = true;
    loop {
        tokio::time::sleep(if spill::used_bytes().1 > 0 { INTERVAL_FILE } else { INTERVAL }).await;
        let Some(core) = core.upgrade() else { return };
        let Some((resident, fixed)) = spill::resident_bytes() else { return };
        // What a step frees and the next one would take again is more than what is missing, often.
        let has_room = fixed <= memory_bytes / 8 * if keeps_freed { 6 } else { 5 };
        if has_room != keeps_freed {
            allocator::keep_freed(has_room);
            keeps_freed = has_room;
        }
        if resident > memory_bytes / 8 * 7 && given_back_at.is_none_or(|at| at.elapsed() >= BETWEEN_GIVING_BACK) {
            let _ = tokio::task::spawn_blocking(allocator::give_back).await;
            given_back_at = Some(Instant::now());
            continue;
        }
        if resident > memory_bytes && spill::used_bytes().1 > 0 {
            // Somewhat less, so that the next look finds some room.
            let enough = memory_bytes / 8 * 7;
            let over = move || spill::resident_bytes().is_some_and(|(resident, _)| resident > enough);
            let _ = tokio::task::spawn_blocking(move || spill::release_pages(over)).await;
        }
        over_since = if fixed > memory_bytes { over_since.or(Some(Instant::now())) } else { None };
        if over_since.is_some_and(|at| at.elapsed() >= UNTIL_SUSPENDED)
            && told_at.is_none_or(|at| at.elapsed() >= pause)
        {
            pause = if suspend_largest(&core, memory_bytes, fixed) { AFTER_SUSPENDED } else { AFTER_WARNED };
            told_at = Some(Instant::now());
        }
    }
}

/// False: there is none that would help.
fn suspend_largest(core: &Arc<Core>, memory_bytes: u64, fixed: u64) -> bool {
    let catalog = core.catalog();
    let views = core.views.read().expect("no panic while held");
    let running = views.iter().filter(|(_, status)| status.failure().is_none());
    let sizes = running.map(|(id, status)| {
        (status.workers.iter().map(|w| w.fixed_bytes.load(Ordering::Relaxed)).sum::<u64>(), *id, status)
    });
    let Some((bytes, id, status)) = sizes.max_by_key(|(bytes, id, _)| (*bytes, *id)) else { return false };
    let mb = |bytes: u64| bytes >> 20;
    if bytes < memory_bytes / PART_WORTH_SUSPENDING {
        tracing::warn!(used_mb = mb(fixed), memory_mb = mb(memory_bytes), "more memory is in use than --memory allows");
        return false;
    }
    let is_view = |r: &&Arc<Relation>| matches!(r.kind, RelationKind::MaterializedView | RelationKind::Arrangement);
    let name = catalog.get(id).filter(is_view).map(|r| r.name.clone());
    tracing::error!(view = name, state_mb = mb(bytes), used_mb = mb(fixed), "a view is suspended for its memory");
    status.fail(Error::new(
        "53200",
        format!(
            "the process takes {} MB of memory, more than its {} MB (--memory), and this view has most of what cannot \
             leave memory: {} MB",
            mb(fixed),
            mb(memory_bytes),
            mb(bytes)
        ),
    ));
    true
}
