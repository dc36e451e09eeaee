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
    let order = match query.order_by.take() {
        Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) => {
            format!("ORDER BY {}", order_of(query, &order).ok_or_else(refused)?)
        }
        _ => String::new(),
    };
    if order.is_empty() && !matches!(query.body.as_ref(), SetExpr::Select(select) if select.distinct.is_none()) {
        return Err(refused());
    }
    let first = offset.map_or("0".into(), |offset| format!("coalesce(CAST(({offset}) AS bigint), 0)"));
    let count =
        limit.map(|limit| format!(" AND \"{ROW}\" - {first} <= coalesce(CAST(({limit}) AS bigint), {})", i64::MAX));
    let condition = format!("\"{ROW}\" > {first}{} ORDER BY \"{ROW}\"", count.unwrap_or_default());
    number(query, &[(ROW, format!("row_number() OVER ({order})"))], &condition)
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
