//! Correlated subqueries that DataFusion's own rules do not make joins of: LATERAL with LIMIT, with expressions of the
//! outer row or with set operations, and values from subqueries that are correlated by more than equalities.
//!
//! The subquery is asked for every distinct set of values that it takes from outside, and its answers are joined to the
//! outer rows (Neumann and Kemper, "Unnesting Arbitrary Queries", BTW 2015):
//!
//! ```text
//!   FROM l, LATERAL (SELECT c FROM r WHERE r.k = l.k ORDER BY d LIMIT 1) s
//!
//!   FROM l JOIN (SELECT key, c FROM
//!                  (SELECT *, row_number() OVER (PARTITION BY key ORDER BY d) n
//!                   FROM (SELECT DISTINCT mr_key(k) AS key, k FROM l) o, r WHERE r.k = o.k) WHERE n <= 1) s
//!     ON mr_key(l.k) = s.key
//! ```
//!
//! `mr_key` makes one value of several that is never NULL, so that NULLs find their answers.

mod conditions;
mod copies;
mod key;
mod outer_joins;
mod outside;
mod recursion;
mod simple;
mod stacked;
mod volatile;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ExprSchema, JoinType, NullEquality, TableReference};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, DistinctOn, Expr, ExprFunctionExt, FetchType, Filter, Join, Limit, LogicalPlan,
    LogicalPlanBuilder, Operator, Projection, SkipType, SortExpr, Subquery, SubqueryAlias, Union, Window, binary_expr,
    lit,
};

use self::outside::{mentions, renamed_in};
use self::simple::{Use, is_simple, use_of};
use self::stacked::stacked;
use crate::error::Error;
use crate::sql::functions::row_number;
use crate::sql::size;

use self::conditions::plain_first;
pub use self::conditions::{below_laterals, without_laterals_of_nothing};
pub use self::copies::named_apart;
use self::key::key;
pub use self::outer_joins::of_outer;
pub use self::outside::{note, outside, subquery_of};
use self::recursion::LastRound;

/// Begins the names that tables of outer values have.
const OUTER: &str = "mr_outer_";
const NUMBER: &str = "mr_number";

/// A plan node whose own subqueries, lateral or in expressions, are joins; `None` where DataFusion is left to do it.
pub fn joined(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Join(join) => lateral(join, None),
        LogicalPlan::Filter(_) | LogicalPlan::Projection(_) => values(plan),
        _ => Ok(None),
    }
}

/// A plan that has been joined. Each join reads what is outside of it once more, so that subqueries within each other may
/// double a plan again and again: what gets too large is refused before it does.
fn bounded(plan: LogicalPlan) -> Result<Option<LogicalPlan>> {
    size::check_nodes(&plan)?;
    Ok(Some(plan))
}

fn refused(what: &str) -> DataFusionError {
    DataFusionError::External(Box::new(Error::unsupported(format!("a correlated subquery with {what}"))))
}

/// The outer columns of a subquery that a plan has; `None` where it takes others too, from further out. Such a subquery
/// has to wait until those have become columns of the plan.
fn outer_columns(subquery: &Subquery, plan: &LogicalPlan) -> Result<Option<Vec<Column>>> {
    let columns: Vec<Column> = outside(&subquery.subquery)?.into_iter().map(|(_, column)| column).collect();
    let all = columns.iter().all(|column| plan.schema().has_column(column));
    Ok(all.then_some(columns))
}

/// `within`: of a subquery that is correlated itself, where DataFusion's rules do not come; numbers from there on are free.
fn lateral(join: &Join, within: Option<usize>) -> Result<Option<LogicalPlan>> {
    let (subquery, alias) = match join.right.as_ref() {
        LogicalPlan::Subquery(subquery) => (subquery.subquery.as_ref(), None),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => match input.as_ref() {
            LogicalPlan::Subquery(subquery) => (subquery.subquery.as_ref(), Some(alias.clone())),
            _ => (join.right.as_ref(), None),
        },
        // DataFusion takes a LATERAL for an ordinary table if only subqueries in it name columns of the left side.
        other => (other, None),
    };
    let outer: Vec<Column> = outside(subquery)?.into_iter().map(|(_, column)| column).collect();
    let outer: Vec<Column> = outer.into_iter().filter(|column| join.left.schema().has_column(column)).collect();
    if outer.is_empty() || !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return Ok(None);
    }
    if let Some(stacked) = stacked(join, subquery, alias.as_ref(), within.unwrap_or(0))? {
        return bounded(stacked);
    }
    if within.is_none() && is_simple(subquery, &outer, Use::Rows)? {
        return Ok(None);
    }
    let mut unnesting = Unnesting::new(&join.left, outer, subquery, within.unwrap_or(0))?;
    let (mut right, mut outer) = unnesting.unnest(subquery)?;
    if let Some(alias) = alias {
        outer = outer.into_iter().map(|column| Column::new(Some(alias.clone()), column.name)).collect();
        right = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(right), alias)?);
    }
    let on = unnesting.key().eq(Expr::Column(outer[0].clone()));
    let equal = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let condition = join.filter.iter().cloned().chain(equal).fold(on, Expr::and);
    let columns = join.schema.columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    let joined = LogicalPlanBuilder::from(join.left.as_ref().clone()).join_on(right, join.join_type, [condition])?;
    bounded(joined.project(columns)?.build()?)
}

