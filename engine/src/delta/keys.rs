//! Keys: some columns of a row, as one value that can be hashed, compared and stored. They are made
//! once per batch, here and nowhere else, and made back into columns here.
//!
//! ```text
//!   types              form    key
//!   (int)              U64     zero-extended bits, without a copy for 64-bit columns
//!   (int, int)         U64     up to 8 columns that fit into 64 bits side by side
//!   (bigint, date)     U128    … into 128 bits; one numeric or uuid too
//!   (text)             Raw     the text's own bytes, without a copy for Utf8 columns
//!   (text, int)        Packed  NULL bits, fixed-width columns, then length and bytes of each other one
//!   ()                 U64     0: one key, for aggregates without GROUP BY
//! ```
//!
//! The form follows from the TYPES alone, so equal keys have equal forms and hashes in every batch,
//! worker and restart. NULL equals NULL (whoever wants SQL's `=` leaves out the rows of
//! [`KeyBatch::any_null`]); −0 equals 0 and NaN equals NaN, and come back as 0 and the one NaN.
//!
//! In `Packed` the NULL bits are part of the bytes. In the other forms a NULL column counts as zero and
//! its bit changes the HIGH half of the hash ([`hash_with_nulls`]): two keys are equal exactly when
//! their values and the high 32 bits of their hashes are equal, which is what a hash table compares
//! anyway. So NULLs cost nothing where there are none.
//!
//! Limits: arrays, structs and other nested columns go through arrow-row, where −0 differs from 0
//! inside a list; the bytes of all keys of one batch stay under 2 GB.

mod bytes;
mod words;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, IntervalUnit};
use arrow::row::{RowConverter, SortField};

pub(crate) use self::bytes::{raw_bytes, var_array};
use self::words::{masks, pack_u64, pack_words, unpack_words};
pub use super::hash::route;
use super::hash::{hash_bytes, hash_u64, hash_u128, hash_with_nulls};
use crate::error::{Error, Result};

/// The keys of a batch's rows, in their order.
#[derive(Debug, Clone)]
pub struct KeyBatch {
    pub hashes: Vec<u64>,
    /// True where some key column is NULL; `None` when there is no such row. Such rows never join.
    pub any_null: Option<BooleanBuffer>,
    pub values: KeyValues,
    /// Bit i: column i is NULL. `None` when no row has a NULL, and always for `Packed` keys.
    pub null_masks: Option<Vec<u8>>,
}

