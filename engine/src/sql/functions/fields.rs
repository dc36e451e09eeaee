//! The fields of dates and times: `extract`, a numeric, `date_part`, a double, and `date_trunc`, as in Postgres.
//!
//! ```text
//!   extract(second FROM timestamp '2024-01-02 03:04:05.5')   5.500000
//!   date_part('second', timestamp '2024-01-02 03:04:05.5')   5.5
//!   date_trunc('week', date '2024-01-03')                    2024-01-01 00:00:00+00
//! ```
//!
//! A timestamptz is taken apart in the session's zone. Of infinity, fields that only grow are infinite, which a numeric
//! cannot be (0A000), and the others NULL; it is its own truncation.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Date32Type, Field as ArrowField, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::casts::style;
use crate::error::Error;
use crate::sql::text::Zone;
use crate::sql::text::calendar::{Civil, DAY_US, civil_from_days, days_from_civil};
use crate::sql::types::{NUMERIC_PRECISION_MAX, UTC, sql_type_of_arrow};

const SECOND_US: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Dow,
    IsoDow,
    Doy,
    IsoYear,
    Epoch,
    Julian,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

impl Unit {
    /// With the abbreviations that Postgres has.
    fn parse(word: &str) -> Option<Unit> {
        use Unit::*;
        Some(match word.trim().to_ascii_lowercase().as_str() {
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecon" => {
                Microseconds
            }
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecon" => {
                Milliseconds
            }
            "second" | "seconds" | "s" | "sec" | "secs" => Second,
            "minute" | "minutes" | "m" | "min" | "mins" => Minute,
            "hour" | "hours" | "h" | "hr" | "hrs" => Hour,
            "day" | "days" | "d" => Day,
            "week" | "weeks" | "w" => Week,
            "month" | "months" | "mon" | "mons" => Month,
            "quarter" | "qtr" => Quarter,
            "year" | "years" | "y" | "yr" | "yrs" => Year,
            "decade" | "decades" | "dec" | "decs" => Decade,
            "century" | "centuries" | "c" | "cent" => Century,
            "millennium" | "millennia" | "mil" | "mils" => Millennium,
            "dow" => Dow,
            "isodow" => IsoDow,
            "doy" => Doy,
            "isoyear" => IsoYear,
            "epoch" => Epoch,
            "julian" | "jd" | "j" => Julian,
            "timezone" => Timezone,
            "timezone_hour" => TimezoneHour,
            "timezone_minute" => TimezoneMinute,
            _ => return None,
        })
    }

    /// Whether a later moment never has a lesser one.
    fn only_grows(self) -> bool {
        use Unit::*;
        matches!(self, Year | Decade | Century | Millennium | IsoYear | Epoch | Julian)
    }

    /// Digits after the point that extract() has.
    fn scale(self, of: &DataType) -> i8 {
        match (self, of) {
            (Unit::Second, _) => 6,
            (Unit::Milliseconds, _) => 3,
            (Unit::Epoch | Unit::Julian, DataType::Date32) => 0,
            (Unit::Epoch, _) => 6,
            (Unit::Julian, _) => 20,
            _ => 0,
        }
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn unknown(word: &str, of: &DataType) -> DataFusionError {
    let sql_type = sql_type_of_arrow(of);
    external(Error::invalid_value(format!("unit \"{}\" not recognized for type {sql_type}", word.to_lowercase())))
}

fn unsupported(word: &str, of: &DataType) -> DataFusionError {
    let sql_type = sql_type_of_arrow(of);
    external(Error::new("0A000", format!("unit \"{}\" not supported for type {sql_type}", word.to_lowercase())))
}

/// The literal in a unit's place.
fn literal(value: Option<&ScalarValue>) -> Option<&str> {
    match value {
        Some(ScalarValue::Utf8(Some(word)) | ScalarValue::Utf8View(Some(word))) => Some(word),
        _ => None,
    }
}

/// A field's value.
#[derive(Clone, Copy)]
enum Value {
    /// At 10^ the second.
    Number(i128, i8),
    Infinity,
    MinusInfinity,
}

/// Infinity as it stands in a column of dates or timestamps.
fn infinite(times: &ArrayRef, row: usize) -> Option<Value> {
    let (value, least, greatest) = match times.data_type() {
        DataType::Date32 => {
            (times.as_primitive::<Date32Type>().value(row).into(), i64::from(i32::MIN), i64::from(i32::MAX))
        }
        DataType::Timestamp(..) => (times.as_primitive::<TimestampMicrosecondType>().value(row), i64::MIN, i64::MAX),
        _ => return None,
    };
    match value {
        value if value == greatest => Some(Value::Infinity),
        value if value == least => Some(Value::MinusInfinity),
        _ => None,
    }
}

/// Century or millennium of a year; there is none of the number 0.
fn group_of_years(year: i64, years: i64) -> i64 {
    if year > 0 { (year + years - 1) / years } else { -((years - 1 - (year - 1)) / years) }
}

/// Monday of the ISO week.
fn monday(days: i64) -> i64 {
    days - (days + 3).rem_euclid(7)
}

/// ISO year, and its week.
pub fn iso_week(days: i64) -> (i64, i64) {
    let thursday = monday(days) + 3;
    let year = civil_from_days(thursday).year;
    (year, (thursday - days_from_civil(Civil { year, month: 1, day: 1 })) / 7 + 1)
}

/// A field of a moment on the clock of some place, at 10^`scale`; `offset` is that place's, east of UTC in seconds.
fn of_moment(unit: Unit, local: i64, offset: Option<i32>) -> Option<i128> {
    let (days, time) = (local.div_euclid(DAY_US), local.rem_euclid(DAY_US));
    let civil = civil_from_days(days);
    let year = civil.year;
    // Years as people count them: 1 BC is −1.
    let counted = if year > 0 { year } else { year - 1 };
    Some(match unit {
        Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour => of_time(unit, time)?,
        Unit::Day => civil.day.into(),
        Unit::Week => iso_week(days).1.into(),
        Unit::Month => civil.month.into(),
        Unit::Quarter => ((civil.month - 1) / 3 + 1).into(),
        Unit::Year => counted.into(),
        Unit::Decade => year.div_euclid(10).into(),
        Unit::Century => group_of_years(year, 100).into(),
        Unit::Millennium => group_of_years(year, 1000).into(),
        Unit::Dow => (days + 4).rem_euclid(7).into(),
        Unit::IsoDow => ((days + 3).rem_euclid(7) + 1).into(),
        Unit::Doy => (days - days_from_civil(Civil { year, month: 1, day: 1 }) + 1).into(),
        Unit::IsoYear => {
            let year = iso_week(days).0;
            if year > 0 { year } else { year - 1 }.into()
        }
        Unit::Epoch => i128::from(local) - i128::from(offset.unwrap_or(0)) * i128::from(SECOND_US),
        Unit::Julian => {
            let digits = 10i128.pow(20);
            let fraction = (i128::from(time) * digits + i128::from(DAY_US) / 2) / i128::from(DAY_US);
            i128::from(days + 2_440_588) * digits + fraction
        }
        Unit::Timezone => offset?.into(),
        Unit::TimezoneHour => (offset? / 3600).into(),
        Unit::TimezoneMinute => (offset? / 60 % 60).into(),
    })
}

/// A field of a time of so many microseconds.
fn of_time(unit: Unit, us: i64) -> Option<i128> {
    Some(match unit {
        // Seconds in all three, at their own scales.
        Unit::Microseconds | Unit::Milliseconds | Unit::Second => (us % (60 * SECOND_US)).into(),
        Unit::Minute => (us / (60 * SECOND_US) % 60).into(),
        Unit::Hour => (us / (3600 * SECOND_US)).into(),
        Unit::Epoch => us.into(),
        _ => return None,
    })
}

fn of_interval(unit: Unit, interval: IntervalMonthDayNano) -> Option<i128> {
    let (months, days, us) = (i64::from(interval.months), i64::from(interval.days), interval.nanoseconds / 1000);
    Some(match unit {
        Unit::Day => days.into(),
        Unit::Month => (months % 12).into(),
        Unit::Quarter => (months % 12 / 3 + 1).into(),
        Unit::Year => (months / 12).into(),
        Unit::Decade => (months / 120).into(),
        Unit::Century => (months / 1200).into(),
        Unit::Millennium => (months / 12_000).into(),
        Unit::Epoch => {
            // A year has 365.25 days, a month 30.
            let quarter_days = months / 12 * 1461 + (months % 12 * 30 + days) * 4;
            i128::from(quarter_days) * i128::from(DAY_US / 4) + i128::from(us)
        }
        _ => return of_time(unit, us),
    })
}

/// Whether a type has a field at all.
fn has(unit: Unit, of: &DataType, extract: bool) -> bool {
    let clock = matches!(unit, Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour);
    let zone = matches!(unit, Unit::Timezone | Unit::TimezoneHour | Unit::TimezoneMinute);
    match of {
        DataType::Time64(_) => clock || unit == Unit::Epoch,
        DataType::Interval(_) => {
            use Unit::*;
            clock || matches!(unit, Day | Month | Quarter | Year | Decade | Century | Millennium | Epoch)
        }
        // date_part() takes a date for a timestamp.
        DataType::Date32 => !zone && !(extract && clock),
        DataType::Timestamp(_, None) => !zone,
        _ => true,
    }
}

/// `extract` or `date_part`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Part {
    extract: bool,
    signature: Signature,
}

