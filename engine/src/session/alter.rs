//! ALTER TABLE: columns and constraints.
//!
//! What changes only what is said of the rows (defaults, CHECK, UNIQUE) changes the definition. What changes the rows
//! themselves, or the types that they are stored as, writes them anew, as a table of its own that takes the other one's
//! place in one epoch:
//!
//! ```text
//!   t #16390 (id, name)      ALTER TABLE t ADD COLUMN age int DEFAULT 0      t #16391 (id, name, age)
//!   rows as of epoch 7  ──►  widened, checked  ──►  epoch 8: #16390 goes, #16391 comes with its rows
//! ```
//!
//! Nobody may have changed the rows in between: the commit thread, which decides, then has it done again. Views over the
//! table go on with the new one if their columns stay as they are, else the change is refused (2BP01); materialized views are
//! made anew with it (`alter_below.rs`). A stream is never written anew (`alter_stream.rs`). What the same transaction has changed
//! in the table before becomes changes of the new one, still to be committed or not (`alter_own.rs`).

use std::collections::BTreeMap;

use super::Session;
use super::constraints::key_columns;
use super::definition::definition;
use super::generated::{refuse_dependent, refuse_other_type};
use crate::catalog::{Check, Column, Identity, IdentityKind, Relation, RelationId, RelationKind};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::sql::conditions::{names_column, renamed};
use crate::sql::statement::{AlterAction, Constraint, ConstraintKind, CreateRelation, IdentityDefinition, Name};

/// So often it is done again because rows or definitions have changed meanwhile.
const TRIES_MAX: usize = 50;

/// Where a column's values come from.
pub(super) enum Origin {
    /// The column that was there.
    Kept(usize),
    /// The same, as values of another type: by the expression, if there is one.
    Changed(usize, Option<String>),
    /// Its default.
    New,
}

/// The table as it is to be.
pub(super) struct Draft {
    pub relation: Relation,
    pub origins: Vec<Origin>,
    /// The rows are to be written anew.
    rewrites: bool,
    /// To be held against the rows that there are.
    pub new_checks: Vec<Check>,
    /// The next numbers of sequences that come with the table: they are in no catalog yet.
    pub next_numbers: BTreeMap<RelationId, i128>,
    /// What the transaction has changed in the table, as changes of this one: up to each of its savepoints, and since.
    pub own: Option<Vec<Vec<Delta>>>,
    /// Sequences that begin anew, with the first number where one is given.
    restarts: Vec<(Identity, Option<i64>)>,
}

impl Draft {
    pub(super) fn new(relation: &Relation) -> Draft {
        let origins = (0..relation.columns.len()).map(Origin::Kept).collect();
        let relation = relation.clone();
        let (new_checks, restarts) = (Vec::new(), Vec::new());
        Draft { relation, origins, rewrites: false, new_checks, next_numbers: BTreeMap::new(), own: None, restarts }
    }

    /// Its columns are others now.
    fn change_columns(&mut self) {
        self.relation.schema = Default::default();
        self.rewrites = true;
    }

    /// For each column the one that it was before.
    pub fn came_from(&self) -> Vec<Option<usize>> {
        let from = |origin: &Origin| match origin {
            Origin::Kept(from) | Origin::Changed(from, _) => Some(*from),
            Origin::New => None,
        };
        self.origins.iter().map(from).collect()
    }

    fn column(&self, name: &str) -> Result<usize> {
        let missing = || {
            let table = &self.relation.name;
            Error::new("42703", format!("column \"{name}\" of relation \"{table}\" does not exist"))
        };
        self.relation.columns.iter().position(|c| c.name == name).ok_or_else(missing)
    }

