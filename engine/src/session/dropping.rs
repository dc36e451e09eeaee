//! DROP, of relations and schemas: with CASCADE all that depends on them goes too, in one epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Session;
use crate::catalog::{LateRows, Relation, RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::sql::statement::Name;
use crate::state::store::CatalogChange;

impl Session {
    pub(super) async fn drop_relations(
        &mut self,
        kind: RelationKind,
        names: &[Name],
        if_exists: bool,
        cascade: bool,
    ) -> Result<()> {
        let mut targets: Vec<Arc<Relation>> = Vec::new();
        for name in names {
            match self.existing(name) {
                None if kind == RelationKind::Sequence && self.sequence_found(name).is_ok() => {
                    let (relation, at) = self.sequence_found(name)?;
                    let (column, table) = (&relation.columns[at].name, &relation.name);
                    let message = format!(
                        "cannot drop sequence {} because column {column} of {} {table} requires it",
                        name.name,
                        relation.kind.word()
                    );
                    let hint = format!("You can drop column {column} of {} {table} instead.", relation.kind.word());
                    return Err(Error::new("2BP01", message).hint(hint));
                }
                None if if_exists => {
                    self.notice("NOTICE", "00000", format!("{} \"{name}\" does not exist, skipping", kind.word()));
                }
                None => {
                    let code = if kind == RelationKind::Type { "42704" } else { "42P01" };
                    return Err(Error::new(code, format!("{} \"{name}\" does not exist", kind.word())));
                }
                Some(found) if found.kind != kind => {
                    return Err(Error::new("42809", format!("\"{}\" is not a {}", found.name, kind.word()))
                        .hint(format!("Use DROP {} to remove it.", found.kind.word().to_uppercase())));
                }
                Some(found) => targets.push(found),
            }
        }
        if targets.is_empty() {
            return Ok(());
        }
        self.drop_all(targets.iter().map(|t| t.id).collect(), vec![], cascade).await
    }

    /// Drops relations and schemas with all that is in them and, with `cascade`, whatever depends on them: one epoch.
    async fn drop_all(&mut self, wanted: Vec<RelationId>, schemas: Vec<String>, cascade: bool) -> Result<()> {
        let core = self.core.clone();
        let (tell, told) = std::sync::mpsc::channel();
        self.edit(move |catalog| {
            let mut gone: Vec<RelationId> = wanted.clone();
            let inside = catalog.relations.values().filter(|r| schemas.contains(&r.schema_name));
            gone.extend(inside.map(|r| r.id));
            if let (Some(schema), true, false) = (schemas.first(), gone.len() > wanted.len(), cascade) {
                let full = catalog.relations.values().find(|r| schemas.contains(&r.schema_name));
                let schema = full.map_or(schema, |r| &r.schema_name);
                return Err(Error::new(
                    "2BP01",
                    format!("cannot drop schema {schema} because other objects depend on it"),
                )
                .hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            // What goes along without a word, as a part of what goes.
            let mut silent: Vec<RelationId> = Vec::new();
            let mut next = 0;
            while next < gone.len() {
                let id = gone[next];
                next += 1;
                let owned = catalog.owned_sequences(id).map(|sequence| sequence.id);
                let owned: Vec<RelationId> = owned.filter(|id| !gone.contains(id)).collect();
                silent.extend(&owned);
                gone.extend(owned);
                let users = catalog.get(id).map(|gone| super::types::users(catalog, gone)).unwrap_or_default();
                for dependant in catalog.dependants(id).chain(users) {
                    if gone.contains(&dependant.id) {
                        continue;
                    }
                    if !cascade {
                        let name = catalog.get(id).map_or("?", |r| r.name.as_str());
                        let word = catalog.get(id).map_or("relation", |r| r.kind.word());
                        return Err(Error::new(
                            "2BP01",
                            format!("cannot drop {word} {name} because other objects depend on it"),
                        )
                        .detail(format!("{} {} depends on {word} {name}", dependant.kind.word(), dependant.name))
                        .hint("Use DROP ... CASCADE to drop the dependent objects too."));
                    }
                    super::types::refuse_to_drop_with(catalog.get(id), dependant)?;
                    gone.push(dependant.id);
                }
            }
            let without_default = super::sequence::left_without(catalog, &gone);
            if let (Some((relation, column, sequence)), false) = (without_default.first(), cascade) {
                let message = format!("cannot drop sequence {sequence} because other objects depend on it");
                let word = relation.kind.word();
                let detail = format!(
                    "default value for column {column} of {word} {} depends on sequence {sequence}",
                    relation.name
                );
                return Err(Error::new("2BP01", message)
                    .detail(detail)
                    .hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            let without_key = super::references::left_without(catalog, &gone);
            if let (Some((relation, key)), false) = (without_key.first(), cascade) {
                let name = catalog.get(key.references).map_or("?", |r| r.name.as_str());
                let detail = format!("constraint {} on table {} depends on table {name}", key.name, relation.name);
                let message = format!("cannot drop table {name} because other objects depend on it");
                return Err(Error::new("2BP01", message)
                    .detail(detail)
                    .hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            for (_, reads) in core.creating.lock().expect("no panic while held").iter() {
                if reads.iter().any(|id| gone.contains(id)) {
                    return Err(Error::new("55006", "a materialized view that reads it is being created"));
                }
            }
            // Dependants first.
            gone.retain(|id| catalog.get(*id).is_some());
            let names = gone.iter().filter_map(|id| catalog.get(*id)).cloned().collect::<Vec<_>>();
            gone.reverse();
            // With the log of their late rows.
            let late = names.iter().filter_map(|r| match r.watermark.as_ref()?.late {
                LateRows::Keep(id) => Some(id),
                _ => None,
            });
            let mut changes: Vec<CatalogChange> = gone.into_iter().chain(late).map(CatalogChange::Drop).collect();
            let sequences = names.iter().flat_map(|r| r.sequences());
            let forgotten = sequences.map(|s| {
                core.sequences.forget(s.id);
                CatalogChange::Meta { key: crate::sequences::setting(s.id), value: None }
            });
            changes.extend(forgotten);
            changes.extend(schemas.into_iter().map(|name| CatalogChange::DropSchema { name }));
            // One of them may have lost both.
            let mut left: BTreeMap<RelationId, Relation> =
                without_default.into_iter().map(|(relation, ..)| (relation.id, relation)).collect();
            for (relation, key) in &without_key {
                let left = left.entry(relation.id).or_insert_with(|| relation.clone());
                left.foreign_keys.retain(|other| other.id != key.id);
            }
            changes.extend(left.into_values().map(|relation| CatalogChange::Put(Box::new(relation))));
            let asked: Vec<RelationId> = wanted.iter().chain(&silent).copied().collect();
            let _ = tell.send((names, asked));
            Ok(changes)
        })
        .await?;
        if let Ok((dropped, asked)) = told.try_recv() {
            for relation in &dropped {
                self.engine.sources().stop_one(relation.id);
            }
            let also = dropped.iter().filter(|r| !asked.contains(&r.id));
            let also: Vec<String> = also.map(|r| format!("{} {}", r.kind.word(), r.name)).collect();
            match &also[..] {
                [] => {}
                [one] => self.notice("NOTICE", "00000", format!("drop cascades to {one}")),
                many => self.notice("NOTICE", "00000", format!("drop cascades to {} other objects", many.len())),
            }
        }
        Ok(())
    }

    pub(super) async fn drop_schemas(&mut self, names: &[String], if_exists: bool, cascade: bool) -> Result<()> {
        let catalog = self.core.catalog();
        let mut wanted: Vec<String> = Vec::new();
        for name in names {
            if catalog.schemas.contains_key(name) {
                if !wanted.contains(name) {
                    wanted.push(name.clone());
                }
            } else if if_exists {
                self.notice("NOTICE", "00000", format!("schema \"{name}\" does not exist, skipping"));
            } else {
                return Err(Error::new("3F000", format!("schema \"{name}\" does not exist")));
            }
        }
        if wanted.is_empty() { Ok(()) } else { self.drop_all(vec![], wanted, cascade).await }
    }
}
