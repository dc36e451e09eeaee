//! The last pass of the analyzer: types are settled, so arithmetic that must check and casts that must read and write
//! as Postgres does take the place of DataFusion's. Types and names of columns stay as they are.

use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::{arithmetic, casts};

#[derive(Debug)]
pub struct Settle;

impl AnalyzerRule for Settle {
    fn name(&self) -> &str {
        "settle"
    }
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let mut schema = merge_schema(&plan.inputs());
            if let LogicalPlan::TableScan(scan) = &plan {
                schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
            }
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

/// The same for an expression over these columns.
pub fn expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
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
        Expr::Cast(Cast { expr, field }) => {
            let function = expr.get_type(schema).ok().and_then(|from| casts::function(&from, &field));
            Ok(match function {
                Some(function) => Transformed::yes(function.call(vec![*expr])),
                None => Transformed::no(Expr::Cast(Cast { expr, field })),
            })
        }
        other => Ok(Transformed::no(other)),
    })
}
