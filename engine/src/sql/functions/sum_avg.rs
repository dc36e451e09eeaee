//! `sum` and `avg` with Postgres' types, exact for floats too (see `totals.rs`); they replace DataFusion's.
//!
//! State per group: the count of values and the total in bytes. DISTINCT keeps the set of values instead.

use std::collections::HashSet;
use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, ListArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, IntervalUnit};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
    utils::AggregateOrderSensitivity,
};

use super::tags;
use super::totals::*;
use crate::sql::types::NUMERIC_PRECISION_MAX;

/// `sum` or `avg`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SumOrAvg {
    average: bool,
    signature: Signature,
}

impl SumOrAvg {
    pub fn sum() -> Self {
        SumOrAvg { average: false, signature: Signature::user_defined(Volatility::Immutable) }
    }
    pub fn avg() -> Self {
        SumOrAvg { average: true, signature: Signature::user_defined(Volatility::Immutable) }
    }
    fn end(&self, input: &DataType) -> Result<End> {
        let scale = match input {
            DataType::Decimal128(_, scale) => *scale,
            _ => 0,
        };
        Ok(End { average: self.average, output: self.return_type(std::slice::from_ref(input))?, scale })
    }
}

fn external(error: crate::error::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The type that values of a type are summed as.
fn summed_as(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => DataType::Int16,
        DataType::Int32 | DataType::UInt16 => DataType::Int32,
        DataType::Int64 | DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Float16 | DataType::Float32 => DataType::Float32,
        DataType::Float64 | DataType::Null => DataType::Float64,
        DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Dictionary(_, value) => summed_as(value)?,
        _ => return None,
    })
}

/// Calls a generic function with the total for an input type.
macro_rules! with_total {
    ($input:expr, $total:ident => $result:expr) => {
        match $input {
            DataType::Int16 => {
                type $total = SmallintTotal;
                $result
            }
            DataType::Int32 => {
                type $total = IntegerTotal;
                $result
            }
            DataType::Int64 => {
                type $total = BigintTotal;
                $result
            }
            DataType::Decimal128(..) => {
                type $total = NumericTotal;
                $result
            }
            DataType::Float32 => {
                type $total = RealTotal;
                $result
            }
            DataType::Float64 => {
                type $total = DoubleTotal;
                $result
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                type $total = IntervalTotal;
                $result
            }
            other => exec_err!("no total for {other}"),
        }
    };
}

impl AggregateUDFImpl for SumOrAvg {
    fn name(&self) -> &str {
        if self.average { "avg" } else { "sum" }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [data_type] => match summed_as(data_type) {
                Some(summed) => Ok(vec![summed]),
                None => {
                    let sql_type = crate::sql::types::sql_type_of_arrow(data_type);
                    Err(external(crate::Error::new(
                        "42883",
                        format!("function {}({sql_type}) does not exist", self.name()),
                    )))
                }
            },
            _ => plan_err!("Function '{}' expects 1 arguments but received {}", self.name(), arg_types.len()),
        }
    }
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let precision = NUMERIC_PRECISION_MAX;
        Ok(match (&arg_types[0], self.average) {
            (DataType::Int16 | DataType::Int32, false) => DataType::Int64,
            (DataType::Int64, false) => DataType::Decimal128(precision, 0),
            (DataType::Int16 | DataType::Int32 | DataType::Int64, true) => DataType::Decimal128(precision, 16),
            (DataType::Decimal128(_, scale), false) => DataType::Decimal128(precision, *scale),
            (DataType::Decimal128(_, scale), true) => DataType::Decimal128(precision, (*scale).max(16)),
            (DataType::Float32, false) => DataType::Float32,
            (DataType::Float32 | DataType::Float64, _) => DataType::Float64,
            (interval @ DataType::Interval(_), _) => interval.clone(),
            (other, _) => return plan_err!("Function '{}' expects a number, not {other}", self.name()),
        })
    }
    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.iter().map(|argument| argument.data_type().clone()).collect();
        let field = Field::new(self.name(), self.return_type(&types)?, true);
        let metadata = match self.average {
            true => Default::default(),
            false => tags::of_aggregate(&arguments[0], field.data_type()),
        };
        Ok(Arc::new(field.with_metadata(metadata)))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if args.is_distinct {
            let item = Field::new_list_field(args.input_fields[0].data_type().clone(), true);
            return Ok(vec![Arc::new(Field::new(
                format!("{}[values]", args.name),
                DataType::List(Arc::new(item)),
                false,
            ))]);
        }
        Ok(vec![
            Arc::new(Field::new(format!("{}[count]", args.name), DataType::Int64, false)),
            Arc::new(Field::new(format!("{}[total]", args.name), DataType::Binary, false)),
        ])
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let input = args.expr_fields[0].data_type();
        let end = self.end(input)?;
        with_total!(input, T => Ok(match args.is_distinct {
            false => Box::new(One::<T> { total: T::default(), count: 0, end }) as Box<dyn Accumulator>,
            true => Box::new(Distinct::<T> { values: HashSet::new(), input: input.clone(), end, total: std::marker::PhantomData }),
        }))
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.accumulator(args)
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let input = args.expr_fields[0].data_type();
        let end = self.end(input)?;
        with_total!(input, T => Ok(Box::new(Groups::<T> { totals: Vec::new(), counts: Vec::new(), end }) as Box<dyn GroupsAccumulator>))
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// One group.
#[derive(Debug)]
struct One<T: Total> {
    total: T,
    count: i64,
    end: End,
}

