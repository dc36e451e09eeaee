//! Columns into text: Postgres' output functions, by batch.
//!
//! ```text
//!   timestamptz, zone Asia/Kolkata   2024-01-02 08:34:05.6+05:30
//!   text[]                           {a,"b,c",NULL,""}
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, StringBuilder, StructArray, UnionArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};

use super::pg_type::{PgType, Rule};
use super::read::{write_hex, write_uuid};
use super::{Cells, Style, datetime, interval, nested, number};

/// Appends the text of each value of `array` to `out`.
pub fn write(ty: &PgType, array: &ArrayRef, style: &Style, out: &mut Cells) {
    let array = &canonical(ty, array);
    match &ty.rule {
        Rule::Bool => {
            let array = array.as_boolean();
            for row in 0..array.len() {
                push(out, array.is_valid(row), |o| o.push(if array.value(row) { b't' } else { b'f' }));
            }
        }
        Rule::Int2 => each::<Int16Type>(array, out, |v, o| number::write_i64(v as i64, o)),
        Rule::Int4 => each::<Int32Type>(array, out, |v, o| number::write_i64(v as i64, o)),
        Rule::Int8 => each::<Int64Type>(array, out, number::write_i64),
        Rule::Oid => each::<Int64Type>(array, out, |v, o| number::write_u64(v as u32 as u64, o)),
        Rule::Float4 => each::<Float32Type>(array, out, number::write_f32),
        Rule::Float8 => each::<Float64Type>(array, out, number::write_f64),
        Rule::Numeric { trim } => match *array.data_type() {
            DataType::Decimal256(_, scale) => each::<Decimal256Type>(array, out, |v, o| {
                let text = v.to_string();
                let digits = text.strip_prefix('-').unwrap_or(&text);
                number::layout_decimal(digits.len() < text.len(), digits.as_bytes(), scale, *trim, o);
            }),
            DataType::Decimal128(_, scale) => {
                each::<Decimal128Type>(array, out, |v, o| number::write_decimal(v, scale, *trim, o));
            }
            ref other => unreachable!("numeric is a decimal in canonical form, not {other}"),
        },
        Rule::Text(_) | Rule::RegName | Rule::Json | Rule::Jsonb | Rule::Enum(_) => write_texts(array, out),
        Rule::Uuid => match array.data_type() {
            DataType::FixedSizeBinary(_) => {
                let array = array.as_fixed_size_binary();
                for row in 0..array.len() {
                    let bytes = array.value(row).try_into().expect("uuids have 16 bytes");
                    push(out, array.is_valid(row), |o| write_uuid(bytes, o));
                }
            }
            _ => write_texts(array, out),
        },
        Rule::Bytea => {
            let array = array.as_binary::<i32>();
            for row in 0..array.len() {
                push(out, array.is_valid(row), |o| {
                    o.extend_from_slice(b"\\x");
                    array.value(row).iter().for_each(|b| write_hex(*b, o));
                });
            }
        }
        Rule::Date => each::<Date32Type>(array, out, datetime::write_date),
        Rule::Time => each::<Time64MicrosecondType>(array, out, datetime::write_time),
        Rule::Timestamp => {
            each::<TimestampMicrosecondType>(array, out, |v, o| datetime::write_timestamp(v, None, o));
        }
        Rule::Timestamptz => {
            each::<TimestampMicrosecondType>(array, out, |v, o| datetime::write_timestamp(v, Some(&style.zone), o));
        }
        Rule::Interval => each::<IntervalMonthDayNanoType>(array, out, interval::write_interval),
        Rule::Array(element) => {
            // An inner array is part of the same literal: not quoted.
            let quote = !matches!(element.rule, Rule::Array(_));
            write_lists(element, array.as_list::<i32>(), style, out, |elements, o| {
                o.push(b'{');
                for (i, element) in elements.enumerate() {
                    if i > 0 {
                        o.push(b',');
                    }
                    match element {
                        None => o.extend_from_slice(b"NULL"),
                        Some(text) if quote => nested::write_element(text, o),
                        Some(text) => o.extend_from_slice(text),
                    }
                }
                o.push(b'}');
            });
        }
        Rule::Vector(element) => {
            write_lists(element, array.as_list::<i32>(), style, out, |elements, o| {
                for (i, element) in elements.enumerate() {
                    if i > 0 {
                        o.push(b' ');
                    }
                    o.extend_from_slice(element.unwrap_or(b"0"));
                }
            });
        }
        Rule::Record(types) => write_records(types, array.as_struct(), style, out),
    }
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

pub(super) fn write_texts(array: &ArrayRef, out: &mut Cells) {
    let array = array.as_string::<i32>();
    for row in 0..array.len() {
        push(out, array.is_valid(row), |o| o.extend_from_slice(array.value(row).as_bytes()));
    }
}

fn write_lists(
    element: &PgType,
    lists: &ListArray,
    style: &Style,
    out: &mut Cells,
    join: impl Fn(&mut dyn Iterator<Item = Option<&[u8]>>, &mut Vec<u8>),
) {
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
    let mut elements = Cells::default();
    write(element, &lists.values().slice(first, last - first), style, &mut elements);
    for row in 0..lists.len() {
        let range = offsets[row] as usize - first..offsets[row + 1] as usize - first;
        push(out, lists.is_valid(row), |o| join(&mut range.map(|i| elements.get(i)), o));
    }
}

fn write_records(types: &[PgType], rows: &StructArray, style: &Style, out: &mut Cells) {
    let columns: Vec<Cells> = (types.iter().zip(rows.columns()))
        .map(|(ty, column)| {
            let mut cells = Cells::default();
            write(ty, column, style, &mut cells);
            cells
        })
        .collect();
    for row in 0..rows.len() {
        push(out, rows.is_valid(row), |o| {
            o.push(b'(');
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    o.push(b',');
                }
                if let Some(text) = column.get(row) {
                    nested::write_field(text, o);
                }
            }
            o.push(b')');
        });
    }
}