impl Part {
    pub fn extract() -> Self {
        Part { extract: true, signature: Signature::user_defined(Volatility::Stable) }
    }
    pub fn date_part() -> Self {
        Part { extract: false, signature: Signature::user_defined(Volatility::Stable) }
    }

    fn output(&self, word: Option<&str>, of: &DataType) -> Result<DataType> {
        if !self.extract {
            return Ok(DataType::Float64);
        }
        let Some(word) = word else { return plan_err!("Function 'extract' expects a field") };
        let unit = Unit::parse(word).ok_or_else(|| unknown(word, of))?;
        if !has(unit, of, true) {
            return Err(unsupported(word, of));
        }
        Ok(DataType::Decimal128(NUMERIC_PRECISION_MAX, unit.scale(of)))
    }
}

/// The type that a moment is taken for.
fn coerced(name: &str, time: &DataType) -> Result<DataType> {
    Ok(match time {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| UTC.into())),
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => {
            let sql_type = sql_type_of_arrow(other);
            return Err(external(Error::new("42883", format!("function {name}(text, {sql_type}) does not exist"))));
        }
    })
}

impl ScalarUDFImpl for Part {
    fn name(&self) -> &str {
        if self.extract { "extract" } else { "date_part" }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [_, time] = types else {
            return plan_err!("Function '{}' expects 2 arguments but received {}", self.name(), types.len());
        };
        Ok(vec![DataType::Utf8, coerced(self.name(), time)?])
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.output(None, &types[1])
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let word = literal(args.scalar_arguments[0]);
        let output = self.output(word, args.arg_fields[1].data_type())?;
        Ok(Arc::new(ArrowField::new(self.name(), output, true)))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let times = args.args[1].to_array(rows)?;
        let words = args.args[0].to_array(rows)?;
        let zone = style(&args.config_options)?.zone;
        let values = self.values(words.as_string(), &times, &zone, args.return_type())?;
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
            false => Ok(ColumnarValue::Array(values)),
        }
    }
}

