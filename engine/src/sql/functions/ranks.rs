//! `row_number`, `rank`, `dense_rank` and `ntile` with Postgres' types; they replace DataFusion's, whose unsigned numbers no
//! operator of Postgres knows.
//!
//! ```text
//!   row_number(), rank(), dense_rank()    bigint
//!   ntile(n)                              integer
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_window::{ntile, rank, row_number};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, Signature, WindowUDF, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;

use crate::error::Error;

/// A function of DataFusion's under its name, its results cast.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Rank {
    stock: Arc<WindowUDF>,
    to: DataType,
}

pub fn all() -> [Rank; 4] {
    let bigint = |stock| Rank { stock, to: DataType::Int64 };
    let ntile = Rank { stock: ntile::ntile_udwf(), to: DataType::Int32 };
    [number(), bigint(rank::rank_udwf()), bigint(rank::dense_rank_udwf()), ntile]
}

/// `row_number` as it is registered.
pub fn number() -> Rank {
    Rank { stock: row_number::row_number_udwf(), to: DataType::Int64 }
}

impl WindowUDFImpl for Rank {
    fn name(&self) -> &str {
        self.stock.name()
    }
    fn signature(&self) -> &Signature {
        self.stock.signature()
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.stock.coerce_types(arg_types)
    }
    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(arguments.name(), self.to.clone(), self.name() == "ntile")))
    }
    fn sort_options(&self) -> Option<SortOptions> {
        self.stock.sort_options()
    }
    fn limit_effect(&self, arguments: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.stock.inner().limit_effect(arguments)
    }
    fn partition_evaluator(&self, arguments: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let buckets = arguments.input_exprs().first().and_then(|buckets| buckets.downcast_ref::<Literal>());
        if self.name() == "ntile" && buckets.is_some_and(|buckets| buckets.value().is_null()) {
            return Ok(Box::new(Unknown { of: self.to.clone() }));
        }
        let stock = self.stock.partition_evaluator_factory(arguments).map_err(|error| match self.name() {
            "ntile" => {
                let error = Error::new("22014", "argument of ntile must be greater than zero");
                DataFusionError::External(Box::new(error))
            }
            _ => error,
        })?;
        Ok(Box::new(Cast { stock, to: self.to.clone() }))
    }
}

/// NULL for each row.
#[derive(Debug)]
struct Unknown {
    of: DataType,
}

impl PartitionEvaluator for Unknown {
    fn evaluate_all(&mut self, _: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        Ok(new_null_array(&self.of, rows))
    }
    fn uses_window_frame(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Cast {
    stock: Box<dyn PartitionEvaluator>,
    to: DataType,
}

impl PartitionEvaluator for Cast {
    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.stock.memoize(state)
    }
    fn get_range(&self, row: usize, rows: usize) -> Result<Range<usize>> {
        self.stock.get_range(row, rows)
    }
    fn is_causal(&self) -> bool {
        self.stock.is_causal()
    }
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        Ok(cast(&self.stock.evaluate_all(values, rows)?, &self.to)?)
    }
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        self.stock.evaluate(values, range)?.cast_to(&self.to)
    }
    fn evaluate_all_with_rank(&self, rows: usize, ranks: &[Range<usize>]) -> Result<ArrayRef> {
        Ok(cast(&self.stock.evaluate_all_with_rank(rows, ranks)?, &self.to)?)
    }
    fn supports_bounded_execution(&self) -> bool {
        self.stock.supports_bounded_execution()
    }
    fn uses_window_frame(&self) -> bool {
        self.stock.uses_window_frame()
    }
    fn include_rank(&self) -> bool {
        self.stock.include_rank()
    }
}