    fn drop_column(&mut self, at: usize) {
        let Relation {
            id, columns, primary_key, primary_key_name, indexes, checks, foreign_keys, column_comments, ..
        } = &mut self.relation;
        let name = columns.remove(at).name;
        self.origins.remove(at);
        // What is said of the column goes with it.
        if primary_key.contains(&at) {
            primary_key.clear();
            *primary_key_name = None;
        }
        indexes.retain(|index| !index.columns.contains(&at));
        checks.retain(|check| !names_column(&check.expression, &name));
        foreign_keys
            .retain(|key| !key.columns.contains(&at) && !(key.references == *id && key.referenced.contains(&at)));
        self.new_checks.retain(|check| !names_column(&check.expression, &name));
        let shift = |column: &mut usize| *column -= usize::from(*column > at);
        primary_key.iter_mut().for_each(shift);
        indexes.iter_mut().for_each(|index| index.columns.iter_mut().for_each(shift));
        foreign_keys.iter_mut().for_each(|key| key.columns.iter_mut().for_each(shift));
        let own = foreign_keys.iter_mut().filter(|key| key.references == *id);
        own.for_each(|key| key.referenced.iter_mut().for_each(shift));
        let comments = std::mem::take(column_comments).into_iter().filter(|(column, _)| *column != at);
        *column_comments = comments.map(|(column, text)| (column - usize::from(column > at), text)).collect();
        self.change_columns();
    }

    fn rename_column(&mut self, at: usize, new_name: &str) -> Result<()> {
        let old = std::mem::replace(&mut self.relation.columns[at].name, new_name.to_string());
        for check in self.relation.checks.iter_mut().chain(&mut self.new_checks) {
            check.expression = renamed(&check.expression, &old, new_name)?;
        }
        for generated in self.relation.columns.iter_mut().filter_map(|column| column.generated.as_mut()) {
            *generated = renamed(generated, &old, new_name)?;
        }
        if let Some(column) = self.relation.options.get_mut(crate::ttl::TTL_COLUMN).filter(|column| **column == old) {
            *column = new_name.to_string();
        }
        self.change_columns();
        Ok(())
    }

    fn set_primary_key(&mut self, key: &[String], name: Option<String>) -> Result<()> {
        let relation = &mut self.relation;
        if !relation.primary_key.is_empty() {
            let message = format!("multiple primary keys for table \"{}\" are not allowed", relation.name);
            return Err(Error::new("42P16", message));
        }
        relation.primary_key = key_columns(relation, key)?;
        relation.primary_key_name =
            name.filter(|name| *name != crate::catalog::made_name(&relation.name, None, "pkey"));
        for &at in &relation.primary_key {
            relation.columns[at].nullable = false;
        }
        self.change_columns();
        Ok(())
    }

    /// Returns whether there was one.
    fn drop_constraint(&mut self, name: &str) -> bool {
        let known = self.relation.has_constraint(name);
        if !self.relation.primary_key.is_empty() && self.relation.primary_key_name() == name {
            self.relation.primary_key.clear();
            self.relation.primary_key_name = None;
            self.rewrites = true;
        }
        self.relation.checks.retain(|check| check.name != name);
        self.new_checks.retain(|check| check.name != name);
        self.relation.foreign_keys.retain(|key| key.name != name);
        self.relation.indexes.retain(|index| !(index.constraint && index.name == name));
        known
    }
}

impl Session {
    pub(super) async fn alter_table(
        &mut self,
        kind: RelationKind,
        name: &Name,
        if_exists: bool,
        actions: &[AlterAction],
    ) -> Result<()> {
        for _ in 1..TRIES_MAX {
            let before = self.core.catalog();
            match self.alter_or_put_off(kind, name, if_exists, actions).await {
                Err(error) if error.code == "40001" || self.is_replaced(&before, &error) => {}
                done => return done,
            }
        }
        self.alter_or_put_off(kind, name, if_exists, actions).await
    }

