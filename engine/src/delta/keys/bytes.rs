//! Keys of bytes: a text as it is, or several columns packed one after the other.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{BinaryType, BinaryViewType, LargeBinaryType, LargeUtf8Type, StringViewType, Utf8Type};
use arrow::datatypes::{ByteArrayType, ByteViewType, DataType};
use arrow::row::RowConverter;

use super::words::{pack_words, unpack_words};
use super::{ByteKeys, KeyEncoder, Kind};

impl KeyEncoder {
    /// Per row: NULL bits, fixed-width columns (zeros where NULL), then length and bytes of each other
    /// column. One pass per column over all rows, each row with its own write position.
    pub(super) fn pack_bytes(&self, columns: &[ArrayRef], nulls: &[Option<NullBuffer>], rows: usize) -> ByteKeys {
        let var: Vec<Option<ByteKeys>> = self
            .kinds
            .iter()
            .zip(columns)
            .zip(nulls)
            .map(|((kind, column), nulls)| match kind {
                Kind::Var => Some(raw_bytes(column, nulls.as_ref())),
                Kind::Row(converter) => Some(row_bytes(converter, column)),
                _ => None,
            })
            .collect();
        let mask_bytes = self.kinds.len().div_ceil(8);
        let base: usize = mask_bytes + self.kinds.iter().map(|k| k.width().unwrap_or(4)).sum::<usize>();
        let mut lengths = vec![base; rows];
        for bytes in var.iter().flatten() {
            lengths.iter_mut().zip(bytes.offsets.lengths()).for_each(|(length, n)| *length += n);
        }
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let mut data = vec![0u8; offsets[rows] as usize];
        let mut positions: Vec<usize> = offsets[..rows].iter().map(|start| *start as usize + mask_bytes).collect();
        for (i, nulls) in nulls.iter().enumerate() {
            let Some(nulls) = nulls else { continue };
            for row in (0..rows).filter(|row| nulls.is_null(*row)) {
                data[offsets[row] as usize + i / 8] |= 1 << (i % 8);
            }
        }
        // Fixed-width columns first, through the word that a key of their own would be.
        for (i, kind) in self.kinds.iter().enumerate() {
            let Some(width) = kind.width().filter(|width| *width > 0) else { continue };
            let words: Vec<u128> = pack_words(&self.kinds[i..=i], &columns[i..=i], &nulls[i..=i], rows);
            for (position, word) in positions.iter_mut().zip(words) {
                data[*position..*position + width].copy_from_slice(&word.to_le_bytes()[..width]);
                *position += width;
            }
        }
        for bytes in var.iter().flatten() {
            for (row, position) in positions.iter_mut().enumerate() {
                let value = bytes.get(row);
                data[*position..*position + 4].copy_from_slice(&(value.len() as u32).to_le_bytes());
                data[*position + 4..*position + 4 + value.len()].copy_from_slice(value);
                *position += 4 + value.len();
            }
        }
        ByteKeys { offsets, data: data.into() }
    }

    pub(super) fn unpack_bytes(&self, keys: &ByteKeys, rows: usize) -> Vec<ArrayRef> {
        let mask_bytes = self.kinds.len().div_ceil(8);
        let mut positions: Vec<usize> = keys.offsets[..rows].iter().map(|start| *start as usize + mask_bytes).collect();
        let nulls = |i: usize| {
            let null = |row: usize| keys.data[keys.offsets[row] as usize + i / 8] & 1 << (i % 8) != 0;
            Some(NullBuffer::new(BooleanBuffer::collect_bool(rows, |row| !null(row)))).filter(|n| n.null_count() > 0)
        };
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.kinds.len()];
        for (i, kind) in self.kinds.iter().enumerate() {
            let Some(width) = kind.width() else { continue };
            let word = |position: &mut usize| {
                let mut bytes = [0; 16];
                bytes[..width].copy_from_slice(&keys.data[*position..*position + width]);
                *position += width;
                u128::from_le_bytes(bytes)
            };
            let words: Vec<u128> = positions.iter_mut().map(word).collect();
            columns[i] = unpack_words(&self.kinds[i..=i], &self.types[i..=i], &words, |_| nulls(i), rows).pop();
        }
        for (i, kind) in self.kinds.iter().enumerate().filter(|(_, kind)| kind.width().is_none()) {
            let mut data = Vec::new();
            let mut lengths = Vec::with_capacity(rows);
            for position in &mut positions {
                let length = u32::from_le_bytes(keys.data[*position..*position + 4].try_into().expect("four bytes"));
                data.extend_from_slice(&keys.data[*position + 4..*position + 4 + length as usize]);
                lengths.push(length as usize);
                *position += 4 + length as usize;
            }
            columns[i] = Some(match kind {
                Kind::Row(converter) => row_array(converter, &self.types[i], &lengths, &data),
                _ => var_array(&self.types[i], OffsetBuffer::from_lengths(lengths), data.into(), nulls(i)),
            });
        }
        columns.into_iter().map(|column| column.expect("each column is of fixed or variable width")).collect()
    }
}

