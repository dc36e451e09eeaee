//! `array_agg` of DISTINCT values in their order: the array is sorted when it is made. DataFusion sorts the input of all
//! calls of an aggregate at once, turns the orders of some round to fit it, and forgets that of DISTINCT values.
//!
//! ```text
//!   array_agg(DISTINCT x ORDER BY x DESC)   ──►   mr_array_sort(array_agg(DISTINCT x), true, true)
//! ```

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection, SortExpr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::sql::functions::sorted_array;

#[derive(Debug)]
pub struct DistinctArrays;

impl OptimizerRule for DistinctArrays {
    fn name(&self) -> &str {
        "distinct_arrays_sorted_afterwards"
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }
    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let own: Vec<Option<(Expr, SortExpr)>> = aggregate.aggr_expr.iter().map(without_order).collect();
        if own.iter().all(Option::is_none) {
            return Ok(Transformed::no(plan));
        }
        let first = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
        let calls = aggregate.aggr_expr.iter().zip(&own).map(|(expr, own)| match own {
            // The name tells apart what differs in the order alone.
            Some((call, _)) => call.clone().alias(expr.schema_name().to_string()),
            None => expr.clone(),
        });
        let calls = calls.collect();
        let arrays = Aggregate::try_new(aggregate.input.clone(), aggregate.group_expr.clone(), calls)?;
        let columns = arrays.schema.columns().into_iter().map(Expr::Column).enumerate();
        let exprs = columns.zip(aggregate.schema.iter()).map(|((i, column), (qualifier, field))| {
            let expr = match i.checked_sub(first).and_then(|call| own[call].as_ref()) {
                Some((_, order)) => sorted_array(column, !order.asc, order.nulls_first)?,
                None => column,
            };
            Ok(expr.alias_qualified(qualifier.cloned(), field.name()))
        });
        let exprs = exprs.collect::<Result<_>>()?;
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(
            exprs,
            Arc::new(LogicalPlan::Aggregate(arrays)),
        )?)))
    }
}

/// The call without its order, and that.
fn without_order(expr: &Expr) -> Option<(Expr, SortExpr)> {
    let call = match expr {
        Expr::Alias(alias) => return without_order(&alias.expr),
        Expr::AggregateFunction(call) if call.func.name() == "array_agg" && call.params.distinct => call,
        _ => return None,
    };
    let ([value], [order]) = (&call.params.args[..], &call.params.order_by[..]) else { return None };
    if order.expr != *value {
        return None;
    }
    let mut call = call.clone();
    call.params.order_by.clear();
    Some((Expr::AggregateFunction(call), order.clone()))
}
