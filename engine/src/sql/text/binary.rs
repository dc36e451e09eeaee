//! Postgres' binary forms: big-endian, dates and times counted from 2000-01-01, numeric in base 10,000.
//!
//! ```text
//!   numeric 100.25    0002 0000 0000 0002  0064 09c4       digits, weight, sign, scale, then the digits
//!   int4[] {1,NULL}   1, 1, 23, (2, 1), (4, 1), -1         dimensions, has nulls, element type, bounds, elements
//! ```
//!
//! (Sources: the `*_send` and `*_recv` functions as documented by the protocol's users; the bytes in the
//! tests were captured from PostgreSQL 15.)

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, Decimal256Array, ListArray,
    NullBufferBuilder, StructArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};

use super::calendar::{DAY_US, DAYS_TO_2000};
use super::pg_type::{PgType, Rule};
use super::read::{
    assemble_lists, copy_text, element_field, limit_length, parse_decimal256, parse_uuid, primitive, read_each,
    read_texts, to_storage, write_uuid, zone_of,
};
use super::write::{canonical, write_texts};
use super::{CellError, Cells, json, number, precision};
use crate::error::{Error, Result};

const US_TO_2000: i64 = DAYS_TO_2000 as i64 * DAY_US;

/// Appends the binary form of each value of `array` to `out`. Fails on ragged nested arrays only.
pub fn write(ty: &PgType, array: &ArrayRef, out: &mut Cells) -> Result<()> {
    let array = &canonical(ty, array);
    match &ty.rule {
        Rule::Bool => {
            let array = array.as_boolean();
            for row in 0..array.len() {
                push(out, array.is_valid(row), |o| o.push(array.value(row) as u8));
            }
        }
        Rule::Int2 => each::<Int16Type>(array, out, |v, o| o.extend_from_slice(&v.to_be_bytes())),
        Rule::Int4 => each::<Int32Type>(array, out, |v, o| o.extend_from_slice(&v.to_be_bytes())),
        Rule::Int8 => each::<Int64Type>(array, out, |v, o| o.extend_from_slice(&v.to_be_bytes())),
        Rule::Oid => each::<Int64Type>(array, out, |v, o| o.extend_from_slice(&(v as u32).to_be_bytes())),
        Rule::Float4 => each::<Float32Type>(array, out, |v, o| o.extend_from_slice(&v.to_be_bytes())),
        Rule::Float8 => each::<Float64Type>(array, out, |v, o| o.extend_from_slice(&v.to_be_bytes())),
        Rule::Numeric { trim } => write_numeric(array, *trim, out),
        Rule::Text(_) | Rule::Json | Rule::Enum(_) => write_texts(array, out),
        Rule::Jsonb => {
            let array = array.as_string::<i32>();
            for row in 0..array.len() {
                push(out, array.is_valid(row), |o| {
                    o.push(1);
                    o.extend_from_slice(array.value(row).as_bytes());
                });
            }
        }
        Rule::RegName => {
            let array = array.as_string::<i32>();
            for row in 0..array.len() {
                let number: u32 = array.value(row).parse().unwrap_or(0);
                push(out, array.is_valid(row), |o| o.extend_from_slice(&number.to_be_bytes()));
            }
        }
        Rule::Uuid => match array.data_type() {
            DataType::FixedSizeBinary(_) => {
                let array = array.as_fixed_size_binary();
                for row in 0..array.len() {
                    push(out, array.is_valid(row), |o| o.extend_from_slice(array.value(row)));
                }
            }
            _ => {
                let array = array.as_string::<i32>();
                for row in 0..array.len() {
                    match array.is_valid(row) {
                        true => {
                            let bytes = parse_uuid(array.value(row))?;
                            out.push_with(|o| o.extend_from_slice(&bytes));
                        }
                        false => out.push_null(),
                    }
                }
            }
        },
        Rule::Bytea => {
            let array = array.as_binary::<i32>();
            for row in 0..array.len() {
                push(out, array.is_valid(row), |o| o.extend_from_slice(array.value(row)));
            }
        }
        Rule::Date => each::<Date32Type>(array, out, |v, o| {
            // Infinity is the largest value on both sides.
            let v = if v == i32::MAX || v == i32::MIN { v } else { v.saturating_sub(DAYS_TO_2000) };
            o.extend_from_slice(&v.to_be_bytes());
        }),
        Rule::Time => each::<Time64MicrosecondType>(array, out, |v, o| o.extend_from_slice(&v.to_be_bytes())),
        Rule::Timestamp | Rule::Timestamptz => each::<TimestampMicrosecondType>(array, out, |v, o| {
            let v = if v == i64::MAX || v == i64::MIN { v } else { v.saturating_sub(US_TO_2000) };
            o.extend_from_slice(&v.to_be_bytes());
        }),
        Rule::Interval => each::<IntervalMonthDayNanoType>(array, out, |v, o| {
            o.extend_from_slice(&(v.nanoseconds / 1000).to_be_bytes());
            o.extend_from_slice(&v.days.to_be_bytes());
            o.extend_from_slice(&v.months.to_be_bytes());
        }),
        Rule::Array(element) => write_lists(element, array.as_list::<i32>(), 1, out)?,
        Rule::Vector(element) => write_lists(element, array.as_list::<i32>(), 0, out)?,
        Rule::Record(types) => write_records(types, array.as_struct(), out)?,
    }
    Ok(())
}

