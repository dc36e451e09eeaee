//! Grouped queries that DataFusion has no plan for: whose subqueries name aggregates of theirs, and HAVING without any
//! aggregate. What is grouped becomes a derived table, and the rest is an ordinary query over it.
//!
//! ```text
//!   SELECT k FROM t GROUP BY k                    SELECT g."mr group 1" AS k
//!     HAVING EXISTS (SELECT 1 FROM r                FROM (SELECT k AS "mr group 1", min(t.v) AS "mr aggregate 1"
//!                    WHERE r.v > min(t.v))                FROM t GROUP BY k) AS g
//!                                                   WHERE EXISTS (SELECT 1 FROM r WHERE r.v > g."mr aggregate 1")
//!
//!   SELECT 1 FROM t HAVING true                   SELECT 1 FROM (SELECT count(*) FROM t) AS g WHERE true
//!   SELECT 1 FROM t GROUP BY ()                   the same
//! ```
//!
//! The same is done for rows of aggregates before `IN (SELECT …)`, which are compared within the subquery.
//!
//! An aggregate is an outer query's if all columns that it names are; only those count that are named with their table.

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, Expr, Function, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins, Visitor,
};

use crate::error::{Error, Result};
use crate::sql::item_names::name_items;
use crate::sql::outside::{Within, visit_outside, visit_outside_mut, walk};
use crate::sql::parse::{fold, parse_expression, query};
use crate::sql::subqueries::without_parentheses;
use crate::sql::visit::{self, Walk};

const ALIAS: &str = "mr grouped";
const AGGREGATES: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
    "every",
    "bit_and",
    "bit_or",
    "bit_xor",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "variance",
    "var_pop",
    "var_samp",
    "corr",
    "covar_pop",
    "covar_samp",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "mode",
    "percentile_cont",
    "percentile_disc",
];

pub fn is_aggregate(expr: &Expr) -> bool {
    let Expr::Function(Function { name, over: None, .. }) = expr else { return false };
    let name = name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
    AGGREGATES.contains(&name.as_str()) || name.starts_with("regr_")
}

/// GROUPING without sets, of which it would tell, is 0: each row is of all groups. What it is of must be groups, as they are
/// written: the others are left to be refused.
pub fn grouping_of_all(select: &mut Select) -> Result<()> {
    let GroupByExpr::Expressions(groups, _) = &select.group_by else { return Ok(()) };
    if groups.is_empty() || groups.iter().any(|e| matches!(e, Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_)))
    {
        return Ok(());
    }
    let groups = groups.clone();
    let is_of_groups = |expr: &Expr| {
        let Expr::Function(Function { name, over: None, args: ast::FunctionArguments::List(list), .. }) = expr else {
            return false;
        };
        let is_group = |argument: &ast::FunctionArg| {
            let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument)) = argument else { return false };
            groups.contains(argument)
        };
        name.to_string().eq_ignore_ascii_case("grouping") && list.args.iter().all(is_group)
    };
    let mut found = false;
    let mut look = |expr: &Expr| {
        found |= is_of_groups(expr);
        ControlFlow::<()>::Continue(())
    };
    for item in &select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let _ = visit_outside(expr, &mut look);
        }
    }
    if let Some(having) = &select.having {
        let _ = visit_outside(having, &mut look);
    }
    if !found {
        return Ok(());
    }
    name_items(select);
    let zero = parse_expression("CAST(0 AS int)")?;
    let mut replace = |expr: &mut Expr| {
        if is_of_groups(expr) {
            *expr = zero.clone();
        }
        ControlFlow::<()>::Continue(())
    };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let _ = visit_outside_mut(expr, &mut replace);
        }
    }
    if let Some(having) = &mut select.having {
        let _ = visit_outside_mut(having, &mut replace);
    }
    Ok(())
}

