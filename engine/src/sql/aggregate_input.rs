//! What aggregates are given, where Postgres says more of it than DataFusion.
//!
//! ```text
//!   SELECT array_agg(a) FROM (SELECT a FROM t ORDER BY b) s     in the subquery's order:
//!   SELECT array_agg(a ORDER BY s."mr order 1") FROM (SELECT a, b AS "mr order 1" FROM t ORDER BY b) s
//!
//!   sum(x::int) FILTER (WHERE x ~ '^\d+$')                      computed only for rows that pass:
//!   sum(CASE WHEN x ~ '^\d+$' THEN x::int END) FILTER (WHERE x ~ '^\d+$')
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    Ident, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor,
    Value,
};

use crate::sql::calls;
use crate::sql::item_names::name_items;
use crate::sql::outside::visit_outside_mut;
use crate::sql::parse::fold;
use crate::sql::rewrite::is_number;
use crate::sql::visit;

/// Aggregates whose result is in the order of their rows.
const ORDERED: &[&str] = &[
    "array_agg",
    "string_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "first_value",
    "last_value",
];

/// A number in an aggregate's order is a constant, and no column's position as at the end of a SELECT. Where it is the
/// argument of DISTINCT too there is nothing to be ordered.
pub fn keep_constants(function: &mut Function) {
    let clauses = match &mut function.args {
        FunctionArguments::List(list) => {
            if list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct) {
                let is_argument = |expr: &Expr| {
                    let own =
                        |a: &FunctionArg| matches!(a, FunctionArg::Unnamed(FunctionArgExpr::Expr(a)) if a == expr);
                    list.args.iter().any(own)
                };
                list.clauses.retain_mut(|clause| match clause {
                    FunctionArgumentClause::OrderBy(items) => {
                        items.retain(|item| !(is_number(&item.expr) && is_argument(&item.expr)));
                        !items.is_empty()
                    }
                    _ => true,
                });
            }
            &mut list.clauses[..]
        }
        _ => &mut [],
    };
    let orders = clauses.iter_mut().filter_map(|clause| match clause {
        FunctionArgumentClause::OrderBy(items) => Some(items),
        _ => None,
    });
    for item in orders.flatten().chain(&mut function.within_group).filter(|item| is_number(&item.expr)) {
        let number = std::mem::replace(&mut item.expr, Expr::Value(Value::Null.into()));
        item.expr = Expr::Nested(Box::new(number));
    }
}

/// Aggregates without an order of their own take the one of the only subquery that they read.
pub fn take_order(select: &mut Select) {
    let wildcard = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let mut wanted = Ordered { by: None, found: false };
    wanted.visit(select);
    if !wanted.found {
        return;
    }
    let [from] = select.from.as_mut_slice() else { return };
    let TableFactor::Derived { subquery, alias: Some(alias), .. } = &mut from.relation else { return };
    if !from.joins.is_empty() {
        return;
    }
    if let Some(by) = order_of(subquery, alias, wildcard) {
        Ordered { by: Some(by), found: false }.visit(select);
    }
}

