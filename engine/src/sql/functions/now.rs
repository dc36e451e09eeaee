//! `now()`: when the statement began, with a time zone and microseconds as in Postgres. The planner puts the time in
//! its place; a plan in which it stands still has no statement, and evaluating it is an error.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::error::Error;
use crate::sql::types::UTC;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Now {
    signature: Signature,
    aliases: Vec<String>,
}

impl Default for Now {
    fn default() -> Self {
        let aliases = ["current_timestamp", "transaction_timestamp", "statement_timestamp", "clock_timestamp"];
        Now { signature: Signature::nullary(Volatility::Stable), aliases: aliases.map(String::from).into() }
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        "now"
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())))
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::External(Box::new(Error::unsupported("now() outside of a statement"))))
    }
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match info.query_execution_start_time() {
            None => ExprSimplifyResult::Original(args),
            Some(now) => {
                let value = ScalarValue::TimestampMicrosecond(Some(now.timestamp_micros()), Some(UTC.into()));
                ExprSimplifyResult::Simplified(Expr::Literal(value, None))
            }
        })
    }
}
