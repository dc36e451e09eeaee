//! ORDER BY of a SELECT whose items return sets: the rows of one row stay in their order, and what they are ordered by need not
//! be shown.
//!
//! ```text
//!   SELECT a, unnest(b) AS x FROM t ORDER BY k LIMIT 3
//!   SELECT s."mr item 1" AS a, s."mr item 2" AS x
//!     FROM (SELECT a AS "mr item 1", unnest(b) AS "mr item 2", k AS "mr order 1",
//!                  generate_series(1, cardinality(b)) AS "mr ordinality" FROM t) AS s
//!     ORDER BY s."mr order 1", s."mr ordinality" LIMIT 3
//! ```

use sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderByExpr, OrderByKind, OrderByOptions, Query, Select, SelectItem, SetExpr, TableFactor,
};

use crate::sql::calls;
use crate::sql::item_names::{name_items, plain_name};
use crate::sql::parse::{fold, query as parsed};
use crate::sql::rewrite::{call, number, whole_number};

const ALIAS: &str = "mr sets";

/// Rewrites such a query. Those with groups, DISTINCT or windows stay as they are.
pub fn rewrite(query: &mut Query) {
    let Some(OrderByKind::Expressions(order)) = query.order_by.as_ref().map(|order| &order.kind) else { return };
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    // Which rows are ties, the place within a row does not say.
    if query.fetch.as_ref().is_some_and(|fetch| fetch.with_ties) {
        return;
    }
    let Some((inner, shown, order)) = split(select, order) else { return };
    let Ok(mut outer) = parsed(&format!("SELECT 1 FROM (SELECT 1) AS \"{ALIAS}\"")) else { return };
    let SetExpr::Select(outer_select) = outer.body.as_mut() else { return };
    let Some(TableFactor::Derived { subquery, .. }) = outer_select.from.first_mut().map(|from| &mut from.relation)
    else {
        return;
    };
    *subquery.body = SetExpr::Select(Box::new(inner));
    outer_select.projection = shown;
    query.body = outer.body;
    if let Some(by) = &mut query.order_by {
        by.kind = OrderByKind::Expressions(order);
    }
}

/// The SELECT within, what is shown of it, and by what.
fn split(select: &Select, order: &[OrderByExpr]) -> Option<(Select, Vec<SelectItem>, Vec<OrderByExpr>)> {
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(groups, _) if groups.is_empty());
    if select.distinct.is_some() || !ungrouped || select.having.is_some() || !select.named_window.is_empty() {
        return None;
    }
    let mut inner = select.clone();
    name_items(&mut inner);
    let (mut items, mut sets, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    for (i, item) in inner.projection.iter().enumerate() {
        let (expr, name) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias.clone()),
            SelectItem::UnnamedExpr(expr @ Expr::Identifier(name)) => (expr, name.clone()),
            SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(parts)) => (expr, parts.last()?.clone()),
            _ => return None,
        };
        sets.extend(calls::arrays_within(expr)?);
        shown.push(SelectItem::ExprWithAlias { expr: column(format!("mr item {}", i + 1)), alias: name.clone() });
        items.push((expr.clone(), name));
    }
    if sets.is_empty() {
        return None;
    }
    let mut more = Vec::new();
    let mut by = Vec::new();
    for item in order {
        let place = match &item.expr {
            Expr::Identifier(name) => items.iter().position(|(_, n)| plain_name(&fold(n)) == fold(name)),
            expr => match whole_number(expr) {
                Some(place) => usize::try_from(place).ok()?.checked_sub(1).filter(|place| *place < items.len()),
                None => items.iter().position(|(item, _)| item == expr),
            },
        };
        let name = match place {
            Some(place) => format!("mr item {}", place + 1),
            None if whole_number(&item.expr).is_some() || !calls::arrays_within(&item.expr)?.is_empty() => return None,
            None => {
                more.push(item.expr.clone());
                format!("mr order {}", more.len())
            }
        };
        by.push(OrderByExpr { expr: column(name), ..item.clone() });
    }
    let lengths: Vec<Expr> = sets.into_iter().map(|array| call("cardinality", vec![array])).collect();
    let length = if lengths.len() == 1 { lengths.into_iter().next()? } else { call("greatest", lengths) };
    let named = |expr, name| SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
    let items = items.into_iter().enumerate().map(|(i, (expr, _))| named(expr, format!("mr item {}", i + 1)));
    let more = more.into_iter().enumerate().map(|(i, expr)| named(expr, format!("mr order {}", i + 1)));
    let ordinality = named(call("generate_series", vec![number("1"), length]), "mr ordinality".into());
    inner.projection = items.chain(more).chain([ordinality]).collect();
    let options = OrderByOptions { asc: None, nulls_first: None };
    by.push(OrderByExpr { expr: column("mr ordinality".into()), options, with_fill: None });
    Some((inner, shown, by))
}

fn column(name: String) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::with_quote('"', ALIAS), Ident::with_quote('"', name)])
}
