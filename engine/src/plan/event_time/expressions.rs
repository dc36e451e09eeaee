//! What is known of an expression's value from that of a time column.

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};

use crate::operators::evaluate::Expression;
use crate::time::TimeBound;

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;
/// No zone's time has ever been further from UTC.
const ZONE_MAX_US: i64 = 16 * HOUR_US;

/// A column's time, moved: exactly this many microseconds later.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    pub column: usize,
    pub offset_us: i64,
}

/// The expression as a line over one column of timestamps.
pub fn line(expression: &Expression) -> Option<Line> {
    if let Some(column) = expression.downcast_ref::<Column>() {
        return Some(Line { column: column.index(), offset_us: 0 });
    }
    if let Some(binary) = expression.downcast_ref::<BinaryExpr>() {
        let by = match binary.op() {
            Operator::Plus => fixed(binary.right())?,
            Operator::Minus => fixed(binary.right())?.checked_neg()?,
            _ => return None,
        };
        return shifted(line(binary.left())?, by);
    }
    let call = expression.downcast_ref::<ScalarFunctionExpr>()?;
    let args = call.args();
    match (call.fun().name(), args.len()) {
        ("mr_shift" | "mr_add", 2) => shifted(line(&args[0])?, fixed(&args[1])?),
        ("mr_subtract", 2) => shifted(line(&args[0])?, fixed(&args[1])?.checked_neg()?),
        _ => None,
    }
}

fn shifted(line: Line, by_us: i64) -> Option<Line> {
    Some(Line { offset_us: line.offset_us.checked_add(by_us)?, ..line })
}

/// The bound of an expression over columns with bounds.
pub fn bound(expression: &Expression, of: &[TimeBound]) -> Option<TimeBound> {
    if let Some(line) = line(expression) {
        return lower(super::of_column(of, line.column)?, line.offset_us);
    }
    let call = expression.downcast_ref::<ScalarFunctionExpr>()?;
    let (name, args) = (call.fun().name(), call.args());
    let in_zone = || if is_utc(call.config_options()) { 0 } else { ZONE_MAX_US };
    match (name, args.len()) {
        ("mr_shift" | "mr_add", 2) => lower(&bound(&args[0], of)?, fixed(&args[1])?),
        ("mr_subtract", 2) => lower(&bound(&args[0], of)?, fixed(&args[1])?.checked_neg()?),
        // It starts less than its length before the time that is in it.
        ("mr_window_start", 3) => lower(&bound(&args[0], of)?, 1 - fixed(&args[1])?),
        ("mr_hop_starts", 4) => lower(&bound(&args[0], of)?, 1 - fixed(&args[2])?),
        // It ends after the time.
        ("mr_cumulate", 4) => lower(&bound(&args[0], of)?, 1),
        ("date_bin" | "time_bucket", 2 | 3) => lower(&bound(&args[1], of)?, 1 - fixed(&args[0])?),
        ("date_trunc", 2 | 3) => {
            let unit = longest(text(&args[0])?)?;
            // A day in a zone may have an hour more.
            let zoned = args.len() == 3 || matches!(call.return_type(), DataType::Timestamp(_, Some(_)));
            let more = if zoned && (args.len() == 3 || in_zone() > 0) && unit > HOUR_US { HOUR_US } else { 0 };
            lower(&bound(&args[1], of)?, 1 - unit - more)
        }
        ("mr_cast", 1) => {
            let inner = bound(&args[0], of)?;
            match call.return_type() {
                DataType::Date32 => lower(&inner, 1 - DAY_US - in_zone()),
                DataType::Timestamp(..) => lower(&inner, -in_zone()),
                _ => None,
            }
        }
        _ => None,
    }
}

fn lower(bound: &TimeBound, by_us: i64) -> Option<TimeBound> {
    Some(TimeBound { offset_us: bound.offset_us.checked_add(by_us)?, ..bound.clone() })
}

fn is_utc(options: &ConfigOptions) -> bool {
    options.execution.time_zone.as_deref().is_none_or(|zone| matches!(zone, "UTC" | "utc" | "Etc/UTC" | "GMT"))
}

fn text(expression: &Expression) -> Option<&str> {
    match expression.downcast_ref::<Literal>()?.value() {
        ScalarValue::Utf8(Some(text)) => Some(text),
        _ => None,
    }
}

/// A constant interval of one length.
fn fixed(expression: &Expression) -> Option<i64> {
    match expression.downcast_ref::<Literal>()?.value() {
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months: 0, days, nanoseconds })) => {
            i64::from(*days).checked_mul(DAY_US)?.checked_add(nanoseconds / 1000)
        }
        _ => None,
    }
}

/// How long a unit of `date_trunc` can be.
fn longest(unit: &str) -> Option<i64> {
    let unit = unit.to_lowercase();
    Some(match unit.trim_end_matches('s') {
        "microsecond" => 1,
        "millisecond" => 1000,
        "second" => 1_000_000,
        "minute" => 60_000_000,
        "hour" => HOUR_US,
        "day" => DAY_US,
        "week" => 7 * DAY_US,
        "month" => 31 * DAY_US,
        "quarter" => 92 * DAY_US,
        "year" => 366 * DAY_US,
        "decade" => 3653 * DAY_US,
        _ => return None,
    })
}

/// The comparisons that must hold for a condition to: (a, b, strict) for a <= b, or a < b where strict.
pub fn at_most(condition: &Expression) -> Vec<(Line, Line, bool)> {
    let Some(binary) = condition.downcast_ref::<BinaryExpr>() else { return vec![] };
    let compared = |a: &Expression, b: &Expression, strict| match (line(a), line(b)) {
        (Some(a), Some(b)) => vec![(a, b, strict)],
        _ => vec![],
    };
    let (left, right) = (binary.left(), binary.right());
    match binary.op() {
        Operator::And => [at_most(left), at_most(right)].concat(),
        Operator::LtEq => compared(left, right, false),
        Operator::Lt => compared(left, right, true),
        Operator::GtEq => compared(right, left, false),
        Operator::Gt => compared(right, left, true),
        Operator::Eq => [compared(left, right, false), compared(right, left, false)].concat(),
        _ => vec![],
    }
}
