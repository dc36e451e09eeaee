//! variance, stddev and their kin, exact as views keep them (see `exact_float/deviations.rs`); they replace
//! DataFusion's, whose last digits depend on the order of rows.
//!
//! State per group: the count of values, and the exact sums of x and x² in bytes. DISTINCT keeps the values instead.
//! Numbers of any type count as doubles, and so does the result.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, ReversedUDAF, Signature, Volatility};

use crate::sql::exact_float::ExactSum;
use crate::sql::exact_float::deviations::{deviation, square};

/// One of the family.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Variance {
    name: &'static str,
    of_sample: bool,
    root: bool,
    signature: Signature,
}

/// By name: of the sample (else of the population), the root of it.
const FAMILY: &[(&str, bool, bool)] = &[
    ("variance", true, false),
    ("var_samp", true, false),
    ("var", true, false),
    ("var_pop", false, false),
    ("stddev", true, true),
    ("stddev_samp", true, true),
    ("stddev_pop", false, true),
];

pub fn all() -> impl Iterator<Item = Variance> {
    FAMILY.iter().map(|&(name, of_sample, root)| Variance {
        name,
        of_sample,
        root,
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

impl AggregateUDFImpl for Variance {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [data_type] if data_type.is_numeric() || data_type.is_null() => Ok(vec![DataType::Float64]),
            [data_type] => {
                let sql_type = crate::sql::types::sql_type_of_arrow(data_type);
                let message = format!("function {}({sql_type}) does not exist", self.name);
                Err(DataFusionError::External(Box::new(crate::Error::new("42883", message))))
            }
            _ => plan_err!("Function '{}' expects 1 arguments but received {}", self.name, arg_types.len()),
        }
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if args.is_distinct {
            let item = Field::new_list_field(DataType::Float64, true);
            let list = DataType::List(Arc::new(item));
            return Ok(vec![Arc::new(Field::new(format!("{}[values]", args.name), list, false))]);
        }
        Ok(vec![
            Arc::new(Field::new(format!("{}[count]", args.name), DataType::Int64, false)),
            Arc::new(Field::new(format!("{}[sum]", args.name), DataType::Binary, false)),
            Arc::new(Field::new(format!("{}[squares]", args.name), DataType::Binary, false)),
        ])
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (of_sample, root) = (self.of_sample, self.root);
        Ok(match args.is_distinct {
            false => Box::new(Sums { of_sample, root, ..Sums::default() }),
            true => Box::new(Distinct { of_sample, root, values: HashSet::new() }),
        })
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.accumulator(args)
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

#[derive(Debug, Default)]
struct Sums {
    of_sample: bool,
    root: bool,
    count: i64,
    sum: ExactSum,
    squares: ExactSum,
}

impl Sums {
    fn add(&mut self, values: &ArrayRef, weight: i64) {
        for value in values.as_primitive::<Float64Type>().iter().flatten() {
            self.count += weight;
            self.sum.add_weighted(value, weight);
            square(value).into_iter().for_each(|part| self.squares.add_weighted(part, weight));
        }
    }
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], 1);
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], -1);
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(deviation(&self.sum, &self.squares, self.count, self.of_sample, self.root)))
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![
            ScalarValue::Int64(Some(self.count)),
            ScalarValue::Binary(Some(self.sum.to_bytes())),
            ScalarValue::Binary(Some(self.squares.to_bytes())),
        ])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let sum_of = |bytes: &[u8]| ExactSum::from_bytes(bytes).map_err(|e| DataFusionError::External(Box::new(e)));
        let counts = states[0].as_primitive::<Int64Type>();
        let (sums, squares) = (states[1].as_binary::<i32>(), states[2].as_binary::<i32>());
        for i in 0..counts.len() {
            self.count += counts.value(i);
            self.sum.merge(&sum_of(sums.value(i))?);
            self.squares.merge(&sum_of(squares.value(i))?);
        }
        Ok(())
    }
    fn size(&self) -> usize {
        size_of::<Self>() + self.sum.heap_size() + self.squares.heap_size()
    }
}

/// The bits of the values seen; −0 is 0.
#[derive(Debug)]
struct Distinct {
    of_sample: bool,
    root: bool,
    values: HashSet<u64>,
}

impl Distinct {
    fn array(&self) -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(self.values.iter().map(|bits| f64::from_bits(*bits))))
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let one_nan = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
        self.values.extend(values[0].as_primitive::<Float64Type>().iter().flatten().map(|v| one_nan(v).to_bits()));
        Ok(())
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sums = Sums { of_sample: self.of_sample, root: self.root, ..Sums::default() };
        sums.add(&self.array(), 1);
        sums.evaluate()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![SingleRowListArrayBuilder::new(self.array()).build_list_scalar()])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.update_batch(&[values]))
    }
    fn size(&self) -> usize {
        size_of::<Self>() + self.values.capacity() * size_of::<u64>()
    }
}
