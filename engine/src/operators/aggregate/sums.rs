//! sum and avg. Integers add up in 128 bits and numerics in 256, floats exactly ([`ExactSum`]), so no
//! order of rows and no retraction changes a result; whether it fits is asked only when it is shown.
//!
//! | argument | sum | avg |
//! | --- | --- | --- |
//! | smallint, int | Int64, else `bigint out of range` | Decimal128(38, 16) |
//! | bigint | Decimal128(38, 0) | Decimal128(38, 16) |
//! | numeric(p, s) | Decimal128(38, s) | Decimal128(38, max(s, 16)) |
//! | real | Float32 | Float64 |
//! | double precision | Float64 | Float64 |
//!
//! Averages of decimals are rounded half away from zero. What passes 38 digits is a `numeric field
//! overflow` (Postgres' numeric has no such bound).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Decimal128Array, Float32Array, Float64Array, Int64Array};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, i256,
};

use super::AggregateFunction;
use super::accumulator::{Accumulator, Fault, Rows, nulls_where_empty};
use super::cells::Cells;
use crate::error::{Error, Result};
use crate::sql::exact_float::{ExactSum, add_weighted};

pub const BIGINT_OUT_OF_RANGE: &str = "bigint out of range";
pub const NUMERIC_OVERFLOW: &str = "numeric field overflow";
/// The least number of digits behind the point of an average.
const AVERAGE_SCALE_MIN: i8 = 16;

/// The types of sum(x) and avg(x). Error: 42883, as Postgres says of text.
pub fn output_types(argument: &DataType) -> Result<(DataType, DataType)> {
    let average = |scale: i8| DataType::Decimal128(38, scale.max(AVERAGE_SCALE_MIN));
    Ok(match argument {
        DataType::Int16 | DataType::Int32 => (DataType::Int64, average(0)),
        DataType::Int64 => (DataType::Decimal128(38, 0), average(0)),
        DataType::Decimal128(_, scale) => (DataType::Decimal128(38, *scale), average(*scale)),
        DataType::Float32 => (DataType::Float32, DataType::Float64),
        DataType::Float64 => (DataType::Float64, DataType::Float64),
        other => return Err(Error::new("42883", format!("there is no sum or average of {other}"))),
    })
}

/// Integers. Record: the sum in two words, the number of values.
pub struct IntegerSum {
    pub offset: usize,
}
pub const INTEGER_SUM_WORDS: usize = 3;

impl IntegerSum {
    #[inline(always)]
    fn add_all<T: ArrowPrimitiveType>(&self, cells: &mut Cells, rows: &Rows)
    where
        T::Native: Into<i64>,
    {
        let values = &rows.argument().as_primitive::<T>().values()[..];
        rows.each(|row, id, weight| {
            let [low, high, count] = cells.at_mut::<3>(id, self.offset);
            let value: i64 = values[row].into();
            let sum = join(*low, *high).wrapping_add(value as i128 * weight as i128);
            (*low, *high) = (sum as u64, (sum >> 64) as u64);
            *count = count.wrapping_add(weight as u64);
        });
    }
}

#[inline(always)]
fn join(low: u64, high: u64) -> i128 {
    ((high as u128) << 64 | low as u128) as i128
}

impl Accumulator for IntegerSum {
    fn add(&mut self, cells: &mut Cells, rows: &Rows) {
        match rows.argument().data_type() {
            DataType::Int16 => self.add_all::<Int16Type>(cells, rows),
            DataType::Int32 => self.add_all::<Int32Type>(cells, rows),
            _ => self.add_all::<Int64Type>(cells, rows),
        }
    }
    fn results(
        &self,
        function: AggregateFunction,
        output: &DataType,
        cells: &Cells,
        ids: &[u32],
        faults: &mut Vec<Fault>,
    ) -> ArrayRef {
        let total = |id: u32| {
            let [low, high, count] = *cells.at::<3>(id, self.offset);
            (i256::from_i128(join(low, high)), count as i64)
        };
        decimal_results(function, output, 0, ids, total, faults)
    }
    fn values_offset(&self) -> Option<usize> {
        Some(self.offset + 2)
    }
}

/// Numerics. Record: the sum in four words, the number of values.
pub struct DecimalSum {
    pub offset: usize,
    pub scale: i8,
}
pub const DECIMAL_SUM_WORDS: usize = 5;

impl DecimalSum {
    #[inline(always)]
    fn total(words: &[u64; 5]) -> i256 {
        i256::from_parts(join(words[0], words[1]) as u128, join(words[2], words[3]))
    }
}

