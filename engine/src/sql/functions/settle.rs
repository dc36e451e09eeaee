//! The last pass of the analyzer: types are settled, so arithmetic that must check and casts that must read and write
//! as Postgres does take the place of DataFusion's. Types and names of columns stay as they are.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, when};
use datafusion::optimizer::AnalyzerRule;

use super::{arithmetic, cast_table, casts, declared, intervals, math, order_key, tags};
use crate::error::Error;
use crate::sql::context::WRITTEN;
use crate::sql::text::Zone;
use crate::sql::types::{self, sql_type_of};

#[derive(Debug)]
pub struct Settle;

impl AnalyzerRule for Settle {
    fn name(&self) -> &str {
        "settle"
    }
    fn analyze(&self, plan: LogicalPlan, options: &ConfigOptions) -> Result<LogicalPlan> {
        let moves = days_differ(options);
        plan.transform_up_with_subqueries(|plan| {
            let mut schema = merge_schema(&plan.inputs());
            if let LogicalPlan::TableScan(scan) = &plan {
                schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
            }
            let names = NamePreserver::new(&plan);
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expression(expr, &schema, moves)?.update_data(|expr| name.restore(expr)))
            })?;
            if plan.transformed { plan.map_data(|plan| plan.recompute_schema()) } else { Ok(plan) }
        })
        .map(|plan| plan.data)
    }
}

/// What a cast that is written out is from. A whole number that fits is an integer, whatever DataFusion calls it.
fn written_type(expr: &Expr, schema: &DFSchema) -> Option<String> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), _) if i32::try_from(*value).is_ok() => Some("integer".into()),
        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _) => None,
        other => other.to_field(schema).ok().map(|(_, field)| tags::sql_type(other, &field, schema)),
    }
}

/// The same for an expression over these columns.
pub fn expression(expr: Expr, schema: &DFSchema, moves: bool) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let settled = settled(expr, schema, moves)?;
        // The type of a cast is told already.
        Ok(match settled.data {
            Expr::Cast(_) => settled,
            expr => {
                let tagged = tags::tagged(expr, schema);
                let changed = settled.transformed || matches!(tagged, Expr::Cast(_));
                Transformed::new_transformed(tagged, changed)
            }
        })
    })
}

/// Functions of text, which take a char(n) without its padding.
const OF_TEXT: &[&str] = &[
    "ascii",
    "btrim",
    "initcap",
    "left",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "overlay",
    "quote_ident",
    "quote_literal",
    "regexp_match",
    "regexp_matches",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "translate",
    "upper",
];

/// How many dimensions an array has is no part of its type: `ARRAY[[1, 2]]::text[]` has as many as before.
fn of_its_dimensions(expr: &Expr, field: &FieldRef, schema: &DFSchema) -> Result<Option<FieldRef>> {
    fn dimensions(data_type: &DataType) -> usize {
        match data_type {
            DataType::List(item) => 1 + dimensions(item.data_type()),
            _ => 0,
        }
    }
    let (has, wanted) = (expr.get_type(schema).map_or(0, |t| dimensions(&t)), dimensions(field.data_type()));
    if has == 0 || wanted == 0 || has == wanted {
        return Ok(None);
    }
    let sql_type = sql_type_of(field);
    let sql_type = format!("{}{}", sql_type.trim_end_matches("[]"), "[]".repeat(has));
    let field = types::field(field.name(), &sql_type, field.is_nullable());
    field.map(|field| Some(Arc::new(field))).map_err(|error| DataFusionError::External(Box::new(error)))
}

fn is_padded(expr: &Expr, schema: &DFSchema) -> bool {
    expr.to_field(schema).is_ok_and(|(_, field)| types::is_padded(&sql_type_of(&field)))
}

/// Whether days of the session's zone are of different lengths: then timestamptz + interval asks for the zone.
pub fn days_differ(options: &ConfigOptions) -> bool {
    let zone = options.execution.time_zone.as_deref().and_then(|name| Zone::parse(name).ok());
    matches!(zone, Some(Zone::Named(_)))
}

/// An interval that is more than a time, added to a timestamptz. Conditions on now() stay as they are known.
fn moves_by_days(left: &Expr, op: &Operator, right: &Expr, schema: &DFSchema) -> bool {
    let time_only = match right {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(by)), _) => by.months == 0 && by.days == 0,
        _ => false,
    };
    let now = |expr: &Expr| matches!(expr, Expr::ScalarFunction(function) if function.name() == "now");
    matches!(op, Operator::Plus | Operator::Minus)
        && !time_only
        && left.get_type(schema).is_ok_and(|t| matches!(t, DataType::Timestamp(_, Some(_))))
        && right.get_type(schema).is_ok_and(|t| matches!(t, DataType::Interval(_)))
        && !left.exists(|expr| Ok(now(expr))).unwrap_or(true)
}

