//! Constraints that a transaction adds, and that only its own changes fulfil: they are put off until COMMIT.
//!
//! ```text
//!   BEGIN;  ALTER TABLE t ADD COLUMN n int              at once: as last committed, every n is NULL
//!           UPDATE t SET n = id                         the transaction's own
//!           ALTER TABLE t ALTER COLUMN n SET NOT NULL   so of what it sees, not of what is committed: noted
//!   COMMIT                                              looks again; then the rows, then the constraint
//! ```

use super::super::Session;
use super::super::alter::Draft;
use super::super::dml::{full_name, quoted};
use crate::catalog::{Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::sql::conditions::{names_column, renamed};
use crate::sql::statement::{AlterAction, Constraint, ConstraintKind, Name};

/// A constraint that comes with COMMIT.
pub(in crate::session) struct Late {
    table: RelationId,
    action: AlterAction,
    /// Why it could not come at once.
    error: Error,
}

impl Session {
    /// ALTER TABLE of a table, at once; constraints that the rows fulfil as the transaction sees them alone, at COMMIT.
    pub(in crate::session) async fn alter_or_put_off(
        &mut self,
        kind: RelationKind,
        name: &Name,
        if_exists: bool,
        actions: &[AlterAction],
    ) -> Result<()> {
        let error = match Box::pin(self.alter_once(kind, name, if_exists, actions)).await {
            Err(error) if matches!(error.code, "23502" | "23503" | "23505" | "23514") => error,
            done => return done,
        };
        let has_changed = self.transaction.as_ref().is_some_and(|t| !t.writes.changes.is_empty());
        let (late, now): (Vec<_>, Vec<_>) = actions.iter().cloned().partition(can_be_late);
        if !has_changed || late.is_empty() || self.relation(name)?.kind != RelationKind::Table {
            return Err(error);
        }
        if !now.is_empty() {
            Box::pin(self.alter_once(kind, name, if_exists, &now)).await?;
        }
        let table = self.relation(name)?;
        let mut draft = Draft::new(&table);
        for action in &late {
            self.apply(&mut draft, action)?;
            if self.is_broken(&draft.relation, action).await? {
                return Err(error);
            }
        }
        let transaction = self.transaction.as_mut().expect("it has changed something");
        let late = late.into_iter().map(|action| Late { table: table.id, action, error: error.clone() });
        transaction.late.extend(late);
        Ok(())
    }

    /// Looks once more before the rows are written.
    pub(in crate::session) async fn check_late(&mut self) -> Result<()> {
        let late = self.transaction.as_mut().map(|t| std::mem::take(&mut t.late)).unwrap_or_default();
        let mut drafts: Vec<(RelationId, Draft)> = Vec::new();
        for Late { table, action, error } in &late {
            let Some(relation) = self.core.catalog().get(*table).cloned() else { continue };
            let at = match drafts.iter().position(|(id, _)| id == table) {
                Some(at) => at,
                None => {
                    drafts.push((*table, Draft::new(&relation)));
                    drafts.len() - 1
                }
            };
            self.apply(&mut drafts[at].1, action)?;
            if self.is_broken(&drafts[at].1.relation, action).await? {
                return Err(error.clone());
            }
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.late = late;
        }
        Ok(())
    }

    /// After the rows. Somebody may have written others since [`Session::check_late`].
    pub(in crate::session) async fn add_late(&mut self, late: Vec<Late>) -> Result<()> {
        let mut moved: Vec<(RelationId, RelationId)> = Vec::new();
        for Late { table, action, .. } in late {
            let id = moved.iter().fold(table, |id, (old, new)| if id == *old { *new } else { id });
            let Some(relation) = self.core.catalog().get(id).cloned() else { continue };
            let name = Name { schema: Some(relation.schema_name.clone()), name: relation.name.clone() };
            let added = Box::pin(self.alter_table(RelationKind::Table, &name, false, &[action])).await;
            added.map_err(|error| {
                error.detail("What the transaction has written is committed, without this constraint.")
            })?;
            let by_name = self.core.catalog().find(&relation.schema_name, &relation.name).map(|found| found.id);
            moved.extend(by_name.map(|new| (id, new)).filter(|(old, new)| old != new));
        }
        Ok(())
    }

    /// Whether rows as the transaction sees them are not as a constraint says, which `table` has by now.
    async fn is_broken(&mut self, table: &Relation, action: &AlterAction) -> Result<bool> {
        for text in self.violations(table, action) {
            let query = crate::sql::parse::query(&text)?;
            if Box::pin(self.rows_of_query(&query, &[], &[])).await?.num_rows() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Queries that give rows of which it is not so.
    fn violations(&self, table: &Relation, action: &AlterAction) -> Vec<String> {
        let from = full_name(table);
        let list = |columns: &[String], between: &str, after: &str| {
            let named: Vec<String> = columns.iter().map(|column| format!("{}{after}", quoted(column))).collect();
            named.join(between)
        };
        let nulls =
            |columns: &[String]| format!("SELECT 1 FROM {from} WHERE {} LIMIT 1", list(columns, " OR ", " IS NULL"));
        let twice = |columns: &[String]| {
            let (given, key) = (list(columns, " AND ", " IS NOT NULL"), list(columns, ", ", ""));
            format!("SELECT 1 FROM {from} WHERE {given} GROUP BY {key} HAVING count(*) > 1 LIMIT 1")
        };
        match action {
            AlterAction::SetNotNull { column, .. } => vec![nulls(std::slice::from_ref(column))],
            AlterAction::AddConstraint(Constraint { kind, .. }) => match kind {
                ConstraintKind::PrimaryKey(key) => vec![nulls(key), twice(key)],
                ConstraintKind::Unique(key) => vec![twice(key)],
                ConstraintKind::Check(condition) => {
                    vec![format!("SELECT 1 FROM {from} WHERE NOT ({condition}) LIMIT 1")]
                }
                ConstraintKind::ForeignKey(_) => self.without_other(table).into_iter().collect(),
            },
            _ => Vec::new(),
        }
    }

    /// Rows of a table whose last foreign key leads nowhere.
    fn without_other(&self, table: &Relation) -> Option<String> {
        let key = table.foreign_keys.last()?;
        let catalog = self.core.catalog();
        let other = catalog.get(key.references)?;
        let column = |of: &Relation, at: usize, alias: &str| format!("{alias}.{}", quoted(&of.columns[at].name));
        let given = key.columns.iter().map(|&at| format!("{} IS NOT NULL", column(table, at, "r")));
        let pairs = key.columns.iter().zip(&key.referenced);
        let same = pairs.map(|(&at, &to)| format!("{} = {}", column(table, at, "r"), column(other, to, "k")));
        let (given, same) = (given.collect::<Vec<_>>().join(" AND "), same.collect::<Vec<_>>().join(" AND "));
        let (from, keys) = (full_name(table), full_name(other));
        let exists = format!("EXISTS (SELECT 1 FROM {keys} AS k WHERE {same})");
        Some(format!("SELECT 1 FROM {from} AS r WHERE {given} AND NOT {exists} LIMIT 1"))
    }

    /// What is put off follows a table that is altered once more.
    pub(in crate::session) fn late_follow(
        &mut self,
        old: RelationId,
        new: RelationId,
        actions: &[AlterAction],
    ) -> Result<()> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        for action in actions {
            match action {
                AlterAction::RenameColumn { column, new_name } => {
                    let late = transaction.late.iter_mut().filter(|late| late.table == old);
                    late.map(|late| rename(&mut late.action, column, new_name)).collect::<Result<()>>()?;
                }
                AlterAction::DropColumn { column, .. } => {
                    transaction.late.retain(|late| late.table != old || !speaks_of(&late.action, column));
                }
                AlterAction::SetNotNull { column, not_null: false } => {
                    let undone = |action: &AlterAction| matches!(action, AlterAction::SetNotNull { column: c, .. } if c == column);
                    transaction.late.retain(|late| late.table != old || !undone(&late.action));
                }
                _ => {}
            }
        }
        transaction.late.iter_mut().filter(|late| late.table == old).for_each(|late| late.table = new);
        Ok(())
    }
}

fn can_be_late(action: &AlterAction) -> bool {
    matches!(action, AlterAction::SetNotNull { not_null: true, .. } | AlterAction::AddConstraint(_))
}

/// The columns that a key is of.
fn key_of(kind: &ConstraintKind) -> &[String] {
    match kind {
        ConstraintKind::PrimaryKey(key) | ConstraintKind::Unique(key) => key,
        ConstraintKind::ForeignKey(key) => &key.columns,
        ConstraintKind::Check(_) => &[],
    }
}

fn speaks_of(action: &AlterAction, column: &str) -> bool {
    match action {
        AlterAction::SetNotNull { column: of, .. } => of == column,
        AlterAction::AddConstraint(Constraint { kind: ConstraintKind::Check(condition), .. }) => {
            names_column(condition, column)
        }
        AlterAction::AddConstraint(Constraint { kind, .. }) => key_of(kind).iter().any(|of| of == column),
        _ => false,
    }
}

fn rename(action: &mut AlterAction, old: &str, new: &str) -> Result<()> {
    match action {
        AlterAction::SetNotNull { column, .. } if column == old => *column = new.to_string(),
        AlterAction::AddConstraint(Constraint { kind, .. }) => match kind {
            ConstraintKind::Check(condition) => *condition = renamed(condition, old, new)?,
            ConstraintKind::PrimaryKey(key) | ConstraintKind::Unique(key) => {
                key.iter_mut().filter(|column| *column == old).for_each(|column| *column = new.to_string());
            }
            ConstraintKind::ForeignKey(key) => {
                let own = key.columns.iter_mut().filter(|column| *column == old);
                own.for_each(|column| *column = new.to_string());
            }
        },
        _ => {}
    }
    Ok(())
}
