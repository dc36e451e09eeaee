//! `WITH d AS (DELETE … RETURNING …), q AS (SELECT … FROM d) INSERT …`: a statement of several parts that change rows.
//!
//! The parts run one after the other. All of them read what there was before the statement; of each other they see what
//! RETURNING gave, which stands under the part's name as rows at hand. What they change is kept until all have run, and is
//! written as one epoch. A row that two parts would change is neither of theirs, and PostgreSQL does not say whose change
//! it keeps: two parts that change rows of one table are refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use sqlparser::ast;

use super::dml::as_batch;
use super::plans::Plans;
use super::query::Argument;
use super::referential::{Happened, reached};
use super::view::column_names;
use super::{Outcome, Session};
use crate::catalog::{Relation, RelationId};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::sql::bind::error_from;
use crate::sql::statement::{ChangeWith, Name, StatementKind, WithPart};

/// What the parts of a statement before the one that runs have left.
#[derive(Default)]
pub(super) struct OneStatement {
    /// By name what they returned.
    pub rows: HashMap<String, Arc<dyn TableProvider>>,
    /// The names of those that returned nothing.
    pub silent: HashSet<String>,
    pub changes: BTreeMap<RelationId, Vec<Delta>>,
    /// What foreign keys of others are to follow.
    pub happened: Vec<(Arc<Relation>, Happened)>,
    /// The transaction is there for this statement alone.
    pub own_transaction: bool,
}

impl OneStatement {
    fn give(&mut self, part: &WithPart, rows: RecordBatch) -> Result<()> {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(error_from)?;
        self.rows.insert(part.name.clone(), Arc::new(table));
        Ok(())
    }
}

impl Session {
    /// Runs it; errors leave nothing behind.
    pub(super) async fn change_with(&mut self, change: &ChangeWith, parameters: &[Argument]) -> Result<Outcome> {
        self.check_parts(change)?;
        let mut tables = self.targets(change)?;
        for table in kinds(change).filter_map(|kind| self.followed(kind)) {
            tables.extend(reached(&self.core.catalog(), table.id));
        }
        let held = self.begin_one_statement(&tables).await;
        let outcome = match self.run_parts(change, parameters).await {
            Ok(outcome) => self.follow().await.map(|()| outcome),
            Err(error) => Err(error),
        };
        let outcome = self.end_one_statement(outcome).await;
        drop(held);
        outcome
    }

    /// From here on until [`Session::end_one_statement`] all is read at one moment, and what is written is kept. Outside of
    /// a transaction others that read and then write these tables are held off.
    pub(super) async fn begin_one_statement(
        &mut self,
        tables: &BTreeSet<RelationId>,
    ) -> Vec<tokio::sync::OwnedMutexGuard<()>> {
        let own_transaction = self.transaction.is_none();
        let mut held = Vec::new();
        // Locked by rising id, so that two of them do not wait for each other for ever.
        for relation in tables.iter().filter_map(|&id| self.core.catalog().get(id).cloned()) {
            held.extend(self.hold(&relation).await);
        }
        if own_transaction {
            self.begin_implicit().await;
        }
        self.one_statement = Some(OneStatement { own_transaction, ..OneStatement::default() });
        held
    }

    /// Writes what was kept, or forgets it after an error.
    pub(super) async fn end_one_statement(&mut self, outcome: Result<Outcome>) -> Result<Outcome> {
        let Some(one) = self.one_statement.take() else { return outcome };
        let written = match outcome {
            Ok(outcome) => self.write_all(one.changes).await.map(|()| outcome),
            Err(error) => Err(error),
        };
        if !one.own_transaction {
            return written;
        }
        let ended = self.end_implicit(written.is_ok()).await;
        written.and_then(|outcome| ended.map(|()| outcome))
    }

    /// Forgets a statement that did not come to its end.
    pub(super) fn leave_one_statement(&mut self) {
        if self.one_statement.take().is_some_and(|one| one.own_transaction) {
            self.rollback().expect("there is nothing to be undone");
        }
    }

