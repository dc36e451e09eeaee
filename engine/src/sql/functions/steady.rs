//! Aggregates whose result does not depend on the order of rows, as they are, but over a frame whose start moves: there
//! those that cannot take a value back are computed anew for each row.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

/// Those of the library's that want it.
pub const NAMES: &[&str] = &["bool_and", "bool_or", "bit_and", "bit_or", "bit_xor"];

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Steady {
    inner: Arc<AggregateUDF>,
}

impl Steady {
    pub fn new(inner: Arc<AggregateUDF>) -> Self {
        Steady { inner }
    }
}

impl AggregateUDFImpl for Steady {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }
    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.inner.return_field(arguments)
    }
    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let call = Call::of(&args);
        let own = self.inner.create_sliding_accumulator(args)?;
        if own.supports_retract_batch() {
            return Ok(own);
        }
        Ok(Box::new(Anew { inner: self.inner.clone(), call, rows: VecDeque::new() }))
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.inner.simplify()
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }
    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }
    /// See `min_max.rs`.
    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        match self.inner.is_nullable() {
            true => SetMonotonicity::NotMonotonic,
            false => self.inner.inner().set_monotonicity(data_type),
        }
    }
}

/// What a call's accumulators are made of.
#[derive(Debug)]
struct Call {
    return_field: FieldRef,
    schema: Schema,
    ignore_nulls: bool,
    order_bys: Vec<PhysicalSortExpr>,
    is_reversed: bool,
    name: String,
    is_distinct: bool,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl Call {
    fn of(args: &AccumulatorArgs) -> Self {
        Call {
            return_field: args.return_field.clone(),
            schema: args.schema.clone(),
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys.to_vec(),
            is_reversed: args.is_reversed,
            name: args.name.to_string(),
            is_distinct: args.is_distinct,
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
        }
    }

    fn args(&self) -> AccumulatorArgs<'_> {
        AccumulatorArgs {
            return_field: self.return_field.clone(),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &self.order_bys,
            is_reversed: self.is_reversed,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        }
    }
}

/// An aggregate over the rows of a frame, which leave it in the order in which they came.
#[derive(Debug)]
struct Anew {
    inner: Arc<AggregateUDF>,
    call: Call,
    /// Of each row its arguments.
    rows: VecDeque<Vec<ScalarValue>>,
}

impl Accumulator for Anew {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for row in 0..values.first().map_or(0, |column| column.len()) {
            let arguments = values.iter().map(|column| ScalarValue::try_from_array(column, row));
            self.rows.push_back(arguments.collect::<Result<_>>()?);
        }
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows.drain(..values.first().map_or(0, |column| column.len()));
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut accumulator = self.inner.accumulator(self.call.args())?;
        if let Some(first) = self.rows.front() {
            let column = |i: usize| ScalarValue::iter_to_array(self.rows.iter().map(|row| row[i].clone()));
            accumulator.update_batch(&(0..first.len()).map(column).collect::<Result<Vec<_>>>()?)?;
        }
        accumulator.evaluate()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut accumulator = self.inner.accumulator(self.call.args())?;
        accumulator.state()
    }
    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        datafusion::common::not_impl_err!("a frame is of one part")
    }
    fn size(&self) -> usize {
        size_of::<Self>() + self.rows.iter().flatten().map(ScalarValue::size).sum::<usize>()
    }
}
