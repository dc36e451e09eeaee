//! State that checkpoints keep: a list of Arrow blocks, written as changes and read back as a whole.
//!
//! ```text
//!   checkpoint 1   save → whole, [a=1 b=2]          on disk: [a=1 b=2]
//!   checkpoint 2   save → [a=3]                     on disk: [a=1 b=2] [a=3]
//!   checkpoint 3   save → whole, [a=3 c=4]          on disk: [a=3 c=4]
//! ```
//!
//! What a block says about a key (or a row) overrides what the blocks before it said. A state that
//! finds more garbage than content on disk saves itself whole; only it can know.
//!
//! Restoring works for any number of workers: each gets the blocks of all workers of before and keeps
//! its [`Share`]. Every key was on one worker, so the parts do not contradict each other.

use arrow::array::RecordBatch;

use crate::delta::hash::route;
use crate::error::Result;

/// What of a piece of state goes into a checkpoint.
#[derive(Debug, Default)]
pub struct Saved {
    /// These blocks replace all that were saved before; else they come after them.
    pub whole: bool,
    pub blocks: Vec<RecordBatch>,
}

/// Which keys this worker owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub worker: usize,
    pub workers: usize,
}

impl Share {
    /// The only worker, which owns everything.
    pub const ALL: Share = Share { worker: 0, workers: 1 };

    pub fn owns(&self, hash: u64) -> bool {
        route(hash, self.workers) == self.worker
    }
}

/// A piece of state that survives a restart.
pub trait Durable {
    /// The changes since the last `save` (or since `restore`), at the end of an epoch. The first one of
    /// a new state is whole. The caller writes them, in this order, or stops the process.
    fn save(&mut self) -> Saved;

    /// Fills an empty state. `parts`: for each worker of before the blocks that stand after its last
    /// whole save, in the order of saving. Keeps only what `share` owns. `save` after it writes
    /// everything again if the layout changed (`parts.len() != share.workers`), else changes only.
    fn restore(&mut self, parts: &[Vec<RecordBatch>], share: &Share) -> Result<()>;

    /// Memory that it takes, about, in memory or in the file of [`crate::state::spill`].
    fn state_bytes(&self) -> usize;
    /// What of it can be in memory only.
    fn fixed_bytes(&self) -> usize;
    /// Entries that it holds: groups, rows.
    fn state_rows(&self) -> usize;
}
