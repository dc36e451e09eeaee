//! `FETCH FIRST n ROWS WITH TIES`: the rows that have a rank of n or less.
//!
//! ```text
//!   SELECT a FROM t ORDER BY b          SELECT * EXCEPT ("mr rank")
//!   FETCH FIRST 3 ROWS WITH TIES          FROM (SELECT a, rank() OVER (ORDER BY b) AS "mr rank" FROM t) AS "mr ties"
//!                                         WHERE "mr rank" <= 3 ORDER BY "mr rank"
//! ```
//!
//! Behind an OFFSET the rows are numbered as well; and so they are for a LIMIT or OFFSET that a subquery says.

use sqlparser::ast::{
    ExceptSelectItem, Expr, Ident, LimitClause, OrderBy, OrderByExpr, OrderByKind, Query, SelectItem, SetExpr,
    TableFactor, WildcardAdditionalOptions,
};

use crate::error::{Error, Result};
use crate::sql::item_names::name_of_expr;
use crate::sql::parse::{fold, parse_expression, query as parsed};
use crate::sql::rewrite::whole_number;

const RANK: &str = "mr rank";
const ROW: &str = "mr row";

/// Of a query that has lost its FETCH, whose number of rows is `rows`.
pub fn keep(query: &mut Query, rows: &Expr) -> Result<()> {
    let refused = || Error::unsupported("FETCH … WITH TIES of this query");
    let written = |expr: &Expr| whole_number(expr).ok_or_else(|| Error::unsupported("WITH TIES of a computed number"));
    let Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) = query.order_by.take() else {
        return Err(Error::syntax("WITH TIES cannot be specified without ORDER BY clause"));
    };
    let rows = written(rows)?;
    let offset = match query.limit_clause.take() {
        Some(LimitClause::LimitOffset { offset: Some(offset), .. }) => written(&offset.value)?,
        _ => 0,
    };
    let order = order_of(query, &order).ok_or_else(refused)?;
    let mut own = vec![(RANK, "rank")];
    if offset > 0 {
        own.push((ROW, "row_number"));
    }
    let last = rows.saturating_add(offset);
    let behind = if offset > 0 { format!(" AND \"{ROW}\" > {offset}") } else { String::new() };
    let own: Vec<(&str, String)> =
        own.iter().map(|(name, function)| (*name, format!("{function}() OVER (ORDER BY {order})"))).collect();
    number(query, &own, &format!("\"{RANK}\" <= {last}{behind} ORDER BY \"{RANK}\""))
}

/// Of a query that has lost its LIMIT and OFFSET, which are these.
pub fn within(query: &mut Query, limit: Option<&Expr>, offset: Option<&Expr>) -> Result<()> {
    let refused = || Error::unsupported("a subquery in LIMIT or OFFSET of this query");
    let order = match &query.order_by {
        Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) => order.clone(),
        _ => Vec::new(),
    };
    let numbered = match query.body.as_ref() {
        SetExpr::Select(select) if select.distinct.is_none() => {
            query.order_by = None;
            match order.is_empty() {
                true => Some(String::new()),
                false => order_of(query, &order),
            }
        }
        _ => order_of_result(query, &order),
    };
    let order = match numbered.ok_or_else(refused)? {
        order if order.is_empty() => order,
        order => format!("ORDER BY {order}"),
    };
    let first = offset.map_or("0".into(), |offset| format!("coalesce(mr_offset(CAST(({offset}) AS bigint)), 0)"));
    let count = limit.map(|limit| {
        format!(" AND \"{ROW}\" - {first} <= coalesce(mr_limit(CAST(({limit}) AS bigint)), {})", i64::MAX)
    });
    let condition = format!("\"{ROW}\" > {first}{} ORDER BY \"{ROW}\"", count.unwrap_or_default());
    number(query, &[(ROW, format!("row_number() OVER ({order})"))], &condition)
}