fn push(out: &mut Cells, valid: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if valid { out.push_with(write) } else { out.push_null() }
}

fn each<T: ArrowPrimitiveType>(array: &ArrayRef, out: &mut Cells, write: impl Fn(T::Native, &mut Vec<u8>)) {
    let array = array.as_primitive::<T>();
    for row in 0..array.len() {
        push(out, array.is_valid(row), |o| write(array.value(row), o));
    }
}

fn write_numeric(array: &ArrayRef, trim: bool, out: &mut Cells) {
    let mut text = Vec::with_capacity(48);
    for row in 0..array.len() {
        if array.is_null(row) {
            out.push_null();
            continue;
        }
        text.clear();
        match *array.data_type() {
            DataType::Decimal256(_, scale) => {
                let digits = array.as_primitive::<Decimal256Type>().value(row).to_string();
                let magnitude = digits.strip_prefix('-').unwrap_or(&digits);
                number::layout_decimal(magnitude.len() < digits.len(), magnitude.as_bytes(), scale, trim, &mut text);
            }
            DataType::Decimal128(_, scale) => {
                number::write_decimal(array.as_primitive::<Decimal128Type>().value(row), scale, trim, &mut text);
            }
            ref other => unreachable!("numeric is a decimal in canonical form, not {other}"),
        }
        out.push_with(|o| numeric_from_text(&text, o));
    }
}

