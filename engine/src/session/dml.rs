//! INSERT, UPDATE, DELETE, TRUNCATE: each becomes a delta.
//!
//! The rows are found and computed by ordinary queries over a snapshot; what comes out are whole old rows
//! to retract and whole new rows to insert. The commit path checks that the old ones are still there. A
//! statement of its own holds the table's lock from reading to commit, so that writers wait for one
//! another rather than fail.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use sqlparser::ast;

use super::defaults::{check_assigned, check_generated, defaulted_cells, is_default, without_defaults, without_given};
use super::on_conflict::has_subqueries;
use super::plans::Plans;
use super::query::{Argument, bind_query, fields_of, with_parameters};
use super::returning::with_rows;
use super::through_view::{Target, Through, base};
use super::{Outcome, Session};
use crate::catalog::{Catalog, Column, Relation, RelationKind};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::sql::bind::error_from;
use crate::sql::calls::check_one_value;
use crate::sql::literals::{is_typed, typed_columns};
use crate::sql::statement::{Delete, Insert, Name, Overriding, StatementKind, Update};
use crate::sql::values::quoted_text;
use crate::state::arrangement::take;
use crate::waits::Reason;

/// So often a statement is run before it fails because others were faster.
pub(super) const TRIES_MAX: usize = 100;

/// A quoted identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn full_name(relation: &Relation) -> String {
    format!("{}.{}", quoted(&relation.schema_name), quoted(&relation.name))
}

pub(super) fn as_batch(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    concat_batches(schema, batches).map_err(Error::internal)
}

impl Session {
    /// INSERT, UPDATE, DELETE, MERGE, TRUNCATE. Where others were in the way of a statement it runs again, see
    /// `contention.rs`.
    pub(super) async fn change(
        &mut self,
        kind: &StatementKind,
        plans: &Plans,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        let lost = |error: &Error| match kind {
            // A key that was free when it was looked for.
            StatementKind::Insert(insert) if insert.on_conflict.is_some() => matches!(error.code, "40001" | "23505"),
            _ => error.code == "40001",
        };
        let mut tries = 1;
        loop {
            let before = self.core.catalog();
            let error = match self.change_once(kind, plans, parameters).await {
                Err(error) => error,
                done => return done,
            };
            // To wait for another transaction is no failure.
            tries += usize::from(!self.contention.is_blocked());
            if tries > TRIES_MAX {
                return Err(error);
            }
            if lost(&error) {
                self.after_conflict(error).await?;
            } else if !self.is_replaced(&before, &error) {
                return Err(error);
            }
        }
    }

    /// Whether the relation, or the column, that a statement did not find may have been replaced since the statement's names were looked up:
    /// by ALTER TABLE, which may give its name to another.
    pub(super) fn is_replaced(&self, before: &Arc<Catalog>, error: &Error) -> bool {
        matches!(error.code, "42P01" | "42703") && !Arc::ptr_eq(before, &self.core.catalog())
    }

    /// While a table's rows are written anew nothing is inserted: it would only have to be done again. 40001 then, since
    /// another table may have its name.
    async fn await_altered(&self, relation: &Relation) -> Result<()> {
        if self.transaction.is_some() || !self.core.is_altering(relation.id) {
            return Ok(());
        }
        let lock = self.core.lock_of(relation.id).lock_owned();
        drop(self.core.waits.during(self.waiter(), Reason::Lock, Some(relation.id), lock).await);
        Err(Error::new("40001", format!("table \"{}\" was altered", relation.name)))
    }

    pub(super) async fn change_once(
        &mut self,
        kind: &StatementKind,
        plans: &Plans,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        match kind {
            StatementKind::Insert(insert) => self.insert(insert, plans, parameters).await,
            StatementKind::Update(update) => self.update(update, plans, parameters).await,
            StatementKind::Delete(delete) => self.delete(delete, plans, parameters).await,
            StatementKind::Merge(merge) => self.merge(merge, parameters).await,
            StatementKind::ChangeWith(change) => self.change_with(change, parameters).await,
            StatementKind::Truncate { names, restart } => self.truncate(names, *restart).await,
            _ => unreachable!("only these change rows"),
        }
    }

