//! UNNEST of list columns: one row per element of the longest, the others being filled up with NULL, and the other
//! columns repeated. Stateless.
//!
//! What a row repeats may be far larger than what it is: the rows come in pieces, and one whose rows together would repeat
//! more than [`ROW_BYTES_MAX`] is set aside.
//!
//! A NULL list counts as one of one NULL where `keep_nulls`, as an empty one otherwise. (HOP windows are an UNNEST of the
//! windows that a row falls into.)

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, UInt32Array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DataFusionError;

use super::evaluate::set_aside;
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::error::Result;
use crate::state::durable::Durable;
use crate::time::EpochHeader;

/// A piece of the output is about so large; others run before the next one.
const PIECE_ROWS: usize = 1 << 17;
const PIECE_BYTES: usize = 16 << 20;
/// What the rows made of one may repeat of it.
const ROW_BYTES_MAX: usize = 1 << 30;

#[derive(Clone, Debug, PartialEq)]
pub struct UnnestSpec {
    /// The list columns of the input.
    pub lists: Vec<usize>,
    /// For each output column the input column that it comes from; a list's gives the elements.
    pub columns: Vec<usize>,
    pub keep_nulls: bool,
    pub output: SchemaRef,
}

/// Input that has not been said yet: from this element of this row on.
struct Rest {
    delta: Delta,
    row: usize,
    element: i32,
}

pub struct Unnest {
    spec: UnnestSpec,
    rest: Option<Rest>,
}

impl Unnest {
    pub fn new(spec: UnnestSpec) -> Self {
        Unnest { spec, rest: None }
    }

    fn length(&self, list: &ListArray, row: usize) -> i32 {
        match list.is_null(row) {
            true => i32::from(self.spec.keep_nulls),
            false => list.value_length(row),
        }
    }

    /// The next piece of the rows that `rest` makes; `rest` is what is left after it.
    fn piece(&self, rest: &mut Rest, out: &mut Output) {
        let delta = &rest.delta;
        let lists: Vec<&ListArray> = self.spec.lists.iter().map(|&l| delta.rows.column(l).as_list::<i32>()).collect();
        let repeated = self.spec.columns.iter().filter(|c| !self.spec.lists.contains(c)).map(|&c| delta.rows.column(c));
        let long: Vec<&ArrayRef> = repeated.filter(|c| c.data_type().primitive_width().is_none()).collect();
        let mut rows = Vec::<u32>::new();
        let mut elements = vec![Vec::<Option<u32>>::new(); lists.len()];
        let mut bytes = 0;
        while rest.row < delta.len() && rows.len() < PIECE_ROWS && bytes < PIECE_BYTES {
            let row = rest.row;
            let longest = lists.iter().map(|list| self.length(list, row)).max().unwrap_or(0);
            let width: usize = long.iter().map(|column| value_bytes(column, row)).sum();
            if width.saturating_mul(longest as usize) > ROW_BYTES_MAX {
                let message = format!("the rows of {longest} elements would repeat more than {ROW_BYTES_MAX} bytes");
                out.errors.push(set_aside(&DataFusionError::Execution(message), &delta.rows, row, delta.weight(row)));
                rest.row += 1;
                continue;
            }
            let most = (PIECE_ROWS - rows.len()).min((PIECE_BYTES - bytes) / width.max(1) + 1);
            let until = longest.min(rest.element.saturating_add(most as i32));
            let these = (until - rest.element) as usize;
            rows.extend(std::iter::repeat_n(row as u32, these));
            for (list, elements) in lists.iter().zip(&mut elements) {
                let own = if list.is_null(row) { 0 } else { list.value_length(row) };
                let first = list.value_offsets()[row];
                elements.extend((rest.element..until).map(|i| (i < own).then_some((first + i) as u32)));
            }
            bytes += width * these;
            (rest.row, rest.element) = if until == longest { (row + 1, 0) } else { (row, until) };
        }
        if rows.is_empty() {
            return;
        }
        let rows = UInt32Array::from(rows);
        let elements: Vec<UInt32Array> = elements.into_iter().map(UInt32Array::from).collect();
        let take = |array: &dyn Array, indices: &UInt32Array| -> ArrayRef {
            arrow::compute::take(array, indices, None).expect("indices are within the array, and the piece is small")
        };
        let column = |&c: &usize| match self.spec.lists.iter().position(|&list| list == c) {
            Some(list) => take(lists[list].values(), &elements[list]),
            None => take(delta.rows.column(c), &rows),
        };
        let columns: Vec<ArrayRef> = self.spec.columns.iter().map(column).collect();
        let weights: Option<Int64Array> =
            delta.weights.as_ref().map(|w| take(w, &rows).as_primitive::<arrow::datatypes::Int64Type>().clone());
        let batch =
            arrow::array::RecordBatch::try_new(self.spec.output.clone(), columns).expect("by the output's schema");
        out.deltas.push(Delta::new(batch, weights));
    }
}

