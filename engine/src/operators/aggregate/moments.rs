//! Variance and standard deviation: from exact sums of x and x², so that neither order nor retraction
//! changes them (see `sql/moments.rs`). Arguments of any numeric type count as doubles, as does the result; so plans
//! ask for it of floats only: of integers and numerics Postgres answers a numeric, which is recomputed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::AggregateFunction;
use super::accumulator::{Accumulator, Fault, Rows, nulls_where_empty};
use super::cells::Cells;
use super::sums::{load_sums, save_sums, sums_bytes};
use crate::error::{Error, Result};
use crate::sql::exact_float::{ExactSum, add_weighted};
use crate::sql::moments::{square, squared_deviations};

/// Record: the number of values; the sums lie beside it.
pub struct Moments {
    pub offset: usize,
    /// By group: Σx at 2·id, Σx² after it.
    pub sums: Vec<ExactSum>,
}

pub fn check_argument(argument: &DataType) -> Result<()> {
    match argument.is_numeric() {
        true => Ok(()),
        false => Err(Error::new("42883", format!("there is no variance of {argument}"))),
    }
}

impl Accumulator for Moments {
    fn add(&mut self, cells: &mut Cells, rows: &Rows) {
        let argument = cast(rows.argument(), &DataType::Float64).expect("numbers can be doubles");
        let values = &argument.as_primitive::<Float64Type>().values()[..];
        rows.each(|row, id, weight| {
            cells.add_count(id, self.offset, weight);
            let at = 2 * id as usize;
            if self.sums.len() <= at {
                self.sums.resize_with(at + 2, ExactSum::new);
            }
            add_weighted(&mut self.sums[at], values[row], weight);
            square(values[row]).into_iter().for_each(|part| add_weighted(&mut self.sums[at + 1], part, weight));
        });
    }
    fn results(
        &self,
        function: AggregateFunction,
        _: &DataType,
        cells: &Cells,
        ids: &[u32],
        _: &mut Vec<Fault>,
    ) -> ArrayRef {
        use AggregateFunction::*;
        let of_sample = matches!(function, VarSamp | StddevSamp) as i64;
        let degrees = |id: u32| cells.count(id, self.offset) - of_sample;
        let values = ids.iter().map(|id| {
            let Some([sum, squares]) = self.sums.get(2 * *id as usize..).and_then(|sums| sums.first_chunk()) else {
                return 0.0;
            };
            if degrees(*id) <= 0 {
                return 0.0;
            }
            let n = cells.count(*id, self.offset);
            let variance = squared_deviations(sum, squares, n) / degrees(*id) as f64;
            if matches!(function, StddevPop | StddevSamp) { variance.sqrt() } else { variance }
        });
        Arc::new(Float64Array::new(values.collect(), nulls_where_empty(ids, |id| degrees(id) <= 0)))
    }
    fn values_offset(&self) -> Option<usize> {
        Some(self.offset)
    }
    fn clear(&mut self, id: u32) {
        let sums = self.sums.iter_mut().skip(2 * id as usize).take(2);
        sums.for_each(|sum| *sum = ExactSum::new());
    }
    /// Both sums in one value: the length of the first in a byte, the first, the second.
    fn save(&self, ids: &[u32]) -> Option<ArrayRef> {
        let saved = |at| save_sums(&self.sums, &ids.iter().map(|id| 2 * id + at).collect::<Vec<_>>());
        let (sums, squares) = (saved(0), saved(1));
        let (sums, squares) = (sums.as_binary::<i32>(), squares.as_binary::<i32>());
        let both = (0..ids.len()).map(|row| {
            let (sum, squares) = (sums.is_valid(row).then(|| sums.value(row))?, squares.value(row));
            Some([&(sum.len() as u32).to_le_bytes()[..], sum, squares].concat())
        });
        Some(Arc::new(both.collect::<BinaryArray>()))
    }
    fn load(&mut self, ids: &[u32], column: &ArrayRef) -> Result<()> {
        let column = column.as_binary::<i32>();
        let (mut sums, mut squares) = (Vec::new(), Vec::new());
        for row in 0..ids.len() {
            let parts = column.is_valid(row).then(|| {
                let (length, rest) = column.value(row).split_first_chunk::<4>()?;
                rest.split_at_checked(u32::from_le_bytes(*length) as usize)
            });
            let parts =
                parts.map(|parts| parts.ok_or_else(|| Error::corrupt("damaged sums of a variance"))).transpose()?;
            sums.push(parts.map(|(sum, _)| sum));
            squares.push(parts.map(|(_, squares)| squares));
        }
        for (at, saved) in [(0, sums), (1, squares)] {
            let ids: Vec<u32> = ids.iter().map(|id| 2 * id + at).collect();
            load_sums(&mut self.sums, &ids, &(Arc::new(saved.into_iter().collect::<BinaryArray>()) as ArrayRef))?;
        }
        Ok(())
    }
    fn side_bytes(&self) -> usize {
        sums_bytes(&self.sums)
    }
}
