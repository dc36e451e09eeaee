//! The empty set among GROUPING SETS, ROLLUP and CUBE is an aggregate without GROUP BY: one row, also over nothing.
//! DataFusion gives none there.
//!
//! ```text
//!   GROUP BY ROLLUP (a)   ──►   GROUP BY GROUPING SETS ((a))   UNION ALL   NULL, all rows as one group
//! ```

use std::sync::Arc;

use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Aggregate, Cast, Expr, GroupingSet, LogicalPlan, Projection, Union, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::error::Error;

/// CUBE doubles the sets with each column.
const CUBE_COLUMNS_MAX: usize = 12;

/// Each set by itself.
pub fn sets_of(sets: &GroupingSet) -> Result<Vec<Vec<Expr>>> {
    Ok(match sets {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(exprs) => (0..=exprs.len()).rev().map(|n| exprs[..n].to_vec()).collect(),
        GroupingSet::Cube(exprs) => {
            if exprs.len() > CUBE_COLUMNS_MAX {
                let error = Error::new("54000", format!("CUBE has at most {CUBE_COLUMNS_MAX} columns"));
                return Err(DataFusionError::External(Box::new(error)));
            }
            let chosen = |mask: usize| (0..exprs.len()).filter(move |i| mask & (1 << i) != 0).map(|i| exprs[i].clone());
            (0..1 << exprs.len()).map(|mask| chosen(mask).collect()).collect()
        }
    })
}

/// A set as a GROUP BY of its own, with the columns of the whole, called `c0`, `c1`, …: NULL for those that are not in the set, and the id that
/// `grouping()` is computed from: a bit for each absent column, and how often the set came before.
pub fn one_set(aggregate: &Aggregate, columns: &[Expr], set: &[Expr], ordinal: u64) -> Result<Projection> {
    let absent: Vec<bool> = columns.iter().map(|c| !set.contains(c)).collect();
    let group: Vec<Expr> =
        columns.iter().zip(&absent).filter(|(_, absent)| !**absent).map(|(c, _)| c.clone()).collect();
    let mut calls = aggregate.aggr_expr.clone();
    if group.is_empty() && calls.is_empty() {
        // One row, of which nothing is asked.
        calls.push(count(lit(1i64)));
    }
    let part = Aggregate::try_new(aggregate.input.clone(), group, calls)?;
    let mut own = part.schema.columns().into_iter();
    let mask = absent.iter().fold(0u64, |mask, absent| mask << 1 | u64::from(*absent));
    let id = ScalarValue::UInt64(Some(mask | ordinal << columns.len()));
    let mut exprs = Vec::new();
    for (i, field) in aggregate.schema.fields().iter().enumerate() {
        let expr = match i.cmp(&columns.len()) {
            // With what the field says of its SQL type.
            std::cmp::Ordering::Less if absent[i] => {
                Expr::Literal(ScalarValue::try_from(field.data_type())?, Some(FieldMetadata::from(field.as_ref())))
            }
            std::cmp::Ordering::Equal => Expr::Literal(id.cast_to(field.data_type())?, None),
            _ => Expr::Column(own.next().expect("a column for each that is not absent")),
        };
        exprs.push(expr.alias(format!("c{i}")));
    }
    Projection::try_new(exprs, Arc::new(LogicalPlan::Aggregate(part)))
}

/// The same as a UNION ALL of an aggregate for each set, in a plan that has not been analyzed: `grouping()` is a number of each.
pub fn each_set(aggregate: &Aggregate, sets: &GroupingSet) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = sets.distinct_expr().into_iter().cloned().collect();
    let arguments = |call: &Expr| match call.clone().unalias() {
        Expr::AggregateFunction(call) if call.func.name() == "grouping" => Some(call.params.args),
        _ => None,
    };
    let width = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let mut inputs: Vec<Arc<LogicalPlan>> = Vec::new();
    for set in sets_of(sets)? {
        // Another call in the place of each `grouping()`, for the number of columns.
        let calls = aggregate.aggr_expr.iter().map(|call| match arguments(call) {
            Some(_) => count(lit(1i64)).alias(call.schema_name().to_string()),
            None => call.clone(),
        });
        let group = aggregate.group_expr.clone();
        let whole = Aggregate::try_new(aggregate.input.clone(), group, calls.collect())?;
        let before = inputs.len() as u64;
        let mut part = one_set(&whole, &columns, &set, before)?;
        for (i, call) in aggregate.aggr_expr.iter().enumerate() {
            let Some(arguments) = arguments(call) else { continue };
            let absent = |bits: i64, argument: &Expr| bits << 1 | i64::from(!set.contains(argument));
            let bits = ScalarValue::Int64(Some(arguments.iter().fold(0, absent)));
            let bits = bits.cast_to(aggregate.schema.field(width + i).data_type())?;
            part.expr[width + i] = Expr::Literal(bits, None).alias(format!("c{}", width + i));
        }
        let part = Projection::try_new(part.expr, part.input)?;
        inputs.push(Arc::new(LogicalPlan::Projection(part)));
    }
    let all = match inputs.len() {
        1 => inputs.remove(0),
        _ => Arc::new(LogicalPlan::Union(Union::try_new(inputs)?)),
    };
    named_as(aggregate, all)
}