/// The one Arrow type in which each rule expects its values. Arrow has many types for what is one type in
/// Postgres (Utf8View, dictionaries, other units of time); one cast per batch brings them together.
pub(super) fn canonical(ty: &PgType, array: &ArrayRef) -> ArrayRef {
    use DataType::*;
    if let Union(..) = array.data_type() {
        return texts_of_union(array.as_union());
    }
    let wanted = match (&ty.rule, array.data_type()) {
        (Rule::Bool, _) => Boolean,
        (Rule::Int2, _) => Int16,
        (Rule::Int4, _) => Int32,
        // An oid kept as a signed integer of 32 bits keeps its bits.
        (Rule::Int8 | Rule::Oid, _) => Int64,
        (Rule::Float4, _) => Float32,
        (Rule::Float8, _) => Float64,
        (Rule::Numeric { .. }, Decimal128(..) | Decimal256(..)) => array.data_type().clone(),
        (Rule::Numeric { .. }, Decimal32(_, s) | Decimal64(_, s)) => Decimal128(38, *s),
        (Rule::Numeric { .. }, Dictionary(_, v)) => v.as_ref().clone(),
        (Rule::Numeric { .. }, RunEndEncoded(_, v)) => v.data_type().clone(),
        (Rule::Numeric { .. }, _) => Decimal128(20, 0),
        (Rule::Uuid, FixedSizeBinary(_)) => array.data_type().clone(),
        (Rule::Text(_) | Rule::RegName | Rule::Json | Rule::Jsonb | Rule::Uuid | Rule::Enum(_), _) => Utf8,
        (Rule::Bytea, _) => Binary,
        (Rule::Date, _) => Date32,
        (Rule::Time, _) => Time64(TimeUnit::Microsecond),
        (Rule::Timestamp, _) => Timestamp(TimeUnit::Microsecond, None),
        (Rule::Timestamptz, Timestamp(_, zone)) => Timestamp(TimeUnit::Microsecond, zone.clone()),
        (Rule::Timestamptz, _) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        (Rule::Interval, _) => Interval(IntervalUnit::MonthDayNano),
        (Rule::Array(_) | Rule::Vector(_), Map(..)) => return Arc::new(ListArray::from(array.as_map().clone())),
        (Rule::Array(_) | Rule::Vector(_), List(_)) | (Rule::Record(_), _) => array.data_type().clone(),
        (Rule::Array(_) | Rule::Vector(_), LargeList(f) | FixedSizeList(f, _) | ListView(f) | LargeListView(f)) => {
            List(f.clone())
        }
        (Rule::Array(_) | Rule::Vector(_), other) => unreachable!("{other} is no list"),
    };
    if *array.data_type() == wanted {
        return array.clone();
    }
    cast(array, &wanted).unwrap_or_else(|e| panic!("{} as {wanted}: {e}", array.data_type()))
}

/// A union (as JSON functions return it) as the text of whichever value each row has.
fn texts_of_union(array: &UnionArray) -> ArrayRef {
    let mut builder = StringBuilder::new();
    let mut cells = Cells::default();
    for row in 0..array.len() {
        let value = array.value(row);
        cells.clear();
        write(&PgType::named(None, value.data_type()), &value, &Style::default(), &mut cells);
        match cells.get(0) {
            Some(text) => builder.append_value(String::from_utf8_lossy(text)),
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}
