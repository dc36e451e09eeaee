//! Functions of dates and times that DataFusion has not: `age`, `justify_*`, `isfinite`, `make_timestamp`, and reading by
//! a template, `to_date` and `to_timestamp`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, IntervalMonthDayNanoArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::casts::style;
use super::to_char::read_time;
use crate::error::Error;
use crate::sql::common::{Kind, kind};
use crate::sql::text::calendar::{Civil, DAY_US, civil_from_days, days_from_civil, days_in_month};
use crate::sql::text::{Zone, parse_offset};
use crate::sql::types::{UTC, sql_type_of_arrow};

const SECOND_US: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Age,
    JustifyHours,
    JustifyDays,
    JustifyInterval,
    IsFinite,
    MakeTimestamp,
    MakeTimestamptz,
    ToDate,
    ToTimestamp,
}

use Operation as O;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct DateFunction {
    operation: Operation,
    signature: Signature,
}

pub fn all() -> Vec<DateFunction> {
    let all = [
        O::Age,
        O::JustifyHours,
        O::JustifyDays,
        O::JustifyInterval,
        O::IsFinite,
        O::MakeTimestamp,
        O::MakeTimestamptz,
        O::ToDate,
        O::ToTimestamp,
    ];
    all.map(|operation| DateFunction { operation, signature: Signature::user_defined(Volatility::Stable) }).into()
}

/// A zone as make_timestamptz has it: an offset counts to the east, as in a timestamp that is written out.
fn written_zone(text: &str) -> Result<Zone> {
    let text = text.trim();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let error = Error::invalid_value(format!("invalid input syntax for type numeric time zone: \"{text}\""));
        return Err(external(error.hint("Numeric time zones must have \"-\" or \"+\" as first character.")));
    }
    match text.starts_with(['+', '-']).then(|| parse_offset(text)) {
        Some(Some(offset)) => Ok(Zone::fixed(offset)),
        Some(None) => Err(external(Error::invalid_value(format!("numeric time zone \"{text}\" out of range")))),
        None => super::timezone::zone(text),
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
fn out_of_range() -> DataFusionError {
    external(Error::new("22008", "timestamp out of range"))
}

fn zoned() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}
fn plain() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}
fn interval() -> DataType {
    DataType::Interval(IntervalUnit::MonthDayNano)
}