fn settled(expr: Expr, schema: &DFSchema, moves: bool) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ Operator::Plus, right })
            if moves && moves_by_days(&right, &op, &left, schema) =>
        {
            Ok(Transformed::yes(declared::named("mr_move")?.call(vec![*right, *left])))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if moves && moves_by_days(&left, &op, &right, schema) => {
            let by = if op == Operator::Minus { Expr::Negative(right) } else { *right };
            Ok(Transformed::yes(declared::named("mr_move")?.call(vec![*left, by])))
        }
        // Settled before.
        Expr::Cast(Cast { expr, field }) if matches!(expr.as_ref(), Expr::Cast(inner) if inner.field == field) => {
            Ok(Transformed::yes(*expr))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if intervals::compares(&op, &left, &right, schema) => {
            let (left, right) = (Box::new(intervals::span(*left)), Box::new(intervals::span(*right)));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if order_key::compares_arrays(&op, &left, &right, schema) => {
            let (mut left, mut right) = (left, right);
            order_key::take(&mut left, schema)?;
            order_key::take(&mut right, schema)?;
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let operation = match (left.get_type(schema), right.get_type(schema)) {
                (Ok(left), Ok(right)) => arithmetic::checked(op, &left, &right),
                _ => None,
            };
            Ok(match operation {
                Some(operation) => Transformed::yes(arithmetic::call(operation, *left, *right)),
                None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            })
        }
        Expr::Negative(expr) => match expr.get_type(schema) {
            // The least of the negative numbers has no positive one.
            Ok(data_type @ (DataType::Int16 | DataType::Int32 | DataType::Int64)) => {
                let zero = Expr::Literal(ScalarValue::new_zero(&data_type)?, None);
                Ok(Transformed::yes(arithmetic::call(arithmetic::Arithmetic::Subtract, zero, *expr)))
            }
            // The sign of NaN is no part of it.
            Ok(data_type @ (DataType::Float32 | DataType::Float64)) => {
                let minus = Expr::Literal(ScalarValue::new_negative_one(&data_type)?, None);
                let product = BinaryExpr::new(expr, Operator::Multiply, Box::new(minus));
                Ok(Transformed::yes(Expr::BinaryExpr(product)))
            }
            _ => Ok(Transformed::no(Expr::Negative(expr))),
        },
        Expr::Cast(Cast { expr, field }) => {
            let dimensions = of_its_dimensions(&expr, &field, schema)?;
            let changed = dimensions.is_some();
            let field = dimensions.unwrap_or(field);
            if field.name() == WRITTEN
                && let Some(from) = written_type(&expr, schema)
                && !cast_table::exists(&from, &sql_type_of(&field))
            {
                let to = types::plain_type(&sql_type_of(&field));
                let message = format!("cannot cast type {} to {to}", types::plain_type(&from));
                return Err(DataFusionError::External(Box::new(Error::new("42846", message))));
            }
            // The padding of a char(n) is no part of it as a text.
            let padded = types::is_padded;
            let cut = field.name() == WRITTEN
                && *field.data_type() == DataType::Utf8
                && !padded(&sql_type_of(&field))
                && expr.to_field(schema).is_ok_and(|(_, from)| padded(&sql_type_of(&from)));
            let expr = if cut { Box::new(super::without_padding(*expr)?) } else { expr };
            let function = expr.get_type(schema).ok().and_then(|from| casts::function(&from, &field));
            Ok(match function {
                Some(function) => Transformed::yes(function.call(vec![*expr])),
                None => Transformed::new_transformed(Expr::Cast(Cast { expr, field }), cut || changed),
            })
        }
        // The padding of a char(n) is no part of it as a text.
        Expr::ScalarFunction(mut function)
            if (OF_TEXT.contains(&function.name()) || function.name() == "rtrim" && function.args.len() == 2)
                && function.args.iter().any(|argument| is_padded(argument, schema)) =>
        {
            for argument in function.args.iter_mut().filter(|argument| is_padded(argument, schema)) {
                let taken = std::mem::replace(argument, Expr::Literal(ScalarValue::Null, None));
                *argument = super::without_padding(taken)?;
            }
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        Expr::AggregateFunction(mut call)
            if call.func.name() == "string_agg" && call.params.args.iter().any(|a| is_padded(a, schema)) =>
        {
            for argument in call.params.args.iter_mut().filter(|argument| is_padded(argument, schema)) {
                let taken = std::mem::replace(argument, Expr::Literal(ScalarValue::Null, None));
                *argument = super::without_padding(taken)?;
            }
            Ok(Transformed::yes(Expr::AggregateFunction(call)))
        }
        Expr::ScalarFunction(mut function)
            if function.name() == "nullif"
                && function.args.len() == 2
                && function.args[0].to_field(schema).is_ok_and(|(_, field)| {
                    matches!(field.data_type(), DataType::Interval(_)) || sql_type_of(&field) == "jsonb"
                }) =>
        {
            // It knows of no keys.
            let null = Expr::Literal(ScalarValue::try_from(&function.args[0].get_type(schema)?)?, None);
            let value = function.args[0].clone();
            for argument in &mut function.args {
                order_key::take(argument, schema)?;
            }
            let right = function.args.swap_remove(1);
            let equal = function.args.swap_remove(0).eq(right);
            Ok(Transformed::yes(when(equal, null).otherwise(value)?))
        }
        Expr::ScalarFunction(function)
            if matches!(function.name(), "greatest" | "least")
                && function
                    .args
                    .iter()
                    .all(|argument| argument.get_type(schema).is_ok_and(|t| order_key::of_type(&t))) =>
        {
            Ok(Transformed::yes(order_key::best_of(function.name() == "greatest", function.args)))
        }
        Expr::ScalarFunction(mut function) => {
            let output = Expr::ScalarFunction(function.clone()).get_type(schema);
            let settled = output.ok().and_then(|output| math::settled(&function.func, output));
            let changed = settled.is_some();
            if let Some(settled) = settled {
                function.func = Arc::new(settled);
            }
            let function = Expr::ScalarFunction(function);
            Ok(if changed { Transformed::yes(function) } else { Transformed::no(function) })
        }
        other => Ok(Transformed::no(other)),
    }
}
