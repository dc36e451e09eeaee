//! The names that tables in FROM are known by.
//!
//! ```text
//!   FROM s.a JOIN t.a ON s.a.x = t.a.x     FROM s.a AS "s.a" JOIN t.a AS "t.a" ON "s.a".x = "t.a".x
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, Expr, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor,
    VisitorMut,
};

use crate::error::{Error, Result};
use crate::sql::parse::fold;
use crate::sql::visit::WalkMut;

/// A name in FROM, with all that is written of it where it has no alias.
type Known = (String, Option<Vec<String>>);

/// Each table in FROM has a name of its own: 42712. Those of one name in several schemas are told apart by their schemas.
pub fn settle(query: &mut Query) -> Result<()> {
    struct Settle;
    impl VisitorMut for Settle {
        type Break = Box<Error>;
        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
            let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
            let shared = settle_select(select)?;
            match shared.is_empty() {
                true => ControlFlow::Continue(()),
                false => query.order_by.walk_mut(&mut BySchema(&shared)),
            }
        }
        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Box<Error>> {
            // Again where a query is nothing else: there is nothing left to be done.
            settle_select(select).map_continue(drop)
        }
    }
    match query.walk_mut(&mut Settle) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// The full names of tables that have aliases by them now.
fn settle_select(select: &mut Select) -> ControlFlow<Box<Error>, Vec<Vec<String>>> {
    let names = names_of(&select.from);
    let mut shared: Vec<Vec<String>> = Vec::new();
    for (i, (name, full)) in names.iter().enumerate() {
        for (_, its) in names[..i].iter().filter(|(other, _)| other == name) {
            match (full, its) {
                (Some(full), Some(its)) if full != its && full.len() > 1 && its.len() > 1 => {
                    shared.extend([full.clone(), its.clone()]);
                }
                _ => {
                    let error = Error::new("42712", format!("table name \"{name}\" specified more than once"));
                    return ControlFlow::Break(Box::new(error));
                }
            }
        }
    }
    if !shared.is_empty() {
        select.from.iter_mut().for_each(|table| name_all(table, &shared));
        select.walk_mut(&mut BySchema(&shared))?;
    }
    ControlFlow::Continue(shared)
}

fn names_of(from: &[ast::TableWithJoins]) -> Vec<Known> {
    fn collect(factor: &TableFactor, names: &mut Vec<Known>) {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => of_joins(table_with_joins, names),
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => names.push((fold(&alias.name), None)),
            TableFactor::Table { name, args: None, .. } => {
                let parts = folded(name);
                if let Some(last) = parts.last() {
                    names.push((last.clone(), Some(parts.clone())));
                }
            }
            _ => {}
        }
    }
    fn of_joins(table: &ast::TableWithJoins, names: &mut Vec<Known>) {
        collect(&table.relation, names);
        table.joins.iter().for_each(|join| collect(&join.relation, names));
    }
    let mut names = Vec::new();
    from.iter().for_each(|table| of_joins(table, &mut names));
    names
}

fn folded(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect()
}

fn joined(parts: &[String]) -> Ident {
    Ident::with_quote('"', parts.join("."))
}

/// Gives those tables that share their names aliases.
fn name_all(table: &mut ast::TableWithJoins, shared: &[Vec<String>]) {
    let joined_tables = table.joins.iter_mut().map(|join| &mut join.relation);
    for factor in std::iter::once(&mut table.relation).chain(joined_tables) {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => name_all(table_with_joins, shared),
            TableFactor::Table { name, args: None, alias, .. } if alias.is_none() => {
                let parts = folded(name);
                if shared.contains(&parts) {
                    *alias =
                        Some(ast::TableAlias { explicit: true, name: joined(&parts), columns: Vec::new(), at: None });
                }
            }
            _ => {}
        }
    }
}

/// Columns of tables that share a name, by their aliases.
struct BySchema<'a>(&'a [Vec<String>]);

impl VisitorMut for BySchema<'_> {
    type Break = Box<Error>;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Box<Error>> {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item {
                let parts = folded(name);
                if self.0.contains(&parts) {
                    *name = ObjectName::from(vec![joined(&parts)]);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Error>> {
        let Expr::CompoundIdentifier(parts) = expr else { return ControlFlow::Continue(()) };
        let Some((column, table)) = parts.split_last() else { return ControlFlow::Continue(()) };
        let table: Vec<String> = table.iter().map(fold).collect();
        if self.0.contains(&table) {
            *parts = vec![joined(&table), column.clone()];
        } else if let [name] = table.as_slice()
            && self.0.iter().any(|shared| shared.last() == Some(name))
        {
            let error = Error::new("42P09", format!("table reference \"{name}\" is ambiguous"));
            return ControlFlow::Break(Box::new(error));
        }
        ControlFlow::Continue(())
    }
}
