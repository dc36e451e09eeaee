//! ON DELETE and ON UPDATE of foreign keys: what DELETE and UPDATE of a row do to those that refer to it.
//!
//! ```text
//!   DELETE FROM customers WHERE id = 7       orders with ON DELETE CASCADE go too, and what refers to those
//!                                            visits with ON DELETE SET NULL stay, for nobody
//! ```
//!
//! INSERT … ON CONFLICT, MERGE and the parts of a WITH do the same with the rows that they update and delete. All of it is one
//! epoch. Rows that refer are found by a query over what the statement itself sees. What comes in at the same time is found
//! out at COMMIT (23503).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter_record_batch, kernels::cmp::distinct, or};
use arrow::datatypes::{Field, Schema};

use super::dml::{TRIES_MAX, full_name, quoted};
use super::plans::Plans;
use super::query::Argument;
use super::{Outcome, Session};
use crate::catalog::{Catalog, ForeignKey, OnReferenced, Relation, RelationId};
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::error::{Error, Result};
use crate::sql::statement::{MergeAction, Name, StatementKind};
use crate::state::arrangement::take;

/// Foreign keys that lead on and on, over rows that refer to themselves with other keys.
const STEPS_MAX: usize = 10_000;

/// What has happened to rows that others may refer to.
pub(super) enum Happened {
    Deleted(RecordBatch),
    /// Row by row: before and after.
    Updated(RecordBatch, RecordBatch),
}

impl Session {
    /// Runs a statement that changes rows, and does what foreign keys say to the rows that refer to them.
    pub(super) async fn change_and_follow(
        &mut self,
        kind: &StatementKind,
        plans: &Plans,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        let whole;
        let kind = match kind {
            StatementKind::TruncateCascade { names, restart } => {
                let names = self.with_referring(names)?;
                whole = StatementKind::Truncate { names, restart: *restart };
                &whole
            }
            other => other,
        };
        if let StatementKind::Truncate { names, .. } = kind {
            self.check_truncated(names)?;
        }
        let mut tries = 0;
        while let Some(table) = self.followed(kind) {
            let before = self.core.catalog();
            let error = match self.change_following(kind, plans, parameters, &table).await {
                Err(error) => error,
                done => return done,
            };
            tries += usize::from(!self.contention.is_blocked());
            if tries > TRIES_MAX {
                return Err(error);
            }
            if error.code == "40001" {
                self.after_conflict(error).await?;
            } else if !self.is_replaced(&before, &error) {
                return Err(error);
            }
        }
        self.change(kind, plans, parameters).await
    }

    /// The table whose rows a statement deletes or updates, if that does something to others.
    pub(super) fn followed(&self, kind: &StatementKind) -> Option<Arc<Relation>> {
        let catalog = self.core.catalog();
        let on_delete = |table: &Relation| catalog.referring(table.id).any(|(_, key)| key.on_delete.is_action());
        let on_update = |table: &Relation| catalog.referring(table.id).any(|(_, key)| key.on_update.is_action());
        match kind {
            StatementKind::Delete(delete) => {
                let table = self.target_table(&delete.table)?;
                on_delete(&table).then_some(table)
            }
            StatementKind::Insert(insert) => {
                let assigns = insert.on_conflict.as_ref().is_some_and(|conflict| !conflict.assignments.is_empty());
                let table = if assigns { self.target_table(&insert.table)? } else { return None };
                on_update(&table).then_some(table)
            }
            StatementKind::Merge(merge) => {
                let table = self.target_table(&merge.table)?;
                let acts = merge.clauses.iter().any(|clause| match &clause.action {
                    MergeAction::Delete => on_delete(&table),
                    MergeAction::Update(_) => on_update(&table),
                    MergeAction::Nothing | MergeAction::Insert { .. } => false,
                });
                acts.then_some(table)
            }
            StatementKind::Update(update) => {
                let table = self.target_table(&update.table)?;
                let assignments = self.target(&update.table, "update").ok()?.assignments(&update.assignments).ok()?;
                let assigned =
                    |column: &usize| assignments.iter().any(|(name, _)| *name == table.columns[*column].name);
                let mut keys = catalog.referring(table.id).map(|(_, key)| key);
                let changes = keys.any(|key| key.on_update.is_action() && key.referenced.iter().any(assigned));
                changes.then_some(table.clone())
            }
            _ => None,
        }
    }