    pub(super) async fn alter_once(
        &mut self,
        kind: RelationKind,
        name: &Name,
        if_exists: bool,
        actions: &[AlterAction],
    ) -> Result<()> {
        let Some(found) = self.existing(name) else {
            if if_exists {
                self.notice("NOTICE", "42P01", format!("relation \"{name}\" does not exist, skipping"));
                return Ok(());
            }
            return Err(Error::undefined_relation(name));
        };
        let is_stream = found.kind == RelationKind::Stream;
        if !is_stream && (found.kind != kind || kind != RelationKind::Table) {
            return Err(Error::new("42809", format!("\"{}\" is not a table", found.name)));
        }
        if is_stream {
            return self.alter_stream(&found, actions).await;
        }
        let mut draft = Draft::new(&found);
        for action in actions {
            self.apply(&mut draft, action)?;
        }
        crate::ttl::Ttl::of(&draft.relation.columns, &draft.relation.options)?;
        if draft.relation != *found || draft.rewrites {
            draft.relation.sql = definition(&draft.relation, &self.core.catalog());
            match draft.rewrites {
                true => self.write_anew(&found, &mut draft).await?,
                false => self.redefine(&found, &draft).await?,
            }
            if let (Some(own), Some(transaction)) = (draft.own.take(), &mut self.transaction) {
                transaction.replace_changes(found.id, draft.relation.id, own);
            }
            self.late_follow(found.id, draft.relation.id, actions)?;
        }
        for (sequence, with) in draft.restarts {
            let next = i128::from(with.unwrap_or(sequence.start));
            super::numbers::set_next(&self.core, sequence.id, next).await?;
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, draft: &mut Draft, action: &AlterAction) -> Result<()> {
        match action {
            AlterAction::AddColumn { definition, if_not_exists } => self.add_column(draft, definition, *if_not_exists),
            AlterAction::DropColumn { column, if_exists } => match draft.column(column) {
                Ok(_) if draft.relation.columns.len() == 1 => Err(Error::unsupported("a table without columns")),
                Ok(at) => {
                    refuse_dependent(&draft.relation, column)?;
                    draft.drop_column(at);
                    Ok(())
                }
                Err(error) if *if_exists => {
                    self.notice("NOTICE", "00000", format!("{}, skipping", error.message));
                    Ok(())
                }
                Err(error) => Err(error),
            },
            AlterAction::RenameColumn { column, new_name } => {
                let at = draft.column(column)?;
                if draft.column(new_name).is_ok() {
                    return Err(duplicate_column(&draft.relation, new_name));
                }
                draft.rename_column(at, new_name)
            }
            AlterAction::SetDefault { column, default } => {
                let at = draft.column(column)?;
                self.set_default(draft, at, default.as_deref())
            }
            AlterAction::SetNotNull { column, not_null } => {
                let at = draft.column(column)?;
                set_not_null(draft, at, *not_null)
            }
            AlterAction::SetType { column, sql_type, using } => {
                let at = draft.column(column)?;
                self.set_type(draft, at, sql_type, using.as_ref().map(|expr| expr.to_string()))
            }
            AlterAction::AddConstraint(Constraint { name, kind: ConstraintKind::PrimaryKey(key) }) => {
                draft.set_primary_key(key, name.clone())
            }
            AlterAction::AddConstraint(constraint) => self.add_checked(draft, std::slice::from_ref(constraint)),
            AlterAction::DropConstraint { name, if_exists } => {
                if draft.drop_constraint(name) {
                    return Ok(());
                }
                let table = &draft.relation.name;
                let message = format!("constraint \"{name}\" of relation \"{table}\" does not exist");
                if *if_exists {
                    self.notice("NOTICE", "00000", format!("{message}, skipping"));
                    return Ok(());
                }
                Err(Error::undefined_object(message))
            }
            AlterAction::RenameConstraint { name, new_name } => rename_constraint(&mut draft.relation, name, new_name),
            AlterAction::ValidateConstraint { name } if draft.relation.has_constraint(name) => Ok(()),
            AlterAction::ValidateConstraint { name } => Err(no_constraint(&draft.relation, name)),
            AlterAction::AddIdentity { column, identity } => {
                let at = draft.column(column)?;
                self.add_identity(draft, at, identity)
            }
            AlterAction::Restart { column, with } => {
                let at = draft.column(column)?;
                let Some(sequence) = draft.relation.columns[at].identity.clone() else {
                    let table = &draft.relation.name;
                    let message = format!("column \"{column}\" of relation \"{table}\" is not an identity column");
                    return Err(Error::new("55000", message));
                };
                if let Some(with) = with {
                    super::numbers::next_after(&sequence, *with, false)?;
                }
                draft.restarts.push((sequence, *with));
                Ok(())
            }
        }
    }

    fn add_column(&mut self, draft: &mut Draft, definition: &CreateRelation, if_not_exists: bool) -> Result<()> {
        let new = &definition.columns[0];
        if draft.column(&new.name).is_ok() {
            let error = duplicate_column(&draft.relation, &new.name);
            if if_not_exists {
                self.notice("NOTICE", error.code, format!("{}, skipping", error.message));
                return Ok(());
            }
            return Err(error);
        }
        let (schema, table) = (&draft.relation.schema_name, &draft.relation.name);
        let others: Vec<String> = draft.relation.sequences().map(|sequence| sequence.name.clone()).collect();
        let sequence = |of| self.new_sequence(of, &new.sql_type, schema, table, &new.name, &others);
        let mut column = Column {
            name: new.name.clone(),
            sql_type: self.type_found(&new.sql_type)?,
            nullable: new.nullable,
            default: new.default.clone(),
            identity: new.identity.as_ref().map(sequence).transpose()?,
            generated: new.generated.clone(),
            absent: None,
        };
        crate::sql::types::field(&column.name, &column.sql_type, column.nullable)?;
        if let Some(default) = &column.default {
            super::defaults::check_default(self, &column, default)?;
            column.default = Some(self.with_sequences_found(default)?);
        }
        if let Some(sequence) = &column.identity {
            draft.next_numbers.insert(sequence.id, i128::from(sequence.start));
        }
        draft.relation.columns.push(column);
        draft.origins.push(Origin::New);
        draft.change_columns();
        self.check_generated_columns(&draft.relation)?;
        if !definition.primary_key.is_empty() {
            draft.set_primary_key(&definition.primary_key, definition.primary_key_name.clone())?;
        }
        self.add_checked(draft, &definition.constraints)
    }

    /// UNIQUE is held against the rows where commits pass, CHECK here.
    fn add_checked(&self, draft: &mut Draft, constraints: &[Constraint]) -> Result<()> {
        let known = draft.relation.checks.len();
        self.add_constraints(&mut draft.relation, constraints)?;
        draft.new_checks.extend_from_slice(&draft.relation.checks[known..]);
        Ok(())
    }

    /// The column counts its rows from now on; those that there are keep their numbers.
    fn add_identity(&self, draft: &mut Draft, at: usize, identity: &IdentityDefinition) -> Result<()> {
        let (table, column) = (&draft.relation.name, &draft.relation.columns[at]);
        let refused = |why: &str| {
            let message = format!("column \"{}\" of relation \"{table}\" {why}", column.name);
            Err(Error::new("55000", message))
        };
        if column.identity.is_some() {
            return refused("is already an identity column");
        }
        if column.default.is_some() || column.generated.is_some() {
            return refused("already has a default value");
        }
        if column.nullable {
            return refused("must be declared NOT NULL before identity can be added");
        }
        let others: Vec<String> = draft.relation.sequences().map(|sequence| sequence.name.clone()).collect();
        let schema = &draft.relation.schema_name;
        let sequence = self.new_sequence(identity, &column.sql_type, schema, table, &column.name, &others)?;
        draft.next_numbers.insert(sequence.id, i128::from(sequence.start));
        draft.relation.columns[at].identity = Some(sequence);
        draft.change_columns();
        Ok(())
    }

    fn set_default(&mut self, draft: &mut Draft, at: usize, default: Option<&str>) -> Result<()> {
        let column = &draft.relation.columns[at];
        refuse_identity(&draft.relation, column)?;
        if column.generated.is_some() {
            let (name, table) = (&column.name, &draft.relation.name);
            let message = format!("column \"{name}\" of relation \"{table}\" is a generated column");
            return Err(Error::syntax(message));
        }
        if let Some(default) = default {
            super::defaults::check_default(self, column, default)?;
        }
        let default = default.map(|default| self.with_sequences_found(default)).transpose()?;
        let column = &mut draft.relation.columns[at];
        column.default = default;
        // A serial column's number was its default.
        column.identity = None;
        Ok(())
    }

    fn set_type(&self, draft: &mut Draft, at: usize, sql_type: &str, using: Option<String>) -> Result<()> {
        let sql_type = &*self.type_found(sql_type)?;
        crate::sql::types::field(&draft.relation.columns[at].name, sql_type, true)?;
        refuse_other_type(&draft.relation, &draft.relation.columns[at].name)?;
        self.refuse_type_of_key(draft, at)?;
        let Origin::Kept(from) = draft.origins[at] else {
            return Err(Error::unsupported("changing the type of a column twice, or of one that is added"));
        };
        let column = &mut draft.relation.columns[at];
        if column.identity.is_some() && !["smallint", "integer", "bigint"].contains(&sql_type) {
            return Err(Error::new("22023", "identity column type must be smallint, integer, or bigint"));
        }
        if let Some(sequence) = column.identity.as_mut().filter(|_| sql_type == "smallint") {
            sequence.max = sequence.max.min(i64::from(i16::MAX));
        } else if let Some(sequence) = column.identity.as_mut().filter(|_| sql_type == "integer") {
            sequence.max = sequence.max.min(i64::from(i32::MAX));
        } else if let Some(sequence) = &mut column.identity
            && [i64::from(i16::MAX), i64::from(i32::MAX)].contains(&sequence.max)
        {
            sequence.max = i64::MAX;
        }
        if using.is_none() && !casts_alone(&column.sql_type, sql_type) {
            let name = &column.name;
            let message = format!("column \"{name}\" cannot be cast automatically to type {sql_type}");
            let hint = format!("You might need to specify \"USING {name}::{sql_type}\".");
            return Err(Error::new("42804", message).hint(hint));
        }
        column.sql_type = sql_type.to_string();
        draft.origins[at] = Origin::Changed(from, using);
        draft.change_columns();
        let column = &draft.relation.columns[at];
        if let Some(default) = &column.default {
            super::defaults::check_default(self, column, default)?;
        }
        // What was so of the values of before may not be so of those.
        let own = draft.relation.checks.iter().filter(|check| names_column(&check.expression, &column.name));
        let own: Vec<Check> = own.cloned().collect();
        draft.new_checks.extend(own);
        Ok(())
    }
}

fn set_not_null(draft: &mut Draft, at: usize, not_null: bool) -> Result<()> {
    let relation = &draft.relation;
    let column = &relation.columns[at];
    if column.nullable != not_null {
        return Ok(());
    }
    if !not_null && relation.primary_key.contains(&at) {
        return Err(Error::new("42P16", format!("column \"{}\" is in a primary key", column.name)));
    }
    if !not_null {
        refuse_identity(relation, column)?;
    }
    draft.relation.columns[at].nullable = !not_null;
    draft.change_columns();
    Ok(())
}

fn refuse_identity(relation: &Relation, column: &Column) -> Result<()> {
    match &column.identity {
        Some(sequence) if sequence.kind != IdentityKind::Serial => {
            let (name, table) = (&column.name, &relation.name);
            let message = format!("column \"{name}\" of relation \"{table}\" is an identity column");
            Err(Error::syntax(message))
        }
        _ => Ok(()),
    }
}

fn no_constraint(relation: &Relation, name: &str) -> Error {
    let table = &relation.name;
    Error::undefined_object(format!("constraint \"{name}\" of relation \"{table}\" does not exist"))
}

fn rename_constraint(relation: &mut Relation, name: &str, new_name: &str) -> Result<()> {
    let table = relation.name.clone();
    if !relation.has_constraint(name) {
        return Err(no_constraint(relation, name));
    }
    if relation.has_constraint(new_name) {
        let message = format!("constraint \"{new_name}\" for relation \"{table}\" already exists");
        return Err(Error::new("42710", message));
    }
    if !relation.primary_key.is_empty() && relation.primary_key_name() == name {
        relation.primary_key_name = Some(new_name.to_string());
    }
    relation.checks.iter_mut().filter(|check| check.name == name).for_each(|check| check.name = new_name.to_string());
    let keys = relation.foreign_keys.iter_mut().filter(|key| key.name == name);
    keys.for_each(|key| key.name = new_name.to_string());
    let indexes = relation.indexes.iter_mut().filter(|index| index.constraint && index.name == name);
    indexes.for_each(|index| index.name = new_name.to_string());
    Ok(())
}

/// Whether values of one type become values of another without being told how: numbers numbers, days and times such, and
/// anything text.
fn casts_alone(from: &str, to: &str) -> bool {
    let family = |sql_type: &str| match crate::sql::types::plain_type(sql_type).as_str() {
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" => "numbers".to_string(),
        "text" | "character varying" | "character" | "name" => "texts".into(),
        "date" | "timestamp without time zone" | "timestamp with time zone" => "times".into(),
        other => other.into(),
    };
    family(to) == "texts" || family(from) == family(to)
}

fn duplicate_column(relation: &Relation, name: &str) -> Error {
    Error::new("42701", format!("column \"{name}\" of relation \"{}\" already exists", relation.name))
}