/// From `-100.25` to base 10,000: digits are grouped in fours from the point outwards.
fn numeric_from_text(text: &[u8], out: &mut Vec<u8>) {
    let (negative, body) = match text.strip_prefix(b"-") {
        Some(body) => (true, body),
        None => (false, text),
    };
    let point = body.iter().position(|b| *b == b'.').unwrap_or(body.len());
    let (whole, fraction) = (&body[..point], body.get(point + 1..).unwrap_or(&[]));
    let mut groups: Vec<i16> = Vec::with_capacity(24);
    let first = whole.len().div_ceil(4);
    for group in 0..first {
        let end = whole.len() - (first - 1 - group) * 4;
        let start = end.saturating_sub(4);
        groups.push(whole[start..end].iter().fold(0, |v, d| v * 10 + (d - b'0') as i16));
    }
    for group in fraction.chunks(4) {
        let digit = |i: usize| group.get(i).map_or(0, |d| (d - b'0') as i16);
        groups.push(digit(0) * 1000 + digit(1) * 100 + digit(2) * 10 + digit(3));
    }
    let leading = groups.iter().take_while(|g| **g == 0).count();
    let trailing = groups.iter().rev().take_while(|g| **g == 0).count();
    let digits = if leading == groups.len() { &[][..] } else { &groups[leading..groups.len() - trailing] };
    let weight = if digits.is_empty() { 0 } else { first as i16 - 1 - leading as i16 };
    let sign: u16 = if negative && !digits.is_empty() { 0x4000 } else { 0 };
    out.extend_from_slice(&(digits.len() as i16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(fraction.len() as i16).to_be_bytes());
    digits.iter().for_each(|d| out.extend_from_slice(&d.to_be_bytes()));
}

/// The decimal text of a binary numeric.
fn numeric_to_text(bytes: &[u8]) -> Result<String> {
    let mut input = Input { bytes };
    let (count, weight) = (input.i16()?, input.i16()?);
    let (sign, _scale) = (input.i16()? as u16, input.i16()?);
    if sign != 0 && sign != 0x4000 {
        return Err(Error::unsupported("numeric NaN or infinity"));
    }
    if count < 0 || weight.unsigned_abs() > 5000 {
        return Err(malformed());
    }
    let mut text = String::from(if sign == 0 { "" } else { "-" });
    text.push('0');
    let mut digits = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let d = input.i16()?;
        if !(0..10_000).contains(&d) {
            return Err(malformed());
        }
        digits.push(d);
    }
    input.end()?;
    let digit = |place: i32| digits.get((weight as i32 - place) as usize).copied().unwrap_or(0);
    for place in (0..=weight as i32).rev() {
        text.push_str(&format!("{:04}", digit(place)));
    }
    text.push('.');
    let last = weight as i32 - count as i32 + 1;
    for place in (last..0).rev() {
        text.push_str(&format!("{:04}", if place > weight as i32 { 0 } else { digit(place) }));
    }
    text.push('0');
    Ok(text)
}

fn write_lists(element: &PgType, lists: &ListArray, lower_bound: i32, out: &mut Cells) -> Result<()> {
    // The innermost elements' type stands in the header of an array of arrays.
    let mut innermost = element;
    while let Rule::Array(inner) = &innermost.rule {
        innermost = inner;
    }
    for row in 0..lists.len() {
        if lists.is_null(row) {
            out.push_null();
            continue;
        }
        let mut dimensions = Vec::new();
        let mut values = lists.value(row);
        // Descend while the elements are arrays themselves, all of one length.
        let mut ty = element;
        dimensions.push(values.len() as i32);
        while let Rule::Array(inner) = &ty.rule {
            let nested = canonical(ty, &values);
            let nested = nested.as_list::<i32>();
            let length = if nested.is_empty() { 0 } else { nested.value_length(0) };
            if nested.null_count() > 0 || (0..nested.len()).any(|i| nested.value_length(i) != length) {
                let message = "multidimensional arrays must have array expressions with matching dimensions";
                return Err(Error::new("2202E", message));
            }
            dimensions.push(length);
            let start = nested.value_offsets()[0] as usize;
            let end = nested.value_offsets()[nested.len()] as usize;
            values = nested.values().slice(start, end - start);
            ty = inner;
        }
        if dimensions.contains(&0) {
            dimensions.clear();
        }
        let mut cells = Cells::default();
        write(innermost, &values, &mut cells)?;
        let has_null = (0..cells.len()).any(|i| cells.get(i).is_none());
        out.push_with(|o| {
            o.extend_from_slice(&(dimensions.len() as i32).to_be_bytes());
            o.extend_from_slice(&i32::from(has_null).to_be_bytes());
            o.extend_from_slice(&innermost.oid.to_be_bytes());
            for length in &dimensions {
                o.extend_from_slice(&length.to_be_bytes());
                o.extend_from_slice(&lower_bound.to_be_bytes());
            }
            (0..cells.len()).for_each(|i| write_counted(cells.get(i), o));
        });
    }
    Ok(())
}

/// A value with its length before it; -1 for NULL.
pub fn write_counted(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        Some(bytes) => {
            out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
    }
}

