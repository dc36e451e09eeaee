//! Casts as in Postgres, where Arrow's differ: text is read and written in Postgres' forms, fractions are rounded and
//! not cut off, times change zone by the session's, and uuid, json, varchar(n) and char(n) are checked or cut.
//!
//! ```text
//!   ' 42 '::int            42                       Arrow: an error
//!   2.5::float8::int       2 (half to even)         Arrow: 2
//!   2.5::numeric::int      3 (half away from zero)  Arrow: 2
//!   ts::text               2024-01-02 03:04:05+00   Arrow: 2024-01-02T03:04:05Z
//!   'abcd'::varchar(2)     ab
//! ```

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::*;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::*;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;
use crate::sql::datetime;
use crate::sql::display::{format_float, format_interval, format_list};
use crate::sql::interval::Interval;
use crate::sql::types::{character_length_of, sql_type_of, sql_type_of_arrow};

/// The function that casts `from` as Postgres does to a field's type; `None` where Arrow's cast is right.
pub fn function(from: &DataType, to: &FieldRef) -> Option<ScalarUDF> {
    use DataType as D;
    let text = |t: &D| matches!(t, D::Utf8 | D::LargeUtf8 | D::Utf8View);
    let sql_type = sql_type_of(to);
    let plain_text = matches!(sql_type.as_str(), "text" | "name" | "character varying" | "unknown");
    let needed = match (from, to.data_type()) {
        (from, D::Utf8) if text(from) => !plain_text || to.metadata().contains_key(crate::sql::types::TYPE_KEY),
        (
            D::Float32
            | D::Float64
            | D::Timestamp(..)
            | D::Interval(_)
            | D::List(_)
            | D::Binary
            | D::Time64(_)
            | D::Boolean,
            D::Utf8,
        ) => true,
        (_, D::Utf8) => !plain_text,
        (
            from,
            D::Boolean
            | D::Int16
            | D::Int32
            | D::Int64
            | D::Float32
            | D::Float64
            | D::Decimal128(..)
            | D::Date32
            | D::Time64(_)
            | D::Timestamp(..)
            | D::Interval(IntervalUnit::MonthDayNano)
            | D::Binary,
        ) if text(from) => true,
        (D::Float32 | D::Float64 | D::Decimal128(..), D::Int16 | D::Int32 | D::Int64) => true,
        (D::Timestamp(_, Some(_)), D::Timestamp(_, None) | D::Date32 | D::Time64(_)) => true,
        (D::Timestamp(_, None) | D::Date32, D::Timestamp(_, Some(_))) => true,
        _ => false,
    };
    needed.then(|| ScalarUDF::from(CastFunction { to: to.clone(), signature: Signature::any(1, Volatility::Stable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CastFunction {
    to: FieldRef,
    signature: Signature,
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl ScalarUDFImpl for CastFunction {
    fn name(&self) -> &str {
        "mr_cast"
    }
    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(format!("CAST({} AS {})", args[0], sql_type_of(&self.to)))
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.data_type().clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = Field::new(self.name(), self.to.data_type().clone(), args.arg_fields[0].is_nullable());
        Ok(Arc::new(field.with_metadata(self.to.metadata().clone())))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        let zone = datetime::zone(zone).map_err(external)?;
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(self.cast(array, &zone)?)),
            ColumnarValue::Scalar(value) => {
                let cast = self.cast(&value.to_array()?, &zone)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&cast, 0)?))
            }
        }
    }
}

/// As Arrow casts, with an error where a value does not fit.
fn by_arrow(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, to, &options)?)
}

/// Each text read by a function.
fn read<T: ArrowPrimitiveType>(
    texts: &StringArray,
    to: &DataType,
    read: impl Fn(&str) -> crate::error::Result<T::Native>,
) -> Result<ArrayRef> {
    let values: crate::error::Result<PrimitiveArray<T>> =
        texts.iter().map(|text| text.map(&read).transpose()).collect();
    Ok(Arc::new(values.map_err(external)?.with_data_type(to.clone())))
}

/// Each value written by a function.
fn write<T>(values: impl Iterator<Item = Option<T>>, write: impl Fn(T) -> Option<String>) -> Result<ArrayRef> {
    let texts: Result<StringArray> = values
        .map(|value| match value {
            None => Ok(None),
            Some(value) => {
                write(value).map(Some).ok_or_else(|| external(Error::new("22008", "timestamp out of range")))
            }
        })
        .collect();
    Ok(Arc::new(texts?))
}

fn invalid(sql_type: &str, text: &str) -> Error {
    Error::new("22P02", format!("invalid input syntax for type {sql_type}: \"{text}\""))
}

fn out_of_range(sql_type: &str) -> Error {
    Error::new("22003", format!("{sql_type} out of range"))
}

