//! The types of columns from outside in subqueries, once set operations have got theirs.
//!
//! ```text
//!   SELECT (SELECT avg(n) FROM q WHERE q.c = x.i) FROM (SELECT an_integer AS i … UNION SELECT a_bigint …) x
//! ```
//!
//! The subquery was planned when `x.i` had the type of the first SELECT; what it is compared with is settled by the type that
//! it has by now.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

/// The plan with the types that its columns have.
pub fn refresh(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let node = match node {
            // The right side of a join may be a LATERAL of the left one.
            LogicalPlan::Join(mut join) => {
                let right = retyped(Arc::unwrap_or_clone(join.right), join.left.schema())?;
                join.right = Arc::new(right);
                LogicalPlan::Join(join)
            }
            other => other,
        };
        let scope = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| of_subquery(expr, &scope))?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?;
        Ok(Transformed::yes(node.data.recompute_schema()?))
    })?;
    Ok(plan.data)
}

fn of_subquery(expr: Expr, scope: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(Transformed::yes(match expr {
        Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(within(subquery, scope)?),
        Expr::Exists(Exists { subquery, negated }) => {
            Expr::Exists(Exists { subquery: within(subquery, scope)?, negated })
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            Expr::InSubquery(InSubquery { expr, subquery: within(subquery, scope)?, negated })
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
            Expr::SetComparison(SetComparison { expr, subquery: within(subquery, scope)?, op, quantifier })
        }
        other => return Ok(Transformed::no(other)),
    }))
}

fn within(subquery: Subquery, scope: &DFSchema) -> Result<Subquery> {
    let outer = subquery.outer_ref_columns.into_iter().map(|expr| known(expr, scope).data);
    let outer_ref_columns = outer.collect();
    let plan = Arc::new(retyped(Arc::unwrap_or_clone(subquery.subquery), scope)?);
    Ok(Subquery { subquery: plan, outer_ref_columns, spans: subquery.spans })
}

/// A plan within a query that has these columns.
fn retyped(plan: LogicalPlan, scope: &DFSchema) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| Ok(known(expr, scope)))?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?;
        if node.transformed { Ok(Transformed::yes(node.data.recompute_schema()?)) } else { Ok(node) }
    })?;
    if plan.transformed { plan.data.recompute_schema() } else { Ok(plan.data) }
}

fn known(expr: Expr, scope: &DFSchema) -> Transformed<Expr> {
    let field = |column: &Column| Some(scope.fields()[scope.maybe_index_of_column(column)?].clone());
    match expr {
        Expr::OuterReferenceColumn(before, column) => match field(&column) {
            Some(now) if now.data_type() != before.data_type() => {
                Transformed::yes(Expr::OuterReferenceColumn(now, column))
            }
            _ => Transformed::no(Expr::OuterReferenceColumn(before, column)),
        },
        other => Transformed::no(other),
    }
}