fn write_records(types: &[PgType], rows: &StructArray, out: &mut Cells) -> Result<()> {
    let mut columns = Vec::with_capacity(types.len());
    for (ty, column) in types.iter().zip(rows.columns()) {
        let mut cells = Cells::default();
        write(ty, column, &mut cells)?;
        columns.push(cells);
    }
    for row in 0..rows.len() {
        push(out, rows.is_valid(row), |o| {
            o.extend_from_slice(&(types.len() as i32).to_be_bytes());
            for (ty, column) in types.iter().zip(&columns) {
                o.extend_from_slice(&ty.oid.to_be_bytes());
                write_counted(column.get(row), o);
            }
        });
    }
    Ok(())
}

pub fn malformed() -> Error {
    Error::new("22P03", "incorrect binary data format")
}

/// Bytes from the outside, taken from the front; never reads beyond them.
pub struct Input<'a> {
    pub bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n).ok_or_else(malformed)?;
        self.bytes = rest;
        Ok(taken)
    }
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many were taken"))
    }
    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }
    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }
    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }
    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }
    /// A value with its length before it.
    pub fn counted(&mut self) -> Result<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Ok(None),
            n if n >= 0 => self.take(n as usize).map(Some),
            _ => Err(malformed()),
        }
    }
    pub fn end(&self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(malformed()) }
    }
}

/// All of a cell as one value.
fn whole<'a, V>(bytes: &'a [u8], read: impl FnOnce(&mut Input<'a>) -> Result<V>) -> Result<V> {
    let mut input = Input { bytes };
    let value = read(&mut input)?;
    input.end()?;
    Ok(value)
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| {
        let bad = bytes.get(e.valid_up_to()).copied().unwrap_or(0);
        Error::new("22021", format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"))
    })
}

/// Reads binary cells (`None` is NULL) as values of `ty` into an array of type `storage`.
pub fn read(ty: &PgType, storage: &DataType, cells: &[Option<&[u8]>]) -> Result<ArrayRef, CellError> {
    let array: ArrayRef = match &ty.rule {
        Rule::Bool => {
            let values = read_each(cells, |b: &[u8]| match b {
                [v] => Ok(*v != 0),
                _ => Err(malformed()),
            })?;
            Arc::new(BooleanArray::from(values))
        }
        Rule::Int2 => Arc::new(primitive::<Int16Type, _>(cells, |b: &[u8]| whole(b, Input::i16))?),
        Rule::Int4 => Arc::new(primitive::<Int32Type, _>(cells, |b: &[u8]| whole(b, Input::i32))?),
        Rule::Int8 => Arc::new(primitive::<Int64Type, _>(cells, |b: &[u8]| whole(b, Input::i64))?),
        Rule::Oid => Arc::new(primitive::<Int64Type, _>(cells, |b: &[u8]| whole(b, |i| Ok(i.u32()? as i64)))?),
        Rule::Float4 => {
            Arc::new(primitive::<Float32Type, _>(cells, |b: &[u8]| whole(b, |i| Ok(f32::from_bits(i.u32()?))))?)
        }
        Rule::Float8 => {
            let read = |b: &[u8]| whole(b, |i| Ok(f64::from_bits(i.i64()? as u64)));
            Arc::new(primitive::<Float64Type, _>(cells, read)?)
        }
        Rule::Numeric { .. } => read_numeric(storage, cells)?,
        Rule::Text(length) => read_texts(cells, |b: &[u8], out| limit_length(utf8(b)?, *length, out))?,
        Rule::RegName => read_texts(cells, |b: &[u8], out| {
            number::write_u64(whole(b, Input::u32)? as u64, out);
            Ok(())
        })?,
        Rule::Enum(of) => read_texts(cells, |b: &[u8], out| {
            let text = utf8(b)?;
            of.check(text)?;
            copy_text(text, out)
        })?,
        Rule::Json => read_texts(cells, |b: &[u8], out| {
            let text = utf8(b)?;
            json::check(text)?;
            copy_text(text, out)
        })?,
        Rule::Jsonb => read_texts(cells, |b: &[u8], out| match b {
            [1, text @ ..] => json::write_jsonb(utf8(text)?, out),
            [version, ..] => Err(Error::new("XX000", format!("unsupported jsonb version number {version}"))),
            [] => Err(malformed()),
        })?,
        Rule::Uuid => {
            let texts = read_texts(cells, |b: &[u8], out| {
                write_uuid(b.try_into().map_err(|_| malformed())?, out);
                Ok(())
            })?;
            match storage {
                DataType::FixedSizeBinary(16) => {
                    let values = cells.iter().map(|c| c.map(<[u8]>::to_vec));
                    let array = arrow::array::FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16);
                    Arc::new(array.expect("16 bytes each: the texts were made of them"))
                }
                _ => texts,
            }
        }
        Rule::Bytea => Arc::new(BinaryArray::from_iter(cells.iter().copied())),
        Rule::Date => Arc::new(primitive::<Date32Type, _>(cells, |b: &[u8]| {
            let v = whole(b, Input::i32)?;
            if v == i32::MAX || v == i32::MIN {
                return Ok(v);
            }
            v.checked_add(DAYS_TO_2000).ok_or_else(|| Error::new("22008", "date out of range"))
        })?),
        Rule::Time => Arc::new(primitive::<Time64MicrosecondType, _>(cells, |b: &[u8]| {
            let v = whole(b, Input::i64)?;
            if (0..=DAY_US).contains(&v) { Ok(v) } else { Err(Error::new("22008", "time out of range")) }
        })?),
        Rule::Timestamp => Arc::new(primitive::<TimestampMicrosecondType, _>(cells, read_timestamp)?),
        Rule::Timestamptz => {
            let array = primitive::<TimestampMicrosecondType, _>(cells, read_timestamp)?;
            Arc::new(array.with_timezone_opt(zone_of(storage)))
        }
        Rule::Interval => Arc::new(primitive::<IntervalMonthDayNanoType, _>(cells, |b: &[u8]| {
            let (us, days, months) = whole(b, |i| Ok((i.i64()?, i.i32()?, i.i32()?)))?;
            let nanoseconds = us.checked_mul(1000).ok_or_else(|| Error::new("22008", "interval out of range"))?;
            Ok(IntervalMonthDayNano { months, days, nanoseconds })
        })?),
        Rule::Array(element) | Rule::Vector(element) => read_lists(element, storage, cells)?,
        Rule::Record(types) => read_records(types, storage, cells)?,
    };
    let array = match ty.moment_digits() {
        Some(digits) => precision::round(array, digits).map_err(|error| CellError { row: 0, error })?,
        None => array,
    };
    to_storage(array, storage).map_err(|error| CellError { row: 0, error })
}

