//! `named_struct`, which is the row of a table as a value (`sql/whole_rows.rs`): its fields know their SQL types, so that what
//! is json in a row stays json where the row becomes that, and that their names are names.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, StructFieldMapping,
};

use crate::sql::types::TYPE_KEY;

/// In the metadata of a field whose name is one of the query's; those of ROW(…) have none.
pub const NAMED: &str = "millrace.named";

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct NamedRow {
    stock: Arc<ScalarUDF>,
}

impl Default for NamedRow {
    fn default() -> Self {
        NamedRow { stock: datafusion::functions::core::named_struct() }
    }
}

impl ScalarUDFImpl for NamedRow {
    fn name(&self) -> &str {
        self.stock.name()
    }
    fn signature(&self) -> &Signature {
        self.stock.signature()
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.stock.return_type(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let values: Vec<FieldRef> = args.arg_fields.iter().skip(1).step_by(2).cloned().collect();
        let row = self.stock.return_field_from_args(args)?;
        let DataType::Struct(fields) = row.data_type() else { return Ok(row) };
        let told = |(field, value): (&FieldRef, &FieldRef)| -> Field {
            let sql_type = value.metadata().get(TYPE_KEY).map(|sql_type| (TYPE_KEY.to_string(), sql_type.clone()));
            let metadata = sql_type.into_iter().chain([(NAMED.to_string(), String::new())]).collect();
            field.as_ref().clone().with_metadata(metadata)
        };
        let fields: Fields = fields.iter().zip(&values).map(told).collect();
        Ok(Arc::new(row.as_ref().clone().with_data_type(DataType::Struct(fields))))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.stock.invoke_with_args(args)
    }
    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.stock.inner().struct_field_mapping(literals)
    }
}
