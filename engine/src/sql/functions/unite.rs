//! Where two types meet, Postgres and DataFusion choose differently. This pass of the analyzer, before DataFusion's,
//! casts as Postgres chooses: in operators, BETWEEN, IN, CASE, COALESCE and the like.
//!
//! ```text
//!                            Postgres        DataFusion
//!   float, numeric           float           numeric(30,15)
//!   timestamp, date          timestamp       nanoseconds
//!   anything, a literal      anything        text, or nanoseconds
//! ```

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

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

/// Functions whose second argument is a number of digits.
const PLACES: &[&str] = &["round", "trunc"];
/// Functions whose arguments have one type.
const UNIFORM: &[&str] = &["coalesce", "nullif", "greatest", "least"];

/// The same for an expression over these columns.
pub fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|mut expr| {
        let mixed = match &mut expr {
            // `ts + '1 day'` is no sum of two timestamps.
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                unite_numbers(vec![left.as_mut(), right.as_mut()], schema)
                    || (compares(op) && unite(vec![left.as_mut(), right.as_mut()], schema))
            }
            Expr::Between(Between { expr, low, high, .. }) => {
                unite(vec![expr.as_mut(), low.as_mut(), high.as_mut()], schema)
            }
            Expr::InList(InList { expr, list, .. }) => {
                unite(std::iter::once(expr.as_mut()).chain(list).collect(), schema)
            }
            Expr::Case(case) => {
                let whens = case.when_then_expr.iter_mut();
                let (mut compared, mut results): (Vec<&mut Expr>, Vec<&mut Expr>) =
                    whens.map(|(when, then)| (when.as_mut(), then.as_mut())).unzip();
                results.extend(case.else_expr.as_deref_mut());
                let united = unite(results, schema);
                match case.expr.as_deref_mut() {
                    Some(operand) => {
                        compared.push(operand);
                        unite(compared, schema) || united
                    }
                    None => united,
                }
            }
            // The type of what is rounded depends on a literal, which a cast would hide.
            Expr::ScalarFunction(function) if PLACES.contains(&function.func.name()) => {
                function.args.iter_mut().skip(1).fold(false, |changed, places| integer_literal(places) || changed)
            }
            Expr::ScalarFunction(function) if UNIFORM.contains(&function.func.name()) => {
                unite(function.args.iter_mut().collect(), schema)
            }
            _ => false,
        };
        Ok(if mixed { Transformed::yes(expr) } else { Transformed::no(expr) })
    })
}

/// Makes a literal that fits an integer; whether it did.
fn integer_literal(expr: &mut Expr) -> bool {
    let Expr::Literal(ScalarValue::Int64(Some(value)), _) = expr else { return false };
    let Ok(value) = i32::try_from(*value) else { return false };
    *expr = Expr::Literal(ScalarValue::Int32(Some(value)), None);
    true
}

fn compares(operator: &Operator) -> bool {
    use Operator as O;
    matches!(operator, O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom)
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}
fn is_numeric(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}
fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn types(exprs: &[&mut Expr], schema: &DFSchema) -> Vec<Option<DataType>> {
    exprs.iter().map(|e| e.get_type(schema).ok()).collect()
}

/// Casts expressions of several types as Postgres would; whether any were.
fn unite(mut exprs: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let types_before = types(&exprs, schema);
    let known = || types_before.iter().flatten();
    let mut changed = false;
    let timestamp = known().find(|t| matches!(t, DataType::Timestamp(TimeUnit::Microsecond, Some(_))));
    let timestamp =
        timestamp.or_else(|| known().find(|t| matches!(t, DataType::Timestamp(TimeUnit::Microsecond, None))));
    // The type that a literal takes: the first that is not text, a timestamp where there is one.
    let wanted = timestamp.or_else(|| known().find(|t| !is_text(t) && !t.is_nested() && **t != DataType::Null));
    for (expr, data_type) in exprs.iter_mut().zip(&types_before) {
        let literal = matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _));
        let to = match (data_type, timestamp, wanted) {
            (Some(DataType::Date32), Some(timestamp), _) => timestamp,
            (_, _, Some(wanted)) if literal => wanted,
            _ => continue,
        };
        cast(expr, to);
        changed = true;
    }
    unite_numbers(exprs, schema) || changed
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
