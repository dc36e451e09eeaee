//! The order of a top-k's rows: sixteen bytes that nearly always decide, and all of the row where they do not.
//!
//! ```text
//!   ORDER BY price DESC, date_time          prefix  01 | ~price, 8 bytes | 01 | date_time, its first 6 bytes
//! ```
//!
//! Prefixes compare as the order does; of equal ones nothing is known. Rows that the order leaves equal are put in the
//! order of the whole row, so that lists are a function of the rows alone.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::*;
use arrow::row::{RowConverter, Rows, SortField};

use crate::error::{Error, Result};
use crate::state::arrangement::Arrangement;

/// Compares as the order does, as far as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix([u64; 2]);

const PREFIX_BYTES: usize = 16;

pub struct Order {
    columns: Vec<(usize, SortOptions)>,
    /// The order's columns, then all columns.
    of_row: RowConverter,
    of_order: RowConverter,
    /// Rows of one prefix are equal in the order.
    is_exact: bool,
}

/// Rows as bytes that compare as the order and then the whole row do.
pub struct Places {
    /// `None`: rows without columns, which are equal.
    rows: Option<Rows>,
    by_position: HashMap<u32, usize>,
}

impl Places {
    pub fn of(&self, position: u32) -> &[u8] {
        self.rows.as_ref().map_or(&[], |rows| rows.row(self.by_position[&position]).data())
    }
}

impl Order {
    /// Error: 0A000 when a column cannot be ordered.
    pub fn new(columns: &[(usize, SortOptions)], input: &SchemaRef) -> Result<Order> {
        let refused = |_| Error::unsupported("an order of rows with a column of this type in a materialized view");
        let data_type = |column: usize| input.field(column).data_type().clone();
        let ordered = columns.iter().map(|(c, options)| SortField::new_with_options(data_type(*c), *options));
        let ordered: Vec<SortField> = ordered.collect();
        let whole = input.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let of_row = RowConverter::new(ordered.iter().cloned().chain(whole).collect()).map_err(refused)?;
        let widths = columns.iter().map(|(c, _)| width(&data_type(*c)).filter(|_| !is_cut(&data_type(*c))));
        let total: Option<usize> = widths.map(|width| width.map(|width| 1 + width)).sum();
        Ok(Order {
            columns: columns.to_vec(),
            of_row,
            of_order: RowConverter::new(ordered).map_err(refused)?,
            is_exact: total.is_some_and(|bytes| bytes <= PREFIX_BYTES),
        })
    }

    /// The columns that prefixes are made of.
    pub fn columns(&self) -> Vec<usize> {
        self.columns.iter().map(|(column, _)| *column).collect()
    }

    pub fn prefixes(&self, rows: &RecordBatch) -> Vec<Prefix> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|(c, _)| rows.column(*c).clone()).collect();
        self.prefixes_of(&columns, rows.num_rows())
    }

    /// `columns`: the order's.
    pub fn prefixes_of(&self, columns: &[ArrayRef], rows: usize) -> Vec<Prefix> {
        let mut prefixes = vec![0u128; rows];
        let mut used = 0;
        for (column, (_, options)) in columns.iter().zip(&self.columns) {
            if used >= PREFIX_BYTES {
                break;
            }
            let nulls = column.logical_nulls();
            let null = if options.nulls_first { 0 } else { 2 };
            let shift = 8 * (PREFIX_BYTES - used - 1);
            match &nulls {
                None => prefixes.iter_mut().for_each(|prefix| *prefix |= 1 << shift),
                Some(nulls) => {
                    let marks = nulls.iter().map(|valid| if valid { 1 } else { null });
                    prefixes.iter_mut().zip(marks).for_each(|(prefix, mark)| *prefix |= mark << shift);
                }
            }
            used += 1;
            let Some(width) = width(column.data_type()) else { break };
            add(&mut prefixes, column, options.descending, used);
            used += width;
            if is_cut(column.data_type()) {
                break;
            }
        }
        prefixes.into_iter().map(|prefix| Prefix([(prefix >> 64) as u64, prefix as u64])).collect()
    }

    /// The rows at `positions` in full.
    pub fn places(&self, rows: &Arrangement, positions: &[u32]) -> Result<Places> {
        let batch = rows.rows_at(positions);
        let ordered = self.columns.iter().map(|(c, _)| batch.column(*c).clone());
        let columns: Vec<ArrayRef> = ordered.chain(batch.columns().iter().cloned()).collect();
        let rows = match columns.is_empty() {
            true => None,
            false => Some(self.of_row.convert_columns(&columns).map_err(Error::internal)?),
        };
        Ok(Places { rows, by_position: positions.iter().copied().zip(0..).collect() })
    }

    /// For each row whether it is equal in the order to the one before it. `prefixes` are those of the rows at `positions`,
    /// which are in order.
    pub fn peers(&self, rows: &Arrangement, positions: &[u32], prefixes: &[Prefix]) -> Result<Vec<bool>> {
        let same = |i: usize| i > 0 && prefixes[i] == prefixes[i - 1];
        let mut peers: Vec<bool> = (0..positions.len()).map(same).collect();
        if self.is_exact || !peers.contains(&true) {
            return Ok(peers);
        }
        let unsure: Vec<usize> =
            (0..peers.len()).filter(|&i| peers[i] || peers.get(i + 1).is_some_and(|next| *next)).collect();
        let at: Vec<u32> = unsure.iter().map(|&i| positions[i]).collect();
        let places = self.of_order.convert_columns(&rows.columns_at(&self.columns(), &at)).map_err(Error::internal)?;
        for (n, &i) in unsure.iter().enumerate() {
            if peers[i] {
                peers[i] = places.row(n) == places.row(n - 1);
            }
        }
        Ok(peers)
    }
}

