//! `date_bin(stride, time, origin)` as in Postgres, and `time_bucket(width, time [, origin])` as in TimescaleDB: the start of
//! the piece of time, all of one length and one of them starting at the origin, in which a time lies.
//!
//! ```text
//!   date_bin('15 minutes', '12:07', origin '12:02')      12:02
//!   time_bucket('1 week', '2024-01-03')                  2024-01-01, a Monday
//!   time_bucket('3 months', '2024-05-17')                2024-04-01
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::error::Error;
use crate::sql::text::calendar::{Civil, DAY_US, civil_from_days, days_from_civil};
use crate::sql::types::{UTC, sql_type_of_arrow};

/// 2000-01-03, a Monday, and 2000-01-01: where TimescaleDB's buckets start.
const MONDAY_US: i64 = 10_959 * DAY_US;
const MONTH_US: i64 = 10_957 * DAY_US;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Bin {
    name: &'static str,
    signature: Signature,
}

pub fn all() -> [Bin; 2] {
    ["date_bin", "time_bucket"].map(|name| Bin { name, signature: Signature::user_defined(Volatility::Immutable) })
}

fn error(code: &'static str, message: &str) -> DataFusionError {
    DataFusionError::External(Box::new(Error::new(code, message)))
}

/// How long the pieces are.
#[derive(Debug, Clone, Copy)]
enum Width {
    Fixed(i64),
    Months(i64),
}

impl Bin {
    fn buckets(&self) -> bool {
        self.name == "time_bucket"
    }

    fn width(&self, stride: IntervalMonthDayNano) -> Result<Width> {
        let us = i64::from(stride.days) * DAY_US + stride.nanoseconds / 1000;
        let width = match (stride.months, us) {
            (0, us) => Width::Fixed(us),
            (months, 0) if self.buckets() => Width::Months(months.into()),
            _ => {
                return Err(error("0A000", "timestamps cannot be binned into intervals containing months or years"));
            }
        };
        match width {
            Width::Fixed(length) | Width::Months(length) if length <= 0 => {
                Err(error("22008", "stride must be greater than zero"))
            }
            width => Ok(width),
        }
    }

    fn origin(&self, width: Width) -> i64 {
        match width {
            _ if !self.buckets() => 0,
            Width::Fixed(_) => MONDAY_US,
            Width::Months(_) => MONTH_US,
        }
    }
}

/// Months since the year 0.
fn months_of(us: i64) -> i64 {
    let civil = civil_from_days(us.div_euclid(DAY_US));
    civil.year * 12 + i64::from(civil.month) - 1
}

fn bin(width: Width, time: i64, origin: i64) -> Option<i64> {
    match width {
        Width::Fixed(length) => {
            let since = time.checked_sub(origin)?;
            origin.checked_add(since.checked_sub(since.rem_euclid(length))?)
        }
        Width::Months(length) => {
            // A month starts on its first day, whatever day the origin is.
            let since = months_of(time) - months_of(origin);
            let month = months_of(origin) + since - since.rem_euclid(length);
            let first = Civil { year: month.div_euclid(12), month: month.rem_euclid(12) as u32 + 1, day: 1 };
            days_from_civil(first).checked_mul(DAY_US)
        }
    }
}

impl ScalarUDFImpl for Bin {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (time, origin) = match types {
            [_, time] => (time, None),
            [_, time, origin] => (time, Some(origin)),
            _ => return plan_err!("Function '{}' expects 3 arguments but received {}", self.name, types.len()),
        };
        let of = |time: &DataType| match time {
            DataType::Timestamp(_, None) => Ok(Some(DataType::Timestamp(TimeUnit::Microsecond, None))),
            // A date is a moment in the session's zone.
            DataType::Timestamp(_, Some(_)) | DataType::Date32 => {
                Ok(Some(DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))))
            }
            DataType::Utf8 | DataType::Null => Ok(None),
            other => {
                let message = format!("function {}(interval, {}) does not exist", self.name, sql_type_of_arrow(other));
                Err(error("42883", &message))
            }
        };
        // What is only a literal in quotes is what the other one is.
        let origin = origin.map_or(Ok(None), of)?;
        let time = match of(time)?.or(origin) {
            Some(time) => time,
            None => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        };
        let mut coerced = vec![DataType::Interval(IntervalUnit::MonthDayNano)];
        coerced.resize(types.len(), time);
        Ok(coerced)
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[1].clone())
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let times = args.args[1].to_array(rows)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let out_of_range = || error("22008", "timestamp out of range");
        let one = |width: Width, time: i64, origin: i64| match time {
            i64::MAX | i64::MIN => Ok(time),
            _ if origin == i64::MAX || origin == i64::MIN => Err(error("22008", "origin out of range")),
            _ => bin(width, time, origin).ok_or_else(out_of_range),
        };
        // The origin, if it is one for all rows and not NULL; within, none is the default.
        let origin = match args.args.get(2) {
            None => Some(None),
            Some(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(origin), _))) => Some(Some(*origin)),
            Some(_) => None,
        };
        let result: TimestampMicrosecondArray = match (&args.args[0], origin) {
            (ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(stride))), Some(origin)) => {
                let width = self.width(*stride)?;
                let origin = origin.unwrap_or(self.origin(width));
                times.try_unary(|time| one(width, time, origin))?
            }
            (strides, _) => {
                let strides = strides.to_array(rows)?;
                let strides = strides.as_primitive::<IntervalMonthDayNanoType>();
                let origins = args.args.get(2).map(|origins| origins.to_array(rows)).transpose()?;
                let origins = origins.as_ref().map(|origins| origins.as_primitive::<TimestampMicrosecondType>());
                let row = |row: usize| {
                    let given = origins.is_none_or(|origins| origins.is_valid(row));
                    if !(given && strides.is_valid(row) && times.is_valid(row)) {
                        return Ok(None);
                    }
                    let width = self.width(strides.value(row))?;
                    let origin = origins.map_or(self.origin(width), |origins| origins.value(row));
                    one(width, times.value(row), origin).map(Some)
                };
                (0..rows).map(row).collect::<Result<_>>()?
            }
        };
        let result: ArrayRef = Arc::new(result.with_data_type(args.return_type().clone()));
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}