/// `SELECT * FROM (SELECT … ORDER BY x) s LIMIT 3`: what only shows another query's rows shows them in that one's order. Of
/// other queries the order is open.
pub fn keep_order(query: &mut Query) {
    if query.order_by.is_some() {
        return;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let ungrouped = matches!(&select.group_by, ast::GroupByExpr::Expressions(groups, _) if groups.is_empty());
    if select.distinct.is_some() || !ungrouped || select.having.is_some() {
        return;
    }
    let wildcard = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let shows = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            let call = |expr: &Expr| match expr {
                Expr::Function(function) if !calls::is_of_one_row(function) => ControlFlow::Break(()),
                Expr::Subquery(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            visit::visit_expressions(expr, call).is_continue()
        }
        item => wildcard(item),
    };
    if !select.projection.iter().all(shows) {
        return;
    }
    let wildcard = select.projection.iter().any(wildcard);
    let [from] = select.from.as_mut_slice() else { return };
    if !from.joins.is_empty() {
        return;
    }
    let by = match &mut from.relation {
        TableFactor::Derived { lateral: false, subquery, alias: Some(alias), .. } => {
            let by = order_of(subquery, alias, wildcard);
            by.or_else(|| order_beside(&mut select.projection, subquery, alias))
        }
        _ => None,
    };
    if let Some(by) = by.filter(|by| !hidden_by_items(by, &select.projection)) {
        query.order_by = Some(ast::OrderBy { kind: OrderByKind::Expressions(by), interpolate: None });
    }
}

/// Whether another item is called as a column of an order is: `SELECT 0 AS a FROM (SELECT a FROM t ORDER BY a) s`. Where that is
/// not the outermost query, whose items have names of their own, the name would be of both.
fn hidden_by_items(by: &[OrderByExpr], items: &[SelectItem]) -> bool {
    let name = |expr: &Expr| match expr {
        Expr::Identifier(name) => Some(fold(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(fold),
        _ => None,
    };
    let named: Vec<String> = by.iter().filter_map(|by| name(&by.expr)).collect();
    items.iter().any(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            let alias = fold(alias);
            named.contains(&alias) && name(expr).as_ref() != Some(&alias)
        }
        _ => false,
    })
}

/// The order where `SELECT *` is of a subquery that is ordered by what it does not show: the columns are named then.
fn order_beside(
    projection: &mut Vec<SelectItem>,
    query: &mut Query,
    alias: &mut TableAlias,
) -> Option<Vec<OrderByExpr>> {
    let ([SelectItem::Wildcard(_)] | [SelectItem::QualifiedWildcard(..)]) = projection.as_slice() else { return None };
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    name_items(select);
    let names = match alias.columns.len() {
        0 => select.projection.iter().map(name_of).collect::<Option<Vec<_>>>()?,
        named if named == select.projection.len() => alias.columns.iter().map(|column| column.name.clone()).collect(),
        _ => return None,
    };
    let order = order_of(query, alias, false)?;
    let column = |name| SelectItem::UnnamedExpr(Expr::CompoundIdentifier(vec![alias.name.clone(), name]));
    *projection = names.into_iter().map(column).collect();
    Some(order)
}

/// `ARRAY (SELECT …)`: the aggregate over it, in its order; no rows are an empty array.
pub fn array_of(query: Query) -> Expr {
    let array = Ident::with_quote('"', "array");
    let item = Ident::with_quote('"', "mr item");
    let aggregate =
        crate::sql::rewrite::call("array_agg", vec![Expr::CompoundIdentifier(vec![array.clone(), item.clone()])]);
    let Ok(mut outer) = crate::sql::parse::query("SELECT 1 FROM (SELECT 1) AS \"array\" (\"mr item\")") else {
        unreachable!("a text of our own");
    };
    if let SetExpr::Select(select) = outer.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
        if let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation) {
            **subquery = query;
        }
        take_order(select);
    }
    crate::sql::rewrite::call("mr_or_empty", vec![Expr::Subquery(outer)])
}

/// The SELECT whose items name a query's columns.
fn first_select(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::SetOperation { left, .. } => first_select(left),
        SetExpr::Query(query) => first_select(&mut query.body),
        _ => None,
    }
}

fn name_of(item: &SelectItem) -> Option<Ident> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().cloned(),
        _ => None,
    }
}

