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

use arrow::array::*;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::*;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;
use crate::sql::interval::DAY_US;
use crate::sql::text::{self, Cells, PgType, Style, Zone};
use crate::sql::types::{
    TYPE_KEY, character_length_of, is_padded, is_read, moment_digits_of, plain_type, sql_type_of, sql_type_of_arrow,
    with_sql_type,
};

/// The function that casts `from` as Postgres does to a field's type; `None` where Arrow's cast is right.
pub fn function(from: &DataType, to: &FieldRef) -> Option<ScalarUDF> {
    use DataType as D;
    let text = |t: &D| matches!(t, D::Utf8 | D::LargeUtf8 | D::Utf8View);
    let sql_type = sql_type_of(to);
    let plain_text = matches!(sql_type.as_str(), "text" | "name" | "character varying" | "unknown");
    let needed = match (from, to.data_type()) {
        (from, D::Utf8) if text(from) => !plain_text || to.metadata().contains_key(TYPE_KEY),
        (from, D::Utf8) => !plain_text || !(from.is_integer() || *from == D::Null),
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
            | D::List(_)
            | D::Binary,
        ) if text(from) => true,
        (D::Float32 | D::Float64 | D::Decimal128(..), D::Int16 | D::Int32 | D::Int64) => true,
        (D::Decimal128(..), D::Float32 | D::Float64) | (D::Float32 | D::Float64, D::Decimal128(..)) => true,
        (D::Float64, D::Float32) => true,
        (D::Timestamp(_, Some(_)), D::Timestamp(_, None) | D::Date32 | D::Time64(_)) => true,
        (D::Timestamp(_, None), D::Date32 | D::Time64(_)) => true,
        (D::Time64(_), D::Interval(IntervalUnit::MonthDayNano)) => true,
        (D::Timestamp(_, None), D::Timestamp(_, Some(_))) | (D::Date32, D::Timestamp(..)) => true,
        (D::Time64(_), D::Interval(_)) | (D::Interval(_), D::Time64(_)) => true,
        (D::List(from), D::List(to)) => from != to && function(from.data_type(), to).is_some(),
        _ => false,
    };
    let needed = needed || moment_digits_of(&sql_type).is_some();
    needed.then(|| ScalarUDF::from(CastFunction::new(to.clone())))
}

/// The error of a literal that is none of a type: it comes up when the query is bound, whether there are rows or not.
pub fn check_literal(text: &str, to: &DataType) -> Result<()> {
    let style = Style { now_us: Some(0), ..Style::default() };
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    apply(&text, &Field::new("", DataType::Utf8, true), &Field::new("", to.clone(), true), &style).map(|_| ())
}

/// The cast of values that are at hand.
pub fn apply(values: &ArrayRef, from: &Field, to: &Field, style: &Style) -> Result<ArrayRef> {
    let to = Arc::new(to.clone());
    match function(from.data_type(), &to) {
        Some(_) => CastFunction::new(to).cast(values, from, style),
        None => by_arrow(values, to.data_type()),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CastFunction {
    to: FieldRef,
    signature: Signature,
}

/// The type of a cast that looks names up in the catalog, `'t'::regclass`: what it gives is known where the catalog is.
pub fn names_of_catalog(expr: &Expr) -> Option<String> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let cast = function.func.inner().downcast_ref::<CastFunction>()?;
    let sql_type = sql_type_of(&cast.to);
    sql_type.starts_with("reg").then_some(sql_type)
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
        // An infinite timestamp has no time.
        let none = matches!(self.to.data_type(), DataType::Time64(_));
        let field = Field::new(self.name(), self.to.data_type().clone(), none || args.arg_fields[0].is_nullable());
        Ok(Arc::new(field.with_metadata(self.to.metadata().clone())))
    }
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        // 'today' and 'now' have a meaning where the statement has a time.
        let (Some(now), [Expr::Literal(ScalarValue::Utf8(Some(text)), told)]) =
            (info.query_execution_start_time(), args.as_slice())
        else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let style = Style { now_us: Some(now.timestamp_micros()), ..style(info.config_options())? };
        let text: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
        // Of jsonb and the like not everything is read.
        let from = Field::new("", DataType::Utf8, true);
        let from = told.as_ref().map_or(from.clone(), |told| told.add_to_field(from));
        Ok(match self.cast(&text, &from, &style) {
            Ok(value) => {
                let metadata = (!self.to.metadata().is_empty()).then(|| self.to.metadata().into());
                ExprSimplifyResult::Simplified(Expr::Literal(ScalarValue::try_from_array(&value, 0)?, metadata))
            }
            // The error is the row's, when there is one.
            Err(_) => ExprSimplifyResult::Original(args),
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (style, from) = (style(&args.config_options)?, &args.arg_fields[0]);
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(self.cast(array, from, &style)?)),
            ColumnarValue::Scalar(value) => {
                let cast = self.cast(&value.to_array()?, from, &style)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&cast, 0)?))
            }
        }
    }
}