    async fn run_parts(&mut self, change: &ChangeWith, parameters: &[Argument]) -> Result<Outcome> {
        for (at, part) in change.parts.iter().enumerate() {
            let outcome = match &part.kind {
                StatementKind::Query(_) if !is_named_behind(change, at) => continue,
                StatementKind::Query(query) => {
                    let query = as_part(part, query, change.recursive)?;
                    self.select_whole(&query, parameters).await?
                }
                kind => self.run_part(kind, parameters).await?,
            };
            let rows = match outcome {
                Outcome::Rows { schema, rows, .. } => Some(as_batch(&schema, &self.collected(rows).await?)?),
                _ => None,
            };
            let one = self.one_statement.as_mut().expect("it has begun");
            match rows {
                Some(rows) => one.give(part, named(rows, &part.columns)?)?,
                None => drop(one.silent.insert(part.name.clone())),
            }
        }
        match change.main.as_ref() {
            StatementKind::Query(query) => self.select_whole(query, parameters).await,
            kind => self.run_part(kind, parameters).await,
        }
    }

    async fn run_part(&mut self, kind: &StatementKind, parameters: &[Argument]) -> Result<Outcome> {
        let followed = self.followed(kind);
        let before = followed.as_ref().map_or(0, |table| self.changes_so_far(table));
        let outcome = Box::pin(self.change_once(kind, &Plans::default(), parameters)).await?;
        if let Some(table) = followed {
            self.note_happened(kind, &table, before)?;
        }
        Ok(outcome)
    }

    /// A query's rows, all of them before anything is written: an error in one is the statement's.
    async fn select_whole(&mut self, query: &ast::Query, parameters: &[Argument]) -> Result<Outcome> {
        let (schema, rows) = match self.select(query, &Plans::default(), parameters).await? {
            Outcome::Rows { schema, rows, .. } => (schema, rows),
            _ => unreachable!("a query has rows"),
        };
        let batches = self.collected(rows).await?;
        let rows = Box::pin(futures::stream::iter(batches.into_iter().map(Ok)));
        Ok(Outcome::Rows { schema, rows, tag: "SELECT" })
    }

    /// The types of its parameters, and its columns.
    pub(super) fn describe_change_with(
        &mut self,
        change: &ChangeWith,
        given: &[Option<FieldRef>],
    ) -> Result<(Vec<Option<FieldRef>>, Option<SchemaRef>)> {
        self.check_parts(change)?;
        let before = self.one_statement.replace(OneStatement::default());
        let described = self.describe_parts(change, given);
        self.one_statement = before;
        described
    }

    fn describe_parts(
        &mut self,
        change: &ChangeWith,
        given: &[Option<FieldRef>],
    ) -> Result<(Vec<Option<FieldRef>>, Option<SchemaRef>)> {
        let mut known = given.to_vec();
        for part in &change.parts {
            let (parameters, columns) = match &part.kind {
                StatementKind::Query(query) => {
                    let query = StatementKind::Query(Box::new(as_part(part, query, change.recursive)?));
                    self.described(&query, &known, &Plans::default())?
                }
                kind => self.described(kind, &known, &Plans::default())?,
            };
            known = parameters;
            let one = self.one_statement.as_mut().expect("just made");
            match columns {
                Some(schema) => one.give(part, named(RecordBatch::new_empty(schema), &part.columns)?)?,
                None => drop(one.silent.insert(part.name.clone())),
            }
        }
        self.described(&change.main, &known, &Plans::default())
    }