/// The order of a set operation's or DISTINCT's result, by its columns; the query becomes a SELECT of all of them. `None`
/// where the order is of anything else.
fn order_of_result(query: &mut Query, order: &[OrderByExpr]) -> Option<String> {
    fn first(body: &SetExpr) -> Option<&sqlparser::ast::Select> {
        match body {
            SetExpr::Select(select) => Some(select),
            SetExpr::Query(query) => first(&query.body),
            SetExpr::SetOperation { left, .. } => first(left),
            _ => None,
        }
    }
    if let SetExpr::Values(values) = query.body.as_ref() {
        let columns = values.rows.first().map_or(0, |row| row.len());
        let columns: Vec<String> = (1..=columns).map(|i| format!("column{i}")).collect();
        let selected = parsed(&format!("SELECT {} FROM (SELECT 1) AS \"mr values\"", columns.join(", "))).ok()?;
        let mut outer = *selected;
        query.order_by = None;
        outer.with = query.with.take();
        if let SetExpr::Select(select) = outer.body.as_mut()
            && let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation)
        {
            std::mem::swap(subquery.as_mut(), query);
        }
        *query = outer;
        return if order.is_empty() { Some(String::new()) } else { order_of(query, order) };
    }
    let select = first(&query.body)?;
    let distinct_on = matches!(select.distinct, Some(sqlparser::ast::Distinct::On(_)));
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
        SelectItem::UnnamedExpr(expr) => name_of_expr(expr),
        _ => None,
    };
    let names: Vec<Option<String>> = select.projection.iter().map(name).collect();
    let place = |item: &OrderByExpr| match whole_number(&item.expr) {
        Some(place) => usize::try_from(place).ok()?.checked_sub(1),
        None => select.projection.iter().position(|shown| match (shown, &item.expr) {
            (SelectItem::ExprWithAlias { expr, alias }, Expr::Identifier(of)) => {
                fold(alias) == fold(of) || *expr == item.expr
            }
            (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }, of) => {
                expr == of || matches!(of, Expr::Identifier(of) if name_of_expr(expr) == Some(fold(of)))
            }
            _ => false,
        }),
    };
    let stars = names.iter().any(Option::is_none);
    let column = |item: &OrderByExpr| -> Option<String> {
        let named = match (place(item), &item.expr) {
            // Behind a star places are others.
            (Some(at), _) if !stars || whole_number(&item.expr).is_none() => names.get(at)?.clone()?,
            (None, Expr::Identifier(of)) if stars => fold(of),
            _ => return None,
        };
        // One of several columns of a name cannot be meant by it.
        if names.iter().flatten().filter(|name| **name == named).count() > 1 {
            return None;
        }
        Some(OrderByExpr { expr: Expr::Identifier(Ident::with_quote('"', named)), ..item.clone() }.to_string())
    };
    let columns: Option<Vec<String>> = order.iter().map(column).collect();
    let mut outer = *parsed("SELECT * FROM (SELECT 1) AS \"mr result\"").ok()?;
    if !distinct_on {
        query.order_by = None;
    }
    outer.with = query.with.take();
    if let SetExpr::Select(select) = outer.body.as_mut()
        && let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        std::mem::swap(subquery.as_mut(), query);
    }
    *query = outer;
    columns.map(|columns| columns.join(", "))
}

/// An ORDER BY as a window has it; `None` where it cannot have it.
fn order_of(query: &Query, order: &[OrderByExpr]) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let shown = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    let numbered = order.iter().any(|item| whole_number(&item.expr).is_some());
    if select.distinct.is_some() || (numbered && !select.projection.iter().all(shown)) {
        return None;
    }
    let order: Vec<String> = order.iter().map(|item| resolved(item, &select.projection).to_string()).collect();
    Some(order.join(", "))
}

/// The rows of a query for which a condition on columns of our own holds, without these columns.
fn number(query: &mut Query, own: &[(&str, String)], condition: &str) -> Result<()> {
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::internal("the rows of a SELECT are numbered"));
    };
    for (name, expr) in own {
        let expr = parse_expression(expr)?;
        select.projection.push(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', *name) });
    }
    let mut outer = *parsed(&format!("SELECT * FROM (SELECT 1) AS \"mr ties\" WHERE {condition}"))?;
    outer.with = query.with.take();
    if let SetExpr::Select(select) = outer.body.as_mut()
        && let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        let mut names = own.iter().map(|(name, _)| Ident::with_quote('"', *name));
        let first_element = names.next().expect("there is one");
        let opt_except = Some(ExceptSelectItem { first_element, additional_elements: names.collect() });
        select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions {
            opt_except,
            ..WildcardAdditionalOptions::default()
        })];
        std::mem::swap(subquery.as_mut(), query);
    }
    *query = outer;
    Ok(())
}

/// An item of ORDER BY, which may be the number or the name of one of the select list, as an expression.
fn resolved(item: &OrderByExpr, projection: &[SelectItem]) -> OrderByExpr {
    let place = |number: i64| projection.get(usize::try_from(number).ok()?.checked_sub(1)?);
    let expr = match (&item.expr, whole_number(&item.expr)) {
        (_, Some(number)) => match place(number) {
            Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => expr.clone(),
            _ => item.expr.clone(),
        },
        (Expr::Identifier(name), _) => {
            let named = projection.iter().find_map(|item| match item {
                SelectItem::ExprWithAlias { expr, alias } if fold(alias) == fold(name) => Some(expr.clone()),
                _ => None,
            });
            named.unwrap_or_else(|| item.expr.clone())
        }
        _ => item.expr.clone(),
    };
    OrderByExpr { expr, ..item.clone() }
}
