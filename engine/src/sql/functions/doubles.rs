//! Functions that Postgres has of double precision alone, where DataFusion's of a real are real: `cbrt`, those of angles.
//! What has no result is an error, and not NaN.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;

const NAMES: &[&str] = &[
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "cot", "degrees", "radians",
    "sin", "sinh", "tan", "tanh",
];

pub fn register(state: &mut SessionState) -> Result<()> {
    for name in NAMES {
        let inner = state.udf(name)?;
        let signature = Signature::user_defined(Volatility::Immutable);
        state.register_udf(Arc::new(OfDoubles { inner, signature }.into()))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfDoubles {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for OfDoubles {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let arguments = if self.name() == "atan2" { 2 } else { 1 };
        // A literal in quotes is a number too.
        let number = |t: &DataType| t.is_numeric() || matches!(t, DataType::Null | DataType::Utf8);
        match types.len() == arguments && types.iter().all(number) {
            true => Ok(vec![DataType::Float64; arguments]),
            false => {
                let types: Vec<String> = types.iter().map(crate::sql::types::sql_type_of_arrow).collect();
                let message = format!("function {}({}) does not exist", self.name(), types.join(", "));
                Err(DataFusionError::External(Box::new(Error::new("42883", message))))
            }
        }
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (given, rows) = (args.args.clone(), args.number_rows);
        let result = self.inner.invoke_with_args(args)?;
        let nan = |value: &ColumnarValue| -> Result<Vec<bool>> {
            let array = value.to_array(rows)?;
            let values = array.as_primitive::<Float64Type>();
            Ok((0..values.len()).map(|row| values.is_valid(row) && values.value(row).is_nan()).collect())
        };
        let mut unexplained = nan(&result)?;
        if unexplained.contains(&true) {
            for argument in &given {
                unexplained.iter_mut().zip(nan(argument)?).for_each(|(result, argument)| *result &= !argument);
            }
            if unexplained.contains(&true) {
                return Err(DataFusionError::External(Box::new(Error::new("22003", "input is out of range"))));
            }
        }
        Ok(result)
    }
}
