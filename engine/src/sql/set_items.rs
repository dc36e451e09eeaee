//! Items beside sets in a SELECT list that are called as a column is that the list uses: DataFusion keeps such columns beside
//! them, where a name would be of both. They get names of their own, and those they were given around it.
//!
//! ```text
//!   SELECT unnest(a) AS p, upper(t.d) AS d FROM t
//!   SELECT p, "d␁1" AS d FROM (SELECT unnest(a) AS p, upper(t.d) AS "d␁1" FROM t) mr_items
//! ```
//!
//! Of the outermost SELECT all names are such already.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Ident, Query, SelectItem, SetExpr, TableFactor};

use crate::error::Result;
use crate::sql::calls::returns_set;
use crate::sql::item_names::{MARK, marked, name_items, name_of_expr};
use crate::sql::outside::visit_outside;
use crate::sql::parse::{fold, query};

/// Names the items apart. Where there is an ORDER BY, which may be by columns that are not shown, nothing is done.
pub fn name_apart(of: &mut Query) -> Result<()> {
    let SetExpr::Select(select) = of.body.as_mut() else { return Ok(()) };
    if of.order_by.is_some() || select.projection.len() < 2 {
        return Ok(());
    }
    let (mut sets, mut columns) = (false, HashSet::new());
    for item in &select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return Ok(()) };
        sets |= has_set(expr);
        // What a set is made of is not kept.
        if !is_set(expr) {
            let _: ControlFlow<()> = visit_outside(expr, |expr| {
                columns.extend(name_of_expr(expr).filter(|_| is_column(expr)));
                ControlFlow::Continue(())
            });
        }
    }
    let shadows = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            !is_column(expr) && columns.contains(&fold(alias)) && !has_set(expr)
        }
        _ => false,
    };
    if !sets || !select.projection.iter().any(shadows) {
        return Ok(());
    }
    name_items(select);
    let mut around = Vec::new();
    for (i, item) in select.projection.iter_mut().enumerate() {
        let shadows = shadows(item);
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => fold(alias),
            SelectItem::UnnamedExpr(expr) => name_of_expr(expr).unwrap_or_default(),
            _ => return Ok(()),
        };
        let mut inner = Ident::with_quote('"', name.clone());
        if let SelectItem::ExprWithAlias { alias, .. } = item
            && shadows
            && !name.contains(MARK)
        {
            inner = Ident::with_quote('"', marked(&name, i));
            *alias = inner.clone();
        }
        around.push(SelectItem::ExprWithAlias { expr: Expr::Identifier(inner), alias: Ident::with_quote('"', name) });
    }
    let mut outer = query("SELECT 1 FROM (SELECT 1) AS mr_items")?;
    let SetExpr::Select(shown) = outer.body.as_mut() else { return Ok(()) };
    shown.projection = around;
    if let Some(TableFactor::Derived { subquery, .. }) = shown.from.first_mut().map(|from| &mut from.relation) {
        std::mem::swap(&mut subquery.body, &mut of.body);
    }
    of.body = outer.body;
    Ok(())
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn is_set(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
    name == "unnest" || returns_set(&name)
}

fn has_set(expr: &Expr) -> bool {
    visit_outside(expr, |expr| if is_set(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }).is_break()
}
