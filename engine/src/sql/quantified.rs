//! `x > ALL (SELECT …)` and `x <= ANY (SELECT …)` as values: spelt out with counts and extremes, which
//! say which of true, false and NULL it is, also over no rows and over NULLs.
//!
//! ```text
//!   x > ALL (SELECT v FROM t)   CASE WHEN x <= mr_max(v) THEN false  WHEN no rows THEN true
//!                                    WHEN x or any v IS NULL THEN NULL ELSE true END
//!   x > ANY (SELECT v FROM t)   NOT (x <= ALL (SELECT v FROM t))
//! ```
//!
//! `mr_max` is `max` of types too that Postgres compares and has no `max` of. Whether there are rows, and NULLs among them, is one
//! small number, asked for once: in a view every row of the outer query is joined to it, and what it is made of may change with
//! each row of the subquery, while it does not.

use sqlparser::ast::{BinaryOperator, Expr, Query};

use crate::error::Result;
use crate::sql::parse::parse_expression;

/// What is true exactly where an operator is false.
pub fn opposite(op: &BinaryOperator) -> Option<BinaryOperator> {
    use BinaryOperator as O;
    Some(match op {
        O::Eq => O::NotEq,
        O::NotEq => O::Eq,
        O::Lt => O::GtEq,
        O::LtEq => O::Gt,
        O::Gt => O::LtEq,
        O::GtEq => O::Lt,
        _ => return None,
    })
}

/// `x op ALL (subquery)`; `None` for other operators.
pub fn all(x: &Expr, op: &BinaryOperator, subquery: &Query) -> Result<Option<Expr>> {
    let of = |what: &str| format!("(SELECT {what} FROM ({subquery}) AS \"mr all\" (\"mr value\"))");
    let fails = match op {
        BinaryOperator::Gt | BinaryOperator::GtEq | BinaryOperator::Lt | BinaryOperator::LtEq => {
            let high = matches!(op, BinaryOperator::Gt | BinaryOperator::GtEq);
            let extreme = of(if high { "mr_max(\"mr value\")" } else { "mr_min(\"mr value\")" });
            let fails = opposite(op).map(|op| op.to_string()).unwrap_or_default();
            format!("({x}) {fails} {extreme}")
        }
        BinaryOperator::Eq => {
            format!("({x}) <> {} OR ({x}) <> {}", of("mr_min(\"mr value\")"), of("mr_max(\"mr value\")"))
        }
        _ => return Ok(None),
    };
    let others = without_match(x, &of(&what_rows("\"mr value\"")), true);
    parse_expression(&format!("((CASE WHEN {fails} THEN 0 ELSE {others} END) = 1)")).map(Some)
}

/// `x op ANY (subquery)`; `None` for other operators.
pub fn any(x: &Expr, op: &BinaryOperator, subquery: &Query) -> Result<Option<Expr>> {
    let Some(opposite) = opposite(op) else { return Ok(None) };
    let not_all = all(x, &opposite, subquery)?;
    let not = |all| Expr::UnaryOp { op: sqlparser::ast::UnaryOperator::Not, expr: Box::new(all) };
    Ok(not_all.map(|all| Expr::Nested(Box::new(not(all)))))
}

/// Of a subquery's rows: 0 when there are none, 2 when a value is NULL, else 1.
pub fn what_rows(value: &str) -> String {
    format!("CASE WHEN count(*) = 0 THEN 0 WHEN count({value}) < count(*) THEN 2 ELSE 1 END")
}

/// What is to be said (1 true, 0 false, or NULL) where no value of a subquery decides: `none` of no rows at all, and of rows
/// where nothing is NULL. As numbers, because the optimizer takes a CASE of truth values apart and asks twice.
pub fn without_match(x: &Expr, what_rows: &str, none: bool) -> String {
    let none = i32::from(none);
    format!(
        "CASE {what_rows} WHEN 0 THEN {none} WHEN 2 THEN NULL ELSE CASE WHEN ({x}) IS NULL THEN NULL ELSE {none} END END"
    )
}
