//! Subqueries where DataFusion has no plan for them, within aggregates and window functions, in ON and in ORDER BY: their
//! values become columns of what is below.
//!
//! ```text
//!   Aggregate sum(CASE WHEN (subquery) > 0 THEN i END)     ─►   Aggregate sum("mr below 1")
//!     t                                                           Projection t.*, CASE … END AS "mr below 1"
//!                                                                   t
//!   t LEFT JOIN u ON t.i = (subquery)                      ─►   the same of the side whose columns are used
//!   t JOIN u ON EXISTS (subquery of t.i and u.i)           ─►   t CROSS JOIN u WHERE EXISTS (subquery of t.i and u.i)
//!   t LEFT JOIN u ON EXISTS (subquery of t.i and u.i)      ─►   see dependent/outer_joins.rs
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, JoinType};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Sort, SortExpr, Window,
};

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
        LogicalPlan::Window(window) => of_window(window),
        LogicalPlan::Join(join) => of_join(join),
        LogicalPlan::Sort(sort) => of_sort(sort),
        _ => Ok(None),
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let mut all = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
    let in_sets = |e: &Expr| matches!(e, Expr::GroupingSet(_)) && has_subquery(e);
    if !all.any(has_subquery) || aggregate.group_expr.iter().any(in_sets) {
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

/// Of their arguments, filters, partitions and orders.
fn of_window(window: &Window) -> Result<Option<LogicalPlan>> {
    if !window.window_expr.iter().any(has_subquery) {
        return Ok(None);
    }
    let mut computed = Computed::default();
    let mut value = |expr: Expr| if has_subquery(&expr) { computed.column(expr) } else { expr };
    let mut calls = Vec::new();
    for call in &window.window_expr {
        let name = NamePreserver::new_for_projection().save(call);
        let call = call.clone().transform_down(|expr| match expr {
            Expr::WindowFunction(mut call) => {
                let params = &mut call.params;
                params.args = std::mem::take(&mut params.args).into_iter().map(&mut value).collect();
                params.filter = params.filter.take().map(|filter| Box::new(value(*filter)));
                params.partition_by = std::mem::take(&mut params.partition_by).into_iter().map(&mut value).collect();
                let order = std::mem::take(&mut params.order_by).into_iter();
                params.order_by = order.map(|sort| SortExpr { expr: value(sort.expr), ..sort }).collect();
                Ok(Transformed::new(Expr::WindowFunction(call), true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?;
        calls.push(name.restore(call.data));
    }
    let input = Arc::new(computed.below(&window.input)?);
    let columns = window.schema.columns().into_iter().map(Expr::Column);
    LogicalPlanBuilder::from(LogicalPlan::Window(Window::try_new(calls, input)?)).project(columns)?.build().map(Some)
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

/// Where a condition of an inner join is asked.
enum Place {
    Within,
    Above,
    Left,
    Right,
}

/// Those whose subqueries take columns of both sides are asked of the join's rows; EXISTS and IN of one side are asked of it.
fn place_of(condition: &Expr, join: &Join) -> Result<Place> {
    let of = |columns: &[Column], side: &LogicalPlan| columns.iter().any(|column| side.schema().has_column(column));
    let sides = |columns: &[Column]| (of(columns, &join.left), of(columns, &join.right));
    let named = |expr: &Expr| expr.column_refs().into_iter().cloned().collect::<Vec<_>>();
    let (mut all, mut both, mut questions) = (named(condition), false, false);
    condition.apply(|expr| {
        if let Some(subquery) = dependent::subquery_of(expr) {
            // By itself it is a value, which one side may have computed.
            let is_value = matches!(expr, Expr::ScalarSubquery(_));
            let mut columns = named(if is_value { expr } else { condition });
            columns.extend(dependent::outside(&subquery.subquery)?.into_iter().map(|(_, column)| column));
            both |= sides(&columns) == (true, true);
            questions |= !is_value;
            all.append(&mut columns);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(match (both, questions, sides(&all)) {
        (true, ..) => Place::Above,
        (_, false, _) => Place::Within,
        (_, _, (true, false)) => Place::Left,
        (_, _, (false, true)) => Place::Right,
        _ => Place::Above,
    })
}

/// An inner join whose conditions with subqueries are where they can be asked.
fn above_join(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some(filter) = join.filter.clone().filter(|_| join.join_type == JoinType::Inner) else { return Ok(None) };
    let (mut within, mut above, mut of_left, mut of_right) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for condition in split_conjunction_owned(filter) {
        match place_of(&condition, join)? {
            Place::Within => within.push(condition),
            Place::Above => above.push(condition),
            Place::Left => of_left.push(condition),
            Place::Right => of_right.push(condition),
        }
    }
    if above.is_empty() && of_left.is_empty() && of_right.is_empty() {
        return Ok(None);
    }
    let filtered = |plan: Arc<LogicalPlan>, conditions: Vec<Expr>| -> Result<Arc<LogicalPlan>> {
        let Some(condition) = conjunction(conditions) else { return Ok(plan) };
        let plan = LogicalPlan::Filter(Filter::try_new(condition, plan)?);
        Ok(Arc::new(dependent::joined(&plan)?.unwrap_or(plan)))
    };
    let (left, right) = (filtered(join.left.clone(), of_left)?, filtered(join.right.clone(), of_right)?);
    let joined = of_rest(LogicalPlan::Join(Join { left, right, filter: conjunction(within), ..join.clone() }))?;
    Ok(Some(match conjunction(above) {
        Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(joined))?),
        None => joined,
    }))
}

/// The same for what is left of it.
fn of_rest(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rest = match &plan {
        LogicalPlan::Join(join) => of_join(join)?,
        _ => None,
    };
    Ok(rest.unwrap_or(plan))
}

fn of_join(join: &Join) -> Result<Option<LogicalPlan>> {
    if let Some(plan) = above_join(join)? {
        return Ok(Some(plan));
    }
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
    if has_subquery(&filter.data) {
        return dependent::of_outer(join);
    }
    if !filter.transformed {
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
