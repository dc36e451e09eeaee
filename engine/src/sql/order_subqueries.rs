//! ORDER BY of a subquery that names aggregates of the query: it is computed among the items, where `grouped.rs` finds them.
//!
//! ```text
//!   SELECT k FROM t GROUP BY k ORDER BY (SELECT count(*) FROM u WHERE u.v > sum(t.v)) LIMIT 3
//!   SELECT s."mr item 1" AS k
//!     FROM (SELECT k AS "mr item 1", (SELECT count(*) FROM u WHERE u.v > sum(t.v)) AS "mr order 1" FROM t GROUP BY k) AS s
//!     ORDER BY s."mr order 1" LIMIT 3
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, Ident, OrderBy, OrderByKind, Query, SelectItem, SetExpr, TableFactor, Visitor};

use crate::sql::grouped::{is_aggregate, is_of, names_of};
use crate::sql::item_names::name_of_expr;
use crate::sql::parse::{fold, query as parsed};
use crate::sql::rewrite::whole_number;
use crate::sql::visit::Walk;

const ALIAS: &str = "mr ordered";

/// Rewrites such a query. With DISTINCT it would not be one, and behind a star, or WITH TIES, it stays as it is.
pub fn compute(query: &mut Query) {
    let Query { body, order_by: Some(OrderBy { kind: OrderByKind::Expressions(order), .. }), fetch, .. } = query else {
        return;
    };
    let SetExpr::Select(select) = body.as_mut() else { return };
    let names = names_of(&select.from);
    let ties = fetch.as_ref().is_some_and(|fetch| fetch.with_ties);
    if select.distinct.is_some() || ties || !order.iter().any(|item| names_aggregate(&item.expr, &names)) {
        return;
    }
    let mut items = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::ExprWithAlias { expr, alias } => items.push((expr.clone(), fold(alias))),
            SelectItem::UnnamedExpr(expr) => {
                items.push((expr.clone(), name_of_expr(expr).unwrap_or_else(|| "?column?".into())));
            }
            _ => return,
        }
    }
    let Ok(mut outer) = parsed(&format!("SELECT 1 FROM (SELECT 1) AS \"{ALIAS}\"")) else { return };
    let SetExpr::Select(shown) = outer.body.as_mut() else { return };
    let Some(TableFactor::Derived { subquery, .. }) = shown.from.first_mut().map(|from| &mut from.relation) else {
        return;
    };
    let mut more = Vec::new();
    for item in order.iter_mut() {
        let place = match &item.expr {
            Expr::Identifier(name) => items.iter().position(|(_, own)| *own == fold(name)),
            expr => whole_number(expr).and_then(|place| usize::try_from(place).ok()?.checked_sub(1)),
        };
        let name = match place {
            Some(place) => format!("mr item {}", place + 1),
            None => {
                more.push(item.expr.clone());
                format!("mr order {}", more.len())
            }
        };
        item.expr = column(&name);
    }
    let quoted = |name: String| Ident::with_quote('"', name);
    shown.projection = (items.iter().enumerate())
        .map(|(i, (_, name))| {
            let expr = column(&format!("mr item {}", i + 1));
            SelectItem::ExprWithAlias { expr, alias: quoted(name.clone()) }
        })
        .collect();
    let own = items.into_iter().enumerate().map(|(i, (expr, _))| (expr, format!("mr item {}", i + 1)));
    let more = more.into_iter().enumerate().map(|(i, expr)| (expr, format!("mr order {}", i + 1)));
    select.projection =
        own.chain(more).map(|(expr, name)| SelectItem::ExprWithAlias { expr, alias: quoted(name) }).collect();
    std::mem::swap(&mut subquery.body, body);
    *body = outer.body;
}

fn column(name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::with_quote('"', ALIAS), Ident::with_quote('"', name)])
}

/// Whether an expression has a subquery with an aggregate of columns of these tables.
fn names_aggregate(expr: &Expr, names: &[String]) -> bool {
    struct Search<'a> {
        names: &'a [String],
        around: usize,
    }
    impl Visitor for Search<'_> {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.around += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.around -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            match self.around > 0 && is_aggregate(expr) && is_of(expr, self.names) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    expr.walk(&mut Search { names, around: 0 }).is_break()
}