    fn check_parts(&self, change: &ChangeWith) -> Result<()> {
        for (at, part) in change.parts.iter().enumerate() {
            if change.parts[..at].iter().any(|before| before.name == part.name) {
                let message = format!("WITH query name \"{}\" specified more than once", part.name);
                return Err(Error::new("42712", message));
            }
        }
        let mut writers: HashMap<RelationId, Vec<Changes>> = HashMap::new();
        for (name, changes) in kinds(change).filter_map(target) {
            let before = writers.entry(self.changed_table(name)?).or_default();
            let collides = |other: &Changes| match (other, changes) {
                (Changes::Looking, _) | (_, Changes::Looking) => true,
                (other, changes) => *other == Changes::Rows && changes == Changes::Rows,
            };
            if before.iter().any(collides) {
                let message = format!("two parts of a statement that change rows of table \"{}\"", name.name);
                return Err(Error::unsupported(message).hint("Write them as statements of one transaction."));
            }
            before.push(changes);
        }
        Ok(())
    }

    fn changed_table(&self, name: &Name) -> Result<RelationId> {
        match self.target_table(name) {
            Some(table) => Ok(table.id),
            None => Ok(self.target(name, "change")?.table.id),
        }
    }

    fn targets(&self, change: &ChangeWith) -> Result<BTreeSet<RelationId>> {
        kinds(change).filter_map(target).map(|(name, _)| self.changed_table(name)).collect()
    }
}

/// All parts, WITH's and what it stands before.
fn kinds(change: &ChangeWith) -> impl Iterator<Item = &StatementKind> {
    change.parts.iter().map(|part| &part.kind).chain([change.main.as_ref()])
}

#[derive(PartialEq, Clone, Copy)]
enum Changes {
    /// Adds rows, whatever there is.
    Adds,
    /// Updates or deletes rows that there are.
    Rows,
    /// Does what it does by the keys that there are, which other parts may add.
    Looking,
}

/// The table that a part writes to, and how.
fn target(kind: &StatementKind) -> Option<(&Name, Changes)> {
    match kind {
        StatementKind::Insert(insert) if insert.on_conflict.is_some() => Some((&insert.table, Changes::Looking)),
        StatementKind::Insert(insert) => Some((&insert.table, Changes::Adds)),
        StatementKind::Update(update) => Some((&update.table, Changes::Rows)),
        StatementKind::Delete(delete) => Some((&delete.table, Changes::Rows)),
        StatementKind::Merge(merge) => Some((&merge.table, Changes::Looking)),
        _ => None,
    }
}

/// Whether anything that comes after a part speaks of it. A query that nobody asks for does not run.
fn is_named_behind(change: &ChangeWith, at: usize) -> bool {
    let name = &change.parts[at].name;
    let behind = change.parts[at + 1..].iter().map(|part| &part.text).chain([&change.main_text]);
    behind.into_iter().any(|text| crate::sql::parse::place_of_name(text, name).is_some())
}

/// `WITH [RECURSIVE] name AS (query) SELECT * FROM name`
fn as_part(part: &WithPart, query: &ast::Query, recursive: bool) -> Result<ast::Query> {
    if !recursive {
        return Ok(query.clone());
    }
    let mut whole = *crate::sql::parse::query("WITH RECURSIVE x AS (SELECT 1) SELECT * FROM x")?;
    let name = ast::Ident::with_quote('"', &part.name);
    if let Some(cte) = whole.with.as_mut().and_then(|with| with.cte_tables.first_mut()) {
        cte.alias.name = name.clone();
        let column =
            |column: &String| ast::TableAliasColumnDef { name: ast::Ident::with_quote('"', column), data_type: None };
        cte.alias.columns = part.columns.iter().map(column).collect();
        *cte.query = query.clone();
    }
    if let ast::SetExpr::Select(select) = whole.body.as_mut()
        && let ast::TableFactor::Table { name: read, .. } = &mut select.from[0].relation
    {
        *read = ast::ObjectName::from(vec![name]);
    }
    Ok(whole)
}

/// Rows whose first columns have these names.
fn named(rows: RecordBatch, names: &[String]) -> Result<RecordBatch> {
    let schema = rows.schema();
    let own: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let names = column_names(&own, names)?;
    let fields = schema.fields().iter().zip(&names).map(|(field, name)| field.as_ref().clone().with_name(name));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema, rows.columns().to_vec(), &options).map_err(Error::internal)
}
