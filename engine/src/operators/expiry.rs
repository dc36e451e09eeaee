//! State that a watermark has made useless: rows and groups whose time no change can come to any more.
//!
//! It is let go in sweeps over all of an operator's state, each time that this has doubled since the last one: a constant
//! cost per row, and at most about twice the state that is needed.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};

use crate::state::keyed_rows::KeyedRows;
use crate::time::{EpochHeader, TimeBound};

/// Fewer rows than this are never looked through.
pub const EXPIRY_ROWS_MIN: usize = 32;
/// The same in bytes, where these are what is counted.
pub const EXPIRY_BYTES_MIN: usize = 128 * EXPIRY_ROWS_MIN;

const DAY_US: i64 = 86_400_000_000;

/// When an operator looks through its state next.
pub struct Expiry {
    bound: TimeBound,
    /// State of this size is worth a look.
    next: usize,
    least: usize,
}

impl Expiry {
    /// `least`: so much state is never looked through, in the unit of [`Expiry::due`].
    pub fn new(bound: &TimeBound, least: usize) -> Expiry {
        Expiry { bound: bound.clone(), next: least, least }
    }

    pub fn column(&self) -> usize {
        self.bound.column
    }

    /// Asked at the end of an epoch: what lies before this moment is to be let go.
    pub fn due(&self, epoch: &EpochHeader, size: usize) -> Option<i64> {
        if size < self.next { None } else { self.bound.reached(epoch) }
    }

    /// So much is left.
    pub fn swept(&mut self, size: usize) {
        self.next = size.saturating_mul(2).max(self.least);
    }
}

/// Whether a bound can speak of columns of this type.
pub fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32)
}

/// At the end of an epoch: lets go of rows whose time has passed. Where any went, the old positions of those that stayed.
pub fn expire(keyed: &mut KeyedRows, expiry: &mut Option<Expiry>, epoch: &EpochHeader) -> Option<Vec<u32>> {
    let expiry = expiry.as_mut()?;
    let before = expiry.due(epoch, keyed.rows.live_rows() as usize)?;
    let kept = keyed.keep(epoch.epoch, |rows| stays(rows.column(expiry.column()), before));
    expiry.swept(kept.len());
    Some(kept)
}

/// A column's values as microseconds since 1970-01-01, a date as its beginning.
pub fn times(column: &ArrayRef) -> Int64Array {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>()
        }
        DataType::Date32 => column.as_primitive::<Date32Type>().unary(|days| i64::from(days).saturating_mul(DAY_US)),
        other => unreachable!("no bound speaks of {other}"),
    }
}

/// For each row whether it stays: at or after the moment, or without a time.
pub fn stays(column: &ArrayRef, before: i64) -> Vec<bool> {
    let times = times(column);
    (0..times.len()).map(|row| times.is_null(row) || times.value(row) >= before).collect()
}
