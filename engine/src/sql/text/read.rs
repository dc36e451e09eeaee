//! Text into columns: Postgres' input functions, by batch.
//!
//! ```text
//!   integer, [Some("1"), None, Some("x")]  ->  row 2: invalid input syntax for type integer: "x"
//!   text[],  [Some("{a,NULL}")]            ->  List [[a, NULL]]
//! ```
//!
//! The type is looked at once per batch; within, one tight loop per type. The first bad cell ends it.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, ListArray,
    NullBufferBuilder, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, i256,
};

use super::number::{self, DecimalText, invalid, parse_int};
use super::pg_type::{Length, PgType, Rule};
use super::{CellError, Style, datetime, interval, json, nested, precision};
use crate::error::{Error, Result};

/// Reads `cells` (`None` is NULL) as values of `ty` into an array of type `storage`.
pub fn read(ty: &PgType, storage: &DataType, cells: &[Option<&str>], style: &Style) -> Result<ArrayRef, CellError> {
    let array: ArrayRef = match &ty.rule {
        Rule::Bool => read_bools(cells)?,
        Rule::Int2 => {
            let parse = |t: &str| parse_int(t, i16::MIN as i64, i16::MAX as i64, "smallint").map(|v| v as i16);
            Arc::new(primitive::<Int16Type, _>(cells, parse)?)
        }
        Rule::Int4 => {
            let parse = |t: &str| parse_int(t, i32::MIN as i64, i32::MAX as i64, "integer").map(|v| v as i32);
            Arc::new(primitive::<Int32Type, _>(cells, parse)?)
        }
        Rule::Int8 => Arc::new(primitive::<Int64Type, _>(cells, |t| parse_int(t, i64::MIN, i64::MAX, "bigint"))?),
        Rule::Oid => Arc::new(primitive::<Int64Type, _>(cells, |t| parse_int(t, 0, u32::MAX as i64, &ty.name()))?),
        Rule::Float4 => Arc::new(primitive::<Float32Type, _>(cells, number::parse_f32)?),
        Rule::Float8 => Arc::new(primitive::<Float64Type, _>(cells, number::parse_f64)?),
        Rule::Numeric { .. } => read_numeric(storage, cells)?,
        Rule::Text(length) => read_texts(cells, |t, out| limit_length(t, *length, out))?,
        Rule::RegName => read_texts(cells, copy_text)?,
        Rule::Json => read_texts(cells, |t, out| {
            json::check(t)?;
            copy_text(t, out)
        })?,
        Rule::Jsonb => read_texts(cells, |t, out| json::write_jsonb(t, out))?,
        Rule::Enum(of) => read_texts(cells, |t, out| {
            of.check(t)?;
            copy_text(t, out)
        })?,
        Rule::Uuid => read_uuids(storage, cells)?,
        Rule::Bytea => read_bytea(cells)?,
        Rule::Date => Arc::new(primitive::<Date32Type, _>(cells, |t| datetime::parse_date(t, style))?),
        Rule::Time => Arc::new(primitive::<Time64MicrosecondType, _>(cells, datetime::parse_time)?),
        Rule::Timestamp => {
            Arc::new(primitive::<TimestampMicrosecondType, _>(cells, |t| datetime::parse_timestamp(t, style))?)
        }
        Rule::Timestamptz => {
            let array = primitive::<TimestampMicrosecondType, _>(cells, |t| datetime::parse_timestamptz(t, style))?;
            Arc::new(array.with_timezone_opt(zone_of(storage)))
        }
        Rule::Interval => Arc::new(primitive::<IntervalMonthDayNanoType, _>(cells, interval::parse_interval)?),
        Rule::Array(element) => {
            let dimensions = dimensions_of(&ty.rule);
            read_lists(element, storage, cells, style, |t| {
                if dimensions > 1 {
                    nested::check_shape(t, dimensions)?;
                }
                nested::split_array(t, dimensions > 1)
            })?
        }
        Rule::Vector(element) => read_lists(element, storage, cells, style, |t| {
            Ok(t.split_ascii_whitespace().map(|e| Some(e.to_string())).collect())
        })?,
        Rule::Record(types) => read_records(types, storage, cells, style)?,
    };
    let array = match ty.moment_digits() {
        Some(digits) => precision::round(array, digits).map_err(|error| CellError { row: 0, error })?,
        None => array,
    };
    to_storage(array, storage).map_err(|error| CellError { row: 0, error })
}

