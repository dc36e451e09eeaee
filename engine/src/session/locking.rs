//! SELECT … FOR UPDATE: nothing is locked. What it read must be there still when the transaction commits its changes, or
//! COMMIT fails with 40001, as it does for rows that the transaction changes.
//!
//! ```text
//!   BEGIN; SELECT balance FROM accounts WHERE id = 1 FOR UPDATE;      noted: the whole row of account 1
//!   INSERT INTO payments …; COMMIT                                    40001 if somebody has changed that row
//! ```
//!
//! FOR SHARE means the same. Outside of a transaction there is nothing to note.

use arrow::array::RecordBatch;
use sqlparser::ast;

use super::Session;
use super::query::Argument;
use crate::catalog::{Relation, RelationKind};
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::error::{Error, Result};
use crate::state::arrangement::take;

fn not_allowed(with: &str) -> Error {
    Error::unsupported(format!("FOR UPDATE with {with}"))
}

impl Session {
    /// Notes the rows of tables that a query is made from.
    pub(super) async fn note_read(&mut self, query: &ast::Query, of: &[String], parameters: &[Argument]) -> Result<()> {
        let tables = self.locked_tables(query, of)?;
        if self.transaction.is_none() {
            return Ok(());
        }
        self.check_writable("SELECT FOR UPDATE")?;
        for (relation, alias) in tables {
            let found = self.rows_of_query(&rows_behind(query, &relation, &alias), &[], parameters).await?;
            let found =
                RecordBatch::try_new(relation.arrow_schema(), found.columns().to_vec()).map_err(Error::internal)?;
            let transaction = self.transaction.as_mut().expect("just seen");
            // Its own rows nobody else has seen.
            let mut all = vec![Delta::inserts(found)];
            for delta in transaction.writes.changes.get(&relation.id).into_iter().flatten() {
                let made: Vec<u32> =
                    (0..delta.len()).filter(|&row| delta.weight(row) > 0).map(|row| row as u32).collect();
                all.push(Delta::retractions(take(&delta.rows, &made)));
            }
            all.retain(|delta| !delta.is_empty());
            let noted = transaction.writes.expected.entry(relation.id).or_default();
            for delta in consolidate(&all) {
                let others: Vec<u32> =
                    (0..delta.len()).filter(|&row| delta.weight(row) > 0).map(|row| row as u32).collect();
                if !others.is_empty() {
                    noted.push(take(&delta.rows, &others));
                }
            }
        }
        Ok(())
    }

    /// The tables in FROM, with the names that they have there.
    fn locked_tables(&self, query: &ast::Query, of: &[String]) -> Result<Vec<(std::sync::Arc<Relation>, String)>> {
        let ast::SetExpr::Select(select) = query.body.as_ref() else { return Err(not_allowed("UNION or VALUES")) };
        let grouped = match &select.group_by {
            ast::GroupByExpr::All(_) => true,
            ast::GroupByExpr::Expressions(keys, _) => !keys.is_empty(),
        };
        if select.distinct.is_some() || grouped || select.having.is_some() {
            return Err(not_allowed("DISTINCT, GROUP BY or HAVING"));
        }
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        let with: Vec<String> = with.map(|table| crate::sql::parse::fold(&table.alias.name)).collect();
        let mut names: Vec<String> = Vec::new();
        let mut tables = Vec::new();
        for from in &select.from {
            let outer = from.joins.iter().any(|join| !is_inner(&join.join_operator));
            for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
                let (name, alias) = match factor {
                    ast::TableFactor::Table { name, alias, args: None, .. } => (Some(name), alias.as_ref()),
                    ast::TableFactor::Derived { alias, .. } => (None, alias.as_ref()),
                    ast::TableFactor::NestedJoin { .. } => return Err(not_allowed("a join in parentheses")),
                    _ => continue,
                };
                let name = name.map(crate::sql::parse::name_of).transpose()?;
                let known = alias.map(|alias| crate::sql::parse::fold(&alias.name));
                let known = known.or(name.as_ref().map(|name| name.name.clone())).unwrap_or_default();
                names.push(known.clone());
                if !of.is_empty() && !of.contains(&known) {
                    continue;
                }
                let Some(name) = name else { return Err(not_allowed("a subquery in FROM")) };
                // As in Postgres WITH queries are left out.
                if name.schema.is_none() && with.contains(&name.name) {
                    continue;
                }
                let Some(relation) = self.existing(&name) else { continue };
                match relation.kind {
                    RelationKind::Table => {}
                    // What is there stays as it is.
                    RelationKind::Stream => continue,
                    other => return Err(not_allowed(&format!("a {}", other.word()))),
                }
                if outer {
                    return Err(not_allowed("an outer join, a semi-join or the like"));
                }
                if alias.is_some_and(|alias| !alias.columns.is_empty()) {
                    return Err(not_allowed("an alias that names columns"));
                }
                tables.push((relation, known));
            }
        }
        match of.iter().find(|name| !names.contains(name)) {
            Some(name) => {
                let message = format!("relation \"{name}\" in FOR UPDATE clause not found in FROM clause");
                Err(Error::new("42P01", message))
            }
            None => Ok(tables),
        }
    }
}

fn is_inner(operator: &ast::JoinOperator) -> bool {
    use ast::JoinOperator::*;
    matches!(operator, Join(_) | Inner(_) | CrossJoin(_))
}

/// The query with a table's whole rows in the place of what it selects.
fn rows_behind(query: &ast::Query, relation: &Relation, alias: &str) -> ast::Query {
    let mut query = query.clone();
    let ast::SetExpr::Select(select) = query.body.as_mut() else { unreachable!("it has been looked at") };
    let column = |name: &String| {
        let parts = [alias, name].map(|part| ast::Ident::with_quote('"', part));
        ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts.to_vec()))
    };
    let before = std::mem::take(&mut select.projection);
    select.projection = relation.columns.iter().map(|c| column(&c.name)).collect();
    // What it is ordered by may be what it selected.
    if let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(items), .. }) = &mut query.order_by {
        for item in items {
            if let Some(selected) = selected_as(&before, &item.expr) {
                item.expr = selected;
            }
        }
    }
    query
}

/// What stands in the select list under this name, or at this place.
fn selected_as(items: &[ast::SelectItem], key: &ast::Expr) -> Option<ast::Expr> {
    let expression = |item: &ast::SelectItem| match item {
        ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => Some(expr.clone()),
        _ => None,
    };
    match key {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(place, _) => expression(items.get(place.parse::<usize>().ok()?.checked_sub(1)?)?),
            _ => None,
        },
        ast::Expr::Identifier(name) => items.iter().find_map(|item| match item {
            ast::SelectItem::ExprWithAlias { expr, alias }
                if crate::sql::parse::fold(alias) == crate::sql::parse::fold(name) =>
            {
                Some(expr.clone())
            }
            _ => None,
        }),
        _ => None,
    }
}
