//! `min` and `max` of floats as in Postgres: NaN is greater than all other values. DataFusion's answer depends on the
//! order of rows when there is a NaN. Those of intervals and arrays go by their order's key; for all other types these are
//! DataFusion's functions.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
    StatisticsArgs,
};

use super::{order_key, tags};
use crate::error::Error;
use crate::sql::types::sql_type_of;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct MinOrMax {
    max: bool,
    /// Whether of any type that has an order: what `x > ANY (SELECT …)` is made of (`sql/quantified.rs`).
    of_any: bool,
    inner: Arc<AggregateUDF>,
    aliases: Vec<String>,
}

impl MinOrMax {
    pub fn min() -> Self {
        MinOrMax { max: false, of_any: false, inner: min_udaf(), aliases: Vec::new() }
    }
    pub fn max() -> Self {
        MinOrMax { max: true, of_any: false, inner: max_udaf(), aliases: Vec::new() }
    }
    /// `mr_min` and `mr_max`. They have the names of the others, which are to be registered after them.
    pub fn of_any() -> [Self; 2] {
        [MinOrMax::min(), MinOrMax::max()].map(|of| {
            let aliases = vec![format!("mr_{}", of.inner.name())];
            MinOrMax { of_any: true, aliases, ..of }
        })
    }
}

impl AggregateUDFImpl for MinOrMax {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }
    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        // To Arrow they are texts, which have another order, or none.
        if let Some(json) = arguments.iter().map(|field| sql_type_of(field)).find(|t| matches!(&**t, "json" | "jsonb"))
        {
            if self.of_any && *json == *"jsonb" {
                let refused = Error::unsupported("a comparison of jsonb with ANY or ALL of a subquery's rows");
                return Err(DataFusionError::External(Box::new(refused)));
            }
            let message = format!("function {}({json}) does not exist", self.name());
            return Err(DataFusionError::External(Box::new(Error::new("42883", message))));
        }
        let types: Vec<DataType> = arguments.iter().map(|argument| argument.data_type().clone()).collect();
        let field = Field::new(self.name(), self.return_type(&types)?, true);
        let metadata = tags::of_aggregate(&arguments[0], field.data_type());
        Ok(Arc::new(field.with_metadata(metadata)))
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if let ([DataType::Boolean], false) = (types, self.of_any) {
            let message = format!("function {}(boolean) does not exist", self.name());
            return Err(DataFusionError::External(Box::new(Error::new("42883", message))));
        }
        self.inner.coerce_types(types)
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match args.return_field.data_type() {
            float if float.is_floating() => {
                Ok(Box::new(BestFloat { max: self.max, data_type: float.clone(), best: None }))
            }
            keyed if order_key::of_type(keyed) => Ok(Box::new(BestByKey::new(self.max, keyed))),
            _ => self.inner.accumulator(args),
        }
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        let data_type = args.return_field.data_type();
        !data_type.is_floating() && !order_key::of_type(data_type) && self.inner.groups_accumulator_supported(args)
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match args.return_field.data_type() {
            keyed if order_key::of_type(keyed) => Ok(Box::new(BestByKey::of_frame(self.max, keyed))),
            _ => self.inner.create_sliding_accumulator(args),
        }
    }
    fn is_descending(&self) -> Option<bool> {
        Some(self.max)
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.value_from_stats(args)
    }
    /// Over a window's growing frame it would be, but for NULL at its beginning: DataFusion takes the rows for ordered with
    /// NULLs at the other end.
    fn set_monotonicity(&self, _: &DataType) -> SetMonotonicity {
        SetMonotonicity::NotMonotonic
    }
}

#[derive(Debug)]
struct BestFloat {
    max: bool,
    data_type: DataType,
    best: Option<f64>,
}

/// NaN equals NaN and is greater than all else; −0 equals 0.
fn order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl Accumulator for BestFloat {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = cast(&values[0], &DataType::Float64)?;
        let wanted = if self.max { Ordering::Greater } else { Ordering::Less };
        for value in values.as_primitive::<Float64Type>().iter().flatten() {
            if self.best.is_none_or(|best| order(value, best) == wanted) {
                self.best = Some(value);
            }
        }
        Ok(())
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::Float64(self.best).cast_to(&self.data_type)
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// Values by their keys, each with its count; but for a frame, which gives them back, only the best of them.
#[derive(Debug)]
struct BestByKey {
    max: bool,
    data_type: DataType,
    of_frame: bool,
    values: BTreeMap<Vec<u8>, (usize, ScalarValue)>,
}

impl BestByKey {
    fn new(max: bool, data_type: &DataType) -> Self {
        BestByKey { max, data_type: data_type.clone(), of_frame: false, values: BTreeMap::new() }
    }
    fn of_frame(max: bool, data_type: &DataType) -> Self {
        BestByKey { of_frame: true, ..BestByKey::new(max, data_type) }
    }
}

impl Accumulator for BestByKey {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for (row, key) in order_key::distinct_keys(&values[0])?.iter().enumerate() {
            let Some(key) = key else { continue };
            if let Some((count, _)) = self.values.get_mut(key) {
                *count += 1;
                continue;
            }
            self.values.insert(key.to_vec(), (1, ScalarValue::try_from_array(&values[0], row)?));
            if !self.of_frame && self.values.len() > 1 {
                if self.max {
                    self.values.pop_first()
                } else {
                    self.values.pop_last()
                };
            }
        }
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for key in order_key::distinct_keys(&values[0])?.iter().flatten() {
            if let Some((count, _)) = self.values.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.values.remove(key);
                }
            }
        }
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        self.of_frame
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let best = if self.max { self.values.last_key_value() } else { self.values.first_key_value() };
        best.map_or_else(|| ScalarValue::try_from(&self.data_type), |(_, (_, value))| Ok(value.clone()))
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
    fn size(&self) -> usize {
        let value = |(key, (_, value)): (&Vec<u8>, &(usize, ScalarValue))| key.capacity() + value.size() + 64;
        size_of::<Self>() + self.values.iter().map(value).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_greatest() {
        let values: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![f64::NAN, -2.0, f64::INFINITY]));
        for (max, expected) in [(false, -2.0), (true, f64::NAN)] {
            let mut best = BestFloat { max, data_type: DataType::Float64, best: None };
            best.update_batch(&[values.clone()]).unwrap();
            assert_eq!(best.evaluate().unwrap(), ScalarValue::Float64(Some(expected)));
        }
    }
}