/// Subqueries in the expressions of a projection or filter.
fn values(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let divided = plain_first(plan)?;
    let plan = divided.as_ref().unwrap_or(plan);
    let [input] = &plan.inputs()[..] else { return Ok(None) };
    let input: &LogicalPlan = input;
    let mut joined = input.clone();
    let mut number = next_number(plan);
    let mut changed = false;
    let mut exprs = Vec::new();
    for expr in plan.expressions() {
        let name = expr.schema_name().to_string();
        let expr = match plan {
            LogicalPlan::Filter(_) => without_in(expr, input, &mut changed)?,
            _ => expr,
        };
        let rewritten = expr.transform_up(|expr| {
            let (subquery, exists) = match &expr {
                Expr::ScalarSubquery(subquery) => (subquery, None),
                Expr::Exists(Exists { subquery, negated }) => (subquery, Some(*negated)),
                _ => return Ok(Transformed::no(expr)),
            };
            let Some(outer) = outer_columns(subquery, input)? else { return Ok(Transformed::no(expr)) };
            if outer.is_empty() || is_simple(&subquery.subquery, &outer, use_of(exists.is_none()))? {
                return Ok(Transformed::no(expr));
            }
            let mut plan = subquery.subquery.as_ref().clone();
            if exists.is_some() {
                let rows = count(lit(1i64)).alias("rows");
                plan = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), [rows])?.build()?;
            }
            let mut unnesting = Unnesting::new(input, outer, &plan, 0)?;
            let (value, outer) = unnesting.unnest(&plan)?;
            let alias = format!("{OUTER}value_{number}");
            number += 1;
            let column = value.schema().columns().pop().expect("a value has a column");
            let value = LogicalPlanBuilder::from(value)
                .project([Expr::Column(outer[0].clone()).alias("key"), Expr::Column(column).alias("value")])?
                .alias(alias.clone())?
                .build()?;
            let of = |name: &str| Expr::Column(Column::new(Some(alias.clone()), name));
            let on = unnesting.key().eq(of("key"));
            joined = LogicalPlanBuilder::from(joined.clone()).join_on(value, JoinType::Left, [on])?.build()?;
            Ok(Transformed::yes(match exists {
                None => of("value"),
                Some(false) => of("value").gt(lit(0i64)),
                Some(true) => of("value").eq(lit(0i64)),
            }))
        })?;
        changed |= rewritten.transformed;
        exprs.push(match (rewritten.transformed, plan) {
            (true, LogicalPlan::Projection(_)) => rewritten.data.unalias().alias(name),
            _ => rewritten.data,
        });
    }
    if !changed {
        return Ok(None);
    }
    let columns = input.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    let with = plan.with_new_exprs(exprs, vec![joined])?;
    match plan {
        LogicalPlan::Filter(_) => bounded(LogicalPlanBuilder::from(with).project(columns)?.build()?),
        _ => bounded(with),
    }
}

