//! Accumulators: what is kept of one argument for all groups, fed batch by batch. Several calls may read
//! one, e.g. sum(x), avg(x) and count(x).

use arrow::array::{ArrayRef, Int64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;

use super::AggregateFunction;
use super::cells::Cells;
use crate::error::Result;

/// Rows of a batch and their groups.
pub struct Rows<'a> {
    /// The group of each row.
    pub ids: &'a [u32],
    /// `None`: all 1.
    pub weights: Option<&'a [i64]>,
    /// The rows that count: their filter is true and their argument is not NULL. `None`: all.
    pub selected: Option<BooleanBuffer>,
    /// `None` for count(*), which has none.
    pub argument: Option<&'a ArrayRef>,
}

impl Rows<'_> {
    pub fn argument(&self) -> &ArrayRef {
        self.argument.expect("every function but count(*) has an argument")
    }

    /// Calls `f(row, group, weight)` for each row that counts. Compiled for each of the four cases, so
    /// that common ones pay neither for weights nor for a selection.
    #[inline(always)]
    pub fn each(&self, mut f: impl FnMut(usize, u32, i64)) {
        match (&self.selected, self.weights) {
            (None, None) => self.ids.iter().enumerate().for_each(|(row, id)| f(row, *id, 1)),
            (None, Some(weights)) => {
                self.ids.iter().zip(weights).enumerate().for_each(|(row, (id, weight))| f(row, *id, *weight))
            }
            (Some(selected), None) => selected.set_indices().for_each(|row| f(row, self.ids[row], 1)),
            (Some(selected), Some(weights)) => {
                selected.set_indices().for_each(|row| f(row, self.ids[row], weights[row]))
            }
        }
    }
}

/// A group whose result cannot be told, by its place among the groups asked for.
pub type Fault = (usize, &'static str);

pub trait Accumulator {
    fn add(&mut self, cells: &mut Cells, rows: &Rows);

    /// The results of these groups for one of the functions that it serves.
    fn results(
        &self,
        function: AggregateFunction,
        output: &DataType,
        cells: &Cells,
        ids: &[u32],
        faults: &mut Vec<Fault>,
    ) -> ArrayRef;

    /// Where in a group's record the number of its values is.
    fn values_offset(&self) -> Option<usize> {
        None
    }

    // What does not fit into a record of words:

    /// Forgets a group whose record has been cleared.
    fn clear(&mut self, _id: u32) {}
    /// One column of what the records do not hold, if anything.
    fn save(&self, _ids: &[u32]) -> Option<ArrayRef> {
        None
    }
    fn load(&mut self, _ids: &[u32], _column: &ArrayRef) -> Result<()> {
        Ok(())
    }
    fn side_bytes(&self) -> usize {
        0
    }
    /// What of that cannot leave memory.
    fn side_fixed_bytes(&self) -> usize {
        self.side_bytes()
    }
}

/// count(x): how many values there are. Record: one word.
pub struct Counter {
    pub offset: usize,
}

impl Accumulator for Counter {
    fn add(&mut self, cells: &mut Cells, rows: &Rows) {
        rows.each(|_, id, weight| cells.add_count(id, self.offset, weight));
    }
    fn results(&self, _: AggregateFunction, _: &DataType, cells: &Cells, ids: &[u32], _: &mut Vec<Fault>) -> ArrayRef {
        counts(cells, self.offset, ids)
    }
    fn values_offset(&self) -> Option<usize> {
        Some(self.offset)
    }
}

pub fn counts(cells: &Cells, offset: usize, ids: &[u32]) -> ArrayRef {
    std::sync::Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| cells.count(*id, offset))))
}

/// bool_and, bool_or. Record: how many false, how many true.
pub struct Booleans {
    pub offset: usize,
}

impl Accumulator for Booleans {
    fn add(&mut self, cells: &mut Cells, rows: &Rows) {
        let values = arrow::array::AsArray::as_boolean(rows.argument()).values();
        rows.each(|row, id, weight| cells.add_count(id, self.offset + values.value(row) as usize, weight));
    }
    fn results(
        &self,
        function: AggregateFunction,
        _: &DataType,
        cells: &Cells,
        ids: &[u32],
        _: &mut Vec<Fault>,
    ) -> ArrayRef {
        let values = ids.iter().map(|id| {
            let (no, yes) = (cells.count(*id, self.offset), cells.count(*id, self.offset + 1));
            let all = function == AggregateFunction::BoolAnd;
            (no > 0 || yes > 0).then_some(if all { no == 0 } else { yes > 0 })
        });
        std::sync::Arc::new(values.collect::<arrow::array::BooleanArray>())
    }
}

/// NULL where there are no values.
pub fn nulls_where_empty(ids: &[u32], is_empty: impl Fn(u32) -> bool) -> Option<NullBuffer> {
    let valid = BooleanBuffer::collect_bool(ids.len(), |i| !is_empty(ids[i]));
    Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0)
}
