//! The currency: a *delta* is a Z-set, an Arrow batch with a signed weight per row.
//!
//! +1 inserts, −1 retracts. The identity of a row is the whole row. A delta whose weights are all +1
//! stores none, so append-only streams pay nothing for them.
//!
//! ```text
//!   rows (RecordBatch)      weights (None = all +1)
//!   | 1 | 'a' |             +1
//!   | 2 | 'b' |             -1
//! ```

pub mod consolidate;
pub mod hash;
pub mod keys;
pub mod merge;
pub mod text;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, GenericByteArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{ByteArrayType, DataType, SchemaRef};

/// Bytes that a column's values take, without those of others in the same buffers. It is asked of every small epoch: the
/// usual types are answered without an allocation.
fn column_bytes(column: &dyn Array) -> usize {
    let nulls = if column.nulls().is_some() { column.len().div_ceil(8) } else { 0 };
    let data_type = column.data_type();
    nulls
        + match (data_type, data_type.primitive_width()) {
            (_, Some(width)) => width * column.len(),
            (DataType::Boolean, _) => column.len().div_ceil(8),
            (DataType::Utf8, _) => text_bytes(column.as_string::<i32>()),
            (DataType::Binary, _) => text_bytes(column.as_binary::<i32>()),
            _ => return column.to_data().get_slice_memory_size().unwrap_or(0),
        }
}

fn text_bytes<T: ByteArrayType<Offset = i32>>(texts: &GenericByteArray<T>) -> usize {
    let offsets = texts.value_offsets();
    (offsets[offsets.len() - 1] - offsets[0]) as usize + size_of_val(offsets)
}

#[derive(Debug, Clone)]
pub struct Delta {
    pub rows: RecordBatch,
    /// One weight per row, never 0; `None` means that all are +1.
    pub weights: Option<Int64Array>,
}

impl Delta {
    pub fn inserts(rows: RecordBatch) -> Self {
        Delta { rows, weights: None }
    }
    pub fn new(rows: RecordBatch, weights: Option<Int64Array>) -> Self {
        if let Some(w) = &weights {
            assert_eq!(w.len(), rows.num_rows(), "one weight per row");
        }
        Delta { rows, weights }
    }
    pub fn retractions(rows: RecordBatch) -> Self {
        let n = rows.num_rows();
        Delta { rows, weights: Some(Int64Array::from_value(-1, n)) }
    }
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
    /// Bytes that its rows alone take, also where they lie in buffers shared with others.
    pub fn bytes(&self) -> usize {
        self.rows.columns().iter().map(|column| column_bytes(column)).sum()
    }
    /// The same rows, elsewhere.
    pub fn map_rows(self, rows: impl FnOnce(RecordBatch) -> RecordBatch) -> Delta {
        Delta { rows: rows(self.rows), weights: self.weights }
    }
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |w| w.value(row))
    }
    pub fn slice(&self, offset: usize, length: usize) -> Delta {
        Delta { rows: self.rows.slice(offset, length), weights: self.weights.as_ref().map(|w| w.slice(offset, length)) }
    }
    /// The rows for which `mask` is true (NULL counts as false).
    pub fn filter(&self, mask: &BooleanArray) -> Delta {
        let predicate = arrow::compute::FilterBuilder::new(mask).optimize().build();
        let rows = predicate.filter_record_batch(&self.rows).expect("mask is as long as the batch");
        let weights = self.weights.as_ref().map(|w| {
            predicate
                .filter(w)
                .expect("mask is as long as the weights")
                .as_any()
                .downcast_ref::<Int64Array>()
                .expect("same type")
                .clone()
        });
        Delta { rows, weights }
    }
    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Delta {
        let columns = self.rows.columns().iter().map(|column| arrow::compute::take(column, indices, None));
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>().expect("indices are within the batch");
        // A batch without columns still has rows.
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(indices.len()));
        let rows = RecordBatch::try_new_with_options(self.schema(), columns, &options).expect("the same types");
        let weights = self.weights.as_ref().map(|w| {
            let taken = arrow::compute::take(w, indices, None).expect("indices are within the weights");
            taken.as_any().downcast_ref::<Int64Array>().expect("same type").clone()
        });
        Delta { rows, weights }
    }
    /// Other columns, same rows and weights.
    pub fn with_columns(&self, schema: SchemaRef, columns: Vec<ArrayRef>) -> Delta {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(self.len()));
        let rows = RecordBatch::try_new_with_options(schema, columns, &options).expect("columns fit the schema");
        Delta { rows, weights: self.weights.clone() }
    }
    pub fn negate(&self) -> Delta {
        let weights = match &self.weights {
            None => Int64Array::from_value(-1, self.len()),
            Some(w) => w.unary(|w| -w),
        };
        Delta { rows: self.rows.clone(), weights: Some(weights) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, BooleanArray, Decimal128Array, Int32Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn a_column_takes_what_its_own_values_take() {
        let lists =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None]), None, Some([None, Some(4)])]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])),
            Arc::new(Decimal128Array::from(vec![1, 2, 3])),
            Arc::new(BooleanArray::from(vec![true, false, true])),
            Arc::new(StringArray::from(vec![Some("long"), None, Some("er")])),
            Arc::new(BinaryArray::from(vec![b"a".as_slice(), b"bc", b"def"])),
            Arc::new(lists),
        ];
        for column in columns {
            for (from, length) in [(0, 3), (1, 2), (2, 0)] {
                let part = column.slice(from, length);
                let whole = part.to_data().get_slice_memory_size().unwrap();
                assert_eq!(column_bytes(&part), whole, "{:?} {from} {length}", part.data_type());
            }
        }
    }
}
