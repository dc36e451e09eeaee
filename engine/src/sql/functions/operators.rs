//! Operators that are functions: those of json and arrays, `||`, and matching by regular expressions.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, cast};
use sqlparser::ast::BinaryOperator;

use super::{bytes, declared, tags};
use crate::error::Error;
use crate::sql::bounds::check_in_plan;
use crate::sql::common::{Kind, common_type, kind};
use crate::sql::types::{is_padded, is_read};

/// Planned before those of arithmetic.
#[derive(Debug)]
pub struct Operators;

impl ExprPlanner for Operators {
    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(super::uniform::array().call(exprs)))
    }
    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        bytes::substring(args).map(PlannerResult::Planned)
    }
    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        bytes::position(args).map(PlannerResult::Planned)
    }
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator as O;
        check_in_plan()?;
        let RawBinaryExpr { op, left, right } = raw;
        let (left, right) = match op {
            // A parameter of which nothing is known is a text here.
            O::StringConcat => match (text_if_unknown(left), text_if_unknown(right)) {
                // NULL || NULL is a text as well.
                (Expr::Literal(ScalarValue::Null, _), right @ Expr::Literal(ScalarValue::Null, _)) => {
                    (Expr::Literal(ScalarValue::Utf8(None), None), right)
                }
                both => both,
            },
            _ => (left, right),
        };
        let (Ok((_, a)), Ok((_, b))) = (left.to_field(schema), right.to_field(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let (a_type, b_type) = (tags::sql_type(&left, &a, schema), tags::sql_type(&right, &b, schema));
        let json = |t: &str| matches!(t, "json" | "jsonb");
        let padded = is_padded;
        let list = |field: &Field| matches!(field.data_type(), DataType::List(_));
        let call = |name: &str, left: Expr, right: Expr| Ok(PlannerResult::Planned(function(name, vec![left, right])?));
        match op {
            // The padding of a char(n) counts for nothing, nor do blanks at the end of a literal beside it.
            O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq if padded(&a_type) || padded(&b_type) => {
                let trim = |expr: Expr, sql_type: &str| match padded(sql_type) || is_literal(&expr) {
                    true => function("rtrim", vec![expr]),
                    false => Ok(expr),
                };
                let (left, right) = (trim(left, &a_type)?, trim(right, &b_type)?);
                Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
            }
            O::Arrow => call("mr_json_get", left, right),
            O::LongArrow => call("mr_json_get_text", left, right),
            O::HashArrow => call("mr_json_path", left, right),
            O::HashLongArrow => call("mr_json_path_text", left, right),
            O::AtArrow | O::ArrowAt if list(&a) || list(&b) => {
                let (left, right) = same_lists(left, right, &a, &b);
                if op == O::AtArrow {
                    call("mr_array_contains", left, right)
                } else {
                    call("mr_array_contains", right, left)
                }
            }
            O::PGOverlap if list(&a) || list(&b) => {
                let (left, right) = same_lists(left, right, &a, &b);
                call("mr_array_overlaps", left, right)
            }
            O::AtArrow if json(&a_type) || json(&b_type) => call("mr_jsonb_contains", left, right),
            O::ArrowAt if json(&a_type) || json(&b_type) => call("mr_jsonb_contains", right, left),
            O::AtQuestion => call("mr_jsonb_path_exists", left, right),
            O::AtAt if json(&a_type) => call("mr_jsonb_path_match", left, right),
            O::Question => call("mr_jsonb_exists", left, right),
            O::QuestionPipe => call("mr_jsonb_exists_any", left, right),
            O::QuestionAnd => call("mr_jsonb_exists_all", left, right),
            O::HashMinus => call("mr_jsonb_delete_path", left, right),
            O::Minus if a_type == "jsonb" => call("mr_jsonb_delete", left, right),
            O::StringConcat if list(&a) && list(&b) => call("array_cat", left, right),
            O::StringConcat if list(&a) && is_literal(&right) => {
                let (left, right) = same_lists(left, right, &a, &b);
                call("array_cat", left, right)
            }
            O::StringConcat if list(&b) && is_literal(&left) => {
                let (left, right) = same_lists(left, right, &a, &b);
                call("array_cat", left, right)
            }
            O::StringConcat if list(&a) => call("array_append", left, small(right)),
            O::StringConcat if list(&b) => call("array_prepend", small(left), right),
            O::StringConcat if a_type == "jsonb" && (b_type == "jsonb" || is_literal(&right)) => {
                call("mr_jsonb_concat", left, right)
            }
            O::StringConcat if b_type == "jsonb" && is_literal(&left) => call("mr_jsonb_concat", left, right),
            O::StringConcat => {
                if let Some(joined) = bytes::concat(&left, &right, &a, &b, is_literal) {
                    return joined.map(PlannerResult::Planned);
                }
                // One of them must be a text.
                let other = |field: &Field, sql_type: &str, expr: &Expr| {
                    let told = is_read(sql_type) && !is_literal(expr);
                    told || !matches!(kind(field.data_type()), Some(Kind::Text) | None)
                };
                if other(&a, &a_type, &left) && other(&b, &b_type, &right) {
                    let message = format!("operator does not exist: {a_type} || {b_type}");
                    return Err(declared::external(Error::new("42883", message)));
                }
                // A column that is NULL and nothing else is a text.
                let settled = |expr: Expr, sql_type: &str, field: &Field| match field.data_type() {
                    DataType::Null => Ok(cast(expr, DataType::Utf8)),
                    _ if padded(sql_type) => function("rtrim", vec![expr]),
                    _ => Ok(expr),
                };
                let (left, right) = (settled(left, &a_type, &a)?, settled(right, &b_type, &b)?);
                Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
            }
            O::PGRegexMatch => call("mr_matches", left, right),
            O::PGRegexIMatch => call("mr_matches_any_case", left, right),
            O::PGRegexNotMatch => Ok(PlannerResult::Planned(!function("mr_matches", vec![left, right])?)),
            O::PGRegexNotIMatch => Ok(PlannerResult::Planned(!function("mr_matches_any_case", vec![left, right])?)),
            O::PGStartsWith => call("starts_with", left, right),
            op => Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        }
    }
}

fn function(name: &str, arguments: Vec<Expr>) -> Result<Expr> {
    Ok(declared::named(name)?.call(arguments))
}

fn text_if_unknown(expr: Expr) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let text = Arc::new(Field::new("", DataType::Utf8, true));
            Expr::Placeholder(Placeholder::new_with_field(id, Some(text)))
        }
        other => other,
    }
}

/// A whole number that fits is an integer.
fn small(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match i32::try_from(value) {
            Ok(value) => Expr::Literal(ScalarValue::Int32(Some(value)), metadata),
            Err(_) => Expr::Literal(ScalarValue::Int64(Some(value)), metadata),
        },
        other => other,
    }
}

/// A literal in quotes, or NULL, which have no type of their own.
fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _))
}

/// Arrays of one type; a literal is one of the other's.
fn same_lists(left: Expr, right: Expr, a: &Field, b: &Field) -> (Expr, Expr) {
    let as_type = |expr: Expr, data_type: &DataType| Expr::Cast(Cast::new(Box::new(expr), data_type.clone()));
    match (a.data_type(), b.data_type()) {
        (a, b) if a == b => (left, right),
        (list @ DataType::List(_), _) if is_literal(&right) => (left, as_type(right, list)),
        (_, list @ DataType::List(_)) if is_literal(&left) => (as_type(left, list), right),
        (a, b) => match common_type(a, b) {
            Some(common) => (as_type(left, &common), as_type(right, &common)),
            None => (left, right),
        },
    }
}