    pub(super) fn writable(&self, name: &Name, what: &str) -> Result<Arc<Relation>> {
        let relation = self.relation(name)?;
        match relation.kind {
            RelationKind::Table => Ok(relation),
            RelationKind::Stream if what == "insert into" => match relation.options.get("connector") {
                None => Ok(relation),
                Some(c) => Err(Error::new(
                    "42809",
                    format!("cannot insert into stream \"{}\": connector {c} feeds it", relation.name),
                )),
            },
            RelationKind::Stream => {
                Err(Error::new("42809", format!("cannot {what} stream \"{}\": it only grows", relation.name))
                    .hint("Rows that change belong into a table."))
            }
            kind => Err(Error::new("42809", format!("cannot {what} {} \"{}\"", kind.word(), relation.name))),
        }
    }

    /// Runs a query given as text, whose names may also mean the batches of `extra`.
    pub(super) async fn rows_of(
        &mut self,
        text: &str,
        extra: &[(&str, RecordBatch)],
        parameters: &[Argument],
    ) -> Result<RecordBatch> {
        let query = crate::sql::parse::query(text)?;
        self.rows_of_query(&query, extra, parameters).await
    }

    pub(super) async fn rows_of_query(
        &mut self,
        query: &ast::Query,
        extra: &[(&str, RecordBatch)],
        parameters: &[Argument],
    ) -> Result<RecordBatch> {
        let mut scope = self.scope();
        for (name, rows) in extra {
            let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).map_err(error_from)?;
            scope.extra.insert(name.to_string(), Arc::new(table));
        }
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, query, &fields_of(parameters))?;
        let plan = with_parameters(bound.plan, parameters)?;
        let (schema, rows) = self.run_plan(&scope.catalog, &state, plan, &bound.names).await?;
        let batches = self.collected(rows).await?;
        as_batch(&schema, &batches)
    }

    async fn insert(&mut self, insert: &Insert, plans: &Plans, parameters: &[Argument]) -> Result<Outcome> {
        let target = self.target(&insert.table, "insert into")?;
        let relation = target.table.clone();
        if relation.kind == RelationKind::Stream && insert.on_conflict.is_some() {
            return Err(Error::new("42809", "ON CONFLICT needs a table with a key"));
        }
        self.await_altered(&relation).await?;
        let named = target.named(&insert.columns, "insert into")?;
        let rows = match &insert.source {
            None => {
                let options = RecordBatchOptions::new().with_row_count(Some(1));
                let one =
                    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no columns");
                self.conform(&relation, &[], one, &[]).await?
            }
            Some(source) => {
                let mut defaulted = defaulted_cells(source);
                let query = || typed_cells(&relation, &named, without_defaults(source)).map(Cow::Owned);
                let given = self.rows_of_statement(plans, parameters, query).await?;
                let width = given.num_columns();
                if width > named.len() {
                    return Err(Error::new("42601", "INSERT has more expressions than target columns"));
                }
                if width < named.len() && !insert.columns.is_empty() {
                    return Err(Error::new("42601", "INSERT has more target columns than expressions"));
                }
                check_generated(&relation, &named[..width], &defaulted, insert.overriding)?;
                let (to, from) = (relation.arrow_schema(), given.schema());
                for (i, _) in typed_columns(source).iter().enumerate().filter(|(i, typed)| **typed && *i < width) {
                    crate::sql::cast::check_typed(from.field(i).data_type(), to.field(named[i]))?;
                }
                if insert.overriding == Some(Overriding::User) {
                    without_given(&relation, &named[..width], given.num_rows(), &mut defaulted);
                }
                self.conform(&relation, &named[..width], given, &defaulted).await?
            }
        };
        self.check_option(target.through.as_ref(), &rows).await?;
        let mut held = None;
        let (new, deltas) = match &target.on_conflict(insert.on_conflict.as_ref())? {
            None => {
                self.lock_inserted(&relation, &rows)?;
                (rows.clone(), vec![Delta::inserts(rows)])
            }
            Some(on_conflict) => {
                held = self.hold(&relation).await;
                let alias = insert.alias.as_deref().unwrap_or(&relation.name);
                let reads = self.transaction.as_ref().map(|t| std::mem::take(&mut *t.reading()));
                let (old, new) = self.resolve_conflicts(&relation, alias, rows, on_conflict, parameters).await?;
                if let (Some(mut reads), Some(transaction)) = (reads, &self.transaction) {
                    // Of the table itself it has looked at rows that are its own from here on.
                    if !has_subqueries(on_conflict) {
                        transaction.forget_reads();
                    }
                    transaction.reading().append(&mut reads);
                }
                self.lock_rows(&relation, &old, Some(&new)).await?;
                (new.clone(), vec![Delta::retractions(old), Delta::inserts(new)])
            }
        };
        let new = self.as_returned(&target, &insert.returning, new).await?;
        let answer = self
            .answer(
                target.shown(),
                insert.alias.as_deref(),
                "INSERT 0",
                new,
                insert.returning.as_deref(),
                vec![],
                parameters,
            )
            .await?;
        self.write(relation.id, deltas).await?;
        drop(held);
        Ok(answer)
    }

    /// The query that an INSERT runs, for describing its parameters.
    pub(super) fn insert_query(&self, insert: &Insert) -> Result<Option<ast::Query>> {
        let Some(source) = &insert.source else { return Ok(None) };
        let target = self.target(&insert.table, "insert into")?;
        let named = target.named(&insert.columns, "insert into")?;
        typed_cells(&target.table, &named, without_defaults(source)).map(Some)
    }

    /// Used by COPY: rows of these columns, decoded.
    pub(super) async fn insert_batches(
        &mut self,
        relation: &Arc<Relation>,
        named: &[usize],
        rows: Vec<RecordBatch>,
    ) -> Result<u64> {
        let (count, deltas) = self.conformed(relation, named, rows).await?;
        self.write(relation.id, deltas).await?;
        Ok(count)
    }

    /// How many rows there are, and what inserts them.
    pub(super) async fn conformed(
        &mut self,
        relation: &Arc<Relation>,
        named: &[usize],
        rows: Vec<RecordBatch>,
    ) -> Result<(u64, Vec<Delta>)> {
        let mut deltas = Vec::with_capacity(rows.len());
        let mut count = 0;
        for batch in rows {
            count += batch.num_rows() as u64;
            deltas.push(Delta::inserts(self.conform(relation, named, batch, &[]).await?));
        }
        Ok((count, deltas))
    }

    /// Outside a transaction: holds off other read-then-write statements on the table.
    pub(super) async fn hold(&self, relation: &Relation) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        match &self.transaction {
            None => {
                let lock = self.core.lock_of(relation.id).lock_owned();
                Some(self.core.waits.during(self.waiter(), Reason::Lock, Some(relation.id), lock).await)
            }
            Some(_) => None,
        }
    }

    async fn update(&mut self, update: &Update, plans: &Plans, parameters: &[Argument]) -> Result<Outcome> {
        let target = self.target(&update.table, "update")?;
        let relation = target.table.clone();
        let _held = self.hold(&relation).await;
        let query = || self.update_query(update, &target).map(Cow::Owned);
        let planned = self.planned(plans, &fields_of(parameters), query)?;
        let found = self.rows_of_planned(&planned, parameters).await?;
        let found = self.first_per_key(&relation, found, !update.from.is_empty())?;
        let schema = relation.arrow_schema();
        let width = schema.fields().len();
        let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
        let old = RecordBatch::try_new_with_options(schema.clone(), found.columns()[..width].to_vec(), &options)
            .map_err(Error::internal)?;
        self.lock_rows(&relation, &old, None).await?;
        let assignments = target.assignments(&update.assignments)?;
        let new = self.assigned(&relation, &old, &assignments, &found, width).await?;
        self.check_option(target.through.as_ref(), &new).await?;
        let deltas = vec![Delta::retractions(old), Delta::inserts(new.clone())];
        let others = match &update.returning {
            Some(_) => self.others(&update.with, &update.from)?,
            None => Vec::new(),
        };
        let others = with_rows(others, &found, width + update.assignments.len())?;
        let returning = update.returning.as_deref();
        let new = self.as_returned(&target, &update.returning, new).await?;
        let answer =
            self.answer(target.shown(), update.alias.as_deref(), "UPDATE", new, returning, others, parameters).await?;
        self.write(relation.id, deltas).await?;
        Ok(answer)
    }

    /// Rows with new values, which are columns of `values` from `at` on.
    pub(super) async fn assigned(
        &mut self,
        relation: &Relation,
        old: &RecordBatch,
        assignments: &[(String, ast::Expr)],
        values: &RecordBatch,
        at: usize,
    ) -> Result<RecordBatch> {
        let (schema, given) = (relation.arrow_schema(), values.schema());
        let mut columns = old.columns().to_vec();
        for (i, (column, expr)) in assignments.iter().enumerate() {
            let to = named_columns(relation, std::slice::from_ref(column))?[0];
            columns[to] = if is_default(expr) {
                self.default_value(relation, to, old.num_rows()).await?
            } else {
                let (given, field) = (given.field(at + i), schema.field(to));
                if is_typed(expr) {
                    crate::sql::cast::check_typed(given.data_type(), field)?;
                }
                crate::sql::cast::assign(values.column(at + i), given, field, &self.style()?)?
            };
        }
        self.checked(relation, columns, old.num_rows())
    }

    /// The old rows and, after them, the assigned values.
    pub(super) fn update_query(&self, update: &Update, target: &Target) -> Result<ast::Query> {
        let assignments = target.assignments(&update.assignments)?;
        let values = assigned_values(&target.table, &assignments)?.into_iter().enumerate();
        let named = |(i, expr)| ast::SelectItem::ExprWithAlias { expr, alias: ast::Ident::new(format!("__new_{i}")) };
        let mut values: Vec<_> = values.map(named).collect();
        values.extend(self.shown(&update.returning, &update.with, &update.from)?);
        let query = target_query(target, update.alias.as_deref(), values, &update.from, update.filter.as_ref())?;
        Ok(ast::Query { with: update.with.clone(), ..query })
    }

    pub(super) fn delete_query(&self, delete: &Delete, target: &Target) -> Result<ast::Query> {
        let values = self.shown(&delete.returning, &delete.with, &delete.using)?;
        let query = target_query(target, delete.alias.as_deref(), values, &delete.using, delete.filter.as_ref())?;
        Ok(ast::Query { with: delete.with.clone(), ..query })
    }

    /// UPDATE … FROM and DELETE … USING may find a row several times: the first counts. Rows of a table without a key
    /// are told apart by the number that [`target_query`] gives them in the last column, which is taken off.
    fn first_per_key(&self, relation: &Relation, mut found: RecordBatch, joined: bool) -> Result<RecordBatch> {
        if !joined {
            return Ok(found);
        }
        let key: Vec<ArrayRef> = if relation.primary_key.is_empty() {
            vec![found.remove_column(found.num_columns() - 1)]
        } else {
            relation.primary_key.iter().map(|&k| found.column(k).clone()).collect()
        };
        let types: Vec<DataType> = key.iter().map(|c| c.data_type().clone()).collect();
        let mut table = crate::state::key_table::KeyTable::new(&types)?;
        let keys = table.encoder().encode_rows(&key, found.num_rows());
        let mut ids = Vec::new();
        table.intern(&keys, &mut ids);
        let mut seen = vec![false; table.bound() as usize];
        let first: Vec<u32> = (0..found.num_rows() as u32)
            .filter(|&r| !std::mem::replace(&mut seen[ids[r as usize] as usize], true))
            .collect();
        Ok(take(&found, &first))
    }

    async fn delete(&mut self, delete: &Delete, plans: &Plans, parameters: &[Argument]) -> Result<Outcome> {
        let target = self.target(&delete.table, "delete from")?;
        let relation = target.table.clone();
        let _held = self.hold(&relation).await;
        let query = || self.delete_query(delete, &target).map(Cow::Owned);
        let planned = self.planned(plans, &fields_of(parameters), query)?;
        let found = self.rows_of_planned(&planned, parameters).await?;
        let found = self.first_per_key(&relation, found, !delete.using.is_empty())?;
        let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
        let schema = relation.arrow_schema();
        let width = schema.fields().len();
        let old = RecordBatch::try_new_with_options(schema, found.columns()[..width].to_vec(), &options)
            .map_err(Error::internal)?;
        self.lock_rows(&relation, &old, None).await?;
        let deltas = vec![Delta::retractions(old.clone())];
        let others = match &delete.returning {
            Some(_) => self.others(&delete.with, &delete.using)?,
            None => Vec::new(),
        };
        let others = with_rows(others, &found, width)?;
        let returning = delete.returning.as_deref();
        let old = self.as_returned(&target, &delete.returning, old).await?;
        let answer =
            self.answer(target.shown(), delete.alias.as_deref(), "DELETE", old, returning, others, parameters).await?;
        self.write(relation.id, deltas).await?;
        Ok(answer)
    }

    /// All tables are emptied in one epoch.
    async fn truncate(&mut self, names: &[Name], restart: bool) -> Result<Outcome> {
        let mut relations = BTreeMap::new();
        for name in names {
            let relation = self.writable(name, "truncate")?;
            relations.insert(relation.id, relation);
        }
        // Locked by rising id, so that two that truncate the same tables do not wait for each other for ever.
        let mut held = Vec::new();
        for relation in relations.values() {
            held.push(self.hold(relation).await);
        }
        let (mut changes, catalog) = (BTreeMap::new(), self.core.catalog());
        let sequences = relations.values().filter(|_| restart).flat_map(|relation| {
            let owned = catalog.owned_sequences(relation.id).flat_map(|sequence| sequence.sequences());
            relation.sequences().chain(owned).cloned().collect::<Vec<_>>()
        });
        let sequences: Vec<_> = sequences.collect();
        for (id, relation) in relations {
            let target = Target { table: relation.clone(), through: None };
            let query = target_query(&target, None, Vec::new(), &[], None)?;
            let found = self.rows_of_query(&query, &[], &[]).await?;
            let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
            let old = RecordBatch::try_new_with_options(relation.arrow_schema(), found.columns().to_vec(), &options)
                .map_err(Error::internal)?;
            self.lock_rows(&relation, &old, None).await?;
            changes.insert(id, vec![Delta::retractions(old)]);
        }
        self.write_all(changes).await?;
        self.restart(sequences).await?;
        Ok(Outcome::Done("TRUNCATE TABLE".into()))
    }
}

