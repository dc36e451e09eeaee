//! Subqueries where DataFusion has no plan for them, within aggregates, in ON and in ORDER BY: their values become columns of what is
//! below.
//!
//! ```text
//!   Aggregate sum(CASE WHEN (subquery) > 0 THEN i END)     ─►   Aggregate sum("mr below 1")
//!     t                                                           Projection t.*, CASE … END AS "mr below 1"
//!                                                                   t
//!   t LEFT JOIN u ON t.i = (subquery)                      ─►   the same of the side whose columns are used
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan, LogicalPlanBuilder, Sort, SortExpr};

use crate::sql::dependent;

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_)))).unwrap_or(false)
}

/// Columns to be computed below a node.
#[derive(Default)]
struct Computed {
    exprs: Vec<Expr>,
}

impl Computed {
    fn column(&mut self, expr: Expr) -> Expr {
        let name = format!("mr below {}", self.exprs.len() + 1);
        self.exprs.push(expr.alias(&name));
        Expr::Column(Column::new_unqualified(name))
    }

    fn below(self, input: &LogicalPlan) -> Result<LogicalPlan> {
        let columns = input.schema().columns().into_iter().map(Expr::Column);
        let plan = LogicalPlanBuilder::from(input.clone()).project(columns.chain(self.exprs))?.build()?;
        Ok(dependent::joined(&plan)?.unwrap_or(plan))
    }
}

/// The plan with such subqueries below; `None` where there are none.
pub fn computed(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
        LogicalPlan::Join(join) => of_join(join),
        LogicalPlan::Sort(sort) => of_sort(sort),
        _ => Ok(None),
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let mut all = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
    if !all.any(has_subquery) || aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
        return Ok(None);
    }
    let mut computed = Computed::default();
    let mut value = |expr: Expr| if has_subquery(&expr) { computed.column(expr) } else { expr };
    let groups: Vec<Expr> = (aggregate.group_expr.iter())
        .map(|group| match has_subquery(group) {
            true => value(group.clone()).alias(group.schema_name().to_string()),
            false => group.clone(),
        })
        .collect();
    let mut calls = Vec::new();
    for call in &aggregate.aggr_expr {
        let name = NamePreserver::new_for_projection().save(call);
        let call = call.clone().transform_down(|expr| match expr {
            Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
                params.args = params.args.into_iter().map(&mut value).collect();
                params.filter = params.filter.map(|filter| Box::new(value(*filter)));
                let order = params.order_by.into_iter();
                params.order_by = order.map(|sort| SortExpr { expr: value(sort.expr), ..sort }).collect();
                let call = Expr::AggregateFunction(AggregateFunction { func, params });
                Ok(Transformed::new(call, true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?;
        calls.push(name.restore(call.data));
    }
    let input = Arc::new(computed.below(&aggregate.input)?);
    Ok(Some(LogicalPlan::Aggregate(Aggregate::try_new(input, groups, calls)?)))
}

/// The columns that an expression uses, also in its subqueries.
fn columns_of(expr: &Expr) -> HashSet<Column> {
    let mut columns: HashSet<Column> = expr.column_refs().into_iter().cloned().collect();
    let _ = expr.apply(|expr| {
        if let Expr::ScalarSubquery(subquery) = expr {
            for outer in &subquery.outer_ref_columns {
                if let Expr::OuterReferenceColumn(_, column) = outer {
                    columns.insert(column.clone());
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    columns
}

/// ORDER BY may name columns that the select list does not show: what names those is computed beside it.
fn of_sort(sort: &Sort) -> Result<Option<LogicalPlan>> {
    if !sort.expr.iter().any(|sort| has_subquery(&sort.expr)) {
        return Ok(None);
    }
    let within = |schema: &DFSchemaRef, expr: &Expr| columns_of(expr).iter().all(|column| schema.has_column(column));
    let (shown, projection) = match sort.input.as_ref() {
        LogicalPlan::Projection(projection) => (sort.input.schema(), Some(projection)),
        input => (input.schema(), None),
    };
    let (mut above, mut beside) = (Computed::default(), Computed::default());
    let mut order = Vec::new();
    for SortExpr { expr, asc, nulls_first } in sort.expr.iter().cloned() {
        let expr = if !has_subquery(&expr) {
            expr
        } else if within(shown, &expr) {
            above.column(expr)
        } else if projection.is_some_and(|projection| within(projection.input.schema(), &expr)) {
            let name = format!("mr beside {}", beside.exprs.len() + 1);
            beside.exprs.push(expr.alias(&name));
            Expr::Column(Column::new_unqualified(name))
        } else {
            return Ok(None);
        };
        order.push(SortExpr { expr, asc, nulls_first });
    }
    let input = match projection {
        Some(projection) if !beside.exprs.is_empty() => {
            let exprs = projection.expr.iter().cloned().chain(beside.exprs);
            let plan = LogicalPlanBuilder::from(projection.input.as_ref().clone()).project(exprs)?.build()?;
            dependent::joined(&plan)?.unwrap_or(plan)
        }
        _ => sort.input.as_ref().clone(),
    };
    let input = Arc::new(if above.exprs.is_empty() { input } else { above.below(&input)? });
    let columns = shown.columns().into_iter().map(Expr::Column);
    let sorted = LogicalPlan::Sort(Sort { expr: order, input, fetch: sort.fetch });
    LogicalPlanBuilder::from(sorted).project(columns)?.build().map(Some)
}

fn of_join(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some(filter) = join.filter.as_ref().filter(|filter| has_subquery(filter)) else { return Ok(None) };
    // What comes from further out is there on both sides.
    let own = |column: &Column| join.left.schema().has_column(column) || join.right.schema().has_column(column);
    let within = |schema: &DFSchemaRef, expr: &Expr| {
        columns_of(expr).iter().filter(|column| own(column)).all(|column| schema.has_column(column))
    };
    let mut sides = [Computed::default(), Computed::default()];
    // The largest parts that are of one side.
    let filter = filter.clone().transform_down(|expr| {
        if !has_subquery(&expr) {
            return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
        }
        let side = if within(join.left.schema(), &expr) {
            0
        } else if within(join.right.schema(), &expr) {
            1
        } else {
            return Ok(Transformed::no(expr));
        };
        let column = sides[side].column(expr);
        let column = match column {
            // The two sides count by themselves.
            Expr::Column(column) if side == 1 => {
                let renamed = format!("{} right", column.name);
                let last = sides[1].exprs.pop().expect("just pushed").unalias();
                sides[1].exprs.push(last.alias(&renamed));
                Expr::Column(Column::new_unqualified(renamed))
            }
            other => other,
        };
        Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
    })?;
    if !filter.transformed || has_subquery(&filter.data) {
        return Ok(None);
    }
    let [left, right] = sides;
    let left = if left.exprs.is_empty() { join.left.as_ref().clone() } else { left.below(&join.left)? };
    let right = if right.exprs.is_empty() { join.right.as_ref().clone() } else { right.below(&join.right)? };
    let (schema, constraint) = (join.schema.columns(), join.join_constraint);
    let joined = LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on.clone(),
        Some(filter.data),
        join.join_type,
        constraint,
        join.null_equality,
        join.null_aware,
    )?);
    LogicalPlanBuilder::from(joined).project(schema.into_iter().map(Expr::Column))?.build().map(Some)
}
