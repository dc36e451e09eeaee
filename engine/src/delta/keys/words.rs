//! Native keys: the columns side by side in one word of 64 or 128 bits, the first in the lowest bits.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, NullArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType};

use super::Kind;

/// A key of up to 64 bits; the column itself where that is what it is.
pub(super) fn pack_u64(
    kinds: &[Kind],
    columns: &[ArrayRef],
    nulls: &[Option<NullBuffer>],
    rows: usize,
) -> ScalarBuffer<u64> {
    if let ([Kind::Fixed { bytes: 8 }], [None]) = (kinds, nulls) {
        let data = columns[0].to_data();
        let buffer = &data.buffers()[0];
        if buffer.as_ptr().cast::<u64>().is_aligned() {
            return ScalarBuffer::new(buffer.clone(), data.offset(), rows);
        }
    }
    pack_words::<u64>(kinds, columns, nulls, rows).into()
}

/// The two native keys.
pub(super) trait Word: Copy + Default + std::ops::BitOrAssign {
    fn shifted(value: u64, shift: u32) -> Self;
    fn part(self, shift: u32) -> u64;
    fn from_u128(value: u128) -> Self;
    fn to_u128(self) -> u128;
}
impl Word for u64 {
    #[inline(always)]
    fn shifted(value: u64, shift: u32) -> u64 {
        value << shift
    }
    #[inline(always)]
    fn part(self, shift: u32) -> u64 {
        self >> shift
    }
    fn from_u128(_: u128) -> u64 {
        unreachable!("a 16-byte column makes a U128 key")
    }
    fn to_u128(self) -> u128 {
        self as u128
    }
}
impl Word for u128 {
    #[inline(always)]
    fn shifted(value: u64, shift: u32) -> u128 {
        (value as u128) << shift
    }
    #[inline(always)]
    fn part(self, shift: u32) -> u64 {
        (self >> shift) as u64
    }
    #[inline(always)]
    fn from_u128(value: u128) -> u128 {
        value
    }
    #[inline(always)]
    fn to_u128(self) -> u128 {
        self
    }
}

/// Columns side by side in a word, the first in the lowest bits.
pub(super) fn pack_words<W: Word>(
    kinds: &[Kind],
    columns: &[ArrayRef],
    nulls: &[Option<NullBuffer>],
    rows: usize,
) -> Vec<W> {
    let mut words = vec![W::default(); rows];
    let mut shift = 0;
    for ((kind, column), nulls) in kinds.iter().zip(columns).zip(nulls) {
        let (words, nulls, data) = (&mut words[..], nulls.as_ref(), column.to_data());
        match kind {
            Kind::Null => {}
            Kind::Bool => {
                let values = column.as_boolean().values();
                put(words, nulls, |row| W::shifted(values.value(row) as u64, shift))
            }
            Kind::Fixed { bytes: 1 } => put_raw::<W, 1>(words, nulls, &data, |v| W::shifted(v[0] as u64, shift)),
            Kind::Fixed { bytes: 2 } => {
                put_raw(words, nulls, &data, |v| W::shifted(u16::from_le_bytes(v) as u64, shift))
            }
            Kind::Fixed { bytes: 4 } => {
                put_raw(words, nulls, &data, |v| W::shifted(u32::from_le_bytes(v) as u64, shift))
            }
            Kind::Fixed { bytes: 8 } => put_raw(words, nulls, &data, |v| W::shifted(u64::from_le_bytes(v), shift)),
            Kind::Fixed { .. } => put_raw(words, nulls, &data, |v| W::from_u128(u128::from_le_bytes(v))),
            Kind::Float32 => put_raw(words, nulls, &data, |v| W::shifted(float32_bits(v) as u64, shift)),
            Kind::Float64 => put_raw(words, nulls, &data, |v| W::shifted(float64_bits(v), shift)),
            Kind::Var | Kind::Row(_) => unreachable!("native forms hold only fixed-width columns"),
        }
        shift += 8 * kind.width().expect("fixed") as u32;
    }
    words
}

pub(super) fn unpack_words<W: Word>(
    kinds: &[Kind],
    types: &[DataType],
    words: &[W],
    nulls: impl Fn(usize) -> Option<NullBuffer>,
    rows: usize,
) -> Vec<ArrayRef> {
    let mut shift = 0;
    let mut columns = Vec::with_capacity(kinds.len());
    for (i, (kind, data_type)) in kinds.iter().zip(types).enumerate() {
        let width = kind.width().expect("native forms hold only fixed-width columns");
        columns.push(match width {
            0 => Arc::new(NullArray::new(rows)) as ArrayRef,
            _ if matches!(kind, Kind::Bool) => {
                let values = BooleanBuffer::collect_bool(rows, |row| words[row].part(shift) as u8 != 0);
                Arc::new(BooleanArray::new(values, nulls(i)))
            }
            1 => fixed_array(data_type, words.iter().map(|w| w.part(shift) as u8).collect(), rows, nulls(i)),
            2 => fixed_array(data_type, words.iter().map(|w| w.part(shift) as u16).collect(), rows, nulls(i)),
            4 => fixed_array(data_type, words.iter().map(|w| w.part(shift) as u32).collect(), rows, nulls(i)),
            8 => fixed_array(data_type, words.iter().map(|w| w.part(shift)).collect(), rows, nulls(i)),
            _ => fixed_array(data_type, words.iter().map(|w| w.to_u128()).collect(), rows, nulls(i)),
        });
        shift += 8 * width as u32;
    }
    columns
}

/// Adds a column's part to each word, but for its NULLs.
#[inline(always)]
fn put<W: Word>(words: &mut [W], nulls: Option<&NullBuffer>, value: impl Fn(usize) -> W) {
    match nulls {
        None => words.iter_mut().enumerate().for_each(|(row, word)| *word |= value(row)),
        Some(nulls) => nulls.valid_indices().for_each(|row| words[row] |= value(row)),
    }
}

#[inline(always)]
fn put_raw<W: Word, const N: usize>(
    words: &mut [W],
    nulls: Option<&NullBuffer>,
    data: &ArrayData,
    value: impl Fn([u8; N]) -> W,
) {
    let raw = &data.buffers()[0].as_chunks::<N>().0[data.offset()..][..words.len()];
    put(words, nulls, |row| value(raw[row]))
}

fn float32_bits(bytes: [u8; 4]) -> u32 {
    let value = f32::from_le_bytes(bytes);
    if value == 0.0 {
        0
    } else if value.is_nan() {
        f32::NAN.to_bits()
    } else {
        value.to_bits()
    }
}
fn float64_bits(bytes: [u8; 8]) -> u64 {
    let value = f64::from_le_bytes(bytes);
    if value == 0.0 {
        0
    } else if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

/// Bit i of a row's mask: its column i is NULL.
pub(super) fn masks(nulls: &[Option<NullBuffer>], rows: usize) -> Vec<u8> {
    let mut masks = vec![0u8; rows];
    for (i, nulls) in nulls.iter().enumerate() {
        let Some(nulls) = nulls else { continue };
        masks.iter_mut().enumerate().for_each(|(row, mask)| *mask |= (nulls.is_null(row) as u8) << i);
    }
    masks
}

fn fixed_array<T: ArrowNativeType>(
    data_type: &DataType,
    values: Vec<T>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let data = ArrayData::builder(data_type.clone()).len(rows).add_buffer(Buffer::from_vec(values)).nulls(nulls);
    make_array(data.build().expect("as many values of the type's width as rows"))
}
