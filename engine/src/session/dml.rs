//! INSERT, UPDATE, DELETE, TRUNCATE: each becomes a delta.
//!
//! The rows are found and computed by ordinary queries over a snapshot; what comes out are whole old rows
//! to retract and whole new rows to insert. The commit path checks that the old ones are still there. A
//! statement of its own holds the table's lock from reading to commit, so that writers wait for one
//! another rather than fail.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use sqlparser::ast;

use super::plans::Plans;
use super::query::{Argument, Scope, bind_query, fields_of, relations_of, with_parameters};
use super::{Outcome, Session};
use crate::catalog::{Column, Relation, RelationKind};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::serve::snapshot::Snapshot;
use crate::sql::bind::error_from;
use crate::sql::grouped::names_of;
use crate::sql::statement::{Delete, Insert, Name, OnConflict, StatementKind, Update};
use crate::sql::values::quoted_text;
use crate::state::arrangement::take;
use crate::waits::Reason;

/// So often a statement of its own is run before it fails because others were faster.
const TRIES_MAX: usize = 100;

/// A quoted identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn full_name(relation: &Relation) -> String {
    format!("{}.{}", quoted(&relation.schema_name), quoted(&relation.name))
}

/// A default must be an expression of the column's type.
pub(super) fn check_default(session: &Session, column: &Column, default: &str) -> Result<()> {
    let text = format!("SELECT CAST(({default}) AS {})", column.sql_type);
    let scope = session.scope();
    let state = session.state(&scope)?;
    bind_query(&state, &scope, &*crate::sql::parse::query(&text)?, &[]).map(|_| ())
}

fn as_batch(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    concat_batches(schema, batches).map_err(Error::internal)
}

