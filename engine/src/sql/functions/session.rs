//! The bounds of session windows as window functions: what SESSION in FROM is made of (see `sql/window.rs`).
//!
//! ```text
//!   mr_session_start(ts, INTERVAL '10 seconds') OVER (PARTITION BY k ORDER BY ts)
//!   mr_session_end(ts, INTERVAL '10 seconds') OVER (PARTITION BY k ORDER BY ts)
//! ```
//!
//! Rows less than the gap apart are one session; it starts with its first row and ends a gap after its last.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Field, FieldRef, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDFImpl};

use super::windows::{time_type, window_length};

/// The functions' names.
pub const SESSION_START: &str = "mr_session_start";
pub const SESSION_END: &str = "mr_session_end";

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SessionBound {
    end: bool,
    signature: Signature,
}

/// Both of them.
pub fn all() -> [SessionBound; 2] {
    [false, true].map(|end| SessionBound { end, signature: Signature::user_defined(Volatility::Immutable) })
}

impl WindowUDFImpl for SessionBound {
    fn name(&self) -> &str {
        if self.end { SESSION_END } else { SESSION_START }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [time, _] = arg_types else {
            return plan_err!("Function '{}' expects 2 arguments but received {}", self.name(), arg_types.len());
        };
        Ok(vec![time_type(time)?, DataType::Interval(IntervalUnit::MonthDayNano)])
    }
    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        let time = arguments.get_input_field(0).map(|field| field.data_type().clone());
        let time = time.unwrap_or(DataType::Timestamp(TimeUnit::Microsecond, None));
        Ok(Arc::new(Field::new(arguments.name(), time, true)))
    }
    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Sessions { end: self.end }))
    }
}

#[derive(Debug)]
struct Sessions {
    end: bool,
}

impl PartitionEvaluator for Sessions {
    /// `values`: the times of a partition, in order, and the gap.
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let times = values[0].as_primitive::<TimestampMicrosecondType>();
        if rows == 0 {
            return Ok(values[0].clone());
        }
        let gap = window_length(values[1].as_primitive::<IntervalMonthDayNanoType>().value(0))?;
        let mut bounds = Vec::with_capacity(rows);
        let mut first = 0;
        for row in 1..=rows {
            let ends = row == rows || times.value(row).abs_diff(times.value(row - 1)) >= gap.unsigned_abs();
            if ends {
                let bound = if self.end { times.value(row - 1).saturating_add(gap) } else { times.value(first) };
                bounds.resize(row, bound);
                first = row;
            }
        }
        let zone = match times.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        Ok(Arc::new(TimestampMicrosecondArray::from(bounds).with_timezone_opt(zone)))
    }
}
