//! `lag` and `lead` by a number of rows that each row says itself, where DataFusion's want a literal.
//!
//! ```text
//!   lag(v, k) OVER w       mr_lag(v, k) OVER w
//!   lead(v, k, 0) OVER w   mr_lead(v, k, 0) OVER w
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Shift {
    name: &'static str,
    back: bool,
    signature: Signature,
}

pub fn all() -> [Shift; 2] {
    let signature = || Signature::user_defined(Volatility::Immutable);
    [
        Shift { name: "mr_lag", back: true, signature: signature() },
        Shift { name: "mr_lead", back: false, signature: signature() },
    ]
}

impl WindowUDFImpl for Shift {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value, rows] if rows.is_integer() || rows.is_null() => Ok(vec![value.clone(), DataType::Int64]),
            [value, rows, _] if rows.is_integer() || rows.is_null() => {
                Ok(vec![value.clone(), DataType::Int64, value.clone()])
            }
            _ => plan_err!("the offset of lag and lead is a whole number"),
        }
    }
    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        let Some(value) = arguments.get_input_field(0) else { return plan_err!("lag and lead are of a value") };
        Ok(Arc::new(value.as_ref().clone().with_name(arguments.name()).with_nullable(true)))
    }
    fn limit_effect(&self, _: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Rows { back: self.back }))
    }
}

#[derive(Debug)]
struct Rows {
    back: bool,
}

impl PartitionEvaluator for Rows {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let (of, by) = (&values[0], values[1].as_primitive::<Int64Type>());
        let none = new_null_array(of.data_type(), 1);
        let other = values.get(2).unwrap_or(&none);
        let places: Vec<(usize, usize)> = (0..rows)
            .map(|row| {
                if by.is_null(row) {
                    return (2, 0);
                }
                let by = if self.back { by.value(row).checked_neg() } else { Some(by.value(row)) };
                let at = by.and_then(|by| (row as i64).checked_add(by)).and_then(|at| usize::try_from(at).ok());
                match at.filter(|at| *at < rows) {
                    Some(at) => (0, at),
                    None => (1, if values.len() > 2 { row } else { 0 }),
                }
            })
            .collect();
        Ok(interleave(&[of.as_ref(), other.as_ref(), none.as_ref()], &places)?)
    }
}
