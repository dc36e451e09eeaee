//! The SQL type of a result that is one of several values, or is made of numerics, where Arrow's type does not tell it:
//! what `coalesce` gives of two uuids is a uuid, and what is made of a `numeric` is one, shown without the zeros that its
//! column's scale would give it.
//!
//! ```text
//!   coalesce(n, 0), n + 1, CASE … THEN n END     numeric, as n is
//!   nullif(u, v)                                 uuid, as u and v are
//! ```
//!
//! Such an expression is put into a cast to what it is already; columns of plans and views have their types from that.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator};

use crate::sql::types::{NUMERIC_PRECISION_MAX, NUMERIC_SCALE_DEFAULT, TYPE_KEY, sql_type_of, with_sql_type};

const NUMERIC: &str = "numeric";

/// How a `numeric` without a scale is kept.
pub fn plain_numeric() -> DataType {
    DataType::Decimal128(NUMERIC_PRECISION_MAX, NUMERIC_SCALE_DEFAULT)
}

/// The metadata of an aggregate that is one of its values or their sum.
pub fn of_aggregate(argument: &FieldRef, result: &DataType) -> HashMap<String, String> {
    match (argument.metadata().get(TYPE_KEY), result) {
        (Some(tag), DataType::Decimal128(..)) if tag == NUMERIC => argument.metadata().clone(),
        _ => HashMap::new(),
    }
}

/// The SQL type of an expression of this field, as it will be.
pub fn sql_type(expr: &Expr, field: &Field, schema: &DFSchema) -> String {
    tag(expr, schema).unwrap_or_else(|| sql_type_of(field))
}

/// The expression with its type, where Arrow does not tell it.
pub fn tagged(expr: Expr, schema: &DFSchema) -> Expr {
    let Some(tag) = tag(&expr, schema) else { return expr };
    let Ok(data_type) = expr.get_type(schema) else { return expr };
    let field = with_sql_type(Field::new("", data_type, true), &tag);
    Expr::Cast(Cast { expr: Box::new(expr), field: Arc::new(field) })
}

fn tag(expr: &Expr, schema: &DFSchema) -> Option<String> {
    if let Expr::ScalarFunction(function) = expr
        && function.name() == "make_array"
    {
        let fields = function.args.iter().map(|e| e.to_field(schema).map(|(_, field)| field));
        let fields: Vec<FieldRef> = fields.collect::<Result<_>>().ok()?;
        let mixed = fields.iter().any(|field| field.metadata().get(TYPE_KEY).is_some_and(|tag| tag == NUMERIC));
        let item = expr.get_type(schema).ok()?;
        let plain = matches!(&item, DataType::List(item) if *item.data_type() == plain_numeric());
        return (mixed && plain).then(|| format!("{NUMERIC}[]"));
    }
    let (operands, arithmetic): (Vec<&Expr>, bool) = match expr {
        Expr::Case(case) => (
            case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr).map(|e| e.as_ref()).collect(),
            false,
        ),
        Expr::ScalarFunction(function) => match function.name() {
            "coalesce" | "greatest" | "least" => (function.args.iter().collect(), false),
            "nullif" => (function.args.iter().take(1).collect(), false),
            "abs" => (function.args.iter().collect(), true),
            _ => return None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Modulo) =>
        {
            (vec![left, right], true)
        }
        _ => return None,
    };
    let typed = |e: &&Expr| match e {
        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, metadata) => {
            metadata.as_ref().is_some_and(|known| known.inner().contains_key(TYPE_KEY))
        }
        _ => true,
    };
    let fields = operands.into_iter().filter(typed).map(|e| {
        let (_, field) = e.to_field(schema)?;
        // One of several values may be one of several itself.
        let within = if arithmetic { None } else { tag(e, schema) };
        Ok(within.map_or(field.clone(), |tag| Arc::new(with_sql_type(field.as_ref().clone(), &tag))))
    });
    let fields: Vec<FieldRef> = fields.collect::<Result<_>>().ok()?;
    let numeric = |field: &FieldRef| {
        matches!(field.data_type(), DataType::Decimal128(..))
            && field.metadata().get(TYPE_KEY).is_some_and(|tag| tag == NUMERIC)
    };
    if fields.iter().any(numeric) {
        let exact =
            |field: &FieldRef| matches!(field.data_type(), DataType::Decimal128(..)) || field.data_type().is_integer();
        return fields.iter().all(exact).then(|| NUMERIC.to_string());
    }
    let first = fields.first().filter(|_| !arithmetic)?;
    let same = fields.iter().all(|field| sql_type_of(field) == sql_type_of(first));
    let told = matches!(first.data_type(), DataType::Utf8 | DataType::Int64) && first.metadata().contains_key(TYPE_KEY);
    (same && told).then(|| sql_type_of(first)).filter(|tag| !matches!(tag.as_str(), "text" | "bigint"))
}
