//! UNNEST of a list column: one row per element, the other columns repeated. Stateless.
//!
//! A NULL list gives one row with NULL where `keep_nulls`, none otherwise; an empty list gives none. (HOP
//! windows are an UNNEST of the windows that a row falls into.)

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::error::Result;
use crate::state::durable::Durable;
use crate::time::EpochHeader;

#[derive(Clone, Debug)]
pub struct UnnestSpec {
    /// The list column of the input.
    pub list: usize,
    /// For each output column the input column that it comes from; the list's gives the elements.
    pub columns: Vec<usize>,
    pub keep_nulls: bool,
    pub output: SchemaRef,
}

pub struct Unnest {
    spec: UnnestSpec,
}

impl Unnest {
    pub fn new(spec: UnnestSpec) -> Self {
        Unnest { spec }
    }
}

impl Operator for Unnest {
    fn update(&mut self, _input: Port, delta: Delta, out: &mut Output) -> Result<Step> {
        if delta.is_empty() {
            return Ok(Step::Done);
        }
        let lists = delta.rows.column(self.spec.list).as_list::<i32>();
        let offsets = lists.value_offsets();
        let (mut rows, mut elements) = (Vec::<u32>::new(), Vec::<Option<u32>>::new());
        for row in 0..lists.len() {
            if lists.is_null(row) {
                if self.spec.keep_nulls {
                    rows.push(row as u32);
                    elements.push(None);
                }
                continue;
            }
            for element in offsets[row]..offsets[row + 1] {
                rows.push(row as u32);
                elements.push(Some(element as u32));
            }
        }
        if rows.is_empty() {
            return Ok(Step::Done);
        }
        let rows = UInt32Array::from(rows);
        let elements = UInt32Array::from(elements);
        let take = |array: &dyn Array, indices: &UInt32Array| -> ArrayRef {
            arrow::compute::take(array, indices, None).expect("indices are within the array")
        };
        let columns: Vec<ArrayRef> =
            self.spec
                .columns
                .iter()
                .map(|&c| {
                    if c == self.spec.list {
                        take(lists.values(), &elements)
                    } else {
                        take(delta.rows.column(c), &rows)
                    }
                })
                .collect();
        let weights: Option<Int64Array> =
            delta.weights.as_ref().map(|w| take(w, &rows).as_primitive::<arrow::datatypes::Int64Type>().clone());
        let batch =
            arrow::array::RecordBatch::try_new(self.spec.output.clone(), columns).expect("by the output's schema");
        out.deltas.push(Delta::new(batch, weights));
        Ok(Step::Done)
    }
    fn finish_epoch(&mut self, _epoch: &EpochHeader, _out: &mut Output) -> Result<Step> {
        Ok(Step::Done)
    }
    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        Vec::new()
    }
}
