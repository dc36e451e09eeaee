//! LIMIT, OFFSET and FETCH: how many rows, where DataFusion wants a number.
//!
//! ```text
//!   FETCH FIRST 3 ROWS ONLY     LIMIT 3
//!   LIMIT 1.5 * 2               LIMIT CAST(1.5 * 2 AS bigint)
//!   LIMIT (SELECT …)            rows are numbered, and those with a number within it kept (ties.rs)
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, LimitClause, Query, Value};

use crate::error::{Error, Result};
use crate::sql::rewrite::{cast, number, whole_number};
use crate::sql::ties;
use crate::sql::visit;

/// Settles them. Errors: 42601, 0A000.
pub fn settle(query: &mut Query) -> Result<()> {
    if let Some(fetch) = query.fetch.take() {
        if fetch.percent {
            return Err(Error::unsupported("FETCH … PERCENT"));
        }
        let rows = fetch.quantity.unwrap_or_else(|| number("1"));
        if fetch.with_ties {
            return ties::keep(query, &rows);
        }
        let offset = match query.limit_clause.take() {
            Some(LimitClause::LimitOffset { offset, limit: None, .. }) => offset,
            None => None,
            Some(_) => return Err(Error::syntax("multiple LIMIT clauses not allowed")),
        };
        query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(rows), offset, limit_by: Vec::new() });
    }
    let Some(LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause else { return Ok(()) };
    let subquery = |expr: &Expr| match expr {
        Expr::Subquery(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let of_subquery = |expr: &Expr| visit::visit_expressions(expr, subquery).is_break();
    if limit.as_ref().is_some_and(of_subquery) || offset.as_ref().is_some_and(|offset| of_subquery(&offset.value)) {
        let (limit, offset) = (limit.take(), offset.take().map(|offset| offset.value));
        query.limit_clause = None;
        return ties::within(query, limit.as_ref(), offset.as_ref());
    }
    let negative = |expr: &Expr| matches!(expr, Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } if whole_number(expr).is_some_and(|n| n > 0));
    if limit.as_ref().is_some_and(negative) {
        return Err(Error::new("2201W", "LIMIT must not be negative"));
    }
    if offset.as_ref().is_some_and(|offset| negative(&offset.value)) {
        return Err(Error::new("2201X", "OFFSET must not be negative"));
    }
    limit.iter_mut().chain(offset.iter_mut().map(|offset| &mut offset.value)).try_for_each(as_bigint)
}

fn as_bigint(expr: &mut Expr) -> Result<()> {
    if let Some(text) = crate::sql::values::quoted_text(expr) {
        let rows: i64 = text
            .trim()
            .parse()
            .map_err(|_| Error::new("22P02", format!("invalid input syntax for type bigint: \"{text}\"")))?;
        *expr = number(&rows.to_string());
    }
    let plain = match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.bytes().all(|b| b.is_ascii_digit()),
            _ => true,
        },
        Expr::Cast { data_type: ast::DataType::BigInt(_), .. } => true,
        // Of what has columns it is an error.
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        _ => false,
    };
    if !plain {
        let taken = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        *expr = cast(Expr::Nested(Box::new(taken)), ast::DataType::BigInt(None));
    }
    Ok(())
}