/// The bytes of a text or binary column; NULLs are empty.
pub(crate) fn raw_bytes(column: &ArrayRef, nulls: Option<&NullBuffer>) -> ByteKeys {
    fn share<T: ByteArrayType<Offset = i32>>(column: &ArrayRef) -> ByteKeys {
        let array = column.as_bytes::<T>();
        ByteKeys { offsets: array.offsets().clone(), data: array.values().clone() }
    }
    fn copy<'a>(rows: usize, nulls: Option<&NullBuffer>, value: impl Fn(usize) -> &'a [u8]) -> ByteKeys {
        let mut data = Vec::new();
        let lengths = (0..rows).map(|row| {
            let value = if nulls.is_some_and(|n| n.is_null(row)) { &[] } else { value(row) };
            data.extend_from_slice(value);
            value.len()
        });
        ByteKeys { offsets: OffsetBuffer::from_lengths(lengths.collect::<Vec<_>>()), data: data.into() }
    }
    fn view<T: ByteViewType>(column: &ArrayRef, nulls: Option<&NullBuffer>) -> ByteKeys {
        let array = column.as_byte_view::<T>();
        copy(array.len(), nulls, |row| array.value(row).as_ref())
    }
    fn bytes<T: ByteArrayType>(column: &ArrayRef, nulls: Option<&NullBuffer>) -> ByteKeys {
        let array = column.as_bytes::<T>();
        copy(array.len(), nulls, |row| array.value(row).as_ref())
    }
    match (column.data_type(), nulls) {
        (DataType::Utf8, None) => share::<Utf8Type>(column),
        (DataType::Binary, None) => share::<BinaryType>(column),
        // What lies under a NULL may not be empty.
        (DataType::Utf8, _) => bytes::<Utf8Type>(column, nulls),
        (DataType::Binary, _) => bytes::<BinaryType>(column, nulls),
        (DataType::LargeUtf8, _) => bytes::<LargeUtf8Type>(column, nulls),
        (DataType::LargeBinary, _) => bytes::<LargeBinaryType>(column, nulls),
        (DataType::Utf8View, _) => view::<StringViewType>(column, nulls),
        (DataType::BinaryView, _) => view::<BinaryViewType>(column, nulls),
        (other, _) => unreachable!("{other} is not a text or binary type"),
    }
}

pub(crate) fn var_array(
    data_type: &DataType,
    offsets: OffsetBuffer<i32>,
    data: Buffer,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let array: ArrayRef = match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            // SAFETY: the bytes are those of strings of a text column, cut where that column cut them.
            Arc::new(unsafe { StringArray::new_unchecked(offsets, data, nulls) })
        }
        _ => Arc::new(BinaryArray::new(offsets, data, nulls)),
    };
    cast(array, data_type)
}

/// Each value of a nested column as arrow-row writes it, its NULLs included.
fn row_bytes(converter: &RowConverter, column: &ArrayRef) -> ByteKeys {
    let rows = converter.convert_columns(std::slice::from_ref(column)).expect("the column has the converter's type");
    let mut data = Vec::with_capacity(rows.size());
    rows.iter().for_each(|row| data.extend_from_slice(row.data()));
    ByteKeys { offsets: OffsetBuffer::from_lengths(rows.iter().map(|row| row.data().len())), data: data.into() }
}

fn row_array(converter: &RowConverter, data_type: &DataType, lengths: &[usize], data: &[u8]) -> ArrayRef {
    let parser = converter.parser();
    let mut start = 0;
    let rows = lengths.iter().map(|length| {
        start += length;
        parser.parse(&data[start - length..start])
    });
    let mut columns = converter.convert_rows(rows).expect("these bytes came from this converter");
    cast(columns.pop().expect("one column"), data_type)
}

/// To the very type: arrow-row returns dictionaries unpacked, and strings are built as Utf8.
fn cast(array: ArrayRef, data_type: &DataType) -> ArrayRef {
    if array.data_type() == data_type {
        return array;
    }
    arrow::compute::cast(&array, data_type).expect("a cast between forms of one type")
}
