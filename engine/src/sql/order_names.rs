//! Names in an expression of ORDER BY are columns of FROM; those of the SELECT list are meant by a name alone. DataFusion
//! looks in the SELECT list first, so that columns which hide others get another name within.
//!
//! ```text
//!   SELECT -a AS a, b FROM t ORDER BY abs(a), b LIMIT 3
//!   SELECT s."mr item 1" AS a, s.b AS b
//!     FROM (SELECT -a AS "mr item 1", b FROM t ORDER BY abs(a), b LIMIT 3) AS s
//! ```

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Distinct, Expr, Ident, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor};

use crate::sql::item_names::name_of_expr;
use crate::sql::parse::{fold, query as parsed};
use crate::sql::visit;

const ALIAS: &str = "mr ordered";

/// Rewrites a query some of whose columns hide columns that its ORDER BY names. One that shows a star stays as it is.
pub fn uncover(query: &mut Query) {
    let Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) = &query.order_by else { return };
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let mut named = HashSet::new();
    for item in order.iter().filter(|item| name_alone(&item.expr).is_none()) {
        let _ = visit::visit_expressions(&item.expr, |expr| {
            if let Expr::Identifier(name) = expr {
                named.insert(fold(name));
            }
            ControlFlow::<()>::Continue(())
        });
    }
    let Some(items) = items_of(select).filter(|items| items.iter().any(|item| item.hides(&named))) else { return };
    let Ok(mut outer) = parsed(&format!("SELECT 1 FROM (SELECT 1) AS \"{ALIAS}\"")) else { return };
    rename(query, &items, &named);
    outer.with = query.with.take();
    if let SetExpr::Select(select) = outer.body.as_mut()
        && let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        select.projection = items.iter().enumerate().map(|(i, item)| item.shown(i, &items, &named)).collect();
        std::mem::swap(subquery.as_mut(), query);
    }
    *query = *outer;
}

struct Item {
    name: String,
    /// Whether it shows a column under its own name.
    plain: bool,
}

fn items_of(select: &Select) -> Option<Vec<Item>> {
    let item = |item: &SelectItem| {
        let (expr, name) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, fold(alias)),
            SelectItem::UnnamedExpr(expr) => (expr, name_of_expr(expr).unwrap_or_else(|| "?column?".into())),
            _ => return None,
        };
        let plain = match expr {
            Expr::Identifier(column) => fold(column) == name,
            Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|column| fold(column) == name),
            _ => false,
        };
        Some(Item { name, plain })
    };
    select.projection.iter().map(item).collect()
}

impl Item {
    fn hides(&self, named: &HashSet<String>) -> bool {
        !self.plain && named.contains(&self.name)
    }

    /// What it is called within: something else where it hides a column, or is one of several of its name. GROUP BY may
    /// name the others.
    fn name_within(&self, place: usize, items: &[Item], named: &HashSet<String>) -> String {
        let alone = items.iter().filter(|item| item.name == self.name).count() == 1;
        if alone && !self.hides(named) { self.name.clone() } else { format!("mr item {}", place + 1) }
    }

    fn shown(&self, place: usize, items: &[Item], named: &HashSet<String>) -> SelectItem {
        let quoted = |name: String| Ident::with_quote('"', name);
        let within = quoted(self.name_within(place, items, named));
        let expr = Expr::CompoundIdentifier(vec![quoted(ALIAS.into()), within]);
        SelectItem::ExprWithAlias { expr, alias: quoted(self.name.clone()) }
    }
}

fn expr_of(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// A name that stands alone, which an item of the SELECT list may have.
fn name_alone(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::Nested(inner) => name_alone(inner),
        _ => None,
    }
}

/// Gives the items their names within, in ORDER BY and DISTINCT ON too where those name them.
fn rename(query: &mut Query, items: &[Item], named: &HashSet<String>) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    // What DISTINCT is ordered by is an item itself.
    let exprs: Vec<Expr> = match select.distinct {
        Some(Distinct::Distinct) => select.projection.iter().filter_map(expr_of).cloned().collect(),
        _ => Vec::new(),
    };
    let meant = |expr: &Expr| {
        let named_so = |name| items.iter().position(|item| item.name == name);
        let place = match name_alone(expr) {
            Some(name) => named_so(fold(name))?,
            None => exprs.iter().position(|item| item == expr)?,
        };
        let within = items[place].name_within(place, items, named);
        Some(Expr::Identifier(Ident::with_quote('"', within)))
    };
    if let Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) = &mut query.order_by {
        for item in order {
            item.expr = meant(&item.expr).unwrap_or_else(|| item.expr.clone());
        }
    }
    if let Some(Distinct::On(on)) = &mut select.distinct {
        for expr in on {
            *expr = meant(expr).unwrap_or_else(|| expr.clone());
        }
    }
    for (i, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) = item {
            let alias = Ident::with_quote('"', items[i].name_within(i, items, named));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}