impl KeyBatch {
    pub fn len(&self) -> usize {
        self.hashes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

#[derive(Debug, Clone)]
pub enum KeyValues {
    U64(ScalarBuffer<u64>),
    U128(Vec<u128>),
    /// `Raw` and `Packed`.
    Bytes(ByteKeys),
}

/// Strings of bytes, one after the other.
#[derive(Debug, Clone)]
pub struct ByteKeys {
    pub offsets: OffsetBuffer<i32>,
    pub data: Buffer,
}

impl ByteKeys {
    #[inline(always)]
    pub fn get(&self, row: usize) -> &[u8] {
        &self.data[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    U64,
    U128,
    Raw,
    Packed,
}

/// Makes keys of columns and columns of keys.
#[derive(Debug)]
pub struct KeyEncoder {
    types: Vec<DataType>,
    kinds: Vec<Kind>,
    form: KeyForm,
}

#[derive(Debug)]
enum Kind {
    Null,
    Bool,
    /// Little-endian, `bytes` is 1, 2, 4, 8 or 16.
    Fixed {
        bytes: usize,
    },
    Float32,
    Float64,
    /// Text and byte strings.
    Var,
    /// Everything else, as arrow-row makes it.
    Row(Box<RowConverter>),
}

impl Kind {
    fn of(data_type: &DataType) -> Result<Kind> {
        use DataType::*;
        Ok(match data_type {
            Null => Kind::Null,
            Boolean => Kind::Bool,
            Float32 => Kind::Float32,
            Float64 => Kind::Float64,
            Decimal128(..) | Interval(IntervalUnit::MonthDayNano) | FixedSizeBinary(16) => Kind::Fixed { bytes: 16 },
            Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => Kind::Var,
            Float16 => return Err(Error::unsupported("a key of type Float16")),
            t if t.is_primitive() && t.primitive_width().is_some_and(|bytes| bytes <= 8) => {
                Kind::Fixed { bytes: t.primitive_width().expect("just looked") }
            }
            t => {
                let converter = RowConverter::new(vec![SortField::new(t.clone())])
                    .map_err(|_| Error::unsupported(format!("a key of type {t}")))?;
                Kind::Row(Box::new(converter))
            }
        })
    }
    /// Bytes of its values; `None` for those of variable length.
    fn width(&self) -> Option<usize> {
        match self {
            Kind::Null => Some(0),
            Kind::Bool => Some(1),
            Kind::Fixed { bytes } => Some(*bytes),
            Kind::Float32 => Some(4),
            Kind::Float64 => Some(8),
            Kind::Var | Kind::Row(_) => None,
        }
    }
}

impl KeyEncoder {
    pub fn new(types: &[DataType]) -> Result<Self> {
        let kinds = types.iter().map(Kind::of).collect::<Result<Vec<_>>>()?;
        let bytes: Option<usize> = kinds.iter().map(Kind::width).sum();
        let form = match bytes {
            Some(0..=8) if kinds.len() <= 8 => KeyForm::U64,
            Some(9..=16) if kinds.len() <= 8 => KeyForm::U128,
            _ if matches!(kinds[..], [Kind::Var]) => KeyForm::Raw,
            _ => KeyForm::Packed,
        };
        Ok(KeyEncoder { types: types.to_vec(), kinds, form })
    }

    pub fn types(&self) -> &[DataType] {
        &self.types
    }
    pub fn form(&self) -> KeyForm {
        self.form
    }

    /// Where in a packed key the last column's bytes begin, which go on to the key's end; `None`: that one is no text or
    /// byte string, or not the only one of variable length.
    pub fn tail_from(&self) -> Option<usize> {
        let (last, others) = self.kinds.split_last()?;
        let before: Option<usize> = others.iter().map(Kind::width).sum();
        let is_tail = self.form == KeyForm::Packed && matches!(last, Kind::Var);
        // NULL bits, the other columns, its length.
        before.filter(|_| is_tail).map(|before| self.kinds.len().div_ceil(8) + before + 4)
    }

    /// The keys of `columns`, of which there is at least one.
    pub fn encode(&self, columns: &[ArrayRef]) -> KeyBatch {
        let rows = columns.first().expect("without columns the number of rows is unknown: use encode_rows").len();
        self.encode_rows(columns, rows)
    }

    /// The keys of `rows` rows with these key columns, possibly none.
    pub fn encode_rows(&self, columns: &[ArrayRef], rows: usize) -> KeyBatch {
        assert_eq!(columns.len(), self.types.len(), "one column per key type");
        for (column, data_type) in columns.iter().zip(&self.types) {
            assert_eq!(column.len(), rows, "key columns are of one length");
            debug_assert_eq!(column.data_type(), data_type, "key columns are of the encoder's types");
        }
        let nulls: Vec<Option<NullBuffer>> =
            columns.iter().map(|column| column.logical_nulls().filter(|nulls| nulls.null_count() > 0)).collect();
        let any_null = nulls
            .iter()
            .flatten()
            .cloned()
            .reduce(|a, b| NullBuffer::union(Some(&a), Some(&b)).expect("both have NULLs"))
            .map(|valid| !valid.inner());
        let null_masks = match (&any_null, self.form) {
            (None, _) | (_, KeyForm::Packed) => None,
            _ => Some(masks(&nulls, rows)),
        };
        let values = match self.form {
            KeyForm::U64 => KeyValues::U64(pack_u64(&self.kinds, columns, &nulls, rows)),
            KeyForm::U128 => KeyValues::U128(pack_words(&self.kinds, columns, &nulls, rows)),
            KeyForm::Raw => KeyValues::Bytes(raw_bytes(&columns[0], nulls[0].as_ref())),
            KeyForm::Packed => KeyValues::Bytes(self.pack_bytes(columns, &nulls, rows)),
        };
        let mut hashes: Vec<u64> = match &values {
            KeyValues::U64(values) => values.iter().map(|v| hash_u64(*v)).collect(),
            KeyValues::U128(values) => values.iter().map(|v| hash_u128(*v)).collect(),
            KeyValues::Bytes(values) => (0..rows).map(|row| hash_bytes(values.get(row))).collect(),
        };
        if let Some(masks) = &null_masks {
            hashes.iter_mut().zip(masks).for_each(|(hash, mask)| *hash = hash_with_nulls(*hash, *mask));
        }
        KeyBatch { hashes, any_null, values, null_masks }
    }

    /// The key columns again.
    pub fn decode(&self, keys: &KeyBatch) -> Vec<ArrayRef> {
        self.decode_values(&keys.values, keys.null_masks.as_deref(), keys.len())
    }

    /// The same for keys that were stored by their values and NULL masks.
    pub fn decode_values(&self, values: &KeyValues, null_masks: Option<&[u8]>, rows: usize) -> Vec<ArrayRef> {
        let nulls = |column: usize| {
            let masks = null_masks?;
            Some(NullBuffer::new(BooleanBuffer::collect_bool(rows, |row| masks[row] & 1 << column == 0)))
        };
        match values {
            KeyValues::U64(words) => unpack_words(&self.kinds, &self.types, words, nulls, rows),
            KeyValues::U128(words) => unpack_words(&self.kinds, &self.types, words, nulls, rows),
            KeyValues::Bytes(bytes) if self.form == KeyForm::Raw => {
                vec![var_array(&self.types[0], bytes.offsets.clone(), bytes.data.clone(), nulls(0))]
            }
            KeyValues::Bytes(bytes) => self.unpack_bytes(bytes, rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::*;
    use arrow::datatypes::Int32Type;

    fn round_trip(columns: Vec<ArrayRef>, form: KeyForm) -> KeyBatch {
        let types: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
        let encoder = KeyEncoder::new(&types).unwrap();
        assert_eq!(encoder.form(), form);
        let keys = encoder.encode(&columns);
        for (decoded, column) in encoder.decode(&keys).iter().zip(&columns) {
            assert_eq!(decoded, column);
        }
        // A slice of the columns has the same keys.
        let sliced: Vec<ArrayRef> = columns.iter().map(|c| c.slice(1, c.len() - 1)).collect();
        let of_slice = encoder.encode(&sliced);
        assert_eq!(of_slice.hashes, keys.hashes[1..]);
        for (decoded, column) in encoder.decode(&of_slice).iter().zip(&sliced) {
            assert_eq!(decoded, column);
        }
        keys
    }

    fn ints() -> ArrayRef {
        Arc::new(Int64Array::from(vec![Some(0), None, Some(-1), Some(i64::MAX)]))
    }
    fn texts() -> ArrayRef {
        Arc::new(StringArray::from(vec![Some(""), None, Some("water"), Some("a wheel and a stone")]))
    }

    #[test]
    fn every_form_comes_back() {
        let small: ArrayRef = Arc::new(Int16Array::from(vec![Some(0), None, Some(-1), Some(7)]));
        let date: ArrayRef = Arc::new(Date32Array::from(vec![None, Some(0), Some(-1), Some(7)]));
        let flag: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]));
        let money: ArrayRef = Arc::new(
            Decimal128Array::from(vec![Some(0), None, Some(-1), Some(1 << 100)])
                .with_precision_and_scale(38, 2)
                .unwrap(),
        );
        let zoned: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None, Some(-1), Some(7)]).with_timezone("UTC"));
        let uuid: ArrayRef = Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                [Some([7; 16]), None, Some([0; 16]), None].into_iter(),
                16,
            )
            .unwrap(),
        );
        let views: ArrayRef =
            Arc::new(StringViewArray::from(vec![Some(""), None, Some("water"), Some("a wheel and a stone")]));
        let bytes: ArrayRef =
            Arc::new(LargeBinaryArray::from(vec![Some(&b"\0"[..]), None, Some(b""), Some(b"\xff\0")]));
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
            Some(vec![None]),
        ]));
        let reals: ArrayRef = Arc::new(Float32Array::from(vec![Some(1.5), None, Some(-2.0), Some(f32::INFINITY)]));
        let nothing: ArrayRef = Arc::new(NullArray::new(4));
        round_trip(vec![ints()], KeyForm::U64);
        round_trip(vec![small.clone(), date.clone(), flag.clone()], KeyForm::U64);
        round_trip(vec![nothing.clone(), reals.clone()], KeyForm::U64);
        round_trip(vec![ints(), zoned.clone()], KeyForm::U128);
        round_trip(vec![ints(), small.clone(), reals.clone(), flag.clone()], KeyForm::U128);
        round_trip(vec![money.clone()], KeyForm::U128);
        round_trip(vec![uuid.clone()], KeyForm::U128);
        round_trip(vec![texts()], KeyForm::Raw);
        round_trip(vec![views.clone()], KeyForm::Raw);
        round_trip(vec![bytes.clone()], KeyForm::Raw);
        round_trip(vec![list.clone()], KeyForm::Packed);
        round_trip(
            vec![texts(), ints(), bytes, flag.clone(), nothing, list, money, views, uuid, date],
            KeyForm::Packed,
        );
        round_trip(vec![flag.clone(); 9], KeyForm::Packed);
    }

    /// All pairs of rows: equal keys exactly where the rows are equal, NULLs included.
    #[test]
    fn keys_are_injective() {
        let mut a = Int64Builder::new();
        let mut b = Int64Builder::new();
        for x in [None, Some(0), Some(1), Some(-1)] {
            for y in [None, Some(0), Some(1), Some(-1)] {
                a.append_option(x);
                b.append_option(y);
            }
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(a.finish()), Arc::new(b.finish())];
        let keys = KeyEncoder::new(&[DataType::Int64, DataType::Int64]).unwrap().encode(&columns);
        let KeyValues::U128(values) = &keys.values else { panic!("two bigints") };
        let distinct: std::collections::HashSet<_> = (0..16).map(|i| (values[i], keys.hashes[i] >> 32)).collect();
        assert_eq!(distinct.len(), 16);
        let any_null = keys.any_null.unwrap();
        assert_eq!((0..16).filter(|row| any_null.value(*row)).count(), 7);
    }

    #[test]
    fn floats_are_normalised() {
        let odd_nan = f64::from_bits(0x7ff8_0000_0000_0001);
        let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, odd_nan, -f64::NAN]));
        let encoder = KeyEncoder::new(&[DataType::Float64]).unwrap();
        let keys = encoder.encode(&[column]);
        assert_eq!(keys.hashes[0], keys.hashes[1]);
        assert!(keys.hashes[2] == keys.hashes[3] && keys.hashes[3] == keys.hashes[4]);
        assert_eq!(encoder.decode(&keys)[0].as_primitive::<arrow::datatypes::Float64Type>().value(1).to_bits(), 0);
    }

    #[test]
    fn no_columns_are_one_key() {
        let encoder = KeyEncoder::new(&[]).unwrap();
        let keys = encoder.encode_rows(&[], 3);
        assert!(keys.len() == 3 && keys.hashes[0] == keys.hashes[2]);
        assert_eq!(encoder.decode(&keys).len(), 0);
    }

    /// A NULL's slot may hold anything; dictionaries are compared by their values.
    #[test]
    fn what_lies_under_a_null_does_not_matter() {
        let valid = NullBuffer::from(vec![false, false, true]);
        let column: ArrayRef = Arc::new(Int64Array::new(vec![1, 2, 0].into(), Some(valid.clone())));
        let keys = KeyEncoder::new(&[DataType::Int64]).unwrap().encode(&[column]);
        assert_eq!(keys.hashes[0], keys.hashes[1]);
        let text = StringArray::new(OffsetBuffer::from_lengths([1, 2, 0]), b"abc".to_vec().into(), Some(valid));
        let keys = KeyEncoder::new(&[DataType::Utf8]).unwrap().encode(&[Arc::new(text)]);
        assert!(keys.hashes[0] == keys.hashes[1] && keys.hashes[1] != keys.hashes[2]);
        let words: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
        round_trip(vec![Arc::new(words)], KeyForm::Packed);
    }
}