/// A correlated `x NOT IN (…)` that is a condition of its own is true where no row is, or may be, equal to x. Where
/// DataFusion has no join for `x IN (…)`, it is whether a row equal to x exists.
fn without_in(expr: Expr, input: &LogicalPlan, changed: &mut bool) -> Result<Expr> {
    let existing = |InSubquery { expr: x, subquery, .. }: InSubquery, negated: bool| -> Result<Expr> {
        let column = Expr::Column(subquery.subquery.schema().columns().remove(0));
        let x = x.transform(|expr| match expr {
            Expr::Column(column) => {
                let field = input.schema().field_from_column(&column)?.clone();
                Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        let plan = subquery.subquery.as_ref().clone();
        let equal = column.eq(x.data);
        let equal = if negated { Expr::IsNotFalse(Box::new(equal)) } else { equal };
        let plan = LogicalPlanBuilder::from(plan).filter(equal)?.build()?;
        let subquery = note(Subquery { subquery: Arc::new(plan), ..subquery })?;
        Ok(Expr::Exists(Exists { subquery, negated }))
    };
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if matches!(op, Operator::And | Operator::Or) => {
            let left = without_in(*left, input, changed)?;
            let right = without_in(*right, input, changed)?;
            Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
        }
        Expr::InSubquery(of) if of.negated && !of.subquery.outer_ref_columns.is_empty() => {
            *changed = true;
            existing(of, true)?
        }
        Expr::InSubquery(of) if !of.negated && !of.subquery.outer_ref_columns.is_empty() => {
            match outer_columns(&of.subquery, input)? {
                Some(outer) if !is_simple(&of.subquery.subquery, &outer, Use::Rows)? => {
                    *changed = true;
                    existing(of, false)?
                }
                _ => Expr::InSubquery(of),
            }
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(of) if !of.subquery.outer_ref_columns.is_empty() => {
                *changed = true;
                without_in(Expr::InSubquery(InSubquery { negated: !of.negated, ..of }), input, changed)?
            }
            Expr::Not(inner) => without_in(*inner, input, changed)?,
            // So that what is denied stands as a condition of its own.
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let op = if op == Operator::And { Operator::Or } else { Operator::And };
                let left = without_in(Expr::Not(left), input, changed)?;
                let right = without_in(Expr::Not(right), input, changed)?;
                Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })
            }
            inner => Expr::Not(Box::new(inner)),
        },
        other => other,
    })
}