impl<T: Total> Accumulator for One<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        each_value(values[0].as_primitive::<T::Input>(), None, |_, value| {
            self.total.add(value);
            self.count += 1;
        });
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        each_value(values[0].as_primitive::<T::Input>(), None, |_, value| {
            self.total.subtract(value);
            self.count -= 1;
        });
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let end = T::end(std::slice::from_ref(&self.total), &[self.count], &self.end).map_err(external)?;
        ScalarValue::try_from_array(&end, 0)
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Int64(Some(self.count)), ScalarValue::Binary(Some(self.total.to_bytes()))])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (counts, totals) = (states[0].as_primitive::<Int64Type>(), states[1].as_binary::<i32>());
        for i in 0..counts.len() {
            self.count += counts.value(i);
            self.total.merge(totals.value(i)).map_err(external)?;
        }
        Ok(())
    }
    fn size(&self) -> usize {
        size_of::<Self>() + self.total.heap_size()
    }
}

/// Many groups.
struct Groups<T: Total> {
    totals: Vec<T>,
    counts: Vec<i64>,
    end: End,
}

impl<T: Total> Groups<T> {
    fn resize(&mut self, groups: usize) {
        self.totals.resize_with(groups, T::default);
        self.counts.resize(groups, 0);
    }
}

impl<T: Total> GroupsAccumulator for Groups<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.resize(total_groups);
        each_value(values[0].as_primitive::<T::Input>(), filter, |row, value| {
            let group = groups[row];
            self.totals[group].add(value);
            self.counts[group] += 1;
        });
        Ok(())
    }
    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (totals, counts) = (emit_to.take_needed(&mut self.totals), emit_to.take_needed(&mut self.counts));
        T::end(&totals, &counts, &self.end).map_err(external)
    }
    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (totals, counts) = (emit_to.take_needed(&mut self.totals), emit_to.take_needed(&mut self.counts));
        let totals: BinaryArray = totals.iter().map(|total| Some(total.to_bytes())).collect();
        Ok(vec![Arc::new(Int64Array::from(counts)), Arc::new(totals)])
    }
    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.resize(total_groups);
        let (counts, totals) = (states[0].as_primitive::<Int64Type>(), states[1].as_binary::<i32>());
        for (row, &group) in groups.iter().enumerate() {
            self.counts[group] += counts.value(row);
            self.totals[group].merge(totals.value(row)).map_err(external)?;
        }
        Ok(())
    }
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each_row = Groups::<T> { totals: Vec::new(), counts: Vec::new(), end: self.end.clone() };
        each_row.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each_row.state(EmitTo::All)
    }
    fn size(&self) -> usize {
        let heap: usize = self.totals.iter().map(T::heap_size).sum();
        self.totals.capacity() * size_of::<T>() + self.counts.capacity() * size_of::<i64>() + heap
    }
}

/// DISTINCT: the values seen.
#[derive(Debug)]
struct Distinct<T: Total> {
    values: HashSet<ScalarValue>,
    input: DataType,
    end: End,
    total: std::marker::PhantomData<fn() -> T>,
}

impl<T: Total> Distinct<T> {
    fn see(&mut self, values: &ArrayRef) -> Result<()> {
        for i in (0..values.len()).filter(|&i| values.is_valid(i)) {
            // −0 equals 0.
            self.values.insert(match ScalarValue::try_from_array(values, i)? {
                ScalarValue::Float64(Some(v)) => ScalarValue::Float64(Some(v + 0.0)),
                ScalarValue::Float32(Some(v)) => ScalarValue::Float32(Some(v + 0.0)),
                other => other,
            });
        }
        Ok(())
    }
}

impl<T: Total> Accumulator for Distinct<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.see(&values[0])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut one = One::<T> { total: T::default(), count: 0, end: self.end.clone() };
        if !self.values.is_empty() {
            one.update_batch(&[ScalarValue::iter_to_array(self.values.iter().cloned())?])?;
        }
        one.evaluate()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = match self.values.is_empty() {
            true => arrow::array::new_empty_array(&self.input),
            false => ScalarValue::iter_to_array(self.values.iter().cloned())?,
        };
        Ok(vec![SingleRowListArrayBuilder::new(values).build_list_scalar()])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists: &ListArray = states[0].as_list();
        lists.iter().flatten().try_for_each(|values| self.see(&values))
    }
    fn size(&self) -> usize {
        size_of::<Self>() + self.values.capacity() * size_of::<ScalarValue>()
    }
}