/// A text of ours with the user's own parts put in as they were parsed, so that their errors have places.
pub(super) fn with_parts(text: &str, change: impl FnOnce(&mut ast::Select)) -> Result<ast::Query> {
    let mut query = *crate::sql::parse::query(text)?;
    match query.body.as_mut() {
        ast::SetExpr::Select(select) => change(select),
        _ => unreachable!("the text is a SELECT"),
    }
    Ok(query)
}

/// The rows of a table that match, whole, and after their columns `values`; through a view they are found in what that shows. Joined to others, rows of a table without a
/// key get a number of their own, in one column more.
fn target_query(
    target: &Target,
    alias: Option<&str>,
    values: Vec<ast::SelectItem>,
    others: &[ast::TableWithJoins],
    filter: Option<&ast::Expr>,
) -> Result<ast::Query> {
    let relation = &target.table;
    let name = alias.unwrap_or(&target.shown().name);
    let alias = quoted(name);
    let own = |(i, column): (usize, &Column)| match &target.through {
        Some(_) => base(i),
        None => column.name.clone(),
    };
    let own = relation.columns.iter().enumerate().map(own);
    let columns: Vec<String> = own.map(|name| format!("{alias}.{}", quoted(&name))).collect();
    let numbered = !others.is_empty() && relation.primary_key.is_empty();
    let source = target.through.as_ref().map_or_else(|| full_name(relation), Through::source);
    let source = match numbered {
        // What is in parentheses needs a name.
        true => format!("(SELECT *, row_number() OVER () AS __row FROM {source} AS found)"),
        false => source,
    };
    let text = format!("SELECT {} FROM {source} AS {alias}", columns.join(", "));
    with_parts(&text, |select| {
        select.projection.extend(values);
        if numbered {
            let row = ast::Expr::CompoundIdentifier(vec![ast::Ident::with_quote('"', name), ast::Ident::new("__row")]);
            select.projection.push(ast::SelectItem::UnnamedExpr(row));
        }
        select.from.extend_from_slice(others);
        select.selection = filter.cloned();
    })
}

