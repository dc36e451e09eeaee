//! UNNEST of list columns: one row per element of the longest, the others being filled up with NULL, and the other
//! columns repeated. Stateless.
//!
//! A NULL list counts as one of one NULL where `keep_nulls`, as an empty one otherwise. (HOP windows are an UNNEST of the
//! windows that a row falls into.)

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::error::Result;
use crate::state::durable::Durable;
use crate::time::EpochHeader;

#[derive(Clone, Debug, PartialEq)]
pub struct UnnestSpec {
    /// The list columns of the input.
    pub lists: Vec<usize>,
    /// For each output column the input column that it comes from; a list's gives the elements.
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
        let lists: Vec<&ListArray> = self.spec.lists.iter().map(|&l| delta.rows.column(l).as_list::<i32>()).collect();
        let length = |list: &ListArray, row: usize| match list.is_null(row) {
            true => i32::from(self.spec.keep_nulls),
            false => list.value_length(row),
        };
        let mut rows = Vec::<u32>::new();
        let mut elements = vec![Vec::<Option<u32>>::new(); lists.len()];
        for row in 0..delta.len() {
            let longest = lists.iter().map(|list| length(list, row)).max().unwrap_or(0);
            rows.extend(std::iter::repeat_n(row as u32, longest as usize));
            for (list, elements) in lists.iter().zip(&mut elements) {
                let own = if list.is_null(row) { 0 } else { list.value_length(row) };
                let first = list.value_offsets()[row];
                elements.extend((0..longest).map(|i| (i < own).then_some((first + i) as u32)));
            }
        }
        if rows.is_empty() {
            return Ok(Step::Done);
        }
        let rows = UInt32Array::from(rows);
        let elements: Vec<UInt32Array> = elements.into_iter().map(UInt32Array::from).collect();
        let take = |array: &dyn Array, indices: &UInt32Array| -> ArrayRef {
            arrow::compute::take(array, indices, None).expect("indices are within the array")
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
        Ok(Step::Done)
    }
    fn finish_epoch(&mut self, _epoch: &EpochHeader, _out: &mut Output) -> Result<Step> {
        Ok(Step::Done)
    }
    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        Vec::new()
    }
}
