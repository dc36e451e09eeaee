//! WITH queries of a name that one around them has: DataFusion knows no scopes of them, so the inner one gets a name of its
//! own.
//!
//! ```text
//!   WITH c AS (…) SELECT … FROM (WITH c AS (SELECT … FROM c) SELECT … FROM c) …
//!   WITH c AS (…) SELECT … FROM (WITH "c␁1" AS (SELECT … FROM c) SELECT … FROM "c␁1" AS c) …
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, TableAlias, TableFactor, VisitorMut,
};

use crate::sql::item_names::MARK;
use crate::sql::parse::fold;
use crate::sql::visit::WalkMut;
use crate::sql::window::window_kind;

/// Gives all of them such names.
pub fn name_apart(query: &mut Query) {
    let _ = query.walk_mut(&mut Scopes { all: false, known: Vec::new(), around: Vec::new(), renamed: 0 });
}

/// Gives all WITH queries such names, so that other names are relations'.
pub fn name_all_apart(query: &mut Query) {
    let _ = query.walk_mut(&mut Scopes { all: true, known: Vec::new(), around: Vec::new(), renamed: 0 });
}

struct Scopes {
    all: bool,
    /// The names of WITH queries of the queries around.
    known: Vec<String>,
    /// How many there were before each of those.
    around: Vec<usize>,
    renamed: usize,
}

impl VisitorMut for Scopes {
    type Break = ();
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.around.push(self.known.len());
        let names: Vec<String> =
            query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| fold(&cte.alias.name)).collect();
        for (i, name) in names.iter().enumerate() {
            // One name twice in one WITH is an error, and stays one.
            if (self.all || self.known.contains(name)) && !names[..i].contains(name) {
                self.renamed += 1;
                rename(query, i, name, Ident::with_quote('"', format!("{name}{MARK}{}", self.renamed)));
            }
        }
        self.known.extend(names);
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.known.truncate(self.around.pop().unwrap_or_default());
        ControlFlow::Continue(())
    }
}

/// Renames a query's WITH query at a place, and all that means it: what comes after it, and itself if it is recursive.
fn rename(query: &mut Query, at: usize, name: &str, to: Ident) {
    let Some(mut with) = query.with.take() else { return };
    let mut mentions = Mentions { name, to: &to, hidden: 0 };
    for (i, cte) in with.cte_tables.iter_mut().enumerate() {
        if i > at || (i == at && with.recursive) {
            let _ = cte.query.walk_mut(&mut mentions);
        }
    }
    let _ = query.walk_mut(&mut mentions);
    with.cte_tables[at].alias.name = to;
    query.with = Some(with);
}

struct Mentions<'a> {
    name: &'a str,
    to: &'a Ident,
    /// How many queries are around that have a WITH query of the name themselves.
    hidden: usize,
}

impl Mentions<'_> {
    fn hides(&self, query: &Query) -> bool {
        query.with.iter().flat_map(|with| &with.cte_tables).any(|cte| fold(&cte.alias.name) == self.name)
    }
}

impl VisitorMut for Mentions<'_> {
    type Break = ();
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if self.hides(query) {
            // But what its WITH queries are made of, up to that one, is the name's from outside.
            if self.hidden == 0
                && let Some(with) = &mut query.with
            {
                for cte in &mut with.cte_tables {
                    let itself = fold(&cte.alias.name) == self.name;
                    if !(itself && with.recursive) {
                        let _ = cte.query.walk_mut(self);
                    }
                    if itself {
                        break;
                    }
                }
            }
            self.hidden += 1;
        }
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.hidden -= usize::from(self.hides(query));
        ControlFlow::Continue(())
    }
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, args, .. } = factor else { return ControlFlow::Continue(()) };
        if self.hidden > 0 {
            return ControlFlow::Continue(());
        }
        let called = match (name.0.as_slice(), args) {
            ([part], None) => match part.as_ident().filter(|ident| fold(ident) == self.name).cloned() {
                Some(called) => {
                    *name = ObjectName::from(vec![self.to.clone()]);
                    Some(called)
                }
                None => None,
            },
            // The rows of a window.
            (_, Some(args)) if window_kind(name).is_some() => match args.args.first_mut() {
                Some(
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(rows)))
                    | FunctionArg::Named { arg: FunctionArgExpr::Expr(Expr::Identifier(rows)), .. },
                ) if fold(rows) == self.name => Some(std::mem::replace(rows, self.to.clone())),
                _ => None,
            },
            _ => None,
        };
        if let Some(name) = called {
            alias.get_or_insert(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
        ControlFlow::Continue(())
    }
}
