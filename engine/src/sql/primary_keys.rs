//! `GROUP BY` a table's primary key: its other columns are then the group's too, without being named.
//!
//! ```text
//!   SELECT p.*, count(*) FROM posts p JOIN comments c ON … GROUP BY p.id
//!   SELECT p.*, count(*) FROM posts p JOIN comments c ON … GROUP BY p.id, p.title, p.text
//! ```

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{self, Expr, GroupByExpr, Ident, Query, Select, SelectItem, TableFactor, VisitorMut};

use super::bind::Relations;
use crate::sql::parse::{fold, name_of};
use crate::sql::visit::{Walk, WalkMut};

/// Names those columns, as far as the query has words for them. False: there was nothing to add.
pub fn name_columns(query: &mut Query, relations: &dyn Relations) -> bool {
    let mut words = Words { names: HashSet::new(), all: false };
    let _ = query.walk(&mut words);
    let mut add = Add { relations, words, added: false };
    let _ = query.walk_mut(&mut add);
    add.added
}

/// What a query names, and whether it has a wildcard.
struct Words {
    names: HashSet<String>,
    all: bool,
}

impl ast::Visitor for Words {
    type Break = ();
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => drop(self.names.insert(fold(name))),
            Expr::CompoundIdentifier(parts) => self.names.extend(parts.last().map(fold)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let wildcard = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        self.all |= select.projection.iter().any(wildcard);
        ControlFlow::Continue(())
    }
}

struct Add<'a> {
    relations: &'a dyn Relations,
    words: Words,
    added: bool,
}

impl VisitorMut for Add<'_> {
    type Break = ();
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let tables = select
            .from
            .iter()
            .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
        let GroupByExpr::Expressions(groups, _) = &mut select.group_by else { return ControlFlow::Continue(()) };
        let mut more: Vec<Expr> = Vec::new();
        for factor in tables.filter(|_| !groups.is_empty()) {
            let TableFactor::Table { name, alias, args: None, .. } = factor else { continue };
            let Ok(table) = name_of(name) else { continue };
            let shown = alias.as_ref().map_or_else(|| Ident::with_quote('"', &table.name), |alias| alias.name.clone());
            let schema = table.schema.as_deref();
            let Ok(Some(key)) = self.relations.primary_key(schema, &table.name) else { continue };
            let Ok(Some(provider)) = self.relations.table(schema, &table.name) else { continue };
            let grouped = |column: &str| {
                groups.iter().any(|group| match group {
                    Expr::Identifier(name) => fold(name) == column,
                    Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                        [qualifier, name] => fold(qualifier) == fold(&shown) && fold(name) == column,
                        _ => false,
                    },
                    _ => false,
                })
            };
            if key.is_empty() || !key.iter().all(|column| grouped(column)) {
                continue;
            }
            for field in provider.schema().fields() {
                if (self.words.all || self.words.names.contains(field.name())) && !grouped(field.name()) {
                    let column = Ident::with_quote('"', field.name());
                    more.push(Expr::CompoundIdentifier(vec![shown.clone(), column]));
                }
            }
        }
        self.added |= !more.is_empty();
        groups.extend(more);
        ControlFlow::Continue(())
    }
}