impl CastFunction {
    fn cast(&self, array: &ArrayRef, zone: &Tz) -> Result<ArrayRef> {
        use DataType as D;
        let to = self.to.data_type();
        let array = match array.data_type() {
            D::LargeUtf8 | D::Utf8View => by_arrow(array, &D::Utf8)?,
            D::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
                by_arrow(array, &D::Timestamp(TimeUnit::Microsecond, zone.clone()))?
            }
            _ => array.clone(),
        };
        if let D::Timestamp(unit, to_zone) = to
            && *unit != TimeUnit::Microsecond
        {
            let field = Field::new("cast", D::Timestamp(TimeUnit::Microsecond, to_zone.clone()), true);
            let cast = CastFunction { to: Arc::new(field), signature: self.signature.clone() };
            return by_arrow(&cast.cast(&array, zone)?, to);
        }
        match (array.data_type(), to) {
            (D::Utf8, D::Utf8) => self.check_text(array.as_string::<i32>()),
            (D::Utf8, _) => self.from_text(array.as_string::<i32>(), zone),
            (_, D::Utf8) => {
                let text = to_text(&array, zone)?;
                self.check_text(text.as_string::<i32>())
            }
            (D::Float32 | D::Float64, _) => {
                let floats = by_arrow(&array, &D::Float64)?;
                // Half to even; beyond the range of the type, and NaN, is an error.
                let values = floats.as_primitive::<Float64Type>();
                let rounded: Float64Array = values.unary(f64::round_ties_even);
                let (low, high) = match to {
                    D::Int16 => (f64::from(i16::MIN), f64::from(i16::MAX) + 1.0),
                    D::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX) + 1.0),
                    _ => (i64::MIN as f64, i64::MAX as f64),
                };
                if rounded.iter().flatten().any(|v| !(v >= low && v < high)) {
                    return Err(external(out_of_range(&sql_type_of_arrow(to))));
                }
                by_arrow(&(Arc::new(rounded) as ArrayRef), to)
            }
            (D::Decimal128(_, scale), _) => {
                let unit = 10i128.pow((*scale).max(0) as u32);
                let integers: crate::error::Result<Int64Array> = array
                    .as_primitive::<Decimal128Type>()
                    .iter()
                    .map(|value| {
                        let rounded = value.map(|v| (v + v.signum() * (unit / 2)) / unit);
                        rounded.map(|v| i64::try_from(v).map_err(|_| out_of_range(&sql_type_of_arrow(to)))).transpose()
                    })
                    .collect();
                let integers: ArrayRef = Arc::new(integers.map_err(external)?);
                by_arrow(&integers, to).map_err(|_| external(out_of_range(&sql_type_of_arrow(to))))
            }
            (D::Timestamp(_, Some(_)), D::Timestamp(_, None) | D::Date32 | D::Time64(_)) => {
                let local: TimestampMicrosecondArray =
                    array.as_primitive::<TimestampMicrosecondType>().try_unary(|us| {
                        let local = datetime::utc_to_local(us, zone).map(|local| local.and_utc().timestamp_micros());
                        local.ok_or_else(|| external(Error::new("22008", "timestamp out of range")))
                    })?;
                let local: ArrayRef = Arc::new(local);
                if matches!(to, D::Timestamp(..)) { Ok(local) } else { by_arrow(&local, to) }
            }
            (D::Timestamp(_, None) | D::Date32, D::Timestamp(_, Some(_))) => {
                let local = by_arrow(&array, &D::Timestamp(TimeUnit::Microsecond, None))?;
                let utc: TimestampMicrosecondArray =
                    local.as_primitive::<TimestampMicrosecondType>().try_unary(|us| {
                        let local = chrono::DateTime::from_timestamp_micros(us).map(|local| local.naive_utc());
                        let local = local.ok_or_else(|| external(Error::new("22008", "timestamp out of range")))?;
                        Ok::<i64, DataFusionError>(datetime::local_to_utc(local, zone))
                    })?;
                Ok(Arc::new(utc.with_data_type(to.clone())))
            }
            _ => by_arrow(&array, to),
        }
    }

    /// Text as text of a narrower kind.
    fn check_text(&self, texts: &StringArray) -> Result<ArrayRef> {
        let sql_type = sql_type_of(&self.to);
        let length = character_length_of(&sql_type);
        let convert = |text: &str| -> crate::error::Result<String> {
            match (sql_type.as_str(), length) {
                ("uuid", _) => uuid::Uuid::try_parse(text.trim().trim_start_matches('{').trim_end_matches('}'))
                    .map(|uuid| uuid.to_string())
                    .map_err(|_| invalid("uuid", text)),
                ("json", _) => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                    Ok(_) => Ok(text.to_string()),
                    Err(_) => Err(Error::new("22P02", "invalid input syntax for type json").detail(text.to_string())),
                },
                ("jsonb", _) => match serde_json::from_str::<serde_json::Value>(text) {
                    Ok(value) => Ok(jsonb_text(&value)),
                    Err(_) => Err(Error::new("22P02", "invalid input syntax for type json").detail(text.to_string())),
                },
                ("\"char\"", _) => Ok(text.chars().take(1).collect()),
                ("name", _) => Ok(text.chars().take(63).collect()),
                (kind, Some(length)) => {
                    let cut: String = text.chars().take(length).collect();
                    let missing = if kind.starts_with("character(") { length - cut.chars().count() } else { 0 };
                    Ok(cut + &" ".repeat(missing))
                }
                _ => Ok(text.to_string()),
            }
        };
        let texts: crate::error::Result<StringArray> = texts.iter().map(|text| text.map(convert).transpose()).collect();
        Ok(Arc::new(texts.map_err(external)?))
    }

    fn from_text(&self, texts: &StringArray, zone: &Tz) -> Result<ArrayRef> {
        use DataType as D;
        let to = self.to.data_type();
        let sql_type = sql_type_of_arrow(to);
        let name = sql_type.as_str();
        // A whole number, which Postgres allows white space around.
        let integer = |text: &str, low: i128, high: i128| match text.trim().parse::<i128>() {
            Ok(value) if value >= low && value <= high => Ok(value),
            Ok(_) => Err(Error::new("22003", format!("value \"{text}\" is out of range for type {name}"))),
            Err(_) => Err(invalid(name, text)),
        };
        let float = |text: &str| {
            let trimmed = text.trim();
            let known = trimmed.parse::<f64>().map_err(|_| invalid(name, text))?;
            let written_infinite = trimmed.to_ascii_lowercase().contains("inf");
            match known.is_infinite() && !written_infinite {
                true => Err(Error::new("22003", format!("\"{text}\" is out of range for type {name}"))),
                false => Ok(known),
            }
        };
        match to {
            D::Boolean => {
                let values: crate::error::Result<BooleanArray> = texts
                    .iter()
                    .map(|text| text.map(|text| boolean(text).ok_or_else(|| invalid("boolean", text))).transpose())
                    .collect();
                Ok(Arc::new(values.map_err(external)?))
            }
            D::Int16 => {
                read::<Int16Type>(texts, to, |t| integer(t, i16::MIN.into(), i16::MAX.into()).map(|v| v as i16))
            }
            D::Int32 => {
                read::<Int32Type>(texts, to, |t| integer(t, i32::MIN.into(), i32::MAX.into()).map(|v| v as i32))
            }
            D::Int64 => {
                read::<Int64Type>(texts, to, |t| integer(t, i64::MIN.into(), i64::MAX.into()).map(|v| v as i64))
            }
            D::Float64 => read::<Float64Type>(texts, to, float),
            D::Float32 => read::<Float32Type>(texts, to, |t| float(t).map(|v| v as f32)),
            D::Decimal128(precision, scale) => read::<Decimal128Type>(texts, to, |t| {
                decimal(t, *precision, *scale).map_err(|bad| match bad {
                    BadDecimal::Syntax => invalid("numeric", t),
                    BadDecimal::Overflow => Error::new("22003", "numeric field overflow"),
                })
            }),
            D::Date32 => read::<Date32Type>(texts, to, |t| {
                let epoch = chrono::NaiveDate::default();
                datetime::parse_date(t).map(|date| date.signed_duration_since(epoch).num_days() as i32)
            }),
            D::Time64(_) => read::<Time64MicrosecondType>(texts, to, datetime::parse_time),
            D::Timestamp(_, None) => read::<TimestampMicrosecondType>(texts, to, datetime::parse_timestamp),
            D::Timestamp(_, Some(_)) => {
                read::<TimestampMicrosecondType>(texts, to, |t| datetime::parse_timestamptz(t, zone))
            }
            D::Interval(_) => read::<IntervalMonthDayNanoType>(texts, to, |t| {
                let interval = Interval::parse(t, None)?;
                let nanoseconds = interval.microseconds.checked_mul(1000);
                let nanoseconds = nanoseconds
                    .ok_or_else(|| Error::new("22015", format!("interval field value out of range: \"{t}\"")))?;
                Ok(IntervalMonthDayNano::new(interval.months, interval.days, nanoseconds))
            }),
            D::Binary => {
                let values: crate::error::Result<Vec<Option<Vec<u8>>>> =
                    texts.iter().map(|text| text.map(bytea).transpose()).collect();
                Ok(Arc::new(BinaryArray::from_iter(values.map_err(external)?)))
            }
            _ => by_arrow(&(Arc::new(texts.clone()) as ArrayRef), to),
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

enum BadDecimal {
    Syntax,
    Overflow,
}

/// A decimal text at a scale, rounded half away from zero.
fn decimal(text: &str, precision: u8, scale: i8) -> std::result::Result<i128, BadDecimal> {
    let trimmed = text.trim();
    let (mantissa, exponent) = match trimmed.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| BadDecimal::Syntax)?),
        None => (trimmed, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadDecimal::Syntax);
    }
    // Digits that stand before the point once the value is multiplied by 10^scale.
    let kept = whole.len() as i64 + i64::from(exponent) + i64::from(scale);
    let significant = all.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    if kept - (all.len() - significant.len()) as i64 > 38 {
        return Err(BadDecimal::Overflow);
    }
    let digit =
        |i: i64| usize::try_from(i).ok().and_then(|i| all.as_bytes().get(i)).map_or(0, |b| i128::from(b - b'0'));
    let mut value = (0..kept.max(0)).fold(0i128, |value, i| value * 10 + digit(i));
    if kept >= 0 && digit(kept) >= 5 {
        value += 1;
    }
    if value >= 10i128.pow(precision.into()) {
        return Err(BadDecimal::Overflow);
    }
    Ok(if negative { -value } else { value })
}

