//! Subqueries that a window is partitioned or ordered by, or a window function is of: they are computed below the window,
//! where DataFusion has a plan for those that take columns from outside.
//!
//! ```text
//!   Window: rank() ORDER BY (subquery)   ──►   Projection: the names of before
//!     t                                          Window: rank() ORDER BY "mr window value 1"
//!                                                  Projection: t.*, (subquery) AS "mr window value 1"
//!                                                    t
//! ```

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Window};

/// The plan with them there.
pub fn below_windows(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut known = 0;
    let plan = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Window(window) => match with_columns(&window, &mut known)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(LogicalPlan::Window(window))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

/// `known` counts the columns that were made for all windows.
fn with_columns(window: &Window, known: &mut usize) -> Result<Option<LogicalPlan>> {
    let mut computed: Vec<(Expr, String)> = Vec::new();
    let mut calls = Vec::new();
    for call in &window.window_expr {
        let call = call.clone().transform_down(|expr| {
            if !matches!(expr, Expr::ScalarSubquery(_)) {
                return Ok(Transformed::no(expr));
            }
            let name = match computed.iter().find(|(other, _)| *other == expr) {
                Some((_, name)) => name.clone(),
                None => {
                    *known += 1;
                    let name = format!("mr window value {known}");
                    computed.push((expr, name.clone()));
                    name
                }
            };
            Ok(Transformed::new(Expr::Column(Column::new_unqualified(name)), true, TreeNodeRecursion::Jump))
        })?;
        calls.push(call.data);
    }
    if computed.is_empty() {
        return Ok(None);
    }
    let columns = window.input.schema().columns();
    let below = columns.iter().cloned().map(Expr::Column);
    let below = below.chain(computed.iter().map(|(expr, name)| expr.clone().alias(name))).collect();
    let below = LogicalPlan::Projection(Projection::try_new(below, window.input.clone())?);
    let above = LogicalPlan::Window(Window::try_new(calls, Arc::new(below))?);
    let results = above.schema().columns().into_iter().skip(columns.len() + computed.len());
    let names = window.schema.columns().into_iter().skip(columns.len());
    let named = results.zip(names).map(|(result, name)| Expr::Column(result).alias(name.name));
    let shown = columns.iter().cloned().map(Expr::Column).chain(named).collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(shown, Arc::new(above))?)))
}
