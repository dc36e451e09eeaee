//! Variances and standard deviations with Postgres' types, exact; they replace DataFusion's, whose last digits depend on
//! the order of rows.
//!
//! ```text
//!   values            kept per group          result
//!   int2, int4, int8  n, Σx, Σx² as i256      numeric(38,16)
//!   numeric(p,s)      the same                numeric(38,max(s,16))
//!   real, double      n, Σx, Σx² as ExactSum  double
//! ```
//!
//! With exact numbers the variance is (n·Σx² − (Σx)²) / (n·n), of a sample / (n·(n−1)), rounded half away from zero;
//! the standard deviation is the square root of that.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, i256};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::totals::divide_rounded;
use crate::error::Error;
use crate::sql::exact_float::ExactSum;
use crate::sql::moments::{square, squared_deviations};
use crate::sql::types::{NUMERIC_PRECISION_MAX, sql_type_of_arrow};

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Variance {
    name: &'static str,
    aliases: Vec<String>,
    sample: bool,
    root: bool,
    signature: Signature,
}

pub fn all() -> Vec<Variance> {
    let function = |name, aliases: &[&str], sample, root| Variance {
        name,
        aliases: aliases.iter().map(|alias| alias.to_string()).collect(),
        sample,
        root,
        signature: Signature::user_defined(Volatility::Immutable),
    };
    vec![
        function("var_pop", &["var_population"], false, false),
        function("var_samp", &["variance", "var", "var_sample"], true, false),
        function("stddev_pop", &[], false, true),
        function("stddev_samp", &["stddev"], true, true),
    ]
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn overflow() -> DataFusionError {
    external(Error::new("22003", "numeric field overflow"))
}

impl AggregateUDFImpl for Variance {
    fn name(&self) -> &str {
        self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [data_type] = types else { return plan_err!("Function '{}' expects 1 argument", self.name) };
        Ok(vec![match data_type {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
                DataType::Decimal128(10, 0)
            }
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => DataType::Decimal128(20, 0),
            DataType::Decimal128(..) => data_type.clone(),
            DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Null => DataType::Float64,
            other => {
                let message = format!("function {}({}) does not exist", self.name, sql_type_of_arrow(other));
                return Err(external(Error::new("42883", message)));
            }
        }])
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match types {
            [DataType::Decimal128(_, scale)] => DataType::Decimal128(NUMERIC_PRECISION_MAX, (*scale).max(16)),
            _ => DataType::Float64,
        })
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(args.input_fields[0].data_type().clone(), true);
        Ok(vec![std::sync::Arc::new(Field::new(
            format!("{}[values]", args.name),
            DataType::List(std::sync::Arc::new(item)),
            false,
        ))])
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let input = args.expr_fields[0].data_type().clone();
        let end = End { sample: self.sample, root: self.root };
        let seen = args.is_distinct.then(HashSet::new);
        let sums = match &input {
            DataType::Decimal128(_, scale) => Sums::Exact { scale: *scale, sum: i256::ZERO, squares: i256::ZERO },
            _ => Sums::Float { sum: ExactSum::new(), squares: ExactSum::new() },
        };
        Ok(Box::new(Moments { input, end, sums, count: 0, seen, values: Vec::new() }))
    }
}

#[derive(Debug, Clone, Copy)]
struct End {
    sample: bool,
    root: bool,
}

#[derive(Debug)]
enum Sums {
    Exact { scale: i8, sum: i256, squares: i256 },
    Float { sum: ExactSum, squares: ExactSum },
}

#[derive(Debug)]
struct Moments {
    input: DataType,
    end: End,
    sums: Sums,
    count: i64,
    /// DISTINCT: the values seen.
    seen: Option<HashSet<ScalarValue>>,
    /// What was added, for a state that others merge.
    values: Vec<ArrayRef>,
}

impl Moments {
    /// Those of the values that count.
    fn distinct(&mut self, values: &ArrayRef) -> Result<ArrayRef> {
        let Some(seen) = &mut self.seen else { return Ok(values.clone()) };
        let mut new = Vec::new();
        for row in (0..values.len()).filter(|&row| values.is_valid(row)) {
            let value = ScalarValue::try_from_array(values, row)?;
            // −0 equals 0.
            let value = match value {
                ScalarValue::Float64(Some(v)) => ScalarValue::Float64(Some(v + 0.0)),
                other => other,
            };
            if seen.insert(value.clone()) {
                new.push(value);
            }
        }
        match new.is_empty() {
            true => Ok(values.slice(0, 0)),
            false => ScalarValue::iter_to_array(new),
        }
    }
}