fn dimensions_of(rule: &Rule) -> usize {
    match rule {
        Rule::Array(element) => 1 + dimensions_of(&element.rule),
        _ => 0,
    }
}

/// The Arrow type's own time zone, so that no cast is needed.
pub(super) fn zone_of(storage: &DataType) -> Option<Arc<str>> {
    match storage {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => zone.clone(),
        _ => Some("UTC".into()),
    }
}

/// Rules produce one Arrow type each; columns of another (Utf8View, UInt32 …) get it by a cast.
pub(super) fn to_storage(array: ArrayRef, storage: &DataType) -> Result<ArrayRef> {
    if array.data_type() == storage {
        return Ok(array);
    }
    let options = CastOptions { safe: false, ..Default::default() };
    cast_with_options(&array, storage, &options).map_err(|e| Error::new("22003", e.to_string()))
}

pub(super) fn primitive<T: ArrowPrimitiveType, C: ?Sized>(
    cells: &[Option<&C>],
    parse: impl Fn(&C) -> Result<T::Native>,
) -> Result<PrimitiveArray<T>, CellError> {
    let mut values = Vec::with_capacity(cells.len());
    let mut nulls = NullBufferBuilder::new(cells.len());
    for (row, cell) in cells.iter().enumerate() {
        match cell {
            Some(cell) => {
                values.push(parse(cell).map_err(|error| CellError { row, error })?);
                nulls.append_non_null();
            }
            None => {
                values.push(T::Native::default());
                nulls.append_null();
            }
        }
    }
    Ok(PrimitiveArray::new(values.into(), nulls.finish()))
}

pub(super) fn read_each<'a, V, C: ?Sized>(
    cells: &[Option<&'a C>],
    parse: impl Fn(&'a C) -> Result<V>,
) -> Result<Vec<Option<V>>, CellError> {
    let read = |(row, cell): (usize, &Option<&'a C>)| match cell {
        Some(cell) => parse(cell).map(Some).map_err(|error| CellError { row, error }),
        None => Ok(None),
    };
    cells.iter().enumerate().map(read).collect()
}

fn read_bools(cells: &[Option<&str>]) -> Result<ArrayRef, CellError> {
    Ok(Arc::new(BooleanArray::from(read_each(cells, parse_bool)?)))
}

/// Any unambiguous beginning of true, false, yes, no, on, off, and 1 and 0.
pub fn parse_bool(text: &str) -> Result<bool> {
    match text {
        "t" | "true" => return Ok(true),
        "f" | "false" => return Ok(false),
        _ => {}
    }
    let word = text.trim_matches(number::is_space).to_ascii_lowercase();
    let begins = |full: &str, least: usize| word.len() >= least && full.starts_with(&word);
    if word == "1" || begins("true", 1) || begins("yes", 1) || begins("on", 2) {
        Ok(true)
    } else if word == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2) {
        Ok(false)
    } else {
        Err(invalid("boolean", text))
    }
}

pub(super) fn read_texts<C: ?Sized>(
    cells: &[Option<&C>],
    write: impl Fn(&C, &mut Vec<u8>) -> Result<()>,
) -> Result<ArrayRef, CellError> {
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(cells.len() + 1);
    ends.push(0i32);
    let mut nulls = NullBufferBuilder::new(cells.len());
    for (row, cell) in cells.iter().enumerate() {
        if let Some(cell) = cell {
            write(cell, &mut bytes).map_err(|error| CellError { row, error })?;
            nulls.append_non_null();
        } else {
            nulls.append_null();
        }
        let too_long = |_| CellError { row, error: Error::new("54000", "a batch of text exceeds 2 GB") };
        ends.push(i32::try_from(bytes.len()).map_err(too_long)?);
    }
    let offsets = OffsetBuffer::new(ends.into());
    let array = StringArray::try_new(offsets, bytes.into(), nulls.finish());
    Ok(Arc::new(array.expect("each cell was valid UTF-8 and the offsets rise")))
}