    async fn change_following(
        &mut self,
        kind: &StatementKind,
        plans: &Plans,
        parameters: &[Argument],
        table: &Arc<Relation>,
    ) -> Result<Outcome> {
        let held = self.begin_one_statement(&reached(&self.core.catalog(), table.id)).await;
        let outcome = match self.change_once(kind, plans, parameters).await {
            Ok(outcome) => match self.note_happened(kind, table, 0) {
                Ok(()) => self.follow().await.map(|()| outcome),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let outcome = self.end_one_statement(outcome).await;
        drop(held);
        outcome
    }

    fn changes_of(&mut self, table: RelationId) -> &mut Vec<Delta> {
        self.one_statement.as_mut().expect("it has begun").changes.entry(table).or_default()
    }

    /// How many changes of a table the statement has made so far.
    pub(super) fn changes_so_far(&mut self, table: &Relation) -> usize {
        self.changes_of(table.id).len()
    }

    /// Takes note of what a statement, or a part of one, has done to rows of `table`: all changes after the first `before`.
    pub(super) fn note_happened(&mut self, kind: &StatementKind, table: &Arc<Relation>, before: usize) -> Result<()> {
        let changes = self.changes_of(table.id)[before..].to_vec();
        let happened = match (kind, &changes[..]) {
            // MERGE has said it itself.
            (_, []) | (StatementKind::Merge(_), _) => return Ok(()),
            (StatementKind::Delete(_), _) => {
                let gone = changes.iter().map(|delta| delta.rows.clone()).collect::<Vec<_>>();
                Happened::Deleted(super::dml::as_batch(&table.arrow_schema(), &gone)?)
            }
            // Nothing was there already.
            (StatementKind::Insert(_), [_]) => return Ok(()),
            // The old rows, and the new ones in the same order; after these those that INSERT has added.
            (_, [old, new]) if old.len() <= new.len() => {
                Happened::Updated(old.rows.clone(), new.rows.slice(0, old.len()))
            }
            _ => return Err(Error::internal("an UPDATE that does not say which row became which")),
        };
        self.note_one(table, happened);
        Ok(())
    }

    /// The same of some rows; where nothing is followed, nothing is noted.
    pub(super) fn note_one(&mut self, table: &Arc<Relation>, happened: Happened) {
        if let Some(one) = &mut self.one_statement {
            one.happened.push((table.clone(), happened));
        }
    }

    /// Does to other rows what follows from what has been noted.
    pub(super) async fn follow(&mut self) -> Result<()> {
        let happened = std::mem::take(&mut self.one_statement.as_mut().expect("it has begun").happened);
        let catalog = self.core.catalog();
        // Rows that go do so before others are changed: they may be the same ones.
        let mut ahead = VecDeque::from(happened);
        let mut later = VecDeque::new();
        for _ in 0..STEPS_MAX {
            let (table, happened) = match (ahead.pop_front(), later.pop_front()) {
                (Some(next), postponed) => {
                    postponed.into_iter().for_each(|back| later.push_front(back));
                    next
                }
                (None, Some((child, key, happened))) => {
                    let changed = self.set_referring(&child, &key, &happened).await?;
                    ahead.extend(changed.map(|(old, new)| (child, Happened::Updated(old, new))));
                    continue;
                }
                (None, None) => return Ok(()),
            };
            for (child, key) in catalog.referring(table.id) {
                let Some(happened) = happened.to(key)? else { continue };
                match (&happened, key.on_delete) {
                    (Happened::Deleted(gone), OnReferenced::Cascade) => {
                        let rows = self.rows_referring(child, key, &columns_of(gone, &key.referenced)?).await?;
                        if rows.num_rows() > 0 {
                            self.lock_followed(child, &rows)?;
                            self.changes_of(child.id).push(Delta::retractions(rows.clone()));
                            ahead.push_back((child.clone(), Happened::Deleted(rows)));
                        }
                    }
                    _ => later.push_back((child.clone(), key.clone(), happened)),
                }
            }
        }
        Err(Error::new("54001", "foreign keys lead on without an end"))
    }

    /// Gives the rows that refer other keys; returns them before and after.
    async fn set_referring(
        &mut self,
        child: &Arc<Relation>,
        key: &ForeignKey,
        happened: &Happened,
    ) -> Result<Option<(RecordBatch, RecordBatch)>> {
        let (before, after, action) = match happened {
            Happened::Deleted(gone) => (gone, None, key.on_delete),
            Happened::Updated(old, new) => (old, Some(new), key.on_update),
        };
        let mut keys = columns_of(before, &key.referenced)?;
        if let Some(after) = after.filter(|_| action == OnReferenced::Cascade) {
            keys = beside(&keys, &columns_of(after, &key.referenced)?)?;
        }
        let old = self.rows_referring(child, key, &keys).await?;
        if old.num_rows() == 0 {
            return Ok(None);
        }
        self.lock_followed(child, &old)?;
        let mut columns = old.columns().to_vec();
        let assigned = match action {
            OnReferenced::Cascade => self.new_keys(child, key, &old, &keys).await?,
            OnReferenced::SetDefault => {
                let mut values = Vec::new();
                for &column in &key.columns {
                    values.push(self.default_value(child, column, old.num_rows()).await?);
                }
                values
            }
            _ => {
                let null =
                    |&column: &usize| arrow::array::new_null_array(old.column(column).data_type(), old.num_rows());
                key.columns.iter().map(null).collect()
            }
        };
        for (&column, values) in key.columns.iter().zip(assigned) {
            columns[column] = values;
        }
        let new = self.checked(child, columns, old.num_rows())?;
        self.changes_of(child.id).extend([Delta::retractions(old.clone()), Delta::inserts(new.clone())]);
        Ok(Some((old, new)))
    }

    /// The rows of a table that refer to one of these keys, as they are after what the statement has done so far.
    async fn rows_referring(
        &mut self,
        child: &Arc<Relation>,
        key: &ForeignKey,
        keys: &RecordBatch,
    ) -> Result<RecordBatch> {
        let refers =
            |n: usize, &column: &usize| format!("c.{} = g.{}", quoted(&child.columns[column].name), name_of(n));
        let refers: Vec<String> = key.columns.iter().enumerate().map(|(n, column)| refers(n, column)).collect();
        let refers = refers.join(" AND ");
        let text =
            |of: &str| format!("SELECT c.* FROM {of} AS c WHERE EXISTS (SELECT 1 FROM {GONE} AS g WHERE {refers})");
        let schema = child.arrow_schema();
        let shaped = |rows: RecordBatch| {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
            RecordBatch::try_new_with_options(schema.clone(), rows.columns().to_vec(), &options)
                .map_err(Error::internal)
        };
        let found = shaped(self.rows_of(&text(&full_name(child)), &[(GONE, keys.clone())], &[]).await?)?;
        let mut all = self.changes_of(child.id).clone();
        if all.is_empty() {
            return Ok(found);
        }
        all.push(Delta::inserts(found));
        let mut rows = Vec::new();
        for delta in consolidate(&all) {
            let there = (0..delta.len()).flat_map(|row| {
                let times = usize::try_from(delta.weight(row)).unwrap_or(0);
                std::iter::repeat_n(row as u32, times)
            });
            rows.push(take(&delta.rows, &there.collect::<Vec<u32>>()));
        }
        let rows = super::dml::as_batch(&schema, &rows)?;
        shaped(self.rows_of(&text(ROWS), &[(GONE, keys.clone()), (ROWS, rows)], &[]).await?)
    }

    /// For each row the key that the one it refers to has now.
    async fn new_keys(
        &mut self,
        child: &Arc<Relation>,
        key: &ForeignKey,
        rows: &RecordBatch,
        keys: &RecordBatch,
    ) -> Result<Vec<ArrayRef>> {
        let width = key.columns.len();
        let own: Vec<ArrayRef> = key.columns.iter().map(|&column| rows.column(column).clone()).collect();
        let numbers: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..rows.num_rows() as u32));
        let mut fields: Vec<Field> = own
            .iter()
            .enumerate()
            .map(|(n, values)| Field::new(name_of(n), values.data_type().clone(), true))
            .collect();
        fields.push(Field::new("at", numbers.data_type().clone(), false));
        let own = own.into_iter().chain([numbers]).collect();
        let own = RecordBatch::try_new(Arc::new(Schema::new(fields)), own).map_err(Error::internal)?;
        let same: Vec<String> = (0..width).map(|n| format!("c.{0} = g.{0}", name_of(n))).collect();
        let new: Vec<String> = (width..2 * width).map(|n| format!("g.{}", name_of(n))).collect();
        let text = format!(
            "SELECT {} FROM {ROWS} AS c JOIN {GONE} AS g ON {} ORDER BY c.at",
            new.join(", "),
            same.join(" AND ")
        );
        let found = self.rows_of(&text, &[(GONE, keys.clone()), (ROWS, own)], &[]).await?;
        if found.num_rows() != rows.num_rows() {
            return Err(Error::internal("a row that refers to other than one key"));
        }
        let (schema, given) = (child.arrow_schema(), found.schema());
        let style = self.style()?;
        let assigned = key.columns.iter().enumerate().map(|(n, &column)| {
            crate::sql::cast::assign(found.column(n), given.field(n), schema.field(column), &style)
        });
        assigned.collect()
    }

