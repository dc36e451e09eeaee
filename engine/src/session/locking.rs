//! SELECT … FOR UPDATE: the rows of tables that a query is made from are locked, as if the transaction had changed them
//! (`contention.rs`). Locks being a courtesy, what was read must be there still when the transaction commits its changes, or
//! COMMIT fails with 40001.
//!
//! ```text
//!   BEGIN; SELECT balance FROM accounts WHERE id = 1 FOR UPDATE;      locked and noted: the whole row of account 1
//!   UPDATE accounts SET balance = … WHERE id = 1; COMMIT              others that want the row wait until here
//! ```
//!
//! Outside of a transaction the rows are waited for or skipped, and not locked.

use arrow::array::RecordBatch;
use sqlparser::ast;

use super::Session;
use super::contention::lock_keys;
use super::query::{Argument, bind_query, fields_of};
use crate::catalog::{Relation, RelationKind};
use crate::error::{Error, Result};
use crate::row_locks::Mode;
use crate::sql::locking::{Locking, LockingSubquery, WhenLocked};
use crate::state::arrangement::take;
use crate::waits::Reason;

fn not_allowed(with: &str) -> Error {
    Error::unsupported(format!("FOR UPDATE with {with}"))
}

impl Session {
    /// Locks the rows of tables that a query is made from, which then is to run over the same snapshot.
    pub(super) async fn lock_read(
        &mut self,
        query: &ast::Query,
        locking: &Locking,
        parameters: &[Argument],
    ) -> Result<()> {
        let tables = self.locked_tables(query, &locking.of)?;
        match self.transaction.is_some() {
            true => self.check_writable("SELECT FOR UPDATE")?,
            false if tables.iter().all(|(relation, _)| self.core.row_locks.is_free(relation.id)) => return Ok(()),
            false => {}
        }
        'again: loop {
            for (relation, alias) in &tables {
                let found = self.rows_of_query(&rows_behind(query, relation, alias), &[], parameters).await?;
                let found =
                    RecordBatch::try_new(relation.arrow_schema(), found.columns().to_vec()).map_err(Error::internal)?;
                match self.lock_found(relation, &found, locking).await {
                    Ok(true) => {}
                    Ok(false) => continue 'again,
                    Err(error) if error.code == "40001" => {
                        self.after_conflict(error).await?;
                        continue 'again;
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
    }

    /// The same of a query within a statement, which must mean the same by itself.
    pub(super) async fn lock_subquery(&mut self, subquery: &LockingSubquery, parameters: &[Argument]) -> Result<()> {
        let scope = self.scope();
        let state = self.state(&scope)?;
        bind_query(&state, &scope, &subquery.query, &fields_of(parameters)).map_err(|error| match error.code {
            "42703" | "42P01" => not_allowed("what the query around a subquery has"),
            _ => error,
        })?;
        self.lock_read(&subquery.query, &subquery.locking, parameters).await
    }

    /// `false` where rows are to be found anew, without those that others have.
    async fn lock_found(&mut self, relation: &Relation, found: &RecordBatch, locking: &Locking) -> Result<bool> {
        let mode = if locking.shared { Mode::Shared } else { Mode::Exclusive };
        let keys = lock_keys(relation, found)?;
        let me = self.transaction.as_ref().and_then(|t| t.locks.as_ref()).map(|locks| locks.holder);
        // Nobody who waits or skips is impatient.
        let blocks = |key: u64| self.core.row_locks.blocker(relation.id, &[key], me, mode, &[]).is_some();
        match locking.when_locked {
            WhenLocked::Wait => {}
            WhenLocked::Fail if keys.iter().any(|(_, key)| blocks(*key)) => {
                let message = format!("could not obtain lock on row in relation \"{}\"", relation.name);
                return Err(Error::new("55P03", message));
            }
            WhenLocked::Fail => {}
            WhenLocked::Skip => {
                let mut locked: Vec<u32> = keys.iter().filter(|(_, key)| blocks(*key)).map(|(row, _)| *row).collect();
                locked.sort_unstable();
                locked.dedup();
                if !locked.is_empty() {
                    self.contention.skip(relation.id, take(found, &locked));
                    return Ok(false);
                }
            }
        }
        let keys: Vec<u64> = keys.into_iter().map(|(_, key)| key).collect();
        if self.transaction.is_none() {
            self.wait_unless_free(relation, &keys, mode)?;
            return Ok(true);
        }
        if found.num_rows() == 0 {
            return Ok(true);
        }
        let held = self.core.lock_of(relation.id).lock_owned();
        let _held = self.core.waits.during(self.waiter(), Reason::Lock, Some(relation.id), held).await;
        self.lock_keys(relation, &keys, mode)?;
        self.check_current(relation, found).await?;
        let others = self.of_others(relation.id, found);
        let transaction = self.transaction.as_mut().expect("just seen");
        transaction.writes.expected.entry(relation.id).or_default().extend(others);
        Ok(true)
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