impl Session {
    /// INSERT, UPDATE, DELETE, TRUNCATE. Between reading and commit a transaction, which holds no locks, may have
    /// changed what was read: outside of transactions the statement then runs again.
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
        for _ in 1..TRIES_MAX {
            match self.change_once(kind, plans, parameters).await {
                Err(error) if self.transaction.is_none() && lost(&error) => {}
                done => return done,
            }
        }
        self.change_once(kind, plans, parameters).await
    }

    async fn change_once(&mut self, kind: &StatementKind, plans: &Plans, parameters: &[Argument]) -> Result<Outcome> {
        match kind {
            StatementKind::Insert(insert) => self.insert(insert, plans, parameters).await,
            StatementKind::Update(update) => self.update(update, plans, parameters).await,
            StatementKind::Delete(delete) => self.delete(delete, plans, parameters).await,
            StatementKind::Truncate { names } => self.truncate(names).await,
            _ => unreachable!("only these change rows"),
        }
    }

    fn writable(&self, name: &Name, what: &str) -> Result<Arc<Relation>> {
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
    async fn rows_of(
        &mut self,
        text: &str,
        extra: &[(&str, RecordBatch)],
        parameters: &[Argument],
    ) -> Result<RecordBatch> {
        let query = crate::sql::parse::query(text)?;
        self.rows_of_query(&query, extra, parameters).await
    }

    async fn rows_of_query(
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

    /// The rows of a query as whole rows of the relation: cast, columns that were not named by default.
    async fn conform(
        &mut self,
        relation: &Arc<Relation>,
        named: &[usize],
        rows: RecordBatch,
        defaulted: &[Vec<bool>],
    ) -> Result<RecordBatch> {
        let schema = relation.arrow_schema();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for (i, field) in schema.fields().iter().enumerate() {
            let column = match named.iter().position(|&n| n == i) {
                Some(given) => {
                    let style = self.settings.zone();
                    let cast = crate::sql::cast::assign(rows.column(given), field, &style)
                        .map_err(|e| e.detail(format!("Column \"{}\".", field.name())))?;
                    match defaulted.get(given).filter(|d| d.contains(&true)) {
                        None => cast,
                        Some(mask) => {
                            let default = self.default_value(relation, i, rows.num_rows()).await?;
                            let mask = arrow::array::BooleanArray::from(mask.clone());
                            arrow::compute::kernels::zip::zip(&mask, &default, &cast).map_err(Error::internal)?
                        }
                    }
                }
                None => self.default_value(relation, i, rows.num_rows()).await?,
            };
            columns.push(column);
        }
        check_not_null(relation, &columns)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(schema, columns, &options).map_err(Error::internal)
    }

    /// A column's default, once for each of `rows` rows.
    async fn default_value(&mut self, relation: &Relation, column: usize, rows: usize) -> Result<ArrayRef> {
        let schema = relation.arrow_schema();
        let field = schema.field(column);
        let Some(default) = relation.columns[column].default.clone() else {
            return Ok(new_null_array(field.data_type(), rows));
        };
        // A volatile default has a value for each row.
        let one = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(rows)),
        )
        .expect("no columns");
        let text = format!("SELECT CAST(({default}) AS {}) AS v FROM __rows", relation.columns[column].sql_type);
        let values = self.rows_of(&text, &[("__rows", one)], &[]).await?;
        crate::sql::cast::assign(values.column(0), field, &self.settings.zone())
    }

    async fn insert(&mut self, insert: &Insert, plans: &Plans, parameters: &[Argument]) -> Result<Outcome> {
        let relation = self.writable(&insert.table, "insert into")?;
        if relation.kind == RelationKind::Stream && insert.on_conflict.is_some() {
            return Err(Error::new("42809", "ON CONFLICT needs a table with a primary key"));
        }
        let named = named_columns(&relation, &insert.columns)?;
        let rows = match &insert.source {
            None => {
                let options = RecordBatchOptions::new().with_row_count(Some(1));
                let one =
                    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no columns");
                self.conform(&relation, &[], one, &[]).await?
            }
            Some(source) => {
                let defaulted = defaulted_cells(source);
                let query = || typed_cells(&relation, &named, without_defaults(source)).map(Cow::Owned);
                let given = self.rows_of_statement(plans, parameters, query).await?;
                let width = given.num_columns();
                if width > named.len() {
                    return Err(Error::new("42601", "INSERT has more expressions than target columns"));
                }
                if width < named.len() && !insert.columns.is_empty() {
                    return Err(Error::new("42601", "INSERT has more target columns than expressions"));
                }
                self.conform(&relation, &named[..width], given, &defaulted).await?
            }
        };
        let mut held = None;
        let (new, deltas) = match &insert.on_conflict {
            None => (rows.clone(), vec![Delta::inserts(rows)]),
            Some(on_conflict) => {
                held = self.hold(&relation).await;
                let alias = insert.alias.as_deref().unwrap_or(&relation.name);
                let (old, new) = self.resolve_conflicts(&relation, alias, rows, on_conflict, parameters).await?;
                (new.clone(), vec![Delta::retractions(old), Delta::inserts(new)])
            }
        };
        let answer = self
            .answer(
                &relation,
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
        let relation = self.relation(&insert.table)?;
        let named = named_columns(&relation, &insert.columns)?;
        typed_cells(&relation, &named, without_defaults(source)).map(Some)
    }

    /// Used by COPY: rows of these columns, decoded.
    pub(super) async fn insert_batches(
        &mut self,
        relation: &Arc<Relation>,
        named: &[usize],
        rows: Vec<RecordBatch>,
    ) -> Result<u64> {
        let mut deltas = Vec::with_capacity(rows.len());
        let mut count = 0;
        for batch in rows {
            count += batch.num_rows() as u64;
            deltas.push(Delta::inserts(self.conform(relation, named, batch, &[]).await?));
        }
        self.write(relation.id, deltas).await?;
        Ok(count)
    }

    /// Outside a transaction: holds off other read-then-write statements on the table.
    async fn hold(&self, relation: &Relation) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        match &self.transaction {
            None => {
                let lock = self.core.lock_of(relation.id).lock_owned();
                Some(self.core.waits.during(self.waiter(), Reason::Lock, Some(relation.id), lock).await)
            }
            Some(_) => None,
        }
    }

    async fn resolve_conflicts(
        &mut self,
        relation: &Arc<Relation>,
        alias: &str,
        rows: RecordBatch,
        on_conflict: &OnConflict,
        parameters: &[Argument],
    ) -> Result<(RecordBatch, RecordBatch)> {
        named_columns(relation, &on_conflict.target)?;
        let key: Vec<&str> = relation.primary_key.iter().map(|&k| relation.columns[k].name.as_str()).collect();
        let mut target: Vec<&str> = on_conflict.target.iter().map(String::as_str).collect();
        let mut sorted = key.clone();
        sorted.sort_unstable();
        target.sort_unstable();
        if (key.is_empty() && !on_conflict.target.is_empty()) || (!target.is_empty() && target != sorted) {
            return Err(Error::new(
                "42P10",
                "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            ));
        }
        if key.is_empty() {
            return Ok((rows.slice(0, 0), rows));
        }
        // The first row of each key stands for it; DO UPDATE may not touch a row twice.
        let key_columns: Vec<ArrayRef> = relation.primary_key.iter().map(|&k| rows.column(k).clone()).collect();
        let types: Vec<DataType> = key_columns.iter().map(|c| c.data_type().clone()).collect();
        let mut table = crate::state::key_table::KeyTable::new(&types)?;
        let keys = table.encoder().encode_rows(&key_columns, rows.num_rows());
        let mut ids = Vec::new();
        table.intern(&keys, &mut ids);
        let mut seen = vec![false; table.bound() as usize];
        let first: Vec<u32> = (0..rows.num_rows() as u32)
            .filter(|&r| !std::mem::replace(&mut seen[ids[r as usize] as usize], true))
            .collect();
        if first.len() < rows.num_rows() && !on_conflict.assignments.is_empty() {
            return Err(Error::new("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time").hint(
                "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
            ));
        }
        let rows = take(&rows, &first);
        let width = relation.columns.len();
        let query = conflict_query(relation, alias, on_conflict)?;
        let found = self.rows_of_query(&query, &[("excluded", rows)], parameters).await?;
        let schema = relation.arrow_schema();
        let part = |from: usize, indices: &[u32]| -> Result<RecordBatch> {
            let columns = found.columns()[from..from + width].to_vec();
            let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
            let batch =
                RecordBatch::try_new_with_options(relaxed(&schema), columns, &options).map_err(Error::internal)?;
            let taken = take(&batch, indices);
            RecordBatch::try_new_with_options(
                schema.clone(),
                taken.columns().to_vec(),
                &RecordBatchOptions::new().with_row_count(Some(indices.len())),
            )
            .map_err(Error::internal)
        };
        let there = |row: usize| found.column(0).is_valid(row);
        let fresh: Vec<u32> = (0..found.num_rows()).filter(|&r| !there(r)).map(|r| r as u32).collect();
        let fresh_rows = part(1 + width, &fresh)?;
        if on_conflict.assignments.is_empty() {
            return Ok((fresh_rows.slice(0, 0), fresh_rows));
        }
        let wanted = found.column(found.num_columns() - 1).as_boolean().clone();
        let hit: Vec<u32> = (0..found.num_rows())
            .filter(|&r| there(r) && wanted.is_valid(r) && wanted.value(r))
            .map(|r| r as u32)
            .collect();
        let old = part(1, &hit)?;
        let mut columns = old.columns().to_vec();
        for (i, (column, _)) in on_conflict.assignments.iter().enumerate() {
            let at = named_columns(relation, std::slice::from_ref(column))?[0];
            let values = arrow::compute::take(
                found.column(1 + 2 * width + i),
                &arrow::array::UInt32Array::from(hit.clone()),
                None,
            )
            .map_err(Error::internal)?;
            columns[at] = crate::sql::cast::assign(&values, schema.field(at), &self.settings.zone())?;
        }
        check_not_null(relation, &columns)?;
        let options = RecordBatchOptions::new().with_row_count(Some(hit.len()));
        let updated = RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(Error::internal)?;
        Ok((old, as_batch(&schema, &[updated, fresh_rows])?))
    }

    async fn update(&mut self, update: &Update, plans: &Plans, parameters: &[Argument]) -> Result<Outcome> {
        let relation = self.writable(&update.table, "update")?;
        let _held = self.hold(&relation).await;
        let query = || self.update_query(update, &relation).map(Cow::Owned);
        let planned = self.planned(plans, &fields_of(parameters), query)?;
        let found = self.rows_of_planned(&planned, parameters).await?;
        let found = self.first_per_key(&relation, found, !update.from.is_empty())?;
        let schema = relation.arrow_schema();
        let width = schema.fields().len();
        let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
        let old = RecordBatch::try_new_with_options(schema.clone(), found.columns()[..width].to_vec(), &options)
            .map_err(Error::internal)?;
        let mut columns = old.columns().to_vec();
        for (i, (column, expr)) in update.assignments.iter().enumerate() {
            let at = named_columns(&relation, std::slice::from_ref(column))?[0];
            columns[at] = if is_default(expr) {
                self.default_value(&relation, at, found.num_rows()).await?
            } else {
                crate::sql::cast::assign(found.column(width + i), schema.field(at), &self.settings.zone())?
            };
        }
        check_not_null(&relation, &columns)?;
        let new = RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(Error::internal)?;
        let deltas = vec![Delta::retractions(old), Delta::inserts(new.clone())];
        let others = match &update.returning {
            Some(_) => self.others(&update.with, &update.from)?,
            None => Vec::new(),
        };
        let others = with_rows(others, &found, width + update.assignments.len())?;
        let returning = update.returning.as_deref();
        let answer =
            self.answer(&relation, update.alias.as_deref(), "UPDATE", new, returning, others, parameters).await?;
        self.write(relation.id, deltas).await?;
        Ok(answer)
    }

    /// The old rows and, after them, the assigned values.
    pub(super) fn update_query(&self, update: &Update, relation: &Relation) -> Result<ast::Query> {
        let mut values = Vec::new();
        for (i, (column, expr)) in update.assignments.iter().enumerate() {
            let at = named_columns(relation, std::slice::from_ref(column))?[0];
            if update.assignments[..i].iter().any(|(c, _)| c == column) {
                return Err(Error::new("42601", format!("multiple assignments to same column \"{column}\"")));
            }
            let expr = match expr {
                e if is_default(e) => ast::Expr::Value(ast::Value::Null.into()),
                e => match typed_parameter(&relation.columns[at], e)? {
                    Some(typed) => typed,
                    None => ast::Expr::Nested(Box::new(e.clone())),
                },
            };
            values.push(ast::SelectItem::ExprWithAlias { expr, alias: ast::Ident::new(format!("__new_{i}")) });
        }
        values.extend(self.shown(&update.returning, &update.with, &update.from)?);
        let query = rows_query(relation, update.alias.as_deref(), values, &update.from, update.filter.as_ref())?;
        Ok(ast::Query { with: update.with.clone(), ..query })
    }

    pub(super) fn delete_query(&self, delete: &Delete, relation: &Relation) -> Result<ast::Query> {
        let values = self.shown(&delete.returning, &delete.with, &delete.using)?;
        let query = rows_query(relation, delete.alias.as_deref(), values, &delete.using, delete.filter.as_ref())?;
        Ok(ast::Query { with: delete.with.clone(), ..query })
    }

    /// UPDATE … FROM and DELETE … USING may find a row several times: the first counts. Rows of a table without a key
    /// are told apart by the number that [`rows_query`] gives them in the last column, which is taken off.
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
        let relation = self.writable(&delete.table, "delete from")?;
        let _held = self.hold(&relation).await;
        let query = || self.delete_query(delete, &relation).map(Cow::Owned);
        let planned = self.planned(plans, &fields_of(parameters), query)?;
        let found = self.rows_of_planned(&planned, parameters).await?;
        let found = self.first_per_key(&relation, found, !delete.using.is_empty())?;
        let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
        let schema = relation.arrow_schema();
        let width = schema.fields().len();
        let old = RecordBatch::try_new_with_options(schema, found.columns()[..width].to_vec(), &options)
            .map_err(Error::internal)?;
        let deltas = vec![Delta::retractions(old.clone())];
        let others = match &delete.returning {
            Some(_) => self.others(&delete.with, &delete.using)?,
            None => Vec::new(),
        };
        let others = with_rows(others, &found, width)?;
        let returning = delete.returning.as_deref();
        let answer =
            self.answer(&relation, delete.alias.as_deref(), "DELETE", old, returning, others, parameters).await?;
        self.write(relation.id, deltas).await?;
        Ok(answer)
    }

    /// All tables are emptied in one epoch.
    async fn truncate(&mut self, names: &[Name]) -> Result<Outcome> {
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
        let mut changes = BTreeMap::new();
        for (id, relation) in relations {
            let query = rows_query(&relation, None, Vec::new(), &[], None)?;
            let found = self.rows_of_query(&query, &[], &[]).await?;
            let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
            let old = RecordBatch::try_new_with_options(relation.arrow_schema(), found.columns().to_vec(), &options)
                .map_err(Error::internal)?;
            changes.insert(id, vec![Delta::retractions(old)]);
        }
        self.write_all(changes).await?;
        Ok(Outcome::Done("TRUNCATE TABLE".into()))
    }

    /// The tag, or RETURNING's rows. They are all computed before the change is made: an error in one is the
    /// statement's, and then nothing has changed.
    async fn answer(
        &mut self,
        relation: &Arc<Relation>,
        alias: Option<&str>,
        tag: &'static str,
        rows: RecordBatch,
        returning: Option<&[ast::SelectItem]>,
        others: Vec<(Other, RecordBatch)>,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        let Some(items) = returning else { return Ok(Outcome::Done(format!("{tag} {}", rows.num_rows()))) };
        let beside: Vec<Other> = others.iter().map(|(other, _)| other.clone()).collect();
        let query = returning_query(relation, alias, items, &beside)?;
        let mut scope = self.scope();
        let all = std::iter::once(rows).chain(others.into_iter().map(|(_, rows)| rows));
        for (i, rows) in all.enumerate() {
            let rows = if beside.is_empty() { rows } else { numbered(rows)? };
            let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(error_from)?;
            scope.extra.insert(returned(i), Arc::new(table));
        }
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, &query, &fields_of(parameters))?;
        let plan = with_parameters(bound.plan, parameters)?;
        // Subqueries see what there was before the statement.
        let relations = relations_of(&scope.catalog, &plan)?;
        let snapshot = match relations.is_empty() {
            true => Arc::new(Snapshot { epoch: 0, relations: HashMap::new() }),
            false => self.snapshot(&relations).await?,
        };
        let (schema, rows) = self.run_over(&state, plan, &bound.names, snapshot, Ok).await?;
        let batches = self.collected(rows).await?;
        Ok(Outcome::Rows { schema, rows: Box::pin(futures::stream::iter(batches.into_iter().map(Ok))), tag })
    }

    /// What FROM or USING has, name by name.
    fn others(&self, with: &Option<ast::With>, from: &[ast::TableWithJoins]) -> Result<Vec<Other>> {
        let mut others = Vec::new();
        for name in names_of(from) {
            let query = with_parts("SELECT 1", |select| {
                select.projection = vec![all_of(&name)];
                select.from = from.to_vec();
            })?;
            let query = ast::Query { with: with.clone(), ..query };
            let scope = self.scope();
            let state = self.state(&scope)?;
            let bound = bind_query(&state, &scope, &query, &[])?;
            let schema = super::query::output_schema(&bound.plan, &bound.names);
            others.push(Other { name, schema });
        }
        Ok(others)
    }

    /// Their columns, where RETURNING may show them.
    fn shown(
        &self,
        returning: &Option<Vec<ast::SelectItem>>,
        with: &Option<ast::With>,
        from: &[ast::TableWithJoins],
    ) -> Result<Vec<ast::SelectItem>> {
        if returning.is_none() {
            return Ok(Vec::new());
        }
        let mut shown = Vec::new();
        for (i, other) in self.others(with, from)?.iter().enumerate() {
            for (j, field) in other.schema.fields().iter().enumerate() {
                let ident = |name: &str| ast::Ident::with_quote('"', name);
                let expr = ast::Expr::CompoundIdentifier(vec![ident(&other.name), ident(field.name())]);
                shown.push(ast::SelectItem::ExprWithAlias { expr, alias: ident(&format!("__other_{i}_{j}")) });
            }
        }
        Ok(shown)
    }

    /// The types of parameters that stand in ON CONFLICT, added to those known.
    pub(super) fn conflict_parameters(
        &self,
        insert: &Insert,
        known: Vec<Option<FieldRef>>,
    ) -> Result<Vec<Option<FieldRef>>> {
        let relation = self.relation(&insert.table)?;
        let Some(on_conflict) = insert.on_conflict.as_ref().filter(|_| !relation.primary_key.is_empty()) else {
            return Ok(known);
        };
        let query = conflict_query(&relation, insert.alias.as_deref().unwrap_or(&relation.name), on_conflict)?;
        let mut scope = self.scope();
        scope.extra.insert("excluded".into(), no_rows(&relation)?);
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, &query, &known)?;
        crate::sql::bind::parameters_known(&bound.plan, &known)
    }

    /// What RETURNING's rows look like.
    pub(super) fn returning_schema(
        &self,
        table: &Name,
        alias: Option<&str>,
        items: &[ast::SelectItem],
        with: &Option<ast::With>,
        from: &[ast::TableWithJoins],
    ) -> Result<SchemaRef> {
        let relation = self.relation(table)?;
        let others = self.others(with, from)?;
        let query = returning_query(&relation, alias, items, &others)?;
        let mut scope: Scope = self.scope();
        let all = std::iter::once(relation.arrow_schema()).chain(others.iter().map(|other| other.schema.clone()));
        for (i, schema) in all.enumerate() {
            let rows = RecordBatch::new_empty(schema);
            let rows = if others.is_empty() { rows } else { numbered(rows)? };
            let table = MemTable::try_new(rows.schema(), vec![vec![]]).map_err(error_from)?;
            scope.extra.insert(returned(i), Arc::new(table));
        }
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, &query, &[])?;
        Ok(super::query::output_schema(&bound.plan, &bound.names))
    }

    pub(super) async fn create_table_as(
        &mut self,
        name: &Name,
        query: &ast::Query,
        if_not_exists: bool,
        temporary: bool,
        text: &str,
    ) -> Result<Option<usize>> {
        if temporary {
            return Err(Error::unsupported("CREATE TEMPORARY TABLE"));
        }
        if if_not_exists && self.existing(name).is_some() {
            self.notice("NOTICE", "42P07", format!("relation \"{name}\" already exists, skipping"));
            return Ok(None);
        }
        let rows = self.rows_of_query(query, &[], &[]).await?;
        let schema = rows.schema();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(Error::new("42701", format!("column \"{name}\" specified more than once")));
        }
        let columns = super::view::columns_of_fields(schema.fields(), &names)?;
        let relation = Arc::new(Relation { columns, ..self.new_relation(name, text)? });
        let named: Vec<usize> = (0..relation.columns.len()).collect();
        let count = rows.num_rows();
        let rows = self.conform(&relation, &named, rows, &[]).await?;
        // The table and its rows are one epoch: nobody sees the one without the other, not after a crash either.
        let rows = if count == 0 { vec![] } else { vec![Delta::inserts(rows)] };
        self.create_with(Arc::unwrap_or_clone(relation), rows, false, false).await?;
        Ok(Some(count))
    }
}

