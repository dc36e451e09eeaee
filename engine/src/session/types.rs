//! CREATE TYPE … AS ENUM, ALTER TYPE, and the types that definitions name. What they are: see [`crate::sql::enums`].

mod rename;

use std::sync::Arc;

use super::{Outcome, Session};
use crate::catalog::{Catalog, Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::sql::enums::{self, EnumType, TypeChange};
use crate::sql::statement::{CreateRelation, Name};
use crate::state::store::CatalogChange;

impl Session {
    pub(super) async fn change_type(&mut self, change: &TypeChange, text: &str) -> Result<Outcome> {
        match change {
            TypeChange::Create { name, labels } => self.create_type(name, labels, text).await?,
            TypeChange::AddValue { name, label, if_not_exists, beside } => {
                self.add_value(name, label, *if_not_exists, beside.clone()).await?;
            }
            TypeChange::RenameValue { name, from, to } => self.rename_value(name, from, to).await?,
        }
        Ok(Outcome::Done(change.tag().into()))
    }

    async fn create_type(&mut self, name: &Name, labels: &[String], text: &str) -> Result<()> {
        let mut relation = Relation { kind: RelationKind::Type, ..self.new_relation(name, text)? };
        if self.core.catalog().find(&relation.schema_name, &relation.name).is_some() {
            return Err(Error::new("42710", format!("type \"{}\" already exists", relation.name)));
        }
        let mut of = EnumType {
            id: 0,
            array: self.core.store.next_id()?,
            schema: relation.schema_name.clone(),
            name: relation.name.clone(),
            stamp: self.core.clock_us(),
            labels: Vec::new(),
        };
        for label in labels {
            if of.rank(label).is_some() {
                let message = "duplicate key value violates unique constraint \"pg_enum_typid_label_index\"";
                return Err(Error::new("23505", message).detail(format!("Key (enumlabel)=({label}) already exists.")));
            }
            of.add(self.core.store.next_id()?, label, None)?;
        }
        of.put_into(&mut relation);
        self.create(relation, false, false).await.map(|_| ())
    }

    fn enum_found(&self, name: &Name) -> Result<EnumType> {
        let missing = || Error::undefined_object(format!("type \"{name}\" does not exist"));
        let found = self.existing(name).ok_or_else(missing)?;
        EnumType::of(&found).ok_or_else(|| Error::new("42809", format!("{name} is not an enum")))
    }

    async fn add_value(
        &mut self,
        name: &Name,
        label: &str,
        if_not_exists: bool,
        beside: Option<(String, bool)>,
    ) -> Result<()> {
        let of = self.enum_found(name)?;
        if of.rank(label).is_some() && if_not_exists {
            self.notice("NOTICE", "42710", format!("enum label \"{label}\" already exists, skipping"));
            return Ok(());
        }
        let (id, label) = (self.core.store.next_id()?, label.to_string());
        self.edit(move |catalog| {
            let (mut relation, mut of) = current(catalog, of.id, &of.name)?;
            if of.rank(&label).is_some() {
                return Err(Error::new("42710", format!("enum label \"{label}\" already exists")));
            }
            of.add(id, &label, beside.as_ref().map(|(other, before)| (other.as_str(), *before)))?;
            of.put_into(&mut relation);
            Ok(vec![CatalogChange::Put(Box::new(relation))])
        })
        .await
    }

    /// The canonical spelling of a type in a definition.
    pub(super) fn type_found(&self, sql_type: &str) -> Result<String> {
        let scope = self.scope();
        enums::resolved(sql_type, &|schema, name| scope.find(schema, name))
    }

    /// A definition whose columns' types are canonical.
    pub(super) fn with_types_found(&self, mut definition: CreateRelation) -> Result<CreateRelation> {
        for column in &mut definition.columns {
            column.sql_type = self.type_found(&column.sql_type)?;
        }
        Ok(definition)
    }
}

/// The type as it is where all changes pass.
fn current(catalog: &Catalog, id: RelationId, name: &str) -> Result<(Relation, EnumType)> {
    let missing = || Error::undefined_object(format!("type \"{name}\" does not exist"));
    let relation = catalog.get(id).ok_or_else(missing)?;
    let of = EnumType::of(relation).ok_or_else(missing)?;
    Ok(((**relation).clone(), of))
}

/// Relations with columns of a type, and those whose queries name it; none where the relation is no type.
pub(super) fn users<'a>(catalog: &'a Catalog, of: &Relation) -> Vec<&'a Arc<Relation>> {
    let Some(of) = EnumType::of(of) else { return Vec::new() };
    let canonical = of.canonical();
    let uses = |relation: &&Arc<Relation>| {
        let column = |sql_type: &str| sql_type.trim_end_matches("[]") == canonical;
        relation.kind != RelationKind::Arrangement
            && (relation.columns.iter().any(|c| column(&c.sql_type)) || names(relation, &of))
    };
    catalog.relations.values().filter(uses).collect()
}

/// Whether its query casts to the type, or what else is kept of it as text may.
fn names(relation: &Relation, of: &EnumType) -> bool {
    let query = relation.query.as_deref().and_then(|text| crate::sql::parse::query(text).ok());
    let columns = relation.columns.iter().flat_map(|column| [&column.default, &column.generated]).flatten();
    let mut texts = columns.chain(relation.checks.iter().map(|check| &check.expression));
    query.is_some_and(|query| enums::is_named(&query, of)) || texts.any(|text| names_in_expression(text, of))
}

fn names_in_expression(text: &str, of: &EnumType) -> bool {
    crate::sql::parse::query(&format!("SELECT {text}")).is_ok_and(|query| enums::is_named(&query, of))
}

/// A type goes with the views that use it, but not with the columns of tables: 0A000.
pub(super) fn refuse_to_drop_with(gone: Option<&Arc<Relation>>, user: &Relation) -> Result<()> {
    let of_type = gone.filter(|gone| gone.kind == RelationKind::Type);
    match (of_type, user.kind) {
        (Some(gone), RelationKind::Table | RelationKind::Stream) => {
            let what = format!("DROP TYPE … CASCADE while {} {} uses {}", user.kind.word(), user.name, gone.name);
            Err(Error::unsupported(what).hint("Drop the table's columns of the type, or give them another one, first."))
        }
        _ => Ok(()),
    }
}

/// Queries that are kept name a type as it was called when they were made.
pub(super) fn check_renamed(catalog: &Catalog, renamed: &Relation) -> Result<()> {
    let Some(of) = EnumType::of(renamed) else { return Ok(()) };
    match catalog.relations.values().find(|relation| names(relation, &of)) {
        None => Ok(()),
        Some(user) => {
            let message = format!("cannot rename type {} because {} {} names it", of.name, user.kind.word(), user.name);
            Err(Error::new("2BP01", message))
        }
    }
}
