//! Where two types meet, Postgres and DataFusion choose differently. This pass of the analyzer, before DataFusion's,
//! casts as Postgres chooses: in operators, BETWEEN, IN, CASE, COALESCE and the like.
//!
//! ```text
//!                            Postgres        DataFusion
//!   float, numeric           float           numeric(30,15)
//!   timestamp, date          timestamp       nanoseconds
//!   anything, a literal      anything        text, or nanoseconds
//!   text, integer            an error        text
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{InList, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Cast, Distinct, DistinctOn, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator,
};
use datafusion::optimizer::AnalyzerRule;

use super::json::{JSONB_ARRAY_KEYS, JSONB_KEY};
use super::{casts, declared};
use crate::error::Error;
use crate::sql::common::{Kind, Padding, common_type, kind, literal_type, padding};
use crate::sql::types::{sql_type_of, sql_type_of_arrow};

#[derive(Debug)]
pub struct Unite;

impl AnalyzerRule for Unite {
    fn name(&self) -> &str {
        "unite"
    }
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let plan = distinct_on(plan, &schema)?;
            let sorts = matches!(plan, LogicalPlan::Sort(_));
            let plan = plan.map_expressions(|mut expr| {
                let name = names.save(&expr);
                if sorts && is_jsonb(&expr, &schema) {
                    take_jsonb_key(&mut expr)?;
                    return Ok(Transformed::yes(expr));
                }
                Ok(expression(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?;
            if plan.transformed { plan.map_data(|plan| plan.recompute_schema()) } else { Ok(plan) }
        })
        .map(|plan| plan.data)
    }
}

/// The order of DISTINCT ON, as far as it is not of what is distinct.
fn distinct_on(plan: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    let LogicalPlan::Distinct(Distinct::On(mut on)) = plan else { return Ok(plan) };
    let DistinctOn { on_expr, sort_expr, .. } = &mut on;
    for sort in sort_expr.iter_mut().flatten() {
        if is_jsonb(&sort.expr, schema) && !on_expr.contains(&sort.expr) {
            take_jsonb_key(&mut sort.expr)?;
        }
    }
    Ok(LogicalPlan::Distinct(Distinct::On(on)))
}

/// Functions whose arguments have one type.
const UNIFORM: &[&str] = &["coalesce", "nullif", "greatest", "least"];

/// What brings values together, for the error where they do not go.
#[derive(Clone, Copy)]
enum Place<'a> {
    Operator(&'a Operator),
    /// CASE, COALESCE and the like, whose results are of one type.
    Result(&'a str),
}

/// The same for an expression over these columns.
pub fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|mut expr| {
        let mixed = match &mut expr {
            // `ts + '1 day'` is no sum of two timestamps.
            Expr::Between(Between { expr, low, high, .. })
                if [expr.as_ref(), low, high].into_iter().any(|e| is_padded(e, schema)) =>
            {
                [expr.as_mut(), low, high].into_iter().try_for_each(without_padding)?;
                true
            }
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::IsDistinctFrom | Operator::IsNotDistinctFrom,
                right,
            }) if is_padded(left, schema) || is_padded(right, schema) => {
                [left.as_mut(), right.as_mut()].into_iter().try_for_each(without_padding)?;
                true
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                (compares(op) && by_jsonb_key(vec![left.as_mut(), right.as_mut()], schema)?)
                    || unite_numbers(vec![left.as_mut(), right.as_mut()], schema)
                    || (compares(op) && unite(vec![left.as_mut(), right.as_mut()], schema, Place::Operator(op))?)
            }
            Expr::Between(Between { expr, low, high, .. }) => {
                by_jsonb_key(vec![expr.as_mut(), low.as_mut(), high.as_mut()], schema)?
                    || unite(
                        vec![expr.as_mut(), low.as_mut(), high.as_mut()],
                        schema,
                        Place::Operator(&Operator::GtEq),
                    )?
            }
            Expr::InList(InList { expr, list, .. })
                if std::iter::once(expr.as_ref()).chain(list.iter()).any(|e| is_padded(e, schema)) =>
            {
                std::iter::once(expr.as_mut()).chain(list).try_for_each(without_padding)?;
                true
            }
            Expr::InSubquery(InSubquery { expr, subquery, .. })
                if is_padded(expr, schema)
                    || sql_type_of(subquery.subquery.schema().field(0)).starts_with("character(") =>
            {
                let mut column = Expr::Column(subquery.subquery.schema().columns().remove(0));
                without_padding(&mut column)?;
                let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).project([column])?.build()?;
                subquery.subquery = Arc::new(plan);
                without_padding(expr)?;
                true
            }
            Expr::InList(InList { expr, list, .. }) => {
                let by_key = by_jsonb_key(std::iter::once(expr.as_mut()).chain(list.iter_mut()).collect(), schema)?;
                let all = std::iter::once(expr.as_mut()).chain(list).collect();
                by_key || unite(all, schema, Place::Operator(&Operator::Eq))?
            }
            Expr::Case(case) => {
                let whens = case.when_then_expr.iter_mut();
                let (mut compared, mut results): (Vec<&mut Expr>, Vec<&mut Expr>) =
                    whens.map(|(when, then)| (when.as_mut(), then.as_mut())).unzip();
                results.extend(case.else_expr.as_deref_mut());
                let united = unite(results, schema, Place::Result("CASE"))?;
                match case.expr.as_deref_mut() {
                    Some(operand) => {
                        let by_key = {
                            let all = compared.iter_mut().map(|when| &mut **when).chain([&mut *operand]).collect();
                            by_jsonb_key(all, schema)?
                        };
                        compared.push(operand);
                        by_key || unite(compared, schema, Place::Operator(&Operator::Eq))? || united
                    }
                    None => united,
                }
            }
            Expr::ScalarFunction(function) if UNIFORM.contains(&function.func.name()) => {
                let name = function.func.name().to_uppercase();
                let place = if name == "NULLIF" { Place::Operator(&Operator::Eq) } else { Place::Result(&name) };
                unite(function.args.iter_mut().collect(), schema, place)?
            }
            Expr::ScalarFunction(function) if function.name() == "array_has" && function.args.len() == 2 => {
                // `j = ANY (array)`
                let of_jsonb = function.args[0].to_field(schema).is_ok_and(|(_, list)| sql_type_of(&list) == "jsonb[]");
                if of_jsonb {
                    let list = std::mem::replace(&mut function.args[0], Expr::Literal(ScalarValue::Null, None));
                    function.args[0] = declared::named(JSONB_ARRAY_KEYS)?.call(vec![list]);
                    take_jsonb_key(&mut function.args[1])?;
                }
                of_jsonb
            }
            Expr::InSubquery(InSubquery { expr, subquery, .. }) => {
                let plan = subquery.subquery.as_ref();
                let by_key = is_jsonb(expr, schema) && sql_type_of(plan.schema().field(0)) == "jsonb";
                if by_key {
                    let mut column = Expr::Column(plan.schema().columns().remove(0));
                    take_jsonb_key(&mut column)?;
                    let keys = LogicalPlanBuilder::from(plan.clone()).project([column])?.build()?;
                    subquery.subquery = Arc::new(keys);
                    take_jsonb_key(expr)?;
                }
                by_key
            }
            // The order of rows under a window function.
            Expr::WindowFunction(function) => {
                let mut by_key = false;
                // An order or a partition of intervals is one of their spans.
                let interval = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Interval(_)));
                let params = &mut function.params;
                let orders = params.order_by.iter_mut().map(|sort| &mut sort.expr);
                for expr in orders.chain(params.partition_by.iter_mut()).filter(|expr| interval(expr)) {
                    let taken = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
                    *expr = super::intervals::span(taken);
                    by_key = true;
                }
                for sort in &mut function.params.order_by {
                    if is_jsonb(&sort.expr, schema) {
                        take_jsonb_key(&mut sort.expr)?;
                        by_key = true;
                    }
                }
                by_key
            }
            _ => false,
        };
        Ok(if mixed { Transformed::yes(expr) } else { Transformed::no(expr) })
    })
}

