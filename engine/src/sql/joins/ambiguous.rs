//! Names that two tables of a subquery have, which DataFusion takes from around the subquery.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, Query, Select, SelectItem, SetExpr, VisitorMut};

use super::{Joins, Shown, Visit};
use crate::error::{Error, Result};
use crate::sql::parse::fold;
use crate::sql::visit::{Walk, WalkMut};

/// A name that two tables of a subquery have is ambiguous there, though DataFusion takes it from around the subquery. Of the
/// names `outer`, which some subquery takes from there. Error: 42702.
pub fn check_ambiguous(
    mut query: Query,
    outer: &HashSet<String>,
    columns: &mut dyn FnMut(&Query) -> Option<Vec<Shown>>,
) -> Result<()> {
    let joins = Joins { ctes: Vec::new(), ends: Vec::new(), columns };
    match query.walk_mut(&mut Ambiguous { joins, outer, before: Vec::new() }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Ambiguous<'a, 'b> {
    joins: Joins<'b>,
    outer: &'a HashSet<String>,
    /// For each query around: how many WITH queries there were before it.
    before: Vec<usize>,
}

impl VisitorMut for Ambiguous<'_, '_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Visit {
        self.before.push(self.joins.ctes.len());
        self.joins.ctes.extend(query.with.iter().flat_map(|with| with.cte_tables.iter().cloned()));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> Visit {
        let before = self.before.pop().expect("pushed before");
        self.joins.ctes.truncate(before);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Visit {
        let tables = select.from.iter().map(|from| 1 + from.joins.len()).sum::<usize>();
        if self.before.len() < 2 || tables < 2 {
            return ControlFlow::Continue(());
        }
        let mut own = Own { names: HashSet::new(), depth: 0 };
        for item in &select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _ = expr.walk(&mut own);
            }
        }
        let _ = select.selection.walk(&mut own);
        own.names.retain(|name| self.outer.contains(name));
        if own.names.is_empty() {
            return ControlFlow::Continue(());
        }
        let Some(names) = self.joins.names_in(&SetExpr::Select(Box::new(select.clone()))) else {
            return ControlFlow::Continue(());
        };
        match own.names.iter().find(|name| names.iter().filter(|n| n == name).count() > 1) {
            Some(name) => {
                ControlFlow::Break(Box::new(Error::new("42702", format!("column reference \"{name}\" is ambiguous"))))
            }
            None => ControlFlow::Continue(()),
        }
    }
}

/// The unqualified names of expressions, without those in subqueries.
struct Own {
    names: HashSet<String>,
    depth: usize,
}

impl ast::Visitor for Own {
    type Break = ();
    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let (0, Expr::Identifier(name)) = (self.depth, expr) {
            self.names.insert(fold(name));
        }
        ControlFlow::Continue(())
    }
}
