//! Values as integers or bytes of the same order, for min and max:
//!
//! ```text
//!   bigint  −2      ──►  0x7fff…fffe      sign bit flipped
//!   double  −0.5    ──►  0x401f…ffff      negative: all bits flipped; else the sign bit; NaN greatest
//!   uuid, numeric   ──►  128 bits
//!   text            ──►  its bytes (collation "C")
//! ```
//!
//! −0 becomes 0 and every NaN the same one, as in keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;

use crate::delta::keys::{ByteKeys, raw_bytes, var_array};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    U64,
    U128,
    Bytes,
}

/// How values of this type are ordered. Error: 0A000 for types without an order here.
pub fn order_of(data_type: &DataType) -> Result<Order> {
    use DataType::*;
    Ok(match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32 | Float64 => Order::U64,
        Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..) | Duration(_) => Order::U64,
        Decimal128(..) | FixedSizeBinary(16) => Order::U128,
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => Order::Bytes,
        other => return Err(Error::unsupported(format!("min or max of {other}"))),
    })
}

const SIGN: u64 = 1 << 63;
const SIGN_128: u128 = 1 << 127;

/// One number per row; anything for NULLs. For types of [`Order::U64`].
pub fn to_u64(array: &ArrayRef) -> Vec<u64> {
    use DataType::*;
    if let Boolean = array.data_type() {
        return array.as_boolean().values().iter().map(u64::from).collect();
    }
    let data = array.to_data();
    match array.data_type() {
        UInt8 => raw::<1>(&data).map(|v| v[0] as u64).collect(),
        UInt16 => raw(&data).map(|v| u16::from_le_bytes(v) as u64).collect(),
        UInt32 => raw(&data).map(|v| u32::from_le_bytes(v) as u64).collect(),
        UInt64 => raw(&data).map(u64::from_le_bytes).collect(),
        Float32 => raw(&data).map(|v| float_to_u64(f32::from_le_bytes(v) as f64)).collect(),
        Float64 => raw(&data).map(|v| float_to_u64(f64::from_le_bytes(v))).collect(),
        Int8 => raw::<1>(&data).map(|v| v[0] as i8 as u64 ^ SIGN).collect(),
        Int16 => raw(&data).map(|v| i16::from_le_bytes(v) as u64 ^ SIGN).collect(),
        Int32 | Date32 | Time32(_) => raw(&data).map(|v| i32::from_le_bytes(v) as u64 ^ SIGN).collect(),
        _ => raw(&data).map(|v| u64::from_le_bytes(v) ^ SIGN).collect(),
    }
}

pub fn from_u64(data_type: &DataType, values: &[u64], nulls: Option<NullBuffer>) -> ArrayRef {
    use DataType::*;
    let signed = || values.iter().map(|v| (v ^ SIGN) as i64);
    let buffer = match data_type {
        Boolean => {
            let bits = BooleanBuffer::collect_bool(values.len(), |i| values[i] != 0);
            return Arc::new(BooleanArray::new(bits, nulls));
        }
        UInt8 => Buffer::from_vec(values.iter().map(|v| *v as u8).collect()),
        UInt16 => Buffer::from_vec(values.iter().map(|v| *v as u16).collect()),
        UInt32 => Buffer::from_vec(values.iter().map(|v| *v as u32).collect()),
        UInt64 => Buffer::from_vec(values.to_vec()),
        Float32 => Buffer::from_vec(values.iter().map(|v| float_from_u64(*v) as f32).collect()),
        Float64 => Buffer::from_vec(values.iter().map(|v| float_from_u64(*v)).collect()),
        Int8 => Buffer::from_vec(signed().map(|v| v as i8).collect()),
        Int16 => Buffer::from_vec(signed().map(|v| v as i16).collect()),
        Int32 | Date32 | Time32(_) => Buffer::from_vec(signed().map(|v| v as i32).collect()),
        _ => Buffer::from_vec(signed().collect()),
    };
    fixed(data_type, buffer, values.len(), nulls)
}

/// The same for types of [`Order::U128`].
pub fn to_u128(array: &ArrayRef) -> Vec<u128> {
    let data = array.to_data();
    match array.data_type() {
        DataType::FixedSizeBinary(_) => raw(&data).map(u128::from_be_bytes).collect(),
        _ => raw(&data).map(|v| u128::from_le_bytes(v) ^ SIGN_128).collect(),
    }
}

