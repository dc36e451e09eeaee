//! Which correlated subqueries DataFusion's own rules make joins of that answer rightly.

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use super::outside::{mentions, own_mentions, subqueries_mention, subquery_of};
use crate::sql::types::{is_padded, sql_type_of};

/// What is asked of a plan's rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Whether there are any.
    Rows,
    /// The value of the one that there is.
    Value,
    /// An aggregate of them, which is a value.
    Argument,
}

pub fn use_of(is_value: bool) -> Use {
    if is_value { Use::Value } else { Use::Rows }
}

/// Whether DataFusion's own rules make a join of it: what comes from outside stands in conditions below nothing but
/// projections and, for a value, equalities and one aggregate. An aggregate without GROUP BY has a row of nothing too, which
/// a join loses: it may only be a value, with nothing above it that makes another value of a missing one.
pub fn is_simple(plan: &LogicalPlan, outer: &[Column], of: Use) -> Result<bool> {
    if !mentions(plan, outer)? {
        return Ok(true);
    }
    let own = own_mentions(plan, outer)?;
    Ok(match plan {
        LogicalPlan::Projection(projection) => {
            let fine = of != Use::Value || projection.expr.iter().all(is_arithmetic);
            // What asks for the columns of another join's rows is in the way of conditions that leave the subquery.
            let asks = projection.expr.iter().any(has_correlated);
            !own && fine && !asks && is_simple(&projection.input, outer, of)?
        }
        LogicalPlan::Aggregate(aggregate) => {
            let is_value = of == Use::Value && aggregate.group_expr.is_empty();
            !own && is_value && is_simple(&aggregate.input, outer, Use::Argument)?
        }
        LogicalPlan::Filter(filter) => {
            let equalities = |expr: &&Expr| {
                let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return false };
                let outside = |e: &Expr| e.column_refs().is_empty() && e.contains_outer();
                let schema = filter.input.schema();
                let inside = |e: &Expr| match e {
                    Expr::Column(_) => e.to_field(schema).is_ok_and(|(_, field)| compares_as_it_is(&field)),
                    Expr::Cast(cast) => matches!(*cast.expr, Expr::Column(_)),
                    _ => false,
                };
                outside(left) && inside(right) || outside(right) && inside(left)
            };
            let conditions = datafusion::logical_expr::utils::split_conjunction(&filter.predicate);
            let mut correlated = conditions.into_iter().filter(|e| e.contains_outer());
            // A condition that takes something from outside leaves the subquery, and so would a subquery in it, away from the
            // columns that it names.
            let leaves = correlated.clone().any(|e| e.exists(|e| Ok(subquery_of(e).is_some())).unwrap_or(true));
            let nested = leaves || subqueries_mention(plan, outer)? || asks_from_outside(&filter.predicate)?;
            let is_having = of == Use::Value && has_aggregate(&filter.input);
            let joins = of == Use::Rows || correlated.all(|e| equalities(&e));
            !nested && !is_having && joins && is_simple(&filter.input, outer, of)?
        }
        _ => false,
    })
}

/// Whether there is an `x IN (…)` whose x is a column from outside.
fn asks_from_outside(predicate: &Expr) -> Result<bool> {
    predicate.exists(|expr| Ok(matches!(expr, Expr::InSubquery(of) if of.expr.contains_outer())))
}

fn has_correlated(expr: &Expr) -> bool {
    let correlated = |expr: &Expr| Ok(subquery_of(expr).is_some_and(|of| !of.outer_ref_columns.is_empty()));
    expr.exists(correlated).unwrap_or(true)
}

/// Whether values are compared themselves, and not a key of them, which DataFusion's rules would not take for a column.
fn compares_as_it_is(field: &Field) -> bool {
    let sql_type = sql_type_of(field);
    !matches!(field.data_type(), DataType::Interval(_)) && sql_type != "jsonb" && !is_padded(&sql_type)
}

/// NULL where one of its columns is.
fn is_arithmetic(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Alias(alias) => is_arithmetic(&alias.expr),
        Expr::Cast(cast) => is_arithmetic(&cast.expr),
        Expr::Negative(of) => is_arithmetic(of),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            op.is_numerical_operators() && is_arithmetic(left) && is_arithmetic(right)
        }
        _ => false,
    }
}

fn has_aggregate(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_)))).unwrap_or(true)
}