/// Text without a zero byte, which Postgres does not have.
pub(super) fn copy_text(text: &str, out: &mut Vec<u8>) -> Result<()> {
    if text.as_bytes().contains(&0) {
        return Err(Error::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// varchar(n) and char(n): too long is an error unless only spaces are too many.
pub(super) fn limit_length(text: &str, length: Length, out: &mut Vec<u8>) -> Result<()> {
    let (n, padded) = match length {
        Length::Any => return copy_text(text, out),
        Length::Trimmed => return copy_text(text.trim_end_matches(' '), out),
        Length::AtMost(n) => (n, false),
        Length::Padded(n) => (n, true),
    };
    let mut kept = text;
    let mut count = text.len();
    if count > n || padded {
        count = text.chars().count();
        if count > n {
            let cut = text.char_indices().nth(n).map_or(text.len(), |(i, _)| i);
            if text[cut..].bytes().any(|b| b != b' ') {
                let name = if padded { "character" } else { "character varying" };
                return Err(Error::new("22001", format!("value too long for type {name}({n})")));
            }
            kept = &text[..cut];
            count = n;
        }
    }
    copy_text(kept, out)?;
    if padded {
        out.extend(std::iter::repeat_n(b' ', n - count));
    }
    Ok(())
}

fn read_numeric(storage: &DataType, cells: &[Option<&str>]) -> Result<ArrayRef, CellError> {
    if let DataType::Decimal256(precision, scale) = *storage {
        let values = read_each(cells, |t| parse_decimal256(t, precision, scale))?;
        let array = Decimal256Array::from(values).with_precision_and_scale(precision, scale);
        return Ok(Arc::new(array.expect("the column's own precision and scale")));
    }
    let (precision, scale) = match *storage {
        DataType::Decimal128(p, s) | DataType::Decimal64(p, s) | DataType::Decimal32(p, s) => (p, s),
        _ => (20, 0),
    };
    let array: Decimal128Array = primitive::<Decimal128Type, _>(cells, |t| number::parse_decimal(t, precision, scale))?;
    Ok(Arc::new(array.with_precision_and_scale(precision, scale).expect("the column's own precision and scale")))
}

pub(super) fn parse_decimal256(text: &str, precision: u8, scale: i8) -> Result<i256> {
    let DecimalText { negative, mut digits, scale: given } = number::split_decimal(text)?;
    let shift = scale as i32 - given;
    let keep = digits.len() as i64 + shift.min(0) as i64;
    let round_up = shift < 0 && keep >= 0 && digits.get(keep as usize).is_some_and(|d| *d >= b'5');
    digits.truncate(keep.max(0) as usize);
    if !digits.is_empty() {
        digits.extend(std::iter::repeat_n(b'0', shift.max(0) as usize));
    }
    if digits.len() > precision as usize {
        return Err(number::overflow_of(precision, scale));
    }
    digits.insert(0, b'0');
    let v = i256::from_string(std::str::from_utf8(&digits).expect("digits")).expect("76 digits at most");
    let v = if round_up { v.wrapping_add(i256::ONE) } else { v };
    if v.to_string().len() > precision as usize {
        return Err(number::overflow_of(precision, scale));
    }
    Ok(if negative { v.wrapping_neg() } else { v })
}

fn read_uuids(storage: &DataType, cells: &[Option<&str>]) -> Result<ArrayRef, CellError> {
    if matches!(storage, DataType::FixedSizeBinary(16)) {
        let values = read_each(cells, |t| parse_uuid(t).map(|u| u.to_vec()))?;
        let array = arrow::array::FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 16);
        return Ok(Arc::new(array.expect("each has 16 bytes")));
    }
    read_texts(cells, |t, out| {
        write_uuid(&parse_uuid(t)?, out);
        Ok(())
    })
}

/// 32 hexadecimal digits, in braces or not, with hyphens after any group of four.
pub fn parse_uuid(text: &str) -> Result<[u8; 16]> {
    let error = || invalid("uuid", text);
    let body = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(error)?,
        None => text,
    };
    let mut bytes = [0u8; 16];
    let mut digits = 0;
    for b in body.bytes() {
        if b == b'-' && digits % 4 == 0 && digits > 0 && digits < 32 {
            continue;
        }
        let d = (b as char).to_digit(16).filter(|_| digits < 32).ok_or_else(error)? as u8;
        bytes[digits / 2] = bytes[digits / 2] << 4 | d;
        digits += 1;
    }
    if digits == 32 && !body.contains("--") { Ok(bytes) } else { Err(error()) }
}

pub fn write_uuid(bytes: &[u8; 16], out: &mut Vec<u8>) {
    for (i, b) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        write_hex(*b, out);
    }
}

pub fn write_hex(b: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[HEX[(b >> 4) as usize], HEX[(b & 15) as usize]]);
}

fn read_bytea(cells: &[Option<&str>]) -> Result<ArrayRef, CellError> {
    let values = read_each(cells, parse_bytea)?;
    Ok(Arc::new(BinaryArray::from_iter(values)))
}

