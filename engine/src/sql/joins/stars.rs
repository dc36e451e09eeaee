//! `*` and `t.*` spelt out as the columns that there are, as a view keeps its query: columns that come later are none of its.
//!
//! ```text
//!   SELECT * FROM t                        SELECT a, b FROM t
//!   SELECT *, 1 AS one FROM t JOIN u …     SELECT t.a, t.b, u.c, 1 AS one FROM t JOIN u …
//! ```
//!
//! A star over what cannot be known alone stays as it is, and so does one in a query that is part of itself.

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, Expr, Ident, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor, VisitorMut,
    With,
};

use super::{Column, Joins, Shown, Visit, merges, named};
use crate::error::{Error, Result};
use crate::sql::parse::{fold, is_plain_name};
use crate::sql::visit::{Walk, WalkMut};

/// Whether a query has a star that may be spelt out.
pub fn has_stars(query: &Query) -> bool {
    struct Search;
    impl ast::Visitor for Search {
        type Break = ();
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            match select.projection.iter().any(is_star) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    query.walk(&mut Search).is_break()
}

/// Spells out the stars of a query; `columns` is as for [`super::merge_columns`].
pub fn spell_out_stars(query: &mut Query, columns: &mut dyn FnMut(&Query) -> Option<Vec<Shown>>) -> Result<()> {
    let joins = Joins { ctes: Vec::new(), ends: Vec::new(), columns };
    match query.walk_mut(&mut Stars { joins, within_itself: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

fn is_star(item: &SelectItem) -> bool {
    let plain = ast::WildcardAdditionalOptions::default();
    match item {
        SelectItem::Wildcard(options) => *options == plain,
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(_), options) => *options == plain,
        _ => false,
    }
}

struct Stars<'a> {
    joins: Joins<'a>,
    /// How many queries of a WITH RECURSIVE are around.
    within_itself: usize,
}

impl VisitorMut for Stars<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Visit {
        // As Joins does.
        let mut with: Option<With> = query.with.take();
        let before = self.joins.ctes.len();
        let recursive = with.as_ref().is_some_and(|with| with.recursive);
        self.within_itself += usize::from(recursive);
        for cte in with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            cte.query.walk_mut(self)?;
            self.joins.ctes.push(cte.clone());
        }
        self.within_itself -= usize::from(recursive);
        self.joins.ends.push((before, with));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> Visit {
        let spelt_out = self.body(query.body.as_mut());
        let (before, with) = self.joins.ends.pop().expect("pushed before");
        self.joins.ctes.truncate(before);
        query.with = with;
        match spelt_out {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl Stars<'_> {
    fn body(&mut self, body: &mut SetExpr) -> Result<()> {
        match body {
            SetExpr::Select(select) if self.within_itself == 0 => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left)?;
                self.body(right)
            }
            _ => Ok(()),
        }
    }

    fn select(&mut self, select: &mut Select) -> Result<()> {
        if !select.projection.iter().any(is_star) {
            return Ok(());
        }
        let (mut from, mut columns) = (Vec::new(), Vec::new());
        for mut table in select.from.iter().cloned() {
            match self.joins.joined(&mut table, &from, &columns)? {
                Some(more) => columns.extend(more),
                None => return Ok(()),
            }
            from.push(table);
        }
        // Two columns of one name in one table have no names of their own.
        let name = |column: &Column| column.expr.to_string();
        let mut names: Vec<String> = columns.iter().map(name).collect();
        names.sort();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Ok(());
        }
        let merging = select.from.iter().any(merges);
        let alone = match select.from.as_slice() {
            [table] => table.joins.is_empty() && !matches!(table.relation, TableFactor::NestedJoin { .. }),
            _ => false,
        };
        let mut items = Vec::new();
        for item in std::mem::take(&mut select.projection) {
            let table = match &item {
                star if !is_star(star) => None,
                SelectItem::Wildcard(_) => Some(None),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) if !merging => {
                    match name.0.as_slice() {
                        [part] => part.as_ident().map(Some),
                        _ => None,
                    }
                }
                _ => None,
            };
            let shown: Vec<SelectItem> = match table {
                None => Vec::new(),
                Some(table) => {
                    let own = columns.iter().filter(|column| table.is_none_or(|table| column.is_of(table)));
                    own.map(|column| shown(column, alone)).collect()
                }
            };
            if shown.is_empty() { items.push(item) } else { items.extend(shown) }
        }
        select.projection = items;
        Ok(())
    }
}

/// A column as an item; by its name alone where there is but one table.
fn shown(column: &Column, alone: bool) -> SelectItem {
    let expr = match &column.expr {
        Expr::CompoundIdentifier(parts) if alone && !column.merged => {
            Expr::Identifier(unquoted(parts.last().expect("a table and a column")))
        }
        Expr::CompoundIdentifier(parts) => Expr::CompoundIdentifier(parts.iter().map(unquoted).collect()),
        other => other.clone(),
    };
    match column.merged {
        true => named(expr, &column.name),
        false => SelectItem::UnnamedExpr(expr),
    }
}

/// Without quotes where it needs none.
fn unquoted(ident: &Ident) -> Ident {
    let name = fold(ident);
    if is_plain_name(&name) { Ident::new(name) } else { Ident::with_quote('"', name) }
}