/// What a value takes that is not of one width.
fn value_bytes(column: &ArrayRef, row: usize) -> usize {
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value_length(row) as usize,
        DataType::Binary => column.as_binary::<i32>().value_length(row) as usize,
        DataType::Boolean => 1,
        _ => column.slice(row, 1).to_data().get_slice_memory_size().unwrap_or(0),
    }
}

impl Operator for Unnest {
    fn update(&mut self, _input: Port, delta: Delta, out: &mut Output) -> Result<Step> {
        let rest = self.rest.take();
        let mut rest = rest.unwrap_or(Rest { delta, row: 0, element: 0 });
        self.piece(&mut rest, out);
        if rest.row == rest.delta.len() {
            return Ok(Step::Done);
        }
        self.rest = Some(rest);
        Ok(Step::Again)
    }
    fn finish_epoch(&mut self, _epoch: &EpochHeader, _out: &mut Output) -> Result<Step> {
        Ok(Step::Done)
    }
    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ListArray, RecordBatch, StringArray};
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    /// Text beside lists of so many elements, each with a weight.
    fn unnested(rows: &[(usize, usize, i64)]) -> Output {
        let lists = rows.iter().map(|&(_, elements, _)| Some((0..elements as i32).map(Some).collect::<Vec<_>>()));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
        let texts: StringArray = rows.iter().map(|&(bytes, _, _)| Some("x".repeat(bytes))).collect();
        let fields = [("text", DataType::Utf8), ("list", lists.data_type().clone())];
        let schema = Arc::new(Schema::new(fields.map(|(name, of)| Field::new(name, of, true)).to_vec()));
        let weights = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(texts), Arc::new(lists)]).unwrap();
        let fields = [("text", DataType::Utf8), ("list", DataType::Int32)];
        let output = Arc::new(Schema::new(fields.map(|(name, of)| Field::new(name, of, true)).to_vec()));
        let spec = UnnestSpec { lists: vec![1], columns: vec![0, 1], keep_nulls: false, output };
        let mut operator = Unnest::new(spec);
        let (mut out, mut delta) = (Output::default(), Delta::new(batch, Some(weights)));
        while operator.update(0, delta, &mut out).unwrap() == Step::Again {
            delta = Delta::inserts(RecordBatch::new_empty(Arc::new(Schema::empty())));
        }
        out
    }

    #[test]
    fn rows_that_repeat_much_come_in_pieces() {
        let out = unnested(&[(1 << 20, 100, 1), (10, 0, 1), (10, 300_000, -1), (10, 1, 1)]);
        assert!(out.errors.is_empty());
        assert!(out.deltas.iter().all(|delta| delta.len() <= PIECE_ROWS && delta.bytes() < 2 * PIECE_BYTES));
        assert!(out.deltas.len() > 6, "{}", out.deltas.len());
        let mut sums = [0i64; 2];
        for delta in &out.deltas {
            let list = delta.rows.column(1).as_primitive::<Int32Type>();
            for row in 0..delta.len() {
                sums[0] += delta.weight(row);
                sums[1] += delta.weight(row) * i64::from(list.value(row));
            }
        }
        assert_eq!(sums, [100 - 300_000 + 1, 99 * 50 - 299_999 * 150_000]);
    }

    #[test]
    fn a_row_that_repeats_too_much_is_set_aside() {
        let out = unnested(&[(10, 2, 1), (1 << 20, 2_000, -1), (10, 3, 1)]);
        assert_eq!(out.deltas.iter().map(Delta::len).sum::<usize>(), 5);
        assert_eq!(out.errors.iter().map(|error| error.weight).collect::<Vec<_>>(), [-1]);
        assert!(out.errors[0].message.contains("would repeat more than"), "{}", out.errors[0].message);
    }
}
