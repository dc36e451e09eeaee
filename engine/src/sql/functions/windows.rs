//! Arithmetic of window bounds, in whole microseconds: what TUMBLE, HOP and CUMULATE are made of (see `sql/window.rs`).
//!
//! ```text
//!   mr_window_start(00:01:30, 1 minute, 0)             00:01:00
//!   mr_shift(00:01:00, 1 minute)                       00:02:00
//!   mr_hop_starts(00:01:30, 30 s, 1 minute, 0)         {00:01:00, 00:01:30}
//!   mr_cumulate(00:01:30, 20 s, 1 minute, 0)           {00:01:40, 00:02:00}
//! ```
//!
//! Windows are half-open: a time is in one from its start to before its end. Bounds are aligned to 1970-01-01 UTC plus
//! the offset, and floored, so that times before 1970 are right too. NULL gives NULL. Bounds beyond what a timestamp
//! holds are 22008.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Field, IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::error::Error;
use crate::sql::interval::DAY_US;

#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
enum Bounds {
    Start,
    Shift,
    HopStarts,
    Cumulate,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct WindowFunction {
    bounds: Bounds,
    signature: Signature,
}

/// All of them.
pub fn all() -> Vec<WindowFunction> {
    [Bounds::Start, Bounds::Shift, Bounds::HopStarts, Bounds::Cumulate]
        .map(|bounds| WindowFunction { bounds, signature: Signature::user_defined(Volatility::Immutable) })
        .into()
}

impl WindowFunction {
    fn intervals(&self) -> usize {
        match self.bounds {
            Bounds::Shift => 1,
            Bounds::Start => 2,
            Bounds::HopStarts | Bounds::Cumulate => 3,
        }
    }
}

fn out_of_range() -> DataFusionError {
    DataFusionError::External(Box::new(Error::new("22008", "timestamp out of range")))
}

fn microseconds(value: &ColumnarValue) -> Result<i64> {
    match value {
        ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(interval))) => window_length(*interval),
        // Constant folding may have spread it over the rows.
        ColumnarValue::Array(array) if !array.is_empty() => {
            window_length(array.as_primitive::<IntervalMonthDayNanoType>().value(0))
        }
        _ => exec_err!("the length of a window must be a constant"),
    }
}

/// The length of a window in microseconds, a day being 24 hours.
pub fn window_length(interval: IntervalMonthDayNano) -> Result<i64> {
    let days = i64::from(interval.days).checked_mul(DAY_US);
    match days.and_then(|days| days.checked_add(interval.nanoseconds / 1000)) {
        Some(us) if interval.months == 0 => Ok(us),
        _ => {
            Err(DataFusionError::External(Box::new(Error::invalid_value("the length of a window cannot have months"))))
        }
    }
}

/// The type of a window's bounds, from that of its time column. Error: 42804.
pub fn time_type(time: &DataType) -> Result<DataType> {
    match time {
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Date32 | DataType::Null => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
        other => {
            let sql_type = crate::sql::types::sql_type_of_arrow(other);
            let error = Error::new("42804", format!("the time column of a window must be a timestamp, not {sql_type}"));
            Err(DataFusionError::External(Box::new(error)))
        }
    }
}

/// The largest multiple of `size` plus `offset` that is not after `time`.
fn floor(time: i64, size: i64, offset: i64) -> Option<i64> {
    let shifted = time.checked_sub(offset)?;
    shifted.checked_sub(shifted.rem_euclid(size))?.checked_add(offset)
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        match self.bounds {
            Bounds::Start => "mr_window_start",
            Bounds::Shift => "mr_shift",
            Bounds::HopStarts => "mr_hop_starts",
            Bounds::Cumulate => "mr_cumulate",
        }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if arg_types.len() != 1 + self.intervals() {
            return plan_err!(
                "Function '{}' expects {} arguments but received {}",
                self.name(),
                1 + self.intervals(),
                arg_types.len()
            );
        }
        let time = time_type(&arg_types[0])?;
        let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        Ok(std::iter::once(time).chain(std::iter::repeat_n(interval, self.intervals())).collect())
    }
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.bounds {
            Bounds::Start | Bounds::Shift => arg_types[0].clone(),
            Bounds::HopStarts | Bounds::Cumulate => {
                DataType::List(Arc::new(Field::new_list_field(arg_types[0].clone(), true)))
            }
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let times = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
        if times.is_empty() {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(args.return_type())));
        }
        let lengths = args.args[1..].iter().map(microseconds).collect::<Result<Vec<i64>>>()?;
        if self.bounds != Bounds::Shift && lengths[..lengths.len() - 1].iter().any(|&length| length <= 0) {
            return Err(DataFusionError::External(Box::new(Error::invalid_value(
                "the length of a window must be positive",
            ))));
        }
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let result = match (self.bounds, lengths.as_slice()) {
            (Bounds::Start, &[size, offset]) => map(times, |time| floor(time, size, offset))?,
            (Bounds::Shift, &[length]) => map(times, |time| time.checked_add(length))?,
            (Bounds::HopStarts, &[slide, size, offset]) => lists(times, |time, starts| {
                let last = floor(time, slide, offset)?;
                // The first start whose window reaches beyond the time.
                let before = time.checked_sub(size)?;
                let first = floor(before, slide, offset)?.checked_add(slide)?;
                let mut start = first;
                while start <= last {
                    starts.push(start);
                    start = start.checked_add(slide)?;
                }
                Some(())
            })?,
            (Bounds::Cumulate, &[step, size, offset]) => lists(times, |time, ends| {
                let start = floor(time, size, offset)?;
                let end = start.checked_add(size)?;
                let mut next = start.checked_add((time - start) / step * step)?.checked_add(step)?;
                while next <= end {
                    ends.push(next);
                    next = next.checked_add(step)?;
                }
                Some(())
            })?,
            _ => return exec_err!("{} was given other arguments", self.name()),
        };
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

fn map(times: &TimestampMicrosecondArray, bound: impl Fn(i64) -> Option<i64>) -> Result<ArrayRef> {
    let bounds: PrimitiveArray<TimestampMicrosecondType> =
        times.try_unary(|time| bound(time).ok_or_else(out_of_range))?;
    Ok(Arc::new(bounds.with_data_type(times.data_type().clone())))
}

/// For each time a list, which `push` fills.
fn lists(times: &TimestampMicrosecondArray, push: impl Fn(i64, &mut Vec<i64>) -> Option<()>) -> Result<ArrayRef> {
    let (mut values, mut lengths) = (Vec::with_capacity(2 * times.len()), Vec::with_capacity(times.len()));
    for row in 0..times.len() {
        let before = values.len();
        if times.is_valid(row) {
            push(times.value(row), &mut values).ok_or_else(out_of_range)?;
        }
        lengths.push(values.len() - before);
    }
    let field = Arc::new(Field::new_list_field(times.data_type().clone(), true));
    let values = TimestampMicrosecondArray::from(values).with_data_type(times.data_type().clone());
    let nulls: Option<NullBuffer> = times.nulls().cloned();
    Ok(Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), Arc::new(values), nulls)))
}
