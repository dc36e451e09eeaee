//! Logical time: epochs and their headers. The engine reads the clock in one place, where a header
//! is made; everything after it takes its time from the header.

use crate::catalog::RelationId;

/// Logical time. All changes of one epoch become visible together, in every view. Epoch 0 is before
/// the first change.
pub type Epoch = u64;

/// What an epoch is, fixed when it is committed and logged with its rows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EpochHeader {
    pub epoch: Epoch,
    /// Microseconds since 1970-01-01 UTC; never falls from one epoch to the next.
    pub now_us: i64,
    /// The base relations (streams and tables) with changes in this epoch, sorted.
    pub touched: Vec<RelationId>,
}