fn read_timestamp(bytes: &[u8]) -> Result<i64> {
    let v = whole(bytes, Input::i64)?;
    if v == i64::MAX || v == i64::MIN {
        return Ok(v);
    }
    v.checked_add(US_TO_2000).ok_or_else(|| Error::new("22008", "timestamp out of range"))
}

fn read_numeric(storage: &DataType, cells: &[Option<&[u8]>]) -> Result<ArrayRef, CellError> {
    let (precision, scale) = match *storage {
        DataType::Decimal256(precision, scale) => {
            let values = read_each(cells, |b: &[u8]| parse_decimal256(&numeric_to_text(b)?, precision, scale))?;
            let array = Decimal256Array::from(values).with_precision_and_scale(precision, scale);
            return Ok(Arc::new(array.expect("the column's own precision and scale")));
        }
        DataType::Decimal128(p, s) | DataType::Decimal64(p, s) | DataType::Decimal32(p, s) => (p, s),
        _ => (20, 0),
    };
    let parse = |b: &[u8]| number::parse_decimal(&numeric_to_text(b)?, precision, scale);
    let array = primitive::<Decimal128Type, _>(cells, parse)?;
    Ok(Arc::new(array.with_precision_and_scale(precision, scale).expect("the column's own precision and scale")))
}