impl Part {
    fn values(&self, words: &StringArray, times: &ArrayRef, zone: &Zone, output: &DataType) -> Result<ArrayRef> {
        let of = times.data_type();
        let mut last: Option<(&str, Unit)> = None;
        let mut parts: Vec<Option<Value>> = Vec::with_capacity(times.len());
        for row in 0..times.len() {
            if words.is_null(row) || times.is_null(row) {
                parts.push(None);
                continue;
            }
            let word = words.value(row);
            let unit = match last {
                Some((same, unit)) if same == word => unit,
                _ => {
                    let unit = Unit::parse(word).ok_or_else(|| unknown(word, of))?;
                    if !has(unit, of, self.extract) {
                        return Err(unsupported(word, of));
                    }
                    unit
                }
            };
            last = Some((word, unit));
            if let Some(infinite) = infinite(times, row) {
                parts.push(match unit.only_grows() {
                    true if self.extract => return Err(external(Error::unsupported("infinity as a numeric"))),
                    grows => grows.then_some(infinite),
                });
                continue;
            }
            let value = match of {
                DataType::Date32 => {
                    of_moment(unit, i64::from(times.as_primitive::<Date32Type>().value(row)) * DAY_US, None)
                }
                DataType::Timestamp(_, zoned) => {
                    let us = times.as_primitive::<TimestampMicrosecondType>().value(row);
                    let offset = zoned.as_ref().map(|_| zone.offset_at(us));
                    of_moment(unit, us + i64::from(offset.unwrap_or(0)) * SECOND_US, offset)
                }
                DataType::Time64(_) => of_time(unit, times.as_primitive::<Time64MicrosecondType>().value(row)),
                _ => of_interval(unit, times.as_primitive::<IntervalMonthDayNanoType>().value(row)),
            };
            // A date's whole seconds and days are counted finer than extract() shows them.
            let scale = match unit {
                Unit::Second | Unit::Epoch => 6,
                Unit::Milliseconds => 3,
                Unit::Julian => 20,
                _ => 0,
            };
            parts.push(value.map(|value| Value::Number(value, scale)));
        }
        match output {
            DataType::Decimal128(precision, scale) => {
                let at_scale = |part: Value| match part {
                    Value::Number(value, own) => Some(value / 10i128.pow((own - *scale).max(0) as u32)),
                    Value::Infinity | Value::MinusInfinity => None,
                };
                let values: Decimal128Array = parts.into_iter().map(|part| part.and_then(at_scale)).collect();
                Ok(Arc::new(values.with_precision_and_scale(*precision, *scale)?))
            }
            _ => {
                let float = |part: Value| match part {
                    Value::Number(value, scale) => value as f64 / 10f64.powi(scale.into()),
                    Value::Infinity => f64::INFINITY,
                    Value::MinusInfinity => f64::NEG_INFINITY,
                };
                Ok(Arc::new(parts.into_iter().map(|part| part.map(float)).collect::<Float64Array>()))
            }
        }
    }
}