/// Whether these are jsonb, beside literals, to be compared with one another: then by what they say, not by their text.
fn by_jsonb_key(exprs: Vec<&mut Expr>, schema: &DFSchema) -> Result<bool> {
    let untyped = |e: &Expr| matches!(e, Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _));
    let mut any = false;
    for expr in exprs.iter().filter(|e| !untyped(e)) {
        if !is_jsonb(expr, schema) {
            return Ok(false);
        }
        any = true;
    }
    if any {
        exprs.into_iter().try_for_each(take_jsonb_key)?;
    }
    Ok(any)
}

fn is_padded(expr: &Expr, schema: &DFSchema) -> bool {
    expr.to_field(schema).is_ok_and(|(_, field)| sql_type_of(&field).starts_with("character("))
}

/// The blanks at the end of a char(n), and of what it is compared with, count for nothing.
fn without_padding(expr: &mut Expr) -> Result<()> {
    let text = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
    *expr = super::without_padding(text)?;
    Ok(())
}

fn is_jsonb(expr: &Expr, schema: &DFSchema) -> bool {
    expr.to_field(schema).is_ok_and(|(_, field)| sql_type_of(&field) == "jsonb")
}

fn take_jsonb_key(expr: &mut Expr) -> Result<()> {
    let document = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
    *expr = declared::named(JSONB_KEY)?.call(vec![document]);
    Ok(())
}