/// The session's zone, in which moments are read and written.
pub fn style(options: &ConfigOptions) -> Result<Style> {
    let zone = options.execution.time_zone.as_deref().unwrap_or("UTC");
    Ok(Style::in_zone(Zone::parse(zone).map_err(external)?))
}

/// The double precision that is nearest to a numeric.
fn nearest_double(value: i128, scale: i8) -> f64 {
    // Both exact, so that the quotient is rounded once.
    match (value.unsigned_abs() < 1 << 53, usize::try_from(scale)) {
        (true, Ok(scale)) if scale <= 22 => value as f64 / 10f64.powi(scale as i32),
        _ => format!("{value}e{}", -i32::from(scale)).parse().expect("a number"),
    }
}

fn nearest_real(value: i128, scale: i8) -> f32 {
    match (value.unsigned_abs() < 1 << 24, usize::try_from(scale)) {
        (true, Ok(scale)) if scale <= 10 => value as f32 / 10f32.powi(scale as i32),
        _ => format!("{value}e{}", -i32::from(scale)).parse().expect("a number"),
    }
}

/// A float as a numeric of a scale, by its first `digits` digits; `None`: it has no such.
fn nearest_numeric(float: f64, digits: usize, scale: i8) -> Option<i128> {
    if !float.is_finite() {
        return None;
    }
    let text = format!("{float:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e')?;
    let mantissa: i128 = mantissa.replace('.', "").parse().ok()?;
    match exponent.parse::<i32>().ok()? - (digits as i32 - 1) + i32::from(scale) {
        up @ 0.. => mantissa.checked_mul(10i128.checked_pow(up as u32)?),
        // Half away from zero.
        down => Some(match 10i128.checked_pow(down.unsigned_abs()) {
            Some(unit) => mantissa / unit + (mantissa % unit) / (unit - unit / 2).max(1),
            None => 0,
        }),
    }
}

/// As Arrow casts, with an error where a value does not fit.
fn by_arrow(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, to, &options)?)
}

fn out_of_range(sql_type: &str) -> Error {
    Error::new("22003", format!("{sql_type} out of range"))
}

/// Moves moments by an offset, but not infinity.
fn moved(times: &ArrayRef, offset: impl Fn(i64) -> i64) -> Result<TimestampMicrosecondArray> {
    times.as_primitive::<TimestampMicrosecondType>().try_unary(|us| match us {
        i64::MAX | i64::MIN => Ok(us),
        _ => us.checked_add(offset(us) * 1_000_000).ok_or_else(|| external(timestamp_out_of_range())),
    })
}

fn timestamp_out_of_range() -> Error {
    Error::new("22008", "timestamp out of range")
}

impl CastFunction {
    fn new(to: FieldRef) -> Self {
        CastFunction { to, signature: Signature::any(1, Volatility::Stable) }
    }

    fn cast(&self, array: &ArrayRef, from: &Field, style: &Style) -> Result<ArrayRef> {
        let cast = self.cast_all_digits(array, from, style)?;
        match moment_digits_of(&sql_type_of(&self.to)) {
            Some(digits) => text::precision::round(cast, digits).map_err(external),
            None => Ok(cast),
        }
    }

