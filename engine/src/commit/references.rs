//! Foreign keys are checked here, where all commits pass: a row must have what it refers to when its transaction has been
//! committed, whoever else commits at the same time.
//!
//! ```text
//!   INSERT INTO orders (customer) VALUES (7)       customer 7 must be there, or come in the same transaction     23503
//!   DELETE FROM customers WHERE id = 7             no order that stays may have customer 7                       23503
//! ```
//!
//! Rows that ON DELETE and ON UPDATE change have been changed by the session before (`session/referential.rs`): what it has
//! missed, because others were faster, is found out here.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};

use super::Commit;
use crate::catalog::{Catalog, ForeignKey, Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::state::table::references::{any_null, columns_of};
use crate::state::table::{Checked, Table, columns_of_key};

/// Of keys, as tables have been committed.
pub enum Question {
    /// Whether a row has each of these, values of `columns`.
    There { table: RelationId, columns: Vec<usize>, keys: Vec<ArrayRef> },
    /// Whether more rows than so many refer to each of them.
    Referred { child: RelationId, key: ForeignKey, keys: Vec<ArrayRef>, gone: Vec<u32> },
}

impl Commit {
    pub(super) fn answer(&mut self, question: Question) -> Result<Vec<bool>> {
        let missing = |id: RelationId| Error::undefined_relation(format!("#{id}"));
        match question {
            Question::There { table, columns, keys } => {
                self.tables.get_mut(&table).ok_or_else(|| missing(table))?.has_keys(&columns, &keys, None)
            }
            Question::Referred { child, key, keys, gone } => {
                self.tables.get_mut(&child).ok_or_else(|| missing(child))?.refers_more(&key, &keys, gone)
            }
        }
    }

    /// Whether changes that have been checked, each for itself, leave no row that refers to nothing.
    pub(super) fn check_references(
        &mut self,
        catalog: &Catalog,
        changes: &[(RelationId, Option<Checked>)],
    ) -> Result<()> {
        let of = |id: RelationId| changes.iter().find(|(changed, _)| *changed == id).and_then(|(_, c)| c.as_ref());
        for (id, change) in changes {
            let (Some(change), Some(relation)) = (change, catalog.get(*id)) else { continue };
            for key in &relation.foreign_keys {
                let Some(table) = self.tables.get_mut(&key.references) else { continue };
                check_there(catalog, relation, key, &change.plus, table, of(key.references))?;
            }
            if change.minus.num_rows() == 0 || relation.kind != RelationKind::Table {
                continue;
            }
            for (child, key) in catalog.referring(*id) {
                let keys = columns_of(&change.minus, &key.referenced);
                let Some(table) = self.tables.get_mut(id) else { continue };
                let kept = table.has_keys(&key.referenced, &keys, Some(change))?;
                let Some(table) = self.tables.get_mut(&child.id) else { continue };
                let referred = table.refers(key, &keys, of(child.id))?;
                if let Some(row) = (0..kept.len()).find(|&row| !kept[row] && referred[row]) {
                    return Err(still_referenced(relation, child, key, &change.minus, row));
                }
            }
        }
        Ok(())
    }

    /// Whether a catalog has what its foreign keys refer to. Those that are not in the catalog `before` are held against all
    /// rows that there are, some of them of tables that are `made` with it.
    pub(super) fn check_foreign_keys(
        &mut self,
        before: &Catalog,
        after: &Catalog,
        made: &mut [(RelationId, Table)],
    ) -> Result<()> {
        let known = |key: &ForeignKey| before.relations.values().any(|r| r.foreign_keys.iter().any(|k| k.id == key.id));
        for relation in after.relations.values() {
            for key in &relation.foreign_keys {
                let Some(other) = after.get(key.references) else {
                    return Err(Error::undefined_relation(format!("#{}", key.references)));
                };
                if other.unique_key_over(&key.referenced).is_none() {
                    let message =
                        format!("cannot drop a key of table {} because other objects depend on it", other.name);
                    let detail = format!("constraint {} on table {} depends on it", key.name, relation.name);
                    return Err(Error::new("2BP01", message).detail(detail).hint("Drop the foreign key first."));
                }
                if known(key) {
                    continue;
                }
                let rows = match made.iter().find(|(id, _)| *id == relation.id) {
                    Some((_, table)) => table.rows_now(),
                    None => self.tables.get(&relation.id).map(Table::rows_now).unwrap_or_default(),
                };
                let referenced = match made.iter_mut().find(|(id, _)| *id == key.references) {
                    Some((_, table)) => Some(table),
                    None => self.tables.get_mut(&key.references),
                };
                let Some(referenced) = referenced else { continue };
                for rows in rows {
                    check_there(after, relation, key, &rows, referenced, None)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether each of these rows has what it refers to in `table`, once that has had its change.
fn check_there(
    catalog: &Catalog,
    relation: &Relation,
    key: &ForeignKey,
    rows: &RecordBatch,
    table: &mut Table,
    change: Option<&Checked>,
) -> Result<()> {
    if rows.num_rows() == 0 {
        return Ok(());
    }
    let keys = columns_of(rows, &key.columns);
    let null = any_null(&keys, rows.num_rows());
    let there = table.has_keys(&key.referenced, &keys, change)?;
    let Some(row) = (0..rows.num_rows()).find(|&row| !null[row] && !there[row]) else { return Ok(()) };
    Err(not_present(catalog, relation, key, rows, row))
}

pub(crate) fn not_present(
    catalog: &Catalog,
    relation: &Relation,
    key: &ForeignKey,
    rows: &RecordBatch,
    row: usize,
) -> Error {
    let (name, other) = (&key.name, catalog.get(key.references).map_or("?", |r| r.name.as_str()));
    let message = format!("insert or update on table \"{}\" violates foreign key constraint \"{name}\"", relation.name);
    let columns = columns_of_key(relation, &key.columns, rows, row);
    Error::new("23503", message)
        .detail(format!("Key {columns} is not present in table \"{other}\"."))
        .of_table(&relation.schema_name, &relation.name)
        .of_constraint(name)
}

pub(crate) fn still_referenced(
    relation: &Relation,
    child: &Arc<Relation>,
    key: &ForeignKey,
    rows: &RecordBatch,
    row: usize,
) -> Error {
    let (name, table, child) = (&key.name, &relation.name, child.as_ref());
    let message = format!(
        "update or delete on table \"{table}\" violates foreign key constraint \"{name}\" on table \"{}\"",
        child.name
    );
    let columns = columns_of_key(relation, &key.referenced, rows, row);
    Error::new("23503", message)
        .detail(format!("Key {columns} is still referenced from table \"{}\".", child.name))
        .of_table(&child.schema_name, &child.name)
        .of_constraint(name)
}