impl ScalarUDFImpl for DateFunction {
    fn name(&self) -> &str {
        match self.operation {
            O::Age => "age",
            O::JustifyHours => "justify_hours",
            O::JustifyDays => "justify_days",
            O::JustifyInterval => "justify_interval",
            O::IsFinite => "isfinite",
            O::MakeTimestamp => "make_timestamp",
            O::MakeTimestamptz => "make_timestamptz",
            O::ToDate => "to_date",
            O::ToTimestamp => "to_timestamp",
        }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let fits = |t: &DataType, kinds: &[Kind]| *t == DataType::Null || kind(t).is_some_and(|k| kinds.contains(&k));
        let all = |kinds: &[Kind]| types.iter().all(|t| fits(t, kinds));
        let coerced = match (self.operation, types.len()) {
            (O::Age, 2) if all(&[Kind::Moment, Kind::Text]) => {
                let local = types.iter().any(|t| matches!(t, DataType::Timestamp(_, None)));
                Some(vec![if local { plain() } else { zoned() }; types.len()])
            }
            (O::JustifyHours | O::JustifyDays | O::JustifyInterval, 1) if all(&[Kind::Interval, Kind::Text]) => {
                Some(vec![interval()])
            }
            (O::IsFinite, 1) if all(&[Kind::Moment, Kind::Interval]) => Some(types.to_vec()),
            (O::MakeTimestamp, 6) | (O::MakeTimestamptz, 6) if all(&[Kind::Number]) => {
                Some([vec![DataType::Int64; 5], vec![DataType::Float64]].concat())
            }
            (O::MakeTimestamptz, 7) if types[..6].iter().all(|t| fits(t, &[Kind::Number])) => {
                Some([vec![DataType::Int64; 5], vec![DataType::Float64, DataType::Utf8]].concat())
            }
            (O::ToDate | O::ToTimestamp, 2) if all(&[Kind::Text]) => Some(vec![DataType::Utf8; 2]),
            (O::ToTimestamp, 1) if all(&[Kind::Number]) => Some(vec![DataType::Float64]),
            _ => None,
        };
        coerced.ok_or_else(|| {
            let types: Vec<String> = types.iter().map(sql_type_of_arrow).collect();
            external(Error::new("42883", format!("function {}({}) does not exist", self.name(), types.join(", "))))
        })
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.operation {
            O::Age | O::JustifyHours | O::JustifyDays | O::JustifyInterval => interval(),
            O::IsFinite => DataType::Boolean,
            O::MakeTimestamp => plain(),
            O::MakeTimestamptz | O::ToTimestamp => zoned(),
            O::ToDate => DataType::Date32,
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let session = style(&args.config_options)?.zone;
        let valid = |row: usize| arrays.iter().all(|array| array.is_valid(row));
        let text = |column: usize, row: usize| arrays[column].as_string::<i32>().value(row);
        let intervals = |of: fn(IntervalMonthDayNano) -> IntervalMonthDayNano| -> ArrayRef {
            let values = arrays[0].as_primitive::<IntervalMonthDayNanoType>();
            Arc::new(values.unary::<_, IntervalMonthDayNanoType>(of))
        };
        let moments = |of: &dyn Fn(usize) -> Result<i64>| -> Result<ArrayRef> {
            let values = (0..rows).map(|row| if valid(row) { of(row).map(Some) } else { Ok(None) });
            let values = values.collect::<Result<TimestampMicrosecondArray>>()?;
            Ok(Arc::new(values.with_data_type(args.return_type().clone())))
        };
        let result: ArrayRef = match self.operation {
            O::Age => {
                let zone = matches!(arrays[0].data_type(), DataType::Timestamp(_, Some(_))).then_some(session);
                let local = |column: usize, row: usize| {
                    let us = arrays[column].as_primitive::<TimestampMicrosecondType>().value(row);
                    us + zone.map_or(0, |zone| i64::from(zone.offset_at(us))) * SECOND_US
                };
                let ages = (0..rows).map(|row| valid(row).then(|| age(local(0, row), local(1, row))));
                Arc::new(ages.collect::<IntervalMonthDayNanoArray>())
            }
            O::JustifyHours => intervals(justify_hours),
            O::JustifyDays => intervals(justify_days),
            O::JustifyInterval => intervals(|v| {
                let v = justify_days(justify_hours(v));
                one_sign(v)
            }),
            O::IsFinite => {
                let finite = |row: usize| match arrays[0].data_type() {
                    DataType::Date32 => {
                        !matches!(arrays[0].as_primitive::<Date32Type>().value(row), i32::MAX | i32::MIN)
                    }
                    DataType::Timestamp(..) => {
                        !matches!(arrays[0].as_primitive::<TimestampMicrosecondType>().value(row), i64::MAX | i64::MIN)
                    }
                    _ => true,
                };
                Arc::new((0..rows).map(|row| valid(row).then(|| finite(row))).collect::<BooleanArray>())
            }
            O::MakeTimestamp | O::MakeTimestamptz => moments(&|row| {
                let field = |column: usize| arrays[column].as_primitive::<Int64Type>().value(row);
                let seconds = arrays[5].as_primitive::<Float64Type>().value(row);
                let local = made([field(0), field(1), field(2), field(3), field(4)], seconds)?;
                let zone = match (self.operation, arrays.len()) {
                    (O::MakeTimestamp, _) => Zone::Utc,
                    (_, 7) => written_zone(text(6, row))?,
                    _ => session,
                };
                Ok(local - i64::from(zone.offset_at_local(local)) * SECOND_US)
            })?,
            O::ToTimestamp if arrays.len() == 1 => {
                let seconds = arrays[0].as_primitive::<Float64Type>();
                moments(&|row| match seconds.value(row) {
                    f64::INFINITY => Ok(i64::MAX),
                    f64::NEG_INFINITY => Ok(i64::MIN),
                    // From 4714 BC to 294276.
                    seconds if (-210_866_803_200.0..9_224_318_016_000.0).contains(&seconds) => {
                        Ok((seconds * 1e6).round_ties_even() as i64)
                    }
                    seconds => Err(external(Error::new("22008", format!("timestamp out of range: \"{seconds}\"")))),
                })?
            }
            O::ToTimestamp => moments(&|row| {
                let (local, offset) = read_time(text(0, row), text(1, row))?;
                let offset = offset.unwrap_or_else(|| session.offset_at_local(local));
                local.checked_sub(i64::from(offset) * SECOND_US).ok_or_else(out_of_range)
            })?,
            O::ToDate => {
                let days = (0..rows).map(|row| match valid(row) {
                    true => Ok(Some(read_time(text(0, row), text(1, row))?.0.div_euclid(DAY_US) as i32)),
                    false => Ok(None),
                });
                Arc::new(days.collect::<Result<Date32Array>>()?)
            }
        };
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

/// Years, months, days and a time from one moment back to another, each borrowed from the next larger.
fn age(later: i64, earlier: i64) -> IntervalMonthDayNano {
    if later < earlier {
        let back = age(earlier, later);
        return IntervalMonthDayNano::new(-back.months, -back.days, -back.nanoseconds);
    }
    let parts = |us: i64| (civil_from_days(us.div_euclid(DAY_US)), us.rem_euclid(DAY_US));
    let ((to, to_time), (from, from_time)) = (parts(later), parts(earlier));
    let mut months = (to.year - from.year) * 12 + i64::from(to.month) - i64::from(from.month);
    let (mut days, mut time) = (i64::from(to.day) - i64::from(from.day), to_time - from_time);
    if time < 0 {
        time += DAY_US;
        days -= 1;
    }
    if days < 0 {
        // The month of the earlier moment lends its days.
        days += i64::from(days_in_month(from.year, from.month));
        months -= 1;
    }
    IntervalMonthDayNano::new(months as i32, days as i32, time * 1000)
}

const DAY_NS: i64 = DAY_US * 1000;

fn justify_hours(v: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let (mut days, mut ns) = (i64::from(v.days) + v.nanoseconds / DAY_NS, v.nanoseconds % DAY_NS);
    if days > 0 && ns < 0 {
        (days, ns) = (days - 1, ns + DAY_NS);
    } else if days < 0 && ns > 0 {
        (days, ns) = (days + 1, ns - DAY_NS);
    }
    IntervalMonthDayNano::new(v.months, days as i32, ns)
}

fn justify_days(v: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let (mut months, mut days) = (v.months + v.days / 30, v.days % 30);
    if months > 0 && days < 0 {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && days > 0 {
        (months, days) = (months + 1, days - 30);
    }
    IntervalMonthDayNano::new(months, days, v.nanoseconds)
}

/// All of one sign: a month lends 30 days, a day 24 hours.
fn one_sign(v: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let (mut months, mut days, mut ns) = (v.months, v.days, v.nanoseconds);
    if months > 0 && (days < 0 || (days == 0 && ns < 0)) {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && (days > 0 || (days == 0 && ns > 0)) {
        (months, days) = (months + 1, days - 30);
    }
    if days > 0 && ns < 0 {
        (days, ns) = (days - 1, ns + DAY_NS);
    } else if days < 0 && ns > 0 {
        (days, ns) = (days + 1, ns - DAY_NS);
    }
    IntervalMonthDayNano::new(months, days, ns)
}

fn made([year, month, day, hour, minute]: [i64; 5], seconds: f64) -> Result<i64> {
    let wrong = || external(Error::new("22008", "date field value out of range"));
    // There is no year 0: −1 is 1 BC.
    let civil_year = if year < 0 { year + 1 } else { year };
    let valid = year != 0 && (1..=12).contains(&month) && (-4713..=294_276).contains(&civil_year);
    if !valid || !(1..=i64::from(days_in_month(civil_year, month as u32))).contains(&day) {
        return Err(wrong());
    }
    if !(0..=24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..=60.0).contains(&seconds) {
        return Err(external(Error::new("22008", "time field value out of range")));
    }
    let days = days_from_civil(Civil { year: civil_year, month: month as u32, day: day as u32 });
    Ok(days * DAY_US + (hour * 60 + minute) * 60 * SECOND_US + (seconds * 1e6).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let at = |year, month, day| days_from_civil(Civil { year, month, day }) * DAY_US;
        for (later, earlier, months, days) in [
            (at(2024, 3, 1), at(2023, 1, 15), 13, 17),
            (at(2024, 3, 31), at(2024, 2, 29), 1, 2),
            (at(2023, 1, 15), at(2024, 3, 1), -13, -17),
        ] {
            assert_eq!(age(later, earlier), IntervalMonthDayNano::new(months, days, 0));
        }
    }
}