/// `\x0aff`, or text with octal escapes.
fn bytea(text: &str) -> crate::error::Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let value = |b: u8| {
            (b as char)
                .to_digit(16)
                .ok_or_else(|| Error::new("22023", format!("invalid hexadecimal digit: \"{}\"", b as char)))
        };
        if digits.len() % 2 != 0 {
            return Err(Error::new("22023", "invalid hexadecimal data: odd number of digits"));
        }
        return digits.chunks_exact(2).map(|pair| Ok((value(pair[0])? * 16 + value(pair[1])?) as u8)).collect();
    }
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        match (bytes[i], bytes.get(i + 1), bytes.get(i + 1..i + 4)) {
            (b'\\', Some(b'\\'), _) => {
                out.push(b'\\');
                i += 2;
            }
            (b'\\', _, Some(octal)) if octal[0] <= b'3' && octal.iter().all(|b| (b'0'..=b'7').contains(b)) => {
                out.push(octal.iter().fold(0u8, |value, b| value.wrapping_mul(8).wrapping_add(b - b'0')));
                i += 4;
            }
            (b'\\', ..) => return Err(invalid("bytea", text)),
            (byte, ..) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    Ok(out)
}

/// As Postgres prints jsonb: a blank after each comma and colon.
fn jsonb_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(jsonb_text).collect::<Vec<_>>().join(", "))
        }
        serde_json::Value::Object(members) => {
            // Shorter keys first, as jsonb orders them.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
            let members = members
                .iter()
                .map(|(key, value)| format!("{}: {}", serde_json::Value::String(key.to_string()), jsonb_text(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn to_text(array: &ArrayRef, zone: &Tz) -> Result<ArrayRef> {
    use DataType as D;
    match array.data_type() {
        D::Float32 => {
            write(array.as_primitive::<Float32Type>().iter(), |v| Some(format_float(&format!("{v:e}"), v.into(), 6)))
        }
        D::Float64 => {
            write(array.as_primitive::<Float64Type>().iter(), |v| Some(format_float(&format!("{v:e}"), v, 15)))
        }
        D::Boolean => write(array.as_boolean().iter(), |v| Some(v.to_string())),
        D::Timestamp(_, None) => {
            write(array.as_primitive::<TimestampMicrosecondType>().iter(), datetime::format_timestamp)
        }
        D::Timestamp(_, Some(_)) => {
            write(array.as_primitive::<TimestampMicrosecondType>().iter(), |us| datetime::format_timestamptz(us, zone))
        }
        D::Time64(TimeUnit::Microsecond) => write(array.as_primitive::<Time64MicrosecondType>().iter(), |us| {
            let time = chrono::NaiveTime::from_num_seconds_from_midnight_opt(
                (us / 1_000_000) as u32,
                (us % 1_000_000) as u32 * 1000,
            );
            time.map(datetime::format_time)
        }),
        D::Interval(IntervalUnit::MonthDayNano) => {
            write(array.as_primitive::<IntervalMonthDayNanoType>().iter(), |v| Some(format_interval(v)))
        }
        D::Binary => write(array.as_binary::<i32>().iter(), |bytes| {
            Some(bytes.iter().fold("\\x".to_string(), |out, byte| out + &format!("{byte:02x}")))
        }),
        D::List(_) => {
            let lists = array.as_list::<i32>();
            let texts: Result<StringArray> = lists
                .iter()
                .map(|list| match list {
                    None => Ok(None),
                    Some(items) => {
                        let nested = matches!(items.data_type(), D::List(_));
                        let items = to_text(&items, zone)?;
                        Ok(Some(format_list(items.as_string::<i32>(), nested)))
                    }
                })
                .collect();
            Ok(Arc::new(texts?))
        }
        _ => by_arrow(array, &D::Utf8),
    }
}