    /// As PostgreSQL has it: a table to which others refer is truncated together with them, or not at all.
    fn check_truncated(&self, names: &[Name]) -> Result<()> {
        let tables = names.iter().map(|name| self.relation(name)).collect::<Result<Vec<_>>>()?;
        let catalog = self.core.catalog();
        for table in &tables {
            let mut others = catalog.referring(table.id).map(|(other, _)| other);
            if let Some(other) = others.find(|other| tables.iter().all(|table| table.id != other.id)) {
                return Err(Error::unsupported("truncating a table referenced in a foreign key constraint")
                    .detail(format!("Table \"{}\" references \"{}\".", other.name, table.name))
                    .hint(format!(
                        "Truncate table \"{}\" at the same time, or use TRUNCATE ... CASCADE.",
                        other.name
                    )));
            }
        }
        Ok(())
    }

    /// These tables, and all that refer to them or to those.
    fn with_referring(&mut self, names: &[Name]) -> Result<Vec<Name>> {
        let catalog = self.core.catalog();
        let mut all = names.to_vec();
        let mut known = names.iter().map(|name| Ok(self.relation(name)?.id)).collect::<Result<Vec<_>>>()?;
        let mut next = 0;
        while next < known.len() {
            for (other, _) in catalog.referring(known[next]) {
                if !known.contains(&other.id) {
                    known.push(other.id);
                    all.push(Name { schema: Some(other.schema_name.clone()), name: other.name.clone() });
                    self.notice("NOTICE", "00000", format!("truncate cascades to table \"{}\"", other.name));
                }
            }
            next += 1;
        }
        Ok(all)
    }
}

