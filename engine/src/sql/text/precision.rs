//! `timestamp(p)`, `time(p)`, `interval(p)`: moments that keep `p` digits after the second, half rounded away from zero.
//!
//! ```text
//!   timestamp(2)   00:00:00.125   ->   00:00:00.13
//!   time(0)        23:59:59.5     ->   24:00:00
//! ```
//!
//! As in Postgres, timestamps are counted from 2000 on, so halves before it go down. Infinity stays where it is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};

use crate::error::{Error, Result};

/// What Postgres counts its timestamps from, in microseconds from 1970 on.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// Values of any time type, or lists of them, with so many digits; others as they are.
pub fn round(array: ArrayRef, digits: u32) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let data_type = array.data_type().clone();
            let rounded = array
                .as_primitive::<TimestampMicrosecondType>()
                .try_unary::<_, TimestampMicrosecondType, _>(|us| timestamp(us, digits))?;
            Arc::new(rounded.with_data_type(data_type))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let times = array.as_primitive::<Time64MicrosecondType>();
            // A time is far from the ends of an i64.
            Arc::new(times.unary::<_, Time64MicrosecondType>(|us| half_away(us, digits).unwrap_or(us)))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let spans = array.as_primitive::<IntervalMonthDayNanoType>();
            Arc::new(spans.try_unary::<_, IntervalMonthDayNanoType, _>(|span| interval(span, digits))?)
        }
        DataType::List(item) => {
            let (item, lists) = (item.clone(), array.as_list::<i32>());
            let items = round(lists.values().clone(), digits)?;
            let list = ListArray::try_new(item, lists.offsets().clone(), items, lists.nulls().cloned());
            Arc::new(list.map_err(Error::internal)?)
        }
        _ => array,
    })
}

/// Microseconds from 1970 on.
fn timestamp(us: i64, digits: u32) -> Result<i64> {
    if us == i64::MAX || us == i64::MIN {
        return Ok(us);
    }
    let rounded = us.checked_sub(EPOCH_2000_US).and_then(|us| half_away(us, digits));
    rounded.and_then(|us| us.checked_add(EPOCH_2000_US)).ok_or_else(|| Error::new("22008", "timestamp out of range"))
}

fn interval(span: IntervalMonthDayNano, digits: u32) -> Result<IntervalMonthDayNano> {
    let ns = half_away(span.nanoseconds / 1000, digits).and_then(|us| us.checked_mul(1000));
    let ns = ns.ok_or_else(|| Error::new("22008", "interval out of range"))?;
    Ok(IntervalMonthDayNano::new(span.months, span.days, ns))
}

fn half_away(us: i64, digits: u32) -> Option<i64> {
    let unit = 10i64.pow(6 - digits.min(6));
    let half = if us < 0 { -unit / 2 } else { unit / 2 };
    Some(us.checked_add(half)? / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_away_from_zero() {
        assert_eq!(half_away(125_000, 2), Some(130_000));
        assert_eq!(half_away(-125_000, 2), Some(-130_000));
        assert_eq!(half_away(124_999, 2), Some(120_000));
        assert_eq!(half_away(499_999, 0), Some(0));
        assert_eq!(half_away(i64::MAX - 1, 0), None);
    }

    #[test]
    fn timestamps_are_counted_from_2000_on() {
        assert_eq!(timestamp(EPOCH_2000_US + 500_000, 0).unwrap(), EPOCH_2000_US + 1_000_000);
        assert_eq!(timestamp(EPOCH_2000_US - 500_000, 0).unwrap(), EPOCH_2000_US - 1_000_000);
        assert_eq!(timestamp(i64::MAX, 0).unwrap(), i64::MAX);
    }
}