pub fn from_u128(data_type: &DataType, values: &[u128], nulls: Option<NullBuffer>) -> ArrayRef {
    let buffer = match data_type {
        DataType::FixedSizeBinary(_) => {
            Buffer::from_vec(values.iter().flat_map(|v| v.to_be_bytes()).collect::<Vec<u8>>())
        }
        _ => Buffer::from_vec(values.iter().map(|v| (v ^ SIGN_128) as i128).collect()),
    };
    fixed(data_type, buffer, values.len(), nulls)
}

/// The same for types of [`Order::Bytes`]; empty for NULLs.
pub fn to_bytes(array: &ArrayRef) -> ByteKeys {
    raw_bytes(array, array.nulls())
}

pub fn from_bytes<'a>(data_type: &DataType, values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
    let mut data = Vec::new();
    let mut lengths = Vec::new();
    let mut valid = Vec::new();
    for value in values {
        data.extend_from_slice(value.unwrap_or_default());
        lengths.push(value.map_or(0, <[u8]>::len));
        valid.push(value.is_some());
    }
    let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
    var_array(data_type, OffsetBuffer::from_lengths(lengths), data.into(), nulls)
}

fn raw<const N: usize>(data: &ArrayData) -> impl Iterator<Item = [u8; N]> {
    data.buffers()[0].as_chunks::<N>().0[data.offset()..][..data.len()].iter().copied()
}

fn fixed(data_type: &DataType, buffer: Buffer, rows: usize, nulls: Option<NullBuffer>) -> ArrayRef {
    let data = ArrayData::builder(data_type.clone()).len(rows).add_buffer(buffer).nulls(nulls);
    make_array(data.build().expect("as many values of the type's width as rows"))
}

fn float_to_u64(value: f64) -> u64 {
    let bits = if value == 0.0 {
        0
    } else if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    };
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn float_from_u64(value: u64) -> f64 {
    f64::from_bits(if value & SIGN == 0 { !value } else { value ^ SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;

    /// Ascending values: their numbers ascend, and come back.
    fn check(array: impl Array + 'static) {
        let array: ArrayRef = Arc::new(array);
        let data_type = array.data_type();
        let back = match order_of(data_type).unwrap() {
            Order::U64 => {
                let numbers = to_u64(&array);
                assert!(numbers.is_sorted_by(|a, b| a < b), "{data_type} {numbers:?}");
                from_u64(data_type, &numbers, None)
            }
            Order::U128 => {
                let numbers = to_u128(&array);
                assert!(numbers.is_sorted_by(|a, b| a < b), "{data_type} {numbers:?}");
                from_u128(data_type, &numbers, None)
            }
            Order::Bytes => {
                let bytes = to_bytes(&array);
                let values: Vec<&[u8]> = (0..array.len()).map(|i| bytes.get(i)).collect();
                assert!(values.is_sorted_by(|a, b| a < b), "{data_type} {values:?}");
                from_bytes(data_type, values.iter().map(|v| Some(*v)))
            }
        };
        assert_eq!(&back, &array);
    }

    #[test]
    fn order_is_kept() {
        check(BooleanArray::from(vec![false, true]));
        check(Int8Array::from(vec![i8::MIN, -1, 0, 1, i8::MAX]));
        check(Int16Array::from(vec![i16::MIN, -1, 0, 1, i16::MAX]));
        check(Int64Array::from(vec![i64::MIN, -1, 0, 1, i64::MAX]));
        check(UInt32Array::from(vec![0, 1, u32::MAX]));
        check(Date32Array::from(vec![-1, 0, 1]));
        check(TimestampMicrosecondArray::from(vec![-1, 0, 1]).with_timezone("UTC"));
        check(Float32Array::from(vec![f32::NEG_INFINITY, -1.5, 0.0, 1e-40, 2.0, f32::INFINITY, f32::NAN]));
        check(Float64Array::from(vec![f64::NEG_INFINITY, -1.5, 0.0, 5e-324, 2.0, f64::INFINITY, f64::NAN]));
        check(Decimal128Array::from(vec![-(1 << 100), -1, 0, 1, 1 << 100]).with_precision_and_scale(38, 2).unwrap());
        let uuids = [[0u8; 16], [1; 16], [255; 16]];
        check(FixedSizeBinaryArray::try_from_iter(uuids.iter()).unwrap());
        check(StringArray::from(vec!["", "a", "ab", "b", "ä"]));
        check(StringViewArray::from(vec!["", "a", "ab", "b", "ä"]));
        check(BinaryArray::from(vec![&b""[..], b"\0", b"\xff"]));
    }

    #[test]
    fn zeros_and_nans_are_one() {
        assert_eq!(float_to_u64(-0.0), float_to_u64(0.0));
        assert_eq!(float_to_u64(-f64::NAN), float_to_u64(f64::NAN));
        assert!(order_of(&DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano)).is_err());
    }
}
