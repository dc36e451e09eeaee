//! `pg_sleep(seconds)`: waits, which a client may cancel.

use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::sql::bounds::check_in_plan;

/// How often it is looked whether the statement is to end.
const INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Sleep {
    signature: Signature,
}

impl Default for Sleep {
    fn default() -> Self {
        Sleep { signature: Signature::exact(vec![DataType::Float64], Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let seconds = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
        let seconds = seconds.as_primitive::<Float64Type>();
        let total: f64 = seconds.iter().flatten().filter(|seconds| *seconds > 0.0).sum();
        // More than any statement waits.
        let total = Duration::try_from_secs_f64(total).unwrap_or(Duration::from_secs(1 << 32));
        let wait = || -> Result<()> {
            let start = Instant::now();
            while start.elapsed() < total {
                check_in_plan()?;
                std::thread::sleep(INTERVAL.min(total.saturating_sub(start.elapsed())));
            }
            Ok(())
        };
        // Meanwhile other tasks are served by another thread.
        match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait)?,
            _ => wait()?,
        }
        // Postgres' void.
        Ok(match scalar && seconds.is_null(0) {
            true => ColumnarValue::Scalar(ScalarValue::Utf8(None)),
            false => ColumnarValue::Scalar(ScalarValue::Utf8(Some(String::new()))),
        })
    }
}