impl Accumulator for DecimalSum {
    fn add(&mut self, cells: &mut Cells, rows: &Rows) {
        let values = &rows.argument().as_primitive::<Decimal128Type>().values()[..];
        rows.each(|row, id, weight| {
            let words = cells.at_mut::<5>(id, self.offset);
            let value = i256::from_i128(values[row]);
            let change = if weight == 1 { value } else { value.wrapping_mul(i256::from_i128(weight as i128)) };
            let (low, high) = Self::total(words).wrapping_add(change).to_parts();
            let count = words[4].wrapping_add(weight as u64);
            *words = [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64, count];
        });
    }
    fn results(
        &self,
        function: AggregateFunction,
        output: &DataType,
        cells: &Cells,
        ids: &[u32],
        faults: &mut Vec<Fault>,
    ) -> ArrayRef {
        let total = |id: u32| {
            let words = cells.at::<5>(id, self.offset);
            (Self::total(words), words[4] as i64)
        };
        decimal_results(function, output, self.scale, ids, total, faults)
    }
    fn values_offset(&self) -> Option<usize> {
        Some(self.offset + 4)
    }
}

fn decimal_results(
    function: AggregateFunction,
    output: &DataType,
    scale: i8,
    ids: &[u32],
    total: impl Fn(u32) -> (i256, i64),
    faults: &mut Vec<Fault>,
) -> ArrayRef {
    let nulls = nulls_where_empty(ids, |id| total(id).1 <= 0);
    match output {
        DataType::Int64 => {
            let sum = |sum: i256, _| sum.to_i128().filter(|sum| i64::try_from(*sum).is_ok());
            let values = each(ids, total, sum, BIGINT_OUT_OF_RANGE, faults);
            Arc::new(Int64Array::new(values.into_iter().map(|v| v as i64).collect(), nulls))
        }
        DataType::Decimal128(precision, output_scale) => {
            let values = if function == AggregateFunction::Avg {
                let digits = (*output_scale - scale) as u32;
                each(ids, total, |sum, count| average(sum, count, digits).filter(fits), NUMERIC_OVERFLOW, faults)
            } else {
                each(ids, total, |sum, _| sum.to_i128().filter(fits), NUMERIC_OVERFLOW, faults)
            };
            let array = Decimal128Array::new(values.into(), nulls);
            Arc::new(array.with_precision_and_scale(*precision, *output_scale).expect("a scale that was checked"))
        }
        other => unreachable!("no sum or average of exact numbers is a {other}"),
    }
}

/// `value(sum, count)` of each group that has values, 0 of the others; a fault where it is `None`.
fn each(
    ids: &[u32],
    total: impl Fn(u32) -> (i256, i64),
    value: impl Fn(i256, i64) -> Option<i128>,
    message: &'static str,
    faults: &mut Vec<Fault>,
) -> Vec<i128> {
    let value_at = |(i, id): (usize, &u32)| match total(*id) {
        (_, count) if count <= 0 => 0,
        (sum, count) => value(sum, count).unwrap_or_else(|| {
            faults.push((i, message));
            0
        }),
    };
    ids.iter().enumerate().map(value_at).collect()
}

fn fits(value: &i128) -> bool {
    value.unsigned_abs() < 10u128.pow(38)
}

/// `sum` / `count` with `digits` more digits behind the point, rounded half away from zero.
fn average(sum: i256, count: i64, digits: u32) -> Option<i128> {
    let factor = 10i128.pow(digits);
    if let Some(product) = sum.to_i128().and_then(|sum| sum.checked_mul(factor)) {
        let count = count as i128;
        let (quotient, rest) = (product / count, product % count);
        let away = (2 * rest.unsigned_abs() >= count.unsigned_abs()) as i128;
        return Some(quotient + away * product.signum());
    }
    let product = sum.checked_mul(i256::from_i128(factor))?;
    let count = i256::from_i128(count as i128);
    let (quotient, rest) = (product.checked_div(count)?, product.checked_rem(count)?);
    let away = rest.wrapping_abs().wrapping_add(rest.wrapping_abs()) >= count;
    let quotient = quotient.to_i128()?;
    Some(if !away { quotient } else { quotient + if product.is_negative() { -1 } else { 1 } })
}

/// Floats. Record: the number of values; the sums, of varying length, lie beside it.
pub struct FloatSum {
    pub offset: usize,
    pub sums: Vec<ExactSum>,
}

impl FloatSum {
    #[inline(always)]
    fn add_all<T: ArrowPrimitiveType>(&mut self, cells: &mut Cells, rows: &Rows)
    where
        T::Native: Into<f64>,
    {
        let values = &rows.argument().as_primitive::<T>().values()[..];
        rows.each(|row, id, weight| {
            cells.add_count(id, self.offset, weight);
            let sum = sum_of(&mut self.sums, id);
            match weight {
                1 => sum.add(values[row].into()),
                -1 => sum.subtract(values[row].into()),
                _ => add_weighted(sum, values[row].into(), weight),
            }
        });
    }
}

