//! Whether a call gives the same for the same arguments in any session at any time, as CHECK and generated columns want it.
//! Our own functions and casts are made for a session: what they take from it is the time zone and how moments are written.
//!
//! ```text
//!   lower(x), n::text, date_trunc('day', ts), j->>'k'    steady
//!   tz::date, d::text, to_char(ts, 'YYYY'), now()        not
//! ```

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility};

use super::is_declared;

/// Functions that are made for a session and are not declared in the table.
const OWN: &[&str] = &[
    "age",
    "date_part",
    "date_trunc",
    "extract",
    "isfinite",
    "justify_days",
    "justify_hours",
    "justify_interval",
    "make_timestamp",
    "mr_cast",
    "to_char",
    "to_date",
];

/// Of a call over these columns.
pub fn is_steady(function: &ScalarFunction, schema: &DFSchema) -> bool {
    let name = function.name();
    if !OWN.contains(&name) && !is_declared(name) {
        return function.func.signature().volatility == Volatility::Immutable;
    }
    // A literal is read once.
    if name == "mr_cast" && matches!(function.args.as_slice(), [Expr::Literal(..)]) {
        return true;
    }
    let given: Result<Vec<DataType>, _> = function.args.iter().map(|argument| argument.get_type(schema)).collect();
    let (Ok(given), Ok(result)) = (given, Expr::ScalarFunction(function.clone()).get_type(schema)) else {
        return false;
    };
    let (result, all) = (innermost(&result), || given.iter().map(innermost));
    let reads = is_moment(result) && !given.is_empty() && all().all(is_text);
    let writes = is_text(result) && all().any(is_moment);
    // The zone is no part of what stays a moment with one, but of what is made of its days.
    let zoned = all().any(is_zoned) || is_zoned(result);
    let kept = name == "mr_cast" && all().all(is_zoned) && is_zoned(result);
    !reads && !writes && (!zoned || kept)
}

fn innermost(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::List(item) => innermost(item.data_type()),
        other => other,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_zoned(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(_)))
}

fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Interval(_))
}
