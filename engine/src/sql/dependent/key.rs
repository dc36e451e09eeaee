//! The key of several columns: one value that is never NULL, so that rows with NULLs find their answers.

use std::sync::Arc;

use arrow::array::BinaryArray;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(super) fn key(columns: &[Column]) -> Expr {
    ScalarUDF::from(Key::default()).call(columns.iter().cloned().map(Expr::Column).collect())
}

/// `mr_key(a, b, …)`: the same bytes for the same values, NULL being one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    signature: Signature,
}

impl Default for Key {
    fn default() -> Self {
        Key { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Key {
    fn name(&self) -> &str {
        "mr_key"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::Binary(Some(rows.row(0).data().to_vec())))),
            false => Ok(ColumnarValue::Array(Arc::new(BinaryArray::from_iter_values(rows.iter())))),
        }
    }
}