/// Bytes of a value in a prefix; `None`: nothing but whether it is NULL.
fn width(data_type: &DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Boolean | DataType::Int8 | DataType::UInt8 => 1,
        DataType::Int16 | DataType::UInt16 => 2,
        DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date32 => 4,
        DataType::Int64 | DataType::UInt64 | DataType::Float64 => 8,
        DataType::Time64(TimeUnit::Microsecond) | DataType::Timestamp(TimeUnit::Microsecond, _) => 8,
        DataType::Decimal128(..) | DataType::Utf8 | DataType::Binary => PREFIX_BYTES,
        _ => return None,
    })
}

/// Values may be longer than what a prefix has room for, whatever stands before them.
fn is_cut(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary)
}

/// Puts a column's values behind the first `used` bytes.
fn add(prefixes: &mut [u128], column: &ArrayRef, descending: bool, used: usize) {
    macro_rules! signed {
        ($t:ty, $unsigned:ty) => {{
            let values = column.as_primitive::<$t>().values();
            const SIGN: $unsigned = 1 << (<$unsigned>::BITS - 1);
            let value = |row: usize| u128::from(values[row] as $unsigned ^ SIGN);
            put(prefixes, column, descending, used, size_of::<$unsigned>(), value);
        }};
    }
    macro_rules! unsigned {
        ($t:ty, $unsigned:ty) => {{
            let values = column.as_primitive::<$t>().values();
            put(prefixes, column, descending, used, size_of::<$unsigned>(), |row| u128::from(values[row]));
        }};
    }
    macro_rules! float {
        ($t:ty, $bits:ty) => {{
            let values = column.as_primitive::<$t>().values();
            const SIGN: $bits = 1 << (<$bits>::BITS - 1);
            let value = |row: usize| {
                let bits = values[row].to_bits();
                u128::from(if bits & SIGN == 0 { bits ^ SIGN } else { !bits })
            };
            put(prefixes, column, descending, used, size_of::<$bits>(), value);
        }};
    }
    match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            put(prefixes, column, descending, used, 1, |row| values.value(row).into());
        }
        DataType::Int8 => signed!(Int8Type, u8),
        DataType::Int16 => signed!(Int16Type, u16),
        DataType::Int32 => signed!(Int32Type, u32),
        DataType::Int64 => signed!(Int64Type, u64),
        DataType::UInt8 => unsigned!(UInt8Type, u8),
        DataType::UInt16 => unsigned!(UInt16Type, u16),
        DataType::UInt32 => unsigned!(UInt32Type, u32),
        DataType::UInt64 => unsigned!(UInt64Type, u64),
        DataType::Float32 => float!(Float32Type, u32),
        DataType::Float64 => float!(Float64Type, u64),
        DataType::Decimal128(..) => signed!(Decimal128Type, u128),
        DataType::Date32 => signed!(Date32Type, u32),
        DataType::Time64(_) => signed!(Time64MicrosecondType, u64),
        DataType::Timestamp(..) => signed!(TimestampMicrosecondType, u64),
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            put(prefixes, column, descending, used, PREFIX_BYTES, |row| start(values.value(row).as_bytes()));
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            put(prefixes, column, descending, used, PREFIX_BYTES, |row| start(values.value(row)));
        }
        other => unreachable!("{other} has no width in a prefix"),
    }
}

