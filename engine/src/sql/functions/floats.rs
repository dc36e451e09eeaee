//! Where a float meets a numeric, Postgres makes floats of both, DataFusion numerics of 15 digits after the point. This
//! pass of the analyzer, before DataFusion's, casts the numerics: in operators, BETWEEN, IN, CASE, COALESCE and the like.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

#[derive(Debug)]
pub struct FloatsFirst;

impl AnalyzerRule for FloatsFirst {
    fn name(&self) -> &str {
        "floats_first"
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

/// The same for an expression over these columns.
pub fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|mut expr| {
        let mixed = match &mut expr {
            Expr::BinaryExpr(BinaryExpr { left, right, .. }) => unite(vec![left.as_mut(), right.as_mut()], schema),
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
            Expr::ScalarFunction(function) if UNIFORM.contains(&function.func.name()) => {
                unite(function.args.iter_mut().collect(), schema)
            }
            _ => false,
        };
        Ok(if mixed { Transformed::yes(expr) } else { Transformed::no(expr) })
    })
}

/// Casts the numerics among expressions of which some are floats; whether there were any.
fn unite(exprs: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let types: Vec<Option<DataType>> = exprs.iter().map(|e| e.get_type(schema).ok()).collect();
    let float = |t: &Option<DataType>| matches!(t, Some(DataType::Float32 | DataType::Float64));
    let numeric = |t: &Option<DataType>| matches!(t, Some(DataType::Decimal128(..) | DataType::Decimal256(..)));
    if !(types.iter().any(float) && types.iter().any(numeric)) {
        return false;
    }
    for (expr, data_type) in exprs.into_iter().zip(&types) {
        if numeric(data_type) {
            let taken = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
            *expr = match taken {
                Expr::Literal(value, metadata) => match value.cast_to(&DataType::Float64) {
                    Ok(float) => Expr::Literal(float, metadata),
                    Err(_) => Expr::Cast(Cast::new(Box::new(Expr::Literal(value, metadata)), DataType::Float64)),
                },
                other => Expr::Cast(Cast::new(Box::new(other), DataType::Float64)),
            };
        }
    }
    true
}
