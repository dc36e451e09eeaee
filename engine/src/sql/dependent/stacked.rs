//! LATERAL that makes each row's answer of that row alone, such as `t, jsonb_array_elements(t.j) e`: it is computed beside the
//! row. Asked by value and joined, each row would be kept twice, and the whole of `t.j` repeated for each of its elements.
//!
//! ```text
//!   Join                                       Projection: t.id, t.j, e.value
//!     t                                          Projection: l0 … l1, value AS e.value
//!     SubqueryAlias: e                             Unnest: list
//!       Projection: unnested AS value      ─►        Projection: l0, l1, elements(l1) AS list
//!         Unnest: list                                 Projection: t.id AS l0, t.j AS l1
//!           Projection: elements(outer t.j)              t
//!             one row
//! ```
//!
//! The outer row's columns go by names of their own in between: the subquery may have any others.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, TableReference};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, SubqueryAlias};

use super::outside::subquery_of;
use super::{OUTER, next_number};

/// The join with its right side, the plan of a LATERAL, computed beside each row of the left one; `None` where that side reads
/// rows or rows without an answer stay.
pub(super) fn stacked(
    join: &Join,
    subquery: &LogicalPlan,
    alias: Option<&TableReference>,
    least: usize,
) -> Result<Option<LogicalPlan>> {
    if join.join_type != JoinType::Inner || !is_of_one_row(subquery)? {
        return Ok(None);
    }
    let number = next_number(&join.left).max(next_number(subquery)).max(least);
    let relation = TableReference::bare(format!("{OUTER}{number}"));
    let outside = join.left.schema().columns();
    let own: Vec<Column> =
        (0..outside.len()).map(|i| Column::new(Some(relation.clone()), format!("mr_l{number}_{i}"))).collect();
    let renamed = outside.iter().zip(&own).map(|(from, to)| Expr::Column(from.clone()).alias(to.name.clone()));
    let rows = LogicalPlanBuilder::from(join.left.as_ref().clone())
        .project(renamed.collect::<Vec<_>>())?
        .alias(relation)?
        .build()?;
    let stack = Stack { outside, own, rows };
    let mut plan = stack.on(subquery)?;
    if let Some(alias) = alias {
        plan = stack.aliased(plan, &subquery.schema().columns(), alias)?;
    }
    // What the left side's columns were called, then those of the right side.
    let before = stack.own.iter().zip(&stack.outside);
    let before = before
        .map(|(own, column)| Expr::Column(own.clone()).alias_qualified(column.relation.clone(), column.name.clone()));
    let after = join.right.schema().columns().into_iter().map(Expr::Column);
    let plan = LogicalPlanBuilder::from(plan).project(before.chain(after).collect::<Vec<_>>())?;
    let equal = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    match join.filter.iter().cloned().chain(equal).reduce(Expr::and) {
        Some(condition) => plan.filter(condition)?.build(),
        None => plan.build(),
    }
    .map(Some)
}

/// Whether a plan makes rows of nothing but what is outside of it, each for itself.
fn is_of_one_row(plan: &LogicalPlan) -> Result<bool> {
    let input = match plan {
        LogicalPlan::EmptyRelation(empty) => return Ok(empty.produce_one_row && empty.schema.fields().is_empty()),
        LogicalPlan::Projection(projection) => &projection.input,
        LogicalPlan::Filter(filter) => &filter.input,
        LogicalPlan::SubqueryAlias(alias) => &alias.input,
        LogicalPlan::Unnest(unnest) => &unnest.input,
        _ => return Ok(false),
    };
    let mut plain = true;
    plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            plain &= subquery_of(expr).is_none();
            Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })
    })?;
    Ok(plain && is_of_one_row(input)?)
}

struct Stack {
    /// The left side's columns, …
    outside: Vec<Column>,
    /// … what they are called below the subquery's nodes, …
    own: Vec<Column>,
    /// … and its rows, with those names.
    rows: LogicalPlan,
}

impl Stack {
    /// A plan's columns beside those of the row that they are made for.
    fn on(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        match plan {
            LogicalPlan::EmptyRelation(_) => Ok(self.rows.clone()),
            LogicalPlan::Projection(projection) => {
                let input = self.on(&projection.input)?;
                let exprs = projection.expr.iter().cloned().zip(projection.schema.iter());
                let exprs = exprs.map(|(expr, (qualifier, field))| {
                    let replaced = self.replace(expr)?;
                    Ok(match replaced.transformed {
                        true => replaced.data.unalias().alias_qualified(qualifier.cloned(), field.name()),
                        false => replaced.data,
                    })
                });
                let exprs = self.beside(exprs.collect::<Result<Vec<_>>>()?);
                LogicalPlanBuilder::from(input).project(exprs)?.build()
            }
            LogicalPlan::Filter(filter) => {
                let predicate = self.replace(filter.predicate.clone())?.data;
                LogicalPlanBuilder::from(self.on(&filter.input)?).filter(predicate)?.build()
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
                self.aliased(self.on(input)?, &input.schema().columns(), alias)
            }
            LogicalPlan::Unnest(unnest) => LogicalPlanBuilder::from(self.on(&unnest.input)?)
                .unnest_columns_with_options(unnest.exec_columns.clone(), unnest.options.clone())?
                .build()
                .and_then(crate::sql::repeated::unnested),
            other => Err(super::refused(&other.display().to_string())),
        }
    }

    fn aliased(&self, plan: LogicalPlan, columns: &[Column], alias: &TableReference) -> Result<LogicalPlan> {
        let columns = columns
            .iter()
            .map(|column| Expr::Column(column.clone()).alias_qualified(Some(alias.clone()), column.name.clone()));
        LogicalPlanBuilder::from(plan).project(self.beside(columns.collect()))?.build()
    }

    fn beside(&self, exprs: Vec<Expr>) -> Vec<Expr> {
        self.own.iter().cloned().map(Expr::Column).chain(exprs).collect()
    }

    /// An expression with the left side's columns taken from beside it.
    fn replace(&self, expr: Expr) -> Result<Transformed<Expr>> {
        expr.transform(|expr| match &expr {
            Expr::OuterReferenceColumn(_, column) => match self.outside.iter().position(|outside| outside == column) {
                Some(at) => Ok(Transformed::yes(Expr::Column(self.own[at].clone()))),
                None => Ok(Transformed::no(expr)),
            },
            _ => Ok(Transformed::no(expr)),
        })
    }
}
