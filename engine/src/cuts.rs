//! At the ends of which epochs views can be read: not between epochs that workers take together (`dataflow/feed.rs`).
//!
//! Whoever reads views at the last epoch says so first, and the next epoch does not join that one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::time::{Epoch, EpochHeader};

/// Runs of epochs that were taken together, of which it is remembered.
const RUNS_KEPT_MAX: usize = 1 << 16;

/// What has been read, is going to be, and cannot be any more.
#[derive(Default)]
pub struct Cuts(Arc<Mutex<CutsState>>);

/// As long as it lives, views can be read at the end of each epoch.
pub struct EachEpoch(Arc<Mutex<CutsState>>);

impl Drop for EachEpoch {
    fn drop(&mut self) {
        self.0.lock().expect("no panic while held").each -= 1;
    }
}

#[derive(Default)]
struct CutsState {
    /// The ends of these epochs will be read: later ones do not join them.
    wanted: BTreeSet<Epoch>,
    /// So many want all of them.
    each: usize,
    /// Epochs that were taken together: first to last. The oldest are forgotten.
    runs: BTreeMap<Epoch, Epoch>,
    /// Of runs before this epoch nothing is known.
    forgotten: Epoch,
}

impl Cuts {
    /// The header that `last` gives, of the last committed epoch, at whose end every view can be read from now on.
    pub fn at_last(&self, last: impl FnOnce() -> Arc<EpochHeader>) -> Arc<EpochHeader> {
        let mut state = self.0.lock().expect("no panic while held");
        // What is committed later is given to the workers later, by who looks at `wanted` then.
        let header = last();
        state.wanted.insert(header.epoch);
        header
    }

    pub fn each(&self) -> EachEpoch {
        self.0.lock().expect("no panic while held").each += 1;
        EachEpoch(self.0.clone())
    }

    /// Whether views can be read at the end of this epoch, as far as their rows are still there.
    pub fn holds(&self, epoch: Epoch) -> bool {
        let state = self.0.lock().expect("no panic while held");
        let within = state.runs.range(..=epoch).next_back().is_some_and(|(_, last)| epoch < *last);
        !within && epoch >= state.forgotten
    }

    /// Before `epoch` is given to the workers: it may join the one before it if `join` says so.
    pub fn pass(&self, epoch: Epoch, join: impl FnOnce() -> Option<Epoch>) {
        let mut state = self.0.lock().expect("no panic while held");
        let before = epoch - 1;
        let wanted = state.each > 0 || state.wanted.contains(&before);
        if !state.wanted.is_empty() {
            state.wanted = state.wanted.split_off(&epoch);
        }
        if wanted {
            return;
        }
        let Some(first) = join() else { return };
        state.runs.insert(first, epoch);
        if state.runs.len() > RUNS_KEPT_MAX
            && let Some((_, last)) = state.runs.pop_first()
        {
            state.forgotten = last;
        }
    }

    #[cfg(test)]
    pub fn last_run(&self) -> Option<(Epoch, Epoch)> {
        self.0.lock().expect("no panic while held").runs.iter().next_back().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_where_someone_reads() {
        let cuts = Cuts::default();
        let header = |epoch| Arc::new(EpochHeader { epoch, ..Default::default() });
        cuts.pass(1, || None);
        cuts.pass(2, || Some(1));
        cuts.pass(3, || Some(1));
        assert_eq!([0, 1, 2, 3, 4].map(|epoch| cuts.holds(epoch)), [true, false, false, true, true]);
        cuts.at_last(|| header(3));
        cuts.pass(4, || unreachable!("3 is going to be read"));
        cuts.pass(5, || Some(4));
        // Committed, not given to the workers yet.
        cuts.at_last(|| header(6));
        cuts.pass(6, || Some(4));
        cuts.pass(7, || unreachable!("6 is going to be read"));
        let each = cuts.each();
        cuts.pass(8, || unreachable!("each is going to be read"));
        drop(each);
        cuts.pass(9, || Some(8));
        assert_eq!([3, 4, 5, 6, 7, 8, 9].map(|epoch| cuts.holds(epoch)), [true, false, false, true, true, false, true]);
    }
}