pub fn sum_of(sums: &mut Vec<ExactSum>, id: u32) -> &mut ExactSum {
    if sums.len() <= id as usize {
        sums.resize_with(id as usize + 1, ExactSum::new);
    }
    &mut sums[id as usize]
}

impl Accumulator for FloatSum {
    fn add(&mut self, cells: &mut Cells, rows: &Rows) {
        match rows.argument().data_type() {
            DataType::Float32 => self.add_all::<Float32Type>(cells, rows),
            _ => self.add_all::<Float64Type>(cells, rows),
        }
    }
    fn results(
        &self,
        function: AggregateFunction,
        output: &DataType,
        cells: &Cells,
        ids: &[u32],
        _: &mut Vec<Fault>,
    ) -> ArrayRef {
        let count = |id: u32| cells.count(id, self.offset);
        let nulls = nulls_where_empty(ids, |id| count(id) <= 0);
        let values = ids.iter().map(|id| match self.sums.get(*id as usize) {
            Some(sum) if count(*id) > 0 => match function {
                AggregateFunction::Avg => sum.value() / count(*id) as f64,
                _ => sum.value(),
            },
            _ => 0.0,
        });
        match output {
            DataType::Float32 => Arc::new(Float32Array::new(values.map(|v| v as f32).collect(), nulls)),
            _ => Arc::new(Float64Array::new(values.collect(), nulls)),
        }
    }
    fn values_offset(&self) -> Option<usize> {
        Some(self.offset)
    }
    fn clear(&mut self, id: u32) {
        if let Some(sum) = self.sums.get_mut(id as usize) {
            *sum = ExactSum::new();
        }
    }
    fn save(&self, ids: &[u32]) -> Option<ArrayRef> {
        Some(save_sums(&self.sums, ids))
    }
    fn load(&mut self, ids: &[u32], column: &ArrayRef) -> Result<()> {
        load_sums(&mut self.sums, ids, column)
    }
    fn side_bytes(&self) -> usize {
        sums_bytes(&self.sums)
    }
}

pub fn save_sums(sums: &[ExactSum], ids: &[u32]) -> ArrayRef {
    let bytes = ids.iter().map(|id| sums.get(*id as usize).map(ExactSum::to_bytes));
    Arc::new(bytes.collect::<BinaryArray>())
}

pub fn load_sums(sums: &mut Vec<ExactSum>, ids: &[u32], column: &ArrayRef) -> Result<()> {
    let column = column.as_binary::<i32>();
    for (row, id) in ids.iter().enumerate() {
        let saved = column.is_valid(row).then(|| ExactSum::from_bytes(column.value(row))).transpose()?;
        *sum_of(sums, *id) = saved.unwrap_or_default();
    }
    Ok(())
}

pub fn sums_bytes(sums: &Vec<ExactSum>) -> usize {
    sums.capacity() * size_of::<ExactSum>() + sums.iter().map(ExactSum::heap_size).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_round_half_away_from_zero() {
        let avg = |sum: i128, count, digits| average(i256::from_i128(sum), count, digits);
        assert_eq!([avg(5, 2, 0), avg(-5, 2, 0), avg(4, 3, 0), avg(-4, 3, 0)], [Some(3), Some(-3), Some(1), Some(-1)]);
        assert_eq!(avg(2, 3, 4), Some(6667));
        // Past 128 bits on the way.
        assert_eq!(avg(10i128.pow(37), 4, 16), None);
        assert_eq!(avg(10i128.pow(37) + 2, 10i64.pow(17), 16), Some(10i128.pow(36)));
        assert_eq!(avg(-(5 * 10i128.pow(36)) - 5 * 10i128.pow(3), 10i64.pow(18), 14), Some(-5 * 10i128.pow(32) - 1));
    }

    #[test]
    fn weights_of_floats_are_exact() {
        for (value, weight) in [(0.1, 1_000_001), (1e300, 3), (-2.5, -7), (f64::MAX, 3), (5e-324, 9)] {
            let (mut at_once, mut by_one) = (ExactSum::new(), ExactSum::new());
            add_weighted(&mut at_once, value, weight);
            (0..weight.unsigned_abs())
                .for_each(|_| if weight > 0 { by_one.add(value) } else { by_one.subtract(value) });
            assert_eq!(at_once.to_bytes(), by_one.to_bytes());
        }
        let mut sum = ExactSum::new();
        add_weighted(&mut sum, f64::NAN, 2);
        add_weighted(&mut sum, f64::NAN, -1);
        assert!(sum.value().is_nan());
        add_weighted(&mut sum, f64::NAN, -1);
        assert_eq!(sum.value(), 0.0);
    }
}
