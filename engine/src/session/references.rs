//! FOREIGN KEY as it is declared, and what becomes of it when tables are altered and dropped. It is checked where all commits
//! pass (`commit/references.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Session;
use super::alter::Draft;
use super::constraints::{free, key_columns};
use super::definition::shown;
use crate::catalog::{Catalog, ForeignKey, OnReferenced, ReferenceTiming, Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::sql::statement::ForeignKeyDefinition;
use crate::sql::types::plain_type;
use crate::state::store::CatalogChange;

impl Session {
    /// A foreign key of `relation`, which may not be in the catalog yet: then its own id is 0.
    pub(super) fn foreign_key(
        &self,
        relation: &Relation,
        name: Option<&str>,
        definition: &ForeignKeyDefinition,
    ) -> Result<ForeignKey> {
        let to = &definition.table;
        let found = self.existing(to);
        let itself = match &found {
            Some(found) => found.id == relation.id,
            None => to.name == relation.name && to.schema.as_ref().is_none_or(|s| *s == relation.schema_name),
        };
        let other = match (&found, itself) {
            (_, true) => relation,
            (Some(found), false) => found.as_ref(),
            (None, false) => return Err(Error::undefined_relation(to)),
        };
        if other.kind != RelationKind::Table {
            return Err(Error::new("42809", format!("referenced relation \"{}\" is not a table", other.name)));
        }
        for table in [relation, other] {
            if super::temporary::is_temporary(&table.schema_name) {
                return Err(Error::unsupported("a foreign key of, or to, a temporary table"));
            }
        }
        if other.options.contains_key(crate::ttl::TTL) {
            let hint = "Its rows would go while others refer to them.";
            return Err(Error::unsupported("a foreign key to a table with a ttl").hint(hint));
        }
        let catalog = self.core.catalog();
        let takes_late = |r: &&Arc<Relation>| {
            let late = r.watermark.as_ref().map(|watermark| watermark.late);
            late == Some(crate::catalog::LateRows::Into(relation.id))
        };
        if let Some(stream) = catalog.relations.values().find(takes_late) {
            let what = format!("a foreign key of a table that takes the late rows of stream \"{}\"", stream.name);
            return Err(Error::unsupported(what));
        }
        let columns =
            key_columns(relation, &definition.columns).map_err(|e| in_foreign_key(e, &definition.columns, relation))?;
        let referenced = match &definition.referenced[..] {
            [] if other.primary_key.is_empty() => {
                let message = format!("there is no primary key for referenced table \"{}\"", other.name);
                return Err(Error::undefined_object(message));
            }
            [] => other.primary_key.clone(),
            named => key_columns(other, named).map_err(|e| in_foreign_key(e, named, other))?,
        };
        let invalid = |message: String| Err(Error::new("42830", message));
        if columns.len() != referenced.len() {
            return invalid("number of referencing and referenced columns for foreign key disagree".into());
        }
        if other.unique_key_over(&referenced).is_none() {
            let table = &other.name;
            return invalid(format!(
                "there is no unique constraint matching given keys for referenced table \"{table}\""
            ));
        }
        let named: Vec<&str> = definition.columns.iter().map(String::as_str).collect();
        let name = match name {
            Some(name) => name.to_string(),
            None => {
                let plain = crate::catalog::made_name(&relation.name, Some(&named.join("_")), "fkey");
                free(plain, |name| relation.has_constraint(name))
            }
        };
        for (&own, &theirs) in columns.iter().zip(&referenced) {
            let (own, theirs) = (&relation.columns[own], &other.columns[theirs]);
            if !comparable(&own.sql_type, &theirs.sql_type) {
                let detail = format!(
                    "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                    own.name, theirs.name, own.sql_type, theirs.sql_type
                );
                let message = format!("foreign key constraint \"{name}\" cannot be implemented");
                return Err(Error::new("42804", message).detail(detail));
            }
        }
        let sets = |action: OnReferenced| matches!(action, OnReferenced::SetNull | OnReferenced::SetDefault);
        let generated = columns.iter().any(|&column| relation.columns[column].generated.is_some());
        if generated && (sets(definition.on_delete) || definition.on_update.is_action()) {
            let message =
                "invalid ON UPDATE or ON DELETE action for foreign key constraint containing generated column";
            return Err(Error::syntax(message));
        }
        Ok(ForeignKey {
            id: self.core.store.next_id()?,
            name,
            columns,
            references: if itself { relation.id } else { other.id },
            referenced,
            on_delete: definition.on_delete,
            on_update: definition.on_update,
            timing: definition.timing,
        })
    }

    /// A column that is in a foreign key, on either side, keeps its type.
    pub(super) fn refuse_type_of_key(&self, draft: &Draft, at: usize) -> Result<()> {
        let relation = &draft.relation;
        let own = relation.foreign_keys.iter().find(|key| key.columns.contains(&at));
        let catalog = self.core.catalog();
        let was = draft.came_from()[at];
        let others = catalog.referring(relation.id).map(|(_, key)| key);
        let mut others = others.filter(|key| was.is_some_and(|was| key.referenced.contains(&was)));
        match own.or_else(|| others.next()) {
            None => Ok(()),
            Some(key) => {
                let name = &relation.columns[at].name;
                let what = format!("changing the type of column \"{name}\", which is in foreign key \"{}\"", key.name);
                Err(Error::unsupported(what).hint("Drop the foreign key first, and add it again afterwards."))
            }
        }
    }
}

/// Values of both may be keys of one another.
fn comparable(own: &str, theirs: &str) -> bool {
    let family = |sql_type: &str| match plain_type(sql_type).as_str() {
        "smallint" | "integer" | "bigint" => "whole numbers".to_string(),
        "text" | "character varying" => "texts".into(),
        _ => sql_type.to_string(),
    };
    family(own) == family(theirs)
}

fn in_foreign_key(error: Error, named: &[String], relation: &Relation) -> Error {
    match error.code {
        "42703" => {
            let missing = named.iter().find(|name| relation.columns.iter().all(|c| c.name != **name));
            let name = missing.map_or("?", String::as_str);
            Error::new("42703", format!("column \"{name}\" referenced in foreign key constraint does not exist"))
        }
        _ => error,
    }
}

/// `CONSTRAINT f FOREIGN KEY (a) REFERENCES t(b) ON DELETE CASCADE`
pub(super) fn spelled(relation: &Relation, key: &ForeignKey, catalog: &Catalog) -> Option<String> {
    let other = if key.references == relation.id { relation } else { catalog.get(key.references)? };
    let list = |of: &Relation, columns: &[usize]| {
        let names = columns.iter().map(|&column| shown(&of.columns[column].name));
        names.collect::<Vec<_>>().join(", ")
    };
    let schema = if other.schema_name == "public" { String::new() } else { format!("{}.", shown(&other.schema_name)) };
    let mut text = format!(
        "CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {schema}{}({})",
        shown(&key.name),
        list(relation, &key.columns),
        shown(&other.name),
        list(other, &key.referenced)
    );
    for (event, action) in [("UPDATE", key.on_update), ("DELETE", key.on_delete)] {
        if action != OnReferenced::NoAction {
            text.push_str(&format!(" ON {event} {}", action.words()));
        }
    }
    text.push_str(match key.timing {
        ReferenceTiming::Immediate => "",
        ReferenceTiming::Deferrable => " DEFERRABLE",
        ReferenceTiming::Deferred => " DEFERRABLE INITIALLY DEFERRED",
    });
    Some(text)
}

/// The foreign keys to relations that go, of tables that stay.
pub(super) fn left_without(catalog: &Catalog, gone: &[RelationId]) -> Vec<(Relation, ForeignKey)> {
    let stay = catalog.relations.values().filter(|relation| !gone.contains(&relation.id));
    let keys = stay.flat_map(|relation| relation.foreign_keys.iter().map(move |key| (relation, key)));
    let left = keys.filter(|(_, key)| gone.contains(&key.references));
    left.map(|(relation, key)| ((**relation).clone(), key.clone())).collect()
}

/// A table gets another id, and its columns other places: the foreign keys to it follow. `came_from`: for each of the new
/// table's columns the one of the old that it was. Its own foreign keys to itself name the new columns already.
pub(super) fn following(
    catalog: &Catalog,
    old: &Relation,
    new: &mut Relation,
    came_from: &[Option<usize>],
) -> Result<Vec<CatalogChange>> {
    let own = new.foreign_keys.iter_mut().filter(|key| key.references == old.id);
    own.for_each(|key| key.references = new.id);
    let mut changed: BTreeMap<RelationId, Relation> = BTreeMap::new();
    for (relation, key) in catalog.referring(old.id).filter(|(relation, _)| relation.id != old.id) {
        let now = |column: &usize| came_from.iter().position(|from| *from == Some(*column));
        let Some(referenced) = key.referenced.iter().map(now).collect::<Option<Vec<_>>>() else {
            let message = format!("cannot drop a column of table {} because other objects depend on it", old.name);
            let detail = format!("constraint {} on table {} depends on it", key.name, relation.name);
            return Err(Error::new("2BP01", message).detail(detail).hint("Drop the foreign key first."));
        };
        let changed = changed.entry(relation.id).or_insert_with(|| (**relation).clone());
        let key = changed.foreign_keys.iter_mut().find(|other| other.id == key.id).expect("a copy of it");
        (key.references, key.referenced) = (new.id, referenced);
    }
    Ok(changed.into_values().map(|relation| CatalogChange::Put(Box::new(relation))).collect())
}
