//! Orders that SQL leaves open, closed by the whole row: so that a view and the batch answer to its query agree, and
//! every number of workers, replay and restart with them.
//!
//! ```text
//!   LIMIT 3                              ──►  ORDER BY a, b, c LIMIT 3
//!   ORDER BY b LIMIT 3                   ──►  ORDER BY b, a, c LIMIT 3
//!   rank() OVER (ORDER BY b)             ──►  the same, over rows that come ordered by b, a, c
//!   array_agg(a ORDER BY b)              ──►  array_agg(a ORDER BY b, a, c)
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
use crate::sql::ordered::{Ordered, without_repeats};

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

/// Adds to an order all columns that it does not name.
fn close(order: &mut Vec<SortExpr>, schema: &DFSchema) {
    for column in schema.columns() {
        order.push(Expr::Column(column).sort(true, true));
    }
    *order = without_repeats(std::mem::take(order));
}

/// The input of a LIMIT: the sort that it is over closed, or a new one.
fn ordered(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    if !has_sort(&plan) {
        let mut expr = Vec::new();
        close(&mut expr, plan.schema());
        return Ok(match expr.is_empty() {
            true => plan,
            false => LogicalPlan::Sort(Sort { expr, input: Arc::new(plan), fetch: None }),
        });
    }
    match plan {
        LogicalPlan::Sort(mut sort) => {
            close(&mut sort.expr, sort.input.schema());
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
    close(&mut expr, window.input.schema());
    window.input = Arc::new(Ordered::plan(expr, Arc::unwrap_or_clone(window.input)));
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
    let input = aggregate.input.schema().clone();
    for expr in &mut aggregate.aggr_expr {
        // What is above knows the result by its name.
        let name = expr.schema_name().to_string();
        let closed = std::mem::take(expr).transform_up(|expr| match expr {
            Expr::AggregateFunction(AggregateFunction { func, mut params })
                if ORDERED_AGGREGATES.contains(&func.name()) =>
            {
                if params.distinct {
                    // Postgres wants the order of DISTINCT values among the arguments.
                    let argument = params.args.first().filter(|a| params.order_by.iter().all(|by| by.expr != **a));
                    let argument = argument.map(|a| a.clone().sort(true, true));
                    params.order_by.extend(argument);
                } else {
                    close(&mut params.order_by, &input);
                }
                Ok(Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params })))
            }
            other => Ok(Transformed::no(other)),
        })?;
        *expr = if closed.transformed { closed.data.unalias().alias(name) } else { closed.data };
    }
    Ok(LogicalPlan::Aggregate(aggregate))
}