/// `t.*`
fn all_of(name: &str) -> ast::SelectItem {
    let name = ast::ObjectName::from(vec![ast::Ident::with_quote('"', name)]);
    let kind = ast::SelectItemQualifiedWildcardKind::ObjectName(name);
    ast::SelectItem::QualifiedWildcard(kind, ast::WildcardAdditionalOptions::default())
}

/// A text of ours with the user's own parts put in as they were parsed, so that their errors have places.
fn with_parts(text: &str, change: impl FnOnce(&mut ast::Select)) -> Result<ast::Query> {
    let mut query = *crate::sql::parse::query(text)?;
    match query.body.as_mut() {
        ast::SetExpr::Select(select) => change(select),
        _ => unreachable!("the text is a SELECT"),
    }
    Ok(query)
}

/// The rows of a table that match, whole, and after their columns `values`. Joined to others, rows of a table without a
/// key get a number of their own, in one column more.
fn rows_query(
    relation: &Relation,
    alias: Option<&str>,
    values: Vec<ast::SelectItem>,
    others: &[ast::TableWithJoins],
    filter: Option<&ast::Expr>,
) -> Result<ast::Query> {
    let name = alias.unwrap_or(&relation.name);
    let alias = quoted(name);
    let columns: Vec<String> = relation.columns.iter().map(|c| format!("{alias}.{}", quoted(&c.name))).collect();
    let numbered = !others.is_empty() && relation.primary_key.is_empty();
    let source = match numbered {
        true => format!("(SELECT *, row_number() OVER () AS __row FROM {})", full_name(relation)),
        false => full_name(relation),
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

/// For each row proposed, `excluded`: whether the table has its key, the row that has it, the row proposed, the values
/// assigned, and whether the row is to be updated.
fn conflict_query(relation: &Relation, alias: &str, on_conflict: &OnConflict) -> Result<ast::Query> {
    let own = quoted(alias);
    let key = relation.primary_key.iter().map(|&k| quoted(&relation.columns[k].name));
    let on = key.map(|k| format!("{own}.{k} = excluded.{k}")).collect::<Vec<_>>().join(" AND ");
    let mut columns = vec![format!("{own}.__there")];
    for side in [own.as_str(), "excluded"] {
        columns.extend(relation.columns.iter().map(|c| format!("{side}.{}", quoted(&c.name))));
    }
    let columns: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("{c} AS __c{i}")).collect();
    let mut values = Vec::new();
    for (column, expr) in &on_conflict.assignments {
        let column = &relation.columns[named_columns(relation, std::slice::from_ref(column))?[0]];
        values.push(match expr {
            e if is_default(e) => crate::sql::parse::parse_expression(column.default.as_deref().unwrap_or("NULL"))?,
            e => typed_parameter(column, e)?.unwrap_or_else(|| qualified(e.clone(), relation, alias)),
        });
    }
    values.push(match &on_conflict.filter {
        Some(filter) => qualified(filter.clone(), relation, alias),
        None => ast::Expr::Value(ast::Value::Boolean(true).into()),
    });
    let text = format!(
        "SELECT {} FROM excluded LEFT JOIN (SELECT *, true AS __there FROM {}) AS {own} ON {on}",
        columns.join(", "),
        full_name(relation)
    );
    with_parts(&text, |select| {
        let values = values.into_iter().enumerate();
        select.projection.extend(values.map(|(i, expr)| ast::SelectItem::ExprWithAlias {
            expr: ast::Expr::Nested(Box::new(expr)),
            alias: ast::Ident::new(format!("__v{i}")),
        }));
    })
}

/// `VALUES ($1, 'x')` into columns: each parameter that stands alone has its column's type, and so has each literal
/// in quotes beside something else.
fn typed_cells(relation: &Relation, named: &[usize], mut query: ast::Query) -> Result<ast::Query> {
    let ast::SetExpr::Values(values) = query.body.as_mut() else { return Ok(query) };
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
        for cell in values.rows.iter_mut().filter_map(|row| row.get_mut(i)) {
            if let Some(typed) = typed_parameter(column, cell)? {
                *cell = typed;
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

/// A parameter that stands alone where a column's value is wanted has the column's type.
fn typed_parameter(column: &Column, expr: &ast::Expr) -> Result<Option<ast::Expr>> {
    match expr {
        ast::Expr::Value(v) if matches!(v.value, ast::Value::Placeholder(_)) => {
            crate::sql::parse::parse_expression(&format!("CAST({expr} AS {})", column.sql_type)).map(Some)
        }
        _ => Ok(None),
    }
}

/// The changed rows, apart from their table, which RETURNING may read too; and what FROM or USING had beside them.
fn returned(i: usize) -> String {
    format!("mr returned {i}")
}

/// The column that says which rows belong together.
const RETURNED_ROW: &str = "mr returned row";

fn numbered(rows: RecordBatch) -> Result<RecordBatch> {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows.num_rows() as i64));
    let number = Arc::new(Field::new(RETURNED_ROW, DataType::Int64, false));
    let fields: Vec<FieldRef> = rows.schema().fields().iter().cloned().chain([number]).collect();
    let columns = rows.columns().iter().cloned().chain([numbers]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(Error::internal)
}

/// What stands under one name in FROM or USING.
#[derive(Clone)]
struct Other {
    name: String,
    schema: SchemaRef,
}

/// Each with its rows among those that were found, in which their columns begin at `at`.
fn with_rows(others: Vec<Other>, found: &RecordBatch, mut at: usize) -> Result<Vec<(Other, RecordBatch)>> {
    let options = RecordBatchOptions::new().with_row_count(Some(found.num_rows()));
    let rows = others.into_iter().map(|other| {
        let width = other.schema.fields().len();
        let columns = found.columns()[at..at + width].to_vec();
        at += width;
        let rows = RecordBatch::try_new_with_options(relaxed(&other.schema), columns, &options);
        Ok((other, rows.map_err(Error::internal)?))
    });
    rows.collect()
}

fn returning_query(
    relation: &Relation,
    alias: Option<&str>,
    items: &[ast::SelectItem],
    others: &[Other],
) -> Result<ast::Query> {
    let own = alias.unwrap_or(&relation.name);
    let mut text = format!("SELECT 1 FROM {} AS {}", quoted(&returned(0)), quoted(own));
    let row = quoted(RETURNED_ROW);
    for (i, other) in others.iter().enumerate() {
        let (table, name) = (quoted(&returned(i + 1)), quoted(&other.name));
        text.push_str(&format!(" JOIN {table} AS {name} ON {name}.{row} = {}.{row}", quoted(own)));
    }
    // All columns but those numbers.
    let schemas = std::iter::once((own, relation.arrow_schema()))
        .chain(others.iter().map(|other| (other.name.as_str(), other.schema.clone())));
    let columns = |of: Option<&str>| -> Vec<ast::SelectItem> {
        let wanted = schemas.clone().filter(|(name, _)| of.is_none_or(|of| of == *name));
        let all = wanted.flat_map(|(name, schema)| {
            let column = |field: &FieldRef| {
                let ident = |name: &str| ast::Ident::with_quote('"', name);
                ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(vec![ident(name), ident(field.name())]))
            };
            schema.fields().iter().map(column).collect::<Vec<_>>()
        });
        all.collect()
    };
    let items = items.iter().flat_map(|item| match item {
        _ if others.is_empty() => vec![item.clone()],
        ast::SelectItem::Wildcard(_) => columns(None),
        ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            match crate::sql::parse::name_of(name) {
                Ok(name) if schemas.clone().any(|(known, _)| known == name.name) => columns(Some(&name.name)),
                _ => vec![item.clone()],
            }
        }
        other => vec![other.clone()],
    });
    let items = items.collect();
    with_parts(&text, |select| select.projection = items)
}

fn no_rows(relation: &Relation) -> Result<Arc<MemTable>> {
    MemTable::try_new(relation.arrow_schema(), vec![vec![]]).map(Arc::new).map_err(error_from)
}

fn relaxed(schema: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

/// Indices of the named columns; of all when none is named.
fn named_columns(relation: &Relation, names: &[String]) -> Result<Vec<usize>> {
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

pub(super) fn named(relation: &Relation, names: &[String]) -> Result<Vec<usize>> {
    named_columns(relation, names)
}

/// DEFAULT in VALUES becomes NULL.
fn without_defaults(source: &ast::Query) -> ast::Query {
    let mut query = source.clone();
    if let ast::SetExpr::Values(values) = query.body.as_mut() {
        for cell in values.rows.iter_mut().flat_map(|row| row.iter_mut()).filter(|cell| is_default(cell)) {
            *cell = ast::Expr::Value(ast::Value::Null.into());
        }
    }
    query
}

/// Where DEFAULT stands in VALUES, by column and row; nothing where it stands nowhere.
fn defaulted_cells(source: &ast::Query) -> Vec<Vec<bool>> {
    let ast::SetExpr::Values(values) = source.body.as_ref() else { return Vec::new() };
    if !values.rows.iter().any(|row| row.iter().any(is_default)) {
        return Vec::new();
    }
    let width = values.rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let defaulted = |column: usize| values.rows.iter().map(|row| row.get(column).is_some_and(is_default)).collect();
    (0..width).map(defaulted).collect()
}

/// Unqualified columns in ON CONFLICT mean the table's own.
fn qualified(mut expr: ast::Expr, relation: &Relation, alias: &str) -> ast::Expr {
    let _ = ast::visit_expressions_mut(&mut expr, |e| {
        if let ast::Expr::Identifier(name) = e {
            let folded = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
            if relation.columns.iter().any(|c| c.name == folded) {
                *e = ast::Expr::CompoundIdentifier(vec![
                    ast::Ident::with_quote('"', alias),
                    ast::Ident::with_quote('"', folded),
                ]);
            }
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    expr
}

/// Whether text is read into another form for a type, rather than checked.
fn has_own_input(sql_type: &str) -> bool {
    sql_type.ends_with("[]")
        || crate::sql::types::field("", sql_type, true).is_ok_and(|field| *field.data_type() != DataType::Utf8)
}

fn check_not_null(relation: &Relation, columns: &[ArrayRef]) -> Result<()> {
    for (column, values) in relation.columns.iter().zip(columns) {
        if !column.nullable && values.null_count() > 0 {
            return Err(Error::new(
                "23502",
                format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    column.name, relation.name
                ),
            ));
        }
    }
    Ok(())
}