/// `VALUES ($1, 'x')` into columns: each parameter that stands alone has its column's type, and so has each literal
/// in quotes beside something else, and each number where some have so many digits that all might not fit into one numeric.
fn typed_cells(relation: &Relation, named: &[usize], mut query: ast::Query) -> Result<ast::Query> {
    let values = match query.body.as_mut() {
        ast::SetExpr::Values(values) => values,
        ast::SetExpr::Select(select) => {
            type_items(relation, named, &mut select.projection)?;
            return Ok(query);
        }
        _ => return Ok(query),
    };
    let is = |cell: &ast::Expr, what: fn(&ast::Value) -> bool| matches!(cell, ast::Expr::Value(v) if what(&v.value));
    let parameter = |cell: &ast::Expr| is(cell, |v| matches!(v, ast::Value::Placeholder(_)));
    let null = |cell: &ast::Expr| is(cell, |v| *v == ast::Value::Null);
    for (i, &column) in named.iter().enumerate() {
        let column = &relation.columns[column];
        let sql_type = column.sql_type.as_str();
        let text = sql_type == "text" || sql_type.starts_with("character");
        let cells = || values.rows.iter().filter_map(|row| row.get(i));
        let mixed = cells().any(|cell| quoted_text(cell).is_some())
            && cells().any(|cell| quoted_text(cell).is_none() && !null(cell) && !parameter(cell));
        let fraction = sql_type.starts_with("numeric") || matches!(sql_type, "real" | "double precision");
        let long = fraction && cells().any(|cell| number_of(cell).is_some_and(|digits| digits.len() > 15));
        for cell in values.rows.iter_mut().filter_map(|row| row.get_mut(i)) {
            if let Some(typed) = typed_parameter(column, cell)? {
                *cell = typed;
                continue;
            }
            if let Some(digits) = number_of(cell).filter(|_| long) {
                *cell = crate::sql::parse::parse_expression(&format!("CAST('{digits}' AS {sql_type})"))?;
                continue;
            }
            // A cast to varchar(n) would cut what is to be refused.
            let to = match () {
                _ if mixed && text && !null(cell) => "text",
                _ if mixed && quoted_text(cell).is_some() && has_own_input(sql_type) => sql_type,
                _ => continue,
            };
            *cell = crate::sql::parse::parse_expression(&format!("CAST({cell} AS {to})"))?;
        }
    }
    Ok(query)
}

