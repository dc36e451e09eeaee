//! What a plan takes from outside of it: the columns of queries around it, by itself and by the subqueries in it.
//!
//! DataFusion notes in a subquery only the outer columns that its own nodes name, not those that subqueries in it take from
//! further out; and an outer column does not say how many levels up it is: it is the innermost one of its name.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

use crate::sql::bounds::check_in_plan;

/// The subquery that an expression is made of.
pub fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery)
        | Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. }) => Some(subquery),
        _ => None,
    }
}

pub(super) fn subquery_of_mut(expr: &mut Expr) -> Option<&mut Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery)
        | Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. }) => Some(subquery),
        _ => None,
    }
}

/// Whether subqueries in a node's expressions find a column there, so that they do not look further out.
fn is_bound(node: &LogicalPlan, column: &Column) -> bool {
    node.inputs().iter().any(|input| input.schema().has_column(column))
}

type Outside = Vec<(FieldRef, Column)>;

fn add(found: &mut Outside, more: impl IntoIterator<Item = (FieldRef, Column)>) {
    for (field, column) in more {
        if !found.iter().any(|(_, known)| *known == column) {
            found.push((field, column));
        }
    }
}

fn of_expressions(node: &LogicalPlan, subqueries_only: bool, found: &mut Outside) -> Result<()> {
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            if let Expr::OuterReferenceColumn(field, column) = expr {
                if !subqueries_only {
                    add(found, [(field.clone(), column.clone())]);
                }
            } else if let Some(subquery) = subquery_of(expr) {
                add(found, outside(&subquery.subquery)?.into_iter().filter(|(_, column)| !is_bound(node, column)));
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(())
}

/// All columns that a plan takes from outside, each once.
pub fn outside(plan: &LogicalPlan) -> Result<Outside> {
    check_in_plan()?;
    let mut found = Vec::new();
    of_expressions(plan, false, &mut found)?;
    match plan {
        // The right side may be a LATERAL.
        LogicalPlan::Join(join) => {
            add(&mut found, outside(&join.left)?);
            let right = outside(&join.right)?.into_iter();
            add(&mut found, right.filter(|(_, column)| !join.left.schema().has_column(column)));
        }
        _ => {
            for input in plan.inputs() {
                add(&mut found, outside(input)?);
            }
        }
    }
    Ok(found)
}

/// Whether a plan takes any of these columns from outside.
pub fn mentions(plan: &LogicalPlan, outer: &[Column]) -> Result<bool> {
    Ok(outside(plan)?.iter().any(|(_, column)| outer.contains(column)))
}

/// The same for the expressions of a node alone.
pub fn own_mentions(node: &LogicalPlan, outer: &[Column]) -> Result<bool> {
    let mut found = Vec::new();
    of_expressions(node, false, &mut found)?;
    Ok(found.iter().any(|(_, column)| outer.contains(column)))
}

/// The same for the subqueries in them.
pub fn subqueries_mention(node: &LogicalPlan, outer: &[Column]) -> Result<bool> {
    let mut found = Vec::new();
    of_expressions(node, true, &mut found)?;
    Ok(found.iter().any(|(_, column)| outer.contains(column)))
}

/// Notes in each subquery all that it takes from outside.
pub fn note(subquery: Subquery) -> Result<Subquery> {
    let all = outside(&subquery.subquery)?;
    let outer_ref_columns = all.into_iter().map(|(field, column)| Expr::OuterReferenceColumn(field, column)).collect();
    Ok(Subquery { outer_ref_columns, ..subquery })
}

/// A plan that takes columns from outside under other names: pairs of names.
pub fn renamed(plan: LogicalPlan, names: &[(Column, Column)]) -> Result<LogicalPlan> {
    let left = match &plan {
        LogicalPlan::Join(join) => Some(join.left.schema().clone()),
        _ => None,
    };
    let mut child = 0;
    let plan = plan.map_children(|input| {
        child += 1;
        let input = match &left {
            Some(left) if child == 2 => {
                let names: Vec<_> = names.iter().filter(|(column, _)| !left.has_column(column)).cloned().collect();
                renamed(input, &names)?
            }
            _ => renamed(input, names)?,
        };
        Ok(Transformed::yes(input))
    })?;
    let plan = match plan.data {
        LogicalPlan::Subquery(subquery) => return note(subquery).map(LogicalPlan::Subquery),
        other => other,
    };
    let within: Vec<_> = names.iter().filter(|(column, _)| !is_bound(&plan, column)).cloned().collect();
    plan.map_expressions(|expr| {
        expr.transform(|mut expr| {
            if let Expr::OuterReferenceColumn(_, column) = &mut expr {
                return Ok(match names.iter().find(|(from, _)| from == column) {
                    Some((_, to)) => {
                        *column = to.clone();
                        Transformed::yes(expr)
                    }
                    None => Transformed::no(expr),
                });
            }
            match subquery_of_mut(&mut expr) {
                Some(subquery) => {
                    *subquery = renamed_in(subquery.clone(), &within)?;
                    Ok(Transformed::yes(expr))
                }
                None => Ok(Transformed::no(expr)),
            }
        })
    })
    .map(|plan| plan.data)
}

/// The same of a subquery in an expression.
pub fn renamed_in(subquery: Subquery, names: &[(Column, Column)]) -> Result<Subquery> {
    let plan = renamed(subquery.subquery.as_ref().clone(), names)?;
    note(Subquery { subquery: Arc::new(plan), ..subquery })
}
