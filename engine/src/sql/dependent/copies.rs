//! Columns of one name within a correlated subquery: DataFusion's rules put the subquery under an alias of its own and take what
//! its conditions name by that alias and the bare name, so that `a.id` and `b.id` become one column. Where a name is not
//! the only one of its kind, the conditions that take something from outside are asked of copies with names of their own:
//!
//! ```text
//!   EXISTS (Filter: outer r.x = a.id AND outer r.y = b.id        EXISTS (Projection: a.id, b.id
//!             Join: a, b)                                   ──►            Filter: outer r.x = mr_copy_0 AND outer r.y = mr_copy_1
//!                                                                            Projection: a.id, b.id, a.id AS mr_copy_0, b.id AS mr_copy_1
//!                                                                              Join: a, b)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, Subquery};

use super::outside::{subquery_of, subquery_of_mut};

const COPY: &str = "mr_copy_";

/// A plan whose correlated subqueries, in expressions or LATERAL, name each column by one name alone.
pub fn named_apart(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut next = 0;
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Subquery(subquery) => Ok(apart(subquery, &mut next)?.update_data(LogicalPlan::Subquery)),
        node => node.map_expressions(|expr| {
            expr.transform(|mut expr| match subquery_of_mut(&mut expr) {
                Some(subquery) => {
                    let named = apart(subquery.clone(), &mut next)?;
                    *subquery = named.data;
                    Ok(Transformed::new(expr, named.transformed, TreeNodeRecursion::Continue))
                }
                None => Ok(Transformed::no(expr)),
            })
        }),
    })
    .map(|plan| plan.data)
}

fn apart(subquery: Subquery, next: &mut usize) -> Result<Transformed<Subquery>> {
    let ambiguous = ambiguous_names(&subquery.subquery)?;
    if ambiguous.is_empty() {
        return Ok(Transformed::no(subquery));
    }
    let plan = subquery.subquery.as_ref().clone().transform_up(|node| match node {
        LogicalPlan::Filter(filter) => of_copies(filter, &ambiguous, next),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.update_data(|plan| Subquery { subquery: Arc::new(plan), ..subquery }))
}

/// Whether it takes something from outside, and is moved out of its subquery therefore.
fn is_moved(condition: &Expr) -> bool {
    condition.contains_outer() && !condition.exists(|expr| Ok(subquery_of(expr).is_some())).unwrap_or(true)
}

/// Of the names in conditions that are moved those that other columns of the subquery have too; but not those of subqueries in it,
/// which see to themselves.
fn ambiguous_names(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut moved = BTreeSet::new();
    let mut columns: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
    plan.apply(|node| {
        if let LogicalPlan::Filter(filter) = node {
            for condition in split_conjunction(&filter.predicate).into_iter().filter(|e| is_moved(e)) {
                moved.extend(condition.column_refs().into_iter().map(|column| column.name.clone()));
            }
        }
        for (qualifier, field) in node.schema().iter() {
            columns.entry(field.name().clone()).or_default().insert(qualifier.map(ToString::to_string));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    moved.retain(|name| columns.get(name).is_some_and(|qualifiers| qualifiers.len() > 1));
    Ok(moved)
}

fn of_copies(filter: Filter, ambiguous: &BTreeSet<String>, next: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let (moved, kept): (Vec<Expr>, Vec<Expr>) =
        split_conjunction_owned(filter.predicate.clone()).into_iter().partition(is_moved);
    let named: BTreeSet<Column> = (moved.iter().flat_map(|condition| condition.column_refs().into_iter().cloned()))
        .filter(|column| ambiguous.contains(&column.name))
        .collect();
    if named.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let mut copies = BTreeMap::new();
    for column in named {
        copies.insert(column, format!("{COPY}{next}"));
        *next += 1;
    }
    let columns = filter.input.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    let added = copies.iter().map(|(column, copy)| Expr::Column(column.clone()).alias(copy));
    let below = match conjunction(kept) {
        Some(kept) => LogicalPlan::Filter(Filter::try_new(kept, filter.input.clone())?),
        None => filter.input.as_ref().clone(),
    };
    let below = LogicalPlanBuilder::from(below).project(columns.iter().cloned().chain(added))?;
    let moved = moved.into_iter().map(|condition| {
        condition.transform(|expr| match expr {
            Expr::Column(column) => Ok(match copies.get(&column) {
                Some(copy) => Transformed::yes(Expr::Column(Column::new_unqualified(copy))),
                None => Transformed::no(Expr::Column(column)),
            }),
            other => Ok(Transformed::no(other)),
        })
    });
    let moved: Vec<Expr> = moved.map(|condition| condition.map(|c| c.data)).collect::<Result<_>>()?;
    let moved = conjunction(moved).expect("a condition names what is copied");
    Ok(Transformed::yes(below.filter(moved)?.project(columns)?.build()?))
}
