//! Outer joins ON a subquery that takes columns of both sides: each row of the side that is kept is joined to the rows of the
//! other one that meet the condition with it, as a LATERAL is.
//!
//! ```text
//!   l LEFT JOIN r ON EXISTS (SELECT … WHERE s.a = l.a AND s.b = r.b)
//!   l LEFT JOIN LATERAL (SELECT * FROM r WHERE EXISTS (SELECT … WHERE s.a = l.a AND s.b = r.b)) ON true
//!
//!   l FULL JOIN r ON p      the same, and the rows of r that no row of l meets: r WHERE NOT EXISTS (SELECT FROM l WHERE p)
//! ```

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ExprSchema, JoinConstraint, JoinType, NullEquality, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Cast, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, Union, binary_expr,
};

use super::{bounded, lateral, note, values};

/// Such a join; `None` of inner joins, and where the condition is of one side alone.
pub fn of_outer(join: &Join) -> Result<Option<LogicalPlan>> {
    let op = match join.null_equality {
        NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
        NullEquality::NullEqualsNothing => Operator::Eq,
    };
    let equal = join.on.iter().map(|(left, right)| binary_expr(left.clone(), op, right.clone()));
    let Some(condition) = conjunction(equal.chain(join.filter.iter().cloned())) else { return Ok(None) };
    let (left, right) = (join.left.as_ref(), join.right.as_ref());
    let joined = match join.join_type {
        JoinType::Left => kept(left, right, condition)?,
        JoinType::Right => kept(right, left, condition)?,
        JoinType::Full => match (kept(left, right, condition.clone())?, alone(right, left, condition)?) {
            (Some(joined), Some(alone)) => Some(united(joined, alone, join)?),
            _ => None,
        },
        _ => None,
    };
    let Some(joined) = joined else { return Ok(None) };
    let columns = join.schema.columns().into_iter().map(Expr::Column);
    bounded(LogicalPlanBuilder::from(joined).project(columns)?.build()?)
}

/// The rows of `other` that meet the condition with a row of `outer`, whose columns are taken from outside.
fn meeting(other: &LogicalPlan, outer: &LogicalPlan, condition: Expr) -> Result<Subquery> {
    let condition = condition.transform(|expr| match expr {
        Expr::Column(column) if outer.schema().has_column(&column) => {
            let field = outer.schema().field_from_column(&column)?.clone();
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let rows = LogicalPlan::Filter(Filter::try_new(condition.data, Arc::new(other.clone()))?);
    note(Subquery { subquery: Arc::new(rows), outer_ref_columns: Vec::new(), spans: Default::default() })
}

/// All rows of `kept`, each with those of `other` that meet it.
fn kept(kept: &LogicalPlan, other: &LogicalPlan, condition: Expr) -> Result<Option<LogicalPlan>> {
    let right = LogicalPlan::Subquery(meeting(other, kept, condition)?);
    let (constraint, equality) = (JoinConstraint::On, NullEquality::NullEqualsNothing);
    let kept = Arc::new(kept.clone());
    let join = Join::try_new(kept, Arc::new(right), Vec::new(), None, JoinType::Left, constraint, equality, false)?;
    lateral(&join, Some(0))
}

/// The rows of `plan` that no row of `other` meets.
fn alone(plan: &LogicalPlan, other: &LogicalPlan, condition: Expr) -> Result<Option<LogicalPlan>> {
    let none = Expr::Exists(Exists { subquery: meeting(other, plan, condition)?, negated: true });
    values(&LogicalPlan::Filter(Filter::try_new(none, Arc::new(plan.clone()))?))
}

/// A FULL join's rows: those of its left side, and those of the right side that stand alone.
fn united(joined: LogicalPlan, alone: LogicalPlan, join: &Join) -> Result<LogicalPlan> {
    let name = |i: usize| format!("mr full {}", i + 1);
    let columns: Vec<_> = join.schema.columns();
    let left = join.left.schema().fields().len();
    let all = columns.iter().enumerate().map(|(i, column)| Expr::Column(column.clone()).alias(name(i)));
    let joined = LogicalPlanBuilder::from(joined).project(all.collect::<Vec<_>>())?.build()?;
    let padded = columns.iter().enumerate().map(|(i, column)| match i < left {
        true => {
            let field = Arc::new(join.schema.field(i).as_ref().clone().with_nullable(true));
            let null = Box::new(Expr::Literal(ScalarValue::Null, None));
            Expr::Cast(Cast { expr: null, field }).alias(name(i))
        }
        false => Expr::Column(column.clone()).alias(name(i)),
    });
    let alone = LogicalPlanBuilder::from(alone).project(padded.collect::<Vec<_>>())?.build()?;
    let both = LogicalPlan::Union(Union::try_new_with_loose_types(vec![Arc::new(joined), Arc::new(alone)])?);
    let named = both.schema().columns().into_iter().zip(columns);
    let named = named.map(|(own, column)| Expr::Column(own).alias_qualified(column.relation, column.name));
    LogicalPlanBuilder::from(both).project(named.collect::<Vec<_>>())?.build()
}