/// A number that no table of outer values in a plan has.
fn next_number(plan: &LogicalPlan) -> usize {
    let mut next = 0;
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::SubqueryAlias(alias) = node
            && let Some(rest) = alias.alias.table().strip_prefix(OUTER)
        {
            next = next.max(rest.trim_start_matches("value_").parse().map_or(0, |number: usize| number + 1));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    next
}

/// More nodes than this are rather not read twice.
const LARGE: usize = 100;

fn size_of(plan: &LogicalPlan) -> usize {
    let mut nodes = 0;
    let _ = plan.apply_with_subqueries(|_| {
        nodes += 1;
        Ok(if nodes > LARGE { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    nodes
}

/// The part of a plan that has the values of these columns: an outer join adds none to the side that it keeps. An inner
/// join or filter takes some away, for which the subquery then is asked in vain; of a `large` plan that is the lesser evil, since
/// each subquery after another one doubles what is before it.
fn source_of<'a>(plan: &'a LogicalPlan, outer: &[Column], large: bool) -> &'a LogicalPlan {
    let has_all = |plan: &LogicalPlan| outer.iter().all(|column| plan.schema().has_column(column));
    match plan {
        LogicalPlan::Projection(projection) => {
            let kept =
                |column: &Column| projection.expr.iter().any(|e| matches!(e, Expr::Column(own) if own == column));
            match outer.iter().all(kept) {
                true => source_of(&projection.input, outer, large),
                false => plan,
            }
        }
        LogicalPlan::Filter(filter) if large => source_of(&filter.input, outer, large),
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::Left if has_all(&join.left) => source_of(&join.left, outer, large),
            JoinType::Right if has_all(&join.right) => source_of(&join.right, outer, large),
            JoinType::Inner if large && has_all(&join.left) => source_of(&join.left, outer, large),
            JoinType::Inner if large && has_all(&join.right) => source_of(&join.right, outer, large),
            _ => plan,
        },
        _ => plan,
    }
}

struct Unnesting {
    outer: Vec<Column>,
    /// The distinct outer values, after the key that stands for them.
    values: LogicalPlan,
    number: usize,
    last_round: Option<LastRound>,
}

/// A plan that shows, before its own columns, the outer values that its rows are for; and the names of those.
type Unnested = (LogicalPlan, Vec<Column>);

impl Unnesting {
    fn new(left: &LogicalPlan, outer: Vec<Column>, subquery: &LogicalPlan, least: usize) -> Result<Self> {
        let number = next_number(left).max(next_number(subquery)).max(least);
        // Names of its own: a subquery in a subquery has the outer values of both.
        let columns =
            outer.iter().enumerate().map(|(i, column)| Expr::Column(column.clone()).alias(format!("mr_o{number}_{i}")));
        let columns: Vec<Expr> = [key(&outer).alias(format!("mr_key_{number}"))].into_iter().chain(columns).collect();
        let source = source_of(left, &outer, size_of(left) > LARGE);
        if volatile::changes(source, &outer)? {
            return Err(refused("columns from outside that are others each time"));
        }
        let values = LogicalPlanBuilder::from(source.clone()).project(columns)?.distinct()?.build()?;
        Ok(Unnesting { outer, values, number, last_round: None })
    }

    /// The key of a row outside.
    fn key(&self) -> Expr {
        key(&self.outer)
    }

    /// The outer values under a name of their own.
    fn values(&mut self) -> Result<Unnested> {
        let alias = format!("{OUTER}{}", self.number);
        self.number += 1;
        let values = LogicalPlanBuilder::from(self.values.clone()).alias(alias)?.build()?;
        let columns = values.schema().columns();
        Ok((values, columns))
    }

    /// Subqueries in a node that took columns from further out can be joined now.
    fn with_values(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let Some(joined) = values(&plan)? else { return Ok(plan) };
        self.number = self.number.max(next_number(&joined));
        Ok(joined)
    }

    fn unnest(&mut self, plan: &LogicalPlan) -> Result<Unnested> {
        if !self.depends(plan)? {
            let (values, columns) = self.values()?;
            let one_row = matches!(plan, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row);
            return match one_row {
                true => Ok((values, columns)),
                false => Ok((LogicalPlanBuilder::from(values).cross_join(plan.clone())?.build()?, columns)),
            };
        }
        match plan {
            LogicalPlan::Projection(projection) => {
                let (input, outer) = self.unnest(&projection.input)?;
                let exprs = projection.expr.iter().cloned().zip(projection.schema.iter());
                let exprs = exprs.map(|(expr, (qualifier, field))| {
                    let replaced = self.replace(expr, &outer, &input)?;
                    Ok(match replaced.transformed {
                        true => replaced.data.unalias().alias_qualified(qualifier.cloned(), field.name()),
                        false => replaced.data,
                    })
                });
                let exprs = exprs.collect::<Result<Vec<_>>>()?;
                let exprs = outer.iter().cloned().map(Expr::Column).chain(exprs).collect();
                let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?);
                Ok((self.with_values(plan)?, outer))
            }
            LogicalPlan::Filter(filter) => {
                let (input, outer) = self.unnest(&filter.input)?;
                let predicate = self.replace(filter.predicate.clone(), &outer, &input)?.data;
                let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?);
                Ok((self.with_values(plan)?, outer))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let (input, outer) = self.unnest(&alias.input)?;
                let outer = outer.into_iter().map(|column| Column::new(Some(alias.alias.clone()), column.name));
                let plan = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
                Ok((LogicalPlan::SubqueryAlias(plan), outer.collect()))
            }
            // Under a limit it is seen to there.
            LogicalPlan::Sort(sort) => self.unnest(&sort.input),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let (input, outer) = self.unnest(input)?;
                Ok((LogicalPlan::Distinct(Distinct::All(Arc::new(input))), outer))
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let (input, outer) = self.unnest(&on.input)?;
                let own = || outer.iter().cloned().map(Expr::Column);
                let replaced = |exprs: &[Expr]| -> Result<Vec<Expr>> {
                    exprs.iter().map(|expr| self.replace(expr.clone(), &outer, &input).map(|r| r.data)).collect()
                };
                let keys = own().chain(replaced(&on.on_expr)?).collect();
                let shown = replaced(&on.select_expr)?.into_iter().zip(on.schema.iter());
                let shown = shown.map(|(expr, (of, field))| expr.unalias().alias_qualified(of.cloned(), field.name()));
                let select = own().chain(shown).collect();
                let sort = match &on.sort_expr {
                    None => None,
                    Some(sort) => {
                        let own = own().map(|expr| expr.sort(true, true));
                        Some(own.chain(self.sorts(sort, &outer, &input)?).collect())
                    }
                };
                let on = DistinctOn::try_new(keys, select, sort, Arc::new(input))?;
                Ok((LogicalPlan::Distinct(Distinct::On(on)), outer))
            }
            LogicalPlan::Window(window) => {
                let (input, outer) = self.unnest(&window.input)?;
                let width = window.input.schema().fields().len();
                let exprs = window.window_expr.iter().enumerate().map(|(i, expr)| {
                    let name = window.schema.field(width + i).name();
                    let expr = self.replace(expr.clone(), &outer, &input)?.data.unalias();
                    let expr = expr.transform_down(|expr| match expr {
                        Expr::WindowFunction(mut function) => {
                            function.params.partition_by.push(Expr::Column(outer[0].clone()));
                            Ok(Transformed::new(Expr::WindowFunction(function), true, TreeNodeRecursion::Jump))
                        }
                        other => Ok(Transformed::no(other)),
                    })?;
                    Ok(expr.data.alias(name))
                });
                let exprs = exprs.collect::<Result<Vec<_>>>()?;
                Ok((LogicalPlan::Window(Window::try_new(exprs, Arc::new(input))?), outer))
            }
            LogicalPlan::Join(join) => match lateral(join, Some(self.number + 1))? {
                Some(joined) => {
                    self.number = self.number.max(next_number(&joined));
                    self.unnest(&joined)
                }
                None => self.join(join),
            },
            // LATERAL by itself.
            LogicalPlan::Subquery(subquery) => self.unnest(&subquery.subquery),
            LogicalPlan::Union(union) => {
                let mut inputs = Vec::new();
                for input in &union.inputs {
                    inputs.push(self.unnest(input)?.0);
                }
                self.united(inputs)
            }
            LogicalPlan::Unnest(unnest) => {
                let (input, outer) = self.unnest(&unnest.input)?;
                let columns = unnest.exec_columns.clone();
                let plan = LogicalPlanBuilder::from(input)
                    .unnest_columns_with_options(columns, unnest.options.clone())?
                    .build()?;
                Ok((crate::sql::repeated::unnested(plan)?, outer))
            }
            LogicalPlan::Values(values) => {
                let mut rows = Vec::new();
                for row in &values.values {
                    let (input, outer) = self.values()?;
                    let names = values.schema.fields().iter().map(|field| field.name().clone());
                    let exprs = row
                        .iter()
                        .zip(names)
                        .map(|(expr, name)| Ok(self.replace(expr.clone(), &outer, &input)?.data.unalias().alias(name)));
                    let exprs = exprs.collect::<Result<Vec<_>>>()?;
                    // Without a qualifier, since a union has none.
                    let outer = outer.into_iter().map(|column| {
                        let name = column.name.clone();
                        Expr::Column(column).alias(name)
                    });
                    rows.push(
                        LogicalPlanBuilder::from(input).project(outer.chain(exprs).collect::<Vec<_>>())?.build()?,
                    );
                }
                self.united(rows)
            }
            LogicalPlan::RecursiveQuery(query) => self.recursion(query),
            LogicalPlan::TableScan(scan) => self.scan(scan),
            other => Err(refused(&other.display().to_string())),
        }
    }

    /// The rows of all of them; the outer values get a qualifier, which a union takes off.
    fn united(&mut self, mut inputs: Vec<LogicalPlan>) -> Result<Unnested> {
        // Under one name each: the optimizer moves what is above by the names of the first one.
        let names: Vec<String> = inputs[0].schema().fields().iter().map(|field| field.name().clone()).collect();
        for input in inputs.iter_mut().skip(1) {
            let columns = input.schema().columns().into_iter().zip(&names);
            let named = columns.map(|(column, name)| match column.name == *name {
                true => Expr::Column(column),
                false => Expr::Column(column).alias(name),
            });
            let named = named.collect::<Vec<_>>();
            *input = LogicalPlanBuilder::from(input.clone()).project(named)?.build()?;
        }
        let plan = match inputs.len() {
            1 => inputs.remove(0),
            _ => LogicalPlan::Union(Union::try_new_with_loose_types(inputs.into_iter().map(Arc::new).collect())?),
        };
        let alias = TableReference::bare(format!("{OUTER}{}", self.number));
        self.number += 1;
        let mut columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let mut outer = Vec::new();
        for column in columns.iter_mut().take(self.outer.len() + 1) {
            let Expr::Column(own) = column.clone() else { continue };
            outer.push(Column::new(Some(alias.clone()), own.name.clone()));
            *column = Expr::Column(own.clone()).alias_qualified(Some(alias.clone()), own.name);
        }
        Ok((LogicalPlanBuilder::from(plan).project(columns)?.build()?, outer))
    }

    /// The first rows for each set of outer values, by their number.
    fn limit(&mut self, limit: &Limit) -> Result<Unnested> {
        let (FetchType::Literal(fetch), SkipType::Literal(skip)) = (limit.get_fetch_type()?, limit.get_skip_type()?)
        else {
            return Err(refused("a LIMIT that is no number"));
        };
        let (projection, below) = match limit.input.as_ref() {
            LogicalPlan::Projection(projection) if matches!(projection.input.as_ref(), LogicalPlan::Sort(_)) => {
                (Some(projection), projection.input.as_ref())
            }
            other => (None, other),
        };
        let (order, below) = match below {
            LogicalPlan::Sort(sort) => (&sort.expr[..], sort.input.as_ref()),
            other => (&[][..], other),
        };
        let (input, outer) = self.unnest(below)?;
        let order = self.sorts(order, &outer, &input)?;
        let mut number = row_number().call(Vec::new()).partition_by(vec![Expr::Column(outer[0].clone())]);
        if !order.is_empty() {
            number = number.order_by(order);
        }
        let number = number.build()?;
        let columns = |plan: &LogicalPlan| plan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
        let own = columns(&input);
        let numbered = Window::try_new(vec![number.alias(NUMBER)], Arc::new(input))?;
        let number = || Expr::Column(Column::new_unqualified(NUMBER));
        let bound = |rows: usize| lit(i64::try_from(rows).unwrap_or(i64::MAX));
        let mut condition = fetch.map(|fetch| number().lt_eq(bound(skip.saturating_add(fetch))));
        if skip > 0 {
            let after = number().gt(bound(skip));
            condition = Some(condition.map_or(after.clone(), |condition| condition.and(after)));
        }
        let mut plan = LogicalPlanBuilder::from(LogicalPlan::Window(numbered));
        if let Some(condition) = condition {
            plan = plan.filter(condition)?;
        }
        let plan = plan.project(own)?.build()?;
        let Some(projection) = projection else { return Ok((plan, outer)) };
        let exprs = projection.expr.iter().cloned().zip(projection.schema.iter());
        let exprs = exprs.map(|(expr, (qualifier, field))| {
            let replaced = self.replace(expr, &outer, &plan)?;
            Ok(match replaced.transformed {
                true => replaced.data.unalias().alias_qualified(qualifier.cloned(), field.name()),
                false => replaced.data,
            })
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        let exprs: Vec<Expr> = outer.iter().cloned().map(Expr::Column).chain(exprs).collect();
        let plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
        Ok((self.with_values(plan)?, outer))
    }

    fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Unnested> {
        if let [Expr::GroupingSet(sets)] = &aggregate.group_expr[..] {
            return self.unnest(&crate::sql::grouping_sets::each_set(aggregate, sets)?);
        }
        let (input, outer) = self.unnest(&aggregate.input)?;
        let exprs = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().zip(aggregate.schema.iter());
        let mut groups: Vec<Expr> = exprs
            .map(|(expr, (qualifier, field))| {
                let replaced = self.replace(expr, &outer, &input)?;
                Ok(match replaced.transformed {
                    true => replaced.data.unalias().alias_qualified(qualifier.cloned(), field.name()),
                    false => replaced.data,
                })
            })
            .collect::<Result<_>>()?;
        let calls = groups.split_off(aggregate.group_expr.len());
        let groups: Vec<Expr> = outer.iter().cloned().map(Expr::Column).chain(groups).collect();
        let is_global = aggregate.group_expr.is_empty();
        let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), groups, calls)?);
        if !is_global {
            return Ok((plan, outer));
        }
        // Where there is nothing to aggregate there is a row nevertheless.
        let (values, own) = self.values()?;
        let on = Expr::Column(own[0].clone()).eq(Expr::Column(outer[0].clone()));
        let columns = aggregate.aggr_expr.iter().zip(aggregate.schema.iter()).map(|(call, (qualifier, field))| {
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            match counts(call) {
                true => datafusion::functions::core::expr_fn::coalesce(vec![column, lit(0i64)])
                    .alias_qualified(qualifier.cloned(), field.name()),
                false => column,
            }
        });
        let columns: Vec<Expr> = own.iter().cloned().map(Expr::Column).chain(columns).collect();
        let plan = LogicalPlanBuilder::from(values).join_on(plan, JoinType::Left, [on])?.project(columns)?.build()?;
        Ok((plan, own))
    }

    fn join(&mut self, join: &Join) -> Result<Unnested> {
        let [left, right] = [self.depends(&join.left)?, self.depends(&join.right)?];
        let keeps_left = match join.join_type {
            JoinType::Inner => left || !right,
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => true,
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => false,
            other => return Err(refused(&format!("a {other} join"))),
        };
        // Only the side whose rows stay has to show the outer values, if the other takes none.
        let alone = if keeps_left { !right } else { !left };
        let ((l, of_left), (r, of_right)) = match (alone, keeps_left) {
            (true, true) => (self.unnest(&join.left)?, (join.right.as_ref().clone(), Vec::new())),
            (true, false) => ((join.left.as_ref().clone(), Vec::new()), self.unnest(&join.right)?),
            (false, _) => (self.unnest(&join.left)?, self.unnest(&join.right)?),
        };
        let outer = if keeps_left { of_left.clone() } else { of_right.clone() };
        let both = l.schema().join(r.schema())?;
        let both = LogicalPlan::EmptyRelation(datafusion::logical_expr::EmptyRelation {
            produce_one_row: false,
            schema: Arc::new(both),
        });
        // Those of INTERSECT and EXCEPT are equal where both are NULL too.
        let op = match join.null_equality {
            NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
            NullEquality::NullEqualsNothing => Operator::Eq,
        };
        let equal = join.on.iter().map(|(l, r)| binary_expr(l.clone(), op, r.clone()));
        let own = of_left.first().zip(of_right.first());
        let own = own.map(|(l, r)| Expr::Column(l.clone()).eq(Expr::Column(r.clone())));
        let conditions = equal.chain(join.filter.iter().cloned()).map(|e| Ok(self.replace(e, &outer, &both)?.data));
        let conditions = conditions.collect::<Result<Vec<_>>>()?.into_iter().chain(own).collect::<Vec<_>>();
        let columns = outer.iter().cloned().chain(join.schema.columns()).map(Expr::Column).collect::<Vec<_>>();
        let plan = LogicalPlanBuilder::from(l).join_on(r, join.join_type, conditions)?.project(columns)?.build()?;
        Ok((plan, outer))
    }

    fn sorts(&self, sorts: &[SortExpr], outer: &[Column], input: &LogicalPlan) -> Result<Vec<SortExpr>> {
        let sorts = sorts.iter().cloned().map(|sort| {
            let expr = self.replace(sort.expr, outer, input)?.data;
            Ok(SortExpr { expr, ..sort })
        });
        sorts.collect()
    }

    /// An expression with outer columns taken from `input`, where they are called `outer`; in its subqueries they stay
    /// outer columns, under that name.
    fn replace(&self, expr: Expr, outer: &[Column], input: &LogicalPlan) -> Result<Transformed<Expr>> {
        let of = |column: &Column| self.outer.iter().position(|o| o == column).map(|i| outer[i + 1].clone());
        let names = self.outer.iter().cloned().zip(outer.iter().skip(1).cloned());
        let names: Vec<_> = names.filter(|(column, _)| !input.schema().has_column(column)).collect();
        let within = |subquery: Subquery| match mentions(&subquery.subquery, &self.outer)? {
            true => renamed_in(subquery, &names),
            false => Ok(subquery),
        };
        expr.transform_down(|expr| {
            Ok(match expr {
                Expr::OuterReferenceColumn(field, column) => match of(&column) {
                    Some(own) if input.schema().has_column(&own) => Transformed::yes(Expr::Column(own)),
                    _ => Transformed::no(Expr::OuterReferenceColumn(field, column)),
                },
                Expr::ScalarSubquery(subquery) => Transformed::yes(Expr::ScalarSubquery(within(subquery)?)),
                Expr::Exists(Exists { subquery, negated }) => {
                    Transformed::yes(Expr::Exists(Exists { subquery: within(subquery)?, negated }))
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery: within(subquery)?, negated }))
                }
                other => Transformed::no(other),
            })
        })
    }
}

/// An aggregate that is 0 over nothing.
fn counts(call: &Expr) -> bool {
    match call {
        Expr::Alias(alias) => counts(&alias.expr),
        Expr::AggregateFunction(call) => matches!(call.func.name(), "count" | "approx_distinct" | "regr_count"),
        _ => false,
    }
}