/// The same of `SELECT $1, 'x' WHERE …`.
fn type_items(relation: &Relation, named: &[usize], items: &mut [ast::SelectItem]) -> Result<()> {
    for (item, &column) in items.iter_mut().zip(named) {
        let (ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }) = item else {
            // As many columns as it has rows of come before the next one.
            return Ok(());
        };
        if let Some(typed) = typed_parameter(&relation.columns[column], expr)? {
            *expr = typed;
        }
    }
    Ok(())
}

/// A number that is written out, with its sign.
fn number_of(cell: &ast::Expr) -> Option<String> {
    match cell {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, _) => Some(digits.clone()),
            _ => None,
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => match expr.as_ref() {
            ast::Expr::Value(_) => Some(format!("-{}", number_of(expr)?)),
            _ => None,
        },
        _ => None,
    }
}

/// What is assigned to columns, as it is to be computed; NULL for DEFAULT.
pub(super) fn assigned_values(relation: &Relation, assignments: &[(String, ast::Expr)]) -> Result<Vec<ast::Expr>> {
    let mut values = Vec::new();
    for (i, (column, expr)) in assignments.iter().enumerate() {
        let column = &relation.columns[named_columns(relation, std::slice::from_ref(column))?[0]];
        if assignments[..i].iter().any(|(name, _)| *name == column.name) {
            return Err(Error::new("42601", format!("multiple assignments to same column \"{}\"", column.name)));
        }
        check_assigned(column, expr)?;
        check_one_value(expr, "UPDATE")?;
        values.push(cell_value(column, expr)?);
    }
    Ok(values)
}

