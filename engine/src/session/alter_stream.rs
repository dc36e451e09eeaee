//! ALTER TABLE of a stream: its log keeps rows as they came, so it only gets columns, at the end, other names for them, and
//! other defaults.
//!
//! Rows that were logged before have in a new column the value that its default had when it came (`state/store/shapes.rs`),
//! also where they are replayed. Views over the stream go on: none of them reads the column, or names the one that is
//! called otherwise.

use std::sync::Arc;

use super::Session;
use super::alter::Draft;
use super::alter_rows::changed_meanwhile;
use super::definition::definition;
use crate::catalog::{Catalog, LateRows, Relation, RelationId};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::sql::statement::AlterAction;
use crate::state::store::{CatalogChange, absent_text};
use crate::state::versions::VersionColumns;

impl Session {
    pub(super) async fn alter_stream(&mut self, found: &Arc<Relation>, actions: &[AlterAction]) -> Result<()> {
        let mut draft = Draft::new(found);
        for action in actions {
            check_action(found, action)?;
            self.apply(&mut draft, action)?;
            if let AlterAction::RenameColumn { column, new_name } = action {
                rename_in_options(&mut draft.relation, column, new_name);
            }
        }
        for at in found.columns.len()..draft.relation.columns.len() {
            self.note_absent(&mut draft.relation, at).await?;
        }
        if draft.relation == **found {
            return Ok(());
        }
        draft.relation.sql = definition(&draft.relation, &self.core.catalog());
        let reshapes = names_of(&draft.relation) != names_of(found);
        let views = if reshapes { self.views_over(&self.core.catalog(), found, &draft)? } else { Vec::new() };
        let (core, old, new) = (self.core.clone(), found.clone(), draft.relation);
        self.edit(move |catalog| {
            if catalog.get(old.id) != Some(&old) {
                return Err(changed_meanwhile(&old));
            }
            if reshapes {
                let takes_late = |other: &Arc<Relation>| match other.watermark.as_ref().map(|watermark| watermark.late)
                {
                    Some(LateRows::Into(id)) => id == old.id,
                    _ => false,
                };
                if let Some(other) = catalog.relations.values().find(|other| takes_late(other)) {
                    let message = format!("cannot alter stream {} because other objects depend on it", old.name);
                    let detail = format!("the late rows of stream {} go INTO it", other.name);
                    return Err(Error::new("2BP01", message).detail(detail));
                }
                let same = |(before, _): &(Arc<Relation>, Relation)| catalog.get(before.id) == Some(before);
                if super::replace::all_dependants(catalog, old.id).len() != views.len() || !views.iter().all(same) {
                    return Err(changed_meanwhile(&old));
                }
                if core.creating.lock().expect("no panic while held").values().any(|reads| reads.contains(&old.id)) {
                    return Err(Error::new("55006", "a materialized view that reads it is being created"));
                }
            }
            Ok(vec![CatalogChange::Put(Box::new(new))])
        })
        .await?;
        // Rows of this transaction follow.
        let store = self.core.store.clone();
        if let Some(transaction) = self.transaction.as_mut()
            && let Some(parts) = transaction.own_parts(found.id)
        {
            let widened = |part: &[Delta]| part.iter().map(|delta| store.widened(found.id, delta.clone())).collect();
            let own = parts.into_iter().map(widened).collect::<Result<Vec<Vec<Delta>>>>()?;
            transaction.replace_changes(found.id, found.id, own);
        }
        Ok(())
    }

    /// What rows that there are have in a new column.
    async fn note_absent(&mut self, relation: &mut Relation, at: usize) -> Result<()> {
        // A default that differs from row to row has no one value. Two rows tell: that they are equal by chance does no harm.
        let values = self.default_value(relation, at, 2).await?;
        let (value, other) = (values.slice(0, 1), values.slice(1, 1));
        let column = &mut relation.columns[at];
        if value.to_data() != other.to_data() {
            let message = format!("column \"{}\" of a stream with a default that differs from row to row", column.name);
            return Err(Error::unsupported(message).hint("Add it without a default, then set the default."));
        }
        if value.is_null(0) && !column.nullable {
            let (name, stream) = (&column.name, &relation.name);
            let message = format!("column \"{name}\" of relation \"{stream}\" contains null values");
            return Err(Error::new("23502", message).of_table(&relation.schema_name, stream).of_column(name));
        }
        column.absent = Some(absent_text(&value)?);
        Ok(())
    }
}

/// That no relation of `ids` has other columns in one catalog than in the other, which a query over it might show.
pub(super) fn check_columns(before: &Catalog, now: &Catalog, ids: &[RelationId]) -> Result<()> {
    let differs = |id: &&RelationId| before.get(**id).map(|r| names_of(r)) != now.get(**id).map(|r| names_of(r));
    let altered = ids.iter().filter(differs).find_map(|id| now.get(*id));
    altered.map_or(Ok(()), |relation| Err(changed_meanwhile(relation)))
}

fn names_of(relation: &Relation) -> Vec<&str> {
    relation.columns.iter().map(|column| column.name.as_str()).collect()
}

/// Options that name columns.
fn rename_in_options(stream: &mut Relation, column: &str, new_name: &str) {
    for option in VersionColumns::OPTIONS.into_iter().chain([crate::compaction::KEY]) {
        if let Some(names) = stream.options.get_mut(option) {
            let renamed = names.split(',').map(str::trim).map(|name| if name == column { new_name } else { name });
            *names = renamed.collect::<Vec<_>>().join(", ");
        }
    }
}

/// Refuses what a log cannot follow.
fn check_action(stream: &Relation, action: &AlterAction) -> Result<()> {
    let refused = |what: &str| {
        Err(Error::unsupported(what).hint(
            "Its log keeps rows as they came. Make another stream, or a view that shows this one as it is to be.",
        ))
    };
    match action {
        AlterAction::SetDefault { .. } => Ok(()),
        AlterAction::RenameColumn { .. } => {
            if stream.options.contains_key("connector") {
                return refused("renaming a column of a stream that a connector fills");
            }
            if stream.watermark.as_ref().is_some_and(|watermark| matches!(watermark.late, LateRows::Into(_))) {
                return refused("renaming a column of a stream whose late rows go INTO a table");
            }
            Ok(())
        }
        AlterAction::AddColumn { definition, .. } => {
            let column = &definition.columns[0];
            if stream.options.contains_key("connector") {
                return refused("adding a column to a stream that a connector fills");
            }
            if stream.watermark.as_ref().is_some_and(|watermark| matches!(watermark.late, LateRows::Into(_))) {
                return refused("adding a column to a stream whose late rows go INTO a table");
            }
            if column.identity.is_some() || column.generated.is_some() {
                return refused("adding an identity or generated column to a stream");
            }
            if !definition.primary_key.is_empty() || !definition.constraints.is_empty() {
                return refused("adding a column with a constraint to a stream");
            }
            Ok(())
        }
        _ => refused("this change of a stream"),
    }
}