impl Accumulator for Moments {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = self.distinct(&values[0])?;
        self.values.push(values.clone());
        match &mut self.sums {
            Sums::Exact { sum, squares, .. } => {
                for value in values.as_primitive::<Decimal128Type>().iter().flatten() {
                    let value = i256::from_i128(value);
                    let added = value.checked_mul(value).and_then(|square| squares.checked_add(square));
                    *squares = added.ok_or_else(overflow)?;
                    *sum = sum.checked_add(value).ok_or_else(overflow)?;
                    self.count += 1;
                }
            }
            Sums::Float { sum, squares } => {
                let values = cast(&values, &DataType::Float64)?;
                for value in values.as_primitive::<Float64Type>().iter().flatten() {
                    sum.add(value);
                    square(value).into_iter().for_each(|part| squares.add(part));
                    self.count += 1;
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let n = self.count;
        let degrees = n - i64::from(self.end.sample);
        match &self.sums {
            Sums::Float { .. } if degrees <= 0 => Ok(ScalarValue::Float64(None)),
            Sums::Float { sum, squares } => {
                let variance = squared_deviations(sum, squares, n) / degrees as f64;
                Ok(ScalarValue::Float64(Some(if self.end.root { variance.sqrt() } else { variance })))
            }
            Sums::Exact { scale, sum, squares } => {
                let out = (*scale).max(16);
                let result = match degrees {
                    1.. => Some(variance(n, degrees, *sum, *squares, *scale, out).ok_or_else(overflow)?),
                    _ => None,
                };
                let result = match result {
                    Some(variance) if self.end.root => Some(root(variance, out).ok_or_else(overflow)?),
                    other => other,
                };
                let limit = i256::from_i128(10i128.pow(u32::from(NUMERIC_PRECISION_MAX)));
                let result = match result {
                    Some(value) if value >= limit => return Err(overflow()),
                    other => other.and_then(i256::to_i128),
                };
                Ok(ScalarValue::Decimal128(result, NUMERIC_PRECISION_MAX, out))
            }
        }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<&dyn Array> = self.values.iter().map(|v| v.as_ref()).collect();
        let values = match values.is_empty() {
            true => arrow::array::new_empty_array(&self.input),
            false => arrow::compute::concat(&values)?,
        };
        Ok(vec![datafusion::common::utils::SingleRowListArrayBuilder::new(values).build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.update_batch(&[values]))
    }

    fn size(&self) -> usize {
        let values: usize = self.values.iter().map(|v| v.get_array_memory_size()).sum();
        size_of::<Self>() + values + self.seen.as_ref().map_or(0, |seen| seen.capacity() * size_of::<ScalarValue>())
    }
}

/// With `out` digits after the point, of sums of values with `scale` digits.
fn variance(n: i64, degrees: i64, sum: i256, squares: i256, scale: i8, out: i8) -> Option<i256> {
    let count = i256::from(n);
    let deviations = count.checked_mul(squares)?.checked_sub(sum.checked_mul(sum)?)?;
    let count = count.checked_mul(i256::from(degrees))?;
    let digits = i32::from(out) - 2 * i32::from(scale);
    match digits {
        0.. => divide_rounded(deviations, digits as u32, count),
        _ => divide_rounded(deviations, 0, count.checked_mul(i256::from_i128(10).checked_pow(digits.unsigned_abs())?)?),
    }
}

/// The square root of a number with `scale` digits after the point, with as many.
fn root(value: i256, scale: i8) -> Option<i256> {
    let scaled = value.checked_mul(i256::from_i128(10).checked_pow(scale as u32)?)?;
    if scaled == i256::ZERO {
        return Some(scaled);
    }
    // Newton from above.
    let two = i256::from_i128(2);
    let mut guess = i256::ONE;
    while guess.checked_mul(guess).is_some_and(|square| square < scaled) {
        guess = guess.checked_mul(two)?;
    }
    loop {
        let next = guess.checked_add(scaled.checked_div(guess)?)?.checked_div(two)?;
        if next >= guess {
            break;
        }
        guess = next;
    }
    // (guess + ½)² = guess² + guess + ¼.
    let rest = scaled.checked_sub(guess.checked_mul(guess)?)?;
    Some(if rest > guess { guess.checked_add(i256::ONE)? } else { guess })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_numerics() {
        let sums = |values: &[i128]| {
            let sum: i128 = values.iter().sum();
            let squares: i128 = values.iter().map(|v| v * v).sum();
            (values.len() as i64, i256::from_i128(sum), i256::from_i128(squares))
        };
        // As Postgres: var_pop(6, 3) = 2.2500000000000000, stddev_samp(6, 3) = 2.1213203435596426.
        let (n, sum, squares) = sums(&[6, 3]);
        assert_eq!(variance(n, n, sum, squares, 0, 16), Some(i256::from_i128(22_500_000_000_000_000)));
        let of_sample = variance(n, n - 1, sum, squares, 0, 16).unwrap();
        assert_eq!(root(of_sample, 16), Some(i256::from_i128(21_213_203_435_596_426)));
        // 1.50 and 2.75, with two digits after the point.
        let (n, sum, squares) = sums(&[150, 275]);
        assert_eq!(variance(n, n, sum, squares, 2, 16), Some(i256::from_i128(3_906_250_000_000_000)));
        assert_eq!(root(i256::ZERO, 16), Some(i256::ZERO));
    }
}
