//! State that a watermark has made useless: rows and groups whose time no change can come to any more.
//!
//! It is let go in sweeps over all of an operator's state, each time that this has doubled since the last one: a constant
//! cost per row, and at most about twice the state that is needed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};

use crate::error::Result;
use crate::state::key_table::KeyTable;
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

/// What rows that are still to change need of those before them, in the order of a time column: so many before each, and all
/// that are not older by more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookback {
    pub column: usize,
    pub rows: usize,
    pub us: i64,
}

/// The same where later rows look back: of each key, what they need of the rows before the moment stays.
///
/// ```text
///   watermark at 10:00, avg(x) OVER (PARTITION BY k ORDER BY t ROWS 2 PRECEDING)
///   k = 1    … 09:40  09:52  09:55 | 10:03 …       what comes is after the line, and looks at two rows before it
///             let go  ───── stay ─────
/// ```
pub fn expire_behind(
    keyed: &mut KeyedRows,
    expiry: &mut Option<Expiry>,
    epoch: &EpochHeader,
    key: &[usize],
    lookback: Lookback,
) -> Result<()> {
    let Some(expiry) = expiry.as_mut() else { return Ok(()) };
    let Some(before) = expiry.due(epoch, keyed.rows.live_rows() as usize) else { return Ok(()) };
    let segments = keyed.rows.segments();
    let Some(first) = segments.first() else { return Ok(()) };
    let types: Vec<DataType> = key.iter().map(|&c| first.column(c).data_type().clone()).collect();
    let mut table = KeyTable::new(&types)?;
    let keys_of = |table: &KeyTable, rows: &RecordBatch| {
        let columns: Vec<ArrayRef> = key.iter().map(|&c| rows.column(c).clone()).collect();
        table.encoder().encode_rows(&columns, rows.num_rows())
    };
    // By key the latest times before the moment, as many as are looked back to.
    let mut latest: Vec<BinaryHeap<Reverse<i64>>> = Vec::new();
    let (mut ids, mut position) = (Vec::new(), 0);
    for rows in &segments {
        table.intern(&keys_of(&table, rows), &mut ids);
        latest.resize_with(table.bound() as usize, BinaryHeap::new);
        let times = times(rows.column(lookback.column));
        for (row, &id) in ids.iter().enumerate() {
            if times.is_valid(row) && times.value(row) < before && keyed.rows.is_live(position + row as u32) {
                let latest = &mut latest[id as usize];
                latest.push(Reverse(times.value(row)));
                if latest.len() > lookback.rows {
                    latest.pop();
                }
            }
        }
        position += rows.num_rows() as u32;
    }
    let by_time = before.saturating_sub(lookback.us);
    let from: Vec<i64> = latest
        .iter()
        .map(|latest| match latest.peek() {
            // Rows of one time are not told apart.
            Some(Reverse(oldest)) if latest.len() == lookback.rows => by_time.min(*oldest),
            Some(_) => i64::MIN,
            None => by_time,
        })
        .collect();
    let kept = keyed.keep(epoch.epoch, |rows| {
        let mut ids = Vec::new();
        table.find(&keys_of(&table, rows), &mut ids);
        let times = times(rows.column(lookback.column));
        let stays = |(row, id): (usize, &u32)| times.is_null(row) || times.value(row) >= from[*id as usize];
        ids.iter().enumerate().map(stays).collect()
    });
    expiry.swept(kept.len());
    Ok(())
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