/// Makes a query over a derived table of such a SELECT.
pub fn derive(select: &mut Select) -> Result<()> {
    let GroupByExpr::Expressions(groups, _) = &mut select.group_by else { return Ok(()) };
    // Of nothing: all rows are one group, also where there is no aggregate.
    if !groups.is_empty() && groups.iter().all(|group| matches!(group, Expr::Tuple(parts) if parts.is_empty())) {
        groups.clear();
        select.having.get_or_insert(Expr::Value(ast::Value::Boolean(true).into()));
    }
    let groups = &*groups;
    let sets = |e: &Expr| matches!(e, Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_));
    if groups.iter().any(sets) {
        return Ok(());
    }
    let names = names_of(&select.from);
    let mut found =
        Found { names: &names, depth: 0, own: Vec::new(), theirs: Vec::new(), columns: false, condition: false };
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                let _ = expr.walk(&mut found);
            }
            // All columns: not of what is grouped.
            _ => return Ok(()),
        }
    }
    if let Some(having) = &select.having {
        found.in_having(having);
    }
    let within = |call: &Expr| {
        // The same call may stand in a subquery too.
        let found = visit::visit_expressions(call, |expr| match expr != call && found.theirs.contains(expr) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        found.is_break()
    };
    if found.own.iter().any(within) {
        return Err(Error::new("42803", "aggregate function calls cannot be nested"));
    }
    let alone = select.having.is_some() && groups.is_empty() && found.own.is_empty() && !found.columns;
    if found.theirs.is_empty() && !alone {
        return Ok(());
    }
    // A number is the item at that place.
    let group = |group: &Expr| match crate::sql::rewrite::whole_number(group) {
        None => Some(group.clone()),
        Some(place) => match select.projection.get(usize::try_from(place).ok()?.checked_sub(1)?)? {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr.clone()),
            _ => None,
        },
    };
    let Some(groups) = groups.iter().map(group).collect::<Option<Vec<Expr>>>() else { return Ok(()) };
    let mut calls = found.own;
    let theirs = found.theirs;
    calls.extend(theirs.iter().cloned());
    let mut unique: Vec<Expr> = Vec::new();
    for call in calls {
        if !unique.contains(&call) {
            unique.push(call);
        }
    }
    name_items(select);
    let mut derived = query(&format!("SELECT 1 FROM (SELECT count(*) AS \"mr rows\") AS \"{ALIAS}\""))?;
    let SetExpr::Select(outer) = derived.body.as_mut() else { return Ok(()) };
    let Some(TableFactor::Derived { subquery, .. }) = outer.from.first_mut().map(|from| &mut from.relation) else {
        return Ok(());
    };
    let SetExpr::Select(inner) = subquery.body.as_mut() else { return Ok(()) };
    let named = |expr: &Expr, name: String| SelectItem::ExprWithAlias {
        expr: expr.clone(),
        alias: Ident::with_quote('"', name),
    };
    if !(groups.is_empty() && unique.is_empty()) {
        inner.projection.clear();
    }
    let group_names = group_names(&groups);
    inner.projection.extend(groups.iter().zip(&group_names).map(|(group, name)| named(group, name.clone())));
    inner.projection.extend(unique.iter().enumerate().map(|(i, call)| named(call, aggregate_name(i))));
    inner.from = std::mem::take(&mut select.from);
    inner.selection = select.selection.take();
    inner.group_by = GroupByExpr::Expressions(groups.clone(), Vec::new());
    select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.from = std::mem::take(&mut outer.from);
    select.selection = select.having.take();
    let replace =
        Replace { names: &names, groups: &groups, group_names: &group_names, calls: &unique, theirs: &theirs };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item {
            let name = match &expr {
                Expr::Identifier(ident) => Some(fold(ident)),
                Expr::CompoundIdentifier(parts) => parts.last().map(fold),
                _ => None,
            };
            if let Some(name) = name {
                *item = named(expr, name);
            }
        }
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let _ = walk(expr, &replace);
        }
    }
    if let Some(selection) = &mut select.selection {
        let _ = walk(selection, &replace);
    }
    Ok(())
}

