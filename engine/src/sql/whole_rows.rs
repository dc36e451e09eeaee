//! The name of a function in FROM as a value. Postgres looks for a column of that name, and then for a row of a table or
//! function: of a function that returns values it is the value, though the column has a name of its own.
//!
//! ```text
//!   SELECT x FROM t, jsonb_array_elements(t.j) x      SELECT x.value AS x FROM …
//! ```
//!
//! Which columns there are is known when names are bound: so this is done where that has failed.

use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, Ident, Query, Select, SelectItem, SetExpr, TableFactor, VisitMut, VisitorMut};

use crate::sql::calls::column_in_from;
use crate::sql::parse::fold;

/// Spells out the values of functions in FROM; whether there were any.
pub fn spell_out(query: &mut Query) -> bool {
    let mut rewriter = Rewriter { changed: false };
    let _ = query.visit(&mut rewriter);
    rewriter.changed
}

struct Rewriter {
    changed: bool,
}

impl VisitorMut for Rewriter {
    type Break = ();
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        let mut rows = Rows { named: named_in(select), changed: false };
        if rows.named.is_empty() {
            return ControlFlow::Continue(());
        }
        if let SetExpr::Select(select) = query.body.as_mut() {
            // The column is still called after what is asked for.
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(Expr::Identifier(ident)) = item {
                    let alias = ident.clone();
                    *item = SelectItem::ExprWithAlias { expr: Expr::Identifier(alias.clone()), alias };
                }
            }
        }
        let _ = query.visit(&mut rows);
        self.changed |= rows.changed;
        ControlFlow::Continue(())
    }
}

/// Aliases of functions, with their columns.
fn named_in(select: &Select) -> Vec<(String, &'static str)> {
    let factors = select
        .from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    let named = factors.filter_map(|factor| {
        let (name, alias) = match factor {
            TableFactor::Table { name, alias: Some(alias), args: Some(_), .. } => (name, alias),
            TableFactor::Function { name, alias: Some(alias), .. } => (name, alias),
            _ => return None,
        };
        let function = name.0.last().and_then(|part| part.as_ident()).map(fold)?;
        let column = column_in_from(&function)?;
        alias.columns.is_empty().then(|| (fold(&alias.name), column))
    });
    named.collect()
}

struct Rows {
    named: Vec<(String, &'static str)>,
    changed: bool,
}

impl VisitorMut for Rows {
    type Break = ();
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(ident) = expr
            && let Some((_, column)) = self.named.iter().find(|(name, _)| *name == fold(ident))
        {
            *expr = ast::Expr::CompoundIdentifier(vec![ident.clone(), Ident::new(*column)]);
            self.changed = true;
        }
        ControlFlow::Continue(())
    }
}
