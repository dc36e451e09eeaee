//! Orders that SQL leaves open, closed by the whole row: so that a view and the batch answer to its query agree, and
//! every number of workers, replay and restart with them.
//!
//! ```text
//!   LIMIT 3                              ──►  ORDER BY a, b, c LIMIT 3
//!   ORDER BY a LIMIT 3                   ──►  ORDER BY a, a, b, c LIMIT 3
//!   rank() OVER (ORDER BY a)             ──►  the same, over rows that come ordered by a, a, b, c
//!   array_agg(a ORDER BY b)              ──►  array_agg(a ORDER BY b, a, b, c)
//! ```
//!
//! Asked of the optimized plan, in which only columns that someone reads are left.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::logical_expr::expr::{AggregateFunction, Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Sort, Window};

use crate::error::Result;
use crate::sql::bind::error_from;

/// Aggregates whose result depends on the order of rows.
const ORDERED_AGGREGATES: &[&str] = &["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

pub fn close_orders(plan: LogicalPlan) -> Result<LogicalPlan> {
    let closed = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Limit(mut limit) => {
            limit.input = Arc::new(ordered(Arc::unwrap_or_clone(limit.input))?);
            Ok(Transformed::yes(LogicalPlan::Limit(limit)))
        }
        LogicalPlan::Window(window) => Ok(Transformed::yes(over_ordered_rows(window)?)),
        LogicalPlan::Aggregate(aggregate) => Ok(Transformed::yes(ordered_calls(aggregate)?)),
        other => Ok(Transformed::no(other)),
    });
    Ok(closed.map_err(error_from)?.data)
}

/// Each column, as an order.
fn whole_row(schema: &DFSchema) -> Vec<SortExpr> {
    schema.columns().into_iter().map(|column| Expr::Column(column).sort(true, true)).collect()
}

/// The input of a LIMIT: the sort that it is over closed, or a new one.
fn ordered(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    if !has_sort(&plan) {
        let expr = whole_row(plan.schema());
        return Ok(match expr.is_empty() {
            true => plan,
            false => LogicalPlan::Sort(Sort { expr, input: Arc::new(plan), fetch: None }),
        });
    }
    match plan {
        LogicalPlan::Sort(mut sort) => {
            sort.expr.extend(whole_row(sort.input.schema()));
            Ok(LogicalPlan::Sort(sort))
        }
        LogicalPlan::Projection(mut projection) => {
            projection.input = Arc::new(ordered(Arc::unwrap_or_clone(projection.input))?);
            Ok(LogicalPlan::Projection(projection))
        }
        LogicalPlan::SubqueryAlias(mut alias) => {
            alias.input = Arc::new(ordered(Arc::unwrap_or_clone(alias.input))?);
            Ok(LogicalPlan::SubqueryAlias(alias))
        }
        other => Ok(other),
    }
}

/// Whether the rows come in the order of a sort below.
pub fn has_sort(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(sort) => sort.fetch.is_none(),
        LogicalPlan::Projection(projection) => has_sort(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_sort(&alias.input),
        _ => false,
    }
}

/// A window function over rows that come in its order, peers in the order of the whole row.
fn over_ordered_rows(mut window: Window) -> DataFusionResult<LogicalPlan> {
    let Some(first) = window.window_expr.first().and_then(window_function) else {
        return Ok(LogicalPlan::Window(window));
    };
    let mut expr: Vec<SortExpr> = first.params.partition_by.iter().map(|e| e.clone().sort(true, true)).collect();
    expr.extend(first.params.order_by.iter().cloned());
    expr.extend(whole_row(window.input.schema()));
    window.input = Arc::new(LogicalPlan::Sort(Sort { expr, input: window.input.clone(), fetch: None }));
    Ok(LogicalPlan::Window(window))
}

pub fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => window_function(&alias.expr),
        Expr::WindowFunction(function) => Some(function),
        _ => None,
    }
}

fn ordered_calls(mut aggregate: Aggregate) -> DataFusionResult<LogicalPlan> {
    let whole = whole_row(aggregate.input.schema());
    for expr in &mut aggregate.aggr_expr {
        // What is above knows the result by its name.
        let name = expr.schema_name().to_string();
        let closed = std::mem::take(expr).transform_up(|expr| match expr {
            Expr::AggregateFunction(AggregateFunction { func, mut params })
                if ORDERED_AGGREGATES.contains(&func.name()) =>
            {
                match params.distinct {
                    // Postgres wants the order of DISTINCT values among the arguments.
                    true => params.order_by.extend(params.args.first().map(|a| a.clone().sort(true, true))),
                    false => params.order_by.extend(whole.iter().cloned()),
                }
                Ok(Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params })))
            }
            other => Ok(Transformed::no(other)),
        })?;
        *expr = if closed.transformed { closed.data.unalias().alias(name) } else { closed.data };
    }
    Ok(LogicalPlan::Aggregate(aggregate))
}