/// `\xdead` or the escape form (`\\`, `\ooo`).
pub fn parse_bytea(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 2);
    if let Some(hex) = text.strip_prefix("\\x") {
        let mut high = None;
        for c in hex.chars() {
            if c.is_ascii_whitespace() && high.is_none() {
                continue;
            }
            let digit = c.to_digit(16).map(|d| d as u8);
            let digit = digit.ok_or_else(|| Error::invalid_value(format!("invalid hexadecimal digit: \"{c}\"")))?;
            match high.take() {
                None => high = Some(digit),
                Some(h) => out.push(h << 4 | digit),
            }
        }
        return match high {
            None => Ok(out),
            Some(_) => Err(Error::invalid_value("invalid hexadecimal data: odd number of digits")),
        };
    }
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => out.push(b'\\'),
            Some(a @ b'0'..=b'3') => match (bytes.next(), bytes.next()) {
                (Some(b @ b'0'..=b'7'), Some(c @ b'0'..=b'7')) => {
                    out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                }
                _ => return Err(Error::new("22P02", "invalid input syntax for type bytea")),
            },
            _ => return Err(Error::new("22P02", "invalid input syntax for type bytea")),
        }
    }
    Ok(out)
}

pub(super) fn element_field(storage: &DataType) -> Option<&Arc<Field>> {
    match storage {
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::FixedSizeList(f, _)
        | DataType::ListView(f)
        | DataType::LargeListView(f) => Some(f),
        _ => None,
    }
}

fn read_lists(
    element: &PgType,
    storage: &DataType,
    cells: &[Option<&str>],
    style: &Style,
    split: impl Fn(&str) -> Result<Vec<Option<String>>>,
) -> Result<ArrayRef, CellError> {
    let lists = read_each(cells, split)?;
    let field = element_field(storage).cloned();
    let unsupported =
        || CellError { row: 0, error: Error::unsupported(format!("text for a column of type {storage}")) };
    let field = field.ok_or_else(unsupported)?;
    let flat: Vec<Option<&str>> = lists.iter().flatten().flatten().map(Option::as_deref).collect();
    let values = read(element, field.data_type(), &flat, style);
    assemble_lists(&lists, values, field)
}

/// A list array over elements that were read all at once; an element's error becomes its row's.
pub(super) fn assemble_lists<V>(
    lists: &[Option<Vec<V>>],
    values: Result<ArrayRef, CellError>,
    field: Arc<Field>,
) -> Result<ArrayRef, CellError> {
    let lengths = lists.iter().map(|l| l.as_ref().map_or(0, Vec::len));
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
    let values = values.map_err(|e| {
        let row = offsets.partition_point(|start| *start as usize <= e.row) - 1;
        CellError { row, error: e.error }
    })?;
    let mut nulls = NullBufferBuilder::new(lists.len());
    lists.iter().for_each(|l| nulls.append(l.is_some()));
    let nullable = Arc::new(field.as_ref().clone().with_nullable(true));
    let field = if field.is_nullable() || values.null_count() == 0 { field } else { nullable };
    Ok(Arc::new(ListArray::new(field, offsets, values, nulls.finish())))
}

fn read_records(
    types: &[PgType],
    storage: &DataType,
    cells: &[Option<&str>],
    style: &Style,
) -> Result<ArrayRef, CellError> {
    let DataType::Struct(fields) = storage else {
        return Err(CellError { row: 0, error: Error::unsupported(format!("text for a column of type {storage}")) });
    };
    let rows = read_each(cells, |t| {
        let values = nested::split_record(t)?;
        if values.len() != types.len() {
            let detail = if values.len() < types.len() { "Too few columns." } else { "Too many columns." };
            return Err(Error::new("22P02", format!("malformed record literal: \"{t}\"")).detail(detail));
        }
        Ok(values)
    })?;
    let mut columns = Vec::with_capacity(types.len());
    for (i, (ty, field)) in types.iter().zip(fields).enumerate() {
        let column: Vec<Option<&str>> = rows.iter().map(|r| r.as_ref().and_then(|r| r[i].as_deref())).collect();
        columns.push(read(ty, field.data_type(), &column, style)?);
    }
    let mut nulls = NullBufferBuilder::new(rows.len());
    rows.iter().for_each(|r| nulls.append(r.is_some()));
    let array = StructArray::try_new(fields.clone(), columns, nulls.finish());
    Ok(Arc::new(array.map_err(|e| CellError { row: 0, error: Error::new("23502", e.to_string()) })?))
}