/// Columns keep their names, where each is the only one of its name: subqueries may name them without their table's.
fn group_names(groups: &[Expr]) -> Vec<String> {
    let column = |group: &Expr| match group {
        Expr::Identifier(name) => Some(fold(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(fold),
        _ => None,
    };
    let names: Vec<Option<String>> = groups.iter().map(column).collect();
    let name = |(i, name): (usize, &Option<String>)| match name {
        Some(name) if names.iter().flatten().filter(|other| *other == name).count() == 1 => name.clone(),
        _ => format!("mr group {}", i + 1),
    };
    names.iter().enumerate().map(name).collect()
}

fn aggregate_name(i: usize) -> String {
    format!("mr aggregate {}", i + 1)
}

fn derived_column(name: String) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::with_quote('"', ALIAS), Ident::with_quote('"', name)])
}

/// The names that the tables of FROM have.
pub fn names_of(from: &[TableWithJoins]) -> Vec<String> {
    fn add(table: &TableWithJoins, names: &mut Vec<String>) {
        let joined = table.joins.iter().map(|join| &join.relation);
        for factor in std::iter::once(&table.relation).chain(joined) {
            match factor {
                TableFactor::Table { alias: Some(alias), .. }
                | TableFactor::Derived { alias: Some(alias), .. }
                | TableFactor::Function { alias: Some(alias), .. }
                | TableFactor::UNNEST { alias: Some(alias), .. } => names.push(fold(&alias.name)),
                TableFactor::Table { name, .. } => {
                    names.extend(name.0.last().and_then(|part| part.as_ident()).map(fold));
                }
                TableFactor::NestedJoin { table_with_joins, .. } => add(table_with_joins, names),
                _ => {}
            }
        }
    }
    let mut names = Vec::new();
    from.iter().for_each(|table| add(table, &mut names));
    names
}

/// The names that tables in a query have, at any depth.
struct Names(Vec<String>);

impl Visitor for Names {
    type Break = ();
    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.0.extend(names_of(&select.from));
        ControlFlow::Continue(())
    }
}

fn names_within(query: &Query) -> Vec<String> {
    let mut names = Names(Vec::new());
    let _ = query.walk(&mut names);
    names.0
}