    fn cast_all_digits(&self, array: &ArrayRef, from: &Field, style: &Style) -> Result<ArrayRef> {
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
            return by_arrow(&CastFunction::new(Arc::new(field)).cast(&array, from, style)?, to);
        }
        match (array.data_type(), to) {
            (D::List(item), D::List(to)) => {
                let lists = array.as_list::<i32>();
                // What the items are, the list's type may tell alone.
                let item = match sql_type_of(from).strip_suffix("[]") {
                    Some(element) => with_sql_type(item.as_ref().clone(), element),
                    None => item.as_ref().clone(),
                };
                let items = apply(lists.values(), &item, to, style)?;
                let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
                Ok(Arc::new(ListArray::try_new(to.clone(), offsets, items, nulls)?))
            }
            (D::Utf8, D::Utf8) => self.narrow(array.as_string::<i32>(), from, style),
            (D::Utf8, D::Boolean) if sql_type_of(from) == "jsonb" => {
                check_scalars(array.as_string::<i32>(), "boolean", &self.to)?;
                read(&self.to, array.as_string::<i32>(), style)
            }
            (D::Utf8, D::Float32 | D::Float64 | D::Decimal128(..)) if sql_type_of(from) == "jsonb" => {
                check_scalars(array.as_string::<i32>(), "numeric", &self.to)?;
                read(&self.to, array.as_string::<i32>(), style)
            }
            // A number in jsonb may have a fraction, which is rounded.
            (D::Utf8, D::Int16 | D::Int32 | D::Int64) if sql_type_of(from) == "jsonb" => {
                check_scalars(array.as_string::<i32>(), "numeric", &self.to)?;
                let numeric = with_sql_type(Field::new("cast", D::Decimal128(38, 10), true), "numeric");
                let numeric = CastFunction::new(Arc::new(numeric)).cast(&array, from, style)?;
                self.cast(&numeric, &Field::new("", numeric.data_type().clone(), true), style)
            }
            (D::Utf8, _) => read(&self.to, array.as_string::<i32>(), style),
            (_, D::Utf8) => self.narrow(&to_text(&array, from, style), from, style),
            (D::Float32 | D::Float64, D::Decimal128(precision, scale)) => {
                // As many digits as the type has for certain.
                let digits = if *array.data_type() == D::Float32 { 6 } else { 15 };
                let floats = by_arrow(&array, &D::Float64)?;
                let limit = 10i128.pow((*precision).into());
                let numeric = |float| match nearest_numeric(float, digits, *scale).filter(|v| v.abs() < limit) {
                    Some(numeric) => Ok(numeric),
                    None => Err(external(Error::new("22003", "numeric field overflow"))),
                };
                let numerics = floats.as_primitive::<Float64Type>().try_unary::<_, Decimal128Type, _>(numeric)?;
                Ok(Arc::new(numerics.with_precision_and_scale(*precision, *scale)?))
            }
            (D::Float64, D::Float32) => {
                let narrow = |wide: f64| match wide as f32 {
                    narrow if narrow.is_infinite() && wide.is_finite() => {
                        Err(external(Error::new("22003", "value out of range: overflow")))
                    }
                    narrow if narrow == 0.0 && wide != 0.0 => {
                        Err(external(Error::new("22003", "value out of range: underflow")))
                    }
                    narrow => Ok(narrow),
                };
                let narrow = array.as_primitive::<Float64Type>().try_unary::<_, Float32Type, _>(narrow)?;
                Ok(Arc::new(narrow))
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
            (D::Decimal128(_, scale), D::Float32 | D::Float64) => {
                let numerics = array.as_primitive::<Decimal128Type>();
                Ok(match to {
                    D::Float32 => Arc::new(numerics.unary::<_, Float32Type>(|v| nearest_real(v, *scale))),
                    _ => Arc::new(numerics.unary::<_, Float64Type>(|v| nearest_double(v, *scale))),
                })
            }
            (D::Decimal128(_, scale), _) => {
                let unit = 10i128.pow((*scale).max(0) as u32);
                let integers: crate::error::Result<Int64Array> = array
                    .as_primitive::<Decimal128Type>()
                    .iter()
                    .map(|value| {
                        // Half away from zero.
                        let rounded = value.map(|v| v / unit + (v % unit) / (unit - unit / 2).max(1));
                        rounded.map(|v| i64::try_from(v).map_err(|_| out_of_range(&sql_type_of_arrow(to)))).transpose()
                    })
                    .collect();
                let integers: ArrayRef = Arc::new(integers.map_err(external)?);
                by_arrow(&integers, to).map_err(|_| external(out_of_range(&sql_type_of_arrow(to))))
            }
            (D::Timestamp(_, zone), D::Timestamp(_, None) | D::Date32 | D::Time64(_)) => {
                let offset = |us| zone.as_ref().map_or(0, |_| style.zone.offset_at(us).into());
                let local = moved(&array, offset)?;
                Ok(match to {
                    D::Timestamp(..) => Arc::new(local),
                    D::Date32 => Arc::new(local.unary::<_, Date32Type>(|us| match us {
                        i64::MAX => i32::MAX,
                        i64::MIN => i32::MIN,
                        us => us.div_euclid(DAY_US) as i32,
                    })),
                    // At no time of the day.
                    _ => Arc::new(local.unary_opt::<_, Time64MicrosecondType>(|us| {
                        (us != i64::MAX && us != i64::MIN).then(|| us.rem_euclid(DAY_US))
                    })),
                })
            }
            (D::Timestamp(_, None), D::Timestamp(_, Some(_))) => {
                let utc = moved(&array, |us| -i64::from(style.zone.offset_at_local(us)))?;
                Ok(Arc::new(utc.with_data_type(to.clone())))
            }
            (D::Time64(_), D::Interval(_)) => {
                let times = array.as_primitive::<Time64MicrosecondType>();
                let interval = |us: i64| IntervalMonthDayNano::new(0, 0, us * 1000);
                Ok(Arc::new(times.unary::<_, IntervalMonthDayNanoType>(interval)))
            }
            (D::Date32, D::Timestamp(_, zone)) => {
                let midnights: TimestampMicrosecondArray =
                    array.as_primitive::<Date32Type>().try_unary(|days| match days {
                        i32::MAX => Ok(i64::MAX),
                        i32::MIN => Ok(i64::MIN),
                        days => i64::from(days).checked_mul(DAY_US).ok_or_else(|| external(timestamp_out_of_range())),
                    })?;
                let midnights: ArrayRef = Arc::new(midnights);
                let offset = |us| zone.as_ref().map_or(0, |_| -i64::from(style.zone.offset_at_local(us)));
                Ok(Arc::new(moved(&midnights, offset)?.with_data_type(to.clone())))
            }
            // The part of a day that it is beyond whole ones.
            (D::Interval(IntervalUnit::MonthDayNano), D::Time64(TimeUnit::Microsecond)) => {
                let spans = array.as_primitive::<IntervalMonthDayNanoType>();
                let of = |span: IntervalMonthDayNano| (span.nanoseconds / 1000).rem_euclid(DAY_US);
                Ok(Arc::new(spans.unary::<_, Time64MicrosecondType>(of)))
            }
            _ => by_arrow(&array, to),
        }
    }

