//! ALTER TYPE … RENAME VALUE. Values are kept as labels, so the rows that have the label are written anew with the other one, in
//! tables of their own which take the places of those that there were; all of them and the type in one epoch.
//!
//! ```text
//!   people #16392 (1, sad)   ALTER TYPE mood RENAME VALUE 'sad' TO 'low'    people #16399 (1, low)
//! ```
//!
//! What keeps rows or texts that are not written anew is in the way: streams, materialized views, sinks, and conditions and
//! queries that name the label.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use sqlparser::ast;

use super::super::Session;
use super::super::alter_rows::{check_unchanged, taken_place};
use super::super::definition::definition;
use super::{current, users};
use crate::catalog::{Catalog, Relation, RelationId, RelationKind};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::serve::snapshot::Snapshot;
use crate::serve::table::scan;
use crate::sql::enums::{self, EnumType};
use crate::sql::statement::Name;
use crate::sql::values::quoted_text;
use crate::sql::visit;
use crate::state::store::CatalogChange;
use crate::waits::Reason;

/// So often it is done again because rows or definitions have changed meanwhile.
const TRIES_MAX: usize = 50;

impl Session {
    pub(super) async fn rename_value(&mut self, name: &Name, from: &str, to: &str) -> Result<()> {
        for _ in 1..TRIES_MAX {
            match self.rename_value_once(name, from, to).await {
                Err(error) if error.code == "40001" => {}
                done => return done,
            }
        }
        self.rename_value_once(name, from, to).await
    }

    async fn rename_value_once(&mut self, name: &Name, from: &str, to: &str) -> Result<()> {
        let of = self.enum_found(name)?;
        let catalog = self.core.catalog();
        let (mut renamed, _) = current(&catalog, of.id, &of.name)?;
        with_label_renamed(of, from, to)?.put_into(&mut renamed);
        let tables = tables_with(&catalog, &renamed, from)?;
        let changed = |table: &&Arc<Relation>| {
            self.transaction.as_ref().is_some_and(|t| t.writes.changes.contains_key(&table.id))
        };
        if let Some(table) = tables.iter().find(changed) {
            let message =
                format!("cannot rename a label because this transaction has changed rows of \"{}\"", table.name);
            return Err(Error::new("55006", message).hint("Definitions take effect at once: commit first."));
        }
        // Writers wait rather than have it done again and again.
        let (mut held, mut altering) = (Vec::new(), Vec::new());
        for table in &tables {
            let lock = self.core.lock_of(table.id).lock_owned();
            held.push(self.core.waits.during(self.waiter(), Reason::Lock, Some(table.id), lock).await);
            altering.push(self.core.begin_altering(table.id));
        }
        let snapshot = Snapshot::take(&self.core, &tables).await?;
        let mut rows = Vec::new();
        let mut made: BTreeMap<RelationId, RelationId> = BTreeMap::new();
        for table in &tables {
            let id = self.core.store.next_id()?;
            let mut deltas = Vec::new();
            for batch in scan(&snapshot.relations[&table.id], table, &self.core.store) {
                let batch = with_labels_renamed(&batch?, table, &renamed, from, to)?;
                deltas.push(Delta::inserts(batch));
            }
            deltas.retain(|delta| !delta.is_empty());
            if !deltas.is_empty() {
                rows.push((id, deltas));
            }
            made.insert(table.id, id);
        }
        let (core, epoch) = (self.core.clone(), snapshot.epoch);
        let (from, to, before) = (from.to_string(), to.to_string(), catalog.get(renamed.id).cloned());
        let (olds, news) = (tables.clone(), made.clone());
        let edit = move |catalog: &Catalog| {
            let meanwhile =
                || Error::new("40001", "a table that uses the type changed while its label was being renamed");
            if catalog.get(renamed.id).cloned() != before || tables_with(catalog, &renamed, &from)? != olds {
                return Err(meanwhile());
            }
            let creating = core.creating.lock().expect("no panic while held");
            if creating.values().any(|reads| olds.iter().any(|old| reads.contains(&old.id))) {
                return Err(Error::new("55006", "a materialized view that reads it is being created"));
            }
            drop(creating);
            let mut after = catalog.clone();
            let mut changes = Vec::new();
            for old in &olds {
                check_unchanged(&core, catalog, old, epoch)?;
                // A table before it may be one that it refers to.
                let old = after.get(old.id).cloned().ok_or_else(meanwhile)?;
                let mut new = Relation { id: news[&old.id], ..old.as_ref().clone() };
                for column in &mut new.columns {
                    if let Some(default) = column.default.as_ref().filter(|_| is_of(&column.sql_type, &renamed)) {
                        column.default = Some(default_renamed(default, &from, &to));
                    }
                }
                new.sql = definition(&new, &after);
                let same: Vec<Option<usize>> = (0..new.columns.len()).map(Some).collect();
                let these = taken_place(&core, &after, &old, new, &same, BTreeMap::new())?;
                apply(&mut after, &these);
                changes.extend(these);
            }
            let above = olds.iter().flat_map(|old| super::super::replace::all_dependants(catalog, old.id));
            let above: BTreeMap<RelationId, Arc<Relation>> = above.map(|view| (view.id, view)).collect();
            for view in above.into_values() {
                let mut view = view.as_ref().clone();
                view.depends_on.iter_mut().for_each(|id| *id = news.get(id).copied().unwrap_or(*id));
                changes.push(CatalogChange::Put(Box::new(view)));
            }
            changes.push(CatalogChange::Put(Box::new(renamed)));
            // What is dropped in the end is not changed before.
            let gone = |change: &CatalogChange| match change {
                CatalogChange::Put(relation) => news.contains_key(&relation.id),
                _ => false,
            };
            changes.retain(|change| !gone(change));
            Ok(changes)
        };
        self.edit_with(rows, edit).await?;
        for (old, new) in made {
            self.engine.sources().stop_one(old);
            if let Some(table) = self.core.catalog().get(new) {
                self.engine.sources().start(table, None)?;
            }
        }
        Ok(())
    }
}

