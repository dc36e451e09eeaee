//! `length` and `octet_length`, of bytea too; a char(n) is as long as it is without its padding.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::error::Error;
use crate::sql::common::{Kind, kind};
use crate::sql::types::{is_padded, sql_type_of, sql_type_of_arrow};

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Length {
    octets: bool,
    signature: Signature,
    aliases: Vec<String>,
}

pub fn all() -> Vec<Length> {
    let length = |octets, aliases: &[&str]| Length {
        octets,
        signature: Signature::user_defined(Volatility::Immutable),
        aliases: aliases.iter().map(|alias| alias.to_string()).collect(),
    };
    vec![length(false, &["char_length", "character_length"]), length(true, &[])]
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        if self.octets { "octet_length" } else { "length" }
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [text] if kind(text) == Some(Kind::Bytes) => Ok(vec![DataType::Binary]),
            [text] if kind(text) == Some(Kind::Text) || *text == DataType::Null => Ok(vec![DataType::Utf8]),
            _ => {
                let types: Vec<String> = types.iter().map(sql_type_of_arrow).collect();
                let message = format!("function {}({}) does not exist", self.name(), types.join(", "));
                Err(DataFusionError::External(Box::new(Error::new("42883", message))))
            }
        }
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let values = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
        let lengths: Int32Array = match values.data_type() {
            DataType::Binary => values.as_binary::<i32>().iter().map(|v| v.map(|v| v.len() as i32)).collect(),
            _ => {
                let padded = !self.octets && is_padded(&sql_type_of(&args.arg_fields[0]));
                let length = |text: &str| match (self.octets, padded) {
                    (true, _) => text.len() as i32,
                    (_, true) => text.trim_end_matches(' ').chars().count() as i32,
                    _ => text.chars().count() as i32,
                };
                values.as_string::<i32>().iter().map(|v| v.map(length)).collect()
            }
        };
        let lengths: ArrayRef = Arc::new(lengths);
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&lengths, 0)?)),
            false => Ok(ColumnarValue::Array(lengths)),
        }
    }
}
