//! Conditions on the left side of a LATERAL go below it: they keep the subquery from being asked for rows that are not
//! wanted, for which it may fail.
//!
//! ```text
//!   FROM t, jsonb_each(t.j) e WHERE jsonb_typeof(t.j) = 'object' AND e.value <> '1'
//!
//!   Filter: e.value <> '1'
//!     Join: Filter: jsonb_typeof(t.j) = 'object'
//!             t
//!           jsonb_each(outer t.j)
//! ```

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, SubqueryAlias};

use super::outside::outside;

/// The plan with such conditions where they belong, in its subqueries too.
pub fn below_laterals(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = &node else { return Ok(Transformed::no(node)) };
        let LogicalPlan::Join(join) = filter.input.as_ref() else { return Ok(Transformed::no(node)) };
        if !is_lateral(join)? {
            return Ok(Transformed::no(node));
        }
        let left = join.left.schema();
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for condition in split_conjunction_owned(filter.predicate.clone()) {
            let columns = condition.column_refs();
            let of_left = !columns.is_empty() && columns.into_iter().all(|column| left.has_column(column));
            if of_left && is_plain(&condition)? { own.push(condition) } else { others.push(condition) }
        }
        let Some(own) = conjunction(own) else { return Ok(Transformed::no(node)) };
        let left = Arc::new(LogicalPlan::Filter(Filter::try_new(own, join.left.clone())?));
        let joined = LogicalPlan::Join(Join { left, ..join.clone() });
        Ok(Transformed::yes(match conjunction(others) {
            Some(others) => LogicalPlan::Filter(Filter::try_new(others, Arc::new(joined))?),
            None => joined,
        }))
    })
    .map(|plan| plan.data)
}

/// A filter with subqueries over one with its other conditions, if it has both: a subquery that is asked for all distinct
/// values of a row is then asked for those of rows that are wanted. Otherwise that may be those of a cross join:
///
/// ```text
///   Filter: s.a = r.a AND NOT EXISTS (… outer s.a, r.c …)        Filter: NOT EXISTS (… outer s.a, r.c …)
///     Cross join: r, s                                     ──►     Filter: s.a = r.a
///                                                                    Cross join: r, s
/// ```
pub fn plain_first(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = plan else { return Ok(None) };
    let (mut plain, mut others) = (Vec::new(), Vec::new());
    for condition in split_conjunction_owned(filter.predicate.clone()) {
        let own = !condition.column_refs().is_empty() && !condition.contains_outer() && is_plain(&condition)?;
        if own { plain.push(condition) } else { others.push(condition) }
    }
    let (Some(plain), Some(others)) = (conjunction(plain), conjunction(others)) else { return Ok(None) };
    let input = LogicalPlan::Filter(Filter::try_new(plain, filter.input.clone())?);
    Ok(Some(LogicalPlan::Filter(Filter::try_new(others, Arc::new(input))?)))
}

/// A LATERAL that takes nothing from outside is no other than a table. It may have taken something in a condition that was
/// found to be constant, such as `false AND l.k = r.k`; DataFusion then leaves it, and has no plan for it.
pub fn without_laterals_of_nothing(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
    let freed = |plan: &LogicalPlan| match plan {
        LogicalPlan::Subquery(of) if outside(&of.subquery)?.is_empty() => Ok(Some(of.subquery.clone())),
        _ => Ok::<_, DataFusionError>(None),
    };
    let right = match join.right.as_ref() {
        LogicalPlan::SubqueryAlias(alias) => match freed(&alias.input)? {
            Some(input) => {
                Some(Arc::new(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, alias.alias.clone())?)))
            }
            None => None,
        },
        other => freed(other)?,
    };
    Ok(match right {
        Some(right) => Transformed::yes(LogicalPlan::Join(Join { right, ..join.clone() })),
        None => Transformed::no(plan),
    })
}

/// Whether the right side takes columns of the left one.
fn is_lateral(join: &Join) -> Result<bool> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return Ok(false);
    }
    let mut right = join.right.as_ref();
    loop {
        right = match right {
            LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
            LogicalPlan::Subquery(subquery) => subquery.subquery.as_ref(),
            _ => break,
        };
    }
    Ok(outside(right)?.iter().any(|(_, column)| join.left.schema().has_column(column)))
}

/// Without subqueries and without what is another value each time.
fn is_plain(condition: &Expr) -> Result<bool> {
    let mut plain = !condition.is_volatile();
    condition.apply(|expr| {
        plain &=
            !matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_));
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(plain)
}