/// `date_trunc(unit, time [, zone])`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Trunc {
    signature: Signature,
    aliases: Vec<String>,
}

impl Default for Trunc {
    fn default() -> Self {
        Trunc { signature: Signature::user_defined(Volatility::Stable), aliases: vec!["datetrunc".into()] }
    }
}

/// The start of the unit in which a local time lies.
fn truncated(unit: Unit, local: i64) -> Option<i64> {
    let multiple = |us: i64| local - local.rem_euclid(us);
    let days = local.div_euclid(DAY_US);
    let civil = civil_from_days(days);
    let first_of = |year: i64, month: u32| days_from_civil(Civil { year, month, day: 1 }).checked_mul(DAY_US);
    let of_years = |years: i64| (group_of_years(civil.year, years) - 1) * years + 1;
    match unit {
        Unit::Microseconds => Some(local),
        Unit::Milliseconds => Some(multiple(1000)),
        Unit::Second => Some(multiple(SECOND_US)),
        Unit::Minute => Some(multiple(60 * SECOND_US)),
        Unit::Hour => Some(multiple(3600 * SECOND_US)),
        Unit::Day => Some(multiple(DAY_US)),
        Unit::Week => monday(days).checked_mul(DAY_US),
        Unit::Month => first_of(civil.year, civil.month),
        Unit::Quarter => first_of(civil.year, (civil.month - 1) / 3 * 3 + 1),
        Unit::Year => first_of(civil.year, 1),
        Unit::Decade => first_of(civil.year.div_euclid(10) * 10, 1),
        // Before the year 1, the group's number counts down.
        Unit::Century if civil.year <= 0 => first_of(civil.year.div_euclid(100) * 100 + 1, 1),
        Unit::Millennium if civil.year <= 0 => first_of(civil.year.div_euclid(1000) * 1000 + 1, 1),
        Unit::Century => first_of(of_years(100), 1),
        Unit::Millennium => first_of(of_years(1000), 1),
        _ => None,
    }
}

