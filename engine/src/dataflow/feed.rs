//! What workers are given of each epoch, and how much of it may wait for them.
//!
//! Epochs that come while all workers are busy are taken together, under the last one's header: what a step costs once
//! is then paid once for all of them, and a worker that is behind catches up. So that no answer is of an epoch in
//! between, which no view ever showed, whoever is about to read one says so first ([`Cuts`]).
//!
//! ```text
//!   committed      11 12 13 14 15 16 17
//!   given          11│12 13 14│15 16│17       15 and 16 were committed while 12 to 14 were being taken in
//!   cuts wanted             14                by a SELECT that began when 14 was the last
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use arrow::array::Int64Array;
use arrow::compute::concat_batches;

use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::time::{Epoch, EpochHeader};

/// Epochs are taken together as long as they have no more rows than this: beyond, there is little left to save.
const TOGETHER_ROWS_MAX: usize = 8192;
/// Runs of epochs that were taken together, of which it is remembered.
const RUNS_KEPT_MAX: usize = 1 << 16;

/// The changes of streams and tables in one epoch, or in several.
pub struct EpochInput {
    /// Changes of this epoch and of those that follow up to the header's are in it.
    pub first: Epoch,
    /// Of the last epoch; touched are the relations that any of them touched.
    pub header: Arc<EpochHeader>,
    pub changes: BTreeMap<RelationId, Vec<Delta>>,
    _backlog: Load,
}

/// An input that grows until the first worker takes it.
pub struct Slot {
    growing: Mutex<Option<EpochInput>>,
    taken: OnceLock<Arc<EpochInput>>,
}

impl Slot {
    pub fn new(header: Arc<EpochHeader>, changes: BTreeMap<RelationId, Vec<Delta>>, backlog: Load) -> Slot {
        let input = EpochInput { first: header.epoch, header, changes, _backlog: backlog };
        Slot { growing: Mutex::new(Some(input)), taken: OnceLock::new() }
    }

    /// The same to every worker.
    pub fn take(&self) -> Arc<EpochInput> {
        if let Some(mut input) = self.growing.lock().expect("no panic while held").take() {
            if input.first < input.header.epoch {
                input.changes.values_mut().for_each(join_small);
            }
            // Nobody else has found it there to be taken.
            let _ = self.taken.set(Arc::new(input));
        }
        // Set above, or by whoever held the lock before.
        self.taken.get().expect("a slot is filled when it is made").clone()
    }

    /// Adds the next epoch; returns the first that is in it. Error, with the changes: a worker has taken it already, or
    /// enough is in it. `backlog_bytes_max`: as in [`Load::add`].
    pub fn add(
        &self,
        header: &EpochHeader,
        changes: BTreeMap<RelationId, Vec<Delta>>,
        backlog_bytes_max: usize,
    ) -> Result<Epoch, BTreeMap<RelationId, Vec<Delta>>> {
        let mut growing = self.growing.lock().expect("no panic while held");
        let Some(input) = growing.as_mut() else { return Err(changes) };
        let rows = |changes: &BTreeMap<_, Vec<Delta>>| changes.values().flatten().map(Delta::len).sum::<usize>();
        let few = rows(&input.changes) + rows(&changes) <= TOGETHER_ROWS_MAX;
        if !few || !input._backlog.grow(bytes(&changes), backlog_bytes_max) {
            return Err(changes);
        }
        let touched: BTreeSet<RelationId> = input.header.touched.iter().chain(&header.touched).copied().collect();
        input.header = Arc::new(EpochHeader { touched: touched.into_iter().collect(), ..header.clone() });
        for (relation, deltas) in changes {
            input.changes.entry(relation).or_default().extend(deltas);
        }
        Ok(input.first)
    }
}

pub fn bytes(changes: &BTreeMap<RelationId, Vec<Delta>>) -> usize {
    changes.values().flatten().map(Delta::bytes).sum()
}

/// Many small changes of one relation become one.
pub fn join_small(deltas: &mut Vec<Delta>) {
    if deltas.len() < 2 || deltas.iter().map(Delta::len).sum::<usize>() / deltas.len() > 4096 {
        return;
    }
    let schema = deltas[0].schema();
    let rows = concat_batches(&schema, deltas.iter().map(|d| &d.rows)).expect("one relation's rows");
    let weights = deltas
        .iter()
        .any(|d| d.weights.is_some())
        .then(|| deltas.iter().flat_map(|d| (0..d.len()).map(|row| d.weight(row))).collect::<Int64Array>());
    *deltas = vec![Delta::new(rows, weights)];
}

/// Epochs that workers have been given and that some live view has yet to take in.
#[derive(Default)]
pub struct Backlog {
    size: Mutex<BacklogSize>,
    less: Condvar,
}

#[derive(Default)]
struct BacklogSize {
    epochs: usize,
    bytes: usize,
}

/// An epoch's part of it.
pub struct Load {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Load {
    /// Waits while there would be more than `epochs_max` or `bytes_max` with this; one epoch alone may be larger.
    pub fn add(backlog: &Arc<Backlog>, bytes: usize, epochs_max: usize, bytes_max: usize) -> Load {
        let waiting = backlog.size.lock().expect("no panic while held");
        let full =
            |now: &mut BacklogSize| now.epochs > 0 && (now.epochs >= epochs_max || now.bytes + bytes > bytes_max);
        let mut size = backlog.less.wait_while(waiting, full).expect("no panic while held");
        size.epochs += 1;
        size.bytes += bytes;
        Load { backlog: backlog.clone(), bytes }
    }

    /// Whether there is room for so much more, which is then taken.
    fn grow(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let mut size = self.backlog.size.lock().expect("no panic while held");
        let room = size.bytes + bytes <= bytes_max;
        if room {
            size.bytes += bytes;
            self.bytes += bytes;
        }
        room
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut size = self.backlog.size.lock().expect("no panic while held");
        size.epochs -= 1;
        size.bytes -= self.bytes;
        self.backlog.less.notify_one();
    }
}

/// At the ends of which epochs views can be read: not between epochs that are taken together.
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
}