/// A value for a column, as it is to be computed; NULL for DEFAULT.
pub(super) fn cell_value(column: &Column, expr: &ast::Expr) -> Result<ast::Expr> {
    if is_default(expr) {
        return Ok(ast::Expr::Value(ast::Value::Null.into()));
    }
    Ok(typed_parameter(column, expr)?.unwrap_or_else(|| ast::Expr::Nested(Box::new(expr.clone()))))
}

/// A parameter that stands alone where a column's value is wanted has the column's type.
pub(super) fn typed_parameter(column: &Column, expr: &ast::Expr) -> Result<Option<ast::Expr>> {
    match expr {
        ast::Expr::Value(v) if matches!(v.value, ast::Value::Placeholder(_)) => {
            crate::sql::parse::parse_expression(&format!("CAST({expr} AS {})", column.sql_type)).map(Some)
        }
        _ => Ok(None),
    }
}

pub(super) fn relaxed(schema: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

/// Indices of the named columns; of all when none is named.
pub(super) fn named_columns(relation: &Relation, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..relation.columns.len()).collect());
    }
    let mut out = Vec::new();
    for name in names {
        let at = relation.columns.iter().position(|c| c.name == *name).ok_or_else(|| {
            Error::new("42703", format!("column \"{name}\" of relation \"{}\" does not exist", relation.name))
        })?;
        if out.contains(&at) {
            return Err(Error::new("42701", format!("column \"{name}\" specified more than once")));
        }
        out.push(at);
    }
    Ok(out)
}

/// Whether text is read into another form for a type, rather than checked.
fn has_own_input(sql_type: &str) -> bool {
    sql_type.ends_with("[]")
        || crate::sql::types::field("", sql_type, true).is_ok_and(|field| *field.data_type() != DataType::Utf8)
}