fn truncated_interval(unit: Unit, interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let months = |by: i32| Some(IntervalMonthDayNano::new(interval.months - interval.months % by, 0, 0));
    let time = |ns: i64| {
        Some(IntervalMonthDayNano::new(
            interval.months,
            interval.days,
            interval.nanoseconds - interval.nanoseconds % ns,
        ))
    };
    match unit {
        Unit::Microseconds => Some(interval),
        Unit::Milliseconds => time(1_000_000),
        Unit::Second => time(1_000_000_000),
        Unit::Minute => time(60_000_000_000),
        Unit::Hour => time(3_600_000_000_000),
        Unit::Day => Some(IntervalMonthDayNano::new(interval.months, interval.days, 0)),
        Unit::Month => months(1),
        Unit::Quarter => months(3),
        Unit::Year => months(12),
        Unit::Decade => months(120),
        Unit::Century => months(1200),
        Unit::Millennium => months(12_000),
        _ => None,
    }
}

impl ScalarUDFImpl for Trunc {
    fn name(&self) -> &str {
        "date_trunc"
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let zoned = || DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
        match types {
            [_, time] => Ok(vec![
                DataType::Utf8,
                match coerced(self.name(), time)? {
                    // A date is a moment in the session's zone.
                    DataType::Date32 => zoned(),
                    other => other,
                },
            ]),
            [_, _, _] => Ok(vec![DataType::Utf8, zoned(), DataType::Utf8]),
            _ => plan_err!("Function 'date_trunc' expects 2 arguments but received {}", types.len()),
        }
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match &types[1] {
            // It is taken for an interval.
            DataType::Time64(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            time => time.clone(),
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let mut arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<_>>>()?;
        if let DataType::Time64(_) = arrays[1].data_type() {
            let times = arrays[1].as_primitive::<Time64MicrosecondType>();
            let interval = |us: i64| IntervalMonthDayNano::new(0, 0, us * 1000);
            arrays[1] = Arc::new(times.unary::<_, IntervalMonthDayNanoType>(interval));
        }
        let (words, times) = (arrays[0].as_string::<i32>(), &arrays[1]);
        let session = style(&args.config_options)?.zone;
        let of = times.data_type();
        let out_of_range = || external(Error::new("22008", "timestamp out of range"));
        let unit = |row: usize| {
            let word = words.value(row);
            let unit = Unit::parse(word).filter(|u| truncated(*u, 0).is_some()).ok_or_else(|| unknown(word, of))?;
            match of {
                DataType::Interval(_) if unit == Unit::Week => Err(unsupported(word, of)),
                _ => Ok(unit),
            }
        };
        let valid = |row: usize| arrays.iter().all(|array| array.is_valid(row));
        let values: ArrayRef = match of {
            DataType::Interval(_) => {
                let intervals = times.as_primitive::<IntervalMonthDayNanoType>();
                let values = (0..rows).map(|row| match valid(row) {
                    true => Ok(truncated_interval(unit(row)?, intervals.value(row))),
                    false => Ok(None),
                });
                Arc::new(values.collect::<Result<arrow::array::IntervalMonthDayNanoArray>>()?)
            }
            _ => {
                let zoned = matches!(of, DataType::Timestamp(_, Some(_)));
                let moments = times.as_primitive::<TimestampMicrosecondType>();
                let values = (0..rows).map(|row| {
                    if !valid(row) {
                        return Ok(None);
                    }
                    let (unit, us) = (unit(row)?, moments.value(row));
                    if us == i64::MAX || us == i64::MIN {
                        return Ok(Some(us));
                    }
                    let named = match arrays.get(2) {
                        Some(names) => Some(super::timezone::zone(names.as_string::<i32>().value(row))?),
                        None => None,
                    };
                    let zone = if zoned { named.unwrap_or(session) } else { Zone::Utc };
                    let local = us + i64::from(zone.offset_at(us)) * SECOND_US;
                    let start = truncated(unit, local).ok_or_else(out_of_range)?;
                    // What is shorter than a day begins at the same offset; a day at its own.
                    let offset = match unit {
                        _ if !zoned => 0,
                        Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour => {
                            zone.offset_at(us)
                        }
                        _ => zone.offset_at_local(start),
                    };
                    Ok(Some(start - i64::from(offset) * SECOND_US))
                });
                Arc::new(values.collect::<Result<TimestampMicrosecondArray>>()?.with_data_type(of.clone()))
            }
        };
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
            false => Ok(ColumnarValue::Array(values)),
        }
    }
}