fn read_lists(element: &PgType, storage: &DataType, cells: &[Option<&[u8]>]) -> Result<ArrayRef, CellError> {
    let unsupported = || CellError { row: 0, error: Error::unsupported(format!("an array as {storage}")) };
    let field = element_field(storage).cloned().ok_or_else(unsupported)?;
    let lists = read_each(cells, |b| {
        whole(b, |input| {
            let (dimensions, _has_null) = (input.i32()?, input.i32()?);
            let oid = input.u32()?;
            // As many as the type has; an array without elements has none.
            let (mut depth, mut innermost) = (1, element);
            while let Rule::Array(inner) = &innermost.rule {
                (depth, innermost) = (depth + 1, inner);
            }
            if dimensions > depth {
                return Err(Error::unsupported("a multidimensional array as a one-dimensional parameter"));
            }
            if dimensions != 0 && dimensions != depth {
                return Err(Error::unsupported("a one-dimensional array as a multidimensional parameter"));
            }
            let compatible =
                |a: u32, b: u32| a == b || (matches!(a, 25 | 1042 | 1043 | 705) && matches!(b, 25 | 1042 | 1043 | 705));
            if !compatible(oid, innermost.oid) {
                return Err(Error::new("42804", "wrong element type")
                    .detail(format!("The binary array has elements of type {oid}, expected {}.", innermost.oid)));
            }
            let mut lengths = Vec::new();
            for _ in 0..dimensions {
                let (length, _lower_bound) = (input.i32()?, input.i32()?);
                lengths.push(usize::try_from(length).map_err(|_| malformed())?);
            }
            if lengths.len() > 1 && lengths.contains(&0) {
                return Err(malformed());
            }
            let mut elements: Vec<Option<Cow<[u8]>>> = Vec::new();
            if let [first, inner @ ..] = &lengths[..] {
                for _ in 0..*first {
                    elements.push(match inner {
                        [] => input.counted()?.map(Cow::Borrowed),
                        inner => Some(Cow::Owned(inner_array(input, inner, oid)?)),
                    });
                }
            }
            Ok(elements)
        })
    })?;
    let flat: Vec<Option<&[u8]>> = lists.iter().flatten().flatten().map(Option::as_deref).collect();
    let values = read(element, field.data_type(), &flat);
    assemble_lists(&lists, values, field)
}

/// An array within another, as one by itself: its elements follow in the other one's.
fn inner_array(input: &mut Input, lengths: &[usize], oid: u32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for header in [lengths.len() as u32, 1, oid] {
        bytes.extend(header.to_be_bytes());
    }
    for &length in lengths {
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend(1u32.to_be_bytes());
    }
    let count = lengths.iter().try_fold(1usize, |count, length| count.checked_mul(*length)).ok_or_else(malformed)?;
    for _ in 0..count {
        match input.counted()? {
            None => bytes.extend((-1i32).to_be_bytes()),
            Some(value) => {
                bytes.extend((value.len() as u32).to_be_bytes());
                bytes.extend(value);
            }
        }
    }
    Ok(bytes)
}

fn read_records(types: &[PgType], storage: &DataType, cells: &[Option<&[u8]>]) -> Result<ArrayRef, CellError> {
    let DataType::Struct(fields) = storage else {
        return Err(CellError { row: 0, error: Error::unsupported(format!("a row as {storage}")) });
    };
    let rows = read_each(cells, |b| {
        whole(b, |input| {
            if input.i32()? as usize != types.len() {
                return Err(Error::new("42804", "wrong number of columns in a row"));
            }
            let mut values = Vec::with_capacity(types.len());
            for _ in types {
                input.u32()?;
                values.push(input.counted()?);
            }
            Ok(values)
        })
    })?;
    let mut columns = Vec::with_capacity(types.len());
    for (i, (ty, field)) in types.iter().zip(fields).enumerate() {
        let column: Vec<Option<&[u8]>> = rows.iter().map(|r| r.as_ref().and_then(|r| r[i])).collect();
        columns.push(read(ty, field.data_type(), &column)?);
    }
    let mut nulls = NullBufferBuilder::new(rows.len());
    rows.iter().for_each(|r| nulls.append(r.is_some()));
    let array = StructArray::try_new(fields.clone(), columns, nulls.finish());
    Ok(Arc::new(array.map_err(|e| CellError { row: 0, error: Error::new("23502", e.to_string()) })?))
}