    /// Text as text of a narrower kind. What is too long for varchar(n) and char(n) is cut, where reading would refuse.
    fn narrow(&self, texts: &StringArray, from: &Field, style: &Style) -> Result<ArrayRef> {
        let sql_type = sql_type_of(&self.to);
        // char(n) loses its padding on the way to other text, and nothing has any as bpchar.
        let padded = is_padded(&sql_type_of(from)) && !sql_type.starts_with("character(") || sql_type == "bpchar";
        let trimmed = |text: &'_ str| if padded { text.trim_end_matches(' ') } else { text }.to_string();
        let length = match sql_type.as_str() {
            "name" => Some(63),
            "\"char\"" => Some(1),
            other => character_length_of(other),
        };
        if let Some(length) = length {
            let cut = |text: &str| {
                let cut: String = trimmed(text).chars().take(length).collect();
                let missing = if sql_type.starts_with("character(") { length - cut.chars().count() } else { 0 };
                cut + &" ".repeat(missing)
            };
            return Ok(Arc::new(texts.iter().map(|text| text.map(cut)).collect::<StringArray>()));
        }
        match sql_type.as_str() {
            own if is_read(own) => read(&self.to, texts, style),
            _ if padded => Ok(Arc::new(texts.iter().map(|text| text.map(trimmed)).collect::<StringArray>())),
            _ => Ok(Arc::new(texts.clone())),
        }
    }
}

/// What is no such scalar in jsonb is cast to nothing else: 22023.
fn check_scalars(documents: &StringArray, wanted: &str, to: &Field) -> Result<()> {
    for document in documents.iter().flatten() {
        let kind = match document.as_bytes().first() {
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b'"') => "string",
            Some(b't' | b'f') => "boolean",
            Some(b'n') => "null",
            _ => "numeric",
        };
        if kind != wanted {
            let to = plain_type(&sql_type_of(to));
            return Err(external(Error::new("22023", format!("cannot cast jsonb {kind} to type {to}"))));
        }
    }
    Ok(())
}

/// Texts as values of a field's type.
fn read(to: &Field, texts: &StringArray, style: &Style) -> Result<ArrayRef> {
    let cells: Vec<Option<&str>> = texts.iter().collect();
    text::read::read(&PgType::of(to), to.data_type(), &cells, style).map_err(|e| external(e.error))
}

fn to_text(array: &ArrayRef, from: &Field, style: &Style) -> StringArray {
    // A boolean is written as t and f to a client, but cast to true and false.
    if let DataType::Boolean = array.data_type() {
        return array.as_boolean().iter().map(|v| v.map(|v| v.to_string())).collect();
    }
    let mut cells = Cells::default();
    text::write::write(&PgType::of(&from.clone().with_data_type(array.data_type().clone())), array, style, &mut cells);
    (0..cells.len()).map(|row| cells.get(row).map(|bytes| String::from_utf8_lossy(bytes))).collect()
}
