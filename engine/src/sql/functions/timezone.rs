//! `timezone(zone, time)`, which AT TIME ZONE is: a moment becomes the local time of a zone, a local time the moment
//! that it is there.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::error::Error;
use crate::sql::text::Zone;
use crate::sql::types::UTC;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Timezone {
    signature: Signature,
}

impl Default for Timezone {
    fn default() -> Self {
        Timezone { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

pub fn zone(name: &str) -> Result<Zone> {
    Zone::in_query(name).map_err(external)
}

/// The zone that is so far east.
fn east(by: IntervalMonthDayNano) -> Result<Zone> {
    if by.months != 0 || by.days != 0 {
        let message = "interval time zone must not include months or days";
        return Err(external(Error::invalid_value(message)));
    }
    let out_of_range = || external(Error::invalid_value("interval time zone is out of range"));
    let seconds = i32::try_from(by.nanoseconds / 1_000_000_000).ok().filter(|s| s.abs() < 168 * 3600);
    seconds.map(Zone::fixed).ok_or_else(out_of_range)
}

impl ScalarUDFImpl for Timezone {
    fn name(&self) -> &str {
        "timezone"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [zone_type, time] = types else {
            return plan_err!("Function 'timezone' expects 2 arguments but received {}", types.len());
        };
        let zone = match time {
            // A date or text is a moment in the session's zone.
            DataType::Timestamp(_, Some(_)) | DataType::Date32 | DataType::Utf8 | DataType::Null => Some(UTC.into()),
            _ => None,
        };
        let zone_type = match zone_type {
            DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            _ => DataType::Utf8,
        };
        Ok(vec![zone_type, DataType::Timestamp(TimeUnit::Microsecond, zone)])
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match &types[1] {
            DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let times = args.args[1].to_array(rows)?;
        let to_local = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
        let out_of_range = || external(Error::new("22008", "timestamp out of range"));
        let convert = |us: i64, zone: &Zone| -> Result<i64> {
            let seconds = if to_local { zone.offset_at(us) } else { -zone.offset_at_local(us) };
            match us {
                i64::MAX | i64::MIN => Ok(us),
                _ => us.checked_add(i64::from(seconds) * 1_000_000).ok_or_else(out_of_range),
            }
        };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let converted: TimestampMicrosecondArray = match &args.args[0] {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))) => {
                let zone = zone(name)?;
                times.try_unary(|us| convert(us, &zone))?
            }
            zones => {
                let zones = zones.to_array(rows)?;
                let of = |row: usize| match zones.data_type() {
                    DataType::Utf8 => zone(zones.as_string::<i32>().value(row)),
                    _ => east(zones.as_primitive::<IntervalMonthDayNanoType>().value(row)),
                };
                (0..rows)
                    .map(|row| match zones.is_valid(row) && times.is_valid(row) {
                        true => convert(times.value(row), &of(row)?).map(Some),
                        false => Ok(None),
                    })
                    .collect::<Result<_>>()?
            }
        };
        let result: ArrayRef = Arc::new(converted.with_data_type(args.return_type().clone()));
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}