pub fn compares(operator: &Operator) -> bool {
    use Operator as O;
    matches!(operator, O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom)
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}
fn is_numeric(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}
fn types(exprs: &[&mut Expr], schema: &DFSchema) -> Vec<Option<DataType>> {
    exprs.iter().map(|e| e.get_type(schema).ok()).collect()
}

/// The text of a literal, which has no type of its own.
fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text),
        _ => None,
    }
}

fn mismatch(left: &DataType, right: &DataType, place: Place) -> DataFusionError {
    let (left, right) = (sql_type_of_arrow(left), sql_type_of_arrow(right));
    DataFusionError::External(Box::new(match place {
        Place::Operator(operator) => Error::new("42883", format!("operator does not exist: {left} {operator} {right}"))
            .hint("No operator matches the given name and argument types. You might need to add explicit type casts."),
        Place::Result(name) => Error::new("42804", format!("{name} types {left} and {right} cannot be matched")),
    }))
}

/// Casts expressions of several types as Postgres would; whether any were.
fn unite(mut exprs: Vec<&mut Expr>, schema: &DFSchema, place: Place) -> Result<bool> {
    let types_before = types(&exprs, schema);
    let mut wanted: Option<DataType> = None;
    for (expr, data_type) in exprs.iter().zip(&types_before) {
        let Some(data_type) = data_type else { continue };
        if literal_text(expr).is_some() || *data_type == DataType::Null {
            continue;
        }
        wanted = match wanted {
            None => Some(data_type.clone()),
            Some(before) => match common_type(&before, data_type) {
                Some(common) => Some(common),
                None if kind(&before).is_some() && kind(data_type).is_some() => {
                    return Err(mismatch(&before, data_type, place));
                }
                None => Some(before),
            },
        };
    }
    let mut changed = cut_padding(&mut exprs, schema, place)?;
    if let Some(wanted) = wanted {
        let timestamp = matches!(wanted, DataType::Timestamp(TimeUnit::Microsecond, _));
        for (expr, data_type) in exprs.iter_mut().zip(&types_before) {
            let to = match literal_text(expr) {
                Some(text) if kind(&wanted).is_some_and(|kind| kind != Kind::Text) => {
                    let to = literal_type(&wanted, text);
                    casts::check_literal(text, &to)?;
                    to
                }
                _ if timestamp && *data_type == Some(DataType::Date32) => wanted.clone(),
                _ => continue,
            };
            cast(expr, &to);
            changed = true;
        }
    }
    Ok(unite_numbers(exprs, schema) || changed)
}

/// Takes the padding off char(n) among results that are text; whether there was any. What is compared is looked at where
/// operators are planned.
fn cut_padding(exprs: &mut [&mut Expr], schema: &DFSchema, place: Place) -> Result<bool> {
    let Place::Result(_) = place else { return Ok(false) };
    let of_text = |e: &Expr| e.to_field(schema).ok().filter(|(_, f)| kind(f.data_type()) == Some(Kind::Text));
    let sql_type = |e: &Expr| of_text(e).filter(|_| literal_text(e).is_none()).map(|(_, field)| sql_type_of(&field));
    let types: Vec<Option<String>> = exprs.iter().map(|e| sql_type(e)).collect();
    if padding(types.iter().flatten().map(String::as_str)) != Padding::Cut {
        return Ok(false);
    }
    for (expr, sql_type) in exprs.iter_mut().zip(&types) {
        if sql_type.as_deref().is_some_and(|t| t.starts_with("character(")) {
            let padded = std::mem::replace(*expr, Expr::Literal(ScalarValue::Null, None));
            **expr = super::without_padding(padded)?;
        }
    }
    Ok(true)
}

/// Casts the numerics among expressions of which some are floats; whether there were any.
fn unite_numbers(exprs: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let types = types(&exprs, schema);
    let any = |is: fn(&DataType) -> bool| types.iter().flatten().any(is);
    if !(any(is_float) && any(is_numeric)) {
        return false;
    }
    for (expr, data_type) in exprs.into_iter().zip(&types) {
        if data_type.as_ref().is_some_and(is_numeric) {
            cast(expr, &DataType::Float64);
        }
    }
    true
}

fn cast(expr: &mut Expr, to: &DataType) {
    let taken = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
    *expr = match taken {
        // A number's literal stays one, for what looks for literals.
        Expr::Literal(value, metadata) if *to == DataType::Float64 && is_numeric(&value.data_type()) => {
            match value.cast_to(to) {
                Ok(float) => Expr::Literal(float, metadata),
                Err(_) => Expr::Cast(Cast::new(Box::new(Expr::Literal(value, metadata)), to.clone())),
            }
        }
        other => Expr::Cast(Cast::new(Box::new(other), to.clone())),
    };
}