/// The order of a subquery's rows by its columns; it gets more of them where an expression is none of them.
fn order_of(query: &mut Query, alias: &mut TableAlias, wildcard: bool) -> Option<Vec<OrderByExpr>> {
    let OrderByKind::Expressions(items) = &query.order_by.as_ref()?.kind else { return None };
    let items = items.clone();
    let simple = matches!(query.body.as_ref(), SetExpr::Select(select) if select.distinct.is_none());
    let select = first_select(&mut query.body)?;
    let shown = std::mem::take(&mut select.projection);
    let star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    // Where an item stands, as far as no wildcard is before it.
    let known = shown.iter().position(star).unwrap_or(shown.len());
    let (mut order, mut more) = (Vec::new(), Vec::new());
    let mut names = alias.columns.clone();
    // `SELECT * FROM t` has all columns of t.
    let all = shown.iter().any(|item| matches!(item, SelectItem::Wildcard(_)))
        && matches!(select.from.as_slice(), [from] if from.joins.is_empty());
    for item in &items {
        let place = match &item.expr {
            Expr::Value(value) => match &value.value {
                Value::Number(place, _) => place.parse::<usize>().ok().and_then(|place| place.checked_sub(1)),
                _ => None,
            },
            Expr::Identifier(name) => {
                let same = |item: &SelectItem| name_of(item).is_some_and(|n| fold(&n) == fold(name));
                shown.iter().position(same)
            }
            expr => {
                let same = |item: &SelectItem| match item {
                    SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => e == expr,
                    _ => false,
                };
                // DISTINCT orders by its items alone: `t.a` can only be the item `a`.
                let unqualified = |item: &SelectItem| match (expr, item) {
                    (Expr::CompoundIdentifier(parts), SelectItem::UnnamedExpr(Expr::Identifier(name))) => {
                        !simple && parts.last().is_some_and(|last| fold(last) == fold(name))
                    }
                    _ => false,
                };
                shown.iter().position(same).or_else(|| shown.iter().position(unqualified))
            }
        };
        let column = match place {
            Some(place) if place < known => match alias.columns.get(place) {
                Some(column) => Some(column.name.clone()),
                None => name_of(&shown[place]),
            },
            Some(place) => shown.get(place).and_then(name_of).filter(|_| alias.columns.is_empty()),
            None => None,
        };
        let column = match (column, &item.expr) {
            (None, Expr::Identifier(name)) if all && names.is_empty() => Some(name.clone()),
            (None, Expr::CompoundIdentifier(parts)) if all && names.is_empty() => parts.last().cloned(),
            (column, _) => column,
        };
        let column = match column {
            Some(column) => Some(column),
            None if place.is_some() || wildcard || !simple || known < shown.len() && !names.is_empty() => None,
            None => {
                let column = Ident::with_quote('"', format!("mr order {}", more.len() + 1));
                more.push(SelectItem::ExprWithAlias { expr: item.expr.clone(), alias: column.clone() });
                if !names.is_empty() {
                    names.push(TableAliasColumnDef { name: column.clone(), data_type: None });
                }
                Some(column)
            }
        };
        let Some(column) = column else {
            select.projection = shown;
            return None;
        };
        order.push(OrderByExpr { expr: Expr::CompoundIdentifier(vec![alias.name.clone(), column]), ..item.clone() });
    }
    select.projection = shown;
    select.projection.extend(more);
    alias.columns = names;
    Some(order)
}

/// Looks for such aggregates of a SELECT itself, and gives them an order.
struct Ordered {
    by: Option<Vec<OrderByExpr>>,
    found: bool,
}

impl Ordered {
    fn visit(&mut self, select: &mut Select) {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.in_select(expr);
            }
        }
        if let Some(having) = &mut select.having {
            self.in_select(having);
        }
    }

    fn in_select(&mut self, expr: &mut Expr) {
        let _ = visit_outside_mut(expr, |expr| {
            if let Expr::Function(function) = expr {
                self.function(function);
            }
            ControlFlow::<()>::Continue(())
        });
    }

    fn function(&mut self, function: &mut Function) {
        let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
        let FunctionArguments::List(list) = &mut function.args else { return };
        let has_order = list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
        let distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
        if has_order || distinct || function.over.is_some() || !ORDERED.contains(&name.as_str()) {
            return;
        }
        self.found = true;
        if let Some(by) = &self.by {
            list.clauses.push(FunctionArgumentClause::OrderBy(by.clone()));
        }
    }
}

/// Arguments that may fail are computed only for rows that pass the filter; and so is an order by them, which is the same
/// expression still, as DISTINCT wants it.
pub fn guard_by_filter(function: &mut Function) {
    let Some(condition) = function.filter.as_deref() else { return };
    let FunctionArguments::List(list) = &mut function.args else { return };
    let has_subquery = visit::visit_expressions(condition, |expr| match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    if has_subquery.is_break() {
        return;
    }
    let arguments = list.args.iter_mut().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    let orders = list.clauses.iter_mut().filter_map(|clause| match clause {
        FunctionArgumentClause::OrderBy(items) => Some(items),
        _ => None,
    });
    for expr in arguments.chain(orders.flatten().map(|item| &mut item.expr)) {
        if may_fail(expr) {
            let result = std::mem::replace(expr, Expr::Value(Value::Null.into()));
            *expr = Expr::Case {
                case_token: ast::helpers::attached_token::AttachedToken::empty(),
                end_token: ast::helpers::attached_token::AttachedToken::empty(),
                operand: None,
                conditions: vec![ast::CaseWhen { condition: condition.clone(), result }],
                else_result: None,
            };
        }
    }
}

/// Of literals nothing is said: they are computed when the query is planned.
fn may_fail(expr: &Expr) -> bool {
    let columns = visit::visit_expressions(expr, |expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let fails = visit::visit_expressions(expr, |expr| match expr {
        Expr::Cast { .. } | Expr::Function(_) => ControlFlow::Break(()),
        Expr::BinaryOp { op: BinaryOperator::Divide | BinaryOperator::Modulo | BinaryOperator::PGExp, .. } => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    columns.is_break() && fails.is_break()
}