/// The first bytes as a number, with zeros behind them.
fn start(bytes: &[u8]) -> u128 {
    let mut start = [0; PREFIX_BYTES];
    let length = bytes.len().min(PREFIX_BYTES);
    start[..length].copy_from_slice(&bytes[..length]);
    u128::from_be_bytes(start)
}

/// `value`: of a row, as a number of `width` bytes.
fn put(
    prefixes: &mut [u128],
    column: &ArrayRef,
    descending: bool,
    used: usize,
    width: usize,
    value: impl Fn(usize) -> u128,
) {
    let all = if width == PREFIX_BYTES { u128::MAX } else { (1 << (8 * width)) - 1 };
    let flipped = if descending { all } else { 0 };
    let (left, nulls) = (PREFIX_BYTES - used, column.nulls());
    for (row, prefix) in prefixes.iter_mut().enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            continue;
        }
        let value = value(row) ^ flipped;
        *prefix |= match left >= width {
            true => value << (8 * (left - width)),
            false => value >> (8 * (width - left)),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::*;

    use super::*;

    /// Whatever two rows have different prefixes, these compare as the rows do.
    #[test]
    fn prefixes_compare_as_rows_do() {
        let doubles = [Some(f64::NAN), Some(-0.0), Some(0.0), None, Some(f64::NEG_INFINITY), Some(1.5), Some(-1.5)];
        let texts = [
            Some("b"),
            Some("a"),
            Some(""),
            None,
            Some("a longer text than fits"),
            Some("a longer text th"),
            Some("é"),
        ];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), None, Some(true), Some(false), None])),
            Arc::new(Int16Array::from(vec![Some(-1), Some(3), None, Some(i16::MIN), Some(i16::MAX), Some(0), Some(1)])),
            Arc::new(Int64Array::from(vec![Some(-1), Some(3), None, Some(i64::MIN), Some(i64::MAX), Some(0), Some(1)])),
            Arc::new(UInt64Array::from(vec![Some(9), Some(3), None, Some(0), Some(u64::MAX), Some(0), Some(1)])),
            Arc::new(Float64Array::from(doubles.to_vec())),
            Arc::new(Decimal128Array::from(vec![Some(-1), Some(3), None, Some(i128::MAX), Some(0), Some(-5), Some(1)])),
            Arc::new(StringArray::from(texts.to_vec())),
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(-1),
                Some(3),
                None,
                Some(7),
                Some(8),
                Some(0),
                Some(1),
            ])),
        ];
        let fields = columns.iter().map(|c| Field::new("c", c.data_type().clone(), true)).collect::<Vec<_>>();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        for first in 0..rows.num_columns() {
            for second in (0..rows.num_columns()).filter(|second| *second != first) {
                for bits in 0..16 {
                    let options = |bits: u8| SortOptions { descending: bits & 1 > 0, nulls_first: bits & 2 > 0 };
                    let columns = [(first, options(bits)), (second, options(bits >> 2))];
                    let order = Order::new(&columns, &rows.schema()).unwrap();
                    let ordered: Vec<ArrayRef> = columns.iter().map(|(c, _)| rows.column(*c).clone()).collect();
                    let (prefixes, places) = (order.prefixes(&rows), order.of_order.convert_columns(&ordered).unwrap());
                    for (a, b) in (0..rows.num_rows()).flat_map(|a| (0..rows.num_rows()).map(move |b| (a, b))) {
                        let by_prefix = prefixes[a].cmp(&prefixes[b]);
                        let by_row = places.row(a).cmp(&places.row(b));
                        assert!(by_prefix == by_row || by_prefix.is_eq() && !order.is_exact, "{columns:?} {a} {b}");
                    }
                }
            }
        }
    }
}