/// The columns of a plan under the names of an aggregate's; a union knows no qualifiers.
fn named_as(aggregate: &Aggregate, plan: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let named = plan.schema().columns().into_iter().zip(aggregate.schema.iter());
    let named = named
        .map(|(c, (qualifier, field))| Expr::Column(c).alias_qualified(qualifier.cloned(), field.name()))
        .collect();
    Ok(LogicalPlan::Projection(Projection::try_new(named, plan)?))
}

#[derive(Debug)]
pub struct EmptyGroupingSet;

impl OptimizerRule for EmptyGroupingSet {
    fn name(&self) -> &str {
        "empty_grouping_set"
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }
    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        let [Expr::GroupingSet(grouping)] = &aggregate.group_expr[..] else { return Ok(Transformed::no(plan)) };
        let (empty, others): (Vec<_>, Vec<_>) = sets_of(grouping)?.into_iter().partition(|set| set.is_empty());
        if empty.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let columns: Vec<Expr> = grouping.distinct_expr().into_iter().cloned().collect();
        let mut inputs = Vec::new();
        if !others.is_empty() {
            let group = vec![Expr::GroupingSet(GroupingSet::GroupingSets(others))];
            let rest = Aggregate::try_new(aggregate.input.clone(), group, aggregate.aggr_expr.clone())?;
            let columns = rest.schema.columns().into_iter().zip(aggregate.schema.fields()).enumerate();
            let exprs = columns.map(|(i, (column, field))| {
                // The id is narrower where fewer sets repeat.
                Expr::Cast(Cast::new(Box::new(Expr::Column(column)), field.data_type().clone())).alias(format!("c{i}"))
            });
            let exprs = exprs.collect();
            let rest = Projection::try_new(exprs, Arc::new(LogicalPlan::Aggregate(rest)))?;
            inputs.push(Arc::new(LogicalPlan::Projection(rest)));
        }
        for ordinal in 0..empty.len() as u64 {
            inputs.push(Arc::new(LogicalPlan::Projection(one_set(aggregate, &columns, &[], ordinal)?)));
        }
        let all = match inputs.len() {
            1 => inputs.remove(0),
            _ => Arc::new(LogicalPlan::Union(Union { schema: inputs[0].schema().clone(), inputs })),
        };
        named_as(aggregate, all).map(Transformed::yes)
    }
}

/// DataFusion's rule, except for a condition over an aggregate without GROUP BY, or over others over it: one without
/// columns, as it is over the empty set, would go below it, where there is a row even of nothing.
///
/// ```text
///   Filter: NULL = 'x'         the row is not there
///     Aggregate: sum(v)
///
///   Aggregate: sum(v)          the row is NULL
///     Filter: NULL = 'x'
/// ```
#[derive(Debug)]
pub struct PushDownFilter(pub Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for PushDownFilter {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }
    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let mut below = &plan;
        while let LogicalPlan::Filter(filter) = below {
            below = &filter.input;
        }
        let over_one_row = matches!(&plan, LogicalPlan::Filter(_))
            && matches!(below, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty());
        if over_one_row { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}

/// Brings what GROUPING SETS, ROLLUP and CUBE are of below them, so that they are of columns alone: what is done to an
/// expression later would not be done to its like above, and two can have one name to DataFusion.
///
/// ```text
///   Aggregate: ROLLUP (upper(a))   ──►   Aggregate: ROLLUP ("upper(a)")
///                                          Projection: a, upper(a) AS "upper(a)"
/// ```
pub fn over_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) => match &aggregate.group_expr[..] {
            [Expr::GroupingSet(sets)] if sets.distinct_expr().iter().any(|e| !matches!(e, Expr::Column(_))) => {
                of_columns(&aggregate, sets).map(Transformed::yes)
            }
            _ => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

fn of_columns(aggregate: &Aggregate, sets: &GroupingSet) -> Result<LogicalPlan> {
    let distinct = sets.distinct_expr();
    let computed: Vec<(&Expr, String)> = distinct
        .into_iter()
        .filter(|e| !matches!(e, Expr::Column(_)))
        .map(|e| (e, e.schema_name().to_string()))
        .collect();
    let columns = aggregate.input.schema().columns().into_iter().map(Expr::Column);
    let below = columns.chain(computed.iter().map(|(expr, name)| (*expr).clone().alias(name)));
    let below = LogicalPlan::Projection(Projection::try_new(below.collect(), aggregate.input.clone())?);
    let column = |expr: Expr| match computed.iter().find(|(known, _)| **known == expr) {
        Some((_, name)) => Transformed::yes(Expr::Column(Column::new_unqualified(name))),
        None => Transformed::no(expr),
    };
    let group = aggregate.group_expr[0].clone().transform_down(|expr| Ok(column(expr)))?.data;
    // Only grouping() names what it is of; a sum is of the value, also where the column is NULL.
    let calls = aggregate.aggr_expr.iter().cloned().map(|call| match call {
        Expr::AggregateFunction(mut grouping) if grouping.func.name() == "grouping" => {
            grouping.params.args = grouping.params.args.into_iter().map(|expr| column(expr).data).collect();
            Expr::AggregateFunction(grouping)
        }
        other => other,
    });
    Aggregate::try_new(Arc::new(below), vec![group], calls.collect()).map(LogicalPlan::Aggregate)
}
