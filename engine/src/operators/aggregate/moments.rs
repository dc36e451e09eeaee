//! Variance and standard deviation: from exact sums of x and x², so that neither order nor retraction
//! changes them, and equal values have a variance of exactly 0.
//!
//! With n values, a double c near their mean, R = Σx − n·c:
//!
//! ```text
//!   Σ(x − mean)² = Σx² − 2c·Σx + n·c² − R²/n
//! ```
//!
//! The first three terms nearly cancel, so they are added exactly; R²/n is tiny beside what they leave.
//! Arguments of any numeric type count as doubles, as does the result (Postgres answers numeric for
//! integers and numerics). Squares beyond a double's range make the result infinite or NaN.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::AggregateFunction;
use super::accumulator::{Accumulator, Fault, Rows, nulls_where_empty};
use super::cells::Cells;
use super::sums::{add_weighted, load_sums, save_sums, sums_bytes};
use crate::error::{Error, Result};
use crate::sql::exact_float::ExactSum;

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

/// x² as a sum of two doubles.
fn square(x: f64) -> [f64; 2] {
    let high = x * x;
    if high.is_finite() { [high, x.mul_add(x, -high)] } else { [high, 0.0] }
}

/// Subtracts `sum` · `factor`: the sum as doubles, each the rounding of what the ones before leave.
fn subtract_product(from: &mut ExactSum, sum: &ExactSum, factor: f64) {
    let mut rest = sum.clone();
    for _ in 0..4 {
        let part = rest.value();
        if part == 0.0 || !part.is_finite() {
            return;
        }
        rest.subtract(part);
        let high = part * factor;
        from.subtract(high);
        if high.is_finite() {
            from.subtract(part.mul_add(factor, -high));
        }
    }
}

/// Σ(x − mean)², from Σx and Σx².
fn squared_deviations(sum: &ExactSum, squares: &ExactSum, n: i64) -> f64 {
    let centre = sum.value() / n as f64;
    if !centre.is_finite() {
        return f64::NAN;
    }
    let mut total = squares.clone();
    subtract_product(&mut total, sum, 2.0 * centre);
    square(centre).into_iter().for_each(|part| add_weighted(&mut total, part, n));
    let mut rest = sum.clone();
    add_weighted(&mut rest, centre, -n);
    let rest = rest.value();
    (total.value() - rest * rest / n as f64).max(0.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn deviations(values: &[f64]) -> f64 {
        let (mut sum, mut squares) = (ExactSum::new(), ExactSum::new());
        for value in values {
            sum.add(*value);
            square(*value).into_iter().for_each(|part| squares.add(part));
        }
        squared_deviations(&sum, &squares, values.len() as i64)
    }

    #[test]
    fn exact_where_the_textbook_is_not() {
        assert_eq!(deviations(&[0.1; 7]), 0.0);
        assert_eq!(deviations(&[1e15 + 0.5; 3]), 0.0);
        assert_eq!(deviations(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), 32.0);
        assert_eq!(deviations(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]), 90.0);
        assert_eq!(deviations(&[1e100, 1e100, 1.0, 1.0]), 1e200);
        assert!(deviations(&[f64::NAN, 1.0]).is_nan() && deviations(&[f64::INFINITY, 1.0]).is_nan());
    }
}
