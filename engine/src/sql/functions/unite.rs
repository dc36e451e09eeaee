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

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::casts;
use crate::error::Error;
use crate::sql::common::{Kind, common_type, kind, literal_type};
use crate::sql::types::sql_type_of_arrow;

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
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expression(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?;
            if plan.transformed { plan.map_data(|plan| plan.recompute_schema()) } else { Ok(plan) }
        })
        .map(|plan| plan.data)
    }
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
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                unite_numbers(vec![left.as_mut(), right.as_mut()], schema)
                    || (compares(op) && unite(vec![left.as_mut(), right.as_mut()], schema, Place::Operator(op))?)
            }
            Expr::Between(Between { expr, low, high, .. }) => {
                unite(vec![expr.as_mut(), low.as_mut(), high.as_mut()], schema, Place::Operator(&Operator::GtEq))?
            }
            Expr::InList(InList { expr, list, .. }) => {
                let all = std::iter::once(expr.as_mut()).chain(list).collect();
                unite(all, schema, Place::Operator(&Operator::Eq))?
            }
            Expr::Case(case) => {
                let whens = case.when_then_expr.iter_mut();
                let (mut compared, mut results): (Vec<&mut Expr>, Vec<&mut Expr>) =
                    whens.map(|(when, then)| (when.as_mut(), then.as_mut())).unzip();
                results.extend(case.else_expr.as_deref_mut());
                let united = unite(results, schema, Place::Result("CASE"))?;
                match case.expr.as_deref_mut() {
                    Some(operand) => {
                        compared.push(operand);
                        unite(compared, schema, Place::Operator(&Operator::Eq))? || united
                    }
                    None => united,
                }
            }
            Expr::ScalarFunction(function) if UNIFORM.contains(&function.func.name()) => {
                let name = function.func.name().to_uppercase();
                let place = if name == "NULLIF" { Place::Operator(&Operator::Eq) } else { Place::Result(&name) };
                unite(function.args.iter_mut().collect(), schema, place)?
            }
            _ => false,
        };
        Ok(if mixed { Transformed::yes(expr) } else { Transformed::no(expr) })
    })
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
    let mut changed = false;
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
