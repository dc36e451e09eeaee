//! Groups of values that are equal though they are not written alike: intervals whose spans are equal, `1 day` and `24:00:00`,
//! and jsonb that says the same, `1` and `1.0`. Such a group shows the least of its values, intervals by their parts and
//! jsonb by its text. GROUP BY, DISTINCT, UNION, INTERSECT and EXCEPT all are Aggregates here.
//!
//! ```text
//!   Aggregate: groupBy=[[i]], aggr=[[count(1)]]  ──►  Projection: "mr value 0" AS i, count(1)
//!                                                       Aggregate: groupBy=[[mr_span(i)]], aggr=[[count(1), min(i)]]
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::functions_aggregate::min_max::min_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Cast, Expr, ExprSchemable, GroupingSet, LogicalPlan, Projection, when};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::sql::functions::{jsonb_key, min, span};
use crate::sql::types::{sql_type_of, with_sql_type};

#[derive(Debug)]
pub struct KeyedGroups;

#[derive(Clone, Copy)]
enum Keyed {
    Interval,
    Jsonb,
}

fn keyed(expr: &Expr, input: &DFSchema) -> Option<Keyed> {
    let (_, field) = expr.to_field(input).ok()?;
    match field.data_type() {
        DataType::Interval(_) => Some(Keyed::Interval),
        DataType::Utf8 if sql_type_of(&field) == "jsonb" => Some(Keyed::Jsonb),
        _ => None,
    }
}

impl OptimizerRule for KeyedGroups {
    fn name(&self) -> &str {
        "groups_by_keys_of_values"
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }
    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let input = aggregate.input.schema();
        let sets = match &aggregate.group_expr[..] {
            [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => Some(sets),
            groups if groups.iter().any(|e| matches!(e, Expr::GroupingSet(_))) => return Ok(Transformed::no(plan)),
            _ => None,
        };
        let columns: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
        if !columns.iter().any(|e| keyed(e, input).is_some()) {
            return Ok(Transformed::no(plan));
        }
        let mut calls = aggregate.aggr_expr.clone();
        // What rows are grouped by, and what is shown in its place.
        let mut groups: Vec<Expr> = Vec::new();
        let mut shown: Vec<Option<Expr>> = Vec::new();
        for (i, group) in columns.iter().enumerate() {
            let Some(keyed) = keyed(group, input) else {
                groups.push(group.clone());
                shown.push(None);
                continue;
            };
            let (value, name) = (group.clone().unalias(), format!("mr value {i}"));
            let (key, least) = match keyed {
                Keyed::Interval => (span(value.clone()), min()),
                // To the library it is a text.
                Keyed::Jsonb => (jsonb_key(value.clone())?, min_udaf()),
            };
            groups.push(if sets.is_some() { key } else { key.alias(format!("mr key {i}")) });
            let least = AggregateFunction::new_udf(least, vec![value], false, None, Vec::new(), None);
            calls.push(Expr::AggregateFunction(least).alias(&name));
            let column = Expr::Column(Column::new_unqualified(name));
            shown.push(Some(match keyed {
                Keyed::Interval => column,
                Keyed::Jsonb => {
                    let field = with_sql_type(Field::new("", DataType::Utf8, true), "jsonb");
                    Expr::Cast(Cast { expr: Box::new(column), field: Arc::new(field) })
                }
            }));
        }
        let by_sets = sets.map(|sets| {
            let key = |e: &Expr| columns.iter().position(|c| c == e).map_or_else(|| e.clone(), |i| groups[i].clone());
            let sets = sets.iter().map(|set| set.iter().map(key).collect()).collect();
            vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))]
        });
        let of_sets = by_sets.is_some();
        let width = aggregate.schema.fields().len();
        let grouped = Aggregate::try_new(aggregate.input.clone(), by_sets.unwrap_or(groups), calls)?;
        let columns = grouped.schema.columns().into_iter().take(width);
        let exprs = columns.zip(aggregate.schema.iter()).enumerate().map(|(i, (column, (qualifier, field)))| {
            let value = match shown.get(i).cloned().flatten() {
                // Of a set that it is not in it is NULL.
                Some(value) if of_sets => {
                    let none = Expr::Literal(ScalarValue::try_from(field.data_type())?, None);
                    when(Expr::Column(column).is_null(), none).otherwise(value)?
                }
                Some(value) => value,
                None => Expr::Column(column),
            };
            Ok(value.alias_qualified(qualifier.cloned(), field.name()))
        });
        let exprs = exprs.collect::<Result<_>>()?;
        Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(
            exprs,
            Arc::new(LogicalPlan::Aggregate(grouped)),
        )?)))
    }
}
