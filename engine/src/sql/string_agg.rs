//! `string_agg` by way of `array_agg`: DataFusion sorts the input for the one and inside the other, so that several of the
//! latter, each in an order of its own, can stand side by side.
//!
//! ```text
//!   string_agg(x, ', ' ORDER BY y)   ──►   array_to_string(array_agg(x ORDER BY y) FILTER (WHERE x IS NOT NULL), ', ')
//! ```
//!
//! Only where the separator is a constant; over no values both are NULL.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_nested::string::array_to_string;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Cast, Expr, LogicalPlan, Projection};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

#[derive(Debug)]
pub struct StringAgg;

impl OptimizerRule for StringAgg {
    fn name(&self) -> &str {
        "string_agg_by_array_agg"
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }
    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        if !aggregate.aggr_expr.iter().any(|expr| separator(expr).is_some()) {
            return Ok(Transformed::no(plan));
        }
        let calls = aggregate.aggr_expr.iter().map(|expr| match separator(expr) {
            // The name tells apart what differs in the separator alone.
            Some(_) => values(expr).alias(expr.schema_name().to_string()),
            None => expr.clone(),
        });
        let calls = calls.collect();
        let lists = Aggregate::try_new(aggregate.input.clone(), aggregate.group_expr.clone(), calls)?;
        let first = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
        let columns = lists.schema.columns().into_iter().map(Expr::Column).enumerate();
        let exprs = columns.zip(aggregate.schema.iter()).map(|((i, column), (qualifier, field))| {
            let expr = match i.checked_sub(first).and_then(|call| separator(&aggregate.aggr_expr[call])) {
                Some(separator) => {
                    let joined = array_to_string(column, separator.clone());
                    Expr::Cast(Cast::new(Box::new(joined), field.data_type().clone()))
                }
                None => column,
            };
            expr.alias_qualified(qualifier.cloned(), field.name())
        });
        let exprs = exprs.collect();
        let joined = Projection::try_new(exprs, Arc::new(LogicalPlan::Aggregate(lists)))?;
        Ok(Transformed::yes(LogicalPlan::Projection(joined)))
    }
}

/// The constant separator of a `string_agg`.
fn separator(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Alias(alias) => separator(&alias.expr),
        Expr::AggregateFunction(call) if call.func.name() == "string_agg" => match &call.params.args[..] {
            [_, separator @ Expr::Literal(value, _)] if !value.is_null() => Some(separator),
            _ => None,
        },
        _ => None,
    }
}

/// The values of a `string_agg`, as a list.
fn values(expr: &Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => values(&alias.expr),
        Expr::AggregateFunction(call) => {
            let mut params = call.params.clone();
            params.args.truncate(1);
            let known = params.args[0].clone().is_not_null();
            params.filter = Some(Box::new(match params.filter {
                Some(filter) => filter.and(known),
                None => known,
            }));
            Expr::AggregateFunction(AggregateFunction { func: array_agg_udaf(), params })
        }
        other => other.clone(),
    }
}
