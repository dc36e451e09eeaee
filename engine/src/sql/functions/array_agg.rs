//! `array_agg` with the SQL type of its values, which Arrow's list does not tell: of jsonb it is a jsonb[], of uuids a uuid[].
//! Otherwise DataFusion's, but that its size is not counted anew for each batch, and what it makes for a window is accounted.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
};

use super::measured::Measured;
use crate::sql::types::{TYPE_KEY, sql_type_of, with_sql_type};

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ArrayAgg {
    inner: Arc<AggregateUDF>,
}

/// For calls that are put into plans.
pub fn array_agg() -> Arc<AggregateUDF> {
    static FUNCTION: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(ArrayAgg::default().into()));
    FUNCTION.clone()
}

impl Default for ArrayAgg {
    fn default() -> Self {
        ArrayAgg { inner: array_agg_udaf() }
    }
}

impl AggregateUDFImpl for ArrayAgg {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }
    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        let own = Field::new(self.name(), self.return_type(&[arguments[0].data_type().clone()])?, true);
        let tagged =
            arguments[0].metadata().contains_key(TYPE_KEY) && !matches!(arguments[0].data_type(), DataType::List(_));
        Ok(Arc::new(if tagged { with_sql_type(own, &format!("{}[]", sql_type_of(&arguments[0]))) } else { own }))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }
    fn with_beneficial_ordering(self: Arc<Self>, ordered: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let ordered = self.inner.inner().clone().with_beneficial_ordering(ordered)?;
        Ok(ordered.map(|inner| {
            let inner = Arc::new(AggregateUDF::new_from_shared_impl(inner));
            Arc::new(ArrayAgg { inner }) as Arc<dyn AggregateUDFImpl>
        }))
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Measured::new(self.inner.accumulator(args)?)))
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Measured::new(self.inner.create_sliding_accumulator(args)?)))
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner.reverse_udf() {
            ReversedUDAF::Reversed(inner) => ReversedUDAF::Reversed(Arc::new(ArrayAgg { inner }.into())),
            other => other,
        }
    }
    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }
}
