//! Logical time: epochs and their headers. The engine reads the clock in one place, where a header
//! is made; everything after it takes its time from the header.

use crate::catalog::RelationId;

/// Logical time. All changes of one epoch become visible together, in every view. Epoch 0 is before
/// the first change.
pub type Epoch = u64;

/// Touched by an epoch in which the clock that views see has moved.
pub const CLOCK: RelationId = 1;

/// What an epoch is, fixed when it is committed and logged with its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EpochHeader {
    pub epoch: Epoch,
    /// Microseconds since 1970-01-01 UTC; never falls from one epoch to the next.
    pub now_us: i64,
    /// The base relations (streams and tables) with changes in this epoch, streams whose watermark moved without any,
    /// and [`CLOCK`]; sorted.
    pub touched: Vec<RelationId>,
    /// What `now()` is in views: moves only in epochs that touch [`CLOCK`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clock_us: i64,
    /// Of every stream with a watermark, by stream, as of the end of this epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watermarks: Vec<StreamTime>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// How far event time has come in a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StreamTime {
    pub stream: RelationId,
    /// No row before this comes any more: microseconds since 1970-01-01 UTC; `None` before the first row. Never falls.
    pub watermark_us: Option<i64>,
    /// Rows that came too late, since the stream was made.
    #[serde(default)]
    pub late: u64,
    /// Rows too far ahead of the clock to move the watermark.
    #[serde(default)]
    pub ahead: u64,
    pub partitions: Vec<PartitionTime>,
}

/// How far event time has come in one partition of a stream's source. A stream of our own has one.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartitionTime {
    pub partition: u32,
    /// The latest event time seen.
    pub latest_us: Option<i64>,
    /// When rows last came, or the partition was first heard of.
    pub seen_us: i64,
}

/// What a watermark promises of one column: after an epoch whose watermark was W, what changes has W + `offset_us` or
/// later there, or NULL. (Rows of a stream are at W or later, windows end after it.)
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TimeBound {
    pub column: usize,
    /// Their lowest watermark counts.
    pub streams: Vec<RelationId>,
    pub offset_us: i64,
}

impl TimeBound {
    /// What lies before this moment in the column changes no more; `None` while nothing is known.
    pub fn reached(&self, header: &EpochHeader) -> Option<i64> {
        header.watermark(&self.streams).map(|watermark| watermark.saturating_add(self.offset_us))
    }
}

impl EpochHeader {
    /// The watermark of several streams together: the lowest. `None` while one has none, or there are no streams.
    pub fn watermark(&self, streams: &[RelationId]) -> Option<i64> {
        let of = |stream: &RelationId| {
            let at = self.watermarks.binary_search_by_key(stream, |w| w.stream).ok()?;
            self.watermarks[at].watermark_us
        };
        streams.iter().map(of).min()?
    }
}
