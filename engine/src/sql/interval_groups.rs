//! Groups of intervals, which are equal where their spans are: `1 day` and `24:00:00` are one group. It shows the least of
//! its intervals, by their parts. GROUP BY, DISTINCT, UNION, INTERSECT and EXCEPT all are Aggregates here.
//!
//! ```text
//!   Aggregate: groupBy=[[i]], aggr=[[count(1)]]  ──►  Projection: "mr interval 0" AS i, count(1)
//!                                                       Aggregate: groupBy=[[mr_span(i)]], aggr=[[count(1), min(i)]]
//! ```

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, Projection};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::sql::functions::{min, span};

#[derive(Debug)]
pub struct IntervalGroups;

impl OptimizerRule for IntervalGroups {
    fn name(&self) -> &str {
        "groups_of_intervals_by_span"
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }
    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let input = aggregate.input.schema();
        let interval = |e: &Expr| matches!(e.get_type(input), Ok(DataType::Interval(_)));
        let sets = aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
        if sets || !aggregate.group_expr.iter().any(interval) {
            return Ok(Transformed::no(plan));
        }
        let (mut groups, mut calls) = (Vec::new(), aggregate.aggr_expr.clone());
        let mut shown: Vec<Option<Column>> = Vec::new();
        for (i, group) in aggregate.group_expr.iter().enumerate() {
            if !interval(group) {
                groups.push(group.clone());
                shown.push(None);
                continue;
            }
            let (value, name) = (group.clone().unalias(), format!("mr interval {i}"));
            groups.push(span(value.clone()).alias(format!("mr span {i}")));
            let least = AggregateFunction::new_udf(min(), vec![value], false, None, Vec::new(), None);
            calls.push(Expr::AggregateFunction(least).alias(&name));
            shown.push(Some(Column::new_unqualified(name)));
        }
        let width = aggregate.schema.fields().len();
        let grouped = Aggregate::try_new(aggregate.input.clone(), groups, calls)?;
        let columns = grouped.schema.columns().into_iter().take(width);
        let exprs = columns.zip(aggregate.schema.iter()).enumerate().map(|(i, (column, (qualifier, field)))| {
            let column = shown.get(i).cloned().flatten().unwrap_or(column);
            Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
        });
        let exprs = exprs.collect();
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(
            exprs,
            Arc::new(LogicalPlan::Aggregate(grouped)),
        )?)))
    }
}