/// Whether an expression names columns, and all of them are of these tables. Those of tables in subqueries of its own do
/// not count.
pub fn is_of(expr: &Expr, names: &[String]) -> bool {
    let mut inner = Names(Vec::new());
    let _ = expr.walk(&mut inner);
    let (mut any, mut all) = (false, true);
    let _ = visit::visit_expressions(expr, |expr| {
        match expr {
            Expr::Identifier(_) => all = false,
            Expr::CompoundIdentifier(parts) if parts.len() == 2 && inner.0.contains(&fold(&parts[0])) => {}
            Expr::CompoundIdentifier(parts) => {
                any = true;
                all &= parts.len() == 2 && names.contains(&fold(&parts[0]));
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    any && all
}

fn names_columns(expr: &Expr) -> bool {
    let found = visit_outside(expr, |expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Aggregates of a query: its own, and those in subqueries.
struct Found<'a> {
    names: &'a [String],
    /// How many subqueries are around.
    depth: usize,
    own: Vec<Expr>,
    theirs: Vec<Expr>,
    /// Whether columns stand outside of subqueries and aggregates.
    columns: bool,
    /// In HAVING, where DataFusion has a join for IN that is a condition of its own.
    condition: bool,
}

impl Found<'_> {
    /// Nothing of a subquery is grouped yet in its WHERE: aggregates of columns there are of the query around it. One of no
    /// column is the subquery's, where it has no place.
    fn in_where(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(select) => {
                if let Some(condition) = &select.selection {
                    let _ = visit_outside(condition, |expr| {
                        if is_aggregate(expr) && names_columns(expr) {
                            self.theirs.push(expr.clone());
                        }
                        ControlFlow::<()>::Continue(())
                    });
                }
            }
            SetExpr::Query(query) => self.in_where(&query.body),
            SetExpr::SetOperation { left, right, .. } => {
                self.in_where(left);
                self.in_where(right);
            }
            _ => {}
        }
    }

    fn in_having(&mut self, condition: &Expr) {
        use ast::{BinaryOperator, UnaryOperator};
        let is_quantified =
            |expr: &Expr| matches!(expr, Expr::InSubquery { .. } | Expr::AnyOp { .. } | Expr::AllOp { .. });
        match condition {
            Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, left, right } => {
                self.in_having(left);
                self.in_having(right);
            }
            Expr::Nested(inner) => self.in_having(inner),
            _ => {
                self.condition = match condition {
                    Expr::UnaryOp { op: UnaryOperator::Not, expr } => is_quantified(without_parentheses(expr)),
                    other => is_quantified(other),
                };
                let _ = condition.walk(self);
            }
        }
    }
}

impl Visitor for Found<'_> {
    type Break = ();
    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.depth == 0 {
            let within = names_within(query);
            let names: Vec<String> = self.names.iter().filter(|name| !within.contains(name)).cloned().collect();
            let _ = visit::visit_expressions(query, |expr| {
                if is_aggregate(expr) && is_of(expr, &names) {
                    self.theirs.push(expr.clone());
                }
                ControlFlow::<()>::Continue(())
            });
            self.in_where(&query.body);
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth == 0 {
            if is_aggregate(expr) {
                self.own.push(expr.clone());
            }
            if let Some(row) = beside_subquery(expr, !self.condition) {
                let _ = visit_outside(row, |expr| {
                    if is_aggregate(expr) {
                        self.theirs.push(expr.clone());
                    }
                    ControlFlow::<()>::Continue(())
                });
            }
            self.columns |= matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        }
        ControlFlow::Continue(())
    }
}

/// What is before `IN (SELECT …)` and the like and will stand in the subquery (`subqueries.rs`): rows, and a `value` of which
/// more is asked than whether it is true.
fn beside_subquery(expr: &Expr, value: bool) -> Option<&Expr> {
    let (row, subquery) = match expr {
        Expr::InSubquery { expr, .. } => (expr, true),
        Expr::BinaryOp { left, right, .. } | Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
            (left, matches!(without_parentheses(right), Expr::Subquery(_)))
        }
        _ => return None,
    };
    let in_it = value && !matches!(expr, Expr::BinaryOp { .. });
    (subquery && (in_it || crate::sql::rows::is_row(row))).then_some(row)
}

/// Puts the columns of the derived table where groups and aggregates stand.
struct Replace<'a> {
    names: &'a [String],
    groups: &'a [Expr],
    /// What those are called in the derived table.
    group_names: &'a [String],
    calls: &'a [Expr],
    /// Those of them that stand in subqueries; others there are the subqueries' own.
    theirs: &'a [Expr],
}

impl Replace<'_> {
    /// `k` is `t.k` where t is one of the tables.
    fn means(&self, expr: &Expr, group: &Expr, around: usize) -> bool {
        if expr == group {
            return around == 0 || matches!(expr, Expr::CompoundIdentifier(_));
        }
        match (expr, group) {
            (Expr::CompoundIdentifier(parts), Expr::Identifier(name)) => {
                matches!(parts.as_slice(), [table, column]
                    if self.names.contains(&fold(table)) && fold(column) == fold(name))
            }
            (Expr::Identifier(name), Expr::CompoundIdentifier(parts)) if around == 0 => {
                parts.last().is_some_and(|column| fold(column) == fold(name))
            }
            _ => false,
        }
    }
}

impl Within for &Replace<'_> {
    type Break = ();
    fn before(&mut self, expr: &mut Expr, around: usize) -> ControlFlow<()> {
        if is_aggregate(expr)
            && (around == 0 || self.theirs.contains(expr))
            && let Some(i) = self.calls.iter().position(|call| call == expr)
        {
            *expr = derived_column(aggregate_name(i));
        } else if let Some(i) = self.groups.iter().position(|group| self.means(expr, group, around)) {
            *expr = derived_column(self.group_names[i].clone());
        }
        ControlFlow::Continue(())
    }
}
