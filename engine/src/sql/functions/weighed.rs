//! DataFusion's `array_repeat`, which makes as much as it is told, within the statement's bounds. Its other functions
//! that do so, and that Postgres has not, are left out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::functions_nested::repeat::array_repeat_udf;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::sql::bounds::Tally;

/// Arrays of any length from two numbers.
const LEFT_OUT: &[&str] = &["range", "generate_series", "array_resize"];

pub fn register(state: &mut SessionState) -> Result<()> {
    for name in LEFT_OUT {
        state.deregister_udf(name)?;
    }
    state.register_udf(Arc::new(repeat()))?;
    Ok(())
}

/// `array_repeat(x, n)`
pub fn repeat() -> ScalarUDF {
    Weighed { inner: array_repeat_udf() }.into()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Weighed {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Weighed {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut tally = Tally::default();
        if let [element, count] = &args.args[..] {
            let rows = args.number_rows;
            let bytes = match element {
                ColumnarValue::Scalar(scalar) => scalar.size(),
                ColumnarValue::Array(array) => array.to_data().get_slice_memory_size()? / rows.max(1),
            };
            // An index for each is made on the way.
            tally.add_all(bytes.max(8).saturating_mul(sum(count)?), rows)?;
        }
        let repeated = self.inner.invoke_with_args(args)?;
        Ok(match repeated {
            ColumnarValue::Array(array) => ColumnarValue::Array(tally.keep(array)),
            scalar => scalar,
        })
    }
}

fn sum(counts: &ColumnarValue) -> Result<usize> {
    let counts: ArrayRef = cast(&counts.to_array(1)?, &DataType::Int64)?;
    let counts = counts.as_primitive::<Int64Type>().iter().flatten();
    Ok(counts.fold(0usize, |sum, n| sum.saturating_add(usize::try_from(n).unwrap_or(0))))
}
