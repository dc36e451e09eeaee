//! Whether a plan that is read twice would give the same values twice.

use datafusion::common::Column;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Whether these columns of a plan, or which rows it has, are others each time: `random()`, `nextval('s')`. What is only shown
/// beside them does not count.
pub fn changes(plan: &LogicalPlan, columns: &[Column]) -> Result<bool> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let own = alias.input.schema().columns();
            let named = plan.schema().columns().into_iter().zip(own);
            let own: Vec<Column> =
                named.filter(|(column, _)| columns.contains(column)).map(|(_, column)| column).collect();
            changes(&alias.input, &own)
        }
        LogicalPlan::Projection(projection) => {
            let named = plan.schema().columns().into_iter().zip(&projection.expr);
            let exprs: Vec<&Expr> =
                named.filter(|(column, _)| columns.contains(column)).map(|(_, expr)| expr).collect();
            let own: Vec<Column> = exprs.iter().flat_map(|expr| expr.column_refs()).cloned().collect();
            Ok(exprs.iter().any(|expr| expr.is_volatile()) || changes(&projection.input, &own)?)
        }
        _ => {
            let mut found = false;
            plan.apply_with_subqueries(|node| {
                node.apply_expressions(|expr| {
                    found |= expr.is_volatile();
                    Ok(TreeNodeRecursion::Continue)
                })?;
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })?;
            Ok(found)
        }
    }
}
