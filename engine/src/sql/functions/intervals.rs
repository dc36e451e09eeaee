//! Intervals are compared by their span, a month being 30 days and a day 24 hours: `1 day` equals `24 hours`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::sql::types::NUMERIC_PRECISION_MAX;

/// Whether an operator compares two intervals.
pub fn compares(operator: &Operator, left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    let interval = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Interval(IntervalUnit::MonthDayNano)));
    super::unite::compares(operator) && interval(left) && interval(right)
}

/// The span of an interval, as a number.
pub fn span(interval: Expr) -> Expr {
    let signature = Signature::exact(vec![DataType::Interval(IntervalUnit::MonthDayNano)], Volatility::Immutable);
    ScalarUDF::from(Span { signature }).call(vec![interval])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Span {
    signature: Signature,
}

impl ScalarUDFImpl for Span {
    fn name(&self) -> &str {
        "mr_span"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(NUMERIC_PRECISION_MAX, 0))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let intervals = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
        let spans = spans(&intervals)?;
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&spans, 0)?)),
            false => Ok(ColumnarValue::Array(spans)),
        }
    }
}

/// The span of each.
pub fn spans(intervals: &ArrayRef) -> Result<ArrayRef> {
    let spans: Decimal128Array = intervals.as_primitive::<IntervalMonthDayNanoType>().unary(nanoseconds);
    Ok(Arc::new(spans.with_precision_and_scale(NUMERIC_PRECISION_MAX, 0)?))
}

/// How long an interval is.
pub fn nanoseconds(interval: IntervalMonthDayNano) -> i128 {
    const DAY_NS: i128 = 86_400_000_000_000;
    (i128::from(interval.months) * 30 + i128::from(interval.days)) * DAY_NS + i128::from(interval.nanoseconds)
}