impl Happened {
    /// What of it a foreign key does something about.
    fn to(&self, key: &ForeignKey) -> Result<Option<Happened>> {
        match self {
            Happened::Deleted(gone) => {
                let something = key.on_delete.is_action() && gone.num_rows() > 0;
                Ok(something.then(|| Happened::Deleted(gone.clone())))
            }
            Happened::Updated(old, new) if key.on_update.is_action() => {
                let mut changed = BooleanArray::from(vec![false; old.num_rows()]);
                for &column in &key.referenced {
                    let differs = distinct(old.column(column), new.column(column)).map_err(Error::internal)?;
                    changed = or(&changed, &differs).map_err(Error::internal)?;
                }
                let of = |rows: &RecordBatch| filter_record_batch(rows, &changed).map_err(Error::internal);
                Ok((changed.true_count() > 0).then_some(Happened::Updated(of(old)?, of(new)?)))
            }
            Happened::Updated(..) => Ok(None),
        }
    }
}

/// What queries call the keys that have gone, and the rows at hand.
const GONE: &str = "mr_gone_keys";
const ROWS: &str = "mr_rows_at_hand";

fn name_of(n: usize) -> String {
    format!("k{n}")
}

/// The columns of a key, named by their places in it.
fn columns_of(rows: &RecordBatch, columns: &[usize]) -> Result<RecordBatch> {
    let schema = rows.schema();
    let fields = columns
        .iter()
        .enumerate()
        .map(|(n, &column)| schema.field(column).clone().with_name(name_of(n)).with_nullable(true));
    let values = columns.iter().map(|&column| rows.column(column).clone()).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), values).map_err(Error::internal)
}

/// Two keys of each row, the second one's columns named on from the first one's.
fn beside(left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch> {
    let (own, other) = (left.schema(), right.schema());
    let mut fields: Vec<Field> = own.fields().iter().map(|field| field.as_ref().clone()).collect();
    let named = |(n, field): (usize, &Arc<Field>)| field.as_ref().clone().with_name(name_of(left.num_columns() + n));
    fields.extend(other.fields().iter().enumerate().map(named));
    let values = left.columns().iter().chain(right.columns()).cloned().collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), values).map_err(Error::internal)
}

/// A table, and all whose rows a change of its rows may change.
pub(super) fn reached(catalog: &Catalog, table: RelationId) -> BTreeSet<RelationId> {
    let mut reached = BTreeSet::from([table]);
    let mut ahead = vec![table];
    while let Some(table) = ahead.pop() {
        for (other, key) in catalog.referring(table) {
            if (key.on_delete.is_action() || key.on_update.is_action()) && reached.insert(other.id) {
                ahead.push(other.id);
            }
        }
    }
    reached
}