fn apply(catalog: &mut Catalog, changes: &[CatalogChange]) {
    for change in changes {
        match change {
            CatalogChange::Put(relation) => {
                catalog.relations.insert(relation.id, Arc::new(relation.as_ref().clone()));
            }
            CatalogChange::Drop(id) => _ = catalog.relations.remove(id),
            _ => {}
        }
    }
}

fn with_label_renamed(mut of: EnumType, from: &str, to: &str) -> Result<EnumType> {
    enums::check_label(to)?;
    if of.rank(to).is_some() {
        return Err(Error::new("42710", format!("enum label \"{to}\" already exists")));
    }
    let Some(label) = of.labels.iter_mut().find(|label| label.text == from) else {
        return Err(Error::new("22023", format!("\"{from}\" is not an existing enum label")));
    };
    label.text = to.to_string();
    Ok(of)
}

/// Whether a column's type is the enum, or an array of it.
fn is_of(sql_type: &str, of: &Relation) -> bool {
    EnumType::of(of).is_some_and(|of| sql_type.trim_end_matches("[]") == of.canonical())
}

/// The tables with columns of a type. Error: 0A000 where something else is in the way of its label's new name.
fn tables_with(catalog: &Catalog, of: &Relation, label: &str) -> Result<Vec<Arc<Relation>>> {
    let refused = |user: &Relation, why: &str| {
        let what = format!("renaming a label of a type that {} {} uses", user.kind.word(), user.name);
        Err(Error::unsupported(what).detail(why.to_string()).hint(
            "ALTER TABLE … ALTER COLUMN … TYPE text, rename the label, UPDATE the rows, and give the column its type back.",
        ))
    };
    let mut tables = Vec::new();
    for user in users(catalog, of) {
        let in_columns = user.columns.iter().any(|column| is_of(&column.sql_type, of));
        match user.kind {
            RelationKind::Table if in_columns => tables.push(user.clone()),
            RelationKind::Table | RelationKind::View => {}
            _ => return refused(user, "It keeps rows that are not written anew."),
        }
    }
    let above = tables.iter().flat_map(|table| super::super::replace::all_dependants(catalog, table.id));
    let above: Vec<Arc<Relation>> = above.collect();
    if let Some(view) = above.iter().find(|view| view.kind != RelationKind::View) {
        return refused(view, "It keeps rows that are not written anew.");
    }
    for user in tables.iter().chain(&above).chain(users(catalog, of)) {
        let generated = user.columns.iter().filter_map(|column| column.generated.as_ref());
        let conditions = generated.chain(user.checks.iter().map(|check| &check.expression));
        let mut texts = conditions.map(|text| format!("SELECT {text}")).chain(user.query.clone());
        if texts.any(|text| names_label(&text, label)) {
            return refused(user, "It names the label.");
        }
    }
    Ok(tables)
}

/// Whether a query has the label in quotes.
fn names_label(query: &str, label: &str) -> bool {
    let Ok(query) = crate::sql::parse::query(query) else { return true };
    let found = visit::visit_expressions(&query, |expr| match quoted_text(expr) {
        Some(text) if text == label => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// `'sad'`, as it is or as a cast of it, becomes `'low'`.
fn default_renamed(default: &str, from: &str, to: &str) -> String {
    let Ok(mut expr) = crate::sql::parse::parse_expression(default) else { return default.to_string() };
    let inner = match &mut expr {
        ast::Expr::Cast { expr, .. } => expr.as_mut(),
        other => other,
    };
    if quoted_text(inner).is_some_and(|text| text == from) {
        *inner = ast::Expr::value(ast::Value::SingleQuotedString(to.to_string()));
        return expr.to_string();
    }
    default.to_string()
}

/// Rows of a table in which the label has its new name.
fn with_labels_renamed(
    rows: &RecordBatch,
    table: &Relation,
    of: &Relation,
    from: &str,
    to: &str,
) -> Result<RecordBatch> {
    let columns = table.columns.iter().zip(rows.columns());
    let columns = columns.map(|(column, values)| match is_of(&column.sql_type, of) {
        true => renamed(values, from, to),
        false => Ok(values.clone()),
    });
    RecordBatch::try_new(table.arrow_schema(), columns.collect::<Result<_>>()?).map_err(Error::internal)
}

fn renamed(values: &ArrayRef, from: &str, to: &str) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Utf8 => {
            let labels = values.as_string::<i32>().iter();
            Ok(Arc::new(labels.map(|label| label.map(|l| if l == from { to } else { l })).collect::<StringArray>()))
        }
        DataType::List(field) => {
            let list = values.as_list::<i32>();
            let items = renamed(list.values(), from, to)?;
            let list = ListArray::try_new(field.clone(), list.offsets().clone(), items, list.nulls().cloned());
            Ok(Arc::new(list.map_err(Error::internal)?))
        }
        other => Err(Error::internal(format!("a label as {other}"))),
    }
}
